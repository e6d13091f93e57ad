"""What the modules of packages share: hyper-parameters of the Adam family, and a Subject from a class and an oracle."""

from __future__ import annotations

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


def described(
    optimizer: type[torch.optim.Optimizer],
    name: str,
    options: Strategies | None = None,
    oracle: MakesOracle | None = None,
    state: Mapping[str, str] | None = None,
    **fixed: Any,
) -> Subject:
    """A Subject for an optimizer class, of those options that its constructor takes.

    Args:
        optimizer: the class.
        name: where users import it.
        options: strategies; None for those of options whose name says what they mean.
        oracle: what it should compute; None where nothing of that is known.
        state: names of its state; None for torch's Adam's.
        fixed: options that are the same in all examples.
    """
    build = FromClass(optimizer)
    drawn = hyperparameters_of(optimizer)
    if options is not None:
        drawn = st.fixed_dictionaries(dict(options)).filter(build.accepts)
    if fixed:
        drawn = drawn.map(lambda options: {**options, **fixed})
    names = torch_adam_names() if state is None else dict(state)
    return Subject(name=name, build=build, hyperparameters=drawn, oracle=oracle, state=names, call=build.call)
