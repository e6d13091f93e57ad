"""The error bounds are true: no evaluation exceeds them. And sharp: ordinary ones come close."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from radam.audit.bounds import PRECISIONS, Comparison, Tracked, compare, compare_repeated, scalar, with_lerp_room

Array = np.ndarray[Any, np.dtype[Any]]
NUMPY = {"float64": np.float64, "float32": np.float32, "float16": np.float16}
TORCH = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Expressions: nested tuples of an operation and its operands, a variable's name or a number.
Expression = Any
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "max": np.maximum,
    "min": np.minimum,
}
UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": operator.neg,
    "abs": np.absolute,
    "sign": np.sign,
    "square": np.square,
    "root": lambda x: np.sqrt(np.absolute(x)),
}

expressions: st.SearchStrategy[Expression] = st.recursive(
    st.one_of(st.sampled_from("xyz"), st.sampled_from((0.0, 1.0, -1.0, 0.1, 0.999, 1 / 3, 3.0))),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(sorted(BINARY)), inner, inner), st.tuples(st.sampled_from(sorted(UNARY)), inner)
    ),
    max_leaves=12,
)


def evaluate(expression: Expression, variables: Mapping[str, Any], number: Callable[[float], Any]) -> Any:
    """The value of an expression over any kind of number."""
    if isinstance(expression, str):
        return variables[expression]
    if isinstance(expression, float):
        return number(expression)
    name, *operands = expression
    values = [evaluate(operand, variables, number) for operand in operands]
    return BINARY[name](*values) if len(values) == 2 else UNARY[name](*values)


def operations(expression: Expression) -> int:
    return 1 + sum(map(operations, expression[1:])) if isinstance(expression, tuple) else 1


def exactly(expression: Expression, variables: Mapping[str, float]) -> Any:
    """The exact value, to 60 digits beyond the range of any float here; None where it does not exist."""
    with mpmath.workdps(1000):
        exact = {name: np.array(mpmath.mpf(value), dtype=object) for name, value in variables.items()}
        try:
            return mpmath.mpf(np.asarray(evaluate(expression, exact, mpmath.mpf)).item())
        except ZeroDivisionError:
            return None


def numbers(width: int) -> st.SearchStrategy[float]:
    """Numbers of every size, mostly ordinary ones; zeros and subnormals too."""
    return st.one_of(
        st.floats(-10, 10, width=width),
        st.floats(-10, 10, width=width),
        st.floats(allow_nan=False, allow_infinity=False, width=width),
        st.sampled_from((0.0, 1.0, -1.0, {16: 2.0**-24, 32: 2.0**-149, 64: 5e-324}[width])),
    )


def assert_true(expression: Expression, values: list[float], name: str) -> None:
    """Evaluated in the same order, with k = 1, the bound holds but for terms of second order.

    The rounding of an operation is u of its computed result; the bound has u of the exact one. n operations neglect at
    most the share 2 n u of the bound.
    """
    variables = dict(zip("xyz", values, strict=True))
    precision, kind = PRECISIONS[name], NUMPY[name]
    zero = Tracked([0.0], 0.0, precision, 1)
    # Adding an exact zero rounds nothing: a number enters as it does beside an array.
    tracked = evaluate(
        expression, {v: Tracked([x], 0.0, precision, 1) for v, x in variables.items()}, lambda number: zero + number
    )
    if not math.isfinite(tracked.error[0]):
        return
    with np.errstate(all="ignore"):
        computed = float(evaluate(expression, {v: kind(x) for v, x in variables.items()}, kind))
    exact = exactly(expression, variables)
    if not math.isfinite(tracked.value[0]):
        assert not math.isfinite(computed)
        return
    if exact is None:
        # Beyond a division by exactly zero both go by IEEE 754.
        assert abs(computed - tracked.value[0]) <= tracked.error[0]
        return
    with mpmath.workdps(1000):
        slack = 1 + 2 * operations(expression) * precision.unit_roundoff
        assert math.isfinite(computed)
        assert abs(mpmath.mpf(computed) - exact) <= float(tracked.error[0]) * slack


@given(expression=expressions, values=st.lists(numbers(32), min_size=3, max_size=3))
def test_the_bound_is_true_in_float32(expression: Expression, values: list[float]) -> None:
    assert_true(expression, values, "float32")


@given(expression=expressions, values=st.lists(numbers(64), min_size=3, max_size=3))
def test_the_bound_is_true_in_float64(expression: Expression, values: list[float]) -> None:
    assert_true(expression, values, "float64")


@given(expression=expressions, values=st.lists(numbers(16), min_size=3, max_size=3))
def test_the_bound_is_true_in_float16(expression: Expression, values: list[float]) -> None:
    assert_true(expression, values, "float16")


# Other orders of evaluation, on arrays


def data(name: str, seed: int, size: int = 20000) -> dict[str, torch.Tensor]:
    """p, m, v, g of ordinary size, m and g over six decades and with zeros among them."""
    generator = torch.Generator().manual_seed(seed)

    def normal() -> torch.Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    spread = 10.0 ** (6 * torch.rand(size, generator=generator, dtype=torch.float64) - 4)
    arrays = {"p": normal(), "m": normal() * spread, "v": (normal() * spread) ** 2, "g": normal() * spread}
    arrays["p"][::5] = 0
    arrays["g"][::7] = 0
    return {key: value.to(TORCH[name]) for key, value in arrays.items()}


def tracked(tensor: torch.Tensor, name: str, k: float) -> Tracked:
    return Tracked(tensor.double().numpy(), 0.0, PRECISIONS[name], k)


AVERAGES: dict[str, Callable[[Any, Any, float], Any]] = {
    "mul add": lambda m, g, b: m.mul(b).add(g, alpha=1 - b),
    "two products": lambda m, g, b: b * m + (1 - b) * g,
    "lerp": lambda m, g, b: m.lerp(g, 1 - b),
    "difference": lambda m, g, b: m + (1 - b) * (g - m),
    "from the gradient": lambda m, g, b: g - b * (g - m),
    "list": lambda m, g, b: torch._foreach_lerp([m], [g], 1 - b)[0],
}
SQUARES: dict[str, Callable[[Any, Any, float], Any]] = {
    "addcmul": lambda v, g, b: v.mul(b).addcmul(g, g, value=1 - b),
    "square": lambda v, g, b: b * v + (1 - b) * g.square(),
    "product first": lambda v, g, b: b * v + ((1 - b) * g) * g,
    "list": lambda v, g, b: torch._foreach_addcmul([v * b], [g], [g], value=1 - b)[0],
}
UPDATES: dict[str, Callable[[Any, Any, Any, float, float], Any]] = {
    "addcdiv": lambda p, m, v, size, e: p.addcdiv(m, v.sqrt().add(e), value=-size),
    "oracle's": lambda p, m, v, size, e: p - size * m / (v.sqrt() + e),
    "quotient first": lambda p, m, v, size, e: p - size * (m / (v.sqrt() + e)),
    "reciprocal": lambda p, m, v, size, e: p - size * m * (1 / (v.sqrt() + e)),
    "denominator scaled": lambda p, m, v, size, e: p - m / ((v.sqrt() + e) / size),
    "added": lambda p, m, v, size, e: p + (-size) * (m / (v.sqrt() + e)),
}
DECAYS = (0.9, 0.5, 0.3, 0.0, 0.999, 0.99)
# Orders that round in a term which the average hardly has any of; torch's lerp takes each on the side where it is good.
UNUSUAL = {("difference", beta) for beta in DECAYS if beta < 0.5} | {
    ("from the gradient", beta) for beta in DECAYS if beta >= 0.5
}


def assert_within(quantity: str, seen: torch.Tensor, expected: Tracked) -> None:
    comparison = compare(quantity, seen.double().numpy(), expected)
    assert comparison.unjudged == 0
    assert comparison.passed, str(comparison)


@pytest.mark.parametrize(
    ("order", "beta"), [(order, beta) for order in AVERAGES for beta in DECAYS if (order, beta) not in UNUSUAL]
)
@pytest.mark.parametrize("name", ["float32", "float64"])
def test_every_usual_order_of_an_average_is_within(name: str, order: str, beta: float) -> None:
    arrays = data(name, 1)
    m, g = (tracked(arrays[key], name, 4) for key in "mg")
    expected = with_lerp_room(beta * m + (1 - beta) * g, m)  # type: ignore[operator]
    assert_within("m", AVERAGES[order](arrays["m"], arrays["g"], beta), expected)


@pytest.mark.parametrize("beta", DECAYS)
@pytest.mark.parametrize("order", SQUARES)
@pytest.mark.parametrize("name", ["float32", "float64"])
def test_every_usual_order_of_an_average_of_squares_is_within(name: str, order: str, beta: float) -> None:
    arrays = data(name, 2)
    v, g = (tracked(arrays[key], name, 4) for key in "vg")
    expected = beta * v + (1 - beta) * (g * g)  # type: ignore[operator]
    assert_within("v", SQUARES[order](arrays["v"], arrays["g"], beta), expected)


@pytest.mark.parametrize(("size", "e"), [(1e-3, 1e-16), (0.3, 1e-8), (1.0, 1.0), (7e-5, 0.3)])
@pytest.mark.parametrize("order", UPDATES)
@pytest.mark.parametrize("name", ["float32", "float64"])
def test_every_usual_order_of_an_update_is_within(name: str, order: str, size: float, e: float) -> None:
    arrays = data(name, 3)
    p, m, v = (tracked(arrays[key], name, 4) for key in "pmv")
    expected = p - size * m / (np.sqrt(v) + e)  # type: ignore[call-overload, operator]
    assert_within("p", UPDATES[order](arrays["p"], arrays["m"], arrays["v"], size, e), expected)


@pytest.mark.parametrize(("size", "e"), [(100.0, 4.0), (1e6, 300.0), (1e-3, 1e-3), (1.0, 1.0)])
@pytest.mark.parametrize("order", UPDATES)
@pytest.mark.parametrize("name", ["float32", "float64"])
def test_every_usual_order_of_an_update_that_underflows_is_within(name: str, order: str, size: float, e: float) -> None:
    """What a quotient loses is multiplied by a large step afterwards, or was never lost: the order decides."""
    tiny = PRECISIONS[name].smallest_subnormal
    zero = torch.zeros(400, dtype=TORCH[name])
    m, v = (torch.arange(400, dtype=torch.float64) * tiny).to(TORCH[name]), zero
    expected = tracked(zero, name, 4) - size * tracked(m, name, 4) / (np.sqrt(tracked(v, name, 4)) + e)  # type: ignore[call-overload, operator]
    assert_within("p", UPDATES[order](zero, m, v, size, e), expected)
    widest = expected.error / tiny - 16 * 2.0**-24 * np.arange(400) * size / e  # the roundings of what does not vanish
    assert widest.max() <= 4 * (3 * max(size, 1.0) * max(1 / e, 1.0) + 2)


@pytest.mark.parametrize("correction", [0.1, 0.19, 1e-3])
@pytest.mark.parametrize("name", ["float32", "float64"])
def test_a_root_of_a_quotient_that_is_subnormal_is_within(name: str, correction: float) -> None:
    """sqrt(v / c) rounds v / c to a multiple of the smallest subnormal, sqrt(v) / sqrt(c) does not."""
    v = (torch.arange(400, dtype=torch.float64) * PRECISIONS[name].smallest_subnormal).to(TORCH[name])
    assert_within("root", (v / correction).sqrt() * correction**0.5, np.sqrt(tracked(v, name, 4)))  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_one_rounding_into_narrow_storage_is_within(name: str) -> None:
    """The update in float32 from a half precision parameter, rounded once; two roundings exceed the bound."""
    storage, size, e = PRECISIONS[name], 0.3, 1e-8
    arrays = data("float32", 4)
    half = arrays["p"].to(TORCH[name])
    p, m, v = tracked(half, "float32", 1), tracked(arrays["m"], "float32", 1), tracked(arrays["v"], "float32", 1)
    expected = p - size * m / (np.sqrt(v) + e)  # type: ignore[call-overload, operator]
    once = UPDATES["addcdiv"](half.float(), arrays["m"], arrays["v"], size, e).to(TORCH[name])
    comparison = compare("p", once.double().numpy(), expected, storage)
    assert comparison.passed, str(comparison)
    step = (size * arrays["m"] / (arrays["v"].sqrt() + e)).to(TORCH[name])
    twice = (half.float() - step.float()).to(TORCH[name])
    assert not compare("p", twice.double().numpy(), expected, storage).passed


def test_a_fused_multiply_add_is_within() -> None:
    """One rounding less: float32 through float64, where the product of two float32 numbers is exact."""
    arrays = data("float32", 5)
    m, g = (tracked(arrays[key], "float32", 4) for key in "mg")
    beta, rest = (float(np.float32(x)) for x in (0.9, 1 - 0.9))
    fused = ((arrays["g"] * rest).double() + arrays["m"].double() * beta).float()
    assert_within("m", fused, 0.9 * m + (1 - 0.9) * g)  # type: ignore[operator]


# Sharpness

SHARP = 1 / 8
"""The share of the bound with k = 1 that the worst of 20000 ordinary elements reaches at least."""


def worst(seen: torch.Tensor, expected: Tracked) -> float:
    return compare("x", seen.double().numpy(), expected).worst


def lines(arrays: Mapping[str, Any], b1: Any, b2: Any, size: Any, e: Any) -> tuple[Any, Any, Any]:
    """The oracle's lines over any kind of array."""
    p, m, v, g = (arrays[key] for key in "pmvg")
    return b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * (g * g), p - size * m / (np.sqrt(v) + e)


