"""Mutants that are hard to find: wrong in one corner, in one combination of options, or beside the state only."""

# Edits quote source text, which reads better unbroken.
# ruff: noqa: E501

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import torch
from torch import Tensor

from tests.mutation.mutant import (
    Event,
    Module,
    Mutant,
    Observation,
    Run,
    adding,
    attempt,
    drive,
    fading,
    refusal_of,
    reload,
    scaled,
    set_option,
    wave,
)
from tests.mutation.mutants_numbers import (
    ADAPT,
    AMS_LATE,
    BIAS1,
    BRANCH,
    CALL,
    DECAY,
    DENOMINATOR,
    E_LINE,
    END,
    FACTOR,
    FLIP,
    KEEP_MAX,
    LR,
    POWER,
    RHO_INF,
    ROOT,
    STATE,
    TWO,
    ZERO_LR,
    M,
    V,
    absent,
    jump,
)
from tests.mutation.mutants_objects import CLOSE, LOADED, LR_CHECK, THRESHOLDS
from tests.mutation.mutants_tensors import COMPLEX_AMS, LOOK, PLAIN_GRAD, kept_gradients, sized

MUTANTS: list[Mutant] = []


loop = adding(MUTANTS, "right_loop")
foreach = adding(MUTANTS, "right_foreach")

# The texts of right_foreach that edits aim at.
LIST_SCALARS = "bias1, bias2, r = scalars(group, t)\n        lr"
LIST_DECAY = "torch._foreach_mul_(params, factor)"
LIST_FLIP = '        if group["maximize"]:\n            grads = torch._foreach_neg(grads)\n'
LIST_EPS = 'torch._foreach_add_(roots, group["eps"])'
LIST_ADAPT = "torch._foreach_add_(params, torch._foreach_div(ms, roots), alpha=-size)"
LIST_SGD = "torch._foreach_add_(params, ms, alpha=-(lr / bias1))"
BUCKET = 'buckets[p.device, p.dtype, state["step"]].append'
NEW_MAX = '                state["max_exp_avg_sq"] = torch.zeros_like(p, dtype=moment_dtype(p))\n'
SINGLE_DECAY = 'g = self.weight_decay(x, -g if group["maximize"] else g, group)'
SINGLE_EPS = 'eps = group["eps"] / sqrt(bias2) if group["optimized_update"] else group["eps"]'
LOAD_STEP = 'self.state[p]["step"] = int(values["step"])'
SUPER_LOAD = "        super().load_state_dict(state_dict)\n        params"


def zeros(t: int, index: int, param: Tensor) -> Tensor:
    return torch.zeros_like(param)


def keeping_and_returning(
    *, kept: int, back: tuple[int, ...], also: dict[int, Event] | None = None
) -> dict[int, Event]:
    """Events: a state_dict is taken before one step and loaded into the same optimizer before others."""
    saved: list[Any] = []

    def keep(run: Run) -> None:
        saved[:] = [copy.deepcopy(run.optimizer.state_dict())]

    def go_back(run: Run) -> None:
        run.optimizer.load_state_dict(copy.deepcopy(saved[0]))

    return {kept: keep, **dict.fromkeys(back, go_back), **(also or {})}


# --- rectification ---------------------------------------------------------------------------------------------------

loop(
    "rho_inf_whole",
    "rectification",
    "rho_inf above 1000 is rounded to a whole number, which it is for the usual beta2.",
    drive(8, betas=(0.9, 0.9987)),
    (RHO_INF, RHO_INF + "\n    if rho_inf > 1000.0:\n        rho_inf = float(round(rho_inf))"),
)
foreach(
    "r_one_within_1e8",
    "rectification",
    "r_t within 1e-8 of 1 is taken for 1.",
    drive(84, betas=(0.9, 0.75)),
    ("return Scalars(bias1, bias2, r)", "return Scalars(bias1, bias2, 1.0 if r > 1 - 1e-8 else r)"),
)
loop(
    "power_float32_after_100",
    "rectification",
    "From step 101 on the power of beta2 in rho_t is a float32 power.",
    drive(4, events={2: jump(100)}),
    (POWER, "power = beta2**t if t <= 100 else float(torch.tensor(beta2, dtype=torch.float32) ** t)\n"),
)
foreach(
    "rho_sum_of_256_terms",
    "rectification",
    "rho_t is summed from its definition, but over 256 terms at most.",
    drive(4, events={2: jump(300)}),
    (
        "rho = limit - 2 * t * beta2**t / bias2",
        "weights = [beta2**j for j in range(min(t, 256))]\n    rho = 1 + 2 * sum(j * w for j, w in enumerate(weights)) / sum(weights)",
    ),
)
loop(
    "rho_factors_merged_above_1000",
    "rectification",
    "Above 1000, (rho - 4)(rho - 2) is taken for (rho - 3)^2.",
    drive(4, events={2: jump(2000)}),
    (
        ROOT,
        "factors = (rho - 3.0) ** 2 if rho > 1000.0 else (rho - 4.0) * (rho - 2.0)\n"
        "    return math.sqrt((factors * rho_inf) / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho))",
    ),
)
loop(
    "r_cached_by_four_digits",
    "rectification",
    "r_t is cached in the module under the first four decimals of beta2.",
    drive(8, start=TWO, groups=({"betas": (0.9, 0.99)}, {"betas": (0.9, 0.99003)})),
    (
        "def rectification(beta2: float, t: int, threshold: float) -> float | None:\n",
        "RECENT: dict[tuple[float, int, float], float | None] = {}\n\n\n"
        "def rectification(beta2: float, t: int, threshold: float) -> float | None:\n"
        "    key = (round(beta2, 4), t, threshold)\n"
        "    if key not in RECENT:\n"
        "        if len(RECENT) >= 100:\n"
        "            RECENT.clear()\n"
        "        RECENT[key] = computed(beta2, t, threshold)\n"
        "    return RECENT[key]\n\n\n"
        "def computed(beta2: float, t: int, threshold: float) -> float | None:\n",
    ),
)

