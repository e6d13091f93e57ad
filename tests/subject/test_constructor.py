"""Arguments, their errors, and what they make of the groups."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from radam.audit import Subject
from radam.audit.subjects.radam import Family
from tests.subject import driving
from tests.subject.driving import (
    ACROSS,
    CONFIGURATIONS,
    assert_judged,
    follow,
    numbers,
    parameter,
    params_of,
    run,
    set_gradients,
    start,
)

NAN = math.nan

NAMED = {
    "lr": ("lr", "learning rate", "learning_rate"),
    "eps": ("eps",),
    "betas": ("beta",),
    "weight_decay": ("weight_decay", "weight decay"),
}
"""How an error may name an argument."""

BAD = [
    ("lr", torch.tensor(-0.1)),
    ("lr", torch.tensor(NAN)),
    *(("lr", value) for value in (-1e-3, -1, -1e-300, -math.inf, NAN)),
    *(("eps", value) for value in (-1e-16, -1, -math.inf, NAN)),
    *(("betas", (beta, 0.999)) for beta in (-1e-9, -0.9, 1.0, 1, 1.5, math.inf, NAN)),
    *(("betas", (0.9, beta)) for beta in (-1e-9, -0.9, 1.0, 1, 1.5, math.inf, NAN)),
    *(("weight_decay", value) for value in (-1e-9, -1.0, -math.inf, NAN)),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda value: str(value))
def test_an_argument_out_of_range_is_a_value_error_that_names_it(family: Family, name: str, value: Any) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the message is judged below)
        family.optimizer([parameter()], **{name: value})
    message = str(caught.value).lower()
    assert any(word in message for word in NAMED[name]), (
        f"the error says {message!r}, but should name {name} [{name}={value!r}]"
    )


@pytest.mark.parametrize("value", [-1e-9, -1.0, NAN])
@pytest.mark.parametrize("kind", [(True, False), (True, True), (False, False)])
def test_a_decay_object_out_of_range_is_a_value_error(family: Family, kind: tuple[bool, bool], value: float) -> None:
    """Whether the object or the optimizer notices."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        family.optimizer([parameter()], weight_decay=family.weight_decay(value, *kind))
    message = str(caught.value).lower()
    assert any(word in message for word in NAMED["weight_decay"]), f"the error says {message!r} [{value!r}]"


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.0},
        {"lr": 1.0},
        {"lr": 30.0},
        {"eps": 0.0},
        {"eps": 10.0},
        {"betas": (0.0, 0.999)},
        {"betas": (0.9, 0.0)},
        {"betas": (0.0, 0.0)},
        {"betas": (1 - 2**-20, 0.999)},
        {"betas": (0.9, 1 - 2**-20)},
        {"betas": (0.99, 0.9)},
        {"weight_decay": 0.0},
        {"weight_decay": 7.0},
        {"threshold": 4.0},
        {"threshold": 100.0},
    ],
    ids=str,
)
def test_the_ends_of_the_ranges_are_accepted_and_in_force(
    subject: Subject, family: Family, options: dict[str, Any]
) -> None:
    lockstep = start(subject, family, [[parameter((5,))]], options)
    run(lockstep, ACROSS)


