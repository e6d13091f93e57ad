"""Kernels: which serves which parameter, that they agree bit for bit, and the ends of the number range."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import radam
from radam import WeightDecay
from radam.audit.strategies import Case, adam_hyperparameters, cases, radam_hyperparameters
from radam.audit.subjects.radam import family
from radam.kernels import loop
from radam.kernels.slot import representable
from radam.kernels.work import IN_CACHE
from tests.core.helpers import KERNELS, Subclass, bits, numbers, parameter, params_of, run, set_gradients

STEPS = 12
STATE = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")


def build(cls: Any, case: Case, params: list[list[torch.nn.Parameter]], **more: Any) -> Any:
    """The optimizer of a case; every group has its own options, the kind of decay included."""
    groups = [{"params": own, **options} for own, options in zip(params, case.options, strict=True)]
    return family(cls).build(groups, {}, **more)


def contents(optimizer: Any) -> list[Any]:
    """Numbers of parameters and state."""
    result: list[Any] = []
    for param in params_of(optimizer):
        state = optimizer.state.get(param, {})
        result.append((numbers(param), state.get("step"), [numbers(state[name]) for name in STATE if name in state]))
    return result


# Agreement


def assert_agreement(cls: Any, case: Case) -> None:
    loop_params, list_params = case.parameters(), case.parameters()
    loop, lists = (
        build(cls, case, loop_params, foreach=False),
        build(cls, case, list_params, foreach=True),
    )
    for step, (a, b) in enumerate(zip(case.gradients(loop_params), case.gradients(list_params), strict=False)):
        if step == STEPS:
            break
        for param, grad in zip(params_of(loop), a, strict=True):
            param.grad = grad
        for param, grad in zip(params_of(lists), b, strict=True):
            param.grad = grad
        loop.step()
        lists.step()
        assert contents(loop) == contents(lists)


@given(case=cases(radam_hyperparameters(), shared=()))
def test_loop_and_foreach_agree_bit_for_bit(case: Case) -> None:
    assert_agreement(radam.RAdam, case)


@given(case=cases(adam_hyperparameters(), shared=()))
def test_adams_loop_and_foreach_agree_bit_for_bit(case: Case) -> None:
    assert_agreement(radam.Adam, case)


@given(case=cases(radam_hyperparameters(), (torch.complex64, torch.complex128), shared=()))
def test_complex_numbers_are_pairs_of_reals_bit_for_bit(case: Case) -> None:
    params = case.parameters()
    pairs = [[torch.nn.Parameter(torch.view_as_real(param.detach()).clone()) for param in group] for group in params]
    whole, split = build(radam.RAdam, case, params), build(radam.RAdam, case, pairs)
    gradients = case.gradients(params)
    for _ in range(STEPS):
        for param, pair, grad in zip(params_of(whole), params_of(split), next(gradients), strict=True):
            param.grad = grad
            pair.grad = None if grad is None else torch.view_as_real(grad.resolve_conj()).clone()
        whole.step()
        split.step()
        assert contents(whole) == contents(split)


@pytest.mark.parametrize("foreach", [False, True])
@given(case=cases(radam_hyperparameters(), (torch.float32, torch.float64), shared=()), seed=st.integers(0, 99))
def test_the_layout_does_not_matter(foreach: bool, case: Case, seed: int) -> None:
    """Bit for bit; the fused kernel rounds the last elements of a tensor otherwise, within the audit's bounds."""
    params = case.parameters()
    plain = [[torch.nn.Parameter(param.detach().clone().contiguous()) for param in group] for group in params]
    a, b = (build(radam.RAdam, case, own, foreach=foreach) for own in (params, plain))
    for step in range(STEPS):
        set_gradients(params_of(a), seed + step)
        set_gradients(params_of(b), seed + step)
        a.step()
        b.step()
    assert contents(a) == contents(b)


# Gradients of other dtypes


class Held(torch.nn.Parameter):
    """A parameter whose gradient may have another dtype."""

    grad: Any = None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("of", [torch.float32, torch.float64, torch.bfloat16])
