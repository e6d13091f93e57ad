"""From MODULE:NAME, as on a command line, to what is verified."""

from __future__ import annotations

import importlib
from typing import Any

import torch

from radam.audit.subject import Subject
from radam.audit.subjects import radam as family_of_radam
from radam.audit.subjects.radam import Family

OWN = "radam:RAdam"


def find(specification: str) -> tuple[Subject, Family | None]:
    """The Subject that MODULE:NAME stands for, with its class where it is one.

    Raises:
        ValueError: it names neither a Subject nor an optimizer class that takes RAdam's constructor; says why.

    Example:
        >>> find("radam:RAdam")[0].name
        'radam:RAdam'
    """
    module, separator, name = specification.partition(":")
    if not (module and separator and name):
        raise ValueError(f"must be MODULE:NAME, but is {specification!r}")
    try:
        value: Any = importlib.import_module(module)
        for part in name.split("."):
            value = getattr(value, part)
    except Exception as error:
        raise ValueError(f"{specification}: {type(error).__name__}: {error}") from None
    if isinstance(value, Subject):
        return value, None
    if not (isinstance(value, type) and issubclass(value, torch.optim.Optimizer)):
        raise ValueError(f"{specification} is neither an optimizer class nor a Subject: {value!r}")
    if specification == OWN:
        return family_of_radam.radam_subject(), family_of_radam.family(value)
    if not family_of_radam.takes_radams_constructor(value):
        raise ValueError(f"{specification} does not take RAdam's constructor: describe it by a radam.audit.Subject")
    return family_of_radam.from_class(value, module, specification), family_of_radam.family(value, module)
