"""Adamax, NAdam, RMSprop, Adagrad, Adadelta and ASGD: rounding, sums over the history, values by hand, conventions."""

from __future__ import annotations

import inspect
import math
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from radam.audit.bounds import PRECISIONS, Tracked, scalar
from reference import ASGD, Adadelta, Adagrad, Adamax, NAdam, RMSprop
from reference.optimizers import ScalarError
from tests.reference.data import SIZE, STEPS, arrays, to_mpf
from tests.reference.documented import U, correction_error, factor
from tests.reference.running import GRADIENTS, P0, assert_another_goes_on, run

CLASSES = (Adamax, NAdam, RMSprop, Adagrad, Adadelta, ASGD)

_SHARED: dict[str, st.SearchStrategy[Any]] = {
    "lr": st.one_of(st.sampled_from([0.0, 1.0]), st.floats(1e-4, 1.0)),
    "weight_decay": st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    "maximize": st.booleans(),
}
_EPS = {"eps": st.sampled_from([1e-8, 1e-3, 1.0])}
_RATE = st.one_of(st.sampled_from([0.0, 0.5, 0.9, 0.999]), st.floats(0.0, 0.999))
_BETAS = {"betas": st.tuples(_RATE, _RATE)}
HYPERPARAMETERS: dict[type, st.SearchStrategy[dict[str, Any]]] = {
    cls: st.fixed_dictionaries({**_SHARED, **own})
    for cls, own in {
        Adamax: {**_EPS, **_BETAS},
        NAdam: {
            **_EPS,
            **_BETAS,
            "momentum_decay": st.one_of(st.sampled_from([0.0, 4e-3, 50.0]), st.floats(0.0, 2.0)),
            "weight_decouple": st.booleans(),
        },
        RMSprop: {
            **_EPS,
            "alpha": _RATE,
            "momentum": st.sampled_from([0.0, 0.5, 0.9]),
            # Centered, the root may lose all digits, and no bound is left: see `test_rmsprop_is_its_definition`.
            "centered": st.just(False),
        },
        Adagrad: {
            **_EPS,
            "lr_decay": st.sampled_from([0.0, 0.1, 3.0]),
            "initial_accumulator_value": st.sampled_from([0.0, 0.1]),
        },
        Adadelta: {**_EPS, "rho": _RATE},
        ASGD: {
            "lambd": st.sampled_from([0.0, 1e-4, 0.5]),
            "alpha": st.sampled_from([0.75, 0.0, 1.0]),
            "t0": st.sampled_from([1e6, 0.0, 3.5]),
        },
    }.items()
}
each_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


# -- float64 against the same lines in arbitrary precision, within the bound of its own rounding and of its scalars


@each_class
@settings(deadline=None, max_examples=40)
@given(data=st.data(), p0=arrays(SIZE), gradients=arrays(STEPS, SIZE))
def test_rounding(cls: Any, data: st.DataObject, p0: Any, gradients: Any) -> None:
    hyperparameters = data.draw(HYPERPARAMETERS[cls])
    tracked = cls(**hyperparameters)
    tracked.begin(p0)
    for symbol in ("m", "v", "s"):
        setattr(tracked, symbol, Tracked(np.zeros(SIZE), k=1) + getattr(tracked, symbol))
    tracked.scalar = lambda value, error: scalar(value, error, PRECISIONS["float64"], 1)
    # Constants such as 1 - b1 take two roundings before they meet an array, and enter by one: k = 2.
    params = run(tracked, Tracked(p0, k=2), [Tracked(g, k=2) for g in gradients])
    plain = run(cls(**hyperparameters), p0, gradients)
    with mpmath.workprec(300):
        exact = run(cls(**to_mpf(hyperparameters)), to_mpf(p0), to_mpf(gradients))
    for t, (x, y, z) in enumerate(zip(params, plain, exact, strict=True), start=1):
        assert np.array_equal(x.value, y), "the tracking array changes no value"
        distance = np.abs((z - y).astype(np.float64))
        assert np.all(distance <= x.error + 1e-300), f"step {t}: {y}, but should be {z} within {x.error}"


