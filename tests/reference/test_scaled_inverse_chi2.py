"""The law of psi^2 and the variance of psi against SciPy, quadrature, exact rationals, 80 digits and printed values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from reference import first_order_variance, r_t, rho_inf, rho_t, scaled_inverse_chi2
from reference.scaled_inverse_chi2 import ScaledInverseChi2

U = 2.0**-53
# Relative errors that the docstring of the module derives.
BOUND_VARIANCE = 16 * U
BOUND_MEAN = 8 * U

CORNERS = [math.nextafter(2, 3), 2 + 1e-12, 2 + 1e-6, 2.1, 2.5, 3, math.nextafter(4, 3), 4, 5, 10, 16, 18, 100]
CORNERS += [510.5, 1999, 1e6, 1e12]
above_2 = st.one_of(
    st.floats(-15.6, 12).map(lambda e: 2 + 10.0**e),
    st.floats(2, 30, exclude_min=True),
    st.floats(2, 1e12, exclude_min=True),
)
scales = st.floats(-100, 100).map(lambda e: 10.0**e)


def gamma_ratio_squared(x: Any) -> Any:
    return mpmath.exp(2 * (mpmath.loggamma(x) - mpmath.loggamma(x - mpmath.mpf(1) / 2)))


def exact_mean_psi(rho: float, tau2: float = 1.0) -> Any:
    with mpmath.workdps(80):
        x = mpmath.mpf(rho) / 2
        return mpmath.sqrt(tau2 * x / gamma_ratio_squared(x))


def exact_variance_psi(rho: float, tau2: float = 1.0) -> Any:
    """By the difference: log Gamma loses 14 of 80 digits at rho = 1e12, and the difference 13."""
    with mpmath.workdps(80):
        x = mpmath.mpf(rho) / 2
        return tau2 * (x / (x - 1) - x / gamma_ratio_squared(x))


def relative_error(value: Any, exact: Any) -> float:
    with mpmath.workdps(80):
        return float(abs(mpmath.mpf(float(value)) / exact - 1))


def agrees(value: float, printed: str) -> bool:
    """Whether a value rounds to what is printed; a tie is decided by its last digits."""
    return abs(float(value) - float(printed)) <= 0.5 * 10.0 ** -len(printed.partition(".")[2]) * (1 + 1e-6)


def variance_psi(rho: float) -> float:
    return float(ScaledInverseChi2(rho).variance_psi())


def first_order(rho: float) -> float:
    return float(ScaledInverseChi2(rho).first_order_variance_psi())


# Accuracy


def check_variance_psi(variance: Callable[[float], float], rho: float) -> None:
    assert relative_error(variance(rho), exact_variance_psi(rho)) <= BOUND_VARIANCE


def check_variance_psi_at_corners() -> None:
    for rho in CORNERS:
        check_variance_psi(variance_psi, rho)


def test_variance_psi_at_corners() -> None:
    check_variance_psi_at_corners()


@given(rho=above_2, tau2=scales)
def test_variance_psi(rho: float, tau2: float) -> None:
    law = ScaledInverseChi2(rho, tau2)
    assert relative_error(law.variance_psi(), exact_variance_psi(rho, tau2)) <= BOUND_VARIANCE < 1e-14


@given(rho=st.one_of(above_2, st.floats(-15.6, 0).map(lambda e: 1 + 10.0**e)), tau2=scales)
def test_mean_psi(rho: float, tau2: float) -> None:
    assert relative_error(ScaledInverseChi2(rho, tau2).mean_psi(), exact_mean_psi(rho, tau2)) <= BOUND_MEAN


@given(rho=above_2, tau2=scales)
def test_the_rational_moments(rho: float, tau2: float) -> None:
    law, exact, scale = ScaledInverseChi2(rho, tau2), Fraction(rho), Fraction(tau2)
    mean = scale * exact / (exact - 2)
    # each: one rounding an operation, those of a square twice
    assert abs(Fraction(float(law.mean_psi2())) / mean - 1) <= 4 * U
    lower = mean / (2 * (exact - Fraction(3, 2)))
    assert abs(Fraction(float(law.lower_variance_psi())) / lower - 1) <= 6 * U
    upper = lower * (1 + 1 / (4 * (exact - Fraction(3, 2))))
    assert abs(Fraction(float(law.upper_variance_psi())) / upper - 1) <= 10 * U
    if rho > 4:
        variance = 2 * exact**2 * scale**2 / ((exact - 2) ** 2 * (exact - 4))
        assert abs(Fraction(float(law.variance_psi2())) / variance - 1) <= 10 * U
        first = scale * first_order_variance(exact)
        assert abs(Fraction(float(law.first_order_variance_psi())) / first - 1) <= 6 * U


def test_very_large_rho() -> None:
    law = ScaledInverseChi2([1e155, 1e300])
    assert np.all(abs(law.variance_psi() * law.rho * 2 - 1) <= BOUND_VARIANCE + 2 * U)
    assert np.all(abs(law.mean_psi() - 1) <= BOUND_MEAN)


# The derivation in the docstring of the module


def test_euler_numbers() -> None:
    """sech cosh = 1: sum_k C(2n, 2k) E_2k = 0 for n >= 1."""
    numbers = [1]
    for n in range(1, len(scaled_inverse_chi2._EULER) + 1):
        numbers.append(-sum(math.comb(2 * n, 2 * k) * numbers[k] for k in range(n)))
    assert [abs(e) for e in numbers[1:]] == list(scaled_inverse_chi2._EULER)
    assert [e > 0 for e in numbers] == [k % 2 == 0 for k in range(len(numbers))]


def product(a: list[Fraction], b: list[Fraction]) -> list[Fraction]:
    """Product of two power series, to the length of the first."""
    return [sum((a[i] * b[n - i] for i in range(n + 1) if n - i < len(b)), Fraction(0)) for n in range(len(a))]


def delta_coefficients() -> list[Fraction]:
    """delta = y (e^L - 1) as a series in 1/y, from the numbers of the module: e^L solves f' = L' f."""
    euler = scaled_inverse_chi2._EULER
    order = 2 * len(euler)
    logarithm = [Fraction(0)] * (order + 1)
    for k, e in enumerate(euler, start=1):
        logarithm[2 * k] = Fraction((-1) ** (k + 1) * e, 2 * k * 4 ** (2 * k))
    power = [Fraction(1)] + [Fraction(0)] * order
    for n in range(1, order + 1):
        power[n] = sum((j * logarithm[j] * power[n - j] for j in range(1, n + 1)), Fraction(0)) / n
    return [Fraction(0), *power[2:]]  # times y: 1/y^n takes what 1/y^(n+1) had


def test_series_of_delta() -> None:
    found = delta_coefficients()
    # facts/statistics.md, section 2
    assert found[1::2][:4] == [Fraction(1, 32), Fraction(-9, 2048), Fraction(153, 65536), Fraction(-21429, 8388608)]
    assert not any(found[0::2])
    # and it solves the recurrence x^2 delta(x) = 1/16 + (x - 1/2)^2 delta(x + 1) to every order, with w = 1/y:
    # (1 + 3w/4)^2 D(w) - (1 + w/4)^2 D(w/(1 + w)) = w^2/16
    shifted = [Fraction(0)] * len(found)
    for m in range(1, len(found)):
        for i in range(len(found) - m):
            shifted[m + i] += found[m] * (-1) ** i * math.comb(m + i - 1, i)
    left = product(found, [Fraction(1), Fraction(3, 2), Fraction(9, 16)])
    right = product(shifted, [Fraction(1), Fraction(1, 2), Fraction(1, 16)])
    assert [a - b for a, b in zip(left, right, strict=True)] == [Fraction(1, 16) * (n == 2) for n in range(len(found))]


def test_parts_of_the_bound() -> None:
    steps = scaled_inverse_chi2._STEPS
    with mpmath.workdps(50):
        deltas = [gamma_ratio_squared(mpmath.mpf(k)) - (k - mpmath.mpf(3) / 4) for k in range(1, steps + 2)]
        # 9u of delta for each step, and 12u for delta(x + 8) itself, which the recurrence damps; x = 1 is the worst
        damping = gamma_ratio_squared(mpmath.mpf(1)) / gamma_ratio_squared(mpmath.mpf(1 + steps))
        assert 9 * sum(deltas[:steps]) + 12 * damping * deltas[steps] < 1.3
        # the error of L has the sign of the first term left out, and is smaller
        terms = len(scaled_inverse_chi2._EULER)
        for x in (1, 1.25, 1.5, 2, 3, 5, 10, 100):
            start = mpmath.mpf(x) + steps
            y = start - mpmath.mpf(3) / 4
            logarithm = sum(
                (-1) ** (k + 1) * e / (2 * k * (4 * y) ** (2 * k))
                for k, e in enumerate(scaled_inverse_chi2._EULER, start=1)
            )
            left_out = abs(mpmath.eulernum(2 * terms + 2)) / ((2 * terms + 2) * (4 * y) ** (2 * terms + 2))
            error = mpmath.log(gamma_ratio_squared(start) / y) - logarithm
            assert 0 < error < left_out
            damping = gamma_ratio_squared(mpmath.mpf(x)) / gamma_ratio_squared(start)
            # delta = y (e^L - 1), and e^L < 1.0005 from y = 8.25
            assert damping * y * left_out * 1.0005 < 0.2 * U


def test_watson_series() -> None:
    """delta = sum_{n>=2} ((-1/2)_n)^2/(n! (x)_{n-1}); at x = 20 the terms from 400 on are below 1e-30 together."""
    with mpmath.workdps(40):
        x = mpmath.mpf(20)
        term, series = 1 / (32 * x), mpmath.mpf(0)
        for n in range(2, 400):
            series += term
            term *= (n - mpmath.mpf(1) / 2) ** 2 / ((n + 1) * (x + n - 1))
        assert abs(series - (gamma_ratio_squared(x) - (x - mpmath.mpf(3) / 4))) < 1e-30
    assert relative_error(scaled_inverse_chi2._delta(20.0), series) < 20 * U


def delta_bounds(x: Fraction) -> tuple[Fraction, Fraction]:
    """Rationals around delta(x): 1/(32 x) and 1/(32 (x - 3/4)) are, 8 steps up, and the recurrence is increasing."""
    lower, upper = 1 / (32 * (x + 8)), 1 / (32 * (x + 8 - Fraction(3, 4)))
    for j in range(7, -1, -1):
        z = x + j
        lower, upper = ((Fraction(1, 16) + (z - Fraction(1, 2)) ** 2 * d) / z**2 for d in (lower, upper))
    return lower, upper


def variance_bounds(rho: Fraction) -> tuple[Fraction, Fraction]:
    x = rho / 2
    lower, upper = (x / (x - 1) * (Fraction(1, 4) + d) / (x - Fraction(3, 4) + d) for d in delta_bounds(x))
    return lower, upper


def test_upper_bound_of_delta() -> None:
    """The recurrence takes h = 1/(32 y) at y + 1 to less than h at y: exactly by 9/(512 y (y + 1) x^2)."""
    for k in range(1, 60):
        y = Fraction(k, 7)
        x = y + Fraction(3, 4)
        step = (Fraction(1, 16) + (x - Fraction(1, 2)) ** 2 / (32 * (y + 1))) / x**2
        assert 1 / (32 * y) - step == Fraction(9, 512) / (y * (y + 1) * x**2)


def test_variance_decreases() -> None:
    """Theorem 1 of the paper, in exact rationals on a grid; the docstring of the module proves it."""
    grid = [2 + Fraction(k, 64) for k in range(1, 129)] + [4 + Fraction(k, 4) for k in range(1, 393)]
    bounds = [variance_bounds(rho) for rho in grid]
    for rho, (lower, upper), (_, upper_next) in zip(grid, bounds, bounds[1:], strict=False):
        assert upper_next < lower < upper, rho
    for rho, (lower, upper) in list(zip(grid, bounds, strict=True))[::16]:
        assert lower < Fraction(variance_psi(float(rho))) < upper


@pytest.mark.parametrize("rho", [math.nextafter(2, 3), 2.001, 2.5, 3.0, 4.0, 5.0, 30.0, 1999.0, 1e6])
def test_closed_forms_enclose_the_variance(rho: float) -> None:
    law = ScaledInverseChi2(rho, 3.0)
    assert law.lower_variance_psi() < law.upper_variance_psi()
    with mpmath.workdps(80):
        y = (mpmath.mpf(rho) - mpmath.mpf(3) / 2) / 2
        lower = 3 * mpmath.mpf(rho) / (4 * (mpmath.mpf(rho) - 2) * y)
        assert lower < exact_variance_psi(rho, 3.0) < lower * (1 + 1 / (8 * y))


# SciPy and quadrature


@given(rho=st.floats(0.5, 200), tau2=st.floats(0.01, 100), quantile=st.floats(0.01, 0.99))
def test_density_and_distribution(rho: float, tau2: float, quantile: float) -> None:
    law = ScaledInverseChi2(rho, tau2)
    z = float(law.psi2.ppf(quantile))
    x = rho / 2
    terms = [x * math.log(x * tau2), -math.lgamma(x), -(x + 1) * math.log(z), -x * tau2 / z]
    # SciPy too adds up such logarithms: 4 roundings in each, relative to the largest
    assert law.psi2.pdf(z) == pytest.approx(math.exp(sum(terms)), rel=16 * U * (1 + sum(map(abs, terms))), abs=0)
    # psi^2 <= z iff rho tau2/z <= the sum of rho squares of N(0, 1). Both are incomplete gamma functions, to 1e-13
    # in SciPy's own tests, at arguments that differ by roundings: z p(z) is the derivative by log z.
    probability = stats.chi2(rho).sf(rho * tau2 / z)
    assert law.psi2.cdf(z) == pytest.approx(probability, rel=1e-12, abs=8 * U * z * law.psi2.pdf(z))


def test_one_and_two_gradients() -> None:
    """P(psi^2 > z) = P(|g| < 1/sqrt(z)) for one gradient, and 1 - exp(-1/(sigma^2 z)) for two."""
    z = np.array([0.1, 0.5, 1.0, 3.0, 50.0])
    for tau2 in (0.25, 1.0, 9.0):
        np.testing.assert_allclose(
            ScaledInverseChi2(1, tau2).psi2.sf(z), special.erf(np.sqrt(tau2 / (2 * z))), rtol=1e-13
        )
        np.testing.assert_allclose(ScaledInverseChi2(2, tau2).psi2.sf(z), -np.expm1(-tau2 / z), rtol=1e-13)


def test_it_is_the_law_of_the_reciprocal() -> None:
    """The paper and the seed print Scale-inv-chi2(rho, 1/sigma^2) for mean(g^2) itself: its mean is sigma^2."""
    law, mean_square = ScaledInverseChi2(5.0).psi2, stats.chi2(5, scale=1 / 5)
    for z in (0.3, 1.0, 2.5):
        assert law.cdf(z) == pytest.approx(mean_square.sf(1 / z), rel=1e-13, abs=0)
        assert abs(law.cdf(z) - mean_square.cdf(z)) > 0.02
    assert mean_square.mean() == pytest.approx(1, rel=4 * U, abs=0)
    assert law.mean() == pytest.approx(5 / 3, rel=4 * U, abs=0)


def check_variance_psi2(variance: Callable[[float], float], rho: float) -> None:
    # about 10 roundings on either side
    assert abs(variance(rho) / stats.invgamma(a=rho / 2, scale=rho / 2).var() - 1) <= 20 * U


@given(rho=st.floats(4.001, 1e6), tau2=st.floats(0.01, 100))
def test_scipy_moments(rho: float, tau2: float) -> None:
    law = ScaledInverseChi2(rho, tau2)
    assert abs(law.mean_psi2() / law.psi2.mean() - 1) <= 8 * U
    assert abs(law.variance_psi2() / law.psi2.var() - 1) <= 20 * U
    check_variance_psi2(lambda rho: float(ScaledInverseChi2(rho).variance_psi2()), rho)


@pytest.mark.parametrize("rho", [5.0, 12.5, 100.0])
def test_expectation_of_the_root_by_scipy(rho: float) -> None:
    law = ScaledInverseChi2(rho, 2.0)
    assert law.psi2.expect(np.sqrt) == pytest.approx(law.mean_psi(), abs=1.5e-8)  # what `quad` is asked for


def moments_by_quadrature(rho: float) -> tuple[float, float, float]:
    """E[psi], Var[psi] and Var[psi^2] from the density of z = log chi^2, by positive sums.

    The trapezoid rule of step h errs by exp(-pi^2/h), the density being analytic for |Im z| < pi/2.
    """
    z = np.arange(-300, 6, 0.125)
    exponent = rho / 2 * z - np.exp(z) / 2
    weights = np.exp(exponent - exponent.max())
    weights /= weights.sum()
    psi = np.sqrt(rho * np.exp(-z))
    mean, mean2 = float((weights * psi).sum()), float((weights * psi**2).sum())
    return mean, float((weights * (psi - mean) ** 2).sum()), float((weights * (psi**2 - mean2) ** 2).sum())


# For rho <= 12 the exponents are below 80 where they count; 3 roundings in each, in a weight and in the sum of weights.
QUADRATURE = 2 * 3 * 80 * U


@pytest.mark.parametrize("rho", [4.5, 5.0, 6.0, 7.25, 10.0, 12.0])
def test_moments_by_quadrature(rho: float) -> None:
    law = ScaledInverseChi2(rho)
    mean, variance, variance2 = moments_by_quadrature(rho)
    assert law.mean_psi() == pytest.approx(mean, rel=QUADRATURE, abs=0)
    assert law.variance_psi() == pytest.approx(variance, rel=QUADRATURE, abs=0)
    assert law.variance_psi2() == pytest.approx(variance2, rel=QUADRATURE, abs=0)


# The misprinted variance


def printed_variance_psi2(rho: Any) -> Any:
    """Var[psi^2] for sigma = 1 as the seed prints it."""
    return 2 * rho / ((rho - 2) ** 2 * (rho - 2))


def corrected_variance_psi2(rho: Any) -> Any:
    return 2 * rho**2 / ((rho - 2) ** 2 * (rho - 4))


@pytest.mark.parametrize(("rho", "ratio"), [(5, "15"), (10, "13.3"), (100, "102")])
def test_printed_variance_is_wrong(rho: int, ratio: str) -> None:
    """The integral of z^k over the density, by parts: E[z^k] = scale E[z^(k-1)]/(a - k)."""
    a = scale = Fraction(rho, 2)
    first = scale / (a - 1)
    second = scale * first / (a - 2)
    assert corrected_variance_psi2(Fraction(rho)) == second - first**2
    assert float(ScaledInverseChi2(rho).variance_psi2()) == pytest.approx(float(second - first**2), rel=10 * U, abs=0)
    quotient = corrected_variance_psi2(Fraction(rho)) / printed_variance_psi2(Fraction(rho))
    assert quotient == Fraction(rho * (rho - 2), rho - 4)
    assert agrees(float(quotient), ratio)
    if rho <= 12:
        by_quadrature = moments_by_quadrature(rho)[2]
        assert corrected_variance_psi2(rho) == pytest.approx(by_quadrature, rel=QUADRATURE, abs=0)
        assert by_quadrature / printed_variance_psi2(rho) > 13


def test_rectification_follows_from_the_corrected_variance_only() -> None:
    beta2 = Fraction(999, 1000)

    def rectification(variance_psi2: Callable[[Any], Any], t: int) -> float:
        def delta_method(rho: Fraction) -> Fraction:
            return variance_psi2(rho) / (4 * rho / (rho - 2))  # type: ignore[no-any-return]

        return math.sqrt(delta_method(rho_inf(beta2)) / delta_method(rho_t(t, beta2)))

    for t in (5, 6, 10, 100):
        rho = rho_t(t, beta2)
        assert corrected_variance_psi2(rho) / (4 * rho / (rho - 2)) == rho / (2 * (rho - 2) * (rho - 4))
        assert printed_variance_psi2(rho) / (4 * rho / (rho - 2)) == 1 / (2 * (rho - 2) ** 2)
        assert rectification(corrected_variance_psi2, t) == r_t(t, beta2)
        assert rectification(printed_variance_psi2, t) == pytest.approx(
            float((rho - 2) / (rho_inf(beta2) - 2)), rel=2 * U, abs=0
        )
    assert agrees(rectification(corrected_variance_psi2, 5), "0.01731")
    assert agrees(rectification(printed_variance_psi2, 5), "0.00150")


# The paper's equations


@pytest.mark.parametrize("rho", [2.125, 2.5, 3.0, 4.0, 4.5, 5.0, 17.0, 100.0, 500.0, 1999.0])
def test_equation_2(rho: float) -> None:
    """Right, and from rho = 2 on, not from 4. 60 digits, of which the difference loses a factor 2 rho."""
    with mpmath.workdps(60):
        r = mpmath.mpf(rho)
        half = (r - 1) / 2
        printed = r / (r - 2) - r * 2 ** (2 * r - 5) / mpmath.pi * mpmath.beta(half, half) ** 2
    assert abs(printed / exact_variance_psi(rho) - 1) < 2 * rho * 1e-58


def equation_2(rho: Any) -> Any:
    """As it stands, in float64."""
    half = (rho - 1) / 2
    with np.errstate(over="ignore", invalid="ignore"):
        return rho / (rho - 2) - rho * 2.0 ** (2 * rho - 5) / np.pi * special.beta(half, half) ** 2


def test_equation_2_in_float64() -> None:
    rho = np.arange(5, 600, 0.5)
    value = equation_2(rho)
    assert rho[~np.isfinite(value)][0] == 510.5  # rho 2^(2 rho - 5) > 2^1024
    assert not np.isfinite(value[rho >= 510.5]).any()
    usable = (rho >= 175) & (rho < 510)
    assert np.max(abs(value[usable] / ScaledInverseChi2(rho[usable]).variance_psi() - 1)) > 1e-10


@pytest.mark.parametrize(("rho", "error"), [(100, 1.7e-11), (1999, 3.7e-9), (19999, 3.7e-7), (2e6, 2.6e-3), (2e9, 1)])
def test_differences_of_log_gamma(rho: float, error: float) -> None:
    """Rounding errors are another library's others: the worst of 16, within a factor of 10."""
    near = rho + np.arange(16.0)
    ratio = np.exp(2 * (special.gammaln((near - 1) / 2) - special.gammaln(near / 2)))
    found = np.max(abs((near / (near - 2) - near / 2 * ratio) / ScaledInverseChi2(near).variance_psi() - 1))
    assert found > error / 10
    # gammaln is right to about 2 units, and the difference loses 2 rho
    assert found < 2 * rho * 16 * U * (1 + float(special.gammaln(rho / 2)))


