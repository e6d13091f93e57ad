"""Following an optimizer with an oracle: step by step from its own state, or freely over a whole trajectory."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, Literal

import numpy as np
import torch

from radam.audit.bounds import PRECISIONS, Array, Comparison, K, Precision, Tracked, compare, scalar, with_lerp_room
from radam.audit.program import Program, program
from radam.audit.subject import Oracle, torch_adam_names


class Discrepancy(AssertionError):
    """An optimizer did something else than its oracle says.

    Args:
        message: what, and where.
        param: the parameter concerned, where it is one.
        comparison: what was compared, where numbers were; its index is that in the parameter.
        step: the parameter's step.
    """

    def __init__(
        self,
        message: str,
        param: torch.Tensor | None = None,
        comparison: Comparison | None = None,
        step: int = 0,
    ) -> None:
        super().__init__(message)
        self.param = param
        self.comparison = comparison
        self.step = step


@dataclass
class Tally:
    """What was compared of one quantity, and the worst of it."""

    judged: int = 0
    unjudged: int = 0
    worst: Comparison | None = None
    where: str = ""
    step: int = 0
    ulp: float = 0.0

    def add(self, comparison: Comparison, where: str, step: int) -> None:
        """Count one comparison."""
        self.judged += comparison.judged
        self.unjudged += comparison.unjudged
        self.ulp = max(self.ulp, comparison.ulp)
        if self.worst is None or comparison.worst > self.worst.worst:
            self.worst, self.where, self.step = comparison, where, step


@dataclass
class Record:
    """What was compared in all steps, by quantity, and what was out of bounds."""

    steps: int = 0
    tallies: dict[str, Tally] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    def add(self, comparison: Comparison, where: str, step: int) -> None:
        """Count one comparison."""
        self.tallies.setdefault(comparison.quantity, Tally()).add(comparison, where, step)

    @property
    def judged(self) -> int:
        """Number of values compared."""
        return sum(tally.judged for tally in self.tallies.values())

    @property
    def unjudged(self) -> int:
        """Number of values that no bound covers."""
        return sum(tally.unjudged for tally in self.tallies.values())

    @property
    def worst(self) -> float:
        """Largest error in units of the bound."""
        return max((tally.worst.worst for tally in self.tallies.values() if tally.worst), default=0.0)

    @property
    def ulp(self) -> float:
        """Largest error in units in the last place."""
        return max((tally.ulp for tally in self.tallies.values()), default=0.0)


@functools.cache
def precision_of(dtype: torch.dtype) -> Precision:
    """The format of a real or complex dtype."""
    name = str(dtype).removeprefix("torch.")
    return PRECISIONS[{"complex128": "float64", "complex64": "float32", "complex32": "float16"}.get(name, name)]


def arithmetic_of(param: torch.Tensor, narrow: bool = False) -> tuple[Precision, Precision]:
    """The formats in which a parameter is updated and stored: half precision is updated in float32, unless narrow."""
    storage = precision_of(param.dtype)
    return (PRECISIONS["float32"] if storage.unit_roundoff > 2.0**-24 and not narrow else storage), storage


def local(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor without its history; of a DTensor the part that this process holds."""
    tensor = tensor.detach()
    return tensor if type(tensor) is torch.Tensor or not hasattr(tensor, "to_local") else tensor.to_local()


def flat(tensor: torch.Tensor) -> Array:
    """A tensor's numbers as a new float64 vector; complex ones as pairs of reals."""
    tensor = local(tensor).resolve_conj()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return np.array(tensor.to(torch.float64).cpu().reshape(-1).numpy(), copy=True)


