"""Mutants of the optimizer as an object: options and groups, state and its files, closures, validation."""

# Edits quote source text, which reads better unbroken.
# ruff: noqa: E501

from __future__ import annotations

import copy
import inspect
import pickle
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
    refusal_of,
    reload,
    scaled,
    set_option,
    through_deepcopy,
    through_pickle,
)
from tests.mutation.mutants_numbers import (
    CALL,
    DECAY,
    E_LINE,
    ELIF,
    FLIP,
    INCREMENT,
    LR,
    STATE,
)

MUTANTS: list[Mutant] = []


loop = adding(MUTANTS, "right_loop")
foreach = adding(MUTANTS, "right_foreach")

# --- plumbing --------------------------------------------------------------------------------------------------------

PAIR = ((0.0, 0.5, -1.0), (1.0, -0.25))
BETAS = 'beta1, beta2 = group["betas"]'
EPS = 'eps = group["eps"]'
AMSGRAD = 'amsgrad = group["amsgrad"]\n'
NAMED = "values = {**(defaults or {}), **named}"
COEFFICIENT = 'coefficient = group.get("weight_decay", self.weight_decay)'
SUPER_INIT = "        super().__init__(params, values)\n"
SUPER_ADD = "        super().add_param_group(param_group)\n"


def two(first: dict[str, Any], second: dict[str, Any], **hyper: Any) -> Scenario:
    """Two groups, whose options differ from one another and from the defaults."""
    return drive(12, start=PAIR, groups=(first, second), **hyper)


LRS = two({"lr": 0.1}, {"lr": 1e-3}, lr=0.01)
GROUP_BETAS = two({"betas": (0.9, 0.9)}, {"betas": (0.5, 0.99)})
EPSS = two({"eps": 1e-8}, {"eps": 1e-2}, eps=1e-4)
THRESHOLDS = two({"threshold": 4.0}, {"threshold": 6.0}, betas=(0.9, 0.9))
AMSGRADS = two({"amsgrad": False}, {"amsgrad": True}, betas=(0.9, 0.9), grads=fading)
SGDS = two({"degenerated_to_sgd": True}, {"degenerated_to_sgd": False})
OPTIMIZED = two({"optimized_update": True}, {"optimized_update": False}, eps=1e-2)
MAXIMIZES = two({"maximize": False}, {"maximize": True})
DECAYS = two({"weight_decay": 0.1}, {"weight_decay": 0.0}, lr=0.1)
FIRST = "self.param_groups[0]"

