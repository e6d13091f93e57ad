"""Every option just outside its range and of every wrong type, wherever it can be given: refused, without effect."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import radam
from radam import WeightDecay
from tests.core.helpers import OPTIMIZERS, parameter, params_of, run, set_gradients, snapshot

BELOW_ZERO = -5e-324
NOT_FINITE = (math.nan, math.inf, -math.inf)
NOT_A_NUMBER = (True, np.True_, "0.1", None, [0.1], (0.1,), {}, 1j, Decimal("0.1"), np.array([0.1, 0.2]))
NOT_A_FLAG = (1, 0, 1.0, "True", None, [True], torch.tensor(True), math.nan)
TOO_LARGE_FOR_A_FLOAT = 10**400
TENSORS = (torch.tensor(0.1), torch.tensor([0.1, 0.2]), torch.tensor(1), torch.tensor(1j))


class Bad(NamedTuple):
    """A value that an option must refuse; `shown` is what the message must contain, beside the option's name."""

    option: str
    value: Any
    error: type[Exception]
    shown: Any


def _numbers(option: str, *wrong_values: float, more_types: tuple[Any, ...] = ()) -> Iterator[Bad]:
    for value in (*wrong_values, *NOT_FINITE):
        yield Bad(option, value, ValueError, value)
    yield Bad(option, np.float32("nan"), ValueError, math.nan)
    for value in (*NOT_A_NUMBER, *more_types):
        yield Bad(option, value, TypeError, value)


def _flags(*names: str) -> Iterator[Bad]:
    for name in names:
        for value in NOT_A_FLAG:
            yield Bad(name, value, TypeError, value)


def _betas() -> Iterator[Bad]:
    for value in (BELOW_ZERO, -1, 1, 1.0, 1.5, np.float32(1), *NOT_FINITE):
        yield Bad("betas", (value, 0.999), ValueError, value)
        yield Bad("betas", (0.9, value), ValueError, value)
    for value in (True, "0.9", None, [0.9], 1j, torch.tensor(0.9)):
        yield Bad("betas", (value, 0.999), TypeError, value)
        yield Bad("betas", (0.9, value), TypeError, value)
    for value in (0.9, "ab", None, (), (0.9,), (0.9, 0.99, 0.999), {0.9: 0.999}, np.array([0.9, 0.999]), 1j):
        yield Bad("betas", value, TypeError, value)


LR = (
    *_numbers("lr", BELOW_ZERO, -1e-3, -1, np.float64(-1e-3)),
    *(
        Bad("lr", tensor, ValueError, tensor)
        for tensor in (
            torch.tensor([0.1, 0.2]),
            torch.tensor([]),
            torch.tensor(1),
            torch.tensor(True),
            torch.tensor(1j),
            torch.tensor(-1e-3),
            torch.tensor(math.nan),
            torch.tensor([math.inf]),
        )
    ),
)
DECAY = (
    *_numbers("weight_decay", BELOW_ZERO, -1, more_types=TENSORS),
    *_flags("weight_decouple", "absolute"),
)
COMMON = (*LR, *_betas(), *_numbers("eps", BELOW_ZERO, -1e-8, more_types=TENSORS))
OPTIONS: dict[type, tuple[Bad, ...]] = {
    radam.RAdam: (
        *COMMON,
        *_flags("optimized_update", "amsgrad", "degenerated_to_sgd", "maximize"),
        *_numbers("threshold", math.nextafter(4, 0), 3, 0, -5, more_types=TENSORS),
        *(Bad("rectification", value, ValueError, value) for value in ("Paper", "", "exact ", "none")),
        *(Bad("rectification", value, TypeError, value) for value in (None, True, 1, 1.0, b"paper", ["paper"])),
    ),
    radam.Adam: (
        *COMMON,
        *_flags("optimized_update", "amsgrad", "maximize"),
        *(Bad("variance_warmup", value, ValueError, value) for value in (-1, np.int64(-1), -TOO_LARGE_FOR_A_FLOAT)),
        *(
            Bad("variance_warmup", value, TypeError, value)
            for value in (1.0, 0.5, True, "1", None, [1], 1j, math.nan, math.inf, torch.tensor(1), np.float64(1))
        ),
    ),
}
SWITCHES = (
    *(Bad(name, value, TypeError, value) for name in ("foreach", "fused") for value in NOT_A_FLAG if value is not None),
    *_flags("capturable", "differentiable"),
)


