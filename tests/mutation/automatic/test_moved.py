"""How far mutants of the quadrature move a result: what is as good is within the stated errors, what is wrong not."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

pytest.importorskip("cosmic_ray")

from tests.mutation.automatic import moved, mutations, reasons
from tests.mutation.automatic.moved import Result
from tests.mutation.automatic.mutations import Mutant, Place

SOURCE = (mutations.ROOT / moved.FILE).read_text()


def changed(old: str, new: str) -> mutations.Mutant:
    """The source of the exact law with another text in one place."""
    assert SOURCE.count(old) == 1
    return Mutant(Place(moved.FILE, "", old, new), 0, "by hand", 1, SOURCE.replace(old, new))


AS_GOOD = changed("_NODES = 96", "_NODES = 97")
COARSE = changed("_NODES = 96", "_NODES = 40")
RAISES = changed("    return SecondMoment(math.inf, beta2).psi_variance()", "    return 1 / 0")


@pytest.mark.deep
def test_the_exit_status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(moved, "results", functools.partial(moved.results, betas=(0.9,)))
    for mutants, status, last in (
        ([AS_GOOD], 0, "at most 0.0"),
        ([AS_GOOD, COARSE], 1, "at most"),
        ([RAISES], 1, "at most inf of what is stated"),
    ):
        monkeypatch.setattr(moved, "claimed", lambda mutants=mutants: mutants)
        assert moved.main([]) == status
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == len(mutants) + 2
        assert last in lines[-1]
    assert "ZeroDivisionError" in lines[1]


@pytest.mark.deep
def test_wherever_the_claim_is_made_it_is_measured() -> None:
    places = {place for place, reason in reasons.read().by_place.items() if moved.CLAIM in reason}
    assert places
    assert places == {mutant.place for mutant in moved.claimed()}


@pytest.mark.parametrize(
    ("value", "other", "allowed", "expected"),
    [
        (1.0, 1.5, 0.25, 2.0),
        (0.0, 0.0, 0.0, 0.0),
        (0.0, 1e-300, 0.0, math.inf),
        (math.inf, math.inf, math.inf, 0.0),
        (math.nan, math.nan, math.nan, 0.0),
        (1.0, math.nan, 0.25, math.inf),
        (math.inf, 1.0, math.inf, math.inf),
    ],
)
def test_distance(value: float, other: float, allowed: float, expected: float) -> None:
    def result(x: float) -> dict[str, Result]:
        return {"a": Result(np.array([x, 0.0]), np.array([allowed, 1.0])), "none": Result(np.array([]), np.array([]))}

    assert moved.distance(result(value), result(other)) == (expected, "a" if expected else "none")
