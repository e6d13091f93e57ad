"""Mutants of radam's own kernels and of what prepares their steps: wrong in one path, right in the others.

What lists share, the slot, and the schedule by numbers serve more than one kernel; none of these mutants is wrong in all.
"""

# Edits quote source text, which reads better unbroken.
# ruff: noqa: E501

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from tests.mutation.mutant import Module, Mutant, Observation, Run, Scenario, adding, drive, fading, scaled, wave

MUTANTS: list[Mutant] = []


within = functools.partial(adding, MUTANTS, part="one path")
loop = within("radam.kernels.loop")
foreach = within("radam.kernels.foreach")
fused = within("radam.kernels.fused")
capturable = within("radam.kernels.capturable")
work = within("radam.kernels.work")
slot = within("radam.kernels.slot")
settled = within("radam.kernels.settled")
dispatch = within("radam.kernels")
schedule = within("radam.schedule")
optimizer = within("radam.optimizer")
state = within("radam.state")
rectification = within("radam.rectification")
decay = within("radam.weight_decay")


# --- scenarios -------------------------------------------------------------------------------------------------------


def by_loop(steps: int = 10, **hyper: Any) -> Scenario:
    return drive(steps, **{"betas": (0.9, 0.9), "foreach": False, **hyper})


def by_foreach(steps: int = 10, **hyper: Any) -> Scenario:
    return drive(steps, **{"betas": (0.9, 0.9), "foreach": True, **hyper})


def by_fused(steps: int = 10, **hyper: Any) -> Scenario:
    return drive(steps, **{"betas": (0.9, 0.9), "fused": True, **hyper})


def by_default(steps: int = 10, **hyper: Any) -> Scenario:
    return drive(steps, **{"betas": (0.9, 0.9), **hyper})


def by_capturable(steps: int = 10, **hyper: Any) -> Scenario:
    return drive(steps, **{"betas": (0.9, 0.9), "capturable": True, **hyper})


def absent(t: int, index: int, param: Tensor) -> Tensor | None:
    """No gradient for the second parameter on two steps."""
    return None if index == 1 and t in (2, 3) else wave(t, index, param)


def wide(t: int, index: int, param: Tensor) -> Tensor:
    """A float64 gradient, whatever the parameter is."""
    return wave(t, index, param.double())


def conjugated(t: int, index: int, param: Tensor) -> Tensor:
    """A gradient that is lazily the conjugate of another tensor."""
    return wave(t, index, param).conj()


def negated(t: int, index: int, param: Tensor) -> Tensor:
    """A gradient that is lazily the negative of another tensor."""
    return torch._neg_view(wave(t, index, param))


def transposed(t: int, index: int, param: Tensor) -> Tensor:
    """A square gradient that lies in memory column by column."""
    return wave(t, index, param).t().contiguous().t()


def kept_gradients(run: Run) -> None:
    for index, p in enumerate(run.params):
        run.notes[f"grad {index}"] = None if p.grad is None else p.grad.clone()


def versions(run: Run) -> None:
    """How often autograd has been told that a parameter has changed: more often at least than there were steps."""
    run.notes["told"] = [p._version >= 10 for p in run.params]


class Halving:
    """A weight decay of one's own: halves the gradient, and shrinks the parameter."""

    def defaults(self) -> dict[str, Any]:
        return {}

    def __call__(self, param: Tensor, grad: Tensor, group: Mapping[str, Any]) -> Tensor:
        param.mul_(0.75)
        return grad * 0.5


def subclassed(**hyper: Any) -> Scenario:
    """A subclass of the package's WeightDecay whose `__call__` halves the gradient."""

    def scenario(module: Module) -> Observation:
        class Own(module.WeightDecay):  # type: ignore[misc]
            def __call__(self, param: Tensor, grad: Tensor, group: Mapping[str, Any]) -> Tensor:
                return grad * 0.5

        return drive(4, weight_decay=Own(0.1), **hyper)(module)

    return scenario


def derivatives(module: Module) -> Observation:
    """Derivatives through eight differentiable steps, by the starting point and by the learning rate."""
    start = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    p = start.clone()
    p.retain_grad()
    optimizer = module.RAdam([p], lr=lr, betas=(0.9, 0.9), eps=1e-3, differentiable=True)
    for t in range(1, 9):
        p.grad = p.clone().square() * (1.0 + 0.1 * t) + wave(t, 0, p.detach())
        optimizer.step()
    by_start, by_lr = torch.autograd.grad(p.sum(), (start, lr), allow_unused=True)
    return {"by start": by_start, "by lr": by_lr}


def derivatives_by_number(module: Module) -> Observation:
    """The derivative by the starting point, with a learning rate that is a number."""
    start = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    p = start.clone()
    p.retain_grad()
    optimizer = module.RAdam([p], lr=0.1, betas=(0.9, 0.9), eps=1e-3, differentiable=True)
    for t in range(1, 9):
        p.grad = p.clone().square() * (1.0 + 0.1 * t) + wave(t, 0, p.detach())
        optimizer.step()
    return {"by start": torch.autograd.grad(p.sum(), start)[0]}


def derivatives_at_zero(module: Module) -> Observation:
    """The derivative by a gradient of which an element has always been zero."""
    p = torch.tensor([0.5, -1.0], dtype=torch.float64)
    last = torch.tensor([0.0, 2.0], dtype=torch.float64, requires_grad=True)
    optimizer = module.RAdam([p], lr=0.1, betas=(0.9, 0.9), eps=1e-3, differentiable=True)
    for t in range(1, 9):
        p.grad = torch.tensor([0.0, 1.0 + t], dtype=torch.float64) if t < 8 else last
        optimizer.step()
    return {"by the gradient": torch.autograd.grad(p.sum(), last)[0]}


def negative_view(**hyper: Any) -> Scenario:
    """A parameter that is a view of the negative of a tensor."""

    def scenario(module: Module) -> Observation:
        base = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
        p = torch._neg_view(base)
        optimizer = module.RAdam([p], lr=0.1, betas=(0.9, 0.9), **hyper)
        for t in range(1, 9):
            p.grad = wave(t, 0, p)
            optimizer.step()
        return {"p": p.resolve_neg().clone(), "base": base.clone()}

    return scenario


def view_with_gaps(**hyper: Any) -> Scenario:
    """A parameter that is every other column of a matrix; its gradient lies likewise."""

    def scenario(module: Module) -> Observation:
        whole = torch.linspace(-1.0, 1.0, 24, dtype=torch.float64).reshape(4, 6)
        p = whole[:, ::2].detach().requires_grad_()
        optimizer = module.RAdam([p], lr=0.1, betas=(0.9, 0.9), **hyper)
        for t in range(1, 9):
            p.grad = torch.zeros(4, 6, dtype=torch.float64)[:, ::2].copy_(wave(t, 0, p))
            optimizer.step()
        return {"whole": whole.clone()}

    return scenario


