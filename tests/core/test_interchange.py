"""State that comes from other libraries: the real torch classes, and what labml's and the authors' code saves."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch

import radam
from radam import WeightDecay, interchange
from radam.audit.bounds import Tracked, compare, scalar
from radam.audit.lockstep import arithmetic_of, flat
from radam.audit.subjects.radam import adam_oracle, oracle
from tests.core.helpers import OPTIMIZERS, numbers, params_of, run, seen, set_gradients, snapshot

BETAS = (0.8, 0.95)


def parameters(dtype: torch.dtype = torch.float64) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype))
        for shape in ((3,), (2, 4), ())
    ]


def copies(params: list[torch.nn.Parameter]) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(param.detach().clone()) for param in params]


def through_a_file(state_dict: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(state_dict, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


class Source(NamedTuple):
    """A torch optimizer, radam's of equal options, and these in the terms of an oracle."""

    theirs: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]
    ours: type[torch.optim.Optimizer]
    options: dict[str, Any]


def source(theirs: Any, ours: Any, neutral: dict[str, Any], **more: Any) -> Source:
    common = {"lr": 0.1, "betas": BETAS, "eps": 1e-3}
    return Source(lambda params: theirs(params, **common, **more), ours, {**common, **neutral})


RADAM, ADAM, ADAMW = torch.optim.RAdam, torch.optim.Adam, torch.optim.AdamW
AFTER = {"optimized_update": False}
L2 = {"weight_decay": 0.25, "weight_decouple": False}
DECOUPLED = {"weight_decay": 0.25, "weight_decouple": True}
SOURCES = {
    "RAdam": source(RADAM, radam.RAdam, {}),
    "RAdam, L2": source(RADAM, radam.RAdam, L2, weight_decay=0.25),
    "RAdam, decoupled": source(RADAM, radam.RAdam, DECOUPLED, weight_decay=0.25, decoupled_weight_decay=True),
    "RAdam, maximize": source(RADAM, radam.RAdam, {"maximize": True}, maximize=True),
    "RAdam, by its loop": source(RADAM, radam.RAdam, {}, foreach=False),
    "Adam": source(ADAM, radam.Adam, AFTER),
    "Adam, L2": source(ADAM, radam.Adam, {**AFTER, **L2}, weight_decay=0.25),
    "Adam, AMSGrad": source(ADAM, radam.Adam, {**AFTER, "amsgrad": True}, amsgrad=True),
    "Adam, fused": source(ADAM, radam.Adam, AFTER, fused=True),
    "AdamW": source(ADAMW, radam.Adam, {**AFTER, **DECOUPLED}, weight_decay=0.25),
    "AdamW, AMSGrad": source(
        ADAMW, radam.Adam, {**AFTER, **DECOUPLED, "amsgrad": True}, weight_decay=0.25, amsgrad=True
    ),
}


def assert_the_same_steps(
    theirs: torch.optim.Optimizer, ours: torch.optim.Optimizer, options: dict[str, Any], steps: int = 8
) -> None:
    """Both within the bound of the same oracle, from the same numbers, at every step."""
    make = oracle if isinstance(ours, radam.RAdam) else adam_oracle
    for step in range(steps):
        before = [param.detach().clone() for param in params_of(theirs)]
        for own, other in zip(params_of(ours), before, strict=True):
            own.data.copy_(other)
        state = [copy.deepcopy(theirs.state[param]) for param in params_of(theirs)]
        for own, entry in zip(params_of(ours), state, strict=True):
            for name in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
                assert (name in entry) == (name in ours.state[own])
                if name in entry:
                    ours.state[own][name].copy_(entry[name])
            assert ours.state[own]["step"] == float(entry["step"])
        for optimizer in (theirs, ours):
            set_gradients(params_of(optimizer), step)
            optimizer.step()
        for old, entry, a, b in zip(before, state, params_of(theirs), params_of(ours), strict=True):
            arithmetic, _ = arithmetic_of(a)
            reference = make(options)
            reference.t = int(float(entry["step"]))
            reference.scalar = lambda value, relative, p=arithmetic: scalar(value, relative, p)  # type: ignore[misc]
            reference.m, reference.v = (Tracked(flat(entry[n]), 0.0, arithmetic) for n in ("exp_avg", "exp_avg_sq"))
            if options.get("amsgrad"):
                reference.s = Tracked(flat(entry["max_exp_avg_sq"]), 0.0, arithmetic)
            assert a.grad is not None
            expected = reference.step(Tracked(flat(old), 0.0, arithmetic), Tracked(flat(a.grad), 0.0, arithmetic))
            for who, param in (("theirs", a), ("ours", b)):
                comparison = compare("param", flat(param), expected)
                assert comparison.passed, f"{who}: {comparison} [{options}, step {reference.t}]"
                assert comparison.unjudged == 0


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("steps", [1, 3, 9])
def test_torchs_optimizers_are_gone_on_with(name: str, dtype: torch.dtype, steps: int) -> None:
    """With none of their options given: the receiver takes them over, and both take the same steps from there."""
    make, ours, options = SOURCES[name]
    params = parameters(dtype)
    theirs = make(params)
    run(theirs, steps)
    receiver = ours(copies(params))
    receiver.load_state_dict(through_a_file(theirs.state_dict()))
    group = receiver.param_groups[0]
    assert {key: group[key] for key in options} == options
    assert "decoupled_weight_decay" not in group
    assert_the_same_steps(theirs, receiver, options)


