"""The streamed simulation: exact moments, the documented random numbers, the same bits however it is run."""

from __future__ import annotations

import inspect
import math
import os
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from reference import monte_carlo
from reference.monte_carlo import Estimate, Moments, Simulation, ema, simulate

U = 2.0**-53
SMALL: dict[str, Any] = {"at": [3, 9, 12], "trajectories": 1000, "block": 128, "keep": [9], "seed": 7}


class Interruption(Exception):
    pass


def interrupt_at(limit: int) -> Callable[[int, int], None]:
    def progress(done: int, trajectories: int) -> None:
        if done >= limit:
            raise Interruption

    return progress


def assert_same_bits(one: Simulation, other: Simulation) -> None:
    assert one == other
    assert one.samples.keys() == other.samples.keys()
    for t, sample in one.samples.items():
        assert np.array_equal(sample, other.samples[t])


def central_sums(sample: np.ndarray, merges: int) -> list[tuple[Fraction, float]]:
    """Return the exact mean, M_2, M_3 and M_4 of a sample, and how far `Moments` may be off.

    A mean, summed and merged, is off by at most h = (2n + 10 merges + 10) u S, S = max |x_i|. Means that are off by h
    act as if every x_i had been moved by 2h, and so its deviation d_i by 4h: M_p moves by sum (|d_i| + 4h)^p - |d_i|^p.
    Rounding of the terms: each merge's are at most 4^p sum |d_i|^p in sum (2^(p-1) (2^p + 1), from |x + y|^p <=
    2^(p-1) (|x|^p + |y|^p) and deviations about a part's own mean, which are at most twice as large in the p-norm), and
    pass through n + 30 roundings.
    """
    x = [Fraction(float(value)) for value in sample]
    n = len(x)
    mean = sum(x) / n
    h = (2 * n + 10 * merges + 10) * U * float(np.abs(sample).max())
    result = [(mean, h)]
    for p in (2, 3, 4):
        d = [value - mean for value in x]
        exact = sum(value**p for value in d)
        size = [abs(float(value)) for value in d]
        moved = math.fsum((value + 4 * h) ** p for value in size)
        excess = math.fsum(4 * h * p * (value + 4 * h) ** (p - 1) for value in size)
        result.append((Fraction(exact), excess + 4**p * (n + 30 * merges + 10) * U * moved))
    return result


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 60),
    cuts=st.lists(st.integers(0, 60), max_size=8),
    offset=st.sampled_from([0.0, 3.0, -1e6]),
    left_to_right=st.booleans(),
)
def test_moments_of_any_split(seed: int, n: int, cuts: list[int], offset: float, left_to_right: bool) -> None:
    sample = np.random.default_rng(seed).standard_exponential(n) + offset
    parts = [Moments.of(part) for part in np.split(sample, sorted(c for c in cuts if c <= n)) if part.size]
    merges = len(parts) - 1
    while len(parts) > 1:
        i = 0 if left_to_right else len(parts) // 2 - 1
        parts[i : i + 2] = [parts[i].merge(parts[i + 1])]
    (found,) = parts
    assert found.count == n
    values = (found.mean, found.m2, found.m3, found.m4)
    for value, (exact, bound) in zip(values, central_sums(sample, merges), strict=True):
        assert abs(Fraction(float(value)) - exact) <= bound


def test_the_bound_on_the_moments_is_sharp_enough() -> None:
    """It would see a wrong sign or factor in the formulas."""
    sample = np.random.default_rng(0).standard_exponential(60)
    for exact, bound in central_sums(sample, 8):
        assert bound < 1e-8 * abs(exact)


def test_moments_of_many_samples() -> None:
    samples = np.random.default_rng(1).standard_normal((2, 3, 50))
    together = Moments.of(samples)
    assert (together.count, together.mean.shape) == (50, (2, 3))
    assert together.m4[1, 2] == Moments.of(samples[1, 2]).m4
    assert together != Moments.of(samples[::-1])
    assert together != 0
    for count in (49, 51):
        assert together != replace(together, count=count)
    for empty in (np.empty((3, 0)), 1.0):
        with pytest.raises(ValueError, match=r"samples must have shape \(\.\.\., n\), n >= 1"):
            Moments.of(empty)


