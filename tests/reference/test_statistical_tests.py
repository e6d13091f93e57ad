"""Tests of the tests: exact false-alarm probabilities where they are known, simulated ones elsewhere, and power."""

from __future__ import annotations

import math
import re
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from reference.statistical_tests import (
    binomial_power,
    binomial_share,
    chernoff_interval,
    chernoff_mean_log,
    chernoff_power,
    kolmogorov_smirnov,
    kolmogorov_smirnov_size,
)

EVERYWHERE = (-math.inf, math.inf)
REPETITIONS = 2000


def lognormal_mgf(x: float, location: float = 0.0, scale: float = 1.0) -> float:
    return math.exp(location * x + (scale * x) ** 2 / 2)


def gamma_mgf(x: float, shape: float = 2.0, scale: float = 1.0) -> float:
    return scale**x * math.exp(special.gammaln(shape + x) - special.gammaln(shape))


def assert_level(alarms: int, alpha: float) -> None:
    """A test of level alpha fails here with a probability of at most 1e-6."""
    assert alarms <= stats.binom.isf(1e-6, REPETITIONS, alpha)


def assert_power(found: int, power: float, repetitions: int) -> None:
    """A test that finds a deviation with the promised probability fails here with a probability of at most 1e-9."""
    assert found >= stats.binom.ppf(1e-9, repetitions, power)


# Kolmogorov-Smirnov


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 300), shape=st.floats(0.5, 5))
def test_statistic_is_scipys(seed: int, n: int, shape: float) -> None:
    sample = np.random.default_rng(seed).standard_gamma(2.0, n)
    law = stats.gamma(shape)
    verdict = kolmogorov_smirnov(sample, law.cdf, 1e-6)
    other = stats.kstest(sample, law.cdf)
    # ranks and differences are rounded once each, sqrt(n) and the product too
    assert abs(verdict.statistic - math.sqrt(n) * other.statistic) <= 4 * 2.0**-53 * math.sqrt(n)
    assert verdict.p_value >= other.pvalue * (1 - 1e-9)  # the exact one
    assert verdict.p_value == pytest.approx(min(1, 2 * math.exp(-2 * n * other.statistic**2)), rel=1e-9, abs=0)
    assert verdict.n == n
    assert verdict.thresholds[0] == 0
    assert verdict.rejects == (verdict.statistic > verdict.thresholds[1])


@pytest.mark.parametrize("alpha", [0.3, 0.01, 1e-6, 1e-12])
def test_exact_false_alarms_of_kolmogorov_smirnov(alpha: float) -> None:
    threshold = kolmogorov_smirnov([0.5], lambda x: x, alpha).thresholds[1]
    assert 2 * math.exp(-2 * threshold**2) == pytest.approx(alpha, rel=1e-12, abs=0)
    for n in (1, 2, 3, 5, 10, 100, 1000):
        assert stats.kstwo.sf(threshold / math.sqrt(n), n) <= alpha
    # and not much more than the level is given away
    assert stats.kstwo.sf(threshold / 100, 10**4) >= 0.8 * alpha


@pytest.mark.parametrize(("points", "ranks"), [(1, [0]), (5, [0, 2, 4, 7, 9]), (10, range(10)), (11, range(10))])
def test_the_law_is_evaluated_at_so_many_points_from_the_first_to_the_last(points: int, ranks: Any) -> None:
    seen: list[float] = []

    def cdf(x: np.ndarray) -> np.ndarray:
        seen.extend(10 * x)
        return x

    kolmogorov_smirnov(np.arange(1, 11)[::-1] / 10, cdf, 0.01, points=points)
    assert seen == [rank + 1 for rank in ranks]


def test_a_verdict_is_frozen() -> None:
    verdict = kolmogorov_smirnov([0.5], lambda x: x, 0.01)
    with pytest.raises(FrozenInstanceError):
        verdict.n = 2  # type: ignore[misc]


def test_simulated_false_alarms_of_kolmogorov_smirnov() -> None:
    rng = np.random.default_rng(11)
    alarms = sum(
        kolmogorov_smirnov(rng.chisquare(3, 40), lambda x: special.gammainc(1.5, x / 2), 0.01).rejects
        for _ in range(REPETITIONS)
    )
    assert_level(alarms, 0.01)
    assert alarms > 0


