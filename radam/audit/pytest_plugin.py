"""pytest options that point a suite at an optimizer.

Load it from a conftest: `pytest_plugins = ["radam.audit.pytest_plugin"]`.
"""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

from radam.audit.subject import Subject
from radam.audit.subjects import radam as radam_subjects
from radam.audit.subjects.radam import Family

_SUBJECT = pytest.StashKey[Subject]()
_FAMILY = pytest.StashKey["Family | None"]()

OWN = "radam:RAdam"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Define --subject and --device."""
    group = parser.getgroup("optimizer audit")
    group.addoption(
        "--subject",
        metavar="MODULE:NAME",
        help="verify this optimizer class or Subject instead of radam's RAdam; "
        "tests that do not use the subject are deselected",
    )
    group.addoption("--device", default="cpu", help="the device of parameters and gradients (default: cpu)")


def pytest_configure(config: pytest.Config) -> None:
    """Find the subject and the device; what cannot be found is a usage error."""
    try:
        torch.empty(0, device=config.getoption("--device"))
    except Exception as error:
        raise pytest.UsageError(f"--device {config.getoption('--device')}: {error}") from None
    subject, family = load(config.getoption("--subject") or OWN)
    config.stash[_SUBJECT], config.stash[_FAMILY] = subject, family


def load(specification: str) -> tuple[Subject, Family | None]:
    """The Subject that MODULE:NAME stands for, with its class where it is one.

    Raises:
        pytest.UsageError: it does not name an optimizer class or a Subject; says why.
    """
    module, separator, name = specification.partition(":")
    if not (module and separator and name):
        raise pytest.UsageError(f"--subject must be MODULE:NAME, but is {specification!r}")
    try:
        value: Any = importlib.import_module(module)
        for part in name.split("."):
            value = getattr(value, part)
    except Exception as error:
        raise pytest.UsageError(f"--subject {specification}: {type(error).__name__}: {error}") from None
    if isinstance(value, Subject):
        return value, None
    if not (isinstance(value, type) and issubclass(value, torch.optim.Optimizer)):
        raise pytest.UsageError(f"--subject {specification} is neither an optimizer class nor a Subject: {value!r}")
    if specification == OWN:
        return radam_subjects.radam_subject(), radam_subjects.family(value)
    if not radam_subjects.takes_radams_constructor(value):
        raise pytest.UsageError(
            f"--subject {specification} does not take RAdam's constructor: describe it by a radam.audit.Subject"
        )
    return radam_subjects.from_class(value, module), radam_subjects.family(value, module)


def pytest_report_header(config: pytest.Config) -> str:
    """Say what is verified."""
    return f"subject: {config.stash[_SUBJECT].name}, device: {config.getoption('--device')}, torch {torch.__version__}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --subject, keep the tests that use it."""
    if not config.getoption("--subject"):
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
