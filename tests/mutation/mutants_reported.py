"""Mutants modelled on mistakes that were reported of published optimizers; above each, where it was reported."""

from __future__ import annotations

import pickle
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
    attempt,
    drive,
    fading,
    optimizer_of,
    reload,
    set_option,
    through_pickle,
    wave,
)

MUTANTS: list[Mutant] = []

loop = adding(MUTANTS, "right_loop")
foreach = adding(MUTANTS, "right_foreach")
adam = adding(MUTANTS, "right_adam")

# The texts of right_loop that edits aim at.
ADAPT = "            work.addcdiv_(m, denominator, value=-size)\n"
ADAPTIVE = "        if r is not None:\n"
CLONED = "                    own[key] = value.clone()\n"
COUNT = 't = int(state["step"])'
DECAY = "g = self.weight_decay(work, g, group)"
DENOMINATOR = "            denominator = s.sqrt() + e\n"
EPS = 'eps = group["eps"]\n'
FILL = "                group.setdefault(name, value)\n"
INIT = "        super().__init__(params, values)\n"
IS_NEW = '        if "step" not in state:\n'
LOAD = "super().load_state_dict(state_dict)\n"
LOSS = "        loss = None\n"
MADE = "        state = self.state[p]\n"
SGD_SIZE = "size = lr / bias1\n"
SIZE = "size = r * lr * math.sqrt(bias2) / bias1\n"
STEP = "    def step(self, closure: Callable[[], Any] | None = None) -> Any:\n"
STEPPING = (
    "            for group in self.param_groups:\n"
    '                for p in group["params"]:\n'
    "                    grad = p.grad\n"
)
STEP_LAST = "                    self._step_one(p, grad, group)\n"
STEP_ONE = "    def _step_one(self"
ZERO_STEP = 'state["step"] = torch.tensor(0.0, dtype=torch.float32)\n'

# Those of right_foreach.
BUCKETS = "        buckets: dict[tuple[torch.device, torch.dtype, int], list[Item]] = defaultdict(list)\n"
COUNTED = '            state["step"] = int(state["step"]) + 1\n'
F_INIT = "        super().__init__(params, options)\n"
GETSTATE = "        kept = super().__getstate__()\n"
ITEM = "Item(p, p.grad.to(p.dtype), state)"
LERP = "torch._foreach_lerp_(ms, grads, 1 - beta1)"
LISTED = "        params = [item.param for item in items]\n"
MAXIMA = "            torch._foreach_maximum_(maxima, vs)\n"

# Those of right_adam.
A_BIAS1 = "bias1 = 1.0 - beta1**t\n"
A_BIAS2 = "bias2 = 1.0 - beta2**t\n"
A_DECAY = "        if decay != 0.0:\n"
A_DENOMINATOR = '        denominator = s.sqrt().div_(math.sqrt(bias2)).add_(group["eps"])\n'
A_INIT = "        super().__init__(params, options)\n"
A_IS_NEW = '        if "step" not in state:\n'
A_KEEP_MAX = "            torch.maximum(s, v, out=s)\n"
A_L2 = "                g = g + decay * work\n"
A_M = "        m.mul_(beta1).add_(g, alpha=1.0 - beta1)\n"
A_MAX = '            state["max_exp_avg_sq"] = torch.zeros_like(p, dtype=dtype)\n'
A_PARAMS = 'params = [p for group in self.param_groups for p in group["params"]]\n'
A_SETSTATE = "    def __setstate__(self, state"
A_UPDATE = "        work.addcdiv_(m, denominator, value=-lr / bias1)\n"
A_V = "        v.mul_(beta2).addcmul_(g, g, value=1.0 - beta2)\n"

ONE = (0.0, 0.5, -1.0, 2.0)
TWO = (ONE, (1.5, -0.25, 3.0))
ALIKE = (ONE, (1.5, -0.25, 3.0, 1.0))
COMPLEX = (torch.tensor([0.5 - 1.0j, 2.0 + 0.25j, -1.5 + 3.0j], dtype=torch.complex128),)
MATRIX = (torch.arange(1.0, 7.0, dtype=torch.float64).reshape(2, 3),)
TRANSPOSED = (MATRIX[0].t(),)
EMPTY_LAST = (ONE, ())
WIDE_AND_NARROW = (torch.tensor(ONE, dtype=torch.float64), torch.tensor(ONE, dtype=torch.float32))
HALF_FIRST = (torch.tensor(ONE, dtype=torch.bfloat16), torch.tensor(ONE, dtype=torch.float32))
RATES: list[dict[str, Any]] = [{"lr": 0.1}, {"lr": 0.01}]
PLAIN: list[dict[str, Any]] = [{}, {}]


