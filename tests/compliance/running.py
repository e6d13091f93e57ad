"""Auditing many optimizers, each by radam-audit in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from importlib.metadata import packages_distributions, version
from pathlib import Path

from radam.audit.checks import groups
from radam.audit.report import Report, by_check, telling

ROOT = Path(__file__).parents[2]
SCHEMA = 1
ORACLE = "every_step"
"""A check that is run wherever there is an oracle."""


@dataclass(frozen=True)
class Failure:
    """What failed of one check, shown by its shortest script."""

    check: str
    settings: list[str]
    """As "float32, foreach"; empty strings where the check has one setting."""
    reason: str
    reproduction: str


@dataclass(frozen=True)
class Result:
    """What the audit made of one optimizer."""

    package: str
    """By which its module is imported."""
    name: str
    distribution: str = ""
    """The package as it is installed, with its version."""
    versions: dict[str, str] = field(default_factory=dict)
    passed: list[str] = field(default_factory=list)
    """Checks."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Why, by the check."""
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0
    refused: str = ""
    """Why it could not be audited."""

    @property
    def optimizer(self) -> str:
        """The name of its class."""
        return self.name.partition(":")[2]

    @property
    def has_oracle(self) -> bool:
        """Whether its numbers were compared with an oracle's."""
        return ORACLE in self.passed or any(failure.check == ORACLE for failure in self.failures)

    def verdicts(self) -> dict[str, str]:
        """What came of each check; nothing for one that could not be audited."""
        return {
            **dict.fromkeys(self.passed, "passed"),
            **dict.fromkeys(self.skipped, "skipped"),
            **{failure.check: "failed" for failure in self.failures},
        }


def by_group(result: Result) -> dict[str, dict[str, list[str]]]:
    """For each group of checks, by its title, the names of those that passed, failed and were skipped."""
    verdicts = result.verdicts()
    return {
        group.title: {
            status: [check.name for check in group.checks if verdicts.get(check.name) == status]
            for status in ("passed", "failed", "skipped")
        }
        for group in groups()
    }


def distribution(package: str) -> str:
    """The name and version of what is installed for a package; "" where nothing is.

    Example:
        >>> distribution("numpy").split()[0]
        'numpy'
    """
    return next((f"{name} {version(name)}" for name in packages_distributions().get(package, [])), "")


def of_report(package: str, report: Report) -> Result:
    """What a report of radam-audit tells."""
    passed, skipped, failures = [], {}, []
    for check, own in by_check(report.records).items():
        bad = [entry for entry in own if entry.status in ("failed", "xpassed")]
        if bad:
            shown = telling(bad)
            settings = [", ".join(filter(None, (entry.dtype, entry.implementation))) for entry in bad]
            failures.append(Failure(check, settings, shown.reason, shown.reproduction or ""))
        elif any(entry.status != "skipped" for entry in own):
            passed.append(check)
        else:
            skipped[check] = own[0].reason
    seconds = sum(entry.seconds for entry in report.records)
    return Result(
        package,
        report.subject,
        distribution(package),
        report.versions,
        passed,
        skipped,
        failures,
        round(seconds, 1),
    )


def audited(package: str, name: str, arguments: Sequence[str], limit: float, reports: Path | None = None) -> Result:
    """Audit an optimizer in a new process.

    Args:
        package: of the optimizer.
        name: MODULE:NAME, as radam-audit takes it.
        arguments: more of radam-audit's.
        limit: seconds after which it is given up.
        reports: a folder for radam-audit's page.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audit.json"
        command = [sys.executable, "-m", "radam.audit.cli", name, "--json", str(path), *arguments]
        if reports is not None:
            command += ["--html", str(reports / page_of(name))]
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)
        except subprocess.TimeoutExpired:
            return Result(package, name, distribution(package), refused=f"took more than {limit:g} s")
        if not path.exists():
            lines = (done.stderr.strip() or f"ended with status {done.returncode}").splitlines()
            reason = lines[-1].partition("error: ")[2] or lines[-1]
            return Result(package, name, distribution(package), refused=reason)
        return of_report(package, Report.from_json(path.read_text(encoding="utf-8")))


def page_of(name: str) -> str:
    """The file name of an optimizer's report.

    Example:
        >>> page_of("timm.optim:RAdamLegacy")
        'timm.optim.RAdamLegacy.html'
    """
    return f"{name.replace(':', '.')}.html"


def audit_all(
    wanted: Iterable[tuple[str, str]], jobs: int, arguments: Sequence[str], limit: float, reports: Path | None = None
) -> Iterator[Result]:
    """Audit optimizers, each given by package and name, some at once; results as they come."""
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(audited, package, name, arguments, limit, reports) for package, name in wanted]
        for future in as_completed(running):
            yield future.result()


def write(path: Path, results: Iterable[Result], max_examples: int) -> None:
    """Write results as JSON, in the order of packages and names, so that a second run writes the same."""
    ordered = sorted(results, key=lambda result: (result.package, result.name))
    document = {"schema": SCHEMA, "max_examples": max_examples, "results": [asdict(result) for result in ordered]}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> list[Result]:
    """Read what :func:`write` wrote.

    Raises:
        ValueError: the file is of another schema.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    if document.get("schema") != SCHEMA:
        raise ValueError(f"{path} should have schema {SCHEMA}, but has {document.get('schema')!r}: make it again")
    return [
        Result(**{**result, "failures": [Failure(**failure) for failure in result["failures"]]})
        for result in document["results"]
    ]


def differences(first: Iterable[Result], second: Iterable[Result]) -> list[str]:
    """Where two runs came to different verdicts on the same optimizers, a line each."""
    others = {result.name: result for result in second}
    lines = []
    for result in first:
        other = others.get(result.name)
        if other is None:
            continue
        if result.refused != other.refused:
            lines.append(f"{result.name}: {result.refused or 'audited'!r}, but then {other.refused or 'audited'!r}")
        was, now = result.verdicts(), other.verdicts()
        lines += [
            f"{result.name} {check}: {was.get(check, 'absent')}, but then {now.get(check, 'absent')}"
            for check in dict.fromkeys([*was, *now])
            if was.get(check) != now.get(check)
        ]
    return lines
