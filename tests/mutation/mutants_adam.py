"""Mutants of a plain Adam with the constructor of torch.optim.Adam."""

# Edits quote source text, which reads better unbroken.
# ruff: noqa: E501

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
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
    through_pickle,
    wave,
)

MUTANTS: list[Mutant] = []


adam = adding(MUTANTS, "right_adam")

# The texts that edits aim at.
BIAS1 = "bias1 = 1.0 - beta1**t\n"
BIAS2 = "bias2 = 1.0 - beta2**t\n"
DENOMINATOR = 'denominator = s.sqrt().div_(math.sqrt(bias2)).add_(group["eps"])'
UPDATE = "work.addcdiv_(m, denominator, value=-lr / bias1)"
M = "m.mul_(beta1).add_(g, alpha=1.0 - beta1)"
V = "v.mul_(beta2).addcmul_(g, g, value=1.0 - beta2)"
S = "        s = v\n"
MAXIMUM = "torch.maximum(s, v, out=s)"
SHRINK = "work.mul_(1.0 - lr * decay)"
L2 = "g = g + decay * work"
DECOUPLED = 'if group["decoupled_weight_decay"]:'
DECAY = 'decay = group["weight_decay"]'
FLIP = '        if group["maximize"]:\n            g = -g\n'
INCREMENT = 'state["step"] += 1'
T = 't = int(state["step"])'
LR = 'lr = float(group["lr"])\n        beta1'
BETAS = 'beta1, beta2 = group["betas"]'
STATE = "state = self.state_of(p, group)"
END = "\n        if p.dtype in HALF:\n            p.copy_(work)\n"
STEP_ONE = "                if p.grad is not None:\n                    self.step_one(p, p.grad, group)"
PLAIN_GRAD = "g = as_real(grad.to(p.dtype))"
PLAIN_WORK = "work = as_real(p)\n"
LOADED = 'self.state[p][key] = value.to(p.device if key != "step" else "cpu", copy=True)'

PLAIN = drive()
VISIBLE_EPS = drive(eps=1e-2)
DECAYED = drive(lr=0.1, weight_decay=0.2, decoupled_weight_decay=True)
L2ED = drive(lr=0.1, weight_decay=0.2)
PAIR = ((0.0, 0.5, -1.0), (1.0, -0.25))
FLOAT32 = "float(torch.tensor({}, dtype=torch.float32))"


AMSGRAD = drive(10, amsgrad=True, betas=(0.9, 0.9), grads=fading)
GAPS = drive(9, start=PAIR, grads=lambda t, i, p: None if i == 1 and t in (2, 3) else wave(t, i, p))


def two(first: dict[str, Any], second: dict[str, Any], **hyper: Any) -> Scenario:
    """Two groups, whose options differ from one another and from the defaults."""
    return drive(6, start=PAIR, groups=(first, second), **hyper)


def add_group(run: Run) -> None:
    run.params.append(torch.nn.Parameter(torch.ones(2, dtype=torch.float64)))
    run.optimizer.add_param_group({"params": [run.params[-1]]})


def kept_gradients(run: Run) -> None:
    for index, p in enumerate(run.params):
        run.notes[f"grad {index}"] = None if p.grad is None else p.grad.clone()


# --- bias correction -------------------------------------------------------------------------------------------------

adam("adam_bias1_missing", "bias correction", "m is not corrected.", PLAIN, (UPDATE, UPDATE.replace(" / bias1", "")))
adam(
    "adam_bias2_missing",
    "bias correction",
    "v is not corrected.",
    PLAIN,
    (DENOMINATOR, DENOMINATOR.replace(".div_(math.sqrt(bias2))", "")),
)
adam(
    "adam_bias2_without_root",
    "bias correction",
    "The root of v is divided by 1 - b2^t, not by its root.",
    PLAIN,
    (DENOMINATOR, DENOMINATOR.replace("math.sqrt(bias2)", "bias2")),
)
adam(
    "adam_bias1_next_step",
    "bias correction",
    "m is corrected with t + 1.",
    PLAIN,
    (BIAS1, "bias1 = 1.0 - beta1 ** (t + 1)\n"),
)
adam(
    "adam_bias2_previous_step",
    "bias correction",
    "v is corrected with t - 1 from the second step on.",
    PLAIN,
    (BIAS2, "bias2 = 1.0 - beta2 ** max(t - 1, 1)\n"),
)
adam(
    "adam_bias_betas_swapped",
    "bias correction",
    "Each bias correction takes the other's beta.",
    PLAIN,
    (BIAS1, BIAS1.replace("beta1", "beta2")),
    (BIAS2, BIAS2.replace("beta2", "beta1")),
)
adam(
    "adam_bias1_linear",
    "bias correction",
    "1 - b1^t is replaced by t (1 - b1), at most 1.",
    PLAIN,
    (BIAS1, "bias1 = min(1.0, t * (1.0 - beta1))\n"),
)
adam(
    "adam_bias_by_multiplication",
    "bias correction",
    "m is multiplied by its correction, where it should be divided.",
    PLAIN,
    (UPDATE, UPDATE.replace("/ bias1", "* bias1")),
)

