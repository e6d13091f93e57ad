"""Free runs of 500 steps: within the accumulated bound, which still tells a slightly wrong step apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import radam
from radam.audit import Comparison, Trajectory
from radam.audit.subjects.radam import adam_oracle, oracle
from radam.schedule import Step

STEPS = 500
OPTIONS: dict[str, Any] = {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8}
COVERAGE = {torch.float64: 1e-11, torch.float32: 1e-2}
"""The share of its travel that the bound of a parameter covers at most, after 500 steps."""


def gradient(param: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A noisy quadratic bowl around 1."""
    noise = torch.randn(param.shape, generator=generator, dtype=torch.float64)
    return (param.detach().double() - 1 + noise).to(param.dtype)


def run(
    dtype: torch.dtype, optimizer: Any = radam.RAdam, make_oracle: Any = oracle, steps: int = STEPS, **options: Any
) -> tuple[Trajectory, list[Comparison]]:
    """A run, judged every 50 steps."""
    generator = torch.Generator().manual_seed(0)
    param = torch.nn.Parameter(torch.randn(40, generator=generator, dtype=torch.float64).to(dtype))
    options = {**OPTIONS, **options}
    instance = optimizer([param], **options)
    trajectory = Trajectory(param, make_oracle(options))
    comparisons: list[Comparison] = []
    for step in range(1, steps + 1):
        param.grad = gradient(param, generator)
        trajectory.observe()
        instance.step()
        if step % 50 == 0:
            comparisons += trajectory.judge(instance.state[param])
    return trajectory, comparisons


@pytest.mark.deep
@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_long_run_stays_within_the_accumulated_bound(dtype: torch.dtype, foreach: bool) -> None:
    def build(params: Any, **options: Any) -> Any:
        return radam.RAdam(params, foreach=foreach, **options)

    trajectory, comparisons = run(dtype, build)
    assert {comparison.quantity for comparison in comparisons} == {"exp_avg", "exp_avg_sq", "param"}
    for comparison in comparisons:
        assert comparison.passed, str(comparison)
        assert (comparison.judged, comparison.unjudged) == (40, 0)
    assert trajectory.oracle.t == STEPS


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_bound_covers_a_small_share_of_the_travel(dtype: torch.dtype) -> None:
    trajectory, _ = run(dtype)
    assert 0 < trajectory.coverage < COVERAGE[dtype]


def test_coverage_of_a_parameter_that_did_not_move() -> None:
    assert run(torch.float64, steps=0)[0].coverage == 0


class OffByOneMillionth(radam.RAdam):
    """Its steps are longer by 1e-6."""

    def schedule(self, t: int, group: Any) -> Step:
        step = super().schedule(t, group)
        return step._replace(size=step.size * (1 + 1e-6))


def test_a_step_size_that_is_off_by_a_millionth_is_caught() -> None:
    _, comparisons = run(torch.float64, OffByOneMillionth)
    wrong = {comparison.quantity for comparison in comparisons if not comparison.passed}
    assert wrong == {"param"}


class ForgetsASmallShare(radam.RAdam):
    """Its v loses a millionth a step."""

    def step(self, closure: Any = None) -> Any:
        result = super().step(closure)
        for state in self.state.values():
            state["exp_avg_sq"].mul_(1 - 1e-6)
        return result


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_drift_of_v_is_caught(dtype: torch.dtype) -> None:
    """In half precision too, whose moments are float32: 50 steps lose 5e-5."""
    _, comparisons = run(dtype, ForgetsASmallShare)
    assert "exp_avg_sq" in {comparison.quantity for comparison in comparisons if not comparison.passed}


@pytest.mark.parametrize(
    "options",
    [
        {"amsgrad": True, "maximize": True, "lr": 1e-4},
        {"betas": (0.5, 0.9), "optimized_update": False, "eps": 1e-3},
        {"degenerated_to_sgd": False, "threshold": 4.0},
        {"betas": (0.9, 0.5)},
    ],
    ids=str,
)
def test_other_options(options: dict[str, Any]) -> None:
    _, comparisons = run(torch.float64, steps=100, **options)
    assert comparisons
    assert all(comparison.passed for comparison in comparisons)
    assert ("max_exp_avg_sq" in {comparison.quantity for comparison in comparisons}) == bool(options.get("amsgrad"))


@pytest.mark.parametrize("warmup", [0, 30])
def test_adam(warmup: int) -> None:
    _, comparisons = run(torch.float64, radam.Adam, adam_oracle, steps=100, variance_warmup=warmup)
    assert comparisons
    assert all(comparison.passed for comparison in comparisons)


def test_complex_parameters() -> None:
    generator = torch.Generator().manual_seed(0)
    param = torch.nn.Parameter(torch.randn(5, generator=generator, dtype=torch.complex128))
    optimizer, trajectory = radam.RAdam([param], **OPTIONS), Trajectory(param, oracle(OPTIONS))
    for _ in range(20):
        param.grad = torch.randn(5, generator=generator, dtype=torch.complex128)
        trajectory.observe()
        optimizer.step()
    assert all(comparison.passed and comparison.judged == 10 for comparison in trajectory.judge(optimizer.state[param]))