def test_results_are_frozen() -> None:
    result = simulate(0.9, [9], 10)
    for one, name in ((result, "seed"), (result[9], "t"), (result[9].psi, "count"), (result[9].log_mean, "value")):
        with pytest.raises(FrozenInstanceError):
            setattr(one, name, 1)
    assert "samples" not in repr(result)
    with pytest.raises(FrozenInstanceError):
        ema(0.9).beta2 = 0.5  # type: ignore[attr-defined]


@settings(deadline=None, max_examples=50)
@given(
    t=st.integers(1, 30),
    beta2=st.one_of(st.just(0.0), st.floats(1e-6, 1 - 1e-9)),
    seed=st.integers(0, 2**32),
)
def test_recurrence_is_the_weighted_sum(t: int, beta2: float, seed: int) -> None:
    g = np.random.default_rng(seed).uniform(0.1, 10, (t, 2))
    step = ema(beta2)(2)
    for row in g:
        v = step(row)
    b = Fraction(beta2)
    for i in range(2):
        exact = sum((1 - b) * b ** (t - k) * Fraction(g[k - 1, i]) ** 2 for k in range(1, t + 1))
        # positive terms, each rounded at most t times by b, t times in sums, and thrice when it is formed
        assert abs(Fraction(float(v[i])) - exact) <= (2 * t + 3) * U * 1.001 * exact


@pytest.mark.parametrize(("mean", "sigma"), [(0.0, 1.0), (-0.5, 3.0), (0.5, 1.0), (1.0, 0.5), (-1.0, 1.0)])
def test_random_numbers_are_the_documented_ones(mean: float, sigma: float) -> None:
    result = simulate(0.9, [5, 2], 10, block=4, keep=[2, 5], seed=3, mean=mean, sigma=sigma)
    expected: dict[int, list[np.ndarray]] = {2: [], 5: []}
    for n, child in zip((4, 4, 2), np.random.SeedSequence(3).spawn(3), strict=True):
        v = np.zeros(n)
        for t, g in enumerate(np.random.Generator(np.random.PCG64(child)).standard_normal((5, n)), start=1):
            v = 0.9 * v + (1 - 0.9) * (mean + sigma * g) ** 2
            if t in expected:
                expected[t].append(v / (1 - Fraction(0.9) ** t))
    for t, parts in expected.items():
        assert np.array_equal(result.samples[t], np.concatenate(parts).astype(float))
    assert list(result.steps) == [2, 5]
    assert (result.mean, result.sigma, result.trajectories) == (mean, sigma, 10)


