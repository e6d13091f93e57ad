"""What a check is: a function of a run, the settings in which it is run, and what it asks of a subject."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch

from radam.audit.capabilities import HALF, Capabilities
from radam.audit.run import Run, Setting

Dimension = Literal["dtype", "implementation", "other implementation"]

REAL = (torch.float64, torch.float32)
EVERY = (torch.float32, torch.float64, *HALF, torch.complex64)
KINDS = (torch.float32, torch.bfloat16, torch.complex64)
"""One dtype of each kind, for what does not depend on the exact format."""
PRECISE = (torch.float64, *KINDS)
"""The format in which small errors show, and one of each kind."""
IMPLEMENTATIONS = ("foreach", "fused", "capturable", "differentiable", "compiled")
_ASKED_FOR = {"compiled": "compile"}


@dataclass(frozen=True)
class Missing:
    """A setting in which a check cannot be run, and why."""

    dtype: str | None
    implementation: str | None
    reason: str


@dataclass(frozen=True)
class Check:
    """A property of optimizers.

    Args:
        function: checks it in one run; raises a Finding.
        each: in which dimensions the settings differ: one setting for each dtype, implementation, or both.
        needs: capabilities without which it does not apply.
        oracle: whether it compares with the subject's oracle.
        examples: how many are drawn, as a share of the number asked for; once where nothing is drawn.
        least: how many at least. The first is the simplest, in which most options are off; fewer than three do where
            each is a sweep, or slow.
        dtypes: those of a dimension "dtype"; the first alone without it.
        compiled: whether it is run with torch.compile, where each new optimizer takes a second.
    """

    function: Callable[[Run], None]
    each: tuple[Dimension, ...] = ()
    needs: tuple[str, ...] = ()
    oracle: bool = False
    examples: float = 0.1
    dtypes: tuple[torch.dtype, ...] = KINDS
    compiled: bool = True
    least: int = 3

    @property
    def name(self) -> str:
        """The property, as a name."""
        return self.function.__name__.removeprefix("check_")

    @property
    def summary(self) -> str:
        """The property, as a sentence."""
        return (self.function.__doc__ or "").strip().splitlines()[0]

    def missing(self, capabilities: Capabilities) -> str | None:
        """Why the check does not apply to a subject; None where it does."""
        if self.oracle and capabilities.subject.oracle is None:
            return "needs an oracle: describe the optimizer by a Subject"
        return next(filter(None, map(capabilities.missing, self.needs)), None)

    def settings(self, capabilities: Capabilities) -> Iterable[Setting | Missing]:
        """The settings in which the check is run, and those in which it cannot be."""
        reason = self.missing(capabilities)
        if reason:
            yield Missing(None, None, reason)
            return
        dtypes = []
        for dtype in self.dtypes if "dtype" in self.each else self.dtypes[:1]:
            lacking = _lacking(capabilities, dtype)
            if lacking is None:
                dtypes.append(dtype)
            else:
                yield Missing(str(dtype).removeprefix("torch."), None, lacking)
        several = {"implementation", "other implementation"} & set(self.each)
        available = []
        for implementation in capabilities.implementations if several else [capabilities.first_implementation]:
            available.append(implementation)
            if implementation == "compiled" and not self.compiled:
                continue
            if implementation == capabilities.first_implementation and "other implementation" in self.each:
                continue
            for dtype in dtypes:
                # torch.compile takes long: its graph is the same for all real dtypes but for the casts.
                if implementation == "compiled" and dtype not in REAL:
                    continue
                refusal = capabilities.refusal(implementation, dtype)
                if refusal:
                    yield Missing(str(dtype).removeprefix("torch."), implementation, refusal)
                    continue
                yield Setting(capabilities.subject, capabilities, dtype, implementation)
        for name in IMPLEMENTATIONS if several else ():
            if name not in available and (self.compiled or name != "compiled"):
                yield Missing(None, name, capabilities.missing(_ASKED_FOR.get(name, name)) or "")


def _lacking(capabilities: Capabilities, dtype: torch.dtype) -> str | None:
    """Why the subject does not step a dtype."""
    if dtype in HALF:
        reason = capabilities.missing("half")
        return reason if reason and capabilities.missing("narrow_half") else None
    return capabilities.missing("complex") if dtype.is_complex else None


class Group:
    """Checks of one theme, in the order in which they are defined."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.checks: list[Check] = []

    def check(
        self,
        *each: Dimension,
        needs: tuple[str, ...] = (),
        oracle: bool = False,
        examples: float = 0.1,
        dtypes: tuple[torch.dtype, ...] | None = None,
        compiled: bool = True,
        least: int = Check.least,
    ) -> Callable[[Callable[[Run], None]], Callable[[Run], None]]:
        """Make a function one of the group's checks; see :class:`Check`."""

        def add(function: Callable[[Run], None]) -> Callable[[Run], None]:
            standard = Check.dtypes
            self.checks.append(Check(function, each, needs, oracle, examples, dtypes or standard, compiled, least))
            return function

        return add
