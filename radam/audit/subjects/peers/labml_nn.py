"""labml's optimizers."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from radam.audit.strategies import LR_CORNERS
from radam.audit.subject import Oracle, Subject
from radam.audit.subjects.peers.common import MakesOracle, adaptive, plain
from radam.audit.subjects.radam import Family

_VARIANCES = {"t": "step", "m": "exp_avg", "v": "exp_avg_var", "s": "max_exp_avg_var"}


def _radam(options: Mapping[str, Any]) -> Oracle:
    """RAdam, with an eps of 1e-8 by default."""
    import reference

    return reference.RAdam(**{"eps": 1e-8, **plain(options)})


def _adam(options: Mapping[str, Any]) -> Oracle:
    """Adam and AMSGrad: eps before the bias correction where the update is optimized."""
    import reference

    return reference.Adam(**plain(options))


def _amsgrad(options: Mapping[str, Any]) -> Oracle:
    """AMSGrad, which is Adam with the maximum by default."""
    return _adam({"amsgrad": True, **options})


def _adabelief(options: Mapping[str, Any]) -> Oracle:
    """AdaBelief, whose v does not keep the eps; rectified by default."""
    from radam.audit.subjects.peers.oracles import adabelief

    neutral = plain(options, degenerate_to_sgd="degenerated_to_sgd")
    rectify = neutral.pop("rectify", True)
    if not rectify:
        neutral.pop("degenerated_to_sgd", None)
    return adabelief(neutral, rectify=rectify, keeps_eps=False)


def _warmed_up(options: Mapping[str, Any]) -> Oracle:
    """AdamWarmup: the learning rate is lr min(1, t/warmup), that of the decay is lr."""
    import reference

    neutral = plain(options)
    warmup = neutral.pop("warmup", 0)

    class WarmedUp(reference.Adam):
        def apply(self, param: Any, grad: Any) -> Any:
            lr, decay = self.lr, self.weight_decay
            share = min(1.0, self.t / warmup) if warmup else 1.0
            self.lr = share * lr
            if not self.absolute:
                self.weight_decay = decay / share
            result = super().apply(param, grad)
            self.lr, self.weight_decay = lr, decay
            return result

    return WarmedUp(**neutral)


def subjects() -> list[Subject]:
    """Subjects for labml_nn.optimizers, with its `WeightDecay`."""
    decay = importlib.import_module("labml_nn.optimizers").WeightDecay

    def of_name(
        module: str, name: str, options: Mapping[str, SearchStrategy[Any]], oracle: MakesOracle | None, **more: Any
    ) -> Subject:
        optimizer = getattr(importlib.import_module(f"labml_nn.optimizers.{module}"), name)
        family = Family(optimizer, decay)
        return Subject(
            name=f"labml_nn.optimizers.{module}:{name}",
            build=family.build,
            hyperparameters=st.fixed_dictionaries(dict(options)),
            oracle=oracle,
            call=family.call,
            **more,
        )

    # At lr = 0 an absolute decay acts, as documented, and by the oracles of `reference` it does not.
    usual = adaptive("weight_decouple", "absolute", lr=st.sampled_from([lr for lr in LR_CORNERS if lr]))
    adam = {**usual, "optimized_update": st.booleans()}
    maximum = {**adam, "amsgrad": st.booleans()}
    to_sgd = {"degenerated_to_sgd": st.booleans()}
    belief = {**usual, "amsgrad": st.booleans(), "degenerate_to_sgd": st.booleans(), "rectify": st.booleans()}
    warmup = st.sampled_from((0, 4, 100))
    return [
        of_name("ada_belief", "AdaBelief", belief, _adabelief, state=_VARIANCES),
        of_name("adam", "Adam", adam, _adam),
        # Half precision is the rounding of a float32 copy in the state: a step does not follow from what it shows.
        of_name("adam_fp16", "AdamFP16", adam, None),
        of_name("adam_warmup", "AdamWarmup", {**maximum, "warmup": warmup}, _warmed_up),
        of_name("amsgrad", "AMSGrad", maximum, _amsgrad),
        of_name("noam", "Noam", {**maximum, "warmup": st.sampled_from((4, 100))}, None),
        of_name("radam", "RAdam", {**maximum, **to_sgd}, _radam),
        of_name("sophia", "Sophia", usual, None),
    ]
