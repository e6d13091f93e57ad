"""adan_pytorch's optimizer, and Adan's oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from radam.audit.subject import Recurrence, Subject
from radam.audit.subjects.peers.common import by_keywords, described


class Adan(Recurrence):
    """Xie et al. 2022, arXiv 2208.06677, algorithm 1, with averages from zero that are corrected as in Adam.

        m <- b1 m + (1 - b1) g,    d <- b2 d + (1 - b2) (g - g'),    n <- b3 n + (1 - b3) (g + b2 (g - g'))^2
        p <- (p - lr (m + b2 d) / (sqrt(n) + eps)) / (1 + lr weight_decay)

    g' is the gradient before, in the first step g itself.

    Args:
        lr: learning rate.
        betas: (b1, b2, b3), which the paper calls 1 - beta.
        eps: as above.
        decay: what the last divisor exceeds 1 by.
        decay_first: p <- (1 - decay) p before the update instead.
    """

    averages = ()
    freely = True

    def __init__(
        self, lr: float, betas: tuple[float, float, float], eps: float, decay: float, decay_first: bool = False
    ) -> None:
        super().__init__()
        self.lr, self.betas, self.eps, self.decay, self.decay_first = lr, betas, eps, decay, decay_first
        self.d: Any = 0.0
        self.before: Any = None

    def advance(self, param: Any, grad: Any) -> None:
        """Move m, d (also g') and n, which is called v here."""
        b1, b2, b3 = self.betas
        self.t += 1
        change = 0.0 if self.t == 1 else grad - self.before
        ahead = grad + b2 * change
        self.m = b1 * (0.0 if self.t == 1 else self.m) + (1 - b1) * grad
        self.d = b2 * self.d + (1 - b2) * change
        self.v = b3 * (0.0 if self.t == 1 else self.v) + (1 - b3) * (ahead * ahead)
        self.before = grad

    def apply(self, param: Any, grad: Any) -> Any:
        """The new parameter."""
        m, d, n = (
            average / self._correction(beta) for average, beta in zip((self.m, self.d, self.v), self.betas, strict=True)
        )
        update = self.lr * (m + self.betas[1] * d) / (np.sqrt(n) + self.eps)
        return param * (1 - self.decay) - update if self.decay_first else (param - update) / (1 + self.decay)

    def _correction(self, beta: float) -> Any:
        import reference

        return self.scalar(1 - beta**self.t, reference.Adam(betas=(0.0, beta)).scalar_error(self.t).bc2)


def _oracle(
    lr: float = 1e-3,
    betas: tuple[float, float, float] = (0.02, 0.08, 0.01),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Adan:
    b1, b2, b3 = (1 - beta for beta in betas)
    return Adan(lr, (b1, b2, b3), eps, lr * weight_decay)


def subjects() -> list[Subject]:
    """A Subject for adan_pytorch.Adan, whose betas are the paper's."""
    options = {
        "lr": st.sampled_from((1e-3, 0.1)),
        "betas": st.sampled_from(((0.02, 0.08, 0.01), (0.1, 0.5, 0.001))),
        "eps": st.sampled_from((1e-8, 1e-3)),
        "weight_decay": st.sampled_from((0.0, 0.02, 0.1)),
    }
    return [described("adan_pytorch:Adan", options, by_keywords(_oracle), state={})]
