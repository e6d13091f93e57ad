"""One thread for small tensors: how it is found out whether OpenMP can be asked for it, and that it is asked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from radam.kernels import threads


class OpenMP:
    """A library that sets the number of threads, as it is told or not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int = 4, sets: Any = None) -> None:
        self.number = number
        self.calls: list[int] = []
        self.sets = sets or {}
        monkeypatch.setattr(threads.ctypes, "CDLL", lambda name: SimpleNamespace(omp_set_num_threads=self.set))
        monkeypatch.setattr(torch, "get_num_threads", lambda: self.number)

    def set(self, number: int) -> None:
        self.calls.append(number)
        self.number = self.sets.get(number, number)


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_library_that_obeys_is_used(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for one thread, and for as many as there were."""
    library = OpenMP(monkeypatch, number)
    assert threads._setter() == library.set
    assert library.calls == [1, number]
    assert library.number == number


@pytest.mark.parametrize(
    "sets",
    [{1: 4}, {1: 2}, {4: 1}, {4: 2}, {4: 8}, {1: 4, 4: 8}],
    ids=["takes no notice", "sets two", "does not go back", "goes half back", "goes further", "does what it likes"],
)
def test_a_library_that_does_not_is_left(sets: dict[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    OpenMP(monkeypatch, 4, sets)
    assert threads._setter() is None


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_where_there_is_no_library_there_is_no_setter(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str | None) -> Any:
        raise error

    monkeypatch.setattr(threads.ctypes, "CDLL", missing)
    assert threads._setter() is None


@pytest.mark.parametrize("number", [1, 2, 4])
def test_one_thread_inside_and_as_many_as_before_after_it(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is not set where there is one."""
    library = OpenMP(monkeypatch, number)
    monkeypatch.setattr(threads, "_SET", library.set)
    with threads.one():
        assert library.number == 1
    assert library.number == number
    assert library.calls == ([1, number] if number > 1 else [])


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("can_set", [True, False])
def test_whether_one_thread_can_be_had(can_set: bool, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    library = OpenMP(monkeypatch, number)
    monkeypatch.setattr(threads, "_SET", library.set if can_set else None)
    assert threads.can_be_one() == (can_set or number == 1)
