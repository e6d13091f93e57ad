"""Applying a :class:`~radam.schedule.Step` to tensors, and which kernel serves which of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from radam.kernels import foreach, loop
from radam.kernels.slot import Slot
from radam.schedule import Step
from radam.weight_decay import WeightDecay, WeightDecayFunction

__all__ = ["Slot", "apply", "kernel_of"]


def apply(
    step: Step, slots: Sequence[Slot], group: dict[str, Any], decay: WeightDecayFunction, switches: dict[str, Any]
) -> None:
    """Apply one step to parameters that share their options and step number."""
    lists: dict[tuple[torch.device, torch.dtype], list[Slot]] = {}
    for slot in slots:
        if kernel_of(slot, decay, switches) == "foreach":
            lists.setdefault((slot.param.device, slot.param.dtype), []).append(slot)
        else:
            loop.apply(step, slot, group, decay, differentiable=switches["differentiable"])
    for same in lists.values():
        foreach.apply(step, same, group, decay)  # type: ignore[arg-type]


def kernel_of(slot: Slot, decay: WeightDecayFunction, switches: dict[str, Any]) -> str:
    """The kernel that serves a parameter: "foreach" or "loop".

    foreach takes dense real float32 and float64 parameters with a gradient of the same dtype and built-in decay. The
    loop takes everything else, tensor by tensor, so that the working copies of half precision stay small.
    """
    if switches["foreach"] is False or switches["differentiable"]:
        return "loop"
    # A subclass may override __call__ alone.
    if type(decay) is not WeightDecay:
        return "loop"
    if slot.param.dtype not in (torch.float32, torch.float64) or slot.grad.dtype != slot.param.dtype:
        return "loop"
    # Lists with lazily negated tensors, such as the imaginary part of a conjugate, are not taken.
    if slot.param.is_neg() or slot.grad.is_neg():
        return "loop"
    return "foreach"
