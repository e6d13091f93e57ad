"""What came of the configurations: as a table, in words, as JSON, and drawn."""

from __future__ import annotations

import json
import math
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich import box
from rich.table import Table

from radam.audit.real_gradients.training import Result

MODULE = "radam.audit.real_gradients"
SHOWN = 3
"""Findings of a configuration that are printed."""

_COLUMNS = (
    "configuration",
    "dtype",
    "kernel",
    "steps",
    "loss",
    "values compared",
    "worst error / bound",
    "in ulp",
    "where",
    "largest ulp",
    "unjudged",
    "free run: worst / bound",
    "coverage",
)
_TEXT = {"configuration", "dtype", "kernel", "where"}
_NOTE = (
    "Worst error: 1 would be out of bounds; in ulp: the same error; where: parameter, quantity, step. Largest ulp: of "
    "any value; large where a sum cancels to almost nothing. Free run: the oracle goes from the start on its own; "
    "coverage: its bound of a parameter as a share of the way the parameter has travelled, the median. "
    "With maximize the model is trained on the negated loss."
)


def _cells(result: Result) -> tuple[str, ...]:
    worst = result.worst
    where = f"{worst.where}\n{worst.worst.quantity}, step {worst.step}" if worst and worst.worst else ""
    return (
        result.configuration.name,
        result.configuration.precision,
        result.kernel,
        str(result.lockstep.steps),
        f"{result.first_loss:.2f} → {result.last_loss:.2f}",
        f"{result.lockstep.judged:,}",
        f"{result.lockstep.worst:.3g}",
        f"{result.ulp_of_worst:.2g}",
        where,
        f"{result.lockstep.ulp:.1g}",
        f"{result.lockstep.unjudged:,}",
        f"{result.trajectory.worst:.2g}",
        f"{result.coverage:.1g}",
    )


def table(results: Sequence[Result]) -> Table:
    """One row per configuration; those with findings in red."""
    made = Table(box=box.SIMPLE_HEAD, caption=_NOTE, caption_justify="left", padding=(0, 1, 0, 0))
    for column in _COLUMNS:
        justify: Literal["left", "right"] = "left" if column in _TEXT else "right"
        made.add_column(column, justify=justify, overflow="fold", no_wrap=column == "where")
    for result in results:
        made.add_row(*_cells(result), style="bold red" if result.findings else None)
    return made


def markdown(results: Sequence[Result]) -> str:
    """The table and the verdict, for a README."""
    rows = [
        "| " + " | ".join(_COLUMNS) + " |",
        "|" + "|".join("---" if column in _TEXT else "--:" for column in _COLUMNS) + "|",
        *("| " + " | ".join(cell.replace("\n", ", ") for cell in _cells(result)) + " |" for result in results),
    ]
    return "\n".join([*rows, "", _NOTE, "", *verdict(results), ""])


def findings(results: Sequence[Result]) -> list[str]:
    """The first few findings of each configuration, and how many more there are."""
    lines = []
    for result in results:
        lines += [f"{result.configuration.name}: {finding}" for finding in result.findings[:SHOWN]]
        if len(result.findings) > SHOWN:
            lines.append(f"{result.configuration.name}: ... and {len(result.findings) - SHOWN:,} more")
    return lines


def verdict(results: Sequence[Result]) -> list[str]:
    """The result in words: what was compared, what is out of bounds, the worst, and what was not judged."""
    judged = sum(result.lockstep.judged for result in results)
    free = sum(result.trajectory.judged for result in results)
    steps = max((result.lockstep.steps for result in results), default=0)
    wrong = [result for result in results if result.findings]
    count = sum(len(result.findings) for result in wrong)
    lines = [
        f"{judged:,} values compared in lock-step and {free:,} in free runs, in {len(results)} configurations "
        f"x {steps} steps: " + (f"findings: {count:,}, in {len(wrong)} of them." if wrong else "none out of bounds.")
    ]
    whole = [result for result in results if not _is_half(result)]
    half = [result for result in results if _is_half(result)]
    if any(result.worst for result in whole):
        lines.append(f"The worst error is {_worst(whole)}.")
    if any(result.worst for result in half):
        lines.append(
            "With half-precision parameters, whose one rounding by half an ulp is nearly the whole bound, "
            f"it is {_worst(half)}."
        )
    for result in results:
        for record, run in ((result.lockstep, "lock-step"), (result.trajectory, "the free run")):
            unjudged = {name: tally.unjudged for name, tally in record.tallies.items() if tally.unjudged}
            if unjudged:
                values = ", ".join(f"{count:,} of {name}" for name, count in unjudged.items())
                lines.append(f"{result.configuration.name}: no bound covers {values} in {run}; they are not judged.")
        if result.without_gradient:
            names = ", ".join(result.without_gradient)
            lines.append(f"{result.configuration.name}: never had a gradient, and so was not judged: {names}.")
    return lines


def _is_half(result: Result) -> bool:
    return torch.finfo(result.configuration.dtype).bits == 16


