"""Judge the catalogue: `python -m tests.mutation`.

Each wrong optimizer must be found, each right one must pass. Exits with 1 otherwise.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from radam.audit.auditing import versions
from tests.mutation import tables
from tests.mutation.catalogue import BY_NAME, MUTANTS
from tests.mutation.forking import Done, each_in_a_process
from tests.mutation.judging import (
    BY_CHECKS_ALONE,
    RIGHT,
    Verdict,
    by_audit,
    by_suite,
    ordered_tests,
    read,
    subject_of,
    verdict,
)
from tests.mutation.mutant import LIKE

SCHEMA = 1


def misjudged(one: Verdict) -> str:
    """What a judge got wrong; empty where nothing is."""
    if one.trouble:
        return one.trouble.strip().splitlines()[-1]
    if one.part == "right":
        found = one.audit or one.suite
        return f"is right, but was accused by {found.by}: {found.reason}" if found else ""
    if not one.found:
        return "survived"
    by_tests = "suite" not in one.asked or one.suite or one.name in BY_CHECKS_ALONE
    return "" if by_tests else "survived pytest --subject"


def describe(one: Verdict) -> str:
    """A line on a verdict."""
    found = [f"{found.seconds:6.1f} s {found.by}" for found in (one.audit, one.suite, one.own) if found]
    return f"{'found' if one.found else 'passed':7} {one.name:45} {'; '.join(found)}{one.trouble and ' TROUBLE'}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants, or right optimizers (default: all of both)")
    parser.add_argument("--base", action="append", help="only mutants of this base; may be given again")
    parser.add_argument("--right", action="store_true", help="the right ones alone")
    parser.add_argument(
        "--matrix", action="store_true", help="carry out all checks, not only those up to the first that finds a mutant"
    )
    parser.add_argument("--quick", action="store_true", help="few examples of each check, no compiled steps")
    parser.add_argument("--soon", action="store_true", help="let radam-audit judge only what the tests have not found")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at once (default: the number of cores)")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for one optimizer (default: 600)")
    parser.add_argument("--json", type=Path, help="write the verdicts to this file, each as it comes")
    parser.add_argument("--resume", action="store_true", help="keep the verdicts that are in the file of --json")
    parser.add_argument("--markdown", type=Path, help="write the scores to this file")
    parser.add_argument("--matrix-file", type=Path, help="write mutants x checks to this file, tab-separated")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Judge the catalogue, print what is misjudged, and return the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    unknown = set(options.names) - BY_NAME.keys() - RIGHT.keys()
    if unknown:
        parser.error(f"no optimizer is called {', '.join(sorted(unknown))}")
    mutants = [mutant.name for mutant in MUTANTS if not options.base or mutant.base in options.base]
    names = options.names or [*([] if options.right else mutants), *RIGHT]
    verdicts: list[Verdict] = []
    if options.resume and options.json and options.json.exists():
        kept = read(json.loads(options.json.read_text())["verdicts"])
        verdicts = [one for one in kept if not one.trouble and one.name in names]
    done = {one.name for one in verdicts}
    waiting = [name for name in names if name not in done]
    # A run that is cut short has judged a fair sample.
    random.Random(0).shuffle(waiting)
    torch.set_num_threads(1)
    if waiting:
        _import_once([BY_NAME[name].base for name in waiting if name in BY_NAME])
    for result in each_in_a_process(
        functools.partial(verdict, matrix=options.matrix, quick=options.quick, soon=options.soon),
        waiting,
        options.jobs,
        options.limit,
    ):
        one = _verdict_of(result)
        verdicts.append(one)
        print(describe(one), flush=True)
        if options.json:
            document = {"schema": SCHEMA, "versions": versions(), "verdicts": [asdict(kept) for kept in verdicts]}
            options.json.write_text(json.dumps(document, indent=1))
    if options.markdown:
        more = f"\n{tables.killers(verdicts)}" if any(one.row for one in verdicts) else ""
        judged = sum(one.part != "right" for one in verdicts)
        progress = f"{judged} of the catalogue's {len(MUTANTS)} mutants have been judged so far.\n\n"
        options.markdown.write_text((progress if judged < len(MUTANTS) else "") + tables.scores(verdicts) + more)
    if options.matrix_file:
        options.matrix_file.write_text(tables.matrix(verdicts))
    print(f"\n{tables.scores(verdicts)}")
    wrong = [one for one in verdicts if one.part != "right"]
    right = [one for one in verdicts if one.part == "right"]
    accused = sum(one.found for one in right)
    print(f"{sum(one.found for one in wrong)} of {len(wrong)} wrong optimizers found, ", end="")
    print(f"{accused} of {len(right)} right ones accused")
    bad = [(one, why) for one in verdicts if (why := misjudged(one))]
    for one, why in bad:
        print(f"  {one.name}: {why}")
    return 1 if bad else 0


def _verdict_of(result: Done[str]) -> Verdict:
    if isinstance(result.result, Verdict):
        return result.result
    mutant = BY_NAME.get(result.task)
    base, part = (mutant.base, mutant.part) if mutant else ("", "right")
    return Verdict(result.task, base, part, trouble=result.trouble)


def _import_once(bases: Sequence[str]) -> None:
    """What this process has imported, its children need not."""
    by_suite("radam:RAdam", ordered_tests()[:1])
    by_audit(functools.partial(subject_of, MUTANTS[0].name), MUTANTS[0].base)
    if any(base in LIKE or "." in base for base in bases):
        import torch._dynamo  # noqa: F401


if __name__ == "__main__":
    sys.exit(main())
