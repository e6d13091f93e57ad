"""The exact law of Adam's second moment against 40-digit quadrature, closed forms, other inversions, printed values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from reference import ema, n_eff, rho_inf, rho_t
from reference.ema import SecondMoment, psi_moments, psi_variances, r_true

INF = math.inf

betas = st.one_of(st.floats(0.3, 0.9999), st.floats(-9.0, -0.5).map(lambda e: 1 - 10.0**e))
means = st.one_of(st.just(0.0), st.floats(-10, 10))

# Equal weights, but for 2 parts in 1e12 where t <= 10000.
EQUAL = 1 - 2.0**-52


def noted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, note: Callable[..., Any]) -> list[Any]:
    """What is noted of the arguments of each call of a function from now on."""
    function, notes = getattr(owner, name), []

    def noting(*arguments: Any) -> Any:
        notes.append(note(*arguments))
        return function(*arguments)

    monkeypatch.setattr(owner, name, noting)
    return notes


def ema_weights(t: int, beta2: Any) -> list[Any]:
    powers = [mpmath.mpf(beta2) ** j for j in range(t)]
    return [power / mpmath.fsum(powers) for power in powers]


def mp_moment(s: Any, weights: list[Any], mu: Any = 0) -> Any:
    """E[Q^-s] = 2/Gamma(s) int_0^inf r^(2s-1) E[exp(-r^2 Q)] dr, by tanh-sinh quadrature; nothing is centred."""

    def integrand(r: Any) -> Any:
        factors, exponent = mpmath.mpf(1), mpmath.mpf(0)
        for w in weights:
            factor = 1 + 2 * w * r * r
            factors *= factor
            if mu:
                exponent += w * r * r / factor
        return r ** (2 * s - 1) * mpmath.exp(-mu * mu * exponent) / mpmath.sqrt(factors)

    return 2 / mpmath.gamma(s) * mpmath.quad(integrand, [0, 0.5, 1, 2, mpmath.inf])


def mp_variance(weights: list[Any], mu: Any = 0) -> Any:
    return mp_moment(mpmath.mpf(1), weights, mu) - mp_moment(mpmath.mpf(1) / 2, weights, mu) ** 2


def sma_variance(rho: Any) -> Any:
    """Var[psi] where rho Q ~ chi2(rho)."""
    with mpmath.workdps(40):
        x = mpmath.mpf(rho) / 2
        return x / (x - 1) - x * mpmath.gammaprod([x - 0.5], [x]) ** 2


def paper_r(t: Any, beta2: float) -> Any:
    """The printed formulas; in float64 they are good to 1e-9 for beta2 <= 0.9999."""
    limit = 2 / (1 - beta2) - 1
    rho = limit - 2 * t * beta2**t / (1 - beta2**t)
    return np.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))


def agrees(value: float, printed: str, units: float = 0.5) -> bool:
    """Whether `value` rounds to the printed decimals (facts/statistics.md)."""
    mantissa, _, exponent = printed.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return abs(value - float(printed)) <= units * unit * (1 + 1e-6)


CASES = [(b, t) for b in (0.5, 0.9, 0.99, 0.999) for t in (3, 5, 6, 12)] + [(0.99, 30)]
LATE = [(b, t) for b in (0.5, 0.9, 0.99, 0.999) for t in (30, 150)] + [(0.99, 500), (0.999, 2000)]


def check_against_quadrature(beta2: float, t: int, mu: float = 0.0) -> None:
    with mpmath.workdps(40):
        expected = mp_variance(ema_weights(t, beta2), mpmath.mpf(mu))
        # both are off by some units in the last place; 1e-12 is what is promised
        assert abs(SecondMoment(t, beta2, mu).psi_variance() / expected - 1) < 1e-13
        assert abs(psi_variances(t, beta2, mean=mu)[-1] / expected - 1) < 1e-12


@pytest.mark.parametrize(("beta2", "t"), CASES)
def test_variance_against_quadrature(beta2: float, t: int) -> None:
    check_against_quadrature(beta2, t)


@pytest.mark.parametrize(("beta2", "t", "mu"), [(0.5, 3, 1.0), (0.9, 5, 0.1), (0.999, 6, 10.0), (0.25, 4, 3.0)])
def test_variance_with_a_mean_against_quadrature(beta2: float, t: int, mu: float) -> None:
    check_against_quadrature(beta2, t, mu)


@pytest.mark.deep
@pytest.mark.parametrize("mu", [0.0, 0.3])
@pytest.mark.parametrize(("beta2", "t"), LATE)
def test_variance_of_later_steps_against_quadrature(beta2: float, t: int, mu: float) -> None:
    check_against_quadrature(beta2, t, mu)


def test_wrong_weights_steps_and_rates_are_noticed() -> None:
    t, beta2 = 7, 0.9
    value = SecondMoment(t, beta2).psi_variance()
    with mpmath.workdps(20):
        weights = ema_weights(t, beta2)
        assert abs(value / mp_variance(weights) - 1) < 1e-13
        for wrong in (
            ema_weights(t - 1, beta2),
            ema_weights(t + 1, beta2),
            ema_weights(t, 1 - 1.01 * (1 - beta2)),
            [*weights[:-1], 0],
            [w * (1 - mpmath.mpf(beta2) ** t) for w in weights],
            [mpmath.mpf(1) / t] * t,
        ):
            assert abs(value / mp_variance(wrong) - 1) > 1e-4  # 1e9 times the tolerance


@pytest.mark.parametrize("t", [3, 4, 10, 150, 1000, 6000])
def test_equal_weights(t: int) -> None:
    """t Q ~ chi2(t): inverse-chi moments, digamma and trigamma."""
    law = SecondMoment(t, EQUAL)
    expected = sma_variance(t)
    assert abs(law.psi_variance() / expected - 1) < 1e-13
    # t sums of one sign: at most t rounding errors, about sqrt(t) of them; 1e-10 is what is promised up to 6000
    assert abs(psi_variances(t, EQUAL)[-1] / expected - 1) < 1e-12
    x = t / 2
    assert abs(law.log_mean() - (special.digamma(x) - math.log(x))) < 1e-14 + 4e-16 * math.log(x)
    assert law.log_variance() == pytest.approx(float(special.polygamma(1, x)), rel=1e-13, abs=0)
    for power in (-x + 0.01, -1.4, -0.5, 0.7, 1.0, 1.9, 1.99):
        if abs(power) > 20:
            continue
        with mpmath.workdps(40):
            moment = mpmath.gammaprod([x + mpmath.mpf(power)], [x]) / mpmath.mpf(x) ** power
        assert law.moment(power) == pytest.approx(float(moment), rel=2e-13, abs=0), power


@pytest.mark.parametrize(("mean", "sigma"), [(0.0, 1.0), (0.0, 3.0), (0.3, 0.1), (-2.0, 5.0)])
@pytest.mark.parametrize(("beta2", "t"), [(0.9, 1), (0.9, 7), (0.3, 40), (0.999, 400)])
def test_mean_and_variance_by_their_sums(beta2: float, t: int, mean: float, sigma: float) -> None:
    """Var[g^2] = 2 sigma^4 + 4 mean^2 sigma^2."""
    law = SecondMoment(t, beta2, mean, sigma)
    with mpmath.workdps(30):
        squares = mpmath.fsum(w * w for w in ema_weights(t, beta2))
        variance = (2 * mpmath.mpf(sigma) ** 4 + 4 * (mpmath.mpf(mean) * sigma) ** 2) * squares
    assert law.expectation == mean**2 + sigma**2
    assert law.variance == pytest.approx(float(variance), rel=1e-14, abs=0)


def test_moments_that_are_no_integrals() -> None:
    """E[Q^0] and E[Q^1], for every law to the last bit."""
    for beta2, t, mu in itertools.product((0.1, 0.9, 0.999), (1, 2, 7, INF), (0.0, 0.5, 10.0)):
        law = SecondMoment(t, beta2, mu)
        assert law.moment(0) == law.moment(0.0) == 1
        assert law.moment(1) == law.moment(1.0) == law.expectation


def test_variance_in_the_limit() -> None:
    """sum_j w_j^2 = (1 - b) / (1 + b)."""
    for beta2 in (0.3, 0.9, 0.999):
        limit = SecondMoment(INF, beta2, 0.5).variance
        assert limit == pytest.approx((2 + 4 * 0.25) * (1 - beta2) / (1 + beta2), rel=1e-13, abs=0)


@settings(max_examples=20)
@given(beta2=betas, t=st.integers(1, 40), mu=means, sigma=st.floats(1e-3, 1e3), power=st.floats(-0.4, 1.9))
def test_other_units(beta2: float, t: int, mu: float, sigma: float, power: float) -> None:
    """Q is sigma^2 times what it is for sigma = 1: nothing else may come of the units."""
    law, unit = SecondMoment(t, beta2, mu * sigma, sigma), SecondMoment(t, beta2, mu)
    assert law.moment(power) == pytest.approx(sigma ** (2 * power) * unit.moment(power), rel=1e-13, abs=0)
    # Three logarithms of numbers that are rounded.
    assert law.log_mean() == pytest.approx(2 * math.log(sigma) + unit.log_mean(), rel=0, abs=1e-14)
    assert law.log_variance() == pytest.approx(unit.log_variance(), rel=1e-12, abs=0)
    assert law.variance == pytest.approx(sigma**4 * unit.variance, rel=1e-13, abs=0)


def test_units_at_the_ends_of_their_range() -> None:
    unit = SecondMoment(6, 0.9)
    for sigma in (1e-150, 1e150):
        law = SecondMoment(6, 0.9, 0.0, sigma)
        assert law.log_mean() == pytest.approx(unit.log_mean() + 2 * math.log(sigma), rel=1e-14, abs=0)
        assert law.quantile(0.5) == pytest.approx(sigma**2 * unit.quantile(0.5), rel=1e-12, abs=0)
        assert law.cdf(sigma**2) == pytest.approx(unit.cdf(1.0), rel=0, abs=1e-12)
    assert SecondMoment(6, 0.9, 0.0, 1e150).moment(1.5) == INF
    assert SecondMoment(9, 0.9, 0.0, 1e-150).psi_moment(4) == INF
    assert SecondMoment(6, 0.9, 0.0, 1e150).variance == INF
    assert psi_moments(9, 0.9, (4,), sigma=1e-150)[0, 8] == INF


@pytest.mark.parametrize("mean", [1e3, -1e6, 1e12])
def test_a_mean_that_is_all_but_everything(mean: float) -> None:
    """There psi is a line in Q: Var[psi] E[Q] = Var[Q] / (4 E[Q]^2), but for 1/mean^2 of it."""
    law = SecondMoment(6, 0.999, mean)
    relative = law.variance / law.expectation**2
    assert law.psi_variance() * law.expectation == pytest.approx(relative / 4, rel=5 / mean**2 + 1e-13, abs=0)
    assert law.log_variance() == pytest.approx(relative, rel=5 / mean**2 + 1e-13, abs=0)


def test_a_law_stays_as_it_was_made() -> None:
    """Its integrals are kept: other arguments would not change them."""
    law = SecondMoment(6, 0.999)
    with pytest.raises(AttributeError):
        law.t = 7  # type: ignore[misc]
    assert {law: 1}[SecondMoment(6, 0.999)] == 1


@pytest.mark.parametrize(("beta2", "t", "mu"), [(1e-4, 4, 0.0), (1e-4, 3, 0.5), (0.5, 5, 1.0), (0.99, 6, 0.0)])
def test_logarithms_against_quadrature(beta2: float, t: int, mu: float) -> None:
    """log q = int (exp(-u) - exp(-uq)) du/u, and its square, with the mean taken under the sign of integration."""
    with mpmath.workdps(25):
        weights = [w / (1 + mpmath.mpf(mu) ** 2) for w in ema_weights(t, beta2)]

        def difference(z: Any) -> Any:
            u = mpmath.exp(z)
            exponent = (
                -mpmath.fsum(mpmath.log1p(2 * u * w) + 2 * u * w * mu * mu / (1 + 2 * u * w) for w in weights) / 2
            )
            return mpmath.exp(-u) - mpmath.exp(exponent)

        pieces = [-35, -10, -3, 0, 3, 6, 12, 20, 30, 60, 100]
        mean = mpmath.quad(difference, pieces)
        # Gamma'(s)/Gamma(s) brings Euler's constant.
        square = -2 * mpmath.quad(lambda z: (z + mpmath.euler) * difference(z), pieces)
        variance = square - mean**2
    law = SecondMoment(t, beta2, mu)
    assert law.log_mean() - math.log(law.expectation) == pytest.approx(float(mean), rel=0, abs=1e-14)
    assert law.log_variance() == pytest.approx(float(variance), rel=1e-13, abs=0)


def test_nodes_where_the_transform_is_nothing_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each factor that is looked at by itself costs a turn: of 10^6 factors that matter none is."""
    largest = noted(monkeypatch, ema, "_log_laplace", lambda x, *_: np.max(np.abs(x)))
    for t in (1000, INF):
        SecondMoment(t, 1 - 1e-6).psi_variance()
    assert max(largest) < 1