# --- eps -------------------------------------------------------------------------------------------------------------

adam(
    "adam_eps_before_correction",
    "eps",
    "eps is added to the root of v before its bias correction.",
    VISIBLE_EPS,
    (DENOMINATOR, 'denominator = s.sqrt().add_(group["eps"]).div_(math.sqrt(bias2))'),
)
adam(
    "adam_eps_inside_root",
    "eps",
    "eps is added to v under the root.",
    VISIBLE_EPS,
    (DENOMINATOR, 'denominator = s.div(bias2).add_(group["eps"]).sqrt_()'),
)
adam(
    "adam_eps_squared_inside",
    "eps",
    "The square of eps is added under the root.",
    VISIBLE_EPS,
    (DENOMINATOR, 'denominator = s.div(bias2).add_(group["eps"] ** 2).sqrt_()'),
)
adam(
    "adam_eps_zero_replaced",
    "eps",
    "eps = 0 is taken for the default.",
    drive(eps=0.0, grads=scaled(1e-7)),
    (DENOMINATOR, DENOMINATOR.replace('group["eps"]', '(group["eps"] or 1e-8)')),
)
adam(
    "adam_eps_as_floor",
    "eps",
    "eps is the smallest denominator instead of a summand.",
    VISIBLE_EPS,
    (DENOMINATOR, DENOMINATOR.replace('add_(group["eps"])', 'clamp_(min=group["eps"])')),
)
adam(
    "adam_eps_over_lr",
    "eps",
    "The step is divided by lr before eps is added, so that eps counts lr times as much.",
    drive(lr=0.1, eps=1e-2),
    (DENOMINATOR, DENOMINATOR.replace('group["eps"]', 'group["eps"] * lr')),
)
adam(
    "adam_eps_ignored_with_amsgrad",
    "eps",
    "eps is missing with AMSGrad.",
    drive(amsgrad=True, eps=1e-2),
    (DENOMINATOR, DENOMINATOR.replace('group["eps"]', '0.0 if group["amsgrad"] else group["eps"]')),
)

# --- moments ---------------------------------------------------------------------------------------------------------

adam("adam_m_undamped", "moments", "m takes the whole gradient.", PLAIN, (M, "m.mul_(beta1).add_(g)"))
adam("adam_betas_swapped", "moments", "The betas are exchanged.", PLAIN, (BETAS, 'beta2, beta1 = group["betas"]'))
adam(
    "adam_v_of_residual",
    "moments",
    "v follows the square of g - m, as AdaBelief's does.",
    PLAIN,
    (V, "v.mul_(beta2).addcmul_(g - m, g - m, value=1.0 - beta2)"),
)
adam(
    "adam_v_of_absolute",
    "moments",
    "v follows |g|.",
    PLAIN,
    (V, "v.mul_(beta2).add_(g.abs(), alpha=1.0 - beta2)"),
)
adam(
    "adam_v_as_maximum",
    "moments",
    "v is the larger of b2 v and the square of the gradient, as in AdaMax.",
    PLAIN,
    (V, "torch.maximum(v.mul_(beta2), g * g, out=v)"),
)
adam(
    "adam_m_starts_at_gradient",
    "moments",
    "m starts at the first gradient and is corrected all the same.",
    PLAIN,
    (M, "m.copy_(g) if t == 1 else " + M),
)
adam(
    "adam_nesterov",
    "moments",
    "The update looks one step ahead, as NAdam's does.",
    PLAIN,
    (UPDATE, UPDATE.replace("(m,", "(m * beta1 + g * (1.0 - beta1),")),
)
adam(
    "adam_update_by_gradient",
    "moments",
    "The gradient is applied for its momentum.",
    PLAIN,
    (UPDATE, UPDATE.replace("(m,", "(g,")),
)
adam(
    "adam_v_stale",
    "moments",
    "The update is divided by the root of the last step's v.",
    PLAIN,
    (V, "old = v.clone()\n        " + V),
    (S, "        s = old if t > 1 else v\n"),
)
adam(
    "adam_v_averaged_over_tensor",
    "moments",
    "All elements of a parameter share the mean of v.",
    PLAIN,
    (S, "        s = v.mean().expand_as(v).clone()\n"),
)

# --- amsgrad ---------------------------------------------------------------------------------------------------------

