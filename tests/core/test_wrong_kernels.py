"""Kernels that are wrong in one place: the verification of each kernel finds them, and passes what is there.

A mistake in what all kernels share is found through any of them; these are mistakes of one kernel alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch

import radam
from radam import optimizer as optimizer_module
from radam import schedule
from radam.audit import Lockstep
from radam.audit.strategies import LAYOUTS, lay_out
from radam.audit.subjects.radam import adam_oracle, oracle
from radam.kernels import capturable, foreach, fused, loop
from radam.kernels import work as work_module
from radam.kernels.work import Columns, Work
from radam.schedule import Kind, Step, Steps
from tests.core.helpers import KERNELS, params_of, set_gradients
from tests.core.test_compiled import GROUPS, let_compile

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.complex64)
YOUNG = 2
"""Steps that every other parameter misses at the beginning."""


def verify(kernel: str) -> None:
    """Every option in every dtype and layout, across the boundary, with parameters of two ages, by one kernel."""
    for cls, options in GROUPS.items():
        groups = []
        for index, own in enumerate(options):
            layout = LAYOUTS[index % len(LAYOUTS)]
            values = torch.linspace(-1, 2, 2 * 3 * 3 * 5, dtype=torch.float64).reshape(2, 3, 3, 5)
            params = [torch.nn.Parameter(lay_out(values.to(dtype), layout)) for dtype in DTYPES]
            groups.append({"params": params, **own})
        optimizer = cls(groups, **KERNELS.get(kernel, {}))
        if kernel == "compiled":
            torch.compiler.reset()
            let_compile(optimizer)
        lockstep = Lockstep(optimizer, options, oracle if cls is radam.RAdam else adam_oracle, scalars="exact")
        for step in range(11):
            set_gradients(params_of(optimizer), step)
            for i, param in enumerate(params_of(optimizer)):
                assert param.grad is not None
                param.grad = lay_out(param.grad, LAYOUTS[i % 3])
                if i % 2 and step < YOUNG:
                    param.grad = None
                elif step == 1 and options[i // len(DTYPES)].get("degenerated_to_sgd") is False:
                    # A parameter that waits is not moved by 0 times m either.
                    param.grad[0, 0, 0, 0] = torch.inf
            lockstep.step()


@pytest.mark.parametrize("kernel", [*KERNELS, pytest.param("compiled", marks=pytest.mark.deep)])
def test_what_is_there_passes(kernel: str) -> None:
    verify(kernel)


class Wrong(NamedTuple):
    """What is put in the place of what, and the kernels in which it must be found."""

    where: Any
    name: str
    what: Callable[[Any], Any]
    kernels: tuple[str, ...]


def edited(**changes: Any) -> Callable[[Any], Any]:
    """The kernel with other options in its group."""

    def make(own: Any) -> Any:
        return lambda step, works, group, terms: own(step, works, {**group, **changes}, terms)

    return make


def of_step(change: Callable[[Step], Step]) -> Callable[[Any], Any]:
    return lambda own: lambda step, *rest: own(change(step), *rest)


def of_steps(change: Callable[[Steps], Steps]) -> Callable[[Any], Any]:
    return lambda own: lambda *args: change(own(*args))


def swapped(own: Any) -> Any:
    return lambda step, works, group, terms: own(step, works, {**group, "betas": group["betas"][::-1]}, terms)


def without_terms(own: Any) -> Any:
    return lambda step, works, group, terms: own(step, works, group, (1.0, 0.0))


def without_the_last(own: Any) -> Any:
    return lambda step, works, group, terms: own(step, works[:-1], group, terms) if works[1:] else None


def without_the_last_column(own: Any) -> Any:
    def adaptive(step: Step, tensors: Columns, *rest: Any) -> None:
        if tensors.params[1:]:
            own(step, tensors.at(range(len(tensors.params) - 1)), *rest)

    return adaptive


def losing_parts(own: Any) -> Any:
    """The remainder of a division is not done."""

    def cut(tensors: Sequence[torch.Tensor]) -> list[Sequence[torch.Tensor]]:
        parts = list(own(tensors))
        return parts[:-1] if len(parts) > 1 else parts

    return cut


def not_written_back(*names: str) -> Callable[[Any], Any]:
    def make(own: Any) -> Any:
        def through_copies(kernel: Any, works: Sequence[Work], *rest: Any) -> None:
            before = [{name: getattr(work, name).clone() for name in names} for work in works]
            own(kernel, works, *rest)
            for work, old in zip(works, before, strict=True):
                for name in names:
                    if getattr(work, name).dtype != work.exp_avg.dtype or name != "param":
                        getattr(work, name).copy_(old[name])

        return through_copies

    return make


def of_call(change: Callable[[capturable.Call], capturable.Call]) -> Callable[[Any], Any]:
    return lambda own: lambda *args: change(own(*args))


def with_scalars(**changes: Any) -> Callable[[capturable.Call], capturable.Call]:
    return lambda call: call._replace(scalars=call.scalars._replace(**changes))


def of_the_first(call: capturable.Call) -> capturable.Call:
    first = {name: None if entry is None else [entry[0]] * len(entry) for name, entry in call.scalars._asdict().items()}
    return call._replace(scalars=capturable.Scalars(**first))


def other_order(own: Any) -> Any:
    """Two dimensions of equal length change places where a tensor lies otherwise than the parameter."""

    def make(tensor: torch.Tensor) -> Any:
        def permuted(other: torch.Tensor) -> torch.Tensor:
            result = own(tensor)(other)
            if other.stride() == tensor.stride():
                return result
            first, second = [i for i, length in enumerate(result.shape) if length == 3][:2]
            return result.transpose(first, second)

        return permuted

    return make


TENSORS = ("capturable", "compiled")
WRONG: dict[str, Wrong] = {
    # The loop
    "loop: momentum steps hold": Wrong(
        loop,
        "apply",
        lambda own: (
            lambda step, *a, **k: own(step._replace(kind=Kind.HOLD) if step.kind is Kind.MOMENTUM else step, *a, **k)
        ),
        ("loop",),
    ),
    # Lists
    "foreach: no maximize": Wrong(foreach, "apply", edited(maximize=False), ("foreach",)),
    "foreach: no AMSGrad": Wrong(foreach, "apply", edited(amsgrad=False), ("foreach",)),
    "foreach: no decay": Wrong(foreach, "apply", without_terms, ("foreach",)),
    "foreach: the last tensor is left out": Wrong(foreach, "apply", without_the_last, ("foreach",)),
    # Fused
    "fused: no maximize": Wrong(fused, "_adaptive", edited(maximize=False), ("fused",)),
    "fused: no AMSGrad": Wrong(fused, "_adaptive", edited(amsgrad=False), ("fused",)),
    "fused: betas swapped": Wrong(fused, "_adaptive", swapped, ("fused",)),
    "fused: no decay": Wrong(fused, "_adaptive", without_terms, ("fused",)),
    "fused: decay not divided by the size": Wrong(
        fused, "_decay", lambda own: lambda factor, size: 1 - factor, ("fused",)
    ),
    "fused: decay by size twice": Wrong(
        fused, "_decay", lambda own: lambda factor, size: own(factor, size) * size, ("fused",)
    ),
    "fused: decay as if the size were a float32": Wrong(
        fused, "_decay", lambda own: lambda factor, size: (1 - factor) / size * (1 + 2.0**-20), ("fused",)
    ),
    "fused: no eps": Wrong(fused, "_adaptive", of_step(lambda step: step._replace(eps=0.0)), ("fused",)),
    "fused: size off by a unit of float32": Wrong(
        fused, "_adaptive", of_step(lambda step: step._replace(size=step.size * (1 + 2.0**-23))), ("fused",)
    ),
    "fused: momentum steps too": Wrong(
        fused, "takes", lambda own: lambda step, dtype, terms: step.kind in (Kind.ADAPTIVE, Kind.MOMENTUM), ("fused",)
    ),
    "fused: held steps too": Wrong(
        fused, "takes", lambda own: lambda step, *rest: step.kind is Kind.HOLD or own(step, *rest), ("fused",)
    ),
    "fused: the last tensor is left out": Wrong(fused, "_adaptive", without_the_last_column, ("fused",)),
    "fused: strides are not looked at": Wrong(
        radam.kernels, "is_aligned", lambda own: work_module.has_arithmetic_dtype, ("fused",)
    ),
    "fused: bias corrections twice": Wrong(
        fused, "_endless", lambda own: lambda device: torch.full((), 7.0, device=device), ("fused",)
    ),
    # Copies
    "copies: the parameter is not written back": Wrong(
        work_module, "_through_copies", not_written_back("param"), ("fused", "foreach", "capturable")
    ),
    "copies: m is not written back": Wrong(
        work_module, "_through_copies", not_written_back("exp_avg"), ("fused", "foreach", "capturable")
    ),
    "copies: the last part is lost": Wrong(work_module, "_cut", losing_parts, ("fused", "foreach", "capturable")),
    "copies: the gradient in another order": Wrong(work_module, "_in_order_of_memory", other_order, ("fused",)),
    # Tensors of scalars
    "tensors: the scalars of the first": Wrong(capturable, "call", of_call(of_the_first), TENSORS),
    "tensors: no decay": Wrong(
        capturable, "call", of_call(lambda c: c._replace(scalars=c.scalars._replace(factor=None))), TENSORS
    ),
    "tensors: no L2": Wrong(capturable, "call", of_call(lambda c: c._replace(coefficient=0.0)), TENSORS),
    "tensors: held parameters move": Wrong(capturable, "call", of_call(with_scalars(moves=None)), TENSORS),
    "tensors: m moves in the warm-up": Wrong(capturable, "call", of_call(with_scalars(averages=None)), TENSORS),
    "tensors: no maximize": Wrong(capturable, "call", of_call(lambda c: c._replace(maximize=False)), TENSORS),
    "capturable: always adaptive": Wrong(
        schedule, "steps_at", of_steps(lambda s: s._replace(divides=torch.ones_like(s.divides))), ("capturable",)
    ),
    "capturable: one step late": Wrong(
        schedule, "_within", lambda own: lambda t, phases, kinds: own(t - 1, phases, kinds), ("capturable",)
    ),
    "capturable: scalars in float32": Wrong(
        schedule, "steps_at", lambda own: lambda t, *rest: own(t.float(), *rest), ("capturable",)
    ),
    "capturable: eps not corrected": Wrong(
        schedule, "adaptive_eps", lambda own: lambda t, beta2, eps: own(t, beta2, eps) * 0 + eps, ("capturable",)
    ),
    "compiled: one step late": Wrong(
        optimizer_module.state, "count", lambda own: lambda states: [max(1, t - 1) for t in own(states)], ("compiled",)
    ),
    "compiled: kinds of the phases": Wrong(
        schedule, "gathered", of_steps(lambda s: s._replace(divides=torch.zeros_like(s.divides))), ("compiled",)
    ),
}


@pytest.mark.deep
@pytest.mark.parametrize(("name", "kernel"), [(name, kernel) for name in WRONG for kernel in WRONG[name].kernels])
def test_what_is_wrong_is_found(name: str, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = WRONG[name]
    # Parts of a few elements each, so that copies of these small tensors have some.
    monkeypatch.setattr(work_module, "IN_CACHE", 64)
    monkeypatch.setattr(wrong.where, wrong.name, wrong.what(getattr(wrong.where, wrong.name)))
    with pytest.raises(AssertionError):
        verify(kernel)