loop(
    "lr_from_defaults",
    "plumbing",
    "A group's own lr is not used.",
    LRS,
    (LR, LR.replace('group["lr"]', 'self.defaults["lr"]')),
)
loop("lr_of_first_group", "plumbing", "The first group's lr serves all.", LRS, (LR, LR.replace("group", FIRST)))
loop(
    "lr_of_last_group",
    "plumbing",
    "The last group's lr serves all.",
    LRS,
    (LR, LR.replace("group", "self.param_groups[-1]")),
)
loop(
    "lr_at_construction",
    "plumbing",
    "lr is read once: schedulers have no effect.",
    drive(events={4: set_option(lr=0.1)}),
    (LR, LR.replace('float(group["lr"])', 'float(group.setdefault("first_lr", group["lr"]))')),
)
loop(
    "lr_one_step_late",
    "plumbing",
    "A new lr has effect one step later.",
    drive(events={4: set_option(lr=0.1)}),
    (LR, 'lr = group.get("used_lr", float(group["lr"]))\n        group["used_lr"] = float(group["lr"])\n        beta1'),
)
loop(
    "betas_from_defaults",
    "plumbing",
    "A group's own betas are not used.",
    GROUP_BETAS,
    (BETAS, 'beta1, beta2 = self.defaults["betas"]'),
)
loop(
    "betas_of_first_group",
    "plumbing",
    "The first group's betas serve all.",
    GROUP_BETAS,
    (BETAS, f'beta1, beta2 = {FIRST}["betas"]'),
)
loop(
    "betas_at_construction",
    "plumbing",
    "betas are read once.",
    drive(12, betas=(0.9, 0.9), events={7: set_option(betas=(0.5, 0.9))}),
    (BETAS, 'beta1, beta2 = group.setdefault("first_betas", group["betas"])'),
)
loop(
    "beta2_at_construction_in_scalars",
    "plumbing",
    "r_t keeps the beta2 of the first step.",
    drive(12, betas=(0.9, 0.9), events={7: set_option(betas=(0.9, 0.99))}),
    (CALL, CALL.replace("beta2", 'group.setdefault("first_beta2", beta2)')),
)
loop(
    "scalars_shared_by_groups",
    "plumbing",
    "r_t is cached by t alone and shared by groups with other betas.",
    GROUP_BETAS,
    (
        CALL,
        'cache = self.__dict__.setdefault("cache", {})\n        if t not in cache:\n            cache[t] = rectification(beta2, t, group["threshold"])\n        r = cache[t]',
    ),
)
loop(
    "scalars_cached_for_ten_steps",
    "plumbing",
    "The buffer of the authors: r_t by t modulo 10, renewed when t changes, shared by all.",
    GROUP_BETAS,
    (
        CALL,
        'buffer = self.__dict__.setdefault("buffer", [(None, None)] * 10)\n        if buffer[t % 10][0] != t:\n            buffer[t % 10] = (t, rectification(beta2, t, group["threshold"]))\n        r = buffer[t % 10][1]',
    ),
)
loop("eps_from_defaults", "plumbing", "A group's own eps is not used.", EPSS, (EPS, 'eps = self.defaults["eps"]'))
loop("eps_of_first_group", "plumbing", "The first group's eps serves all.", EPSS, (EPS, f'eps = {FIRST}["eps"]'))
loop(
    "threshold_from_defaults",
    "plumbing",
    "A group's own threshold is not used.",
    THRESHOLDS,
    (CALL, CALL.replace('group["threshold"]', 'self.defaults["threshold"]')),
)
loop(
    "threshold_of_first_group",
    "plumbing",
    "The first group's threshold serves all.",
    THRESHOLDS,
    (CALL, CALL.replace('group["threshold"]', f'{FIRST}["threshold"]')),
)
loop(
    "amsgrad_from_defaults",
    "plumbing",
    "A group's own amsgrad is not used.",
    AMSGRADS,
    (AMSGRAD, 'amsgrad = self.defaults["amsgrad"] and "max_exp_avg_sq" in self.state[p]\n'),
)
loop(
    "sgd_from_defaults",
    "plumbing",
    "A group's own degenerated_to_sgd is not used.",
    SGDS,
    (ELIF, 'elif self.defaults["degenerated_to_sgd"]:'),
)
loop(
    "sgd_of_first_group",
    "plumbing",
    "The first group's degenerated_to_sgd serves all.",
    SGDS,
    (ELIF, f'elif {FIRST}["degenerated_to_sgd"]:'),
)
loop(
    "optimized_from_defaults",
    "plumbing",
    "A group's own optimized_update is not used.",
    OPTIMIZED,
    (E_LINE, E_LINE.replace("group", "self.defaults")),
)
loop(
    "maximize_from_defaults",
    "plumbing",
    "A group's own maximize is not used.",
    MAXIMIZES,
    (FLIP, FLIP.replace('group["maximize"]', 'self.defaults["maximize"]')),
)
loop(
    "maximize_of_first_group",
    "plumbing",
    "The first group's maximize serves all.",
    MAXIMIZES,
    (FLIP, FLIP.replace('group["maximize"]', f'{FIRST}["maximize"]')),
)
loop(
    "decay_from_object",
    "plumbing",
    "A group's own coefficient is not used.",
    DECAYS,
    (COEFFICIENT, "coefficient = self.weight_decay"),
)
loop(
    "decay_from_defaults",
    "plumbing",
    "Decay is called with the defaults, not with the group.",
    two({"weight_decay": 0.1, "lr": 0.1}, {"weight_decay": 0.0}),
    (DECAY, DECAY.replace("group", "self.defaults")),
)
loop(
    "decay_of_first_group",
    "plumbing",
    "Decay is called with the first group.",
    DECAYS,
    (DECAY, DECAY.replace("group", FIRST)),
)
loop(
    "decay_rate_of_first_group",
    "plumbing",
    "Decay of every group uses the first group's lr.",
    two({"lr": 0.1}, {"lr": 0.01}, weight_decay=0.1),
    (DECAY, DECAY.replace("group)", f'{{**group, "lr": {FIRST}["lr"]}})')),
)
loop(
    "decay_rate_at_construction",
    "plumbing",
    "Decay keeps the lr of the constructor.",
    drive(weight_decay=0.1, lr=0.01, events={3: set_option(lr=0.1)}),
    (DECAY, DECAY.replace("group)", '{**group, "lr": self.defaults["lr"]})')),
)
loop(
    "float_decay_is_l2",
    "plumbing",
    "A plain number for weight_decay means L2.",
    drive(weight_decay=0.1, lr=0.1),
    ("weight_decay = WeightDecay(weight_decay)", "weight_decay = WeightDecay(weight_decay, weight_decouple=False)"),
)
loop(
    "float_decay_dropped",
    "plumbing",
    "A plain number for weight_decay is dropped.",
    drive(weight_decay=0.1, lr=0.1),
    ("weight_decay = WeightDecay(weight_decay)", "weight_decay = WeightDecay()"),
)
loop(
    "betas_shared_list",
    "plumbing",
    "When the first group's betas change, later groups follow.",
    drive(
        12,
        start=PAIR,
        groups=({}, {}),
        betas=(0.9, 0.9),
        events={6: lambda run: run.groups[0].update(betas=(0.5, 0.9))},
    ),
    (BETAS, f'beta1, beta2 = group["betas"] if group["betas"] != self.defaults["betas"] else {FIRST}["betas"]'),
)


def with_defaults(module: Module) -> Observation:
    given = {"lr": 5.0, "amsgrad": True, "note": "kept", "eps": 1.0, "threshold": 4.5, "weight_decay": 0.5}
    before = dict(given)
    p = torch.nn.Parameter(torch.ones(2))
    optimizer = module.RAdam([p], lr=0.01, defaults=given)
    group = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
    return {"unchanged": given == before, "note": group.get("note"), **{k: group[k] for k in before if k != "note"}}


