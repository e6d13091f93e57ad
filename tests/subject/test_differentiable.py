"""Autograd through a step, for a class that takes `differentiable`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.autograd import gradcheck

from radam.audit import Subject
from radam.audit.subjects.radam import Family
from tests.subject.driving import ACROSS, CONFIGURATIONS, follow, numbers, parameter, run

CONFIGURED = {
    name: {**options, "betas": options.get("betas", (0.9, 0.99)), "eps": options.get("eps", 1e-3), "lr": 0.1}
    for name, options in CONFIGURATIONS.items()
}
everywhere = pytest.mark.parametrize("options", CONFIGURED.values(), ids=CONFIGURED)


@pytest.fixture(autouse=True)
def _differentiable(family: Family) -> None:
    if not family.takes("differentiable"):
        pytest.skip("the constructor has no differentiable")


@everywhere
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("t", [2, 10])
def test_derivatives_of_a_step(
    subject: Subject, family: Family, options: dict[str, Any], dtype: torch.dtype, t: int
) -> None:
    """Of the new parameter, m and v, with respect to parameter, gradient and state: finite differences agree.

    t = 2 is below the threshold, t = 10 above it. The state is the subject's own after t - 1 steps, so that `step` has
    the type that it keeps it in.
    """
    earlier = parameter((3,), dtype)
    plain = family.build([earlier], options)
    for step in range(t - 1):
        earlier.grad = numbers((3,), dtype, step)
        plain.step()
    names = [subject.state[symbol] for symbol in ("m", "v", *("s" if options.get("amsgrad") else ""))]
    state = {key: value for key, value in plain.state[earlier].items() if key not in names}

    def step(param: torch.Tensor, grad: torch.Tensor, *moments: torch.Tensor) -> tuple[torch.Tensor, ...]:
        param = param.clone()
        param.grad = grad
        optimizer = family.build([param], options, differentiable=True)
        count = {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in state.items()}
        copies = {name: moment.clone() for name, moment in zip(names, moments, strict=True)}
        optimizer.state[param].update({**count, **copies})
        optimizer.step()
        after = optimizer.state[param]
        return (param, *(after[name] for name in names))

    inputs = [earlier.detach().clone(), numbers((3,), dtype, t), *(plain.state[earlier][name] for name in names)]
    inputs = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    for name, result in zip(("the parameter", *names), step(*inputs), strict=True):
        assert result.requires_grad, f"{name} after a differentiable step does not require grad [{options}, t={t}]"
    # s = max(s, v) has a kink where they are equal: there are none such here.
    assert gradcheck(step, inputs)


@everywhere
def test_values_are_those_of_a_plain_step(subject: Subject, family: Family, options: dict[str, Any]) -> None:
    """Within the same bounds; the leaves are copied, as who differentiates through steps does."""
    for dtype in (torch.float64, torch.float32, torch.complex128):
        params = [parameter((3,), dtype).detach().clone(), parameter((2, 2), dtype, seed=1).detach().clone()]
        lockstep = follow(subject, family.build(params, options, differentiable=True), [options])
        run(lockstep, ACROSS)


@everywhere
def test_a_loss_after_a_step_has_a_gradient_of_the_step_s_gradient(family: Family, options: dict[str, Any]) -> None:
    """The derivative of the sum of the parameter by its gradient, in the first step: -lr/(1-b1) * (1-b1) = -lr."""
    held = options.get("degenerated_to_sgd", True) is False
    grad = numbers((3,), torch.float64, 1).requires_grad_()
    param = parameter((3,)).detach().clone()
    param.grad = grad
    family.build([param], options, differentiable=True).step()
    if held:
        # Nothing was recorded, or what is 0: a step may choose by `torch.where`.
        recorded = torch.autograd.grad(param.sum(), grad, allow_unused=True)[0] if param.requires_grad else None
        assert recorded is None or not recorded.any(), f"d(sum p)/dg = {recorded} where the parameter is held"
        return
    (seen,) = torch.autograd.grad(param.sum(), grad)
    sign = -1.0 if options.get("maximize") else 1.0
    expected = torch.full_like(seen, -sign * options["lr"])
    error = 8 * torch.finfo(torch.float64).eps * options["lr"] / (1 - options["betas"][0])
    assert (seen - expected).abs().max() <= error, f"d(sum p)/dg = {seen}, but should be {expected} [{options}]"
