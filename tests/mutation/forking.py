"""Work on each of many things in a process of its own, forked from this one, so that nothing is imported again."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Task = TypeVar("Task")


@dataclass(frozen=True)
class Done(Generic[Task]):
    """What came of one task."""

    task: Task
    result: Any
    """What the work returned; None where there is a trouble."""
    trouble: str
    """Why there is no result: it took too long, raised, or its process ended. Empty where there is one."""
    seconds: float


def each_in_a_process(
    work: Callable[[Task], Any], tasks: Sequence[Task], jobs: int, limit: float
) -> Iterator[Done[Task]]:
    """Do the work on each task, `jobs` at a time, each at most `limit` seconds; in the order in which they end."""
    context = multiprocessing.get_context("fork")
    waiting = list(tasks)
    running: dict[Any, tuple[Task, Any, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            task = waiting.pop(0)
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_child, args=(sender, work, task))
            process.start()
            sender.close()
            running[receiver] = (task, process, time.monotonic())
        ready = multiprocessing.connection.wait(list(running), timeout=1.0)
        for receiver in list(running):
            task, process, start = running[receiver]
            seconds = time.monotonic() - start
            result, trouble = None, ""
            if receiver in ready:
                try:
                    result, trouble = receiver.recv()
                except EOFError:
                    trouble = "its process ended"
            elif seconds > limit:
                process.kill()
                trouble = f"it took more than {limit:.0f} s"
            else:
                continue
            process.join()
            del running[receiver]
            yield Done(task, result, trouble, seconds)


def _child(connection: multiprocessing.connection.Connection, work: Callable[[Task], Any], task: Task) -> None:
    try:
        connection.send((work(task), ""))
    except BaseException:
        connection.send((None, traceback.format_exc()))
    connection.close()
    # The parent's exit handlers are not the child's to run.
    sys.stdout.flush()
    os._exit(0)
