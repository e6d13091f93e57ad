"""Mutants of torch.optim's RAdam and AdamW: the same mistake in each of their code paths, or in one of them only."""

# Edits quote source text, which reads better unbroken.
# ruff: noqa: E501

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.mutation.mutant import (
    Module,
    Mutant,
    Observation,
    Run,
    Scenario,
    adding,
    attempt,
    drive,
    fading,
    optimizer_of,
    refusal_of,
    reload,
    scaled,
    set_option,
    wave,
)

MUTANTS: list[Mutant] = []


radam = adding(MUTANTS, "torch.optim.radam")
adamw = adding(MUTANTS, "torch.optim.adamw")

# --- scenarios -------------------------------------------------------------------------------------------------------


def by_each(steps: int = 8, **hyper: Any) -> Scenario:
    """The same run by the for-loop and by foreach."""
    runs = {str(foreach): drive(steps, foreach=foreach, **hyper) for foreach in (False, True)}

    def scenario(module: Module) -> Observation:
        return {f"foreach {name}, {key}": x for name, run in runs.items() for key, x in run(module).items()}

    return scenario


def by_loop(steps: int = 8, **hyper: Any) -> Scenario:
    return drive(steps, foreach=False, **hyper)


def by_foreach(steps: int = 8, **hyper: Any) -> Scenario:
    return drive(steps, foreach=True, **hyper)


def without_grad(run: Run) -> None:
    """A parameter that requires no gradient can be stepped in place while autograd is on."""
    for p in run.params:
        p.requires_grad_(False)


def by_autograd(steps: int = 8, **hyper: Any) -> Scenario:
    return drive(steps, differentiable=True, events={1: without_grad}, **hyper)


def absent(t: int, index: int, param: Tensor) -> Tensor | None:
    """No gradient for the second parameter on two steps."""
    return None if index == 1 and t in (2, 3) else wave(t, index, param)


def reload_with_numbers(run: Run) -> None:
    """As from a file of the times when step counts were numbers."""
    for entry in run.optimizer.state.values():
        entry["step"] = int(entry["step"])
    reload(run)


def kept_gradients(run: Run) -> None:
    for index, p in enumerate(run.params):
        run.notes[f"grad {index}"] = None if p.grad is None else p.grad.clone()


def closures(module: Module) -> Observation:
    """Three steps with a closure: calls, grad mode, what step returns, where the parameter goes."""
    p = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = optimizer_of(module)([p], lr=0.1)
    modes: list[bool] = []
    returned: list[Any] = []

    def closure() -> Tensor:
        modes.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = ((p - 3.0) ** 2).sum()
        loss.backward()
        return loss

    for _ in range(3):
        loss = optimizer.step(closure)
        returned.append(None if loss is None else float(loss.detach()))
    return {"modes": modes, "returned": returned, "p": p.detach().clone()}


def tensors_in_state(run: Run) -> None:
    run.notes["names"] = sorted(run.state())


PAIR = ((0.0, 0.5, -1.0), (1.0, -0.25))
Z = ((0.0 + 1.0j, -1.0 + 0.5j, 2.0 - 1.0j),)
SQUARE = torch.arange(9.0, dtype=torch.float64).reshape(3, 3) / 4.0
FLOAT32 = "float(torch.tensor({}, dtype=torch.float32))"
NAN = float("nan")


def groups_of(first: dict[str, Any], second: dict[str, Any], **hyper: Any) -> Scenario:
    return by_each(start=PAIR, groups=(first, second), **hyper)


# The texts of both sources.
LR_CHECK = "if not 0.0 <= lr:"
EPS_CHECK = "if not 0.0 <= eps:"
BETA1_CHECK = "if not 0.0 <= betas[0] < 1.0:"
BETA2_CHECK = "if not 0.0 <= betas[1] < 1.0:"
DECAY_CHECK = "if not 0.0 <= weight_decay:"
HAS_GRAD = "if p.grad is not None:\n"
GRADS = "grads.append(p.grad)"
COUNT = "        step_t += 1\n"
FLIP = "grad = grads[i] if not maximize else -grads[i]"
SHRINK = "param.mul_(1 - lr * weight_decay)"
LR_OPTION = 'lr=group["lr"],'
EPS_OPTION = 'eps=group["eps"],'
DECAY_OPTION = 'weight_decay=group["weight_decay"],'
MAXIMIZE_OPTION = 'maximize=group["maximize"],'
CLOSE = "            with torch.enable_grad():\n                loss = closure()\n"
LOSS = "        return loss\n"
SET_STATE_STEP = 'step_val = float(p_state["step"])'

# --- RAdam -----------------------------------------------------------------------------------------------------------

# By the for-loop.
R_M = "exp_avg.lerp_(grad, 1 - beta1)"
R_V = "exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)"
R_BIAS1 = "bias_correction1 = 1 - beta1**step\n"
R_BIAS2 = "bias_correction2 = 1 - beta2**step\n"
R_CORRECTED = "bias_corrected_exp_avg = exp_avg / bias_correction1"
R_RHO_INF = "        rho_inf = 2 / (1 - beta2) - 1\n        # compute the length of the approximated SMA\n        rho_t"
R_RHO = "rho_t = rho_inf - 2 * step * (beta2**step) / bias_correction2"
R_RECT = """            return (
                (rho_t - 4)
                * (rho_t - 2)
                * rho_inf
                / ((rho_inf - 4) * (rho_inf - 2) * rho_t)
            ) ** 0.5
"""
R_BRANCH = "            if rho_t > 5.0:\n"
R_ROOT = "exp_avg_sq_sqrt = exp_avg_sq.sqrt()"
R_EPS = "exp_avg_sq_sqrt = exp_avg_sq_sqrt.add_(eps)"
R_ADAPT = "return (bias_correction2**0.5) / exp_avg_sq_sqrt"
R_SGD = "                param.add_(bias_corrected_exp_avg * lr, alpha=-1.0)\n"
R_L2 = "grad = grad.add(param, alpha=weight_decay)"
R_WHERE = "rho_t > 5.0, _compute_rect() * _compute_adaptive_lr(), 1.0"
# By foreach.
R_COUNTS = 'grouped_state_steps, torch.tensor(1.0, device="cpu"), alpha=1.0'
R_FLIPS = "grouped_grads = torch._foreach_neg(grouped_grads)  # type: ignore[assignment]"
R_RHO_INFS = "        rho_inf = 2 / (1 - beta2) - 1\n        # compute the length of the approximated SMA\n        bias"
R_RHOS = """                * _get_value(step)
                * (beta2 ** _get_value(step))
                / (1 - beta2 ** _get_value(step))
"""
R_SHRINKS = "torch._foreach_mul_(grouped_params, 1 - lr * weight_decay)"
R_L2S = """                    grouped_grads = torch._foreach_add(  # type: ignore[assignment]
                        grouped_grads, grouped_params, alpha=weight_decay
                    )"""
R_L2S_MAXIMIZED = """                    torch._foreach_add_(
                        grouped_grads, grouped_params, alpha=weight_decay
                    )"""