def _worst(results: Sequence[Result]) -> str:
    result = max(results, key=lambda result: result.lockstep.worst)
    tally = result.worst
    assert tally is not None
    assert tally.worst is not None
    return (
        f"{tally.worst.worst:.3g} times its bound ({result.ulp_of_worst:.2g} ulp): {tally.worst.quantity} of "
        f"{tally.where} at step {tally.step} of {result.configuration.name}"
    )


def as_json(results: Sequence[Result], subject: str, device: str, seed: int, specification: str | None) -> str:
    """The records, one per configuration, in the schema of the audit's reports."""
    status = {result.configuration.name: "failed" if result.findings else "passed" for result in results}
    package = sys.modules.get(subject.partition(":")[0].partition(".")[0])
    versions = {"python": platform.python_version(), "torch": str(torch.__version__), "numpy": np.__version__}
    if isinstance(getattr(package, "__version__", None), str):
        versions[subject.partition(":")[0].partition(".")[0]] = package.__version__  # type: ignore[union-attr]
    report = {
        "schema": 1,
        "subject": subject,
        "versions": versions,
        "device": device,
        "counts": {name: list(status.values()).count(name) for name in ("passed", "failed")},
        "records": [
            _record(result, status[result.configuration.name], device, seed, specification) for result in results
        ],
    }
    return json.dumps(_plain(report), indent=1, allow_nan=False) + "\n"


def _record(result: Result, status: str, device: str, seed: int, specification: str | None) -> dict[str, Any]:
    configuration, worst = result.configuration, result.worst
    command = ["python", "-m", MODULE, "--only", configuration.name, "--steps", str(max(result.lockstep.steps, 1))]
    command += ["--seed", str(seed), "--device", device]
    if specification is not None:
        command += ["--subject", specification]
    return {
        "check": "real_gradients",
        "status": status,
        "reason": result.findings[0] if result.findings else "",
        "dtype": configuration.precision,
        "implementation": result.kernel,
        "examples": result.lockstep.steps,
        "worst": worst
        and worst.worst
        and {
            "quantity": worst.worst.quantity,
            "bounds": worst.worst.worst,
            "ulp": result.ulp_of_worst,
            "step": worst.step,
            "where": worst.where,
        },
        "reproduction": shlex.join(command),
        "seconds": round(result.seconds, 2),
        "configuration": configuration.name,
        "optimizer": configuration.subject.name,
        "options": {**configuration.options, **configuration.engine},
        "loss": {"first": result.first_loss, "last": result.last_loss},
        "compared": result.lockstep.judged,
        "unjudged": result.lockstep.unjudged,
        "largest_ulp": result.lockstep.ulp,
        "free_run": {
            "compared": result.trajectory.judged,
            "unjudged": result.trajectory.unjudged,
            "bounds": result.trajectory.worst,
            "coverage": result.coverage,
        },
        "without_gradient": result.without_gradient,
        "findings": len(result.findings),
        "first_findings": result.findings[:SHOWN],
    }


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become words."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def plot(results: Sequence[Result], path: Path) -> None:
    """Draw the worst error of every step, and the loss.

    Args:
        results: at least one.
        path: of the picture; its suffix says the format.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: the format is unknown.
    """
    from matplotlib.figure import Figure

    steps = max(1, *(result.lockstep.steps for result in results))
    errors = np.full((len(results), steps), np.nan)
    for row, result in enumerate(results):
        for step, worst in result.lockstep.worst_of.items():
            errors[row, step - 1] = worst
    figure = Figure(figsize=(9, 2.9 + 0.2 * len(results)), layout="constrained", dpi=160)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(0.2 * len(results) + 0.3, 1.9))

    image = upper.imshow(
        errors,
        aspect="auto",
        interpolation="nearest",
        cmap=_colours(),
        vmin=0,
        vmax=1,
        extent=(0.5, steps + 0.5, len(results), 0),
    )
    upper.set_yticks(np.arange(len(results)) + 0.5, [result.configuration.name for result in results], fontsize=8)
    upper.tick_params(axis="y", length=0)
    upper.set_title("Worst error of each step, in units of its bound (above 1: out of bounds)", fontsize=10, loc="left")
    figure.colorbar(image, ax=upper, extend="max", fraction=0.03, pad=0.01)

    width = max(1, min(10, steps // 10))
    subjects = list(dict.fromkeys(result.configuration.subject.name for result in results))
    for result in results:
        if len(result.losses) >= width:
            subject = result.configuration.subject.name
            smooth = np.convolve(result.losses, np.full(width, 1 / width), mode="valid")
            drawn = np.arange(width, len(result.losses) + 1)
            lower.plot(drawn, smooth, color=f"C{subjects.index(subject)}", linewidth=0.8, alpha=0.7)
    for number, subject in enumerate(subjects):
        lower.plot([], [], color=f"C{number}", label=subject)
    lower.legend(frameon=False, fontsize=8)
    lower.set_title(f"Loss of each configuration, nats per character (mean of {width} steps)", fontsize=10, loc="left")
    lower.set_xlabel("step")
    lower.set_xlim(0.5, steps + 0.5)
    lower.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def _colours() -> Any:
    from matplotlib import colormaps

    return colormaps["Blues"].with_extremes(over="red", bad="white")
