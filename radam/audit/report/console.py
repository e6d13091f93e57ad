"""The report on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from radam.audit.report import STATUSES, Entry, Report, Status, by_check, by_reason, telling

_STYLES = {"failed": "bold red", "xpassed": "bold red", "passed": "green", "xfail": "yellow", "skipped": "dim"}
_EXPLAINED: dict[str, Status] = {"skipped": "skipped", "expected": "xfail"}


def print_report(report: Report, console: Console) -> None:
    """Findings with their reproductions, the table of checks, skipped ones with their reasons, and the verdict."""
    for check, entries in by_check(report.failed).items():
        _print_finding(check, entries, console)
    console.print(_table(report))
    _print_skipped(report, console)
    console.print(escape(report.closing_line()), soft_wrap=True)
    verdict = "passed" if report.passed else f"failed: {', '.join(by_check(report.failed))}"
    console.print(
        f"{escape(report.subject)}: {escape(verdict)}",
        style=_STYLES["passed" if report.passed else "failed"],
        soft_wrap=True,
    )


def _print_finding(check: str, entries: Sequence[Entry], console: Console) -> None:
    shown = telling(entries)
    console.rule(f"[{_STYLES['failed']}]{escape(check)}[/]", align="left")
    console.print(escape(shown.reason), soft_wrap=True)
    others = [entry.cell for entry in entries if entry is not shown]
    if others:
        console.print(f"also: {escape(', '.join(others))}", style="dim", soft_wrap=True)
    if shown.reproduction:
        console.print()
        console.print(escape(shown.reproduction), soft_wrap=True, highlight=False)


def _table(report: Report) -> Table:
    """A row for each check: settings in which it was run, examples, the worst error in units of its bound, seconds."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("check", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for heading in ("runs", "cases", "worst", "s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for check, entries in by_check(report.records).items():
        run = [entry for entry in entries if entry.status != "skipped"]
        status = next(status for status in STATUSES if any(entry.status == status for entry in entries))
        count = sum(entry.status == status for entry in entries)
        verdict = f"{status} in {count}" if status in ("failed", "xpassed") and count < len(run) else status
        worst = [entry.worst.bounds for entry in run if entry.worst is not None]
        table.add_row(
            escape(check),
            f"[{_STYLES[status]}]{verdict}[/]",
            str(len(run)) if run else "",
            str(sum(entry.examples for entry in run)) if run else "",
            f"{max(worst):.3g}" if worst else "",
            f"{sum(entry.seconds for entry in run):.1f}" if run else "",
        )
    return table


def _print_skipped(report: Report, console: Console) -> None:
    """Each reason once, with what was skipped or failed as expected for it."""
    for kind, status in _EXPLAINED.items():
        for reason, entries in by_reason(report.records, status):
            cells = [entry.cell for entry in entries]
            shown = ", ".join(cells[:4]) + (f" and {len(cells) - 4} more" if len(cells) > 4 else "")
            console.print(f"{kind}: {escape(reason)}\n    {escape(shown)}", style="dim", soft_wrap=True)
