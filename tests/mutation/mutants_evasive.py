"""Mutants with mistakes that show in rare uses: two optimizers in turn, a copy with its model, a load in mid-run."""

from __future__ import annotations

import contextlib
import copy
import gc
import weakref
from collections.abc import Callable
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
    set_option,
    wave,
)

MUTANTS: list[Mutant] = []

loop = adding(MUTANTS, "right_loop")
foreach = adding(MUTANTS, "right_foreach")
adam = adding(MUTANTS, "right_adam")

# The texts of right_loop that edits aim at.
ADDED = "        super().add_param_group(param_group)\n"
BRANCH = "not rho >= threshold:"
CALLED = "                loss = closure()\n"
CHECKED = "        check_group({**self.defaults, **param_group})\n"
GETSTATE = "    def __getstate__(self)"
HALVES = "HALF = (torch.float16, torch.bfloat16)\n"
IS_NEW = '        if "step" not in state:\n'
L2 = "            return grad + coefficient * param\n"
LOAD = "        super().load_state_dict(state_dict)\n"
LOSS = "        loss = None\n"
MADE = "        state = self.state[p]\n"
MATH = "import math\n"
MAXIMIZE = '        if group["maximize"]:\n'
OWN = "            own = self.state[p]\n"
RATE = '        lr = float(group["lr"])\n        beta1, beta2'
R_CALL = '        r = rectification(beta2, t, group["threshold"])\n'
R_HEAD = "def rectification(beta2: float, t: int, threshold: float)"
RESTORE_MAX = '            if amsgrad:\n                state["max_exp_avg_sq"] = restore(s)\n'
RHO_INF = "    rho_inf = 2.0 / (1.0 - beta2) - 1.0\n"
SHRINK = "        param.mul_(factor)\n"
SIZE = "            size = r * lr * math.sqrt(bias2) / bias1\n"
STEPPING = (
    "            for group in self.param_groups:\n"
    '                for p in group["params"]:\n'
    "                    grad = p.grad\n"
)
STEP_ONE = "    def _step_one(self"
WITH_GRAPH = 'torch.set_grad_enabled(self.defaults["differentiable"])'
WRITTEN = "            p.copy_(work)\n"
ZERO_V = '            state["exp_avg_sq"] = torch.zeros_like(p, dtype=dtype)\n'

# Those of right_foreach.
F_CLOSURE = "        if closure is None:\n            loss = None\n"
F_DECAY = "self.weight_decay(p, g, group) for p, g in zip"
F_HALF = "def moment_dtype(p: torch.Tensor)"
F_INIT = "        super().__init__(params, options)\n"
F_LISTS = "        for (_, _, t), items in buckets.items():\n            self._step_list(items, t, group)\n"
F_LOAD = "        super().load_state_dict(state_dict)\n"
F_PENALTY = 'return 0.0 if group.get("weight_decouple", self.weight_decouple) else rate\n'
F_RETURN = "        return loss\n"
F_SAVED = 'saved = [state_dict["state"].get(i) for group in state_dict["param_groups"] for i in group["params"]]\n'
F_SIZE = "size = lr * (r * sqrt(bias2) / bias1)\n"
F_STATELESS = "            if values is None:\n"
F_VALIDATED = "        self.validate({**self.defaults, **param_group})\n"

# Those of right_adam.
A_CALLED = "            with torch.enable_grad():\n                loss = closure()\n"
A_CLASS = "class Adam(torch.optim.Optimizer):\n"
A_DECAY = "        if decay != 0.0:\n"
A_INIT = "        super().__init__(params, options)\n"
A_LOSS = "        loss = None\n"
A_MATH = "import math\n"
A_SAVED = 'state_dict["state"].get(i, {})'
A_STEP = "    @torch.no_grad()\n    def step("
A_UPDATE = "        work.addcdiv_(m, denominator, value=-lr / bias1)\n"
A_WIDE = "            g = grad.to(torch.float32)\n"

ONE = (0.0, 0.5, -1.0, 2.0)
TWO = (ONE, (1.5, -0.25, 3.0))
ALIKE = (ONE, (1.5, -0.25, 3.0, 1.0))
THREE = (ONE, (1.5, -0.25, 3.0), (0.75, 2.0))
FIVE_DIMS = (
    torch.arange(1.0, 49.0, dtype=torch.float64)
    .reshape(2, 3, 2, 2, 2)
    .contiguous(memory_format=torch.channels_last_3d),
)
PLAIN: list[dict[str, Any]] = [{}, {}]


def parameter(values: Any = ONE, dtype: torch.dtype = torch.float64) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor(values, dtype=dtype))


