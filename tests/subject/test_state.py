"""What an optimizer keeps, and that it goes on from there bit for bit."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from radam.audit import Subject
from radam.audit.lockstep import same_bits
from radam.audit.subjects.radam import Family
from tests.subject.driving import (
    ACROSS,
    CONFIGURATIONS,
    assert_same,
    follow,
    held,
    parameter,
    params_of,
    run,
    set_gradients,
    start,
)

everywhere = pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex64)
AROUND = (0, 1, 4, 5, 6, 7, 12)
"""Counts of steps at which a run is cut: at the start, on both sides of the boundary, later."""


def made() -> list[list[torch.nn.Parameter]]:
    """Two groups of parameters, together of all dtypes."""
    return [
        [parameter((3,), dtype, seed=1) for dtype in DTYPES[::2]],
        [parameter((2, 2), dtype, seed=2) for dtype in DTYPES[1::2]],
    ]


OWN: list[dict[str, Any]] = [{}, {"lr": 0.03, "betas": (0.8, 0.97), "eps": 1e-3}]
STRANGE: dict[str, Any] = {
    "lr": 7.0,
    "betas": (0.3, 0.4),
    "eps": 3.0,
    "weight_decay": 0.9,
    "optimized_update": False,
    "amsgrad": True,
    "degenerated_to_sgd": False,
    "threshold": 11.0,
    "maximize": True,
}
"""Options that a loaded state_dict has to replace; `weight_decouple` and `absolute` belong to the decay object."""


def through_a_file(saved: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def copies_of(params: list[torch.Tensor]) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(param.detach().clone()) for param in params]


def loaded_into_another(
    family: Family, optimizer: torch.optim.Optimizer, options: dict[str, Any], saved: Any
) -> torch.optim.Optimizer:
    """A new optimizer over copies of the parameters, built with other options, that has loaded the state."""
    kind = {name: options[name] for name in ("weight_decouple", "absolute") if name in options}
    strange = {name: value for name, value in STRANGE.items() if name != "weight_decay"}
    groups = [{"params": copies_of(group["params"])} for group in optimizer.param_groups]
    fresh = family.build(groups, {**strange, **kind, "weight_decay": 0.9})
    fresh.load_state_dict(saved)
    return fresh


WAYS: dict[str, Callable[[Family, torch.optim.Optimizer, dict[str, Any]], torch.optim.Optimizer]] = {
    "state_dict": lambda family, optimizer, options: loaded_into_another(
        family, optimizer, options, copy.deepcopy(optimizer.state_dict())
    ),
    "a file": lambda family, optimizer, options: loaded_into_another(
        family, optimizer, options, through_a_file(optimizer.state_dict())
    ),
    "deepcopy": lambda family, optimizer, options: copy.deepcopy(optimizer),
    "pickle": lambda family, optimizer, options: pickle.loads(pickle.dumps(optimizer)),
    "torch.save of the optimizer": lambda family, optimizer, options: saved_whole(optimizer),
    "state_dict into itself": lambda family, optimizer, options: into_itself(optimizer),
}


def saved_whole(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    buffer = io.BytesIO()
    torch.save(optimizer, buffer)
    buffer.seek(0)
    loaded: torch.optim.Optimizer = torch.load(buffer, weights_only=False)
    return loaded


def into_itself(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """A deep copy that loads its own state."""
    fresh = copy.deepcopy(optimizer)
    fresh.load_state_dict(copy.deepcopy(fresh.state_dict()))
    return fresh


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["defaults", "L2", "AMSGrad, maximize", "held below the threshold"])
def test_a_copy_goes_on_bit_for_bit_and_alone(subject: Subject, family: Family, name: str, way: str) -> None:
    """At every t around the boundary: the same state at once, the same steps after, and each leaves the other alone."""
    options = CONFIGURATIONS[name]
    lockstep = start(subject, family, made(), options, OWN)
    for t in range(max(AROUND) + 1):
        if t in AROUND:
            original = lockstep.optimizer
            now = held(subject, original)
            other = WAYS[way](family, original, options)
            assert_same(held(subject, other), now, f"{way} at t = {t}")
            run(follow(subject, other, lockstep.options), 2, 50 + t)
            assert_same(held(subject, original), now, f"two steps of the other after {way} at t = {t}")
            ahead = held(subject, other)
            # On a copy, so that the run itself meets every t.
            again = copy.deepcopy(original)
            run(follow(subject, again, lockstep.options), 2, 50 + t)
            assert_same(held(subject, again), ahead, f"two steps of both after {way} at t = {t}")
            assert_same(held(subject, other), ahead, f"two steps of the original after {way} at t = {t}")
        run(lockstep, 1, t)


@pytest.mark.parametrize("way", WAYS)
def test_the_maximum_is_kept_while_amsgrad_is_off(subject: Subject, family: Family, way: str) -> None:
    """Saved while it is off, and of use again when it is on."""
    options = CONFIGURATIONS["AMSGrad, maximize"]
    lockstep = start(subject, family, made(), options)
    run(lockstep, 6)
    for group, own in zip(lockstep.optimizer.param_groups, lockstep.options, strict=True):
        group["amsgrad"] = own["amsgrad"] = False
    run(lockstep, 2, 6)
    other = follow(subject, WAYS[way](family, lockstep.optimizer, options), lockstep.options)
    assert_same(held(subject, other.optimizer), held(subject, lockstep.optimizer), f"{way} while amsgrad is off")
    for each in (lockstep, other):
        for group, own in zip(each.optimizer.param_groups, each.options, strict=True):
            group["amsgrad"] = own["amsgrad"] = True
        run(each, 3, 8)
    assert_same(held(subject, other.optimizer), held(subject, lockstep.optimizer), f"three steps after {way}")


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_an_older_state_is_gone_back_to(subject: Subject, family: Family, name: str) -> None:
    """The steps from there are those that were taken from there, bit for bit: nothing is kept beside the state.

    Options that were changed meanwhile are the older ones again, and what had no state then has none again.
    """
    lockstep = start(subject, family, made(), CONFIGURATIONS[name], OWN)
    run(lockstep, 3)
    late = [parameter((2,), seed=9)]
    lockstep.optimizer.add_param_group({"params": late})
    lockstep.options.append(dict(CONFIGURATIONS[name]))
    saved = copy.deepcopy(lockstep.optimizer.state_dict())
    values = [param.detach().clone() for param in params_of(lockstep.optimizer)]
    run(lockstep, 5, 3)
    ahead = held(subject, lockstep.optimizer)
    for times in (2, 3):
        for group in lockstep.optimizer.param_groups:
            group["lr"] *= times
        lockstep.optimizer.load_state_dict(copy.deepcopy(saved))
        assert not lockstep.optimizer.state.get(late[0]), "state that is not in the dict has been kept"
        with torch.no_grad():
            for param, value in zip(params_of(lockstep.optimizer), values, strict=True):
                param.copy_(value)
        lockstep = follow(subject, lockstep.optimizer, lockstep.options)
        run(lockstep, 5, 3)
        assert_same(held(subject, lockstep.optimizer), ahead, "five steps after going back")


def test_state_has_torchs_names(subject: Subject, family: Family) -> None:
    for amsgrad in (False, True):
        lockstep = start(subject, family, made(), {"amsgrad": amsgrad})
        for param in params_of(lockstep.optimizer):
            assert not lockstep.optimizer.state.get(param), "there is state before the first gradient"
        run(lockstep, 1)
        names = [subject.state[symbol] for symbol in ("t", "m", "v", *("s" if amsgrad else ""))]
        for param in params_of(lockstep.optimizer):
            state = lockstep.optimizer.state[param]
            assert set(names) <= set(state), f"state has {sorted(state)}, but should have {sorted(names)}"
            for name in names[1:]:
                assert state[name].shape == param.shape, f"{name} has shape {state[name].shape}, not {param.shape}"
                assert state[name].device == param.device, f"{name} is on {state[name].device}, not {param.device}"
            step = state[names[0]]
            assert not isinstance(step, torch.Tensor) or step.numel() == 1, f"step = {step}, but should be a number"


def assert_plain(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            assert isinstance(key, str | int), f"{where} has the key {key!r}"
            assert_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            assert_plain(item, f"{where}[{i}]")
    else:
        plain = type(value) in (int, float, bool, str, type(None), torch.Tensor)
        assert plain, f"{where} = {value!r}, but should be a tensor, a number, a boolean, a string or None"


@everywhere
def test_a_state_dict_holds_tensors_and_primitives(subject: Subject, family: Family, options: dict[str, Any]) -> None:
    lockstep = start(subject, family, made(), options, OWN)
    assert_plain(lockstep.optimizer.state_dict(), "state_dict()")
    run(lockstep, 7)
    saved = lockstep.optimizer.state_dict()
    assert_plain(saved, "state_dict()")
    assert sorted(saved["state"]) == list(range(len(params_of(lockstep.optimizer))))
    assert [len(group["params"]) for group in saved["param_groups"]] == [3, 2]


def test_a_state_dict_changes_nothing(subject: Subject, family: Family) -> None:
    lockstep = start(subject, family, made(), {"amsgrad": True})
    for t in range(8):
        before = held(subject, lockstep.optimizer)
        lockstep.optimizer.state_dict()
        assert_same(held(subject, lockstep.optimizer), before, f"state_dict() at t = {t}")
        run(lockstep, 1, t)


def test_loading_leaves_parameters_and_gradients_alone(subject: Subject, family: Family) -> None:
    lockstep = start(subject, family, made(), {"amsgrad": True})
    run(lockstep, 7)
    params = [parameter(p.shape, p.dtype, seed=70 + i) for i, p in enumerate(params_of(lockstep.optimizer))]
    set_gradients(params, 3)
    before = [(p.detach().clone(), p.grad) for p in params]
    fresh = family.build([{"params": params[:3]}, {"params": params[3:]}], {})
    fresh.load_state_dict(copy.deepcopy(lockstep.optimizer.state_dict()))
    assert [id(p) for p in params_of(fresh)] == [id(p) for p in params], "loading has replaced the parameters"
    for p, (value, grad) in zip(params, before, strict=True):
        assert torch.equal(p.detach(), value), "loading has changed a parameter"
        assert p.grad is grad, "loading has changed a gradient"


def test_loaded_options_win_and_can_be_changed_afterwards(subject: Subject, family: Family) -> None:
    options = {"lr": 0.1, "betas": (0.8, 0.95), "eps": 0.01, "weight_decay": 0.25}
    lockstep = start(subject, family, made(), options, OWN)
    run(lockstep, 4)
    fresh = loaded_into_another(family, lockstep.optimizer, options, copy.deepcopy(lockstep.optimizer.state_dict()))
    for group, own in zip(fresh.param_groups, lockstep.options, strict=True):
        for name, value in own.items():
            seen = tuple(group[name]) if name == "betas" else group[name]
            assert seen == value, f"{name} = {seen!r} after loading, but should be {value!r}"
    lockstep.follow(fresh)
    run(lockstep, 3, 1)
    for name, value in {"lr": 0.3, "betas": (0.5, 0.9), "eps": 0.5, "weight_decay": 0.75, "amsgrad": True}.items():
        fresh.param_groups[1][name] = lockstep.options[1][name] = value
        run(lockstep, 2, 2)


def test_loaded_options_are_not_those_of_later_groups(subject: Subject, family: Family) -> None:
    """A group that is added after a load has the constructor's: what is loaded belongs to the groups in the file."""
    lockstep = start(subject, family, [[parameter()]], {"lr": 0.1, "weight_decay": 0.25})
    run(lockstep, 3)
    saved = copy.deepcopy(lockstep.optimizer.state_dict())
    saved["param_groups"][0].update(lr=0.01, betas=(0.5, 0.9), eps=0.5, weight_decay=0.75)
    lockstep.options[0].update(lr=0.01, betas=(0.5, 0.9), eps=0.5, weight_decay=0.75)
    lockstep.optimizer.load_state_dict(saved)
    lockstep.optimizer.add_param_group({"params": [parameter(seed=1)]})
    lockstep.options.append({"lr": 0.1, "weight_decay": 0.25})
    run(lockstep, 9, 3)


