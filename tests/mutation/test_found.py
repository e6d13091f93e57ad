"""Wrong optimizers, of each kind of base, are found; all of the catalogue are by `tox -e mutation`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SAMPLE = (
    "size_times_one_plus_1e10",
    "adam_amsgrad_not_kept",
    "torch_radam_eps_of_defaults",
)


def test_each_is_found(tmp_path: Path) -> None:
    verdicts, scores = tmp_path / "verdicts.json", tmp_path / "scores.md"
    result = subprocess.run(
        [sys.executable, "-m", "tests.mutation", *SAMPLE, "--json", str(verdicts), "--markdown", str(scores)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    said = result.stdout + result.stderr
    assert f"{len(SAMPLE)} of {len(SAMPLE)} wrong optimizers found" in result.stdout, said
    assert result.returncode == 0, said
    found = {one["name"]: one for one in json.loads(verdicts.read_text())["verdicts"]}
    assert set(found) == set(SAMPLE)
    # Those with RAdam's constructor by both judges, the others by radam.audit.
    assert all(one["audit"] for one in found.values())
    assert [name for name, one in found.items() if one["suite"]] == [
        name for name, one in found.items() if one["base"] == "right_loop"
    ]
    assert f"| **all** | {len(SAMPLE)} | {len(SAMPLE)} |" in scores.read_text()
