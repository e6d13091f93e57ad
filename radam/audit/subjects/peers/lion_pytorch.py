"""lion_pytorch's optimizer."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from radam.audit.subject import Subject
from radam.audit.subjects.peers.common import by_keywords, described
from radam.audit.subjects.peers.oracles import Lion

OPTIONS: dict[str, SearchStrategy[Any]] = {
    "lr": st.sampled_from((1e-4, 0.1, 1e-3, 1.0)),
    "betas": st.tuples(st.sampled_from((0.9, 0.95, 0.0, 0.5)), st.sampled_from((0.99, 0.98, 0.0, 0.999))),
    "weight_decay": st.sampled_from((0.0, 0.1, 0.01, 1.0)),
}


def lion(
    lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0, absolute: bool = False
) -> Lion:
    """Lion's oracle, with the defaults that all packages have."""
    return Lion(lr=lr, betas=betas, weight_decay=weight_decay, absolute=absolute)


def subjects() -> list[Subject]:
    """A Subject for lion_pytorch.Lion.

    Its `decoupled_weight_decay` divides by the lr of the constructor, which no group tells: it is left off.
    """
    return [described("lion_pytorch:Lion", OPTIONS, by_keywords(lion), {"m": "exp_avg"})]
