"""Steps that torch.compile has traced: one graph for every step number, with the right branch at each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import radam
from radam import WeightDecay
from radam.audit import Lockstep
from radam.audit.subjects.radam import adam_oracle, oracle
from tests.core.helpers import numbers, parameter, params_of, run, set_gradients

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64)
GROUPS: dict[Any, list[dict[str, Any]]] = {
    radam.RAdam: [
        {},
        {"lr": 0.1, "weight_decay": 0.25},
        {"lr": 0.1, "weight_decay": 0.25, "absolute": True},
        {"lr": 0.1, "weight_decay": 0.25, "weight_decouple": False},
        {"lr": 0.1, "betas": (0.8, 0.9), "amsgrad": True, "maximize": True, "weight_decay": 0.01},
        {"lr": 0.1, "eps": 0.01, "optimized_update": False, "betas": (0.7, 0.95)},
        {"lr": 0.1, "degenerated_to_sgd": False, "weight_decay": 0.25, "threshold": 4.5},
        {"lr": 0.1, "betas": (0.9, 0.5)},
    ],
    radam.Adam: [
        {"lr": 0.1},
        {"lr": 0.1, "variance_warmup": 4, "weight_decay": 0.25, "amsgrad": True},
        {"lr": 0.1, "variance_warmup": 3, "weight_decay": 0.25, "weight_decouple": False},
    ],
}
"""Options that together use every path."""

# Of what torch.compile does inside.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
HAS_COMPILER = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
inductor = pytest.param(
    "inductor",
    marks=[
        pytest.mark.deep,
        pytest.mark.skipif(not HAS_COMPILER, reason="torch.compile asks for a C++ compiler, none is here"),
    ],
)
backends = pytest.mark.parametrize("backend", ["eager", inductor])


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Each test compiles for itself, and as often as it must: past a limit torch would go on uncompiled."""
    import torch._dynamo

    torch.compiler.reset()
    with torch._dynamo.config.patch(recompile_limit=64, fail_on_recompile_limit_hit=True):
        yield
    torch.compiler.reset()


class Graphs:
    """A backend that counts the graphs that it is given."""

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self.count = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: Any) -> Any:
        self.count += 1
        return torch._dynamo.lookup_backend(self._backend)(graph, inputs)


def let_compile(optimizer: Any, backend: str = "eager") -> Graphs:
    graphs = Graphs(backend)
    optimizer.step = torch.compile(optimizer.step, backend=graphs)
    return graphs


def assert_made_at_once(counts: list[int], backend: str) -> None:
    """All graphs are of the first step; of that, inductor asks for a second analysis and drops the first."""
    assert set(counts) == {counts[0]}
    assert counts[0] <= (1 if backend == "eager" else 2)


# The numbers


@pytest.mark.deep
@backends
@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("cls", GROUPS)
def test_every_option_in_every_dtype(cls: Any, capturable: bool, backend: str) -> None:
    """In lock-step, across the boundary of each group, by one graph."""
    groups = [
        {"params": [parameter(1.0, -2.0, 3.0, dtype=dtype) for dtype in DTYPES], **options} for options in GROUPS[cls]
    ]
    optimizer = cls(groups, capturable=capturable)
    graphs = let_compile(optimizer, backend)
    lockstep = Lockstep(optimizer, GROUPS[cls], oracle if cls is radam.RAdam else adam_oracle, scalars="exact")
    counts = []
    for step in range(10):
        set_gradients(params_of(optimizer), step)
        lockstep.step()
        counts.append(graphs.count)
    assert lockstep.record.unjudged == 0
    assert_made_at_once(counts, backend)


@backends
def test_layouts_and_large_tensors(backend: str) -> None:
    """In place, and nothing outside a view."""
    base = torch.randn(9, 8, 7, 6, generator=torch.Generator().manual_seed(1))
    edge = base[0].clone()
    params = [
        torch.nn.Parameter(base[1:].transpose(1, 3)),
        torch.nn.Parameter(torch.ones(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)),
        torch.nn.Parameter(torch.ones(40_001)),
        torch.nn.Parameter(torch.ones(0, 3)),
        torch.nn.Parameter(torch.ones(())),
    ]
    optimizer = radam.RAdam(params, lr=0.1, weight_decay=0.1)
    graphs = let_compile(optimizer, backend)
    lockstep = Lockstep(optimizer, [{"lr": 0.1, "weight_decay": 0.1}], oracle, scalars="exact")
    counts = []
    for step in range(8):
        set_gradients(params, step)
        params[0].grad = torch.full((1, 1, 1, 1), float(step)).expand_as(params[0])
        lockstep.step()
        counts.append(graphs.count)
    assert_made_at_once(counts, backend)
    assert torch.equal(base[0], edge)


