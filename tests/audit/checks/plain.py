"""A right optimizer in plain style, of which the wrong ones break one thing each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from hypothesis import strategies as st

from radam.audit import Subject
from radam.audit.capabilities import CAPABILITIES
from radam.audit.strategies import DECAY_CORNERS, LR_CORNERS, betas
from radam.audit.subject import Oracle
from radam.audit.subjects.classes import FromClass

Options = Mapping[str, Any]
State = dict[str, Any]


def real(tensor: torch.Tensor) -> torch.Tensor:
    """A complex tensor as pairs of reals, any other as it is."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


class Plain(torch.optim.Optimizer):
    """Adam with decoupled decay. `foreach` computes the same in another order; the other switches change nothing."""

    def __init__(
        self,
        params: Any,
        lr: float | torch.Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        self.validate(options)
        switches = {"foreach": foreach, "fused": fused, "capturable": capturable, "differentiable": differentiable}
        super().__init__(params, {**options, "maximize": maximize, **switches})

    def validate(self, options: Options) -> None:
        """Refuse numbers out of their range; NaN is out of every range."""
        for name in ("lr", "eps", "weight_decay"):
            if not options[name] >= 0:
                raise ValueError(f"{name} must be >= 0, but is {options[name]!r}")
        if not all(0 <= beta < 1 for beta in options["betas"]):
            raise ValueError(f"betas must be in [0, 1), but are {options['betas']!r}")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step on every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if any(param.grad is not None and param.grad.is_sparse for param in group["params"]):
                raise RuntimeError("sparse gradients are not supported")
        for group in self.param_groups:
            with torch.set_grad_enabled(group["differentiable"] and torch.is_grad_enabled()):
                self.update_group(group)
        return loss

    def update_group(self, group: Options) -> None:
        """Step the parameters of a group, one after the other."""
        for param in group["params"]:
            if param.grad is not None:
                self.update(param, param.grad, self.begun(param, group), group)

    def begun(self, param: torch.Tensor, group: Options) -> State:
        """A parameter's state; zeros where there is none yet."""
        state: State = self.state[param]
        for name in ("exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if group["amsgrad"] else [])):
            if name not in state:
                state[name] = self.zeros(param)
        state.setdefault("step", torch.tensor(0.0, dtype=torch.float32))
        return state

    def zeros(self, param: torch.Tensor) -> torch.Tensor:
        """A moment before the first step, in float32 for half precision."""
        half = param.dtype in (torch.float16, torch.bfloat16)
        return torch.zeros_like(param.detach(), dtype=torch.float32 if half else param.dtype)

    def update(self, param: torch.Tensor, grad: torch.Tensor, state: State, group: Options) -> None:
        """Move the state and the parameter, in the dtype of the moments, by numbers that are rounded once."""
        state["step"] = state["step"] + 1
        wide = state["exp_avg"].dtype
        grad = real(grad.to(wide))
        m, v = self.moments(
            real(state["exp_avg"]), real(state["exp_avg_sq"]), -grad if group["maximize"] else grad, group
        )
        moved = {"exp_avg": m, "exp_avg_sq": v}
        if group["amsgrad"]:
            v = moved["max_exp_avg_sq"] = torch.maximum(real(state["max_exp_avg_sq"]), v)
        new = self.moved(real(param.to(wide)), m, v, float(state["step"]), group)
        for name, value in moved.items():
            state[name] = torch.view_as_complex(value) if param.is_complex() else value
        self.write(param, new)

    def moments(
        self, m: torch.Tensor, v: torch.Tensor, grad: torch.Tensor, group: Options
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The moving averages after a gradient."""
        beta1, beta2 = group["betas"]
        return beta1 * m + (1 - beta1) * grad, beta2 * v + (1 - beta2) * (grad * grad)

    def moved(self, param: torch.Tensor, m: torch.Tensor, v: torch.Tensor, t: float, group: Options) -> torch.Tensor:
        """The parameter after the t-th step."""
        lr, decay, eps = float(group["lr"]), group["weight_decay"], group["eps"]
        bias1, bias2 = (1 - beta**t for beta in group["betas"])
        # 0 * inf is NaN.
        share = lr * decay if decay else 0.0
        if group["foreach"]:
            return param - share * param - lr * ((m / bias1) / (v.sqrt() / bias2**0.5 + eps))
        return param * (1 - share) - (lr / bias1) * (m / ((v / bias2).sqrt() + eps))

    def write(self, param: torch.Tensor, new: torch.Tensor) -> None:
        """Put numbers into a parameter."""
        real(param).copy_(new)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over options and state, the moments in the dtype in which they were saved."""
        super().load_state_dict(state_dict)
        saved = [index for group in state_dict["param_groups"] for index in group["params"]]
        params = [param for group in self.param_groups for param in group["params"]]
        for index, param in zip(saved, params, strict=True):
            # torch has cast the moments of half precision parameters to half precision.
            for name, value in state_dict["state"].get(index, {}).items():
                self.state[param][name] = value.clone() if isinstance(value, torch.Tensor) else value


def adam(options: Options) -> Oracle:
    """torch's Adam with decoupled decay: eps added after the bias correction of v."""
    import reference

    numbers = {name: float(value) if isinstance(value, torch.Tensor) else value for name, value in options.items()}
    return reference.Adam(**{"eps": 1e-8, **numbers}, optimized_update=False)


SUPPORTS = frozenset(CAPABILITIES) - {"compile", "narrow_half"}
"""All but "compile", which no check is about and which takes long, and the other one of "half"."""


def subject_of(optimizer: type[torch.optim.Optimizer], **changes: Any) -> Subject:
    """A Subject of Plain's hyper-parameters and oracle; `changes` are other fields."""
    build = FromClass(optimizer)
    subject = Subject(
        name=f"{optimizer.__module__}:{optimizer.__qualname__}",
        build=build,
        hyperparameters=st.fixed_dictionaries(
            {
                "lr": st.sampled_from(LR_CORNERS),
                "betas": betas(),
                "eps": st.sampled_from((1e-8, 1e-3, 0.0, 1e-16, 1.0)),
                "weight_decay": st.sampled_from((0.1, *DECAY_CORNERS)),
                "amsgrad": st.booleans(),
                "maximize": st.booleans(),
            }
        ),
        oracle=adam,
        supports=SUPPORTS,
        call=build.call,
    )
    return replace(subject, **changes)
