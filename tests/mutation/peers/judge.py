"""Judge one peer, in a process that imports what its tests import: a line of JSON for each mutant.

`python -m tests.mutation.peers.judge NAME`; what `python -m tests.mutation.peers` runs for each peer.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.mutation.forking import each_in_a_process
from tests.mutation.peers.mistakes import ONE_PATH, Mistake, of
from tests.mutation.peers.patching import install, patched_modules
from tests.mutation.peers.peer import Numbers, Peer, differing, path_of
from tests.mutation.peers.peers import PEERS
from tests.mutation.peers.running import enter
from tests.mutation.peers.sources import CACHE, packages_folder, source_folder

SEEDS = (0, 1, 2)
"""Of the unpatched source: a test that fails with one of them is left out."""

Task = tuple[str, Mistake | None, int]
"""tests or numbers, of a mutant or of the unpatched source, with a seed."""


def work(peer: Peer, cache: Path, task: Task) -> Any:
    """Carry out a task, in a process of its own."""
    kind, one, seed = task
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    folder = source_folder(peer, cache)
    if peer.sdist:
        enter(folder)
    if one is not None:
        install(patched_modules(one.edits[peer.source], peer.places))
    return peer.tests(folder, seed) if kind == "tests" else peer.numbers()


def judge(peer: Peer, cache: Path, mistakes: Sequence[Mistake], jobs: int, limit: float) -> None:
    """Print what comes of the unpatched source, and then of each mutant."""
    do = functools.partial(work, peer, cache)
    outcomes: dict[int, dict[str, str]] = {}
    right: Any = None
    unpatched: list[Task] = [("numbers", None, 0), *(("tests", None, seed) for seed in SEEDS)]
    for done in each_in_a_process(do, unpatched, jobs, limit):
        if done.trouble:
            raise SystemExit(f"{peer.name}, unpatched: {done.trouble}")
        if done.task[0] == "numbers":
            right = done.result
        else:
            outcomes[done.task[2]] = done.result
    tests = {
        test: next((said[test] for said in outcomes.values() if said[test] != "passed"), "passed")
        for test in outcomes[SEEDS[0]]
    }
    passing = [test for test, said in tests.items() if said == "passed"]
    _say({"peer": peer.name, "tests": tests})
    half: dict[str, dict[str, Any]] = {}
    tasks: list[Task] = [(kind, one, SEEDS[0]) for one in mistakes for kind in ("numbers", "tests")]
    for done in each_in_a_process(do, tasks, jobs, limit):
        kind, one, _ = done.task
        assert one is not None
        line = half.setdefault(one.name, {"peer": peer.name, "mistake": one.name, "trouble": "", "seconds": 0.0})
        line["seconds"] += done.seconds
        if done.trouble:
            line["trouble"] = done.trouble
        if kind == "numbers":
            line["differs"] = _by_path(differing(right, done.result, peer.tolerance)) if done.result else {}
            line["same"] = [path for path in _wrong_paths(one, peer, right) if path not in line["differs"]]
        else:
            said = done.result or {}
            line["failed"] = [test for test in passing if said.get(test, "failed") == "failed"]
        if "differs" in line and "failed" in line:
            _say(line)


def _wrong_paths(one: Mistake, peer: Peer, right: Numbers) -> list[str]:
    """The code paths in which a mistake is made: all, or those of the only place that is edited."""
    paths = list(dict.fromkeys(path_of(run) for run in right))
    if one.part != ONE_PATH:
        return paths
    places = {place for place, _, _ in one.edits[peer.source]}
    return [path for path in paths if path.partition(",")[0] in places]


def _by_path(runs: dict[str, float]) -> dict[str, str]:
    """By the code path: the run in which the mutant differs most."""
    most: dict[str, str] = {}
    for run in runs:
        path = path_of(run)
        if path not in most or runs[run] > runs[most[path]]:
            most[path] = run
    return {path: f"{run.partition(': ')[2]} ({runs[run]:.1e})" for path, run in most.items()}


def _say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Judge one peer."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.peers.judge", description=__doc__)
    parser.add_argument("name", choices=[*PEERS])
    parser.add_argument("mistakes", nargs="*", help="only these")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for the tests on one mutant")
    options = parser.parse_args(argv)
    peer = PEERS[options.name]
    # Behind all others, so that nothing of this project's own is replaced.
    sys.path.append(str(packages_folder(peer, options.cache)))
    for module in peer.preload:
        importlib.import_module(module)
    chosen = [one for one in of(peer.source) if not options.mistakes or one.name in options.mistakes]
    judge(peer, options.cache, chosen, options.jobs, options.limit)
    return 0


if __name__ == "__main__":
    sys.exit(main())
