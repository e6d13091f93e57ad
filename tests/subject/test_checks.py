"""The checks of the kit, which ask for no more of an optimizer than that it is one: one test for each."""

from __future__ import annotations

from radam.audit import Subject
from radam.audit.parametrizing import BoundCheck


def test_check(subject: Subject, check: BoundCheck) -> None:
    check(subject)
