"""What torch and its users do to an optimizer: schedulers, scalers, hooks, averaging, modules."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import radam
from tests.core.helpers import KERNELS, OPTIMIZERS, bits, parameter, params_of, run, snapshot

BETAS = (0.5, 0.9)


def module() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LayerNorm(8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


def train(model: torch.nn.Module, optimizer: Any, steps: int, scheduler: Any = None) -> list[float]:
    """Losses of a small regression."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(64, 4, generator=generator)
    targets = inputs.sum(dim=1, keepdim=True)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(inputs) - targets).square().mean()
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_module_learns(optimizer: Any, kernel: str) -> None:
    model = module()
    losses = train(model, optimizer(model.parameters(), lr=0.05, **KERNELS[kernel]), 100)
    assert losses[-1] < losses[0] / 5


def test_a_module_learns_by_its_named_parameters() -> None:
    model = module()
    optimizer = radam.RAdam(model.named_parameters(), lr=0.02)
    train(model, optimizer, 3)
    assert optimizer.param_groups[0]["param_names"] == [name for name, _ in model.named_parameters()]
    assert set(optimizer.kernels()) == {f"parameter {name!r}" for name, _ in model.named_parameters()}


# Schedulers

SCHEDULERS = {
    "StepLR": lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5),
    "LambdaLR": lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch)),
    "LinearLR": lambda optimizer: torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 4),
    "CosineAnnealingLR": lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6),
    "ExponentialLR": lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9),
    "OneCycleLR": lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=12),
    "CyclicLR": lambda optimizer: torch.optim.lr_scheduler.CyclicLR(optimizer, 1e-3, 0.1, 3),
}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_schedulers_change_the_step(optimizer: Any, name: str) -> None:
    """As if lr and betas had been written by hand."""
    scheduled = optimizer([parameter()], lr=0.1, betas=BETAS)
    by_hand = optimizer([parameter()], lr=0.1, betas=BETAS)
    scheduler = SCHEDULERS[name](scheduled)
    rates = []
    for _ in range(10):
        group = scheduled.param_groups[0]
        rates.append(group["lr"])
        by_hand.param_groups[0].update(lr=float(group["lr"]), betas=tuple(map(float, group["betas"])))
        scheduled.step()
        by_hand.step()
        scheduler.step()
    assert len(set(rates)) > 1
    assert torch.equal(params_of(scheduled)[0], params_of(by_hand)[0])


def test_a_scheduler_that_cycles_momentum_changes_beta1() -> None:
    optimizer = radam.RAdam([parameter()])
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=12, cycle_momentum=True)
    seen = set()
    for _ in range(10):
        seen.add(optimizer.param_groups[0]["betas"][0])
        optimizer.step()
        scheduler.step()
    assert len(seen) == 10
    assert isinstance(optimizer.param_groups[0]["betas"], tuple)
    torch.save(optimizer.state_dict(), "/dev/null")


def test_a_scheduler_works_with_a_tensor_lr() -> None:
    """torch's schedulers write into a tensor lr; it stays the same tensor."""
    lr = torch.tensor(0.1)
    optimizer = radam.RAdam([parameter()], lr=lr)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] is lr
    assert lr.item() == pytest.approx(0.0125, rel=4 * 2.0**-24, abs=0)


