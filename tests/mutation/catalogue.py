"""The catalogue: `MUTANTS`, and `BY_NAME`. `python -m tests.mutation.catalogue` prints the counts by part."""

from __future__ import annotations

from collections import Counter

from tests.mutation import (
    mutants_accidents,
    mutants_adam,
    mutants_astray,
    mutants_evasive,
    mutants_kernels,
    mutants_numbers,
    mutants_objects,
    mutants_reported,
    mutants_tensors,
    mutants_torch,
    mutants_unseen,
)
from tests.mutation.mutant import PARTS, Mutant

MUTANTS: tuple[Mutant, ...] = (
    *mutants_numbers.MUTANTS,
    *mutants_tensors.MUTANTS,
    *mutants_objects.MUTANTS,
    *mutants_adam.MUTANTS,
    *mutants_torch.MUTANTS,
    *mutants_kernels.MUTANTS,
    *mutants_unseen.MUTANTS,
    *mutants_accidents.MUTANTS,
    *mutants_reported.MUTANTS,
    *mutants_evasive.MUTANTS,
    *mutants_astray.MUTANTS,
)
BY_NAME: dict[str, Mutant] = {mutant.name: mutant for mutant in MUTANTS}


def table(names: bool = False) -> str:
    """How many there are, by what is patched and by part; with their names and what is wrong for `names`."""
    lines = []
    for base, count in sorted(Counter(mutant.base for mutant in MUTANTS).items()):
        lines.append(f"{base:<24}{count:>5}")
    lines.append("")
    for part in PARTS:
        own = [mutant for mutant in MUTANTS if mutant.part == part]
        lines.append(f"{part:<24}{len(own):>5}")
        if names:
            lines += [f"    {mutant.name}: {mutant.why}" for mutant in own]
    lines.append(f"{'all':<24}{len(MUTANTS):>5}")
    return "\n".join(lines)


if __name__ == "__main__":
    import sys

    print(table(names="--names" in sys.argv[1:]))
