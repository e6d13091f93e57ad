"""timm's optimizers."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


def subjects() -> list[Subject]:
    """Subjects for optimizers of timm.optim."""
    optim = _optim()

    def of_name(name: str, *more: Any) -> Subject:
        return described(getattr(optim, name), f"timm.optim:{name}", *more)

    return [
        of_name("RAdamLegacy", adaptive(), _radam),
        of_name("AdamWLegacy", adaptive("amsgrad", "maximize"), _adamw),
    ]


def _optim() -> Any:
    """timm.optim; without timm's models where these want a torchvision that is not there.

    Of the models, timm.optim imports one function, for layer-wise decay.
    """
    try:
        return importlib.import_module("timm.optim")
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
    return importlib.import_module("timm.optim")
