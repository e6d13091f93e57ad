"""What an oracle does in a step, written down: which operations on which operands.

Steps of the same program can be computed together, on the joined arrays of all of them, where each scalar is a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from radam.audit.subject import Oracle


class Program(NamedTuple):
    """One step of an oracle."""

    operations: Hashable
    """Equal for steps that differ in their arrays, and in the scalars that pass through the oracle's hook, alone."""
    scalars: Sequence[tuple[float, float]]
    """What passes through the hook, in order: values and their relative errors."""


class _Operand(np.lib.mixins.NDArrayOperatorsMixin):
    """Stands for an array or a scalar, and notes what is done with it."""

    shape = ()

    def __init__(self, name: str, notes: list[Hashable]) -> None:
        self.name = name
        self.notes = notes

    def __bool__(self) -> bool:
        raise TypeError("what is to be computed for many steps together has no truth value")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> _Operand:
        if method != "__call__" or kwargs:
            raise TypeError(f"np.{ufunc.__name__} is called in a way that is not followed")
        self.notes.append((ufunc, *map(_described, inputs)))
        return _Operand(f"result {len(self.notes)}", self.notes)


def _described(operand: Any) -> Hashable:
    if isinstance(operand, _Operand):
        return operand.name
    value = np.asarray(operand)
    return value.dtype.str, value.shape, value.tobytes()


def program(oracle: Oracle, t: int, given: Collection[str]) -> Program:
    """The program of the oracle's step t, from a state of which some symbols are given.

    An oracle that does what cannot be followed has a program of its own in each step.
    """
    notes: list[Hashable] = []
    scalars: list[tuple[float, float]] = []

    def scalar(value: float, relative_error: float) -> _Operand:
        scalars.append((value, relative_error))
        return _Operand(f"scalar {len(scalars)}", notes)

    param, grad = _Operand("param", notes), _Operand("grad", notes)
    kept: Callable[[float, float], Any] = oracle.scalar
    oracle.scalar = scalar
    try:
        oracle.begin(param)
        for symbol in ("m", "v", "s"):
            if symbol in given or getattr(oracle, symbol) is not None:
                setattr(oracle, symbol, _Operand(symbol, notes))
        oracle.t = t - 1
        oracle.advance(param, grad)
        after = [_described(state) for state in (oracle.m, oracle.v, oracle.s)]
        for symbol in ("m", "v", "s"):
            if getattr(oracle, symbol) is not None:
                setattr(oracle, symbol, _Operand(f"new {symbol}", notes))
        oracle.t = t
        notes.append(_described(oracle.apply(param, grad)))
    except Exception:
        return Program(object(), scalars)
    finally:
        oracle.scalar = kept
    return Program((*after, *notes), scalars)
