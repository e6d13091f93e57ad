"""prodigyopt's optimizer, without an oracle: its step size is one for all parameters."""

from __future__ import annotations

from hypothesis import strategies as st

from radam.audit.subject import Subject
from radam.audit.subjects.peers.common import described


def subjects() -> list[Subject]:
    """A Subject for prodigyopt.Prodigy."""
    options = {
        "lr": st.sampled_from((1.0, 0.5)),
        "betas": st.tuples(st.sampled_from((0.9, 0.5, 0.0)), st.sampled_from((0.999, 0.99))),
        "beta3": st.sampled_from((None, 0.9)),
        "eps": st.sampled_from((1e-8, 1e-3)),
        "weight_decay": st.sampled_from((0.0, 0.1)),
        "decouple": st.sampled_from((True, False)),
        "use_bias_correction": st.booleans(),
        "safeguard_warmup": st.booleans(),
        "d0": st.sampled_from((1e-6, 1e-3)),
        "d_coef": st.sampled_from((1.0, 2.0)),
        "growth_rate": st.sampled_from((float("inf"), 1.02)),
        "slice_p": st.sampled_from((1, 11)),
    }
    return [
        described("prodigyopt:Prodigy", options, state={}, coupled="its step size is estimated from all parameters")
    ]
