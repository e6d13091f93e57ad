"""Lists of tensors with scalars that are tensors: no branch on a step number, and nothing that the host must wait for.

A CUDA graph that holds such a step, and a graph that torch.compile has made of it, serve every step number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from radam.kernels.work import Work, has_arithmetic_dtype, run
from radam.schedule import Steps, lr_on
from radam.weight_decay import WeightDecay, WeightDecayFunction, decayed


class Scalars(NamedTuple):
    """The entries of :class:`~radam.schedule.Steps`, one 0-dim tensor a slot, and what multiplies each parameter."""

    size: Sequence[torch.Tensor]
    eps: Sequence[torch.Tensor]
    divides: Sequence[torch.Tensor]
    moves: Sequence[torch.Tensor] | None
    averages: Sequence[torch.Tensor] | None
    factor: Sequence[torch.Tensor] | None
    """None where no parameter is decayed by a factor."""


class Call(NamedTuple):
    """All that one application needs."""

    works: Sequence[Work]
    scalars: Scalars
    coefficient: float
    """Of the L2 term."""
    betas: tuple[float, float]
    amsgrad: bool
    maximize: bool
    decay: WeightDecayFunction | None
    """A callable of the user's."""
    group: dict[str, Any]
    names: Sequence[str]
    """Of the slots, for errors."""


def call(
    works: Sequence[Work], steps: Steps, group: dict[str, Any], decay: WeightDecayFunction, names: list[str]
) -> Call:
    """Put together what a step of some works, of one device and one dtype of moments, needs."""
    lr = lr_on(steps.size.device, group["lr"])
    own = type(decay) is WeightDecay
    factor, coefficient = decay.terms(group, lr) if own else (1.0, 0.0)  # type: ignore[attr-defined]
    factors = None
    if own and group["weight_decouple"] and group["weight_decay"]:
        # A tensor even if it is 1 at this lr: another lr makes no other graph. A number is filled in, not copied from
        # the host, which a graph could not hold.
        factors = (
            factor.expand_as(steps.size) if isinstance(factor, torch.Tensor) else torch.full_like(steps.size, factor)
        )
        if steps.averages is not None:
            factors = torch.where(steps.averages, factors, torch.ones_like(factors))
    scalars = Scalars(*(None if x is None else x.unbind() for x in (*steps, factors)))  # type: ignore[arg-type]
    return Call(
        works,
        scalars,
        coefficient,
        group["betas"],
        group["amsgrad"],
        group["maximize"],
        None if own else decay,
        group,
        names,
    )


def apply(call: Call) -> None:
    """Take the step. torch.compile traces this, and makes its own plan of temporaries."""
    if torch.compiler.is_compiling() or call.decay is not None:
        # A callable of the user's sees whole tensors.
        dtypes = [work.exp_avg.dtype for work in call.works]
        whole = [
            work._replace(param=work.param.to(dtype), grad=work.grad.to(dtype))
            for work, dtype in zip(call.works, dtypes, strict=True)
        ]
        _step(whole, call)
        rounded = [(work.param, done.param) for work, done in zip(call.works, whole, strict=True)]
        rounded = [(own, new) for own, new in rounded if own is not new]
        if rounded:
            torch._foreach_copy_([own for own, _ in rounded], [new for _, new in rounded])
    else:
        run(lambda works: _step(works, call), call.works, has_arithmetic_dtype)


def _step(works: Sequence[Work], call: Call) -> None:
    params = [work.param for work in works]
    grads = [work.grad for work in works]
    exp_avgs = [work.exp_avg for work in works]
    exp_avg_sqs = [work.exp_avg_sq for work in works]

    def of(scalars: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [scalars[work.place] for work in works]

    if call.maximize:
        grads = list(torch._foreach_neg(grads))

    if call.decay is not None:
        grads = [_decayed(work, grad, call) for work, grad in zip(works, grads, strict=True)]
    elif call.coefficient:
        sums = list(torch._foreach_mul(params, call.coefficient))
        torch._foreach_add_(sums, grads)
        grads = sums
    elif call.scalars.factor is not None:
        torch._foreach_mul_(params, of(call.scalars.factor))

    beta1, beta2 = call.betas
    torch._foreach_mul_(exp_avg_sqs, beta2)
    torch._foreach_addcmul_(exp_avg_sqs, grads, grads, value=1 - beta2)
    if call.amsgrad:
        largest = [work.max_exp_avg_sq for work in works if work.max_exp_avg_sq is not None]
        torch._foreach_maximum_(largest, exp_avg_sqs)
        exp_avg_sqs = largest
    if call.scalars.averages is None:
        torch._foreach_mul_(exp_avgs, beta1)
        torch._foreach_add_(exp_avgs, grads, alpha=1 - beta1)
    else:
        moved = torch._foreach_mul(exp_avgs, beta1)
        torch._foreach_add_(moved, grads, alpha=1 - beta1)
        torch._foreach_copy_(exp_avgs, list(map(torch.where, of(call.scalars.averages), moved, exp_avgs)))

    roots = torch._foreach_sqrt(exp_avg_sqs)
    torch._foreach_add_(roots, of(call.scalars.eps))
    divisors = [torch.where(divides, root, 1.0) for divides, root in zip(of(call.scalars.divides), roots, strict=True)]
    updates = torch._foreach_div(exp_avgs, divisors)
    torch._foreach_mul_(updates, of(call.scalars.size))
    if call.scalars.moves is None:
        torch._foreach_sub_(params, updates)
    else:
        moved = torch._foreach_sub(params, updates)
        torch._foreach_copy_(params, list(map(torch.where, of(call.scalars.moves), moved, params)))


def _decayed(work: Work, grad: torch.Tensor, call: Call) -> torch.Tensor:
    """The gradient as a callable of the user's returns it."""
    assert call.decay is not None
    where = call.names[work.place]
    if call.scalars.averages is None:
        return decayed(call.decay, work.param, grad, call.group, where)
    # Where only v moves the callable has a copy of the parameter.
    copy = work.param.clone()
    grad = decayed(call.decay, copy, grad, call.group, where)
    work.param.copy_(torch.where(call.scalars.averages[work.place], copy, work.param))
    return grad
