"""Where results lie, and how a document, its report and its plots get there."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from bench.documents import Document
from bench.markdown import plot_name, write_markdown
from bench.plots import GOALS, draw

RESULTS = Path(__file__).parent / "results"
LATEST = "latest"


def save_document(document: Document, names: Sequence[str], directory: Path) -> list[Path]:
    """Write the JSON document under each name; return the paths."""
    text = json.dumps(document.to_json(), indent=2, allow_nan=False) + "\n"
    return [_write(directory / f"{name}.json", text) for name in names]


def save_report(
    document: Document, names: Sequence[str], directory: Path, known_cases: Collection[str]
) -> tuple[list[Path], list[str]]:
    """Write the report and its plots under each name; return the paths of the reports, and what could not be drawn.

    Plots that an earlier report of the name had, of `known_cases` that this one has not, are removed.
    """
    plots, problems = {}, []
    try:
        plots = draw(document)
    except ImportError as error:
        problems.append(f"plots were not drawn: {error}; `make bench` installs what they need")
    paths = []
    for name in names:
        for plot in {*known_cases, GOALS} - plots.keys():
            (directory / plot_name(name, plot)).unlink(missing_ok=True)
        for plot, text in plots.items():
            _write(directory / plot_name(name, plot), text)
        text = write_markdown(document, name, plots.keys(), problems)
        paths.append(_write(directory / f"{name}.md", text))
    return paths, problems


def _write(path: Path, text: str) -> Path:
    """Write a file that is whole whenever it can be seen."""
    path.parent.mkdir(exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
