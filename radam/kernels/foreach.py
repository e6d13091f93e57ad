"""Lists of real tensors of one dtype on one device: a few calls for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from radam.kernels.slot import Slot, representable
from radam.schedule import Kind, Step
from radam.state import EXP_AVG, EXP_AVG_SQ, MAX_EXP_AVG_SQ
from radam.weight_decay import Tensors, WeightDecay


def apply(step: Step, slots: Sequence[Slot], group: dict[str, Any], decay: WeightDecay) -> None:
    """Apply one step to parameters of one dtype on one device."""
    params = [slot.param for slot in slots]
    grads: Tensors = [slot.grad for slot in slots]
    exp_avgs = [slot.state[EXP_AVG] for slot in slots]
    exp_avg_sqs = [slot.state[EXP_AVG_SQ] for slot in slots]
    if group["maximize"]:
        grads = torch._foreach_neg(grads)

    decayed = torch._foreach_mul(params, 1.0) if step.kind is Kind.VARIANCE_ONLY else params
    grads = decay.foreach(decayed, grads, group)

    beta1, beta2 = group["betas"]
    torch._foreach_mul_(exp_avg_sqs, beta2)
    torch._foreach_addcmul_(exp_avg_sqs, grads, grads, value=1 - beta2)
    if group["amsgrad"]:
        largest = [slot.state[MAX_EXP_AVG_SQ] for slot in slots]
        torch._foreach_maximum_(largest, exp_avg_sqs)
        exp_avg_sqs = largest
    if step.kind is Kind.VARIANCE_ONLY:
        return
    torch._foreach_mul_(exp_avgs, beta1)
    torch._foreach_add_(exp_avgs, grads, alpha=1 - beta1)

    if step.kind is Kind.HOLD:
        return
    size = -representable(float(step.size), params[0].dtype)
    if step.kind is Kind.ADAPTIVE:
        denominators = torch._foreach_sqrt(exp_avg_sqs)
        torch._foreach_add_(denominators, step.eps)
        torch._foreach_addcdiv_(params, exp_avgs, denominators, value=size)
    else:
        torch._foreach_add_(params, exp_avgs, alpha=size)
