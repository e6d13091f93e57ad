"""A step that a graph can hold: the same operations whatever the step number, and no one who waits for a number."""

from __future__ import annotations

import copy
import functools
import math
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import radam
import reference
import reference.rectification
from radam import WeightDecay
from radam.audit import Lockstep
from radam.audit.strategies import adam_hyperparameters, exact_radam_hyperparameters, radam_hyperparameters
from radam.audit.subjects.radam import adam_oracle, family, oracle
from radam.rectification import first_adaptive_step
from radam.schedule import Kind, gathered, steps_at
from tests.core.helpers import OPTIMIZERS, bits, numbers, parameter, params_of, run, set_gradients, snapshot

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64)
CONFIGURATIONS: dict[str, tuple[Any, dict[str, Any]]] = {
    "defaults": (radam.RAdam, {}),
    "decoupled decay": (radam.RAdam, {"lr": 0.1, "weight_decay": 0.25}),
    "absolute decay": (radam.RAdam, {"lr": 0.1, "weight_decay": WeightDecay(0.25, absolute=True)}),
    "L2": (radam.RAdam, {"lr": 0.1, "weight_decay": WeightDecay(0.25, False), "betas": (0.5, 0.8)}),
    "AMSGrad, maximize": (radam.RAdam, {"lr": 0.1, "betas": (0.8, 0.9), "amsgrad": True, "maximize": True}),
    "held": (radam.RAdam, {"lr": 0.1, "degenerated_to_sgd": False, "weight_decay": 0.1, "threshold": 4.5}),
    "exact": (radam.RAdam, {"lr": 0.1, "rectification": "exact", "weight_decay": 0.25}),
    "exact, held": (radam.RAdam, {"lr": 0.1, "rectification": "exact", "degenerated_to_sgd": False}),
    "never adaptive": (radam.RAdam, {"lr": 0.1, "betas": (0.9, 0.5)}),
    "eps after the bias correction": (radam.RAdam, {"lr": 0.1, "eps": 0.01, "optimized_update": False}),
    "Adam": (radam.Adam, {"lr": 0.1}),
    "Adam-2k": (radam.Adam, {"lr": 0.1, "variance_warmup": 4, "weight_decay": 0.1}),
}
everywhere = pytest.mark.parametrize("name", CONFIGURATIONS)


def built(name: str, params: list[Any], **more: Any) -> Any:
    cls, options = CONFIGURATIONS[name]
    return cls(params, **{**options, "capturable": True, **more})


# The scalars


@given(data=st.data(), steps=st.lists(st.integers(1, 40), min_size=1, max_size=6))
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_scalars_on_the_device_are_those_of_the_host(optimizer: Any, data: st.DataObject, steps: list[int]) -> None:
    """The kind exactly, at the threshold too; size and eps within the error that either may have."""
    strategy, make = {
        radam.RAdam: (st.one_of(radam_hyperparameters(), exact_radam_hyperparameters()), reference.RAdam),
        radam.Adam: (adam_hyperparameters(), reference.Adam),
    }[optimizer]
    options = data.draw(strategy)
    instance = family(optimizer).build([parameter()], options)
    group = instance.param_groups[0]
    phases = instance.phases(group)
    first = phases[-1].first
    steps = [*steps, *((first - 1, first) if first > 1 else ())]
    t = torch.tensor(steps, dtype=torch.float64)
    seen = steps_at(t, phases, group, lambda t: instance.rectification(t, group))
    one_by_one = [instance.schedule(step, group) for step in steps]
    expected = gathered(one_by_one, phases, t.device)
    assert torch.equal(seen.divides, expected.divides)
    for a, b in ((seen.moves, expected.moves), (seen.averages, expected.averages)):
        assert (a is None) == (b is None)
        assert a is None or b is None or torch.equal(a, b)
    for i, (step, own) in enumerate(zip(steps, one_by_one, strict=True)):
        error = make(**options).scalar_error(step, "exact")
        if own.kind in (Kind.ADAPTIVE, Kind.MOMENTUM) and math.isfinite(error.size):
            # Each side has its own error.
            assert abs(float(seen.size[i]) - float(own.size)) <= 2 * error.size * abs(float(own.size))
        if own.kind is Kind.ADAPTIVE:
            assert abs(float(seen.eps[i]) - own.eps) <= 2 * error.eps * own.eps


