"""The oracles of other packages' optimizers: special cases that are Adam or SGD, and first steps by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import reference
from radam.audit.subjects.peers.common import plain
from radam.audit.subjects.peers.oracles import ADOPT, SGDW, AdaBound, AdaMod, LaProp, Lion, NAdamW, Yogi, adabelief
from radam.audit.subjects.shipped import PACKAGES, shipped

RNG = np.random.default_rng(7)
START = RNG.standard_normal(4)
GRADIENTS = [RNG.standard_normal(4) for _ in range(12)]
USUAL: dict[str, Any] = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-3, "weight_decay": 0.25}
WITHOUT_MOMENTUM = {**USUAL, "betas": (0.0, 0.99)}


def begun(oracle: Any, size: int = 4) -> Any:
    """An oracle with zeros for its state, as the audit gives them."""
    for name in ("m", "v", "s"):
        setattr(oracle, name, np.zeros(size))
    return oracle


def path(oracle: Any) -> list[Any]:
    """The parameters of a run."""
    param, result = START, []
    for gradient in GRADIENTS:
        param = oracle.step(param, gradient)
        result.append(param)
    return result


def adam(**options: Any) -> Any:
    return reference.Adam(**options, optimized_update=False)


SAME: dict[str, Callable[[], tuple[Any, Any]]] = {
    "NAdamW without momentum": lambda: (NAdamW(**WITHOUT_MOMENTUM), adam(**WITHOUT_MOMENTUM)),
    "AdaMod with the rate itself": lambda: (
        AdaMod(**{**USUAL, "betas": (0.9, 0.99, 0.0)}),
        reference.Adam(**USUAL),
    ),
    "AdaBound with wide bounds": lambda: (AdaBound(**USUAL, final_lr=1e9, gamma=1e-12), reference.Adam(**USUAL)),
    "AdaBound with a maximum": lambda: (
        AdaBound(**USUAL, amsgrad=True, final_lr=1e9, gamma=1e-12),
        reference.Adam(**USUAL, amsgrad=True),
    ),
    "SGDW without decay": lambda: (
        SGDW(lr=0.1, momentum=0.9, nesterov=True),
        reference.SGD(lr=0.1, momentum=0.9, nesterov=True),
    ),
    "SGDW with L2 decay": lambda: (
        SGDW(lr=0.1, momentum=0.9, weight_decay=0.5, weight_decouple=False),
        reference.SGD(lr=0.1, momentum=0.9, weight_decay=0.5),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_special_cases_are_adam_or_sgd(name: str) -> None:
    one, other = SAME[name]()
    np.testing.assert_allclose(path(begun(one)), path(other), rtol=1e-12)


def test_laprop_without_momentum_is_adam() -> None:
    options = {**WITHOUT_MOMENTUM, "weight_decay": 0.0}
    np.testing.assert_allclose(path(begun(LaProp(**options))), path(adam(**options)), rtol=1e-12)


@pytest.mark.parametrize("rectify", [False, True])
def test_adabelief_is_adam_of_what_is_left(rectify: bool) -> None:
    """Where the average of the gradients is 0 at each step, v is that of the gradients; the first is half of g."""
    oracle = adabelief({**USUAL, "betas": (0.5, 0.5), "eps": 0.0}, rectify=rectify)
    oracle.step(np.ones(1), np.array([2.0]))
    assert oracle.m == 1.0
    assert oracle.v == 0.5
    oracle.step(np.ones(1), np.array([-1.0]))
    assert oracle.m == 0.0
    assert oracle.v == 0.75


def test_adabelief_keeps_eps_or_not() -> None:
    options = {**USUAL, "eps": 0.25}
    kept, other = (adabelief(options, rectify=False, keeps_eps=keeps) for keeps in (True, False))
    first = kept.step(START, GRADIENTS[0]), other.step(START, GRADIENTS[0])
    np.testing.assert_allclose(*first, rtol=1e-15)
    np.testing.assert_allclose(kept.v, other.v + 0.25, rtol=1e-15)


def test_the_first_steps_of_lion() -> None:
    lion = begun(Lion(lr=0.5, betas=(0.75, 0.5), weight_decay=0.0))
    assert (lion.step(np.zeros(4), np.array([1.0, -2.0, 0.0, 3.0])) == [-0.5, 0.5, 0.0, -0.5]).all()
    assert (lion.m == [0.5, -1.0, 0.0, 1.5]).all()
    # 0.75 m + 0.25 g
    assert (lion.step(np.zeros(4), np.array([-1.0, 4.0, 1.0, -4.5])) == [-0.5, -0.5, -0.5, 0.0]).all()


def test_the_first_steps_of_yogi() -> None:
    yogi = Yogi(lr=0.5, betas=(0.5, 0.5), eps=0.0, initial_accumulator=4.0)
    yogi.step(np.zeros(2), np.array([1.0, 4.0]))
    assert (yogi.m == [2.5, 4.0]).all()
    # v - g^2/2 where v > g^2, v + g^2/2 where it is less
    assert (yogi.v == [3.5, 12.0]).all()


def test_the_first_steps_of_adopt() -> None:
    adopt = begun(ADOPT(lr=0.5, betas=(0.5, 0.75), eps=1.0, clip=0.25, offset=1), 2)
    assert (adopt.step(np.zeros(2), np.array([2.0, 4.0])) == 0.0).all()
    assert (adopt.v == [4.0, 16.0]).all()
    # g / sqrt(v) is 0.5 and 2, clipped at 1
    assert (adopt.step(np.zeros(2), np.array([1.0, 8.0])) == [-0.125, -0.25]).all()
    assert (adopt.v == [3.25, 28.0]).all()


def test_plain_renames_and_makes_numbers() -> None:
    assert plain({"ams_bound": True, "lr": 0.5}, ams_bound="amsgrad") == {"amsgrad": True, "lr": 0.5}


def test_packages_that_are_not_shipped_are_refused() -> None:
    with pytest.raises(ValueError, match=r"package must be one of .*'torch'.* but is 'nothing'"):
        shipped("nothing")
    assert "torch" in PACKAGES