def steps(optimizer: Any, params: list[Any], first: int, last: int) -> None:
    """Steps with gradients that the number of the step gives."""
    for t in range(first, last + 1):
        for index, p in enumerate(params):
            p.grad = wave(t, index, p)
        optimizer.step()


def from_step(starts: tuple[int, ...]) -> Callable[[int, int, Tensor], Tensor | None]:
    """Each parameter has gradients from a step of its own on."""
    return lambda t, index, param: wave(t, index, param) if t >= starts[index] else None


def trained_only(t: int, index: int, param: Tensor) -> Tensor | None:
    """Frozen parameters have no gradient."""
    return wave(t, index, param) if param.requires_grad else None


def jumped(count: int) -> Event:
    """As if so many steps had been taken."""

    def event(run: Run) -> None:
        run.state()["step"].fill_(float(count))

    return event


# --- events ----------------------------------------------------------------------------------------------------------


def rate_written_past_version(run: Run) -> None:
    run.groups[0]["lr"].data.mul_(0.25)


def rate_written(run: Run) -> None:
    run.groups[0]["lr"].fill_(0.01)


def frozen_joined(run: Run) -> None:
    """A late group with a parameter that is to be trained later."""
    late = torch.nn.Parameter(torch.tensor([0.75, -2.0], dtype=torch.float64), requires_grad=False)
    run.optimizer.add_param_group({"params": [late]})
    run.params.append(late)


def unfrozen(run: Run) -> None:
    for p in run.params:
        p.requires_grad_(True)


def joined(run: Run) -> None:
    """A late group, without options of its own."""
    late = parameter((0.75, -2.0))
    run.optimizer.add_param_group({"params": [late]})
    run.params.append(late)


def loaded_without_maximum(run: Run) -> None:
    """A file of a run that had no AMSGrad, into an optimizer that has it."""
    saved = copy.deepcopy(run.optimizer.state_dict())
    for values in saved["state"].values():
        del values["max_exp_avg_sq"]
    run.optimizer.load_state_dict(saved)


def loaded_again(run: Run) -> None:
    run.optimizer.load_state_dict(copy.deepcopy(run.optimizer.state_dict()))


def ids_exchanged(run: Run) -> None:
    """A file whose parameters have been put into another order by their numbers."""
    saved = copy.deepcopy(run.optimizer.state_dict())
    saved["param_groups"][0]["params"].reverse()
    run.optimizer.load_state_dict(saved)


def betas_as_list(run: Run) -> None:
    run.groups[0]["betas"] = [0.9, 0.99]


def list_changed(run: Run) -> None:
    run.groups[0]["betas"][1] = 0.999


def own_value_in_state(run: Run) -> None:
    run.state()["average"] = torch.tensor([3.0])


def count_emptied(run: Run) -> None:
    """The warm-up is to begin again, with the moments as they are."""
    run.state()["step"].zero_()


def state_emptied(run: Run) -> None:
    run.optimizer.state.clear()


def rate_noted(run: Run) -> None:
    """As a scheduler does."""
    for group in run.groups:
        group["initial_lr"] = group["lr"]


def note_options(run: Run) -> None:
    run.notes["options"] = sorted(key for key in run.groups[0] if key != "params")


# --- scenarios with more than one run --------------------------------------------------------------------------------


def rolled_back_in_closure(module: Module) -> Observation:
    """A closure that goes back to a saved state, where lr was another."""
    p = parameter()
    optimizer = optimizer_of(module)([p], lr=0.1)
    steps(optimizer, [p], 1, 6)
    saved = copy.deepcopy(optimizer.state_dict())
    optimizer.param_groups[0]["lr"] = 0.5
    steps(optimizer, [p], 7, 8)

    def closure() -> float:
        optimizer.load_state_dict(saved)
        p.grad = wave(9, 0, p)
        return 0.0

    optimizer.step(closure)
    return {"p": p.detach()}


def several_results_of_closure(module: Module) -> Observation:
    p = parameter()
    p.grad = wave(1, 0, p)
    return {"result": optimizer_of(module)([p], lr=0.1).step(lambda: (1.5, "logits"))}


def rate_of_twin_written(module: Module) -> Observation:
    optimizer = optimizer_of(module)([parameter()], lr=torch.tensor(0.1, dtype=torch.float64))
    twin = copy.deepcopy(optimizer)
    twin.param_groups[0]["lr"].fill_(0.5)
    return {"lr": float(optimizer.param_groups[0]["lr"])}


