"""adan_pytorch's optimizer, without an oracle: it keeps four arrays."""

from __future__ import annotations

from hypothesis import strategies as st

from radam.audit.subject import Subject
from radam.audit.subjects.peers.describing import described


def subjects() -> list[Subject]:
    """A Subject for adan_pytorch.Adan. Its betas are what others call 1 - beta."""
    options = {
        "lr": st.sampled_from((1e-3, 0.1)),
        "betas": st.sampled_from(((0.02, 0.08, 0.01), (0.1, 0.5, 0.001))),
        "eps": st.sampled_from((1e-8, 1e-3)),
        "weight_decay": st.sampled_from((0.0, 0.02, 0.1)),
    }
    return [described("adan_pytorch:Adan", options)]