R_MS = "torch._foreach_lerp_(grouped_exp_avgs, grouped_grads, 1 - beta1)"
R_VS_DAMPED = "torch._foreach_mul_(grouped_exp_avg_sqs, beta2)"
R_VS = "grouped_exp_avg_sqs, grouped_grads, grouped_grads, 1 - beta2\n"
R_RECTS = """                    * (rho_t - 2)
                    * rho_inf
                    / ((rho_inf - 4) * (rho_inf - 2) * rho_t)
                )
                ** 0.5
                if rho_t > 5
"""
R_UNRECTIFIED = "unrectified = [0 if rect > 0 else 1.0 for rect in rect]"
R_BIAS1S = "1 - beta1 ** _get_value(step) for step in grouped_state_steps"
R_SGDS = "(lr * rect / bc) * -1\n                for rect, bc in zip(unrectified, bias_correction1, strict=True)"
R_SIZES = "((1 - beta2 ** _get_value(step)) ** 0.5) * (lr * rect / bc) * -1"
R_ROOTS = "buffer = torch._foreach_sqrt(grouped_exp_avg_sqs)"
R_EPSS = "torch._foreach_add_(buffer, eps)"
R_MOVES = "torch._foreach_addcmul_(grouped_params, grouped_exp_avgs, buffer)"
R_BETAS = 'cast(tuple[float, float], group["betas"])'

RADAM = by_each(betas=(0.9, 0.9))
R_VISIBLE_EPS = by_each(betas=(0.9, 0.9), eps=1e-2)
R_DECOUPLED = by_each(lr=0.1, weight_decay=0.2, decoupled_weight_decay=True)
R_L2ED = by_each(lr=0.1, weight_decay=0.2)