@pytest.mark.parametrize("t", [60, 100, 400])
def test_moments_of_high_order(t: int) -> None:
    """There |Gamma(s + iy)| falls late: the nodes must be closer."""
    for power in (-4.0, -8.0, -11.0, -15.0, -19.5, -25.0, -29.0):
        with mpmath.workdps(40):
            moment = mpmath.gammaprod([t / mpmath.mpf(2) + power], [t / mpmath.mpf(2)]) / (t / mpmath.mpf(2)) ** power
        # The law's own weights are off by up to t (1 - b) = 1e-13.
        assert SecondMoment(t, EQUAL).moment(power) == pytest.approx(float(moment), rel=2e-13, abs=0), power


def angles(count: int, beta2: float) -> tuple[Any, list[Any]]:
    """w_0 g_0^2 + w_1 g_1^2 = R a(phi), R ~ chi2(2), phi uniform: a on a grid of angles, for each pair of weights."""
    phi = (np.arange(40) + 0.5) * (math.pi / 2 / 40)
    w = beta2 ** np.arange(2 * count)
    w /= w.sum()
    pairs = [w[2 * i] * np.cos(phi) ** 2 + w[2 * i + 1] * np.sin(phi) ** 2 for i in range(count)]
    return w, list(np.meshgrid(*pairs, indexing="ij"))