def copied_with_its_parameter(module: Module) -> Observation:
    """Model and optimizer are copied in one go: the copied optimizer steps the copied model."""
    p = parameter()
    optimizer = optimizer_of(module)([p], lr=0.1)
    steps(optimizer, [p], 1, 3)
    q, twin = copy.deepcopy((p, optimizer))
    steps(twin, [q], 4, 6)
    return {"q": q.detach()}


def complex_by_differentiable_steps(module: Module) -> Observation:
    p = torch.tensor([0.5 - 1.0j, 2.0 + 0.25j], dtype=torch.complex128)
    optimizer = optimizer_of(module)([p], lr=0.1, amsgrad=True, differentiable=True)
    for t in range(1, 9):
        p.grad = fading(t, 0, p)
        optimizer.step()
    return {"p": p, "maximum": optimizer.state[p]["max_exp_avg_sq"]}


def derivative_by_start(module: Module) -> Observation:
    """The derivative of a step with L2 decay, by the parameter before it."""
    start = torch.tensor(ONE, dtype=torch.float64, requires_grad=True)
    p = start.clone()
    p.retain_grad()
    decay = module.WeightDecay(0.3, False)
    optimizer = optimizer_of(module)([p], lr=0.1, weight_decay=decay, differentiable=True)
    p.grad = wave(1, 0, start).detach()
    optimizer.step()
    (derivative,) = torch.autograd.grad(p.sum(), start)
    return {"derivative": derivative}


def two_optimizers_in_turn(module: Module) -> Observation:
    """Two optimizers of one parameter take steps in turn."""
    p = parameter()
    first, second = (optimizer_of(module)([p], lr=lr) for lr in (0.1, 0.05))
    for t in range(1, 9):
        p.grad = wave(t, 0, p)
        first.step()
        p.grad = wave(t, 5, p)
        second.step()
    return {"p": p.detach(), "v": first.state[p]["exp_avg_sq"]}


def loaded_as_it_began(module: Module) -> Observation:
    """State is saved before the first step, a trial run taken, and the saved state loaded: as a search for lr does."""
    p = parameter()
    optimizer = optimizer_of(module)([p], lr=0.1)
    saved = copy.deepcopy(optimizer.state_dict())
    optimizer.param_groups[0]["lr"] = 0.5
    steps(optimizer, [p], 1, 6)
    optimizer.load_state_dict(saved)
    with torch.no_grad():
        p.copy_(torch.tensor(ONE, dtype=torch.float64))
    steps(optimizer, [p], 1, 3)
    return {"p": p.detach(), "count": float(optimizer.state[p]["step"])}


def gradients_with_graph(module: Module) -> Observation:
    p = parameter()
    optimizer = optimizer_of(module)([p], lr=0.1)
    for _ in range(3):
        (p.grad,) = torch.autograd.grad((p**3).sum(), p, create_graph=True)
        optimizer.step()
    return {"p": p.detach().clone(), "recorded": optimizer.state[p]["exp_avg"].requires_grad}


def named(module: Module) -> Observation:
    optimizer = optimizer_of(module)([("weight", parameter())], lr=0.1)
    return {"names": optimizer.state_dict()["param_groups"][0].get("param_names")}


def group_of_generator(module: Module) -> Observation:
    p = parameter()
    optimizer = optimizer_of(module)([{"params": (q for q in [p])}], lr=0.1)
    steps(optimizer, [p], 1, 3)
    return {"p": p.detach()}


def graph_from_before_step(module: Module) -> Observation:
    """A graph that has saved the parameter's value is used after the value has changed: autograd has to refuse that."""
    p = parameter(dtype=torch.bfloat16)
    optimizer = optimizer_of(module)([p], lr=0.1)
    loss = (p * p).sum()
    p.grad = wave(1, 0, p)
    optimizer.step()
    try:
        torch.autograd.grad(loss, p)
    except RuntimeError:
        return {"refused": True}
    return {"refused": False}


class Exempting:
    """A decay of one's own, that leaves some parameters out."""

    def __init__(self, exempt: list[Tensor]) -> None:
        self.exempt = {id(p) for p in exempt}

    def defaults(self) -> dict[str, Any]:
        return {}

    def __call__(self, param: Tensor, grad: Tensor, group: dict[str, Any]) -> Tensor:
        if id(param) not in self.exempt:
            param.mul_(0.9)
        return grad


def one_exempt(module: Module) -> Observation:
    p, q = parameter(), parameter()
    optimizer = optimizer_of(module)([p, q], lr=0.1, weight_decay=Exempting([q]))
    steps(optimizer, [p, q], 1, 3)
    return {"p": p.detach(), "q": q.detach()}


