"""Runs that show what a PyTorch RAdam computes: which options, gradients and events there are."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Build = Callable[[Any, Mapping[str, Any]], Any]
"""Makes an optimizer of parameters or groups, and of options that are named as torch names them."""

# rho_t is 5.0 exactly, in the arithmetic of Python, at the step named.
RHO_IS_FIVE = {6: 0.8397685748659791, 7: 0.7678067796924252, 9: 0.7074214607621472, 10: 0.6937178744260639}


@dataclass(frozen=True)
class Case:
    """Options and events of a run."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {})
    reload_before: int = 0
    lr_before: Mapping[int, float] = field(default_factory=dict)
    dtype: torch.dtype = torch.float64
    scale: float = 1.0
    missing: int = 0


CASES = (
    Case("lr 0.1", {"lr": 0.1}),
    Case("lr 0.1, betas 0.8 0.9", {"lr": 0.1, "betas": (0.8, 0.9)}),
    Case("lr 0.1, betas 0.9 0.8", {"lr": 0.1, "betas": (0.9, 0.8)}),
    Case("lr 0.1, eps 0.01", {"lr": 0.1, "eps": 0.01}),
    Case("lr 0.1, gradients of 1e-8", {"lr": 0.1}, scale=1e-8),
    Case("lr 0.1, coupled decay 0.1", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": False}),
    Case("lr 0.1, decoupled decay 0.1", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    Case("lr 0.1, maximize", {"lr": 0.1, "maximize": True}),
    Case(
        "lr 0.1, coupled decay 0.1, maximize",
        {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": False, "maximize": True},
    ),
    Case("two lr", {"lr": 0.1}, groups=({}, {"lr": 0.01})),
    Case("two betas", {"lr": 0.1}, groups=({}, {"betas": (0.7, 0.9)})),
    Case("two eps", {"lr": 0.1}, groups=({}, {"eps": 0.1})),
    Case("two decays", {"lr": 0.1}, groups=({}, {"weight_decay": 0.1})),
    Case("lr changed", {"lr": 0.1}, lr_before={5: 0.01, 8: 0.2}),
    Case("state loaded", {"lr": 0.1}, reload_before=5),
    Case("complex", {"lr": 0.1}, dtype=torch.complex128),
    Case("a gradient missing", {"lr": 0.1}, missing=3),
    *(Case(f"rho_{t} is 5", {"lr": 0.1, "betas": (0.9, beta)}) for t, beta in RHO_IS_FIVE.items()),
)
STEPS = 11


def gradient(t: int, index: int, like: Tensor, scale: float) -> Tensor:
    """Another number for each element, parameter and step; of both signs, and not near zero."""
    count = like.numel() * (2 if like.is_complex() else 1)
    i = torch.arange(count, dtype=torch.float64)
    wave = torch.cos(1.3 + 2.1 * i + 0.8 * t + 0.5 * index) + 0.3
    wave = torch.where(wave.abs() < 0.05, wave + 0.2, wave) * scale
    shaped = torch.view_as_complex(wave.reshape(-1, 2)) if like.is_complex() else wave
    return shaped.reshape(like.shape).to(like.dtype)


def run(build: Build, case: Case) -> list[float]:
    """All parameters after each step."""
    starts = ([0.5, -1.0, 2.0], [1.5, 0.25])
    params = [torch.nn.Parameter(torch.tensor(values, dtype=torch.float64).to(case.dtype)) for values in starts]

    def make() -> Any:
        groups = [{"params": [p], **more} for p, more in zip(params, case.groups, strict=True)]
        return build(groups, case.options)

    optimizer = make()
    seen: list[float] = []
    for t in range(1, STEPS + 1):
        if t == case.reload_before:
            state = copy.deepcopy(optimizer.state_dict())
            optimizer = make()
            optimizer.load_state_dict(state)
        if t in case.lr_before:
            for group in optimizer.param_groups:
                group["lr"] = case.lr_before[t]
        for index, p in enumerate(params):
            p.grad = None if t == case.missing and index == 1 else gradient(t, index, p, case.scale)
        optimizer.step()
        for p in params:
            values = torch.view_as_real(p.detach()) if p.is_complex() else p.detach()
            seen += values.double().flatten().tolist()
    return seen
