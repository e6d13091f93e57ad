"""One configuration: a model trained under the eyes of its oracle."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.func import functional_call

from radam.audit.bounds import Comparison
from radam.audit.capabilities import let_compile
from radam.audit.lockstep import Lockstep, Record, Tally, Trajectory, arithmetic_of
from radam.audit.real_gradients.configurations import Configuration
from radam.audit.real_gradients.task import Task
from radam.audit.subject import Oracle

LOSSES = 20
"""Steps at each end of a run over which its loss is averaged."""
GLANCES = 10
"""The free-running oracle takes every step, and is compared at each of so many, and at the last."""
SHARE = 4
"""It follows one element in so many of each parameter: elements do not mix, and all of them would double the time."""


@dataclass
class Curve(Record):
    """A record that also keeps the worst error of each step."""

    worst_of: dict[int, float] = field(default_factory=dict)

    def add(self, comparison: Comparison, where: str, step: int) -> None:
        """Count one comparison."""
        super().add(comparison, where, step)
        self.worst_of[step] = max(self.worst_of.get(step, 0.0), comparison.worst)


@dataclass
class Result:
    """What came of one configuration."""

    configuration: Configuration
    kernel: str = ""
    losses: list[float] = field(default_factory=list)
    lockstep: Curve = field(default_factory=Curve)
    trajectory: Record = field(default_factory=Record)
    coverage: float = 0.0
    """The free run's bound of a parameter, as a share of the way that the parameter has travelled."""
    without_gradient: list[str] = field(default_factory=list)
    """Parameters that never had one, and so were never judged."""
    failure: str | None = None
    """Why the run stopped early or shows nothing."""
    seconds: float = 0.0

    @property
    def findings(self) -> list[str]:
        """Everything that is wrong, in words."""
        return [*([self.failure] if self.failure else []), *self.lockstep.findings, *self.trajectory.findings]

    @property
    def worst(self) -> Tally | None:
        """The quantity with the largest error in units of the bound, and where that was; None if none was judged."""
        return max(
            (tally for tally in self.lockstep.tallies.values() if tally.worst is not None),
            key=lambda tally: tally.worst.worst if tally.worst else 0.0,
            default=None,
        )

    @property
    def ulp_of_worst(self) -> float:
        """The same error in units in the last place of what it should be, there."""
        tally = self.worst
        if tally is None or tally.worst is None:
            return 0.0
        arithmetic, storage = arithmetic_of(torch.empty(0, dtype=self.configuration.dtype))
        precision = storage if tally.worst.quantity == "param" else arithmetic
        distance = abs(tally.worst.seen - tally.worst.expected)
        return distance / float(precision.spacing(np.asarray(tally.worst.expected)))

    @property
    def first_loss(self) -> float:
        """Mean loss of the first steps."""
        return float(np.mean(self.losses[:LOSSES])) if self.losses else math.nan

    @property
    def last_loss(self) -> float:
        """Mean loss of the last steps."""
        return float(np.mean(self.losses[-LOSSES:])) if self.losses else math.nan


def train(
    configuration: Configuration, task: Task, steps: int, progress: Callable[[], object] = lambda: None
) -> Result:
    """Train a model with an optimizer, and judge its every step.

    Parameters and gradients are of the configuration's dtype. The model computes in float32 where that is half
    precision, on copies of the parameters, as a mixed-precision run does.

    Args:
        configuration: the optimizer and its options.
        task: the model and its data.
        steps: how many, at least 1.
        progress: called after each step.

    Returns:
        What was compared and found. It does not raise for what the optimizer does wrong, raising included.
    """
    result = Result(configuration)
    start = time.perf_counter()
    try:
        _Run(configuration, task, steps, result).go(progress)
    except _Stop as stop:
        result.failure = f"{stop} [{configuration}, {configuration.precision}]"
    result.seconds = time.perf_counter() - start
    if not result.failure and result.lockstep.judged == 0:
        result.failure = f"no value was compared [{configuration}, {configuration.precision}]"
    return result


class _Stop(Exception):
    """The run cannot go on."""


