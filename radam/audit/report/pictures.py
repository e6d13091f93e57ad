"""The pictures of a report, drawn by matplotlib, as inline SVG in the colours of the page."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from radam.audit.capabilities import SWITCHES
from radam.audit.report import counted

_TEXT, _LINE, _WRONG = "#010203", "#020304", "#030405"
_SERIES = tuple(f"#04050{i}" for i in range(len(SWITCHES)))
_COLOURS = {
    _TEXT: "currentColor",
    _LINE: "var(--line)",
    _WRONG: "var(--failed)",
    **{colour: f"var(--series-{i})" for i, colour in enumerate(_SERIES)},
}
"""Colours of the drawing, and what stands for them in the page, where they follow light and dark."""
_WIDTHS = (2.8, 2.8, 2.0, 1.2, 0.7, 0.7, 1.2)
"""Of lines, by implementation: where they coincide, each is seen on the one before."""
_MARKS = ("o", "o", "s", "+", "x", "^", "D")
_SIZES = (7, 7, 4, 5, 4, 4, 4)
_HALF = 0.5


@dataclass(frozen=True)
class Panel:
    """A picture, and what it shows in words."""

    svg: str
    title: str
    notes: list[str]


@dataclass(frozen=True)
class Picture:
    """Panels of one kind, in so many columns where there is room."""

    name: str
    title: str
    caption: str
    implementations: list[str]
    columns: int
    oracle: bool = False
    """Whether the oracle's values are drawn too."""
    panels: list[Panel] = field(default_factory=list)

    @property
    def keys(self) -> list[tuple[str, int]]:
        """The implementations with the numbers of their colours."""
        return [(name, _place(name)) for name in self.implementations]


def _place(implementation: str) -> int:
    return list(SWITCHES).index(implementation) if implementation in SWITCHES else 0


def pictures(figures: Mapping[str, Any]) -> list[Picture]:
    """What is drawn of the measurements, in order; see :mod:`radam.audit.report.measurements`."""
    drawn = []
    for name, draw in (
        ("errors", _errors),
        ("ulps", _ulps),
        ("rectification", _rectification),
        ("update", _update),
    ):
        if name in figures:
            drawn.append(draw(figures[name]))
    return drawn


def _panel(name: str, title: str, notes: list[str], draw: Callable[[Axes], None]) -> Panel:
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.size": 7.5,
        "axes.labelsize": 7.5,
        "xtick.labelsize": 7.5,
        "ytick.labelsize": 7.5,
        "axes.edgecolor": _LINE,
        "axes.labelcolor": _TEXT,
        "text.color": _TEXT,
        "xtick.color": _LINE,
        "xtick.labelcolor": _TEXT,
        "ytick.color": _LINE,
        "ytick.labelcolor": _TEXT,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.8,
    }
    buffer = io.StringIO()
    with matplotlib.rc_context(settings):  # type: ignore[arg-type]
        figure = Figure(figsize=(3.0, 1.9), layout="constrained")
        draw(figure.subplots())
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return Panel(_inline(buffer.getvalue(), name), title, notes)


