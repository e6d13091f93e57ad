"""Bias correction and rectification of Adam's second moment, by positive sums.

Notation (Liu et al. 2019, arXiv 1908.03265): b is a decay rate (beta_1 or beta_2), t >= 1 the step. With

    S0(t) = sum_{j<t} b^j        S1(t) = sum_{j<t} j b^j

every function here is a ratio of these sums: no difference of nearly equal numbers occurs, however close b is to 1.

Number types. A Python float gives the float64 nearest to the exact value (`r_t`: within one unit in the last place),
an `mpmath.mpf` the value at the working precision, a `fractions.Fraction` the exact value (`r_t`: a float64, as the
root is seldom rational). Floats and mpfs are dyadic rationals: their sums are taken in integers with so many bits that
only the last division rounds. No libm function takes part, so the results are the same on every platform.
"""

from __future__ import annotations

import math
import operator
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeVar

__all__ = [
    "bias_correction",
    "exact_r_t",
    "first_adaptive_step",
    "first_exact_step",
    "first_order_variance",
    "n_eff",
    "r_t",
    "rho_inf",
    "rho_t",
]

Scalar = TypeVar("Scalar")
"""float, mpmath.mpf or fractions.Fraction: a result has the type of the beta that it is computed from."""

# Sums of floats carry 256 bits: rounding each power down costs at most t^2 2^-256 in all, below 2^-200 for t <= 1e6.
_FLOAT_BITS = 256
# Sums are kept for every t up to here; later ones continue from the last one asked for, so that a loop stays linear.
_KEPT = 8192


class _LagSums:
    """S0 and S1 of one beta, for t = 1, 2, ...: in units of 2^-bits, or exact Fractions where bits is None."""

    def __init__(self, beta: Fraction, bits: int | None) -> None:
        self.beta = beta
        self.bits = bits
        self.unit: Any = Fraction(1) if bits is None else 2**bits
        self.kept: list[tuple[Any, Any]] = [(0 * self.unit, 0 * self.unit)]
        self.power: Any = self.unit
        self.late: tuple[int, Any, Any, Any] | None = None

    def _times_beta(self, value: Any) -> Any:
        if self.bits is None:
            return value * self.beta
        return value * self.beta.numerator // self.beta.denominator

    def __call__(self, t: int) -> tuple[Any, Any]:
        while len(self.kept) <= min(t, _KEPT):
            j = len(self.kept) - 1
            s0, s1 = self.kept[j]
            self.kept.append((s0 + self.power, s1 + j * self.power))
            self.power = self._times_beta(self.power)
        if t <= _KEPT:
            return self.kept[t]
        if self.late is None or self.late[0] > t:
            self.late = (_KEPT, self.power, *self.kept[_KEPT])
        j, power, s0, s1 = self.late
        while j < t and power != 0:
            s0, s1, power = s0 + power, s1 + j * power, self._times_beta(power)
            j += 1
        self.late = (t, power, s0, s1)
        return s0, s1


_lag_sums = lru_cache(maxsize=32)(_LagSums)


def _check_beta(beta: Any, name: str) -> None:
    if not 0 <= beta < 1:
        raise ValueError(f"{name} must be in [0, 1), but is {beta!r}")


def _check_step(t: int) -> int:
    if operator.index(t) < 1:
        raise ValueError(f"t must be an integer >= 1, but is {t!r}")
    return operator.index(t)


def _exactly(beta: Any) -> tuple[Fraction, int | None]:
    """Return beta as a rational, and the number of bits that its sums need (None: exact)."""
    if isinstance(beta, Fraction):
        return beta, None
    if not hasattr(beta, "_mpf_"):
        return Fraction(float(beta)), _FLOAT_BITS
    import mpmath  # type: ignore[import-untyped]

    numerator, denominator = mpmath.libmp.to_rational(beta._mpf_)
    return Fraction(int(numerator), int(denominator)), max(_FLOAT_BITS, 3 * int(mpmath.mp.prec) + 64)


def _quotient(numerator: Any, denominator: Any, like: Any) -> Any:
    """Return numerator/denominator (ints or Fractions) in the type of `like`, rounded once."""
    if isinstance(like, Fraction):
        return Fraction(numerator) / denominator
    if not hasattr(like, "_mpf_"):
        return numerator / denominator  # Python's int / int is correctly rounded
    import mpmath

    return mpmath.fdiv(numerator, denominator)


def _rho_inf(beta2: Any) -> Any:
    _check_beta(beta2, "beta2")
    beta, _ = _exactly(beta2)
    return _quotient(beta.denominator + beta.numerator, beta.denominator - beta.numerator, beta2)


