"""Parameter groups that people ask for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

NORMS: tuple[type[torch.nn.Module], ...] = (
    torch.nn.modules.batchnorm._NormBase,
    torch.nn.GroupNorm,
    torch.nn.LayerNorm,
    torch.nn.LocalResponseNorm,
    *([torch.nn.RMSNorm] if hasattr(torch.nn, "RMSNorm") else []),
)
"""Modules of which no parameter is decayed."""


def decay_groups(
    module: torch.nn.Module,
    weight_decay: float,
    *,
    without: Iterable[type[torch.nn.Module]] = (),
) -> list[dict[str, Any]]:
    """The parameters of a module in two groups: those that decay, and biases, norms and other vectors, which do not.

    A parameter decays if it has two dimensions or more and belongs to no norm. One that is shared by several modules is
    named once, and decays only if it does in all of them. Those that need no gradient are left out.

    Args:
        module: whose parameters.
        weight_decay: coefficient of those that decay, as in :class:`radam.WeightDecay`.
        without: more modules of which no parameter decays, `torch.nn.Embedding` for example.

    Returns:
        Groups for an optimizer, with the parameters' names; one that would be empty is left out.

    Raises:
        ValueError: the module has no parameter that needs a gradient.

    Example:
        >>> import radam
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3))
        >>> groups = decay_groups(net, 0.01)
        >>> [(group["weight_decay"], [name for name, _ in group["params"]]) for group in groups]
        [(0.01, ['0.weight']), (0.0, ['0.bias', '1.weight', '1.bias'])]
        >>> optimizer = radam.RAdam(groups)
    """
    kinds = (*NORMS, *without)
    kept: dict[torch.nn.Parameter, str] = {}
    decays: dict[torch.nn.Parameter, bool] = {}
    for prefix, owner in module.named_modules():
        for name, param in owner.named_parameters(prefix, recurse=False):
            if param.requires_grad:
                kept.setdefault(param, name)
                decays[param] = decays.get(param, True) and param.dim() >= 2 and not isinstance(owner, kinds)
    if not kept:
        raise ValueError(f"module must have a parameter that needs a gradient, but is {module!r}")
    return [
        {"params": params, "weight_decay": coefficient}
        for coefficient, wanted in ((weight_decay, True), (0.0, False))
        if (params := [(name, param) for param, name in kept.items() if decays[param] == wanted])
    ]