@pytest.mark.parametrize("beta2", [0.0, 0.5, 0.6, 0.65, 2 / 3, 0.7, 0.75, 0.8, 0.9, 0.999, 0.9995, 1 - 1e-12])
@pytest.mark.parametrize("threshold", [4.0, 4.5, 5.0, math.nextafter(5.0, 6.0), 7.2290326056819465, 10.0, 1999.0])
def test_the_first_adaptive_step_is_the_references(beta2: float, threshold: float) -> None:
    assert first_adaptive_step(beta2, threshold) == reference.rectification.first_adaptive_step(beta2, threshold)


# A graph is a list of operations that runs again: here one is kept as CUDA keeps it


class Tape(TorchDispatchMode):
    """Keeps the operations that run inside, to run them again on the same memory.

    What the host computes from tensors is not kept, as a CUDA graph keeps none of it; asking a tensor for its value is
    an error.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        assert "_local_scalar_dense" not in str(func), "the host waits for the value of a tensor"
        result = func(*args, **kwargs)
        self.operations.append((func, args, kwargs, result))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        now: dict[int, Any] = {}

        def current(value: Any) -> Any:
            return now.get(id(value), value) if isinstance(value, torch.Tensor) else value

        for func, args, kwargs, result in self.operations:
            again = func(*tree_map(current, args), **tree_map(current, kwargs))
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor):
                    now[id(old)] = new


def contents(optimizer: Any) -> list[Any]:
    return [
        (numbers(param), [(name, numbers(value)) for name, value in sorted(optimizer.state[param].items())])
        for param in params_of(optimizer)
    ]


@everywhere
@pytest.mark.parametrize("captured_at", [2, 4, 7])
def test_a_captured_step_runs_again_as_if_it_were_taken_bit_for_bit(name: str, captured_at: int) -> None:
    """Across the boundary, at whichever side of it the graph was made; parameters of different ages in one group."""
    values = [torch.randn(2, 3, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(5)]
    by_graph, by_hand = (
        [torch.nn.Parameter(value.to(dtype, copy=True)) for value, dtype in zip(values, DTYPES, strict=True)]
        for _ in range(2)
    )
    a, b = built(name, by_graph), built(name, by_hand)
    for params in (by_graph, by_hand):
        for param in params:
            param.grad = torch.zeros_like(param)

    def gradients(step: int) -> None:
        for params in (by_graph, by_hand):
            generator = torch.Generator().manual_seed(step)
            for param in params:
                # In place: a graph reads where it has read.
                param.grad.copy_(torch.randn(2, 3, generator=generator, dtype=torch.float64))

    for optimizer in (a, b):
        # One parameter is two steps older.
        optimizer.state[params_of(optimizer)[0]]
    tape = Tape()
    for step in range(1, 14):
        gradients(step)
        if step < captured_at:
            a.step()
        elif step == captured_at:
            with tape:
                a.step()
        else:
            tape.replay()
        b.step()
        assert contents(a) == contents(b)
    assert float(a.state[by_graph[0]]["step"]) == 13


def test_replays_know_the_ages_of_parameters() -> None:
    """Of one group, three steps apart: each has its own first adaptive step."""
    old, young = parameter(dtype=torch.float64), parameter(dtype=torch.float64)
    optimizer = radam.RAdam([old, young], lr=0.1, capturable=True)
    young.grad = None
    for _ in range(3):
        optimizer.step()
    young.grad = torch.ones_like(young)
    optimizer.step()
    lockstep = Lockstep(optimizer, [{"lr": 0.1}], oracle, scalars="exact")
    tape = Tape()
    with tape:
        lockstep.optimizer.step()
    optimizer.step = tape.replay  # type: ignore[method-assign, assignment]
    lockstep = Lockstep(optimizer, [{"lr": 0.1}], oracle, scalars="exact")
    for _ in range(8):
        lockstep.step()
    assert [float(optimizer.state[p]["step"]) for p in (old, young)] == [13, 10]


def test_a_replay_follows_a_tensor_lr_and_not_a_number() -> None:
    """As the documentation of CUDA graphs says: what the host knows is as it was."""
    for lr, follows in ((torch.tensor(0.1, dtype=torch.float64), True), (0.1, False)):
        param = parameter(dtype=torch.float64)
        optimizer = radam.RAdam([param], lr=lr, weight_decay=WeightDecay(0.5, absolute=True), capturable=True)
        optimizer.step()
        tape = Tape()
        with tape:
            optimizer.step()
        if follows:
            lr.zero_()  # type: ignore[union-attr]
        else:
            optimizer.param_groups[0]["lr"] = 0.0
        before = bits(param)
        tape.replay()
        assert (bits(param) == before) == follows


def test_the_tape_sees_what_a_step_of_numbers_does_wrong() -> None:
    """Sanity of these tests: without capturable a replay repeats the scalars of one step."""
    param, other = parameter(dtype=torch.float64), parameter(dtype=torch.float64)
    a, b = radam.RAdam([param], lr=0.1, foreach=True), radam.RAdam([other], lr=0.1, foreach=True)
    a.step()
    b.step()
    tape = Tape()
    with tape:
        a.step()
    b.step()
    tape.replay()
    b.step()
    assert numbers(param) != numbers(other)


# No one waits


class OneDevice(TorchDispatchMode):
    """No operation inside takes or makes a tensor of another device: not even a copy, which the host may wait for."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, result)):
            if isinstance(leaf, torch.Tensor):
                assert leaf.device.type == self.device, f"{func} has a tensor on {leaf.device}"
        return result


