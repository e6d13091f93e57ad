"""lion_pytorch's optimizer, and Lion's oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from radam.audit.subject import Recurrence, Subject
from radam.audit.subjects.peers.describing import described


class Lion(Recurrence):
    """Chen et al. 2023, arXiv 2302.06675, algorithm 2.

    p <- (1 - lr weight_decay) p - lr sign(b1 m + (1 - b1) g),    m <- b2 m + (1 - b2) g

    Args:
        lr: learning rate.
        betas: (b1, b2).
        weight_decay: coefficient of decay.
        absolute: without the factor lr in the decay.
    """

    averages = ()

    def __init__(
        self,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        absolute: bool = False,
    ) -> None:
        super().__init__()
        self.lr, self.betas = lr, betas
        self.decay = weight_decay if absolute else lr * weight_decay
        self._before: Any = None

    def advance(self, param: Any, grad: Any) -> None:
        """Move m."""
        self.t += 1
        self._before = 0.0 if self.m is None else self.m
        self.m = self.betas[1] * self._before + (1 - self.betas[1]) * grad

    def apply(self, param: Any, grad: Any) -> Any:
        """The new parameter."""
        direction = np.sign(self.betas[0] * self._before + (1 - self.betas[0]) * grad)
        return (param - self.decay * param if self.decay else param) - self.lr * direction


OPTIONS: dict[str, SearchStrategy[Any]] = {
    "lr": st.sampled_from((1e-4, 0.1, 1e-3, 1.0)),
    "betas": st.tuples(st.sampled_from((0.9, 0.95, 0.0, 0.5)), st.sampled_from((0.99, 0.98, 0.0, 0.999))),
    "weight_decay": st.sampled_from((0.0, 0.1, 0.01, 1.0)),
}


def subjects() -> list[Subject]:
    """A Subject for lion_pytorch.Lion.

    Its `decoupled_weight_decay` divides by the lr of the constructor, which no group tells: it is left off.
    """
    return [described("lion_pytorch:Lion", OPTIONS, Lion, {"m": "exp_avg"})]