@pytest.mark.parametrize("change", ["scaled", "shifted", "another law"])
def test_kolmogorov_smirnov_keeps_its_promise(change: str) -> None:
    law = stats.gamma(3)
    actual = {"scaled": stats.gamma(3, scale=1.2), "shifted": stats.gamma(3, loc=0.3), "another law": stats.norm(3, 2)}
    x = np.linspace(-10, 30, 100001)
    # the supremum on a grid is a lower bound of the distance
    distance = float(np.abs(law.cdf(x) - actual[change].cdf(x)).max())
    n = kolmogorov_smirnov_size(distance, 1e-6, 0.05)
    sample = actual[change].rvs((100, n), random_state=np.random.default_rng(5))
    found = sum(
        kolmogorov_smirnov(row, lambda y: special.gammainc(3, np.maximum(y, 0)), 1e-6).rejects for row in sample
    )
    assert_power(found, 0.95, 100)


def test_size_is_the_smallest_of_its_bound() -> None:
    n = kolmogorov_smirnov_size(0.05, 1e-6, 0.01)
    threshold = kolmogorov_smirnov([0.5], lambda x: x, 1e-6).thresholds[1]

    def miss(size: int) -> float:
        return math.exp(-2 * (math.sqrt(size) * 0.05 - threshold) ** 2)

    assert miss(n) <= 0.01 < miss(n - 1)
    assert kolmogorov_smirnov_size(1.0, 1e-6, 0.01) == math.ceil(n * 0.05**2)


def test_error_of_the_cdf() -> None:
    sample = (np.arange(100) + 0.5) / 100

    def off(x: np.ndarray) -> np.ndarray:
        return x + 0.3

    with pytest.raises(ValueError, match=r"cdf must return probabilities, but is 1\.00.* state its error as cdf_error"):
        kolmogorov_smirnov(sample, off, 1e-6)
    verdict = kolmogorov_smirnov(sample, off, 1e-6, cdf_error=0.3)
    assert verdict.statistic == pytest.approx(10 * 0.005, rel=1e-9, abs=0)
    assert not verdict.rejects
    assert not kolmogorov_smirnov(sample, lambda x: x - 0.3, 1e-6, cdf_error=0.3).rejects
    less = kolmogorov_smirnov(sample, lambda x: x + 0.1, 1e-6, cdf_error=0.2)
    assert (less.statistic, less.p_value, less.rejects) == (0.0, 1.0, False)
    # 0.3 + 0.005 off, of which 0.03 is the cdf's: 2.75 > 2.693
    assert kolmogorov_smirnov(sample, lambda x: np.minimum(x + 0.3, 1), 1e-6, cdf_error=0.03).rejects
    assert not kolmogorov_smirnov(sample, lambda x: np.minimum(x + 0.3, 1), 1e-6, cdf_error=0.04).rejects


