"""Adamax, NAdam, RMSprop, Adagrad, Adadelta and ASGD of torch.optim: one class each, the recurrences written plainly.

Notation as in `reference.optimizers`, where the protocol is too. State, and torch's names of it:

              m                       v                        s
    Adamax    exp_avg                 exp_inf (the papers' u)
    NAdam     exp_avg                 exp_avg_sq               mu_product
    RMSprop   grad_avg                square_avg               momentum_buffer
    Adagrad                           sum
    Adadelta                          square_avg               acc_delta
    ASGD      ax                      eta                      mu

g' is the gradient after maximize and L2 decay. Options and their defaults are those of torch's constructors.

Sources: Kingma & Ba 2015, section 7.1 (Adamax); Dozat 2016, Incorporating Nesterov momentum into Adam, algorithm 8 and
section 3 with Sutskever et al. 2013 for the schedule of mu (NAdam); Tieleman & Hinton 2012, lecture 6.5 (RMSprop);
Graves 2013, arXiv 1308.0850, equations 38 to 41 (centered, with momentum); Duchi, Hazan & Singer 2011, section 1.1 with
diagonal matrices (Adagrad); Zeiler 2012, arXiv 1212.5701, algorithm 1 (Adadelta); Polyak & Juditsky 1992 and Bottou
2012, Stochastic gradient descent tricks, section 5.1 (ASGD); torch.optim's documentation for where each puts eps, decay
and momentum.
"""

from __future__ import annotations

import math

import numpy as np

from reference.optimizers import (
    _U,
    Array,
    Branch,
    Number,
    ScalarError,
    Scalars,
    _correction_error,
    _log_factor,
    _Optimizer,
    _require,
)
from reference.rectification import bias_correction

__all__ = ["ASGD", "Adadelta", "Adagrad", "Adamax", "NAdam", "RMSprop"]


class _Other(_Optimizer):
    """An optimizer all of whose steps are of one kind, and whose scalars leave no branch in doubt."""

    def branch(self, t: int) -> Branch:
        """Return "adaptive": every step is of this kind."""
        return "adaptive"

    def scalar_error(self, t: int, scalars: Scalars = "textbook") -> ScalarError:
        """Return zeros: no scalar is computed from t."""
        return ScalarError(size=0.0, eps=0.0, rho=0.0, decided=True)

    def _state(self, like: Array) -> tuple[Array, Array, Array]:
        """Return m, v, s, or what they are before the first step where nothing has touched them."""
        m, v, s = (
            first if state is None else state
            for state, first in zip((self.m, self.v, self.s), self._first(like), strict=True)
        )
        return m, v, s

    def _l2(self, param: Array, grad: Array) -> Array:
        return self._gradient(param, grad, l2=True)


