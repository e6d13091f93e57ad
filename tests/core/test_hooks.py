"""Hooks of a step, and what profilers see of it: as of torch's own optimizers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.profiler import ProfilerActivity, profile

import radam
from radam import hooks
from tests.core.helpers import parameter, params_of

REGISTER: dict[str, Callable[[torch.optim.Optimizer, Any], Any]] = {
    "pre": lambda optimizer, hook: optimizer.register_step_pre_hook(hook),
    "post": lambda optimizer, hook: optimizer.register_step_post_hook(hook),
    "pre of all": lambda optimizer, hook: register_optimizer_step_pre_hook(hook),
    "post of all": lambda optimizer, hook: register_optimizer_step_post_hook(hook),
}


def optimizers() -> list[torch.optim.Optimizer]:
    """radam's, and torch's for comparison."""
    return [radam.RAdam([parameter()]), radam.Adam([parameter()]), torch.optim.RAdam([parameter()])]


@pytest.mark.parametrize("kinds", [*([kind] for kind in REGISTER), list(REGISTER)], ids=str)
@pytest.mark.parametrize("optimizer", optimizers(), ids=lambda optimizer: type(optimizer).__module__)
def test_hooks_are_called_once_a_step(optimizer: torch.optim.Optimizer, kinds: list[str]) -> None:
    calls: list[tuple[str, Any, Any, Any]] = []
    handles = [
        REGISTER[kind](optimizer, lambda *given, kind=kind: calls.append((kind, *given)))  # type: ignore[misc]
        for kind in kinds
    ]
    try:
        optimizer.step()
        in_order = [kind for kind in ("pre of all", "pre", "post", "post of all") if kind in kinds]
        assert calls == [(kind, optimizer, (optimizer,), {}) for kind in in_order]
        calls.clear()
        assert optimizer.step(closure=lambda: 2.0) == 2.0
        assert [(kind, *arguments) for kind, _, _, arguments in calls] == [(kind, "closure") for kind in in_order]
    finally:
        for handle in handles:
            handle.remove()
    calls.clear()
    optimizer.step()
    assert calls == []


def test_a_pre_hook_may_change_the_closure() -> None:
    optimizer = radam.RAdam([parameter()])
    optimizer.register_step_pre_hook(lambda optimizer, args, kwargs: ((optimizer, lambda: 7.0), {}))
    assert optimizer.step() == 7.0


@pytest.mark.parametrize("closure", [None, lambda: 3.0])
@pytest.mark.parametrize("by_name", [False, True])
def test_the_closure_is_handed_on(closure: Any, by_name: bool) -> None:
    optimizer = radam.RAdam([parameter()])
    seen = optimizer.step(closure=closure) if by_name else optimizer.step(closure)
    assert seen == (closure() if closure else None)


@pytest.mark.parametrize("hooked", [False, True])
def test_a_profile_has_the_label_of_each_step(hooked: bool) -> None:
    optimizer = radam.RAdam([parameter()])
    if hooked:
        optimizer.register_step_post_hook(lambda *_: None)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(3):
            optimizer.step()
    counts = {event.key: event.count for event in seen.key_averages()}
    assert counts["Optimizer.step#RAdam.step"] == 3


def test_a_class_of_ones_own_is_wrapped_too() -> None:
    class Mine(radam.RAdam):
        """Calls its base's step, which is wrapped as well once an optimizer of its class has been made."""

        def step(self, closure: Any = None) -> Any:
            self.taken = super().step(closure)
            return "mine"

    optimizer = Mine([parameter()])
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        assert optimizer.step(lambda: 1.0) == "mine"
    assert optimizer.taken == 1.0
    assert "pre" in calls
    assert "Optimizer.step#Mine.step" in {event.key for event in seen.key_averages()}


def test_an_error_passes_through() -> None:
    optimizer = radam.RAdam([parameter()])
    params_of(optimizer)[0].grad = torch.zeros(3).to_sparse()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()


def test_without_what_is_private_to_torch_its_own_wrapper_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def wrapped(step: Any) -> Any:
        calls.append(step)
        return step

    monkeypatch.setattr(hooks, "_Label", None)
    monkeypatch.setattr(torch.optim.Optimizer, "profile_hook_step", staticmethod(wrapped))
    assert hooks.around(len) is len
    assert calls == [len]


@pytest.mark.parametrize("cls", [radam.RAdam, radam.Adam])
def test_what_is_around_a_step_keeps_its_name_and_signature(cls: Any) -> None:
    """As help() and editors show them, after the first optimizer of a class has been made."""
    cls([parameter()])
    assert cls.step.__name__ == "step"
    assert cls.step.__doc__.startswith("Take one step.")
    assert list(inspect.signature(cls.step).parameters) == ["self", "closure"]