@settings(deadline=None, max_examples=60)
@given(t=st.integers(1, 10**6), psi=st.one_of(st.sampled_from([0.0, 4e-3, 1.0]), st.floats(0.0, 10.0)), b1=_RATE)
def test_mu_is_within_its_error(t: int, psi: float, b1: float) -> None:
    """By `pow`, by exp and log, and with the exponent of the step before: half the bound, the other half is mu()'s."""
    oracle = NAdam(betas=(b1, 0.999), momentum_decay=psi)
    with mpmath.workprec(300):
        exact = mpmath.mpf(b1) * (1 - (mpmath.mpf(96) / 100) ** (t * mpmath.mpf(psi)) / 2)
        for computed in (
            oracle.mu(t),
            b1 * (1.0 - 0.5 * math.exp(t * psi * math.log(0.96))),
            b1 * (1.0 - 0.5 * 0.96 ** ((t - 1) * psi + psi)),
        ):
            assert abs(computed - exact) <= oracle.mu_error(t) / 2 * exact + 5e-324


@settings(deadline=None, max_examples=60)
@given(
    t=st.integers(1, 10**6),
    lr=st.floats(1e-6, 10.0),
    decay=st.one_of(st.sampled_from([0.0, 1e-4]), st.floats(0.0, 10.0)),
    alpha=st.sampled_from([0.75, 1.0, 0.5, 0.0]),
)
def test_fading_rates_are_within_their_errors(t: int, lr: float, decay: float, alpha: float) -> None:
    """Half the bound, the other half is the class's own."""
    with mpmath.workprec(300):
        x, y, a = mpmath.mpf(lr), mpmath.mpf(decay), mpmath.mpf(alpha)
        size = x / (1 + (t - 1) * y)
        assert abs(lr / (1 + (t - 1) * decay) - size) <= Adagrad(lr=lr, lr_decay=decay).scalar_error(t).size / 2 * size
        v = x / (1 + y * x * t) ** a
        error = ASGD(lr=lr, lambd=decay, alpha=alpha).scalar_error(t).size / 2
        for computed in (
            lr / (1 + decay * lr * t) ** alpha,
            lr / math.exp(alpha * math.log(1 + decay * (lr * t))),
        ):
            assert abs(computed - v) <= error * v


@pytest.mark.parametrize("scalars", ["textbook", "exact"])
def test_the_bounds_are_those_of_the_docstrings(scalars: Any) -> None:
    """Evaluated in float64 by at most 64 roundings of positive terms."""

    def same(found: ScalarError, **right: Any) -> None:
        assert found.decided
        for name in ("size", "eps", "rho", "bc2"):
            expected = right.get(name, 0)
            assert abs(getattr(found, name) - expected) <= 64 * U * expected, name

    with mpmath.workprec(300):
        for t in (1, 7, 400):
            same(RMSprop().scalar_error(t, scalars))
            same(Adadelta().scalar_error(t, scalars))
            same(Adagrad(lr_decay=0.1).scalar_error(t, scalars), size=mpmath.expm1(6 * factor(U)))
            for rate, other in ((0.9, 0.0), (0.0, 0.5), (0.99, 0.999)):
                error = factor(correction_error(t, rate, scalars))
                adamax = Adamax(betas=(rate, other)).scalar_error(t, scalars)
                same(adamax, size=mpmath.expm1(error + 3 * U))
                same(NAdam(betas=(other, rate)).scalar_error(t, scalars), bc2=mpmath.expm1(error))
            for psi in (0.0, 4e-3, 0.5):
                x, exponent = mpmath.mpf(96) / 100, t * mpmath.mpf(psi)
                a, x = -mpmath.log(x), x**exponent
                d_x = (4 + 5 * exponent * a + exponent) * U * x
                d_mu = d_x / 2 + U * (1 - x / 2) + U * (1 - x / 2)
                bound = 8 * U if scalars == "exact" else 2 * d_mu / (1 - x / 2)
                assert abs(NAdam(momentum_decay=psi).mu_error(t, scalars) - bound) <= 64 * U * bound
            for lr, lambd, alpha in ((0.01, 1e-4, 0.75), (0.5, 2.0, -0.5), (1.0, 0.0, 1.0)):
                log_z = mpmath.log(1 + mpmath.mpf(lambd) * mpmath.mpf(lr) * t)
                error = abs(mpmath.mpf(alpha)) * (3 * U + 3 * U * log_z) + 4 * U + U
                asgd = ASGD(lr=lr, lambd=lambd, alpha=alpha).scalar_error(t, scalars)
                same(asgd, size=mpmath.expm1(2 * factor(error)))


