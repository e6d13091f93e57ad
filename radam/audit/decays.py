"""Which options of an optimizer decay its parameters: by their names, or by what they do where gradients are zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

NAMES = ("weight_decay", "lambd")
"""The usual one, and ASGD's."""
_OTHERS = ("lr", "betas", "eps", "momentum", "alpha", "rho")
"""Options of another meaning wherever they occur: at 0 some of them stop a step altogether."""


def decays_among(build: Callable[..., Any], options: Mapping[str, Any], values: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of some options that decay: by name, or because a parameter with zero gradients moves until they are 0.

    Args:
        build: makes an optimizer of parameters and options.
        options: those that it is made with.
        values: options that may decay, and their values. Those without a known name are tried, if they are not 0.

    Example:
        >>> decays_among(lambda params, options: torch.optim.AdamW(params, **options), {}, {"weight_decay": 0.1})
        ('weight_decay',)
    """
    known = tuple(name for name in NAMES if name in values)
    base = {**options, **dict.fromkeys(known, 0.0)}
    unknown = [
        name
        for name, value in values.items()
        if name not in (*known, *_OTHERS) and isinstance(value, float) and value > 0
    ]
    if not unknown or not _moves(build, base):
        return known
    return (*known, *(name for name in unknown if _moves(build, {**base, name: 0.0}) is False))


def _moves(build: Callable[..., Any], options: Mapping[str, Any]) -> bool | None:
    """Whether two steps on zero gradients move a parameter; None where they cannot be taken."""
    param = torch.nn.Parameter(torch.tensor([0.5, -1.5, 2.5]))
    before = param.detach().clone()
    try:
        optimizer = build([param], options)
        for _ in range(2):
            param.grad = torch.zeros_like(param)
            optimizer.step()
    except Exception:
        return None
    return not torch.equal(param.detach(), before)
