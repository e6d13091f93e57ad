"""How far two right evaluations of the same steps may differ, found by perturbing their inputs: no oracle is needed.

A formula of sums, products, quotients and roots whose every operation is off by a factor 1 + delta, |delta| <= u, gives
the exact result of inputs that are off by such factors (Higham, Accuracy and Stability of Numerical Algorithms, 1.5 and
3.1). So the rounding error of a step is bounded, to first order, by

    N u sum_i |x_i df/dx_i| + N u (|f| + |f before|) + N eta,

x_i the parameter, the gradient and each state tensor, N the number of operations through which an input goes. The
products x_i df/dx_i are taken from the optimizer itself, by steps of copies of it on inputs that are perturbed by as
much as they are uncertain. Over several steps the uncertainty of parameters and state is that of the step before.

A scalar that is computed from t in float64 may cancel twice (1 - b^t, and rho_t with its limit): its relative error is
at most some units of 2^-53 / (1 - b)^2, of what the step moves.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from radam.audit.bounds import PRECISIONS, Array, Tracked
from radam.audit.lockstep import flat, precision_of

OPERATIONS = 32
"""N: no usual optimizer takes an input through more."""
SCALARS = 16 * 2.0**-53


class Side:
    """Parameters with the optimizers that step them: one of two ways to compute the same."""

    def __init__(self, params: Sequence[torch.Tensor], optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.params = list(params)
        self.optimizers = list(optimizers)

    def state(self, param: torch.Tensor) -> dict[str, Any]:
        """What the optimizers keep of a parameter."""
        for optimizer in self.optimizers:
            if param in optimizer.state:
                state: dict[str, Any] = optimizer.state[param]
                return state
        return {}

    def names(self) -> list[str]:
        """Names of the state tensors that have their parameter's shape, complex for complex."""
        names: dict[str, bool] = {}
        for param in self.params:
            for key, value in self.state(param).items():
                arithmetic = isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex())
                fits = arithmetic and value.shape == param.shape and value.is_complex() == param.is_complex()
                names[key] = names.get(key, True) and fits
        if all(param.dim() == 0 for param in self.params):
            # There a step count looks like any other state.
            names["step"] = False
        return [name for name, fits in names.items() if fits]

    def has_of_each(self, name: str) -> bool:
        """Whether state of a name, where there is any, has its parameter's shape: some keep one vector for them all."""
        return name == "param" or name in self.names() or not any(name in self.state(param) for param in self.params)

    def tensors(self, name: str) -> list[torch.Tensor]:
        """The parameters, or their state of a name; zeros where there is none yet."""
        if name == "param":
            return [param.detach() for param in self.params]
        return [self.state(param).get(name, torch.zeros_like(param)).detach() for param in self.params]

    def vector(self, name: str) -> Array:
        """The numbers of :meth:`tensors`, one after the other."""
        return np.concatenate([np.zeros(0), *map(flat, self.tensors(name))])

    def copied(self) -> Side:
        """A deep copy, gradients included."""
        memo: dict[int, Any] = {}
        params = copy.deepcopy(self.params, memo)
        optimizers = [_copied(optimizer, memo) for optimizer in self.optimizers]
        for param, original in zip(params, self.params, strict=True):
            param.grad = None if original.grad is None else original.grad.detach().clone()
        return Side(params, optimizers)


def _copied(optimizer: torch.optim.Optimizer, memo: dict[int, Any]) -> torch.optim.Optimizer:
    """A deep copy with all attributes: torch's own leaves out those that a subclass has added."""
    twin: torch.optim.Optimizer = object.__new__(type(optimizer))
    memo[id(optimizer)] = twin
    twin.__dict__.update(copy.deepcopy(vars(optimizer), memo))
    return twin


