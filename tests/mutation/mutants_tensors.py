"""Mutants of what happens to tensors: gradients, layouts, dtypes, complex numbers, memory."""

# Edits quote source text, which reads better unbroken.
# ruff: noqa: E501

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.mutation.mutant import Module, Mutant, Observation, Run, Scenario, adding, drive, scaled, wave
from tests.mutation.mutants_numbers import (
    ADAPT,
    DECAY,
    DENOMINATOR,
    END,
    FLIP,
    INCREMENT,
    KEEP_MAX,
    PLAIN,
    STATE,
    M,
    V,
)

MUTANTS: list[Mutant] = []


loop = adding(MUTANTS, "right_loop")
foreach = adding(MUTANTS, "right_foreach")

LOOK = "                    if grad is None:\n                        continue\n"
STEP_ONE = "self._step_one(p, grad, group)\n        return loss"
PLAIN_GRAD = "g = as_real(grad.to(p.dtype))"
PLAIN_WORK = "work = as_real(p)\n"
HALF_GRAD = "g = grad.to(torch.float32)"
SPARSE = '                        raise RuntimeError("RAdam does not support sparse gradients")\n'
ENTER = "            state = self.state[p]\n            if not state:"


def kept_gradients(run: Run) -> None:
    """The gradients as the optimizer leaves them."""
    for index, p in enumerate(run.params):
        run.notes[f"grad {index}"] = None if p.grad is None else p.grad.clone()


def with_gradients(**hyper: Any) -> Scenario:
    return drive(8, watch=kept_gradients, **hyper)


# --- gradient handling -----------------------------------------------------------------------------------------------

