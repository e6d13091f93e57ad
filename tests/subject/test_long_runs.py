"""Steps far away, late boundaries, and equality at the threshold."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch

import reference.rectification
from radam.audit import Lockstep, Subject
from radam.audit.checks.numbers import FIVE, MET
from radam.audit.subjects.radam import Family
from tests.subject.driving import CONFIGURATIONS, assert_judged, follow, parameter, params_of, run, start

everywhere = pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS)


CHANGES: dict[str, tuple[Any, ...]] = {
    "lr": (0.01, 0.0, 0.3),
    "betas": ((0.5, 0.75), (0.8, 0.99)),
    "eps": (1.0, 1e-3),
    "weight_decay": (0.25, 0.0),
    "amsgrad": (True, False),
    "maximize": (True, False),
}


def sent_to(lockstep: Lockstep, subject: Subject, family: Family, steps: int, apart: int = 0) -> Lockstep:
    """The same optimizer after so many steps, by its own state_dict: `step` keeps the type that it has there.

    Each parameter has taken `apart` more than the one before it.
    """
    saved = copy.deepcopy(lockstep.optimizer.state_dict())
    name = subject.state["t"]
    for index, entry in enumerate(saved["state"].values()):
        own = steps + index * apart
        if isinstance(entry[name], torch.Tensor):
            entry[name].fill_(own)
            held = float(entry[name])
            assert held == own, f"{name} is kept as {entry[name].dtype}, which has no {own}: it cannot count so far"
        else:
            entry[name] = type(entry[name])(own)
    kind = {key: lockstep.options[0][key] for key in ("weight_decouple", "absolute") if key in lockstep.options[0]}
    groups = [{"params": group["params"]} for group in lockstep.optimizer.param_groups]
    fresh = family.build(groups, kind)
    fresh.load_state_dict(saved)
    return follow(subject, fresh, lockstep.options)


@everywhere
@pytest.mark.parametrize("steps", [98, 999, 4998, 10**5, 10**6])
def test_steps_far_away(subject: Subject, family: Family, options: dict[str, Any], steps: int) -> None:
    dtypes = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex64)
    params = [parameter((3,), dtype, seed=i) for i, dtype in enumerate(dtypes)]
    lockstep = start(subject, family, [params], options)
    run(lockstep, 2)
    lockstep = sent_to(lockstep, subject, family, steps)
    run(lockstep, 4, 1)
    for param in params_of(lockstep.optimizer):
        seen = float(lockstep.optimizer.state[param][subject.state["t"]])
        assert seen == steps + 4, f"step = {seen}, but should be {steps + 4}"


@pytest.mark.parametrize("name", CHANGES)
def test_options_change_far_away(subject: Subject, family: Family, name: str) -> None:
    """Where both corrections are 1 to the last bit, and nothing else of a step's scalars changes any more."""
    lockstep = start(subject, family, [[parameter((3,), seed=i)] for i in range(2)], {"lr": 0.1, "betas": (0.9, 0.99)})
    run(lockstep, 2)
    lockstep = sent_to(lockstep, subject, family, 10**5)
    run(lockstep, 3, 1)
    for step, value in enumerate(CHANGES[name]):
        for group, options in zip(lockstep.optimizer.param_groups, lockstep.options, strict=True):
            group[name] = options[name] = value
            run(lockstep, 2, 2 + step)


@pytest.mark.parametrize("apart", [1, 3, 100])
@pytest.mark.parametrize("steps", [5, 66, 1000, 99_990])
def test_parameters_of_different_ages_far_away(subject: Subject, family: Family, steps: int, apart: int) -> None:
    """Each has the scalars of its own step, also where the steps of all are large."""
    params = [parameter((3,), seed=i) for i in range(4)]
    lockstep = start(subject, family, [params], {"lr": 0.1, "betas": (0.999, 0.9999), "eps": 1e-4})
    run(lockstep, 1)
    run(sent_to(lockstep, subject, family, steps, apart), 3, 1)


@pytest.mark.parametrize("beta2", [0.9, 0.99])
@pytest.mark.parametrize("beyond", [1.0001, 1.5])
def test_a_threshold_above_rho_inf_is_never_reached(
    subject: Subject, family: Family, beta2: float, beyond: float
) -> None:
    """Not where rho_t has become rho_inf to the last bit either."""
    threshold = beyond * (1 + beta2) / (1 - beta2)
    lockstep = start(subject, family, [[parameter()]], {"lr": 0.1, "betas": (0.9, beta2), "threshold": threshold})
    run(lockstep, 2)
    for steps in (100, 10_000):
        run(sent_to(lockstep, subject, family, steps), 3, 1)