loop(
    "defaults_win",
    "plumbing",
    "The defaults dict wins over named arguments.",
    with_defaults,
    (NAMED, "values = {**named, **(defaults or {})}"),
)
loop(
    "defaults_win_over_defaulted",
    "plumbing",
    "The defaults dict wins over arguments that were not given.",
    with_defaults,
    (
        NAMED,
        'values = {**(defaults or {}), **named}\n        for name in ("eps", "amsgrad"):\n            if defaults and name in defaults and named[name] in (1e-16, False):\n                values[name] = defaults[name]',
    ),
)
loop(
    "defaults_modified",
    "plumbing",
    "The caller's defaults dict is written to.",
    with_defaults,
    (NAMED, "values = {} if defaults is None else defaults\n        values.update(named)"),
)
loop(
    "defaults_dropped",
    "plumbing",
    "Extra keys of the defaults dict do not reach the groups.",
    with_defaults,
    (NAMED, "values = dict(named)"),
)
foreach(
    "foreach_decay_yields_to_defaults",
    "plumbing",
    "A weight_decay in the defaults dict wins over the argument's.",
    with_defaults,
    (
        "        options.update(self.weight_decay.defaults())\n",
        "        options = {**self.weight_decay.defaults(), **options}\n",
    ),
)


def signature(module: Module) -> Observation:
    """The parameters in their order, with their defaults."""
    parameters = inspect.signature(module.RAdam).parameters.values()
    shown = {
        str(i): f"{p.name} {p.kind.name} {'WeightDecay()' if p.name == 'weight_decay' else p.default}"
        for i, p in enumerate(parameters)
    }
    default = inspect.signature(module.RAdam).parameters["weight_decay"].default
    return {**shown, "decay": vars(default) if hasattr(default, "__dict__") else default}


OPT_AMS = "        optimized_update: bool = True,\n        amsgrad: bool = False,\n"
loop(
    "argument_order",
    "plumbing",
    "amsgrad and optimized_update change places among the positional arguments.",
    signature,
    (OPT_AMS, "        amsgrad: bool = False,\n        optimized_update: bool = True,\n"),
)
loop(
    "eps_and_betas_exchanged",
    "plumbing",
    "eps comes before betas in the constructor.",
    signature,
    (
        "        betas: tuple[float, float] = (0.9, 0.999),\n        eps: float = 1e-16,\n",
        "        eps: float = 1e-16,\n        betas: tuple[float, float] = (0.9, 0.999),\n",
    ),
)
loop(
    "default_eps_1e8",
    "plumbing",
    "eps defaults to 1e-8.",
    drive(grads=scaled(1e-8)),
    ("eps: float = 1e-16", "eps: float = 1e-8"),
)
loop(
    "default_lr_1e2",
    "plumbing",
    "lr defaults to 1e-2.",
    drive(),
    ("lr: float | Tensor = 1e-3", "lr: float | Tensor = 1e-2"),
)
loop("default_beta2_099", "plumbing", "beta2 defaults to 0.99.", drive(), ("= (0.9, 0.999)", "= (0.9, 0.99)"))
loop(
    "default_threshold_six",
    "plumbing",
    "threshold defaults to 6.",
    drive(),
    ("threshold: float = 5.0", "threshold: float = 6.0"),
)
loop(
    "default_not_sgd",
    "plumbing",
    "degenerated_to_sgd defaults to False.",
    drive(),
    ("degenerated_to_sgd: bool = True", "degenerated_to_sgd: bool = False"),
)
loop(
    "default_not_optimized",
    "plumbing",
    "optimized_update defaults to False.",
    drive(grads=scaled(1e-14)),
    ("optimized_update: bool = True", "optimized_update: bool = False"),
)
loop(
    "default_amsgrad",
    "plumbing",
    "amsgrad defaults to True.",
    drive(12, betas=(0.9, 0.9), grads=fading),
    ("amsgrad: bool = False", "amsgrad: bool = True"),
)
loop(
    "default_decay",
    "plumbing",
    "weight_decay defaults to a hundredth.",
    drive(lr=0.1),
    ("weight_decay: Any = WeightDecay(),", "weight_decay: Any = WeightDecay(1e-2),"),
)


def late(steps: int = 12, **options: Any) -> Scenario:
    """A group is added in mid-run."""

    def add(run: Run) -> None:
        run.params.append(torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64)))
        run.optimizer.add_param_group({"params": [run.params[-1]], **options})

    return drive(steps, lr=0.01, betas=(0.9, 0.9), events={4: add})


loop(
    "late_group_options_lost",
    "plumbing",
    "A late group's own options give way to the defaults.",
    late(lr=0.1, betas=(0.5, 0.95)),
    (
        SUPER_ADD,
        '        if hasattr(self, "param_groups") and self.param_groups:\n            param_group = {**param_group, **self.defaults}\n'
        + SUPER_ADD,
    ),
)
loop(
    "late_group_not_stepped",
    "plumbing",
    "A late group is not stepped.",
    late(),
    (SUPER_INIT, SUPER_INIT + "        self.first = len(self.param_groups)\n"),
    (
        '            for group in self.param_groups:\n                for p in group["params"]:\n                    grad',
        '            for group in self.param_groups[: getattr(self, "first", None)]:\n                for p in group["params"]:\n                    grad',
    ),
)
loop(
    "late_group_joins_clock",
    "plumbing",
    "A late group's parameters start with the count of the oldest.",
    late(),
    (
        'state["step"] = torch.tensor(0.0, dtype=torch.float32)',
        'state["step"] = torch.tensor(max((float(s["step"]) - 1 for s in self.state.values() if "step" in s), default=0.0), dtype=torch.float32)',
    ),
)
loop(
    "late_group_empties_state",
    "plumbing",
    "Adding a group drops the state of the others.",
    late(),
    (SUPER_ADD, SUPER_ADD + "        self.state.clear()\n"),
)
loop(
    "last_parameter_left_out",
    "plumbing",
    "The last parameter of the last group is left out when there are several.",
    drive(start=PAIR),
    (
        "                    grad = p.grad\n",
        '                    grad = None if len(group["params"]) > 1 and p is group["params"][-1] else p.grad\n',
    ),
)
loop(
    "groups_options_merged",
    "plumbing",
    "Options of a group leak into the groups after it.",
    two({"lr": 0.1}, {}, lr=0.01),
    (SUPER_ADD, SUPER_ADD + '        self.defaults["lr"] = param_group.get("lr", self.defaults["lr"])\n'),
)

