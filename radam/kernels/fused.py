"""Adaptive steps in one pass over memory: torch's fused Adam kernel with the scalars of the schedule.

An ADAPTIVE step is Adam's with another size and another eps. The kernel would correct m and v by factors of its own;
with an infinite step number they are exactly 1, so that every scalar is ours, in float64. What it leaves to its caller
is done here: it takes memory as it finds it, so works must be aligned (:func:`radam.kernels.work.is_aligned`); it
refuses an empty list; and autograd does not learn that it has written.

The kernel is no public interface: :func:`problem` tries what is relied on.

References:
    Kingma & Ba, Adam, arXiv 1412.6980, the end of section 2; Loshchilov & Hutter, arXiv 1711.05101, Algorithm 2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from radam.kernels import foreach, threads
from radam.kernels.work import Columns, Work, columns
from radam.schedule import Kind, Step
from radam.weight_decay import changes

# Elements from which a second thread pays. The kernel starts one for a handful, and waits long on a busy machine.
SMALL = 2**15
DEVICES = ("cpu", "cuda")
# Elements of the longest vector that a processor has: 2048 bits of float32.
_VECTOR = 64
# Elements of which all are compared sooner than a view of some is made.
_FEW = 2**14


def apply(step: Step, works: Sequence[Work], group: dict[str, Any], terms: tuple[float, float]) -> None:
    """Apply one step that :func:`takes` takes to aligned works on one device; `terms` are those of the weight decay."""
    small = [work for work in works if is_small(work.param)]
    large = [work for work in works if not is_small(work.param)]
    if small:
        apply_alike(step, columns(small), group, terms, small=True)
    if large:
        apply_alike(step, columns(large), group, terms, small=False)


def is_small(param: torch.Tensor) -> bool:
    """Whether a second thread does not pay."""
    return param.is_cpu and param.numel() < SMALL


def apply_alike(
    step: Step, tensors: Columns, group: dict[str, Any], terms: tuple[float, float], *, small: bool
) -> None:
    """Apply one step to tensors of works that are all small, or all large."""
    if not small:
        _adaptive(step, tensors, group, terms)
    elif threads.can_be_one():
        with threads.one():
            _adaptive(step, tensors, group, terms)
    else:
        foreach.apply(step, tensors.works(), group, terms)


def _adaptive(step: Step, tensors: Columns, group: dict[str, Any], terms: tuple[float, float]) -> None:
    factor, decay = terms
    kernel = torch._fused_adam_
    if changes(factor):
        # The kernel multiplies the parameter by 1 - size * decay.
        kernel, decay = torch._fused_adamw_, _decay(factor, float(step.size))
        if not decay:
            torch._foreach_mul_(tensors.params, factor)
    beta1, beta2 = group["betas"]
    scalars = {
        "lr": float(step.size),
        "beta1": beta1,
        "beta2": beta2,
        "weight_decay": decay,
        "eps": step.eps,
        "amsgrad": group["amsgrad"],
        "maximize": group["maximize"],
    }
    _call(kernel, tensors, scalars)
    if group["amsgrad"]:
        _propagate_nan(tensors)


def takes(step: Step, dtype: torch.dtype, terms: tuple[float, float]) -> bool:
    """Whether a step can be taken so: an adaptive one, by scalars that normal numbers of the moments' dtype can hold.

    What becomes of others is left open by the kernel, and need not be the same in all elements.
    """
    least, largest = _normal(dtype)
    if step.kind is not Kind.ADAPTIVE:
        return False
    return all(x == 0 or least <= abs(x) <= largest for x in (float(step.size), step.eps, *terms))


@functools.cache
def _normal(dtype: torch.dtype) -> tuple[float, float]:
    """The range of normal numbers."""
    return torch.finfo(dtype).smallest_normal, torch.finfo(dtype).max


def _decay(factor: float, size: float) -> float:
    """The number with which 1 - size * number is `factor` to within two roundings; 0 where there is none.

    The rounding of the product counts by how much of the parameter goes: there must be as much left.
    """
    share = 1.0 - factor
    number = share / size if size else math.inf
    safe = math.isfinite(number) and abs(size * number - share) <= 2.0**-52 * abs(share) and abs(share) <= 0.5
    return number if safe else 0.0


def _propagate_nan(tensors: Columns) -> None:
    """The kernel's own maximum of s and NaN is s, on a CPU in elements beyond the last whole vector."""
    pairs = list(zip(tensors.max_exp_avg_sqs, tensors.exp_avg_sqs, strict=True))
    if tensors.params[0].is_cpu:
        pairs = [(_end(s), _end(v)) for s, v in pairs if s.numel() % _VECTOR]
    if pairs:
        torch._foreach_maximum_([s for s, _ in pairs], [v for _, v in pairs])