def rho_inf(beta2: Scalar) -> Scalar:
    """Return rho_inf, the length of the simple moving average that the settled exponential one resembles.

        rho_inf = lim_{t -> inf} rho_t = (1 + b) / (1 - b)        (= 2/(1-b) - 1, Liu et al. 2019, section 4.1)

    Args:
        beta2: decay rate b of the second moment, in [0, 1); float, mpf or Fraction.

    Raises:
        ValueError: beta2 is outside [0, 1).

    >>> rho_inf(0.75), rho_inf(Fraction(999, 1000))
    (7.0, Fraction(1999, 1))
    """
    result: Scalar = _cached_rho_inf(beta2) if isinstance(beta2, float) else _rho_inf(beta2)
    return result


def _rho_parts(t: int, beta2: Any) -> tuple[Any, Any]:
    """Return numerator and denominator of rho_t = (S0 + 2 S1) / S0."""
    s0, s1 = _lag_sums(*_exactly(beta2))(t)
    return s0 + 2 * s1, s0


def _rho_t(t: int, beta2: Any) -> Any:
    t = _check_step(t)
    _check_beta(beta2, "beta2")
    return _quotient(*_rho_parts(t, beta2), beta2)


def rho_t(t: int, beta2: Scalar) -> Scalar:
    """Return rho_t, the length of the simple moving average that the exponential one resembles after t steps.

    The two averages have the same centre of mass (Liu et al. 2019, equation 4). A moving average of length rho has the
    mean lag (rho - 1)/2, the exponential one with weights proportional to b^j has S1/S0, hence

        rho_t = 1 + 2 S1(t) / S0(t)        (= rho_inf - 2 t b^t / (1 - b^t))

    rho_1 = 1; rho_t increases with t and with b; rho_t < t for t >= 2; rho_t < rho_inf.

    Args:
        t: step, counted from 1.
        beta2: decay rate b of the second moment, in [0, 1); float, mpf or Fraction.

    Raises:
        ValueError: t < 1, or beta2 is outside [0, 1).

    >>> rho_t(6, 0.999), rho_t(4, 1 - 2**-53)
    (5.994163751656718, 3.9999999999999996)
    >>> rho_t(3, Fraction(1, 2))
    Fraction(15, 7)
    """
    result: Scalar = _cached_rho_t(t, beta2) if isinstance(beta2, float) else _rho_t(t, beta2)
    return result


def _bias_correction(t: int, beta: Any) -> Any:
    t = _check_step(t)
    _check_beta(beta, "beta")
    sums = _lag_sums(*_exactly(beta))
    exact = sums.beta
    return _quotient((exact.denominator - exact.numerator) * sums(t)[0], exact.denominator * sums.unit, beta)


def bias_correction(t: int, beta: Scalar) -> Scalar:
    """Return 1 - beta^t, the sum of an exponential moving average's weights after t steps.

        1 - b^t = (1 - b) S0(t)        (Kingma & Ba 2015, section 3)

    Args:
        t: step, counted from 1.
        beta: decay rate b, in [0, 1); float, mpf or Fraction.

    Raises:
        ValueError: t < 1, or beta is outside [0, 1).

    >>> bias_correction(2, 0.5), bias_correction(1, 1 - 2**-53) == 2**-53
    (0.75, True)
    """
    result: Scalar = _cached_bias_correction(t, beta) if isinstance(beta, float) else _bias_correction(t, beta)
    return result


def first_order_variance(rho: Scalar) -> Scalar:
    """Return the first-order variance of psi, where psi^2 ~ Scale-inv-chi2(rho, 1/sigma^2), in units of 1/sigma^2.

        Var[psi] ~ Var[psi^2] / (4 E[psi^2]) = rho / (2 (rho - 2)(rho - 4))        (Liu et al. 2019, equation 5)

    Args:
        rho: degrees of freedom, > 4; float, mpf or Fraction.

    Raises:
        ValueError: rho <= 4, where psi^2 has no variance.

    >>> first_order_variance(5.0), first_order_variance(Fraction(6))
    (0.8333333333333334, Fraction(3, 8))
    """
    number: Any = rho
    if not number > 4:
        raise ValueError(f"the first-order variance of psi does not exist for rho <= 4, and rho is {rho!r}")
    result: Scalar = number / (2 * (number - 2) * (number - 4))
    return result


