"""Mutants of right_loop that its author may make by accident, by making it faster, or plants: by one who saw no test."""

# Edits quote source text, which reads better unbroken.
# ruff: noqa: E501

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
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
    drive,
    fading,
    optimizer_of,
    reload,
    scaled,
    set_option,
    through_deepcopy,
    wave,
)

MUTANTS: list[Mutant] = []

loop = adding(MUTANTS, "right_loop")

# The texts of right_loop that edits aim at.
ABSOLUTE = 'factor = 1.0 - coefficient if group.get("absolute", self.absolute) else 1.0 - lr * coefficient'
ADAPT = "work.addcdiv_(m, denominator, value=-size)"
BETAS = 'beta1, beta2 = group["betas"]'
BIAS1 = "bias1 = 1.0 - beta1**t"
BIAS2 = "bias2 = 1.0 - beta2**t"
CALL = 'r = rectification(beta2, t, group["threshold"])'
COUNT = 't = int(state["step"])'
DECAY = "g = self.weight_decay(work, g, group)"
DENOMINATOR = "denominator = s.sqrt() + e"
E_LINE = 'e = eps if group["optimized_update"] else eps * math.sqrt(bias2)'
EPS = 'eps = group["eps"]\n'
FLIP = '        if group["maximize"]:\n            g = -g\n'
KEEP_MAX = '        elif amsgrad:\n            as_real(state["max_exp_avg_sq"]).copy_(s)\n'
L2 = "return grad + coefficient * param"
LOAD = "super().load_state_dict(state_dict)"
LR = 'lr = float(group["lr"])\n        beta1'
M = "m.mul_(beta1).add_(g, alpha=1.0 - beta1)"
POWER = "power = beta2**t\n"
RUNNING_MAX = "        s = v\n        if amsgrad:\n"
SETSTATE = "super().__setstate__(state)\n"
SGD = "work.add_(m, alpha=-size)"
SIZE = "size = r * lr * math.sqrt(bias2) / bias1"
STEP_ONE = "self._step_one(p, grad, group)"
TAKE = "                    grad = p.grad\n"
V_OF = 'v = as_real(state["exp_avg_sq"])'
ZERO_STEP = 'state["step"] = torch.tensor(0.0, dtype=torch.float32)'
ZERO_V = 'state["exp_avg_sq"] = torch.zeros_like(p, dtype=dtype)'

TWO = ((0.0, 0.5, -1.0, 2.0), (1.5, -0.25, 3.0))
COMPLEX = (torch.tensor([0.5 - 1.0j, 2.0 + 0.25j, -1.5 + 3.0j], dtype=torch.complex128),)
TRANSPOSED = (torch.arange(1.0, 7.0, dtype=torch.float64).reshape(2, 3).t(),)


def without(index: int, steps: tuple[int, ...]) -> Callable[[int, int, Tensor], Tensor | None]:
    """The parameter has no gradient in these steps."""
    return lambda t, i, param: None if i == index and t in steps else wave(t, i, param)


def zeros(t: int, index: int, param: Tensor) -> Tensor:
    return torch.zeros_like(param)


def jumped(count: int) -> Event:
    """As if so many steps had been taken."""

    def event(run: Run) -> None:
        for index in range(len(run.params)):
            run.state(index)["step"].fill_(float(count))

    return event


def filled(value: float) -> Event:
    """The tensor that was passed as lr gets another value, in place."""

    def event(run: Run) -> None:
        given: Tensor = run.optimizer.defaults["lr"]
        given.fill_(value)

    return event


class Clipping:
    """A weight decay of the user's own: it clips the gradient."""

    def defaults(self) -> dict[str, Any]:
        return {}

    def __call__(self, param: Tensor, grad: Tensor, group: Mapping[str, Any]) -> Tensor:
        return grad.clamp(-0.25, 0.25)


def single(module: Module, **hyper: Any) -> tuple[Tensor, Any]:
    p = torch.nn.Parameter(torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64))
    return p, optimizer_of(module)([p], **hyper)


