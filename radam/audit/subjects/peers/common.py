"""What the modules of packages share: hyper-parameters of the Adam family, and a Subject from a class and an oracle."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from radam.audit.strategies import DECAY_CORNERS, LR_CORNERS, betas
from radam.audit.subject import Oracle, Subject, torch_adam_names
from radam.audit.subjects.classes import FromClass, hyperparameters_of

MakesOracle = Callable[[Mapping[str, Any]], Oracle]
Strategies = Mapping[str, SearchStrategy[Any]]

EPS = (1e-8, 1e-3, 0.0, 1e-16, 1.0)


def adaptive(*flags: str, **more: SearchStrategy[Any]) -> dict[str, SearchStrategy[Any]]:
    """Options of the Adam family, with flags that are drawn, and others.

    Example:
        >>> sorted(adaptive("amsgrad"))
        ['amsgrad', 'betas', 'eps', 'lr', 'weight_decay']
    """
    return {
        "lr": st.sampled_from(LR_CORNERS),
        "betas": betas(),
        "eps": st.sampled_from(EPS),
        "weight_decay": st.sampled_from(DECAY_CORNERS),
        **{flag: st.booleans() for flag in flags},
        **more,
    }


def plain(options: Mapping[str, Any], **names: str) -> dict[str, Any]:
    """Options as an oracle takes them: numbers for tensors, with other names for some.

    Example:
        >>> plain({"lr": torch.tensor(0.5), "fixed_decay": True}, fixed_decay="absolute")
        {'lr': 0.5, 'absolute': True}
    """
    return {
        names.get(name, name): float(value.detach()) if isinstance(value, torch.Tensor) else value
        for name, value in options.items()
    }


def by_keywords(make: Callable[..., Oracle]) -> MakesOracle:
    """An oracle of options from one that takes them as keywords.

    Example:
        >>> by_keywords(dict)({"lr": torch.tensor(0.5)})
        {'lr': 0.5}
    """
    return lambda options: make(**plain(options))


def described(
    name: str,
    options: Strategies | None = None,
    oracle: MakesOracle | None = None,
    state: Mapping[str, str] | None = None,
    *,
    coupled: str = "",
    residues: frozenset[str] = frozenset(),
    **fixed: Any,
) -> Subject:
    """A Subject for an optimizer class, of those options that its constructor takes.

    Args:
        name: of the class, MODULE:NAME, where users import it.
        options: strategies; None for those of options whose name says what they mean.
        oracle: what it should compute; None where nothing of that is known.
        state: names of its state; None for torch's Adam's.
        coupled, residues: as of :class:`radam.audit.Subject`.
        fixed: options that are the same in all examples.
    """
    module, _, attribute = name.partition(":")
    build = FromClass(getattr(importlib.import_module(module), attribute))
    if options is None:
        drawn = hyperparameters_of(build.optimizer)
    else:
        drawn = st.fixed_dictionaries(dict(options)).filter(build.accepts)
    if fixed:
        drawn = drawn.map(lambda options: {**options, **fixed})
    return Subject(
        name=name,
        build=build,
        hyperparameters=drawn,
        oracle=oracle,
        state=torch_adam_names() if state is None else dict(state),
        call=build.call,
        coupled=coupled,
        residues=residues,
    )