def test_states_are_dealt_out_by_the_numbers_of_the_file(subject: Subject, family: Family) -> None:
    """The groups of a state_dict say which entry belongs to which parameter."""
    lockstep = start(subject, family, [[parameter((3,), seed=i) for i in range(3)]], {"lr": 0.1})
    run(lockstep, 4)
    saved = copy.deepcopy(lockstep.optimizer.state_dict())
    before = held(subject, lockstep.optimizer)
    turned = [2, 0, 1]
    numbers_of = saved["param_groups"][0]["params"]
    saved["param_groups"][0]["params"] = [numbers_of[i] for i in turned]
    lockstep.optimizer.load_state_dict(saved)
    after = held(subject, lockstep.optimizer)
    quantities = [name for name in before[0] if name != "param"]
    for place, i in enumerate(turned):
        for name in quantities:
            one, other = (torch.as_tensor(state[name]) for state in (after[place], before[i]))
            assert same_bits(one, other), f"{name} of parameter {place} is not that of {i}"


def test_what_a_user_keeps_in_state_and_groups_is_loaded(subject: Subject, family: Family) -> None:
    lockstep = start(subject, family, [[parameter()]], {"lr": 0.1})
    run(lockstep, 3)
    (param,) = params_of(lockstep.optimizer)
    lockstep.optimizer.state[param]["mine"] = torch.tensor([1.0, 2.0], dtype=torch.float64, device=param.device)
    lockstep.optimizer.param_groups[0]["theirs"] = "kept"
    fresh = loaded_into_another(family, lockstep.optimizer, {}, copy.deepcopy(lockstep.optimizer.state_dict()))
    (param,) = params_of(fresh)
    assert "mine" in fresh.state[param], "a value that the user keeps in the state is gone after loading"
    assert fresh.state[param]["mine"].tolist() == [1.0, 2.0]
    assert fresh.param_groups[0].get("theirs") == "kept", "a value that the user keeps in a group is gone after loading"


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_count_that_is_set_back_to_zero_leaves_the_moments(subject: Subject, family: Family, name: str) -> None:
    """To warm up again, from moments that are there."""
    lockstep = start(subject, family, [[parameter()]], CONFIGURATIONS[name])
    run(lockstep, 7)
    lockstep.jump(params_of(lockstep.optimizer)[0], 0)
    run(lockstep, 9, 1)


