"""What a run of the bench finds: samples, their medians, and ratios of rounds that were measured next to each other."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from twinsite.core.limits import GIB

FORMAT = 1
"""Version of the JSON document; grows when a reader of the old one would misread the new one."""

OPERATIONS = 100_000
"""CPU time is given for so many requests."""
LATENCY_P50, LATENCY_P99, MEMORY_PEAK = "latency_p50_us", "latency_p99_us", "memory_peak_mib"
"""Details of a sample that the reports show: of whole requests; of all servers of a side together."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. `bytes_moved` and `cpu_seconds` are of the servers and nbdcopy, never of the load generator."""

    value: float
    bytes_moved: int = 0
    cpu_seconds: float = 0.0
    details: Mapping[str, float] = field(default_factory=dict)
    operations: int = 0


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and what it lies between."""

    median: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Summarize at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def to_json(self) -> dict[str, float]:
        """Return the JSON form."""
        return {"median": self.median, "min": self.minimum, "max": self.maximum}


@dataclass(slots=True)
class Series:
    """All samples of one contender in one case, in the order of the rounds; None where a round failed."""

    name: str
    label: str
    unit: str
    samples: list[Sample | None] = field(default_factory=list)

    @property
    def good(self) -> list[Sample]:
        """Return the samples of the rounds that worked."""
        return [sample for sample in self.samples if sample is not None]

    @property
    def spread(self) -> Spread | None:
        """Return the median of the values, or None without any."""
        return Spread.of([sample.value for sample in self.good]) if self.good else None

    @property
    def cpu_seconds_per_gib(self) -> float | None:
        """Return CPU seconds for each GiB moved, over all rounds, or None when nothing was counted."""
        moved = sum(sample.bytes_moved for sample in self.good)
        spent = sum(sample.cpu_seconds for sample in self.good)
        return spent * GIB / moved if moved and spent else None

    @property
    def cpu_seconds_per_100k(self) -> float | None:
        """Return CPU seconds for each 100,000 operations, over all rounds, or None when nothing was counted."""
        done = sum(sample.operations for sample in self.good)
        spent = sum(sample.cpu_seconds for sample in self.good)
        return spent * OPERATIONS / done if done and spent else None

    def detail(self, name: str) -> Spread | None:
        """Return the median of one detail over the rounds that have it, or None without any."""
        values = [sample.details[name] for sample in self.good if name in sample.details]
        return Spread.of(values) if values else None

    def of_detail(self, name: str, suffix: str, unit: str) -> Series:
        """Return one detail of every round as a series of its own, with a gap where a round failed or lacks it."""
        samples = [
            None if sample is None or name not in sample.details else Sample(sample.details[name])
            for sample in self.samples
        ]
        return Series(f"{self.name}-{suffix}", f"{self.label}, {suffix}", unit, samples)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        rounds = [
            None
            if sample is None
            else {
                "value": sample.value,
                "bytes_moved": sample.bytes_moved,
                "cpu_seconds": sample.cpu_seconds,
                "operations": sample.operations,
                **sample.details,
            }
            for sample in self.samples
        ]
        return {
            "name": self.name,
            "label": self.label,
            "unit": self.unit,
            **(self.spread.to_json() if self.spread is not None else {"median": None, "min": None, "max": None}),
            "cpu_seconds_per_gib": self.cpu_seconds_per_gib,
            "cpu_seconds_per_100k": self.cpu_seconds_per_100k,
            "rounds": rounds,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """One series over another. `goal` is the least the ratio should be, or the most if `goal_is_most`."""

    title: str
    ours: Series
    peer: Series
    goal: float | None = None
    goal_is_most: bool = False

    @property
    def ratio(self) -> Spread | None:
        """Return the median of the rounds' ratios: the two sides of a round met the same load of the machine."""
        pairs = zip(self.ours.samples, self.peer.samples, strict=True)
        ratios = [
            ours.value / peer.value for ours, peer in pairs if ours is not None and peer is not None and peer.value
        ]
        return Spread.of(ratios) if ratios else None

    @property
    def is_met(self) -> bool | None:
        """Say whether the median reaches the goal; None without a goal or a ratio."""
        ratio = self.ratio
        if ratio is None or self.goal is None:
            return None
        return ratio.median <= self.goal if self.goal_is_most else ratio.median >= self.goal

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        ratio = self.ratio
        return {
            "title": self.title,
            "ours": self.ours.name,
            "peer": self.peer.name,
            "ratio": ratio.to_json() if ratio is not None else None,
            "goal": self.goal,
            "goal_is": "at most" if self.goal_is_most else "at least",
            "is_met": self.is_met,
        }


@dataclass(frozen=True, slots=True)
class Limit:
    """What no round of a series should exceed: a promise is judged by its worst case, in the series' unit."""

    title: str
    series: Series
    most: float | None  # None shows a value for which there is no goal.

    @property
    def is_met(self) -> bool | None:
        """Say whether the highest value stays within the limit; None without a limit or a value."""
        spread = self.series.spread
        return None if spread is None or self.most is None else spread.maximum <= self.most

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "title": self.title,
            "series": self.series.name,
            "unit": self.series.unit,
            "most": self.most,
            "is_met": self.is_met,
        }


@dataclass(slots=True)
class CaseResult:
    """What one case found. `problems` says what could not be measured, and why."""

    name: str
    title: str
    series: list[Series] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "title": self.title,
            "series": [series.to_json() for series in self.series],
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "limits": [limit.to_json() for limit in self.limits],
            "problems": list(self.problems),
        }
