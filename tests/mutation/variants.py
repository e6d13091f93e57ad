"""Right optimizers that use the freedom they have: edits of `right_loop` that the verification must pass.

`tests.mutation.variants:NAME` is the class RAdam of a module of its own, as in `tests.mutation.wrong`.
"""

from __future__ import annotations

from typing import Any

from tests.mutation.mutant import Mutant, build

_MOMENTS = """            m.mul_(beta1).add_(g, alpha=1.0 - beta1)
            v.mul_(beta2).addcmul_(g, g, value=1.0 - beta2)
"""
_ADAPTIVE = """            size = r * lr * math.sqrt(bias2) / bias1
            e = eps if group["optimized_update"] else eps * math.sqrt(bias2)
            denominator = s.sqrt() + e
            work.addcdiv_(m, denominator, value=-size)
"""
_MOMENTUM = """            size = lr / bias1
            work.add_(m, alpha=-size)
"""
_NEW_STEP = """            state["step"] = torch.tensor(0.0, dtype=torch.float32)
"""


def _right(name: str, why: str, *edits: tuple[str, str]) -> Mutant:
    return Mutant(name, "right_loop", "right", edits, why, lambda module: {})


VARIANTS = (
    _right(
        "kind_in_the_object_only",
        "The kind of decay is the object's; the groups have the coefficient.",
        (
            """            "weight_decay": self.weight_decay,
            "weight_decouple": self.weight_decouple,
            "absolute": self.absolute,
""",
            """            "weight_decay": self.weight_decay,
""",
        ),
        ('group.get("weight_decouple", self.weight_decouple)', "self.weight_decouple"),
        ('group.get("absolute", self.absolute)', "self.absolute"),
    ),
    _right("step_as_int", "step is a Python int.", (_NEW_STEP, '            state["step"] = 0\n')),
    _right(
        "step_as_int64_tensor",
        "step is an int64 tensor of one element.",
        (_NEW_STEP, '            state["step"] = torch.zeros(1, dtype=torch.int64)\n'),
    ),
    _right(
        "torchs_order",
        "lerp, and the update as torch.optim.RAdam evaluates it.",
        (
            _MOMENTS,
            """            m.lerp_(g, 1.0 - beta1)
            v.mul_(beta2).addcmul_(g, g, value=1.0 - beta2)
""",
        ),
        (
            _ADAPTIVE,
            """            corrected = m / bias1
            if group["optimized_update"]:
                adaptive = (bias2**0.5) / (s.sqrt() + eps)
            else:
                adaptive = 1.0 / (s.sqrt() / (bias2**0.5) + eps)
            work.add_(corrected * lr * adaptive * r, alpha=-1.0)
""",
        ),
        (_MOMENTUM, "            work.add_(m / bias1 * lr, alpha=-1.0)\n"),
    ),
    _right(
        "corrected_v",
        "v is divided by its bias correction before the root; products in another order.",
        (
            _ADAPTIVE,
            """            if group["optimized_update"]:
                denominator = (s.sqrt() + eps) / math.sqrt(bias2)
            else:
                denominator = (s / bias2).sqrt() + eps
            work.sub_((lr * r) * ((m / bias1) / denominator))
""",
        ),
        (_MOMENTUM, "            work.sub_(lr * (m / bias1))\n"),
    ),
    _right(
        "powers_by_exp",
        "b**t by exp(t log b); r_t factor by factor.",
        ("    power = beta2**t\n", "    power = math.exp(t * math.log(beta2)) if beta2 else 0.0\n"),
        (
            "    return math.sqrt(((rho - 4.0) * (rho - 2.0) * rho_inf) / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho))\n",
            "    return math.sqrt((rho - 4) / (rho_inf - 4) * (rho - 2) / rho * rho_inf / (rho_inf - 2))\n",
        ),
    ),
    _right(
        "without_a_branch",
        "What is divided by, and whether the parameter moves, is chosen by torch.where.",
        (
            "        if r is not None:\n" + _ADAPTIVE + '        elif group["degenerated_to_sgd"]:\n' + _MOMENTUM,
            """        adaptive = torch.tensor(r is not None)
        moves = torch.tensor(r is not None or bool(group["degenerated_to_sgd"]))
        size = (1.0 if r is None else r * math.sqrt(bias2)) * lr / bias1
        e = eps if group["optimized_update"] else eps * math.sqrt(bias2)
        divisor = torch.where(adaptive, torch.where(adaptive, s, 1.0).sqrt() + e, 1.0)
        work.copy_(torch.where(moves, work - size * m / divisor, work))
""",
        ),
    ),
    _right(
        "decay_subtracted",
        "Decoupled decay subtracts lr wd p.",
        (
            "        param.mul_(factor)\n",
            "        param.sub_(param * coefficient if self.absolute else param * (lr * coefficient))\n",
        ),
    ),
    _right(
        "written_through_data",
        "Parameters are written through .data, which moves no version counter.",
        (
            "            work = as_real(p)\n",
            "            work = as_real(p if self.defaults['differentiable'] else p.data)\n",
        ),
        (
            "        g = self.weight_decay(work, g, group)\n",
            "        is_own = not isinstance(self.weight_decay, WeightDecay) and p.dtype == work.dtype\n"
            "        g = self.weight_decay(p if is_own else work, g, group)\n",
        ),
    ),
    _right(
        "loaded_tensors_kept",
        "A loaded state_dict's tensors become the state, without a copy.",
        ("                    own[key] = value.clone()\n", "                    own[key] = value\n"),
    ),
    _right(
        "maximum_always_there",
        "max_exp_avg_sq is made with the other state, whether it is used or not.",
        (
            '        if group["amsgrad"] and "max_exp_avg_sq" not in state:\n',
            '        if "max_exp_avg_sq" not in state:\n',
        ),
    ),
    _right(
        "not_differentiable",
        "The constructor takes no differentiable.",
        (
            "        capturable: bool = False,\n        differentiable: bool = False,\n",
            "        capturable: bool = False,\n",
        ),
        ('            "differentiable": differentiable,\n', '            "differentiable": False,\n'),
    ),
)

BY_NAME = {variant.name: variant for variant in VARIANTS}


def __getattr__(name: str) -> Any:
    if name not in BY_NAME:
        raise AttributeError(f"module {__name__!r} has no variant {name!r}")
    return build(BY_NAME[name]).RAdam
