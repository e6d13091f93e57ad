"""Which options decay parameters: known by name, or found by what they do where gradients are zero."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from radam.audit import audit
from radam.audit.auditing import resolved
from radam.audit.capabilities import Capabilities
from radam.audit.decays import decays_among

CPU = torch.device("cpu")


class Shrinks(torch.optim.SGD):
    """SGD with a decoupled decay of an unusual name that is on by default, and another option of no known meaning."""

    def __init__(self, params: Any, lr: float = 0.1, shrinkage: float = 0.01, warmth: float = 3.0) -> None:
        super().__init__(params, lr=lr)
        for group in self.param_groups:
            group.update({"shrinkage": shrinkage, "warmth": warmth})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None and group["shrinkage"]:
                    param.mul_(1 - group["lr"] * group["shrinkage"])
        return super().step(closure)


class Drifts(Shrinks):
    """One that moves whatever the gradient, and whatever the options."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    param.add_(1e-3)
        return super().step(closure)


def build(cls: type[torch.optim.Optimizer]) -> Any:
    return lambda params, options: cls(params, **options)


@pytest.mark.parametrize(
    ("optimizer", "values", "expected"),
    [
        (torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.0, "eps": 1e-8}, ("weight_decay",)),
        (torch.optim.ASGD, {"lambd": 1e-4, "alpha": 0.75, "t0": 1e6}, ("lambd",)),
        (Shrinks, {"lr": 0.1, "shrinkage": 0.01, "warmth": 3.0}, ("shrinkage",)),
        (Shrinks, {"shrinkage": 0.0, "warmth": 3.0}, ()),
        (Drifts, {"lr": 0.1, "shrinkage": 0.01, "warmth": 3.0}, ()),
        (torch.optim.Adam, {"betas": (0.9, 0.999), "foreach": None, "amsgrad": True}, ()),
    ],
)
def test_what_decays(optimizer: Any, values: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert decays_among(build(optimizer), {}, values) == expected


def test_a_step_that_raises_tells_nothing() -> None:
    class Raises(Shrinks):
        def step(self, closure: Any = None) -> Any:
            if not self.param_groups[0]["shrinkage"]:
                raise ZeroDivisionError
            return super().step(closure)

    assert decays_among(build(Raises), {}, {"shrinkage": 0.01}) == ()


class ShrinksAtARate(Shrinks):
    """One that must be told its learning rate."""

    def __init__(self, params: Any, lr: float, shrinkage: float = 0.01) -> None:
        super().__init__(params, lr, shrinkage)


def test_a_decay_of_a_class_without_a_default_learning_rate() -> None:
    assert Capabilities(resolved(ShrinksAtARate), CPU).decays == ("shrinkage",)


def test_a_class_with_a_decay_of_another_name() -> None:
    """It is drawn like any decay, and left out where nothing but a gradient may move a parameter; a drift is found."""
    capabilities = Capabilities(resolved(Shrinks), CPU)
    assert capabilities.decays == ("shrinkage",)
    assert "warmth" not in capabilities.options
    names = ["zero_gradients_leave_a_parameter_alone", "an_infinite_lr_makes_no_nan"]
    assert not audit(resolved(Shrinks), checks=names, max_examples=4, figures=False).failed
    report = audit(resolved(Drifts), checks=names, max_examples=4, figures=False)
    assert {entry.check for entry in report.failed} == {"zero_gradients_leave_a_parameter_alone"}