def test_equation_10_is_false() -> None:
    """(t-2) Gamma((t-1)/2)^2/Gamma(t/2)^2 <= (t-2)/((t-1)/2) is the wrong side of Gautschi's inequality.

    With x = t/2 the ratio is 1/R^2 and R^2 = x - 3/4 + delta < x - 1/2 for every t > 2. Gautschi's lower side
    R^2 > x - 1 gives (t-2)/R^2 < 2, which is what equation 9 needs.
    """
    for t in (2.001, 3, 4, 5, 10, 100, 10000):
        with mpmath.workdps(30):
            left = (t - 2) / gamma_ratio_squared(mpmath.mpf(t) / 2)
            printed = (t - 2) / ((mpmath.mpf(t) - 1) / 2)
        assert printed < left < 2
        if t == 4:
            assert (agrees(left, "1.5708"), agrees(printed, "1.3333")) == (True, True)
        if t == 10:
            assert (agrees(left, "1.879"), agrees(printed, "1.778")) == (True, True)


# Printed values: facts/statistics.md, section 2


@pytest.mark.parametrize(
    ("rho", "ratio"),
    list(
        zip(
            (4.1, 5, 6, 8, 10, 20, 50, 100, 500, 1999),
            ("24.3", "3.307", "2.147", "1.570", "1.379", "1.141", "1.049", "1.0235", "1.0045", "1.0011"),
            strict=True,
        )
    ),
)
def test_first_order_over_exact(rho: float, ratio: str) -> None:
    assert agrees(first_order(rho) / variance_psi(rho), ratio)


