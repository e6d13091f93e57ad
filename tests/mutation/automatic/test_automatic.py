"""The mutation of source files: what is imported is the mutant, tests kill it or not, and reasons are checked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("cosmic_ray")

from tests.mutation.automatic import __main__ as command
from tests.mutation.automatic import mutations, order, reasons, running
from tests.mutation.automatic.mutations import Mutant, Place
from tests.mutation.automatic.running import Unmutated
from tests.mutation.forking import Done, each_in_a_process

SOURCE = '''"""What is 1 + 1?"""

from __future__ import annotations


class Sum:
    def of(self, x: int | float, y: int) -> int:
        """x + y"""
        if y == 0:
            raise ValueError(f"{x + y} needs no sum")
        return x + y


def doubled(x):
    total = 0 * 7
    for _ in range(2):
        total += x
    return total
'''
TESTS = """
from package.module import Sum, doubled


def test_a_sum():
    assert Sum().of(2, 3) == 5


def test_twice():
    assert doubled(3) == 6
"""
RIGHT = [Unmutated("test_module.py", 1.0, passes=True)]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one module and its tests in the place of this one."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "module.py").write_text(SOURCE)
    (tmp_path / "test_module.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = deep\n")
    (tmp_path / "conftest.py").write_text(
        "from hypothesis import settings\nsettings.register_profile('find', max_examples=2)\n"
    )
    for module in (mutations, running):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def in_a_process(work: Callable[[Any], Any], task: object) -> Any:
    (done,) = each_in_a_process(work, [task], 1, 60.0)
    assert not done.trouble, done.trouble
    return done.result


def mutant(becomes: str) -> Mutant:
    (found,) = [one for one in mutations.mutants("package/module.py") if one.place.becomes == becomes]
    return found


@pytest.mark.usefixtures("package")
def test_the_mutants_of_a_file() -> None:
    found = {(one.place.within, one.place.line, one.place.becomes) for one in mutations.mutants("package/module.py")}
    assert ("Sum.of", "return x + y", "return x - y") in found
    assert {new for _, old, new in found if old == "if y == 0:"} == {
        *("if y <= 0:", "if y >= 0:", "if False:"),
        *("if y == 1:", "if y == -1:"),
    }
    assert ("doubled", "for _ in range(2):", "for _ in []:") in found
    assert not [line for _, line, _ in found if "raise" in line or "def" in line or '"""' in line]
    assert len({one.name for one in mutations.mutants("package/module.py")}) == len(found)


def test_a_comparison_is_told_from_its_neighbours() -> None:
    """In each of the three orders of x and y, a mutant differs in that one alone."""
    right = {"<": "100", "<=": "110", "==": "010", ">=": "011", ">": "001", "!=": "101"}
    cases = [(0, 1), (0, 0), (1, 0)]
    for comparison, holds in right.items():
        codes = [code for _, code in mutations._mutated_codes(f"x {comparison} y\n")]
        found = ["".join(str(int(eval(code, {"x": x, "y": y}))) for x, y in cases) for code in codes]
        differ = [[i for i in range(3) if one[i] != holds[i]] for one in found]
        assert sorted(differ) == [[0], [1], [2]], comparison


def test_an_exception_of_a_module_is_left_alone() -> None:
    """One beside it is not."""
    statement = "try:\n    f()\nexcept (ValueError, module.Error):\n    pass\n"
    found = [code for operator, code in mutations._mutated_codes(statement) if operator == "ExceptionReplacer"]
    assert found == [statement.replace("ValueError", "CosmicRayTestingException")]


@pytest.mark.usefixtures("package")
def test_what_a_child_imports_is_the_mutant() -> None:
    def work(one: Mutant) -> tuple[int, bool, bool]:
        running.serve(one.place.file, one.source)
        module = sys.modules["package.module"]
        return module.Sum().of(2, 3), module.__file__ == str(mutations.ROOT / one.place.file), "conftest" in sys.modules

    assert in_a_process(work, mutant("return x * y"))[:2] == (6, True)
    assert "package.module" not in sys.modules


@pytest.mark.deep
@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("becomes", "by"),
    [
        ("return x * y", "test_module.py::test_a_sum"),
        ("for _ in []:", "test_module.py::test_twice"),
        ("total = 0 * 8", None),
    ],
)
def test_a_wrong_line_is_killed_and_an_equivalent_one_survives(becomes: str, by: str | None) -> None:
    killer, seconds = in_a_process(lambda one: running.judge(one, RIGHT, 60.0), mutant(becomes))
    assert (killer.by if killer else None) == by
    assert seconds > 0


