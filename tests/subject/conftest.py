"""Numbers of the tests of a subject are made on the device that pytest is given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from radam.audit.pytest_plugin import has_radams_constructor
from tests.subject import driving


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A class with RAdam's constructor is judged by the rest of this folder, and by the kit's checks if asked for.

    They ask for more than is promised of such a class, that version counters move, say; and radam-audit runs them.
    """
    if has_radams_constructor(config) and not config.getoption("--checks"):
        for item in items:
            if item.path == Path(__file__).with_name("test_checks.py"):
                item.add_marker("deep")


@pytest.fixture(autouse=True)
def _numbers_on_the_device(device: torch.device) -> Iterator[None]:
    driving.HERE = device
    yield
    driving.HERE = torch.device("cpu")
