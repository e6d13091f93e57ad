"""schedulefree's optimizers, with their oracles. Each is put into its training mode, as its documentation asks.

They hold y, the point at which gradients are taken; x, the average that is evaluated, is implied by y and z:

    z <- z - lr_t d,    x <- (1 - c) x + c z,    y = (1 - beta) z + beta x

with d the step's direction, c = w_t / (w_1 + ... + w_t), w_t = t^r max(lr_1, ..., lr_t)^p. In y and the z before:

    y <- (1 - c) y + c z - lr_t (1 - beta (1 - c)) d

Source: Defazio et al. 2024, arXiv 2405.15682; the weights of the average and RAdam's waiting as schedulefree documents.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from radam.audit.subject import Call, Oracle, Params, Recurrence, ScalarError, Subject

_U = 2.0**-52


def adamw(params: Params, **options: Any) -> torch.optim.Optimizer:
    """schedulefree.AdamWScheduleFree in training mode."""
    return _training("AdamWScheduleFree", params, options)


def radam(params: Params, **options: Any) -> torch.optim.Optimizer:
    """schedulefree.RAdamScheduleFree in training mode."""
    return _training("RAdamScheduleFree", params, options)


def sgd(params: Params, **options: Any) -> torch.optim.Optimizer:
    """schedulefree.SGDScheduleFree in training mode."""
    return _training("SGDScheduleFree", params, options)


def _training(name: str, params: Params, options: Mapping[str, Any]) -> torch.optim.Optimizer:
    optimizer: Any = getattr(importlib.import_module("schedulefree"), name)(params, **options)
    optimizer.train()
    return optimizer  # type: ignore[no-any-return]


class _ScheduleFree(Recurrence):
    """Of z, which is called s as it is no moving average, and, but for SGD, v. A subclass has the direction."""

    remembers = True

    def __init__(self, lr: float, beta: float, weight_decay: float, r: float, weight_lr_power: float) -> None:
        super().__init__()
        self.lr, self.beta, self.weight_decay, self.r, self.weight_lr_power = lr, beta, weight_decay, r, weight_lr_power
        self._before: Any = None

    def size(self, t: int) -> tuple[float, float]:
        """What multiplies lr in step t, and its relative error."""
        return 1.0, 0.0

    def direction(self, param: Any, grad: Any) -> Any:
        """d."""
        raise NotImplementedError

    def _lr(self) -> Any:
        size, error = self.size(self.t)
        return self.scalar(self.lr * size, error + _U)

    def advance(self, param: Any, grad: Any) -> None:
        """Move z, from the parameter itself in the first step."""
        self.t += 1
        self._before = param if self.t == 1 else self.s
        self.s = self._before - self._lr() * self.direction(param, grad)

    def apply(self, param: Any, grad: Any) -> Any:
        """The new y."""
        c, error = self._weight()
        size, own = self.size(self.t)
        ahead = self.lr * size * (1 - self.beta * (1 - c))
        ahead_error = own + 4 * _U + self.beta * c * error / (1 - self.beta * (1 - c))
        kept, mixed = self.scalar(1 - c, c * error / (1 - c) + _U if c < 1 else 0.0), self.scalar(c, error)
        average = kept * param + mixed * self._before if c < 1 else self._before
        return average - self.scalar(ahead, ahead_error) * self.direction(param, grad)

    def _weight(self) -> tuple[float, float]:
        """c, and its relative error."""
        largest, total, worst = -1.0, 0.0, 0.0
        weight = 0.0
        for t in range(1, self.t + 1):
            size, error = self.size(t)
            largest, worst = max(largest, self.lr * size), max(worst, error)
            weight = float(t**self.r * largest**self.weight_lr_power)
            total += weight
        error = 2 * self.weight_lr_power * worst + (self.t + 8) * _U
        return (weight / total, error) if total > 0 else (0.0, 0.0)


class _SGD(_ScheduleFree):
    def __init__(
        self,
        lr: float = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
    ) -> None:
        super().__init__(lr, momentum, weight_decay, r, weight_lr_power)
        self.warmup_steps = warmup_steps

    def size(self, t: int) -> tuple[float, float]:
        return (t / self.warmup_steps, _U) if t < self.warmup_steps else (1.0, 0.0)

    def direction(self, param: Any, grad: Any) -> Any:
        return grad + self.weight_decay * param if self.weight_decay else grad


class _Adaptive(_ScheduleFree):
    """d = g / (sqrt(v / (1 - b2^t)) + eps) + weight_decay y."""

    def __init__(
        self,
        lr: float = 0.0025,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
    ) -> None:
        super().__init__(lr, betas[0], weight_decay, r, weight_lr_power)
        self.beta2, self.eps = betas[1], eps

    def advance(self, param: Any, grad: Any) -> None:
        """Move v, then z by it."""
        v = 0.0 if self.v is None else self.v
        self.v = self.beta2 * v + (1 - self.beta2) * (grad * grad)
        super().advance(param, grad)

    def adaptive(self) -> bool:
        """Whether the gradient is divided by its size."""
        return True

    def direction(self, param: Any, grad: Any) -> Any:
        direction = grad
        if self.adaptive():
            import reference

            error = reference.Adam(betas=(0.0, self.beta2)).scalar_error(self.t).bc2
            direction = grad / (np.sqrt(self.v / self.scalar(1 - self.beta2**self.t, error)) + self.eps)
        return direction + self.weight_decay * param if self.weight_decay else direction


class _AdamW(_Adaptive):
    def __init__(self, warmup_steps: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.warmup_steps = warmup_steps

    def size(self, t: int) -> tuple[float, float]:
        return (t / self.warmup_steps, _U) if t < self.warmup_steps else (1.0, 0.0)


class _RAdam(_Adaptive):
    """Adaptive where rho_t > 4; until then d = g, or with `silent_sgd_phase` lr_t = 0."""

    def __init__(self, silent_sgd_phase: bool = True, **options: Any) -> None:
        import reference

        super().__init__(**options)
        self.silent_sgd_phase = silent_sgd_phase
        self._rectified = reference.RAdam(lr=1.0, betas=(0.0, self.beta2), threshold=4.0, strict=True)

    def branch(self, t: int) -> str:
        """Which kind of step t is."""
        return self._rectified.branch(t)

    def scalar_error(self, t: int, scalars: Any = "textbook") -> ScalarError:
        """Where the branch is in doubt."""
        return self._rectified.scalar_error(t, scalars)

    def adaptive(self) -> bool:
        return self.branch(self.t) == "adaptive"

    def size(self, t: int) -> tuple[float, float]:
        import reference

        if self.branch(t) != "adaptive":
            return float(not self.silent_sgd_phase), 0.0
        return float(reference.r_t(t, self.beta2)), self._rectified.scalar_error(t).size


def _plain(oracle: Callable[..., Oracle]) -> Callable[[Mapping[str, Any]], Oracle]:
    def make(options: Mapping[str, Any]) -> Oracle:
        return oracle(**{name: float(x.detach()) if isinstance(x, torch.Tensor) else x for name, x in options.items()})

    return make


_SHARED: dict[str, SearchStrategy[Any]] = {
    "lr": st.sampled_from((0.0025, 0.1, 1.0, 1e-5)),
    "weight_decay": st.sampled_from((0.0, 0.1, 0.01)),
    "r": st.sampled_from((0.0, 1.0, 0.5)),
    "weight_lr_power": st.sampled_from((2.0, 0.0, 1.0)),
}
_ADAPTIVE: dict[str, SearchStrategy[Any]] = {
    **_SHARED,
    "betas": st.tuples(
        st.sampled_from((0.9, 0.95, 0.98, 0.5)), st.sampled_from((0.999, 0.99, 0.95, 0.9, 0.9999, 0.75))
    ),
    "eps": st.sampled_from((1e-8, 1e-3, 1e-16)),
}
_WARMUP = st.sampled_from((0, 3, 1, 20))
_STATE = {"s": "z", "v": "exp_avg_sq"}


def subjects() -> list[Subject]:
    """A Subject for each of schedulefree's optimizers that need no closure."""
    importlib.import_module("schedulefree")

    def subject(
        name: str,
        make: Callable[..., torch.optim.Optimizer],
        oracle: Callable[..., Oracle],
        hyperparameters: dict[str, SearchStrategy[Any]],
        state: dict[str, str],
    ) -> Subject:
        return Subject(
            name=f"schedulefree:{name}",
            build=lambda params, options: make(params, **options),
            hyperparameters=st.fixed_dictionaries(hyperparameters),
            oracle=_plain(oracle),
            state=state,
            call=lambda options: Call(make, options),
        )

    momentum = st.sampled_from((0.9, 0.5, 0.99))
    return [
        subject("AdamWScheduleFree", adamw, _AdamW, {**_ADAPTIVE, "warmup_steps": _WARMUP}, _STATE),
        subject("RAdamScheduleFree", radam, _RAdam, {**_ADAPTIVE, "silent_sgd_phase": st.booleans()}, _STATE),
        subject("SGDScheduleFree", sgd, _SGD, {**_SHARED, "momentum": momentum, "warmup_steps": _WARMUP}, {"s": "z"}),
    ]
