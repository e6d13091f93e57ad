"""What the pictures of a report are drawn from: errors step by step, their distribution, and the size of a step."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from radam.audit.bounds import Array, Comparison, Precision, Tracked
from radam.audit.capabilities import HALF, SWITCHES, Capabilities, let_compile
from radam.audit.checks.numbers import change_of_branch
from radam.audit.lockstep import Lockstep
from radam.audit.subject import Oracle

STEPS = 100
ELEMENTS = 240
CURVE_STEPS = 300
FEW = 12
"""Steps of a compiled curve, as each may be compiled anew: the sixth is the first adaptive one for a beta2 near 1."""
BETA2 = (0.9, 0.99, 0.999, 0.9995)
TINY = 1e-30
"""An eps that changes no step on gradients of 1, and divides no zero by zero."""
SECONDS = 8.0
"""For all errors together, and again for all curves: slow optimizers are followed for fewer steps, but at least FEW."""
ULP_EDGES = (0.0, *(2.0**i for i in range(-4, 9)), math.inf)


def measure(capabilities: Capabilities) -> dict[str, Any]:
    """Measure what the pictures of a report show.

    Args:
        capabilities: of the subject.

    Returns:
        JSON-able values; a number that is not finite is None. A figure that cannot be had is missing:

        "errors": {"options", "series": [{"implementation", "dtype", "quantities": {name: [error]}}]}: the worst error
            of each step in units of its bound, on random gradients.
        "ulps": {"edges", "series": [{"implementation", "dtype", "param": [count], "state": [count]}]}: how many of the
            same numbers are how far from the oracle's, in units in the last place. The last bin has no end.
        "rectification": {"options", "curves": [{"label", "exact": [size], "applied": {implementation: [size]}}]}: the
            size of each step by lr on a constant gradient of 1, for an oracle with more than one branch.
        "update": the same for any other subject, whose "exact" is None where there is no oracle.
        "omitted": why something is missing: of all "errors" or all "curves", or of one of their settings, such as
            "rectification[float64, compiled]".

    Example:
        >>> from radam.audit.subjects.finding import find
        >>> figures = measure(Capabilities(find("torch.optim:SGD")[0], torch.device("cpu")))
        >>> figures["update"]["curves"][0]["applied"]["loop"][:3]
        [1.0, 1.0, 1.0]
    """
    figures: dict[str, Any] = {}
    omitted: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, figure in (("errors", _against_oracle), ("curves", _curves)):
            figures.update(_attempt(name, omitted, partial(figure, capabilities, omitted)) or {})
    return {**figures, "omitted": omitted} if omitted else figures


def _attempt(name: str, omitted: dict[str, str], action: Callable[[], Any]) -> Any:
    """What an action returns; None, with the reason in `omitted`, where it raises something."""
    try:
        return action()
    except Exception as error:
        lines = str(error).strip().splitlines()
        omitted[name] = f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")
        return None


def _ordinary(capabilities: Capabilities) -> dict[str, Any]:
    """Hyper-parameters: the constructor's defaults where they are such, else the simplest that the subject draws."""
    options = dict(capabilities.options)
    for name, value in options.items():
        default = getattr(capabilities.parameters.get(name), "default", None)
        if _kind(default) is not None and _kind(default) == _kind(value):
            options[name] = default
    if options.get("lr") == 0:
        options["lr"] = 1e-3
    return options


def _kind(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_kind, value))
    return bool if isinstance(value, bool) else float if isinstance(value, int | float) else None


def _paced(steps: int, seconds: float) -> Iterator[int]:
    """Numbers of steps from 1; after FEW of them, until the time is up."""
    end = time.perf_counter() + seconds
    for step in range(1, steps + 1):
        yield step
        if step >= FEW and time.perf_counter() > end:
            return


def _numbers(values: Sequence[float]) -> list[float | None]:
    """Plain numbers for JSON, which has no NaN and no infinity."""
    return [float(value) if math.isfinite(value) else None for value in values]


# Errors


