"""Tests of a peer, run by pytest inside of this process, which has been forked for it."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.mutation.peers.peer import Outcomes


def enter(folder: Path) -> None:
    """Make a folder of sources the place to import from, where this repository was it. Some have a `tests` too."""
    os.chdir(folder)
    here = Path(__file__).resolve().parents[3]
    sys.path[:] = [str(folder), *(entry for entry in sys.path if entry and Path(entry).resolve() != here)]
    for name in list(sys.modules):
        if name == "tests" or name.startswith("tests."):
            del sys.modules[name]


class _Plugin:
    """Keeps some tests, seeds each of them, and notes what came of it."""

    def __init__(self, keep: Callable[[pytest.Item], bool], seed: int) -> None:
        self.keep = keep
        self.seed = seed
        self.outcomes: Outcomes = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if self.keep(item)]
        # Until one has ended, it has failed: the process may be at its end before.
        self.outcomes = dict.fromkeys([item.nodeid for item in items], "failed")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        random.seed(self.seed)
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            numpy.random.seed(self.seed)
        torch = sys.modules.get("torch")
        if torch is not None:
            torch.manual_seed(self.seed)
        self.outcomes[item.nodeid] = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.outcomes[report.nodeid] = "failed"
        elif report.skipped and not self.outcomes[report.nodeid]:
            self.outcomes[report.nodeid] = "skipped"
        elif report.when == "call" and not self.outcomes[report.nodeid]:
            self.outcomes[report.nodeid] = "passed"


def by_pytest(files: Sequence[str], keep: Callable[[pytest.Item], bool], seed: int, *options: str) -> Outcomes:
    """What comes of some tests in the files. Nothing where they cannot even be collected."""
    plugin = _Plugin(keep, seed)
    pytest.main(["-q", "-p", "no:cacheprovider", "-o", "addopts=", *options, *files], plugins=[plugin])
    return {test: said or "failed" for test, said in plugin.outcomes.items()}
