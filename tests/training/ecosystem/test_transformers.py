"""transformers: its Trainer with RAdam and a schedule of its own, and a run that is gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import radam
from tests.training.model import OPTIONS, watched

transformers = pytest.importorskip("transformers", reason="comes with tox -e training")
pytest.importorskip("accelerate", reason="comes with tox -e training")
STEPS = 12


def net() -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=32, n_positions=8, n_embd=16, n_layer=1, n_head=2)
    return transformers.GPT2LMHeadModel(config)


class Text(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        tokens = torch.randint(32, (8,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": tokens, "labels": tokens}


def trainer(folder: Path, **more: Any) -> tuple[Any, radam.RAdam]:
    module = net()
    optimizer = radam.RAdam(radam.decay_groups(module, 0.1), **OPTIONS)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, 3, STEPS)
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=4,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        save_steps=5,
        logging_steps=100,
        **more,
    )
    made = transformers.Trainer(model=module, args=arguments, train_dataset=Text(), optimizers=(optimizer, schedule))
    return made, optimizer


class Follow(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
    """Tells an oracle beside the optimizer what the schedule has set."""

    def __init__(self, optimizer: radam.RAdam) -> None:
        self.optimizer = optimizer
        self.lockstep = watched(optimizer)

    def on_pre_optimizer_step(self, *arguments: Any, **more: Any) -> None:
        for own, group in zip(self.lockstep.options, self.optimizer.param_groups, strict=True):
            own.update({name: group[name] for name in ("lr", "weight_decay")})


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
class TestTransformers:
    @pytest.mark.parametrize("more", [{}, {"bf16": True}, {"gradient_accumulation_steps": 2}], ids=str)
    def test_a_trainer(self, tmp_path: Path, more: dict[str, Any]) -> None:
        made, optimizer = trainer(tmp_path, save_strategy="no", **more)
        follow = Follow(optimizer)
        made.add_callback(follow)
        with follow.lockstep.watching() as record:
            made.train()
        numbers = sum(param.numel() for param in made.model.parameters())
        assert record.steps == STEPS
        assert (record.judged, record.unjudged) == (STEPS * 3 * numbers, 0)

    def test_a_run_that_is_gone_on_with(self, tmp_path: Path) -> None:
        """It ends where the whole run does, bit for bit."""
        whole, _ = trainer(tmp_path / "whole")
        whole.train()
        rest, optimizer = trainer(tmp_path / "rest")
        rest.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-5"))
        assert {state["step"] for state in optimizer.state.values()} == {STEPS}
        assert all(map(torch.equal, rest.model.parameters(), whole.model.parameters()))