def _r_t(t: int, beta2: Any) -> Any:
    t = _check_step(t)
    _check_beta(beta2, "beta2")
    beta, _ = _exactly(beta2)
    now = Fraction(*_rho_parts(t, beta2))
    if beta <= Fraction(3, 5):
        raise ValueError(
            f"the first-order variance of psi does not exist for rho_inf <= 4: rho_inf is {float(rho_inf(beta))!r} "
            f"at beta2 = {beta2!r}"
        )
    if now <= 4:
        raise ValueError(
            f"the first-order variance of psi does not exist for rho_t <= 4: rho_t is {float(now)!r} "
            f"at t = {t}, beta2 = {beta2!r}"
        )
    square = first_order_variance(rho_inf(beta)) / first_order_variance(now)
    if not hasattr(beta2, "_mpf_"):
        return math.sqrt(square)
    import mpmath

    return mpmath.sqrt(mpmath.fdiv(square.numerator, square.denominator))


def r_t(t: int, beta2: Scalar) -> Scalar:
    """Return the rectification r_t, which gives psi at step t the variance of its limit.

        r_t = sqrt(Var1(rho_inf) / Var1(rho_t)),    Var1 = `first_order_variance`
            = sqrt((rho_t-4)(rho_t-2) rho_inf / ((rho_inf-4)(rho_inf-2) rho_t))        (Liu et al. 2019, section 5.2)

    rho_t is not rounded in between, so r_t is as accurate where rho_t is close to 4 as elsewhere.

    Args:
        t: step, counted from 1.
        beta2: decay rate b of the second moment, in [0, 1); float, mpf or Fraction.

    Returns:
        A number in (0, 1); a float64 for a Fraction.

    Raises:
        ValueError: t < 1, beta2 is outside [0, 1), rho_t <= 4 or rho_inf <= 4.

    >>> round(r_t(6, 0.999), 15)
    0.025821112801865
    >>> r_t(4, 0.999)
    Traceback (most recent call last):
    ...
    ValueError: the first-order variance of psi does not exist for rho_t <= 4: rho_t is 3.997498749875438 at t = 4, \
beta2 = 0.999
    """
    result: Scalar = _cached_r_t(t, beta2) if isinstance(beta2, float) else _r_t(t, beta2)
    return result


def _n_eff_parts(t: int, beta2: Any) -> tuple[Any, Any]:
    """Return numerator and denominator of n_t = S0(b)^2 / S0(b^2)."""
    beta, bits = _exactly(beta2)
    sum_of_weights, _ = _lag_sums(beta, bits)(t)
    sum_of_squares, _ = _lag_sums(beta**2, bits)(t)
    return sum_of_weights**2, sum_of_squares * (1 if bits is None else 2**bits)


def _n_eff(t: int, beta2: Any) -> Any:
    t = _check_step(t)
    _check_beta(beta2, "beta2")
    return _quotient(*_n_eff_parts(t, beta2), beta2)


def n_eff(t: int, beta2: Scalar) -> Scalar:
    """Return n_t, the number of equally weighted squares whose mean varies as much as the exponential average.

    Of independent squares of one variance, a mean with weights w_j has that variance times sum w_j^2 / (sum w_j)^2
    (Kish 1965, section 11.7), here with w_j = b^j at lag j:

        n_t = S0(t; b)^2 / S0(t; b^2)        (= rho_inf (1 - b^t) / (1 + b^t))

    n_1 = 1; n_t increases with t and with b; n_t < t for t >= 2; n_t < rho_inf.

    Args:
        t: step, counted from 1.
        beta2: decay rate b of the second moment, in [0, 1); float, mpf or Fraction.

    Raises:
        ValueError: t < 1, or beta2 is outside [0, 1).

    >>> n_eff(3, Fraction(1, 2)), n_eff(3, 1 - 2**-53)
    (Fraction(7, 3), 3.0)
    """
    result: Scalar = _cached_n_eff(t, beta2) if isinstance(beta2, float) else _n_eff(t, beta2)
    return result


_THIRD = Fraction(1, 3)


def first_exact_step(beta2: Any) -> int | None:
    """Return the first step with n_t > 2, at which psi has a variance; None where there is none: beta2 <= 1/3.

    Args:
        beta2: decay rate b of the second moment, in [0, 1); float, mpf or Fraction; decided as the number that it is.

    Raises:
        ValueError: beta2 is outside [0, 1).

    >>> first_exact_step(0.999), first_exact_step(0.38), first_exact_step(Fraction(1, 3))
    (3, 4, None)
    """
    _check_beta(beta2, "beta2")
    beta, _ = _exactly(beta2)
    if beta <= _THIRD:
        return None
    t = 3
    while Fraction(*_n_eff_parts(t, beta)) <= 2:
        t += 1
    return t


