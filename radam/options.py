"""Validation of options: each function returns the value as it belongs into a parameter group, or raises.

An error names the option, says what it must be and shows the value; `where` adds the place, such as a parameter group.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import torch

Validator = Callable[..., Any]


def _error(kind: type[Exception], name: str, must: str, value: object, where: str) -> Exception:
    return kind(f"{name} must be {must}, but got {value!r}{f' ({where})' if where else ''}")


def _real(name: str, value: object, must: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise _error(TypeError, name, must, value, where)
    try:
        return float(value)
    except OverflowError:
        raise _error(ValueError, name, must, value, where) from None


def flag(name: str, value: object, where: str = "") -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise _error(TypeError, name, "True or False", value, where)
    return value


def optional_flag(name: str, value: object, where: str = "") -> bool | None:
    """True, False or None."""
    if value is not None and not isinstance(value, bool):
        raise _error(TypeError, name, "True, False or None", value, where)
    return value


def non_negative(name: str, value: object, where: str = "") -> float:
    """A finite number of at least 0."""
    must = "a finite number of at least 0"
    number = _real(name, value, must, where)
    if not (math.isfinite(number) and number >= 0):
        raise _error(ValueError, name, must, value, where)
    return number


def count(name: str, value: object, where: str = "") -> int:
    """An integer of at least 0."""
    must = "an integer of at least 0"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise _error(TypeError, name, must, value, where)
    if value < 0:
        raise _error(ValueError, name, must, value, where)
    return int(value)


def learning_rate(name: str, value: object, where: str = "") -> float | torch.Tensor:
    """A finite number of at least 0, or a real floating tensor that holds one."""
    if not isinstance(value, torch.Tensor):
        return non_negative(name, value, where)
    must = "a finite number of at least 0, or a tensor with one such element"
    if value.numel() != 1 or not value.is_floating_point():
        raise _error(ValueError, name, must, value, where)
    if not value.is_meta:
        number = float(value.detach())
        if not (math.isfinite(number) and number >= 0):
            raise _error(ValueError, name, must, value, where)
    return value


def betas(name: str, value: object, where: str = "") -> tuple[float, float]:
    """Two numbers in [0, 1)."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise _error(TypeError, name, "a pair of numbers in [0, 1)", value, where)
    first, second = (_beta(f"{name}[{i}]", beta, where) for i, beta in enumerate(value))
    return first, second


def _beta(name: str, value: object, where: str) -> float:
    number = _real(name, value, "a number in [0, 1)", where)
    if not 0 <= number < 1:
        raise _error(ValueError, name, "a number in [0, 1)", value, where)
    return number


def threshold(name: str, value: object, where: str = "") -> float:
    """A finite number of at least 4: below it the rectification term does not exist."""
    must = "a finite number of at least 4 (the rectification term does not exist below)"
    number = _real(name, value, must, where)
    if not (math.isfinite(number) and number >= 4):
        raise _error(ValueError, name, must, value, where)
    return number


RECTIFICATIONS = ("paper", "exact")


def rectification(name: str, value: object, where: str = "") -> str:
    """The name of a rectification."""
    must = " or ".join(map(repr, RECTIFICATIONS))
    if not isinstance(value, str):
        raise _error(TypeError, name, must, value, where)
    if value not in RECTIFICATIONS:
        raise _error(ValueError, name, must, value, where)
    return value