adam(
    "adam_amsgrad_of_corrected",
    "amsgrad",
    "The maximum is that of the corrected v.",
    AMSGRAD,
    (MAXIMUM, "torch.maximum(s, v / (1.0 - beta2**t), out=s)"),
    (DENOMINATOR, DENOMINATOR.replace("math.sqrt(bias2)", '1.0 if group["amsgrad"] else math.sqrt(bias2)')),
)
adam(
    "adam_amsgrad_max_after_use",
    "amsgrad",
    "The maximum is taken after it has been used, from the second step on.",
    AMSGRAD,
    (MAXIMUM, f"old = s.clone() if t > 1 else v\n            {MAXIMUM}\n            s = old"),
)
adam(
    "adam_amsgrad_not_kept",
    "amsgrad",
    "The maximum is used but not kept.",
    AMSGRAD,
    (MAXIMUM, "s = torch.maximum(s, v)"),
)
adam(
    "adam_amsgrad_minimum",
    "amsgrad",
    "A running minimum from the second step on.",
    drive(10, amsgrad=True, betas=(0.9, 0.9)),
    (MAXIMUM, f"torch.minimum(s, v, out=s) if t > 1 else {MAXIMUM}"),
)
adam("adam_amsgrad_ignored", "amsgrad", "The maximum is kept but v is used.", AMSGRAD, (MAXIMUM, MAXIMUM + "; s = v"))
adam("adam_amsgrad_fades", "amsgrad", "The maximum decays with b2.", AMSGRAD, (MAXIMUM, "s.mul_(beta2); " + MAXIMUM))
adam(
    "adam_amsgrad_replaces_v", "amsgrad", "v itself becomes the maximum.", AMSGRAD, (MAXIMUM, MAXIMUM + "; v.copy_(s)")
)
adam(
    "adam_amsgrad_loses_nan",
    "amsgrad",
    "The maximum passes over NaN, so that a broken v goes unnoticed.",
    drive(4, amsgrad=True, grads=lambda t, i, p: wave(t, i, p) * (float("nan") if t == 3 else 1.0)),
    (MAXIMUM, "torch.fmax(s, v, out=s)"),
)

# --- weight decay ----------------------------------------------------------------------------------------------------

adam(
    "adam_decoupled_inverted",
    "weight decay",
    "L2 for decoupled decay and the reverse.",
    L2ED,
    (DECOUPLED, DECOUPLED.replace("if ", "if not ")),
)
adam("adam_decoupled_ignored", "weight decay", "Decay is L2 always.", DECAYED, (DECOUPLED, "if False:"))
adam(
    "adam_decay_without_lr",
    "weight decay",
    "Decoupled decay does not scale with lr.",
    DECAYED,
    (SHRINK, "work.mul_(1.0 - decay)"),
)
adam(
    "adam_decay_after_update",
    "weight decay",
    "Decoupled decay shrinks what the update has made of the parameter.",
    DECAYED,
    (SHRINK, "pass"),
    (
        UPDATE,
        UPDATE + '\n        if group["decoupled_weight_decay"]:\n            work.mul_(1.0 - lr * decay)',
    ),
)
adam(
    "adam_l2_and_decoupled",
    "weight decay",
    "Decoupled decay adds the L2 term too.",
    DECAYED,
    (SHRINK, f"{SHRINK}\n                {L2}"),
)
adam("adam_l2_with_lr", "weight decay", "The L2 term is scaled by lr.", L2ED, (L2, "g = g + lr * decay * work"))
adam(
    "adam_l2_into_m_only",
    "weight decay",
    "The L2 term does not reach v.",
    L2ED,
    (L2, f"raw = g\n                {L2}"),
    (
        V,
        'raw = g if decay == 0.0 or group["decoupled_weight_decay"] else raw\n        '
        + V.replace("(g, g,", "(raw, raw,"),
    ),
)
adam(
    "adam_l2_after_moments",
    "weight decay",
    "The L2 term is added to the momentum in the update and kept out of the moments.",
    L2ED,
    (L2, "pass"),
    (
        UPDATE,
        UPDATE.replace("(m,", '(m if decay == 0.0 or group["decoupled_weight_decay"] else m + decay * work,'),
    ),
)
adam(
    "adam_decay_with_step_size",
    "weight decay",
    "Decoupled decay is scaled by lr / (1 - b1^t).",
    DECAYED,
    (SHRINK, 'work.mul_(1.0 - lr / (1.0 - beta1 ** (float(state["step"]) + 1.0)) * decay)'),
)
adam(
    "adam_decay_of_vectors_skipped",
    "weight decay",
    "One-dimensional parameters are not decayed.",
    DECAYED,
    (DECAY, DECAY + " if p.dim() != 1 else 0.0"),
)
adam("adam_decay_grows", "weight decay", "Decay has the wrong sign.", DECAYED, (SHRINK, "work.mul_(1.0 + lr * decay)"))

# --- maximize --------------------------------------------------------------------------------------------------------

