"""What list kernels work on: real tensors of one dtype, views of a parameter's own or small copies of their parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count, repeat
from typing import Any, NamedTuple

import torch

from radam.kernels.slot import Slot, as_real
from radam.state import EXP_AVG, EXP_AVG_SQ, MAX_EXP_AVG_SQ, TENSORS

# Elements that a kernel with temporaries takes at a time: on a CPU few enough to stay in a cache, and enough for two
# threads; elsewhere so many that starting an operation costs nothing beside it.
IN_CACHE = 2**18
ELSEWHERE = 2**22


class Work(NamedTuple):
    """The tensors of a parameter, or of a part of it, as a list kernel takes them: real, and of the same shape."""

    param: torch.Tensor
    grad: torch.Tensor
    exp_avg: torch.Tensor
    exp_avg_sq: torch.Tensor
    max_exp_avg_sq: torch.Tensor | None
    place: int
    """Which of the slots that were given together."""

    @property
    def tensors(self) -> list[torch.Tensor]:
        """Those that are there."""
        return [tensor for tensor in self[:5] if tensor is not None]

    def each(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Work:
        """The same with a function of each tensor in its place."""
        return Work._make([*(tensor if tensor is None else function(tensor) for tensor in self[:5]), self.place])


class Columns(NamedTuple):
    """The tensors of several works, field by field."""

    params: list[torch.Tensor]
    grads: list[torch.Tensor]
    exp_avgs: list[torch.Tensor]
    exp_avg_sqs: list[torch.Tensor]
    max_exp_avg_sqs: list[torch.Tensor] = []
    """Empty where there is no maximum."""

    def works(self) -> list[Work]:
        """One for each parameter."""
        rows = zip(*self[:4], self.max_exp_avg_sqs or repeat(None), count(), strict=False)
        return list(map(Work._make, rows))

    def at(self, places: Sequence[int]) -> Columns:
        """Those at some places."""
        return Columns(*([column[i] for i in places] for column in self if column))


def columns(works: Sequence[Work]) -> Columns:
    """The tensors of some works, which have a maximum all, or none."""
    fields = list(zip(*works, strict=True))[: 4 if works[0].max_exp_avg_sq is None else 5]
    return Columns(*map(list, fields))


Kernel = Callable[[Sequence[Work]], None]


def work_of(slot: Slot, place: int, *, amsgrad: bool) -> Work:
    """The real views of a parameter's tensors: local for a DTensor, pairs of reals for complex ones."""
    param, grad, state, _ = slot
    work = Work(param, grad, state[EXP_AVG], state[EXP_AVG_SQ], state[MAX_EXP_AVG_SQ] if amsgrad else None, place)
    if is_distributed(param):
        work = work.each(lambda tensor: tensor.to_local())  # type: ignore[attr-defined]
    if work.param.is_complex():
        work = work._replace(grad=work.grad.to(work.param.dtype).resolve_conj()).each(as_real)
    return work._replace(grad=work.grad.resolve_neg()) if work.grad.is_neg() else work


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is torch's own, and no subclass that gives operations another meaning."""
    return type(tensor).__torch_dispatch__ is torch.Tensor.__torch_dispatch__


def is_distributed(tensor: torch.Tensor) -> bool:
    """Whether a tensor is a DTensor."""
    return not is_plain(tensor) and hasattr(tensor, "to_local") and hasattr(tensor, "placements")


def is_local(slot: Slot) -> bool:
    """Whether each process can step its part of a DTensor alone: all tensors are split alike, and none is a sum."""
    tensors: list[Any] = [slot.param, slot.grad, *(slot.state[name] for name in TENSORS if name in slot.state)]
    return all(is_distributed(tensor) for tensor in tensors) and all(
        tensor.placements == slot.param.placements  # type: ignore[attr-defined]
        and not any(placement.is_partial() for placement in tensor.placements)
        and is_plain(tensor.to_local().detach())
        for tensor in tensors
    )


def has_arithmetic_dtype(work: Work) -> bool:
    """Whether the tensors can be worked on as they are, wherever they lie: all of the moments' dtype."""
    return work.param.dtype == work.grad.dtype == work.exp_avg.dtype


def is_aligned(work: Work) -> bool:
    """Whether, besides, all lie in memory alike and without gaps: so that one loop over memory meets their elements."""
    if not has_arithmetic_dtype(work):
        return False
    tensors = work.tensors
    if all(map(torch.Tensor.is_contiguous, tensors)):
        return True
    strides = work.param.stride()
    return is_dense(work.param) and all(tensor.stride() == strides for tensor in tensors)


