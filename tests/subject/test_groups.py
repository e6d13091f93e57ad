"""Parameter groups: each by its own options, whenever they change, and each parameter by its own count of steps."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from radam.audit import Lockstep, Subject
from radam.audit.strategies import radam_hyperparameters
from radam.audit.subjects.radam import Family
from tests.subject.driving import (
    ACROSS,
    CONFIGURATIONS,
    assert_judged,
    follow,
    parameter,
    params_of,
    run,
    set_gradients,
    start,
)

BASE: dict[str, Any] = {"lr": 0.1, "betas": (0.9, 0.95), "eps": 0.01, "weight_decay": 0.125}

OTHERS: dict[str, tuple[Any, Any]] = {
    "lr": (0.025, 0.7),
    "betas": ((0.5, 0.99), (0.95, 0.75)),
    "eps": (1e-8, 0.5),
    "weight_decay": (0.0, 0.75),
    "optimized_update": (False, True),
    "amsgrad": (True, False),
    "degenerated_to_sgd": (False, True),
    "threshold": (4.0, 6.5),
    "maximize": (True, False),
}
"""Two other values of each option, for the second and the third group."""


@pytest.mark.parametrize("name", OTHERS)
def test_each_option_can_be_given_per_group(subject: Subject, family: Family, name: str) -> None:
    """The first group has the constructor's, the second and the third have their own."""
    one, two = OTHERS[name]
    groups = [[parameter((4,), seed=i), parameter((2, 2), seed=10 + i)] for i in range(4)]
    lockstep = start(subject, family, groups, BASE, [{}, {name: one}, {name: two}, {}])
    run(lockstep, 12)
    assert_judged(lockstep)


@pytest.mark.parametrize("apart", [1e-3, 1e-5, 1e-8])
@pytest.mark.parametrize("beta2", [0.9, 0.999])
def test_groups_with_almost_the_same_options(subject: Subject, family: Family, beta2: float, apart: float) -> None:
    """Options that differ in late digits only are different."""
    base = {"lr": 0.1, "betas": (0.9, beta2), "eps": 0.01, "weight_decay": 0.125}
    close: list[dict[str, Any]] = [{name: base[name] * (1 + apart)} for name in ("lr", "eps", "weight_decay")]  # type: ignore[operator]
    close += [{"betas": (0.9 * (1 - apart), beta2)}, {"betas": (0.9, beta2 * (1 - apart))}]
    groups = [[parameter((4,), scale=0.0 if i % 2 else 1.0)] for i in range(6)]
    lockstep = start(subject, family, groups, base, [{}, *close])
    run(lockstep, 12)
    assert_judged(lockstep)


@pytest.mark.parametrize("name", OTHERS)
def test_each_option_can_be_given_to_the_first_group_alone(subject: Subject, family: Family, name: str) -> None:
    one, _ = OTHERS[name]
    groups = [[parameter((4,), seed=i)] for i in range(3)]
    run(start(subject, family, groups, BASE, [{name: one}, {}, {}]), 12)


@pytest.mark.parametrize("beta", [0, 1])
def test_each_beta_can_differ_alone(subject: Subject, family: Family, beta: int) -> None:
    own = [{"betas": tuple(0.5 + 0.1 * i if k == beta else 0.9 for k in range(2))} for i in range(5)]
    run(start(subject, family, [[parameter((4,), seed=i)] for i in range(5)], BASE, own), 14)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("at", [3, 8])
def test_each_option_can_be_changed_between_steps(subject: Subject, family: Family, name: str, at: int) -> None:
    """Below and above the threshold, there and back again, in the second group alone and then in both."""
    one, two = OTHERS[name]
    lockstep = start(subject, family, [[parameter((4,), seed=i)] for i in range(2)], BASE, [{}, {}])
    default = lockstep.optimizer.param_groups[0][name]
    run(lockstep, at)
    for values in ((default, one), (one, two), (two, one), (default, default)):
        for group, options, value in zip(lockstep.optimizer.param_groups, lockstep.options, values, strict=True):
            group[name] = value
            options[name] = value
        run(lockstep, 2, at)


@pytest.mark.parametrize("beta", [0, 1])
def test_a_list_of_betas_is_changed_in_place(subject: Subject, family: Family, beta: int) -> None:
    """If it is kept as one; a tuple is replaced."""
    lockstep = start(subject, family, [[parameter()]], BASE)
    group = lockstep.optimizer.param_groups[0]
    group["betas"] = list(group["betas"])
    for step, value in enumerate((0.5, 0.8, 0.9)):
        run(lockstep, 7, step)
        changed = list(group["betas"])
        changed[beta] = value
        if isinstance(group["betas"], list):
            group["betas"][beta] = value
        else:
            group["betas"] = tuple(changed)
        lockstep.options[0]["betas"] = tuple(changed)
    run(lockstep, 7, 3)


