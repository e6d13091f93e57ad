"""What torch's own tests ask of the numbers of RAdam: a replica.

The tests themselves (`test/test_optim.py` and `test/optim/` of pytorch/pytorch) are not in the wheel. Their database of
options, their tracker of tensors and their comparison are, and are used here as they are. Each criterion has the name
of the test that it stands for. The options are those for a GPU, with foreach and `capturable`, let through on a CPU.
"""

from __future__ import annotations

import copy
import functools
import importlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.testing._internal.common_optimizers import (
    TensorTracker,
    _get_optim_inputs_including_global_cliquey_kwargs,
    optim_db,
)
from torch.testing._internal.common_utils import TestCase

from tests.mutation.peers.patching import source_of
from tests.mutation.peers.torch_ import LATER

INFO: Any = next(info for info in optim_db if info.name == "RAdam")
CASE: Any = cast(Any, TestCase)()
equal: Any = CASE.assertEqual
"""Compares as torch's tests do: with a tolerance that comes with the dtype."""
_RADAM: Any = importlib.import_module("torch.optim.radam")
_RADAM._get_capturable_supported_devices = lambda supports_xla=True: ["cpu"]
# What the database overrides for RAdam in test_foreach_matches_forloop.
FOREACH_TOLERANCE = {"atol": 1.5e-7, "rtol": 1.1e-7}

CRITERIA: dict[str, Callable[[], None]] = {}


