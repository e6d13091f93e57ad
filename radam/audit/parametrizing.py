"""Checks as pytest tests: one for each subject and check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import pytest
import torch

from radam.audit.auditing import MAX_EXAMPLES, carry_out, chosen, judged, plan, prepared, resolved
from radam.audit.capabilities import Capabilities
from radam.audit.checks import Check
from radam.audit.finding import Finding
from radam.audit.report import telling
from radam.audit.subject import Subject


@dataclass
class Configured:
    """What the pytest options say of all checks."""

    device: str = "cpu"
    checks: Sequence[str] | None = None
    max_examples: int = MAX_EXAMPLES


CONFIGURED = Configured()
"""Set by the plugin, before tests are collected."""


class _Hashed:
    """A subject by its identity: its fields need not be hashable."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashed) and other.subject is self.subject

    def __hash__(self) -> int:
        return id(self.subject)


@lru_cache(maxsize=64)
def _capabilities(hashed: _Hashed, device: str) -> Capabilities:
    return prepared(hashed.subject, torch.device(device))


@dataclass(frozen=True)
class BoundCheck:
    """A check that is called with a subject, as in `check(subject)`.

    Args:
        check: what is checked, in all settings of the subject.
    """

    check: Check

    def __call__(self, subject: Subject) -> None:
        """Run the check.

        Raises:
            Finding: it fails in some setting in which the subject does not expect it to, or passes where it does.
            ValueError: the subject cannot be audited, or contradicts itself.
        """
        __tracebackhide__ = True
        own = {name: reason for name, reason in subject.expected_failures.items() if "[" in name}
        strict = replace(subject, expected_failures=own)
        capabilities = _capabilities(_Hashed(subject), CONFIGURED.device)
        planned = plan(capabilities, [self.check])
        entries = [judged(strict, carry_out(each, CONFIGURED.max_examples)) for each in planned]
        failed = [entry for entry in entries if entry.status in ("failed", "xpassed")]
        if failed:
            lines = [f"{entry.cell}: {entry.reason}" for entry in failed]
            scripts = [entry for entry in failed if entry.reproduction]
            shown = f"\n\n{telling(scripts).reproduction}" if scripts else ""
            raise Finding("\n".join(lines) + shown)
        if all(entry.status == "skipped" for entry in entries):
            pytest.skip("; ".join(dict.fromkeys(entry.reason for entry in entries)) or "no setting")


def parameters(subjects: Sequence[Subject], checks: Sequence[str] | None = None) -> Iterator[Any]:
    """pytest's parameters (subject, check), with expected failures marked as such, strictly."""
    for subject in subjects:
        for check in chosen(checks):
            reason = subject.expected_failures.get(check.name)
            marks = () if reason is None else (pytest.mark.xfail(reason=reason, raises=Finding, strict=True),)
            yield pytest.param(subject, BoundCheck(check), id=f"{subject.name}-{check.name}", marks=marks)


def parametrize_with_checks(
    subjects: Sequence[Subject | type[torch.optim.Optimizer] | str], *, checks: Sequence[str] | None = None
) -> Callable[..., Any]:
    """Make a test of `(subject, check)` one test for each subject and check.

    Args:
        subjects: Subjects, optimizer classes, or MODULE:NAME of either.
        checks: patterns of the names of the only checks that are wanted.

    Returns:
        The decorator.

    Raises:
        ValueError: a subject cannot be found, or no check has such a name.

    Example:
        >>> @parametrize_with_checks([torch.optim.SGD], checks=["repr"])
        ... def test_my_optimizer(subject, check):
        ...     check(subject)
    """
    found = [resolved(subject) for subject in subjects]
    return pytest.mark.parametrize(("subject", "check"), list(parameters(found, checks)))