@pytest.mark.parametrize(
    ("sample", "cdf", "options", "message"),
    [
        ([], lambda x: x, {}, r"shape \(n,\), n >= 1, but has shape \(0,\)"),
        ([[0.5]], lambda x: x, {}, r"has shape \(1, 1\)"),
        (0.5, lambda x: x, {}, r"has shape \(\)"),
        ([0.5, math.nan], lambda x: x, {}, "sample must be finite, but 1 of 2 values are not"),
        (
            [0.5, 0.6],
            lambda x: x[:1],
            {},
            r"cdf must return an array of shape \(2,\), but returned one of shape \(1,\)",
        ),
        (
            [0.5, 0.6],
            lambda x: x[:, None],
            {},
            r"cdf must return an array of shape \(2,\), but returned one of shape \(2, 1\)",
        ),
        ([0.5], lambda x: x * math.nan, {}, "cdf must return probabilities, but is nan at 0.5"),
        ([0.5], lambda x: x - 1, {}, "cdf must return probabilities, but is -0.5 at 0.5"),
        ([0.5], lambda x: x, {"alpha": 0.0}, r"alpha must be in \(0, 1\), but is 0.0"),
        ([0.5], lambda x: x, {"alpha": -0.5}, r"alpha must be in \(0, 1\), but is -0.5"),
        ([0.5], lambda x: x, {"alpha": 2.0}, r"alpha must be in \(0, 1\), but is 2.0"),
        ([0.5], lambda x: x, {"cdf_error": -1.0}, r"cdf_error must be in \[0, 1\), but is -1.0"),
        ([0.5], lambda x: x, {"cdf_error": 1.0}, r"cdf_error must be in \[0, 1\), but is 1.0"),
        ([0.5], lambda x: x, {"cdf_error": 1.5}, r"cdf_error must be in \[0, 1\), but is 1.5"),
        ([0.5], lambda x: x, {"points": 0}, "points must be an integer >= 1, but is 0"),
    ],
)
def test_kolmogorov_smirnov_refuses(sample: Any, cdf: Any, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kolmogorov_smirnov(sample, cdf, **{"alpha": 0.01, **options})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 0.1, 0.1), r"distance must be in \(0, 1\]"),
        ((-0.1, 0.1, 0.1), r"distance must be in \(0, 1\]"),
        ((1.5, 0.1, 0.1), r"distance must be in \(0, 1\]"),
        ((0.1, 1.0, 0.1), r"alpha must be in \(0, 1\)"),
        ((0.1, 0.1, 0.0), r"beta must be in \(0, 1\)"),
    ],
)
def test_kolmogorov_smirnov_size_refuses(arguments: tuple[float, float, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kolmogorov_smirnov_size(*arguments)


# Chernoff


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(1, 10**7),
    alpha=st.floats(-12, -0.5).map(lambda x: 10.0**x),
    location=st.floats(-3, 3),
    scale=st.floats(0.1, 3),
)
def test_chernoff_of_the_lognormal_law(n: int, alpha: float, location: float, scale: float) -> None:
    """There the best x and the law of the mean are known: location +- scale sqrt(2 log(2/alpha) / n)."""

    def mgf(x: float) -> float:
        return lognormal_mgf(x, location, scale)

    low, high = chernoff_interval(n, mgf, alpha, domain=EVERYWHERE)
    half = scale * math.sqrt(2 * math.log(2 / alpha) / n)
    # log E is rounded to 1e-16 + 2^-53 of itself, and divided by x >= sqrt(2 log(2 / 0.32) / 1e7) / 3 > 2e-4
    assert (low, high) == pytest.approx((location - half, location + half), abs=1e-10)
    assert 2 * stats.norm.sf(math.sqrt(n) / scale * (high - location)) <= alpha
    mean = location + 0.7 * half
    verdict = chernoff_mean_log(mean, n, mgf, alpha, domain=EVERYWHERE)
    assert not verdict.rejects
    assert verdict.p_value == pytest.approx(min(1, 2 * math.exp(-((0.7 * half / scale) ** 2) * n / 2)), rel=1e-6, abs=0)
    for mean in (location - 1.01 * half, location + 1.01 * half):
        verdict = chernoff_mean_log(mean, n, mgf, alpha, domain=EVERYWHERE)
        assert verdict.rejects
        assert verdict.p_value < alpha
        assert verdict.thresholds == (low, high)


@pytest.mark.parametrize("n", [1, 30, 10**5])
def test_the_minimum_is_found(n: int) -> None:
    low, high = chernoff_interval(n, gamma_mgf, 1e-6, domain=(-2.0, math.inf))
    level = math.log(2e6) / n
    x = np.geomspace(1e-6, 1e3, 200001)
    grid = (special.gammaln(2 + x) - special.gammaln(2) + level) / x
    # on a grid of ratio 1 + 1e-4 the minimum is at most 1e-8 relative above: (d log x)^2 / 2, times a curvature < 2
    assert grid.min() * (1 - 1e-8) - 1e-9 <= high <= grid.min() + 1e-9
    x = np.geomspace(1e-6, 2 * (1 - 1e-9), 200001)
    grid = -(special.gammaln(2 - x) - special.gammaln(2) + level) / x
    assert grid.max() - 1e-9 <= low <= grid.max() + 1e-8 * abs(grid.max()) + 1e-9


@pytest.mark.parametrize("domain", [(-0.5, 0.5), (-2.0, math.inf), (-math.inf, 0.25)])
def test_the_law_is_asked_inside_its_domain_only(domain: tuple[float, float]) -> None:
    """And to its end: with a domain that is narrow the best x is there."""

    def mgf(x: float) -> float:
        assert domain[0] < x < domain[1]
        return lognormal_mgf(x)

    n, level = 10, math.log(2e6) / 10
    low, high = chernoff_interval(n, mgf, 1e-6, domain=domain)
    for sign, end, found in zip((-1, 1), (-domain[0], domain[1]), (-low, high), strict=True):
        best = min(end, math.sqrt(2 * level))
        assert found == pytest.approx(best / 2 + level / best, rel=1e-7, abs=0)
        best = min(end, 3.0)
        p_value = chernoff_mean_log(sign * 3.0, n, mgf, 1e-6, domain=domain).p_value
        assert p_value == pytest.approx(2 * math.exp(-n * (3 * best - best**2 / 2)), rel=1e-6, abs=0)

        def actual(x: float, shift: float = -sign * (found + 1)) -> float:
            return math.exp(shift * x) * mgf(x)

        # A mean on the other side of 0 is missed as often as a sum falls back below the threshold there: to this side.
        beyond = found + 1 - (high if sign < 0 else -low)
        best = min(end, max(beyond, 0.0))
        power = chernoff_power(n, mgf, actual, 1e-6, domain=domain, actual_domain=domain)
        assert power == pytest.approx(-math.expm1(-n * (beyond * best - best**2 / 2)), rel=1e-6, abs=0)


def test_a_mean_that_is_expected_has_the_p_value_one() -> None:
    assert chernoff_mean_log(0.0, 100, lognormal_mgf, 0.01, domain=EVERYWHERE).p_value == 1


def test_simulated_false_alarms_of_chernoff() -> None:
    n = 30
    low, high = chernoff_interval(n, gamma_mgf, 0.01, domain=(-2.0, math.inf))
    means = np.log(np.random.default_rng(3).standard_gamma(2, (REPETITIONS, n))).mean(axis=1)
    assert_level(int(np.sum((means < low) | (means > high))), 0.01)
    for mean in means[:50]:
        verdict = chernoff_mean_log(mean, n, gamma_mgf, 0.01, domain=(-2.0, math.inf))
        assert verdict.rejects == (not low <= mean <= high) == (verdict.p_value < 0.01)


@pytest.mark.parametrize(("shape", "scale"), [(2.0, 0.9), (2.0, 1.1), (1.8, 1.0)])
def test_chernoff_keeps_its_promise(shape: float, scale: float) -> None:
    def actual(x: float) -> float:
        return gamma_mgf(x, shape, scale)

    def power(n: int) -> float:
        return chernoff_power(n, gamma_mgf, actual, 1e-6, domain=(-2.0, math.inf), actual_domain=(-shape, math.inf))

    n = 1000
    while power(n) < 0.95:
        n = n * 5 // 4
    low, high = chernoff_interval(n, gamma_mgf, 1e-6, domain=(-2.0, math.inf))
    means = np.log(scale * np.random.default_rng(4).standard_gamma(shape, (40, n))).mean(axis=1)
    assert_power(int(np.sum((means < low) | (means > high))), power(n), 40)


def test_chernoff_power_of_the_lognormal_law() -> None:
    """The bound is below the exact power, which is normal, and reaches any level."""
    for n in (100, 4000, 10000):
        bound = chernoff_power(
            n, lognormal_mgf, lambda x: lognormal_mgf(x, 0.1), 1e-6, domain=EVERYWHERE, actual_domain=EVERYWHERE
        )
        half = math.sqrt(2 * math.log(2e6) / n)
        exact = stats.norm.sf((half - 0.1) * math.sqrt(n)) + stats.norm.cdf((-half - 0.1) * math.sqrt(n))
        assert 0 <= bound <= exact
        missing = math.exp(-n * max(0.0, 0.1 - half) ** 2 / 2)
        assert bound == pytest.approx(1 - missing, abs=1e-9)


def test_error_of_the_mgf_widens_the_interval() -> None:
    exact = chernoff_interval(1000, lognormal_mgf, 1e-6, domain=EVERYWHERE)
    for factor in (1 - 1e-4, 1 + 1e-4):
        low, high = chernoff_interval(
            1000, lambda x, factor=factor: factor * lognormal_mgf(x), 1e-6, domain=EVERYWHERE, mgf_error=1.01e-4
        )
        assert low < exact[0] < exact[1] < high


def test_a_mean_far_outside() -> None:
    """The best x is where the function has overflowed, or at the end of the domain."""
    verdict = chernoff_mean_log(1e3, 10, lognormal_mgf, 1e-6, domain=EVERYWHERE)
    assert verdict.rejects
    assert verdict.p_value < 1e-100
    verdict = chernoff_mean_log(-1e3, 10, gamma_mgf, 1e-6, domain=(-2.0, math.inf))
    assert verdict.rejects
    assert verdict.p_value < 1e-100


def test_a_law_that_is_wide() -> None:
    """E[Q^x] overflows but for x < 4e-7, where the search does not look at first."""
    low, high = chernoff_interval(100, lambda x: lognormal_mgf(x, 0.0, 1e8), 1e-6, domain=EVERYWHERE)
    half = 1e8 * math.sqrt(2 * math.log(2e6) / 100)
    # of log E, 0.1 at the best x, 1e-16 is rounded
    assert (low, high) == pytest.approx((-half, half), rel=1e-12, abs=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "n must be an integer >= 1, but is 0"),
        ({"n": 1.5}, "n must be an integer >= 1, but is 1.5"),
        ({"alpha": 1.0}, r"alpha must be in \(0, 1\)"),
        *(
            ({"domain": domain}, rf"domain must be an open interval around 0, but is {re.escape(repr(domain))}")
            for domain in ((0.0, 1.0), (0.5, 2.0), (-1.0, 0.0), (-1.0, -0.5), (math.nan, 1.0))
        ),
        ({"mgf_error": math.inf}, "mgf_error must be >= 0 and finite"),
        ({"mgf_error": -0.5}, "mgf_error must be >= 0 and finite, but is -0.5"),
        ({"mean_log": math.nan}, "mean_log must be finite, but is nan"),
        ({"mgf": lambda x: -1.0}, "mgf must return positive numbers, but is -1.0 at"),
        ({"mgf": lambda x: 0.0}, "mgf must return positive numbers, but is 0.0 at"),
        ({"mgf": lambda x: -0.5}, "mgf must return positive numbers, but is -0.5 at"),
        ({"mgf": lambda x: math.nan}, "mgf must return positive numbers, but is nan at"),
    ],
)
def test_chernoff_refuses(change: dict[str, Any], message: str) -> None:
    arguments = {"mean_log": 0.0, "n": 100, "mgf": lognormal_mgf, "alpha": 0.01, "domain": EVERYWHERE}
    with pytest.raises(ValueError, match=message):
        chernoff_mean_log(**{**arguments, **change})


