"""bitsandbytes' optimizers with a state of 32 bits, which run on a CPU; all but RMSprop and Adagrad with oracles."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from radam.audit.strategies import DECAY_CORNERS, LR_CORNERS, betas
from radam.audit.subject import Oracle, Subject
from radam.audit.subjects.peers.common import by_keywords, described
from radam.audit.subjects.peers.lion_pytorch import OPTIONS as OF_LION
from radam.audit.subjects.peers.lion_pytorch import lion


def _adam(**options: Any) -> Oracle:
    """Adam as torch has it, which these are to replace: L2 decay, eps added after the bias correction of v."""
    import reference

    return reference.Adam(**{"eps": 1e-8, "weight_decouple": False, **options}, optimized_update=False)


def _adamw(**options: Any) -> Oracle:
    """The same with decoupled decay, of 0.01 by default."""
    return _adam(**{"weight_decay": 0.01, **options}, weight_decouple=True)


def _sgd(**options: Any) -> Oracle:
    import reference

    return reference.SGD(**options)


_LR = {"lr": st.sampled_from(LR_CORNERS)}
_DECAY = {"weight_decay": st.sampled_from(DECAY_CORNERS)}
_ADAM: dict[str, SearchStrategy[Any]] = {
    **_LR,
    "betas": betas(),
    "eps": st.sampled_from((1e-8, 1e-3, 0.0, 1e-16, 1.0)),
    **_DECAY,
    "amsgrad": st.booleans(),
}
_ONE_STATE = {**_LR, "eps": st.sampled_from((1e-8, 1e-3)), **_DECAY}
_TWO = {"t": "step", "m": "state1", "v": "state2", "s": "max_state2"}
"""With the maximum that `amsgrad` asks for, under whatever name: there is none."""
_ONE = {"t": "step", "m": "state1"}


def subjects() -> list[Subject]:
    """A Subject for each of bitsandbytes' optimizers that are for the CPU too, and step each element by itself."""
    momentum = st.sampled_from((0.9, 0.5))
    return [
        described("bitsandbytes.optim:Adam", _ADAM, by_keywords(_adam), _TWO),
        described("bitsandbytes.optim:AdamW", _ADAM, by_keywords(_adamw), _TWO),
        described("bitsandbytes.optim:Lion", OF_LION, by_keywords(lion), _ONE),
        described("bitsandbytes.optim:SGD", {**_LR, "momentum": momentum, **_DECAY}, by_keywords(_sgd), _ONE),
        described("bitsandbytes.optim:RMSprop", {**_ONE_STATE, "alpha": st.sampled_from((0.99, 0.9))}, state={}),
        described("bitsandbytes.optim:Adagrad", _ONE_STATE, state={}),
        described(
            "bitsandbytes.optim:AdEMAMix",
            {
                **_LR,
                "betas": st.tuples(st.just(0.9), st.sampled_from((0.999, 0.99)), st.sampled_from((0.9999, 0.999))),
                "alpha": st.sampled_from((5.0, 1.0)),
                "eps": st.sampled_from((1e-8, 1e-3)),
                **_DECAY,
            },
            state={},
        ),
    ]