@everywhere
@pytest.mark.parametrize("device", ["cuda", pytest.param("xpu", marks=pytest.mark.deep), "cpu"])
@pytest.mark.parametrize("tensor_lr", [False, True])
def test_no_value_is_asked_of_a_device(name: str, device: str, tensor_lr: bool) -> None:
    """On tensors that have a device and no numbers: to ask for one is an error. Mixed devices are one, too."""
    with FakeTensorMode():
        params = [torch.nn.Parameter(torch.empty(2, 3, dtype=dtype, device=device)) for dtype in DTYPES]
        more = {"lr": torch.empty((), device=device)} if tensor_lr and device != "cpu" else {}
        lr = more.pop("lr", None)
        optimizer = built(name, params, **more)
        if lr is not None:
            optimizer.param_groups[0]["lr"] = lr
        for _ in range(2):
            for param in params:
                param.grad = torch.empty_like(param)
            with OneDevice(device):
                optimizer.step()
        for param in params:
            assert optimizer.state[param]["step"].device == param.device
            assert optimizer.state[param]["exp_avg"].device == param.device


@pytest.mark.parametrize("switches", [{}, {"capturable": True}], ids=str)
def test_what_asks_for_a_value_is_an_error(switches: dict[str, Any]) -> None:
    """Sanity of the last test: a step number that must be read to be counted, and one that need not."""
    with FakeTensorMode():
        param = torch.nn.Parameter(torch.empty(3))
        optimizer = radam.RAdam([param], **switches)
        param.grad = torch.empty_like(param)
        optimizer.step()
        optimizer.state[param]["step"] = torch.empty(())
        if "capturable" in switches:
            optimizer.step()
        else:
            with pytest.raises(Exception, match=r"item|_local_scalar_dense"):
                optimizer.step()