radam(
    "torch_radam_rho_inf_without_minus_one",
    "rectification",
    "rho_inf lacks its - 1.",
    RADAM,
    (R_RHO_INF, R_RHO_INF.replace(" - 1\n", "\n")),
    (R_RHO_INFS, R_RHO_INFS.replace(" - 1\n", "\n")),
)
radam(
    "torch_radam_rho_with_single_t",
    "rectification",
    "rho_t has t b^t for 2 t b^t.",
    RADAM,
    (R_RHO, R_RHO.replace("2 * step", "step")),
    ("                - 2\n" + R_RHOS, "                - 1\n" + R_RHOS),
)
radam(
    "torch_radam_r_squared",
    "rectification",
    "r_t lacks its square root.",
    RADAM,
    (R_RECT, R_RECT.replace(" ** 0.5", "")),
    (R_RECTS, R_RECTS.replace("                ** 0.5\n", "")),
)
radam(
    "torch_radam_r_without_ratio",
    "rectification",
    "r_t lacks the factor rho_inf / rho_t.",
    RADAM,
    (R_RECT, R_RECT.replace("* rho_inf\n", "* 1\n").replace(" * rho_t)", ")")),
    (R_RECTS, R_RECTS.replace("* rho_inf\n", "* 1\n").replace(" * rho_t)", ")")),
)
radam(
    "torch_radam_r_missing",
    "rectification",
    "Adaptive steps are Adam's.",
    RADAM,
    (R_RECT, "            return 1.0\n"),
    (
        "(lr * rect / bc) * -1\n                for step",
        "(lr * (1.0 if rect else 0.0) / bc) * -1\n                for step",
    ),
)
radam(
    "torch_radam_threshold_four",
    "threshold",
    "Steps are adaptive from rho_t > 4 on.",
    RADAM,
    (R_BRANCH, R_BRANCH.replace("5.0", "4.0")),
    ("if rho_t > 5\n", "if rho_t > 4\n"),
)
radam(
    "torch_radam_threshold_by_step_number",
    "threshold",
    "Steps are adaptive from the sixth on, which is right for beta2 near 1 only.",
    by_each(8, betas=(0.9, 0.8)),
    (R_BRANCH, R_BRANCH.replace("rho_t > 5.0", "step >= 6")),
    ("if rho_t > 5\n", "if _get_value(grouped_state_steps[0]) >= 6\n"),
)
radam(
    "torch_radam_step_counted_twice",
    "step count",
    "Every step counts for two.",
    RADAM,
    (COUNT, COUNT.replace("1", "2")),
    (R_COUNTS, R_COUNTS.replace("alpha=1.0", "alpha=2.0")),
)
radam(
    "torch_radam_step_starts_at_one",
    "step count",
    "The first step is counted as the second.",
    RADAM,
    ("else torch.tensor(0.0, dtype=_get_scalar_dtype())", "else torch.tensor(1.0, dtype=_get_scalar_dtype())"),
)
radam(
    "torch_radam_step_shared",
    "step count",
    "All parameters have the count of the first, though one has missed steps.",
    by_each(9, start=PAIR, grads=absent, betas=(0.9, 0.9)),
    (
        '                state_steps.append(state["step"])',
        '                if state_steps:\n                    state["step"].copy_(state_steps[0])\n                state_steps.append(state["step"])',
    ),
)
radam(
    "torch_radam_bias1_missing_in_momentum_step",
    "bias correction",
    "The momentum step lacks 1 / (1 - b1^t).",
    RADAM,
    (R_SGD, R_SGD.replace("bias_corrected_exp_avg", "exp_avg")),
    (R_SGDS, R_SGDS.replace("rect / bc", "rect")),
)
radam(
    "torch_radam_bias1_of_next_step",
    "bias correction",
    "m is corrected with t + 1.",
    RADAM,
    (R_BIAS1, R_BIAS1.replace("**step", "**(step + 1)")),
    (R_BIAS1S, R_BIAS1S.replace("** _get_value(step)", "** (_get_value(step) + 1)")),
)
radam(
    "torch_radam_bias2_missing",
    "bias correction",
    "The adaptive step lacks sqrt(1 - b2^t).",
    RADAM,
    (R_ADAPT, "return 1.0 / exp_avg_sq_sqrt"),
    (R_SIZES, R_SIZES.replace("((1 - beta2 ** _get_value(step)) ** 0.5) * ", "")),
)
radam(
    "torch_radam_bias2_without_root",
    "bias correction",
    "1 - b2^t for its square root.",
    RADAM,
    (R_ADAPT, R_ADAPT.replace("**0.5", "")),
    (R_SIZES, R_SIZES.replace(" ** 0.5)", ")")),
)
radam(
    "torch_radam_eps_inside_root",
    "eps",
    "eps is added under the root.",
    R_VISIBLE_EPS,
    (R_ROOT, "exp_avg_sq_sqrt = (exp_avg_sq + eps).sqrt()"),
    (R_EPS, "pass"),
    (R_ROOTS, "buffer = torch._foreach_sqrt(torch._foreach_add(grouped_exp_avg_sqs, eps))"),
    (R_EPSS, "pass"),
)
radam(
    "torch_radam_eps_after_correction",
    "eps",
    "eps is added after the bias correction of v.",
    R_VISIBLE_EPS,
    (R_EPS, R_EPS.replace("add_(eps)", "add_(eps * bias_correction2**0.5)")),
    (R_EPSS, R_EPSS.replace("eps", "[eps * (1 - beta2 ** _get_value(step)) ** 0.5 for step in grouped_state_steps]")),
)
radam("torch_radam_eps_missing", "eps", "eps is not added.", R_VISIBLE_EPS, (R_EPS, "pass"), (R_EPSS, "pass"))
radam(
    "torch_radam_default_eps_1e6",
    "eps",
    "The default of eps is 1e-6.",
    RADAM,
    ("eps: float = 1e-8", "eps: float = 1e-6"),
)
radam(
    "torch_radam_decoupled_ignored",
    "weight decay",
    "Decay is L2 always.",
    R_DECOUPLED,
    ('decoupled_weight_decay=group["decoupled_weight_decay"],', "decoupled_weight_decay=False,"),
)
radam(
    "torch_radam_decoupled_by_default",
    "weight decay",
    "Decay is decoupled by default.",
    R_L2ED,
    (
        "weight_decay: float = 0,\n        decoupled_weight_decay: bool = False,",
        "weight_decay: float = 0,\n        decoupled_weight_decay: bool = True,",
    ),
)
radam(
    "torch_radam_decay_without_lr",
    "weight decay",
    "Decoupled decay does not scale with lr.",
    R_DECOUPLED,
    (SHRINK, "param.mul_(1 - weight_decay)"),
    (R_SHRINKS, R_SHRINKS.replace("lr * ", "")),
)
radam(
    "torch_radam_l2_with_lr",
    "weight decay",
    "The L2 term is scaled by lr.",
    R_L2ED,
    (R_L2, R_L2.replace("=weight_decay", "=lr * weight_decay")),
    (R_L2S, R_L2S.replace("=weight_decay", "=lr * weight_decay")),
    (R_L2S_MAXIMIZED, R_L2S_MAXIMIZED.replace("=weight_decay", "=lr * weight_decay")),
)
radam(
    "torch_radam_l2_sign",
    "weight decay",
    "The L2 term is subtracted.",
    R_L2ED,
    (R_L2, R_L2.replace("=weight_decay", "=-weight_decay")),
    (R_L2S, R_L2S.replace("=weight_decay", "=-weight_decay")),
    (R_L2S_MAXIMIZED, R_L2S_MAXIMIZED.replace("=weight_decay", "=-weight_decay")),
)
radam(
    "torch_radam_betas_swapped",
    "moments",
    "The betas are exchanged.",
    by_each(betas=(0.8, 0.9)),
    (
        "beta1=beta1,\n                beta2=beta2,\n                lr",
        "beta1=beta2,\n                beta2=beta1,\n                lr",
    ),
)
radam(
    "torch_radam_v_of_absolute",
    "moments",
    "v follows |g|.",
    RADAM,
    (R_V, "exp_avg_sq.mul_(beta2).add_(grad.abs(), alpha=1 - beta2)"),
    (R_VS, "grouped_exp_avg_sqs, torch._foreach_sign(grouped_grads), grouped_grads, 1 - beta2\n"),
)
radam(
    "torch_radam_m_undamped",
    "moments",
    "m takes the whole gradient.",
    RADAM,
    (R_M, "exp_avg.mul_(beta1).add_(grad)"),
    (R_MS, "torch._foreach_mul_(grouped_exp_avgs, beta1); torch._foreach_add_(grouped_exp_avgs, grouped_grads)"),
)
radam(
    "torch_radam_no_momentum_step",
    "degenerate branch",
    "Below the threshold the parameter waits.",
    RADAM,
    (R_SGD, "                pass\n"),
    (R_UNRECTIFIED, "unrectified = [0.0 for rect in rect]"),
)
radam(
    "torch_radam_momentum_step_with_bias2",
    "degenerate branch",
    "The momentum step has the factor sqrt(1 - b2^t).",
    RADAM,
    (R_SGD, R_SGD.replace("* lr", "* lr * bias_correction2**0.5")),
    (
        R_SGDS,
        "(lr * rect / bc) * -((1 - beta2 ** _get_value(step)) ** 0.5)\n                for rect, bc, step in zip(unrectified, bias_correction1, grouped_state_steps, strict=True)",
    ),
)
radam(
    "torch_radam_maximize_ignored",
    "maximize",
    "maximize has no effect.",
    by_each(maximize=True),
    (MAXIMIZE_OPTION, "maximize=False,"),
)
radam(
    "torch_radam_maximize_grows",
    "maximize",
    "maximize turns decoupled decay into growth.",
    by_each(lr=0.1, weight_decay=0.2, decoupled_weight_decay=True, maximize=True),
    (SHRINK, "param.mul_(1 - (-lr if maximize else lr) * weight_decay)"),
    (R_SHRINKS, R_SHRINKS.replace("lr *", "(-lr if maximize else lr) *")),
)
radam(
    "torch_radam_lr_of_first_group",
    "plumbing",
    "The first group's lr serves all.",
    groups_of({"lr": 0.1}, {"lr": 1e-3}),
    (LR_OPTION, 'lr=self.param_groups[0]["lr"],'),
)
radam(
    "torch_radam_betas_of_defaults",
    "plumbing",
    "A group's own betas are not used.",
    groups_of({"betas": (0.9, 0.9)}, {"betas": (0.5, 0.99)}),
    (R_BETAS, R_BETAS.replace("group[", "self.defaults[")),
)
radam(
    "torch_radam_eps_of_defaults",
    "plumbing",
    "A group's own eps is not used.",
    groups_of({"eps": 1e-8}, {"eps": 1e-2}),
    (EPS_OPTION, 'eps=self.defaults["eps"],'),
)
radam(
    "torch_radam_lr_read_once",
    "plumbing",
    "lr is read at the first step: schedulers have no effect.",
    by_each(events={4: set_option(lr=0.1)}),
    (LR_OPTION, 'lr=group.setdefault("first_lr", group["lr"]),'),
)
radam(
    "torch_radam_load_empties_v",
    "state and resume",
    "Loading empties v.",
    drive(events={4: reload}),
    (
        "                p_state = self.state.get(p, [])\n",
        '                p_state = self.state.get(p, [])\n                if len(p_state) != 0:\n                    p_state["exp_avg_sq"] = torch.zeros_like(p_state["exp_avg_sq"])\n',
    ),
)
radam(
    "torch_radam_load_of_number_restarts",
    "state and resume",
    "A step count that was saved as a number is loaded as 0.",
    drive(events={4: reload_with_numbers}),
    (SET_STATE_STEP, "step_val = 0.0"),
)
radam(
    "torch_radam_closure_twice",
    "closure",
    "The closure is called twice.",
    closures,
    (CLOSE, CLOSE + "                closure()\n"),
)
radam("torch_radam_loss_dropped", "closure", "step(closure) returns None.", closures, (LOSS, "        return None\n"))
radam(
    "torch_radam_maximize_writes_gradient",
    "gradient handling",
    "maximize negates .grad itself.",
    by_each(maximize=True, watch=kept_gradients),
    (FLIP, "grad = grads[i] if not maximize else grads[i].neg_()"),
    (R_FLIPS, "torch._foreach_neg_(grouped_grads)"),
)
radam(
    "torch_radam_l2_writes_gradient",
    "gradient handling",
    "The L2 term is added to .grad itself.",
    by_each(lr=0.1, weight_decay=0.2, watch=kept_gradients),
    (R_L2, R_L2.replace("grad.add(", "grad.add_(")),
    (R_L2S, "                    torch._foreach_add_(grouped_grads, grouped_params, alpha=weight_decay)"),
)
radam(
    "torch_radam_frozen_skipped",
    "gradient handling",
    "A parameter with requires_grad=False is skipped, gradient or not.",
    by_each(events={4: lambda run: run.params[0].requires_grad_(False)}),
    (HAS_GRAD, HAS_GRAD.replace("not None", "not None and p.requires_grad")),
)
radam(
    "torch_radam_strided_skipped",
    "layout",
    "A parameter that is not contiguous is skipped.",
    by_each(start=(SQUARE.t(),)),
    (HAS_GRAD, HAS_GRAD.replace("not None", "not None and p.is_contiguous()")),
)
radam(
    "torch_radam_gradient_float32",
    "dtype",
    "A float64 gradient passes through float32.",
    RADAM,
    (GRADS, "grads.append(p.grad.float().to(p.dtype) if p.dtype == torch.float64 else p.grad)"),
)
radam(
    "torch_radam_complex_conjugated",
    "complex",
    "The gradient of a complex parameter is conjugated.",
    by_each(dtype=torch.complex128, start=Z, lr=0.1),
    (GRADS, "grads.append(p.grad.conj().resolve_conj())"),
)
radam(
    "torch_radam_size_relative_1e9",
    "precision",
    "The adaptive step is too long by one part in a thousand million.",
    RADAM,
    (R_ADAPT, R_ADAPT.replace("**0.5)", "**0.5 * (1 + 1e-9))")),
    (R_SIZES, R_SIZES + " * (1 + 1e-9)"),
)
radam(
    "torch_radam_lr_float32",
    "precision",
    "lr is rounded to float32.",
    RADAM,
    (LR_OPTION, "lr=" + FLOAT32.format('group["lr"]') + ","),
)
radam(
    "torch_radam_beta2_float32",
    "precision",
    "beta2 is rounded to float32.",
    RADAM,
    ("beta2=beta2,\n                lr", f"beta2={FLOAT32.format('beta2')},\n                lr"),
)
radam(
    "torch_radam_after_500_unrectified",
    "only then",
    "After 500 steps the rectification is left out, when it is still 0.5.",
    by_each(503),
    (R_RECT, "            if step > 500:\n                return 1.0\n" + R_RECT),
    (
        R_UNRECTIFIED,
        "rect = [1.0 if _get_value(step) > 500 else r for r, step in zip(rect, grouped_state_steps, strict=True)]\n            "
        + R_UNRECTIFIED,
    ),
)
radam(
    "torch_radam_second_group_without_decay",
    "only then",
    "The second group is not decayed.",
    groups_of({"lr": 0.1}, {"lr": 0.2}, weight_decay=0.2),
    (DECAY_OPTION, 'weight_decay=group["weight_decay"] if group is self.param_groups[0] else 0,'),
)
radam(
    "torch_radam_negative_lr_accepted",
    "validation",
    "A negative lr is accepted.",
    refusal_of("learning rate", lr=-0.1),
    (LR_CHECK, "if lr != lr:"),
)
radam(
    "torch_radam_beta2_of_one_accepted",
    "validation",
    "A beta2 of 1 is accepted.",
    refusal_of("beta", betas=(0.9, 1.0)),
    (BETA2_CHECK, BETA2_CHECK.replace("< 1.0", "<= 1.0")),
)
radam(
    "torch_radam_nan_decay_accepted",
    "validation",
    "A weight_decay of NaN is accepted.",
    refusal_of("weight_decay", weight_decay=NAN),
    (DECAY_CHECK, "if weight_decay < 0.0:"),
)
radam(
    "torch_radam_zero_eps_refused",
    "validation",
    "eps = 0 is refused.",
    attempt(eps=0.0),
    (EPS_CHECK, "if not 0.0 < eps:"),
)
radam(
    "torch_radam_gradient_kept",
    "memory",
    "The last gradient is kept in the state.",
    drive(watch=tensors_in_state),
    (
        '                exp_avgs.append(state["exp_avg"])',
        '                state["last_grad"] = p.grad\n                exp_avgs.append(state["exp_avg"])',
    ),
)

