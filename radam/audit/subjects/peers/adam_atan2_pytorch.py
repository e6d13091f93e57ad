"""adam_atan2_pytorch's optimizers, without oracles: of an arc tangent there is no error bound."""

from __future__ import annotations

from hypothesis import strategies as st

from radam.audit.subject import Subject
from radam.audit.subjects.peers.common import described

# `cautious_factor` is left at 1: below, each step depends on a mean over the tensor, and could not be taken in parts.
_OPTIONS = {
    "lr": st.sampled_from((1e-4, 0.1, 1e-2)),
    "betas": st.tuples(st.sampled_from((0.9, 0.5)), st.sampled_from((0.99, 0.999, 0.9))),
    "weight_decay": st.sampled_from((0.0, 0.1)),
    "a": st.sampled_from((1.27, 1.0)),
    "b": st.sampled_from((1.0, 2.0)),
    "decoupled_wd": st.booleans(),
}


def subjects() -> list[Subject]:
    """A Subject for AdamAtan2 and AdoptAtan2."""
    return [
        described("adam_atan2_pytorch:AdamAtan2", {**_OPTIONS, "cautious_wd": st.booleans()}, state={}),
        described("adam_atan2_pytorch:AdoptAtan2", _OPTIONS, state={}),
    ]