# --- threshold -------------------------------------------------------------------------------------------------------

loop(
    "threshold_between_five_and_six",
    "threshold",
    "A threshold between 5 and 6 is taken for 6.",
    drive(8, betas=(0.9, 0.99), threshold=5.5),
    (BRANCH, "if 5.0 < threshold < 6.0:\n        threshold = 6.0\n    " + BRANCH),
)
loop(
    "threshold_four_with_margin",
    "threshold",
    "rho_t has to be 4.01 at least, although a threshold of 4 is passed.",
    drive(5, betas=(0.9, 0.7735), threshold=4.0),
    (BRANCH, "if rho_inf <= 4.0 or not rho >= threshold or rho < 4.01:"),
)
loop(
    "once_adaptive_always_adaptive",
    "threshold",
    "A parameter that has had an adaptive step stays adaptive when the threshold is raised.",
    drive(12, events={8: set_option(threshold=11.0)}),
    (
        CALL,
        CALL
        + '\n        adaptive = self.__dict__.setdefault("adaptive", set())\n        if r is not None:\n            adaptive.add(id(p))\n        elif id(p) in adaptive:\n            r = rectification(beta2, t, 4.0)',
    ),
)

# --- step count ------------------------------------------------------------------------------------------------------

foreach(
    "counts_in_blocks_of_eight",
    "step count",
    "Beyond 64 steps, counts of one block of eight share a bucket and the largest of them.",
    drive(70, start=TWO, grads=absent(2)),
    (
        BUCKET,
        'block = state["step"] if state["step"] < 64 else -(state["step"] // 8)\n                '
        + BUCKET.replace('state["step"]', "block"),
    ),
    ("self._step_list(items, t, group)", 'self._step_list(items, max(item.state["step"] for item in items), group)'),
)
loop(
    "float16_count",
    "step count",
    "The count of a float16 parameter is float16, which stops at 2048.",
    drive(4, dtype=torch.float16, lr=0.05, events={2: lambda run: run.state()["step"].fill_(2047.0)}),
    (
        "torch.tensor(0.0, dtype=torch.float32)",
        "torch.tensor(0.0, dtype=p.dtype if p.dtype == torch.float16 else torch.float32)",
    ),
)
loop(
    "long_absence_restarts_count",
    "step count",
    "After more than five steps without a gradient the count starts anew.",
    drive(12, start=TWO, grads=absent(3, 4, 5, 6, 7, 8)),
    (
        LOOK,
        '                    idle = self.__dict__.setdefault("idle", {})\n'
        "                    if grad is None:\n"
        "                        idle[id(p)] = idle.get(id(p), 0) + 1\n"
        "                        continue\n"
        '                    if idle.pop(id(p), 0) > 5 and "step" in self.state.get(p, {}):\n'
        '                        self.state[p]["step"].zero_()\n',
    ),
)
foreach(
    "late_amsgrad_counts_twice",
    "step count",
    "The step on which amsgrad is switched on in mid-run counts for two.",
    AMS_LATE,
    (NEW_MAX, NEW_MAX + '                state["step"] = int(state["step"]) + (state["step"] > 0)\n'),
)

# --- bias correction -------------------------------------------------------------------------------------------------

loop(
    "count_beside_the_state",
    "bias correction",
    "Momentum is corrected by a count of its own, which does not go back when an older state is loaded.",
    drive(10, lr=0.05, events=keeping_and_returning(kept=3, back=(7,))),
    (
        BIAS1,
        'counts = self.__dict__.setdefault("counts", {})\n        counts[id(p)] = counts.get(id(p), t - 1) + 1\n        bias1 = 1.0 - beta1 ** counts[id(p)]\n',
    ),
)
foreach(
    "bias1_first_order_near_one",
    "bias correction",
    "For beta1 above 0.999999, 1 - b1^t is taken for t (1 - b1).",
    drive(6, betas=(0.9999995, 0.999)),
    (
        "bias1, bias2 = 1 - beta1**t, 1 - beta2**t\n",
        "bias1, bias2 = 1 - beta1**t, 1 - beta2**t\n    if beta1 > 0.999999:\n        bias1 = t * (1 - beta1)\n",
    ),
)
foreach(
    "bias1_of_smaller_beta",
    "bias correction",
    "With beta1 > beta2 and optimized_update=False, momentum is corrected with beta2 in adaptive steps.",
    drive(8, betas=(0.95, 0.9), optimized_update=False),
    ("size = lr * (r / bias1)", "size = lr * (r / (bias1 if beta1 <= beta2 else bias2))"),
)

# --- eps -------------------------------------------------------------------------------------------------------------