def _exact_r_t(t: int, beta2: Any) -> Any:
    import mpmath

    t = _check_step(t)
    _check_beta(beta2, "beta2")
    beta, _ = _exactly(beta2)
    now, limit = Fraction(*_n_eff_parts(t, beta2)), rho_inf(beta)
    for name, value in (("rho_inf", limit), ("n_t", now)):
        if value <= 2:
            raise ValueError(
                f"psi has no variance for {name} <= 2: {name} is {float(value)!r} at t = {t}, beta2 = {beta2!r}"
            )
    is_mpf = hasattr(beta2, "_mpf_")
    # x/(x-1) and x/G^2 agree to as many digits as x has before its point.
    with mpmath.workprec(2 * (int(mpmath.mp.prec) if is_mpf else 53) + 64 + int(limit).bit_length()):

        def variance(n: Fraction) -> Any:
            x = mpmath.fdiv(n.numerator, 2 * n.denominator)
            ratio = mpmath.gammaprod([x], [x - 0.5])
            return x / mpmath.fdiv(n.numerator - 2 * n.denominator, 2 * n.denominator) - x / ratio**2

        result = mpmath.sqrt(variance(limit) / variance(now))
    return +result if is_mpf else float(result)


def exact_r_t(t: int, beta2: Scalar) -> Scalar:
    """Return the exact rectification: of n_t terms instead of rho_t, and by the variance itself, not its expansion.

        r = sqrt(Var(rho_inf) / Var(n_t)),    Var(n) = x/(x-1) - x (Gamma(x - 1/2) / Gamma(x))^2,    x = n/2

    Var(n) is the variance of psi, psi^2 ~ Scale-inv-chi2(n, 1): E[psi^2] = x/(x-1), E[psi] = sqrt(x) Gamma(x - 1/2) /
    Gamma(x). It exists for n > 2. In the limit of weights that fade no more, n_t and rho_t are both rho_inf.

    Args:
        t: step, counted from 1.
        beta2: decay rate b of the second moment, in [0, 1); float, mpf or Fraction.

    Returns:
        A number in (0, 1); a float64 for a Fraction.

    Raises:
        ValueError: t < 1, beta2 is outside [0, 1), n_t <= 2 or rho_inf <= 2.

    >>> round(exact_r_t(3, 0.999), 15), round(exact_r_t(6, 0.999), 15)
    (0.015161573790852, 0.037880206811284)
    """
    result: Scalar = _cached_exact_r_t(t, beta2) if isinstance(beta2, float) else _exact_r_t(t, beta2)
    return result


_cached_rho_inf = lru_cache(maxsize=2**10)(_rho_inf)
_cached_rho_t = lru_cache(maxsize=2**16)(_rho_t)
_cached_bias_correction = lru_cache(maxsize=2**16)(_bias_correction)
_cached_r_t = lru_cache(maxsize=2**16)(_r_t)
_cached_n_eff = lru_cache(maxsize=2**16)(_n_eff)
_cached_exact_r_t = lru_cache(maxsize=2**16)(_exact_r_t)


def first_adaptive_step(beta2: Any, threshold: Any, strict: bool = False) -> int | None:
    """Return the first step at which RAdam adapts its learning rate, or None if it never does.

        min {t : rho_t >= threshold}    (strict: >),    and only if rho_inf > 4

    rho_t is compared as `rho_t` returns it: rounded to float64 for a float beta2, exact for a Fraction.
    The search looks at one step after another: its time grows with the answer.

    Args:
        beta2: decay rate of the second moment, in [0, 1); float, mpf or Fraction.
        threshold: the paper has 4 with strict=True, its authors' code 5 with strict=False, torch 5 with strict=True.
        strict: whether rho_t must exceed the threshold.

    Raises:
        ValueError: beta2 is outside [0, 1), or the threshold is NaN.

    >>> first_adaptive_step(0.999, 4, strict=True), first_adaptive_step(0.999, 5), first_adaptive_step(0.5, 4)
    (5, 6, None)
    """
    if math.isnan(threshold):
        raise ValueError(f"threshold must be a number, but is {threshold!r}")
    compare = operator.gt if strict else operator.ge
    limit: Any = rho_inf(beta2)
    # rho_t stays below rho_inf and only its rounding can reach it: an exact rho_t needs room above the threshold.
    reachable = limit > threshold if isinstance(beta2, Fraction) else compare(limit, threshold)
    if not (limit > 4 and reachable):
        return None
    t: int = math.floor(max(1, min(threshold, limit)))  # rho_t <= t
    value: Any = rho_t(t, beta2)
    while not compare(value, threshold):
        sums = _lag_sums(*_exactly(beta2))
        if sums.late is not None and sums.late[0] <= t and sums.late[1] == 0:
            return None  # every later power is 0 to the last bit carried, so rho_t no longer changes
        t += 1
        value = rho_t(t, beta2)
    return t
