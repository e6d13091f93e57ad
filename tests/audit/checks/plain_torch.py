"""torch's optimizers once more, in plain style and with constructors of their own: right ones, and what breaks them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from radam.audit import Subject
from radam.audit.subjects.torch import torch_subject

Tensor = torch.Tensor
Options = Mapping[str, Any]
State = dict[str, Any]


class Loop(torch.optim.Optimizer):
    """A step of each parameter by itself; subclasses say what state there is, and how it and the parameter move."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take a step on every parameter that has a gradient."""
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if not state.get("step"):
                    state.update(step=torch.zeros(()), **self.first(param, group))
                state["step"] += 1
                grad = -param.grad if group["maximize"] else param.grad
                if group["weight_decay"] and not group.get("decoupled_weight_decay"):
                    grad = grad + group["weight_decay"] * param
                self.update(param, grad, state, group, float(state["step"]))

    def first(self, param: Tensor, group: Options) -> State:
        """The state before the first step."""
        raise NotImplementedError

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options, t: float) -> None:
        """Move the state and the parameter."""
        raise NotImplementedError


def zeros(param: Tensor, *names: str) -> State:
    """State of zeros."""
    return {name: torch.zeros_like(param) for name in names}


def averaged(average: Tensor, rate: float, value: Tensor) -> Tensor:
    """A moving average, moved."""
    return average.mul_(rate).add_(value, alpha=1 - rate)


class Adamax(Loop, torch.optim.Adamax):
    """Right."""

    def first(self, param: Tensor, group: Options) -> State:
        return zeros(param, "exp_avg", "exp_inf")

    def norm(self, norm: Tensor, grad: Tensor, group: Options) -> Tensor:
        return torch.maximum(group["betas"][1] * norm, grad.abs() + group["eps"])

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options, t: float) -> None:
        m = averaged(state["exp_avg"], group["betas"][0], grad)
        state["exp_inf"] = self.norm(state["exp_inf"], grad, group)
        param.sub_(group["lr"] / self.correction(group, t) * m / state["exp_inf"])

    def correction(self, group: Options, t: float) -> float:
        return float(1 - group["betas"][0] ** t)


class AdamaxWithoutEps(Adamax):
    def norm(self, norm: Tensor, grad: Tensor, group: Options) -> Tensor:
        return super().norm(norm, grad, {**group, "eps": 0.0})


class AdamaxEpsAfterMaximum(Adamax):
    def norm(self, norm: Tensor, grad: Tensor, group: Options) -> Tensor:
        return torch.maximum(group["betas"][1] * norm, grad.abs()) + group["eps"]


class AdamaxOfAllTime(Adamax):
    """The norm does not fade."""

    def norm(self, norm: Tensor, grad: Tensor, group: Options) -> Tensor:
        return torch.maximum(norm, grad.abs() + group["eps"])


class AdamaxCorrectedByBeta2(Adamax):
    def correction(self, group: Options, t: float) -> float:
        return float(1 - group["betas"][1] ** t)


class NAdam(Loop, torch.optim.NAdam):
    """Right: the product is a number of Python's."""

    def first(self, param: Tensor, group: Options) -> State:
        return {**zeros(param, "exp_avg", "exp_avg_sq"), "mu_product": 1.0}

    def mu(self, group: Options, t: float) -> float:
        return float(group["betas"][0] * (1 - 0.5 * 0.96 ** (t * group["momentum_decay"])))

    def ahead(self, group: Options, t: float) -> float:
        return self.mu(group, t + 1)

    def correction(self, product: float, ahead: float) -> float:
        return 1 - product * ahead

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options, t: float) -> None:
        if group["decoupled_weight_decay"]:
            param.mul_(1 - group["lr"] * group["weight_decay"])
        m = averaged(state["exp_avg"], group["betas"][0], grad)
        v = averaged(state["exp_avg_sq"], group["betas"][1], grad * grad)
        mu, ahead = self.mu(group, t), self.ahead(group, t)
        product = state["mu_product"] = state["mu_product"] * mu
        mean = m * (ahead / self.correction(product, ahead)) + grad * ((1 - mu) / (1 - product))
        param.sub_(group["lr"] * mean / ((v / (1 - group["betas"][1] ** t)).sqrt() + group["eps"]))


class NAdamNotAhead(NAdam):
    """mu_t in place of mu_(t+1)."""

    def ahead(self, group: Options, t: float) -> float:
        return self.mu(group, t)


class NAdamCorrectedByTheProductSoFar(NAdam):
    def correction(self, product: float, ahead: float) -> float:
        return 1 - product


class NAdamWithoutItsDecay(NAdam):
    """0.96^t: without the momentum decay."""

    def mu(self, group: Options, t: float) -> float:
        return super().mu({**group, "momentum_decay": 1.0}, t)


class NAdamProductOfBetas(NAdam):
    """The product is b1^t."""

    def mu(self, group: Options, t: float) -> float:
        return float(group["betas"][0])


