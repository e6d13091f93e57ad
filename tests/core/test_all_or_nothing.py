"""A step that cannot be done: the error names the parameter, and nothing has changed; after repair it is done."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch

import radam
from tests.core.helpers import KERNELS, OPTIMIZERS, bits, run, snapshot

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state:UserWarning")

Undo = Callable[[], None]


class Held(torch.nn.Parameter):
    """A parameter that takes every gradient, also one that torch would refuse on assignment."""

    @property
    def grad(self) -> Any:
        return self.__dict__.get("held")

    @grad.setter
    def grad(self, value: Any) -> None:
        self.__dict__["held"] = value


class Trouble(NamedTuple):
    """What is done to a parameter in mid-run, the error that must follow and words that must be in it."""

    name: str
    cause: Callable[[Any, dict[str, Any]], Undo]
    error: type[Exception]
    words: tuple[str, ...]


def gradient(make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any, dict[str, Any]], Undo]:
    """Give the parameter another gradient."""

    def cause(param: Any, state: dict[str, Any]) -> Undo:
        good = param.grad
        param.grad = make(good)
        return lambda: setattr(param, "grad", good)

    return cause


def data(make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any, dict[str, Any]], Undo]:
    """Give the parameter other memory."""

    def cause(param: Any, state: dict[str, Any]) -> Undo:
        good = param.data
        param.data = make(good)
        return lambda: setattr(param, "data", good)

    return cause


def entry(name: str, make: Callable[[Any], Any]) -> Callable[[Any, dict[str, Any]], Undo]:
    """Edit the state of the parameter."""

    def cause(param: Any, state: dict[str, Any]) -> Undo:
        good = state[name]
        state[name] = make(good)
        return lambda: state.__setitem__(name, good)

    return cause


def without(name: str) -> Callable[[Any, dict[str, Any]], Undo]:
    """Remove an entry of the state; it comes back in its place."""

    def cause(param: Any, state: dict[str, Any]) -> Undo:
        good = dict(state)
        del state[name]

        def undo() -> None:
            state.clear()
            state.update(good)

        return undo

    return cause


def value(tensor: torch.Tensor) -> Callable[[Any], torch.Tensor]:
    return lambda good: tensor


GRADIENTS = [
    Trouble("sparse", gradient(lambda g: g.to_sparse()), RuntimeError, ("sparse", "SparseAdam")),
    Trouble("sparse csr", gradient(lambda g: g.to_sparse_csr()), RuntimeError, ("sparse",)),
    Trouble("wider", gradient(lambda g: torch.ones(2, 4)), ValueError, ("shape", "(2, 3)", "(2, 4)")),
    Trouble("fewer dimensions", gradient(lambda g: torch.ones(6)), ValueError, ("shape", "(6,)")),
    Trouble("broadcastable", gradient(lambda g: torch.ones(1, 3)), ValueError, ("shape", "(1, 3)")),
    Trouble("number", gradient(lambda g: torch.ones(())), ValueError, ("shape", "()")),
    Trouble("on another device", gradient(lambda g: g.to("meta")), ValueError, ("meta", "cpu")),
    Trouble("integers", gradient(lambda g: g.long()), ValueError, ("int64", "float32")),
    Trouble("booleans", gradient(lambda g: g.bool()), ValueError, ("bool",)),
    Trouble("complex", gradient(lambda g: g.cfloat()), ValueError, ("complex64",)),
]
LAYOUTS = [
    Trouble("another shape", data(lambda p: torch.zeros(3, 2)), ValueError, ("shape", "(3, 2)")),
    Trouble("expanded", data(lambda p: torch.ones(1, 3).expand(2, 3)), ValueError, ("memory", "contiguous()")),
    Trouble("expanded number", data(lambda p: torch.ones(()).expand(2, 3)), ValueError, ("memory",)),
    Trouble("overlapping", data(lambda p: torch.ones(9).as_strided((2, 3), (2, 1))), ValueError, ("memory",)),
]


def _moments() -> list[Trouble]:
    wrong: list[tuple[str, Callable[[Any], Any], tuple[str, ...]]] = [
        ("transposed", lambda m: m.t().contiguous(), ("shape", "(3, 2)")),
        ("broadcastable", lambda m: m[:1].clone(), ("shape", "(1, 3)")),
        ("float64", lambda m: m.double(), ("dtype", "float64")),
        ("half", lambda m: m.half(), ("dtype", "float16")),
        ("complex", lambda m: m.cfloat(), ("dtype", "complex64")),
        ("integers", lambda m: m.long(), ("dtype", "int64")),
        ("on another device", lambda m: m.to("meta"), ("device", "meta")),
        ("sparse", lambda m: m.to_sparse(), ("layout", "sparse")),
        ("expanded", lambda m: m[:1].expand(2, 3), ("memory",)),
        ("None", lambda m: None, ("None",)),
        ("a number", lambda m: 0.0, ("0.0",)),
        ("a list", lambda m: m.tolist(), ("[",)),
    ]
    return [
        Trouble(f"{name} is {kind}", entry(name, make), ValueError, (name, *words))
        for name in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
        for kind, make, words in wrong
    ]


def _steps() -> list[Trouble]:
    wrong = (-1, -1.0, 1.5, math.nan, math.inf, -math.inf, "3", None, [3], True, 3j)
    tensors = (torch.tensor([1, 2]), torch.tensor(-1.0), torch.tensor(math.nan), torch.tensor(0.5), torch.tensor(1j))
    return [
        *(
            Trouble(f"step is {step!r}", entry("step", lambda _, s=step: s), ValueError, ("step", repr(step)))
            for step in wrong
        ),
        *(Trouble(f"step is {step!r}", entry("step", value(step)), ValueError, ("step",)) for step in tensors),
    ]


STATE = [
    *_moments(),
    *_steps(),
    *(
        Trouble(f"{name} is missing", without(name), ValueError, (name, "missing"))
        for name in ("step", "exp_avg", "exp_avg_sq")
    ),
]
TROUBLES = [*GRADIENTS, *LAYOUTS, *STATE]


def build(cls: Any, named: bool) -> tuple[Any, list[Any]]:
    """Three groups of two parameters in mid-run; the first group has a newcomer without state."""

    def param(*shape: int, dtype: torch.dtype = torch.float32) -> Any:
        return Held(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype))

    generator = torch.Generator().manual_seed(1)
    params = [
        param(3),
        param(2, dtype=torch.float64),
        param(4, dtype=torch.bfloat16),
        param(2, 2, dtype=torch.complex64),
        param(),
        param(2, 3),
    ]
    names = ["embedding", "head.scale", "body.bias", "body.phase", "gain", "tail.weight"]
    entries: list[Any] = list(zip(names, params, strict=True)) if named else params
    groups = [{"params": entries[i : i + 2], "lr": 0.1 * (i + 1)} for i in (0, 2, 4)]
    optimizer = cls(groups, amsgrad=True, weight_decay=0.1)
    run(optimizer, 3)
    newcomer = param(2)
    optimizer.param_groups[0]["params"].append(newcomer)
    if named:
        optimizer.param_groups[0]["param_names"].append("newcomer")
    params.append(newcomer)
    for i, p in enumerate(params):
        p.grad = torch.full_like(p, 0.25 * (i + 1)).detach()
    return optimizer, params


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_nothing_happens_and_after_repair_the_step_is_taken(optimizer: Any, trouble: Trouble) -> None:
    instance, params = build(optimizer, named=True)
    twin, twins = build(optimizer, named=True)
    undo = trouble.cause(params[5], instance.state[params[5]])
    before = snapshot(instance)

    with pytest.raises(trouble.error) as caught:
        instance.step()
    for words in ("'tail.weight'", *trouble.words):
        assert words in str(caught.value)
    assert snapshot(instance) == before
    assert params[6] not in instance.state

    undo()
    instance.step()
    twin.step()
    for param, other in zip(params, twins, strict=True):
        assert torch.equal(param, other)
        assert instance.state[param].keys() == twin.state[other].keys()
    assert instance.state[params[6]]["step"] == 1


@pytest.mark.parametrize(
    "trouble", [GRADIENTS[0], GRADIENTS[2], LAYOUTS[1], STATE[0]], ids=lambda trouble: trouble.name
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_without_names_the_parameter_is_named_by_its_place(optimizer: Any, trouble: Trouble) -> None:
    instance, params = build(optimizer, named=False)
    trouble.cause(params[5], instance.state[params[5]])
    with pytest.raises(trouble.error, match="parameter 1 of group 2"):
        instance.step()


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
def test_trouble_that_the_closure_makes(trouble: Trouble) -> None:
    """What the closure itself has written stays; the optimizer adds nothing to it."""
    instance, params = build(radam.RAdam, named=True)
    inside: list[Any] = []

    def closure() -> float:
        for param in params:
            param.grad = torch.full_like(param, 2.0).detach()
        trouble.cause(params[5], instance.state[params[5]])
        inside.append(snapshot(instance))
        return 1.0

    with pytest.raises(trouble.error, match=r"'tail\.weight'"):
        instance.step(closure)
    assert len(inside) == 1
    assert snapshot(instance) == inside[0]


def test_trouble_in_the_closure_itself() -> None:
    instance, _ = build(radam.RAdam, named=True)
    before = snapshot(instance)

    def closure() -> float:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        instance.step(closure)
    assert snapshot(instance) == before


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8, torch.float8_e4m3fn])
def test_a_parameter_that_is_no_floating_number(dtype: torch.dtype) -> None:
    good, bad = Held(torch.ones(2)), Held(torch.ones(2).to(dtype), requires_grad=False)
    good.grad, bad.grad = torch.ones(2), torch.ones(2)
    instance = radam.RAdam([good, bad])
    before = snapshot(instance)
    with pytest.raises(ValueError, match=f"parameter 1 of group 0.*{dtype}"):
        instance.step()
    assert snapshot(instance) == before
    bad.grad = None
    instance.step()
    assert len(instance.state) == 1


def test_a_sparse_parameter() -> None:
    good = Held(torch.ones(2))
    bad = torch.nn.Parameter(torch.eye(2).to_sparse())
    good.grad, bad.grad = torch.ones(2), torch.eye(2).to_sparse()
    instance = radam.RAdam([good, bad])
    before = bits(good)
    with pytest.raises((RuntimeError, ValueError), match=r"parameter 1 of group 0.*sparse"):
        instance.step()
    assert bits(good) == before
    assert len(instance.state) == 0


def test_a_conjugate_view() -> None:
    base = torch.tensor([1 + 2j, 3 - 1j])
    good, bad = Held(torch.ones(2)), Held(base.conj())
    good.grad, bad.grad = torch.ones(2), torch.ones(2, dtype=torch.complex64)
    assert bad.is_conj()
    instance = radam.RAdam([good, bad])
    before = (bits(good), bits(base))
    with pytest.raises(ValueError, match=r"parameter 1 of group 0.*resolve_conj"):
        instance.step()
    assert (bits(good), bits(base)) == before


@pytest.mark.parametrize("kernel", KERNELS)
def test_interleaved_views_do_not_overlap(kernel: str) -> None:
    """Strides (3, 2) of a 2 x 2 view: places 0, 2, 3, 5."""
    base = torch.full((6,), 7.0)
    param = Held(base.as_strided((2, 2), (3, 2)))
    param.grad = torch.ones(2, 2)
    radam.RAdam([param], lr=1.0, **KERNELS[kernel]).step()
    assert base.tolist() == [6.0, 7.0, 6.0, 6.0, 7.0, 6.0]


def test_a_negative_view_is_written_as_it_reads() -> None:
    """The imaginary part of a conjugate reads with its sign turned."""
    base = torch.tensor([1 + 2j, 3 - 1j])
    param = Held(base.conj().imag)
    assert param.is_neg()
    param.grad = torch.ones(2)
    radam.RAdam([param], lr=1.0).step()
    # m/bc1 is 1 to within three roundings.
    assert (param - torch.tensor([-3.0, 0.0])).abs().max() <= 4 * 2.0**-24
    assert torch.equal(base.imag, -param)
    assert base.real.tolist() == [1.0, 3.0]


def test_a_new_parameter_gets_no_state_from_a_failed_first_step() -> None:
    good, bad = Held(torch.ones(2)), Held(torch.ones(2))
    good.grad, bad.grad = torch.ones(2), torch.ones(3)
    instance = radam.RAdam([{"params": [good]}, {"params": [bad]}])
    with pytest.raises(ValueError, match="parameter 0 of group 1"):
        instance.step()
    assert len(instance.state) == 0
