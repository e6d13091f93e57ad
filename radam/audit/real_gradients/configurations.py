"""The members of RAdam's family, with every option that changes the arithmetic."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from radam.audit.subject import Subject
from radam.audit.subjects import radam as subjects
from radam.audit.subjects.finding import find

LR = 3e-3


@dataclass(frozen=True)
class Configuration:
    """An optimizer, its options, and the dtype of the parameters that it trains.

    Args:
        name: for reports, and to ask for it.
        subject: the optimizer and its oracle.
        options: neutral hyper-parameters, see :mod:`radam.audit.subjects.radam`.
        dtype: of the parameters.
        engine: arguments of the constructor that should not change the numbers.
        backend: of torch.compile, where it takes the steps.
    """

    name: str
    subject: Subject
    options: Mapping[str, Any]
    dtype: torch.dtype = torch.float32
    engine: Mapping[str, Any] = field(default_factory=dict)
    backend: str | None = None

    @property
    def precision(self) -> str:
        """The dtype's name."""
        return str(self.dtype).removeprefix("torch.")

    def __str__(self) -> str:
        arguments = {**self.options, **self.engine}
        return f"{self.subject.name}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"


_DECOUPLED: dict[str, Any] = {"weight_decay": 0.1}
_L2: dict[str, Any] = {"weight_decay": 1e-3, "weight_decouple": False}
_LOOP = {"foreach": False}
_FOREACH = {"foreach": True}
_CAPTURABLE = {"capturable": True}
# torch.compile's own choice needs a C++ compiler; without one its graph is run operation by operation.
_BACKEND = "inductor" if any(map(shutil.which, ("g++", "c++", "clang++"))) else "aot_eager"


def named(specification: str | None = None) -> list[Configuration]:
    """The configurations of the optimizer class that MODULE:NAME stands for; radam's own family for None.

    Raises:
        ValueError: it does not stand for an optimizer class that takes RAdam's constructor; says why.
    """
    if specification is None:
        return configurations()
    _, family = find(specification)
    if family is None:
        raise ValueError(f"{specification} is a Subject: give an optimizer class that takes RAdam's constructor")
    return configurations(family.optimizer, specification.partition(":")[0])


def configurations(
    optimizer: type[torch.optim.Optimizer] | None = None, module: str | None = None
) -> list[Configuration]:
    """What is verified: RAdam and Adam, or a class that takes RAdam's constructor.

    Args:
        optimizer: judged as RAdam, with textbook scalars, in those configurations that its constructor can express;
            None for radam's own, with exact scalars.
        module: where it was found, if not where it is defined.

    Example:
        >>> [configuration.name for configuration in configurations()][:2]
        ['RAdam', 'RAdam for-loop']
    """
    if optimizer is None:
        return [*_radam(subjects.radam_subject()), *_adam(subjects.adam_subject())]
    takes = subjects.family(optimizer, module).takes
    return [
        configuration
        for configuration in _radam(subjects.from_class(optimizer, module))
        # The first nine arguments are there, or it would not be RAdam's constructor.
        if all(takes(name) for name in ("threshold", "maximize") if name in configuration.options)
        and all(map(takes, configuration.engine))
    ]


def _radam(subject: Subject) -> list[Configuration]:
    def of(
        name: str,
        dtype: torch.dtype = torch.float32,
        engine: Mapping[str, Any] | None = None,
        backend: str | None = None,
        **options: Any,
    ) -> Configuration:
        return Configuration(f"RAdam{name and ' '}{name}", subject, {"lr": LR, **options}, dtype, engine or {}, backend)

    return [
        of(""),
        of("for-loop", engine=_LOOP),
        of("for-loop + amsgrad + L2 decay", engine=_LOOP, amsgrad=True, **_L2),
        of("for-loop + decoupled decay + maximize", engine=_LOOP, maximize=True, **_DECOUPLED),
        of("foreach: amsgrad, decoupled", engine=_FOREACH, amsgrad=True, **_DECOUPLED),
        of("foreach: bfloat16", torch.bfloat16, engine=_FOREACH),
        of("capturable: amsgrad, L2", engine=_CAPTURABLE, amsgrad=True, **_L2),
        of("capturable: bfloat16, decoupled", torch.bfloat16, engine=_CAPTURABLE, **_DECOUPLED),
        of("compiled: beta2=0.9995, decoupled", backend=_BACKEND, betas=(0.9, 0.9995), **_DECOUPLED),
        of("float64", torch.float64),
        of("bfloat16", torch.bfloat16),
        of("float16", torch.float16),
        of("threshold=4", threshold=4.0),
        of("beta2=0.9995", betas=(0.9, 0.9995)),
        of("degenerated_to_sgd=False", degenerated_to_sgd=False),
        of("optimized_update=False eps=1e-8", optimized_update=False, eps=1e-8),
        of("amsgrad", amsgrad=True),
        of("decoupled decay", **_DECOUPLED),
        of("absolute decay", weight_decay=1e-3, absolute=True),
        of("L2 decay", **_L2),
        of("maximize", maximize=True),
    ]


def _adam(subject: Subject) -> list[Configuration]:
    def of(name: str, **options: Any) -> Configuration:
        return Configuration(name, subject, {"lr": LR, **options})

    return [
        of("Adam"),
        of("Adam amsgrad", amsgrad=True),
        of("Adam-2k shortened to 100", variance_warmup=100),
        of("Adam-eps 1e-4", eps=1e-4),
    ]
