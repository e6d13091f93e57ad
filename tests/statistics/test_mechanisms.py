"""The comparison of mechanisms is paired, counts all, hides nothing, and builds what it names."""

from __future__ import annotations

import csv
import dataclasses
import math
import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import radam
from tests.statistics import mechanisms
from tests.statistics.mechanisms import BASELINE, BINS, DECADES, MECHANISMS, PER_DECADE, Results, Run, train

SEEDS, STEPS = mechanisms.QUICK_SEEDS, mechanisms.QUICK_STEPS


@pytest.fixture(scope="module")
def size() -> int:
    """Elements of the transformer."""
    return sum(param.numel() for param in mechanisms._task(0).model().parameters())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes."""
    path = tmp_path_factory.mktemp("written") / "figures"
    mechanisms.main(["--quick", "--lr", "0.1", "--workers", "1", "--out", str(path)])
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def made(losses: Callable[[str, int], list[float]], seeds: int = SEEDS, lr: float = 0.1) -> Results:
    """Results with given losses, by mechanism and seed."""
    counts = np.ones((mechanisms.FIRST, BINS + 1), np.int64)
    return Results(
        Run(name, lr, seed, losses(name, seed), counts, counts) for seed in range(seeds) for name in MECHANISMS
    )


def test_the_command_writes_all_files(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "mechanisms.csv",
        "mechanisms.md",
        "mechanisms.png",
        "mechanisms.svg",
        "updates.csv",
        "updates.png",
        "updates.svg",
    ]
    losses = rows(folder / "mechanisms.csv")
    assert [row["mechanism"] for row in losses] == [name for name in MECHANISMS for _ in range(STEPS)]
    assert all(0 < float(row[f"seed {seed}"]) < 10 for row in losses for seed in range(SEEDS))
    text = (folder / "mechanisms.md").read_text()
    assert all(f"\n| 0.1 | {name} | " in text for name in MECHANISMS)
    assert "Not shown" in text
    for stem in ("mechanisms", "updates"):
        assert (folder / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
        assert "dc:date" not in (folder / f"{stem}.svg").read_text()


def test_the_table_is_of_the_losses(folder: Path) -> None:
    losses = {
        name: [
            [float(row[f"seed {seed}"]) for row in rows(folder / "mechanisms.csv") if row["mechanism"] == name]
            for seed in range(SEEDS)
        ]
        for name in MECHANISMS
    }
    # There are fewer steps than are averaged.
    means = {name: [sum(each) / STEPS for each in own] for name, own in losses.items()}
    baseline = means[BASELINE]
    number = r"([+-]?\d+\.\d+)"
    for line in (folder / "mechanisms.md").read_text().splitlines():
        if not line.startswith("| 0.1 |"):
            continue
        _, _, name, *cells = (cell.strip() for cell in line.split("|"))
        own = means.pop(name)
        differences = [mine - base for mine, base in zip(own, baseline, strict=True)]
        spreads = [own] if name == BASELINE else [own, differences]
        for cell, values in zip([cell for cell in cells if " to " in cell][-len(spreads) :], spreads, strict=True):
            seen = [float(each) for each in re.findall(number, cell)]
            assert seen == pytest.approx([sum(values) / SEEDS, min(values), max(values)], abs=0.006)
        if name != BASELINE:
            assert f"{sum(value < 0 for value in differences)} of {SEEDS}" in cells
    assert not means


def test_the_histograms_count_every_element_once(folder: Path, size: int) -> None:
    counted = rows(folder / "updates.csv")
    assert len(counted) == 2 * len(MECHANISMS) * STEPS
    for row in counted:
        counts = [int(value) for name, value in row.items() if name not in ("quantity", "lr", "mechanism", "step")]
        assert len(counts) == BINS + 1
        assert sum(counts) == SEEDS * size


def test_an_element_is_counted_in_the_bin_of_its_magnitude() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(500, generator=generator) * 10 ** (12 * torch.rand(500, generator=generator) - 9)
    special = torch.tensor([0.0, -0.0, 1e-45, 1e30, math.inf, -math.inf, math.nan])
    expected = [0] * (BINS + 1)
    for value in [*drawn.tolist(), *special.tolist()]:
        if value == 0:
            expected[0] += 1
        elif not math.isfinite(value):
            expected[-1] += 1
        else:
            nearest = round((math.log10(abs(value)) - DECADES[0]) * PER_DECADE)
            expected[1 + min(max(nearest, 0), BINS - 1)] += 1
    assert mechanisms.histogram([drawn.view(5, 100), special]).tolist() == expected
    assert mechanisms.bin_centres()[[0, -1]].tolist() == [*DECADES]


def test_mechanisms_are_paired(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """The first losses and gradients are the same, to the bit, and of another seed others."""
    seen: list[torch.Tensor] = []
    count = mechanisms.histogram

    def spy(values: Iterable[torch.Tensor]) -> Any:
        kept = [value.detach().clone() for value in values]
        seen.append(torch.cat([value.flatten() for value in kept]))
        return count(kept)

    monkeypatch.setattr(mechanisms, "histogram", spy)
    runs = [train(name, 0.1, 0, 1) for name in MECHANISMS]
    other = train(BASELINE, 0.1, 1, 1)
    gradients = seen[1::2]
    assert all(gradient.shape == (size,) for gradient in gradients)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients[:-1])
    assert not torch.equal(gradients[-1], gradients[0])
    assert {tuple(run.losses) for run in runs} == {tuple(runs[0].losses)} != {tuple(other.losses)}


def test_the_same_seed_gives_the_same_run(folder: Path) -> None:
    run = train("RAdam (exact)", 0.1, 1, STEPS)
    written = [row["seed 1"] for row in rows(folder / "mechanisms.csv") if row["mechanism"] == run.mechanism]
    assert [f"{loss:.4f}" for loss in run.losses] == written
    again = train("RAdam (exact)", 0.1, 1, STEPS)
    assert again.losses == run.losses
    assert np.array_equal(again.updates, run.updates)
    assert np.array_equal(again.gradients, run.gradients)


def test_updates_are_what_the_parameters_move_by(folder: Path, size: int) -> None:
    """Adam's first step is of lr wherever there is a gradient; Adam-2k's is none."""
    counted = rows(folder / "updates.csv")
    first = {row["mechanism"]: row for row in counted if (row["quantity"], row["step"]) == ("updates", "1")}
    still, moved = int(first["Adam"]["exactly zero"]), int(first["Adam"]["-1.00"])
    assert moved > 0.9 * SEEDS * size
    # Some gradients are what rounding has left, and may be as small as eps.
    assert still + moved > 0.999 * SEEDS * size
    assert int(first["Adam-2k (scaled)"]["exactly zero"]) == SEEDS * size


EXPECTED: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "Adam": (radam.Adam, {"eps": 1e-16, "variance_warmup": 0}),
    "Adam with warm-up": (radam.Adam, {"eps": 1e-16, "variance_warmup": 0}),
    "Adam-2k (scaled)": (radam.Adam, {"eps": 1e-16, "variance_warmup": 2}),
    "Adam-eps": (radam.Adam, {"eps": 1e-4, "variance_warmup": 0}),
    "RAdam (paper)": (radam.RAdam, {"eps": 1e-16, "rectification": "paper", "threshold": 5.0}),
    "RAdam (exact)": (radam.RAdam, {"eps": 1e-16, "rectification": "exact", "threshold": 5.0}),
}


@pytest.mark.parametrize("name", MECHANISMS)
def test_each_mechanism_builds_what_it_names(name: str) -> None:
    optimizer = MECHANISMS[name].build([torch.nn.Parameter(torch.ones(2))], 0.25, 72)
    cls, options = EXPECTED[name]
    assert type(optimizer) is cls
    (group,) = optimizer.param_groups
    common = {"lr": 0.25, "betas": (0.9, 0.999), "amsgrad": False, "optimized_update": True, "maximize": False}
    assert {**group, **common, **options} == group


def test_the_warm_up_is_linear() -> None:
    how = MECHANISMS["Adam with warm-up"]
    assert [how.factor(t, 70_000) for t in (1, 1000, 4000, 4001, 70_000)] == [1 / 4000, 0.25, 1, 1, 1]
    others = [each for each in MECHANISMS.values() if each is not how]
    assert {each.factor(t, 70_000) for each in others for t in (1, 2, 70_000)} == {1.0}


def test_a_run_has_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    class Spy(radam.Adam):
        def step(self, closure: Any = None) -> Any:
            seen.append(self.param_groups[0]["lr"])
            return super().step(closure)

    how = dataclasses.replace(MECHANISMS["Adam with warm-up"], optimizer=Spy, warm_up=Fraction(4, 6))
    monkeypatch.setitem(MECHANISMS, "Adam with warm-up", how)
    train("Adam with warm-up", 0.5, 0, 6)
    assert seen == [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]


def test_losses_are_smoothed_over_the_steps_before() -> None:
    run = Run("Adam", 0.1, 0, [float(t) for t in range(1, 31)], *[np.zeros((1, 1), np.int64)] * 2)
    assert run.smooth[[0, 1, 9, 10, 29]] == pytest.approx([1, 1.5, 5.5, 6.5, 25.5])


def test_a_loss_that_is_not_finite_is_a_divergence() -> None:
    run = train("Adam", 1e30, 0, 4)
    assert run.diverged
    assert len(run.losses) == 4
    assert math.isnan(run.losses[-1])
    assert math.isinf(run.smooth[-1])
    assert not train("Adam", 0.01, 0, 4).diverged


@pytest.mark.parametrize("end", [math.nan, math.inf, 5.0])
def test_divergence_is_counted(end: float) -> None:
    def losses(name: str, seed: int) -> list[float]:
        return [4.0, *([end] * 40 if (name, seed) == ("RAdam (paper)", 1) else [3.0 + 0.1 * seed] * 40)]

    results = made(losses, seeds=10)
    assert results.diverged(0.1, "RAdam (paper)") == 1
    text = mechanisms.markdown(results, "command")
    (row,) = (line for line in text.splitlines() if line.startswith("| 0.1 | RAdam (paper) |"))
    assert row.endswith(" 1 of 10 |")
    assert ("inf" in row) == (end != 5)
    assert "Of 60 runs 1 diverged." in text


def test_a_divergence_of_both_is_a_tie() -> None:
    results = made(lambda name, seed: [4.0, math.nan if seed == 0 or name == "Adam-eps" else 3.0])
    assert results.differences(0.1, "RAdam (paper)")[:, -1].tolist() == [0, 0]
    assert results.differences(0.1, "Adam-eps")[:, -1].tolist() == [0, math.inf]


def test_only_what_all_seeds_show_is_said() -> None:
    """Ten seeds of ten tell five comparisons apart, nine of ten do not."""
    ends = {"Adam with warm-up": [2.0] * 10, "Adam-eps": [4.0] * 10, "RAdam (exact)": [2.0] * 9 + [3.5]}
    results = made(lambda name, seed: [5.0, *[ends.get(name, [3.0] * 10)[seed]] * 20], seeds=10)
    said = mechanisms.reading(results)
    assert "lower than with Adam: Adam with warm-up; higher: Adam-eps; not told apart: Adam-2k (scaled), " in said
    assert "RAdam (paper), RAdam (exact)." in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "--seeds must be at least 1, but is 0"),
        (["--steps", "-1"], "--steps must be at least 1, but is -1"),
        (["--workers", "0"], "--workers must be at least 1, but is 0"),
        (["--lr", "0.1", "-1"], "--lr must be positive and finite, but is -1"),
        (["--lr", "nan"], "--lr must be positive and finite, but is nan"),
        (["--lr", "0.1", "0.1"], "--lr must not repeat, but is 0.1 0.1"),
        (["--lr", "fast"], "--lr: invalid float value: 'fast'"),
        (["--out", "/nowhere/figures"], "--out /nowhere/figures: there is no folder /nowhere"),
    ],
)
def test_wrong_use(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        mechanisms.main(arguments)
    assert exit.value.code == 2
    assert message in capsys.readouterr().err