def stepped(p: Tensor, optimizer: Any, *times: int) -> None:
    for t in times:
        p.grad = wave(t, 0, p)
        optimizer.step()


def with_closure(module: Module) -> Observation:
    p, optimizer = single(module, lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = ((p - 1.0) ** 2).sum()
        loss.backward()
        return loss

    losses = [float(optimizer.step(closure).detach()) for _ in range(4)]
    return {"p": p.detach(), "losses": losses}


def hooked(module: Module) -> Observation:
    p, optimizer = single(module)
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    stepped(p, optimizer, 1, 2)
    return {"calls": calls}


def own_decay_copied(module: Module) -> Observation:
    p, optimizer = single(module, lr=0.1, weight_decay=Clipping())
    stepped(p, optimizer, 1, 2)
    twin = copy.deepcopy(optimizer)
    q = twin.param_groups[0]["params"][0]
    stepped(q, twin, 3, 4)
    return {"q": q.detach()}


def sparse_in_third_step(module: Module) -> Observation:
    p, optimizer = single(module, lr=0.1)
    q = torch.nn.Parameter(torch.tensor([[1.0, -3.0], [2.0, 0.5]], dtype=torch.float64))
    optimizer.add_param_group({"params": [q]})
    seen: Observation = {}
    for t in (1, 2, 3):
        p.grad = wave(t, 0, p)
        q.grad = wave(t, 1, q) if t < 3 else wave(t, 1, q).to_sparse()
        try:
            optimizer.step()
        except Exception as error:
            seen[f"error {t}"] = type(error).__name__
    return {**seen, "p": p.detach(), "q": q.detach()}


# --- accidents -------------------------------------------------------------------------------------------------------

loop(
    "group_decay_zero_falls_back",
    "weight decay",
    "A group whose weight_decay is 0 is given the coefficient of the object, because of an `or`.",
    drive(4, start=TWO, groups=({"weight_decay": 0.0}, {}), decay=(0.1,), lr=0.1),
    ('group.get("weight_decay", self.weight_decay)', 'group.get("weight_decay") or self.weight_decay'),
)
loop(
    "eps_zero_is_default",
    "eps",
    "eps = 0 is taken for not given: the default is used, so that 0/0 is 0.",
    drive(7, grads=zeros, eps=0.0),
    (EPS, 'eps = group["eps"] or 1e-16\n'),
)
loop(
    "complex_maximize_and_conjugate",
    "complex",
    "With maximize, a complex gradient is negated and conjugated.",
    drive(8, start=COMPLEX, maximize=True),
    (
        "            g = -g\n",
        "            g = as_real(-torch.view_as_complex(g.contiguous()).conj()) if p.is_complex() else -g\n",
    ),
)
loop(
    "step_count_of_group",
    "step count",
    "The scalars are those of the largest count in the group, not of the parameter's own.",
    drive(8, start=TWO, grads=without(1, (1, 2, 3))),
    (COUNT, 't = max(int(self.state.get(q, {}).get("step", 0)) for q in group["params"])'),
)
loop(
    "gradients_gathered_before_closure",
    "closure",
    "The gradients are gathered before the closure is called: each step uses those of the call before.",
    with_closure,
    (
        "        loss = None\n",
        '        loss = None\n        gathered = {p: p.grad for group in self.param_groups for p in group["params"]}\n',
    ),
    (TAKE, "                    grad = gathered.get(p)\n"),
)
loop(
    "tensor_lr_frozen_to_number",
    "plumbing",
    "At the first step a tensor lr is replaced by a number in its group: what the user writes into the tensor later is not seen.",
    drive(8, lr=torch.tensor(0.01, dtype=torch.float64), events={4: filled(0.1)}),
    (LR, 'if isinstance(group["lr"], Tensor):\n            group["lr"] = float(group["lr"])\n        ' + LR),
)
loop(
    "half_decay_overwritten",
    "dtype",
    "Decay is applied to the half parameter after its float32 copy was taken, so that the copy overwrites it.",
    drive(4, dtype=torch.bfloat16, decay=(0.5,), lr=0.25),
    (DECAY, "g = self.weight_decay(p if p.dtype in HALF else work, g, group)"),
)
loop(
    "max_kept_only_when_adaptive",
    "amsgrad",
    "The running maximum is used in every step but written back in adaptive ones only: a peak of the warm-up is forgotten.",
    drive(8, betas=(0.9, 0.99), grads=fading, amsgrad=True),
    (KEEP_MAX, ""),
    (
        SIZE,
        'if amsgrad and not self.defaults["differentiable"]:\n                as_real(state["max_exp_avg_sq"]).copy_(s)\n            '
        + SIZE,
    ),
)
loop(
    "setstate_refills_falsy",
    "state and resume",
    "After pickle, deepcopy or load, options of a group that are 0 or False are replaced by the constructor's.",
    drive(6, lr=0.1, groups=({"degenerated_to_sgd": False},), events={3: through_deepcopy}),
    ("group.setdefault(name, value)", "group[name] = group.get(name) or value"),
)
loop(
    "own_decay_lost_by_copy",
    "state and resume",
    "The weight decay object is not copied or pickled: a copy gets a plain WeightDecay, which is enough for the numbers in the groups.",
    own_decay_copied,
    ('return {**super().__getstate__(), "weight_decay": self.weight_decay}', "return super().__getstate__()"),
    (
        SETSTATE,
        SETSTATE + '        if "weight_decay" not in self.__dict__:\n            self.weight_decay = WeightDecay()\n',
    ),
)
loop(
    "step_in_parameter_dtype",
    "step count",
    "The count has the parameter's dtype: with bfloat16 it stays at 256, with float16 at 2048.",
    drive(6, dtype=torch.bfloat16, events={2: jumped(254)}),
    (ZERO_STEP, 'state["step"] = torch.zeros((), dtype=p.real.dtype)'),
)
loop(
    "step_hooks_not_run",
    "plumbing",
    "step is marked as hooked already, so that the base class never calls the hooks of the user.",
    hooked,
    ("    def _state(self, p", "    step.hooked = True\n\n    def _state(self, p"),
)
loop(
    "half_max_rounded_on_load",
    "state and resume",
    "The maximum is forgotten in the list of moments that are taken back as float32: for a half parameter it is rounded on load.",
    drive(8, dtype=torch.bfloat16, grads=fading, amsgrad=True, lr=0.1, events={4: reload}),
    ('MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")', 'MOMENTS = ("exp_avg", "exp_avg_sq")'),
)

# --- optimisations ---------------------------------------------------------------------------------------------------

loop(
    "hold_skips_moments",
    "degenerate branch",
    "Steps without an update (degenerated_to_sgd=False below the threshold) decay and count, but save themselves the moments.",
    drive(8, degenerated_to_sgd=False),
    (
        'm = as_real(state["exp_avg"])',
        'if not group["degenerated_to_sgd"] and rectification(beta2, int(state["step"]) + 1, group["threshold"]) is None:\n'
        "            self.weight_decay(as_real(p), as_real(grad.to(p.dtype)), group)\n"
        '            state["step"] += 1\n'
        "            return\n"
        '        m = as_real(state["exp_avg"])',
    ),
)
loop(
    "r_cached_without_threshold",
    "threshold",
    "r_t is cached for each beta2 and step, whatever the threshold: the first group decides the branch for all.",
    drive(6, start=TWO, groups=({"threshold": 5.0}, {"threshold": 4.0})),
    (
        CALL,
        'known = self.__dict__.setdefault("known", {})\n'
        "        if (beta2, t) not in known:\n"
        '            known[beta2, t] = rectification(beta2, t, group["threshold"])\n'
        "        r = known[beta2, t]",
    ),
)
loop(
    "bias2_one_after_10000",
    "bias correction",
    "After step 10000 the second moment's bias correction is skipped, which is wrong by 2e-5 with 0.999 and by 20% with 0.9999.",
    drive(4, events={2: jumped(10_000)}),
    (BIAS2, "bias2 = 1.0 if t > 10_000 else 1.0 - beta2**t"),
)
loop(
    "scratch_keyed_by_shape",
    "precision",
    "The buffer of the denominator is shared by shape, not by dtype: a float64 parameter after a float32 one of its shape gets a float32 denominator.",
    drive(8, start=(torch.tensor([0.5, -1.0, 2.0]), torch.tensor([0.25, 3.0, -2.0], dtype=torch.float64))),
    (
        DENOMINATOR,
        'scratch = self.__dict__.setdefault("scratch", {})\n'
        "            key = (s.device, s.shape)\n"
        "            if key not in scratch:\n"
        "                scratch[key] = torch.empty_like(s)\n"
        '            if self.defaults["differentiable"]:\n'
        "                denominator = s.sqrt() + e\n"
        "            else:\n"
        "                denominator = torch.sqrt(s, out=scratch[key]).add_(e)",
    ),
)
loop(
    "running_power",
    "bias correction",
    "beta1^t is a running product beside the state: after a resume it starts anew, and a change of beta1 does not reach its past.",
    drive(8, events={5: reload}),
    (
        BIAS1,
        'powers = self.__dict__.setdefault("powers", {})\n'
        "        powers[p] = powers.get(p, 1.0) * beta1\n"
        "        bias1 = 1.0 - powers[p]",
    ),
)
loop(
    "decay_factor_cached",
    "weight decay",
    "The factor of the decay is cached for each coefficient: a later lr does not reach it.",
    drive(8, lr=0.1, decay=(0.1,), events={4: set_option(lr=0.01)}),
    (
        ABSOLUTE,
        'factors = self.__dict__.setdefault("factors", {})\n'
        '        key = (coefficient, group.get("absolute", self.absolute))\n'
        "        if key not in factors:\n"
        "            factors[key] = 1.0 - coefficient if key[1] else 1.0 - lr * coefficient\n"
        "        factor = factors[key]",
    ),
)
loop(
    "tail_of_large_tensor",
    "layout",
    "Contiguous tensors of more than 32768 elements are updated in blocks of 64; what is left over after the last is not updated in adaptive steps.",
    drive(7, start=(torch.linspace(-1.0, 1.0, 32_803, dtype=torch.float64),)),
    (
        ADAPT,
        "if work.numel() > 2**15 and work.is_contiguous() and m.is_contiguous():\n"
        "                whole = work.numel() // 64 * 64\n"
        "                work.view(-1)[:whole].addcdiv_(m.view(-1)[:whole], denominator.view(-1)[:whole], value=-size)\n"
        "            else:\n"
        "                " + ADAPT,
    ),
)
loop(
    "flattened_copy_in_warm_up",
    "layout",
    "The SGD update goes to the flattened parameter, which is a copy where the parameter is not contiguous.",
    drive(4, start=TRANSPOSED),
    (SGD, "work.reshape(-1).add_(m.reshape(-1), alpha=-size)"),
)
loop(
    "sparse_check_once",
    "gradient handling",
    "Once a step has been taken the layouts of the gradients are no longer checked: a later sparse gradient is met in mid-step.",
    sparse_in_third_step,
    (
        "if p.grad is not None and p.grad.layout",
        'if "checked" not in self.__dict__ and p.grad is not None and p.grad.layout',
    ),
    (STEP_ONE, "self.checked = True\n                    " + STEP_ONE),
)
loop(
    "lr_zero_early_exit",
    "only then",
    "At lr = 0 the whole step is skipped, moments and count included.",
    drive(8, lr=0.0, events={4: set_option(lr=0.01)}),
    (BETAS, "if lr == 0.0:\n            return\n        " + BETAS),
)
loop(
    "active_parameters_cached",
    "plumbing",
    "Which parameters have gradients is found out in the first step and again only when the number of parameters changes.",
    drive(6, start=TWO, grads=without(1, (1, 2))),
    (
        TAKE,
        '                    every = [q for own in self.param_groups for q in own["params"]]\n'
        '                    active = self.__dict__.setdefault("active", {})\n'
        "                    if len(every) not in active:\n"
        "                        active[len(every)] = {id(q) for q in every if q.grad is not None}\n"
        "                    if id(p) not in active[len(every)]:\n"
        "                        continue\n" + TAKE,
    ),
)
loop(
    "single_group_eps_from_defaults",
    "eps",
    "With a single group eps is read from the constructor's defaults: one that is set in the group or loaded is ignored.",
    drive(8, eps=0.1, events={3: reload}),
    (EPS, 'eps = self.defaults["eps"] if len(self.param_groups) == 1 else group["eps"]\n'),
)
loop(
    "large_double_v_in_float32",
    "precision",
    "The second moment of float64 parameters of more than 4096 elements is kept in float32.",
    drive(8, start=(torch.linspace(-1.0, 1.0, 4_100, dtype=torch.float64),)),
    (
        ZERO_V,
        'state["exp_avg_sq"] = torch.zeros_like(p, dtype=torch.float32 if p.dtype == torch.float64 and p.numel() > 4096 else dtype)',
    ),
)
loop(
    "one_element_eps_only_at_zero",
    "eps",
    "The denominator of a tensor of one element has eps only where the root is 0.",
    drive(8, start=((0.5,),), eps=1e-2),
    (DENOMINATOR, "denominator = torch.where(s == 0.0, e, s.sqrt()) if s.numel() == 1 else s.sqrt() + e"),
)
loop(
    "tiny_decay_skipped",
    "weight decay",
    "Decay is skipped where lr * weight_decay is below 1e-8, absolute decay included, whose factor is far from 1 then.",
    drive(4, lr=1e-7, decay=(0.01, True, True)),
    (ABSOLUTE, "if lr * coefficient < 1e-8:\n            return grad\n        " + ABSOLUTE),
)

# --- planted ---------------------------------------------------------------------------------------------------------

loop(
    "decay_with_lr_of_step_before",
    "weight decay",
    "Decay uses the lr of the step before; only a schedule shows it.",
    drive(8, lr=0.1, decay=(0.1,), events={4: set_option(lr=0.01)}),
    (
        DECAY,
        'before = self.__dict__.setdefault("before", {})\n'
        '        g = self.weight_decay(work, g, {**group, "lr": before.get(p, lr)})\n'
        "        before[p] = lr",
    ),
)
loop(
    "beta1_zero_without_l2",
    "moments",
    "With beta1 = 0 the L2 term reaches the second moment only.",
    drive(8, betas=(0.0, 0.999), decay=(0.1, False)),
    (DECAY, "raw = g\n        " + DECAY),
    (M, "m.mul_(beta1).add_(raw if beta1 == 0.0 else g, alpha=1.0 - beta1)"),
)
loop(
    "huge_variance_capped",
    "only then",
    "A finite second moment above 1e24 counts as 1e24: gradients far above 1e12 make too large steps.",
    drive(8, grads=scaled(1e15), degenerated_to_sgd=False),
    (DENOMINATOR, "denominator = torch.where(s.isinf(), s, s.clamp(max=1e24)).sqrt() + e"),
)
loop(
    "tensor_lr_through_float32",
    "precision",
    "A float64 tensor lr is read through float32 for the update.",
    drive(8, lr=torch.tensor(1e-3, dtype=torch.float64)),
    (
        LR,
        'given = group["lr"]\n        lr = float(given.to(torch.float32) if isinstance(given, Tensor) else given)\n        beta1',
    ),
)
loop(
    "momentum_fades_while_absent",
    "moments",
    "After more than two steps in a row without a gradient, the first moment has faded by beta1 for each of them.",
    drive(10, start=TWO, grads=without(1, (4, 5, 6))),
    ("        loss = None\n", '        loss = None\n        self.calls = self.__dict__.get("calls", 0) + 1\n'),
    (
        V_OF,
        V_OF + '\n        latest = self.__dict__.setdefault("latest", {})\n'
        "        missed = self.calls - 1 - latest.get(p, self.calls - 1)\n"
        "        latest[p] = self.calls\n"
        '        if missed > 2 and not self.defaults["differentiable"]:\n'
        "            m.mul_(beta1**missed)",
    ),
)
loop(
    "later_groups_keep_threshold_on_load",
    "state and resume",
    "On load, groups after the first keep their own threshold.",
    drive(10, start=TWO, groups=({}, {"threshold": 8.0}), events={3: reload}),
    (
        LOAD,
        'own_thresholds = [group["threshold"] for group in self.param_groups]\n        '
        + LOAD
        + '\n        for group, value in list(zip(self.param_groups, own_thresholds, strict=True))[1:]:\n            group["threshold"] = value',
    ),
)
loop(
    "l2_of_transposed",
    "layout",
    "L2 regularisation of a parameter that is not contiguous reads its elements in the order of memory.",
    drive(4, start=TRANSPOSED, decay=(0.1, False)),
    (
        L2,
        "return grad + coefficient * (param if param.is_contiguous() else param.as_strided(param.shape, torch.empty(param.shape).stride()))",
    ),
)
loop(
    "scalar_without_maximum",
    "amsgrad",
    "A parameter without dimensions has no running maximum: its amsgrad is none.",
    drive(8, start=(0.5,), betas=(0.9, 0.9), grads=fading, amsgrad=True),
    (RUNNING_MAX, "        s = v\n        if amsgrad and p.dim() > 0:\n"),
)
loop(
    "power_by_exp_near_one",
    "rectification",
    "For beta2 above 0.99995 the power in rho_t is exp(-t (1 - beta2)), which makes rho_t about 1 too large.",
    drive(10, betas=(0.9, 0.99998)),
    (POWER, "power = beta2**t if beta2 <= 0.99995 else math.exp(-t * (1.0 - beta2))\n"),
)
loop(
    "complex_maximize_after_l2",
    "maximize",
    "With complex parameters, maximize negates after L2 regularisation, which then grows the parameter.",
    drive(8, start=COMPLEX, decay=(0.1, False), maximize=True),
    (
        FLIP,
        '        late = group["maximize"] and p.is_complex()\n        if group["maximize"] and not late:\n            g = -g\n',
    ),
    (DECAY, DECAY + "\n        if late:\n            g = -g"),
)
loop(
    "maximum_goes_on_while_off",
    "amsgrad",
    "A running maximum in the state goes on while amsgrad is off, and a peak of that time counts when it is on again.",
    drive(8, grads=fading, amsgrad=True, events={2: set_option(amsgrad=False), 4: set_option(amsgrad=True)}),
    (
        RUNNING_MAX,
        '        if not amsgrad and "max_exp_avg_sq" in state:\n'
        '            state["max_exp_avg_sq"] = torch.maximum(state["max_exp_avg_sq"], state["exp_avg_sq"]) if not p.is_complex() else torch.view_as_complex(torch.maximum(as_real(state["max_exp_avg_sq"]), v))\n'
        + RUNNING_MAX,
    ),
)
loop(
    "paper_eps_uncorrected_after_1000",
    "eps",
    "With optimized_update=False, eps loses its bias correction after step 1000.",
    drive(4, eps=0.1, optimized_update=False, events={2: jumped(1000)}),
    (E_LINE, 'e = eps if group["optimized_update"] or t > 1000 else eps * math.sqrt(bias2)'),
)
loop(
    "maximum_restarts_each_1000",
    "amsgrad",
    "At every 1000th step the running maximum starts again from the second moment.",
    drive(7, betas=(0.9, 0.9), grads=fading, amsgrad=True, events={4: jumped(998)}),
    (RUNNING_MAX, '        s = v\n        if amsgrad and (int(state["step"]) + 1) % 1000 != 0:\n'),
)
loop(
    "absolute_times_tensor_lr",
    "weight decay",
    "Where lr is a tensor, absolute decay is multiplied by it all the same.",
    drive(4, lr=torch.tensor(0.01), decay=(0.01, True, True)),
    (ABSOLUTE, ABSOLUTE.replace("self.absolute) else", 'self.absolute) and not isinstance(group["lr"], Tensor) else')),
)