# In one path only.
radam(
    "torch_radam_foreach_threshold_four",
    "one path",
    "foreach steps are adaptive from rho_t > 4 on.",
    by_foreach(betas=(0.9, 0.9)),
    ("if rho_t > 5\n", "if rho_t > 4\n"),
)
radam(
    "torch_radam_foreach_bias1_of_first",
    "one path",
    "By foreach all parameters take the bias correction of the first, though one has missed steps.",
    by_foreach(9, start=PAIR, grads=absent),
    (R_BIAS1S, R_BIAS1S.replace("_get_value(step)", "_get_value(grouped_state_steps[0])")),
)
radam(
    "torch_radam_foreach_eps_missing",
    "one path",
    "By foreach eps is not added.",
    by_foreach(betas=(0.9, 0.9), eps=1e-2),
    (R_EPSS, "pass"),
)
radam(
    "torch_radam_foreach_l2_flipped_by_maximize",
    "one path",
    "By foreach with maximize the L2 term is subtracted.",
    by_foreach(lr=0.1, weight_decay=0.2, maximize=True),
    (R_L2S_MAXIMIZED, R_L2S_MAXIMIZED.replace("=weight_decay", "=-weight_decay")),
)
radam(
    "torch_radam_foreach_momentum_step_added",
    "one path",
    "By foreach an adaptive step has a momentum step besides.",
    by_foreach(betas=(0.9, 0.9)),
    (R_UNRECTIFIED, "unrectified = [1.0 for rect in rect]"),
)
radam(
    "torch_radam_foreach_last_not_moved",
    "one path",
    "By foreach the last of several parameters does not move.",
    by_foreach(start=PAIR),
    (
        R_MOVES,
        "n = max(1, len(grouped_params) - 1)\n        torch._foreach_addcmul_(grouped_params[:n], grouped_exp_avgs[:n], buffer[:n])",
    ),
)
radam(
    "torch_radam_foreach_decay_missing",
    "one path",
    "By foreach decoupled decay does nothing.",
    by_foreach(lr=0.1, weight_decay=0.2, decoupled_weight_decay=True),
    (R_SHRINKS, "pass"),
)
radam(
    "torch_radam_foreach_r_float32",
    "one path",
    "By foreach r_t is rounded to float32.",
    by_foreach(betas=(0.9, 0.9)),
    (R_SIZES, R_SIZES.replace("lr * rect", f"lr * {FLOAT32.format('rect')}")),
)
radam(
    "torch_radam_foreach_complex_v_of_imaginary_lost",
    "one path",
    "By foreach v of a complex parameter sees the real part of the gradient twice.",
    by_foreach(8, dtype=torch.complex128, start=Z, lr=0.1),
    (
        R_VS,
        "grouped_exp_avg_sqs, [g[..., :1].expand_as(g) if has_complex and g.dim() else g for g in grouped_grads], [g[..., :1].expand_as(g) if has_complex and g.dim() else g for g in grouped_grads], 1 - beta2\n",
    ),
)
radam(
    "torch_radam_loop_threshold_six",
    "one path",
    "By the for-loop steps are adaptive from rho_t > 6 on.",
    by_loop(12, betas=(0.9, 0.9)),
    (R_BRANCH, R_BRANCH.replace("5.0", "6.0")),
)
radam(
    "torch_radam_loop_maximize_ignored",
    "one path",
    "By the for-loop maximize has no effect.",
    by_loop(maximize=True),
    (FLIP, "grad = grads[i]"),
)
radam(
    "torch_radam_loop_decay_after_update",
    "one path",
    "By the for-loop decoupled decay shrinks what the momentum step has made of the parameter.",
    by_loop(lr=0.1, weight_decay=0.2, decoupled_weight_decay=True),
    (SHRINK, "pass"),
    (R_SGD, R_SGD + "            if decoupled_weight_decay:\n                param.mul_(1 - lr * weight_decay)\n"),
)
radam(
    "torch_radam_loop_eps_twice",
    "one path",
    "By the for-loop eps is added twice.",
    by_loop(betas=(0.9, 0.9), eps=1e-2),
    (R_EPS, R_EPS.replace("eps)", "2 * eps)")),
)
radam(
    "torch_radam_loop_first_parameter_twice",
    "one path",
    "By the for-loop every parameter takes the first one's v, where they have the same shape.",
    by_loop(start=((0.0, 0.5), (1.0, -0.25))),
    (
        "        exp_avg_sq = exp_avg_sqs[i]\n",
        "        exp_avg_sq = exp_avg_sqs[0 if exp_avg_sqs[0].shape == exp_avg_sqs[i].shape else i]\n",
    ),
)
radam(
    "torch_radam_differentiable_eps_missing",
    "one path",
    "With differentiable=True eps is not added.",
    by_autograd(betas=(0.9, 0.9), eps=1e-2),
    ("exp_avg_sq_sqrt = exp_avg_sq_sqrt.add(eps)", "pass"),
)

