"""The branch, as close to the threshold as float64 scalars can tell, and r_t to its last certain digit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import reference.rectification
from radam.audit import Subject
from radam.audit.subjects.radam import Family
from tests.subject.driving import parameter, run, start

PAIRS = ((0.999, 6), (0.999, 12), (0.99, 5), (0.9, 7), (0.8, 9), (0.75, 11), (0.7, 17), (0.95, 30), (0.9, 60))
"""beta2 and a step; rho_t of each is above 4."""

DIGITS = {
    "lr": 0.01234567890123456789,
    "betas": (0.87654321098765432, 0.96543210987654321),
    "eps": 0.00123456789012345678,
    "weight_decay": 0.12345678901234567,
    "threshold": 4.56789012345678901,
}
"""Options with as many digits as float64 holds: whoever keeps fewer is seen."""


@pytest.mark.parametrize("sgd", [True, False], ids=["sgd", "hold"])
@pytest.mark.parametrize("distance", [1e-9, -1e-9, 1e-4, -1e-4])
@pytest.mark.parametrize(("beta2", "t"), PAIRS)
def test_the_branch_next_to_the_threshold(
    subject: Subject, family: Family, beta2: float, t: int, distance: float, sgd: bool
) -> None:
    """rho_t just below the threshold is not adaptive, just above it is: on that step and on its neighbours."""
    rho = reference.rectification.rho_t(t, beta2)
    options: dict[str, Any] = {
        "lr": 0.1,
        "betas": (0.9, beta2),
        "threshold": rho * (1 + distance),
        "degenerated_to_sgd": sgd,
    }
    lockstep = start(subject, family, [[parameter(scale=0.0)]], options)
    run(lockstep, t + 1)
    assert lockstep.record.unjudged == 0, f"{lockstep.record.unjudged} values have no bound"


@pytest.mark.parametrize("distance", [1e-7, 1e-5, 1e-3, 1e-2])
@pytest.mark.parametrize("t", [5, 6, 8, 12])
def test_a_rho_just_above_four_is_enough(subject: Subject, family: Family, t: int, distance: float) -> None:
    """At the least threshold that there is, a step is adaptive however small its r_t."""
    low, high = 0.6, 0.999
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if reference.rectification.rho_t(t, middle) >= 4 * (1 + distance) else (middle, high)
    options: dict[str, Any] = {"lr": 0.1, "betas": (0.9, high), "threshold": 4.0}
    lockstep = start(subject, family, [[parameter(scale=0.0)]], options)
    run(lockstep, t + 1)
    assert lockstep.record.unjudged == 0, f"{lockstep.record.unjudged} values have no bound"


@pytest.mark.parametrize(
    "more", [{}, {"optimized_update": False}, {"weight_decouple": False}, {"absolute": True}], ids=str
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_options_with_many_digits(subject: Subject, family: Family, dtype: torch.dtype, more: dict[str, Any]) -> None:
    for scale in (0.0, 1.0):
        lockstep = start(subject, family, [[parameter((40,), dtype, scale=scale)]], {**DIGITS, **more})
        run(lockstep, 12, scale=0.1)
