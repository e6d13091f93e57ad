"""`audit`: what is run, what is expected, what is said; on optimizers that the kit knows and that it has never seen."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st

import radam
from radam.audit import Report, audit
from radam.audit.auditing import chosen, plan, prepared, resolved
from radam.audit.capabilities import CAPABILITIES, Capabilities
from radam.audit.checks import all_checks
from radam.audit.report import Entry
from radam.audit.run import Setting
from radam.audit.subjects.classes import hyperparameters_of

CPU = torch.device("cpu")


class Unseen(torch.optim.Optimizer):
    """An optimizer that nobody has described: momentum, with options of known and of unknown names."""

    def __init__(self, params: Any, lr: float = 1e-2, beta: float = 0.5, weight_decay: float = 0.0) -> None:
        if not 0 <= lr < float("inf"):
            raise ValueError(f"lr must be finite and at least 0, but is {lr}")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay must be >= 0, but is {weight_decay}")
        super().__init__(params, {"lr": lr, "beta": beta, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.grad.is_sparse:
                    raise RuntimeError("sparse gradients are not supported")
                state = self.state[p]
                if not state:
                    state["m"] = torch.zeros_like(p)
                state["m"].mul_(group["beta"]).add_(p.grad)
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(state["m"], alpha=-group["lr"])
        return loss


class Shrinks(Unseen):
    """Its second group has the options of the first."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        for group in self.param_groups[1:]:
            group["lr"] = self.param_groups[0]["lr"]
        return super().step(closure)