def test_state_of_some_parameters_alone(subject: Subject, family: Family) -> None:
    """Parameters without a gradient so far have no state, in the state_dict too, and start from 0 after loading."""
    lockstep = start(subject, family, [[parameter((3,), seed=i) for i in range(4)]], {"lr": 0.1})
    params = params_of(lockstep.optimizer)
    for step in range(7):
        set_gradients(params, step)
        params[0].grad = params[2].grad = None
        lockstep.step()
    saved = lockstep.optimizer.state_dict()
    with_state = sorted(index for index, entry in saved["state"].items() if entry)
    assert with_state == [1, 3], f"parameters {with_state} have state, but should be [1, 3]"
    lockstep.follow(loaded_into_another(family, lockstep.optimizer, {}, copy.deepcopy(saved)))
    run(lockstep, ACROSS, 1)


def test_a_pickle_of_parameters_and_optimizer_keeps_them_together(subject: Subject, family: Family) -> None:
    lockstep = start(subject, family, made(), {"lr": 0.1, "weight_decay": 0.1})
    run(lockstep, 5)
    original = params_of(lockstep.optimizer)
    for way in (lambda both: pickle.loads(pickle.dumps(both)), copy.deepcopy):
        params, optimizer = way((original, lockstep.optimizer))
        assert all(a is b for a, b in zip(params, params_of(optimizer), strict=True)), "parameters are not the same"
        before = [p.detach().clone() for p in params]
        run(follow(subject, optimizer, lockstep.options), 3)
        assert not any(torch.equal(p.detach(), value) for p, value in zip(params, before, strict=True))


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch.save of the optimizer"])
def test_the_decay_object_survives(subject: Subject, family: Family, way: str) -> None:
    """So does the kind of decay in a copy of a copy, before the first step and later, and in groups added to it."""
    for kind in ({"weight_decouple": False}, {"absolute": True}, {}):
        options = {"lr": 0.1, "weight_decay": 0.25, **kind}
        lockstep = start(subject, family, [[parameter((3,))]], options)
        for _ in range(3):
            lockstep.follow(WAYS[way](family, lockstep.optimizer, options))
            run(lockstep, 3)
        lockstep.optimizer.add_param_group({"params": [parameter((3,), seed=5)]})
        lockstep.options.append(dict(options))
        run(lockstep, ACROSS)


