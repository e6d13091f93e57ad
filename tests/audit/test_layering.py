"""One-way imports: who may import what, read from the source of every file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from radam.audit.subjects.shipped import PACKAGES

ROOT = Path(__file__).parents[2]
OURS = {"radam", "reference", "tests", "conftest"}
# The names under which distributions are imported, where they differ from their own.
DISTRIBUTIONS = {"_pytest": "pytest", "cosmic_ray": "cosmic-ray", "mpl_toolkits": "matplotlib", "xdist": "pytest-xdist"}


class Import(NamedTuple):
    """A module that a file imports; `lazy` inside a function."""

    module: str
    line: int
    lazy: bool

    @property
    def top(self) -> str:
        return self.module.split(".")[0]


def imports_of(source: str, package: str) -> Iterator[Import]:
    """Every import statement of a source, and every import_module or __import__ of a literal name."""

    def visit(node: ast.AST, lazy: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, lazy)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [base])])
            yield Import(base, node.lineno, lazy)
            for alias in node.names:
                yield Import(f"{base}.{alias.name}", node.lineno, lazy)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("import_module", "__import__", "importorskip") and isinstance(node.args[0].value, str):
                yield Import(node.args[0].value, node.lineno, lazy)
        inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    yield from visit(ast.parse(source), False)


def violations(path: str, source: str) -> list[str]:
    """The imports of a file, given by its path from the root, that its layer forbids."""
    parts = path.removesuffix(".py").split("/")
    package = ".".join(parts[:-1])
    found = []
    for imported in imports_of(source, package):
        external = imported.top not in sys.stdlib_module_names and imported.top not in OURS
        if parts[0] == "reference":
            forbidden = imported.top in {"torch", "radam", "tests"}
        elif parts[:2] == ["radam", "audit"]:
            lazily = parts[:3] == ["radam", "audit", "subjects"] and imported.lazy
            forbidden = imported.top == "tests" or (imported.top == "reference" and not lazily)
        elif parts[0] == "radam":
            forbidden = (
                imported.top in {"reference", "tests"}
                or imported.module == "radam.audit"
                or imported.module.startswith("radam.audit.")
                or (external and imported.top != "torch")
            )
        else:
            forbidden = False
        if forbidden:
            found.append(f"{path}:{imported.line} imports {imported.module}")
    return found


def files() -> list[str]:
    """Every Python file of the repository, from its root."""
    return sorted(
        path.relative_to(ROOT).as_posix()
        for folder in ("radam", "reference", "tests")
        for path in (ROOT / folder).rglob("*.py")
    )


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("layer", ["reference/", "radam/audit/", "radam/"])
def test_no_file_imports_what_its_layer_forbids(layer: str) -> None:
    inside = [path for path in files() if path.startswith(layer)]
    assert inside
    assert [violation for path in inside for violation in violations(path, read(path))] == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("reference/x.py", "import torch"),
        ("reference/x.py", "from torch.nn import Linear"),
        ("reference/x.py", "def f():\n    import radam.audit"),
        ("reference/x.py", "from tests import core"),
        ("reference/x.py", "import importlib\nimportlib.import_module('radam')"),
        ("reference/deep/x.py", "__import__('torch')"),
        ("radam/x.py", "import numpy as np"),
        ("radam/x.py", "import radam.audit"),
        ("radam/x.py", "from radam import audit"),
        ("radam/x.py", "from . import audit"),
        ("radam/kernels/x.py", "from ..audit.bounds import K"),
        ("radam/x.py", "def f():\n    from radam.audit import K"),
        ("radam/x.py", "import reference"),
        ("radam/x.py", "if True:\n    from hypothesis import given"),
        ("radam/audit/x.py", "import reference"),
        ("radam/audit/x.py", "def f():\n    import reference"),
        ("radam/audit/x.py", "class A:\n    from tests.core import helpers"),
        ("radam/audit/subjects/x.py", "import reference"),
        ("radam/audit/subjects/x.py", "class A:\n    import reference"),
        ("radam/audit/subjects/x.py", "def f():\n    import tests"),
    ],
)
def test_a_forbidden_import_is_found(path: str, source: str) -> None:
    assert violations(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("reference/x.py", "import numpy\nimport mpmath\nfrom reference import Adam\nfrom . import optimizers"),
        ("radam/x.py", "import torch\nimport math\nfrom radam import options\nfrom .kernels import loop"),
        ("radam/audit/x.py", "import numpy\nimport hypothesis\nfrom radam.audit import bounds\nimport radam"),
        ("radam/audit/subjects/x.py", "def f():\n    import reference\n    return reference.RAdam()"),
        ("tests/core/x.py", "import radam.audit\nimport reference\nimport torch\nfrom tests import core"),
    ],
)
def test_an_allowed_import_is_not(path: str, source: str) -> None:
    assert violations(path, source) == []


def declared() -> set[str]:
    """The distributions that pyproject.toml asks for."""
    tomllib = pytest.importorskip("tomllib", reason="reads pyproject.toml with Python 3.11's tomllib")
    path = ROOT / "pyproject.toml"
    if not path.exists():
        pytest.skip("asks for pyproject.toml")
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    extras = [name for extra in project.get("optional-dependencies", {}).values() for name in extra]
    return {re.split(r"[^A-Za-z0-9_.-]", name)[0].lower() for name in [*project.get("dependencies", []), *extras]}


BROUGHT = {
    "tests/mutation/peers/": {"jax", "optax", "timm", "pytorch_optimizer"},
    "radam/audit/subjects/peers/": {"jax", *PACKAGES},
}
"""What a command downloads for itself, or who audits it has installed, by the folder that imports it."""


def test_every_package_that_is_imported_is_declared() -> None:
    known = declared()
    undeclared = []
    for path in [*files(), "conftest.py"]:
        for imported in imports_of(read(path), path.rpartition("/")[0].replace("/", ".")):
            top = imported.top
            if top in sys.stdlib_module_names or top in OURS or not top or top == "__future__":
                continue
            # A test writes modules of its own to import by name.
            if (ROOT / path).with_name(f"{top}.py").exists():
                continue
            if any(path.startswith(folder) and top in brought for folder, brought in BROUGHT.items()):
                continue
            if DISTRIBUTIONS.get(top, top).lower() not in known:
                undeclared.append(f"{path}:{imported.line} imports {imported.module}")
    assert undeclared == []


def test_importing_radam_loads_nothing_of_the_kit() -> None:
    program = (
        "import sys, torch; before = set(sys.modules); import radam; new = set(sys.modules) - before; "
        "loaded = {name.partition('.')[0] for name in new}; "
        "print(sorted(loaded - set(sys.stdlib_module_names) - {'radam', 'torch'}));"
        "print([name for name in ('hypothesis', 'reference', 'radam.audit', 'pytest', 'mpmath', 'scipy', 'tests') "
        "if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[:2] == ["[]", "[]"]


def test_importing_the_kit_loads_no_oracle() -> None:
    program = "import sys, radam.audit, radam.audit.subjects.radam; print('reference' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_the_names_of_tests_repeat(request: pytest.FixtureRequest) -> None:
    """An address in a name is another one in each process: `pytest -n` could not share the tests out."""
    unstable = [item.nodeid for item in request.session.items if re.search(r" at 0x[0-9a-f]+", item.nodeid)]
    assert unstable == []


def relative_alone(source: str) -> list[int]:
    """Lines of `approx` calls with a relative tolerance and no absolute one, which is then 1e-12, and may be larger."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("approx", "pytest.approx")
        and {"rel", "abs"} & {keyword.arg for keyword in node.keywords} == {"rel"}
    ]


def test_a_relative_tolerance_says_that_there_is_no_other() -> None:
    assert relative_alone("\nassert x == pytest.approx(y, rel=1e-15)") == [2]
    assert relative_alone("pytest.approx(y, rel=1e-15, abs=0), pytest.approx(y, abs=1e-3)") == []
    files = [path for folder in ("tests", "radam", "reference") for path in (ROOT / folder).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): relative_alone(path.read_text(encoding="utf-8")) for path in files}
    assert {file: lines for file, lines in found.items() if lines} == {}