class Together(Unseen):
    """A step is as long as the number of gradients."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        count = sum(param.grad is not None for group in self.param_groups for param in group["params"])
        for group in self.param_groups:
            group["lr"] = group["lr"] * count
        try:
            return super().step(closure)
        finally:
            for group in self.param_groups:
                group["lr"] = group["lr"] / max(count, 1)


class Demands(torch.optim.Optimizer):
    def __init__(self, params: Any, temperature: float) -> None:
        super().__init__(params, {"temperature": temperature})


class NeverSteps(Unseen):
    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        raise RuntimeError("not today")


def failed(report: Report) -> list[str]:
    return [entry.cell for entry in report.failed]


# A class of which nothing is known


@pytest.mark.deep
def test_a_class_never_seen_is_checked_without_a_word_of_its_author() -> None:
    """At least 25 checks; those that need an oracle are skipped and say so."""
    report = audit(Unseen, max_examples=3, figures=False)
    assert failed(report) == []
    assert report.passed
    assert len(report.checks_run) >= 25, report.closing_line()
    reasons = {entry.check: entry.reason for entry in report.records if entry.status == "skipped"}
    for check in all_checks():
        if check.oracle:
            assert "needs an oracle" in reasons[check.name], reasons[check.name]


def test_its_mistake_is_found() -> None:
    report = audit(Shrinks, checks=["groups_*", "repr"], max_examples=20, figures=False)
    assert not report.passed
    assert failed(report) == ["groups_are_separate_optimizers[default]"]
    (entry,) = report.failed
    assert "an optimizer for each group" in entry.reason
    assert entry.reproduction is not None
    assert "Shrinks([{" in entry.reproduction


def test_options_with_names_that_are_known_are_drawn() -> None:
    drawn: set[str] = set()

    def look(optimizer: type[torch.optim.Optimizer]) -> set[str]:
        options = Capabilities(resolved(optimizer), CPU).options
        return set(options)

    class OfSGD(torch.optim.SGD):
        """Of which no more is known than the constructor."""

    drawn = look(OfSGD)
    assert {"lr", "momentum", "weight_decay", "nesterov", "maximize"} <= drawn
    assert "dampening" not in drawn
    assert {"lr", "betas", "eps", "weight_decay"} <= look(torch.optim.NAdam)


def test_an_argument_of_which_nothing_is_known_is_named() -> None:
    with pytest.raises(ValueError, match=r"Demands asks for 'temperature'.*describe the optimizer by a"):
        hyperparameters_of(Demands)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("torch.optim:SGD", {"capturable", "half", "late_amsgrad"}),
        ("torch.optim:RAdam", {"fused", "capturable", "half", "late_amsgrad"}),
        ("torch.optim:Adagrad", set()),
        ("radam:RAdam", {"narrow_half"}),
        (
            "tests.audit.test_auditing:Unseen",
            {"foreach", "fused", "capturable", "differentiable", "maximize", "half", "late_amsgrad"},
        ),
    ],
)
def test_capabilities_are_found_by_trial(name: str, missing: set[str]) -> None:
    """What is missing has a reason; of the two kinds of half precision an optimizer has at most one."""
    capabilities = Capabilities(resolved(name), CPU)
    lacking = {each for each in CAPABILITIES if not capabilities.has(each)}
    assert missing <= lacking
    for each in lacking:
        assert capabilities.missing(each)
    assert lacking & {"half", "narrow_half"}
    if name != "torch.optim:Adagrad":
        assert lacking - missing <= {"narrow_half"}, f"{name} lacks {lacking}"


def test_an_optimizer_that_is_not_elementwise_is_seen() -> None:
    class Normed(Unseen):
        @torch.no_grad()
        def step(self, closure: Any = None) -> Any:  # type: ignore[override]
            for group in self.param_groups:
                for p in group["params"]:
                    p.sub_(group["lr"] * p.grad / p.grad.norm())

    class Projected(Unseen):
        """As AdamP: only what is nearly at a right angle to the parameter is treated otherwise."""

        @torch.no_grad()
        def step(self, closure: Any = None) -> Any:  # type: ignore[override]
            for group in self.param_groups:
                for p in group["params"]:
                    angle = (p * p.grad).sum().abs() < 0.1 * p.norm() * p.grad.norm()
                    p.sub_(group["lr"] * (0.5 * p.grad if p.dim() > 1 and angle else p.grad))

    for optimizer in (Normed, Projected):
        reason = Capabilities(resolved(optimizer), CPU).missing("elementwise")
        assert reason == "a tensor's elements are not stepped as each would be by itself"
    # A complex number as a pair of reals has another shape: only Projected takes it for another tensor.
    reason = Capabilities(resolved(Projected), CPU).missing("shapeless")
    assert reason == "a matrix is not stepped as a vector of its elements would be"
    for name, optimizer in (("shapeless", Normed), ("shapeless", Unseen), ("elementwise", Unseen)):
        assert Capabilities(resolved(optimizer), CPU).has(name)


def test_compiling_is_tried_for_more_than_two_steps() -> None:
    """Dynamo may give up at the third, where the number of steps becomes a symbol."""

    class Twice(Unseen):
        @torch.no_grad()
        def step(self, closure: Any = None) -> Any:  # type: ignore[override]
            for p in self.param_groups[0]["params"]:
                self.state[p]["steps"] = self.state[p].get("steps", 0) + 1
                if self.state[p]["steps"] > 2:
                    raise NotImplementedError("no third one")

    capabilities = Capabilities(resolved(Twice), CPU)
    assert capabilities.missing("complex") is None
    assert capabilities.missing("compile") == "a trial step in float32 raised NotImplementedError: no third one"


def test_options_that_exclude_one_another_are_not_asked_for_together() -> None:
    """Nesterov's momentum needs some momentum: with none, and with any dampening, SGD refuses it."""
    checks = ["defaults", "each_option_of_a_group", "each_combination_of_flags", "every_step"]
    subject = replace(resolved("torch.optim:SGD"), supports=frozenset({"maximize"}))
    report = audit(subject, checks=checks, max_examples=20, figures=False)
    assert not report.failed, [entry.reason for entry in report.failed]
    assert report.counts["passed"]


def test_state_of_lists_of_tensors_is_compared() -> None:
    """L-BFGS keeps lists: they go on after loading, bit for bit."""
    checks = ["state_dict_resumes", "loading_leaves_the_state_dict_alone"]
    assert not audit("torch.optim:LBFGS", checks=checks, max_examples=3, figures=False).failed


def test_state_in_another_dtype_after_loading_is_told_as_such() -> None:
    """torch casts all state but "step" to the dtype of the parameter: NAdam's product of momenta too."""
    report = audit("torch.optim:NAdam", checks=["state_dict_resumes"], max_examples=3, figures=False)
    reason = (
        r"mu_product of param 0 after load_state_dict = 0.45\d+ \(torch.float64\), but should be .* \(torch.float32\)"
    )
    assert any(re.search(reason, entry.reason) for entry in report.failed), [entry.reason for entry in report.failed]