def test_first_order_over_exact_for_large_rho() -> None:
    """First order/exact = (rho-3/2)/(rho-4) (1 + delta/y)/(1 + 4 delta) = 1 + (5/2 - 1/4)/rho + O(rho^-2)."""
    for rho in (1e3, 1e4, 1e5):
        assert rho * (first_order(rho) / variance_psi(rho) - 1) == pytest.approx(9 / 4, abs=20 / rho)


def test_closed_forms_over_exact() -> None:
    def percent(rho: float) -> tuple[float, float]:
        law = ScaledInverseChi2(rho)
        exact = law.variance_psi()
        return 100 * (law.lower_variance_psi() / exact - 1), 100 * (law.upper_variance_psi() / exact - 1)

    assert agrees(percent(5)[0], "-5.5")
    assert agrees(percent(3)[0], "-8.3")
    assert agrees(percent(5)[1], "1.25")
    assert agrees(percent(10)[1], "0.19")
    assert max(percent(rho)[1] for rho in range(30, 1000)) < 0.02


def test_ratio_of_5_to_500() -> None:
    """Section 4.2 of the paper: "over 100 times"."""
    assert agrees(variance_psi(5) / variance_psi(500), "250.07")
    assert agrees(first_order(5) / first_order(500), "823.4")


# beta2; largest absolute and relative (%) difference of r_t from the exact one, both at t = 5; the latter at t = 6;
# first t from which the relative difference stays below 10%, 1%, 0.1%; exact r_3, r_4; r_5 of the paper, and exact
RECTIFICATION = [
    (0.9, "0.16890", "51.97", "34.18", (12, 34, 60), "0.15575", "0.24998", "0.15611", "0.32501"),
    (0.99, "0.04546", "45.49", "31.92", (14, 87, 309), "0.04803", "0.07659", "0.05447", "0.09994"),
    (0.995, "0.03192", "45.25", "31.84", (14, 99, 457), "0.03391", "0.05406", None, None),
    (0.999, "0.01420", "45.06", "31.77", (14, 112, 838), "0.01515", "0.02414", "0.017312", "0.031510"),
    (0.9999, "0.00448", "45.02", "31.76", (14, 115, 1088), "0.00479", "0.00763", None, None),
]


