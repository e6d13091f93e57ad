"""Mutants of the step's mathematics: scalars, decay, moments, branches."""

# Edits quote source text, which reads better unbroken.
# ruff: noqa: E501

from __future__ import annotations

import torch

from tests.mutation.mutant import Mutant, adding, drive, fading, reload, scaled, set_option, wave

MUTANTS: list[Mutant] = []


loop = adding(MUTANTS, "right_loop")
foreach = adding(MUTANTS, "right_foreach")

PLAIN = drive()
FLOAT32 = "float(torch.tensor({}, dtype=torch.float32))"

# The texts that edits aim at.
RHO_INF = "rho_inf = 2.0 / (1.0 - beta2) - 1.0"
POWER = "power = beta2**t\n"
RHO = "rho = rho_inf - 2.0 * t * power / (1.0 - power)"
BRANCH = "if rho_inf <= 4.0 or not rho >= threshold:"
ROOT = "return math.sqrt(((rho - 4.0) * (rho - 2.0) * rho_inf) / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho))"
CALL = 'r = rectification(beta2, t, group["threshold"])'
T = 't = int(state["step"])'
SIZE = "size = r * lr * math.sqrt(bias2) / bias1"
E_LINE = 'e = eps if group["optimized_update"] else eps * math.sqrt(bias2)'
DENOMINATOR = "denominator = s.sqrt() + e"
ADAPT = "work.addcdiv_(m, denominator, value=-size)"
SGD_SIZE = "size = lr / bias1\n"
SGD = "work.add_(m, alpha=-size)"
BIAS1 = "bias1 = 1.0 - beta1**t\n"
BIAS2 = "bias2 = 1.0 - beta2**t\n"
LR = 'lr = float(group["lr"])\n        beta1'
M = "m.mul_(beta1).add_(g, alpha=1.0 - beta1)"
V = "v.mul_(beta2).addcmul_(g, g, value=1.0 - beta2)"
DECAY = "g = self.weight_decay(work, g, group)"
FLIP = 'if group["maximize"]:\n            g = -g\n'
MAXIMUM = 's = torch.maximum(as_real(state["max_exp_avg_sq"]), v)'
KEEP_MAX = 'as_real(state["max_exp_avg_sq"]).copy_(s)'
END = "        if p.dtype in HALF:\n            p.copy_(work)\n"
STATE = "state = self._state(p, group)"

# --- rectification ---------------------------------------------------------------------------------------------------

loop(
    "r_float32",
    "rectification",
    "r_t is rounded to float32.",
    PLAIN,
    (SIZE, SIZE.replace("= r *", "= " + FLOAT32.format("r") + " *")),
)
loop("rho_float32", "rectification", "rho_t is rounded to float32.", PLAIN, (RHO, f"rho = {FLOAT32.format(RHO[6:])}"))
loop(
    "beta2_float32",
    "rectification",
    "The power of beta2 in rho_t starts from float32(beta2).",
    PLAIN,
    (POWER, f"power = {FLOAT32.format('beta2')} ** t\n"),
)
loop(
    "rho_inf_relative_1e6",
    "rectification",
    "rho_inf is off by one part in a million.",
    PLAIN,
    (RHO_INF, "rho_inf = (2.0 / (1.0 - beta2) - 1.0) * (1.0 + 1e-6)"),
)
loop(
    "rho_inf_without_minus_one",
    "rectification",
    "rho_inf lacks its - 1.",
    drive(8, betas=(0.9, 0.9)),
    (RHO_INF, "rho_inf = 2.0 / (1.0 - beta2)"),
)
loop(
    "rho_inf_of_0999",
    "rectification",
    "rho_inf is that of beta2 = 0.999, whatever beta2 is.",
    drive(8, betas=(0.9, 0.9)),
    (RHO_INF, "rho_inf = 1999.0 if beta2 > 0.6 else 2.0 / (1.0 - beta2) - 1.0"),
)
loop(
    "rho_with_t_minus_one",
    "rectification",
    "rho_t has 2 (t-1) b^t for 2 t b^t.",
    PLAIN,
    (RHO, RHO.replace("* t *", "* (t - 1) *")),
)
loop("rho_with_single_t", "rectification", "rho_t has t b^t for 2 t b^t.", PLAIN, (RHO, RHO.replace("2.0 * t", "t")))
loop(
    "rho_with_next_power",
    "rectification",
    "rho_t uses the power of step t+1.",
    drive(8, betas=(0.9, 0.9)),
    (POWER, "power = beta2 ** (t + 1)\n"),
)
loop("r_squared", "rectification", "r_t lacks its square root.", PLAIN, (ROOT, ROOT.replace("math.sqrt(", "(")))
loop("r_fourth_root", "rectification", "The square root of r_t is taken once more.", PLAIN, (ROOT, ROOT + " ** 0.5"))
loop(
    "r_inverted",
    "rectification",
    "r_t is upside down.",
    drive(8, betas=(0.9, 0.9)),
    (ROOT, ROOT.replace("math.sqrt(", "1.0 / math.sqrt(")),
)
loop(
    "r_missing",
    "rectification",
    "No rectification: plain Adam in adaptive steps.",
    PLAIN,
    (SIZE, "size = lr * math.sqrt(bias2) / bias1"),
)
loop(
    "r_without_ratio",
    "rectification",
    "r_t lacks the factor rho_inf / rho_t.",
    PLAIN,
    (ROOT, "return math.sqrt(((rho - 4.0) * (rho - 2.0)) / ((rho_inf - 4.0) * (rho_inf - 2.0)))"),
)
loop(
    "r_of_misprinted_variance",
    "rectification",
    "The variance of psi^2 has (rho-2)^3 in its denominator, a known misprint.",
    PLAIN,
    (ROOT, ROOT.replace("(rho - 4.0)", "(rho - 2.0)").replace("(rho_inf - 4.0)", "(rho_inf - 2.0)")),
)
loop(
    "r_factor_rho_minus_three",
    "rectification",
    "r_t has rho - 3 where rho - 2 belongs.",
    PLAIN,
    (ROOT, ROOT.replace("(rho - 2.0)", "(rho - 3.0)")),
)
loop(
    "r_capped_late",
    "rectification",
    "r_t never exceeds 0.99.",
    drive(90, betas=(0.9, 0.9)),
    (ROOT, ROOT.replace("return ", "return min(0.99, ") + ")"),
)
loop(
    "r_snaps_to_one",
    "rectification",
    "r_t above 0.999 is taken for 1.",
    drive(120, betas=(0.9, 0.9)),
    (SIZE, "r = 1.0 if r > 0.999 else r\n            " + SIZE),
)
loop(
    "r_of_previous_step",
    "rectification",
    "r_t is that of step t-1 once that exists.",
    PLAIN,
    (CALL, CALL + '\n        if r is not None:\n            r = rectification(beta2, t - 1, group["threshold"]) or r'),
)
foreach(
    "r_of_beta1",
    "rectification",
    "rho_t is that of beta1 once that rectifies.",
    drive(20, betas=(0.95, 0.9)),
    ("rho = limit - 2 * t * beta2**t / bias2", "rho = limit - 2 * t * beta1**t / bias1"),
)
foreach(
    "foreach_r_float32",
    "rectification",
    "r_t is rounded to float32 in the foreach step with eps inside.",
    drive(optimized_update=False),
    ("size = lr * (r / bias1)", "size = lr * (float(torch.tensor(r)) / bias1)"),
)
foreach(
    "foreach_rho_relative_1e9",
    "rectification",
    "rho_t is off by one part in a thousand million.",
    PLAIN,
    ("rho = limit - 2 * t * beta2**t / bias2", "rho = (limit - 2 * t * beta2**t / bias2) * (1 + 1e-9)"),
)

# --- threshold -------------------------------------------------------------------------------------------------------

# rho_t of these is the threshold's double itself, in every usual order of evaluation.
EQUAL = drive(13, betas=(0.9, 0.8), threshold=7.2290326056819465)
EQUAL_ROUNDING_UP = drive(9, betas=(0.9, 0.8), threshold=6.209553507697603)

loop(
    "threshold_strict",
    "threshold",
    "> for >= at the threshold.",
    EQUAL,
    (BRANCH, "if rho_inf <= 4.0 or not rho > threshold:"),
)
loop(
    "threshold_always_five",
    "threshold",
    "The threshold is 5, whatever is asked.",
    drive(threshold=4.0),
    (BRANCH, BRANCH.replace("threshold", "5.0")),
)
loop(
    "threshold_always_four",
    "threshold",
    "The threshold is the paper's 4, whatever is asked.",
    PLAIN,
    (BRANCH, BRANCH.replace("threshold", "4.0")),
)
loop(
    "threshold_six",
    "threshold",
    "One more than what is asked.",
    PLAIN,
    (BRANCH, BRANCH.replace("threshold", "threshold + 1.0")),
)
loop(
    "threshold_by_step_number",
    "threshold",
    "Adaptive from step 6 on, which is right for beta2 near 1 only.",
    drive(8, betas=(0.9, 0.75)),
    (BRANCH, "if rho_inf <= threshold or t < 6:"),
)
loop(
    "threshold_tolerant",
    "threshold",
    "A rho_t within 1e-3 below the threshold passes.",
    drive(6, betas=(0.9, 0.9), threshold=5.39),
    (BRANCH, BRANCH.replace("threshold", "threshold - 1e-3")),
)
loop(
    "threshold_float32",
    "threshold",
    "The threshold is rounded to float32.",
    EQUAL_ROUNDING_UP,
    (BRANCH, BRANCH.replace("threshold", FLOAT32.format("threshold"))),
)
loop(
    "threshold_truncated",
    "threshold",
    "The threshold's fraction is dropped.",
    drive(6, betas=(0.9, 0.9), threshold=5.9),
    (BRANCH, BRANCH.replace("threshold", "int(threshold)")),
)
loop(
    "rho_inf_of_five_refused",
    "threshold",
    "Never adaptive when rho_inf <= 5, although a threshold of 4 is passed.",
    drive(20, betas=(0.9, 0.65), threshold=4.0),
    (BRANCH, BRANCH.replace("rho_inf <= 4.0", "rho_inf <= 5.0")),
)
loop(
    "branch_of_previous_step",
    "threshold",
    "The branch is decided by rho of step t-1.",
    PLAIN,
    (
        CALL,
        CALL.replace("rectification", "None if t < 2 or rectification").replace(
            ', t, group["threshold"])',
            ', t - 1, group["threshold"]) is None else rectification(beta2, t, group["threshold"])',
        ),
    ),
)
loop(
    "never_adaptive_below_08",
    "threshold",
    "beta2 < 0.8 never rectifies.",
    drive(12, betas=(0.9, 0.75)),
    (BRANCH, BRANCH.replace("rho_inf <= 4.0", "beta2 < 0.8")),
)
foreach(
    "foreach_threshold_strict",
    "threshold",
    "> for >= at the threshold.",
    EQUAL,
    ('rho >= group["threshold"]', 'rho > group["threshold"]'),
)
foreach(
    "foreach_threshold_four_when_optimized",
    "threshold",
    "The threshold falls to 4 with optimized_update=False.",
    drive(optimized_update=False),
    ('rho >= group["threshold"]', 'rho >= (group["threshold"] if group["optimized_update"] else 4.0)'),
)

# --- step count ------------------------------------------------------------------------------------------------------


def absent(*steps: int, index: int = 1):  # type: ignore[no-untyped-def]
    """No gradient for one parameter on these steps."""
    return lambda t, i, p: None if i == index and t in steps else wave(t, i, p)


TWO = ((0.0, 0.5, -1.0), (1.0, -0.25))
GAPS = drive(9, start=TWO, grads=absent(2, 3))
INCREMENT = 'state["step"] += 1'
STEPS = '                for p in group["params"]:\n                    grad = p.grad\n'

loop(
    "step_starts_at_one",
    "step count",
    "The first step is counted as the second.",
    PLAIN,
    ("torch.tensor(0.0, dtype=torch.float32)", "torch.tensor(1.0, dtype=torch.float32)"),
)
loop("step_counted_twice", "step count", "Every step counts for two.", PLAIN, (INCREMENT, 'state["step"] += 2'))
loop(
    "step_per_group",
    "step count",
    "The count belongs to the group, so a parameter that has missed steps is as old as the rest.",
    GAPS,
    (STEPS, '                group["step"] = group.get("step", 0) + 1\n' + STEPS),
    (INCREMENT, 'state["step"].fill_(group["step"])'),
)
loop(
    "step_counted_without_gradient",
    "step count",
    "A parameter without a gradient on this step grows older.",
    GAPS,
    (
        "if grad is None:\n                        continue",
        'if grad is None:\n                        if "step" in self.state[p]:\n                            self.state[p]["step"] += 1\n                        continue',
    ),
)
loop(
    "step_stands_on_hold",
    "step count",
    "Steps that hold the parameter are not counted.",
    drive(10, degenerated_to_sgd=False),
    (END, '        if r is None and not group["degenerated_to_sgd"]:\n            state["step"] -= 1\n' + END),
)
loop(
    "step_bfloat16",
    "step count",
    "The count is a bfloat16 tensor, which stops at 256.",
    drive(300, betas=(0.9, 0.999)),
    ("torch.tensor(0.0, dtype=torch.float32)", "torch.tensor(0.0, dtype=torch.bfloat16)"),
)
loop(
    "step_used_before_count",
    "step count",
    "The scalars are those of the step before (from the second step on).",
    PLAIN,
    (T, 't = max(1, int(state["step"]) - 1)'),
)
loop(
    "step_counts_zero_gradients_not",
    "step count",
    "A zero gradient moves the moments but is not counted.",
    drive(9, grads=lambda t, i, p: torch.zeros_like(p) if t in (2, 3) else wave(t, i, p)),
    (INCREMENT, 'state["step"] += float(bool(g.any()) or float(state["step"]) == 0.0)'),
)
foreach(
    "foreach_step_of_first_in_bucket",
    "step count",
    "One bucket for all: every parameter takes the count of the first.",
    GAPS,
    (
        'buckets[p.device, p.dtype, state["step"]].append',
        'buckets[p.device, p.dtype, self.state[group["params"][0]].get("step", 1)].append',
    ),
)
foreach(
    "foreach_step_restarts_with_new_group",
    "step count",
    "A late group resets all counts.",
    drive(
        9,
        events={
            4: lambda run: (
                run.params.append(torch.nn.Parameter(torch.ones(2, dtype=torch.float64))),
                run.optimizer.add_param_group({"params": [run.params[-1]]}),
            )
        },
    ),
    (
        "        super().add_param_group(param_group)",
        '        super().add_param_group(param_group)\n        for state in self.state.values():\n            state["step"] = 0',
    ),
)

# --- bias correction -------------------------------------------------------------------------------------------------

