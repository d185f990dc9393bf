"""Tables of the documents, for tests that hold them to the code."""

from __future__ import annotations

from pathlib import Path


def table_under(document: Path, heading: str) -> list[list[str]]:
    """Return the rows of the first table below a heading, without that table's head: the cells, stripped."""
    after = document.read_text(encoding="utf-8").split(f"{heading}\n", 1)[1]
    lines = after.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows
