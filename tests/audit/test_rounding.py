"""Bounds that are found by perturbing an optimizer's inputs: true for right evaluations, and not much wider."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from radam.audit.bounds import compare
from radam.audit.rounding import Rounding, Side


class Recipe(torch.optim.Optimizer):
    """Adam, with the arithmetic of its last line and of its first moment to be chosen."""

    def __init__(self, params: Any, order: str = "plain", scale: float = 1.0, decay: float = 0.0) -> None:
        super().__init__(params, {"betas": (0.9, 0.99), "lr": 0.1, "eps": 1e-8})
        self.order, self.scale, self.decay = order, scale, decay

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            (b1, b2), lr, eps = group["betas"], group["lr"], group["eps"]
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state.update(step=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
                state["step"] += 1
                m, v, t = state["m"], state["v"], state["step"]
                g = p.grad + self.decay * p
                if self.order == "lerp":
                    m.lerp_(g, 1 - b1)
                else:
                    m.mul_(b1).add_(g, alpha=1 - b1)
                v.mul_(b2).addcmul_(g, g, value=1 - b2)
                bc1, bc2 = 1 - b1**t, 1 - b2**t
                if self.order == "plain":
                    p.sub_(self.scale * lr * (m / bc1) / ((v / bc2).sqrt() + eps))
                else:
                    p.addcdiv_(m, v.sqrt().add_(eps * bc2**0.5), value=-self.scale * lr * bc2**0.5 / bc1)


def judged(
    other: Callable[[list[torch.Tensor]], torch.optim.Optimizer],
    dtype: torch.dtype,
    seed: int,
    decay: float = 0.0,
    narrow: bool = False,
) -> float:
    """The worst of ten steps of another optimizer beside the plain recipe, in units of the bound."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(20, generator=generator, dtype=torch.float64).to(dtype)
    start[:3] = 0.0
    params, others = [torch.nn.Parameter(start.clone())], [torch.nn.Parameter(start.clone())]
    first, second = Recipe(params, decay=decay), other(others)  # type: ignore[arg-type]
    rounding = Rounding(Side(params, [first]), 0.99, narrow=narrow)
    worst = 0.0
    for step in range(10):
        gradient = torch.randn(20, generator=generator, dtype=torch.float64) * 10.0 ** (step % 3 - 1)
        gradient[::5] = 0.0
        for param in (*params, *others):
            param.grad = gradient.to(dtype)
        expected = rounding.step(first.step)
        second.step()
        for name, tracked in expected.items():
            comparison = compare(name, Side(others, [second]).vector(name), tracked)
            assert comparison.unjudged == 0
            worst = max(worst, comparison.worst)
    return worst


FULL = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])


@FULL
@given(
    seed=st.integers(0, 2**32 - 1), decay=st.sampled_from([0.0, 1.0, -10.0]), order=st.sampled_from(["lerp", "fused"])
)
def test_other_orders_of_evaluation_are_within(dtype: torch.dtype, seed: int, decay: float, order: str) -> None:
    """Also where the gradient nearly takes the parameter's place, so that terms cancel."""
    worst = judged(lambda params: Recipe(params, order, decay=decay), dtype, seed, decay, narrow=True)
    assert worst <= 1, f"{order} in {dtype} is {worst:.3g} times the bound"


@FULL
def test_a_step_that_is_a_little_too_large_is_not(dtype: torch.dtype) -> None:
    """By a hundred times the room for the order of operations."""
    unit = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8}[dtype]
    # bfloat16 has no room for that much: its whole update is seen.
    scale = 1 + 4000 * unit if unit < 2.0**-20 else 3.0
    worst = judged(lambda params: Recipe(params, scale=scale), dtype, 1, narrow=True)
    # In float64 the scalars may be off by more: 16 * 2**-53 / (1 - 0.99)**2.
    if dtype == torch.float64:
        worst = max(worst, judged(lambda params: Recipe(params, scale=1 + 1e-8), dtype, 1, narrow=True))
    assert worst > 1, f"is {worst:.3g} times the bound"


