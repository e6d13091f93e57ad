"""Parts of error bounds, as docstrings of the oracles state them, in arbitrary precision."""

from __future__ import annotations

from typing import Any

import mpmath

mpf = mpmath.mpf
U = mpf(2) ** -53


def factor(d: Any) -> Any:
    """l(d) = -log(1 - d)."""
    return -mpmath.log(1 - d) if d < 1 else mpf("inf")


def correction_error(t: int, b: float, scalars: str) -> Any:
    """d(bc)/bc of bc = 1 - b^t."""
    if scalars == "exact":
        return 4 * U
    if b == 0:
        return 2 * U
    P = mpf(b) ** t
    d_P = (4 - 3 * t * mpmath.log(b)) * U * P
    return (d_P + 2 * U * (1 - P) + U * d_P) / (1 - P)
