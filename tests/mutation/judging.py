"""The judges of an optimizer: radam.audit's checks, the tests of a RAdam, and those of a module of radam's."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from radam.audit import Subject
from radam.audit.auditing import MAX_EXAMPLES, Plan, carry_out, chosen, judged, plan, prepared, resolved
from radam.audit.capabilities import CAPABILITIES, SWITCHES, Capabilities
from radam.audit.checks import groups
from radam.audit.run import Setting
from tests.mutation.automatic.mutations import ROOT
from tests.mutation.automatic.order import tests_of
from tests.mutation.catalogue import BY_NAME
from tests.mutation.mutant import LIKE, Mutant, base_module, judged_as, origin, patched_source
from tests.mutation.variants import VARIANTS

RIGHT = {
    "right_adam": "tests.mutation.judging:RIGHT_ADAM",
    "right_loop": "tests.mutation.right_loop:RAdam",
    "right_foreach": "tests.mutation.right_foreach:RAdam",
    **{variant.name: f"tests.mutation.variants:{variant.name}" for variant in VARIANTS},
}
"""Right optimizers by name; the first has torch's constructor of Adam, the others RAdam's."""
RIGHT_ADAM = judged_as(base_module("right_adam"), "right_adam", "right_adam")
FEW = 6
"""Examples of each check in the first round, in which most mutants are found."""
NOT_COMPILED = frozenset(CAPABILITIES) - {"compile"}
ONE_PATH = NOT_COMPILED - SWITCHES.keys() | {"differentiable"}
"""What is looked at in the plain optimizers of this folder: they have one way to run a step, whatever is asked for."""
EXPECTED = {"written_through_data": {"version_counters_move": "a step through .data is hidden from autograd"}}
"""What the audit has against optimizers that are right for a RAdam."""


@dataclass(frozen=True)
class Found:
    """How an optimizer was found out."""

    by: str
    """A check and its setting, or a test."""
    reason: str
    seconds: float
    examples: int = 0
    """Of that check."""


@dataclass
class Verdict:
    """What the judges made of one optimizer."""

    name: str
    base: str
    part: str
    audit: Found | None = None
    suite: Found | None = None
    own: Found | None = None
    """By the tests of the module, if it is one of radam's."""
    asked: tuple[str, ...] = ()
    """The judges that were asked and came to an end."""
    row: dict[str, str] = field(default_factory=dict)
    """What each check said: failed, passed or skipped."""
    trouble: str = ""

    @property
    def found(self) -> bool:
        """Whether a judge has found it out."""
        return any((self.audit, self.suite, self.own))


BY_CHECKS_ALONE = {
    "old_file_without_maximize": "A RAdam need not fill in what an older file lacks; a check sees if it does.",
    "half_written_past_version": "A RAdam need not move version counters; a check sees if it does.",
}
"""Mutants of a RAdam that its tests need not find, and why."""

CHECKS_ABOUT = {
    "plumbing": "Invariances",
    "maximize": "Invariances",
    "complex": "Invariances",
    "gradient handling": "Gradients",
    "layout": "Tensors",
    "dtype": "Half precision",
    "state and resume": "State",
    "amsgrad": "State",
    "memory": "Memory",
    "closure": "Calls",
    "validation": "Arguments",
}
"""The group of checks that is about a part of an optimizer, where it is not the numbers."""


def is_plain(base: str) -> bool:
    """Whether the base is an optimizer of this folder, or none: a right optimizer by itself."""
    return "." not in base


def subject_of(name: str) -> Subject:
    """A mutant or a right optimizer as a Subject."""
    where = RIGHT.get(name, f"tests.mutation.wrong:{name}")
    return replace(resolved(where), expected_failures=EXPECTED.get(name, {}))


NEAR = {
    "radam.kernels.loop": frozenset({"loop", "differentiable"}),
    "radam.kernels.foreach": frozenset({"foreach"}),
    "radam.kernels.fused": frozenset({"default", "fused"}),
    "radam.kernels.capturable": frozenset({"capturable"}),
    "radam.kernels.settled": frozenset({"default"}),
}
"""The implementations by which a module's mistakes show: they come first."""