def test_reduce_lr_on_plateau() -> None:
    optimizer = radam.RAdam([parameter()], lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    for _ in range(3):
        optimizer.step()
        scheduler.step(1.0)
    assert optimizer.param_groups[0]["lr"] < 0.1
    optimizer.step()


# Gradient scaling


def scaled_step(optimizer: Any, scaler: Any, gradient: float) -> None:
    for param in params_of(optimizer):
        param.grad = torch.full_like(param, gradient) * scaler.get_scale()
    # A scaler is ready once it has scaled a loss.
    scaler.scale(torch.ones(1))
    scaler.step(optimizer)
    scaler.update()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_step_that_the_scaler_skips_changes_nothing(bad: float, kernel: str) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    optimizer = radam.RAdam([parameter(), parameter()], **KERNELS[kernel])
    scaled_step(optimizer, scaler, 1.0)
    before = [bits(param) for param in params_of(optimizer)], snapshot(optimizer)["state"]
    scaled_step(optimizer, scaler, bad)
    assert ([bits(param) for param in params_of(optimizer)], snapshot(optimizer)["state"]) == before
    assert scaler.get_scale() == 2.0**9
    scaled_step(optimizer, scaler, 1.0)
    assert optimizer.state[params_of(optimizer)[0]]["step"] == 2


def test_scaled_steps_are_the_unscaled_ones() -> None:
    """The scale is a power of two, so that unscaling is exact."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaled, plain = radam.RAdam([parameter()]), radam.RAdam([parameter()])
    for _ in range(8):
        scaled_step(scaled, scaler, 0.3)
        params_of(plain)[0].grad = torch.full((3,), 0.3)
        plain.step()
    assert torch.equal(params_of(scaled)[0], params_of(plain)[0])


def test_gradients_that_were_clipped() -> None:
    optimizer = radam.RAdam([parameter(), parameter()])
    torch.nn.utils.clip_grad_norm_(params_of(optimizer), 0.1)
    optimizer.step()


# Inside the backward pass


def test_stepping_inside_the_backward_pass() -> None:
    """One optimizer a parameter, stepped by a hook as soon as its gradient is there."""
    params = [parameter(), parameter()]
    optimizers = {param: radam.RAdam([param], lr=0.1) for param in params}

    def step(param: torch.Tensor) -> None:
        optimizers[param].step()  # type: ignore[index]
        optimizers[param].zero_grad()  # type: ignore[index]

    for param in params:
        param.grad = None
        param.register_post_accumulate_grad_hook(step)
    sum(param.square().sum() for param in params).backward()  # type: ignore[union-attr]
    assert all(optimizers[param].state[param]["step"] == 1 and param.grad is None for param in params)


# Closures


def test_a_closure_is_called_once_with_gradients_enabled_and_its_value_returned() -> None:
    optimizer = radam.RAdam([parameter()])
    enabled: list[bool] = []
    loss = torch.tensor(3.0)

    def closure() -> Any:
        enabled.append(torch.is_grad_enabled())
        return loss

    with torch.no_grad():
        assert optimizer.step(closure) is loss
        assert not torch.is_grad_enabled()
    assert enabled == [True]
    assert optimizer.step() is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_the_grad_mode_is_left_as_it_was(mode: Any) -> None:
    optimizer = radam.RAdam([parameter()])
    with mode():
        before = torch.is_grad_enabled()
        optimizer.step()
        assert torch.is_grad_enabled() == before
    failing = radam.RAdam([parameter()])
    failing.param_groups[0]["lr"] = -1.0
    with pytest.raises(ValueError, match="lr"):
        failing.step()
    assert torch.is_grad_enabled()


def test_a_stale_backward_is_noticed() -> None:
    """A step bumps the version of the parameters, so that autograd refuses what it has saved of them before."""
    for switches in KERNELS.values():
        param = parameter()
        optimizer = radam.RAdam([param], **switches)
        loss = param.square().sum()
        optimizer.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


# Averaging


def test_averaged_weights() -> None:
    model = module()
    optimizer = radam.RAdam(model.parameters(), lr=0.02)
    averaged = torch.optim.swa_utils.AveragedModel(model)
    for _ in range(3):
        train(model, optimizer, 2)
        averaged.update_parameters(model)
    assert int(averaged.n_averaged) == 3
    scheduler = torch.optim.swa_utils.SWALR(optimizer, swa_lr=0.005, anneal_epochs=2)
    train(model, optimizer, 4, scheduler)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.005)


# The small things


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_repr_shows_every_option(optimizer: Any) -> None:
    text = repr(optimizer([parameter()], lr=0.125, weight_decay=0.5))
    assert text.startswith(optimizer.__name__)
    for name in (*optimizer.OPTIONS, "weight_decay", "weight_decouple", "absolute"):
        assert f"{name}: " in text
    assert "lr: 0.125" in text
    assert "weight_decay: 0.5" in text


def test_zero_grad() -> None:
    optimizer = radam.RAdam([parameter(), parameter()])
    optimizer.zero_grad(set_to_none=False)
    assert all(param.grad is not None and not param.grad.any() for param in params_of(optimizer))
    optimizer.zero_grad()
    assert all(param.grad is None for param in params_of(optimizer))
    before = [bits(param) for param in params_of(optimizer)]
    optimizer.step()
    assert [bits(param) for param in params_of(optimizer)] == before
    assert len(optimizer.state) == 0


def test_a_frozen_parameter_with_a_gradient_is_stepped() -> None:
    param = parameter()
    param.requires_grad_(False)
    before = bits(param)
    radam.RAdam([param]).step()
    assert bits(param) != before


def test_a_tensor_that_is_no_parameter_is_stepped() -> None:
    tensor = torch.ones(3, requires_grad=True)
    tensor.grad = torch.ones(3)
    radam.RAdam([tensor], lr=1.0).step()
    # m/bc1 is 1 to within three roundings.
    assert tensor.abs().max() <= 4 * 2.0**-24


def test_a_group_without_parameters() -> None:
    optimizer = radam.RAdam([{"params": []}, {"params": [parameter()]}])
    run(optimizer, 2)
    optimizer.load_state_dict(optimizer.state_dict())


def test_both_are_torch_optimizers() -> None:
    for cls in OPTIMIZERS:
        assert issubclass(cls, torch.optim.Optimizer)
        assert cls.__module__.split(".")[0] == "radam"
