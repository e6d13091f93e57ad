"""An optimizer verified step by step on the gradients of a real training run.

    $ python -m radam.audit.real_gradients

Each configuration trains a transformer of its own, from the first step on and without warm-up. The oracle takes every
step from the optimizer's own state, and all of them once more on its own, from the start.
"""

from radam.audit.real_gradients.configurations import Configuration, configurations
from radam.audit.real_gradients.training import Result, train

__all__ = ["Configuration", "Result", "configurations", "train"]
