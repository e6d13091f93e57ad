"""How long a step takes: all candidates in turns in one process, so that a busy machine slows all alike."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from tests.bench.candidates import FOREACH, candidates
from tests.bench.sets import Set

WARM_UP = 8
"""Steps before the first that counts: all of them are adaptive from then on."""
LEAST_SECONDS = 5e-3
"""A turn takes as many steps as last this long."""
FLOOR = "floor"
"""What the bytes of a step take at the speed at which the same machine adds to memory in place."""
BYTES_OF_AN_ADDITION = 2
"""In place: each element is read and written."""
BYTES_OF_A_STEP = 7
"""p, m and v are read and written, g is read: in elements, like the former."""


@dataclass(frozen=True)
class Timing:
    """Seconds of a step of a candidate on a set, one figure a round."""

    set: str
    threads: int
    candidate: str
    seconds: list[float]
    elements: int

    @property
    def median(self) -> float:
        """In seconds."""
        return statistics.median(self.seconds)


def ratios(own: Timing, other: Timing) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of the ratio of two candidates within a round."""
    each = [a / b for a, b in zip(own.seconds, other.seconds, strict=True)]
    low, middle, high = statistics.quantiles(each, n=4)
    return low, middle, high


def measure(parameters: Set, threads: int, rounds: int, device: str, *, compiled: bool) -> list[Timing]:
    """Time the steps of all candidates on one set.

    They share parameters and gradients, which need not be copied for each.
    """
    torch.set_num_threads(threads)
    params = parameters.parameters(device)
    steps: dict[str, Callable[[], Any]] = {}
    for name, build in candidates(parameters, compiled=compiled).items():
        steps[name] = build(params).step
        for _ in range(WARM_UP):
            steps[name]()
    buffer = torch.zeros(parameters.elements, dtype=parameters.dtype, device=device)
    steps[FLOOR] = lambda: buffer.add_(1.0)
    turns = {name: max(1, round(LEAST_SECONDS / _seconds(step, 3, device))) for name, step in steps.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            seconds[name].append(_seconds(step, turns[name], device))
    seconds[FLOOR] = [time * BYTES_OF_A_STEP / BYTES_OF_AN_ADDITION for time in seconds[FLOOR]]
    return [Timing(parameters.name, threads, name, own, parameters.elements) for name, own in seconds.items()]


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Other processes that take all they get."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def _seconds(step: Callable[[], Any], times: int, device: str) -> float:
    """Of one of several calls: by the clock on a CPU, by events on a GPU."""
    if device == "cpu":
        start = time.perf_counter()
        for _ in range(times):
            step()
        return (time.perf_counter() - start) / times
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()  # type: ignore[no-untyped-call]
    for _ in range(times):
        step()
    last.record()  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    return float(first.elapsed_time(last)) / 1e3 / times  # type: ignore[no-untyped-call]


def markdown(timings: list[Timing]) -> str:
    """A table: milliseconds of the baseline, and the others in times of it, with quartiles."""
    columns = list(dict.fromkeys((timing.set, timing.threads) for timing in timings))
    known = {(timing.set, timing.threads, timing.candidate): timing for timing in timings}
    names = list(dict.fromkeys(timing.candidate for timing in timings))
    lines = [
        "| | " + " | ".join(f"{name}, {threads} thread{'s' * (threads > 1)}" for name, threads in columns) + " |",
        "|---" + "|--:" * len(columns) + "|",
    ]
    for name in names:
        cells = []
        for column in columns:
            own, base = known.get((*column, name)), known[(*column, FOREACH)]
            if own is None:
                cells.append("")
            elif own is base:
                cells.append(f"{1e3 * own.median:.3g} ms")
            else:
                low, middle, high = ratios(own, base)
                cells.append(f"{middle:.3f} ({low:.3f}-{high:.3f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
