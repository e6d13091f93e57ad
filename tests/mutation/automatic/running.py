"""Run tests on a mutant: in a process of its own, forked from one that has imported nothing of the repository."""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest
from hypothesis import settings

from tests.mutation.automatic.mutations import ROOT, Mutant, Place, core, names
from tests.mutation.forking import each_in_a_process

OPTIONS = (
    *("-q", "-x", "--tb=short", "-n", "0", "-p", "no:cacheprovider", "--hypothesis-profile=find", "-m", "not deep"),
    # What is imported once cannot be rewritten.
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
)
# A mutant may ask for any amount of memory, and should get no more than a test would take.
_MEMORY = 24 * 2**30
_IMPORTED_ONCE = (
    *("torch", "torch._dynamo", "torch.optim.swa_utils", "torch.distributed.tensor", "numpy", "scipy.stats", "mpmath"),
    *("hypothesis", "hypothesis.stateful", "hypothesis.extra.numpy", "xdist", "rich.console", "jinja2", "matplotlib"),
)
TOO_LONG = "longer than four times what the right source takes"
_LEAST_SECONDS = 20.0
# What pytest imports before the first test.
_ENTRIES = ("radam.audit", "reference")


@dataclass(frozen=True)
class Killer:
    """The test that failed."""

    by: str
    why: str


@dataclass(frozen=True)
class Reach:
    """What one test runs of the core."""

    seconds: float
    functions: frozenset[tuple[str, str]]
    """Files and the qualified names of functions in them."""


@dataclass(frozen=True)
class Unmutated:
    """What a file of tests does on the right source."""

    tests: str
    seconds: float
    passes: bool
    reaches: Mapping[str, Reach] = field(default_factory=dict)
    """Of each test, by its node ID."""

    def reach(self, place: Place) -> bool:
        """Whether one of the tests runs the function in which a mutant is."""
        return any((place.file, place.within) in one.functions for one in self.reaches.values())


@dataclass(frozen=True)
class Verdict:
    """What came of a mutant."""

    name: str
    outcome: str
    """killed, survived, timeout, or trouble, which says nothing about the mutant."""
    by: str
    why: str
    seconds: float


