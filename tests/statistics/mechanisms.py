"""Ways to tame the variance of Adam's early learning rate, on one small transformer: what they do to loss and updates.

    python -m tests.statistics.mechanisms [--seeds N] [--steps T] [--lr LR ...] [--out DIR] [--workers W] [--quick]

After Figures 1 to 3 of Liu et al., arXiv 1908.03265: Adam with and without linear warm-up, Adam-2k, Adam-eps and RAdam.
At each seed all have the same first weights and the same batches.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps, rc_context
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.lib.stride_tricks import sliding_window_view
from scipy.stats import binomtest

import radam
from radam.audit.real_gradients.task import BLOCKS, Task
from radam.radam import DEFAULT_THRESHOLD
from radam.rectification import exact_r_t, first_adaptive_step, r_t

FOLDER = Path(__file__).parent / "figures"
SEEDS, STEPS, LRS = 10, 300, (0.01, 0.03, 0.1)
"""Of 0.003, 0.01, 0.03 and 0.1, tried with two seeds, Adam stalled at the last alone, which alone would mislead."""
QUICK_SEEDS, QUICK_STEPS = 2, 4
BETAS = (0.9, 0.999)
SMOOTH = 10
"""Steps up to and including the one shown, over which a loss is averaged."""
FIRST = 60
"""Steps whose updates and gradients are counted."""
DECADES = (-10, 1)
PER_DECADE = 4
BINS = (DECADES[1] - DECADES[0]) * PER_DECADE + 1
"""Of log10, from the middle of the first to that of the last; both are open. Zeros have a place before them."""

SMALL = -5
"""log10 of what a small gradient is below."""
POINTS = 150
"""Of a drawn curve, at least, where there are as many steps."""
DPI = 160

Counts = np.ndarray[Any, np.dtype[np.int64]]
Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Mechanism:
    """An optimizer, its options, and the shares of a run for which its beginning is special.

    Args:
        optimizer: of radam.
        colour: in figures, of Okabe and Ito's palette.
        line: in figures.
        options: of the optimizer, beside lr and BETAS.
        warm_up: share of the run in which lr rises linearly.
        frozen: share of the run in which only the second moment moves.
    """

    optimizer: Callable[..., torch.optim.Optimizer]
    colour: str
    line: str = "-"
    options: Mapping[str, Any] = field(default_factory=dict)
    warm_up: Fraction = Fraction(0)
    frozen: Fraction = Fraction(0)

    def build(self, params: Iterable[torch.nn.Parameter], lr: float, steps: int) -> torch.optim.Optimizer:
        """The optimizer for a run of so many steps."""
        frozen = {"variance_warmup": self.frozen_steps(steps)} if self.frozen else {}
        return self.optimizer(params, lr=lr, betas=BETAS, **self.options, **frozen)

    def factor(self, t: int, steps: int) -> float:
        """Of lr at step t = 1, 2, ..."""
        return min(1.0, t / self.warm_up_steps(steps)) if self.warm_up else 1.0

    def warm_up_steps(self, steps: int) -> int:
        """The first step of the full lr."""
        return math.ceil(self.warm_up * steps)

    def frozen_steps(self, steps: int) -> int:
        """Steps that do not move the parameters."""
        return math.ceil(self.frozen * steps)


# The shares are those of the authors' translation recipes, LiyuanLucasLiu/RAdam nmt/recipes.md: 4000 of 70000 steps of
# warm-up, 2000 of 72000 steps without movement.
MECHANISMS = {
    "Adam": Mechanism(radam.Adam, "#000000"),
    "Adam with warm-up": Mechanism(radam.Adam, "#E69F00", warm_up=Fraction(4000, 70000)),
    "Adam-2k (scaled)": Mechanism(radam.Adam, "#56B4E9", frozen=Fraction(2000, 72000)),
    "Adam-eps": Mechanism(radam.Adam, "#009E73", options={"eps": 1e-4}),
    "RAdam (paper)": Mechanism(radam.RAdam, "#0072B2", options={"rectification": "paper"}),
    "RAdam (exact)": Mechanism(radam.RAdam, "#D55E00", "--", options={"rectification": "exact"}),
}
BASELINE = "Adam"
QUANTITIES = ("updates", "gradients")
LEVEL = 0.05
"""Probability that any comparison is called different although none is."""


@dataclass
class Run:
    """What came of one mechanism at one learning rate and seed."""

    mechanism: str
    lr: float
    seed: int
    losses: list[float]
    """Before each step; the run ends at the first that is not finite, and NaN follows."""
    updates: Counts
    """Elements by step and place, see `histogram`."""
    gradients: Counts

    @property
    def smooth(self) -> Array:
        """Mean loss of the last SMOOTH steps, of fewer at the beginning; infinite from the end of the run on."""
        windows = sliding_window_view(np.pad(self.losses, (SMOOTH - 1, 0)), SMOOTH)
        means = windows.sum(1) / np.minimum(np.arange(1, len(windows) + 1), SMOOTH)
        return np.where(np.isfinite(means), means, math.inf)

    @property
    def diverged(self) -> bool:
        """A loss is not finite, or those of the last SMOOTH steps have a mean above the first loss."""
        return not self.smooth[-1] <= self.losses[0]


def histogram(values: Iterable[torch.Tensor]) -> Counts:
    """How many elements are exactly zero, and how many have log10 of their magnitude in each bin.

    Example:
        >>> counts = histogram([torch.tensor([0.0, 1e-30, -0.002, float("nan")])])
        >>> counts[[0, 1, 1 + 7 * PER_DECADE + 1, -1]].tolist(), int(counts.sum())
        ([1, 1, 1, 1], 4)
    """
    every = torch.cat([value.detach().flatten() for value in values]).double().abs().numpy()
    zero = every == 0
    place = np.round((np.log10(every[~zero]) - DECADES[0]) * PER_DECADE)
    # What is not finite is at the upper end.
    place = np.clip(np.nan_to_num(place, nan=math.inf), 0, BINS - 1).astype(int)
    return np.concatenate([[zero.sum()], np.bincount(place, minlength=BINS)])


_task = lru_cache(maxsize=2)(Task)


def train(mechanism: str, lr: float, seed: int, steps: int) -> Run:
    """Train the transformer of the audit on real gradients, without judging it.

    Args:
        mechanism: one of MECHANISMS.
        lr: after a warm-up.
        seed: of the first weights and the batches.
        steps: how many, at least 1.
    """
    how, task = MECHANISMS[mechanism], _task(seed)
    model, batches = task.model(), task.batches()
    params = list(model.parameters())
    optimizer = how.build(params, lr, steps)
    losses: list[float] = []
    updates, gradients = (np.zeros((min(FIRST, steps), BINS + 1), np.int64) for _ in range(2))
    for t in range(1, steps + 1):
        inputs, targets = next(batches)
        optimizer.zero_grad()
        loss = task.loss(model(inputs), targets)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            losses += [math.nan] * (steps - len(losses))
            break
        torch.autograd.backward(loss)
        for group in optimizer.param_groups:
            group["lr"] = lr * how.factor(t, steps)
        if t > FIRST:
            optimizer.step()
            continue
        before = [param.detach().clone() for param in params]
        optimizer.step()
        updates[t - 1] = histogram(param - old for param, old in zip(params, before, strict=True))
        gradients[t - 1] = histogram(param.grad for param in params if param.grad is not None)
    return Run(mechanism, lr, seed, losses, updates, gradients)


def train_all(lrs: Sequence[float], seeds: int, steps: int, workers: int) -> Iterator[Run]:
    """Every mechanism at every learning rate and seed, several at a time in processes of their own."""
    # Seeds change last, so that a process reads the text once for each.
    jobs = [(name, lr, seed, steps) for seed in range(seeds) for lr in lrs for name in MECHANISMS]
    if workers == 1:
        yield from itertools.starmap(train, jobs)
        return
    # A forked child would inherit locks of torch's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        futures: list[Future[Run]] = [pool.submit(train, *job) for job in jobs]
        try:
            for future in futures:
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


class Results:
    """The runs by learning rate and mechanism, in the order of their seeds."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.of: dict[tuple[float, str], list[Run]] = {}
        for run in runs:
            self.of.setdefault((run.lr, run.mechanism), []).append(run)
        self.lrs = list(dict.fromkeys(lr for lr, _ in self.of))
        (first, *_) = self.of.values()
        self.seeds, self.steps = len(first), len(first[0].losses)
        self.shown = max(self.lrs)
        """The learning rate whose updates are shown."""

    @property
    def comparisons(self) -> int:
        """With the baseline."""
        return len(self.lrs) * (len(MECHANISMS) - 1)

    def losses(self, lr: float, mechanism: str) -> Array:
        """Smoothed, by seed and step."""
        return np.array([run.smooth for run in self.of[lr, mechanism]])

    def differences(self, lr: float, mechanism: str) -> Array:
        """Smoothed losses less the baseline's at the same seed and step; 0 where both have ended."""
        own, base = self.losses(lr, mechanism), self.losses(lr, BASELINE)
        return np.subtract(own, base, out=np.zeros_like(own), where=own != base)

    def diverged(self, lr: float, mechanism: str) -> int:
        """How many runs."""
        return sum(run.diverged for run in self.of[lr, mechanism])

    def counts(self, quantity: str, mechanism: str) -> Counts:
        """Elements by step and place, of all seeds, at the learning rate shown."""
        total: Counts = sum(getattr(run, quantity) for run in self.of[self.shown, mechanism])
        return total