# -- the definitions, as sums and products over the whole history, without a recurrence


def exact(values: Any) -> Any:
    return np.vectorize(Fraction, otypes=[object])(values)


def weighted(gradients: Any, rate: Fraction, power: int) -> Any:
    """The sum of (1 - b) b^lag g^power."""
    t = len(gradients)
    return sum((1 - rate) * rate ** (t - 1 - i) * g**power for i, g in enumerate(gradients))


def root(value: Any) -> Any:
    return np.vectorize(lambda x: mpmath.sqrt(mpmath.mpf(x.numerator) / x.denominator), otypes=[object])(value)


def mpf(value: Any) -> Any:
    return np.vectorize(lambda x: mpmath.mpf(x.numerator) / x.denominator, otypes=[object])(value)


def adamax_step(g: Any, lr: Any, b1: Fraction, b2: Fraction, eps: Fraction) -> Any:
    """Kingma & Ba 2015, equation 12: u_t = max over i of b2^(t-i) |g_i|, here with eps."""
    t = len(g)
    u = np.max(np.array([b2 ** (t - 1 - i) * (abs(x) + eps) for i, x in enumerate(g)]), axis=0)
    return mpf(lr * weighted(g, b1, 1) / (1 - b1**t) / u)


def rmsprop_steps(g: Any, alpha: Fraction, eps: Fraction, centered: bool) -> list[Any]:
    """g / (sqrt(variance) + eps) for each step; the variance as a mean of squared distances, weights w_i = (1-a) a^lag:

    v - m^2 = sum w_i (g_i - m)^2 + (1 - sum w_i) m^2,  which cannot be negative.
    """
    directions = []
    for t in range(1, len(g) + 1):
        weights = [(1 - alpha) * alpha ** (t - 1 - i) for i in range(t)]
        if centered:
            m = sum(w * x for w, x in zip(weights, g, strict=False))
            variance = sum(w * (x - m) ** 2 for w, x in zip(weights, g, strict=False)) + (1 - sum(weights)) * m**2
        else:
            variance = weighted(g[:t], alpha, 2)
        directions.append(mpf(g[t - 1]) / (root(variance) + mpmath.mpf(eps.numerator) / eps.denominator))
    return directions


def close(seen: Any, expected: Any) -> bool:
    return bool(np.all(np.abs(np.asarray(seen - expected, dtype=np.float64)) <= 1e-12))


FRACTIONS = exact(np.round(GRADIENTS * 64) / 64)
FLOATS = FRACTIONS.astype(np.float64)


def test_adamax_is_its_definition() -> None:
    oracle = Adamax(lr=0.25, betas=(0.75, 0.5), eps=0.125)
    p, before = P0, P0
    for t, g in enumerate(FLOATS, start=1):
        p, before = oracle.step(p, g), p
        step = adamax_step(FRACTIONS[:t], Fraction(1, 4), Fraction(3, 4), Fraction(1, 2), Fraction(1, 8))
        assert close(before - p, step)


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 1.0])
def test_rmsprop_is_its_definition(centered: bool, momentum: float) -> None:
    oracle = RMSprop(lr=0.25, alpha=0.75, eps=0.125, centered=centered, momentum=momentum)
    directions = rmsprop_steps(FRACTIONS, Fraction(3, 4), Fraction(1, 8), centered)
    p, before = P0, P0
    for t, g in enumerate(FLOATS):
        p, before = oracle.step(p, g), p
        assert close(before - p, sum(0.25 * momentum ** (t - i) * directions[i] for i in range(t + 1)))
        if centered:
            assert close(oracle.m, weighted(FRACTIONS[: t + 1], Fraction(3, 4), 1).astype(np.float64))


def test_adagrad_is_its_definition() -> None:
    oracle = Adagrad(lr=0.5, lr_decay=0.25, initial_accumulator_value=0.125, eps=0.125)
    p, before = P0, P0
    for t, g in enumerate(FLOATS, start=1):
        p, before = oracle.step(p, g), p
        total = sum(FRACTIONS[:t] ** 2) + Fraction(1, 8)
        size = Fraction(1, 2) / (1 + Fraction(t - 1, 4))
        assert close(before - p, mpf(size * FRACTIONS[t - 1]) / (root(total) + 0.125))


