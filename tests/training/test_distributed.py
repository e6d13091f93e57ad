"""Training on several processes, by torch's own engines: on each of them every step is the oracle's."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

import radam
from tests.training import model as here
from tests.training.model import OPTIONS, STEPS, model, train, watched
from tests.training.ranks import on_ranks

NUMBERS = sum(param.numel() for param in model().parameters())


class Seen(NamedTuple):
    """What a rank tells of its training."""

    judged: int
    unjudged: int
    worst: float
    params: list[torch.Tensor]
    """Whole, wherever their parts are."""
    kernels: set[str]


def whole(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach()
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.clone()).cpu()


def seen(
    net: torch.nn.Module, optimizer: radam.RAdam, lockstep: Any, step: Any = None, rank: int | None = None
) -> Seen:
    """Train, on the data of a rank: its own for None."""
    record = train(net, step or optimizer, lockstep, torch.distributed.get_rank() if rank is None else rank)
    params = [whole(param) for param in net.parameters()]
    return Seen(record.judged, record.unjudged, record.worst, params, set(optimizer.kernels().values()))


def in_replicas(**options: Any) -> Seen:
    net = DistributedDataParallel(model())
    optimizer = radam.RAdam(net.parameters(), **OPTIONS, **options)
    return seen(net, optimizer, watched(optimizer, **options))


def in_shards(mixed: bool = False, **options: Any) -> Seen:
    net = model()
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16) if mixed else MixedPrecisionPolicy()
    for layer in net:
        if list(layer.parameters()):
            fully_shard(layer, mp_policy=policy)
    fully_shard(net, mp_policy=policy)
    optimizer = radam.RAdam(net.parameters(), **OPTIONS, **options)
    assert all(isinstance(param, DTensor) for param in net.parameters())
    return seen(net, optimizer, watched(optimizer, **options))


def in_columns_and_rows() -> Seen:
    """Tensor parallel: the first layer is split by columns, the last by rows."""
    mesh = init_device_mesh(here.HERE.type, (torch.distributed.get_world_size(),))
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 12), torch.nn.Tanh(), torch.nn.Linear(12, 5)).to(here.HERE)
    net = parallelize_module(net, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    optimizer = radam.RAdam(net.parameters(), **OPTIONS)
    # All ranks see the same data.
    return seen(net, optimizer, watched(optimizer), rank=0)


def with_zero() -> Seen:
    net = DistributedDataParallel(model())
    zero = ZeroRedundancyOptimizer(net.parameters(), optimizer_class=radam.RAdam, **OPTIONS)
    own = zero.optim
    assert isinstance(own, radam.RAdam)
    return seen(net, own, watched(own), step=zero)


def judge(ranks: list[Seen], judged: int) -> None:
    """The numbers that were compared, all within bounds; and all ranks have the same parameters, bit for bit."""
    assert sum(rank.judged for rank in ranks) == judged
    assert all(rank.unjudged == 0 and rank.worst <= 1 for rank in ranks)
    for rank in ranks[1:]:
        assert all(map(torch.equal, rank.params, ranks[0].params))
    assert not all(map(torch.equal, ranks[0].params, map(whole, model().parameters())))


def deep(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.deep)


@pytest.mark.parametrize(
    "options", [deep({}), {"amsgrad": True}, deep({"foreach": True}), deep({"foreach": False})], ids=str
)
def test_replicas_stay_equal(options: dict[str, Any]) -> None:
    ranks = on_ranks(2, _with, in_replicas, options)
    quantities = 4 if options.get("amsgrad") else 3
    judge(ranks, 2 * quantities * STEPS * NUMBERS)


@pytest.mark.parametrize(
    ("number", "options"),
    [
        (2, {}),
        deep(3, {}),
        *(deep(n, o) for n in (2, 3) for o in ({"amsgrad": True}, {"foreach": False})),
    ],
    ids=str,
)
def test_shards_are_stepped_where_they_are(number: int, options: dict[str, Any]) -> None:
    ranks = on_ranks(number, _with, in_shards, options)
    judge(ranks, (4 if options.get("amsgrad") else 3) * STEPS * NUMBERS)
    assert ranks[0].kernels == {"loop" if options.get("foreach") is False else "fused"}


@pytest.mark.deep
def test_shards_with_bfloat16_arithmetic() -> None:
    judge(on_ranks(2, _with, in_shards, {"mixed": True}), 3 * STEPS * NUMBERS)


@pytest.mark.deep
def test_shards_of_optimizers() -> None:
    ranks = on_ranks(2, with_zero)
    judge(ranks, 3 * STEPS * NUMBERS)
    assert all(0 < rank.judged < 3 * STEPS * NUMBERS for rank in ranks)


@pytest.mark.deep
def test_columns_and_rows() -> None:
    ranks = on_ranks(2, in_columns_and_rows)
    assert all(rank.unjudged == 0 and rank.worst <= 1 and rank.judged > 0 for rank in ranks)
    assert all(map(torch.equal, ranks[0].params, ranks[1].params))


def _with(work: Any, options: dict[str, Any]) -> Any:
    return work(**options)