loop(
    "bias1_missing_in_sgd",
    "bias correction",
    "The momentum step lacks 1 / (1 - b1^t).",
    PLAIN,
    (SGD_SIZE, "size = lr\n"),
)
loop(
    "bias1_missing_in_adaptive",
    "bias correction",
    "The adaptive step lacks 1 / (1 - b1^t).",
    PLAIN,
    (SIZE, "size = r * lr * math.sqrt(bias2)"),
)
loop(
    "bias2_missing",
    "bias correction",
    "The adaptive step lacks sqrt(1 - b2^t).",
    PLAIN,
    (SIZE, "size = r * lr / bias1"),
)
loop(
    "bias2_without_root",
    "bias correction",
    "1 - b2^t for its square root.",
    PLAIN,
    (SIZE, "size = r * lr * bias2 / bias1"),
)
loop(
    "bias1_next_step_in_sgd",
    "bias correction",
    "The momentum step corrects with t+1.",
    PLAIN,
    (SGD_SIZE, "size = lr / (1.0 - beta1 ** (t + 1))\n"),
)
loop(
    "bias1_previous_step_in_adaptive",
    "bias correction",
    "The adaptive step corrects momentum with t-1.",
    PLAIN,
    (SIZE, "size = r * lr * math.sqrt(bias2) / (1.0 - beta1 ** (t - 1))"),
)
loop(
    "bias2_next_step", "bias correction", "v is corrected with t+1.", PLAIN, (BIAS2, "bias2 = 1.0 - beta2 ** (t + 1)\n")
)
loop("bias2_of_beta1", "bias correction", "v is corrected with beta1.", PLAIN, (BIAS2, "bias2 = 1.0 - beta1**t\n"))
loop(
    "bias1_rooted",
    "bias correction",
    "Momentum is corrected with sqrt(1 - b1^t).",
    PLAIN,
    (BIAS1, "bias1 = math.sqrt(1.0 - beta1**t)\n"),
)
loop(
    "bias1_float32",
    "bias correction",
    "1 - b1^t is rounded to float32.",
    PLAIN,
    (BIAS1, f"bias1 = {FLOAT32.format('1.0 - beta1**t')}\n"),
)
loop(
    "bias1_clamped",
    "bias correction",
    "1 - b1^t is at least 1e-2.",
    drive(betas=(0.999, 0.999)),
    (BIAS1, "bias1 = max(1e-2, 1.0 - beta1**t)\n"),
)
loop(
    "bias2_clamped",
    "bias correction",
    "1 - b2^t is at least 1e-4.",
    drive(betas=(0.9, 0.99999)),
    (BIAS2, "bias2 = max(1e-4, 1.0 - beta2**t)\n"),
)
loop(
    "bias2_dropped_late",
    "bias correction",
    "Below 1e-3, b2^t is taken for zero.",
    drive(70, betas=(0.9, 0.9)),
    (BIAS2, "bias2 = 1.0 - (beta2**t if beta2**t > 1e-3 else 0.0)\n"),
)
foreach(
    "foreach_bias1_in_sgd_missing",
    "bias correction",
    "The foreach momentum step lacks 1 / (1 - b1^t).",
    PLAIN,
    ("alpha=-(lr / bias1))", "alpha=-lr)"),
)
foreach(
    "foreach_bias2_of_max",
    "bias correction",
    "With optimized_update=False, v is corrected twice.",
    drive(optimized_update=False),
    ("torch._foreach_div(vs, bias2)", "torch._foreach_div(vs, bias2 * bias2)"),
)

# --- eps -------------------------------------------------------------------------------------------------------------

TINY = drive(8, eps=1e-8, grads=scaled(1e-8))
TINY_LATE = drive(8, eps=1e-8, grads=scaled(1e-7), optimized_update=False)

loop("eps_inside_root", "eps", "sqrt(v + eps).", TINY, (DENOMINATOR, "denominator = (s + e).sqrt()"))
loop("eps_twice", "eps", "eps is added twice.", TINY, (DENOMINATOR, DENOMINATOR + " + e"))
loop("eps_ignored", "eps", "eps is not added.", TINY, (DENOMINATOR, "denominator = s.sqrt()"))
loop(
    "eps_ignored_unless_optimized",
    "eps",
    "With optimized_update=False eps is not added.",
    TINY_LATE,
    (E_LINE, 'e = eps if group["optimized_update"] else 0.0'),
)
loop(
    "eps_times_bias2",
    "eps",
    "With optimized_update=False eps is multiplied by 1 - b2^t, not its root.",
    TINY_LATE,
    (E_LINE, 'e = eps if group["optimized_update"] else eps * bias2'),
)
loop("eps_never_scaled", "eps", "optimized_update=False is taken for True.", TINY_LATE, (E_LINE, "e = eps"))
loop(
    "eps_always_scaled",
    "eps",
    "optimized_update=True is taken for False.",
    TINY,
    (E_LINE, "e = eps * math.sqrt(bias2)"),
)
loop(
    "optimized_update_inverted",
    "eps",
    "optimized_update means its opposite.",
    TINY,
    (E_LINE, E_LINE.replace("if group", "if not group")),
)
loop(
    "eps_divided_by_root",
    "eps",
    "With optimized_update=False eps is divided by sqrt(1 - b2^t).",
    TINY_LATE,
    (E_LINE, E_LINE.replace("eps * math", "eps / math")),
)
loop(
    "eps_at_least_1e8",
    "eps",
    "An eps below 1e-8 becomes 1e-8.",
    drive(grads=scaled(1e-8)),
    (DENOMINATOR, "denominator = s.sqrt() + max(e, 1e-8)"),
)
loop(
    "eps_zero_replaced",
    "eps",
    "eps = 0 becomes 1e-7.",
    drive(eps=0.0, grads=scaled(1e-6)),
    ('eps = group["eps"]', 'eps = group["eps"] or 1e-7'),
)
loop(
    "eps_as_maximum",
    "eps",
    "max(sqrt(v), eps) for the sum.",
    TINY,
    (DENOMINATOR, "denominator = s.sqrt().clamp(min=e)"),
)
loop(
    "eps_float32",
    "eps",
    "eps is rounded to float32.",
    drive(eps=0.1),
    ('eps = group["eps"]', f"eps = {FLOAT32.format('group[' + chr(34) + 'eps' + chr(34) + ']')}"),
)
loop(
    "eps_in_momentum_step",
    "eps",
    "The momentum step is divided by 1 + eps.",
    drive(3, eps=1e-3),
    (SGD_SIZE, "size = lr / bias1 / (1.0 + eps)\n"),
)
loop("eps_squared_inside", "eps", "sqrt(v + eps^2).", TINY, (DENOMINATOR, "denominator = (s + e * e).sqrt()"))
loop(
    "eps_capped", "eps", "eps is at most 1e-2.", drive(eps=1.0), (DENOMINATOR, "denominator = s.sqrt() + min(e, 1e-2)")
)
loop(
    "eps_added_after_division",
    "eps",
    "m / sqrt(v) + eps.",
    drive(eps=1e-3),
    (DENOMINATOR, "work.add_(e, alpha=-size)\n            denominator = s.sqrt()"),
)
foreach(
    "foreach_eps_missing",
    "eps",
    "The foreach step forgets eps, as torch's once did.",
    TINY,
    ('            torch._foreach_add_(roots, group["eps"])\n', ""),
)
foreach(
    "foreach_eps_not_rescaled_for_half",
    "eps",
    "Half precision takes eps unscaled in both settings.",
    drive(eps=1e-3, dtype=torch.bfloat16, grads=scaled(1e-3), lr=1.0),
    ('eps = group["eps"] / sqrt(bias2) if group["optimized_update"] else group["eps"]', 'eps = group["eps"]'),
)
foreach(
    "foreach_eps_before_correction",
    "eps",
    "With optimized_update=False eps is added to v / (1 - b2^t), inside the root.",
    TINY_LATE,
    (
        "roots = torch._foreach_sqrt(torch._foreach_div(vs, bias2))",
        'roots = torch._foreach_sqrt(torch._foreach_add(torch._foreach_div(vs, bias2), group["eps"] ** 2))\n                torch._foreach_sub_(roots, group["eps"])',
    ),
)

# --- weight decay ----------------------------------------------------------------------------------------------------

DECOUPLED = drive(lr=0.1, decay=(0.1,))
HOLD = drive(5, lr=0.1, decay=(0.1,), degenerated_to_sgd=False)
ABSOLUTE = drive(lr=0.1, decay=(0.1, True, True))
L2 = drive(lr=0.1, decay=(0.1, False))
FACTOR = "1.0 - lr * coefficient\n"
ZERO_LR = "        if lr == 0.0:\n            return grad\n        factor"
L2_LINE = "return grad + coefficient * param"
COEFFICIENT = 'coefficient = group.get("weight_decay", self.weight_decay)'

