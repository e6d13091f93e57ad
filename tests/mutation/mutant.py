"""What a mutant is, how one is built, and how a difference between two optimizers is shown."""

from __future__ import annotations

import copy
import importlib
import io
import linecache
import math
import pickle
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PARTS = (
    "rectification",
    "threshold",
    "step count",
    "bias correction",
    "eps",
    "weight decay",
    "moments",
    "degenerate branch",
    "amsgrad",
    "maximize",
    "plumbing",
    "state and resume",
    "closure",
    "gradient handling",
    "layout",
    "dtype",
    "complex",
    "precision",
    "only then",
    "validation",
    "memory",
)

Module = Any  # a module with RAdam and WeightDecay
Observation = dict[str, Any]
Scenario = Callable[[Module], Observation]


@dataclass(frozen=True)
class Mutant:
    """A wrong optimizer: `edits` to the source of `base`; every `old` occurs there exactly once.

    `scenario` takes a module and returns what can be seen; the base and the mutant must give different sights.
    """

    name: str
    base: str
    part: str
    edits: tuple[tuple[str, str], ...]
    why: str
    scenario: Scenario


# --- building --------------------------------------------------------------------------------------------------------


def base_source(base: str) -> str:
    return (Path(__file__).parent / f"{base}.py").read_text(encoding="utf-8")


def base_module(base: str) -> types.ModuleType:
    return importlib.import_module(f"{__package__}.{base}")


def patched_source(mutant: Mutant) -> str:
    source = base_source(mutant.base)
    for old, _ in mutant.edits:
        count = source.count(old)
        if count != 1:
            raise ValueError(f"{mutant.name}: {old!r} occurs {count} times in {mutant.base}, not once")
    for old, new in mutant.edits:
        if source.count(old) != 1:
            raise ValueError(f"{mutant.name}: an earlier edit has touched {old!r}")
        source = source.replace(old, new)
    return source