# --- AdamW -----------------------------------------------------------------------------------------------------------

# By the for-loop.
A_M = "exp_avg.lerp_(grad, 1 - device_beta1)"
A_V = "exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)  # type: ignore[arg-type]"
A_BIAS = """            step = _get_value(step_t)

            bias_correction1 = 1 - beta1**step
            bias_correction2 = 1 - beta2**step
"""
A_ROOT_OF_BIAS2 = "bias_correction2_sqrt = bias_correction2**0.5\n"
A_MAXIMUM = "torch.maximum(max_exp_avg_sqs[i], exp_avg_sq, out=max_exp_avg_sqs[i])"
A_DENOMINATOR_MAX = "denom = (max_exp_avg_sqs[i].sqrt() / bias_correction2_sqrt).add_(eps)"
A_DENOMINATOR = "denom = (exp_avg_sq.sqrt() / bias_correction2_sqrt).add_(eps)"
A_UPDATE = "param.addcdiv_(exp_avg, denom, value=-step_size)  # type: ignore[arg-type]"
# By the for-loop with differentiable or capturable.
A_BIAS1_T = "            else:\n                bias_correction1 = 1 - beta1**step\n\n"
A_BIAS2_T = "            else:\n                bias_correction2 = 1 - beta2**step\n\n            step_size"
A_MAXIMUM_T = "max_exp_avg_sqs[i].copy_(torch.maximum(max_exp_avg_sq, exp_avg_sq))"
A_DENOMINATOR_T = """                denom = (
                    exp_avg_sq.sqrt() / (bias_correction2_sqrt * step_size_neg)
                ).add_(eps / step_size_neg)"""
# By foreach.
A_COUNTS = 'device_state_steps, torch.tensor(1.0, device="cpu"), alpha=1.0'
A_FLIPS = "device_grads = torch._foreach_neg(device_grads)  # type: ignore[assignment]"
A_SHRINKS = "torch._foreach_mul_(device_params, 1 - lr * weight_decay)"
A_MS = "device_exp_avgs, device_grads, cast(float, 1 - device_beta1)"
A_VS_DAMPED = "torch._foreach_mul_(device_exp_avg_sqs, beta2)"
A_VS = "            device_exp_avg_sqs, scaled_device_grads, device_grads, value\n"
A_BIAS1S = "1 - beta1 ** _get_value(step) for step in device_state_steps"
A_BIAS2S = "1 - beta2 ** _get_value(step) for step in device_state_steps"
A_SIZES = "[(lr / bc) * -1 for bc in bias_correction1]"
A_ROOTS_OF_BIAS2 = "bias_correction2_sqrt = [bc**0.5 for bc in bias_correction2]"
A_MAXIMA = "torch._foreach_maximum_(device_max_exp_avg_sqs, device_exp_avg_sqs)\n"
A_ROOTS_MAX = "# Use the max. for normalizing running avg. of gradient\n                exp_avg_sq_sqrt = torch._foreach_sqrt(device_max_exp_avg_sqs)"
A_DENOMINATORS = """            torch._foreach_div_(exp_avg_sq_sqrt, bias_correction2_sqrt)
            torch._foreach_add_(exp_avg_sq_sqrt, eps)
            torch._foreach_addcdiv_("""
A_MOVES = """            torch._foreach_addcdiv_(
                device_params,
                device_exp_avgs,
                exp_avg_sq_sqrt,
"""
# By the fused kernel.
A_FUNCTION = "func = torch._fused_adam_ if not decoupled_weight_decay else torch._fused_adamw_"
A_FUSED = """            beta1=beta1,
            beta2=beta2,
            weight_decay=weight_decay,
            eps=eps,
            maximize=maximize,
            grad_scale=device_grad_scale,"""
A_FUSED_COUNTS = "torch._foreach_add_(device_state_steps, 1)\n        func"
# Of the optimizer.
A_DEFAULTS = "eps: float = 1e-8,\n        weight_decay: float = 1e-2"
A_BETAS = 'beta1, beta2 = group["betas"]'
A_AMSGRAD = 'amsgrad=group["amsgrad"],'

ADAMW = by_each()
A_VISIBLE_EPS = by_each(eps=1e-2)
A_DECAYED = by_each(lr=0.1, weight_decay=0.2)
A_AMS = by_each(10, amsgrad=True, betas=(0.9, 0.9), grads=fading)

