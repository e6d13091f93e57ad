"""Wrong optimizers, one for each part of an optimizer, are found; all of the catalogue are by `tox -e mutation`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = (
    "r_float32",
    "threshold_tolerant",
    "eps_inside_root",
    "decay_after_update",
    "foreach_r_float32",
    "r_capped_late",
)


@pytest.mark.parametrize("names", [SAMPLE])
def test_each_is_found(names: tuple[str, ...]) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tests.mutation", *names],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{len(names)} of {len(names)} wrong optimizers found" in result.stdout, result.stdout + result.stderr
    assert result.returncode == 0
