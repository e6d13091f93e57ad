"""The parts of the compliance table: results are read as they were written, verdicts compared, reviews joined."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from radam.audit.subjects.shipped import PACKAGES, shipped
from tests.compliance import reviews, tables
from tests.compliance.__main__ import main, not_reproduced, wanted
from tests.compliance.page import page
from tests.compliance.reviews import Review, all_reviews, unreviewed, unused
from tests.compliance.running import ROOT, Failure, Result, audit_all, differences, page_of, read, write

FOLDER = Path(__file__).parent
FAILURE = Failure("deepcopy", ["float32"], "a copy is lost", "raise AssertionError('lost')")
RESULT = Result("torch", "torch.optim:SGD", "torch 2", {"torch": "2"}, ["repr"], {"every_step": "no oracle"}, [FAILURE])
REVIEW = Review("torch", ("deep*",), ("S*",), "defect", "A copy is lost.", "sgd.py", "https://example.org/1")


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    other = Result("torch", "torch.optim:LBFGS", refused="needs a closure")
    path = tmp_path / "results.json"
    write(path, [RESULT, other], 6)
    assert read(path) == [other, RESULT]
    first = path.read_bytes()
    write(path, [other, RESULT], 6)
    assert path.read_bytes() == first


def test_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('{"schema": 0, "results": []}')
    with pytest.raises(ValueError, match="should have schema 1, but has 0"):
        read(path)


@pytest.mark.parametrize(
    "other",
    [
        replace(RESULT, failures=[]),
        replace(RESULT, passed=["repr", "deepcopy"], failures=[]),
        replace(RESULT, skipped={}),
        Result("torch", "torch.optim:SGD", refused="why"),
    ],
)
def test_another_verdict_is_told(other: Result) -> None:
    assert differences([RESULT], [RESULT]) == []
    assert differences([RESULT], [other])


def test_a_failed_check_must_be_reviewed() -> None:
    assert unreviewed([REVIEW], [RESULT]) == []
    for stranger in (replace(REVIEW, package="timm"), replace(REVIEW, optimizers=("A*",))):
        assert any("not reviewed" in line for line in unreviewed([stranger], [RESULT]))


def test_a_review_of_nothing_is_told() -> None:
    stale = replace(REVIEW, checks=("repr",))
    (line,) = unused([REVIEW, stale], [RESULT])
    assert "torch, repr of S*" in line
    assert unused([replace(stale, optimizers=("A*",))], [RESULT]) == []


def test_the_reviews_that_are_kept_are_well_formed() -> None:
    kept = all_reviews()
    assert {review.package for review in kept} <= PACKAGES.keys()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("verdict", '"fine"', "verdict of review 1"),
        ("checks", '["nothing_of_the_kind"]', "no check is called so"),
        ("unknown", '"x"', "differs in unknown"),
        ("source", None, "differs in source"),
    ],
)
def test_a_review_that_is_not_well_formed_is_refused(tmp_path: Path, key: str, value: str | None, said: str) -> None:
    table = {
        "checks": '["repr"]',
        "optimizers": '["*"]',
        "verdict": '"defect"',
        "statement": '"x"',
        "source": '"y"',
    }
    if value is None:
        del table[key]
    else:
        table[key] = value
    path = tmp_path / "torch.toml"
    path.write_text("[[review]]\n" + "".join(f"{name} = {text}\n" for name, text in table.items()))
    with pytest.raises(ValueError, match=said):
        reviews.read(path)


def test_tables_say_what_was_found() -> None:
    findings = tables.findings([RESULT], [REVIEW])
    for said in ("A copy is lost.", "`deepcopy`: SGD", "https://example.org/1", "sgd.py", FAILURE.reproduction):
        assert said in findings
    assert "| torch 2 | 1 | 0 | 0 | 1 | 0 |" in tables.by_package([RESULT], [REVIEW])
    assert "**1 of 1 failed**" in tables.by_optimizer([RESULT])
    html = page([RESULT], [REVIEW], FOLDER)
    for said in ("A copy is lost.", "1 of 1 failed", "https://example.org/1", "raise AssertionError"):
        assert said in html


@pytest.mark.deep
def test_a_script_that_ends_well_is_told() -> None:
    """So is one that cannot be run; one that fails as it says is not."""
    assert not_reproduced([RESULT], [REVIEW]) == []
    for script, said in (("pass", "it ends well"), ("import nothing_of_the_kind", "ModuleNotFoundError")):
        failure = Failure("deepcopy", [""], "", script)
        (line,) = not_reproduced([replace(RESULT, failures=[failure])], [REVIEW])
        assert said in line


@pytest.mark.deep
def test_an_optimizer_is_audited_in_a_process_of_its_own(tmp_path: Path) -> None:
    """With the same verdicts as radam-audit gives, and a report; what cannot be audited says why."""
    (result,) = audit_all(
        [("torch", "torch.optim:SGD")], 1, ["--checks", "bad_lr*", "--checks", "repr"], 300.0, tmp_path
    )
    assert result.verdicts() == {"repr": "passed", "bad_lr_is_refused": "failed"}
    assert (tmp_path / page_of(result.name)).exists()
    (refused,) = audit_all([("torch", "torch.optim:Nothing")], 1, [], 300.0)
    assert "has no attribute 'Nothing'" in refused.refused
    (late,) = audit_all([("torch", "torch.optim:SGD")], 1, [], 0.1)
    assert late.refused == "took more than 0.1 s"


def test_what_is_asked_for_by_a_wrong_name_is_refused() -> None:
    assert ("torch", "torch.optim:SGD") in wanted(["torch.optim:S*"])
    with pytest.raises(ValueError, match="nothing that is installed matches 'no_such'"):
        wanted(["no_such"])
    with pytest.raises(SystemExit):
        main(["no_such"])


def test_the_modules_of_packages_that_are_not_installed_can_be_imported() -> None:
    """Descriptions import their packages when they are asked for."""
    hidden = [package for package in PACKAGES if package not in ("radam", "torch")]
    program = f"import sys; sys.modules.update(dict.fromkeys({hidden!r}))\n"
    program += "".join(f"import {module}\n" for module in PACKAGES.values())
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


@pytest.mark.parametrize("package", PACKAGES)
def test_shipped_subjects_have_names_of_their_own_and_expect_no_failure(package: str) -> None:
    try:
        subjects = shipped(package)
    except ImportError:
        pytest.skip(f"{package} comes with tox -e peers")
    assert subjects
    assert len({subject.name for subject in subjects}) == len(subjects)
    for subject in subjects:
        assert not subject.expected_failures
