"""What a peer is: an implementation of RAdam, its tests, and a way to see what it computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Edit = tuple[str, str, str]
"""A place, a text that occurs there exactly once, and what stands there instead."""
Numbers = Mapping[str, Sequence[float]]
"""All parameters after each of some steps, by the name of the run. `PATH: OPTIONS` is the form of a name."""
Outcomes = dict[str, str]
"""What came of each test: passed, failed, or skipped."""


@dataclass(frozen=True)
class Peer:
    """An implementation, and the tests that look at its numbers."""

    name: str
    title: str
    """What is edited, with its version, and whose tests are run."""
    source: str
    """The key of its edits in a mistake."""
    sdist: str
    """The source distribution that its tests come from; empty where they are here."""
    needs: tuple[str, ...]
    """Packages that the tests import and this project does not; installed alone, into a folder of their own."""
    places: Mapping[str, tuple[str, str]]
    """The module and the function of each place in which there are edits."""
    preload: tuple[str, ...]
    """What is imported once, before any process is forked. Nothing in it may hold what is edited."""
    tests: Callable[[Path, int], Outcomes]
    """Run the tests in the folder of the sources, with a seed."""
    numbers: Callable[[], Numbers]
    """Take steps by every code path, under every option that a mistake can hide behind."""
    tolerance: float
    """What two right implementations may differ by, relative; a few orders above rounding."""
    environment: Mapping[str, str]


def differing(a: Numbers, b: Numbers, tolerance: float) -> dict[str, float]:
    """The runs in which some number differs by more than rounding, and the largest relative difference of each."""
    found = {}
    for run, ours in a.items():
        most = max((_distance(x, y) for x, y in zip(ours, b[run], strict=True)), default=0.0)
        if most > tolerance:
            found[run] = most
    return found


def _distance(x: float, y: float) -> float:
    if x == y or (math.isnan(x) and math.isnan(y)):
        return 0.0
    if not math.isfinite(x) or not math.isfinite(y):
        return math.inf
    return abs(x - y) / max(abs(x), abs(y))


def path_of(run: str) -> str:
    """The code path of a run."""
    return run.partition(":")[0]
