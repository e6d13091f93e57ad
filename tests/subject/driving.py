"""Ways to make a subject, to drive it in lock-step, and to see what it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from radam.audit import Lockstep, Subject
from radam.audit.lockstep import same_bits
from radam.audit.subjects.radam import Family

DECAY_KIND = ("weight_decouple", "absolute")
"""Options of the decay object, the same for all groups."""

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "decoupled decay": {"lr": 0.1, "weight_decay": 0.25},
    "absolute decay": {"lr": 0.1, "weight_decay": 0.25, "absolute": True},
    "L2": {"lr": 0.1, "weight_decay": 0.25, "weight_decouple": False},
    "AMSGrad, maximize": {"lr": 0.1, "betas": (0.8, 0.9), "amsgrad": True, "maximize": True, "weight_decay": 0.01},
    "eps after the bias correction": {"lr": 0.1, "eps": 0.01, "optimized_update": False, "betas": (0.7, 0.95)},
    "held below the threshold": {"lr": 0.1, "degenerated_to_sgd": False, "weight_decay": 0.25, "threshold": 4.5},
}
"""Options that together use every path; all have their first adaptive step at t = 5 or 6."""

ACROSS = 9
"""Steps that take each of them across its boundary."""


HERE = torch.device("cpu")
"""Where numbers are made: the device that pytest is given."""


def numbers(shape: Sequence[int], dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Normal numbers times powers of ten: three decades within one tensor."""
    rng = np.random.default_rng(seed)
    values = torch.from_numpy(np.asarray(rng.standard_normal(shape) * 10.0 ** rng.uniform(-2, 1, shape)))
    if dtype.is_complex:
        values = torch.complex(values, torch.from_numpy(np.asarray(rng.standard_normal(shape))))
    return values.to(dtype).to(HERE)


def parameter(
    shape: Sequence[int] = (3,), dtype: torch.dtype = torch.float64, *, seed: int = 0, scale: float = 1.0
) -> torch.nn.Parameter:
    """A contiguous parameter."""
    return torch.nn.Parameter(numbers(shape, dtype, seed + 1000) * scale)


def set_gradients(params: Sequence[torch.Tensor], seed: int, scale: float = 1.0) -> None:
    """Give each parameter a new gradient."""
    for i, param in enumerate(params):
        param.grad = numbers(param.shape, param.dtype, 7919 * seed + i) * scale


def params_of(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """All parameters, in order."""
    return [param for group in optimizer.param_groups for param in group["params"]]


def follow(subject: Subject, optimizer: torch.optim.Optimizer, options: Sequence[Mapping[str, Any]]) -> Lockstep:
    """An oracle for an optimizer, from its state as it stands."""
    assert subject.oracle is not None
    return Lockstep(
        optimizer,
        [dict(own) for own in options],
        subject.oracle,
        state=subject.state,
        scalars=subject.scalars,
        describe=f"{subject.name}({', '.join(map(str, options))})",
    )


def start(
    subject: Subject,
    family: Family,
    groups: Sequence[Sequence[torch.Tensor]],
    options: Mapping[str, Any] | None = None,
    own: Sequence[Mapping[str, Any]] = (),
    **more: Any,
) -> Lockstep:
    """An optimizer over groups of parameters, and the oracle that follows it.

    Args:
        groups: the parameters of each group; a single group without options of its own is passed as a plain list.
        options: the constructor's options, in neutral form.
        own: options that each group has in their place.
        more: goes to the constructor as it is.
    """
    options = options or {}
    if len(groups) == 1 and not own:
        return follow(subject, family.build(list(groups[0]), options, **more), [options])
    own = own or [{}] * len(groups)
    dicts = [{"params": list(params), **given} for params, given in zip(groups, own, strict=True)]
    return follow(subject, family.build(dicts, options, **more), [{**options, **given} for given in own])


def run(lockstep: Lockstep, steps: int, seed: int = 0, scale: float = 1.0) -> None:
    """Take judged steps, each on new gradients."""
    with lockstep.together():
        for step in range(steps):
            set_gradients(params_of(lockstep.optimizer), 101 * seed + step, scale)
            lockstep.step()


def assert_judged(lockstep: Lockstep) -> None:
    """Whatever a test of ordinary numbers compares, it must compare all of it."""
    assert lockstep.record.judged > 0, "nothing was compared"
    assert lockstep.record.unjudged == 0, (
        f"{lockstep.record.unjudged} values have no bound, but none should be left out"
    )


def held(subject: Subject, optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """A copy of each parameter and of its state, in order; `step` as a number."""
    result = []
    for param in params_of(optimizer):
        stored = optimizer.state.get(param, {})
        entry: dict[str, Any] = {"param": param.detach().clone()}
        for symbol, key in subject.state.items():
            if key in stored:
                value = stored[key]
                entry[key] = float(value) if symbol == "t" else value.detach().clone()
        result.append(entry)
    return result


def assert_same(
    seen: Sequence[Mapping[str, Any]],
    expected: Sequence[Mapping[str, Any]],
    call: str,
) -> None:
    """Two results of :func:`held` are the same, bit for bit."""
    assert len(seen) == len(expected), f"{len(seen)} parameters, but should be {len(expected)} [{call}]"
    for index, (one, other) in enumerate(zip(seen, expected, strict=True)):
        assert set(one) == set(other), f"parameter {index} has {sorted(one)}, but should have {sorted(other)} [{call}]"
        for key in one:
            a, b = one[key], other[key]
            same = same_bits(a, b) if isinstance(a, torch.Tensor) else a == b
            assert same, f"{key} of parameter {index} = {a}, but should be {b}, bit for bit [{call}]"
