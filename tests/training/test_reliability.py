"""Long runs, and several optimizers at once."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import radam
from radam.audit import Trajectory
from radam.audit.bounds import compare
from radam.audit.lockstep import flat
from radam.audit.subjects.radam import oracle
from tests.core.helpers import KERNELS
from tests.training.model import OPTIONS, backward, model

SOAK = 20_000
LONG = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8}


def gradients(param: torch.Tensor) -> Iterator[torch.Tensor]:
    """Those of a noisy quadratic bowl around 1, at a parameter that moves meanwhile."""
    generator = torch.Generator().manual_seed(0)
    while True:
        yield param.detach() - 1 + torch.randn(param.shape, generator=generator, dtype=param.dtype)


def start() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.linspace(-2, 2, 16, dtype=torch.float64))


@pytest.mark.deep
def test_no_drift_in_a_soak() -> None:
    """An oracle that runs freely beside has a bound for the whole way, which every kernel is within to its end."""
    params = {kernel: start() for kernel in KERNELS}
    optimizers = {kernel: radam.RAdam([param], **LONG, **KERNELS[kernel]) for kernel, param in params.items()}
    leading = params["fused"]
    trajectory = Trajectory(leading, oracle(LONG), scalars="exact")
    for number, gradient in zip(range(1, SOAK + 1), gradients(leading), strict=False):
        for param in params.values():
            param.grad = gradient.clone()
        trajectory.observe()
        for kernel, optimizer in optimizers.items():
            optimizer.step()
            if number % (SOAK // 4) == 0:
                comparison = compare(f"param by {kernel}", flat(params[kernel]), trajectory.expected)
                assert comparison.passed, str(comparison)
                assert comparison.unjudged == 0
    # The bound says something to the end: it is a millionth of a millionth of the way that a parameter has travelled.
    assert trajectory.coverage < 1e-11


@pytest.mark.parametrize(
    "kernel",
    [pytest.param(kernel, marks=pytest.mark.deep if kernel in ("loop", "capturable") else ()) for kernel in KERNELS],
)
def test_no_memory_is_kept_in_a_soak(kernel: str) -> None:
    param = start()
    optimizer = radam.RAdam([param], **LONG, **KERNELS[kernel])
    held = []
    for number, gradient in zip(range(1, SOAK // 2 + 1), gradients(param), strict=False):
        param.grad = gradient
        optimizer.step()
        if number % (SOAK // 4) == 0:
            gc.collect()
            held.append(sys.getallocatedblocks())
    assert int(optimizer.state[param]["step"]) == SOAK // 2
    # Less than one object in ten steps.
    assert held[1] - held[0] < SOAK // 40


@pytest.mark.parametrize("kernel", KERNELS)
def test_threads_that_step_optimizers_of_their_own(kernel: str) -> None:
    """Each takes the steps that it takes alone, bit for bit."""

    def trained(index: int, net: torch.nn.Module) -> list[torch.Tensor]:
        optimizer = radam.RAdam(net.parameters(), **{**OPTIONS, "lr": 0.01 * (index + 1)}, **KERNELS[kernel])
        for number in range(1, 31):
            optimizer.zero_grad()
            backward(net, number, index)
            optimizer.step()
        return [param.detach() for param in net.parameters()]

    expected = [trained(index, model()) for index in range(4)]
    found: dict[int, Any] = {}
    # Made one after the other: torch's generator is everybody's.
    nets = [model() for _ in range(4)]
    threads = [threading.Thread(target=lambda i=i: found.update({i: trained(i, nets[i])})) for i in range(4)]
    before = torch.get_num_threads()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 1, 2, 3]
    for index, params in found.items():
        assert all(map(torch.equal, params, expected[index]))
    assert torch.get_num_threads() == before
