"""Adam and RAdam straight from the definitions of sigma and psi: sums over the whole history of gradients.

Liu et al. 2019 (arXiv 1908.03265, section 2) write an adaptive method as

    theta_t = theta_{t-1} - alpha_t sigma(g_1, ..., g_t) psi(g_1, ..., g_t)

with, for Adam, the weights w_i = (1 - b) b^(t-i), i = 1..t, of an exponential moving average, whose sum is 1 - b^t:

    sigma = sum_i w_i g_i / sum_i w_i            with b = beta_1
    psi   = sqrt(sum_i w_i / sum_i w_i g_i^2)    with b = beta_2

Nothing here is recursive, and nothing is shared with `reference.optimizers` or `reference.rectification`: bias
corrections are sums of the weights, rho_t comes from the weights' centre of mass. A slip would have to be made twice.

Arrays and numbers are float64, or mpmath numbers in object arrays. t steps cost time in proportion to t^2.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

__all__ = ["adam", "psi", "radam", "sigma"]

Array: TypeAlias = Any
"""A float64 array, or an object array of mpmath numbers; or nested lists of either."""
Number: TypeAlias = Any
"""float or mpmath.mpf."""


def _weights(t: int, beta: Number) -> Array:
    """Return w_1, ..., w_t, the weights of g_1, ..., g_t: w_i = (1 - beta) beta^(t-i)."""
    return np.array([(1 - beta) * beta ** (t - i) for i in range(1, t + 1)])


def _weighted_sum(weights: Array, values: Array) -> Array:
    """Return sum_i w_i x_i over the first axis of `values`."""
    return np.asarray(np.tensordot(weights, values, axes=1))


def sigma(grads: Array, beta1: Number) -> Array:
    """Return sigma(g_1, ..., g_t), Adam's bias-corrected momentum.

        sigma = (1 - b) sum_i b^(t-i) g_i / (1 - b^t)        (Liu et al. 2019, section 2; Kingma & Ba 2015, equation 4)

    Args:
        grads: g_1, ..., g_t along the first axis.
        beta1: decay rate b, in [0, 1).

    Raises:
        ValueError: no gradients, or beta1 is outside [0, 1).

    >>> sigma([[1.0, 3.0], [4.0, 3.0]], 0.5)
    array([3., 3.])
    """
    history = _history(grads, "beta1", beta1)
    weights = _weights(len(history), beta1)
    return _weighted_sum(weights, history) / np.sum(weights)


def psi(grads: Array, beta2: Number) -> Array:
    """Return psi(g_1, ..., g_t), Adam's adaptive learning rate; inf where all gradients are 0.

        psi = sqrt((1 - b^t) / ((1 - b) sum_i b^(t-i) g_i^2))        (Liu et al. 2019, section 2)

    Args:
        grads: g_1, ..., g_t along the first axis.
        beta2: decay rate b, in [0, 1).

    Raises:
        ValueError: no gradients, or beta2 is outside [0, 1).

    >>> psi([[1.0, 2.0], [1.0, 2.0]], 0.999)
    array([1. , 0.5])
    """
    history = _history(grads, "beta2", beta2)
    weights = _weights(len(history), beta2)
    with np.errstate(divide="ignore"):
        return np.sqrt(np.sum(weights)) / np.sqrt(_weighted_sum(weights, history * history))


def _as_array(values: Array) -> Array:
    array = np.asarray(values)
    return array if array.dtype == object else array.astype(np.float64)  # a copy: what comes back is the caller's own


def _history(grads: Array, name: str, beta: Number) -> Array:
    if not 0 <= beta < 1:
        raise ValueError(f"{name} must be in [0, 1), but is {beta!r}")
    history = _as_array(grads)
    if history.ndim == 0 or len(history) == 0:
        raise ValueError(f"grads must hold at least one gradient along its first axis, but has shape {history.shape}")
    return history


def _sma_length(weights: Array) -> Number:
    """Return the length of the simple moving average with the centre of mass of these weights.

    A simple moving average of length rho has the lags 0, ..., rho - 1, the mean of which is (rho - 1)/2
    (Liu et al. 2019, equation 4).
    """
    lags = np.arange(len(weights))[::-1]
    return 1 + 2 * np.sum(lags * weights) / np.sum(weights)


def _variance_of_psi(rho: Number) -> Number:
    """Return Var[psi] to first order, in units of 1/sigma^2, from the moments of psi^2 ~ Scale-inv-chi2(rho, 1)."""
    mean_of_square = rho / (rho - 2)
    variance_of_square = 2 * rho**2 / ((rho - 2) ** 2 * (rho - 4))
    return variance_of_square / (4 * mean_of_square)


def _trajectory(
    params0: Array,
    gradients: Array,
    *,
    lr: Number,
    betas: tuple[Number, Number],
    eps: Number,
    weight_decay: Number,
    weight_decouple: bool,
    absolute: bool,
    optimized_update: bool,
    amsgrad: bool,
    maximize: bool,
    amsgrad_of: str,
    variance_warmup: int,
    rectify: bool,
    degenerated_to_sgd: bool,
    threshold: Number,
    strict: bool,
    decay_when_skipped: bool,
) -> list[Array]:
    beta1, beta2 = betas
    objective_gradients = _history(gradients, "betas[0]", beta1)
    _history(gradients, "betas[1]", beta2)
    if amsgrad_of not in ("uncorrected", "corrected"):
        raise ValueError(f'amsgrad_of must be "uncorrected" or "corrected", but is {amsgrad_of!r}')
    # The limit of the mean lag is b/(1-b): that of the geometric distribution.
    rho_limit = 1 + 2 * beta2 / (1 - beta2)

    theta = _as_array(params0)
    history: list[Array] = []  # g'_1, ..., g'_t
    candidates: list[Array] = []  # v_1, ..., v_t, or the corrected ones: AMSGrad takes their maximum
    thetas: list[Array] = []
    for t, g in enumerate(objective_gradients, start=1):
        g_ascent = -g if maximize else g
        history.append(g_ascent if weight_decouple else g_ascent + weight_decay * theta)

        second_weights = _weights(t, beta2)
        correction2 = np.sum(second_weights)
        v = _weighted_sum(second_weights, np.square(history))
        candidates.append(v / correction2 if amsgrad_of == "corrected" else v)
        if t <= variance_warmup:
            thetas.append(np.array(theta))
            continue

        # Adam-2k's momentum has seen the gradients after the warm-up only.
        first_weights = _weights(t - variance_warmup, beta1)
        momentum = _weighted_sum(first_weights, np.asarray(history[variance_warmup:])) / np.sum(first_weights)

        rho = _sma_length(second_weights)
        tractable = not rectify or (rho_limit > 4 and (rho > threshold if strict else rho >= threshold))
        skipped = not tractable and not degenerated_to_sgd
        if weight_decouple and lr != 0 and (decay_when_skipped or not skipped):
            theta = theta - (weight_decay if absolute else lr * weight_decay) * theta

        if tractable:
            r = np.sqrt(_variance_of_psi(rho_limit) / _variance_of_psi(rho)) if rectify else 1.0
            corrected = v / correction2
            if amsgrad:
                largest = np.max(candidates, axis=0)
                corrected = largest if amsgrad_of == "corrected" else largest / correction2
            # eps belongs to sqrt(v), which is sqrt(corrected) sqrt(correction2), when the update is "optimized".
            shift = eps / np.sqrt(correction2) if optimized_update else eps
            theta = theta - lr * r * momentum / (np.sqrt(corrected) + shift)
        elif degenerated_to_sgd:
            theta = theta - lr * momentum
        thetas.append(np.array(theta))
    return thetas


def radam(
    params0: Array,
    gradients: Array,
    *,
    lr: Number = 1e-3,
    betas: tuple[Number, Number] = (0.9, 0.999),
    eps: Number = 1e-16,
    weight_decay: Number = 0.0,
    weight_decouple: bool = True,
    absolute: bool = False,
    optimized_update: bool = True,
    amsgrad: bool = False,
    degenerated_to_sgd: bool = True,
    threshold: Number = 5.0,
    maximize: bool = False,
    strict: bool = False,
    decay_when_skipped: bool = True,
    amsgrad_of: str = "uncorrected",
) -> list[Array]:
    """Return the parameters after each step of RAdam (Liu et al. 2019, algorithm 2), from the defining sums.

        rho_t >= threshold:  theta <- theta - lr r_t sigma(g_1..g_t) psi(g_1..g_t)        (eps as in `RAdam`)
        else:                theta <- theta - lr sigma(g_1..g_t)

    Args:
        params0: parameters before the first step.
        gradients: the gradients of steps 1, 2, ... along the first axis.
        lr, ..., amsgrad_of: as in `reference.RAdam`.

    Raises:
        ValueError: a beta outside [0, 1), no gradients, or an unknown `amsgrad_of`.

    >>> [p.tolist() for p in radam([1.0], [[2.0], [2.0]], lr=0.25)]
    [[0.5], [0.0]]
    """
    return _trajectory(
        params0,
        gradients,
        lr=lr,
        betas=betas,
        eps=eps,
        weight_decay=weight_decay,
        weight_decouple=weight_decouple,
        absolute=absolute,
        optimized_update=optimized_update,
        amsgrad=amsgrad,
        maximize=maximize,
        amsgrad_of=amsgrad_of,
        variance_warmup=0,
        rectify=True,
        degenerated_to_sgd=degenerated_to_sgd,
        threshold=threshold,
        strict=strict,
        decay_when_skipped=decay_when_skipped,
    )


def adam(
    params0: Array,
    gradients: Array,
    *,
    lr: Number = 1e-3,
    betas: tuple[Number, Number] = (0.9, 0.999),
    eps: Number = 1e-16,
    weight_decay: Number = 0.0,
    weight_decouple: bool = True,
    absolute: bool = False,
    optimized_update: bool = True,
    amsgrad: bool = False,
    maximize: bool = False,
    amsgrad_of: str = "uncorrected",
    variance_warmup: int = 0,
) -> list[Array]:
    """Return the parameters after each step of Adam (Kingma & Ba 2015, algorithm 1), from the defining sums.

        theta <- theta - lr sigma(g_1..g_t) psi(g_1..g_t)        (eps as in `Adam`)

    Args:
        params0: parameters before the first step.
        gradients: the gradients of steps 1, 2, ... along the first axis.
        lr, ..., variance_warmup: as in `reference.Adam`.

    Raises:
        ValueError: a beta outside [0, 1), no gradients, or an unknown `amsgrad_of`.

    >>> [p.tolist() for p in adam([1.0], [[2.0], [2.0]], lr=0.25, eps=0.0, betas=(0.5, 0.75))]
    [[0.75], [0.5]]
    """
    return _trajectory(
        params0,
        gradients,
        lr=lr,
        betas=betas,
        eps=eps,
        weight_decay=weight_decay,
        weight_decouple=weight_decouple,
        absolute=absolute,
        optimized_update=optimized_update,
        amsgrad=amsgrad,
        maximize=maximize,
        amsgrad_of=amsgrad_of,
        variance_warmup=variance_warmup,
        rectify=False,
        degenerated_to_sgd=False,
        threshold=math.inf,
        strict=False,
        decay_when_skipped=True,
    )
