"""What an optimizer keeps alive: its parameters and their state, and nothing that grows."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import pytest
import torch

from radam.audit import Subject
from radam.audit.checks.memory import largest_container
from radam.audit.subjects.radam import Family
from tests.subject.driving import CONFIGURATIONS, numbers, parameter, params_of, set_gradients

everywhere = pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.complex64)


def tensors_alive() -> int:
    gc.collect()
    # Not isinstance, which asks lazy modules for their class.
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def stepped(optimizer: torch.optim.Optimizer, steps: int, first: int = 0) -> None:
    for step in range(first, first + steps):
        optimizer.zero_grad()
        set_gradients(params_of(optimizer), step)
        optimizer.step()


def test_the_number_of_tensors_does_not_grow(family: Family) -> None:
    """From step 8 to step 38 of every configuration, with lr changing at every step."""
    optimizers = [
        family.build([parameter((3,), dtype) for dtype in DTYPES], options) for options in CONFIGURATIONS.values()
    ]
    for optimizer in optimizers:
        stepped(optimizer, 8)
    before = tensors_alive()
    for optimizer in optimizers:
        for step in range(30):
            optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
            stepped(optimizer, 1, step)
    after = tensors_alive()
    assert after <= before, f"{after} tensors are alive after 30 more steps, but should be {before}"


@everywhere
def test_the_state_does_not_grow(subject: Subject, family: Family, options: dict[str, Any]) -> None:
    """The same entries of the same sizes after 2, 8 and 38 steps, in state, groups and the state_dict."""
    optimizer = family.build([parameter((3,), dtype) for dtype in DTYPES], options)

    def sizes() -> list[Any]:
        states = [
            sorted((key, value.numel() if isinstance(value, torch.Tensor) else 1) for key, value in state.items())
            for state in optimizer.state.values()
        ]
        return [states, [sorted(group) for group in optimizer.param_groups], sorted(optimizer.state_dict())]

    stepped(optimizer, 2)
    expected = sizes()
    assert len(optimizer.state) == len(DTYPES), f"state has {len(optimizer.state)} entries, but should {len(DTYPES)}"
    for steps in (6, 30):
        stepped(optimizer, steps)
        seen = sizes()
        assert seen == expected, f"state is {seen}, but should stay {expected} [{options}]"


@everywhere
def test_the_state_is_two_moments_and_their_maximum(family: Family, options: dict[str, Any]) -> None:
    """What a checkpoint holds of each element: m, v and the maximum, used or not; the rest is a few numbers."""
    for dtype in DTYPES:
        p = parameter((32, 32), dtype)
        optimizer = family.build([p], options)
        stepped(optimizer, 7)
        sizes = {key: value.numel() for key, value in optimizer.state[p].items() if isinstance(value, torch.Tensor)}
        allowed = 3.5 * p.numel()
        assert sum(sizes.values()) < allowed, f"state holds {sizes}, but should hold at most 3 numbers of each element"


@pytest.mark.parametrize("steps", [1, 7])
def test_gradients_and_losses_are_let_go(family: Family, steps: int) -> None:
    """After zero_grad no one holds the gradients, nor the loss that a closure returned, nor its graph."""
    alive: list[tuple[str, weakref.ref[Any]]] = []
    optimizers = []
    for name, options in CONFIGURATIONS.items():
        params = [parameter((3,), dtype) for dtype in DTYPES]
        optimizer = family.build(params, options)
        optimizers.append(optimizer)
        stepped(optimizer, steps)

        def closure(params: list[torch.nn.Parameter] = params) -> torch.Tensor:
            loss = torch.stack([(p * numbers((3,), p.dtype, 1)).abs().sum().double() for p in params]).sum()
            loss.backward()
            return loss

        loss = optimizer.step(closure)
        alive += [(f"a gradient [{name}]", weakref.ref(p.grad)) for p in params if p.grad is not None]
        alive.append((f"a loss [{name}]", weakref.ref(loss)))
        del loss
        optimizer.zero_grad()
    gc.collect()
    kept = [name for name, reference in alive if reference() is not None]
    assert not kept, f"still alive after zero_grad: {kept}"


def test_an_optimizer_is_let_go_with_its_parameters(subject: Subject, family: Family) -> None:
    """No registry keeps them."""
    alive: list[tuple[str, weakref.ref[Any]]] = []
    for name, options in CONFIGURATIONS.items():
        p = parameter((3,))
        optimizer = family.build([p], options)
        stepped(optimizer, 7)
        for what, thing in (
            ("parameter", p),
            ("optimizer", optimizer),
            ("state", optimizer.state[p][subject.state["m"]]),
        ):
            alive.append((f"{what} [{name}]", weakref.ref(thing)))
        del p, optimizer, thing
    gc.collect()
    kept = [name for name, reference in alive if reference() is not None]
    assert not kept, f"still alive without any reference: {kept}"


def test_nothing_is_remembered_of_each_step(family: Family) -> None:
    """A cache may have a limit, but not an entry for every step there ever was."""
    steps = 1500
    optimizer = family.build([parameter((1,))], {})
    param = params_of(optimizer)[0]
    param.grad = torch.ones_like(param)
    sizes = []
    for _ in range(2):
        for _ in range(steps):
            optimizer.step()
        sizes.append(largest_container(optimizer))
    assert sizes[1] - sizes[0] < steps // 2, f"a container grew from {sizes[0]} to {sizes[1]} in {steps} steps"


def test_nothing_of_former_states_is_kept(subject: Subject, family: Family) -> None:
    """Each load_state_dict lets go what was there before."""
    optimizer = family.build([parameter((3,))], {"amsgrad": True})
    former: list[weakref.ref[torch.Tensor]] = []
    for step in range(5):
        stepped(optimizer, 1, step)
        (state,) = optimizer.state.values()
        former += [weakref.ref(state[subject.state[symbol]]) for symbol in ("m", "v", "s")]
        del state
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    gc.collect()
    alive = sum(ref() is not None for ref in former)
    assert not alive, f"{alive} tensors of former states are alive"
