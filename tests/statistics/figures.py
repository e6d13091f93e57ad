"""What RAdam's rectification gets right and wrong: the figures and tables of README.md here, from exact laws.

Gradients are independent and normal throughout. Names are those of Liu et al. 2019, arXiv 1908.03265.
"""

from __future__ import annotations

import argparse
import csv
import functools
import io
import math
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference import first_exact_step, n_eff, rho_inf, rho_t
from reference.ema import SecondMoment, psi_variances
from reference.monte_carlo import Simulation, simulate
from reference.scaled_inverse_chi2 import ScaledInverseChi2
from reference.statistical_tests import kolmogorov_smirnov_size
from tests.statistics import false_alarm, power

FOLDER = Path(__file__).parent
README = FOLDER / "README.md"
FIGURES = FOLDER / "figures"

TRAJECTORIES = 5000
"""As in the paper's figure 9; so are BETA2, MEANS and LAST."""
BETA2 = 0.999
MEANS = (0.0, 0.001, 0.01, 0.1, 1.0, 10.0)
LAST = 6000

DRAWN = (0.9, 0.99, 0.999, 0.9999)
TABULATED = (0.9, 0.98, 0.99, 0.995, 0.999, 0.9995, 0.9999)
"""beta2."""
SPAN = 8
"""Curves end at t = SPAN/(1 - beta2): b^t is below e^-SPAN there."""

RHO = (5, 6, 8, 10, 20, 50, 100, 500)
SHARES = (1.0, 0.5, 0.1, 0.05, 0.01)
STEPS = (3, 4, 5, 6, 7, 8, 9, 10, 100)
OFF = 0.01
"""What the last column of `ratios` calls off."""

Columns = dict[str, NDArray[Any]]
"""Of one length; nan where there is no value."""


@dataclass(frozen=True)
class Table:
    """Columns by their headers, and how to print those that need it."""

    columns: Mapping[str, Sequence[Any] | NDArray[Any]]
    formats: Mapping[str, str] = field(default_factory=dict)

    def markdown(self) -> str:
        cells = [[_cell(value, self.formats.get(name, "")) for value in self.columns[name]] for name in self.columns]
        rows = zip(*cells, strict=True)
        rule = ["---" if isinstance(values[0], str) else "--:" for values in self.columns.values()]
        lines = [self.columns, rule, *rows]
        return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _cell(value: Any, spec: str) -> str:
    return "–" if _is_missing(value) else format(value, spec)