@pytest.mark.parametrize("name", ["RAdam, L2", "AdamW, AMSGrad"])
def test_a_different_option_is_a_different_step(name: str) -> None:
    """Sanity of the last test: with eps on the other side, or the other kind of decay, it fails."""
    make, ours, options = SOURCES[name]
    for wrong in ("optimized_update", "weight_decouple"):
        params = parameters()
        theirs = make(params)
        run(theirs, 9)
        receiver = ours(copies(params))
        receiver.load_state_dict(theirs.state_dict())
        receiver.param_groups[0][wrong] = not receiver.param_groups[0][wrong]
        with pytest.raises(AssertionError, match="ours"):
            assert_the_same_steps(theirs, receiver, options)


@pytest.mark.parametrize("theirs", [ADAM, ADAMW])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_goes_on_as_radam(theirs: Any, amsgrad: bool) -> None:
    """From its state: the next step is RAdam's, with r_t at the step number that Adam has reached."""
    params = parameters()
    their = theirs(params, lr=0.1, betas=BETAS, eps=1e-3, weight_decay=0.25, amsgrad=amsgrad)
    run(their, 9)
    ours = radam.RAdam(copies(params))
    ours.load_state_dict(through_a_file(their.state_dict()))
    group = ours.param_groups[0]
    assert group["optimized_update"] is True, "not said by Adam: the receiver's own"
    assert (group["weight_decouple"], group["amsgrad"]) == (theirs is ADAMW, amsgrad)
    options = {name: group[name] for name in ("lr", "betas", "eps", "amsgrad", *L2)}
    from radam.audit import Lockstep

    lockstep = Lockstep(ours, [options], oracle, scalars="exact")
    assert lockstep.steps_of(params_of(ours)[0]) == 9
    for step in range(5):
        set_gradients(params_of(ours), step)
        lockstep.step()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_a_source_does_not_say_stays_the_receivers_own(optimizer: Any) -> None:
    params = parameters()
    theirs = RADAM(params, lr=0.25)
    run(theirs, 2)
    more = {"threshold": 4.5, "degenerated_to_sgd": False} if optimizer is radam.RAdam else {"variance_warmup": 7}
    decay = WeightDecay(0.125, absolute=True)
    ours = optimizer(copies(params), amsgrad=True, optimized_update=False, weight_decay=decay, **more)
    ours.load_state_dict(theirs.state_dict())
    group = ours.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["weight_decouple"]) == (0.25, 0.0, False)
    assert (group["amsgrad"], group["optimized_update"], group["absolute"]) == (True, False, True)
    assert {name: group[name] for name in more} == more


@pytest.mark.parametrize("more", [{}, {"fused": True}, {"foreach": True}, {"capturable": True}], ids=str)
def test_engine_switches_are_the_receivers_own(more: dict[str, Any]) -> None:
    params = parameters(torch.float32)
    theirs = ADAM(params, fused=True)
    run(theirs, 3)
    ours = radam.Adam(copies(params), **more)
    ours.load_state_dict(theirs.state_dict())
    assert {name: ours.defaults[name] for name in more} == more
    assert all(ours.param_groups[0][name] == ours.defaults[name] for name in ("fused", "foreach", "capturable"))
    for param in params_of(ours):
        assert isinstance(ours.state[param]["step"], torch.Tensor) == ("capturable" in more)
    run(ours, 3)


@pytest.mark.parametrize(
    "step",
    [
        7,
        7.0,
        *(torch.tensor(7, dtype=d) for d in (torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8)),
    ],
    ids=lambda step: f"{type(step).__name__}-{getattr(step, 'dtype', '')}",
)
@pytest.mark.parametrize("capturable", [False, True])
def test_a_step_of_any_kind(step: Any, capturable: bool) -> None:
    params = parameters()
    theirs = RADAM(params)
    run(theirs, 7)
    saved = theirs.state_dict()
    for entry in saved["state"].values():
        entry["step"] = step
    ours = radam.RAdam(copies(params), capturable=capturable)
    ours.load_state_dict(saved)
    for param in params_of(ours):
        assert float(ours.state[param]["step"]) == 7
    run(ours, 1)


# Libraries that are not installed here: what their classes save, by reading them


def labml(params: list[torch.nn.Parameter], state: Any) -> dict[str, Any]:
    """labml_nn.optimizers.RAdam: `step` is an int; its flags are attributes, and not saved."""
    entries = {i: {**state[p], "step": int(state[p]["step"])} for i, p in enumerate(params)}
    group = {
        "amsgrad": False,
        "weight_decay": 0.25,
        "lr": 0.1,
        "betas": BETAS,
        "eps": 1e-3,
        "params": list(range(len(params))),
    }
    return {"state": entries, "param_groups": [group]}


