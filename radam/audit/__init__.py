"""Verification of optimizers against an independent oracle, within derived rounding-error bounds.

Generic over optimizers: nothing here knows RAdam but `radam.audit.subjects`.
"""

from radam.audit.bounds import PRECISIONS, Comparison, Precision, Tracked, compare
from radam.audit.lockstep import Discrepancy, Lockstep, Trajectory
from radam.audit.subject import Oracle, Recurrence, ScalarError, Subject

__all__ = [
    "PRECISIONS",
    "Comparison",
    "Discrepancy",
    "Lockstep",
    "Oracle",
    "Precision",
    "Recurrence",
    "ScalarError",
    "Subject",
    "Tracked",
    "Trajectory",
    "compare",
]