class _Run:
    def __init__(self, configuration: Configuration, task: Task, steps: int, result: Result) -> None:
        self.task, self.steps, self.result = task, steps, result
        self.model = task.model().to(configuration.dtype)
        self.named = dict(self.model.named_parameters())
        self.compute = torch.float64 if configuration.dtype == torch.float64 else torch.float32
        self.sign = -1.0 if configuration.options.get("maximize") else 1.0

        self.names, self.options = self._groups(configuration)
        groups = [
            {"params": [(name, self.named[name]) for name in names]}
            | ({"weight_decay": options["weight_decay"]} if "weight_decay" in options else {})
            for names, options in zip(self.names, self.options, strict=True)
        ]
        subject = configuration.subject
        assert subject.oracle is not None
        self.oracle = subject.oracle
        try:
            self.optimizer = subject.build(groups, {**configuration.options, **configuration.engine})
            if configuration.backend is not None:
                let_compile(self.optimizer, configuration.backend)
        except Exception as error:
            raise _Stop(f"the constructor raised {type(error).__name__}: {error}") from error
        self.lockstep = Lockstep(
            self.optimizer,
            self.options,
            self.oracle,
            state=subject.state,
            scalars=subject.scalars,
            describe=str(configuration),
            keep_going=True,
        )
        self.lockstep.record = result.lockstep
        self.followers: list[_Follower] = []

    def _groups(self, configuration: Configuration) -> tuple[list[list[str]], list[dict[str, object]]]:
        """Names and options by group: vectors, such as biases and the gains of norms, are not decayed."""
        options = dict(configuration.options)
        if "weight_decay" not in options:
            return [list(self.named)], [options]
        matrices = [name for name, param in self.named.items() if param.ndim > 1]
        vectors = [name for name, param in self.named.items() if param.ndim <= 1]
        return [matrices, vectors], [options, {**options, "weight_decay": 0.0}]

    def go(self, progress: Callable[[], object]) -> None:
        batches = self.task.batches()
        for step in range(1, self.steps + 1):
            self._backward(*next(batches), step)
            if step == 1:
                self._follow()
                self.result.kernel = self._kernel()
            for follower in self.followers:
                follower.observe()
            try:
                self.lockstep.step()
            except Exception as error:
                raise _Stop(f"step {step} raised {type(error).__name__}: {error}") from error
            if step % GLANCES == 0 or step == self.steps:
                for follower in self.followers:
                    follower.judge(self.optimizer, step, self.result.trajectory)
            progress()
        self.result.coverage = max((follower.trajectory.coverage for follower in self.followers), default=0.0)
        self.result.without_gradient = [name for name, param in self.named.items() if not self.lockstep.steps_of(param)]

    def _backward(self, inputs: torch.Tensor, targets: torch.Tensor, step: int) -> None:
        self.model.zero_grad()
        weights = {name: param.to(self.compute) for name, param in self.named.items()}
        loss = self.task.loss(functional_call(self.model, weights, (inputs,)), targets)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise _Stop(f"the loss is {value} at step {step}: no gradients to judge")
        self.result.losses.append(value)
        torch.autograd.backward(self.sign * loss)

    def _follow(self) -> None:
        for names, options in zip(self.names, self.options, strict=True):
            moving = {name: self.named[name] for name in names if self.named[name].grad is not None}
            if moving:
                self.followers.append(_Follower(moving, self.oracle(options), self.result.configuration))

    def _kernel(self) -> str:
        """What serves the parameters: radam's own optimizers say it, of others it is known what was asked for."""
        if self.result.configuration.backend is not None:
            return f"compiled by {self.result.configuration.backend}"
        if self.result.configuration.subject.name.startswith("radam:"):
            kernels: dict[str, str] = self.optimizer.kernels()  # type: ignore[attr-defined]
            return ", ".join(sorted(set(kernels.values())))
        engine = self.result.configuration.engine
        return ", ".join(f"{name}={value}" for name, value in engine.items()) or "default"


class _Follower:
    """A free-running oracle for the parameters of a group, as one vector."""

    def __init__(self, named: Mapping[str, torch.Tensor], oracle: Oracle, configuration: Configuration) -> None:
        self.named = named
        self.configuration = configuration
        self.vector = _sample(list(named.values()))
        self.trajectory = Trajectory(self.vector, oracle, scalars=configuration.subject.scalars)

    def observe(self) -> None:
        """Let the oracle take the step that the optimizer is about to take."""
        grads = [param.grad for param in self.named.values() if param.grad is not None]
        self.vector.grad = _sample(grads)
        self.trajectory.observe()

    def judge(self, optimizer: torch.optim.Optimizer, step: int, record: Record) -> None:
        """Compare parameters and state with the oracle's."""
        names = self.configuration.subject.state
        states = [optimizer.state[param] for param in self.named.values()]
        state = {
            names[symbol]: _sample([each[names[symbol]] for each in states])
            for symbol in ("m", "v", "s")
            if all(names[symbol] in each for each in states)
        }
        self.vector.copy_(_sample(list(self.named.values())))
        for comparison in self.trajectory.judge(state, names):
            name, index = self._locate(comparison.index)
            record.add(comparison, f"{name}[{index}]", step)
            if not comparison.passed:
                here = f"{self.configuration}, {self.configuration.precision}, free run, step {step}"
                record.findings.append(f"{name}: {replace(comparison, index=index)} [{here}]")

    def _locate(self, index: int) -> tuple[str, int]:
        for name, param in self.named.items():
            size = -(-param.numel() // SHARE)
            if index < size:
                return name, index * SHARE
            index -= size
        raise IndexError(index)


def _sample(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.detach().reshape(-1)[::SHARE] for tensor in tensors])
