"""The exact law of Adam's bias-corrected second moment under Gaussian gradients, by quadrature: no sampling.

With gradients g_j ~ N(mean, sigma^2), independent, lag j = 0, ..., t-1, and b = beta_2,

    Q_t = v_t / (1 - b^t) = sum_{j<t} w_j g_j^2,    w_j = b^j / S0,    S0 = sum_{j<t} b^j,    psi_t = Q_t^{-1/2}

(Liu et al. 2019, arXiv 1908.03265, section 2). Q_t is a weighted sum of noncentral chi-squares; with mu = mean/sigma,
and in units of E[Q_t] = mean^2 + sigma^2, the Laplace transform is (Imhof 1961, Biometrika 48)

    L(u) = E[exp(-u Q)] = prod_j (1 + x_j)^{-1/2} exp(-(mu^2/2) x_j / (1 + x_j)),    x_j = 2 u w_j / (1 + mu^2).

Everything here is an integral of L, or of L less the transform exp(-u) of the constant E[Q] = 1:

    log L(u) + u = 1/2 sum_j (x_j - log(1 + x_j)) + (mu^2/2) sum_j x_j^2 / (1 + x_j)  =: H(u)
    L - exp(-u) = L (1 - exp(-H))

in which no two nearly equal numbers are subtracted, however narrow the law.

Moments. From Gamma(s) q^{-s} = int_0^inf u^{s-1} exp(-u q) du, with u = e^z,

    Gamma(s) (E[Q^{-s}] - 1) = I(s) = int_R e^{sz} (L - exp(-u)) dz,        -2 < s < t/2.

The trapezoid rule with step h adds I at s + 2 pi i k/h, k = +-1, +-2, ... (Poisson's summation formula). There
|I| <= |Gamma(s + iy)| (E[Q^{-s}] + 1), so the error is about exp(-pi^2/h): below 1e-16 at h = 1/5. The sum is taken
over all of R: beyond the nodes the terms are a geometric series, of ratio e^{(s+2)h} to the left (L - exp(-u) ~ u^2)
and e^{(s-t/2)h} to the right (L ~ u^{-t/2}).

Variance of psi. With A = E[Q^{-1}] - 1 and B = E[Q^{-1/2}] - 1 it is A - 2B - B^2, in units of 1/E[Q]. When Q is
narrow, A and B are about 8/8 and 3/8 of Var[Q], and the variance 2/8: one digit is lost, not all of them.

Distribution. F(x) = (1/2 pi i) int L(u) e^{ux} du/u on Talbot's contour u(y) = c + l (y cot y - 1 + iy), |y| < pi, with
l = c - c0, c0 the rightmost singularity of L (Talbot 1979, J. Inst. Maths Applics 23). c is a saddle point of
L(u) e^{ux}/|u|^k, to the right of the pole for F, to its left, in the upper tail, for F - 1. For t equal weights the
contour is that of steepest descent, whatever t; for other weights it remains close to it, so that one rule serves t = 1
and t = infinity. Where L e^{ux} is flat but not analytic, at y = +-pi, y = 2 gd(r) (Gudermann's function) moves the
ends to infinity.

All results are float64. Measured against 40-digit quadrature in `tests/reference/test_ema.py`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

__all__ = ["SecondMoment", "psi_moments", "psi_variances", "r_true"]

Floats: TypeAlias = NDArray[np.float64]

# In a smaller one the nodes that count are beyond the largest float64.
_SMALLEST_BETA = 1e-80
# The largest |mean| and sigma, whose squares are far from the largest float64, and the smallest sigma.
_LARGEST = 1e150
# The largest |mean|/sigma: of such a law 12 digits are the same everywhere.
_NARROWEST = 1e12
# Powers of e: what is below exp(-38) of the result cannot be seen in a float64.
_NEGLIGIBLE = 38.0
# exp(708) is finite.
_LARGEST_POWER = 708.0
# |x_j| up to which sums over j are power series in x_j, summed over j in closed form.
_RADIUS = 0.5
# Steps that are taken at a time in a pass over all of them.
_ROWS = 64
# Of a contour, to one side of the real line: 10 standard deviations of an integrand that has a pole 1.7 of them away.
_NODES = 96
# Tabulated contours per power of e.
_DENSITY = 8


def _check(beta2: float, mean: float, sigma: float) -> None:
    if not _SMALLEST_BETA <= beta2 < 1:
        raise ValueError(
            f"beta2 must be in [{_SMALLEST_BETA:g}, 1), but is {beta2!r}; at 0 nothing is averaged: use t = 1 instead"
        )
    if not 1 / _LARGEST <= sigma <= _LARGEST:
        raise ValueError(f"sigma must be in [{1 / _LARGEST:g}, {_LARGEST:g}], but is {sigma!r}: use other units")
    if not abs(mean) <= min(_NARROWEST * sigma, _LARGEST):
        raise ValueError(
            f"mean must be at most {_NARROWEST:g} sigma and {_LARGEST:g}, up or down, "
            f"but is {mean!r} at sigma = {sigma!r}"
        )


def _step(s: float) -> float:
    """Return h such that |Gamma(s + 2 pi i/h)| is negligible beside Gamma(s), with a margin for E[Q^{-s-iy}] - 1."""
    y = 10 * math.pi
    # (E[Q^{-s}] - 1) / Var[Q] is about s (s+1) / 2, on the real line and off it
    while float(special.loggamma(s + 1j * y).real) + 2 * math.log(y) > float(special.gammaln(max(s, 1.0))) - 38:
        y *= 1.1
    return 2 * math.pi / y


def _log_and_excess(x: Floats) -> tuple[Floats, Floats]:
    """Return log(1 + x) and x - log(1 + x), both to a few units in the last place; rows ascend, the first is largest.

    The latter is taken for x < 1/2 from log(1 + x) = 2 artanh(y), y = x/(2 + x): it is x y - 2 (y^3/3 + y^5/5 + ...).
    """
    small = int(np.searchsorted(x[0], _RADIUS))
    logs = np.log1p(x)
    excess = x - logs
    y = x[:, :small] / (2 + x[:, :small])
    square = y * y
    series = np.zeros_like(y)
    for m in range(12, 0, -1):  # y <= 1/5: the next term is below 1e-17 of the first
        series = (series + 2 / (2 * m + 1)) * square
    excess[:, :small] = y * (x[:, :small] - series)
    return logs, excess


def _log_laplace(x: NDArray[Any], t: float, rate: float, mu2: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return log L and H = log L + u, real or complex, where x_0 is `x`: factors one by one, until |x_j| <= 1/2.

    The others are power series in x_j, and sum_{J<=j<t} x_j^m = x_J^m (1 - b^{m(t-J)}) / (1 - b^m).
    """
    factors = np.clip(np.ceil(np.log(np.maximum(np.abs(x), _RADIUS) / _RADIUS) / rate), 0, t)
    log_laplace = np.zeros_like(x)
    for j in range(int(np.max(factors))):
        active = np.flatnonzero(factors > j)
        term = x[active] * math.exp(-rate * j)
        log_laplace[active] -= (np.log1p(term) + mu2 * (term / (1 + term))) / 2
    y = np.where(factors < t, x * np.exp(-rate * factors), 0.0)
    left: Any = t - factors if factors.any() else t

    def lag_sum(m: int) -> Any:
        return np.expm1(-m * rate * left) / math.expm1(-m * rate)

    last = 2 + math.ceil(_NEGLIGIBLE / -math.log(max(float(np.max(np.abs(y))), 1e-300)))
    rest = np.zeros_like(x)
    for m in range(last, 1, -1):
        rest = (1 / m + mu2) / 2 * lag_sum(m) - y * rest
    rest = rest * y * y
    log_laplace += rest - (1 + mu2) / 2 * y * lag_sum(1)
    u = (1 + mu2) / 2 * x * (np.expm1(-rate * t) / math.expm1(-rate))
    return log_laplace, np.where(factors > 0, log_laplace + u, rest)


