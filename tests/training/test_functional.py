"""Derivatives of what training makes: torch.func through steps of an optimizer with differentiable=True."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.func import grad, hessian, jvp, vmap

import radam

STEPS = 7
"""Beyond the first adaptive one."""

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")


def loss(weight: torch.Tensor) -> torch.Tensor:
    """Of a linear model on data that are always the same."""
    rows = torch.linspace(-1, 2, 15, dtype=torch.float64).reshape(5, 3).sin()
    return ((rows @ weight - torch.linspace(1, -1, 5, dtype=torch.float64)) ** 2).mean()


def trained(
    start: torch.Tensor, make: type[torch.optim.Optimizer], gradient: Callable[[torch.Tensor], torch.Tensor], **own: Any
) -> torch.Tensor:
    """The loss after some steps from a weight."""
    weight = start * 1.0
    optimizer = make([weight], **{"lr": 0.1, **own}, differentiable=True)  # type: ignore[call-arg]
    for _ in range(STEPS):
        weight.grad = gradient(weight)
        optimizer.step()
    return loss(weight)


def by_autograd(weight: torch.Tensor) -> torch.Tensor:
    """The gradient as a graph of its own."""
    return torch.autograd.grad(loss(weight), weight, create_graph=True)[0]


START = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
OPTIMIZERS = (radam.RAdam, radam.Adam)


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_the_derivative_by_the_start_is_autograds(make: Any) -> None:
    start = START.clone().requires_grad_()
    (expected,) = torch.autograd.grad(trained(start, make, by_autograd), start)
    seen = grad(lambda weight: trained(weight, make, grad(loss)))(START)
    assert torch.equal(seen, expected)
    assert bool(expected.abs().min() > 0)


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_the_derivative_by_the_learning_rate_is_autograds(make: Any) -> None:
    lr = torch.tensor(0.1, dtype=torch.float64)
    watched = lr.clone().requires_grad_()
    (expected,) = torch.autograd.grad(trained(START.clone().requires_grad_(), make, by_autograd, lr=watched), watched)
    seen = grad(lambda rate: trained(START, make, grad(loss), lr=rate))(lr)
    assert torch.equal(seen, expected)
    assert float(expected) != 0


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_batch_of_starts(make: Any) -> None:
    """Each is trained as it would be alone; an order of additions may differ."""
    starts = torch.stack([START, 2 * START, -START])
    derivative = grad(lambda weight: trained(weight, make, grad(loss)))
    torch.testing.assert_close(vmap(derivative)(starts), torch.stack([derivative(each) for each in starts]))


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_forward_and_second_derivatives_agree_with_the_first(make: Any) -> None:
    """A product with a tangent, and differences of gradients: their error is of the order of the step squared."""

    def after(weight: torch.Tensor) -> torch.Tensor:
        return trained(weight, make, grad(loss))

    tangent = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    _, along = jvp(after, (START,), (tangent,))
    torch.testing.assert_close(along, grad(after)(START) @ tangent)
    small = 1e-5
    differences = (grad(after)(START + small * tangent) - grad(after)(START - small * tangent)) / (2 * small)
    torch.testing.assert_close(hessian(after)(START) @ tangent, differences, rtol=1e-6, atol=1e-8)
