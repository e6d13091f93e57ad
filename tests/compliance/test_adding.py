"""How to add a subject: what radam/audit/subjects/README.md says, done."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from radam.audit import audit
from radam.audit.subjects import shipped
from tests.compliance.__main__ import wanted

PAGE = Path(__file__).parents[2] / "radam" / "audit" / "subjects" / "README.md"
PACKAGE = """
import torch


class Descent(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1):
        if not lr >= 0:
            raise ValueError(f"lr must be at least 0, but is {lr}")
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.add_(p.grad, alpha=-group["lr"])
        return loss
"""
WRONG = PACKAGE.replace('-group["lr"]', '-1.0001 * group["lr"]')
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(params=[PACKAGE, WRONG], ids=["right", "wrong"])
def source(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=range(2), ids=["without an oracle", "with one"])
def oracle(
    request: pytest.FixtureRequest, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[bool]:
    """The package, and its description as the page has it, in a folder of their own."""
    (tmp_path / "mypackage.py").write_text(source)
    (tmp_path / "mypackage_described.py").write_text(BLOCKS[request.param])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(shipped.PACKAGES, "mypackage", "mypackage_described")
    yield bool(request.param)
    for name in ("mypackage", "mypackage_described"):
        sys.modules.pop(name, None)


def test_what_the_page_says_works(source: str, oracle: bool) -> None:
    """The wrong one is found where there is an oracle, and can only be found there."""
    assert len(BLOCKS) == 2
    assert wanted(["mypackage"]) == [("mypackage", "mypackage:Descent")]
    report = audit(
        "mypackage:Descent", checks=["every_step", "deepcopy", "bad_lr*"], dtypes=["float32"], max_examples=3
    )
    assert ("every_step" in report.checks_run) == oracle
    expected = {"every_step"} if oracle and source == WRONG else set()
    assert {entry.check for entry in report.failed} == expected
