"""torch's own optimizers, with their oracles where there are such."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from radam.audit.strategies import DECAY_CORNERS, LR_CORNERS, betas
from radam.audit.subject import Oracle, Subject, torch_adam_names
from radam.audit.subjects.classes import FromClass, class_subject
from radam.audit.subjects.driven import LBFGS, SparseAdam

_EPS = (1e-8, 1e-3, 0.0, 1e-16, 1.0)
_RATES = (0.9, 0.99, 0.0, 0.5, 0.999, 1 - 2**-20)
_OPTIONS: dict[str, SearchStrategy[Any]] = {
    "lr": st.sampled_from(LR_CORNERS),
    "betas": betas(),
    "eps": st.sampled_from(_EPS),
    "weight_decay": st.sampled_from(DECAY_CORNERS),
    "maximize": st.booleans(),
}


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as the oracles know them: a tensor lr by its number, and "decoupled" by its neutral name."""
    neutral = {
        name: float(value.detach()) if isinstance(value, torch.Tensor) else value for name, value in options.items()
    }
    if "decoupled_weight_decay" in neutral:
        neutral["weight_decouple"] = neutral.pop("decoupled_weight_decay")
    return neutral


def _radam(options: Mapping[str, Any]) -> Oracle:
    """torch.optim.RAdam: L2 by default, adaptive where rho_t > 5, eps added before the bias correction of v."""
    import reference

    return reference.RAdam(**{"eps": 1e-8, "weight_decouple": False, **_plain(options)}, strict=True)


def _adam(options: Mapping[str, Any]) -> Oracle:
    """torch.optim.Adam: L2 by default, eps added after the bias correction of v, maximum of the uncorrected v."""
    import reference

    return reference.Adam(**{"eps": 1e-8, "weight_decouple": False, **_plain(options)}, optimized_update=False)


def _adamw(options: Mapping[str, Any]) -> Oracle:
    """torch.optim.AdamW: Adam with decoupled decay, of 0.01 by default."""
    return _adam({"weight_decay": 0.01, **options, "decoupled_weight_decay": True})


def _adamax(options: Mapping[str, Any]) -> Oracle:
    """torch.optim.Adamax: eps added to the absolute value of the gradient."""
    import reference

    return reference.Adamax(**_plain(options))


def _nadam(options: Mapping[str, Any]) -> Oracle:
    """torch.optim.NAdam: m decays by beta1, eps is added after the bias correction of v."""
    import reference

    return reference.NAdam(**_plain(options))


def _rmsprop(options: Mapping[str, Any]) -> Oracle:
    """torch.optim.RMSprop: eps outside the root, lr outside the momentum."""
    import reference

    return reference.RMSprop(**_plain(options))


def _adagrad(options: Mapping[str, Any]) -> Oracle:
    """torch.optim.Adagrad: eps outside the root, lr decays by t - 1."""
    import reference

    return reference.Adagrad(**_plain(options))


def _adadelta(options: Mapping[str, Any]) -> Oracle:
    """torch.optim.Adadelta: eps inside both roots."""
    import reference

    return reference.Adadelta(**_plain(options))


def _asgd(options: Mapping[str, Any]) -> Oracle:
    """torch.optim.ASGD: a step by the eta that was set at the end of the step before."""
    import reference

    return reference.ASGD(**_plain(options))


def _sparse_adam(options: Mapping[str, Any]) -> Oracle:
    """torch.optim.SparseAdam on gradients with all elements: Adam, eps added before the bias correction of v."""
    import reference

    return reference.Adam(**{"eps": 1e-8, **_plain(options)})


def _sgd(options: Mapping[str, Any]) -> Oracle:
    """torch.optim.SGD: lr outside the momentum, whose first value is the gradient as it is."""
    import reference

    return reference.SGD(**_plain(options))


@dataclass(frozen=True)
class _Known:
    """What is known of one of torch's optimizers."""

    oracle: Callable[[Mapping[str, Any]], Oracle]
    more: Mapping[str, SearchStrategy[Any]]
    """Options beside those of most, or others in their place."""
    state: Mapping[str, str]
    without: tuple[str, ...] = ()
    """Options of most that it does not have."""

    def hyperparameters(self) -> SearchStrategy[dict[str, Any]]:
        """Draws its options."""
        options = {**_OPTIONS, **self.more}
        drawn = st.fixed_dictionaries({name: each for name, each in options.items() if name not in self.without})
        return drawn.filter(_with_momentum) if "nesterov" in options else drawn


def _with_momentum(options: Mapping[str, Any]) -> bool:
    """Nesterov's momentum is some, and not damped: what SGD's constructor asks for."""
    return not options["nesterov"] or (options["momentum"] > 0 and options["dampening"] == 0)


