"""Adam, RAdam and SGD: one class each, the recurrences written plainly.

Notation, and torch's names of the same things:

    t  step                 m  exp_avg (momentum_buffer in SGD)     b1, b2  betas
    v  exp_avg_sq           s  max_exp_avg_sq                       g'      gradient after maximize and L2 decay

Every optimizer here follows the `Oracle` protocol. The lines of `advance` and `apply` use only + - * /, `np.sqrt` and
`np.maximum`, so they run on anything that has NumPy's ufuncs: float64 arrays, object arrays of mpmath numbers (give
the hyper-parameters as mpf too, then every scalar is computed in mpf), arrays that carry an error bound.

Sources: Kingma & Ba 2015 (Adam, algorithm 1 and the reordering at the end of section 2); Reddi et al. 2018 (AMSGrad);
Loshchilov & Hutter 2019 (decoupled decay); Liu et al. 2019, arXiv 1908.03265 (RAdam, algorithm 2; Adam-2k, section 3);
Sutskever et al. 2013 and torch.optim.SGD's documentation (SGD); Higham, Accuracy and Stability of Numerical Algorithms,
2nd ed., sections 2.2 and 3.1 (the error bounds).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np

from reference.rectification import bias_correction, exact_r_t, first_exact_step, n_eff, r_t, rho_inf, rho_t

__all__ = ["SGD", "Adam", "Array", "Branch", "Oracle", "RAdam", "ScalarError", "Scalars"]

Array: TypeAlias = Any
"""Whatever takes part in NumPy's ufuncs and has a shape."""
Number: TypeAlias = Any
"""float or mpmath.mpf."""
Branch: TypeAlias = Literal["adaptive", "momentum", "hold", "variance_only"]
Scalars: TypeAlias = Literal["textbook", "exact"]
Rectification: TypeAlias = Literal["paper", "exact"]


class ScalarError(NamedTuple):
    """Bounds on the forward error of the scalars that one step computes from t; see `RAdam.scalar_error`.

    size: relative error of the step size. eps: relative error of the number added to sqrt(s). rho: absolute error of
    rho_t. decided: whether the branch is certain in spite of these. bc2: relative error of 1 - b2^t.

    >>> ScalarError(size=0.0, eps=0.0, rho=0.0, decided=True).bc2
    0.0
    """

    size: float
    eps: float
    rho: float
    decided: bool
    bc2: float = 0.0


class Oracle(Protocol):
    """What a comparison needs of a reference optimizer.

    t counts the steps done; m, v, s are the state (None: nothing has touched it yet). All four can be read and set.
    `begin` sets them as they are before the first step; `advance` increments t and moves m, v, s; `apply` returns the
    new parameter from the state as it stands; `step` is one after the other. No argument is ever modified. Every scalar
    that is computed from t passes through `scalar(value, relative_error)` before it meets an array; `scalars` says
    which error is assumed there. `uniform` names the state that is the same number in every element.

    >>> oracle: Oracle = RAdam()
    >>> oracle.t, oracle.m
    (0, None)
    """

    t: int
    m: Array | None
    v: Array | None
    s: Array | None
    scalar: Callable[[Number, float], Number]
    scalars: Scalars
    uniform: frozenset[str]

    def begin(self, param: Array) -> None: ...

    def advance(self, param: Array, grad: Array) -> None: ...

    def apply(self, param: Array, grad: Array) -> Array: ...

    def step(self, param: Array, grad: Array) -> Array: ...

    def branch(self, t: int) -> Branch: ...

    def scalar_error(self, t: int, scalars: Scalars = "textbook") -> ScalarError: ...


def _unchanged(value: Number, relative_error: float) -> Number:
    return value


def _sqrt(value: Number) -> Number:
    """Return the square root of a scalar: a Python float for a float, as NumPy's float64 would widen float32 arrays."""
    return math.sqrt(value) if isinstance(value, float | int) else np.sqrt(value)


def _zeros_if_none(state: Array | None, like: Array) -> Array:
    return np.zeros(np.shape(like)) if state is None else state


def _require(condition: bool, name: str, value: Any, expected: str) -> None:
    if not condition:
        raise ValueError(f"{name} must be {expected}, but is {value!r}")


