"""Checks that are recalled: the fast steps are the slow ones, and whatever changes is seen."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

import radam
from radam.kernels import settled
from radam.kernels.settled import Settled
from radam.kernels.work import Work
from tests.core.helpers import numbers, params_of, run, set_gradients

STEPS = 9


def made(dtype: torch.dtype = torch.float64, **options: Any) -> radam.RAdam:
    """Small, large and scalar parameters; adaptive from the sixth step on."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, 3), (2,), (), (2**15 + 3,))
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]
    return radam.RAdam(params, **{"lr": 0.1, "betas": (0.9, 0.99), "weight_decay": 0.01, **options})


class Counted:
    """How often the checks of a group were recalled, and how often they were not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hits = self.misses = 0
        own = Settled.recall

        def recall(verdict: Settled, *args: Any) -> Any:
            result = own(verdict, *args)
            self.hits += result is not None
            self.misses += result is None
            return result

        monkeypatch.setattr(Settled, "recall", recall)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torch's guards nothing is recalled."""
    monkeypatch.setattr(settled, "_guards", lambda: None)


def test_this_torch_has_guards_that_tell_apart_what_the_checks_look_at() -> None:
    assert settled.can_be()


def test_guards_that_overlook_something_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind:
        """Sees nothing."""

        def __init__(self, *tensors: Any, **dynamic: Any) -> None:
            pass

        def check(self, *tensors: Any) -> bool:
            return True

    class Gone:
        """Another signature."""

    for other in (Blind, Gone):
        monkeypatch.setattr(torch._C._dynamo.guards, "TensorGuards", other)
        assert settled._guards.__wrapped__() is None
        monkeypatch.undo()
    assert settled._guards.__wrapped__() is not None


@pytest.mark.parametrize("switches", [{}, {"foreach": True}, {"amsgrad": True}, {"maximize": True}], ids=str)
def test_steps_are_the_same_bits_with_and_without(switches: dict[str, Any], counted: Counted) -> None:
    recalled = made(**switches)
    run(recalled, STEPS)
    assert (counted.hits, counted.misses) == (STEPS - 1, 0)
    with pytest.MonkeyPatch().context() as context:
        never(context)
        checked = made(**switches)
        run(checked, STEPS)
    assert counted.hits == STEPS - 1
    for one, other in zip(params_of(recalled), params_of(checked), strict=True):
        assert numbers(one) == numbers(other)
        assert recalled.state[one].keys() == checked.state[other].keys()
        for name, value in recalled.state[one].items():
            seen = checked.state[other][name]
            assert value == seen if name == "step" else torch.equal(value, seen)


Change = Callable[[radam.RAdam], Any]


