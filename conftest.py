"""Options, fixtures and Hypothesis profiles of the suite."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings

from tests.statistics.false_alarm import LEDGER, of_items
from tests.subject.tally import TALLY, Tally

pytest_plugins = ["radam.audit.pytest_plugin"]

# Small tensors: a second thread costs more than it brings, most of all on a busy machine.
torch.set_num_threads(1)

_COMMON = settings(
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("quick", _COMMON, max_examples=30)
settings.register_profile("subject", _COMMON, max_examples=60)
settings.register_profile("thorough", _COMMON, max_examples=1000)
settings.register_profile("exhaustive", _COMMON, max_examples=50000)
# For measuring power: the same examples each time, and no smaller one is looked for.
settings.register_profile("find", _COMMON, max_examples=60, derandomize=True, phases=[Phase.explicit, Phase.generate])
settings.load_profile("quick")


def pytest_configure(config: pytest.Config) -> None:
    """Another optimizer is worth more examples than ours, which has been judged before."""
    if config.getoption("--subject") and not config.getoption("--hypothesis-profile", None):
        settings.load_profile("subject")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """All tests are worth all cores; some files are not worth the start of a second process. `-n 0` is one process."""
    whole = sorted(config.args) == sorted(config.getini("testpaths"))
    if whole and getattr(config.option, "numprocesses", 0) is None and not hasattr(config, "workerinput"):
        config.option.numprocesses = "auto"


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Add up how likely the statistical tests are to accuse what is right."""
    LEDGER.entries.update(of_items(session.items))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what a worker process has compared to the process that reports it."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["tally"] = TALLY.as_dict()
        output["false_alarms"] = LEDGER.entries


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker process has compared, and collected."""
    LEDGER.entries.update(getattr(node, "workeroutput", {}).get("false_alarms", {}))
    TALLY.merge(getattr(node, "workeroutput", {}).get("tally", Tally().as_dict()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was compared."""
    if TALLY.cases:
        terminalreporter.write_line(str(TALLY))
    if LEDGER.entries:
        terminalreporter.write_line(str(LEDGER))