class _Served(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds one module, whose source is not that of its file."""

    def __init__(self, module: str, path: str, source: str) -> None:
        self.module, self.path, self.source = module, path, source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.module:
            return None
        is_package = self.path.endswith("__init__.py")
        return importlib.util.spec_from_file_location(
            fullname,
            self.path,
            loader=self,
            submodule_search_locations=[os.path.dirname(self.path)] if is_package else None,
        )

    def exec_module(self, module: ModuleType) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = compile(self.source, self.path, "exec")
        exec(code, module.__dict__)

    def get_source(self, fullname: str) -> str:
        return self.source


class _Reaches:
    """Which functions of the core each test of a run calls."""

    def __init__(self) -> None:
        self.each: dict[str, Reach] = {}
        self._names = {str(ROOT / file): (file, names((ROOT / file).read_text())) for file in core()}
        self._functions: set[tuple[str, str]] = set()

    def _trace(self, frame: FrameType, event: str, argument: object) -> None:
        found = self._names.get(frame.f_code.co_filename)
        if found:
            self._functions.add((found[0], found[1].get(frame.f_code.co_firstlineno, "")))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._functions.clear()
        start = time.monotonic()
        sys.settrace(self._trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            self.each[item.nodeid] = Reach(time.monotonic() - start, frozenset(self._functions))


class _First:
    """The first failure of a run; tests that reach a place are its first, the fastest before the others."""

    def __init__(self, place: Place | None, reaches: Mapping[str, Reach]) -> None:
        self.killer: Killer | None = None
        self.place, self.reaches = place, reaches

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=self._rank)

    def _rank(self, item: pytest.Item) -> tuple[bool, float]:
        reach = self.reaches.get(item.nodeid)
        if self.place is None or reach is None:
            return False, 0.0
        return (self.place.file, self.place.within) not in reach.functions, reach.seconds

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        settings.register_profile("first", settings.get_profile("find"), report_multiple_bugs=False)
        settings.load_profile("first")

    def _note(self, report: Any) -> None:
        if report.failed and self.killer is None:
            lines = str(report.longreprtext).strip().splitlines()
            errors = [line[1:].strip() for line in lines if line.startswith("E ")]
            self.killer = Killer(report.nodeid, (errors or lines or [""])[0][:120])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)


def serve(file: str, source: str) -> None:
    """Import a file of the repository, with a source in the place of its own."""
    name = file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    assert name not in sys.modules, f"{name} is imported already"
    sys.meta_path.insert(0, _Served(name, str(ROOT / file), source))
    importlib.import_module(name)


def run_tests(
    files: Sequence[str],
    place: Place | None = None,
    reaches: Mapping[str, Reach] | None = None,
    plugins: Sequence[object] = (),
) -> Killer | None:
    """The first test of some files that fails; in the order that suits a mutant's place, where that is given."""
    for tests in files:
        first = _First(place, reaches or {})
        status = pytest.main([*OPTIONS, *(str(ROOT / name) for name in tests.split())], plugins=[first, *plugins])
        if first.killer:
            return first.killer
        if status != pytest.ExitCode.OK:
            raise RuntimeError(f"pytest ended with {int(status)} for {tests}, where no test failed")
    return None


def _quiet() -> None:
    """A child says nothing, and cannot take all memory."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _too_long(*_: object) -> None:
    raise TimeoutError(TOO_LONG)


def judge(mutant: Mutant, tests: Sequence[Unmutated], seconds: float) -> tuple[Killer | None, float]:
    """The test that kills a mutant, and the seconds it took. To be called in a process of its own.

    Files of which no test calls the mutant's function are left out, unless that goes for all.
    The test that runs after `seconds` of the processor's time fails, so that an endless loop is not waited for.
    """
    start = time.monotonic()
    _quiet()
    signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, seconds, 5.0)
    try:
        serve(mutant.place.file, mutant.source)
        for name in _ENTRIES:
            importlib.import_module(name)
    except Exception as error:
        return Killer("import", f"{type(error).__name__}: {error}"[:120]), time.monotonic() - start
    place = mutant.place
    files = [one.tests for one in tests if one.reach(place)] or [one.tests for one in tests]
    reaches = {name: reach for one in tests for name, reach in one.reaches.items()}
    return run_tests(files, place, reaches), time.monotonic() - start


def import_once() -> None:
    """What a process has imported, its children need not: all but what may be mutated, and what imports that."""
    for name in _IMPORTED_ONCE:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        nothing = Path(folder) / "test_nothing.py"
        nothing.write_text("def test_nothing(): pass\n")
        with contextlib.redirect_stdout(io.StringIO()):
            pytest.main(["-q", "-n", "0", "--noconftest", "--rootdir", folder, "-c", os.devnull, str(nothing)])
    # pytest collects garbage a few times a run, which need not look at all that is here already.
    gc.freeze()
    ours = [name for name in sys.modules if name.split(".")[0] in ("radam", "reference", "conftest")]
    assert not ours, f"imported too early: {ours}"


def unmutated(files: Sequence[str], jobs: int, limit: float) -> Iterator[Unmutated]:
    """What each file of tests does on the right source."""

    def work(tests: str) -> Unmutated:
        _quiet()
        start = time.monotonic()
        reaches = _Reaches()
        killer = run_tests([tests], plugins=[reaches])
        return Unmutated(tests, time.monotonic() - start, killer is None, reaches.each)

    for done in each_in_a_process(work, files, jobs, limit):
        yield done.result or Unmutated(done.task, done.seconds, passes=False)


def judge_all(
    mutants: Sequence[Mutant],
    tests: Callable[[Mutant], Sequence[str]],
    right: dict[str, Unmutated],
    jobs: int,
    limit: float,
) -> Iterator[Verdict]:
    """Judge mutants, each by its files of tests."""

    def usual(mutant: Mutant) -> float:
        return sum(right[name].seconds for name in tests(mutant))

    def work(mutant: Mutant) -> tuple[Killer | None, float]:
        return judge(mutant, [right[name] for name in tests(mutant)], max(_LEAST_SECONDS, 4 * usual(mutant)))

    for done in each_in_a_process(work, mutants, jobs, limit):
        mutant: Mutant = done.task
        if done.result is not None:
            killer, seconds = done.result
            if killer is None:
                yield Verdict(mutant.name, "survived", "", "", seconds)
            else:
                outcome = "timeout" if TOO_LONG in killer.why else "killed"
                yield Verdict(mutant.name, outcome, killer.by, killer.why, seconds)
        elif done.trouble.startswith("it took more than"):
            outcome = "timeout" if usual(mutant) < limit / 4 else "trouble"
            why = f"{done.trouble}; the right source takes {usual(mutant):.0f} s"
            yield Verdict(mutant.name, outcome, "", why, limit)
        else:
            outcome = "killed" if done.trouble == "its process ended" else "trouble"
            yield Verdict(mutant.name, outcome, "crash", done.trouble.strip().splitlines()[-1], done.seconds)
