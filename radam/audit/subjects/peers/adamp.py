"""adamp's optimizers, without oracles: they project matrices by their norms."""

from __future__ import annotations

from hypothesis import strategies as st

from radam.audit.strategies import betas
from radam.audit.subject import Subject
from radam.audit.subjects.peers.common import described

_OPTIONS = {
    "weight_decay": st.sampled_from((0.0, 0.1, 0.01)),
    "eps": st.sampled_from((1e-8, 1e-3)),
    "delta": st.sampled_from((0.1, 0.5)),
    "wd_ratio": st.sampled_from((0.1, 1.0)),
    "nesterov": st.booleans(),
}


def subjects() -> list[Subject]:
    """A Subject for each of adamp's optimizers."""
    of_adam = {"lr": st.sampled_from((1e-3, 0.1)), "betas": betas(), **_OPTIONS}
    of_sgd = {
        "lr": st.sampled_from((0.1, 1e-3)),
        "momentum": st.sampled_from((0.0, 0.9)),
        "dampening": st.sampled_from((0.0, 0.5)),
        **_OPTIONS,
        # With decay first: it is what shows, in trial steps, that a matrix is projected.
        "weight_decay": st.sampled_from((0.1, 0.0, 0.01)),
    }
    return [described("adamp:AdamP", of_adam, state={}), described("adamp:SGDP", of_sgd, state={})]