def authors(params: list[torch.nn.Parameter], state: Any) -> dict[str, Any]:
    """RAdam of LiyuanLucasLiu/RAdam: float32 moments whatever the parameter, and a cache among the options."""
    entries = {
        i: {
            "step": int(state[p]["step"]),
            "exp_avg": state[p]["exp_avg"].float(),
            "exp_avg_sq": state[p]["exp_avg_sq"].float(),
        }
        for i, p in enumerate(params)
    }
    buffer = [[9, 12.5, 0.75] if i == 9 else [None, None, None] for i in range(10)]
    group = {"lr": 0.1, "betas": BETAS, "eps": 1e-3, "weight_decay": 0.25, "buffer": buffer}
    return {"state": entries, "param_groups": [{**group, "params": list(range(len(params)))}]}


@pytest.mark.parametrize("save", [labml, authors])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_other_radams_are_gone_on_with(save: Any, dtype: torch.dtype) -> None:
    """Decoupled decay, eps before the correction, momentum below the threshold, as with us."""
    params = parameters(dtype)
    theirs = RADAM(params, lr=0.1, betas=BETAS, eps=1e-3, weight_decay=0.25, decoupled_weight_decay=True)
    run(theirs, 9)
    saved = save(params, theirs.state)
    before = seen(saved)
    ours = radam.RAdam(copies(params))
    ours.load_state_dict(through_a_file(saved))
    assert seen(saved) == before
    assert "buffer" not in ours.param_groups[0]
    through_a_file(ours.state_dict())
    for own, other in zip(params_of(ours), params, strict=True):
        assert ours.state[own]["exp_avg"].dtype == dtype
        # What float32 has kept of it.
        kept = theirs.state[other]["exp_avg"].float().to(dtype) if save is authors else theirs.state[other]["exp_avg"]
        assert numbers(ours.state[own]["exp_avg"]) == numbers(kept)
        assert ours.state[own]["step"] == 9
    if save is labml:
        assert_the_same_steps(theirs, ours, {"lr": 0.1, "betas": BETAS, "eps": 1e-3, **DECOUPLED})


def test_a_users_own_buffer_is_kept() -> None:
    """Only the authors' list is known to be a cache."""
    ours = radam.RAdam(parameters(), defaults={"buffer": "mine"})
    other = radam.RAdam(parameters())
    other.load_state_dict(ours.state_dict())
    assert other.param_groups[0]["buffer"] == "mine"


# What does not fit

FOREIGN: dict[str, tuple[Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer], str]] = {
    "SGD": (lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9), "momentum_buffer"),
    "Adamax": (lambda params: torch.optim.Adamax(params), "exp_avg_sq.* is missing"),
    "Adagrad": (lambda params: torch.optim.Adagrad(params), "exp_avg.* is missing"),
    "RMSprop": (lambda params: torch.optim.RMSprop(params), "exp_avg.* is missing"),
    "tensor betas": (
        lambda params: ADAM(
            params, betas=(torch.tensor(0.9), torch.tensor(0.999)), foreach=False, lr=torch.tensor(0.1)
        ),
        r"betas\[0\] must be a number",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_does_not_fit_is_refused_and_nothing_changed(optimizer: Any, name: str) -> None:
    make, message = FOREIGN[name]
    params = parameters()
    theirs = make(params)
    run(theirs, 2)
    ours = optimizer(copies(params), amsgrad=True)
    run(ours, 3)
    before = snapshot(ours)
    with pytest.raises((ValueError, TypeError), match=message):
        ours.load_state_dict(theirs.state_dict())
    assert snapshot(ours) == before
    run(ours, 1)


@pytest.mark.parametrize("theirs", [RADAM, ADAM, ADAMW])
def test_of_other_shapes_or_numbers_nothing_is_taken(theirs: Any) -> None:
    their = theirs(parameters())
    run(their, 2)
    for params, message in (
        ([torch.nn.Parameter(torch.zeros(n)) for n in (3, 8, 1)], "shape"),
        (parameters()[:2], "as many parameters"),
        ([torch.nn.Parameter(p.detach().to(torch.complex64)) for p in parameters()], "dtype"),
    ):
        ours = radam.RAdam(params)
        before = snapshot(ours)
        with pytest.raises(ValueError, match=message):
            ours.load_state_dict(their.state_dict())
        assert snapshot(ours) == before


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ({"lr": 0.1, "amsgrad": False, "capturable": False}, True),
        ({"lr": 0.1, "amsgrad": False}, False),
        ({"lr": 0.1, "capturable": False}, False),
        ({"lr": 0.1}, False),
        ({"lr": 0.1, "amsgrad": False, "capturable": False, "optimized_update": True}, False),
        ({"lr": 0.1, "optimized_update": True}, False),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else None,
)
def test_groups_of_torchs_adam_are_told_by_their_options(group: dict[str, Any], expected: bool) -> None:
    """labml's Adam has no capturable, SGD no amsgrad, and radam says where it adds eps."""
    assert interchange.is_of_torchs_adam(group) == expected
