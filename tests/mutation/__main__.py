"""Run the verification against the catalogue: `python -m tests.mutation`.

Each wrong optimizer must be found; each right one must pass. Exits with 1 otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import multiprocessing.connection
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.mutation.catalogue import MUTANTS
from tests.mutation.variants import VARIANTS

RIGHT = (
    "tests.mutation.right_loop:RAdam",
    "tests.mutation.right_foreach:RAdam",
    *(f"tests.mutation.variants:{variant.name}" for variant in VARIANTS),
)
FIRST = ("test_signature", "test_threshold", "test_groups")
ABOUT = {
    "weight decay": "test_groups",
    "moments": "test_gradients",
    "maximize": "test_gradients",
    "plumbing": "test_groups",
    "state and resume": "test_state",
    "amsgrad": "test_state",
    "closure": "test_closure",
    "gradient handling": "test_gradients",
    "layout": "test_layouts",
    "dtype": "test_dtypes",
    "complex": "test_dtypes",
    "only then": "test_long_runs",
    "validation": "test_constructor",
    "memory": "test_memory",
}
"""The file that is about a part of an optimizer: it is run first, then what finds most in least time, then the rest."""


@dataclass
class Verdict:
    """What the verification made of one optimizer."""

    subject: str
    outcome: str
    """found, passed, timeout, or crashed: an exit status other than those of passed and failed tests."""
    test: str
    """The test that failed first."""
    reason: str
    seconds: float


class _FirstFailure:
    """A pytest plugin that keeps the first failure."""

    def __init__(self) -> None:
        self.test, self.reason = "", ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.test:
            self.test = report.nodeid.removeprefix("tests/subject/")
            crash = getattr(report.longrepr, "reprcrash", None)
            self.reason = (crash.message if crash else str(report.longrepr)).splitlines()[0][:300]


def verify(subject: str, tests: Sequence[str]) -> tuple[int, str, str]:
    """Run the tests against a subject in this process, file by file; exit status, first failed test and its reason."""
    first = _FirstFailure()
    status = 0
    for file in tests:
        arguments = [
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "--hypothesis-profile=find",
            "--subject",
            subject,
            file,
        ]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            status = int(pytest.main(arguments, plugins=[first]))
        if status:
            break
    return status, first.test, first.reason


def _child(connection: multiprocessing.connection.Connection, subject: str, tests: Sequence[str]) -> None:
    connection.send(verify(subject, tests))
    connection.close()
    # The parent's exit handlers are not the child's to run.
    sys.stdout.flush()
    os._exit(0)


def verdicts(subjects: Mapping[str, Sequence[str]], jobs: int, limit: float) -> Iterator[Verdict]:
    """Verify optimizers by their tests in processes of their own: `jobs` at a time, each at most `limit` seconds."""
    context = multiprocessing.get_context("fork")
    waiting = list(subjects)
    running: dict[Any, tuple[str, Any, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            subject = waiting.pop(0)
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_child, args=(sender, subject, subjects[subject]))
            process.start()
            sender.close()
            running[receiver] = (subject, process, time.monotonic())
        ready = multiprocessing.connection.wait(list(running), timeout=1.0)
        for receiver in list(running):
            subject, process, start = running[receiver]
            seconds = time.monotonic() - start
            if receiver in ready:
                try:
                    status, test, reason = receiver.recv()
                    outcome = {0: "passed", 1: "found"}.get(status, "crashed")
                    if outcome == "crashed":
                        reason = f"pytest exited with {status}"
                except EOFError:
                    outcome, test, reason = "crashed", "", "the process ended"
            elif seconds > limit:
                process.kill()
                outcome, test, reason = "timeout", "", f"more than {limit:.0f} s"
            else:
                continue
            process.join()
            del running[receiver]
            yield Verdict(subject.rpartition(":")[2] if "wrong" in subject else subject, outcome, test, reason, seconds)


def ordered_tests(part: str = "") -> list[str]:
    """The files of the verification, those first that are likely to find an optimizer that is wrong in `part`."""
    folder = Path(__file__).parent.parent / "subject"
    # The kit's checks ask for more than is promised of a class with RAdam's constructor.
    files = [file for file in folder.glob("test_*.py") if file.name != "test_checks.py"]
    first = [*FIRST[:1], ABOUT.get(part, ""), *FIRST[1:]]

    def rank(file: Path) -> tuple[int, str]:
        return (first.index(file.stem) if file.stem in first else len(first), file.stem)

    return [str(file) for file in sorted(files, key=rank)]


def table(results: Sequence[Verdict]) -> str:
    """Markdown: how many wrong optimizers were found, by the part that is wrong, and in what time."""
    by_name = {result.subject: result for result in results}
    parts: dict[str, list[Verdict]] = {}
    for mutant in MUTANTS:
        if mutant.name in by_name:
            parts.setdefault(mutant.part, []).append(by_name[mutant.name])
    lines = ["| part | wrong | found | seconds, median | seconds, most |", "|---|--:|--:|--:|--:|"]
    parts["all"] = [by_name[mutant.name] for mutant in MUTANTS if mutant.name in by_name]
    for part, members in parts.items():
        seconds = sorted(verdict.seconds for verdict in members)
        found = sum(verdict.outcome == "found" for verdict in members)
        lines.append(f"| {part} | {len(members)} | {found} | {seconds[len(seconds) // 2]:.1f} | {seconds[-1]:.1f} |")
    for name in RIGHT:
        if name in by_name:
            lines.append(f"\nRight: `{name}` {by_name[name].outcome}.")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the catalogue, print what survives, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants (default: all, and the right ones)")
    parser.add_argument("--right", action="store_true", help="the right ones alone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for one optimizer (default: 300)")
    parser.add_argument("--json", type=Path, help="write the verdicts to this file")
    parser.add_argument("--markdown", type=Path, help="write a table by part of the optimizer to this file")
    options = parser.parse_args(argv)
    unknown = set(options.names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        parser.error(f"no mutant is called {', '.join(sorted(unknown))}")
    names = [] if options.right else options.names or [mutant.name for mutant in MUTANTS]
    parts = {mutant.name: mutant.part for mutant in MUTANTS}
    wrong = {f"tests.mutation.wrong:{name}": ordered_tests(parts[name]) for name in names}
    right = {} if options.names else {subject: ordered_tests() for subject in RIGHT}
    torch.set_num_threads(1)
    # What this process has imported, its children need not.
    verify("radam:RAdam", ordered_tests()[:1])
    results = []
    bad = []
    for verdict in verdicts({**right, **wrong}, options.jobs, options.limit):
        results.append(verdict)
        expected = "passed" if verdict.subject in right else "found"
        if verdict.outcome != expected:
            bad.append(verdict)
        print(f"{verdict.outcome:8} {verdict.seconds:6.1f} s  {verdict.subject}  {verdict.test}", flush=True)
        if options.json:
            options.json.write_text(json.dumps([asdict(result) for result in results], indent=1))
    if options.markdown:
        options.markdown.write_text(table(results))
    found = sum(result.outcome == "found" and result.subject not in right for result in results)
    alarms = sum(result.outcome != "passed" and result.subject in right for result in results)
    print(f"\n{found} of {len(wrong)} wrong optimizers found, {alarms} of {len(right)} right ones accused")
    for verdict in bad:
        print(f"  {verdict.subject}: {verdict.outcome} {verdict.test} {verdict.reason}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