class Rounding:
    """The steps of an optimizer, each with the bound of what another evaluation of them may give.

    Args:
        side: the optimizer to follow; its parameters and state are exact as they stand.
        beta: the largest decay rate among its hyper-parameters, for the error of its scalars.
        narrow: half precision parameters are updated in their own arithmetic, not in float32.
    """

    def __init__(self, side: Side, beta: float, *, narrow: bool = False) -> None:
        self.side = side
        self.scalars = min(SCALARS / max(1 - beta, 2.0**-53) ** 2, 1e300)
        self.narrow = narrow
        self.uncertain: dict[str, Array] = {}

    def step(self, take: Callable[[], object]) -> dict[str, Tracked]:
        """Let the optimizer take a step.

        Args:
            take: called to take it.

        Returns:
            Its new parameters, by the name "param", and its state tensors, each with its bound; without one where
            the step raises if its inputs are off by roundings.
        """
        before = {name: self.side.vector(name) for name in ("param", *self.side.names())}
        probes, is_bounded = [], True
        for name in (*before, "grad"):
            try:
                probes.append(self._probe(name))
            except Exception:
                # The step may raise as well, and is what is told of then.
                is_bounded = False
        take()
        result = {}
        with np.errstate(all="ignore"):
            for name in ("param", *self.side.names()):
                value = self.side.vector(name)
                error = OPERATIONS * (self._arithmetic("unit_roundoff") * np.abs(value) + self._tiny())
                if not is_bounded:
                    error = np.full_like(value, np.inf)
                for probe in probes:
                    error = error + np.abs(probe.vector(name) - value)
                if name in before:
                    # An input that goes two ways may cancel in the result, but its roundings do not; and a moving
                    # average by lerp is off by its own last unit, however small its decay rate: by that of what it
                    # may have been, as a probe whose decay rate is lost in rounding does not show that.
                    largest = np.abs(before[name]) + self.uncertain.get(name, 0.0)
                    error = error + OPERATIONS * self._arithmetic("unit_roundoff") * largest
                if name == "param":
                    error = error + self.scalars * np.abs(value - before[name])
                    # Each of the two is rounded into its storage.
                    error = error + 2 * self._storage("unit_roundoff") * np.abs(value)
                # A probe that leaves the range tells nothing; a value that has left it is judged by its class.
                error = np.where(np.isfinite(value), np.where(np.isnan(error), np.inf, error), 0.0)
                self.uncertain[name] = error
                result[name] = Tracked(value, error)
        return result

    def _storage(self, quality: str) -> Array:
        """A quality of the format of each number's parameter."""
        return self._spread([getattr(precision_of(param.dtype), quality) for param in self.side.params])

    def _arithmetic(self, quality: str) -> Array:
        """A quality of the format in which each number is computed."""
        formats = [precision_of(param.dtype) for param in self.side.params]
        wide = PRECISIONS["float32"]
        formats = [wide if each.unit_roundoff > wide.unit_roundoff and not self.narrow else each for each in formats]
        return self._spread([getattr(each, quality) for each in formats])

    def _tiny(self) -> Array:
        return np.maximum(self._storage("smallest_subnormal"), self._arithmetic("smallest_subnormal"))

    def _spread(self, qualities: Sequence[float]) -> Array:
        return np.repeat(np.asarray(qualities, dtype=np.float64), self._sizes())

    def _probe(self, name: str) -> Side:
        """A copy that has taken the step from an input off by its uncertainty and N roundings."""
        twin = self.side.copied()
        if name == "grad":
            targets = [param.grad for param in twin.params]
            values = [np.zeros(0) if grad is None else flat(grad) for grad in targets]
        else:
            targets = [param.detach() if name == "param" else twin.state(param).get(name) for param in twin.params]
            values = [
                flat(torch.zeros_like(param)) if target is None else flat(target)
                for param, target in zip(twin.params, targets, strict=True)
            ]
        with torch.no_grad(), np.errstate(all="ignore"):
            units = iter(np.split(self._arithmetic("unit_roundoff"), np.cumsum(self._sizes())[:-1]))
            uncertain = self.uncertain.get(name)
            parts = None if uncertain is None else iter(np.split(uncertain, np.cumsum(self._sizes())[:-1]))
            for target, value in zip(targets, values, strict=True):
                unit, extra = next(units), 0.0 if parts is None else next(parts)
                if target is None or value.size == 0:
                    continue
                moved = torch.from_numpy(value + OPERATIONS * unit * np.abs(value) + extra)
                view = torch.view_as_real(target) if target.is_complex() else target
                view.copy_(moved.reshape(view.shape))
        for optimizer in twin.optimizers:
            optimizer.step()
        return twin

    def _sizes(self) -> list[int]:
        return [param.numel() * (2 if param.is_complex() else 1) for param in self.side.params]