def test_mps_has_no_float64() -> None:
    with FakeTensorMode(), pytest.raises(ValueError, match=r"capturable=True cannot serve .* mps has no float64"):
        radam.RAdam([torch.nn.Parameter(torch.empty(3, device="mps"))], capturable=True)
    with FakeTensorMode():
        for device in ("cuda", "xpu"):
            radam.RAdam([torch.nn.Parameter(torch.empty(3, device=device))], capturable=True)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_tensor_lr_on_an_accelerator_needs_capturable(optimizer: Any) -> None:
    """And says so: in the constructor, for a group, and in a step, before anything is touched."""
    lr = torch.empty((), device="meta")
    message = r"lr must be a number or a tensor on the CPU unless capturable=True, but got tensor\(.*device='meta'"
    with pytest.raises(ValueError, match=message):
        optimizer([parameter()], lr=lr)
    optimizer([parameter()], lr=lr, capturable=True)
    instance = optimizer([parameter()], lr=0.1)
    with pytest.raises(ValueError, match=message):
        instance.add_param_group({"params": [parameter()], "lr": lr})
    instance.param_groups[0]["lr"] = lr
    before = numbers(params_of(instance)[0])
    with pytest.raises(ValueError, match=message):
        instance.step()
    assert numbers(params_of(instance)[0]) == before
    assert len(instance.param_groups) == 1


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tensor_lr_counts_as_its_number(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    lr = torch.full(shape, 0.1, dtype=dtype)
    a, b = parameter(), parameter()
    by_tensor = radam.RAdam([a], lr=lr, weight_decay=0.1, capturable=True)
    by_number = radam.RAdam([b], lr=float(lr), weight_decay=0.1, capturable=True)
    run(by_tensor, 9)
    run(by_number, 9)
    assert numbers(a) == numbers(b)
    assert by_tensor.param_groups[0]["lr"] is lr


# Its state


def test_step_is_a_float32_number_on_the_device() -> None:
    param = parameter(dtype=torch.float64)
    optimizer = radam.RAdam([param], capturable=True)
    run(optimizer, 3)
    step = optimizer.state[param]["step"]
    assert (step.dtype, step.shape, step.device, step.item()) == (torch.float32, torch.Size(), param.device, 3.0)


@pytest.mark.parametrize("to", [True, False])
@pytest.mark.parametrize("of", [True, False])
def test_state_moves_between_both_ways_to_keep_it(of: bool, to: bool) -> None:
    source = radam.RAdam([parameter(dtype=dtype) for dtype in DTYPES], lr=0.1, capturable=of)
    run(source, 7)
    receiver = radam.RAdam([torch.nn.Parameter(p.detach().clone()) for p in params_of(source)], capturable=to)
    receiver.load_state_dict(copy.deepcopy(source.state_dict()))
    for param in params_of(receiver):
        assert isinstance(receiver.state[param]["step"], torch.Tensor) == to
        assert float(receiver.state[param]["step"]) == 7
    assert receiver.defaults["capturable"] == to
    lockstep = Lockstep(receiver, [{"lr": 0.1}], oracle, scalars="exact")
    for step in range(4):
        set_gradients(params_of(receiver), step)
        lockstep.step()


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "load"])
def test_a_copy_takes_the_same_next_steps(way: str) -> None:
    original = radam.RAdam([parameter(dtype=dtype) for dtype in DTYPES], lr=0.1, capturable=True)
    run(original, 4)
    if way == "deepcopy":
        other = copy.deepcopy(original)
    elif way == "pickle":
        other = pickle.loads(pickle.dumps(original))
    else:
        other = radam.RAdam([torch.nn.Parameter(p.detach().clone()) for p in params_of(original)], capturable=True)
        other.load_state_dict(original.state_dict())
    for step in range(5):
        run(original, 1, step)
        run(other, 1, step)
        assert contents(original) == contents(other)


@pytest.mark.parametrize(
    "step",
    [3, 3.0, None, torch.tensor(3), torch.tensor(3.0, dtype=torch.float64), torch.tensor([3.0]), torch.tensor(1j)],
    ids=repr,
)
def test_a_step_count_of_another_kind_is_refused(step: Any) -> None:
    """Nothing is changed; a value is not asked for, so it is not judged."""
    param = parameter()
    optimizer = radam.RAdam([("p", param)], capturable=True)
    run(optimizer, 2)
    optimizer.state[param]["step"] = step
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match=r"state of parameter 'p'.*'step' must be a 0-dim float32 tensor on cpu"):
        optimizer.step()
    assert snapshot(optimizer) == before


# What a capture refuses


@pytest.fixture
def capturing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a CUDA graph were being made."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)