class Adamax(_Other):
    """Adam with the infinity norm in place of the root of the mean square.

        m <- b1 m + (1 - b1) g'        v <- max(b2 v, |g'| + eps)        p <- p - (lr / bc1) m / v

    Args:
        lr: learning rate, >= 0.
        betas: (b1, b2), each in [0, 1).
        eps: >= 0; the paper has none, and divides 0 by 0 where all gradients were 0.
        weight_decay: coefficient of L2 decay, >= 0: g' = g + weight_decay p.
        maximize: ascend instead; decay still shrinks.

    Raises:
        ValueError: a number out of its range.

    >>> adamax = Adamax(lr=0.5, eps=0.0)
    >>> p = adamax.step(np.array([1.0]), np.array([-4.0]))
    >>> p, adamax.v
    (array([1.5]), array([4.]))
    """

    def __init__(
        self,
        *,
        lr: Number = 2e-3,
        betas: tuple[Number, Number] = (0.9, 0.999),
        eps: Number = 1e-8,
        weight_decay: Number = 0.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(lr=lr, weight_decay=weight_decay, maximize=maximize)
        _require_betas(betas)
        _require(eps >= 0, "eps", eps, ">= 0")
        self.betas = betas
        self.eps = eps

    def advance(self, param: Array, grad: Array) -> None:
        """Increment t, move the average m and the norm v."""
        self.t += 1
        b1, b2 = self.betas
        m, v, _ = self._state(grad)
        g = self._l2(param, grad)
        self.m = b1 * m + (1 - b1) * g
        self.v = np.maximum(b2 * v, np.absolute(g) + self.eps)

    def apply(self, param: Array, grad: Array) -> Array:
        """Return the new parameter from m and v as they stand."""
        size = self._hooked(self.lr / bias_correction(self.t, self.betas[0]), "size")
        return param - size * self.m / self.v

    def scalar_error(self, t: int, scalars: Scalars = "textbook") -> ScalarError:
        """Return the bound of size = lr / bc1: l(d(bc1)/bc1) + 3u, as in `RAdam.scalar_error`."""
        error = _correction_error(t, float(self.betas[0]), scalars == "exact")
        return ScalarError(size=math.expm1(_log_factor(error) + 3 * _U), eps=0.0, rho=0.0, decided=True)


class NAdam(_Other):
    """Adam with Nesterov's momentum, which is warmed up: mu_t = b1 (1 - 0.96^(t psi) / 2), psi the momentum decay.

        m <- b1 m + (1 - b1) g'        v <- b2 v + (1 - b2) g'^2        s <- mu_t s,  from 1
        p <- p - lr (mu_(t+1) m / (1 - mu_(t+1) s) + (1 - mu_t) g' / (1 - s)) / (sqrt(v/bc2) + eps)

    As torch has it: Dozat's m decays by mu_t, this one by b1. s is the product of mu_1 .. mu_t, the same in every
    element. Decoupled decay comes first: p <- (1 - lr weight_decay) p.

    Args:
        lr: learning rate, >= 0.
        betas: (b1, b2), each in [0, 1).
        eps: >= 0.
        weight_decay: coefficient of decay, >= 0.
        momentum_decay: psi, >= 0.
        weight_decouple: decoupled decay; otherwise L2, g' = g + weight_decay p.
        maximize: ascend instead; decay still shrinks.

    Raises:
        ValueError: a number out of its range.

    >>> nadam = NAdam(lr=1.0, betas=(0.5, 0.75), eps=0.0, momentum_decay=0.0)     # mu = 1/4
    >>> p = nadam.step(np.array([0.0]), np.array([2.0]))
    >>> bool(abs(p[0] + (0.25 * 1.0 / (1 - 0.25**2) + 0.75 * 2.0 / (1 - 0.25)) / 2) < 1e-15), nadam.s
    (True, array([0.25]))
    """

    uniform = frozenset({"s"})

    def __init__(
        self,
        *,
        lr: Number = 2e-3,
        betas: tuple[Number, Number] = (0.9, 0.999),
        eps: Number = 1e-8,
        weight_decay: Number = 0.0,
        momentum_decay: Number = 4e-3,
        weight_decouple: bool = False,
        maximize: bool = False,
    ) -> None:
        super().__init__(lr=lr, weight_decay=weight_decay, maximize=maximize)
        _require_betas(betas)
        _require(eps >= 0, "eps", eps, ">= 0")
        _require(momentum_decay >= 0, "momentum_decay", momentum_decay, ">= 0")
        self.betas = betas
        self.eps = eps
        self.momentum_decay = momentum_decay
        self.weight_decouple = weight_decouple

    def _first(self, like: Array) -> tuple[Array | None, Array | None, Array | None]:
        zeros = np.zeros(np.shape(like))
        return zeros, zeros, zeros + 1

    def mu(self, t: int) -> Number:
        """Return mu_t, which grows from b1/2 to b1.

        >>> NAdam(momentum_decay=0.0).mu(7)
        0.45
        """
        psi = self.momentum_decay
        base = (0 * psi + 24) / 25  # 0.96, as precise as psi
        return self.betas[0] * (1 - base ** (t * psi) / 2)

    def advance(self, param: Array, grad: Array) -> None:
        """Increment t and move the averages m and v, and the product s."""
        self.t += 1
        b1, b2 = self.betas
        m, v, s = self._state(grad)
        g = self._gradient(param, grad, l2=not self.weight_decouple)
        self.m = b1 * m + (1 - b1) * g
        self.v = b2 * v + (1 - b2) * (g * g)
        self.s = s * self.scalar(self.mu(self.t), self.mu_error(self.t, self.scalars))

    def apply(self, param: Array, grad: Array) -> Array:
        """Return the new parameter from m, v and s as they stand; decoupled decay comes first."""
        g = self._gradient(param, grad, l2=not self.weight_decouple)
        if self.weight_decouple and self.weight_decay != 0:
            param = param - (self.lr * self.weight_decay) * param
        mu, later = self.mu(self.t), self.mu(self.t + 1)
        error, later_error = (self.mu_error(t, self.scalars) for t in (self.t, self.t + 1))
        rest = self.scalar(1 - mu, float(mu) * error / float(1 - mu) + _U)
        later = self.scalar(later, later_error)
        bc2 = self._hooked(bias_correction(self.t, self.betas[1]), "bc2")
        m, v, s = self._state(grad)
        direction = later * m / (1 - later * s) + rest * g / (1 - s)
        return param - self.lr * direction / (np.sqrt(v / bc2) + self.eps)

    def mu_error(self, t: int, scalars: Scalars = "textbook") -> float:
        """Return a bound on the relative error of mu_t in float64, for the usual formulas and for this class's.

        u = 2^-53, E = t psi, x = 0.96^E, and a = -log 0.96; elementary functions are good to 2u. E has up to two
        roundings (t psi + psi for t + 1), and the double 0.96 is off by u:

            x by pow or exp(E log 0.96)     d(x)  = (4 + (3 + 2) E a + E) u x
            mu = b1 (1 - x/2)               d(mu) = b1 (d(x)/2 + u (1 - x/2)) + u mu

        relative to mu, twice: once for the implementation, once for the mu_t of this class. "exact": 8u.

        >>> NAdam().mu_error(1) < 2e-15
        True
        """
        if scalars == "exact":
            return 8 * _U
        exponent = t * float(self.momentum_decay)
        x: float = 0.96**exponent
        relative = (4 - 5 * exponent * math.log(0.96) + exponent) * _U
        return 2 * (x / 2 * relative / (1 - x / 2) + 2 * _U)

    def scalar_error(self, t: int, scalars: Scalars = "textbook") -> ScalarError:
        """Return the bound of bc2, as in `RAdam.scalar_error`; that of mu_t is `mu_error`."""
        error = _correction_error(t, float(self.betas[1]), scalars == "exact")
        return ScalarError(size=0.0, eps=0.0, rho=0.0, decided=True, bc2=math.expm1(_log_factor(error)))


class RMSprop(_Other):
    """The gradient divided by the root of its mean square; centered: by its standard deviation.

        v <- alpha v + (1 - alpha) g'^2        centered: m <- alpha m + (1 - alpha) g',  w = v - m^2;  else w = v
        p <- p - lr g' / (sqrt(w) + eps)       momentum mu > 0: s <- mu s + g' / (sqrt(w) + eps),  p <- p - lr s

    w >= 0 by Cauchy and Schwarz's inequality, as the weights of the averages sum to at most 1; what rounding leaves
    below 0 is taken for 0. Graves adds eps under the root, Tieleman & Hinton have none.

    Args:
        lr: learning rate, >= 0.
        alpha: decay rate of the averages, in [0, 1].
        eps: >= 0, outside the root.
        weight_decay: coefficient of L2 decay, >= 0: g' = g + weight_decay p.
        momentum: mu, >= 0.
        centered: as above.
        maximize: ascend instead; decay still shrinks.

    Raises:
        ValueError: a number out of its range.

    >>> rmsprop = RMSprop(lr=0.5, alpha=0.75, eps=0.0)
    >>> rmsprop.step(np.array([0.0]), np.array([2.0])), rmsprop.v
    (array([-1.]), array([1.]))
    """

    def __init__(
        self,
        *,
        lr: Number = 1e-2,
        alpha: Number = 0.99,
        eps: Number = 1e-8,
        weight_decay: Number = 0.0,
        momentum: Number = 0.0,
        centered: bool = False,
        maximize: bool = False,
    ) -> None:
        super().__init__(lr=lr, weight_decay=weight_decay, maximize=maximize)
        _require(0 <= alpha <= 1, "alpha", alpha, "in [0, 1]")
        _require(eps >= 0, "eps", eps, ">= 0")
        _require(momentum >= 0, "momentum", momentum, ">= 0")
        self.alpha = alpha
        self.eps = eps
        self.momentum = momentum
        self.centered = centered

    def advance(self, param: Array, grad: Array) -> None:
        """Increment t, move v, and m and s where there are such."""
        self.t += 1
        alpha = self.alpha
        m, v, s = self._state(grad)
        g = self._l2(param, grad)
        self.v = alpha * v + (1 - alpha) * (g * g)
        if self.centered:
            self.m = alpha * m + (1 - alpha) * g
        if self.momentum != 0:
            self.s = self.momentum * s + self._direction(g)

    def apply(self, param: Array, grad: Array) -> Array:
        """Return the new parameter from s as it stands; without momentum from v and m."""
        if self.momentum != 0:
            return param - self.lr * self.s
        return param - self.lr * self._direction(self._l2(param, grad))

    def _direction(self, g: Array) -> Array:
        m, w, _ = self._state(g)
        if self.centered:
            w = np.maximum(w - m * m, 0.0)
        return g / (np.sqrt(w) + self.eps)


class Adagrad(_Other):
    """The gradient divided by the root of the sum of all its squares.

        v <- v + g'^2,  from the initial value
        p <- p - size g' / (sqrt(v) + eps),    size = lr / (1 + (t - 1) lr_decay)

    Args:
        lr: learning rate, >= 0.
        lr_decay: >= 0.
        weight_decay: coefficient of L2 decay, >= 0: g' = g + weight_decay p.
        initial_accumulator_value: v before the first step, >= 0.
        eps: >= 0, outside the root. Duchi et al. have it inside the matrix: delta I + diag(sqrt(v)), which is the same.
        maximize: ascend instead; decay still shrinks.

    Raises:
        ValueError: a number out of its range.

    >>> adagrad = Adagrad(lr=1.0, eps=0.0, lr_decay=1.0)
    >>> p = adagrad.step(np.array([0.0]), np.array([3.0]))
    >>> adagrad.step(p, np.array([4.0])), adagrad.v              # -1, and then half of 4/5 less
    (array([-1.4]), array([25.]))
    """

    def __init__(
        self,
        *,
        lr: Number = 1e-2,
        lr_decay: Number = 0.0,
        weight_decay: Number = 0.0,
        initial_accumulator_value: Number = 0.0,
        eps: Number = 1e-10,
        maximize: bool = False,
    ) -> None:
        super().__init__(lr=lr, weight_decay=weight_decay, maximize=maximize)
        _require(lr_decay >= 0, "lr_decay", lr_decay, ">= 0")
        _require(initial_accumulator_value >= 0, "initial_accumulator_value", initial_accumulator_value, ">= 0")
        _require(eps >= 0, "eps", eps, ">= 0")
        self.lr_decay = lr_decay
        self.initial_accumulator_value = initial_accumulator_value
        self.eps = eps

    def _first(self, like: Array) -> tuple[Array | None, Array | None, Array | None]:
        zeros = np.zeros(np.shape(like))
        return zeros, zeros + self.initial_accumulator_value, zeros

    def advance(self, param: Array, grad: Array) -> None:
        """Increment t and add to the sum v."""
        self.t += 1
        _, v, _ = self._state(grad)
        g = self._l2(param, grad)
        self.v = v + g * g

    def apply(self, param: Array, grad: Array) -> Array:
        """Return the new parameter from v as it stands."""
        size = self._hooked(self.lr / (1 + (self.t - 1) * self.lr_decay), "size")
        return param - size * self._l2(param, grad) / (np.sqrt(self._state(grad)[1]) + self.eps)

    def scalar_error(self, t: int, scalars: Scalars = "textbook") -> ScalarError:
        """Return the bound of size: product, sum of positive numbers and quotient, 3u; twice, for this class's own."""
        return ScalarError(size=math.expm1(6 * _log_factor(_U)), eps=0.0, rho=0.0, decided=True)


class Adadelta(_Other):
    """The gradient multiplied by the root of the mean square of the steps so far, and divided by that of its own.

        v <- rho v + (1 - rho) g'^2        d = sqrt(s + eps) / sqrt(v + eps) g'
        s <- rho s + (1 - rho) d^2         p <- p - lr d

    `apply` uses the d of the last `advance`: s, as it stands, is that after the step.

    Args:
        lr: factor on the step, >= 0; the paper's is 1.
        rho: decay rate of the averages, in [0, 1].
        eps: >= 0, inside both roots.
        weight_decay: coefficient of L2 decay, >= 0: g' = g + weight_decay p.
        maximize: ascend instead; decay still shrinks.

    Raises:
        ValueError: a number out of its range.

    >>> adadelta = Adadelta(rho=0.75, eps=1.0)
    >>> p = adadelta.step(np.array([0.0]), np.array([2.0]))                             # v = 1, d = 2/sqrt(2)
    >>> bool(abs(p[0] + 2**0.5) < 1e-15), bool(abs(adadelta.s[0] - 0.5) < 1e-15)
    (True, True)
    """

    def __init__(
        self,
        *,
        lr: Number = 1.0,
        rho: Number = 0.9,
        eps: Number = 1e-6,
        weight_decay: Number = 0.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(lr=lr, weight_decay=weight_decay, maximize=maximize)
        _require(0 <= rho <= 1, "rho", rho, "in [0, 1]")
        _require(eps >= 0, "eps", eps, ">= 0")
        self.rho = rho
        self.eps = eps
        self._d: Array | None = None

    def advance(self, param: Array, grad: Array) -> None:
        """Increment t, move v, and s by this step."""
        self.t += 1
        _, v, s = self._state(grad)
        g = self._l2(param, grad)
        self.v = self.rho * v + (1 - self.rho) * (g * g)
        self._d = np.sqrt(s + self.eps) / np.sqrt(self.v + self.eps) * g
        self.s = self.rho * s + (1 - self.rho) * (self._d * self._d)

    def apply(self, param: Array, grad: Array) -> Array:
        """Return the new parameter from the step d that `advance` has found."""
        return param - self.lr * self._d


class ASGD(_Other):
    """Stochastic gradient descent with a fading step, and the average of the parameters from step t0 on.

        p <- p - v (g' + lambd p)        m <- m + s (p - m)
        v <- lr / (1 + lambd lr t)^alpha,  from lr        s <- 1 / max(1, t - t0),  from 1

    m is the average: until t0, and one step beyond, the parameter itself. v and s are the same number in every element,
    and are those of the next step: so a new lr counts one step later. `apply` uses what `advance` has found.

    Args:
        lr: learning rate, >= 0.
        lambd: decay, >= 0.
        alpha: power of the step's fading.
        t0: step after which parameters are averaged.
        weight_decay: coefficient of L2 decay, >= 0: g' = g + weight_decay p.
        maximize: ascend instead; decay still shrinks.

    Raises:
        ValueError: a number out of its range.

    >>> asgd = ASGD(lr=0.5, lambd=0.0, t0=0)
    >>> p = np.array([0.0])
    >>> for _ in range(3):                                                              # -0.5, -1, -1.5
    ...     p = asgd.step(p, np.array([1.0]))
    >>> p, asgd.m                                               # the mean of the last two: s was 1 at the second too
    (array([-1.5]), array([-1.25]))
    """

    uniform = frozenset({"v", "s"})

    def __init__(
        self,
        *,
        lr: Number = 1e-2,
        lambd: Number = 1e-4,
        alpha: Number = 0.75,
        t0: Number = 1e6,
        weight_decay: Number = 0.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(lr=lr, weight_decay=weight_decay, maximize=maximize)
        _require(lambd >= 0, "lambd", lambd, ">= 0")
        self.lambd = lambd
        self.alpha = alpha
        self.t0 = t0
        self._p: Array | None = None

    def _first(self, like: Array) -> tuple[Array | None, Array | None, Array | None]:
        zeros = np.zeros(np.shape(like))
        return zeros, zeros + self.lr, zeros + 1

    def branch(self, t: int) -> Branch:
        """Return "momentum": no step divides by anything."""
        return "momentum"

    def advance(self, param: Array, grad: Array) -> None:
        """Increment t, average the new parameter into m, and set v and s for the next step."""
        self.t += 1
        m, v, s = self._state(grad)
        self._p = param - v * (self._l2(param, grad) + self.lambd * param)
        self.m = m + s * (self._p - m)
        zeros = np.zeros(np.shape(grad))
        self.v = zeros + self._hooked(self.lr / (1 + self.lambd * self.lr * self.t) ** self.alpha, "size")
        self.s = zeros + self.scalar(1 / max(1, self.t - self.t0), 4 * _U)

    def apply(self, param: Array, grad: Array) -> Array:
        """Return the parameter that `advance` has found."""
        return self._p

    def scalar_error(self, t: int, scalars: Scalars = "textbook") -> ScalarError:
        """Return the bound of the next v: with z = 1 + lambd lr t, twice, for this class's own as well,

        z: 3u; z^alpha by pow or exp(alpha log z): |alpha| (3u + 3u log z) + 4u; the quotient: u.
        """
        z = 1 + float(self.lambd) * float(self.lr) * t
        error = (3 * abs(float(self.alpha)) * (1 + math.log(z)) + 5) * _U
        return ScalarError(size=math.expm1(2 * _log_factor(error)), eps=0.0, rho=0.0, decided=True)


def _require_betas(betas: tuple[Number, Number]) -> None:
    for i, beta in enumerate(betas):
        _require(0 <= beta < 1, f"betas[{i}]", beta, "in [0, 1)")