# --- state and resume ------------------------------------------------------------------------------------------------

RESUME = drive(10, lr=0.05, betas=(0.9, 0.95), events={5: reload, 8: reload}, decay=(0.1,))
RESUME_AMS = drive(10, amsgrad=True, betas=(0.9, 0.9), grads=fading, events={5: reload})
RESUME_TWO = drive(10, start=PAIR, groups=({"lr": 0.1}, {"betas": (0.5, 0.9)}), events={5: reload})
RESUME_HALF = drive(12, dtype=torch.bfloat16, lr=0.05, events={5: reload, 8: reload})
LOADED = "        super().load_state_dict(state_dict)\n        indices"
KEEP = "if key in MOMENTS and p.dtype in HALF:"


def on_load(code: str) -> tuple[str, str]:
    """What happens right after the base class has loaded."""
    return LOADED, f"        super().load_state_dict(state_dict)\n{code}        indices"


loop(
    "load_loses_step",
    "state and resume",
    "The count starts anew after load_state_dict.",
    RESUME,
    (
        "                    own[key] = value.clone()",
        '                    own[key] = torch.zeros_like(value) if key == "step" else value.clone()',
    ),
)
loop(
    "load_loses_momentum",
    "state and resume",
    "m is empty after load_state_dict.",
    RESUME,
    (
        "                    own[key] = value.clone()",
        '                    own[key] = torch.zeros_like(value) if key == "exp_avg" else value.clone()',
    ),
)
loop(
    "load_loses_v",
    "state and resume",
    "v is empty after load_state_dict.",
    RESUME,
    (
        "                    own[key] = value.clone()",
        '                    own[key] = torch.zeros_like(value) if key == "exp_avg_sq" else value.clone()',
    ),
)
loop(
    "load_loses_maximum",
    "state and resume",
    "The maximum is empty after load_state_dict.",
    RESUME_AMS,
    (
        "                    own[key] = value.clone()",
        '                    own[key] = torch.zeros_like(value) if key == "max_exp_avg_sq" else value.clone()',
    ),
)
loop(
    "load_loses_everything",
    "state and resume",
    "load_state_dict takes the groups only.",
    RESUME,
    on_load("        self.state.clear()\n"),
    ("            own = self.state[p]\n", "            own = self.state.get(p, {})\n"),
)
loop(
    "load_keeps_own_lr",
    "state and resume",
    "After load_state_dict the optimizer keeps its own lr.",
    RESUME,
    (
        LOADED,
        '        rates = [group["lr"] for group in self.param_groups]\n        super().load_state_dict(state_dict)\n        for group, rate in zip(self.param_groups, rates, strict=True):\n            group["lr"] = rate\n        indices',
    ),
)
loop(
    "load_keeps_own_betas",
    "state and resume",
    "After load_state_dict the optimizer keeps its own betas.",
    RESUME,
    (
        LOADED,
        '        own = [group["betas"] for group in self.param_groups]\n        super().load_state_dict(state_dict)\n        for group, betas in zip(self.param_groups, own, strict=True):\n            group["betas"] = betas\n        indices',
    ),
)
loop(
    "load_halves_moments",
    "state and resume",
    "The float32 moments of half parameters stay cast to the parameter's dtype, as the base class leaves them.",
    RESUME_HALF,
    (KEEP, "if False:"),
)
loop(
    "load_halves_then_widens",
    "state and resume",
    "The moments of half parameters come back as float32, but rounded.",
    RESUME_HALF,
    ('value = state_dict["state"][i][key].to(p.device, torch.float32)', "value = value.to(torch.float32)"),
)
loop(
    "load_halves_v",
    "state and resume",
    "Only m of half parameters is kept in float32.",
    RESUME_HALF,
    (KEEP, 'if key == "exp_avg" and p.dtype in HALF:'),
)
loop(
    "load_through_float32",
    "state and resume",
    "Loaded float64 moments pass through float32.",
    RESUME,
    ("own[key] = value.clone()", "own[key] = value.float().to(value.dtype)"),
)
loop(
    "load_second_parameter_empty",
    "state and resume",
    "Only the first parameter of a group gets its state.",
    drive(10, start=PAIR, events={5: reload}),
    on_load(
        '        for group in self.param_groups:\n            for other in group["params"][1:]:\n                self.state.pop(other, None)\n'
    ),
    ("            own = self.state[p]\n", "            own = self.state.get(p, {})\n"),
)
loop(
    "load_resets_later_groups",
    "state and resume",
    "After load_state_dict the counts of all groups but the first are one.",
    RESUME_TWO,
    on_load(
        '        for group in self.param_groups[1:]:\n            for other in group["params"]:\n                self.state[other]["step"] = torch.tensor(1.0)\n'
    ),
)
loop(
    "load_turns_amsgrad_off",
    "state and resume",
    "amsgrad is off after load_state_dict.",
    RESUME_AMS,
    on_load('        for group in self.param_groups:\n            group["amsgrad"] = self.defaults["amsgrad"]\n'),
)
loop(
    "load_repeats_step",
    "state and resume",
    "The last step is counted again after load_state_dict.",
    RESUME,
    (
        "                    own[key] = value.clone()",
        '                    own[key] = value - 1 if key == "step" else value.clone()',
    ),
)


