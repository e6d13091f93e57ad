"""What the judges found, as tables."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from tests.mutation.judging import Found, Verdict
from tests.mutation.mutant import origin

Judge = Callable[[Verdict], Found | None]
JUDGES: dict[str, Judge] = {
    "audit": lambda verdict: verdict.audit,
    "suite": lambda verdict: verdict.suite,
    "own": lambda verdict: verdict.own,
}
COMMANDS = {"audit": "radam-audit", "suite": "pytest --subject", "own": "pytest"}


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of some values that is not exceeded by a share of them."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _share(verdicts: Iterable[Verdict], judge: str) -> str:
    asked = [verdict for verdict in verdicts if judge in verdict.asked]
    return f"{sum(JUDGES[judge](verdict) is not None for verdict in asked)} of {len(asked)}" if asked else ""


def scores(verdicts: Sequence[Verdict]) -> str:
    """Markdown: how many wrong optimizers each judge found, by what is mutated and by part, and in what time."""
    wrong = [verdict for verdict in verdicts if verdict.part != "right"]
    lines = [f"| wrong | mutants | found | {' | '.join(f'by `{command}`' for command in COMMANDS.values())} |"]
    lines.append("|---" + "|--:" * (2 + len(COMMANDS)) + "|")

    def line(title: str, members: Sequence[Verdict]) -> str:
        found = sum(verdict.found for verdict in members)
        shares = " | ".join(_share(members, judge) for judge in JUDGES)
        return f"| {title} | {len(members)} | {found} | {shares} |"

    bases = list(dict.fromkeys(origin(verdict.base) for verdict in wrong))
    lines += [line(f"`{base}`", [verdict for verdict in wrong if origin(verdict.base) == base]) for base in bases]
    parts = list(dict.fromkeys(verdict.part for verdict in wrong))
    lines += [line(part, [verdict for verdict in wrong if verdict.part == part]) for part in parts]
    lines += [line("**all**", wrong), ""]
    lines += ["| seconds until found | median | 95 of 100 | most |", "|---|--:|--:|--:|"]
    each = [{judge: found.seconds for judge, look in JUDGES.items() if (found := look(one))} for one in wrong]
    rows = {f"`{COMMANDS[judge]}`": [seconds[judge] for seconds in each if judge in seconds] for judge in JUDGES}
    rows["the soonest"] = [min(seconds.values()) for seconds in each if seconds]
    for title, seconds in rows.items():
        if seconds:
            shown = (statistics.median(seconds), quantile(seconds, 0.95), max(seconds))
            lines.append(f"| {title} | {' | '.join(f'{value:.1f}' for value in shown)} |")
    right = [verdict for verdict in verdicts if verdict.part == "right"]
    if right:
        accused = [verdict.name for verdict in right if verdict.found]
        lines += ["", f"Right optimizers: {len(right)}, of which accused: {', '.join(accused) or 'none'}."]
    return "\n".join(lines) + "\n"


def killers(verdicts: Sequence[Verdict]) -> str:
    """Markdown: what each check finds: at first, in all, and alone; and which checks never are the only one."""
    rows = {verdict.name: verdict.row for verdict in verdicts if verdict.row and verdict.part != "right"}
    finders = {name: [check for check, said in row.items() if said == "failed"] for name, row in rows.items()}
    every = list(dict.fromkeys(check for row in rows.values() for check in row))
    total = Counter(check for checks in finders.values() for check in checks)
    alone: dict[str, list[str]] = {}
    for name, checks in finders.items():
        if len(checks) == 1:
            alone.setdefault(checks[0], []).append(name)
    first = Counter(
        verdict.audit.by.partition("[")[0] for verdict in verdicts if verdict.audit and verdict.name in rows
    )
    lines = ["| check | first to find | finds | finds alone | for example |", "|---|--:|--:|--:|---|"]
    for check in every:
        own = alone.get(check, [])
        lines.append(f"| `{check}` | {first[check]} | {total[check]} | {len(own)} | {', '.join(own[:2])} |")
    never = [check for check in every if check not in alone]
    lines += ["", f"Of {len(rows)} mutants. Never the only one to find a mutant: {', '.join(never) or 'none'}."]
    return "\n".join(lines) + "\n"


def matrix(verdicts: Sequence[Verdict]) -> str:
    """Tabs: a line for each mutant, a column for each check: 1 where it failed, 0 where it passed, else empty."""
    rows = [verdict for verdict in verdicts if verdict.row]
    every = list(dict.fromkeys(check for verdict in rows for check in verdict.row))
    sign = {"failed": "1", "passed": "0", "xfail": "0"}
    lines = ["\t".join(["mutant", "base", "part", *every])]
    for verdict in sorted(rows, key=lambda verdict: verdict.name):
        said = (sign.get(verdict.row.get(check, ""), "") for check in every)
        lines.append("\t".join([verdict.name, verdict.base, verdict.part, *said]))
    return "\n".join(lines) + "\n"