def test_a_gradient_of_another_dtype_is_converted(dtype: torch.dtype, of: torch.dtype) -> None:
    """Into the dtype of the arithmetic, and nothing is written to it."""
    arithmetic = torch.float64 if of == torch.float64 else torch.float32
    given, converted = Held(torch.ones(3, dtype=of)), Held(torch.ones(3, dtype=of))
    grad = torch.tensor([0.1, 1 / 3, 7.7], dtype=torch.float64).to(dtype)
    given.grad, converted.grad = grad, grad.to(arithmetic)
    before = bits(grad)
    for param in (given, converted):
        optimizer = radam.RAdam([param], lr=0.1)
        for _ in range(7):
            optimizer.step()
        assert optimizer.state[param]["exp_avg"].dtype == arithmetic
    assert numbers(given) == numbers(converted)
    assert bits(grad) == before


# Several dtypes and devices in one optimizer


def test_mixed_dtypes_step_as_if_alone() -> None:
    dtypes = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.complex128)
    together = radam.RAdam([parameter(dtype=dtype) for dtype in dtypes], lr=0.1)
    alone = [radam.RAdam([parameter(dtype=dtype)], lr=0.1) for dtype in dtypes]
    for optimizer in (together, *alone):
        for _ in range(8):
            optimizer.step()
    assert contents(together) == [entry for optimizer in alone for entry in contents(optimizer)]


@pytest.mark.parametrize(
    "device",
    [
        pytest.param(
            "cuda",
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="asks for a CUDA device, none is here"),
        ),
        "cpu",
    ],
)
@pytest.mark.parametrize("kernel", KERNELS)
def test_mixed_devices_in_one_optimizer(device: str, kernel: str) -> None:
    here, there = parameter(), torch.nn.Parameter(torch.tensor([1.0, 2.0, 3.0], device=device))
    there.grad = torch.ones(3, device=device)
    optimizer = radam.RAdam([here, there], lr=0.5, **KERNELS[kernel])
    for _ in range(3):
        optimizer.step()
    assert there.device.type == device
    assert optimizer.state[there]["exp_avg"].device == there.device
    # Momentum steps with a constant gradient: m/bc1 = 1 but for its rounding.
    assert torch.allclose(here, there.cpu(), rtol=0, atol=8 * 2.0**-24)


def test_parameters_of_different_ages_in_one_group() -> None:
    old, young = parameter(), parameter()
    optimizer = radam.RAdam([old, young], lr=0.1)
    young.grad = None
    run_alone = radam.RAdam([parameter()], lr=0.1)
    for _ in range(5):
        optimizer.step()
    young.grad = torch.ones(3)
    for _ in range(6):
        optimizer.step()
        run_alone.step()
    assert (optimizer.state[old]["step"], optimizer.state[young]["step"]) == (11, 6)
    assert numbers(young) == numbers(params_of(run_alone)[0])


# Half precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kernel", KERNELS)
def test_half_precision_is_rounded_once(dtype: torch.dtype, kernel: str) -> None:
    """Decay and update in float32 and one rounding; rounding after the decay as well gives other numbers."""
    start = torch.linspace(0.5, 2.0, 400).to(dtype)
    param = torch.nn.Parameter(start.clone())
    param.grad = torch.linspace(1.0, 3.0, 400).to(dtype)
    radam.RAdam([param], lr=2.0**-7, betas=(0.0, 0.999), weight_decay=0.5, **KERNELS[kernel]).step()

    decayed = start.float() * (1 - 2.0**-8)
    once = (decayed - 2.0**-7 * param.grad.float()).to(dtype)
    twice = (decayed.to(dtype).float() - 2.0**-7 * param.grad.float()).to(dtype)
    assert torch.equal(param, once)
    assert not torch.equal(once, twice)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_moments_are_those_of_float32(dtype: torch.dtype) -> None:
    """Gradients of 1e-4, whose squares underflow in float16, as long as the parameter plays no part in g'."""
    half, full = parameter(dtype=dtype), parameter()
    a, b = radam.RAdam([half]), radam.RAdam([full])
    for _ in range(8):
        half.grad = torch.full((3,), 1e-4, dtype=dtype)
        full.grad = half.grad.float()
        a.step()
        b.step()
    assert numbers(a.state[half]["exp_avg"]) == numbers(b.state[full]["exp_avg"])
    assert numbers(a.state[half]["exp_avg_sq"]) == numbers(b.state[full]["exp_avg_sq"])
    assert a.state[half]["exp_avg_sq"].all()