loop(
    "maximize_in_place",
    "gradient handling",
    "maximize negates .grad itself.",
    with_gradients(maximize=True),
    (FLIP, FLIP.replace("g = -g", "g = g.neg_()")),
)
loop(
    "l2_in_place",
    "gradient handling",
    "The L2 term is added to .grad itself.",
    with_gradients(lr=0.1, decay=(0.1, False)),
    ("return grad + coefficient * param", "return grad.add_(param, alpha=coefficient)"),
)
foreach(
    "foreach_maximize_in_place",
    "gradient handling",
    "maximize negates .grad itself.",
    with_gradients(maximize=True),
    ("grads = torch._foreach_neg(grads)", "torch._foreach_neg_(grads)"),
)
foreach(
    "foreach_l2_in_place",
    "gradient handling",
    "The L2 term is added to .grad itself.",
    with_gradients(lr=0.1, decay=(0.1, False)),
    ("grads = torch._foreach_add(grads, params, alpha=penalty)", "torch._foreach_add_(grads, params, alpha=penalty)"),
)
loop(
    "grad_set_to_none",
    "gradient handling",
    "step() removes .grad.",
    with_gradients(),
    (STEP_ONE, "self._step_one(p, grad, group)\n                    p.grad = None\n        return loss"),
)
loop(
    "grad_zeroed",
    "gradient handling",
    "step() zeroes .grad.",
    with_gradients(),
    (STEP_ONE, "self._step_one(p, grad, group)\n                    grad.zero_()\n        return loss"),
)
loop(
    "grad_replaced_by_update",
    "gradient handling",
    "step() leaves the momentum in .grad.",
    with_gradients(),
    (INCREMENT, INCREMENT + "\n        if not p.is_complex() and p.dtype not in HALF:\n            grad.copy_(m)"),
)
loop(
    "frozen_parameters_skipped",
    "gradient handling",
    "A parameter with requires_grad=False is skipped, gradient or not.",
    drive(events={4: lambda run: run.params[0].requires_grad_(False)}),
    (LOOK, LOOK.replace("grad is None", "grad is None or not p.requires_grad")),
)
loop(
    "zero_gradients_skipped",
    "gradient handling",
    "A gradient that is zero throughout is taken for none.",
    drive(grads=lambda t, i, p: wave(t, i, p) * (t % 3 != 0)),
    (LOOK, LOOK.replace("grad is None", "grad is None or not grad.any()")),
)
loop(
    "none_taken_for_zero",
    "gradient handling",
    "A parameter without a gradient is stepped with zeros.",
    drive(start=((1.0, 2.0), (0.5,)), grads=lambda t, i, p: None if i == 1 and t > 3 else wave(t, i, p)),
    (LOOK, "                    if grad is None:\n                        grad = torch.zeros_like(p)\n"),
)
loop(
    "none_still_decays",
    "gradient handling",
    "A parameter without a gradient is decayed.",
    drive(lr=0.1, decay=(0.1,), grads=lambda t, i, p: None if t > 3 else wave(t, i, p)),
    (
        LOOK,
        "                    if grad is None:\n                        self.weight_decay(p, p, group)\n                        continue\n",
    ),
)
loop(
    "none_creates_state",
    "gradient handling",
    "A parameter without a gradient gets its state.",
    drive(3, start=((1.0, 2.0), (0.5,)), grads=lambda t, i, p: None if i == 1 else wave(t, i, p)),
    (
        LOOK,
        LOOK.replace(
            "                        continue",
            "                        self._state(p, group)\n                        continue",
        ),
    ),
)
loop(
    "none_ends_the_group",
    "gradient handling",
    "The first parameter without a gradient ends its group.",
    drive(3, start=((1.0, 2.0), (0.5,)), grads=lambda t, i, p: None if i == 0 else wave(t, i, p)),
    (LOOK, LOOK.replace("continue", "break")),
)
loop(
    "nan_to_zero",
    "gradient handling",
    "NaN gradients become zero.",
    drive(grads=lambda t, i, p: wave(t, i, p) * (float("nan") if t == 3 else 1.0)),
    (DECAY, DECAY + "\n        g = g.nan_to_num(nan=0.0, posinf=float('inf'), neginf=float('-inf'))"),
)
loop(
    "inf_to_largest",
    "gradient handling",
    "Infinite gradients become the largest finite number.",
    drive(3, grads=lambda t, i, p: wave(t, i, p) * (float("inf") if t == 3 else 1.0)),
    (DECAY, DECAY + "\n        g = g.clamp(min=torch.finfo(g.dtype).min, max=torch.finfo(g.dtype).max)"),
)
loop(
    "step_with_nan_skipped",
    "gradient handling",
    "A gradient with a NaN in it is skipped.",
    drive(grads=lambda t, i, p: wave(t, i, p) * (float("nan") if t == 3 else 1.0)),
    (LOOK, LOOK.replace("grad is None", "grad is None or bool(grad.isnan().any())")),
)
loop(
    "gradient_clipped",
    "gradient handling",
    "Gradients are clipped at 1e4.",
    drive(grads=scaled(1e5)),
    (DECAY, DECAY + "\n        g = g.clamp(-1e4, 1e4)"),
)
loop(
    "gradient_norm_clipped",
    "gradient handling",
    "A gradient longer than 100 is shortened to that.",
    drive(grads=scaled(1e3)),
    (
        DECAY,
        DECAY
        + "\n        g = g * min(1.0, 100.0 / max(float(g.norm()), 1e-30)) if g.numel() and bool(g.isfinite().all()) else g",
    ),
)
loop(
    "gradient_centralized",
    "gradient handling",
    "Gradients of matrices lose their mean (GC).",
    drive(start=(torch.ones(2, 3, dtype=torch.float64),)),
    (DECAY, DECAY + "\n        if g.dim() == 2:\n            g = g - g.mean(dim=1, keepdim=True)"),
)
loop(
    "gradient_of_first_for_all",
    "gradient handling",
    "The gradient of the first parameter serves all of its shape.",
    drive(start=((1.0, 2.0), (0.5, 1.0))),
    (
        "                    grad = p.grad\n",
        '                    first = group["params"][0]\n                    grad = first.grad if p.grad is not None and first.grad is not None and p.shape == first.shape else p.grad\n',
    ),
)
loop(
    "gradient_kept_as_momentum",
    "gradient handling",
    "With beta1 = 0 the momentum is the gradient tensor itself, not a copy.",
    drive(3, betas=(0.0, 0.999), watch=lambda run: run.params[0].grad.zero_()),
    (M, M + '\n            if beta1 == 0.0 and g is grad:\n                state["exp_avg"] = m = g'),
)


def sparse(module: Module) -> Observation:
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.tensor([0.0, 1.0, 0.0]).to_sparse()
    optimizer = module.RAdam([p], lr=0.1, weight_decay=module.WeightDecay(0.1))
    seen: Observation = {}
    try:
        optimizer.step()
    except Exception as error:
        seen["error"] = type(error).__name__
        seen["says so"] = "sparse" in str(error)
    return {**seen, "param": p.detach().clone(), "state": sorted(optimizer.state.get(p, {}))}


