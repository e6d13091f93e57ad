"""Against an oracle: every number of every step, within its bound."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from radam.audit.bounds import Tracked, compare
from radam.audit.capabilities import AMSGRAD
from radam.audit.checks.check import EVERY, PRECISE, REAL, Group
from radam.audit.finding import Skipped
from radam.audit.lockstep import Lockstep, Trajectory, arithmetic_of, flat
from radam.audit.run import Run, betas_of
from radam.audit.script import expression
from radam.audit.strategies import GRADIENTS, LAYOUTS, SHAPES, lay_out
from radam.audit.subject import Oracle

numbers = Group("Numbers, against an oracle")

FAR = 2**14
"""How far a change of the oracle's branch is looked for."""
WALK = 16
"""A first adaptive step up to here is walked to; a later one is jumped to."""
FAR_STEPS = (96, 240, 999, 9_999, 10**6 - 1)
AGE = 3
"""Steps that a second parameter has taken beyond those of the first."""
MET = (
    (0.8, 12, 7.2290326056819465),
    (0.75, 8, 5.219991521831284),
    (0.75, 12, 6.214898396660055),
    (0.78, 7, 5.107714319589055),
    (0.8125, 7, 5.395713721035053),
    (0.875, 10, 7.860174865847202),
    (0.9375, 7, 6.4854752774914175),
    (0.95, 8, 7.462949366539895),
    (0.96875, 5, 4.873060643646525),
    (0.7, 10, 5.0852938248410124),
)
"""beta2, t and RAdam's rho_t, of which every usual float64 formula gives the exact value, rounded."""
FIVE = ((0.7074214607621472, 9, 5.0), (0.6849310413287895, 11, 5.0), (0.6791437362250181, 12, 5.0))
"""The same, at the threshold of optimizers that have no other."""
LEAST = 4.0
"""Of a threshold: below, there is no rectification."""
BESIDE = 1e-6
"""How far beside a threshold that is met the oracle's stands, which is then in no doubt."""
NUDGE = 1e-5
"""Relative distance of options that are almost the same."""
CLOSE = (1e-9, -1e-9, 1e-6, -1e-6)
"""Relative distances of a threshold from where a step changes its branch."""
LEAST_EPS = (1e-29, 1e-200)
"""An eps that float32 holds, and one that float64 does, with room for the products and quotients of a step."""
SIZES = ("normal", "zeros", "subnormal", "faint", "tiny", "large", "huge")
OF_GRADIENTS = tuple(kind for kind in GRADIENTS if kind not in ("none", "repeat", "flip"))


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


def boundary(run: Run, options: Mapping[str, Any], t: int) -> float:
    """The largest threshold at which step t takes another branch than the first step, to its last digit."""
    low, high = LEAST, 1e9
    while math.nextafter(low, high) < high:
        middle = (low + high) / 2
        oracle = run.oracle({**options, "threshold": middle})
        low, high = (middle, high) if oracle.branch(t) != oracle.branch(1) else (low, middle)  # type: ignore[attr-defined]
    return low


def _least_beta2(run: Run, options: Mapping[str, Any], t: int) -> float:
    """The smallest beta2 at which step t takes another branch than the first one; to ten digits."""
    low, high = 0.5, 0.9999
    while high - low > 1e-10:
        middle = (low + high) / 2
        oracle = run.oracle({**options, "betas": betas_of(options, options["betas"][0], middle)})
        low, high = (low, middle) if oracle.branch(t) != oracle.branch(1) else (middle, high)  # type: ignore[attr-defined]
    return high


def _values(run: Run) -> list[torch.Tensor]:
    """One to three parameters of drawn shapes, layouts and magnitudes."""
    result = []
    for _ in range(run.draw(st.integers(1, 3), "parameters")):
        shape = run.draw(st.sampled_from(SHAPES), "shape")
        scale = run.draw(st.sampled_from((1.0, 0.0, 1e-3)), "scale")
        result.append(lay_out(run.numbers(shape, scale), run.draw(st.sampled_from(LAYOUTS), "layout")))
    return result


