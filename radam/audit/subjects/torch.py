"""torch's own optimizers of RAdam's family, with their oracles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from radam.audit.strategies import DECAY_CORNERS, LR_CORNERS, betas
from radam.audit.subject import Oracle, Subject
from radam.audit.subjects.classes import FromClass, class_subject

_OPTIONS: dict[str, SearchStrategy[Any]] = {
    "lr": st.sampled_from(LR_CORNERS),
    "betas": betas(),
    "eps": st.sampled_from((1e-8, 1e-3, 0.0, 1e-16, 1.0)),
    "weight_decay": st.sampled_from(DECAY_CORNERS),
    "maximize": st.booleans(),
}


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as the oracles know them: decay is L2 unless it is decoupled."""
    neutral = {
        name: float(value.detach()) if isinstance(value, torch.Tensor) else value for name, value in options.items()
    }
    neutral.setdefault("eps", 1e-8)
    neutral["weight_decouple"] = neutral.pop("decoupled_weight_decay", False)
    return neutral


def _radam(options: Mapping[str, Any]) -> Oracle:
    """torch.optim.RAdam: adaptive where rho_t > 5, eps added before the bias correction of v."""
    import reference

    return reference.RAdam(**_plain(options), strict=True)


def _adam(options: Mapping[str, Any]) -> Oracle:
    """torch.optim.Adam: eps added after the bias correction of v, maximum of the uncorrected v."""
    import reference

    return reference.Adam(**_plain(options), optimized_update=False)


def _adamw(options: Mapping[str, Any]) -> Oracle:
    """torch.optim.AdamW: Adam with decoupled decay, of 0.01 by default."""
    return _adam({"weight_decay": 0.01, **options, "decoupled_weight_decay": True})


_ORACLES: dict[str, tuple[Callable[[Mapping[str, Any]], Oracle], dict[str, SearchStrategy[Any]]]] = {
    "RAdam": (_radam, {"decoupled_weight_decay": st.booleans()}),
    "Adam": (_adam, {"decoupled_weight_decay": st.booleans(), "amsgrad": st.booleans()}),
    "AdamW": (_adamw, {"amsgrad": st.booleans()}),
}


def torch_subject(optimizer: type[torch.optim.Optimizer], name: str, like: str | None = None) -> Subject | None:
    """A Subject for an optimizer of torch, judged with textbook scalars; None for one without an oracle here.

    Args:
        optimizer: the class.
        name: of the subject, for reports.
        like: the name of torch's optimizer whose constructor and arithmetic it has; None where it is torch's own.
    """
    if like is None and optimizer is getattr(torch.optim, optimizer.__name__, None):
        like = optimizer.__name__
    if like not in _ORACLES:
        return None
    oracle, more = _ORACLES[like]
    build = FromClass(optimizer)
    return Subject(
        name=name,
        build=build,
        hyperparameters=st.fixed_dictionaries({**_OPTIONS, **more}),
        oracle=oracle,
        call=build.call,
    )


def subjects() -> list[Subject]:
    """A Subject for each optimizer of torch.optim."""
    names = ["ASGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD"]
    return [
        torch_subject(cls, f"torch.optim:{name}") or class_subject(cls, f"torch.optim:{name}")
        for name in names
        for cls in [getattr(torch.optim, name)]
    ]