def test_chernoff_power_refuses() -> None:
    with pytest.raises(ValueError, match="actual_domain must be an open interval around 0"):
        chernoff_power(10, lognormal_mgf, lognormal_mgf, 0.01, domain=EVERYWHERE, actual_domain=(1.0, 2.0))


# Binomial


@settings(deadline=None, max_examples=8)
@given(
    n=st.integers(1, 25),
    probability=st.one_of(st.just(0.5), st.floats(1e-3, 1 - 1e-3)),
    alpha=st.sampled_from([0.5, 0.25, 0.125, 0.01, 1e-6]),
)
def test_binomial_share_against_sums(n: int, probability: float, alpha: float) -> None:
    k = np.arange(n + 1)
    pmf = stats.binom.pmf(k, n, probability)
    level = 0.0
    for below in range(n + 1):
        verdict = binomial_share(below, n, probability, alpha)
        tail = min(math.fsum(pmf[: below + 1]), math.fsum(pmf[below:]))
        assert verdict.p_value == pytest.approx(min(1, 2 * tail), rel=1e-9, abs=0)
        assert verdict.statistic == below / n
        if abs(2 * tail / alpha - 1) > 1e-9:
            assert verdict.rejects == (2 * tail <= alpha)
            interval = stats.binomtest(below, n).proportion_ci(1 - alpha, "exact")
            assert verdict.rejects == (not interval.low <= probability <= interval.high)
        level += pmf[below] * verdict.rejects
    assert level <= alpha * (1 + 1e-12)
    assert binomial_power(n, probability, probability, alpha) == pytest.approx(level, rel=1e-9, abs=1e-300)


