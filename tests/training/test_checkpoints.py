"""Checkpoints: of shards, onto another number of processes; of a run that is killed; and ones that are damaged."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

import radam
from tests.core.helpers import snapshot
from tests.training import model as here
from tests.training.model import OPTIONS, backward, model, watched
from tests.training.ranks import on_ranks, start
from tests.training.resuming import CHECKPOINT, run, steps_in

# Shards


def sharded(**options: Any) -> tuple[torch.nn.Module, radam.RAdam]:
    net = model()
    for layer in net:
        if list(layer.parameters()):
            fully_shard(layer)
    fully_shard(net)
    return net, radam.RAdam(net.parameters(), **{**OPTIONS, **options})


def whole(value: Any) -> Any:
    value = value.full_tensor() if isinstance(value, DTensor) else value
    return value.cpu() if isinstance(value, torch.Tensor) else value


def step(net: torch.nn.Module, optimizer: radam.RAdam, number: int) -> None:
    """A step whose gradients are the same on any number of processes."""
    generator = torch.Generator().manual_seed(number)
    for param in net.parameters():
        assert isinstance(param, DTensor)
        grad = torch.randn(param.shape, generator=generator).to(here.HERE)
        param.grad = distribute_tensor(grad, param.device_mesh, param.placements)
    optimizer.step()


def held(net: torch.nn.Module, optimizer: radam.RAdam) -> list[Any]:
    """Parameters and their state, whole."""
    return [
        {"param": whole(param.detach()), **{name: whole(value) for name, value in optimizer.state[param].items()}}
        for param in net.parameters()
    ]


def saved(folder: str, steps: int) -> list[Any]:
    """Train and save; what is held."""
    net, optimizer = sharded(amsgrad=True)
    for number in range(steps):
        step(net, optimizer, number)
    parts = get_state_dict(net, optimizer)
    dcp.save(dict(zip(("model", "optimizer"), parts, strict=True)), checkpoint_id=folder)
    return held(net, optimizer)


def loaded(folder: str, more: int) -> tuple[list[Any], dict[str, Any], int, float]:
    """Load, with other options than were saved; what is held, the options, and how many further steps were judged."""
    net, optimizer = sharded(lr=0.5, amsgrad=True)
    parts = dict(zip(("model", "optimizer"), get_state_dict(net, optimizer), strict=True))
    dcp.load(parts, checkpoint_id=folder)
    set_state_dict(net, optimizer, model_state_dict=parts["model"], optim_state_dict=parts["optimizer"])
    result = held(net, optimizer)
    with watched(optimizer, amsgrad=True).watching() as record:
        for number in range(more):
            step(net, optimizer, number)
    group = {name: value for name, value in optimizer.param_groups[0].items() if name in OPTIONS}
    return result, group, record.judged, record.worst


@pytest.mark.deep
@pytest.mark.parametrize("steps", [3, 8])
def test_saved_by_four_processes_and_loaded_by_two(tmp_path: Path, steps: int) -> None:
    """In the momentum phase and in the adaptive one: the same bits, the options that were saved, and right steps on."""
    before = on_ranks(4, saved, str(tmp_path), steps)[0]
    ranks = on_ranks(2, loaded, str(tmp_path), 4)
    for after, group, _, worst in ranks:
        for own, other in zip(after, before, strict=True):
            assert own.keys() == other.keys() >= {"param", "step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"}
            assert own["step"] == other["step"] == steps
            assert all(torch.equal(own[name], other[name]) for name in own if name != "step")
        assert group == OPTIONS
        assert worst <= 1
    assert sum(judged for _, _, judged, _ in ranks) == 4 * 4 * sum(entry["param"].numel() for entry in before)


# Killed


def uninterrupted(folder: Path) -> Any:
    process, _connection = start(run, str(folder), 0.0)
    process.join()
    return torch.load(folder / CHECKPOINT, weights_only=True)


def same(a: Any, b: Any) -> bool:
    """Whether two checkpoints hold the same, bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def kills_until_the_end(folder: Path, moments: random.Random, most: int = 1000) -> int:
    """Start a run, kill it some time after it has taken a step, until one comes to its end; how many were killed."""
    kills = 0
    path = folder / CHECKPOINT
    while True:
        before = steps_in(path)
        process, _connection = start(run, str(folder), 0.005)
        while process.exitcode is None and steps_in(path) == before:
            time.sleep(0.01)
        process.join(timeout=moments.uniform(0.0, 0.2) if kills < most else None)
        if process.exitcode is not None:
            assert process.exitcode == 0
            return kills
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1


