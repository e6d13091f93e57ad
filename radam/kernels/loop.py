"""One parameter at a time: every dtype and layout, every decay callable, and differentiation through the step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from radam.kernels.slot import Slot, as_real, representable
from radam.kernels.work import is_plain, parts
from radam.schedule import Kind, Step
from radam.state import EXP_AVG, EXP_AVG_SQ, MAX_EXP_AVG_SQ, TENSORS, moment_dtype
from radam.weight_decay import WeightDecay, WeightDecayFunction, decayed


def apply(step: Step, slot: Slot, group: dict[str, Any], decay: WeightDecayFunction, *, differentiable: bool) -> None:
    """Apply one step to one parameter.

    With `differentiable` the moments are replaced instead of overwritten, so that what autograd has saved stays.
    Otherwise large parameters are taken by parts, but for a decay callable of the user's, which sees the whole.
    """
    if differentiable or type(decay) is not WeightDecay or not (is_plain(slot.param) and is_plain(slot.grad)):
        _apply(step, slot, group, decay, differentiable=differentiable)
    else:
        for part in _parts(slot):
            _apply(step, part, group, decay, differentiable=False)


def _parts(slot: Slot) -> Iterator[Slot]:
    names = [name for name in TENSORS if name in slot.state]
    for param, grad, *moments in parts([slot.param, slot.grad, *(slot.state[name] for name in names)]):
        yield Slot(param, grad, dict(zip(names, moments, strict=True)), slot.where)


def _apply(step: Step, slot: Slot, group: dict[str, Any], decay: WeightDecayFunction, *, differentiable: bool) -> None:
    param, grad, state, where = slot
    dtype = moment_dtype(param)
    assert dtype is not None
    # Half precision works on a float32 copy, complex on a real view; float32 and float64 on the parameter itself.
    work = as_real(param.to(dtype)) if param.is_complex() else param.to(dtype)
    grad = as_real(grad.to(dtype).resolve_conj())
    if group["maximize"]:
        grad = -grad

    grad = decayed(decay, work.clone() if step.kind is Kind.VARIANCE_ONLY else work, grad, group, where)

    beta1, beta2 = group["betas"]
    if differentiable:
        state.update({name: state[name].clone() for name in (EXP_AVG, EXP_AVG_SQ, MAX_EXP_AVG_SQ) if name in state})
    exp_avg, exp_avg_sq = as_real(state[EXP_AVG]), as_real(state[EXP_AVG_SQ])
    exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
    if group["amsgrad"]:
        largest = as_real(state[MAX_EXP_AVG_SQ])
        exp_avg_sq = torch.maximum(largest, exp_avg_sq, out=None if differentiable else largest)
        if differentiable:
            state[MAX_EXP_AVG_SQ] = torch.view_as_complex(exp_avg_sq) if param.is_complex() else exp_avg_sq
    if step.kind is Kind.VARIANCE_ONLY:
        return
    exp_avg.mul_(beta1).add_(grad, alpha=1 - beta1)

    if step.kind is Kind.ADAPTIVE:
        root = _root(exp_avg_sq) if differentiable else exp_avg_sq.sqrt()
        denominator = root.add_(step.eps)
        if isinstance(step.size, torch.Tensor):
            work.sub_(exp_avg / denominator * step.size)
        else:
            work.addcdiv_(exp_avg, denominator, value=-representable(step.size, work.dtype))
    elif step.kind is Kind.MOMENTUM:
        if isinstance(step.size, torch.Tensor):
            work.sub_(exp_avg * step.size)
        else:
            work.add_(exp_avg, alpha=-representable(step.size, work.dtype))
    if param.dtype != dtype:
        param.copy_(torch.view_as_complex(work) if param.is_complex() else work)


def _root(exp_avg_sq: torch.Tensor) -> torch.Tensor:
    """The square root, for autograd with the derivative 0 at 0 in place of infinity.

    Of a gradient that has always been 0, m / (sqrt(v) + eps) has the derivative (1 - beta1) / eps: sqrt(v) is |g| times
    a number there, and has none that counts.
    """
    is_zero = exp_avg_sq == 0
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, exp_avg_sq).sqrt())