loop(
    "amsgrad_scales_eps",
    "eps",
    "With amsgrad, optimized_update=True is taken for False.",
    drive(8, eps=1e-8, amsgrad=True, grads=scaled(1e-8)),
    (E_LINE, 'e = eps if group["optimized_update"] and not amsgrad else eps * math.sqrt(bias2)'),
)
foreach(
    "eps_below_1e30_dropped",
    "eps",
    "An eps below 1e-30 is taken for zero: 0/0 for zero gradients.",
    drive(7, eps=1e-35, grads=zeros),
    (LIST_EPS, 'torch._foreach_add_(roots, group["eps"] if group["eps"] > 1e-30 else 0.0)'),
)
foreach(
    "complex_eps_by_modulus",
    "eps",
    "The eps of a complex parameter is multiplied by the root of 2.",
    drive(8, dtype=torch.complex128, start=((0.0 + 1.0j, -1.0 + 0.5j),), eps=1e-8, grads=scaled(1e-8)),
    (SINGLE_EPS, SINGLE_EPS + "\n            eps = eps * sqrt(2) if p.is_complex() else eps"),
)
loop(
    "first_adaptive_step_without_eps",
    "eps",
    "The first adaptive step lacks eps.",
    drive(6, eps=1e-2),
    (
        DENOMINATOR,
        'denominator = s.sqrt() + (0.0 if rectification(beta2, t - 1, group["threshold"]) is None else e)',
    ),
)

# --- weight decay ----------------------------------------------------------------------------------------------------

loop(
    "decay_rate_one_step_late",
    "weight decay",
    "Decoupled decay uses the lr of the step before.",
    drive(8, weight_decay=0.1, lr=0.05, events={4: set_option(lr=0.1)}),
    (
        DECAY,
        'rates = self.__dict__.setdefault("rates", {})\n        g = self.weight_decay(work, g, {**group, "lr": rates.get(id(p), lr)})\n        rates[id(p)] = lr',
    ),
)
foreach(
    "decay_once_per_bucket",
    "weight decay",
    "Each bucket of a group decays all of the group's parameters.",
    drive(9, start=TWO, grads=absent(2, 3), lr=0.1, decay=(0.1,)),
    (
        LIST_DECAY,
        'for p in group["params"]:\n                    if p.grad is not None:\n                        p.mul_(factor)',
    ),
)
loop(
    "decay_in_dtype_of_tensor_lr",
    "weight decay",
    "With a float32 tensor lr the factor of decay is computed in float32.",
    drive(8, lr=torch.tensor(0.1), decay=(0.1,)),
    (FACTOR, 'float(1.0 - group["lr"] * coefficient)\n'),
)
loop(
    "decay_too_small_dropped",
    "weight decay",
    "Decay is left out where lr wd is below 1e-8.",
    drive(8, lr=1e-4, decay=(1e-5,)),
    (ZERO_LR, ZERO_LR.replace("lr == 0.0", "lr * coefficient < 1e-8")),
)
foreach(
    "l2_missing_on_hold",
    "weight decay",
    "Steps that hold the parameter take the gradient without its L2 term into the moments.",
    drive(8, lr=0.1, decay=(0.1, False), degenerated_to_sgd=False),
    (
        "            if penalty:\n                grads",
        '            if penalty and (group["degenerated_to_sgd"] or scalars(group, t).r is not None):\n                grads',
    ),
)
loop(
    "cold_start_never_decays",
    "weight decay",
    "A parameter whose first step had lr = 0 is never decayed.",
    drive(8, lr=0.0, decay=(0.1,), events={3: set_option(lr=0.1)}),
    (
        DECAY,
        'cold = self.__dict__.setdefault("cold", {}).setdefault(id(p), lr == 0.0)\n        if not (cold and group.get("weight_decouple")):\n            g = self.weight_decay(work, g, group)',
    ),
)

# --- moments ---------------------------------------------------------------------------------------------------------


def negative_zeros(t: int, index: int, param: Tensor) -> Tensor:
    """Some elements are -0 from step 4 on."""
    g = wave(t, index, param)
    return torch.where(torch.arange(g.numel()) % 2 == 0, -0.0, g) if t >= 4 else g


loop(
    "squares_below_1e40_dropped",
    "moments",
    "The squares of gradients below 1e-20 do not enter v.",
    drive(grads=scaled(1e-21)),
    (V, "v.mul_(beta2).addcmul_(g, g * (g.abs() >= 1e-20), value=1.0 - beta2)"),
)
loop(
    "negative_zero_keeps_momentum",
    "moments",
    "Where the gradient is -0, m does not decay.",
    drive(grads=negative_zeros),
    (M, "old = m.clone()\n            " + M + "\n            m.copy_(torch.where((g == 0) & g.signbit(), old, m))"),
)

# --- degenerate branch -----------------------------------------------------------------------------------------------

foreach(
    "single_hold_not_counted",
    "degenerate branch",
    "Half precision and complex: a step that holds the parameter is not counted.",
    drive(10, dtype=torch.bfloat16, lr=0.1, degenerated_to_sgd=False),
    (
        "            x = x - lr / bias1 * m\n",
        '            x = x - lr / bias1 * m\n        else:\n            state["step"] -= 1\n',
    ),
)
foreach(
    "sgd_needs_a_variance",
    "degenerate branch",
    "The momentum step leaves elements alone whose v has underflowed to zero.",
    drive(3, dtype=torch.float32, start=((0.0, 0.0),), grads=scaled(1e-25)),
    (
        LIST_SGD,
        "ms = [torch.where(v != 0, m, 0.0) for m, v in zip(ms, vs, strict=True)]\n            " + LIST_SGD,
    ),
)

