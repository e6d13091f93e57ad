"""Parts, and copies of them: what a kernel does to them is what it does to the whole, in little memory."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import radam
from radam.audit.strategies import LAYOUTS, lay_out
from radam.kernels import work as module
from radam.kernels.slot import Slot
from radam.kernels.work import Work, has_arithmetic_dtype, is_aligned, is_dense, run
from tests.core.helpers import Subclass, numbers, params_of

SHAPES = ((), (1,), (0,), (7,), (3, 5), (1, 6), (2, 3, 2, 2), (4, 1, 3), (0, 3))
layouts = st.sampled_from((*LAYOUTS, "expanded"))
dtypes = st.sampled_from((torch.float16, torch.bfloat16, torch.float32, torch.float64))


def tensor(shape: Sequence[int], dtype: torch.dtype, layout: str, start: int) -> torch.Tensor:
    """Different whole numbers, in some layout; one number everywhere where expanded."""
    if layout == "expanded":
        return torch.full((), float(start), dtype=dtype).expand(shape)
    values = torch.arange(start, start + int(np.prod(shape, dtype=int))).reshape(shape).to(dtype)
    return lay_out(values, layout)


def kernel(works: Sequence[Work]) -> None:
    """Whole numbers, so that nothing rounds: p <- p + 2 g, m <- m + g, v <- v - p."""
    for work in works:
        work.exp_avg.add_(work.grad)
        work.exp_avg_sq.sub_(work.param)
        work.param.add_(work.grad, alpha=2)


@given(
    shape=st.sampled_from(SHAPES),
    given=st.lists(layouts, min_size=4, max_size=4),
    dtype=dtypes,
    of_grad=dtypes,
    most=st.sampled_from((1, 2, 5, 2**20)),
    whole=st.booleans(),
    fits=st.sampled_from((is_aligned, has_arithmetic_dtype, lambda work: False)),
)
def test_through_copies_a_kernel_does_what_it_does_in_place(
    shape: tuple[int, ...],
    given: list[str],
    dtype: torch.dtype,
    of_grad: torch.dtype,
    most: int,
    whole: bool,
    fits: Any,
) -> None:
    moments = torch.float64 if dtype == torch.float64 else torch.float32
    of_param, of_gradient, *of_moments = [
        layout if i == 1 or layout != "expanded" else "strided" for i, layout in enumerate(given)
    ]
    param = tensor(shape, dtype, of_param, 1)
    grad = tensor(shape, of_grad, of_gradient, 3)
    m, v = (tensor(shape, moments, layout, 7) for layout in of_moments)
    expected = [
        param.double() + 2 * grad.double(),
        grad.double(),
        m.double() + grad.double(),
        v.double() - param.double(),
    ]
    handed: list[Work] = []

    def spy(works: Sequence[Work]) -> None:
        handed.extend(works)
        assert all(fits(w) or (w.param.is_contiguous() and w.grad.is_contiguous()) for w in works)
        assert sum(w.param.numel() for w in works) <= most or (whole and all(map(fits, works)))
        kernel(works)

    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(module, "IN_CACHE", most)
        run(spy, [Work(param, grad, m, v, None, 0)], fits, whole=whole)
    for seen, wanted in zip((param, grad, m, v), expected, strict=True):
        assert torch.equal(seen.double(), wanted)
    assert sum(work.param.numel() for work in handed) == param.numel()
    assert all(work.param.numel() > 0 for work in handed)


@pytest.mark.parametrize(
    ("make", "dense"),
    [
        (lambda: torch.ones(4), True),
        (lambda: torch.ones(2, 3, 4).permute(2, 0, 1), True),
        (lambda: torch.ones(2, 3, 4, 5).contiguous(memory_format=torch.channels_last), True),
        (lambda: torch.ones(3, 1).as_strided((3, 1), (1, 99)), True),
        (lambda: torch.ones(()), True),
        (lambda: torch.ones(8)[::2], False),
        (lambda: torch.ones(3, 4)[:, :3], False),
        (lambda: torch.ones(3).expand(2, 3), False),
        (lambda: torch.ones(9).as_strided((2, 3), (2, 1)), False),
    ],
)
def test_dense_is_without_gaps_and_overlaps(make: Any, dense: bool) -> None:
    assert is_dense(make()) == dense


@pytest.mark.parametrize("which", ["param", "grad", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"])
def test_one_tensor_that_lies_otherwise_is_not_aligned(which: str) -> None:
    work = Work._make([*(torch.ones(3, 3) for _ in range(5)), 0])
    assert is_aligned(work)
    assert is_aligned(work.each(torch.t))
    assert not is_aligned(work._replace(**{which: torch.ones(3, 3).t()}))
    assert not is_aligned(work._replace(**{which: torch.ones(3, 6)[:, ::2]}))
    if which in ("param", "grad"):
        assert not is_aligned(work._replace(**{which: torch.ones(3, 3, dtype=torch.float64)}))


# Memory


class Peak(TorchDispatchMode):
    """The most bytes of new tensors that are alive at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {
            t.untyped_storage()._cdata for t in torch.utils._pytree.tree_leaves((args, kwargs)) if torch.is_tensor(t)
        }
        for leaf in torch.utils._pytree.tree_leaves(result):
            if torch.is_tensor(leaf):
                storage = leaf.untyped_storage()
                key = storage._cdata
                if key not in self.known and key not in given:
                    self.known.add(key)
                    self.now += storage.nbytes()
                    self.most = max(self.most, self.now)
                    weakref.finalize(storage, self._gone, key, storage.nbytes())
        return result

    def _gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def peak_of_a_step(optimizer: Any) -> int:
    with Peak() as peak:
        optimizer.step()
    return peak.most


