"""Every mutant applies, builds, and differs from its base where its scenario says; the base agrees with itself."""

from __future__ import annotations

import copy
import functools
import pickle
import sys
import traceback

import pytest
import torch

from tests.mutation import wrong
from tests.mutation.catalogue import BY_NAME, MUTANTS
from tests.mutation.mutant import (
    PARTS,
    Mutant,
    Observation,
    Scenario,
    base_module,
    build,
    differences,
    observe,
    patched_source,
)

torch.set_num_threads(1)


def test_at_least_a_hundred_under_distinct_names() -> None:
    assert len(MUTANTS) >= 100
    assert len(BY_NAME) == len(MUTANTS)
    assert all(mutant.name.isidentifier() for mutant in MUTANTS)


def test_every_part_has_mutants() -> None:
    assert {mutant.part for mutant in MUTANTS} == set(PARTS)


def test_no_two_are_the_same_program() -> None:
    sources: dict[str, str] = {}
    for mutant in MUTANTS:
        twin = sources.setdefault(patched_source(mutant), mutant.name)
        assert twin == mutant.name, f"{mutant.name} and {twin} are the same program"


@functools.cache
def of_base(base: str, scenario: Scenario) -> Observation:
    """What the unmodified base shows, which must be repeatable. Many mutants share a scenario."""
    seen = observe(scenario, base_module(base))
    assert not differences(seen, observe(scenario, base_module(base))), "the scenario is not repeatable"
    return seen


@pytest.mark.deep
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_differs_from_its_base(mutant: Mutant) -> None:
    seen = of_base(mutant.base, mutant.scenario)
    assert "exception" not in seen, seen
    wrong_sight = observe(mutant.scenario, build(mutant))
    # A slip of the pen in an edit is not the mistake that the mutant stands for.
    accident = wrong_sight.get("exception", "").startswith(
        ("NameError", "UnboundLocalError", "TypeError", "SyntaxError")
    )
    assert not accident, wrong_sight
    assert differences(seen, wrong_sight), f"{mutant.name} shows no difference"


def test_by_name() -> None:
    name = MUTANTS[0].name
    cls = getattr(wrong, name)
    assert issubclass(cls, torch.optim.Optimizer)
    assert cls is getattr(wrong, name)
    assert sys.modules[cls.__module__].WeightDecay.__module__ == cls.__module__
    assert name not in dir(wrong)
    with pytest.raises(AttributeError, match=name):
        getattr(wrong, name + "_")


def test_a_built_class_can_be_pickled_and_copied() -> None:
    optimizer = getattr(wrong, MUTANTS[0].name)([torch.nn.Parameter(torch.ones(2))])
    for other in (pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer)):
        assert type(other) is type(optimizer)


def test_tracebacks_show_the_patched_lines() -> None:
    mutant = MUTANTS[0]
    module = build(mutant)
    try:
        module.WeightDecay(-1.0)
    except ValueError:
        assert "raise ValueError(f" in traceback.format_exc()
    else:
        pytest.fail("a negative coefficient was accepted")