def loaded_twice(module: Module) -> Observation:
    """Two optimizers resumed from one dict that has gone through a file must not depend on each other, nor on the dict."""
    ps = [torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2)]
    first = module.RAdam([ps[0]], lr=0.1)
    ps[0].grad = torch.tensor([1.0, -2.0], dtype=torch.float64)
    first.step()
    saved = copy.deepcopy(first.state_dict())
    second = module.RAdam([ps[1]], lr=0.1)
    second.load_state_dict(saved)
    rates = [g["lr"] for g in (*first.param_groups, *second.param_groups, *saved["param_groups"])]
    second.param_groups[0]["lr"] = 5.0
    return {"rates": rates, "other": first.param_groups[0]["lr"], "m": second.state[ps[1]]["exp_avg"].clone()}


loop(
    "load_swaps_moments",
    "state and resume",
    "After load_state_dict m holds v.",
    loaded_twice,
    on_load('        for own in self.state.values():\n            own["exp_avg"] = own["exp_avg_sq"].clone()\n'),
)

PICKLED = drive(8, lr=0.1, decay=(0.1, False), events={4: through_pickle})
COPIED = drive(8, lr=0.1, decay=(0.1, False), events={4: through_deepcopy})
GETSTATE = 'return {**super().__getstate__(), "weight_decay": self.weight_decay}'
SETSTATE = "        super().__setstate__(state)\n"


def pickled_callable(module: Module) -> Observation:
    """A custom decay object goes through pickle with its own attributes."""
    p = torch.nn.Parameter(torch.ones(2))
    optimizer = module.RAdam([p], weight_decay=module.WeightDecay(0.1, False, True))
    again = pickle.loads(pickle.dumps(optimizer)).weight_decay
    return {"kind": type(again).__name__, "attributes": vars(again)}


def copy_apart(module: Module) -> Observation:
    """A deepcopy steps; the original must not notice."""
    p = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = module.RAdam([p], lr=0.1)
    p.grad = torch.tensor([1.0, -2.0], dtype=torch.float64)
    optimizer.step()
    other = copy.deepcopy(optimizer)
    q = other.param_groups[0]["params"][0]
    q.grad = torch.tensor([3.0, 0.5], dtype=torch.float64)
    other.param_groups[0]["lr"] = 7.0
    other.step()
    return {
        "p": p.detach().clone(),
        "lr": optimizer.param_groups[0]["lr"],
        "step": float(optimizer.state[p]["step"]),
        "m": optimizer.state[p]["exp_avg"].clone(),
    }


loop(
    "pickle_loses_decay",
    "state and resume",
    "The weight_decay object is lost by pickle and deepcopy: the next step fails.",
    PICKLED,
    (GETSTATE, "return super().__getstate__()"),
)
loop(
    "pickle_replaces_decay",
    "state and resume",
    "After pickle a default WeightDecay stands for the user's.",
    pickled_callable,
    (GETSTATE, 'return {**super().__getstate__(), "weight_decay": WeightDecay()}'),
)
loop(
    "pickle_drops_custom_decay",
    "state and resume",
    "After deepcopy the coefficients are back at the object's default of none.",
    COPIED,
    (
        SETSTATE,
        SETSTATE
        + '        if "defaults" in state:\n            for group in self.param_groups:\n                group["weight_decay"] = 0.0\n',
    ),
)
loop(
    "pickle_loses_state",
    "state and resume",
    "The state is lost by pickle and deepcopy.",
    PICKLED,
    (GETSTATE, 'return {**super().__getstate__(), "weight_decay": self.weight_decay, "state": type(self.state)(dict)}'),
)
loop(
    "pickle_rounds_state",
    "state and resume",
    "Pickle keeps float64 state as float32.",
    PICKLED,
    (
        SETSTATE,
        SETSTATE
        + '        if "defaults" in state:\n            for own in self.state.values():\n                for key in MOMENTS[:2]:\n                    own[key] = own[key].float().to(own[key].dtype)\n',
    ),
)
loop(
    "pickle_resets_groups",
    "state and resume",
    "After pickle every group has the constructor's values.",
    drive(8, lr=0.1, events={2: set_option(lr=0.01), 4: through_pickle}),
    (
        SETSTATE,
        SETSTATE
        + '        if "defaults" in state:\n            for group in self.param_groups:\n                group.update(self.defaults)\n',
    ),
)
loop(
    "deepcopy_shares_state",
    "state and resume",
    "A deepcopy shares the moments of the original.",
    copy_apart,
    (
        "    def __setstate__",
        "    def __deepcopy__(self, memo: dict[int, Any]) -> RAdam:\n        for own in self.state.values():\n            for value in own.values():\n                memo[id(value)] = value\n        other = type(self).__new__(type(self))\n        import copy\n\n        other.__setstate__(copy.deepcopy(self.__getstate__(), memo))\n        return other\n\n    def __setstate__",
    ),
)
loop(
    "deepcopy_shares_parameters",
    "state and resume",
    "A deepcopy steps the parameters of the original.",
    copy_apart,
    (
        "    def __setstate__",
        '    def __deepcopy__(self, memo: dict[int, Any]) -> RAdam:\n        for group in self.param_groups:\n            for p in group["params"]:\n                memo[id(p)] = p\n        other = type(self).__new__(type(self))\n        import copy\n\n        other.__setstate__(copy.deepcopy(self.__getstate__(), memo))\n        return other\n\n    def __setstate__',
    ),
)