loop(
    "sparse_densified",
    "gradient handling",
    "A sparse gradient is made dense without a word.",
    sparse,
    (SPARSE, "                        p.grad = p.grad.to_dense()\n"),
)
loop(
    "sparse_skipped",
    "gradient handling",
    "A parameter with a sparse gradient is skipped without a word.",
    sparse,
    (SPARSE, "                        p.grad = None\n"),
)
loop(
    "sparse_after_state",
    "gradient handling",
    "The state exists before a sparse gradient is refused.",
    sparse,
    (SPARSE, "                        self._state(p, group)\n" + SPARSE),
)
loop(
    "sparse_after_decay",
    "gradient handling",
    "The parameter is decayed before a sparse gradient is refused.",
    sparse,
    (SPARSE, "                        self.weight_decay(p, p.detach(), group)\n" + SPARSE),
)
loop(
    "sparse_unnamed",
    "gradient handling",
    "The refusal of a sparse gradient does not say sparse.",
    sparse,
    (SPARSE, SPARSE.replace("does not support sparse gradients", "cannot be used here")),
)


def version(module: Module) -> Observation:
    """Autograd notices a step between forward and backward by the version counter."""
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = module.RAdam([p])
    before = p._version
    optimizer.step()
    return {"noticed": p._version > before}


loop(
    "version_not_bumped",
    "gradient handling",
    "The parameter is written through .data, past autograd's version counter.",
    version,
    (PLAIN_WORK, "work = as_real(p.data)\n"),
)


def hooks(module: Module) -> Observation:
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = module.RAdam([p])
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    optimizer.step()
    return {"calls": calls}


loop(
    "hooks_bypassed",
    "gradient handling",
    "Step hooks are not called.",
    hooks,
    (
        "        super().__init__(params, values)\n",
        '        super().__init__(params, values)\n        unhooked = type(self).step\n        unhooked = getattr(unhooked, "__wrapped__", unhooked)\n        self.step = unhooked.__get__(self)\n',
    ),
)


def gradient_through(module: Module) -> Observation:
    """The derivative of a step with respect to the parameter, the gradient and the state."""
    p0 = torch.tensor([0.5, -1.0], dtype=torch.float64, requires_grad=True)
    g0 = torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True)
    m0 = torch.tensor([0.1, -0.2], dtype=torch.float64, requires_grad=True)
    v0 = torch.tensor([0.2, 0.4], dtype=torch.float64, requires_grad=True)
    p = p0.clone()
    p.grad = g0
    optimizer = module.RAdam([p], lr=0.1, differentiable=True, weight_decay=module.WeightDecay(0.1))
    one = torch.tensor(9.0) if hasattr(module, "HALF") else 9
    optimizer.state[p].update(step=one, exp_avg=m0.clone(), exp_avg_sq=v0.clone())
    optimizer.step()
    leaves = (p0, g0, m0, v0)
    slopes = torch.autograd.grad(p.sum(), leaves, allow_unused=True)
    return dict(zip("pgmv", slopes, strict=True))


loop(
    "differentiable_gradient_detached",
    "gradient handling",
    "With differentiable=True nothing flows back into the gradient.",
    gradient_through,
    (PLAIN_GRAD, "g = as_real(grad.detach().to(p.dtype))"),
)
loop(
    "differentiable_root_detached",
    "gradient handling",
    "With differentiable=True nothing flows back through the denominator.",
    gradient_through,
    (DENOMINATOR, "denominator = s.detach().sqrt() + e"),
)
foreach(
    "single_differentiable_detached",
    "gradient handling",
    "With differentiable=True the update is detached.",
    gradient_through,
    (
        "            x = x - lr * r / bias1 * (m / (root + eps))",
        "            x = x - (lr * r / bias1 * (m / (root + eps))).detach()",
    ),
)

# --- layout ----------------------------------------------------------------------------------------------------------

SQUARE_T = drive(start=(torch.arange(9.0, dtype=torch.float64).reshape(3, 3),), grads=lambda t, i, p: wave(t, i, p).t())
STRIDED = drive(start=(torch.arange(8.0, dtype=torch.float64).reshape(4, 2).t(),))


def in_view(module: Module) -> Observation:
    """The parameter is every second element of a buffer; the rest belongs to someone else."""
    buffer = torch.arange(10.0, dtype=torch.float64)
    p = torch.nn.Parameter(buffer[1:9:2])
    optimizer = module.RAdam([p], lr=0.1, weight_decay=module.WeightDecay(0.1))
    for t in range(1, 9):
        p.grad = wave(t, 0, p)
        optimizer.step()
    return {"buffer": buffer.clone()}


def expanded(t: int, index: int, param: Tensor) -> Tensor:
    return wave(t, index, torch.zeros((), dtype=param.dtype)).expand(param.shape)


def sized(n: int, dtype: torch.dtype = torch.float64, steps: int = 7) -> Scenario:
    return drive(steps, start=(torch.zeros(n, dtype=dtype),))


CHANNELS = torch.arange(24.0, dtype=torch.float64).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
SCALAR = drive(start=(torch.tensor(0.5, dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)))

