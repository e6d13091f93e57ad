"""radam.WeightDecay and what may stand in its place."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import radam
from radam import WeightDecay, WeightDecayFunction
from tests.core.helpers import bits, numbers, parameter, params_of, run

numbers_of_a_tensor = st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=5)
coefficients = st.one_of(st.sampled_from((0.0, 0.1, 1.0, 2.0)), st.floats(0, 1e6))
decays = st.builds(WeightDecay, coefficients, st.booleans(), st.booleans())
rates = st.one_of(st.sampled_from((0.0, 1e-3, 1.0)), st.floats(0, 1e3))


# The class itself


@given(values=numbers_of_a_tensor, coefficient=coefficients, lr=rates)
def test_decoupled_multiplies_the_parameter_once(values: list[float], coefficient: float, lr: float) -> None:
    param = torch.tensor(values)
    grad = torch.ones_like(param)
    before = bits(grad)
    expected = param * (1 - lr * coefficient) if coefficient and lr else param.clone()
    result = WeightDecay(coefficient)(param, grad, {"lr": lr})
    assert result is grad
    assert bits(grad) == before
    assert numbers(param) == numbers(expected)


@given(values=numbers_of_a_tensor, coefficient=coefficients, lr=rates)
def test_absolute_leaves_the_learning_rate_out(values: list[float], coefficient: float, lr: float) -> None:
    param = torch.tensor(values)
    expected = param * (1 - coefficient) if coefficient and lr else param.clone()
    WeightDecay(coefficient, absolute=True)(param, torch.ones_like(param), {"lr": lr})
    assert numbers(param) == numbers(expected)


@given(values=numbers_of_a_tensor, coefficient=coefficients, lr=rates, absolute=st.booleans())
def test_l2_adds_to_a_new_gradient(values: list[float], coefficient: float, lr: float, absolute: bool) -> None:
    param = torch.tensor(values)
    grad = torch.ones_like(param)
    before = bits(param), bits(grad)
    result = WeightDecay(coefficient, weight_decouple=False, absolute=absolute)(param, grad, {"lr": lr})
    assert (bits(param), bits(grad)) == before
    if coefficient == 0:
        assert result is grad
    else:
        assert result.data_ptr() != grad.data_ptr()
        assert numbers(result) == numbers(grad + param * coefficient)


@given(decay=decays, lr=rates, values=numbers_of_a_tensor)
def test_the_terms_are_what_a_call_does(decay: WeightDecay, lr: float, values: list[float]) -> None:
    param, grad = torch.tensor(values), torch.full((len(values),), 3.0)
    factor, coefficient = decay.terms({}, lr)
    expected = (param * factor if factor != 1 else param, param * coefficient + grad if coefficient else grad)
    result = decay(param.clone(), grad, {"lr": lr})
    decayed = param.clone()
    decay(decayed, grad, {"lr": lr})
    assert (numbers(decayed), numbers(result)) == tuple(map(numbers, expected))


@given(decay=decays, lr=rates)
def test_the_terms_of_a_tensor_lr_are_those_of_its_number(decay: WeightDecay, lr: float) -> None:
    """Without reading it: the factor is a tensor."""
    number, tensor = decay.terms({}, lr), decay.terms({}, torch.tensor(lr, dtype=torch.float64))
    assert (float(tensor[0]), tensor[1]) == number
    if decay.weight_decay and decay.weight_decouple:
        assert isinstance(tensor[0], torch.Tensor)
        assert tensor[0].dtype == torch.float64


@pytest.mark.parametrize(
    ("decay", "lr"), [(WeightDecay(), 0.1), (WeightDecay(0.5), 0.0), (WeightDecay(0.5, False), 0.1)]
)
def test_what_does_not_shrink_is_not_written_to(decay: WeightDecay, lr: float) -> None:
    param, grad = torch.ones(3), torch.ones(3)
    decay(param, grad, {"lr": lr})
    assert (param._version, grad._version) == (0, 0)


def test_the_group_wins_over_the_object() -> None:
    param = torch.tensor([8.0])
    group = {"lr": 0.5, "weight_decay": 0.5, "weight_decouple": True, "absolute": True}
    WeightDecay(0.25, weight_decouple=False, absolute=False)(param, torch.ones(1), group)
    assert param.item() == 4.0


def test_without_values_in_the_group_the_objects_own_count() -> None:
    param = torch.tensor([8.0])
    WeightDecay(0.25, absolute=True)(param, torch.ones(1), {"lr": 0.5})
    assert param.item() == 6.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tensor_lr_counts_as_its_number(dtype: torch.dtype) -> None:
    lr = torch.tensor(0.1, dtype=dtype)
    with_tensor, with_number = torch.tensor([3.0]), torch.tensor([3.0])
    WeightDecay(0.7)(with_tensor, torch.ones(1), {"lr": lr})
    WeightDecay(0.7)(with_number, torch.ones(1), {"lr": float(lr)})
    assert torch.equal(with_tensor, with_number)


@pytest.mark.parametrize("decay", [WeightDecay(), WeightDecay(0.5, False, True)])
def test_it_is_a_weight_decay_function_and_survives_copies(decay: WeightDecay) -> None:
    assert isinstance(decay, WeightDecayFunction)
    for copied in (copy.deepcopy(decay), pickle.loads(pickle.dumps(decay))):
        assert copied.defaults() == decay.defaults()
    assert repr(decay) == f"WeightDecay({decay.weight_decay}, {decay.weight_decouple}, {decay.absolute})"


# In an optimizer


def final(optimizer: Any, steps: int = 8) -> list[bytes]:
    run(optimizer, steps)
    return [numbers(param) for param in params_of(optimizer)]


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("decouple", [True, False])
@pytest.mark.parametrize("absolute", [True, False])
def test_every_form_of_giving_it_is_the_same(foreach: bool, decouple: bool, absolute: bool) -> None:
    decay = WeightDecay(0.3, decouple, absolute)
    whole = radam.RAdam([parameter()], lr=0.1, weight_decay=decay, foreach=foreach)
    in_group = radam.RAdam([{"params": [parameter()], "weight_decay": decay}], lr=0.1, foreach=foreach)
    taken_apart = radam.RAdam([{"params": [parameter()], **decay.defaults()}], lr=0.1, foreach=foreach)
    assert final(whole) == final(in_group) == final(taken_apart)


def test_a_number_is_decoupled_decay() -> None:
    assert final(radam.RAdam([parameter()], lr=0.1, weight_decay=0.3)) == final(
        radam.RAdam([parameter()], lr=0.1, weight_decay=WeightDecay(0.3))
    )


@pytest.mark.parametrize("foreach", [True, False])
def test_kinds_differ_by_group(foreach: bool) -> None:
    kinds = [WeightDecay(0.3), WeightDecay(0.3, False), WeightDecay(0.3, absolute=True), WeightDecay()]
    together = radam.RAdam([{"params": [parameter()], "weight_decay": kind} for kind in kinds], lr=0.1, foreach=foreach)
    for param in params_of(together):
        param.grad = torch.ones(3)
    alone = [radam.RAdam([parameter()], lr=0.1, weight_decay=kind, foreach=foreach) for kind in kinds]
    for optimizer in (together, *alone):
        for _ in range(8):
            optimizer.step()
    results = [numbers(param) for param in params_of(together)]
    assert results == [numbers(param) for optimizer in alone for param in params_of(optimizer)]
    assert len(set(results)) == 4


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("kind", [WeightDecay(0.5), WeightDecay(0.5, False), WeightDecay(0.5, True, True)], ids=repr)
def test_no_decay_changes_a_parameter_at_lr_0(kind: WeightDecay, foreach: bool) -> None:
    param = parameter()
    before = bits(param)
    run(radam.RAdam([param], lr=0.0, weight_decay=kind, foreach=foreach), 8)
    assert bits(param) == before


@pytest.mark.parametrize("foreach", [True, False])
def test_decay_happens_on_steps_that_hold(foreach: bool) -> None:
    param = parameter(8.0)
    optimizer = radam.RAdam([param], lr=1.0, weight_decay=0.5, degenerated_to_sgd=False, foreach=foreach)
    optimizer.step()
    assert param.item() == 4.0


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize(("decouple", "v"), [(True, 1.0), (False, 25.0)])
def test_in_the_warm_up_of_v_only_l2_counts(decouple: bool, v: float, foreach: bool) -> None:
    param = parameter(8.0)
    param.grad = torch.ones(1)
    decay = WeightDecay(0.5, decouple)
    optimizer = radam.Adam([param], betas=(0.9, 0.0), lr=1.0, weight_decay=decay, variance_warmup=5, foreach=foreach)
    optimizer.step()
    assert param.item() == 8.0
    assert optimizer.state[param]["exp_avg"].item() == 0.0
    assert optimizer.state[param]["exp_avg_sq"].item() == v


class Forgetful(WeightDecay):
    """A subclass that overrides __call__ alone."""

    def __call__(self, param: torch.Tensor, grad: torch.Tensor, group: Mapping[str, Any]) -> torch.Tensor:
        param.zero_()
        return grad


@pytest.mark.parametrize("switches", [{}, {"foreach": False}, {"capturable": True}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
def test_a_subclass_is_honoured_by_every_kernel(dtype: torch.dtype, switches: dict[str, Any]) -> None:
    param = parameter(8.0, dtype=dtype)
    optimizer = radam.RAdam([param], lr=1.0, weight_decay=Forgetful(0.5), degenerated_to_sgd=False, **switches)
    optimizer.step()
    assert param.abs().item() == 0.0


class Recorder:
    """Notes what it is given."""

    def __init__(self) -> None:
        self.calls: list[tuple[torch.Tensor, torch.Tensor, Mapping[str, Any]]] = []

    def defaults(self) -> dict[str, Any]:
        return {"rate": 0.5}

    def __call__(self, param: torch.Tensor, grad: torch.Tensor, group: Mapping[str, Any]) -> torch.Tensor:
        self.calls.append((param, grad, group))
        return grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_callable_gets_the_parameter_itself(dtype: torch.dtype) -> None:
    recorder, param = Recorder(), parameter(dtype=dtype)
    optimizer = radam.RAdam([param], weight_decay=recorder)
    optimizer.step()
    ((given, grad, group),) = recorder.calls
    assert given is param
    assert torch.equal(grad, torch.ones_like(param))
    assert group["rate"] == 0.5
    assert group["lr"] == 1e-3


def test_a_callable_gets_the_negated_gradient_under_maximize() -> None:
    recorder, param = Recorder(), parameter()
    radam.RAdam([param], weight_decay=recorder, maximize=True).step()
    assert torch.equal(recorder.calls[0][1], -torch.ones(3))
    assert param.grad is not None
    assert torch.equal(param.grad, torch.ones(3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_for_half_precision_a_callable_gets_the_float32_working_copy(dtype: torch.dtype) -> None:
    class Third(Recorder):
        def __call__(self, param: torch.Tensor, grad: torch.Tensor, group: Mapping[str, Any]) -> torch.Tensor:
            assert param.dtype == grad.dtype == torch.float32
            param.div_(3)
            return grad

    param = parameter(1.0, dtype=dtype)
    radam.RAdam([param], weight_decay=Third(), degenerated_to_sgd=False).step()
    assert param.item() == torch.tensor(1 / 3).to(dtype).item()


def test_for_complex_numbers_a_callable_gets_the_real_view() -> None:
    class Real(Recorder):
        def __call__(self, param: torch.Tensor, grad: torch.Tensor, group: Mapping[str, Any]) -> torch.Tensor:
            assert param.shape == grad.shape == (3, 2)
            param[:, 1] = 7.0
            return grad

    param = parameter(dtype=torch.complex64)
    radam.RAdam([param], weight_decay=Real(), degenerated_to_sgd=False).step()
    assert param.imag.tolist() == [7.0] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
def test_in_the_warm_up_of_v_a_callable_gets_a_copy(dtype: torch.dtype) -> None:
    class Zero(Recorder):
        def __call__(self, param: torch.Tensor, grad: torch.Tensor, group: Mapping[str, Any]) -> torch.Tensor:
            param.zero_()
            return grad

    param = parameter(dtype=dtype)
    before = bits(param)
    optimizer = radam.Adam([param], weight_decay=Zero(), variance_warmup=2)
    optimizer.step()
    assert bits(param) == before


def test_a_new_gradient_of_a_callable_counts() -> None:
    class Nothing(Recorder):
        def __call__(self, param: torch.Tensor, grad: torch.Tensor, group: Mapping[str, Any]) -> torch.Tensor:
            return torch.zeros_like(grad)

    param = parameter()
    before = bits(param)
    optimizer = radam.RAdam([param], weight_decay=Nothing())
    optimizer.step()
    assert bits(param) == before
    assert not optimizer.state[param]["exp_avg"].any()


@pytest.mark.parametrize(
    "value",
    [
        None,
        0.0,
        [torch.ones(3)],
        torch.ones(4),
        torch.ones(1),
        torch.ones(3, dtype=torch.float64),
        torch.ones(3).long(),
    ],
    ids=repr,
)
def test_bad_return_values_are_refused(value: Any) -> None:
    class Bad(Recorder):
        def __call__(self, param: torch.Tensor, grad: torch.Tensor, group: Mapping[str, Any]) -> torch.Tensor:
            result: torch.Tensor = value
            return result

    param = parameter()
    optimizer = radam.RAdam([("weight", param)], weight_decay=Bad())
    with pytest.raises(TypeError, match=r"weight_decay must return.*'weight'") as caught:
        optimizer.step()
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("foreach", [False, None])
def test_the_state_dict_of_a_callables_numbers(foreach: bool | None) -> None:
    optimizer = radam.RAdam([parameter()], weight_decay=Recorder(), foreach=foreach)
    run(optimizer, 2)
    group = optimizer.state_dict()["param_groups"][0]
    assert group["rate"] == 0.5
    assert "weight_decay" not in group
    other = radam.RAdam([parameter()], weight_decay=Recorder())
    other.load_state_dict(optimizer.state_dict())
    assert final(other, 2) != final(optimizer, 1)
