"""accelerate: a prepared optimizer, accumulated and clipped gradients, a scheduler, and a state that is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import radam
from tests.training.model import OPTIONS, model, watched

accelerate = pytest.importorskip("accelerate", reason="comes with tox -e training")


@pytest.fixture(autouse=True)
def _alone() -> None:
    """What accelerate keeps for a process is of one precision."""
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


def dataset() -> torch.utils.data.TensorDataset:
    generator = torch.Generator().manual_seed(0)
    return torch.utils.data.TensorDataset(
        torch.randn(64, 6, generator=generator), torch.randn(64, 5, generator=generator)
    )


def prepared(accelerator: Any) -> tuple[Any, ...]:
    net = model()
    optimizer = radam.RAdam(net.parameters(), **OPTIONS)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4)
    loader = torch.utils.data.DataLoader(dataset(), batch_size=4)
    made: tuple[Any, ...] = accelerator.prepare(net, optimizer, loader, scheduler)
    return made


def train(accelerator: Any, net: Any, optimizer: Any, loader: Any, scheduler: Any) -> Any:
    lockstep = watched(optimizer.optimizer)
    with lockstep.watching() as record:
        for inputs, targets in loader:
            with accelerator.accumulate(net):
                loss = torch.nn.functional.mse_loss(net(inputs), targets)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(net.parameters(), 0.5)
                lockstep.options[0]["lr"] = optimizer.param_groups[0]["lr"]
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
    return record


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_loop(precision: str) -> None:
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2, mixed_precision=precision)
    net, *others = prepared(accelerator)
    record = train(accelerator, net, *others)
    assert record.steps == 8
    assert (record.judged, record.unjudged) == (8 * 3 * sum(param.numel() for param in net.parameters()), 0)


def test_a_state_that_is_saved(tmp_path: Path) -> None:
    """What goes on from it takes the same steps, bit for bit."""
    accelerator = accelerate.Accelerator(cpu=True)
    net, *others = prepared(accelerator)
    train(accelerator, net, *others)
    accelerator.save_state(str(tmp_path))
    train(accelerator, net, *others)
    expected = [param.detach().clone() for param in net.parameters()]
    accelerator.load_state(str(tmp_path))
    train(accelerator, net, *others)
    assert all(map(torch.equal, net.parameters(), expected))
