"""The mistakes: each one once, with the edits that make it in every code path of every implementation that can have it.

The places that edits name are in the peers' own files. An implementation without edits has no such thing to get wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.mutation.peers.peer import Edit

Edits = Sequence[Edit]
ONE_PATH = "one code path only"
SOURCES = ("torch", "pytorch_optimizer", "timm", "optax")


@dataclass(frozen=True)
class Mistake:
    """What is wrong, and how it is made in each source."""

    name: str
    part: str
    why: str
    edits: Mapping[str, tuple[Edit, ...]]


MISTAKES: list[Mistake] = []


def mistake(
    name: str,
    part: str,
    why: str,
    *,
    torch: Edits = (),
    pytorch_optimizer: Edits = (),
    timm: Edits = (),
    optax: Edits = (),
) -> None:
    """Add one to the list."""
    given = dict(zip(SOURCES, (torch, pytorch_optimizer, timm, optax), strict=True))
    MISTAKES.append(Mistake(name, part, why, {source: tuple(edits) for source, edits in given.items() if edits}))


def of(source: str) -> list[Mistake]:
    """The mistakes that can be made in a source."""
    return [one for one in MISTAKES if source in one.edits]


def common() -> list[Mistake]:
    """The mistakes that can be made in all sources."""
    return [one for one in MISTAKES if len(one.edits) == len(SOURCES)]


# --- rectification ---------------------------------------------------------------------------------------------------

_K_RECT = "(n_sma - 4) / (n_sma_max - 4) * (n_sma - 2) / n_sma * n_sma_max / (n_sma_max - 2)"
_T_RECT = """(num_sma - 4) / (num_sma_max - 4) *
                        (num_sma - 2) / num_sma *
                        num_sma_max / (num_sma_max - 2)"""


def _rect_to_the(power: float, torchs: float) -> dict[str, Edits]:
    """r_t to some power: r_t is the square root of a ratio."""
    return {
        "torch": [
            ("loop", ") ** 0.5\n\n", f") ** {torchs}\n\n"),
            ("foreach", "** 0.5\n                if rho_t > 5", f"** {torchs}\n                if rho_t > 5"),
            ("foreach", "torch._foreach_sqrt_(num)", f"torch._foreach_pow_(num, {torchs})"),
        ],
        "pytorch_optimizer": [("rectify", _K_RECT, f"({_K_RECT}) ** {power}")],
        "timm": [("step", _T_RECT, f"({_T_RECT}) ** {power}")],
        "optax": [("scale", "r.astype(m.dtype) * m", f"(r**{power}).astype(m.dtype) * m")],
    }


mistake("rectification_removed", "rectification", "r_t is 1 in adaptive steps.", **_rect_to_the(0.0, 0.0))
mistake("rectification_squared", "rectification", "The square root is dropped from r_t.", **_rect_to_the(2.0, 1.0))
mistake("rectification_inverted", "rectification", "r_t divides where it should multiply.", **_rect_to_the(-1.0, -0.5))
mistake(
    "rho_inf_without_1",
    "rectification",
    "rho_inf = 2 / (1 - b2), where 1 should be subtracted.",
    torch=[
        ("loop", "2 / (1 - beta2) - 1", "2 / (1 - beta2)"),
        ("foreach", "2 / (1 - beta2) - 1", "2 / (1 - beta2)"),
    ],
    pytorch_optimizer=[("rectify", "2.0 / (1.0 - beta2) - 1.0", "2.0 / (1.0 - beta2)")],
    timm=[("step", "2 / (1 - beta2) - 1", "2 / (1 - beta2)")],
    optax=[("scale", "2.0 / (1.0 - b2) - 1.0", "2.0 / (1.0 - b2)")],
)
mistake(
    "rho_inf_of_beta1",
    "rectification",
    "rho_inf is computed of b1.",
    torch=[
        ("loop", "2 / (1 - beta2) - 1", "2 / (1 - beta1) - 1"),
        ("foreach", "2 / (1 - beta2) - 1", "2 / (1 - beta1) - 1"),
    ],
    timm=[("step", "2 / (1 - beta2) - 1", "2 / (1 - beta1) - 1")],
    optax=[("scale", "2.0 / (1.0 - b2) - 1.0", "2.0 / (1.0 - b1) - 1.0")],
)
mistake(
    "rho_t_without_2",
    "rectification",
    "rho_t subtracts t b2^t / (1 - b2^t) once, not twice.",
    torch=[
        ("loop", "rho_inf - 2 * step", "rho_inf - step"),
        ("foreach", "- 2\n                * _get_value(step)", "- _get_value(step)"),
        ("foreach", "torch._foreach_mul_(bias_correction2, 2)\n", "torch._foreach_mul_(bias_correction2, 1)\n"),
    ],
    pytorch_optimizer=[("rectify", "n_sma_max - 2 * step", "n_sma_max - step")],
    timm=[("step", "num_sma_max - 2 * state", "num_sma_max - state")],
    optax=[("scale", "ro_inf - 2 * count_inc", "ro_inf - count_inc")],
)
mistake(
    "rho_t_not_corrected",
    "rectification",
    "rho_t lacks the division by 1 - b2^t.",
    torch=[
        ("loop", "(beta2**step) / bias_correction2", "(beta2**step)"),
        ("foreach", "\n                / (1 - beta2 ** _get_value(step))", ""),
        (
            "foreach",
            "torch._foreach_div_(bias_correction2, bias_correction1)\n            torch._foreach_neg_",
            "torch._foreach_neg_",
        ),
    ],
    pytorch_optimizer=[("rectify", "beta2_t / (1.0 - beta2_t)", "beta2_t")],
    timm=[("step", "beta2_t / (1 - beta2_t)", "beta2_t")],
    optax=[("scale", "b2t / (1 - b2t)", "b2t")],
)
mistake(
    "rho_t_of_the_next_step",
    "rectification",
    "rho_t is that of step t + 1.",
    torch=[
        (
            "loop",
            "2 * step * (beta2**step) / bias_correction2",
            "2 * (step + 1) * beta2 ** (step + 1) / (1 - beta2 ** (step + 1))",
        ),
        (
            "foreach",
            "(1 - beta2 ** _get_value(step))\n                for step in grouped_state_steps",
            "(1 - beta2 ** _get_value(step))\n                for step in [step + 1 for step in grouped_state_steps]",
        ),
        (
            "foreach",
            "bias_correction1 = torch._foreach_pow(beta2, grouped_state_steps)",
            "later = torch._foreach_add(grouped_state_steps, 1)\n"
            "            bias_correction1 = torch._foreach_pow(beta2, later)",
        ),
        (
            "foreach",
            "torch._foreach_pow(beta2, grouped_state_steps)\n"
            "            torch._foreach_mul_(bias_correction2, grouped_state_steps)",
            "torch._foreach_pow(beta2, later)\n            torch._foreach_mul_(bias_correction2, later)",
        ),
    ],
    pytorch_optimizer=[
        (
            "rectify",
            "2 * step * beta2_t / (1.0 - beta2_t)",
            "2 * (step + 1) * beta2 ** (step + 1) / (1.0 - beta2 ** (step + 1))",
        )
    ],
    timm=[
        (
            "step",
            "2 * state['step'] * beta2_t / (1 - beta2_t)",
            "2 * (state['step'] + 1) * beta2 ** (state['step'] + 1) / (1 - beta2 ** (state['step'] + 1))",
        )
    ],
    optax=[
        (
            "scale",
            "2 * count_inc * b2t / (1 - b2t)",
            "2 * (count_inc + 1) * b2 ** (count_inc + 1) / (1 - b2 ** (count_inc + 1))",
        )
    ],
)
mistake(
    "rho_t_minus_3",
    "rectification",
    "r_t has rho_t - 3 for rho_t - 4.",
    torch=[
        ("loop", "(rho_t - 4)", "(rho_t - 3)"),
        ("foreach", "(rho_t - 4)", "(rho_t - 3)"),
        ("foreach", "torch._foreach_sub(rho_t_list, 4)", "torch._foreach_sub(rho_t_list, 3)"),
    ],
    pytorch_optimizer=[("rectify", "(n_sma - 4)", "(n_sma - 3)")],
    timm=[("step", "(num_sma - 4)", "(num_sma - 3)")],
    optax=[("scale", "(ro - 4.0)", "(ro - 3.0)")],
)
mistake(
    "rho_inf_minus_2_twice",
    "rectification",
    "r_t has rho_inf - 2 for rho_inf - 4.",
    torch=[
        ("loop", "(rho_inf - 4)", "(rho_inf - 2)"),
        ("foreach", "((rho_inf - 4)", "((rho_inf - 2)"),
        ("foreach", "rho_inf = (rho_inf - 4)", "rho_inf = (rho_inf - 2)"),
    ],
    pytorch_optimizer=[("rectify", "(n_sma_max - 4)", "(n_sma_max - 2)")],
    timm=[("step", "(num_sma_max - 4)", "(num_sma_max - 2)")],
    optax=[("scale", "(ro_inf - 4.0)", "(ro_inf - 2.0)")],
)
mistake(
    "rho_ratio_missing",
    "rectification",
    "r_t lacks the factor rho_inf / rho_t.",
    torch=[
        (
            "loop",
            "* rho_inf\n                / ((rho_inf - 4) * (rho_inf - 2) * rho_t)",
            "/ ((rho_inf - 4) * (rho_inf - 2))",
        ),
        (
            "foreach",
            "* rho_inf\n                    / ((rho_inf - 4) * (rho_inf - 2) * rho_t)",
            "/ ((rho_inf - 4) * (rho_inf - 2))",
        ),
        ("foreach", "torch._foreach_mul_(num, rho_inf)", "pass"),
        ("foreach", "torch._foreach_div_(num, denom)", "torch._foreach_div_(num, rho_inf)"),
    ],
    pytorch_optimizer=[("rectify", "/ n_sma * n_sma_max / (n_sma_max - 2)", "/ (n_sma_max - 2)")],
    timm=[("step", "/ num_sma *\n                        num_sma_max / (num_sma_max - 2)", "/ (num_sma_max - 2)")],
    optax=[
        (
            "scale",
            "* ro_inf\n        / ((ro_inf - 4.0) * (ro_inf - 2.0) * ro)",
            "/ ((ro_inf - 4.0) * (ro_inf - 2.0))",
        )
    ],
)


# --- threshold -------------------------------------------------------------------------------------------------------


def _adaptive_if(torch: str, pytorch_optimizer: str, timm: str, optax: str) -> dict[str, Edits]:
    """Another condition for an adaptive step."""
    method = pytorch_optimizer.replace("n_sma_threshold", "self.n_sma_threshold").replace("step", "group['step']")
    return {
        "torch": [
            ("loop", "rho_t > 5.0, _compute", f"{torch}, _compute"),
            ("loop", "if rho_t > 5.0:", f"if {torch}:"),
            ("foreach", "if rho_t > 5\n", f"if {torch}\n"),
            ("foreach", "torch.where(rho_t > 5.0, n", f"torch.where({torch}, n"),
        ],
        "pytorch_optimizer": [
            ("rectify", "if n_sma >= n_sma_threshold:", f"if {pytorch_optimizer}:"),
            ("step", "n_sma >= self.n_sma_threshold,\n", f"{method},\n"),
            ("step", "n_sma >= self.n_sma_threshold or", f"{method} or"),
            ("loop", "or n_sma >= self.n_sma_threshold", f"or {method}"),
            ("loop", "if n_sma >= self.n_sma_threshold", f"if {method}"),
        ],
        "timm": [
            ("step", "if num_sma >= 5:\n                    step_size", f"if {timm}:\n                    step_size"),
            ("step", "if num_sma >= 5:\n                    denom", f"if {timm}:\n                    denom"),
        ],
        "optax": [("scale", "ro >= threshold", optax)],
    }


mistake(
    "never_rectifies",
    "threshold",
    "No step is adaptive.",
    **_adaptive_if("rho_t > 1e30", "n_sma >= 1e30", "num_sma >= 1e30", "ro >= 1e30"),
)
mistake(
    "threshold_4",
    "threshold",
    "Steps are adaptive from rho_t = 4 on (where it is an option: from 1 less than asked for).",
    **_adaptive_if("rho_t > 4.0", "n_sma >= n_sma_threshold - 1", "num_sma >= 4", "ro >= threshold - 1"),
)
mistake(
    "threshold_6",
    "threshold",
    "Steps are adaptive from rho_t = 6 on (where it is an option: from 1 more than asked for).",
    **_adaptive_if("rho_t > 6.0", "n_sma >= n_sma_threshold + 1", "num_sma >= 6", "ro >= threshold + 1"),
)
mistake(
    "threshold_strictness",
    "threshold",
    "`>=` for `>` or the reverse: seen where rho_t is 5 exactly.",
    **_adaptive_if("rho_t >= 5.0", "n_sma > n_sma_threshold", "num_sma > 5", "ro > threshold"),
)
mistake(
    "threshold_on_the_step",
    "threshold",
    "Steps are adaptive if t > 5, whatever rho_t is: the same for b2 of 0.84 and more.",
    torch=[
        ("loop", "rho_t > 5.0, _compute", "step > 5, _compute"),
        ("loop", "if rho_t > 5.0:", "if step > 5:"),
        (
            "foreach",
            "if rho_t > 5\n                else 0\n                for rho_t in rho_t_list",
            "if _get_value(step) > 5\n                else 0\n"
            "                for rho_t, step in zip(rho_t_list, grouped_state_steps)",
        ),
        (
            "foreach",
            "torch.where(rho_t > 5.0, n, 0.0)\n                for n, rho_t in zip(num, rho_t_list, strict=True)",
            "torch.where(step > 5, n, 0.0)\n                for n, step in zip(num, grouped_state_steps)",
        ),
    ],
    pytorch_optimizer=[
        ("rectify", "if n_sma >= n_sma_threshold:", "if step > 5:"),
        ("step", "n_sma >= self.n_sma_threshold,\n", "group['step'] > 5,\n"),
        ("step", "n_sma >= self.n_sma_threshold or", "group['step'] > 5 or"),
        ("loop", "or n_sma >= self.n_sma_threshold", "or group['step'] > 5"),
        ("loop", "if n_sma >= self.n_sma_threshold", "if group['step'] > 5"),
    ],
    timm=[
        (
            "step",
            "if num_sma >= 5:\n                    step_size",
            "if state['step'] > 5:\n                    step_size",
        ),
        ("step", "if num_sma >= 5:\n                    denom", "if state['step'] > 5:\n                    denom"),
    ],
    optax=[("scale", "ro >= threshold", "count_inc > threshold")],
)
mistake(
    "threshold_ignored",
    "threshold",
    "The threshold is 5, whatever is asked for.",
    pytorch_optimizer=_adaptive_if("", "n_sma >= 5", "", "")["pytorch_optimizer"],
    optax=[("alias", "threshold=threshold,", "threshold=5.0,")],
)


# --- steps below the threshold ---------------------------------------------------------------------------------------

mistake(
    "momentum_step_divides",
    "degenerate branch",
    "Below the threshold the step is adaptive too, without r_t.",
    torch=[
        (
            "loop",
            "param.add_(bias_corrected_exp_avg * lr, alpha=-1.0)",
            "param.add_(bias_corrected_exp_avg * lr * _compute_adaptive_lr(), alpha=-1.0)",
        ),
        ("loop", "_compute_adaptive_lr(), 1.0\n", "_compute_adaptive_lr(), _compute_adaptive_lr()\n"),
        ("foreach", "else 0\n                for rho_t", "else 1.0\n                for rho_t"),
        ("foreach", "torch.where(rho_t > 5.0, n, 0.0)", "torch.where(rho_t > 5.0, n, 1.0)"),
    ],
    pytorch_optimizer=[
        ("rectify", "rt = 1.0\n", "rt = math.sqrt(1.0 - beta2_t)\n"),
        (
            "foreach",
            "foreach_add_(params, exp_avgs, alpha=-step_size)",
            "de_noms = torch._foreach_sqrt(exp_avg_sqs)\n"
            "            torch._foreach_add_(de_noms, group['eps'])\n"
            "            foreach_addcdiv_(params, exp_avgs, de_noms, value=-step_size)",
        ),
        (
            "loop",
            "p.add_(exp_avg, alpha=-step_size)",
            "p.addcdiv_(exp_avg, exp_avg_sq.sqrt().add_(group['eps']), value=-step_size)",
        ),
    ],
    timm=[
        ("step", "group['lr'] / (1 - beta1", "group['lr'] * math.sqrt(1 - beta2_t) / (1 - beta1"),
        (
            "step",
            "p_fp32.add_(exp_avg, alpha=-step_size)",
            "p_fp32.addcdiv_(exp_avg, exp_avg_sq.sqrt().add_(group['eps']), value=-step_size)",
        ),
    ],
    optax=[
        (
            "scale",
            "nu_hat),\n        mu_hat,",
            "nu_hat),\n        jax.tree.map(lambda m, v: m / (jnp.sqrt(v + eps_root) + eps), mu_hat, nu_hat),",
        )
    ],
)
mistake(
    "momentum_step_skipped",
    "degenerate branch",
    "Below the threshold the parameter waits, though a step was asked for.",
    torch=[
        ("loop", "bias_corrected_exp_avg * lr, alpha=-1.0", "bias_corrected_exp_avg * lr, alpha=0.0"),
        ("loop", "_compute_adaptive_lr(), 1.0\n", "_compute_adaptive_lr(), 0.0\n"),
        ("foreach", "[0 if rect > 0 else 1.0", "[0 if rect > 0 else 0.0"),
        ("foreach", "torch.where(rect > 0, 0.0, 1.0)", "torch.where(rect > 0, 0.0, 0.0)"),
    ],
    pytorch_optimizer=[("rectify", "rt = 1.0\n", "rt = -1.0\n")],
    timm=[("step", "p_fp32.add_(exp_avg, alpha=-step_size)", "pass")],
    optax=[("scale", "nu_hat),\n        mu_hat,", "nu_hat),\n        jax.tree.map(jnp.zeros_like, mu_hat),")],
)
mistake(
    "momentum_step_uninvited",
    "degenerate branch",
    "Below the threshold a momentum step is taken, though the parameter should wait.",
    pytorch_optimizer=[("rectify", "rt = -1.0\n", "rt = 1.0\n")],
)
mistake(
    "momentum_step_without_lr",
    "degenerate branch",
    "The momentum step is not multiplied by lr.",
    torch=[
        ("loop", "bias_corrected_exp_avg * lr, alpha", "bias_corrected_exp_avg, alpha"),
        ("loop", "_compute_adaptive_lr(), 1.0\n", "_compute_adaptive_lr(), 1.0 / lr\n"),
        (
            "foreach",
            "(lr * rect / bc) * -1\n                for rect, bc in zip(unrectified",
            "(rect / bc) * -1\n                for rect, bc in zip(unrectified",
        ),
        ("foreach", "torch._foreach_mul_(unrect_step_size, lr)", "pass"),
    ],
    pytorch_optimizer=[("rectify", "rt = 1.0\n", "rt = 1.0 / lr\n")],
    timm=[("step", "step_size = group['lr'] / (1 - beta1", "step_size = 1.0 / (1 - beta1")],
)


# --- bias corrections ------------------------------------------------------------------------------------------------

_POW1 = """bias_correction1 = torch._foreach_pow(beta1, grouped_state_steps)
            torch._foreach_neg_(bias_correction1)
            torch._foreach_add_(bias_correction1, 1)"""
_ONES = "bias_correction1 = [torch.ones_like(step) for step in grouped_state_steps]"
_O_MU = "bias_correction(mu, b1, count_inc)"
_O_NESTEROV = """optax.tree.bias_correction(mu, b1,
                                     numerics.safe_increment(count_inc))"""
_O_GRADIENT = "optax.tree.bias_correction(updates, b1, count_inc)"

mistake(
    "bias1_missing",
    "bias correction",
    "m is not corrected.",
    torch=[
        ("loop", "exp_avg / bias_correction1", "exp_avg / 1.0"),
        ("foreach", "1 - beta1 ** _get_value(step) for step", "1.0 for step"),
        ("foreach", _POW1, _ONES),
    ],
    pytorch_optimizer=[("step", "bias_correction1=bias_correction1,", "bias_correction1=1.0,")],
    timm=[
        ("step", "(num_sma_max - 2)) / (1 - beta1 ** state['step'])", "(num_sma_max - 2))"),
        ("step", "group['lr'] / (1 - beta1 ** state['step'])", "group['lr']"),
    ],
    optax=[
        ("scale", f"optax.tree.{_O_MU}", "mu"),
        ("scale", _O_NESTEROV, "mu"),
        ("scale", _O_GRADIENT, "updates"),
    ],
)
mistake(
    "bias2_missing",
    "bias correction",
    "v is not corrected.",
    torch=[
        ("loop", "(bias_correction2**0.5) / exp", "1.0 / exp"),
        ("foreach", "((1 - beta2 ** _get_value(step)) ** 0.5) * (lr", "1.0 * (lr"),
        ("foreach", "torch._foreach_sqrt_(bias_correction2)", "torch._foreach_pow_(bias_correction2, 0.0)"),
    ],
    pytorch_optimizer=[("rectify", "(1.0 - beta2_t) * (n_sma", "(n_sma")],
    timm=[("step", "(1 - beta2_t) *\n                        (num", "(num")],
    optax=[("scale", "optax.tree.bias_correction(nu, b2, count_inc)", "nu")],
)
mistake(
    "bias2_without_root",
    "bias correction",
    "The correction of v stands in the step without its square root.",
    torch=[
        ("loop", "(bias_correction2**0.5) / exp", "bias_correction2 / exp"),
        ("foreach", "((1 - beta2 ** _get_value(step)) ** 0.5) * (lr", "(1 - beta2 ** _get_value(step)) * (lr"),
        ("foreach", "torch._foreach_sqrt_(bias_correction2)", "pass"),
    ],
    pytorch_optimizer=[("rectify", "(1.0 - beta2_t) * (n_sma", "(1.0 - beta2_t) ** 2 * (n_sma")],
    timm=[("step", "(1 - beta2_t) *\n                        (num", "(1 - beta2_t) ** 2 * (num")],
    optax=[
        (
            "scale",
            "optax.tree.bias_correction(nu, b2, count_inc)",
            "jax.tree.map(lambda v: v / (1 - b2t) ** 2, nu)",
        )
    ],
)
mistake(
    "bias1_missing_in_momentum_steps",
    "bias correction",
    "m is not corrected below the threshold.",
    torch=[
        ("loop", "bias_corrected_exp_avg * lr, alpha", "exp_avg * lr, alpha"),
        ("loop", "_compute_adaptive_lr(), 1.0\n", "_compute_adaptive_lr(), bias_correction1\n"),
        (
            "foreach",
            "(lr * rect / bc) * -1\n                for rect, bc in zip(unrectified",
            "(lr * rect) * -1\n                for rect, bc in zip(unrectified",
        ),
        ("foreach", "torch._foreach_div_(unrect_step_size, bias_correction1)", "pass"),
    ],
    pytorch_optimizer=[
        (
            "step",
            "bias_correction1=bias_correction1,",
            "bias_correction1=bias_correction1 if n_sma >= self.n_sma_threshold else 1.0,",
        )
    ],
    timm=[("step", "group['lr'] / (1 - beta1 ** state['step'])", "group['lr']")],
    optax=[
        (
            "scale",
            "nu_hat),\n        mu_hat,",
            "nu_hat),\n        jax.tree.map(lambda m: m * (1 - b1**count_inc), mu_hat),",
        )
    ],
)
mistake(
    "bias1_missing_in_adaptive_steps",
    "bias correction",
    "m is not corrected in adaptive steps.",
    torch=[
        ("loop", "bias_corrected_exp_avg\n                    * lr", "exp_avg\n                    * lr"),
        ("loop", "rho_t > 5.0, _compute_rect()", "rho_t > 5.0, bias_correction1 * _compute_rect()"),
        (
            "foreach",
            "((1 - beta2 ** _get_value(step)) ** 0.5) * (lr * rect / bc)",
            "((1 - beta2 ** _get_value(step)) ** 0.5) * (lr * rect)",
        ),
        (
            "foreach",
            "torch._foreach_div_(bias_correction2, bias_correction1)\n            del",
            "del",
        ),
    ],
    pytorch_optimizer=[
        (
            "step",
            "bias_correction1=bias_correction1,",
            "bias_correction1=1.0 if n_sma >= self.n_sma_threshold else bias_correction1,",
        )
    ],
    timm=[("step", "(num_sma_max - 2)) / (1 - beta1 ** state['step'])", "(num_sma_max - 2))")],
    optax=[
        (
            "scale",
            "_radam_update(ro, mu_hat, nu_hat),",
            "_radam_update(ro, jax.tree.map(lambda m: m * (1 - b1**count_inc), mu_hat), nu_hat),",
        )
    ],
)
mistake(
    "bias1_of_the_next_step",
    "bias correction",
    "m is corrected by 1 - b1^(t+1).",
    torch=[
        ("loop", "1 - beta1**step", "1 - beta1 ** (step + 1)"),
        ("foreach", "1 - beta1 ** _get_value(step) for step", "1 - beta1 ** (_get_value(step) + 1) for step"),
        (
            "foreach",
            "torch._foreach_pow(beta1, grouped_state_steps)",
            "torch._foreach_pow(beta1, torch._foreach_add(grouped_state_steps, 1))",
        ),
    ],
    pytorch_optimizer=[("step", "self.debias(beta1, group['step'])", "self.debias(beta1, group['step'] + 1)")],
    timm=[
        (
            "step",
            "(num_sma_max - 2)) / (1 - beta1 ** state['step'])",
            "(num_sma_max - 2)) / (1 - beta1 ** (state['step'] + 1))",
        ),
        ("step", "group['lr'] / (1 - beta1 ** state['step'])", "group['lr'] / (1 - beta1 ** (state['step'] + 1))"),
    ],
    optax=[
        ("scale", _O_MU, "bias_correction(mu, b1, count_inc + 1)"),
        ("scale", _O_NESTEROV, "optax.tree.bias_correction(mu, b1, count_inc + 2)"),
        ("scale", _O_GRADIENT, "optax.tree.bias_correction(updates, b1, count_inc + 1)"),
    ],
)
mistake(
    "bias1_of_beta2",
    "bias correction",
    "m is corrected by 1 - b2^t.",
    torch=[
        ("loop", "1 - beta1**step", "1 - beta2**step"),
        ("foreach", "1 - beta1 ** _get_value(step) for step", "1 - beta2 ** _get_value(step) for step"),
        ("foreach", "torch._foreach_pow(beta1, grouped", "torch._foreach_pow(beta2, grouped"),
    ],
    pytorch_optimizer=[("step", "self.debias(beta1,", "self.debias(beta2,")],
    timm=[
        ("step", "(num_sma_max - 2)) / (1 - beta1 **", "(num_sma_max - 2)) / (1 - beta2 **"),
        ("step", "group['lr'] / (1 - beta1 **", "group['lr'] / (1 - beta2 **"),
    ],
    optax=[
        ("scale", _O_MU, "bias_correction(mu, b2, count_inc)"),
        ("scale", _O_NESTEROV, _O_NESTEROV.replace("b1", "b2")),
        ("scale", _O_GRADIENT, _O_GRADIENT.replace("b1", "b2")),
    ],
)


# --- moments ---------------------------------------------------------------------------------------------------------

_T_V = "exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)"
_K_V = "exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1.0 - beta2)"
_K_VS = "torch._foreach_addcmul_(exp_avg_sqs, grads, grads, value=1.0 - beta2)"
_VS = "grouped_exp_avg_sqs, grouped_grads, grouped_grads, 1 - beta2"
_MS = "torch._foreach_lerp_(grouped_exp_avgs, grouped_grads, 1 - beta1)"
_K_M = "exp_avg.lerp_(s_grad, weight=1.0 - beta1)"
_K_MS = "torch._foreach_lerp_(exp_avgs, grads, weight=1.0 - beta1)"
_T_M = "exp_avg.mul_(beta1).add_(grad, alpha=1 - beta1)"
_O_M = "optax.tree.update_moment(updates, state.mu, b1, 1)"
_O_V = "optax.tree.update_moment_per_elem_norm(updates, state.nu, b2, 2)"
_O_NU_HAT = "nu_hat = optax.tree.bias_correction(nu, b2, count_inc)"

mistake(
    "betas_swapped",
    "moments",
    "b1 and b2 change places.",
    torch=[("step", 'beta1, beta2 = cast(tuple[float, float], group["betas"])', 'beta2, beta1 = group["betas"]')],
    pytorch_optimizer=[
        (place, "beta1, beta2 = group['betas']", "beta2, beta1 = group['betas']")
        for place in ("step", "foreach", "loop")
    ],
    timm=[("step", "beta1, beta2 = group['betas']", "beta2, beta1 = group['betas']")],
    optax=[("alias", "b1=b1,\n          b2=b2,", "b1=b2,\n          b2=b1,")],
)
mistake(
    "beta2_for_m",
    "moments",
    "m decays with b2.",
    torch=[
        ("loop", "exp_avg.lerp_(grad, 1 - beta1)", "exp_avg.lerp_(grad, 1 - beta2)"),
        ("foreach", _MS, _MS.replace("beta1", "beta2")),
    ],
    pytorch_optimizer=[
        ("loop", _K_M, _K_M.replace("beta1", "beta2")),
        ("foreach", _K_MS, _K_MS.replace("beta1", "beta2")),
    ],
    timm=[("step", _T_M, _T_M.replace("beta1", "beta2"))],
    optax=[("scale", _O_M, _O_M.replace("b1", "b2"))],
)
mistake(
    "beta1_for_v",
    "moments",
    "v decays with b1.",
    torch=[
        ("loop", _T_V, _T_V.replace("beta2", "beta1")),
        (
            "foreach",
            "torch._foreach_mul_(grouped_exp_avg_sqs, beta2)",
            "torch._foreach_mul_(grouped_exp_avg_sqs, beta1)",
        ),
        ("foreach", _VS, _VS.replace("beta2", "beta1")),
    ],
    pytorch_optimizer=[
        ("loop", _K_V, _K_V.replace("beta2", "beta1")),
        ("foreach", "torch._foreach_mul_(exp_avg_sqs, beta2)", "torch._foreach_mul_(exp_avg_sqs, beta1)"),
        ("foreach", _K_VS, _K_VS.replace("beta2", "beta1")),
    ],
    timm=[("step", _T_V, _T_V.replace("beta2", "beta1"))],
    optax=[("scale", _O_V, _O_V.replace("b2", "b1"))],
)
mistake(
    "v_of_the_absolute",
    "moments",
    "v averages |g|, not its square.",
    torch=[
        ("loop", "addcmul_(grad, grad,", "addcmul_(grad, grad.sign(),"),
        ("foreach", _VS, "grouped_exp_avg_sqs, grouped_grads, torch._foreach_sign(grouped_grads), 1 - beta2"),
    ],
    pytorch_optimizer=[
        ("loop", "addcmul_(grad, grad,", "addcmul_(grad, grad.sign(),"),
        ("foreach", "exp_avg_sqs, grads, grads,", "exp_avg_sqs, grads, torch._foreach_sign(grads),"),
    ],
    timm=[("step", "addcmul_(grad, grad,", "addcmul_(grad, grad.sign(),")],
    optax=[("scale", _O_V, _O_V.replace("b2, 2)", "b2, 1)"))],
)
mistake(
    "m_without_weight",
    "moments",
    "The gradient enters m without 1 - b1.",
    torch=[
        ("loop", "exp_avg.lerp_(grad, 1 - beta1)", "exp_avg.mul_(beta1).add_(grad)"),
        (
            "foreach",
            _MS,
            "torch._foreach_mul_(grouped_exp_avgs, beta1)\n"
            "        torch._foreach_add_(grouped_exp_avgs, grouped_grads)",
        ),
    ],
    pytorch_optimizer=[
        ("loop", _K_M, "exp_avg.mul_(beta1).add_(s_grad)"),
        ("foreach", _K_MS, "torch._foreach_mul_(exp_avgs, beta1)\n        torch._foreach_add_(exp_avgs, grads)"),
    ],
    timm=[("step", _T_M, "exp_avg.mul_(beta1).add_(grad)")],
    optax=[("scale", _O_M, "jax.tree.map(lambda g, m: b1 * m + g, updates, state.mu)")],
)
mistake(
    "v_without_weight",
    "moments",
    "The square enters v without 1 - b2.",
    torch=[
        ("loop", "addcmul_(grad, grad, value=1 - beta2)", "addcmul_(grad, grad)"),
        ("foreach", _VS, "grouped_exp_avg_sqs, grouped_grads, grouped_grads, 1.0"),
    ],
    pytorch_optimizer=[
        ("loop", "addcmul_(grad, grad, value=1.0 - beta2)", "addcmul_(grad, grad)"),
        ("foreach", "exp_avg_sqs, grads, grads, value=1.0 - beta2", "exp_avg_sqs, grads, grads, value=1.0"),
    ],
    timm=[("step", "addcmul_(grad, grad, value=1 - beta2)", "addcmul_(grad, grad)")],
    optax=[("scale", _O_V, "jax.tree.map(lambda g, v: b2 * v + numerics.abs_sq(g), updates, state.nu)")],
)
mistake(
    "v_does_not_decay",
    "moments",
    "v grows by (1 - b2) g^2 and never decays.",
    torch=[
        ("loop", "exp_avg_sq.mul_(beta2)", "exp_avg_sq"),
        ("foreach", "torch._foreach_mul_(grouped_exp_avg_sqs, beta2)", "pass"),
    ],
    pytorch_optimizer=[
        ("loop", "exp_avg_sq.mul_(beta2)", "exp_avg_sq"),
        ("foreach", "torch._foreach_mul_(exp_avg_sqs, beta2)", "pass"),
    ],
    timm=[("step", "exp_avg_sq.mul_(beta2)", "exp_avg_sq")],
    optax=[("scale", _O_V, "jax.tree.map(lambda g, v: v + (1 - b2) * numerics.abs_sq(g), updates, state.nu)")],
)
mistake(
    "v_never_falls",
    "moments",
    "v is the larger of its old and its new value, as in AMSGrad.",
    torch=[
        (
            "loop",
            _T_V,
            f"before = exp_avg_sq.clone()\n        {_T_V}\n"
            "        exp_avg_sq.copy_(torch.maximum(exp_avg_sq.clone(), before))",
        ),
        (
            "foreach",
            "torch._foreach_mul_(grouped_exp_avg_sqs, beta2)",
            "before = torch._foreach_mul(grouped_exp_avg_sqs, 1.0)\n"
            "        torch._foreach_mul_(grouped_exp_avg_sqs, beta2)",
        ),
        ("foreach", "del grouped_grads", "torch._foreach_maximum_(grouped_exp_avg_sqs, before)"),
    ],
    pytorch_optimizer=[
        (
            "loop",
            _K_V,
            f"before = exp_avg_sq.clone()\n            {_K_V}\n"
            "            exp_avg_sq.copy_(torch.maximum(exp_avg_sq, before))",
        ),
        (
            "foreach",
            "torch._foreach_mul_(exp_avg_sqs, beta2)",
            "before = torch._foreach_mul(exp_avg_sqs, 1.0)\n        torch._foreach_mul_(exp_avg_sqs, beta2)",
        ),
        ("foreach", _K_VS, f"{_K_VS}\n        torch._foreach_maximum_(exp_avg_sqs, before)"),
    ],
    timm=[
        (
            "step",
            _T_V,
            f"before = exp_avg_sq.clone()\n                {_T_V}\n"
            "                exp_avg_sq.copy_(torch.maximum(exp_avg_sq, before))",
        )
    ],
    optax=[("scale", f"nu = {_O_V}", f"nu = jax.tree.map(jnp.maximum, {_O_V}, state.nu)")],
)
mistake(
    "sign_of_m",
    "moments",
    "The step is made of the sign of m.",
    torch=[
        ("loop", "exp_avg / bias_correction1", "exp_avg.sign() / bias_correction1"),
        (
            "foreach",
            "torch._foreach_addcmul_(grouped_params, grouped_exp_avgs, buffer)",
            "torch._foreach_addcmul_(grouped_params, torch._foreach_sign(grouped_exp_avgs), buffer)",
        ),
    ],
    pytorch_optimizer=[
        ("loop", "p.addcdiv_(exp_avg,", "p.addcdiv_(exp_avg.sign(),"),
        ("loop", "p.add_(exp_avg,", "p.add_(exp_avg.sign(),"),
        ("foreach", "foreach_addcdiv_(params, exp_avgs,", "foreach_addcdiv_(params, torch._foreach_sign(exp_avgs),"),
        ("foreach", "foreach_add_(params, exp_avgs,", "foreach_add_(params, torch._foreach_sign(exp_avgs),"),
    ],
    timm=[
        ("step", "p_fp32.addcdiv_(exp_avg,", "p_fp32.addcdiv_(exp_avg.sign(),"),
        ("step", "p_fp32.add_(exp_avg,", "p_fp32.add_(exp_avg.sign(),"),
    ],
    optax=[
        (
            "scale",
            _O_NU_HAT,
            f"mu_hat = jax.tree.map(lambda m: jnp.sign(m) / (1 - b1**count_inc), mu)\n    {_O_NU_HAT}",
        )
    ],
)
mistake(
    "gradient_for_m",
    "moments",
    "The step is made of the gradient, not of m.",
    torch=[
        ("loop", "exp_avg / bias_correction1", "grad / bias_correction1"),
        ("foreach", "del grouped_grads", "pass"),
        (
            "foreach",
            "torch._foreach_addcmul_(grouped_params, grouped_exp_avgs, buffer)",
            "torch._foreach_addcmul_(grouped_params, grouped_grads, buffer)",
        ),
    ],
    pytorch_optimizer=[
        ("loop", "p.addcdiv_(exp_avg,", "p.addcdiv_(s_grad,"),
        ("loop", "p.add_(exp_avg,", "p.add_(s_grad,"),
        ("foreach", "foreach_addcdiv_(params, exp_avgs,", "foreach_addcdiv_(params, grads,"),
        ("foreach", "foreach_add_(params, exp_avgs,", "foreach_add_(params, grads,"),
    ],
    timm=[
        ("step", "p_fp32.addcdiv_(exp_avg,", "p_fp32.addcdiv_(grad,"),
        ("step", "p_fp32.add_(exp_avg,", "p_fp32.add_(grad,"),
    ],
    optax=[("scale", _O_NU_HAT, f"mu_hat = jax.tree.map(lambda g: g / (1 - b1**count_inc), updates)\n    {_O_NU_HAT}")],
)
mistake(
    "nesterov_uninvited",
    "moments",
    "The step looks ahead: it is made of b1 m + (1 - b1) g.",
    torch=[
        ("loop", "exp_avg / bias_correction1", "exp_avg.lerp(grad, 1 - beta1) / bias_correction1"),
        ("foreach", "del grouped_grads", "ahead = torch._foreach_lerp(grouped_exp_avgs, grouped_grads, 1 - beta1)"),
        (
            "foreach",
            "torch._foreach_addcmul_(grouped_params, grouped_exp_avgs, buffer)",
            "torch._foreach_addcmul_(grouped_params, ahead, buffer)",
        ),
    ],
    pytorch_optimizer=[
        ("loop", "p.addcdiv_(exp_avg,", "p.addcdiv_(exp_avg.lerp(s_grad, 1 - beta1),"),
        ("loop", "p.add_(exp_avg,", "p.add_(exp_avg.lerp(s_grad, 1 - beta1),"),
        (
            "foreach",
            "foreach_addcdiv_(params, exp_avgs,",
            "foreach_addcdiv_(params, torch._foreach_lerp(exp_avgs, grads, 1 - beta1),",
        ),
        (
            "foreach",
            "foreach_add_(params, exp_avgs,",
            "foreach_add_(params, torch._foreach_lerp(exp_avgs, grads, 1 - beta1),",
        ),
    ],
    timm=[
        ("step", "p_fp32.addcdiv_(exp_avg,", "p_fp32.addcdiv_(exp_avg.lerp(grad, 1 - beta1),"),
        ("step", "p_fp32.add_(exp_avg,", "p_fp32.add_(exp_avg.lerp(grad, 1 - beta1),"),
    ],
    optax=[("scale", "if nesterov:", "if True:")],
)
mistake(
    "nesterov_ignored",
    "moments",
    "The option `nesterov` has no effect.",
    optax=[("alias", "nesterov=nesterov,", "nesterov=False,")],
)


# --- eps -------------------------------------------------------------------------------------------------------------

_K_ROOTS = "de_noms = torch._foreach_sqrt(exp_avg_sqs)\n            torch._foreach_add_(de_noms, group['eps'])"
_ROOTS = "buffer = torch._foreach_sqrt(grouped_exp_avg_sqs)\n        torch._foreach_add_(buffer, eps)"
_K_ROOT = "exp_avg_sq.sqrt().add_(group['eps'])"
_O_ROOT = "jnp.sqrt(v + eps_root) + eps"


def _eps_is(torch: str, other: str, optax: str) -> dict[str, Edits]:
    """Something else for eps, where it is added."""
    return {
        "torch": [
            ("loop", ".add(eps)", f".add({torch})"),
            ("loop", ".add_(eps)", f".add_({torch})"),
            ("foreach", "torch._foreach_add_(buffer, eps)", f"torch._foreach_add_(buffer, {torch})"),
        ],
        "pytorch_optimizer": [
            ("loop", _K_ROOT, f"exp_avg_sq.sqrt().add_({other})"),
            ("foreach", "torch._foreach_add_(de_noms, group['eps'])", f"torch._foreach_add_(de_noms, {other})"),
        ],
        "timm": [("step", _K_ROOT, f"exp_avg_sq.sqrt().add_({other})")],
        "optax": [("scale", _O_ROOT, f"jnp.sqrt(v + eps_root) + {optax}")],
    }


mistake("eps_ignored", "eps", "eps is not added.", **_eps_is("0.0", "0.0", "0.0"))
mistake("eps_tiny", "eps", "eps is squared.", **_eps_is("eps * eps", "group['eps'] ** 2", "eps * eps"))
mistake("eps_hundredfold", "eps", "eps is taken 100 times.", **_eps_is("eps * 100", "group['eps'] * 100", "eps * 100"))
mistake(
    "eps_inside_the_root",
    "eps",
    "sqrt(v + eps) stands for sqrt(v) + eps.",
    torch=[
        ("loop", "exp_avg_sq_sqrt = exp_avg_sq.sqrt()", "exp_avg_sq_sqrt = (exp_avg_sq + eps).sqrt()"),
        ("loop", ".add(eps)", ".add(0.0)"),
        ("loop", ".add_(eps)", ".add_(0.0)"),
        ("foreach", _ROOTS, "buffer = torch._foreach_sqrt(torch._foreach_add(grouped_exp_avg_sqs, eps))"),
    ],
    pytorch_optimizer=[
        ("loop", _K_ROOT, "exp_avg_sq.add(group['eps']).sqrt_()"),
        ("foreach", _K_ROOTS, "de_noms = torch._foreach_sqrt(torch._foreach_add(exp_avg_sqs, group['eps']))"),
    ],
    timm=[("step", _K_ROOT, "exp_avg_sq.add(group['eps']).sqrt_()")],
    optax=[("scale", _O_ROOT, "jnp.sqrt(v + eps_root + eps)")],
)
mistake(
    "eps_on_the_other_side",
    "eps",
    "eps is added after the bias correction of sqrt(v) where it should be before, or the reverse.",
    torch=[
        ("loop", ".add(eps)", ".add(eps * bias_correction2**0.5)"),
        ("loop", ".add_(eps)", ".add_(eps * bias_correction2**0.5)"),
        (
            "foreach",
            "torch._foreach_add_(buffer, eps)",
            "torch._foreach_add_(buffer, [eps * (1 - beta2 ** _get_value(t)) ** 0.5 for t in grouped_state_steps])",
        ),
    ],
    pytorch_optimizer=[
        ("loop", _K_ROOT, "exp_avg_sq.sqrt().add_(group['eps'] * (1.0 - beta2 ** group['step']) ** 0.5)"),
        (
            "foreach",
            "torch._foreach_add_(de_noms, group['eps'])",
            "torch._foreach_add_(de_noms, group['eps'] * (1.0 - beta2 ** group['step']) ** 0.5)",
        ),
    ],
    timm=[("step", _K_ROOT, "exp_avg_sq.sqrt().add_(group['eps'] * (1.0 - beta2_t) ** 0.5)")],
    optax=[
        ("scale", "def _radam_update(ro, mu_hat, nu_hat):", "def _radam_update(ro, mu_hat, nu_hat, eps):"),
        (
            "scale",
            "_radam_update(ro, mu_hat, nu_hat),",
            "_radam_update(ro, mu_hat, nu_hat, eps / jnp.sqrt(1 - b2t)),",
        ),
    ],
)
mistake(
    "eps_root_ignored",
    "eps",
    "The option `eps_root` has no effect.",
    optax=[("alias", "eps_root=eps_root,", "eps_root=0.0,")],
)


# --- weight decay ----------------------------------------------------------------------------------------------------

_DECAYS = "torch._foreach_mul_(grouped_params, 1 - lr * weight_decay)"
_K_FIXED = "fixed_decay=group['fixed_decay']"
_T_DECAY = "p_fp32.add_(p_fp32, alpha=-group['weight_decay'] * group['lr'])"


def _coupled(amount: str) -> Edits:
    """Another amount of the parameter that is added to the gradient, in torch."""
    return [
        ("loop", "grad.add(param, alpha=weight_decay)", f"grad.add(param, alpha={amount})"),
        (
            "foreach",
            "torch._foreach_add_(\n                        grouped_grads, grouped_params, alpha=weight_decay",
            f"torch._foreach_add_(\n                        grouped_grads, grouped_params, alpha={amount}",
        ),
        (
            "foreach",
            "torch._foreach_add(  # type: ignore[assignment]\n"
            "                        grouped_grads, grouped_params, alpha=weight_decay",
            f"torch._foreach_add(\n                        grouped_grads, grouped_params, alpha={amount}",
        ),
    ]


mistake("coupled_decay_ignored", "weight decay", "Coupled decay has no effect.", torch=_coupled("0.0"))
mistake("coupled_decay_grows", "weight decay", "Coupled decay has the wrong sign.", torch=_coupled("-weight_decay"))
mistake(
    "coupled_decay_times_lr", "weight decay", "Coupled decay is multiplied by lr.", torch=_coupled("lr * weight_decay")
)
mistake(
    "coupled_decay_maximized",
    "weight decay",
    "With `maximize` the decay is negated along with the gradient.",
    torch=_coupled("-weight_decay if maximize else weight_decay"),
)
mistake(
    "coupled_decay_missing_in_v",
    "weight decay",
    "Coupled decay enters m and not v.",
    torch=[
        ("loop", "if weight_decay != 0:", "plain = grad\n        if weight_decay != 0:"),
        ("loop", "addcmul_(grad, grad,", "addcmul_(plain, plain,"),
        (
            "foreach",
            "if weight_decay != 0:",
            "plain = torch._foreach_mul(grouped_grads, 1.0)\n        if weight_decay != 0:",
        ),
        ("foreach", _VS, "grouped_exp_avg_sqs, plain, plain, 1 - beta2"),
    ],
)
mistake(
    "coupled_decay_decoupled",
    "weight decay",
    "Decay is decoupled, though coupled was asked for.",
    torch=[
        ("step", 'decoupled_weight_decay=group["decoupled_weight_decay"],', "decoupled_weight_decay=True,"),
    ],
    pytorch_optimizer=[
        ("foreach", "if group['weight_decouple'] and", "if"),
        ("loop", "weight_decouple=group['weight_decouple']", "weight_decouple=True"),
    ],
)
mistake(
    "decoupled_decay_coupled",
    "weight decay",
    "Decay is added to the gradient, though decoupled was asked for.",
    torch=[
        ("step", 'decoupled_weight_decay=group["decoupled_weight_decay"],', "decoupled_weight_decay=False,"),
    ],
    pytorch_optimizer=[
        ("foreach", "weight_decouple=True", "weight_decouple=False"),
        ("loop", "grad=None", "grad=grad"),
        ("loop", "weight_decouple=group['weight_decouple']", "weight_decouple=False"),
    ],
    timm=[
        ("step", _T_DECAY, "pass"),
        ("step", "grad = p.grad.float()", "grad = p.grad.float() + group['weight_decay'] * p.float()"),
    ],
)
mistake(
    "decoupled_decay_ignored",
    "weight decay",
    "Decoupled decay has no effect.",
    torch=[("loop", "param.mul_(1 - lr * weight_decay)", "pass"), ("foreach", _DECAYS, "pass")],
    pytorch_optimizer=[
        (place, "weight_decay=group['weight_decay']", "weight_decay=0.0") for place in ("foreach", "loop")
    ],
    timm=[("step", _T_DECAY, "pass")],
)
mistake(
    "decoupled_decay_grows",
    "weight decay",
    "Decoupled decay has the wrong sign.",
    torch=[
        ("loop", "1 - lr * weight_decay", "1 + lr * weight_decay"),
        ("foreach", "1 - lr * weight_decay", "1 + lr * weight_decay"),
    ],
    pytorch_optimizer=[
        (place, "weight_decay=group['weight_decay']", "weight_decay=-group['weight_decay']")
        for place in ("foreach", "loop")
    ],
    timm=[("step", "alpha=-group['weight_decay']", "alpha=group['weight_decay']")],
)
mistake(
    "decoupled_decay_without_lr",
    "weight decay",
    "Decoupled decay is not multiplied by lr.",
    torch=[
        ("loop", "1 - lr * weight_decay", "1 - weight_decay"),
        ("foreach", "1 - lr * weight_decay", "1 - weight_decay"),
    ],
    pytorch_optimizer=[(place, _K_FIXED, "fixed_decay=True") for place in ("foreach", "loop")],
    timm=[("step", "alpha=-group['weight_decay'] * group['lr']", "alpha=-group['weight_decay']")],
)
mistake(
    "decoupled_decay_after_the_step",
    "weight decay",
    "Decoupled decay shrinks the parameter after the step, not before.",
    torch=[
        ("loop", "param.mul_(1 - lr * weight_decay)", "pass"),
        (
            "loop",
            "param.add_(bias_corrected_exp_avg * lr, alpha=-1.0)",
            "param.add_(bias_corrected_exp_avg * lr, alpha=-1.0)\n"
            "        if weight_decay != 0 and decoupled_weight_decay:\n"
            "            param.mul_(1 - lr * weight_decay)",
        ),
        ("foreach", _DECAYS, "pass"),
        (
            "foreach",
            "torch._foreach_addcmul_(grouped_params, grouped_exp_avgs, buffer)",
            "torch._foreach_addcmul_(grouped_params, grouped_exp_avgs, buffer)\n"
            "        if weight_decay != 0 and decoupled_weight_decay:\n"
            f"            {_DECAYS}",
        ),
    ],
    timm=[
        ("step", _T_DECAY, "pass"),
        ("step", "p.copy_(p_fp32)", f"{_T_DECAY}\n                p.copy_(p_fp32)"),
    ],
)
mistake(
    "fixed_decay_ignored",
    "weight decay",
    "Decay is multiplied by lr, though fixed was asked for.",
    pytorch_optimizer=[(place, _K_FIXED, "fixed_decay=False") for place in ("foreach", "loop")],
)
mistake(
    "decay_while_waiting",
    "weight decay",
    "Decay is applied at steps at which the parameter should wait.",
    pytorch_optimizer=[
        ("foreach", "if group['weight_decouple'] and apply_update:", "if group['weight_decouple']:"),
        ("loop", "if step_size > 0 or n_sma >= self.n_sma_threshold:", "if True:"),
    ],
)


# --- lr, sign, groups ------------------------------------------------------------------------------------------------

mistake(
    "lr_halved",
    "lr",
    "Half of lr is used.",
    torch=[("step", 'lr=group["lr"],', 'lr=group["lr"] / 2,')],
    pytorch_optimizer=[(place, "lr=group['lr'],", "lr=group['lr'] / 2,") for place in ("step", "foreach", "loop")],
    timm=[
        ("step", "group['lr'] * math.sqrt", "group['lr'] / 2 * math.sqrt"),
        ("step", "group['lr'] / (1 - beta1", "group['lr'] / 2 / (1 - beta1"),
        ("step", "group['weight_decay'] * group['lr']", "group['weight_decay'] * group['lr'] / 2"),
    ],
    optax=[
        (
            "alias",
            "transform.scale_by_learning_rate(learning_rate)",
            "transform.scale(0.5),\n      transform.scale_by_learning_rate(learning_rate)",
        )
    ],
)
mistake(
    "goes_up",
    "lr",
    "The step has the wrong sign.",
    torch=[
        ("loop", "exp_avg / bias_correction1", "-exp_avg / bias_correction1"),
        (
            "foreach",
            "torch._foreach_addcmul_(grouped_params, grouped_exp_avgs, buffer)",
            "torch._foreach_addcmul_(grouped_params, grouped_exp_avgs, buffer, -1)",
        ),
    ],
    pytorch_optimizer=[
        ("loop", "de_nom, value=-step_size", "de_nom, value=step_size"),
        ("loop", "alpha=-step_size", "alpha=step_size"),
        ("foreach", "de_noms, value=-step_size", "de_noms, value=step_size"),
        ("foreach", "alpha=-step_size", "alpha=step_size"),
    ],
    timm=[
        ("step", "denom, value=-step_size", "denom, value=step_size"),
        ("step", "exp_avg, alpha=-step_size", "exp_avg, alpha=step_size"),
    ],
    optax=[
        (
            "alias",
            "transform.scale_by_learning_rate(learning_rate)",
            "transform.scale(-1.0),\n      transform.scale_by_learning_rate(learning_rate)",
        )
    ],
)


def _from_defaults(option: str, pytorch_optimizer: Sequence[tuple[str, str]], timm: Sequence[str]) -> dict[str, Edits]:
    """An option that is read from the constructor's arguments, not from the group."""

    def elsewhere(text: str) -> str:
        return text.replace(f"group['{option}']", f"self.defaults['{option}']")

    return {
        "torch": [("step", f'group["{option}"]', f'self.defaults["{option}"]')],
        "pytorch_optimizer": [(place, text, elsewhere(text)) for place, text in pytorch_optimizer],
        "timm": [("step", text, elsewhere(text)) for text in timm],
    }


