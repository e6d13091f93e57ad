"""Hypothesis strategies: hyper-parameters with corners on purpose, parameters of every layout, gradient sequences.

What a case consists of is drawn and shrinks; the bulk of its numbers comes from a seed that is drawn too, and replays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

BETA1_CORNERS = (0.9, 0.0, 0.5, 0.99, 0.95, 0.999, 1 - 2**-20, 1 - 1e-9)
BETA2_CORNERS = (
    *(0.999, 0.99, 0.9, 0.0, 0.5, 0.6, 0.65, 2 / 3, 0.7, 0.75, 0.8, 0.95, 0.9995, 0.9999),
    *(1 - 1e-6, 1 - 1e-9, 1 - 1e-12, 1 - 2**-53),
)
EXACT_BETA2_CORNERS = (1 / 3, 0.335, 0.35, 0.38, (3 - 5**0.5) / 2, 0.39, 0.4)
"""Where the exact rectification first has a variance late, or never: up to (3 - sqrt 5)/2."""
EPS_CORNERS = (1e-16, 1e-8, 0.0, 1e-3, 1.0, 1e-30, 1e4)
LR_CORNERS = (1e-3, 0.1, 1.0, 0.0, 1e-5, 1e-8)
DECAY_CORNERS = (0.0, 0.01, 0.1, 1.0, 5.0)
THRESHOLD_CORNERS = (5.0, 4.0, 4.5, 6.0, float(np.nextafter(5.0, 6.0)), 10.0)

SHAPES = ((3,), (), (2, 3), (0,), (1,), (5, 1, 2), (17,), (33,), (2, 3, 2, 2), (0, 3))
LAYOUTS = ("contiguous", "transposed", "strided", "channels_last", "offset")
"""How a parameter lies in memory: `strided` and `offset` are views of a larger tensor."""

GRADIENTS = (
    "normal",
    "zeros",
    "some zeros",
    "repeat",
    "flip",
    "tiny",
    "faint",
    "large",
    "subnormal",
    "huge",
    "none",
    "expanded",
)
_ORDINARY = ("normal", "some zeros", "repeat", "flip", "none", "zeros", "expanded")


def _around(corners: Sequence[float], between: SearchStrategy[float]) -> SearchStrategy[float]:
    return st.one_of(st.sampled_from(corners), st.sampled_from(corners), between)


def betas() -> SearchStrategy[tuple[float, float]]:
    """beta1 and beta2 in [0, 1), beta2 < beta1 included."""
    towards_one = st.floats(0.3, 15).map(lambda digits: float(1 - 10.0**-digits))
    return st.tuples(
        _around(BETA1_CORNERS, st.floats(0, 0.999)),
        _around(BETA2_CORNERS, st.one_of(st.floats(0, 0.9999), towards_one, st.floats(0.6, 0.8))),
    )


def _adaptive_options() -> dict[str, SearchStrategy[Any]]:
    return {
        "lr": _around(LR_CORNERS, st.floats(-5, 0.5).map(lambda x: float(10.0**x))),
        "betas": betas(),
        "eps": _around(EPS_CORNERS, st.floats(-20, 1).map(lambda x: float(10.0**x))),
        "weight_decay": _around(DECAY_CORNERS, st.floats(0, 1)),
        "weight_decouple": st.booleans(),
        "absolute": st.booleans(),
        "optimized_update": st.booleans(),
        "amsgrad": st.booleans(),
        "maximize": st.booleans(),
    }


def radam_hyperparameters() -> SearchStrategy[dict[str, Any]]:
    """RAdam's options, in neutral form."""
    return st.fixed_dictionaries(
        {
            **_adaptive_options(),
            "degenerated_to_sgd": st.booleans(),
            "threshold": _around(THRESHOLD_CORNERS, st.floats(4, 12)),
        }
    )


def exact_radam_hyperparameters() -> SearchStrategy[dict[str, Any]]:
    """RAdam's options with the exact rectification, which has no threshold, in neutral form."""
    corners = (*BETA2_CORNERS, *EXACT_BETA2_CORNERS)
    return st.fixed_dictionaries(
        {
            **_adaptive_options(),
            "betas": st.tuples(betas().map(lambda both: both[0]), _around(corners, st.floats(0, 0.9999))),
            "degenerated_to_sgd": st.booleans(),
            "rectification": st.just("exact"),
        }
    )


def adam_hyperparameters() -> SearchStrategy[dict[str, Any]]:
    """Adam's options, in neutral form."""
    return st.fixed_dictionaries({**_adaptive_options(), "variance_warmup": st.integers(0, 6)})


@dataclass(frozen=True)
class TensorCase:
    """A parameter to be made, and the kinds of its gradients: one per step, the last for all that follow."""

    shape: tuple[int, ...]
    layout: str
    scale: float
    """Magnitude of the parameter's values; 0 for zeros, where errors of the update show most."""
    gradients: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """A configuration: options of each group, its tensors, the dtype and a seed for the numbers."""

    options: tuple[dict[str, Any], ...]
    tensors: tuple[tuple[TensorCase, ...], ...]
    dtype: torch.dtype
    seed: int

    def parameters(self) -> list[list[torch.nn.Parameter]]:
        """The parameters of each group."""
        rng = np.random.default_rng(self.seed)
        return [[make_parameter(tensor, self.dtype, rng) for tensor in group] for group in self.tensors]

    def gradients(self, parameters: Sequence[Sequence[torch.nn.Parameter]]) -> Iterator[list[torch.Tensor | None]]:
        """Endless gradients, one list a step, in the order of the parameters."""
        rng = np.random.default_rng(self.seed + 1)
        params = [param for group in parameters for param in group]
        cases = [tensor for group in self.tensors for tensor in group]
        last: list[torch.Tensor] = [torch.ones_like(param) for param in params]
        step = 0
        while True:
            result: list[torch.Tensor | None] = []
            for i, (param, tensor) in enumerate(zip(params, cases, strict=True)):
                kind = tensor.gradients[min(step, len(tensor.gradients) - 1)]
                gradient = make_gradient(kind, param, last[i], rng)
                if gradient is not None:
                    last[i] = gradient
                result.append(gradient)
            yield result
            step += 1


