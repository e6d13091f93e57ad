"""What optimizers of the Adam family beyond Adam and RAdam should compute, each from its paper.

Notation as in `reference.optimizers`: g' is the gradient after maximize and L2 decay, bc = 1 - b^t.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from radam.audit.bounds import with_lerp_room
from radam.audit.subject import Oracle, Recurrence

_U = 2.0**-53


def correction(t: int, beta: float) -> tuple[float, float]:
    """1 - beta^t, and the relative error that its usual float64 formula may have, as in `reference.optimizers`.

    Example:
        >>> correction(1, 0.5)[0]
        0.5
    """
    if beta == 0:
        return 1.0, 0.0
    value = -math.expm1(t * math.log(beta))
    power = (4 - 3 * t * math.log(beta)) * beta**t
    return value, _U * (2 + 2 * power / value)


class Adaptive(Recurrence):
    """Moments of the gradient, and decay: what the optimizers of the family share.

    Args:
        lr, betas, eps, weight_decay: as usual.
        weight_decouple: p <- (1 - lr weight_decay) p; else g' = g + weight_decay p.
        absolute: decoupled decay without the factor lr.
        maximize: ascend instead.
    """

    def __init__(
        self,
        *,
        lr: float,
        betas: tuple[float, ...],
        eps: float = 0.0,
        weight_decay: float = 0.0,
        weight_decouple: bool = True,
        absolute: bool = False,
        maximize: bool = False,
    ) -> None:
        super().__init__()
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.weight_decouple, self.absolute, self.maximize = weight_decouple, absolute, maximize

    def gradient(self, param: Any, grad: Any) -> Any:
        """g'."""
        g = -grad if self.maximize else grad
        return g if self.weight_decouple or self.weight_decay == 0 else g + self.weight_decay * param

    def decayed(self, param: Any) -> Any:
        """The parameter after decoupled decay."""
        if not self.weight_decouple or self.weight_decay == 0:
            return param
        return param - (self.weight_decay if self.absolute else self.lr * self.weight_decay) * param

    def moments(self, param: Any, grad: Any) -> Any:
        """Move m and v as Adam does; return g'."""
        self.t += 1
        g = self.gradient(param, grad)
        self.m = self.betas[0] * self.m + (1 - self.betas[0]) * g
        self.v = self.betas[1] * self.v + (1 - self.betas[1]) * (g * g)
        return g

    def corrected(self, value: float, first: bool = True, root: bool = True) -> Any:
        """A number, divided by bc1 if `first`, and multiplied by sqrt(bc2) if `root`."""
        error = 4 * _U
        if first:
            bias, relative = correction(self.t, self.betas[0])
            value, error = value / bias, error + 2 * relative
        if root:
            bias, relative = correction(self.t, self.betas[1])
            value, error = value * math.sqrt(bias), error + relative
        return self.scalar(value, error)


class NAdamW(Adaptive):
    """AdamW whose step looks one moving average ahead (Dozat 2016, by Choi et al. 2019, arXiv 1910.05446, table 1).

    p <- p - lr ((b1 m + (1 - b1) g)/bc1) / (sqrt(v/bc2) + eps)
    """

    def advance(self, param: Any, grad: Any) -> None:
        """Move the moments."""
        self.moments(param, grad)

    def apply(self, param: Any, grad: Any) -> Any:
        """The new parameter."""
        b1 = self.betas[0]
        ahead = with_lerp_room(b1 * self.m + (1 - b1) * self.gradient(param, grad), self.m)
        root = self.corrected(1.0, first=False)
        return self.decayed(param) - self.corrected(self.lr) * ahead / (np.sqrt(self.v) + self.eps * root)


class Lion(Adaptive):
    """Evolved sign momentum (Chen et al. 2023, arXiv 2302.06675, algorithm 2).

    p <- p - lr sign(b1 m + (1 - b1) g)        then m <- b2 m + (1 - b2) g
    """

    averages = ()

    direction: Any

    def advance(self, param: Any, grad: Any) -> None:
        """Move m; keep the direction, which is of the m before."""
        self.t += 1
        (b1, b2), g = self.betas, self.gradient(param, grad)
        self.direction = np.sign(with_lerp_room(b1 * self.m + (1 - b1) * g, self.m))
        self.m = b2 * self.m + (1 - b2) * g

    def apply(self, param: Any, grad: Any) -> Any:
        """The new parameter."""
        return self.decayed(param) - self.lr * self.direction