adam(
    "adam_maximize_flips_l2",
    "maximize",
    "maximize negates the L2 term too, so that parameters grow.",
    drive(lr=0.1, weight_decay=0.2, maximize=True),
    (FLIP, ""),
    (f"                {L2}\n", f"                {L2}\n{FLIP}"),
)
adam("adam_maximize_ignored", "maximize", "maximize has no effect.", drive(maximize=True), (FLIP, ""))
adam(
    "adam_maximize_ignored_with_amsgrad",
    "maximize",
    "With AMSGrad maximize has no effect.",
    drive(maximize=True, amsgrad=True),
    (FLIP, FLIP.replace('group["maximize"]', 'group["maximize"] and not group["amsgrad"]')),
)
adam(
    "adam_maximize_by_ascent_of_decay",
    "maximize",
    "maximize turns decoupled decay into growth.",
    drive(lr=0.1, weight_decay=0.2, decoupled_weight_decay=True, maximize=True),
    (SHRINK, 'work.mul_(1.0 + lr * decay if group["maximize"] else 1.0 - lr * decay)'),
)

# --- step count ------------------------------------------------------------------------------------------------------

ZERO_STEP = "torch.tensor(0.0, dtype=torch.float32)"
adam(
    "adam_step_shared_by_group",
    "step count",
    "The count is the group's, so a parameter that has missed steps is as old as the rest.",
    GAPS,
    (
        '            for p in group["params"]:\n                if p.grad is not None:\n                    self',
        '            group["count"] = group.get("count", 0) + 1\n            for p in group["params"]:\n                if p.grad is not None:\n                    self',
    ),
    (INCREMENT, 'state["step"].fill_(group["count"])'),
)
adam(
    "adam_step_bfloat16",
    "step count",
    "The count is a bfloat16 tensor, which stops at 256.",
    drive(300),
    (ZERO_STEP, ZERO_STEP.replace("float32", "bfloat16")),
)
adam(
    "adam_step_starts_at_one",
    "step count",
    "The first step is counted as the second.",
    PLAIN,
    (ZERO_STEP, ZERO_STEP.replace("0.0", "1.0")),
)
adam(
    "adam_step_counted_after_use",
    "step count",
    "From the second step on the corrections are those of the step before.",
    PLAIN,
    (T, 't = max(1, int(state["step"]) - 1)'),
)
adam(
    "adam_step_of_zero_gradients_not_counted",
    "step count",
    "A zero gradient moves the moments but is not counted.",
    drive(6, grads=lambda t, i, p: torch.zeros_like(p) if t in (2, 3) else wave(t, i, p)),
    (INCREMENT, 'state["step"] += float(bool(g.any()) or float(state["step"]) == 0.0)'),
)

# --- plumbing --------------------------------------------------------------------------------------------------------

adam(
    "adam_lr_of_defaults",
    "plumbing",
    "A group's own lr is not used.",
    two({"lr": 0.1}, {"lr": 1e-3}),
    (LR, LR.replace('group["lr"]', 'self.defaults["lr"]')),
)
adam(
    "adam_betas_of_first_group",
    "plumbing",
    "The first group's betas serve all.",
    two({"betas": (0.9, 0.9)}, {"betas": (0.5, 0.99)}),
    (BETAS, 'beta1, beta2 = self.param_groups[0]["betas"]'),
)
adam(
    "adam_eps_of_defaults",
    "plumbing",
    "A group's own eps is not used.",
    two({"eps": 1e-8}, {"eps": 1e-2}),
    (DENOMINATOR, DENOMINATOR.replace("group[", "self.defaults[")),
)
adam(
    "adam_decay_of_first_group",
    "plumbing",
    "The first group's coefficient serves all.",
    two({"weight_decay": 0.1}, {"weight_decay": 0.0}, lr=0.1),
    (DECAY, 'decay = self.param_groups[0]["weight_decay"]'),
)
adam(
    "adam_lr_read_once",
    "plumbing",
    "lr is read at the first step: schedulers have no effect.",
    drive(events={4: set_option(lr=0.1)}),
    (LR, LR.replace('float(group["lr"])', 'group.setdefault("first_lr", float(group["lr"]))')),
)
adam(
    "adam_late_group_not_stepped",
    "plumbing",
    "A group that is added after the first step is not stepped.",
    drive(events={4: add_group}),
    (
        STEP_ONE,
        '                if p.grad is not None and any(group is known for known in self.__dict__.setdefault("known", list(self.param_groups))):\n                    self.step_one(p, p.grad, group)',
    ),
)
adam(
    "adam_default_beta2_099",
    "plumbing",
    "The default of beta2 is 0.99.",
    PLAIN,
    ("betas: tuple[float, float] = (0.9, 0.999)", "betas: tuple[float, float] = (0.9, 0.99)"),
)
adam(
    "adam_default_eps_1e6",
    "plumbing",
    "The default of eps is 1e-6.",
    PLAIN,
    ("eps: float = 1e-8", "eps: float = 1e-6"),
)
adam(
    "adam_amsgrad_not_an_option",
    "plumbing",
    "The constructor drops amsgrad.",
    AMSGRAD,
    ('"amsgrad": amsgrad,', '"amsgrad": False,'),
)

