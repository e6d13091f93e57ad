"""Optimizers as sources of second moments for `reference.monte_carlo`: one parameter, an element a trajectory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from reference.monte_carlo import Source

Make = Callable[[list[torch.Tensor]], torch.optim.Optimizer]


def second_moment_of(
    make: Make, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu", key: str = "exp_avg_sq"
) -> Source:
    """The second moments that an optimizer keeps, fed with the simulated gradients.

    Args:
        make: the optimizer of a list of parameters.
        dtype: of the parameter.
        device: where it is.
        key: of the second moment in the optimizer's state.
    """

    def source(n: int) -> Callable[[Any], Any]:
        param = torch.nn.Parameter(torch.zeros(n, dtype=dtype, device=device))
        optimizer = make([param])

        def step(g: np.ndarray[Any, Any]) -> Any:
            param.grad = torch.from_numpy(g).to(device, dtype)
            optimizer.step()
            return optimizer.state[param][key].double().cpu().numpy()

        return step

    return source
