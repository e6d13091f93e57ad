"""Long runs, and several optimizers at once."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from typing import Any

import pytest
import torch

import radam
from radam.audit import Trajectory
from radam.audit.subjects.radam import oracle
from tests.core.helpers import KERNELS
from tests.training.model import OPTIONS, backward, model

SOAK = 20_000


def gradient(param: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A noisy quadratic bowl around 1."""
    return param.detach() - 1 + torch.randn(param.shape, generator=generator, dtype=param.dtype)


@pytest.mark.deep
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_soak(kernel: str) -> None:
    """No drift beyond the bound of an oracle that runs freely beside, and no memory that is not given back."""
    options = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8}
    generator = torch.Generator().manual_seed(0)
    param = torch.nn.Parameter(torch.randn(16, generator=generator, dtype=torch.float64))
    optimizer = radam.RAdam([param], **options, **KERNELS[kernel])
    trajectory = Trajectory(param, oracle(options), scalars="exact")
    held: list[int] = []
    tracemalloc.start()
    try:
        for number in range(1, SOAK + 1):
            param.grad = gradient(param, generator)
            trajectory.observe()
            optimizer.step()
            if number % (SOAK // 4) == 0:
                for comparison in trajectory.judge(optimizer.state[param]):
                    assert comparison.passed, str(comparison)
                    assert comparison.unjudged == 0
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # Caches by step number are bounded: what is held after the first quarter has room for their entries, 2^14 each.
    assert held[-1] - held[1] < 2**20
    assert int(optimizer.state[param]["step"]) == SOAK
    # At the end the bound still says something: 1e-9 of the way that the parameter has travelled.
    assert trajectory.coverage < 1e-9


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