def as_csv(columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> str:
    """Rows of 12 digits; what is missing is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow("" if _is_missing(v) else f"{v:.12g}" if isinstance(v, float) else v for v in row)
    return text.getvalue()


# Computing


def _where(defined: NDArray[np.bool_], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values where they are defined, and nan elsewhere."""
    result = np.full(defined.shape, np.nan)
    result[defined] = values
    return result


def first_order(rho: Any) -> NDArray[np.float64]:
    """Var[psi] to first order (equation 5); nan for rho <= 4."""
    rho = np.asarray(rho, dtype=np.float64)
    return _where(rho > 4, ScaledInverseChi2(rho[rho > 4]).first_order_variance_psi())


def exact(rho: Any) -> NDArray[np.float64]:
    """Var[psi] of rho equally weighted squares (equation 2, for all rho > 2); nan for rho <= 2."""
    rho = np.asarray(rho, dtype=np.float64)
    return _where(rho > 2, ScaledInverseChi2(rho[rho > 2]).variance_psi())


def variance_of_psi(rho: Any = None) -> Columns:
    """The paper's figure 8, from where each variance exists: exact, to first order, and their difference."""
    if rho is None:
        rho = np.unique(np.concatenate((2 + np.geomspace(0.02, 2, 60), 4 + np.geomspace(0.02, 496, 180), RHO)))
    one, other = exact(rho), first_order(rho)
    return {
        "rho": np.asarray(rho),
        "exact": one,
        "first_order": other,
        "difference": other - one,
        "relative_difference": other / one - 1,
    }


def steps(last: int, number: int) -> NDArray[np.int64]:
    """Up to `number` steps t from 3, where psi has a variance at last, on a logarithmic scale."""
    return np.unique(np.round(np.geomspace(3, last, number)).astype(np.int64))


def simulations(
    trajectories: int = TRAJECTORIES, seed: int = 0, means: Sequence[float] = MEANS, number: int = 100
) -> list[Simulation]:
    """Adam's second moment under gradients N(mean, 1), for each mean by random numbers of its own."""
    at = steps(LAST, number).tolist()
    seeds = np.random.SeedSequence(seed).generate_state(len(means), np.uint64).tolist()
    return [simulate(BETA2, at, trajectories, mean=mean, seed=each) for mean, each in zip(means, seeds, strict=True)]


def variance_of_the_rate(simulated: Sequence[Simulation]) -> Columns:
    """The paper's figure 9: Var[psi_t] and Var[r_t psi_t], exact and simulated; intervals where they exist."""
    columns: dict[str, list[Any]] = {}
    for simulation in simulated:
        t = np.array(list(simulation.steps))
        square = rectified(first_order, _counts(rho_t, t, simulation.beta2), simulation.beta2) ** 2
        estimates = [step.psi_variance for step in simulation.steps.values()]
        low, high = np.array([estimate.interval or (np.nan, np.nan) for estimate in estimates]).T
        values = {
            "exact": psi_variances(int(t[-1]), simulation.beta2, mean=simulation.mean)[t - 1],
            "simulated": np.array([estimate.value for estimate in estimates]),
            "low": low,
            "high": high,
        }
        rows = {"mean": np.full(len(t), simulation.mean), "t": t, "r_t^2": square, **values}
        rows["limit"] = np.full(len(t), SecondMoment(math.inf, simulation.beta2, simulation.mean).psi_variance())
        rows |= {f"rectified_{name}": square * value for name, value in values.items()}
        for name, value in rows.items():
            columns.setdefault(name, []).append(value)
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def _counts(count: Any, t: NDArray[np.int64], beta2: float) -> NDArray[np.float64]:
    """rho_t or n_t, at many steps."""
    return np.array([count(int(each), beta2) for each in t])


def rectified(variance: Any, count: NDArray[np.float64], beta2: float) -> NDArray[np.float64]:
    """sqrt(variance(rho_inf) / variance(count)); nan where there is no variance."""
    return np.sqrt(variance(rho_inf(beta2)) / variance(count))


@functools.lru_cache(maxsize=16)
def _all_true(beta2: float) -> NDArray[np.float64]:
    variances = psi_variances(last_step(beta2), beta2)
    result = np.sqrt(SecondMoment(math.inf, beta2).psi_variance() / variances)
    result.flags.writeable = False
    return result


def last_step(beta2: float) -> int:
    return max(STEPS[-1], round(SPAN / (1 - beta2)))


def rectification(beta2: float, t: NDArray[np.int64] | None = None) -> Columns:
    """The rectifications of one beta2: the paper's, with its other error put right, exact, and true.

    paper: rho_t, first order. exact of rho_t: the variance itself. exact: the variance itself, of n_t terms
    (`reference.exact_r_t`). true: Var[psi_t] of the exponential average (`reference.ema.r_true`).
    """
    if t is None:
        t = steps(last_step(beta2), 180)
    rho, n = _counts(rho_t, t, beta2), _counts(n_eff, t, beta2)
    true = _all_true(beta2)[t - 1]
    values = {
        "paper": rectified(first_order, rho, beta2),
        "exact_of_rho": rectified(exact, rho, beta2),
        "exact": rectified(exact, n, beta2),
    }
    ratios = {f"{name}/true": value / true for name, value in values.items()}
    return {"beta2": np.full(len(t), beta2), "t": t, "rho_t": rho, "n_t": n, **values, "true": true, **ratios}


def rectifications(betas: Sequence[float] = DRAWN) -> Columns:
    parts = [rectification(beta2) for beta2 in betas]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def dip(beta2: float) -> tuple[float, int] | None:
    """How far the paper's r_t falls below the true one after it has come closer, and where; None if it does not."""
    found = rectification(beta2)
    ratio, t = found["paper/true"], found["t"]
    falls = np.flatnonzero(np.diff(ratio) < 0)
    if not len(falls):
        return None
    place = falls[0] + int(np.argmin(ratio[falls[0] :]))
    # Every step between the neighbours in the grid.
    near = np.arange(t[place - 1], t[place + 1] + 1)
    ratio = rectification(beta2, near)["paper/true"]
    return float(1 - ratio.min()), int(near[ratio.argmin()])


def last_off(beta2: float) -> int:
    """The last step at which the paper's r_t is off by more than OFF."""
    found = rectification(beta2)
    place = int(np.flatnonzero(np.abs(found["paper/true"] - 1) > OFF)[-1])
    near = np.arange(found["t"][place], found["t"][place + 1] + 1)
    return int(near[np.abs(rectification(beta2, near)["paper/true"] - 1) > OFF][-1])


# Tables


def first_order_table() -> Table:
    """Some of figure 8."""
    found = variance_of_psi(RHO)
    columns = {
        "rho": found["rho"],
        "Var[psi], exact": found["exact"],
        "first order": found["first_order"],
        "difference": found["difference"],
        "in % of exact": found["relative_difference"],
    }
    return Table(columns, dict(zip(list(columns)[1:], (".6g", ".6g", ".6g", ".3%"), strict=True)))


def accuracy_table() -> Table:
    """From which whole rho on the first order is off by less than a share."""
    found = variance_of_psi(np.arange(5, RHO[-1] + 1))
    # The relative difference falls with rho, so that it is enough to count those that are off.
    first = [[5 + int(np.sum(found["relative_difference"] >= share))] for share in SHARES]
    return Table(
        {"off by less than": ["from rho ="], **dict(zip((f"{share:.0%}" for share in SHARES), first, strict=True))}
    )


def ratios_table(betas: Sequence[float] = TABULATED) -> Table:
    """The paper's r_t in units of the true one."""
    at = np.array(STEPS)
    found = [rectification(beta2, at) for beta2 in betas]
    dips = [dip(beta2) or (None, None) for beta2 in betas]
    whole = [rectification(beta2) for beta2 in betas]
    values = {f"t = {t}": [float(each["paper/true"][i]) for each in found] for i, t in enumerate(STEPS)}
    columns = {
        "beta2": betas,
        **values,
        "dip": [depth for depth, _ in dips],
        "at t": [t for _, t in dips],
        f"off by > {OFF:.0%} until t": [last_off(beta2) for beta2 in betas],
        "least rho_t/n_t": [float(np.min(each["rho_t"] / each["n_t"])) for each in whole],
    }
    return Table(columns, {**dict.fromkeys(values, ".4f"), "dip": ".2%", "least rho_t/n_t": ".3f"})


def exact_table(betas: Sequence[float] = TABULATED) -> Table:
    """`rectification="exact"` against the true one, from its first step on."""
    found = [rectification(beta2) for beta2 in betas]
    errors = [each["exact/true"] - 1 for each in found]
    columns = {
        "beta2": betas,
        "first adaptive step": [first_exact_step(beta2) for beta2 in betas],
        "true r there": [float(each["true"][0]) for each in found],
        "exact": [float(each["exact"][0]) for each in found],
        "largest error": [float(error[np.argmax(np.abs(error))]) for error in errors],
        "at t": [int(each["t"][np.argmax(np.abs(error))]) for each, error in zip(found, errors, strict=True)],
        "error at t = 10": [float(rectification(beta2, np.array([10]))["exact/true"][0] - 1) for beta2 in betas],
    }
    formats = {"true r there": ".5f", "exact": ".5f", "largest error": "+.3%", "error at t = 10": "+.3%"}
    return Table(columns, formats)


def false_alarms_table() -> Table:
    """What `false_alarm` allows."""
    columns = {
        "false alarm of a test on one seed": [false_alarm.ALPHA],
        "seeds of a test": [false_alarm.SEEDS],
        "false alarm of all tests together, at most": [false_alarm.MOST],
    }
    return Table(
        columns, {"false alarm of a test on one seed": ".0e", "false alarm of all tests together, at most": ".0e"}
    )


def power_table() -> Table:
    """Mistakes that `test_law` finds: sup |G - F| of the distribution functions, and the trajectories that it takes."""
    found = [
        ("1 - beta2 is 2% too large", BETA2, 30, power.of_a_weight(BETA2, 30, 0.02)),
        ("1 - beta2 is 1% too large", BETA2, 100, power.of_a_weight(BETA2, 100, 0.01)),
        ("bias correction of t + 1", BETA2, 10, power.of_a_step_counted_twice(BETA2, 10)),
        ("bias correction of t + 1", 0.9, 10, power.of_a_step_counted_twice(0.9, 10)),
        ("the paper's law of Q_t", BETA2, 1500, power.of_the_papers_law(BETA2, 1500)),
    ]
    mistakes, betas, ts, distances = zip(*found, strict=True)
    trajectories = [kolmogorov_smirnov_size(each, false_alarm.ALPHA, power.MISS) for each in distances]
    header = f"trajectories, for a miss of {power.MISS:.0%}"
    columns = {"mistake": mistakes, "beta2": betas, "t": ts, "distance": distances, header: trajectories}
    return Table(columns, {"distance": ".4f", header: ","})


TABLES = {
    "first_order": first_order_table,
    "accuracy": accuracy_table,
    "ratios": ratios_table,
    "exact": exact_table,
    "false_alarms": false_alarms_table,
    "power": power_table,
}
SLOW = {"power"}
"""Left out by --quick."""


def with_tables(text: str, tables: Mapping[str, str]) -> str:
    """Put the tables between their markers, `<!-- table: NAME -->` and `<!-- end -->`.

    Raises:
        ValueError: a table has not exactly one place, or a place has no table.
    """
    places = re.findall(r"<!-- table: (.*?) -->\n.*?<!-- end -->", text, flags=re.DOTALL)
    for name in {*places, *tables}:
        if name not in tables:
            raise ValueError(f"there is no table {name!r}: there are {', '.join(sorted(tables))}")
        if places.count(name) != 1:
            raise ValueError(f"the table {name!r} must have one place in the text, but has {places.count(name)}")
    for name, table in tables.items():
        place = rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end -->)"
        text = re.sub(place, lambda match, table=table: f"{match[1]}\n{table}\n{match[2]}", text, flags=re.DOTALL)
    return text


