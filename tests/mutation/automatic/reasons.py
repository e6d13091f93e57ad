"""`equivalent.toml`: mutants that no test can kill, each with the reason why."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.automatic.mutations import Mutant, Place

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path(__file__).with_name("equivalent.toml")


@dataclass(frozen=True)
class Reasons:
    """Why mutants survive, by their place."""

    by_place: Mapping[Place, str]

    def of(self, mutant: Mutant) -> str:
        """The reason of a mutant; empty where there is none."""
        return self.by_place.get(mutant.place, "")

    def stale(self, survivors: Iterable[Mutant], judged: Iterable[Mutant], possible: Iterable[Mutant]) -> list[Place]:
        """Places with a reason that no survivor needs: their mutants are killed now, or there are none any more.

        Args:
            survivors: mutants that survived.
            judged: mutants that were run, survivors among them.
            possible: all mutants of the files that were looked at.
        """
        files = {mutant.place.file for mutant in possible}
        there = {mutant.place for mutant in possible}
        killed = {mutant.place for mutant in judged} - {mutant.place for mutant in survivors}
        return [place for place in self.by_place if place.file in files and (place not in there or place in killed)]


def read(path: Path = FILE) -> Reasons:
    """The reasons of a file.

    Raises:
        ValueError: an entry has another form, no reason, or gives a place a second one.
    """
    found: dict[Place, str] = {}
    for entry in tomllib.loads(path.read_text()).get("equivalent", []):
        if set(entry) != {"file", "within", "line", "becomes", "reason"} or not entry["reason"].strip():
            raise ValueError(f"an entry must have file, within, line, becomes and a reason, but is {entry}")
        for becomes in entry["becomes"]:
            place = Place(entry["file"], entry["within"], entry["line"], becomes)
            if place in found:
                raise ValueError(f"a mutant has two reasons: {place}")
            found[place] = entry["reason"].strip()
    return Reasons(found)