mistake(
    "group_lr_ignored",
    "group options",
    "A group's own lr has no effect, nor has a scheduler.",
    **_from_defaults(
        "lr",
        [(place, "lr=group['lr']") for place in ("step", "foreach", "loop")],
        ["group['lr'] * math.sqrt", "group['lr'] / (1 - beta1", "group['weight_decay'] * group['lr']"],
    ),
)
mistake(
    "group_betas_ignored",
    "group options",
    "A group's own betas have no effect.",
    **_from_defaults("betas", [(place, "group['betas']") for place in ("step", "foreach", "loop")], ["group['betas']"]),
)
mistake(
    "group_eps_ignored",
    "group options",
    "A group's own eps has no effect.",
    **_from_defaults("eps", [(place, "group['eps']") for place in ("foreach", "loop")], ["group['eps']"]),
)
mistake(
    "group_decay_ignored",
    "group options",
    "A group's own weight decay has no effect.",
    torch=[("step", 'weight_decay=group["weight_decay"],', 'weight_decay=self.defaults["weight_decay"],')],
    pytorch_optimizer=[
        (place, "weight_decay=group['weight_decay']", "weight_decay=self.defaults['weight_decay']")
        for place in ("foreach", "loop")
    ],
    timm=[
        ("step", "if group['weight_decay'] != 0:", "if self.defaults['weight_decay'] != 0:"),
        ("step", "alpha=-group['weight_decay']", "alpha=-self.defaults['weight_decay']"),
    ],
)
mistake(
    "last_parameter_forgotten",
    "group options",
    "The last parameter of all takes no step.",
    torch=[
        (
            "init",
            'for p in group["params"]:',
            'last = self.param_groups[-1]["params"][-1]\n'
            '        for p in [p for p in group["params"] if p is not last]:',
        )
    ],
    pytorch_optimizer=[
        (
            "loop",
            "if p.grad is None:",
            "if p.grad is None or p is self.param_groups[-1]['params'][-1]:",
        ),
        (
            "foreach",
            "beta1, beta2 = group['betas']",
            "beta1, beta2 = group['betas']\n"
            "        last = self.param_groups[-1]['params'][-1]\n"
            "        kept = [i for i, p in enumerate(params) if p is not last]\n"
            "        if not kept:\n"
            "            return\n"
            "        params, grads = [params[i] for i in kept], [grads[i] for i in kept]\n"
            "        exp_avgs, exp_avg_sqs = [exp_avgs[i] for i in kept], [exp_avg_sqs[i] for i in kept]",
        ),
    ],
    timm=[("step", "if p.grad is None:", "if p.grad is None or p is self.param_groups[-1]['params'][-1]:")],
)


