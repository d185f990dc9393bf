"""The result for people in a terminal: what stands against what, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.documents import Document
from bench.results import Series, Spread
from bench.words import (
    MET,
    MISSED,
    NOT_MEASURED,
    Row,
    between,
    costs,
    facts,
    number,
    option,
    ratio_between,
    rows,
)


def show(document: Document, to: Console) -> None:
    """Print both tables, what could not be measured, and the facts that it all depends on."""
    to.print(_comparisons(document))
    to.print(_costs(document))
    for problem in document.problems:
        to.print(Text(f"NOT MEASURED  {problem}", style="bold red"))
    for difference in document.differences:
        to.print(Text(f"NOT ALIKE  {difference}", style="bold red"))
    for run in document.runs:
        if len(document.runs) > 1:
            to.print(Text(f"{run.name}: {', '.join(run.cases)}", style="bold"))
        options = (option(key, value) for key, value in run.options.items() if key != "cases")
        to.print(Text("Options: " + ", ".join(f"{key} {value}" for key, value in options)))
        to.print(Text("Machine: " + facts(run.machine)))
        versions = {f"{name}:": version or "NOT INSTALLED" for name, version in run.peers.items()}
        to.print(Text("Peers: " + facts(versions)))


def _comparisons(document: Document) -> Table:
    table = _table(
        "Side by side: medians, and the lowest and highest of the rounds",
        "ours ÷ peer",
        ("ours", "peer", "ratio", "goal"),
    )
    for case in document.cases:
        table.add_row(Text(case.title, style="bold"))
        for row in rows(case):
            table.add_row(
                Text(f"  {row.title}"),
                _side(row.ours),
                Text("-") if row.peer is None else _side(row.peer),
                "-" if row.ratio is None else f"{row.ratio.median:.2f}\n{ratio_between(row.ratio)}",
                _goal(row),
            )
        table.add_section()
    return table


def _costs(document: Document) -> Table:
    table = _table(
        "What it costs: medians; latency of whole requests, and what all servers of a side took together",
        "side",
        ("p50 µs", "p99 µs", "peak memory\nMiB", "CPU s/100,000\noperations", "CPU s/GiB"),
    )
    for case in document.cases:
        sides = costs(case)
        if not sides:
            continue
        table.add_row(Text(case.title, style="bold"))
        for side in sides:
            table.add_row(
                Text(f"  {side.label}"),
                *(_median(spread) for spread in (side.latency_p50, side.latency_p99, side.memory_peak)),
                *(_number(value) for value in (side.cpu_per_100k, side.cpu_per_gib)),
            )
        table.add_section()
    return table


def _table(title: str, first: str, headings: Iterable[str]) -> Table:
    """Return a table whose first column gives way when the terminal is narrow."""
    table = Table(title=title)
    table.add_column(first)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _side(series: Series) -> Text:
    spread = series.spread
    if spread is None:
        return Text(NOT_MEASURED, style="red")
    return Text(f"{number(spread.median)} {series.unit}\n{between(spread)}")


def _goal(row: Row) -> Text:
    style = {"": "", MET: "green", MISSED: "yellow"}.get(row.verdict, "red")
    return Text(f"{row.goal}\n{row.verdict}" if row.goal else "", style=style)


def _median(spread: Spread | None) -> str:
    return "-" if spread is None else number(spread.median)


def _number(value: float | None) -> str:
    return "-" if value is None else number(value)
