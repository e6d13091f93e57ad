"""The classes: rounding, conventions, state, hooks, inputs, and values that others printed."""

from __future__ import annotations

import inspect
import math
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reference import SGD, Adam, RAdam, adam, radam, rho_t
from tests.reference.data import SIZE, STEPS, adam_hyperparameters, arrays, radam_hyperparameters, to_mpf
from tests.reference.running import GRADIENTS, P0, assert_another_goes_on, run
from tests.reference.running_error import Tracked, track_scalars

# -- float64 against the same lines in arbitrary precision


def assert_float64_is_mpf_to_the_running_error(cls: Any, hyperparameters: Any, p0: Any, gradients: Any) -> None:
    tracked = cls(**hyperparameters)
    track_scalars(tracked)
    assume(all(tracked.scalar_error(t, "exact").decided for t in range(1, len(gradients) + 1)))
    params = run(tracked, Tracked(p0), [Tracked(g) for g in gradients])
    plain = run(cls(**hyperparameters), p0, gradients)
    with mpmath.workprec(300):
        exact = run(cls(**to_mpf(hyperparameters)), to_mpf(p0), to_mpf(gradients))
    for t, (x, y, z) in enumerate(zip(params, plain, exact, strict=True), start=1):
        assert np.array_equal(x.value, y), "the tracking array changes no value"
        excess = np.abs((z - y).astype(np.float64)) - 1.01 * x.error
        assert np.all(excess <= 1e-300), f"step {t}: {y}, but should be {z} within {x.error}"


@settings(deadline=None, max_examples=60)
@given(hyperparameters=radam_hyperparameters, p0=arrays(SIZE), gradients=arrays(STEPS, SIZE))
def test_radam_rounding(hyperparameters: Any, p0: Any, gradients: Any) -> None:
    assert_float64_is_mpf_to_the_running_error(RAdam, hyperparameters, p0, gradients)


@settings(deadline=None, max_examples=60)
@given(hyperparameters=adam_hyperparameters, p0=arrays(SIZE), gradients=arrays(STEPS, SIZE))
def test_adam_rounding(hyperparameters: Any, p0: Any, gradients: Any) -> None:
    assert_float64_is_mpf_to_the_running_error(Adam, hyperparameters, p0, gradients)


sgd_hyperparameters = st.fixed_dictionaries(
    {
        "lr": st.floats(0, 1),
        "momentum": st.sampled_from([0.0, 0.5, 0.9]),
        "dampening": st.sampled_from([0.0, 0.3]),
        "nesterov": st.booleans(),
        "weight_decay": st.sampled_from([0.0, 0.1]),
        "maximize": st.booleans(),
    }
).filter(lambda h: not h["nesterov"] or (h["momentum"] > 0 and h["dampening"] == 0))


@settings(deadline=None, max_examples=60)
@given(hyperparameters=sgd_hyperparameters, p0=arrays(SIZE), gradients=arrays(STEPS, SIZE))
def test_sgd_rounding(hyperparameters: Any, p0: Any, gradients: Any) -> None:
    assert_float64_is_mpf_to_the_running_error(SGD, hyperparameters, p0, gradients)


@settings(deadline=None, max_examples=40)
@given(hyperparameters=sgd_hyperparameters, p0=arrays(SIZE), gradients=arrays(STEPS, SIZE))
def test_sgd_is_torchs(hyperparameters: Any, p0: Any, gradients: Any) -> None:
    torch = pytest.importorskip("torch")
    tracked = run(SGD(**hyperparameters), Tracked(p0), [Tracked(g) for g in gradients])
    p = torch.nn.Parameter(torch.tensor(p0))
    optimizer = torch.optim.SGD([p], **hyperparameters)
    for g, x in zip(gradients, tracked, strict=True):
        p.grad = torch.tensor(g)
        optimizer.step()
        # each side is off by its own rounding at most
        assert np.all(np.abs(p.detach().numpy() - x.value) <= 2.02 * x.error)


