"""Running checks on a subject."""

from __future__ import annotations

import fnmatch
import platform
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException, Unsatisfiable
from hypothesis.strategies import DataObject

from radam.audit.capabilities import Capabilities
from radam.audit.checks import Check, Missing, all_checks
from radam.audit.finding import Finding, Skipped, Worst
from radam.audit.lockstep import Record
from radam.audit.report import Entry, Report
from radam.audit.run import Run, Setting
from radam.audit.subject import Subject

MAX_EXAMPLES = 30
SMALLER = 3.0
"""Seconds for which a smaller example of a finding is looked for."""
COMPILED = 0.15
"""Share of the examples that are drawn with torch.compile, where each takes seconds."""


class _Enough(BaseException):
    """The search for a smaller example is over."""


def versions() -> dict[str, str]:
    """Python's, and those of the packages that matter."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for name in ("radam", "numpy", "hypothesis"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


@dataclass(frozen=True)
class Plan:
    """A check in one setting, or why it cannot be run there."""

    check: Check
    setting: Setting | Missing

    @property
    def cell(self) -> tuple[str, str | None, str | None]:
        """The check, and the dtype and implementation that its entry will name."""
        setting = self.setting
        if isinstance(setting, Missing):
            return self.check.name, setting.dtype, setting.implementation
        by_dtype = "dtype" in self.check.each
        several = len(self.check.each) > by_dtype
        return self.check.name, setting.precision if by_dtype else None, setting.implementation if several else None


def plan(capabilities: Capabilities, checks: Sequence[Check], dtypes: Collection[str] | None = None) -> Iterator[Plan]:
    """The settings of checks, one after the other.

    Args:
        capabilities: of the subject.
        checks: in order.
        dtypes: names of the only dtypes that are wanted; None for all.
    """
    for check in checks:
        for setting in check.settings(capabilities):
            name = setting.dtype if isinstance(setting, Missing) else setting.precision
            if dtypes is None or name is None or name in dtypes or "dtype" not in check.each:
                yield Plan(check, setting)


def carry_out(planned: Plan, max_examples: int = MAX_EXAMPLES, smaller: float | None = None) -> Entry:
    """Run a check in a setting.

    Args:
        planned: which, and where.
        max_examples: see :func:`audit`.
        smaller: seconds for which a smaller example of a finding is looked for; None for SMALLER.

    Returns:
        What came of it; its status is "passed", "failed" or "skipped".
    """
    check, setting = planned.check, planned.setting
    if isinstance(setting, Missing):
        return Entry(check.name, "skipped", setting.reason, setting.dtype, setting.implementation)
    _, dtype, implementation = planned.cell
    search = _Search(check, setting, SMALLER if smaller is None else smaller)
    compiled = setting.implementation == "compiled"
    share, least = (COMPILED * check.examples, 1) if compiled else (check.examples, check.least)
    started = time.perf_counter()
    search.run(max(min(least, max_examples), round(max_examples * share)))
    seconds = time.perf_counter() - started
    if search.finding is not None:
        finding = search.finding
        return Entry(
            check.name,
            "failed",
            finding.message,
            dtype,
            implementation,
            search.examples,
            finding.worst,
            finding.script or None,
            seconds,
        )
    if search.examples == search.skipped:
        return Entry(check.name, "skipped", search.why, dtype, implementation)
    worst = _worst(search.records)
    return Entry(
        check.name, "passed", "", dtype, implementation, search.examples - search.skipped, worst, None, seconds
    )


class _Search:
    """Examples of a check, until one is found that fails, and then smaller ones."""

    def __init__(self, check: Check, setting: Setting, smaller: float) -> None:
        self.check = check
        self.setting = setting
        self.smaller = smaller
        self.finding: Finding | None = None
        self.examples = 0
        self.skipped = 0
        self.why = ""
        self.records: list[Record] = []
        self._found_at = 0.0

    def run(self, max_examples: int) -> None:
        """Draw and run examples."""
        configured = settings(
            max_examples=max_examples,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink] if self.smaller else [Phase.generate],
            report_multiple_bugs=False,
            print_blob=False,
            verbosity=Verbosity.quiet,
            suppress_health_check=list(HealthCheck),
        )
        # The same examples each time that the same modules are there, of which Hypothesis draws constants; but others
        # in each setting: together they see more than each does.
        examples = seed(zlib.crc32(f"{self.check.name}[{self.setting}]".encode()))
        # Each example makes its own optimizers; nothing is carried from one to the next but torch's settings.
        default, mode = torch.get_default_dtype(), torch.is_grad_enabled()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                examples(configured(given(st.data())(self._example)))()
            except Unsatisfiable:
                self.skipped, self.examples, self.why = 0, 0, "no hyper-parameters were found that it applies to"
            except (Finding, _Enough, HypothesisException):
                # Hypothesis may call a search inconsistent that was left in the middle.
                if self.finding is None:
                    raise
            finally:
                torch.set_default_dtype(default)
                torch.set_grad_enabled(mode)

    def _example(self, data: DataObject) -> None:
        if self.finding is not None and time.perf_counter() - self._found_at > self.smaller:
            raise _Enough
        self.examples += self.finding is None
        run = Run(self.setting, data)
        try:
            self.check.function(run)
        except Skipped as reason:
            self.skipped += 1
            self.why = str(reason)
        except Finding as finding:
            self._keep(finding, run)
        except HypothesisException:
            raise
        except Exception as error:
            self._keep(_raised(error, run), run)
        else:
            self.records.append(run.record)

    def _keep(self, finding: Finding, run: Run) -> None:
        if self.finding is None:
            self._found_at = time.perf_counter()
        finding.script = _program(finding, run)
        self.finding = finding
        raise finding


def _raised(error: Exception, run: Run) -> Finding:
    """A finding for an error that a subject has raised, or the kit's own."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = str(error).strip().splitlines()
    said = f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")
    ours = not any(frame.filename == "<audit>" for frame in frames) and not any(
        "optimizer.step" in (frame.line or "") for frame in frames
    )
    last = frames[-1]
    where = f"{last.filename.rpartition('/')[2]}:{last.lineno}"
    if ours:
        return Finding(f"the check could not be carried out: {said} ({where}) [{run.call}]")
    return Finding(f"raised {said} ({where}) [{run.call}]")