adamw(
    "adamw_bias1_missing",
    "bias correction",
    "m is not corrected.",
    ADAMW,
    (A_BIAS, A_BIAS.replace("1 - beta1**step", "1.0")),
    (A_SIZES, A_SIZES.replace("lr / bc", "lr")),
)
adamw(
    "adamw_bias2_missing",
    "bias correction",
    "v is not corrected.",
    ADAMW,
    (A_ROOT_OF_BIAS2, "bias_correction2_sqrt = 1.0\n"),
    (A_ROOTS_OF_BIAS2, "bias_correction2_sqrt = [1.0 for bc in bias_correction2]"),
)
adamw(
    "adamw_bias2_without_root",
    "bias correction",
    "The root of v is divided by 1 - b2^t, not by its root.",
    ADAMW,
    (A_ROOT_OF_BIAS2, A_ROOT_OF_BIAS2.replace("**0.5", "")),
    (A_ROOTS_OF_BIAS2, A_ROOTS_OF_BIAS2.replace("**0.5", "")),
)
adamw(
    "adamw_bias1_of_next_step",
    "bias correction",
    "m is corrected with t + 1.",
    ADAMW,
    (A_BIAS, A_BIAS.replace("beta1**step", "beta1**(step + 1)")),
    (A_BIAS1S, A_BIAS1S.replace("** _get_value(step)", "** (_get_value(step) + 1)")),
)
adamw(
    "adamw_bias2_of_beta1",
    "bias correction",
    "v is corrected with beta1.",
    ADAMW,
    (A_BIAS, A_BIAS.replace("beta2**step", "beta1**step")),
    (A_BIAS2S, A_BIAS2S.replace("beta2", "beta1")),
)
adamw(
    "adamw_eps_before_correction",
    "eps",
    "eps is added to the root of v before its bias correction.",
    A_VISIBLE_EPS,
    (A_DENOMINATOR, "denom = exp_avg_sq.sqrt().add_(eps) / bias_correction2_sqrt"),
    (A_DENOMINATOR_MAX, "denom = max_exp_avg_sqs[i].sqrt().add_(eps) / bias_correction2_sqrt"),
    (
        A_DENOMINATORS,
        "            torch._foreach_add_(exp_avg_sq_sqrt, eps)\n            torch._foreach_div_(exp_avg_sq_sqrt, bias_correction2_sqrt)\n            torch._foreach_addcdiv_(",
    ),
)
adamw(
    "adamw_eps_inside_root",
    "eps",
    "eps is added under the root, to the corrected v.",
    A_VISIBLE_EPS,
    (A_DENOMINATOR, "denom = (exp_avg_sq / bias_correction2 + eps).sqrt()"),
    (A_DENOMINATOR_MAX, "denom = (max_exp_avg_sqs[i] / bias_correction2 + eps).sqrt()"),
    (
        A_DENOMINATORS,
        A_DENOMINATORS.replace(
            "torch._foreach_add_(exp_avg_sq_sqrt, eps)",
            "exp_avg_sq_sqrt = [(x * x + eps).sqrt() for x in exp_avg_sq_sqrt]",
        ),
    ),
)
adamw(
    "adamw_eps_missing",
    "eps",
    "eps is not added.",
    A_VISIBLE_EPS,
    (EPS_OPTION, "eps=0.0,"),
)
adamw(
    "adamw_default_eps_1e6",
    "eps",
    "The default of eps is 1e-6.",
    ADAMW,
    (A_DEFAULTS, A_DEFAULTS.replace("1e-8", "1e-6")),
)
adamw(
    "adamw_default_decay_zero",
    "weight decay",
    "The default of weight_decay is 0, as Adam's.",
    ADAMW,
    (A_DEFAULTS, A_DEFAULTS.replace("1e-2", "0")),
)
adamw(
    "adamw_decay_is_l2",
    "weight decay",
    "Decay is L2: Adam's.",
    A_DECAYED,
    (
        "            decoupled_weight_decay=True,\n        )\n\n    # Preserve",
        "            decoupled_weight_decay=False,\n        )\n\n    # Preserve",
    ),
)
adamw(
    "adamw_decay_without_lr",
    "weight decay",
    "Decay does not scale with lr.",
    A_DECAYED,
    (SHRINK, "param.mul_(1 - weight_decay)"),
    (A_SHRINKS, A_SHRINKS.replace("lr * ", "")),
)
adamw(
    "adamw_decay_twice",
    "weight decay",
    "Decay happens twice.",
    A_DECAYED,
    (SHRINK, SHRINK + ".mul_(1 - lr * weight_decay)"),
    (A_SHRINKS, f"{A_SHRINKS}; {A_SHRINKS}"),
)
adamw(
    "adamw_decay_with_l2",
    "weight decay",
    "Decay adds the L2 term too.",
    A_DECAYED,
    (SHRINK, f"{SHRINK}; grad = grad.add(param, alpha=weight_decay)"),
    (A_SHRINKS, f"{A_SHRINKS}; device_grads = torch._foreach_add(device_grads, device_params, alpha=weight_decay)"),
)
adamw(
    "adamw_decay_grows",
    "weight decay",
    "Decay has the wrong sign.",
    A_DECAYED,
    (SHRINK, "param.mul_(1 + lr * weight_decay)"),
    (A_SHRINKS, A_SHRINKS.replace("1 - lr", "1 + lr")),
)
adamw(
    "adamw_decay_after_update",
    "weight decay",
    "Decay shrinks what the update has made of the parameter.",
    A_DECAYED,
    (SHRINK, "pass"),
    (A_UPDATE, f"{A_UPDATE}\n            {SHRINK}"),
    (A_SHRINKS, "pass"),
    (
        "                step_size,  # type: ignore[arg-type]\n            )\n",
        f"                step_size,  # type: ignore[arg-type]\n            )\n            {A_SHRINKS}\n",
    ),
)
adamw(
    "adamw_betas_swapped",
    "moments",
    "The betas are exchanged.",
    ADAMW,
    (A_BETAS, 'beta2, beta1 = group["betas"]'),
)
adamw(
    "adamw_m_undamped",
    "moments",
    "m takes the whole gradient.",
    ADAMW,
    (A_M, "exp_avg.mul_(device_beta1).add_(grad)"),
    (
        "        torch._foreach_lerp_(\n            device_exp_avgs, device_grads, cast(float, 1 - device_beta1)\n        )",
        "        torch._foreach_mul_(device_exp_avgs, device_beta1)\n        torch._foreach_add_(device_exp_avgs, device_grads)",
    ),
)
adamw(
    "adamw_v_of_absolute",
    "moments",
    "v follows |g|.",
    ADAMW,
    (A_V, "exp_avg_sq.mul_(beta2).add_(grad.abs(), alpha=1 - beta2)"),
    (A_VS, A_VS.replace("scaled_device_grads,", "torch._foreach_sign(scaled_device_grads),")),
)
adamw(
    "adamw_update_by_gradient",
    "moments",
    "The gradient is applied for its momentum.",
    ADAMW,
    (A_UPDATE, A_UPDATE.replace("(exp_avg,", "(grad,")),
    ("        del device_grads\n", ""),
    (A_MOVES, A_MOVES.replace("device_exp_avgs", "device_grads")),
)
adamw(
    "adamw_amsgrad_ignored",
    "amsgrad",
    "The maximum is kept but v is used.",
    A_AMS,
    (A_DENOMINATOR_MAX, A_DENOMINATOR),
    (A_ROOTS_MAX, A_ROOTS_MAX.replace("(device_max_exp_avg_sqs)", "(device_exp_avg_sqs)")),
)
adamw(
    "adamw_amsgrad_not_kept",
    "amsgrad",
    "The maximum is used but not kept.",
    A_AMS,
    (A_MAXIMUM, "largest = torch.maximum(max_exp_avg_sqs[i], exp_avg_sq)"),
    (A_DENOMINATOR_MAX, A_DENOMINATOR_MAX.replace("max_exp_avg_sqs[i]", "largest")),
    (A_MAXIMA, A_MAXIMA.replace("torch._foreach_maximum_", "device_max_exp_avg_sqs = torch._foreach_maximum")),
)
adamw(
    "adamw_amsgrad_fades",
    "amsgrad",
    "The maximum decays with b2.",
    A_AMS,
    (A_MAXIMUM, "max_exp_avg_sqs[i].mul_(beta2); " + A_MAXIMUM),
    (A_MAXIMA, "torch._foreach_mul_(device_max_exp_avg_sqs, beta2); " + A_MAXIMA),
)
adamw(
    "adamw_amsgrad_dropped",
    "amsgrad",
    "amsgrad does not reach the step.",
    A_AMS,
    (A_AMSGRAD, "amsgrad=False,"),
)
adamw(
    "adamw_maximize_ignored",
    "maximize",
    "maximize has no effect.",
    by_each(maximize=True),
    (MAXIMIZE_OPTION, "maximize=False,"),
)
adamw(
    "adamw_maximize_grows",
    "maximize",
    "maximize turns decay into growth.",
    by_each(lr=0.1, weight_decay=0.2, maximize=True),
    (SHRINK, "param.mul_(1 - (-lr if maximize else lr) * weight_decay)"),
    (A_SHRINKS, A_SHRINKS.replace("lr *", "(-lr if maximize else lr) *")),
)
adamw(
    "adamw_step_counted_twice",
    "step count",
    "Every step counts for two.",
    ADAMW,
    (COUNT, COUNT.replace("1", "2")),
    (A_COUNTS, A_COUNTS.replace("alpha=1.0", "alpha=2.0")),
)
adamw(
    "adamw_step_shared",
    "step count",
    "All parameters have the count of the first, though one has missed steps.",
    by_each(9, start=PAIR, grads=absent),
    (
        '                state_steps.append(state["step"])',
        '                if state_steps:\n                    state["step"].copy_(state_steps[0])\n                state_steps.append(state["step"])',
    ),
)
adamw(
    "adamw_lr_of_first_group",
    "plumbing",
    "The first group's lr serves all.",
    groups_of({"lr": 0.1}, {"lr": 1e-3}),
    (LR_OPTION, 'lr=self.param_groups[0]["lr"],'),
)
adamw(
    "adamw_betas_of_defaults",
    "plumbing",
    "A group's own betas are not used.",
    groups_of({"betas": (0.9, 0.9)}, {"betas": (0.5, 0.99)}),
    (A_BETAS, 'beta1, beta2 = self.defaults["betas"]'),
)
adamw(
    "adamw_decay_of_defaults",
    "plumbing",
    "A group's own coefficient is not used: parameters that should not be decayed are.",
    groups_of({"weight_decay": 0.1}, {"weight_decay": 0.0}, lr=0.1),
    (DECAY_OPTION, 'weight_decay=self.defaults["weight_decay"],'),
)
adamw(
    "adamw_load_rounds_moments",
    "state and resume",
    "Loading rounds m to float32.",
    drive(events={4: reload}),
    (
        "                p_state = self.state.get(p, [])\n",
        '                p_state = self.state.get(p, [])\n                if len(p_state) != 0:\n                    p_state["exp_avg"] = p_state["exp_avg"].float().to(p.dtype)\n',
    ),
)
adamw(
    "adamw_load_restarts_count",
    "state and resume",
    "Loading starts the count anew.",
    drive(events={4: reload}),
    (
        "                p_state = self.state.get(p, [])\n",
        '                p_state = self.state.get(p, [])\n                if len(p_state) != 0:\n                    p_state["step"] = 0\n',
    ),
)
adamw(
    "adamw_load_without_decay",
    "state and resume",
    "A loaded optimizer decays by L2, as Adam does.",
    drive(lr=0.1, weight_decay=0.2, events={4: reload}),
    ('            group["decoupled_weight_decay"] = True\n', '            group["decoupled_weight_decay"] = False\n'),
)
adamw(
    "adamw_closure_without_grad",
    "closure",
    "The closure is called without gradients.",
    closures,
    (CLOSE, CLOSE.replace("enable_grad", "no_grad")),
)
adamw(
    "adamw_maximize_writes_gradient",
    "gradient handling",
    "maximize negates .grad itself.",
    by_each(maximize=True, watch=kept_gradients),
    (FLIP, "grad = grads[i] if not maximize else grads[i].neg_()"),
    (A_FLIPS, "torch._foreach_neg_(device_grads)"),
)
adamw(
    "adamw_gradient_clipped",
    "gradient handling",
    "Gradients are clipped to 10 in every element.",
    by_each(grads=scaled(100.0)),
    (GRADS, "grads.append(p.grad.clamp(-10.0, 10.0) if p.grad.is_floating_point() else p.grad)"),
)
adamw(
    "adamw_scalars_skipped",
    "layout",
    "Parameters without dimensions are skipped.",
    by_each(start=(1.5,)),
    (HAS_GRAD, HAS_GRAD.replace("not None", "not None and p.dim()")),
)
adamw(
    "adamw_complex_imaginary_frozen",
    "complex",
    "The imaginary part of a complex parameter sees no gradient.",
    by_each(dtype=torch.complex128, start=Z, lr=0.1),
    (GRADS, "grads.append(p.grad.real.to(p.dtype) if p.is_complex() else p.grad)"),
)
adamw(
    "adamw_size_relative_1e9",
    "precision",
    "The step is too long by one part in a thousand million.",
    ADAMW,
    (A_UPDATE, A_UPDATE.replace("-step_size", "-step_size * (1 + 1e-9)")),
    (A_SIZES, A_SIZES.replace("* -1", "* -(1 + 1e-9)")),
)
adamw(
    "adamw_bias2_float32",
    "precision",
    "The root of 1 - b2^t is rounded to float32.",
    ADAMW,
    (A_ROOT_OF_BIAS2, f"bias_correction2_sqrt = {FLOAT32.format('bias_correction2**0.5')}\n"),
    (A_ROOTS_OF_BIAS2, f"bias_correction2_sqrt = [{FLOAT32.format('bc**0.5')} for bc in bias_correction2]"),
)
adamw(
    "adamw_decay_factor_float32",
    "precision",
    "1 - lr * weight_decay is rounded to float32.",
    A_DECAYED,
    (SHRINK, f"param.mul_({FLOAT32.format('1 - lr * weight_decay')})"),
    (A_SHRINKS, A_SHRINKS.replace("1 - lr * weight_decay", FLOAT32.format("1 - lr * weight_decay"))),
)
adamw(
    "adamw_after_500_uncorrected",
    "only then",
    "After 500 steps v is no longer corrected, when 1 - 0.999^t is still 0.4.",
    by_each(503),
    (A_BIAS, A_BIAS.replace("1 - beta2**step", "1 - beta2**step if step <= 500 else 1.0")),
    (
        A_BIAS2S,
        A_BIAS2S.replace(
            "1 - beta2 ** _get_value(step)", "(1 - beta2 ** _get_value(step) if _get_value(step) <= 500 else 1.0)"
        ),
    ),
)
adamw(
    "adamw_zero_gradients_not_decayed",
    "only then",
    "A parameter whose gradient is exactly zero is not decayed.",
    by_each(6, lr=0.1, weight_decay=0.2, grads=lambda t, i, p: torch.zeros_like(p) if t == 3 else wave(t, i, p)),
    (SHRINK, "param.mul_(1 - lr * weight_decay * float(bool(grad.any())))"),
    (
        A_SHRINKS,
        A_SHRINKS.replace(
            "1 - lr * weight_decay", "[1 - lr * weight_decay * float(bool(g.any())) for g in device_grads]"
        ),
    ),
)
adamw(
    "adamw_nan_lr_accepted",
    "validation",
    "An lr of NaN is accepted.",
    refusal_of("learning rate", lr=NAN),
    (LR_CHECK, "if lr < 0.0:"),
)
adamw(
    "adamw_beta1_of_one_accepted",
    "validation",
    "A beta1 of 1 is accepted, with which nothing ever moves.",
    refusal_of("beta", betas=(1.0, 0.999)),
    (BETA1_CHECK, BETA1_CHECK.replace("< 1.0", "<= 1.0")),
)
adamw(
    "adamw_negative_decay_accepted",
    "validation",
    "A negative weight_decay is accepted.",
    refusal_of("weight_decay", weight_decay=-0.1),
    (DECAY_CHECK, "if weight_decay != weight_decay:"),
)