def test_the_bound_is_sharp_in_float32() -> None:
    arrays = data("float32", 6)
    bounds = lines({key: tracked(array, "float32", 1) for key, array in arrays.items()}, 0.9, 0.999, 0.3, 1e-8)
    seen = (
        AVERAGES["mul add"](arrays["m"], arrays["g"], 0.9),
        SQUARES["addcmul"](arrays["v"], arrays["g"], 0.999),
        UPDATES["addcdiv"](arrays["p"], arrays["m"], arrays["v"], 0.3, 1e-8),
    )
    shares = list(map(worst, seen, bounds))
    assert all(SHARP < share <= 1 for share in shares), shares


def test_the_bound_is_sharp_and_true_in_float64() -> None:
    """Against mpmath, as the oracle's own values are rounded too."""
    arrays = data("float64", 6, 2000)
    bounds = lines({key: tracked(array, "float64", 1) for key, array in arrays.items()}, 0.9, 0.999, 0.3, 1e-8)
    with mpmath.workdps(40):
        exact = np.vectorize(mpmath.mpf, otypes=[object])
        right = lines(
            {key: exact(array.numpy()) for key, array in arrays.items()}, *map(mpmath.mpf, (0.9, 0.999, 0.3, 1e-8))
        )
        for bound, expected in zip(bounds, right, strict=True):
            shares = [float(abs(d) / e) for d, e in zip(expected - bound.value, bound.error, strict=True) if e > 0]
            assert SHARP < max(shares) <= 1


