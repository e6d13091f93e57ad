"""Every number of torch's other optimizers: wrong ones are caught, right ones pass, and what torch's own fail by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from radam.audit import audit
from radam.audit.lockstep import Discrepancy, Lockstep
from radam.audit.subjects.torch import subjects, torch_subject
from tests.audit.checks.plain_torch import BROKEN, Loop, RMSprop, subject_like

EXAMPLES = 20
WRONG = [(wrong, right.__name__) for right, wrongs in BROKEN.items() for wrong in wrongs]


@pytest.fixture(autouse=True)
def _little_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Little time for smaller examples."""
    monkeypatch.setattr("radam.audit.auditing.SMALLER", 0.1)
    default = torch.get_default_dtype()
    yield
    torch.set_default_dtype(default)


@pytest.mark.deep
@pytest.mark.parametrize(("wrong", "like"), WRONG, ids=lambda x: getattr(x, "__name__", x))
def test_a_wrong_one_is_caught(wrong: type[Loop], like: str) -> None:
    report = audit(subject_like(wrong, like), checks=["every_step"], max_examples=EXAMPLES, figures=False)
    assert report.failed, f"every_step passes {wrong.__name__}"
    for entry in report.failed:
        assert "times the bound" in entry.reason or "is missing" in entry.reason, entry.reason
        assert entry.reproduction
        with pytest.raises(AssertionError):
            exec(compile(entry.reproduction, "<reproduction>", "exec"), {"__name__": "reproduction"})


@pytest.mark.deep
@pytest.mark.parametrize("right", BROKEN, ids=lambda right: right.__name__)
def test_a_right_one_passes(right: type[Loop]) -> None:
    checks = ["every_step", "each_*", "defaults", "far_steps", "options_changed_in_mid_run", "trajectory"]
    checks += ["decay_rates_of_zero", "gradients_of_every_size", "*_alone", "closed_form", "a_nan_stays_in_its_element"]
    report = audit(subject_like(right, right.__name__), checks=checks, max_examples=EXAMPLES, figures=False)
    assert not report.failed, [entry.reason for entry in report.failed]


@pytest.mark.parametrize("foreach", [True, False, None])
def test_a_variance_of_infinities_has_no_value(foreach: bool | None) -> None:
    """v and m^2 are infinite in float32, and their difference is NaN, unless m^2 is not rounded, as by torch's own."""
    subject = subject_like(RMSprop, "RMSprop") if foreach is None else torch_subject(torch.optim.RMSprop, "RMSprop")
    assert subject is not None
    assert subject.oracle is not None
    p = torch.nn.Parameter(torch.ones(3))
    options: dict[str, Any] = {"centered": True, "alpha": 0.9}
    own = options if foreach is None else {**options, "foreach": foreach}
    lockstep = Lockstep(subject.build([p], own), [options], subject.oracle, state=subject.state)
    for _ in range(3):
        p.grad = torch.tensor([3e27, -3e30, 0.5])
        lockstep.step()
    assert p.isnan().tolist() == ([True, True, False] if foreach is None else [False] * 3)
    assert lockstep.record.judged > 0


def followed(name: str, dtype: torch.dtype, options: dict[str, Any]) -> Lockstep:
    """Twelve steps of one of torch's own, in lock-step."""
    subject = torch_subject(getattr(torch.optim, name), name)
    assert subject is not None
    assert subject.oracle is not None
    p = torch.nn.Parameter(torch.linspace(-1, 1, 5, dtype=dtype))
    lockstep = Lockstep(subject.build([p], options), [options], subject.oracle, state=subject.state)
    for step in range(12):
        p.grad = torch.linspace(-1, 2, 5, dtype=dtype) / 3 * 0.7**step
        lockstep.step()
    return lockstep


@pytest.mark.parametrize(("name", "key"), [("NAdam", "mu_product"), ("ASGD", "ax")])
def test_scalars_in_float32_are_found_in_float64(name: str, key: str) -> None:
    """They are in torch's default dtype: where that is float64, every number is right."""
    assert followed(name, torch.float32, {}).record.worst < 1
    with pytest.raises(Discrepancy, match=key):
        followed(name, torch.float64, {})
    torch.set_default_dtype(torch.float64)
    assert followed(name, torch.float64, {}).record.worst < 1


def test_a_variance_below_zero_is_found() -> None:
    """Centered RMSprop takes the root of a variance that rounding makes negative."""
    with pytest.raises(Discrepancy, match=r"param\[\d\] = nan, but should be"):
        followed("RMSprop", torch.float64, {"centered": True, "alpha": 0.0, "eps": 1e-3})


def test_an_option_of_a_group_counts_from_the_start() -> None:
    """torch's Adagrad begins with the constructor's value in every group."""
    subject = torch_subject(torch.optim.Adagrad, "")
    assert subject is not None
    assert subject.oracle is not None
    p = torch.nn.Parameter(torch.ones(2))
    options = {"initial_accumulator_value": 1.0}
    lockstep = Lockstep(
        torch.optim.Adagrad([{"params": [p], **options}]), [options], subject.oracle, state=subject.state
    )
    p.grad = torch.ones(2)
    with pytest.raises(Discrepancy, match=r"sum\[0\] = 1.0, but should be 2.0"):
        lockstep.step()


def test_momentum_that_is_turned_on_begins_with_the_gradient() -> None:
    """As does that of a parameter whose first gradient comes late: there is no buffer that dampening could act on."""
    subject = torch_subject(torch.optim.SGD, "")
    assert subject is not None
    assert subject.oracle is not None
    p, late = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = torch.optim.SGD([p, late], lr=0.5, dampening=0.5)
    lockstep = Lockstep(optimizer, [{"lr": 0.5, "dampening": 0.5}], subject.oracle, state=subject.state)
    for step in range(6):
        if step == 2:
            optimizer.param_groups[0]["momentum"] = lockstep.options[0]["momentum"] = 0.9
        p.grad, late.grad = torch.ones(2), None if step < 4 else torch.ones(2)
        lockstep.step()
    assert lockstep.record.worst < 1


def test_all_of_torch_optim_is_there() -> None:
    names = {name for name in torch.optim.__all__ if isinstance(getattr(torch.optim, name), type)} - {"Optimizer"}
    assert [subject.name for subject in subjects()] == sorted(
        (f"torch.optim:{name}" for name in names), key=lambda name: name.partition(":")[2]
    )
    without = {subject.name.partition(":")[2] for subject in subjects() if subject.oracle is None}
    assert without == {"Adafactor", "LBFGS", "Muon", "Rprop"}


def test_muon_says_why_it_cannot_be_audited() -> None:
    with pytest.raises(ValueError, match=r"torch.optim:Muon cannot be audited: .*Muon only supports 2D parameters"):
        audit("torch.optim:Muon", figures=False)
