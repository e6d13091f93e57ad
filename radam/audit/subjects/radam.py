"""radam's own optimizers, and any class that takes RAdam's constructor.

Hyper-parameters are neutral here: `weight_decay` is a number, with `weight_decouple` and `absolute` beside it.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from radam.audit.capabilities import SWITCHES, let_compile
from radam.audit.strategies import adam_hyperparameters, exact_radam_hyperparameters, radam_hyperparameters
from radam.audit.subject import Call, Oracle, Params, Subject

_DECAY = ("weight_decay", "weight_decouple", "absolute")
_FIRST_NINE = (
    "params",
    "lr",
    "betas",
    "eps",
    "weight_decay",
    "optimized_update",
    "amsgrad",
    "degenerated_to_sgd",
    "defaults",
)


IMPLEMENTATIONS: dict[str, dict[str, Any]] = {
    **{name: SWITCHES[name] for name in ("loop", "foreach", "fused", "capturable", "compiled")},
    "traced": SWITCHES["compiled"],
}
"""What asks a constructor for each way to run a step. "compiled" is by torch.compile with its default backend, "traced"
by the graph alone that it makes of the step, run operation by operation: much sooner there."""
BACKENDS = {"compiled": "inductor", "traced": "eager"}


@dataclass(frozen=True)
class Family:
    """An optimizer class with the decay class that belongs to it, and the implementation to ask it for."""

    optimizer: type[torch.optim.Optimizer]
    weight_decay: Callable[..., Any]
    implementation: str | None = None
    """A name of IMPLEMENTATIONS; None for the class's own choice."""

    def build(self, params: Params, options: Mapping[str, Any], **more: Any) -> torch.optim.Optimizer:
        """Make the optimizer from neutral hyper-parameters; `more` goes to the constructor as it is."""
        if self.implementation is None or more.keys() & {"foreach", "fused", "capturable", "differentiable"}:
            return self.call({**options, **more}).make(params)  # type: ignore[no-any-return]
        optimizer: torch.optim.Optimizer = self.call({**options, **IMPLEMENTATIONS[self.implementation], **more}).make(
            params
        )
        backend = BACKENDS.get(self.implementation)
        return optimizer if backend is None else let_compile(optimizer, backend)

    def call(self, options: Mapping[str, Any]) -> Call:
        """The constructor's call for neutral hyper-parameters."""
        arguments = {name: value for name, value in options.items() if name not in _DECAY}
        if any(name in options for name in _DECAY):
            decay = {"weight_decay": 0.0, "weight_decouple": True, "absolute": False}
            decay.update({name: options[name] for name in _DECAY if name in options})
            arguments["weight_decay"] = Call(self.weight_decay, decay)
        return Call(self.optimizer, arguments)

    def implementations(self) -> list[str]:
        """The implementations that can be asked for: those of which the constructor takes the switch."""
        return [name for name, switches in IMPLEMENTATIONS.items() if all(map(self.takes, switches))]

    def takes(self, name: str) -> bool:
        """Whether the constructor has a parameter of this name."""
        return name in inspect.signature(self.optimizer).parameters


def oracle(options: Mapping[str, Any]) -> Oracle:
    """RAdam's oracle for neutral hyper-parameters.

    Example:
        >>> oracle({"lr": 0.1}).t
        0
    """
    import reference

    return reference.RAdam(**_plain(options))


def adam_oracle(options: Mapping[str, Any]) -> Oracle:
    """Adam's oracle for neutral hyper-parameters."""
    import reference

    return reference.Adam(**_plain(options))


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: float(value.detach()) if isinstance(value, torch.Tensor) else value for name, value in options.items()
    }


def takes_radams_constructor(optimizer: type) -> bool:
    """Whether the first nine parameters of a class are RAdam's, in any order."""
    try:
        names = set(inspect.signature(optimizer).parameters)
    except (TypeError, ValueError):
        return False
    return set(_FIRST_NINE) <= names


def family(optimizer: type[torch.optim.Optimizer], module: str | None = None) -> Family:
    """A class with its own module's WeightDecay, or radam's where it has none."""
    import radam

    for name in (optimizer.__module__, module):
        if name is not None:
            own = getattr(sys.modules.get(name) or importlib.import_module(name), "WeightDecay", None)
            if own is not None:
                return Family(optimizer, own)
    return Family(optimizer, radam.WeightDecay)


def from_class(optimizer: type[torch.optim.Optimizer], module: str | None = None, name: str | None = None) -> Subject:
    """A Subject for a class that takes RAdam's constructor: judged by RAdam's oracle, with textbook scalars."""
    return Subject(
        name=name or f"{module or optimizer.__module__}:{optimizer.__qualname__}",
        build=family(optimizer, module).build,
        hyperparameters=radam_hyperparameters(),
        oracle=oracle,
        call=family(optimizer, module).call,
    )


def radam_subject() -> Subject:
    """radam.RAdam: judged with exact scalars."""
    import radam

    return Subject(
        name="radam:RAdam",
        build=family(radam.RAdam).build,
        hyperparameters=radam_hyperparameters(),
        oracle=oracle,
        scalars="exact",
        call=family(radam.RAdam).call,
    )


def exact_radam_subject() -> Subject:
    """radam.RAdam with the exact rectification: judged with exact scalars."""
    return replace(
        radam_subject(), name="radam.audit.subjects.exact:RADAM", hyperparameters=exact_radam_hyperparameters()
    )


def adam_subject() -> Subject:
    """radam.Adam: judged with exact scalars."""
    import radam

    return Subject(
        name="radam:Adam",
        build=family(radam.Adam).build,
        hyperparameters=adam_hyperparameters(),
        oracle=adam_oracle,
        scalars="exact",
        call=family(radam.Adam).call,
    )


def subjects() -> list[Subject]:
    """A Subject for each of radam's optimizers."""
    return [radam_subject(), exact_radam_subject(), adam_subject()]
