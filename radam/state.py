"""Optimizer state: its names, how it is created, what fits a parameter, and what may be loaded."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

STEP, EXP_AVG, EXP_AVG_SQ, MAX_EXP_AVG_SQ = "step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"
MOMENTS = (EXP_AVG, EXP_AVG_SQ)
TENSORS = (*MOMENTS, MAX_EXP_AVG_SQ)

# Half precision parameters have float32 moments: in float16 the squares of gradients below 2e-4 are zero.
_MOMENT_DTYPES = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.complex32: torch.complex64,
    torch.complex64: torch.complex64,
    torch.complex128: torch.complex128,
}


def moment_dtype(param: torch.Tensor) -> torch.dtype | None:
    """The dtype of the moments of `param`; None where parameters of its dtype cannot be optimized."""
    return _MOMENT_DTYPES.get(param.dtype)


def new_moment(param: torch.Tensor) -> torch.Tensor:
    """Zeros of the shape and layout of `param`, in the dtype of its moments."""
    return torch.zeros_like(param, dtype=moment_dtype(param), memory_format=torch.preserve_format)


def initialize(state: dict[str, Any], param: torch.Tensor, *, amsgrad: bool, capturable: bool) -> None:
    """Create what is missing in the state of a parameter: at its first gradient, or when AMSGrad is switched on."""
    if STEP not in state:
        state[STEP] = _step_of(0, param, capturable=capturable)
        for name in MOMENTS:
            state[name] = new_moment(param)
    if amsgrad and MAX_EXP_AVG_SQ not in state:
        state[MAX_EXP_AVG_SQ] = new_moment(param)


def is_complete(state: Mapping[str, Any], *, amsgrad: bool) -> bool:
    """Whether nothing is left to :func:`initialize`."""
    return STEP in state and (not amsgrad or MAX_EXP_AVG_SQ in state)


def count(states: Sequence[dict[str, Any]], steps: Sequence[int] | None = None) -> list[int]:
    """Count one more step in each, and return their numbers; `steps` are the counts, where they have been read."""
    if steps is None:
        steps = [whole_number(state[STEP]) or 0 for state in states]
    counts = [1 + step for step in steps]
    for state, t in zip(states, counts, strict=True):
        state[STEP] = t
    return counts


def _step_of(step: int, param: torch.Tensor, *, capturable: bool) -> int | torch.Tensor:
    """A step count as it is kept: on the device of a parameter, where a graph may hold the step."""
    return torch.full((), float(step), dtype=torch.float32, device=param.device) if capturable else step


def misfit(param: torch.Tensor, state: Mapping[str, Any], *, capturable: bool) -> str | None:
    """Why `state` does not fit `param`, in words; None when it does, or when there is none yet.

    With `capturable` the step count is not read, so that no one waits for it.
    """
    if STEP not in state and not any(name in state for name in TENSORS):
        return None
    for name in (STEP, *MOMENTS):
        if name not in state:
            return f"state {name!r} is missing"
    step = state[STEP]
    if capturable:
        kind = (torch.Size(), torch.float32, param.device)
        if not isinstance(step, torch.Tensor) or (step.shape, step.dtype, step.device) != kind:
            return f"state 'step' must be a 0-dim float32 tensor on {param.device}, but is {step!r}"
    elif whole_number(step) is None:
        return f"state 'step' must be a whole number of at least 0, but is {step!r}"
    expected = (param.shape, moment_dtype(param), param.device, torch.strided)
    for name in TENSORS:
        if name not in state:
            continue
        tensor = state[name]
        if not isinstance(tensor, torch.Tensor):
            return f"state {name!r} must be a tensor, but is {tensor!r}"
        found = (tensor.shape, tensor.dtype, tensor.device, tensor.layout)
        if found != expected:
            names = ("shape", "dtype", "device", "layout")
            what, want, have = next(entry for entry in zip(names, expected, found, strict=True) if entry[1] != entry[2])
            return f"the {what} of state {name!r} must be {_show(want)}, but is {_show(have)}"
        if tensor.is_conj() or tensor.is_neg():
            return f"state {name!r} must have its own memory, but it is the conjugate or negative of another tensor"
        if overlaps(tensor):
            return f"state {name!r} holds several elements in one place of memory, so it cannot be written"
    return None


def loaded(param: torch.Tensor, entry: Mapping[str, Any], *, capturable: bool) -> dict[str, Any]:
    """A loaded state entry as it belongs to `param`: copies in its layout, device and moment dtype.

    What else the user keeps there is copied too.

    Raises:
        ValueError: the entry does not fit; says what.
    """
    if not isinstance(entry, Mapping):
        raise ValueError(f"its state must be a mapping, but is {entry!r}")
    if "momentum_buffer" in entry:
        raise ValueError("it is the state of SGD with momentum: 'momentum_buffer' has no place here")
    if not any(name in entry for name in (STEP, *TENSORS)):
        return _copied(param, entry)
    for name in (STEP, *MOMENTS):
        if name not in entry:
            raise ValueError(f"state {name!r} is missing")
    step = whole_number(entry[STEP])
    if step is None:
        raise ValueError(f"state 'step' must be a whole number of at least 0, but is {entry[STEP]!r}")
    others = {key: value for key, value in entry.items() if key not in (STEP, *TENSORS)}
    result = {STEP: _step_of(step, param, capturable=capturable), **_copied(param, others)}
    dtype = moment_dtype(param)
    for name in TENSORS:
        if name not in entry:
            continue
        tensor = entry[name]
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
            raise ValueError(f"state {name!r} must be a dense tensor, but is {tensor!r}")
        if tensor.shape != param.shape:
            raise ValueError(f"the shape of state {name!r} must be {_show(param.shape)}, but is {_show(tensor.shape)}")
        if (
            dtype is None
            or tensor.is_complex() != param.is_complex()
            or not (tensor.is_floating_point() or tensor.is_complex())
        ):
            raise ValueError(f"state {name!r} of dtype {tensor.dtype} does not fit a parameter of dtype {param.dtype}")
        result[name] = torch.empty_like(param, dtype=dtype, memory_format=torch.preserve_format).copy_(tensor.detach())
    return result


def _copied(param: torch.Tensor, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value.detach().to(param.device, copy=True) if isinstance(value, torch.Tensor) else copy.deepcopy(value)
        for key, value in entry.items()
    }


def whole_number(step: object) -> int | None:
    """A step count kept as an integer, a float or a 1-element tensor, as an integer; None for anything else."""
    if type(step) is int:
        return step if step >= 0 else None
    if isinstance(step, torch.Tensor):
        if step.numel() != 1 or step.is_complex() or step.is_meta:
            return None
        step = step.item()
    if isinstance(step, bool) or not isinstance(step, int | float):
        return None
    if not math.isfinite(step) or step < 0 or step != int(step):
        return None
    return int(step)


def overlaps(tensor: torch.Tensor) -> bool:
    """Whether two elements of a strided tensor share one place of memory, as in an expanded tensor."""
    if tensor.is_contiguous():
        return False
    dimensions = sorted((stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1)
    reach = 0
    for stride, size in dimensions:
        if stride <= reach:
            break
        reach += stride * (size - 1)
    else:
        return False
    # Interleaved strides may still be disjoint: count the places.
    places = torch.zeros((), dtype=torch.int64)
    for stride, size in dimensions:
        places = (places.unsqueeze(-1) + stride * torch.arange(size)).reshape(-1)
    return bool(len(set(places.tolist())) < tensor.numel())


def _show(value: object) -> str:
    return str(tuple(value)) if isinstance(value, torch.Size) else str(value)
