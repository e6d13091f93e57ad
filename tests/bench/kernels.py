"""How long an adaptive step takes by each kernel, as a ratio to torch's own optimizers in the same run.

    python -m tests.bench.kernels [--rounds N] [--threads N] [--busy N] [--markdown FILE]

All candidates take turns, step by step, in one process, so that a busy machine slows all alike; the table has the
median over the rounds of the ratio within a round, and the quartiles.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rich.console
import rich.table
import torch

import radam

Build = Callable[[list[torch.nn.Parameter]], Any]
WARM_UP = 8
"""Steps before the first that counts: all of them are adaptive from then on."""

SETS: dict[str, tuple[list[int], torch.dtype]] = {
    "1 tensor of 8M, float32": ([2**23], torch.float32),
    "1 tensor of 8M, bfloat16": ([2**23], torch.bfloat16),
    "1 tensor of 8M, float16": ([2**23], torch.float16),
    "60 tensors of 65,536, float32": ([2**16] * 60, torch.float32),
    "60 tensors of 65,536, bfloat16": ([2**16] * 60, torch.bfloat16),
    "1,000 tensors of 64, float32": ([64] * 1000, torch.float32),
}
BASELINE = "torch RAdam, foreach"
CANDIDATES: dict[str, Build] = {
    BASELINE: lambda params: torch.optim.RAdam(params, foreach=True),
    "torch RAdam, its default": lambda params: torch.optim.RAdam(params),
    "torch Adam, fused": lambda params: torch.optim.Adam(params, fused=True),
    "radam": lambda params: radam.RAdam(params),
    "radam, foreach": lambda params: radam.RAdam(params, foreach=True),
    "radam, loop": lambda params: radam.RAdam(params, foreach=False),
    "radam, capturable": lambda params: radam.RAdam(params, capturable=True),
}


def parameters(sizes: list[int], dtype: torch.dtype) -> list[torch.nn.Parameter]:
    """Parameters with gradients, all of ordinary size."""
    result = []
    for size in sizes:
        param = torch.nn.Parameter(torch.full((size,), 0.5, dtype=dtype))
        param.grad = torch.full_like(param, 0.25)
        result.append(param)
    return result


def times(sizes: list[int], dtype: torch.dtype, rounds: int) -> dict[str, list[float]]:
    """Seconds of one step of each candidate in each round."""
    optimizers = {name: build(parameters(sizes, dtype)) for name, build in CANDIDATES.items()}
    for optimizer in optimizers.values():
        for _ in range(WARM_UP):
            optimizer.step()
    result: dict[str, list[float]] = {name: [] for name in optimizers}
    for _ in range(rounds):
        for name, optimizer in optimizers.items():
            start = time.perf_counter()
            optimizer.step()
            result[name].append(time.perf_counter() - start)
    return result


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Other processes that take all they get."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def main() -> None:
    """Measure, and print a table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--busy", type=int, default=0, help="so many other processes compute meanwhile")
    parser.add_argument("--markdown", type=Path, help="write the table there too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    title = (
        f"time of a step, in times of {BASELINE} (median, quartiles); torch {torch.__version__}, "
        f"{platform.machine()}, {arguments.threads} thread(s), {arguments.busy} busy process(es) beside it, "
        f"{arguments.rounds} rounds"
    )
    table = rich.table.Table("", *CANDIDATES, title=title)
    lines = [f"| {' | '.join(['', *CANDIDATES])} |", "|---" * (len(CANDIDATES) + 1) + "|"]
    for label, (sizes, dtype) in SETS.items():
        with busy(arguments.busy):
            seconds = times(sizes, dtype, arguments.rounds)
        cells = []
        for name in CANDIDATES:
            ratios = [own / base for own, base in zip(seconds[name], seconds[BASELINE], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            base = f"{1e3 * statistics.median(seconds[name]):.2f} ms"
            cells.append(base if name == BASELINE else f"{middle:.2f} ({low:.2f}-{high:.2f})")
        table.add_row(label, *cells)
        lines.append(f"| {' | '.join([label, *cells])} |")
    rich.console.Console(width=180).print(table)
    if arguments.markdown:
        arguments.markdown.write_text("\n".join([f"{title}.", "", *lines, ""]))


if __name__ == "__main__":
    main()
