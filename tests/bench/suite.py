"""How fast the verification itself is: compared pairs a second, seconds of each check and until a mistake is found."""

from __future__ import annotations

import functools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import numpy as np
import torch
from hypothesis import strategies as st

import radam
from radam.audit import Lockstep
from radam.audit.auditing import carry_out, chosen, plan, prepared, resolved
from radam.audit.subjects.radam import oracle
from tests.mutation.catalogue import BY_NAME
from tests.mutation.judging import by_audit, subject_of

TENSORS, STEPS = (8, 64), 20
PAIRS = 6400
"""Compared in a turn."""


def cases(tensors: int) -> st.SearchStrategy[dict[str, Any]]:
    """What is drawn: shapes, a seed for the numbers, and hyper-parameters."""
    shape = st.tuples(st.integers(1, 6), st.integers(1, 6))
    return st.fixed_dictionaries(
        {
            "shapes": st.lists(shape, min_size=tensors, max_size=tensors),
            "seed": st.integers(0, 2**32 - 1),
            "lr": st.floats(1e-4, 0.1),
            "betas": st.tuples(st.floats(0.5, 0.99), st.floats(0.9, 0.999)),
        }
    )


def _start(case: dict[str, Any]) -> tuple[np.random.Generator, list[torch.nn.Parameter], dict[str, Any]]:
    rng = np.random.default_rng(case["seed"])
    params = [torch.nn.Parameter(torch.from_numpy(rng.standard_normal(shape))) for shape in case["shapes"]]
    return rng, params, {"lr": case["lr"], "betas": case["betas"], "eps": 1e-8}


class Plain:
    """RAdam as one would write it beside a test: textbook formulas, a tensor at a time."""

    def __init__(self, param: Any, lr: float, betas: tuple[float, float], eps: float) -> None:
        self.param = param.copy()
        self.m, self.v = np.zeros_like(param), np.zeros_like(param)
        self.t, self.lr, self.betas, self.eps = 0, lr, betas, eps

    def step(self, grad: Any) -> None:
        """Take a step."""
        self.t += 1
        b1, b2 = self.betas
        self.m = b1 * self.m + (1 - b1) * grad
        self.v = b2 * self.v + (1 - b2) * grad * grad
        bc1, bc2 = 1 - b1**self.t, 1 - b2**self.t
        limit = 2 / (1 - b2) - 1
        rho = limit - 2 * self.t * b2**self.t / bc2
        if rho >= 5:
            r = np.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
            self.param -= self.lr * r * np.sqrt(bc2) / bc1 * self.m / (np.sqrt(self.v) + self.eps)
        else:
            self.param -= self.lr / bc1 * self.m


def plainly(case: dict[str, Any]) -> None:
    """A plain RAdam for each tensor runs freely beside it, and `assert_allclose` compares the parameters."""
    rng, params, options = _start(case)
    optimizer = radam.RAdam(params, **options)
    plain = [Plain(param.detach().numpy(), **options) for param in params]
    for _ in range(STEPS):
        for param in params:
            param.grad = torch.from_numpy(rng.standard_normal(param.shape))
        optimizer.step()
        for own, param in zip(plain, params, strict=True):
            assert param.grad is not None
            own.step(param.grad.numpy())
            np.testing.assert_allclose(param.detach().numpy(), own.param, rtol=1e-6, atol=1e-9)


def in_lockstep(case: dict[str, Any]) -> None:
    """By this suite: parameter, both moments, gradient and count of each tensor, each step within its own bound."""
    rng, params, options = _start(case)
    lockstep = Lockstep(radam.RAdam(params, **options), [options], oracle, scalars="exact")
    with lockstep.together():
        for _ in range(STEPS):
            for param in params:
                param.grad = torch.from_numpy(rng.standard_normal(param.shape))
            lockstep.step()