def resumed(**hyper: Any) -> Scenario:
    """A run that goes on in a new optimizer of the same kind."""

    def reload(run: Run) -> None:
        buffer = io.BytesIO()
        torch.save(run.optimizer.state_dict(), buffer)
        buffer.seek(0)
        fresh = run.module.RAdam(run.params, **hyper)
        fresh.load_state_dict(torch.load(buffer, weights_only=True))
        run.optimizer = fresh

    return drive(10, events={4: reload}, betas=(0.9, 0.9), **hyper)


def some_elements(*elements: int) -> Callable[[Run], None]:
    def watch(run: Run) -> None:
        p = run.params[0].detach().flatten()
        run.notes["elements"] = [float(p[i]) for i in elements]

    return watch


def replayed(module: Module) -> Observation:
    """Steps by the code that torch.compile makes of them, but for the making of machine code."""
    torch._dynamo.reset()
    p = torch.nn.Parameter(torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64))
    opt = module.RAdam([p], lr=0.1, betas=(0.9, 0.9), eps=1e-2, optimized_update=False)
    step = torch.compile(opt.step, backend="eager")
    for t in range(1, 10):
        p.grad = wave(t, 0, p)
        step()  # type: ignore[no-untyped-call]
    torch._dynamo.reset()
    return {"p": p.detach().clone()}


PAIR = ((0.0, 0.5, -1.0), (1.0, -0.25))
ALIKE = ((0.0, 0.5, -1.0), (1.0, -0.25, 3.0))
Z = ((0.0 + 1.0j, -1.0 + 0.5j, 2.0 - 1.0j),)
SQUARE = torch.arange(9.0, dtype=torch.float64).reshape(3, 3) / 4.0
MIXED = (torch.tensor([0.5, -1.0, 2.0]).bfloat16(), torch.tensor([1.0, -0.25]))
LONG = torch.linspace(-1.0, 1.0, 1100, dtype=torch.float64)
FLOAT32 = "float(torch.tensor({}, dtype=torch.float32))"
NAN = float("nan")


def nan_at(place: int) -> Callable[[int, int, Tensor], Tensor]:
    """NaN in one element of the last gradients."""

    def gradient(t: int, index: int, param: Tensor) -> Tensor:
        g = wave(t, index, param)
        if t >= 8:
            g[place] = NAN
        return g

    return gradient


# --- loop ------------------------------------------------------------------------------------------------------------

BETAS = 'beta1, beta2 = group["betas"]'
SWAPPED = 'beta2, beta1 = group["betas"]'
L_DECAY = "grad = decayed(decay, work.clone() if step.kind is Kind.VARIANCE_ONLY else work, grad, group, where)"
L_FLIP = '    if group["maximize"]:\n        grad = -grad\n\n'
L_GRAD = "grad = as_real(grad.to(dtype).resolve_conj())"
L_V = "exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)"
L_MAXIMUM = "exp_avg_sq = torch.maximum(largest, exp_avg_sq, out=None if differentiable else largest)"
L_M = "exp_avg.mul_(beta1).add_(grad, alpha=1 - beta1)"
L_ROOT = "root = _root(exp_avg_sq) if differentiable else exp_avg_sq.sqrt()"
L_DENOMINATOR = "denominator = root.add_(step.eps)"
L_ADAPT = "work.addcdiv_(exp_avg, denominator, value=-representable(step.size, work.dtype))"
L_SGD = "work.add_(exp_avg, alpha=-representable(step.size, work.dtype))"
L_END = "    if param.dtype != dtype:\n"

loop("in_loop_betas_swapped", "The loop exchanges the betas.", by_loop(betas=(0.8, 0.9)), (BETAS, SWAPPED))
loop(
    "in_loop_eps_inside_root",
    "The loop adds eps under the root.",
    by_loop(eps=1e-2),
    (L_ROOT, "root = (exp_avg_sq + step.eps).sqrt()"),
    (L_DENOMINATOR, "denominator = root"),
)
loop(
    "in_loop_maximize_flips_l2",
    "The loop negates the L2 term too under maximize.",
    by_loop(maximize=True, lr=0.1, decay=(0.2, False)),
    (L_FLIP, ""),
    (L_DECAY, L_DECAY + "\n" + L_FLIP.rstrip("\n")),
)
loop(
    "in_loop_held_half_not_written",
    "The loop loses the decay of a half parameter in a step that holds it.",
    by_loop(4, dtype=torch.bfloat16, lr=0.5, decay=(0.3,), degenerated_to_sgd=False),
    (L_END, "    if param.dtype != dtype and step.kind is not Kind.HOLD:\n"),
)
loop(
    "in_loop_amsgrad_not_kept",
    "The loop uses AMSGrad's maximum but does not keep it.",
    by_loop(12, amsgrad=True, grads=fading),
    (L_MAXIMUM, "exp_avg_sq = torch.maximum(largest, exp_avg_sq)"),
)
loop(
    "in_loop_amsgrad_of_previous_step",
    "The loop divides by AMSGrad's maximum of the step before.",
    by_loop(12, amsgrad=True, grads=lambda t, i, p: wave(t, i, p) * t),
    (L_MAXIMUM, f"before = largest.clone()\n        {L_MAXIMUM}"),
    (L_ROOT, 'root = (before if group["amsgrad"] else exp_avg_sq).sqrt()'),
)
loop(
    "in_loop_l2_not_in_v",
    "The loop's v lacks the L2 term.",
    by_loop(lr=0.1, decay=(0.2, False)),
    (L_DECAY, "raw = grad\n    " + L_DECAY),
    (L_V, L_V.replace("grad, grad", "raw, raw")),
)
loop(
    "in_loop_conjugate_read_as_memory",
    "The loop reads a gradient that is lazily conjugated as its memory.",
    by_loop(dtype=torch.complex128, start=Z, grads=conjugated),
    (L_GRAD, "grad = as_real((grad.conj() if grad.is_conj() else grad).to(dtype).resolve_conj())"),
)
loop(
    "in_loop_negative_view_lost",
    "The loop steps a copy of a parameter that is a negative view.",
    negative_view(),
    ("else param.to(dtype)\n", "else param.resolve_neg().to(dtype)\n"),
)
loop(
    "in_loop_size_float32",
    "The loop's adaptive steps have a size rounded to float32.",
    by_loop(),
    (L_ADAPT, L_ADAPT.replace("step.size,", FLOAT32.format("step.size") + ",")),
)
loop(
    "in_loop_gradient_float32",
    "The loop passes every gradient through float32.",
    by_loop(),
    (
        L_GRAD,
        "grad = as_real(grad.to(torch.complex64 if grad.is_complex() else torch.float32).to(dtype).resolve_conj())",
    ),
)
loop(
    "in_loop_momentum_step_by_gradient",
    "The loop's momentum steps follow the gradient.",
    by_loop(),
    (L_SGD, L_SGD.replace("exp_avg,", "grad,")),
)
loop(
    "in_loop_gradient_negated",
    "The loop negates .grad itself under maximize.",
    by_loop(maximize=True, watch=kept_gradients),
    (L_FLIP, L_FLIP.replace("-grad", "grad.neg_()")),
)
loop(
    "in_loop_own_decay_result_dropped",
    "The loop drops the gradient that a weight decay of one's own returns.",
    by_default(weight_decay=Halving()),
    (L_DECAY, L_DECAY.replace("grad = ", "", 1)),
)
loop(
    "in_loop_hold_keeps_momentum",
    "The loop leaves m as it was in a step that holds the parameter.",
    by_loop(degenerated_to_sgd=False),
    (
        "if step.kind is Kind.VARIANCE_ONLY:\n        return",
        "if step.kind in (Kind.VARIANCE_ONLY, Kind.HOLD):\n        return",
    ),
)
loop(
    "in_loop_root_detached",
    "With differentiable=True the root of v is taken for a constant.",
    derivatives,
    (L_ROOT, "root = exp_avg_sq.detach().sqrt() if differentiable else exp_avg_sq.sqrt()"),
)
loop(
    "in_loop_root_without_derivative_at_zero",
    "With differentiable=True the derivative by a gradient that has always been 0 is NaN.",
    derivatives_at_zero,
    (L_ROOT, "root = exp_avg_sq.sqrt()"),
)
loop(
    "in_loop_lr_detached",
    "With differentiable=True adaptive steps are not differentiated by a tensor lr.",
    derivatives,
    ("work.sub_(exp_avg / denominator * step.size)", "work.sub_(exp_avg / denominator * step.size.detach())"),
)
loop(
    "in_loop_momentum_detached",
    "With differentiable=True momentum steps are not differentiated by the gradient.",
    derivatives_by_number,
    (L_SGD, "work.add_(exp_avg.detach(), alpha=-representable(step.size, work.dtype))"),
)
loop(
    "in_loop_tensor_size_with_sign",
    "Momentum steps with a tensor lr that is differentiated ascend.",
    derivatives,
    ("work.sub_(exp_avg * step.size)", "work.add_(exp_avg * step.size)"),
)
loop(
    "in_loop_complex_imaginary_decay_lost",
    "The loop does not decay imaginary parts.",
    by_loop(dtype=torch.complex128, start=Z, lr=0.1, decay=(0.3,)),
    (
        L_DECAY,
        "imaginary = work[..., 1].clone() if param.is_complex() else work\n    "
        + L_DECAY
        + "\n    if param.is_complex():\n        work[..., 1] = imaginary",
    ),
)