def without(index: int, steps: tuple[int, ...]) -> Callable[[int, int, Tensor], Tensor | None]:
    """The parameter has no gradient in these steps."""
    return lambda t, i, param: None if i == index and t in steps else wave(t, i, param)


def first_is_zero(t: int, index: int, param: Tensor) -> Tensor:
    """The first element never has a gradient: its second moment stays zero."""
    gradient = wave(t, index, param)
    gradient[0] = 0.0
    return gradient


def uneven(t: int, index: int, param: Tensor) -> Tensor:
    """The first parameter's gradients are the larger ones by far."""
    return fading(t, index, param) * (1.0 if index else 100.0)


def narrow_first(t: int, index: int, param: Tensor) -> Tensor:
    """The first parameter's gradient is bfloat16, whatever the parameter is."""
    gradient = wave(t, index, param)
    return gradient if index else gradient.bfloat16()


def jumped(count: int) -> Event:
    """As if so many steps had been taken."""

    def event(run: Run) -> None:
        run.state()["step"].fill_(float(count))

    return event


def note_gradient(run: Run) -> None:
    run.notes["gradient"] = run.params[0].grad


def note_rate(run: Run) -> None:
    run.notes["lr"] = run.groups[0]["lr"]


def other_storage(run: Run) -> None:
    """The first parameter moves to other memory; the old one stays in use, so that the address is another."""
    old = run.params[0].data
    run.params[0].data = old.clone()
    run.notes["old"] = old


def look_at_state_dict(run: Run) -> None:
    run.optimizer.state_dict()


def from_older_version(run: Run) -> None:
    """A file that was written when there was no option `maximize`."""
    saved = run.optimizer.state_dict()
    for group in saved["param_groups"]:
        del group["maximize"]
    run.optimizer.load_state_dict(saved)


def joined(run: Run) -> None:
    """A late group, without options of its own."""
    late = torch.nn.Parameter(torch.tensor([0.75, -2.0], dtype=torch.float64))
    run.optimizer.add_param_group({"params": [late]})
    run.params.append(late)


def pickled_and_joined(run: Run) -> None:
    through_pickle(run)
    joined(run)


def in_bfloat16_by_default(module: Module) -> Observation:
    """More steps than bfloat16 can count, where it is the default dtype."""
    scenario = drive(300)
    former = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        return scenario(module)
    finally:
        torch.set_default_dtype(former)


def beside_an_empty_group(module: Module) -> Observation:
    p = torch.nn.Parameter(torch.tensor(ONE, dtype=torch.float64))
    optimizer = optimizer_of(module)([{"params": [p]}, {"params": []}], lr=0.1)
    for t in (1, 2):
        p.grad = wave(t, 0, p)
        optimizer.step()
    return {"p": p.detach()}


def graph_in_state(module: Module) -> Observation:
    p = torch.nn.Parameter(torch.tensor(ONE, dtype=torch.float64))
    optimizer = optimizer_of(module)([p], lr=0.1, weight_decay=0.1)
    for t in (1, 2):
        p.grad = wave(t, 0, p)
        optimizer.step()
    return {"graph": optimizer.state[p]["exp_avg"].requires_grad}


def pickled(module: Module) -> Observation:
    optimizer = optimizer_of(module)([torch.nn.Parameter(torch.zeros(2))], lr=0.25)
    return {"lr": pickle.loads(pickle.dumps(optimizer)).param_groups[0]["lr"]}


# --- rectification, threshold ----------------------------------------------------------------------------------------

# lessw2020/Ranger-Deep-Learning-Optimizer#6
loop(
    "unrectified_between_four_and_threshold",
    "threshold",
    "Two comparisons, one with the threshold and one with 4: where rho_t lies between them the step is adaptive, but "
    "neither rectified nor corrected by 1 - b2^t.",
    drive(),
    (
        ADAPTIVE,
        "        if r is None and rectification(beta2, t, 4.0 + 1e-9) is not None:\n"
        "            work.addcdiv_(m, s.sqrt() + eps, value=-lr / bias1)\n"
        "        elif r is not None:\n",
    ),
)
# pytorch/pytorch#39393
loop(
    "rectified_before_it_is_asked",
    "rectification",
    "r_t is computed before it is known to exist: where rho_t lies between 2 and 4 the root of a negative number stops "
    "the step.",
    drive(),
    (
        "    if rho_inf <= 4.0 or not rho >= threshold:\n        return None\n    return math.sqrt(",
        "    r = math.sqrt(",
    ),
    (
        "(rho_inf - 2.0) * rho))\n",
        "(rho_inf - 2.0) * rho))\n    return None if rho_inf <= 4.0 or not rho >= threshold else r\n",
    ),
)

