"""Python that is run line by line and kept, so that what a check has found can be seen again without it."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType
from typing import Any

import torch

_MODULES = {"copy": copy, "io": io, "pickle": pickle, "torch": torch}


@lru_cache(maxsize=4096)
def _compiled(source: str, mode: str) -> CodeType:
    return compile(source, "<audit>", mode)


class Script:
    """A namespace in which lines are run, and their text.

    What is reported is what was run: a line reaches the namespace by its text alone. Besides torch it finds `copy`,
    `io`, `pickle`, `inf` and `nan`, and the classes that :meth:`take` has been given.

    Example:
        >>> script = Script()
        >>> script.do(f"x = {literal(torch.tensor([1.0, math.inf]))}")
        >>> script.value("x[1].item()")
        inf
        >>> print(script.text())
        from math import inf
        <BLANKLINE>
        import torch
        <BLANKLINE>
        x = torch.tensor([1.0, inf], dtype=torch.float32)
        <BLANKLINE>
    """

    def __init__(self) -> None:
        self.names: dict[str, Any] = {**_MODULES, "inf": math.inf, "nan": math.nan}
        self._imports: dict[str, str] = {}
        self._lines: list[str] = []

    def take(self, thing: Callable[..., Any], module: str | None = None) -> str:
        """Make a class known by its name; the script imports it from a module, its own for None. Returns the name."""
        module, name = module or thing.__module__, thing.__qualname__
        outer, _, inner = name.partition(".")
        short = inner.rpartition(".")[2] or outer
        self.names[short] = thing
        self._imports[f"from {module} import {outer}"] = f"{short} = {name}" if inner else ""
        return short

    def bring(self, line: str, name: str, value: Any) -> None:
        """Let `name` stand for a value that the script gets by an import line."""
        self.names[name] = value
        self._imports[line] = ""

    def do(self, source: str) -> None:
        """Run one or more lines."""
        self._lines.append(source)
        exec(_compiled(source, "exec"), self.names)

    def tell(self, source: str) -> None:
        """Add lines that are not run here: what shows the finding, at the end."""
        self._lines.append(source)

    def value(self, expression: str) -> Any:
        """Evaluate an expression, which does not become part of the script, unless it raises."""
        try:
            return eval(_compiled(expression, "eval"), self.names)
        except Exception:
            self._lines.append(expression)
            raise

    def text(self) -> str:
        """The script, with the imports that it needs."""
        body = "\n".join([*filter(None, self._imports.values()), *self._lines]) + "\n"
        used = [name for name in ("inf", "nan") if name in body]
        head = [f"import {name}" for name in ("copy", "io", "pickle") if f"{name}." in body]
        head += [f"from math import {', '.join(used)}"] if used else []
        head += ["", "import torch"] if head else ["import torch"]
        return "\n".join([*head, *self._imports, "", body])


def literal(tensor: torch.Tensor) -> str:
    """An expression for a small tensor: its numbers to the last bit, its dtype, strides and device.

    Example:
        >>> literal(torch.tensor([[0.5], [0.0]], dtype=torch.bfloat16))
        'torch.tensor([[0.5], [0.0]], dtype=torch.bfloat16)'
        >>> literal(torch.tensor(2.0).expand(3))
        'torch.tensor(2.0, dtype=torch.float32).expand(3)'
    """
    tensor = tensor.detach().resolve_conj().resolve_neg()
    sizes, strides = tuple(tensor.shape), tensor.stride()
    if tensor.numel() == 0:
        return f"torch.zeros({sizes}, dtype={tensor.dtype}{_device(tensor)})"
    repeated = [size > 1 and stride == 0 for size, stride in zip(sizes, strides, strict=True)]
    if all(repeated) and repeated:
        return f"{literal(tensor[(0,) * len(sizes)])}.expand({', '.join(map(str, sizes))})"
    if any(repeated):
        narrow = tensor[tuple(slice(0, 1) if again else slice(None) for again in repeated)]
        return f"{literal(narrow.contiguous())}.expand({', '.join(map(str, sizes))})"
    if tensor.is_complex():
        plain = f"torch.complex({_numbers(tensor.real)}, {_numbers(tensor.imag)})"
    else:
        plain = _numbers(tensor)
    if tensor.is_contiguous():
        return plain
    empty = f"torch.empty_strided({sizes}, {strides}, dtype={tensor.dtype}{_device(tensor)})"
    return f"{empty}.copy_({plain})"


def _device(tensor: torch.Tensor) -> str:
    return "" if tensor.device.type == "cpu" else f", device={str(tensor.device)!r}"


def _numbers(tensor: torch.Tensor) -> str:
    return f"torch.tensor({tensor.tolist()!r}, dtype={tensor.dtype}{_device(tensor)})"


def expression(value: Any) -> str:
    """An expression for an option: a number, a string, a tuple, a tensor, or what its `repr` makes."""
    if isinstance(value, torch.Tensor):
        return literal(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(expression, value))}{',' if len(value) == 1 else ''})"
    return repr(value)


@dataclass(frozen=True)
class Name:
    """A name of a script in place of an option's value: the very object that it stands for is passed.

    Example:
        >>> keywords({"betas": Name("given")})
        'betas=given'
    """

    name: str

    def __repr__(self) -> str:
        return self.name


def keywords(options: Mapping[str, Any]) -> str:
    """Options as keyword arguments.

    Example:
        >>> keywords({"lr": 0.1, "betas": (0.9, 0.99)})
        'lr=0.1, betas=(0.9, 0.99)'
    """
    return ", ".join(f"{name}={expression(value)}" for name, value in options.items())


def indented(source: str) -> str:
    """Lines as the body of a block."""
    return "\n".join(f"    {line}" for line in source.splitlines())
