"""What torch puts around a step: hooks, and its label in a profile."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

_Label: Callable[[str], AbstractContextManager[Any]] | None
try:
    from torch._C._profiler import _RecordFunctionFast
    from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

    _Label = _RecordFunctionFast
except ImportError:
    # Private to torch: without them its own wrapper serves.
    _Label = None


def around(step: Callable[..., Any]) -> Callable[..., Any]:
    """`step` as torch's own wrapper makes it, which takes 15 µs, without what nobody has asked for.

    With a hook, of the optimizer or of all, and where torch.compile traces, it is torch's own. The label is always
    there, so that profilers and other observers see each step.
    """
    whole = torch.optim.Optimizer.profile_hook_step(step)
    if _Label is None:
        return whole

    @functools.wraps(step)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        optimizer = args[0]
        if (
            torch.compiler.is_compiling()
            or optimizer._optimizer_step_pre_hooks
            or optimizer._optimizer_step_post_hooks
            or _global_optimizer_pre_hooks
            or _global_optimizer_post_hooks
        ):
            return whole(*args, **kwargs)
        with _Label(f"Optimizer.step#{type(optimizer).__name__}.step"):
            result = step(*args, **kwargs)
            # By its call the memory profiler knows an optimizer.
            optimizer._optimizer_step_code()
            return result

    return wrapper
