"""The result as a Markdown document, with the plots beside it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from urllib.parse import quote

from bench.documents import LOAD, Document
from bench.plots import GOALS
from bench.results import CaseResult, Series, Spread
from bench.words import (
    MET,
    MISSED,
    NOT_MEASURED,
    UNKNOWN,
    between,
    costs,
    fact,
    number,
    one_line,
    option,
    ratio_between,
    rows,
)

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#$~&])")


def write_markdown(document: Document, name: str, plots: Collection[str], problems: Sequence[str] = ()) -> str:
    """Return the report that is saved as `name`.

    `plots` are the cases of which there is a plot, and `GOALS`; `problems` says what of the report itself is missing.
    """
    parts = [f"# Bench: {escape(name)}", _summary(document)]
    if GOALS in plots:
        parts.append(_image(name, GOALS, "Each ratio relative to its goal"))
    if document.differences:
        parts += ["## Not alike", "Absolute values of these runs do not compare.", _list(document.differences)]
    parts += ["## What could not be measured", _list([*document.problems, *problems]) or "Everything was measured."]
    parts += ["## Cases", "Medians, with the lowest and the highest of the rounds in brackets."]
    for case in document.cases:
        parts += [f"### {escape(case.title)}", _comparisons(case)]
        if case.name in plots:
            parts.append(_image(name, case.name, f"{case.title}: medians and spread of each side"))
    parts += ["## What it costs", *_costs(document)]
    parts += ["## How it was measured", *_conditions(document)]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Return one line in which nothing is markup."""
    return _SPECIAL.sub(r"\\\1", one_line(text))


def plot_name(name: str, plot: str) -> str:
    """Return the file name of a plot of the report `name`."""
    return f"{name}-{plot}.svg"


def _summary(document: Document) -> str:
    verdicts = Counter(row.verdict for case in document.cases for row in rows(case) if row.goal)
    if not verdicts:
        return "No goal was set for what was measured."
    counted = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in (MET, MISSED, UNKNOWN))
    return f"Goals: {verdicts.total()}, of which {counted}."


def _comparisons(case: CaseResult) -> str:
    lines = [
        (
            row.title,
            _side(row.ours),
            "-" if row.peer is None else _side(row.peer),
            "-" if row.ratio is None else f"{row.ratio.median:.2f} ({ratio_between(row.ratio)})",
            row.goal,
            row.verdict,
        )
        for row in rows(case)
    ]
    if not lines:
        return "Nothing was measured."
    return _table("lrrrrl", ("ours ÷ peer", "ours", "peer", "ratio", "goal", "result"), lines)


def _costs(document: Document) -> list[str]:
    lines = [
        (
            case.title,
            side.label,
            *(_spread(spread) for spread in (side.latency_p50, side.latency_p99, side.memory_peak)),
            *("-" if value is None else number(value) for value in (side.cpu_per_100k, side.cpu_per_gib)),
        )
        for case in document.cases
        for side in costs(case)
    ]
    if not lines:
        return ["No latency, memory or processor time was measured."]
    head = ("case", "side", "p50, µs", "p99, µs", "peak memory, MiB", "CPU s/100,000 operations", "CPU s/GiB")
    return [
        "Latencies are of whole requests. Memory and CPU are of all servers of a side together.",
        _table("llrrrrr", head, lines),
    ]


def _conditions(document: Document) -> list[str]:
    """Return what all runs share, then what each has of its own: with one run, that is its load and its options."""
    machine = [(key, fact(value)) for key, value in document.machine.items() if key != LOAD]
    peers = [(name, version or "NOT INSTALLED") for name, version in document.peers.items()]
    parts = ["### Machine", _table("ll", ("fact", "value"), machine)]
    parts += ["### Peers", _table("ll", ("program", "version"), peers)]
    for run in document.runs:
        options = [option(key, value) for key, value in run.options.items() if key != "cases"]
        options += [("load at start", fact(run.machine[LOAD]))] if LOAD in run.machine else []
        options.append(("cases", ", ".join(run.cases)))
        title = "### Options" if len(document.runs) == 1 else f"### Run {escape(run.name)}"
        parts += [title, _table("ll", ("option", "value"), options)]
    return parts


def _side(series: Series) -> str:
    spread = series.spread
    return NOT_MEASURED if spread is None else f"{number(spread.median)} {series.unit} ({between(spread)})"


def _spread(spread: Spread | None) -> str:
    return "-" if spread is None else f"{number(spread.median)} ({between(spread)})"


def _table(alignment: str, head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table; `alignment` has an l or an r for each column. All cells are escaped."""
    rule = ["---:" if side == "r" else "---" for side in alignment]
    cells = [[escape(cell) for cell in line] for line in (head, *lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (cells[0], rule, *cells[1:]))


def _list(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {escape(sentence)}" for sentence in sentences)


def _image(name: str, plot: str, description: str) -> str:
    return f"![{escape(description)}]({quote(plot_name(name, plot))})"
