"""Sets of parameters whose step is timed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

Shape = tuple[int, ...]


class Set(NamedTuple):
    """Shapes of parameters, of one dtype."""

    name: str
    shapes: Sequence[Shape]
    dtype: torch.dtype = torch.float32

    @property
    def elements(self) -> int:
        """Of all parameters."""
        return sum(map(math.prod, self.shapes))

    def parameters(self, device: str = "cpu") -> list[torch.nn.Parameter]:
        """Parameters with gradients, all numbers of ordinary size."""
        result = []
        for shape in self.shapes:
            param = torch.nn.Parameter(torch.full(shape, 0.5, dtype=self.dtype, device=device))
            param.grad = torch.full_like(param, 0.25)
            result.append(param)
        return result


def gpt2_small() -> list[Shape]:
    """GPT-2 small, its output tied to its embedding: 124 million in 148 tensors (Radford et al. 2019)."""
    d = 768
    norm: list[Shape] = [(d,), (d,)]
    attention: list[Shape] = [(d, 3 * d), (3 * d,), (d, d), (d,)]
    perceptron: list[Shape] = [(d, 4 * d), (4 * d,), (4 * d, d), (d,)]
    return [(50257, d), (1024, d), *12 * [*norm, *attention, *norm, *perceptron], *norm]


def resnet50() -> list[Shape]:
    """ResNet-50: 25.6 million in 161 tensors (He et al. 2015, table 1)."""

    def convolution(outputs: int, inputs: int, size: int) -> list[Shape]:
        return [(outputs, inputs, size, size), (outputs,), (outputs,)]

    result = convolution(64, 3, 7)
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            result += convolution(width, inputs, 1) + convolution(width, width, 3) + convolution(4 * width, width, 1)
            if block == 0:
                result += convolution(4 * width, inputs, 1)
            inputs = 4 * width
    return [*result, (1000, inputs), (1000,)]


SETS = (
    Set("10 x 1,000", [(1000,)] * 10),
    Set("1,000 x 64", [(64,)] * 1000),
    Set("ResNet-50", resnet50()),
    Set("1 x 25M", [(25_000_000,)]),
    Set("GPT-2 small", gpt2_small()),
    Set("1 x 25M, bfloat16", [(25_000_000,)], torch.bfloat16),
)
QUICK = (SETS[0], SETS[1], Set("1 x 4M", [(2**22,)]))
