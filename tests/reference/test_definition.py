"""The recurrences against the defining sums: two oracles that share no code."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference.optimizers
from reference import Adam, RAdam, adam, bias_correction, exact_r_t, first_order_variance, psi, radam, sigma
from reference.definition import _sma_length, _variance_of_psi, _weights
from tests.reference.data import SIZE, STEPS, adam_hyperparameters, arrays, radam_hyperparameters, to_mpf
from tests.reference.running_error import Tracked, U, track_scalars


def run(oracle: Any, param: Any, gradients: Any) -> list[Any]:
    params = []
    for g in gradients:
        param = oracle.step(param, g)
        params.append(param)
    return params


# 300 bits carry both computations: of the agreement to 60 digits that is asked, 100 bits are room for the conditioning.
BITS, DIGITS = 300, 60


def assert_same_function(cls: Any, definition: Any, hyperparameters: dict[str, Any], p0: Any, gradients: Any) -> None:
    with mpmath.workprec(BITS):
        exact = to_mpf(hyperparameters)
        recurrence = run(cls(**exact), to_mpf(p0), to_mpf(gradients))
        sums = definition(to_mpf(p0), to_mpf(gradients), **exact)
        for t, (x, y) in enumerate(zip(recurrence, sums, strict=True), start=1):
            assert all(abs(a - b) <= (1 + abs(a)) * mpmath.mpf(10) ** -DIGITS for a, b in zip(x, y, strict=True)), (
                f"step {t}: {x} by the recurrences, but {y} by the defining sums"
            )


@settings(deadline=None, max_examples=60)
@given(hyperparameters=radam_hyperparameters, p0=arrays(SIZE), gradients=arrays(STEPS, SIZE))
def test_radam_is_its_definition(hyperparameters: dict[str, Any], p0: Any, gradients: Any) -> None:
    assert_same_function(RAdam, radam, hyperparameters, p0, gradients)


@pytest.mark.parametrize(
    "changed",
    [
        {"betas": (0.9, 0.65), "threshold": 4.0},  # rho_inf = 4.7
        {"decay_when_skipped": False, "degenerated_to_sgd": False},
        {"decay_when_skipped": False, "degenerated_to_sgd": False, "absolute": True, "threshold": 7.0},
    ],
    ids=str,
)
def test_radam_is_its_definition_where_a_step_is_the_first_of_its_kind(changed: dict[str, Any]) -> None:
    hyperparameters = {"lr": 0.1, "betas": (0.9, 0.999), "weight_decay": 0.3, **changed}
    rng = np.random.default_rng(2)
    assert_same_function(RAdam, radam, hyperparameters, rng.normal(size=SIZE), rng.normal(size=(12, SIZE)))


@pytest.mark.parametrize(
    ("beta2", "first"), [(0.999, 3), (0.385, 3), (0.38, 4), (0.335, 6), (1 / 3, None), (0.0, None)]
)
@pytest.mark.parametrize("degenerated_to_sgd", [True, False])
def test_the_exact_rectification_in_radam(beta2: float, first: int | None, degenerated_to_sgd: bool) -> None:
    """Each step by sigma, psi and the exact r_t, where that exists: n_t > 2."""
    rng = np.random.default_rng(3)
    with mpmath.workprec(BITS):
        lr, beta1, beta2 = mpmath.mpf("0.1"), mpmath.mpf("0.9"), mpmath.mpf(beta2)
        oracle = RAdam(
            lr=lr,
            betas=(beta1, beta2),
            eps=mpmath.mpf(0),
            rectification="exact",
            degenerated_to_sgd=degenerated_to_sgd,
        )
        p, gradients = to_mpf(rng.normal(size=SIZE)), to_mpf(rng.normal(size=(12, SIZE)))
        for t, g in enumerate(gradients, start=1):
            before, p = p, oracle.step(p, g)
            step = lr * sigma(gradients[:t], beta1)
            if first is not None and t >= first:
                assert oracle.branch(t) == "adaptive"
                step = step * psi(gradients[:t], beta2) * exact_r_t(t, beta2)
            else:
                assert oracle.branch(t) == ("momentum" if degenerated_to_sgd else "hold")
                step = step if degenerated_to_sgd else 0 * step
            assert max(abs(before - p - step)) < mpmath.mpf(10) ** -DIGITS


def test_no_threshold_makes_a_step_adaptive_whose_limit_has_no_variance() -> None:
    """`RAdam` refuses a threshold below 4; the sums take any. At 24 bits rho_inf is 4 for the number nearest to 0.6."""
    with mpmath.workprec(24):
        gradients = to_mpf(np.linspace(1.0, 2.0, 12)[:, None])
        for beta2 in (mpmath.mpf("0.55"), mpmath.mpf("0.6")):
            never, low = (
                radam(to_mpf(np.ones(1)), gradients, betas=(mpmath.mpf("0.9"), beta2), threshold=threshold)
                for threshold in (mpmath.inf, mpmath.mpf(3))
            )
            assert low == never


@settings(deadline=None, max_examples=60)
@given(hyperparameters=adam_hyperparameters, p0=arrays(SIZE), gradients=arrays(STEPS, SIZE))
def test_adam_is_its_definition(hyperparameters: dict[str, Any], p0: Any, gradients: Any) -> None:
    assert_same_function(Adam, adam, hyperparameters, p0, gradients)


@settings(deadline=None, max_examples=60)
@given(
    beta1=st.one_of(
        st.just(0.0), st.floats(1e-3, 0.999)
    ),  # below, powers leave the range in which rounding is relative
    beta2=st.one_of(st.just(0.0), st.floats(1e-3, 0.9999)),
    gradients=arrays(40, SIZE),
)
def test_moments_are_sigma_and_psi_to_their_rounding(beta1: float, beta2: float, gradients: Any) -> None:
    """float64 on both sides. Let w_i be the weights, t their number.

    Recurrence: g_i is multiplied by 1-b (2 roundings), then t-i times by b, and takes part in t-i+1 sums: 2(t-i) + 3.
    Sum: b^(t-i) by pow (2), times 1-b (2), times g_i (1), t-1 sums: t + 4. Their quotient by the sum of weights, which
    needs t + 3, adds t + 4; by the reference's 1 - b^t, 2. For v, 1 for each square of g and 8 for psi's two roots,
    its quotient and psi^-2. First order; 1% for the others.
    """
    t = len(gradients)
    oracle = RAdam(betas=(beta1, beta2))
    run(oracle, np.zeros(SIZE), gradients)
    lags = np.arange(t)[::-1]
    roundings = (2 * lags + 3) + (t + 4) + (t + 4) + 2 + 10
    for beta, moment, definition, x in (
        (beta1, oracle.m, sigma(gradients, beta1), gradients),
        (beta2, oracle.v, psi(gradients, beta2) ** -2.0, gradients**2),
    ):
        weights = (1 - beta) * beta**lags
        bc = bias_correction(t, beta)
        allowed = 1.01 * U * np.tensordot(weights * roundings, np.abs(x), axes=1) / bc + 1e-300
        assert np.all(np.abs(moment / bc - definition) <= allowed)


def test_sigma_and_psi_by_hand() -> None:
    # b = 1/2: weights 1/8, 1/4, 1/2, their sum 7/8
    assert sigma([7.0, 7.0, 14.0], 0.5) == 11.0
    assert psi([0.0, 0.0, 7.0], 0.5) == pytest.approx((7 / 4 / 49) ** 0.5, rel=4 * U, abs=0)
    assert psi([0.0, 0.0], 0.5) == np.inf
    with pytest.raises(ValueError, match="beta1 must be in"):
        sigma([1.0], 1.0)
    with pytest.raises(ValueError, match="at least one gradient"):
        psi([], 0.5)
    with pytest.raises(ValueError, match="amsgrad_of"):
        radam([1.0], [[1.0]], amsgrad_of="both")


@pytest.mark.parametrize("beta", [1.0, 1.5, -0.1, math.nan])
def test_beta_outside_its_range(beta: float) -> None:
    for call in (
        lambda: sigma([1.0], beta),
        lambda: psi([1.0], beta),
        lambda: radam([1.0], [[1.0]], betas=(beta, 0.9)),
        lambda: radam([1.0], [[1.0]], betas=(0.9, beta)),
    ):
        with pytest.raises(ValueError, match=r"must be in \[0, 1\), but is"):
            call()


def test_a_number_is_no_history() -> None:
    with pytest.raises(ValueError, match="at least one gradient"):
        sigma(1.0, 0.5)


@pytest.mark.parametrize("rho", [Fraction(5), Fraction(6), Fraction(1999)])
def test_the_variance_of_psi_in_its_own_unit(rho: Fraction) -> None:
    """r_t is a ratio of two, in which a factor would not be seen."""
    assert _variance_of_psi(rho) == first_order_variance(rho) == rho / (2 * (rho - 2) * (rho - 4))


def test_a_threshold_that_is_met_is_reached_unless_it_is_strict() -> None:
    t, beta = 12, 0.8
    gradients = np.linspace(1.0, 2.0, t)[:, None]
    at = float(_sma_length(_weights(t, beta)))
    met, strict = (
        radam([0.0], gradients, lr=1.0, betas=(0.5, beta), threshold=at, strict=strict) for strict in (False, True)
    )
    assert met[:-1] == strict[:-1]
    # A momentum step moves by sigma, to a number below 32 that is rounded once; an adaptive one by r_t sigma psi < 1.
    assert strict[-2] - strict[-1] == pytest.approx(sigma(gradients, 0.5), abs=64 * U)
    assert met[-2] - met[-1] < 1


def test_other_numbers_become_float64() -> None:
    gradients = [[7], [7], [14]]
    for kind in (np.float32, np.uint8):
        values = np.array(gradients, kind)
        assert sigma(values, 0.5).dtype == psi(values, 0.5).dtype == np.float64
        assert np.array_equal(sigma(values, 0.9), sigma(np.array(gradients, float), 0.9))
        (first, *_) = radam(np.array([1], kind), values, lr=0.1, maximize=True)
        assert first.dtype == np.float64
        assert first == radam([1.0], np.array(gradients, float), lr=0.1, maximize=True)[0]


CASE: dict[str, Any] = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1, "amsgrad": True}


def disagreement(changed: dict[str, Any]) -> float:
    """Largest |float64 recurrence - defining sums of the changed problem in mpf|, in units of the running error."""
    rng = np.random.default_rng(1)
    p0, gradients = rng.normal(size=SIZE), rng.normal(size=(30, SIZE))
    oracle = RAdam(**CASE)
    track_scalars(oracle)
    tracked = run(oracle, Tracked(p0), [Tracked(g) for g in gradients])
    with mpmath.workprec(BITS):
        exact = radam(to_mpf(p0), to_mpf(gradients), **to_mpf({**CASE, **changed}))
    return max(float(np.max(np.abs(x.value - y) / x.error)) for x, y in zip(tracked, exact, strict=True))


def test_a_wrong_number_is_noticed() -> None:
    assert disagreement({}) <= 1
    assert disagreement({"betas": (0.9, 0.99 + 1e-9)}) > 100
    assert disagreement({"betas": (0.9 + 1e-9, 0.99)}) > 100
    assert disagreement({"eps": 1.1e-8}) > 100
    assert disagreement({"weight_decay": 0.1 + 1e-9}) > 100


@pytest.mark.parametrize("dropped", ["betas[0]", "betas[1]"])
def test_a_missing_bias_correction_is_noticed(monkeypatch: pytest.MonkeyPatch, dropped: str) -> None:
    skip = CASE["betas"][0 if dropped == "betas[0]" else 1]

    def wrong(t: int, beta: float) -> float:
        return 1.0 if beta == skip else bias_correction(t, beta)

    monkeypatch.setattr(reference.optimizers, "bias_correction", wrong)
    assert disagreement({}) > 1e6