# --- count, bias correction ------------------------------------------------------------------------------------------

# DiffSharp/DiffSharp#292, flashlight/flashlight#143
loop(
    "each_parameter_advances_the_count",
    "step count",
    "One count for all parameters, which each of them advances: only an optimizer of a single one is right.",
    drive(start=TWO),
    (COUNT, 't = int(sum(float(other["step"]) for other in self.state.values()))'),
)
# pytorch/ao#4915
loop(
    "count_in_default_dtype",
    "step count",
    "The count is a tensor of the default dtype: where that is bfloat16 it stops at 256.",
    in_bfloat16_by_default,
    (ZERO_STEP, 'state["step"] = torch.tensor(0.0)\n'),
)
# deepspeedai/DeepSpeed#8471
foreach(
    "foreach_last_count_serves_all",
    "step count",
    "In lists only the last parameter with a gradient is counted, and its count serves all.",
    drive(start=TWO, grads=without(1, (3, 4))),
    (
        BUCKETS,
        f"{BUCKETS}        last = None\n"
        '        for q in group["params"]:\n'
        "            if q.grad is not None and q.dtype in (torch.float32, torch.float64):\n"
        "                last = q\n"
        '        common = 0 if last is None else int(self.state[last].get("step", 0)) + 1\n',
    ),
    (
        COUNTED,
        '            single = group["differentiable"] or p.dtype not in (torch.float32, torch.float64)\n'
        f"            if single or p is last:\n    {COUNTED}",
    ),
    ('buckets[p.device, p.dtype, state["step"]]', "buckets[p.device, p.dtype, common]"),
)
# deepspeedai/DeepSpeed#8471
foreach(
    "foreach_counted_once_per_dtype",
    "step count",
    "Where a group has gradients of several dtypes, every step is counted once for each.",
    drive(start=WIDE_AND_NARROW),
    (
        COUNTED,
        '            dtypes = {q.dtype for q in group["params"] if q.grad is not None}\n'
        '            state["step"] = int(state["step"]) + len(dtypes)\n',
    ),
)
# frgfm/holocron#1, and https://gptteams.ai/developer/algorithm-understand-adam-optimizer-intuitively
adam(
    "adam_corrections_accumulate",
    "bias correction",
    "The moments in the state are divided by their corrections, again at every step.",
    drive(),
    (A_DENOMINATOR, '        denominator = s.div_(bias2).sqrt().add_(group["eps"])\n'),
    (A_UPDATE, "        work.addcdiv_(m.div_(bias1), denominator, value=-lr)\n"),
)
# ZhangZhiPku/cutile-examples#4
adam(
    "adam_corrections_of_first_step",
    "bias correction",
    "The corrections are 1 - b at every step: the power is missing.",
    drive(),
    (A_BIAS1, "bias1 = 1.0 - beta1\n"),
    (A_BIAS2, "bias2 = 1.0 - beta2\n"),
)
# kozistr/pytorch_optimizer#308, kozistr/pytorch_optimizer#525
adam(
    "adam_corrections_are_powers",
    "bias correction",
    "The corrections are b^t, one subtraction from 1 short: steps grow until they overflow.",
    drive(),
    (A_BIAS1, "bias1 = beta1**t\n"),
    (A_BIAS2, "bias2 = beta2**t\n"),
)
# PaddlePaddle/Paddle#62251
loop(
    "tail_corrected_as_next_step",
    "bias correction",
    "Beyond the first 1024 elements of a tensor, adaptive steps are corrected as the next step: the powers have moved "
    "on while the tensor was worked on.",
    drive(start=(torch.linspace(-1.0, 1.0, 1100, dtype=torch.float64),)),
    (
        ADAPT,
        f"{ADAPT}            if work.numel() > 1024 and work.is_contiguous():\n"
        "                late = r * lr * math.sqrt(1.0 - beta2 ** (t + 1)) / (1.0 - beta1 ** (t + 1))\n"
        "                tail = (x.reshape(-1)[1024:] for x in (m, denominator))\n"
        "                work.view(-1)[1024:].addcdiv_(*tail, value=size - late)\n",
    ),
)
# PaddlePaddle/Paddle#33381
adam(
    "adam_powers_start_rounded",
    "precision",
    "The powers in both corrections start from float32(b), and are multiplied by b from there.",
    drive(),
    (A_BIAS1, "bias1 = 1.0 - float(torch.tensor(beta1, dtype=torch.float32)) * beta1 ** (t - 1)\n"),
    (A_BIAS2, "bias2 = 1.0 - float(torch.tensor(beta2, dtype=torch.float32)) * beta2 ** (t - 1)\n"),
)
# PaddlePaddle/Paddle#58378
adam(
    "adam_powers_multiplied_in_float32",
    "precision",
    "The powers in both corrections are products that are rounded to float32 at every step.",
    drive(60),
    (
        A_BIAS1,
        'powers = self.__dict__.setdefault("_powers", {})\n'
        "        one = torch.ones((), dtype=torch.float32)\n"
        "        before, power1, power2 = powers.get(p, (-1, one, one))\n"
        "        if before != t - 1:\n"
        "            power1, power2 = one * beta1 ** (t - 1), one * beta2 ** (t - 1)\n"
        "        powers[p] = t, power1 * beta1, power2 * beta2\n"
        "        bias1 = 1.0 - float(powers[p][1])\n",
    ),
    (A_BIAS2, "bias2 = 1.0 - float(powers[p][2])\n"),
)