def test_coupled_parameters_are_not_stepped_apart() -> None:
    checks = ["groups_are_separate_optimizers", "late_gradients"]
    assert {entry.status for entry in audit(Together, checks=checks).records} - {"skipped"} == {"failed"}
    coupled = replace(resolved(Together), coupled="a step is as long as the number of gradients")
    records = audit(coupled, checks=checks).records
    assert {(entry.status, entry.reason) for entry in records} == {("skipped", coupled.coupled)}


def test_a_build_that_does_more_than_call_the_class_is_in_the_script_itself() -> None:
    """By the name of the Subject where it can be imported by it; otherwise in words."""
    for name, line in {
        "my.module:subject": "from my.module import subject as subject",
        "mine": "# Here `subject` is the radam.audit.Subject called 'mine'.",
    }.items():
        subject = replace(
            resolved(Shrinks),
            name=name,
            build=lambda params, options: Shrinks(params, **{**options, "lr": 2 * options["lr"]}),
            call=None,
        )
        (entry,) = audit(subject, checks=["groups_*"], max_examples=6, figures=False).failed
        assert entry.reproduction is not None
        assert line in entry.reproduction
        assert "optimizer = subject.build([{" in entry.reproduction


# What is expected to fail


def test_an_expected_failure_passes_with_its_reason() -> None:
    subject = replace(resolved(Shrinks), expected_failures={"groups_are_separate_optimizers": "known, #12"})
    report = audit(subject, checks=["groups_*"], max_examples=20, figures=False)
    assert report.passed
    (entry,) = (entry for entry in report.records if entry.status != "skipped")
    assert entry.status == "xfail"
    assert entry.reason.startswith("known, #12 (")


@pytest.mark.parametrize("key", ["repr", "groups_are_separate_optimizers[default]"])
def test_an_expected_failure_that_does_not_come_is_one(key: str) -> None:
    subject = replace(resolved(Unseen), expected_failures={key: "known, #12"})
    report = audit(subject, checks=["groups_*", "repr"], max_examples=4, figures=False)
    assert not report.passed
    (entry,) = report.failed
    assert entry.status == "xpassed"
    assert "known, #12" in entry.reason


def test_one_setting_may_be_expected_to_fail_alone() -> None:
    """torch's fused Adam moves no version counter on the CPU; its other kernels do."""
    settings = [f"version_counters_move[{dtype}, fused]" for dtype in ("float32", "bfloat16")]
    subject = replace(resolved(torch.optim.Adam), expected_failures=dict.fromkeys(settings, "torch's kernel"))
    report = audit(subject, checks=["version_*"], max_examples=4, figures=False)
    assert report.passed, report.failed
    assert report.counts["xfail"] == 2
    assert report.counts["passed"] > 4


# Contradictions and wrong use


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expected_failures": {"no_such_check": "x"}}, "expected_failures of .* has 'no_such_check'"),
        ({"supports": frozenset({"foreach", "telepathy"})}, "supports of .* has 'telepathy', but must be of"),
        ({"supports": frozenset({"half", "narrow_half"})}, "must have one of 'half' and 'narrow_half'"),
        ({"state": {"velocity": "m"}}, "state of .* names 'velocity', but may name t, m, v and s"),
        (
            {"hyperparameters": st.just({"lr": -1.0})},
            r"cannot be built with {'lr': -1.0}: ValueError: lr must be finite and at least 0, but is -1.0",
        ),
        ({"build": lambda params, options: "optimizer"}, r"must make a torch.optim.Optimizer, but made 'optimizer'"),
    ],
)
def test_a_subject_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        audit(replace(resolved(Unseen), **changes), checks=["repr"], figures=False)


def test_an_optimizer_that_takes_no_step_cannot_be_audited() -> None:
    with pytest.raises(ValueError, match=r"NeverSteps cannot be audited: a trial step .* RuntimeError: not today"):
        audit(NeverSteps, figures=False)


def test_a_declared_capability_that_is_not_there_is_a_finding() -> None:
    """It is not skipped: the subject has claimed it."""
    subject = replace(resolved(Unseen), supports=frozenset({"foreach"}))
    report = audit(subject, checks=["repr", "deepcopy", "implementations_agree"], max_examples=2, figures=False)
    assert not report.passed
    assert any("foreach" in entry.reason for entry in report.failed)


