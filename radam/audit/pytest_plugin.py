"""pytest options that point a suite at an optimizer.

Load it from a conftest: `pytest_plugins = ["radam.audit.pytest_plugin"]`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from radam.audit.auditing import MAX_EXAMPLES, chosen
from radam.audit.parametrizing import CONFIGURED, parameters
from radam.audit.subject import Subject
from radam.audit.subjects.finding import OWN, find
from radam.audit.subjects.radam import IMPLEMENTATIONS, Family

_SUBJECT = pytest.StashKey[Subject]()
_FAMILY = pytest.StashKey["Family | None"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Define --subject, --checks, --max-examples, --implementation and --device."""
    group = parser.getgroup("optimizer audit")
    group.addoption(
        "--subject",
        metavar="MODULE:NAME",
        help="verify this optimizer class or Subject instead of radam's RAdam; "
        "tests that do not use the subject are deselected",
    )
    group.addoption(
        "--checks",
        action="append",
        metavar="PATTERN",
        help="of the checks of radam.audit run those alone whose names match, as of a shell; may be given again",
    )
    group.addoption(
        "--max-examples",
        type=int,
        metavar="N",
        help="how many configurations a check of radam.audit draws",
    )
    group.addoption(
        "--implementation",
        choices=sorted(IMPLEMENTATIONS),
        help="ask the optimizer for this way to run its steps, wherever a test does not ask for another",
    )
    group.addoption("--device", default="cpu", help="the device of parameters and gradients (default: cpu)")


def pytest_configure(config: pytest.Config) -> None:
    """Find the subject and the device; what cannot be found is a usage error."""
    try:
        torch.empty(0, device=config.getoption("--device"))
    except Exception as error:
        raise pytest.UsageError(f"--device {config.getoption('--device')}: {error}") from None
    CONFIGURED.device = config.getoption("--device")
    CONFIGURED.checks = config.getoption("--checks")
    CONFIGURED.max_examples = config.getoption("--max-examples") or MAX_EXAMPLES
    if CONFIGURED.max_examples < 1:
        raise pytest.UsageError(f"--max-examples must be at least 1, but is {CONFIGURED.max_examples}")
    try:
        chosen(CONFIGURED.checks)
    except ValueError as error:
        raise pytest.UsageError(f"--checks: {error}") from None
    if config.getoption("--subject"):
        # A warning of somebody else's optimizer is no finding, whatever a suite makes of its own.
        config.addinivalue_line("filterwarnings", "default")
    try:
        subject, family = find(config.getoption("--subject") or OWN)
    except ValueError as error:
        raise pytest.UsageError(f"--subject {error}") from None
    implementation = config.getoption("--implementation")
    if implementation:
        if family is None:
            raise pytest.UsageError(
                f"--implementation {implementation} asks for a class, but {subject.name} is a Subject"
            )
        family = replace(family, implementation=implementation)
        subject = replace(subject, build=family.build)
    config.stash[_SUBJECT], config.stash[_FAMILY] = subject, family


def has_radams_constructor(config: pytest.Config) -> bool:
    """Whether the subject is a class with RAdam's constructor."""
    return config.stash[_FAMILY] is not None


def pytest_report_header(config: pytest.Config) -> str:
    """Say what is verified."""
    implementation = config.getoption("--implementation") or "its own choice"
    return (
        f"subject: {config.stash[_SUBJECT].name}, implementation: {implementation}, "
        f"device: {config.getoption('--device')}, torch {torch.__version__}"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of `check` is one for each check of the subject."""
    if "check" in metafunc.fixturenames and not list(metafunc.definition.iter_markers("parametrize")):
        own = metafunc.config.stash[_SUBJECT]
        metafunc.parametrize(
            "check",
            [
                pytest.param(bound, id=f"{own.name}-{bound.check.name}", marks=parameter.marks)
                for parameter in parameters([own], CONFIGURED.checks)
                for bound in parameter.values[1:]
            ],
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --subject or --implementation, keep the tests that use the subject."""
    if not (config.getoption("--subject") or config.getoption("--implementation")):
        return
    using = [item for item in items if {"subject", "family"} & set(getattr(item, "fixturenames", ()))]
    config.hook.pytest_deselected(items=[item for item in items if item not in using])
    items[:] = using


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> Subject:
    """The optimizer to verify."""
    return request.config.stash[_SUBJECT]


@pytest.fixture(scope="session")
def family(request: pytest.FixtureRequest) -> Family:
    """The class to verify, with the decay class that belongs to it."""
    family = request.config.stash[_FAMILY]
    if family is None:
        pytest.skip("asks for a class with RAdam's constructor, but the subject is described by a Subject")
    return family


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device of parameters and gradients."""
    return torch.device(request.config.getoption("--device"))
