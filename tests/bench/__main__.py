"""Measure speed and memory, of the optimizer and of the suite: `python -m tests.bench`.

Each figure that is compared is a ratio within one run, in which all candidates take turns. What is not asked for by
--only is kept from the last run, in results.json beside this file; tables, plots and the README's table follow from it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

# torch's profiler talks.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch

from tests.bench import memory, scale, steps, suite
from tests.bench.sets import QUICK, SETS
from tests.bench.tables import plot_of_steps, readme_table, results
from tests.readme import README, written_between

FOLDER = Path(__file__).parent
PARTS = ("steps", "memory", "suite", "scale")


def _machine(device: str) -> dict[str, Any]:
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "torch": torch.__version__,
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "processors": os.cpu_count(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _steps(options: argparse.Namespace) -> list[dict[str, Any]]:
    result = []
    for threads in options.threads:
        for parameters in QUICK if options.quick else SETS:
            print(f"{parameters.name}, {threads} thread(s)", file=sys.stderr)
            timings = steps.measure(
                parameters, threads, options.rounds, options.device, compiled=not options.quick and threads == 1
            )
            result += [asdict(timing) for timing in timings]
    return result


def _memory(options: argparse.Namespace) -> dict[str, Any]:
    memory.sanity()
    parameters = QUICK[-1] if options.quick else next(each for each in SETS if each.name == "1 x 25M")
    return {"set": parameters.name, "peaks": [peak._asdict() for peak in memory.measure(parameters, options.device)]}


def _suite(options: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    few = 1 if options.quick else 6
    return {
        "pairs a second": suite.lockstep(2 if options.quick else 9),
        "checks": [entry._asdict() for entry in suite.checks("radam:RAdam", few)],
        "seconds to find": suite.first_failures(suite.MISTAKES),
        "bytes": suite.memory(),
        "seconds of pytest": suite.of_pytest(
            [1, 2], "tests/subject/test_closure.py" if options.quick else "tests/subject"
        ),
    }


def _scale(options: argparse.Namespace) -> list[dict[str, Any]]:
    return [curve._asdict() for curve in scale.curves(3 if options.quick else options.rounds)]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write what was seen, and print it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, help="measure this alone; may be given again")
    parser.add_argument("--quick", action="store_true", help="small sets and few rounds; nothing is written")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each candidate (default: 15)")
    parser.add_argument("--threads", type=int, action="append", help="may be given again (default: 1 and 2)")
    parser.add_argument(
        "--busy", type=int, default=0, help="so many other processes compute meanwhile; as with --quick"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--render", action="store_true", help="measure nothing, write tables and plots anew")
    options = parser.parse_args(argv)
    options.threads = options.threads or [1, 2]
    options.quick = options.quick or options.busy > 0
    path = FOLDER / ("results.json" if options.device == "cpu" else "results_cuda.json")
    document = json.loads(path.read_text()) if path.exists() and not options.quick else {}
    measures = {"steps": _steps, "memory": _memory, "suite": _suite, "scale": _scale}
    for part in [] if options.render else options.only or PARTS:
        with steps.busy(options.busy):
            document[part] = {"machine": _machine(options.device), "found": measures[part](options)}
        if not options.quick:
            path.write_text(json.dumps(document, indent=1))
    print(results(document))
    if options.quick:
        return 0
    path.with_suffix(".md").write_text(results(document))
    if "steps" in document:
        plot_of_steps(document["steps"]).savefig(
            path.with_name(path.stem.replace("results", "steps") + ".png"), dpi=120
        )
        if options.device == "cpu":
            written_between(README, "speed", readme_table(document["steps"], document.get("memory")))
    if "scale" in document:
        curves = [scale.Curve(**each) for each in document["scale"]["found"]]
        scale.plot(curves).savefig(path.with_name(path.stem.replace("results", "scale") + ".png"), dpi=120)
    return 0


if __name__ == "__main__":
    sys.exit(main())
