"""madgrad's optimizers, without oracles: of a cube root there is no error bound."""

from __future__ import annotations

from hypothesis import strategies as st

from radam.audit.subject import Subject
from radam.audit.subjects.peers.common import described

_OPTIONS = {
    "lr": st.sampled_from((1e-2, 0.1, 1e-3)),
    "momentum": st.sampled_from((0.9, 0.0, 0.5)),
    "weight_decay": st.sampled_from((0.0, 0.1, 0.01)),
    "eps": st.sampled_from((1e-6, 1e-3, 0.0)),
    "decouple_decay": st.booleans(),
}


def subjects() -> list[Subject]:
    """A Subject for each of madgrad's optimizers."""
    return [described(f"madgrad:{name}", _OPTIONS, state={}) for name in ("MADGRAD", "MirrorMADGRAD")]
