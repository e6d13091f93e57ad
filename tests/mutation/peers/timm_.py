"""timm: its tests on its own `RAdamLegacy`, and on the RAdam that it uses now, which is torch's.

Only `timm.optim` is imported. The rest of timm needs a torchvision that fits the torch that is installed.
"""

from __future__ import annotations

import importlib
import re
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.peers import torch_
from tests.mutation.peers.peer import Numbers, Outcomes, Peer
from tests.mutation.peers.running import by_pytest
from tests.mutation.peers.scenarios import CASES, run


def _without_models() -> None:
    """`timm` and `timm.models` are empty: what of them `timm.optim` imports serves layer-wise decay alone."""
    folder = next(Path(entry, "timm") for entry in sys.path if Path(entry, "timm", "optim").exists())
    package = types.ModuleType("timm")
    package.__path__ = [str(folder)]
    models = types.ModuleType("timm.models")
    models.__dict__["group_parameters"] = None
    sys.modules.update({"timm": package, "timm.models": models})


def _legacy(item: pytest.Item) -> bool:
    return "radamlegacy" in item.name


def _torchs(item: pytest.Item) -> bool:
    return re.search(r"[\[-](radam|radamw|lookahead_radam)[\]-]", item.name) is not None


def legacy_tests(folder: Path, seed: int) -> Outcomes:
    """The tests with RAdamLegacy."""
    _without_models()
    return by_pytest(["tests/test_optim.py"], _legacy, seed)


def torchs_tests(folder: Path, seed: int) -> Outcomes:
    """The tests with `radam`, `radamw` and `lookahead_radam`, which are torch's RAdam."""
    _without_models()
    return by_pytest(["tests/test_optim.py"], _torchs, seed)


def numbers() -> Numbers:
    """The one path that it has: decay is decoupled, and there are no complex numbers and no `maximize`."""
    _without_models()
    module = importlib.import_module("timm.optim.radam")

    def build(groups: Any, options: Mapping[str, Any]) -> Any:
        return module.RAdamLegacy(groups, **{k: v for k, v in options.items() if k != "decoupled_weight_decay"})

    cases = [case for case in CASES if "maximize" not in case.options and not case.dtype.is_complex]
    return {f"step: {case.name}": run(build, case) for case in cases}


_SDIST = "timm==1.0.31"
_ENVIRONMENT = {"TORCH_DEVICE": "cpu"}
PEER = Peer(
    name="timm",
    title="timm 1.0.31: its tests, on its `RAdamLegacy`",
    source="timm",
    sdist=_SDIST,
    needs=torch_.NEEDS,
    places={
        "step": ("timm.optim.radam", "RAdamLegacy.step"),
        "load": ("timm.optim.radam", "RAdamLegacy.load_state_dict"),
    },
    preload=(*torch_.PRELOAD, "pytest"),
    tests=legacy_tests,
    numbers=numbers,
    # It computes in float32.
    tolerance=1e-5,
    environment=_ENVIRONMENT,
)
PEER_OF_TORCH = Peer(
    name="timm_torch",
    title="timm 1.0.31: its tests of `radam`, `radamw`, `lookahead_radam`, on torch's `RAdam`, which they are",
    source="torch",
    sdist=_SDIST,
    needs=torch_.NEEDS,
    places=torch_.PLACES,
    preload=(*torch_.PRELOAD, "pytest"),
    tests=torchs_tests,
    numbers=torch_.numbers,
    tolerance=torch_.TOLERANCE,
    environment=_ENVIRONMENT,
)