loop(
    "contiguous_copy_lost",
    "layout",
    "A strided parameter is updated in a contiguous copy that nobody writes back.",
    in_view,
    (PLAIN_WORK, "work = as_real(p).contiguous()\n"),
)
loop(
    "strided_parameter_skipped",
    "layout",
    "A parameter that is not contiguous is skipped.",
    in_view,
    (LOOK, LOOK.replace("grad is None", "grad is None or not p.is_contiguous()")),
)
loop(
    "decay_in_lost_copy",
    "layout",
    "Decay of a strided parameter goes into a copy.",
    in_view,
    ("param.mul_(factor)", "param.contiguous().mul_(factor)"),
)
loop(
    "gradient_in_memory_order",
    "layout",
    "A transposed gradient is read in the order of its memory.",
    SQUARE_T,
    (
        DECAY,
        "g = g.t() if g.dim() == 2 and g.shape[0] == g.shape[1] and g.is_contiguous() != work.is_contiguous() else g\n        "
        + DECAY,
    ),
)
loop(
    "gradient_with_strides_of_parameter",
    "layout",
    "The gradient is read with the parameter's strides.",
    drive(start=(torch.arange(12.0, dtype=torch.float64).reshape(3, 4).t(),)),
    (
        DECAY,
        "if g.numel() and g.dim() == 2 and g.is_contiguous():\n            g = g.flatten().as_strided(work.shape, work.stride()) if work.t().is_contiguous() else g\n        "
        + DECAY,
    ),
)
loop(
    "momentum_flattened",
    "layout",
    "The state of a permuted parameter is read in memory order.",
    STRIDED,
    (
        ADAPT,
        "if work.dim() == 2 and not work.is_contiguous():\n                m = m.t().contiguous().view(m.shape)\n            "
        + ADAPT,
    ),
)
loop(
    "channels_last_reordered",
    "layout",
    "The gradient of a channels-last parameter is taken channel by channel.",
    drive(start=(CHANNELS,)),
    (
        DECAY,
        "if work.dim() == 4 and not work.is_contiguous():\n            g = g.permute(0, 2, 3, 1).reshape(g.shape)\n        "
        + DECAY,
    ),
)
loop(
    "writes_beyond_view",
    "layout",
    "Decay shrinks the whole storage that the parameter lies in.",
    in_view,
    (
        "param.mul_(factor)",
        "storage = param.untyped_storage().nbytes() // param.element_size()\n        param.as_strided((storage,), (1,), 0).mul_(factor)",
    ),
)
loop(
    "update_beyond_view",
    "layout",
    "The elements between those of a strided parameter are zeroed.",
    in_view,
    (
        END,
        "        if p.dim() == 1 and p.numel() > 1 and p.stride(0) == 2:\n            p.as_strided((p.numel() - 1,), (2,), p.storage_offset() + 1).zero_()\n"
        + END,
    ),
)
loop(
    "expanded_gradient_averaged",
    "layout",
    "An expanded gradient is divided by the number of its elements.",
    drive(grads=expanded),
    (DECAY, "if g.dim() and g.numel() > 1 and not any(g.stride()):\n            g = g / g.numel()\n        " + DECAY),
)
loop(
    "expanded_gradient_first_only",
    "layout",
    "Of an expanded gradient only the first element is used.",
    drive(grads=expanded),
    (
        DECAY,
        "if g.dim() == 1 and g.numel() > 1 and g.stride(0) == 0:\n            g = torch.cat([g[:1], torch.zeros_like(g[1:])])\n        "
        + DECAY,
    ),
)
loop(
    "expanded_gradient_crash",
    "layout",
    "An expanded gradient is viewed as a flat tensor, which it is not.",
    drive(
        start=(torch.zeros(2, 2, dtype=torch.float64),),
        grads=lambda t, i, p: wave(t, i, p[0]).unsqueeze(1).expand(2, 2),
    ),
    (DECAY, "g = g.view(-1).view(work.shape)\n        " + DECAY),
)
loop(
    "tail_of_large_skipped",
    "layout",
    "Beyond 65536 elements a tensor is not stepped.",
    sized(65537),
    (
        ADAPT,
        "if work.dim() == 1 and work.numel() > 65536:\n                work[:65536].addcdiv_(m[:65536], denominator[:65536], value=-size)\n            else:\n                "
        + ADAPT,
    ),
)
loop(
    "remainder_of_vector_skipped",
    "layout",
    "The elements after the last whole block of 16 are not stepped.",
    sized(37),
    (
        ADAPT,
        "whole = work.numel() // 16 * 16 if work.dim() == 1 and work.numel() > 16 else 0\n            if whole:\n                work[:whole].addcdiv_(m[:whole], denominator[:whole], value=-size)\n            else:\n                "
        + ADAPT,
    ),
)
loop(
    "moments_of_large_not_decayed",
    "layout",
    "v of a tensor with more than 10000 elements keeps its last element.",
    sized(10001),
    (
        V,
        "last = v[-1].clone() if v.dim() == 1 and v.numel() > 10000 and state['step'] else None\n            "
        + V
        + "\n            if last is not None:\n                v[-1].copy_(last)",
    ),
)
loop(
    "scalar_skipped",
    "layout",
    "A 0-dim parameter is not stepped.",
    SCALAR,
    (LOOK, LOOK.replace("grad is None", "grad is None or p.dim() == 0")),
)
loop(
    "scalar_momentum_lost",
    "layout",
    "The state of a 0-dim parameter is not kept.",
    SCALAR,
    (
        INCREMENT,
        INCREMENT + '\n        if p.dim() == 0:\n            state["exp_avg"] = torch.zeros_like(state["exp_avg"])',
    ),
)
loop(
    "scalar_state_of_one_dim",
    "layout",
    "The state of a 0-dim parameter has one dimension.",
    SCALAR,
    (
        'state["exp_avg"] = torch.zeros_like(p, dtype=dtype)',
        'state["exp_avg"] = torch.zeros_like(p, dtype=dtype).reshape(p.shape or (1,))',
    ),
)
loop(
    "empty_crash",
    "layout",
    "A parameter without elements is an error.",
    drive(start=(torch.zeros(0, 3, dtype=torch.float64), torch.ones(2, dtype=torch.float64))),
    (DECAY, "g.abs().max()\n        " + DECAY),
)
loop(
    "empty_ends_the_step",
    "layout",
    "A parameter without elements ends the step.",
    drive(start=(torch.zeros(0, dtype=torch.float64), torch.ones(2, dtype=torch.float64))),
    (LOOK, LOOK + "                    if not p.numel():\n                        break\n"),
)
loop(
    "large_dimensions_transposed",
    "layout",
    "Matrices wider than tall get their moments transposed in the update.",
    drive(start=(torch.zeros(2, 3, dtype=torch.float64),)),
    (
        ADAPT,
        "if work.dim() == 2 and work.shape[1] > work.shape[0]:\n                m = m.t().reshape(m.shape)\n            "
        + ADAPT,
    ),
)
foreach(
    "foreach_strided_lost",
    "layout",
    "Strided parameters are updated in contiguous copies.",
    in_view,
    ("params = [item.param for item in items]", "params = [item.param.contiguous() for item in items]"),
)
foreach(
    "foreach_scalars_dropped",
    "layout",
    "0-dim parameters are left out of the lists.",
    SCALAR,
    ("plain = p.dtype in", "if p.dim() == 0:\n                continue\n            plain = p.dtype in"),
)
foreach(
    "foreach_expanded_dropped",
    "layout",
    "Parameters with an expanded gradient are left out.",
    drive(grads=expanded),
    (
        "plain = p.dtype in",
        "if p.grad.numel() > 1 and not any(p.grad.stride()):\n                continue\n            plain = p.dtype in",
    ),
)

