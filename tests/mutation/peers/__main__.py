"""How many wrong RAdams the tests of others catch: `python -m tests.mutation.peers`.

Each mutant is one of a peer's own implementation, and is judged by that peer's tests. Exits with 1 where a judgement
could not be made, or a mutant could not be shown to compute anything else.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.mutation.peers import tables
from tests.mutation.peers.ours import judge
from tests.mutation.peers.peer import Peer
from tests.mutation.peers.peers import PEERS
from tests.mutation.peers.sources import CACHE, fetch
from tests.mutation.peers.tables import OURS, Judged, Verdict

NAMES = (OURS, *PEERS)


def lines_of(peer: Peer, cache: Path, jobs: int, limit: float) -> Iterator[dict[str, Any]]:
    """What the judge of a peer says, line by line."""
    command = [sys.executable, "-m", "tests.mutation.peers.judge", peer.name]
    command += ["--cache", str(cache), "--jobs", str(jobs), "--limit", str(limit)]
    # Small tensors: more threads only wait for one another.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **peer.environment}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode != 0:
        raise SystemExit(f"{peer.name} could not be judged: exit status {process.returncode}")


def judged(peer: Peer, lines: Iterator[dict[str, Any]]) -> Judged:
    """Collect what is said of a peer, and print it as it comes."""
    tests = next(lines)["tests"]
    result = Judged(peer.name, tests)
    for line in lines:
        one = Verdict(line["mistake"], line["failed"], line["differs"], line["same"], line["trouble"], line["seconds"])
        result.verdicts.append(one)
        said = f"caught by {len(one.failed)}" if one.failed else "survives"
        print(f"{peer.name:20} {one.mistake:35} {said:14} {one.seconds:6.1f} s  {one.problem}".rstrip(), flush=True)
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.peers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--json", type=Path, help="write what came of each mutant to this file")
    parser.add_argument("--resume", action="store_true", help="do not judge again the peers that are in that file")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at once (default: the number of cores)")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for one mutant (default: 600)")
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"where downloads are kept (default: {CACHE})")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Judge the peers, print the tables, and return the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"no peer is called {', '.join(unknown)}")
    names = options.names or list(NAMES)
    results: list[Judged] = []
    if options.resume and options.json and options.json.exists():
        kept = [Judged.of_dict(one) for one in json.loads(options.json.read_text())]
        results = [one for one in kept if one.peer in names]
    for name in names:
        if name in {one.peer for one in results}:
            continue
        if name == OURS:
            results.append(judge(options.jobs, options.limit))
        else:
            fetch(PEERS[name], options.cache)
            lines = lines_of(PEERS[name], options.cache, options.jobs, options.limit)
            results.append(judged(PEERS[name], lines))
        if options.json:
            options.json.write_text(json.dumps([one.as_dict() for one in results], indent=1))
    results.sort(key=lambda one: NAMES.index(one.peer))
    print(f"\n{tables.scores(results)}")
    if options.markdown:
        options.markdown.write_text(tables.page(results))
    problems = [(peer, one) for peer in results for one in peer.verdicts if one.problem]
    for result, one in problems:
        print(f"{result.peer}, {one.mistake}: {one.problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
