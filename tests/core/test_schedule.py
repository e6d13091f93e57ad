"""The scalars of a step, without a tensor of parameters, against the reference run in 60 digits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import radam
import reference
from radam import rectification
from radam.audit import Lockstep
from radam.audit.lockstep import Discrepancy
from radam.audit.strategies import betas
from radam.audit.subjects.radam import oracle as radam_oracle
from radam.schedule import Kind, Phase, Step, gathered, lr_on, step_at, steps_at
from reference.scaled_inverse_chi2 import ScaledInverseChi2

OPTIMIZER = radam.RAdam([torch.nn.Parameter(torch.zeros(1))])
ADAM = radam.Adam([torch.nn.Parameter(torch.zeros(1))])
KINDS = {
    "adaptive": Kind.ADAPTIVE,
    "momentum": Kind.MOMENTUM,
    "hold": Kind.HOLD,
    "variance_only": Kind.VARIANCE_ONLY,
}

sizes = st.one_of(st.just(0.0), st.floats(1e-200, 1e100))
common = {"lr": sizes, "betas": betas(), "eps": sizes, "optimized_update": st.booleans()}
radam_options = st.fixed_dictionaries(
    {
        **common,
        "threshold": st.one_of(st.sampled_from((4.0, 5.0)), st.floats(4, 50)),
        "degenerated_to_sgd": st.booleans(),
    }
)
exact_options = st.fixed_dictionaries(
    {
        **common,
        "betas": st.one_of(betas(), st.tuples(st.just(0.9), st.floats(0.33, 0.42))),
        "rectification": st.just("exact"),
        "degenerated_to_sgd": st.booleans(),
    }
)
adam_options = st.fixed_dictionaries({**common, "variance_warmup": st.integers(0, 20)})
steps = st.one_of(st.integers(1, 12), st.integers(1, 500), st.integers(1, 10**5))


def expected_scalars(make: Any, options: Mapping[str, Any], t: int) -> list[Any]:
    """The scalars that a reference optimizer of mpmath numbers lets through its hook at step t: size, then e."""
    with mpmath.workdps(60):
        precise = {name: mpmath.mpf(value) if isinstance(value, float) else value for name, value in options.items()}
        precise["betas"] = tuple(mpmath.mpf(beta) for beta in options["betas"])
        oracle = make(**precise)
        scalars: list[Any] = []

        def record(value: Any, relative_error: float) -> Any:
            scalars.append(value)
            return value

        oracle.scalar = record
        one = np.array([mpmath.mpf(1)], dtype=object)
        oracle.t, oracle.m, oracle.v = t, one, one
        oracle.apply(one, one)
        return scalars


def assert_within(computed: float, exact: Any, relative_error: float) -> None:
    with mpmath.workdps(60):
        assert abs(mpmath.mpf(computed) - exact) <= relative_error * abs(exact), (computed, mpmath.nstr(exact, 20))


def check(step: Step, make: Any, options: Mapping[str, Any], t: int) -> None:
    oracle = make(**options)
    error = oracle.scalar_error(t, "exact")
    assume(error.decided)
    assert step.kind is KINDS[oracle.branch(t)]
    if step.kind not in (Kind.ADAPTIVE, Kind.MOMENTUM):
        return
    size, *eps = expected_scalars(make, options, t)
    assert_within(float(step.size), size, error.size)
    if step.kind is Kind.ADAPTIVE:
        assert_within(step.eps, eps[0], error.eps)
        if options["optimized_update"]:
            assert step.eps == options["eps"]


@given(options=radam_options, t=steps)
def test_radam_to_the_last_bits(options: dict[str, Any], t: int) -> None:
    check(OPTIMIZER.schedule(t, {**OPTIMIZER.defaults, **options}), reference.RAdam, options, t)


@given(options=exact_options, t=steps)
def test_the_exact_rectification_to_the_last_bits(options: dict[str, Any], t: int) -> None:
    check(OPTIMIZER.schedule(t, {**OPTIMIZER.defaults, **options}), reference.RAdam, options, t)


@given(options=adam_options, t=steps)
def test_adam_to_the_last_bits(options: dict[str, Any], t: int) -> None:
    check(ADAM.schedule(t, {**ADAM.defaults, **options}), reference.Adam, options, t)


@pytest.mark.parametrize(
    ("t", "options", "kind"),
    [
        (5, {}, Kind.MOMENTUM),
        (6, {}, Kind.ADAPTIVE),
        (5, {"threshold": 4.0}, Kind.ADAPTIVE),
        (5, {"degenerated_to_sgd": False}, Kind.HOLD),
        (6, {"degenerated_to_sgd": False}, Kind.ADAPTIVE),
        (10**6, {"betas": (0.9, 0.6)}, Kind.MOMENTUM),
        (10**6, {"betas": (0.9, 0.6), "threshold": 4.0, "degenerated_to_sgd": False}, Kind.HOLD),
        (10**6, {"betas": (0.9, 0.65)}, Kind.MOMENTUM),
        (2, {"rectification": "exact"}, Kind.MOMENTUM),
        (2, {"rectification": "exact", "degenerated_to_sgd": False}, Kind.HOLD),
        (3, {"rectification": "exact"}, Kind.ADAPTIVE),
        (3, {"rectification": "exact", "betas": (0.9, 0.38)}, Kind.MOMENTUM),
        (4, {"rectification": "exact", "betas": (0.9, 0.38)}, Kind.ADAPTIVE),
        (10**6, {"rectification": "exact", "betas": (0.9, 1 / 3)}, Kind.MOMENTUM),
    ],
)
def test_kinds_of_radam(t: int, options: dict[str, Any], kind: Kind) -> None:
    step = OPTIMIZER.schedule(t, {**OPTIMIZER.defaults, **options})
    assert step.kind is kind
    if kind is Kind.HOLD:
        assert (step.size, step.eps) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("t", "warmup", "kind"),
    [(1, 0, Kind.ADAPTIVE), (2000, 2000, Kind.VARIANCE_ONLY), (2001, 2000, Kind.ADAPTIVE), (1, 1, Kind.VARIANCE_ONLY)],
)
def test_kinds_of_adam(t: int, warmup: int, kind: Kind) -> None:
    assert ADAM.schedule(t, {**ADAM.defaults, "variance_warmup": warmup}).kind is kind


@pytest.mark.parametrize("optimizer", [OPTIMIZER, ADAM])
@pytest.mark.parametrize("options", [{}, {"degenerated_to_sgd": False}, {"variance_warmup": 3}, {"betas": (0.9, 0.5)}])
def test_the_phases_begin_with_step_one(optimizer: radam.RAdam | radam.Adam, options: dict[str, Any]) -> None:
    first, *others = optimizer.phases({**optimizer.defaults, **options})
    assert first.first == 1
    assert all(phase.first > 1 for phase in others)


def test_momentum_counts_its_steps_from_the_end_of_the_warm_up() -> None:
    group = {**ADAM.defaults, "lr": 1.0, "betas": (0.5, 0.0), "variance_warmup": 7}
    assert [ADAM.schedule(t, group).size for t in (8, 9)] == [2.0, 4 / 3]


@pytest.mark.parametrize("optimizer", [OPTIMIZER, ADAM])
def test_after_a_billion_steps_nothing_is_left_to_correct(optimizer: radam.RAdam | radam.Adam) -> None:
    """r, 1 - b1^t and 1 - b2^t are 1 to within 1e-13: r falls short of 1 by t b2^t, which is 0."""
    step = optimizer.schedule(10**9, optimizer.defaults)
    assert step.kind is Kind.ADAPTIVE
    error = reference.RAdam().scalar_error(10**9, "exact").size
    assert abs(float(step.size) - 1e-3) <= error * 1e-3


@pytest.mark.parametrize("t", [1, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tensor_lr_counts_as_its_number(t: int, dtype: torch.dtype) -> None:
    lr = torch.tensor([0.1], dtype=dtype)
    for optimizer in (OPTIMIZER, ADAM):
        assert optimizer.schedule(t, {**optimizer.defaults, "lr": lr}) == optimizer.schedule(
            t, {**optimizer.defaults, "lr": float(lr)}
        )


@pytest.mark.parametrize("t", [1, 100])
def test_a_tensor_lr_takes_part_in_differentiation(t: int) -> None:
    lr = torch.tensor(0.1, requires_grad=True)
    size = OPTIMIZER.schedule(t, {**OPTIMIZER.defaults, "lr": lr}).size
    assert isinstance(size, torch.Tensor)
    assert size.dtype == torch.float64
    (derivative,) = torch.autograd.grad(size, lr)
    assert derivative == pytest.approx(float(size.detach() / lr.detach()), rel=2.0**-23, abs=0)
    with torch.no_grad():
        assert isinstance(OPTIMIZER.schedule(t, {**OPTIMIZER.defaults, "lr": lr}).size, float)


phases = st.lists(st.tuples(st.sampled_from(Kind), st.integers(1, 4)), min_size=1, max_size=5).map(
    lambda pairs: tuple(
        Phase(first, kind)
        for first, (kind, _) in zip(accumulate((n for _, n in pairs), initial=1), pairs, strict=False)
    )
)


@given(schedule=phases, decays=betas(), optimized_update=st.booleans())
def test_any_schedule_is_the_same_step_by_step_gathered_and_on_the_device(
    schedule: Sequence[Phase], decays: tuple[float, float], optimized_update: bool
) -> None:
    """Kinds that come and go, which no optimizer has yet. Each of two sizes is as good as its formulas."""
    group = {"lr": 0.1, "betas": decays, "eps": 1e-8, "optimized_update": optimized_update}
    t = torch.arange(1, 22, dtype=torch.float64)
    one_by_one = [step_at(int(step), schedule, group) for step in t]
    for steps in (steps_at(t, schedule, group), gathered(one_by_one, schedule, t.device)):
        for i, step in enumerate(one_by_one):
            assert bool(steps.divides[i]) == (step.kind is Kind.ADAPTIVE)
            if steps.moves is not None:
                assert bool(steps.moves[i]) == (step.kind in (Kind.ADAPTIVE, Kind.MOMENTUM))
            if steps.averages is not None:
                assert bool(steps.averages[i]) == (step.kind is not Kind.VARIANCE_ONLY)
            if step.kind in (Kind.ADAPTIVE, Kind.MOMENTUM):
                error = reference.Adam(betas=decays, optimized_update=False).scalar_error(i + 1, "exact")
                assert math.isclose(float(steps.size[i]), float(step.size), rel_tol=2.1 * error.size)
            if step.kind is Kind.ADAPTIVE:
                assert math.isclose(float(steps.eps[i]), step.eps, rel_tol=2.1 * error.eps)
        kinds = {phase.kind for phase in schedule}
        assert (steps.moves is None) == (kinds <= {Kind.ADAPTIVE, Kind.MOMENTUM})
        assert (steps.averages is None) == (Kind.VARIANCE_ONLY not in kinds)


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_tensor_lr_stays_one_where_its_device_is(shape: tuple[int, ...], requires_grad: bool) -> None:
    """Elsewhere the number of a tensor of the host is taken: no step waits for a copy."""
    lr = torch.full(shape, 0.1, requires_grad=requires_grad)
    here = lr_on(torch.device("cpu"), lr)
    assert isinstance(here, torch.Tensor)
    assert (here.shape, here.dtype, here.requires_grad) == ((), torch.float64, False)
    assert here.item() == lr.item()
    assert lr_on(torch.device("meta"), lr) == lr.item()
    elsewhere = lr_on(torch.device("meta"), torch.full(shape, 0.1, device="meta"))
    assert isinstance(elsewhere, torch.Tensor)
    assert (elsewhere.shape, elsewhere.dtype, elsewhere.is_meta) == ((), torch.float64, True)
    assert lr_on(torch.device("cpu"), 0.1) == 0.1


def first_order(t: Any, beta2: float) -> Any:
    """n_t, but the expansion of its variance."""

    def variance(n: Any) -> Any:
        return n / (2 * (n - 2) * (n - 1.5))

    return (variance(rectification.rho_inf(beta2)) / variance(rectification.n_eff(t, beta2))) ** 0.5


def by_the_centre_of_mass(t: Any, beta2: float) -> Any:
    """The variance itself, but of rho_t terms."""
    variances = ScaledInverseChi2([rectification.rho_inf(beta2), rectification.rho_t(t, beta2)]).variance_psi()
    return float((variances[0] / variances[1]) ** 0.5)


WRONG_RECTIFICATIONS: dict[str, Any] = {
    "a closed form in place of the variance": first_order,
    "rho_t in place of n_t": by_the_centre_of_mass,
    "one step late": lambda t, beta2: rectification.exact_r_t(t + 1, beta2),
    "off by 1e-12": lambda t, beta2: rectification.exact_r_t(t, beta2) * (1 + 1e-12),
}


@pytest.mark.parametrize("name", WRONG_RECTIFICATIONS)
def test_a_wrong_exact_rectification_is_seen(name: str) -> None:
    class Wrong(radam.RAdam):
        def rectification(self, t: Any, group: Mapping[str, Any]) -> Any:
            return WRONG_RECTIFICATIONS[name](t, group["betas"][1])

    for cls in (radam.RAdam, Wrong):
        param = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
        options = {"lr": 0.1, "rectification": "exact", "betas": (0.9, 0.99)}
        lockstep = Lockstep(cls([param], **options), [options], radam_oracle, scalars="exact")
        generator = torch.Generator().manual_seed(0)

        def several(lockstep: Lockstep = lockstep, param: Any = param, generator: Any = generator) -> None:
            for _ in range(10):
                param.grad = torch.randn(4, dtype=torch.float64, generator=generator)
                lockstep.step()

        if cls is radam.RAdam:
            several()
        else:
            with pytest.raises(Discrepancy, match="param"):
                several()


def test_each_group_has_its_own_rectification() -> None:
    """In lock-step, changed in mid-run too: from the third step on where it is exact, from the sixth by the paper."""
    params = [torch.nn.Parameter(torch.linspace(-1, 1, 4, dtype=torch.float64)) for _ in range(2)]
    groups = [{"params": params[:1]}, {"params": params[1:], "rectification": "exact", "betas": (0.8, 0.99)}]
    optimizer = radam.RAdam(groups, lr=0.1)
    options = [{"lr": 0.1}, {"lr": 0.1, "rectification": "exact", "betas": (0.8, 0.99)}]
    lockstep = Lockstep(optimizer, options, radam_oracle, scalars="exact")
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 13):
        if step == 9:
            for group, own in zip(optimizer.param_groups, lockstep.options, strict=True):
                other = "paper" if group["rectification"] == "exact" else "exact"
                group["rectification"] = own["rectification"] = other
        for param in params:
            param.grad = torch.randn(4, dtype=torch.float64, generator=generator)
        lockstep.step()
    kinds = [[optimizer.schedule(t, group).kind for t in (2, 3, 5, 6)] for group in optimizer.param_groups]
    m, a = Kind.MOMENTUM, Kind.ADAPTIVE
    assert kinds == [[m, a, a, a], [m, m, m, a]]
