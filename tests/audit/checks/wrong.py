"""For each check an optimizer that is wrong in what it is about, and what is to be said of it."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch

import radam
from radam.audit import Subject
from radam.audit.subjects.radam import Family, radam_subject
from radam.audit.subjects.torch import torch_subject
from tests.audit.checks.plain import SUPPORTS, Options, Plain, State, real, subject_of

Tensor = torch.Tensor


class Wrong(NamedTuple):
    """A wrong optimizer, and a pattern of the reason for which it must fail."""

    subject: type[torch.optim.Optimizer] | Subject
    reason: str
    error: str = "AssertionError"
    """By which the reproduction ends: the optimizer's own, where that is the finding."""


# Numbers, against an oracle


class EpsInTheRoot(Plain):
    """Eps is added under the root."""

    def moved(self, param: Tensor, m: Tensor, v: Tensor, t: float, group: Options) -> Tensor:
        return super().moved(param, m, v + group["eps"] * (1 - group["betas"][1] ** t), t, {**group, "eps": 0.0})


class AdaptiveTooLate(radam.RAdam):
    """The first adaptive step comes late, as of a larger threshold."""

    def __init__(self, params: Any, threshold: float = 5.0, **options: Any) -> None:
        super().__init__(params, threshold=threshold + 1, **options)


class AdaptiveAbove(radam.RAdam):
    """A step is adaptive above the threshold, and not at it."""

    def __init__(self, params: Any, threshold: float = 5.0, **options: Any) -> None:
        super().__init__(params, threshold=math.nextafter(threshold, math.inf), **options)


class FaintIsZero(Plain):
    """Gradients below 1e-14 are taken for zeros."""

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options) -> None:
        super().update(param, torch.where(grad.abs() < 1e-14, torch.zeros_like(grad), grad), state, group)


class EpsOfTheFirstGroup(Plain):
    """Eps is the first group's in every group."""

    def update_group(self, group: Options) -> None:
        super().update_group({**group, "eps": self.param_groups[0]["eps"]})


class NoMaximumOnTheWayUp(Plain):
    """With maximize, AMSGrad's maximum is kept, but v is used."""

    def moved(self, param: Tensor, m: Tensor, v: Tensor, t: float, group: Options) -> Tensor:
        return super().moved(param, m, self.fresh if group["maximize"] else v, t, group)

    def moments(self, m: Tensor, v: Tensor, grad: Tensor, group: Options) -> tuple[Tensor, Tensor]:
        m, self.fresh = super().moments(m, v, grad, group)
        return m, self.fresh


class BetaOneOfZeroIsTheDefault(Plain):
    """A beta1 of 0 is taken for none, and so for 0.9."""

    def update_group(self, group: Options) -> None:
        beta1, beta2 = group["betas"]
        super().update_group({**group, "betas": (beta1 or 0.9, beta2)})


class BetaTwoOfOtherDefault(Plain):
    """The default of beta2 is another."""

    def __init__(self, params: Any, betas: tuple[float, float] = (0.9, 0.99), **options: Any) -> None:
        super().__init__(params, betas=betas, **options)


class BetasOfTheFirstStep(Plain):
    """The betas are those that each parameter was first stepped with."""

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options) -> None:
        super().update(param, grad, state, {**group, "betas": state.setdefault("betas", group["betas"])})


class BiasOfAtMostAHundredSteps(Plain):
    """The bias corrections stay as they are from step 100 on."""

    def moved(self, param: Tensor, m: Tensor, v: Tensor, t: float, group: Options) -> Tensor:
        return super().moved(param, m, v, min(t, 100.0), group)


class DecayOfTheConstructor(Plain):
    """Weight decay is the constructor's in every group."""

    def update_group(self, group: Options) -> None:
        super().update_group({**group, "weight_decay": self.defaults["weight_decay"]})


class EpsBeforeTheCorrection(Plain):
    """Eps is added to the root of v before its bias correction."""

    def moved(self, param: Tensor, m: Tensor, v: Tensor, t: float, group: Options) -> Tensor:
        return super().moved(param, m, v, t, {**group, "eps": group["eps"] / (1 - group["betas"][1] ** t) ** 0.5})


class FirstSquareAsItIs(Plain):
    """v starts with the first square instead of with its share."""

    def moments(self, m: Tensor, v: Tensor, grad: Tensor, group: Options) -> tuple[Tensor, Tensor]:
        first = not v.any()
        m, v = super().moments(m, v, grad, group)
        return m, grad * grad if first else v


class CountsInBfloat16(Plain):
    """The step count is a bfloat16 number, which does not go beyond 256 by ones."""

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options) -> None:
        super().update(param, grad, state, group)
        state["step"] = float(torch.tensor(float(state["step"])).bfloat16())


class CountsTwice(Plain):
    """Each step is counted twice."""

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options) -> None:
        super().update(param, grad, state, group)
        state["step"] = state["step"] + 1


class MovesWithoutAGradient(Plain):
    """The first moment decays without a gradient too."""

    def update_group(self, group: Options) -> None:
        super().update_group(group)
        for param in group["params"]:
            if param.grad is None and "exp_avg" in self.state.get(param, {}):
                self.state[param]["exp_avg"] = group["betas"][0] * self.state[param]["exp_avg"] + 1


class RealMoments(Plain):
    """Of complex parameters it keeps moments of pairs of reals."""

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options) -> None:
        for name in ("exp_avg", "exp_avg_sq"):
            if param.is_complex() and not state[name].is_complex():
                state[name] = torch.view_as_complex(state[name])
        super().update(param, grad, state, group)
        for name in ("exp_avg", "exp_avg_sq"):
            state[name] = real(state[name])


class FlatMoments(Plain):
    """The moments are kept as vectors."""

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options) -> None:
        for name in ("exp_avg", "exp_avg_sq"):
            state[name] = state[name].reshape(param.shape)
        super().update(param, grad, state, group)
        for name in ("exp_avg", "exp_avg_sq"):
            state[name] = state[name].reshape(-1)


