"""The optimizers of pytorch_optimizer."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from radam.audit.subject import Oracle, Subject
from radam.audit.subjects.peers.common import adaptive, described, plain

_STATE = {"m": "exp_avg", "v": "exp_avg_sq"}
"""Steps are counted by group."""
_DECAY = ("weight_decouple", "fixed_decay", "maximize")


def _radam(options: Mapping[str, Any]) -> Oracle:
    """RAdam: eps before the bias correction; a step that is skipped, by default, decays nothing."""
    import reference

    defaults = {"eps": 1e-8, "degenerated_to_sgd": False}
    names = {"n_sma_threshold": "threshold", "fixed_decay": "absolute"}
    return reference.RAdam(**{**defaults, **plain(options, **names)}, decay_when_skipped=False)


def subjects() -> list[Subject]:
    """Subjects for the RAdam and the Adam family of pytorch_optimizer."""
    package = importlib.import_module("pytorch_optimizer")

    def of_name(name: str, *more: Any) -> Subject:
        return described(getattr(package, name), f"pytorch_optimizer:{name}", *more)

    thresholds = st.sampled_from((5, 4, 6, 10))
    return [
        of_name("RAdam", adaptive(*_DECAY, "degenerated_to_sgd", n_sma_threshold=thresholds), _radam, _STATE),
    ]
