"""The signatures that were asked for, and that the defaults act as they say."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from radam.audit import Subject
from radam.audit.subjects.radam import Family
from tests.subject.driving import assert_judged, follow, parameter, run

FIRST_NINE = {
    "lr": 1e-3,
    "betas": (0.9, 0.999),
    "eps": 1e-16,
    "weight_decay": None,  # an object: judged by what it does
    "optimized_update": True,
    "amsgrad": False,
    "degenerated_to_sgd": True,
    "defaults": None,
}
KEYWORD_ONLY = {"threshold": 5.0, "rectification": "paper", "maximize": False}
DECAY = {"weight_decay": 0.0, "weight_decouple": True, "absolute": False}


def test_the_first_nine_parameters_stand_in_their_order(family: Family) -> None:
    names = list(inspect.signature(family.optimizer).parameters)[:9]
    assert names == ["params", *FIRST_NINE], f"the first nine parameters are {names}"


def test_the_first_nine_parameters_have_their_defaults(family: Family) -> None:
    parameters = inspect.signature(family.optimizer).parameters
    assert parameters["params"].default is inspect.Parameter.empty, "params must be given"
    for name, expected in FIRST_NINE.items():
        seen = parameters[name].default
        if name == "betas":
            seen = tuple(seen)
        if name != "weight_decay":
            assert type(seen) is type(expected), f"{name} defaults to {seen!r}, but should to {expected!r}"
            assert seen == expected, f"{name} defaults to {seen!r}, but should to {expected!r}"


def test_the_other_parameters_are_keyword_only(family: Family) -> None:
    parameters = inspect.signature(family.optimizer).parameters
    for name, expected in KEYWORD_ONLY.items():
        if name in parameters:
            seen = parameters[name]
            assert seen.kind is inspect.Parameter.KEYWORD_ONLY, f"{name} is {seen.kind}, but should be keyword-only"
            assert seen.default == expected, f"{name} defaults to {seen.default!r}, but should to {expected!r}"


def test_the_default_decay_does_nothing(family: Family) -> None:
    default = inspect.signature(family.optimizer).parameters["weight_decay"].default
    if hasattr(default, "defaults"):
        seen = default.defaults()["weight_decay"]
        assert seen == 0, f"weight_decay defaults to a coefficient of {seen!r}, but should to 0"
    optimizer = family.optimizer([parameter()])
    seen = optimizer.param_groups[0]["weight_decay"]
    assert seen == 0, f"param_groups[0]['weight_decay'] = {seen!r}, but should be 0"


def test_a_default_optimizer_does_what_the_defaults_say(subject: Subject, family: Family) -> None:
    optimizer = family.optimizer([parameter((7,)), parameter((), torch.float32)])
    lockstep = follow(subject, optimizer, [{}])
    run(lockstep, 12)
    assert_judged(lockstep)


def test_eps_defaults_to_less_than_the_square_root_of_a_small_v(subject: Subject, family: Family) -> None:
    """Where eps shows: gradients of 1e-13 tell 1e-16 from 1e-8, and gradients of 1e-19 tell it from 0."""
    for scale in (1e-13, 1e-16, 1e-19):
        lockstep = follow(subject, family.optimizer([parameter((9,), scale=0.0)]), [{}])
        run(lockstep, 9, scale=scale)


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.3, "betas": (0.5, 0.97), "eps": 0.125, "optimized_update": False, "amsgrad": True},
        {"lr": 0.02, "betas": (0.8, 0.9), "eps": 1e-3, "degenerated_to_sgd": False},
        {"lr": 0.01, "betas": (0.6, 0.99), "eps": 1e-2, "optimized_update": True},
    ],
    ids=["unoptimized, amsgrad", "held", "optimized"],
)
def test_positional_arguments(subject: Subject, family: Family, options: dict[str, Any]) -> None:
    """Every argument in its place: the flags differ from each other, and from configuration to configuration."""
    decay = family.weight_decay(0.5, False, False)
    full = {"optimized_update": True, "amsgrad": False, "degenerated_to_sgd": True, **options}
    optimizer = family.optimizer(
        [parameter((5,))],
        full["lr"],
        full["betas"],
        full["eps"],
        decay,
        full["optimized_update"],
        full["amsgrad"],
        full["degenerated_to_sgd"],
        {"mark": 17},
    )
    lockstep = follow(subject, optimizer, [{**full, "weight_decay": 0.5, "weight_decouple": False}])
    run(lockstep, 12)
    assert optimizer.param_groups[0]["mark"] == 17


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", 0.3),
        ("betas", (0.5, 0.75)),
        ("eps", 0.25),
        ("optimized_update", False),
        ("amsgrad", True),
        ("degenerated_to_sgd", False),
        ("threshold", 4.0),
        ("maximize", True),
        ("weight_decay", 0.25),
    ],
)
def test_each_argument_is_in_the_groups_and_in_force(subject: Subject, family: Family, name: str, value: Any) -> None:
    options = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 0.01, name: value}
    optimizer = family.build([parameter((6,))], options)
    (group,) = optimizer.param_groups
    seen = tuple(group["betas"]) if name == "betas" else group[name]
    assert seen == value, f"param_groups[0][{name!r}] = {seen!r}, but should be {value!r} [{name}={value!r}]"
    run(follow(subject, optimizer, [options]), 12)


def test_groups_hold_plain_values(family: Family) -> None:
    (group,) = family.build([parameter()], {}).param_groups
    for name in ("lr", "eps", "weight_decay"):
        assert isinstance(group[name], float | int), f"param_groups[0][{name!r}] is {group[name]!r}"
    assert isinstance(group["betas"], tuple | list), f"param_groups[0]['betas'] is {group['betas']!r}"
    assert all(isinstance(beta, float | int) for beta in group["betas"]), f"betas are {group['betas']!r}"
    for name in ("optimized_update", "amsgrad", "degenerated_to_sgd"):
        assert isinstance(group[name], bool), f"param_groups[0][{name!r}] is {group[name]!r}"


def test_the_class_is_a_torch_optimizer(family: Family) -> None:
    assert isinstance(family.build([parameter()], {}), torch.optim.Optimizer)


# The decay class


def test_weight_decay_has_its_signature(family: Family) -> None:
    parameters = inspect.signature(family.weight_decay).parameters
    assert list(parameters)[:3] == list(DECAY), f"WeightDecay's parameters are {list(parameters)}"
    for name, expected in DECAY.items():
        seen = parameters[name].default
        assert seen == expected, f"{name} defaults to {seen!r}, but should to {expected!r}"


@pytest.mark.parametrize("coefficient", [0.0, 0.25])
def test_weight_decay_gives_its_coefficient(family: Family, coefficient: float) -> None:
    seen = family.weight_decay(coefficient).defaults()
    assert seen["weight_decay"] == coefficient, f"defaults() = {seen!r}, but should hold {coefficient!r}"
    again = family.weight_decay(coefficient).defaults()
    again["weight_decay"] = 9.0
    assert family.weight_decay(coefficient).defaults()["weight_decay"] == coefficient, "defaults() is shared"


def decay(
    family: Family, kind: tuple[float, bool, bool], lr: float, param: torch.Tensor, grad: torch.Tensor
) -> torch.Tensor:
    """Call a decay object as an optimizer does, under no_grad and with a whole group."""
    made = family.weight_decay(*kind)
    (group,) = family.optimizer([parameter()], lr, weight_decay=made).param_groups
    with torch.no_grad():
        return made(param, grad, group)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(3,), (), (2, 3), (0,)])
@pytest.mark.parametrize(
    ("kind", "factor"),
    [((0.25, True, False), 0.875), ((0.25, True, True), 0.75), ((8.0, True, False), -3.0), ((3.0, True, True), -2.0)],
    ids=["decoupled", "absolute", "decoupled, large", "absolute, large"],
)
def test_decoupled_decay_by_value(
    family: Family, kind: tuple[float, bool, bool], factor: float, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    """At lr = 0.5, on whole numbers: nothing rounds, whether p is scaled or lr wd p subtracted."""
    param, grad = parameter(shape, dtype, scale=8.0).detach().round(), parameter(shape, dtype, seed=1).detach()
    before, grad_before = param.clone(), grad.clone()
    result = decay(family, kind, 0.5, param, grad)
    assert torch.equal(param, before * factor), f"param = {param}, but should be {before * factor} [{kind}]"
    assert torch.equal(grad, grad_before), f"grad = {grad}, but should stay {grad_before} [{kind}]"
    assert torch.equal(result, grad_before), f"returned {result}, but should be the gradient {grad_before} [{kind}]"


@pytest.mark.parametrize("absolute", [False, True])
def test_l2_decay_by_value(family: Family, absolute: bool) -> None:
    """Numbers chosen so that nothing rounds: grad + wd * param, whatever lr, in a new tensor."""
    param, grad = torch.tensor([2.0, -4.0, 0.0]), torch.tensor([1.0, 0.5, 3.0])
    result = decay(family, (0.25, False, absolute), 0.125, param, grad)
    assert result.tolist() == [1.5, -0.5, 3.0], f"returned {result}, but should be [1.5, -0.5, 3.0]"
    assert grad.tolist() == [1.0, 0.5, 3.0], f"grad = {grad}, but should stay"
    assert param.tolist() == [2.0, -4.0, 0.0], f"param = {param}, but should stay"
    result.fill_(9.0)
    assert grad.tolist() == [1.0, 0.5, 3.0], "the returned gradient should be a new tensor, but shares grad's memory"


@pytest.mark.parametrize("kind", [(0.0, True, False), (0.0, True, True), (0.0, False, False)])
def test_a_coefficient_of_zero_touches_nothing(family: Family, kind: tuple[float, bool, bool]) -> None:
    """Not even what 0 * inf would make NaN."""
    param, grad = torch.tensor([float("inf"), -0.0, 2.0]), torch.tensor([1.0, -0.0, 3.0])
    result = decay(family, kind, 0.5, param, grad)
    assert param.tolist() == [float("inf"), -0.0, 2.0], f"param = {param}, but should stay [{kind}]"
    assert result.tolist() == [1.0, 0.0, 3.0], f"returned {result}, but should be the gradient [{kind}]"
    assert torch.equal(torch.signbit(param), torch.tensor([False, True, False])), f"a sign has changed [{kind}]"


@pytest.mark.parametrize("kind", [(0.25, True, False), (0.25, True, True), (0.25, False, False)])
def test_a_learning_rate_of_zero_changes_no_parameter(
    subject: Subject, family: Family, kind: tuple[float, bool, bool]
) -> None:
    param, grad = torch.tensor([2.0, -4.0]), torch.tensor([1.0, 3.0])
    decay(family, kind, 0.0, param, grad)
    assert param.tolist() == [2.0, -4.0], f"param = {param}, but should stay [WeightDecay{kind}, lr=0]"
    options = {"lr": 0.0, "weight_decay": kind[0], "weight_decouple": kind[1], "absolute": kind[2]}
    p = parameter((4,))
    before = p.detach().clone()
    lockstep = follow(subject, family.build([p], options), [options])
    run(lockstep, 8)
    assert torch.equal(p.detach(), before), f"p = {p}, but should stay {before} [{options}]"


def test_the_groups_coefficient_counts_not_the_objects(family: Family) -> None:
    made = family.weight_decay(0.5)
    (group,) = family.optimizer([parameter()], 1.0, weight_decay=made).param_groups
    param = torch.tensor([2.0])
    with torch.no_grad():
        made(param, torch.tensor([1.0]), {**group, "weight_decay": 0.25})
    assert param.tolist() == [1.5], f"param = {param}, but should be 1.5 [WeightDecay(0.5), group has 0.25, lr=1]"
