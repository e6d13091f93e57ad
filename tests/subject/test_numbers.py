"""Every number of every step, against the oracle, over generated configurations."""

from __future__ import annotations

from typing import Any

import reference.rectification
import torch
from hypothesis import given
from hypothesis import strategies as st

from radam.audit import Lockstep, Subject
from radam.audit.strategies import Case, cases

BOUNDARY_LIMIT = 24
"""Sequences follow a configuration across its first adaptive step where that comes within so many steps."""


def steps_across_boundary(case: Case) -> int:
    """How many steps take every group of the case at least two steps beyond its first adaptive one, 8 at least."""
    first = [
        reference.rectification.first_adaptive_step(options["betas"][1], options["threshold"])
        for options in case.options
        if "threshold" in options
    ]
    return max([8, *(t + 2 for t in first if t is not None and t <= BOUNDARY_LIMIT)])


def drive(subject: Subject, case: Case, steps: int, device: torch.device, **more: Any) -> Lockstep:
    """Take the steps of a case in lock-step."""
    parameters = case.parameters()
    groups = [
        {"params": params, **{name: value for name, value in options.items() if name not in ("weight_decouple", "absolute")}}
        for params, options in zip(parameters, case.options, strict=True)
    ]
    shared = {name: case.options[0][name] for name in ("weight_decouple", "absolute")}
    optimizer = subject.build(groups, shared, **more)
    assert subject.oracle is not None
    lockstep = Lockstep(
        optimizer,
        list(case.options),
        subject.oracle,
        state=subject.state,
        scalars=subject.scalars,
        describe=f"{subject.name}({', '.join(map(str, case.options))})",
    )
    flat = [param for group in parameters for param in group]
    gradients = case.gradients(parameters)
    for _ in range(steps):
        for param, gradient in zip(flat, next(gradients), strict=True):
            param.grad = gradient
        lockstep.step()
    return lockstep


@given(data=st.data())
def test_every_step(subject: Subject, device: torch.device, data: st.DataObject) -> None:
    case = data.draw(cases(subject.hyperparameters), label="case")
    drive(subject, case, steps_across_boundary(case), device)
