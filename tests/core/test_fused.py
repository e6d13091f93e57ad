"""torch's fused Adam kernel as RAdam calls it: its hazards, one by one, and that none is left."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import radam
from radam import WeightDecay
from radam.audit import Lockstep
from radam.audit.subjects.radam import oracle
from radam.kernels import foreach, fused, threads
from radam.schedule import Kind, Step
from tests.core.helpers import numbers, parameter, params_of, run, set_gradients

ADAPTIVE: dict[str, Any] = {"lr": 0.1, "betas": (0.8, 0.9), "threshold": 4.0}
"""Adaptive from its fifth step on."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[torch.Size], int]]:
    """The calls of torch's kernels: name, shapes of the parameters, threads that the call may use."""
    seen: list[tuple[str, list[torch.Size], int]] = []

    def spied(name: str) -> Any:
        own = getattr(torch, name)

        def spy(params: Any, *args: Any, **kwargs: Any) -> None:
            seen.append((name, [param.shape for param in params], torch.get_num_threads()))
            own(params, *args, **kwargs)

        return spy

    for name in ("_fused_adam_", "_fused_adamw_"):
        monkeypatch.setattr(torch, name, spied(name))
    return seen


def checked(param: torch.Tensor, options: dict[str, Any], steps: int = 8, scale: float = 1.0, **more: Any) -> Lockstep:
    """Judged steps; `more` goes to the constructor alone."""
    decay = {name: options[name] for name in ("weight_decay", "weight_decouple", "absolute") if name in options}
    arguments = {name: value for name, value in options.items() if name not in decay}
    optimizer = radam.RAdam([param], **arguments, weight_decay=WeightDecay(**decay), **more)
    lockstep = Lockstep(optimizer, [options], oracle, scalars="exact")
    for step in range(steps):
        set_gradients([param], step)
        assert param.grad is not None
        param.grad *= scale
        lockstep.step()
    return lockstep


# Which steps it takes


def test_it_takes_the_adaptive_steps(calls: list[Any]) -> None:
    checked(parameter(), ADAPTIVE, 8)
    assert [name for name, _, _ in calls] == ["_fused_adam_"] * 4


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"weight_decay": 0.1}, "_fused_adamw_"),
        ({"weight_decay": 0.1, "absolute": True}, "_fused_adamw_"),
        ({"weight_decay": 0.1, "weight_decouple": False}, "_fused_adam_"),
        ({"amsgrad": True, "maximize": True, "optimized_update": False, "eps": 0.01}, "_fused_adam_"),
    ],
    ids=str,
)
def test_every_option_is_its_own_one_pass(options: dict[str, Any], name: str, calls: list[Any]) -> None:
    """With decay of either kind there is still one call."""
    checked(parameter(), {**ADAPTIVE, **options}, 8)
    assert [called for called, _, _ in calls] == [name] * 4


def test_nothing_without_a_gradient_and_nothing_empty_is_handed_to_it(calls: list[Any]) -> None:
    """It refuses an empty list, and None in one."""
    none, empty, full = parameter(), torch.nn.Parameter(torch.zeros(0, 3)), parameter(1.0)
    optimizer = radam.RAdam([{"params": [none, empty]}, {"params": [full]}, {"params": []}], **ADAPTIVE)
    for _ in range(8):
        none.grad, empty.grad = None, torch.zeros(0, 3)
        optimizer.step()
    full.grad = None
    optimizer.step()
    assert [shapes for _, shapes, _ in calls] == [[torch.Size([1])]] * 4


# Numbers beyond what it can be told


@given(
    factor=st.one_of(st.floats(-2, 2), st.floats(1 - 2.0**-40, 1), st.floats(1e-300, 1e-3).map(lambda x: 1 - x)),
    size=st.one_of(st.just(0.0), st.floats(0, 10), st.floats(1e-300, 1e-3), st.floats(0, 1e-300)),
)
def test_the_decay_it_is_told_is_the_factor_or_none(factor: float, size: float) -> None:
    """As a product that is rounded before the difference, and as one that is not, to within two units of 2**-53."""
    number = fused._decay(factor, size)
    if number:
        exact = 1 - np.longdouble(size) * np.longdouble(number)
        for seen in (1.0 - size * number, float(exact)):
            assert abs(seen - factor) <= 2 * 2.0**-53
        assert factor >= 0.5