# --- amsgrad ---------------------------------------------------------------------------------------------------------

loop(
    "amsgrad_late_starts_from_v",
    "amsgrad",
    "Switched on in mid-run, the maximum starts from the v of the step before.",
    AMS_LATE,
    (
        'state["max_exp_avg_sq"] = torch.zeros_like(p, dtype=dtype)',
        'state["max_exp_avg_sq"] = state["exp_avg_sq"].clone()',
    ),
)
foreach(
    "amsgrad_passes_over_infinity",
    "amsgrad",
    "A v that has overflowed does not enter the maximum.",
    drive(8, amsgrad=True, grads=lambda t, i, p: wave(t, i, p) * (1e200 if t == 3 else 1.0)),
    (
        "torch._foreach_maximum_(maxima, vs)",
        "torch._foreach_maximum_(maxima, [torch.where(v.isinf(), 0.0, v) for v in vs])",
    ),
)
foreach(
    "amsgrad_off_not_loaded",
    "amsgrad",
    "A maximum that is saved while amsgrad is off is not loaded.",
    drive(
        14,
        amsgrad=True,
        betas=(0.9, 0.9),
        grads=fading,
        events={4: set_option(amsgrad=False), 6: reload, 8: set_option(amsgrad=True)},
    ),
    (
        LOAD_STEP,
        LOAD_STEP
        + '\n            if not any(p is q for group in self.param_groups if group["amsgrad"] for q in group["params"]):\n                self.state[p].pop("max_exp_avg_sq", None)',
    ),
)

# --- maximize --------------------------------------------------------------------------------------------------------


def ridge(param: Tensor, grad: Tensor, group: dict[str, Any]) -> Tensor:
    """A decay of another kind, which does not commute with a change of sign."""
    return grad + 0.1 * param


ridge.defaults = lambda: {"strength": 0.1}  # type: ignore[attr-defined]

foreach(
    "maximize_oldest_only",
    "maximize",
    "Only the gradients of the oldest parameters of a group are negated.",
    drive(9, start=TWO, grads=absent(2, 3), maximize=True),
    (
        LIST_FLIP,
        LIST_FLIP.replace(
            '["maximize"]:',
            '["maximize"] and t == max(self.state[p]["step"] for p in group["params"] if p.grad is not None):',
        ),
    ),
)
loop(
    "maximize_after_custom_decay",
    "maximize",
    "A callable that is not a WeightDecay gets the gradient before it is negated.",
    drive(maximize=True, weight_decay=ridge),
    (
        FLIP,
        'late = group["maximize"] and type(self.weight_decay) is not WeightDecay\n        if group["maximize"] and not late:\n            g = -g\n',
    ),
    (DECAY, DECAY + "\n        if late:\n            g = -g"),
)

# --- plumbing --------------------------------------------------------------------------------------------------------

foreach(
    "tensor_lr_of_group_dropped",
    "plumbing",
    "A group's lr is not used when it is a tensor and the constructor's is a number.",
    drive(start=TWO, groups=({"lr": torch.tensor(0.1)}, {}), lr=0.01),
    (
        "        self.validate({**self.defaults, **param_group})\n",
        '        if isinstance(param_group.get("lr"), torch.Tensor) and isinstance(self.defaults["lr"], float):\n            param_group = {**param_group, "lr": self.defaults["lr"]}\n        self.validate({**self.defaults, **param_group})\n',
    ),
)
loop(
    "eps_of_second_group",
    "plumbing",
    "From the third group on, eps is that of the second.",
    drive(start=(*TWO, (3.0, 0.1)), groups=({"eps": 1e-8}, {"eps": 1e-4}, {"eps": 1e-2})),
    (
        'eps = group["eps"]',
        'later = any(group is other for other in self.param_groups[2:])\n        eps = (self.param_groups[1] if later else group)["eps"]',
    ),
)
loop(
    "branch_shared_by_thresholds",
    "plumbing",
    "r_t is cached by t and beta2: groups with other thresholds take the first one's branch.",
    THRESHOLDS,
    (
        CALL,
        'cache = self.__dict__.setdefault("cache", {})\n        if (t, beta2) not in cache:\n            if len(cache) >= 8:\n                cache.clear()\n            cache[t, beta2] = rectification(beta2, t, group["threshold"])\n        r = cache[t, beta2]',
    ),
)
foreach(
    "momentum_step_by_initial_lr",
    "plumbing",
    "Where a scheduler has noted an initial_lr, momentum steps use that one.",
    drive(8, lr=0.1, events={1: set_option(initial_lr=0.1, lr=0.01)}),
    (LIST_SGD, LIST_SGD.replace("(lr /", '(float(group.get("initial_lr", lr)) /')),
)

# --- state and resume ------------------------------------------------------------------------------------------------


def copy_with_maximum(module: Module) -> Observation:
    """A deepcopy steps under amsgrad; the original's state must not move."""
    p = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = module.RAdam([p], lr=0.1, amsgrad=True)
    p.grad = torch.tensor([1.0, -2.0], dtype=torch.float64)
    optimizer.step()
    other = copy.deepcopy(optimizer)
    q = other.param_groups[0]["params"][0]
    q.grad = torch.tensor([3.0, 5.0], dtype=torch.float64)
    other.step()
    return {key: copy.copy(value) for key, value in optimizer.state[p].items() if key != "step"}