@pytest.mark.parametrize(("beta2", "t"), [(0.5, 2), (0.9, 2), (0.3, 4), (0.5, 4), (0.5, 6)])
def test_cdf_of_pairs(beta2: float, t: int) -> None:
    """A sum of exponentials given the angles; the mean over angles, periodic functions, by the midpoint rule."""
    _, scales = angles(t // 2, beta2)
    x = np.array([1e-3, 0.05, 0.2, 0.5, 0.9, 1.0, 1.1, 1.7, 2.5, 3.5, 6.0, 15.0])
    law = SecondMoment(t, beta2)
    for point, value in zip(x, law.cdf(x), strict=True):
        survival = 0.0
        for i, a in enumerate(scales):
            term = np.exp(-point / (2 * a))
            for j, other in enumerate(scales):
                if j != i:
                    term = term * a / (a - other)
            survival += float(np.mean(term))
        assert abs(value - (1 - survival)) < (1e-12 if beta2 > 0.3 else 1e-11), point
    if t == 2:
        logs = np.log(scales[0])
        assert law.log_mean() == pytest.approx(math.log(2) - np.euler_gamma + float(np.mean(logs)), rel=1e-13, abs=0)
        assert law.log_variance() == pytest.approx(math.pi**2 / 6 + float(np.var(logs)), rel=1e-13, abs=0)
        for power in (-0.95, -0.3, 0.5, 1.5):
            expected = math.gamma(1 + power) * 2**power * float(np.mean(scales[0] ** power))
            assert law.moment(power) == pytest.approx(expected, rel=1e-12, abs=0)


def imhof(x: float, t: int, beta2: float, mu: float = 0.0) -> float:
    """Inversion on the imaginary axis (Imhof 1961) by the midpoint rule (Davies 1973), off by P(|Q-x| > 2 pi/step)."""
    scale = (1 + mu * mu) * math.sqrt(2 / n_eff(t, beta2))
    u = (np.arange(4000) + 0.5) * (2 * math.pi / (x + 40 * scale))
    w = beta2 ** np.arange(t)
    w /= w.sum()
    log_cf = np.zeros(len(u), dtype=complex)
    for weight in w[w > 1e-20]:
        factor = 1 - 2j * weight * u
        log_cf += -0.5 * np.log(factor) + mu * mu * 1j * weight * u / factor
    return float(0.5 - np.sum(np.imag(np.exp(log_cf - 1j * u * x)) / (np.arange(4000) + 0.5)) / math.pi)


@pytest.mark.parametrize(("beta2", "t", "mu"), [(0.9, 30, 0.0), (0.99, 150, 0.0), (0.95, 700, 1.0), (0.999, 300, 2.0)])
def test_cdf_by_imhof(beta2: float, t: int, mu: float) -> None:
    law = SecondMoment(INF if t == 700 else t, beta2, mu)
    spread = (1 + mu * mu) * math.sqrt(2 / n_eff(t, beta2))
    for z in (-1.5, 0.0, 2.0):
        x = 1 + mu * mu + z * spread
        # 4000 terms of at most 1, each with its rounding error of the phase
        assert abs(float(law.cdf(x)) - imhof(x, t, beta2, mu)) < 1e-12


@pytest.mark.parametrize("t", [1, 2, 3, 12, 35, 200, 10000])
@pytest.mark.parametrize("mu", [0.0, 1.5])
def test_cdf_of_equal_weights(t: int, mu: float) -> None:
    law = SecondMoment(t, EQUAL if t > 1 else 0.7, 2 * mu, 2.0)
    p = np.concatenate([np.logspace(-12, -1, 12), np.linspace(0.15, 0.999, 20), 1 - np.logspace(-12, -4, 9)])
    q = law.quantile(p)
    exact = stats.ncx2(t, t * mu**2).cdf(q * t / 4) if mu else stats.chi2(t).cdf(q * t / 4)
    assert np.max(np.abs(law.cdf(q) - exact)) < 1e-12
    assert np.max(np.abs(exact - p)) < 1e-12


@settings(max_examples=20)
@given(beta2=betas, t=st.integers(3, 400), mu=means, sigma=st.floats(0.1, 10))
def test_the_pass_and_the_single_step_agree(beta2: float, t: int, mu: float, sigma: float) -> None:
    """They share no evaluation of L: a cumulative sum over lags, and power series in x_j."""
    law = SecondMoment(t, beta2, mu * sigma, sigma)
    kwargs: dict[str, Any] = {"mean": mu * sigma, "sigma": sigma}
    assert psi_variances(t, beta2, **kwargs)[-1] == pytest.approx(law.psi_variance(), rel=2e-13, abs=0)
    moments = psi_moments(t, beta2, (2, 1), **kwargs)[:, -1]
    assert moments == pytest.approx([law.psi_moment(2), law.psi_moment(1)], rel=1e-13, abs=0)
    assert law.psi_variance() * sigma**2 == pytest.approx(SecondMoment(t, beta2, mu).psi_variance(), rel=1e-12, abs=0)


@settings(max_examples=12)
@given(beta2=betas, t=st.one_of(st.integers(1, 30), st.just(INF)), mu=means, data=st.data())
def test_quantiles_invert_the_cdf(beta2: float, t: float, mu: float, data: st.DataObject) -> None:
    law = SecondMoment(t, beta2, mu)
    p = np.sort(data.draw(st.lists(st.floats(1e-12, 1 - 1e-12), min_size=2, max_size=5)))
    q = law.quantile(p)
    # the contour begins where the integrand is up to e^3 = 20 times what it integrates to; the density is below 0.5/sd,
    # and x is rounded
    effective = rho_inf(beta2) if t == INF else n_eff(int(t), beta2)
    relative_sd = math.sqrt(2 * (1 + 2 * mu * mu) / (1 + mu * mu) ** 2 / effective)
    tolerance = 1e-12 + 20 * 0.5 * 2.0**-53 / relative_sd
    assert np.max(np.abs(law.cdf(q) - p)) < tolerance


def test_quantiles_next_to_one_are_as_good() -> None:
    """What is missed counts beside 1 - p there."""
    p = 1 - np.logspace(-12, -1, 45)
    for beta2, t, mu in ((0.97, 3, 0.5), (0.5, 1, 0.0), (0.9, 30, 0.0), (0.999, 300, 3.0)):
        law = SecondMoment(t, beta2, mu)
        assert np.max(np.abs(law.cdf(law.quantile(p)) - p)) < 1e-12


def test_shapes_and_ends_of_the_cdf() -> None:
    law = SecondMoment(6, 0.999)
    x = np.array([[-1.0, 0.0, 1e-300], [1e3, INF, math.nan]])
    assert np.array_equal(law.cdf(x), [[0, 0, 0], [1, 1, math.nan]], equal_nan=True)
    assert np.shape(law.cdf(1.0)) == np.shape(law.quantile(0.5)) == ()
    assert law.cdf([]).shape == (0,)
    assert law.quantile(np.full((2, 3), 0.5)).shape == (2, 3)


def test_existence() -> None:
    assert np.array_equal(np.isnan(psi_moments(9, 0.9, (1, 2, 3, 8))), np.arange(1, 10) <= np.c_[[1, 2, 3, 8]])
    assert np.array_equal(np.isnan(psi_variances(4, 0.3)), [True, True, False, False])
    for t, k in itertools.product((1, 2, 3, 5), (1, 2, 4, 5)):
        law = SecondMoment(t, 0.5)
        if t > k:
            assert math.isfinite(law.psi_moment(k))
        else:
            with pytest.raises(ValueError, match=rf"E\[psi\^{k}\] is infinite for t <= {k}, and t is {t}"):
                law.psi_moment(k)
    with pytest.raises(ValueError, match=r"Var\[psi\] is infinite for t <= 2, and t is 2: ask for t >= 3"):
        r_true(2, 0.999)
    for power in (-1.5, -2.0, 2.0, 2.5, math.nan):
        with pytest.raises(ValueError, match=r"power must be in \(-t/2, 2\)"):
            SecondMoment(3, 0.9).moment(power)


@pytest.mark.parametrize("beta2", [0.0, 9e-81, 1.0, 1.5, -0.1, math.nan])
def test_arguments_out_of_range(beta2: float) -> None:
    with pytest.raises(ValueError, match=r"beta2 must be in \[1e-80, 1\), but is"):
        SecondMoment(3, beta2)
    with pytest.raises(ValueError, match=r"beta2 must be in \[1e-80, 1\), but is"):
        psi_variances(3, beta2)


def test_other_arguments_out_of_range() -> None:
    for kwargs, message in (
        ({"t": 0}, "t must be an integer >= 1 or infinity, but is 0"),
        ({"t": -3}, "t must be an integer >= 1 or infinity, but is -3"),
        ({"mean": math.nextafter(1e12, INF)}, "mean must be at most"),
        *(
            ({"sigma": x}, rf"sigma must be in \[1e-150, 1e\+150\], but is {x}: use other units")
            for x in (0.0, -1.0, INF, -INF, math.nan, 9e-151)
        ),
        ({"sigma": 1.1e150}, r"sigma must be in \[1e-150, 1e\+150\], but is 1.1e\+150"),
        *(({"mean": x}, r"mean must be at most 1e\+12 sigma and 1e\+150, up or down") for x in (INF, -INF, math.nan)),
        *(({"mean": x}, "mean must be at most") for x in (1.1e12, -1.1e12)),
        ({"mean": -1.1e150, "sigma": 1e150}, r"mean must be .*, but is -1.1e\+150 at sigma = 1e\+150"),
        ({"mean": 2.0, "sigma": 1e-12}, "mean must be .*, but is 2.0 at sigma = 1e-12"),
    ):
        with pytest.raises(ValueError, match=message):
            SecondMoment(**{"t": 3, "beta2": 0.9, **kwargs})
    for t in (2.5, math.nan):
        with pytest.raises(TypeError):
            SecondMoment(t, 0.9)
    with pytest.raises(ValueError, match="t_max must be an integer >= 1, but is 0"):
        psi_moments(0, 0.9)
    with pytest.raises(ValueError, match="orders must be integers >= 1, but one is 0"):
        psi_moments(3, 0.9, (1, 0))
    with pytest.raises(ValueError, match="k must be an integer >= 1, but is 0"):
        SecondMoment(3, 0.9).psi_moment(0)
    for p in (1.0, 0.0, 9e-13, 1 - 9e-13, -0.5, math.nan):
        with pytest.raises(ValueError, match=rf"p must be in \[1e-12, 1 - 1e-12\], but is {p}"):
            SecondMoment(3, 0.9).quantile([0.5, p])
    assert SecondMoment(3, 0.9).quantile(1 - 1e-12) > SecondMoment(3, 0.9).quantile(1e-12)


# facts/statistics.md, section 3, beta2 = 0.999: t, rho_t, n_eff, exact EMA, SMA exact(rho_t)/EMA, first-order/EMA
VARIANCES = [
    (3, "2.999", "3.000", "1.0901411", "1.0018", None),
    (5, "4.996", "5.000", ".251956408", "1.0017", "3.3225"),
    (6, "5.994", "6.000", ".174640969", "1.0018", "2.1546"),
    (10, "9.983", "10.000", ".0755464674", "1.0024", "1.3832"),
    (100, "98.333", "99.917", ".00519705092", "1.0168", "1.0411"),
    (500, "458.49", "489.83", ".00102837439", "1.0692", "1.0745"),
    (1000, "835.97", "924.17", ".00054297924", "1.1065", "1.1095"),
    (1500, "1138.18", "1270.11", ".00039458042", "1.1170", "1.1192"),
    (2000, "1373.65", "1522.85", ".00032889154", "1.1098", "1.1116"),
    (5000, "1931.33", "1972.31", ".00025374196", "1.0223", "1.0235"),
]


def test_printed_variances() -> None:
    variances = psi_variances(5000, 0.999)
    for t, rho, n, variance, sma, first_order in VARIANCES:
        value, length = variances[t - 1], rho_t(t, 0.999)
        assert agrees(length, rho)
        assert agrees(n_eff(t, 0.999), n)
        assert agrees(value, variance), t
        assert agrees(float(sma_variance(length)) / value, sma), t
        if first_order is not None:
            assert agrees(length / (2 * (length - 2) * (length - 4)) / value, first_order), t


@pytest.mark.parametrize(
    ("beta2", "printed"),
    [
        (0.5, ".312878776"),
        (0.9, ".0288944365"),
        (0.99, ".00253479728"),
        (0.999, ".00025034417"),
        (0.9999, "2.50034379e-5"),
    ],
)
def test_printed_limits(beta2: float, printed: str) -> None:
    value = SecondMoment(INF, beta2).psi_variance()
    assert agrees(value, printed)
    # weights below 2^-70 of the sum change nothing
    assert value == pytest.approx(
        SecondMoment(math.ceil(-50 / math.log(beta2)), beta2).psi_variance(), rel=1e-14, abs=0
    )


def test_other_printed_values() -> None:
    assert agrees(SecondMoment(3, 0.5).psi_variance(), "1.2995")
    assert agrees(SecondMoment(5, 0.5).psi_variance(), "0.43290")
    for beta2, t, mean, sd in (
        (0.999, 6, "-0.17582832", "0.628438"),
        (0.999, 3, "-0.36897527", "0.966852"),
        (0.9, 5, "-0.21629092", "0.704756"),
    ):
        assert agrees(SecondMoment(t, beta2).log_mean(), mean)
        assert agrees(math.sqrt(SecondMoment(t, beta2).log_variance()), sd)


# section 3: beta2; r_true and ratio paper/true at t = 5; ratios at 6, 10, 100; dip in % (t); last t with > 1 %; largest
# absolute error (t)
RECTIFICATIONS: list[tuple[Any, ...]] = [
    (0.9, ".336087", ".4645", ".6347", ".8258", ".9998", None, 52, ".1800", 5),
    (0.99, ".100295", ".5431", ".6780", ".8474", ".9437", ("-5.78", 133), 508, ".0466", 177),
    (0.995, ".070678", ".5465", ".6802", ".8494", ".9585", ("-5.54", 285), 1014, ".0453", 362),
    (0.999, ".031521", ".5492", ".6820", ".8512", ".9811", ("-5.38", 1485), 5065, ".0444", 1836),
    (0.9995, ".022281", ".5495", ".6822", ".8514", ".9847", ("-5.36", 2984), 10129, ".0443", 3678),
    (0.9999, ".009962", ".5498", ".6824", ".8516", ".9877", ("-5.34", 14976), 50640, ".0442", 18417),
]


@pytest.mark.parametrize("row", RECTIFICATIONS, ids=lambda row: str(row[0]))
def test_printed_rectifications(row: tuple[Any, ...]) -> None:
    beta2, r5, *ratios, dip, last, error, error_t = row
    t = np.arange(5, last + 100)
    limit = SecondMoment(INF, beta2).psi_variance()
    true = np.sqrt(limit / psi_variances(int(t[-1]), beta2)[4:])
    paper = paper_r(t, beta2)
    assert agrees(true[0], r5)
    assert true[0] == pytest.approx(r_true(5, beta2), rel=1e-12, abs=0)
    for step, printed in zip((5, 6, 10, 100), ratios, strict=True):
        assert agrees((paper / true)[step - 5], printed), step
    late = t >= 30
    if dip is not None:
        assert agrees(float(np.min((paper / true - 1)[late])) * 100, dip[0])
        assert t[late][np.argmin((paper / true)[late])] == dip[1]
    assert t[np.abs(paper / true - 1) > 0.01][-1] == last
    assert agrees(float(np.max(np.abs(paper - true))), error)
    assert t[np.argmax(np.abs(paper - true))] == error_t
    assert np.all(paper < true) or beta2 == 0.9


def test_printed_ratios_at_0999() -> None:
    true = np.sqrt(SecondMoment(INF, 0.999).psi_variance() / psi_variances(10000, 0.999))
    for t, printed in (
        *((7, ".7530"), (8, ".7977"), (15, ".9099"), (20, ".9349"), (30, ".9573"), (50, ".9729"), (126, ".9816")),
        *((200, ".9797"), (500, ".9657"), (1000, ".9504"), (1500, ".9462"), (2000, ".9495"), (3000, ".9648")),
        *((5000, ".9895"), (10000, ".9998")),
    ):
        assert agrees(paper_r(t, 0.999) / true[t - 1], printed), t
    # "consistent variance", Var[r_t psi_t] / Var[psi_inf]; at t = 10 it is .72449, where the facts have .725
    for t, printed in (
        *((5, ".302"), (6, ".465"), (10, ".724"), (100, ".963"), (1000, ".903"), (1500, ".895"), (5000, ".979")),
    ):
        assert agrees((paper_r(t, 0.999) / true[t - 1]) ** 2, printed), t
    assert agrees(true[2], ".015154")
    assert agrees(true[3], ".024151")


# section 4.2, beta2 = 0.999: mean, t, Var[psi], r_t^2 Var[psi]
FIGURE = [
    *((0.0, 6, ".174641", "1.1644e-4"), (0.0, 10, ".0755465", "1.8137e-4"), (0.0, 100, ".00519705", "2.4098e-4")),
    *((0.0, 1000, "5.42979e-4", "2.26121e-4"), (0.0, 1500, "3.9458e-4", "2.24154e-4")),
    *((0.0, 6000, "2.51588e-4", "2.47835e-4"), (0.1, 6, ".172899", None), (0.1, 6000, "2.49073e-4", "2.45357e-4")),
    *((1.0, 6, ".062073", "4.139e-5"), (1.0, 6000, "9.43561e-5", "9.29486e-5")),
    *((10.0, 6, "1.65418e-5", "1.103e-8"), (10.0, 6000, "4.90402e-8", "4.83086e-8")),
]


def test_printed_curves() -> None:
    curves = {mean: psi_variances(6000, 0.999, mean=mean) for mean in (0.0, 0.1, 1.0, 10.0)}
    for mean, t, variance, rectified in FIGURE:
        value = curves[mean][t - 1]
        assert agrees(value, variance), (mean, t)
        if rectified is not None:
            assert agrees(value * paper_r(t, 0.999) ** 2, rectified), (mean, t)
        # the delta method, off by O(1/n)
    for mean in curves:
        first_order = (2 + 4 * mean**2) / (4 * (1 + mean**2) ** 3 * 1999)
        assert SecondMoment(INF, 0.999, mean).psi_variance() == pytest.approx(first_order, rel=1e-2, abs=0)


@pytest.mark.parametrize(
    ("beta2", "t", "printed"),
    [
        *((0.999, 5, ".00014"), (0.999, 100, ".0021"), (0.999, 1000, ".0126"), (0.999, 1500, ".0137")),
        *((0.999, 5000, ".0029"), (0.9, 5, ".0134"), (0.9, 15, ".0220"), (0.9, 60, ".0130")),
    ],
)
def test_printed_distances_of_distributions(beta2: float, t: int, printed: str) -> None:
    rho = rho_t(t, beta2)
    x = stats.chi2(rho).ppf(np.linspace(0.005, 0.995, 199)) / rho
    # the maximum over a grid falls short by the curvature of the difference times the square of half a step: below 1e-3
    distance = np.max(np.abs(SecondMoment(t, beta2).cdf(x) - stats.chi2(rho).cdf(x * rho)))
    assert agrees(float(distance), printed)


def test_dip_of_the_centre_of_mass() -> None:
    """rho_t/n_eff -> (1 - 2y/(e^2y - 1)) / tanh y, y = t (1-b)/2, as b -> 1."""
    y = np.linspace(0.7, 0.8, 100001)
    ratio = (1 - 2 * y / np.expm1(2 * y)) / np.tanh(y)
    assert agrees(float(np.min(ratio)), "0.896128")
    assert agrees(2 * float(y[np.argmin(ratio)]), "1.4989")
    assert rho_t(1499, 0.999) / n_eff(1499, 0.999) == pytest.approx(np.min(ratio), abs=1e-3)


@pytest.mark.parametrize("beta2", [1e-80, 1e-40, 1e-10, 1e-3])
def test_decay_rates_next_to_zero(beta2: float) -> None:
    """E[psi^2] of w_0 g_0^2 + w_1 g_1^2 + w_2 g_2^2 is an elliptic integral (Carlson's R_F), with w_j near beta2^j."""
    w = [beta2**j / (1 + beta2 + beta2**2) for j in range(3)]
    # int_0^inf du / sqrt((1 + 2 u w_0) (1 + 2 u w_1) (1 + 2 u w_2)), of which R_F is a half
    expected = special.elliprf(w[1] * w[2], w[0] * w[2], w[0] * w[1])
    assert SecondMoment(3, beta2).psi_moment(2) == pytest.approx(expected, rel=1e-13, abs=0)
    assert psi_moments(3, beta2, (2,))[0, 2] == pytest.approx(expected, rel=1e-13, abs=0)


def test_the_pass_serves_high_orders() -> None:
    """Together with low ones, and to infinity where the largest float64 is exceeded."""
    orders = (1, 7, 20, 40, 60)
    for beta2 in (0.1, 0.9, 0.9999):
        found = psi_moments(130, beta2, orders)
        for order, row in zip(orders, found, strict=True):
            for t in (order + 1, 64, 65, 130):
                if t > order:
                    expected = SecondMoment(t, beta2).psi_moment(order)
                    assert row[t - 1] == pytest.approx(expected, rel=1e-12, abs=0), (beta2, order, t)
    assert psi_moments(50, 0.1, (40,))[0, 49] == psi_moments(50, 1e-4, (20,))[0, 49] == INF


def test_the_law_of_one_gradient_is_had_in_a_pass() -> None:
    assert psi_moments(1, 0.9, (1,)).shape == (1, 1)
    assert np.isnan(psi_variances(1, 0.9)).all()


def test_quantiles_are_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Newton's method squares what is missed, in the tails too, and stops where x is not resolved."""
    sizes = noted(monkeypatch, SecondMoment, "_distribution", lambda _, x: x.size)
    turns = []
    for beta2, t, mu in ((0.5, 1, 0.0), (0.9, 6, 0.0), (0.99, INF, 0.0), (0.999, 300, 3.0), (0.999, 300, 1e6)):
        law = SecondMoment(t, beta2, mu)
        law._brackets  # noqa: B018
        for p in (1e-12, 3e-11, 1e-6, 0.01, 0.5, 0.7306063653705087, 0.9, 1 - 1e-6, 1 - 1e-12):
            sizes.clear()
            law.quantile(p)
            assert 0 not in sizes
            turns.append(len(sizes))
    # A bisection would take about 50 each.
    assert max(turns) <= 25
    assert sum(turns) <= 9 * len(turns)


def test_the_limit_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = noted(monkeypatch, SecondMoment, "psi_variance", lambda law: law.t)
    for t in (3, 4, 5):
        r_true(t, 0.98765)
    assert sorted(asked) == [3, 4, 5, INF]


def test_many_points_are_taken_by_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a contour of 96 nodes: memory is bounded, and the parts are not many."""
    law = SecondMoment(6, 0.9)
    x = np.linspace(0.1, 3, 5000)
    some = law.cdf(x[::100])
    sizes = noted(monkeypatch, SecondMoment, "_invert", lambda _, x, rows: len(x))
    assert np.array_equal(law.cdf(x)[::100], some)
    assert max(sizes) <= 1024
    assert len(sizes) <= 7


def test_all_steps_are_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step needs one factor of L at each node, of which late steps have fewer: 6000 take the work of 600,000."""
    sizes = noted(monkeypatch, ema, "_log_and_excess", lambda x: x.size)
    psi_variances(6000, 0.999)
    assert sum(sizes) < 600_000
    assert sizes[-2] < sizes[0] / 2
