"""optimi's optimizers; all but StableAdamW with oracles.

Its moving averages are corrected for their start as they are taken: with c = (1 - b)/(1 - b^t),

    m <- (1 - c) m + c g,    p <- p - lr m / (sqrt(v) + eps)

which is Adam with eps after the bias correction. RAdam is adaptive where rho_t > 5. Decay is L2, decoupled
(1 - lr weight_decay), or fully decoupled (1 - (lr / max_lr) weight_decay), as optimi documents.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from radam.audit.strategies import DECAY_CORNERS, LR_CORNERS, betas
from radam.audit.subject import Recurrence, ScalarError, Subject
from radam.audit.subjects.peers.adan_pytorch import Adan
from radam.audit.subjects.peers.common import by_keywords, described
from radam.audit.subjects.peers.lion_pytorch import lion

_U = 2.0**-53


class _Decaying(Recurrence):
    def __init__(
        self,
        lr: float,
        weight_decay: float = 0.0,
        decouple_wd: bool = False,
        decouple_lr: bool = False,
        max_lr: float | None = None,
    ) -> None:
        super().__init__()
        self.lr = lr
        self.l2 = 0.0 if decouple_wd or decouple_lr else weight_decay
        self.decay = 0.0
        if decouple_lr:
            self.decay = lr / (max_lr or lr) * weight_decay
        elif decouple_wd:
            self.decay = lr * weight_decay

    def gradient(self, param: Any, grad: Any) -> Any:
        """g, with L2 decay."""
        return grad + self.l2 * param if self.l2 else grad

    def decayed(self, param: Any) -> Any:
        """The parameter after decoupled decay."""
        return param - self.decay * param if self.decay else param


class SGD(_Decaying):
    """m <- momentum m + g, or with dampening + (1 - momentum) g;  p <- p - lr m."""

    def __init__(
        self, lr: float, momentum: float = 0.0, dampening: bool = False, torch_init: bool = False, **decay: Any
    ) -> None:
        super().__init__(lr, **decay)
        self.momentum, self.dampening, self.torch_init = momentum, dampening, torch_init

    def advance(self, param: Any, grad: Any) -> None:
        """Move m, which starts from 0, or from g with `torch_init` and dampening."""
        self.t += 1
        g = self.gradient(param, grad)
        if self.momentum == 0:
            self.m = None
        elif self.t == 1:
            self.m = (1 - self.momentum) * g if self.dampening and not self.torch_init else g * 1.0
        else:
            self.m = self.momentum * self.m + (1 - self.momentum if self.dampening else 1.0) * g

    def apply(self, param: Any, grad: Any) -> Any:
        """The new parameter."""
        return self.decayed(param) - self.lr * (self.gradient(param, grad) if self.momentum == 0 else self.m)


class Adam(_Decaying):
    """As above."""

    def __init__(self, lr: float, betas: tuple[float, float] = (0.9, 0.99), eps: float = 1e-6, **decay: Any) -> None:
        super().__init__(lr, **decay)
        self.betas, self.eps = betas, eps

    def advance(self, param: Any, grad: Any) -> None:
        """Move the averages."""
        self.t += 1
        g = self.gradient(param, grad)
        self.m, self.v = self._average(self.m, g, self.betas[0]), self._average(self.v, g * g, self.betas[1])

    def _average(self, before: Any, new: Any, beta: float) -> Any:
        kept, error = _kept(beta, self.t)
        if self.t == 1:
            return 1.0 * new
        fresh = 1 - kept
        return self.scalar(kept, error) * before + self.scalar(fresh, (error * kept + 2 * _U) / fresh) * new

    def apply(self, param: Any, grad: Any) -> Any:
        """The new parameter."""
        return self.decayed(param) - self.lr * self.m / (np.sqrt(self.v) + self.eps)


def _kept(beta: float, t: int) -> tuple[float, float]:
    """b (1 - b^(t-1)) / (1 - b^t), and the relative error of (b^t - b) / (b^t - 1)."""
    import reference

    if beta == 0 or t == 1:
        return 0.0, 0.0
    top, bottom = beta * reference.bias_correction(t - 1, beta), reference.bias_correction(t, beta)
    power = (4 - 3 * t * math.log(beta)) * _U * max(beta**t, 2.0**-1000)
    return top / bottom, power / top + power / bottom + 3 * _U


class AdamW(Adam):
    """Adam with decoupled decay, of 0.01 by default."""

    def __init__(self, weight_decay: float = 1e-2, **options: Any) -> None:
        super().__init__(**options, weight_decay=weight_decay, decouple_wd=True)


class RAdam(Adam):
    """Rectified where rho_t > 5, else p <- p - lr m."""

    def __init__(self, lr: float, betas: tuple[float, float] = (0.9, 0.99), **options: Any) -> None:
        import reference

        super().__init__(lr, betas, **options)
        self._rectified = reference.RAdam(lr=1.0, betas=betas, threshold=5.0, strict=True)

    def branch(self, t: int) -> str:
        """Which kind of step t is."""
        return self._rectified.branch(t)

    def scalar_error(self, t: int, scalars: Any = "textbook") -> ScalarError:
        """Where the branch is in doubt."""
        return self._rectified.scalar_error(t, scalars)

    def apply(self, param: Any, grad: Any) -> Any:
        """The new parameter."""
        import reference

        if self.branch(self.t) != "adaptive":
            return self.decayed(param) - self.lr * self.m
        size = self.scalar(self.lr * reference.r_t(self.t, self.betas[1]), self.scalar_error(self.t).size)
        return self.decayed(param) - size * self.m / (np.sqrt(self.v) + self.eps)


class Ranger(RAdam):
    """RAdam, and in every k-th step la <- la + alpha (p - la), p <- la. The slow parameter la is called s here."""

    def __init__(self, k: int = 6, alpha: float = 0.5, decouple_wd: bool = True, **options: Any) -> None:
        super().__init__(**options, decouple_wd=decouple_wd)
        self.k, self.alpha = k, alpha

    def advance(self, param: Any, grad: Any) -> None:
        """Move the averages, then la by what the parameter will be."""
        super().advance(param, grad)
        slow = param if self.t == 1 else self.s
        self.s = slow
        if self.t % self.k == 0:
            # Where the branch is in doubt, so is la.
            doubt = self.scalar(1.0, 0.0 if self.scalar_error(self.t).decided else math.inf)
            self.s = slow + doubt * (self.alpha * (super().apply(param, grad) - slow))

    def apply(self, param: Any, grad: Any) -> Any:
        """The new parameter."""
        return self.s if self.t % self.k == 0 else super().apply(param, grad)


def _lion(
    lr: float,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.0,
    decouple_lr: bool = False,
    max_lr: float | None = None,
) -> Recurrence:
    return lion(lr, betas, weight_decay / (max_lr or lr) if decouple_lr else weight_decay)


def _adan(
    lr: float,
    betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
    weight_decay: float = 2e-2,
    eps: float = 1e-6,
    decouple_lr: bool = False,
    max_lr: float | None = None,
    adam_wd: bool = False,
) -> Adan:
    return Adan(lr, betas, eps, (lr / (max_lr or lr) if decouple_lr else lr) * weight_decay, decay_first=adam_wd)


_LR: dict[str, SearchStrategy[Any]] = {"lr": st.sampled_from((1e-3, *(lr for lr in LR_CORNERS if lr <= 1)))}
_EPS: dict[str, SearchStrategy[Any]] = {"eps": st.sampled_from((1e-6, 1e-8, 1e-3, 1.0))}
_FULLY: dict[str, SearchStrategy[Any]] = {
    "weight_decay": st.sampled_from(DECAY_CORNERS),
    "decouple_lr": st.booleans(),
    "max_lr": st.sampled_from((1.0, 2.0)),
}
"""With max_lr as it should be: for None it is the constructor's lr, of which a group with another knows nothing."""
_DECAY: dict[str, SearchStrategy[Any]] = {**_FULLY, "decouple_wd": st.booleans()}
_ADAM: dict[str, SearchStrategy[Any]] = {**_LR, "betas": betas(), **_EPS}
_OF_LION = st.tuples(st.sampled_from((0.9, 0.95, 0.0, 0.5)), st.sampled_from((0.99, 0.98, 0.0, 0.999)))
_MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq"}