class Yogi(Adaptive):
    """Additive second moments (Zaheer et al. 2018, algorithm 2), with bias corrections and initial values of m and v.

    v <- v - (1 - b2) sign(v - g^2) g^2,  p <- p - lr (m/bc1) / (sqrt(v/bc2) + eps)
    """

    averages = ()

    def __init__(self, *, initial_accumulator: float = 1e-6, **options: Any) -> None:
        super().__init__(**options)
        self.initial = initial_accumulator

    def advance(self, param: Any, grad: Any) -> None:
        """Move the moments."""
        b1, b2 = self.betas
        if self.t == 0:
            self.m, self.v = 0 * grad + self.initial, 0 * grad + self.initial
        g = self.gradient(param, grad)
        self.t += 1
        self.m = with_lerp_room(b1 * self.m + (1 - b1) * g, self.m)
        self.v = self.v - (1 - b2) * np.sign(self.v - g * g) * (g * g)

    def apply(self, param: Any, grad: Any) -> Any:
        """The new parameter."""
        root = self.corrected(1.0, first=False)
        return self.decayed(param) - self.corrected(self.lr) * self.m / (np.sqrt(self.v) + self.eps * root)


class AdaBound(Adaptive):
    """Adam with bounds on the learning rate of each element (Luo et al. 2019, arXiv 1902.09843, algorithm 2).

    eta = clip(lr sqrt(bc2)/bc1 / (sqrt(v) + eps), final (1 - 1/(gamma t + 1)), final (1 + 1/(gamma t)))
    p <- p - eta m
    """

    def __init__(
        self, *, final_lr: float = 0.1, gamma: float = 1e-3, amsgrad: bool = False, inside: float = 0.0, **options: Any
    ) -> None:
        super().__init__(**options)
        self.final_lr, self.gamma, self.amsgrad, self.inside = final_lr, gamma, amsgrad, inside

    def advance(self, param: Any, grad: Any) -> None:
        """Move the moments, and the maximum of v."""
        self.moments(param, grad)
        if self.amsgrad:
            self.s = np.maximum(self.v, self.s)

    def apply(self, param: Any, grad: Any) -> Any:
        """The new parameter."""
        s = self.s if self.amsgrad else self.v
        eta = self.corrected(self.lr) / (np.sqrt(s + self.inside) + self.eps)
        lower = self.scalar(self.final_lr * (1 - 1 / (self.gamma * self.t + 1)), 8 * _U / (self.gamma * self.t))
        upper = self.scalar(self.final_lr * (1 + 1 / (self.gamma * self.t)), 8 * _U)
        return self.decayed(param) - np.minimum(np.maximum(eta, lower), upper) * self.m


class AdaMod(Adaptive):
    """Adam with learning rates bounded by their own moving average s (Ding et al. 2019, arXiv 1910.12249, algorithm 1).

    eta = lr sqrt(bc2)/bc1 / (sqrt(v) + eps),  s <- b3 s + (1 - b3) eta,  p <- p - min(eta, s) m
    """

    def _rate(self) -> Any:
        return self.corrected(self.lr) / (np.sqrt(self.v) + self.eps)

    def advance(self, param: Any, grad: Any) -> None:
        """Move the moments, and the average of the learning rates."""
        self.moments(param, grad)
        b3 = self.betas[2]
        self.s = with_lerp_room(b3 * self.s + (1 - b3) * self._rate(), self.s)

    def apply(self, param: Any, grad: Any) -> Any:
        """The new parameter."""
        return self.decayed(param) - np.minimum(self._rate(), self.s) * self.m


class LaProp(Adaptive):
    """Momentum of normalised gradients (Ziyin et al. 2020, arXiv 2002.04839, algorithm 1), with decay after the step.

    v <- b2 v + (1 - b2) g^2,  m <- b1 m + (1 - b1) lr g / (sqrt(v/bc2) + eps),  p <- (p - m/bc1)(1 - lr wd)
    """

    averages = ("v",)

    def advance(self, param: Any, grad: Any) -> None:
        """Move v, and m by it."""
        self.t += 1
        b1, b2 = self.betas
        self.v = b2 * self.v + (1 - b2) * (grad * grad)
        root = self.corrected(1.0, first=False)
        self.m = b1 * self.m + (1 - b1) * (self.lr * (grad * root) / (np.sqrt(self.v) + self.eps * root))

    def apply(self, param: Any, grad: Any) -> Any:
        """The new parameter."""
        return self.decayed(param - self.corrected(1.0, root=False) * self.m)


