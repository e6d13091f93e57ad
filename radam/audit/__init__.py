"""Verification of optimizers against an independent oracle, within derived rounding-error bounds, and without one.

Generic over optimizers: nothing here knows RAdam but `radam.audit.subjects`.
"""

from radam.audit.auditing import audit
from radam.audit.bounds import PRECISIONS, Comparison, Precision, Tracked, compare
from radam.audit.finding import Finding
from radam.audit.lockstep import Discrepancy, Lockstep, Trajectory
from radam.audit.parametrizing import parametrize_with_checks
from radam.audit.report import Report
from radam.audit.subject import Call, Oracle, Recurrence, ScalarError, Subject

__all__ = [
    "PRECISIONS",
    "Call",
    "Comparison",
    "Discrepancy",
    "Finding",
    "Lockstep",
    "Oracle",
    "Precision",
    "Recurrence",
    "Report",
    "ScalarError",
    "Subject",
    "Tracked",
    "Trajectory",
    "audit",
    "compare",
    "parametrize_with_checks",
]
