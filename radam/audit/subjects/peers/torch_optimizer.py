"""The optimizers of torch_optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from radam.audit.strategies import LR_CORNERS
from radam.audit.subject import Oracle, Subject
from radam.audit.subjects.peers.common import adaptive, described, plain

_USUAL: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8}


def _radam(options: Mapping[str, Any]) -> Oracle:
    """RAdam, of the authors' first code: eps before the bias correction, decoupled decay at each step."""
    import reference

    return reference.RAdam(**{"eps": 1e-8, **plain(options)})


def _adabelief(options: Mapping[str, Any]) -> Oracle:
    """AdaBelief: eps after the bias correction; L2 decay by default; with rectification rho_t > 4, as in the papers."""
    from radam.audit.subjects.peers.oracles import adabelief

    neutral = {"eps": 1e-8, "weight_decouple": False, **plain(options, fixed_decay="absolute")}
    rectify = neutral.pop("rectify", False)
    if rectify:
        neutral |= {"threshold": 4.0, "strict": True}
    return adabelief(neutral, rectify=rectify, optimized_update=False)


def _adabound(options: Mapping[str, Any]) -> Oracle:
    from radam.audit.subjects.peers.oracles import AdaBound

    return AdaBound(**{**_USUAL, "weight_decouple": False, **plain(options, amsbound="amsgrad")})


def _adamod(options: Mapping[str, Any]) -> Oracle:
    """AdaMod, whose third decay rate is an option of its own."""
    from radam.audit.subjects.peers.oracles import AdaMod

    neutral = {"beta3": 0.999, **_USUAL, **plain(options)}
    neutral["betas"] = (*neutral["betas"], neutral.pop("beta3"))
    return AdaMod(**neutral)


def _sgdw(options: Mapping[str, Any]) -> Oracle:
    from radam.audit.subjects.peers.oracles import SGDW

    return SGDW(**{"lr": 1e-3, **plain(options)})


def _yogi(options: Mapping[str, Any]) -> Oracle:
    from radam.audit.subjects.peers.oracles import Yogi

    return Yogi(**{**_USUAL, "lr": 1e-2, "eps": 1e-3, "weight_decouple": False, **plain(options)})


def subjects() -> list[Subject]:
    """Subjects for the RAdam and the Adam family of torch_optimizer."""

    def of_name(name: str, *more: Any) -> Subject:
        return described(f"torch_optimizer:{name}", *more)

    # An lr of 0 is refused.
    lr = st.sampled_from([lr for lr in LR_CORNERS if lr])
    usual = adaptive(lr=lr)
    belief = adaptive("amsgrad", "weight_decouple", "fixed_decay", "rectify", lr=lr)
    # The bounds follow lr by its ratio to that of the constructor.
    bounded = {
        "lr": st.just(1e-3),
        "final_lr": st.sampled_from((0.1, 1e-3)),
        "gamma": st.sampled_from((1e-3, 0.1)),
        "amsbound": st.booleans(),
    }
    momentum = {
        **{name: usual[name] for name in ("lr", "weight_decay")},
        "momentum": st.sampled_from((0.9, 0.5)),
        "dampening": st.sampled_from((0.0, 0.5)),
        "nesterov": st.booleans(),
    }
    variances = {"t": "step", "m": "exp_avg", "v": "exp_avg_var", "s": "max_exp_avg_var"}
    rates = {"t": "step", "m": "exp_avg", "v": "exp_avg_sq", "s": "exp_avg_lr"}
    return [
        of_name("AdaBelief", belief, _adabelief, variances),
        of_name("AdaBound", {**usual, **bounded}, _adabound),
        of_name("AdaMod", {**usual, "beta3": st.sampled_from((0.999, 0.9, 0.0))}, _adamod, rates),
        of_name("AdamP"),
        of_name("DiffGrad"),
        of_name("Lamb"),
        of_name("NovoGrad"),
        of_name("QHAdam"),
        of_name("RAdam", usual, _radam),
        of_name("Ranger"),
        of_name("SGDW", momentum, _sgdw, {"s": "momentum_buffer"}),
        of_name("Yogi", usual, _yogi),
    ]