def _nudged(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a group that differ from the constructor's in late digits only."""
    nudged = {name: options[name] * (1 + NUDGE) for name in ("lr", "eps", "weight_decay") if name in options}
    if "betas" in options:
        nudged["betas"] = tuple(beta * (1 - NUDGE) for beta in options["betas"])
    return nudged


def _group_options(run: Run, options: Mapping[str, Any], apart: str) -> Mapping[str, Any]:
    """Options of a group: its own, or one of its own, or the constructor's but for late digits."""
    if apart == "late digits":
        return _nudged(options)
    drawn = run.group_options()
    alone = [name for name in sorted(drawn) if run.takes({**options, name: drawn[name]})]
    if apart == "one option" and alone:
        name = run.draw(st.sampled_from(alone), "option")
        return {name: drawn[name]}
    return drawn


@numbers.check("dtype", "implementation", oracle=True, examples=1.0, dtypes=EVERY)
def check_every_step(run: Run) -> None:
    """Each step's state and parameters are the oracle's from the state before, for drawn options and groups."""
    values = _values(run)
    count = min(len(values), run.draw(st.integers(1, 3), "groups"))
    options = run.hyperparameters()
    groups: Sequence[tuple[Sequence[int], Mapping[str, Any]]] = ()
    if count > 1:
        apart = run.draw(st.sampled_from(("all", "one option", "late digits")), "what groups differ in")
        own = [_group_options(run, options, apart) for _ in range(count - 1)]
        members = [*([index] for index in range(count - 1)), range(count - 1, len(values))]
        groups = [*zip(members, [{}, *own], strict=True)]
    run.make(values, options, groups)
    lockstep = run.follow()
    kinds = st.lists(st.sampled_from(("normal", *OF_GRADIENTS, "none")), min_size=1, max_size=8)
    drawn = [run.draw(kinds, "gradients") for _ in values]
    steps = 4 if run.setting.implementation == "compiled" else 8
    for step in range(steps):
        gradients: list[torch.Tensor | None] = []
        for value, each in zip(values, drawn, strict=True):
            kind = each[min(step, len(each) - 1)]
            gradients.append(None if kind == "none" else run.gradient(value.shape, (kind,)))
        run.give(gradients)
        run.judged_step(lockstep)


@numbers.check("dtype", "implementation", oracle=True, examples=0.1, dtypes=REAL, compiled=False)
def check_each_option_of_a_group(run: Run) -> None:
    """Groups that differ in one option each are stepped by that one, and by nothing of one another."""
    options = _well_conditioned(run, run.hyperparameters())
    own = run.group_options()
    groups = [{}, *({name: own[name]} for name in sorted(own) if run.takes({**options, name: own[name]}))]
    run.make([run.numbers((3,)) for _ in groups], options, [([i], group) for i, group in enumerate(groups)])
    lockstep = run.follow()
    for _ in range(10):
        run.give([run.gradient((3,)) for _ in groups])
        run.judged_step(lockstep)


@numbers.check("dtype", "implementation", oracle=True, examples=0.03, dtypes=(torch.float64,), compiled=False, least=1)
def check_each_combination_of_flags(run: Run) -> None:
    """Whatever flags are on together, each step is the oracle's: a group for each combination."""
    options = _well_conditioned(run, run.hyperparameters(weight_decay=0.1))
    own = run.group_options()
    shared = [name for name in ("weight_decouple", "absolute") if name in options]
    flags = sorted(name for name, value in own.items() if isinstance(value, bool))
    if not flags:
        raise Skipped("the subject draws no flags")
    groups = [dict(zip(flags, values, strict=True)) for values in product((False, True), repeat=len(flags))]
    groups = [group for group in groups if run.takes({**options, **group})]
    for values in product((False, True), repeat=len(shared)):
        run.restart()
        run.make(
            [run.numbers((2,)) for _ in groups],
            {**options, **dict(zip(shared, values, strict=True))},
            [([i], group) for i, group in enumerate(groups)],
        )
        _fading(run, 8)


@numbers.check("dtype", "implementation", oracle=True, examples=0.1, dtypes=REAL, compiled=False)
def check_decay_rates_of_zero(run: Run) -> None:
    """Each step is the oracle's where beta1, beta2 or both are 0, with and without a maximum."""
    options = _well_conditioned(run, run.hyperparameters())
    if "betas" not in options:
        raise Skipped("the subject draws no betas")
    beta1, beta2 = options["betas"][:2]
    groups: list[dict[str, Any]] = [
        {"betas": betas_of(options, *betas)} for betas in ((0.0, beta2), (beta1 or 0.5, 0.0), (0.0, 0.0))
    ]
    if "amsgrad" in run.group_options():
        groups = [{**group, "amsgrad": amsgrad} for group in groups for amsgrad in (True, False)]
    run.make([run.numbers((3,)) for _ in groups], options, [([i], group) for i, group in enumerate(groups)])
    _fading(run, 8)


def _fading(run: Run, steps: int) -> None:
    """Steps on ever smaller gradients, of which a maximum remembers the first."""
    lockstep = run.follow()
    for step in range(steps):
        run.give([run.gradient(param.shape, ("normal",)) * 0.5**step for param in run.params()])
        run.judged_step(lockstep)


@numbers.check("dtype", "implementation", oracle=True, examples=0.1, dtypes=EVERY, compiled=False)
def check_gradients_of_every_size(run: Run) -> None:
    """Each step is the oracle's for a parameter whose gradients are all zero, subnormal, faint, tiny, large or huge.

    So it is where one of them is infinite: then there is no number.
    """
    options = _well_conditioned(run, run.hyperparameters())
    if run.setting.narrow:
        raise Skipped("squares leave the range of half precision")
    run.make([run.numbers((5,)) for _ in (*SIZES, "infinite")], options)
    lockstep = run.follow()
    for step in range(7):
        infinite = run.gradient((5,))
        # The other part of an infinite complex number may become NaN in a product.
        if step in (2, 6) and not run.dtype.is_complex:
            infinite[step // 2] = math.inf
        run.give([*(run.gradient((5,), (kind,)) for kind in SIZES), infinite])
        run.judged_step(lockstep)


@numbers.check("dtype", oracle=True, examples=0.1, dtypes=REAL)
def check_defaults(run: Run) -> None:
    """Without any options, and with one alone, the optimizer does what the oracle does with the same."""
    try:
        run.oracle({})
        run.subject.build([torch.nn.Parameter(torch.zeros(2))], {})
    except TypeError as error:
        raise Skipped(f"has no defaults: {error}") from None
    drawn = run.hyperparameters()
    names = [name for name in sorted(drawn) if run.takes({name: drawn[name]})]
    one = run.draw(st.sampled_from(names), "option") if names else None
    alone: list[dict[str, Any]] = [{}, {one: drawn[one]} if one else {}]
    if isinstance(drawn.get("weight_decay"), float):
        # How it decays is another option's default.
        alone.append({"weight_decay": 0.1})
    for options in alone:
        run.make([run.numbers((4,))], options)
        lockstep = run.follow()
        for _ in range(8):
            run.give([run.gradient((4,), ("normal", "tiny"))])
            run.judged_step(lockstep)


def _well_conditioned(run: Run, options: dict[str, Any]) -> dict[str, Any]:
    """The same with decay rates that textbook scalars serve well, and a learning rate that moves a parameter."""
    result = dict(options)
    if "betas" in result:
        beta1 = run.draw(st.sampled_from((0.9, 0.0, 0.5, 0.99)), "beta1")
        beta2 = run.draw(st.sampled_from((0.999, 0.99, 0.9, 0.8, 0.9995, 0.9999, 0.75)), "beta2")
        result["betas"] = betas_of(result, beta1, beta2)
    if "lr" in result:
        result["lr"] = 0.1
    return result


@numbers.check("dtype", "implementation", oracle=True, examples=0.25, dtypes=REAL)
def check_first_adaptive_step(run: Run) -> None:
    """Where the oracle changes its branch, so does the optimizer: the steps before, at and after it."""
    options = _well_conditioned(run, run.hyperparameters())
    if {"threshold", "betas"} <= set(options) and run.draw(
        st.booleans(), "the threshold is next to where a step changes its branch"
    ):
        t = run.draw(st.sampled_from((6, 5, 7, 12)), "step")
        if run.draw(st.booleans(), "the least threshold"):
            options["threshold"] = LEAST
            options["betas"] = betas_of(options, options["betas"][0], _least_beta2(run, options, t) + 1e-5)
        else:
            closest = boundary(run, options, t)
            options["threshold"] = max(LEAST, closest * (1 + run.draw(st.sampled_from(CLOSE), "distance")))
    change = change_of_branch(run.oracle(options))
    if change is None:
        raise Skipped("the oracle takes one branch only")
    run.make([run.numbers((4,))], options)
    lockstep = run.follow()
    for step in range(1, change + 2):
        if change > WALK and step == 3:
            _jump(run, lockstep, change - 2)
        elif change > WALK and 3 < step < change - 1:
            continue
        run.give([run.gradient((4,), ("normal",))])
        run.judged_step(lockstep)


def _jump(run: Run, lockstep: Lockstep, steps: int, index: int = 0) -> None:
    """Let a parameter be one that has taken so many steps."""
    name = run.subject.state.get("t")
    if name is None:
        raise Skipped("the subject names no step count, so that steps far away would have to be walked to")
    run.script.tell(f"step = optimizer.state[params[{index}]][{name!r}]")
    run.script.tell(
        f"optimizer.state[params[{index}]][{name!r}] = "
        f"torch.full_like(step, {steps}) if isinstance(step, torch.Tensor) else {steps}"
    )
    try:
        lockstep.jump(run.params()[index], steps)
    except ValueError as error:
        raise Skipped(str(error)) from None


@numbers.check("dtype", "implementation", oracle=True, examples=0.2, dtypes=REAL, compiled=False)
def check_far_steps(run: Run) -> None:
    """Steps from a hundred to a million are the oracle's."""
    options = _well_conditioned(run, run.hyperparameters())
    run.make([run.numbers((4,)), run.numbers((3,))], options)
    lockstep = run.follow()
    for far in (0, *FAR_STEPS):
        for index in range(2 if far else 0):
            # Of two ages: each has the scalars of its own step.
            _jump(run, lockstep, far + AGE * index, index)
        for _ in range(2):
            run.give([run.gradient((4,), ("normal",)), run.gradient((3,), ("normal",))])
            run.judged_step(lockstep)


@numbers.check("implementation", oracle=True, examples=0.5, dtypes=REAL, compiled=False)
def check_options_changed_in_mid_run(run: Run) -> None:
    """Options that are changed in a group count from the next step on, and what is kept goes on from where it was."""
    run.make([run.numbers((4,))])
    options = run.options
    if getattr(run.oracle(options), "remembers", False):
        raise Skipped("the optimizer remembers earlier options, of which its oracle knows nothing")
    lockstep = run.follow()
    for change in range(3):
        if change:
            new = run.group_options()
            if run.setting.capabilities.missing("late_amsgrad"):
                new = {name: value for name, value in new.items() if name not in AMSGRAD}
            changed = ", ".join(f'"{name}": {expression(value)}' for name, value in new.items())
            run.script.do(f"optimizer.param_groups[0].update({{{changed}}})")
            options = lockstep.options[0] = {**options, **new}
        for _ in range(4):
            run.give([run.gradient((4,), ("normal",))])
            run.judged_step(lockstep)


@numbers.check("implementation", oracle=True, examples=0.3, dtypes=REAL)
def check_a_threshold_that_is_met(run: Run) -> None:
    """Where rho_t equals the threshold, and where the threshold is the next number, the branch is the oracle's."""
    options = run.hyperparameters()
    own = "threshold" in options
    beta2, t, rho = run.draw(st.sampled_from(MET if own else FIVE), "beta2, t, rho_t")
    options |= {"lr": 0.1, "betas": (0.9, beta2)}
    threshold = rho
    if own:
        threshold = rho if run.draw(st.sampled_from((True, False)), "met") else math.nextafter(rho, math.inf)
        options["threshold"] = threshold
    try:
        run.oracle({**options, "threshold": rho + BESIDE})
        oracle = run.oracle({**options, "threshold": threshold})
        later = oracle.branch(t) != oracle.branch(1)  # type: ignore[attr-defined]
    except (TypeError, ValueError, AttributeError):
        raise Skipped("the oracle takes no threshold") from None
    run.make([run.numbers((4,))], options)
    lockstep = run.follow()
    # At equality an oracle leaves the branch open: one with a threshold beside it does not.
    lockstep.options[0] = {**options, "threshold": rho - BESIDE if later else rho + BESIDE}
    for _ in range(t + 1):
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
    generator = np.random.default_rng(run.draw(st.integers(0, 2**32 - 1), "seed"))
    for step in range(1, 151):
        gradient = torch.from_numpy(generator.standard_normal((4,)))
        run.give([gradient.to(run.dtype)])
        trajectory.observe()
        run.step()
        if step in (1, 10, 50, 150):
            for comparison in trajectory.judge(run.optimizer().state[param], run.subject.state):
                run.judge(comparison, "free run", f"after {step} free steps", step)


@numbers.check("dtype", "implementation", oracle=True, examples=0.3, dtypes=PRECISE)
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


@numbers.check("dtype", "implementation", oracle=True, examples=0.3, dtypes=PRECISE)
def check_eps_alone(run: Run) -> None:
    """With gradients about as large as eps, eps decides the step: its place and its size; with none, 0/eps is 0."""
    options = _well_conditioned(run, run.without_decay())
    if "eps" not in options:
        raise Skipped("the subject draws no eps")
    options["eps"] = run.draw(st.sampled_from((1e-3, 1e-2, 1e-5)), "eps")
    # In half precision so small an eps is 0.
    least = options["eps"] if run.setting.narrow else LEAST_EPS[run.dtype.to_real() == torch.float64]
    change = change_of_branch(run.oracle(options)) or 1
    zeros = torch.zeros(4, dtype=run.dtype)
    run.make([zeros, zeros], options, [([0], {}), ([1], {"eps": least})])
    lockstep = run.follow()
    for _ in range(min(change + 1, WALK // 2)):
        run.give([(run.gradient((4,), ("some zeros",)) * options["eps"]).to(run.dtype), zeros])
        run.judged_step(lockstep)


def _averages(oracle: Any, names: Mapping[str, str], betas: Sequence[float], g: Any) -> dict[str, tuple[float, Any]]:
    """Which of the oracle's m and v are moving averages of g and g^2, each with its decay rate and what it averages."""
    oracle.begin(g)
    oracle.advance(np.zeros_like(g), g)
    known = {"m": (betas[0], g), "v": (betas[1], g * g)}
    return {
        symbol: (beta, power)
        for symbol, (beta, power) in known.items()
        if symbol in names and np.allclose(getattr(oracle, symbol), (1 - beta) * power, rtol=1e-6, atol=0.0)
    }


@numbers.check("dtype", oracle=True, examples=0.2, dtypes=PRECISE)
def check_closed_form(run: Run) -> None:
    """On a constant gradient g, m is (1 - b1^t) g and v is (1 - b2^t) g^2, without any recurrence."""
    options = _well_conditioned(run, run.without_decay(maximize=False))
    names = run.subject.state
    if "betas" not in options or options.get("variance_warmup"):
        raise Skipped("is known for moving averages of g and g^2 by two betas")
    run.make([run.numbers((4,))], options)
    gradient = run.gradient((4,), ("normal",))
    arithmetic, _ = arithmetic_of(run.params()[0], run.setting.narrow)
    g, state = flat(gradient), run.optimizer().state
    averages = _averages(run.oracle(options), names, options["betas"], g)
    if not averages:
        raise Skipped("neither m nor v of the oracle is such an average")
    t = 0
    for steps in (1, 4, 15):
        for _ in range(steps):
            run.give([gradient])
            run.step()
            t += 1
        for symbol, (beta, power) in averages.items():
            # 1 - b^t is the sum of (1 - b) b^i: t terms that are all of one sign, each through at most 3 t roundings.
            expected = -np.expm1(t * np.log(beta)) * power if beta else power
            unit = 4 * (t + 4) * arithmetic.unit_roundoff
            bound = unit * np.abs(power) + 4 * t * arithmetic.smallest_subnormal
            kept = state[run.params()[0]][names[symbol]]
            run.expect(
                f"optimizer.state[params[0]][{names[symbol]!r}].is_complex() == params[0].is_complex()",
                f"{names[symbol]} of a {run.dtype} parameter is {kept.dtype}",
            )
            comparison = compare(names[symbol], flat(kept), Tracked(expected, bound))
            run.judge(comparison, "closed form", f"after {t} constant gradients", t)
