"""Adam: against the recurrences, against the defining sums, and against torch's own Adam and AdamW."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import radam
import reference
from radam.audit import Lockstep, Trajectory
from radam.audit.strategies import Case, adam_hyperparameters, cases
from radam.audit.subjects.radam import adam_oracle, family
from tests.core.helpers import params_of, run

ADAM = family(radam.Adam)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex64)


@given(case=cases(adam_hyperparameters(), DTYPES, shared=()), foreach=st.sampled_from((None, False)))
def test_in_lockstep_with_the_recurrences(case: Case, foreach: bool | None) -> None:
    """Adam, AMSGrad, both placements of eps, Adam-2k with a short warm-up, with exact scalars."""
    params = case.parameters()
    groups = [{"params": own, **options} for own, options in zip(params, case.options, strict=True)]
    lockstep = Lockstep(
        ADAM.build(groups, {}, foreach=foreach), list(case.options), adam_oracle, scalars="exact", describe=repr(case)
    )
    gradients = case.gradients(params)
    for _ in range(12):
        for param, grad in zip(params_of(lockstep.optimizer), next(gradients), strict=True):
            param.grad = grad
        lockstep.step()


def lockstep(optimizer: torch.optim.Optimizer, options: Mapping[str, Any], steps: int = 20) -> Lockstep:
    """Steps on normal gradients, judged."""
    judge = Lockstep(optimizer, [dict(options)], adam_oracle, scalars="textbook")
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        for param in params_of(optimizer):
            param.grad = torch.randn(param.shape, generator=generator, dtype=torch.float64).to(param.dtype)
        judge.step()
    return judge


def parameters(dtype: torch.dtype) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype))
        for shape in ((3, 2), (5,), ())
    ]


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("amsgrad", [True, False])
@pytest.mark.parametrize("theirs", [torch.optim.Adam, torch.optim.AdamW])
def test_torchs_adam_is_ours_with_eps_after_the_correction(
    theirs: Any, amsgrad: bool, dtype: torch.dtype, foreach: bool
) -> None:
    """Both within the same bounds of the same oracle at every step."""
    decouple = theirs is torch.optim.AdamW
    common = {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-3, "amsgrad": amsgrad}
    options = {**common, "weight_decay": 0.1, "weight_decouple": decouple, "optimized_update": False}
    their = theirs(parameters(dtype), weight_decay=0.1, foreach=foreach, **common)
    assert lockstep(their, options).record.worst <= 1
    own = ADAM.build(parameters(dtype), options, foreach=foreach)
    assert lockstep(own, options).record.worst <= 1


def defined(options: Mapping[str, Any], start: np.ndarray, gradients: np.ndarray) -> list[Any]:
    """The trajectory by the defining sums, in 50 digits."""
    with mpmath.workdps(50):
        precise = {name: mpmath.mpf(value) if isinstance(value, float) else value for name, value in options.items()}
        precise["betas"] = tuple(mpmath.mpf(beta) for beta in options["betas"])
        exact = np.vectorize(mpmath.mpf, otypes=[object])
        return reference.adam(exact(start), exact(gradients), **precise)


ordinary = st.fixed_dictionaries(
    {
        "lr": st.floats(1e-4, 1.0),
        "betas": st.tuples(st.floats(0, 0.99), st.floats(0.5, 0.9999)),
        "eps": st.floats(1e-8, 1.0),
        "weight_decay": st.sampled_from((0.0, 0.1)),
        "weight_decouple": st.booleans(),
        "absolute": st.booleans(),
        "optimized_update": st.booleans(),
        "amsgrad": st.booleans(),
        "maximize": st.booleans(),
        "variance_warmup": st.integers(0, 5),
    }
)


@given(options=ordinary, seed=st.integers(0, 2**32 - 1), foreach=st.booleans())
def test_a_free_run_follows_the_defining_sums(options: dict[str, Any], seed: int, foreach: bool) -> None:
    """No recurrence is shared: sigma and psi from the whole history, to within the bound that a run accumulates."""
    rng = np.random.default_rng(seed)
    start, gradients = rng.standard_normal(3), rng.standard_normal((12, 3))
    param = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = ADAM.build([param], options, foreach=foreach)
    trajectory = Trajectory(param, adam_oracle(options), scalars="exact")
    for expected, gradient in zip(defined(options, start, gradients), gradients, strict=True):
        param.grad = torch.from_numpy(gradient.copy())
        trajectory.observe()
        optimizer.step()
        with mpmath.workdps(50):
            distance = [abs(mpmath.mpf(p) - e) for p, e in zip(param.tolist(), expected, strict=True)]
        assert all(d <= bound for d, bound in zip(distance, trajectory.expected.error, strict=True))


def test_adam_2k_waits_for_two_thousand_steps() -> None:
    """v moves, m and p wait; then the momentum starts anew and v is corrected for all its steps."""
    options = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "variance_warmup": 2000}
    (param,) = params = [torch.nn.Parameter(torch.ones(2, dtype=torch.float64))]
    optimizer = ADAM.build(params, options)
    run(optimizer, 2000)
    assert param.tolist() == [1.0, 1.0]
    assert not optimizer.state[param]["exp_avg"].any()
    assert optimizer.state[param]["exp_avg_sq"].all()
    record = lockstep(optimizer, options, steps=5).record
    assert record.worst <= 1
    assert optimizer.state[param]["step"] == 2005
    assert param.tolist() != [1.0, 1.0]


def test_adam_eps_is_a_setting() -> None:
    """A large eps keeps the step close to that of momentum: lr m / eps where sqrt(v) is far below it."""
    param = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    param.grad = torch.full((1,), 1e-12, dtype=torch.float64)
    radam.Adam([param], lr=1.0, betas=(0.0, 0.0), eps=1e-4).step()
    assert param.item() == pytest.approx(-1e-8, rel=2e-8, abs=0)


@pytest.mark.parametrize("optimized_update", [True, False])
def test_the_two_placements_of_eps(optimized_update: bool) -> None:
    """First step with beta2 = 0.75, g = 2: sqrt(v) = 1 and sqrt(1 - b2) = 1/2."""
    param = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    param.grad = torch.full((1,), 2.0, dtype=torch.float64)
    radam.Adam([param], lr=1.0, betas=(0.0, 0.75), eps=1.0, optimized_update=optimized_update).step()
    # Root, sum, product and quotient, and two scalars of a few units each.
    assert param.item() == pytest.approx(-0.5 if optimized_update else -2 / 3, rel=16 * 2.0**-53, abs=0)
