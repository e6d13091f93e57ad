"""Numbers of the tests of a subject are made on the device that pytest is given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.subject import driving


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The checks of the kit are for others' optimizers first: radam's own are run through them by radam-audit."""
    if not config.getoption("--subject"):
        for item in items:
            if item.path == Path(__file__).with_name("test_checks.py"):
                item.add_marker("deep")


@pytest.fixture(autouse=True)
def _numbers_on_the_device(device: torch.device) -> Iterator[None]:
    driving.HERE = device
    yield
    driving.HERE = torch.device("cpu")
