"""Lockstep: for each thing that it judges, a small optimizer that is wrong in it and caught; and right ones pass."""

from __future__ import annotations

import contextlib
import copy
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

import radam
from radam.audit import Discrepancy, Lockstep, Recurrence
from radam.audit.lockstep import arithmetic_of, flat, same_bits
from radam.audit.subject import torch_adam_names
from radam.audit.subjects.radam import adam_oracle, oracle

STEPS = 10
OPTIONS: dict[str, Any] = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": True}
MESSAGE = (
    r"^group 0 parameter 0: {quantity}\[\d+\] = \S+, but should be \S+ \(\S+ times the bound \S+\) "
    r"\[Wrong, {dtype}, step {step}\]$"
)

Spoil = Callable[[torch.optim.Optimizer, torch.Tensor, dict[str, Any]], None]


def parameters(dtype: torch.dtype = torch.float32) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype))
        for shape in ((4, 3), (5,))
    ]


def give_gradients(params: list[torch.nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator, dtype=torch.float64).to(param.dtype)


def wrong(spoil: Spoil, at: int = 7) -> type[radam.RAdam]:
    """radam.RAdam, of which something is spoilt after the step that is the `at`-th of its first parameter."""

    class Wrong(radam.RAdam):
        def step(self, closure: Any = None) -> Any:
            loss = super().step(closure)
            param = self.param_groups[0]["params"][0]
            if self.state[param]["step"] == at:
                with torch.no_grad():
                    spoil(self, param, self.state[param])
            return loss

    return Wrong


def drive(lockstep: Lockstep, params: list[torch.nn.Parameter], steps: int = STEPS) -> Lockstep:
    for step in range(steps):
        give_gradients(params, step)
        lockstep.step()
    return lockstep


def caught(spoil: Spoil, dtype: torch.dtype = torch.float32, **more: Any) -> str:
    """The message of the discrepancy."""
    params = parameters(dtype)
    optimizer = wrong(spoil)(params, **OPTIONS)
    with pytest.raises(Discrepancy) as error:
        drive(Lockstep(optimizer, [OPTIONS], oracle, describe="Wrong", **more), params)
    return str(error.value)


def scaled(name: str, factor: float) -> Spoil:
    return lambda optimizer, param, state: state[name].mul_(factor)


# Numbers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("quantity", ["exp_avg", "exp_avg_sq"])
def test_a_wrong_moment(quantity: str, dtype: torch.dtype) -> None:
    """Off by a hundred units in the last place of the arithmetic."""
    arithmetic, _ = arithmetic_of(torch.zeros(1, dtype=dtype))
    message = caught(scaled(quantity, 1 + 200 * arithmetic.unit_roundoff), dtype)
    assert_form(message, quantity, dtype, 7)


def assert_form(message: str, quantity: str, dtype: torch.dtype, step: int) -> None:
    name = str(dtype).removeprefix("torch.")
    assert re.match(MESSAGE.format(quantity=quantity, dtype=name, step=step), message), message


def test_a_wrong_maximum() -> None:
    message = caught(scaled("max_exp_avg_sq", 1 + 1e-4))
    assert_form(message, "max_exp_avg_sq", torch.float32, 7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_wrong_parameter(dtype: torch.dtype) -> None:
    """In float64 the error of textbook scalars would hide it."""
    factor = 1 + 8 * torch.finfo(dtype).eps
    message = caught(lambda optimizer, param, state: param.data.mul_(factor), dtype, scalars="exact")
    assert_form(message, "param", dtype, 7)


def test_one_wrong_element_is_located() -> None:
    def spoil(optimizer: torch.optim.Optimizer, param: torch.Tensor, state: dict[str, Any]) -> None:
        state["exp_avg"][2, 1] += 1.0

    assert "group 0 parameter 0: exp_avg[7] = " in caught(spoil)


def test_an_element_of_the_second_parameter_is_located() -> None:
    def spoil(optimizer: torch.optim.Optimizer, param: torch.Tensor, state: dict[str, Any]) -> None:
        optimizer.param_groups[0]["params"][1].data[4] += 1.0

    assert "group 0 parameter 1: param[4] = " in caught(spoil)


@pytest.mark.parametrize("quantity", ["exp_avg", "exp_avg_sq", "max_exp_avg_sq", "param"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_in_place_of_a_number(bad: float, quantity: str) -> None:
    def spoil(optimizer: torch.optim.Optimizer, param: torch.Tensor, state: dict[str, Any]) -> None:
        (param if quantity == "param" else state[quantity])[0, 0] = bad

    message = caught(spoil)
    assert f"{quantity}[0] = {bad}" in message
    assert "inf times the bound" in message


def test_no_error_hides_behind_another() -> None:
    """A wrong m is found in m alone: v, s and p are judged from what is stored, and are right."""
    params = parameters()

    class Wrong(radam.RAdam):
        def step(self, closure: Any = None) -> Any:
            for param in params:
                assert param.grad is not None
            before = [self.state[param]["exp_avg"].clone() if param in self.state else None for param in params]
            result = super().step(closure)
            for param, m in zip(params, before, strict=True):
                # m keeps its sign at each step but loses a thousandth, and p follows this m.
                if m is not None:
                    self.state[param]["exp_avg"].mul_(0.999)
            return result

    optimizer = Wrong(params, lr=0.0)
    lockstep = drive(Lockstep(optimizer, [{"lr": 0.0}], oracle, keep_going=True), params)
    assert lockstep.record.findings
    assert all("exp_avg[" in finding for finding in lockstep.record.findings)


# Bookkeeping


@pytest.mark.parametrize(("added", "shown"), [(1, "8"), (-1, "6")])
def test_a_wrong_step_count(added: int, shown: str) -> None:
    def spoil(optimizer: torch.optim.Optimizer, param: torch.Tensor, state: dict[str, Any]) -> None:
        state["step"] += added

    assert caught(spoil) == f"step of group 0 parameter 0 = {shown}, but should be 7 [Wrong, float32, step 7]"


def test_a_gradient_that_is_written_to() -> None:
    def spoil(optimizer: torch.optim.Optimizer, param: torch.Tensor, state: dict[str, Any]) -> None:
        assert param.grad is not None
        param.grad.add_(1)

    assert caught(spoil) == (
        "the gradient of group 0 parameter 0 should not be written to, but has changed [Wrong, float32, step 7]"
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
def test_a_gradient_of_the_second_parameter_that_is_written_to(dtype: torch.dtype) -> None:
    def spoil(optimizer: torch.optim.Optimizer, param: torch.Tensor, state: dict[str, Any]) -> None:
        optimizer.param_groups[0]["params"][1].grad[4] *= 1 + torch.finfo(dtype).eps

    assert "the gradient of group 0 parameter 1 should not be written to" in caught(spoil, dtype)


def test_a_gradient_that_becomes_nan() -> None:
    def spoil(optimizer: torch.optim.Optimizer, param: torch.Tensor, state: dict[str, Any]) -> None:
        assert param.grad is not None
        param.grad[0] = math.nan

    assert "the gradient of group 0 parameter 0 should not be written to" in caught(spoil)


@pytest.mark.parametrize(
    "change",
    [lambda grad: grad.double(), lambda grad: grad.reshape(-1)],
    ids=["dtype", "shape"],
)
@pytest.mark.parametrize("in_place", [False, True])
def test_a_gradient_of_another_kind_with_the_same_numbers(
    change: Callable[[torch.Tensor], torch.Tensor], in_place: bool
) -> None:
    """In another tensor, or in the same one by its `data`."""
    params = parameters()

    def spoil(optimizer: torch.optim.Optimizer, param: torch.Tensor, state: dict[str, Any]) -> None:
        grad = param.grad
        assert grad is not None
        if in_place:
            grad.data = change(grad)
        else:
            # torch refuses the assignment of what does not fit, but not to a gradient's own data.
            param.grad = grad.clone()
            param.grad.data = change(grad)

    with pytest.raises(Discrepancy, match="the gradient of group 0 parameter 0 should not be written to"):
        drive(Lockstep(wrong(spoil)(params, **OPTIONS), [OPTIONS], oracle), params)


def test_a_gradient_with_nan_that_is_kept() -> None:
    params = parameters()
    lockstep = drive(Lockstep(radam.RAdam(params, **OPTIONS), [OPTIONS], oracle, scalars="exact"), params)
    give_gradients(params, 0)
    params[0].grad[1, 1] = math.nan  # type: ignore[index]
    lockstep.step()
    assert lockstep.record.worst < 1


def test_a_gradient_that_is_taken_away() -> None:
    def spoil(optimizer: torch.optim.Optimizer, param: torch.Tensor, state: dict[str, Any]) -> None:
        param.grad = None

    assert "the gradient of group 0 parameter 0" in caught(spoil)


def without_a_gradient(spoil: Spoil) -> str:
    """The message where the second parameter has no gradient in a step that spoils it."""
    params = parameters()

    def second(optimizer: torch.optim.Optimizer, param: torch.Tensor, state: dict[str, Any]) -> None:
        spoil(optimizer, params[1], optimizer.state[params[1]])

    lockstep = Lockstep(wrong(second)(params, **OPTIONS), [OPTIONS], oracle, describe="Wrong")
    drive(lockstep, params, 6)
    give_gradients(params, 6)
    params[1].grad = None
    with pytest.raises(Discrepancy) as error:
        lockstep.step()
    return str(error.value)


def test_a_parameter_without_a_gradient_that_moves() -> None:
    message = without_a_gradient(lambda optimizer, param, state: param.data.mul_(1 + 2.0**-22))
    assert message == ("group 0 parameter 1 has no gradient and should stay, but has changed [Wrong, float32, step 6]")


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"])
def test_state_without_a_gradient_that_moves(name: str) -> None:
    message = without_a_gradient(scaled(name, 0.5))
    assert f"{name} of group 0 parameter 1, which has no gradient, should stay, but has changed" in message


def test_a_step_count_without_a_gradient_that_moves() -> None:
    def spoil(optimizer: torch.optim.Optimizer, param: torch.Tensor, state: dict[str, Any]) -> None:
        state["step"] += 1

    assert "step of group 0 parameter 1" in without_a_gradient(spoil)


def test_state_without_a_gradient_that_goes_away() -> None:
    def spoil(optimizer: torch.optim.Optimizer, param: torch.Tensor, state: dict[str, Any]) -> None:
        del state["exp_avg"]

    assert "exp_avg of group 0 parameter 1" in without_a_gradient(spoil)


@pytest.mark.parametrize("name", ["step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"])
def test_missing_state(name: str) -> None:
    def spoil(optimizer: torch.optim.Optimizer, param: torch.Tensor, state: dict[str, Any]) -> None:
        del state[name]

    message = caught(spoil)
    assert f"state '{name}' of group 0 parameter 0 is missing" in message


@pytest.mark.parametrize("lacking", [0, 1])
@pytest.mark.parametrize("together", [False, True])
def test_state_that_one_parameter_never_had(together: bool, lacking: int) -> None:
    """Whichever it is, it is named."""

    class Wrong(radam.RAdam):
        def step(self, closure: Any = None) -> Any:
            loss = super().step(closure)
            del self.state[params[lacking]]["max_exp_avg_sq"]
            return loss

    params = parameters()
    lockstep = Lockstep(Wrong(params, **OPTIONS), [OPTIONS], oracle)
    give_gradients(params, 0)
    with (
        pytest.raises(Discrepancy, match=f"state 'max_exp_avg_sq' of group 0 parameter {lacking} is missing"),
        lockstep.together() if together else contextlib.nullcontext(),
    ):
        lockstep.step()


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"])
def test_state_of_another_shape(name: str) -> None:
    def spoil(optimizer: torch.optim.Optimizer, param: torch.Tensor, state: dict[str, Any]) -> None:
        state[name] = state[name].reshape(-1)

    message = caught(spoil)
    assert f"{name} of group 0 parameter 0 should have shape (4, 3)" in message
    assert "(12,)" in message


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_state_of_another_dtype(dtype: torch.dtype, name: str) -> None:
    def spoil(optimizer: torch.optim.Optimizer, param: torch.Tensor, state: dict[str, Any]) -> None:
        state[name] = state[name].to(dtype)

    message = caught(spoil)
    assert f"{name} of group 0 parameter 0 should have the precision" in message
    assert str(dtype) in message


def test_complex_state_of_a_real_parameter() -> None:
    def spoil(optimizer: torch.optim.Optimizer, param: torch.Tensor, state: dict[str, Any]) -> None:
        state["exp_avg"] = state["exp_avg"].to(torch.complex64)

    assert "real dtype" in caught(spoil)


# Wrong options, wrong branches


@pytest.mark.parametrize(
    ("actual", "quantity"),
    [
        ({"lr": 0.1 * (1 + 1e-5)}, "param"),
        ({"betas": (0.9 + 1e-5, 0.999)}, "exp_avg"),
        ({"betas": (0.9, 0.999 + 1e-7)}, "exp_avg_sq"),
        ({"eps": 0.1}, "param"),
        ({"threshold": 6.0}, "param"),
        ({"threshold": 4.0}, "param"),
        ({"degenerated_to_sgd": False}, "param"),
        ({"amsgrad": False}, "max_exp_avg_sq"),
        ({"maximize": True}, "exp_avg"),
        ({"weight_decay": 1e-4}, "param"),
        ({"weight_decay": radam.WeightDecay(1e-3, False)}, "exp_avg"),
    ],
    ids=str,
)
def test_an_optimizer_with_other_options_than_it_should_have(actual: dict[str, Any], quantity: str) -> None:
    params = parameters()
    optimizer = radam.RAdam(params, **{**OPTIONS, **actual})
    with pytest.raises(Discrepancy, match=quantity):
        drive(Lockstep(optimizer, [OPTIONS], oracle), params)


def test_eps_on_the_other_side_of_the_correction() -> None:
    params = parameters()
    options = {**OPTIONS, "eps": 1e-3}
    with pytest.raises(Discrepancy, match=r"param.*step 6\]"):
        drive(Lockstep(radam.RAdam(params, optimized_update=False, **options), [options], oracle), params)


# Right ones


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64])
@pytest.mark.parametrize("foreach", [True, False])
def test_radam_passes(dtype: torch.dtype, foreach: bool) -> None:
    params = parameters(dtype)
    lockstep = Lockstep(radam.RAdam(params, foreach=foreach, **OPTIONS), [OPTIONS], oracle, scalars="exact")
    record = drive(lockstep, params).record
    values = sum(flat(param).size for param in params)
    assert record.worst <= 1
    assert record.steps == STEPS
    assert record.judged == STEPS * 4 * values
    assert record.unjudged == 0
    assert {name: tally.judged for name, tally in record.tallies.items()} == dict.fromkeys(
        ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "param"), STEPS * values
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("foreach", [True, False])
def test_torchs_radam_passes(dtype: torch.dtype, foreach: bool) -> None:
    """Its threshold is strict, and eps stands before v's correction: at sqrt(v) as it is."""
    params = parameters(dtype)
    options = {"lr": 0.1, "eps": 1e-3, "strict": True, "weight_decay": 0.1, "weight_decouple": False}
    optimizer = torch.optim.RAdam(params, lr=0.1, eps=1e-3, weight_decay=0.1, foreach=foreach)
    assert drive(Lockstep(optimizer, [options], oracle), params).record.worst <= 1


@pytest.mark.parametrize("theirs", [torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("amsgrad", [True, False])
@pytest.mark.parametrize("foreach", [True, False])
def test_torchs_adam_passes(theirs: Any, amsgrad: bool, foreach: bool) -> None:
    params = parameters()
    common = {"lr": 0.1, "eps": 1e-3, "weight_decay": 0.1, "amsgrad": amsgrad}
    options = {**common, "weight_decouple": theirs is torch.optim.AdamW, "optimized_update": False}
    assert drive(Lockstep(theirs(params, foreach=foreach, **common), [options], adam_oracle), params).record.worst <= 1


def test_an_optimizer_in_mid_run_is_taken_as_it_stands() -> None:
    params = parameters()
    optimizer = radam.RAdam(params, **OPTIONS)
    for step in range(4):
        give_gradients(params, step)
        optimizer.step()
    lockstep = drive(Lockstep(optimizer, [OPTIONS], oracle), params)
    assert lockstep.steps_of(params[0]) == 4 + STEPS


def test_other_names_of_the_state() -> None:
    class Other(radam.RAdam):
        def step(self, closure: Any = None) -> Any:
            for state in self.state.values():
                if "momentum" in state:
                    state["exp_avg"] = state.pop("momentum")
            result = super().step(closure)
            for state in self.state.values():
                state["momentum"] = state.pop("exp_avg")
            return result

    params = parameters()
    lockstep = Lockstep(Other(params, **OPTIONS), [OPTIONS], oracle, state={**torch_adam_names(), "m": "momentum"})
    assert set(drive(lockstep, params).record.tallies) == {"momentum", "exp_avg_sq", "max_exp_avg_sq", "param"}
    params = parameters()
    with pytest.raises(Discrepancy, match="'exp_avg' of group 0 parameter 0 is missing"):
        drive(Lockstep(Other(params, **OPTIONS), [OPTIONS], oracle), params)


class Counting(Recurrence):
    """p <- p - v, where v doubles from 1: one number for all elements."""

    uniform = frozenset({"v"})

    def begin(self, param: Any) -> None:
        super().begin(param)
        self.v = np.ones(np.shape(param))

    def advance(self, param: Any, grad: Any) -> None:
        self.v = 2 * self.v

    def apply(self, param: Any, grad: Any) -> Any:
        return param - self.v


class Counts(torch.optim.Optimizer):
    """Does so, with state as it is given."""

    def __init__(self, params: Any, kept: Callable[[float, torch.Tensor], Any], first: float = 1.0) -> None:
        super().__init__(params, {})
        self.kept, self.first = kept, first

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for param in self.param_groups[0]["params"]:
            state = self.state[param]
            state["step"] = state.get("step", 0) + 1
            number = self.first * 2.0 ** state["step"]
            state["v"] = self.kept(number, param)
            (torch.view_as_real(param) if param.is_complex() else param).sub_(number)


@pytest.mark.parametrize(
    "kept",
    [
        lambda number, param: number,
        lambda number, param: torch.tensor(number),
        lambda number, param: torch.full_like(param, complex(number, number) if param.is_complex() else number),
    ],
)
def test_one_number_for_all_elements(kept: Any) -> None:
    """It may be a number, a tensor without dimensions or a full one, and is judged as an array is."""

    def followed(optimizer: torch.optim.Optimizer) -> Lockstep:
        return Lockstep(optimizer, [{}], lambda options: Counting(), state={"t": "step", "v": "v"})

    for dtype in (torch.float32, torch.complex64):
        params = parameters(dtype)
        assert drive(followed(Counts(params, kept)), params).record.worst < 1
    params = parameters()
    with pytest.raises(Discrepancy, match=r"v\[0\] = 4.0, but should be 2.0"):
        drive(followed(Counts(params, kept, first=2.0)), params)


def test_groups_have_their_own_options() -> None:
    a, b = parameters()
    options = [{"lr": 0.1, "betas": (0.5, 0.8)}, {"lr": 0.5, "threshold": 4.0, "maximize": True}]
    groups = [{"params": [p], **own} for p, own in zip((a, b), options, strict=True)]
    assert drive(Lockstep(radam.RAdam(groups), options, oracle), [a, b]).record.worst <= 1
    groups = [{"params": [p], **own} for p, own in zip(parameters(), options, strict=True)]
    optimizer = radam.RAdam(groups)
    with pytest.raises(Discrepancy, match="group 1"):
        drive(Lockstep(optimizer, [options[0], options[0]], oracle), [g["params"][0] for g in optimizer.param_groups])


# How it goes on


def test_keep_going_collects_every_finding() -> None:
    params = parameters()

    class Wrong(radam.RAdam):
        def step(self, closure: Any = None) -> Any:
            result = super().step(closure)
            for state in self.state.values():
                state["exp_avg"].mul_(1.01)
                state["exp_avg_sq"].mul_(1.01)
            return result

    lockstep = drive(Lockstep(Wrong(params, **OPTIONS), [OPTIONS], oracle, keep_going=True), params, 3)
    quantities = [finding.split(": ")[1].split("[")[0] for finding in lockstep.record.findings]
    assert quantities[:2] == ["exp_avg", "exp_avg_sq"]
    assert quantities.count("exp_avg") == quantities.count("exp_avg_sq") == 3
    assert lockstep.record.worst > 1
    tally = lockstep.record.tallies["exp_avg"]
    assert tally.worst is not None
    assert tally.worst.worst > 1
    assert tally.ulp > 1e4
    assert 1 <= tally.step <= 3
    assert "parameter" in tally.where


def test_a_closure_is_passed_on_and_its_gradients_are_judged() -> None:
    params = parameters()
    lockstep = Lockstep(radam.RAdam(params, **OPTIONS), [OPTIONS], oracle)
    for step in range(STEPS):

        def closure(seed: int = step) -> float:
            give_gradients(params, seed)
            return 2.5

        assert lockstep.step(closure) == 2.5
    assert lockstep.record.judged > 0


def test_following_a_copy() -> None:
    params = parameters()
    lockstep = drive(Lockstep(radam.RAdam(params, **OPTIONS), [OPTIONS], oracle), params, 4)
    copied = copy.deepcopy(lockstep.optimizer)
    lockstep.follow(copied)
    drive(lockstep, copied.param_groups[0]["params"], 4)
    assert lockstep.steps_of(copied.param_groups[0]["params"][0]) == 8


def test_a_copy_that_forgot_its_state_is_caught() -> None:
    params = parameters()
    lockstep = drive(Lockstep(radam.RAdam(params, **OPTIONS), [OPTIONS], oracle), params, 4)
    lockstep.follow(radam.RAdam(params, **OPTIONS))
    with pytest.raises(Discrepancy, match="step of group 0 parameter 0 = 1, but should be 5"):
        drive(lockstep, params, 1)


def test_names_of_parameters_stand_in_messages() -> None:
    params = parameters()
    optimizer = wrong(scaled("exp_avg", 1.01))(list(zip(("weight", "bias"), params, strict=True)), **OPTIONS)
    with pytest.raises(Discrepancy, match=r"^weight: exp_avg\["):
        drive(Lockstep(optimizer, [OPTIONS], oracle), params)


def test_an_ambiguous_branch_is_not_judged() -> None:
    """beta2 = 1 - 1e-12: textbook float64 cannot say whether step 5 is adaptive, the exact formulas can."""
    options = {"lr": 0.1, "betas": (0.9, 1 - 1e-12), "threshold": 4.0}
    for scalars, unjudged in (("textbook", True), ("exact", False)):
        params = parameters()
        record = drive(Lockstep(radam.RAdam(params, **options), [options], oracle, scalars=scalars), params, 6).record  # type: ignore[arg-type]
        assert (record.unjudged > 0) == unjudged
        assert record.worst <= 1


def test_an_empty_parameter_and_no_gradient_at_all() -> None:
    params = [torch.nn.Parameter(torch.zeros(0, 3)), torch.nn.Parameter(torch.ones(()))]
    lockstep = Lockstep(radam.RAdam(params), [{}], oracle)
    drive(lockstep, params, 3)
    for param in params:
        param.grad = None
    lockstep.step()
    assert lockstep.record.judged == 3 * 3


# Many steps together


def followed(*, together: bool, cls: type[radam.RAdam] = radam.RAdam, **changes: Any) -> Lockstep:
    """Three parameters, the last of them two steps late, in two groups of options."""
    dtype, keep_going, scalars = (changes.pop(name, None) for name in ("dtype", "keep_going", "scalars"))
    options = [{**OPTIONS, **changes}, {**OPTIONS, "lr": 0.03, "weight_decay": 0.1, **changes}]
    first, second = parameters(dtype or torch.float64)
    late = torch.nn.Parameter(torch.full((2, 2), 0.5, dtype=dtype or torch.float64))
    groups = [{"params": [first], **options[0]}, {"params": [second, late], **options[1]}]
    more = {"keep_going": bool(keep_going), "scalars": scalars or "textbook"}
    lockstep = Lockstep(cls(groups), options, oracle, **more)
    with lockstep.together() if together else contextlib.nullcontext():
        for step in range(STEPS):
            give_gradients([first, second, late], step)
            late.grad = late.grad if step >= 2 else None
            lockstep.step()
    return lockstep


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize(
    "changes", [{}, {"amsgrad": True}, {"scalars": "exact"}, {"betas": (0.9, 1 - 1e-12), "threshold": 4.0}], ids=str
)
def test_together_the_same_is_judged(changes: dict[str, Any], dtype: torch.dtype) -> None:
    apart, together = (followed(together=each, dtype=dtype, **changes).record for each in (False, True))
    assert together.steps == apart.steps == STEPS
    assert list(together.tallies) == list(apart.tallies)
    for quantity, tally in together.tallies.items():
        other = apart.tallies[quantity]
        assert (tally.judged, tally.unjudged, tally.ulp) == (other.judged, other.unjudged, other.ulp)
        assert tally.worst is not None
        assert other.worst is not None
        assert tally.worst.worst == other.worst.worst
    assert together.judged > 100


@pytest.mark.parametrize(
    "spoil",
    [
        scaled("exp_avg", 1.01),
        scaled("exp_avg_sq", 1.01),
        lambda optimizer, param, state: param.data.mul_(1.01),
        lambda optimizer, param, state: param.grad.mul_(2.0),
        lambda optimizer, param, state: state.update(step=3),
        lambda optimizer, param, state: state.pop("exp_avg_sq"),
    ],
    ids=["m", "v", "param", "grad", "step", "missing"],
)
def test_together_the_same_is_found(spoil: Spoil) -> None:
    messages = []
    for together in (False, True):
        with pytest.raises(Discrepancy) as error:
            followed(together=together, cls=wrong(spoil))
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_together_every_finding_is_collected() -> None:
    cls = wrong(scaled("exp_avg", 1.01), at=4)
    apart, together = (followed(together=each, cls=cls, keep_going=True).record.findings for each in (False, True))
    assert sorted(together) == sorted(apart)
    assert together


def test_together_the_first_wrong_step_is_told_of() -> None:
    """Numbers that wait come before a step count that is looked at at once."""

    def spoil(optimizer: Any, param: torch.Tensor, state: dict[str, Any]) -> None:
        if state["step"] == 4:
            param.data.mul_(1.01)
        state["step"] += state["step"] == 7

    class Wrong(radam.RAdam):
        def step(self, closure: Any = None) -> Any:
            loss = super().step(closure)
            with torch.no_grad():
                param = self.param_groups[0]["params"][0]
                spoil(self, param, self.state[param])
            return loss

    with pytest.raises(Discrepancy, match=r"param\[.*step 4\]"):
        followed(together=True, cls=Wrong)


def test_together_nothing_is_left_when_the_caller_fails() -> None:
    """The first step, which is wrong, is not judged any more; those after it are, each at once."""
    params = parameters()
    lockstep = Lockstep(wrong(scaled("exp_avg", 1.01), at=1)(params, **OPTIONS), [OPTIONS], oracle)

    def fail() -> None:
        with lockstep.together():
            give_gradients(params, 0)
            lockstep.step()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert lockstep.record.judged == 0
    assert drive(lockstep, params, 2).record.judged > 0


class _OfPlainNumbers(Recurrence):
    """Its step size is computed from t and goes through no hook, as the protocol asks."""

    def apply(self, param: Any, grad: Any) -> Any:
        return param - (0.1 / self.t) * grad


class _OfTruth(Recurrence):
    """Looks at what it is given."""

    def apply(self, param: Any, grad: Any) -> Any:
        if hasattr(param, "value"):
            return param - 0.1 * grad
        raise TypeError("there are no numbers")


@pytest.mark.parametrize("cls", [_OfPlainNumbers, _OfTruth])
@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_together_an_oracle_may_be_one_that_cannot_be(cls: type[Recurrence], factor: float) -> None:
    class Descent(torch.optim.Optimizer):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            for param in self.param_groups[0]["params"]:
                t = self.state[param]["step"] = self.state[param].get("step", 0) + 1
                size = 0.1 / t if cls is _OfPlainNumbers else 0.1
                param.data.sub_(param.grad, alpha=size * (factor if t == 5 else 1.0))

    params = parameters(torch.float64)
    lockstep = Lockstep(Descent(params, {}), [{}], lambda options: cls(), state={"t": "step"})
    expected = contextlib.nullcontext() if factor == 1 else pytest.raises(Discrepancy, match="step 5")
    with expected, lockstep.together():
        for step in range(STEPS):
            give_gradients(params, step)
            lockstep.step()
    assert lockstep.record.judged > 0


# The helpers


def test_flat_gives_complex_numbers_as_pairs() -> None:
    assert flat(torch.tensor([1 + 2j, 3 - 4j]).conj()).tolist() == [1, -2, 3, 4]
    assert flat(torch.tensor(5.0)).tolist() == [5.0]
    values = torch.ones(2, dtype=torch.float64)
    flat(values)[0] = 9
    assert values[0] == 1


def test_same_bits_takes_nan_as_equal_to_nan_only() -> None:
    nan = torch.tensor([math.nan, 1.0])
    assert same_bits(nan, nan.clone())
    assert not same_bits(nan, torch.tensor([0.0, 1.0]))
    assert not same_bits(nan, nan.double())
    assert not same_bits(nan, nan.reshape(2, 1))


@pytest.mark.parametrize(
    ("dtype", "arithmetic"),
    [
        (torch.float64, 2.0**-53),
        (torch.float32, 2.0**-24),
        (torch.bfloat16, 2.0**-24),
        (torch.float16, 2.0**-24),
        (torch.complex64, 2.0**-24),
        (torch.complex128, 2.0**-53),
    ],
)
def test_arithmetic_of(dtype: torch.dtype, arithmetic: float) -> None:
    computed, storage = arithmetic_of(torch.zeros(1, dtype=dtype))
    assert computed.unit_roundoff == arithmetic
    assert storage.unit_roundoff == torch.finfo(dtype).eps / 2


def test_options_are_not_read_from_the_optimizer() -> None:
    """A wrong lr in the group of a right optimizer is the optimizer's fault."""
    params = parameters()
    optimizer = radam.RAdam(params, **OPTIONS)
    lockstep = drive(Lockstep(optimizer, [dict(OPTIONS)], oracle), params, 2)
    optimizer.param_groups[0]["lr"] = 0.2
    give_gradients(params, 9)
    with pytest.raises(Discrepancy, match="param"):
        lockstep.step()


def test_a_changed_option_is_followed() -> None:
    params = parameters()
    options: dict[str, Any] = dict(OPTIONS)
    optimizer = radam.RAdam(params, **options)
    lockstep = drive(Lockstep(optimizer, [options], oracle), params, 2)
    optimizer.param_groups[0]["lr"] = lockstep.options[0]["lr"] = 0.2
    assert drive(lockstep, params, 2).record.worst <= 1


def test_numbers_of_numpy_are_options_too() -> None:
    params = parameters()
    options: Mapping[str, Any] = {**OPTIONS, "lr": np.float64(0.1)}
    assert drive(Lockstep(radam.RAdam(params, **options), [dict(options)], oracle), params).record.worst <= 1
