"""Each check of the kit: a wrong optimizer that it catches, and right ones that it passes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st

from radam.audit import Subject
from radam.audit.auditing import carry_out, plan, prepared, resolved
from radam.audit.capabilities import Capabilities
from radam.audit.checks import Check, Missing, all_checks
from radam.audit.report import Entry
from radam.audit.subjects.radam import radam_subject
from radam.audit.subjects.torch import torch_subject
from tests.audit.checks.plain import SUPPORTS, Plain, subject_of
from tests.audit.checks.wrong import (
    BOOKKEEPING,
    REAL_MOMENTS,
    WRONG,
    AveragesWhatItIsGiven,
    AveragesWithAGraph,
    BeginsALeftOutStep,
    CorrectionsBySteps,
    CorrectsByTheConstructorsBetas,
    CountsByDefault,
    CountsForAll,
    KeepsAResidue,
    KeepsASet,
    LeavesGradOffWhereItRefuses,
    NoMaximumOfComplexNumbers,
    RefusesZero,
    TakesGradientsForScratch,
    TheLastOfHalfPrecision,
    ThreeBetas,
    Wrong,
)

ROOT = Path(__file__).parents[3]
CHECKS = {check.name: check for check in all_checks()}
EXAMPLES = 8
OF_RIGHT_ONES = 4

OTHERS: Mapping[str, Callable[[], Subject]] = {
    "first_adaptive_step": lambda: replace(radam_subject(), supports=SUPPORTS),
    "a_threshold_that_is_met": lambda: replace(radam_subject(), supports=SUPPORTS),
    "steps_are_counted_by_numbers_too": lambda: replace(_torch_adam(), supports=SUPPORTS),
    "a_file_from_before_an_option": lambda: replace(_torch_adam(), supports=SUPPORTS),
    "derivatives_by_the_learning_rate": lambda: replace(_torch_adam(), supports=SUPPORTS),
}
"""Right optimizers for checks that do not apply to Plain."""
SKIPPED = {
    "first_adaptive_step": "the oracle takes one branch only",
    "a_threshold_that_is_met": "the oracle takes no threshold",
    "steps_are_counted_by_numbers_too": "its __setstate__ knows of no older version that kept a number",
    "a_file_from_before_an_option": "its __setstate__ fills in no options",
    "derivatives_by_the_learning_rate": "lr takes no part in what autograd records",
}
"""Why checks are skipped on Plain in every setting."""
AS_PROGRAM = ("every_step", "transient_memory")
"""Checks whose reproduction is run by an interpreter of its own."""


def _torch_adam() -> Subject:
    subject = torch_subject(torch.optim.Adam, "torch.optim:Adam")
    assert subject is not None
    return subject


@pytest.fixture(autouse=True)
def _around_each(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Little time for smaller examples; and what a wrong optimizer, or its reproduction, leaves behind is put right."""
    monkeypatch.setattr("radam.audit.auditing.SMALLER", 0.1)
    default = torch.get_default_dtype()
    yield
    torch.set_default_dtype(default)
    torch.set_grad_enabled(True)


@lru_cache(maxsize=1)
def capabilities_of_plain() -> Capabilities:
    return prepared(subject_of(Plain), torch.device("cpu"))


@lru_cache(maxsize=len(WRONG))
def caught(name: str) -> Entry:
    """The first setting in which a check fails on the optimizer that is wrong for it."""
    return first_failure(WRONG[name].subject, CHECKS[name], EXAMPLES)


def first_failure(wrong: type[torch.optim.Optimizer] | Subject, check: Check, examples: int) -> Entry:
    """The first setting in which a check fails."""
    subject = wrong if isinstance(wrong, Subject) else subject_of(wrong)
    capabilities = prepared(subject, torch.device("cpu"))
    torch.set_grad_enabled(True)
    settings = [planned for planned in plan(capabilities, [check]) if not isinstance(planned.setting, Missing)]
    assert settings, "no setting to run it in"
    for planned in settings:
        entry = carry_out(planned, examples)
        if entry.status == "failed":
            return entry
    raise AssertionError(
        f"{check.name} passes {subject.name} in {', '.join(str(planned.setting) for planned in settings)}"
    )


def reproduction(name: str) -> str:
    """The script that shows what was caught."""
    script = caught(name).reproduction
    assert script
    return script


def error_of(script: str) -> str | None:
    """The name of the error by which a script ends."""
    try:
        exec(compile(script, "<reproduction>", "exec"), {"__name__": "reproduction"})
    except Exception as error:
        return type(error).__name__
    finally:
        # A script is a program of its own, and leaves what it has set.
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(False)
    return None


def test_each_check_has_a_wrong_optimizer() -> None:
    assert set(WRONG) == set(CHECKS)


