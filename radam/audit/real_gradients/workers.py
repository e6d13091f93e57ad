"""Training configurations one after the other, or several at a time in processes of their own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import fields
from functools import lru_cache
from typing import Any

import torch

from radam.audit.real_gradients.configurations import Configuration, named
from radam.audit.real_gradients.task import Task
from radam.audit.real_gradients.training import Result, train

_task = lru_cache(maxsize=1)(Task)


def run(
    chosen: Sequence[Configuration],
    specification: str | None,
    *,
    seed: int,
    device: str,
    steps: int,
    jobs: int,
    progress: Callable[[], object] = lambda: None,
) -> Iterator[Result]:
    """Train configurations.

    Args:
        chosen: some of `named(specification)`.
        specification: of their optimizer.
        seed: of the first weights and the batches.
        device: where to train.
        steps: of each configuration.
        jobs: how many at a time; with one, all happens in this process.
        progress: called after each step, where it happens in this process.

    Yields:
        Results, in the order in which they come.
    """
    if jobs == 1:
        for configuration in chosen:
            yield train(configuration, _task(seed, device), steps, progress)
        return
    # A forked child would inherit locks of torch's threads, and could not use CUDA.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, torch.set_num_threads, (torch.get_num_threads(),)) as pool:
        running = {pool.submit(_work, specification, each.name, seed, device, steps): each for each in chosen}
        try:
            for future in as_completed(running):
                yield Result(running[future], **future.result())
        finally:
            pool.shutdown(cancel_futures=True)


def _work(specification: str | None, name: str, seed: int, device: str, steps: int) -> dict[str, Any]:
    """The result of a configuration without the configuration: a class and its strategies cannot always be pickled."""
    (configuration,) = (each for each in named(specification) if each.name == name)
    result = train(configuration, _task(seed, device), steps)
    return {field.name: getattr(result, field.name) for field in fields(result) if field.name != "configuration"}