loop(
    "decay_after_update",
    "weight decay",
    "Decoupled decay comes after the update.",
    DECOUPLED,
    (
        DECAY,
        'late = group.get("weight_decouple", False)\n        if not late:\n            g = self.weight_decay(work, g, group)',
    ),
    (END, "        if late:\n            self.weight_decay(work, g, group)\n" + END),
)
loop("decay_with_lr_squared", "weight decay", "1 - lr^2 wd.", DECOUPLED, (FACTOR, "1.0 - lr * lr * coefficient\n"))
loop(
    "decay_missing_on_hold",
    "weight decay",
    "Steps that hold the parameter do not decay it.",
    HOLD,
    (
        DECAY,
        'held = not group["degenerated_to_sgd"] and rectification(beta2, int(state["step"]) + 1, group["threshold"]) is None\n'
        '        if not (held and group.get("weight_decouple")):\n            g = self.weight_decay(work, g, group)',
    ),
)
loop(
    "decay_missing_in_momentum_step",
    "weight decay",
    "Only adaptive steps decay.",
    drive(3, lr=0.1, decay=(0.1,)),
    (
        DECAY,
        'if rectification(beta2, int(state["step"]) + 1, group["threshold"]) is not None or not group.get("weight_decouple"):\n            g = self.weight_decay(work, g, group)',
    ),
)
loop(
    "l2_into_m_only",
    "weight decay",
    "The L2 term enters m but not v.",
    L2,
    (DECAY, "raw = g\n        g = self.weight_decay(work, g, group)"),
    (V, V.replace("(g, g", "(raw, raw")),
)
loop(
    "l2_into_v_only",
    "weight decay",
    "The L2 term enters v but not m.",
    L2,
    (DECAY, "raw = g\n        g = self.weight_decay(work, g, group)"),
    (M, M.replace("(g,", "(raw,")),
)
loop(
    "l2_after_moments",
    "weight decay",
    "The L2 term is added to the update, not to the gradient.",
    L2,
    (DECAY, "raw = g\n        g = self.weight_decay(work, g, group)\n        extra, g = g - raw, raw"),
    (END, "        work.add_(extra, alpha=-lr)\n" + END),
)
loop(
    "absolute_ignored",
    "weight decay",
    "absolute=True still multiplies by lr.",
    ABSOLUTE,
    ('1.0 - coefficient if group.get("absolute", self.absolute) else ', ""),
)
loop(
    "absolute_always",
    "weight decay",
    "The coefficient is never multiplied by lr.",
    DECOUPLED,
    ('1.0 - coefficient if group.get("absolute", self.absolute) else ' + FACTOR, "1.0 - coefficient\n"),
)
loop(
    "decouple_ignored",
    "weight decay",
    "weight_decouple=False still decays the parameter.",
    L2,
    ('if not group.get("weight_decouple", self.weight_decouple):', "if False:"),
)
loop(
    "decouple_inverted",
    "weight decay",
    "weight_decouple means its opposite.",
    DECOUPLED,
    (
        'if not group.get("weight_decouple", self.weight_decouple):',
        'if group.get("weight_decouple", self.weight_decouple):',
    ),
)
loop("l2_sign", "weight decay", "The L2 term is subtracted.", L2, (L2_LINE, "return grad - coefficient * param"))
loop("l2_dropped", "weight decay", "weight_decouple=False applies no decay at all.", L2, (L2_LINE, "return grad"))
loop(
    "l2_halved",
    "weight decay",
    "The L2 term is that of wd/2.",
    L2,
    (L2_LINE, "return grad + 0.5 * coefficient * param"),
)
loop(
    "l2_with_lr",
    "weight decay",
    "The L2 term is multiplied by lr.",
    L2,
    (L2_LINE, 'return grad + float(group["lr"]) * coefficient * param'),
)
loop("decay_sign", "weight decay", "Decay grows the parameter.", DECOUPLED, (FACTOR, "1.0 + lr * coefficient\n"))
loop(
    "decay_exponential",
    "weight decay",
    "exp(-lr wd) for 1 - lr wd.",
    DECOUPLED,
    (FACTOR, "math.exp(-lr * coefficient)\n"),
)
loop(
    "decay_of_absolute_at_lr_zero",
    "weight decay",
    "At lr = 0 absolute decay still shrinks the parameter.",
    drive(lr=0.0, decay=(0.1, True, True)),
    (ZERO_LR, "        factor"),
)
loop(
    "decay_twice",
    "weight decay",
    "Decay is applied twice per step.",
    DECOUPLED,
    ("param.mul_(factor)", "param.mul_(factor).mul_(factor)"),
)
loop(
    "decay_coefficient_float32",
    "weight decay",
    "The coefficient is rounded to float32.",
    drive(lr=1.0, decay=(0.1,)),
    (COEFFICIENT, COEFFICIENT.replace("group.get(", "float(torch.tensor(group.get(") + "))"),
)
loop(
    "decay_skips_vectors",
    "weight decay",
    "One-dimensional parameters (biases, norms) are not decayed.",
    DECOUPLED,
    ("if coefficient == 0.0:", "if coefficient == 0.0 or param.dim() <= 1:"),
)
loop(
    "decay_skips_zero_gradients",
    "weight decay",
    "No decay where the whole gradient is zero.",
    drive(lr=0.1, decay=(0.1,), grads=lambda t, i, p: torch.zeros_like(p), eps=1e-8),
    ("if coefficient == 0.0:", "if coefficient == 0.0 or not grad.any():"),
)
loop(
    "decay_by_size",
    "weight decay",
    "Decay is multiplied by r_t: it follows the rectified rate.",
    DECOUPLED,
    (
        DECAY,
        'rate = rectification(beta2, int(state["step"]) + 1, group["threshold"]) or 1.0\n        g = self.weight_decay(work, g, {**group, "lr": lr * rate})',
    ),
)
loop(
    "decay_with_bias",
    "weight decay",
    "Decay is divided by 1 - b1^t, like the momentum step.",
    DECOUPLED,
    (DECAY, 'g = self.weight_decay(work, g, {**group, "lr": lr / (1.0 - beta1 ** (int(state["step"]) + 1))})'),
)
loop(
    "decay_only_where_p_and_g_agree",
    "weight decay",
    "Cautious decay: only where gradient and parameter have one sign.",
    DECOUPLED,
    ("param.mul_(factor)", "param.mul_(torch.where(param * grad > 0, factor, 1.0).to(param.dtype))"),
)
loop(
    "decay_capped",
    "weight decay",
    "The factor of decay is never below zero.",
    drive(lr=1.0, decay=(1.5,)),
    ("param.mul_(factor)", "param.mul_(max(0.0, factor))"),
)
foreach(
    "foreach_l2_on_decayed",
    "weight decay",
    "The L2 coefficient also shrinks the parameter.",
    L2,
    (
        "if factor != 1.0:\n                torch._foreach_mul_(params, factor)",
        "if factor != 1.0 or penalty:\n                torch._foreach_mul_(params, factor - penalty * float(group['lr']))",
    ),
)
foreach(
    "foreach_decay_missing_on_hold",
    "weight decay",
    "Steps that hold the parameter do not decay it.",
    HOLD,
    (
        "if factor != 1.0:\n                torch._foreach_mul_",
        'if factor != 1.0 and (group["degenerated_to_sgd"] or scalars(group, t).r is not None):\n                torch._foreach_mul_',
    ),
)
foreach(
    "foreach_absolute_times_lr",
    "weight decay",
    "absolute=True multiplies by lr all the same.",
    ABSOLUTE,
    ('(1.0 if group.get("absolute", self.absolute) else lr)', "lr"),
)


def halving(param: torch.Tensor, grad: torch.Tensor, group: dict[str, object]) -> torch.Tensor:
    """A decay of another kind: it halves the gradient and shrinks the parameter by a tenth."""
    param.mul_(0.9)
    return grad * 0.5


halving.defaults = lambda: {"strength": 1.0}  # type: ignore[attr-defined]
CUSTOM = drive(weight_decay=halving)