class NoMaximum(Plain):
    """amsgrad is not heeded."""

    def update_group(self, group: Options) -> None:
        super().update_group({**group, "amsgrad": False})


# Implementations, against the first


class ForeachWithoutCorrection(Plain):
    """The second code path forgets v's bias correction."""

    def moved(self, param: Tensor, m: Tensor, v: Tensor, t: float, group: Options) -> Tensor:
        factor = 1 - group["betas"][1] ** t if group["foreach"] else 1.0
        return super().moved(param, m, v * factor, t, group)


class ForeachWithoutNan(Plain):
    """The second code path takes 0/0 for 0."""

    def moved(self, param: Tensor, m: Tensor, v: Tensor, t: float, group: Options) -> Tensor:
        new = super().moved(param, m, v, t, group)
        return torch.where(new.isnan(), param, new) if group["foreach"] else new


class ForeachWithNarrowScalars(Plain):
    """The second code path computes its bias corrections in float32."""

    def moved(self, param: Tensor, m: Tensor, v: Tensor, t: float, group: Options) -> Tensor:
        if not group["foreach"]:
            return super().moved(param, m, v, t, group)
        beta2 = group["betas"][1]
        narrow = 1 - torch.tensor(beta2, dtype=torch.float32) ** t
        return super().moved(param, m, v * ((1 - beta2**t) / float(narrow)), t, group)


class ForeachByMemory(Plain):
    """The second code path takes gradients in the order of their memory."""

    def moments(self, m: Tensor, v: Tensor, grad: Tensor, group: Options) -> tuple[Tensor, Tensor]:
        if group["foreach"]:
            grad = grad.as_strided(grad.shape, torch.empty(grad.shape).stride())
        return super().moments(m, v, grad, group)


# Invariances


class BetasOfTheFirstGroup(Plain):
    """All groups are stepped with the betas of the first."""

    def update_group(self, group: Options) -> None:
        super().update_group({**group, "betas": self.param_groups[0]["betas"]})


class LessForLaterParameters(Plain):
    """The learning rate halves from parameter to parameter."""

    def update_group(self, group: Options) -> None:
        for i, param in enumerate(group["params"]):
            super().update_group({**group, "params": [param], "lr": group["lr"] * 0.5**i})


class GradientOfNormOne(Plain):
    """The gradient is divided by its norm."""

    def moments(self, m: Tensor, v: Tensor, grad: Tensor, group: Options) -> tuple[Tensor, Tensor]:
        return super().moments(m, v, grad / (grad.norm() + 1e-12), group)


class TheFirst64(Plain):
    """No parameter of a group is stepped beyond the 64th."""

    def update_group(self, group: Options) -> None:
        super().update_group({**group, "params": group["params"][:64]})


class NoDecayOfVectors(Plain):
    """Parameters of one dimension do not decay."""

    def moved(self, param: Tensor, m: Tensor, v: Tensor, t: float, group: Options) -> Tensor:
        return super().moved(param, m, v, t, {**group, "weight_decay": group["weight_decay"] * (param.dim() > 1)})


class TheFirst65536(Plain):
    """No element is stepped beyond the 65536-th."""

    def write(self, param: Tensor, new: Tensor) -> None:
        real(param).reshape(-1)[: 2**16] = new.reshape(-1)[: 2**16]


class WholeSixteensMinimize(Plain):
    """With maximize, what stands in whole blocks of 16 numbers is stepped as without."""

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options) -> None:
        if group["maximize"]:
            grad = grad.clone(memory_format=torch.contiguous_format)
            grad.reshape(-1)[: 16 * (grad.numel() // 16)].neg_()
        super().update(param, grad, state, group)


class TheLastOfHalfPrecision(Plain):
    """Of 16 or more numbers in half precision those after the last whole 16 are stepped alone."""

    def write(self, param: Tensor, new: Tensor) -> None:
        whole = 16 * (param.numel() // 16) if param.dtype in (torch.bfloat16, torch.float16) else 0
        real(param).reshape(-1)[whole:] = new.reshape(-1)[whole:]


class GrowthWithMaximize(Plain):
    """With maximize, weight decay lets parameters grow."""

    def moved(self, param: Tensor, m: Tensor, v: Tensor, t: float, group: Options) -> Tensor:
        sign = -1 if group["maximize"] else 1
        return super().moved(param, m, v, t, {**group, "weight_decay": sign * group["weight_decay"]})


class SquareOfTheModulus(Plain):
    """v of a complex number is that of its modulus."""

    def moments(self, m: Tensor, v: Tensor, grad: Tensor, group: Options) -> tuple[Tensor, Tensor]:
        before = v
        m, v = super().moments(m, v, grad, group)
        modulus = grad.square().sum(-1, keepdim=True).sqrt()
        return m, super().moments(m, before, modulus.expand_as(grad), group)[1] if self.is_complex else v

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options) -> None:
        self.is_complex = param.is_complex()
        super().update(param, grad, state, group)


class DtypeOfTheFirstParameter(Plain):
    """Gradients are cast to the dtype of the first parameter."""

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options) -> None:
        super().update(param, grad.to(group["params"][0].dtype), state, group)


class WritesToTheLr(Plain):
    """The bias correction is divided out of a tensor lr in place."""

    def update_group(self, group: Options) -> None:
        if isinstance(group["lr"], Tensor):
            group["lr"].mul_(0.75)
        super().update_group(group)


# Half precision


class MomentsInHalf(Plain):
    """Half precision is stepped in its own arithmetic, where eps is nothing."""

    def zeros(self, param: Tensor) -> Tensor:
        return torch.zeros_like(param.detach())


class LerpInHalf(MomentsInHalf):
    """v moves by its difference to squares that overflow."""

    def moments(self, m: Tensor, v: Tensor, grad: Tensor, group: Options) -> tuple[Tensor, Tensor]:
        return super().moments(m, v, grad, group)[0], v + (1 - group["betas"][1]) * (grad * grad - v)


# Gradients


class NoneIsZero(Plain):
    """A parameter without a gradient is stepped as on zeros."""

    def update_group(self, group: Options) -> None:
        for param in group["params"]:
            grad = torch.zeros_like(param) if param.grad is None else param.grad
            self.update(param, grad, self.begun(param, group), group)


class EpsInTheNumerator(Plain):
    """Eps is added to the numerator too."""

    def moved(self, param: Tensor, m: Tensor, v: Tensor, t: float, group: Options) -> Tensor:
        return super().moved(param, m + group["eps"], v, t, group)


class OneCountPerGroup(Plain):
    """All parameters of a group share a step count."""

    def begun(self, param: Tensor, group: Options) -> State:
        state = super().begun(param, group)
        first = self.state[group["params"][0]]
        if param is not group["params"][0] and "step" in first:
            state["step"] = first["step"] - 1
        return state


class SkipsTheFrozen(Plain):
    """A parameter that requires no gradient is not stepped."""

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options) -> None:
        if param.requires_grad or group["differentiable"]:
            super().update(param, grad, state, group)