@pytest.mark.parametrize(
    ("beta2", "largest", "relative", "at_6", "below", "r3", "r4", "paper5", "exact5"), RECTIFICATION
)
def test_exact_rectification(
    beta2: float, largest: str, relative: str, at_6: str, below: Any, r3: str, r4: str, paper5: str, exact5: str
) -> None:
    steps = np.arange(3, 2001)
    limit, law = ScaledInverseChi2(rho_inf(beta2)), ScaledInverseChi2([rho_t(int(t), beta2) for t in steps])
    exact = np.sqrt(limit.variance_psi() / law.variance_psi())
    assert agrees(exact[0], r3)
    assert agrees(exact[1], r4)
    assert law.rho[1] < 4 < law.rho[2]
    steps, exact, rho = steps[2:], exact[2:], law.rho[2:]
    paper = np.sqrt(limit.first_order_variance_psi() / ScaledInverseChi2(rho).first_order_variance_psi())
    assert paper[0] == pytest.approx(r_t(5, beta2), rel=1e-13, abs=0)
    difference = exact - paper
    assert np.all(difference > -4 * U)  # the paper's r_t is too small, until both are 1
    assert np.all(difference[rho < 0.99 * rho_inf(beta2)] > 0)
    assert (int(np.argmax(difference)), int(np.argmax(difference / exact))) == (0, 0)
    assert agrees(difference[0], largest)
    assert agrees(100 * difference[0] / exact[0], relative)
    assert agrees(100 * difference[1] / exact[1], at_6)
    for bound, first in zip((0.1, 0.01, 0.001), below, strict=True):
        assert steps[difference / exact >= bound][-1] + 1 == first
    if paper5 is not None:
        assert agrees(paper[0], paper5)
        assert agrees(exact[0], exact5)


