"""The length of the approximated simple moving average, and the rectification term: the paper's, and the exact one.

Every formula here is free of cancellation, takes constant time, and is written once over a namespace: Python's `math`
for numbers, `torch` for float64 tensors.

References:
    Liu et al., On the Variance of the Adaptive Learning Rate and Beyond, arXiv 1908.03265, equations 4 and 5.
"""

from __future__ import annotations

import decimal
import functools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple, TypeVar, cast

import torch

Number = TypeVar("Number", float, torch.Tensor)

# Stands in for beta = 0 under the logarithm: beta**t is then 1e-308 or less, which no sum with 1 notices.
_SMALLEST_BETA = 2.0**-1022
# exp(700) is still finite in float64, and the terms divided by it are below every rounding error.
_LARGEST_EXPONENT = 700.0
# On y <= 1 a tenth level would change the fraction by less than 1e-21.
_CONTINUED_FRACTION_LEVELS = 9

# Above 8 the continued fraction for a ratio of gamma functions has converged to float64 after 12 levels.
_GAMMA_SHIFT = 8
_GAMMA_LEVELS = 14

# Relative error that rho_t may have, with a margin: 3.1 units of 2**-53 have been seen, 8 are allowed.
_RHO_ERROR = 2.0**-48
# The subtractions cancel 16 digits each, as 1 - beta is at least 2**-53; 17 tell float64 numbers apart.
_DIGITS = 80


class _Namespace(NamedTuple):
    """The functions that the formulas need, for one kind of number."""

    log: Callable[[Any], Any]
    expm1: Callable[[Any], Any]
    sqrt: Callable[[Any], Any]
    minimum: Callable[[Any, float], Any]
    maximum: Callable[[Any, float], Any]


_NUMBERS = _Namespace(math.log, math.expm1, math.sqrt, min, max)
_TENSORS = _Namespace(
    torch.log,
    torch.expm1,
    torch.sqrt,
    lambda x, bound: x.clamp(max=bound),
    lambda x, bound: x.clamp(min=bound),
)


def _namespace(value: float | torch.Tensor) -> _Namespace:
    return _TENSORS if isinstance(value, torch.Tensor) else _NUMBERS


def _decay_rate(beta: float | torch.Tensor) -> Any:
    """-log(beta), finite for beta = 0 too."""
    xp = _namespace(beta)
    return -xp.log(xp.maximum(beta, _SMALLEST_BETA))


def _langevin(y: Number) -> tuple[Number, Number]:
    """L(y) = coth(y) - 1/y and 1 - L(y), each without cancellation, for y > 0."""
    if not isinstance(y, torch.Tensor):
        return _langevin_near(y) if y <= 1.0 else _langevin_far(y)
    near = _langevin_near(y.clamp(max=1.0))
    far = _langevin_far(y.clamp(min=1.0))
    return torch.where(y <= 1.0, near[0], far[0]), torch.where(y <= 1.0, near[1], far[1])


def _langevin_near(y: Any) -> tuple[Any, Any]:
    """Of y <= 1."""
    square = y * y
    fraction = 2.0 * _CONTINUED_FRACTION_LEVELS + 3.0
    for level in range(_CONTINUED_FRACTION_LEVELS, 0, -1):
        fraction = (2.0 * level + 1.0) + square / fraction
    langevin = y / fraction
    return langevin, 1.0 - langevin


def _langevin_far(y: Any) -> tuple[Any, Any]:
    """Of y >= 1."""
    xp = _namespace(y)
    complement = 1.0 / y - 2.0 / xp.expm1(xp.minimum(2.0 * y, _LARGEST_EXPONENT))
    return 1.0 - complement, complement


def _of_rate(beta2: float | torch.Tensor) -> tuple[Any, Any]:
    """a/2 and L(a/2) for a = -log(beta2)."""
    half_rate = 0.5 * _decay_rate(beta2)
    return half_rate, _langevin(half_rate)[0]


_of_number = functools.lru_cache(maxsize=1024)(_of_rate)
_rate_of_number = functools.lru_cache(maxsize=1024)(_decay_rate)