# --- state and resume ------------------------------------------------------------------------------------------------


def sharing(module: Module) -> Observation:
    """Two optimizers take over one state_dict; the second's step must not be seen in the first nor in the dict."""
    p, q = (torch.nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2))
    first, second = optimizer_of(module)([p]), optimizer_of(module)([q])
    p.grad, q.grad = wave(1, 0, p), wave(2, 0, q)
    first.step()
    saved = first.state_dict()
    second.load_state_dict(saved)
    second.step()
    return {name: tensor.clone() for name, tensor in first.state[p].items()}


def old_file(module: Module) -> Observation:
    """A state_dict from before an option existed."""
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = optimizer_of(module)([p])
    saved = copy.deepcopy(optimizer.state_dict())
    del saved["param_groups"][0]["maximize"]
    optimizer.load_state_dict(saved)
    p.grad = wave(1, 0, p)
    optimizer.step()
    return {"p": p.detach().clone()}


RESUME = drive(events={4: reload})
adam(
    "adam_load_restarts_count",
    "state and resume",
    "A loaded optimizer counts from 0.",
    RESUME,
    (LOADED, LOADED + ' * (key != "step")'),
)
adam(
    "adam_load_halves_moments",
    "state and resume",
    "Loading rounds the moments of a half parameter to its dtype.",
    drive(dtype=torch.bfloat16, lr=0.1, events={4: reload}),
    (LOADED, LOADED + ' if key == "step" else value.to(p.dtype, copy=True).to(value.dtype)'),
)
adam(
    "adam_load_drops_maximum",
    "state and resume",
    "Loading drops the maximum.",
    drive(10, amsgrad=True, betas=(0.9, 0.9), grads=fading, events={5: reload}),
    (
        "                if isinstance(value, Tensor):\n",
        '                if key == "max_exp_avg_sq":\n                    del self.state[p][key]\n                elif isinstance(value, Tensor):\n',
    ),
)
adam(
    "adam_load_exchanges_moments",
    "state and resume",
    "Loading takes the moments for one another.",
    RESUME,
    (LOADED, LOADED.replace("[key]", '[{"exp_avg": "exp_avg_sq", "exp_avg_sq": "exp_avg"}.get(key, key)]')),
)
adam(
    "adam_old_file_without_default",
    "state and resume",
    "An option that a file lacks stays missing.",
    old_file,
    (
        "            for name, value in self.defaults.items():\n                group.setdefault(name, value)\n",
        '            group.setdefault("amsgrad", False)\n',
    ),
)
adam(
    "adam_pickle_loses_state",
    "state and resume",
    "Pickle keeps the groups but not the state.",
    drive(events={4: through_pickle}),
    (
        "    def __setstate__(self",
        '    def __getstate__(self) -> dict[str, Any]:\n        import collections\n\n        return {**super().__getstate__(), "state": collections.defaultdict(dict)}\n\n    def __setstate__(self',
    ),
)
adam(
    "adam_state_dict_rounded",
    "state and resume",
    "state_dict() rounds float64 moments to float32.",
    RESUME,
    (
        "    def load_state_dict(self",
        '    def state_dict(self) -> dict[str, Any]:\n        saved = super().state_dict()\n        for entry in saved["state"].values():\n            for key in ("exp_avg", "exp_avg_sq"):\n                entry[key] = entry[key].float().to(entry[key].dtype)\n        return saved\n\n    def load_state_dict(self',
    ),
)

# --- closure ---------------------------------------------------------------------------------------------------------


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
        with torch.no_grad():
            loss = optimizer.step(closure)
        returned.append(None if loss is None else float(loss.detach()))
    return {"modes": modes, "returned": returned, "p": p.detach().clone()}


CLOSE = "            with torch.enable_grad():\n                loss = closure()\n"
adam(
    "adam_closure_twice",
    "closure",
    "The closure is called twice.",
    closures,
    (CLOSE, CLOSE + "                closure()\n"),
)
adam(
    "adam_closure_without_grad",
    "closure",
    "The closure runs without gradients.",
    closures,
    (CLOSE, "            loss = closure()\n"),
)
adam(
    "adam_loss_dropped",
    "closure",
    "step(closure) returns None.",
    closures,
    ("        return loss\n", "        return None\n"),
)
adam("adam_closure_ignored", "closure", "The closure is never called.", closures, (CLOSE, "            loss = None\n"))

# --- gradient handling -----------------------------------------------------------------------------------------------

