"""Wrong optimizers, one for each part of an optimizer, are found; all of the catalogue are by `tox -e mutation`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = (
    "bias1_missing_in_sgd",
    "decay_after_update",
    "amsgrad_max_after_use",
    "lr_of_first_group",
    "pickle_loses_decay",
    "maximize_in_place",
    "size_times_one_plus_1e10",
)


@pytest.mark.deep
def test_each_is_found() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tests.mutation", *SAMPLE],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{len(SAMPLE)} of {len(SAMPLE)} wrong optimizers found" in result.stdout, result.stdout + result.stderr
    assert result.returncode == 0