@given(st.floats(0.5, 1 - 2.0**-20), st.floats(1e-6, 10))
def test_the_decay_of_ordinary_numbers_is_told(factor: float, size: float) -> None:
    """It is the quotient, of which some products with the size are a rounding off."""
    assert fused._decay(factor, size) == (1 - factor) / size


@pytest.mark.parametrize(
    ("factor", "size"),
    [
        (0.4, 0.1),  # of the parameter too little is left
        (-0.5, 0.1),
        (0.9, 0.0),
        (0.9, 5e-324),  # the quotient overflows
        (1 - 1.37 * 2.0**-40, 1e300),  # or has few digits
        (0.9999999249627143, 1.5221546759844527e301),  # or a digit less than it should
    ],
)
def test_a_decay_that_the_quotient_does_not_give_is_not_told(factor: float, size: float) -> None:
    assert fused._decay(factor, size) == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_scalars_that_it_is_told_are_normal_numbers(dtype: torch.dtype) -> None:
    """Or 0; each of the smallest and the largest in any place."""
    least, largest = torch.finfo(dtype).smallest_normal, torch.finfo(dtype).max
    for value, taken in (
        *((value, True) for value in (0.0, 1.0, least, largest, -least, -largest)),
        *((value, False) for value in (math.nextafter(least, 0), -least / 2, math.inf, -math.inf, math.nan)),
        *((math.nextafter(sign * largest, sign * math.inf), False) for sign in (1.0, -1.0)),
    ):
        for step, terms in (
            (Step(Kind.ADAPTIVE, value, 0.1), (1.0, 0.0)),
            (Step(Kind.ADAPTIVE, 0.1, value), (1.0, 0.0)),
            (Step(Kind.ADAPTIVE, 0.1, 0.1), (value, 0.0)),
            (Step(Kind.ADAPTIVE, 0.1, 0.1), (1.0, value)),
        ):
            assert fused.takes(step, dtype, terms) == taken, (step, terms)
    assert not any(fused.takes(Step(kind, 0.1, 0.1), dtype, (1.0, 0.0)) for kind in Kind if kind is not Kind.ADAPTIVE)


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("decay", [1e-3, 0.4, 0.75, 1.0, 1.5, 1e10])
@pytest.mark.parametrize("lr", [1.0, 1e-3, 1e-30, 1e-300, 5e-324, 0.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_decay_by_any_share_at_any_size_of_step(dtype: torch.dtype, lr: float, decay: float, absolute: bool) -> None:
    """At lr = 1e-300 the quotient of the two overflows; at a decay of 1 nothing is left of the parameter."""
    options = {**ADAPTIVE, "lr": lr, "weight_decay": decay, "absolute": absolute}
    checked(parameter(1.0, -2.0, 3.0, dtype=dtype), options, fused=True)


def test_a_step_of_no_size_still_decays(calls: list[Any]) -> None:
    """At rho_t = threshold = 4, r_t = 0."""
    betas = (0.5, 0.7333333333333333)
    first = next(t for t in range(1, 40) if radam.rectification.rho_t(float(t), betas[1]) >= 4)
    threshold = max(4.0, radam.rectification.rho_t(float(first), betas[1]))
    options = {"lr": 0.1, "betas": betas, "threshold": threshold, "weight_decay": 0.25}
    checked(parameter(), options, first + 2)
    assert calls


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 1e42},
        {"eps": 1e39},
        {"weight_decay": 1e39, "weight_decouple": False},
        {"eps": 1e-46},
        {"lr": 1e-44},
        {"weight_decay": 1e-44, "weight_decouple": False},
    ],
    ids=str,
)
def test_scalars_beyond_float32_go_by_foreach(options: dict[str, Any], calls: list[Any]) -> None:
    checked(parameter(), {**ADAPTIVE, **options})
    assert not calls
    checked(parameter(dtype=torch.float64), {**ADAPTIVE, **options})
    assert calls


