"""How likely the statistical tests of a run are to accuse what is right: each says so, and they are added up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

Test = TypeVar("Test", bound=Callable[..., Any])

ALPHA = 1e-8
"""False-alarm probability of one test on one seed."""
SEEDS = 2
"""Of each test: the first and one that is drawn."""
MOST = 1e-6
"""What all tests together may have."""


def statistical(test: Test) -> Test:
    """A test of `seed` that accuses what is right with probability ALPHA at most, for each of SEEDS seeds."""
    drawn = given(seed=st.integers(0, 2**32 - 1))(settings(max_examples=SEEDS)(test))
    marked: Test = pytest.mark.false_alarm(ALPHA * SEEDS)(drawn)
    return marked


def of_items(items: Iterable[pytest.Item]) -> dict[str, float]:
    """The false-alarm probability of each collected test that has one."""
    marked = ((item, item.get_closest_marker("false_alarm")) for item in items)
    return {item.nodeid: float(marker.args[0]) for item, marker in marked if marker}


class Ledger:
    """What has been collected, in this process and in those that report to it."""

    def __init__(self) -> None:
        self.entries: dict[str, float] = {}

    def __str__(self) -> str:
        return (
            f"{len(self.entries)} statistical tests: all together accuse what is right with a probability of at most "
            f"{sum(self.entries.values()):.2g}"
        )


LEDGER = Ledger()