EVERYTHING: dict[str, Any] = {"amsgrad": True, "maximize": True, "weight_decay": radam.WeightDecay(0.1, False)}
"""What needs most temporaries."""


def large(dtype: torch.dtype, transposed: bool, rows: int = 1500) -> torch.nn.Parameter:
    """3 million numbers by default: 6 MiB in half precision."""
    values = torch.ones(rows, 2000, dtype=dtype)
    param = torch.nn.Parameter(values)
    param.grad = torch.ones(2000, rows, dtype=dtype).t() if transposed else torch.ones_like(values)
    return param


SWITCHES: tuple[dict[str, Any], ...] = ({}, {"foreach": True}, {"foreach": False}, {"capturable": True})
LARGEST = 2**24
"""Bytes: eight temporaries of the 2**18 numbers that are taken at a time, in float64."""


SMALLER = 8
"""By how much parameters and parts are, in most of the tests: memory is then a matter of their number, as before."""


def judge_the_peaks(params: list[torch.nn.Parameter], switches: dict[str, Any], most: int) -> None:
    """Of a step of each branch."""
    optimizer = radam.RAdam(params, **EVERYTHING, **switches)
    optimizer.step()
    for t in (2, 6):
        for state in optimizer.state.values():
            state["step"] = torch.full_like(state["step"], t - 1) if "capturable" in switches else t - 1
        assert peak_of_a_step(optimizer) <= most


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_step_takes_no_more_for_larger_parameters(
    switches: dict[str, Any], dtype: torch.dtype, transposed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the 4 bytes a number that copies and temporaries of its size would take, each."""
    monkeypatch.setattr(module, "IN_CACHE", module.IN_CACHE // SMALLER)
    judge_the_peaks([large(dtype, transposed, 1500 // SMALLER) for _ in range(3)], switches, LARGEST // SMALLER)


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_a_step_takes_at_most_16_mib(switches: dict[str, Any]) -> None:
    """Where it takes most."""
    judge_the_peaks([large(torch.float64, True) for _ in range(3)], switches, LARGEST)


@pytest.mark.parametrize("transposed", [False, True])
def test_full_precision_by_the_fused_kernel_takes_none_or_as_little(transposed: bool) -> None:
    """None where all lie alike; where the gradient does not, copies of parts of it, in float32."""
    optimizer = radam.RAdam([large(torch.float32, transposed)], **EVERYTHING)
    for _ in range(6):
        optimizer.step()
    assert peak_of_a_step(optimizer) <= (4 * module.IN_CACHE if transposed else 0)


def test_the_meter_sees_what_a_whole_takes() -> None:
    """Sanity of these tests: a decay callable of the user's gets a float32 copy, with temporaries beside it."""

    class Own(radam.WeightDecay):
        """A callable of the user's."""

    param = large(torch.bfloat16, False)
    optimizer = radam.RAdam([param], **{**EVERYTHING, "weight_decay": Own(0.1, False)})
    optimizer.step()
    assert peak_of_a_step(optimizer) >= 2 * 4 * param.numel() > LARGEST


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_parts_are_stepped_as_the_whole_is(dtype: torch.dtype, switches: dict[str, Any]) -> None:
    """Parts of 25 elements and no parts give the same numbers: a difference is too small to show in half precision."""
    results = []
    for most in (25, 2**24):
        patch = pytest.MonkeyPatch()
        with patch.context() as context:
            context.setattr(module, "IN_CACHE", most)
            values = torch.linspace(-2, 3, 17 * 23).reshape(17, 23).to(dtype)
            param = torch.nn.Parameter(values.t().contiguous().t())
            optimizer = radam.RAdam([param], lr=0.1, weight_decay=0.1, **switches)
            for step in range(9):
                param.grad = torch.linspace(-step, 3, 17 * 23).reshape(17, 23).to(dtype)
                optimizer.step()
            results.append([numbers(p) for p in params_of(optimizer)])
    assert results[0] == results[1]


def test_batches_of_any_sizes_use_one_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 4, 10 and 2 + 6 elements, each of half precision and in another order of memory."""
    monkeypatch.setattr(module, "IN_CACHE", 10)
    works = [
        Work(
            tensor((size // 2, 2), torch.bfloat16, "transposed", 1),
            tensor((size // 2, 2), torch.bfloat16, "strided", 3),
            *(tensor((size // 2, 2), torch.float32, layout, 7) for layout in ("strided", "transposed")),
            None,
            place,
        )
        for place, size in enumerate((4, 10, 2, 6))
    ]
    before = [[each.double() for each in work.tensors] for work in works]
    places: list[set[int]] = []

    def spy(batch: Sequence[Work]) -> None:
        places.append({work.param.untyped_storage().data_ptr() for work in batch})
        kernel(batch)

    run(spy, works, has_arithmetic_dtype)
    assert len(places) == 3
    assert all(len(own) == 1 for own in places)
    assert places[1] == places[2]
    for work, (p, g, m, v) in zip(works, before, strict=True):
        for seen, wanted in zip(work.tensors, (p + 2 * g, g, m + g, v - p), strict=True):
            assert torch.equal(seen.double(), wanted)


@pytest.mark.parametrize(("layout", "copied"), [("contiguous", 2), ("transposed", 2), ("strided", 4)])
def test_only_what_does_not_fit_is_copied(layout: str, copied: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half precision, but no moments: unless they have gaps, their order of memory is that of the parameter."""
    numbers_of_copies = []

    class Scratch(module._Scratch):
        def copies(self, tensors: list[torch.Tensor], dtype: torch.dtype) -> list[torch.Tensor]:
            numbers_of_copies.append(len(tensors))
            return super().copies(tensors, dtype)

    monkeypatch.setattr(module, "_Scratch", Scratch)
    half, single = (
        lambda start, dtype=dtype: tensor((3, 5), dtype, layout, start) for dtype in (torch.bfloat16, torch.float32)
    )
    run(kernel, [Work(half(1), half(3), single(7), single(7), None, 0)], has_arithmetic_dtype)
    assert numbers_of_copies == [copied]


class Placed(Subclass):
    """It is no DTensor for all that."""

    placements = ()


class Local(Placed):
    """One that could be."""

    def to_local(self) -> torch.Tensor:
        return self.as_subclass(torch.Tensor)


@pytest.mark.parametrize(("cls", "expected"), [(torch.Tensor, False), (Placed, False), (Local, True)])
def test_what_is_distributed(cls: type[torch.Tensor], expected: bool) -> None:
    """It has placements and a local part."""
    assert module.is_distributed(torch.ones(2).as_subclass(cls)) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_a_work_has_no_view_of_a_negative(dtype: torch.dtype) -> None:
    """Its memory is what kernels read."""
    param = torch.ones(2, dtype=dtype)
    state = {"step": 0, "exp_avg": torch.zeros_like(param), "exp_avg_sq": torch.zeros_like(param)}
    for grad in (torch._neg_view(param), param.clone()):
        made = module.work_of(Slot(param, grad, state, "param"), 0, amsgrad=False)
        assert not made.grad.is_neg()
        assert torch.equal(made.grad.flatten()[0], grad.real[0])


def _work(size: int, place: int) -> Work:
    return Work(*(torch.zeros(size) for _ in range(4)), None, place)


@pytest.mark.parametrize("whole", [False, True])
def test_how_many_elements_are_handed_over_at_a_time(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many works as fit together, in order, and parts of the larger ones; those without elements not at all."""
    monkeypatch.setattr(module, "IN_CACHE", 10)
    handed: list[list[tuple[int, int]]] = []
    works = [_work(size, place) for place, size in enumerate((0, 4, 6, 0, 1, 10, 9, 25, 3))]

    def spy(works: Sequence[Work]) -> None:
        handed.append([(work.place, work.param.numel()) for work in works])

    run(spy, works, lambda work: work.param.numel() != 25, whole=whole)
    if whole:
        fitting = [(1, 4), (2, 6), (4, 1), (5, 10), (6, 9), (8, 3)]
        assert handed == [fitting, [(7, 10)], [(7, 10)], [(7, 5)]]
    else:
        assert handed == [[(1, 4), (2, 6)], [(4, 1)], [(5, 10)], [(6, 9)], [(7, 10)], [(7, 10)], [(7, 5), (8, 3)]]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((2, 5), [(2, 5)]),
        ((10,), [(10,)]),
        ((3,), [(3,)]),
        ((2, 6), [(1, 6), (1, 6)]),
        ((1, 12), [(1, 10), (1, 2)]),
        ((7, 3), [(3, 3), (3, 3), (1, 3)]),
        ((2, 3, 5), [(1, 2, 5), (1, 1, 5)] * 2),
    ],
    ids=str,
)
def test_how_a_view_is_cut(
    size: tuple[int, ...], expected: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Along the first dimension that has a length; what is small enough stays as it is."""
    monkeypatch.setattr(module, "IN_CACHE", 10)
    view = torch.arange(2.0 * np.prod(size)).reshape(*size, 2)[..., 0]
    other = torch.zeros(size)
    cut = list(module.parts([view, other]))
    assert [tuple(part.shape) for part, _ in cut] == expected
    assert [part.shape for part, _ in cut] == [part.shape for _, part in cut]
    assert torch.equal(torch.cat([part.flatten() for part, _ in cut]), view.flatten())
    if len(cut) == 1:
        assert cut[0][0] is view