def _inline(svg: str, name: str) -> str:
    """An SVG for a page that has others: without prolog, size and metadata, ids of its own, colours of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1 aria-hidden="true"', svg, count=1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    return re.sub("|".join(_COLOURS), lambda found: _COLOURS[found[0]], svg)


def _plainly(axis: Any) -> None:
    """Label an axis by plain numbers."""
    axis.set_major_formatter(lambda value, _: f"{value:g}")


def _finite(values: Sequence[float | None]) -> Any:
    return np.array([math.nan if value is None else value for value in values], float)


def _errors(figure: Mapping[str, Any]) -> Picture:
    series = figure["series"]
    quantities = list(dict.fromkeys(name for each in series for name in each["quantities"]))
    picture = Picture(
        "errors",
        "Worst error of each step",
        "In units of the rounding-error bound, on random gradients, each step from the optimizer's own state before "
        "it: right is below 1 throughout; above 1 would be wrong. Where half precision is rounded once, from "
        f"float32, that rounding is nearly the whole bound. Options: {figure['options']}.",
        list(dict.fromkeys(each["implementation"] for each in series)),
        min(len(quantities), 4),
    )
    for dtype in dict.fromkeys(each["dtype"] for each in series):
        for quantity in quantities:
            own = {
                each["implementation"]: each["quantities"][quantity]
                for each in series
                if each["dtype"] == dtype and quantity in each["quantities"]
            }
            if own:
                panel = _panel(
                    f"errors-{len(picture.panels)}",
                    f"{dtype}, {quantity}",
                    _largest_errors(own),
                    lambda axes, own=own: _draw_errors(axes, own),  # type: ignore[misc]
                )
                picture.panels.append(panel)
    return picture


def _largest_errors(own: Mapping[str, Sequence[float | None]]) -> list[str]:
    """One sentence for the implementations that agree."""
    said: dict[str, list[str]] = {}
    for implementation, errors in own.items():
        if None in errors:
            text = f"infinite at step {errors.index(None) + 1}: NaN or infinity in place of a number"
        else:
            worst = max(range(len(errors)), key=lambda i: errors[i] or 0.0)
            text = f"largest {errors[worst] or 0.0:.3g}, at step {worst + 1}"
        said.setdefault(text, []).append(implementation)
    return [f"{', '.join(names)}: {text}" for text, names in said.items()]


def _draw_errors(axes: Axes, own: Mapping[str, Sequence[float | None]]) -> None:
    largest = max((value for errors in own.values() for value in errors if value is not None), default=0.0)
    for implementation, errors in own.items():
        place, values = _place(implementation), _finite(errors)
        steps = np.arange(1, len(values) + 1)
        axes.plot(steps, values, color=_SERIES[place], linewidth=_WIDTHS[place])
        infinite = steps[np.isnan(values)]
        axes.plot(infinite, np.full(len(infinite), 0.97), "^", color=_WRONG, transform=axes.get_xaxis_transform())
    axes.axhline(1.0, color=_WRONG, linewidth=1.0, linestyle=(0, (4, 2)))
    if largest > 2:
        axes.set_yscale("log")
        axes.set_ylim(1e-2, largest * 10)
        _plainly(axes.yaxis)
    else:
        axes.set_ylim(0, max(1.1, largest * 1.1))
    axes.set_xlabel("step")
    axes.set_ylabel("error / bound")


def _ulps(figure: Mapping[str, Any]) -> Picture:
    series = figure["series"]
    dtypes = list(dict.fromkeys(each["dtype"] for each in series))
    picture = Picture(
        "ulps",
        "Distances in units in the last place",
        "Of every number of the same steps from the oracle's. Right is a bulk that ends about 1 ulp; one correct "
        "rounding stays left of the dashed line at 1/2. There is a tail of sums that cancel and of parameters near "
        "zero, and in float64 of scalars that are not exact to the last place. The first bin begins at 0, the last "
        "has no end. A float64 number is a whole number of ulp from the float64 oracle's.",
        list(dict.fromkeys(each["implementation"] for each in series)),
        min(len(dtypes), 4),
    )
    for kind, words in (("param", "parameters"), ("state", "state")):
        for dtype in dtypes:
            own = {each["implementation"]: each[kind] for each in series if each["dtype"] == dtype and sum(each[kind])}
            if own:
                panel = _panel(
                    f"ulps-{len(picture.panels)}",
                    f"{dtype}, {words}",
                    _beyond_one(own, figure["edges"]),
                    lambda axes, own=own: _draw_ulps(axes, own, figure["edges"]),  # type: ignore[misc]
                )
                picture.panels.append(panel)
    return picture


def _beyond_one(own: Mapping[str, Sequence[int]], edges: Sequence[float]) -> list[str]:
    said: dict[str, list[str]] = {}
    for implementation, counts in own.items():
        far = sum(count for count, edge in zip(counts, edges, strict=True) if edge >= 1)
        text = f"{far} of {sum(counts)} beyond 1 ulp, {counts[-1]} beyond {edges[-1]:g}"
        said.setdefault(text, []).append(implementation)
    return [f"{', '.join(names)}: {text}" for text, names in said.items()]


def _draw_ulps(axes: Axes, own: Mapping[str, Sequence[int]], edges: Sequence[float]) -> None:
    # The first bin begins at 0 and the last has no end: each is drawn as wide as the others.
    inner = np.log2(edges[1:])
    places = np.concatenate([[inner[0] - 1], inner, [inner[-1] + 1]])
    for implementation, counts in own.items():
        place = _place(implementation)
        shares = np.array(counts, float) / sum(counts)
        shares[shares == 0] = math.nan
        axes.stairs(shares, places, baseline=None, color=_SERIES[place], linewidth=_WIDTHS[place])
    axes.axvline(math.log2(_HALF), color=_TEXT, linewidth=0.8, linestyle=(0, (4, 2)), alpha=0.6)
    axes.set_xlim(places[0], places[-1])
    axes.set_yscale("log")
    axes.set_ylim(1e-6, 2)
    axes.set_yticks([1e-6, 1e-4, 1e-2, 1], ["1e-6", "1e-4", "1e-2", "1"])
    axes.minorticks_off()
    labelled = (-3, -1, 1, 3, 5, 7)
    axes.set_xticks(labelled, [f"1/{2**-i}" if i < 0 else f"{2**i}" for i in labelled])
    axes.set_xlabel("ulp")
    axes.set_ylabel("share of numbers")


def _rectification(figure: Mapping[str, Any]) -> Picture:
    return _curves(
        figure,
        "rectification",
        "Rectification as applied",
        "The size of each step by lr, in float64, on a constant gradient of 1: r_t in an adaptive step, and 1 (or 0) "
        "before the first. Right is every mark on the oracle's line, and the drop to r_t at the oracle's step. "
        "The line is drawn from the oracle, the marks from the optimizer's parameters, whose rounding alone makes "
        f"differences of about 1e-13. Options: {figure['options']}.",
    )


def _update(figure: Mapping[str, Any]) -> Picture:
    oracle = figure["curves"][0]["exact"] is not None
    right = "every mark on the oracle's line" if oracle else "that the marks of all implementations coincide"
    return _curves(
        figure,
        "update",
        "Size of the steps",
        f"By lr, in float64, on a constant gradient of 1: right is {right}. Options: {figure['options']}.",
    )


def _curves(figure: Mapping[str, Any], name: str, title: str, caption: str) -> Picture:
    curves = figure["curves"]
    oracle = any(curve["exact"] is not None for curve in curves)
    implementations = list(dict.fromkeys(each for curve in curves for each in curve["applied"]))
    picture = Picture(name, title, caption, implementations, min(max(len(curves), 2), 4), oracle)
    for curve in curves:
        panel = _panel(
            f"{name}-{len(picture.panels)}",
            curve["label"] or "constant gradient",
            _differences(curve),
            lambda axes, curve=curve: _draw_curve(axes, curve),  # type: ignore[misc]
        )
        picture.panels.append(panel)
    return picture


def _differences(curve: Mapping[str, Any]) -> list[str]:
    """How far each implementation is from the oracle, or from the first implementation where there is none."""
    applied = dict(curve["applied"])
    if curve["exact"] is not None:
        other, right = "the oracle's", curve["exact"]
    else:
        first = next(iter(applied))
        other, right = f"those of {first}", applied.pop(first)
    said: dict[str, list[str]] = {}
    for implementation, sizes in applied.items():
        steps = counted(min(len(sizes), len(right)), "step")
        # A size that is not finite is infinitely far from one that is.
        off = [
            0.0 if a == b else math.inf if a is None or b is None else abs(a - b)
            for a, b in zip(sizes, right, strict=False)
        ]
        worst = max(range(len(off)), key=off.__getitem__)
        if off[worst]:
            text = f"at most {off[worst]:.2g} from {other}, at step {worst + 1} of {steps}"
        else:
            text = f"equal to {other} in {steps}"
        said.setdefault(text, []).append(implementation)
    return [f"{', '.join(names)}: {text}" for text, names in said.items()]


def _draw_curve(axes: Axes, curve: Mapping[str, Any]) -> None:
    if curve["exact"] is not None:
        exact = _finite(curve["exact"])
        axes.plot(np.arange(1, len(exact) + 1), exact, color=_TEXT, linewidth=0.9)
    for implementation, sizes in curve["applied"].items():
        place, values = _place(implementation), _finite(sizes)
        shown = np.unique(np.geomspace(1, len(values), 40).round().astype(int)) if len(values) > 12 else None
        steps = np.arange(1, len(values) + 1) if shown is None else shown
        axes.plot(
            steps,
            values[steps - 1],
            _MARKS[place],
            color=_SERIES[place],
            markersize=_SIZES[place],
            markerfacecolor="none",
            markeredgewidth=1.0,
            clip_on=False,
        )
    axes.set_xscale("log")
    _plainly(axes.xaxis)
    top = max((value for sizes in curve["applied"].values() for value in sizes if value is not None), default=1.0)
    axes.set_ylim(0, 1.1 * max(top, 1e-30))
    axes.set_xlabel("step")
    axes.set_ylabel("size of step / lr")
