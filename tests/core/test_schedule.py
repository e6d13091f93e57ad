"""The scalars of a step, without a tensor of parameters, against the reference run in 60 digits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import radam
import reference
from radam.audit.strategies import betas
from radam.schedule import Kind, Step

OPTIMIZER = radam.RAdam([torch.nn.Parameter(torch.zeros(1))])
ADAM = radam.Adam([torch.nn.Parameter(torch.zeros(1))])
KINDS = {
    "adaptive": Kind.ADAPTIVE,
    "momentum": Kind.MOMENTUM,
    "hold": Kind.HOLD,
    "variance_only": Kind.VARIANCE_ONLY,
}

sizes = st.one_of(st.just(0.0), st.floats(1e-200, 1e100))
common = {"lr": sizes, "betas": betas(), "eps": sizes, "optimized_update": st.booleans()}
radam_options = st.fixed_dictionaries(
    {
        **common,
        "threshold": st.one_of(st.sampled_from((4.0, 5.0)), st.floats(4, 50)),
        "degenerated_to_sgd": st.booleans(),
    }
)
adam_options = st.fixed_dictionaries({**common, "variance_warmup": st.integers(0, 20)})
steps = st.one_of(st.integers(1, 12), st.integers(1, 500), st.integers(1, 10**5))


def expected_scalars(make: Any, options: Mapping[str, Any], t: int) -> list[Any]:
    """The scalars that a reference optimizer of mpmath numbers lets through its hook at step t: size, then e."""
    with mpmath.workdps(60):
        precise = {name: mpmath.mpf(value) if isinstance(value, float) else value for name, value in options.items()}
        precise["betas"] = tuple(mpmath.mpf(beta) for beta in options["betas"])
        oracle = make(**precise)
        scalars: list[Any] = []

        def record(value: Any, relative_error: float) -> Any:
            scalars.append(value)
            return value

        oracle.scalar = record
        one = np.array([mpmath.mpf(1)], dtype=object)
        oracle.t, oracle.m, oracle.v = t, one, one
        oracle.apply(one, one)
        return scalars


def assert_within(computed: float, exact: Any, relative_error: float) -> None:
    with mpmath.workdps(60):
        assert abs(mpmath.mpf(computed) - exact) <= relative_error * abs(exact), (computed, mpmath.nstr(exact, 20))


def check(step: Step, make: Any, options: Mapping[str, Any], t: int) -> None:
    oracle = make(**options)
    error = oracle.scalar_error(t, "exact")
    assume(error.decided)
    assert step.kind is KINDS[oracle.branch(t)]
    if step.kind not in (Kind.ADAPTIVE, Kind.MOMENTUM):
        return
    size, *eps = expected_scalars(make, options, t)
    assert_within(float(step.size), size, error.size)
    if step.kind is Kind.ADAPTIVE:
        assert_within(step.eps, eps[0], error.eps)
        if options["optimized_update"]:
            assert step.eps == options["eps"]


@given(options=radam_options, t=steps)
def test_radam_to_the_last_bits(options: dict[str, Any], t: int) -> None:
    check(OPTIMIZER.schedule(t, {**OPTIMIZER.defaults, **options}), reference.RAdam, options, t)


@given(options=adam_options, t=steps)
def test_adam_to_the_last_bits(options: dict[str, Any], t: int) -> None:
    check(ADAM.schedule(t, {**ADAM.defaults, **options}), reference.Adam, options, t)


@pytest.mark.parametrize(
    ("t", "options", "kind"),
    [
        (5, {}, Kind.MOMENTUM),
        (6, {}, Kind.ADAPTIVE),
        (5, {"threshold": 4.0}, Kind.ADAPTIVE),
        (5, {"degenerated_to_sgd": False}, Kind.HOLD),
        (6, {"degenerated_to_sgd": False}, Kind.ADAPTIVE),
        (10**6, {"betas": (0.9, 0.6)}, Kind.MOMENTUM),
        (10**6, {"betas": (0.9, 0.6), "threshold": 4.0, "degenerated_to_sgd": False}, Kind.HOLD),
        (10**6, {"betas": (0.9, 0.65)}, Kind.MOMENTUM),
    ],
)
def test_kinds_of_radam(t: int, options: dict[str, Any], kind: Kind) -> None:
    assert OPTIMIZER.schedule(t, {**OPTIMIZER.defaults, **options}).kind is kind


@pytest.mark.parametrize(
    ("t", "warmup", "kind"),
    [(1, 0, Kind.ADAPTIVE), (2000, 2000, Kind.VARIANCE_ONLY), (2001, 2000, Kind.ADAPTIVE), (1, 1, Kind.VARIANCE_ONLY)],
)
def test_kinds_of_adam(t: int, warmup: int, kind: Kind) -> None:
    assert ADAM.schedule(t, {**ADAM.defaults, "variance_warmup": warmup}).kind is kind


def test_momentum_counts_its_steps_from_the_end_of_the_warm_up() -> None:
    group = {**ADAM.defaults, "lr": 1.0, "betas": (0.5, 0.0), "variance_warmup": 7}
    assert [ADAM.schedule(t, group).size for t in (8, 9)] == [2.0, 4 / 3]


@pytest.mark.parametrize("optimizer", [OPTIMIZER, ADAM])
def test_after_a_billion_steps_nothing_is_left_to_correct(optimizer: radam.RAdam | radam.Adam) -> None:
    """r, 1 - b1^t and 1 - b2^t are 1 to within 1e-13: r falls short of 1 by t b2^t, which is 0."""
    step = optimizer.schedule(10**9, optimizer.defaults)
    assert step.kind is Kind.ADAPTIVE
    error = reference.RAdam().scalar_error(10**9, "exact").size
    assert abs(float(step.size) - 1e-3) <= error * 1e-3


@pytest.mark.parametrize("t", [1, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tensor_lr_counts_as_its_number(t: int, dtype: torch.dtype) -> None:
    lr = torch.tensor([0.1], dtype=dtype)
    for optimizer in (OPTIMIZER, ADAM):
        assert optimizer.schedule(t, {**optimizer.defaults, "lr": lr}) == optimizer.schedule(
            t, {**optimizer.defaults, "lr": float(lr)}
        )


@pytest.mark.parametrize("t", [1, 100])
def test_a_tensor_lr_takes_part_in_differentiation(t: int) -> None:
    lr = torch.tensor(0.1, requires_grad=True)
    size = OPTIMIZER.schedule(t, {**OPTIMIZER.defaults, "lr": lr}).size
    assert isinstance(size, torch.Tensor)
    assert size.dtype == torch.float64
    (derivative,) = torch.autograd.grad(size, lr)
    assert derivative == pytest.approx(float(size.detach() / lr.detach()), rel=2.0**-23)
    with torch.no_grad():
        assert isinstance(OPTIMIZER.schedule(t, {**OPTIMIZER.defaults, "lr": lr}).size, float)
