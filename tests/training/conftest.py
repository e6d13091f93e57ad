"""Models are trained on the device that pytest is given."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.training import model


@pytest.fixture(autouse=True)
def _on_the_device(device: torch.device) -> Iterator[None]:
    model.HERE = device
    yield
    model.HERE = torch.device("cpu")