# Drawing

# Okabe & Ito's colours, which colour-blind readers tell apart.
BLACK, BLUE, VERMILION, GREEN, PURPLE = "black", "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_OPTIONS = {
    "svg.hashsalt": "radam",
    "svg.fonttype": "path",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.4,
    "savefig.facecolor": "white",
}
_WIDTH = 9.0


def _figure(height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH, height), layout="constrained", dpi=150)


def draw_variance_of_psi(columns: Columns) -> Any:
    figure = _figure(3.4)
    left, right = figure.subplots(1, 2)
    rho, ticks = columns["rho"], (2, 3, 4, 5, 10, 20, 50, 100, 200, 500)
    left.loglog(rho, columns["exact"], color=BLACK, label="exact")
    left.loglog(rho, columns["first_order"], color=VERMILION, linestyle="--", label="first order (equation 5)")
    left.loglog(rho, columns["difference"], color=BLUE, linestyle="-.", label="difference")
    left.set_ylim(1e-6, 1e2)
    left.set_title(r"Var$[\psi]$, in units of $1/\sigma^2$")
    left.legend(loc="upper right")
    right.loglog(rho, 100 * columns["relative_difference"], color=BLUE)
    right.set_ylim(0.3, 3e3)
    right.set_yticks([1, 10, 100, 1000], ["1%", "10%", "100%", "1000%"])
    right.set_title("Difference, as a share of the exact variance")
    for axes in (left, right):
        axes.set_xlim(2, 500)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel(r"$\rho$")
    return figure