def all_flat(tensors: Mapping[str, Sequence[torch.Tensor]]) -> dict[str, Array]:
    """A new float64 vector for each name: the numbers of its tensors as :func:`flat` has them, one after the other."""
    together = [tensor for own in tensors.values() for tensor in own]
    is_plain = {torch.Tensor, torch.nn.Parameter}.issuperset(map(type, together))
    if not is_plain or len({tensor.device for tensor in together}) > 1 or any(map(torch.is_complex, together)):
        return {name: np.concatenate(list(map(flat, own))) for name, own in tensors.items()}
    with torch.no_grad():
        joined: torch.Tensor = torch._utils._flatten_dense_tensors(together)  # type: ignore[no-untyped-call]
        if len(together) == 1:
            # It may be the tensor's own memory.
            joined = joined.clone()
        numbers: Array = joined.to(torch.float64).cpu().numpy()
    result, end = {}, 0
    for name, own in tensors.items():
        start, end = end, end + sum(map(torch.Tensor.numel, own))
        result[name] = numbers[start:end]
    return result


def begin(oracle: Oracle, param: Tracked, given: Mapping[str, Tracked] | None = None) -> None:
    """Set an oracle's state: what is given, else as it is before the first step, with the error of entering there."""
    oracle.begin(param)
    given = given or {}
    for symbol in ("m", "v", "s"):
        state = given.get(symbol, getattr(oracle, symbol))
        if state is not None and symbol not in given:
            state = Tracked(np.zeros_like(param.value), 0.0, param.precision, param.k) + state
        setattr(oracle, symbol, state)


def of_each(value: Any, param: torch.Tensor, uniform: bool) -> torch.Tensor:
    """A state of a parameter with a number for each of its own: one number for all of them is repeated."""
    if not uniform or np.shape(value) != ():
        return value  # type: ignore[no-any-return]
    numbers = param.numel() * (2 if param.is_complex() else 1)
    return torch.as_tensor(value, dtype=getattr(value, "dtype", torch.float64)).reshape(1).expand(numbers)


def is_kept_as(value: Any, param: torch.Tensor) -> bool:
    """Whether a state has as many numbers as its parameter, complex for complex; one for all of them has."""
    return not isinstance(value, torch.Tensor) or value.dim() == 0 or value.is_complex() == param.is_complex()


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors hold the same numbers, NaN equal to NaN."""
    a, b = local(a), local(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return bool(torch.equal(a, b)) or bool(np.array_equal(flat(a), flat(b), equal_nan=True))


@dataclass
class _Before:
    """A parameter before a step."""

    name: str
    group: int
    param: torch.Tensor
    grad: torch.Tensor | None
    t: int
    """The number of this step, for a parameter with a gradient."""
    size: int
    """How many numbers it has, two for each complex one."""
    state: dict[str, Any]
    """By symbol: its own objects, which the step may change, or copies of them where there is no gradient."""
    value: torch.Tensor | None = None
    """A copy, where there is no gradient."""


_PARAM, _GRAD = "param", "grad"


@dataclass(frozen=True)
class _Alike:
    """Parameters that are about to take a step alike, and their numbers: _PARAM, _GRAD, and state by symbol."""

    group: int
    t: int
    olds: Sequence[_Before]
    numbers: dict[str, Array]


@dataclass(frozen=True)
class _Snapshot:
    """What there is before a step."""

    olds: Sequence[_Before]
    alike: Sequence[_Alike]
    """Those of them that have a gradient."""


@dataclass(frozen=True)
class _Numbers:
    """The joined arrays of some parameters before and after a step that they have taken alike."""

    options: dict[str, Any]
    t: int
    olds: Sequence[_Before]
    param: Array
    grad: Array
    before: dict[str, Array]
    """State by symbol, as far as it was there and is not the oracle's to say."""
    after: dict[str, Array]
    now: Array
    """The parameter after the step."""


_MOST_PENDING = 2**20
"""Elements that may wait to be judged together."""