def _ids(value: Any) -> str | None:
    if isinstance(value, Bad):
        text = repr(value.value)
        return f"{value.option}={text if len(text) < 40 else text[:37] + '...'}"
    return value.__name__ if isinstance(value, type) else None


each_constructor_argument = pytest.mark.parametrize(
    ("optimizer", "bad"),
    [
        (cls, bad)
        for cls in OPTIMIZERS
        # A callable that decays the parameters takes part in the constructor as a number does.
        for bad in (*OPTIONS[cls], *_numbers("weight_decay", BELOW_ZERO, -1, more_types=TENSORS), *SWITCHES)
    ],
    ids=_ids,
)
each_group_option = pytest.mark.parametrize(
    ("optimizer", "bad"), [(cls, bad) for cls in OPTIMIZERS for bad in (*OPTIONS[cls], *DECAY)], ids=_ids
)
each_switch = pytest.mark.parametrize("bad", SWITCHES, ids=_ids)


def refuses(bad: Bad) -> Any:
    return pytest.raises(bad.error)


def assert_named(error: BaseException, bad: Bad, place: str = "") -> None:
    message = str(error)
    assert bad.option in message
    assert repr(bad.shown) in message
    assert place in message


def running(cls: Any, **options: Any) -> Any:
    """An optimizer of two groups in mid-run."""
    optimizer = cls([{"params": [parameter(), parameter(0.5)]}, {"params": [parameter(7.0)], "lr": 0.25}], **options)
    run(optimizer, 2)
    return optimizer


# Where an option can be given


@each_constructor_argument
def test_in_the_constructor(optimizer: Any, bad: Bad) -> None:
    with refuses(bad) as caught:
        optimizer([parameter()], **{bad.option: bad.value})
    assert_named(caught.value, bad)


@pytest.mark.parametrize("bad", DECAY, ids=_ids)
def test_in_weight_decay(bad: Bad) -> None:
    with refuses(bad) as caught:
        WeightDecay(**{bad.option: bad.value})
    assert_named(caught.value, bad)


@each_group_option
def test_in_a_group(optimizer: Any, bad: Bad) -> None:
    with refuses(bad) as caught:
        optimizer([{"params": [parameter()]}, {"params": [parameter()], bad.option: bad.value}])
    assert_named(caught.value, bad, "group 1")


@each_group_option
def test_in_an_added_group(optimizer: Any, bad: Bad) -> None:
    instance = running(optimizer)
    group = {"params": [parameter()], bad.option: bad.value}
    given, before = dict(group), snapshot(instance)
    with refuses(bad) as caught:
        instance.add_param_group(group)
    assert_named(caught.value, bad, "group 2")
    assert snapshot(instance) == before
    assert list(group) == list(given)
    assert all(group[key] is given[key] for key in given)


@each_group_option
def test_assigned_to_a_group(optimizer: Any, bad: Bad) -> None:
    """In the last group, so that the ones before it would have moved."""
    instance = running(optimizer)
    set_gradients(params_of(instance), 9)
    good = instance.param_groups[1][bad.option]
    instance.param_groups[1][bad.option] = bad.value
    before = snapshot(instance)
    with refuses(bad) as caught:
        instance.step()
    assert_named(caught.value, bad, "group 1")
    assert snapshot(instance) == before
    instance.param_groups[1][bad.option] = good
    instance.step()


@each_group_option
def test_in_a_loaded_state_dict(optimizer: Any, bad: Bad) -> None:
    instance = running(optimizer)
    saved = copy.deepcopy(running(optimizer, lr=0.5).state_dict())
    saved["param_groups"][1][bad.option] = bad.value
    before = snapshot(instance)
    with refuses(bad) as caught:
        instance.load_state_dict(saved)
    assert_named(caught.value, bad, "group 1")
    assert snapshot(instance) == before
    instance.step()


