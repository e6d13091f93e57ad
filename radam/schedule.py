"""What one optimizer step does: a small record of scalars, computed without a tensor of parameters.

A member of the family is its schedule: a function from the step number and the options to a :class:`Step`.
"""

from __future__ import annotations

import enum
import math
from typing import NamedTuple

import torch

from radam.rectification import bias_correction


class Kind(enum.Enum):
    """The form of an update; s is v, or its running maximum with AMSGrad."""

    ADAPTIVE = "adaptive"
    """p <- p - size * m / (sqrt(s) + eps)"""
    MOMENTUM = "momentum"
    """p <- p - size * m"""
    HOLD = "hold"
    """p stays; m and v move"""
    VARIANCE_ONLY = "variance_only"
    """only v moves"""


class Step(NamedTuple):
    """One step: its kind, its size, and the number added to sqrt(s).

    `size` is a float, or a 0-dim tensor where the learning rate takes part in differentiation.
    """

    kind: Kind
    size: float | torch.Tensor = 0.0
    eps: float = 0.0


def plain_lr(lr: float | torch.Tensor) -> float | torch.Tensor:
    """The learning rate as a float, or as a float64 tensor where it takes part in differentiation."""
    if isinstance(lr, torch.Tensor):
        return lr.double().reshape(()) if lr.requires_grad and torch.is_grad_enabled() else float(lr)
    return lr


def adaptive(
    t: int,
    lr: float | torch.Tensor,
    betas: tuple[float, float],
    eps: float,
    *,
    optimized_update: bool,
    r: float = 1.0,
    momentum_steps: int | None = None,
) -> Step:
    r"""Adam's step, scaled by the rectification term `r`.

    .. math::
        \text{size} = r \, \alpha \frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t}, \qquad
        e = \epsilon \text{ if optimized\_update else } \epsilon \sqrt{1-\beta_2^t}

    Args:
        t: step, at least 1.
        lr: learning rate, a number or a 1-element tensor.
        betas: decays of m and v.
        eps: added to sqrt(s), before the bias correction of s with `optimized_update`, after it without.
        r: rectification term; 1 for Adam.
        momentum_steps: number of steps that m has seen, where it is not `t`.

    Example:
        >>> step = adaptive(1, 1.0, (0.5, 0.75), 1e-8, optimized_update=False)
        >>> step.kind, round(step.size, 12), round(step.eps, 20)
        (<Kind.ADAPTIVE: 'adaptive'>, 1.0, 5e-09)

    References:
        Kingma & Ba, Adam, arXiv 1412.6980, Algorithm 1 and the more efficient order at the end of section 2.
    """
    root = math.sqrt(bias_correction(t, betas[1]))
    m_correction = bias_correction(t if momentum_steps is None else momentum_steps, betas[0])
    return Step(Kind.ADAPTIVE, plain_lr(lr) * (r * root / m_correction), eps if optimized_update else eps * root)


def momentum(t: int, lr: float | torch.Tensor, beta1: float) -> Step:
    r"""A step along the bias-corrected momentum: size :math:`= \alpha / (1 - \beta_1^t)`.

    Example:
        >>> momentum(1, 0.5, 0.5)
        Step(kind=<Kind.MOMENTUM: 'momentum'>, size=1.0, eps=0.0)

    References:
        Liu et al. 2019, Algorithm 2, the branch for an intractable variance.
    """
    return Step(Kind.MOMENTUM, plain_lr(lr) / bias_correction(t, beta1))
