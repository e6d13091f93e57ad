"""Sources with a mistake in them, executed in memory in place of the modules that they come from."""

from __future__ import annotations

import ast
import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.mutation.peers.peer import Edit

Places = Mapping[str, tuple[str, str]]


def source_of(module: str) -> str:
    """The source of a module that can be found, without importing it or the packages that it is in."""
    for folder in sys.path:
        file = Path(folder, *module.split(".")).with_suffix(".py")
        if file.exists():
            return file.read_text(encoding="utf-8")
    raise ValueError(f"there is no module {module}")


def section(source: str, function: str) -> tuple[int, int]:
    """Where a function begins and ends in a source; a method is named with its class."""
    body: Sequence[ast.AST] = ast.parse(source).body
    found: ast.AST | None = None
    for name in function.split("."):
        found = next((node for node in body if getattr(node, "name", None) == name), None)
        if not isinstance(found, ast.FunctionDef | ast.ClassDef):
            raise ValueError(f"there is no {function}")
        body = found.body
    assert isinstance(found, ast.FunctionDef)
    assert found.end_lineno is not None
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts[found.lineno - 1], starts[found.end_lineno]


def patched(source: str, edits: Sequence[tuple[str, str, str]]) -> str:
    """A source after edits of (function, old, new); every old text occurs in its function exactly once."""
    for function, old, new in edits:
        start, end = section(source, function)
        count = source.count(old, start, end)
        if count != 1:
            raise ValueError(f"{old!r} occurs {count} times in {function}, not once")
        source = source[:start] + source[start:end].replace(old, new) + source[end:]
    return source


def patched_modules(edits: Sequence[Edit], places: Places) -> dict[str, str]:
    """The patched source of each module that has edits."""
    by_module: dict[str, list[tuple[str, str, str]]] = {}
    for place, old, new in edits:
        module, function = places[place]
        by_module.setdefault(module, []).append((function, old, new))
    return {module: patched(source_of(module), those) for module, those in by_module.items()}


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self.patched = source

    def get_code(self, fullname: str) -> types.CodeType:
        return self.source_to_code(self.patched.encode(), self.path)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, sources: Mapping[str, str]) -> None:
        self.sources = sources

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self.sources:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(fullname, spec.origin, self.sources[fullname])
        return spec


def install(sources: Mapping[str, str]) -> None:
    """From now on, in this process, these modules are made from these sources."""
    sys.meta_path.insert(0, _Finder(sources))
    for name in sources:
        old = sys.modules.pop(name, None)
        if old is None:
            continue
        # It was imported already: what its package has taken from it is replaced.
        new = importlib.import_module(name)
        package = sys.modules[name.rpartition(".")[0]]
        for key, value in list(vars(package).items()):
            if value is not None and value is vars(old).get(key):
                setattr(package, key, getattr(new, key))
