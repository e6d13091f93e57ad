"""Parameter groups: what decays, and what does not."""

from __future__ import annotations

import pytest
import torch

import radam
from radam import decay_groups


class Transformer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(7, 4)
        self.block = torch.nn.TransformerEncoderLayer(4, 2, 8)
        self.norm = torch.nn.BatchNorm1d(4)
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.head = torch.nn.Linear(4, 7)
        self.head.weight = self.embed.weight
        self.frozen = torch.nn.Parameter(torch.ones(2, 2), requires_grad=False)


def names(groups: list[dict[str, object]]) -> list[list[str]]:
    return [[name for name, _ in group["params"]] for group in groups]  # type: ignore[attr-defined]


def test_biases_norms_and_scalars_do_not_decay() -> None:
    groups = decay_groups(Transformer(), 0.1)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    decaying, others = names(groups)
    block = ["self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"]
    assert decaying == ["embed.weight", *(f"block.{name}" for name in block)]
    assert set(others) == {
        "scale",
        "head.bias",
        "norm.weight",
        "norm.bias",
        *(f"block.{name}" for name in ("self_attn.in_proj_bias", "self_attn.out_proj.bias")),
        *(f"block.{layer}.bias" for layer in ("linear1", "linear2", "norm1", "norm2")),
        *(f"block.{layer}.weight" for layer in ("norm1", "norm2")),
    }


def test_every_parameter_that_needs_a_gradient_is_there_once() -> None:
    module = Transformer()
    params = [param for group in decay_groups(module, 0.1) for _, param in group["params"]]
    assert len(params) == len({id(param) for param in params})
    assert {id(param) for param in params} == {id(param) for param in module.parameters() if param.requires_grad}


def test_more_modules_can_be_left_out() -> None:
    """The embedding's weight is the head's too: it does not decay, as it must not in one of them."""
    decaying, others = names(decay_groups(Transformer(), 0.1, without=[torch.nn.Embedding]))
    assert "embed.weight" in others
    assert "head.weight" not in [*decaying, *others]


@pytest.mark.parametrize("norm", [torch.nn.LayerNorm, torch.nn.RMSNorm])
def test_a_norm_of_several_dimensions_does_not_decay(norm: type[torch.nn.Module]) -> None:
    (group,) = decay_groups(norm((2, 3)), 0.1)
    assert group["weight_decay"] == 0.0


def test_what_stands_within_a_norm_decays() -> None:
    """It is the norm's own parameters that do not."""

    class Gated(torch.nn.LayerNorm):
        def __init__(self) -> None:
            super().__init__(3)
            self.gate = torch.nn.Linear(3, 3)

    decaying, others = names(decay_groups(torch.nn.Sequential(Gated()), 0.1))
    assert decaying == ["0.gate.weight"]
    assert others == ["0.weight", "0.bias", "0.gate.bias"]


def test_kernels_of_convolutions_decay() -> None:
    """Whatever the number of their dimensions."""
    decaying, others = names(decay_groups(torch.nn.Sequential(torch.nn.Conv1d(2, 2, 3), torch.nn.Conv2d(2, 2, 3)), 0.1))
    assert decaying == ["0.weight", "1.weight"]
    assert others == ["0.bias", "1.bias"]


def test_a_group_that_would_be_empty_is_left_out() -> None:
    (group,) = decay_groups(torch.nn.LayerNorm(3), 0.1)
    assert group["weight_decay"] == 0.0


def test_a_module_without_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="module must have a parameter that needs a gradient, but is Tanh"):
        decay_groups(torch.nn.Tanh(), 0.1)


@pytest.mark.parametrize("optimizer", [radam.RAdam, radam.Adam, torch.optim.AdamW])
def test_only_what_should_decays(optimizer: type[torch.optim.Optimizer]) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2))
    made = optimizer(decay_groups(module, 0.5), lr=0.1)  # type: ignore[call-arg]
    before = {name: param.detach().clone() for name, param in module.named_parameters()}
    for param in module.parameters():
        param.grad = torch.zeros_like(param)
    made.step()
    changed = {name for name, param in module.named_parameters() if not torch.equal(param, before[name])}
    assert changed == {"0.weight"}
