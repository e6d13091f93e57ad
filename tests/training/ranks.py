"""Work on several processes: joined over gloo, or over nccl where each has a GPU."""

from __future__ import annotations

import io
import multiprocessing
import multiprocessing.connection
import os
import tempfile
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed

from tests.training import model

LIMIT = 180.0
"""Seconds, after which processes that wait for one another are given up."""


@cache
def _context() -> multiprocessing.context.ForkServerContext:
    """Processes forked from one that has imported torch, and has not computed anything yet."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch.distributed.fsdp", "radam.audit", "tests.training.resuming"])
    return context


def start(work: Callable[..., Any], *arguments: Any) -> tuple[Any, multiprocessing.connection.Connection]:
    """Start a process that does work; it, and the connection on which what `work` returns will come."""
    context = _context()
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_alone, args=(sender, str(model.HERE), work, arguments), daemon=True)
    process.start()
    sender.close()
    return process, receiver


def on_ranks(number: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `work(*arguments)` returns on each of `number` processes, in the order of their ranks.

    Each has a GPU of its own where models are on GPUs; the test is skipped where there are fewer.

    Raises:
        RuntimeError: a process raised, ended, or took more than LIMIT seconds; says which, and what it raised.
    """
    if model.HERE.type == "cuda" and torch.cuda.device_count() < number:
        pytest.skip(f"{number} processes need as many GPUs, but there are {torch.cuda.device_count()}")
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        started = [start(_joined, rank, number, store, work, arguments) for rank in range(number)]
        try:
            return [_received(rank, connection) for rank, (_, connection) in enumerate(started)]
        finally:
            for process, _ in started:
                process.kill()
                process.join()


def _received(rank: int, connection: multiprocessing.connection.Connection) -> Any:
    if not connection.poll(LIMIT):
        raise RuntimeError(f"rank {rank} took more than {LIMIT:.0f} s")
    try:
        result, trouble = torch.load(io.BytesIO(connection.recv_bytes()), weights_only=False)
    except EOFError:
        raise RuntimeError(f"rank {rank} ended without a result") from None
    if trouble:
        raise RuntimeError(f"rank {rank} raised\n{trouble}")
    return result


def _joined(rank: int, number: int, store: str, work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    os.environ["LOCAL_RANK"] = str(rank)
    backend = "gloo"
    if model.HERE.type == "cuda":
        backend = "nccl"
        model.HERE = torch.device("cuda", rank)
        torch.cuda.set_device(rank)
    torch.distributed.init_process_group(backend, init_method=f"file://{store}", rank=rank, world_size=number)
    return work(*arguments)


def _alone(
    connection: multiprocessing.connection.Connection,
    device: str,
    work: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    torch.set_num_threads(1)
    model.HERE = torch.device(device)
    try:
        result, trouble = work(*arguments), ""
    except BaseException:
        result, trouble = None, traceback.format_exc()
    # Sent as they are, tensors would have to be fetched from this process, which ends.
    buffer = io.BytesIO()
    torch.save((result, trouble), buffer)
    connection.send_bytes(buffer.getvalue())
    connection.close()