class CountsBesideItsState(Plain):
    """The bias corrections are of a count that is no part of the state."""

    def moved(self, param: Tensor, m: Tensor, v: Tensor, t: float, group: Options) -> Tensor:
        counts = self.__dict__.setdefault("counts", {})
        counts[id(param)] = counts.get(id(param), t - 1) + 1
        return super().moved(param, m, v, counts[id(param)], group)


class ForgetsTheFrozen(Plain):
    """A frozen parameter loses its state."""

    def update_group(self, group: Options) -> None:
        for param in group["params"]:
            if not (param.requires_grad or group["differentiable"]):
                self.state.pop(param, None)
        super().update_group(group)


class LeavesTheFrozen(Plain):
    """`zero_grad` passes over frozen parameters."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        frozen = [(p, p.grad) for group in self.param_groups for p in group["params"] if not p.requires_grad]
        super().zero_grad(set_to_none)
        for param, grad in frozen:
            param.grad = grad


class OneStepAtATime(Plain):
    """While a step is going on, none of the class takes another."""

    busy = False

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        if OneStepAtATime.busy:
            return None
        OneStepAtATime.busy = True
        try:
            return super().step(closure)
        finally:
            OneStepAtATime.busy = False


class CountsBeforeItRefuses(Plain):
    """The steps are counted before a sparse gradient is refused."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        for state in self.state.values():
            state["step"] = state["step"] + 1
        result = super().step(closure)
        for state in self.state.values():
            state["step"] = state["step"] - 1
        return result


class ClipsInPlace(Plain):
    """The user's gradients are clipped in place."""

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options) -> None:
        real(grad).clamp_(-1e-3, 1e-3)
        super().update(param, grad, state, group)


class ClipsInPlaceLater(ClipsInPlace):
    """The user's gradients are clipped in place from the third step on, which trial steps do not see."""

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options) -> None:
        if "step" in state and state["step"] > 1:
            super().update(param, grad, state, group)
        else:
            Plain.update(self, param, grad, state, group)


class TakesGradientsForScratch(Plain):
    """Every gradient is overwritten once it has been used. The numbers are right."""

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options) -> None:
        super().update(param, grad, state, group)
        grad.zero_()


class CountsForAll(Plain):
    """One count of all steps is kept in the state, beside what belongs to parameters."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        self.state.setdefault("k", torch.tensor([0]))  # type: ignore[call-overload]
        self.state["k"] += 1  # type: ignore[index]
        return super().step(closure)


class ThreeBetas(Plain):
    """One more beta, which serves for nothing, but must be there and within range."""

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, ...] = (0.9, 0.999, 0.9)) -> None:
        assert len(betas) == 3
        super().__init__(params, lr=lr, betas=betas)  # type: ignore[arg-type]

    def update_group(self, group: Options) -> None:
        super().update_group({**group, "betas": group["betas"][:2]})


class AveragesWhatItIsGiven(Plain):
    """The first moment is of the gradients as they are, and the step goes the other way with maximize: right."""

    def moments(self, m: Tensor, v: Tensor, grad: Tensor, group: Options) -> tuple[Tensor, Tensor]:
        return super().moments(m, v, -grad if group["maximize"] else grad, group)

    def moved(self, param: Tensor, m: Tensor, v: Tensor, t: float, group: Options) -> Tensor:
        return super().moved(param, -m if group["maximize"] else m, v, t, group)


class KeepsAResidue(Plain):
    """What a rounding has left out is kept, and is another one in another order of evaluation."""

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options) -> None:
        super().update(param, grad, state, group)
        state["residue"] = torch.full_like(param.detach(), 1e-3 if group["foreach"] else -1e-3)


class RefusesZero(Plain):
    """A learning rate of 0 is no learning rate, says the constructor. Schedulers may set it."""

    def validate(self, options: Options) -> None:
        super().validate(options)
        assert options["lr"] > 0


class KeepsTheGradient(Plain):
    """The gradient itself is kept in the state."""

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options) -> None:
        super().update(param, grad, state, group)
        state["previous_grad"] = grad


class ReadsAGradientOnce(Plain):
    """A gradient is read once, as long as it is the same tensor."""

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options) -> None:
        kept = self.__dict__.setdefault("kept", {})
        if kept.get(param, (None,))[0] is not grad:
            kept[param] = (grad, grad.clone())
        super().update(param, kept[param][1], state, group)


class ReadsAsItLies(Plain):
    """Complex gradients are read as they lie in memory, where a conjugated view is not conjugated."""

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options) -> None:
        super().update(param, grad.conj() if grad.is_conj() else grad, state, group)


class ReadsTheSignAsItLies(Plain):
    """Gradients are read as they lie in memory, where a negated view is not negated."""

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options) -> None:
        super().update(param, -grad if grad.is_neg() else grad, state, group)


class NanIsZero(Plain):
    """An element that is NaN starts again from 0."""

    def write(self, param: Tensor, new: Tensor) -> None:
        super().write(param, new.nan_to_num(nan=0.0))


class TimesAMean(Plain):
    """The gradient is multiplied by 1 and the square of its mean."""

    def moments(self, m: Tensor, v: Tensor, grad: Tensor, group: Options) -> tuple[Tensor, Tensor]:
        return super().moments(m, v, grad * (1 + grad.mean().square()), group)


# Tensors


class WritesIntoAReshape(Plain):
    """The parameter is written through reshape, which may be a copy."""

    def write(self, param: Tensor, new: Tensor) -> None:
        real(param).reshape(-1).copy_(new.reshape(-1))


class WritesAsIfContiguous(Plain):
    """The parameter's memory is written without regard to its strides."""

    def write(self, param: Tensor, new: Tensor) -> None:
        # What lies behind the end of the memory would be an error of torch.
        room = param.untyped_storage().nbytes() // param.element_size() - param.storage_offset()
        flat = param.as_strided((min(param.numel(), room),), (1,), param.storage_offset())
        shaped = torch.view_as_complex(new.contiguous()) if param.is_complex() else new
        flat.copy_(shaped.reshape(-1)[: len(flat)])