def criterion(name: str, **arguments: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add a criterion, with some arguments."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        CRITERIA[name] = functools.partial(function, **arguments)
        return function

    return add


def plain_options() -> Iterator[dict[str, Any]]:
    """Of each entry of the database."""
    for entry in INFO.optim_inputs_func("cuda"):
        yield copy.deepcopy(entry.kwargs)


def all_options() -> Iterator[dict[str, Any]]:
    """The same by the loop and by foreach; `differentiable` has its own criterion."""
    for entry in _get_optim_inputs_including_global_cliquey_kwargs(
        "cuda", torch.float32, INFO, skip=("differentiable",)
    ):
        yield copy.deepcopy(entry.kwargs)


class Linear:
    """A loss that is the square of a linear function of a weight and a bias."""

    def __init__(self, dtype: torch.dtype = torch.float32, contiguous: bool = True) -> None:
        if contiguous:
            weight, bias = torch.randn(10, 5, dtype=dtype), torch.randn(10, dtype=dtype)
        else:
            weight, bias = torch.randn(10, 5, 2, dtype=dtype)[..., 0], torch.randn(10, 2, dtype=dtype)[..., 0]
        self.weight = torch.nn.Parameter(weight)
        self.bias = torch.nn.Parameter(bias)
        self.input = torch.randn(5, dtype=dtype)

    def backward(self) -> Tensor:
        self.weight.grad = self.bias.grad = None
        loss = (self.weight.mv(self.input) + self.bias).pow(2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss


def goes_the_right_way(
    model: Linear, optimizer: Any, schedulers: Sequence[Any] = (), maximize: bool = False, steps: int = 20
) -> None:
    """Whether the loss is on the right side of where it was, after some steps."""
    before = model.backward().item()
    for _ in range(steps):
        loss = optimizer.step(model.backward)
        for scheduler in schedulers:
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(float(loss))
            else:
                scheduler.step()
    after = model.backward().item()
    if maximize:
        assert after > before
    else:
        assert after < before


@criterion("test_forloop_goes_right_direction[contiguous]", contiguous=True, scheduled=False)
@criterion("test_forloop_goes_right_direction[strided]", contiguous=False, scheduled=False)
@criterion("test_forloop_goes_right_direction[contiguous, scheduled]", contiguous=True, scheduled=True)
@criterion("test_forloop_goes_right_direction[strided, scheduled]", contiguous=False, scheduled=True)
def right_direction(contiguous: bool, scheduled: bool) -> None:
    """The loss falls, or rises with `maximize`."""
    for makers in INFO.scheduler_inputs if scheduled else [[]]:
        for options in plain_options():
            model = Linear(contiguous=contiguous)
            optimizer = INFO.optim_cls([model.weight, model.bias], foreach=False, **options)
            schedulers = [make(optimizer) for make in makers]
            goes_the_right_way(model, optimizer, schedulers, options.get("maximize", False))


@criterion("test_param_group_with_lrscheduler_goes_right_direction")
def groups_with_schedulers() -> None:
    """The same with two groups, of which one has its own lr."""
    for makers in INFO.scheduler_inputs:
        for options in plain_options():
            model = Linear()
            groups = [{"params": [model.weight]}, {"params": [model.bias], "lr": 0.01}]
            optimizer = INFO.optim_cls(groups, foreach=False, **options)
            schedulers = [make(optimizer) for make in makers]
            goes_the_right_way(model, optimizer, schedulers, options.get("maximize", False))


@criterion("test_param_groups_weight_decay")
def groups_with_decays() -> None:
    """The loss falls with decay in one group and none in the other."""
    for options in all_options():
        options["weight_decay"] = 0.0
        model = Linear()
        groups = [{"params": [model.weight], "weight_decay": 0.1}, {"params": [model.bias]}]
        goes_the_right_way(model, INFO.optim_cls(groups, **options), (), options.get("maximize", False))


@criterion("test_param_groups_lr")
def groups_with_lrs() -> None:
    """A group with next to no lr keeps its values, and the others go the right way."""
    for options in all_options():
        lr = options.pop("lr", 1e-3)
        model = Linear()
        idle = torch.nn.Parameter(torch.randn(2))
        before = idle.detach().clone()
        groups = [{"params": [model.weight, model.bias], "lr": lr}, {"params": [idle]}]
        optimizer = INFO.optim_cls(groups, lr=1e-28, **options)
        idle.grad = torch.rand_like(idle)
        goes_the_right_way(model, optimizer, (), options.get("maximize", False))
        equal(idle, before)


@criterion("test_tensor_lr[0 dimensions]", dimensions=0)
@criterion("test_tensor_lr[1 dimension]", dimensions=1)
@criterion("test_tensor_lr[2 dimensions]", dimensions=2)
def tensor_lr(dimensions: int) -> None:
    """An lr that is a tensor gives what the same number gives."""
    for options in all_options():
        lr = options.pop("lr", 1e-3)
        model = Linear()
        other = copy.deepcopy(model)
        lr_as_tensor = torch.as_tensor(lr).reshape([1] * dimensions)
        ours = INFO.optim_cls([model.weight, model.bias], lr=lr, **options)
        theirs = INFO.optim_cls([other.weight, other.bias], lr=lr_as_tensor, **options)
        for _ in range(5):
            ours.step(model.backward)
            theirs.step(other.backward)
            equal(model.weight, other.weight)
            equal(model.bias, other.bias)


@criterion("test_complex")
def complex_as_pairs() -> None:
    """Complex parameters take the steps of their pairs of reals, next to a parameter that is real."""
    for options in all_options():
        turned = torch.randn(10, 5, dtype=torch.complex64, requires_grad=True)
        real = torch.randn(10, 5, requires_grad=True)
        pairs = torch.view_as_real(turned).detach().clone().requires_grad_()
        real_again = real.detach().clone().requires_grad_()
        one = INFO.optim_cls([turned, real], **options)
        two = INFO.optim_cls([pairs, real_again], **options)
        for _ in range(3):
            turned.grad = torch.randn_like(turned)
            pairs.grad = torch.view_as_real(turned.grad).clone()
            real.grad = torch.randn_like(real)
            real_again.grad = real.grad.clone()
            one.step()
            two.step()
            equal(torch.view_as_real(turned), pairs)
            equal(real, real_again)


def rosenbrock(x: Tensor, y: Tensor) -> Tensor:
    """The function of that name."""
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


@criterion("test_complex_2d")
def complex_as_two() -> None:
    """A complex parameter takes the steps of its real and its imaginary part, each a parameter of its own."""
    for options in all_options():
        turned = torch.randn(2, dtype=torch.complex64, requires_grad=True)
        parts = [part.detach().clone().requires_grad_() for part in (turned.real, turned.imag)]
        one = INFO.optim_cls([turned], **options)
        two = INFO.optim_cls(parts, **options)
        for _ in range(3):
            # The values of one are those of the other before each step: no difference can grow.
            values = cast(Any, TensorTracker)()
            one.zero_grad()
            two.zero_grad()
            for x, y in (turned, torch.complex(parts[0], parts[1])):
                rosenbrock(x, y).abs().backward()  # type: ignore[no-untyped-call]
            assert turned.grad is not None
            equal(turned.grad.real, parts[0].grad)
            equal(turned.grad.imag, parts[1].grad)
            one.step()
            values.add(turned.real)
            values.add(turned.imag)
            two.step()
            values.pop_check_set(parts[0], CASE)
            values.pop_check_set(parts[1], CASE)


def compare_foreach(tolerance: Mapping[str, float], capturable: bool) -> None:
    """Parameters and state of foreach are those of the loop, after each of 7 steps; then they are made the same."""
    inputs = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], dtype=torch.float64).reshape(3, 2)
    for options in plain_options():
        if options.get("capturable") and not capturable:
            continue
        torch.manual_seed(1)
        layers = [torch.nn.Linear(2, 3), torch.nn.Sigmoid(), torch.nn.Linear(3, 1), torch.nn.Sigmoid()]
        loop = torch.nn.Sequential(*layers).to(torch.float64)
        foreach = copy.deepcopy(loop)
        by_loop = INFO.optim_cls(list(loop.parameters()), **options, foreach=False)
        by_foreach = INFO.optim_cls(list(foreach.parameters()), **options, foreach=True)
        for i in range(7):
            for model, optimizer in ((loop, by_loop), (foreach, by_foreach)):
                optimizer.zero_grad()
                # A layer is frozen at two steps, and at one there are no gradients at all.
                model[2].requires_grad_(i not in (3, 4))
                if i != 2:
                    model(inputs).sum().backward()
                optimizer.step()
            values = cast(Any, TensorTracker)(dict(tolerance))
            for ours, theirs in zip(loop.parameters(), foreach.parameters(), strict=True):
                pairs = [(ours, theirs)]
                pairs += [(value, by_foreach.state[theirs][key]) for key, value in by_loop.state[ours].items()]
                for value, other in pairs:
                    values.add(value)
                    values.pop_check_set(other, CASE)
            assert values.all_popped()


