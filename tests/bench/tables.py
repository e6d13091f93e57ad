"""What was measured, as Markdown and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.bench import memory, scale, steps
from tests.bench.candidates import ADAM, ADAM_AMSGRAD, DEFAULT, FOREACH, RADAM, RADAM_AMSGRAD
from tests.bench.steps import FLOOR, Timing

PICTURE = ("radam", "torch Adam, fused", FOREACH, DEFAULT, "torch RAdam, compiled", "pytorch_optimizer RAdam", FLOOR)


def _timings(part: Mapping[str, Any]) -> dict[tuple[str, int], dict[str, Timing]]:
    result: dict[tuple[str, int], dict[str, Timing]] = {}
    for each in part["found"]:
        timing = Timing(**each)
        result.setdefault((timing.set, timing.threads), {})[timing.candidate] = timing
    return result


def _machine(part: Mapping[str, Any]) -> str:
    machine = part["machine"]
    device = "" if machine["device"] == "cpu" else f", {machine['device']}"
    return f"torch {machine['torch']}, {machine['processor']}, {machine['processors']} processors{device}"


COMPARISONS = (
    ("of torch's fused Adam", RADAM, ADAM),
    ("AMSGrad: of torch's fused Adam's", RADAM_AMSGRAD, ADAM_AMSGRAD),
    ("of torch's RAdam, foreach", RADAM, FOREACH),
    ("of torch's RAdam, its default", RADAM, DEFAULT),
)


def comparisons(part: Mapping[str, Any]) -> str:
    """Radam's time as a share of others', and the floor as a share of its own: medians of ratios within a round."""
    lines = ["| | threads | " + " | ".join(title for title, _, _ in COMPARISONS) + " | the floor, of radam's |"]
    lines.append("|---|--:" + "|--:" * (len(COMPARISONS) + 1) + "|")
    for (name, threads), known in _timings(part).items():
        cells = [f"{steps.ratios(known[own], known[other])[1]:.2f}" for _, own, other in COMPARISONS]
        cells.append(f"{steps.ratios(known[FLOOR], known[RADAM])[1]:.0%}")
        lines.append(f"| {name} | {threads} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def results(document: Mapping[str, Any]) -> str:
    """All tables."""
    parts = ["# What was measured\n\n`tox -e bench` makes these tables and the pictures.\n"]
    if "steps" in document:
        part = document["steps"]
        parts.append(f"## Steps\n\n{_machine(part)}. The time of radam's adaptive step:\n\n{comparisons(part)}")
        for threads in sorted({each["threads"] for each in part["found"]}):
            timings = [Timing(**each) for each in part["found"] if each["threads"] == threads]
            parts.append(f"In times of {FOREACH}, median and quartiles over the rounds:\n\n{steps.markdown(timings)}")
    if "memory" in document:
        part = document["memory"]
        peaks = [memory.Peak(**each) for each in part["found"]["peaks"]]
        parts.append(
            f"## Memory\n\nThe most that an adaptive step on {part['found']['set']} has allocated at a time, beside "
            f"parameters, gradients and state ({_machine(part)}):\n\n{memory.markdown(peaks)}"
        )
    if "suite" in document:
        parts.append(_suite(document["suite"]))
    if "scale" in document:
        part = document["scale"]
        curves = [scale.Curve(**each) for each in part["found"]]
        parts.append(f"## Scale\n\n{_machine(part)}, one thread.\n\n{scale.markdown(curves)}")
    return "\n".join(parts)


def _suite(part: Mapping[str, Any]) -> str:
    found = part["found"]
    lines = [
        f"## The suite\n\n{_machine(part)}, one thread.\n",
        "Compared (tensor, step) pairs a second, with Hypothesis: in lock-step parameter, both moments, gradient and "
        "count, each within its own bound; plainly the parameter, by `assert_allclose` beside a free-running oracle.\n",
        "| tensors | in lock-step | plainly | times as many |\n|--:|--:|--:|--:|",
        *(
            f"| {pairs['tensors']} | {pairs['in lock-step']:,.0f} | {pairs['plainly']:,.0f} | {pairs['ratio']:.2f} |"
            for pairs in found["pairs a second"]
        ),
        "",
        "`pytest tests/subject`: "
        + ", ".join(
            f"{seconds:.0f} s by {number} process(es)" for number, seconds in found["seconds of pytest"].items()
        )
        + ".\n",
        "| | most memory, the interpreter and libraries included |\n|---|--:|",
        *(f"| {name} | {size / 2**20:.0f} MiB |" for name, size in found["bytes"].items()),
        "",
        "| wrong RAdam | seconds until `radam-audit` finds it |\n|---|--:|",
        *(f"| {name} | {seconds:.2f} |" for name, seconds in found["seconds to find"].items()),
        "",
        "The slowest checks, of radam's RAdam with few examples:\n",
        "| check | settings | seconds |\n|---|--:|--:|",
        *(f"| {each['check']} | {each['settings']} | {each['seconds']:.1f} |" for each in found["checks"][:15]),
    ]
    total = sum(each["seconds"] for each in found["checks"])
    return "\n".join(lines) + f"\n| all {len(found['checks'])} | | {total:.0f} |\n"


def readme_table(part: Mapping[str, Any], peaks: Mapping[str, Any] | None) -> str:
    """The table of the README."""
    text = (
        f"The time of an adaptive step, in times of others, as medians of ratios within one run ({_machine(part)}):\n\n"
        f"{comparisons(part)}\n"
    )
    if peaks is not None:
        own = next(memory.Peak(**each) for each in peaks["found"]["peaks"] if each["candidate"] == RADAM)
        text += (
            f"Beside parameters, gradients and state a step on {peaks['found']['set']} allocates {own.bytes:,} bytes.\n"
        )
    return text


def plot_of_steps(part: Mapping[str, Any]) -> Any:
    """Bars: the time of a step in times of torch's fused Adam, on one thread."""
    from matplotlib.figure import Figure

    columns = {name: known for (name, threads), known in _timings(part).items() if threads == 1}
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panel = figure.subplots()
    width = 0.8 / len(PICTURE)
    for i, candidate in enumerate(PICTURE):
        places = [j for j, known in enumerate(columns.values()) if candidate in known]
        heights = [steps.ratios(known[candidate], known[ADAM])[1] for known in columns.values() if candidate in known]
        panel.bar([place + (i - len(PICTURE) / 2 + 0.5) * width for place in places], heights, width, label=candidate)
    panel.set_yscale("log")
    panel.set_xticks(range(len(columns)), list(columns))
    panel.axhline(1.0, color="black", linewidth=0.5)
    panel.set_ylabel("time of a step, in times of\ntorch's fused Adam (one thread)")
    panel.legend(frameon=False, ncols=4, fontsize="small", loc="upper left")
    # The floor of tiny tensors is far below what any call costs.
    panel.set_ylim(bottom=0.1, top=panel.get_ylim()[1] * 4)
    return figure
