"""Run the tests of everything that RAdam is trained with, and write the table: `python -m tests.training`."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from tests.readme import README, written_between
from tests.training.ranks import LIMIT

ECOSYSTEM = "tests/training/ecosystem"
DISTRIBUTED = "tests/training/test_distributed.py"
CHECKPOINTS = "tests/training/test_checkpoints.py"
PRECISION = "tests/training/test_mixed_precision.py"
RELIABILITY = "tests/training/test_reliability.py"
AUDIT = "tests/audit/test_cli.py"
COMPATIBILITY = "tests/core/test_compatibility.py"
COMPILED = "tests/core/test_compiled.py"


class Row(NamedTuple):
    """What RAdam works with, and the tests that show it."""

    what: str
    package: str
    tests: str
    names: str = ""
    """pytest's -k."""


ROWS = (
    Row(
        "autocast; bfloat16 parameters, with gradients of bfloat16 or float32",
        "torch",
        PRECISION,
        "autocast or bfloat16",
    ),
    Row(
        "`GradScaler`, and `found_inf` of others; clipped and accumulated gradients",
        "torch",
        PRECISION,
        "scaler or inf or clipped",
    ),
    Row("`DistributedDataParallel`, two processes: replicas stay equal, bit for bit", "torch", DISTRIBUTED, "replicas"),
    Row(
        "FSDP2, `fully_shard`, two and three processes, uneven shards, bfloat16 arithmetic",
        "torch",
        DISTRIBUTED,
        "test_shards_are or test_shards_with",
    ),
    Row("`ZeroRedundancyOptimizer`", "torch", DISTRIBUTED, "test_shards_of_optimizers"),
    Row("tensor parallel: columns and rows", "torch", DISTRIBUTED, "columns"),
    Row(
        "`torch.distributed.checkpoint`: saved by four processes, loaded by two", "torch", CHECKPOINTS, "four_processes"
    ),
    Row("a run killed with SIGKILL at random moments, 50 times of 50", "torch", CHECKPOINTS, "killed or fifty"),
    Row(
        "truncated and damaged checkpoints: refused, and nothing changed", "torch", CHECKPOINTS, "truncated or damaged"
    ),
    Row("20,000 steps; threads that step optimizers of their own", "torch", RELIABILITY),
    Row(
        "every scheduler; averaged weights; an optimizer for each parameter, stepped in the backward pass",
        "torch",
        COMPATIBILITY,
    ),
    Row("groups of parameters that decay, and of biases and norms that do not", "torch", "tests/core/test_groups.py"),
    Row(
        "`torch.compile` of the step, and of a whole training step",
        "torch",
        COMPILED,
        "compiled_training_step or closure or once_for_all",
    ),
    Row("`torch.func` through steps with `differentiable=True`", "torch", "tests/training/test_functional.py"),
    Row(
        "an audit in shards that are merged, and one that is cut short and gone on with",
        "radam",
        AUDIT,
        "shard or cut",
    ),
    Row("`accelerate`", "accelerate", f"{ECOSYSTEM}/test_accelerate.py"),
    Row("`lightning`", "lightning", f"{ECOSYSTEM}/test_lightning.py"),
    Row("`Trainer`, with a schedule of transformers", "transformers", f"{ECOSYSTEM}/test_transformers.py"),
)


def carried_out(row: Row) -> tuple[int, str]:
    """How many tests of a row passed, and what went wrong."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "deep or not deep", row.tests]
    if row.names:
        command += ["-k", row.names]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20 * LIMIT)
    last = (done.stdout.strip().splitlines() or [done.stderr.strip()])[-1]
    passed = re.search(r"(\d+) passed", last)
    skipped = re.search(r"(\d+) skipped", last)
    trouble = "" if done.returncode == 0 and passed and not skipped else last
    return int(passed[1]) if passed else 0, trouble


def table(counts: Sequence[int]) -> str:
    """Markdown: what, with which version, shown by which tests."""
    lines = ["| works with | version | tests |", "|---|---|---|"]
    for row, count in zip(ROWS, counts, strict=True):
        try:
            found = f"{row.package} {version(row.package)}"
        except PackageNotFoundError:
            found = f"{row.package}, not installed"
        names = f' -k "{row.names}"' if row.names else ""
        lines.append(f"| {row.what} | {found} | {count}: `{row.tests}{names}` |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tests, write the table if all pass, and return the exit status."""
    argparse.ArgumentParser(prog="python -m tests.training", description=__doc__).parse_args(argv)
    counts, troubles = [], []
    for row in ROWS:
        count, trouble = carried_out(row)
        print(f"{row.what}: {trouble or f'{count} passed'}", flush=True)
        counts.append(count)
        troubles += [trouble] if trouble else []
    if not troubles:
        written_between(README.parent / "tests" / "training" / "README.md", "works with", table(counts))
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main())
