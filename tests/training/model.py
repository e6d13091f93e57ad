"""A small model, its data, and its training with an oracle beside the optimizer."""

from __future__ import annotations

from typing import Any

import torch

import radam
from radam.audit import Lockstep
from radam.audit.lockstep import Record
from radam.audit.subjects.radam import oracle

HERE = torch.device("cpu")
"""Where models and data are: as pytest's --device says, on each process a device of its own."""
OPTIONS: dict[str, Any] = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-8}
STEPS = 8
"""Momentum steps and adaptive ones: at beta2 = 0.99 the sixth is the first of these."""


def model(width: int = 12) -> torch.nn.Sequential:
    """Linear layers, one with an odd number of rows so that shards differ, and a norm; the same each time."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(6, width), torch.nn.LayerNorm(width), torch.nn.Tanh(), torch.nn.Linear(width, 5)
    ).to(HERE)


def batch(step: int, rank: int = 0, size: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets of a step, others on each rank."""
    generator = torch.Generator().manual_seed(1000 * step + rank)
    return torch.randn(size, 6, generator=generator).to(HERE), torch.randn(size, 5, generator=generator).to(HERE)


def backward(net: torch.nn.Module, step: int, rank: int = 0) -> torch.Tensor:
    """Compute the gradients of a step, and return the loss."""
    inputs, targets = batch(step, rank)
    loss = torch.nn.functional.mse_loss(net(inputs), targets)
    loss.backward()
    return loss.detach()


def watched(optimizer: radam.RAdam, *, amsgrad: bool = False, **switches: Any) -> Lockstep:
    """An oracle beside a RAdam, which judges each of its steps; to it, switches make no difference."""
    groups = [{**OPTIONS, "amsgrad": amsgrad} for _ in optimizer.param_groups]
    return Lockstep(optimizer, groups, oracle, scalars="exact")


def train(net: torch.nn.Module, optimizer: Any, lockstep: Lockstep, rank: int = 0, steps: int = STEPS) -> Record:
    """Train for some steps, each judged."""
    with lockstep.watching() as record:
        for step in range(1, steps + 1):
            optimizer.zero_grad()
            backward(net, step, rank)
            optimizer.step()
    return record