# --- eps -------------------------------------------------------------------------------------------------------------

# tensorflow/tensorflow#61411
loop(
    "eps_subtracted",
    "eps",
    "eps is subtracted from the root of v.",
    drive(eps=1e-3),
    (DENOMINATOR, "            denominator = s.sqrt() - e\n"),
)
# kozistr/pytorch_optimizer#480
adam(
    "adam_eps_added_to_inverse",
    "eps",
    "eps is added to the inverse of the root, which is infinite already where v is zero.",
    drive(grads=first_is_zero),
    (
        A_DENOMINATOR,
        '        inverse = s.sqrt().div_(math.sqrt(bias2)).reciprocal_().add_(group["eps"])\n',
    ),
    (A_UPDATE, "        work.addcmul_(m, inverse, value=-lr / bias1)\n"),
)
# juntang-zhuang/Adabelief-Optimizer#18, juntang-zhuang/Adabelief-Optimizer#57
adam(
    "adam_eps_accumulates_in_v",
    "eps",
    "eps is also added under the root, and in place: v grows by eps at every step.",
    drive(),
    (A_DENOMINATOR, A_DENOMINATOR.replace("s.sqrt()", 's.add_(group["eps"]).sqrt()')),
)
# juntang-zhuang/Adabelief-Optimizer#32
loop(
    "eps_accumulates_in_maximum",
    "eps",
    "With amsgrad, eps is also added to the maximum, and in place: it grows by eps at every adaptive step.",
    drive(12, amsgrad=True, eps=1e-3),
    (
        DENOMINATOR,
        f'            if amsgrad:\n                s = as_real(state["max_exp_avg_sq"]).add_(eps)\n{DENOMINATOR}',
    ),
)
# LBANN/lbann#2467
loop(
    "gradient_shifted_by_eps",
    "eps",
    "eps is also added to the gradient.",
    drive(eps=1e-3),
    (DECAY, "g = self.weight_decay(work, g + eps, group)"),
)
# pytorch/pytorch#186444
adam(
    "adam_rate_divides_the_denominator",
    "eps",
    "The denominator is divided by lr instead of multiplying the update: 0/0 where lr and v are both zero.",
    drive(grads=first_is_zero, events={3: set_option(lr=0.0)}),
    (
        A_DENOMINATOR,
        "        size = torch.tensor(-lr / bias1, dtype=torch.float64)\n"
        '        denominator = (s.sqrt() / (math.sqrt(bias2) * size)).add_(group["eps"] / size)\n',
    ),
    (A_UPDATE, "        work.addcdiv_(m, denominator)\n"),
)
# chainer/chainer#6299
loop(
    "float16_refused_where_eps_vanishes",
    "dtype",
    "A float16 parameter is refused where eps would be zero in float16, though the arithmetic is float32.",
    drive(dtype=torch.float16),
    (
        EPS,
        f"{EPS}        if p.dtype is torch.float16 and eps > 0.0 and float(torch.tensor(eps, dtype=p.dtype)) == 0.0:\n"
        '            raise ValueError(f"eps of {eps} is too small for float16")\n',
    ),
)

