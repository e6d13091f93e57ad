"""Closures, grad mode, and the hooks of torch's optimizers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch

from radam.audit import Lockstep, Subject
from radam.audit.subjects.radam import Family
from tests.subject.driving import ACROSS, CONFIGURATIONS, assert_same, follow, held, numbers, parameter, run, start

OPTIONS: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.1}
MODES = {"enable_grad": torch.enable_grad, "no_grad": torch.no_grad}
modes = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


def made(subject: Subject, family: Family) -> tuple[torch.nn.Parameter, Lockstep]:
    p = parameter((3,))
    return p, start(subject, family, [[p]], OPTIONS)


def test_options_that_a_closure_sets_count_in_its_step(subject: Subject, family: Family) -> None:
    p, lockstep = made(subject, family)
    for step in range(ACROSS):

        def closure(step: int = step) -> float:
            lr, decay = 0.1 / (step + 1), 0.2 / (step + 1)
            lockstep.optimizer.param_groups[0].update(lr=lr, weight_decay=decay)
            lockstep.options[0].update(lr=lr, weight_decay=decay)
            p.grad = numbers((3,), p.dtype, step)
            return 0.0

        lockstep.step(closure)


def test_options_that_a_closure_loads_count_in_its_step(subject: Subject, family: Family) -> None:
    """As in a line search that goes back: the groups are other objects after it."""
    p, lockstep = made(subject, family)
    for step in range(ACROSS):
        saved = copy.deepcopy(lockstep.optimizer.state_dict())

        def closure(saved: dict[str, Any] = saved, step: int = step) -> float:
            lr = 0.1 * (step % 3 + 1)
            saved["param_groups"][0]["lr"] = lockstep.options[0]["lr"] = lr
            lockstep.optimizer.load_state_dict(saved)
            p.grad = numbers((3,), p.dtype, step)
            return 0.0

        lockstep.step(closure)


@modes
@pytest.mark.parametrize("first", [0, 1, 7])
def test_a_closure_is_called_once_with_grad_enabled(
    subject: Subject, family: Family, mode: Callable[[], AbstractContextManager[Any]], first: int
) -> None:
    """Its gradients are those of the step, its result is step's; before, in and after the caller's grad mode."""
    p, lockstep = made(subject, family)
    run(lockstep, first)
    calls = []
    before_step = held(subject, lockstep.optimizer)

    def closure() -> torch.Tensor:
        calls.append(torch.is_grad_enabled())
        assert_same(held(subject, lockstep.optimizer), before_step, "in the closure, before the step does anything")
        lockstep.optimizer.zero_grad()
        loss = (p * numbers((3,), torch.float64, len(calls))).square().sum()
        loss.backward()
        return loss

    for step in range(1, ACROSS):
        with mode():
            before = torch.is_grad_enabled()
            before_step = held(subject, lockstep.optimizer)
            loss = lockstep.step(closure)
            assert torch.is_grad_enabled() == before, f"grad mode is {not before} after step(closure)"
        assert calls == [True] * step, (
            f"the closure was called with grad enabled {calls}, but should be {[True] * step}"
        )
        assert isinstance(loss, torch.Tensor)
        assert loss.grad_fn is not None, "the closure's loss has lost its graph"


@pytest.mark.parametrize("result", [1.5, 0, None, "loss", (1, 2), torch.tensor(3.0)], ids=str)
def test_step_returns_what_the_closure_returns(subject: Subject, family: Family, result: Any) -> None:
    p, lockstep = made(subject, family)

    def closure() -> Any:
        p.grad = torch.ones_like(p)
        return result

    seen = lockstep.step(closure)
    assert seen is result, f"step(closure) returned {seen!r}, but should {result!r}"


def test_gradients_from_before_the_closure_are_not_used(subject: Subject, family: Family) -> None:
    """Other values in the same tensor, another tensor, none any more, and one where none was."""
    first, second = parameter((3,)), parameter((3,), seed=1)
    lockstep = start(subject, family, [[first, second]], OPTIONS)

    def in_place() -> None:
        assert first.grad is not None
        first.grad.mul_(-3.0)

    def another() -> None:
        first.grad = numbers((3,), torch.float64, 5)

    def swap() -> None:
        first.grad, second.grad = second.grad, first.grad

    first.grad = numbers((3,), torch.float64, 1)
    for closure in (in_place, swap, another, swap, in_place, another, swap, another, in_place, swap):
        if first.grad is None and closure is in_place:
            first.grad = torch.ones_like(first)
        lockstep.step(closure)


def test_parameters_that_the_closure_changes_are_stepped_from_there(subject: Subject, family: Family) -> None:
    p, lockstep = made(subject, family)

    def closure() -> None:
        with torch.no_grad():
            p.add_(1.0)
        p.grad = torch.ones_like(p)

    for _ in range(ACROSS):
        lockstep.step(closure)


@modes
@pytest.mark.parametrize("first", [0, 7])
def test_an_exception_in_the_closure_leaves_all_as_it_was(
    subject: Subject, family: Family, mode: Callable[[], AbstractContextManager[Any]], first: int
) -> None:
    p, lockstep = made(subject, family)
    run(lockstep, first)
    before = held(subject, lockstep.optimizer)

    def closure() -> None:
        p.grad = torch.ones_like(p)
        raise LookupError("from the closure")

    with mode():
        enabled = torch.is_grad_enabled()
        with pytest.raises(LookupError, match="from the closure"):
            lockstep.optimizer.step(closure)
        assert torch.is_grad_enabled() == enabled, f"grad mode is {not enabled} after an exception"
    assert_same(held(subject, lockstep.optimizer), before, "an exception in the closure")
    run(lockstep, 3, 1)


@modes
def test_step_in_either_grad_mode(
    subject: Subject, family: Family, mode: Callable[[], AbstractContextManager[Any]]
) -> None:
    """The same numbers, None as its result, and nothing that autograd would keep."""
    for options in CONFIGURATIONS.values():
        for dtype in (torch.float64, torch.bfloat16, torch.complex64):
            p = parameter((3,), dtype)
            lockstep = start(subject, family, [[p]], options)
            for step in range(ACROSS):
                p.grad = numbers((3,), dtype, step)
                with mode():
                    before = torch.is_grad_enabled()
                    result = lockstep.step()
                    assert torch.is_grad_enabled() == before, f"grad mode is {not before} after step()"
                assert result is None, f"step() returned {result!r}, but should None"
                assert p.requires_grad
                assert p.is_leaf, "a step has made the parameter part of a graph"
            for key in (subject.state["m"], subject.state["v"]):
                assert not lockstep.optimizer.state[p][key].requires_grad, f"{key} requires grad"


def test_hooks_before_and_after_a_step(subject: Subject, family: Family) -> None:
    """Once each, in order; a gradient that the first sets is the step's."""
    p = parameter((3,))
    optimizer = family.build([p], OPTIONS)
    events: list[str] = []

    def before(*_: Any) -> None:
        events.append("before")

    def after(*_: Any) -> None:
        events.append("after")

    handles = optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)
    lockstep = follow(subject, optimizer, [OPTIONS])
    run(lockstep, 3)
    assert events == ["before", "after"] * 3, f"hooks ran as {events}, but should once before and once after each step"
    for handle in handles:
        handle.remove()
    run(lockstep, 3)
    assert len(events) == 6, "removed hooks have run"


def test_many_steps_on_the_gradients_of_one_backward(subject: Subject, family: Family) -> None:
    """Steps do not use gradients up."""
    p, lockstep = made(subject, family)
    p.grad = numbers((3,), torch.float64, 1)
    for _ in range(12):
        lockstep.step()
