"""The law of psi^2 = 1/mean(g^2) over rho normal gradients, and the variance of psi without cancellation.

Notation (Liu et al. 2019, arXiv 1908.03265, section 4): rho numbers g ~ N(0, sigma^2), tau2 = 1/sigma^2. Then
sum (g/sigma)^2 follows chi^2 with rho degrees of freedom, and

    psi^2 = rho tau2 / chi^2_rho  ~  Scale-inv-chi2(rho, tau2)  =  inverse gamma(a = rho/2, scale = rho tau2/2).

rho need not be an integer. The k-th moment of psi exists for rho > k: E[psi^k] = (x tau2)^(k/2) Gamma(x - k/2)/Gamma(x)
with x = rho/2.

Exact variance. With R = Gamma(x)/Gamma(x - 1/2) and theta = R^2 - (x - 1),

    E[psi^2] = tau2 x/(x-1),    E[psi]^2 = tau2 x/R^2,    Var[psi] = E[psi^2] theta / (x - 1 + theta).

No difference is left if theta is known. By Gauss's theorem R^2 = (x-1) 2F1(-1/2, -1/2; x-1; 1), whose series is
(Watson 1959, A note on gamma functions)

    theta = 1/4 + delta,    delta(x) = sum_{n>=2} ((-1/2)_n)^2 / (n! (x)_{n-1}) = 1/(32 x) + ...

All its terms are positive and decrease in x. So theta decreases, and with it E[psi^2] / (1 + (x-1)/theta) = Var[psi]:
this is theorem 1 of Liu et al. The series converges slowly. Two facts replace it:

1. Gamma(x+1) = x Gamma(x) gives R(x)^2 = R(x+1)^2 (x-1/2)^2/x^2, and so, with positive terms only,

       delta(x) = (1/16 + (x - 1/2)^2 delta(x+1)) / x^2.

2. Malmsten's integral of log Gamma gives, with y = x - 3/4 and R^2 = (Gamma(y + 3/4)/Gamma(y + 1/4))^2 = y + delta,

       log(R^2/y) = int_0^inf (1 - sech(s/4)) e^(-ys) ds/s  ~  L(y) = sum_{k>=1} (-1)^(k+1) |E_2k| / (2k (4y)^2k)

   with the Euler numbers E_2k of sech. The partial sums of sech lie in turn above and below it, hence those of L too:
   the error is less than the first term left out. Then delta = y (e^L - 1).

`_delta` takes 8 terms of L at x + 8, where y > 8.25, and 8 steps of the recurrence down. With u = 2^-53 a step adds an
absolute error of at most 9u delta(x + j), in all 9u (delta(1) + ... + delta(8)) < 1.3u; the terms left out add less
than 0.2u. theta >= 1/4 has therefore the relative error u + 4 (1.3u + 0.2u) = 7u, and Var[psi] 7u more for its own
operations: 14u, or 16u with what is of second order. The mean of psi, by R(x)^2 = (x + theta(x+1)) (x-1/2)^2/x^2, has
less than 8u. (Both unless a result underflows or overflows.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = ["ScaledInverseChi2"]

# |E_2|, |E_4|, ...: sech s = 1 - 1 s^2/2! + 5 s^4/4! - 61 s^6/6! + ...
_EULER = (1, 5, 61, 1385, 50521, 2702765, 199360981, 19391512145)
_STEPS = 8


def _delta(x: Any) -> Any:
    """Return delta(x) = (Gamma(x)/Gamma(x - 1/2))^2 - (x - 3/4) for x > 1 (above)."""
    y = x + (_STEPS - 0.75)
    square = (0.25 / y) ** 2
    logarithm = 0.0
    for k in range(len(_EULER), 0, -1):
        logarithm = square * (_EULER[k - 1] / (2 * k) - logarithm)
    delta = y * np.expm1(logarithm)
    for j in range(_STEPS - 1, -1, -1):
        z = x + j
        delta = (0.25 / z) ** 2 + ((z - 0.5) / z) ** 2 * delta
    return delta


def _positive(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.array(values, dtype=np.float64)
    wrong = ~((array > 0) & (array < math.inf))
    if wrong.any():
        raise ValueError(f"{name} must be positive and finite, but is {float(array[wrong][0])!r}")
    array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class ScaledInverseChi2:
    """The law Scale-inv-chi2(rho, tau2) of psi^2 = 1/mean(g^2) over rho numbers g ~ N(0, sigma^2), tau2 = 1/sigma^2.

        p(psi^2 = z) = (x tau2)^x / Gamma(x) z^(-x-1) exp(-x tau2/z),    x = rho/2    (Liu et al. 2019, section 4.1)

    Args:
        rho: degrees of freedom, > 0, not necessarily whole; a number or an array, taken as float64.
        tau2: scale 1/sigma^2, > 0; likewise, and broadcast against rho.

    Every result is float64, with the shape of rho and tau2 broadcast.

    Raises:
        ValueError: rho or tau2 is not positive and finite, or their shapes do not fit; by a method, where some rho is
            too small for the moment to exist.

    >>> law = ScaledInverseChi2(rho=[5, 10, 500])
    >>> print(law.variance_psi())
    [0.25195606 0.07554596 0.00100754]
    >>> print(law.first_order_variance_psi())
    [0.83333333 0.10416667 0.00101211]
    >>> ScaledInverseChi2(4).variance_psi2()
    Traceback (most recent call last):
    ...
    ValueError: Var[psi^2] exists for rho > 4 only, and rho is 4.0
    """

    rho: Any
    tau2: Any = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rho", _positive(self.rho, "rho"))
        object.__setattr__(self, "tau2", _positive(self.tau2, "tau2"))
        try:
            np.broadcast_shapes(self.rho.shape, self.tau2.shape)
        except ValueError:
            raise ValueError(
                f"rho and tau2 must have shapes that broadcast, but have {self.rho.shape} and {self.tau2.shape}"
            ) from None

    def _need(self, moment: str, least: int) -> None:
        wrong = self.rho <= least
        if wrong.any():
            raise ValueError(f"{moment} exists for rho > {least} only, and rho is {float(self.rho[wrong][0])!r}")

    @property
    def psi2(self) -> Any:
        """The law of psi^2 as a frozen distribution of SciPy: pdf, cdf, sf, ppf, rvs, ...

        `scipy.stats.invgamma(a=rho/2, scale=rho*tau2/2)`: Scale-inv-chi2 in SciPy's terms (Gelman et al. 2013,
        Bayesian Data Analysis, appendix A).

        >>> round(float(ScaledInverseChi2(2).psi2.sf(1)), 12)                       # P(chi^2_2 < 2) = 1 - 1/e
        0.632120558829
        """
        return stats.invgamma(a=self.rho / 2, scale=self.rho * self.tau2 / 2)

    def mean_psi2(self) -> Any:
        """Return E[psi^2] = tau2 rho/(rho - 2), rho > 2 (inverse gamma: scale/(a - 1)).

        >>> print(ScaledInverseChi2(4, tau2=3).mean_psi2())
        6.0
        """
        self._need("E[psi^2]", 2)
        return self.tau2 * (self.rho / (self.rho - 2))

    def variance_psi2(self) -> Any:
        """Return Var[psi^2] = 2 rho^2 tau2^2 / ((rho - 2)^2 (rho - 4)), rho > 4.

        Inverse gamma: scale^2/((a - 1)^2 (a - 2)), that is 2 E[psi^2]^2/(rho - 4).

        >>> print(ScaledInverseChi2(6).variance_psi2())
        2.25
        """
        self._need("Var[psi^2]", 4)
        return 2 * self.mean_psi2() ** 2 / (self.rho - 4)

    def mean_psi(self) -> Any:
        """Return E[psi] = sqrt(tau2 x) Gamma(x - 1/2)/Gamma(x), x = rho/2, rho > 1.

        Relative error below 8 * 2^-53 (module docstring).

        >>> print(round(ScaledInverseChi2(2).mean_psi() ** 2, 14))                  # pi
        3.14159265358979
        """
        self._need("E[psi]", 1)
        x = self.rho / 2
        return np.sqrt(self.tau2 * (x / (x + (0.25 + _delta(x + 1))))) * (x / (x - 0.5))

    def variance_psi(self) -> Any:
        """Return Var[psi] = tau2 (x/(x-1) - x (Gamma(x - 1/2)/Gamma(x))^2), x = rho/2, rho > 2.

        The exact variance, evaluated as E[psi^2] theta/(x - 1 + theta): relative error below 16 * 2^-53 for every rho
        (module docstring). The same as equation 2 of Liu et al. 2019, which is stated there for rho > 4 and whose
        factor 2^(2 rho - 5) overflows.

        >>> print(f"{ScaledInverseChi2(5).variance_psi():.12f} {ScaledInverseChi2(1e12).variance_psi():.12e}")
        0.251956061405 5.000000000019e-13
        """
        self._need("Var[psi]", 2)
        theta = 0.25 + _delta(self.rho / 2)
        return self.mean_psi2() * (theta / (self.rho / 2 - 1 + theta))

    def first_order_variance_psi(self) -> Any:
        """Return Var[psi^2]/(4 E[psi^2]) = tau2 rho/(2 (rho - 2)(rho - 4)), rho > 4 (Liu et al. 2019, equation 5).

        Larger than Var[psi], by a factor of 1 + 9/(4 rho) + O(rho^-2).

        >>> print(ScaledInverseChi2(6).first_order_variance_psi())
        0.375
        """
        self._need("the first-order Var[psi]", 4)
        return self.mean_psi2() / (2 * (self.rho - 4))

    def lower_variance_psi(self) -> Any:
        """Return tau2 rho/(2 (rho - 2)(rho - 3/2)) < Var[psi], rho > 2: as simple as equation 5, and closer.

        Var[psi] increases with delta, and delta > 0: this is Var[psi] with delta = 0 (module docstring).

        >>> print(ScaledInverseChi2(3).lower_variance_psi())
        1.0
        """
        self._need("the lower bound of Var[psi]", 2)
        return self.mean_psi2() / (2 * (self.rho - 1.5))

    def upper_variance_psi(self) -> Any:
        """Return V (1 + 1/(4 (rho - 3/2))) > Var[psi] with V = `lower_variance_psi`, rho > 2.

        Var[psi] = V (1 + 4 delta)/(1 + delta/y), and delta < h(y) = 1/(32 y): the recurrence takes h(y + 1) to
        h(y) - 9/(512 y (y + 1) x^2), less than h(y), at every step, and h - delta vanishes at infinity.

        >>> print(ScaledInverseChi2(3.5).upper_variance_psi() / ScaledInverseChi2(3.5).lower_variance_psi())
        1.125
        """
        self._need("the upper bound of Var[psi]", 2)
        return self.lower_variance_psi() * (1 + 0.25 / (self.rho - 1.5))