@pytest.mark.parametrize("empty", [[], (), iter(())], ids=["list", "tuple", "iterator"])
def test_an_empty_parameter_list_is_refused(family: Family, empty: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (worded by torch)
        family.optimizer(empty)


# defaults

LOSERS: dict[str, Any] = {
    "lr": 0.5,
    "betas": (0.1, 0.2),
    "eps": 3.0,
    "weight_decay": 0.7,
    "optimized_update": False,
    "amsgrad": True,
    "degenerated_to_sgd": False,
}


def test_defaults_lose_to_arguments_that_are_not_given(subject: Subject, family: Family) -> None:
    defaults = copy.deepcopy(LOSERS)
    for name in ("threshold", "maximize"):
        if family.takes(name):
            defaults[name] = {"threshold": 9.0, "maximize": True}[name]
    given = copy.deepcopy(defaults)
    optimizer = family.optimizer([parameter((5,))], defaults=defaults)
    lockstep = follow(subject, optimizer, [{}])
    run(lockstep, ACROSS)
    assert defaults == given, f"defaults = {defaults}, but should stay {given}"


@pytest.mark.parametrize("name", sorted(LOSERS))
def test_defaults_lose_to_each_argument_that_is_given(subject: Subject, family: Family, name: str) -> None:
    options: dict[str, Any] = {
        "lr": 0.2,
        "betas": (0.8, 0.97),
        "eps": 0.01,
        "weight_decay": 0.25,
        "optimized_update": True,
        "amsgrad": False,
        "degenerated_to_sgd": True,
    }
    defaults = {name: LOSERS[name]}
    optimizer = family.build([parameter((5,))], options, defaults=defaults)
    seen = optimizer.param_groups[0][name]
    assert seen == options[name], f"param_groups[0][{name!r}] = {seen!r}, but should be {options[name]!r}"
    run(follow(subject, optimizer, [options]), ACROSS)
    assert defaults == {name: LOSERS[name]}, f"defaults = {defaults}, but should stay {{{name!r}: {LOSERS[name]!r}}}"


def test_defaults_reach_every_group_and_stay_the_callers(subject: Subject, family: Family) -> None:
    defaults = {"mark": "x", "number": 3, "lr": 5.0}
    given = dict(defaults)
    optimizer = family.build(
        [{"params": [parameter()]}, {"params": [parameter(seed=1)], "number": 4}], {"lr": 0.1}, defaults=defaults
    )
    optimizer.add_param_group({"params": [parameter(seed=2)], "mark": "y"})
    seen = [(group["mark"], group["number"], group["lr"]) for group in optimizer.param_groups]
    expected = [("x", 3, 0.1), ("x", 4, 0.1), ("y", 3, 0.1)]
    assert seen == expected, f"mark, number, lr = {seen}, but should be {expected}"
    run(follow(subject, optimizer, [{"lr": 0.1}] * 3), ACROSS)
    optimizer.state_dict()
    assert defaults == given, f"defaults = {defaults}, but should stay {given}"


def test_an_empty_defaults_is_like_none(subject: Subject, family: Family) -> None:
    defaults: dict[str, Any] = {}
    run(follow(subject, family.optimizer([parameter()], defaults=defaults), [{}]), ACROSS)
    assert defaults == {}, f"defaults = {defaults}, but should stay empty"


# weight_decay


@pytest.mark.parametrize("value", [0.25, 0.0, 5.0, 1])
def test_a_number_is_decoupled_decay(subject: Subject, family: Family, value: float) -> None:
    optimizer = family.optimizer([parameter((5,))], 0.1, weight_decay=value)
    assert optimizer.param_groups[0]["weight_decay"] == value
    run(follow(subject, optimizer, [{"lr": 0.1, "weight_decay": value}]), ACROSS)


class Penalty:
    """A decay of someone's own: L2 with a coefficient that lives in the groups under a name of its own."""

    def __init__(self, coefficient: float) -> None:
        self.coefficient = coefficient
        self.calls: list[tuple[torch.Tensor, torch.Tensor, Mapping[str, Any]]] = []

    def defaults(self) -> dict[str, Any]:
        return {"penalty": self.coefficient}

    def __call__(self, param: torch.Tensor, grad: torch.Tensor, group: Mapping[str, Any]) -> torch.Tensor:
        self.calls.append((param, grad.detach().clone(), dict(group)))
        return grad + group["penalty"] * param


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_callable_is_asked_once_per_parameter_with_a_gradient(
    subject: Subject, family: Family, dtype: torch.dtype, maximize: bool
) -> None:
    """It gets the parameter, the gradient after maximize and the group; what it returns is the gradient."""
    if maximize and not family.takes("maximize"):
        pytest.skip("the constructor has no maximize")
    penalty = Penalty(0.25)
    first, second, third = (parameter((3,), dtype, seed=i) for i in range(3))
    switches = {"maximize": True} if maximize else {}
    optimizer = family.optimizer(
        [{"params": [first, second]}, {"params": [third], "penalty": 0.5, "lr": 0.3}],
        lr=0.1,
        weight_decay=penalty,
        **switches,
    )
    common = {"weight_decouple": False, "maximize": maximize}
    lockstep = follow(
        subject,
        optimizer,
        [{**common, "lr": 0.1, "weight_decay": 0.25}, {**common, "lr": 0.3, "weight_decay": 0.5}],
    )
    for step in range(ACROSS):
        set_gradients([first, second, third], step)
        if step % 3 == 1:
            second.grad = None
        stepped = [param for param in (first, second, third) if param.grad is not None]
        penalty.calls.clear()
        lockstep.step()
        places = sorted(param.data_ptr() for param, _, _ in penalty.calls)
        expected = sorted(param.data_ptr() for param in stepped)
        assert places == expected, f"called for {len(places)} parameters, but should be once for each of {len(stepped)}"
        for param, grad, group in penalty.calls:
            (own,) = (p for p in stepped if p.data_ptr() == param.data_ptr())
            assert param is own, "was given another tensor in the place of the parameter, which it cannot recognize"
            assert own.grad is not None
            assert torch.equal(grad, -own.grad if maximize else own.grad), f"was given {grad} [maximize={maximize}]"
            lr = 0.3 if own is third else 0.1
            assert group["lr"] == lr, f"was given the group with lr {group['lr']}, but should be {lr}"


def test_a_callable_may_change_the_parameter(subject: Subject, family: Family) -> None:
    class Shrink:
        def defaults(self) -> dict[str, Any]:
            return {}

        def __call__(self, param: torch.Tensor, grad: torch.Tensor, group: Mapping[str, Any]) -> torch.Tensor:
            param.mul_(0.75)
            return grad

    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.complex128):
        optimizer = family.optimizer([parameter((5,), dtype), parameter((2, 2), dtype)], 0.1, weight_decay=Shrink())
        lockstep = follow(subject, optimizer, [{"lr": 0.1, "weight_decay": 0.25, "absolute": True}])
        run(lockstep, ACROSS)