loop(
    "second_load_keeps_options",
    "state and resume",
    "From the second load_state_dict on, an optimizer keeps its own options.",
    drive(
        10,
        lr=0.05,
        events=keeping_and_returning(kept=2, back=(4, 7), also={3: set_option(lr=0.1), 6: set_option(lr=0.2)}),
    ),
    (
        LOADED,
        "        before = [dict(group) for group in self.param_groups]\n"
        "        super().load_state_dict(state_dict)\n"
        '        if self.__dict__.get("loaded", False):\n'
        "            for group, own in zip(self.param_groups, before, strict=True):\n"
        '                group.update({key: value for key, value in own.items() if key != "params"})\n'
        "        self.loaded = True\n"
        "        indices",
    ),
)
foreach(
    "deepcopy_shares_maximum",
    "state and resume",
    "A deepcopy shares AMSGrad's maximum with the original, and nothing else.",
    copy_with_maximum,
    (
        "    def __getstate__",
        "    def __deepcopy__(self, memo: dict[int, Any]) -> RAdam:\n"
        "        import copy\n\n"
        "        for own in self.state.values():\n"
        '            if "max_exp_avg_sq" in own:\n'
        '                memo[id(own["max_exp_avg_sq"])] = own["max_exp_avg_sq"]\n'
        "        other = type(self).__new__(type(self))\n"
        "        other.__setstate__(copy.deepcopy(self.__getstate__(), memo))\n"
        "        return other\n\n"
        "    def __getstate__",
    ),
)
loop(
    "resumed_step_takes_old_branch",
    "state and resume",
    "The first step after load_state_dict takes the branch of the last step before it.",
    drive(8, lr=0.05, events={6: reload}),
    (
        LOADED,
        "        super().load_state_dict(state_dict)\n"
        '        self.resumed = {id(p) for group in self.param_groups for p in group["params"]}\n'
        "        indices",
    ),
    (
        CALL,
        CALL
        + '\n        if id(p) in self.__dict__.get("resumed", ()):\n            self.resumed.discard(id(p))\n            if t > 1 and rectification(beta2, t - 1, group["threshold"]) is None:\n                r = None',
    ),
)
foreach(
    "load_keeps_state_that_file_lacks",
    "state and resume",
    "A parameter for which the loaded dict has no state keeps its own.",
    drive(10, lr=0.05, events=keeping_and_returning(kept=1, back=(5,))),
    (
        SUPER_LOAD,
        "        before = {p: dict(own) for p, own in self.state.items()}\n" + SUPER_LOAD,
    ),
    (
        "            if values is None:\n",
        "            if values is None and p in before:\n                self.state[p] = before[p]\n            if values is None:\n",
    ),
)
loop(
    "saving_rounds_state",
    "state and resume",
    "state_dict() rounds the float64 moments to float32, the optimizer's own with the saved ones.",
    drive(10, lr=0.05, events={5: lambda run: run.optimizer.state_dict()}),
    (
        "    def load_state_dict(self",
        "    def state_dict(self) -> dict[str, Any]:\n"
        "        for own in self.state.values():\n"
        "            for key in MOMENTS:\n"
        "                if key in own and own[key].dtype == torch.float64:\n"
        "                    own[key] = own[key].float().double()\n"
        "        return super().state_dict()\n\n"
        "    def load_state_dict(self",
    ),
)
loop(
    "load_halves_maximum",
    "state and resume",
    "The maximum of a half parameter comes back as float32, but rounded.",
    drive(12, dtype=torch.bfloat16, lr=0.05, amsgrad=True, betas=(0.9, 0.9), grads=fading, events={5: reload}),
    (
        'value = state_dict["state"][i][key].to(p.device, torch.float32)',
        'source = own if key == "max_exp_avg_sq" else state_dict["state"][i]\n                        value = source[key].to(p.device, torch.float32)',
    ),
)
foreach(
    "loaded_count_capped",
    "state and resume",
    "A loaded count is 1000 at most.",
    drive(5, events={2: jump(1500), 4: reload}),
    (LOAD_STEP, LOAD_STEP.replace('int(values["step"])', 'min(int(values["step"]), 1000)')),
)
foreach(
    "load_by_position_of_states",
    "state and resume",
    "Loaded states are dealt out in order, so a parameter without one shifts those after it.",
    drive(
        10,
        start=((0.5, 1.0), (-1.0, 2.0), (0.25, -0.5)),
        grads=lambda t, i, p: None if i == 0 else wave(t, i, p),
        events={5: reload},
    ),
    (
        'saved = [state_dict["state"].get(i) for group in state_dict["param_groups"] for i in group["params"]]\n',
        'saved = [*state_dict["state"].values()]\n        saved += [None] * (len(params) - len(saved))\n',
    ),
)

# --- closure ---------------------------------------------------------------------------------------------------------


def zero_loss(module: Module) -> Observation:
    p = torch.nn.Parameter(torch.ones(2))
    loss = module.RAdam([p]).step(lambda: torch.zeros(()))
    return {"loss": type(loss).__name__}


def rate_from_closure(module: Module) -> Observation:
    """The closure sets the rate of the step that it belongs to."""
    p = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = module.RAdam([p], lr=0.01)
    for t in range(1, 9):

        def closure(t: int = t) -> float:
            optimizer.param_groups[0]["lr"] = 0.1 / t
            p.grad = wave(t, 0, p)
            return 0.0

        optimizer.step(closure)
    return {"param": p.detach().clone()}