def test_lerps_room_is_needed_and_not_wide() -> None:
    """lerp with a small decay exceeds the bound of the two products; with the room it fills an eighth at least."""
    arrays = data("float32", 7)
    arrays["g"] = arrays["g"] * 1e-6
    m, g = (tracked(arrays[key], "float32", 1) for key in "mg")
    seen, expected = AVERAGES["lerp"](arrays["m"], arrays["g"], 1e-3), 1e-3 * m + (1 - 1e-3) * g  # type: ignore[operator]
    assert worst(seen, expected) > 1
    assert SHARP < worst(seen, with_lerp_room(expected, m)) <= 4


def test_room_for_lerp_is_none_where_the_average_is_exact() -> None:
    zeros = Tracked(np.zeros(2), 0.0)
    assert not with_lerp_room(0.9 * zeros + (1 - 0.9) * zeros, Tracked(np.ones(2))).error.any()  # type: ignore[operator]
    plain = np.ones(2)
    assert with_lerp_room(plain, Tracked(np.ones(2))) is plain  # type: ignore[arg-type, comparison-overlap]


# The ends of the number range


def one(value: float, name: str = "float32", k: float = 1.0, error: float = 0.0) -> Tracked:
    return Tracked([value], error, PRECISIONS[name], k)


@pytest.mark.parametrize("name", ["float32", "float64", "float16", "bfloat16"])
def test_underflow_is_within_the_smallest_subnormal(name: str) -> None:
    tiny = PRECISIONS[name].smallest_subnormal
    product = one(tiny, name) * one(0.25, name)  # type: ignore[operator]
    assert product.error[0] >= tiny / 4
    assert math.isfinite(product.error[0])


