"""The results as one HTML page: the table, and behind each cell what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from radam.audit.checks import groups
from radam.audit.report.html import environment
from tests.compliance.reviews import Review, reviewed
from tests.compliance.running import Failure, Result, by_group, page_of

TEMPLATE = "page.html.jinja"


@dataclass(frozen=True)
class _Cell:
    """A group of checks of one optimizer."""

    title: str
    passed: list[str]
    failures: list[tuple[Failure, list[Review]]]
    skipped: dict[str, str]
    anchor: str

    @property
    def run(self) -> int:
        return len(self.passed) + len(self.failures)


@dataclass(frozen=True)
class _Row:
    """An optimizer."""

    result: Result
    cells: list[_Cell]
    report: str
    """The file of radam-audit's own page; "" where there is none."""


def page(results: Sequence[Result], reviews: Sequence[Review], reports: Path) -> str:
    """The page.

    Args:
        results: of all optimizers.
        reviews: of all packages.
        reports: the folder in which radam-audit's pages are, and this one will be.
    """
    ordered = sorted(results, key=lambda result: (result.package, result.name))
    return (
        environment(Path(__file__).parent)
        .get_template(TEMPLATE)
        .render(
            titles=[group.title for group in groups()],
            rows=[_row(result, reviews, reports) for result in ordered if not result.refused],
            refused=[result for result in ordered if result.refused],
            versions=ordered[0].versions if ordered else {},
        )
    )


def _row(result: Result, reviews: Sequence[Review], reports: Path) -> _Row:
    failures = {failure.check: failure for failure in result.failures}
    cells = [
        _Cell(
            title,
            statuses["passed"],
            [(failures[check], reviewed(reviews, result, failures[check])) for check in statuses["failed"]],
            {check: result.skipped[check] for check in statuses["skipped"]},
            f"{result.name}-{number}".replace(":", "."),
        )
        for number, (title, statuses) in enumerate(by_group(result).items())
    ]
    report = page_of(result.name)
    return _Row(result, cells, report if (reports / report).exists() else "")