def test_mpf_arrays_stay_mpf() -> None:
    with mpmath.workprec(200):
        oracle = RAdam(lr=mpmath.mpf("0.1"), betas=(mpmath.mpf("0.9"), mpmath.mpf("0.999")), eps=mpmath.mpf(0))
        p = run(oracle, to_mpf(P0), to_mpf(GRADIENTS))[-1]
        assert all(isinstance(x, mpmath.mpf) for array in (p, oracle.m, oracle.v) for x in array)
        # 0.1 in mpf is not the double 0.1: every scalar was computed from the mpf
        assert p[0] != run(RAdam(lr=0.1, eps=0.0), to_mpf(P0), to_mpf(GRADIENTS))[-1][0]


def test_float32_arrays_are_not_widened_by_scalars() -> None:
    oracle = RAdam()
    oracle.m = oracle.v = np.ones(2, np.float32)
    oracle.t = 8
    assert oracle.step(np.ones(2, np.float32), np.ones(2, np.float32)).dtype == np.float32


# -- values that others printed


@pytest.mark.parametrize(
    ("weight_decay", "printed"),
    [(0.0, ([0.985769, 1.985269], [2.986119, 3.986068])), (0.01, ([0.984775, 1.983276], [2.983125, 3.982076]))],
)
def test_tensorflow_addons_golden_values(weight_decay: float, printed: Any) -> None:
    """100 steps, from `rectified_adam_test.py` of tensorflow/addons @ d208d75: eps outside the corrected root, 1e-7.

    Printed to half a unit of 1e-6, after 100 float32 steps that round the variable by half a unit in its last place
    each. The printed digits cannot tell where eps stands (1e-7 apart), but they do tell a threshold of 4 from 5.
    """
    seen = False
    for p0, g, expected in zip(([1.0, 2.0], [3.0, 4.0]), ([0.1, 0.2], [0.03, 0.04]), printed, strict=True):
        hyperparameters: Any = {"eps": 1e-7, "optimized_update": False, "weight_decay": weight_decay}
        gradients = np.array([g] * 100)
        allowed = 0.5e-6 + 100 * np.spacing(np.array(expected, np.float32)) / 2
        for last in (
            run(RAdam(**hyperparameters), np.array(p0), gradients)[-1],
            radam(p0, gradients, **hyperparameters)[-1],
        ):
            assert np.all(np.abs(last - expected) <= allowed)
        wrong = run(RAdam(**hyperparameters, threshold=4.0), np.array(p0), gradients)[-1]
        seen = seen or bool(np.any(np.abs(wrong - expected) > 5 * allowed))
    assert seen


# -- each convention changes what it should, and only that

BASE: dict[str, Any] = {"lr": 0.01, "eps": 1e-3}  # betas (0.9, 0.999): adaptive from step 6, with threshold 4 from 5
HOLD: dict[str, Any] = {**BASE, "degenerated_to_sgd": False}
DECAY: dict[str, Any] = {**BASE, "weight_decay": 0.1}
RHO_6 = rho_t(6, 0.999)
NEVER = None


def first_difference(cls: Any, first: dict[str, Any], second: dict[str, Any]) -> int | None:
    pairs = zip(run(cls(**first)), run(cls(**second)), strict=True)
    return next((t for t, (x, y) in enumerate(pairs, start=1) if not np.array_equal(x, y)), None)


