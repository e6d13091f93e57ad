"""Audit the optimizers that people use: `python -m tests.compliance`.

Each is audited by radam-audit. Each failed check must have been reviewed against the source of its package, in
`reviews`, and each script that is shown fail as it says. Exits with 1 otherwise.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from radam.audit.subjects.shipped import PACKAGES, shipped
from tests.compliance import tables
from tests.compliance.page import page
from tests.compliance.reviews import Review, all_reviews, unreviewed, unused
from tests.compliance.running import ROOT, Result, audit_all, differences, read, write
from tests.readme import README, written_between

FOLDER = Path(__file__).parent


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.compliance", description=__doc__)
    parser.add_argument(
        "names", nargs="*", help="packages, or patterns of MODULE:NAME (default: all that is installed)"
    )
    parser.add_argument("--max-examples", type=int, default=6, help="as radam-audit's (default: 6)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at once (default: the number of cores)")
    parser.add_argument("--limit", type=float, default=1200.0, help="seconds for one optimizer (default: 1200)")
    parser.add_argument("--json", type=Path, default=FOLDER / "results.json", help="where results are kept")
    parser.add_argument("--resume", action="store_true", help="audit only what has no result yet")
    parser.add_argument("--render", action="store_true", help="audit nothing: write the tables anew")
    parser.add_argument(
        "--again",
        action="store_true",
        help="audit, compare the verdicts with those that are kept, and write nothing",
    )
    parser.add_argument("--reproduce", action="store_true", help="run each script that the tables show: it must fail")
    parser.add_argument("--html", type=Path, metavar="DIR", help="write one page of all, and radam-audit's of each")
    return parser


def wanted(patterns: Sequence[str]) -> list[tuple[str, str]]:
    """Package and MODULE:NAME of each optimizer that is asked for; what is not installed is told on standard error.

    Raises:
        ValueError: a pattern matches nothing.
    """
    found = []
    for package in PACKAGES:
        try:
            found += [(package, subject.name) for subject in shipped(package)]
        except ImportError as error:
            print(f"{package} is left out: {error}", file=sys.stderr)
    if not patterns:
        return found
    chosen = [
        (package, name)
        for package, name in found
        if any(pattern == package or fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    ]
    for pattern in patterns:
        if not any(pattern == package or fnmatch.fnmatchcase(name, pattern) for package, name in chosen):
            raise ValueError(f"nothing that is installed matches {pattern!r}: packages are {', '.join(PACKAGES)}")
    return chosen


def main(argv: Sequence[str] | None = None) -> int:
    """Audit, write the tables, print what is amiss, and return the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    kept = read(options.json) if options.json.exists() else []
    try:
        names = [] if options.render or options.reproduce else wanted(options.names)
    except ValueError as error:
        parser.error(str(error))
    if options.resume:
        done = {result.name for result in kept}
        names = [(package, name) for package, name in names if name not in done]
    reports = None
    if options.html is not None:
        options.html.mkdir(parents=True, exist_ok=True)
        reports = options.html.resolve()
    results = list(kept)
    new: list[Result] = []
    arguments = ["--max-examples", str(options.max_examples)]
    for result in audit_all(names, options.jobs, arguments, options.limit, reports):
        new.append(result)
        print(described(result), flush=True)
        if not options.again:
            results = [*(old for old in results if old.name != result.name), result]
            write(options.json, results, options.max_examples)
    reviews = all_reviews()
    amiss = unreviewed(reviews, results)
    if options.again:
        amiss += differences(kept, new)
    else:
        render(results, reviews, options)
    if options.reproduce:
        amiss += not_reproduced(results, reviews)
    for line in unused(reviews, results):
        print(f"not met this time: {line}")
    for line in amiss:
        print(line)
    print(f"{len(results)} optimizers, {len(amiss)} things amiss")
    return 1 if amiss else 0


def described(result: Result) -> str:
    """A line on a result."""
    if result.refused:
        return f"{result.name}: {result.refused}"
    failed = ", ".join(failure.check for failure in result.failures) or "nothing"
    return f"{result.name}: {len(result.passed)} passed, {len(result.skipped)} skipped; failed: {failed}"


def render(results: Sequence[Result], reviews: Sequence[Review], options: argparse.Namespace) -> None:
    """Write the tables, and the README's where the results are the ones that are kept."""
    text = (
        "# Optimizers that people use, audited\n\n`tox -e peers` makes these tables.\n\n"
        f"## By package\n\n{tables.by_package(results, reviews)}\n"
        f"## By optimizer\n\nHow many checks of each kind passed or failed.\n\n{tables.by_optimizer(results)}\n"
        f"# What was found\n\n{tables.findings(results, reviews)}"
    )
    options.json.with_suffix(".md").write_text(text, encoding="utf-8")
    if options.json.parent == FOLDER:
        written_between(README, "compliance", tables.by_package(results, reviews))
    if options.html is not None:
        (options.html / "index.html").write_text(page(results, reviews, options.html), encoding="utf-8")


def not_reproduced(results: Iterable[Result], reviews: Sequence[Review]) -> list[str]:
    """The scripts that end well, which they should not, a line each; one of a package that is not installed counts."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for package, name, script in tables.scripts(results, reviews):
            path = Path(folder) / "script.py"
            path.write_text(script, encoding="utf-8")
            # A package may need some help to be imported without all that it asks for.
            program = f"from radam.audit.subjects.shipped import shipped; shipped({package!r}); "
            program += f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')"
            command = [sys.executable, "-c", program]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
            said = (done.stderr.strip() or "it ends well").splitlines()[-1]
            print(f"{name}: {said}", flush=True)
            if done.returncode == 0 or "ModuleNotFoundError" in said:
                lines.append(f"the script of {name} should fail as it says, but: {said}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