# The ends of the number range


def ieee(dtype: torch.dtype, steps: int, lr: float, eps: float, decay: float, decouple: bool) -> Any:
    """What RAdam's own lines give in NumPy for p = 1, g = 1 throughout, options converted as IEEE 754 says."""
    kind = np.float32 if dtype == torch.float32 else np.float64
    optimizer = radam.RAdam([parameter()], lr=lr, eps=eps, betas=(0.5, 0.999))
    p, m, v = kind(1), kind(0), kind(0)
    with np.errstate(all="ignore"):
        for t in range(1, steps + 1):
            step = optimizer.schedule(t, optimizer.param_groups[0])
            g = kind(1)
            if decay and decouple:
                p = p * kind(1 - lr * decay)
            elif decay:
                g = p * kind(decay) + g
            m = m * kind(0.5) + kind(0.5) * g
            v = v * kind(0.999) + kind(1 - 0.999) * g * g
            denominator = np.sqrt(v) + kind(step.eps) if step.kind.value == "adaptive" else kind(1)
            p = p - kind(float(step.size)) * (m / denominator)
    return p


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("steps", [1, 3, 6, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("lr", "eps", "decay", "decouple"),
    [
        (1e300, 1e-16, 0.0, True),
        (1e39, 1e-16, 0.0, True),
        (1.0, 1e300, 0.0, True),
        (1e300, 1e300, 0.0, True),
        (1.0, 1e-16, 1e300, True),
        (1.0, 1e-16, 1e300, False),
        (1e300, 1e-16, 1e300, True),
        (1e308, 0.0, 1e308, False),
        (1e-300, 1e-300, 0.0, True),
    ],
)
def test_options_beyond_the_range_give_what_ieee_says(
    dtype: torch.dtype, steps: int, lr: float, eps: float, decay: float, decouple: bool, kernel: str
) -> None:
    """Numbers are of the same class: NaN, an infinity of the same sign, or equal to within a few roundings."""
    param = parameter(1.0, dtype=dtype)
    optimizer = radam.RAdam(
        [param], lr=lr, eps=eps, betas=(0.5, 0.999), weight_decay=WeightDecay(decay, decouple), **KERNELS[kernel]
    )
    for _ in range(steps):
        optimizer.step()
    expected = float(ieee(dtype, steps, lr, eps, decay, decouple))
    if math.isfinite(expected):
        # Each step rounds its decay, its update and their sum: at most 8 roundings of numbers no larger than these.
        assert abs(param.item() - expected) <= steps * 8 * max(16, abs(expected)) * torch.finfo(dtype).eps
    else:
        assert param.item() == expected or (math.isnan(expected) and math.isnan(param.item()))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex64])
def test_options_beyond_the_range_do_not_raise_in_other_dtypes(dtype: torch.dtype, kernel: str) -> None:
    for options in (
        {"lr": 1e300},
        {"eps": 1e300},
        {"weight_decay": WeightDecay(1e300, False)},
        {"weight_decay": 1e300},
    ):
        optimizer = radam.RAdam([parameter(1.0, dtype=dtype)], **KERNELS[kernel], **options)  # type: ignore[arg-type]
        for _ in range(8):
            optimizer.step()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