def test_a_capture_needs_capturable(capturing: None, monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = radam.RAdam([parameter()])
    before = snapshot(optimizer)
    with pytest.raises(RuntimeError, match="capturable=True"):
        optimizer.step()
    assert snapshot(optimizer) == before


@pytest.mark.parametrize("amsgrad", [False, True])
def test_a_capture_needs_state(monkeypatch: pytest.MonkeyPatch, amsgrad: bool) -> None:
    """State made inside would be made again by each replay."""
    optimizer = radam.RAdam([("p", parameter())], capturable=True)
    if amsgrad:
        optimizer.step()
        optimizer.param_groups[0]["amsgrad"] = True
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    before = snapshot(optimizer)
    with pytest.raises(RuntimeError, match=r"'p' has no state yet.*take a step before"):
        optimizer.step()
    assert snapshot(optimizer) == before
    monkeypatch.undo()
    optimizer.step()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    optimizer.step()


# A decay of one's own


class Penalty:
    """L2 written by somebody else; shrinks the parameter as well."""

    def defaults(self) -> dict[str, Any]:
        return {"rate": 0.25}

    def __call__(self, param: torch.Tensor, grad: torch.Tensor, group: Any) -> torch.Tensor:
        result = grad + group["rate"] * param
        param.mul_(0.5)
        return result


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["defaults", "held", "Adam-2k"])
def test_a_decay_of_ones_own(name: str, dtype: torch.dtype) -> None:
    """As by the loop, to within a few roundings of numbers below 16; where only v moves it has a copy."""
    cls, options = CONFIGURATIONS[name]
    results = []
    for capturable in (True, False):
        param = parameter(dtype=dtype)
        optimizer = cls([param], **{**options, "weight_decay": Penalty(), "capturable": capturable})
        for step in range(8):
            set_gradients([param], step)
            optimizer.step()
        results.append(param.detach())
    unit = torch.finfo(dtype).eps
    assert (results[0] - results[1]).abs().max() <= 8 * 8 * 16 * unit


@everywhere
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_configuration_in_lock_step(name: str, dtype: torch.dtype) -> None:
    cls, options = CONFIGURATIONS[name]
    neutral = dict(options)
    decay = options.get("weight_decay", 0.0)
    neutral.update(decay.defaults() if isinstance(decay, WeightDecay) else {"weight_decay": decay})
    params = [parameter(1.0, -2.0, 3.0, dtype=dtype), parameter(0.0, 1e-3, dtype=dtype)]
    lockstep = Lockstep(built(name, params), [neutral], oracle if cls is radam.RAdam else adam_oracle, scalars="exact")
    for step in range(10):
        set_gradients(params, step)
        lockstep.step()
    assert lockstep.record.unjudged == 0


class HalfTheGradient:
    """A decay of one's own: it shrinks the parameter in place, and returns another gradient."""

    def defaults(self) -> dict[str, Any]:
        return {}

    def __call__(self, param: torch.Tensor, grad: torch.Tensor, group: Any) -> torch.Tensor:
        param.mul_(0.75)
        return 0.5 * grad


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex128])
@pytest.mark.parametrize(
    "build", [radam.RAdam, functools.partial(radam.Adam, variance_warmup=3)], ids=["RAdam", "Adam-2k"]
)
def test_what_a_decay_of_ones_own_does_and_returns_is_used(build: Any, dtype: torch.dtype) -> None:
    """As by the loop, in each kind of step."""
    start = torch.linspace(-1, 1, 5).to(dtype)
    optimizers = [
        build(
            [torch.nn.Parameter(start.clone())], lr=0.1, betas=(0.9, 0.99), weight_decay=HalfTheGradient(), **switches
        )
        for switches in ({"capturable": True}, {"foreach": False})
    ]
    for optimizer in optimizers:
        run(optimizer, 9)
    by_tensors, by_loop = ([*params_of(each), *each.state[params_of(each)[0]].values()] for each in optimizers)
    for one, other in zip(by_tensors, by_loop, strict=True):
        if isinstance(other, torch.Tensor):
            # Nine steps of a few roundings each; a gradient of twice the size would double m.
            assert torch.allclose(one, other, rtol=64 * torch.finfo(other.dtype).eps, atol=0)


class Shapes:
    """A decay of one's own that notes what it is given."""

    def __init__(self) -> None:
        self.seen: list[torch.Size] = []

    def defaults(self) -> dict[str, Any]:
        return {}

    def __call__(self, param: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        self.seen.append(param.shape)
        return grad


def test_what_a_decay_of_ones_own_is_given_is_the_whole_parameter() -> None:
    """Of any size, where the kernel takes others by parts."""
    decay, param = Shapes(), torch.nn.Parameter(torch.ones(3, 2**18))
    optimizer = radam.RAdam([param], weight_decay=decay, capturable=True)
    run(optimizer, 2)
    assert decay.seen == [param.shape] * 2