@pytest.mark.parametrize("beta2", [0.9, 0.99, 0.9995, 0.9999, 1 - 1e-6])
@pytest.mark.parametrize("steps", [30, 300, 3000, 30_000])
def test_slow_averages_far_away(subject: Subject, family: Family, beta2: float, steps: int) -> None:
    """Where the bias correction of beta2 still counts after thousands of steps."""
    options = {"lr": 0.1, "betas": (1 - 1 / 512, beta2), "eps": 1e-4, "optimized_update": False}
    lockstep = start(subject, family, [[parameter((4,))]], options)
    run(lockstep, 1)
    run(sent_to(lockstep, subject, family, steps), 3, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.01, "weight_decay": 0.1},
        {"lr": 0.01, "betas": (0.95, 0.9), "amsgrad": True, "optimized_update": False, "degenerated_to_sgd": False},
    ],
    ids=["decay", "AMSGrad"],
)
def test_fifteen_hundred_steps(subject: Subject, family: Family, options: dict[str, Any]) -> None:
    """Every one of them judged."""
    run(start(subject, family, [[parameter((2,))]], options), 1500)


@pytest.mark.parametrize("threshold", [4.0, 5.0, 6.0])
@pytest.mark.parametrize("beta2", [0.6, 0.61, 0.63, 0.65, 2 / 3, 0.67, 0.68, 0.7, 0.72, 0.75, 0.8, 0.84, 0.9, 0.999])
@pytest.mark.parametrize("degenerated_to_sgd", [True, False])
def test_boundaries_that_come_late_or_never(
    subject: Subject, family: Family, beta2: float, threshold: float, degenerated_to_sgd: bool
) -> None:
    first = reference.rectification.first_adaptive_step(beta2, threshold)
    options = {
        "lr": 0.1,
        "betas": (0.0, beta2),
        "eps": 1e-3,
        "threshold": threshold,
        "degenerated_to_sgd": degenerated_to_sgd,
    }
    lockstep = start(subject, family, [[parameter((3,))]], options)
    run(lockstep, 12 if first is None else min(first + 3, 60))


@pytest.mark.parametrize("beta1", [0.0, 1e-3, 0.5, 0.999, 1 - 1e-6])
@pytest.mark.parametrize("beta2", [0.0, 1e-3, 0.5, 0.9, 1 - 1e-6])
def test_betas_at_their_ends(subject: Subject, family: Family, beta1: float, beta2: float) -> None:
    for more in ({}, {"amsgrad": True, "weight_decay": 0.1, "weight_decouple": False}):
        run(start(subject, family, [[parameter((3,))]], {"lr": 0.1, "betas": (beta1, beta2), "eps": 1e-3, **more}), 9)


def test_updates_of_any_magnitude(subject: Subject, family: Family) -> None:
    """After a spike m outlives v: m/sqrt(v) grows to 1e5, and nothing bounds the step."""
    p = parameter((4,))
    options = {"lr": 0.1, "betas": (0.999, 0.75), "eps": 0.0}
    lockstep = start(subject, family, [[p]], options)
    run(lockstep, 3, scale=1e6)
    run(lockstep, 140, 1, scale=1e-6)
    state = lockstep.optimizer.state[p]
    largest = (state[subject.state["m"]] / state[subject.state["v"]].sqrt()).abs().max()
    assert largest > 1e5, f"m/sqrt(v) = {largest}: the test has lost its point"


# Equality at the threshold


def usual_rhos(beta2: float, t: int) -> set[float]:
    """rho_t by the formulas that people write, each in float64."""
    powers = {beta2**t, math.exp(t * math.log(beta2)), float(np.power(beta2, t)), math.prod([beta2] * t)}
    limits = {2 / (1 - beta2) - 1, (1 + beta2) / (1 - beta2), 2.0 * (1.0 / (1 - beta2)) - 1}
    result = {reference.rectification.rho_t(t, beta2)}
    for power in powers:
        for limit in limits:
            for correction in (1 - power, -math.expm1(t * math.log(beta2))):
                for term in (2 * t * power / correction, 2 * t * (power / correction), 2 * (t * power / correction)):
                    result.add(limit - term)
    return result


@pytest.mark.parametrize(("beta2", "t", "rho"), [*MET, *FIVE])
@pytest.mark.parametrize("above", [False, True], ids=["equal", "just below"])
@pytest.mark.parametrize("degenerated_to_sgd", [True, False])
def test_a_rho_that_equals_the_threshold_is_enough(
    subject: Subject, family: Family, beta2: float, t: int, rho: float, above: bool, degenerated_to_sgd: bool
) -> None:
    """Adaptive from rho_t >= threshold on: at equality, and not where the threshold is the next number above.

    The subject has the threshold itself; its oracle, which would leave the branch open there, has one beside it.
    """
    assert usual_rhos(beta2, t) == {rho}
    threshold = math.nextafter(rho, math.inf) if above else rho
    options: dict[str, Any] = {
        "lr": 0.1,
        "betas": (0.9, beta2),
        "eps": 1e-3,
        "threshold": threshold,
        "degenerated_to_sgd": degenerated_to_sgd,
    }
    lockstep = start(subject, family, [[parameter((3,))]], options)
    lockstep.options[0]["threshold"] = rho + (1e-6 if above else -1e-6)
    run(lockstep, t + 2)
    assert_judged(lockstep)
