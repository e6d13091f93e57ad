"""scalar_error is a bound on what usual float64 code computes, and not a loose one."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import mpmath
import numpy as np
import pytest

from reference import SGD, Adam, RAdam, bias_correction, exact_r_t, n_eff, r_t, rho_inf, rho_t
from reference.optimizers import _log_factor
from reference.scaled_inverse_chi2 import ScaledInverseChi2
from tests.reference.documented import correction_error, factor

mpf = mpmath.mpf
BITS = 300


def corrections(t: int, b: float) -> Iterator[tuple[float, float]]:
    """b^t and 1 - b^t in the usual ways."""
    if b == 0:
        yield 0.0, 1.0
        return
    yield b**t, 1 - b**t
    yield math.exp(t * math.log(b)), 1 - math.exp(t * math.log(b))
    yield b**t, -math.expm1(t * math.log(b))


def rhos(t: int, b: float) -> Iterator[tuple[float, float, float]]:
    """rho_t, rho_inf and 1 - b^t in the usual ways."""
    for limit in (2 / (1 - b) - 1, (1 + b) / (1 - b)):
        for power, bc in corrections(t, b):
            if bc > 0:
                for term in (2 * t * power / bc, 2 * t * (power / bc), power * 2 * t / bc):
                    yield limit - term, limit, bc


def rectifications(rho: float, limit: float) -> Iterator[float]:
    yield math.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
    yield math.sqrt((rho - 4) / (limit - 4) * (rho - 2) / rho * limit / (limit - 2))
    yield math.sqrt((limit / (2 * (limit - 2) * (limit - 4))) / (rho / (2 * (rho - 2) * (rho - 4))))


def sizes(lr: float, r: float, bc1: float, bc2: float) -> Iterator[float]:
    yield lr * r * math.sqrt(bc2) / bc1
    yield (lr / bc1) * (r * math.sqrt(bc2))
    yield math.sqrt(bc2) * (lr * (r * (1 / bc1)))


def cases(count: int) -> Iterator[tuple[int, float, float]]:
    rng = random.Random(20190808)
    for t, b2 in ((1, 0.0), (9, 0.0), (6, 0.999), (5, 0.773303), (1, 1 - 2.0**-53), (3000, 0.6), (5000, 0.5)):
        yield t, 0.9, b2
    for _ in range(count):
        b2 = rng.choice([1 - 10 ** rng.uniform(-12, -0.4), rng.random(), 1 - 10 ** rng.uniform(-4, -1)])
        b1 = rng.choice([0.0, 0.9, rng.random(), 1 - 10 ** rng.uniform(-5, -1)])
        yield rng.choice([rng.randint(1, 20), rng.randint(1, 600)]), b1, b2


class Ratios:
    """The largest error/bound of each quantity."""

    def __init__(self) -> None:
        self.worst: dict[str, float] = {}

    def add(self, name: str, computed: float, exact: Any, relative_bound: float, where: Any) -> None:
        if not math.isfinite(relative_bound):
            return
        ratio = float(abs(mpf(computed) - exact) / (abs(exact) * mpf(relative_bound)))
        assert ratio <= 1, f"{name} = {computed!r} is off by {ratio:.3g} times the bound at {where}"
        self.worst[name] = max(self.worst.get(name, 0.0), ratio)


def test_textbook_bound() -> None:
    """A true bound for each of 3 x 2 x 3 x 3 x 3 x 3 orders of evaluation, and attained within a factor of 10."""
    ratios = Ratios()
    lr = 0.1
    with mpmath.workprec(BITS):
        for t, b1, b2 in cases(600):
            where = (t, b1, b2)
            exact_rho = rho_t(t, mpf(b2))
            exact_bc1, exact_bc2 = bias_correction(t, mpf(b1)), bias_correction(t, mpf(b2))
            radam = RAdam(lr=lr, betas=(b1, b2), threshold=4.0)
            adam = Adam(lr=lr, betas=(b1, b2), optimized_update=False)
            bound, adam_bound = radam.scalar_error(t), adam.scalar_error(t)
            branch = radam.branch(t)
            exact_r = r_t(t, mpf(b2)) if branch == "adaptive" else None
            for rho, limit, bc2 in rhos(t, b2):
                ratios.add("rho", rho, exact_rho, bound.rho / float(exact_rho), where)
                adaptive = limit > 4 and rho >= 4.0
                assert not bound.decided or adaptive == (branch == "adaptive"), where
                if exact_r is None or not math.isfinite(bound.size):
                    continue
                exact_size = mpf(lr) * exact_r * mpmath.sqrt(exact_bc2) / exact_bc1
                for r in rectifications(rho, limit):
                    for _, bc1 in corrections(t, b1):
                        for size in sizes(lr, r, bc1, bc2):
                            ratios.add("size of RAdam", size, exact_size, bound.size, where)
            for _, bc2 in corrections(t, b2):
                ratios.add("bc2", bc2, exact_bc2, adam_bound.bc2, where)
                ratios.add("e", 1e-8 * math.sqrt(bc2), mpf(1e-8) * mpmath.sqrt(exact_bc2), adam_bound.eps, where)
                for _, bc1 in corrections(t, b1):
                    if bc1 > 0:
                        exact_size = mpf(lr) * mpmath.sqrt(exact_bc2) / exact_bc1
                        for size in sizes(lr, 1.0, bc1, bc2):
                            ratios.add("size of Adam", size, exact_size, adam_bound.size, where)
                        if branch == "momentum":
                            ratios.add("size of momentum", lr / bc1, mpf(lr) / exact_bc1, bound.size, where)
    assert set(ratios.worst) == {"rho", "size of RAdam", "bc2", "e", "size of Adam", "size of momentum"}
    assert min(ratios.worst.values()) > 1 / 10, ratios.worst


def test_exact_bound() -> None:
    """Formulas without cancellation, in NumPy's float64, reach the bound of the "exact" class within a factor of 20."""
    ratios = Ratios()
    with mpmath.workprec(BITS):
        for t, b1, b2 in cases(400):
            lags = np.arange(t)
            weights = np.power(b2, lags)
            rho = float(1 + 2 * np.sum(lags * weights) / np.sum(weights))
            limit = (1 + b2) / (1 - b2)
            bc1 = float((1 - b1) * np.sum(np.power(b1, lags)))
            bc2 = float((1 - b2) * np.sum(weights))
            radam = RAdam(lr=0.1, betas=(b1, b2), threshold=4.0)
            bound = radam.scalar_error(t, "exact")
            exact_rho = rho_t(t, mpf(b2))
            ratios.add("rho", rho, exact_rho, bound.rho / float(exact_rho), (t, b2))
            if bound.decided:
                assert (limit > 4 and rho >= 4) == (radam.branch(t) == "adaptive")
            if radam.branch(t) == "adaptive" and math.isfinite(bound.size):
                exact = mpf(0.1) * r_t(t, mpf(b2))
                exact = exact * mpmath.sqrt(bias_correction(t, mpf(b2))) / bias_correction(t, mpf(b1))
                for r in rectifications(rho, limit):
                    for size in sizes(0.1, r, bc1, bc2):
                        ratios.add("size", size, exact, bound.size, (t, b1, b2))
    assert min(ratios.worst.values()) > 1 / 20, ratios.worst


