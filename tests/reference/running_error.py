"""A float64 array with a bound on its own error (Higham 2002, section 3.3)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

U = 2.0**-53


class Tracked(NDArrayOperatorsMixin):
    """`value`, and `error` >= |value - exact|, where exact is what exact arithmetic gives from the same inputs.

    A plain number met on the way (1 - b1, 1 - lr * decay) took at most two roundings to compute: 2u.
    """

    def __init__(self, value: Any, error: Any = 0.0) -> None:
        self.value = np.asarray(value, dtype=np.float64)
        self.error = np.asarray(error, dtype=np.float64)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs:
            return NotImplemented
        operands = [x if isinstance(x, Tracked) else Tracked(x, 2 * U * np.abs(x)) for x in inputs]
        z = ufunc(*(x.value for x in operands))
        x, y = operands[0], operands[-1]
        if ufunc in (np.negative, np.maximum):
            return Tracked(z, np.maximum(x.error, y.error))
        if ufunc in (np.add, np.subtract):
            error = x.error + y.error
        elif ufunc is np.multiply:
            error = np.abs(x.value) * y.error + np.abs(y.value) * x.error + x.error * y.error
        elif ufunc is np.divide:
            error = (x.error + np.abs(z) * y.error) / (np.abs(y.value) - y.error)
        elif ufunc is np.sqrt:
            root = z + np.sqrt(np.maximum(x.value - x.error, 0))
            error = np.divide(x.error, root, out=np.zeros_like(z), where=root > 0)
        else:
            return NotImplemented
        return Tracked(z, error + U * np.abs(z))


def track_scalars(oracle: Any) -> None:
    """Make every scalar that `oracle` computes from t carry its error; `reference` computes them exactly rounded."""
    oracle.scalars = "exact"
    oracle.scalar = lambda value, relative_error: Tracked(value, relative_error * abs(value))
