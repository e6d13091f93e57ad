"""Every edit of torch's source is made where it should be, and each mutant computes something else in every path."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import types
from collections.abc import Mapping

import pytest

from tests.mutation.mutant import base_source, patched_source
from tests.mutation.peers import ours, torch_
from tests.mutation.peers.mistakes import MISTAKES, ONE_PATH, Mistake, common, counts, of
from tests.mutation.peers.patching import patched, patched_modules, section, source_of
from tests.mutation.peers.peer import Numbers, differing, path_of
from tests.mutation.peers.peers import PEERS
from tests.mutation.peers.scenarios import CASES
from tests.mutation.peers.tables import Judged, Verdict

MODULE = "torch.optim.radam"
SHOWN_BY = {
    "threshold": ("0.9 0.8", "rho_6"),
    "eps": ("eps 0.01",),
    "weight decay": ("decoupled", "coupled"),
    "group options": ("two",),
    "maximize": ("maximize",),
    "complex": ("complex",),
    "state": ("state",),
}
"""Words of the cases to try first, by part. Any case will do; those are a matter of time."""
MINIMUM = {"torch": 35, "pytorch_optimizer": 30, "timm": 25, "optax": 25}


def module_of(source: str) -> types.ModuleType:
    """A source as a module of its own, that nothing else can import."""
    spec = importlib.util.spec_from_loader(MODULE, None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    exec(compile(source, MODULE, "exec"), module.__dict__)
    return module


@functools.cache
def right(case: str) -> Numbers:
    """What the installed module computes."""
    return torch_.numbers_of(importlib.import_module(MODULE), [one for one in CASES if one.name == case])


def test_each_name_is_given_once() -> None:
    names = [one.name for one in MISTAKES]
    assert len(set(names)) == len(names)


def test_there_are_enough_mistakes() -> None:
    assert {source: count for source, count in counts().items() if count < MINIMUM[source]} == {}
    assert len(common()) >= 25


def test_each_place_is_known() -> None:
    for peer in PEERS.values():
        for one in of(peer.source):
            assert {place for place, _, _ in one.edits[peer.source]} <= peer.places.keys(), one.name


def test_no_two_mutants_are_the_same() -> None:
    for peer in PEERS.values():
        edits = [frozenset(one.edits[peer.source]) for one in of(peer.source)]
        assert len(set(edits)) == len(edits), peer.name


def test_a_mistake_in_torch_is_made_in_both_paths() -> None:
    shared = {"step", "init", "load"}
    for one in of("torch"):
        places = {place for place, _, _ in one.edits["torch"]}
        assert one.part == ONE_PATH or places & shared or places >= {"loop", "foreach"}, one.name


def test_an_unpatched_module_is_the_installed_one() -> None:
    module = module_of(source_of(MODULE))
    for case in CASES[:2]:
        assert differing(right(case.name), torch_.numbers_of(module, [case]), 0.0) == {}


@pytest.mark.deep
@pytest.mark.parametrize("one", of("torch"), ids=lambda one: one.name)
def test_a_mutant_differs_in_every_path(one: Mistake) -> None:
    module = module_of(patched_modules(one.edits["torch"], torch_.PLACES)[MODULE])
    places = {place for place, _, _ in one.edits["torch"]}
    wrong = {path for path in torch_.PATHS if one.part != ONE_PATH or path.partition(",")[0] in places}
    found: set[str] = set()
    for case in sorted(CASES, key=lambda case: not any(word in case.name for word in SHOWN_BY.get(one.part, ()))):
        runs = differing(right(case.name), torch_.numbers_of(module, [case]), torch_.TOLERANCE)
        found |= {path_of(run) for run in runs}
        if found >= wrong:
            break
    assert found == wrong


SOURCE = "def f():\n    return 1\n\n\nclass A:\n    def g(self):\n        return 1\n"


def test_a_section_is_a_function() -> None:
    start, end = section(SOURCE, "A.g")
    assert SOURCE[start:end] == "    def g(self):\n        return 1\n"


def test_an_edit_is_made_in_its_function_alone() -> None:
    assert patched(SOURCE, [("A.g", "1", "2")]) == SOURCE[:-2] + "2\n"


@pytest.mark.parametrize(("function", "old"), [("f", "r"), ("f", "2"), ("h", "1")])
def test_an_edit_that_does_not_fit_is_refused(function: str, old: str) -> None:
    with pytest.raises(ValueError, match=r"times in f|there is no h"):
        patched(SOURCE, [(function, old, "3")])


def test_a_score_counts_what_a_test_has_caught() -> None:
    first, second, third = of("torch")[:3]
    tests = {"a": "passed", torch_.LATER: "passed", "b": "failed"}
    verdicts = [
        Verdict(first.name, ["a"], {"loop": ""}, [], "", 1.0),
        Verdict(second.name, [torch_.LATER], {"loop": ""}, [], "", 1.0),
        Verdict(third.name, [], {}, ["loop"], "", 1.0),
    ]
    result = Judged("torch", tests, verdicts)
    assert result.score(MISTAKES) == (1, 3)
    assert result.score(MISTAKES, later=True) == (2, 3)
    assert result.run == ["a", torch_.LATER]
    assert [one.problem for one in verdicts] == ["", "", "not shown to differ: loop"]
    assert Judged.of_dict(result.as_dict()) == result


@pytest.mark.parametrize(
    ("values", "differs"),
    [([1.0, 2.0], False), ([1.0, 2.0 + 1e-12], False), ([1.0, 2.1], True), ([1.0, float("nan")], True)],
)
def test_numbers_differ_by_more_than_rounding(values: list[float], differs: bool) -> None:
    given: Mapping[str, list[float]] = {"loop: a": values}
    assert bool(differing({"loop: a": [1.0, 2.0]}, given, 1e-9)) == differs


def test_ours_are_the_same_mutants() -> None:
    for one in of("torch"):
        assert patched_source(ours.mutant(one)) != base_source(ours.BASE), one.name


def test_ours_says_by_which_check_a_mutant_is_found() -> None:
    assert ours.found(next(one for one in of("torch") if one.name == "beta1_for_v")).startswith("every_step[")