class _Contours(NamedTuple):
    """Where the contours cross the real line, one row for each of many x in ascending order."""

    x: Floats
    crossing: Floats
    curvature: Floats
    """Second derivative of log L(u) at the crossing."""


@dataclass(frozen=True)
class SecondMoment:
    """The law of Q_t = sum_{j<t} w_j g_j^2, Adam's bias-corrected second moment, g ~ N(mean, sigma^2).

    Args:
        t: step, counted from 1; `math.inf` is the limit, in which w_j = (1 - b) b^j for all j >= 0.
        beta2: decay rate b, in [1e-80, 1).
        mean: mean of the gradients, at most 1e12 sigma and 1e150 in size.
        sigma: their standard deviation, in [1e-150, 1e150].

    Raises:
        ValueError: an argument is out of its range.
        TypeError: t is a number other than an integer or infinity.

    >>> law = SecondMoment(6, 0.999)
    >>> round(law.psi_variance(), 9), round(law.log_mean(), 8), round(float(law.cdf(1.0)), 8)
    (0.174640969, -0.17582832, 0.57681016)
    """

    t: float
    beta2: float
    mean: float = 0.0
    sigma: float = 1.0

    def __post_init__(self) -> None:
        if self.t != math.inf and operator.index(self.t) < 1:  # type: ignore[arg-type]
            raise ValueError(f"t must be an integer >= 1 or infinity, but is {self.t!r}")
        _check(self.beta2, self.mean, self.sigma)

    @property
    def expectation(self) -> float:
        """E[Q_t] = mean^2 + sigma^2, for every t."""
        return self.mean**2 + self.sigma**2

    @property
    def variance(self) -> float:
        """Var[Q_t] = 2 sigma^2 (sigma^2 + 2 mean^2) sum_j w_j^2; infinity where it exceeds the largest float64.

        The sum is 1/n_t, n_t the effective number of terms: rho_inf (1 - b^t) / (1 + b^t).

        >>> round(SecondMoment(1, 0.9).variance, 12), round(SecondMoment(math.inf, 0.5).variance, 12)
        (2.0, 0.666666666667)
        """
        return self._spread * self.expectation * self.expectation

    @cached_property
    def _rate(self) -> float:
        return -math.log(self.beta2)

    @cached_property
    def _mu2(self) -> float:
        return (self.mean / self.sigma) ** 2

    @cached_property
    def _edge(self) -> float:
        """Distance of L's rightmost singularity from 0: x_0 = u/edge."""
        return (1 + self._mu2) / 2 * math.expm1(-self._rate * self.t) / math.expm1(-self._rate)

    def _nodes(self, s: float, low: float, step: float) -> tuple[Floats, Floats, Floats]:
        """Return nodes z of the trapezoid rule for I(s), with log L and H there."""
        # L is its asymptote in u where u exceeds 1/w_j of as many factors as matter: the product of the first J falls
        # as exp(-(log u)^2 / (4 rate)) until J = t.
        high = 42 + (4 * max(s, 0.0) + 2) * self._rate + math.log(2 * self._edge * (1 + self._mu2))
        z = np.arange(low, min(high, _LARGEST_POWER), step)
        # log L <= -(N/2) log(1 + x_0/e), N factors having x_j >= x_0/e: nodes where L is nothing are dropped
        count = min(self.t, math.ceil(1 / self._rate))
        x = np.exp(z) / self._edge
        bound = max(s, 0.0) * z - count / 2 * np.log1p(x / math.e) - float(special.gammaln(max(s, 1.0)))
        kept = bound > -100.0
        z, x = z[kept], x[kept]
        return z, *_log_laplace(x, self.t, self._rate, self._mu2)

    def _relative_moment(self, s: float) -> float:
        """Return E[Q^{-s}] - 1 for E[Q] = 1, -2 < s < t/2; it is 0 where 1/Gamma is, at s = -1 and 0."""
        step = _step(s)
        # left of the nodes L - exp(-u) is u^2 but for a factor 1 + O(u)
        z, log_laplace, excess = self._nodes(s, -42 / (s + 3), step)
        offset = float(special.gammaln(s)) if s > 0 else 0.0
        with np.errstate(over="ignore"):
            terms = np.exp(s * z + log_laplace - offset) * -np.expm1(-excess)
        left, right = math.expm1((s + 2) * step), math.expm1(min((self.t / 2 - s) * step, _LARGEST_POWER))
        total = float(np.sum(terms) + terms[0] / left + terms[-1] / right)
        return step * total * (1.0 if s > 0 else float(special.rgamma(s)))

    def moment(self, power: float) -> float:
        """Return E[Q_t^power], the moment generating function of log Q_t at `power`.

            E[Q^-s] = E[Q]^-s (1 + I(s) / Gamma(s))        (module docstring)

        P(Q < q) ~ C q^{t/2} as q -> 0, so it is finite for power > -t/2 alone, whatever beta2. Of the positive powers,
        which are all finite, those below 2 are served.

        Args:
            power: a number in (-t/2, 2).

        Returns:
            The moment, to 13 digits in powers between -4 and 1.9; infinity where it exceeds the largest float64.

        Raises:
            ValueError: power is outside (-t/2, 2).

        >>> SecondMoment(6, 0.999).moment(1.0), round(SecondMoment(3, 0.5).moment(-1), 12)
        (1.0, 3.391001786454)
        """
        if not -self.t / 2 < power < 2:
            raise ValueError(
                f"power must be in (-t/2, 2), but is {power!r} at t = {self.t!r}: E[Q^power] is infinite up to -t/2"
            )
        with np.errstate(over="ignore"):
            unit = np.float64(self.expectation) ** power
        return float(unit * (1 + self._relative_moment(-float(power))))

    def psi_moment(self, k: int) -> float:
        """Return E[psi_t^k], psi_t = Q_t^{-1/2}: finite if and only if t > k, whatever beta2.

        Args:
            k: order, >= 1.

        Raises:
            ValueError: k < 1, or t <= k, where the moment is infinite.

        >>> round(SecondMoment(3, 0.999).psi_moment(1), 9)
        1.381976736
        """
        if operator.index(k) < 1:
            raise ValueError(f"k must be an integer >= 1, but is {k!r}")
        self._check_order(k, f"E[psi^{k}]")
        return self.moment(-k / 2)

    def _check_order(self, k: int, name: str) -> None:
        if not self.t > k:
            raise ValueError(f"{name} is infinite for t <= {k}, and t is {self.t!r}: ask for t >= {k + 1}")

    def psi_variance(self) -> float:
        """Return Var[psi_t], to a relative error of 1e-13.

        Raises:
            ValueError: t < 3, where the variance does not exist.

        >>> round(SecondMoment(3, 0.5).psi_variance(), 9), round(SecondMoment(math.inf, 0.5).psi_variance(), 9)
        (1.299452439, 0.312878776)
        """
        self._check_order(2, "Var[psi]")
        first = self._relative_moment(0.5)
        return (self._relative_moment(1.0) - 2 * first - first**2) / self.expectation

    @cached_property
    def _log_moments(self) -> tuple[float, float]:
        """E[log Q] and Var[log Q] for E[Q] = 1, from E[Q^{-s}] - 1 = I(s)/Gamma(s) around s = 0."""
        step = _step(0.0)
        z, log_laplace, excess = self._nodes(0.0, -21.0, step)
        terms = np.exp(log_laplace) * -np.expm1(-excess)
        zeroth, first = float(np.sum(terms)), float(np.sum(z * terms))
        # to the right: sum_{i>0} r^i = 1/d and sum_{i>0} i r^i = (1+d)/d^2 with d = 1/r - 1; to the left is exp(-42)
        d = math.expm1(min(self.t / 2 * step, _LARGEST_POWER))
        zeroth = step * (zeroth + terms[-1] / d)
        first = step * (first + terms[-1] * (z[-1] / d + step * (1 + d) / d / d))
        # I(s) = I0 + s I1 + ..., 1/Gamma(s) = s + gamma s^2 + ..., E[Q^{-s}] = 1 - s E[log Q] + s^2/2 E[log^2 Q] - ...
        return float(-zeroth), float(2 * (first + np.euler_gamma * zeroth) - zeroth**2)

    def log_mean(self) -> float:
        """Return E[log Q_t], finite for every t.

        >>> round(SecondMoment(1, 0.9).log_mean(), 12)  # -gamma - log 2
        -1.270362845461
        """
        return self._log_moments[0] + math.log(self.expectation)

    def log_variance(self) -> float:
        """Return Var[log Q_t], finite for every t.

        >>> round(SecondMoment(1, 0.9).log_variance(), 12)  # pi^2/2
        4.934802200545
        """
        return self._log_moments[1]

    @cached_property
    def _spread(self) -> float:
        """Var[Q] / E[Q]^2."""
        sum_of_squares = math.tanh(self._rate / 2) / math.tanh(self._rate * self.t / 2)
        return 2 * sum_of_squares * (1 + 2 * self._mu2) / (1 + self._mu2) ** 2

    def _tabulate(self, side: int) -> _Contours:
        """Return contours to the right (side = 1) or left (-1) of the pole at u = 0, until exp(-60) is left.

        The crossing is the saddle of L(u) e^{ux} / |u|^k: k = 1 keeps off the pole by one standard deviation of the
        integrand along the contour, k = 3 by 1.7 of them.
        """
        k = 3 if side > 0 else 1
        near = math.log(1 / (math.sqrt(self._spread) * self._edge))
        start = near - 1 if side > 0 else min(near - 1.5, -1.0)
        blocks = []
        exponent = 0.0
        while exponent > -60.0:
            points = start + np.arange(16) / _DENSITY
            start += 16 / _DENSITY
            # in units of the edge: all of (0, inf), or all of (-1, 0)
            x0 = np.exp(points) if side > 0 else -special.expit(points)
            crossing = x0 * self._edge
            # derivatives by complex steps, which subtract nothing
            log_laplace, excess = _log_laplace(x0 * (1 + 1e-30j), self.t, self._rate, self._mu2)
            slope = np.where(
                np.abs(x0) <= _RADIUS,
                excess.imag / (1e-30 * crossing) - 1,
                log_laplace.imag / (1e-30 * crossing),
            )
            x = k / crossing - slope
            exponent = float(log_laplace[-1].real + crossing[-1] * x[-1])
            blocks.append(np.stack([x, crossing, -slope]))
        x, crossing, minus_slope = np.concatenate(blocks, axis=1)
        curvature = -np.gradient(minus_slope, crossing)
        ascending = slice(None, None, -side)
        return _Contours(x[ascending], crossing[ascending], curvature[ascending])

    @cached_property
    def _contours(self) -> tuple[float, _Contours, _Contours]:
        """Contours to the right of the pole and to its left, and the x from which on the latter serve.

        That is beyond the bulk of the law, where contours to the left do not press against the singularities of L.
        """
        return 1 + 1.5 * math.sqrt(self._spread), self._tabulate(1), self._tabulate(-1)

    @cached_property
    def _brackets(self) -> tuple[Floats, Floats]:
        """Some x in ascending order, and the distribution function there: quantiles lie in between."""
        switch, lower, upper = self._contours
        grid = np.concatenate(
            [[lower.x[0]], lower.x[lower.x <= switch][3::4], upper.x[upper.x > switch][::4], [upper.x[-1]]]
        )
        return grid, np.maximum.accumulate(self._distribution(grid)[0])

    def _distribution(self, x: Floats) -> tuple[Floats, Floats]:
        """Return the distribution function and the density at x, where E[Q] = 1."""
        switch, lower, upper = self._contours
        cumulative, density = np.where(x > switch, 1.0, 0.0), np.zeros_like(x)
        for rows, offset, chosen in (
            (lower, 0.0, (x <= switch) & (x >= lower.x[0])),
            (upper, 1.0, (x > switch) & (x <= upper.x[-1])),
        ):
            where = np.flatnonzero(chosen)
            for part in np.array_split(where, 1 + len(where) // 1024):
                if len(part):
                    above, density[part] = self._invert(x[part], rows)
                    cumulative[part] = above + offset
        return cumulative, density

    def _invert(self, x: Floats, rows: _Contours) -> tuple[Floats, Floats]:
        """Return integrals of L(u) e^{ux} du/u and L(u) e^{ux} du, over 2 pi i, along the contours for x."""
        x = x[:, None]
        crossing = np.interp(x, rows.x, rows.crossing)
        width = np.interp(x, rows.x, rows.curvature) ** -0.5
        scale = crossing + self._edge
        # About normal for many weights: 10 standard deviations. Otherwise e^{ux} ends it: Re u = -pi scale/(pi - y).
        half_y = np.minimum(5 * width / scale, 1.57)
        end = np.minimum(np.arcsinh(np.tan(half_y)), np.log(2 + 80 / (x * scale)))
        # y/2 = gd(r), tan(y/2) = sinh(r): the ends at +-pi, where L e^{ux} is flat but not analytic, go to infinity
        r = end * ((np.arange(_NODES) + 0.5) / _NODES)
        sinh, cosh = np.sinh(r), np.cosh(r)
        y = 2 * np.arctan(sinh)
        sin, cot = 2 * sinh / cosh**2, (1 - sinh**2) / (2 * sinh)
        u = crossing + scale * (y * cot - 1 + 1j * y)
        du = scale * (cot - y / sin**2 + 1j) * (2 / cosh)
        log_laplace, excess = _log_laplace((u / self._edge).ravel(), self.t, self._rate, self._mu2)
        exponent = np.where(
            np.abs(u) <= _RADIUS * self._edge,
            excess.reshape(u.shape) + u * (x - 1),
            log_laplace.reshape(u.shape) + u * x,
        )
        values = np.exp(exponent) * du
        rule = end[:, 0] / _NODES / math.pi
        return rule * np.sum((values / u).imag, axis=1), rule * np.sum(values.imag, axis=1)

    def cdf(self, x: ArrayLike) -> Floats:
        """Return P(Q_t <= x), to an absolute error of 1e-12 (for beta2 below 0.3: 1e-11).

        A law of standard deviation sd is not resolved better by x, rounded: to this comes 2^-50 E[Q]/sd.

        Args:
            x: numbers, of any shape.

        Returns:
            float64 of the same shape: 0 where x <= 0, nan where x is.

        >>> SecondMoment(1, 0.5).cdf([0.0, 1.0, 4.0]).round(8)  # P(|g| <= 1), P(|g| <= 2)
        array([0.        , 0.68268949, 0.95449974])
        """
        points = np.asarray(x, dtype=np.float64) / self.expectation
        result = self._distribution(np.atleast_1d(points).ravel())[0].reshape(points.shape)
        return np.where(np.isnan(points), np.nan, result)[()]

    def quantile(self, p: ArrayLike) -> Floats:
        """Return x with P(Q_t <= x) = p, by Newton's method within a bracket that shrinks.

        Args:
            p: probabilities, of any shape, in [1e-12, 1 - 1e-12]: the error of the CDF is not much smaller.

        Returns:
            float64 of the same shape: at which the CDF is p, to its own error.

        Raises:
            ValueError: a probability is out of its range.

        >>> law = SecondMoment(1, 0.5)
        >>> float(law.quantile(0.5).round(12)), law.cdf(law.quantile([0.01, 0.99])).round(12)
        (0.45493642312, array([0.01, 0.99]))
        """
        target = np.asarray(p, dtype=np.float64)
        wrong = target[~((target >= 1e-12) & (target <= 1 - 1e-12))]
        if wrong.size:
            raise ValueError(f"p must be in [1e-12, 1 - 1e-12], but is {float(wrong.flat[0])!r}")
        shape, target = target.shape, np.atleast_1d(target).ravel()
        grid, known = self._brackets
        index = np.clip(np.searchsorted(known, target), 1, len(grid) - 1)
        low, high = grid[index - 1], grid[index]
        x = np.clip(np.interp(target, known, grid), low, high)
        active = np.arange(len(x))
        while len(active):  # Newton needs about 5; each turn shortens a bracket
            cumulative, density = self._distribution(x[active])
            miss = cumulative - target[active]
            below = miss < 0
            low[active] = np.where(below, x[active], low[active])
            high[active] = np.where(below, high[active], x[active])
            with np.errstate(divide="ignore", invalid="ignore"):
                trial = x[active] - miss / density
            arrived = trial == x[active]
            inside = arrived | ((trial > low[active]) & (trial < high[active]))
            trial = np.where(inside, trial, np.sqrt(low[active] * high[active]))
            # a step from there squares what is missed
            near = np.abs(miss) <= 1e-9 * np.minimum(target[active], 1 - target[active])
            # where x is not resolved nothing is left in between
            done = arrived | (inside & near) | (np.nextafter(low[active], high[active]) == high[active])
            x[active] = trial
            active = active[~done]
        result: Floats = (x * self.expectation).reshape(shape)[()]
        return result


def _relative_moments(t_max: int, beta2: float, orders: Sequence[int], mu2: float) -> Floats:
    """Return E[psi_t^k] - 1 where E[Q_t] = 1, of shape (orders, t_max); meaningless where t <= k."""
    rate = -math.log(beta2)
    powers = np.array(orders)[:, None] / 2
    step = min(_step(float(s)) for s in powers[:, 0])
    # u is in units that do not depend on t: w_j is b^j, and E[Q_t] is S0 (1 + mu^2)
    log_means = np.log(np.expm1(-rate * np.arange(1, t_max + 1)) / math.expm1(-rate) * (1 + mu2))
    # to the left L - exp(-u) is u^2: what is left out there is exp(-34) = 2e-15
    low = -34 / (float(np.min(powers)) + 2) - log_means[-1]
    high = 42 + (4 * float(np.max(powers)) + 2) * rate + math.log1p(mu2)
    z = np.arange(low, min(high, _LARGEST_POWER), step)
    log_laplace, excess = np.zeros_like(z), np.zeros_like(z)
    result = np.empty((len(orders), t_max))
    for start in range(0, t_max, _ROWS):
        ts = np.arange(start + 1, min(start + _ROWS, t_max) + 1)
        x = np.exp(-rate * (ts - 1))[:, None] * (2 * np.exp(z))
        logs, phi = _log_and_excess(x)
        ratio = x / (1 + x)
        logs_all = np.cumsum(np.concatenate([log_laplace[None], -(logs + mu2 * ratio) / 2]), axis=0)[1:]
        excess_all = np.cumsum(np.concatenate([excess[None], (phi + mu2 * x * ratio) / 2]), axis=0)[1:]
        log_laplace, excess = logs_all[-1], excess_all[-1]
        gap = -np.expm1(-excess_all)
        for own, s in zip(result, powers[:, 0], strict=True):
            with np.errstate(over="ignore"):
                terms = np.exp(logs_all + s * (z + log_means[ts - 1, None]) - special.gammaln(s)) * gap
                # to the right only E[psi^k] of t = k + 1 has anything left, which falls as u^{-1/2}
                own[ts - 1] = np.sum(terms, axis=1) + terms[:, -1] / math.expm1(step / 2)
        # what is nothing here is nothing for every later t
        largest = log_laplace + np.max(powers * (z + log_means[-1]) - special.gammaln(powers), axis=0)
        kept = largest > -100.0
        z, log_laplace, excess = z[kept], log_laplace[kept], excess[kept]
    return step * result


def _check_pass(t_max: int, beta2: float, mean: float, sigma: float) -> None:
    if operator.index(t_max) < 1:
        raise ValueError(f"t_max must be an integer >= 1, but is {t_max!r}")
    _check(beta2, mean, sigma)


def psi_moments(
    t_max: int, beta2: float, orders: Sequence[int] = (1, 2), *, mean: float = 0.0, sigma: float = 1.0
) -> Floats:
    """Return E[psi_t^k] for t = 1, ..., t_max and every order k, in one pass over the product L.

    A moment that does not exist (t <= k) is nan, and not an error as in `SecondMoment.psi_moment`: every sequence of
    steps begins with some, and the others are wanted.

    Args:
        t_max: last step, >= 1.
        beta2: decay rate b, in [1e-80, 1).
        orders: k, each >= 1.
        mean: mean of the gradients, at most 1e12 sigma and 1e150 in size.
        sigma: their standard deviation, in [1e-150, 1e150].

    Returns:
        float64 of the shape (len(orders), t_max); step t is at t - 1.

    Raises:
        ValueError: an argument is out of its range.

    >>> psi_moments(4, 0.5).round(6)
    array([[     nan, 1.811811, 1.446219, 1.341511],
           [     nan,      nan, 3.391002, 2.405104]])
    """
    _check_pass(t_max, beta2, mean, sigma)
    for k in orders:
        if operator.index(k) < 1:
            raise ValueError(f"orders must be integers >= 1, but one is {k!r}")
    column = np.array(orders)[:, None]
    with np.errstate(over="ignore"):
        units = (mean**2 + sigma**2) ** (-column / 2)
    moments = units * (1 + _relative_moments(t_max, beta2, orders, (mean / sigma) ** 2))
    return np.where(np.arange(1, t_max + 1) > column, moments, np.nan)


def psi_variances(t_max: int, beta2: float, *, mean: float = 0.0, sigma: float = 1.0) -> Floats:
    """Return Var[psi_t] for t = 1, ..., t_max, in one pass; nan for t < 3 (see `psi_moments`).

    The relative error is below 1e-12. Arguments and errors are those of `psi_moments`.

    Returns:
        float64 of the shape (t_max,); step t is at t - 1.

    >>> psi_variances(6, 0.999).round(6)
    array([     nan,      nan, 1.090141, 0.429204, 0.251956, 0.174641])
    """
    _check_pass(t_max, beta2, mean, sigma)
    first, second = _relative_moments(t_max, beta2, (1, 2), (mean / sigma) ** 2)
    variances = (second - 2 * first - first**2) / (mean**2 + sigma**2)
    return np.where(np.arange(1, t_max + 1) > 2, variances, np.nan)


@lru_cache(maxsize=256)
def _limit_variance(beta2: float) -> float:
    return SecondMoment(math.inf, beta2).psi_variance()


def r_true(t: int, beta2: float) -> float:
    """Return the rectification that gives psi_t the variance of its limit, where the gradients are N(0, sigma^2).

        r = sqrt(Var[psi_inf] / Var[psi_t])        (Liu et al. 2019, section 5.2, without its two approximations)

    Args:
        t: step, >= 3.
        beta2: decay rate b, in [1e-80, 1).

    Returns:
        A number in (0, 1], to a relative error of 1e-13.

    Raises:
        ValueError: t < 3, where Var[psi_t] does not exist, or beta2 is out of its range.

    >>> round(r_true(3, 0.999), 6), round(r_true(6, 0.999), 6)
    (0.015154, 0.037861)
    """
    return math.sqrt(_limit_variance(beta2) / SecondMoment(t, beta2).psi_variance())
