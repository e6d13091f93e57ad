"""What was seen in a package's source for each of its failed checks: a defect, or what it documents.

A file of `reviews/` for each package, named as it is imported, holds tables `[[review]]`:

    checks        patterns, as of a shell, of the names of checks
    optimizers    patterns of the names of classes
    verdict       "defect", or "documented": the package says that it is so
    statement     what a user sees
    source        where in the package's source, or in its documentation
    upstream      the address of an issue; "" for none that was found
"""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from radam.audit.checks import all_checks
from tests.compliance.running import Failure, Result

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent / "reviews"
VERDICTS = ("defect", "documented")
REQUIRED = {"checks", "optimizers", "verdict", "statement", "source"}


@dataclass(frozen=True)
class Review:
    """A judgement on failed checks of some optimizers of a package."""

    package: str
    checks: tuple[str, ...]
    optimizers: tuple[str, ...]
    verdict: str
    statement: str
    source: str
    upstream: str = ""

    def of(self, result: Result) -> bool:
        """Whether it is about some check of an optimizer."""
        return result.package == self.package and any(
            fnmatch.fnmatchcase(result.optimizer, pattern) for pattern in self.optimizers
        )

    def about(self, result: Result, failure: Failure) -> bool:
        """Whether it is about a failed check of an optimizer."""
        return self.of(result) and any(fnmatch.fnmatchcase(failure.check, pattern) for pattern in self.checks)


def read(path: Path) -> list[Review]:
    """The reviews of a file.

    Raises:
        ValueError: a table lacks a key, has an unknown one, an unknown verdict, or a pattern that no check's name
            matches; names it.
    """
    names = [check.name for check in all_checks()]
    result = []
    for number, table in enumerate(tomllib.loads(path.read_text(encoding="utf-8")).get("review", []), 1):
        where = f"review {number} of {path.name}"
        wrong = sorted(REQUIRED - table.keys() | table.keys() - REQUIRED - {"upstream"})
        if wrong:
            raise ValueError(f"{where} must have {', '.join(sorted(REQUIRED))}, but differs in {', '.join(wrong)}")
        if table["verdict"] not in VERDICTS:
            raise ValueError(f"verdict of {where} must be one of {VERDICTS}, but is {table['verdict']!r}")
        for pattern in table["checks"]:
            if not fnmatch.filter(names, pattern):
                raise ValueError(f"checks of {where} has {pattern!r}, but no check is called so: radam-audit --list")
        lists = {key: tuple(table[key]) for key in ("checks", "optimizers")}
        result.append(Review(package=path.stem, **{**table, **lists}))
    return result


def all_reviews(folder: Path = FOLDER) -> list[Review]:
    """The reviews of all packages."""
    return [review for path in sorted(folder.glob("*.toml")) for review in read(path)]


def reviewed(reviews: Sequence[Review], result: Result, failure: Failure) -> list[Review]:
    """What was seen for a failed check; a check may fail for more than one reason."""
    return [review for review in reviews if review.about(result, failure)]


def unreviewed(reviews: Sequence[Review], results: Iterable[Result]) -> list[str]:
    """Failed checks without a review, a line each."""
    return [
        f"{result.name} fails {failure.check}, which is not reviewed: {failure.reason}"
        for result in results
        for failure in result.failures
        if not reviewed(reviews, result, failure)
    ]


def unused(reviews: Sequence[Review], results: Iterable[Result]) -> list[str]:
    """Reviews of audited optimizers that are about nothing that fails, a line each: mended, or not met again."""
    results = list(results)
    used = {review for one in results for failure in one.failures for review in reviewed(reviews, one, failure)}
    return [
        f"{review.package}, {', '.join(review.checks)} of {', '.join(review.optimizers)}: {review.statement}"
        for review in reviews
        if review not in used and any(review.of(result) for result in results)
    ]