def after_failed_closure(module: Module) -> Observation:
    p = parameter()
    optimizer = optimizer_of(module)([p], lr=0.1)
    steps(optimizer, [p], 1, 2)

    def closure() -> float:
        raise ValueError("no more data")

    with contextlib.suppress(ValueError):
        optimizer.step(closure)
    steps(optimizer, [p], 3, 4)
    return {"p": p.detach()}


def dropped(module: Module) -> Observation:
    """Are parameters freed when nobody uses the optimizer any more?"""
    p = parameter()
    optimizer = optimizer_of(module)([p], lr=0.1)
    steps(optimizer, [p], 1, 1)
    there = weakref.ref(optimizer)
    del p, optimizer
    gc.collect()
    return {"freed": there() is None}


def scaled_for_half(module: Module) -> Observation:
    """Two steps with torch's GradScaler, the second with an overflow: it has to be left out."""
    p = parameter(dtype=torch.float32)
    optimizer = optimizer_of(module)([p], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for factor in (1.0, float("inf")):
        optimizer.zero_grad()
        (p.grad,) = torch.autograd.grad(scaler.scale((p * factor).sum()), p)
        scaler.step(optimizer)
        scaler.update()
    return {"p": p.detach(), "m": optimizer.state[p]["exp_avg"]}


def one_file_for_two(module: Module) -> Observation:
    """Two optimizers load one file that lies in memory."""
    p = parameter()
    optimizer = optimizer_of(module)([p], lr=0.1)
    steps(optimizer, [p], 1, 3)
    saved = copy.deepcopy(optimizer.state_dict())
    seen = {}
    for name in ("first", "second"):
        q = parameter()
        twin = optimizer_of(module)([q], lr=0.1)
        twin.load_state_dict(saved)
        steps(twin, [q], 4, 5)
        seen[name] = q.detach()
    return seen


def clipped_past_version(module: Module) -> Observation:
    """One gradient tensor, into which every step's numbers are written through .data, as older code does."""
    p = parameter(dtype=torch.bfloat16)
    optimizer = optimizer_of(module)([p], lr=0.1)
    gradient = torch.zeros_like(p)
    p.grad = gradient
    for t in range(1, 6):
        gradient.data.copy_(wave(t, 0, p))
        optimizer.step()
    return {"p": p.detach()}


def one_in_closure_of_other(module: Module) -> Observation:
    """A closure in which another optimizer takes a step: a critic's, say."""
    p, q = parameter(), parameter()
    outer, inner = optimizer_of(module)([p], lr=0.1), optimizer_of(module)([q], lr=0.1)

    def closure() -> float:
        q.grad = wave(1, 1, q)
        inner.step()
        p.grad = wave(1, 0, p)
        return 0.0

    outer.step(closure)
    return {"p": p.detach(), "q": q.detach()}


def frozen_before_zero_grad(module: Module) -> Observation:
    p = parameter()
    optimizer = optimizer_of(module)([p], lr=0.1)
    p.grad = wave(1, 0, p)
    p.requires_grad_(False)
    optimizer.zero_grad()
    return {"emptied": p.grad is None}


def plain_tensor(module: Module) -> Observation:
    x = torch.tensor(ONE, dtype=torch.float64, requires_grad=True)
    optimizer = optimizer_of(module)([x], lr=0.1, weight_decay=0.2)
    steps(optimizer, [x], 1, 3)
    return {"x": x.detach()}


# --- rectification, threshold, step size -----------------------------------------------------------------------------

loop(
    "threshold_at_most_rho_inf",
    "threshold",
    "A threshold above rho_inf is lowered to it: when rho_t has grown to rho_inf, after hundreds of steps, it makes "
    "steps adaptive that should never be.",
    drive(betas=(0.9, 0.9), threshold=25.0, events={3: jumped(500)}),
    (BRANCH, "not rho >= min(threshold, rho_inf):"),
)
loop(
    "rho_inf_kept_with_betas",
    "rectification",
    "rho_inf is computed again when the group has another betas object: a list that is changed in place keeps the old "
    "one.",
    drive(14, lr=0.1, events={1: betas_as_list, 8: list_changed}),
    (R_HEAD, "def rectification(beta2: float, t: int, threshold: float, rho_inf: float)"),
    (RHO_INF, ""),
    (
        R_CALL,
        '        limits = self.__dict__.setdefault("_limits", {})\n'
        '        if p not in limits or limits[p][0] is not group["betas"]:\n'
        '            limits[p] = (group["betas"], 2.0 / (1.0 - beta2) - 1.0)\n'
        '        r = rectification(beta2, t, group["threshold"], limits[p][1])\n',
    ),
)
loop(
    "settled_size_kept",
    "only then",
    "When both corrections have become 1, the step size of a group is computed for the last time: a later lr does not "
    "count.",
    drive(lr=0.1, events={3: jumped(50000), 6: set_option(lr=0.01)}),
    (
        SIZE,
        f"{SIZE}"
        "            if bias1 == 1.0 and bias2 == 1.0:\n"
        '                size = self.__dict__.setdefault("_settled", {}).setdefault(id(group), size)\n',
    ),
)
foreach(
    "foreach_equal_betas_cancel",
    "bias correction",
    "With equal betas the two corrections are taken to cancel in adaptive steps, though one is under a root.",
    drive(20, betas=(0.9, 0.9)),
    (F_SIZE, "size = lr * r if beta1 == beta2 else lr * (r * sqrt(bias2) / bias1)\n"),
)
foreach(
    "foreach_two_ages_only",
    "step count",
    "The parameters of a group are its oldest or newcomers: with three ages, the one in the middle counts as the "
    "youngest.",
    drive(10, start=THREE, grads=from_step((1, 3, 6))),
    (
        F_LISTS,
        "        ages = [t for _, _, t in buckets]\n"
        "        for (_, _, t), items in buckets.items():\n"
        "            self._step_list(items, t if t == max(ages) else min(ages), group)\n",
    ),
)

# --- weight decay ----------------------------------------------------------------------------------------------------

loop(
    "decay_factor_of_zero_taken_for_none",
    "weight decay",
    "A factor of decay that is exactly 0 is taken for no decay.",
    drive(decay=(1.0, True, True), lr=0.1),
    (SHRINK, "        if factor:\n            param.mul_(factor)\n"),
)
loop(
    "l2_without_derivative",
    "weight decay",
    "With differentiable=True nothing flows back to the parameter through the L2 term.",
    derivative_by_start,
    (L2, "            return grad + coefficient * param.detach()\n"),
)
foreach(
    "foreach_no_l2_at_rate_zero",
    "weight decay",
    "At lr = 0 the L2 term does not enter the moments either.",
    drive(lr=0.1, decay=(0.2, False), events={1: set_option(lr=0.0), 3: set_option(lr=0.1)}),
    (
        F_PENALTY,
        'decoupled = group.get("weight_decouple", self.weight_decouple)\n'
        '        return 0.0 if decoupled or float(group["lr"]) == 0.0 else rate\n',
    ),
)
foreach(
    "foreach_own_decay_gets_other_tensor",
    "weight decay",
    "A decay of one's own gets a detached tensor for the parameter: it cannot tell which one it is.",
    one_exempt,
    (F_DECAY, "self.weight_decay(p.detach(), g, group) for p, g in zip"),
)
adam(
    "adam_plain_tensors_not_decayed",
    "weight decay",
    "A tensor that is not an nn.Parameter is not decayed.",
    plain_tensor,
    (A_DECAY, "        if decay != 0.0 and isinstance(p, torch.nn.Parameter):\n"),
)

# --- AMSGrad, maximize -----------------------------------------------------------------------------------------------

loop(
    "complex_maximum_of_differentiable_not_kept",
    "amsgrad",
    "With differentiable=True the maximum of a complex parameter is used but not kept.",
    complex_by_differentiable_steps,
    (RESTORE_MAX, RESTORE_MAX.replace("if amsgrad:", "if amsgrad and not p.is_complex():")),
)
loop(
    "maximum_survives_load",
    "amsgrad",
    "A loaded state is merged into the present one: a maximum that the file lacks stays.",
    drive(12, lr=0.1, amsgrad=True, grads=fading, events={5: loaded_without_maximum}),
    (
        LOAD,
        "        before = {p: dict(own) for p, own in self.state.items()}\n"
        f"{LOAD}"
        "        for p, own in self.state.items():\n"
        "            self.state[p] = {**before.get(p, {}), **own}\n",
    ),
)
loop(
    "switch_of_maximize_turns_momentum",
    "maximize",
    "When maximize is switched in mid-run the momentum changes its sign.",
    drive(lr=0.1, events={5: set_option(maximize=True)}),
    (
        MAXIMIZE,
        '        signs = self.__dict__.setdefault("_signs", {})\n'
        '        if signs.setdefault(p, group["maximize"]) != group["maximize"]:\n'
        "            m.neg_()\n"
        '            signs[p] = group["maximize"]\n'
        f"{MAXIMIZE}",
    ),
)

# --- lr and other options --------------------------------------------------------------------------------------------

loop(
    "tensor_rate_read_by_version",
    "plumbing",
    "A tensor lr is read again when its version has changed: what is written through .data is not seen.",
    drive(lr=torch.tensor(0.1, dtype=torch.float64), events={4: rate_written_past_version}),
    (
        STEP_ONE,
        "    def _rate(self, lr: Any) -> float:\n"
        "        if not isinstance(lr, Tensor):\n"
        "            return float(lr)\n"
        '        held = self.__dict__.get("_held")\n'
        "        if held is None or held[0] is not lr or held[1] != lr._version:\n"
        "            held = self._held = (lr, lr._version, float(lr))\n"
        "        return held[2]\n\n"
        f"{STEP_ONE}",
    ),
    (RATE, '        lr = self._rate(group["lr"])\n        beta1, beta2'),
)
foreach(
    "foreach_later_groups_copy_tensor_rate",
    "plumbing",
    "All groups but the first get a copy of a tensor lr: what is written into the tensor does not reach them.",
    drive(start=TWO, groups=PLAIN, lr=torch.tensor(0.1, dtype=torch.float64), events={4: rate_written}),
    (
        F_VALIDATED,
        f"{F_VALIDATED}"
        '        lr = param_group.get("lr", self.defaults["lr"])\n'
        "        if self.param_groups and isinstance(lr, torch.Tensor):\n"
        '            param_group = {**param_group, "lr": lr.clone()}\n',
    ),
)
adam(
    "adam_claims_to_unscale",
    "plumbing",
    "The optimizer says that it divides by the scale of a GradScaler and leaves overflows out by itself, and does "
    "neither.",
    scaled_for_half,
    (A_INIT, f"{A_INIT}        self._step_supports_amp_scaling = True\n"),
)

# --- groups ----------------------------------------------------------------------------------------------------------

loop(
    "late_frozen_left_out",
    "plumbing",
    "Parameters that are frozen when their group is added in mid-run are left out of it: they are never trained.",
    drive(lr=0.1, grads=trained_only, events={3: frozen_joined, 5: unfrozen}),
    (
        CHECKED,
        f"{CHECKED}"
        "        if self.state:\n"
        '            listed = param_group["params"]\n'
        "            listed = [listed] if isinstance(listed, Tensor) else list(listed)\n"
        '            param_group = {**param_group, "params": [p for p in listed if p.requires_grad]}\n',
    ),
)
loop(
    "generator_of_group_used_up",
    "plumbing",
    "A check goes through the parameters of a group before they are listed: a group that was given as a generator is "
    "empty afterwards.",
    group_of_generator,
    (
        CHECKED,
        f"{CHECKED}"
        '        listed = param_group["params"]\n'
        "        if not isinstance(listed, Tensor) and any(getattr(p, 'is_sparse', False) for p in listed):\n"
        '            raise ValueError("RAdam does not support sparse parameters")\n',
    ),
)
loop(
    "names_of_parameters_dropped",
    "plumbing",
    "The names of named parameters are not kept: they are missing in the file.",
    named,
    (ADDED, f'{ADDED}        self.param_groups[-1].pop("param_names", None)\n'),
)
foreach(
    "foreach_load_overwrites_defaults",
    "state and resume",
    "load_state_dict also writes the first group's options to the optimizer's defaults: a group that is added later "
    "begins with the lr that a schedule had arrived at.",
    drive(lr=0.1, events={3: set_option(lr=0.001), 4: loaded_again, 5: joined}),
    (
        F_LOAD,
        f"{F_LOAD}"
        "        first = self.param_groups[0]\n"
        "        self.defaults.update({key: first[key] for key in self.defaults if key in first})\n",
    ),
)
foreach(
    "foreach_load_drops_extra_options",
    "state and resume",
    "load_state_dict keeps the options that the optimizer knows: what the user or a scheduler has in the groups is "
    "lost.",
    drive(events={3: rate_noted, 5: reload}, watch=note_options),
    (
        F_LOAD,
        f"{F_LOAD}"
        "        for group in self.param_groups:\n"
        '            for key in group.keys() - self.defaults.keys() - {"params", "param_names"}:\n'
        "                del group[key]\n",
    ),
)

# --- closures, steps within steps ------------------------------------------------------------------------------------

loop(
    "groups_taken_before_closure",
    "closure",
    "The list of groups is taken before the closure is called: if the closure loads a state, the options from before "
    "are used.",
    rolled_back_in_closure,
    (LOSS, f"{LOSS}        groups = self.param_groups\n"),
    (STEPPING, STEPPING.replace("self.param_groups", "groups")),
)
loop(
    "first_of_what_closure_returns",
    "closure",
    "If the closure returns a tuple, step() returns the first of it.",
    several_results_of_closure,
    (CALLED, f"{CALLED}            loss = loss[0] if isinstance(loss, tuple) else loss\n"),
)
foreach(
    "foreach_failed_step_is_the_last",
    "closure",
    "A mark that a step is going on stays after an error: all later steps are refused.",
    after_failed_closure,
    (
        F_CLOSURE,
        '        if self.__dict__.get("_stepping", False):\n'
        '            raise RuntimeError("step() within step()")\n'
        "        self._stepping = True\n"
        f"{F_CLOSURE}",
    ),
    (F_RETURN, f"        self._stepping = False\n{F_RETURN}"),
)
adam(
    "adam_no_step_within_any_closure",
    "closure",
    "While a closure runs, the steps of other optimizers of the class do nothing: the mark against steps within steps "
    "belongs to the class.",
    one_in_closure_of_other,
    (A_CLASS, f"{A_CLASS}    _in_closure = False\n\n"),
    (A_LOSS, f"{A_LOSS}        if Adam._in_closure:\n            return None\n"),
    (
        A_CALLED,
        "            Adam._in_closure = True\n"
        "            try:\n"
        "                with torch.enable_grad():\n"
        "                    loss = closure()\n"
        "            finally:\n"
        "                Adam._in_closure = False\n",
    ),
)

# --- state: copied, shared, dropped ----------------------------------------------------------------------------------

loop(
    "deepcopy_shares_tensor_rate",
    "state and resume",
    "A deepcopy shares a tensor lr with the original: a schedule that writes into one moves both.",
    rate_of_twin_written,
    (MATH, f"import copy\n{MATH}"),
    (
        GETSTATE,
        "    def __deepcopy__(self, memo: dict[int, Any]) -> RAdam:\n"
        '        memo.update({id(g["lr"]): g["lr"] for g in self.param_groups if isinstance(g["lr"], Tensor)})\n'
        "        twin = self.__class__.__new__(self.__class__)\n"
        "        memo[id(self)] = twin\n"
        "        twin.__setstate__(copy.deepcopy(self.__getstate__(), memo))\n"
        "        return twin\n\n"
        f"{GETSTATE}",
    ),
)
loop(
    "deepcopy_by_pickle",
    "state and resume",
    "A deepcopy is made by pickle: when model and optimizer are copied together, the copied optimizer steps parameters "
    "that are not the copied model's.",
    copied_with_its_parameter,
    (MATH, f"{MATH}import pickle\n"),
    (
        GETSTATE,
        "    def __deepcopy__(self, memo: dict[int, Any]) -> RAdam:\n"
        "        return pickle.loads(pickle.dumps(self))\n\n"
        f"{GETSTATE}",
    ),
)
loop(
    "second_optimizer_takes_buffer",
    "state and resume",
    "The buffer of v is kept for each parameter, and emptied for a new optimizer: two optimizers of one parameter "
    "write into the same.",
    two_optimizers_in_turn,
    (
        HALVES,
        f"from torch.utils.weak import WeakTensorKeyDictionary\n\n{HALVES}BUFFERS: Any = WeakTensorKeyDictionary()\n",
    ),
    (
        ZERO_V,
        "            buffer = BUFFERS.get(p)\n"
        "            if buffer is None or (buffer.shape, buffer.dtype, buffer.device) != (p.shape, dtype, p.device):\n"
        "                buffer = BUFFERS[p] = torch.zeros_like(p, dtype=dtype)\n"
        '            state["exp_avg_sq"] = buffer.zero_()\n',
    ),
)
loop(
    "emptied_state_lives_on",
    "state and resume",
    "The state of a parameter is looked up once: when the user empties optimizer.state to begin anew, the old moments "
    "stay in use.",
    drive(lr=0.1, events={5: state_emptied}),
    (MADE, '        state = self.__dict__.setdefault("_states", {}).setdefault(p, self.state[p])\n'),
    (LOAD, f'{LOAD}        self.__dict__.pop("_states", None)\n'),
)
loop(
    "count_of_zero_taken_for_no_state",
    "state and resume",
    "A count of 0 is taken for a missing one: who sets it back, to warm up again, loses the moments too.",
    drive(lr=0.1, events={5: count_emptied}),
    (IS_NEW, '        if not state.get("step"):\n'),
)
foreach(
    "foreach_optimizers_registered",
    "memory",
    "Every optimizer is kept in a list of the module: it is never freed, nor are its parameters and state.",
    dropped,
    (F_HALF, f"OPTIMIZERS: list[Optimizer] = []\n\n\n{F_HALF}"),
    (F_INIT, f"{F_INIT}        OPTIMIZERS.append(self)\n"),
)

# --- state: loaded ---------------------------------------------------------------------------------------------------

loop(
    "load_of_state_without_steps_ignored",
    "state and resume",
    "A state that was saved before the first step is taken for none: loading it changes nothing.",
    loaded_as_it_began,
    (LOAD, f'        if not state_dict["state"]:\n            return\n{LOAD}'),
)
loop(
    "load_drops_other_state",
    "state and resume",
    "load_state_dict keeps the values of the state that RAdam knows: what the user has put there is lost.",
    drive(events={3: own_value_in_state, 5: reload}),
    (
        OWN,
        '            known = ("step", *MOMENTS)\n'
        "            own = self.state[p] = {key: x for key, x in self.state[p].items() if key in known}\n",
    ),
)
foreach(
    "foreach_load_by_number",
    "state and resume",
    "Loaded states are dealt out by the numbers 0, 1, 2, not by those which the file's groups list: a file that was "
    "put into another order is loaded in the old one.",
    drive(start=ALIKE, lr=0.1, events={5: ids_exchanged}),
    (F_SAVED, 'saved = [state_dict["state"].get(i) for i in range(len(params))]\n'),
)
foreach(
    "foreach_load_counts_for_all",
    "state and resume",
    "A parameter that has no state in the file gets an empty one with the largest count of the others.",
    drive(10, start=TWO, lr=0.1, grads=from_step((1, 7)), events={5: reload}),
    (
        F_STATELESS,
        f"{F_STATELESS}"
        '                counts = [int(other["step"]) for other in saved if other]\n'
        "                if counts:\n"
        '                    self.state[p]["step"] = max(counts)\n'
        '                    self.state[p]["exp_avg"] = torch.zeros_like(p, dtype=moment_dtype(p))\n'
        '                    self.state[p]["exp_avg_sq"] = torch.zeros_like(p, dtype=moment_dtype(p))\n',
    ),
)
adam(
    "adam_load_empties_file",
    "state and resume",
    "load_state_dict takes the states out of the dict that it is given: who loads it a second time gets none.",
    one_file_for_two,
    (A_SAVED, 'state_dict["state"].pop(i, {})'),
)

# --- gradients, layout, dtype ----------------------------------------------------------------------------------------

loop(
    "gradient_with_graph_fails",
    "gradient handling",
    "If a gradient has a graph (create_graph=True), autograd records the step, and refuses it.",
    gradients_with_graph,
    (
        WITH_GRAPH,
        "torch.set_grad_enabled(\n"
        '            self.defaults["differentiable"]\n'
        '            or any(getattr(p.grad, "requires_grad", False) for g in self.param_groups for p in g["params"])\n'
        "        )",
    ),
)
loop(
    "half_written_past_version",
    "gradient handling",
    "A half parameter is written through .data: autograd does not notice that a graph from before the step is out of "
    "date.",
    graph_from_before_step,
    (WRITTEN, "            p.data.copy_(work)\n"),
)
adam(
    "adam_frozen_keep_gradient",
    "gradient handling",
    "zero_grad() passes over frozen parameters: their gradient is still there when they are trained again.",
    frozen_before_zero_grad,
    (
        A_STEP,
        "    def zero_grad(self, set_to_none: bool = True) -> None:\n"
        "        for group in self.param_groups:\n"
        '            for p in group["params"]:\n'
        "                if p.requires_grad and p.grad is not None:\n"
        "                    if set_to_none:\n"
        "                        p.grad = None\n"
        "                    else:\n"
        "                        p.grad.detach_().zero_()\n\n"
        f"{A_STEP}",
    ),
)
adam(
    "adam_wide_gradient_kept_by_version",
    "dtype",
    "The float32 copy of a half gradient is used again while .grad is the same tensor in the same version: what is "
    "written through .data is not seen.",
    clipped_past_version,
    (A_MATH, f"{A_MATH}import weakref\n"),
    (
        A_WIDE,
        '            held = self.__dict__.setdefault("_wide", {}).get(p)\n'
        "            if held is None or held[0]() is not grad or held[1] != grad._version:\n"
        "                held = self._wide[p] = (weakref.ref(grad), grad._version, grad.to(torch.float32))\n"
        "            g = held[2]\n",
    ),
)
adam(
    "adam_five_dimensions_in_copy",
    "layout",
    "A tensor of more than four dimensions is moved as a matrix, which is a copy if it lies in another order, such as "
    "channels_last_3d.",
    drive(start=FIVE_DIMS),
    (
        A_UPDATE,
        "        rows = (x.flatten(1) if x.dim() > 4 else x for x in (work, m, denominator))\n"
        "        target, *ratio = rows\n"
        "        target.addcdiv_(*ratio, value=-lr / bias1)\n",
    ),
)