SLOW = {"nothing_is_kept_of_each_step", "nothing_is_kept_of_a_load", "it_is_let_go", "pickle"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.deep] * (name in SLOW)) for name in CHECKS])
def test_the_wrong_one_is_caught(name: str) -> None:
    """With its reason, and with a script that fails by itself: it has torch, the standard library and its module."""
    reason = caught(name).reason
    assert re.search(WRONG[name].reason, reason), reason
    assert not reason.startswith("the check could not be carried out"), reason
    script = reproduction(name)
    assert error_of(script) == WRONG[name].error, script
    wrong = WRONG[name].subject
    module = wrong.name.partition(":")[0] if isinstance(wrong, Subject) else wrong.__module__
    imported = set()
    for node in ast.walk(ast.parse(script)):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    foreign = {each for each in imported if each.split(".")[0] not in {"torch", *sys.stdlib_module_names}}
    # RAdam's options have a decay object.
    assert foreign <= {module, "radam.weight_decay"}
    assert module in imported


@pytest.mark.deep
@pytest.mark.parametrize("name", AS_PROGRAM)
def test_the_reproduction_fails_as_a_program(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", reproduction(name)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(WRONG[name].error), done.stderr


def test_what_the_closed_form_finds_beside_numbers() -> None:
    entry = first_failure(REAL_MOMENTS.subject, CHECKS["closed_form"], 3)
    assert re.search(REAL_MOMENTS.reason, entry.reason), entry.reason
    assert entry.reproduction
    assert error_of(entry.reproduction) == REAL_MOMENTS.error, entry.reproduction


@pytest.mark.deep
@pytest.mark.parametrize("wrong", BOOKKEEPING, ids=lambda wrong: wrong.subject.__name__)
def test_what_an_oracle_finds_beside_numbers(wrong: Wrong) -> None:
    entry = first_failure(wrong.subject, CHECKS["every_step"], 30)
    assert re.search(wrong.reason, entry.reason), entry.reason
    assert entry.reproduction
    assert error_of(entry.reproduction) == wrong.error, entry.reproduction


@pytest.mark.deep
def test_numbers_are_judged_where_gradients_are_scratch() -> None:
    capabilities = prepared(subject_of(TakesGradientsForScratch), torch.device("cpu"))
    for name in ("each_option_of_a_group", "defaults", "eps_alone"):
        assert {entry.status for entry in entries_on(capabilities, CHECKS[name])} - {"skipped"} == {"passed"}
    of_its_own = entries_on(capabilities, CHECKS["gradients_are_not_written_to"])
    assert {entry.status for entry in of_its_own} - {"skipped"} == {"failed"}


@pytest.mark.deep
@pytest.mark.parametrize(
    "name", ["it_is_let_go", "nothing_is_kept_of_a_load", "loading_leaves_the_state_dict_alone", "state_dict_resumes"]
)
def test_a_state_may_have_an_entry_that_belongs_to_no_parameter(name: str) -> None:
    capabilities = prepared(subject_of(CountsForAll), torch.device("cpu"))
    assert {entry.status for entry in entries_on(capabilities, CHECKS[name])} - {"skipped"} == {"passed"}


@pytest.mark.parametrize("name", ["loading_leaves_the_state_dict_alone", "state_dict_resumes"])
def test_a_set_in_the_state_is_a_finding_of_one_check(name: str) -> None:
    capabilities = prepared(subject_of(KeepsASet), torch.device("cpu"))
    assert {entry.status for entry in entries_on(capabilities, CHECKS[name])} - {"skipped"} == {"passed"}


@pytest.mark.parametrize(
    "name", ["groups_are_separate_optimizers", "bad_betas_are_refused", "a_new_learning_rate_counts", "schedulers"]
)
def test_betas_may_be_three(name: str) -> None:
    strategy = st.fixed_dictionaries({"lr": st.sampled_from((0.1, 0.5)), "betas": st.just((0.9, 0.99, 0.5))})
    capabilities = prepared(
        subject_of(ThreeBetas, hyperparameters=strategy, oracle=None, supports=frozenset()), torch.device("cpu")
    )
    assert {entry.status for entry in entries_on(capabilities, CHECKS[name])} - {"skipped"} == {"passed"}


def test_with_maximize_a_state_may_have_either_sign() -> None:
    subject = subject_of(AveragesWhatItIsGiven, oracle=None, supports=frozenset({"maximize", "complex", "half"}))
    entries = entries_on(prepared(subject, torch.device("cpu")), CHECKS["maximize_is_minimize_of_the_negative"])
    assert {entry.status for entry in entries} - {"skipped"} == {"passed"}


@pytest.mark.parametrize(("residues", "status"), [((), "failed"), (("residue",), "passed")])
def test_residues_are_not_compared(residues: tuple[str, ...], status: str) -> None:
    subject = subject_of(KeepsAResidue, supports=frozenset({"foreach"}), residues=frozenset(residues))
    entries = entries_on(prepared(subject, torch.device("cpu")), CHECKS["implementations_agree"])
    assert {entry.status for entry in entries} - {"skipped"} == {status}


@pytest.mark.parametrize("name", ["a_learning_rate_of_zero", "a_new_learning_rate_counts", "schedulers"])
def test_a_constructor_may_refuse_a_learning_rate_of_zero(name: str) -> None:
    strategy = st.fixed_dictionaries({"lr": st.sampled_from((0.1, 0.5))})
    capabilities = prepared(subject_of(RefusesZero, hyperparameters=strategy, oracle=None), torch.device("cpu"))
    assert {entry.status for entry in entries_on(capabilities, CHECKS[name])} - {"skipped"} == {"passed"}


def test_a_group_that_is_added_has_options_of_its_own() -> None:
    entry = first_failure(CorrectionsBySteps, CHECKS["a_group_added_in_mid_run"], EXAMPLES)
    assert "the parameter of a group added after 5 steps = " in entry.reason


@pytest.mark.parametrize(
    ("wrong", "name", "reason"),
    [
        (TheLastOfHalfPrecision, "every_element_of_a_large_tensor", r"a long tensor .*: param\[\d+\] = .*, bfloat16, "),
        (CountsByDefault, "default_dtype", r"step of param 0 where the default dtype is torch.bfloat16 = 300\.0, "),
        (BeginsALeftOutStep, "grad_scaler", r"param \d with a GradScaler = \[+nan, "),
        (LeavesGradOffWhereItRefuses, "sparse_gradients_are_refused_or_taken", "leaves grad disabled"),
        (AveragesWithAGraph, "grad_mode", r"the state of param \d requires grad after a gradient that does"),
        (CorrectsByTheConstructorsBetas, "state_dict_wins_over_the_constructor", "after loading over other options "),
    ],
)
def test_more_that_others_got_wrong_is_found(wrong: type[Plain], name: str, reason: str) -> None:
    entry = first_failure(wrong, CHECKS[name], EXAMPLES)
    assert re.search(reason, entry.reason), entry.reason
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.deep
def test_a_flag_that_complex_numbers_refuse_is_found_by_one_check() -> None:
    capabilities = prepared(subject_of(NoMaximumOfComplexNumbers), torch.device("cpu"))
    assert capabilities.settled(torch.complex64) == {"amsgrad": False}
    assert capabilities.settled(torch.float32) == {}
    assert complaints(entries_on(capabilities, CHECKS["complex_is_pairs_of_reals"]))
    assert not complaints(entries_on(capabilities, CHECKS["without_gradients_nothing_happens"]))
    assert not complaints(entries_on(capabilities, CHECKS["every_step"]))


def entries_on(capabilities: Capabilities, check: Check) -> list[Entry]:
    """What comes of a check in each setting."""
    return [carry_out(planned, OF_RIGHT_ONES) for planned in plan(capabilities, [check])]


def complaints(entries: list[Entry]) -> list[str]:
    """The cells that have failed, and why."""
    return [f"{entry.cell}: {entry.reason}" for entry in entries if entry.status == "failed"]


@pytest.mark.deep
@pytest.mark.parametrize("name", CHECKS)
def test_a_right_one_passes(name: str) -> None:
    entries = entries_on(capabilities_of_plain(), CHECKS[name])
    assert not complaints(entries)
    if name in SKIPPED:
        assert {entry.status for entry in entries} == {"skipped"}
        assert SKIPPED[name] in {entry.reason for entry in entries}
    else:
        assert "passed" in {entry.status for entry in entries}


@pytest.mark.parametrize("name", OTHERS)
def test_another_right_one_passes(name: str) -> None:
    entries = entries_on(prepared(OTHERS[name](), torch.device("cpu")), CHECKS[name])
    assert not complaints(entries)
    assert "passed" in {entry.status for entry in entries}


def test_what_is_skipped_on_plain_is_run_on_another() -> None:
    assert set(SKIPPED) == set(OTHERS)


def test_a_maximum_that_is_kept_but_not_used_may_stay_as_it_is() -> None:
    subject = replace(resolved("tests.mutation.variants:maximum_always_there"), supports=SUPPORTS)
    entries = entries_on(prepared(subject, torch.device("cpu")), CHECKS["a_nan_stays_in_its_element"])
    assert {entry.status for entry in entries} - {"skipped"} == {"passed"}