def subjects() -> list[Subject]:
    """A Subject for each of optimi's optimizers."""
    of_sgd = {
        **_LR,
        **_DECAY,
        "momentum": st.sampled_from((0.9, 0.5)),
        "dampening": st.booleans(),
        "torch_init": st.booleans(),
    }
    of_adan = {
        **_LR,
        "betas": st.sampled_from(((0.98, 0.92, 0.99), (0.9, 0.5, 0.999))),
        **_EPS,
        **_FULLY,
        "adam_wd": st.booleans(),
    }
    of_ranger = {**_ADAM, **_DECAY, "k": st.sampled_from((6, 1, 2)), "alpha": st.sampled_from((0.5, 0.8))}
    kinds: dict[str, tuple[dict[str, SearchStrategy[Any]], Callable[..., Recurrence] | None, dict[str, str]]] = {
        "RAdam": ({**_ADAM, **_DECAY}, RAdam, _MOMENTS),
        "Adam": ({**_ADAM, **_DECAY}, Adam, _MOMENTS),
        "AdamW": ({**_ADAM, **_FULLY}, AdamW, _MOMENTS),
        "SGD": (of_sgd, SGD, {"m": "exp_avg"}),
        "Lion": ({**_LR, "betas": _OF_LION, **_FULLY}, _lion, {"m": "exp_avg"}),
        "Ranger": (of_ranger, Ranger, {**_MOMENTS, "s": "la_param"}),
        "Adan": (of_adan, _adan, {}),
        "StableAdamW": ({**_ADAM, **_FULLY}, None, {}),
    }
    kahan = frozenset({"kahan_comp"})
    return [
        described(f"optimi:{name}", options, oracle and by_keywords(oracle), state, residues=kahan)
        for name, (options, oracle, state) in kinds.items()
    ]
