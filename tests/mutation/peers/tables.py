"""What came of the mutants, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from radam.audit.checks import all_checks
from tests.mutation.peers.mistakes import MISTAKES, ONE_PATH, Mistake, common
from tests.mutation.peers.peers import PEERS
from tests.mutation.peers.torch_ import LATER

OURS = "ours"
TITLES = {
    OURS: "this project: the checks of `radam-audit`, on torch's `RAdam`",
    **{name: peer.title for name, peer in PEERS.items()},
}


@dataclass(frozen=True)
class Verdict:
    """What the tests said of one mutant."""

    mistake: str
    failed: list[str]
    differs: dict[str, str]
    """By the code path: the run in which it differs most from the unpatched implementation, and by how much."""
    same: list[str]
    """The code paths in which it should differ, and was not seen to."""
    trouble: str
    seconds: float

    @property
    def problem(self) -> str:
        """Why it does not count; empty where it does."""
        if self.trouble:
            return self.trouble.strip().splitlines()[-1]
        return f"not shown to differ: {', '.join(self.same)}" if self.same else ""


@dataclass(frozen=True)
class Judged:
    """What came of one peer."""

    peer: str
    tests: dict[str, str]
    """All that were selected, and what came of them on the unpatched source."""
    verdicts: list[Verdict] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @staticmethod
    def of_dict(kept: dict[str, Any]) -> Judged:
        """From JSON."""
        return Judged(kept["peer"], kept["tests"], [Verdict(**one) for one in kept["verdicts"]])

    @property
    def run(self) -> list[str]:
        """The tests that pass on the unpatched source."""
        return [test for test, said in self.tests.items() if said == "passed"]

    def failures(self, mistake: Mistake, later: bool = False) -> int | None:
        """How many tests catch a mistake; None where this peer has no such mutant."""
        for one in self.verdicts:
            if one.mistake == mistake.name:
                return len([test for test in one.failed if later or test != LATER])
        return None

    def score(self, mistakes: Sequence[Mistake], later: bool = False) -> tuple[int, int]:
        """How many of some mistakes are caught, and how many mutants there are."""
        counts = [count for one in mistakes if (count := self.failures(one, later)) is not None]
        return sum(count > 0 for count in counts), len(counts)


def _share(caught: int, mutants: int) -> str:
    return f"{caught} of {mutants} ({caught / mutants:.0%})" if mutants else ""


def scores(results: Sequence[Judged]) -> str:
    """Markdown: how many mutants each peer's tests catch."""
    everywhere = [one for one in MISTAKES if one.part != ONE_PATH]
    only = [one for one in MISTAKES if one.part == ONE_PATH]
    lines = [
        f"| tests | run | of mutants wrong in every code path | of the {len(common())} that all peers have |"
        " of mutants wrong in one path |",
        "|---|--:|--:|--:|--:|",
    ]
    for one in results:
        for later in (False, True) if LATER in one.tests else (False,):
            more = "the same, with its newer test of one step of the loop against a copy of it"
            title = more if later else TITLES[one.peer]
            cells = [_share(*one.score(mistakes, later)) for mistakes in (everywhere, common(), only)]
            count: int | str = len([test for test in one.run if later or test != LATER])
            if one.peer == OURS:
                count = f"{len(all_checks())} checks"
            lines.append(f"| {title} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def by_part(results: Sequence[Judged]) -> str:
    """Markdown: the same for each part of the algorithm."""
    lines = [f"| part | {' | '.join(one.peer for one in results)} |", f"|---|{'--:|' * len(results)}"]
    for part in dict.fromkeys(one.part for one in MISTAKES):
        mistakes = [one for one in MISTAKES if one.part == part]
        cells = [f"{caught} of {all_}" if all_ else "" for caught, all_ in (one.score(mistakes) for one in results)]
        lines.append(f"| {part} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def by_mistake(results: Sequence[Judged]) -> str:
    """Markdown: by how many tests each mutant is caught."""
    lines = [f"| mistake | | {' | '.join(one.peer for one in results)} |", f"|---|---|{'--:|' * len(results)}"]
    for mistake in MISTAKES:
        counts = [one.failures(mistake) for one in results]
        cells = ["" if count is None else str(count or "**0**") for count in counts]
        lines.append(f"| `{mistake.name}` | {mistake.why} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def by_test(results: Sequence[Judged]) -> str:
    """Markdown: how many mutants each test catches."""
    lines = ["| peer | test | unpatched | catches |", "|---|---|---|--:|"]
    for one in (one for one in results if one.peer != OURS):
        for test, said in sorted(one.tests.items()):
            caught = sum(test in verdict.failed for verdict in one.verdicts)
            lines.append(f"| {one.peer} | `{test.replace('|', '/')}` | {said} | {caught if said == 'passed' else ''} |")
    return "\n".join(lines) + "\n"


def page(results: Sequence[Judged]) -> str:
    """All tables."""
    seconds = {one.peer: sum(verdict.seconds for verdict in one.verdicts) for one in results}
    left_out = {one.peer: len(one.tests) - len(one.run) for one in results}
    parts = [
        "What `python -m tests.mutation.peers --markdown tests/mutation/peers/results.md` has printed.\n",
        scores(results),
        "Seconds of processes: " + ", ".join(f"{peer} {spent:.0f}" for peer, spent in seconds.items()) + ".",
        "Tests left out, because they fail or are skipped on the unpatched source: "
        + ", ".join(f"{peer} {count}" for peer, count in left_out.items())
        + ".\n",
        "## By part\n",
        by_part(results),
        "## By mistake\n",
        "How many tests catch it; empty where an implementation has no such thing to get wrong. torch without its newer"
        " test.\n",
        by_mistake(results),
        "## By test\n",
        by_test(results),
    ]
    return "\n".join(parts).rstrip() + "\n"
