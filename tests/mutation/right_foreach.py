"""A second right RAdam in another style: torch's foreach lists where it can, single tensors for the rest.

Other orders of evaluation than `right_loop`: `lerp` for the momentum, the step size applied last, the bias correction
of `optimized_update=False` inside the root. `step` is a Python integer.
"""

from __future__ import annotations

from collections import defaultdict
from math import sqrt
from typing import Any, NamedTuple

import torch
from torch.optim import Optimizer


class WeightDecay:
    def __init__(self, weight_decay: float = 0.0, weight_decouple: bool = True, absolute: bool = False) -> None:
        if not weight_decay >= 0.0:
            raise ValueError(f"Invalid weight_decay: {weight_decay}")
        self.weight_decay, self.weight_decouple, self.absolute = weight_decay, weight_decouple, absolute

    def defaults(self) -> dict[str, Any]:
        names = ("weight_decay", "weight_decouple", "absolute")
        return {name: getattr(self, name) for name in names}

    def shrinkage(self, group: dict[str, Any]) -> float:
        """The factor of decoupled decay; 1 for none."""
        rate = group.get("weight_decay", self.weight_decay)
        lr = float(group["lr"])
        if 0.0 in (lr, rate) or not group.get("weight_decouple", self.weight_decouple):
            return 1.0
        return 1.0 - rate * (1.0 if group.get("absolute", self.absolute) else lr)

    def penalty(self, group: dict[str, Any]) -> float:
        """The coefficient of the L2 term; 0 for none."""
        rate = group.get("weight_decay", self.weight_decay)
        return 0.0 if group.get("weight_decouple", self.weight_decouple) else rate

    def __call__(self, param: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        factor, penalty = self.shrinkage(group), self.penalty(group)
        if factor != 1.0:
            param.mul_(factor)
        return torch.add(grad, param, alpha=penalty) if penalty else grad


class Scalars(NamedTuple):
    """What one step needs: `r` is None below the threshold."""

    bias1: float
    bias2: float
    r: float | None


def scalars(group: dict[str, Any], t: int) -> Scalars:
    beta1, beta2 = group["betas"]
    bias1, bias2 = 1 - beta1**t, 1 - beta2**t
    limit = 2 / (1 - beta2) - 1
    rho = limit - 2 * t * beta2**t / bias2
    if limit > 4 and rho >= group["threshold"]:
        r = sqrt((rho - 4) / (limit - 4) * (rho - 2) / (limit - 2) * limit / rho)
        return Scalars(bias1, bias2, r)
    return Scalars(bias1, bias2, None)


class Item(NamedTuple):
    param: torch.Tensor
    grad: torch.Tensor
    state: dict[str, Any]


def moment_dtype(p: torch.Tensor) -> torch.dtype:
    return torch.float32 if p.dtype in (torch.bfloat16, torch.half) else p.dtype


def reals(x: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(x) if x.is_complex() else x


class RAdam(Optimizer):
    def __init__(
        self,
        params: Any,
        lr: float | torch.Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
        weight_decay: Any = WeightDecay(),  # noqa: B008
        optimized_update: bool = True,
        amsgrad: bool = False,
        degenerated_to_sgd: bool = True,
        defaults: Any = None,
        *,
        threshold: float = 5.0,
        rectification: str = "paper",
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        self.weight_decay = WeightDecay(weight_decay) if isinstance(weight_decay, int | float) else weight_decay
        options = dict(defaults) if defaults else {}
        options.update(self.weight_decay.defaults())
        options.update(lr=lr if isinstance(lr, torch.Tensor) else float(lr), betas=(betas[0], betas[1]), eps=eps)
        options.update(optimized_update=optimized_update, amsgrad=amsgrad, degenerated_to_sgd=degenerated_to_sgd)
        options.update(threshold=threshold, rectification=rectification, maximize=maximize)
        options.update(foreach=foreach, fused=fused, capturable=capturable, differentiable=differentiable)
        self.validate(options)
        super().__init__(params, options)

    @staticmethod
    def validate(options: dict[str, Any]) -> None:
        if not options["lr"] >= 0:
            raise ValueError(f"Invalid lr: {options['lr']}")
        if not options["eps"] >= 0:
            raise ValueError(f"Invalid eps: {options['eps']}")
        for index, beta in enumerate(options["betas"]):
            if not 0 <= beta < 1:
                raise ValueError(f"Invalid betas: number {index} is {beta}")
        if not options.get("weight_decay", 0) >= 0:
            raise ValueError(f"Invalid weight_decay: {options['weight_decay']}")
        if not options["threshold"] >= 4:
            raise ValueError(f"Invalid threshold: {options['threshold']}")
        if options["rectification"] != "paper":
            raise ValueError(f"Invalid rectification: {options['rectification']}")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if callable(param_group.get("weight_decay")):
            param_group = {**param_group, **param_group["weight_decay"].defaults()}
        self.validate({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        kept = super().__getstate__()
        kept["weight_decay"] = self.weight_decay
        return kept

    def load_state_dict(self, state_dict: Any) -> None:
        super().load_state_dict(state_dict)
        params = [p for group in self.param_groups for p in group["params"]]
        saved = [state_dict["state"].get(i) for group in state_dict["param_groups"] for i in group["params"]]
        for p, values in zip(params, saved, strict=True):
            if values is None:
                continue
            # The base class would leave the moments in the parameter's own, narrower dtype.
            for key in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
                if key in values:
                    self.state[p][key] = values[key].detach().to(p.device, moment_dtype(p), copy=True)
            self.state[p]["step"] = int(values["step"])

    def step(self, closure: Any = None) -> Any:
        if closure is None:
            loss = None
        else:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if any(p.grad is not None and p.grad.layout != torch.strided for p in group["params"]):
                raise RuntimeError("sparse gradients are not supported")
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            for group in self.param_groups:
                self._step_group(group)
        return loss

    def _step_group(self, group: dict[str, Any]) -> None:
        buckets: dict[tuple[torch.device, torch.dtype, int], list[Item]] = defaultdict(list)
        for p in group["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            if not state:
                state["step"] = 0
                state["exp_avg"] = torch.zeros_like(p, dtype=moment_dtype(p))
                state["exp_avg_sq"] = torch.zeros_like(p, dtype=moment_dtype(p))
            if group["amsgrad"] and "max_exp_avg_sq" not in state:
                state["max_exp_avg_sq"] = torch.zeros_like(p, dtype=moment_dtype(p))
            state["step"] = int(state["step"]) + 1
            plain = p.dtype in (torch.float32, torch.float64) and not group["differentiable"]
            if plain:
                buckets[p.device, p.dtype, state["step"]].append(Item(p, p.grad.to(p.dtype), state))
            else:
                self._step_single(p, p.grad, state, group)
        for (_, _, t), items in buckets.items():
            self._step_list(items, t, group)

    def _step_list(self, items: list[Item], t: int, group: dict[str, Any]) -> None:
        params = [item.param for item in items]
        grads = [item.grad for item in items]
        ms = [item.state["exp_avg"] for item in items]
        vs = [item.state["exp_avg_sq"] for item in items]
        beta1, beta2 = group["betas"]
        if group["maximize"]:
            grads = torch._foreach_neg(grads)
        if type(self.weight_decay) is WeightDecay:
            factor, penalty = self.weight_decay.shrinkage(group), self.weight_decay.penalty(group)
            if penalty:
                grads = torch._foreach_add(grads, params, alpha=penalty)
            if factor != 1.0:
                torch._foreach_mul_(params, factor)
        else:
            grads = [self.weight_decay(p, g, group) for p, g in zip(params, grads, strict=True)]

        torch._foreach_lerp_(ms, grads, 1 - beta1)
        torch._foreach_mul_(vs, beta2)
        torch._foreach_addcmul_(vs, grads, grads, 1 - beta2)
        if group["amsgrad"]:
            maxima = [item.state["max_exp_avg_sq"] for item in items]
            torch._foreach_maximum_(maxima, vs)
            vs = maxima

        bias1, bias2, r = scalars(group, t)
        lr = float(group["lr"])
        if r is not None:
            if group["optimized_update"]:
                roots = torch._foreach_sqrt(vs)
                size = lr * (r * sqrt(bias2) / bias1)
            else:
                roots = torch._foreach_sqrt(torch._foreach_div(vs, bias2))
                size = lr * (r / bias1)
            torch._foreach_add_(roots, group["eps"])
            torch._foreach_add_(params, torch._foreach_div(ms, roots), alpha=-size)
        elif group["degenerated_to_sgd"]:
            torch._foreach_add_(params, ms, alpha=-(lr / bias1))

    def _step_single(self, p: torch.Tensor, grad: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Half precision, complex, and steps that are differentiated: nothing here writes into the state's tensors."""
        wide = moment_dtype(p)
        x = reals(p.to(wide).resolve_conj())
        g = reals(grad.to(wide).resolve_conj())
        beta1, beta2 = group["betas"]
        g = self.weight_decay(x, -g if group["maximize"] else g, group)
        m = reals(state["exp_avg"]) * beta1 + (1 - beta1) * g
        v = reals(state["exp_avg_sq"]) * beta2 + (1 - beta2) * g.square()
        new = {"exp_avg": m, "exp_avg_sq": v}
        if group["amsgrad"]:
            v = torch.maximum(reals(state["max_exp_avg_sq"]), v)
            new["max_exp_avg_sq"] = v
        bias1, bias2, r = scalars(group, state["step"])
        lr = float(group["lr"])
        if r is not None:
            root = v.sqrt() / sqrt(bias2)
            eps = group["eps"] / sqrt(bias2) if group["optimized_update"] else group["eps"]
            x = x - lr * r / bias1 * (m / (root + eps))
        elif group["degenerated_to_sgd"]:
            x = x - lr / bias1 * m
        for key, value in new.items():
            state[key] = torch.view_as_complex(value) if p.is_complex() else value
        p.copy_(torch.view_as_complex(x) if p.is_complex() else x)