class _Optimizer:
    """What the optimizers share: the state, the hook for scalars, and the gradient after maximize and L2 decay."""

    scalar: Callable[[Number, float], Number] = staticmethod(_unchanged)
    uniform: frozenset[str] = frozenset()

    def __init__(self, *, lr: Number, weight_decay: Number, maximize: bool) -> None:
        _require(lr >= 0, "lr", lr, ">= 0")
        _require(weight_decay >= 0, "weight_decay", weight_decay, ">= 0")
        self.lr = lr
        self.weight_decay = weight_decay
        self.maximize = maximize
        self.scalars: Scalars = "textbook"
        self.t = 0
        self.m: Array | None = None
        self.v: Array | None = None
        self.s: Array | None = None

    def begin(self, param: Array) -> None:
        """Set t, m, v, s as they are before the first step; `advance` takes None for the same.

        Args:
            param: parameter before its first step.
        """
        self.t = 0
        self.m, self.v, self.s = self._first(param)

    def _first(self, like: Array) -> tuple[Array | None, Array | None, Array | None]:
        """Return m, v, s before the first step."""
        zeros = np.zeros(np.shape(like))
        return zeros, zeros, zeros

    def advance(self, param: Array, grad: Array) -> None:
        raise NotImplementedError

    def apply(self, param: Array, grad: Array) -> Array:
        raise NotImplementedError

    def step(self, param: Array, grad: Array) -> Array:
        """Advance the state and return the new parameter.

        Args:
            param: parameter before the step.
            grad: gradient of the objective at `param`, of the same shape.
        """
        self.advance(param, grad)
        return self.apply(param, grad)

    def _gradient(self, param: Array, grad: Array, l2: bool) -> Array:
        """Return g': the objective's sign first, so that decay shrinks the parameter under `maximize` too."""
        g = -grad if self.maximize else grad
        return g + self.weight_decay * param if l2 and self.weight_decay != 0 else g

    def _hooked(self, value: Number, kind: Literal["size", "eps", "bc2"]) -> Number:
        if self.scalar is _unchanged:
            return value
        return self.scalar(value, getattr(self.scalar_error(self.t, self.scalars), kind))

    def scalar_error(self, t: int, scalars: Scalars = "textbook") -> ScalarError:
        raise NotImplementedError


