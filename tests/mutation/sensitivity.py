"""The smallest errors that one compared step shows: `python -m tests.mutation.sensitivity`.

A right optimizer is given a number that is multiplied by 1 + x, where the oracle is told the number itself, and takes
one step from a drawn state. The smallest x for which a comparison is out of its bound, be it positive or negative, is
found by bisection. The step size is in proportion to lr, and in an adaptive step to r_t: one number stands for both.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import radam
import reference.rectification
from radam.audit.lockstep import Lockstep, Record
from radam.audit.subjects.radam import family, oracle
from tests.mutation import right_loop

QUANTITIES = {"lr": "step size, r_t", "beta1": "beta1", "beta2": "beta2", "eps": "eps", "weight_decay": "decay"}
PRECISIONS: dict[str, tuple[torch.dtype, type[torch.optim.Optimizer], Literal["textbook", "exact"]]] = {
    "float64, exact scalars": (torch.float64, radam.RAdam, "exact"),
    "float64": (torch.float64, right_loop.RAdam, "textbook"),
    "float32": (torch.float32, right_loop.RAdam, "textbook"),
    "bfloat16": (torch.bfloat16, right_loop.RAdam, "textbook"),
    "float16": (torch.float16, right_loop.RAdam, "textbook"),
}
"""The dtype, a right optimizer, and how exact its scalars are asked to be."""
BETA1 = 0.9
BETA2 = (0.9, 0.99, 0.999, 0.9999)
LATER = (100, 10_000)
SIZE = 256
SMALLEST, LARGEST = 1e-17, 0.5


HEADING = """\
What `python -m tests.mutation.sensitivity` has printed. A number is the smallest relative error that is seen;
empty where the quantity plays no part.

"""


class Start(NamedTuple):
    """What a step starts from, in float64."""

    param: Any
    grad: Any
    exp_avg: Any
    exp_avg_sq: Any


@dataclass(frozen=True)
class Point:
    """Where the sensitivity is measured, and to what."""

    quantity: str
    precision: str
    beta2: float
    t: int

    @property
    def options(self) -> dict[str, float]:
        """Hyper-parameters with which the number in question counts."""
        eps = 1e-2 if self.quantity == "eps" else 1e-8
        decay = 1.0 if self.quantity == "weight_decay" else 0.0
        return {"lr": 0.1, "beta1": BETA1, "beta2": self.beta2, "eps": eps, "weight_decay": decay}

    @property
    def largest(self) -> float:
        """The largest error to be looked for: a decay rate stays below 1."""
        return (1.0 - self.options[self.quantity]) / 2 if "beta" in self.quantity else LARGEST


@functools.cache
def drawn() -> Start:
    """One drawn state, the same each time: half of the parameters are zero, so that nothing but the update rounds."""
    starts: list[Start] = []

    @settings(
        max_examples=2,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**32 - 1))
    def take(seed: int) -> None:
        rng = np.random.default_rng(seed)
        exp_avg = rng.standard_normal(SIZE)
        square = exp_avg**2 * (1.0 + rng.uniform(size=SIZE))
        param = np.where(np.arange(SIZE) % 2, rng.standard_normal(SIZE), 0.0)
        starts.append(Start(param, rng.standard_normal(SIZE), exp_avg, square))

    take()
    return starts[-1]


def _neutral(options: dict[str, float]) -> dict[str, Any]:
    rest = {name: value for name, value in options.items() if "beta" not in name}
    return {**rest, "betas": (options["beta1"], options["beta2"])}


def step(point: Point, factor: float) -> Record:
    """What a step shows of which one number is multiplied by a factor."""
    dtype, optimizer_class, scalars = PRECISIONS[point.precision]
    told = point.options
    given = {**told, point.quantity: told[point.quantity] * factor}
    param = torch.nn.Parameter(torch.zeros(SIZE, dtype=dtype))
    optimizer = family(optimizer_class).build([param], _neutral(given))
    param.grad = torch.zeros_like(param)
    optimizer.step()
    start = drawn()
    # With small gradients eps counts, and without any decay is alone.
    scale = 1e-2 if point.quantity == "eps" else 1.0
    with torch.no_grad():
        param.copy_(torch.tensor(start.param))
        optimizer.state[param]["exp_avg"].copy_(torch.tensor(start.exp_avg * scale))
        optimizer.state[param]["exp_avg_sq"].copy_(torch.tensor(start.exp_avg_sq * scale**2))
        if point.quantity != "weight_decay":
            param.grad.copy_(torch.tensor(start.grad * scale))
    lockstep = Lockstep(optimizer, [_neutral(told)], oracle, scalars=scalars, keep_going=True)
    lockstep.jump(param, point.t - 1)
    lockstep.step()
    return lockstep.record


def is_seen(point: Point, error: float) -> bool:
    """Whether a relative error is seen, be it positive or negative."""
    return all(step(point, 1.0 + sign * error).findings for sign in (1.0, -1.0))


def smallest_seen(point: Point) -> float:
    """The smallest relative error that is seen, to 1 in 1000; infinite where none is."""
    if not is_seen(point, point.largest):
        return math.inf
    low, high = math.log(SMALLEST), math.log(point.largest)
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if is_seen(point, math.exp(middle)) else (middle, high)
    return math.exp(high)


def bound(point: Point) -> float:
    """The bound of the value that shows an error best, relative to its part that is in error."""
    return point.largest / step(point, 1.0 + point.largest).worst


def points() -> list[Point]:
    """Where the sensitivity is measured: at the first step, the first adaptive one, and later ones."""
    result = []
    for precision in PRECISIONS:
        for beta2 in BETA2:
            first = reference.rectification.first_adaptive_step(beta2, 5.0)
            assert first is not None
            for t in (1, first, *LATER):
                result += [Point(quantity, precision, beta2, t) for quantity in QUANTITIES]
    return result


def table(measured: dict[Point, float]) -> str:
    """Markdown: a line for each precision, beta2 and t; empty where an error of a half is not seen."""
    titles = list(QUANTITIES.values())
    lines = [f"| | beta2 | t | {' | '.join(titles)} |", f"|---|--:|--:|{'--:|' * len(titles)}"]
    for precision, beta2, t in dict.fromkeys((point.precision, point.beta2, point.t) for point in measured):
        errors = [measured[Point(quantity, precision, beta2, t)] for quantity in QUANTITIES]
        cells = ["" if math.isinf(error) else f"{error:.1e}" for error in errors]
        lines.append(f"| {precision} | {beta2} | {t:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.sensitivity", description=__doc__)
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    text = table({point: smallest_seen(point) for point in points()})
    print(text)
    if options.markdown:
        options.markdown.write_text(HEADING + text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