@given(
    options=st.lists(radam_hyperparameters(), min_size=2, max_size=5),
    seed=st.integers(0, 1000),
    missing=st.lists(st.lists(st.booleans(), min_size=10, max_size=10), min_size=2, max_size=12),
)
def test_generated_groups_with_gradients_that_come_and_go(
    subject: Subject, family: Family, options: list[dict[str, Any]], seed: int, missing: list[list[bool]]
) -> None:
    kind = {name: options[0][name] for name in ("weight_decouple", "absolute")}
    own = [{name: value for name, value in given.items() if name not in kind} for given in options]
    groups = [[parameter((3,), seed=seed + 2 * i), parameter((), seed=seed + 2 * i + 1)] for i in range(len(options))]
    lockstep = start(subject, family, groups, kind, own)
    params = params_of(lockstep.optimizer)
    for step, absent in enumerate(missing):
        set_gradients(params, seed + step)
        for param, gone in zip(params, absent, strict=False):
            if gone:
                param.grad = None
        lockstep.step()


# Schedulers


def scheduled(lockstep: Lockstep, scheduler: lr_scheduler.LRScheduler, steps: int) -> None:
    """Steps of an optimizer and its scheduler; what the scheduler says is what the options should be."""
    seen = set()
    for step in range(steps):
        run(lockstep, 1, step)
        scheduler.step()
        for options, lr, group in zip(
            lockstep.options, scheduler.get_last_lr(), lockstep.optimizer.param_groups, strict=True
        ):
            options["lr"], options["betas"] = float(lr), tuple(group["betas"])
            seen.add((options["lr"], options["betas"]))
    assert len(seen) > 1, "the scheduler has changed nothing"


SCHEDULERS: dict[str, Any] = {
    "StepLR": lambda optimizer: lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5),
    "LambdaLR": lambda optimizer: lr_scheduler.LambdaLR(optimizer, [lambda t: 0.9**t, lambda t: 1.0 + t]),
    "CosineAnnealingLR": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=7),
    "OneCycleLR": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, max_lr=[0.3, 0.2], total_steps=30),
    "CyclicLR": lambda optimizer: lr_scheduler.CyclicLR(optimizer, 0.01, 0.3, step_size_up=4, cycle_momentum=True),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers(subject: Subject, family: Family, name: str) -> None:
    """Two groups, with decoupled decay, which has to follow lr; OneCycleLR and CyclicLR change beta1 too."""
    base = {**BASE, "weight_decay": 0.25}
    lockstep = start(subject, family, [[parameter((4,))], [parameter((3,), seed=1)]], base, [{}, {"lr": 0.05}])
    scheduler = SCHEDULERS[name](lockstep.optimizer)
    for options, group in zip(lockstep.options, lockstep.optimizer.param_groups, strict=True):
        options["lr"], options["betas"] = float(group["lr"]), tuple(group["betas"])
    scheduled(lockstep, scheduler, 15)
    assert_judged(lockstep)


def test_a_scheduler_that_starts_at_zero(subject: Subject, family: Family) -> None:
    """Moments move at lr = 0, parameters do not."""
    p = parameter((4,))
    before = p.detach().clone()
    options = {**BASE, "weight_decay": 0.25, "absolute": True}
    lockstep = start(subject, family, [[p]], options)
    scheduler = lr_scheduler.LambdaLR(lockstep.optimizer, lambda t: max(0, t - 6) / 10)
    lockstep.options[0]["lr"] = 0.0
    run(lockstep, 1)
    assert torch.equal(p.detach(), before), f"p = {p}, but should stay {before} [lr=0]"
    scheduler.step()
    scheduled(lockstep, scheduler, 12)


# Groups that come late


@pytest.mark.parametrize("at", [0, 1, 5, 6, 9])
def test_a_group_added_in_mid_run_starts_from_its_own_first_step(subject: Subject, family: Family, at: int) -> None:
    lockstep = start(subject, family, [[parameter((4,))]], BASE)
    run(lockstep, at)
    late = {"lr": 0.3, "betas": (0.8, 0.9), "eps": 1e-4, "amsgrad": True}
    lockstep.optimizer.add_param_group({"params": [parameter((4,), seed=1)], **late})
    lockstep.options.append({**BASE, **late})
    lockstep.optimizer.add_param_group({"params": parameter((2,), seed=2)})
    lockstep.options.append(dict(BASE))
    run(lockstep, ACROSS, 1)
    assert_judged(lockstep)