class RMSprop(Loop, torch.optim.RMSprop):
    """Right: of a variance that rounding makes negative it takes 0."""

    def first(self, param: Tensor, group: Options) -> State:
        return zeros(param, "square_avg")

    def variance(self, v: Tensor, m: Tensor) -> Tensor:
        return (v - m * m).clamp(min=0)

    def direction(self, grad: Tensor, variance: Tensor, group: Options) -> Tensor:
        return grad / (variance.sqrt() + group["eps"])

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options, t: float) -> None:
        v = averaged(state["square_avg"], group["alpha"], grad * grad)
        if group["centered"]:
            m = state.setdefault("grad_avg", torch.zeros_like(param))
            v = self.variance(v, averaged(m, group["alpha"], grad))
        self.move(param, self.direction(grad, v, group), state, group)

    def move(self, param: Tensor, direction: Tensor, state: State, group: Options) -> None:
        if group["momentum"]:
            buffer = state.setdefault("momentum_buffer", torch.zeros_like(param))
            direction = buffer.mul_(group["momentum"]).add_(direction)
        param.sub_(group["lr"] * direction)


class RMSpropEpsInTheRoot(RMSprop):
    def direction(self, grad: Tensor, variance: Tensor, group: Options) -> Tensor:
        return grad / (variance + group["eps"]).sqrt()


class RMSpropLrInTheMomentum(RMSprop):
    def move(self, param: Tensor, direction: Tensor, state: State, group: Options) -> None:
        super().move(param, direction * group["lr"], state, {**group, "lr": 1.0})


class RMSpropMeanAsItIs(RMSprop):
    """The mean is not squared."""

    def variance(self, v: Tensor, m: Tensor) -> Tensor:
        return (v - m.abs()).clamp(min=0)


class RMSpropNesterov(RMSprop):
    def move(self, param: Tensor, direction: Tensor, state: State, group: Options) -> None:
        if group["momentum"]:
            buffer = state.setdefault("momentum_buffer", torch.zeros_like(param))
            direction = direction + group["momentum"] * buffer.mul_(group["momentum"]).add_(direction)
        param.sub_(group["lr"] * direction)


class Adagrad(Loop, torch.optim.Adagrad):
    """Right: the sum begins with the value of the parameter's own group."""

    def first(self, param: Tensor, group: Options) -> State:
        return {"sum": torch.full_like(param, group["initial_accumulator_value"])}

    def lr(self, group: Options, t: float) -> float:
        return float(group["lr"] / (1 + (t - 1) * group["lr_decay"]))

    def root(self, total: Tensor, group: Options) -> Tensor:
        return total.sqrt() + group["eps"]

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options, t: float) -> None:
        state["sum"] = state["sum"] + grad * grad
        param.sub_(self.lr(group, t) * grad / self.root(state["sum"], group))


class AdagradDecaysAtOnce(Adagrad):
    """t in place of t - 1."""

    def lr(self, group: Options, t: float) -> float:
        return super().lr(group, t + 1)


class AdagradEpsInTheRoot(Adagrad):
    def root(self, total: Tensor, group: Options) -> Tensor:
        return (total + group["eps"]).sqrt()


class AdagradFromZero(Adagrad):
    def first(self, param: Tensor, group: Options) -> State:
        return zeros(param, "sum")


class AdagradOfTheConstructor(Adagrad):
    """As torch's own: the sum begins with the constructor's value in every group."""

    def first(self, param: Tensor, group: Options) -> State:
        return super().first(param, self.defaults)


class Adadelta(Loop, torch.optim.Adadelta):
    """Right."""

    def first(self, param: Tensor, group: Options) -> State:
        return zeros(param, "square_avg", "acc_delta")

    def ratio(self, past: Tensor, v: Tensor, eps: float) -> Tensor:
        return (past + eps).sqrt() / (v + eps).sqrt()

    def kept(self, delta: Tensor, grad: Tensor, group: Options) -> Tensor:
        return delta

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options, t: float) -> None:
        v = averaged(state["square_avg"], group["rho"], grad * grad)
        delta = self.ratio(state["acc_delta"], v, group["eps"]) * grad
        kept = self.kept(delta, grad, group)
        averaged(state["acc_delta"], group["rho"], kept * kept)
        param.sub_(group["lr"] * delta)


class AdadeltaEpsOutsideTheRoots(Adadelta):
    def ratio(self, past: Tensor, v: Tensor, eps: float) -> Tensor:
        return (past.sqrt() + eps) / (v.sqrt() + eps)


class AdadeltaEpsInTheNumeratorOnly(Adadelta):
    def ratio(self, past: Tensor, v: Tensor, eps: float) -> Tensor:
        return (past + eps).sqrt() / v.sqrt()


class AdadeltaKeepsWhatItMoved(Adadelta):
    """The accumulated step is that with the learning rate."""

    def kept(self, delta: Tensor, grad: Tensor, group: Options) -> Tensor:
        return group["lr"] * delta


