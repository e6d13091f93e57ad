"""The parts of README.md that commands write."""

from __future__ import annotations

from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def written_between(path: Path, name: str, text: str) -> None:
    """Put a text between the marks of a name.

    Raises:
        ValueError: the file has no such marks.
    """
    first, last = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    before, found, rest = path.read_text().partition(first)
    _, end, after = rest.partition(last)
    if not (found and end):
        raise ValueError(f"{path} must have the lines {first.strip()} and {last.strip()}")
    path.write_text(before + first + text + last + after)