class SGD(_Optimizer):
    """Stochastic gradient descent with momentum, as torch.optim.SGD defines it.

        m <- mu m + (1 - dampening) g'        (m <- g' at the first step)
        p <- p - lr m                         nesterov: p <- p - lr (g' + mu m)        mu = 0: p <- p - lr g'

    Args:
        lr: learning rate, >= 0.
        momentum: mu, >= 0.
        dampening: as above.
        nesterov: needs momentum > 0 and dampening = 0.
        weight_decay: coefficient of L2 decay, >= 0: g' = g + weight_decay p.
        maximize: ascend instead; decay still shrinks.

    Raises:
        ValueError: a number out of its range.

    >>> sgd = SGD(lr=0.5, momentum=0.5)
    >>> p = sgd.step(np.array([1.0]), np.array([1.0]))
    >>> sgd.step(p, np.array([1.0]))
    array([-0.25])
    """

    def __init__(
        self,
        *,
        lr: Number = 1e-3,
        momentum: Number = 0.0,
        dampening: Number = 0.0,
        nesterov: bool = False,
        weight_decay: Number = 0.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(lr=lr, weight_decay=weight_decay, maximize=maximize)
        _require(momentum >= 0, "momentum", momentum, ">= 0")
        if nesterov and not (momentum > 0 and dampening == 0):
            raise ValueError(
                f"nesterov needs momentum > 0 and dampening = 0, but they are {momentum!r} and {dampening!r}"
            )
        self.momentum = momentum
        self.dampening = dampening
        self.nesterov = nesterov

    def _first(self, like: Array) -> tuple[Array | None, Array | None, Array | None]:
        return None, None, None

    def advance(self, param: Array, grad: Array) -> None:
        """Increment t and move the momentum buffer m, which exists only where momentum is not 0."""
        self.t += 1
        if self.momentum == 0:
            return
        g = self._gradient(param, grad, l2=True)
        if self.m is None:
            opposite = -g
            self.m = -opposite  # a copy, exact in any arithmetic: m must not alias the caller's gradient
        else:
            self.m = self.momentum * self.m + (1 - self.dampening) * g

    def apply(self, param: Array, grad: Array) -> Array:
        """Return the new parameter from the momentum buffer as it stands."""
        g = self._gradient(param, grad, l2=True)
        if self.momentum == 0:
            return param - self.lr * g
        if self.nesterov:
            return param - self.lr * (g + self.momentum * self.m)
        return param - self.lr * self.m

    def branch(self, t: int) -> Branch:
        """Return "momentum": every step of SGD is of this kind."""
        return "momentum"

    def scalar_error(self, t: int, scalars: Scalars = "textbook") -> ScalarError:
        """Return zeros: no scalar of SGD is computed from t."""
        return ScalarError(size=0.0, eps=0.0, rho=0.0, decided=True)


class _Adaptive(_Optimizer):
    """Adam's moments, decay and update; a subclass says what its step is by `branch`, `_rectification`, `_times`."""

    def __init__(
        self,
        *,
        lr: Number,
        betas: tuple[Number, Number],
        eps: Number,
        weight_decay: Number,
        weight_decouple: bool,
        absolute: bool,
        optimized_update: bool,
        amsgrad: bool,
        maximize: bool,
        amsgrad_of: Literal["uncorrected", "corrected"],
    ) -> None:
        super().__init__(lr=lr, weight_decay=weight_decay, maximize=maximize)
        b1, b2 = betas
        _require(0 <= b1 < 1, "betas[0]", b1, "in [0, 1)")
        _require(0 <= b2 < 1, "betas[1]", b2, "in [0, 1)")
        _require(eps >= 0, "eps", eps, ">= 0")
        _require(amsgrad_of in ("uncorrected", "corrected"), "amsgrad_of", amsgrad_of, '"uncorrected" or "corrected"')
        self.betas = betas
        self.eps = eps
        self.weight_decouple = weight_decouple
        self.absolute = absolute
        self.optimized_update = optimized_update
        self.amsgrad = amsgrad
        self.amsgrad_of = amsgrad_of

    def branch(self, t: int) -> Branch:
        raise NotImplementedError

    def _rectification(self, t: int) -> Number:
        """Return r_t of an adaptive step."""
        raise NotImplementedError

    def _times(self, t: int) -> tuple[int, int]:
        """Return how many gradients m and v have seen at step t: the exponents of their bias corrections."""
        return t, t

    def _decays(self, t: int) -> bool:
        return self.branch(t) != "variance_only"

    def advance(self, param: Array, grad: Array) -> None:
        """Increment t and move the moments.

            m <- b1 m + (1 - b1) g'        v <- b2 v + (1 - b2) g'^2        amsgrad: s <- max(s, v)

        In a "variance_only" step m stays.
        """
        self.t += 1
        b1, b2 = self.betas
        g = self._gradient(param, grad, l2=not self.weight_decouple)
        m = _zeros_if_none(self.m, grad)
        v = _zeros_if_none(self.v, grad)
        self.m = m if self.branch(self.t) == "variance_only" else b1 * m + (1 - b1) * g
        self.v = b2 * v + (1 - b2) * (g * g)
        if self.amsgrad:
            s = _zeros_if_none(self.s, grad)
            if self.amsgrad_of == "corrected":
                bc2 = bias_correction(self._times(self.t)[1], b2)
                self.s = np.maximum(self.v / self._hooked(bc2, "bc2"), s)
            else:
                self.s = np.maximum(self.v, s)  # v first: among equal objects np.maximum takes it, and s may be a float

    def apply(self, param: Array, grad: Array) -> Array:
        """Return the new parameter from the state as it stands; decoupled decay comes first.

        adaptive:  p <- p - size m / (sqrt(s) + e)        s = v without amsgrad
        momentum:  p <- p - size m
        hold, variance_only:  p <- p

        The array that comes back is `param` itself where nothing changes.
        """
        branch = self.branch(self.t)
        param = self._decayed(param)
        if branch == "adaptive":
            size, e = self._adaptive_scalars()
            s_or_v = _zeros_if_none(self.s if self.amsgrad else self.v, grad)
            return param - size * _zeros_if_none(self.m, grad) / (np.sqrt(s_or_v) + e)
        if branch == "momentum":
            size = self._hooked(self.lr / bias_correction(self._times(self.t)[0], self.betas[0]), "size")
            return param - size * _zeros_if_none(self.m, grad)
        return param

    def _decayed(self, param: Array) -> Array:
        """Decoupled decay (Loshchilov & Hutter 2019, algorithm 2): p - lr wd p, or p - wd p when absolute.

        An error bound of this form covers p (1 - lr wd) as well; not the other way round, where lr wd is near 1.
        """
        if not self.weight_decouple or self.weight_decay == 0 or self.lr == 0 or not self._decays(self.t):
            return param
        return param - (self.weight_decay if self.absolute else self.lr * self.weight_decay) * param

    def _adaptive_scalars(self) -> tuple[Number, Number]:
        """Return size and e of an adaptive step.

        The textbook step is lr r (m/bc1) / (sqrt(v/bc2) + eps). Multiplying numerator and denominator by sqrt(bc2):

            size = lr r sqrt(bc2) / bc1,    e = eps sqrt(bc2)

        `optimized_update` leaves the factor out of e (Kingma & Ba 2015, end of section 2). Where s holds the maximum of
        the corrected v, sqrt(s) has the factor 1/sqrt(bc2) already: both are divided by sqrt(bc2).
        """
        t1, t2 = self._times(self.t)
        bc1 = bias_correction(t1, self.betas[0])
        root = _sqrt(bias_correction(t2, self.betas[1]))
        size = self.lr * self._rectification(self.t) / bc1
        if self.amsgrad and self.amsgrad_of == "corrected":
            e = self.eps / root if self.optimized_update else self.eps
        else:
            size = size * root
            e = self.eps if self.optimized_update else self.eps * root
        return self._hooked(size, "size"), self._hooked(e, "eps")

    def _error(
        self, t: int, scalars: Scalars, threshold: Number | None, rectification: Rectification = "paper"
    ) -> ScalarError:
        if scalars not in ("textbook", "exact"):
            raise ValueError(f'scalars must be "textbook" or "exact", but is {scalars!r}')
        b1, b2 = self.betas
        return _scalar_error(
            t,
            self._times(t),
            self.branch(t),
            float(b1),
            float(b2),
            None if threshold is None else float(threshold),
            rectification,
            eps_is_scaled=self.optimized_update == (self.amsgrad and self.amsgrad_of == "corrected"),
            exact=scalars == "exact",
        )


class Adam(_Adaptive):
    """Adam, with AMSGrad, three kinds of decay, and Adam-2k's warm-up of the second moment.

        m <- b1 m + (1 - b1) g'        v <- b2 v + (1 - b2) g'^2
        p <- p - lr (m/bc1) / (sqrt(v/bc2) + eps),        bc1 = 1 - b1^t,  bc2 = 1 - b2^t

    Args:
        lr: learning rate, >= 0.
        betas: (b1, b2), each in [0, 1).
        eps: >= 0; added to sqrt(v) when `optimized_update`, else to sqrt(v/bc2).
        weight_decay: coefficient of decay, >= 0.
        weight_decouple: True: p <- (1 - lr weight_decay) p before the update; False: L2, g' = g + weight_decay p.
        absolute: decoupled decay without the factor lr. At lr = 0 no decay changes the parameter.
        optimized_update: see eps.
        amsgrad: divide by the square root of the largest v so far. Switched on late it starts from zeros.
        maximize: ascend instead; decay still shrinks.
        amsgrad_of: "uncorrected": the largest v; "corrected": the largest v/bc2.
        variance_warmup: number of first steps that move v alone (Adam-2k: 2000); afterwards bc1 counts from there.

    Raises:
        ValueError: a number out of its range, or an unknown `amsgrad_of`.

    >>> adam = Adam(lr=0.5, betas=(0.5, 0.75), eps=0.0)
    >>> adam.step(np.array([1.0]), np.array([2.0])), adam.m, adam.v
    (array([0.5]), array([1.]), array([1.]))
    """

    def __init__(
        self,
        *,
        lr: Number = 1e-3,
        betas: tuple[Number, Number] = (0.9, 0.999),
        eps: Number = 1e-16,
        weight_decay: Number = 0.0,
        weight_decouple: bool = True,
        absolute: bool = False,
        optimized_update: bool = True,
        amsgrad: bool = False,
        maximize: bool = False,
        amsgrad_of: Literal["uncorrected", "corrected"] = "uncorrected",
        variance_warmup: int = 0,
    ) -> None:
        super().__init__(
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            weight_decouple=weight_decouple,
            absolute=absolute,
            optimized_update=optimized_update,
            amsgrad=amsgrad,
            maximize=maximize,
            amsgrad_of=amsgrad_of,
        )
        _require(variance_warmup >= 0, "variance_warmup", variance_warmup, ">= 0")
        self.variance_warmup = variance_warmup

    def branch(self, t: int) -> Branch:
        """Return what step t does: "variance_only" up to `variance_warmup`, then "adaptive".

        >>> [Adam(variance_warmup=2).branch(t) for t in (1, 2, 3)]
        ['variance_only', 'variance_only', 'adaptive']
        """
        return "variance_only" if t <= self.variance_warmup else "adaptive"

    def _rectification(self, t: int) -> Number:
        return 1

    def _times(self, t: int) -> tuple[int, int]:
        return max(1, t - self.variance_warmup), t

    def scalar_error(self, t: int, scalars: Scalars = "textbook") -> ScalarError:
        """Return bounds on the forward error of step t's scalars: `RAdam.scalar_error` without r_t.

        >>> Adam().scalar_error(1).size < 1e-12, Adam().scalar_error(1, "exact").size < 2e-15
        (True, True)
        """
        return self._error(t, scalars, None)


class RAdam(_Adaptive):
    """Rectified Adam (Liu et al. 2019, algorithm 2).

        m <- b1 m + (1 - b1) g'        v <- b2 v + (1 - b2) g'^2
        rho_t >= threshold:  p <- p - lr r_t (m/bc1) / (sqrt(v/bc2) + eps)
        else:                p <- p - lr (m/bc1),  or p stays without `degenerated_to_sgd`

    Args:
        lr, betas, eps, weight_decay, weight_decouple, absolute, optimized_update, amsgrad, maximize, amsgrad_of:
            as in `Adam`.
        degenerated_to_sgd: what a step does whose rho_t is below the threshold.
        threshold: >= 4; the paper's is 4 with strict=True, its authors' code has 5. Never adaptive if rho_inf <= 4.
        strict: whether rho_t must exceed the threshold.
        decay_when_skipped: whether decoupled decay happens on steps that hold the parameter.
        rectification: "paper": as above, with `reference.r_t`. "exact": with `reference.exact_r_t`, and adaptive
            wherever that exists, which leaves no choice of a threshold.

    Raises:
        ValueError: a number out of its range, an unknown `amsgrad_of` or `rectification`.

    >>> radam = RAdam(lr=0.5, betas=(0.5, 0.999))
    >>> radam.step(np.array([1.0]), np.array([2.0])), radam.branch(5), radam.branch(6)
    (array([0.]), 'momentum', 'adaptive')
    """

    def __init__(
        self,
        *,
        lr: Number = 1e-3,
        betas: tuple[Number, Number] = (0.9, 0.999),
        eps: Number = 1e-16,
        weight_decay: Number = 0.0,
        weight_decouple: bool = True,
        absolute: bool = False,
        optimized_update: bool = True,
        amsgrad: bool = False,
        degenerated_to_sgd: bool = True,
        threshold: Number = 5.0,
        maximize: bool = False,
        strict: bool = False,
        decay_when_skipped: bool = True,
        amsgrad_of: Literal["uncorrected", "corrected"] = "uncorrected",
        rectification: Rectification = "paper",
    ) -> None:
        super().__init__(
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            weight_decouple=weight_decouple,
            absolute=absolute,
            optimized_update=optimized_update,
            amsgrad=amsgrad,
            maximize=maximize,
            amsgrad_of=amsgrad_of,
        )
        _require(threshold >= 4, "threshold", threshold, ">= 4")
        _require(rectification in ("paper", "exact"), "rectification", rectification, '"paper" or "exact"')
        _require(rectification == "paper" or threshold == 5, "threshold", threshold, '5 with rectification="exact"')
        self.degenerated_to_sgd = degenerated_to_sgd
        self.threshold = threshold
        self.strict = strict
        self.decay_when_skipped = decay_when_skipped
        self.rectification = rectification

    def branch(self, t: int) -> Branch:
        """Return what step t does: "adaptive" where rho_inf > 4 and rho_t >= threshold, else "momentum" or "hold".

        With the exact rectification: "adaptive" where n_t > 2.

        >>> RAdam(degenerated_to_sgd=False).branch(5), RAdam(betas=(0.9, 0.5)).branch(1000)
        ('hold', 'momentum')
        """
        b2 = self.betas[1]
        if self.rectification == "exact":
            first = first_exact_step(b2)
            is_adaptive = first is not None and t >= first
        else:
            rho = rho_t(t, b2)
            is_adaptive = rho_inf(b2) > 4 and (rho > self.threshold if self.strict else rho >= self.threshold)
        if is_adaptive:
            return "adaptive"
        return "momentum" if self.degenerated_to_sgd else "hold"

    def _rectification(self, t: int) -> Number:
        b2 = self.betas[1]
        if self.rectification == "exact":
            return exact_r_t(t, b2)
        # Rounding can lift rho_t to a threshold of exactly 4, where r_t has the limit 0.
        return 0 if rho_t(t, b2) == 4 else r_t(t, b2)

    def _decays(self, t: int) -> bool:
        return self.decay_when_skipped or self.branch(t) != "hold"

    def scalar_error(self, t: int, scalars: Scalars = "textbook") -> ScalarError:
        """Return bounds on the forward error of step t's scalars, as an implementation in float64 computes them.

        u = 2^-53; "relative error d" means a factor in [1 - d, 1 + d]. Products, quotients and roots of such factors
        are bounded by adding l(d) = -log(1 - d), which bounds |log| of the factor; so nothing of second order is lost.

        "textbook": the usual formulas, in every usual order of evaluation, with elementary functions good to one unit
        in the last place (2u). With a = -log b:

            P = b^t by pow or exp(t log b)          d(P)       = (4 + 3 t a) u P
            bc = 1 - P, or -expm1(t log b)          d(bc)      = d(P) + 2u bc + u d(P)
            rho_inf = 2/(1-b) - 1                   d(rho_inf) = 3u (rho_inf + 1)
            T = 2 t P / bc                          d(T)       = T (exp(l(d(P)/P) + l(d(bc)/bc) + 3u) - 1)
            rho_t = rho_inf - T                     d(rho_t)   = d(rho_inf) + d(T) + u (rho_t + d(rho_inf) + d(T))

        "exact": formulas without cancellation, whose results are good to a few units:

            d(rho_t) = 8u rho_t        d(rho_inf) = 4u rho_inf        d(bc) = 4u bc

        For both, r_t = sqrt((rho_t-4)(rho_t-2) rho_inf / ((rho_inf-4)(rho_inf-2) rho_t)) in any order, 10u for its own
        operations, and then the step size with 6u for its own:

            log r_t:   (1/2) sum of l((d(rho) + u |rho-c|)/(rho-c)) over rho = rho_t, rho_inf and c = 4, 2, 0;  + 10u
            log size:  log r_t + (1/2) l(d(bc2)/bc2) + l(d(bc1)/bc1) + 6u        (momentum: l(d(bc1)/bc1) + 3u)
            log e:     u where e = eps, else (1/2) l(d(bc2)/bc2) + 3u

        The exact rectification has n_t = rho_inf (1-P)/(1+P) in place of rho_t, 2 in place of the threshold and of 4:
        "textbook" as above, 4u for its own operations; "exact" 12u. With x = n/2, Var = h(x) / (x-1) and h smooth,

            log r_t:   (1/2) sum of l(d(n)/(n-2) + u) + (3/2) d(n)/n over n = n_t, rho_inf;  + 40u

        |d log h/d log x| <= 2.15 on x >= 1, and 40u for two evaluations of Var by any route in which nothing cancels.

        Where d(rho) >= (rho - 4)/2 for rho_t or rho_inf, the size of an adaptive step has no useful bound: it is inf
        and the branch is undecided. Otherwise the branch is decided if rho_t differs from the threshold, and rho_inf
        from 4, by more than its error (plus 4u rho_t, for an oracle that compares a rounded rho_t).

        Args:
            t: step, counted from 1.
            scalars: "textbook" or "exact".

        Raises:
            ValueError: t < 1, or scalars is neither.

        >>> error = RAdam(betas=(0.9, 0.999)).scalar_error(6)
        >>> error.rho < 1e-9, error.decided
        (True, True)
        >>> RAdam(betas=(0.9, 1 - 1e-9)).scalar_error(5).decided
        False
        """
        return self._error(t, scalars, 2 if self.rectification == "exact" else self.threshold, self.rectification)


_U = 2.0**-53


def _log_factor(delta: float) -> float:
    """Return l(delta) = -log(1 - delta) >= |log f| for every f in [1 - delta, 1 + delta]."""
    return -math.log1p(-delta) if delta < 1 else math.inf


def _power(t: int, b: float) -> tuple[float, float]:
    """Return b^t and the bound on its relative error."""
    if b == 0:
        return 0.0, 0.0
    # A power that underflows is taken as 2^-1000: the bound that follows covers its whole value.
    return max(b**t, 2.0**-1000), (4 - 3 * t * math.log(b)) * _U


def _correction_error(t: int, b: float, exact: bool) -> float:
    """Return the bound on the relative error of 1 - b^t."""
    if exact:
        return 4 * _U
    power, relative = _power(t, b)
    absolute = power * relative
    return 2 * _U + (1 + _U) * absolute / bias_correction(t, b)


def _rho_error(t: int, b2: float, exact: bool) -> tuple[float, float]:
    """Return the bounds on the absolute errors of rho_t and rho_inf."""
    now, limit = rho_t(t, b2), rho_inf(b2)
    if exact:
        return 8 * _U * now, 4 * _U * limit
    power, relative = _power(t, b2)
    d_limit = 3 * _U * (limit + 1)
    term = 2 * t * power / bias_correction(t, b2)
    factor = math.expm1(_log_factor(relative) + _log_factor(_correction_error(t, b2, exact)) + 3 * _U)
    d_term = term * factor
    return d_limit + d_term + _U * (now + d_limit + d_term), d_limit


def _n_eff_error(t: int, b2: float, exact: bool) -> tuple[float, float]:
    """Return the bounds on the absolute errors of n_t and rho_inf."""
    now, limit = n_eff(t, b2), rho_inf(b2)
    if exact:
        return 12 * _U * now, 4 * _U * limit
    power, relative = _power(t, b2)
    d_limit = 3 * _U * (limit + 1)
    parts = (d_limit / limit, power * relative / (1 + power), _correction_error(t, b2, exact))
    return now * math.expm1(sum(map(_log_factor, parts)) + 4 * _U), d_limit


def _log_exact_r_error(n: float, d_n: float) -> float:
    """Return the part of the exact log r_t's error that comes from one n."""
    return _log_factor(d_n / (n - 2) + _U) / 2 + 1.5 * d_n / n


def _log_r_error(rho: float, d_rho: float) -> float:
    """Return the part of log r_t's error that comes from one rho."""
    return sum(_log_factor(d_rho / (rho - c) + _U) for c in (4, 2, 0)) / 2


@lru_cache(maxsize=2**14)
def _scalar_error(
    t: int,
    times: tuple[int, int],
    branch: Branch,
    b1: float,
    b2: float,
    threshold: float | None,
    rectification: Rectification,
    eps_is_scaled: bool,
    exact: bool,
) -> ScalarError:
    bc1 = _log_factor(_correction_error(times[0], b1, exact))
    bc2 = _log_factor(_correction_error(times[1], b2, exact))
    d_rho, decided, r = 0.0, True, 0.0
    if threshold is not None:
        is_paper = rectification == "paper"
        least = 4 if is_paper else 2
        now, limit = (rho_t if is_paper else n_eff)(t, b2), rho_inf(b2)
        d_rho, d_limit = (_rho_error if is_paper else _n_eff_error)(t, b2, exact)
        decided = abs(now - threshold) > d_rho + 4 * _U * now and abs(limit - least) > d_limit
        if branch == "adaptive":
            # Where rho_t is farther than that from 4 (2), so is rho_inf: its distance grows faster than its error.
            if d_rho >= (now - least) / 2:
                r, decided = math.inf, False
            else:
                log_error, own = (_log_r_error, 10) if is_paper else (_log_exact_r_error, 40)
                r = log_error(now, d_rho) + log_error(limit, d_limit) + own * _U
    if branch == "adaptive":
        size = math.expm1(r + bc2 / 2 + bc1 + 6 * _U)
    elif branch == "momentum":
        size = math.expm1(bc1 + 3 * _U)
    else:
        size = 0.0
    eps = math.expm1(bc2 / 2 + 3 * _U) if eps_is_scaled else _U
    return ScalarError(size=size, eps=eps, rho=d_rho, decided=decided, bc2=math.expm1(bc2))
