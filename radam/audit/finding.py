"""What a check has found: a sentence, and a script that shows it."""

from __future__ import annotations

from dataclasses import dataclass

from radam.audit.bounds import Comparison


@dataclass(frozen=True)
class Worst:
    """The value that is furthest from what it should be, in units of its bound."""

    quantity: str
    bounds: float
    ulp: float
    step: int

    @classmethod
    def of(cls, comparison: Comparison, step: int) -> Worst:
        """The worst element of a comparison."""
        return cls(comparison.quantity, comparison.worst, comparison.ulp, step)


class Finding(AssertionError):
    """An optimizer does something that it should not do.

    Args:
        message: what was seen, what it should be, and the call that shows it.
        worst: the value that is out of bounds, where there is one.
    """

    def __init__(self, message: str, worst: Worst | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.worst = worst
        self.script = ""
        """A self-contained program that fails by the finding."""


class Skipped(Exception):
    """A check does not apply; says why."""