loop(
    "decay_result_dropped",
    "weight decay",
    "What the decay callable returns is not used.",
    CUSTOM,
    (DECAY, "self.weight_decay(work, g, group)"),
)
loop(
    "decay_only_with_coefficient",
    "weight decay",
    "A callable is only asked when the group has a weight_decay.",
    CUSTOM,
    (DECAY, 'if group.get("weight_decay"):\n            g = self.weight_decay(work, g, group)'),
)
foreach(
    "foreach_custom_decay_twice",
    "weight decay",
    "A callable that is not a WeightDecay is called twice.",
    CUSTOM,
    (
        "grads = [self.weight_decay(p, g, group) for p, g in zip(params, grads, strict=True)]",
        "for _ in range(2):\n                grads = [self.weight_decay(p, g, group) for p, g in zip(params, grads, strict=True)]",
    ),
)

# --- moments ---------------------------------------------------------------------------------------------------------

loop(
    "betas_swapped",
    "moments",
    "beta1 and beta2 change places.",
    PLAIN,
    ('beta1, beta2 = group["betas"]', 'beta2, beta1 = group["betas"]'),
)
loop("m_undamped", "moments", "m lacks the factor 1 - b1 (heavy ball).", PLAIN, (M, "m.mul_(beta1).add_(g)"))
loop(
    "v_undamped",
    "moments",
    "v lacks the factor 1 - b2 (Adagrad with decay).",
    PLAIN,
    (V, "v.mul_(beta2).addcmul_(g, g)"),
)
loop(
    "v_of_residual",
    "moments",
    "v follows (g - m)^2, as AdaBelief does.",
    PLAIN,
    (V, "v.mul_(beta2).addcmul_(g - m, g - m, value=1.0 - beta2)"),
)
loop("v_of_absolute", "moments", "v follows |g|.", PLAIN, (V, "v.mul_(beta2).add_(g.abs(), alpha=1.0 - beta2)"))
loop("v_of_momentum", "moments", "v follows m^2.", PLAIN, (V, V.replace("(g, g", "(m, m")))
loop("m_weights_swapped", "moments", "(1-b1) m + b1 g.", PLAIN, (M, "m.mul_(1.0 - beta1).add_(g, alpha=beta1)"))
loop(
    "v_kept_below_threshold",
    "moments",
    "v is not updated below the threshold.",
    PLAIN,
    (V, 'if rectification(beta2, int(state["step"]) + 1, group["threshold"]) is not None:\n                ' + V),
)
loop(
    "m_starts_at_gradient",
    "moments",
    "The first m is the first gradient.",
    PLAIN,
    (M, 'm.mul_(beta1).add_(g, alpha=1.0 - beta1) if state["step"] else m.copy_(g)'),
)
loop(
    "v_starts_at_square",
    "moments",
    "The first v is the first squared gradient.",
    PLAIN,
    (V, 'v.mul_(beta2).addcmul_(g, g, value=1.0 - beta2) if state["step"] else v.copy_(g * g)'),
)
loop(
    "update_by_stale_v",
    "moments",
    "The update divides by v as it was before this step.",
    PLAIN,
    (M, "old = v.clone()\n            " + M),
    ("s = v\n", "s = old if int(state['step']) > 0 else v\n"),
)
loop(
    "nesterov",
    "moments",
    "The adaptive update looks ahead: b1 m + (1-b1) g.",
    PLAIN,
    (ADAPT, "work.addcdiv_(m * beta1 + g * (1.0 - beta1), denominator, value=-size)"),
)
loop(
    "update_by_gradient",
    "moments",
    "The adaptive update uses g for m (RMSprop).",
    PLAIN,
    (ADAPT, ADAPT.replace("(m,", "(g,")),
)
loop(
    "update_by_sign",
    "moments",
    "The adaptive update uses m / (|m| + e).",
    PLAIN,
    (DENOMINATOR, "denominator = m.abs() + e"),
)
loop("update_without_root", "moments", "The adaptive update divides by v.", PLAIN, (DENOMINATOR, "denominator = s + e"))
loop(
    "m_weight_float32",
    "moments",
    "1 - b1 is rounded to float32 before it weighs the gradient.",
    PLAIN,
    (M, M.replace("alpha=1.0 - beta1", "alpha=" + FLOAT32.format("1.0 - beta1"))),
)
loop(
    "v_weight_float32",
    "moments",
    "1 - b2 is rounded to float32 before it weighs the square.",
    PLAIN,
    (V, V.replace("value=1.0 - beta2", "value=" + FLOAT32.format("1.0 - beta2"))),
)
loop("v_floor", "moments", "v is kept at 1e-12 at least.", drive(grads=scaled(1e-8)), (V, V + ".clamp_(min=1e-12)"))
loop(
    "m_flushed",
    "moments",
    "A momentum below 1e-10 in size is flushed to zero.",
    drive(grads=scaled(1e-10)),
    (M, M + "\n            m.masked_fill_(m.abs() < 1e-10, 0.0)"),
)
foreach(
    "foreach_lerp_weight",
    "moments",
    "lerp moves by b1, not 1 - b1.",
    PLAIN,
    ("torch._foreach_lerp_(ms, grads, 1 - beta1)", "torch._foreach_lerp_(ms, grads, beta1)"),
)
foreach(
    "foreach_v_before_decay",
    "moments",
    "v uses the gradient without the L2 term.",
    L2,
    (
        "torch._foreach_addcmul_(vs, grads, grads, 1 - beta2)",
        "raw = [i.grad for i in items]\n        torch._foreach_addcmul_(vs, raw, raw, 1 - beta2)",
    ),
)
foreach(
    "foreach_m_of_first",
    "moments",
    "Every parameter of a shape takes the first one's gradient.",
    drive(start=((1.0, 2.0), (0.5, -1.0))),
    (
        "grads = [item.grad for item in items]",
        "grads = [next(i.grad for i in items if i.grad.shape == item.grad.shape) for item in items]",
    ),
)

# --- degenerate branch -----------------------------------------------------------------------------------------------

HELD = drive(5, degenerated_to_sgd=False)
ELIF = 'elif group["degenerated_to_sgd"]:'

loop("sgd_always", "degenerate branch", "degenerated_to_sgd=False is ignored.", HELD, (ELIF, "else:"))
loop("sgd_never", "degenerate branch", "degenerated_to_sgd=True is ignored.", PLAIN, (ELIF, "elif False:"))
loop(
    "sgd_inverted",
    "degenerate branch",
    "degenerated_to_sgd means its opposite.",
    PLAIN,
    (ELIF, 'elif not group["degenerated_to_sgd"]:'),
)
loop(
    "sgd_by_gradient",
    "degenerate branch",
    "Below the threshold the step follows g, not m.",
    PLAIN,
    (SGD, SGD.replace("(m,", "(g,")),
    (SGD_SIZE, "size = lr\n"),
)
loop(
    "sgd_by_sign",
    "degenerate branch",
    "Below the threshold the step follows the sign of m.",
    PLAIN,
    (SGD, SGD.replace("(m,", "(m.sign(),")),
)
loop(
    "sgd_with_bias2",
    "degenerate branch",
    "The momentum step has the factor sqrt(1 - b2^t).",
    PLAIN,
    (SGD_SIZE, "size = lr * math.sqrt(bias2) / bias1\n"),
)
loop(
    "sgd_tenth",
    "degenerate branch",
    "The momentum step has a tenth of the rate.",
    PLAIN,
    (SGD_SIZE, "size = 0.1 * lr / bias1\n"),
)
loop(
    "sgd_falls_back_to_adam",
    "degenerate branch",
    "Below the threshold the step is Adam's.",
    PLAIN,
    (
        CALL,
        'r = rectification(beta2, t, group["threshold"])\n        if r is None and group["degenerated_to_sgd"]:\n            r = 1.0',
    ),
)
loop(
    "hold_keeps_moments",
    "degenerate branch",
    "A step that holds the parameter leaves m as it was.",
    drive(8, degenerated_to_sgd=False),
    (
        M,
        'if group["degenerated_to_sgd"] or rectification(beta2, int(state["step"]) + 1, group["threshold"]) is not None:\n                '
        + M,
    ),
)
loop(
    "hold_empties_momentum",
    "degenerate branch",
    "m is emptied in the last step below the threshold.",
    PLAIN,
    (
        END,
        '        if r is None and rectification(beta2, t + 1, group["threshold"]) is not None:\n            m.zero_()\n'
        + END,
    ),
)
loop(
    "hold_forever_never_adaptive",
    "degenerate branch",
    "With rho_inf <= 4 and degenerated_to_sgd=False the step is plain SGD instead of none.",
    drive(5, degenerated_to_sgd=False, betas=(0.9, 0.5)),
    (ELIF, 'elif group["degenerated_to_sgd"] or beta2 <= 0.6:'),
)
loop(
    "sgd_clipped",
    "degenerate branch",
    "The momentum step is clipped to one in every element.",
    drive(5, grads=scaled(1e4), lr=0.1),
    (SGD, "work.sub_((m * size).clamp_(-1.0, 1.0))"),
)
foreach(
    "foreach_linear_form",
    "degenerate branch",
    "One linear form for both branches: 0/0 for zero gradients and eps = 0 in a momentum step.",
    drive(3, eps=0.0, grads=lambda t, i, p: torch.zeros_like(p)),
    (
        "alpha=-(lr / bias1))",
        "alpha=-(lr / bias1))\n            torch._foreach_add_(params, torch._foreach_div(ms, torch._foreach_sqrt(vs)), alpha=0.0)",
    ),
)
foreach(
    "foreach_huge_divisor",
    "degenerate branch",
    "The momentum step goes through a huge eps, which loses small steps and overflows on large ones.",
    drive(3, dtype=torch.float32, grads=scaled(1e12)),
    (
        "torch._foreach_add_(params, ms, alpha=-(lr / bias1))",
        "torch._foreach_addcdiv_(params, torch._foreach_mul(ms, -1e30 * lr / bias1), [torch.full_like(p, 1e30) for p in params])",
    ),
)
foreach(
    "single_sgd_missing_bias",
    "degenerate branch",
    "Half precision: the momentum step lacks its bias correction.",
    drive(3, dtype=torch.bfloat16, lr=0.1),
    ("x = x - lr / bias1 * m\n", "x = x - lr * m\n"),
)

