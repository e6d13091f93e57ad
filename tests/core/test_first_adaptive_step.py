"""At which step the update turns adaptive, and by which rectification, seen in the parameters alone."""

from __future__ import annotations

import mpmath
import pytest
import torch

import radam
import reference
from tests.core.helpers import KERNELS
from tests.core.test_compiled import backends, let_compile
from tests.core.test_rectification import ROWS, TABLE, U

GRADIENT = 3.0
STEPS = 14


def updates(beta2: float, threshold: float, kernel: str) -> list[tuple[float, float, float]]:
    """-p, m and v after each step, each from p = 0, with lr = 1 and a constant gradient."""
    param = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = radam.RAdam([param], lr=1.0, betas=(0.5, beta2), eps=0.0, threshold=threshold, **KERNELS[kernel])
    result = []
    for _ in range(STEPS):
        param.data.zero_()
        param.grad = torch.full_like(param, GRADIENT)
        optimizer.step()
        state = optimizer.state[param]
        result.append((-param.item(), state["exp_avg"].item(), state["exp_avg_sq"].item()))
    return result


def rectification(update: tuple[float, float, float], t: int, beta2: float) -> float:
    """What an adaptive step must have had as r_t to make this update of m and v."""
    p, m, v = map(mpmath.mpf, update)
    with mpmath.workdps(40):
        bc1, bc2 = reference.bias_correction(t, mpmath.mpf(0.5)), reference.bias_correction(t, mpmath.mpf(beta2))
        return float(p / m * mpmath.sqrt(v / bc2) * bc1)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("beta2", "threshold", "first"), ROWS)
def test_first_adaptive_step(beta2: float, threshold: float, first: int | None, kernel: str) -> None:
    """A momentum step moves by m/bc1 = 3, an adaptive one by r_t < 1."""
    moved = [p for p, _, _ in updates(beta2, threshold, kernel)]
    adaptive = [t for t, p in enumerate(moved, start=1) if p < 2]
    assert (adaptive[0] if adaptive else None) == first
    assert adaptive == list(range(first or STEPS + 1, STEPS + 1))


@pytest.mark.deep
@backends
@pytest.mark.parametrize("capturable", [False, True])
def test_first_adaptive_step_of_a_compiled_step(capturable: bool, backend: str) -> None:
    """Every beta2 and threshold, each a group: one graph for all of them and for all steps, with beta2 as it is."""
    torch.compiler.reset()
    params = [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in ROWS]
    groups = [
        {"params": [param], "betas": (0.5, beta2), "threshold": threshold}
        for param, (beta2, threshold, _) in zip(params, ROWS, strict=True)
    ]
    optimizer = radam.RAdam(groups, lr=1.0, eps=0.0, capturable=capturable)
    graphs = let_compile(optimizer, backend)
    adaptive: list[list[int]] = [[] for _ in ROWS]
    for t in range(1, STEPS + 1):
        for param in params:
            param.data.zero_()
            param.grad = torch.full_like(param, GRADIENT)
        optimizer.step()
        for param, steps in zip(params, adaptive, strict=True):
            if -param.item() < 2:
                steps.append(t)
    for steps, (_, _, first) in zip(adaptive, ROWS, strict=True):
        assert steps == list(range(first or STEPS + 1, STEPS + 1))
    assert graphs.count <= (1 if backend == "eager" else 2)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("beta2", [beta2 for beta2, row in TABLE if row[0] is not None])
def test_rectification_of_each_step(beta2: float, kernel: str) -> None:
    """The size is as good as its conditioning allows; root, sum, product and quotient of the update round once each."""
    oracle = reference.RAdam(lr=1.0, betas=(0.5, beta2), threshold=4.0)
    for t, update in enumerate(updates(beta2, 4.0, kernel), start=1):
        if oracle.branch(t) != "adaptive":
            continue
        bound = oracle.scalar_error(t, "exact").size + 5 * U
        assert abs(rectification(update, t, beta2) / reference.r_t(t, beta2) - 1) <= bound


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_paths_are_one_step_apart_at_the_threshold(kernel: str) -> None:
    """rho_t exactly at the threshold is adaptive; the next number up is not."""
    at = reference.rho_t(12, 0.8)
    above = float(torch.nextafter(torch.tensor(at, dtype=torch.float64), torch.tensor(9.0, dtype=torch.float64)))
    assert [t for t in (11, 12, 13) if updates(0.8, at, kernel)[t - 1][0] < 2] == [12, 13]
    assert [t for t in (11, 12, 13) if updates(0.8, above, kernel)[t - 1][0] < 2] == [13]