def _program(finding: Finding, run: Run) -> str:
    comment = "\n".join(f"# {line}" for line in finding.message.splitlines())
    return f"{comment}\n{run.script.text()}"


def _worst(records: Sequence[Record]) -> Worst | None:
    """The value that came closest to its bound."""
    tallies = [tally for record in records for tally in record.tallies.values() if tally.worst is not None]
    if not tallies:
        return None
    closest = max(tallies, key=lambda tally: tally.worst.worst if tally.worst else 0.0)
    assert closest.worst is not None
    return Worst.of(closest.worst, closest.step)


def chosen(patterns: Sequence[str] | None) -> list[Check]:
    """The checks whose names match one of some patterns, as of a shell; all for None.

    Raises:
        ValueError: a pattern matches none.
    """
    checks = all_checks()
    if patterns is None:
        return checks
    for pattern in patterns:
        if not any(fnmatch.fnmatch(check.name, pattern) for check in checks):
            raise ValueError(f"no check is called {pattern!r}: radam-audit --list names them")
    return [check for check in checks if any(fnmatch.fnmatch(check.name, pattern) for pattern in patterns)]


def verify_expectations(subject: Subject) -> None:
    """Refuse expected failures of checks that do not exist.

    Raises:
        ValueError: names them.
    """
    known = {check.name for check in all_checks()}
    unknown = [name for name in subject.expected_failures if name.partition("[")[0] not in known]
    if unknown:
        raise ValueError(
            f"expected_failures of {subject.name} has {', '.join(map(repr, unknown))}, but there is no such check: "
            "radam-audit --list names them"
        )


def judged(subject: Subject, entry: Entry) -> Entry:
    """An entry, with what was expected of its cell taken into account."""
    expected = subject.expected_failures.get(entry.cell, subject.expected_failures.get(entry.check))
    if expected is None:
        return entry
    if entry.status == "failed":
        return replace(entry, status="xfail", reason=f"{expected} ({entry.reason})")
    if entry.status == "passed" and entry.cell in subject.expected_failures:
        return replace(entry, status="xpassed", reason=f"was expected to fail, but passes: {expected}")
    return entry


def strictly(subject: Subject, entries: Sequence[Entry]) -> list[Entry]:
    """Entries, with those added that say which check was expected to fail somewhere and failed nowhere."""
    result = list(entries)
    for name, reason in subject.expected_failures.items():
        if "[" in name:
            continue
        own = [entry for entry in entries if entry.check == name]
        if own and not any(entry.status in ("xfail", "xpassed") for entry in own):
            result.append(Entry(name, "xpassed", f"was expected to fail, but does so in no setting: {reason}"))
    return result