# --- amsgrad ---------------------------------------------------------------------------------------------------------


AMS = drive(12, amsgrad=True, betas=(0.9, 0.9), grads=fading)
AMS_LATE = drive(12, betas=(0.9, 0.9), grads=fading, events={5: set_option(amsgrad=True)})
AMS_OFF = drive(
    14,
    amsgrad=True,
    betas=(0.9, 0.9),
    grads=fading,
    events={5: set_option(amsgrad=False), 11: set_option(amsgrad=True)},
)
RISING = drive(12, amsgrad=True, betas=(0.9, 0.9), grads=lambda t, i, p: wave(t, i, p) * 1.5**t)

loop(
    "amsgrad_ignored",
    "amsgrad",
    "amsgrad has no effect on the update.",
    AMS,
    (DENOMINATOR, "denominator = v.sqrt() + e"),
)
loop(
    "amsgrad_of_corrected",
    "amsgrad",
    "The maximum is that of the corrected v.",
    AMS,
    (MAXIMUM, 's = torch.maximum(as_real(state["max_exp_avg_sq"]), v / (1.0 - beta2 ** (int(state["step"]) + 1)))'),
    (DENOMINATOR, "denominator = (s * bias2 if amsgrad else s).sqrt() + e"),
)
loop(
    "amsgrad_max_after_use",
    "amsgrad",
    "The update uses the maximum from before this step.",
    RISING,
    (DENOMINATOR, "denominator = (previous if amsgrad and t > 1 else s).sqrt() + e"),
    (MAXIMUM, 'previous = as_real(state["max_exp_avg_sq"]).clone()\n            ' + MAXIMUM),
)
loop(
    "amsgrad_late_uses_v",
    "amsgrad",
    "Switched on in mid-run, amsgrad does nothing.",
    AMS_LATE,
    ('if group["amsgrad"] and "max_exp_avg_sq" not in state:', 'if group["amsgrad"] and not state["step"]:'),
    (
        'amsgrad = group["amsgrad"]\n',
        'amsgrad = group["amsgrad"] and ("max_exp_avg_sq" in self.state[p] or not self.state[p])\n',
    ),
)
loop(
    "amsgrad_late_crashes",
    "amsgrad",
    "Switched on in mid-run, amsgrad finds no state.",
    AMS_LATE,
    ('if group["amsgrad"] and "max_exp_avg_sq" not in state:', 'if group["amsgrad"] and not state["step"]:'),
)
loop(
    "amsgrad_late_starts_at_one",
    "amsgrad",
    "Switched on in mid-run, the maximum starts from one.",
    AMS_LATE,
    (
        'state["max_exp_avg_sq"] = torch.zeros_like(p, dtype=dtype)',
        'state["max_exp_avg_sq"] = torch.full_like(p, float(bool(state["step"])), dtype=dtype)',
    ),
)
loop(
    "amsgrad_replaces_v",
    "amsgrad",
    "v itself becomes the maximum.",
    AMS,
    (KEEP_MAX, KEEP_MAX + "\n            v.copy_(s)"),
)
loop(
    "amsgrad_max_only_adaptive",
    "amsgrad",
    "The maximum is kept in adaptive steps only.",
    AMS,
    (
        KEEP_MAX,
        'if rectification(beta2, int(state["step"]) + 1, group["threshold"]) is not None:\n                ' + KEEP_MAX,
    ),
)
loop(
    "amsgrad_runs_while_off",
    "amsgrad",
    "The maximum goes on while amsgrad is off.",
    drive(
        14,
        amsgrad=True,
        betas=(0.9, 0.9),
        events={3: set_option(amsgrad=False), 11: set_option(amsgrad=True)},
        grads=lambda t, i, p: wave(t, i, p) * (10.0 if t == 6 else 0.1),
    ),
    (
        "s = v\n",
        's = v\n        if "max_exp_avg_sq" in state and not amsgrad:\n            state["max_exp_avg_sq"].copy_(torch.maximum(state["max_exp_avg_sq"], state["exp_avg_sq"]))\n',
    ),
)
loop(
    "amsgrad_forgets_while_off",
    "amsgrad",
    "Switching amsgrad off empties the maximum.",
    AMS_OFF,
    ("s = v\n", 's = v\n        if not amsgrad:\n            state.pop("max_exp_avg_sq", None)\n'),
)
loop(
    "amsgrad_minimum",
    "amsgrad",
    "The smaller of the two.",
    AMS,
    (MAXIMUM, MAXIMUM.replace("torch.maximum", "torch.minimum")),
)
loop(
    "amsgrad_one_maximum",
    "amsgrad",
    "One maximum for the whole tensor.",
    AMS,
    (MAXIMUM, MAXIMUM + ".amax().expand_as(v)"),
)
loop(
    "amsgrad_decays",
    "amsgrad",
    "The maximum decays with beta2.",
    AMS,
    (MAXIMUM, MAXIMUM.replace('as_real(state["max_exp_avg_sq"])', 'as_real(state["max_exp_avg_sq"]) * beta2')),
)
loop(
    "amsgrad_last_not_kept",
    "amsgrad",
    "The maximum with this step's v is used but not kept.",
    AMS,
    (KEEP_MAX, 'as_real(state["max_exp_avg_sq"]).copy_(v)'),
)
foreach(
    "foreach_amsgrad_unused", "amsgrad", "The maximum is kept but v is used.", AMS, ("            vs = maxima\n", "")
)
foreach(
    "foreach_amsgrad_unused_unless_optimized",
    "amsgrad",
    "With optimized_update=False v is used for the maximum.",
    drive(12, amsgrad=True, betas=(0.9, 0.9), grads=fading, optimized_update=False),
    ("torch._foreach_div(vs, bias2)", 'torch._foreach_div([item.state["exp_avg_sq"] for item in items], bias2)'),
)
foreach(
    "single_amsgrad_unused",
    "amsgrad",
    "Half precision: the maximum is kept but v is used.",
    drive(12, amsgrad=True, betas=(0.9, 0.9), grads=fading, dtype=torch.bfloat16, lr=0.1),
    ("root = v.sqrt()", 'root = new["exp_avg_sq"].sqrt()'),
)