def test_a_tail_of_half_the_level_is_rejected() -> None:
    """P(K <= 0) = P(K >= 3) = 1/8 exactly."""
    assert [binomial_share(k, 3, 0.5, 0.25).rejects for k in range(4)] == [True, False, False, True]


@pytest.mark.parametrize("off", [-1, 1])
def test_a_quantile_that_is_off_by_one_changes_nothing(monkeypatch: pytest.MonkeyPatch, off: int) -> None:
    expected = [binomial_share(k, 60, 0.2, 0.01).thresholds for k in (0, 60)]
    for name in ("ppf", "isf"):
        right = getattr(stats.binom, name)
        monkeypatch.setattr(stats.binom, name, lambda *x, right=right: right(*x) + off)
    assert [binomial_share(k, 60, 0.2, 0.01).thresholds for k in (0, 60)] == expected


@pytest.mark.parametrize("actual", [0.0, 0.02, 0.5, 1.0])
def test_binomial_power_against_sums(actual: float) -> None:
    n, probability, alpha = 60, 0.2, 0.01
    rejected = [k for k in range(n + 1) if binomial_share(k, n, probability, alpha).rejects]
    exact = math.fsum(stats.binom.pmf(rejected, n, actual))
    assert binomial_power(n, probability, actual, alpha) == pytest.approx(exact, rel=1e-9, abs=0)