def test_adadelta_is_its_definition() -> None:
    """RMS[dx]_(t-1) / RMS[g]_t g_t, each mean square summed over its history."""
    oracle = Adadelta(lr=0.5, rho=0.75, eps=0.125)
    p, before, deltas = P0, P0, []
    for t, g in enumerate(FLOATS, start=1):
        p, before = oracle.step(p, g), p
        past = sum(0.25 * 0.75 ** (t - 2 - i) * d**2 for i, d in enumerate(deltas))
        ratio = (past + mpmath.mpf(1) / 8) / (mpf(weighted(FRACTIONS[:t], Fraction(3, 4), 2)) + mpmath.mpf(1) / 8)
        deltas.append(np.vectorize(mpmath.sqrt, otypes=[object])(ratio) * mpf(FRACTIONS[t - 1]))
        assert close(before - p, 0.5 * deltas[-1])


def test_nadam_is_its_definition() -> None:
    oracle = NAdam(lr=0.5, betas=(0.75, 0.5), eps=0.125, momentum_decay=0.5)
    mu = [None, *(mpmath.mpf(3) / 4 * (1 - mpmath.mpf("0.96") ** (i / 2) / 2) for i in range(1, STEPS + 2))]
    p, before = P0, P0
    for t, g in enumerate(FLOATS, start=1):
        p, before = oracle.step(p, g), p
        m, v = (weighted(FRACTIONS[:t], rate, n) for rate, n in ((Fraction(3, 4), 1), (Fraction(1, 2), 2)))
        mean = mu[t + 1] * mpf(m) / (1 - mpmath.fprod(mu[1 : t + 2]))
        mean = mean + (1 - mu[t]) * mpf(FRACTIONS[t - 1]) / (1 - mpmath.fprod(mu[1 : t + 1]))
        assert close(before - p, 0.5 * mean / (root(v / (1 - Fraction(1, 2) ** t)) + 0.125))
        assert close(oracle.s, float(mpmath.fprod(mu[1 : t + 1])))


def test_asgd_is_its_definition() -> None:
    """With lambd = 0 the steps are the sum of the gradients, and m is the mean of the parameters after step t0 + 1."""
    oracle = ASGD(lr=0.5, lambd=0.0, t0=3)
    params = run(oracle, P0, FLOATS)
    for t, p in enumerate(params, start=1):
        assert close(p, P0 - 0.5 * FLOATS[:t].sum(axis=0))
    # s_t = 1/max(1, t - 1 - t0): steps 4 and 5 both take the parameter itself, so the mean is of steps 5 on.
    assert close(oracle.m, np.mean(params[4:], axis=0))


def test_the_average_of_asgd_is_the_parameter_at_first() -> None:
    oracle = ASGD(lr=0.5, t0=2)
    oracle.begin(P0)
    assert (set(oracle.v), set(oracle.s)) == ({0.5}, {1.0})
    p = P0
    for g in GRADIENTS[:3]:
        p = oracle.step(p, g)
        assert close(oracle.m, p)


def test_asgd_fades() -> None:
    """Step t is taken with lr / (1 + lambd lr (t-1))^alpha."""
    oracle = ASGD(lr=0.5, lambd=0.5, alpha=0.5, maximize=False)
    p = P0
    for t, g in enumerate(FLOATS, start=1):
        v = 0.5 / math.sqrt(1 + 0.25 * (t - 1))
        expected = p * (1 - 0.5 * v) - v * g
        p = oracle.step(p, g)
        assert close(p, expected)


# -- values by hand


def test_by_hand() -> None:
    p, g = np.array([1.0]), np.array([2.0])
    assert Adamax(lr=0.5, eps=2.0).step(p, g) == pytest.approx(1 - 0.5 * 2 / 4)
    assert RMSprop(lr=0.5, alpha=0.75, eps=1.0).step(p, g) == 1 - 0.5 * 2 / (1 + 1)
    assert RMSprop(lr=0.5, alpha=0.5, eps=1.0, centered=True).step(p, g) == 1 - 0.5 * 2 / (math.sqrt(2 - 1) + 1)
    assert Adagrad(lr=0.5, eps=2.0, lr_decay=7.0).step(p, g) == 1 - 0.5 * 2 / (2 + 2), "no decay in the first step"
    assert Adagrad(lr=0.5, eps=0.0, initial_accumulator_value=5.0).step(p, g) == pytest.approx(1 - 0.5 * 2 / 3)
    assert Adadelta(rho=0.0, eps=5.0).step(p, g) == pytest.approx(1 - math.sqrt(5) / 3 * 2)
    assert ASGD(lr=0.25, lambd=1.0).step(p, g) == 1 - 0.25 * 3


