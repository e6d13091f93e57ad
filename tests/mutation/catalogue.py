"""The catalogue: `MUTANTS`, and `BY_NAME`. `python -m tests.mutation.catalogue` prints the counts by part."""

from __future__ import annotations

from collections import Counter

from tests.mutation import mutants_numbers, mutants_objects, mutants_tensors
from tests.mutation.mutant import PARTS, Mutant

MUTANTS: tuple[Mutant, ...] = (*mutants_numbers.MUTANTS, *mutants_tensors.MUTANTS, *mutants_objects.MUTANTS)
BY_NAME: dict[str, Mutant] = {mutant.name: mutant for mutant in MUTANTS}


def table(names: bool = False) -> str:
    counts = Counter(mutant.part for mutant in MUTANTS)
    bases = sorted({mutant.base for mutant in MUTANTS})
    lines = [f"{'part':<20}{'mutants':>8}" + "".join(f"{base:>16}" for base in bases)]
    for part in PARTS:
        own = [mutant for mutant in MUTANTS if mutant.part == part]
        split = Counter(mutant.base for mutant in own)
        lines.append(f"{part:<20}{counts[part]:>8}" + "".join(f"{split[base]:>16}" for base in bases))
        if names:
            lines += [f"    {mutant.name}: {mutant.why}" for mutant in own]
    split = Counter(mutant.base for mutant in MUTANTS)
    lines.append(f"{'all':<20}{len(MUTANTS):>8}" + "".join(f"{split[base]:>16}" for base in bases))
    return "\n".join(lines)


if __name__ == "__main__":
    import sys

    print(table(names="--names" in sys.argv[1:]))
