"""Against an oracle: every number of every step, within its bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from radam.audit.bounds import Tracked, compare
from radam.audit.checks.check import EVERY, REAL, Group
from radam.audit.finding import Skipped
from radam.audit.lockstep import Trajectory, arithmetic_of, flat
from radam.audit.run import Run
from radam.audit.strategies import GRADIENTS, LAYOUTS, SHAPES, lay_out
from radam.audit.subject import Oracle

numbers = Group("Numbers, against an oracle")

FAR = 2**14
"""How far a change of the oracle's branch is looked for."""
WALK = 16
"""A first adaptive step up to here is walked to; a later one is jumped to."""
KINDS = tuple(kind for kind in GRADIENTS if kind not in ("none", "repeat", "flip"))


def change_of_branch(oracle: Oracle) -> int | None:
    """The first step that takes another branch than the first one, up to FAR; None where there is none.

    Branches change once: so it is found by bisection.
    """
    branch = getattr(oracle, "branch", None)
    if branch is None or branch(1) == branch(FAR):
        return None
    before, after = 1, FAR
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (middle, after) if branch(middle) == branch(1) else (before, middle)
    return after


def _values(run: Run) -> list[torch.Tensor]:
    """One to three parameters of drawn shapes, layouts and magnitudes."""
    result = []
    for _ in range(run.draw(st.integers(1, 3), "parameters")):
        shape = run.draw(st.sampled_from(SHAPES), "shape")
        scale = run.draw(st.sampled_from((1.0, 0.0, 1e-3)), "scale")
        result.append(lay_out(run.numbers(shape, scale), run.draw(st.sampled_from(LAYOUTS), "layout")))
    return result


@numbers.check("dtype", "implementation", oracle=True, examples=1.0, dtypes=EVERY)
def check_every_step(run: Run) -> None:
    """Each step's state and parameters are the oracle's from the state before, for drawn options and groups."""
    values = _values(run)
    two = min(len(values), run.draw(st.integers(1, 2), "groups")) == 2
    options = run.hyperparameters()
    groups: Sequence[tuple[Sequence[int], Mapping[str, Any]]] = ()
    if two:
        groups = [([0], {}), (range(1, len(values)), run.group_options())]
    run.make(values, options, groups)
    lockstep = run.follow()
    kinds = st.lists(st.sampled_from(("normal", *KINDS, "none")), min_size=1, max_size=8)
    drawn = [run.draw(kinds, "gradients") for _ in values]
    steps = 4 if run.setting.implementation == "compiled" else 8
    for step in range(steps):
        gradients: list[torch.Tensor | None] = []
        for value, each in zip(values, drawn, strict=True):
            kind = each[min(step, len(each) - 1)]
            gradients.append(None if kind == "none" else run.gradient(value.shape, (kind,)))
        run.give(gradients)
        run.judged_step(lockstep)


def _well_conditioned(run: Run, options: dict[str, Any]) -> dict[str, Any]:
    """The same with decay rates that textbook scalars serve well, and a learning rate that moves a parameter."""
    result = dict(options)
    if "betas" in result:
        beta1 = run.draw(st.sampled_from((0.9, 0.0, 0.5, 0.99)), "beta1")
        beta2 = run.draw(st.sampled_from((0.999, 0.99, 0.9, 0.8, 0.9995, 0.9999, 0.75)), "beta2")
        result["betas"] = (beta1, beta2)
    if "lr" in result:
        result["lr"] = 0.1
    return result


@numbers.check("dtype", "implementation", oracle=True, examples=0.25, dtypes=REAL)
def check_first_adaptive_step(run: Run) -> None:
    """Where the oracle changes its branch, so does the optimizer: the steps before, at and after it."""
    options = _well_conditioned(run, run.hyperparameters())
    change = change_of_branch(run.oracle(options))
    if change is None:
        raise Skipped("the oracle takes one branch only")
    run.make([run.numbers((4,))], options)
    lockstep = run.follow()
    name = run.subject.state.get("t")
    for step in range(1, change + 2):
        if change > WALK and step == 3:
            if name is None:
                return
            run.script.tell(f"step = optimizer.state[params[0]][{name!r}]")
            run.script.tell(
                f"optimizer.state[params[0]][{name!r}] = "
                f"torch.full_like(step, {change - 2}) if isinstance(step, torch.Tensor) else {change - 2}"
            )
            lockstep.jump(run.params()[0], change - 2)
        elif change > WALK and 3 < step < change - 1:
            continue
        run.give([run.gradient((4,), ("normal",))])
        run.judged_step(lockstep)