def test_zero_gradients_and_eps_0(dtype: torch.dtype, kernel: str) -> None:
    """0/0 is NaN in an adaptive step, and a momentum step knows no division."""
    param = parameter(1.0, dtype=dtype)
    param.grad = torch.zeros_like(param)
    optimizer = radam.RAdam([param], eps=0.0, **KERNELS[kernel])
    for _ in range(5):
        optimizer.step()
    assert param.item() == 1.0
    optimizer.step()
    assert param.isnan().all()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("degenerated_to_sgd", [True, False])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_inf_stay_in_their_element(bad: float, degenerated_to_sgd: bool, kernel: str) -> None:
    param = parameter(1.0, 1.0, 1.0)
    optimizer = radam.RAdam([param], degenerated_to_sgd=degenerated_to_sgd, **KERNELS[kernel])
    for _ in range(7):
        param.grad = torch.tensor([1.0, bad, 1.0])
        optimizer.step()
    assert not param[1].isfinite()
    assert param[[0, 2]].isfinite().all()
    assert not optimizer.state[param]["exp_avg"][1].isfinite()


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients_of_1e20_do_not_overflow_a_momentum_step(kernel: str) -> None:
    param = parameter(0.0, 0.0)
    param.grad = torch.full((2,), 1e20)
    radam.RAdam([param], lr=1.0, **KERNELS[kernel]).step()
    assert torch.allclose(param, torch.full((2,), -1e20), rtol=4 * 2.0**-24, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_the_largest_number_is_representable(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    for value in (0.0, 1.0, largest, -largest):
        assert representable(value, dtype) == value
    for value in (math.nextafter(largest, math.inf), math.inf):
        assert (representable(value, dtype), representable(-value, dtype)) == (math.inf, -math.inf)


# Differentiation through steps


@pytest.mark.parametrize("optimizer", [radam.RAdam, radam.Adam])
@pytest.mark.parametrize("options", [{}, {"amsgrad": True}, {"optimized_update": False}, {"maximize": True}], ids=str)
@pytest.mark.parametrize("decouple", [True, False])
def test_several_steps_can_be_differentiated(optimizer: Any, options: dict[str, Any], decouple: bool) -> None:
    """With respect to the first parameter, the gradients and lr, over momentum and adaptive steps."""

    def final(start: torch.Tensor, gradients: torch.Tensor, lr: torch.Tensor) -> torch.Tensor:
        param = start.clone()
        instance = optimizer(
            [param],
            lr=lr,
            betas=(0.5, 0.8),
            eps=1e-3,
            weight_decay=WeightDecay(0.1, decouple),
            differentiable=True,
            **options,
        )
        for gradient in gradients:
            param.grad = gradient
            instance.step()
        return param

    torch.manual_seed(0)
    start = torch.randn(2, dtype=torch.float64, requires_grad=True)
    gradients = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(final, (start, gradients, lr))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.complex64], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"eps": 0.5, "amsgrad": True, "maximize": True},
        {"eps": 0.5, "optimized_update": False, "weight_decay": WeightDecay(0.1, False)},
        {"degenerated_to_sgd": False, "weight_decay": WeightDecay(0.1)},
        {"threshold": 4.0, "weight_decay": WeightDecay(0.1, absolute=True), "amsgrad": True},
    ],
    ids=str,
)
def test_differentiable_steps_are_the_same_steps(options: dict[str, Any], dtype: torch.dtype) -> None:
    a, b = (
        radam.RAdam([parameter(dtype=dtype)], lr=0.1, **options, **kind)
        for kind in ({"differentiable": True}, {"foreach": False})
    )
    for optimizer in (a, b):
        # Like torch's, it does not write into a leaf while autograd records.
        params_of(optimizer)[0].requires_grad_(False)
        run(optimizer, 9)
    assert contents(a) == contents(b)


def test_differentiable_steps_of_adam_are_the_same_steps() -> None:
    a, b = (
        radam.Adam([parameter()], lr=0.1, eps=0.5, variance_warmup=3, amsgrad=True, weight_decay=0.1, **kind)
        for kind in ({"differentiable": True}, {"foreach": False})
    )
    for optimizer in (a, b):
        params_of(optimizer)[0].requires_grad_(False)
        run(optimizer, 9)
    assert contents(a) == contents(b)