@each_group_option
def test_in_the_defaults(optimizer: Any, bad: Bad) -> None:
    """A named argument wins, given or not: the value in `defaults` never arrives, so it does no harm."""
    instance = optimizer([parameter()], defaults={bad.option: bad.value})
    assert instance.param_groups[0][bad.option] == optimizer([parameter()]).param_groups[0][bad.option]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_missing_option(optimizer: Any) -> None:
    for name in (*optimizer.OPTIONS, "weight_decay", "weight_decouple", "absolute"):
        instance = running(optimizer)
        value = instance.param_groups[1].pop(name)
        before = snapshot(instance)
        with pytest.raises(ValueError, match=f"{name} .*group 1"):
            instance.step()
        assert snapshot(instance) == before
        instance.param_groups[1][name] = value
        instance.step()


@pytest.mark.parametrize("name", ["lr", "betas", "eps", "weight_decay", "threshold"])
def test_a_number_beyond_the_largest_float(name: str) -> None:
    for number in (TOO_LARGE_FOR_A_FLOAT, -TOO_LARGE_FOR_A_FLOAT, Fraction(TOO_LARGE_FOR_A_FLOAT, 3)):
        with pytest.raises(ValueError, match=name) as caught:
            radam.RAdam([parameter()], **{name: (0.9, number) if name == "betas" else number})  # type: ignore[arg-type]
        assert repr(number) in str(caught.value)


# Options that exclude each other


@pytest.mark.parametrize("other", [4.5, 5.5])
def test_the_exact_rectification_takes_no_threshold(other: float) -> None:
    refused = rf"threshold must be 5.0 with rectification='exact', but got {other}"
    with pytest.raises(ValueError, match=refused):
        radam.RAdam([parameter()], rectification="exact", threshold=other)
    with pytest.raises(ValueError, match=refused + r" \(parameter group 0\)"):
        radam.RAdam([{"params": [parameter()], "rectification": "exact"}], threshold=other)
    instance = radam.RAdam([{"params": [parameter()], "rectification": "exact"}, {"params": [parameter()]}])
    run(instance, 4)
    before = snapshot(instance)
    with pytest.raises(ValueError, match=refused + r" \(parameter group 2\)"):
        instance.add_param_group({"params": [parameter()], "rectification": "exact", "threshold": other})
    for group, option, value in ((0, "threshold", other), (1, "rectification", "exact")):
        instance.param_groups[1]["threshold"] = other
        before = snapshot(instance)
        kept = instance.param_groups[group][option]
        instance.param_groups[group][option] = value
        with pytest.raises(ValueError, match=refused + rf" \(parameter group {group}\)"):
            instance.step()
        instance.param_groups[group][option] = kept
        assert snapshot(instance) == before
    instance.step()


@pytest.mark.parametrize("lr", [0.0, torch.tensor(0.0)], ids=["number", "tensor"])
def test_a_learning_rate_may_be_zero(lr: float | torch.Tensor) -> None:
    param = parameter()
    before = param.detach().clone()
    instance = radam.RAdam([param], lr=lr)
    run(instance, 7)
    assert torch.equal(param, before)
    assert instance.state[param]["step"] == 7


# Numbers of other types


@pytest.mark.parametrize("number", [0.5, np.float64(0.5), np.float32(0.5), np.float16(0.5), Fraction(1, 2)])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_real_numbers_become_floats(optimizer: Any, number: Any) -> None:
    instance = optimizer([parameter()], lr=number, betas=[number, number], eps=number, weight_decay=number)
    group = instance.param_groups[0]
    for value in (group["lr"], *group["betas"], group["eps"], group["weight_decay"]):
        assert type(value) is float
        assert value == 0.5
    assert type(group["betas"]) is tuple