def build(mutant: Mutant) -> types.ModuleType:
    """The patched module. It stands in `sys.modules`, so that instances can be pickled within this process."""
    name = f"{__package__}.wrong_{mutant.name}"
    if name in sys.modules:
        return sys.modules[name]
    source = patched_source(mutant)
    filename = f"<{mutant.base} with {mutant.name}>"
    module = types.ModuleType(name, mutant.why)
    module.__file__ = filename
    module.__package__ = __package__
    # A lazy entry (no mtime) survives linecache.checkcache, so tracebacks show the patched lines.
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    sys.modules[name] = module
    try:
        exec(compile(source, filename, "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


# --- observing -------------------------------------------------------------------------------------------------------

# More than rounding: a few units in the last place of float32 and float64. Half precision has no room to spare: the
# bases round once, correctly, so there any other number is wrong.
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-6, torch.complex128: 1e-13, torch.complex64: 1e-6}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        x, y = a.detach(), b.detach()
        if a.is_complex():
            x, y = torch.view_as_real(x.resolve_conj()), torch.view_as_real(y.resolve_conj())
        x, y = x.double(), y.double()
        tolerance = TOLERANCE.get(a.dtype, 0.0)
        close = (x == y) | (x.isnan() & y.isnan()) | ((x - y).abs() <= tolerance * torch.minimum(x.abs(), y.abs()))
        return bool(close.all())
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (a != a and b != b) or math.isclose(a, b, rel_tol=1e-13)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def observe(scenario: Scenario, module: Module) -> Observation:
    """What the scenario sees; an exception is a sight too."""
    try:
        return scenario(module)
    except Exception as error:
        return {"exception": f"{type(error).__name__}: {error}"}


def differences(a: Observation, b: Observation) -> list[str]:
    """One line for each thing that differs."""
    lines = []
    for key in [*a, *(k for k in b if k not in a)]:
        x, y = a.get(key, "absent"), b.get(key, "absent")
        if not same(x, y):
            lines.append(f"{key}: {x!r} against {y!r}")
    return lines


# --- scenarios -------------------------------------------------------------------------------------------------------


def wave(t: int, index: int, param: Tensor) -> Tensor:
    """A gradient without symmetry: every element of every parameter at every step is another number."""
    shape = (*param.shape, 2) if param.is_complex() else param.shape
    n = math.prod(shape)
    i = torch.arange(n, dtype=torch.float64)
    g = torch.cos(1.0 + 1.7 * i + 0.9 * t + 0.4 * index) * (1.0 + 0.3 * i / max(n, 1)) + 0.1
    g = g.reshape(shape)
    return (torch.view_as_complex(g) if param.is_complex() else g).to(param.dtype)


def scaled(factor: float) -> Callable[[int, int, Tensor], Tensor]:
    return lambda t, index, param: wave(t, index, param) * factor


@dataclass
class Run:
    module: Module
    params: list[Tensor]
    optimizer: Any
    notes: Observation

    @property
    def groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = self.optimizer.param_groups
        return groups

    def state(self, index: int = 0) -> dict[str, Any]:
        state: dict[str, Any] = self.optimizer.state[self.params[index]]
        return state


Event = Callable[[Run], Any]


def drive(
    steps: int = 8,
    *,
    dtype: torch.dtype = torch.float64,
    start: Sequence[Any] = ((0.0, 0.5, -1.0, 2.0),),
    grads: Callable[[int, int, Tensor], Tensor | None] = wave,
    groups: Sequence[Mapping[str, Any]] | None = None,
    decay: tuple[Any, ...] | None = None,
    events: Mapping[int, Event] | None = None,
    watch: Event | None = None,
    **hyper: Any,
) -> Scenario:
    """A training run: `start` holds the initial parameters (numbers or tensors), `groups` one dict of options for each.

    `decay` are the arguments of a WeightDecay. An event happens before the gradients of its step are set. What `watch`
    notes down at the end is added to the parameters and the state.
    """

    def scenario(module: Module) -> Observation:
        params: list[Tensor] = []
        for value in start:
            data = value.clone() if isinstance(value, Tensor) else torch.tensor(value, dtype=dtype)
            params.append(torch.nn.Parameter(data))
        # A tensor lr may be changed by an event: each run has its own.
        options = {k: v.clone() if isinstance(v, Tensor) else v for k, v in hyper.items()}
        if decay is not None:
            options["weight_decay"] = module.WeightDecay(*decay)
        given: Any = params
        if groups is not None:
            given = [{"params": [p], **g} for p, g in zip(params, groups, strict=True)]
        run = Run(module, params, module.RAdam(given, **options), {})
        for t in range(1, steps + 1):
            if events and t in events:
                events[t](run)
            for index, p in enumerate(run.params):
                gradient = grads(t, index, p)
                if gradient is not None and gradient.dtype != p.dtype:
                    p.grad_dtype = None
                p.grad = gradient
            run.optimizer.step()
        if watch is not None:
            watch(run)
        seen: Observation = {}
        for index, p in enumerate(run.params):
            seen[f"param {index}"] = p.detach().clone()
            for key, value in run.optimizer.state.get(p, {}).items():
                seen[f"{key} {index}"] = float(value) if key == "step" else copy.copy(value)
        return {**seen, **run.notes}

    return scenario


def attempt(**hyper: Any) -> Scenario:
    """Does the constructor take these arguments?"""

    def scenario(module: Module) -> Observation:
        module.RAdam([torch.nn.Parameter(torch.zeros(2))], **hyper)
        return {"accepted": True}

    return scenario


def refusal_of(word: str, **hyper: Any) -> Scenario:
    """Is it a ValueError, and does it name the argument?"""

    def scenario(module: Module) -> Observation:
        try:
            module.RAdam([torch.nn.Parameter(torch.zeros(2))], **hyper)
        except Exception as error:
            return {"type": type(error).__name__, "named": word in str(error)}
        return {"accepted": True}

    return scenario


def set_option(**values: Any) -> Event:
    def event(run: Run) -> None:
        for group in run.groups:
            group.update(values)

    return event


def reload(run: Run) -> None:
    """A new optimizer of the same kind, with the old one's saved state."""
    buffer = io.BytesIO()
    torch.save(run.optimizer.state_dict(), buffer)
    buffer.seek(0)
    params = [{"params": list(group["params"])} for group in run.groups]
    fresh = run.module.RAdam(params, weight_decay=run.optimizer.weight_decay)
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    run.optimizer = fresh


def through_pickle(run: Run) -> None:
    run.optimizer = pickle.loads(pickle.dumps(run.optimizer))
    run.params = [p for group in run.groups for p in group["params"]]


def through_deepcopy(run: Run) -> None:
    run.optimizer = copy.deepcopy(run.optimizer)
    run.params = [p for group in run.groups for p in group["params"]]
