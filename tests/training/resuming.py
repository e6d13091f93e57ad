"""A training run that goes on from its last complete checkpoint."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch

import radam
from tests.training.model import OPTIONS, backward, model

LAST = 60
"""Steps of a whole run."""
CHECKPOINT = "checkpoint.pt"


def run(folder: str, pause: float) -> None:
    """Train from the last complete checkpoint to the end, with a checkpoint after each step and a pause of seconds."""
    path = Path(folder) / CHECKPOINT
    net = model()
    optimizer = radam.RAdam(net.parameters(), **OPTIONS)
    done = steps_in(path)
    if done:
        checkpoint = torch.load(path, weights_only=True)
        net.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
    for number in range(done + 1, LAST + 1):
        optimizer.zero_grad()
        backward(net, number)
        optimizer.step()
        state = {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "done": number}
        torch.save(state, path.with_suffix(".new"))
        # A file has its name only once it is whole.
        os.replace(path.with_suffix(".new"), path)
        time.sleep(pause)


def steps_in(path: Path) -> int:
    """How many steps a checkpoint has behind it; 0 where there is none."""
    return int(torch.load(path, weights_only=True)["done"]) if path.exists() else 0
