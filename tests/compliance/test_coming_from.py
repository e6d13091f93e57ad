"""Each row of the table takes the same steps, by the real optimizers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from radam.audit import Trajectory
from tests.compliance.coming_from import ROWS, Row, module, oracle_of, ours, table, theirs
from tests.readme import README

STEPS = 12
OPTIONS = st.fixed_dictionaries(
    {
        "lr": st.sampled_from([0.1, 1e-3]),
        "betas": st.tuples(st.sampled_from([0.9, 0.5, 0.0]), st.sampled_from([0.999, 0.9, 0.99, 0.5])),
        "eps": st.sampled_from([1e-8, 1e-3, 1e-16]),
        "wd": st.sampled_from([0.0, 0.1]),
    }
)
CASES = [pytest.param(row, dtype, id=f"{row.theirs}-{dtype}") for row in ROWS for dtype in row.dtypes]


def follow(optimizer: torch.optim.Optimizer, oracle: Any, gradients: list[torch.Tensor]) -> str:
    """Where an optimizer leaves the oracle's trajectory; "" if it does not."""
    (param,) = optimizer.param_groups[0]["params"]
    trajectory = Trajectory(param, oracle)
    for number, gradient in enumerate(gradients, 1):
        param.grad = gradient.clone()
        trajectory.observe()
        optimizer.step()
        comparison = trajectory.judge(optimizer.state[param])[-1]
        if not comparison.passed:
            return f"step {number}: {comparison}"
    return ""


@pytest.mark.deep
@pytest.mark.parametrize(("row", "dtype"), CASES)
@given(options=OPTIONS, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_both_take_the_same_steps(row: Row, dtype: torch.dtype, options: dict[str, Any], seed: int) -> None:
    try:
        module(row.module)
    except ImportError:
        pytest.skip(f"{row.module} comes with tox -e peers")
    assert different(row, dtype, options, seed) == []


def different(row: Row, dtype: torch.dtype, options: dict[str, Any], seed: int) -> list[str]:
    """Which of the two leaves the trajectory of the oracle for radam's arguments."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(8, generator=generator, dtype=torch.float64).to(dtype)
    gradients = [torch.randn(8, generator=generator, dtype=torch.float64).to(dtype) for _ in range(STEPS)]
    found = []
    for make in (theirs, ours):
        optimizer = make(row, [torch.nn.Parameter(start.clone())], options)
        oracle = oracle_of(ours(row, [torch.nn.Parameter(start.clone())], options))
        found += filter(None, [follow(optimizer, oracle, gradients)])
    return found


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("weight_decouple=False", "weight_decouple=True"),
        ("betas, eps,", "betas, 2 * eps,"),
        ("params, lr", "params, 1.001 * lr"),
    ],
)
def test_other_arguments_take_other_steps(right: str, wrong: str) -> None:
    row = ROWS[0]
    other = row._replace(ours=row.ours.replace(right, wrong))
    assert other != row
    options = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-3, "wd": 0.1}
    assert different(row, torch.float64, options, 0) == []
    assert different(other, torch.float64, options, 0) != []


def test_the_readme_has_the_table() -> None:
    assert table() in README.read_text(encoding="utf-8")
