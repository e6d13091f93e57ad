"""How often a right optimizer is accused: `python -m tests.mutation.false_alarms --cases 1000000 --json FILE`.

A case is one step of one configuration: of the drawn options of one parameter group, with its drawn tensors. Two right
RAdams with textbook scalars and radam's own, by each kernel, take the steps in each dtype; every number is compared as
in tests/subject/test_numbers.py. The work is done in pieces that are kept in FILE: the command goes on where it ended.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import sys
import time
import zlib
from collections.abc import Sequence
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
class Piece:
    """What one piece of the work showed."""

    subject: str
    dtype: str
    number: int
    cases: int = 0
    judged: int = 0
    unjudged: int = 0
    worst: float = 0.0
    """The largest error, in units of its bound."""
    alarms: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def key(self) -> tuple[str, str, int]:
        """Which piece it is."""
        return self.subject, self.dtype, self.number


def subjects() -> dict[str, Subject]:
    """The right optimizers, by name."""
    own, whole = find("radam:RAdam")
    assert whole is not None
    by_kernel = {
        f"radam, {kernel}": replace(own, build=replace(family(radam.RAdam), implementation=kernel).build)
        for kernel in KERNELS
    }
    return {name.split(".")[-1].partition(":")[0]: find(name)[0] for name in RIGHT} | by_kernel


def work(key: tuple[str, str, int]) -> Piece:
    """Do one piece."""
    piece = Piece(*key)
    subject = subjects()[piece.subject]
    dtype = getattr(torch, piece.dtype)
    started = time.perf_counter()

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
    piece.seconds = time.perf_counter() - started
    return piece


def table(pieces: Sequence[Piece]) -> str:
    """Markdown: cases, compared values, the largest error and the alarms, by optimizer and dtype."""
    lines = [
        "| optimizer | dtype | cases | values | without a bound | largest error, in bounds | alarms |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]

    def line(title: str, own: Sequence[Piece]) -> str:
        judged, unjudged = sum(piece.judged for piece in own), sum(piece.unjudged for piece in own)
        share = unjudged / max(1, judged + unjudged)
        worst = max(piece.worst for piece in own)
        alarms = sum(len(piece.alarms) for piece in own)
        return (
            f"| {title} | {sum(piece.cases for piece in own):,} | {judged:,} | {share:.2%} | {worst:.2f} | {alarms} |"
        )

    for subject, dtype in dict.fromkeys((piece.subject, piece.dtype) for piece in sorted(pieces, key=lambda p: p.key)):
        own = [piece for piece in pieces if (piece.subject, piece.dtype) == (subject, dtype)]
        lines.append(line(f"{subject} | {dtype}", own))
    lines.append(line("all | ", pieces))
    total, alarms = sum(piece.cases for piece in pieces), sum(len(piece.alarms) for piece in pieces)
    if not alarms and total:
        # (1 - p)^n = 1 - confidence
        rate = -math.expm1(math.log1p(-CONFIDENCE) / total)
        lines += ["", f"No alarm in {total:,} cases: with {CONFIDENCE:.0%} confidence, less than {rate:.1e} a case."]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Do pieces until there are enough cases, print the table, and return 1 if there was an alarm."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.false_alarms", description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="in all, those in FILE included (default: 20,000)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="keep the pieces in this file, and go on from it")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    options = parser.parse_args(argv)
    pieces: list[Piece] = []
    if options.json and options.json.exists():
        pieces = [Piece(**piece) for piece in json.loads(options.json.read_text())["pieces"]]
    torch.set_num_threads(1)
    cells = list(itertools.product(subjects(), DTYPES))
    while sum(piece.cases for piece in pieces) < options.cases:
        rounds = [piece.number for piece in pieces]
        done = {piece.key for piece in pieces}
        number = next(n for n in itertools.count() if any((*cell, n) not in done for cell in cells)) if rounds else 0
        waiting = [(*cell, number) for cell in cells if (*cell, number) not in done]
        for result in each_in_a_process(work, waiting, options.jobs, 3600.0):
            if result.trouble:
                raise RuntimeError(f"{result.task}: {result.trouble}")
            pieces.append(result.result)
            _keep(options.json, pieces)
    text = table(pieces)
    print(text)
    if options.markdown:
        options.markdown.write_text(text)
    alarms = [(piece, alarm) for piece in pieces for alarm in piece.alarms]
    for piece, alarm in alarms:
        print(f"{piece.subject}, {piece.dtype}: {alarm}")
    return 1 if alarms else 0


def _keep(path: Path | None, pieces: Sequence[Piece]) -> None:
    if path is not None:
        document: dict[str, Any] = {"schema": 1, "versions": versions(), "pieces": [asdict(piece) for piece in pieces]}
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(document))
        partial.replace(path)


if __name__ == "__main__":
    sys.exit(main())