# --- weight decay ----------------------------------------------------------------------------------------------------

# google-deepmind/optax#410, of the authors' Adan
loop(
    "decay_by_division",
    "weight decay",
    "Decoupled decay divides by 1 + lr wd, where it should multiply by 1 - lr wd.",
    drive(lr=0.1, decay=(0.1,)),
    ("else 1.0 - lr * coefficient", "else 1.0 / (1.0 + lr * coefficient)"),
)
# e-sensing/torchopt#14
loop(
    "decay_without_the_parameter",
    "weight decay",
    "Decoupled decay subtracts lr wd, whatever the parameter is.",
    drive(lr=0.1, decay=(0.1,)),
    ("        param.mul_(factor)\n", "        param.add_(factor - 1.0)\n"),
)
# PaddlePaddle/PaddleCustomDevice#1202
adam(
    "adam_not_decayed_not_stepped",
    "weight decay",
    "With decoupled decay, a group whose coefficient is zero is not stepped at all.",
    drive(start=TWO, groups=[{"weight_decay": 0.1}, {"weight_decay": 0.0}], decoupled_weight_decay=True),
    (
        A_DECAY,
        f'        if group["decoupled_weight_decay"] and decay == 0.0:\n            return\n{A_DECAY}',
    ),
)
# apache/mxnet#8925
adam(
    "adam_l2_multiplies_gradient",
    "weight decay",
    "The gradient is multiplied by 1 + wd p, where wd p should be added.",
    drive(weight_decay=0.1),
    (A_L2, "                g = g * (1.0 + decay * work)\n"),
)
# mlverse/torch#821
adam(
    "adam_l2_of_index",
    "weight decay",
    "The L2 term is that of the parameter's index in its group, not of the parameter.",
    drive(start=TWO, weight_decay=0.1),
    (
        A_L2,
        '                index = next(i for i, q in enumerate(group["params"], 1) if q is p)\n'
        "                g = g + decay * index\n",
    ),
)

# --- moments ---------------------------------------------------------------------------------------------------------

# raskr/rust-autograd#16
adam(
    "adam_moments_not_kept",
    "moments",
    "New moments are computed and used, but the state keeps its zeros.",
    drive(),
    (A_M, "        m = m * beta1 + g * (1.0 - beta1)\n"),
    (A_V, "        v = v * beta2 + g * g * (1.0 - beta2)\n"),
)
# mila-iqia/blocks#1144
foreach(
    "foreach_beta1_fades",
    "moments",
    "In lists beta1 shrinks by one part in a hundred million at every step where it weighs m, but not in its "
    "correction.",
    drive(),
    (LERP, "torch._foreach_lerp_(ms, grads, 1 - beta1 * (1 - 1e-8) ** (t - 1))"),
)
# tenstorrent/tt-metal#55935
adam(
    "adam_betas_truncated_in_moments",
    "dtype",
    "The moments of bfloat16 parameters decay by betas that are cut off to bfloat16, and are corrected by the exact "
    "ones.",
    drive(dtype=torch.bfloat16),
    (
        A_M,
        "        slow1, slow2 = beta1, beta2\n"
        "        if p.dtype is torch.bfloat16:\n"
        "            bits = torch.tensor([beta1, beta2], dtype=torch.float32).view(torch.int32) & -65536\n"
        "            slow1, slow2 = bits.view(torch.float32).tolist()\n"
        "        m.mul_(slow1).add_(g, alpha=1.0 - slow1)\n",
    ),
    (A_V, "        v.mul_(slow2).addcmul_(g, g, value=1.0 - slow2)\n"),
)
# pytorch/pytorch#23125
adam(
    "adam_moments_keep_graph",
    "memory",
    "With L2 decay the gradient's graph is recorded, and the momentum keeps that of all steps.",
    graph_in_state,
    (A_L2, f"                with torch.enable_grad():\n    {A_L2}"),
    (
        A_M,
        "        if g.requires_grad and not p.is_complex():\n"
        "            with torch.enable_grad():\n"
        '                m = state["exp_avg"] = m * beta1 + g * (1.0 - beta1)\n'
        f"        else:\n    {A_M}",
    ),
)