@pytest.mark.parametrize(
    ("cls", "base", "change", "step"),
    [
        (RAdam, BASE, {"threshold": 4.0}, 5),
        (RAdam, BASE, {"threshold": 5.5}, NEVER),
        (RAdam, {**BASE, "threshold": RHO_6}, {"strict": True}, 6),
        (RAdam, BASE, {"strict": True}, NEVER),
        (RAdam, BASE, {"degenerated_to_sgd": False}, 1),
        (RAdam, {**HOLD, "weight_decay": 0.1}, {"decay_when_skipped": False}, 1),
        (RAdam, {**HOLD, "weight_decay": 0.1, "weight_decouple": False}, {"decay_when_skipped": False}, NEVER),
        (RAdam, HOLD, {"decay_when_skipped": False}, NEVER),
        (RAdam, DECAY, {"decay_when_skipped": False}, NEVER),
        (RAdam, BASE, {"optimized_update": False}, 6),
        (RAdam, BASE, {"eps": 2e-3}, 6),
        (RAdam, {**BASE, "betas": (0.9, 0.5)}, {"eps": 2e-3, "amsgrad": True, "threshold": 4.0}, NEVER),
        (RAdam, {**BASE, "betas": (0.9, 0.75)}, {"amsgrad": True}, 8),
        (RAdam, BASE, {"amsgrad_of": "corrected"}, NEVER),
        (RAdam, {**BASE, "amsgrad": True}, {"amsgrad_of": "corrected"}, 6),
        (RAdam, BASE, {"weight_decay": 0.1}, 1),
        (RAdam, DECAY, {"weight_decouple": False}, 1),
        (RAdam, BASE, {"weight_decouple": False}, NEVER),
        (RAdam, DECAY, {"absolute": True}, 1),
        (RAdam, {**DECAY, "weight_decouple": False}, {"absolute": True}, NEVER),
        (RAdam, BASE, {"absolute": True}, NEVER),
        (RAdam, BASE, {"maximize": True}, 1),
        (RAdam, {**DECAY, "lr": 0.0}, {"absolute": True}, NEVER),
        (RAdam, {**DECAY, "lr": 0.0}, {"weight_decouple": False}, NEVER),
        (Adam, BASE, {"optimized_update": False}, 1),
        (Adam, BASE, {"variance_warmup": 2}, 1),
        (Adam, {**BASE, "betas": (0.9, 0.75)}, {"amsgrad": True}, 2),
        (Adam, {**BASE, "amsgrad": True}, {"amsgrad_of": "corrected"}, 2),
        (SGD, {}, {"momentum": 0.9}, 2),
        (SGD, {"momentum": 0.9}, {"dampening": 0.5}, 2),
        (SGD, {"momentum": 0.9}, {"nesterov": True}, 1),
        (SGD, {}, {"dampening": 0.5}, NEVER),
    ],
    ids=lambda x: repr(x) if isinstance(x, dict) else getattr(x, "__name__", str(x)),
)
def test_convention(cls: Any, base: dict[str, Any], change: dict[str, Any], step: int | None) -> None:
    if {"amsgrad", "amsgrad_of"} & set(change) and step == 2:
        # steps 1 and 2 of GRADIENTS may grow: the maximum needs a gradient that falls
        pairs = [run(cls(**h), P0, GRADIENTS[:1] * np.array([[3.0], [1.0], [0.1]])) for h in (base, {**base, **change})]
        assert np.array_equal(pairs[0][0], pairs[1][0]) or "amsgrad_of" in change
        assert not np.array_equal(pairs[0][1], pairs[1][1])
        return
    assert first_difference(cls, base, {**base, **change}) == step


def test_maximize_is_the_opposite_gradient_and_decay_still_shrinks() -> None:
    for kind in ({}, {"weight_decouple": False}, {"absolute": True}):
        down = run(RAdam(**DECAY, **kind), P0, -GRADIENTS)
        assert np.array_equal(down, run(RAdam(**DECAY, **kind, maximize=True)))
        zero = np.zeros((STEPS, SIZE))
        for maximize in (False, True):
            assert np.all(np.abs(run(RAdam(**DECAY, **kind, maximize=maximize), P0, zero)[-1]) < np.abs(P0))


def test_decay_by_hand() -> None:
    p, zero = np.array([2.0]), np.zeros(1)
    assert RAdam(lr=0.1, weight_decay=0.5).step(p, zero) == 2.0 * (1 - 0.1 * 0.5)
    assert RAdam(lr=0.1, weight_decay=0.5, absolute=True).step(p, zero) == 1.0
    assert RAdam(lr=0.1, weight_decay=0.5, degenerated_to_sgd=False).step(p, zero) == 1.9
    l2 = RAdam(lr=0.0, weight_decay=0.5, weight_decouple=False)
    assert l2.step(p, zero) == 2.0
    assert (l2.m, l2.v) == ((1 - 0.9) * 1.0, (1 - 0.999) * 1.0)  # at lr = 0 too, L2 enters the moments


