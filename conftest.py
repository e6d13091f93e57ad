"""Options, fixtures and Hypothesis profiles of the suite."""

from __future__ import annotations

import os

import torch
from hypothesis import HealthCheck, settings

pytest_plugins = ["radam.audit.pytest_plugin"]

# Small tensors: a second thread costs more than it brings, most of all on a busy machine.
torch.set_num_threads(1)

_COMMON = settings(
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("quick", _COMMON, max_examples=60)
settings.register_profile("thorough", _COMMON, max_examples=3000)
settings.register_profile("exhaustive", _COMMON, max_examples=50000)
settings.load_profile("quick")