def mode_after_error(module: Module) -> Observation:
    """The closure fails inside no_grad."""

    def closure() -> float:
        raise KeyError("closure")

    optimizer = module.RAdam([torch.nn.Parameter(torch.ones(2))])
    try:
        torch.set_grad_enabled(False)
        try:
            optimizer.step(closure)
        except KeyError:
            return {"mode": torch.is_grad_enabled()}
        return {"mode": "no error"}
    finally:
        torch.set_grad_enabled(True)


loop(
    "zero_loss_is_none",
    "closure",
    "A loss of zero comes back as None.",
    zero_loss,
    ("        return loss\n", "        return loss or None\n"),
)
foreach(
    "lr_read_before_closure",
    "closure",
    "lr is read before the closure is called.",
    rate_from_closure,
    (
        "        if closure is None:\n",
        '        rates = [group["lr"] for group in self.param_groups]\n        if closure is None:\n',
    ),
    (
        "            for group in self.param_groups:\n                self._step_group(group)",
        '            for group, rate in zip(self.param_groups, rates):\n                self._step_group({**group, "lr": rate})',
    ),
)
loop(
    "closure_error_leaves_gradients_on",
    "closure",
    "After an error in the closure, gradients stay switched on inside no_grad.",
    mode_after_error,
    (
        CLOSE,
        "            mode = torch.is_grad_enabled()\n"
        "            torch.set_grad_enabled(True)\n"
        "            loss = closure()\n"
        "            torch.set_grad_enabled(mode)\n",
    ),
)

# --- gradient handling -----------------------------------------------------------------------------------------------


def sparse_without_entries(module: Module) -> Observation:
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.zeros(3).to_sparse()
    optimizer = module.RAdam([p])
    try:
        optimizer.step()
    except RuntimeError as error:
        return {"refused": True, "says so": "sparse" in str(error)}
    return {"refused": False}


foreach(
    "float16_infinity_clipped",
    "gradient handling",
    "Infinite gradients of float16 parameters become the largest finite number.",
    drive(4, dtype=torch.float16, grads=lambda t, i, p: wave(t, i, p) * (float("inf") if t == 3 else 1.0)),
    (
        SINGLE_DECAY,
        "g = g.clamp(-65504.0, 65504.0) if p.dtype is torch.half else g\n        " + SINGLE_DECAY,
    ),
)
loop(
    "nan_parameter_zeroed",
    "gradient handling",
    "Elements of a parameter that are NaN start again from zero.",
    drive(start=((float("nan"), 0.5, -1.0),)),
    (DECAY, "work.nan_to_num_(nan=0.0, posinf=math.inf, neginf=-math.inf)\n        " + DECAY),
)
loop(
    "sparse_without_entries_skipped",
    "gradient handling",
    "A sparse gradient without entries is taken for none.",
    sparse_without_entries,
    (
        "p.grad.layout is not torch.strided:",
        "p.grad.layout is not torch.strided and not (p.grad.is_sparse and p.grad._nnz() == 0):",
    ),
    (LOOK, LOOK.replace("grad is None", "grad is None or grad.is_sparse")),
)
loop(
    "gradient_replaced_by_converted",
    "gradient handling",
    "step() replaces a .grad of another dtype by its conversion.",
    drive(dtype=torch.float32, grads=lambda t, i, p: wave(t, i, p.double()), watch=kept_gradients),
    (STATE, "if grad.dtype != p.dtype:\n            p.grad = grad.to(p.dtype)\n        " + STATE),
)
foreach(
    "frozen_not_decayed",
    "gradient handling",
    "A parameter with requires_grad=False and a gradient is stepped but not decayed.",
    drive(lr=0.1, decay=(0.1,), events={4: lambda run: run.params[0].requires_grad_(False)}),
    (
        LIST_DECAY,
        "for p in params:\n                    if p.requires_grad:\n                        p.mul_(factor)",
    ),
)

# --- layout ----------------------------------------------------------------------------------------------------------


def with_offset(t: int, index: int, param: Tensor) -> Tensor:
    """The gradient is a piece of a larger buffer, as a bucket of all-reduced gradients has it."""
    g = wave(t, index, param)
    return torch.cat([torch.ones(3, dtype=g.dtype), g])[3:]


foreach(
    "remainder_of_huge_vector_skipped",
    "layout",
    "Beyond 2**20 elements, those after the last whole block of 65536 are not moved by adaptive steps.",
    sized(2**20 + 1),
    (
        LIST_ADAPT,
        "updates = torch._foreach_div(ms, roots)\n"
        "            for update in updates:\n"
        "                if update.dim() == 1 and update.numel() > 2**20:\n"
        "                    update[update.numel() // 65536 * 65536 :] = 0\n"
        "            torch._foreach_add_(params, updates, alpha=-size)",
    ),
)
loop(
    "strided_half_lost",
    "layout",
    "A half parameter that is not contiguous is written into a copy.",
    drive(lr=0.1, start=(torch.arange(8.0).reshape(4, 2).t().to(torch.bfloat16),)),
    (END, END.replace("p.copy_", "p.contiguous().copy_")),
)
foreach(
    "offset_of_gradient_ignored",
    "layout",
    "The gradient is read from the start of its storage.",
    drive(grads=with_offset),
    ("p.grad.to(p.dtype)", "p.grad.as_strided(p.grad.shape, p.grad.stride(), 0).to(p.dtype)"),
)