class Lockstep:
    """An optimizer, checked at each step against an oracle that starts from the optimizer's own state.

    Three comparisons, each from the optimizer's own stored values, so that no error hides behind another: m' from
    (m, g'), v' and s' from (v, s, g'), p' from (p, m', s'). What there is before the first step is the oracle's to say.

    Args:
        optimizer: what is checked. Its state, if it has any, is taken as it stands.
        options: the options that each of its groups should have. They are not read from the optimizer, which may have
            got them wrong; change them here when you change them there.
        oracle: makes an oracle for options.
        state: the optimizer's names of t, m, v and s.
        k: room for the order of operations, see :mod:`radam.audit.bounds`.
        scalars: how exact the scalars of a step must be.
        narrow: half precision parameters are updated, and their moments kept, in their own dtype instead of float32.
        keeps_gradients: writing to a gradient is a finding.
        describe: what the optimizer is, for messages.
        keep_going: collect findings in `record` instead of raising the first.

    Example:
        >>> import torch
        >>> from radam.audit.subjects.radam import oracle
        >>> p = torch.nn.Parameter(torch.ones(3))
        >>> lockstep = Lockstep(torch.optim.RAdam([p], eps=1e-8), [{"eps": 1e-8, "strict": True}], oracle)
        >>> for _ in range(8):
        ...     p.grad = torch.ones(3)
        ...     _ = lockstep.step()
        >>> lockstep.record.judged, lockstep.record.worst < 1
        (72, True)
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        options: Sequence[dict[str, Any]],
        oracle: Callable[[Mapping[str, Any]], Oracle],
        *,
        state: Mapping[str, str] | None = None,
        k: float = K,
        scalars: Literal["textbook", "exact"] = "textbook",
        narrow: bool = False,
        keeps_gradients: bool = True,
        describe: str = "",
        keep_going: bool = False,
    ) -> None:
        self.optimizer = optimizer
        self.options = list(options)
        self.record = Record()
        self._make_oracle = oracle
        self._names = dict(torch_adam_names() if state is None else state)
        self._arrays = {symbol: key for symbol, key in self._names.items() if symbol != "t"}
        self._k = k
        self._scalars = scalars
        self._narrow = narrow
        self._keeps_gradients = keeps_gradients
        self._describe = describe or type(optimizer).__name__
        self._keep_going = keep_going
        self._steps_of: dict[torch.Tensor, int] = {}
        self._jumped: set[torch.Tensor] = set()
        self._oracles: dict[tuple[tuple[str, Any], ...], Oracle] = {}
        self._together = False
        self._pending: list[_Numbers] = []

    def steps_of(self, param: torch.Tensor) -> int:
        """How many steps a parameter should have taken."""
        known = self._steps_of.get(param)
        if known is None:
            stored = self.optimizer.state.get(param, {})
            known = self._steps_of[param] = int(stored.get(self._names.get("t"), 0))
        return known

    def jump(self, param: torch.Tensor, steps: int) -> None:
        """Let a parameter that has state be one that has taken `steps` steps: its step count is set, and nothing else.

        Raises:
            ValueError: the optimizer's step count cannot hold the number.
        """
        stored, name = self.optimizer.state[param], self._names["t"]
        if isinstance(stored[name], torch.Tensor):
            stored[name].fill_(steps)
        else:
            stored[name] = type(stored[name])(steps)
        if float(stored[name]) != steps:
            raise ValueError(
                f"steps must be a number that {name} can hold, but is {steps!r}, and {stored[name]!r} is held"
            )
        self._steps_of[param] = steps
        self._jumped.add(param)

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Go on with another optimizer, for example a copy of the first one, that should be in the same state."""
        old = [param for group in self.optimizer.param_groups for param in group["params"]]
        new = [param for group in optimizer.param_groups for param in group["params"]]
        steps = [self.steps_of(param) for param in old]
        self.optimizer = optimizer
        self._steps_of = dict(zip(new, steps, strict=True))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step and judge it.

        Args:
            closure: passed on to the optimizer.

        Returns:
            What the optimizer returned.

        Raises:
            Discrepancy: something is out of bounds; says what, and where.
        """
        __tracebackhide__ = True
        before: list[_Snapshot] = []
        evaluate = self._before_the_step(before, closure)
        result = self.optimizer.step() if evaluate is None else self.optimizer.step(evaluate)
        self.record.steps += 1
        self._judge(before)
        return result

    def _before_the_step(self, before: list[_Snapshot], closure: Callable[[], Any] | None) -> Callable[[], Any] | None:
        """Fill `before`: now, or when the closure that is returned is evaluated, in place of the one that is given."""
        if closure is None:
            before[:] = [self._snapshot()]
            return None

        def evaluate() -> Any:
            loss = closure()
            before[:] = [self._snapshot()]
            return loss

        return evaluate

    @contextlib.contextmanager
    def watching(self) -> Iterator[Record]:
        """Judge each step that the optimizer takes meanwhile, whoever asks for it: a trainer, or a wrapper.

        Example:
            >>> import torch
            >>> from radam.audit.subjects.radam import oracle
            >>> p = torch.nn.Parameter(torch.ones(3))
            >>> optimizer = torch.optim.RAdam([p])
            >>> with Lockstep(optimizer, [{"eps": 1e-8, "strict": True}], oracle).watching() as record:
            ...     p.grad = torch.ones(3)
            ...     optimizer.step()
            >>> record.judged
            9
        """
        before: list[_Snapshot] = []

        def prepare(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
            evaluate = self._before_the_step(before, closure)
            return None if evaluate is None else ((optimizer, evaluate), {})

        def judge(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.record.steps += 1
            self._judge(before)

        handles = [
            self.optimizer.register_step_pre_hook(prepare),
            self.optimizer.register_step_post_hook(judge),
        ]
        try:
            yield self.record
        finally:
            for handle in handles:
                handle.remove()

    @contextlib.contextmanager
    def together(self) -> Iterator[Record]:
        """Judge the numbers of the steps that are taken meanwhile at the end of it, many at once: the sooner done.

        What is judged and found is the same. The first step with a finding is the one that is told of, but the
        optimizer has taken the others by then.

        Example:
            >>> import torch
            >>> from radam.audit.subjects.radam import oracle
            >>> p = torch.nn.Parameter(torch.ones(3))
            >>> lockstep = Lockstep(torch.optim.RAdam([p], eps=1e-8), [{"eps": 1e-8, "strict": True}], oracle)
            >>> with lockstep.together() as record:
            ...     for _ in range(8):
            ...         p.grad = torch.ones(3)
            ...         _ = lockstep.step()
            >>> record.judged
            72
        """
        self._together = True
        try:
            yield self.record
        except Discrepancy:
            # Found at once, in something else than numbers: those of the steps before come first.
            self._judge_pending()
            raise
        else:
            self._judge_pending()
        finally:
            self._together, self._pending = False, []

    def _snapshot(self) -> _Snapshot:
        olds: list[_Before] = []
        alike: dict[Hashable, list[_Before]] = {}
        for index, group in enumerate(self.optimizer.param_groups):
            names = group.get("param_names") or [f"group {index} parameter {i}" for i in range(len(group["params"]))]
            for name, param in zip(names, group["params"], strict=True):
                old = self._before(name, index, param)
                olds.append(old)
                if old.grad is not None:
                    alike.setdefault((index, old.t, param.dtype, *old.state), []).append(old)
        return _Snapshot(olds, [self._alike(own) for own in alike.values()])

    def _before(self, name: str, index: int, param: torch.Tensor) -> _Before:
        stored = self.optimizer.state.get(param, {})
        state = {symbol: stored[key] for symbol, key in self._names.items() if stored.get(key) is not None}
        own = param if type(param) is torch.nn.Parameter else local(param)
        size, t = own.numel() * (2 if own.is_complex() else 1), self.steps_of(param)
        if param.grad is not None:
            # A tensor of its own keeps shape and dtype, whatever becomes of the gradient's `data`.
            return _Before(name, index, param, param.grad.detach(), t + 1, size, state)
        copies = {
            symbol: local(value).clone() if isinstance(value, torch.Tensor) else value
            for symbol, value in state.items()
        }
        return _Before(name, index, param, None, t, size, copies, local(param).clone())

    def _alike(self, olds: Sequence[_Before]) -> _Alike:
        first = olds[0]
        tensors = {symbol: [old.state[symbol] for old in olds] for symbol in self._arrays if symbol in first.state}
        numbers = self._flat(olds, {**tensors, _PARAM: [old.param for old in olds], _GRAD: [old.grad for old in olds]})
        return _Alike(first.group, first.t, olds, numbers)

    def _flat(self, olds: Sequence[_Before], tensors: Mapping[str, Sequence[Any]]) -> dict[str, Array]:
        """The joined numbers of what some parameters have of each name."""
        uniform = self._oracle(self.options[olds[0].group]).uniform
        return all_flat(
            {
                name: [of_each(x, old.param, True) for x, old in zip(own, olds, strict=True)]
                if name in uniform
                else own
                for name, own in tensors.items()
            }
        )

    def _find(self, message: str, old: _Before, comparison: Comparison | None = None) -> None:
        __tracebackhide__ = True
        dtype = str(old.param.dtype).removeprefix("torch.")
        text = f"{message} [{self._describe}, {dtype}, step {old.t}]"
        self.record.findings.append(text)
        if not self._keep_going:
            raise Discrepancy(text, old.param, comparison, old.t)

    def _judge(self, before: Sequence[_Snapshot]) -> None:
        __tracebackhide__ = True
        for snapshot in before:
            for old in snapshot.olds:
                if old.grad is None:
                    self._judge_untouched(old)
                else:
                    self._steps_of[old.param] = old.t
            states = [[self.optimizer.state.get(old.param, {}) for old in alike.olds] for alike in snapshot.alike]
            for alike, stored in zip(snapshot.alike, states, strict=True):
                self._judge_bookkeeping(alike, stored)
            for alike, stored in zip(snapshot.alike, states, strict=True):
                numbers = self._numbers(alike, stored)
                if self._together:
                    self._pending.append(numbers)
                else:
                    self._judge_numbers(numbers)
        if sum(one.param.size for one in self._pending) > _MOST_PENDING:
            self._judge_pending()

    def _judge_untouched(self, old: _Before) -> None:
        __tracebackhide__ = True
        assert old.value is not None
        if not same_bits(old.param, old.value):
            self._find(f"{old.name} has no gradient and should stay, but has changed", old)
        stored = self.optimizer.state.get(old.param, {})
        for symbol, key in self._names.items():
            was, now = old.state.get(symbol), stored.get(key)
            same = (
                same_bits(was, now)
                if isinstance(was, torch.Tensor) and isinstance(now, torch.Tensor)
                else (was is None and now is None) or (was is not None and now is not None and bool(was == now))
            )
            if not same:
                self._find(f"{key} of {old.name}, which has no gradient, should stay, but has changed", old)

    def _judge_bookkeeping(self, alike: _Alike, states: Sequence[Mapping[str, Any]]) -> None:
        __tracebackhide__ = True
        arithmetic, _ = arithmetic_of(alike.olds[0].param, self._narrow)
        uniform = self._oracle(self.options[alike.group]).uniform
        for old, stored in zip(alike.olds, states, strict=True):
            self._judge_bookkeeping_of(old, stored, arithmetic, uniform)

    def _judge_bookkeeping_of(
        self, old: _Before, stored: Mapping[str, Any], arithmetic: Precision, uniform: frozenset[str]
    ) -> None:
        __tracebackhide__ = True
        for symbol, key in self._names.items():
            # Which arrays there must be, the oracle's own step says.
            if stored.get(key) is None and (symbol == "t" or symbol in old.state):
                self._find(f"state {key!r} of {old.name} is missing", old)
                return
        step = self._names.get("t")
        if step is not None and float(stored[step]) != old.t:
            self._find(f"{step} of {old.name} = {stored[step]!r}, but should be {old.t}", old)
        for symbol, key in self._arrays.items():
            tensor = stored.get(key)
            if tensor is None or (symbol in uniform and np.shape(tensor) == ()):
                continue
            if tensor.shape != old.param.shape or tensor.is_complex() != old.param.is_complex():
                self._find(
                    f"{key} of {old.name} should have shape {tuple(old.param.shape)} and a "
                    f"{'complex' if old.param.is_complex() else 'real'} dtype, "
                    f"but has {tuple(tensor.shape)} and {tensor.dtype}",
                    old,
                )
            elif precision_of(tensor.dtype) is not arithmetic:
                self._find(
                    f"{key} of {old.name} should have the precision in which a {old.param.dtype} parameter is "
                    f"updated, but is {tensor.dtype}",
                    old,
                )

    def _numbers(self, alike: _Alike, states: Sequence[Mapping[str, Any]]) -> _Numbers:
        """What there is to compare of parameters that have just been stepped: state that some lack, none has."""
        __tracebackhide__ = True
        olds, options = alike.olds, self.options[alike.group]
        tensors: dict[str, list[Any]] = {
            symbol: [stored.get(key) for stored in states] for symbol, key in self._arrays.items()
        }
        tensors[_PARAM] = [old.param for old in olds]
        tensors[_GRAD] = [old.param.grad for old in olds]
        after = self._flat(olds, {name: own for name, own in tensors.items() if all(each is not None for each in own)})
        before = dict(alike.numbers)
        param, grad, now = before.pop(_PARAM), before.pop(_GRAD), after.pop(_PARAM)
        self._judge_gradients(olds, grad, after.pop(_GRAD, None))
        if arithmetic_of(olds[0].param)[0] is PRECISIONS["float32"]:
            # As an optimizer has to take a gradient of another dtype.
            with np.errstate(over="ignore"):
                grad = grad.astype(np.float32).astype(np.float64)
        # What there is before the first step is the oracle's to say, where steps are counted.
        is_given = alike.t > 1 or "t" not in self._names or all(old.param in self._jumped for old in olds)
        return _Numbers(dict(options), alike.t, olds, param, grad, before if is_given else {}, after, now)

    def _judge_gradients(self, olds: Sequence[_Before], before: Array, after: Array | None) -> None:
        __tracebackhide__ = True
        if not self._keeps_gradients:
            return
        if after is not None and np.array_equal(before, after) and all(map(_keeps_kind, olds)):
            return
        end = 0
        for old in olds:
            start, end = end, end + old.size
            now = old.param.grad
            kept = now is not None and np.array_equal(flat(now), before[start:end], equal_nan=True)
            if not (kept and _keeps_kind(old)):
                self._find(f"the gradient of {old.name} should not be written to, but has changed", old)

    def _judge_numbers(self, numbers: _Numbers) -> None:
        __tracebackhide__ = True
        comparisons, missing = self._compared([numbers])
        for symbol in missing:
            key = self._names[symbol]
            lacking = (old for old in numbers.olds if self.optimizer.state.get(old.param, {}).get(key) is None)
            old = next(lacking, numbers.olds[0])
            self._find(f"state {key!r} of {old.name} is missing", old)
        self._note(numbers.olds, comparisons)

    def _judge_pending(self) -> None:
        """Judge the steps that wait for it: those of one program together, and one by one where anything is wrong."""
        __tracebackhide__ = True
        pending, self._pending = self._pending, []
        alike: dict[Hashable, list[tuple[int, _Numbers, Program]]] = {}
        for place, one in enumerate(pending):
            oracle = self._oracle(one.options)
            own = program(oracle, one.t, one.before)
            arithmetic = arithmetic_of(one.olds[0].param, self._narrow)
            key = (id(oracle), arithmetic, frozenset(one.before), frozenset(one.after), own.operations)
            alike.setdefault(key, []).append((place, one, own))
        doubtful: list[tuple[int, _Numbers]] = []
        for entries in alike.values():
            numbers = [one for _, one, _ in entries]
            comparisons, missing = self._compared(numbers, [own.scalars for _, _, own in entries])
            if missing or not all(comparison.passed for comparison in comparisons):
                doubtful += [(place, one) for place, one, _ in entries]
            else:
                self._note([old for one in numbers for old in one.olds], comparisons)
        for _, one in sorted(doubtful, key=itemgetter(0)):
            self._judge_numbers(one)

    def _note(self, olds: Sequence[_Before], comparisons: Sequence[Comparison]) -> None:
        """Record comparisons of the parameters' joined arrays; find what is out of bounds."""
        __tracebackhide__ = True
        for comparison in comparisons:
            old, index = _locate(olds, comparison.index)
            comparison = replace(comparison, index=index)
            self.record.add(comparison, f"{old.name}[{index}]", old.t)
            if not comparison.passed:
                self._find(f"{old.name}: {comparison}", old, comparison)

    def _compared(
        self, numbers: Sequence[_Numbers], scalars: Sequence[Sequence[tuple[float, float]]] = ()
    ) -> tuple[list[Comparison], list[str]]:
        """The arrays after the steps beside what the oracle makes of those before; and symbols that are missing there.

        Args:
            numbers: steps of one program.
            scalars: of each of them, if there are several, what passes through the oracle's hook.
        """
        first = numbers[0]
        arithmetic, storage = arithmetic_of(first.olds[0].param, self._narrow)
        oracle = self._oracle(first.options)
        sizes = [one.param.size for one in numbers]

        def joined(arrays: Sequence[Array]) -> Array:
            return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

        def tracked(arrays: Sequence[Array]) -> Tracked:
            return Tracked(joined(arrays), 0.0, arithmetic, self._k)

        columns = iter(zip(*scalars, strict=True))

        def hook(value: float, relative_error: float) -> Tracked:
            if not scalars:
                return scalar(value, relative_error, arithmetic, self._k)
            values, errors = np.repeat(np.transpose(next(columns)), sizes, axis=1)
            return scalar(values, errors, arithmetic, self._k)

        oracle.scalar = hook
        param, grad = tracked([one.param for one in numbers]), tracked([one.grad for one in numbers])
        given = {symbol: tracked([one.before[symbol] for one in numbers]) for symbol in first.before}
        begin(oracle, param, given)
        oracle.t = first.t - 1
        before = {symbol: getattr(oracle, symbol) for symbol in self._arrays}
        oracle.advance(param, grad)
        moved = {symbol for symbol, state in before.items() if getattr(oracle, symbol) is not state}
        oracle.m = with_lerp_room(oracle.m, before.get("m"))
        comparisons = []
        for symbol, key in self._arrays.items():
            expected = getattr(oracle, symbol)
            if symbol in first.after:
                seen = tracked([one.after[symbol] for one in numbers])
                if expected is not None:
                    comparisons.append(self._compare(key, seen.value, expected))
                setattr(oracle, symbol, seen)

        oracle.t = first.t
        expected = oracle.apply(param, grad)
        decided = [oracle.scalar_error(one.t, self._scalars).decided for one in numbers]
        if not all(decided):
            error = np.where(np.repeat(decided, sizes), expected.error, np.inf)
            expected = Tracked(expected.value, error, arithmetic, self._k)
        comparisons.append(self._compare("param", joined([one.now for one in numbers]), expected, storage))
        return comparisons, [symbol for symbol in self._arrays if symbol in moved and symbol not in first.after]

    def _compare(self, quantity: str, seen: Array, expected: Tracked, storage: Precision | None = None) -> Comparison:
        """A place for those who measure."""
        return compare(quantity, seen, expected, storage)

    def _oracle(self, options: Mapping[str, Any]) -> Oracle:
        key = tuple(sorted(options.items()))
        if key not in self._oracles:
            self._oracles[key] = self._make_oracle(options)
            self._oracles[key].scalars = self._scalars
        return self._oracles[key]


