"""How far the laws of some mistakes are from the exact one: sample sizes of tests, and their table, rest on it."""

from __future__ import annotations

import functools

import numpy as np
from scipy import stats

from reference import bias_correction, rho_t
from reference.ema import SecondMoment

MISS = 0.01
"""Probability with which a mistake may go unseen, at the sample size that is taken for it."""


@functools.lru_cache(maxsize=16)
def law(beta2: float, t: int) -> SecondMoment:
    """The exact law of Q_t; its tables are made once."""
    return SecondMoment(t, beta2)


def _quantiles(tested: SecondMoment) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Where distribution functions are compared: at some points only, so that no distance is overstated."""
    return tested.quantile(np.linspace(0.002, 0.998, 250))


def distance(true: SecondMoment, scale: float, tested: SecondMoment) -> float:
    """sup |G - F|, G the law of `scale` Q."""
    x = _quantiles(tested)
    return float(np.max(np.abs(true.cdf(x / scale) - tested.cdf(x))))


def of_a_weight(beta2: float, t: int, off: float) -> float:
    """The optimizer's 1 - beta2 is too large by a share, the correction is not."""
    wrong = 1 - (1 + off) * (1 - beta2)
    return distance(law(wrong, t), bias_correction(t, wrong) / bias_correction(t, beta2), law(beta2, t))


def of_a_step_counted_twice(beta2: float, t: int) -> float:
    """v_t corrected, and judged, as v_{t+1}."""
    return distance(law(beta2, t), bias_correction(t, beta2) / bias_correction(t + 1, beta2), law(beta2, t + 1))


def of_the_papers_law(beta2: float, t: int) -> float:
    """The plain mean of rho_t squares in place of Q_t (Liu et al. 2019, equation 4)."""
    rho, exact = rho_t(t, beta2), law(beta2, t)
    x = _quantiles(exact)
    return float(np.max(np.abs(stats.chi2.cdf(rho * x, rho) - exact.cdf(x))))