def test_subnormal_numbers_are_rounded_to_multiples_of_the_smallest() -> None:
    x = np.float32(3 * 2.0**-149)
    quotient = one(float(x)) / 2.0  # type: ignore[operator]
    assert abs(float(x / np.float32(2)) - 1.5 * 2.0**-149) <= quotient.error[0]


@pytest.mark.parametrize("other", [0.0, 3.0, -1e30])
def test_zeros_are_exact(other: float) -> None:
    zero, x = one(0.0), one(other)
    for result in (zero * x, x * zero, zero + zero, np.sqrt(zero), -zero, np.maximum(zero, zero)):  # type: ignore[call-overload, operator]
        assert result.value[0] == 0
        assert result.error[0] == 0
    assert (x + zero).value[0] == other  # type: ignore[operator]
    assert (x + zero).error[0] == 0  # type: ignore[operator]


@pytest.mark.parametrize("number", [0.0, 1.0, -1.0])
def test_the_plain_numbers_0_and_1_enter_exactly(number: float) -> None:
    assert (one(3.0) * number).error[0] == 0  # type: ignore[operator]


def test_a_plain_number_enters_by_one_rounding() -> None:
    sharp, rounded = one(0.1) + one(0.0), one(0.0) + 0.1  # type: ignore[operator]
    assert sharp.error[0] == 0
    assert rounded.error[0] == pytest.approx(0.1 * 2.0**-24, rel=1e-6, abs=0)