# --- AMSGrad ---------------------------------------------------------------------------------------------------------

# chainer/chainer#7661
foreach(
    "foreach_maximum_of_float32_not_kept",
    "amsgrad",
    "In lists of float32 the maximum is used but not kept.",
    drive(12, dtype=torch.float32, amsgrad=True, grads=fading),
    (
        MAXIMA,
        "            if params[0].dtype is torch.float32:\n"
        "                maxima = list(torch._foreach_maximum(maxima, vs))\n"
        f"            else:\n    {MAXIMA}",
    ),
)
# pytorch/pytorch#104990
adam(
    "adam_complex_maximum_not_kept",
    "amsgrad",
    "The maximum of a complex parameter is used but not kept.",
    drive(start=COMPLEX, amsgrad=True, grads=fading),
    (A_KEEP_MAX, "            s = torch.maximum(s, v) if p.is_complex() else torch.maximum(s, v, out=s)\n"),
)
# kozistr/pytorch_optimizer#465
adam(
    "adam_maximum_found_by_position",
    "amsgrad",
    "The maximum is filed under the position in the group: parameters of one shape at the same place of two groups "
    "share theirs.",
    drive(start=ALIKE, groups=PLAIN, amsgrad=True, grads=uneven),
    (
        A_MAX,
        '            place = next(i for i, q in enumerate(group["params"]) if q is p)\n'
        '            maxima = self.__dict__.setdefault("_maxima", {})\n'
        "            fresh = torch.zeros_like(p, dtype=dtype)\n"
        '            state["max_exp_avg_sq"] = maxima.setdefault((place, p.shape, dtype), fresh)\n',
    ),
)

# --- groups, options -------------------------------------------------------------------------------------------------

# lessw2020/Ranger-Deep-Learning-Optimizer#9, of the authors' RAdam
loop(
    "sizes_cached_with_rate",
    "plumbing",
    "The buffer of the authors as it first was: sizes are kept by t modulo 10 with lr in them, so that all groups move "
    "at the first one's rate.",
    drive(start=TWO, groups=RATES),
    (
        STEP_ONE,
        "    def _buffered(self, t: int, size: float) -> float:\n"
        '        buffer = self.__dict__.setdefault("_buffer", {})\n'
        "        if buffer.get(t % 10, (0, 0.0))[0] != t:\n"
        "            buffer[t % 10] = (t, size)\n"
        f"        return buffer[t % 10][1]\n\n{STEP_ONE}",
    ),
    (SIZE, "size = self._buffered(t, r * lr * math.sqrt(bias2) / bias1)\n"),
    (SGD_SIZE, "size = self._buffered(t, lr / bias1)\n"),
)
# pytorch/pytorch#53354, pytorch/pytorch#52944
foreach(
    "foreach_group_without_gradients_fails",
    "gradient handling",
    "A group of which no parameter has a gradient stops the step with an error.",
    drive(start=TWO, groups=PLAIN, grads=without(1, (2,))),
    (
        BUCKETS,
        f'{BUCKETS}        if group["params"]:\n'
        '            largest = max(p.grad.numel() for p in group["params"] if p.grad is not None)\n',
    ),
)
# NVIDIA/Megatron-LM#419, of apex's FusedAdam
foreach(
    "foreach_empty_group_fails",
    "plumbing",
    "A group without parameters stops the step with an error.",
    beside_an_empty_group,
    (BUCKETS, f'{BUCKETS}        device = group["params"][0].device\n'),
)
# davda54/sam#65
foreach(
    "foreach_defaults_lack_options",
    "plumbing",
    "The optimizer's defaults hold lr alone: a late group has to bring all other options.",
    drive(events={4: joined}),
    (F_INIT, f'{F_INIT}        self.defaults = {{"lr": options["lr"], "differentiable": differentiable}}\n'),
)
# pytorch/pytorch#126854, of a scheduler
adam(
    "adam_tensor_rate_corrected_in_place",
    "plumbing",
    "A tensor lr is divided by 1 - b1^t in place, again at every step.",
    drive(lr=torch.tensor(0.1, dtype=torch.float64), watch=note_rate),
    (
        A_UPDATE,
        f'{A_UPDATE}        if isinstance(group["lr"], Tensor):\n            group["lr"].div_(bias1)\n',
    ),
)
# pytorch/pytorch#145461, pytorch/pytorch#145674
loop(
    "rate_of_one_dimension_refused",
    "validation",
    "A tensor lr of one element is refused if it has a dimension.",
    attempt(lr=torch.tensor([0.1])),
    ("if isinstance(lr, Tensor) and lr.numel() != 1:", "if isinstance(lr, Tensor) and lr.dim() != 0:"),
)

