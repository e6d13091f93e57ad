"""RAdam's family, verified step by step on the gradients of a real training run.

Trains a small character-level transformer on Python's help texts, once per configuration, and compares every number of
every step with an independent oracle, within rounding-error bounds.

Exit status: 0 if all is within bounds, 1 if anything is not or nothing was judged, 2 for wrong use.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from radam.audit.real_gradients import report
from radam.audit.real_gradients.configurations import Configuration, named
from radam.audit.real_gradients.training import Result
from radam.audit.real_gradients.workers import run

WIDTH = 200
"""Columns of the table where there is no terminal that sets them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status.

    Raises:
        SystemExit: wrong use, with status 2, or --help.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    chosen = _choose(parser, options.subject, options.only)
    _check(parser, options)

    # Small tensors: a second thread costs more than it brings, most of all on a busy machine.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.perf_counter()
    try:
        results = _run(chosen, options)
    finally:
        torch.set_num_threads(threads)
    seconds = time.perf_counter() - start

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(report.table(results))
    for line in report.findings(results):
        console.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
    for line in report.verdict(results):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{seconds:.0f} s on {options.device}, torch {torch.__version__}", markup=False, highlight=False)

    if options.json:
        subject = options.subject or "radam"
        text = report.as_json(results, subject, str(options.device), options.seed, options.subject)
        options.json.write_text(text, encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(report.markdown(results), encoding="utf-8")
    if options.plot:
        report.plot(results, options.plot)
    return int(any(result.findings for result in results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {report.MODULE}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300, help="steps of each configuration (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="where to train (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights and batches (default: %(default)s)")
    parser.add_argument(
        "--jobs",
        type=int,
        default=min(_processors(), 8),
        help="configurations at a time, each in a process of its own (default: %(default)s)",
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        default=[],
        help="configurations whose name is NAME, or contains it if none is; may be repeated",
    )
    parser.add_argument(
        "--subject",
        metavar="MODULE:NAME",
        help="verify this class, which takes RAdam's constructor, in RAdam's configurations, with textbook scalars",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write a record of each configuration")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the errors and the losses")
    return parser


def _choose(parser: argparse.ArgumentParser, subject: str | None, only: Sequence[str]) -> list[Configuration]:
    try:
        available = named(subject)
    except ValueError as error:
        parser.error(f"--subject {error}")
    if not only:
        return available
    chosen: set[str] = set()
    for name in only:
        exact = [each.name for each in available if each.name == name]
        found = exact or [each.name for each in available if name.lower() in each.name.lower()]
        if not found:
            parser.error(f"--only {name!r} is no configuration: there are {', '.join(each.name for each in available)}")
        chosen.update(found)
    return [each for each in available if each.name in chosen]


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    for name in ("steps", "jobs"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, but is {getattr(options, name)}")
    try:
        torch.empty(0, device=options.device)
    except Exception as error:
        parser.error(f"--device {options.device}: {error}")
    for name in ("json", "markdown", "plot"):
        path = getattr(options, name)
        if path is not None and not path.parent.is_dir():
            parser.error(f"--{name} {path}: there is no folder {path.parent}")
    if options.plot is not None:
        try:
            from matplotlib.figure import Figure
        except ImportError:
            parser.error("--plot needs matplotlib: pip install 'radam[audit]'")
        formats = Figure().canvas.get_supported_filetypes()
        if options.plot.suffix[1:].lower() not in formats:
            parser.error(f"--plot {options.plot}: the suffix must be one of {', '.join(sorted(formats))}")


def _run(chosen: Sequence[Configuration], options: argparse.Namespace) -> list[Result]:
    """Train every configuration; show on stderr how far it is."""
    console = Console(stderr=True)
    results: dict[str, Result] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("training", total=options.steps * len(chosen))
        for result in run(
            chosen,
            options.subject,
            seed=options.seed,
            device=options.device,
            steps=options.steps,
            jobs=min(options.jobs, len(chosen)),
            progress=lambda: progress.advance(bar),
        ):
            name = result.configuration.name
            results[name] = result
            progress.update(bar, completed=len(results) * options.steps)
            if not console.is_terminal:
                outcome = f"findings: {len(result.findings):,}" if result.findings else "within bounds"
                line = f"[{len(results)}/{len(chosen)}] {name}: {outcome}, {result.seconds:.1f} s"
                print(line, file=sys.stderr, flush=True)
    return [results[configuration.name] for configuration in chosen]


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main())
