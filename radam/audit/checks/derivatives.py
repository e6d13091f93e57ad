"""Autograd through a step."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import gradcheck

from radam.audit.checks.check import Group
from radam.audit.finding import Skipped
from radam.audit.run import Run, betas_of
from radam.audit.script import literal

derivatives = Group("Derivatives")

EARLIER = 4
"""Steps before those that are differentiated."""


@derivatives.check(needs=("differentiable",), examples=0.1, dtypes=(torch.float64,))
def check_derivatives_of_steps(run: Run) -> None:
    """With differentiable=True a parameter has right derivatives by itself before two steps, and by their gradients.

    They are the fifth step and the sixth, of which RAdam's is the first adaptive one.
    """
    options = _smooth(run)
    values = [literal(run.numbers((2,))) for _ in range(EARLIER + 3)]
    run.script.do(f"earlier = [{', '.join(values[:EARLIER])}]\ninputs = [{', '.join(values[EARLIER:])}]")
    built = run.built("[param]", {**options, "differentiable": True})
    run.script.do(
        "def stepped(param, *grads):\n"
        "    param = param.clone()\n"
        f"    optimizer = {built}\n"
        "    for grad in [*earlier, *grads]:\n"
        "        param.grad = grad\n"
        "        optimizer.step()\n"
        "    return param\n"
        "inputs = [value.requires_grad_() for value in inputs]"
    )
    _judge(run, "derivatives of two steps")


@derivatives.check(needs=("differentiable",), examples=0.1, dtypes=(torch.float64,))
def check_derivatives_by_the_learning_rate(run: Run) -> None:
    """With differentiable=True a parameter has right derivatives by a tensor lr, after two steps and after six."""
    options = _smooth(run)
    if "lr" not in options:
        raise Skipped("the subject draws no lr")
    values = [literal(run.numbers((2,))) for _ in range(EARLIER + 3)]
    run.script.do(
        f"start, *grads = [{', '.join(values)}]\ninputs = [torch.tensor(0.1, dtype=torch.float64, requires_grad=True)]"
    )
    recorded = False
    # A RAdam's first steps have lr in them, or none; its sixth always has.
    waits = (True, False) if "degenerated_to_sgd" in options else (None,)
    for wait in waits:
        own = options if wait is None else {**options, "degenerated_to_sgd": wait}
        built = run.built("[param]", {**own, "differentiable": True})
        for number in (2, EARLIER + 2):
            run.script.do(
                "def stepped(lr):\n"
                "    param = start.clone()\n"
                f"    optimizer = {built}\n"
                "    optimizer.param_groups[0]['lr'] = lr\n"
                f"    for grad in grads[:{number}]:\n"
                "        param.grad = grad\n"
                "        optimizer.step()\n"
                "    return param"
            )
            if run.script.value("stepped(*inputs)").requires_grad:
                recorded = True
                _judge(run, f"derivatives of {number} steps by lr")
            elif recorded and number > EARLIER:
                run.expect("stepped(*inputs).requires_grad", f"lr takes no part in the derivatives of {number} steps")
    if not recorded:
        raise Skipped("lr takes no part in what autograd records")


def _smooth(run: Run) -> dict[str, Any]:
    """Drawn options with which a step has derivatives of ordinary size."""
    options = run.hyperparameters()
    if isinstance(options.get("eps"), float):
        options["eps"] = max(options["eps"], 1e-3)
    if "betas" in options:
        options["betas"] = betas_of(options, 0.9, 0.99)
    if "lr" in options:
        options["lr"] = 0.1
    if options.get("amsgrad"):
        # The maximum has kinks.
        options["amsgrad"] = False
    run.options = options
    return options


def _judge(run: Run, what: str) -> None:
    try:
        right = gradcheck(run.script.names["stepped"], run.script.names["inputs"])
    except Exception as error:
        run.script.tell("torch.autograd.gradcheck(stepped, inputs)")
        lines = str(error).strip().splitlines()
        run.fail(f"{what}: {lines[0] if lines else type(error).__name__}")
    assert right
