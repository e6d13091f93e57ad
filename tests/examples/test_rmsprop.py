"""The example of radam/audit/README.md does what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("name", "status"), [("subject", 1), ("repaired", 0)])
def test_the_bug_is_found(name: str, status: int) -> None:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "tests/subject/test_numbers.py"]
    result = subprocess.run(
        [*command, "-k", "float64", "--hypothesis-profile=find", "--subject", f"tests.examples.rmsprop:{name}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == status, result.stdout
    assert ("times the bound" in result.stdout) == bool(status)


def test_the_description_is_short() -> None:
    """What the author writes to have an optimizer verified takes under 40 lines."""
    source = (Path(__file__).parent / "rmsprop.py").read_text(encoding="utf-8")
    _, _, description = source.partition("# What its author writes")
    assert len(description.splitlines()) < 40