def test_a_scalars_error_is_not_multiplied() -> None:
    loose, strict = (scalar(2.0, 1e-3, PRECISIONS["float64"], k) for k in (4.0, 1.0))
    assert float(loose.error) - float(strict.error) == pytest.approx(3 * 2.0**-53 * 2, rel=1e-3, abs=0)
    assert float(strict.error) >= 2e-3
    assert float(scalar(0.0, 1e-3, PRECISIONS["float32"]).error) == 0


def test_a_divisor_that_may_be_zero_leaves_nothing_to_judge() -> None:
    assert math.isinf((one(1.0) / one(1e-3, error=1e-3)).error[0])  # type: ignore[operator]
    assert math.isinf((one(1.0) / one(0.0, error=1e-3)).error[0])  # type: ignore[operator]


@pytest.mark.parametrize(("dividend", "quotient"), [(0.0, math.nan), (1.0, math.inf), (-1.0, -math.inf)])
def test_a_division_by_exactly_zero_is_what_ieee_says(dividend: float, quotient: float) -> None:
    result = one(dividend) / one(0.0)  # type: ignore[operator]
    assert np.array_equal(result.value, [quotient], equal_nan=True)
    assert result.error[0] == 0


def test_a_division_by_a_tiny_number_is_bounded_or_unjudged() -> None:
    x, y = np.float32(3.0), np.float32(1e-30)
    result = one(float(x)) / one(float(y))  # type: ignore[operator]
    exact = mpmath.mpf(float(x)) / mpmath.mpf(float(y))
    assert math.isinf(result.error[0]) or abs(mpmath.mpf(float(x / y)) - exact) <= result.error[0]


@pytest.mark.parametrize("name", ["float32", "float16", "float64"])
def test_what_may_overflow_is_unjudged(name: str) -> None:
    large = PRECISIONS[name].largest ** 0.7
    assert math.isinf((one(large, name) * one(large, name)).error[0])  # type: ignore[operator]
    # (x * x) / x overflows, x * (x / x) does not: neither order is judged.
    assert math.isinf((one(large, name) * one(large, name) / one(large, name)).error[0])  # type: ignore[operator]
    assert math.isfinite((one(large, name) + one(large, name)).error[0])  # type: ignore[operator]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_inf_pass_through_without_error(bad: float) -> None:
    result = 0.9 * one(1.0) + (1 - 0.9) * one(bad)  # type: ignore[operator]
    assert not math.isfinite(result.value[0])
    assert result.error[0] == 0
    assert compare("m", np.array([bad]), result).passed
    assert not compare("m", np.array([1.0]), result).passed


@pytest.mark.parametrize("name", sorted(set(PRECISIONS) - {"float64"}))
def test_infinity_less_what_may_overflow_has_no_bound(name: str) -> None:
    infinity, large = one(math.inf, name), one(PRECISIONS[name].largest, name)
    square = large * large  # type: ignore[operator]
    for difference in (infinity - square, square - infinity, -infinity + square):
        assert math.isinf(difference.value[0])
        assert math.isinf(difference.error[0])
    for total in (infinity + square, -infinity - square, infinity - large, infinity - one(1.0, name)):
        assert (abs(total.value[0]), total.error[0]) == (math.inf, 0)


def test_a_minimum_with_infinity_keeps_the_error() -> None:
    x, infinity = one(0.1, error=1e-3), one(math.inf)
    assert np.minimum(x, infinity).error[0] >= 1e-3  # type: ignore[call-overload]
    assert np.maximum(x, -infinity).error[0] >= 1e-3  # type: ignore[call-overload, operator]