def test_coefficients_of_one_are_no_special_case() -> None:
    p, zero = np.array([2.0]), np.zeros(1)
    assert RAdam(lr=0.25, weight_decay=1.0).step(p, zero) == 1.5
    assert RAdam(lr=1.0, weight_decay=0.25).step(p, zero) == 1.5
    assert RAdam(lr=1.0, weight_decay=1.0).step(p, zero) == 0.0
    assert RAdam(lr=0.25, weight_decay=1.0, absolute=True).step(p, zero) == 0.0
    l2 = RAdam(weight_decay=1.0, weight_decouple=False)
    l2.advance(p, zero)
    assert l2.m == (1 - 0.9) * 2.0
    assert SGD(lr=1.0, weight_decay=1.0).step(p, zero) == 0.0
    sgd = SGD(lr=1.0, momentum=1.0)
    assert sgd.step(sgd.step(p, np.ones(1)), np.ones(1)) == -1.0


DEFAULTS: dict[str, Any] = {
    "lr": 1e-3,
    "betas": (0.9, 0.999),
    "eps": 1e-16,
    "weight_decay": 0.0,
    "weight_decouple": True,
    "absolute": False,
    "optimized_update": True,
    "amsgrad": False,
    "maximize": False,
    "amsgrad_of": "uncorrected",
}
RADAM_DEFAULTS = {"degenerated_to_sgd": True, "threshold": 5.0, "strict": False, "decay_when_skipped": True}