class _Watched(Lockstep):
    """A Lockstep that keeps the worst error of each step, and counts the distances of all numbers in ulp."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.errors: dict[str, list[float]] = {}
        self.counts = {kind: np.zeros(len(ULP_EDGES) - 1, int) for kind in ("param", "state")}

    def _compare(self, quantity: str, seen: Array, expected: Tracked, storage: Precision | None = None) -> Comparison:
        comparison = super()._compare(quantity, seen, expected, storage)
        self.errors.setdefault(quantity, []).append(comparison.worst)
        with np.errstate(all="ignore"):
            distance = np.abs(seen - expected.value) / (storage or expected.precision).spacing(expected.value)
        judged = np.isfinite(expected.error) & np.isfinite(expected.value)
        # A NaN in place of a number is infinitely far.
        distance = np.where(np.isnan(distance), math.inf, distance)[judged]
        place = np.clip(np.searchsorted(ULP_EDGES, distance, side="left") - 1, 0, len(ULP_EDGES) - 2)
        self.counts["param" if quantity == "param" else "state"] += np.bincount(place, minlength=len(ULP_EDGES) - 1)
        return comparison


def _against_oracle(capabilities: Capabilities, omitted: dict[str, str]) -> dict[str, Any]:
    if capabilities.subject.oracle is None:
        return {}
    options = _ordinary(capabilities)
    half = HALF if capabilities.has("half") or capabilities.has("narrow_half") else ()
    settings = [
        (implementation, dtype)
        for dtype in (torch.float64, torch.float32, *half)
        for implementation in capabilities.implementations
        if implementation not in ("compiled", "differentiable")
    ]
    errors, ulps = [], []
    for implementation, dtype in settings:
        names = {"implementation": implementation, "dtype": str(dtype).removeprefix("torch.")}
        name = f"errors[{names['dtype']}, {implementation}]"
        refusal = capabilities.refusal(implementation, dtype)
        if refusal is not None:
            omitted[name] = refusal
            continue
        seconds = SECONDS / len(settings)
        watched = _attempt(name, omitted, partial(_watch, capabilities, implementation, dtype, options, seconds))
        if watched is not None:
            errors.append({**names, "quantities": {name: _numbers(worst) for name, worst in watched.errors.items()}})
            ulps.append({**names, **{kind: counts.tolist() for kind, counts in watched.counts.items()}})
    if not errors:
        return {}
    return {
        "errors": {"options": _described(options), "series": errors},
        "ulps": {"edges": list(ULP_EDGES[:-1]), "series": ulps},
    }


def _watch(
    capabilities: Capabilities, implementation: str, dtype: torch.dtype, options: Mapping[str, Any], seconds: float
) -> _Watched:
    """Random gradients of two decades, on parameters of which a third each is zero, about as large as a step, and 1."""
    subject = capabilities.subject
    assert subject.oracle is not None
    generator = np.random.default_rng(0)
    scale = 10.0 ** generator.uniform(-1, 1, ELEMENTS)
    start = generator.standard_normal(ELEMENTS) * np.resize((0.0, 1e-3, 1.0), ELEMENTS)
    param = torch.nn.Parameter(torch.from_numpy(start).to(capabilities.device, dtype))
    optimizer = subject.build([param], {**options, **SWITCHES[implementation]})
    watched = _Watched(
        optimizer,
        [dict(options)],
        subject.oracle,
        state=subject.state,
        scalars=subject.scalars,
        narrow=dtype in HALF and capabilities.has("narrow_half"),
        keep_going=True,
    )
    for _ in _paced(STEPS, seconds):
        gradient = generator.standard_normal(ELEMENTS) * scale
        param.grad = torch.from_numpy(gradient).to(capabilities.device, dtype)
        watched.step()
    return watched


def _described(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


# Curves


def _curves(capabilities: Capabilities, omitted: dict[str, str]) -> dict[str, Any]:
    """Sizes of steps on a constant gradient of 1: there m and the square root of v are their bias corrections."""
    options = _ordinary(capabilities)
    if "weight_decay" in options:
        options["weight_decay"] = 0.0
    if isinstance(options.get("eps"), float):
        options["eps"] = TINY
    oracle = capabilities.subject.oracle
    name = "update"
    groups: list[dict[str, Any]] = [{}]
    if (
        oracle is not None
        and _kind(options.get("betas")) == (float, float)
        and "betas" in capabilities.optimizer.defaults
        and change_of_branch(oracle(options)) is not None
    ):
        name, groups = "rectification", [{"betas": (options["betas"][0], beta2)} for beta2 in BETA2]
    implementations = [each for each in capabilities.implementations if each != "differentiable"]
    applied: dict[str, list[list[float]]] = {}
    for implementation in implementations:
        sizes = _attempt(
            f"{name}[float64, {implementation}]",
            omitted,
            partial(_applied, capabilities, implementation, options, groups, SECONDS / len(implementations)),
        )
        if sizes is not None:
            applied[implementation] = sizes
    if not applied:
        return {}
    lr = _lr(options)
    return {
        name: {
            "options": _described({key: value for key, value in options.items() if name == "update" or key != "betas"}),
            "curves": [
                {
                    "label": f"beta2 = {own['betas'][1]}" if own else "",
                    "exact": None if oracle is None else _numbers(_exact(oracle({**options, **own}), lr)),
                    "applied": {implementation: _numbers(sizes[i]) for implementation, sizes in applied.items()},
                }
                for i, own in enumerate(groups)
            ],
        }
    }


def _lr(options: Mapping[str, Any]) -> float:
    return float(options.get("lr", 1.0))


def _applied(
    capabilities: Capabilities,
    implementation: str,
    options: Mapping[str, Any],
    groups: Sequence[Mapping[str, Any]],
    seconds: float,
) -> list[list[float]]:
    """The size of each step by lr as an optimizer takes it, for each of its groups: one compilation serves all."""
    params = [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64, device=capabilities.device)) for _ in groups]
    optimizer = capabilities.subject.build(
        [{"params": [param], **own} for param, own in zip(params, groups, strict=True)],
        {**options, **SWITCHES[implementation]},
    )
    if implementation == "compiled":
        let_compile(optimizer, capabilities.backend)
    sizes: list[list[float]] = [[] for _ in groups]
    before = [0.0] * len(groups)
    for _ in _paced(FEW if implementation == "compiled" else CURVE_STEPS, seconds):
        for param in params:
            param.grad = torch.ones_like(param)
        optimizer.step()
        for i, param in enumerate(params):
            after = float(param.detach())
            sizes[i].append(abs(after - before[i]) / _lr(options))
            before[i] = after
    return sizes


def _exact(oracle: Oracle, lr: float) -> list[float]:
    """The sizes by an oracle that starts, as in lock-step, from nothing."""
    param, sizes = np.zeros(1), []
    oracle.begin(param)
    for _ in range(CURVE_STEPS):
        after = oracle.step(param, np.ones(1))
        sizes.append(float(np.abs(after - param)[0]) / lr)
        param = after
    return sizes