def plain_dict(module: Module) -> Observation:
    """Does state_dict() hold tensors and primitives only, and everything that a step needs?"""
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    optimizer = module.RAdam([p], weight_decay=module.WeightDecay(0.1, False, True))
    optimizer.step()
    saved = optimizer.state_dict()
    allowed = (int, float, bool, str, tuple, list, dict, Tensor, type(None))
    own = saved["state"].get(0, {})
    strangers = [k for g in saved["param_groups"] for k, v in g.items() if not isinstance(v, allowed)]
    strangers += [k for k, v in own.items() if not isinstance(v, allowed)]
    return {
        "strangers": strangers,
        "state": sorted(own),
        "group": sorted(saved["param_groups"][0]),
        "shapes": [list(own[k].shape) for k in sorted(own) if k != "step"],
    }


loop(
    "object_in_groups",
    "state and resume",
    "The groups hold the WeightDecay object: the file no longer loads with weights_only.",
    plain_dict,
    (SUPER_ADD, '        param_group = {**param_group, "decay_object": self.weight_decay}\n' + SUPER_ADD),
)
loop(
    "state_renamed",
    "state and resume",
    "The moments bear other names than torch's.",
    plain_dict,
    ('MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")', 'MOMENTS = ("exp_avg", "second", "max_exp_avg_sq")'),
    ('state["exp_avg_sq"] = torch.zeros_like', 'state["second"] = torch.zeros_like'),
    ('v = as_real(state["exp_avg_sq"])', 'v = as_real(state["second"])'),
    ('state["exp_avg"], state["exp_avg_sq"] = restore', 'state["exp_avg"], state["second"] = restore'),
)
loop(
    "momentum_stored_corrected",
    "state and resume",
    "The state holds the corrected momentum.",
    drive(3),
    (INCREMENT, INCREMENT + '\n        state["exp_avg"] = state["exp_avg"] / (1.0 - beta1 ** float(state["step"]))'),
)
loop(
    "state_dict_empty",
    "state and resume",
    "state_dict() leaves the state out.",
    plain_dict,
    (
        "    def load_state_dict(self",
        '    def state_dict(self) -> dict[str, Any]:\n        return {**super().state_dict(), "state": {}}\n\n    def load_state_dict(self',
    ),
)
loop(
    "state_flattened",
    "state and resume",
    "The state of a matrix is flat.",
    drive(3, start=(torch.ones(2, 3, dtype=torch.float64),)),
    (
        '        m = as_real(state["exp_avg"])\n',
        '        state["exp_avg"] = state["exp_avg"].reshape(p.shape)\n        m = as_real(state["exp_avg"])\n',
    ),
    (
        INCREMENT,
        INCREMENT + '\n        state["exp_avg"] = state["exp_avg"].flatten() if p.dim() == 2 else state["exp_avg"]',
    ),
)
foreach(
    "foreach_load_restarts_count",
    "state and resume",
    "The count starts anew after load_state_dict.",
    RESUME,
    ('self.state[p]["step"] = int(values["step"])', 'self.state[p]["step"] = 0'),
)
foreach(
    "foreach_load_halves_moments",
    "state and resume",
    "Loading leaves the moments of half parameters cast.",
    RESUME_HALF,
    (
        "values[key].detach().to(p.device, moment_dtype(p), copy=True)",
        "values[key].detach().to(p.device, p.dtype, copy=True)",
    ),
)
foreach(
    "foreach_load_loses_maximum",
    "state and resume",
    "Loading drops the maximum.",
    RESUME_AMS,
    (
        '            self.state[p]["step"] = int(values["step"])',
        '            self.state[p].pop("max_exp_avg_sq", None)\n            self.state[p]["step"] = int(values["step"])',
    ),
)
foreach(
    "foreach_pickle_loses_decay",
    "state and resume",
    "Pickle keeps no weight_decay object.",
    PICKLED,
    ('        kept["weight_decay"] = self.weight_decay\n', ""),
)

# --- closure ---------------------------------------------------------------------------------------------------------


def closures(module: Module) -> Observation:
    """Three steps with a closure: calls, grad mode, what step returns, where the parameter goes."""
    p = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = module.RAdam([p], lr=0.1)
    calls = 0
    modes: list[bool] = []
    returned: list[Any] = []

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        modes.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = ((p - 3.0) ** 2).sum()
        loss.backward()
        return loss

    try:
        for _ in range(3):
            with torch.no_grad():
                loss = optimizer.step(closure)
            returned.append(None if loss is None else float(loss.detach()))
        optimizer.step()
        after = torch.is_grad_enabled()
    finally:
        torch.set_grad_enabled(True)
    return {"calls": calls, "modes": modes, "returned": returned, "p": p.detach().clone(), "mode after": after}