# --- maximize --------------------------------------------------------------------------------------------------------

MAX = drive(maximize=True)
MAX_L2 = drive(maximize=True, lr=0.1, decay=(0.1, False))
MAX_DECAY = drive(maximize=True, lr=0.1, decay=(0.1,))

loop("maximize_ignored", "maximize", "maximize does nothing.", MAX, (FLIP, "if False:\n            g = -g\n"))
loop(
    "maximize_flips_l2",
    "maximize",
    "The gradient is negated after the L2 term is in.",
    MAX_L2,
    (FLIP, "pass\n"),
    (DECAY, 'g = self.weight_decay(work, g, group)\n        if group["maximize"]:\n            g = -g'),
)
loop(
    "maximize_flips_m_only",
    "maximize",
    "v sees the L2 gradient of the unflipped sign.",
    MAX_L2,
    (FLIP, 'flipped = group["maximize"]\n'),
    (
        DECAY,
        'other = self.weight_decay(work, -g, group) if flipped and not group["weight_decouple"] else None\n        g = self.weight_decay(work, g, group)\n        if flipped and other is None:\n            other = -g\n        other = g if other is None else other',
    ),
    (M, M.replace("(g,", "(other,")),
)
loop(
    "maximize_grows",
    "maximize",
    "Under maximize, decoupled decay grows the parameter.",
    MAX_DECAY,
    ("1.0 - lr * coefficient\n", '1.0 - (-lr if group["maximize"] else lr) * coefficient\n'),
)
loop(
    "maximize_without_decay",
    "maximize",
    "Under maximize there is no decay.",
    MAX_DECAY,
    ("if coefficient == 0.0:", 'if coefficient == 0.0 or group["maximize"]:'),
)
loop(
    "maximize_adaptive_only",
    "maximize",
    "maximize is honoured in adaptive steps only.",
    MAX,
    (SGD, 'work.add_(m, alpha=size if group["maximize"] else -size)'),
)
loop(
    "maximize_absolute_gradient",
    "maximize",
    "maximize takes the size of the gradient, negated.",
    MAX,
    (FLIP, FLIP.replace("g = -g", "g = -g.abs()")),
)
foreach(
    "foreach_maximize_late",
    "maximize",
    "The gradient is negated after the L2 term is in.",
    MAX_L2,
    ('        if group["maximize"]:\n            grads = torch._foreach_neg(grads)\n', ""),
    (
        "        torch._foreach_lerp_(ms",
        '        if group["maximize"]:\n            grads = torch._foreach_neg(grads)\n        torch._foreach_lerp_(ms',
    ),
)
foreach(
    "single_maximize_ignored",
    "maximize",
    "Half precision and complex: maximize does nothing.",
    drive(maximize=True, dtype=torch.bfloat16, lr=0.1),
    ('-g if group["maximize"] else g', "g"),
)

# --- precision -------------------------------------------------------------------------------------------------------

loop(
    "lr_float32",
    "precision",
    "lr is rounded to float32.",
    PLAIN,
    (LR, LR.replace('float(group["lr"])', 'float(torch.as_tensor(group["lr"], dtype=torch.float32))')),
)
loop(
    "size_float32",
    "precision",
    "The adaptive step size is rounded to float32.",
    PLAIN,
    (SIZE, "size = " + FLOAT32.format(SIZE[7:])),
)
loop(
    "sgd_size_float32",
    "precision",
    "The momentum step size is rounded to float32.",
    PLAIN,
    (SGD_SIZE, "size = " + FLOAT32.format("lr / bias1") + "\n"),
)
loop(
    "size_times_one_plus_1e9",
    "precision",
    "The adaptive step is too long by 1e-9.",
    PLAIN,
    (ADAPT, ADAPT.replace("-size", "-size * (1.0 + 1e-9)")),
)
loop(
    "size_times_one_plus_1e10",
    "precision",
    "The adaptive step is too long by 1e-10.",
    drive(start=((0.0, 0.0),)),
    (ADAPT, ADAPT.replace("-size", "-size * (1.0 + 1e-10)")),
)
loop(
    "sgd_size_times_one_plus_1e10",
    "precision",
    "The momentum step is too long by 1e-10.",
    drive(start=((0.0, 0.0),)),
    (SGD, SGD.replace("-size", "-size * (1.0 + 1e-10)")),
)
loop(
    "jitter",
    "precision",
    "The step size varies by 1e-9 with t.",
    PLAIN,
    (ADAPT, ADAPT.replace("-size", "-size * (1.0 + 1e-9 * math.sin(t))")),
)
loop(
    "float32_size_off_by_1e5",
    "precision",
    "In float32 only, the adaptive step is too long by 1e-5.",
    drive(start=((0.0, 0.0),), dtype=torch.float32, grads=scaled(0.01)),
    (ADAPT, ADAPT.replace("-size", "-size * (1.0 + 1e-5 * (p.dtype == torch.float32))")),
)
loop(
    "size_rounded_to_digits",
    "precision",
    "The adaptive step size keeps eight decimal places.",
    PLAIN,
    (ADAPT, ADAPT.replace("-size", "-round(size, 8)")),
)
loop(
    "lr_keeps_six_digits",
    "precision",
    "lr keeps six decimal places.",
    drive(lr=1.2345678e-3),
    (LR, LR.replace('float(group["lr"])', 'round(float(group["lr"]), 6)')),
)
loop(
    "denominator_float32",
    "precision",
    "The denominator is rounded to float32.",
    PLAIN,
    (DENOMINATOR, "denominator = s.sqrt().float().to(s.dtype) + e"),
)
loop(
    "update_float32",
    "precision",
    "The update is computed in float32 and then added.",
    PLAIN,
    (ADAPT, "work.add_((m.float() / denominator.float()).to(work.dtype), alpha=-size)"),
)
loop(
    "betas_float32",
    "precision",
    "Both betas are rounded to float32.",
    PLAIN,
    (
        'beta1, beta2 = group["betas"]',
        'beta1, beta2 = (float(torch.tensor(b, dtype=torch.float32)) for b in group["betas"])',
    ),
)
loop("m_relative_1e10", "precision", "m is too large by 1e-10 each step.", PLAIN, (M, M + ".mul_(1.0 + 1e-10)"))
loop("v_relative_1e10", "precision", "v is too large by 1e-10 each step.", PLAIN, (V, V + ".mul_(1.0 + 1e-10)"))
loop(
    "decay_factor_float32",
    "precision",
    "The decay factor is rounded to float32.",
    drive(lr=0.1, decay=(0.1,)),
    ("param.mul_(factor)", "param.mul_(" + FLOAT32.format("factor") + ")"),
)
loop(
    "bias2_root_float32",
    "precision",
    "sqrt(1 - b2^t) is rounded to float32.",
    PLAIN,
    (SIZE, SIZE.replace("math.sqrt(bias2)", FLOAT32.format("math.sqrt(bias2)"))),
)
foreach(
    "foreach_size_float32",
    "precision",
    "The foreach step size is rounded to float32.",
    PLAIN,
    ("size = lr * (r * sqrt(bias2) / bias1)", "size = float(torch.tensor(lr * (r * sqrt(bias2) / bias1)))"),
)
foreach(
    "foreach_lr_float32",
    "precision",
    "lr is rounded to float32 in the foreach step.",
    PLAIN,
    (
        'bias1, bias2, r = scalars(group, t)\n        lr = float(group["lr"])',
        'bias1, bias2, r = scalars(group, t)\n        lr = float(torch.as_tensor(group["lr"], dtype=torch.float32))',
    ),
)

# --- only then -------------------------------------------------------------------------------------------------------


def jump(step: int):  # type: ignore[no-untyped-def]
    """Sets the count, so that late steps are reached at once."""

    def event(run):  # type: ignore[no-untyped-def]
        state = run.state()
        state["step"] = type(state["step"])(step) if isinstance(state["step"], int) else torch.tensor(float(step))

    return event


LATER = 'r = rectification(beta2, t, group["threshold"])'