# --- dtype -----------------------------------------------------------------------------------------------------------

BF16 = drive(40, dtype=torch.bfloat16, lr=0.05)
FP16 = drive(40, dtype=torch.float16, lr=0.05)
BF16_DECAY = drive(40, dtype=torch.bfloat16, lr=0.05, decay=(0.3,), start=([0.1 * i + 0.37 for i in range(40)],))
BF16_NEAR_ZERO = drive(20, dtype=torch.bfloat16, lr=0.05, start=([0.001 * i for i in range(-30, 30)],))
FP16_TINY = drive(10, dtype=torch.float16, grads=scaled(1e-5), start=((0.0, 0.0, 0.0),))
WIDE_GRAD = drive(20, dtype=torch.bfloat16, lr=0.05, grads=lambda t, i, p: wave(t, i, p.double()).float())
STATE_DTYPE = "dtype = torch.float32 if p.dtype in HALF else p.dtype"
HALF_END = "        if p.dtype in HALF:\n            p.copy_(work)\n"

loop(
    "float64_in_float32",
    "dtype",
    "float64 parameters keep float32 moments.",
    PLAIN,
    (STATE_DTYPE, STATE_DTYPE.replace("p.dtype in HALF", "p.dtype in HALF or p.dtype == torch.float64")),
)
loop(
    "float64_gradient_in_float32",
    "dtype",
    "float64 gradients pass through float32.",
    PLAIN,
    (PLAIN_GRAD, "g = as_real(grad.to(torch.float32 if p.dtype == torch.float64 else p.dtype).to(p.dtype))"),
)
loop(
    "half_moments",
    "dtype",
    "Half parameters keep their moments in half precision.",
    BF16,
    (STATE_DTYPE, "dtype = p.dtype"),
)
loop(
    "half_moments_rounded",
    "dtype",
    "The float32 moments of half parameters are rounded to the parameter's dtype at every step.",
    BF16,
    (
        INCREMENT,
        INCREMENT
        + "\n        if p.dtype in HALF:\n            m.copy_(m.to(p.dtype))\n            v.copy_(v.to(p.dtype))",
    ),
)
loop(
    "half_rounded_twice",
    "dtype",
    "A half parameter is rounded after its decay and again after its update.",
    BF16_DECAY,
    (DECAY, DECAY + "\n        if p.dtype in HALF:\n            work = work.to(p.dtype).to(torch.float32)"),
)
loop(
    "half_gradient_rounded",
    "dtype",
    "The float32 gradient of a half parameter is rounded to half first.",
    WIDE_GRAD,
    (HALF_GRAD, "g = grad.to(p.dtype).to(torch.float32)"),
)
loop(
    "half_update_rounded",
    "dtype",
    "The update of a half parameter is rounded to half before it is subtracted.",
    BF16_NEAR_ZERO,
    (
        ADAPT,
        "if p.dtype in HALF:\n                work.sub_((m / denominator * size).to(p.dtype).to(torch.float32))\n            else:\n                "
        + ADAPT,
    ),
)
loop(
    "half_truncated",
    "dtype",
    "bfloat16 parameters are truncated, not rounded.",
    BF16,
    (
        HALF_END,
        "        if p.dtype is torch.bfloat16:\n            work = (work.view(torch.int32) & -65536).view(torch.float32)\n"
        + HALF_END,
    ),
)
loop(
    "float16_eps_rounded",
    "dtype",
    "eps is rounded to float16 for float16 parameters.",
    drive(10, dtype=torch.float16, eps=1e-7, grads=scaled(1e-6), start=((0.0, 0.0),), lr=0.1),
    (
        DENOMINATOR,
        "e = float(torch.tensor(e, dtype=p.dtype)) if p.dtype == torch.float16 else e\n            " + DENOMINATOR,
    ),
)
loop(
    "float16_v_underflow",
    "dtype",
    "The square of a float16 gradient is taken in float16.",
    FP16_TINY,
    (
        V,
        "square = (g.to(p.dtype) * g.to(p.dtype)).to(g.dtype) if p.dtype in HALF else g * g\n            v.mul_(beta2).add_(square, alpha=1.0 - beta2)",
    ),
)
loop(
    "float16_skipped",
    "dtype",
    "float16 parameters are not stepped.",
    FP16,
    (LOOK, LOOK.replace("grad is None", "grad is None or p.dtype == torch.float16")),
)
loop(
    "half_decay_skipped",
    "dtype",
    "Decoupled decay of a half parameter goes to a copy.",
    BF16_DECAY,
    (DECAY, "g = self.weight_decay(work.clone() if p.dtype in HALF else work, g, group)"),
)
loop(
    "half_decay_in_half",
    "dtype",
    "Decay multiplies the half parameter itself: one rounding of its own.",
    BF16_DECAY,
    (
        DECAY,
        "if p.dtype in HALF:\n            g = self.weight_decay(p, g, group)\n            work = p.to(torch.float32)\n        else:\n            g = self.weight_decay(work, g, group)",
    ),
)
loop(
    "half_hold_loses_decay",
    "dtype",
    "A held half parameter is not written back, so its decay is lost.",
    drive(5, dtype=torch.bfloat16, lr=0.5, decay=(0.3,), degenerated_to_sgd=False),
    (HALF_END, HALF_END.replace("in HALF:", 'in HALF and (r is not None or group["degenerated_to_sgd"]):')),
)
loop(
    "other_dtype_gradient_crash",
    "dtype",
    "A gradient of another dtype is an error.",
    WIDE_GRAD,
    (
        STATE,
        'if grad.dtype != p.dtype:\n            raise RuntimeError(f"expected {p.dtype}, got {grad.dtype}")\n        '
        + STATE,
    ),
)
loop(
    "other_dtype_gradient_skipped",
    "dtype",
    "A gradient of another dtype is skipped.",
    WIDE_GRAD,
    (LOOK, LOOK.replace("grad is None", "grad is None or grad.dtype != p.dtype")),
)
loop(
    "other_dtype_gradient_through_float16",
    "dtype",
    "A wider gradient of a float32 parameter passes through float16.",
    drive(dtype=torch.float32, grads=lambda t, i, p: wave(t, i, p.double())),
    (PLAIN_GRAD, "g = as_real((grad.half() if grad.dtype != p.dtype else grad).to(p.dtype))"),
)
foreach(
    "single_half_rounded_twice",
    "dtype",
    "A half parameter is rounded after its decay and again after its update.",
    BF16_DECAY,
    (
        'g = self.weight_decay(x, -g if group["maximize"] else g, group)',
        'g = self.weight_decay(x, -g if group["maximize"] else g, group)\n        x = x.to(p.dtype).to(x.dtype)',
    ),
)
foreach(
    "foreach_half_moments",
    "dtype",
    "bfloat16 parameters keep bfloat16 moments.",
    BF16,
    (
        "return torch.float32 if p.dtype in (torch.bfloat16, torch.half) else p.dtype",
        "return torch.float32 if p.dtype is torch.half else p.dtype",
    ),
)
foreach(
    "foreach_mixed_dtypes_by_first",
    "dtype",
    "Gradients take the dtype of the group's first parameter on their way.",
    drive(start=(torch.ones(2), torch.ones(2, dtype=torch.float64))),
    ("p.grad.to(p.dtype)", 'p.grad.to(group["params"][0].dtype).to(p.dtype)'),
)

