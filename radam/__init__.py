"""Rectified Adam whose correctness is demonstrated, and the kit that demonstrates it."""

from radam.adam import Adam
from radam.groups import decay_groups
from radam.radam import RAdam
from radam.weight_decay import WeightDecay, WeightDecayFunction

__all__ = ["Adam", "RAdam", "WeightDecay", "WeightDecayFunction", "decay_groups"]
__version__ = "0.1.0"