@pytest.mark.parametrize(
    ("function", "defaults"),
    [
        (Adam, {**DEFAULTS, "variance_warmup": 0}),
        (adam, {**DEFAULTS, "variance_warmup": 0}),
        (RAdam, {**DEFAULTS, **RADAM_DEFAULTS, "rectification": "paper"}),
        (radam, {**DEFAULTS, **RADAM_DEFAULTS}),
        (
            SGD,
            {"lr": 1e-3, "momentum": 0.0, "dampening": 0.0, "nesterov": False, "weight_decay": 0.0, "maximize": False},
        ),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_defaults(function: Any, defaults: dict[str, Any]) -> None:
    """Those of RAdam are its authors'; both oracles have the same."""
    parameters = inspect.signature(function).parameters.values()
    assert {x.name: x.default for x in parameters if x.kind is x.KEYWORD_ONLY} == defaults


def test_variance_warmup() -> None:
    oracle = Adam(betas=(0.5, 0.75), lr=0.5, eps=0.0, variance_warmup=2, weight_decay=0.1)
    p = np.array([1.0])
    for t in (1, 2):
        assert oracle.step(p, np.array([2.0])) == 1.0, "no decoupled decay"
        assert (oracle.m, oracle.t) == (0.0, t)
    assert oracle.v == 4 * (1 - 0.75**2)
    # m counts from step 3, v from step 1: m/(1 - b1) = 2, v/(1 - b2^3) = 4
    assert oracle.step(p, np.array([2.0])) == pytest.approx((1 - 0.5 * 0.1) - 0.5 * 2 / 2, abs=1e-15)
    l2 = Adam(variance_warmup=2, weight_decay=0.5, weight_decouple=False)
    assert l2.step(p, np.zeros(1)) == 1.0
    assert l2.v == (1 - 0.999) * 0.25


def test_amsgrad_switched_on_late_and_off() -> None:
    oracle = RAdam()
    run(oracle)
    assert oracle.s is None
    oracle.amsgrad = True
    oracle.step(P0, GRADIENTS[0])
    assert np.array_equal(oracle.s, oracle.v), "s started from zeros"
    s = oracle.s
    oracle.amsgrad = False
    oracle.step(P0, GRADIENTS[0])
    assert oracle.s is s


# -- the protocol


def test_hyperparameters_are_read_at_every_step() -> None:
    oracle = RAdam(lr=0.1)
    p = oracle.step(P0, GRADIENTS[0])
    oracle.lr, oracle.betas, oracle.weight_decay = 0.01, (0.5, 0.9), 0.1
    other = RAdam(lr=0.01, betas=(0.5, 0.9), weight_decay=0.1)
    other.t, other.m, other.v = oracle.t, oracle.m, oracle.v
    assert np.array_equal(oracle.step(p, GRADIENTS[1]), other.step(p, GRADIENTS[1]))


@settings(deadline=None, max_examples=30)
@given(hyperparameters=radam_hyperparameters, split=st.integers(1, STEPS - 1))
def test_state_that_is_taken_over_continues_bit_for_bit(hyperparameters: Any, split: int) -> None:
    assert_another_goes_on(lambda: RAdam(**hyperparameters), split)


@settings(deadline=None, max_examples=60)
@given(
    oracle=st.one_of(
        radam_hyperparameters.map(lambda h: RAdam(**h)),
        adam_hyperparameters.map(lambda h: Adam(**h)),
        sgd_hyperparameters.map(lambda h: SGD(**h)),
    )
)
def test_inputs_are_never_modified(oracle: Any) -> None:
    p, g = P0.copy(), GRADIENTS.copy()
    p.flags.writeable = g.flags.writeable = False
    for x in g:
        before = [None if y is None else (y, y.copy()) for y in (oracle.m, oracle.v, oracle.s)]
        p = oracle.step(p, x)
        p.flags.writeable = False
        for state in before:
            assert state is None or np.array_equal(*state), "old state arrays keep their values"
        assert not any(np.shares_memory(y, x) for y in (oracle.m, oracle.v, oracle.s) if y is not None)
    assert np.array_equal(g, GRADIENTS)


def test_the_hook_sees_every_scalar_and_costs_nothing_when_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RAdam, "scalar_error", lambda *_: pytest.fail("scalar_error was computed for nobody"))
    run(RAdam())
    monkeypatch.undo()
    for scalars in ("textbook", "exact"):
        seen: list[tuple[float, float]] = []

        def hook(value: float, error: float, seen: list[tuple[float, float]] = seen) -> float:
            seen.append((value, error))
            return value

        oracle = RAdam(amsgrad=True, amsgrad_of="corrected")
        oracle.scalars, oracle.scalar = scalars, hook  # type: ignore[assignment]
        assert np.array_equal(run(oracle), run(RAdam(amsgrad=True, amsgrad_of="corrected")))
        errors = [oracle.scalar_error(t, scalars) for t in range(1, STEPS + 1)]  # type: ignore[arg-type]
        # bc2 each step; then size, or size and e
        expected = [x for t, e in enumerate(errors, 1) for x in ([e.bc2, e.size] if t < 6 else [e.bc2, e.size, e.eps])]
        assert [error for _, error in seen] == expected


@pytest.mark.parametrize("oracle", [RAdam(amsgrad=True), Adam(), SGD(momentum=0.9)], ids=["RAdam", "Adam", "SGD"])
def test_it_begins_anew(oracle: Any) -> None:
    first = run(oracle)
    oracle.begin(P0)
    assert oracle.t == 0
    assert np.array_equal(first, run(oracle))


def test_without_momentum_there_is_no_buffer() -> None:
    sgd = SGD()
    run(sgd)
    assert (sgd.t, sgd.m) == (STEPS, None)


def test_what_holds_the_parameter_gives_it_back() -> None:
    """Whatever the momentum is, as of a warm-up that is asked for late."""
    for oracle in (Adam(variance_warmup=5), RAdam(degenerated_to_sgd=False)):
        oracle.t, oracle.m, oracle.v = 2, np.ones(1), np.ones(1)
        p = np.ones(1)
        assert oracle.apply(p, p) is p


def test_a_limit_of_four_is_never_adaptive() -> None:
    """At 23 bits rho_inf is 4 for the number nearest to 0.6, and so is rho_t in the end."""
    with mpmath.workprec(23):
        betas = mpmath.mpf("0.9"), mpmath.mpf("0.6")
        assert rho_t(1000, betas[1]) == 4
        assert RAdam(betas=betas, threshold=4).branch(1000) == "momentum"


def test_no_decay_takes_nothing_of_the_parameter() -> None:
    """0 times infinity would be NaN."""
    for oracle in (RAdam(weight_decouple=False), Adam(weight_decouple=False), SGD(momentum=0.5)):
        oracle.advance(np.array([np.inf]), np.ones(1))
        assert np.isfinite(oracle.m)
    for other in (RAdam(), Adam(), RAdam(weight_decay=0.1, lr=0.0)):
        assert other.step(np.array([np.inf]), np.ones(1)) == np.inf


def test_ieee_values_propagate() -> None:
    nan = RAdam(amsgrad=True)
    with np.errstate(invalid="ignore"):
        p = run(nan, np.zeros(2), [np.array([np.nan, 1.0])] + [np.ones(2)] * 9)[-1]
        assert np.isnan([p[0], nan.s[0]]).all()
        assert np.isfinite(p[1])
        assert np.isnan(run(RAdam(eps=0.0), np.zeros(1), np.zeros((6, 1)))[-1])
        assert run(RAdam(eps=0.0), np.zeros(1), np.zeros((5, 1)))[-1] == 0


def test_rho_that_rounding_lifts_to_a_threshold_of_four() -> None:
    """The branch goes by the rounded rho_t = 4, where the exact one is below 4: r_t takes its limit, 0."""
    found = 0
    for t in range(5, 30):
        low, high = 0.6, 0.8
        while math.nextafter(low, 1) < high:
            middle = (low + high) / 2
            low, high = (middle, high) if rho_t(t, Fraction(middle)) < 4 else (low, middle)
        if rho_t(t, low) == 4.0:
            found += 1
            oracle = RAdam(betas=(0.9, low), threshold=4.0)
            assert oracle.branch(t) == "adaptive"
            assert not oracle.scalar_error(t, "exact").decided
            oracle.t, oracle.m, oracle.v = t, np.ones(1), np.ones(1)
            assert oracle.apply(np.ones(1), np.ones(1)) == 1.0
    assert found > 0


OUTSIDE = [(RAdam, 1.0), (RAdam, 1.5), (RAdam, math.nan), (Adam, -0.1), (Adam, -1.5)]


@pytest.mark.parametrize(
    ("cls", "hyperparameters", "message"),
    [
        (RAdam, {"lr": -1.0}, "lr must be >= 0, but is -1.0"),
        (RAdam, {"lr": float("nan")}, "lr must be >= 0, but is nan"),
        *((cls, {"betas": (b, 0.9)}, rf"betas\[0\] must be in \[0, 1\), but is {b}") for cls, b in OUTSIDE),
        *((cls, {"betas": (0.9, b)}, rf"betas\[1\] must be in \[0, 1\), but is {b}") for cls, b in OUTSIDE),
        (Adam, {"eps": -1e-8}, "eps must be >= 0, but is -1e-08"),
        (Adam, {"weight_decay": -1.0}, "weight_decay must be >= 0, but is -1.0"),
        (Adam, {"variance_warmup": -1}, "variance_warmup must be >= 0, but is -1"),
        (RAdam, {"amsgrad_of": "both"}, "amsgrad_of must be .* but is 'both'"),
        (RAdam, {"rectification": "Exact"}, 'rectification must be "paper" or "exact", but is \'Exact\''),
        *(
            (
                RAdam,
                {"rectification": "exact", "threshold": threshold},
                f'threshold must be 5 with rectification="exact", but is {threshold}',
            )
            for threshold in (4, 6)
        ),
        (RAdam, {"threshold": 3.9}, "threshold must be >= 4, but is 3.9"),
        (SGD, {"momentum": -0.1}, "momentum must be >= 0, but is -0.1"),
        (SGD, {"nesterov": True}, "nesterov needs momentum > 0 and dampening = 0, but they are 0.0 and 0.0"),
        *(
            (
                SGD,
                {"nesterov": True, "momentum": 0.9, "dampening": value},
                f"nesterov needs momentum > 0 and dampening = 0, but they are 0.9 and {value}",
            )
            for value in (0.5, -0.5)
        ),
    ],
)
def test_wrong_hyperparameters(cls: Any, hyperparameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(**hyperparameters)
