"""Which kernel serves which parameter: the fastest that can, tensor by tensor, unless one is asked for or ruled out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import radam
from radam import WeightDecay
from radam.audit import Lockstep
from radam.audit.subjects.radam import oracle
from radam.kernels import fused
from tests.core.helpers import OPTIMIZERS, Subclass, parameter, params_of, run, snapshot

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.complex128)
ONE = "parameter 0 of group 0"


class Own(WeightDecay):
    """A decay that may do anything."""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("switches", "kernel"),
    [
        ({}, "fused"),
        ({"fused": True}, "fused"),
        ({"fused": True, "foreach": False}, "fused"),
        ({"fused": False}, "foreach"),
        ({"foreach": True}, "foreach"),
        ({"foreach": True, "fused": False}, "foreach"),
        ({"foreach": False}, "loop"),
        ({"foreach": False, "fused": False}, "loop"),
        ({"differentiable": True}, "loop"),
        ({"capturable": True}, "capturable"),
        ({"capturable": True, "foreach": True}, "capturable"),
        ({"weight_decay": Own()}, "loop"),
        ({"weight_decay": Own(), "capturable": True}, "capturable"),
    ],
    ids=str,
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_kernel_of_each_choice(optimizer: Any, dtype: torch.dtype, switches: dict[str, Any], kernel: str) -> None:
    instance = optimizer([parameter(dtype=dtype)], **switches)
    assert instance.kernels() == {ONE: kernel}
    assert len(instance.state) == 0


def negative(param: torch.nn.Parameter) -> None:
    param.data = torch.complex(torch.ones(3), torch.ones(3)).conj().imag


def test_each_tensor_has_its_own() -> None:
    """What one parameter needs slows no other down."""
    names = ["plain", "half", "negative", "transposed"]
    params = [parameter(), parameter(dtype=torch.bfloat16), parameter(), torch.nn.Parameter(torch.ones(3, 2).t())]
    negative(params[2])
    optimizer = radam.RAdam(list(zip(names, params, strict=True)))
    expected = {"plain": "fused", "half": "fused", "negative": "loop", "transposed": "fused"}
    assert optimizer.kernels() == {f"parameter {name!r}": kernel for name, kernel in expected.items()}
    params[3].grad = torch.ones(2, 3)
    for _ in range(7):
        optimizer.step()


# What cannot be done


class Lazy(torch.Tensor):
    """A tensor whose operations are its own."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C._DisableTorchDispatch():
            result = func(*args, **(kwargs or {}))
        return torch.Tensor._make_subclass(cls, result) if type(result) is torch.Tensor else result


def lazy() -> Any:
    return torch.Tensor._make_subclass(Lazy, torch.ones(3), True)


