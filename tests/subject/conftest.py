"""Numbers of the tests of a subject are made on the device that pytest is given."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.subject import driving


@pytest.fixture(autouse=True)
def _numbers_on_the_device(device: torch.device) -> Iterator[None]:
    driving.HERE = device
    yield
    driving.HERE = torch.device("cpu")
