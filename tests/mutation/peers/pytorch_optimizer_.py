"""pytorch_optimizer's RAdam, and the tests of its source distribution that have `radam` in their names."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.peers.peer import Numbers, Outcomes, Peer
from tests.mutation.peers.running import by_pytest
from tests.mutation.peers.scenarios import CASES, Case, run

_MORE = (
    Case("waiting", {"lr": 0.1, "degenerated_to_sgd": False}),
    Case("waiting, decoupled decay 0.1", {"lr": 0.1, "degenerated_to_sgd": False, "weight_decay": 0.1}),
    Case("fixed decay 0.1", {"lr": 0.1, "fixed_decay": True, "weight_decay": 0.1}),
    Case("threshold 8", {"lr": 0.1, "n_sma_threshold": 8}),
)


_FILES = [
    "tests/optimizers/test_rectified.py",
    "tests/test_create_optimizer.py",
    "tests/test_general_optimizer_parameters.py",
    "tests/test_gradients.py",
    "tests/test_optimizer_variants.py",
    "tests/test_optimizers.py",
]
"""Those that have such tests."""


def _keep(item: pytest.Item) -> bool:
    return "radam" in item.name.lower() and "schedulefree" not in item.name.lower()


def tests(folder: Path, seed: int) -> Outcomes:
    """Run them; the others in the same files are those of other optimizers."""
    return by_pytest(_FILES, _keep, seed)


def numbers() -> Numbers:
    """By foreach and by the loop. Momentum steps are asked for, because the default is to wait."""
    module = importlib.import_module("pytorch_optimizer.optimizer.radam")
    seen = {}
    for path, foreach in (("loop", False), ("foreach", True)):

        def build(groups: Any, options: Mapping[str, Any], foreach: bool = foreach) -> Any:
            translated = {"degenerated_to_sgd": True, **options}
            if "decoupled_weight_decay" in translated:
                translated["weight_decouple"] = translated.pop("decoupled_weight_decay")
            return module.RAdam(groups, foreach=foreach, **translated)

        for case in (*CASES, *_MORE):
            seen[f"{path}: {case.name}"] = run(build, case)
    return seen


_RADAM = "pytorch_optimizer.optimizer.radam"
_BASE = "pytorch_optimizer.base.optimizer"
PEER = Peer(
    name="pytorch_optimizer",
    title="pytorch_optimizer 4.1.0: its tests, on its `RAdam`",
    source="pytorch_optimizer",
    sdist="pytorch_optimizer==4.1.0",
    needs=(),
    places={
        "rectify": (_BASE, "BaseOptimizer.get_rectify_step_size"),
        "load": (_BASE, "BaseOptimizer.load_state_dict"),
        "init": (_RADAM, "RAdam.init_group"),
        "step": (_RADAM, "RAdam.step"),
        "foreach": (_RADAM, "RAdam._step_foreach"),
        "loop": (_RADAM, "RAdam._step_per_param"),
    },
    preload=("torch", "torch._dynamo", "numpy", "pytest"),
    tests=tests,
    numbers=numbers,
    tolerance=1e-9,
    environment={},
)