@pytest.mark.parametrize("cls", [radam.RAdam, radam.Adam])
@pytest.mark.parametrize("options", [{}, {"eps": 0.5}, {"amsgrad": True, "optimized_update": False}], ids=str)
def test_a_learning_rate_to_be_differentiated_makes_the_same_steps(cls: Any, options: dict[str, Any]) -> None:
    """Its sizes are tensors: quotient, product and difference are rounded one by one, the moments are the same.

    Sizes, quotients and parameters stay below 4: each of nine steps is off by at most 8 roundings of such numbers.
    """
    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    results = []
    for kind in ({"lr": lr, "differentiable": True}, {"lr": 0.1, "foreach": False}):
        param = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
        optimizer = cls([param], **options, **kind)
        run(optimizer, 9)
        results.append(param.detach())
        assert float(param.detach().abs().max()) < 4
    assert torch.allclose(*results, rtol=0.0, atol=9 * 8 * 4 * 2.0**-53)


@pytest.mark.parametrize("cls", [radam.RAdam, radam.Adam])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_the_derivative_where_the_gradient_is_zero(cls: Any, amsgrad: bool) -> None:
    """It is (1 - beta1) / eps times the step's size, where the square root alone has none; torch's Adam gives NaN."""

    def stepped(lr: float, *grads: torch.Tensor) -> torch.Tensor:
        param = torch.tensor([1.0, 2.0], dtype=torch.float64)
        optimizer = cls([param], lr=lr, betas=(0.5, 0.9), eps=0.25, amsgrad=amsgrad, differentiable=True)
        for grad in (torch.zeros(2, dtype=torch.float64),) * 4 + grads:
            param.grad = grad
            optimizer.step()
        return param

    grads = [torch.tensor([0.0, value], dtype=torch.float64, requires_grad=True) for value in (0.5, -1.5)]
    assert torch.autograd.gradcheck(lambda *grads: stepped(0.1, *grads), grads)
    (derivative,) = torch.autograd.grad(stepped(0.1, *grads)[0], grads[1])
    optimizer = cls([torch.nn.Parameter(torch.zeros(1))], lr=0.1, betas=(0.5, 0.9), eps=0.25)
    step = optimizer.schedule(6, optimizer.param_groups[0])
    assert derivative.tolist() == pytest.approx([-step.size * 0.5 / step.eps, 0.0], rel=1e-12, abs=0)
    along = torch.tensor([1.0, 0.0], dtype=torch.float64)
    first, last = (grad.detach() for grad in grads)
    _, forward = torch.func.jvp(lambda grad: stepped(0.1, first, grad), (last,), (along,))
    assert forward.tolist() == pytest.approx([-step.size * 0.5 / step.eps, 0.0], rel=1e-12, abs=0)


def test_without_differentiable_nothing_is_recorded() -> None:
    lr = torch.tensor(0.1, requires_grad=True)
    param = parameter()
    param.grad = torch.ones(3, requires_grad=True) * 2
    optimizer = radam.RAdam([param], lr=lr)
    optimizer.step()
    assert param.is_leaf
    assert param.grad_fn is None
    assert optimizer.state[param]["exp_avg"].grad_fn is None


# By parts


class DecayOfOnesOwn(WeightDecay):
    """What it does is not known."""


@pytest.mark.parametrize(
    ("param", "grad", "decay", "parts"),
    [
        (torch.Tensor, torch.Tensor, WeightDecay(0.1), 3),
        (Subclass, torch.Tensor, WeightDecay(0.1), 1),
        (torch.Tensor, Subclass, WeightDecay(0.1), 1),
        (torch.Tensor, torch.Tensor, DecayOfOnesOwn(0.1), 1),
    ],
)
def test_the_loop_takes_large_parameters_by_parts_where_it_may(
    param: type[torch.Tensor], grad: type[torch.Tensor], decay: Any, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, sizes = loop._apply, []

    def spy(step: Any, slot: Any, *args: Any, **kwargs: Any) -> None:
        sizes.append(slot.param.numel())
        own(step, slot, *args, **kwargs)

    monkeypatch.setattr(loop, "_apply", spy)
    tensor = torch.ones(3, IN_CACHE).as_subclass(param)
    tensor.grad = torch.ones(3, IN_CACHE).as_subclass(grad)
    optimizer = radam.RAdam([tensor], weight_decay=decay, foreach=False)
    optimizer.step()
    assert sizes == [3 * IN_CACHE // parts] * parts