# --- foreach ---------------------------------------------------------------------------------------------------------

F_FLIP = "grads = list(torch._foreach_neg(grads))"
F_L2 = "decayed = list(torch._foreach_mul(params, coefficient))"
F_FACTOR = "elif changes(factor) and step.kind is not Kind.VARIANCE_ONLY:"
F_V = "torch._foreach_addcmul_(exp_avg_sqs, grads, grads, value=1 - beta2)"
F_MAXIMUM = "torch._foreach_maximum_(largest, exp_avg_sqs)\n        exp_avg_sqs = largest\n"
F_M = "torch._foreach_add_(exp_avgs, grads, alpha=1 - beta1)"
F_SIZE = "size = -representable(float(step.size), params[0].dtype)"
F_EPS = "torch._foreach_add_(denominators, step.eps)"
F_ADAPT = "torch._foreach_addcdiv_(params, exp_avgs, denominators, value=size)"
F_SGD = "torch._foreach_add_(params, exp_avgs, alpha=size)"

foreach("in_foreach_betas_swapped", "foreach exchanges the betas.", by_foreach(betas=(0.8, 0.9)), (BETAS, SWAPPED))
foreach(
    "in_foreach_m_weight_of_beta2",
    "foreach weighs the gradient in m with 1 - b2.",
    by_foreach(betas=(0.8, 0.9)),
    (F_M, F_M.replace("beta1", "beta2")),
)
foreach(
    "in_foreach_last_not_moved",
    "foreach's momentum steps leave the last of several parameters out.",
    by_foreach(4, start=PAIR),
    (F_SGD, "n = max(1, len(params) - 1)\n        torch._foreach_add_(params[:n], exp_avgs[:n], alpha=size)"),
)
foreach("in_foreach_eps_missing", "foreach does not add eps.", by_foreach(eps=1e-2), (F_EPS, "pass"))
foreach(
    "in_foreach_hold_keeps_moments",
    "foreach leaves m as it was in a step that holds the parameters.",
    by_foreach(degenerated_to_sgd=False),
    (
        "if step.kind is Kind.VARIANCE_ONLY:\n        return",
        "if step.kind in (Kind.VARIANCE_ONLY, Kind.HOLD):\n        return",
    ),
)
foreach(
    "in_foreach_hold_without_decay",
    "foreach does not decay in a step that holds the parameters.",
    by_foreach(4, lr=0.5, decay=(0.3,), degenerated_to_sgd=False),
    (F_FACTOR, F_FACTOR.replace("is not Kind.VARIANCE_ONLY", "not in (Kind.VARIANCE_ONLY, Kind.HOLD)")),
)
foreach(
    "in_foreach_amsgrad_ignored",
    "foreach keeps AMSGrad's maximum and divides by the root of v.",
    by_foreach(12, amsgrad=True, grads=fading),
    (F_MAXIMUM, "torch._foreach_maximum_(largest, exp_avg_sqs)\n"),
)
foreach(
    "in_foreach_amsgrad_not_kept",
    "foreach uses AMSGrad's maximum but does not keep it.",
    by_foreach(12, amsgrad=True, grads=fading),
    (F_MAXIMUM, "exp_avg_sqs = list(torch._foreach_maximum(largest, exp_avg_sqs))\n"),
)
foreach(
    "in_foreach_l2_missing_in_momentum_steps",
    "foreach adds the L2 term in adaptive steps only.",
    by_foreach(lr=0.1, decay=(0.2, False)),
    ("if coefficient:", "if coefficient and step.kind is Kind.ADAPTIVE:"),
)
foreach(
    "in_foreach_l2_of_momentum",
    "foreach's L2 term takes the momentum for the parameter.",
    by_foreach(lr=0.1, decay=(0.2, False)),
    (F_L2, F_L2.replace("params", "exp_avgs")),
)
foreach(
    "in_foreach_gradients_negated",
    "foreach negates .grad itself under maximize.",
    by_foreach(maximize=True, watch=kept_gradients),
    (F_FLIP, "torch._foreach_neg_(grads)"),
)
foreach(
    "in_foreach_maximize_ignored_in_momentum_steps",
    "foreach ignores maximize in momentum steps.",
    by_foreach(4, maximize=True),
    ('if group["maximize"]:', 'if group["maximize"] and step.kind is not Kind.MOMENTUM:'),
)
foreach(
    "in_foreach_momentum_size_float32",
    "foreach's momentum steps have a size rounded to float32.",
    by_foreach(4),
    (F_SGD, F_SGD.replace("size", FLOAT32.format("size"))),
)
foreach(
    "in_foreach_decay_of_first_only",
    "foreach decays the first parameter of a list only.",
    by_foreach(start=PAIR, lr=0.1, decay=(0.3,)),
    ("torch._foreach_mul_(params, factor)", "torch._foreach_mul_(params[:1], factor)"),
)
foreach(
    "in_foreach_overflow_is_an_error",
    "foreach refuses a step whose size no float32 can hold.",
    by_foreach(3, dtype=torch.float32, lr=1e300),
    (F_SIZE, "size = -float(step.size)"),
)
foreach(
    "in_foreach_beyond_forty_not_moved",
    "foreach's adaptive steps move the first forty parameters of a list.",
    by_foreach(start=((0.5, -1.0),) * 45),
    (F_ADAPT, F_ADAPT.replace("params, exp_avgs, denominators", "params[:40], exp_avgs[:40], denominators[:40]")),
)
foreach(
    "in_foreach_divided_by_first",
    "foreach divides all parameters of one shape by the first one's root.",
    by_foreach(start=ALIKE),
    (
        F_ADAPT,
        F_ADAPT.replace(
            "denominators,", "[d if d.shape != denominators[0].shape else denominators[0] for d in denominators],"
        ),
    ),
)