def rounds(
    capabilities: Capabilities, base: str, quick: bool, part: str = "", whole: bool = False
) -> Iterator[tuple[int, Iterator[Plan]]]:
    """The checks of a subject with few examples; if not quick, of compiled steps too, then with more examples.

    The first round is one with all of them, if it is wanted `whole`.
    """
    subject = capabilities.subject
    supports = frozenset(filter(capabilities.has, ONE_PATH if is_plain(base) else NOT_COMPILED))
    not_compiled = Capabilities(replace(subject, supports=supports), capabilities.device)
    near = NEAR.get(base, frozenset())

    def among(capabilities: Capabilities, wanted: Callable[[str], bool]) -> Iterator[Plan]:
        return (each for each in plan(capabilities, checks) if wanted(getattr(each.setting, "implementation", "")))

    # The first finds most; then those about the part; what has few settings is soon done.
    about = {check.name for group in groups() if group.title == CHECKS_ABOUT.get(part) for check in group.checks}
    checks = sorted(
        chosen(None), key=lambda check: (check.name != "every_step", check.name not in about, len(check.each))
    )
    if near and not whole:
        yield FEW, among(not_compiled, lambda implementation: implementation in near)
        yield FEW, among(not_compiled, lambda implementation: implementation not in near)
    else:
        yield FEW, plan(not_compiled, checks)
    if quick:
        return
    if not is_plain(base):
        yield FEW, among(capabilities, lambda implementation: implementation == "compiled")
    yield MAX_EXAMPLES, plan(not_compiled, checks)


@functools.cache
def _base_capabilities(base: str) -> Capabilities:
    return prepared(resolved(judged_as(base_module(base), base, base)), torch.device("cpu"))


def _base_fails(base: str, planned: Plan, max_examples: int) -> bool:
    """Whether the unpatched source fails the check in the same setting: then it says nothing about a mistake."""
    setting = planned.setting
    assert isinstance(setting, Setting)
    capabilities = _base_capabilities(base)
    same = replace(setting, subject=capabilities.subject, capabilities=capabilities)
    return carry_out(Plan(planned.check, same), max_examples, smaller=0.0).status == "failed"


def by_audit(
    make: Callable[[], Subject], base: str, matrix: bool = False, quick: bool = False, part: str = ""
) -> tuple[Found | None, dict[str, str]]:
    """Run the checks until one fails that the base passes; with `matrix` the others of the first round too.

    Args:
        make: the optimizer as a Subject.
        base: what was patched; "" for a right optimizer.
        matrix: see above.
        quick: the first round alone, of few examples.
        part: what is wrong, where that is known: the checks about it come first.

    Returns:
        How it was found, and what each check said in the first round, if it came to its end.
    """
    started = time.perf_counter()
    try:
        subject = make()
        capabilities = prepared(subject, torch.device("cpu"))
    except ValueError as error:
        return Found("it cannot be audited", str(error), time.perf_counter() - started), {}
    found: Found | None = None
    first: dict[str, str] = {}
    on_base = 0.0
    for max_examples, planned_checks in rounds(capabilities, base, quick, part, whole=matrix):
        row: dict[str, str] = {}
        for planned in planned_checks:
            check = planned.check.name
            if row.get(check) == "failed":
                continue
            entry = judged(subject, carry_out(planned, max_examples, smaller=0.0))
            status = entry.status
            if status == "failed":
                seconds = time.perf_counter() - started - on_base
                if base and _base_fails(base, planned, max_examples):
                    status = "passed"
                on_base = time.perf_counter() - started - seconds
            if status == "failed" and found is None:
                found = Found(entry.cell, entry.reason, seconds, entry.examples)
                if not matrix:
                    return found, {}
            row[check] = max(row.get(check, "skipped"), status, key=STATUSES.index)
        first = first or row
        if found is not None:
            break
    return found, first if matrix else {}


STATUSES = ("skipped", "xfail", "passed", "failed")
"""Of a check in a setting; the last of its settings' is the check's."""
FIRST = ("test_signature", "test_threshold", "test_groups")
LAST = "test_numbers"
ABOUT = {
    "rectification": "test_long_runs",
    "step count": "test_long_runs",
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
"""The file that is about a part of an optimizer: it is run first, what finds most in least time comes next, the longest
last."""


def ordered_tests(part: str = "") -> list[str]:
    """The files of the tests of a RAdam, those first that are likely to find one that is wrong in `part`."""
    folder = Path(__file__).parent.parent / "subject"
    # The kit's checks ask for more than is promised of a class with RAdam's constructor.
    files = [file for file in folder.glob("test_*.py") if file.name != "test_checks.py"]
    first = [*FIRST[:1], ABOUT.get(part, ""), *FIRST[1:]]

    def rank(file: Path) -> tuple[bool, int, str]:
        return (file.stem == LAST, first.index(file.stem) if file.stem in first else len(first), file.stem)

    return [str(file) for file in sorted(files, key=rank)]


class _FirstFailure:
    """A pytest plugin that keeps the first failure; tests with generated examples, which take longer, come last."""

    def __init__(self) -> None:
        self.test, self.reason = "", ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: getattr(getattr(item, "obj", None), "is_hypothesis_test", False))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.test:
            self.test = report.nodeid.removeprefix("tests/subject/")
            crash = getattr(report.longrepr, "reprcrash", None)
            self.reason = (crash.message if crash else str(report.longrepr)).splitlines()[0][:300]


