"""Mutate the core line by line, and run its tests on each mutant: `python -m tests.mutation.automatic`.

A survivor that is not in `equivalent.toml`, with the reason why no test can kill it, makes the exit status 1; so does a
reason that no survivor needs.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.mutation.automatic import reasons, running
from tests.mutation.automatic.mutations import Mutant, core, mutants
from tests.mutation.automatic.order import tests_of
from tests.mutation.automatic.running import Unmutated, Verdict

UNJUDGED = ("radam/__init__.py", "reference/__init__.py")
"""Without a mutant."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.automatic", description=__doc__)
    parser.add_argument("files", nargs="*", help="source files, from the root of the repository (default: the core)")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at once (default: 1)")
    parser.add_argument("--limit", type=float, default=240.0, help="seconds for one mutant (default: 240)")
    parser.add_argument("--sample", type=int, help="judge at most as many mutants of each file, drawn by --seed")
    parser.add_argument("--seed", type=int, default=0, help="of --sample")
    parser.add_argument(
        "--resume",
        nargs="?",
        type=Path,
        const=Path(__file__).with_name("verdicts.jsonl"),
        help="keep verdicts in this file, a line each, and do not repeat them (no name: verdicts.jsonl beside this)",
    )
    parser.add_argument("--again", action="store_true", help="repeat those verdicts of --resume that are not 'killed'")
    parser.add_argument("--json", type=Path, help="write the verdicts and the tests' times to this file")
    parser.add_argument("--markdown", type=Path, help="write the table and the survivors to this file")
    return parser


class Log:
    """Verdicts, kept in a file of lines where there is one, and what tests do on the right source."""

    def __init__(self, path: Path | None, again: bool) -> None:
        self.path = path
        self.verdicts: dict[str, Verdict] = {}
        self.right: dict[str, Unmutated] = {}
        if path and path.exists():
            for line in path.read_text().splitlines():
                verdict = Verdict(**json.loads(line))
                self.verdicts[verdict.name] = verdict
        self.again = {name for name, one in self.verdicts.items() if again and one.outcome != "killed"}
        """Verdicts that are not kept."""
        for name in self.again:
            del self.verdicts[name]

    def add(self, verdict: Verdict) -> None:
        """Note what came of a mutant."""
        self.verdicts[verdict.name] = verdict
        if self.path:
            with self.path.open("a") as file:
                file.write(json.dumps(asdict(verdict)) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Judge the mutants, print a table and the survivors, and return the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    files = options.files or [file for file in core() if file not in UNJUDGED]
    unknown = set(files) - set(core())
    if unknown:
        parser.error(f"no file of the core is called {', '.join(sorted(unknown))}")
    log = Log(options.resume, options.again)
    possible = {file: mutants(file) for file in files}
    chosen = {file: set(_sample(found, options.sample, options.seed)) for file, found in possible.items()}
    waiting = [
        mutant
        for file, found in possible.items()
        for mutant in found
        if mutant.name in log.again or (mutant in chosen[file] and mutant.name not in log.verdicts)
    ]
    if waiting:
        _judge(waiting, log, options.jobs, options.limit)
    failing = sorted(
        {tests for file in files for tests in tests_of(file) if tests in log.right and not log.right[tests].passes}
    )
    return _report(possible, log, failing, options.json, options.markdown)


def _sample(found: list[Mutant], size: int | None, seed: int) -> list[Mutant]:
    if size is None or size >= len(found):
        return found
    drawn = random.Random(seed).sample(range(len(found)), size)
    return [found[i] for i in sorted(drawn)]


def _judge(waiting: list[Mutant], log: Log, jobs: int, limit: float) -> None:
    running.import_once()
    files = sorted({mutant.place.file for mutant in waiting})
    for right in running.unmutated(sorted({name for file in files for name in tests_of(file)}), jobs, limit):
        print(f"{'passes' if right.passes else 'FAILS':8} {right.seconds:6.1f} s  {right.tests}", flush=True)
        log.right[right.tests] = right
    waiting = [mutant for mutant in waiting if all(log.right[name].passes for name in _tests_of(mutant))]
    for verdict in running.judge_all(waiting, _tests_of, log.right, jobs, limit):
        log.add(verdict)
        print(f"{verdict.outcome:8} {verdict.seconds:6.1f} s  {verdict.name}  {verdict.by}", flush=True)


def _tests_of(mutant: Mutant) -> Sequence[str]:
    return tests_of(mutant.place.file)


def _report(
    possible: dict[str, list[Mutant]],
    log: Log,
    failing: list[str],
    json_file: Path | None,
    markdown: Path | None,
) -> int:
    known = reasons.read()
    everyone = [mutant for found in possible.values() for mutant in found]
    judged = [mutant for mutant in everyone if mutant.name in log.verdicts]
    survivors = [mutant for mutant in judged if log.verdicts[mutant.name].outcome in ("survived", "trouble")]
    unexplained = [mutant for mutant in survivors if not known.of(mutant)]
    stale = known.stale(survivors, judged, everyone)
    text = table(possible, judged, log, known)
    if survivors:
        text += "\nSurvivors, with the reason why no test can kill them:\n\n"
        text += "".join(_line(mutant, known.of(mutant) or "**none**") for mutant in survivors)
    print(f"\n{text}")
    for mutant in unexplained:
        print(f"{log.verdicts[mutant.name].outcome}: {mutant.place.file}:{mutant.number}: {_change(mutant)}")
    for place in stale:
        print(f"no survivor needs its reason: {place.file}:{place.within}: {place.line} -> {place.becomes}")
    for tests in failing:
        print(f"fails on the right source, or takes too long: {tests}")
    if json_file:
        rows = {
            "verdicts": [asdict(log.verdicts[mutant.name]) for mutant in judged],
            "tests": [{"tests": one.tests, "seconds": one.seconds} for one in log.right.values()],
        }
        json_file.write_text(json.dumps(rows, indent=1) + "\n")
    if markdown:
        markdown.write_text(text)
    return 1 if unexplained or stale or failing else 0


def table(possible: dict[str, list[Mutant]], judged: Sequence[Mutant], log: Log, known: reasons.Reasons) -> str:
    """A row for each file, as Markdown."""
    head = ("file", "mutants", "judged", "killed", "by time", "equivalent", "survive", "seconds")
    rows = []
    for file, found in possible.items():
        own = [mutant for mutant in judged if mutant.place.file == file]
        verdicts = [log.verdicts[mutant.name] for mutant in own]
        outcomes = Counter(verdict.outcome for verdict in verdicts)
        left = [mutant for mutant in own if log.verdicts[mutant.name].outcome in ("survived", "trouble")]
        explained = sum(bool(known.of(mutant)) for mutant in left)
        counts = (len(found), len(own), outcomes["killed"], outcomes["timeout"], explained, len(left) - explained)
        rows.append((f"`{file}`", *counts, round(sum(verdict.seconds for verdict in verdicts))))
    totals = ("all", *(sum(int(row[i]) for row in rows) for i in range(1, len(head))))
    lines = [" | ".join(map(str, row)) for row in (head, ["---", *["---:"] * (len(head) - 1)], *rows, totals)]
    return "".join(f"| {line} |\n" for line in lines)


def _change(mutant: Mutant) -> str:
    return f"`{mutant.place.line}` becomes `{mutant.place.becomes}`"


def _line(mutant: Mutant, reason: str) -> str:
    return (
        f"- `{mutant.place.file}`, `{mutant.place.within or 'module'}`: {_change(mutant)}: {' '.join(reason.split())}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