@dataclass(frozen=True)
class SignTest:
    """Two-sided exact sign test of the hypothesis that a difference is as often negative as positive."""

    lower: int
    higher: int

    @property
    def p(self) -> float:
        """Ties say nothing."""
        trials = self.lower + self.higher
        return float(binomtest(self.lower, trials).pvalue) if trials else 1.0


def sign_test(differences: Iterable[float]) -> SignTest:
    """Of paired differences.

    Example:
        >>> sign_test([-1.0, -0.5, -2.0, 0.0, 1.0]), sign_test([-1.0] * 10).p == 2**-9
        (SignTest(lower=3, higher=1), True)
    """
    signs = [math.copysign(1, difference) for difference in differences if difference]
    return SignTest(signs.count(-1), signs.count(1))


def bin_centres() -> Array:
    """log10 of each bin's middle."""
    return DECADES[0] + np.arange(BINS) / PER_DECADE


def median_of(counts: Counts) -> str:
    """log10 of the middle of the bin that holds the median; "0" if that is exactly zero, "none" if nothing is counted.

    Example:
        >>> median_of(histogram([torch.tensor([0.0, 0.01, 0.01])])), median_of(histogram([torch.zeros(3)]))
        ('-2.00', '0')
    """
    if not counts.any():
        return "none"
    place = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))
    return f"{bin_centres()[place - 1]:.2f}" if place else "0"