class Penalty:
    """A decay of someone's own: L2 with a coefficient that only the object knows."""

    def __init__(self, coefficient: float) -> None:
        self.coefficient = coefficient

    def defaults(self) -> dict[str, Any]:
        return {}

    def __call__(self, param: torch.Tensor, grad: torch.Tensor, group: Mapping[str, Any]) -> torch.Tensor:
        return grad + self.coefficient * param


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch.save of the optimizer", "state_dict into itself"])
def test_a_decay_object_of_ones_own_survives(subject: Subject, family: Family, way: str) -> None:
    options = {"lr": 0.1, "weight_decay": 0.25, "weight_decouple": False}
    optimizer = family.optimizer([parameter((3,)), parameter((2,), torch.bfloat16)], 0.1, weight_decay=Penalty(0.25))
    lockstep = follow(subject, optimizer, [options])
    for _ in range(3):
        lockstep.follow(WAYS[way](family, lockstep.optimizer, options))
        run(lockstep, 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_amsgrad_on_and_off_in_mid_run(subject: Subject, family: Family, dtype: torch.dtype) -> None:
    """Turned on late it starts from zeros, turned off it is left alone, turned on again it goes on from there."""
    name = subject.state["s"]
    for first in (True, False):
        lockstep = start(subject, family, [[parameter((4,), dtype)]], {"lr": 0.1, "betas": (0.8, 0.7)})
        for phase, amsgrad in enumerate((first, not first, first, not first)):
            before = held(subject, lockstep.optimizer)[0].get(name)
            lockstep.optimizer.param_groups[0]["amsgrad"] = lockstep.options[0]["amsgrad"] = amsgrad
            run(lockstep, 5, phase, scale=10.0**-phase)
            after = held(subject, lockstep.optimizer)[0].get(name)
            if before is not None and not amsgrad:
                assert after is not None, f"{name} is gone, but should be left alone while amsgrad is off"
                assert same_bits(after, before), f"{name} = {after}, but should stay {before} while amsgrad is off"
        for amsgrad in (True, False):
            fresh = loaded_into_another(family, lockstep.optimizer, {}, copy.deepcopy(lockstep.optimizer.state_dict()))
            lockstep.follow(fresh)
            fresh.param_groups[0]["amsgrad"] = lockstep.options[0]["amsgrad"] = amsgrad
            run(lockstep, 3, 9, scale=1e-6)


def test_a_maximum_that_a_file_lacks_is_gone(subject: Subject, family: Family) -> None:
    """Who goes back to a state without one, and turns amsgrad on again, starts from zeros."""
    lockstep = start(subject, family, [[parameter()]], {"lr": 0.1, "betas": (0.8, 0.7)})
    run(lockstep, 3)
    name = subject.state["s"]
    before = held(subject, lockstep.optimizer)[0].get(name)
    saved = copy.deepcopy(lockstep.optimizer.state_dict())
    lockstep.optimizer.param_groups[0]["amsgrad"] = lockstep.options[0]["amsgrad"] = True
    run(lockstep, 5, 3)
    lockstep.optimizer.load_state_dict(saved)
    after = held(subject, lockstep.optimizer)[0].get(name)
    if before is None:
        assert after is None, f"{name} is not in the file, but has been kept"
    else:
        assert same_bits(after, before), f"{name} = {after}, but should be {before}, as in the file"


def test_state_survives_a_group_that_is_added(subject: Subject, family: Family) -> None:
    lockstep = start(subject, family, made(), {"lr": 0.1, "amsgrad": True}, OWN)
    run(lockstep, 7)
    before = held(subject, lockstep.optimizer)
    lockstep.optimizer.add_param_group({"params": [parameter((3,), seed=99)], "lr": 0.5})
    lockstep.options.append({"lr": 0.5, "amsgrad": True})
    assert_same(held(subject, lockstep.optimizer)[:-1], before, "add_param_group")
    run(lockstep, ACROSS)
    fresh = loaded_into_another(family, lockstep.optimizer, {}, copy.deepcopy(lockstep.optimizer.state_dict()))
    lockstep.follow(fresh)
    run(lockstep, 3)


def test_the_same_run_twice_is_the_same(subject: Subject, family: Family) -> None:
    """Bit for bit, whatever ran between; and no step draws from torch's random numbers."""
    results = []
    for _ in range(2):
        lockstep = start(subject, family, made(), {"lr": 0.1, "weight_decay": 0.1, "amsgrad": True}, OWN)
        before = torch.get_rng_state()
        run(lockstep, ACROSS)
        assert torch.equal(torch.get_rng_state(), before), "a step has drawn random numbers"
        results.append(held(subject, lockstep.optimizer))
        run(start(subject, family, made(), {"lr": 0.3, "betas": (0.5, 0.8)}), ACROSS, 1)
    assert_same(results[1], results[0], "the same run, a second time")
