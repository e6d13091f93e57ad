"""Lists of tensors of one dtype on one device: a few calls for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from radam.kernels.slot import representable
from radam.kernels.work import Work
from radam.schedule import Kind, Step
from radam.weight_decay import changes


def apply(step: Step, works: Sequence[Work], group: dict[str, Any], terms: tuple[float, float]) -> None:
    """Apply one step to parameters of one dtype on one device; `terms` are those of the weight decay."""
    params = [work.param for work in works]
    grads = [work.grad for work in works]
    exp_avgs = [work.exp_avg for work in works]
    exp_avg_sqs = [work.exp_avg_sq for work in works]
    if group["maximize"]:
        grads = list(torch._foreach_neg(grads))

    factor, coefficient = terms
    if coefficient:
        decayed = list(torch._foreach_mul(params, coefficient))
        torch._foreach_add_(decayed, grads)
        grads = decayed
    elif changes(factor) and step.kind is not Kind.VARIANCE_ONLY:
        torch._foreach_mul_(params, factor)

    beta1, beta2 = group["betas"]
    torch._foreach_mul_(exp_avg_sqs, beta2)
    torch._foreach_addcmul_(exp_avg_sqs, grads, grads, value=1 - beta2)
    if group["amsgrad"]:
        largest = [work.max_exp_avg_sq for work in works if work.max_exp_avg_sq is not None]
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