@pytest.mark.parametrize("number", [0, np.int64(0), np.uint8(0), Fraction(0)])
def test_integers_become_floats(number: Any) -> None:
    group = radam.RAdam([parameter()], lr=number, betas=(number, number), eps=number).param_groups[0]
    assert [type(value) for value in (group["lr"], *group["betas"], group["eps"])] == [float] * 4


def test_counts_become_integers() -> None:
    group = radam.Adam([parameter()], variance_warmup=np.int32(7)).param_groups[0]  # type: ignore[arg-type]
    assert type(group["variance_warmup"]) is int


def test_the_corners_are_in_range() -> None:
    radam.RAdam(
        [parameter()], lr=0, betas=(0.0, 1 - 2.0**-53), eps=0, weight_decay=0, threshold=4, rectification="paper"
    )
    radam.Adam([parameter()], lr=1e308, betas=(1 - 2.0**-53, 0), eps=1e308, weight_decay=1e308, variance_warmup=0)


@pytest.mark.parametrize("lr", [torch.tensor(0.5), torch.tensor([0.5]), torch.tensor([[0.5]], dtype=torch.float64)])
@pytest.mark.parametrize("foreach", [True, False])
def test_a_tensor_lr_stays_the_users_tensor_and_is_never_written_to(lr: torch.Tensor, foreach: bool) -> None:
    lr = lr.clone()
    a, b = parameter(), parameter()
    with_tensor, with_number = radam.RAdam([a], lr=lr, foreach=foreach), radam.RAdam([b], lr=0.5, foreach=foreach)
    run(with_tensor, 8)
    run(with_number, 8)
    assert with_tensor.param_groups[0]["lr"] is lr
    assert lr.flatten().tolist() == [0.5]
    assert torch.equal(a, b)


def test_a_tensor_lr_is_looked_at_in_each_step() -> None:
    """It may have changed and be the same object."""
    lr, param = torch.tensor(0.5), parameter()
    optimizer = radam.RAdam([param], lr=lr)
    run(optimizer, 7)
    lr.neg_()
    before = param.detach().clone()
    with pytest.raises(ValueError, match=r"lr must be .* \(parameter group 0\)"):
        optimizer.step()
    assert torch.equal(param, before)


# Engine switches


@pytest.mark.parametrize(
    ("one", "other", "advice"),
    [
        ("fused", "foreach", "with foreach=True pass fused=None"),
        ("fused", "capturable", "with capturable=True pass fused=None"),
        ("foreach", "differentiable", "with differentiable=True pass foreach=None"),
        ("fused", "differentiable", "with differentiable=True pass fused=None"),
        ("capturable", "differentiable", "with differentiable=True pass capturable=False"),
    ],
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_switches_that_exclude_each_other(optimizer: Any, one: str, other: str, advice: str) -> None:
    with pytest.raises(ValueError, match=f"{one}=True and {other}=True.*{advice}"):
        optimizer([parameter()], **{one: True, other: True})
    optimizer([parameter()], **{one: True, other: False})
    optimizer([parameter()], **{one: False, other: True})


@pytest.mark.parametrize(
    ("name", "value"),
    [("foreach", True), ("foreach", False), ("fused", True), ("capturable", True), ("differentiable", True)],
)
def test_a_switch_in_a_group_is_refused(name: str, value: bool) -> None:
    instance = running(radam.RAdam)
    before = snapshot(instance)
    with pytest.raises(ValueError, match=f"{name} .*{value}.*group 2"):
        instance.add_param_group({"params": [parameter()], name: value})
    assert snapshot(instance) == before
    instance.param_groups[1][name] = value
    before = snapshot(instance)
    with pytest.raises(ValueError, match=f"{name} .*{value}.*group 1"):
        instance.step()
    assert snapshot(instance) == before


@each_switch
def test_a_switch_of_a_wrong_type_in_a_group_is_refused(bad: Bad) -> None:
    instance = running(radam.RAdam)
    before = snapshot(instance)
    with pytest.raises((TypeError, ValueError), match=bad.option):
        instance.add_param_group({"params": [parameter()], bad.option: bad.value})
    assert snapshot(instance) == before


# Parameters


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("params", "error"),
    [
        ([], ValueError),
        (None, TypeError),
        (5, TypeError),
        (torch.zeros(2), TypeError),
        ([1.0], TypeError),
        ([{"lr": 0.1}], (ValueError, KeyError)),
        ([{"params": []}, 5], TypeError),
        ([torch.zeros(2, requires_grad=True) * 2], ValueError),
    ],
)
def test_params_that_are_no_parameters(optimizer: Any, params: Any, error: Any) -> None:
    with pytest.raises(error):
        optimizer(params)