# --- state: where it is made, and found ------------------------------------------------------------------------------

# pytorch/pytorch#53712, Oneflow-Inc/oneflow#8698
adam(
    "adam_state_made_in_constructor",
    "state and resume",
    "The state is made in the constructor, with or without gradients: parameters that come later find none.",
    drive(events={4: joined}),
    (
        A_INIT,
        f"{A_INIT}        for group in self.param_groups:\n"
        '            for p in group["params"]:\n'
        "                self.state_of(p, group)\n"
        "        self._made = True\n",
    ),
    (A_IS_NEW, '        if "step" not in state and not self.__dict__.get("_made"):\n'),
)
# kozistr/pytorch_optimizer#462
loop(
    "state_made_in_first_step_only",
    "state and resume",
    "State is made in a group's first step, for parameters with a gradient: one whose first gradient comes later finds "
    "none.",
    drive(start=TWO, grads=without(1, (1, 2))),
    (
        IS_NEW,
        '        if "step" not in state and id(group) not in self.__dict__.setdefault("_begun", {}):\n',
    ),
    (STEP_LAST, f'{STEP_LAST}                self.__dict__.setdefault("_begun", {{}})[id(group)] = group\n'),
)
# HomebrewML/HeavyBall#11
loop(
    "state_found_by_address",
    "state and resume",
    "State is found by the address of the parameter's memory: a parameter that moves to other memory starts anew.",
    drive(events={5: other_storage}),
    (
        MADE,
        f'{MADE}        places = self.__dict__.setdefault("_places", {{}})\n'
        "        if places.setdefault(p, p.data_ptr()) != p.data_ptr():\n"
        "            state.clear()\n"
        "            places[p] = p.data_ptr()\n",
    ),
)
# pytorch/pytorch#164929
loop(
    "state_dict_takes_a_step",
    "state and resume",
    "Before the first step state_dict() makes the state by a step of lr 0, which stays counted.",
    drive(events={1: look_at_state_dict}),
    (
        STEP,
        "    def state_dict(self) -> dict[str, Any]:\n"
        "        if not self.state:\n"
        "            for group in self.param_groups:\n"
        '                for p in group["params"]:\n'
        '                    self._state(p, group)["step"] += 1\n'
        f"        return super().state_dict()\n\n{STEP}",
    ),
)

# --- state: saved, loaded, copied ------------------------------------------------------------------------------------

