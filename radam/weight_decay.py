"""Weight decay, decoupled from the gradient or as L2 regularisation, and the protocol of any replacement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch

from radam import options
from radam.schedule import plain_lr


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
        factor, coefficient = self.terms(group, plain_lr(group["lr"]))
        if coefficient:
            return param.mul(coefficient).add_(grad)
        if changes(factor):
            param.mul_(factor)
        return grad

    def terms(self, group: Mapping[str, Any], lr: float | torch.Tensor) -> tuple[float | torch.Tensor, float]:
        """What the parameter is multiplied by, 1 where it stays, and the coefficient of the L2 term, 0 without one.

        Args:
            group: coefficient and kind, else the object's own.
            lr: the group's learning rate, a number or a 0-dim float64 tensor; a factor that depends on it is a tensor
                as well then.
        """
        coefficient: float = group.get("weight_decay", self.weight_decay)
        if coefficient == 0:
            return 1.0, 0.0
        if not group.get("weight_decouple", self.weight_decouple):
            return 1.0, coefficient
        if not group.get("absolute", self.absolute):
            return 1.0 - lr * coefficient, 0.0
        if isinstance(lr, torch.Tensor):
            return torch.where(lr == 0, torch.ones_like(lr), torch.full_like(lr, 1.0 - coefficient)), 0.0
        return (1.0 if lr == 0 else 1.0 - coefficient), 0.0


def changes(factor: float | torch.Tensor) -> bool:
    """Whether multiplying by the factor may change something; a tensor is not read."""
    return isinstance(factor, torch.Tensor) or factor != 1.0


def decayed(
    decay: WeightDecayFunction, param: torch.Tensor, grad: torch.Tensor, group: Mapping[str, Any], where: str
) -> torch.Tensor:
    """The gradient that a decay callable returns for the parameter named by `where`.

    Raises:
        TypeError: it returned something else than a gradient.
    """
    result = decay(param, grad, group)
    if not isinstance(result, torch.Tensor) or result.shape != grad.shape or result.dtype != grad.dtype:
        raise TypeError(
            f"weight_decay must return the gradient, a {grad.dtype} tensor of shape {tuple(grad.shape)}, "
            f"but for {where} it returned {result!r}"
        )
    return result