def test_a_nan_is_not_a_number() -> None:
    """One in place of a number is out of every bound; both are not."""
    start = torch.ones(2, dtype=torch.float64)
    params = [torch.nn.Parameter(start.clone())]
    first = Recipe(params)
    rounding = Rounding(Side(params, [first]), 0.99)
    params[0].grad = torch.tensor([1.0, torch.nan], dtype=torch.float64)
    expected = rounding.step(first.step)["param"]
    assert compare("param", np.array([expected.value[0], np.nan]), expected).passed
    assert not compare("param", np.array([expected.value[0], 1.0]), expected).passed
    assert not compare("param", np.array([np.nan, np.nan]), expected).passed


def test_following_changes_nothing() -> None:
    """The optimizer takes its step once, as it would have alone."""
    params, alone = [torch.nn.Parameter(torch.arange(4.0))], [torch.nn.Parameter(torch.arange(4.0))]
    optimizer, other = Recipe(params), Recipe(alone)
    rounding = Rounding(Side(params, [optimizer]), 0.99)
    for _ in range(4):
        params[0].grad, alone[0].grad = torch.ones(4), torch.ones(4)
        rounding.step(optimizer.step)
        other.step()
    assert torch.equal(params[0], alone[0])
    assert optimizer.state[params[0]]["step"] == 4


@pytest.mark.parametrize("orders", [("lerp", "plain"), ("plain", "lerp")], ids="-".join)
@pytest.mark.parametrize("beta1", [1e-16, 1e-9])
@FULL
def test_zero_gradients_at_a_decay_rate_that_lerp_rounds_away(
    dtype: torch.dtype, beta1: float, orders: tuple[str, str]
) -> None:
    """1 - b1 is 1 in the arithmetic: lerp forgets m at once, the products keep b1 m, and b1^2 m after two zeros."""
    params = [torch.nn.Parameter(torch.ones(3, dtype=dtype)) for _ in range(2)]
    first, second = (Recipe([param], order) for param, order in zip(params, orders, strict=True))
    for recipe in (first, second):
        recipe.param_groups[0]["betas"] = (beta1, 0.99)
    rounding = Rounding(Side(params[:1], [first]), 0.99)
    for size in (1.0, 0.5, 0.0, 0.0, 0.0, 1.0):
        for param in params:
            param.grad = torch.full_like(param, size)
        expected = rounding.step(first.step)
        second.step()
        assert compare("m", Side(params[1:], [second]).vector("m"), expected["m"]).passed


class Refuses(Recipe):
    """One that takes no gradient of more than a limit."""

    limit = 0.0

    def step(self, closure: Any = None) -> None:
        if any(bool((p.grad.abs() > self.limit).any()) for group in self.param_groups for p in group["params"]):
            raise OverflowError("too large")
        super().step()


@pytest.mark.parametrize(("limit", "refused"), [(0.5, True), (1.0, False), (2.0, False)])
def test_a_step_next_to_one_that_raises_has_no_bound(limit: float, refused: bool) -> None:
    """A gradient of 1, and what raises above 1: the step does not, but from a gradient off by roundings it would."""
    params = [torch.nn.Parameter(torch.tensor([1.0, -2.0]))]
    params[0].grad = torch.ones(2)
    optimizer = Refuses(params)
    optimizer.limit = limit
    taken: list[bool] = []

    def take() -> None:
        taken.append(True)
        optimizer.step()

    rounding = Rounding(Side(params, [optimizer]), 0.99)
    if refused:
        with pytest.raises(OverflowError):
            rounding.step(take)
    else:
        for tracked in rounding.step(take).values():
            assert bool(np.isfinite(tracked.error).all()) == (limit > 1)
    assert taken == [True]
