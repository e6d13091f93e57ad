"""Statistical tests whose false-alarm probability is at most what they say, at every sample size, and their power.

No test here rests on a central limit theorem. Each has a bound that holds for every n, and needs the exact law of what
is tested: its distribution function, its moment generating function or one of its quantiles. (A z-test of a sample
variance is not sound for heavy tails: psi_5 of Adam gave z-scores up to 13 in 1500 repetitions.)

The power functions say how large n must be for a given deviation to be found, also by a bound or exactly.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = [
    "Verdict",
    "binomial_power",
    "binomial_share",
    "chernoff_interval",
    "chernoff_mean_log",
    "chernoff_power",
    "kolmogorov_smirnov",
    "kolmogorov_smirnov_size",
]

FloatArray = npt.NDArray[np.float64]
Cdf = Callable[[FloatArray], npt.ArrayLike]
Mgf = Callable[[float], float]
Domain = tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    """The outcome of one test.

    Attributes:
        test: name of the test.
        statistic: its statistic.
        thresholds: the smallest and the largest statistic that are not rejected.
        p_value: upper bound on the probability of a statistic at least as extreme, if the law is as stated.
        n: size of the sample.
        alpha: bound on the probability of a false alarm.
        rejects: whether the statistic is outside the thresholds.
    """

    test: str
    statistic: float
    thresholds: tuple[float, float]
    p_value: float
    n: int
    alpha: float

    @property
    def rejects(self) -> bool:
        return not self.thresholds[0] <= self.statistic <= self.thresholds[1]


def _check_probability(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must be in (0, 1), but is {value!r}")


def checked_int(name: str, value: int, least: int) -> int:
    """Return an integer that is at least `least`, or raise a ValueError that names it."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be an integer >= {least}, but is {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be an integer >= {least}, but is {value!r}")
    return number


def _dkw_threshold(alpha: float) -> float:
    return math.sqrt(math.log(2 / alpha) / 2)


def kolmogorov_smirnov(
    sample: npt.ArrayLike, cdf: Cdf, alpha: float, *, cdf_error: float = 0.0, points: int | None = None
) -> Verdict:
    """Test whether independent values have the distribution function F (Kolmogorov-Smirnov).

        D_n = sup_x |F_n(x) - F(x)|,    rejects iff sqrt(n) D_n > sqrt(log(2/alpha) / 2)

    The false-alarm probability is at most alpha for every n and F, as P(sqrt(n) D_n > x) <= 2 exp(-2 x^2), the
    inequality of Dvoretzky, Kiefer & Wolfowitz (1956) with the constant of Massart (1990, Annals of Probability 18).

    Args:
        sample: n >= 1 finite values, shape (n,).
        cdf: returns F, elementwise, of a sorted float64 array of one dimension.
        alpha: bound on the false-alarm probability, in (0, 1).
        cdf_error: bound on |cdf - F|. D_n is lowered by it, so that the test stays sound.
        points: evaluate F at so many of the values only, evenly spaced by rank, where it is slow; all for None. The
            distance found is then lower by at most 1/points, so that the test stays sound.

    Returns:
        A verdict with the statistic sqrt(n) D_n.

    Raises:
        ValueError: an argument is outside its range, or cdf returns something else than n probabilities.

    >>> sample = stats.expon.ppf((np.arange(1000) + 0.5) / 1000)
    >>> kolmogorov_smirnov(sample, stats.expon.cdf, 1e-6).rejects
    False
    >>> verdict = kolmogorov_smirnov(1.5 * sample, stats.expon.cdf, 1e-6)
    >>> verdict.rejects, round(verdict.statistic, 2), round(verdict.thresholds[1], 5)
    (True, 4.7, 2.69339)
    """
    _check_probability("alpha", alpha)
    if not 0 <= cdf_error < 1:
        raise ValueError(f"cdf_error must be in [0, 1), but is {cdf_error!r}")
    x = np.sort(np.asarray(sample, dtype=np.float64), axis=None)
    if np.ndim(sample) != 1 or x.size == 0:
        raise ValueError(f"sample must have shape (n,), n >= 1, but has shape {np.shape(sample)}")
    if not np.isfinite(x).all():
        raise ValueError(f"sample must be finite, but {int((~np.isfinite(x)).sum())} of {x.size} values are not")
    n = x.size
    chosen = np.arange(n)
    if points is not None and checked_int("points", points, 1) < n:
        chosen = np.round(np.linspace(0, n - 1, points)).astype(int)
    x = x[chosen]
    f = np.asarray(cdf(x), dtype=np.float64)
    if f.shape != x.shape:
        raise ValueError(f"cdf must return an array of shape {x.shape}, but returned one of shape {f.shape}")
    bad = ~((f >= -cdf_error) & (f <= 1 + cdf_error))
    if bad.any():
        i = int(np.argmax(bad))
        raise ValueError(
            f"cdf must return probabilities, but is {f[i]} at {x[i]}: correct it, or state its error as cdf_error"
        )
    distance = max(float(np.max((chosen + 1) / n - f)), float(np.max(f - chosen / n)))
    statistic = math.sqrt(n) * max(0.0, distance - cdf_error)
    p_value = min(1.0, 2 * math.exp(-2 * statistic**2))
    return Verdict("Kolmogorov-Smirnov", statistic, (0.0, _dkw_threshold(alpha)), p_value, n, alpha)


