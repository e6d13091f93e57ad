"""The command radam-audit: a verdict on an optimizer."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from radam.audit.auditing import MAX_EXAMPLES, Plan, audit, merged, prepared, resolved, versions
from radam.audit.bounds import PRECISIONS
from radam.audit.checks import all_checks, groups
from radam.audit.report import Entry, Report, counted
from radam.audit.report.console import print_report
from radam.audit.run import Setting

PASSED, FAILED, WRONG_USE = 0, 1, 2

WIDTH = 120
"""Columns of the table where there is no terminal that sets them."""
DTYPES = (*PRECISIONS, "complex64", "complex128")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="radam-audit",
        description="Audit a PyTorch optimizer: its numbers against an oracle where it has one, and all that can be "
        "checked without. Exit status: 0 nothing found, 1 something found, 2 wrong use.",
    )
    parser.add_argument(
        "subject",
        nargs="?",
        metavar="MODULE:NAME",
        help="an optimizer class, or a radam.audit.Subject that describes one",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report, one page that needs no network")
    parser.add_argument("--repro", type=Path, metavar="DIR", help="write a script for each finding")
    parser.add_argument("--device", default="cpu", help="of parameters and gradients (default: cpu)")
    parser.add_argument(
        "--dtype", action="append", choices=DTYPES, help="look at this dtype only; may be given more than once"
    )
    parser.add_argument(
        "--checks", action="append", metavar="PATTERN", help="run the checks that match, as of a shell; more than once"
    )
    parser.add_argument(
        "--max-examples",
        type=_positive,
        default=MAX_EXAMPLES,
        metavar="N",
        help=f"how many configurations a check of the numbers draws, others a share of them (default: {MAX_EXAMPLES})",
    )
    parser.add_argument("--backend", default="eager", help="of torch.compile (default: eager, which compiles soonest)")
    parser.add_argument("--min-checks", type=_positive, metavar="N", help="fail if fewer checks than these were run")
    parser.add_argument("--shard", type=_shard, default=(1, 1), metavar="K/N", help="run the K-th of N parts only")
    parser.add_argument("--resume", action="store_true", help="keep the records that are in the file of --json")
    parser.add_argument(
        "--merge", nargs="+", type=Path, metavar="FILE", help="audit nothing: put the JSON files of all shards together"
    )
    parser.add_argument("--list", action="store_true", help="name the checks, and which of them apply to MODULE:NAME")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, but is {value}")
    return value


def _shard(text: str) -> tuple[int, int]:
    part, separator, parts = text.partition("/")
    if not (separator and part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"must be K/N with K from 1 to N, but is {text!r}")
    return int(part), int(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: in place of the command line's.

    Returns:
        The exit status.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    # What is audited is often a module of the folder at hand.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    torch.set_num_threads(1)
    try:
        torch.empty(0, device=options.device)
    except Exception as error:
        parser.error(f"argument --device: {str(error).splitlines()[0]}")
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    try:
        if options.list:
            _list(options.subject, options.device, options.backend, console)
            return PASSED
        if options.merge:
            reports = [Report.from_json(path.read_text(encoding="utf-8")) for path in options.merge]
            return _told(merged(reports), options, arguments, console)
        if options.resume and options.json is None:
            parser.error("--resume needs --json, whose file it goes on from")
        if options.subject is None:
            parser.error("MODULE:NAME is missing: radam-audit torch.optim:RAdam, for example")
        return _audit(options, arguments, console)
    except ValueError as error:
        parser.error(str(error))


def _list(subject: str | None, device: str, backend: str, console: Console) -> None:
    """Name the checks, by group; with a subject also why some do not apply."""
    capabilities = None if subject is None else prepared(resolved(subject), torch.device(device), backend)
    for group in groups():
        console.print(f"[bold]{escape(group.title)}[/]")
        for check in group.checks:
            missing = None if capabilities is None else check.missing(capabilities)
            console.print(
                escape(f"  {check.name}: {check.summary}")
                + (f" [dim]Skipped: {escape(missing)}[/]" if missing else ""),
                soft_wrap=True,
            )
    console.print(f"{len(all_checks())} checks")


def _audit(options: argparse.Namespace, arguments: Sequence[str] | None, console: Console) -> int:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("trial steps", total=None)

        def progress(plan: Plan, number: int, total: int) -> None:
            setting = plan.setting if isinstance(plan.setting, Setting) else plan.setting.implementation or ""
            bar.update(task, completed=number, total=total, description=escape(f"{plan.check.name} {setting}"))

        report = audit(
            options.subject,
            options.device,
            checks=options.checks,
            dtypes=options.dtype,
            max_examples=options.max_examples,
            backend=options.backend,
            progress=progress,
            figures=options.html is not None,
            shard=options.shard,
            known=_known(options),
            keep=None if options.json is None else lambda report: _write(options.json, report.to_json()),
        )
    return _told(report, options, arguments, console)


def _known(options: argparse.Namespace) -> Sequence[Entry]:
    """The records of an earlier run that was cut short."""
    if not options.resume or not options.json.exists():
        return ()
    report = Report.from_json(options.json.read_text(encoding="utf-8"))
    if (report.subject, report.versions, report.device) != (options.subject, versions(), options.device):
        raise ValueError(
            f"{options.json} cannot be gone on from: it is of {report.subject} on {report.device}, {report.versions}"
        )
    return report.records


def _write(path: Path, text: str) -> None:
    """Write a file that has its name once it is whole."""
    path.with_name(f"{path.name}.new").write_text(text, encoding="utf-8")
    path.with_name(f"{path.name}.new").replace(path)


def _told(report: Report, options: argparse.Namespace, arguments: Sequence[str] | None, console: Console) -> int:
    """Print a report, write it into the files that are asked for, and return the exit status."""
    report = replace(report, command=shlex.join(["radam-audit", *(sys.argv[1:] if arguments is None else arguments)]))
    print_report(report, console)
    if options.json is not None:
        _write(options.json, report.to_json())
    if options.html is not None:
        options.html.write_text(report.to_html(), encoding="utf-8")
    if options.repro is not None:
        written = report.save_reproductions(options.repro)
        console.print(f"{len(written)} scripts in {escape(str(options.repro))}")
    run = len(report.checks_run)
    if options.min_checks is not None and run < options.min_checks:
        was = "was" if run == 1 else "were"
        console.print(
            f"{counted(run, 'check')} {was} run, but should be at least {options.min_checks}", style="bold red"
        )
        return FAILED
    return PASSED if report.passed else FAILED


if __name__ == "__main__":
    sys.exit(main())