@pytest.mark.parametrize("kernel", [{"fused": True}, {"foreach": True}, {"foreach": False}, {"capturable": True}])
def test_an_eps_that_underflows_is_nothing_in_every_element(kernel: dict[str, bool]) -> None:
    """1e-46 is 0 in float32: zero gradients give 0/0 in an adaptive step, by vectors and beyond the last of them."""
    param = torch.nn.Parameter(torch.ones(33))
    optimizer = radam.RAdam([param], **{**ADAPTIVE, "eps": 1e-46}, **kernel)
    for _ in range(5):
        param.grad = torch.zeros(33)
        optimizer.step()
    assert param.isnan().all()


# What it does not tell anyone


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_autograd_learns_that_the_parameter_has_changed(dtype: torch.dtype) -> None:
    """In a momentum step and in an adaptive one."""
    param = parameter(dtype=dtype)
    optimizer = radam.RAdam([param], **ADAPTIVE, fused=True)
    for _ in range(8):
        loss = (param * param).sum().abs()
        param.grad = torch.ones_like(param)
        version = param._version
        optimizer.step()
        assert param._version > version
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_parameters_made_in_inference_mode() -> None:
    with torch.inference_mode():
        param = torch.ones(3)
        param.grad = torch.ones(3)
        optimizer = radam.RAdam([param], **ADAPTIVE)
        for _ in range(8):
            optimizer.step()
    assert (param < 1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 7, 8, 15, 16, 17, 33, 64, 65, 130, 2**14, 2**14 + 67])