# Section 4, item 1, figure 8 of the paper: rho, equation 2, equation 5, difference, difference/equation 2 (%)
FIGURE_8 = [
    (5, ".251956061", ".833333", ".581377", "230.7"),
    (6, ".174640599", ".375", None, "114.7"),
    (8, ".106148703", ".166667", None, "57.0"),
    (10, ".0755459593", ".104166667", None, "37.9"),
    (20, ".0304240847", ".0347222", None, "14.1"),
    (50, ".0107935998", ".01132246", None, "4.90"),
    (100, ".00519281575", ".00531462585", None, "2.35"),
    (500, ".0010075417", ".00101211297", None, "0.454"),
]


@pytest.mark.parametrize(("rho", "exact", "first", "difference", "percent"), FIGURE_8)
def test_figure_8(rho: int, exact: str, first: str, difference: str | None, percent: str) -> None:
    assert agrees(variance_psi(rho), exact)
    assert agrees(equation_2(float(rho)), exact)
    assert agrees(first_order(rho), first)
    found = first_order(rho) - variance_psi(rho)
    assert difference is None or agrees(found, difference)
    assert agrees(100 * found / variance_psi(rho), percent)


def test_figure_8_the_difference_is_not_much_smaller_for_small_rho() -> None:
    rho = np.arange(5, 501)
    law = ScaledInverseChi2(rho)
    ratio = law.first_order_variance_psi() / law.variance_psi() - 1
    for bound, first in ((1, 7), (0.5, 9), (0.1, 27), (0.05, 50), (0.01, 230)):
        np.testing.assert_array_equal(rho[ratio < bound], np.arange(first, 501))