# --- fused -----------------------------------------------------------------------------------------------------------

U_SCALARS = '"beta1": beta1,\n        "beta2": beta2,\n        "weight_decay": decay,\n        "eps": step.eps,\n'
U_MAXIMIZE = '"maximize": group["maximize"],'
U_SIZE = '"lr": float(step.size),'
U_KERNEL = "kernel, decay = torch._fused_adamw_, _decay(factor, float(step.size))"
U_FIRST = "        if not decay:\n            torch._foreach_mul_(tensors.params, factor)\n"
U_LARGE = "large = [work for work in works if not is_small(work.param)]"
U_NAN = '    if group["amsgrad"]:\n        _propagate_nan(tensors)\n'
U_TAKES = "if step.kind is not Kind.ADAPTIVE:"
U_SAFE = " and abs(share) <= 0.5"

fused(
    "in_fused_betas_swapped",
    "fused exchanges the betas.",
    by_fused(betas=(0.8, 0.9)),
    (U_SCALARS, U_SCALARS.replace('"beta1": beta1', '"beta1": beta2').replace('"beta2": beta2', '"beta2": beta1')),
)
fused(
    "in_fused_eps_at_least_1e8",
    "fused adds 1e-8 at least.",
    by_fused(eps=0.0, grads=scaled(1e-7)),
    (U_SCALARS, U_SCALARS.replace("step.eps", "max(step.eps, 1e-8)")),
)
fused(
    "in_fused_eps_of_group",
    "fused adds the group's eps where it should be scaled by the bias correction.",
    by_fused(eps=1e-2, optimized_update=False),
    (U_SCALARS, U_SCALARS.replace("step.eps", 'group["eps"]')),
)
fused(
    "in_fused_step_number_finite",
    "fused takes 10,000 for a step number beyond which nothing is left to correct: at b2 = 0.9999 a third of v is.",
    by_fused(12, betas=(0.9, 0.9999)),
    ("math.inf, dtype=torch.float32", "1e4, dtype=torch.float32"),
    ("if not bool(_endless(device).isinf()):", "if float(_endless(device)) != 1e4:"),
)
fused(
    "in_fused_maximize_ignored", "fused ignores maximize.", by_fused(maximize=True), (U_MAXIMIZE, '"maximize": False,')
)
fused(
    "in_fused_size_float32",
    "fused takes a size rounded to float32.",
    by_fused(),
    (U_SIZE, f'"lr": {FLOAT32.format("step.size")},'),
)
fused(
    "in_fused_decay_without_rate",
    "fused decays by the group's coefficient, which its kernel multiplies with the rectified size instead of lr.",
    by_fused(lr=0.1, decay=(0.3,)),
    (U_KERNEL, 'kernel, decay = torch._fused_adamw_, group["weight_decay"]'),
)
fused(
    "in_fused_decay_is_l2",
    "fused takes decoupled decay for L2.",
    by_fused(lr=0.1, decay=(0.3,)),
    (U_KERNEL, U_KERNEL.replace("_fused_adamw_", "_fused_adam_")),
)
fused(
    "in_fused_large_decay_lost",
    "fused does not decay where more than half of the parameter goes.",
    by_fused(decay=(0.7, True, True)),
    (U_FIRST, ""),
)
fused(
    "in_fused_decay_twice",
    "fused multiplies by the factor and lets the kernel decay too.",
    by_fused(lr=0.1, decay=(0.3,)),
    ("        if not decay:\n", "        if True:\n"),
)
fused(
    "in_fused_factor_near_zero",
    "fused leaves the digits of a factor near 0 to the kernel, which cancels them.",
    by_fused(8, lr=1e-13, decay=(1.0 - 1e-10, True, True), events={8: lambda run: run.params[0].data.fill_(1.0)}),
    (U_SAFE, ""),
)
fused(
    "in_fused_amsgrad_loses_nan",
    "fused loses NaN in AMSGrad's maximum, in the elements beyond the last whole vector.",
    by_fused(start=(torch.ones(67, dtype=torch.float64),), amsgrad=True, grads=nan_at(-1)),
    (U_NAN, ""),
)
fused(
    "in_fused_nan_in_last_element_only",
    "fused restores NaN in AMSGrad's maximum in the very last element only.",
    by_fused(start=(torch.ones(2**14 + 67, dtype=torch.float64),), amsgrad=True, grads=nan_at(-2)),
    ("count = min(tensor.numel(), _VECTOR)", "count = min(tensor.numel(), 1)"),
)
fused(
    "in_fused_amsgrad_ignored",
    "fused divides by the root of v for that of its maximum.",
    by_fused(12, amsgrad=True, grads=fading),
    ('"amsgrad": group["amsgrad"],', '"amsgrad": False,'),
)
fused(
    "in_fused_32768_elements_skipped",
    "fused takes no adaptive step with a tensor of exactly 32,768 elements.",
    # After a step without a gradient its tensors are checked again.
    by_fused(
        8,
        start=(torch.linspace(-1.0, 1.0, 2**15, dtype=torch.float64),),
        grads=lambda t, i, p: None if t == 7 else wave(t, i, p),
        watch=some_elements(0, 17, -1),
    ),
    (U_LARGE, U_LARGE.replace("is_small(work.param)", "(is_small(work.param) or work.param.numel() == SMALL)")),
)
fused(
    "in_fused_large_without_decay",
    "fused does not decay tensors of 32,768 elements and more.",
    by_fused(
        7,
        lr=0.1,
        decay=(0.3,),
        start=(torch.linspace(-1.0, 1.0, 2**15 + 3, dtype=torch.float64),),
        watch=some_elements(0, 17, -1),
    ),
    (
        "        _adaptive(step, tensors, group, terms)\n    elif",
        "        _adaptive(step, tensors, group, (1.0, terms[1]))\n    elif",
    ),
)
fused(
    "in_fused_version_not_counted",
    "fused does not let autograd know that a parameter has changed.",
    by_fused(20, watch=versions),
    ("    torch.autograd.graph.increment_version(params)\n", ""),
)
fused(
    "in_fused_momentum_steps_divided",
    "fused takes momentum steps too, which divides them by the root of v.",
    by_fused(4),
    (U_TAKES, U_TAKES.replace("step.kind is not Kind.ADAPTIVE", "step.kind not in (Kind.ADAPTIVE, Kind.MOMENTUM)")),
)
fused(
    "in_fused_l2_missing",
    "fused lacks the L2 term.",
    by_fused(lr=0.1, decay=(0.2, False)),
    ("factor, decay = terms", "factor, decay = terms[0], 0.0"),
)
fused(
    "in_fused_small_without_amsgrad",
    "fused takes small tensors without AMSGrad.",
    by_fused(12, amsgrad=True, grads=fading),
    (
        "            _adaptive(step, tensors, group, terms)\n    else",
        '            _adaptive(step, tensors, {**group, "amsgrad": False}, terms)\n    else',
    ),
)

