"""Parameters of every shape and layout, written in place and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from radam.audit import Subject
from radam.audit.lockstep import same_bits
from radam.audit.strategies import lay_out
from radam.audit.subjects.radam import Family
from tests.subject import driving
from tests.subject.driving import (
    ACROSS,
    CONFIGURATIONS,
    assert_judged,
    follow,
    numbers,
    parameter,
    run,
    set_gradients,
    start,
)

everywhere = pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex64)
EVERY: dict[str, Any] = {"lr": 0.1, "betas": (0.8, 0.9), "threshold": 4.0, "weight_decay": 0.1}
"""Adaptive from its fifth step, with decay."""
SOME = (EVERY, {**EVERY, "weight_decouple": False, "amsgrad": True, "optimized_update": False, "maximize": True})
"""All paths above the threshold, in two configurations."""


def views(dtype: torch.dtype) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Tensors and views of them that do not fill them."""
    cube = numbers((4, 5, 6), dtype, 1)
    line = numbers((40,), dtype, 2)
    image = numbers((2, 4, 5, 6), dtype, 3).contiguous(memory_format=torch.channels_last)
    return {
        "every other element": (line, line[::2]),
        "an inner block": (cube, cube[1:3, 1:4, 2:5]),
        "a column": (cube, cube[:, 2, 3]),
        "one element": (line, line[7]),
        "one element of one": (line, line[7:8]),
        "transposed": (cube, cube[:, 1:].transpose(0, 2)),
        "the end": (line, line[-3:]),
        "rows apart": (line, line.as_strided((3, 4), (8, 2), 1)),
        "channels last, cropped": (image, image[:, 1:3, 1:4]),
        "an empty slice": (line, line[3:3]),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", views(torch.float32))
def test_nothing_is_written_outside_a_view(subject: Subject, family: Family, name: str, dtype: torch.dtype) -> None:
    """The rest of the tensor that a parameter is a view of keeps its bits; the view itself stays in its memory."""
    for options in SOME:
        base, view = views(dtype)[name]
        p = torch.nn.Parameter(view)
        place, strides = p.data_ptr(), p.stride()
        outside = torch.ones_like(base, dtype=torch.bool)
        outside.as_strided(view.shape, view.stride(), view.storage_offset()).fill_(False)
        before = base.clone()
        run(start(subject, family, [[p]], options), 7)
        assert same_bits(base[outside], before[outside]), f"written outside the view [{name}, {dtype}, {options}]"
        assert p.data_ptr() == place, f"the parameter has moved to other memory [{name}, {dtype}]"
        assert p.stride() == strides, f"strides are {p.stride()}, but should stay {strides} [{name}, {dtype}]"
        assert same_bits(view, p.detach()), f"the view has not followed its parameter [{name}, {dtype}]"


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_parameters_that_are_views_of_one_tensor(subject: Subject, family: Family, dtype: torch.dtype) -> None:
    """As flattened parameters are: each by its own options."""
    flat = numbers((12,), dtype, 1)
    first, second, third = (torch.nn.Parameter(part) for part in (flat[:5], flat[5:9].view(2, 2), flat[9:]))
    lockstep = start(subject, family, [[first, second], [third]], EVERY, [{}, {"lr": 0.3}])
    run(lockstep, ACROSS)
    seen = torch.cat([p.detach().reshape(-1) for p in (first, second, third)])
    assert same_bits(flat, seen), "the tensor of which the parameters are views has not followed them"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape",
    [(), (1,), (0,), (0, 3), (3, 0, 2), (1, 1, 1), (7,), (2, 3), (2, 3, 4), (2, 3, 4, 5), (1, 2, 1, 3, 2)],
    ids=str,
)
def test_every_shape(subject: Subject, family: Family, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Alone, and between others; decay and all else know no difference between a bias and a matrix."""
    for options in (*SOME, {"lr": 0.1, "degenerated_to_sgd": False, "weight_decay": 0.25, "betas": (0.5, 0.9)}):
        run(start(subject, family, [[parameter(shape, dtype)]], options), 6)
        params = [parameter((2,), dtype), parameter(shape, dtype, seed=1), parameter((3,), dtype, seed=2)]
        run(start(subject, family, [params], options), 6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "strided", "channels_last", "offset"])
@pytest.mark.parametrize("of_gradient", ["contiguous", "transposed", "strided", "channels_last", "offset"])
def test_parameter_and_gradient_may_lie_differently(
    subject: Subject, family: Family, layout: str, of_gradient: str, dtype: torch.dtype
) -> None:
    """Elements belong together by index, not by place."""
    p = torch.nn.Parameter(lay_out(numbers((2, 3, 4, 5), dtype, 1), layout))
    lockstep = start(subject, family, [[p]], {**EVERY, "amsgrad": True})
    for step in range(6):
        p.grad = lay_out(numbers((2, 3, 4, 5), dtype, step), of_gradient)
        lockstep.step()


def test_the_layout_of_gradients_may_change(subject: Subject, family: Family) -> None:
    """From step to step, with moments made for the first."""
    for first in ("channels_last", "contiguous", "transposed", "strided"):
        p = torch.nn.Parameter(numbers((2, 3, 4, 5), torch.float64, 1))
        lockstep = start(subject, family, [[p]], {**EVERY, "amsgrad": True})
        for step in range(8):
            layout = (first, "transposed", "contiguous", "channels_last", "strided")[step % 5]
            p.grad = lay_out(numbers((2, 3, 4, 5), torch.float64, step), layout)
            lockstep.step()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_memory_of_a_parameter_may_be_swapped(subject: Subject, family: Family, dtype: torch.dtype) -> None:
    """`param.data = ...` in mid-run, into another layout: steps go into the new memory, the old stays as it was."""
    p = torch.nn.Parameter(numbers((2, 3, 4, 5), dtype, 1))
    lockstep = start(subject, family, [[p]], EVERY)
    for layout in ("contiguous", "channels_last", "offset", "transposed"):
        run(lockstep, 3)
        old = p.data
        before = old.clone()
        p.data = lay_out(old.clone(), layout)
        run(lockstep, 2, 1)
        assert same_bits(old, before), f"a step has written into memory that the parameter has left [{layout}]"
        assert not same_bits(p.detach(), before), "the parameter has not moved"


def test_a_parameter_written_to_between_steps(subject: Subject, family: Family) -> None:
    """No copy of it is kept, not even of a half precision one."""
    for dtype in DTYPES:
        p = parameter((3,), dtype)
        lockstep = start(subject, family, [[p]], EVERY)
        for step in range(ACROSS):
            with torch.no_grad():
                p.copy_(numbers((3,), dtype, 100 + step))
            run(lockstep, 1, step)


@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        (70_003, torch.float64),
        (70_003, torch.float32),
        (70_003, torch.bfloat16),
        (40_001, torch.complex64),
        (2**20 + 3, torch.float32),
    ],
)
def test_every_element_of_a_large_tensor(subject: Subject, family: Family, size: int, dtype: torch.dtype) -> None:
    """In its first step, and in the first adaptive one."""
    rng = torch.Generator().manual_seed(size)
    p = torch.nn.Parameter(torch.randn(size, generator=rng, dtype=dtype).to(driving.HERE))
    lockstep = start(subject, family, [[p]], EVERY)
    for step in range(1, 6):
        p.grad = torch.randn(size, generator=rng, dtype=dtype).to(p.device)
        if step in (1, 5):
            follow(subject, lockstep.optimizer, lockstep.options).step()
        else:
            lockstep.optimizer.step()


def test_a_large_tensor_that_is_not_contiguous(subject: Subject, family: Family) -> None:
    rng = torch.Generator().manual_seed(1)
    base = torch.randn(301, 302, generator=rng).to(driving.HERE)
    p = torch.nn.Parameter(base[:, 1:].t())
    edge = base[:, 0].clone()
    lockstep = start(subject, family, [[p]], {**EVERY, "weight_decouple": False})
    for _ in range(6):
        p.grad = torch.randn(301, 301, generator=rng).to(p.device)
        lockstep.step()
    assert same_bits(base[:, 0], edge), "written outside the view"


@everywhere
def test_a_step_is_ordinary_arithmetic_of_ordinary_numbers(
    subject: Subject, family: Family, options: dict[str, Any]
) -> None:
    """Sanity of this file: on such numbers nothing is left unjudged."""
    params = [parameter((5,)), parameter((2, 2), seed=1)]
    lockstep = start(subject, family, [params], options)
    for step in range(ACROSS):
        set_gradients(params, step)
        lockstep.step()
    assert_judged(lockstep)