@pytest.mark.parametrize(("value", "error", "certain"), [(2.0, 1.0, True), (-2.0, 1.0, True), (0.5, 1.0, False)])
def test_a_sign_is_certain_where_the_bound_does_not_reach_zero(value: float, error: float, certain: bool) -> None:
    sign = np.sign(one(value, error=error))  # type: ignore[call-overload]
    assert sign.value[0] == np.sign(value)
    assert sign.error[0] == (0 if certain else math.inf)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_sign_of_what_is_no_number_is_uncertain(value: float) -> None:
    assert np.sign(one(value)).error[0] == math.inf  # type: ignore[call-overload]


def test_the_sign_of_an_exact_zero_is_zero() -> None:
    sign = np.sign(one(0.0))  # type: ignore[call-overload]
    assert (sign.value[0], sign.error[0]) == (0, 0)


@pytest.mark.parametrize("ufunc", [np.exp, np.power, np.log1p, np.floor, np.matmul, np.greater])
def test_an_operation_without_a_rule_is_refused_by_name(ufunc: np.ufunc) -> None:
    with pytest.raises(TypeError, match=rf"np\.{ufunc.__name__} has no error bound"):
        ufunc(*(one(1.0) for _ in range(ufunc.nin)))


def test_a_reduction_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"np\.add has no error bound"):
        np.add.reduce(one(1.0))  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x.reshape(1),
        lambda x: x > 0,
        lambda x: np.add(x, 1, out=np.zeros(1)),
        lambda x: float(x),
        lambda x: bool(x),
    ],
    ids=["reshape", "comparison", "out", "float", "bool"],
)
def test_nothing_silently_drops_the_bound(make: Callable[[Any], Any]) -> None:
    """What Tracked cannot do is an error, never an array without a bound."""
    try:
        result = make(one(1.0))
    except (TypeError, AttributeError, ValueError):
        return
    pytest.fail(f"gave {result!r}")


def test_plain_arrays_on_the_left_keep_the_bound() -> None:
    assert isinstance(np.ones(1) * one(3.0), Tracked)
    assert isinstance(np.float64(2) * one(3.0), Tracked)
    assert isinstance(2 * one(3.0), Tracked)


# compare


def expected(*values: float, error: float = 0.5) -> Tracked:
    return Tracked(list(values), error, PRECISIONS["float32"])


@given(
    value=st.floats(-1e6, 1e6), error=st.floats(1e-6, 1e3), share=st.floats(-0.999, 0.999), position=st.integers(0, 4)
)
def test_within_the_bound_passes_and_twice_the_bound_is_caught(
    value: float, error: float, share: float, position: int
) -> None:
    right = Tracked([value] * 5, error, PRECISIONS["float64"])
    seen = np.full(5, value)
    seen[position] += share * error
    assert compare("x", seen, right).passed
    seen[position] = value + math.copysign(2 * error, share)
    comparison = compare("x", seen, right)
    assert not comparison.passed
    assert comparison.index == position
    # value + 2 error and the distance back from it round once each.
    assert comparison.worst == pytest.approx(2, abs=4 * 2.0**-53 * (abs(value) + 2 * error) / error)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_for_a_number_is_caught_and_a_number_for_nan_too(bad: float) -> None:
    for seen, right in (([1.0, bad], [1.0, 2.0]), ([1.0, 2.0], [1.0, bad])):
        comparison = compare("x", np.array(seen), Tracked(right, 0.0, PRECISIONS["float32"]))
        assert comparison.worst == math.inf
        assert comparison.index == 1
    assert compare("x", np.array([1.0, bad]), Tracked([1.0, bad], 0.0)).passed


def test_an_exact_value_has_no_room() -> None:
    assert compare("x", np.array([0.0]), expected(0.0, error=0.0)).passed
    assert compare("x", np.array([5e-324]), expected(0.0, error=0.0)).worst == math.inf


def test_counts_add_up() -> None:
    right = Tracked(np.zeros(6), np.array([0.0, 1.0, math.inf, 1.0, math.inf, 1.0]))
    comparison = compare("x", np.array([0.0, 0.5, 99.0, math.nan, math.nan, 0.0]), right)
    assert (comparison.judged, comparison.unjudged) == (4, 2)
    assert comparison.index == 3
    assert not comparison.passed


