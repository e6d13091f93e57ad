"""The second moment that an optimizer keeps follows the exact law, and what is wrong by a little does not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import radam
import reference
from reference import statistical_tests
from reference.ema import SecondMoment
from reference.monte_carlo import Source, ema, simulate
from tests.statistics import power
from tests.statistics.false_alarm import ALPHA, MOST, of_items, statistical
from tests.statistics.power import law
from tests.statistics.sources import second_moment_of


def of(cls: Any, **options: Any) -> Callable[[float, torch.device], Source]:
    """Second moments of an optimizer class, for a beta2, on a device."""
    return lambda beta2, device: second_moment_of(functools.partial(cls, betas=(0.9, beta2), **options), device=device)


SOURCES: dict[str, Callable[[float, torch.device], Source]] = {
    "recurrence": lambda beta2, device: ema(beta2),
    "radam.RAdam, loop": of(radam.RAdam, foreach=False, fused=False),
    "radam.RAdam, foreach": of(radam.RAdam, foreach=True),
    "radam.RAdam, fused": of(radam.RAdam, fused=True),
    "radam.RAdam, capturable": of(radam.RAdam, capturable=True),
    "radam.RAdam, exact": of(radam.RAdam, rectification="exact"),
    "radam.Adam": of(radam.Adam),
    "torch.optim.RAdam": of(torch.optim.RAdam),
    "torch.optim.Adam": of(torch.optim.Adam),
}
POINTS = 300
"""At which the distribution function is evaluated: half a millisecond each."""
PLACES = ((0.999, 3), (0.9, 20))
"""beta2 and t."""


def sample(source: Source, beta2: float, t: int, n: int, seed: int) -> Any:
    """Q_t of n trajectories."""
    return simulate(beta2, [t], n, source=source, keep=[t], seed=seed).samples[t]


@pytest.mark.parametrize(("beta2", "t"), PLACES)
@pytest.mark.parametrize("name", SOURCES)
@statistical
def test_the_second_moment_follows_the_law(name: str, beta2: float, t: int, device: torch.device, seed: int) -> None:
    """Kolmogorov-Smirnov with the bound of Dvoretzky, Kiefer, Wolfowitz and Massart."""
    values = sample(SOURCES[name](beta2, device), beta2, t, 20_000, seed)
    verdict = statistical_tests.kolmogorov_smirnov(values, law(beta2, t).cdf, ALPHA, cdf_error=1e-11, points=POINTS)
    assert not verdict.rejects, verdict


@pytest.mark.parametrize(("beta2", "t"), [(0.999, 6), (0.9, 20)])
@pytest.mark.parametrize("name", ["recurrence", "radam.RAdam, fused"])
@statistical
def test_the_mean_of_its_logarithm_is_the_laws(
    name: str, beta2: float, t: int, device: torch.device, seed: int
) -> None:
    """By Chernoff's bound, from the exact moment generating function."""
    n = 20_000
    estimate = simulate(beta2, [t], n, source=SOURCES[name](beta2, device), seed=seed)[t].log_mean
    domain = (-0.9 * min(t / 2, 10), 1.9)
    verdict = statistical_tests.chernoff_mean_log(
        estimate.value, n, law(beta2, t).moment, ALPHA, domain=domain, mgf_error=1e-11
    )
    assert not verdict.rejects, verdict


@pytest.mark.parametrize("p", [0.01, 0.5, 0.99])
@statistical
def test_the_share_below_a_quantile_is_the_laws(p: float, device: torch.device, seed: int) -> None:
    """Exactly binomial, at an exact quantile."""
    n = 20_000
    values = sample(SOURCES["radam.RAdam, foreach"](0.99, device), 0.99, 10, n, seed)
    below = int((values <= law(0.99, 10).quantile(p)).sum())
    verdict = statistical_tests.binomial_share(below, n, p, ALPHA)
    assert not verdict.rejects, verdict


def test_all_together_accuse_what_is_right_less_than_once_in_a_million(request: pytest.FixtureRequest) -> None:
    collected = of_items(request.session.items)
    assert 0 < sum(collected.values()) <= MOST


# Power: what is wrong by a little is found, at a sample size that is computed beforehand


def is_found(values: Any, tested: SecondMoment) -> bool:
    return statistical_tests.kolmogorov_smirnov(values, tested.cdf, ALPHA, cdf_error=1e-11, points=2000).rejects


def assert_found(values: Any, tested: SecondMoment) -> None:
    assert is_found(values, tested)
    assert not is_found(tested.quantile((np.arange(1000) + 0.5) / 1000), tested), "it accuses the law itself"


@pytest.mark.parametrize(("t", "off"), [(30, 0.02), pytest.param(100, 0.01, marks=pytest.mark.deep)])
def test_a_weight_that_is_off_by_a_little_is_found(t: int, off: float, device: torch.device) -> None:
    """1 - beta2 is 1% or 2% too large: in the optimizer, not in the correction."""
    beta2 = 0.999
    wrong = 1 - (1 + off) * (1 - beta2)
    n = statistical_tests.kolmogorov_smirnov_size(power.of_a_weight(beta2, t, off), ALPHA, power.MISS)
    assert n <= 200_000
    assert_found(sample(SOURCES["radam.RAdam, fused"](wrong, device), beta2, t, n, seed=1), law(beta2, t))


@pytest.mark.parametrize(("beta2", "t"), [(0.999, 10), (0.9, 10)])
def test_a_step_that_is_counted_twice_is_found(beta2: float, t: int, device: torch.device) -> None:
    """v_t corrected, and judged, as v_{t+1}."""
    scale = reference.bias_correction(t, beta2) / reference.bias_correction(t + 1, beta2)
    n = statistical_tests.kolmogorov_smirnov_size(power.of_a_step_counted_twice(beta2, t), ALPHA, power.MISS)
    assert n <= 20_000
    assert_found(scale * sample(SOURCES["radam.RAdam, loop"](beta2, device), beta2, t, n, seed=2), law(beta2, t + 1))


@pytest.mark.deep
def test_the_papers_law_is_told_from_the_exact_one(device: torch.device) -> None:
    """Where they are farthest apart: the mean of rho_t squares in place of Q_t, at beta2 = 0.999 and t = 1500."""
    beta2, t = 0.999, 1500
    rho = reference.rho_t(t, beta2)
    exact = law(beta2, t)
    apart = power.of_the_papers_law(beta2, t)
    assert round(apart, 4) == 0.0137
    n = statistical_tests.kolmogorov_smirnov_size(apart, ALPHA, power.MISS)
    values = sample(SOURCES["radam.RAdam, fused"](beta2, device), beta2, t, n, seed=3)
    assert not is_found(values, exact)
    verdict = statistical_tests.kolmogorov_smirnov(values, lambda x: stats.chi2.cdf(rho * x, rho), ALPHA)
    assert verdict.rejects, verdict


@pytest.mark.deep
@pytest.mark.parametrize("name", ["torch.optim.RAdam", "radam.RAdam, fused"])
@pytest.mark.parametrize("t", [3, 30])
def test_a_million_trajectories_follow_the_law(name: str, t: int, device: torch.device) -> None:
    values = sample(SOURCES[name](0.999, device), 0.999, t, 10**6, seed=4)
    verdict = statistical_tests.kolmogorov_smirnov(values, law(0.999, t).cdf, ALPHA, cdf_error=1e-11, points=5000)
    assert not verdict.rejects, verdict
