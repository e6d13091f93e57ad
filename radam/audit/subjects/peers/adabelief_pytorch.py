"""AdaBelief, by its authors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from radam.audit.strategies import LR_CORNERS
from radam.audit.subject import Oracle, Subject
from radam.audit.subjects.peers.common import adaptive, described, plain


def _adabelief(options: Mapping[str, Any]) -> Oracle:
    """AdaBelief: rectified by default, eps before the bias correction there, after it without."""
    from radam.audit.subjects.peers.oracles import adabelief

    neutral = plain(options, fixed_decay="absolute")
    neutral.pop("print_change_log", None)
    rectify = neutral.pop("rectify", True)
    if not rectify:
        neutral.pop("degenerated_to_sgd", None)
    return adabelief(neutral, rectify=rectify, optimized_update=rectify)


def subjects() -> list[Subject]:
    """A Subject for the package's one optimizer."""
    flags = ("amsgrad", "weight_decouple", "fixed_decay", "rectify", "degenerated_to_sgd")
    options = {
        # At lr = 0 a fixed decay acts, as documented, and by the oracles of `reference` it does not.
        **adaptive(*flags, lr=st.sampled_from([lr for lr in LR_CORNERS if lr])),
        "print_change_log": st.just(False),
    }
    variances = {"t": "step", "m": "exp_avg", "v": "exp_avg_var", "s": "max_exp_avg_var"}
    return [described("adabelief_pytorch:AdaBelief", options, _adabelief, variances)]