def is_dense(tensor: torch.Tensor) -> bool:
    """Whether the elements fill a stretch of memory, each its own place, in any order of the dimensions."""
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def run(kernel: Kernel, works: Sequence[Work], fits: Callable[[Work], bool], *, whole: bool = False) -> None:
    """Let a kernel do all the works, in batches of no more elements than it should have temporaries for.

    Args:
        kernel: writes to all tensors of a work but the gradient.
        works: of one device, with moments of one dtype.
        fits: whether the kernel can take a work as it is; others go through copies.
        whole: works that fit are given to it at once, as it has no temporaries.
    """
    direct: list[Work] = []
    pieces: list[Work] = []
    for work in works:
        if not work.param.numel():
            continue
        if whole and fits(work):
            direct.append(work)
        else:
            pieces += _parts(work)
    if direct:
        kernel(direct)
    scratch = _Scratch()
    batch: list[Work] = []
    size = 0
    for piece in pieces:
        if batch and size + piece.param.numel() > most(piece.param):
            _through_copies(kernel, batch, fits, scratch)
            batch, size = [], 0
        batch.append(piece)
        size += piece.param.numel()
    if batch:
        _through_copies(kernel, batch, fits, scratch)


def most(tensor: torch.Tensor) -> int:
    """Elements that a kernel with temporaries takes at a time."""
    return IN_CACHE if tensor.is_cpu else ELSEWHERE


def _parts(work: Work) -> Iterator[Work]:
    for tensors in parts(work.tensors):
        yield Work._make([*tensors, *[None] * (5 - len(tensors)), work.place])


def parts(tensors: Sequence[torch.Tensor]) -> Iterator[Sequence[torch.Tensor]]:
    """Views of the same parts of tensors of one shape, none larger than a kernel should take at a time.

    Small tensors are themselves; the parts of larger ones are taken in the first one's order of memory.
    """
    if tensors[0].numel() <= most(tensors[0]):
        yield tensors
        return
    tensors = list(map(_in_order_of_memory(tensors[0]), tensors))
    if all(map(torch.Tensor.is_contiguous, tensors)):
        yield from zip(*(torch.split(tensor.view(-1), most(tensor)) for tensor in tensors), strict=True)
    else:
        yield from _cut(tensors)


def _cut(tensors: Sequence[torch.Tensor]) -> Iterator[Sequence[torch.Tensor]]:
    number = tensors[0].numel()
    if number <= most(tensors[0]):
        yield tensors
        return
    dimension = next(i for i, length in enumerate(tensors[0].shape) if length > 1)
    length = tensors[0].shape[dimension]
    rows = max(1, length * most(tensors[0]) // number)
    for start in range(0, length, rows):
        yield from _cut([tensor.narrow(dimension, start, min(rows, length - start)) for tensor in tensors])


def _in_order_of_memory(tensor: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """The permutation that makes a dense tensor contiguous."""
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return lambda other: other.permute(order)


class _Scratch:
    """Memory for copies that all batches of a list use: taken anew for each, it may cost more than the step."""

    def __init__(self) -> None:
        self._memory: torch.Tensor | None = None

    def copies(self, tensors: list[torch.Tensor], dtype: torch.dtype) -> list[torch.Tensor]:
        """Contiguous copies in a dtype, always in the same memory; they last until the next call."""
        sizes = [tensor.numel() for tensor in tensors]
        number = sum(sizes)
        if self._memory is None or self._memory.numel() < number:
            self._memory = tensors[0].new_empty(number, dtype=dtype)
        parts = torch.split_with_sizes(self._memory.narrow(0, 0, number), sizes)
        result = [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
        torch._foreach_copy_(result, tensors)
        return result


def _through_copies(kernel: Kernel, works: Sequence[Work], fits: Callable[[Work], bool], scratch: _Scratch) -> None:
    """Let a kernel do works, those that it cannot take as they are through copies of the tensors that do not fit."""
    dtype = works[0].exp_avg.dtype
    taken: list[Work] = []
    read: list[torch.Tensor] = []
    written: list[torch.Tensor] = []
    for work in works:
        if not fits(work):
            if not work.param.is_contiguous():
                # In their order of memory dense tensors are contiguous.
                work = work.each(_in_order_of_memory(work.param))
            for tensor in work.tensors:
                if tensor.dtype != dtype or not tensor.is_contiguous():
                    (read if tensor is work.grad else written).append(tensor)
        taken.append(work)
    if read or written:
        copies = scratch.copies(written + read, dtype)
        copy_of = dict(zip(map(id, written + read), copies, strict=True))
        taken = [work.each(lambda tensor: copy_of.get(id(tensor), tensor)) for work in taken]
    kernel(taken)
    if written:
        torch._foreach_copy_(written, copies[: len(written)])
