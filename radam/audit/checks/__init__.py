"""The checks, in the order in which they are run."""

from __future__ import annotations

from collections.abc import Iterator

from radam.audit.checks.agreement import implementations, invariances
from radam.audit.checks.arguments import arguments
from radam.audit.checks.calls import calls, together
from radam.audit.checks.check import Check, Group, Missing
from radam.audit.checks.derivatives import derivatives
from radam.audit.checks.gradients import gradients, half, tensors
from radam.audit.checks.memory import memory
from radam.audit.checks.numbers import numbers
from radam.audit.checks.state import state


def groups() -> Iterator[Group]:
    """The groups of checks."""
    # The numbers, where there is an oracle.
    yield numbers
    # The numbers, each way to compute them against another.
    yield implementations
    yield invariances
    yield half
    # What goes in.
    yield gradients
    yield tensors
    yield arguments
    # What is kept, and what is not.
    yield state
    yield memory
    # What an optimizer is used with.
    yield calls
    yield together
    yield derivatives


def all_checks() -> list[Check]:
    """Every check, in order.

    Example:
        >>> all_checks()[0].name
        'every_step'
    """
    return [check for group in groups() for check in group.checks]


__all__ = ["Check", "Group", "Missing", "all_checks", "groups"]