loop(
    "after_1000_no_rectification",
    "only then",
    "From step 1001 on r_t is taken for 1.",
    drive(4, betas=(0.9, 0.999), events={2: jump(1000)}),
    (LATER, LATER + "\n        if t > 1000:\n            r = 1.0"),
)
loop(
    "after_100_no_rectification",
    "only then",
    "From step 101 on r_t is taken for 1.",
    drive(110),
    (LATER, LATER + "\n        if t > 100:\n            r = 1.0"),
)
loop(
    "after_100_bias1_dropped",
    "only then",
    "From step 101 on the momentum is not corrected.",
    drive(110, betas=(0.99, 0.999)),
    (BIAS1, "bias1 = 1.0 - beta1**t if t <= 100 else 1.0\n"),
)
loop(
    "after_200_count_stops",
    "only then",
    "The count used stops at 200.",
    drive(210),
    (T, 't = min(200, int(state["step"]))'),
)
loop(
    "beta1_zero_uses_09",
    "only then",
    "beta1 = 0 is taken for unset: 0.9.",
    drive(betas=(0.0, 0.999)),
    ('beta1, beta2 = group["betas"]', 'beta1, beta2 = group["betas"]\n        beta1 = beta1 or 0.9'),
)
loop(
    "beta2_zero_uses_0999",
    "only then",
    "beta2 = 0 is taken for unset: 0.999.",
    drive(betas=(0.9, 0.0)),
    ('beta1, beta2 = group["betas"]', 'beta1, beta2 = group["betas"]\n        beta2 = beta2 or 0.999'),
)
loop(
    "beta1_zero_rectified_twice",
    "only then",
    "With beta1 = 0 the adaptive step is multiplied by r_t twice.",
    drive(betas=(0.0, 0.999)),
    (ADAPT, "work.addcdiv_(m, denominator, value=-size * (r if beta1 == 0.0 else 1.0))"),
)
loop(
    "beta2_below_beta1_swapped",
    "only then",
    "When beta2 < beta1 the two change places.",
    drive(betas=(0.95, 0.9)),
    ('beta1, beta2 = group["betas"]', 'beta1, beta2 = sorted(group["betas"])'),
)
loop(
    "zero_elements_keep_moments",
    "only then",
    "Where the gradient is exactly zero the moments do not decay (a sparse habit).",
    drive(grads=lambda t, i, p: wave(t, i, p) * torch.tensor([1.0, 0.0, 1.0, 1.0]) if t % 2 else wave(t, i, p)),
    (M, "m.copy_(torch.where(g == 0, m, m * beta1 + g * (1.0 - beta1)))"),
)
loop(
    "zero_gradient_freezes",
    "only then",
    "A gradient that is zero throughout leaves m as it was.",
    drive(grads=lambda t, i, p: wave(t, i, p) * (t != 4)),
    (M, "if g.any():\n                " + M),
)
loop(
    "second_group_half_rate",
    "only then",
    "The second group moves at half the rate.",
    drive(start=TWO, groups=({}, {})),
    (
        LR,
        LR.replace(
            'float(group["lr"])',
            'float(group["lr"]) * (0.5 if group is self.param_groups[-1] and len(self.param_groups) > 1 else 1.0)',
        ),
    ),
)
loop(
    "third_parameter_skipped",
    "only then",
    "The third parameter of a group is not stepped.",
    drive(start=(*TWO, (3.0,))),
    (
        "if grad is None:\n                        continue",
        'if grad is None or (len(group["params"]) > 2 and p is group["params"][2]):\n                        continue',
    ),
)
loop(
    "after_load_without_bias",
    "only then",
    "After load_state_dict the momentum is no longer corrected.",
    drive(events={5: reload}),
    (
        "super().load_state_dict(state_dict)\n        indices",
        "super().load_state_dict(state_dict)\n        self.loaded = True\n        indices",
    ),
    (BIAS1, 'bias1 = 1.0 if getattr(self, "loaded", False) else 1.0 - beta1**t\n'),
)
loop(
    "lr_change_restarts",
    "only then",
    "A change of lr restarts the count.",
    drive(10, events={7: set_option(lr=0.01)}),
    (
        STATE,
        STATE
        + '\n        if self.__dict__.setdefault("rates", {}).setdefault(id(p), lr) != lr:\n            self.rates[id(p)] = lr\n            state["step"].zero_()',
    ),
)
loop(
    "amsgrad_with_decay_ignored",
    "only then",
    "With weight decay, amsgrad has no effect.",
    drive(12, amsgrad=True, betas=(0.9, 0.9), grads=fading, decay=(0.1,)),
    (DENOMINATOR, 'denominator = (v if group.get("weight_decay") else s).sqrt() + e'),
)
loop(
    "maximize_with_amsgrad_ignored",
    "only then",
    "With amsgrad, maximize has no effect.",
    drive(maximize=True, amsgrad=True),
    ('if group["maximize"]:\n            g', 'if group["maximize"] and not amsgrad:\n            g'),
)
loop(
    "decay_with_hold_and_amsgrad",
    "only then",
    "With amsgrad and degenerated_to_sgd=False there is no decay.",
    drive(lr=0.1, decay=(0.1,), amsgrad=True, degenerated_to_sgd=False),
    ("if coefficient == 0.0:", 'if coefficient == 0.0 or (group["amsgrad"] and not group["degenerated_to_sgd"]):'),
)
loop(
    "first_adaptive_step_skipped",
    "only then",
    "The first adaptive step does not move the parameter.",
    PLAIN,
    (ADAPT, 'if rectification(beta2, t - 1, group["threshold"]) is not None:\n                ' + ADAPT),
)
loop(
    "first_adaptive_step_unrectified",
    "only then",
    "The first adaptive step has r = 1.",
    PLAIN,
    (SIZE, 'r = r if rectification(beta2, t - 1, group["threshold"]) is not None else 1.0\n            ' + SIZE),
)
loop(
    "zero_parameters_stay",
    "only then",
    "Elements that are exactly zero stay zero, as if pruned.",
    PLAIN,
    (SGD, "work.sub_(torch.where(work == 0, 0.0, m * size))"),
)
loop(
    "large_lr_capped",
    "only then",
    "lr above 1 is taken for 1.",
    drive(lr=10.0),
    (LR, LR.replace('float(group["lr"])', 'min(1.0, float(group["lr"]))')),
)
loop(
    "tiny_gradients_ignored",
    "only then",
    "Gradients below 1e-12 count as zero.",
    drive(grads=scaled(1e-13)),
    (DECAY, DECAY + "\n        g = torch.where(g.abs() < 1e-12, 0.0, g)"),
)
loop(
    "tensor_lr_at_construction",
    "only then",
    "A tensor lr is read once per parameter, at its first step.",
    drive(lr=torch.tensor(0.01), events={4: lambda run: run.groups[0]["lr"].fill_(0.1)}),
    (
        LR,
        'if isinstance(group["lr"], Tensor):\n            lr = self.__dict__.setdefault("first_lr", {}).setdefault(id(p), float(group["lr"]))\n        else:\n            lr = float(group["lr"])\n        beta1',
    ),
)
loop(
    "group_after_start_not_rectified",
    "only then",
    "A group added late is never rectified.",
    drive(
        14,
        events={
            4: lambda run: (
                run.params.append(torch.nn.Parameter(torch.ones(2, dtype=torch.float64))),
                run.optimizer.add_param_group({"params": [run.params[-1]]}),
            )
        },
    ),
    (LATER, LATER + "\n        if r is not None and group is not self.param_groups[0]:\n            r = 1.0"),
)
foreach(
    "foreach_many_parameters",
    "only then",
    "Beyond eight tensors of one bucket, the rest are not stepped.",
    drive(3, start=tuple((float(i), 1.0) for i in range(10))),
    ("self._step_list(items, t, group)", "self._step_list(items[:8], t, group)"),
)
foreach(
    "foreach_second_bucket_stale",
    "only then",
    "Only the first bucket of a step is applied when the counts differ.",
    GAPS,
    ("self._step_list(items, t, group)", "self._step_list(items, t, group)\n            break"),
)
