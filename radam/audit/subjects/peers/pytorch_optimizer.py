"""The optimizers of pytorch_optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from radam.audit.strategies import LR_CORNERS, betas
from radam.audit.subject import Oracle, Subject
from radam.audit.subjects.peers.common import adaptive, described, plain

_STATE = {"m": "exp_avg", "v": "exp_avg_sq"}
"""Steps are counted by group."""
_NAMES = {"fixed_decay": "absolute", "n_sma_threshold": "threshold", "ams_bound": "amsgrad"}
_DECAY = ("weight_decouple", "fixed_decay", "maximize")
_LR = st.sampled_from([lr for lr in LR_CORNERS if lr])
"""At lr = 0 a fixed decay acts, as documented, and by the oracles of `reference` it does not."""
_UNDER_THE_ROOT = 1e-15
"""What apply_ams_bound adds to v."""


def _neutral(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as the oracles name them.

    Raises:
        ValueError: a threshold is given beside n_sma_threshold, which is not the default.
    """
    if "threshold" in options and options.get("n_sma_threshold", 5) != 5:
        raise ValueError(f"threshold is {options['threshold']!r}, but n_sma_threshold {options['n_sma_threshold']!r}")
    return plain(options, **_NAMES)


def _radam(options: Mapping[str, Any]) -> Oracle:
    """RAdam: eps before the bias correction; a step that is skipped, by default, decays nothing."""
    import reference

    defaults = {"eps": 1e-8, "degenerated_to_sgd": False}
    return reference.RAdam(**{**defaults, **_neutral(options)}, decay_when_skipped=False)


def _adabelief(options: Mapping[str, Any]) -> Oracle:
    """AdaBelief: by default without rectification; eps after the bias correction there, before it with."""
    from radam.audit.subjects.peers.oracles import adabelief

    neutral = _neutral(options)
    rectify = neutral.pop("rectify", False)
    if not rectify:
        neutral = {name: value for name, value in neutral.items() if name not in ("threshold", "degenerated_to_sgd")}
    return adabelief(neutral, rectify=rectify, optimized_update=rectify)


def _adabound(options: Mapping[str, Any]) -> Oracle:
    from radam.audit.subjects.peers.oracles import AdaBound

    defaults = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8}
    return AdaBound(**{**defaults, **_neutral(options)}, inside=_UNDER_THE_ROOT)


def _adamod(options: Mapping[str, Any]) -> Oracle:
    from radam.audit.subjects.peers.oracles import AdaMod

    return AdaMod(**{"lr": 1e-3, "betas": (0.9, 0.99, 0.9999), "eps": 1e-8, **_neutral(options)})


def _adopt(options: Mapping[str, Any]) -> Oracle:
    from radam.audit.subjects.peers.oracles import ADOPT

    defaults = {"lr": 1e-3, "betas": (0.9, 0.9999), "eps": 1e-6, "weight_decouple": False}
    return ADOPT(**{**defaults, **_neutral(options)})


def _lion(options: Mapping[str, Any]) -> Oracle:
    from radam.audit.subjects.peers.oracles import Lion

    return Lion(**{"lr": 1e-4, "betas": (0.9, 0.99), **_neutral(options)})


def _sgdw(options: Mapping[str, Any]) -> Oracle:
    from radam.audit.subjects.peers.oracles import SGDW

    return SGDW(**{"lr": 1e-4, **plain(options)})


def _yogi(options: Mapping[str, Any]) -> Oracle:
    from radam.audit.subjects.peers.oracles import Yogi

    return Yogi(**{"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-3, **_neutral(options)})


def subjects() -> list[Subject]:
    """Subjects for the RAdam and the Adam family of pytorch_optimizer."""

    def of_name(name: str, *more: Any) -> Subject:
        return described(f"pytorch_optimizer:{name}", *more)

    usual = adaptive(*_DECAY, lr=_LR)
    rectified = {
        "degenerated_to_sgd": st.booleans(),
        "n_sma_threshold": st.sampled_from((5, 4, 6, 10)),
    }
    maximum = {"ams_bound": st.booleans()}
    three = st.tuples(betas(), st.sampled_from((0.9999, 0.999, 0.9, 0.0))).map(lambda drawn: (*drawn[0], drawn[1]))
    momentum = {"momentum": st.sampled_from((0.9, 0.5)), "dampening": st.sampled_from((0.0, 0.5))}
    without_eps = {name: strategy for name, strategy in usual.items() if name != "eps"}
    without_betas = {name: without_eps[name] for name in ("lr", "weight_decay", "weight_decouple", "maximize")}
    # The bounds follow lr by its ratio to that of the constructor.
    bounded = {"lr": st.just(1e-3), "final_lr": st.sampled_from((0.1, 1e-3)), "gamma": st.sampled_from((1e-3, 0.1))}
    variances = {"m": "exp_avg", "v": "exp_avg_var", "s": "max_exp_avg_var"}
    return [
        of_name("ADOPT", usual, _adopt, _STATE),
        of_name("AdaBelief", {**usual, **rectified, **maximum, "rectify": st.booleans()}, _adabelief, variances),
        of_name("AdaBound", {**usual, **maximum, **bounded}, _adabound, {**_STATE, "s": "max_exp_avg_sq"}),
        of_name("AdaMod", {**usual, "betas": three}, _adamod, {**_STATE, "s": "exp_avg_lr"}),
        of_name("Adai"),
        of_name("AdamP"),
        of_name("Adan"),
        of_name("DiffGrad"),
        of_name("Lamb"),
        of_name("Lion", without_eps, _lion, {"m": "exp_avg"}),
        of_name("NovoGrad"),
        of_name("PAdam"),
        of_name("RAdam", {**usual, **rectified}, _radam, _STATE),
        of_name("Ranger"),
        of_name("SGDW", {**without_betas, **momentum}, _sgdw, {"s": "momentum_buffer"}),
        of_name("StableAdamW"),
        of_name("Yogi", usual, _yogi, _STATE),
    ]
