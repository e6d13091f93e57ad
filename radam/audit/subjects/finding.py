"""From MODULE:NAME, as on a command line, to what is verified."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import torch

from radam.audit.subject import Subject
from radam.audit.subjects import radam as family_of_radam
from radam.audit.subjects import shipped
from radam.audit.subjects.classes import class_subject
from radam.audit.subjects.radam import Family

OWN = "radam:RAdam"


def find(specification: str) -> tuple[Subject, Family | None]:
    """The Subject that MODULE:NAME stands for, with its class where it takes RAdam's constructor.

    Radam's own optimizers, most of those that are shipped, and classes with RAdam's constructor come with an oracle.

    Raises:
        ValueError: it names neither a Subject nor an optimizer class, or one of which too little is known; says why.

    Example:
        >>> find("radam:RAdam")[0].name
        'radam:RAdam'
        >>> find("torch.optim:Rprop")[0].oracle is None
        True
    """
    module, separator, name = specification.partition(":")
    if not (module and separator and name):
        raise ValueError(f"must be MODULE:NAME, but is {specification!r}")
    try:
        known = None if module == "radam" else shipped.of_name(specification)
        if known is not None:
            return known, None
        value: Any = importlib.import_module(module)
        for part in name.split("."):
            value = getattr(value, part)
    except Exception as error:
        raise ValueError(f"{specification}: {type(error).__name__}: {error}") from None
    if isinstance(value, Subject):
        return value, None
    if not (isinstance(value, type) and issubclass(value, torch.optim.Optimizer)):
        raise ValueError(f"{specification} is neither an optimizer class nor a Subject: {value!r}")
    return of_class(value, module, specification)


def of_class(
    optimizer: type[torch.optim.Optimizer], module: str | None = None, name: str | None = None
) -> tuple[Subject, Family | None]:
    """The Subject for an optimizer class, with its family where it takes RAdam's constructor.

    Args:
        optimizer: the class.
        module: where it was found, if not where it is defined.
        name: for reports; the class's own for None.
    """
    import radam

    module = module or optimizer.__module__
    name = name or f"{module}:{optimizer.__qualname__}"
    if optimizer is radam.RAdam:
        return replace(family_of_radam.radam_subject(), name=name), family_of_radam.family(optimizer)
    if optimizer is radam.Adam:
        return replace(family_of_radam.adam_subject(), name=name), None
    if family_of_radam.takes_radams_constructor(optimizer):
        return family_of_radam.from_class(optimizer, module, name), family_of_radam.family(optimizer, module)
    known = shipped.of_class(optimizer)
    return (replace(known, name=name) if known else class_subject(optimizer, name)), None
