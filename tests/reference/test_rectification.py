"""rho_t, r_t and bias corrections against closed forms in arbitrary precision, exact rationals and printed values."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import (
    bias_correction,
    exact_r_t,
    first_adaptive_step,
    first_exact_step,
    first_order_variance,
    n_eff,
    r_t,
    rectification,
    rho_inf,
    rho_t,
)

betas = st.one_of(
    st.floats(0.0, 1.0, exclude_max=True),
    st.floats(-15.9, 0.0).map(lambda x: 1 - 10.0**x).filter(lambda b: b < 1),
    st.sampled_from([0.0, 5e-324, 0.5, 1 - 2.0**-53]),
)


def closed_forms(t: int, beta: float) -> dict[str, Any]:
    """The formulas with cancellation, as the paper prints them; 400 digits outlast it for every float64 beta < 1."""
    with mpmath.workdps(400):
        b = mpmath.mpf(beta)
        bc = 1 - b**t
        rho_limit = 2 / (1 - b) - 1
        rho = rho_limit - 2 * t * b**t / bc
        square = (rho - 4) * (rho - 2) * rho_limit / ((rho_limit - 4) * (rho_limit - 2) * rho) if rho > 4 else None
        n = rho_limit * bc / (1 + b**t)
        r = None if square is None else mpmath.sqrt(square)
        return {"bc": bc, "rho_inf": rho_limit, "rho": rho, "r": r, "n": n}


@settings(deadline=None, max_examples=200)
@given(t=st.one_of(st.integers(1, 30), st.integers(1, 9000)), beta=betas)
def test_float64_is_the_exact_value_rounded(t: int, beta: float) -> None:
    exact = closed_forms(t, beta)
    # float(mpf) rounds to nearest, once
    assert rho_t(t, beta) == float(exact["rho"])
    assert rho_inf(beta) == float(exact["rho_inf"])
    assert bias_correction(t, beta) == float(exact["bc"])
    if exact["r"] is None:
        with pytest.raises(ValueError, match="does not exist"):
            r_t(t, beta)
    else:
        # the square is rounded, halving its error in the root, and the root is rounded: 3/4 unit in the last place
        assert abs(mpmath.mpf(r_t(t, beta)) - exact["r"]) <= math.ulp(r_t(t, beta))


@pytest.mark.parametrize("beta", [0.999, 1 - 1e-9])
def test_large_t(beta: float) -> None:
    for t in (8191, 8192, 8193, 10**5, 9000, 2 * 10**5, 10**5):  # back and forth, across what is kept
        exact = closed_forms(t, beta)
        assert rho_t(t, beta) == float(exact["rho"])
        assert bias_correction(t, beta) == float(exact["bc"])


@settings(deadline=None, max_examples=50)
@given(t=st.integers(1, 40), beta=st.fractions(0, Fraction(99, 100), max_denominator=200))
def test_rationals_are_exact(t: int, beta: Fraction) -> None:
    bc = 1 - beta**t
    rho = 2 / (1 - beta) - 1 - 2 * t * beta**t / bc
    assert (rho_t(t, beta), bias_correction(t, beta)) == (rho, bc)
    # equation 4: the mean lag t - i under the exponential weights is that of a simple average of length rho
    weights = [(1 - beta) * beta ** (t - i) for i in range(1, t + 1)]
    assert sum(w * (t - i) for i, w in enumerate(weights, start=1)) / sum(weights) == (rho - 1) / 2
    if rho > 4:
        limit = rho_inf(beta)
        square = (rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho)
        assert first_order_variance(limit) / first_order_variance(rho) == square
        assert r_t(t, beta) == math.sqrt(square)


@settings(deadline=None, max_examples=50)
@given(t=st.integers(1, 200), beta=betas, digits=st.integers(15, 80))
def test_mpf_has_the_working_precision(t: int, beta: float, digits: int) -> None:
    """Also where it was lower when the same was asked before."""
    exact = closed_forms(t, beta)
    for precision in (digits, digits + 10):
        with mpmath.workdps(precision):
            b = mpmath.mpf(beta)
            found = {"rho": rho_t(t, b), "rho_inf": rho_inf(b), "bc": bias_correction(t, b), "n": n_eff(t, b)}
            found["r"] = None if exact["r"] is None else r_t(t, b)
            ulp = mpmath.mpf(2) ** (1 - mpmath.mp.prec)
        for name, value in found.items():
            if value is not None:
                assert isinstance(value, mpmath.mpf)
                assert abs(value - exact[name]) <= ulp * abs(exact[name]), name


@settings(deadline=None, max_examples=100)
@given(t=st.integers(2, 300), beta=st.floats(0.01, 0.9999))
def test_rho_is_increasing_and_below_t_and_its_limit(t: int, beta: float) -> None:
    # not strictly for rounded values: rho_t reaches the double nearest to rho_inf
    assert rho_t(1, beta) == 1
    assert rho_t(t - 1, beta) <= rho_t(t, beta) <= min(t, rho_inf(beta))
    assert rho_t(t, beta) <= rho_t(t, math.nextafter(beta, 1))


# facts/statistics.md, section 5: beta2, rho_inf, first step with rho_t > 4, >= 5, > 5, and rho_4, rho_5, rho_6
TABLE = [
    ("0", 1, None, None, None, "1", "1", "1"),
    ("0.5", 3, None, None, None, "2.46667", "2.67742", "2.80952"),
    ("0.6", 4, None, None, None, "2.80882", "3.15684", "3.41273"),
    ("0.7", 17 / 3, 6, 10, 10, "3.13897", "3.64642", "4.06664"),
    ("0.75", 7, 6, 8, 8, "3.29714", "3.88860", "4.40184"),
    ("0.8", 9, 5, 7, 7, "3.44986", "4.12613", "4.73666"),
    ("0.9", 19, 5, 6, 6, "3.73742", "4.58057", "5.38956"),
    ("0.95", 39, 5, 6, 6, "3.87186", "4.79506", "5.70127"),
    ("0.98", 99, 5, 6, 6, "3.94950", "4.91920", "5.88218"),
    ("0.99", 199, 5, 6, 6, "3.97487", "4.95980", "5.94138"),
    ("0.995", 399, 5, 6, 6, "3.98747", "4.97995", "5.97076"),
    ("0.999", 1999, 5, 6, 6, "3.99750", "4.99600", "5.99416"),
    ("0.9999", 19999, 5, 6, 6, "3.99975", "4.99960", "5.99942"),
    ("0.999999", 2e6 - 1, 5, 6, 6, "3.9999975", "4.999996", "5.9999942"),
    ("0.999999999999", 2e12 - 1, 5, 6, 6, None, None, None),
]


@pytest.mark.parametrize(("decimal", "limit", "gt4", "ge5", "gt5", "rho4", "rho5", "rho6"), TABLE)
@pytest.mark.parametrize("number", [float, Fraction, mpmath.mpf])
def test_printed_table(
    number: Any, decimal: str, limit: float, gt4: int, ge5: int, gt5: int, rho4: str, rho5: str, rho6: str
) -> None:
    beta = number(decimal)
    # the double nearest to 1 - 1e-12 is 9e-5 relative further from 1
    assert float(rho_inf(beta)) == pytest.approx(limit, rel=1e-4 if limit > 1e7 else 1e-9, abs=0)
    assert first_adaptive_step(beta, 4, strict=True) == gt4
    assert first_adaptive_step(beta, 5) == ge5
    assert first_adaptive_step(beta, 5, strict=True) == gt5
    for t, printed in ((4, rho4), (5, rho5), (6, rho6)):
        if printed is not None:
            half_a_unit = 0.5 * 10.0 ** -len(printed.partition(".")[2])
            assert abs(float(rho_t(t, beta)) - float(printed)) <= half_a_unit * (1 + 1e-6)


def test_no_cancellation_at_the_last_double_before_one() -> None:
    beta = 1 - 2.0**-53
    # rho_t = t - (t^2-1)(1-b)/6 + O((1-b)^2); the textbook formula gives rho_1 = 2, rho_3 = 6
    assert [rho_t(t, beta) for t in (1, 2, 3)] == [1.0, 2.0, 3.0]
    assert (rho_t(4, beta), rho_t(5, beta)) == (3.9999999999999996, 4.999999999999999)
    assert first_adaptive_step(beta, 4) == 5


def test_first_adaptive_step_at_and_beyond_the_limit() -> None:
    for threshold in (7, 8):
        assert first_adaptive_step(Fraction(3, 4), threshold) is None  # rho_t stays below rho_inf = 7
    t = first_adaptive_step(0.75, 7)  # and float64 rounds it up to 7 in the end
    assert t is not None
    assert rho_t(t, 0.75) == 7.0 > rho_t(t - 1, 0.75)
    assert first_adaptive_step(0.75, 7, strict=True) is None
    assert first_adaptive_step(0.75, math.inf) is None
    assert first_adaptive_step(0.6, 1) is None  # rho_inf <= 4: never adaptive, whatever the threshold
    assert first_adaptive_step(Fraction(3, 5), 1) is None  # rho_inf = 4 exactly
    for threshold in (1, 0.5, -3, -math.inf):
        assert first_adaptive_step(0.999, threshold) == 1


def test_first_adaptive_step_beyond_the_sums_that_are_kept() -> None:
    t = first_adaptive_step(0.9999, 7500.0)
    assert t is not None
    assert t > 8192
    assert rho_t(t, 0.9999) >= 7500.0 > rho_t(t - 1, 0.9999)


def test_what_was_asked_for_before_does_not_matter() -> None:
    rho_t(9000, 0.65)  # the last power is 0 to all bits that are carried
    assert first_adaptive_step(0.65, 4) == 8
    before = first_adaptive_step(0.9998, 8000.0)
    rho_t(10**6, 0.9998)  # here too, but not yet at the steps that were asked for before
    assert before == first_adaptive_step(0.9998, 8000.0)


def test_a_limit_that_is_rounded_up_may_never_be_reached() -> None:
    """rho_inf = 63 is halfway between two numbers of 5 bits, and goes up to 64; every rho_t goes down to 62."""
    with mpmath.workprec(5):
        beta = mpmath.mpf(31) / 32
        assert rho_inf(beta) == 64
        assert rho_t(9000, beta) == 62
        assert first_adaptive_step(beta, 64) is None


@settings(deadline=None, max_examples=100)
@given(beta=st.floats(0.61, 0.99), threshold=st.floats(1.0, 12.0), strict=st.booleans())
def test_first_adaptive_step_is_the_first(beta: float, threshold: float, strict: bool) -> None:
    found = first_adaptive_step(beta, threshold, strict)
    steps = [t for t in range(1, 200) if (rho_t(t, beta) > threshold if strict else rho_t(t, beta) >= threshold)]
    if found is None or found >= 200:
        assert steps == []
    else:
        assert steps[0] == found


@pytest.mark.parametrize("beta", [-0.1, 1.0, 1.5, math.nan, Fraction(1), mpmath.mpf(1)])
def test_beta_outside_its_range(beta: Any) -> None:
    for call in (lambda: rho_t(3, beta), lambda: r_t(3, beta), lambda: bias_correction(3, beta), lambda: rho_inf(beta)):
        with pytest.raises(ValueError, match=r"beta2? must be in \[0, 1\), but is"):
            call()


@pytest.mark.parametrize("t", [0, -1])
def test_t_below_one(t: int) -> None:
    for function in (rho_t, r_t, bias_correction):
        with pytest.raises(ValueError, match=f"t must be an integer >= 1, but is {t}"):
            function(t, 0.9)


def test_where_the_variance_does_not_exist() -> None:
    with pytest.raises(ValueError, match=r"rho_t is 3\.99.* at t = 4, beta2 = 0.999"):
        r_t(4, 0.999)
    with pytest.raises(ValueError, match=r"rho_inf is 3\.0 at beta2 = 0.5"):
        r_t(100, 0.5)
    with pytest.raises(ValueError, match=r"rho_inf is 4\.0 at beta2 = Fraction\(3, 5\)"):
        r_t(100, Fraction(3, 5))
    for rho in (4, 3.0, Fraction(5, 2), math.nan):
        with pytest.raises(ValueError, match=rf"rho is {re.escape(repr(rho))}$"):
            first_order_variance(rho)
    with pytest.raises(ValueError, match="threshold must be a number, but is nan"):
        first_adaptive_step(0.9, math.nan)


def test_numpy_scalars() -> None:
    assert rho_t(np.int64(7), np.float64(0.9)) == rho_t(7, 0.9)
    assert r_t(7, np.float32(0.5) + np.float32(0.25)) == r_t(7, 0.75)


def test_a_loop_over_steps_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each power of beta is computed once, also of those whose sums are not all kept, until it is 0."""
    powers: list[Any] = []
    multiply = rectification._LagSums._times_beta

    def counted(self: Any, value: Any) -> Any:
        powers.append(value)
        return multiply(self, value)

    monkeypatch.setattr(rectification._LagSums, "_times_beta", counted)
    beta, steps = 0.9987654321, rectification._KEPT + 500
    for t in range(6, steps + 1):
        r_t(t, beta)
        rho_t(t, beta)
        bias_correction(t, beta)
    assert len(powers) == steps
    rho_t(10**7, beta)
    assert 0 not in powers
    assert len(powers) < 150_000


