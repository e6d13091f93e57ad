"""How long the exact law of the second moment takes, beside its simulation in the same run.

    python -m tests.bench.law [--rounds N] [--markdown FILE]

The unit is one step of 10^6 trajectories by NumPy's recurrence; all candidates take turns.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rich.console
import rich.markup
import rich.table

from reference.ema import SecondMoment, psi_variances
from reference.monte_carlo import simulate
from reference.scaled_inverse_chi2 import ScaledInverseChi2

STEPS = 6000


def _unit() -> None:
    simulate(0.999, [10], 10**5)


CANDIDATES: dict[str, Callable[[], object]] = {
    "10^6 trajectory-steps, by NumPy": _unit,
    "Var[psi_t] of all t <= 6000, one beta2": lambda: psi_variances(STEPS, 0.999),
    "the same, gradients of mean 1": lambda: psi_variances(STEPS, 0.999, mean=1.0),
    "Var[psi_t] in the limit": lambda: SecondMoment(np.inf, 0.999).psi_variance(),
    "distribution function at 400 points, t = 20": lambda: SecondMoment(20, 0.999).cdf(np.linspace(0.2, 3, 400)),
    "distribution function at 400 points, t = 2000": lambda: SecondMoment(2000, 0.999).cdf(np.linspace(0.9, 1.1, 400)),
    "99 quantiles, t = 20": lambda: SecondMoment(20, 0.999).quantile(np.arange(1, 100) / 100),
    "exact Var[psi] of 5000 rho": lambda: ScaledInverseChi2(np.linspace(2.1, 2000, 5000)).variance_psi(),
}


def main() -> None:
    """Measure, and print seconds and ratios to the first candidate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--markdown", type=Path, help="write the table there too")
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    for _ in range(arguments.rounds):
        for name, candidate in CANDIDATES.items():
            start = time.perf_counter()
            candidate()
            seconds[name].append(time.perf_counter() - start)
    units = next(iter(seconds.values()))
    head = ("", "seconds (median)", "in units of the first (median)")
    title = f"numpy {np.__version__}, {platform.machine()}, {arguments.rounds} rounds"
    table = rich.table.Table(*head, title=title)
    lines = [f"{title}.", "", f"| {' | '.join(head)} |", "|---|--:|--:|"]
    for name, own in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(own, units, strict=True))
        cells = (name, f"{statistics.median(own):.4f}", f"{ratio:.2f}")
        table.add_row(*map(rich.markup.escape, cells))
        lines.append(f"| {' | '.join(cells)} |")
    rich.console.Console(width=120).print(table)
    if arguments.markdown:
        arguments.markdown.write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