# --- step count ------------------------------------------------------------------------------------------------------

mistake(
    "step_counted_twice",
    "step count",
    "Each step is counted twice.",
    torch=[
        ("loop", "step_t += 1", "step_t += 2"),
        ("foreach", 'torch.tensor(1.0, device="cpu"), alpha=1.0', 'torch.tensor(2.0, device="cpu"), alpha=1.0'),
        ("foreach", "torch._foreach_add_(grouped_state_steps, 1)", "torch._foreach_add_(grouped_state_steps, 2)"),
    ],
    pytorch_optimizer=[("step", "group['step'] += 1", "group['step'] += 2")],
    timm=[("step", "state['step'] += 1", "state['step'] += 2")],
    optax=[("scale", "numerics.safe_increment(state.count)", "state.count + 2")],
)
mistake(
    "step_stays_at_1",
    "step count",
    "Every step is taken for the first.",
    torch=[
        ("loop", "step_t += 1", "step_t.fill_(1)"),
        (
            "foreach",
            "if has_complex:",
            "for t in grouped_state_steps:\n            t.fill_(1)\n        if has_complex:",
        ),
    ],
    pytorch_optimizer=[("step", "group['step'] += 1", "group['step'] = 1")],
    timm=[("step", "state['step'] += 1", "state['step'] = 1")],
    optax=[("scale", "count=count_inc", "count=state.count")],
)
mistake(
    "step_starts_at_2",
    "step count",
    "The first step is taken for the second, and so on.",
    torch=[
        ("init", "torch.zeros((), dtype", "torch.ones((), dtype"),
        ("init", "torch.tensor(0.0, dtype", "torch.tensor(1.0, dtype"),
    ],
    pytorch_optimizer=[("init", "group['step'] = 0", "group['step'] = 1")],
    timm=[("step", "state['step'] = 0", "state['step'] = 1")],
    optax=[("scale", "count=jnp.zeros([], jnp.int32)", "count=jnp.ones([], jnp.int32)")],
)


