"""Every number of every step, against the oracle, over generated configurations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
import reference.rectification
from radam.audit import Lockstep, Subject
from radam.audit.strategies import Case, cases
from radam.audit.subjects.radam import BACKENDS, IMPLEMENTATIONS, Family
from tests.subject.driving import DECAY_KIND
from tests.subject.tally import TALLY

NEAR = 24
"""A first adaptive step up to here is walked to; a later one is jumped to."""

KINDS = {
    "float64": (torch.float64,),
    "float32": (torch.float32,),
    "half": (torch.bfloat16, torch.float16),
    "complex": (torch.complex64, torch.complex128),
}
"""Dtypes by the name of the capability that a subject declares; every subject has the first two."""


@pytest.fixture(params=KINDS, scope="session")
def dtypes(request: pytest.FixtureRequest, subject: Subject) -> tuple[torch.dtype, ...]:
    if subject.supports is not None and request.param not in {"float64", "float32", *subject.supports}:
        pytest.skip(f"the subject does not declare {request.param!r} among what it supports")
    if subject.oracle is None:
        pytest.skip("the subject has no oracle")
    return KINDS[request.param]


def first_adaptive_steps(case: Case) -> list[int | None]:
    """The first adaptive step of each group; None for groups that have none, or have nothing else."""
    return [
        reference.rectification.first_adaptive_step(options["betas"][1], options["threshold"])
        if "threshold" in options
        else None
        for options in case.options
    ]


def drive(subject: Subject, case: Case, device: torch.device, **more: Any) -> Lockstep:
    """Take the steps of a case in lock-step: 8 at least, and two beyond the first adaptive one of each group."""
    parameters = [[torch.nn.Parameter(param.detach().to(device)) for param in group] for group in case.parameters()]
    groups = [
        {"params": params, **{name: value for name, value in options.items() if name not in DECAY_KIND}}
        for params, options in zip(parameters, case.options, strict=True)
    ]
    constructor = {name: case.options[0][name] for name in DECAY_KIND if name in case.options[0]}
    assert subject.oracle is not None
    lockstep = Lockstep(
        subject.build(groups, {**constructor, **more}),
        list(case.options),
        subject.oracle,
        state=subject.state,
        scalars=subject.scalars,
        describe=f"{subject.name}({', '.join(map(str, case.options))})",
    )
    flat = [param for group in parameters for param in group]
    gradients = case.gradients(parameters)
    first = first_adaptive_steps(case)
    with lockstep.together():
        for step in range(max([8, *(t + 2 for t in first if t is not None and t <= NEAR)])):
            for param, gradient in zip(flat, next(gradients), strict=True):
                param.grad = gradient if gradient is None else gradient.to(device)
            lockstep.step()
            if step == 2:
                for params, t in zip(parameters, first, strict=True):
                    for param in params:
                        if t is not None and t > NEAR and lockstep.steps_of(param) > 0:
                            lockstep.jump(param, t - 3)
    TALLY.add(lockstep.record)
    return lockstep


@given(data=st.data())
def test_every_step(
    subject: Subject, family: Family, device: torch.device, dtypes: tuple[torch.dtype, ...], data: st.DataObject
) -> None:
    drive(subject, data.draw(cases(subject.hyperparameters, dtypes), label="case"), device)


@pytest.mark.parametrize(
    "implementation",
    [pytest.param(name, marks=pytest.mark.deep if name in BACKENDS else ()) for name in IMPLEMENTATIONS],
)
@given(data=st.data())
@settings(max_examples=max(1, settings().max_examples // 6))
def test_every_step_of_each_implementation(
    subject: Subject,
    family: Family,
    device: torch.device,
    dtypes: tuple[torch.dtype, ...],
    implementation: str,
    data: st.DataObject,
) -> None:
    if implementation not in family.implementations():
        pytest.skip(f"the constructor does not take {', '.join(IMPLEMENTATIONS[implementation])}")
    own = replace(subject, build=replace(family, implementation=implementation).build)
    drive(own, data.draw(cases(subject.hyperparameters, dtypes), label="case"), device)


def is_ordinary(options: dict[str, Any]) -> bool:
    """Whether textbook scalars are well conditioned on every step, and no number leaves the range of its dtype.

    Large steps and large decay together diverge, which float16 does not hold for long.
    """
    _, beta2 = options["betas"]
    conditioned = beta2 <= 1 - 1e-4 and abs(beta2 - 0.6) > 1e-6
    # rho_t grows: where its neighbours of the threshold, or the limit below it, are too close, textbook scalars may
    # fall on either side.
    first = reference.rectification.first_adaptive_step(beta2, options["threshold"])
    oracle = reference.RAdam(betas=options["betas"], threshold=options["threshold"])
    closest = (10**6,) if first is None else (max(1, first - 1), first)
    decided = all(oracle.scalar_error(t, "textbook").decided for t in closest)
    return bool(
        conditioned and decided and options["eps"] >= 1e-12 and options["lr"] <= 0.1 and options["weight_decay"] <= 1
    )


@given(data=st.data())
@settings(max_examples=max(1, settings().max_examples // 3))
def test_nothing_ordinary_is_left_out(
    subject: Subject, family: Family, device: torch.device, dtypes: tuple[torch.dtype, ...], data: st.DataObject
) -> None:
    options = subject.hyperparameters.filter(is_ordinary)
    record = drive(subject, data.draw(cases(options, dtypes, ordinary=True), label="case"), device).record
    assert record.unjudged == 0, f"{record.unjudged} of {record.unjudged + record.judged} values have no bound"
