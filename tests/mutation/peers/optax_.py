"""optax's radam, and the tests of its source distribution that are parametrized with it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.peers.peer import Numbers, Outcomes, Peer
from tests.mutation.peers.running import by_pytest
from tests.mutation.peers.scenarios import RHO_IS_FIVE, STEPS

# They look at dtypes, shapes and compilations, or at nothing: 15 tests that take half of the time.
_NOT_NUMERIC = ("stability", "preserve_dtype", "accept_extra_args")
_FILES = ["optax/_src/alias_test.py", "optax/contrib/_common_test.py"]


def _keep(item: pytest.Item) -> bool:
    # absl numbers its parametrized tests, and keeps their arguments as a text.
    arguments = getattr(getattr(item, "function", None), "__x_params_repr__", "")
    return "opt_name='radam'" in str(arguments) and not any(part in item.name for part in _NOT_NUMERIC)


def tests(folder: Path, seed: int) -> Outcomes:
    """Run them."""
    return by_pytest(_FILES, _keep, seed)


def numbers() -> Numbers:
    """The updates summed up, in float64, with each option that radam has."""
    jax: Any = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    jnp: Any = importlib.import_module("jax.numpy")
    optax: Any = importlib.import_module("optax")

    def run(dtype: Any = None, scale: float = 1.0, **options: Any) -> list[float]:
        dtype = dtype or jnp.float64
        params = {"a": jnp.array([0.5, -1.0, 2.0], dtype), "b": jnp.array([1.5, 0.25], dtype)}
        optimizer = optax.radam(**{"learning_rate": 0.1, **options})
        state = optimizer.init(params)
        seen: list[float] = []
        for t in range(1, STEPS + 1):
            grads = {}
            for index, (name, value) in enumerate(params.items()):
                wave = jnp.cos(1.3 + 2.1 * jnp.arange(value.size) + 0.8 * t + 0.5 * index) + 0.3
                turned = wave * (1 + 0.5j) if jnp.iscomplexobj(value) else wave
                grads[name] = (turned * scale).astype(dtype)
            updates, state = optimizer.update(grads, state, params)
            params = optax.apply_updates(params, updates)
            for value in params.values():
                seen += [float(part) for part in jnp.concatenate([value.real, value.imag])]
        return seen

    runs: Mapping[str, Mapping[str, Any]] = {
        "lr 0.1": {},
        "lr 0.1, betas 0.8 0.9": {"b1": 0.8, "b2": 0.9},
        "lr 0.1, betas 0.9 0.8": {"b2": 0.8},
        "lr 0.1, eps 0.01": {"eps": 0.01},
        "lr 0.1, gradients of 1e-8": {"scale": 1e-8},
        "lr 0.1, eps_root 0.01": {"eps_root": 0.01},
        "threshold 8": {"threshold": 8.0},
        "nesterov": {"nesterov": True},
        "complex": {"dtype": jnp.complex128},
        "lr scheduled": {"learning_rate": optax.piecewise_constant_schedule(0.1, {5: 0.5})},
        **{f"rho_{t} is 5": {"b2": beta} for t, beta in RHO_IS_FIVE.items()},
    }
    return {f"update: {name}": run(**options) for name, options in runs.items()}


PEER = Peer(
    name="optax",
    title="optax 0.2.8: its tests, on its `radam`",
    source="optax",
    sdist="optax==0.2.8",
    needs=(
        "jax==0.10.2",
        "jaxlib==0.10.2",
        "ml_dtypes==0.6.0",
        "opt_einsum==3.4.0",
        "absl-py==2.5.1",
        "scikit-learn==1.9.1",
        "joblib==1.6.0",
        "cloudpickle==3.1.3",
        "threadpoolctl==3.8.0",
        "narwhals==2.29.0",
    ),
    places={
        "scale": ("optax._src.transform", "scale_by_radam"),
        "alias": ("optax._src.alias", "radam"),
    },
    preload=(
        "numpy",
        "scipy.optimize",
        "sklearn.datasets",
        "sklearn.linear_model",
        "jax",
        "absl.testing.parameterized",
        "pytest",
    ),
    tests=tests,
    numbers=numbers,
    tolerance=1e-9,
    environment={"JAX_PLATFORMS": "cpu"},
)