class NewMemory(Plain):
    """Each step gives the parameter other memory, which is contiguous."""

    def write(self, param: Tensor, new: Tensor) -> None:
        new = torch.view_as_complex(new.contiguous()) if param.is_complex() else new.contiguous()
        param.data = new.to(param.dtype)


class ThroughData(Plain):
    """The parameter is written through `data`, of which autograd learns nothing."""

    def write(self, param: Tensor, new: Tensor) -> None:
        real(param.data).copy_(new)


class EmptyIsTheEnd(Plain):
    """No parameter is stepped after one without elements."""

    def update_group(self, group: Options) -> None:
        sizes = [param.numel() for param in group["params"]]
        super().update_group({**group, "params": group["params"][: sizes.index(0) if 0 in sizes else None]})


class KeepsTheMemory(Plain):
    """What is written to is the memory of the first step."""

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options) -> None:
        if not hasattr(self, "memory"):
            self.memory: dict[Tensor, Tensor] = {}
        memory = self.memory.setdefault(param, param.detach())
        super().update(memory, grad, state, group)


# Arguments


class AcceptsNegativeLr(Plain):
    """A negative lr is accepted."""

    def validate(self, options: Options) -> None:
        super().validate({**options, "lr": abs(options["lr"])})


class AcceptsNanEps(Plain):
    """An eps of NaN is accepted: it is not below 0."""

    def validate(self, options: Options) -> None:
        super().validate({**options, "eps": -1.0 if options["eps"] < 0 else 0.0})


class AcceptsABetaOfOne(Plain):
    """A beta of 1 is accepted, and divides by 0."""

    def validate(self, options: Options) -> None:
        super().validate({**options, "betas": tuple(0.5 if beta == 1 else beta for beta in options["betas"])})


class DoesNotNameTheDecay(Plain):
    """A bad weight decay is refused without a word about what is bad."""

    def validate(self, options: Options) -> None:
        if not options["weight_decay"] >= 0:
            raise ValueError(f"invalid value: {options['weight_decay']}")
        super().validate(options)


class AcceptsABareTensor(Plain):
    """A tensor in place of a list is accepted."""

    def __init__(self, params: Any, lr: float = 1e-3, **options: Any) -> None:
        super().__init__([params] if isinstance(params, Tensor) else params, lr, **options)


class DividesByTheWarmup(Plain):
    """A warmup of 0 steps is accepted, and divides by 0."""

    def __init__(self, params: Any, lr: float = 1e-3, *, warmup: int = 1, **options: Any) -> None:
        super().__init__(params, lr, **options)
        self.warmup = warmup

    def moved(self, param: Tensor, m: Tensor, v: Tensor, t: float, group: Options) -> Tensor:
        return super().moved(param, m * min(1.0, t / self.warmup), v, t, group)


class DecaysByNothing(Plain):
    """Parameters are multiplied by 1 - lr * 0, too."""

    def moved(self, param: Tensor, m: Tensor, v: Tensor, t: float, group: Options) -> Tensor:
        return super().moved(param * (1 - group["lr"] * group["weight_decay"]), m, v, t, {**group, "weight_decay": 0.0})


class FillsInTheDefaults(Plain):
    """A dict of defaults that is given is written to."""

    def __init__(
        self, params: Any, lr: float = 1e-3, *, defaults: dict[str, Any] | None = None, **options: Any
    ) -> None:
        if defaults is not None:
            defaults["lr"] = lr
        super().__init__(params, lr, **options)


# State


class CountsInAnAttribute(Plain):
    """The steps are counted in an attribute, which no state_dict holds."""

    steps = 0

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        self.steps += 1
        return super().step(closure)

    def moved(self, param: Tensor, m: Tensor, v: Tensor, t: float, group: Options) -> Tensor:
        return super().moved(param, m, v, self.steps, group)