# Limits


def test_ma_and_yarats_fact_3_1() -> None:
    """For beta2 >= 0.8 rho_t <= 4 up to t = 4 and > 4 from t = 5: four steps of momentum, then the first-order law.

    The exact variance exists from t = 3 on (rho_3 > 2).
    """
    for beta2 in (Fraction(4, 5), Fraction(9, 10), Fraction(99, 100), Fraction(999, 1000), 1 - Fraction(1, 10**9)):
        for t in (1, 2, 3, 4):
            law = ScaledInverseChi2(rho_t(t, beta2))
            with pytest.raises(ValueError, match="first-order"):
                law.first_order_variance_psi()
        for t in (3, 4):
            assert ScaledInverseChi2(rho_t(t, beta2)).variance_psi() > 0
        for t in (5, 6, 100):
            assert ScaledInverseChi2(rho_t(t, beta2)).first_order_variance_psi() > 0


def test_limits() -> None:
    """2 rho Var -> 1; at rho = 2 E[psi]^2 = pi, so that Var ~ E[psi^2] - pi."""
    law = ScaledInverseChi2(1e12)
    # 2 rho Var = 1 + 15/(4 rho) + ...: (1 + 2/rho)(1 + 3/(2 rho))(1 + 1/(4 rho))
    assert law.variance_psi() * 2e12 == pytest.approx(1 + 3.75e-12, rel=BOUND_VARIANCE + U, abs=0)
    assert law.first_order_variance_psi() * 2e12 == pytest.approx(1 + 6e-12, rel=8 * U, abs=0)
    law = ScaledInverseChi2(2 + 2.0**-20)
    assert law.mean_psi() ** 2 == pytest.approx(math.pi, abs=8 * 2.0**-20)
    assert law.mean_psi2() - law.variance_psi() == pytest.approx(math.pi, abs=8 * 2.0**-20)


