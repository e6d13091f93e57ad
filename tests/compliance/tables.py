"""The results as Markdown: by package, by optimizer, and each finding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from radam.audit.checks import groups
from radam.audit.report import counted
from tests.compliance.reviews import VERDICTS, Review, reviewed
from tests.compliance.running import Failure, Result, by_group

HEADINGS = {
    "Numbers, against an oracle": "numbers",
    "Implementations, against the first": "implemen&shy;tations",
    "Invariances": "invariances",
    "Half precision": "half",
    "Gradients": "gradients",
    "Tensors": "tensors",
    "Arguments": "arguments",
    "State": "state",
    "Memory": "memory",
    "Calls": "calls",
    "With schedulers and loss scaling": "schedulers, scaling",
    "Derivatives": "derivatives",
}
"""The groups of checks, shortly."""


def _by_package(results: Iterable[Result]) -> list[tuple[str, list[Result]]]:
    ordered = sorted(results, key=lambda result: (result.package, result.name))
    return [(package, list(own)) for package, own in groupby(ordered, key=lambda result: result.package)]


def _version(own: Sequence[Result]) -> str:
    """The package's name and version, as it was installed."""
    return own[0].distribution or own[0].package


def by_package(results: Iterable[Result], reviews: Sequence[Review]) -> str:
    """A row for each package: how many optimizers, how many of them pass all, and what was found."""
    lines = [
        "| package | optimizers | with an oracle | nothing found | defects | documented |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for _, own in _by_package(results):
        audited = [result for result in own if not result.refused]
        verdicts = [review.verdict for review in _by_review(own, reviews) if review is not None]
        kinds = [verdicts.count(verdict) for verdict in VERDICTS]
        counts = (
            len(audited),
            sum(result.has_oracle for result in audited),
            sum(not result.failures for result in audited),
            *kinds,
        )
        lines.append(f"| {_version(own)} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines) + "\n"


def by_optimizer(results: Iterable[Result]) -> str:
    """A row for each optimizer, a column for each group of checks."""
    titles = [group.title for group in groups()]
    lines = [f"| | {' | '.join(HEADINGS[title] for title in titles)} |", "|---" * (1 + len(titles)) + "|"]
    refused = []
    for _, own in _by_package(results):
        lines.append(f"| **{_version(own)}** |" + " |" * len(titles))
        for result in own:
            if result.refused:
                refused.append(f"- `{result.name}`: {result.refused}")
                continue
            cells = [cell(statuses) for statuses in by_group(result).values()]
            lines.append(f"| `{result.name}` | {' | '.join(cells)} |")
    if refused:
        lines += ["", "Not audited:", "", *refused]
    return "\n".join(lines) + "\n"


def cell(statuses: dict[str, list[str]]) -> str:
    """How many checks of a group passed or failed; nothing where none was run.

    Example:
        >>> cell({"passed": ["a", "b"], "failed": ["c"], "skipped": []})
        '**1 of 3 failed**'
    """
    passed, failed = len(statuses["passed"]), len(statuses["failed"])
    if failed:
        return f"**{failed} of {passed + failed} failed**"
    return f"{passed} passed" if passed else ""


Cases = list[tuple[Result, Failure]]
"""Failed checks of optimizers."""


def _by_review(results: Iterable[Result], reviews: Sequence[Review]) -> dict[Review | None, Cases]:
    """What each review is about, in their order; last, by None, what none is about."""
    found: dict[Review | None, Cases] = {review: [] for review in (*reviews, None)}
    for result in results:
        for failure in result.failures:
            for review in reviewed(reviews, result, failure) or [None]:
                found[review].append((result, failure))
    return {review: cases for review, cases in found.items() if cases}


def findings(results: Iterable[Result], reviews: Sequence[Review]) -> str:
    """What was found in each package: the statement, where it shows, where it comes from, and a script."""
    parts = []
    for _, own in _by_package(results):
        found = _by_review(own, reviews)
        if found:
            parts.append(f"## {_version(own)}\n")
            parts += [_finding(review, cases) for review, cases in found.items()]
    return "\n".join(parts)


def _finding(review: Review | None, cases: Cases) -> str:
    lines = [f"### {review.statement if review else 'Not reviewed yet'}\n"]
    where: dict[str, list[str]] = {}
    for result, failure in cases:
        where.setdefault(failure.check, []).append(result.optimizer)
    rows = [f"{', '.join(names)} ({counted(len(names), 'optimizer')})" for names in where.values()]
    lines += [f"- `{check}`: {row}" for check, row in zip(where, rows, strict=True)]
    if review is not None:
        if review.verdict == "documented":
            lines.append("- Documented by the package.")
        lines.append(f"- Source: {review.source}")
        lines.append(f"- Upstream: {review.upstream or 'no issue was found'}")
    result, failure = shown(cases)
    lines.append(f"\n{failure.reason}\n")
    if failure.reproduction:
        script = failure.reproduction.strip()
        lines.append(f"<details><summary>A script that shows it, with {result.name}</summary>\n")
        lines.append(f"```python\n{script}\n```\n\n</details>\n")
    return "\n".join(lines)


def shown(cases: Cases) -> tuple[Result, Failure]:
    """The case with the shortest script."""
    return min(cases, key=lambda case: (not case[1].reproduction, len(case[1].reproduction)))


def scripts(results: Iterable[Result], reviews: Sequence[Review]) -> list[tuple[str, str, str]]:
    """The scripts of :func:`findings`, each with the package and the name of what it shows."""
    chosen = [shown(cases) for _, own in _by_package(results) for cases in _by_review(own, reviews).values()]
    return [
        (one.package, f"{one.name} {failure.check}", failure.reproduction)
        for one, failure in chosen
        if failure.reproduction
    ]