def test_a_frozen_group_added_in_mid_run_is_trained_when_it_is_freed(subject: Subject, family: Family) -> None:
    """As the layers of a model that are thawed one after the other."""
    lockstep = start(subject, family, [[parameter()]], BASE)
    run(lockstep, 3)
    first, late = params_of(lockstep.optimizer)[0], parameter(seed=1).requires_grad_(False)
    lockstep.optimizer.add_param_group({"params": [late]})
    lockstep.options.append(dict(BASE))
    assert [id(p) for p in params_of(lockstep.optimizer)] == [id(first), id(late)]
    set_gradients([first], 3)
    lockstep.step()
    late.requires_grad_(True)
    run(lockstep, ACROSS, 4)


def test_a_group_added_late_has_the_constructors_options_not_the_first_groups(subject: Subject, family: Family) -> None:
    lockstep = start(subject, family, [[parameter((4,))]], BASE, [{"lr": 0.5, "eps": 0.5, "betas": (0.3, 0.7)}])
    run(lockstep, 4)
    lockstep.optimizer.param_groups[0]["lr"] = lockstep.options[0]["lr"] = 0.01
    lockstep.optimizer.add_param_group({"params": [parameter((4,), seed=1)]})
    lockstep.options.append(dict(BASE))
    run(lockstep, ACROSS, 1)


def test_a_late_group_may_have_another_dtype(subject: Subject, family: Family) -> None:
    lockstep = start(subject, family, [[parameter((4,), torch.float32)]], BASE)
    run(lockstep, 3)
    for i, dtype in enumerate((torch.bfloat16, torch.complex64, torch.float64)):
        lockstep.optimizer.add_param_group({"params": [parameter((3,), dtype, seed=i)], "lr": 0.01 * (i + 1)})
        lockstep.options.append({**BASE, "lr": 0.01 * (i + 1)})
    run(lockstep, ACROSS, 1)


# Steps are counted by parameter


@pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_parameters_whose_first_gradients_come_late(subject: Subject, family: Family, options: dict[str, Any]) -> None:
    """One group; each parameter starts a step later than the one before it."""
    params = [parameter((3,), seed=i) for i in range(13)]
    lockstep = start(subject, family, [params], options)
    for step in range(22):
        set_gradients(params, step)
        for param in params[step + 1 :]:
            param.grad = None
        lockstep.step()
    for i, param in enumerate(params):
        seen = float(lockstep.optimizer.state[param][subject.state["t"]])
        assert seen == 22 - i, f"step = {seen} of parameter {i}, but should be {22 - i}"


@pytest.mark.parametrize("name", OTHERS)
def test_late_parameters_meet_options_that_have_changed(subject: Subject, family: Family, name: str) -> None:
    """At the same t as others before them, but under other options: nothing is remembered by t alone."""
    params = [parameter((3,), seed=i) for i in range(8)]
    lockstep = start(subject, family, [params], BASE)
    default = lockstep.optimizer.param_groups[0][name]
    for step in range(16):
        value = (default, *OTHERS[name])[step % 3]
        lockstep.optimizer.param_groups[0][name] = lockstep.options[0][name] = value
        set_gradients(params, step)
        for param in params[step + 1 :]:
            param.grad = None
        lockstep.step()


@pytest.mark.parametrize("absent", [0, 1, 2])
def test_a_parameter_that_skips_steps(subject: Subject, family: Family, absent: int) -> None:
    """First, middle or last of its group: the others go on without it, and it goes on from where it was."""
    params = [parameter((3,), seed=i) for i in range(3)]
    lockstep = start(subject, family, [params], BASE)
    for step in range(20):
        set_gradients(params, step)
        if step % 2:
            params[absent].grad = None
        lockstep.step()
    assert float(lockstep.optimizer.state[params[absent]][subject.state["t"]]) == 10


