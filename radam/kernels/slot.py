"""A parameter with what belongs to it in one step."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch


class Slot(NamedTuple):
    """A parameter, its gradient and its state."""

    param: torch.Tensor
    grad: torch.Tensor
    state: dict[str, Any]
    where: str
    """The name of the parameter, for errors."""


def as_real(tensor: torch.Tensor) -> torch.Tensor:
    """A view of complex numbers as pairs of reals; real tensors as they are."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def representable(value: float, dtype: torch.dtype) -> float:
    """`value` as an operation in `dtype` takes it: beyond the largest number it is infinite."""
    return value if abs(value) <= torch.finfo(dtype).max else math.copysign(math.inf, value)