# --- maximize, complex numbers ---------------------------------------------------------------------------------------

mistake(
    "maximize_ignored",
    "maximize",
    "The option `maximize` has no effect.",
    torch=[("step", 'maximize=group["maximize"],', "maximize=False,")],
    pytorch_optimizer=[
        ("foreach", "if self.maximize:", "if False:"),
        ("loop", "maximize=self.maximize", "maximize=False"),
    ],
)
mistake(
    "maximize_always",
    "maximize",
    "The gradient is negated, whether asked for or not.",
    torch=[("step", 'maximize=group["maximize"],', "maximize=True,")],
    pytorch_optimizer=[
        ("foreach", "if self.maximize:", "if True:"),
        ("loop", "maximize=self.maximize", "maximize=True"),
    ],
)
mistake(
    "complex_square",
    "complex",
    "v of a complex parameter averages g^2, not the squares of its parts or of its size.",
    torch=[("loop", "if torch.is_complex(param):", "if False:"), ("foreach", "if has_complex:", "if False:")],
    pytorch_optimizer=[
        ("loop", "p, grad, exp_avg, exp_avg_sq = self.view_as_real(p, grad, exp_avg, exp_avg_sq)", "pass")
    ],
    optax=[("scale", "optax.tree.update_moment_per_elem_norm(", "optax.tree.update_moment(")],
)


