"""`reference` stands on its own: what it imports, and that its own page tells the truth."""

from __future__ import annotations

import ast
import doctest
import sys
from pathlib import Path

import pytest

import reference

FOLDER = Path(reference.__file__).parent
ALLOWED = {"numpy", "scipy", "mpmath", "reference"} | set(sys.stdlib_module_names)


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("reference" if node.level else str(node.module))
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("**/*.py")), ids=lambda path: path.name)
def test_imports(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert imported(tree) <= ALLOWED
    at_module_level = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert "mpmath" not in imported(ast.Module(at_module_level, [])), "mpmath is imported where it is needed only"


def test_definition_shares_no_code_with_the_recurrences() -> None:
    tree = ast.parse((FOLDER / "definition.py").read_text(encoding="utf-8"))
    assert "reference" not in imported(tree)


def test_readme() -> None:
    result = doctest.testfile(str(FOLDER / "README.md"), module_relative=False)
    assert result.attempted > 0
    assert result.failed == 0


def test_public_names() -> None:
    for name in reference.__all__:
        assert getattr(reference, name).__doc__, name
