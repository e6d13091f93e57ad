"""A Subject for an optimizer class of which nothing is known but its constructor."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from radam.audit.decays import decays_among
from radam.audit.subject import Call, Params, Subject

_LR = (1e-3, 0.1, 1e-2, 0.5)
_FLAGS = ("amsgrad", "nesterov", "maximize", "centered", "decoupled_weight_decay", "weight_decouple")
"""Booleans whose meaning is the same wherever they occur."""


@dataclass(frozen=True)
class FromClass:
    """Builds an optimizer by calling its class with the options as they are."""

    optimizer: type[torch.optim.Optimizer]

    def __call__(self, params: Params, options: Mapping[str, Any]) -> torch.optim.Optimizer:
        """Make the optimizer."""
        return self.call(options).make(params)  # type: ignore[no-any-return]

    def call(self, options: Mapping[str, Any]) -> Call:
        """The constructor's call."""
        return Call(self.optimizer, options)

    def accepts(self, options: Mapping[str, Any]) -> bool:
        """Whether the constructor takes a combination of options."""
        try:
            self(_one_parameter(), options)
        except (ValueError, NotImplementedError, RuntimeError):
            return False
        return True


def _one_parameter() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.zeros(2))]


def hyperparameters_of(optimizer: type[torch.optim.Optimizer]) -> SearchStrategy[dict[str, Any]]:
    """Draws the options of a constructor whose meaning is known, around their defaults.

    It is known by name; and of an option that decays parameters, whatever it is called, by trial.

    Raises:
        ValueError: the constructor asks for an argument of which nothing is known; names it.

    Example:
        >>> from hypothesis import find
        >>> find(hyperparameters_of(torch.optim.SGD), lambda options: True)["lr"]
        0.001
    """
    strategies: dict[str, SearchStrategy[Any]] = {}
    parameters = {
        name: parameter
        for name, parameter in list(inspect.signature(optimizer).parameters.items())[1:]
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    required = {"lr": _LR[0]} if "lr" in parameters and parameters["lr"].default is inspect.Parameter.empty else {}
    decays = decays_among(FromClass(optimizer), required, defaults)
    for name, parameter in parameters.items():
        strategy = _strategy(name, parameter.default, decays)
        if strategy is not None:
            strategies[name] = strategy
        elif parameter.default is parameter.empty:
            raise ValueError(
                f"{optimizer.__qualname__} asks for {name!r}, of which nothing is known: "
                "describe the optimizer by a radam.audit.Subject"
            )
    return st.fixed_dictionaries(strategies).filter(FromClass(optimizer).accepts)


def _strategy(name: str, default: Any, decays: Collection[str]) -> SearchStrategy[Any] | None:
    if name == "lr":
        return st.sampled_from(_with(default, _LR))
    if name == "betas" and isinstance(default, tuple) and len(default) == 2:
        beta1 = st.sampled_from(_with(default[0], (0.9, 0.5, 0.0, 0.99)))
        beta2 = st.sampled_from(_with(default[1], (0.999, 0.99, 0.9, 0.5)))
        return st.tuples(beta1, beta2)
    if name == "eps" and isinstance(default, float):
        return st.sampled_from(_with(default, (1e-8, 1e-3, 0.0)))
    if name == "weight_decay" and isinstance(default, int | float):
        return st.sampled_from(_with(float(default), (0.0, 0.1)))
    if name == "momentum" and isinstance(default, int | float):
        return st.sampled_from(_with(float(default), (0.0, 0.9)))
    if name in decays and isinstance(default, float):
        return st.sampled_from(_with(default, (0.0,)))
    if name in ("alpha", "rho") and isinstance(default, float) and 0 < default < 1:
        return st.sampled_from(_with(default, (0.9, 0.5)))
    if name in _FLAGS and isinstance(default, bool):
        return st.booleans() if not default else st.sampled_from((True, False))
    return None


def _with(default: Any, others: tuple[float, ...]) -> list[Any]:
    """The default first, to which examples shrink, then others."""
    first = [default] if isinstance(default, int | float) and not isinstance(default, bool) else []
    return [*first, *(other for other in others if other not in first)]


def class_subject(optimizer: type[torch.optim.Optimizer], name: str) -> Subject:
    """A Subject without an oracle."""
    build = FromClass(optimizer)
    return Subject(name=name, build=build, hyperparameters=hyperparameters_of(optimizer), call=build.call)