def kolmogorov_smirnov_size(distance: float, alpha: float, beta: float) -> int:
    """Return a sample size at which `kolmogorov_smirnov` finds a given distance with probability >= 1 - beta.

        n = smallest with sqrt(n) d >= sqrt(log(2/alpha) / 2) + sqrt(log(1/beta) / 2),    d = sup_x |G(x) - F(x)|

    where G is the true distribution function, and F the tested one. At the point of the largest distance
    |F_n - F| >= d - |F_n - G|, and the deviation of F_n from G at one point, to one side, exceeds x / sqrt(n) with
    probability <= exp(-2 x^2) (Hoeffding 1963, theorem 1; the one-sided case of the inequality of Dvoretzky, Kiefer,
    Wolfowitz and Massart). The smallest n of this bound; a smaller one may do.

    Args:
        distance: d, in (0, 1]; less `cdf_error`, if the test is given one.
        alpha: false-alarm probability of the test, in (0, 1).
        beta: probability of a miss, in (0, 1).

    Raises:
        ValueError: an argument is outside its range.

    >>> kolmogorov_smirnov_size(0.0137, 1e-6, 0.01)
    94470
    """
    _check_probability("alpha", alpha)
    _check_probability("beta", beta)
    if not 0 < distance <= 1:
        raise ValueError(f"distance must be in (0, 1], but is {distance!r}")
    return math.ceil(((_dkw_threshold(alpha) + math.sqrt(math.log(1 / beta) / 2)) / distance) ** 2)


def _check_domain(name: str, domain: Domain) -> None:
    if not domain[0] < 0 < domain[1]:
        raise ValueError(f"{name} must be an open interval around 0, but is {domain!r}")


def _distance_to_the_end(domain: Domain, sign: int) -> float:
    """Return how far a domain reaches from 0 to one side."""
    return max(sign * end for end in domain)


def _log_mgf(mgf: Mgf, x: float, mgf_error: float) -> float:
    """Return an upper bound of log E[Q^x]."""
    try:
        value = float(mgf(x))
    except OverflowError:
        return math.inf
    if not value > 0:
        raise ValueError(f"mgf must return positive numbers, but is {value} at {x}: check its domain")
    return math.log(value) + math.log1p(mgf_error)


def _largest(function: Callable[[float], float], end: float) -> float:
    """Return nearly the largest value of a function on (0, end) that increases and then decreases.

    Golden section over log x. Whatever it returns is a value of the function: bounds that are built on it are valid, be
    the maximum found or missed.
    """
    high = end  # never asked for: the last range ends 4e-8 of log x below
    if math.isinf(end):
        high = 1.0
        while function(2 * high) > function(high):
            high *= 2
        high *= 2
    low, high = math.log(1e-10 * min(high, 1.0)), math.log(high)
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(math.exp(left)), function(math.exp(right))
    best = max(at_left, at_right)
    # 1e-7 of log x: relative 1e-14 of a smooth maximum
    while high - low > 1e-7:
        if at_left >= at_right:  # beyond an overflow both are -inf
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(math.exp(left))
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(math.exp(right))
        best = max(best, at_left, at_right)
    return best


def _rate(mean: float, mgf: Mgf, domain: Domain, sign: int, mgf_error: float) -> float:
    """Return sup over x > 0 of x sign mean - log E[Q^(sign x)], at least 0 (the value at x = 0)."""
    end = _distance_to_the_end(domain, sign)
    return max(0.0, _largest(lambda x: x * sign * mean - _log_mgf(mgf, sign * x, mgf_error), end))