def markdown(results: Results, command: str) -> str:
    """The tables, and what they and the figures show and do not."""
    steps, n = results.steps, results.seeds
    marks = sorted({max(1, steps // 10), max(1, steps // 3), steps})
    lines = [
        "# Ways to tame the variance of Adam's early learning rate, on one small transformer",
        "",
        f"Made by `{command}`; Python {platform.python_version()}, torch {torch.__version__}. {_setting(results)}",
        "",
        "![loss curves](mechanisms.png)",
        "",
        f"Training loss, nats per character, mean over {SMOOTH} steps up to the one named: median (range) over {n} "
        f"seeds. Difference to {BASELINE} at the same seed after {steps} steps: median (range); the range contains the "
        f"median of all seeds' differences with a confidence of {100 * (1 - 2.0 ** (1 - n)):.4g}%. Lower: seeds whose "
        "loss is lower. p: exact two-sided sign test, times the number of comparisons, which is "
        f"{results.comparisons}; so many seeds can make it no smaller than "
        f"{_corrected(SignTest(n, 0), results):.2g}. Diverged: runs with a loss that is not finite, "
        "which counts as infinite, or that end above their first loss; they are in all numbers.",
        "",
    ]
    head = ["lr", "mechanism", *(f"after {mark}" for mark in marks), "difference", "lower", "p", "diverged"]
    lines += [_row(head), _row(["--:", "---", *["--:"] * (len(marks) + 4)])]
    for lr in results.lrs:
        for name in MECHANISMS:
            losses = results.losses(lr, name)
            cells = [f"{lr:g}", name, *(_spread(losses[:, mark - 1]) for mark in marks)]
            if name == BASELINE:
                cells += ["", "", ""]
            else:
                final = results.differences(lr, name)[:, -1]
                test = sign_test(final)
                cells += [_spread(final, "+.2f"), f"{test.lower} of {n}", f"{_corrected(test, results):.2g}"]
            lines.append(_row([*cells, f"{results.diverged(lr, name)} of {n}"]))
    shown = sorted({1, min(10, steps), min(FIRST, steps)})
    lines += [
        "",
        "![distribution of updates and gradients](updates.png)",
        "",
        f"log10 of the median magnitude at lr = {results.shown:g}, to the nearest 1/{PER_DECADE}, all seeds together; "
        f"log10 of lr is {math.log10(results.shown):.2f}. 0: the median is exactly zero. An update is the difference "
        "of a float32 parameter before and after the step.",
        "",
        _row(["mechanism", *(f"{quantity}, step {t}" for quantity in ("update", "gradient") for t in shown)]),
        _row(["---", *["--:"] * (2 * len(shown))]),
    ]
    for name in MECHANISMS:
        both = [results.counts(quantity, name) for quantity in QUANTITIES]
        lines.append(_row([name, *(median_of(counts[t - 1]) for counts in both for t in shown)]))
    return "\n".join([*lines, "", "## What this shows", "", reading(results), ""])


def _setting(results: Results) -> str:
    steps = results.steps
    size = sum(param.numel() for param in _task(0).model().parameters())
    # No rate is said to be chosen that was asked for.
    chosen = (
        "The learning rates were chosen after a look at two seeds and four rates: Adam stalled at the largest alone. "
        if tuple(results.lrs) == LRS
        else ""
    )
    warm, frozen = MECHANISMS["Adam with warm-up"], MECHANISMS["Adam-2k (scaled)"]
    return (
        f"A transformer of {size:,} parameters, {BLOCKS} blocks that normalise their input, learns to predict the next "
        f"character of Python's help texts; {steps} steps, beta = {BETAS}, no decay of lr or weights. At each seed all "
        "mechanisms have the same first weights and batches. "
        f"{chosen}"
        f"Warm-up: linear over {warm.warm_up_steps(steps)} steps (4000 of 70000 in the paper's translation runs). "
        f"Adam-2k: {frozen.frozen_steps(steps)} steps that move the second moment alone (2000 of 72000 there). "
        "Adam-eps: eps = 1e-4, added before bias correction. All others: eps = 1e-16."
    )


def reading(results: Results) -> str:
    """What the figures show, and what they do not, in one paragraph."""
    diverged = sum(results.diverged(lr, name) for lr, name in results.of)
    return " ".join(
        [
            "Lower, higher and not told apart are said by the sign test of the losses at the end, at "
            f"{100 * LEVEL:g}% for all {results.comparisons} comparisons together.",
            *(_compared(results, lr) for lr in results.lrs),
            f"Each at its best lr of the {len(results.lrs)}, by these same runs: {_best(results)}.",
            f"Of {results.seeds * len(results.of)} runs {diverged} diverged.",
            _small(results),
            "Not shown: any other model (this one is tiny, and normalises the input of each block, where the paper's "
            "normalises its output), text, batch size or length of run; loss on text not trained on; other learning "
            f"rates; whether variance is the cause. {_rectified(results.steps)}",
        ]
    )


def _compared(results: Results, lr: float) -> str:
    """The last losses at a learning rate."""
    medians = {name: _last(results, lr, name) for name in MECHANISMS}
    low, high = min(medians, key=medians.__getitem__), max(medians, key=medians.__getitem__)
    verdicts: dict[str, list[str]] = {"lower": [], "higher": [], "neither": []}
    for name in MECHANISMS:
        if name != BASELINE:
            test = sign_test(results.differences(lr, name)[:, -1])
            sign = "lower" if test.lower > test.higher else "higher"
            verdicts[sign if _corrected(test, results) <= LEVEL else "neither"].append(name)
    return (
        f"At lr = {lr:g} the median loss after {results.steps} steps is {medians[BASELINE]:.2f} with {BASELINE}; the "
        f"lowest is {medians[low]:.2f} ({low}), the highest {medians[high]:.2f} ({high}); lower than with {BASELINE}: "
        f"{_listed(verdicts['lower'])}; higher: {_listed(verdicts['higher'])}; not told apart: "
        f"{_listed(verdicts['neither'])}."
    )


def _last(results: Results, lr: float, name: str) -> float:
    return float(np.median(results.losses(lr, name)[:, -1]))


def _best(results: Results) -> str:
    """The lowest of the median last losses of each mechanism, and where."""
    best = {name: min((_last(results, lr, name), lr) for lr in results.lrs) for name in MECHANISMS}
    return ", ".join(f"{name} {loss:.2f} ({lr:g})" for name, (loss, lr) in best.items())


def _small(results: Results) -> str:
    """How many gradients are small, at the beginning and after the steps that are counted."""
    counts = {name: results.counts("gradients", name) for name in MECHANISMS}
    last = len(counts[BASELINE])
    return (
        f"At lr = {results.shown:g}, {_share(counts[BASELINE][0])} of the gradients at step 1 are in the bins below "
        f"10^{SMALL}, zeros among them, and at step {last} "
        + ", ".join(f"{_share(each[-1])} with {name}" for name, each in counts.items())
        + "."
    )


def _share(counts: Counts) -> str:
    """Of small ones."""
    below = 1 + (SMALL - DECADES[0]) * PER_DECADE
    return f"{100 * counts[:below].sum() / counts.sum():.0f}%" if counts.any() else "none (no run is left)"


def _rectified(steps: int) -> str:
    """How far the rectification comes in a run."""
    beta2 = BETAS[1]
    first = first_adaptive_step(beta2, DEFAULT_THRESHOLD)
    if first is None or steps < first:
        return "The run is too short for an adaptive step of RAdam (paper)."
    return (
        f"r_t grows throughout and ends at {float(r_t(steps, beta2)):.2f} (paper) and "
        f"{float(exact_r_t(steps, beta2)):.2f} (exact): the whole run is warm-up to RAdam, and what comes of its lower "
        "rate is not separated from what comes of less variance."
    )


def _corrected(test: SignTest, results: Results) -> float:
    """Bonferroni's p."""
    return min(1.0, results.comparisons * test.p)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _spread(values: Array, form: str = "#.3g") -> str:
    return f"{statistics.median(values):{form}} ({values.min():{form}} to {values.max():{form}})"


def write_losses(results: Results, path: Path) -> None:
    """Losses of every run, as they were."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["lr", "mechanism", "step", *(f"seed {seed}" for seed in range(results.seeds))])
        for (lr, name), runs in results.of.items():
            for t, losses in enumerate(zip(*(run.losses for run in runs), strict=True), 1):
                writer.writerow([f"{lr:g}", name, t, *(f"{loss:.4f}" for loss in losses)])


def write_counts(results: Results, path: Path) -> None:
    """The histograms that are drawn: elements by step and place, of all seeds."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        centres = (f"{centre:.2f}" for centre in bin_centres())
        writer.writerow(["quantity", "lr", "mechanism", "step", "exactly zero", *centres])
        for quantity in QUANTITIES:
            for name in MECHANISMS:
                for t, row in enumerate(results.counts(quantity, name), 1):
                    writer.writerow([quantity, f"{results.shown:g}", name, t, *row])


def draw_losses(results: Results) -> Figure:
    """Losses above, paired differences below, median and range over seeds; a column for each learning rate."""
    columns = len(results.lrs)
    figure = Figure(figsize=(max(9.0, 3.0 * columns), 5.2), layout="constrained")
    axes = figure.subplots(2, columns, sharex=True, sharey="row", squeeze=False)
    drawn = np.arange(0, results.steps, max(1, results.steps // POINTS))
    for (upper, lower), lr in zip(axes.T, results.lrs, strict=True):
        for name, how in MECHANISMS.items():
            for axis, values in ((upper, results.losses(lr, name)), (lower, results.differences(lr, name))):
                if axis is lower and name == BASELINE:
                    axis.axhline(0, color=how.colour, linewidth=1)
                    continue
                steps, values = drawn + 1, values[:, drawn]
                axis.fill_between(steps, values.min(0), values.max(0), color=how.colour, alpha=0.15, linewidth=0)
                axis.plot(steps, np.median(values, 0), how.line, color=how.colour, linewidth=1.4, label=name)
        upper.set_title(f"lr = {lr:g}", loc="left")
        lower.set_xlabel("step")
    # What diverges leaves the picture.
    limit = 1.2 * max(run.losses[0] for runs in results.of.values() for run in runs)
    axes[0, 0].set_ylim(np.clip(axes[0, 0].get_ylim(), 0, limit))
    axes[1, 0].set_ylim(np.clip(axes[1, 0].get_ylim(), -limit, limit))
    axes[0, 0].set_ylabel("training loss, nats per character")
    axes[1, 0].set_ylabel(f"difference to {BASELINE}, same seed")
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xlim(1, max(2, results.steps))
    figure.supxlabel(
        f"lines: medians, bands: ranges of {results.seeds} seeds; losses are means over the last {SMOOTH} steps",
        fontsize=8,
    )
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, columnspacing=1.4)
    return figure


def draw_counts(results: Results) -> Figure:
    """Updates above, gradients below: the share of elements by step and log10 of their magnitude."""
    figure = Figure(figsize=(9, 4.8))
    room = {"left": 0.075, "right": 0.9, "bottom": 0.1, "top": 0.94, "wspace": 0.08, "hspace": 0.08}
    axes = figure.subplots(2, len(MECHANISMS), sharex=True, sharey=True, gridspec_kw=room)
    height, gap = 1 / PER_DECADE, 3
    bottom = DECADES[0] - (gap + 1.5) * height
    for row, quantity in zip(axes, QUANTITIES, strict=True):
        for axis, name in zip(row, MECHANISMS, strict=True):
            counts = results.counts(quantity, name)
            share = counts.T / np.maximum(counts.sum(1), 1)
            image = axis.imshow(
                np.concatenate([share[:1], np.full((gap, share.shape[1]), np.nan), share[1:]]),
                origin="lower",
                aspect="auto",
                interpolation="nearest",
                cmap=colormaps["BuPu"].with_extremes(bad="0.85"),
                norm=PowerNorm(0.5, 0, 0.5),
                extent=(0.5, share.shape[1] + 0.5, bottom, DECADES[1] + height / 2),
            )
    decades = range(DECADES[0], DECADES[1] + 1, 2)
    axes[0, 0].set_yticks([bottom + height / 2, *decades], ["zero", f"≤ {decades[0]}", *map(str, decades[1:])])
    for axis, name in zip(axes[0], MECHANISMS, strict=True):
        axis.set_title(name, fontsize=8.5)
        axis.axhline(math.log10(results.shown), color="black", linewidth=0.8, linestyle=":")
    for axis in axes[1]:
        axis.set_xlabel("step")
    axes[0, 0].set_ylabel(f"log10 |update| (dotted: lr = {results.shown:g})")
    axes[1, 0].set_ylabel("log10 |gradient|")
    bar = figure.add_axes((0.915, room["bottom"], 0.014, room["top"] - room["bottom"]))
    figure.colorbar(image, cax=bar, extend="max", label="share of elements")
    return figure


def save(figure: Figure, stem: Path) -> None:
    """As SVG and PNG, the same bytes for the same figure."""
    figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None}, dpi=DPI)
    # The layout is found by now.
    figure.set_layout_engine("none")
    figure.savefig(stem.with_suffix(".png"), dpi=DPI)


def write(results: Results, folder: Path, command: str) -> None:
    """All files."""
    write_losses(results, folder / "mechanisms.csv")
    write_counts(results, folder / "updates.csv")
    (folder / "mechanisms.md").write_text(markdown(results, command), encoding="utf-8")
    with rc_context({"font.size": 9, "svg.hashsalt": "mechanisms"}):
        save(draw_losses(results), folder / "mechanisms")
        save(draw_counts(results), folder / "updates")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, draw and tell.

    Raises:
        SystemExit: wrong use, with status 2, or --help.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, help=f"of weights and batches (default: {SEEDS})")
    parser.add_argument("--steps", type=int, help=f"of each run (default: {STEPS})")
    parser.add_argument("--lr", type=float, nargs="+", default=LRS, help="learning rates (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", default=FOLDER, help="for the files (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=_processors(), help="processes (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SEEDS} seeds, {QUICK_STEPS} steps")
    options = parser.parse_args(arguments)
    seeds = options.seeds if options.seeds is not None else QUICK_SEEDS if options.quick else SEEDS
    steps = options.steps if options.steps is not None else QUICK_STEPS if options.quick else STEPS
    for name, value in (("seeds", seeds), ("steps", steps), ("workers", options.workers)):
        if value < 1:
            parser.error(f"--{name} must be at least 1, but is {value}")
    for lr in options.lr:
        if not 0 < lr < math.inf:
            parser.error(f"--lr must be positive and finite, but is {lr:g}")
    if len(set(options.lr)) < len(options.lr):
        parser.error(f"--lr must not repeat, but is {' '.join(f'{lr:g}' for lr in options.lr)}")
    if not options.out.parent.is_dir():
        parser.error(f"--out {options.out}: there is no folder {options.out.parent}")
    options.out.mkdir(exist_ok=True)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.perf_counter()
    runs = []
    try:
        for run in train_all(options.lr, seeds, steps, options.workers):
            runs.append(run)
            if len(runs) % (len(options.lr) * len(MECHANISMS)) == 0:
                print(f"seed {run.seed}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    finally:
        torch.set_num_threads(threads)
    lrs = " ".join(f"{lr:g}" for lr in options.lr)
    command = f"python -m tests.statistics.mechanisms --seeds {seeds} --steps {steps} --lr {lrs}"
    results = Results(runs)
    write(results, options.out, command)
    print(reading(results))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    main()