def closure_failing(module: Module) -> Observation:
    """An error in the closure reaches the caller, and nothing is stepped."""
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    optimizer = module.RAdam([p], lr=0.1)

    def closure() -> Tensor:
        raise KeyError("closure")

    try:
        optimizer.step(closure)
        error = "none"
    except KeyError:
        error = "KeyError"
    return {"error": error, "p": p.detach().clone()}


CLOSE = "            with torch.enable_grad():\n                loss = closure()\n"
loop(
    "closure_twice",
    "closure",
    "The closure is called twice.",
    closures,
    (CLOSE, CLOSE + "                loss = closure()\n"),
)
loop(
    "closure_without_grad",
    "closure",
    "The closure runs in the caller's grad mode.",
    closures,
    (CLOSE, "            loss = closure()\n"),
)
loop(
    "closure_loss_dropped",
    "closure",
    "step(closure) returns None.",
    closures,
    ("        return loss\n", "        return None\n"),
)
loop(
    "closure_loss_detached",
    "closure",
    "step(closure) returns a Python float for the loss tensor.",
    lambda module: {
        "type": type(module.RAdam([q := torch.nn.Parameter(torch.ones(1))]).step(lambda: (q * q).sum())).__name__
    },
    ("        return loss\n", "        return loss.item() if isinstance(loss, Tensor) else loss\n"),
)
loop("closure_ignored", "closure", "The closure is never called.", closures, (CLOSE, "            loss = None\n"))
loop(
    "closure_after_step",
    "closure",
    "The closure is called after the parameters have moved.",
    closures,
    ("        if closure is not None:\n" + CLOSE, ""),
    ("        return loss\n", "        if closure is not None:\n" + CLOSE + "        return loss\n"),
)
loop(
    "closure_gradient_before",
    "closure",
    "The gradients are collected before the closure computes them.",
    closures,
    (
        "        loss = None\n",
        '        loss = None\n        before = {p: p.grad for group in self.param_groups for p in group["params"]}\n',
    ),
    ("                    grad = p.grad\n", "                    grad = before[p]\n"),
)
loop(
    "closure_error_swallowed",
    "closure",
    "An error in the closure is swallowed and the step goes on.",
    closure_failing,
    (
        CLOSE,
        "            try:\n                with torch.enable_grad():\n                    loss = closure()\n            except Exception:\n                loss = None\n",
    ),
)
loop(
    "closure_loss_of_second_call",
    "closure",
    "The loss is computed again after the step and that one is returned.",
    closures,
    (
        "        return loss\n",
        "        if closure is not None:\n            with torch.enable_grad():\n                loss = closure()\n        return loss\n",
    ),
)
loop(
    "grad_mode_left_off",
    "closure",
    "step() leaves gradients switched off.",
    lambda module: closures(module) | grad_mode(module),
    (
        '        with torch.set_grad_enabled(self.defaults["differentiable"]):\n',
        "        torch.set_grad_enabled(False)\n        if True:\n",
    ),
)
loop(
    "grad_mode_left_on",
    "closure",
    "step(closure) leaves gradients switched on inside no_grad.",
    lambda module: grad_mode(module),
    (CLOSE, "            torch.set_grad_enabled(True)\n            loss = closure()\n"),
)
loop(
    "closure_zeroes_gradients",
    "closure",
    "The gradients are emptied before the closure is called.",
    lambda module: accumulating(module),
    (CLOSE, "            self.zero_grad()\n" + CLOSE),
)


def grad_mode(module: Module) -> Observation:
    """The grad mode after step, from either mode before."""
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    optimizer = module.RAdam([p])
    seen: Observation = {}
    try:
        for mode in (True, False):
            torch.set_grad_enabled(mode)
            optimizer.step(lambda: 0.0)
            seen[f"after {mode}"] = torch.is_grad_enabled()
    finally:
        torch.set_grad_enabled(True)
    return seen


def accumulating(module: Module) -> Observation:
    """A closure that adds to gradients which stand already."""
    p = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = module.RAdam([p], lr=0.1)
    p.grad = torch.tensor([1.0, -5.0], dtype=torch.float64)

    def closure() -> Tensor:
        loss = (p * p).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return {"p": p.detach().clone(), "grad": None if p.grad is None else p.grad.clone()}


# --- validation ------------------------------------------------------------------------------------------------------

NAN = float("nan")
LR_CHECK = "if not float(lr) >= 0.0:"
EPS_CHECK = 'if not group["eps"] >= 0.0:'
BETAS_CHECK = 'not all(0.0 <= beta < 1.0 for beta in group["betas"])'
DECAY_CHECK = "if not weight_decay >= 0.0:"
GROUP_DECAY_CHECK = 'if not group.get("weight_decay", 0.0) >= 0.0:'
CHECK_VALUES = "        check_group(values)\n"
CHECK_GROUP = "        check_group({**self.defaults, **param_group})\n"

