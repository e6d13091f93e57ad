"""The example of radam/audit/README.md does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from radam.audit.cli import main

NUMBERS = ["every_step", "trajectory", "eps_alone"]


@pytest.mark.deep
def test_the_bug_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    """By the checks of the numbers; nothing else is wrong."""
    checks = [argument for name in (*NUMBERS, "deepcopy", "layouts") for argument in ("--checks", name)]
    assert main(["tests.examples.rmsprop:subject", "--max-examples", "6", *checks]) == 1
    assert f"RMSProp: failed: {', '.join(NUMBERS)}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.deep
def test_the_repaired_one_passes(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["tests.examples.rmsprop:repaired", "--max-examples", "12", "--min-checks", "45"])
    assert status == 0, capsys.readouterr().out


def test_the_description_is_short() -> None:
    """What the author writes to have an optimizer verified takes under 40 lines."""
    source = (Path(__file__).parent / "rmsprop.py").read_text(encoding="utf-8")
    _, _, description = source.partition("# What its author writes")
    assert len(description.splitlines()) < 40
