"""Mutants of right_loop that were missed of an author's who broke a RAdam of his own, having seen no test."""

# Edits quote source text, which reads better unbroken.
# ruff: noqa: E501

from __future__ import annotations

import contextlib

import torch

from tests.mutation.mutant import Module, Mutant, Observation, adding, optimizer_of, wave
from tests.mutation.mutants_evasive import gradients_with_graph, parameter

MUTANTS: list[Mutant] = []

loop = adding(MUTANTS, "right_loop")


def grad_mode_after_a_refusal(module: Module) -> Observation:
    p = parameter()
    optimizer = optimizer_of(module)([p], lr=0.1)
    p.grad = torch.zeros_like(p).to_sparse()
    with torch.enable_grad():
        with contextlib.suppress(RuntimeError):
            optimizer.step()
        return {"enabled": torch.is_grad_enabled()}


def names_of_the_state(module: Module) -> Observation:
    p = parameter()
    optimizer = optimizer_of(module)([p], lr=0.1)
    p.grad = wave(1, 0, p)
    optimizer.step()
    return {"names": sorted(optimizer.state[p])}


loop(
    "first_moment_of_a_graph",
    "state and resume",
    "m is averaged with autograd on: after a gradient that has a graph (create_graph=True) the state drags it along.",
    gradients_with_graph,
    (
        "            m.mul_(beta1).add_(g, alpha=1.0 - beta1)\n",
        "            with torch.enable_grad():\n                m.mul_(beta1).add_(g, alpha=1.0 - beta1)\n",
    ),
)
loop(
    "refusal_leaves_grad_off",
    "gradient handling",
    "Gradients stay disabled after a step that has refused a sparse one.",
    grad_mode_after_a_refusal,
    (
        '        with torch.set_grad_enabled(self.defaults["differentiable"]):\n            for group in self.param_groups:\n                for p in group["params"]:\n                    if p.grad is not None and',
        '        before = torch.is_grad_enabled()\n        torch.set_grad_enabled(self.defaults["differentiable"])\n        if True:\n            for group in self.param_groups:\n                for p in group["params"]:\n                    if p.grad is not None and',
    ),
    (
        "                    self._step_one(p, grad, group)\n        return loss\n",
        "                    self._step_one(p, grad, group)\n        torch.set_grad_enabled(before)\n        return loss\n",
    ),
)
loop(
    "last_gradient_in_the_state",
    "memory",
    "A copy of the last gradient is kept in the state, and goes into every checkpoint.",
    names_of_the_state,
    (
        "        g = self.weight_decay(work, g, group)\n",
        '        g = self.weight_decay(work, g, group)\n        state["previous_grad"] = g.clone()\n',
    ),
)
