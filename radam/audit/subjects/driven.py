"""torch's optimizers that ask for something else than a step on dense gradients, driven by such steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from radam.audit.subject import Params


class LBFGS(torch.optim.LBFGS):
    """LBFGS whose step asks for no closure, and evaluates one once.

    Without a closure a step evaluates one that leaves the gradients as they are and has the loss 0. `max_iter` is 1: an
    iteration more would evaluate it again, at other parameters.

    Args:
        params: as torch's.
        lr: as torch's.
        options: torch's others, but for `max_iter`.

    Example:
        >>> p = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = LBFGS([p], lr=0.5)
        >>> p.grad = torch.tensor([0.5])
        >>> optimizer.step()
        tensor(0.)
        >>> p.tolist()
        [0.75]
    """

    def __init__(self, params: Params, lr: float | torch.Tensor = 1.0, **options: Any) -> None:
        super().__init__(params, lr=lr, max_iter=1, **options)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step.

        Args:
            closure: evaluates the loss and its gradients; None for those that are there.
        """
        return super().step(closure or (lambda: torch.zeros(())))  # type: ignore[no-untyped-call]


class SparseAdam(torch.optim.SparseAdam):
    """SparseAdam that is given each dense gradient as a sparse one with all of its elements, zeros too: so it is Adam.

    Example:
        >>> p = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = SparseAdam([p], lr=0.5)
        >>> p.grad = torch.tensor([2.0])
        >>> optimizer.step()
        >>> round(p.item(), 6), p.grad
        (0.5, tensor([2.]))
    """

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step.

        Args:
            closure: evaluates the loss and its gradients.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        params = [param for group in self.param_groups for param in group["params"]]
        dense = {param: param.grad for param in params if param.grad is not None and not param.grad.is_sparse}
        try:
            for param, grad in dense.items():
                param.grad = _all_elements(grad)
            super().step()  # type: ignore[no-untyped-call]
        finally:
            for param, grad in dense.items():
                param.grad = grad
        return loss


def _all_elements(grad: torch.Tensor) -> torch.Tensor:
    """A sparse tensor that holds every element of a dense one."""
    indices = torch.ones_like(grad, dtype=torch.bool).nonzero().T
    return torch.sparse_coo_tensor(indices, grad.reshape(-1), grad.shape, check_invariants=True)