def test_momentum_of_rmsprop_is_outside_the_learning_rate() -> None:
    oracle = RMSprop(lr=0.5, alpha=1.0, eps=1.0, momentum=0.5)  # v stays 0: directions are gradients
    p = oracle.step(np.array([0.0]), np.array([2.0]))
    assert p == -1.0
    oracle.lr = 0.25
    assert oracle.step(p, np.array([2.0])) == -1.0 - 0.25 * 3


def test_a_variance_that_rounding_makes_negative_is_zero() -> None:
    oracle = RMSprop(lr=1.0, eps=1.0, centered=True)
    oracle.t, oracle.m, oracle.v = 5, np.array([1.0]), np.array([1 - 2.0**-53])
    assert oracle.apply(np.array([0.0]), np.array([2.0])) == -2.0


# -- conventions


BASE: dict[str, Any] = {"lr": 0.01}


@pytest.mark.parametrize(
    ("cls", "base", "change", "step"),
    [
        (Adamax, BASE, {"eps": 1e-3}, 1),
        (Adamax, BASE, {"betas": (0.9, 0.5)}, 2),
        (Adamax, BASE, {"betas": (0.5, 0.999)}, 2),
        (NAdam, BASE, {"momentum_decay": 0.1}, 1),
        (NAdam, BASE, {"eps": 1e-3}, 1),
        (NAdam, {**BASE, "weight_decay": 0.1}, {"weight_decouple": True}, 1),
        (NAdam, BASE, {"weight_decouple": True}, None),
        (RMSprop, BASE, {"centered": True}, 1),
        (RMSprop, BASE, {"momentum": 0.5}, 2),
        (RMSprop, BASE, {"alpha": 0.9}, 1),
        (Adagrad, BASE, {"lr_decay": 0.1}, 2),
        (Adagrad, BASE, {"initial_accumulator_value": 0.1}, 1),
        (Adadelta, BASE, {"rho": 0.5}, 1),
        (ASGD, BASE, {"lambd": 0.1}, 1),
        (ASGD, {**BASE, "lambd": 0.1}, {"alpha": 0.5}, 2),
        (ASGD, BASE, {"alpha": 0.5, "lambd": 0.0}, 1),
        (ASGD, {**BASE, "lambd": 0.0}, {"alpha": 0.5}, None),
        (ASGD, BASE, {"t0": 1}, None),
        *((cls, BASE, {"weight_decay": 0.1}, 1) for cls in CLASSES),
        *((cls, BASE, {"maximize": True}, 1) for cls in CLASSES),
    ],
    ids=lambda x: repr(x) if isinstance(x, dict) else getattr(x, "__name__", str(x)),
)
def test_convention(cls: Any, base: dict[str, Any], change: dict[str, Any], step: int | None) -> None:
    pairs = zip(run(cls(**base)), run(cls(**{**base, **change})), strict=True)
    assert next((t for t, (x, y) in enumerate(pairs, start=1) if not np.array_equal(x, y)), None) == step


@each_class
def test_maximize_is_the_opposite_gradient_and_decay_still_shrinks(cls: Any) -> None:
    options = {"lr": 0.01, "weight_decay": 0.1}
    assert np.array_equal(run(cls(**options), P0, -GRADIENTS), run(cls(**options, maximize=True)))
    for maximize in (False, True):
        last = run(cls(**options, maximize=maximize), P0, np.zeros((3, SIZE)))[-1]
        assert np.all(np.abs(last) < np.abs(P0))


