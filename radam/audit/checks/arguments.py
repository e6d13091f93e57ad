"""What a constructor must refuse, and how it says so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch

from radam.audit.checks.check import Group
from radam.audit.finding import Skipped
from radam.audit.run import Run
from radam.audit.script import Name, expression

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


SOME_STEPS = 8
"""As many as there are before rectified optimizers adapt, and two more."""
COUNTS = (0, 1, 2, 3, 4, 10, -1)
NUMBERS = (0.0, 1.0, 0.5, 2.0, 3.0, 4.0, 10.0, 1e-12, -1.0)


def _numbers(run: Run) -> Iterator[tuple[str, Any]]:
    """Options of the constructor that are numbers, with others in their place."""
    for name, parameter in list(run.setting.capabilities.parameters.items())[1:]:
        usual = run.setting.capabilities.options.get(name, parameter.default)
        if isinstance(usual, int | float) and not isinstance(usual, bool):
            yield from ((name, value) for value in (COUNTS if isinstance(usual, int) else NUMBERS) if value != usual)


def _accepted(run: Run, options: dict[str, Any]) -> bool:
    """Whether the constructor takes options; if so they are a run's."""
    run.restart()
    try:
        run.make([torch.tensor([0.5, -2.0], dtype=run.dtype)], options)
    except Exception:
        return False
    return True


@arguments.check(examples=0.01)
def check_steps_can_be_taken_with_what_is_accepted(run: Run) -> None:
    """With each number that the constructor takes for an option, steps can be taken: what cannot be used is refused."""
    for name, value in _numbers(run):
        if not _accepted(run, {**run.setting.capabilities.options, name: value}):
            continue
        for _ in range(SOME_STEPS):
            run.give([torch.tensor([0.25, -1.0], dtype=run.dtype)])
            try:
                run.step()
            except Exception as error:
                run.fail(
                    f"{name}={value!r} is accepted, but step {run.steps + 1} raises {type(error).__name__}: {error}"
                )


@arguments.check(needs=("elementwise",), examples=0.01)
def check_an_infinite_lr_makes_no_nan(run: Run) -> None:
    """An infinite lr is refused, or a step without decay makes infinities of a parameter: no 0 times infinity."""
    options = run.setting.capabilities.options
    if "lr" not in options:
        raise Skipped("the constructor draws no lr")
    options = {**options, **dict.fromkeys(run.setting.capabilities.decays, 0.0), "lr": float("inf")}
    flipped = [{**options, name: not value} for name, value in options.items() if isinstance(value, bool)]
    for each in (options, *flipped):
        if _accepted(run, each):
            run.give([torch.tensor([0.25, -1.0], dtype=run.dtype)])
            run.step()
            run.expect("not params[0].isnan().any()", "lr=inf is accepted, but a step without decay makes NaN")


@arguments.check(examples=0.01)
def check_a_callers_dict_and_list_are_left_alone(run: Run) -> None:
    """A dict that the constructor takes for an option, and a list in place of a tuple, are not written to."""
    options = run.setting.capabilities.options
    for name in list(run.setting.capabilities.parameters)[1:]:
        usual = options.get(name)
        given: dict[Any, Any] | list[Any] = list(usual) if isinstance(usual, tuple) else {}
        run.restart()
        run.script.do(f"given = {given!r}")
        try:
            run.make([torch.tensor([0.5, -2.0], dtype=run.dtype)], {**options, name: Name("given")})
        except Exception:
            continue
        run.expect(f"given == {given!r}", f"the constructor has written to the {type(given).__name__} given as {name}")