# --- complex ---------------------------------------------------------------------------------------------------------

COMPLEX = drive(dtype=torch.complex128, start=((0.0 + 1.0j, -1.0 + 0.5j, 2.0 - 1.0j),), lr=0.1)
COMPLEX_AMS = drive(
    12,
    dtype=torch.complex128,
    start=((0.0 + 1.0j, -1.0 + 0.5j),),
    lr=0.1,
    amsgrad=True,
    betas=(0.9, 0.9),
    grads=lambda t, i, p: wave(t, i, p) * (10.0 if t == 2 else 0.1),
)

loop(
    "complex_modulus",
    "complex",
    "Real and imaginary part share v = |g|^2.",
    COMPLEX,
    (
        V,
        "square = (g * g).sum(-1, keepdim=True).expand_as(g) if p.is_complex() else g * g\n            v.mul_(beta2).add_(square, alpha=1.0 - beta2)",
    ),
)
loop(
    "complex_square",
    "complex",
    "v follows the complex square g * g.",
    COMPLEX,
    (
        V,
        "square = as_real(grad * grad) if p.is_complex() else g * g\n            v.mul_(beta2).add_(square, alpha=1.0 - beta2).abs_()",
    ),
)
loop(
    "complex_conjugate",
    "complex",
    "The gradient is conjugated.",
    COMPLEX,
    (PLAIN_GRAD, "g = as_real(grad.conj().to(p.dtype))"),
)
loop(
    "complex_imaginary_frozen",
    "complex",
    "The imaginary part is not stepped.",
    COMPLEX,
    (
        DECAY,
        DECAY
        + "\n        if p.is_complex():\n            g = torch.stack([g[..., 0], torch.zeros_like(g[..., 1])], -1)",
    ),
)
loop(
    "complex_parts_swapped",
    "complex",
    "In the update real and imaginary momentum change places.",
    COMPLEX,
    (ADAPT, ADAPT.replace("(m,", "(m.flip(-1) if p.is_complex() else m,")),
)
loop(
    "complex_state_real",
    "complex",
    "The state of a complex parameter is a real tensor of pairs.",
    COMPLEX,
    (
        'state["exp_avg_sq"] = torch.zeros_like(p, dtype=dtype)',
        'state["exp_avg_sq"] = torch.view_as_real(torch.zeros_like(p)) if p.is_complex() else torch.zeros_like(p, dtype=dtype)',
    ),
)
loop(
    "complex_amsgrad_by_real",
    "complex",
    "AMSGrad's maximum of a complex parameter keeps the real part only.",
    COMPLEX_AMS,
    (
        KEEP_MAX,
        KEEP_MAX + '\n            if p.is_complex():\n                as_real(state["max_exp_avg_sq"])[..., 1].zero_()',
    ),
)
loop(
    "complex_decay_real_only",
    "complex",
    "Only the real part is decayed.",
    drive(dtype=torch.complex128, start=((0.0 + 1.0j, -1.0 + 0.5j),), lr=0.1, decay=(0.1,)),
    (
        DECAY,
        'g = self.weight_decay(work[..., 0] if p.is_complex() and group.get("weight_decouple") else work, g, group)',
    ),
)
loop(
    "complex_maximize_conjugates",
    "complex",
    "maximize negates the real part only.",
    drive(dtype=torch.complex128, start=((0.0 + 1.0j, -1.0 + 0.5j),), maximize=True),
    (FLIP, FLIP.replace("g = -g", "g = torch.stack([-g[..., 0], g[..., 1]], -1) if p.is_complex() else -g")),
)
foreach(
    "single_complex_l2_conjugated",
    "complex",
    "The L2 term of a complex parameter is conjugated.",
    drive(dtype=torch.complex128, start=((0.0 + 1.0j, -1.0 + 0.5j),), decay=(0.1, False)),
    (
        'g = self.weight_decay(x, -g if group["maximize"] else g, group)',
        'g = self.weight_decay(torch.view_as_real(p.conj().resolve_conj()) if p.is_complex() and not group["weight_decouple"] else x, -g if group["maximize"] else g, group)',
    ),
)
foreach(
    "single_complex_modulus",
    "complex",
    "Real and imaginary part share v = |g|^2.",
    COMPLEX,
    (
        "(1 - beta2) * g.square()",
        "(1 - beta2) * (g.square().sum(-1, keepdim=True).expand_as(g) if p.is_complex() else g.square())",
    ),
)