_DECOUPLED = {"decoupled_weight_decay": st.booleans()}
_ADAM = torch_adam_names()

_KNOWN: dict[str, _Known] = {
    "RAdam": _Known(_radam, _DECOUPLED, _ADAM),
    "Adam": _Known(_adam, {**_DECOUPLED, "amsgrad": st.booleans()}, _ADAM),
    "AdamW": _Known(_adamw, {"amsgrad": st.booleans()}, _ADAM),
    "Adamax": _Known(_adamax, {}, {"t": "step", "m": "exp_avg", "v": "exp_inf"}),
    "NAdam": _Known(
        _nadam,
        {**_DECOUPLED, "momentum_decay": st.sampled_from((4e-3, 0.0, 0.1, 1.0))},
        {"t": "step", "m": "exp_avg", "v": "exp_avg_sq", "s": "mu_product"},
    ),
    "RMSprop": _Known(
        _rmsprop,
        {
            "alpha": st.sampled_from(_RATES),
            "momentum": st.sampled_from((0.0, 0.9, 0.5, 1.0)),
            "centered": st.booleans(),
        },
        {"t": "step", "m": "grad_avg", "v": "square_avg", "s": "momentum_buffer"},
        without=("betas",),
    ),
    "Adagrad": _Known(
        _adagrad,
        {
            "lr_decay": st.sampled_from((0.0, 0.1, 1e-3, 1.0)),
            "initial_accumulator_value": st.sampled_from((0.0, 0.1, 1.0)),
        },
        {"t": "step", "v": "sum"},
        without=("betas",),
    ),
    "Adadelta": _Known(
        _adadelta,
        {
            "lr": st.sampled_from((1.0, *LR_CORNERS)),
            "rho": st.sampled_from((*_RATES, 1.0)),
            "eps": st.sampled_from((1e-6, *_EPS)),
        },
        {"t": "step", "v": "square_avg", "s": "acc_delta"},
        without=("betas",),
    ),
    "ASGD": _Known(
        _asgd,
        {
            "lambd": st.sampled_from((1e-4, 0.0, 0.1, 1.0)),
            "alpha": st.sampled_from((0.75, 0.0, 1.0, 0.5)),
            "t0": st.sampled_from((1e6, 0.0, 2.0, 3.5)),
        },
        {"t": "step", "m": "ax", "v": "eta", "s": "mu"},
        without=("betas", "eps"),
    ),
    "SGD": _Known(
        _sgd,
        {
            "momentum": st.sampled_from((0.0, 0.9, 0.5, 1.0)),
            "dampening": st.sampled_from((0.0, 0.5, 1.0)),
            "nesterov": st.booleans(),
        },
        {"m": "momentum_buffer"},
        without=("betas", "eps"),
    ),
    "SparseAdam": _Known(
        _sparse_adam,
        {
            "lr": st.sampled_from([lr for lr in LR_CORNERS if lr]),
            "eps": st.sampled_from([eps for eps in _EPS if eps]),
        },
        _ADAM,
        without=("weight_decay",),
    ),
}
_DRIVEN: dict[type[torch.optim.Optimizer], type[torch.optim.Optimizer]] = {
    torch.optim.LBFGS: LBFGS,
    torch.optim.SparseAdam: SparseAdam,
}
"""What drives an optimizer that does not step on dense gradients alone."""


def torch_subject(optimizer: type[torch.optim.Optimizer], name: str, like: str | None = None) -> Subject | None:
    """A Subject for an optimizer of torch, judged with textbook scalars; None for one without an oracle here.

    Args:
        optimizer: the class.
        name: of the subject, for reports.
        like: the name of torch's optimizer whose constructor and arithmetic it has; None where it is torch's own.
    """
    if like is None and optimizer is getattr(torch.optim, optimizer.__name__, None):
        like = optimizer.__name__
    if like not in _KNOWN:
        return None
    known, build = _KNOWN[like], FromClass(_DRIVEN.get(optimizer, optimizer))
    return Subject(
        name=name,
        build=build,
        hyperparameters=known.hyperparameters(),
        oracle=known.oracle,
        state=known.state,
        call=build.call,
    )


def subjects() -> list[Subject]:
    """A Subject for each optimizer of torch.optim: with an oracle, or known by its constructor alone."""
    names = (
        *("ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS", "Muon", "NAdam", "RAdam"),
        *("RMSprop", "Rprop", "SGD", "SparseAdam"),
    )
    return [_subject(getattr(torch.optim, name), f"torch.optim:{name}") for name in names]


def _subject(optimizer: type[torch.optim.Optimizer], name: str) -> Subject:
    return torch_subject(optimizer, name) or class_subject(_DRIVEN.get(optimizer, optimizer), name)