def test_reference_itself_is_exact() -> None:
    """The oracle's own scalars stay within the "exact" class, even where they are most ill-conditioned."""
    with mpmath.workprec(BITS):
        for t, b1, b2 in cases(300):
            seen: list[tuple[float, float]] = []
            oracle = RAdam(lr=0.1, betas=(b1, b2), optimized_update=False, threshold=4.0)
            oracle.scalars = "exact"
            oracle.scalar = lambda value, error, seen=seen: seen.append((value, error)) or value  # type: ignore[misc]
            oracle.t = t
            oracle.m = oracle.v = np.ones(1)
            oracle.apply(np.ones(1), np.ones(1))
            bc1, bc2 = bias_correction(t, mpf(b1)), bias_correction(t, mpf(b2))
            if oracle.branch(t) == "adaptive":
                exact = [mpf(0.1) * r_t(t, mpf(b2)) * mpmath.sqrt(bc2) / bc1, mpf(1e-16) * mpmath.sqrt(bc2)]
            else:
                exact = [mpf(0.1) / bc1]
            for (value, error), x in zip(seen, exact, strict=True):
                assert abs(mpf(value) - x) <= error * x


def test_naive_branches_are_undecided_where_they_are_wrong() -> None:
    """For b2 within 2.5e-6 of 1 the textbook rho_t often lies on the wrong side of 4 or 5."""
    rng = random.Random(1)
    wrong = 0
    for _ in range(2000):
        b2 = 1 - 10 ** rng.uniform(-9, -5)
        for threshold in (4.0, 5.0):
            oracle = RAdam(betas=(0.9, b2), threshold=threshold, strict=True)
            t = int(threshold)
            naive = 2 / (1 - b2) - 1 - 2 * t * b2**t / (1 - b2**t)
            if (naive > threshold) != (oracle.branch(t) == "adaptive"):
                wrong += 1
                assert not oracle.scalar_error(t).decided
                assert oracle.scalar_error(t, "exact").decided
    assert wrong > 500


