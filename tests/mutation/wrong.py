"""Wrong optimizers by name: `tests.mutation.wrong:NAME`, or `from tests.mutation.wrong import NAME`.

Each is the class `RAdam` of a module of its own, built on first use; that module (`sys.modules[NAME.__module__]`) also
holds the `WeightDecay` that belongs to it.
"""

from __future__ import annotations

import difflib
from typing import Any

from tests.mutation.catalogue import BY_NAME
from tests.mutation.mutant import build


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in BY_NAME:
        near = difflib.get_close_matches(name, BY_NAME, n=3, cutoff=0.4)
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise AttributeError(f"module {__name__!r} has no mutant {name!r}{hint}")
    return build(BY_NAME[name]).RAdam


def __dir__() -> list[str]:
    return sorted(BY_NAME)