def test_a_run_that_is_killed_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    expected = uninterrupted(make(tmp_path / "whole"))
    assert kills_until_the_end(make(tmp_path / "killed"), random.Random(0), most=2) > 0
    assert same(torch.load(tmp_path / "killed" / CHECKPOINT, weights_only=True), expected)


@pytest.mark.deep
def test_fifty_times_of_fifty(tmp_path: Path) -> None:
    """Kills at fifty moments at least, in the middle of a run."""
    expected = uninterrupted(make(tmp_path / "whole"))
    moments, kills, runs = random.Random(1), 0, 0
    while kills < 50:
        runs += 1
        folder = make(tmp_path / str(runs))
        kills += kills_until_the_end(folder, moments)
        assert same(torch.load(folder / CHECKPOINT, weights_only=True), expected)


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


# Damaged


def trained(steps: int = 7) -> tuple[torch.nn.Module, radam.RAdam]:
    net = model()
    optimizer = radam.RAdam(net.parameters(), **OPTIONS)
    for number in range(1, steps + 1):
        optimizer.zero_grad()
        backward(net, number)
        optimizer.step()
    return net, optimizer


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    """By torch.load, before there is anything to load into an optimizer."""
    _, optimizer = trained()
    path = tmp_path / "optimizer.pt"
    torch.save(optimizer.state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises((RuntimeError, EOFError, OSError)):
        torch.load(path, weights_only=True)


def moment(state_dict: Any) -> Any:
    return state_dict["state"][0]


DAMAGES = {
    "a moment is cut": lambda d: moment(d).update(exp_avg=moment(d)["exp_avg"][:1]),
    "a moment is missing": lambda d: moment(d).pop("exp_avg_sq"),
    "a moment is no tensor": lambda d: moment(d).update(exp_avg=None),
    "a moment is of whole numbers": lambda d: moment(d).update(exp_avg=moment(d)["exp_avg"].long()),
    "the step is missing": lambda d: moment(d).pop("step"),
    "the step is negative": lambda d: moment(d).update(step=-3),
    "the step is broken": lambda d: moment(d).update(step=2.5),
    "the step is NaN": lambda d: moment(d).update(step=float("nan")),
    "the state is a list": lambda d: d.update(state=[]),
    "a state is a list": lambda d: d["state"].update({0: []}),
    "the groups are missing": lambda d: d.pop("param_groups"),
    "a group has fewer parameters": lambda d: d["param_groups"][0]["params"].pop(),
    "a group is one too many": lambda d: d["param_groups"].append(dict(d["param_groups"][0])),
    "lr is negative": lambda d: d["param_groups"][0].update(lr=-1.0),
    "lr is NaN": lambda d: d["param_groups"][0].update(lr=float("nan")),
    "beta2 is 1": lambda d: d["param_groups"][0].update(betas=(0.9, 1.0)),
    "eps is a word": lambda d: d["param_groups"][0].update(eps="small"),
    "decay is infinite": lambda d: d["param_groups"][0].update(weight_decay=float("inf")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_dict_is_refused_and_nothing_is_changed(tmp_path: Path, damage: str) -> None:
    _, optimizer = trained()
    path = tmp_path / "optimizer.pt"
    torch.save(optimizer.state_dict(), path)
    state_dict = torch.load(path, weights_only=True)
    DAMAGES[damage](state_dict)
    _, receiver = trained(3)
    before = snapshot(receiver)
    with pytest.raises((ValueError, TypeError)) as caught:
        receiver.load_state_dict(state_dict)
    assert str(caught.value)
    assert snapshot(receiver) == before
    receiver.load_state_dict(torch.load(path, weights_only=True))
