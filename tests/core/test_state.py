"""State: what it is, how it is saved and loaded, and that nothing is lost, shared or half done on the way."""

from __future__ import annotations

import copy
import io
import itertools
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import radam
from radam.state import overlaps, whole_number
from tests.core.helpers import OPTIMIZERS, bits, numbers, parameter, params_of, run, seen, set_gradients, snapshot

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64)
HALF = (torch.float16, torch.bfloat16)


def running(cls: Any = radam.RAdam, steps: int = 7, dtypes: Any = DTYPES, **options: Any) -> Any:
    """An optimizer of two groups in mid-run."""
    generator = torch.Generator().manual_seed(3)
    params = [
        torch.nn.Parameter(torch.randn((2, i + 1), generator=generator, dtype=torch.float64).to(dtype))
        for i, dtype in enumerate(dtypes)
    ]
    optimizer = cls([{"params": params[:2]}, {"params": params[2:], "lr": 0.25}], **{"amsgrad": True, **options})
    run(optimizer, steps)
    return optimizer


def moments(optimizer: Any) -> list[tuple[int, str, bytes]]:
    """Steps and the bytes of the moments."""
    return [
        (state["step"], name, numbers(state[name]))
        for state in (optimizer.state[param] for param in params_of(optimizer))
        for name in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
        if name in state
    ]


def through_a_file(state_dict: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(state_dict, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def fresh(optimizer: Any, **options: Any) -> Any:
    """Another optimizer over copies of the same parameters."""
    groups = [
        {"params": [torch.nn.Parameter(param.detach().clone()) for param in group["params"]]}
        for group in optimizer.param_groups
    ]
    return type(optimizer)(groups, **options)


def assert_the_same_steps(a: Any, b: Any, steps: int = 5) -> None:
    for seed in range(steps):
        set_gradients(params_of(a), seed)
        set_gradients(params_of(b), seed)
        a.step()
        b.step()
        assert [numbers(param) for param in params_of(a)] == [numbers(param) for param in params_of(b)]
        assert moments(a) == moments(b)


# What state is


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.complex64, torch.complex64),
        (torch.complex128, torch.complex128),
    ],
)
def test_state_of_a_parameter(dtype: torch.dtype, expected: torch.dtype) -> None:
    optimizer = running(dtypes=(dtype, dtype))
    for param in params_of(optimizer):
        state = optimizer.state[param]
        assert list(state) == ["step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"]
        assert type(state["step"]) is int
        assert state["step"] == 7
        for name in list(state)[1:]:
            assert state[name].dtype == expected
            assert state[name].shape == param.shape
            assert not state[name].requires_grad


def test_state_is_created_at_the_first_gradient() -> None:
    a, b = parameter(), parameter()
    b.grad = None
    optimizer = radam.RAdam([a, b])
    assert len(optimizer.state) == 0
    optimizer.step()
    assert set(optimizer.state) == {a}
    b.grad = torch.ones(3)
    optimizer.step()
    assert (optimizer.state[a]["step"], optimizer.state[b]["step"]) == (2, 1)
    assert "max_exp_avg_sq" not in optimizer.state[a]


def test_states_are_loaded_past_a_parameter_without_one() -> None:
    a, b = parameter(), parameter()
    a.grad = None
    optimizer = radam.RAdam([a, b])
    optimizer.step()
    other = radam.RAdam([parameter(), parameter()])
    other.load_state_dict(optimizer.state_dict())
    assert list(other.state) == params_of(other)[1:]
    for name, value in optimizer.state[b].items():
        assert torch.equal(torch.as_tensor(other.state[params_of(other)[1]][name]), torch.as_tensor(value)), name


def test_a_half_precision_state_is_loaded_past_a_parameter_without_one() -> None:
    """torch's own loading would round these moments to the parameter's dtype."""
    a, b = parameter(dtype=torch.bfloat16), parameter(dtype=torch.bfloat16)
    a.grad = None
    optimizer = radam.RAdam([a, b])
    b.grad = torch.full_like(b, 0.3)
    optimizer.step()
    other = radam.RAdam([parameter(dtype=torch.bfloat16) for _ in range(2)])
    other.load_state_dict(optimizer.state_dict())
    assert torch.equal(other.state[params_of(other)[1]]["exp_avg"], optimizer.state[b]["exp_avg"])