class ADOPT(Adaptive):
    """Gradients normalised by the v before (Taniguchi et al. 2024, arXiv 2411.02853, algorithm 2, with clipping).

    At t = 1: v <- g^2. Then
    m <- b1 m + (1 - b1) clip(g / max(sqrt(v), eps), c),  p <- p - lr m,  v <- b2 v + (1 - b2) g^2

    Args:
        clip: exponent of c = (t - offset)^clip; None for no clipping.
        offset: number of steps that the clipping does not count.
        decays_first: whether decoupled decay acts in the first step too.
    """

    averages = ()

    def __init__(
        self, *, clip: float | None = 0.25, offset: int = 0, decays_first: bool = True, **options: Any
    ) -> None:
        super().__init__(**options)
        self.clip, self.offset, self.decays_first = clip, offset, decays_first

    def branch(self, t: int) -> str:
        """The first step is of its own kind."""
        return "first" if t == 1 else "adaptive"

    def advance(self, param: Any, grad: Any) -> None:
        """Move m by the v before, then v."""
        self.t += 1
        b1, b2 = self.betas
        # L2 decay is that of the parameter before decoupled decay, of which there is none then.
        g = self.gradient(param, grad)
        if self.t == 1:
            self.v = g * g
            return
        normed = g / np.maximum(np.sqrt(self.v), self.eps)
        if self.clip is not None:
            bound = self.scalar((self.t - self.offset) ** self.clip, 4 * _U)
            normed = np.minimum(np.maximum(normed, -bound), bound)
        self.m = b1 * self.m + (1 - b1) * normed
        self.v = b2 * self.v + (1 - b2) * (g * g)

    def apply(self, param: Any, grad: Any) -> Any:
        """The new parameter."""
        if self.t == 1:
            return self.decayed(param) if self.decays_first else param
        return self.decayed(param) - self.lr * self.m


def adabelief(options: Mapping[str, Any], *, rectify: bool, keeps_eps: bool = True, **conventions: Any) -> Oracle:
    """AdaBelief (Zhuang et al. 2020, arXiv 2010.07468, algorithm 2), in its authors' code with RAdam's rectification.

    v <- b2 v + (1 - b2)(g' - m)^2 + eps, and with it in place of v the step of Adam, or of RAdam if `rectify`.

    Args:
        options: of reference.Adam or RAdam.
        rectify: see above.
        keeps_eps: whether the eps under the root stays in v.
        conventions: of reference.Adam or RAdam.

    Example:
        >>> oracle = adabelief({"lr": 0.5, "betas": (0.5, 0.5), "eps": 0.0}, rectify=False)
        >>> float(oracle.step(1.0, 2.0)), float(oracle.v)
        (0.0, 0.5)
    """
    import reference

    base: Any = reference.RAdam if rectify else reference.Adam

    class AdaBelief(base):  # type: ignore[misc]
        averages = ("m",)
        v: Any
        s: Any

        def advance(self, param: Any, grad: Any) -> None:
            m, v, s = (0.0 if state is None else state for state in (self.m, self.v, self.s))
            super().advance(param, grad)
            g = -grad if self.maximize else grad
            if not self.weight_decouple and self.weight_decay != 0:
                g = g + self.weight_decay * param
            rest, b2 = g - with_lerp_room(self.m, m), self.betas[1]
            self.v = b2 * v + (1 - b2) * (rest * rest) + (self.eps if keeps_eps else 0.0)
            if self.amsgrad:
                self.s = np.maximum(self.v, s)

        def apply(self, param: Any, grad: Any) -> Any:
            if keeps_eps:
                return super().apply(param, grad)
            kept = self.v, self.s
            self.v, self.s = (None if state is None else state + self.eps for state in kept)
            result = super().apply(param, grad)
            self.v, self.s = kept
            return result

    oracle: Oracle = AdaBelief(**options, **conventions)
    return oracle


class SGDW(Recurrence):
    """SGD with momentum, kept in s, and decoupled decay (Loshchilov & Hutter 2019, algorithm 1).

    s <- mu s + (1 - dampening) g', in the first step g';  p <- (1 - lr wd) p - lr s;  nesterov: g' + mu s in place of s
    """

    averages = ()

    def __init__(
        self,
        *,
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        weight_decouple: bool = True,
        maximize: bool = False,
    ) -> None:
        super().__init__()
        self.momentum, self.dampening, self.nesterov = momentum, dampening, nesterov
        self._decay = Adaptive(
            lr=lr, betas=(), weight_decay=weight_decay, weight_decouple=weight_decouple, maximize=maximize
        )

    def advance(self, param: Any, grad: Any) -> None:
        """Move the momentum."""
        self.t += 1
        g = self._decay.gradient(param, grad)
        if self.momentum != 0:
            self.s = 1.0 * g if self.t == 1 else self.momentum * self.s + (1 - self.dampening) * g

    def apply(self, param: Any, grad: Any) -> Any:
        """The new parameter."""
        step = self._decay.gradient(param, grad)
        if self.momentum != 0:
            step = step + self.momentum * self.s if self.nesterov else self.s
        return self._decay.decayed(param) - self._decay.lr * step
