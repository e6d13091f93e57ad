"""What a constructor must refuse, and how it says so."""

from __future__ import annotations

import re
from typing import Any

import torch

from radam.audit.checks.check import Group
from radam.audit.finding import Skipped
from radam.audit.run import Run
from radam.audit.script import expression

arguments = Group("Arguments")

BARELY = 1e-12
"""How far outside of a range nothing may be excused as a rounding."""
BAD: dict[str, tuple[Any, ...]] = {
    "lr": (-1.0, -BARELY, float("nan")),
    "eps": (-1.0, -BARELY, float("nan")),
    "betas": (
        *((1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (0.9, -0.1), (-BARELY, 0.9), (0.9, -BARELY)),
        *((float("nan"), 0.9), (0.9, float("nan"))),
    ),
    "weight_decay": (-1.0, -BARELY, float("nan")),
}
"""Values just outside the range of each hyper-parameter."""
NAMES = {
    "lr": r"\blr\b|learning.?rate",
    "eps": r"\beps",
    "betas": r"beta",
    "weight_decay": r"weight.?decay|lambda",
}
"""How a message may call it."""


def _refused(run: Run, name: str, *more: Any) -> None:
    if name not in run.setting.capabilities.options or name not in run.setting.capabilities.parameters:
        raise Skipped(f"the constructor draws no {name}")
    bad = BAD[name]
    betas = run.setting.capabilities.options[name] if name == "betas" else ()
    if len(betas) > 2:
        # What 1 means there is not known.
        numbers = (-0.1, -BARELY, float("nan"))
        bad = tuple((*betas[:i], number, *betas[i + 1 :]) for i in range(len(betas)) for number in numbers)
    for value in (*bad, *more):
        options = {**run.setting.capabilities.options, name: value}
        run.restart()
        run.options = options
        try:
            run.make(options=options)
        except ValueError as error:
            if not re.search(NAMES[name], str(error), re.IGNORECASE) and not isinstance(value, torch.Tensor):
                run.fail(f"{name}={expression(value)} is refused by {str(error)!r}, but the message should name {name}")
        except Exception as error:
            if isinstance(value, torch.Tensor):
                continue  # comparing two numbers at once raises by itself, and that will do
            run.fail(f"{name}={expression(value)} is refused by {type(error).__name__}, but should be by a ValueError")
        else:
            run.script.tell(f"raise AssertionError({f'{name}={expression(value)} was accepted'!r})")
            run.fail(f"{name}={expression(value)} is accepted, but should be refused by a ValueError that names {name}")


@arguments.check(examples=0.01)
def check_bad_lr_is_refused(run: Run) -> None:
    """A negative lr and NaN are refused by a ValueError that names it, and tensors of NaN or of two somehow."""
    tensors = [torch.tensor(float("nan")), torch.tensor([0.1, 0.2])]
    _refused(run, "lr", *(tensors if run.setting.capabilities.has("tensor_lr") else []))


@arguments.check(examples=0.01)
def check_bad_eps_is_refused(run: Run) -> None:
    """A negative eps and NaN are refused by a ValueError that names it."""
    _refused(run, "eps")


@arguments.check(examples=0.01)
def check_bad_betas_are_refused(run: Run) -> None:
    """Betas below 0, of 1 and NaN are refused by a ValueError that names them."""
    _refused(run, "betas")


@arguments.check(examples=0.01)
def check_bad_weight_decay_is_refused(run: Run) -> None:
    """A negative weight_decay and NaN are refused by a ValueError that names it."""
    _refused(run, "weight_decay")


@arguments.check(examples=0.01)
def check_bad_parameters_are_refused(run: Run) -> None:
    """No parameters, a bare tensor, a parameter in two groups and a tensor that has a graph are refused."""
    options = run.setting.capabilities.options
    cases = {
        "no parameters": ("[]", (ValueError,)),
        "a tensor in place of a list": ("torch.nn.Parameter(torch.zeros(2))", (TypeError,)),
        "a parameter in two groups": ("[{'params': [shared]}, {'params': [shared]}]", (ValueError,)),
        "a tensor that is no leaf": ("[shared * 2]", (ValueError,)),
        "a number for a parameter": ("[1.0]", (TypeError,)),
    }
    for what, (params, kinds) in cases.items():
        run.restart()
        run.script.do("shared = torch.nn.Parameter(torch.zeros(2))")
        try:
            run.make(params=params, options=options)
        except kinds:
            continue
        except Exception as error:
            run.fail(f"{what}: refused by {type(error).__name__}, but should be by a {kinds[0].__name__}")
        run.script.tell(f"raise AssertionError({f'{what} was accepted'!r})")
        run.fail(f"{what}: accepted, but should be refused by a {kinds[0].__name__}")
