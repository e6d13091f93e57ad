"""What the state is kept in, and long ways in every dtype within the bound that accumulates."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from radam.audit import Subject
from radam.audit.lockstep import Trajectory
from radam.audit.subjects.radam import Family
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

MOMENTS = {
    torch.float64: torch.float64,
    torch.float32: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
    torch.complex64: torch.complex64,
    torch.complex128: torch.complex128,
}
"""The dtype of the moments of a parameter."""

everywhere = pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS)


def assert_dtypes(subject: Subject, optimizer: torch.optim.Optimizer, call: str) -> None:
    """The moments of each parameter are of the dtype that belongs to it."""
    for param in params_of(optimizer):
        for symbol in ("m", "v", "s"):
            seen = optimizer.state[param][subject.state[symbol]].dtype
            expected = MOMENTS[param.dtype]
            assert seen == expected, (
                f"{subject.state[symbol]} is {seen}, but should be {expected} [{param.dtype}, {call}]"
            )


def test_the_dtype_of_the_moments(subject: Subject, family: Family) -> None:
    """From the first step on; after a round trip of the state, a copy and a pickle; and ten steps later."""
    options = {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1}

    def fresh() -> list[torch.nn.Parameter]:
        return [parameter((3,), dtype) for dtype in MOMENTS]

    lockstep = start(subject, family, [fresh()], options)
    run(lockstep, 1)
    assert_dtypes(subject, lockstep.optimizer, "step 1")
    run(lockstep, 7)
    loaded = family.build(fresh(), options)
    loaded.load_state_dict(copy.deepcopy(lockstep.optimizer.state_dict()))
    others = {
        "load_state_dict": loaded,
        "deepcopy": copy.deepcopy(lockstep.optimizer),
        "pickle": pickle.loads(pickle.dumps(lockstep.optimizer)),
    }
    for call, optimizer in others.items():
        assert_dtypes(subject, optimizer, call)
        run(follow(subject, optimizer, [options]), 10, 1)
        assert_dtypes(subject, optimizer, f"ten steps after {call}")


def test_a_step_keeps_the_dtype_of_the_parameter(subject: Subject, family: Family) -> None:
    params = [parameter((3,), dtype) for dtype in MOMENTS]
    lockstep = start(subject, family, [params], {"lr": 0.1, "weight_decay": 0.1})
    run(lockstep, ACROSS)
    assert [param.dtype for param in params] == list(MOMENTS)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Tensors made of Python numbers have this dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@everywhere
@pytest.mark.parametrize("default", [torch.float64, torch.float16, torch.bfloat16])
def test_the_default_dtype_plays_no_part(
    subject: Subject, family: Family, options: dict[str, Any], default: torch.dtype
) -> None:
    """Set while the optimizer is built, while it steps, or both; bfloat16 could not count a thousand steps."""
    for building, stepping in ((default, default), (torch.float32, default), (default, torch.float32)):
        with default_dtype(building):
            params = [parameter((3,), dtype) for dtype in (torch.float64, torch.float32, torch.bfloat16)]
            lockstep = start(subject, family, [params], options)
        with default_dtype(stepping):
            run(lockstep, ACROSS)
            for param in params:
                lockstep.jump(param, 1000)
            run(lockstep, 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_updates_of_half_precision_are_rounded_not_lost(
    subject: Subject, family: Family, dtype: torch.dtype
) -> None:
    """m and v remember gradients whose squares are nothing in float16; the parameter moves as soon as a step counts."""
    p = parameter((5,), dtype, scale=1e-3)
    before = p.detach().clone()
    lockstep = start(subject, family, [[p]], {"lr": 1e-3})
    for step in range(20):
        p.grad = torch.full_like(p, 1e-4)
        lockstep.step()
        assert p.detach().isfinite().all(), f"p = {p} at step {step + 1}"
    assert (lockstep.optimizer.state[p][subject.state["v"]] > 0).all(), "v of gradients of 1e-4 is 0"
    assert not torch.equal(p.detach(), before), "the parameter has not moved"


@pytest.mark.parametrize("steps", [0, 7])
def test_what_leaves_the_range_of_float16_is_infinite(subject: Subject, family: Family, steps: int) -> None:
    p = parameter((2,), torch.float16)
    lockstep = start(subject, family, [[p]], {"lr": 0.0})
    run(lockstep, steps)
    lockstep.optimizer.param_groups[0]["lr"] = lockstep.options[0]["lr"] = 8000.0
    with torch.no_grad():
        p.copy_(torch.tensor([65000.0, 1.0]))
    for _ in range(3):
        p.grad = torch.tensor([-1000.0, 0.0], dtype=torch.float16)
        lockstep.step()
    assert p[0].item() == torch.inf, f"p = {p}, but has left the range of float16"


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, torch.float64) for name in CONFIGURATIONS),
        *((name, dtype) for name in ("L2", "AMSGrad, maximize") for dtype in (torch.float32, torch.bfloat16)),
        ("defaults", torch.complex64),
    ],
)
def test_three_hundred_steps(subject: Subject, family: Family, name: str, dtype: torch.dtype) -> None:
    """A free oracle from the same start, on the same gradients: within the bound that has accumulated."""
    options = CONFIGURATIONS[name]
    p = parameter((6,), dtype, scale=3.0)
    optimizer = family.build([p], options)
    assert subject.oracle is not None
    trajectory = Trajectory(p, subject.oracle(options), scalars=subject.scalars)
    for step in range(1, 301):
        p.grad = numbers((6,), dtype, step)
        trajectory.observe()
        optimizer.step()
        if step in (1, 5, 6, 7, 20, 100, 300):
            for comparison in trajectory.judge(optimizer.state[p], subject.state):
                assert comparison.passed, f"{comparison} [{options}, {dtype}, step {step}, from step 1]"
                assert comparison.judged > 0


def test_complex_is_a_pair_of_reals(subject: Subject, family: Family) -> None:
    """The same as a real parameter of twice the size, up to the bounds that both are judged by."""
    for options in CONFIGURATIONS.values():
        z = parameter((4,), torch.complex128)
        x = torch.nn.Parameter(torch.view_as_real(z.detach()).clone())
        complex_one, real_one = start(subject, family, [[z]], options), start(subject, family, [[x]], options)
        for step in range(ACROSS):
            set_gradients([z], step)
            assert z.grad is not None
            x.grad = torch.view_as_real(z.grad).clone()
            complex_one.step()
            real_one.step()
        assert_judged(complex_one)
        assert_judged(real_one)


@pytest.mark.parametrize("more", [{}, {"optimized_update": False}, {"weight_decouple": False}], ids=str)
@pytest.mark.parametrize("eps", [1.23456789e-3, 1e-7, 1e-16, 6e-9])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_no_scalar_is_rounded_to_half(
    subject: Subject, family: Family, dtype: torch.dtype, eps: float, more: dict[str, Any]
) -> None:
    """From p = 0, with sqrt(v) about as large as eps, an option rounded to half shows in some of many elements."""
    options = {"lr": 0.0123456789, "betas": (0.87654321, 0.98765432), "eps": eps, "weight_decay": 0.0123456789, **more}
    param = parameter((400,), dtype, scale=0.0)
    lockstep = start(subject, family, [[param]], options)
    for step in range(12):
        set_gradients([param], step, max(eps, 1e-6))
        assert param.grad is not None
        param.grad[::3] = 0.0
        lockstep.step()
