"""What is right: RAdam, its kin and torch's other optimizers in NumPy and mpmath, independent of torch and of `radam`.

See README.md here.

>>> import numpy as np
>>> oracle = RAdam(lr=0.1)
>>> oracle.step(np.array([1.0, 2.0]), np.array([0.5, -0.5]))
array([0.95, 2.05])
"""

from reference.definition import adam, psi, radam, sigma
from reference.optimizers import SGD, Adam, Oracle, RAdam, ScalarError
from reference.rectification import (
    bias_correction,
    exact_r_t,
    first_adaptive_step,
    first_exact_step,
    first_order_variance,
    n_eff,
    r_t,
    rho_inf,
    rho_t,
)
from reference.torch_optim import ASGD, Adadelta, Adagrad, Adamax, NAdam, RMSprop

__all__ = [
    "ASGD",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "Adamax",
    "NAdam",
    "Oracle",
    "RAdam",
    "RMSprop",
    "ScalarError",
    "adam",
    "bias_correction",
    "exact_r_t",
    "first_adaptive_step",
    "first_exact_step",
    "first_order_variance",
    "n_eff",
    "psi",
    "r_t",
    "radam",
    "rho_inf",
    "rho_t",
    "sigma",
]
