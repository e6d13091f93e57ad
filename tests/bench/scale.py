"""How the cost of a step grows with elements, tensors, groups and steps taken."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

import radam
from radam.state import STEP
from tests.bench.steps import WARM_UP

OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "radam": radam.RAdam,
    "torch Adam, fused": lambda params: torch.optim.Adam(params, fused=True),
    "torch RAdam, foreach": lambda params: torch.optim.RAdam(params, foreach=True),
}


class Curve(NamedTuple):
    """Seconds of a step, by size."""

    what: str
    candidate: str
    sizes: list[int]
    seconds: list[float]

    @property
    def exponent(self) -> float:
        """Of the growth over the last decade: 1 is linear."""
        last = [i for i, size in enumerate(self.sizes) if size * 10 >= self.sizes[-1]]
        x, y = (np.log([values[i] for i in last]) for values in (self.sizes, self.seconds))
        return float(np.polyfit(x, y, 1)[0])


def _params(number: int, size: int) -> list[torch.nn.Parameter]:
    result = [torch.nn.Parameter(torch.full((size,), 0.5)) for _ in range(number)]
    for param in result:
        param.grad = torch.full_like(param, 0.25)
    return result


def _elements(size: int) -> list[Any]:
    return _params(1, size)


def _tensors(size: int) -> list[Any]:
    return _params(size, 64)


def _groups(size: int) -> list[Any]:
    return [{"params": [param], "lr": 1e-3} for param in _params(size, 64)]


AXES: dict[str, tuple[Callable[[int], list[Any]], Sequence[int]]] = {
    "elements of one tensor": (_elements, [10**3, 10**4, 10**5, 10**6, 3 * 10**6, 10**7, 3 * 10**7]),
    "tensors of 64": (_tensors, [1, 3, 10, 30, 100, 300, 1000, 3000]),
    "groups of one tensor of 64": (_groups, [1, 3, 10, 30, 100, 300]),
}


def curves(rounds: int) -> list[Curve]:
    """Medians of each candidate at each size, in turns."""
    torch.set_num_threads(1)
    result = []
    for what, (make, sizes) in AXES.items():
        seconds: dict[str, list[float]] = {name: [] for name in OPTIMIZERS}
        for size in sizes:
            given = make(size)
            steps = {name: build(_copied(given)).step for name, build in OPTIMIZERS.items()}
            for name, each in _medians(steps, rounds).items():
                seconds[name].append(each)
        result += [Curve(what, name, list(sizes), own) for name, own in seconds.items()]
    return [*result, *_by_age(rounds)]


def _copied(params: list[Any]) -> list[Any]:
    """Groups are written to by an optimizer."""
    return [dict(entry) if isinstance(entry, dict) else entry for entry in params]


def _by_age(rounds: int) -> list[Curve]:
    ages = [10**exponent for exponent in range(2, 8)]
    params = _params(10, 1000)
    optimizer = radam.RAdam(params)
    seconds = []
    for age in ages:
        for param in params:
            if optimizer.state:
                optimizer.state[param][STEP] = age
        seconds.append(_medians({"radam": optimizer.step}, rounds)["radam"])
    return [Curve("steps taken (10 tensors of 1,000)", "radam", ages, seconds)]


def _medians(steps: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(WARM_UP):
            step()
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in seconds.items()}


def markdown(all_curves: Sequence[Curve]) -> str:
    """A table: microseconds of a step at the smallest and the largest size, and the growth over the last decade."""
    lines = ["| | | smallest | largest | growth at the end |", "|---|---|--:|--:|--:|"]
    for curve in all_curves:
        ends = (f"{curve.sizes[i]:,}: {1e6 * curve.seconds[i]:,.0f} µs" for i in (0, -1))
        lines.append(f"| {curve.what} | {curve.candidate} | {' | '.join(ends)} | n^{curve.exponent:.2f} |")
    return "\n".join(lines) + "\n"


def plot(all_curves: Sequence[Curve]) -> Any:
    """A figure with one panel for each axis."""
    from matplotlib.figure import Figure

    axes = list(dict.fromkeys(curve.what for curve in all_curves))
    figure = Figure(figsize=(4 * len(axes), 3.6), layout="constrained")
    for panel, what in zip(figure.subplots(1, len(axes)), axes, strict=True):
        for curve in all_curves:
            if curve.what == what:
                panel.loglog(curve.sizes, [1e6 * each for each in curve.seconds], marker=".", label=curve.candidate)
        low, high = panel.get_ylim()
        panel.set_ylim(10 ** np.floor(np.log10(low)), 10 ** np.ceil(np.log10(high)))
        panel.set_xlabel(what)
        panel.grid(alpha=0.3)
    figure.axes[0].set_ylabel("µs a step, one thread")
    figure.axes[0].legend(frameon=False)
    return figure