# --- capturable ------------------------------------------------------------------------------------------------------

C_PLACE = "return [scalars[work.place] for work in works]"
C_FLIP = "    if call.maximize:\n        grads = list(torch._foreach_neg(grads))\n"
C_L2 = "        sums = list(torch._foreach_mul(params, call.coefficient))\n        torch._foreach_add_(sums, grads)\n        grads = sums\n"
C_FACTOR = "torch._foreach_mul_(params, of(call.scalars.factor))"
C_MAXIMUM = "torch._foreach_maximum_(largest, exp_avg_sqs)\n        exp_avg_sqs = largest\n"
C_EPS = "torch._foreach_add_(roots, of(call.scalars.eps))"
C_DIVISORS = "torch.where(divides, root, 1.0)"
C_SIZE = "torch._foreach_mul_(updates, of(call.scalars.size))"
C_MOVES = "torch._foreach_copy_(params, list(map(torch.where, of(call.scalars.moves), moved, params)))"
C_DECAY = "return decayed(call.decay, work.param, grad, call.group, where)"
C_FULL = "torch.full_like(steps.size, factor)"

capturable(
    "in_capturable_betas_swapped",
    "capturable exchanges the betas.",
    by_capturable(betas=(0.8, 0.9)),
    ("beta1, beta2 = call.betas", "beta2, beta1 = call.betas"),
)
capturable(
    "in_capturable_scalars_by_order",
    "capturable gives scalars by the order in which tensors are worked on, which is another one with two dtypes.",
    by_capturable(start=(torch.tensor([0.5, -1.0]), torch.tensor([1.0, -0.25], dtype=torch.float64)), grads=absent),
    (C_PLACE, "return list(scalars[: len(works)])"),
)
capturable(
    "in_capturable_scalars_of_first",
    "capturable steps all parameters as the first, though one has missed steps.",
    by_capturable(start=PAIR, grads=absent),
    (C_PLACE, C_PLACE.replace("work.place", "0")),
)
capturable(
    "in_capturable_eps_of_group",
    "capturable adds the group's eps where it should be scaled by the bias correction.",
    by_capturable(eps=1e-2, optimized_update=False),
    (C_EPS, 'torch._foreach_add_(roots, call.group["eps"])'),
)
capturable(
    "in_capturable_momentum_divided",
    "capturable divides momentum steps by the root of v too.",
    by_capturable(4),
    (C_DIVISORS, "root"),
)
capturable(
    "in_capturable_hold_by_zero",
    "capturable holds a parameter by adding 0 times its momentum, which is NaN after an infinite gradient.",
    by_capturable(3, degenerated_to_sgd=False, grads=lambda t, i, p: wave(t, i, p) * (float("inf") if t == 2 else 1.0)),
    (C_MOVES, "torch._foreach_copy_(params, moved)"),
)
capturable(
    "in_capturable_amsgrad_ignored",
    "capturable keeps AMSGrad's maximum and divides by the root of v.",
    by_capturable(12, amsgrad=True, grads=fading),
    (C_MAXIMUM, "torch._foreach_maximum_(largest, exp_avg_sqs)\n"),
)
capturable(
    "in_capturable_maximize_ignored",
    "capturable ignores maximize.",
    by_capturable(maximize=True),
    (C_FLIP, ""),
)
capturable(
    "in_capturable_gradients_negated",
    "capturable negates .grad itself under maximize.",
    by_capturable(maximize=True, watch=kept_gradients),
    (C_FLIP, C_FLIP.replace("grads = list(torch._foreach_neg(grads))", "torch._foreach_neg_(grads)")),
)
capturable(
    "in_capturable_l2_into_gradient",
    "capturable adds the L2 term to .grad itself.",
    by_capturable(lr=0.1, decay=(0.2, False), watch=kept_gradients),
    (C_L2, "        torch._foreach_add_(grads, params, alpha=call.coefficient)\n"),
)
capturable(
    "in_capturable_decay_without_lr",
    "capturable decays by the coefficient alone.",
    by_capturable(lr=0.1, decay=(0.3,)),
    (C_FULL, C_FULL.replace("factor)", '1.0 - group["weight_decay"])')),
)
capturable(
    "in_capturable_factor_float32",
    "capturable rounds the factor of decoupled decay to float32.",
    by_capturable(lr=0.1, decay=(0.3,)),
    (C_FULL, C_FULL + ".float().double()"),
)
capturable(
    "in_capturable_size_float32",
    "capturable rounds sizes to float32.",
    by_capturable(),
    (C_SIZE, "torch._foreach_mul_(updates, [size.float() for size in of(call.scalars.size)])"),
)
capturable(
    "in_capturable_decay_missing_on_hold",
    "capturable does not decay in steps that hold the parameter.",
    by_capturable(3, lr=0.5, decay=(0.3,), degenerated_to_sgd=False),
    (
        "        if steps.averages is not None:\n",
        "        if steps.moves is not None:\n            factors = torch.where(steps.moves, factors, torch.ones_like(factors))\n        if steps.averages is not None:\n",
    ),
)
capturable(
    "in_capturable_own_decay_of_half_lost",
    "capturable does not write half parameters back where a weight decay of one's own is called.",
    by_capturable(dtype=torch.bfloat16, lr=0.1, weight_decay=Halving()),
    ("        if rounded:\n", "        if rounded and call.decay is None:\n"),
)
capturable(
    "in_capturable_own_decay_result_dropped",
    "capturable drops the gradient that a weight decay of one's own returns.",
    by_capturable(weight_decay=Halving()),
    (C_DECAY, C_DECAY.replace("return decayed", "decayed") + "\n        return grad"),
)
capturable(
    "in_capturable_tensor_lr_not_in_decay",
    "capturable decays by the first lr, when lr is a tensor that moves.",
    by_capturable(
        lr=torch.tensor(0.5, dtype=torch.float64),
        decay=(0.3,),
        events={4: lambda run: run.groups[0]["lr"].fill_(0.01)},
    ),
    (
        "decay.terms(group, lr) if own",
        'decay.terms(group, group.setdefault("first_lr", float(lr))) if own',
    ),
)
capturable(
    "in_capturable_v_weight",
    "capturable weighs the gradient's square with 1 - b1.",
    by_capturable(betas=(0.8, 0.9)),
    ("value=1 - beta2)", "value=1 - beta1)"),
)

