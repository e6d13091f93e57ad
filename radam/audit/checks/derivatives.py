"""Autograd through a step."""

from __future__ import annotations

import torch
from torch.autograd import gradcheck

from radam.audit.checks.check import Group
from radam.audit.run import Run
from radam.audit.script import literal

derivatives = Group("Derivatives")

EARLIER = 4
"""Steps before those that are differentiated."""


@derivatives.check(needs=("differentiable",), examples=0.1, dtypes=(torch.float64,))
def check_derivatives_of_steps(run: Run) -> None:
    """With differentiable=True a parameter has right derivatives by itself before two steps, and by their gradients.

    They are the fifth step and the sixth, of which RAdam's is the first adaptive one.
    """
    options = run.hyperparameters()
    if isinstance(options.get("eps"), float):
        options["eps"] = max(options["eps"], 1e-3)
    if "betas" in options:
        options["betas"] = (0.9, 0.99)
    if "lr" in options:
        options["lr"] = 0.1
    if options.get("amsgrad"):
        # The maximum has kinks.
        options["amsgrad"] = False
    run.options = options
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
    try:
        right = gradcheck(run.script.names["stepped"], run.script.names["inputs"])
    except Exception as error:
        run.script.tell("torch.autograd.gradcheck(stepped, inputs)")
        lines = str(error).strip().splitlines()
        run.fail(f"derivatives of two steps: {lines[0] if lines else type(error).__name__}")
    assert right