adam(
    "adam_maximize_writes_gradient",
    "gradient handling",
    "maximize negates .grad itself.",
    drive(maximize=True, watch=kept_gradients),
    (FLIP, FLIP.replace("g = -g", "g = g.neg_()")),
)
adam(
    "adam_l2_writes_gradient",
    "gradient handling",
    "The L2 term is added to .grad itself.",
    drive(lr=0.1, weight_decay=0.2, watch=kept_gradients),
    (L2, "g = g.add_(work, alpha=decay)"),
)
adam(
    "adam_gradient_emptied",
    "gradient handling",
    "step() zeroes .grad.",
    drive(watch=kept_gradients),
    (STEP_ONE, STEP_ONE + "\n                    p.grad.zero_()"),
)
adam(
    "adam_nan_to_zero",
    "gradient handling",
    "NaN in a gradient is taken for zero.",
    drive(grads=lambda t, i, p: wave(t, i, p) * (float("nan") if t == 3 else 1.0)),
    (INCREMENT, f"g = g.nan_to_num(nan=0.0)\n        {INCREMENT}"),
)
adam(
    "adam_none_taken_for_zero",
    "gradient handling",
    "A parameter without a gradient is stepped as if it were zero.",
    GAPS,
    (STEP_ONE, STEP_ONE + "\n                else:\n                    self.step_one(p, torch.zeros_like(p), group)"),
)
adam(
    "adam_gradient_clipped",
    "gradient handling",
    "Gradients are clipped to 10 in every element.",
    drive(grads=lambda t, i, p: wave(t, i, p) * (100.0 if t == 3 else 1.0)),
    (INCREMENT, f"g = g.clamp(-10.0, 10.0)\n        {INCREMENT}"),
)
adam(
    "adam_frozen_skipped",
    "gradient handling",
    "A parameter with requires_grad=False is skipped, gradient or not.",
    drive(events={4: lambda run: run.params[0].requires_grad_(False)}),
    (STEP_ONE, STEP_ONE.replace("p.grad is not None", "p.grad is not None and p.requires_grad")),
)

# --- layout ----------------------------------------------------------------------------------------------------------

SQUARE = torch.arange(9.0, dtype=torch.float64).reshape(3, 3) / 4.0
TRANSPOSED = drive(4, start=(SQUARE.t(),))
adam(
    "adam_transposed_lost",
    "layout",
    "A parameter that is not contiguous is stepped in a copy.",
    TRANSPOSED,
    (PLAIN_WORK, "work = as_real(p).contiguous()\n"),
)
adam(
    "adam_gradient_in_memory_order",
    "layout",
    "A gradient is read in the order of its memory.",
    drive(4, start=(SQUARE,), grads=lambda t, i, p: wave(t, i, p).t().contiguous().t()),
    (PLAIN_GRAD, PLAIN_GRAD + "\n            g = g if p.is_complex() else torch.as_strided(g, p.shape, p.stride())"),
)
adam(
    "adam_scalars_skipped",
    "layout",
    "Parameters without dimensions are skipped.",
    drive(4, start=(1.5,)),
    (STEP_ONE, STEP_ONE.replace("p.grad is not None", "p.grad is not None and p.dim() > 0")),
)
adam(
    "adam_moments_transposed",
    "layout",
    "The momentum of a square matrix is applied to its transpose.",
    drive(4, start=(SQUARE,)),
    (UPDATE, UPDATE.replace("(m,", "(m.t() if m.dim() == 2 and m.shape[0] == m.shape[1] else m,")),
)

# --- dtype -----------------------------------------------------------------------------------------------------------

BF16 = drive(20, dtype=torch.bfloat16, lr=0.3)
FP16 = drive(dtype=torch.float16, lr=0.1, grads=scaled(1e-4))
adam(
    "adam_half_moments",
    "dtype",
    "Half parameters are stepped in their own dtype, moments and all.",
    FP16,
    ("dtype = torch.float32 if p.dtype in HALF else p.dtype", "dtype = p.dtype"),
    ("            g = grad.to(torch.float32)", "            g = grad"),
    ("            work = p.to(torch.float32)", "            work = p"),
)
adam(
    "adam_half_rounded_after_decay",
    "dtype",
    "A half parameter is rounded after its decay and again after its update.",
    drive(dtype=torch.bfloat16, lr=0.1, weight_decay=0.2, decoupled_weight_decay=True),
    (SHRINK, SHRINK + "\n                work.copy_(work.to(p.dtype))"),
)
adam(
    "adam_half_update_rounded",
    "dtype",
    "The update of a half parameter is rounded before it is subtracted.",
    BF16,
    (
        UPDATE,
        "update = m / denominator * (-lr / bias1)\n        work.add_(update.to(p.dtype) if p.dtype in HALF else update)",
    ),
)
adam(
    "adam_half_square_underflows",
    "dtype",
    "The square of a half gradient is taken in its own dtype, where small ones vanish.",
    FP16,
    (V, "v.mul_(beta2).add_((grad * grad).to(v.dtype) if p.dtype in HALF else g * g, alpha=1.0 - beta2)"),
)
adam(
    "adam_float64_denominator_float32",
    "dtype",
    "The root of a float64 v is taken in float32.",
    PLAIN,
    (DENOMINATOR, DENOMINATOR.replace("s.sqrt()", "s.float().sqrt().to(s.dtype)")),
)