@criterion("test_foreach_matches_forloop")
def foreach_as_loop() -> None:
    """With the tolerance of the database."""
    compare_foreach(FOREACH_TOLERANCE, capturable=True)


@criterion("test_set_default_dtype_works_with_foreach")
def foreach_as_loop_by_default_dtype() -> None:
    """The step count has the dtype that the default asks for, and foreach is the loop."""
    for default, expected in ((torch.float64, torch.float64), (torch.float16, torch.float32)):
        kept = torch.get_default_dtype()
        try:
            torch.set_default_dtype(default)
            for options in all_options():
                p = torch.nn.Parameter(torch.randn(5, dtype=torch.float32))
                optimizer = INFO.optim_cls([p], **options)
                p.grad = torch.rand_like(p)
                optimizer.step()
                equal(optimizer.state[p]["step"].dtype, expected)
            # A capturable step in float32 is out of this tolerance on a CPU.
            compare_foreach({}, capturable=False)
        finally:
            torch.set_default_dtype(kept)


@criterion("test_step_is_noop_when_params_have_no_grad")
def nothing_without_gradients() -> None:
    """Parameters without gradients keep their values: what the test is for; at times it has not asserted it."""
    for options in all_options():
        params = [torch.nn.Parameter(torch.randn(2, 3)) for _ in range(2)]
        before = [p.detach().clone() for p in params]
        INFO.optim_cls(params, **options).step()
        equal([p.detach() for p in params], before)


@criterion("test_step_is_noop_for_zero_grads")
def nothing_for_zero_gradients() -> None:
    """Zero gradients change nothing where there is no decay."""
    for options in all_options():
        p = torch.nn.Parameter(torch.randn(5, 1))
        before = p.detach().clone()
        options["weight_decay"] = 0.0
        optimizer = INFO.optim_cls([p], **options)
        p.grad = torch.zeros_like(p)
        optimizer.step()
        equal(p, before)


@criterion("test_grads_are_never_inplaced_into")
def gradients_are_kept() -> None:
    """A step does not write to the gradients."""
    for options in all_options():
        p = torch.nn.Parameter(torch.randn(5))
        optimizer = INFO.optim_cls([p], **options)
        p.grad = torch.rand_like(p)
        version, before = p.grad._version, p.grad.clone()
        optimizer.step()
        equal(p.grad._version, version)
        equal(p.grad, before)