def pairs_a_second(check: Callable[[dict[str, Any]], None], tensors: int, seed: int) -> float:
    """Compared (tensor, step) pairs a second, Hypothesis included."""
    number = 0

    def counted(case: dict[str, Any]) -> None:
        nonlocal number
        number += tensors * STEPS
        check(case)

    start = time.perf_counter()
    settings = hypothesis.settings(max_examples=PAIRS // (tensors * STEPS), database=None, deadline=None)
    hypothesis.seed(seed)(settings(hypothesis.given(cases(tensors))(counted)))()
    return number / (time.perf_counter() - start)


def lockstep(rounds: int) -> list[dict[str, float]]:
    """For each number of tensors the pairs a second of both, and the median of their ratio within a round."""
    result = []
    for tensors in TENSORS:
        plain, ours = zip(
            *((pairs_a_second(plainly, tensors, r), pairs_a_second(in_lockstep, tensors, r)) for r in range(rounds)),
            strict=True,
        )
        result.append(
            {
                "tensors": tensors,
                "plainly": statistics.median(plain),
                "in lock-step": statistics.median(ours),
                "ratio": statistics.median(b / a for a, b in zip(plain, ours, strict=True)),
            }
        )
    return result


class Seconds(NamedTuple):
    """Of a check."""

    check: str
    settings: int
    seconds: float


def checks(subject: str, max_examples: int) -> list[Seconds]:
    """Each check that applies to a subject, the slowest first."""
    capabilities = prepared(resolved(subject), torch.device("cpu"))
    result = []
    for check in chosen(None):
        start, settings = time.perf_counter(), 0
        for planned in plan(capabilities, [check]):
            settings += carry_out(planned, max_examples).status != "skipped"
        if settings:
            result.append(Seconds(check.name, settings, time.perf_counter() - start))
    return sorted(result, key=lambda entry: -entry.seconds)


MISTAKES = ("r_float32", "bias2_missing", "eps_inside_root", "decay_missing_on_hold", "step_per_group", "load_loses_v")


def first_failures(names: Sequence[str]) -> dict[str, float]:
    """Seconds until `radam-audit`'s checks find a wrong RAdam, without the start of the interpreter."""
    result = {}
    for name in names:
        mutant = BY_NAME[name]
        found, _ = by_audit(functools.partial(subject_of, name), mutant.base, quick=True, part=mutant.part)
        result[name] = found.seconds if found else float("inf")
    return result


PROGRAMS = {
    "an audit of torch's RAdam, few examples": (
        "from radam.audit.cli import main\n"
        "main(['torch.optim:RAdam', '--max-examples', '2', '--backend', 'eager', '--dtype', 'float32'])"
    ),
    "10^6 trajectories of 100 steps, simulated": (
        "from reference.monte_carlo import simulate\nsimulate(0.999, [100], 10**6)"
    ),
    "10^7 trajectories of 10 steps, simulated": (
        "from reference.monte_carlo import simulate\nsimulate(0.999, [10], 10**7)"
    ),
}


_REPORT = """
import sys
with open('/proc/self/status') as file:
    sys.stderr.write(next(line for line in file if line.startswith('VmHWM')).split()[1])
"""
"""The kernel's own account: what getrusage says is at least what the parent has taken."""


def memory() -> dict[str, int]:
    """The most memory that some programs have taken, in bytes; empty where there is no /proc."""
    if not Path("/proc/self/status").exists():
        return {}
    result = {}
    for name, code in PROGRAMS.items():
        done = subprocess.run([sys.executable, "-c", code + _REPORT], capture_output=True, text=True, check=True)
        result[name] = 1024 * int(done.stderr.splitlines()[-1])
    return result


def of_pytest(processes: Sequence[int], tests: str) -> dict[str, float]:
    """Seconds of some tests on several processes."""
    result = {}
    for number in processes:
        start = time.perf_counter()
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", str(number), tests]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        result[str(number)] = time.perf_counter() - start
    return result
