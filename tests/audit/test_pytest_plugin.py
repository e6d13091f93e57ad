"""`pytest --subject MODULE:NAME`: what is verified, what is deselected, and which exit status follows."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from radam.audit.checks import all_checks

pytest_plugins = ["pytester"]

# A run in this process forgets what it was the first to import, and torch cannot import all twice.
for module in ("torch._dynamo", "torch._inductor.test_operators"):
    importlib.import_module(module)

ROOT = Path(__file__).parents[2]
SUITE = """
import torch

def test_that_uses_the_subject(subject, device):
    param = torch.nn.Parameter(torch.ones(2, device=device))
    optimizer = subject.build([param], {"lr": 0.5})
    param.grad = torch.ones(2, device=device)
    optimizer.step()
    print("verified", subject.name)
    assert param.tolist() == [0.5, 0.5]

def test_that_uses_the_family(family):
    print("decays by", family.weight_decay.__module__)

def test_that_uses_neither():
    pass
"""
OPTIMIZERS = """
import torch
import radam
from hypothesis import strategies
from radam.audit import Subject

NOT_AN_OPTIMIZER = 5

class Right(radam.RAdam):
    pass

class Outer:
    class Nested(radam.RAdam):
        pass

class Wrong(radam.RAdam):
    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for param in group["params"]:
                param.data.mul_(2)

class RaisesInItsConstructor(radam.RAdam):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-16, weight_decay=None, optimized_update=True,
                 amsgrad=False, degenerated_to_sgd=True, defaults=None):
        raise RuntimeError("no constructor today")

class RaisesInItsStep(radam.RAdam):
    def step(self, closure=None):
        raise RuntimeError("no step today")

class ExitsInItsStep(radam.RAdam):
    def step(self, closure=None):
        import pytest
        raise pytest.UsageError("a wrong usage of mine")

class OtherConstructor(torch.optim.SGD):
    pass

class Demanding(torch.optim.Optimizer):
    def __init__(self, params, temperature):
        super().__init__(params, {"temperature": temperature})

class WrongGroups(torch.optim.SGD):
    def step(self, closure=None):
        for group in self.param_groups:
            group["lr"] = self.param_groups[0]["lr"]
        return super().step(closure)

described = Subject("described", lambda params, options: radam.RAdam(params, **options), strategies.just({}))
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """A suite of three tests, and a module of optimizers."""
    pytester.makeconftest('pytest_plugins = ["radam.audit.pytest_plugin"]')
    pytester.makepyfile(test_suite=SUITE)
    pytester.makepyfile(optimizers_under_test=OPTIMIZERS)
    pytester.syspathinsert()
    return pytester


def run(suite: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return suite.runpytest_inprocess("-s", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *arguments)


def run_apart(suite: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """In a process of its own: torch.compile imports more than can be told."""
    return suite.runpytest_subprocess("-s", "-p", "no:cacheprovider", *arguments)


def test_without_the_option_radams_own_is_verified_and_all_tests_run(suite: pytest.Pytester) -> None:
    result = run(suite)
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        ["*subject: radam:RAdam, implementation: its own choice, device: cpu, torch *", "*verified radam:RAdam*"]
    )


@pytest.mark.parametrize("name", ["Right", "Outer.Nested"])
def test_a_class(suite: pytest.Pytester, name: str) -> None:
    result = run(suite, "--subject", f"optimizers_under_test:{name}")
    result.assert_outcomes(passed=2, deselected=1)
    result.stdout.fnmatch_lines([f"*subject: optimizers_under_test:{name}*", "*decays by radam.weight_decay*"])
    assert result.ret == pytest.ExitCode.OK


def test_a_subject(suite: pytest.Pytester) -> None:
    """What needs a class is skipped with its reason."""
    result = run(suite, "--subject", "optimizers_under_test:described", "-rs")
    result.assert_outcomes(passed=1, skipped=1, deselected=1)
    result.stdout.fnmatch_lines(["*verified described*", "*SKIPPED*the subject is described by a Subject*"])


@pytest.mark.deep
def test_a_class_with_another_constructor(suite: pytest.Pytester) -> None:
    """Its Subject is made from what its constructor takes; what needs RAdam's constructor is skipped."""
    result = run_apart(suite, "--subject", "optimizers_under_test:OtherConstructor", "-rs")
    result.assert_outcomes(passed=1, skipped=1, deselected=1)
    result.stdout.fnmatch_lines(["*SKIPPED*asks for a class with RAdam's constructor*"])


CHECKS = """
def test_check(subject, check):
    check(subject)
"""
PARAMETRIZED = """
import torch
from dataclasses import replace
from radam.audit import Subject, parametrize_with_checks
from radam.audit.auditing import resolved
from optimizers_under_test import OtherConstructor, WrongGroups

few = ["groups_are_separate_optimizers", "repr", "every_step"]
groups = "groups_are_separate_optimizers"
expected = replace(resolved(WrongGroups), name="expected", expected_failures={groups: "known"})
stale = replace(resolved(OtherConstructor), name="stale", expected_failures={groups: "mended since"})

@parametrize_with_checks([WrongGroups, "optimizers_under_test:OtherConstructor", expected, stale], checks=few)
def test_mine(subject, check):
    check(subject)
"""


@pytest.mark.deep
def test_one_test_for_each_check_of_the_subject(suite: pytest.Pytester) -> None:
    """By --checks, or by -k; a finding is a failed test with what was seen and a script."""
    suite.makepyfile(test_checks=CHECKS)
    subject = ("--subject", "optimizers_under_test:WrongGroups", "test_checks.py", "--max-examples", "20")
    result = run_apart(suite, *subject, "--checks", "repr", "--checks", "groups_*", "-v")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*test_check?optimizers_under_test:WrongGroups-groups_are_separate_optimizers? FAILED*",
            "*test_check?optimizers_under_test:WrongGroups-repr? PASSED*",
            "*an optimizer for each group: *, but should be * times the bound*",
            "*from optimizers_under_test import WrongGroups*",
        ]
    )
    result = run_apart(suite, *subject, "-k", "repr or hooks")
    result.assert_outcomes(passed=2, deselected=len(all_checks()) - 2)


