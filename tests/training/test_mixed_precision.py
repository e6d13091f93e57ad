"""Training in mixed precision, with scaled, clipped and accumulated gradients: each step is the oracle's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import radam
from tests.core.helpers import KERNELS, snapshot
from tests.training import model as here
from tests.training.model import OPTIONS, STEPS, backward, batch, model, watched

NUMBERS = sum(param.numel() for param in model().parameters())


def loss_of(net: torch.nn.Module, number: int) -> torch.Tensor:
    inputs, targets = batch(number)
    dtype = next(net.parameters()).dtype
    return torch.nn.functional.mse_loss(net(inputs.to(dtype)).float(), targets)


@pytest.mark.parametrize("kernel", KERNELS)
def test_autocast(kernel: str) -> None:
    net = model()
    optimizer = radam.RAdam(net.parameters(), **OPTIONS, **KERNELS[kernel])
    with watched(optimizer).watching() as record:
        for number in range(1, STEPS + 1):
            optimizer.zero_grad()
            with torch.autocast(here.HERE.type, dtype=torch.bfloat16):
                loss = loss_of(net, number)
            loss.backward()
            optimizer.step()
    assert (record.judged, record.unjudged) == (3 * STEPS * NUMBERS, 0)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("gradients", [torch.bfloat16, torch.float32])
def test_bfloat16_parameters(kernel: str, gradients: torch.dtype) -> None:
    """With float32 moments, and gradients of either dtype."""
    if gradients is torch.float32 and not hasattr(torch.Tensor, "grad_dtype"):
        pytest.skip("this torch has no grad_dtype")
    net = model().bfloat16()
    if gradients is torch.float32:
        for param in net.parameters():
            param.grad_dtype = torch.float32
    optimizer = radam.RAdam(net.parameters(), **OPTIONS, **KERNELS[kernel])
    with watched(optimizer).watching() as record:
        for number in range(1, STEPS + 1):
            optimizer.zero_grad()
            loss_of(net, number).backward()
            optimizer.step()
    assert (record.judged, record.unjudged) == (3 * STEPS * NUMBERS, 0)
    for param in net.parameters():
        assert param.grad is not None
        assert param.grad.dtype == gradients
        assert optimizer.state[param]["exp_avg"].dtype == torch.float32


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_scaler_that_grows_and_skips(kernel: str) -> None:
    """Steps with an overflow leave everything as it was, `step` included; all others are the oracle's."""
    net = model()
    optimizer = radam.RAdam(net.parameters(), **OPTIONS, **KERNELS[kernel])
    scaler = torch.amp.GradScaler(here.HERE.type, init_scale=2.0**8, growth_interval=3)
    overflows = {2, 7, 8}
    with watched(optimizer).watching() as record:
        for number in range(1, 13):
            optimizer.zero_grad()
            scaler.scale(loss_of(net, number)).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            if number in overflows:
                weight = next(net.parameters())
                assert weight.grad is not None
                weight.grad[0, 0] = torch.inf
                # Unscaled already: who finds the overflow is told so.
                scaler._per_optimizer_states[id(optimizer)]["found_inf_per_device"] = {
                    weight.device: torch.ones((), device=weight.device)
                }
            before = snapshot(optimizer)
            scaler.step(optimizer)
            assert (snapshot(optimizer) == before) == (number in overflows)
            scaler.update()
    assert record.steps == 12 - len(overflows)
    assert record.judged == 3 * record.steps * NUMBERS


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("found", [torch.ones(()), torch.ones(1), True])
def test_found_inf_is_honoured(kernel: str, found: Any) -> None:
    """As by torch's fused optimizers: whoever scales the loss sets it, and takes it away."""
    net = model()
    optimizer = radam.RAdam(net.parameters(), **OPTIONS, **KERNELS[kernel])
    for number in range(1, 8):
        backward(net, number)
        optimizer.step()
    before = snapshot(optimizer)
    optimizer.found_inf = found
    assert optimizer.step(lambda: 7.0) == 7.0
    assert snapshot(optimizer) == before
    optimizer.found_inf = torch.zeros(())
    optimizer.step()
    del optimizer.found_inf
    optimizer.step()
    assert {int(optimizer.state[param]["step"]) for param in net.parameters()} == {9}


def test_accumulated_and_clipped() -> None:
    """Two halves of a batch give the step of the whole one, but for the rounding of its gradient."""
    net = model()
    optimizer = radam.RAdam(net.parameters(), **OPTIONS)
    with watched(optimizer).watching() as record:
        for number in range(1, STEPS + 1):
            optimizer.zero_grad()
            inputs, targets = batch(number)
            for half in (slice(0, 2), slice(2, 4)):
                (torch.nn.functional.mse_loss(net(inputs[half]), targets[half]) / 2).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 0.1)
            optimizer.step()
    assert (record.judged, record.unjudged) == (3 * STEPS * NUMBERS, 0)