# --- complex ---------------------------------------------------------------------------------------------------------

Z = ((0.0 + 1.0j, -1.0 + 0.5j, 2.0 - 1.0j),)
COMPLEX = drive(dtype=torch.complex128, start=Z, lr=0.1)
adam(
    "adam_complex_modulus",
    "complex",
    "Real and imaginary part share v = |g|^2.",
    COMPLEX,
    (
        V,
        "v.mul_(beta2).add_((g * g).sum(-1, keepdim=True).expand_as(g) if p.is_complex() else g * g, alpha=1.0 - beta2)",
    ),
)
adam(
    "adam_complex_gradient_conjugated",
    "complex",
    "The gradient of a complex parameter is conjugated.",
    COMPLEX,
    (PLAIN_GRAD, "g = as_real(grad.to(p.dtype).conj())"),
)
adam(
    "adam_complex_decay_real_only",
    "complex",
    "Decoupled decay shrinks the real part only.",
    drive(dtype=torch.complex128, start=Z, lr=0.1, weight_decay=0.2, decoupled_weight_decay=True),
    (SHRINK, "(work[..., 0] if p.is_complex() else work).mul_(1.0 - lr * decay)"),
)

# --- validation ------------------------------------------------------------------------------------------------------

NAN, INFINITE = float("nan"), float("inf")
LR_CHECK = "if not 0.0 <= float(lr) < math.inf:"
EPS_CHECK = "if not 0.0 <= eps < math.inf:"
BETAS_CHECK = "if not all(0.0 <= beta < 1.0 for beta in betas):"
DECAY_CHECK = "if not 0.0 <= weight_decay < math.inf:"
adam(
    "adam_negative_lr_accepted",
    "validation",
    "A negative lr is accepted.",
    refusal_of("lr", lr=-0.1),
    (LR_CHECK, "if not float(lr) < math.inf:"),
)
adam(
    "adam_nan_lr_accepted",
    "validation",
    "An lr of NaN is accepted.",
    refusal_of("lr", lr=NAN),
    (LR_CHECK, "if float(lr) < 0.0 or float(lr) == math.inf:"),
)
adam(
    "adam_negative_eps_accepted",
    "validation",
    "A negative eps is accepted.",
    refusal_of("eps", eps=-1e-8),
    (EPS_CHECK, "if not eps < math.inf:"),
)
adam(
    "adam_zero_eps_refused",
    "validation",
    "eps = 0 is refused.",
    attempt(eps=0.0),
    (EPS_CHECK, EPS_CHECK.replace("<= eps", "< eps")),
)
adam(
    "adam_beta2_of_one_accepted",
    "validation",
    "A beta2 of 1 is accepted, though nothing can be corrected then.",
    refusal_of("betas", betas=(0.9, 1.0)),
    (BETAS_CHECK, "if not (0.0 <= betas[0] < 1.0 and 0.0 <= betas[1] <= 1.0):"),
)
adam(
    "adam_beta1_of_zero_refused",
    "validation",
    "A beta1 of 0 is refused.",
    attempt(betas=(0.0, 0.999)),
    (BETAS_CHECK, BETAS_CHECK.replace("<= beta", "< beta")),
)
adam(
    "adam_negative_decay_accepted",
    "validation",
    "A negative weight_decay is accepted.",
    refusal_of("weight_decay", weight_decay=-0.1),
    (DECAY_CHECK, "if not weight_decay < math.inf:"),
)
adam(
    "adam_lr_of_two_elements_accepted",
    "validation",
    "A tensor lr of two elements is accepted, and its first counts.",
    refusal_of("lr", lr=torch.tensor([0.1, 0.2])),
    ('            raise ValueError(f"lr must have one element, not {lr.numel()}")', "            lr = lr[0]"),
)

# --- precision -------------------------------------------------------------------------------------------------------

adam(
    "adam_size_relative_1e9",
    "precision",
    "The step is too long by one part in a thousand million.",
    PLAIN,
    (UPDATE, UPDATE.replace("bias1)", "bias1 * (1.0 + 1e-9))")),
)
adam(
    "adam_v_weight_relative_1e9",
    "precision",
    "The weight of the gradient's square is off by one part in a thousand million.",
    PLAIN,
    (V, V.replace("1.0 - beta2)", "(1.0 - beta2) * (1.0 + 1e-9))")),
)
adam(
    "adam_lr_float32",
    "precision",
    "lr is rounded to float32.",
    PLAIN,
    (LR, LR.replace('float(group["lr"])', FLOAT32.format('float(group["lr"])'))),
)
adam(
    "adam_betas_float32",
    "precision",
    "The betas are rounded to float32.",
    PLAIN,
    (BETAS, f'beta1, beta2 = ({FLOAT32.format("beta")} for beta in group["betas"])'),
)
adam(
    "adam_bias2_float32",
    "precision",
    "1 - b2^t is rounded to float32.",
    PLAIN,
    (BIAS2, f"bias2 = {FLOAT32.format('1.0 - beta2**t')}\n"),
)
adam(
    "adam_eps_float32",
    "precision",
    "eps is rounded to float32.",
    VISIBLE_EPS,
    (DENOMINATOR, DENOMINATOR.replace('group["eps"]', FLOAT32.format('group["eps"]'))),
)
adam(
    "adam_decay_factor_float32",
    "precision",
    "The factor of decoupled decay is rounded to float32.",
    DECAYED,
    (SHRINK, f"work.mul_({FLOAT32.format('1.0 - lr * decay')})"),
)

