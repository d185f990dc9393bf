"""The result for people (a table) and for programs (a JSON document)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.options import Options
from bench.results import FORMAT, CaseResult, Comparison, Limit, Series

RESULTS = Path(__file__).parent / "results"
LATEST = "latest"


def show(results: Sequence[CaseResult], facts: Mapping[str, Any], peers: Mapping[str, str | None], to: Console) -> None:
    """Print the table, what could not be measured, and the facts that it depends on."""
    table = Table(title="Side by side: medians, and the lowest and highest of the rounds")
    table.add_column("ours ÷ peer", no_wrap=True)
    for heading in ("ours", "peer", "ratio", "goal", "CPU s/GiB\nours, peer"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        table.add_row(Text(result.title, style="bold"))
        for comparison in result.comparisons:
            table.add_row(
                Text(f"  {comparison.title}"),
                _side(comparison.ours),
                _side(comparison.peer),
                _ratio(comparison),
                _goal(comparison),
                f"{_cpu(comparison.ours)}\n{_cpu(comparison.peer)}",
            )
        for limit in result.limits:
            table.add_row(
                Text(f"  {limit.title}"), _side(limit.series), Text("-"), "-", _limit(limit), _cpu(limit.series)
            )
        table.add_section()
    to.print(table)
    for result in results:
        for problem in result.problems:
            to.print(Text(f"NOT MEASURED  {result.title}: {problem}", style="bold red"))
    to.print(Text("Machine: " + ", ".join(f"{key} {value}" for key, value in facts.items())))
    to.print(Text("Peers: " + ", ".join(f"{name}: {version or 'NOT INSTALLED'}" for name, version in peers.items())))


def write_json(
    results: Sequence[CaseResult], facts: Mapping[str, Any], peers: Mapping[str, str | None], options: Options
) -> list[Path]:
    """Write the results as the latest, and under the name to save them as; return the paths."""
    document = {
        "format": FORMAT,
        "options": {
            "cases": list(options.cases),
            "size_bytes": options.size_bytes,
            "seconds": options.seconds,
            "rounds": options.rounds,
            "seed": options.seed,
        },
        "machine": dict(facts),
        "peers": dict(peers),
        "cases": [result.to_json() for result in results],
    }
    RESULTS.mkdir(exist_ok=True)
    paths = [RESULTS / f"{name}.json" for name in (LATEST, options.save) if name is not None]
    for path in paths:
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.new")
        unfinished.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")
        unfinished.replace(path)
    return paths


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _side(series: Series) -> Text:
    spread = series.spread
    if spread is None:
        return Text("not measured", style="red")
    return Text(f"{_number(spread.median)} {series.unit}\n{_number(spread.minimum)}-{_number(spread.maximum)}")


def _ratio(comparison: Comparison) -> str:
    ratio = comparison.ratio
    if ratio is None:
        return "-"
    return f"{ratio.median:.2f}\n{ratio.minimum:.2f}-{ratio.maximum:.2f}"


def _goal(comparison: Comparison) -> Text:
    if comparison.goal is None:
        return Text("")
    return _verdict(f"{'≤' if comparison.goal_is_most else '≥'} {comparison.goal:g}", comparison.is_met)


def _limit(limit: Limit) -> Text:
    if limit.most is None:
        return Text("")
    return _verdict(f"≤ {limit.most:g} {limit.series.unit}", limit.is_met)


def _verdict(text: str, is_met: bool | None) -> Text:
    if is_met is None:
        return Text(f"{text}\nunknown", style="red")
    return Text(f"{text}\n{'met' if is_met else 'missed'}", style="green" if is_met else "yellow")


def _cpu(series: Series) -> str:
    seconds = series.cpu_seconds_per_gib
    return "-" if seconds is None else f"{seconds:.2f}"