@pytest.mark.deep
def test_what_each_test_calls(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests of a mutant's function come first, the fastest before the others."""
    monkeypatch.setattr(running, "core", lambda: ["package/module.py"])
    slow = "import time\nfrom package.module import doubled\n\ndef test_{}():\n    time.sleep({})\n    {}\n"
    (package / "test_slow.py").write_text(slow.format("slow", 0.5, "assert doubled(3) == 6"))
    (package / "test_other.py").write_text("def test_nothing():\n    pass\n")
    tests = "test_module.py test_slow.py"
    both, other = sorted(running.unmutated([tests, "test_other.py"], 1, 60.0), key=lambda one: one.tests)
    assert both.passes
    assert other.passes
    functions = {name: {function for _, function in reach.functions} for name, reach in both.reaches.items()}
    names = ("test_module.py::test_a_sum", "test_module.py::test_twice", "test_slow.py::test_slow")
    assert functions == {names[0]: {"Sum.of"}, names[1]: {"doubled"}, names[2]: {"doubled"}}
    place = mutant("for _ in []:").place
    assert both.reach(place)
    assert not other.reach(place)
    ranks = running._First(place, both.reaches)
    order = sorted(names, key=lambda name: ranks._rank(SimpleNamespace(nodeid=name)))  # type: ignore[arg-type]
    assert order == [names[1], names[2], names[0]]


@pytest.mark.deep
def test_an_endless_loop_is_not_waited_for(package: Path) -> None:
    (package / "test_module.py").write_text("def test_loop():\n    while True:\n        pass\n")
    killer, seconds = in_a_process(lambda one: running.judge(one, RIGHT, 2.0), mutant("return x * y"))
    assert killer.by == "test_module.py::test_loop"
    assert running.TOO_LONG in killer.why
    assert seconds < 30


@pytest.mark.parametrize(("usual", "outcome"), [(1.0, "timeout"), (30.0, "trouble")])
def test_too_long_is_killed_only_if_the_right_source_is_fast(
    usual: float, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place("package/module.py", "", "x", "y")
    one = Mutant(place, 0, "NumberReplacer", 1, "")

    def late(*_: object) -> list[Done[Mutant]]:
        return [Done(one, None, "it took more than 60 s", 60.0)]

    monkeypatch.setattr(running, "each_in_a_process", late)
    right = {"t": Unmutated("t", usual, passes=True)}
    (verdict,) = running.judge_all([one], lambda _: ["t"], right, 1, 60.0)
    assert verdict.outcome == outcome


@pytest.mark.usefixtures("package")
def test_the_exit_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """1 for a survivor without a reason, 1 for a reason without a survivor, 0 where they match."""
    survivors = [one for one in mutations.mutants("package/module.py") if one.place.becomes.startswith("total = 0 * ")]

    def judge(waiting: Sequence[Mutant], log: command.Log, jobs: int, limit: float) -> None:
        log.right["test_module.py"] = RIGHT[0]
        for one in waiting:
            log.add(running.Verdict(one.name, "survived" if one in survivors else "killed", "test", "", 1.0))

    def status(becomes: Sequence[str], *arguments: str) -> int:
        entry = {"file": "package/module.py", "within": "doubled", "line": "total = 0 * 7", "reason": "0 is 0."}
        text = "[[equivalent]]\n" + "".join(f'{name} = "{value}"\n' for name, value in entry.items())
        (tmp_path / "equivalent.toml").write_text(text + f"becomes = {list(becomes)}\n")
        read = reasons.read
        with monkeypatch.context() as patch:
            patch.setattr(reasons, "read", lambda: read(tmp_path / "equivalent.toml"))
            return command.main(["package/module.py", *arguments])

    monkeypatch.setattr(command, "_judge", judge)
    monkeypatch.setattr(command, "core", lambda: ["package/module.py"])
    monkeypatch.setattr(command, "tests_of", lambda *_: ["test_module.py"])
    right = [one.place.becomes for one in survivors]
    assert len(right) == 2
    assert status(right, "--markdown", str(tmp_path / "results.md")) == 0
    assert "| 2 | 0 |" in (tmp_path / "results.md").read_text()
    assert status(right[:1]) == 1
    assert f"survived: package/module.py:15: `total = 0 * 7` becomes `{right[1]}`" in capsys.readouterr().out
    assert status([*right, "total = 1 * 7"]) == 1
    assert "no survivor needs its reason" in capsys.readouterr().out
    assert status([*right, "what was never a mutant"]) == 1


@pytest.mark.parametrize(
    "text",
    [
        '[[equivalent]]\nfile = "a.py"\nwithin = ""\nline = "x"\nbecomes = ["y"]\nreason = " "\n',
        '[[equivalent]]\nfile = "a.py"\nwithin = ""\nline = "x"\nbecomes = ["y", "y"]\nreason = "why"\n',
        '[[equivalent]]\nfile = "a.py"\nline = "x"\nbecomes = ["y"]\nreason = "why"\n',
    ],
    ids=["no reason", "twice", "no place"],
)
def test_reasons_that_cannot_be_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "equivalent.toml").write_text(text)
    with pytest.raises(ValueError, match="reason"):
        reasons.read(tmp_path / "equivalent.toml")


def test_every_reason_is_of_a_mutant_that_there_is() -> None:
    """Of the small files; the command looks at all."""
    small = ("radam/kernels/slot.py", "radam/kernels/threads.py", "radam/weight_decay.py")
    known = reasons.read()
    there = [one for file in small for one in mutations.mutants(file)]
    assert known.stale([], [], there) == []
    assert {place.file for place in known.by_place} <= set(mutations.core())


def test_every_file_of_the_core_has_tests() -> None:
    for file in mutations.core():
        if file not in command.UNJUDGED:
            assert [name for name in order.tests_of(file) if name.startswith("tests/")], file
            names = " ".join(order.tests_of(file)).split()
            assert all((mutations.ROOT / name.partition("::")[0]).exists() for name in names), file