def test_simulated_false_alarms_and_power_of_binomial_share() -> None:
    rng, n = np.random.default_rng(8), 500
    quantile = stats.gamma.ppf(0.3, 2)
    low, high = binomial_share(150, n, 0.3, 0.01).thresholds
    share = (rng.standard_gamma(2, (REPETITIONS, n)) < quantile).mean(axis=1)
    assert_level(int(np.sum((share < low) | (share > high))), 0.01)
    actual = float(stats.gamma.cdf(quantile, 2, scale=1.2))
    power = binomial_power(n, 0.3, actual, 0.01)
    share = (1.2 * rng.standard_gamma(2, (REPETITIONS, n)) < quantile).mean(axis=1)
    found = int(np.sum((share < low) | (share > high)))
    # exact, so that it is attained: within the range that is left with a probability of 1e-6
    assert stats.binom.ppf(5e-7, REPETITIONS, power) <= found <= stats.binom.isf(5e-7, REPETITIONS, power)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 10, 0.5, 0.01), "below must be an integer >= 0, but is -1"),
        ((11, 10, 0.5, 0.01), "below must be at most n = 10, but is 11"),
        ((1, 0, 0.5, 0.01), "n must be an integer >= 1, but is 0"),
        ((1, 10, 1.0, 0.01), r"probability must be in \(0, 1\), but is 1.0"),
        ((1, 10, 0.5, math.nan), r"alpha must be in \(0, 1\), but is nan"),
    ],
)
def test_binomial_share_refuses(arguments: tuple[int, int, float, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        binomial_share(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 0.5, 1.1, 0.01), r"actual must be in \[0, 1\], but is 1.1"),
        ((10, 0.5, -0.1, 0.01), r"actual must be in \[0, 1\], but is -0.1"),
        ((0, 0.5, 0.5, 0.01), "n must be an integer >= 1, but is 0"),
        ((10, 0.0, 0.5, 0.01), r"probability must be in \(0, 1\), but is 0.0"),
        ((10, 0.5, 0.5, 1.0), r"alpha must be in \(0, 1\), but is 1.0"),
    ],
)
def test_binomial_power_refuses(arguments: tuple[int, float, float, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        binomial_power(*arguments)


@given(seed=st.integers(0, 2**32 - 1), points=st.integers(1, 300))
def test_fewer_points_find_a_distance_that_is_lower_by_one_of_them_at_most(seed: int, points: int) -> None:
    sample = np.random.default_rng(seed).exponential(1.2, 250)
    whole = kolmogorov_smirnov(sample, stats.expon.cdf, 0.01)
    part = kolmogorov_smirnov(sample, stats.expon.cdf, 0.01, points=points)
    assert part.statistic <= whole.statistic
    # Between two points the ranks rise by less than 1/points and a rank, and F by no less than nothing.
    if points >= 2:
        assert part.statistic >= whole.statistic - (250 / (points - 1) + 2) / 250**0.5
    assert (part.n, part.thresholds) == (whole.n, whole.thresholds)
    if points >= 250:
        assert part == whole
