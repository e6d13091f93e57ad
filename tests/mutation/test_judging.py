"""The runner says what it should of what is found, what survives, and what goes wrong."""

from __future__ import annotations

import os
import time

import pytest

from tests.mutation import false_alarms, tables
from tests.mutation.__main__ import misjudged
from tests.mutation.false_alarms import Tally
from tests.mutation.forking import each_in_a_process
from tests.mutation.judging import Found, Verdict, by_audit, by_suite, subject_of

FOUND = Found("every_step[float32, loop]", "param[0] = 1", 0.5, 3)


def wrong(name: str, **more: object) -> Verdict:
    return Verdict(name, "right_loop", "eps", **{"asked": ("audit", "suite"), **more})  # type: ignore[arg-type]


def test_each_task_has_a_process_of_its_own() -> None:
    def work(task: str) -> str:
        if task == "raises":
            raise ValueError("no")
        if task == "ends":
            os._exit(3)
        if task == "lasts":
            time.sleep(60)
        return f"{task} {os.getpid() != parent}"

    parent = os.getpid()
    done = {one.task: one for one in each_in_a_process(work, ["works", "raises", "ends", "lasts"], 4, 2.0)}
    assert done["works"].result == "works True"
    assert not done["works"].trouble
    assert done["raises"].trouble.strip().endswith("ValueError: no")
    assert done["ends"].trouble == "its process ended"
    assert done["lasts"].trouble == "it took more than 2 s"


def test_a_survivor_is_misjudged_and_so_is_an_accused_right_one() -> None:
    assert misjudged(wrong("a")) == "survived"
    assert misjudged(wrong("a", audit=FOUND)) == "survived pytest --subject"
    assert misjudged(wrong("a", audit=FOUND, suite=FOUND)) == ""
    assert misjudged(Verdict("a", "right_adam", "eps", audit=FOUND, asked=("audit",))) == ""
    assert misjudged(Verdict("b", "", "right")) == ""
    assert "accused by every_step" in misjudged(Verdict("b", "", "right", audit=FOUND))
    assert misjudged(wrong("a", audit=FOUND, suite=FOUND, trouble="lines\nKilled")) == "Killed"


def test_scores() -> None:
    verdicts = [wrong("a", audit=FOUND), wrong("b", suite=FOUND), wrong("c"), Verdict("d", "", "right", audit=FOUND)]
    text = tables.scores(verdicts)
    assert "| `right_loop` | 3 | 2 | 1 of 3 | 1 of 3 |" in text
    assert "| **all** | 3 | 2 | 1 of 3 | 1 of 3 |" in text
    assert "Right optimizers: 1, of which accused: d." in text


def test_which_check_finds_alone() -> None:
    verdicts = [
        wrong("a", audit=FOUND, row={"every_step": "failed", "layouts": "failed", "repr": "passed"}),
        wrong("b", audit=FOUND, row={"every_step": "failed", "layouts": "passed", "repr": "skipped"}),
    ]
    text = tables.killers(verdicts)
    assert "| `every_step` | 2 | 2 | 1 | b |" in text
    assert "Never the only one to find a mutant: layouts, repr." in text
    assert tables.matrix(verdicts).splitlines()[1:] == ["a\tright_loop\teps\t1\t1\t0", "b\tright_loop\teps\t1\t0\t"]


def test_a_finding_that_the_unpatched_source_has_too_says_nothing_of_a_mutant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.mutation.judging._base_fails", lambda base, planned, examples: True)
    monkeypatch.setattr("tests.mutation.judging.chosen", lambda patterns: chosen(["repr"]))
    from radam.audit.auditing import chosen

    assert by_audit(lambda: subject_of("torch_radam_eps_of_defaults"), "torch.optim.radam") == (None, {})


def test_what_pytest_cannot_run_is_no_finding() -> None:
    with pytest.raises(RuntimeError, match="pytest exited with 4"):
        by_suite("tests.mutation.wrong:nothing_of_this_name", ["tests/subject/test_memory.py"])


def test_an_alarm_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from radam.audit.subjects.finding import find

    subject, _ = find("tests.mutation.wrong:bias1_missing_in_sgd")
    monkeypatch.setattr(false_alarms, "subjects", lambda: {"wrong": subject})
    monkeypatch.setattr(false_alarms, "EXAMPLES", 12)
    piece = false_alarms.work(("wrong", "float32", 0))
    assert piece.pieces == 1
    assert piece.alarms
    assert "should be" in piece.alarms[0]


def test_the_rate_of_false_alarms_is_bounded_where_there_are_none() -> None:
    tally = Tally("right_loop", "float32", 1, cases=1000, judged=10, worst=0.5)
    assert "No alarm in 1,000 cases: with 95% confidence, less than 3.0e-03 a case." in false_alarms.table([tally])
    tally.add(Tally("right_loop", "float32", 1, cases=1000, judged=10, worst=1.5, alarms=["param[0] = 1"]))
    assert "No alarm" not in false_alarms.table([tally])
    assert "| right_loop | float32 | 2,000 | 20 | 0.00% | 1.50 | 1 |" in false_alarms.table([tally])