@pytest.mark.parametrize(
    "group",
    [None, [], "params", {}, {"lr": 0.1}, {"params": [1.0]}, {"params": [torch.zeros(2, requires_grad=True) * 2]}],
    ids=repr,
)
def test_a_group_that_is_none(group: Any) -> None:
    instance = running(radam.RAdam)
    before = snapshot(instance)
    with pytest.raises((TypeError, ValueError)):
        instance.add_param_group(group)
    assert snapshot(instance) == before


def test_a_parameter_given_twice() -> None:
    param = parameter()
    with pytest.raises(ValueError, match="twice"):
        radam.RAdam([param, param])
    with pytest.raises(ValueError, match="twice"):
        radam.RAdam([("weight", param), ("tied", param)])
    instance = radam.RAdam([param])
    before = snapshot(instance)
    with pytest.raises(ValueError, match="more than one parameter group"):
        instance.add_param_group({"params": [parameter(), param]})
    assert snapshot(instance) == before


# The defaults of the arguments

DEFAULTS: dict[str, Any] = {
    "lr": 1e-3,
    "betas": (0.9, 0.999),
    "eps": 1e-16,
    "optimized_update": True,
    "amsgrad": False,
    "defaults": None,
    "maximize": False,
    "foreach": None,
    "fused": None,
    "capturable": False,
    "differentiable": False,
}
OWN_DEFAULTS: dict[Any, dict[str, Any]] = {
    radam.RAdam: {"degenerated_to_sgd": True, "threshold": 5.0, "rectification": "paper"},
    radam.Adam: {"variance_warmup": 0},
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_default_values(optimizer: Any) -> None:
    """Those of the authors' RAdam; Adam has the same."""
    parameters = dict(inspect.signature(optimizer).parameters)
    assert parameters.pop("params").default is inspect.Parameter.empty
    assert parameters.pop("weight_decay").default.defaults() == {
        "weight_decay": 0.0,
        "weight_decouple": True,
        "absolute": False,
    }
    assert {name: x.default for name, x in parameters.items()} == {**DEFAULTS, **OWN_DEFAULTS[optimizer]}


def test_default_values_of_the_decay() -> None:
    parameters = inspect.signature(radam.WeightDecay).parameters
    assert {name: x.default for name, x in parameters.items()} == radam.WeightDecay().defaults()


# The defaults argument


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_defaults_only_add(optimizer: Any) -> None:
    given = {"lr": 0.5, "betas": (0.1, 0.2), "eps": 1.0, "weight_decay": 3.0, "amsgrad": True, "mine": "kept"}
    before = copy.deepcopy(given)
    instance = optimizer([parameter()], eps=1e-3, defaults=given)
    group = instance.param_groups[0]
    assert {name: group[name] for name in given} == {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "eps": 1e-3,
        "weight_decay": 0.0,
        "amsgrad": False,
        "mine": "kept",
    }
    assert given == before
    instance.defaults["mine"] = "changed"
    assert given == before


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("defaults", [5, "lr", [("lr", 0.1)], True], ids=repr)
def test_defaults_must_be_a_mapping(optimizer: Any, defaults: Any) -> None:
    with pytest.raises(TypeError, match="defaults") as caught:
        optimizer([parameter()], defaults=defaults)
    assert repr(defaults) in str(caught.value)


def test_defaults_may_be_empty() -> None:
    for defaults in (None, {}):
        assert radam.RAdam([parameter()], defaults=defaults).defaults == radam.RAdam([parameter()]).defaults


def test_a_groups_own_value_wins_over_the_defaults() -> None:
    given = {"mine": 1}
    instance = radam.RAdam([{"params": [parameter()], "mine": 2}, {"params": [parameter()]}], defaults=given)
    assert [group["mine"] for group in instance.param_groups] == [2, 1]


# Decay in a group


def test_a_decay_in_a_group_is_taken_apart() -> None:
    for group in (
        {"params": [parameter()], "weight_decay": WeightDecay(0.5, weight_decouple=False, absolute=True)},
        {"params": [parameter()], "weight_decay": 0.5, "weight_decouple": False, "absolute": True},
    ):
        for instance in (radam.RAdam([group]), running(radam.RAdam)):
            if len(instance.param_groups) > 1:
                instance.add_param_group({**group, "params": [parameter()]})
            own = instance.param_groups[-1]
            assert (own["weight_decay"], own["weight_decouple"], own["absolute"]) == (0.5, False, True)


class Shrink:
    """A decay of the user's own."""

    def __init__(self, rate: float = 0.5) -> None:
        self.rate = rate

    def defaults(self) -> dict[str, Any]:
        return {"rate": self.rate}

    def __call__(self, param: torch.Tensor, grad: torch.Tensor, group: Mapping[str, Any]) -> torch.Tensor:
        param.mul_(group["rate"])
        return grad


class Subclass(WeightDecay):
    """A decay that may act in another way."""


def test_the_decay_of_a_group_stays_in_its_group() -> None:
    """Also where all optimizers share the object that is the default."""
    instance = radam.RAdam([{"params": [parameter()], "weight_decay": WeightDecay(0.5, absolute=True)}])
    instance.add_param_group({"params": [parameter()], "weight_decay": WeightDecay(0.25, weight_decouple=False)})
    assert [group["weight_decay"] for group in instance.param_groups] == [0.5, 0.25]
    for other in (instance, radam.RAdam([parameter()])):
        assert other.weight_decay.defaults() == {"weight_decay": 0.0, "weight_decouple": True, "absolute": False}
    assert radam.RAdam([parameter()]).param_groups[0]["weight_decay"] == 0.0


@pytest.mark.parametrize("own", [WeightDecay(0.1), Shrink()], ids=["WeightDecay", "callable"])
@pytest.mark.parametrize("decay", [Subclass(0.5), lambda param, grad, group: grad], ids=["subclass", "function"])
def test_another_callable_in_a_group_is_refused(own: Any, decay: Any) -> None:
    instance = radam.RAdam([parameter()], weight_decay=own)
    before = snapshot(instance)
    with pytest.raises(TypeError, match=r"weight_decay .*group 1"):
        instance.add_param_group({"params": [parameter()], "weight_decay": decay})
    assert snapshot(instance) == before
    with pytest.raises(TypeError, match=r"weight_decay .*group 0"):
        radam.RAdam([{"params": [parameter()], "weight_decay": decay}], weight_decay=own)


def test_the_users_own_decay_in_a_group_gives_its_numbers() -> None:
    instance = radam.RAdam(
        [{"params": [parameter()]}, {"params": [parameter()], "weight_decay": Shrink(0.25)}], weight_decay=Shrink()
    )
    assert [group["rate"] for group in instance.param_groups] == [0.5, 0.25]


def test_a_decay_assigned_to_a_group_is_refused() -> None:
    instance = running(radam.RAdam)
    instance.param_groups[1]["weight_decay"] = WeightDecay(0.5)
    before = snapshot(instance)
    with pytest.raises(TypeError, match=r"weight_decay .*WeightDecay\(0.5.*group 1"):
        instance.step()
    assert snapshot(instance) == before


@pytest.mark.parametrize(
    "value", [lambda param, grad, group: grad, "0.1", None, True, object()], ids=lambda value: type(value).__name__
)
def test_a_decay_without_defaults_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="weight_decay") as caught:
        radam.RAdam([parameter()], weight_decay=value)
    assert repr(value) in str(caught.value)