DEFAULTS: dict[type, dict[str, Any]] = {
    Adamax: {"lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-8},
    NAdam: {"lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-8, "momentum_decay": 4e-3, "weight_decouple": False},
    RMSprop: {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "momentum": 0.0, "centered": False},
    Adagrad: {"lr": 1e-2, "lr_decay": 0.0, "initial_accumulator_value": 0.0, "eps": 1e-10},
    Adadelta: {"lr": 1.0, "rho": 0.9, "eps": 1e-6},
    ASGD: {"lr": 1e-2, "lambd": 1e-4, "alpha": 0.75, "t0": 1e6},
}


@each_class
def test_defaults(cls: type) -> None:
    parameters = inspect.signature(cls).parameters.values()
    expected = {**DEFAULTS[cls], "weight_decay": 0.0, "maximize": False}
    assert {x.name: x.default for x in parameters if x.kind is x.KEYWORD_ONLY} == expected


NONNEGATIVE: dict[type, tuple[str, ...]] = {
    Adamax: ("lr", "eps", "weight_decay"),
    NAdam: ("lr", "eps", "weight_decay", "momentum_decay"),
    RMSprop: ("lr", "eps", "weight_decay", "momentum"),
    Adagrad: ("lr", "eps", "weight_decay", "lr_decay", "initial_accumulator_value"),
    Adadelta: ("lr", "eps", "weight_decay"),
    ASGD: ("lr", "weight_decay", "lambd"),
}


@each_class
def test_what_is_not_negative_may_be_zero(cls: Any) -> None:
    for name in NONNEGATIVE[cls]:
        cls(**{name: 0.0})
        for value in (-0.5, -1e-300, math.nan):
            with pytest.raises(ValueError, match=f"^{name} must be >= 0, but is {value}$"):
                cls(**{name: value})


@pytest.mark.parametrize(("cls", "name"), [(RMSprop, "alpha"), (Adadelta, "rho")])
def test_rates_that_may_be_one(cls: Any, name: str) -> None:
    for value in (0.0, 1.0):
        cls(**{name: value})
    for value in (-0.5, 1.0 + 2**-52, 1.5, math.nan):
        with pytest.raises(ValueError, match=rf"^{name} must be in \[0, 1\], but is {value}$"):
            cls(**{name: value})


@pytest.mark.parametrize("cls", [Adamax, NAdam])
@pytest.mark.parametrize("index", [0, 1])
def test_rates_below_one(cls: Any, index: int) -> None:
    cls(betas=(0.0, 0.0))
    for value in (-0.5, 1.0, 1.5, math.nan):
        betas = [0.5, 0.5]
        betas[index] = value
        with pytest.raises(ValueError, match=rf"^betas\[{index}\] must be in \[0, 1\), but is {value}$"):
            cls(betas=tuple(betas))


# -- the protocol


@each_class
def test_what_begins_is_what_none_means(cls: Any) -> None:
    begun = cls()
    begun.begin(P0)
    assert all(np.shape(state) == P0.shape for state in (begun.m, begun.v, begun.s))
    assert all(np.array_equal(x, y) for x, y in zip(run(begun), run(cls()), strict=True))
    begun.begin(P0)
    assert all(np.array_equal(x, y) for x, y in zip(run(begun), run(cls()), strict=True)), "begin begins anew"


@each_class
def test_it_counts_and_has_the_state_that_it_needs(cls: Any) -> None:
    needed = {Adamax: "mv", NAdam: "mvs", RMSprop: "v", Adagrad: "v", Adadelta: "vs", ASGD: "mvs"}[cls]
    oracle = cls()
    run(oracle)
    assert oracle.t == STEPS
    assert "".join(symbol for symbol in "mvs" if getattr(oracle, symbol) is not None) == needed


@pytest.mark.parametrize(
    "oracle",
    [Adamax(), NAdam(), NAdam(weight_decouple=True), RMSprop(), Adagrad(), Adadelta()],
    ids=lambda oracle: type(oracle).__name__,
)
def test_no_decay_takes_nothing_of_the_parameter(oracle: Any) -> None:
    """0 times infinity would be NaN."""
    assert oracle.step(np.array([np.inf]), np.ones(1)) == np.inf


def test_the_hook_sees_every_scalar() -> None:
    def seen(oracle: Any, scalars: str) -> list[tuple[float, float]]:
        found: list[tuple[float, float]] = []
        oracle.scalars, oracle.scalar = scalars, lambda value, error: found.append((value, error)) or value
        oracle.t, oracle.v = 6, np.ones(SIZE)
        oracle.step(P0, GRADIENTS[0])
        return found

    for scalars in ("textbook", "exact"):
        for oracle in (Adamax(), Adagrad(lr_decay=0.1)):
            assert [error for _, error in seen(oracle, scalars)] == [oracle.scalar_error(7, scalars).size]
        asgd = ASGD(t0=3)
        assert [error for _, error in seen(asgd, scalars)] == [asgd.scalar_error(7, scalars).size, 4 * 2.0**-53]
        assert [seen(oracle, scalars) for oracle in (RMSprop(), Adadelta())] == [[], []]
        nadam = NAdam(momentum_decay=2.0)
        mu, later = nadam.mu(7), nadam.mu(8)
        error, later_error = nadam.mu_error(7, scalars), nadam.mu_error(8, scalars)
        values, errors = zip(*seen(nadam, scalars), strict=True)
        assert values[:3] == (mu, 1 - mu, later)
        # An error of mu is one of 1 - mu, which is rounded once more.
        rest = mu * error / (1 - mu) + 2.0**-53
        assert errors == (error, pytest.approx(rest, rel=1e-12, abs=0), later_error, nadam.scalar_error(7, scalars).bc2)


@each_class
@settings(deadline=None, max_examples=20)
@given(data=st.data(), split=st.integers(1, STEPS - 1))
def test_state_that_is_taken_over_continues_bit_for_bit(cls: Any, data: st.DataObject, split: int) -> None:
    hyperparameters = data.draw(HYPERPARAMETERS[cls])
    assert_another_goes_on(lambda: cls(**hyperparameters), split)


@each_class
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_inputs_are_never_modified(cls: Any, data: st.DataObject) -> None:
    oracle = cls(**data.draw(HYPERPARAMETERS[cls]))
    p, g = P0.copy(), GRADIENTS.copy()
    p.flags.writeable = g.flags.writeable = False
    for x in g:
        before = [None if y is None else (y, y.copy()) for y in (oracle.m, oracle.v, oracle.s)]
        p = oracle.step(p, x)
        p.flags.writeable = False
        assert all(state is None or np.array_equal(*state) for state in before)
        assert not any(np.shares_memory(y, x) for y in (oracle.m, oracle.v, oracle.s) if y is not None)


@each_class
def test_mpf_arrays_stay_mpf(cls: Any) -> None:
    with mpmath.workprec(200):
        oracle = cls(**to_mpf({"lr": 0.1}))
        p = run(oracle, to_mpf(P0), to_mpf(GRADIENTS))[-1]
        assert all(isinstance(x, mpmath.mpf) for x in p)


# -- torch's own, in float64: each side is off by its own rounding at most


@each_class
@settings(deadline=None, max_examples=20)
@given(data=st.data(), p0=arrays(SIZE), gradients=arrays(STEPS, SIZE))
def test_is_torchs(cls: Any, data: st.DataObject, p0: Any, gradients: Any) -> None:
    """NAdam and ASGD keep scalars in the default dtype, which must be float64 for that."""
    torch = pytest.importorskip("torch")
    hyperparameters = data.draw(HYPERPARAMETERS[cls])
    # torch's lerp takes 1 - b as a weight: below 1/2 its error is no longer one of b (`with_lerp_room`).
    assume(not 0 < hyperparameters.get("betas", (0,))[0] < 0.5)
    oracle = cls(**hyperparameters)
    oracle.begin(p0)
    for symbol in ("m", "v", "s"):
        setattr(oracle, symbol, Tracked(np.zeros(SIZE)) + getattr(oracle, symbol))
    oracle.scalar = lambda value, error: scalar(value, error, PRECISIONS["float64"])
    expected = run(oracle, Tracked(p0), [Tracked(g) for g in gradients])
    own = {("decoupled_weight_decay" if name == "weight_decouple" else name): x for name, x in hyperparameters.items()}
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        p = torch.nn.Parameter(torch.tensor(p0))
        optimizer = getattr(torch.optim, cls.__name__)([p], **own)
        for g, x in zip(gradients, expected, strict=True):
            p.grad = torch.tensor(g)
            optimizer.step()
            assert np.all(np.abs(p.detach().numpy() - x.value) <= x.error)
    finally:
        torch.set_default_dtype(default)