# Arrays, and what is refused

METHODS = ["mean_psi", "mean_psi2", "variance_psi", "variance_psi2"]
METHODS += ["first_order_variance_psi", "lower_variance_psi", "upper_variance_psi"]


@pytest.mark.parametrize("method", METHODS)
def test_arrays_are_scalars_one_by_one(method: str) -> None:
    rho, tau2 = np.array([[4.5], [5], [30], [1e9]]), [0.5, 2.0, 7.0]
    found = getattr(ScaledInverseChi2(rho, tau2), method)()
    assert (found.shape, found.dtype) == ((4, 3), np.float64)
    for (i, j), value in np.ndenumerate(found):
        alone = getattr(ScaledInverseChi2(rho[i, 0], tau2[j]), method)()
        assert isinstance(alone, float)
        assert abs(value / alone - 1) <= 2 * BOUND_VARIANCE  # libm may have another expm1 for arrays


def test_numbers_of_any_type() -> None:
    expected = ScaledInverseChi2(5.0, 2.0).variance_psi()
    for rho, tau2 in ((5, 2), (Fraction(5), Fraction(2)), (mpmath.mpf(5), mpmath.mpf(2)), (np.float32(5), np.int64(2))):
        assert ScaledInverseChi2(rho, tau2).variance_psi() == expected
    np.testing.assert_array_equal(ScaledInverseChi2(5.0, 2.0).psi2.cdf([1.0, 2.0]).shape, (2,))