def audit(
    subject: Subject | type[torch.optim.Optimizer] | str,
    device: str | torch.device = "cpu",
    *,
    checks: Sequence[str] | None = None,
    dtypes: Collection[str] | None = None,
    max_examples: int = MAX_EXAMPLES,
    backend: str = "eager",
    progress: Callable[[Plan, int, int], object] | None = None,
    figures: bool = True,
    shard: tuple[int, int] = (1, 1),
    known: Sequence[Entry] = (),
    keep: Callable[[Report], object] | None = None,
) -> Report:
    """Run the checks on an optimizer.

    Args:
        subject: a Subject, an optimizer class, or MODULE:NAME of either.
        device: of parameters and gradients.
        checks: patterns of the names of the only checks to be run.
        dtypes: names of the only dtypes to be looked at.
        max_examples: how many hyper-parameters and tensors are drawn in the checks of the numbers; others draw a share.
        backend: of torch.compile.
        progress: called before each setting with it, its number and how many there are.
        figures: measure what the pictures of the report show.
        shard: (k, n) for the k-th of n parts of the settings; :func:`merged` puts the reports of all together.
        known: entries of an earlier run of the same, which are taken over.
        keep: called with the report so far after each setting.

    Returns:
        The report; `report.passed` is the verdict.

    Raises:
        ValueError: the subject cannot be audited, contradicts itself, no check has such a name, or there is no such
            shard; says why.

    Example:
        >>> report = audit(torch.optim.SGD, checks=["repr", "hooks"])
        >>> report.passed, report.checks_run
        (True, ['hooks', 'repr'])
    """
    subject = resolved(subject)
    capabilities = prepared(subject, torch.device(device), backend)
    part, parts = shard
    if not 1 <= part <= parts:
        raise ValueError(f"shard must be K/N with K from 1 to N, but is {part}/{parts}")
    plans = list(plan(capabilities, chosen(checks), dtypes))[part - 1 :: parts]
    before = {(entry.check, entry.dtype, entry.implementation): entry for entry in known}
    entries: list[Entry] = []
    report = Report(subject.name, versions(), str(device), entries)
    for number, planned in enumerate(plans):
        if progress is not None:
            progress(planned, number, len(plans))
        entries.append(before.get(planned.cell) or judged(subject, carry_out(planned, max_examples)))
        if keep is not None:
            keep(report)
    measured: dict[str, Any] = {}
    if figures:
        from radam.audit.report.measurements import measure

        measured = measure(capabilities)
    # What should fail somewhere may do so in another shard.
    return replace(report, records=strictly(subject, entries) if parts == 1 else entries, figures=measured)


def merged(reports: Sequence[Report]) -> Report:
    """The reports of all shards of an audit as one.

    Args:
        reports: of one subject, device and versions, in any order.

    Raises:
        ValueError: there is none, they are of different audits, or one setting is in two of them; says which.
    """
    if not reports:
        raise ValueError("reports must be those of an audit's shards, but there are none")
    first = reports[0]
    for other in reports[1:]:
        for name in ("subject", "device", "versions"):
            if getattr(other, name) != getattr(first, name):
                raise ValueError(
                    f"reports must be of one {name}, but have {getattr(first, name)!r} and {getattr(other, name)!r}"
                )
    entries = [entry for report in reports for entry in report.records]
    twice = [cell for cell, count in Counter(entry.cell for entry in entries).items() if count > 1]
    if twice:
        raise ValueError(f"reports must be of different shards, but {twice[0]} is in two of them")
    places = {check.name: place for place, check in enumerate(all_checks())}
    entries.sort(key=lambda entry: places.get(entry.check, len(places)))
    return replace(first, records=strictly(resolved(first.subject), entries), figures={})


def resolved(subject: Subject | type[torch.optim.Optimizer] | str) -> Subject:
    """A Subject for what may be one, a class, or MODULE:NAME."""
    from radam.audit.subjects.finding import find, of_class

    if isinstance(subject, Subject):
        return subject
    if isinstance(subject, str):
        return find(subject)[0]
    return of_class(subject)[0]


def prepared(subject: Subject, device: torch.device, backend: str = "eager") -> Capabilities:
    """A subject's capabilities, once it is certain that it can be audited.

    Raises:
        ValueError: it cannot, or contradicts itself.
    """
    capabilities = Capabilities(subject, device, backend)
    verify_expectations(subject)
    _ = capabilities.optimizer
    return capabilities
