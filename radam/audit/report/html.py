"""A report as one HTML page that needs nothing else: text, tables, and pictures as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from radam.audit.capabilities import SWITCHES
from radam.audit.checks import all_checks
from radam.audit.report import STATUSES, Entry, Report, Status, by_check, by_reason, counted, telling
from radam.audit.report.pictures import pictures

TEMPLATE = "report.html.jinja"

WORDS: dict[Status, str] = {
    "failed": "failed",
    "xpassed": "passed unexpectedly",
    "passed": "passed",
    "xfail": "failed as expected",
    "skipped": "skipped",
}
"""What a page says for each status."""


def environment(folder: Path) -> jinja2.Environment:
    """The templates of a folder, for pages."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(report: Report) -> str:
    """The page.

    Example:
        >>> page = render(Report("x:Y", {"torch": "2"}, "cpu", [Entry("repr", "passed", examples=1)]))
        >>> "Passed: 1 check in 1 setting" in page
        True
    """
    templates = environment(Path(__file__).parent)
    templates.filters["number"] = _number
    return templates.get_template(TEMPLATE).render(
        report=report,
        verdict=_verdict(report),
        seconds=sum(entry.seconds for entry in report.records),
        command=report.command or f"audit({report.subject!r}, {report.device!r}).to_html()",
        summaries={check.name: check.summary for check in all_checks()},
        words=WORDS,
        findings=_findings(report.records),
        columns=_columns(report.records),
        rows=_rows(report.records),
        skips=by_reason(report.records, "skipped"),
        expected=by_reason(report.records, "xfail"),
        pictures=pictures(report.figures),
        omitted=report.figures.get("omitted", {}),
    )


# Words


def _verdict(report: Report) -> str:
    counts = report.counts
    checks, settings = counted(len(report.checks_run), "check"), counted(counts["run"], "setting")
    if not counts["run"]:
        return "Nothing was checked"
    if report.passed:
        return f"Passed: {checks} in {settings}"
    bad = len({entry.check for entry in report.failed})
    return f"Failed: {bad} of {checks}, in {len(report.failed)} of {settings}"


def _number(value: float) -> str:
    if math.isnan(value):
        return "not a number"
    return f"{value:.3g}" if math.isfinite(value) else "infinite"


def _implementation(entry: Entry) -> int:
    """A place in the usual order of implementations."""
    names = [*SWITCHES]
    return names.index(entry.implementation) if entry.implementation in names else len(names)


def _settings(entries: Iterable[Entry]) -> str:
    """Settings in words: "loop (float32, float64), foreach (float16)"; "" where the check has one setting only."""
    dtypes: dict[str, list[str]] = {}
    for entry in sorted(entries, key=_implementation):
        dtypes.setdefault(entry.implementation or "", []).extend(filter(None, [entry.dtype]))
    return ", ".join(
        f"{name} ({', '.join(own)})" if name and own else name or ", ".join(own) for name, own in dtypes.items()
    )


# Findings and tables


@dataclass(frozen=True)
class _Finding:
    """What failed of one check, the most telling setting apart: the one with the shortest script."""

    check: str
    shown: Entry
    others: list[Entry]
    settings: str
    run: int

    @property
    def count(self) -> int:
        return 1 + len(self.others)


def _findings(records: Sequence[Entry]) -> list[_Finding]:
    found = []
    for check, entries in by_check(records).items():
        own = [entry for entry in entries if entry.status != "skipped"]
        bad = [entry for entry in own if entry.status in ("failed", "xpassed")]
        if bad:
            shown = telling(bad)
            others = [entry for entry in bad if entry is not shown]
            found.append(_Finding(check, shown, others, _settings(bad), len(own)))
    return found


@dataclass(frozen=True)
class _Row:
    """A check in the table: what came of it by implementation, in all dtypes together."""

    check: str
    status: Status
    count: int
    """How many settings have this status."""
    run: int
    cells: list[list[tuple[Status, int, str]]]
    """For each column, by status: how many, and in which dtypes."""
    examples: int
    worst: float | None
    seconds: float


def _columns(records: Sequence[Entry]) -> list[str | None]:
    """The implementations; None for checks that do not depend on it."""
    return [
        *([None] if any(entry.implementation is None for entry in records) else []),
        *dict.fromkeys(entry.implementation for entry in sorted(records, key=_implementation) if entry.implementation),
    ]


def _rows(records: Sequence[Entry]) -> list[_Row]:
    rows = []
    columns = _columns(records)
    for check, own in by_check(records).items():
        cells = []
        for column in columns:
            here = [entry for entry in own if entry.implementation == column]
            by_status = [(status, [entry for entry in here if entry.status == status]) for status in STATUSES]
            cells.append(
                [
                    (status, len(entries), ", ".join(filter(None, (entry.dtype for entry in entries))))
                    for status, entries in by_status
                    if entries
                ]
            )
        statuses = [entry.status for entry in own]
        status = next(status for status in STATUSES if status in statuses)
        rows.append(
            _Row(
                check,
                status,
                statuses.count(status),
                len(statuses) - statuses.count("skipped"),
                cells,
                sum(entry.examples for entry in own),
                max((entry.worst.bounds for entry in own if entry.worst), default=None),
                sum(entry.seconds for entry in own),
            )
        )
    return rows
