"""What the generated cases have compared, over the whole session."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from radam.audit.lockstep import Record


@dataclass
class Tally:
    """Counts of configurations, steps and values, and the worst error in units of its bound."""

    cases: int = 0
    steps: int = 0
    judged: int = 0
    unjudged: int = 0
    worst: float = 0.0

    def add(self, record: Record) -> None:
        """Count one configuration."""
        self.merge(
            {
                "cases": 1,
                "steps": record.steps,
                "judged": record.judged,
                "unjudged": record.unjudged,
                "worst": record.worst,
            }
        )

    def merge(self, other: dict[str, float]) -> None:
        """Count what another process has counted."""
        self.cases += int(other["cases"])
        self.steps += int(other["steps"])
        self.judged += int(other["judged"])
        self.unjudged += int(other["unjudged"])
        self.worst = max(self.worst, other["worst"])

    def as_dict(self) -> dict[str, float]:
        """The counts, for another process."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.cases:,} generated configurations, {self.steps:,} steps, {self.judged:,} values compared "
            f"({self.unjudged:,} have no bound); worst error {self.worst:.2f} of its bound"
        )


TALLY = Tally()
