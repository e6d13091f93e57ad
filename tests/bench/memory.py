"""What a step allocates: the most bytes that are allocated at a time, by torch's own account of its allocator."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from tests.bench.candidates import candidates
from tests.bench.sets import Set
from tests.bench.steps import WARM_UP


class Peak(NamedTuple):
    """The most that a step had allocated beside parameters, gradients and state, in bytes a parameter."""

    candidate: str
    share: float
    """Of the bytes of the parameters."""
    bytes: int


def measure(parameters: Set, device: str = "cpu") -> list[Peak]:
    """The peak of an adaptive step of each candidate."""
    result = []
    size = sum(param.numel() * param.element_size() for param in parameters.parameters("meta"))
    for name, build in candidates(parameters, compiled=False).items():
        optimizer = build(parameters.parameters(device))
        for _ in range(WARM_UP):
            optimizer.step()
        most = peak(optimizer.step)
        result.append(Peak(name, most / size, most))
    return result


def peak(step: Any) -> int:
    """The most bytes that are allocated at a time in a call."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        step()
    results: Any = profiler.profiler
    events = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def markdown(peaks: list[Peak]) -> str:
    """A table."""
    lines = ["| | MB | of the parameters |", "|---|--:|--:|"]
    lines += [f"| {peak.candidate} | {peak.bytes / 1e6:.2f} | {peak.share:.2%} |" for peak in peaks]
    return "\n".join(lines) + "\n"


def sanity() -> None:
    """The account sees two temporaries, of which one follows from the other.

    Raises:
        RuntimeError: it does not.
    """
    tensor = torch.ones(10**6)
    seen = peak(lambda: (tensor + 1.0) + 1.0)
    if not 8 * 10**6 <= seen <= 9 * 10**6:
        raise RuntimeError(f"torch's profiler should have seen 8 MB allocated, but saw {seen} bytes")