# How often it is compiled


@pytest.mark.parametrize(
    "options", [{}, {"betas": (0.9, 0.75), "degenerated_to_sgd": False, "threshold": 4.0}], ids=str
)
@pytest.mark.parametrize("tensor_lr", [False, True])
@pytest.mark.parametrize("capturable", [False, True])
def test_once_for_all_steps_and_all_learning_rates(options: dict[str, Any], tensor_lr: bool, capturable: bool) -> None:
    """Below the threshold and above it; a scheduler that moves lr at every step makes no new graph."""
    params = [parameter(), parameter(dtype=torch.bfloat16)]
    lr: Any = torch.tensor(0.1) if tensor_lr else 0.1
    optimizer = radam.RAdam(params, lr=lr, weight_decay=0.1, capturable=capturable, **options)
    graphs = let_compile(optimizer)
    lockstep = Lockstep(optimizer, [{"lr": 0.1, "weight_decay": 0.1, **options}], oracle, scalars="exact")
    for step in range(24):
        set_gradients(params, step)
        if step >= 3:
            value = 0.0 if step == 9 else 0.1 / step
            if tensor_lr:
                lr.fill_(value)
                value = float(lr)
            else:
                optimizer.param_groups[0]["lr"] = value
            lockstep.options[0]["lr"] = value
        lockstep.step()
        # A number that a graph of capturable holds is a constant once, and an input from its first change on.
        assert graphs.count <= 1 + (capturable and not tensor_lr and step >= 3)


def test_other_betas_are_one_more_graph_at_most() -> None:
    """From then on betas are inputs: OneCycleLR moves beta1 at every step."""
    params = [parameter()]
    optimizer = radam.RAdam(params, lr=0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=30)
    graphs = let_compile(optimizer)
    lockstep = Lockstep(optimizer, [{}], oracle, scalars="exact")
    for step in range(20):
        set_gradients(params, step)
        group = optimizer.param_groups[0]
        lockstep.options[0].update(lr=float(group["lr"]), betas=tuple(map(float, group["betas"])))
        lockstep.step()
        scheduler.step()
    assert graphs.count <= 3


def test_a_parameter_that_gets_its_first_gradient_late() -> None:
    """It is of another age from then on; that makes one more graph, and no other."""
    params = [parameter(), parameter()]
    optimizer = radam.RAdam(params, lr=0.1)
    graphs = let_compile(optimizer)
    lockstep = Lockstep(optimizer, [{"lr": 0.1}], oracle, scalars="exact")
    for step in range(14):
        set_gradients(params, step)
        if step < 4:
            params[1].grad = None
        lockstep.step()
        assert graphs.count == (1 if step < 4 else 2)


# Other ways to run it


@pytest.mark.parametrize("switches", [{"fused": True}, {"differentiable": True}], ids=str)
def test_what_cannot_be_traced_runs_as_it_is(switches: dict[str, Any]) -> None:
    compiled, plain = parameter(), parameter()
    optimizers = [radam.RAdam([param], lr=0.1, **switches) for param in (compiled, plain)]
    if "differentiable" in switches:
        for param in (compiled, plain):
            param.requires_grad_(False)
    graphs = let_compile(optimizers[0])
    for optimizer in optimizers:
        run(optimizer, 8)
    assert numbers(compiled) == numbers(plain)
    assert graphs.count == 0


@pytest.mark.parametrize("switches", [{"foreach": False}, {"foreach": True}, {"fused": False}], ids=str)
def test_the_other_switches_are_compiled_all_the_same(switches: dict[str, Any]) -> None:
    param = parameter()
    optimizer = radam.RAdam([param], lr=0.1, **switches)
    graphs = let_compile(optimizer)
    lockstep = Lockstep(optimizer, [{"lr": 0.1}], oracle, scalars="exact")
    for _ in range(8):
        lockstep.step()
    assert graphs.count == 1