# --- only then -------------------------------------------------------------------------------------------------------

adam(
    "adam_bias2_dropped_after_500",
    "only then",
    "After 500 steps v is no longer corrected, when 1 - 0.999^t is still 0.4.",
    drive(503),
    (BIAS2, "bias2 = 1.0 - beta2**t if t <= 500 else 1.0\n"),
)
adam(
    "adam_count_stops_at_600",
    "only then",
    "The count stops at 600.",
    drive(605),
    (INCREMENT, 'state["step"] += float(float(state["step"]) < 600.0)'),
)
adam(
    "adam_last_element_skipped",
    "only then",
    "The last element of a parameter of more than 1000 is not stepped.",
    drive(3, start=(torch.linspace(-1.0, 1.0, 1025, dtype=torch.float64),)),
    (
        END,
        "\n        if work.dim() == 1 and work.numel() > 1000:\n            work[-1].addcdiv_(m[-1], denominator[-1], value=lr / bias1)\n"
        + END,
    ),
)
adam(
    "adam_zero_elements_keep_moments",
    "only then",
    "Where the gradient is exactly zero the moments stand still.",
    drive(6, grads=lambda t, i, p: wave(t, i, p) * (torch.arange(p.numel()) != t % 4)),
    (M, "before = m.clone(), v.clone()\n        " + M),
    (
        V,
        V
        + "\n        m.copy_(torch.where(g == 0.0, before[0], m))\n        v.copy_(torch.where(g == 0.0, before[1], v))",
    ),
)
adam(
    "adam_second_group_uncorrected",
    "only then",
    "The second group's m is not corrected.",
    two({"lr": 0.1}, {"lr": 1e-2}),
    (BIAS1, "bias1 = 1.0 - beta1**t if group is self.param_groups[0] else 1.0\n"),
)
adam(
    "adam_after_load_without_decay",
    "only then",
    "A loaded optimizer does not decay.",
    drive(lr=0.1, weight_decay=0.2, decoupled_weight_decay=True, events={4: reload}),
    ("        indices = [i for", "        self.loaded = True\n        indices = [i for"),
    (DECAY, DECAY + ' if not hasattr(self, "loaded") else 0.0'),
)
adam(
    "adam_lr_change_restarts_count",
    "only then",
    "A new lr starts the count anew.",
    drive(events={5: set_option(lr=0.01)}),
    (
        INCREMENT,
        'if group.setdefault("last_lr", lr) != lr:\n            state["step"].zero_()\n            group["last_lr"] = lr\n        '
        + INCREMENT,
    ),
)
adam(
    "adam_tiny_gradients_ignored",
    "only then",
    "A gradient below 1e-10 in all elements is taken for zero.",
    drive(4, eps=0.0, grads=scaled(1e-12)),
    (INCREMENT, f"g = g * float(bool(g.abs().max() > 1e-10)) if g.numel() else g\n        {INCREMENT}"),
)

# --- memory ----------------------------------------------------------------------------------------------------------


def outliving(module: Module) -> Observation:
    """How many old gradients are alive after 20 steps, and by how much the optimizer's containers have grown."""
    p = torch.nn.Parameter(torch.zeros(4))
    optimizer = optimizer_of(module)([p])
    old: list[Callable[[], Tensor | None]] = []
    sizes: list[int] = []
    for t in range(1, 21):
        p.grad = wave(t, 0, p)
        old.append(weakref.ref(p.grad))
        optimizer.step()
        kept = [x for x in (*optimizer.state[p].values(), *vars(optimizer).values()) if isinstance(x, list | dict)]
        sizes.append(len(optimizer.state[p]) + sum(len(x) for x in kept))
    gc.collect()
    return {"alive": sum(ref() is not None for ref in old), "growth": sizes[-1] - sizes[1]}


adam(
    "adam_gradients_kept",
    "memory",
    "Every gradient is kept in a list on the optimizer.",
    outliving,
    (STATE, f'{STATE}\n        self.__dict__.setdefault("history", []).append(grad)'),
)
adam(
    "adam_corrections_cached",
    "memory",
    "The bias corrections of every step are kept.",
    outliving,
    (BIAS2, f'{BIAS2}        self.__dict__.setdefault("cache", {{}})[t] = bias1, bias2\n'),
)