def _threshold(level: float, mgf: Mgf, domain: Domain, sign: int, mgf_error: float) -> float:
    """Return sign times the smallest (log E[Q^(sign x)] + level) / x over x > 0."""
    end = _distance_to_the_end(domain, sign)
    return -sign * _largest(lambda x: -(_log_mgf(mgf, sign * x, mgf_error) + level) / x, end)


def chernoff_interval(n: int, mgf: Mgf, alpha: float, *, domain: Domain, mgf_error: float = 0.0) -> tuple[float, float]:
    """Return an interval that contains the mean of n independent log Q with probability at least 1 - alpha.

        high = min over x > 0 of (log E[Q^x] + log(2/alpha)/n) / x
        low  = max over x < 0 of (log E[Q^x] + log(2/alpha)/n) / x

    since P(mean >= a) <= exp(n (log E[Q^x] - x a)) for every x > 0, and likewise below (Chernoff 1952, Annals of
    Mathematical Statistics 23). Every x gives a bound that holds: a minimum that is missed widens the interval only.

    Args:
        n: number of values, >= 1.
        mgf: returns E[Q^x] > 0 for a float x in the domain; inf or an OverflowError where it overflows.
        alpha: probability of a mean outside, in (0, 1).
        domain: open interval around 0 where E[Q^x] is finite (or a part of it), e.g. (-t/2, inf).
        mgf_error: relative error bound of mgf.

    Raises:
        ValueError: an argument is outside its range, or mgf returns something else than positive numbers.

    >>> lognormal = lambda x: math.exp(x * x / 2)                                         # log Q ~ N(0, 1)
    >>> low, high = chernoff_interval(10**4, lognormal, 1e-6, domain=(-math.inf, math.inf))
    >>> round(low, 6), round(high, 6), round(math.sqrt(2 * math.log(2e6) / 10**4), 6)
    (-0.053868, 0.053868, 0.053868)
    """
    n = checked_int("n", n, 1)
    _check_probability("alpha", alpha)
    _check_domain("domain", domain)
    if not 0 <= mgf_error < math.inf:
        raise ValueError(f"mgf_error must be >= 0 and finite, but is {mgf_error!r}")
    level = math.log(2 / alpha) / n
    low, high = (_threshold(level, mgf, domain, sign, mgf_error) for sign in (-1, 1))
    return low, high


def chernoff_mean_log(
    mean_log: float, n: int, mgf: Mgf, alpha: float, *, domain: Domain, mgf_error: float = 0.0
) -> Verdict:
    """Test whether the mean of log Q over n independent Q is that of the law with the stated E[Q^x].

    Rejects iff the mean is outside `chernoff_interval`. The p-value is the bound with the best x,

        2 exp(-n sup_x (x mean - log E[Q^x]))

    It hardly sees a change of shape that leaves E[log Q] alone; `kolmogorov_smirnov` does.

    Args:
        mean_log: mean of log Q over the sample.
        n, mgf, alpha, domain, mgf_error: see `chernoff_interval`.

    Returns:
        A verdict with the statistic mean_log.

    Raises:
        ValueError: an argument is outside its range, or mgf returns something else than positive numbers.

    >>> lognormal = lambda x: math.exp(x * x / 2)
    >>> everywhere = (-math.inf, math.inf)
    >>> chernoff_mean_log(0.05, 10**4, lognormal, 1e-6, domain=everywhere).rejects
    False
    >>> chernoff_mean_log(0.06, 10**4, lognormal, 1e-6, domain=everywhere).rejects
    True
    """
    if not math.isfinite(mean_log):
        raise ValueError(f"mean_log must be finite, but is {mean_log!r}")
    thresholds = chernoff_interval(n, mgf, alpha, domain=domain, mgf_error=mgf_error)
    rate = max(_rate(mean_log, mgf, domain, sign, mgf_error) for sign in (-1, 1))
    return Verdict("Chernoff", float(mean_log), thresholds, min(1.0, 2 * math.exp(-n * rate)), operator.index(n), alpha)