class KeepsTheConstructorsLr(Plain):
    """The constructor's lr wins over that of a state_dict."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group["lr"] = self.defaults["lr"]


class Count(int):
    """A number of a class of its own."""


class CorrectsByTheConstructorsBetas(Plain):
    """The bias corrections are by the betas that the constructor was given, whatever those of a state_dict."""

    def moved(self, param: Tensor, m: Tensor, v: Tensor, t: float, group: Options) -> Tensor:
        own = 1 - self.defaults["betas"][0] ** t
        return super().moved(param, m * (1 - group["betas"][0] ** t) / own, v, t, group)


class CountsByAClass(Plain):
    """The state has objects that torch.load(weights_only=True) refuses."""

    def begun(self, param: Tensor, group: Options) -> State:
        state = super().begun(param, group)
        state["seen"] = Count(state["step"])
        return state


class CopiesWithoutState(Plain):
    """A deep copy comes without its state."""

    def __deepcopy__(self, memo: dict[int, Any]) -> CopiesWithoutState:
        return type(self)(copy.deepcopy(self.param_groups, memo))


class PicklesWithoutAttributes(Plain):
    """An attribute that the step needs is lost by pickle."""

    def __init__(self, params: Any, lr: float = 1e-3, **options: Any) -> None:
        super().__init__(params, lr, **options)
        self.factor = 1.0

    def moved(self, param: Tensor, m: Tensor, v: Tensor, t: float, group: Options) -> Tensor:
        return super().moved(param, m * self.factor, v, t, group)


class LoadsInPlace(Plain):
    """Loading converts the step counts in the dict that is given."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for state in state_dict["state"].values():
            state["step"] = int(state["step"])
        super().load_state_dict(state_dict)


class SavesByRounding(Plain):
    """state_dict() rounds the moments to save space."""

    def state_dict(self) -> dict[str, Any]:
        for state in self.state.values():
            state["exp_avg"].copy_(state["exp_avg"].to(torch.bfloat16))
        return super().state_dict()


class KeepsASet(Plain):
    """The state has a set in it."""

    def begun(self, param: Tensor, group: Options) -> State:
        state = super().begun(param, group)
        state["shapes"] = {tuple(param.shape)}
        return state


class LosesTheNames(Plain):
    """Loading drops the names of parameters."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group.pop("param_names", None)


class KeepsAGraph(Plain):
    """The state has a copy of the parameter that is part of a graph."""

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options) -> None:
        with torch.enable_grad():
            state["previous"] = param.clone()
        super().update(param, grad, state, group)


class GroupsOfTheConstructor(Plain):
    """Groups that are added later are not stepped."""

    def update_group(self, group: Options) -> None:
        if not hasattr(self, "first"):
            self.first = len(self.param_groups)
        if any(group is each for each in self.param_groups[: self.first]):
            super().update_group(group)


class CorrectionsBySteps(Plain):
    """Bias corrections are kept by the number of the step, for all groups together."""

    def moved(self, param: Tensor, m: Tensor, v: Tensor, t: float, group: Options) -> Tensor:
        self.betas = getattr(self, "betas", {})
        return super().moved(param, m, v, t, {**group, "betas": self.betas.setdefault(t, group["betas"])})


class NoMaximumOfComplexNumbers(Plain):
    """With amsgrad a step of complex numbers raises an error."""

    def begun(self, param: Tensor, group: Options) -> State:
        if group["amsgrad"] and param.is_complex():
            raise RuntimeError("maximum is not implemented for complex tensors")
        return super().begun(param, group)


class CountsByTensorsOnly(torch.optim.Adam):
    """A step count that is loaded as a number is taken for none."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        for entry in state["state"].values():
            if not isinstance(entry["step"], Tensor):
                entry["step"] = torch.tensor(0.0)
        super().__setstate__(state)


class FillsInOneOption(torch.optim.Adam):
    """Of the options that an old file lacks one is filled in."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        torch.optim.Optimizer.__setstate__(self, state)
        for group in self.param_groups:
            group.setdefault("amsgrad", False)


# Memory


class AnEntryPerStep(Plain):
    """The state gets an entry at each step."""

    def update(self, param: Tensor, grad: Tensor, state: State, group: Options) -> None:
        super().update(param, grad, state, group)
        state[f"step {int(state['step'])}"] = 0


class AListOfSteps(Plain):
    """A list has an entry for each step."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        self.losses: list[Any] = [*getattr(self, "losses", []), None]
        return super().step(closure)


REGISTRY: list[torch.optim.Optimizer] = []


class IsRegistered(Plain):
    """Each optimizer is in a list of the module."""

    def __init__(self, params: Any, lr: float = 1e-3, **options: Any) -> None:
        super().__init__(params, lr, **options)
        REGISTRY.append(self)


class KeepsWhatALoadReplaces(Plain):
    """The state that a load replaces is kept."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.former = [*getattr(self, "former", []), dict(self.state)]
        super().load_state_dict(state_dict)


class TwentyTemporaries(Plain):
    """Temporary tensors of all parameters stay until the step is done."""

    def update_group(self, group: Options) -> None:
        temporary = [param.detach() * i for param in group["params"] for i in range(20)]
        super().update_group(group)
        del temporary


# Calls


class ClosureWithoutGrad(Plain):
    """The closure is called as the step found the grad mode, which is off within it."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None if closure is None else closure()
        super().step()
        return loss


class LeavesGradOff(Plain):
    """A step switches grad off and leaves it so."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        result = super().step(closure)
        torch.set_grad_enabled(False)
        return result


class LeavesGradOffWhereItRefuses(Plain):
    """A step that raises leaves grad switched off."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        torch.set_grad_enabled(False)
        with torch.enable_grad():
            result = super().step(closure)
        torch.set_grad_enabled(True)
        return result


class AveragesWithAGraph(Plain):
    """The first moment is part of the gradient's graph, if it has one."""

    def moments(self, m: Tensor, v: Tensor, grad: Tensor, group: Options) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            return super().moments(m, v, grad, group)


class Dithers(Plain):
    """The step size has noise that no seed of torch governs."""

    def moved(self, param: Tensor, m: Tensor, v: Tensor, t: float, group: Options) -> Tensor:
        return super().moved(param, m * random.uniform(0.5, 1.5), v, t, group)


class ZerosByDefault(Plain):
    """The moments have torch's default dtype."""

    def zeros(self, param: Tensor) -> Tensor:
        return torch.zeros(param.shape, dtype=torch.complex64 if param.is_complex() else None)


class CountsByDefault(Plain):
    """The step count has torch's default dtype: bfloat16 cannot count beyond 256."""

    def begun(self, param: Tensor, group: Options) -> State:
        self.state[param].setdefault("step", torch.tensor(0.0))
        return super().begun(param, group)


