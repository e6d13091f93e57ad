"""lightning: a module that configures RAdam, which steps by closures; and a checkpoint that is gone on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import radam
from tests.training.model import OPTIONS, model, watched

lightning = pytest.importorskip("lightning", reason="comes with tox -e training")


def trainer(steps: int, folder: Path, **more: Any) -> Any:
    return lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        devices=1,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **more,
    )


def loader() -> torch.utils.data.DataLoader[Any]:
    """Of one batch: where in an epoch it goes on is lightning's affair."""
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(24, 6, generator=generator), torch.randn(24, 5, generator=generator)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), batch_size=24)


class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.net = model()
        self.seen: list[Any] = []

    def configure_optimizers(self) -> Any:
        self.optimizer = radam.RAdam(self.parameters(), **OPTIONS)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 12)
        return {"optimizer": self.optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        inputs, targets = batch
        return torch.nn.functional.mse_loss(self.net(inputs), targets)

    def on_train_start(self) -> None:
        self.lockstep = watched(self.optimizer)
        self.watching = self.lockstep.watching()
        self.record = self.watching.__enter__()

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.lockstep.options[0]["lr"] = optimizer.param_groups[0]["lr"]

    def on_train_end(self) -> None:
        self.watching.__exit__(None, None, None)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
class TestLightning:
    @pytest.mark.parametrize("more", [{}, {"gradient_clip_val": 0.1}, {"precision": "bf16-mixed"}], ids=str)
    def test_a_fit(self, tmp_path: Path, more: dict[str, Any]) -> None:
        module = Module()
        trainer(12, tmp_path, **more).fit(module, loader())
        numbers = sum(param.numel() for param in module.parameters())
        assert module.record.steps == 12
        assert (module.record.judged, module.record.unjudged) == (12 * 3 * numbers, 0)

    def test_a_checkpoint(self, tmp_path: Path) -> None:
        """What goes on from it ends where the whole run does, bit for bit."""
        whole = Module()
        trainer(12, tmp_path).fit(whole, loader())
        half = Module()
        first = trainer(6, tmp_path)
        first.fit(half, loader())
        first.save_checkpoint(tmp_path / "half.ckpt")
        rest = Module()
        trainer(12, tmp_path).fit(rest, loader(), ckpt_path=tmp_path / "half.ckpt")
        assert rest.record.steps == 6
        assert all(map(torch.equal, rest.parameters(), whole.parameters()))
