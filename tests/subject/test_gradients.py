"""Gradients of every kind, and that they stay the user's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from radam.audit import Subject
from radam.audit.lockstep import same_bits
from radam.audit.subjects.radam import Family
from tests.subject import driving
from tests.subject.driving import (
    ACROSS,
    CONFIGURATIONS,
    assert_judged,
    assert_same,
    held,
    numbers,
    parameter,
    run,
    set_gradients,
    start,
)

everywhere = pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex64)


# None, zero, frozen


@everywhere
def test_without_gradients_nothing_happens(subject: Subject, family: Family, options: dict[str, Any]) -> None:
    """No decay, no state, no step counted: at the start, and in mid-run."""
    p = parameter((4,))
    lockstep = start(subject, family, [[p]], options)
    before = p.detach().clone()
    for _ in range(3):
        lockstep.step()
    assert same_bits(p.detach(), before), f"p = {p}, but should stay {before} [no gradient]"
    assert not lockstep.optimizer.state.get(p), f"state = {lockstep.optimizer.state[p]}, but should be none yet"
    run(lockstep, 6)
    now = held(subject, lockstep.optimizer)
    p.grad = None
    for _ in range(3):
        lockstep.step()
    assert_same(held(subject, lockstep.optimizer), now, "three steps without a gradient")
    run(lockstep, 3, 1)


@everywhere
def test_a_zero_gradient_is_a_gradient(subject: Subject, family: Family, options: dict[str, Any]) -> None:
    """The step counts, moments shrink, decay and momentum act: at the start, throughout and in mid-run."""
    for zeros in (range(3), range(20), range(4, 9), range(7, 12)):
        p = parameter((4,))
        lockstep = start(subject, family, [[p]], {"eps": 1e-8, **options})
        for step in range(12):
            set_gradients([p], step)
            if step in zeros:
                p.grad = torch.zeros_like(p)
            lockstep.step()
        assert float(lockstep.optimizer.state[p][subject.state["t"]]) == 12
        assert_judged(lockstep)


@pytest.mark.parametrize("degenerated_to_sgd", [True, False])
def test_zero_gradients_without_eps(subject: Subject, family: Family, degenerated_to_sgd: bool) -> None:
    """0/0 = NaN in an adaptive step, and harmless before it."""
    p = parameter((3,))
    before = p.detach().clone()
    lockstep = start(subject, family, [[p]], {"lr": 0.1, "eps": 0.0, "degenerated_to_sgd": degenerated_to_sgd})
    for step in range(1, 8):
        p.grad = p.new_tensor([0.0, 0.0, 1.0])
        lockstep.step()
        if step <= 5:
            assert same_bits(p.detach()[:2], before[:2]), f"p = {p}, but should stay {before} [eps=0, step {step}]"
        else:
            assert p.detach()[:2].isnan().all(), f"p = {p}, but should be NaN where 0/0 [eps=0, step {step}]"
        assert p.detach()[2].isfinite()


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize(("dtype", "eps"), [(torch.float64, 1e-35), (torch.float64, 1e-200), (torch.float32, 1e-29)])
def test_zero_gradients_with_the_least_eps(
    subject: Subject, family: Family, dtype: torch.dtype, eps: float, amsgrad: bool
) -> None:
    """0/eps = 0, however small eps is."""
    p = parameter((3,), dtype)
    before = p.detach().clone()
    lockstep = start(subject, family, [[p]], {"lr": 0.1, "eps": eps, "amsgrad": amsgrad})
    for step in range(1, 8):
        p.grad = p.new_tensor([0.0, 0.0, 1.0])
        lockstep.step()
        assert same_bits(p.detach()[:2], before[:2]), f"p = {p}, but should stay {before} [eps={eps}, step {step}]"


@everywhere
def test_a_frozen_parameter_with_a_gradient_is_stepped(
    subject: Subject, family: Family, options: dict[str, Any]
) -> None:
    frozen = [parameter((3,), dtype, seed=1).requires_grad_(False) for dtype in DTYPES]
    lockstep = start(subject, family, [[parameter(), *frozen]], options)
    run(lockstep, ACROSS)
    for p in frozen:
        assert float(lockstep.optimizer.state[p][subject.state["t"]]) == ACROSS
        assert not p.requires_grad, "requires_grad should stay False"


def test_a_parameter_frozen_and_freed_in_mid_run(subject: Subject, family: Family) -> None:
    params = [parameter((3,), seed=i) for i in range(2)]
    lockstep = start(subject, family, [params], {"lr": 0.1, "weight_decay": 0.1})
    for step in range(15):
        params[0].requires_grad_(step % 4 < 2)
        run(lockstep, 1, step)


# Sparse


def sparse(values: list[float], size: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.sparse_coo_tensor([[0, 2]], values, (size,), dtype=dtype, device=driving.HERE, check_invariants=True)


@everywhere
@pytest.mark.parametrize("steps", [0, 3, 7])
def test_a_sparse_gradient_is_refused(subject: Subject, family: Family, options: dict[str, Any], steps: int) -> None:
    """Before the first step, below the threshold and above it; then the optimizer is as good as before."""
    p = parameter((3,))
    lockstep = start(subject, family, [[p]], options)
    run(lockstep, steps)
    before = held(subject, lockstep.optimizer)
    p.grad = sparse([1.0, 2.0], 3, p.dtype)
    for mode in (False, True):
        with torch.set_grad_enabled(mode):
            with pytest.raises(RuntimeError, match=r"(?i)sparse"):
                lockstep.optimizer.step()
            assert torch.is_grad_enabled() == mode, f"grad mode is {not mode} after a refused step"
    assert_same(held(subject, lockstep.optimizer), before, "a step on a sparse gradient")
    p.grad = None
    run(lockstep, 3, 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sparse_gradient_is_refused_in_every_dtype_and_group(
    subject: Subject, family: Family, dtype: torch.dtype
) -> None:
    groups = [[parameter((3,), dtype)], [parameter((3,), dtype, seed=1)]]
    lockstep = start(subject, family, groups, {"weight_decay": 0.1}, [{}, {"lr": 0.3}])
    run(lockstep, 2)
    before = held(subject, lockstep.optimizer)[1]
    set_gradients([groups[0][0]], 5)
    groups[1][0].grad = sparse([1.0, 2.0], 3, dtype)
    with pytest.raises(RuntimeError, match=r"(?i)sparse"):
        lockstep.optimizer.step()
    assert_same(held(subject, lockstep.optimizer)[1:], [before], "a step on a sparse gradient in the second group")


def test_a_sparse_gradient_without_entries_is_refused(subject: Subject, family: Family) -> None:
    p = parameter((3,))
    lockstep = start(subject, family, [[p]])
    p.grad = torch.zeros(3, dtype=p.dtype).to_sparse()
    with pytest.raises(RuntimeError, match=r"(?i)sparse"):
        lockstep.optimizer.step()


@everywhere
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_an_infinite_gradient_is_infinite(
    subject: Subject, family: Family, dtype: torch.dtype, options: dict[str, Any]
) -> None:
    """The first moment is no number afterwards, and the other elements are what they should be."""
    for steps in (2, 7):
        p = parameter((3,), dtype)
        lockstep = start(subject, family, [[p]], options)
        run(lockstep, steps)
        p.grad = torch.tensor([torch.inf, 1.0, -1.0], dtype=dtype)
        lockstep.step()
        m = lockstep.optimizer.state[p][subject.state["m"]]
        assert m.isfinite().tolist() == [False, True, True], f"{subject.state['m']} = {m} after an infinite gradient"


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_a_lazily_conjugated_gradient(subject: Subject, family: Family, dtype: torch.dtype) -> None:
    p = parameter((3,), dtype)
    lockstep = start(subject, family, [[p]])
    for step in range(ACROSS):
        p.grad = numbers((3,), dtype, step).conj()
        lockstep.step()


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_a_lazily_conjugated_parameter(subject: Subject, family: Family, dtype: torch.dtype) -> None:
    """A view with its sign pending is written to as any other, or refused by a word about conjugates."""
    p = numbers((3,), dtype, 1).conj()
    try:
        run(start(subject, family, [[p]]), ACROSS)
    except ValueError as error:
        if "conj" not in str(error):
            raise


# What is the user's


@everywhere
@pytest.mark.parametrize("foreach", [None, True, False])
def test_gradients_are_not_written_to(
    subject: Subject, family: Family, options: dict[str, Any], foreach: bool | None
) -> None:
    """The same object with the same bits, before and after."""
    params = [parameter(shape, dtype) for shape in ((3,), (2, 2), ()) for dtype in DTYPES]
    switches = {"foreach": foreach} if foreach is not None and family.takes("foreach") else {}
    lockstep = start(subject, family, [params], options, **switches)
    for step in range(ACROSS):
        set_gradients(params, step)
        grads = [param.grad for param in params]
        copies = [grad.clone() for grad in grads if grad is not None]
        lockstep.step()
        for param, grad, copy in zip(params, grads, copies, strict=True):
            assert param.grad is grad, f"param.grad is another object after a step [{options}, {param.dtype}]"
            assert same_bits(grad, copy), f"grad = {grad}, but should stay {copy} [{options}, {param.dtype}]"
            assert not grad.requires_grad


@everywhere
def test_the_state_is_not_the_gradients_or_the_parameters_memory(
    subject: Subject, family: Family, options: dict[str, Any]
) -> None:
    """A buffer of gradients that the user fills anew, and a parameter that the user sets, leave the state alone.

    With beta1 = 0 and beta2 = 0, m is the gradient and v its square: tempting to keep.
    """
    for betas in ((0.9, 0.9), (0.0, 0.0)):
        params = [parameter((3,), dtype, seed=i) for dtype in DTYPES for i in range(2)]
        lockstep = start(subject, family, [params], {**options, "betas": betas})
        for param in params:
            param.grad = torch.zeros_like(param)
        for step in range(7):
            for i, param in enumerate(params):
                assert param.grad is not None
                param.grad.copy_(numbers(param.shape, param.dtype, 10 * step + i))
            lockstep.step()
            before = [{**entry, "param": None} for entry in held(subject, lockstep.optimizer)]
            for param in params:
                assert param.grad is not None
                param.grad.fill_(77.0)
                with torch.no_grad():
                    param.mul_(0.5)
            after = [{**entry, "param": None} for entry in held(subject, lockstep.optimizer)]
            assert_same(after, before, "gradient and parameter written to after a step")


@everywhere
def test_a_gradient_that_requires_grad(subject: Subject, family: Family, options: dict[str, Any]) -> None:
    """As backward(create_graph=True) leaves it: the state takes no part in autograd."""
    for dtype in (torch.float64, torch.bfloat16, torch.complex64):
        p = parameter((3,), dtype)
        lockstep = start(subject, family, [[p]], options)
        for step in range(ACROSS):
            p.grad = numbers((3,), dtype, step).requires_grad_()
            lockstep.step()
            for key, value in lockstep.optimizer.state[p].items():
                recorded = isinstance(value, torch.Tensor) and value.requires_grad
                assert not recorded, f"{key} requires grad after a step"
        assert p.is_leaf
        assert p.requires_grad


def test_the_same_gradient_tensor_for_two_parameters(subject: Subject, family: Family) -> None:
    for options in CONFIGURATIONS.values():
        first, second = parameter((3,)), parameter((3,), seed=1)
        lockstep = start(subject, family, [[first, second]], options)
        for step in range(ACROSS):
            first.grad = second.grad = numbers((3,), torch.float64, step)
            lockstep.step()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_gradient_buffer_in_all_steps(subject: Subject, family: Family, dtype: torch.dtype) -> None:
    """zero_grad(set_to_none=False) and accumulation keep one tensor for good; what .data writes has no version."""
    p = parameter((3,), dtype)
    p.grad = buffer = torch.zeros_like(p)
    lockstep = start(subject, family, [[p]], {"lr": 0.1, "maximize": True})
    for step in range(12):
        lockstep.optimizer.zero_grad(set_to_none=False)
        assert p.grad is buffer
        assert not buffer.any(), f"grad = {buffer}, but should be 0 after zero_grad(set_to_none=False)"
        (buffer.data if step % 2 else buffer).add_(numbers((3,), dtype, step))
        lockstep.step()


def test_zero_grad_drops_the_gradients(subject: Subject, family: Family) -> None:
    params = [parameter(), parameter(seed=1).requires_grad_(False)]
    lockstep = start(subject, family, [params], {})
    run(lockstep, 2)
    lockstep.optimizer.zero_grad()
    assert [param.grad for param in params] == [None, None]


# Layouts of gradients


@pytest.mark.parametrize("dtype", DTYPES)
def test_expanded_gradients(subject: Subject, family: Family, dtype: torch.dtype) -> None:
    for options in CONFIGURATIONS.values():
        p = parameter((4, 3), dtype)
        lockstep = start(subject, family, [[p]], options)
        for step in range(ACROSS):
            p.grad = numbers((1, 3) if step % 2 else (), dtype, step).expand(4, 3)
            lockstep.step()


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_that_are_views(subject: Subject, family: Family, dtype: torch.dtype) -> None:
    """Of one flat buffer, as data-parallel training lays them; every other element of another; a transposed one."""
    params = [parameter((2, 3), dtype, seed=i) for i in range(4)]
    lockstep = start(subject, family, [params], {"lr": 0.1, "weight_decay": 0.1, "weight_decouple": False})
    for step in range(ACROSS):
        flat = numbers((12,), dtype, 2 * step)
        wide = numbers((2, 6), dtype, 2 * step + 1)
        copies = flat.clone(), wide.clone()
        params[0].grad, params[1].grad = flat[:6].view(2, 3), flat[6:].view(2, 3)
        params[2].grad, params[3].grad = wide[:, ::2], wide.reshape(6, 2)[:3].t()
        lockstep.step()
        assert same_bits(flat, copies[0]), "the buffer that a gradient is a view of has changed"
        assert same_bits(wide, copies[1]), "the tensor that a gradient is a view of has changed"


def test_lazily_negated_gradients(subject: Subject, family: Family) -> None:
    """The imaginary part of a conjugate is a view with its sign pending."""
    p = parameter((3,))
    lockstep = start(subject, family, [[p]], {"lr": 0.1, "weight_decay": 0.1, "weight_decouple": False})
    for step in range(ACROSS):
        p.grad = numbers((3,), torch.complex128, step).conj().imag
        lockstep.step()


# Magnitudes: no clipping, no flooring


@everywhere
@pytest.mark.parametrize("scale", [1e15, 1e12, 1e6, 1e3, 1e-4, 1e-8, 1e-12, 1e-15])
def test_gradients_of_any_magnitude(subject: Subject, family: Family, options: dict[str, Any], scale: float) -> None:
    dtypes = (torch.float64, torch.float32, torch.bfloat16, torch.complex128)
    params = [parameter((5,), dtype, scale=size) for dtype in dtypes for size in (1.0, 0.0)]
    run(start(subject, family, [params], options), 7, scale=scale)


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e3, 1e6, 1e12])
def test_parameters_of_any_magnitude(subject: Subject, family: Family, scale: float) -> None:
    for options in CONFIGURATIONS.values():
        lockstep = start(subject, family, [[parameter((5,), scale=scale)]], options)
        run(lockstep, ACROSS)


def test_gradients_that_change_their_magnitude(subject: Subject, family: Family) -> None:
    """A spike of a million amid ones, and a lull of a millionth: m and v remember them."""
    for options in CONFIGURATIONS.values():
        p = parameter((5,))
        lockstep = start(subject, family, [[p]], options)
        for step in range(14):
            set_gradients([p], step, {3: 1e6, 8: 1e6, 6: 1e-6, 11: 1e-6}.get(step, 1.0))
            lockstep.step()


# NaN and infinity


@everywhere
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("at", [2, 7])
def test_a_nan_propagates_in_its_element_alone(
    subject: Subject, family: Family, options: dict[str, Any], dtype: torch.dtype, at: int
) -> None:
    """Into m, v and the parameter, for good; the other elements and the other parameters do not notice."""
    sick, well = parameter((4,), dtype), parameter((4,), dtype, seed=1)
    lockstep = start(subject, family, [[sick, well]], {**options, "amsgrad": True})
    for step in range(1, 10):
        set_gradients([sick, well], step)
        assert sick.grad is not None
        if step == at:
            sick.grad[1] = math.nan
        lockstep.step()
    state = lockstep.optimizer.state[sick]
    for name, tensor in (("param", sick), *((subject.state[key], state[subject.state[key]]) for key in ("m", "v"))):
        seen = tensor.detach().isnan().tolist()
        assert seen == [False, True, False, False], f"{name} is NaN at {seen} [{options}, gradient NaN at 1]"
    assert well.detach().isfinite().all(), f"a NaN has spread to another parameter: {well}"


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_an_infinite_gradient_propagates(subject: Subject, family: Family, dtype: torch.dtype, sign: float) -> None:
    """m and v are not finite any more; so is the parameter after a step that uses them."""
    for at in (2, 7):
        p = parameter((4,), dtype)
        lockstep = start(subject, family, [[p]], {"lr": 0.1, "amsgrad": True})
        for step in range(1, at + 1):
            set_gradients([p], step)
            assert p.grad is not None
            if step == at:
                p.grad[2] = sign * math.inf
            lockstep.step()
        state = lockstep.optimizer.state[p]
        finite = [True, True, False, True]
        assert p.detach().isfinite().tolist() == finite, f"p = {p}, but should not be finite at 2 alone"
        for key in ("m", "v", "s"):
            seen = state[subject.state[key]]
            assert seen.isfinite().tolist() == finite, f"{subject.state[key]} = {seen}, should not be finite at 2 alone"


def test_a_nan_parameter_stays_one_and_its_moments_are_sound(subject: Subject, family: Family) -> None:
    p = parameter((3,))
    with torch.no_grad():
        p[0] = math.nan
    optimizer = start(subject, family, [[p]], {"lr": 0.1, "weight_decay": 0.1}).optimizer
    for step in range(8):
        set_gradients([p], step)
        optimizer.step()
    assert p.detach().isnan().tolist() == [True, False, False], f"p = {p}, but should be NaN at 0 alone"
    for key in ("m", "v"):
        assert optimizer.state[p][subject.state[key]].isfinite().all(), f"{subject.state[key]} is not finite"


# Another dtype than the parameter's


@pytest.mark.skipif(not hasattr(torch.Tensor, "grad_dtype"), reason="this torch has no grad_dtype")
@pytest.mark.parametrize(
    ("dtype", "given"),
    [
        (torch.float32, torch.float64),
        (torch.float32, torch.bfloat16),
        (torch.float64, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float64),
    ],
)
def test_gradients_of_another_dtype_are_converted(
    subject: Subject, family: Family, dtype: torch.dtype, given: torch.dtype
) -> None:
    """A float32 gradient of a bfloat16 parameter is not rounded to bfloat16: lock-step would see that in m."""
    for options in CONFIGURATIONS.values():
        p = parameter((4,), dtype)
        p.grad_dtype = None
        lockstep = start(subject, family, [[p]], options)
        for step in range(ACROSS):
            p.grad = numbers((4,), given, step)
            lockstep.step()
            assert p.dtype == dtype


# Each element by itself


def test_elements_do_not_depend_on_each_other(subject: Subject, family: Family) -> None:
    """A matrix, and its rows as parameters of their own: nothing is centred or divided by a norm."""
    rng = np.random.default_rng(5)
    grads = torch.from_numpy(rng.standard_normal((10, 4, 3)) + 3.0).to(driving.HERE)
    options = {"lr": 0.1, "weight_decay": 0.1}
    whole = parameter((4, 3))
    rows = [torch.nn.Parameter(row.clone()) for row in whole.detach()]
    matrix, split = start(subject, family, [[whole]], options), start(subject, family, [rows], options)
    for grad in grads:
        whole.grad = grad.clone()
        for row, own in zip(rows, grad, strict=True):
            row.grad = own.clone()
        matrix.step()
        split.step()