def test_two_optimizers_do_not_share_their_decay(subject: Subject, family: Family) -> None:
    options = [
        {"lr": 0.1, "weight_decay": 0.25},
        {"lr": 0.1, "weight_decay": 0.5, "weight_decouple": False},
        {"lr": 0.1, "weight_decay": 0.125, "absolute": True},
        {},
    ]
    locksteps = [start(subject, family, [[parameter((4,), seed=i)]], own) for i, own in enumerate(options)]
    for step in range(ACROSS):
        for lockstep in locksteps:
            run(lockstep, 1, step)


def test_two_optimizers_do_not_share_what_they_compute(subject: Subject, family: Family) -> None:
    """They differ in one option each, and step in turn at the same t."""
    base = {"lr": 0.1, "betas": (0.9, 0.9), "eps": 0.01}
    others: list[dict[str, Any]] = [
        {},
        {"lr": 0.2},
        {"betas": (0.5, 0.9)},
        {"betas": (0.9, 0.75)},
        {"eps": 0.1},
        {"threshold": 4.0},
        {"optimized_update": False},
        {"degenerated_to_sgd": False},
    ]
    locksteps = [start(subject, family, [[parameter((4,))]], {**base, **other}) for other in others]
    for step in range(ACROSS):
        for lockstep in locksteps:
            run(lockstep, 1, step)


# Parameters


def test_named_parameters(subject: Subject, family: Family) -> None:
    first, second = parameter((3,)), parameter((2, 2), seed=1)
    optimizer = family.build([("first", first), ("second", second)], {"lr": 0.1})
    assert [id(p) for p in params_of(optimizer)] == [id(first), id(second)]
    assert optimizer.param_groups[0]["param_names"] == ["first", "second"]
    lockstep = follow(subject, optimizer, [{"lr": 0.1}])
    run(lockstep, ACROSS)
    assert_judged(lockstep)


def test_a_generator_of_parameters(subject: Subject, family: Family) -> None:
    params = [parameter((3,), seed=i) for i in range(3)]
    optimizer = family.build((p for p in params), {"lr": 0.1})
    assert [id(p) for p in params_of(optimizer)] == [id(p) for p in params]
    run(follow(subject, optimizer, [{"lr": 0.1}]), ACROSS)


def test_a_generator_of_the_parameters_of_a_group(subject: Subject, family: Family) -> None:
    params = [parameter((3,), seed=i) for i in range(4)]
    optimizer = family.build([{"params": (p for p in params[:2])}], {"lr": 0.1})
    optimizer.add_param_group({"params": (p for p in params[2:])})
    assert [id(p) for p in params_of(optimizer)] == [id(p) for p in params]
    run(follow(subject, optimizer, [{"lr": 0.1}] * 2), ACROSS)