# --- state -----------------------------------------------------------------------------------------------------------

_LOADED = "p_state = self.state.get(p, [])"
_K_RESTORED = "self.state[p] = self._restore_state_types(self.state[p], state_dict['state'][key])"
_T_KEPT = """lambda group, param: {key: torch.float32 for key in ('exp_avg', 'exp_avg_sq')},
        )"""


def _lost(moment: str) -> dict[str, Edits]:
    """A moment that begins anew when a state is loaded."""
    return {
        "torch": [
            (
                "load",
                _LOADED,
                f"{_LOADED}\n                if len(p_state) != 0:\n"
                f'                    p_state["{moment}"] = torch.zeros_like(p_state["{moment}"])',
            )
        ],
        "pytorch_optimizer": [
            (
                "load",
                _K_RESTORED,
                f"{_K_RESTORED}\n"
                f"                    self.state[p]['{moment}'] = torch.zeros_like(self.state[p]['{moment}'])",
            )
        ],
        "timm": [
            (
                "load",
                _T_KEPT,
                f"{_T_KEPT}\n        for state in self.state.values():\n"
                f"            state['{moment}'] = torch.zeros_like(state['{moment}'])",
            )
        ],
    }


mistake("m_not_resumed", "state", "m begins at 0 when a state is loaded.", **_lost("exp_avg"))
mistake("v_not_resumed", "state", "v begins at 0 when a state is loaded.", **_lost("exp_avg_sq"))
mistake(
    "step_not_resumed",
    "state",
    "Steps are counted from 0 when a state is loaded.",
    torch=[
        (
            "load",
            _LOADED,
            f"{_LOADED}\n                if len(p_state) != 0:\n"
            '                    p_state["step"] = torch.tensor(0.0)',
        )
    ],
    pytorch_optimizer=[
        (
            "load",
            "super().load_state_dict(state_dict)",
            "super().load_state_dict(state_dict)\n"
            "        for group in self.param_groups:\n            group['step'] = 0",
        )
    ],
    timm=[("load", _T_KEPT, f"{_T_KEPT}\n        for state in self.state.values():\n            state['step'] = 0")],
)


