"""RAdam, Rectified Adam."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch

from radam import options
from radam.optimizer import AdaptiveOptimizer, Params
from radam.rectification import Number, exact_r_t, first_adaptive_step, first_exact_step, r_t
from radam.schedule import Kind, Phase
from radam.weight_decay import WeightDecay, WeightDecayFunction

DEFAULT_THRESHOLD = 5.0


class RAdam(AdaptiveOptimizer):
    r"""Rectified Adam: Adam whose adaptive step is scaled so that its variance is that of its late steps.

    .. math::
        m_t = \beta_1 m_{t-1} + (1-\beta_1) g'_t, \qquad v_t = \beta_2 v_{t-1} + (1-\beta_2) g'^2_t

        p_t = \begin{cases}
            p_{t-1} - \alpha \, r_t \frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t} \frac{m_t}{\sqrt{v_t} + \hat\epsilon}
                & \rho_t \ge \text{threshold} \\
            p_{t-1} - \alpha \frac{m_t}{1-\beta_1^t} & \text{otherwise, with degenerated\_to\_sgd} \\
            p_{t-1} & \text{otherwise}
        \end{cases}

    where g' is the gradient after weight decay, which happens on every step. rho_t and r_t are those of
    :mod:`radam.rectification`. At beta2 = 0.999 the first adaptive step is the sixth; with beta2 <= 0.6, rho_inf <= 4
    and no step is adaptive.

    Args:
        params: parameters, named parameters or groups of them. float16 and bfloat16 parameters have float32 moments.
        lr: learning rate alpha, finite and at least 0; a number or a 1-element tensor, on an accelerator only with
            `capturable`.
        betas: decays of m and v, in [0, 1).
        eps: finite and at least 0; epsilon-hat with `optimized_update`, epsilon without.
        weight_decay: a WeightDecay, a callable like it, or a number for decoupled decay.
        optimized_update: add eps before v's bias correction (the formula above); otherwise after it,
            :math:`\alpha r_t/(1-\beta_1^t) \cdot m_t/(\sqrt{v_t/(1-\beta_2^t)} + \epsilon)`.
        amsgrad: use the running maximum of v.
        degenerated_to_sgd: take momentum steps while rho_t is below the threshold; otherwise the parameter waits.
        defaults: more values for the parameter groups; the other arguments win over it.
        threshold: smallest rho_t of an adaptive step, at least 4. The paper has 4, its authors' code 5.
        rectification: "paper": r_t and the branch as above. "exact": r_t from the variance itself, not its expansion,
            and n_t effective terms instead of rho_t; adaptive where that variance exists, which at beta2 = 0.999 is
            from the third step on, and never for beta2 <= 1/3. See :func:`radam.rectification.exact_r_t`. It has no
            threshold: leave that at 5.
        maximize: ascend instead of descend; decay still shrinks.
        foreach: take lists of tensors at once; None where no faster kernel serves, False never.
        fused: take adaptive steps in one pass over memory; None where possible, False never. See `kernels`.
        capturable: keep `step` on the device and compute the scalars there, so that a CUDA graph can hold the step.
        differentiable: let autograd differentiate through the step.

    Raises:
        ValueError: an argument is out of range; names the argument and the value.
        TypeError: an argument has another type.

    Example:
        >>> import torch
        >>> p = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> optimizer = RAdam([p], lr=0.1)
        >>> for _ in range(10):
        ...     optimizer.zero_grad()
        ...     p.square().sum().backward()
        ...     optimizer.step()
        >>> p
        Parameter containing:
        tensor([ 0.1875, -0.3892], requires_grad=True)

    References:
        Liu et al., On the Variance of the Adaptive Learning Rate and Beyond, arXiv 1908.03265, Algorithm 2.
    """

    OPTIONS = {
        "lr": options.learning_rate,
        "betas": options.betas,
        "eps": options.non_negative,
        "optimized_update": options.flag,
        "amsgrad": options.flag,
        "degenerated_to_sgd": options.flag,
        "threshold": options.threshold,
        "rectification": options.rectification,
        "maximize": options.flag,
    }

    def __init__(
        self,
        params: Params,
        lr: float | torch.Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
        weight_decay: WeightDecayFunction | float = WeightDecay(),
        optimized_update: bool = True,
        amsgrad: bool = False,
        degenerated_to_sgd: bool = True,
        defaults: Mapping[str, Any] | None = None,
        *,
        threshold: float = DEFAULT_THRESHOLD,
        rectification: str = "paper",
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        values = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "optimized_update": optimized_update,
            "amsgrad": amsgrad,
            "degenerated_to_sgd": degenerated_to_sgd,
            "threshold": threshold,
            "rectification": rectification,
            "maximize": maximize,
        }
        switches = {
            "foreach": foreach,
            "fused": fused,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        super().__init__(params, values, weight_decay, defaults, switches)

    def phases(self, group: Mapping[str, Any]) -> tuple[Phase, ...]:
        """MOMENTUM, or HOLD without `degenerated_to_sgd`; then ADAPTIVE."""
        beta2 = group["betas"][1]
        if group["rectification"] == "exact":
            first = first_exact_step(beta2)
        else:
            first = first_adaptive_step(beta2, group["threshold"])
        return _phases(Kind.MOMENTUM if group["degenerated_to_sgd"] else Kind.HOLD, first)

    def rectification(self, t: Number, group: Mapping[str, Any]) -> Number:
        """r_t, the paper's or the exact one."""
        return (exact_r_t if group["rectification"] == "exact" else r_t)(t, group["betas"][1])

    def check_together(self, group: Mapping[str, Any], where: str) -> None:
        """The exact rectification needs no threshold, and takes none."""
        if group["rectification"] == "exact" and group["threshold"] != DEFAULT_THRESHOLD:
            raise ValueError(
                f"threshold must be {DEFAULT_THRESHOLD} with rectification='exact', but got {group['threshold']!r}"
                f"{f' ({where})' if where else ''}: every step is adaptive whose variance exists"
            )


@functools.lru_cache(maxsize=1024)
def _phases(early: Kind, first: int | None) -> tuple[Phase, ...]:
    """Those before the first adaptive step, and from it on."""
    before = Phase(1, early)
    return (before,) if first is None else (before, Phase(first, Kind.ADAPTIVE))
