"""timm's optimizers."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from radam.audit.strategies import LR_CORNERS
from radam.audit.subject import Oracle, Subject
from radam.audit.subjects.peers.common import adaptive, described, plain


def _radam(options: Mapping[str, Any]) -> Oracle:
    """RAdamLegacy, of the authors' code: eps before the bias correction, decoupled decay at each step."""
    import reference

    return reference.RAdam(**{"eps": 1e-8, **plain(options)})


def _adamw(options: Mapping[str, Any]) -> Oracle:
    """AdamWLegacy: eps after the bias correction, decoupled decay of 0.01 by default."""
    import reference

    return reference.Adam(**{"eps": 1e-8, "weight_decay": 0.01, **plain(options)}, optimized_update=False)


def _nadamw(options: Mapping[str, Any]) -> Oracle:
    from radam.audit.subjects.peers.oracles import NAdamW

    defaults = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
    return NAdamW(**{**defaults, **plain(options)})


def _adabelief(options: Mapping[str, Any]) -> Oracle:
    """AdaBelief, of the authors' code: rectified by default, eps before the bias correction there, after it without."""
    from radam.audit.subjects.peers.oracles import adabelief

    neutral = plain(options, fixed_decay="absolute", decoupled_decay="weight_decouple")
    rectify = neutral.pop("rectify", True)
    if not rectify:
        neutral.pop("degenerated_to_sgd", None)
    return adabelief(neutral, rectify=rectify, optimized_update=rectify)


def _adopt(options: Mapping[str, Any]) -> Oracle:
    """Adopt: L2 decay by default; the clipping does not count the first step, and that does not decay."""
    from radam.audit.subjects.peers.oracles import ADOPT

    defaults = {"lr": 1e-3, "betas": (0.9, 0.9999), "eps": 1e-6, "weight_decouple": False, "clip": 0.333}
    neutral = plain(options, decoupled="weight_decouple", clip_exp="clip")
    return ADOPT(**{**defaults, **neutral}, offset=1, decays_first=False)


def _laprop(options: Mapping[str, Any]) -> Oracle:
    from radam.audit.subjects.peers.oracles import LaProp

    return LaProp(**{"lr": 4e-4, "betas": (0.9, 0.999), "eps": 1e-15, **plain(options)})


def _lion(options: Mapping[str, Any]) -> Oracle:
    from radam.audit.subjects.peers.oracles import Lion

    return Lion(**{"lr": 1e-4, "betas": (0.9, 0.99), **plain(options)})


def _sgdw(options: Mapping[str, Any]) -> Oracle:
    from radam.audit.subjects.peers.oracles import SGDW

    return SGDW(**{"lr": 1e-3, **plain(options)})


def subjects() -> list[Subject]:
    """Subjects for optimizers of timm.optim."""
    _make_importable()

    def of_name(name: str, *more: Any, **fixed: Any) -> Subject:
        return described(f"timm.optim:{name}", *more, **fixed)

    usual = adaptive()
    maximized = adaptive("maximize")
    variances = {"t": "step", "m": "exp_avg", "v": "exp_avg_var", "s": "max_exp_avg_var"}
    flags = ("amsgrad", "decoupled_decay", "fixed_decay", "rectify", "degenerated_to_sgd")
    # At lr = 0 a fixed decay acts, as documented, and by the oracles of `reference` it does not.
    belief = adaptive(*flags, lr=st.sampled_from([lr for lr in LR_CORNERS if lr]))
    # Bias corrections, by past learning rates, are in the state, and no step count.
    corrected_by_state = {"m": "exp_avg", "v": "exp_avg_sq"}
    clipped = {**adaptive("decoupled", "maximize"), "clip_exp": st.sampled_from((0.333, 0.25))}
    without_eps = {name: strategy for name, strategy in maximized.items() if name != "eps"}
    momentum = {
        **{name: maximized[name] for name in ("lr", "weight_decay", "maximize")},
        "momentum": st.sampled_from((0.9, 0.5)),
        "dampening": st.sampled_from((0.0, 0.5)),
        "nesterov": st.booleans(),
    }
    return [
        of_name("AdaBelief", belief, _adabelief, variances),
        of_name("Adafactor"),
        of_name("AdamP"),
        of_name("AdamWLegacy", adaptive("amsgrad", "maximize"), _adamw),
        of_name("Adan"),
        of_name("Adopt", clipped, _adopt),
        of_name("LaProp", {**usual, "lr": st.just(4e-4)}, _laprop, corrected_by_state),
        # By default the norm of all gradients together is clipped, as documented.
        of_name("Lamb", max_grad_norm=None),
        of_name("Lars"),
        of_name("Lion", without_eps, _lion, {"m": "exp_avg"}),
        of_name("MADGRAD"),
        of_name("Mars"),
        of_name("NAdamLegacy"),
        of_name("NAdamW", maximized, _nadamw),
        of_name("NvNovoGrad"),
        of_name("RAdamLegacy", usual, _radam),
        of_name("RMSpropTF"),
        of_name("SGDW", momentum, _sgdw, {"s": "momentum_buffer"}),
    ]


def _make_importable() -> None:
    """Import timm.optim; without timm's models where these want a torchvision that is not there.

    Of the models, timm.optim imports one function, for layer-wise decay.
    """
    try:
        importlib.import_module("timm.optim")
        return
    except (ImportError, RuntimeError):
        folder = next((Path(entry, "timm") for entry in sys.path if Path(entry, "timm", "optim").is_dir()), None)
        if folder is None:
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
        del sys.modules[name]
    package, models = types.ModuleType("timm"), types.ModuleType("timm.models")
    package.__path__ = [str(folder)]
    models.__dict__["group_parameters"] = None
    sys.modules.update({"timm": package, "timm.models": models})
