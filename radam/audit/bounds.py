"""Rounding-error bounds by running error analysis: an oracle's own lines, executed on arrays that carry their error.

Each operation of a floating-point arithmetic with unit roundoff u obeys

    fl(x op y) = (x op y)(1 + delta) + eta,    |delta| <= u,    |eta| <= smallest subnormal,

so a bound of the distance between the exact result of a formula and what any implementation of it computes follows
from adding u |result| at every operation and passing the errors of the operands on. Implementations differ in the order
of their operations; the factor k on u, at most 4, leaves room for that.

References:
    Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., sections 2.2 (the model), 2.8 (underflow), 3.3
    (running error analysis).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

K = 4.0
"""Room for the order of operations, in multiples of the bound of the oracle's own order."""


class Precision(NamedTuple):
    """A binary floating-point format."""

    unit_roundoff: float
    smallest_subnormal: float
    largest: float
    significant_bits: int

    @property
    def safe(self) -> float:
        """Magnitude up to which no usual order of evaluation overflows: a fifth of the exponents is kept in reserve."""
        return float(self.largest**0.8)

    def spacing(self, value: Array) -> Array:
        """Distance of neighbouring numbers of the format at `value`: one unit in the last place."""
        _, exponent = np.frexp(value)
        spacing: Array = np.ldexp(1.0, np.maximum(exponent - self.significant_bits, -1074))
        return np.where(value == 0, self.smallest_subnormal, np.maximum(spacing, self.smallest_subnormal))


def _precision(bits: int, smallest_exponent: int, largest: float) -> Precision:
    return Precision(2.0**-bits, 2.0**smallest_exponent, largest, bits)


PRECISIONS = {
    "float64": _precision(53, -1074, float(np.finfo(np.float64).max)),
    "float32": _precision(24, -149, float(np.finfo(np.float32).max)),
    "bfloat16": _precision(8, -133, 2.0**128 - 2.0**120),
    "float16": _precision(11, -24, 65504.0),
}
"""The formats by the names of their dtypes. bfloat16 has float32's exponents and 8 significant bits."""