def draw_variance_of_the_rate(columns: Columns) -> Any:
    means = list(dict.fromkeys(columns["mean"].tolist()))
    across = min(3, len(means))
    down = -(-len(means) // across)
    figure = _figure(3.9 * down + 0.4)
    grid = figure.subplots(2 * down, across, sharex=True, squeeze=False)
    for number, mean in enumerate(means):
        upper, lower = (grid[2 * (number // across) + i, number % across] for i in (0, 1))
        part = {name: values[columns["mean"] == mean] for name, values in columns.items()}
        _draw_variances(upper, part, "", BLUE, 1)
        upper.set_yscale("log")
        upper.set_title(rf"Var$[\psi_t]$,  $\mu = {mean:g}$")
        limit = part["limit"][0]
        power = -math.floor(math.log10(limit))
        _draw_variances(lower, part, "rectified_", VERMILION, 10.0**power)
        lower.axhline(limit * 10**power, color="0.45", linestyle=":", linewidth=1.2)
        lower.set_ylim(0, 1.25 * limit * 10**power)
        lower.set_title(rf"$10^{power}\,$Var$[r_t \psi_t]$,  $\mu = {mean:g}$")
        lower.set_xscale("log")
        lower.set_xlim(2.7, LAST * 1.1)
        for axes in (upper, lower):
            axes.minorticks_off()
    for axes in grid[-1]:
        axes.set_xlabel("$t$")
    figure.legend(handles=_handles(), loc="outside lower center", ncols=4)
    return figure


def _draw_variances(axes: Any, part: Columns, prefix: str, colour: str, unit: float) -> None:
    names = ("simulated", "low", "high", "exact")
    t, (simulated, low, high, true) = part["t"], (part[f"{prefix}{name}"] * unit for name in names)
    axes.fill_between(t, low, high, color=colour, alpha=0.3, linewidth=0)
    without = np.isnan(low)
    axes.plot(t[~without], simulated[~without], ".", color=colour, markersize=2.5)
    axes.plot(t[without], simulated[without], "o", color=colour, markersize=3.5, markerfacecolor="none")
    axes.plot(t, true, color=BLACK, linewidth=1)


def _handles() -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Line2D([], [], color=BLACK, linewidth=1, label="exact"),
        Patch(color="0.75", label="simulated: dots, with 95% intervals"),
        Line2D(
            [],
            [],
            color="0.3",
            marker="o",
            markersize=3.5,
            markerfacecolor="none",
            linestyle="",
            label="no interval exists",
        ),
        Line2D([], [], color="0.45", linestyle=":", linewidth=1.2, label=r"exact limit of Var$[\psi_t]$"),
    ]


_FORMULAS = {
    "true": ("true", "-", 1.2),
    "paper": (r"paper: $\rho_t$, first order", (0, (1, 1)), 1.8),
    "exact_of_rho": (r"$\rho_t$, exact variance", "--", 1.2),
    "exact": (r"$n_t$, exact variance", (0, (5, 3, 1, 3)), 1.2),
}


def draw_rectification(columns: Columns) -> Any:
    from matplotlib.lines import Line2D

    figure = _figure(6.4)
    (terms, count, rate), (paper, of_rho, of_n) = figure.subplots(2, 3, sharex=True)
    betas = list(dict.fromkeys(columns["beta2"].tolist()))
    colours = dict(zip(betas, (BLUE, VERMILION, GREEN, PURPLE), strict=True))
    for beta2, colour in colours.items():
        part = {name: values[columns["beta2"] == beta2] for name, values in columns.items()}
        t = part["t"]
        terms.loglog(t, part["n_t"], color=colour)
        terms.loglog(t, part["rho_t"], color=colour, linestyle="--")
        count.plot(t, part["rho_t"] / part["n_t"], color=colour)
        for name, (_, style, width) in _FORMULAS.items():
            rate.loglog(t, part[name], color=colour, linestyle=style, linewidth=width)
        paper.plot(t, part["paper/true"], color=colour)
        of_rho.plot(t, part["exact_of_rho/true"], color=colour)
        of_n.loglog(t, part["exact/true"] - 1, color=colour)
    terms.set_title(r"Terms: $n_t$ (solid), $\rho_t$ (dashed)")
    count.set_title(r"$\rho_t / n_t$")
    rate.set_title("Rectification")
    paper.set_title(r"Paper ($\rho_t$, first order) / true")
    of_rho.set_title(r"$\rho_t$, exact variance / true")
    of_n.set_title(r"$n_t$, exact variance / true $-$ 1")
    for axes in (count, of_rho):
        axes.set_ylim(0.88, 1.01)
    paper.set_ylim(0.4, 1.05)
    of_n.set_ylim(1e-8, 0.1)
    for axes in (paper, of_rho, of_n):
        axes.set_xlabel("$t$")
    for axes in (terms, count, rate, paper, of_rho, of_n):
        axes.set_xscale("log")
        axes.minorticks_off()
    handles = [Line2D([], [], color=colour, label=rf"$\beta_2 = {beta2:g}$") for beta2, colour in colours.items()]
    handles += [
        Line2D([], [], color="0.3", linestyle=style, linewidth=width, label=label)
        for label, style, width in _FORMULAS.values()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _save(figure: Any, path: Path) -> None:
    # Laid out once, not for each file.
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine("none")
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
    figure.savefig(path.with_suffix(".png"), metadata={"Software": None})


# The command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.statistics.figures",
        description="Write the figures and tables of tests/statistics/README.md, and the tables into it.",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write to DIR, and leave README.md alone (default: figures/ beside it)"
    )
    parser.add_argument("--trajectories", type=int, metavar="N", help=f"of each mean (default: {TRAJECTORIES})")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the simulation (default: %(default)s)")
    parser.add_argument(
        "--quick", action="store_true", help="one mean, few steps and trajectories, and no table of power; needs --out"
    )
    return parser


def _checked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.trajectories is None:
        options.trajectories = 200 if options.quick else TRAJECTORIES
    if options.trajectories < 2:
        parser.error(f"--trajectories must be at least 2, but is {options.trajectories}")
    if options.seed < 0:
        parser.error(f"--seed must be at least 0, but is {options.seed}")
    if options.quick and options.out is None:
        parser.error("--quick needs --out: its figures are not those of README.md")
    folder = options.out or FIGURES
    if folder.exists() and not folder.is_dir():
        parser.error(f"--out {folder} is not a folder")
    if not folder.parent.is_dir():
        parser.error(f"--out {folder}: there is no folder {folder.parent}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status.

    Raises:
        SystemExit: wrong use, with status 2, or --help.
    """
    import matplotlib

    options = _checked(arguments)
    start = time.perf_counter()
    folder = options.out or FIGURES
    folder.mkdir(exist_ok=True)

    means, number = (MEANS[:1], 30) if options.quick else (MEANS, 100)
    rate = variance_of_the_rate(simulations(options.trajectories, options.seed, means, number))
    drawn = {
        "variance_of_psi": (variance_of_psi(), draw_variance_of_psi),
        "variance_of_the_rate": (rate, draw_variance_of_the_rate),
        "rectification": (rectifications(), draw_rectification),
    }
    with matplotlib.rc_context(_OPTIONS):
        for name, (columns, draw) in drawn.items():
            (folder / f"{name}.csv").write_text(as_csv(columns), encoding="utf-8")
            _save(draw(columns), folder / name)

    tables = {name: make() for name, make in TABLES.items() if not (options.quick and name in SLOW)}
    for name, table in tables.items():
        (folder / f"{name}.csv").write_text(as_csv(table.columns), encoding="utf-8")
        (folder / f"{name}.md").write_text(table.markdown(), encoding="utf-8")
    if options.out is None:
        text = with_tables(README.read_text(encoding="utf-8"), {name: each.markdown() for name, each in tables.items()})
        README.write_text(text, encoding="utf-8")
    has = ~np.isnan(rate["low"])
    inside = (rate["low"] <= rate["exact"]) & (rate["exact"] <= rate["high"])
    print(f"the exact variance is within {int(inside[has].sum())} of {int(has.sum())} intervals of 95%")
    print(f"{folder}: {len(drawn)} figures and {len(tables)} tables, {time.perf_counter() - start:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
