"""A small optimizer with a bug, the same without it, and what it takes to tell them apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from radam.audit import Recurrence, Subject


class RMSProp(torch.optim.Optimizer):
    """v <- b v + (1 - b) g^2,  p <- p - lr g / (sqrt(v) + eps); with the bug that eps stands inside the root."""

    def __init__(self, params: Any, lr: float = 0.01, beta: float = 0.99, eps: float = 1e-8) -> None:
        for name, value in {"lr": lr, "eps": eps}.items():
            if not value >= 0:
                raise ValueError(f"{name} must be at least 0, but is {value}")
        super().__init__(params, {"lr": lr, "beta": beta, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.grad.is_sparse:
                    raise RuntimeError("RMSProp takes no sparse gradients")
                v = self.state[p].setdefault("v", torch.zeros_like(p))
                v.mul_(group["beta"]).addcmul_(p.grad, p.grad, value=1 - group["beta"])
                p.addcdiv_(p.grad, self.root(v, group["eps"]), value=-group["lr"])
        return loss

    def root(self, v: torch.Tensor, eps: float) -> torch.Tensor:
        return (v + eps).sqrt()


class Repaired(RMSProp):
    """RMSProp without the bug."""

    def root(self, v: torch.Tensor, eps: float) -> torch.Tensor:
        return v.sqrt() + eps


# What its author writes to have it verified: the recurrence, and a description.


class Plain(Recurrence):
    """The recurrence, plainly."""

    def __init__(self, lr: float = 0.01, beta: float = 0.99, eps: float = 1e-8) -> None:
        super().__init__()
        self.lr, self.beta, self.eps = lr, beta, eps

    def advance(self, param: Any, grad: Any) -> None:
        self.v = self.beta * self.v + (1 - self.beta) * (grad * grad)

    def apply(self, param: Any, grad: Any) -> Any:
        return param - self.lr * grad / (np.sqrt(self.v) + self.eps)


def describe(optimizer: type[RMSProp]) -> Subject:
    return Subject(
        name=f"tests.examples.rmsprop:{optimizer.__name__}",
        build=lambda params, options: optimizer(params, **options),
        hyperparameters=st.fixed_dictionaries(
            {"lr": st.floats(0, 1), "beta": st.sampled_from([0.9, 0.99, 0.0]), "eps": st.sampled_from([1e-8, 1e-3])}
        ),
        oracle=lambda options: Plain(**options),
        state={"v": "v"},
        supports=frozenset({"compile"}),  # without this line, half precision and complex numbers are looked at too
    )


subject = describe(RMSProp)
repaired = describe(Repaired)