# The exact rectification


def by_the_papers_variance(t: int, beta: Any) -> tuple[Any, Any]:
    """n_t in closed form, and r_t by the paper's equation 2, of which it takes the expansion."""
    with mpmath.workdps(300):
        b = mpmath.mpf(beta)
        limit = (1 + b) / (1 - b)
        n = limit * (1 - b**t) / (1 + b**t)

        def variance(rho: Any) -> Any:
            half = (rho - 1) / 2
            # 2^(2 rho - 5) B^2, whose factors leave every range.
            square = mpmath.exp(
                (2 * rho - 5) * mpmath.log(2) + 2 * (2 * mpmath.loggamma(half) - mpmath.loggamma(rho - 1))
            )
            return rho / (rho - 2) - rho * square / mpmath.pi

        exists = n > 2 and limit > 2
        return n, mpmath.sqrt(variance(limit) / variance(n)) if exists else None


@settings(deadline=None, max_examples=150)
@given(
    t=st.one_of(st.integers(1, 30), st.integers(1, 9000)),
    beta=st.one_of(betas, st.floats(0.33, 0.4), st.just(1 / 3), st.just((3 - 5**0.5) / 2)),
)
def test_the_exact_rectification_is_exact_and_rounded(t: int, beta: float) -> None:
    n, r = by_the_papers_variance(t, beta)
    assert n_eff(t, beta) == float(n)
    if r is None:
        with pytest.raises(ValueError, match=r"psi has no variance for (n_t|rho_inf) <= 2"):
            exact_r_t(t, beta)
    else:
        assert exact_r_t(t, beta) == float(r)
    first = first_exact_step(beta)
    assert (first is not None and t >= first) == (r is not None)