def test_checks_are_chosen_by_patterns() -> None:
    assert [check.name for check in chosen(["bad_*"])] == [
        *("bad_lr_is_refused", "bad_eps_is_refused", "bad_betas_are_refused", "bad_weight_decay_is_refused"),
        "bad_parameters_are_refused",
    ]
    with pytest.raises(ValueError, match="no check is called 'bad'"):
        chosen(["repr", "bad"])


def test_every_check_says_what_it_is() -> None:
    names = [check.name for check in all_checks()]
    assert len(set(names)) == len(names)
    for check in all_checks():
        assert check.summary.endswith("."), f"{check.name}: {check.summary!r}"


def test_dtypes_are_chosen() -> None:
    report = audit(radam.RAdam, checks=["deepcopy"], dtypes=["bfloat16"], max_examples=2, figures=False)
    assert {entry.dtype for entry in report.records} == {"bfloat16"}


# What is known of torch's


def entries(report: Report, implementation: str) -> dict[str, Entry]:
    return {entry.check: entry for entry in report.failed if entry.implementation == implementation}


def run_alone(script: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "finding.py"
    path.write_text(script, encoding="utf-8")
    return subprocess.run([sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, check=False)


@pytest.mark.deep
def test_torchs_radam(tmp_path: Path) -> None:
    """NaN of foreach for zero gradients in float16, and with eps = 0; rho_t in float32 of the compiled step."""
    checks = ["implementations_agree_on_zero_gradients", "implementations_agree_next_to_one", "first_adaptive_step"]
    report = audit("torch.optim:RAdam", checks=checks, max_examples=12, figures=False)
    zero = [entry for entry in report.failed if entry.check == checks[0] and entry.implementation == "foreach"]
    assert {entry.dtype for entry in zero} == {"float16", "bfloat16", "float32", "float64", "complex64"}
    assert all("= nan, but should be 1.0" in entry.reason for entry in zero)
    assert ["eps=1e-08" in entry.reason for entry in zero if entry.dtype == "float16"] == [True]
    assert all("eps=0.0" in entry.reason for entry in zero if entry.dtype != "float16")
    compiled = entries(report, "compiled")
    assert set(compiled) == set(checks)
    assert "compiled" in compiled["first_adaptive_step"].reason
    loops = [entry.cell for entry in report.failed if entry.implementation == "loop"]
    assert loops == [], "the for-loop has no such mistake"
    for entry in (zero[0], compiled["implementations_agree_next_to_one"]):
        assert entry.reproduction is not None
        assert {line.split()[1] for line in entry.reproduction.splitlines() if line.startswith(("import", "from"))} <= {
            *("torch", "torch.optim", "copy", "math"),
        }
        result = run_alone(entry.reproduction, tmp_path)
        assert result.returncode == 1, result.stdout
        assert "AssertionError" in result.stderr, result.stderr


@pytest.mark.deep
def test_torchs_fused_adam(tmp_path: Path) -> None:
    """Silently wrong results on transposed parameters, and version counters that do not move."""
    report = audit("torch.optim:Adam", checks=["layouts", "version_counters_move"], max_examples=12, figures=False)
    found = entries(report, "fused")
    assert set(found) == {"layouts", "version_counters_move"}
    assert {entry.implementation for entry in report.failed} == {"fused"}
    assert "times the bound" in found["layouts"].reason
    for entry in found.values():
        assert entry.reproduction is not None
        assert run_alone(entry.reproduction, tmp_path).returncode == 1


@pytest.mark.parametrize("optimizer", [radam.RAdam, radam.Adam])
def test_radams_own_are_judged_by_exact_scalars(optimizer: type[torch.optim.Optimizer]) -> None:
    subject = resolved(optimizer)
    assert subject.scalars == "exact"
    assert subject.expected_failures == {}
    assert prepared(subject, CPU).missing("foreach") is None


@pytest.mark.parametrize("name", ["radam:RAdam", "radam:Adam", "radam.audit.subjects.exact:RADAM"])
def test_every_check_has_a_setting_for_radams_own(name: str) -> None:
    """Of checks that are never run nothing would be heard."""
    planned = plan(prepared(resolved(name), CPU), all_checks())
    carried_out = {each.check.name for each in planned if isinstance(each.setting, Setting)}
    assert carried_out == {check.name for check in all_checks()}
