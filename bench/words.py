"""What every form of the report says in the same words: rows of comparisons and of costs, numbers, verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from bench.results import LATENCY_P50, LATENCY_P99, MEMORY_PEAK, CaseResult, Series, Spread
from twinsite.core.limits import GIB, KIB, MIB

NOT_MEASURED = "not measured"
MET, MISSED, UNKNOWN = "met", "missed", "unknown"


class Row(NamedTuple):
    """A comparison, or a limit, which has no peer and no ratio. `aim` is the goal, None where there is none."""

    title: str
    ours: Series
    peer: Series | None
    ratio: Spread | None
    aim: float | None
    aim_is_most: bool
    is_met: bool | None

    @property
    def goal(self) -> str:
        """Return the goal, with the unit of a limit; empty without one."""
        if self.aim is None:
            return ""
        unit = f" {self.ours.unit}" if self.peer is None else ""
        return f"{'≤' if self.aim_is_most else '≥'} {self.aim:g}{unit}"

    @property
    def verdict(self) -> str:
        """Return what became of the goal; empty without one."""
        return "" if self.aim is None else {True: MET, False: MISSED, None: UNKNOWN}[self.is_met]

    @property
    def judged(self) -> Spread | None:
        """Return what the goal is for: the ratio, or the values themselves of a limit."""
        return self.ours.spread if self.peer is None else self.ratio


class Costs(NamedTuple):
    """What one side took: latencies in µs, memory in MiB, CPU in seconds; None where it was not measured."""

    label: str
    latency_p50: Spread | None
    latency_p99: Spread | None
    memory_peak: Spread | None
    cpu_per_100k: float | None
    cpu_per_gib: float | None


def rows(result: CaseResult) -> list[Row]:
    """Return the comparisons of a case, then its limits."""
    compared = [
        Row(found.title, found.ours, found.peer, found.ratio, found.goal, found.goal_is_most, found.is_met)
        for found in result.comparisons
    ]
    return compared + [
        Row(limit.title, limit.series, None, None, limit.most, True, limit.is_met) for limit in result.limits
    ]


def costs(result: CaseResult) -> list[Costs]:
    """Return what each side of a case took, of the sides of which anything is known."""
    found = (
        Costs(
            series.label,
            series.detail(LATENCY_P50),
            series.detail(LATENCY_P99),
            series.detail(MEMORY_PEAK),
            series.cpu_seconds_per_100k,
            series.cpu_seconds_per_gib,
        )
        for series in result.series
    )
    return [side for side in found if any(value is not None for value in side[1:])]


def number(value: float) -> str:
    """Return a number with three figures, or whole above 100."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def between(spread: Spread) -> str:
    """Return the lowest and the highest."""
    return f"{number(spread.minimum)}-{number(spread.maximum)}"


def ratio_between(ratio: Spread) -> str:
    """Return the lowest and the highest ratio."""
    return f"{ratio.minimum:.2f}-{ratio.maximum:.2f}"


def size(size_bytes: int) -> str:
    """Return a size in the largest unit that leaves it whole."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size_bytes % unit == 0:
            return f"{size_bytes // unit} {name}"
    return f"{size_bytes} bytes"


def option(key: str, value: Any) -> tuple[str, str]:
    """Return an option of a run as a person writes it: its name and its value."""
    if key == "size_bytes" and isinstance(value, int):
        return "size", size(value)
    return key, fact(value)


def fact(value: Any) -> str:
    """Return a fact of a machine, or an option, in one line."""
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return one_line(str(value))


def facts(of: Mapping[str, Any]) -> str:
    """Return facts in one line."""
    return ", ".join(f"{key} {fact(value)}" for key, value in of.items())


def one_line(text: str) -> str:
    """Return a text with a space for every run of line breaks, spaces and characters that cannot be shown."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())
