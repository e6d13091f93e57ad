"""What the checks of a group's tensors have found, for as long as all that they look at stays as it was.

To check a tensor in Python takes longer than to step a small one. The checks look at types, dtypes, devices, sizes,
strides and the kind of view; torch's guards, by which torch.compile knows whether its code still serves, compare all of
that for a list of tensors in one call. The tensors themselves are looked up at each step: none is kept, so none can be
stale.

The guards are no public interface: :func:`_guards` tries what is relied on. Without them every step checks everything.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain, repeat
from operator import is_, is_not
from typing import Any, NamedTuple

import torch

from radam.kernels.work import Columns, Work, columns
from radam.state import MOMENTS, STEP, TENSORS


class Key(NamedTuple):
    """What must be alike in one list."""

    kernel: str
    device: torch.device
    dtype: torch.dtype
    """Of the moments."""
    aligned: bool
    """Whether fused can take them as they lie."""
    small: bool


class Recalled(NamedTuple):
    """Parameters of a group that have a gradient: their states, their step counts and their tensors."""

    states: list[dict[str, Any]]
    steps: list[int]
    tensors: Columns
    places: Mapping[Key, Sequence[int]]
    """Which of them belong to which list."""

    def lists(self, among: Collection[int] | None = None) -> dict[Key, Columns]:
        """The tensors, or those at some places, list by list."""
        if among is None and len(self.places) == 1:
            return dict.fromkeys(self.places, self.tensors)
        chosen = {
            key: places if among is None else [i for i in places if i in among] for key, places in self.places.items()
        }
        return {key: self.tensors.at(places) for key, places in chosen.items() if places}


class Settled:
    """The verdict on some parameters, of which each has been checked and can be stepped by a list kernel.

    Args:
        works: the parameters' own tensors, as they have been checked.
        keys: to which list each belongs.
        amsgrad: whether the maximum of v is worked on.
        circumstances: what else the verdict rests on.
    """

    def __init__(self, works: Sequence[Work], keys: Sequence[Key], *, amsgrad: bool, circumstances: object) -> None:
        self._number = len(keys)
        self._places: dict[Key, list[int]] = {}
        for place, key in enumerate(keys):
            self._places.setdefault(key, []).append(place)
        self._amsgrad = amsgrad
        self._circumstances = circumstances
        self._unchanged = guard(list(chain.from_iterable(columns(works))))

    def recall(
        self, params: Sequence[torch.Tensor], states: Mapping[torch.Tensor, dict[str, Any]], circumstances: object
    ) -> Recalled | None:
        """The tensors of today, if the verdict is about them; None where anything must be checked again."""
        if circumstances != self._circumstances:
            return None
        grads: list[Any] = [param.grad for param in params]
        if not all(map(is_not, grads, repeat(None))):
            params = [param for param in params if param.grad is not None]
            grads = [param.grad for param in params]
        if len(params) != self._number:
            return None
        known = _states_of(params, states)
        names = TENSORS if self._amsgrad else MOMENTS
        try:
            steps = [state[STEP] for state in known]
            moments = [[state[name] for state in known] for name in names]
        except (KeyError, TypeError):
            return None
        if set(map(type, steps)) != {int} or min(steps) < 0:
            return None
        if not self._unchanged(*params, *grads, *chain.from_iterable(moments)):
            return None
        return Recalled(known, steps, Columns(list(params), grads, *moments), self._places)


def _states_of(params: Sequence[torch.Tensor], states: Mapping[torch.Tensor, dict[str, Any]]) -> list[Any]:
    """The state of each parameter, or None; in one go where these are all that there are, in order."""
    if len(states) == len(params) and all(map(is_, states, params)):
        return list(states.values())
    # Reading states[param] might create it.
    return list(map(states.get, params))


Guard = Callable[..., bool]


def guard(tensors: Sequence[torch.Tensor]) -> Guard:
    """What tells whether as many other tensors are like these in all that a check looks at."""
    return _guards()(*tensors, dynamic_dims_sizes=None, dynamic_dims_strides=None).check  # type: ignore[no-any-return]


def can_be() -> bool:
    """Whether a verdict can be recalled with this torch."""
    return _guards() is not None


@functools.cache
def _guards() -> Any:
    """torch's guards of tensors, if they tell apart what must be told apart; else None."""
    try:
        guards: Any = torch._C._dynamo.guards.TensorGuards
        tensor = torch.ones(2, 3)
        check = guards(tensor, tensor, dynamic_dims_sizes=None, dynamic_dims_strides=None).check
        works = check(tensor, torch.zeros(2, 3)) and not any(
            check(tensor, other) or check(other, tensor) for other in _unlike(tensor)
        )
    except Exception:
        return None
    return guards if works else None


def _unlike(tensor: torch.Tensor) -> list[Any]:
    """Tensors that differ from a float32 tensor in one thing that a check looks at, and what is no tensor."""
    return [
        tensor.reshape(3, 2),
        tensor.reshape(1, 2, 3),
        tensor.double(),
        tensor.half(),
        tensor.t().contiguous().t(),
        tensor[:1].expand(2, 3),
        torch.ones(2, 6)[:, ::2],
        tensor.to_sparse(),
        tensor.to("meta"),
        torch._neg_view(tensor),
        torch.nn.Parameter(tensor),
        tensor.clone().requires_grad_(),
        None,
        0.0,
    ]