# --- work ------------------------------------------------------------------------------------------------------------

# More than fits into one batch of copies.
BIG = torch.linspace(-1.0, 1.0, 700_001).bfloat16()
EDGES = some_elements(0, 1, 524_287, 524_288, 524_289, 600_000, 699_999, 700_000)
# Cut along its rows, as its gradient lies in another order of memory.
ROWS = torch.linspace(-1.0, 1.0, 837 * 837).reshape(837, 837).bfloat16()
W_GRADIENT = "work = work._replace(grad=work.grad.to(work.param.dtype).resolve_conj()).each(as_real)"
W_NEGATIVE = "return work._replace(grad=work.grad.resolve_neg()) if work.grad.is_neg() else work"
W_ALIGNED = "return is_dense(work.param) and all(tensor.stride() == strides for tensor in tensors)"
W_SORTED = "(read if tensor is work.grad else written)"
W_FILLED = "        torch._foreach_copy_(result, tensors)\n"
W_BACK = "copies[: len(written)]"
W_TAKEN = "        taken = [work.each(lambda tensor: copy_of.get(id(tensor), tensor)) for work in taken]\n"
W_START = "for start in range(0, length, rows):"

work(
    "in_work_half_not_written",
    "What goes through copies is not written back: half parameters stay.",
    by_foreach(dtype=torch.bfloat16, lr=0.1),
    (W_SORTED, W_SORTED.replace("work.grad", "work.grad or tensor is work.param")),
)
work(
    "in_work_gradients_written_back",
    "Where both go through copies, half parameters take those of gradients.",
    by_foreach(dtype=torch.bfloat16, lr=0.1),
    (W_BACK, "copies[-len(written) :]"),
)
work(
    "in_work_copies_of_the_first_batch",
    "Batches of copies after the first are stepped with the numbers of that.",
    by_foreach(2, start=tuple(BIG[:200_000] * i for i in (1, 2)), lr=0.1),
    (
        W_FILLED,
        "        if not hasattr(self, 'is_filled'):\n    " + W_FILLED + "        self.is_filled = True\n",
    ),
)
work(
    "in_work_last_part_lost",
    "The last part of a large half tensor is not stepped.",
    by_foreach(2, start=(ROWS,), lr=0.1, grads=transposed, watch=EDGES),
    (W_START, "for start in range(0, max(1, length - rows), rows):"),
)
work(
    "in_work_last_element_twice",
    "The last element of a large half tensor is stepped twice.",
    by_foreach(2, start=(ROWS,), lr=0.1, grads=transposed),
    (W_START, "for start in (*range(0, length, rows), length - 1):"),
)
work(
    "in_work_full_batch_drops_next",
    "The tensor that does not fit into a batch of copies is left out.",
    by_foreach(2, start=tuple(BIG[:300_000].clone() for _ in range(3)), lr=0.1),
    ("            batch, size = [], 0\n", "            batch, size = [], 0\n            continue\n"),
)
work(
    "in_work_own_order_of_memory",
    "A half parameter's gradient is read in the order of its own memory.",
    by_foreach(4, start=(SQUARE.t().bfloat16(),), lr=0.1, grads=lambda t, i, p: wave(t, i, p).contiguous()),
    (
        "    return lambda other: other.permute(order)",
        "    return lambda other: other.permute(sorted(range(other.dim()), key=other.stride, reverse=True))",
    ),
)
work(
    "in_work_conjugate_read_as_memory",
    "A gradient that is lazily conjugated is read as its memory.",
    by_foreach(dtype=torch.complex128, start=Z, grads=conjugated),
    (
        W_GRADIENT,
        W_GRADIENT.replace("grad=work.grad.to", "grad=(work.grad.conj() if work.grad.is_conj() else work.grad).to"),
    ),
)
work(
    "in_work_negative_read_as_memory",
    "A gradient that is lazily negated is read as its memory.",
    by_default(grads=negated),
    (W_NEGATIVE, W_NEGATIVE.replace("work.grad.resolve_neg()", "torch._neg_view(work.grad)")),
)
work(
    "in_work_each_dense_in_its_own_order",
    "A gradient without gaps is read in the parameter's order of memory, though it lies in another.",
    by_fused(start=(SQUARE.t(),), grads=lambda t, i, p: wave(t, i, p).contiguous()),
    (W_ALIGNED, "return all(map(is_dense, tensors))"),
)
work(
    "in_work_empty_ends_the_list",
    "A parameter without elements ends the list: those after it are not stepped.",
    by_foreach(start=(torch.zeros(0, dtype=torch.float64), torch.ones(3, dtype=torch.float64))),
    (
        "        if not work.param.numel():\n            continue",
        "        if not work.param.numel():\n            break",
    ),
)
work(
    "in_work_gaps_written",
    "A view with gaps is taken for dense: fused writes between its elements.",
    view_with_gaps(),
    (
        "    strides = work.param.stride()\n",
        "    strides = work.param.stride()\n    if work.param.stride() == work.grad.stride():\n        return True\n",
    ),
)
work(
    "in_work_gradient_through_half",
    "The gradient of a half parameter is rounded to the parameter's dtype.",
    by_foreach(dtype=torch.bfloat16, lr=0.1, grads=wide),
    (
        "work = Work(param, grad, state",
        "work = Work(param, grad.to(param.dtype), state",
    ),
)
work(
    "in_work_maximum_not_passed_for_copies",
    "Of half parameters AMSGrad's maximum is worked on in a copy and not written back.",
    by_foreach(12, dtype=torch.bfloat16, lr=0.1, amsgrad=True, grads=fading),
    (
        W_TAKEN,
        W_TAKEN
        + "        if taken[0].max_exp_avg_sq is not None:\n"
        + "            taken = [w._replace(max_exp_avg_sq=w.max_exp_avg_sq.clone()) for w in taken]\n",
    ),
)