def cases(
    hyperparameters: SearchStrategy[dict[str, Any]],
    dtypes: Sequence[torch.dtype] = (torch.float64, torch.float32),
    *,
    ordinary: bool = False,
    shared: Sequence[str] = ("weight_decouple", "absolute"),
) -> SearchStrategy[Case]:
    """Configurations of one to three groups with one to three tensors each.

    Args:
        hyperparameters: draws a group's options.
        dtypes: of the parameters.
        ordinary: only gradients and parameters of ordinary size.
        shared: options that all groups have in common.
    """
    tensor = st.builds(
        TensorCase,
        shape=st.sampled_from(SHAPES),
        layout=st.sampled_from(LAYOUTS),
        scale=st.sampled_from((1.0, 0.0, 1e-3, 1e-6)),
        gradients=st.lists(
            st.one_of(st.just("normal"), st.sampled_from(_ORDINARY if ordinary else GRADIENTS)),
            min_size=1,
            max_size=10,
        ).map(tuple),
    )
    group = st.tuples(hyperparameters, st.lists(tensor, min_size=1, max_size=3).map(tuple))

    def build(groups: list[tuple[dict[str, Any], tuple[TensorCase, ...]]], dtype: torch.dtype, seed: int) -> Case:
        first = groups[0][0]
        common = {name: first[name] for name in shared if name in first}
        return Case(
            tuple({**options, **common} for options, _ in groups), tuple(tensors for _, tensors in groups), dtype, seed
        )

    return st.builds(build, st.lists(group, min_size=1, max_size=3), st.sampled_from(dtypes), st.integers(0, 2**32 - 1))


def _numbers(shape: tuple[int, ...], dtype: torch.dtype, rng: np.random.Generator) -> torch.Tensor:
    numbers = torch.from_numpy(np.asarray(rng.standard_normal(shape)))
    if dtype.is_complex:
        numbers = torch.complex(numbers, torch.from_numpy(np.asarray(rng.standard_normal(shape))))
    return numbers.to(dtype)


def make_parameter(case: TensorCase, dtype: torch.dtype, rng: np.random.Generator) -> torch.nn.Parameter:
    """A parameter of the given shape, layout and magnitude."""
    values = _numbers(case.shape, dtype, rng) * case.scale
    return torch.nn.Parameter(lay_out(values.to(dtype), case.layout))


def lay_out(values: torch.Tensor, layout: str) -> torch.Tensor:
    """The same values, lying in memory as `layout` says; contiguous where the shape has no such layout."""
    if layout == "transposed" and values.dim() >= 2:
        return values.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "strided" and values.dim() >= 1:
        base = torch.full((*values.shape[:-1], 2 * values.shape[-1]), 7.0, dtype=values.dtype)
        view = base[..., ::2]
    elif layout == "channels_last" and values.dim() == 4:
        return values.contiguous(memory_format=torch.channels_last)
    elif layout == "offset" and values.dim() >= 1:
        base = torch.full((values.shape[0] + 2, *values.shape[1:]), 7.0, dtype=values.dtype)
        view = base[1 : 1 + values.shape[0]]
    else:
        return values.contiguous()
    view.copy_(values)
    return view


def make_gradient(kind: str, param: torch.Tensor, last: torch.Tensor, rng: np.random.Generator) -> torch.Tensor | None:
    """A gradient for `param`; `last` is the one before it."""
    shape, dtype = tuple(param.shape), param.dtype
    if kind == "none":
        return None
    if kind == "repeat":
        return last.clone()
    if kind == "flip":
        return -last
    numbers = _numbers(shape, dtype, rng)
    if kind == "zeros":
        return torch.zeros_like(numbers)
    if kind == "expanded":
        return numbers.reshape(-1)[:1].reshape(()).expand(shape) if numbers.numel() else numbers
    if kind == "some zeros":
        return numbers * torch.from_numpy(np.asarray(rng.integers(0, 2, shape))).to(dtype)
    # Six decades within one tensor, as layers of one network have them.
    spread = torch.from_numpy(np.asarray(10.0 ** rng.uniform(-4, 2, shape)))
    numbers = (numbers * spread).to(dtype)
    real = numbers.real.dtype if dtype.is_complex else dtype
    limits = torch.finfo(real)
    factors: dict[str, float] = {
        "normal": 1.0,
        "tiny": 1e-6,
        "faint": limits.tiny**0.5 * 1e3,  # its squares are the smallest that keep all their digits
        "large": min(1e3, limits.max / 1e3),
        "subnormal": limits.tiny * 0.1,
        "huge": min(1e30, limits.max / 1e6),
    }
    return (numbers * factors[kind]).to(dtype)
