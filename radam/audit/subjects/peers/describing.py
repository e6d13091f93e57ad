"""Subjects for classes whose options are described here."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from radam.audit.subject import Oracle, Subject
from radam.audit.subjects.classes import FromClass


def described(
    name: str,
    hyperparameters: Mapping[str, SearchStrategy[Any]],
    oracle: Callable[..., Oracle] | None = None,
    state: Mapping[str, str] | None = None,
    coupled: str = "",
    residues: frozenset[str] = frozenset(),
) -> Subject:
    """A Subject for the class that MODULE:NAME names.

    Args:
        name: of the class.
        hyperparameters: draws each option.
        oracle: takes the options as keywords; None for none.
        state: names of its state by symbol; none for None.
        coupled: why its parameters are not stepped each by itself.
        residues: state tensors that hold what roundings have left out.
    """
    module, _, attribute = name.partition(":")
    build = FromClass(getattr(importlib.import_module(module), attribute))

    def make(options: Mapping[str, Any]) -> Oracle:
        assert oracle is not None
        return oracle(**{key: float(x.detach()) if isinstance(x, torch.Tensor) else x for key, x in options.items()})

    return Subject(
        name=name,
        build=build,
        hyperparameters=st.fixed_dictionaries(dict(hyperparameters)),
        oracle=None if oracle is None else make,
        state=state or {},
        call=build.call,
        coupled=coupled,
        residues=residues,
    )