def test_a_module_is_trained(subject: Subject, family: Family) -> None:
    """Gradients of autograd instead of drawn ones, in the usual loop."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
    model.to(driving.HERE)
    with torch.no_grad():
        for i, param in enumerate(model.parameters()):
            param.copy_(numbers(param.shape, torch.float64, i) / 4)
    inputs, targets = numbers((16, 4), torch.float64, 10), numbers((16, 1), torch.float64, 11)
    options = {"lr": 0.01, "weight_decay": 0.1}
    optimizer = family.build(model.parameters(), options)
    lockstep = follow(subject, optimizer, [options])
    for _ in range(25):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(inputs), targets).backward()
        lockstep.step()
    assert_judged(lockstep)


def test_groups_given_as_dicts(subject: Subject, family: Family) -> None:
    first, second, third = (parameter((3,), seed=i) for i in range(3))
    optimizer = family.build([{"params": first, "lr": 0.3}, {"params": [second, third], "eps": 0.1}], {"lr": 0.2})
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 2]
    run(follow(subject, optimizer, [{"lr": 0.3}, {"lr": 0.2, "eps": 0.1}]), ACROSS)


def test_parameters_of_several_dtypes(subject: Subject, family: Family) -> None:
    dtypes = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64, torch.complex128)
    params = [parameter((4,), dtype, seed=i) for i, dtype in enumerate(dtypes)]
    options = {"lr": 0.01, "weight_decay": 0.1}
    lockstep = start(subject, family, [params], options)
    run(lockstep, ACROSS)
    for param, dtype in zip(params, dtypes, strict=True):
        assert param.dtype == dtype, f"the parameter is {param.dtype}, but should be {dtype}"


@pytest.mark.parametrize("shape", [(), (1,)], ids=str)
def test_a_tensor_lr(subject: Subject, family: Family, shape: tuple[int, ...]) -> None:
    """Read at each step, never written to; one element may have a dimension, as in torch."""
    lr = torch.full(shape, 0.125, dtype=torch.float64)
    params = [parameter((4,)), parameter((2,), torch.float32), parameter((3,), torch.bfloat16)]
    optimizer = family.build(params, {"lr": lr, "weight_decay": 0.1})
    lockstep = follow(subject, optimizer, [{"lr": 0.125, "weight_decay": 0.1}])
    run(lockstep, 7)
    assert lr.item() == 0.125, f"lr = {lr}, but should stay 0.125"
    group = optimizer.param_groups[0]
    lr = group["lr"] = torch.full(shape, 0.25)
    lockstep.options[0]["lr"] = 0.25
    run(lockstep, 3, 1)
    lr.fill_(0.0625)
    lockstep.options[0]["lr"] = 0.0625
    run(lockstep, 3, 2)
    # No version counter tells of this.
    lr.data.fill_(0.5)
    lockstep.options[0]["lr"] = 0.5
    run(lockstep, 3, 3)


@pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_tensor_lr_with_every_option(subject: Subject, family: Family, options: dict[str, Any]) -> None:
    lr = torch.tensor(options.get("lr", 0.1), dtype=torch.float64)
    optimizer = family.build([parameter((4,)), parameter((2,), torch.complex128)], {**options, "lr": lr})
    run(follow(subject, optimizer, [{**options, "lr": lr.item()}]), ACROSS)


def test_a_tensor_lr_is_that_of_all_groups(subject: Subject, family: Family) -> None:
    """What is written into it reaches each group that was given none of its own."""
    lr = torch.tensor(0.125)
    groups = [{"params": [parameter((3,), seed=i)]} for i in range(3)]
    lockstep = follow(subject, family.build(groups, {"lr": lr}), [{"lr": 0.125} for _ in groups])
    run(lockstep, 7)
    lr.fill_(0.5)
    for own in lockstep.options:
        own["lr"] = 0.5
    run(lockstep, 3, 1)


def test_a_copy_has_a_tensor_lr_of_its_own(subject: Subject, family: Family) -> None:
    lr = torch.tensor(0.125)
    copied = copy.deepcopy(family.build([parameter()], {"lr": lr}))
    lr.fill_(0.5)
    run(follow(subject, copied, [{"lr": 0.125}]), 7)


def test_a_tensor_lr_of_a_group(subject: Subject, family: Family) -> None:
    """Beside a number, and beside a group without one of its own."""
    for own, default in ((torch.tensor(0.125), 0.5), (0.125, torch.tensor(0.5))):
        groups = [{"params": [parameter((4,))], "lr": own}, {"params": [parameter((2,))]}]
        lockstep = follow(subject, family.build(groups, {"lr": default}), [{"lr": 0.125}, {"lr": 0.5}])
        run(lockstep, 7)
        assert [float(group["lr"]) for group in lockstep.optimizer.param_groups] == [0.125, 0.5]