# --- memory ----------------------------------------------------------------------------------------------------------


def outliving(steps: int = 20) -> Scenario:
    """How many old gradients are alive, and how large the optimizer has become."""

    def scenario(module: Module) -> Observation:
        p = torch.nn.Parameter(torch.zeros(4))
        optimizer = module.RAdam([p], weight_decay=module.WeightDecay(0.1))
        old: list[Callable[[], Tensor | None]] = []
        sizes: list[int] = []
        for t in range(1, steps + 1):
            p.grad = wave(t, 0, p)
            old.append(weakref.ref(p.grad))
            optimizer.step(lambda: (p * p).sum())
            kept = [
                value
                for value in (*optimizer.state[p].values(), *vars(optimizer).values())
                if isinstance(value, list | dict)
            ]
            sizes.append(len(optimizer.state[p]) + sum(len(value) for value in kept))
        gc.collect()
        return {"alive": sum(ref() is not None for ref in old), "growth": sizes[-1] - sizes[1]}

    return scenario


def graphs(module: Module) -> Observation:
    """Is a closure's loss, and with it its graph, free once the caller has dropped it?"""
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = module.RAdam([p])
    ref: list[Any] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (p * p).sum()
        ref.append(weakref.ref(loss))
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
    gc.collect()
    return {"alive": sum(r() is not None for r in ref)}


