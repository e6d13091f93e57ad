"""Adam, with AMSGrad, both placements of eps, and Adam-2k."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from radam import interchange, options
from radam.optimizer import AdaptiveOptimizer, Params
from radam.schedule import Kind, Phase
from radam.weight_decay import WeightDecay, WeightDecayFunction


class Adam(AdaptiveOptimizer):
    r"""Adam, in the same terms as :class:`radam.RAdam`.

    .. math::
        m_t = \beta_1 m_{t-1} + (1-\beta_1) g'_t, \quad v_t = \beta_2 v_{t-1} + (1-\beta_2) g'^2_t, \quad
        p_t = p_{t-1} - \alpha \frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t} \frac{m_t}{\sqrt{v_t} + \hat\epsilon}

    where g' is the gradient after weight decay. Adam-2k, which moves only v in its first 2000 steps, is
    `variance_warmup=2000`; Adam-eps is `eps=1e-4`.

    Args:
        params: parameters, named parameters or groups of them. float16 and bfloat16 parameters have float32 moments.
        lr: learning rate alpha, finite and at least 0; a number or a 1-element tensor, on an accelerator only with
            `capturable`.
        betas: decays of m and v, in [0, 1).
        eps: finite and at least 0; epsilon-hat with `optimized_update`, epsilon without.
        weight_decay: a WeightDecay, a callable like it, or a number for decoupled decay.
        optimized_update: add eps before v's bias correction (the formula above); otherwise after it,
            :math:`\alpha/(1-\beta_1^t) \cdot m_t/(\sqrt{v_t/(1-\beta_2^t)} + \epsilon)`.
        amsgrad: use the running maximum of v.
        defaults: more values for the parameter groups; the other arguments win over it.
        variance_warmup: steps at the beginning that move only v; the momentum counts its steps from there.
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
        >>> p = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = Adam([p], lr=0.1)
        >>> p.square().sum().backward()
        >>> optimizer.step()
        >>> p
        Parameter containing:
        tensor([0.9000], requires_grad=True)

    References:
        Kingma & Ba, Adam, arXiv 1412.6980, Algorithm 1; Reddi et al., On the Convergence of Adam and Beyond,
        arXiv 1904.09237, Algorithm 2; Liu et al., arXiv 1908.03265, section 3.1, for Adam-2k and Adam-eps.
    """

    OPTIONS = {
        "lr": options.learning_rate,
        "betas": options.betas,
        "eps": options.non_negative,
        "optimized_update": options.flag,
        "amsgrad": options.flag,
        "variance_warmup": options.count,
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
        defaults: Mapping[str, Any] | None = None,
        *,
        variance_warmup: int = 0,
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
            "variance_warmup": variance_warmup,
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
        """VARIANCE_ONLY in the warm-up, ADAPTIVE after it."""
        adaptive = Phase(group["variance_warmup"] + 1, Kind.ADAPTIVE)
        return (Phase(1, Kind.VARIANCE_ONLY), adaptive) if group["variance_warmup"] else (adaptive,)

    def _translated(self, group: Mapping[str, Any]) -> dict[str, Any]:
        own = {"optimized_update": False} if interchange.is_of_torchs_adam(group) else {}
        return {**super()._translated(group), **own}