class Tracked(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of float64 values with a bound of the error that an implementation in `precision` may have made.

    `error` is infinite where there is no bound: where an intermediate result may overflow in some usual order of
    evaluation, or a divisor may be zero.

    Args:
        value: the values, taken over without a copy.
        error: bound of |computed - exact|, of the same shape or a scalar.
        precision: the arithmetic in which the implementation works.
        k: factor on its unit roundoff.

    Raises:
        TypeError: an operation is asked for that has no error bound here; names it.

    Example:
        >>> x = Tracked(np.array([3.0]), 0.0, PRECISIONS["float32"], k=1)
        >>> y = x / 7.0
        >>> bool(abs(np.float32(3) / np.float32(7) - y.value[0]) <= y.error[0] < 2**-22)
        True
    """

    __slots__ = ("error", "k", "partial", "precision", "value")

    def __init__(
        self,
        value: npt.ArrayLike,
        error: npt.ArrayLike = 0.0,
        precision: Precision = PRECISIONS["float64"],
        k: float = K,
        partial: Array | None = None,
    ) -> None:
        self.value: Array = np.asarray(value, dtype=np.float64)
        self.error: Array = np.asarray(error, dtype=np.float64)
        if self.error.shape != self.value.shape:
            self.error = np.full(self.value.shape, self.error)
        self.precision = precision
        self.k = k
        # The largest magnitude that a product of some of the factors can have: what overflows in some order.
        self.partial: Array = (
            np.where(np.isfinite(self.value), np.maximum(np.abs(self.value), 1.0), 1.0) if partial is None else partial
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the values."""
        return self.value.shape

    def __repr__(self) -> str:
        return f"Tracked({self.value!r}, error={self.error!r})"

    def __bool__(self) -> bool:
        raise TypeError("an array with an error bound has no truth value: write the oracle without branches on data")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        rule = _RULES.get(ufunc)
        if rule is None or method != "__call__" or kwargs:
            raise TypeError(
                f"np.{ufunc.__name__} has no error bound: write the oracle with + - * /, np.sqrt, np.square, "
                "np.maximum, np.minimum, np.absolute and np.sign"
            )
        with np.errstate(all="ignore"):
            return rule(*(self._lift(operand) for operand in inputs))

    def _lift(self, operand: Any) -> Tracked:
        """A plain number enters the arithmetic by one rounding; 0, 1 and -1 are exact."""
        if isinstance(operand, Tracked):
            return operand
        value = np.asarray(operand, dtype=np.float64)
        inexact = (value != 0) & (np.abs(value) != 1)
        return Tracked(value, inexact * self._rounding(value), self.precision, self.k)

    def _rounding(self, value: Array) -> Array:
        return self.k * self.precision.unit_roundoff * np.abs(value) + self.precision.smallest_subnormal

    def _underflow(self, partial: Array) -> Array:
        """What underflows within a product or quotient, in any order of its factors: k times, each time by a subnormal
        that the factors still to come multiply.
        """
        return self.k * self.precision.smallest_subnormal * partial

    def _result(
        self, value: Array, error: Array, *operands: Tracked, exact: Any = False, partial: Array | None = None
    ) -> Tracked:
        """A new array: the propagated error, and the rounding of the operation itself unless it is exact."""
        rounding = self._rounding(value)
        error = error + (rounding if exact is False else np.where(exact, 0.0, rounding))
        if partial is None:
            partial = np.maximum(np.abs(value), 1.0)
        # A NaN bound comes from inf - inf or 0 * inf among bounds: there is none.
        error = np.where((partial > self.precision.safe) | np.isnan(error), np.inf, error)
        if not all(np.isfinite(operand.value).all() for operand in operands):
            # What follows from an operand that is NaN or infinite, exactly, is by IEEE 754 and without any error.
            special = [~np.isfinite(operand.value) & (operand.error == 0) for operand in operands]
            ordinary = ~np.logical_or.reduce(np.broadcast_arrays(*special))
            error, partial = np.where(ordinary, error, 0.0), np.where(ordinary, partial, 1.0)
        return Tracked(value, error, self.precision, self.k, partial)


def scalar(value: float | Array, relative_error: float | Array, precision: Precision, k: float = K) -> Tracked:
    """A scalar that was computed in float64 with `relative_error` and enters an array's arithmetic by one rounding.

    The scalar's error is what its float64 formula may have made: it is not multiplied by k. An array is one scalar for
    each element.
    """
    with np.errstate(all="ignore"):
        magnitude = np.abs(value)
        rounding = np.where(magnitude == 0, 0.0, k * precision.unit_roundoff * magnitude + precision.smallest_subnormal)
        return Tracked(value, relative_error * magnitude + rounding, precision, k)


def with_lerp_room(average: Any, before: Any) -> Any:
    """A moving average b m + (1-b) g with room for its evaluation as g - (g - m) w.

    There the decay enters as w = 1 - (1 - b), with an absolute error of u: the result is off by up to u |m|, however
    small b is. torch's `lerp` evaluates so for b below 1/2.
    """
    if not (isinstance(average, Tracked) and isinstance(before, Tracked)):
        return average
    room = average.k * average.precision.unit_roundoff * np.abs(before.value)
    error = np.where(average.error == 0, 0.0, average.error + room)
    return Tracked(average.value, error, average.precision, average.k)


def _is_exactly(x: Tracked, magnitude: float) -> Any:
    return (np.abs(x.value) == magnitude) & (x.error == 0)


def _without_bound(x: Tracked, where: Any) -> Tracked:
    return Tracked(x.value, np.where(where, np.inf, x.error), x.precision, x.k, x.partial)


def _add(a: Tracked, b: Tracked) -> Tracked:
    exact = _is_exactly(a, 0.0) | _is_exactly(b, 0.0)
    total = a._result(a.value + b.value, a.error + b.error, a, b, exact=exact)
    if not (np.isinf(a.value).any() or np.isinf(b.value).any()):
        return total
    # Less what may overflow, an infinity may be NaN: there is no bound for what is made of it.
    opposite = np.sign(a.value) != np.sign(b.value)
    in_doubt = opposite & ((np.isinf(a.value) & np.isinf(b.error)) | (np.isinf(b.value) & np.isinf(a.error)))
    return _without_bound(total, in_doubt)


def _negative(a: Tracked) -> Tracked:
    return Tracked(-a.value, a.error, a.precision, a.k, a.partial)


def _subtract(a: Tracked, b: Tracked) -> Tracked:
    return _add(a, _negative(b))


def _multiply(a: Tracked, b: Tracked) -> Tracked:
    exact = _is_exactly(a, 0.0) | _is_exactly(b, 0.0) | _is_exactly(a, 1.0) | _is_exactly(b, 1.0)
    error = np.abs(a.value) * b.error + np.abs(b.value) * a.error + a.error * b.error
    partial = a.partial * b.partial
    error = error + np.where(exact, 0.0, a._underflow(partial))
    product = a._result(a.value * b.value, error, a, b, exact=exact, partial=partial)
    if not (np.isinf(a.value).any() or np.isinf(b.value).any()):
        return product
    # Times what may underflow to 0, an infinity may be NaN: there is no bound for what is made of it.
    in_doubt = (np.isinf(a.value) & _may_vanish(b)) | (np.isinf(b.value) & _may_vanish(a))
    return _without_bound(product, in_doubt)


def _may_vanish(x: Tracked) -> Any:
    return (x.value != 0) & (np.abs(x.value) <= x.error)


def _divide(a: Tracked, b: Tracked) -> Tracked:
    quotient = a.value / b.value
    least = np.abs(b.value) - b.error
    error = np.where(least > 0, (a.error + np.abs(quotient) * b.error) / least, np.inf)
    # A quotient whose divisor is exactly zero is inf or NaN by IEEE 754, with nothing to bound.
    by_zero = _is_exactly(b, 0.0)
    partial = np.where(by_zero, 1.0, a.partial * np.maximum(1.0 / np.maximum(least, 0.0), 1.0))
    error = error + a._underflow(partial)
    return a._result(quotient, np.where(by_zero, 0.0, error), a, b, exact=by_zero, partial=partial)


def _sqrt(a: Tracked) -> Tracked:
    root = np.sqrt(a.value)
    # In another order the operand is divided by something first, and rounded to a multiple of the smallest subnormal.
    before = a.error + np.where(_is_exactly(a, 0.0), 0.0, a.k * a.precision.smallest_subnormal)
    sum_of_roots = root + np.sqrt(np.maximum(a.value - before, 0.0))
    error = np.where(sum_of_roots > 0, before / sum_of_roots, np.sqrt(before))
    return a._result(root, error, a, exact=_is_exactly(a, 0.0) | _is_exactly(a, 1.0))


def _extremum(choose: Callable[[Array, Array], Array]) -> Callable[[Tracked, Tracked], Tracked]:
    def rule(a: Tracked, b: Tracked) -> Tracked:
        # Whichever of the two is chosen, it is within its own error: no rounding, and nothing to say of infinities.
        return Tracked(choose(a.value, b.value), np.maximum(a.error, b.error), a.precision, a.k)

    return rule


def _absolute(a: Tracked) -> Tracked:
    return Tracked(np.abs(a.value), a.error, a.precision, a.k, a.partial)


def _sign(a: Tracked) -> Tracked:
    # Where the sign is in doubt there is no bound: near 0, and of an infinity that in another order is NaN.
    decided = np.isfinite(a.value) & ((np.abs(a.value) > a.error) | (a.error == 0))
    return Tracked(np.sign(a.value), np.where(decided, 0.0, np.inf), a.precision, a.k)


_RULES: dict[np.ufunc, Callable[..., Tracked]] = {
    np.add: _add,
    np.subtract: _subtract,
    np.multiply: _multiply,
    np.true_divide: _divide,
    np.negative: _negative,
    np.positive: lambda a: a,
    np.sqrt: _sqrt,
    np.square: lambda a: _multiply(a, a),
    np.maximum: _extremum(np.maximum),
    np.minimum: _extremum(np.minimum),
    np.absolute: _absolute,
    np.sign: _sign,
}


@dataclass(frozen=True)
class Comparison:
    """How far computed values are from what they should be, in units of the bound.

    `worst` is the largest |seen - expected| / allowed over the judged elements: above 1 the values are wrong. It is
    infinite where NaN or infinity stands in place of a number, or the other way round.
    """

    quantity: str
    judged: int
    unjudged: int
    worst: float = 0.0
    index: int = 0
    seen: float = 0.0
    expected: float = 0.0
    allowed: float = 0.0
    ulp: float = 0.0
    """The largest distance in units in the last place of the storage format, over the judged elements."""

    @property
    def passed(self) -> bool:
        """Whether every judged value is within its bound."""
        return self.worst <= 1.0

    def __str__(self) -> str:
        return (
            f"{self.quantity}[{self.index}] = {self.seen!r}, but should be {self.expected!r} "
            f"({self.worst:.3g} times the bound {self.allowed:.3g})"
        )


def compare(quantity: str, seen: Array, expected: Tracked, storage: Precision | None = None) -> Comparison:
    """Judge computed values against an oracle's, within the bound that they carry.

    Args:
        quantity: what is compared, for messages.
        seen: the computed values, float64.
        expected: the oracle's values and bounds.
        storage: the format that the values were rounded into, once, where it is narrower than the arithmetic.

    Returns:
        The worst element and the counts. Values that are NaN or infinite by the oracle must be NaN or infinite: which
        of the two depends on the order of evaluation (m + (1 - b1)(g - m) makes NaN of two infinities).
    """
    value, error = expected.value, expected.error
    precision = expected.precision
    with np.errstate(all="ignore"):
        if storage is not None and storage is not precision:
            error = error + storage.unit_roundoff * (np.abs(value) + error) + storage.smallest_subnormal
            error = np.where(np.abs(value) + error >= storage.largest, np.inf, error)
        finite = np.isfinite(value)
        judged = np.isfinite(error)
        distance = np.abs(seen - value)
        ratio = np.where(distance == 0, 0.0, distance / error)
        ratio = np.where(np.isnan(ratio), np.inf, ratio)
        ratio = np.where(finite, ratio, np.where(np.isfinite(seen), np.inf, 0.0))
        ratio = np.where(judged, ratio, 0.0)
        if ratio.size == 0:
            return Comparison(quantity, 0, 0)
        index = int(np.argmax(ratio))
        counted = judged & finite & np.isfinite(seen)
        ulp = np.where(counted, distance / (storage or precision).spacing(value), 0.0)
    count = int(np.count_nonzero(judged))
    return Comparison(
        quantity,
        count,
        judged.size - count,
        float(ratio[index]),
        index,
        float(seen[index]),
        float(value[index]),
        float(error[index]),
        float(ulp.max()),
    )


def _folded(values: Array, period: int, choose: np.ufunc) -> Array:
    """The least or greatest of the values at places that are a number of periods apart."""
    # Long rows first: NumPy goes through many short ones slowly.
    for length in (1024 * period, period):
        if values.size >= 2 * length:
            whole = values.size // length * length
            rows, rest = values[:whole].reshape(-1, length), values[whole:]
            values = choose.reduce(rows, axis=0)
            values[: rest.size] = choose(values[: rest.size], rest)
    return values


def compare_repeated(quantity: str, seen: Array, expected: Tracked) -> Comparison:
    """Judge computed values against fewer, which they should be again and again: the last time perhaps not to the end.

    Of each expected value only the smallest and the largest that was computed are judged, as no other is further off.
    Where one of them is wrong, or anything is not finite, all are judged.

    Example:
        >>> expected = Tracked(np.array([1.0, 2.0]), 0.1)
        >>> compare_repeated("param", np.array([1.0, 2.05, 1.0, 2.0, 1.5]), expected).index
        4
    """
    period = expected.value.size
    if seen.size > 2 * period > 0 and np.isfinite(seen).all():
        extremes = [_folded(seen, period, np.minimum), _folded(seen, period, np.maximum)]
        twice = Tracked(np.tile(expected.value, 2), np.tile(expected.error, 2), expected.precision)
        comparison = compare(quantity, np.concatenate(extremes), twice)
        if comparison.passed:
            return comparison
    value, error = (np.resize(each, seen.shape) for each in (expected.value, expected.error))
    return compare(quantity, seen, Tracked(value, error, expected.precision))