class AdadeltaKeepsGradients(Adadelta):
    def kept(self, delta: Tensor, grad: Tensor, group: Options) -> Tensor:
        return grad


class SGD(Loop, torch.optim.SGD):
    """Right. It counts steps, which torch's own does not."""

    def first(self, param: Tensor, group: Options) -> State:
        return {}

    def buffer(self, state: State, grad: Tensor, group: Options) -> Tensor:
        if "momentum_buffer" not in state:
            return grad.clone()
        return group["momentum"] * state["momentum_buffer"] + (1 - group["dampening"]) * grad  # type: ignore[no-any-return]

    def ahead(self, grad: Tensor, buffer: Tensor, group: Options) -> Tensor:
        return grad + group["momentum"] * buffer

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options, t: float) -> None:
        if group["momentum"]:
            buffer = state["momentum_buffer"] = self.buffer(state, grad, group)
            grad = self.ahead(grad, buffer, group) if group["nesterov"] else buffer
        param.sub_(group["lr"] * grad)


class SGDDampsTheFirst(SGD):
    def buffer(self, state: State, grad: Tensor, group: Options) -> Tensor:
        state.setdefault("momentum_buffer", torch.zeros_like(grad))
        return super().buffer(state, grad, group)


class SGDDoesNotDamp(SGD):
    def buffer(self, state: State, grad: Tensor, group: Options) -> Tensor:
        return super().buffer(state, grad, {**group, "dampening": 0.0})


class SGDLrInTheMomentum(SGD):
    def update(self, param: Tensor, grad: Tensor, state: State, group: Options, t: float) -> None:
        super().update(param, group["lr"] * grad, state, {**group, "lr": 1.0}, t)


class SGDNesterovOfTheBuffer(SGD):
    def ahead(self, grad: Tensor, buffer: Tensor, group: Options) -> Tensor:
        return buffer + group["momentum"] * buffer


class ASGD(Loop, torch.optim.ASGD):
    """Right: eta and mu are numbers of Python's."""

    def first(self, param: Tensor, group: Options) -> State:
        return {**zeros(param, "ax"), "eta": group["lr"], "mu": 1.0}

    def eta(self, group: Options, t: float) -> float:
        return float(group["lr"] / (1 + group["lambd"] * group["lr"] * t) ** group["alpha"])

    def mu(self, group: Options, t: float) -> float:
        return float(1 / max(1, t - group["t0"]))

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options, t: float) -> None:
        param.sub_(state["eta"] * (grad + group["lambd"] * param))
        state["ax"] = state["ax"] + state["mu"] * (param - state["ax"]) if state["mu"] != 1 else param.clone()
        state["eta"], state["mu"] = self.eta(group, t), self.mu(group, t)


class ASGDFadesOneStepBehind(ASGD):
    def eta(self, group: Options, t: float) -> float:
        return super().eta(group, t - 1)


class ASGDFadesWithoutAPower(ASGD):
    def eta(self, group: Options, t: float) -> float:
        return super().eta({**group, "alpha": 1.0}, t)


class ASGDAveragesFromTheStart(ASGD):
    def mu(self, group: Options, t: float) -> float:
        return super().mu({**group, "t0": 0.0}, t)


class ASGDDoesNotDecay(ASGD):
    def update(self, param: Tensor, grad: Tensor, state: State, group: Options, t: float) -> None:
        super().update(param, grad - group["lambd"] * param, state, group, t)


BROKEN: dict[type[Loop], tuple[type[Loop], ...]] = {
    Adamax: (AdamaxWithoutEps, AdamaxEpsAfterMaximum, AdamaxOfAllTime, AdamaxCorrectedByBeta2),
    NAdam: (NAdamNotAhead, NAdamCorrectedByTheProductSoFar, NAdamWithoutItsDecay, NAdamProductOfBetas),
    RMSprop: (RMSpropEpsInTheRoot, RMSpropLrInTheMomentum, RMSpropMeanAsItIs, RMSpropNesterov),
    Adagrad: (AdagradDecaysAtOnce, AdagradEpsInTheRoot, AdagradFromZero, AdagradOfTheConstructor),
    Adadelta: (
        AdadeltaEpsOutsideTheRoots,
        AdadeltaEpsInTheNumeratorOnly,
        AdadeltaKeepsWhatItMoved,
        AdadeltaKeepsGradients,
    ),
    SGD: (SGDDampsTheFirst, SGDDoesNotDamp, SGDLrInTheMomentum, SGDNesterovOfTheBuffer),
    ASGD: (ASGDFadesOneStepBehind, ASGDFadesWithoutAPower, ASGDAveragesFromTheStart, ASGDDoesNotDecay),
}
"""Right ones, and wrong ones made of each."""


def subject_like(optimizer: type[Loop], like: str) -> Subject:
    """A Subject for an optimizer that has the constructor and the arithmetic of one of torch's."""
    subject = torch_subject(optimizer, f"{optimizer.__module__}:{optimizer.__qualname__}", like)
    assert subject is not None
    return replace(subject, supports=frozenset({"maximize"}))
