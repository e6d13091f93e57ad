"""The audit on real gradients: right optimizers pass, a slightly wrong one does not, and wrong use says so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

import radam
from radam.audit.real_gradients import configurations, report, train, workers
from radam.audit.real_gradients.__main__ import main
from radam.audit.real_gradients.configurations import Configuration
from radam.audit.real_gradients.task import Task

WRONG = f"{__name__}:TooLong"


class TooLong(radam.RAdam):
    """Takes steps that are too long by one part in 100,000."""

    def schedule(self, t: int, group: Mapping[str, Any]) -> Any:
        step = super().schedule(t, group)
        return step._replace(size=step.size * (1 + 1e-5))


class Raises(radam.RAdam):
    """Gives up at the third step."""

    def schedule(self, t: int, group: Mapping[str, Any]) -> Any:
        if t == 3:
            raise ArithmeticError("enough")
        return super().schedule(t, group)


@pytest.fixture(scope="module")
def task() -> Task:
    return Task(seed=0)


def named(name: str) -> Configuration:
    (found,) = (each for each in configurations() if each.name == name)
    return found


def test_right_optimizers_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {kind: tmp_path / f"report.{kind}" for kind in ("json", "md", "png")}
    outputs = ["--json", str(files["json"]), "--markdown", str(files["md"]), "--plot", str(files["png"])]

    # Across the first adaptive step, which is the sixth.
    status = main(["--only", "RAdam bfloat16", "--only", "L2 decay", "--steps", "8", "--jobs", "1", *outputs])

    seen = capsys.readouterr()
    assert status == 0, seen.out
    assert "none out of bounds" in seen.out
    assert "RAdam bfloat16: within bounds" in seen.err
    report = json.loads(files["json"].read_text(), parse_constant=pytest.fail)
    assert report["schema"] == 1
    assert report["counts"] == {"passed": 3, "failed": 0}
    records = {record["configuration"]: record for record in report["records"]}
    assert list(records) == ["RAdam for-loop + amsgrad + L2 decay", "RAdam bfloat16", "RAdam L2 decay"]
    size = sum(param.numel() for param in Task(seed=0).model().parameters())
    for name, record in records.items():
        quantities = 4 if "amsgrad" in name else 3
        assert record["status"] == "passed"
        assert record["compared"] == quantities * size * 8
        assert record["unjudged"] == record["free_run"]["unjudged"] == 0
        assert 0 < record["worst"]["bounds"] <= 1
        assert 0 < record["free_run"]["bounds"] <= 1
    assert files["md"].read_text().count("\n| RAdam") == 3
    assert files["png"].read_bytes().startswith(b"\x89PNG")


@pytest.mark.deep
def test_a_process_of_its_own_gives_the_same_numbers(task: Task) -> None:
    configuration = named("RAdam float16")
    # One configuration, so that only one of the two processes is started.
    (there,) = workers.run([configuration], None, seed=0, device="cpu", steps=3, jobs=2)
    here = train(configuration, task, 3)
    for field in fields(here):
        if field.name != "seconds":
            assert getattr(there, field.name) == getattr(here, field.name)


def test_a_wrong_optimizer_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.json"

    status = main(["--subject", WRONG, "--only", "RAdam", "--steps", "4", "--jobs", "1", "--json", str(path)])

    assert status == 1
    (record,) = json.loads(path.read_text())["records"]
    assert record["status"] == "failed"
    assert record["worst"]["quantity"] == "param"
    assert record["worst"]["bounds"] > 1
    finding = record["first_findings"][0]
    parameters = [name for name, _ in Task(seed=0).model().named_parameters()]
    assert finding.partition(":")[0] in parameters
    assert "param[" in finding
    assert "but should be" in finding
    assert "step 1]" in finding
    seen = capsys.readouterr().out
    assert finding in seen
    assert "none out of bounds" not in seen


def test_what_the_optimizer_raises_is_a_finding(task: Task) -> None:
    (configuration, *_) = configurations(Raises)
    result = train(configuration, task, 4)
    assert "step 3 raised ArithmeticError: enough" in result.findings[0]
    assert result.lockstep.steps == 2


def test_the_free_run_finds_a_wrong_optimizer_too(task: Task) -> None:
    (configuration, *_) = configurations(TooLong)
    result = train(configuration, task, 2)
    assert any("param[" in finding and "free run, step 2" in finding for finding in result.trajectory.findings)


def test_the_model_learns(task: Task) -> None:
    # The loss of single steps varies by about 0.1; that of Adam falls from 4.6 to about 3.
    result = train(named("Adam"), task, 60)
    assert not result.findings
    assert sum(result.losses[-10:]) / 10 < sum(result.losses[:3]) / 3 - 0.8


def test_a_parameter_without_gradient_is_named() -> None:
    class Idle(Task):
        def model(self) -> torch.nn.Module:
            model = super().model()
            model.register_parameter("idle", torch.nn.Parameter(torch.ones(2)))
            return model

    result = train(named("RAdam"), Idle(seed=0), 2)
    assert not result.findings
    assert result.without_gradient == ["idle"]
    assert report.verdict([result])[-1] == "RAdam: never had a gradient, and so was not judged: idle."


def test_nothing_judged_is_a_failure() -> None:
    class Silent(Task):
        def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return torch.ones((), requires_grad=True)

    assert "no value was compared" in train(named("RAdam"), Silent(seed=0), 2).findings[0]


def test_a_loss_that_is_not_finite_is_a_failure() -> None:
    class Diverging(Task):
        def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return super().loss(logits, targets) * float("nan")

    assert "the loss is nan at step 1" in train(named("RAdam"), Diverging(seed=0), 2).findings[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "Lion"], "--only 'Lion'"),
        (["--steps", "0"], "--steps must be at least 1, but is 0"),
        (["--jobs", "0"], "--jobs must be at least 1, but is 0"),
        (["--device", "abacus"], "--device abacus"),
        (["--subject", "radam"], "MODULE:NAME"),
        (["--subject", "radam:Adamant"], "Adamant"),
        (["--subject", "radam:WeightDecay"], "neither an optimizer class"),
        (["--subject", "torch.optim:RAdam"], "is a Subject: give an optimizer class that takes RAdam's constructor"),
        (["--json", "/nowhere/report.json"], "there is no folder"),
        (["--plot", "picture.xyz"], "the suffix must be one of"),
    ],
)
def test_wrong_use(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    assert message in capsys.readouterr().err
