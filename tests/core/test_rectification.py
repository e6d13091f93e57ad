"""rho_t, rho_inf, r_t and bias corrections against arbitrary precision, to the last bits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import reference
from radam.rectification import (
    bias_correction,
    exact_r_t,
    first_adaptive_step,
    first_exact_step,
    n_eff,
    r_t,
    reaches,
    rho_inf,
    rho_t,
)

U = 2.0**-53
CORNERS = (
    *(0.0, 5e-324, 2.0**-1022, 1e-100, 0.1, 0.5, 0.6, 0.65, 2 / 3, 0.7, 0.8, 0.9, 0.99),
    *(1 - 10.0**-k for k in range(3, 16)),
    1 - 2.0**-53,
)
STEPS = (1, 2, 3, 4, 5, 6, 7, 10, 11, 100, 699, 701, 1000, 12345, 10**6)

# Table 5 of the statistics: the first step with rho_t > 4, >= 5 and > 5.
TABLE: tuple[tuple[float, tuple[int | None, int | None, int | None]], ...] = (
    (0.0, (None, None, None)),
    (0.5, (None, None, None)),
    (0.6, (None, None, None)),
    (0.7, (6, 10, 10)),
    (0.75, (6, 8, 8)),
    (0.8, (5, 7, 7)),
    (0.9, (5, 6, 6)),
    (0.95, (5, 6, 6)),
    (0.98, (5, 6, 6)),
    (0.99, (5, 6, 6)),
    (0.995, (5, 6, 6)),
    (0.999, (5, 6, 6)),
    (0.9999, (5, 6, 6)),
    (1 - 1e-6, (5, 6, 6)),
    (1 - 1e-12, (5, 6, 6)),
)
THRESHOLDS = (4.0, 5.0, math.nextafter(5.0, 6.0))
ROWS = [(beta2, threshold, first) for beta2, row in TABLE for threshold, first in zip(THRESHOLDS, row, strict=True)]

betas = st.one_of(
    st.floats(0.0, 1.0, exclude_max=True),
    st.floats(0.0, 15.9).map(lambda digits: 1 - 10.0**-digits).filter(lambda beta: beta < 1),
    st.sampled_from(CORNERS),
)
steps = st.one_of(st.integers(1, 20), st.integers(1, 10**4), st.integers(1, 10**6))


def exact(t: int, beta: float) -> tuple[Any, Any, Any]:
    """rho_t, rho_inf and 1 - beta^t as the paper prints them; 60 digits outlast the cancellation, which takes 32."""
    with mpmath.workdps(60):
        b = mpmath.mpf(beta)
        correction = 1 - b**t
        limit = 2 / (1 - b) - 1
        return limit - 2 * t * b**t / correction, limit, correction


def exact_r(t: int, beta: float) -> Any:
    """r_t as the paper prints it."""
    with mpmath.workdps(60):
        rho, limit, _ = exact(t, beta)
        return mpmath.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))


def relative_error_of_r(t: int, beta: float) -> float:
    """Bound of r_t's relative error where rho_t is good to 8u and rho_inf to 4u; infinite next to 4.

    With d the error of rho: each factor (rho - c) has relative error d/(rho - c) + u, the square root takes half of
    them, and the operations of the formula itself are at most ten roundings.
    """
    rho, limit, _ = map(float, exact(t, beta))
    total = 10 * U
    for value, error in ((rho, 8 * U * rho), (limit, 4 * U * limit)):
        for c in (4.0, 2.0, 0.0):
            share = error / (value - c) + U if value > c else math.inf
            total += -math.log1p(-share) / 2 if share < 1 else math.inf
    return math.expm1(total) if total < 1 else math.inf


def relative_error(computed: float, right: Any) -> float:
    with mpmath.workdps(60):
        return float(abs(mpmath.mpf(computed) - right) / abs(right))


def check(t: int, beta: float, rho: float, limit: float, correction: float) -> None:
    right_rho, right_limit, right_correction = exact(t, beta)
    assert relative_error(rho, right_rho) <= 8 * U
    assert relative_error(limit, right_limit) <= 4 * U
    assert relative_error(correction, right_correction) <= 4 * U


@pytest.mark.parametrize("beta", CORNERS)
@pytest.mark.parametrize("t", STEPS)
def test_numbers_at_the_corners(t: int, beta: float) -> None:
    check(t, beta, rho_t(t, beta), rho_inf(beta), bias_correction(t, beta))


@given(t=steps, beta=betas)
def test_numbers(t: int, beta: float) -> None:
    check(t, beta, rho_t(t, beta), rho_inf(beta), bias_correction(t, beta))


@pytest.mark.parametrize("formula", [bias_correction, rho_t, n_eff, r_t], ids=lambda formula: formula.__name__)
def test_a_tensor_that_has_changed_counts_as_it_is(formula: Callable[..., Any]) -> None:
    """What is remembered is remembered of numbers alone."""
    beta = torch.tensor(0.99, dtype=torch.float64)
    formula(100, beta)
    beta.fill_(0.9)
    assert float(formula(100, beta)) == pytest.approx(formula(100, 0.9), rel=64 * U, abs=0)


@pytest.mark.parametrize("beta", CORNERS)
def test_tensors_vectorised_over_steps(beta: float) -> None:
    t = torch.tensor(STEPS, dtype=torch.float64)
    for decay in (beta, torch.tensor(beta, dtype=torch.float64)):
        rho, correction = rho_t(t, decay), bias_correction(t, decay)  # type: ignore[type-var]
        assert rho.dtype == correction.dtype == torch.float64
        for i, step in enumerate(STEPS):
            check(step, beta, float(rho[i]), float(rho_inf(decay)), float(correction[i]))


@given(pairs=st.lists(st.tuples(steps, betas), min_size=1, max_size=20))
def test_tensors_vectorised_over_steps_and_betas(pairs: list[tuple[int, float]]) -> None:
    t = torch.tensor([t for t, _ in pairs], dtype=torch.float64)
    beta = torch.tensor([beta for _, beta in pairs], dtype=torch.float64)
    rho, limit, correction = rho_t(t, beta), rho_inf(beta), bias_correction(t, beta)
    for i, (step, decay) in enumerate(pairs):
        check(step, decay, float(rho[i]), float(limit[i]), float(correction[i]))


@given(t=st.integers(1, 3000), beta=betas)
def test_agreement_with_the_reference(t: int, beta: float) -> None:
    """The reference rounds once, so the distance is at most one unit roundoff more than to the exact value."""
    assert rho_t(t, beta) == pytest.approx(reference.rho_t(t, beta), rel=9 * U, abs=0)
    assert rho_inf(beta) == pytest.approx(reference.rho_inf(beta), rel=5 * U, abs=0)
    assert bias_correction(t, beta) == pytest.approx(reference.bias_correction(t, beta), rel=5 * U, abs=0)


@given(t=steps, beta=betas)
def test_r_within_its_conditioning(t: int, beta: float) -> None:
    rho, limit, _ = exact(t, beta)
    if not (rho_t(t, beta) >= 4 and rho_inf(beta) > 4):
        with pytest.raises(ValueError, match="r_t does not exist"):
            r_t(t, beta)
        return
    bound = relative_error_of_r(t, beta)
    if rho <= 4 or limit <= 4 or math.isinf(bound):
        return
    assert relative_error(r_t(t, beta), exact_r(t, beta)) <= bound
    tensor = r_t(torch.tensor([float(t)], dtype=torch.float64), torch.tensor(beta, dtype=torch.float64))
    assert relative_error(float(tensor), exact_r(t, beta)) <= bound


@pytest.mark.parametrize("t", [1, 3, 4, 5])
def test_r_of_tensors_below_the_threshold_does_not_raise(t: int) -> None:
    assert r_t(torch.tensor([float(t)], dtype=torch.float64), 0.5).shape == (1,)  # type: ignore[type-var]


@pytest.mark.parametrize("beta2", [0.999, 0.9, 1 - 2.0**-53])
def test_r_grows_towards_one(beta2: float) -> None:
    values = [r_t(t, beta2) for t in (6, 10, 100, 10**4, 10**9)]
    assert all(earlier <= later <= 1 + 8 * U for earlier, later in itertools.pairwise(values))
    assert 0 < values[0] < values[1]


@pytest.mark.parametrize(("beta2", "t"), [(0.999, 5), (0.6, 10**6), (0.5, 10**6), (0.0, 3)])
def test_r_names_what_does_not_exist(beta2: float, t: int) -> None:
    if rho_t(t, beta2) >= 4 and rho_inf(beta2) > 4:
        t = 4
    with pytest.raises(ValueError, match=f"t={t}, beta2={beta2}"):
        r_t(t, beta2)


def first_step(rho: Callable[[int, float], float], beta2: float, threshold: float) -> int | None:
    if not rho_inf(beta2) > 4:
        return None
    return next((t for t in range(1, 1000) if rho(t, beta2) >= threshold), None)


@pytest.mark.parametrize(("beta2", "threshold", "first"), ROWS)
def test_first_adaptive_step(beta2: float, threshold: float, first: int | None) -> None:
    assert first_step(rho_t, beta2, threshold) == first
    assert first_adaptive_step(beta2, threshold) == first
    assert reference.first_adaptive_step(beta2, threshold) == first


@given(beta2=st.floats(0.5, 0.99), threshold=st.floats(4.0, 20.0))
def test_the_search_finds_what_one_step_after_another_does(beta2: float, threshold: float) -> None:
    assert first_adaptive_step(beta2, threshold) == reference.first_adaptive_step(beta2, threshold)


@pytest.mark.parametrize("beta2", [0.65, 0.7, 0.75, 0.8, 0.9])
def test_thresholds_at_the_limit(beta2: float) -> None:
    """rho_t is rounded up to its limit in the end, and is never beyond it."""
    limit = reference.rho_inf(beta2)
    nearby = [math.nextafter(limit, 0.0), limit, math.nextafter(limit, math.inf)]
    for threshold in (*nearby, limit * (1 - 2.0**-47), limit * (1 + 2.0**-47), 2 * limit, math.inf):
        assert first_adaptive_step(beta2, threshold) == reference.first_adaptive_step(beta2, threshold)
    assert first_adaptive_step(beta2, nearby[1]) is not None
    assert first_adaptive_step(beta2, nearby[2]) is None


@pytest.mark.parametrize(("beta2", "threshold"), [(0.6, 1.0), (0.6, 4.0), (0.5, 1.0), (0.999, 1.0)])
def test_a_limit_of_four_at_most_is_never_adaptive(beta2: float, threshold: float) -> None:
    """rho_inf at beta2 = 0.6, one unit below 4, is 4 where its quotient is rounded."""
    assert first_adaptive_step(beta2, threshold) == reference.first_adaptive_step(beta2, threshold)


@pytest.mark.parametrize("beta2", [1 - 2.0**-53, 1 - 1e-12, 1 - 1e-6, 0.999])
@pytest.mark.parametrize("threshold", [40.0, 999.5, 100_000.0])
def test_far_first_steps(beta2: float, threshold: float) -> None:
    first = first_adaptive_step(beta2, threshold)
    if threshold > reference.rho_inf(beta2):
        assert first is None
        return
    assert first is not None
    with mpmath.workdps(60):
        assert float(exact(first, beta2)[0]) >= threshold > float(exact(first - 1, beta2)[0])


@pytest.mark.parametrize("beta2", [1 - 2.0**-53, 1 - 1e-9, 0.999, 0.8])
@pytest.mark.parametrize("t", [3, 12, 1000])
def test_the_exact_value_rounded_is_what_reaches(t: int, beta2: float) -> None:
    right = float(exact(t, beta2)[0])
    assert reaches(t, beta2, right)
    assert reaches(t, beta2, math.nextafter(right, 0.0))
    assert not reaches(t, beta2, math.nextafter(right, math.inf))


def test_r_is_zero_where_rounding_lifts_rho_to_four() -> None:
    found = 0
    for t in range(5, 30):
        low, high = 0.6, 0.8
        while math.nextafter(low, 1) < high:
            middle = (low + high) / 2
            low, high = (middle, high) if exact(t, middle)[0] < 4 else (low, middle)
        for beta2 in (low, high):
            if rho_t(t, beta2) == 4.0 and rho_inf(beta2) > 4:
                found += 1
                assert r_t(t, beta2) == 0.0
    assert found > 0


def test_first_steps_are_remembered() -> None:
    """The search takes microseconds, and happens at every step of every group."""
    before = first_adaptive_step.cache_info().hits
    first_adaptive_step(0.998, 5.0)
    first_adaptive_step(0.998, 5.0)
    assert first_adaptive_step.cache_info().hits > before


def naive(t: int, beta2: float) -> float:
    return 2 / (1 - beta2) - 1 - 2 * t * beta2**t / (1 - beta2**t)


@pytest.mark.parametrize(
    ("beta2", "threshold", "wrong"), [(1 - 1e-6, 4.0, 4), (1 - 1e-12, 4.0, 3), (1 - 1e-12, 5.0, 3)]
)
def test_the_formula_with_cancellation_fails_the_table(beta2: float, threshold: float, wrong: int) -> None:
    assert first_step(naive, beta2, threshold) == wrong
    with pytest.raises(AssertionError):
        check(wrong, beta2, naive(wrong, beta2), rho_inf(beta2), bias_correction(wrong, beta2))


# The exact rectification

GOLDEN = (3 - math.sqrt(5)) / 2
"""Above it the third step has a variance: the root of 1 - 3b + b^2."""
EXACT_CORNERS = (*CORNERS, 1 / 3, math.nextafter(1 / 3, 1), 0.335, 0.35, 0.38, GOLDEN, math.nextafter(GOLDEN, 1), 0.4)
exact_betas = st.one_of(betas, st.floats(0.3, 0.45), st.sampled_from(EXACT_CORNERS))


def exactly_rectified(t: int, beta: float) -> tuple[Any, Any]:
    """n_t and r_t by their formulas; of 120 digits the differences take 64 at most."""
    with mpmath.workdps(120):
        b = mpmath.mpf(beta)
        limit = (1 + b) / (1 - b)
        n = limit * (1 - b**t) / (1 + b**t)
        if not (n > 2 and limit > 2):
            return n, None

        def variance(n: Any) -> Any:
            x = n / 2
            return x / (x - 1) - x * mpmath.exp(2 * (mpmath.loggamma(x - 0.5) - mpmath.loggamma(x)))

        return n, mpmath.sqrt(variance(limit) / variance(n))


@given(t=steps, beta=exact_betas)
def test_n_eff(t: int, beta: float) -> None:
    n, _ = exactly_rectified(t, beta)
    assert abs(n_eff(t, beta) - n) <= 12 * U * n


@given(late=st.one_of(st.integers(0, 5), st.integers(0, 10**4), st.integers(0, 10**6)), beta=exact_betas)
def test_exact_r_t(late: int, beta: float) -> None:
    first = first_exact_step(beta)
    if first is None:
        with pytest.raises(ValueError, match="does not exist"):
            exact_r_t(1000, beta)
        return
    n, r = exactly_rectified(first + late, beta)
    room = float((n - 2) / n)
    seen = exact_r_t(first + late, beta)
    # Where n_t - 2 is rounding only, r_t is a number between its neighbours 0 and 1.
    assert 0 <= seen <= 1
    if room > 64 * U:
        # The bound of reference's scalar_error: an error of n_t counts by n_t/(n_t - 2) in the root.
        assert abs(seen - r) <= (80 + 20 / room) * U * r


@pytest.mark.parametrize("beta", EXACT_CORNERS)
def test_the_first_exact_step_is_the_first_with_a_variance(beta: float) -> None:
    first = first_exact_step(beta)
    assert first == reference.first_exact_step(beta)
    for t in range(1, 60):
        n, r = exactly_rectified(t, beta)
        assert (first is not None and t >= first) == (n > 2 and r is not None), t


def test_the_third_step_has_a_variance_above_the_golden_number() -> None:
    """At the float64 numbers on either side of the root."""
    below = GOLDEN
    while first_exact_step(below) == 3:
        below = math.nextafter(below, 0)
    while first_exact_step(math.nextafter(below, 1)) != 3:
        below = math.nextafter(below, 1)
    with mpmath.workdps(40):
        root = (3 - mpmath.sqrt(5)) / 2
        assert below < root < math.nextafter(below, 1)
    assert (first_exact_step(below), first_exact_step(1 / 3), first_exact_step(0.25)) == (4, None, None)


@given(beta=exact_betas, several=st.lists(st.integers(1, 10**5), min_size=1, max_size=5))
def test_the_exact_rectification_of_tensors_is_that_of_numbers(beta: float, several: list[int]) -> None:
    t = torch.tensor(several, dtype=torch.float64)
    first = first_exact_step(beta)
    for i, step in enumerate(several):
        assert abs(float(n_eff(t, beta)[i]) - n_eff(step, beta)) <= 24 * U * n_eff(step, beta)
        if first is not None and step >= first:
            room = (n_eff(step, beta) - 2) / n_eff(step, beta)
            if room > 64 * U:
                assert abs(float(exact_r_t(t, beta)[i]) - exact_r_t(step, beta)) <= (160 + 40 / room) * U


@pytest.mark.parametrize(("t", "beta"), [(3, 0.38196601125010515), (6, 0.3345796886899506), (13, 0.3333338908790951)])
def test_the_exact_rectification_where_rounding_takes_n_to_two(t: int, beta: float) -> None:
    """Its first step, in rationals: a step of no size, and no error."""
    assert first_exact_step(beta) == t
    assert n_eff(t, beta) < 2
    assert exact_r_t(t, beta) == 0
    assert float(exact_r_t(torch.tensor(float(t), dtype=torch.float64), beta)) == 0


def test_the_exact_rectification_does_not_exceed_one() -> None:
    """Where rounding takes the ratio of the variances above it."""
    t, beta = 80, 0.342090161874136
    assert exact_r_t(t, beta) == 1
    assert float(exact_r_t(torch.tensor(float(t), dtype=torch.float64), beta)) == 1


def test_a_third_is_refused_though_rounding_takes_n_to_two() -> None:
    with pytest.raises(ValueError, match="exact_r_t does not exist at t=1000"):
        exact_r_t(1000, 1 / 3)


def test_the_exact_rectification_refuses_by_name() -> None:
    with pytest.raises(ValueError, match=r"exact_r_t does not exist at t=2, beta2=0.999: n_t=.* above 2"):
        exact_r_t(2, 0.999)


def test_the_paper_takes_smaller_steps() -> None:
    """r_t of the paper is below the exact one, and both go to 1."""
    for beta in (0.9, 0.99, 0.999):
        assert all(r_t(t, beta) < exact_r_t(t, beta) < 1 for t in range(6, 200))
        assert 1 - exact_r_t(10**6, beta) <= 1e-15
