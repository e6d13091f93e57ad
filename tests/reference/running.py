"""An oracle that runs on numbers which are always the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from reference import Oracle
from tests.reference.data import SIZE, STEPS

RNG = np.random.default_rng(11)
P0 = RNG.normal(size=SIZE)
GRADIENTS = RNG.normal(size=(STEPS, SIZE)) * np.linspace(3, 0.1, STEPS)[:, None]


def run(oracle: Oracle, param: Any = P0, gradients: Any = GRADIENTS) -> list[Any]:
    """The parameter after each step."""
    params = []
    for g in gradients:
        param = oracle.step(param, g)
        params.append(param)
    return params


def assert_another_goes_on(make: Callable[[], Oracle], split: int) -> None:
    """An oracle that takes over the state of one, after some steps, takes the others bit for bit."""
    whole = run(make())
    first, second = make(), make()
    p = run(first, P0, GRADIENTS[:split])[-1]
    second.t, second.m, second.v, second.s = first.t, first.m, first.v, first.s
    for g, expected in zip(GRADIENTS[split:], whole[split:], strict=True):
        second.advance(p, g)
        p = second.apply(p, g)
        assert np.array_equal(p, expected)
