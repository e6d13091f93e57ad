"""How often a right optimizer is accused: `python -m tests.mutation.false_alarms --cases 1000000 --json FILE`.

A case is one step of one configuration: of the drawn options of one parameter group, with its drawn tensors. Two right
RAdams with textbook scalars and radam's own, by each kernel, take the steps in each dtype; every number is compared as
in tests/subject/test_numbers.py. What pieces of the work have shown is kept in FILE: the
command goes on where it ended.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import sys
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import radam
from radam.audit import Subject
from radam.audit.auditing import versions
from radam.audit.lockstep import Discrepancy
from radam.audit.strategies import cases
from radam.audit.subjects.finding import find
from radam.audit.subjects.radam import BACKENDS, IMPLEMENTATIONS, family
from tests.mutation.forking import each_in_a_process
from tests.subject.test_numbers import drive

RIGHT = ("tests.mutation.right_loop:RAdam", "tests.mutation.right_foreach:RAdam")
KERNELS = tuple(name for name in IMPLEMENTATIONS if name not in BACKENDS)
DTYPES = ("float64", "float32", "bfloat16", "float16", "complex64", "complex128")
EXAMPLES = 60
"""Drawn configurations of one to three groups in a piece, of 8 steps and more each."""
CONFIDENCE = 0.95


@dataclass
class Tally:
    """What some pieces of the work showed, of one optimizer in one dtype."""

    subject: str
    dtype: str
    pieces: int = 0
    """Those from 0 on."""
    cases: int = 0
    judged: int = 0
    unjudged: int = 0
    worst: float = 0.0
    """The largest error, in units of its bound."""
    alarms: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Count more of the same."""
        self.pieces += other.pieces
        self.cases += other.cases
        self.judged += other.judged
        self.unjudged += other.unjudged
        self.worst = max(self.worst, other.worst)
        self.alarms += other.alarms


def subjects() -> dict[str, Subject]:
    """The right optimizers, by name."""
    own, whole = find("radam:RAdam")
    assert whole is not None
    by_kernel = {
        f"radam, {kernel}": replace(own, build=replace(family(radam.RAdam), implementation=kernel).build)
        for kernel in KERNELS
    }
    return {name.split(".")[-1].partition(":")[0]: find(name)[0] for name in RIGHT} | by_kernel


def work(key: tuple[str, str, int]) -> Tally:
    """Do one piece: of an optimizer, a dtype, and a number that the draws depend on."""
    piece = Tally(*key[:2], pieces=1)
    subject = subjects()[piece.subject]
    dtype = getattr(torch, piece.dtype)

    @seed(zlib.crc32(repr(key).encode()))
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def draw(data: st.DataObject) -> None:
        case = data.draw(cases(subject.hyperparameters, (dtype,)))
        try:
            lockstep = drive(subject, case, torch.device("cpu"))
        except Discrepancy as alarm:
            piece.alarms.append(str(alarm))
            return
        record = lockstep.record
        piece.cases += record.steps * len(case.options)
        piece.judged += record.judged
        piece.unjudged += record.unjudged
        piece.worst = max(piece.worst, record.worst)

    draw()
    return piece


def table(tallies: Sequence[Tally]) -> str:
    """Markdown: cases, compared values, the largest error and the alarms, by optimizer and dtype."""
    lines = [
        "| optimizer | dtype | cases | values | without a bound | largest error, in bounds | alarms |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    total = Tally("all", "")
    for tally in tallies:
        total.add(tally)
    for tally in (*tallies, total):
        share = tally.unjudged / max(1, tally.judged + tally.unjudged)
        lines.append(
            f"| {tally.subject} | {tally.dtype} | {tally.cases:,} | {tally.judged:,} | {share:.2%} | "
            f"{tally.worst:.2f} | {len(tally.alarms)} |"
        )
    if not total.alarms and total.cases:
        # (1 - p)^n = 1 - confidence
        rate = -math.expm1(math.log1p(-CONFIDENCE) / total.cases)
        lines += [
            "",
            f"No alarm in {total.cases:,} cases: with {CONFIDENCE:.0%} confidence, less than {rate:.1e} a case.",
        ]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Do pieces until there are enough cases, print the table, and return 1 if there was an alarm."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.false_alarms", description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="in all, those in FILE included (default: 20,000)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="keep the pieces in this file, and go on from it")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    options = parser.parse_args(argv)
    tallies = {cell: Tally(*cell) for cell in itertools.product(subjects(), DTYPES)}
    if options.json and options.json.exists():
        for each in json.loads(options.json.read_text())["tallies"]:
            tallies[each["subject"], each["dtype"]] = Tally(**each)
    torch.set_num_threads(1)
    while sum(tally.cases for tally in tallies.values()) < options.cases:
        fewest = min(tally.pieces for tally in tallies.values())
        waiting = [(*cell, fewest) for cell, tally in tallies.items() if tally.pieces == fewest]
        for result in each_in_a_process(work, waiting, options.jobs, 3600.0):
            if result.trouble:
                raise RuntimeError(f"{result.task}: {result.trouble}")
            tallies[result.task[:2]].add(result.result)
            if options.json:
                _keep(options.json, tallies.values())
    text = table(list(tallies.values()))
    print(text)
    if options.markdown:
        options.markdown.write_text(f"What `python -m tests.mutation.false_alarms` has printed so far.\n\n{text}")
    alarms = [(tally, alarm) for tally in tallies.values() for alarm in tally.alarms]
    for tally, alarm in alarms:
        print(f"{tally.subject}, {tally.dtype}: {alarm}")
    return 1 if alarms else 0


def _keep(path: Path, tallies: Iterable[Tally]) -> None:
    document: dict[str, Any] = {"schema": 1, "versions": versions(), "tallies": [asdict(tally) for tally in tallies]}
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(document, indent=1) + "\n")
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main())