def by_suite(specification: str, tests: Sequence[str]) -> Found | None:
    """Run the tests of a RAdam until one fails.

    Raises:
        RuntimeError: pytest ended otherwise than by passed or failed tests.
    """
    first = _FirstFailure()
    started = time.perf_counter()
    # What is imported already is not rewritten, which makes no difference to what fails.
    quiet = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    options = ["-x", *quiet, "--hypothesis-profile=find", "--subject", specification]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = int(pytest.main([*options, *tests], plugins=[first]))
    if status == 1 and first.test:
        return Found(first.test, first.reason, time.perf_counter() - started)
    if status:
        last = said.getvalue().strip().splitlines()[-1:]
        raise RuntimeError(f"pytest exited with {status} for {specification}: {last}")
    return None


_IN_A_PROCESS = """
import contextlib, io, json, sys
from tests.mutation.automatic.running import run_tests, serve

given = json.load(sys.stdin)
with contextlib.redirect_stdout(io.StringIO()):
    serve(given["file"], given["source"])
    killer = run_tests(given["tests"])
print(json.dumps(killer and [killer.by, killer.why]))
"""


def _file(module: str) -> str:
    """The file of a module of radam's, from the root of the repository."""
    path = ROOT.joinpath(*module.split("."))
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).relative_to(ROOT).as_posix()


def by_own_tests(mutant: Mutant) -> Found | None:
    """Run the tests of a module of radam's on a mutant of it, then all others of radam, until one fails.

    Raises:
        RuntimeError: they ended otherwise than by passed or failed tests.
    """
    started = time.perf_counter()
    file = _file(mutant.base)
    # The examples in a docstring are not tests. What is asked of any RAdam is asked of radam's.
    tests = [*(name for name in tests_of(file) if name != file), *ordered_tests(), "tests/core"]
    done = subprocess.run(
        [sys.executable, "-c", _IN_A_PROCESS],
        input=json.dumps({"file": file, "source": patched_source(mutant), "tests": tests}),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"the tests of {file} came to no end: {done.stderr.strip().splitlines()[-1:]}")
    killer = json.loads(done.stdout.splitlines()[-1])
    return Found(*killer, time.perf_counter() - started) if killer else None


def verdict(name: str, matrix: bool = False, quick: bool = False, soon: bool = False) -> Verdict:
    """Let the judges judge a mutant, or a right optimizer; if `soon`, no audit of what the tests have found."""
    mutant = BY_NAME.get(name)
    result = Verdict(name, mutant.base if mutant else "", mutant.part if mutant else "right")
    base = mutant.base if mutant else name
    is_radam = is_plain(base) and base not in LIKE
    if is_radam:
        where = RIGHT.get(name, f"tests.mutation.wrong:{name}")
        result.suite = by_suite(where, ordered_tests(result.part))
        result.asked = ("suite",)
    elif mutant and origin(base) == "radam":
        result.own = by_own_tests(mutant)
        result.asked = ("own",)
    if soon and result.found:
        return result
    # Where the tests judge too, few examples are enough: a whole audit of each mutant that it cannot find takes hours.
    few = quick or (mutant is not None and bool(result.asked))
    result.audit, result.row = by_audit(functools.partial(subject_of, name), result.base, matrix, few, result.part)
    result.asked = ("audit", *result.asked)
    return result


def read(verdicts: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """Verdicts from their JSON."""

    def found(value: Mapping[str, Any] | None) -> Found | None:
        return None if value is None else Found(**value)

    return [
        Verdict(
            **{
                **one,
                **{judge: found(one.get(judge)) for judge in ("audit", "suite", "own")},
                "asked": tuple(one["asked"]),
            }
        )
        for one in verdicts
    ]