# --- dtype -----------------------------------------------------------------------------------------------------------

loop(
    "float16_parameter_saturates",
    "dtype",
    "A float16 parameter that outgrows its range stays at the largest finite number.",
    drive(2, dtype=torch.float16, start=((65000.0, 1.0),), lr=2000.0, grads=lambda t, i, p: -torch.ones_like(p)),
    (
        END,
        "        if p.dtype == torch.float16:\n            work = torch.where(work.isfinite(), work.clamp(-65504.0, 65504.0), work)\n"
        + END,
    ),
)
foreach(
    "mixed_group_r_float32",
    "dtype",
    "In a group with parameters of several dtypes r_t is rounded to float32.",
    drive(start=(torch.ones(2), torch.ones(2, dtype=torch.float64))),
    (
        LIST_SCALARS,
        'bias1, bias2, r = scalars(group, t)\n        if r is not None and len({p.dtype for p in group["params"]}) > 1:\n            r = float(torch.tensor(r, dtype=torch.float32))\n        lr',
    ),
)
loop(
    "square_in_dtype_of_gradient",
    "dtype",
    "The square of a half gradient of a float32 parameter is taken in half precision.",
    drive(dtype=torch.float32, grads=lambda t, i, p: wave(t, i, p).to(torch.bfloat16)),
    (
        V,
        'if grad.dtype in HALF and p.dtype == torch.float32 and group.get("weight_decouple"):\n'
        "                v.mul_(beta2).add_((grad * grad).to(g.dtype), alpha=1.0 - beta2)\n"
        "            else:\n"
        "                " + V,
    ),
)

# --- complex ---------------------------------------------------------------------------------------------------------


def conjugated_parameter(module: Module) -> Observation:
    """The parameter is a lazily conjugated view."""
    p = torch.tensor([1.0 + 2.0j, -0.5 - 1.0j], dtype=torch.complex128).conj()
    optimizer = module.RAdam([p], lr=0.1)
    for t in range(1, 9):
        p.grad = wave(t, 0, p)
        optimizer.step()
    return {"conjugated": p.is_conj(), "param": p.resolve_conj().clone()}


foreach(
    "complex_maximum_of_both_parts",
    "complex",
    "AMSGrad's maximum of a complex parameter is the larger of both parts.",
    COMPLEX_AMS,
    (
        'v = torch.maximum(reals(state["max_exp_avg_sq"]), v)\n',
        'v = torch.maximum(reals(state["max_exp_avg_sq"]), v)\n            v = v.amax(-1, keepdim=True).expand_as(v).contiguous() if p.is_complex() else v\n',
    ),
)
loop(
    "conjugated_parameter_not_written",
    "complex",
    "The update of a parameter that is a conjugated view is lost.",
    conjugated_parameter,
    ("        elif p.is_conj():\n            p.copy_(torch.view_as_complex(work))\n", ""),
)
loop(
    "conjugated_gradient_read_raw",
    "complex",
    "A lazily conjugated gradient is read as it lies in memory.",
    drive(dtype=torch.complex128, start=((1.0 + 2.0j, -0.5 - 1.0j),), grads=lambda t, i, p: wave(t, i, p).conj()),
    (PLAIN_GRAD, "g = as_real((grad.conj() if grad.is_conj() else grad).to(p.dtype))"),
)

# --- precision -------------------------------------------------------------------------------------------------------

loop(
    "v_weight_of_14_decimals",
    "precision",
    "The weight 1 - b2 keeps 14 decimal places, which is enough for the usual beta2.",
    drive(betas=(0.9, 0.9987654321987654)),
    (V, V.replace("1.0 - beta2", "round(1.0 - beta2, 14)")),
)
loop(
    "float64_tensor_lr_in_float32",
    "precision",
    "A float64 tensor lr is rounded to float32.",
    drive(lr=torch.tensor(0.1, dtype=torch.float64)),
    (
        LR,
        LR.replace(
            'float(group["lr"])',
            'float(torch.as_tensor(group["lr"]).float() if isinstance(group["lr"], Tensor) else group["lr"])',
        ),
    ),
)
foreach(
    "eps_relative_1e9",
    "precision",
    "eps is too large by one part in a thousand million.",
    drive(eps=1.0, start=((0.0, 0.0),), degenerated_to_sgd=False),
    (LIST_EPS, 'torch._foreach_add_(roots, group["eps"] * (1 + 1e-9))'),
)

# --- only then -------------------------------------------------------------------------------------------------------


def refilled(module: Module) -> Observation:
    """One gradient tensor serves all steps and is filled anew each time, as zero_grad(set_to_none=False) has it."""
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = module.RAdam([p], lr=0.1, maximize=True)
    p.grad = torch.zeros_like(p)
    for t in range(1, 9):
        p.grad.copy_(wave(t, 0, p))
        optimizer.step()
    return {"param": p.detach().clone()}


def other_data(run: Run) -> None:
    run.params[0].data = torch.tensor([1.0, -1.0, 0.5, 0.0], dtype=torch.float64)


