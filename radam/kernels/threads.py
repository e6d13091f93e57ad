"""Operations on small tensors by one thread, without a word to the other threads of the process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import torch


def _setter() -> Callable[[int], object] | None:
    """OpenMP's own setting of the calling thread, if torch's operations obey it.

    `torch.set_num_threads` would also set what threads that start meanwhile begin with.
    """
    try:
        setter: Callable[[int], object] = ctypes.CDLL(None).omp_set_num_threads
    except (AttributeError, OSError, TypeError):
        return None
    before = torch.get_num_threads()
    setter(1)
    obeyed = torch.get_num_threads() == 1
    setter(before)
    return setter if obeyed and torch.get_num_threads() == before else None


_SET = _setter()


def can_be_one() -> bool:
    """Whether operations run by one thread already, or can be made to for a while."""
    return _SET is not None or torch.get_num_threads() == 1


class one:  # noqa: N801  (a statement's word)
    """Let the operations inside run by the calling thread alone, where :func:`can_be_one`."""

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before = torch.get_num_threads() if _SET is not None else 1
        if self._before > 1:
            _SET(1)  # type: ignore[misc]

    def __exit__(self, *error: object) -> None:
        if self._before > 1:
            _SET(self._before)  # type: ignore[misc]