def resume(change: Callable[[dict[str, Any]], dict[str, Any]], compare: bool) -> None:
    """After 10 steps, load the state into another optimizer, and take 10 steps with both."""
    for options in all_options():
        model = Linear()
        optimizer = INFO.optim_cls([model.weight, model.bias], **options)
        for _ in range(10):
            optimizer.step(model.backward)
        other = copy.deepcopy(model)
        resumed = INFO.optim_cls([other.weight, other.bias], **options)
        saved = change(copy.deepcopy(optimizer.state_dict()))
        before = copy.deepcopy(saved)
        resumed.load_state_dict(saved)
        equal(saved, before)
        for _ in range(10):
            optimizer.step(model.backward)
            resumed.step(other.backward)
            if compare:
                equal(model.weight, other.weight)
                equal(model.bias, other.bias)
        if compare:
            equal(optimizer.state_dict(), resumed.state_dict())


@criterion("test_state_dict_deterministic")
def resumes() -> None:
    """A resumed optimizer goes on as the other."""
    resume(lambda state: state, compare=True)


@criterion("test_can_load_older_state_dict")
def resumes_older() -> None:
    """A state without the options that came later can be loaded."""

    def older(state: dict[str, Any]) -> dict[str, Any]:
        for group in state["param_groups"]:
            for flag in INFO.not_og_supported_flags:
                group.pop(flag, None)
        return state

    resume(older, compare=False)


@criterion("test_load_nontensor_step")
def resumes_number() -> None:
    """A step count that is a number can be loaded."""

    def as_number(state: dict[str, Any]) -> dict[str, Any]:
        for entry in state["state"].values():
            entry["step"] = entry["step"].item()
        return state

    resume(as_number, compare=False)


@criterion("test_save_load_equality_with_weights_only")
def saves() -> None:
    """What `torch.load` gives is what `torch.save` was given."""
    for options in all_options():
        model = Linear()
        optimizer = INFO.optim_cls([model.weight, model.bias], **options)
        optimizer.step(model.backward)
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        file.seek(0)
        loaded = torch.load(file, weights_only=True)
        again = INFO.optim_cls([model.weight, model.bias], **options)
        again.load_state_dict(loaded)
        equal(again.state_dict(), optimizer.state_dict())


@criterion("test_non_empty_state")
def has_state() -> None:
    """There is a state after a step."""
    for options in all_options():
        p = torch.nn.Parameter(torch.randn(5))
        optimizer = INFO.optim_cls([p], **options)
        p.grad = torch.rand_like(p)
        optimizer.step()
        assert optimizer.state[p]


@criterion("TestDifferentiableOptimizer.test_radam[coupled]", decoupled=False)
@criterion("TestDifferentiableOptimizer.test_radam[decoupled]", decoupled=True)
def differentiates(decoupled: bool) -> None:
    """The derivatives of the tenth step are its finite differences."""
    options = {"lr": 0.9, "weight_decay": 0.1, "decoupled_weight_decay": decoupled, "differentiable": True}

    def step(p: Tensor, grad: Tensor, m: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        p = p.clone()
        p.grad = grad
        state = {"step": torch.tensor(10.0, dtype=torch.float64), "exp_avg": m.clone(), "exp_avg_sq": v.clone()}
        optimizer = INFO.optim_cls([p], **options)
        optimizer.state[p].update(state)
        optimizer.step()
        return p, state["exp_avg"], state["exp_avg_sq"]

    inputs = [torch.rand(10, dtype=torch.float64, requires_grad=True) for _ in range(4)]
    assert torch.autograd.gradcheck(step, inputs, check_batched_grad=False)


@criterion(LATER)
def as_its_copy() -> None:
    """The loop's tenth step, from zero moments, is that of a copy of it: here the source that is installed."""
    original: dict[str, Any] = {"__name__": "torch.optim.radam", "__package__": "torch.optim"}
    exec(compile(source_of("torch.optim.radam"), "torch.optim.radam", "exec"), original)
    for dtype in (torch.float32, torch.float64):
        for differentiable in (False, True):
            torch.manual_seed(42)
            grad, start = torch.rand(128, dtype=dtype), torch.rand(128, dtype=dtype)
            results = []
            for function in (original["_single_tensor_radam"], _RADAM._single_tensor_radam):
                p = start.clone()
                moments = [torch.zeros_like(p)], [torch.zeros_like(p)], [torch.tensor(9.0, dtype=dtype)]
                function(
                    [p],
                    [grad.clone()],
                    *moments,
                    beta1=0.9,
                    beta2=0.999,
                    lr=1e-3,
                    weight_decay=0,
                    eps=1e-8,
                    decoupled_weight_decay=False,
                    differentiable=differentiable,
                    maximize=False,
                    capturable=False,
                    has_complex=False,
                )
                results.append(p)
            equal(results[1], results[0], atol=1e-5, rtol=1e-5)
