"""What an audit has found: records, counts, and their forms."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from radam.audit.finding import Worst

Status = Literal["passed", "failed", "xfail", "xpassed", "skipped"]
STATUSES: tuple[Status, ...] = ("failed", "xpassed", "passed", "xfail", "skipped")
SCHEMA = 1


@dataclass(frozen=True)
class Entry:
    """What came of one check in one setting.

    `status` is "xfail" for a failure that was expected, and "xpassed" for an expected one that did not come. `reason`
    tells what was found, why a failure was expected, or why a check was skipped.
    """

    check: str
    status: Status
    reason: str = ""
    dtype: str | None = None
    implementation: str | None = None
    examples: int = 0
    worst: Worst | None = None
    reproduction: str | None = None
    seconds: float = 0.0

    @property
    def cell(self) -> str:
        """The check with its setting, as `expected_failures` names it."""
        setting = ", ".join(filter(None, (self.dtype, self.implementation)))
        return f"{self.check}[{setting}]" if setting else self.check


@dataclass(frozen=True)
class Report:
    """The outcome of an audit.

    Args:
        subject: its name.
        versions: of Python and the packages that matter.
        device: on which it ran.
        records: one for each check and setting.
        figures: what the pictures are drawn from, see :mod:`radam.audit.report.measurements`.
        command: that made the report, where a command did.
    """

    subject: str
    versions: dict[str, str]
    device: str
    records: Sequence[Entry]
    figures: dict[str, Any] = field(default_factory=dict)
    command: str = ""

    @property
    def counts(self) -> dict[str, int]:
        """Records by status, and how many were run."""
        counted = Counter(entry.status for entry in self.records)
        return {
            "run": sum(counted[status] for status in STATUSES if status != "skipped"),
            **{status: counted[status] for status in STATUSES},
        }

    @property
    def checks_run(self) -> list[str]:
        """Names of the checks that were run in at least one setting."""
        return list(dict.fromkeys(entry.check for entry in self.records if entry.status != "skipped"))

    @property
    def passed(self) -> bool:
        """Whether something was run, nothing failed, and everything failed that was expected to."""
        counts = self.counts
        return bool(counts["run"]) and not (counts["failed"] or counts["xpassed"])

    @property
    def failed(self) -> list[Entry]:
        """The records that make the verdict bad."""
        return [entry for entry in self.records if entry.status in ("failed", "xpassed")]

    def closing_line(self) -> str:
        """Counts in a line.

        Example:
            >>> Report("x", {}, "cpu", [Entry("repr", "passed")]).closing_line().partition(", ")[0]
            '1 check in 1 setting run: 1 passed'
        """
        counts = self.counts
        never = {entry.check for entry in self.records} - set(self.checks_run)
        return (
            f"{counted(len(self.checks_run), 'check')} in {counted(counts['run'], 'setting')} run: "
            f"{counts['passed']} passed, {counts['failed']} failed, {counts['xfail']} failed as expected, "
            f"{counts['xpassed']} passed unexpectedly; "
            f"skipped: {counted(len(never), 'check')}, {counted(counts['skipped'], 'setting')}"
        )

    def to_json(self) -> str:
        """The report as JSON, schema 1. A worst error that no number bounds is "inf", as JSON has no such number."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "subject": self.subject,
                "versions": self.versions,
                "device": self.device,
                "counts": self.counts,
                "records": [_finite(asdict(entry)) for entry in self.records],
            },
            indent=1,
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str) -> Report:
        """A report as :meth:`to_json` wrote it, without pictures.

        Raises:
            ValueError: the text is no report of this schema.

        Example:
            >>> report = Report("x:Y", {}, "cpu", [Entry("repr", "passed")])
            >>> Report.from_json(report.to_json()) == report
            True
        """
        try:
            document = json.loads(text)
            if document["schema"] != SCHEMA:
                raise ValueError(f"a report must have schema {SCHEMA}, but has {document['schema']!r}")
            records = [
                Entry(**{**record, "worst": Worst(**_numbers(record["worst"])) if record["worst"] else None})
                for record in document["records"]
            ]
            return cls(document["subject"], document["versions"], document["device"], records)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"this is no report of an audit: {type(error).__name__}: {error}") from None

    def to_html(self) -> str:
        """The report as one self-contained HTML page."""
        from radam.audit.report.html import render

        return render(self)

    def save_reproductions(self, folder: Path) -> list[Path]:
        """Write each finding's script into a folder.

        Returns:
            The files.
        """
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for entry in self.records:
            if entry.reproduction:
                name = "_".join(filter(None, (entry.check, entry.implementation, entry.dtype)))
                path = folder / f"{name}.py"
                path.write_text(entry.reproduction, encoding="utf-8")
                written.append(path)
        return written


def by_check(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Entries by the name of their check, in order."""
    result: dict[str, list[Entry]] = {}
    for entry in entries:
        result.setdefault(entry.check, []).append(entry)
    return result


def by_reason(entries: Iterable[Entry], status: Status) -> list[tuple[str, list[Entry]]]:
    """Entries of a status, those together that have the same reason; the most frequent first."""
    grouped: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.status == status:
            grouped.setdefault(entry.reason, []).append(entry)
    return sorted(grouped.items(), key=lambda item: -len(item[1]))


def telling(entries: Iterable[Entry]) -> Entry:
    """The finding to be shown of several: the one with the shortest script."""
    return min(
        entries, key=lambda entry: (entry.reproduction is None, len(entry.reproduction or ""), len(entry.reason))
    )


def counted(count: int, noun: str) -> str:
    """A number of things.

    Example:
        >>> counted(1, "check"), counted(2, "check")
        ('1 check', '2 checks')
    """
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _numbers(worst: dict[str, Any]) -> dict[str, Any]:
    """The numbers for which :func:`_finite` has words."""
    return {key: float(item) if key in ("bounds", "ulp") else item for key, item in worst.items()}


def _finite(value: Any) -> Any:
    """The same with words for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