def bias_correction(t: Number, beta: float | torch.Tensor) -> Number:
    r"""Weight that an exponential moving average of `t` terms has gathered: :math:`1 - \beta^t`.

    Args:
        t: number of terms, at least 1; a number or a float64 tensor.
        beta: decay in [0, 1); a number or a float64 tensor.

    Example:
        >>> bias_correction(2, 0.9)
        0.18999999999999997
        >>> bias_correction(1, 1 - 2**-53) == 2**-53
        True

    References:
        Kingma & Ba, Adam, arXiv 1412.6980, section 3.
    """
    exponent: Any = -t * (_decay_rate(beta) if isinstance(beta, torch.Tensor) else _rate_of_number(beta))
    return cast(Number, -_namespace(exponent).expm1(exponent))


def rho_inf(beta2: Number) -> Number:
    r"""Length of the SMA at infinite `t`: :math:`\rho_\infty = 2/(1-\beta_2) - 1 = (1+\beta_2)/(1-\beta_2)`.

    Example:
        >>> rho_inf(0.5)
        3.0
    """
    return (1.0 + beta2) / (1.0 - beta2)


def rho_t(t: Number, beta2: float | torch.Tensor) -> Number:
    r"""Length of the SMA whose centre of mass is that of the EMA after `t` steps.

    .. math::
        \rho_t = \rho_\infty - \frac{2 t \beta_2^t}{1 - \beta_2^t}
               = t \left(1 - L\!\left(\tfrac{a t}{2}\right)\right) + L\!\left(\tfrac{a}{2}\right),
        \qquad a = -\log \beta_2, \quad L(y) = \coth y - \frac1y

    The first form cancels: at beta2 = 1 - 1e-9 it gives 5 for t = 3. In the second every term is positive.

    Args:
        t: step, at least 1; a number or a float64 tensor.
        beta2: decay in [0, 1); a number or a float64 tensor.

    Example:
        >>> rho_t(1, 0.999)
        1.0
        >>> round(rho_t(6, 0.999), 12)
        5.994163751657
        >>> rho_t(3, 1 - 1e-9) < 3
        True

    References:
        Liu et al. 2019, equation 4. L is the Langevin function: its continued fraction is DLMF 4.39.2 for tanh,
        rearranged.
    """
    half_rate, langevin = _of_rate(beta2) if isinstance(beta2, torch.Tensor) else _of_number(beta2)
    _, complement = _langevin(half_rate * t)
    return cast(Number, t * complement + langevin)


def reaches(t: int, beta2: float, threshold: float) -> bool:
    """Whether rho_t, the exact value rounded to float64, is at least `threshold`.

    Where :func:`rho_t`'s last bits would decide, the defining formula does, in decimal arithmetic.

    Example:
        >>> reaches(12, 0.8, 7.2290326056819465), reaches(12, 0.8, 7.229032605681947)
        (True, False)
    """
    rho = rho_t(float(t), beta2)
    if abs(rho - threshold) > _RHO_ERROR * rho:
        return rho >= threshold
    with decimal.localcontext(decimal.Context(prec=_DIGITS, Emin=decimal.MIN_EMIN, traps=[])):
        b = decimal.Decimal(beta2)
        power = b**t
        return float((1 + b) / (1 - b) - 2 * t * power / (1 - power)) >= threshold


# No optimizer counts further.
_LAST_STEP = 2**63