def _end(tensor: torch.Tensor) -> torch.Tensor:
    """The last elements of a dense tensor in the order of memory, all of a small one: more than fit into a vector."""
    if tensor.numel() <= _FEW:
        return tensor
    count = min(tensor.numel(), _VECTOR)
    return tensor.as_strided((count,), (1,), tensor.storage_offset() + tensor.numel() - count)


def _call(kernel: Callable[..., Any], tensors: Columns, scalars: dict[str, Any]) -> None:
    params = tensors.params
    kernel(
        *tensors[:4],
        tensors.max_exp_avg_sqs if scalars["amsgrad"] else [],
        [_endless(params[0].device)] * len(params),
        grad_scale=None,
        found_inf=None,
        **scalars,
    )
    torch.autograd.graph.increment_version(params)


@functools.cache
def _endless(device: torch.device) -> torch.Tensor:
    """The number of a step after which nothing is left to correct: b**inf = 0."""
    return torch.full((), math.inf, dtype=torch.float32, device=device)


@functools.cache
def problem(device: str) -> str | None:
    """Why the kernel cannot be used on a type of device; None where it does what is relied on."""
    if device not in DEVICES:
        return f"torch's fused Adam kernel is used on {' and '.join(DEVICES)} only"
    try:
        for dtype in (torch.float32, torch.float64):
            for amsgrad in (False, True):
                _try(torch.device(device), dtype, amsgrad=amsgrad)
    except Exception as error:
        return f"torch {torch.__version__} has no fused Adam kernel that works as relied on: {error}"
    return None


def _try(device: torch.device, dtype: torch.dtype, *, amsgrad: bool) -> None:
    """Take steps whose results are known, beyond one vector of any processor; raise for another result."""
    size, eps, beta1, beta2 = 0.25, 0.5, 0.75, 0.25
    for kernel, decay, maximize in (
        (torch._fused_adam_, 0.0, False),
        (torch._fused_adam_, 0.5, True),
        (torch._fused_adamw_, 0.5, False),
    ):
        works = [
            Work._make([*(torch.full((n,), x, dtype=dtype, device=device) for x in (2.0, 4.0, 3.0, 6.0, 9.0)), 0])
            for n in (1, 67)
        ]
        scalars = {
            "lr": size,
            "beta1": beta1,
            "beta2": beta2,
            "weight_decay": decay,
            "eps": eps,
            "amsgrad": amsgrad,
            "maximize": maximize,
        }
        _call(kernel, columns(works), scalars)
        grad = -4.0 if maximize else 4.0
        p = 2.0
        if kernel is torch._fused_adamw_:
            p *= 1 - size * decay
        else:
            grad += decay * p
        m, v = beta1 * 3.0 + (1 - beta1) * grad, beta2 * 6.0 + (1 - beta2) * grad * grad
        s = max(v, 9.0) if amsgrad else v
        p -= size * m / (math.sqrt(s) + eps)
        for work in works:
            for name, expected in zip(Work._fields, (p, 4.0, m, v, s if amsgrad else 9.0), strict=False):
                seen = getattr(work, name).double()
                # A quotient and a root: a few roundings of numbers below 16.
                if not bool(((seen - expected).abs() <= 64 * torch.finfo(dtype).eps).all()):
                    raise ValueError(f"{name} = {seen.tolist()}, but should be {expected}")
    if not bool(_endless(device).isinf()):
        raise ValueError("it writes to the step number")


# Asked for at import, before anything that a test or a tracer may put in the place of torch's functions.
problem("cpu")