def test_nothing_to_compare() -> None:
    comparison = compare("x", np.zeros(0), Tracked(np.zeros(0), 0.0))
    assert comparison == Comparison("x", 0, 0)
    assert comparison.passed


def test_ulps_are_those_of_the_storage() -> None:
    right = Tracked([1.0], 0.1, PRECISIONS["float32"])
    seen = np.array([1.0 + 2.0**-7])
    assert compare("x", seen, right).ulp == 2.0**16
    assert compare("x", seen, right, PRECISIONS["bfloat16"]).ulp == 1


def test_a_value_that_rounds_to_infinity_in_storage_is_unjudged() -> None:
    right = Tracked([65504.0, 60000.0], 1e-3, PRECISIONS["float32"])
    comparison = compare("p", np.array([math.inf, 60000.0]), right, PRECISIONS["float16"])
    assert (comparison.judged, comparison.unjudged) == (1, 1)
    assert comparison.passed


def test_the_message_says_what_was_seen_and_what_should_be() -> None:
    comparison = compare("exp_avg_sq", np.array([0.0, 4.0]), expected(0.0, 3.0, error=0.25))
    assert str(comparison) == "exp_avg_sq[1] = 4.0, but should be 3.0 (4 times the bound 0.25)"


# Precisions


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_spacing_of_float64(value: float) -> None:
    """From 2**1023 on the spacing is the same, but NumPy's next number would overflow."""
    expected = np.spacing(np.float64(min(abs(value), 2.0**1023)))
    assert PRECISIONS["float64"].spacing(np.array([value]))[0] == expected


@given(value=st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_spacing_of_float32(value: float) -> None:
    assert PRECISIONS["float32"].spacing(np.array([value]))[0] == np.spacing(np.float32(min(abs(value), 2.0**127)))


@given(value=st.floats(allow_nan=False, allow_infinity=False, width=16))
def test_spacing_of_float16(value: float) -> None:
    assert PRECISIONS["float16"].spacing(np.array([value]))[0] == np.spacing(np.float16(min(abs(value), 2.0**15)))


@given(value=st.floats(2.0**-133, 2.0**126, width=32))
def test_spacing_of_bfloat16(value: float) -> None:
    """bfloat16 is the upper half of float32: its neighbours are 2**16 apart in their bits."""
    x = torch.tensor([value]).to(torch.bfloat16)
    following = (x.view(torch.int16) + 1).view(torch.bfloat16)
    assert PRECISIONS["bfloat16"].spacing(x.double().numpy())[0] == (following.double() - x.double()).item()


@pytest.mark.parametrize("name", TORCH)
def test_precisions_are_torchs(name: str) -> None:
    info, precision = torch.finfo(TORCH[name]), PRECISIONS[name]
    assert precision.unit_roundoff == info.eps / 2
    assert precision.largest == info.max
    assert precision.smallest_subnormal == info.smallest_normal * info.eps
    assert precision.significant_bits == 1 - round(math.log2(info.eps))
    assert precision.safe < info.max


@given(
    values=st.lists(st.floats(-10, 10), min_size=1, max_size=5),
    times=st.one_of(st.integers(1, 6), st.integers(2000, 3000)),
    rest=st.integers(0, 4),
    seed=st.integers(0, 2**32 - 1),
    special=st.sampled_from([None, np.nan, np.inf, -np.inf]),
)
def test_values_that_repeat_are_judged_as_if_each_were(
    values: list[float], times: int, rest: int, seed: int, special: float | None
) -> None:
    """By the same verdict and worst ratio; where they are wrong, by the same message."""
    rng = np.random.default_rng(seed)
    value, error = np.array(values), rng.uniform(0.1, 1.0, len(values))
    if special is not None and seed % 2:
        value[0] = special
    size = times * len(values) + min(rest, len(values) - 1)
    seen = np.resize(value, size) + rng.uniform(-1, 1, size) * np.resize(error, size) * rng.choice([0.9, 1.1])
    if special is not None:
        seen[rng.integers(size)] = special
    expected = Tracked(value, error)
    one_by_one = compare("param", seen, Tracked(np.resize(value, size), np.resize(error, size)))
    at_once = compare_repeated("param", seen, expected)
    assert (at_once.passed, at_once.worst) == (one_by_one.passed, one_by_one.worst)
    if not at_once.passed:
        assert repr(at_once) == repr(one_by_one)
