"""The optimizers that are timed, each by a function of parameters."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from typing import Any

import torch

import radam
from tests.bench.sets import Set
from tests.mutation.peers.sources import CACHE

Params = list[torch.nn.Parameter]
Build = Callable[[Params], Any]

RADAM, RADAM_AMSGRAD = "radam", "radam, AMSGrad"
ADAM, ADAM_AMSGRAD = "torch Adam, fused", "torch Adam, fused, AMSGrad"
FOREACH, DEFAULT = "torch RAdam, foreach", "torch RAdam, its default"


def _compiled(params: Params) -> Any:
    optimizer = torch.optim.RAdam(params)

    class Compiled:
        """Its step, by torch.compile."""

        step = staticmethod(torch.compile(optimizer.step))

    return Compiled()


def _pytorch_optimizer() -> Build | None:
    try:
        module = importlib.import_module("pytorch_optimizer")
    except ImportError:
        return None
    return lambda params: module.RAdam(params, lr=1e-3, degenerated_to_sgd=True)


def _timm() -> Build | None:
    """Its RAdamLegacy, without the rest of timm, which needs a torchvision that fits torch."""
    folder = next(iter(sorted(CACHE.glob("timm-*/timm/optim"))), None)
    if folder is None:
        return None
    package = types.ModuleType("timm_optim")
    package.__path__ = [str(folder)]
    sys.modules[package.__name__] = package
    module = importlib.import_module(f"{package.__name__}.radam")
    return lambda params: module.RAdamLegacy(params, lr=1e-3)


def candidates(parameters: Set, *, compiled: bool = True) -> dict[str, Build]:
    """Those that can be had, and do not take too long to be made, for a set of parameters."""
    result: dict[str, Build | None] = {
        ADAM: lambda params: torch.optim.Adam(params, fused=True),
        RADAM: radam.RAdam,
        "torch AdamW, fused": lambda params: torch.optim.AdamW(params, fused=True),
        "radam, decay 0.01": lambda params: radam.RAdam(params, weight_decay=0.01),
        FOREACH: lambda params: torch.optim.RAdam(params, foreach=True),
        DEFAULT: torch.optim.RAdam,
        "pytorch_optimizer RAdam": _pytorch_optimizer(),
        "timm RAdamLegacy": _timm(),
        ADAM_AMSGRAD: lambda params: torch.optim.Adam(params, fused=True, amsgrad=True),
        RADAM_AMSGRAD: lambda params: radam.RAdam(params, amsgrad=True),
        "radam, foreach": lambda params: radam.RAdam(params, foreach=True),
        "radam, loop": lambda params: radam.RAdam(params, foreach=False),
        "radam, capturable": lambda params: radam.RAdam(params, capturable=True),
    }
    # The compiler takes minutes where there are many tensors.
    result["torch RAdam, compiled"] = _compiled if compiled and len(parameters.shapes) <= 10 else None
    return {name: build for name, build in result.items() if build is not None}
