"""What one optimizer step does: a small record of scalars, computed without a tensor of parameters.

A member of the family is its schedule: which kind of step it takes from which step number on, and by which factor it
scales an adaptive one. The formulas are written once, for numbers and for float64 tensors of many step numbers.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import torch

from radam.rectification import Number, bias_correction, square_root


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


class Phase(NamedTuple):
    """A kind of step, and the first step of that kind."""

    first: int
    kind: Kind


class Step(NamedTuple):
    """One step: its kind, its size, and the number added to sqrt(s).

    `size` is a float, or a 0-dim tensor where the learning rate takes part in differentiation.
    """

    kind: Kind
    size: float | torch.Tensor = 0.0
    eps: float = 0.0


class Steps(NamedTuple):
    """Steps of many parameters, without a branch: an entry of each vector for each of them.

    Size and eps are float64; where an entry plays no part in a step it may be anything, NaN included.
    """

    size: torch.Tensor
    eps: torch.Tensor
    divides: torch.Tensor
    """Whether m is divided by sqrt(s) + eps: ADAPTIVE."""
    moves: torch.Tensor | None
    """Whether the parameter moves: neither HOLD nor VARIANCE_ONLY. None where every step of the schedule does."""
    averages: torch.Tensor | None
    """Whether m moves, and decoupled decay happens: not VARIANCE_ONLY. None where every step of the schedule does."""


def plain_lr(lr: float | torch.Tensor) -> float | torch.Tensor:
    """The learning rate as a float, or as a float64 tensor where it takes part in differentiation."""
    if isinstance(lr, torch.Tensor):
        return lr.double().reshape(()) if lr.requires_grad and torch.is_grad_enabled() else float(lr)
    return lr


def lr_on(device: torch.device, lr: float | torch.Tensor) -> float | torch.Tensor:
    """The learning rate for steps on a device, without waiting for it: a tensor stays one.

    A tensor in the memory of the host counts as its number elsewhere.
    """
    if not isinstance(lr, torch.Tensor):
        return lr
    lr = lr.detach()
    return float(lr) if lr.is_cpu and device.type != "cpu" else lr.to(device, torch.float64).reshape(())


def adaptive_size(
    t: Number, lr: float | torch.Tensor, betas: tuple[float, float], r: Number | float = 1.0, before: int = 0
) -> Number:
    r"""Size of Adam's step scaled by the rectification term: :math:`r \, \alpha \sqrt{1-\beta_2^t} / (1-\beta_1^t)`.

    Args:
        t: step, at least 1; a number or a float64 tensor.
        lr: learning rate; a number or a float64 tensor.
        betas: decays of m and v.
        r: rectification term; 1 for Adam.
        before: steps in which m has not moved.

    Example:
        >>> round(adaptive_size(1, 1.0, (0.5, 0.75)), 12)
        1.0

    References:
        Kingma & Ba, Adam, arXiv 1412.6980, Algorithm 1 and the more efficient order at the end of section 2.
    """
    root = square_root(bias_correction(t, betas[1]))
    return lr * (r * root / bias_correction(t - before, betas[0]))  # type: ignore[return-value]


def adaptive_eps(t: Number, beta2: float, eps: float) -> Number:
    r"""What is added to sqrt(s) so that eps stands beside the corrected root: :math:`\epsilon \sqrt{1-\beta_2^t}`.

    Example:
        >>> round(adaptive_eps(1, 0.75, 1e-8), 20)
        5e-09

    References:
        Kingma & Ba, Adam, arXiv 1412.6980, the end of section 2.
    """
    return eps * square_root(bias_correction(t, beta2))


def momentum_size(t: Number, lr: float | torch.Tensor, beta1: float) -> Number:
    r"""Size of a step along the bias-corrected momentum: :math:`\alpha / (1 - \beta_1^t)`.

    Example:
        >>> momentum_size(1, 0.5, 0.5)
        1.0

    References:
        Liu et al. 2019, Algorithm 2, the branch for an intractable variance.
    """
    return lr / bias_correction(t, beta1)  # type: ignore[return-value]


def kind_at(t: int, phases: Sequence[Phase]) -> Kind:
    """The kind of step t.

    Example:
        >>> kind_at(6, (Phase(1, Kind.MOMENTUM), Phase(6, Kind.ADAPTIVE)))
        <Kind.ADAPTIVE: 'adaptive'>
    """
    for first, kind in reversed(phases):
        if t >= first:
            return kind
    raise ValueError(f"t must be at least {phases[0].first}, but got {t!r}")


def step_at(
    t: int, phases: Sequence[Phase], group: Mapping[str, Any], rectification: Callable[[int], float] = lambda t: 1.0
) -> Step:
    """Step t of a schedule, as numbers.

    Args:
        t: step, at least 1.
        phases: the kinds of the schedule, in order; the first starts at 1.
        group: `lr`, `betas`, `eps` and `optimized_update`.
        rectification: the factor of an adaptive step at t.

    Example:
        >>> group = {"lr": 1.0, "betas": (0.5, 0.75), "eps": 1e-8, "optimized_update": True}
        >>> step_at(1, (Phase(1, Kind.MOMENTUM), Phase(6, Kind.ADAPTIVE)), group)
        Step(kind=<Kind.MOMENTUM: 'momentum'>, size=2.0, eps=0.0)
    """
    kind = kind_at(t, phases)
    if kind is Kind.ADAPTIVE:
        size = adaptive_size(t, plain_lr(group["lr"]), group["betas"], rectification(t), _warm_up(phases))
        eps = group["eps"] if group["optimized_update"] else adaptive_eps(t, group["betas"][1], group["eps"])
        return Step(kind, size, eps)
    if kind is Kind.MOMENTUM:
        return Step(kind, momentum_size(t, plain_lr(group["lr"]), group["betas"][0]))
    return Step(kind)


def steps_at(
    t: torch.Tensor,
    phases: Sequence[Phase],
    group: Mapping[str, Any],
    rectification: Callable[[torch.Tensor], torch.Tensor | float] = lambda t: 1.0,
) -> Steps:
    """Steps of many parameters, computed on their device: which kind each is, whole numbers decide.

    Args:
        t: float64 vector of step numbers.
        phases, group, rectification: as in :func:`step_at`; a tensor lr is not read by the host.

    Example:
        >>> group = {"lr": 1.0, "betas": (0.5, 0.75), "eps": 1e-8, "optimized_update": True}
        >>> steps_at(torch.tensor([1.0, 2.0], dtype=torch.float64), (Phase(1, Kind.MOMENTUM),), group).size
        tensor([2.0000, 1.3333], dtype=torch.float64)
    """
    lr = lr_on(t.device, group["lr"])
    divides = _within(t, phases, {Kind.ADAPTIVE})
    size, eps = torch.zeros_like(t), torch.full_like(t, group["eps"])
    kinds = {kind for _, kind in phases}
    if Kind.MOMENTUM in kinds:
        size = momentum_size(t, lr, group["betas"][0])
    if Kind.ADAPTIVE in kinds:
        adaptive = adaptive_size(t, lr, group["betas"], rectification(t), _warm_up(phases))
        size = torch.where(divides, adaptive, size)
        eps = eps if group["optimized_update"] else adaptive_eps(t, group["betas"][1], group["eps"])
    return Steps(size, eps, divides, *_rests(phases, lambda kinds: _within(t, phases, kinds)))


def gathered(steps: Sequence[Step], phases: Sequence[Phase], device: torch.device) -> Steps:
    """Steps computed one by one, as vectors on a device."""

    def vector(values: Sequence[object], dtype: torch.dtype) -> torch.Tensor:
        return torch.tensor(values, dtype=dtype, device=device)

    return Steps(
        vector([float(step.size) for step in steps], torch.float64),
        vector([step.eps for step in steps], torch.float64),
        vector([step.kind is Kind.ADAPTIVE for step in steps], torch.bool),
        *_rests(phases, lambda kinds: vector([step.kind in kinds for step in steps], torch.bool)),
    )


def _warm_up(phases: Sequence[Phase]) -> int:
    """Steps in which m does not move, of a schedule with adaptive ones."""
    return phases[1].first - 1 if phases[0].kind is Kind.VARIANCE_ONLY else 0


def _within(t: torch.Tensor, phases: Sequence[Phase], kinds: set[Kind]) -> torch.Tensor:
    """Which of the steps are of one of the kinds."""
    result = torch.zeros_like(t, dtype=torch.bool)
    ends = [phase.first for phase in phases[1:]]
    for phase, end in zip_longest(phases, ends):
        if phase.kind in kinds:
            result = result | (t >= phase.first if end is None else (t >= phase.first) & (t < end))
    return result


def _rests(
    phases: Sequence[Phase], which: Callable[[set[Kind]], torch.Tensor]
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """`moves` and `averages` of :class:`Steps`.

    What is None depends on the schedule, not on the steps: a graph made of some steps serves all.
    """
    kinds = {kind for _, kind in phases}
    moving = {Kind.ADAPTIVE, Kind.MOMENTUM}
    averaging = {*moving, Kind.HOLD}
    return which(moving) if kinds - moving else None, which(averaging) if kinds - averaging else None