def test_it_is_frozen() -> None:
    rho = np.array([5.0, 6.0])
    law = ScaledInverseChi2(rho)
    rho[0] = 1.0
    assert law.rho[0] == 5.0
    with pytest.raises(ValueError, match="read-only"):
        law.rho[0] = 1.0
    with pytest.raises(FrozenInstanceError):
        law.rho = rho  # type: ignore[misc]


def test_a_law_is_no_other_object() -> None:
    """Arrays are not equal or different as a whole."""
    first, second = ScaledInverseChi2([5.0, 6.0]), ScaledInverseChi2([5.0, 6.0])
    assert len({first, second, first}) == 2


@pytest.mark.parametrize(
    ("method", "least", "name"),
    [
        ("mean_psi", 1, r"E\[psi\]"),
        ("mean_psi2", 2, r"E\[psi\^2\]"),
        ("variance_psi", 2, r"Var\[psi\]"),
        ("variance_psi2", 4, r"Var\[psi\^2\]"),
        ("first_order_variance_psi", 4, r"the first-order Var\[psi\]"),
        ("lower_variance_psi", 2, r"the lower bound of Var\[psi\]"),
        ("upper_variance_psi", 2, r"the upper bound of Var\[psi\]"),
    ],
)
def test_where_a_moment_does_not_exist(method: str, least: int, name: str) -> None:
    for rho in (least, math.nextafter(least, 0), 0.5):
        with pytest.raises(ValueError, match=rf"^{name} exists for rho > {least} only, and rho is {float(rho)!r}$"):
            getattr(ScaledInverseChi2(rho), method)()
    with pytest.raises(ValueError, match=rf"{name} exists .* rho is 0\.75$"):
        getattr(ScaledInverseChi2([[9.0], [0.75]], [1.0, 2.0]), method)()
    assert getattr(ScaledInverseChi2(math.nextafter(least, 9)), method)() > 0


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, -math.inf])
def test_arguments_out_of_range(value: float) -> None:
    with pytest.raises(ValueError, match=f"rho must be positive and finite, but is {float(value)!r}"):
        ScaledInverseChi2(value)
    with pytest.raises(ValueError, match=f"tau2 must be positive and finite, but is {float(value)!r}"):
        ScaledInverseChi2(5, [1.0, value])


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"shapes that broadcast, but have \(2,\) and \(3,\)"):
        ScaledInverseChi2([5, 6], [1, 2, 3])


# What these checks notice


def test_rho_off_by_one_is_noticed() -> None:
    for rho in CORNERS:
        for wrong in (rho + 1, rho - 1):
            if wrong > 2:
                with pytest.raises(AssertionError):
                    check_variance_psi(lambda _, wrong=wrong: variance_psi(wrong), rho)


def test_wrong_formulas_are_noticed() -> None:
    for rho in (4.5, 5.0, 100.0, 1e6):
        with pytest.raises(AssertionError):
            check_variance_psi2(printed_variance_psi2, rho)
        for method in ("lower_variance_psi", "upper_variance_psi", "first_order_variance_psi"):
            with pytest.raises(AssertionError):
                check_variance_psi(lambda rho, method=method: float(getattr(ScaledInverseChi2(rho), method)()), rho)
    with pytest.raises(AssertionError):
        check_variance_psi(equation_2, 50.0)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, delta: delta(x) + 1e-12,
        lambda x, delta: delta(x) - 1e-12,
        lambda x, delta: delta(x) * (1 + 1e-12),
        lambda x, delta: delta(x + 1),
        lambda x, delta: 0.0,
        lambda x, delta: 1 / (32 * (x - 0.75)),
    ],
)
def test_a_slightly_wrong_delta_is_noticed(monkeypatch: pytest.MonkeyPatch, wrong: Callable[..., float]) -> None:
    right = scaled_inverse_chi2._delta
    monkeypatch.setattr(scaled_inverse_chi2, "_delta", lambda x: wrong(x, right))
    with pytest.raises(AssertionError):
        check_variance_psi_at_corners()
    assert any(relative_error(ScaledInverseChi2(r).mean_psi(), exact_mean_psi(r)) > BOUND_MEAN for r in (1.5, *CORNERS))


def test_fewer_steps_or_terms_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_STEPS", 5), ("_EULER", scaled_inverse_chi2._EULER[:5])):
        with monkeypatch.context() as patch:
            patch.setattr(scaled_inverse_chi2, name, value)
            with pytest.raises(AssertionError):
                check_variance_psi_at_corners()
