"""Rectified Adam whose correctness is demonstrated, and the kit that demonstrates it."""

from radam.adam import Adam
from radam.radam import RAdam
from radam.weight_decay import WeightDecay, WeightDecayFunction

__all__ = ["Adam", "RAdam", "WeightDecay", "WeightDecayFunction"]
__version__ = "0.1.0"