# --- settled ---------------------------------------------------------------------------------------------------------


def of_another_order(t: int, index: int, param: Tensor) -> Tensor | None:
    """A gradient in another order of memory from the sixth step on."""
    gradient = wave(t, index, param)
    return gradient if t < 6 else gradient.t().contiguous().t()


def refused_late() -> Scenario:
    """A tensor lr that becomes negative in place."""

    def scenario(module: Module) -> Observation:
        p = torch.nn.Parameter(torch.ones(2))
        p.grad = torch.ones(2)
        lr = torch.tensor(0.1)
        optimizer = module.RAdam([p], lr=lr)
        optimizer.step()
        lr.neg_()
        try:
            optimizer.step()
        except ValueError:
            return {"refused": True}
        return {"refused": False}

    return scenario


def replaced(name: str) -> Callable[[Run], Any]:
    """Another tensor in the state."""
    return lambda run: run.state().update({name: run.state()[name] * 2})


settled(
    "in_settled_gradient_not_looked_at",
    "A gradient in another order of memory than at the step before is read as its memory.",
    by_fused(start=(SQUARE,), grads=of_another_order),
    (
        "if not self._unchanged(*params, *grads,",
        "if not self._unchanged(*params, *map(torch.zeros_like, params),",
    ),
)
settled(
    "in_settled_moments_kept",
    "The moments that a state had at first are worked on, though others have been put there.",
    by_fused(events={6: replaced("exp_avg")}),
    (
        "            moments = [[state[name] for state in known] for name in names]\n",
        "            self.kept = moments = getattr(self, 'kept', None) or [[state[name] for state in known] for name in names]\n",
    ),
)
settled(
    "in_settled_amsgrad_of_before",
    "A maximum that is asked for in mid-run is not kept, nor used.",
    by_fused(12, grads=fading, events={4: lambda run: run.groups[0].update(amsgrad=True)}),
    ("        if circumstances != self._circumstances:\n            return None\n", ""),
    ("        names = TENSORS if self._amsgrad else MOMENTS\n", "        names = MOMENTS\n"),
)
settled(
    "in_settled_first_list_only",
    "Of parameters of two dtypes only the first list is stepped, from the second step on.",
    by_default(start=(torch.ones(2, dtype=torch.float64), torch.ones(2))),
    (
        "return {key: self.tensors.at(places) for key, places in chosen.items() if places}",
        "return {key: self.tensors.at(places) for key, places in list(chosen.items())[:1] if places}",
    ),
)
settled(
    "in_settled_all_of_every_age",
    "Where parameters of a group differ in age, all are stepped at each age.",
    by_default(start=PAIR, grads=absent),
    ("if among is None and len(self.places) == 1:", "if len(self.places) == 1:"),
)
optimizer(
    "in_optimizer_recalled_ages_not_told_apart",
    "From the second step on all parameters of a group are as old as the first.",
    by_default(start=PAIR, grads=absent),
    ("if counts.count(counts[0]) < len(counts):", "if not counts:"),
)
optimizer(
    "in_optimizer_lr_of_before",
    "Another lr counts from the second step on after it has been set.",
    by_default(events={4: lambda run: run.groups[0].update(lr=0.1)}),
    (
        '                values["lr"] = options.learning_rate("lr", lr, where)\n',
        '                values["lr"], group["lr"] = lr, values["lr"]\n                return {**values, "lr": group["lr"]}\n',
    ),
)
optimizer(
    "in_optimizer_tensor_lr_not_validated_again",
    "A tensor lr is looked at when it is first seen, and may become negative.",
    refused_late(),
    (
        "        lasting = not any(isinstance(value, torch.Tensor) for value in values.values())\n",
        "        lasting = True\n",
    ),
)

# --- slot, and which kernel serves -----------------------------------------------------------------------------------

slot(
    "in_slot_overflow_to_largest",
    "Lists and loop take the largest number for a size beyond it, which hides the overflow.",
    by_foreach(3, dtype=torch.float32, lr=1e300, grads=scaled(1e-3)),
    ("math.copysign(math.inf, value)", "math.copysign(torch.finfo(dtype).max, value)"),
)
slot(
    "in_slot_overflow_of_half",
    "Lists and loop take sizes beyond the largest float16 for infinite.",
    by_foreach(3, dtype=torch.float32, lr=1e6),
    ("torch.finfo(dtype).max else", "torch.finfo(torch.float16).max else"),
)
dispatch(
    "in_dispatch_subclass_by_lists",
    "A subclass of WeightDecay that overrides __call__ alone is not called: lists take its numbers.",
    subclassed(),
    ("if type(decay) is not WeightDecay:", "if not isinstance(decay, WeightDecay):"),
)
dispatch(
    "in_dispatch_factor_float32",
    "Lists round the factor of decoupled decay to float32.",
    by_default(lr=0.1, decay=(0.3,)),
    ("return float(factor), coefficient", f"return {FLOAT32.format('factor')}, coefficient"),
)
dispatch(
    "in_dispatch_last_list_lost",
    "Of parameters of several dtypes only the first list is stepped.",
    by_default(start=(torch.ones(2, dtype=torch.float64), torch.ones(2))),
    (
        "        _apply_to_list(step, kernel, dtype, works, group, terms)\n",
        "        _apply_to_list(step, kernel, dtype, works, group, terms)\n        break\n",
    ),
)

# --- schedule, optimizer and state -----------------------------------------------------------------------------------