@pytest.mark.parametrize("block", [1, 7, 100, 250, 4000])
def test_estimates_are_those_of_the_whole_sample(block: int) -> None:
    n = 300
    result = simulate(0.9, [1, 9, 40], n, block=block, keep=[1, 9, 40], confidence=0.9)
    for t, q in result.samples.items():
        assert q.shape == (n,)
        found = result[t]
        for moments, x in ((found.psi, 1 / np.sqrt(q)), (found.log, np.log(q))):
            sums = central_sums(x, -(-n // block))
            for value, (exact, bound) in zip((moments.mean, moments.m2, moments.m3, moments.m4), sums, strict=True):
                assert abs(Fraction(float(value)) - exact) <= bound
        x = np.log(q)
        # the sums are good to 1e-12, as the bound says; SciPy's are no worse
        interval = stats.t.interval(0.9, n - 1, loc=x.mean(), scale=stats.sem(x))
        assert found.log_mean.interval == pytest.approx(interval, rel=1e-10, abs=0)
        if t >= 9:
            psi = 1 / np.sqrt(q)
            s2 = np.var(psi, ddof=1)
            error = math.sqrt((stats.moment(psi, 4) - s2**2 * (n - 3) / (n - 1)) / n)
            assert found.psi_variance.value == pytest.approx(s2, rel=1e-10, abs=0)
            assert found.psi_variance.standard_error == pytest.approx(error, rel=1e-10, abs=0)
            interval = stats.t.interval(0.9, n - 1, loc=s2, scale=error)
            assert found.psi_variance.interval == pytest.approx(interval, rel=1e-10, abs=0)


@pytest.mark.parametrize("beta2", [0.0, 1e-6, 0.5, 0.999])
def test_intervals_exist_where_the_moments_do(beta2: float) -> None:
    result = simulate(beta2, range(1, 12), 100)
    for t, found in result.steps.items():
        squares = t if beta2 > 0 else 1
        assert found.t == t
        assert found.log_mean.interval is not None
        assert (found.psi_mean.interval is not None) == (squares >= 3)
        assert (found.psi_mean.value == math.inf) == (squares == 1)
        assert (found.psi_variance.interval is not None) == (squares >= 9)
        assert (found.psi_variance.value == math.inf) == (squares <= 2)
        for estimate in (found.psi_mean, found.psi_variance, found.log_mean):
            assert (estimate.interval is None) == (estimate.standard_error is None) == (estimate.reason != "")
            if estimate.interval is not None:
                assert estimate.interval[0] < estimate.value < estimate.interval[1]
            else:
                assert f"at t = {t}" in estimate.reason
        power = {1: 0, 2: 0, 3: 4, 4: 4}.get(squares, 8)
        reason = "Var[psi] is infinite" if power == 0 else f"E[psi^{power}] = inf"
        assert squares >= 9 or reason in found.psi_variance.reason
        if squares < 9:
            rule = f"at t = {t}, beta2 = 0: " if beta2 == 0 and t > 1 else f"at t = {t}: "
            assert rule in found.psi_variance.reason
            assert ("v_t is one square" in found.psi_variance.reason) == (beta2 == 0 and t > 1)


def accepted(rate_low: float, rate_high: float, repetitions: int) -> tuple[float, float]:
    """Return the counts that a rate in the given range leaves with a probability of at most 1e-9 together."""
    low = stats.binom.ppf(2.5e-10, repetitions, rate_low)
    high = stats.binom.isf(2.5e-10, repetitions, rate_high)
    return float(low), float(high)


def covers(estimate: Estimate, value: float) -> bool:
    assert estimate.interval is not None
    return estimate.interval[0] <= value <= estimate.interval[1]


def test_intervals_of_normal_samples_cover() -> None:
    repetitions, n = 1000, 1000
    samples = Moments.of(np.random.default_rng(5).standard_normal((repetitions, n)))
    counts = np.zeros(2, dtype=int)
    for i in range(repetitions):
        one = Moments(n, *(np.asarray(a[i]) for a in (samples.mean, samples.m2, samples.m3, samples.m4)))
        found = monte_carlo._estimates(100, 0.9, one, one, 0.9)
        counts += [covers(found.psi_mean, 0.0), covers(found.psi_variance, 1.0)]
    low, high = accepted(0.9, 0.9, repetitions)  # Student's interval is exact for the mean
    assert low <= counts[0] <= high
    low, high = accepted(0.88, 0.91, repetitions)  # the other one off by O(1/n), with n/50 for the constant
    assert low <= counts[1] <= high


def test_intervals_of_a_simulation_cover() -> None:
    """As b -> 1, Q_t ~ chi2_t / t: relative to it the moments here are off by less than t (1 - b) = 2e-8."""
    t, n, repetitions = 20, 250, 600
    psi = math.sqrt(t / 2) * math.exp(special.gammaln((t - 1) / 2) - special.gammaln(t / 2))
    log = special.digamma(t / 2) + math.log(2 / t)
    counts = np.zeros(2, dtype=int)
    for seed in range(repetitions):
        found = simulate(1 - 1e-9, [t], n, seed=seed, confidence=0.9)[t]
        counts += [covers(found.psi_mean, psi), covers(found.log_mean, log)]
    # the coverage is off by O(1/n), with n/50 for the constant as above (the skewness of psi_20 is below 1)
    low, high = accepted(0.88, 0.92, repetitions)
    assert low <= counts.min()
    assert counts.max() <= high


def test_interruption_at_every_block_changes_nothing(tmp_path: Path) -> None:
    whole = simulate(0.9, **SMALL)
    for limit in range(0, 1001, 128):
        path = tmp_path / str(limit)
        with pytest.raises(Interruption):
            simulate(0.9, **SMALL, resume=path, progress=interrupt_at(limit))
        assert path.exists() == (limit > 0)
        calls: list[tuple[int, int]] = []
        resumed = simulate(0.9, **SMALL, resume=path, progress=lambda *call, calls=calls: calls.append(call))
        assert calls == [(done, 1000) for done in [*range(limit, 1000, 128), 1000]]
        assert_same_bits(resumed, whole)
    assert not list(tmp_path.glob("*.tmp"))


def test_interruption_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "partial"
    for limit in (128, 256, 640, 1000):
        with pytest.raises(Interruption):
            simulate(0.9, **SMALL, resume=path, progress=interrupt_at(limit))
    before = path.read_bytes()
    finished = simulate(0.9, **SMALL, resume=path)
    assert_same_bits(finished, simulate(0.9, **SMALL))
    assert path.read_bytes() == before  # nothing was left to do
    assert simulate(0.9, **SMALL, resume=path, confidence=0.5)[9].log != finished[3].log
    assert simulate(0.9, **SMALL, resume=path, confidence=0.5)[9].log == finished[9].log


def test_two_workers_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "partial"
    with pytest.raises(Interruption):  # three blocks before the end, which are then simulated here
        simulate(0.9, **SMALL, workers=2, resume=path, progress=interrupt_at(640))
    calls: list[int] = []
    resumed = simulate(0.9, **SMALL, resume=path, progress=lambda done, n: calls.append(done))
    assert calls == [640, 768, 896, 1000]
    assert_same_bits(resumed, simulate(0.9, **SMALL))


class HerePool:
    """An executor whose work is done here, when its result is asked for."""

    made: ClassVar[list[HerePool]] = []

    def __init__(self, workers: int, mp_context: Any) -> None:
        self.workers, self.start = workers, mp_context.get_start_method()
        self.waiting = self.most = 0
        self.cancelled = False
        self.made.append(self)

    def submit(self, function: Any, *arguments: Any) -> Any:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        return SimpleNamespace(result=partial(self._result, function, *arguments))

    def _result(self, function: Any, *arguments: Any) -> Any:
        self.waiting -= 1
        return function(*arguments)

    def shutdown(self, cancel_futures: bool) -> None:
        self.cancelled = cancel_futures


@pytest.mark.parametrize(
    ("workers", "trajectories", "expected"), [(1, 1000, None), (2, 128, None), (2, 129, 2), (3, 1000, 3), (20, 1000, 8)]
)
def test_workers_are_as_many_as_asked_for_and_as_have_a_block(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, workers: int, trajectories: int, expected: int | None
) -> None:
    monkeypatch.setattr(monte_carlo, "ProcessPoolExecutor", HerePool)
    monkeypatch.setattr(HerePool, "made", [])
    arguments = {**SMALL, "trajectories": trajectories}
    assert_same_bits(simulate(0.9, **arguments, workers=workers), simulate(0.9, **arguments))
    assert [pool.workers for pool in HerePool.made] == ([] if expected is None else [expected])
    for pool in HerePool.made:
        # Of results that wait for an earlier one there are never many; no process is forked from one that has threads.
        assert pool.most == min(2 * workers + 1, -(-trajectories // 128))
        assert (pool.start, pool.cancelled) == ("spawn", True)
    for done, number in ((640, 8), (896, 3)):
        with pytest.raises(Interruption):
            simulate(0.9, **SMALL, workers=20, resume=tmp_path / "partial", progress=interrupt_at(done))
        pool = HerePool.made.pop()
        assert (pool.workers, pool.cancelled) == (number, True)
    # One block is left, and then none.
    for _ in range(2):
        simulate(0.9, **SMALL, workers=2, resume=tmp_path / "partial")
    assert len(HerePool.made) == (expected is not None)


@pytest.mark.deep
@pytest.mark.parametrize("workers", [2, 3, 20])
def test_any_number_of_workers_changes_nothing(workers: int, tmp_path: Path) -> None:
    whole, path = simulate(0.9, **SMALL), tmp_path / "partial"
    assert_same_bits(simulate(0.9, **SMALL, workers=workers), whole)
    for limit in (256, 640):
        with pytest.raises(Interruption):
            simulate(0.9, **SMALL, workers=workers, resume=path, progress=interrupt_at(limit))
    assert_same_bits(simulate(0.9, **SMALL, workers=workers, resume=path), whole)


def test_a_lost_process_loses_seconds_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written while the simulation goes on is a whole state."""
    monkeypatch.setattr(monte_carlo, "_WRITE_EVERY", 0.0)
    monkeypatch.setattr(monte_carlo, "_WRITE_SHARE", math.inf)
    path, copy = tmp_path / "partial", tmp_path / "copy"

    def progress(done: int, trajectories: int) -> None:
        if done == 512:
            shutil.copy(path, copy)

    whole = simulate(0.9, **SMALL, resume=path, progress=progress)
    calls: list[int] = []
    assert_same_bits(simulate(0.9, **SMALL, resume=copy, progress=lambda done, n: calls.append(done)), whole)
    assert calls[0] == 384  # written after the block before


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (0.0, [5, 10, 15, 20, 25, 30]),  # every five seconds
        (0.5, [5, 15, 25, 30]),  # or so seldom that it takes no more than a twentieth of the time; and at the end
    ],
)
def test_how_often_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cost: float, expected: list[int]) -> None:
    now, written = 0.0, []

    def write(path: Path, identity: Any, state: Any, plan: Any) -> None:
        nonlocal now
        now += cost
        written.append(state.done)

    def a_second_for_each_block(done: int, trajectories: int) -> None:
        nonlocal now
        now = now + 1 if done else 0.0

    monkeypatch.setattr(monte_carlo, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(monte_carlo, "_write", write)
    simulate(0.9, [1], 30, block=1, resume=tmp_path / "partial", progress=a_second_for_each_block)
    assert written == expected


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "partial"
    with pytest.raises(Interruption):
        simulate(0.9, **SMALL, resume=path, progress=interrupt_at(500))
    before = path.read_bytes()

    def broken(file: Any, **arrays: Any) -> None:
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(OSError, match="no space"):
        simulate(0.9, **SMALL, resume=path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["partial"]
    assert path.read_bytes() == before


def test_the_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "partial"
    with pytest.raises(Interruption):
        simulate(0.9, **SMALL, resume=path, progress=interrupt_at(500))
    before = path.read_bytes()
    with path.open("rb") as reader:
        simulate(0.9, **SMALL, resume=path)
        assert reader.read() == before  # the new state is in another file, of the same name
    assert path.read_bytes() != before


def in_float32(n: int) -> Callable[[np.ndarray], np.ndarray]:
    v = np.zeros(n, dtype=np.float32)

    def step(g: np.ndarray) -> np.ndarray:
        v[:] = np.float32(0.9) * v + np.float32(0.1) * g.astype(np.float32) ** 2
        return v

    return step


def other_after_step_11(n: int) -> Callable[[np.ndarray], np.ndarray]:
    step, calls = ema(0.9)(n), []

    def other(g: np.ndarray) -> np.ndarray:
        calls.append(g)
        return step(g) * (1 if len(calls) <= 11 else 1 + 4 * U)

    return other


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta2": 0.99}, "beta2 is 0.9 there and 0.99 here"),
        ({"at": [3, 9, 13]}, r"at is \[3, 9, 12\] there and \[3, 9, 13\] here"),
        ({"keep": []}, r"keep is \[9\] there and \[\] here"),
        ({"trajectories": 1001}, "trajectories is 1000 there and 1001 here"),
        ({"block": 64, "seed": 8}, "seed is 7 there and 8 here; block is 128 there and 64 here"),
        ({"mean": 0.1}, "mean is 0.0 there and 0.1 here"),
        ({"sigma": 2.0}, "sigma is 1.0 there and 2.0 here; answers of the source"),
        (
            {"source": other_after_step_11},
            r": answers of the source \(SHA-256\) is '[^;]* here\. To go on, name another",
        ),
        ({"source": in_float32}, r": answers of the source \(SHA-256\) is '[^;]* here\. To go on, name another"),
    ],
)
def test_the_file_of_another_simulation_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "partial"
    with pytest.raises(Interruption):
        simulate(0.9, **SMALL, resume=path, progress=interrupt_at(500))
    before = path.read_bytes()
    calls: list[int] = []
    with pytest.raises(ValueError, match=message) as caught:
        simulate(**{"beta2": 0.9, **SMALL, **change}, resume=path, progress=lambda done, n: calls.append(done))
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert calls == []


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "partial"
    simulate(0.9, **SMALL, resume=path)
    whole = path.read_bytes()
    np.savez(tmp_path / "other.npz", identity=np.array("[]"))
    np.savez(tmp_path / "pickled.npz", identity=np.array([{}], dtype=object))
    contents = [b"", b"text", whole[:1000], whole[:-30], whole.replace("seed".encode("utf-32-le"), b"seed" * 4)]
    contents.append(whole.replace(np.int64(1000).tobytes(), np.int64(1001).tobytes()))  # a count
    contents += [(tmp_path / name).read_bytes() for name in ("other.npz", "pickled.npz")]
    for content in contents:
        assert content != whole
        path.write_bytes(content)
        with pytest.raises(ValueError, match="holds no partial simulation: name another resume file, or delete"):
            simulate(0.9, **SMALL, resume=path)
        assert path.read_bytes() == content
    if os.geteuid() != 0:
        path.chmod(0)
        with pytest.raises(PermissionError):
            simulate(0.9, **SMALL, resume=path)


def test_a_source_of_ones_own() -> None:
    result = simulate(0.9, [12], 1000, source=in_float32, keep=[12])
    exact = simulate(0.9, [12], 1000, keep=[12])
    # as in test_recurrence_is_the_weighted_sum, with u = 2^-24, one rounding more of g and of each beta
    assert np.abs(result.samples[12] / exact.samples[12] - 1).max() <= (3 * 12 + 6) * 2.0**-24
    assert result.samples[12].dtype == np.float64
    assert not np.array_equal(result.samples[12], exact.samples[12])


def answering(answer: Any, n: int, late: bool = False) -> Callable[[np.ndarray], Any]:
    step, calls = ema(0.9)(n), []

    def answer_instead(g: np.ndarray) -> Any:
        calls.append(g)
        v = step(g)
        return v if late and len(calls) < 20 else answer(v)

    return answer_instead


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda v: None, "but returned None at t = 1"),
        (lambda v: v[:-1], r"floats of shape \(3,\), but returned an array of shape \(2,\), dtype float64 at t = 1"),
        (lambda v: v[:, None], r"but returned an array of shape \(3, 1\), dtype float64"),
        (lambda v: v.astype(int), "dtype int64"),
        (lambda v: v.astype(complex), "dtype complex128"),
        (lambda v: -v, r"positive and finite, but v_t\[0\] is -"),
        (lambda v: v * [1, math.nan, 1], r"v_t\[1\] is nan at t = 1: look for an error in the source"),
        (lambda v: v * [1, 1, math.inf], r"v_t\[2\] is inf"),
        (lambda v: 0 * v, r"v_t\[0\] is 0.0"),
    ],
)
def test_answers_that_are_refused_beforehand(answer: Any, message: str) -> None:
    calls: list[int] = []
    with pytest.raises(ValueError, match=message):
        simulate(0.9, [5], 10, source=partial(answering, answer), progress=lambda done, n: calls.append(done))
    assert calls == []


def test_answers_that_are_refused_later() -> None:
    source = partial(answering, lambda v: 0 * v, late=True)
    assert simulate(0.9, [19], 10, source=source)[19].t == 19
    with pytest.raises(ValueError, match=r"v_t\[0\] is 0.0 at t = 20"):
        simulate(0.9, [19, 20], 10, source=source)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta2": 1.0}, r"beta2 must be in \[0, 1\), but is 1.0"),
        ({"beta2": math.nan}, "beta2"),
        ({"beta2": 1.5}, r"beta2 must be in \[0, 1\), but is 1.5"),
        ({"at": []}, "at must name at least one step"),
        ({"at": [0, 3]}, "each step of at must be an integer >= 1, but is 0"),
        ({"at": [2.5]}, "each step of at must be an integer >= 1, but is 2.5"),
        ({"keep": [4]}, r"keep must be among the steps of at, but \[4\] are not: add them"),
        ({"keep": [-1]}, "each step of keep must be an integer >= 1, but is -1"),
        ({"trajectories": 1}, "trajectories must be an integer >= 2, but is 1"),
        ({"mean": math.nan}, "mean must be in .*, but is nan"),
        ({"sigma": 0.0}, "sigma must be in .*, but is 0.0: psi only scales with it"),
        ({"sigma": math.inf}, "sigma must be in .*, but is inf"),
        ({"seed": -1}, "seed must be an integer >= 0, but is -1"),
        ({"block": 0}, "block must be an integer >= 1, but is 0"),
        ({"workers": 0}, "workers must be an integer >= 1, but is 0"),
        *(
            ({"confidence": value}, rf"confidence must be in \(0, 1\), but is {value}")
            for value in (1.0, 1.5, 0.0, -0.5)
        ),
        ({"mean": 1.1e30}, "mean must be in .*, but is 1.1e[+]30"),
        ({"resume": "/nonexistent/folder/file"}, "'/nonexistent/folder' does not"),
    ],
)
def test_arguments_that_are_refused(change: dict[str, Any], message: str) -> None:
    calls: list[int] = []
    arguments = {"beta2": 0.9, "at": [3], "trajectories": 10, "progress": lambda done, n: calls.append(done)}
    with pytest.raises(ValueError, match=message):
        simulate(**{**arguments, **change})
    assert calls == []


def test_sources_that_are_refused() -> None:
    with pytest.raises(TypeError, match="source must be callable with the number of trajectories, but is 3"):
        simulate(0.9, [3], 10, source=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"source\(n\) must return a function of the gradients"):
        simulate(0.9, [3], 10, source=lambda n: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(
        TypeError, match=r"source must be picklable for workers = 2, but .* use workers=1, or a function"
    ):
        simulate(0.9, [3], 10, source=lambda n: in_float32(n), workers=2)
    with pytest.raises(ValueError, match="beta2 must be in"):
        ema(-0.1)


def test_memory_does_not_grow_with_the_number_of_trajectories() -> None:
    def peak(blocks: int) -> int:
        tracemalloc.start()
        try:
            simulate(0.9, [1, 2, 3], 2000 * blocks, block=2000)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)  # what is kept for good
    few, many = peak(4), peak(128)
    assert many < few + 2000 * 8  # less than one array of a block; 124 blocks are 2 MB
    assert few < 150 * 2000


def test_defaults() -> None:
    given = inspect.signature(simulate).parameters
    values = {name: x.default for name, x in given.items() if x.kind is x.KEYWORD_ONLY and x.default is not None}
    assert values.pop("keep") == ()
    assert values == {"mean": 0.0, "sigma": 1.0, "seed": 0, "block": 8192, "workers": 1, "confidence": 0.95}


def test_extreme_scales() -> None:
    for mean in (-1e30, 1e30):
        # psi is 1/|mean| to a relative 1/|mean|.
        assert simulate(0.9, [3], 10, mean=mean)[3].psi_mean.value == pytest.approx(1e-30, rel=1e-14, abs=0)
    for sigma in (1e-30, 1e30):
        scaled, standard = (simulate(0.9, [1, 10], 500, sigma=s) for s in (sigma, 1.0))
        # v is off by (2t+3) u as above, so psi by some 15 u, and its variance by 30 u E[psi]/sd(psi) < 1e-13
        ratio = scaled[10].psi_variance.value * sigma**2 / standard[10].psi_variance.value
        assert ratio == pytest.approx(1, rel=1e-12, abs=0)
