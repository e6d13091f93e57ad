"""Small errors are seen: 1 in 10**12 of exact scalars in float64, twice the bound in others, which has one rounding."""

from __future__ import annotations

import math

import pytest

from radam.audit.lockstep import precision_of
from tests.mutation.sensitivity import PRECISIONS, QUANTITIES, Point, bound, is_seen, points, smallest_seen, step, table

POINTS = [point for point in points() if point.beta2 == 0.999 and point.t in (1, 6)]


def counts(point: Point) -> bool:
    """Whether the quantity plays a part: eps does in adaptive steps only."""
    return point.quantity != "eps" or point.t > 1


@pytest.mark.parametrize("point", [point for point in POINTS if counts(point)], ids=str)
def test_within_the_goal(point: Point) -> None:
    _, _, scalars = PRECISIONS[point.precision]
    # An error below 2**-52 may not be there at all: the number is the same float64.
    goal = 1e-12 if scalars == "exact" else max(2 * bound(point), 2.0**-52)
    assert is_seen(point, goal), f"{point}: the smallest that is seen is {smallest_seen(point)}, the goal {goal}"


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_allowed_one_rounding(precision: str) -> None:
    unit = precision_of(PRECISIONS[precision][0]).unit_roundoff
    assert bound(Point("lr", precision, 0.999, 1)) <= unit


def test_nothing_is_seen_where_nothing_is_wrong() -> None:
    for point in POINTS:
        record = step(point, 1.0)
        assert not record.findings
        assert record.judged == 3 * 256


def test_what_plays_no_part_is_not_seen() -> None:
    point = Point("eps", "float64", 0.999, 1)
    assert smallest_seen(point) == math.inf
    assert table(dict.fromkeys([Point(quantity, "float64", 0.999, 1) for quantity in QUANTITIES], math.inf))