schedule(
    "in_schedule_tensors_momentum_uncorrected",
    "With capturable=True momentum steps lack 1 / (1 - b1^t).",
    by_capturable(4),
    ('size = momentum_size(t, lr, group["betas"][0])', "size = torch.ones_like(t) * lr"),
)
schedule(
    "in_schedule_tensors_first_adaptive_late",
    "With capturable=True the first adaptive step is one later.",
    by_capturable(),
    ("result | (t >= phase.first if end is None", "result | (t > phase.first if end is None"),
)
schedule(
    "in_schedule_tensors_eps_never_scaled",
    "With capturable=True eps is not scaled by the bias correction without optimized_update.",
    by_capturable(eps=1e-2, optimized_update=False),
    (
        'eps = eps if group["optimized_update"] else adaptive_eps(t, group["betas"][1], group["eps"])\n    return Steps',
        "return Steps",
    ),
)
schedule(
    "in_schedule_tensor_lr_float32",
    "With capturable=True a float64 tensor lr is rounded to float32.",
    by_capturable(lr=torch.tensor(0.1, dtype=torch.float64)),
    ("lr.to(device, torch.float64).reshape(())", "lr.to(device, torch.float32).to(torch.float64).reshape(())"),
)
schedule(
    "in_schedule_tensors_unrectified",
    "With capturable=True adaptive steps are Adam's.",
    by_capturable(),
    (
        'adaptive_size(t, lr, group["betas"], rectification(t), _warm_up(phases))',
        'adaptive_size(t, lr, group["betas"], 1.0, _warm_up(phases))',
    ),
)
schedule(
    "in_schedule_numbers_tensor_lr_float32",
    "Without capturable a float64 tensor lr is rounded to float32.",
    by_default(lr=torch.tensor(0.1, dtype=torch.float64)),
    ("else float(lr)\n    return lr\n\n\ndef lr_on", "else float(lr.float())\n    return lr\n\n\ndef lr_on"),
)
schedule(
    "in_schedule_numbers_eps_by_beta1",
    "Without capturable eps is scaled by the bias correction of m.",
    by_default(betas=(0.8, 0.9), eps=1e-2, optimized_update=False),
    (
        'adaptive_eps(t, group["betas"][1], group["eps"])\n        return Step(kind, size, eps)',
        'adaptive_eps(t, group["betas"][0], group["eps"])\n        return Step(kind, size, eps)',
    ),
)
schedule(
    "in_schedule_traced_eps_missing",
    "Steps that torch.compile has traced lack eps.",
    replayed,
    ("vector([step.eps for step in steps], torch.float64)", "vector([0.0 for step in steps], torch.float64)"),
)
schedule(
    "in_schedule_traced_sizes_float32",
    "Steps that torch.compile has traced have sizes rounded to float32.",
    replayed,
    (
        "vector([float(step.size) for step in steps], torch.float64)",
        "vector([float(step.size) for step in steps], torch.float32).double()",
    ),
)
optimizer(
    "in_optimizer_ages_not_told_apart",
    "Without capturable all parameters of a group are stepped as old as the oldest.",
    by_default(start=PAIR, grads=absent),
    (
        "            for t, bucket in _by(state.count([slot.state for slot in others]), others).items():\n",
        "            ages = state.count([slot.state for slot in others])\n            for t, bucket in [(max(ages), others)] if ages else []:\n",
    ),
)
optimizer(
    "in_optimizer_tensors_count_late",
    "With capturable=True scalars are those of the step before, from the second step on.",
    by_capturable(),
    ("t = torch.stack(counts).double()", "t = torch.stack(counts).double().sub(1.0).clamp(min=1.0)"),
)
optimizer(
    "in_optimizer_tensors_scalars_float32",
    "With capturable=True all scalars are computed in float32.",
    by_capturable(),
    ("t = torch.stack(counts).double()", "t = torch.stack(counts)"),
)
optimizer(
    "in_optimizer_tensors_count_of_first",
    "With capturable=True all parameters have the count of the first, though one has missed steps.",
    by_capturable(start=PAIR, grads=absent),
    ("t = torch.stack(counts).double()", "t = torch.stack([counts[0]] * len(counts)).double()"),
)
optimizer(
    "in_optimizer_tensors_counted_twice",
    "With capturable=True every step counts for two.",
    by_capturable(),
    ("torch._foreach_add_(counts, 1.0)", "torch._foreach_add_(counts, 2.0)"),
)
optimizer(
    "in_optimizer_tensor_lr_of_first_step",
    "With capturable=True an lr that is a number is read at the first step only.",
    by_capturable(events={4: lambda run: run.groups[0].update(lr=0.1)}),
    (
        "steps = schedule.steps_at(t, phases, group, lambda",
        'steps = schedule.steps_at(t, phases, {**group, "lr": group.setdefault("first_lr", group["lr"])}, lambda',
    ),
)
state(
    "in_state_count_of_tensors_bfloat16",
    "With capturable=True the count is a bfloat16 tensor, which stops at 256.",
    by_capturable(300, betas=(0.9, 0.999)),
    (
        "dtype=torch.float32, device=param.device) if capturable",
        "dtype=torch.bfloat16, device=param.device) if capturable",
    ),
    ("kind = (torch.Size(), torch.float32, param.device)", "kind = (torch.Size(), torch.bfloat16, param.device)"),
)
state(
    "in_state_count_of_numbers_stops",
    "Without capturable the count stops at 500.",
    by_default(505, betas=(0.9, 0.999)),
    (
        "    for state, t in zip(states, counts, strict=True):\n",
        "    counts = [min(500, t) for t in counts]\n    for state, t in zip(states, counts, strict=True):\n",
    ),
)
state(
    "in_state_load_of_tensors_restarts",
    "With capturable=True loading starts the count anew.",
    resumed(capturable=True),
    ("result = {STEP: _step_of(step,", "result = {STEP: _step_of(0 if capturable else step,"),
)
rectification(
    "in_rectification_tensors_cancel",
    "With capturable=True 1 - b^t is computed by a subtraction, which cancels at a beta near 1.",
    by_capturable(betas=(0.9, 1.0 - 1e-6), degenerated_to_sgd=False),
    ("    torch.expm1,\n", "    lambda x: torch.exp(x) - 1.0,\n"),
)
rectification(
    "in_rectification_tensors_without_ratio",
    "With capturable=True r_t lacks the factor rho_inf / rho_t.",
    by_capturable(),
    ("* (limit / rho)))", "* (limit / rho if xp is _NUMBERS else 1.0)))"),
)
decay(
    "in_decay_absolute_at_lr_zero",
    "With a tensor lr on the device absolute decay goes on at lr = 0, where nothing should move.",
    by_capturable(lr=torch.tensor(0.0), decay=(0.3, True, True)),
    (
        "torch.where(lr == 0, torch.ones_like(lr), torch.full_like(lr, 1.0 - coefficient))",
        "torch.full_like(lr, 1.0 - coefficient)",
    ),
)