@numbers.check("dtype", oracle=True, examples=0.2, dtypes=EVERY)
def check_trajectory(run: Run) -> None:
    """Over 150 steps, parameters and state stay within the bound that an oracle from the same start accumulates."""
    options = _well_conditioned(run, run.hyperparameters(weight_decay=0.01))
    if isinstance(options.get("eps"), float):
        options["eps"] = max(options["eps"], 1e-8)
    if run.setting.narrow:
        raise Skipped("arithmetic in half precision is judged step by step: its rounding soon exceeds the step")
    run.make([run.numbers((4,))], options)
    param = run.params()[0]
    oracle = run.oracle(options)
    trajectory = Trajectory(param, oracle, scalars=run.subject.scalars)
    for symbol in {"m", "v", "s"} & set(run.subject.state):
        if getattr(oracle, symbol) is None:
            setattr(oracle, symbol, Tracked(np.zeros_like(flat(param)), 0.0, trajectory.arithmetic))
    generator = np.random.default_rng(run.draw(st.integers(0, 2**32 - 1), "seed"))
    for step in range(1, 151):
        gradient = torch.from_numpy(generator.standard_normal((4,)))
        run.give([gradient.to(run.dtype)])
        trajectory.observe()
        run.step()
        if step in (1, 10, 50, 150):
            for comparison in trajectory.judge(run.optimizer().state[param], run.subject.state):
                run.judge(comparison, "free run", f"after {step} free steps", step)


@numbers.check("dtype", "implementation", oracle=True, examples=0.3)
def check_weight_decay_alone(run: Run) -> None:
    """With zero gradients from the start nothing but decay acts: its size, per group, step by step."""
    options = run.hyperparameters()
    if "weight_decay" not in options:
        raise Skipped("the subject draws no weight_decay")
    options["weight_decay"] = run.draw(st.sampled_from((0.1, 0.01, 1.0)), "weight_decay")
    if isinstance(options.get("eps"), float):
        options["eps"] = max(options["eps"], 1e-3)
    run.make(options=options, groups=[([0], {}), ([1], {"weight_decay": 0.25, "lr": 0.5})])
    lockstep = run.follow()
    for _ in range(4):
        run.give([torch.zeros_like(param) for param in run.params()])
        run.judged_step(lockstep)


@numbers.check("dtype", "implementation", oracle=True, examples=0.3)
def check_eps_alone(run: Run) -> None:
    """With gradients about as large as eps, eps decides the step: its place and its size."""
    options = _well_conditioned(run, run.without_decay())
    if "eps" not in options:
        raise Skipped("the subject draws no eps")
    options["eps"] = run.draw(st.sampled_from((1e-3, 1e-2, 1e-5)), "eps")
    change = change_of_branch(run.oracle(options)) or 1
    run.make([torch.zeros(4, dtype=run.dtype)], options)
    lockstep = run.follow()
    for _ in range(min(change + 1, WALK // 2)):
        run.give([(run.gradient((4,), ("some zeros",)) * options["eps"]).to(run.dtype)])
        run.judged_step(lockstep)


@numbers.check("dtype", oracle=True, examples=0.2)
def check_closed_form(run: Run) -> None:
    """On a constant gradient g, m is (1 - b1^t) g and v is (1 - b2^t) g^2, without any recurrence."""
    options = _well_conditioned(run, run.without_decay(maximize=False))
    names = run.subject.state
    if "betas" not in options or not {"m", "v"} <= set(names) or options.get("variance_warmup"):
        raise Skipped("is known for moving averages of g and g^2 by two betas")
    run.make([run.numbers((4,))], options)
    gradient = run.gradient((4,), ("normal",))
    arithmetic, _ = arithmetic_of(run.params()[0], run.setting.narrow)
    g, state = flat(gradient), run.optimizer().state
    t = 0
    for steps in (1, 4, 15):
        for _ in range(steps):
            run.give([gradient])
            run.step()
            t += 1
        for symbol, beta, power in (("m", options["betas"][0], g), ("v", options["betas"][1], g * g)):
            # 1 - b^t is the sum of (1 - b) b^i: t terms that are all of one sign, each through at most 3 t roundings.
            expected = -np.expm1(t * np.log(beta)) * power if beta else power
            unit = 4 * (t + 4) * arithmetic.unit_roundoff
            bound = unit * np.abs(power) + 4 * t * arithmetic.smallest_subnormal
            comparison = compare(names[symbol], flat(state[run.params()[0]][names[symbol]]), Tracked(expected, bound))
            run.judge(comparison, "closed form", f"after {t} constant gradients", t)