@pytest.mark.deep
def test_checks_by_decorator(suite: pytest.Pytester) -> None:
    """One test for each subject and check; expected failures are strict, and a check that does not apply is skipped."""
    suite.makepyfile(test_mine=PARAMETRIZED)
    result = run_apart(suite, "test_mine.py", "--max-examples", "20", "-rsxX", "-v")
    # Of four subjects: repr passes; every_step is skipped; groups fail, pass, fail as expected and pass unexpectedly.
    result.assert_outcomes(passed=5, skipped=4, failed=2, xfailed=1)
    result.stdout.fnmatch_lines(
        [
            "*test_mine?stale-groups_are_separate_optimizers? FAILED*",
            "*SKIPPED*needs an oracle*",
            "*XFAIL*expected-groups_are_separate_optimizers*known*",
        ]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--checks", "no_such"), "*--checks: no check is called 'no_such'*"),
        (("--max-examples", "-1"), "*--max-examples must be at least 1, but is -1*"),
    ],
)
def test_wrong_options_of_checks_are_usage_errors(
    suite: pytest.Pytester, arguments: tuple[str, ...], message: str
) -> None:
    result = run(suite, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])


def test_the_decay_class_of_the_subjects_own_module(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        own_decay="""
        import radam
        class WeightDecay(radam.WeightDecay):
            pass
        class Own(radam.RAdam):
            pass
        """
    )
    run(suite, "--subject", "own_decay:Own").stdout.fnmatch_lines(["*decays by own_decay*"])


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ("no_such_module:RAdam", "*--subject no_such_module:RAdam: *No module named 'no_such_module'*"),
        ("optimizers_under_test:Missing", "*--subject optimizers_under_test:Missing: *no attribute 'Missing'*"),
        ("optimizers_under_test:NOT_AN_OPTIMIZER", "*neither an optimizer class nor a Subject: 5*"),
        ("optimizers_under_test:Right.step", "*neither an optimizer class nor a Subject*"),
        ("optimizers_under_test:Demanding", "*Demanding asks for 'temperature'*describe the optimizer by a*Subject*"),
        ("optimizers_under_test", "*must be MODULE:NAME, but is 'optimizers_under_test'*"),
        (":Right", "*must be MODULE:NAME, but is ':Right'*"),
        ("optimizers_under_test:", "*must be MODULE:NAME*"),
    ],
)
def test_what_is_no_subject_is_a_usage_error(suite: pytest.Pytester, specification: str, message: str) -> None:
    result = run(suite, "--subject", specification)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])


@pytest.mark.parametrize("content", ["1 / 0", "this is no Python"])
def test_a_module_that_cannot_be_imported_is_a_usage_error(suite: pytest.Pytester, content: str) -> None:
    suite.path.joinpath("broken_module.py").write_text(content, encoding="utf-8")
    result = run(suite, "--subject", "broken_module:RAdam")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *--subject broken_module:RAdam: *"])


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", ""])
def test_an_unknown_device_is_a_usage_error(suite: pytest.Pytester, device: str) -> None:
    result = run(suite, f"--device={device}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *--device {device}*: *"])


@pytest.mark.parametrize("name", ["RaisesInItsConstructor", "RaisesInItsStep", "ExitsInItsStep", "Wrong"])
def test_whatever_a_subject_does_is_a_failed_test(suite: pytest.Pytester, name: str) -> None:
    result = run(suite, "--subject", f"optimizers_under_test:{name}", "-k", "subject")
    result.assert_outcomes(failed=1, deselected=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.deep
def test_the_real_suite_fails_by_a_subject_that_raises(tmp_path: Path) -> None:
    tmp_path.joinpath("optimizers_under_test.py").write_text(OPTIMIZERS, encoding="utf-8")
    result = subprocess.run(
        [
            *(sys.executable, "-c", "import sys, pytest; sys.path.insert(0, sys.argv.pop(1)); sys.exit(pytest.main())"),
            *(str(tmp_path), "-q", "-x", "-p", "no:cacheprovider", "--tb=line", "--hypothesis-profile=find"),
            *("--subject", "optimizers_under_test:RaisesInItsStep", "tests/subject/test_numbers.py"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == pytest.ExitCode.TESTS_FAILED, result.stdout + result.stderr
    assert "1 failed" in result.stdout
    assert "today" in result.stdout
