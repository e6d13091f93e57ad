"""What a mutant is, how one is built, and how a difference between two optimizers is shown."""

from __future__ import annotations

import copy
import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import math
import pickle
import re
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from radam.audit.subjects.torch import torch_subject

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
    "one path",
)

Module = Any  # a module with an optimizer class, and the WeightDecay of a RAdam
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


def adding(mutants: list[Mutant], base: str, part: str | None = None) -> Callable[..., None]:
    """What adds mutants of a base to a list: by name, part (if not given for all), sentence, scenario and edits."""

    def add(name: str, *rest: Any) -> None:
        own, why, scenario, *edits = rest if part is None else (part, *rest)
        mutants.append(Mutant(name, base, own, tuple(edits), why, scenario))

    return add


# --- building --------------------------------------------------------------------------------------------------------

_PREFIX = f"{__package__}.wrong_"
LIKE = {"right_adam": "Adam", "torch.optim.radam": "RAdam", "torch.optim.adamw": "AdamW"}
"""The bases with the constructor of one of torch's optimizers; the others have RAdam's."""
_PACKAGE = "radam"
"""Patched as a whole: a copy of all its modules, of which one is patched."""
CLASSES = ("RAdam", "AdamW", "Adam")


def module_of(base: str) -> str:
    """The module in which the source of a base stands: here, or anywhere if its name has a dot."""
    return base if "." in base else f"{__package__}.{base}"


def base_source(base: str) -> str:
    """The source that is edited."""
    return _source_of(module_of(base))


@functools.cache
def _source_of(name: str) -> str:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ValueError(f"there is no module {name}")
    source = Path(spec.origin).read_text(encoding="utf-8")
    if name == "torch.optim.adamw":
        # AdamW is Adam with another default: its steps are taken there.
        source = source.replace("from .adam import Adam, adam\n", _source_of("torch.optim.adam"))
    if name.startswith("torch."):
        source = re.sub(r"^from \.(\w+) import", r"from torch.optim.\1 import", source, flags=re.MULTILINE)
    return source


def base_module(base: str) -> types.ModuleType:
    """The unpatched module, with the optimizer in it."""
    return importlib.import_module(_PACKAGE if _of_package(base) else module_of(base))


def optimizer_of(module: Module) -> Any:
    """The optimizer class of a base's module or of a patched one."""
    return next(getattr(module, name) for name in CLASSES if hasattr(module, name))


def judged_as(module: Module, base: str, name: str) -> Any:
    """What to hand to the audit of a base's module or a patched one: a class with RAdam's constructor, or a Subject."""
    optimizer = optimizer_of(module)
    return torch_subject(optimizer, name, LIKE[base]) if base in LIKE else optimizer


def _of_package(base: str) -> bool:
    return base.startswith(f"{_PACKAGE}.")


def origin(base: str) -> str:
    """What a base is a part of: the package, or itself."""
    return _PACKAGE if _of_package(base) else base


def patched_source(mutant: Mutant) -> str:
    """The source with the mistake."""
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
    """The patched module, or package. It can be imported by name, so that instances can be pickled in this process."""
    _PATCHED[mutant.name] = mutant
    return importlib.import_module(_PREFIX + mutant.name)


_PATCHED: dict[str, Mutant] = {}


class _Patched(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds and loads `wrong_NAME`, and its submodules where it is a copy of the package."""

    def find_spec(
        self, fullname: str, path: Any = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        name, _, rest = fullname.removeprefix(_PREFIX).partition(".")
        if not fullname.startswith(_PREFIX) or name not in _PATCHED:
            return None
        if rest and (not _of_package(_PATCHED[name].base) or importlib.util.find_spec(f"{_PACKAGE}.{rest}") is None):
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def is_package(self, fullname: str) -> bool:
        mutant, original = _original(fullname)
        spec = importlib.util.find_spec(original)
        return _of_package(mutant.base) and spec is not None and spec.submodule_search_locations is not None

    def get_code(self, fullname: str) -> types.CodeType:
        mutant, original = _original(fullname)
        # Without a name of its own, a traceback would not find the lines.
        return self.source_to_code(self.get_source(fullname), f"{original} with {mutant.name}")

    def get_source(self, fullname: str) -> str:
        mutant, original = _original(fullname)
        source = patched_source(mutant) if original == module_of(mutant.base) else _source_of(original)
        if not _of_package(mutant.base):
            return source
        return re.sub(rf"^(from|import) {_PACKAGE}\b", rf"\1 {_PREFIX}{mutant.name}", source, flags=re.MULTILINE)


def _original(fullname: str) -> tuple[Mutant, str]:
    """The mutant to which a patched module belongs, and the module of which it is a copy."""
    name, _, rest = fullname.removeprefix(_PREFIX).partition(".")
    mutant = _PATCHED[name]
    return mutant, f"{_PACKAGE}.{rest}".rstrip(".") if _of_package(mutant.base) else module_of(mutant.base)


sys.meta_path.append(_Patched())


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


def fading(t: int, index: int, param: Tensor) -> Tensor:
    """One large gradient, then small ones: the running maximum matters."""
    return wave(t, index, param) * (10.0 if t == 2 else 0.1)


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
        run = Run(module, params, optimizer_of(module)(given, **options), {})
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
        optimizer_of(module)([torch.nn.Parameter(torch.zeros(2))], **hyper)
        return {"accepted": True}

    return scenario


def refusal_of(word: str, **hyper: Any) -> Scenario:
    """Is it a ValueError, and does it name the argument?"""

    def scenario(module: Module) -> Observation:
        try:
            optimizer_of(module)([torch.nn.Parameter(torch.zeros(2))], **hyper)
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
    more = {"weight_decay": run.optimizer.weight_decay} if hasattr(run.optimizer, "weight_decay") else {}
    fresh = optimizer_of(run.module)(params, **more)
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    run.optimizer = fresh


def through_pickle(run: Run) -> None:
    run.optimizer = pickle.loads(pickle.dumps(run.optimizer))
    run.params = [p for group in run.groups for p in group["params"]]


def through_deepcopy(run: Run) -> None:
    run.optimizer = copy.deepcopy(run.optimizer)
    run.params = [p for group in run.groups for p in group["params"]]
