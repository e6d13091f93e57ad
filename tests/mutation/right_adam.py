"""A right Adam, written plainly, with the constructor of torch.optim.Adam: AMSGrad, L2 and decoupled decay.

One parameter after another, textbook scalars in float64; float32 arithmetic and moments for half parameters. It shares
nothing with `radam`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


def as_real(x: Tensor) -> Tensor:
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


class Adam(torch.optim.Optimizer):
    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError(f"lr must have one element, not {lr.numel()}")
        if not 0.0 <= float(lr) < math.inf:
            raise ValueError(f"lr must be at least 0, not {lr}")
        if not 0.0 <= eps < math.inf:
            raise ValueError(f"eps must be at least 0, not {eps}")
        if not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"betas must be in [0, 1), not {betas}")
        if not 0.0 <= weight_decay < math.inf:
            raise ValueError(f"weight_decay must be at least 0, not {weight_decay}")
        options = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, options)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        indices = [i for group in state_dict["param_groups"] for i in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        for i, p in zip(indices, params, strict=True):
            for key, value in state_dict["state"].get(i, {}).items():
                # The base class casts moments to the parameter's dtype, and keeps the given tensors where it need not.
                if isinstance(value, Tensor):
                    self.state[p][key] = value.to(p.device if key != "step" else "cpu", copy=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and p.grad.layout is not torch.strided:
                    raise RuntimeError("Adam does not support sparse gradients")
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.step_one(p, p.grad, group)
        return loss

    def state_of(self, p: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        state = self.state[p]
        dtype = torch.float32 if p.dtype in HALF else p.dtype
        if "step" not in state:
            state["step"] = torch.tensor(0.0, dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(p, dtype=dtype)
            state["exp_avg_sq"] = torch.zeros_like(p, dtype=dtype)
        if group["amsgrad"] and "max_exp_avg_sq" not in state:
            state["max_exp_avg_sq"] = torch.zeros_like(p, dtype=dtype)
        return state

    def step_one(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        lr = float(group["lr"])
        beta1, beta2 = group["betas"]
        decay = group["weight_decay"]
        state = self.state_of(p, group)
        m = as_real(state["exp_avg"])
        v = as_real(state["exp_avg_sq"])
        if p.dtype in HALF:
            work = p.to(torch.float32)
            g = grad.to(torch.float32)
        else:
            work = as_real(p)
            g = as_real(grad.to(p.dtype))
        if group["maximize"]:
            g = -g
        if decay != 0.0:
            if group["decoupled_weight_decay"]:
                work.mul_(1.0 - lr * decay)
            else:
                g = g + decay * work

        state["step"] += 1
        t = int(state["step"])
        m.mul_(beta1).add_(g, alpha=1.0 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1.0 - beta2)
        s = v
        if group["amsgrad"]:
            s = as_real(state["max_exp_avg_sq"])
            torch.maximum(s, v, out=s)
        bias1 = 1.0 - beta1**t
        bias2 = 1.0 - beta2**t
        denominator = s.sqrt().div_(math.sqrt(bias2)).add_(group["eps"])
        work.addcdiv_(m, denominator, value=-lr / bias1)

        if p.dtype in HALF:
            p.copy_(work)
        elif p.is_conj():
            p.copy_(torch.view_as_complex(work))