def test_a_group_that_skips_steps(subject: Subject, family: Family) -> None:
    """A whole group without gradients, the first or the second."""
    groups = [[parameter((3,), seed=i), parameter((2,), seed=i + 5)] for i in range(2)]
    lockstep = start(subject, family, groups, BASE, [{}, {"lr": 0.3}])
    for step in range(24):
        run_without = groups[(step // 3) % 2] if step % 3 else []
        set_gradients(params_of(lockstep.optimizer), step)
        for param in run_without:
            param.grad = None
        lockstep.step()


@pytest.mark.parametrize("place", [0, 1])
def test_a_group_without_parameters(subject: Subject, family: Family, place: int) -> None:
    """As helpers make it that find nothing for a group; it is kept by copies and loads."""
    groups = [[parameter((3,)), parameter((2,))]]
    groups.insert(place, [])
    lockstep = start(subject, family, groups, BASE, [{}, {"lr": 0.3}])
    run(lockstep, 7)
    assert_judged(lockstep)
    lockstep.follow(copy.deepcopy(lockstep.optimizer))
    lockstep.optimizer.load_state_dict(lockstep.optimizer.state_dict())
    run(lockstep, 2)


def test_two_parameters_apart_by_a_round_number_of_steps(subject: Subject, family: Family) -> None:
    """What is remembered by the count of steps modulo a small number would mix them up."""
    for apart in (10, 16, 20):
        params = [parameter((3,)), parameter((3,), seed=1)]
        lockstep = start(subject, family, [params], BASE)
        for step in range(apart + 12):
            set_gradients(params, step)
            if step < apart:
                params[1].grad = None
            lockstep.step()


# Many


def test_groups_do_what_separate_optimizers_do(subject: Subject, family: Family) -> None:
    """All configurations of one decay kind in one optimizer, and each in one of its own: all within the same bounds."""
    own = [
        {name: value for name, value in options.items() if name != "absolute"}
        for options in CONFIGURATIONS.values()
        if not options.get("absolute") and options.get("weight_decouple", True)
    ]
    together = start(subject, family, [[parameter((5,), seed=i)] for i in range(len(own))], {}, own)
    run(together, ACROSS)
    for i, options in enumerate(own):
        alone = start(subject, family, [[parameter((5,), seed=i)]], options)
        run(alone, ACROSS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_many_parameters(subject: Subject, family: Family, dtype: torch.dtype) -> None:
    """400 in one group, more than any list is cut into; every one is judged."""
    params = [parameter((1 + i % 3,), dtype, seed=i) for i in range(400)]
    options = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 0.01, "threshold": 4.0, "weight_decay": 0.1}
    run(start(subject, family, [params], options), 7)


def test_many_groups(subject: Subject, family: Family) -> None:
    own = [{"lr": 0.01 * (i + 1), "eps": 10.0 ** -(i % 9), "betas": (0.02 * i, 0.7 + 0.007 * i)} for i in range(40)]
    run(start(subject, family, [[parameter((3,), seed=i)] for i in range(40)], BASE, own), ACROSS)


def test_the_order_of_groups_and_parameters_stays(subject: Subject, family: Family) -> None:
    groups = [[parameter((3,), seed=3 * i + k) for k in range(3)] for i in range(3)]
    lockstep = start(subject, family, groups, BASE, [{}, {"lr": 0.2}, {"lr": 0.3}])
    run(lockstep, 3)
    seen = [[id(p) for p in group["params"]] for group in lockstep.optimizer.param_groups]
    assert seen == [[id(p) for p in group] for group in groups], "parameters or groups have been reordered"


def test_a_step_changes_no_option(subject: Subject, family: Family) -> None:
    """Only what the user or a scheduler writes is in the groups."""
    own = [{}, {"lr": 0.3, "betas": (0.5, 0.8), "eps": 0.1, "weight_decay": 0.5}]
    lockstep = start(subject, family, [[parameter()], [parameter(seed=1)]], BASE, own)
    for group, expected in zip(lockstep.optimizer.param_groups, lockstep.options, strict=True):
        run(lockstep, ACROSS)
        for name, value in expected.items():
            seen = tuple(group[name]) if name == "betas" else group[name]
            assert seen == value, f"param_groups[...][{name!r}] = {seen!r} after steps, but should stay {value!r}"


def test_a_group_changed_by_hand_in_place_of_its_parameters(subject: Subject, family: Family) -> None:
    """A parameter that is replaced by another one is another parameter: it starts anew."""
    first, second = parameter((3,)), parameter((3,), seed=1)
    lockstep = start(subject, family, [[first]], BASE)
    run(lockstep, 7)
    lockstep.optimizer.param_groups[0]["params"][0] = second
    lockstep = follow(subject, lockstep.optimizer, lockstep.options)
    run(lockstep, ACROSS, 1)
    assert float(lockstep.optimizer.state[second][subject.state["t"]]) == ACROSS
