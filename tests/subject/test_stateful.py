"""Long lives of an optimizer, in any order of events, with the oracle following all the way."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from radam.audit import Lockstep, Subject
from radam.audit.lockstep import same_bits
from radam.audit.strategies import (
    LAYOUTS,
    SHAPES,
    TensorCase,
    betas,
    make_gradient,
    make_parameter,
    radam_hyperparameters,
)
from radam.audit.subjects.radam import Family
from tests.subject.driving import DECAY_KIND

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64)
KINDS = ("normal", "none", "zeros", "some zeros", "repeat", "flip", "tiny", "expanded")
tensors = st.builds(
    TensorCase,
    shape=st.sampled_from(SHAPES),
    layout=st.sampled_from(LAYOUTS),
    scale=st.sampled_from((1.0, 0.0, 1e-3)),
    gradients=st.just(()),
)
parameters = st.lists(st.tuples(tensors, st.sampled_from(DTYPES)), min_size=1, max_size=3)
seeds = st.integers(0, 2**32 - 1)


class Life(RuleBasedStateMachine):
    """An optimizer to which things happen; each step is judged."""

    def __init__(self, subject: Subject, family: Family, device: torch.device) -> None:
        super().__init__()
        self.subject, self.family, self.device = subject, family, device
        self.last: dict[int, torch.Tensor] = {}

    # The optimizer and what it should be

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self.lockstep.optimizer

    @property
    def options(self) -> list[dict[str, Any]]:
        return self.lockstep.options

    def params(self) -> list[torch.Tensor]:
        return [param for group in self.optimizer.param_groups for param in group["params"]]

    def make(self, cases: list[tuple[TensorCase, torch.dtype]], seed: int) -> list[torch.nn.Parameter]:
        rng = np.random.default_rng(seed)
        return [torch.nn.Parameter(make_parameter(case, dtype, rng).data.to(self.device)) for case, dtype in cases]

    def groupwise(self, options: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in options.items() if name not in DECAY_KIND}

    @initialize(options=radam_hyperparameters(), cases=parameters, seed=seeds)
    def build(self, options: dict[str, Any], cases: list[tuple[TensorCase, torch.dtype]], seed: int) -> None:
        self.kind = {name: options[name] for name in DECAY_KIND}
        optimizer = self.family.build(self.make(cases, seed), options)
        assert self.subject.oracle is not None
        self.lockstep = Lockstep(
            optimizer,
            [dict(options)],
            self.subject.oracle,
            scalars=self.subject.scalars,
            describe=self.subject.name,
        )

    # What happens

    def set_gradients(self, kinds: list[str], seed: int) -> None:
        rng = np.random.default_rng(seed)
        for i, param in enumerate(self.params()):
            last = self.last.get(i)
            if last is None or last.shape != param.shape or last.dtype != param.dtype:
                last = torch.ones_like(param)
            gradient = make_gradient(kinds[i % len(kinds)], param.detach().cpu(), last.cpu(), rng)
            param.grad = None if gradient is None else gradient.to(self.device)
            if gradient is not None:
                self.last[i] = gradient

    @rule(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4), seed=seeds, times=st.integers(1, 4))
    def step(self, kinds: list[str], seed: int, times: int) -> None:
        for i in range(times):
            self.set_gradients(kinds, seed + i)
            self.lockstep.step()

    @rule(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4), seed=seeds)
    def step_with_closure(self, kinds: list[str], seed: int) -> None:
        def closure() -> float:
            assert torch.is_grad_enabled()
            self.set_gradients(kinds, seed)
            return 1.5

        assert self.lockstep.step(closure) == 1.5

    @rule()
    def step_on_the_same_gradients(self) -> None:
        self.lockstep.step()

    @rule()
    def drop_the_gradients(self) -> None:
        self.optimizer.zero_grad()
        assert all(param.grad is None for param in self.params())
        self.lockstep.step()

    @rule(which=st.integers(0, 9), lr=st.sampled_from((0.0, 1e-3, 0.3, 0.05)))
    def change_lr(self, which: int, lr: float) -> None:
        self.change(which, "lr", lr)

    @rule(which=st.integers(0, 9), lr=st.sampled_from((1e-3, 0.25)))
    def change_lr_to_a_tensor(self, which: int, lr: float) -> None:
        self.change(which, "lr", torch.tensor(lr, dtype=torch.float64))
        self.options[which % len(self.options)]["lr"] = lr

    @rule(which=st.integers(0, 9), pair=betas())
    def change_betas(self, which: int, pair: tuple[float, float]) -> None:
        self.change(which, "betas", pair)

    @rule(which=st.integers(0, 9), options=radam_hyperparameters(), data=st.data())
    def change_an_option(self, which: int, options: dict[str, Any], data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.groupwise(options))))
        self.change(which, name, options[name])

    @rule(which=st.integers(0, 9))
    def switch_amsgrad(self, which: int) -> None:
        self.change(which, "amsgrad", not self.options[which % len(self.options)]["amsgrad"])

    def change(self, which: int, name: str, value: Any) -> None:
        index = which % len(self.options)
        self.optimizer.param_groups[index][name] = value
        self.options[index][name] = value

    @precondition(lambda self: len(self.options) < 4)
    @rule(
        options=radam_hyperparameters(),
        given=st.sets(st.sampled_from(("lr", "betas", "eps", "threshold", "amsgrad"))),
        cases=parameters,
        seed=seeds,
    )
    def add_a_group(
        self, options: dict[str, Any], given: set[str], cases: list[tuple[TensorCase, torch.dtype]], seed: int
    ) -> None:
        defaults = {name: self.optimizer.defaults[name] for name in self.groupwise(options)}
        own = {name: options[name] for name in given}
        self.optimizer.add_param_group({"params": self.make(cases, seed), **own})
        self.options.append({**self.kind, **defaults, **own})

    @rule(index=st.integers(0, 9), seed=seeds)
    def write_a_parameter(self, index: int, seed: int) -> None:
        param = self.params()[index % len(self.params())]
        with torch.no_grad():
            param.copy_(torch.from_numpy(np.asarray(np.random.default_rng(seed).standard_normal(param.shape))))

    @rule(index=st.integers(0, 9), backwards=st.booleans())
    def swap_the_memory_of_a_parameter(self, index: int, backwards: bool) -> None:
        param = self.params()[index % len(self.params())]
        order = tuple(reversed(range(param.dim())))
        param.data = param.data.permute(order).contiguous().permute(order) if backwards else param.data.clone()

    @rule(index=st.integers(0, 9))
    def put_copies_into_the_state_of_a_parameter(self, index: int) -> None:
        param = self.params()[index % len(self.params())]
        if param in self.optimizer.state:
            self.optimizer.state[param] = copy.deepcopy(self.optimizer.state[param])

    @rule(file=st.booleans(), other=radam_hyperparameters())
    def save_and_load(self, file: bool, other: dict[str, Any]) -> None:
        saved = copy.deepcopy(self.optimizer.state_dict())
        if file:
            buffer = io.BytesIO()
            torch.save(saved, buffer)
            buffer.seek(0)
            saved = torch.load(buffer, weights_only=True)
        groups = [{"params": group["params"]} for group in self.optimizer.param_groups]
        fresh = self.family.build(groups, {**other, **self.kind})
        fresh.load_state_dict(saved)
        # What a new group gets is the new optimizer's own.
        self.lockstep.follow(fresh)

    @rule(way=st.sampled_from(("deepcopy", "pickle")))
    def copy_and_go_on(self, way: str) -> None:
        old = self.optimizer
        new = copy.deepcopy(old) if way == "deepcopy" else pickle.loads(pickle.dumps(old))
        before = [param.detach().clone() for param in self.params()]
        self.lockstep.follow(new)
        self.set_gradients(["normal"], 1)
        self.lockstep.step()
        for param, value in zip((p for group in old.param_groups for p in group["params"]), before, strict=True):
            assert same_bits(param.detach(), value), f"a step of the copy ({way}) moved the original"


def test_any_order_of_events(subject: Subject, family: Family, device: torch.device) -> None:
    run_state_machine_as_test(
        lambda: Life(subject, family, device),
        settings=settings(max_examples=max(40, settings().max_examples // 6), stateful_step_count=25),
    )
