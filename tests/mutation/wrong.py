"""Wrong optimizers by name: `tests.mutation.wrong:NAME`, or `from tests.mutation.wrong import NAME`.

Those with RAdam's constructor are classes. Each is built on first use, as a module of its own that also holds the
`WeightDecay` that belongs to it: `sys.modules[NAME.__module__]`. Those with the constructor of one of torch's
optimizers are Subjects. dir() does not list them: whoever looks at everything in a module, as pytest does, would build
them all.
"""

from __future__ import annotations

import difflib
from typing import Any

from tests.mutation.catalogue import BY_NAME
from tests.mutation.mutant import build, judged_as


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in BY_NAME:
        near = difflib.get_close_matches(name, BY_NAME, n=3, cutoff=0.4)
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise AttributeError(f"module {__name__!r} has no mutant {name!r}{hint}")
    return judged_as(build(BY_NAME[name]), BY_NAME[name].base, f"{__name__}:{name}")