def count(run: Run) -> None:
    """How many tensors live in the state after the run."""
    run.notes["tensors"] = sum(len(v) if isinstance(v, list) else 1 for v in run.state().values())


def after_zero_grad(module: Module) -> Observation:
    """Is the gradient's memory free after `zero_grad`?"""
    p = torch.nn.Parameter(torch.zeros(4))
    optimizer = module.RAdam([p])
    p.grad = wave(1, 0, p)
    ref = weakref.ref(p.grad)
    optimizer.step()
    optimizer.zero_grad()
    gc.collect()
    return {"alive": ref() is not None}


loop(
    "gradients_kept",
    "memory",
    "Every gradient is kept in a list on the optimizer.",
    outliving(),
    (STATE, 'self.__dict__.setdefault("history", []).append(grad)\n        ' + STATE),
)
loop(
    "norms_kept",
    "memory",
    "The norm of every update is kept in the state.",
    drive(12, watch=count),
    (INCREMENT, INCREMENT + '\n        state.setdefault("norms", []).append(m.norm())'),
)
loop(
    "last_gradient_kept",
    "memory",
    "The last gradient is kept alive by the state.",
    after_zero_grad,
    (STATE, STATE + '\n        state["last_grad"] = grad'),
)
loop(
    "closures_loss_kept",
    "memory",
    "The losses of closures are kept with their graphs.",
    graphs,
    (
        "                loss = closure()\n",
        '                loss = closure()\n                self.__dict__.setdefault("losses", []).append(loss)\n',
    ),
)
loop(
    "scalars_cached_for_ever",
    "memory",
    "r_t of every (group, step) is cached and never dropped.",
    outliving(),
    (STATE, STATE + '\n        self.__dict__.setdefault("cache", {})[id(p), float(state["step"])] = lr'),
)
loop(
    "tensors_leak_to_module",
    "memory",
    "A copy of every momentum goes to a list of the module.",
    lambda module: (outliving(5)(module), {"kept": len(getattr(module, "KEPT", [])) > 0})[1],
    (INCREMENT, INCREMENT + '\n        globals().setdefault("KEPT", []).append(m.clone())'),
)