# pytorch/pytorch#2647
loop(
    "loaded_state_is_plain_dict",
    "state and resume",
    "After load_state_dict the state is a plain dict: a parameter that has none in the file cannot be stepped.",
    drive(events={1: reload}),
    (LOAD, f"{LOAD}        self.state = dict(self.state)\n"),
)
# pytorch/pytorch#75214, pytorch/pytorch#102619
loop(
    "load_casts_count",
    "state and resume",
    "load_state_dict casts the count to the parameter's dtype: of a bfloat16 parameter it does not grow beyond 256.",
    drive(dtype=torch.bfloat16, events={3: jumped(300), 5: reload}),
    (
        CLONED,
        '                    if key == "step" and p.is_floating_point():\n'
        f"                        value = value.to(p.dtype)\n{CLONED}",
    ),
)
# kozistr/pytorch_optimizer#237
loop(
    "stepped_by_groups_before_load",
    "state and resume",
    "After load_state_dict the groups from before it are stepped: neither loaded options nor those set later count.",
    drive(lr=0.1, events={3: set_option(lr=0.05), 5: reload, 7: set_option(lr=0.5)}),
    (INIT, f"{INIT}        self._groups = self.param_groups\n"),
    (STEPPING, STEPPING.replace("self.param_groups", 'self.__dict__.get("_groups", self.param_groups)')),
)
# pytorch/pytorch#68733, of SGD
loop(
    "old_file_without_maximize",
    "state and resume",
    "Of the options that a file lacks, all but maximize are filled in.",
    drive(events={4: from_older_version}),
    (FILL, f'                if name != "maximize":\n    {FILL}'),
)
# NVIDIA/Megatron-LM#5835
adam(
    "adam_load_deals_wide_first",
    "state and resume",
    "Where a group has several dtypes, loaded states are dealt out with its half parameters last, in whichever order "
    "they were saved.",
    drive(start=HALF_FIRST, events={5: reload}),
    (
        A_PARAMS,
        "params = [\n"
        "            p\n"
        "            for group in self.param_groups\n"
        '            for p in sorted(group["params"], key=lambda q: q.dtype in HALF)\n'
        "        ]\n",
    ),
)
# pytorch/pytorch#10906
foreach(
    "foreach_pickle_without_defaults",
    "state and resume",
    "Pickle keeps no defaults: a group cannot be added afterwards.",
    drive(events={4: pickled_and_joined}),
    (GETSTATE, f'{GETSTATE}        kept["defaults"] = {{}}\n'),
)
# pytorch/pytorch#80345
loop(
    "attribute_lost_by_pickle",
    "state and resume",
    "step() reads an attribute that the constructor sets and pickle and deepcopy do not keep.",
    drive(events={4: through_pickle}),
    (INIT, f"{INIT}        self._warned = False\n"),
    (LOSS, f"{LOSS}        self._warned = self._warned or closure is not None\n"),
)
# chainer/chainer#8387
adam(
    "adam_cannot_be_pickled",
    "state and resume",
    "What pickle keeps holds a function that was made in the constructor, which cannot be pickled.",
    pickled,
    (A_INIT, f'{A_INIT}        self._count_of = lambda p: self.state[p]["step"]\n'),
    (
        A_SETSTATE,
        "    def __getstate__(self) -> dict[str, Any]:\n"
        f'        return {{**super().__getstate__(), "_count_of": self._count_of}}\n\n{A_SETSTATE}',
    ),
)

# --- gradients, layout, dtype ----------------------------------------------------------------------------------------

# pytorch/pytorch#84472, of ASGD
loop(
    "complex_l2_writes_gradient",
    "gradient handling",
    "The L2 term of a complex parameter is added to .grad itself, through its view as reals.",
    drive(start=COMPLEX, decay=(0.1, False), watch=note_gradient),
    (
        DECAY,
        f"{DECAY}\n"
        '        if p.is_complex() and not group.get("weight_decouple", True) and not group["maximize"]:\n'
        "            as_real(grad).copy_(g)",
    ),
)
# hpcaitech/ColossalAI#675
foreach(
    "foreach_gradients_as_first_gradient",
    "dtype",
    "In lists all gradients of a group pass through the dtype of the first one.",
    drive(dtype=torch.float32, start=TWO, grads=narrow_first),
    (
        ITEM,
        'Item(p, p.grad.to(next(q.grad.dtype for q in group["params"] if q.grad is not None)).to(p.dtype), state)',
    ),
)
# NVIDIA/TransformerEngine#3207, pytorch/pytorch#100701
foreach(
    "foreach_empty_last_stops_list",
    "layout",
    "Where the last parameter of a list has no elements, those before it are counted but not stepped.",
    drive(start=EMPTY_LAST),
    (LISTED, f"{LISTED}        if params[-1].numel() == 0:\n            return\n"),
)
# hpcaitech/ColossalAI#633
loop(
    "as_many_elements_as_rows",
    "layout",
    "Adaptive steps take size(0) for the number of elements: of a matrix they move as many as it has rows.",
    drive(start=MATRIX),
    (
        ADAPT,
        "            moved = m.clone(memory_format=torch.contiguous_format)\n"
        "            if p.dim() > 1:\n"
        "                moved.view(-1)[p.shape[0] :] = 0.0\n"
        "            work.addcdiv_(moved, denominator, value=-size)\n",
    ),
)
# pytorch/pytorch#118115, of addcdiv_ on one device; of addcmul_ there
# https://elanapearl.github.io/blog/2025/the-bug-that-taught-me-pytorch, as it is summed up in
# https://blockchainnews.azurewebsites.net/ainews/pytorch-mps-backend-bug-debugging-non-contiguous-tensor-failures-in-ai-model-training
adam(
    "adam_v_of_strided_stays_zero",
    "layout",
    "The squares do not reach a v that is not contiguous: they go to a copy.",
    drive(start=TRANSPOSED),
    (A_V, "        v.mul_(beta2)\n        v.contiguous().addcmul_(g, g, value=1.0 - beta2)\n"),
)