@functools.lru_cache(maxsize=1024)
def first_adaptive_step(beta2: float, threshold: float) -> int | None:
    r"""The first t with :math:`\rho_t \ge` threshold; None where there is none.

    rho_t grows with t, so it decides the branch of every step by one comparison of integers, on any device. With
    :math:`\rho_\infty \le 4` no step is adaptive: the variance at infinite t, to which r_t refers, does not exist.

    Args:
        beta2: decay in [0, 1).
        threshold: smallest rho_t, exact and rounded to float64, of an adaptive step.

    Example:
        >>> first_adaptive_step(0.999, 5.0), first_adaptive_step(0.65, 4.0), first_adaptive_step(0.65, 5.0)
        (6, 8, None)

    References:
        Liu et al. 2019, Algorithm 2, for the branch. rho_t = 1 + 2 sum_{j<t} j b^j / sum_{j<t} b^j is one more than
        twice the mean of j under weights b^j, and a longer sum moves the mean up.
    """
    limit = rho_inf(beta2)
    if limit <= 4.0 or threshold > limit * (1.0 + _RHO_ERROR):
        return None
    high = 1
    while not reaches(high, beta2, threshold):
        high *= 2
        if high > _LAST_STEP:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if reaches(middle, beta2, threshold):
            high = middle
        else:
            low = middle
    return high


def square_root(x: Number) -> Number:
    """The square root of a number or a tensor."""
    return cast(Number, _namespace(x).sqrt(x))


def r_t(t: Number, beta2: float | torch.Tensor) -> Number:
    r"""Rectification term: the factor that gives psi_t the variance that it has at infinite `t`, to first order.

    .. math::
        r_t = \sqrt{\frac{(\rho_t-4)(\rho_t-2)\rho_\infty}{(\rho_\infty-4)(\rho_\infty-2)\rho_t}}

    Args:
        t: step, at least 1; a number or a float64 tensor.
        beta2: decay in [0, 1); a number or a float64 tensor.

    Raises:
        ValueError: for numbers with rho_t < 4 or rho_inf <= 4, where the first-order variance does not exist.
            Tensors give NaN or a meaningless number there, for `torch.where` to pass over.

    Example:
        >>> round(r_t(6, 0.999), 12)
        0.025821112802

    References:
        Liu et al. 2019, equation 5 and Algorithm 2.
    """
    rho: Any = rho_t(t, beta2)
    limit: Any = rho_inf(cast(Any, beta2))
    xp = _namespace(rho)
    if xp is _NUMBERS and not (rho >= 4.0 and limit > 4.0):
        raise ValueError(
            f"r_t does not exist at t={t!r}, beta2={beta2!r}: rho_t={rho!r} and rho_inf={limit!r}, "
            "but rho_t must be at least 4 and rho_inf above 4; take a momentum step there"
        )
    return cast(Number, xp.sqrt((rho - 4.0) / (limit - 4.0) * ((rho - 2.0) / (limit - 2.0)) * (limit / rho)))


def n_eff(t: Number, beta2: float | torch.Tensor) -> Number:
    r"""Effective number of terms of the EMA after `t` steps: of an SMA whose mean of squares has the same variance.

    .. math::
        n_t = \frac{(\sum_j w_j)^2}{\sum_j w_j^2} = \rho_\infty \frac{1-\beta_2^t}{1+\beta_2^t},
        \qquad w_j = \beta_2^j, \; j < t

    n_1 = 1, n_t < t from t = 2 on, and n_t rises to rho_inf.

    Args:
        t: step, at least 1; a number or a float64 tensor.
        beta2: decay in [0, 1); a number or a float64 tensor.

    Example:
        >>> round(n_eff(6, 0.999), 12), round(n_eff(3, 0.5), 12)
        (5.999982482547, 2.333333333333)

    References:
        Kish, Survey Sampling, 1965, section 11.7, for the definition; both sums are geometric.
    """
    weight: Any = bias_correction(t, beta2)
    return cast(Number, rho_inf(cast(Any, beta2)) * (weight / (2.0 - weight)))


@functools.lru_cache(maxsize=1024)
def first_exact_step(beta2: float) -> int | None:
    r"""The first t with :math:`n_t > 2`, where psi_t has a variance; None where there is none.

    :math:`n_t > 2` where :math:`3\beta_2 - 1 > \beta_2^t (3 - \beta_2)`: at t = 3 for
    :math:`\beta_2 > (3-\sqrt 5)/2`, later below, and never for :math:`\beta_2 \le 1/3`. Decided in rationals.

    Example:
        >>> first_exact_step(0.999), first_exact_step(0.35), first_exact_step(1 / 3)
        (3, 4, None)
    """
    b = Fraction(beta2)
    if 3 * b <= 1:
        return None
    t = 3
    # 3 b - 1 is at least 2^-54, so this ends before t = 40.
    while 3 * b - 1 <= b**t * (3 - b):
        t += 1
    return t


