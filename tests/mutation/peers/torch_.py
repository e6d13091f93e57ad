"""torch's RAdam. Its tests are not in its wheel: a replica of what they ask for is in `torch_criteria`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tests.mutation.peers.peer import Numbers, Outcomes, Peer
from tests.mutation.peers.scenarios import CASES, Case, run

_MODULE = "torch.optim.radam"
PLACES = {
    "step": (_MODULE, "RAdam.step"),
    "init": (_MODULE, "RAdam._init_group"),
    "load": (_MODULE, "RAdam.__setstate__"),
    "loop": (_MODULE, "_single_tensor_radam"),
    "foreach": (_MODULE, "_multi_tensor_radam"),
}
PATHS = {
    "loop": {"foreach": False},
    "foreach": {"foreach": True},
    "loop, capturable": {"foreach": False, "capturable": True},
    "foreach, capturable": {"foreach": True, "capturable": True},
}
TOLERANCE = 1e-9
LATER = "TestRAdamNumerical.test_single_tensor_radam_matches_reference"
"""A test that came after torch 2.13 was released; it is counted apart."""
NEEDS = ("expecttest==0.3.0",)
"""What `torch.testing._internal` imports and torch does not bring."""
PRELOAD = (
    "torch",
    "torch._dynamo",
    "torch.testing._internal.common_utils",
    "torch.testing._internal.common_device_type",
    "torch.testing._internal.common_methods_invocations",
)


def numbers_of(module: Any, cases: Sequence[Case] = CASES) -> Numbers:
    """By the loop and by foreach, each with and without `capturable`, which is let through on a CPU."""
    kept = module._get_capturable_supported_devices, torch.get_default_dtype()
    module._get_capturable_supported_devices = lambda supports_xla=True: ["cpu"]
    # A capturable step is computed in the dtype of the step count, which is this one.
    torch.set_default_dtype(torch.float64)
    seen = {}
    try:
        for path, flags in PATHS.items():

            def build(groups: Any, options: Mapping[str, Any], flags: Mapping[str, bool] = flags) -> Any:
                return module.RAdam(groups, **options, **flags)

            for case in cases:
                seen[f"{path}: {case.name}"] = run(build, case)
    finally:
        module._get_capturable_supported_devices = kept[0]
        torch.set_default_dtype(kept[1])
    return seen


def numbers() -> Numbers:
    """Of the module that is installed, or of what has taken its place."""
    return numbers_of(importlib.import_module(_MODULE))


def tests(folder: Path, seed: int) -> Outcomes:
    """Try each criterion."""
    criteria = importlib.import_module("tests.mutation.peers.torch_criteria")
    outcomes = {}
    for name, criterion in criteria.CRITERIA.items():
        torch.manual_seed(seed)
        try:
            criterion()
            outcomes[name] = "passed"
        except Exception:
            outcomes[name] = "failed"
    return outcomes


PEER = Peer(
    name="torch",
    title="torch 2.13.0: a replica of its numeric criteria, on its `RAdam`",
    source="torch",
    sdist="",
    needs=NEEDS,
    places=PLACES,
    preload=PRELOAD,
    tests=tests,
    numbers=numbers,
    tolerance=TOLERANCE,
    environment={},
)
