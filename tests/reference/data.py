"""Hypothesis strategies for hyper-parameters and gradients, and the same things as mpmath numbers."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
from hypothesis import strategies as st

STEPS = 12
SIZE = 3

_numbers = st.builds(
    lambda sign, mantissa, exponent: sign * mantissa * 10.0**exponent,
    st.sampled_from([-1.0, 0.0, 1.0, 1.0]),
    st.floats(1.0, 10.0),
    st.integers(-4, 2),
)


def arrays(*shape: int) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    """Float64 arrays of numbers over seven decades, with zeros."""
    size = int(np.prod(shape))
    return st.lists(_numbers, min_size=size, max_size=size).map(lambda x: np.array(x).reshape(shape))


_family = {
    "lr": st.one_of(st.sampled_from([0.0, 1.0]), st.floats(1e-4, 1.0)),
    "betas": st.tuples(
        st.one_of(st.just(0.0), st.floats(0.0, 0.99)),
        st.one_of(st.sampled_from([0.0, 0.5, 0.6, 0.7, 0.75, 0.9, 0.999, 1 - 2.0**-20]), st.floats(0.0, 0.9999)),
    ),
    "eps": st.sampled_from([1e-16, 1e-8, 1e-3, 1.0]),
    "weight_decay": st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    "weight_decouple": st.booleans(),
    "absolute": st.booleans(),
    "optimized_update": st.booleans(),
    "amsgrad": st.booleans(),
    "maximize": st.booleans(),
    "amsgrad_of": st.sampled_from(["uncorrected", "corrected"]),
}
adam_hyperparameters = st.fixed_dictionaries({**_family, "variance_warmup": st.integers(0, 4)})
radam_hyperparameters = st.fixed_dictionaries(
    {
        **_family,
        "degenerated_to_sgd": st.booleans(),
        "threshold": st.one_of(st.sampled_from([4.0, 5.0]), st.floats(4.0, 8.0)),
        "strict": st.booleans(),
        "decay_when_skipped": st.booleans(),
    }
)


def to_mpf(value: Any) -> Any:
    """Return floats, in whatever they are contained, as mpf: exactly."""
    if isinstance(value, float):
        return mpmath.mpf(value)
    if isinstance(value, tuple):
        return tuple(map(to_mpf, value))
    if isinstance(value, dict):
        return {name: to_mpf(x) for name, x in value.items()}
    if isinstance(value, np.ndarray):
        return np.array([mpmath.mpf(float(x)) for x in value.ravel()] + [None], dtype=object)[:-1].reshape(value.shape)
    return value