def _gamma_excess(x: Number) -> Number:
    """(Gamma(x) / Gamma(x - 1/2))^2 - (x - 3/4), for x >= 1, by positive terms.

    Brouncker's continued fraction, ((4x-3) + 1/(2(4x-3) + 9/(2(4x-3) + 25/...)))/4 for the square, far from 0; and
    from there downwards by Gamma(x + 1) = x Gamma(x).
    """
    twice: Any = 8.0 * (x + float(_GAMMA_SHIFT)) - 6.0
    fraction = twice
    for level in range(_GAMMA_LEVELS, 0, -1):
        fraction = twice + (2.0 * level + 1.0) ** 2 / fraction
    excess = 0.25 / fraction
    for shift in range(_GAMMA_SHIFT - 1, -1, -1):
        above: Any = x + float(shift)
        excess = (0.0625 + (above - 0.5) * (above - 0.5) * excess) / (above * above)
    return cast(Number, excess)


def exact_r_t(t: Number, beta2: float | torch.Tensor) -> Number:
    r"""Exact rectification: the factor that gives psi_t the variance that it has at infinite `t`.

    With :math:`x_t = n_t/2` and :math:`G(x) = \Gamma(x)/\Gamma(x-\tfrac12)`,

    .. math::
        r_t = \sqrt{V(x_\infty)/V(x_t)}, \qquad V(x) = \frac{x}{x-1} - \frac{x}{G(x)^2}

    V is the variance of psi = (mean of 2x squares of standard normal numbers)^(-1/2). Nothing cancels in
    :math:`V = x (1/4 + \delta) / ((x-1)(x - 3/4 + \delta))` with :math:`\delta = G^2 - (x - 3/4)`.

    Args:
        t: step, at least 1; a number or a float64 tensor.
        beta2: decay in [0, 1); a number or a float64 tensor.

    Raises:
        ValueError: for numbers with n_t < 2 or rho_inf <= 2, where psi has no variance. Tensors give a meaningless
            number there, for `torch.where` to pass over.

    Example:
        >>> round(exact_r_t(3, 0.999), 9), round(exact_r_t(6, 0.999), 9)
        (0.015161574, 0.037880207)

    References:
        The inverse chi-squared law: E[psi^2] = x/(x-1), E[psi] = sqrt(x)/G(x). NIST DLMF 5.11(iii) for the ratio of
        gamma functions; Brouncker's continued fraction for its square.
    """
    now: Any = 0.5 * n_eff(t, beta2)
    limit: Any = 0.5 * rho_inf(cast(Any, beta2))
    # (3 b - 1) without a rounding next to b = 1/3: both differences are exact there.
    beyond: Any = 0.5 * ((2.0 * beta2 - 1.0) + beta2) / (1.0 - beta2)
    xp = _namespace(now)
    # The branch is decided in rationals: next to it n_t, rounded, may be 2 or a little less.
    if xp is _NUMBERS and not (now > 1.0 - _RHO_ERROR and beyond > 0.0):
        raise ValueError(
            f"exact_r_t does not exist at t={t!r}, beta2={beta2!r}: n_t={2 * now!r} and rho_inf={2 * limit!r}, "
            "but both must be above 2; take a momentum step there"
        )
    of_now: Any = _gamma_excess(now)
    of_limit: Any = _gamma_excess(limit)
    square = (
        ((now - 1.0) / beyond)
        * (limit / now)
        * ((0.25 + of_limit) / (0.25 + of_now))
        * ((now - 0.75 + of_now) / (limit - 0.75 + of_limit))
    )
    return cast(Number, xp.sqrt(xp.minimum(xp.maximum(square, 0.0), 1.0)))
