"""What an optimizer holds, bit for bit, and small ways to make one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

import radam

OPTIMIZERS = (radam.RAdam, radam.Adam)
KERNELS: dict[str, dict[str, Any]] = {
    "loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "capturable": {"capturable": True},
}
"""What asks for each kernel."""


def bits(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Everything that can be seen of a tensor: dtype, shape, strides, place and the bytes of its elements."""
    tensor = tensor.detach()
    kind = (tensor.dtype, tuple(tensor.shape), tensor.device, tensor.layout)
    if tensor.is_meta:
        return kind
    if tensor.layout == torch.sparse_coo:
        return (*kind, bits(tensor._indices()), bits(tensor._values()))
    if tensor.layout == torch.sparse_csr:
        return (*kind, bits(tensor.col_indices()), bits(tensor.values()))
    elements = tensor.resolve_conj().clone(memory_format=torch.contiguous_format).reshape(-1)
    return (*kind, tensor.stride(), tensor.data_ptr(), elements.view(torch.uint8).numpy().tobytes())


def numbers(tensor: torch.Tensor) -> bytes:
    """The elements of a tensor as bytes, every NaN the same."""
    tensor = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    tensor = torch.where(tensor.isnan(), torch.full_like(tensor, torch.nan), tensor)
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def seen(value: Any) -> Any:
    """A value as something that compares equal exactly when nothing has changed."""
    if isinstance(value, torch.Tensor):
        return bits(value)
    if isinstance(value, dict):
        return [(key, seen(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [type(value), *map(seen, value)]
    return (type(value), repr(value))


def snapshot(optimizer: torch.optim.Optimizer) -> Any:
    """Parameters, gradients, state, groups and defaults of an optimizer, bit for bit."""
    return {
        "defaults": seen(optimizer.defaults),
        "groups": [
            (
                [(key, seen(value)) for key, value in group.items() if key != "params"],
                [
                    (id(param), bits(param), None if param.grad is None else bits(param.grad))
                    for param in group["params"]
                ],
            )
            for group in optimizer.param_groups
        ],
        "state": [(id(param), id(state), seen(state)) for param, state in optimizer.state.items()],
    }


def parameter(*values: float, dtype: torch.dtype = torch.float32) -> torch.nn.Parameter:
    """A parameter with a gradient of ones."""
    param = torch.nn.Parameter(torch.tensor(values or (1.0, 2.0, 3.0), dtype=dtype))
    param.grad = torch.ones_like(param)
    return param


def set_gradients(params: Iterable[torch.Tensor], seed: int) -> None:
    """Give each parameter a gradient of normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator, dtype=torch.float64).to(param.dtype)


def params_of(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """All parameters, in order."""
    return [param for group in optimizer.param_groups for param in group["params"]]


def run(optimizer: torch.optim.Optimizer, steps: int, seed: int = 0) -> None:
    """Take steps on normal gradients."""
    for step in range(steps):
        set_gradients(params_of(optimizer), seed + step)
        optimizer.step()


class Subclass(torch.Tensor):
    """A tensor that gives operations another meaning, as far as can be told."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_dispatch__(func, types, args, kwargs or {})
