"""The strategies draw what they promise: corners, layouts, kinds of gradients; and what they draw replays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import radam
from radam.audit.strategies import (
    BETA1_CORNERS,
    BETA2_CORNERS,
    GRADIENTS,
    LAYOUTS,
    SHAPES,
    THRESHOLD_CORNERS,
    Case,
    TensorCase,
    adam_hyperparameters,
    betas,
    cases,
    lay_out,
    make_gradient,
    make_parameter,
    radam_hyperparameters,
)
from radam.audit.subjects.radam import adam_oracle, family, oracle

# Finding is enough: what is found need not shrink.
SEARCH = settings(max_examples=5000, database=None, deadline=None, derandomize=True, phases=[Phase.generate])
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64)


def can_be_drawn(strategy: st.SearchStrategy[Any], condition: Callable[[Any], bool]) -> bool:
    """Whether a few thousand draws hold such a value."""
    find(strategy, condition, settings=SEARCH)
    return True


# Hyper-parameters


@given(options=radam_hyperparameters())
def test_radams_hyper_parameters_are_valid(options: dict[str, Any]) -> None:
    family(radam.RAdam).build([torch.nn.Parameter(torch.zeros(1))], options)
    assert oracle(options).t == 0


@given(options=adam_hyperparameters())
def test_adams_hyper_parameters_are_valid(options: dict[str, Any]) -> None:
    family(radam.Adam).build([torch.nn.Parameter(torch.zeros(1))], options)
    assert adam_oracle(options).t == 0


@pytest.mark.parametrize("beta1", BETA1_CORNERS)
def test_every_corner_of_beta1_is_drawn(beta1: float) -> None:
    assert can_be_drawn(betas(), lambda pair: pair[0] == beta1)


@pytest.mark.parametrize("beta2", BETA2_CORNERS)
def test_every_corner_of_beta2_is_drawn(beta2: float) -> None:
    assert can_be_drawn(betas(), lambda pair: pair[1] == beta2)


def test_the_corners_that_matter_are_among_them() -> None:
    assert {0.0, 0.5, 0.6, 0.999, 1 - 1e-6, 1 - 1e-12} <= set(BETA2_CORNERS)
    assert 0.0 in BETA1_CORNERS
    assert {4.0, 5.0, float(np.nextafter(5.0, 6.0))} <= set(THRESHOLD_CORNERS)


@pytest.mark.parametrize(
    "condition",
    [
        lambda o: o["betas"][1] < o["betas"][0],
        lambda o: o["eps"] == 0,
        lambda o: o["eps"] > 100,
        lambda o: o["lr"] == 0,
        lambda o: o["weight_decay"] >= 1 and o["lr"] >= 1,
        lambda o: 0.6 < o["betas"][1] < 0.8,
        lambda o: not o["degenerated_to_sgd"] and o["threshold"] > 5,
        lambda o: o["amsgrad"] and o["maximize"] and not o["optimized_update"],
    ],
)
def test_combinations_that_matter_are_drawn(condition: Callable[[Any], bool]) -> None:
    assert can_be_drawn(radam_hyperparameters(), condition)


# Parameters


@given(
    case=st.builds(
        TensorCase,
        shape=st.sampled_from(SHAPES),
        layout=st.sampled_from(LAYOUTS),
        scale=st.sampled_from((0.0, 1.0, 1e-3)),
        gradients=st.just(("normal",)),
    ),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_parameter_is_a_leaf_of_its_shape_and_dtype(case: TensorCase, dtype: torch.dtype, seed: int) -> None:
    param = make_parameter(case, dtype, np.random.default_rng(seed))
    assert isinstance(param, torch.nn.Parameter)
    assert param.is_leaf
    assert (tuple(param.shape), param.dtype) == (case.shape, dtype)
    assert case.scale != 0 or not param.any()
    again = make_parameter(case, dtype, np.random.default_rng(seed))
    assert torch.equal(param, again)
    assert param.stride() == again.stride()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_layouts_change_no_value(shape: tuple[int, ...], layout: str) -> None:
    values = torch.arange(float(np.prod(shape))).reshape(shape)
    assert torch.equal(lay_out(values, layout), values)


def test_layouts_are_what_they_are_called() -> None:
    values = torch.randn(2, 3, 2, 2)
    assert lay_out(values, "contiguous").is_contiguous()
    assert not lay_out(values, "transposed").is_contiguous()
    assert lay_out(values, "channels_last").is_contiguous(memory_format=torch.channels_last)
    strided, offset = lay_out(values, "strided"), lay_out(values, "offset")
    assert strided.stride(-1) == 2
    assert offset.storage_offset() > 0
    for view in (strided, offset):
        assert view.untyped_storage().nbytes() > view.numel() * view.element_size()


# Gradients


def gradient(kind: str, param: torch.Tensor, seed: int = 0) -> torch.Tensor:
    result = make_gradient(kind, param, torch.full_like(param, 3.0), np.random.default_rng(seed))
    assert result is not None
    return result


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [kind for kind in GRADIENTS if kind != "none"])
def test_a_gradient_fits_its_parameter_and_is_finite(kind: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    param = torch.ones(shape, dtype=dtype)
    grad = gradient(kind, param)
    assert (grad.shape, grad.dtype) == (param.shape, param.dtype)
    assert grad.isfinite().all()
    param.requires_grad_().grad = grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_gradients_are_of_the_kind_they_are_called(dtype: torch.dtype) -> None:
    param = torch.ones(200, dtype=dtype)
    limits = torch.finfo(dtype)
    assert make_gradient("none", param, param, np.random.default_rng(0)) is None
    assert not gradient("zeros", param).any()
    some = gradient("some zeros", param)
    assert some.any()
    assert not some.all()
    assert torch.equal(gradient("repeat", param), torch.full_like(param, 3.0))
    assert torch.equal(gradient("flip", param), torch.full_like(param, -3.0))
    assert set(gradient("expanded", param).stride()) == {0}
    subnormal = gradient("subnormal", param).abs()
    assert ((subnormal > 0) & (subnormal < limits.tiny)).any()
    assert gradient("huge", param).abs().max() > min(1e28, limits.max / 1e7)
    spread = gradient("normal", param).double().abs()
    assert spread.max() / spread[spread > 0].min() > 1e4


# Cases


@given(case=cases(radam_hyperparameters()))
def test_a_case_replays(case: Case) -> None:
    first, second = case.parameters(), case.parameters()
    for a, b in zip(first, second, strict=True):
        assert all(torch.equal(p, q) and p.stride() == q.stride() for p, q in zip(a, b, strict=True))
    for step, (a, b) in enumerate(zip(case.gradients(first), case.gradients(second), strict=False)):
        if step == 12:
            break
        for p, q in zip(a, b, strict=True):
            assert (p is None) == (q is None)
            assert p is None or q is None or torch.equal(p, q)


@given(case=cases(radam_hyperparameters()))
def test_groups_share_what_they_must(case: Case) -> None:
    assert len(case.options) == len(case.tensors)
    assert len({options["weight_decouple"] for options in case.options}) == 1
    assert len({options["absolute"] for options in case.options}) == 1


@given(case=cases(radam_hyperparameters(), DTYPES, ordinary=True))
def test_ordinary_cases_have_no_extreme_gradient(case: Case) -> None:
    kinds = {kind for group in case.tensors for tensor in group for kind in tensor.gradients}
    assert not kinds & {"subnormal", "huge", "tiny", "large"}
    assert case.dtype in DTYPES


def test_cases_of_every_size_are_drawn() -> None:
    strategy = cases(radam_hyperparameters())
    assert can_be_drawn(strategy, lambda case: len(case.options) == 3 and len(case.tensors[2]) == 3)
    assert can_be_drawn(strategy, lambda case: case.options[0] != case.options[-1])
    assert can_be_drawn(strategy, lambda case: any(t.scale == 0 for group in case.tensors for t in group))
    assert can_be_drawn(strategy, lambda case: any("none" in t.gradients for group in case.tensors for t in group))


def test_the_simplest_case_is_simple() -> None:
    """What a failure shrinks to is what Hypothesis tries first."""
    case = find(cases(radam_hyperparameters()), lambda case: True, settings=SEARCH)
    assert len(case.options) == 1
    assert len(case.tensors[0]) == 1
    assert case.tensors[0][0].gradients == ("normal",)
    assert case.tensors[0][0].layout == "contiguous"
    assert case.options[0]["betas"] == (0.9, 0.999)
    assert case.options[0]["threshold"] == 5.0