def test_ordinary_hyperparameters_are_decided_and_sharp() -> None:
    for b2 in (0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999):
        for t in range(1, 200):
            for threshold in (4.0, 5.0):
                error = RAdam(betas=(0.9, b2), threshold=threshold).scalar_error(t)
                assert error.decided
                assert error.size < 1e-7
                assert RAdam(betas=(0.9, b2), threshold=threshold).scalar_error(t, "exact").size < 3e-13


def documented(t: int, times: tuple[int, int], b1: float, b2: float, scalars: str) -> dict[str, Any]:
    """The formulas in the docstring of `RAdam.scalar_error`, as they stand there, in arbitrary precision."""
    u = mpf(2) ** -53
    rho, limit = mpf(rho_t(t, b2)), mpf(rho_inf(b2))

    d_bc1, d_bc2 = correction_error(times[0], b1, scalars), correction_error(times[1], b2, scalars)
    if scalars == "exact":
        d_rho, d_limit = 8 * u * rho, 4 * u * limit
    else:
        P = mpf(b2) ** t
        T = 2 * t * P / (1 - P)
        d_limit = 3 * u * (limit + 1)
        d_T = mpf(0)
        if b2:
            relative = (4 - 3 * t * mpmath.log(b2)) * u
            d_T = T * mpmath.expm1(factor(relative) + factor(correction_error(t, b2, scalars)) + 3 * u)
        d_rho = d_limit + d_T + u * (rho + d_limit + d_T)
    log_r = 10 * u
    useful = d_rho < (rho - 4) / 2 and d_limit < (limit - 4) / 2
    if useful:
        for value, d in ((rho, d_rho), (limit, d_limit)):
            log_r += sum(factor((d + u * abs(value - c)) / (value - c)) for c in (4, 2, 0)) / 2
    log_bc1, log_bc2 = factor(d_bc1), factor(d_bc2)
    return {
        "rho": d_rho,
        "limit": d_limit,
        "useful": useful,
        "rectified": mpmath.expm1(log_r + log_bc2 / 2 + log_bc1 + 6 * u) if useful else mpf("inf"),
        "adam": mpmath.expm1(log_bc2 / 2 + log_bc1 + 6 * u),
        "momentum": mpmath.expm1(log_bc1 + 3 * u),
        "eps": mpmath.expm1(log_bc2 / 2 + 3 * u),
        "bc2": mpmath.expm1(log_bc2),
    }


@pytest.mark.parametrize("scalars", ["textbook", "exact"])
def test_the_bounds_are_those_of_the_docstring(scalars: Any) -> None:
    """Evaluated in float64 by at most 256 roundings of positive terms, where no l(d) is near its pole."""

    def same(computed: float, right: Any) -> bool:
        if computed == math.inf or right == mpf("inf"):
            return computed == right
        return bool(right > 1e-3) or bool(abs(computed - right) <= 256 * mpf(2) ** -53 * right)

    with mpmath.workprec(BITS):
        for t, b1, b2 in (*cases(300), (10**6, 0.9, 0.9), (40_000, 0.9, 0.75)):
            where = (t, b1, b2)
            right = documented(t, (t, t), b1, b2, scalars)
            for optimized_update in (False, True):
                for amsgrad_of in ("uncorrected", "corrected"):
                    adam = Adam(
                        betas=(b1, b2),
                        optimized_update=optimized_update,
                        amsgrad=True,
                        amsgrad_of=amsgrad_of,  # type: ignore[arg-type]
                    ).scalar_error(t, scalars)
                    scaled = optimized_update == (amsgrad_of == "corrected")
                    assert same(adam.eps, right["eps"] if scaled else mpf(2) ** -53), where
                    assert same(adam.size, right["adam"]), where
                    assert same(adam.bc2, right["bc2"]), where
                    assert (adam.rho, adam.decided) == (0.0, True)
            for threshold in (4.0, 5.0, 7.5):
                radam = RAdam(betas=(b1, b2), threshold=threshold)
                error, branch = radam.scalar_error(t, scalars), radam.branch(t)
                rho, limit = mpf(rho_t(t, b2)), mpf(rho_inf(b2))
                assert same(error.rho, right["rho"]), where
                assert same(error.size, right["rectified" if branch == "adaptive" else "momentum"]), where
                away = abs(rho - threshold) / (right["rho"] + 4 * mpf(2) ** -53 * rho)
                away = min(away, abs(limit - 4) / right["limit"])
                if branch == "adaptive" and not right["useful"]:
                    away = mpf(0)
                if abs(away - 1) > 1e-9:
                    assert error.decided == (away > 1), where
        warm = Adam(betas=(0.99, 0.9), variance_warmup=7, optimized_update=False)
        right = documented(19, (12, 19), 0.99, 0.9, scalars)
        assert same(warm.scalar_error(19, scalars).size, right["adam"])
        assert warm.scalar_error(7, scalars).size == 0


