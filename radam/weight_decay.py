"""Weight decay, decoupled from the gradient or as L2 regularisation, and the protocol of any replacement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch

from radam import options
from radam.schedule import plain_lr

Tensors = list[torch.Tensor] | tuple[torch.Tensor, ...]


@runtime_checkable
class WeightDecayFunction(Protocol):
    """What an optimizer takes as `weight_decay`: it sees each parameter and gradient before the moments do."""

    def defaults(self) -> dict[str, Any]:
        """The numbers that belong into the parameter groups."""

    def __call__(self, param: torch.Tensor, grad: torch.Tensor, group: Mapping[str, Any]) -> torch.Tensor:
        """Return the gradient to use; may change `param` in place, never `grad`."""


class WeightDecay:
    r"""Shrink parameters towards zero.

    .. math::
        \text{decoupled:}\quad p \leftarrow (1 - \alpha\lambda)\, p, \qquad
        \text{absolute:}\quad p \leftarrow (1 - \lambda)\, p, \qquad
        \text{L2:}\quad g' = g + \lambda p

    A coefficient of 0 touches nothing, and at a learning rate of 0 no parameter is changed.

    Args:
        weight_decay: coefficient lambda, finite and at least 0.
        weight_decouple: decay the parameter itself; otherwise add lambda * p to the gradient.
        absolute: decoupled decay does not scale with the learning rate.

    Raises:
        ValueError: `weight_decay` is negative, infinite or NaN.
        TypeError: an argument has another type.

    Example:
        >>> import torch
        >>> p, g = torch.tensor([2.0]), torch.tensor([1.0])
        >>> WeightDecay(0.5)(p, g, {"lr": 0.1}), p
        (tensor([1.]), tensor([1.9000]))
        >>> WeightDecay(0.5, weight_decouple=False)(p, g, {"lr": 0.1})
        tensor([1.9500])

    References:
        Loshchilov & Hutter, Decoupled Weight Decay Regularization, arXiv 1711.05101, Algorithm 2.
    """

    def __init__(self, weight_decay: float = 0.0, weight_decouple: bool = True, absolute: bool = False) -> None:
        self.weight_decay = options.non_negative("weight_decay", weight_decay)
        self.weight_decouple = options.flag("weight_decouple", weight_decouple)
        self.absolute = options.flag("absolute", absolute)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.weight_decay}, {self.weight_decouple}, {self.absolute})"

    def defaults(self) -> dict[str, Any]:
        """The numbers that belong into the parameter groups."""
        return {
            "weight_decay": self.weight_decay,
            "weight_decouple": self.weight_decouple,
            "absolute": self.absolute,
        }

    def __call__(self, param: torch.Tensor, grad: torch.Tensor, group: Mapping[str, Any]) -> torch.Tensor:
        """Decay one parameter; return its gradient, or a new tensor with the L2 term added."""
        coefficient, factor = self._coefficient(group), self._factor(group)
        if coefficient == 0:
            return grad
        if factor is None:
            return param.mul(coefficient).add_(grad)
        if _changes(factor):
            param.mul_(factor)
        return grad

    def foreach(self, params: Tensors, grads: Tensors, group: Mapping[str, Any]) -> Tensors:
        """The same for lists of tensors, in a few calls."""
        coefficient, factor = self._coefficient(group), self._factor(group)
        if coefficient == 0:
            return grads
        if factor is None:
            decayed = torch._foreach_mul(params, coefficient)
            torch._foreach_add_(decayed, grads)
            return decayed
        if _changes(factor):
            torch._foreach_mul_(params, factor)
        return grads

    def _coefficient(self, group: Mapping[str, Any]) -> float:
        coefficient: float = group.get("weight_decay", self.weight_decay)
        return coefficient

    def _factor(self, group: Mapping[str, Any]) -> float | torch.Tensor | None:
        """What decoupled decay multiplies the parameter by; None for L2."""
        if not group.get("weight_decouple", self.weight_decouple):
            return None
        lr = plain_lr(group["lr"])
        if not isinstance(lr, torch.Tensor) and lr == 0:
            return 1.0
        if group.get("absolute", self.absolute):
            return 1.0 - self._coefficient(group)
        return 1.0 - lr * self._coefficient(group)


def _changes(factor: float | torch.Tensor) -> bool:
    return isinstance(factor, torch.Tensor) or factor != 1.0