def test_the_maximum_keeps_nan_in_every_element(size: int, dtype: torch.dtype) -> None:
    """torch's kernel loses it beyond the last whole vector."""
    for place in {0, size // 2, max(size - 3, 0), size - 1}:
        params = [torch.nn.Parameter(torch.ones(size, dtype=dtype)) for _ in range(2)]
        by_fused = radam.RAdam(params[:1], **ADAPTIVE, amsgrad=True, fused=True)
        by_loop = radam.RAdam(params[1:], **ADAPTIVE, amsgrad=True, foreach=False)
        for step in range(7):
            for param, optimizer in zip(params, (by_fused, by_loop), strict=True):
                param.grad = torch.ones_like(param)
                param.grad[place] = math.nan if step == 5 else 1.0
                optimizer.step()
        maxima = [o.state[p]["max_exp_avg_sq"] for o, p in zip((by_fused, by_loop), params, strict=True)]
        assert torch.equal(maxima[0].isnan(), maxima[1].isnan())
        assert maxima[0].isnan().nonzero().tolist() == [[place]]


def test_strides_of_state_that_no_longer_fit_those_of_the_parameter(calls: list[Any]) -> None:
    """The parameter has moved to other memory, laid out in another way; the state has not."""
    param = torch.nn.Parameter(torch.arange(24.0).reshape(2, 3, 4) / 7)
    lockstep = checked(param, ADAPTIVE, 5, fused=True)
    param.data = param.data.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert lockstep.optimizer.state[param]["exp_avg"].stride() != param.stride()
    calls.clear()
    for step in range(4):
        set_gradients([param], step)
        lockstep.step()
    assert len(calls) == 4


# Many small tensors, and several threads


@pytest.fixture
def two_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_small_tensors_are_taken_by_one_thread_and_large_ones_by_all(calls: list[Any]) -> None:
    """The kernel would start a second thread for 17 elements, and wait for it."""
    small = [torch.nn.Parameter(torch.ones(n)) for n in (1, 64, fused.SMALL - 1)]
    large = [torch.nn.Parameter(torch.ones(n)) for n in (fused.SMALL, 3 * fused.SMALL)]
    optimizer = radam.RAdam([large[0], *small, large[1]], **ADAPTIVE)
    run(optimizer, 5)
    shapes = {used: [shape.numel() for shape in shapes] for _, shapes, used in calls}
    assert shapes == {1: [1, 64, fused.SMALL - 1], 2: [fused.SMALL, 3 * fused.SMALL]}
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_a_first_step_is_taken_so_too(calls: list[Any]) -> None:
    """Where nothing is known yet of the tensors."""
    optimizer = radam.Adam([torch.nn.Parameter(torch.ones(n)) for n in (fused.SMALL - 1, fused.SMALL)])
    run(optimizer, 1)
    assert [(shapes[0].numel(), used) for _, shapes, used in calls] == [(fused.SMALL - 1, 1), (fused.SMALL, 2)]


@pytest.mark.usefixtures("two_threads")
def test_other_threads_are_none_of_its_business() -> None:
    """Neither one that runs, nor one that starts meanwhile."""
    seen: dict[str, int] = {}
    inside, done = threading.Event(), threading.Event()

    def runs() -> None:
        seen["before"] = torch.get_num_threads()
        inside.wait()
        seen["meanwhile"] = torch.get_num_threads()
        done.set()

    other = threading.Thread(target=runs)
    other.start()
    with threads.one():
        assert torch.get_num_threads() == 1
        inside.set()
        done.wait()
        new = threading.Thread(target=lambda: seen.update(new=torch.get_num_threads()))
        new.start()
        new.join()
    other.join()
    assert seen == {"before": 2, "meanwhile": 2, "new": 2}
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_an_error_inside_gives_the_threads_back() -> None:
    with pytest.raises(KeyError), threads.one():
        raise KeyError
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_where_threads_cannot_be_told_small_tensors_go_by_foreach(
    calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_SET", None)
    by_foreach: list[int] = []
    own = foreach.apply

    def spy(step: Any, works: Any, group: Any, terms: Any) -> None:
        by_foreach.extend(work.param.numel() for work in works)
        own(step, works, group, terms)

    optimizer = radam.RAdam([torch.nn.Parameter(torch.ones(n)) for n in (3, fused.SMALL)], **ADAPTIVE)
    run(optimizer, 4)
    monkeypatch.setattr(foreach, "apply", spy)
    run(optimizer, 1)
    assert by_foreach == [3]
    assert [shapes for _, shapes, _ in calls] == [[torch.Size([fused.SMALL])]]
    torch.set_num_threads(1)
    run(optimizer, 1)
    assert by_foreach == [3]


# Agreement with the other kernels, where numbers are exact


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64])
def test_a_step_in_which_nothing_rounds_is_the_same_bit_for_bit(dtype: torch.dtype) -> None:
    """beta2 = 0 never turns adaptive: Adam does. m = g/2, v = g^2/2, sqrt(v)/sqrt(bc2) = g; lr m/bc1 = 1/2."""
    results = []
    for switches in ({"fused": True}, {"foreach": True}, {"foreach": False}, {"capturable": True}):
        param = torch.nn.Parameter(torch.tensor([2.0, -4.0, 8.0, 0.5]).to(dtype))
        param.grad = torch.full_like(param, 4.0)
        optimizer = radam.Adam([param], lr=0.5, betas=(0.5, 0.0), eps=0.0, **switches)
        optimizer.step()
        assert (
            torch.view_as_real(param.detach())[..., 0].tolist() == [1.5, -4.5, 7.5, 0.0]
            if dtype.is_complex
            else (param.tolist() == [1.5, -4.5, 7.5, 0.0])
        )
        results.append(numbers(param))
    if not dtype.is_complex:
        assert len(set(results)) == 1


def test_parameters_of_many_ages(calls: list[Any]) -> None:
    """One call for each step number."""
    params = [parameter() for _ in range(3)]
    optimizer = radam.RAdam(params, **ADAPTIVE)
    for young in (1, 2):
        params[young].grad = None
    for step in range(12):
        set_gradients(params[: 1 + step // 3], step)
        optimizer.step()
    assert [optimizer.state[p]["step"] for p in params_of(optimizer)] == [12, 9, 6]
    assert len(calls) == 8 + 5 + 2


@pytest.mark.parametrize("size", [fused.SMALL - 1, fused.SMALL, fused.SMALL + 1])
def test_around_the_size_from_which_threads_pay(size: int) -> None:
    """Adaptive steps by recalled checks and by new ones, as after a step without a gradient."""
    options = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-3}
    param = torch.nn.Parameter(torch.linspace(-1, 1, size))
    optimizer = radam.RAdam([param], **options, fused=True)
    lockstep = Lockstep(optimizer, [options], oracle, scalars="exact")
    for step in range(10):
        before = param.detach().clone()
        param.grad = None if step == 7 else torch.linspace(2, -1, size)
        lockstep.step()
        assert torch.equal(param, before) == (step == 7)
    assert lockstep.record.unjudged == 0
