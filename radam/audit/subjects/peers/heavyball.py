"""heavyball's optimizers of the Adam family, by their steps as they are written."""

from __future__ import annotations

import importlib

from radam.audit.subject import Subject
from radam.audit.subjects.peers.common import described


def subjects() -> list[Subject]:
    """Subjects for heavyball, without oracles: its state is nested, by places of its chains of transformations.

    Its functions are compiled at their first call, unless `heavyball.utils.compile_mode` is None, as here: each
    optimizer would take seconds of a compiler. Gradients are kept, as `consume_grad=False` asks for.
    """
    importlib.import_module("heavyball").utils.compile_mode = None
    names = ("ADOPT", "AdamW", "LaProp", "NAdam", "RMSprop", "SGD")
    return [described(f"heavyball:{name}", consume_grad=False) for name in names]