def _keeps_kind(old: _Before) -> bool:
    """Whether a gradient has the shape and dtype that it had before the step."""
    grad, now = old.grad, old.param.grad
    return grad is not None and now is not None and now.dtype == grad.dtype and now.shape == grad.shape


def _locate(olds: Sequence[_Before], index: int) -> tuple[_Before, int]:
    """Which parameter, and which of its numbers, stands at a place of their concatenation."""
    for old in olds:
        if index < old.size:
            return old, index
        index -= old.size
    return olds[-1], 0


class Trajectory:
    """An oracle that runs freely beside an optimizer, from the same start and on the same gradients.

    Its arrays carry the error that an implementation may have accumulated, so a whole run is judged by the bound that
    belongs to it. Take a snapshot of the gradients with :meth:`observe` before each step of the optimizer, and
    :meth:`judge` whenever you like.

    Args:
        param: the parameter to follow.
        oracle: an oracle for its options.
        k: room for the order of operations.
        scalars: how exact the scalars of a step must be.
    """

    def __init__(
        self, param: torch.Tensor, oracle: Oracle, *, k: float = K, scalars: Literal["textbook", "exact"] = "textbook"
    ) -> None:
        self.arithmetic, self.storage = arithmetic_of(param)
        self.oracle = oracle
        oracle.scalars = scalars
        oracle.scalar = lambda value, relative: scalar(value, relative, self.arithmetic, k)
        self._param = param
        self._k = k
        self.expected = Tracked(flat(param), 0.0, self.arithmetic, k)
        begin(oracle, self.expected)
        self.travel: Array = np.zeros_like(self.expected.value)

    def observe(self) -> None:
        """Let the oracle take the step that the optimizer is about to take."""
        assert self._param.grad is not None
        gradient = self._param.grad.to(self._param.dtype) if not self._half else self._param.grad
        previous = self.expected
        grad = Tracked(flat(gradient), 0.0, self.arithmetic, self._k)
        m = self.oracle.m
        self.oracle.advance(previous, grad)
        self.oracle.m = with_lerp_room(self.oracle.m, m)
        expected: Tracked = self.oracle.apply(previous, grad)
        error = expected.error
        if self._half:
            # Each step rounds the parameter into its storage once.
            error = error + self.storage.unit_roundoff * (np.abs(expected.value) + error)
            error = error + self.storage.smallest_subnormal
        self.expected = Tracked(expected.value, error, self.arithmetic, self._k)
        self.travel = self.travel + np.abs(expected.value - previous.value)

    @property
    def _half(self) -> bool:
        return self.storage is not self.arithmetic

    def judge(self, state: Mapping[str, Any], names: Mapping[str, str] | None = None) -> list[Comparison]:
        """Compare the parameter and its state with the oracle's, within the accumulated bounds."""
        names = torch_adam_names() if names is None else names
        comparisons = [
            compare(
                names[symbol],
                flat(of_each(state[names[symbol]], self._param, symbol in self.oracle.uniform)),
                getattr(self.oracle, symbol),
            )
            for symbol in ("m", "v", "s")
            if state.get(names.get(symbol, "")) is not None
            and isinstance(getattr(self.oracle, symbol), Tracked)
            and is_kept_as(state[names[symbol]], self._param)
        ]
        return [*comparisons, compare("param", flat(self._param), self.expected)]

    @property
    def coverage(self) -> float:
        """The bound of the parameter as a share of the way it has travelled: the median over its elements."""
        moved = self.travel > 0
        if not moved.any():
            return 0.0
        return float(np.median(self.expected.error[moved] / self.travel[moved]))