class Penalty:
    """L2 written by somebody else."""

    def defaults(self) -> dict[str, Any]:
        return {"rate": 0.25}

    def __call__(self, param: torch.Tensor, grad: torch.Tensor, group: Any) -> torch.Tensor:
        return grad + group["rate"] * param


@pytest.mark.parametrize("dtype", DTYPES[:4])
def test_a_decay_of_ones_own(dtype: torch.dtype) -> None:
    param = parameter(dtype=dtype)
    optimizer = radam.RAdam([param], lr=0.1, weight_decay=Penalty())
    graphs = let_compile(optimizer)
    options = {"lr": 0.1, "weight_decay": 0.25, "weight_decouple": False}
    lockstep = Lockstep(optimizer, [options], oracle, scalars="exact")
    for step in range(8):
        set_gradients([param], step)
        lockstep.step()
    assert graphs.count == 1


@backends
def test_a_compiled_training_step(backend: str) -> None:
    """Model, loss, backward pass and step in one function."""
    torch.manual_seed(0)
    models = [torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [radam.RAdam(model.parameters(), lr=0.05) for model in models]
    data = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))

    def train(model: Any, optimizer: Any) -> Any:
        optimizer.zero_grad()
        loss = (model(data) - data.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    compiled = torch.compile(train, backend=backend)
    losses = [(compiled(models[0], optimizers[0]).item(), train(models[1], optimizers[1]).item()) for _ in range(60)]
    assert losses[-1][0] < losses[0][0] / 5
    # The first losses are of the same weights; what rounds otherwise is far below a thousandth of them at the end.
    assert losses[0][0] == pytest.approx(losses[0][1], rel=2**-16, abs=0)
    assert losses[-1][0] == pytest.approx(losses[-1][1], rel=1e-3, abs=0)


def test_a_closure() -> None:
    param = parameter()
    optimizer = radam.RAdam([param], lr=0.1)
    let_compile(optimizer)
    calls = []

    def closure() -> torch.Tensor:
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = param.square().sum()
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(8)]
    assert losses == sorted(losses, reverse=True)
    assert calls == [True] * 8


def test_a_step_that_is_refused_changes_nothing() -> None:
    """Checks come first here too."""
    good, bad = parameter(), parameter()
    optimizer = radam.RAdam([good, bad], lr=0.1)
    let_compile(optimizer)
    optimizer.step()
    before = numbers(good), numbers(bad), optimizer.state[good]["step"]
    bad.grad = torch.eye(3).to_sparse()[0]
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
    assert (numbers(good), numbers(bad), optimizer.state[good]["step"]) == before


def test_the_state_of_a_compiled_step_is_that_of_a_plain_one() -> None:
    """step stays a number, or a tensor with capturable: resumed by a plain optimizer, it goes on."""
    param, other = parameter(), parameter()
    compiled, plain = radam.RAdam([param], lr=0.1), radam.RAdam([other], lr=0.1)
    let_compile(compiled)
    run(compiled, 7)
    assert compiled.state[param]["step"] == 7
    assert type(compiled.state[param]["step"]) is int
    other.data.copy_(param.detach())
    plain.load_state_dict(compiled.state_dict())
    lockstep = Lockstep(plain, [{"lr": 0.1}], oracle, scalars="exact")
    set_gradients([other], 0)
    lockstep.step()


def test_weight_decay_objects_are_told_apart() -> None:
    """Two optimizers that compile the same code."""
    params = [parameter(), parameter()]
    decays = [WeightDecay(0.5), WeightDecay(0.5, weight_decouple=False)]
    optimizers = [radam.RAdam([p], lr=0.1, weight_decay=d) for p, d in zip(params, decays, strict=True)]
    for optimizer, decay in zip(optimizers, decays, strict=True):
        let_compile(optimizer)
        lockstep = Lockstep(optimizer, [{"lr": 0.1, **decay.defaults()}], oracle, scalars="exact")
        for _ in range(8):
            lockstep.step()
    assert numbers(params[0]) != numbers(params[1])