# --- in one code path only -------------------------------------------------------------------------------------------

mistake(
    "foreach_eps_ignored",
    ONE_PATH,
    "Foreach does not add eps: a mistake that torch had until 2023 (pytorch/pytorch#92551).",
    torch=[("foreach", "torch._foreach_add_(buffer, eps)", "pass")],
    pytorch_optimizer=[("foreach", "torch._foreach_add_(de_noms, group['eps'])", "pass")],
)
mistake(
    "foreach_rectification_removed",
    ONE_PATH,
    "r_t is 1 in foreach.",
    torch=[edit for edit in _rect_to_the(0.0, 0.0)["torch"] if edit[0] == "foreach"],
)
mistake(
    "foreach_threshold_6",
    ONE_PATH,
    "Foreach steps are adaptive from rho_t = 6 on.",
    torch=[
        ("foreach", "if rho_t > 5\n", "if rho_t > 6\n"),
        ("foreach", "torch.where(rho_t > 5.0, n", "torch.where(rho_t > 6.0, n"),
    ],
)
mistake(
    "foreach_decay_ignored",
    ONE_PATH,
    "Foreach has no decoupled decay.",
    torch=[("foreach", _DECAYS, "pass")],
    pytorch_optimizer=[("foreach", "weight_decay=group['weight_decay']", "weight_decay=0.0")],
)
mistake(
    "foreach_maximize_ignored",
    ONE_PATH,
    "Foreach ignores `maximize`.",
    torch=[
        (
            "foreach",
            "grouped_grads = torch._foreach_neg(grouped_grads)",
            "grouped_grads = torch._foreach_mul(grouped_grads, 1.0)",
        )
    ],
    pytorch_optimizer=[("foreach", "if self.maximize:", "if False:")],
)
mistake(
    "loop_bias1_missing",
    ONE_PATH,
    "m is not corrected in the loop.",
    torch=[("loop", "exp_avg / bias_correction1", "exp_avg / 1.0")],
)


def counts() -> Counter[str]:
    """How many mistakes each source has."""
    return Counter(source for one in MISTAKES for source in one.edits)