# In one path only.
adamw(
    "adamw_foreach_eps_before_correction",
    "one path",
    "By foreach eps is added before the bias correction of v.",
    by_foreach(eps=1e-2),
    (
        A_DENOMINATORS,
        "            torch._foreach_add_(exp_avg_sq_sqrt, eps)\n            torch._foreach_div_(exp_avg_sq_sqrt, bias_correction2_sqrt)\n            torch._foreach_addcdiv_(",
    ),
)
adamw(
    "adamw_foreach_bias2_of_first",
    "one path",
    "By foreach all parameters take the bias correction of the first, though one has missed steps.",
    by_foreach(9, start=PAIR, grads=absent),
    (A_BIAS2S, A_BIAS2S.replace("_get_value(step)", "_get_value(device_state_steps[0])")),
)
adamw(
    "adamw_foreach_decay_missing",
    "one path",
    "By foreach nothing is decayed.",
    by_foreach(lr=0.1, weight_decay=0.2),
    (A_SHRINKS, "pass"),
)
adamw(
    "adamw_foreach_amsgrad_ignored",
    "one path",
    "By foreach v is used for its maximum.",
    by_foreach(10, amsgrad=True, betas=(0.9, 0.9), grads=fading),
    (A_ROOTS_MAX, A_ROOTS_MAX.replace("(device_max_exp_avg_sqs)", "(device_exp_avg_sqs)")),
)
adamw(
    "adamw_foreach_v_damped_by_beta1",
    "one path",
    "By foreach v decays with beta1.",
    by_foreach(),
    (A_VS_DAMPED, A_VS_DAMPED.replace("beta2", "beta1")),
)
adamw(
    "adamw_foreach_maximize_ignored",
    "one path",
    "By foreach maximize has no effect.",
    by_foreach(maximize=True),
    (A_FLIPS, "pass"),
)
adamw(
    "adamw_foreach_last_not_moved",
    "one path",
    "By foreach the last of several parameters does not move, but for its decay.",
    by_foreach(start=PAIR),
    (
        A_MOVES,
        "            n = max(1, len(device_params) - 1)\n            step_size = step_size[:n]\n            torch._foreach_addcdiv_(\n                device_params[:n],\n                device_exp_avgs[:n],\n                exp_avg_sq_sqrt[:n],\n",
    ),
)
adamw(
    "adamw_loop_bias1_missing",
    "one path",
    "By the for-loop m is not corrected.",
    by_loop(),
    (A_BIAS, A_BIAS.replace("1 - beta1**step", "1.0")),
)
adamw(
    "adamw_loop_amsgrad_not_kept",
    "one path",
    "By the for-loop AMSGrad's maximum is used but not kept.",
    by_loop(10, amsgrad=True, betas=(0.9, 0.9), grads=fading),
    (A_MAXIMUM, "largest = torch.maximum(max_exp_avg_sqs[i], exp_avg_sq)"),
    (A_DENOMINATOR_MAX, A_DENOMINATOR_MAX.replace("max_exp_avg_sqs[i]", "largest")),
)
adamw(
    "adamw_loop_decay_of_vectors_skipped",
    "one path",
    "By the for-loop one-dimensional parameters are not decayed.",
    by_loop(lr=0.1, weight_decay=0.2),
    (SHRINK, "param.mul_(1 - lr * weight_decay if param.dim() != 1 else 1.0)"),
)
adamw(
    "adamw_loop_maximize_writes_gradient",
    "one path",
    "By the for-loop maximize negates .grad itself.",
    by_loop(maximize=True, watch=kept_gradients),
    (FLIP, "grad = grads[i] if not maximize else grads[i].neg_()"),
)
adamw(
    "adamw_differentiable_bias1_missing",
    "one path",
    "With differentiable=True m is not corrected.",
    by_autograd(),
    (A_BIAS1_T, A_BIAS1_T.replace("1 - beta1**step", "torch.ones_like(step)")),
)
adamw(
    "adamw_differentiable_bias2_of_beta1",
    "one path",
    "With differentiable=True v is corrected with beta1.",
    by_autograd(),
    (A_BIAS2_T, A_BIAS2_T.replace("beta2", "beta1")),
)
adamw(
    "adamw_differentiable_eps_missing",
    "one path",
    "With differentiable=True eps is not added.",
    by_autograd(eps=1e-2),
    (A_DENOMINATOR_T, A_DENOMINATOR_T.replace(".add_(eps / step_size_neg)", "")),
)
adamw(
    "adamw_differentiable_amsgrad_not_kept",
    "one path",
    "With differentiable=True AMSGrad's maximum is that of the present v.",
    by_autograd(10, amsgrad=True, betas=(0.9, 0.9), grads=fading),
    (A_MAXIMUM_T, "max_exp_avg_sqs[i].copy_(exp_avg_sq)"),
)
adamw(
    "adamw_fused_betas_swapped",
    "one path",
    "By the fused kernel the betas are exchanged.",
    drive(fused=True),
    (A_FUSED, A_FUSED.replace("beta1=beta1", "beta1=beta2").replace("beta2=beta2", "beta2=beta1")),
)
adamw(
    "adamw_fused_decay_is_l2",
    "one path",
    "By the fused kernel decay is L2.",
    drive(lr=0.1, weight_decay=0.2, fused=True),
    (A_FUNCTION, "func = torch._fused_adam_"),
)
adamw(
    "adamw_fused_step_not_counted",
    "one path",
    "By the fused kernel every step is the first.",
    drive(fused=True),
    (
        A_FUSED_COUNTS,
        "torch._foreach_add_(device_state_steps, [-step + 1 for step in device_state_steps])\n        func",
    ),
)
adamw(
    "adamw_fused_eps_relative",
    "one path",
    "By the fused kernel eps is scaled by lr.",
    drive(lr=0.1, eps=1e-2, fused=True),
    (A_FUSED, A_FUSED.replace("eps=eps", "eps=eps * lr")),
)