def transposed(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.t().contiguous().t()


def first(optimizer: radam.RAdam) -> torch.Tensor:
    param: torch.Tensor = optimizer.param_groups[0]["params"][0]
    return param


def set_data(optimizer: radam.RAdam) -> None:
    param = first(optimizer)
    param.data = transposed(param.data)


def set_state(name: str, value: Callable[[Any], Any]) -> Change:
    return lambda optimizer: optimizer.state[first(optimizer)].update(
        {name: value(optimizer.state[first(optimizer)][name])}
    )


def swap_states(optimizer: radam.RAdam) -> None:
    one, other = optimizer.param_groups[0]["params"][:2]
    state = optimizer.state
    state[one], state[other] = (
        {name: value if name == "step" else torch.full_like(own, 0.25) for name, value in state[param].items()}
        for param, own in ((other, one), (one, other))
    )


def move_to_a_new_group(optimizer: radam.RAdam) -> None:
    param = optimizer.param_groups[0]["params"].pop()
    optimizer.add_param_group({"params": [param], "lr": 0.3})


RECALLED, FORGOTTEN, CHECKED_ONCE = "recalled", "forgotten", "checked once"
CHANGES: dict[str, tuple[Change, str]] = {
    "lr": (lambda o: o.param_groups[0].update(lr=0.02), RECALLED),
    "betas": (lambda o: o.param_groups[0].update(betas=(0.5, 0.75)), RECALLED),
    "eps": (lambda o: o.param_groups[0].update(eps=0.1), RECALLED),
    "decay": (lambda o: o.param_groups[0].update(weight_decay=0.5), RECALLED),
    "maximize": (lambda o: o.param_groups[0].update(maximize=True), RECALLED),
    "amsgrad": (lambda o: o.param_groups[0].update(amsgrad=True), CHECKED_ONCE),
    "data of another layout": (set_data, CHECKED_ONCE),
    "m replaced": (set_state("exp_avg", lambda m: m * 2), RECALLED),
    "m in another layout": (set_state("exp_avg", transposed), CHECKED_ONCE),
    "v replaced": (set_state("exp_avg_sq", lambda v: v + 1), RECALLED),
    "step set": (set_state("step", lambda step: step + 20), RECALLED),
    "step a float": (set_state("step", float), CHECKED_ONCE),
    "step a tensor": (set_state("step", torch.tensor), CHECKED_ONCE),
    "states exchanged": (swap_states, RECALLED),
    "state lost": (lambda o: o.state.pop(first(o)), CHECKED_ONCE),
    "all states another dict": (lambda o: setattr(o, "state", {**o.state}), RECALLED),
    "a parameter gone": (lambda o: o.param_groups[0]["params"].pop(1), CHECKED_ONCE),
    "another order": (lambda o: o.param_groups[0]["params"].reverse(), CHECKED_ONCE),
    "another group": (move_to_a_new_group, CHECKED_ONCE),
    "state loaded": (lambda o: o.load_state_dict(copy.deepcopy(o.state_dict())), FORGOTTEN),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("at", [3, 7])
def test_what_changes_is_seen(name: str, at: int, counted: Counted) -> None:
    """In a momentum and in an adaptive step."""
    change, what = CHANGES[name]

    def live() -> radam.RAdam:
        optimizer = made()
        run(optimizer, at)
        change(optimizer)
        run(optimizer, STEPS, at)
        return optimizer

    recalled = live()
    if what == RECALLED:
        assert (counted.hits, counted.misses) == (at - 1 + STEPS, 0)
    elif what == FORGOTTEN:
        assert (counted.hits, counted.misses) == (at - 1 + STEPS - 1, 0)
    else:
        assert counted.misses == 1
        assert counted.hits >= at - 1 + STEPS - 1
    with pytest.MonkeyPatch().context() as context:
        never(context)
        checked = live()
    for one, other in zip(params_of(recalled), params_of(checked), strict=True):
        assert numbers(one) == numbers(other)
        assert recalled.state[one]["step"] == checked.state[other]["step"]


@pytest.mark.parametrize("value", ["amsgrad", "fused"])
def test_a_value_that_is_equal_but_of_another_type_is_refused(value: str) -> None:
    """0 == False, but it is no flag."""
    optimizer = made(fused=True)
    run(optimizer, 3)
    optimizer.param_groups[0][value] = int(optimizer.param_groups[0][value])
    with pytest.raises((TypeError, ValueError), match=value):
        run(optimizer, 1)


@pytest.mark.parametrize(
    "gradient",
    [
        lambda p: torch.ones_like(p).to_sparse(),
        lambda p: torch.ones(4, 4, dtype=p.dtype),
        lambda p: torch.ones(1, dtype=p.dtype).expand(3, 3),
        lambda p: transposed(torch.arange(9.0, dtype=p.dtype).reshape(3, 3)),
        lambda p: torch.ones_like(p, dtype=torch.float32),
        lambda p: torch._neg_view(torch.ones_like(p)),
        lambda p: None,
    ],
    ids=["sparse", "another shape", "expanded", "transposed", "another dtype", "a negative view", "none"],
)
@pytest.mark.parametrize("at", [3, 7])
def test_gradients_of_another_kind(gradient: Callable[[torch.Tensor], Any], at: int) -> None:
    """Refused or stepped as if each step checked everything, with the same outcome."""

    def outcome() -> list[Any]:
        optimizer = made()
        run(optimizer, at)
        set_gradients(params_of(optimizer), at)
        param = first(optimizer)
        given = gradient(param)
        if given is not None and given.dtype != param.dtype:
            param.grad_dtype = None
        try:
            # What does not fit a parameter is put there as a training loop could not.
            if given is not None and given.shape != param.shape:
                param.data = param.data.reshape(9)[:4].reshape(2, 2)
            param.grad = given if given is None or given.shape == param.shape else torch.ones_like(param)
            optimizer.step()
        except (RuntimeError, ValueError) as error:
            return [type(error), str(error)]
        return [numbers(p) for p in params_of(optimizer)]

    seen = outcome()
    with pytest.MonkeyPatch().context() as context:
        never(context)
        assert seen == outcome()


def test_an_error_in_one_group_leaves_the_recalled_ones_alone() -> None:
    optimizer = made()
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
    run(optimizer, 3)
    before = [numbers(p) for p in params_of(optimizer)], [dict(s) for s in optimizer.state.values()]
    set_gradients(params_of(optimizer), 3)
    optimizer.param_groups[1]["params"][0].grad = torch.ones(2).to_sparse()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
    assert [numbers(p) for p in params_of(optimizer)] == before[0]
    assert [s["step"] for s in optimizer.state.values()] == [s["step"] for s in before[1]]


def test_the_group_of_a_verdict_may_be_another(counted: Counted) -> None:
    """Groups that change places are checked again, or are alike."""

    def live() -> radam.RAdam:
        optimizer = made()
        other = [torch.nn.Parameter(torch.ones(5, dtype=torch.float32))]
        optimizer.add_param_group({"params": other, "lr": 0.5, "eps": 0.5})
        run(optimizer, 4)
        optimizer.param_groups.reverse()
        run(optimizer, 4, 4)
        return optimizer

    recalled = live()
    with pytest.MonkeyPatch().context() as context:
        never(context)
        checked = live()
    assert [numbers(p) for p in params_of(recalled)] == [numbers(p) for p in params_of(checked)]


@pytest.mark.parametrize(
    "through", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"]
)
def test_a_copy_checks_for_itself(through: Callable[[Any], Any]) -> None:
    optimizer = made()
    run(optimizer, 7)
    other = through(optimizer)
    assert other._settled == {}
    assert other._known == {}
    run(optimizer, 3, 7)
    run(other, 3, 7)
    assert [numbers(p) for p in params_of(optimizer)] == [numbers(p) for p in params_of(other)]


def test_neither_gradients_nor_parameters_are_kept_alive() -> None:
    import gc
    import weakref

    optimizer = made()
    run(optimizer, 3)
    gone = [weakref.ref(first(optimizer)), weakref.ref(first(optimizer).grad)]
    first(optimizer).grad = None
    del optimizer.state[first(optimizer)], optimizer.param_groups[0]["params"][0]
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_complex_parameters_and_views_of_negatives_are_checked_each_time(counted: Counted) -> None:
    negative = torch.nn.Parameter(torch._neg_view(torch.ones(2)))
    for param in (torch.nn.Parameter(torch.ones(2, dtype=torch.complex64)), negative):
        optimizer = radam.RAdam([param, torch.nn.Parameter(torch.ones(3))])
        run(optimizer, 3)
        assert optimizer._settled == {0: None}
    assert counted.hits == 0


@pytest.mark.parametrize("switches", [{}, {"foreach": True}, {"amsgrad": True}], ids=str)
def test_what_goes_through_copies_is_recalled_too(switches: dict[str, Any], counted: Counted) -> None:
    """Half precision, strides, and no elements, beside ordinary parameters and one another."""

    def live() -> radam.RAdam:
        params = [
            torch.nn.Parameter(tensor)
            for tensor in (
                torch.linspace(-1, 1, 7).bfloat16(),
                torch.linspace(-1, 1, 6)[::2],
                torch.ones(0),
                torch.linspace(1, 2, 4),
                torch.linspace(-2, 1, 9, dtype=torch.float16).reshape(3, 3).t(),
            )
        ]
        optimizer = radam.RAdam(params, lr=0.1, betas=(0.9, 0.99), **switches)
        run(optimizer, STEPS)
        return optimizer

    recalled = live()
    assert (counted.hits, counted.misses) == (STEPS - 1, 0)
    with pytest.MonkeyPatch().context() as context:
        never(context)
        checked = live()
    assert [numbers(p) for p in params_of(recalled)] == [numbers(p) for p in params_of(checked)]


def test_one_gradient_for_two_parameters(counted: Counted) -> None:
    """torch's guards take each tensor once; then everything is checked."""
    params = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    gradient = torch.tensor([1.0, -2.0, 0.5])
    optimizer = radam.RAdam(params, lr=0.1)
    for _ in range(8):
        for param in params:
            param.grad = gradient
        optimizer.step()
    assert counted.hits == 0
    assert torch.equal(*params)


def test_recalled_lists_are_those_of_each_kernel_and_age() -> None:
    keys = [settled.Key("fused", torch.device("cpu"), torch.float32, True, small) for small in (True, False, True)]
    tensors = settled.Columns(*([torch.full((), float(10 * row + i)) for i in range(3)] for row in range(4)))
    recalled = settled.Recalled([{}] * 3, [1] * 3, tensors, {keys[0]: [0, 2], keys[1]: [1]})

    def values(among: Any) -> dict[bool, list[float]]:
        return {key.small: [float(t) for t in itertools.chain(*lists)] for key, lists in recalled.lists(among).items()}

    assert values(None) == {True: [0, 2, 10, 12, 20, 22, 30, 32], False: [1, 11, 21, 31]}
    assert values({1, 2}) == {True: [2, 12, 22, 32], False: [1, 11, 21, 31]}
    assert values({0}) == {True: [0, 10, 20, 30]}
    recalled = recalled._replace(places={keys[0]: [0, 1, 2]})
    assert values({1}) == {True: [1, 11, 21, 31]}
    # All that there are go as they are.
    assert recalled.lists(None)[keys[0]] is tensors


def verdict(params: list[torch.nn.Parameter], circumstances: object = 1) -> tuple[Settled, dict[Any, dict[str, Any]]]:
    """On parameters that have a gradient, and their states."""
    states: dict[Any, dict[str, Any]] = {
        param: {"step": 3, "exp_avg": torch.ones_like(param), "exp_avg_sq": torch.ones_like(param)} for param in params
    }
    works, keys = [], []
    for place, param in enumerate(params):
        assert param.grad is not None
        works.append(Work(param, param.grad, states[param]["exp_avg"], states[param]["exp_avg_sq"], None, place))
        keys.append(settled.Key("fused", param.device, param.dtype, True, True))
    return Settled(works, keys, amsgrad=False, circumstances=circumstances), states


def with_gradients(number: int) -> list[torch.nn.Parameter]:
    params = [torch.nn.Parameter(torch.ones(3)) for _ in range(number)]
    for param in params:
        param.grad = torch.ones(3)
    return params


@pytest.mark.parametrize("circumstances", [0, 1, 2])
def test_a_verdict_is_of_its_circumstances(circumstances: int) -> None:
    settled_, states = verdict(params := with_gradients(2))
    assert (settled_.recall(params, states, circumstances) is not None) == (circumstances == 1)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_parameters_without_a_gradient_are_passed_over(place: int) -> None:
    settled_, states = verdict(params := with_gradients(2))
    params.insert(place, torch.nn.Parameter(torch.ones(3)))
    recalled = settled_.recall(params, states, 1)
    assert recalled is not None
    assert all(a is b for a, b in zip(recalled.tensors.params, states, strict=True))
    params[place].grad = torch.ones(3)
    assert settled_.recall(params, states, 1) is None
    params[place].grad = params[place - 1].grad = None
    assert settled_.recall(params, states, 1) is None


@pytest.mark.parametrize(
    ("step", "recalled"),
    [(0, True), (7, True), (-1, False), (3.0, False), (True, False), (torch.tensor(3.0), False), (None, False)],
    ids=str,
)
@pytest.mark.parametrize("both", [True, False])
def test_step_counts_that_are_recalled(step: Any, recalled: bool, both: bool) -> None:
    """Integers that may be counted on."""
    settled_, states = verdict(params := with_gradients(2))
    for param in params if both else params[1:]:
        states[param]["step"] = step
    assert (settled_.recall(params, states, 1) is not None) == recalled


def test_the_states_of_some_parameters() -> None:
    """Of those only, in their order, and none is made."""
    a, b, c = with_gradients(3)
    states: dict[Any, Any] = {a: {"of": "a"}, b: {"of": "b"}}
    for params in ([a, b], [b, a], [a], [b], [a, b, c], [c, b], []):
        assert settled._states_of(params, states) == [states.get(param) for param in params]
    assert len(states) == 2


def test_the_trial_of_the_guards_has_one_of_each_kind() -> None:
    """Each differs from the tensor in one thing that it says."""
    tensor = torch.ones(2, 3)
    others = settled._unlike(tensor)

    def described(other: torch.Tensor) -> tuple[Any, ...]:
        strides = other.stride() if other.layout is torch.strided else None
        return tuple(other.shape), strides, other.dtype, str(other.device), other.layout, other.is_neg(), type(other)

    usual = ((2, 3), (3, 1), torch.float32, "cpu", torch.strided, False, torch.Tensor)
    expected: list[dict[int, Any]] = [
        {0: (3, 2), 1: (2, 1)},
        {0: (1, 2, 3), 1: (6, 3, 1)},
        {2: torch.float64},
        {2: torch.float16},
        {1: (1, 2)},
        {1: (0, 1)},
        {1: (6, 2)},
        {1: None, 4: torch.sparse_coo},
        {3: "meta"},
        {5: True},
        {6: torch.nn.Parameter},
        {},
    ]
    for other, changes in zip(others, expected, strict=False):
        assert described(other) == tuple(changes.get(i, value) for i, value in enumerate(usual))
    assert [other.requires_grad for other in others[:-2]] == [False] * 10 + [True] * 2
    assert others[12:] == [None, 0.0]


@pytest.mark.parametrize("number", range(14))
@pytest.mark.parametrize("first", [True, False])
def test_guards_that_overlook_one_kind_are_not_used(number: int, first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first place or in the second."""
    own = torch._C._dynamo.guards.TensorGuards
    others: list[Any] = []

    class Overlooks:
        def __init__(self, *tensors: Any, **dynamic: Any) -> None:
            self.usual = own(*tensors, **dynamic)

        def check(self, *tensors: Any) -> bool:
            return bool(self.usual.check(*tensors)) or tensors[not first] is others[number]

    def unlike(tensor: torch.Tensor) -> list[Any]:
        others[:] = own_unlike(tensor)
        return others

    own_unlike = settled._unlike
    monkeypatch.setattr(settled, "_unlike", unlike)
    monkeypatch.setattr(torch._C._dynamo.guards, "TensorGuards", Overlooks)
    assert settled._guards.__wrapped__() is None
