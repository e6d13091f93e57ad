"""The Subjects that the kit ships, by the package in which their optimizers are."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch

from radam.audit.subject import Subject

PACKAGES: dict[str, str] = {
    "radam": "radam.audit.subjects.radam",
    "torch": "radam.audit.subjects.torch",
    "adabelief_pytorch": "radam.audit.subjects.peers.adabelief_pytorch",
    "adam_atan2_pytorch": "radam.audit.subjects.peers.adam_atan2_pytorch",
    "adamp": "radam.audit.subjects.peers.adamp",
    "adan_pytorch": "radam.audit.subjects.peers.adan_pytorch",
    "bitsandbytes": "radam.audit.subjects.peers.bitsandbytes",
    "heavyball": "radam.audit.subjects.peers.heavyball",
    "labml_nn": "radam.audit.subjects.peers.labml_nn",
    "lion_pytorch": "radam.audit.subjects.peers.lion_pytorch",
    "madgrad": "radam.audit.subjects.peers.madgrad",
    "optax": "radam.audit.subjects.peers.optax",
    "optimi": "radam.audit.subjects.peers.optimi",
    "prodigyopt": "radam.audit.subjects.peers.prodigyopt",
    "pytorch_optimizer": "radam.audit.subjects.peers.pytorch_optimizer",
    "schedulefree": "radam.audit.subjects.peers.schedulefree",
    "timm": "radam.audit.subjects.peers.timm",
    "torch_optimizer": "radam.audit.subjects.peers.torch_optimizer",
}
"""By the name that a package is imported by, the module whose `subjects()` describes its optimizers."""


def shipped(package: str) -> list[Subject]:
    """The Subjects for the optimizers of a package, in the order in which they are reported.

    Raises:
        ValueError: none is shipped for the package; names those for which there are.
        ImportError: the package is not installed.

    Example:
        >>> [subject.name for subject in shipped("torch")][:2]
        ['torch.optim:ASGD', 'torch.optim:Adadelta']
    """
    if package not in PACKAGES:
        raise ValueError(f"package must be one of {', '.join(map(repr, PACKAGES))}, but is {package!r}")
    subjects: Callable[[], list[Subject]] = importlib.import_module(PACKAGES[package]).subjects
    return subjects()


def of_name(specification: str) -> Subject | None:
    """The shipped Subject of a name, MODULE:NAME; None where there is none. Its module knows how to import the package.

    Example:
        >>> of_name("torch.optim:SGD").name
        'torch.optim:SGD'
    """
    package = specification.partition(":")[0].partition(".")[0]
    if package not in PACKAGES:
        return None
    return next((subject for subject in shipped(package) if subject.name == specification), None)


def of_class(optimizer: type[torch.optim.Optimizer]) -> Subject | None:
    """The shipped Subject for an optimizer class; None where there is none.

    Example:
        >>> of_class(torch.optim.SGD).name
        'torch.optim:SGD'
    """
    package = optimizer.__module__.partition(".")[0]
    if package not in PACKAGES:
        return None
    return next((subject for subject in shipped(package) if _named(subject.name) is optimizer), None)


def _named(name: str) -> object:
    """What MODULE:NAME names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute, None)