def test_amsgrad_switched_on_late_starts_from_zeros_and_is_left_alone_while_off() -> None:
    optimizer = running(amsgrad=False, dtypes=(torch.float64, torch.float64))
    param = params_of(optimizer)[0]
    optimizer.param_groups[0]["amsgrad"] = True
    param.grad = torch.zeros_like(param)
    optimizer.step()
    state = optimizer.state[param]
    assert torch.equal(state["max_exp_avg_sq"], state["exp_avg_sq"])
    optimizer.param_groups[0]["amsgrad"] = False
    maximum = bits(state["max_exp_avg_sq"])
    run(optimizer, 2)
    assert bits(state["max_exp_avg_sq"]) == maximum


# Saving and loading


def save_and_load(optimizer: Any) -> Any:
    other = fresh(optimizer)
    other.load_state_dict(through_a_file(optimizer.state_dict()))
    return other


WAYS: dict[str, Callable[[Any], Any]] = {
    "load": save_and_load,
    "deepcopy": copy.deepcopy,
    "pickle": lambda optimizer: pickle.loads(pickle.dumps(optimizer)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("steps", [0, 2, 7])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_next_steps_are_the_same_bit_for_bit(optimizer: Any, steps: int, way: str) -> None:
    options = {"lr": 0.3, "betas": (0.5, 0.75), "weight_decay": radam.WeightDecay(0.1, False), "maximize": True}
    original = running(optimizer, steps, **options)
    other = WAYS[way](original)
    assert moments(other) == moments(original)
    assert_the_same_steps(original, other)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", HALF)
def test_moments_of_half_precision_keep_their_bits(dtype: torch.dtype, way: str) -> None:
    original = running(dtypes=(dtype, dtype))
    exact = [original.state[param]["exp_avg"] for param in params_of(original)]
    assert any(not torch.equal(m, m.to(dtype).float()) for m in exact), "nothing would be lost by a cast"
    other = WAYS[way](original)
    assert moments(other) == moments(original)


def test_a_state_dict_holds_tensors_and_primitives_only() -> None:
    def leaves(value: Any) -> list[Any]:
        if isinstance(value, dict):
            return [leaf for item in value.values() for leaf in leaves(item)]
        if isinstance(value, list | tuple):
            return [leaf for item in value for leaf in leaves(item)]
        return [value]

    saved = running(weight_decay=radam.WeightDecay(0.5), lr=torch.tensor(0.1)).state_dict()
    assert {type(leaf) for leaf in leaves(saved)} <= {torch.Tensor, int, float, bool, str, type(None)}


@pytest.mark.parametrize("scalar", [np.float64(0.125), np.float32(0.125), np.int64(0)])
def test_numpy_scalars_come_out_of_a_state_dict_as_plain_numbers(scalar: Any) -> None:
    optimizer = running()
    group = optimizer.param_groups[0]
    group.update(lr=scalar, eps=scalar, betas=(scalar, scalar), weight_decay=scalar)
    saved = optimizer.state_dict()["param_groups"][0]
    for value in (saved["lr"], saved["eps"], *saved["betas"], saved["weight_decay"]):
        assert type(value) is float
    through_a_file(optimizer.state_dict())


def test_loaded_hyper_parameters_win() -> None:
    saved = running(lr=0.5, betas=(0.1, 0.2), eps=1.0, weight_decay=radam.WeightDecay(0.5, False, True), threshold=4.5)
    other = fresh(saved)
    other.load_state_dict(saved.state_dict())
    for own, loaded in zip(other.param_groups, saved.param_groups, strict=True):
        assert {name: seen(own[name]) for name in own if name != "params"} == {
            name: seen(loaded[name]) for name in loaded if name != "params"
        }


def test_engine_switches_are_the_receivers_own() -> None:
    saved = running(foreach=True).state_dict()
    other = fresh(running(), foreach=False)
    other.load_state_dict(saved)
    assert [group["foreach"] for group in other.param_groups] == [False, False]
    run(other, 1)


def test_missing_options_are_filled_with_the_receivers_own() -> None:
    saved = running(eps=1.0).state_dict()
    for group in saved["param_groups"]:
        del group["threshold"], group["weight_decouple"], group["rectification"], group["foreach"]
    other = fresh(running(), threshold=7.0, weight_decay=radam.WeightDecay(0.1, weight_decouple=False))
    other.param_groups[1]["threshold"] = 9.0
    other.load_state_dict(saved)
    assert [group["threshold"] for group in other.param_groups] == [7.0, 9.0]
    assert [group["eps"] for group in other.param_groups] == [1.0, 1.0]
    assert not any(group["weight_decouple"] for group in other.param_groups)
    run(other, 1)


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("theirs", [torch.optim.RAdam, torch.optim.Adam, torch.optim.AdamW])
def test_state_of_torchs_optimizers_is_taken_over(theirs: Any, amsgrad: bool) -> None:
    """Their steps are tensors."""
    params = [torch.nn.Parameter(torch.randn(3, dtype=torch.float64)) for _ in range(2)]
    more = {"amsgrad": True} if amsgrad and theirs is not torch.optim.RAdam else {}
    their = theirs(params, lr=0.25, eps=1e-3, **more)
    run(their, 9)
    own = radam.RAdam([torch.nn.Parameter(param.detach().clone()) for param in params], amsgrad=amsgrad)
    own.load_state_dict(their.state_dict())
    for param, other in zip(params, params_of(own), strict=True):
        state = own.state[other]
        assert type(state["step"]) is int
        assert state["step"] == 9
        assert torch.equal(state["exp_avg"], their.state[param]["exp_avg"])
        assert torch.equal(state["exp_avg_sq"], their.state[param]["exp_avg_sq"])
    assert own.param_groups[0]["lr"] == 0.25
    run(own, 2)


@pytest.mark.parametrize("step", [5, 5.0, torch.tensor(5), torch.tensor(5.0), torch.tensor([5.0]), np.float64(5)])
def test_steps_of_every_whole_kind_are_accepted(step: Any) -> None:
    optimizer = running()
    saved = optimizer.state_dict()
    saved["state"][0] = {**saved["state"][0], "step": step}
    optimizer.load_state_dict(saved)
    state = optimizer.state[params_of(optimizer)[0]]
    assert type(state["step"]) is int
    assert state["step"] == 5


@pytest.mark.parametrize("saved_in", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_moments_of_another_precision_are_converted(dtype: torch.dtype, saved_in: torch.dtype) -> None:
    optimizer = running(dtypes=(dtype, dtype))
    saved = copy.deepcopy(optimizer.state_dict())
    for state in saved["state"].values():
        for name in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
            state[name] = state[name].to(saved_in)
    optimizer.load_state_dict(saved)
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    for i, param in enumerate(params_of(optimizer)):
        for name in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
            assert optimizer.state[param][name].dtype == expected
            assert torch.equal(optimizer.state[param][name], saved["state"][i][name].to(expected))


def test_moments_lie_in_memory_as_their_parameter_does() -> None:
    values = torch.randn(2, 3, 4, 5)
    last = torch.nn.Parameter(values.contiguous(memory_format=torch.channels_last))
    optimizer = radam.RAdam([last], amsgrad=True)
    run(optimizer, 3)
    plain = radam.RAdam([torch.nn.Parameter(values.clone())], amsgrad=True)
    run(plain, 3)
    for source in (plain, optimizer):
        optimizer.load_state_dict(copy.deepcopy(source.state_dict()))
        for name in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
            assert optimizer.state[last][name].stride() == last.stride()
            assert torch.equal(optimizer.state[last][name], source.state[params_of(source)[0]][name])


def test_names_survive() -> None:
    params = [("weight", parameter()), ("bias", parameter())]
    optimizer = radam.RAdam(params)
    run(optimizer, 2)
    saved = through_a_file(optimizer.state_dict())
    assert saved["param_groups"][0]["param_names"] == ["weight", "bias"]
    other = radam.RAdam([(name, torch.nn.Parameter(param.detach().clone())) for name, param in params])
    other.load_state_dict(saved)
    for instance in (other, copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert instance.param_groups[0]["param_names"] == ["weight", "bias"]


def test_more_values_of_the_users_survive() -> None:
    optimizer = running(defaults={"mine": "kept"})
    state = optimizer.state[params_of(optimizer)[0]]
    state["anchor"] = torch.arange(3.0)
    state["note"] = "kept too"
    other = save_and_load(optimizer)
    loaded = other.state[params_of(other)[0]]
    assert (other.param_groups[0]["mine"], loaded["note"]) == ("kept", "kept too")
    assert torch.equal(loaded["anchor"], torch.arange(3.0))
    assert_the_same_steps(optimizer, other)


# No aliasing


def tensors_in(state_dict: Any) -> list[torch.Tensor]:
    return [value for state in state_dict["state"].values() for value in state.values() if torch.is_tensor(value)]


@pytest.mark.parametrize("extra", [False, True], ids=["own state", "with an entry of the user's"])
def test_no_aliasing_with_the_loaded_dict(extra: bool) -> None:
    source = running()
    saved = copy.deepcopy(source.state_dict())
    if extra:
        for state in saved["state"].values():
            state["mine"] = torch.ones(3)
    loaded = fresh(source)
    loaded.load_state_dict(saved)

    before = [bits(tensor) for tensor in tensors_in(saved)]
    run(loaded, 2)
    for param in params_of(loaded):
        if extra:
            loaded.state[param]["mine"].fill_(5.0)
    assert [bits(tensor) for tensor in tensors_in(saved)] == before

    state = snapshot(loaded)
    for tensor in tensors_in(saved):
        tensor.fill_(7.0)
    for group in saved["param_groups"]:
        group["lr"] = 99.0
    assert snapshot(loaded) == state


def test_the_loaded_dict_is_not_modified() -> None:
    source = running()
    saved = copy.deepcopy(source.state_dict())
    for state in saved["state"].values():
        state["step"] = torch.tensor(float(state["step"]))
    del saved["param_groups"][0]["threshold"]
    before = seen(saved)
    fresh(source).load_state_dict(saved)
    assert seen(saved) == before


# Misfits


def edited(edit: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def make(saved: Any) -> Any:
        result = edit(saved)
        return saved if result is None else result

    return make


def set_entry(name: str, value: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return edited(lambda saved: saved["state"][1].__setitem__(name, value(saved["state"][1][name])))


MISFITS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no state": (edited(lambda saved: {"param_groups": saved["param_groups"]}), "'state'"),
    "no groups": (edited(lambda saved: {"state": saved["state"]}), "'param_groups'"),
    "empty": (edited(lambda saved: {}), "state"),
    "a group less": (edited(lambda saved: saved["param_groups"].pop() and None), "groups.* 2, .*1"),
    "a group more": (edited(lambda saved: saved["param_groups"].append(saved["param_groups"][0])), "groups.* 2, .*3"),
    "a parameter less": (edited(lambda saved: saved["param_groups"][1]["params"].pop() and None), "group 1.*3, .*2"),
    "a parameter more": (edited(lambda saved: saved["param_groups"][0]["params"].append(9)), "group 0.*2, .*3"),
    "no parameters": (
        edited(lambda saved: saved["param_groups"][0].pop("params") and None),
        "group 0.*params|group 0.*2",
    ),
    "another shape": (set_entry("exp_avg", lambda m: m[:1].clone()), "parameter 1 of group 0.*shape.*exp_avg"),
    "another number of elements": (set_entry("exp_avg_sq", lambda m: torch.ones(7)), "exp_avg_sq.*7"),
    "complex for real": (set_entry("exp_avg", lambda m: m.cfloat()), "parameter 1 of group 0.*exp_avg.*complex64"),
    "integers": (set_entry("max_exp_avg_sq", lambda m: m.long()), "max_exp_avg_sq.*int64"),
    "sparse": (set_entry("exp_avg", lambda m: m.to_sparse()), "exp_avg.*dense"),
    "None": (set_entry("exp_avg", lambda m: None), "exp_avg.*None"),
    "a list": (set_entry("exp_avg", lambda m: m.tolist()), r"exp_avg.*\["),
    "a step of a wrong kind": (set_entry("step", lambda t: "7"), "step.*'7'"),
    "half a step": (set_entry("step", lambda t: 7.5), "step.*7.5"),
    "a negative step": (set_entry("step", lambda t: torch.tensor(-7.0)), "step.*-7"),
    "no exp_avg": (edited(lambda saved: saved["state"][1].pop("exp_avg") is None or None), "exp_avg.*missing"),
    "no exp_avg_sq": (edited(lambda saved: saved["state"][1].pop("exp_avg_sq") is None or None), "exp_avg_sq.*missing"),
    "no step": (edited(lambda saved: saved["state"][1].pop("step") is None or None), "step.*missing"),
    "an option out of range": (edited(lambda saved: saved["param_groups"][1].update(lr=-1.0)), "lr.*-1.0.*group 1"),
    "not a dict": (lambda saved: None, "state_dict.*None"),
    "a list of groups": (lambda saved: [saved], "state_dict"),
    "state is None": (edited(lambda saved: {**saved, "state": None}), "state.*None"),
    "groups are None": (edited(lambda saved: {**saved, "param_groups": None}), "param_groups.*None"),
    "a group is a number": (edited(lambda saved: saved["param_groups"].__setitem__(1, 5)), "group 1.*5"),
    "an entry is a number": (edited(lambda saved: saved["state"].__setitem__(1, 5)), "parameter 1 of group 0.*5"),
    "params is a number": (edited(lambda saved: saved["param_groups"][0].update(params=5)), "group 0.*5"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_misfits_are_refused_with_what_does_not_fit(misfit: str) -> None:
    make, message = MISFITS[misfit]
    source, twin = running(), running()
    optimizer, other = fresh(source), fresh(twin)
    run(optimizer, 3, seed=50)
    run(other, 3, seed=50)
    saved = make(copy.deepcopy(source.state_dict()))
    before = snapshot(optimizer)
    with pytest.raises((TypeError, ValueError), match=f"(?s){message}"):
        optimizer.load_state_dict(saved)
    assert snapshot(optimizer) == before
    assert_the_same_steps(optimizer, other, steps=2)


@pytest.mark.parametrize(
    ("step", "number"),
    [
        *((0, 0), (3, 3), (2**60 + 1, 2**60 + 1), (0.0, 0), (4.0, 4), (torch.tensor(0), 0), (torch.tensor([5.0]), 5)),
        *((step, None) for step in (-1, -1.0, 2.5, math.nan, math.inf, True, None, "3", 3j, [3])),
        *((torch.tensor(step), None) for step in ([], [1.0, 2.0], 0.5, -1, True, 1j)),
        (torch.ones((), device="meta"), None),
    ],
    ids=repr,
)
def test_what_is_a_whole_number(step: Any, number: int | None) -> None:
    assert whole_number(step) == number
    assert type(whole_number(step)) is type(number)


@pytest.mark.parametrize("view", [torch.conj, torch._neg_view], ids=["conjugate", "negative"])
def test_a_moment_that_is_a_view_of_another_tensor_is_refused(view: Callable[[torch.Tensor], torch.Tensor]) -> None:
    param = parameter(dtype=torch.complex64)
    optimizer = radam.RAdam([param])
    run(optimizer, 2)
    moment = optimizer.state[param]["exp_avg"]
    optimizer.state[param]["exp_avg"] = view(moment)
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match="'exp_avg' must have its own memory"):
        optimizer.step()
    assert snapshot(optimizer) == before
    optimizer.state[param]["exp_avg"] = moment
    optimizer.step()


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=4))
@example([(2, 1), (2, 3), (2, 2)])
@example([(3, 2), (2, 3)])
@example([(3, 3), (2, 6)])
@example([(0, 1), (3, 0)])
def test_elements_overlap_where_two_lie_in_one_place(lengths_and_strides: list[tuple[int, int]]) -> None:
    shape, strides = [n for n, _ in lengths_and_strides], [stride for _, stride in lengths_and_strides]
    tensor = torch.zeros(64 * 4).as_strided(shape, strides)
    indices = list(itertools.product(*map(range, shape)))
    places = {sum(i * stride for i, stride in zip(index, strides, strict=True)) for index in indices}
    assert overlaps(tensor) == (len(places) < len(indices))


def test_after_a_misfit_the_next_load_is_right() -> None:
    """Nothing of the refused dict is left behind."""
    source = running()
    wrong = copy.deepcopy(source.state_dict())
    wrong["state"][4]["step"] = -1
    other = fresh(source)
    with pytest.raises(ValueError, match="step"):
        other.load_state_dict(wrong)
    run(other, 1)
    copied = copy.deepcopy(other)
    assert moments(copied) == moments(other)
    other.load_state_dict(source.state_dict())
    assert moments(other) == moments(source)


# The user's load hooks


def doubled(optimizer: Any, state_dict: Any) -> Any:
    """A hook that returns a new dict, in which every exp_avg is twice as large."""
    return {
        **state_dict,
        "state": {key: {**state, "exp_avg": 2 * state["exp_avg"]} for key, state in state_dict["state"].items()},
    }


@pytest.mark.parametrize("prepend", [False, True])
@pytest.mark.parametrize("loads", [1, 2])
def test_a_pre_hook_affects_what_is_loaded(prepend: bool, loads: int) -> None:
    source = running()
    other = fresh(source)
    handle = other.register_load_state_dict_pre_hook(doubled, prepend=prepend)
    for _ in range(loads):
        other.load_state_dict(source.state_dict())
        for param, loaded in zip(params_of(source), params_of(other), strict=True):
            assert torch.equal(other.state[loaded]["exp_avg"], 2 * source.state[param]["exp_avg"])
            assert other.state[loaded]["exp_avg"].dtype == source.state[param]["exp_avg"].dtype
    handle.remove()
    other.load_state_dict(source.state_dict())
    assert moments(other) == moments(source)


def test_pre_hooks_see_the_users_dict_in_the_order_of_their_registration() -> None:
    source = running()
    other = fresh(source)
    saved = source.state_dict()
    order: list[str] = []

    def hook(name: str) -> Any:
        def record(optimizer: Any, state_dict: Any) -> None:
            assert optimizer is other
            assert state_dict.keys() == saved.keys()
            order.append(name)

        return record

    other.register_load_state_dict_pre_hook(hook("first"))
    other.register_load_state_dict_pre_hook(hook("second"))
    other.register_load_state_dict_pre_hook(hook("before"), prepend=True)
    other.load_state_dict(saved)
    assert order == ["before", "first", "second"]


def test_a_pre_hook_can_mend_a_misfit() -> None:
    source = running()
    wrong = copy.deepcopy(source.state_dict())
    wrong["state"][0]["step"] = "7"

    def mend(optimizer: Any, state_dict: Any) -> None:
        state_dict["state"][0]["step"] = 7

    other = fresh(source)
    other.register_load_state_dict_pre_hook(mend)
    other.load_state_dict(wrong)
    assert moments(other) == moments(source)


def test_what_a_pre_hook_breaks_is_refused() -> None:
    source = running()

    def spoil(optimizer: Any, state_dict: Any) -> Any:
        return {**state_dict, "param_groups": state_dict["param_groups"][:1]}

    other = fresh(source)
    other.register_load_state_dict_pre_hook(spoil)
    before = snapshot(other)
    with pytest.raises(ValueError, match="groups"):
        other.load_state_dict(source.state_dict())
    assert snapshot(other) == before


@pytest.mark.parametrize("prepend", [False, True])
def test_post_hooks_see_the_final_state(prepend: bool) -> None:
    source = running(dtypes=HALF)
    other = fresh(source)
    seen_by_hook: list[Any] = []
    other.register_load_state_dict_post_hook(lambda optimizer: seen_by_hook.append(moments(optimizer)), prepend=prepend)
    other.load_state_dict(source.state_dict())
    assert seen_by_hook == [moments(source)]
    assert all(other.state[param]["exp_avg"].dtype == torch.float32 for param in params_of(other))


def test_what_a_post_hook_writes_stays() -> None:
    source = running(dtypes=HALF)
    other = fresh(source)

    def reset(optimizer: Any) -> None:
        for state in optimizer.state.values():
            state["exp_avg"].zero_()

    other.register_load_state_dict_post_hook(reset)
    other.load_state_dict(source.state_dict())
    assert not any(other.state[param]["exp_avg"].any() for param in params_of(other))


def test_state_dict_hooks_of_the_user() -> None:
    optimizer = running()
    calls: list[str] = []
    optimizer.register_state_dict_pre_hook(lambda optimizer: calls.append("pre"))
    optimizer.register_state_dict_post_hook(lambda optimizer, state_dict: {**state_dict, "mine": 1})
    saved = optimizer.state_dict()
    assert calls == ["pre"]
    assert saved["mine"] == 1
    fresh(optimizer).load_state_dict(saved)


def hooks_of(optimizer: Any) -> dict[str, int]:
    return {
        name: len(value) for name, value in vars(optimizer).items() if "hook" in name and isinstance(value, OrderedDict)
    }


@pytest.mark.parametrize(
    "make", [*WAYS.values(), copy.copy, lambda optimizer: optimizer], ids=[*WAYS, "copy", "itself"]
)
def test_loading_leaves_no_hooks_behind(make: Any) -> None:
    original = running()
    optimizer = make(original)
    optimizer.register_load_state_dict_pre_hook(lambda optimizer, state_dict: None)
    before = hooks_of(optimizer), hooks_of(original)
    assert before[0]["_optimizer_load_state_dict_pre_hooks"] == 1
    saved = copy.deepcopy(optimizer.state_dict())
    wrong = copy.deepcopy(saved)
    wrong["param_groups"].pop()
    for _ in range(3):
        optimizer.load_state_dict(saved)
        with pytest.raises(ValueError, match="groups"):
            optimizer.load_state_dict(wrong)
    assert (hooks_of(optimizer), hooks_of(original)) == before


def test_a_copy_made_by_a_load_hook_is_whole() -> None:
    """In the midst of a load too: a copy of the optimizer carries nothing of the load along."""
    source = running(dtypes=HALF)
    other = fresh(source)
    copies: list[Any] = []
    other.register_load_state_dict_pre_hook(lambda optimizer, state_dict: copies.append(copy.deepcopy(optimizer)))
    other.register_load_state_dict_post_hook(lambda optimizer: copies.append(copy.deepcopy(optimizer)))
    other.load_state_dict(source.state_dict())
    early, late = copies
    assert len(early.state) == 0
    assert moments(late) == moments(source)
    for optimizer in copies:
        assert hooks_of(optimizer)["_optimizer_load_state_dict_pre_hooks"] == 0
        run(optimizer, 1)


def test_the_decay_survives_copies() -> None:
    class Own(radam.WeightDecay):
        pass

    globals()["Own"] = Own
    Own.__qualname__ = "Own"
    optimizer = running(weight_decay=Own(0.5))
    for copied in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert type(copied.weight_decay) is Own
        assert copied.weight_decay.weight_decay == 0.5
    del globals()["Own"]