class StepOfTheInstance(Plain):
    """The step is put on the instance, past the hooks of the class."""

    def __init__(self, params: Any, lr: float = 1e-3, **options: Any) -> None:
        super().__init__(params, lr, **options)
        self.step = self.bare  # type: ignore[method-assign]

    def bare(self, closure: Callable[[], Any] | None = None) -> Any:
        with torch.no_grad():
            for group in self.param_groups:
                self.update_group(group)


class ShortRepr(Plain):
    """The repr is a word."""

    def __repr__(self) -> str:
        return "optimizer"


class LrDecays(Plain):
    """The lr of a group shrinks at each step."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        result = super().step(closure)
        for group in self.param_groups:
            group["lr"] = group["lr"] * 0.99
        return result


class LrOfAtLeast(Plain):
    """A learning rate below 1e-3 is taken for 1e-3."""

    def moved(self, param: Tensor, m: Tensor, v: Tensor, t: float, group: Options) -> Tensor:
        return super().moved(param, m, v, t, {**group, "lr": max(group["lr"], 1e-3)})


class Ascends(Plain):
    """The step goes up, and down with maximize."""

    def moved(self, param: Tensor, m: Tensor, v: Tensor, t: float, group: Options) -> Tensor:
        return super().moved(param, -m, v, t, group)


class LrOfTheFirstStep(Plain):
    """The learning rate is that of the first step."""

    def update_group(self, group: Options) -> None:
        if not hasattr(self, "lr"):
            self.lr = group["lr"]
        super().update_group({**group, "lr": self.lr})


class LrOfTheConstructor(Plain):
    """The learning rate is that of the constructor."""

    def update_group(self, group: Options) -> None:
        super().update_group({**group, "lr": self.defaults["lr"]})


class ClaimsToUnscale(Plain):
    """A GradScaler is told that the step unscales gradients, which it does not."""

    _step_supports_amp_scaling = True


class BeginsALeftOutStep(Plain):
    """A step that is left out for infinite gradients begins the state in memory that nobody has written to."""

    _step_supports_amp_scaling = True

    def step(self, closure: Any = None) -> Any:
        params = [param for group in self.param_groups for param in group["params"] if param.grad is not None]
        if bool(getattr(self, "found_inf", False)):
            for param in params:
                self.state[param].setdefault("exp_avg", torch.empty_like(param.detach()))
            return None
        scale = getattr(self, "grad_scale", None)
        for param in params if scale is not None else []:
            param.grad = param.grad / scale
        return super().step(closure)


# Derivatives


class CutsTheGraph(Plain):
    """No derivative goes through the second moment."""

    def moments(self, m: Tensor, v: Tensor, grad: Tensor, group: Options) -> tuple[Tensor, Tensor]:
        m, v = super().moments(m, v, grad, group)
        return m, v.detach()


class HalfOfTheRate(torch.optim.Adam):
    """Half of a tensor lr is a constant to autograd."""

    def step(self, closure: Any = None) -> Any:
        given = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            lr = group["lr"]
            group["lr"] = 0.5 * lr + 0.5 * lr.detach() if isinstance(lr, Tensor) else lr
        loss = super().step(closure)
        for group, lr in zip(self.param_groups, given, strict=True):
            group["lr"] = lr
        return loss


def _like_radam(optimizer: type[torch.optim.Optimizer]) -> Subject:
    family = Family(optimizer, radam.WeightDecay)
    name = f"{__name__}:{optimizer.__name__}"
    return replace(radam_subject(), name=name, build=family.build, call=family.call, supports=SUPPORTS)


def _like_adam(cls: type[torch.optim.Adam]) -> Subject:
    subject = torch_subject(torch.optim.Adam, "")
    assert subject is not None
    return subject_of(cls, oracle=subject.oracle, hyperparameters=subject.hyperparameters)


_NARROW = SUPPORTS - {"half"} | {"narrow_half"}
_NUMBER = r"\[\d+\] = \S+, but should be "

REAL_MOMENTS = Wrong(RealMoments, r"^exp_avg of a torch.complex64 parameter is torch.float32 ")
"""What the closed form finds beside numbers."""

BOOKKEEPING = (
    Wrong(CountsTwice, r"step of group 0 parameter \d = .*2.*, but should be 1 "),
    Wrong(ClipsInPlaceLater, r"the gradient of group 0 parameter \d should not be written to"),
    Wrong(NoneIsZero, r"parameter \d,? (which )?has no gradient(,| and) should stay, but has changed"),
    Wrong(
        MovesWithoutAGradient, r"exp_avg of group \d parameter \d, which has no gradient, should stay, but has changed"
    ),
    Wrong(MomentsInHalf, r"exp_avg of group 0 parameter \d should have the precision in which a torch.bfloat16 "),
    Wrong(FlatMoments, r"exp_avg of group 0 parameter \d should have shape \(.*\)"),
    Wrong(NoMaximum, r"state 'max_exp_avg_sq' of group 0 parameter \d is missing"),
)
"""What an oracle that follows the steps finds beside numbers."""

WRONG: Mapping[str, Wrong] = {
    "every_step": Wrong(EpsInTheRoot, rf"parameter \d: param{_NUMBER}"),
    "first_adaptive_step": Wrong(_like_radam(AdaptiveTooLate), f"parameter 0: param{_NUMBER}"),
    "a_threshold_that_is_met": Wrong(_like_radam(AdaptiveAbove), f"parameter 0: param{_NUMBER}"),
    "each_option_of_a_group": Wrong(EpsOfTheFirstGroup, rf"group [1-9] parameter 0: param{_NUMBER}"),
    "each_combination_of_flags": Wrong(NoMaximumOnTheWayUp, rf"group 3 parameter 0: param{_NUMBER}"),
    "decay_rates_of_zero": Wrong(BetaOneOfZeroIsTheDefault, rf"group \d parameter 0: exp_avg{_NUMBER}"),
    "gradients_of_every_size": Wrong(FaintIsZero, rf"parameter [23]: exp_avg{_NUMBER}"),
    "defaults": Wrong(BetaTwoOfOtherDefault, f"parameter 0: exp_avg_sq{_NUMBER}"),
    "far_steps": Wrong(BiasOfAtMostAHundredSteps, rf"parameter \d: param{_NUMBER}.*step \d{{3}}"),
    "options_changed_in_mid_run": Wrong(BetasOfTheFirstStep, rf"parameter 0: (exp_avg|exp_avg_sq|param){_NUMBER}"),
    "trajectory": Wrong(BiasOfAtMostAHundredSteps, f"after 150 free steps: param{_NUMBER}"),
    "weight_decay_alone": Wrong(DecayOfTheConstructor, f"group 1 parameter 0: param{_NUMBER}"),
    "eps_alone": Wrong(EpsBeforeTheCorrection, f"parameter 0: param{_NUMBER}"),
    "closed_form": Wrong(FirstSquareAsItIs, f"after 1 constant gradients: exp_avg_sq{_NUMBER}"),
    "implementations_agree": Wrong(ForeachWithoutCorrection, f"foreach: param{_NUMBER}"),
    "implementations_agree_on_zero_gradients": Wrong(
        ForeachWithoutNan, r"foreach: param\[0\] = 1.0, but should be nan"
    ),
    "implementations_agree_next_to_one": Wrong(ForeachWithNarrowScalars, f"foreach: param{_NUMBER}"),
    "implementations_agree_on_layouts": Wrong(ForeachByMemory, f"foreach: param{_NUMBER}"),
    "groups_are_separate_optimizers": Wrong(BetasOfTheFirstGroup, f"an optimizer for each group: exp_avg{_NUMBER}"),
    "order_of_parameters": Wrong(LessForLaterParameters, f"the reverse order: param{_NUMBER}"),
    "partition_of_parameters": Wrong(GradientOfNormOne, f"a tensor cut in two: param{_NUMBER}"),
    "many_parameters": Wrong(TheFirst64, r"a tensor cut into 100: param\[(6[4-9]|[789]\d)\] = "),
    "shape_of_parameters": Wrong(NoDecayOfVectors, rf"the shape \(.*\): param{_NUMBER}"),
    "every_element_of_a_large_tensor": Wrong(
        TheFirst65536,
        r"a long tensor .*: param\[(6553[6-9]|655[4-9]\d|65[6-9]\d\d|6[6-9]\d{3}|[7-9]\d{4}|\d{6,7})\] = ",
    ),
    "every_element_of_a_few_vectors": Wrong(
        WholeSixteensMinimize,
        r"a long tensor of the same numbers again and again: (param|exp_avg)\[\d+\] = .*maximize=True",
    ),
    "maximize_is_minimize_of_the_negative": Wrong(GrowthWithMaximize, f"maximize=True .*: param{_NUMBER}"),
    "complex_is_pairs_of_reals": Wrong(SquareOfTheModulus, f"complex numbers: param{_NUMBER}"),
    "mixed_dtypes_are_separate_optimizers": Wrong(DtypeOfTheFirstParameter, "torch.float64 beside other dtypes = "),
    "a_tensor_lr_is_a_number": Wrong(WritesToTheLr, f"lr as a tensor: param{_NUMBER}"),
    "tiny_gradients_in_half_precision": Wrong(
        subject_of(MomentsInHalf, supports=_NARROW), "a parameter of 1.0 has become NaN or infinite"
    ),
    "large_gradients_in_half_precision": Wrong(
        subject_of(LerpInHalf, supports=_NARROW), "a parameter of 1.0 has become NaN or infinite"
    ),
    "zero_and_nonzero_gradients_in_half_precision": Wrong(
        subject_of(MomentsInHalf, supports=_NARROW), "an element with zero gradients has left 1.0: it is NaN"
    ),
    "without_gradients_nothing_happens": Wrong(NoneIsZero, "param 0 after a step without a gradient = "),
    "zero_gradients_leave_a_parameter_alone": Wrong(EpsInTheNumerator, "param 0 on zero gradients = "),
    "late_gradients": Wrong(OneCountPerGroup, r"a parameter whose first gradient came after \d steps = "),
    "frozen_and_freed": Wrong(ForgetsTheFrozen, "a parameter that was frozen twice = "),
    "a_gradient_is_all_it_takes": Wrong(SkipsTheFrozen, "param 0, which requires no gradient but has one = "),
    "a_step_within_the_closure_of_another": Wrong(OneStepAtATime, "param 0 of an optimizer stepped in a closure = "),
    "zero_grad": Wrong(LeavesTheFrozen, r"param 1 \(frozen\) has a gradient after zero_grad"),
    "sparse_gradients_are_refused_or_taken": Wrong(
        CountsBeforeItRefuses, "step of param 0 after a refused gradient = "
    ),
    "gradients_are_not_written_to": Wrong(ClipsInPlace, "the gradient of param 0 after a step = "),
    "state_is_not_the_gradients_memory": Wrong(KeepsTheGradient, "previous_grad of param 0 after the gradient was "),
    "gradients_in_one_buffer": Wrong(ReadsAGradientOnce, rf"gradients in one buffer: param{_NUMBER}"),
    "negated_gradients": Wrong(ReadsTheSignAsItLies, rf"negated gradients: param{_NUMBER}"),
    "conjugated_gradients": Wrong(ReadsAsItLies, rf"conjugated gradients: param{_NUMBER}"),
    "a_nan_parameter_stays_nan": Wrong(NanIsZero, "an element that was NaN has become a number"),
    "a_nan_stays_in_its_element": Wrong(TimesAMean, "a NaN in one element has spread to others"),
    "layouts": Wrong(WritesIntoAReshape, f"a (transposed|strided|channels_last) parameter with .*: param{_NUMBER}"),
    "nothing_is_written_outside_a_view": Wrong(WritesAsIfContiguous, "the tensor around the view base"),
    "dtype_and_layout_are_kept": Wrong(NewMemory, "memory of the parameters after steps = "),
    "version_counters_move": Wrong(ThroughData, "its version counter has not moved"),
    "empty_and_scalar_parameters": Wrong(EmptyIsTheEnd, f"a parameter beside empty ones: param{_NUMBER}"),
    "the_memory_of_a_parameter_may_be_swapped": Wrong(KeepsTheMemory, "memory that a parameter has left = "),
    "bad_lr_is_refused": Wrong(AcceptsNegativeLr, "lr=-1.0 is accepted"),
    "bad_eps_is_refused": Wrong(AcceptsNanEps, "eps=nan is accepted"),
    "bad_betas_are_refused": Wrong(AcceptsABetaOfOne, r"betas=\(1.0, 0.9\) is accepted"),
    "bad_weight_decay_is_refused": Wrong(DoesNotNameTheDecay, "the message should name weight_decay", "ValueError"),
    "bad_parameters_are_refused": Wrong(AcceptsABareTensor, "a tensor in place of a list: accepted"),
    "steps_can_be_taken_with_what_is_accepted": Wrong(
        DividesByTheWarmup, "warmup=0 is accepted, but step 1 raises ZeroDivisionError", "ZeroDivisionError"
    ),
    "an_infinite_lr_makes_no_nan": Wrong(DecaysByNothing, "lr=inf is accepted, but a step without decay makes NaN"),
    "a_callers_dict_and_list_are_left_alone": Wrong(
        FillsInTheDefaults, "the constructor has written to the dict given as defaults"
    ),
    "state_dict_resumes": Wrong(CountsInAnAttribute, "after load_state_dict and a step = "),
    "state_dict_wins_over_the_constructor": Wrong(
        KeepsTheConstructorsLr, "param 0 after loading over other options and "
    ),
    "state_dict_goes_through_a_file": Wrong(CountsByAClass, "raised UnpicklingError: ", "UnpicklingError"),
    "an_older_state_dict_is_gone_back_to": Wrong(CountsBesideItsState, "param 0 after going back and a step = "),
    "deepcopy": Wrong(
        CopiesWithoutState, r"state of param 0 after copy.deepcopy has \[\], but should have \['exp_avg'"
    ),
    "pickle": Wrong(PicklesWithoutAttributes, "raised AttributeError: .*'factor'", "AttributeError"),
    "loading_leaves_the_state_dict_alone": Wrong(LoadsInPlace, "step in the dict that was loaded = "),
    "a_state_dict_is_a_look": Wrong(SavesByRounding, r"exp_avg of param 0 after state_dict\(\) = "),
    "a_state_dict_holds_tensors_and_primitives": Wrong(KeepsASet, r"state_dict\(\)\['state'\]\[0\]\['shapes'\] = {"),
    "names_in_state_dicts": Wrong(LosesTheNames, "param_names are lost by loading a state_dict without them"),
    "state_follows_its_parameter": Wrong(KeepsAGraph, "previous requires grad"),
    "a_group_added_in_mid_run": Wrong(GroupsOfTheConstructor, "the parameter of a group added after 5 steps = "),
    "steps_are_counted_by_numbers_too": Wrong(_like_adam(CountsByTensorsOnly), "param 0 after loading a plain step = "),
    "a_file_from_before_an_option": Wrong(_like_adam(FillsInOneOption), r"raised KeyError: '\w+'", "KeyError"),
    "far_steps_are_counted": Wrong(CountsInBfloat16, "step of param 0 after 257 steps is not 257"),
    "state_does_not_grow": Wrong(AnEntryPerStep, "the entries of state and groups after 20 steps = "),
    "nothing_is_kept_of_each_step": Wrong(
        AListOfSteps, "the entries of a container of the optimizer grew from 600 to 900"
    ),
    "nothing_is_kept_of_a_load": Wrong(KeepsWhatALoadReplaces, r"\d+ state tensors stay alive that three loads have"),
    "it_is_let_go": Wrong(IsRegistered, "param 0.*the optimizer.* stay alive without any reference"),
    "transient_memory": Wrong(TwentyTemporaries, r"a step holds \d+ bytes at a time, 2\d\.\d times its parameters"),
    "closure": Wrong(ClosureWithoutGrad, "a closure should be called once a step, with grad enabled"),
    "grad_mode": Wrong(LeavesGradOff, "leaves grad disabled"),
    "determinism": Wrong(Dithers, "param 0 in a second run = "),
    "default_dtype": Wrong(ZerosByDefault, "param 0 where the default dtype is "),
    "hooks": Wrong(StepOfTheInstance, "step hooks should run once before and once after each step"),
    "repr": Wrong(ShortRepr, "repr is 'optimizer', but should tell ShortRepr and lr"),
    "a_step_changes_no_option": Wrong(LrDecays, "a step has changed lr from "),
    "a_learning_rate_of_zero": Wrong(LrOfAtLeast, "param 0 at lr = 0 = "),
    "it_descends": Wrong(Ascends, r"60 steps on p\^2/2 have not brought it down"),
    "schedulers": Wrong(LrOfTheFirstStep, "param 0 with LambdaLR = "),
    "a_new_learning_rate_counts": Wrong(LrOfTheConstructor, "an lr of 0.5 in place of 0 has not moved the parameter"),
    "grad_scaler": Wrong(ClaimsToUnscale, "param 0 after a step on infinite gradients = "),
    "derivatives_of_steps": Wrong(CutsTheGraph, "derivatives of two steps: ", "GradcheckError"),
    "derivatives_by_the_learning_rate": Wrong(
        _like_adam(HalfOfTheRate), "derivatives of 2 steps by lr: Jacobian mismatch", "GradcheckError"
    ),
}