def documented_exact(t: int, b1: float, b2: float, scalars: str) -> dict[str, Any]:
    """What the docstring says of the exact rectification, in arbitrary precision."""
    u = mpf(2) ** -53
    n, limit, P = mpf(n_eff(t, b2)), mpf(rho_inf(b2)), mpf(b2) ** t
    paper = documented(t, (t, t), b1, b2, scalars)
    log_bc1, log_bc2 = mpmath.log1p(-correction_error(t, b1, scalars)), mpmath.log1p(paper["bc2"])
    if scalars == "exact":
        d_n, d_limit = 12 * u * n, 4 * u * limit
    else:
        d_limit = 3 * u * (limit + 1)
        d_P = (4 - 3 * t * mpmath.log(b2)) * u * P if b2 else mpf(0)
        d_bc2 = correction_error(t, b2, scalars)
        d_n = n * mpmath.expm1(factor(d_limit / limit) + factor(d_P / (1 + P)) + factor(d_bc2) + 4 * u)
    useful = d_n < (n - 2) / 2 and d_limit < (limit - 2) / 2
    log_r = 40 * u
    if useful:
        log_r += sum(factor(d / (x - 2) + u) / 2 + mpf(3) / 2 * d / x for x, d in ((n, d_n), (limit, d_limit)))
    return {
        "rho": d_n,
        "size": mpmath.expm1(log_r + log_bc2 / 2 - log_bc1 + 6 * u) if useful else mpf("inf"),
        "momentum": mpmath.expm1(-log_bc1 + 3 * u),
        "useful": useful,
        "away": min(abs(n - 2) / (d_n + 4 * u * n), abs(limit - 2) / d_limit),
    }


@pytest.mark.parametrize("scalars", ["textbook", "exact"])
def test_the_bounds_of_the_exact_rectification_are_those_of_the_docstring(scalars: Any) -> None:
    """As above; beta2 also around 1/3 and (3 - sqrt 5)/2, where rho_inf and n_3 are 2."""
    around = [(t, 0.9, b2 + gap) for t in (3, 4, 40) for b2 in (1 / 3, 1.5 - 1.25**0.5) for gap in (-1e-14, 0, 1e-13)]
    with mpmath.workprec(BITS):
        for t, b1, b2 in (*cases(200), *around):
            where = (t, b1, b2)
            radam = RAdam(betas=(b1, b2), rectification="exact")
            error, branch = radam.scalar_error(t, scalars), radam.branch(t)
            right = documented_exact(t, b1, b2, scalars)
            size = right["size" if branch == "adaptive" else "momentum"]
            for computed, bound in ((error.rho, right["rho"]), (error.size, size)):
                if math.isinf(computed) or bound == mpf("inf"):
                    assert computed == bound, where
                elif bound < 1e-3 * max(1, n_eff(t, b2)):
                    assert abs(computed - bound) <= 256 * mpf(2) ** -53 * bound, where
            away = mpf(0) if branch == "adaptive" and not right["useful"] else right["away"]
            if abs(away - 1) > 1e-9:
                assert error.decided == (away > 1), where