loop(
    "negative_lr_accepted",
    "validation",
    "A negative lr is accepted.",
    refusal_of("lr", lr=-1e-3),
    (LR_CHECK, "if float(lr) != float(lr):"),
)
loop(
    "nan_lr_accepted",
    "validation",
    "An lr of NaN is accepted.",
    refusal_of("lr", lr=NAN),
    (LR_CHECK, "if float(lr) < 0.0:"),
)
loop(
    "negative_tensor_lr_accepted",
    "validation",
    "A negative tensor lr is accepted.",
    refusal_of("lr", lr=torch.tensor(-0.1)),
    (LR_CHECK, "if not isinstance(lr, Tensor) and not float(lr) >= 0.0:"),
)
loop("zero_lr_refused", "validation", "lr = 0 is refused.", attempt(lr=0.0), (LR_CHECK, "if not float(lr) > 0.0:"))
loop(
    "negative_eps_accepted",
    "validation",
    "A negative eps is accepted.",
    refusal_of("eps", eps=-1e-8),
    (EPS_CHECK, 'if group["eps"] != group["eps"]:'),
)
loop(
    "nan_eps_accepted",
    "validation",
    "An eps of NaN is accepted.",
    refusal_of("eps", eps=NAN),
    (EPS_CHECK, 'if group["eps"] < 0.0:'),
)
loop(
    "zero_eps_refused", "validation", "eps = 0 is refused.", attempt(eps=0.0), (EPS_CHECK, 'if not group["eps"] > 0.0:')
)
loop(
    "beta_of_one_accepted",
    "validation",
    "beta = 1 is accepted.",
    refusal_of("betas", betas=(0.9, 1.0)),
    (BETAS_CHECK, BETAS_CHECK.replace("< 1.0", "<= 1.0")),
)
loop(
    "beta1_of_one_accepted",
    "validation",
    "beta1 = 1 is accepted.",
    refusal_of("betas", betas=(1.0, 0.9)),
    (BETAS_CHECK, BETAS_CHECK.replace('group["betas"])', 'group["betas"][1:])')),
)
loop(
    "beta2_unchecked",
    "validation",
    "Only beta1 is checked.",
    refusal_of("betas", betas=(0.9, -0.1)),
    (BETAS_CHECK, BETAS_CHECK.replace('group["betas"])', 'group["betas"][:1])')),
)
loop(
    "nan_betas_accepted",
    "validation",
    "A beta of NaN is accepted.",
    refusal_of("betas", betas=(NAN, 0.999)),
    (BETAS_CHECK, 'any(beta < 0.0 or beta >= 1.0 for beta in group["betas"])'),
)
loop(
    "negative_beta_accepted",
    "validation",
    "A negative beta is accepted.",
    refusal_of("betas", betas=(-0.1, 0.999)),
    (BETAS_CHECK, BETAS_CHECK.replace("0.0 <= beta", "-1.0 < beta")),
)
loop(
    "beta1_zero_refused",
    "validation",
    "beta1 = 0 is refused.",
    attempt(betas=(0.0, 0.999)),
    (BETAS_CHECK, BETAS_CHECK.replace("0.0 <= beta", "0.0 < beta")),
)
loop(
    "negative_decay_accepted",
    "validation",
    "A negative weight_decay is accepted.",
    refusal_of("weight_decay", weight_decay=-0.1),
    (DECAY_CHECK, "if weight_decay != weight_decay:"),
    (GROUP_DECAY_CHECK, "if False:"),
)
loop(
    "nan_decay_accepted",
    "validation",
    "A weight_decay of NaN is accepted.",
    refusal_of("weight_decay", weight_decay=NAN),
    (DECAY_CHECK, "if weight_decay < 0.0:"),
    (GROUP_DECAY_CHECK, "if False:"),
)
loop(
    "lr_error_unnamed",
    "validation",
    "The error of a bad lr does not name it.",
    refusal_of("lr", lr=-1.0),
    ('f"lr must be at least 0, not {lr}"', '"a value is out of range"'),
)
loop(
    "lr_error_names_eps",
    "validation",
    "A bad eps is called lr.",
    refusal_of("eps", eps=-1.0),
    ('f"eps must be', 'f"lr must be'),
)
loop(
    "betas_error_of_other_type",
    "validation",
    "Bad betas are an AssertionError.",
    refusal_of("betas", betas=(0.9, 1.0)),
    ('raise ValueError(f"betas', 'raise AssertionError(f"betas'),
)
loop(
    "bad_values_clamped",
    "validation",
    "Bad values are clamped without a word.",
    refusal_of("lr", lr=-1.0),
    (
        CHECK_VALUES,
        '        if not isinstance(named["lr"], Tensor):\n            values["lr"] = max(0.0, values["lr"])\n'
        + CHECK_VALUES,
    ),
)
loop(
    "empty_list_accepted",
    "validation",
    "An empty list of parameters is accepted.",
    lambda module: empty_list(module),
    (SUPER_INIT, '        params = list(params) or [{"params": []}]\n' + SUPER_INIT),
)
loop(
    "lr_checked_at_step_only",
    "validation",
    "The constructor checks nothing; the first step does.",
    refusal_of("lr", lr=-1.0),
    (CHECK_VALUES, ""),
    (CHECK_GROUP, ""),
    (STATE, "check_group(group)\n        " + STATE),
)
foreach(
    "foreach_nan_accepted",
    "validation",
    "Comparisons that a NaN passes.",
    refusal_of("lr", lr=NAN),
    ('if not options["lr"] >= 0:', 'if options["lr"] < 0:'),
)
foreach(
    "foreach_betas_by_sum",
    "validation",
    "The betas are checked by their sum.",
    refusal_of("betas", betas=(1.0, 0.5)),
    ("if not 0 <= beta < 1:", 'if not 0 <= sum(options["betas"]) < 2:'),
)


def empty_list(module: Module) -> Observation:
    try:
        module.RAdam([])
    except ValueError:
        return {"refused": True}
    return {"refused": False}
