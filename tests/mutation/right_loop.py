"""A right RAdam, written plainly: one parameter after another, textbook scalars in float64.

It shares nothing with `radam`. Its arithmetic is what most people would write from the paper, so that a suite that
rejects it is too strict. `step` is a 0-dim float32 tensor in the state, as in torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)
MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")


class WeightDecay:
    """Decoupled weight decay, or L2 regularisation when `weight_decouple` is false."""

    def __init__(self, weight_decay: float = 0.0, weight_decouple: bool = True, absolute: bool = False) -> None:
        if not weight_decay >= 0.0:
            raise ValueError(f"weight_decay must be at least 0, not {weight_decay}")
        self.weight_decay = float(weight_decay)
        self.weight_decouple = bool(weight_decouple)
        self.absolute = bool(absolute)

    def defaults(self) -> dict[str, Any]:
        return {
            "weight_decay": self.weight_decay,
            "weight_decouple": self.weight_decouple,
            "absolute": self.absolute,
        }

    def __call__(self, param: Tensor, grad: Tensor, group: Mapping[str, Any]) -> Tensor:
        coefficient = group.get("weight_decay", self.weight_decay)
        if coefficient == 0.0:
            return grad
        if not group.get("weight_decouple", self.weight_decouple):
            return grad + coefficient * param
        lr = float(group["lr"])
        if lr == 0.0:
            return grad
        factor = 1.0 - coefficient if group.get("absolute", self.absolute) else 1.0 - lr * coefficient
        param.mul_(factor)
        return grad

    def __repr__(self) -> str:
        return f"WeightDecay({self.weight_decay}, weight_decouple={self.weight_decouple}, absolute={self.absolute})"


def check_group(group: Mapping[str, Any]) -> None:
    lr = group["lr"]
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError(f"lr must have one element, not {lr.numel()}")
    if not float(lr) >= 0.0:
        raise ValueError(f"lr must be at least 0, not {lr}")
    if not group["eps"] >= 0.0:
        raise ValueError(f"eps must be at least 0, not {group['eps']}")
    if len(group["betas"]) != 2 or not all(0.0 <= beta < 1.0 for beta in group["betas"]):
        raise ValueError(f"betas must be two numbers in [0, 1), not {group['betas']}")
    if not group.get("weight_decay", 0.0) >= 0.0:
        raise ValueError(f"weight_decay must be at least 0, not {group['weight_decay']}")
    if not group["threshold"] >= 4.0:
        raise ValueError(f"threshold must be at least 4, not {group['threshold']}")
    if group["rectification"] != "paper":
        raise ValueError(f"rectification must be 'paper', not {group['rectification']!r}")


def rectification(beta2: float, t: int, threshold: float) -> float | None:
    """r_t, or None below the threshold."""
    rho_inf = 2.0 / (1.0 - beta2) - 1.0
    power = beta2**t
    rho = rho_inf - 2.0 * t * power / (1.0 - power)
    if rho_inf <= 4.0 or not rho >= threshold:
        return None
    return math.sqrt(((rho - 4.0) * (rho - 2.0) * rho_inf) / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho))


def as_real(x: Tensor) -> Tensor:
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


class RAdam(torch.optim.Optimizer):
    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
        weight_decay: Any = WeightDecay(),  # noqa: B008  (the signature that was asked for; the object has no state)
        optimized_update: bool = True,
        amsgrad: bool = False,
        degenerated_to_sgd: bool = True,
        defaults: Mapping[str, Any] | None = None,
        *,
        threshold: float = 5.0,
        rectification: str = "paper",
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        if not callable(weight_decay):
            weight_decay = WeightDecay(weight_decay)
        self.weight_decay = weight_decay
        named = {
            **weight_decay.defaults(),
            "lr": lr if isinstance(lr, Tensor) else float(lr),
            "betas": tuple(betas),
            "eps": eps,
            "optimized_update": optimized_update,
            "amsgrad": amsgrad,
            "degenerated_to_sgd": degenerated_to_sgd,
            "threshold": threshold,
            "rectification": rectification,
            "maximize": maximize,
            "foreach": foreach,
            "fused": fused,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        values = {**(defaults or {}), **named}
        check_group(values)
        super().__init__(params, values)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        given = param_group.get("weight_decay")
        if callable(given):
            param_group = {**param_group, **given.defaults()}
        check_group({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "weight_decay": self.weight_decay}

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
            if i not in state_dict["state"]:
                continue
            own = self.state[p]
            for key, value in own.items():
                if isinstance(value, Tensor):
                    # The base class has cast the moments of half parameters to the parameter's dtype: take them again.
                    if key in MOMENTS and p.dtype in HALF:
                        value = state_dict["state"][i][key].to(p.device, torch.float32)
                    own[key] = value.clone()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None and p.grad.layout is not torch.strided:
                        raise RuntimeError("RAdam does not support sparse gradients")
            for group in self.param_groups:
                for p in group["params"]:
                    grad = p.grad
                    if grad is None:
                        continue
                    self._step_one(p, grad, group)
        return loss

    def _state(self, p: Tensor, group: Mapping[str, Any]) -> dict[str, Any]:
        state = self.state[p]
        dtype = torch.float32 if p.dtype in HALF else p.dtype
        if "step" not in state:
            state["step"] = torch.tensor(0.0, dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(p, dtype=dtype)
            state["exp_avg_sq"] = torch.zeros_like(p, dtype=dtype)
        if group["amsgrad"] and "max_exp_avg_sq" not in state:
            state["max_exp_avg_sq"] = torch.zeros_like(p, dtype=dtype)
        return state

    def _step_one(self, p: Tensor, grad: Tensor, group: Mapping[str, Any]) -> None:
        lr = float(group["lr"])
        beta1, beta2 = group["betas"]
        eps = group["eps"]
        amsgrad = group["amsgrad"]
        state = self._state(p, group)
        m = as_real(state["exp_avg"])
        v = as_real(state["exp_avg_sq"])

        # The working copy: float32 for half parameters, pairs of reals for complex ones, else the parameter itself.
        if p.dtype in HALF:
            work = p.to(torch.float32)
            g = grad.to(torch.float32)
        else:
            work = as_real(p)
            g = as_real(grad.to(p.dtype))
        if group["maximize"]:
            g = -g
        g = self.weight_decay(work, g, group)

        if self.defaults["differentiable"]:
            m = m * beta1 + g * (1.0 - beta1)
            v = v * beta2 + g * g * (1.0 - beta2)
        else:
            m.mul_(beta1).add_(g, alpha=1.0 - beta1)
            v.mul_(beta2).addcmul_(g, g, value=1.0 - beta2)
        s = v
        if amsgrad:
            s = torch.maximum(as_real(state["max_exp_avg_sq"]), v)
        if self.defaults["differentiable"]:
            restore = torch.view_as_complex if p.is_complex() else torch.clone
            state["exp_avg"], state["exp_avg_sq"] = restore(m), restore(v)
            if amsgrad:
                state["max_exp_avg_sq"] = restore(s)
        elif amsgrad:
            as_real(state["max_exp_avg_sq"]).copy_(s)

        state["step"] += 1
        t = int(state["step"])
        bias1 = 1.0 - beta1**t
        bias2 = 1.0 - beta2**t
        r = rectification(beta2, t, group["threshold"])
        if r is not None:
            size = r * lr * math.sqrt(bias2) / bias1
            e = eps if group["optimized_update"] else eps * math.sqrt(bias2)
            denominator = s.sqrt() + e
            work.addcdiv_(m, denominator, value=-size)
        elif group["degenerated_to_sgd"]:
            size = lr / bias1
            work.add_(m, alpha=-size)

        if p.dtype in HALF:
            p.copy_(work)
        elif p.is_conj():
            p.copy_(torch.view_as_complex(work))
