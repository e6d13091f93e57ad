"""What is audited: an optimizer, its hyper-parameters, and the oracle that says what it should compute."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from hypothesis.strategies import SearchStrategy

Params = Iterable[torch.Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, torch.Tensor]]


class ScalarError(Protocol):
    """Forward error of the scalars of one step."""

    @property
    def size(self) -> float:
        """Relative error of the step size."""

    @property
    def eps(self) -> float:
        """Relative error of the number added to sqrt(s)."""

    @property
    def rho(self) -> float:
        """Absolute error of rho_t, or of whatever decides between branches."""

    @property
    def decided(self) -> bool:
        """Whether the branch is certain in spite of it."""


class Oracle(Protocol):
    """What an optimizer should compute: arrays in and out, written plainly.

    State is in attributes: `t`, an integer, and arrays `m`, `v`, `s`, or None before the first step. They can be read
    and set; an optimizer may keep one number in place of an array that `uniform` names. The lines of `advance` and
    `apply` are arithmetic that runs on NumPy arrays and on :class:`radam.audit.Tracked`; every scalar computed from t
    goes through `scalar(value, relative_error)`, which an oracle defines as the identity on its first argument and the
    audit replaces.
    """

    t: int
    m: Any
    v: Any
    s: Any
    scalar: Callable[[float, float], Any]
    scalars: Literal["textbook", "exact"]
    uniform: frozenset[str]

    def begin(self, param: Any) -> None:
        """Set t, m, v and s as they are before the first step, or None for what that step makes of nothing."""

    def advance(self, param: Any, grad: Any) -> None:
        """Move t, m, v and s by one step."""

    def apply(self, param: Any, grad: Any) -> Any:
        """The new parameter, from the state as it stands."""

    def step(self, param: Any, grad: Any) -> Any:
        """`advance`, then `apply`."""

    def scalar_error(self, t: int, scalars: Literal["textbook", "exact"]) -> ScalarError:
        """The error of float64 scalars at t, of the usual formulas or of ones without cancellation."""


class _Certain(NamedTuple):
    size: float = 0.0
    eps: float = 0.0
    rho: float = 0.0
    decided: bool = True


class Recurrence:
    """Base of an oracle: a subclass writes `advance` and `apply`.

    m, v and s begin with zeros, unless a subclass has a `begin` of its own. Scalars that it computes from t go through
    `self.scalar(value, relative_error)`, with the error that the usual float64 formula may have; hyper-parameters and
    constants need not.

    Example:
        >>> class SGD(Recurrence):
        ...     def apply(self, param, grad):
        ...         return param - 0.1 * grad
        >>> SGD().step(1.0, 2.0)
        0.8
    """

    scalars: Literal["textbook", "exact"] = "textbook"
    uniform: frozenset[str] = frozenset()
    remembers: bool = False
    """What is kept depends on options of earlier steps, of which the oracle knows nothing."""
    freely: bool = False
    """It has more arrays than m, v and s: it runs beside an optimizer, but cannot start from its state."""

    def __init__(self) -> None:
        self.t = 0
        self.m: Any = None
        self.v: Any = None
        self.s: Any = None
        self.scalar: Callable[[float, float], Any] = lambda value, relative_error: value

    def begin(self, param: Any) -> None:
        """Set t, m, v and s as they are before the first step: zeros."""
        self.t = 0
        self.m, self.v, self.s = (np.zeros(np.shape(param)) for _ in range(3))

    def advance(self, param: Any, grad: Any) -> None:
        """Move t, m, v and s by one step."""
        self.t += 1

    def apply(self, param: Any, grad: Any) -> Any:
        """The new parameter, from the state as it stands."""
        raise NotImplementedError

    def step(self, param: Any, grad: Any) -> Any:
        """`advance`, then `apply`."""
        self.advance(param, grad)
        return self.apply(param, grad)

    def scalar_error(self, t: int, scalars: Literal["textbook", "exact"] = "textbook") -> ScalarError:
        """No branch is ever in doubt."""
        return _Certain()


def torch_adam_names() -> dict[str, str]:
    """torch's names of the state of Adam and its kin, by the symbols of the papers."""
    return {"t": "step", "m": "exp_avg", "v": "exp_avg_sq", "s": "max_exp_avg_sq"}


class Call(NamedTuple):
    """A constructor and its keyword arguments, which may be calls themselves."""

    constructor: Callable[..., Any]
    arguments: Mapping[str, Any]

    def make(self, *positional: Any) -> Any:
        """Do the call."""
        arguments = {name: value.make() if isinstance(value, Call) else value for name, value in self.arguments.items()}
        return self.constructor(*positional, **arguments)


@dataclass(frozen=True)
class Subject:
    """An optimizer to be verified.

    Args:
        name: for reports; MODULE:NAME where it can be imported by it.
        build: makes the optimizer from parameters or groups and hyper-parameters.
        hyperparameters: strategy that draws the hyper-parameters.
        oracle: makes the oracle for hyper-parameters; None where there is none: then only oracle-free checks run.
        state: state names by symbol: t, m, v, s.
        supports: capabilities, names of :data:`radam.audit.capabilities.CAPABILITIES`; None to find them from the
            constructor's keywords and trial steps.
        scalars: how exact the optimizer's scalars must be: as the usual float64 formulas, or without cancellation.
        expected_failures: reasons by the name of a check, or of one of its cells: "every_step[float16, foreach]". Each
            must fail: one that passes is reported.
        call: how `build` calls the constructor with hyper-parameters, for reproductions; None where it calls the class
            of what it returns with them as they are, or it cannot be said.
        coupled: why the steps of its parameters depend on one another; "" where they do not. Checks that step them
            apart are then left out.
        residues: names of state tensors that hold what roundings have left out, as of Kahan's sums. They are as
            uncertain as they are large, and two ways to compute a step are not compared by them.
    """

    name: str
    build: Callable[[Params, Mapping[str, Any]], torch.optim.Optimizer]
    hyperparameters: SearchStrategy[dict[str, Any]]
    oracle: Callable[[Mapping[str, Any]], Oracle] | None = None
    state: Mapping[str, str] = field(default_factory=torch_adam_names)
    supports: frozenset[str] | None = None
    scalars: Literal["textbook", "exact"] = "textbook"
    expected_failures: Mapping[str, str] = field(default_factory=dict)
    call: Callable[[Mapping[str, Any]], Call] | None = None
    coupled: str = ""
    residues: frozenset[str] = frozenset()