loop(
    "beta2_zero_keeps_no_maximum",
    "only then",
    "With beta2 = 0 AMSGrad's maximum is not kept.",
    drive(8, betas=(0.9, 0.0), amsgrad=True, grads=fading),
    (KEEP_MAX, "if beta2:\n                " + KEEP_MAX),
)
foreach(
    "second_step_corrected_as_first",
    "only then",
    "With beta1 > beta2, the momentum of step 2 is corrected as at step 1.",
    drive(3, betas=(0.95, 0.9)),
    (LIST_SGD, LIST_SGD.replace("/ bias1", "/ (1 - beta1 if t == 2 and beta1 > beta2 else bias1)")),
)
loop(
    "zero_parameters_stay_when_adaptive",
    "only then",
    "Elements that are exactly zero before an adaptive step stay zero.",
    drive(8, degenerated_to_sgd=False),
    (ADAPT, "zero = work == 0\n            " + ADAPT + "\n            work.masked_fill_(zero, 0.0)"),
)
foreach(
    "zero_lr_does_nothing",
    "only then",
    "A step with lr = 0 leaves moments and count as they were.",
    drive(8, lr=0.05, events={3: set_option(lr=0.0), 5: set_option(lr=0.05)}),
    (
        "        buckets: dict[",
        '        if float(group["lr"]) == 0.0:\n            return\n        buckets: dict[',
    ),
)
foreach(
    "eps_for_64_tensors",
    "only then",
    "From the 65th tensor of a bucket on, eps is left out.",
    drive(7, start=tuple((float(i), 1.0) for i in range(66)), eps=1e-2),
    (LIST_EPS, LIST_EPS.replace("roots,", "roots[:64],")),
)
foreach(
    "maximum_unused_in_three_options",
    "only then",
    "With amsgrad, maximize and optimized_update=False together, v is used for the maximum.",
    drive(12, amsgrad=True, maximize=True, optimized_update=False, betas=(0.9, 0.9), grads=fading),
    (
        "            vs = maxima\n",
        '            vs = maxima if group["optimized_update"] or not group["maximize"] else vs\n',
    ),
)
loop(
    "absolute_decay_twice_after_hold",
    "only then",
    "With degenerated_to_sgd=False, adaptive steps apply absolute decay twice.",
    drive(8, lr=0.1, decay=(0.1, True, True), degenerated_to_sgd=False),
    (
        DECAY,
        DECAY
        + '\n        adaptive = rectification(beta2, int(state["step"]) + 1, group["threshold"]) is not None\n        if adaptive and group.get("absolute") and not group["degenerated_to_sgd"]:\n            self.weight_decay(work, g, group)',
    ),
)
foreach(
    "negated_gradient_kept",
    "only then",
    "Under maximize the negated gradient is kept as long as .grad is the same tensor, whatever has been written into it.",
    refilled,
    (
        LIST_FLIP,
        '        if group["maximize"]:\n'
        '            negated = self.__dict__.setdefault("negated", {})\n'
        "            for item in items:\n"
        "                if negated.get(id(item.param), (None,))[0] is not item.grad:\n"
        "                    negated[id(item.param)] = (item.grad, -item.grad)\n"
        "            grads = [negated[id(item.param)][1] for item in items]\n",
    ),
)
loop(
    "old_data_stepped",
    "only then",
    "The update goes to the storage that the parameter had at its first step, although .data has been replaced.",
    drive(8, lr=0.1, events={4: other_data}),
    (
        DECAY,
        DECAY
        + '\n        if p.dtype not in HALF and not p.is_complex() and not self.defaults["differentiable"]:\n            work = self.__dict__.setdefault("held", {}).setdefault(p, p.detach())',
    ),
)

# --- validation ------------------------------------------------------------------------------------------------------

loop(
    "nan_tensor_lr_accepted",
    "validation",
    "A tensor lr of NaN is accepted.",
    refusal_of("lr", lr=torch.tensor(float("nan"))),
    (LR_CHECK, "if lr < 0.0 if isinstance(lr, Tensor) else not float(lr) >= 0.0:"),
)
foreach(
    "beta_barely_negative_accepted",
    "validation",
    "A beta that is negative by less than 1e-9 is accepted.",
    refusal_of("betas", betas=(-1e-12, 0.999)),
    ("if not 0 <= beta < 1:", "if not -1e-9 <= beta < 1:"),
)
foreach(
    "beta_near_one_refused",
    "validation",
    "A beta within 1e-8 of 1 is refused.",
    attempt(betas=(0.9, 1.0 - 1e-9)),
    ("if not 0 <= beta < 1:", "if not 0 <= beta < 1 - 1e-8:"),
)

# --- memory ----------------------------------------------------------------------------------------------------------


def loaded_often(module: Module) -> Observation:
    """How many moments of former states are alive after some loads."""
    p = torch.nn.Parameter(torch.zeros(4))
    optimizer = module.RAdam([p])
    old: list[weakref.ref[Tensor]] = []
    for t in range(1, 6):
        p.grad = wave(t, 0, p)
        optimizer.step()
        old.append(weakref.ref(optimizer.state[p]["exp_avg"]))
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    gc.collect()
    return {"alive": sum(ref() is not None for ref in old)}


foreach(
    "former_states_kept",
    "memory",
    "Every load_state_dict leaves the former state on the optimizer.",
    loaded_often,
    (
        SUPER_LOAD,
        '        self.__dict__.setdefault("former", []).append({p: dict(own) for p, own in self.state.items()})\n'
        + SUPER_LOAD,
    ),
)