def test_the_exact_rectification_of_other_numbers() -> None:
    assert n_eff(4, Fraction(1, 2)) == Fraction(45, 17)
    assert exact_r_t(4, Fraction(1, 2)) == exact_r_t(4, 0.5)
    with mpmath.workprec(300):
        nearest = 1 - mpmath.mpf(2) ** -200 / 3
    # Not at a lower precision that it was asked for at before, nor at that of a float; and as near to 1 as it may be.
    for precision, beta in ((60, 0.999), (300, 0.999), (300, nearest)):
        with mpmath.workprec(precision):
            _, r = by_the_papers_variance(6, beta)
            assert abs(exact_r_t(6, mpmath.mpf(beta)) / r - 1) < mpmath.mpf(2) ** (1 - precision)
    with pytest.raises(ValueError, match=r"rho_inf <= 2: rho_inf is 2\.0 at t = 9, beta2 = Fraction\(1, 3\)"):
        exact_r_t(9, Fraction(1, 3))
    # 3 b - 1 = 3e-30 exceeds b^t (3 - b), about 8/3 3^-t, from t = log_3(8/9 1e30) = 62.8 on.
    assert [first_exact_step(Fraction(1, 3)), first_exact_step(Fraction(1, 3) + Fraction(1, 10**30))] == [None, 63]


def test_n_eff_and_rho_t_meet_at_the_first_step_and_in_the_limit() -> None:
    for beta in (0.5, 0.9, 0.999):
        assert n_eff(1, beta) == rho_t(1, beta) == 1
        assert n_eff(10**5, beta) == rho_inf(beta)
        assert all(rho_t(t, beta) < n_eff(t, beta) < t for t in range(2, 40))