REFUSED: dict[str, tuple[dict[str, Any], Callable[[], torch.nn.Parameter], str]] = {
    "fused, own decay": ({"fused": True, "weight_decay": Own()}, parameter, "weight_decay"),
    "foreach, own decay": ({"foreach": True, "weight_decay": Own()}, parameter, "weight_decay"),
    "fused, subclass": ({"fused": True}, lazy, "meaning of its own"),
    "foreach, subclass": ({"foreach": True}, lazy, "meaning of its own"),
    "fused, device": ({"fused": True}, lambda: torch.nn.Parameter(torch.ones(3, device="meta")), "cpu and cuda only"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_cannot_be_forced_is_refused_with_the_reason(optimizer: Any, name: str) -> None:
    """At once: in the constructor, and when a group is added, which leaves the optimizer as it was."""
    switches, make, reason = REFUSED[name]
    switch = next(iter(switches))
    message = f"{switch}=True cannot serve {ONE}: .*{reason}.*; pass {switch}=None"
    with pytest.raises(ValueError, match=message):
        optimizer([make()], **switches)
    if "weight_decay" not in switches:
        instance = optimizer([parameter()], **switches)
        before = snapshot(instance)
        with pytest.raises(ValueError, match=message.replace("group 0", "group 1")):
            instance.add_param_group({"params": [make()]})
        assert snapshot(instance) == before
    assert set(optimizer([make()], **{**switches, switch: None}).kernels().values()) <= {"loop", "foreach"}


@pytest.mark.parametrize("switch", ["fused", "foreach", "capturable"])
def test_what_cannot_be_forced_any_more_is_refused_by_the_step(switch: str) -> None:
    """A parameter may change its memory; nothing is touched."""
    good, bad = parameter(), parameter()
    optimizer = radam.RAdam([("good", good), ("bad", bad)], **{switch: True})
    run(optimizer, 1)
    negative(bad)
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match=f"{switch}=True cannot serve parameter 'bad': .*negative"):
        optimizer.step()
    assert snapshot(optimizer) == before


def test_a_subclass_of_tensors_is_stepped_by_its_own_operations() -> None:
    param, plain = lazy(), parameter(1.0, 1.0, 1.0)
    a, b = radam.RAdam([param], lr=0.1), radam.RAdam([plain], lr=0.1, foreach=False)
    for _ in range(7):
        param.grad, plain.grad = torch.ones(3), torch.ones(3)
        a.step()
        b.step()
    assert torch.equal(param.detach().as_subclass(torch.Tensor), plain.detach())


# The fused kernel is no public interface


@pytest.fixture
def fresh_trial() -> Iterator[None]:
    """Let the kernel be tried anew, and again when torch's own is back."""
    for remembered in (fused.problem, fused._endless):
        remembered.cache_clear()
    yield
    for remembered in (fused.problem, fused._endless):
        remembered.cache_clear()


def changed(**more: Any) -> Callable[..., Any]:
    """torch's kernel with other arguments."""
    own = torch._fused_adam_
    return lambda *args, **kwargs: own(*args, **{**kwargs, **more})


def with_the_step_number_one(
    params: Any, grads: Any, exp_avgs: Any, exp_avg_sqs: Any, largest: Any, steps: Any, **kwargs: Any
) -> None:
    TORCHS(params, grads, exp_avgs, exp_avg_sqs, largest, [torch.ones(()) for _ in steps], **kwargs)


def writing_the_step_number(*args: Any, **kwargs: Any) -> None:
    TORCHS(*args, **kwargs)
    args[5][0].fill_(1.0)


def only_whole_vectors(*args: Any, **kwargs: Any) -> None:
    tensors = [[t[: t.numel() // 16 * 16] for t in group] for group in args[:5]]
    TORCHS(*tensors, args[5], **kwargs)


def only_the_first(*args: Any, **kwargs: Any) -> None:
    TORCHS(*(group[:1] for group in args), **kwargs)


def refusing(*args: Any, **kwargs: Any) -> None:
    raise RuntimeError("no such kernel")


TORCHS = torch._fused_adam_
BROKEN: dict[str, Callable[..., Any] | None] = {
    "gone": None,
    "refuses": refusing,
    "does nothing": lambda *args, **kwargs: None,
    "another signature": lambda params: None,
    "corrects biases": with_the_step_number_one,
    "writes the step number": writing_the_step_number,
    "whole vectors only": only_whole_vectors,
    "the first tensor only": only_the_first,
    "no eps": changed(eps=0.0),
    "beta1 for beta2": lambda *args, **kwargs: TORCHS(*args, **{**kwargs, "beta2": kwargs["beta1"]}),
    "no decay": changed(weight_decay=0.0),
    "no maximize": changed(maximize=False),
    "no AMSGrad": lambda *args, **kwargs: TORCHS(*args[:4], [], args[5], **{**kwargs, "amsgrad": False}),
    "lr in half precision": lambda *args, **kwargs: TORCHS(*args, **{**kwargs, "lr": kwargs["lr"] * (1 + 2.0**-9)}),
}


@pytest.mark.usefixtures("fresh_trial")
@pytest.mark.parametrize("name", BROKEN)
def test_where_the_kernel_does_not_do_what_is_relied_on_foreach_serves(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = BROKEN[name]
    if broken is None:
        monkeypatch.delattr(torch, "_fused_adam_")
    else:
        monkeypatch.setattr(torch, "_fused_adam_", broken)
    param = parameter()
    optimizer = radam.RAdam([param], lr=0.1)
    assert optimizer.kernels() == {ONE: "foreach"}
    lockstep = Lockstep(optimizer, [{"lr": 0.1}], oracle, scalars="exact")
    for _ in range(8):
        lockstep.step()
    with pytest.raises(ValueError, match=r"fused=True cannot serve .* no fused Adam kernel that works as relied on"):
        radam.RAdam([parameter()], fused=True)


@pytest.mark.usefixtures("fresh_trial")
def test_torchs_own_kernel_is_found_to_work() -> None:
    assert fused.problem("cpu") is None
    assert all(map(math.isinf, [float(fused._endless(torch.device("cpu")))]))


@pytest.mark.usefixtures("fresh_trial")
def test_the_decoupled_kernel_is_tried_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "_fused_adamw_", TORCHS)
    assert "no fused Adam kernel" in str(fused.problem("cpu"))


WRONG_WHERE: dict[str, Callable[[dict[str, Any], torch.dtype], bool]] = {
    "amsgrad": lambda options, dtype: options["amsgrad"],
    "no amsgrad": lambda options, dtype: not options["amsgrad"],
    "maximize": lambda options, dtype: options["maximize"],
    "no maximize": lambda options, dtype: not options["maximize"],
    "L2": lambda options, dtype: options["weight_decay"] != 0,
    "no L2": lambda options, dtype: options["weight_decay"] == 0,
    "float32": lambda options, dtype: dtype == torch.float32,
    "float64": lambda options, dtype: dtype == torch.float64,
}


@pytest.mark.usefixtures("fresh_trial")
@pytest.mark.parametrize("what", ["params", "grads", "exp_avgs", "exp_avg_sqs", "largest"])
@pytest.mark.parametrize(("size", "element"), [(1, 0), (67, 0), (67, 66)])
@pytest.mark.parametrize("where", WRONG_WHERE)
def test_a_kernel_that_is_wrong_in_some_steps_is_refused(
    where: str, size: int, element: int, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any one element of any tensor of a size that is tried, by a unit of the fourth digit."""
    names = ("params", "grads", "exp_avgs", "exp_avg_sqs", "largest")

    def kernel(*lists: Any, **options: Any) -> None:
        TORCHS(*lists, **options)
        for tensor in dict(zip(names, lists, strict=False))[what]:
            if WRONG_WHERE[where](options, tensor.dtype) and tensor.numel() == size:
                tensor[element] *= 1.0001

    monkeypatch.setattr(torch, "_fused_adam_", kernel)
    # Without AMSGrad there is no maximum that could be wrong.
    is_right = what == "largest" and where == "no amsgrad"
    assert (fused.problem("cpu") is None) == is_right


@pytest.mark.parametrize("switch", ["fused", "foreach"])
def test_a_gradient_of_a_subclass_goes_by_the_loop(switch: str) -> None:
    """Which is said where a list kernel is asked for."""
    param, other = parameter(), parameter()
    param.grad = torch.ones(3).as_subclass(Subclass)
    with pytest.raises(ValueError, match=f"{switch}=True cannot serve .*: Subclass may give operations a meaning"):
        radam.RAdam([param], **{switch: True}).step()
    radam.RAdam([param]).step()
    radam.RAdam([other], foreach=False).step()
    assert torch.equal(param, other)


# DTensor


@pytest.fixture(scope="module")
def mesh() -> Iterator[Any]:
    distributed = pytest.importorskip("torch.distributed", reason="this torch is built without distributed")
    from torch.distributed.device_mesh import init_device_mesh

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


def distributed_parameter(mesh: Any, dtype: torch.dtype, placement: Any = None) -> torch.nn.Parameter:
    from torch.distributed.tensor import Shard, distribute_tensor

    values = torch.arange(1.0, 13.0).reshape(4, 3).to(dtype)
    return torch.nn.Parameter(distribute_tensor(values, mesh, [placement or Shard(0)]))


@pytest.mark.parametrize("switches", [{}, {"foreach": True}, {"foreach": False}, {"capturable": True}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES[:5])
def test_the_local_part_of_a_dtensor_is_stepped(mesh: Any, dtype: torch.dtype, switches: dict[str, Any]) -> None:
    """By the kernel of a plain tensor, to the same bits; autograd learns that the parameter has changed."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if dtype.is_complex and switches == {"foreach": False}:
        pytest.skip("torch has no view_as_real of a DTensor, which the loop takes")
    whole = torch.nn.Parameter(torch.arange(1.0, 13.0).reshape(4, 3).to(dtype))
    split = distributed_parameter(mesh, dtype)
    options: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.1, "amsgrad": True, **switches}
    a, b = radam.RAdam([whole], **options), radam.RAdam([split], **options)
    assert a.kernels() == b.kernels()
    for step in range(8):
        whole.grad = torch.full_like(whole, step - 2.5)
        split.grad = distribute_tensor(whole.grad.clone(), mesh, split.placements)  # type: ignore[attr-defined]
        version = split._version
        a.step()
        b.step()
        assert split._version > version
    assert isinstance(b.state[split]["exp_avg"], DTensor)
    assert torch.equal(split.to_local().detach(), whole.detach())  # type: ignore[operator]


@pytest.mark.parametrize("switches", [{}, {"foreach": False}, {"fused": True}, {"capturable": True}], ids=str)
@pytest.mark.parametrize("what", ["gradient", "exp_avg_sq"])
@pytest.mark.parametrize("distributed", [False, True])
def test_a_dtensor_beside_a_plain_tensor_is_refused(
    mesh: Any, distributed: bool, what: str, switches: dict[str, Any]
) -> None:
    """Before anything is touched: no operation takes both."""
    pair = [distributed_parameter(mesh, torch.float32), torch.nn.Parameter(torch.ones(4, 3))]
    param, other = pair if distributed else reversed(pair)
    param.grad = torch.ones_like(param)
    optimizer = radam.RAdam([("p", param)], **switches)
    optimizer.step()
    kept = param.detach().clone()
    if what == "gradient":
        param.grad = torch.ones_like(other)
    else:
        optimizer.state[param][what] = torch.ones_like(other)
    step = float(optimizer.state[param]["step"])
    kind = "a DTensor, as it is, but is plain" if distributed else "plain, as it is, but is a DTensor"
    with pytest.raises(ValueError, match=f"{what}'? of parameter 'p' must be {kind}: use"):
        optimizer.step()
    assert bool((param == kept).all())
    assert float(optimizer.state[param]["step"]) == step


def test_a_dtensor_and_a_gradient_that_are_split_in_other_ways(mesh: Any) -> None:
    """One operation after the other, as torch does: what lies where is its business."""
    from torch.distributed.tensor import Replicate, distribute_tensor

    split = distributed_parameter(mesh, torch.float32)
    split.grad = distribute_tensor(torch.ones(4, 3), mesh, [Replicate()])
    optimizer = radam.RAdam([split], lr=0.1)
    before = split.to_local().detach().clone()  # type: ignore[operator]
    for _ in range(8):
        optimizer.step()
    assert not torch.equal(split.to_local().detach(), before)  # type: ignore[operator]
    for switch in ("fused", "foreach", "capturable"):
        forced = radam.RAdam([split], **{switch: True})
        with pytest.raises(ValueError, match=f"{switch}=True .*split in another way"):
            forced.step()


def test_a_step_that_is_traced_leaves_to_the_loop_what_is_the_loops(mesh: Any) -> None:
    """Of a DTensor it takes the local part; one that is split otherwise, and a negative view, run as they are."""
    from torch.distributed.tensor import Replicate, distribute_tensor

    results = []
    for compiled in (False, True):
        plain, negated = parameter(), parameter()
        alike, otherwise = (distributed_parameter(mesh, torch.float32) for _ in range(2))
        negative(negated)
        optimizer = radam.RAdam([plain, alike, otherwise, negated], lr=0.1)
        if compiled:
            torch.compiler.reset()
            optimizer.step = torch.compile(optimizer.step, backend="eager")  # type: ignore[method-assign, assignment]
        for step in range(8):
            values = torch.full((4, 3), step - 2.5)
            alike.grad = distribute_tensor(values, mesh, alike.placements)  # type: ignore[attr-defined]
            otherwise.grad = distribute_tensor(values, mesh, [Replicate()])
            optimizer.step()
        results.append([plain.detach(), alike.to_local().detach(), otherwise.to_local().detach(), negated.detach()])  # type: ignore[operator]
    for one, other in zip(*results, strict=True):
        # Eight steps of a few roundings each, of numbers below 16.
        assert (one - other).abs().max() <= 8 * 8 * 16 * 2.0**-24


def test_plain_and_distributed_parameters_in_one_optimizer(mesh: Any) -> None:
    split, plain = distributed_parameter(mesh, torch.float32), parameter()
    optimizer = radam.RAdam([split, plain], lr=0.1)
    split.grad = torch.ones_like(split)
    for _ in range(8):
        optimizer.step()
    assert len(params_of(optimizer)) == 2