def chernoff_power(
    n: int, mgf: Mgf, actual: Mgf, alpha: float, *, domain: Domain, actual_domain: Domain, mgf_error: float = 0.0
) -> float:
    """Return a lower bound on the probability that `chernoff_mean_log` rejects when the law is another.

        P(mean > high) >= 1 - inf over x < 0 of exp(n (log E'[Q^x] - x high)),    and likewise P(mean < low)

    where low, high are the thresholds of the test, and E' is the expectation under the actual law.

    Args:
        n, mgf, alpha, domain: see `chernoff_interval`.
        actual: returns E'[Q^x].
        actual_domain: open interval around 0 where E'[Q^x] is finite.
        mgf_error: relative error bound of mgf and of actual.

    Raises:
        ValueError: an argument is outside its range, or a function returns something else than positive numbers.

    >>> law, shifted = (lambda x: math.exp(x * x / 2)), (lambda x: math.exp(0.1 * x + x * x / 2))
    >>> everywhere = (-math.inf, math.inf)
    >>> round(chernoff_power(10**4, law, shifted, 1e-6, domain=everywhere, actual_domain=everywhere), 6)
    0.999976
    """
    low, high = chernoff_interval(n, mgf, alpha, domain=domain, mgf_error=mgf_error)
    _check_domain("actual_domain", actual_domain)
    above = _rate(high, actual, actual_domain, -1, mgf_error)
    below = _rate(low, actual, actual_domain, 1, mgf_error)
    return -math.expm1(-n * max(above, below))


def _binomial_thresholds(n: int, probability: float, alpha: float) -> tuple[int, int]:
    """Return the smallest and the largest count whose tail has a probability of more than alpha/2."""
    # Quantiles may be off by one where a tail is alpha/2 to the last digits.
    low = max(0, int(stats.binom.ppf(alpha / 2, n, probability)) - 1)
    high = min(n, int(stats.binom.isf(alpha / 2, n, probability)) + 1)
    while stats.binom.cdf(low, n, probability) <= alpha / 2:
        low += 1
    while stats.binom.sf(high - 1, n, probability) <= alpha / 2:
        high -= 1
    return low, high


def binomial_share(below: int, n: int, probability: float, alpha: float) -> Verdict:
    """Test the share of n independent values that are below an exact quantile.

    The number K of values below the quantile of the given probability is binomial(n, probability):

        rejects iff P(K <= below) <= alpha/2 or P(K >= below) <= alpha/2

    that is, iff the probability is outside Clopper & Pearson's interval (1934, Biometrika 26), as
    `scipy.stats.binomtest(below, n).proportion_ci(1 - alpha, "exact")` gives it. The p-value is twice the smaller tail.

    Args:
        below: number of values below the quantile, 0 <= below <= n.
        n: number of values, >= 1.
        probability: of a value below the quantile, in (0, 1).
        alpha: bound on the false-alarm probability, in (0, 1).

    Returns:
        A verdict with the statistic below / n.

    Raises:
        ValueError: an argument is outside its range.

    >>> binomial_share(5300, 10**4, 0.5, 1e-6)
    Verdict(test='binomial', statistic=0.53, thresholds=(0.4755, 0.5245), p_value=2.07...e-09, n=10000, alpha=1e-06)
    """
    n = checked_int("n", n, 1)
    below = checked_int("below", below, 0)
    if below > n:
        raise ValueError(f"below must be at most n = {n}, but is {below}")
    _check_probability("probability", probability)
    _check_probability("alpha", alpha)
    low, high = _binomial_thresholds(n, probability, alpha)
    tails = stats.binom.cdf(below, n, probability), stats.binom.sf(below - 1, n, probability)
    p_value = min(1.0, 2 * float(min(tails)))
    return Verdict("binomial", below / n, (low / n, high / n), p_value, n, alpha)


def binomial_power(n: int, probability: float, actual: float, alpha: float) -> float:
    """Return the probability that `binomial_share` rejects when the true probability is another; exact.

        P(K < low) + P(K > high),    K ~ binomial(n, actual),    low, high the thresholds of the test

    It is not monotone in n, as K is discrete.

    Args:
        n, probability, alpha: see `binomial_share`.
        actual: true probability of a value below the quantile, in [0, 1].

    Raises:
        ValueError: an argument is outside its range.

    >>> round(binomial_power(10**4, 0.5, 0.53, 1e-6), 4), binomial_power(10**4, 0.5, 0.5, 1e-6) <= 1e-6
    (0.8626, True)
    """
    n = checked_int("n", n, 1)
    _check_probability("probability", probability)
    _check_probability("alpha", alpha)
    if not 0 <= actual <= 1:
        raise ValueError(f"actual must be in [0, 1], but is {actual!r}")
    low, high = _binomial_thresholds(n, probability, alpha)
    return float(stats.binom.cdf(low - 1, n, actual) + stats.binom.sf(high, n, actual))
