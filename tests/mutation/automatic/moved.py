"""How far mutants of the exact law's quadrature move its results, in units of the errors that are stated for them.

A mutant that takes other nodes, parts or contours for the same integrals is as right as the source, if its results are
as good. `equivalent.toml` says so of some with the words of `CLAIM`; this measures it, on laws of every kind:

    python -m tests.mutation.automatic.moved --jobs 2       # twenty minutes; exit status 1 if a result moves so far
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.mutation.automatic import mutations, reasons
from tests.mutation.forking import each_in_a_process

FILE = "reference/ema.py"
CLAIM = "no result moves by as much as its stated error"

BETAS = (1e-4, 0.1, 0.3, 0.5, 0.97, 0.999, 1 - 1e-6)
STEPS = (1, 2, 3, 5, 6, 8, 30, 1000, 20000, math.inf)
UNITS = ((0.0, 1.0), (0.5, 1.0), (3.0, 1.0), (30.0, 1.0), (0.0, 1e3), (2e-3, 1e-3))
"""Means and standard deviations of the gradients."""
POWERS = (-4, -3.3, -2.5, -1.5, -1, -0.5, -0.1, -1e-3, 1e-3, 0.3, 0.5, 0.9, 1, 1.1, 1.5, 1.9)
PROBABILITIES = (1e-12, 1e-6, 0.01, 0.3, 0.5, 0.9, 0.999, 1 - 1e-9, 1 - 1e-12)

Floats = NDArray[np.float64]


class Result(NamedTuple):
    """Some results, and how far each may be from what is right."""

    values: Floats
    allowed: Floats


def _relative(values: Any, error: float) -> Result:
    values = np.asarray(values, dtype=np.float64)
    return Result(values, error * np.abs(values))


def _absolute(values: Any, error: float) -> Result:
    values = np.asarray(values, dtype=np.float64)
    return Result(values, np.full_like(values, error))


def results(ema: ModuleType, right: ModuleType, betas: Sequence[float] = BETAS) -> dict[str, Result]:
    """What a module says of many laws; quantiles as the distribution function of the right one has them.

    Raises:
        Exception: what the module raises.
    """
    found: dict[str, Result] = {}
    with np.errstate(all="ignore"):
        for beta2 in betas:
            for mean, sigma in UNITS:
                for t in STEPS if mean in (0.0, 3.0) else STEPS[1:-3]:
                    law = ema.SecondMoment(t, beta2, mean, sigma)
                    for name, result in _of_law(law, right):
                        found[f"{law}.{name}"] = result
            for name, result in _of_passes(ema, beta2):
                found[f"{name} at beta2 = {beta2}"] = result
    return found


def _of_law(law: Any, right: ModuleType) -> Iterator[tuple[str, Result]]:
    powers = [power for power in POWERS if -law.t / 2 < power]
    yield "moment", _relative([law.moment(power) for power in powers], 1e-13)
    yield "log_mean", _absolute(law.log_mean(), 1e-12)
    yield "log_variance", _relative(law.log_variance(), 1e-12)
    yield "variance", _relative(law.variance, 1e-13)
    if law.t >= 3:
        yield "psi_variance", _relative(law.psi_variance(), 1e-13)
    if law.mean > 3:
        return
    same = right.SecondMoment(law.t, law.beta2, law.mean, law.sigma)
    sd = math.sqrt(same.variance) / same.expectation
    error = (1e-12 if law.beta2 >= 0.3 else 1e-11) + 2.0**-50 / sd
    around = np.concatenate([np.maximum(1 + sd * np.linspace(-8, 20, 41), 1e-9), np.geomspace(1e-12, 1, 13)])
    yield "cdf", _absolute(law.cdf(same.expectation * around), error)
    if law.t in (1, 3, 30, math.inf):
        yield "quantile", _absolute(same.cdf(law.quantile(PROBABILITIES)), 2 * error)


def _of_passes(ema: ModuleType, beta2: float) -> Iterator[tuple[str, Result]]:
    for mean, sigma in UNITS[:3]:
        for t in (7, 64, 65, 300):
            where = f"({t}, mean={mean}, sigma={sigma})"
            yield f"psi_variances{where}", _relative(ema.psi_variances(t, beta2, mean=mean, sigma=sigma), 1e-12)
            moments = ema.psi_moments(t, beta2, (1, 2, 4, 7), mean=mean, sigma=sigma)
            yield f"psi_moments{where}", _relative(moments, 1e-12)
    yield "r_true", _relative([ema.r_true(t, beta2) for t in (3, 6, 50)], 1e-13)


def distance(right: Mapping[str, Result], other: Mapping[str, Result]) -> tuple[float, str]:
    """The largest move of a result in units of what is allowed, and of which result."""
    worst = (0.0, "none")
    for name, (values, allowed) in right.items():
        seen = other[name].values
        same = (seen == values) | (np.isnan(values) & np.isnan(seen))
        with np.errstate(all="ignore"):
            units = np.where(same, 0.0, np.nan_to_num(np.abs(seen - values) / allowed, nan=math.inf, posinf=math.inf))
        worst = max(worst, (float(np.max(units, initial=0.0)), name))
    return worst


def module(source: str) -> ModuleType:
    """A module of its own, made of a source of `FILE`."""
    made = ModuleType("tests.mutation.automatic.moved_ema")
    # A dataclass looks up its own module.
    sys.modules[made.__name__] = made
    exec(compile(source, FILE, "exec"), made.__dict__)
    return made


def claimed() -> list[mutations.Mutant]:
    """The mutants of which `equivalent.toml` makes the claim."""
    known = reasons.read()
    return [mutant for mutant in mutations.mutants(FILE) if CLAIM in known.of(mutant)]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all of which it is claimed, print how far each moves a result, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.automatic.moved", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="mutants at once (default: 1)")
    options = parser.parse_args(argv)
    right = module((mutations.ROOT / FILE).read_text())
    expected = results(right, right)
    print(f"{sum(result.values.size for result in expected.values())} results of {FILE}", flush=True)

    def work(mutant: mutations.Mutant) -> tuple[float, str]:
        return distance(expected, results(module(mutant.source), right))

    largest = 0.0
    for done in each_in_a_process(work, claimed(), options.jobs, 600.0):
        moved, of = done.result or (math.inf, done.trouble.strip().splitlines()[-1])
        largest = max(largest, moved)
        print(f"{moved:8.2g}  {done.task.place.line} -> {done.task.place.becomes}  {of}", flush=True)
    print(f"at most {largest:.2g} of what is stated")
    return 1 if largest >= 1 else 0


if __name__ == "__main__":
    sys.exit(main())
