"""Applying a :class:`~radam.schedule.Step` to tensors, and which kernel serves which of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from radam.kernels import capturable, foreach, fused, loop, settled
from radam.kernels.settled import Key, Recalled, Settled
from radam.kernels.slot import Slot
from radam.kernels.work import (
    Work,
    has_arithmetic_dtype,
    is_aligned,
    is_distributed,
    is_local,
    is_plain,
    run,
    work_of,
)
from radam.schedule import Step, Steps, plain_lr
from radam.weight_decay import WeightDecay, WeightDecayFunction

__all__ = [
    "CAPTURABLE",
    "FOREACH",
    "FUSED",
    "LOOP",
    "Recalled",
    "Settled",
    "Slot",
    "apply",
    "apply_recalled",
    "calls",
    "kernel_of",
    "refusal",
    "settle",
]

FUSED, FOREACH, LOOP, CAPTURABLE = "fused", "foreach", "loop", "capturable"


def apply(
    step: Step, slots: Sequence[Slot], group: dict[str, Any], decay: WeightDecayFunction, switches: Mapping[str, Any]
) -> None:
    """Apply one step to parameters that share their options and step number."""
    lists: dict[tuple[str, torch.device, torch.dtype], list[Work]] = {}
    for place, slot in enumerate(slots):
        kernel = kernel_of(slot, decay, switches)
        if kernel == LOOP:
            loop.apply(step, slot, group, decay, differentiable=switches["differentiable"])
        else:
            work = work_of(slot, place, amsgrad=group["amsgrad"])
            lists.setdefault((kernel, work.param.device, work.exp_avg.dtype), []).append(work)
    if not lists:
        return
    terms = _terms(group, decay)
    for (kernel, _, dtype), works in lists.items():
        _apply_to_list(step, kernel, dtype, works, group, terms)
    _count_versions(slots)


def _apply_to_list(
    step: Step,
    kernel: str,
    dtype: torch.dtype,
    works: list[Work],
    group: dict[str, Any],
    terms: tuple[float, float],
) -> None:
    if kernel == FUSED and fused.takes(step, dtype, terms):
        run(lambda aligned: fused.apply(step, aligned, group, terms), works, is_aligned, whole=True)
    else:
        run(lambda direct: foreach.apply(step, direct, group, terms), works, has_arithmetic_dtype)


def _terms(group: Mapping[str, Any], decay: WeightDecayFunction) -> tuple[float, float]:
    """What lists are multiplied by, and the coefficient of the L2 term."""
    assert isinstance(decay, WeightDecay)
    factor, coefficient = decay.terms(group, plain_lr(group["lr"]))
    return float(factor), coefficient


def settle(
    slots: Sequence[Slot],
    decay: WeightDecayFunction,
    switches: Mapping[str, Any],
    *,
    amsgrad: bool,
    circumstances: object,
) -> Settled | None:
    """The verdict on checked parameters, to be recalled; None where a list kernel cannot take the tensors of each."""
    if not slots or not settled.can_be():
        return None
    works, keys = [], []
    for place, slot in enumerate(slots):
        kernel = kernel_of(slot, decay, switches)
        if kernel not in (FUSED, FOREACH):
            return None
        work = work_of(slot, place, amsgrad=amsgrad)
        # Pairs of reals, local parts and negatives are views made for this step.
        if work.grad is not slot.grad:
            return None
        works.append(work)
        lies_well = is_aligned(work) and work.param.numel() > 0
        keys.append(Key(kernel, work.param.device, work.exp_avg.dtype, lies_well, fused.is_small(work.param)))
    return Settled(works, keys, amsgrad=amsgrad, circumstances=circumstances)


def apply_recalled(
    step: Step,
    recalled: Recalled,
    group: dict[str, Any],
    decay: WeightDecayFunction,
    among: Collection[int] | None = None,
) -> None:
    """Apply one step to recalled parameters, or those at some places, that share their step number."""
    terms = _terms(group, decay)
    for key, tensors in recalled.lists(among).items():
        if key.aligned and key.kernel == FUSED and fused.takes(step, key.dtype, terms):
            fused.apply_alike(step, tensors, group, terms, small=key.small)
        else:
            _apply_to_list(step, key.kernel, key.dtype, tensors.works(), group, terms)


def calls(
    steps: Steps, slots: Sequence[Slot], group: dict[str, Any], decay: WeightDecayFunction
) -> list[capturable.Call]:
    """What :func:`capturable.apply` needs for parameters of a group on one device, with an entry of `steps` each."""
    lists: dict[torch.dtype, list[Work]] = {}
    for place, slot in enumerate(slots):
        work = work_of(slot, place, amsgrad=group["amsgrad"])
        lists.setdefault(work.exp_avg.dtype, []).append(work)
    _count_versions(slots)
    names = [slot.where for slot in slots]
    return [capturable.call(works, steps, group, decay, names) for works in lists.values()]


def kernel_of(slot: Slot, decay: WeightDecayFunction, switches: Mapping[str, Any]) -> str:
    """The kernel that serves a parameter: "fused", "foreach", "loop" or "capturable".

    The fastest that can, tensor by tensor, unless a switch forces one or switches it off; `foreach=False` alone asks
    for the loop.
    """
    if switches["capturable"]:
        return CAPTURABLE
    if switches["differentiable"] or (switches["foreach"] is False and not switches["fused"]):
        return LOOP
    if switches["fused"] is not False and not switches["foreach"] and refusal(FUSED, slot, decay) is None:
        return FUSED
    return FOREACH if refusal(FOREACH, slot, decay) is None else LOOP


def refusal(kernel: str, slot: Slot, decay: WeightDecayFunction) -> str | None:
    """Why "fused", "foreach" or "capturable" cannot serve a parameter; None where it can."""
    param, grad = slot.param, slot.grad
    if param.is_neg():
        return "it is a view of the negative of another tensor"
    if is_distributed(param) and not is_local(slot):
        return "it is a DTensor that is split in another way than its gradient or state, or is a sum"
    if kernel == CAPTURABLE:
        on_mps = param.device.type == "mps"
        return "mps has no float64, in which the scalars of a step are computed" if on_mps else None
    # A subclass may override __call__ alone.
    if type(decay) is not WeightDecay:
        return "a weight_decay of one's own takes one parameter at a time"
    for tensor in (param, grad):
        if not (is_plain(tensor) or is_distributed(tensor)):
            return f"{type(tensor).__name__} may give operations a meaning of its own"
    return fused.problem(param.device.type) if kernel == FUSED else None


def _count_versions(slots: Sequence[Slot]) -> None:
    """Let autograd know that the DTensors whose local parts are written to have changed."""
    distributed = [slot.param for slot in slots if is_distributed(slot.param)]
    if distributed:
        torch.autograd.graph.increment_version(distributed)
