"""rho_t against its definition by centres of mass, in exact rationals, and where it crosses 4 and 5.

Liu et al. 2019, equation 4: rho_t is the length f of the simple average with the mean index of the exponential one,

    (1-b) sum_{i=1}^t b^(t-i) i / (1 - b^t)  =  sum_{i=1}^f (t+1-i) / f.

On the left i counts gradients from the first; on the right it counts from the last, the average being over the last f.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import rho_inf, rho_t

BETAS = [Fraction(text) for text in ("0", "1/3", "0.5", "0.6", "0.9", "0.99", "0.999", "0.999999")]
BETAS.append(1 - Fraction(1, 2**53))
STEPS = [1, 2, 3, 4, 5, 6, 10, 17, 40, 100]
betas = st.one_of(
    st.fractions(0, Fraction(99, 100), max_denominator=200),
    st.integers(1, 10**15).map(lambda n: 1 - Fraction(1, n)),
)

Index = Callable[[int, int], int]


def from_first(i: int, t: int) -> int:
    return i


def from_last(i: int, t: int) -> int:
    return t + 1 - i


def length(t: int, b: Fraction, left: Index, right: Index) -> Fraction:
    """Solve the definition for f. A mean over i = 1 .. f of an index is linear in f, and so defined for every f."""
    centre = sum(((1 - b) * b ** (t - i) * left(i, t) for i in range(1, t + 1)), Fraction(0)) / (1 - b**t)

    def mean(f: int) -> Fraction:
        return Fraction(sum(right(i, t) for i in range(1, f + 1)), f)

    slope = mean(2) - mean(1)
    assert all(mean(f) == mean(1) + (f - 1) * slope for f in (3, 4, 7, t))
    return 1 + (centre - mean(1)) / slope


def cases() -> Iterator[tuple[int, Fraction]]:
    return ((t, b) for b in BETAS for t in STEPS)


@pytest.mark.parametrize(("left", "right"), [(from_first, from_last), (from_last, from_first)])
def test_rho_is_defined_by_centres_of_mass(left: Index, right: Index) -> None:
    """As the paper has it, and with both sides counted from the other end."""
    for t, b in cases():
        assert length(t, b, left, right) == rho_t(t, b), (t, b)


@given(t=st.integers(1, 30), b=betas)
def test_rho_is_defined_by_centres_of_mass_for_any_beta(t: int, b: Fraction) -> None:
    assert length(t, b, from_first, from_last) == rho_t(t, b)


@pytest.mark.parametrize("index", [from_first, from_last])
def test_the_same_index_on_both_sides(index: Index) -> None:
    """Compares the last gradients with the first: the solution is 2t - rho_t, which grows without bound."""
    for t, b in cases():
        found = length(t, b, index, index)
        assert found == 2 * t - rho_t(t, b)
        assert (found == rho_t(t, b)) == (t == 1)
        assert found > 2 * t - rho_inf(b) or b == 0
    b = Fraction(999, 1000)
    assert round(float(length(10, b, index, index)), 4) == 10.0165
    assert round(float(rho_t(10, b)), 4) == 9.9835


@given(t=st.integers(2, 20), b=betas.filter(lambda b: b > 0), c=betas)
def test_rho_is_strictly_increasing_and_below_t_and_its_limit(t: int, b: Fraction, c: Fraction) -> None:
    assert rho_t(1, b) == 1
    assert rho_t(t - 1, b) < rho_t(t, b) < min(t, rho_inf(b))
    if b != c:
        assert (rho_t(t, b) < rho_t(t, c)) == (b < c)
    # so that for every beta2 < 1 rho_t > 4 needs t >= 5, and rho_t >= 5 needs t >= 6
    assert rho_t(4, b) < 4
    assert rho_t(5, b) < 5


# facts/statistics.md, section 5. Its table is in test_rectification.py, but for what follows.


def test_close_to_one() -> None:
    """rho_t = t - (t^2 - 1)(1 - b)/6 + O((1 - b)^2)."""
    gap = Fraction(1, 10**12)
    found = [float((t - rho_t(t, 1 - gap)) / gap) for t in (4, 5, 6)]
    assert [round(x, 1) for x in found] == [2.5, 4.0, 5.8]
    assert found == pytest.approx([15 / 6, 24 / 6, 35 / 6], abs=1e-10)


def printed_in_float64(t: int, b: float) -> float:
    """2/(1-b) - 1 - 2 t b^t/(1 - b^t) as printed, with a power that is rounded correctly on every platform."""
    power = float(Fraction(b) ** t)
    return 2 / (1 - b) - 1 - 2 * t * power / (1 - power)


@pytest.mark.parametrize(
    ("gap", "steps"), [(1e-3, (5, 6, 6)), (1e-4, (5, 6, 6)), (1e-6, (4, 6, 6)), (1e-12, (3, 3, 4))]
)
def test_first_step_of_the_printed_formula_in_float64(gap: float, steps: tuple[int, int, int]) -> None:
    values = [printed_in_float64(t, 1 - gap) for t in range(1, 10)]
    found = (
        next(t for t, rho in enumerate(values, start=1) if rho > 4),
        next(t for t, rho in enumerate(values, start=1) if rho >= 5),
        next(t for t, rho in enumerate(values, start=1) if rho > 5),
    )
    assert found == steps


def test_values_of_the_printed_formula_in_float64() -> None:
    assert round(printed_in_float64(4, 1 - 1e-6), 7) == 4.0000064
    assert round(printed_in_float64(4, 1 - 1e-8), 4) == 4.2244
    assert round(printed_in_float64(5, 1 - 1e-8), 6) == 5.003197
    for gap in (1e-9, 1e-10, 1e-12):
        assert [printed_in_float64(t, 1 - gap) for t in (3, 4)] == [5, 7]
    assert [printed_in_float64(t, 1 - 2.0**-53) for t in (1, 3)] == [2, 6]


CRITICAL = [
    (5, 4, "0.773303"),
    (6, 4, "0.690010"),
    (7, 4, "0.650908"),
    (6, 5, "0.839769"),
    (7, 5, "0.767807"),
    (8, 5, "0.729637"),
]


@pytest.mark.parametrize(("t", "threshold", "printed"), CRITICAL)
def test_critical_beta(t: int, threshold: int, printed: str) -> None:
    """rho_t > c iff sum_{j<t} (2j+1-c) b^j > 0: its coefficients change sign once, so it has one positive root."""
    coefficients = [2 * j + 1 - threshold for j in range(t)]
    signs = [c > 0 for c in coefficients if c != 0]
    assert signs == sorted(signs)
    half_a_unit = Fraction(1, 2 * 10**6)
    below, above = Fraction(printed) - half_a_unit, Fraction(printed) + half_a_unit
    for b in (below, above):
        value = sum(c * b**j for j, c in enumerate(coefficients))
        assert (value > 0) == (rho_t(t, b) > threshold) == (b == above)


@pytest.mark.parametrize(("threshold", "limit"), [(4, Fraction(3, 5)), (5, Fraction(2, 3))])
def test_limit_of_the_critical_betas(threshold: int, limit: Fraction) -> None:
    """With growing t they fall to the beta2 whose rho_inf is the threshold: there rho_t never reaches it."""
    assert rho_inf(limit) == threshold
    for t in (8, 100, 1000):
        assert rho_t(t, limit) < threshold
    # rho_inf - rho_t = 2 t b^t/(1 - b^t) < 1e-15 at t = 100, and rho_inf increases by 2/(1 - b)^2 > 12 times the gap
    assert rho_t(100, limit + Fraction(1, 10**12)) > threshold
    printed = [Fraction(b) for _, c, b in CRITICAL if c == threshold]
    assert printed == sorted(printed, reverse=True)
    assert printed[-1] > limit


def test_fact_3_1_of_ma_and_yarats() -> None:
    """For 0.8 <= beta2 < 1 rho_t > 4 iff t >= 5: rho_t increases with t and beta2, and stays below t."""
    assert rho_t(5, Fraction(4, 5)) > 4
    for b in (Fraction(4, 5), 1 - Fraction(1, 10**18)):
        assert [t for t in range(1, 30) if rho_t(t, b) <= 4] == [1, 2, 3, 4]