def test_the_bound_of_the_exact_rectification_is_one() -> None:
    """By the law's own variance, in which nothing cancels, with n_t by its closed form and by positive sums."""
    ratios = {scalars: Ratios() for scalars in ("textbook", "exact")}
    with mpmath.workprec(BITS):
        for t, b1, b2 in cases(300):
            radam = RAdam(lr=0.1, betas=(b1, b2), rectification="exact")
            if radam.branch(t) != "adaptive":
                continue
            limit = (1 + b2) / (1 - b2)
            closed = [limit * bc / (1 + b2**t) for _, bc in corrections(t, b2)]
            weights = np.power(b2, np.arange(t))
            summed = [float(np.sum(weights) ** 2 / np.sum(weights**2))]
            bc1 = float((1 - b1) * np.sum(np.power(b1, np.arange(t))))
            bc2 = float((1 - b2) * np.sum(weights))
            exact = mpf(0.1) * exact_r_t(t, mpf(b2))
            exact = exact * mpmath.sqrt(bias_correction(t, mpf(b2))) / bias_correction(t, mpf(b1))
            for scalars, ns in (("textbook", closed), ("exact", summed)):
                bound = radam.scalar_error(t, scalars)  # type: ignore[arg-type]
                for n in ns:
                    where = (t, b1, b2)
                    ratios[scalars].add("n", n, n_eff(t, mpf(b2)), bound.rho / n_eff(t, b2), where)
                    if math.isfinite(bound.size):
                        r = math.sqrt(ScaledInverseChi2(limit).variance_psi() / ScaledInverseChi2(n).variance_psi())
                        ratios[scalars].add("size", 0.1 * r * math.sqrt(bc2) / bc1, exact, bound.size, where)
    for each in ratios.values():
        assert set(each.worst) == {"n", "size"}
        assert min(each.worst.values()) > 1 / 20, each.worst


@pytest.mark.parametrize("side", [-1, 1])
def test_undecided_within_the_error_and_the_oracles_own(side: int) -> None:
    """8u rho_t of an implementation, and 4u rho_t of an oracle that compares a rounded rho_t: 84u at rho_7 = 6.99."""
    u, rho = 2.0**-53, rho_t(7, 0.999)
    for distance, decided in ((0, False), (16, False), (56, False), (64, False), (80, False), (88, True)):
        oracle = RAdam(betas=(0.9, 0.999), threshold=rho + side * distance * u)
        assert oracle.scalar_error(7, "exact").decided == decided


def test_no_useful_bound_within_twice_the_error_of_four() -> None:
    """8u rho_t is 32u there: up to rho_t = 4 + 64u the size has no bound, and beyond it has."""
    u, seen = 2.0**-53, set()
    for t in range(6, 40):
        low, high = 0.6, 0.8
        while math.nextafter(low, 1) < high:
            middle = (low + high) / 2
            low, high = (middle, high) if rho_t(t, middle) < 4 else (low, middle)
        for _ in range(8):
            above = (rho_t(t, high) - 4) / u
            size = RAdam(betas=(0.9, high), threshold=4.0).scalar_error(t, "exact").size
            assert math.isinf(size) == (above <= 64), above
            seen.add(above)
            high = math.nextafter(high, 1)
    assert seen & {56, 64}
    assert seen & {72, 80}


def test_a_relative_error_of_one_has_no_bound() -> None:
    assert [_log_factor(delta) for delta in (0.0, 1.0, 1.5)] == [0.0, math.inf, math.inf]


def test_undecided_at_equality() -> None:
    t, b2 = 12, 0.8
    for strict in (False, True):
        oracle = RAdam(betas=(0.9, b2), threshold=rho_t(t, b2), strict=strict)
        assert oracle.branch(t) == ("momentum" if strict else "adaptive")
        assert not oracle.scalar_error(t, "exact").decided
    # one unit below 4: no usual evaluation can tell on which side
    assert rho_inf(0.6) == 3.9999999999999996
    assert not RAdam(betas=(0.9, 0.6)).scalar_error(50).decided


def test_what_has_no_scalars_has_no_error() -> None:
    assert SGD().scalar_error(3) == (0, 0, 0, True, 0)
    assert RAdam(degenerated_to_sgd=False).scalar_error(3).size == 0
    assert Adam(variance_warmup=5).scalar_error(5).size == 0
    # bc1 of Adam-2k counts from the end of the warm-up
    warm = Adam(variance_warmup=5, betas=(0.999, 0.0)).scalar_error(6)
    assert warm.size == Adam(betas=(0.999, 0.0)).scalar_error(1).size


def test_arguments() -> None:
    with pytest.raises(ValueError, match='scalars must be "textbook" or "exact", but is \'good\''):
        RAdam().scalar_error(1, "good")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="t must be an integer >= 1"):
        RAdam().scalar_error(0)
