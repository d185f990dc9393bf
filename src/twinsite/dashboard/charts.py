"""Sparklines of what a group did in the last hour."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from twinsite.client import AsyncClient
from twinsite.client.models import Sample
from twinsite.dashboard.parts import Markup, box, text
from twinsite.dashboard.sparkline import sparkline
from twinsite.dashboard.words import amount, latency

HISTORY_SECONDS = 3600
SLOTS_MIN = 30
"""A chart of the first minutes does not stretch a single sample over all its width."""
REFRESH_SECONDS = 10.0
"""The controller has a new sample no sooner."""


@dataclass(frozen=True, slots=True)
class _Figure:
    title: str
    value: Callable[[Sample], float | None]
    written: Callable[[float | None], str]


def _rate(value: float | None) -> str:
    return f"{amount(value)}/s"


_FIGURES = (
    _Figure("Writes", lambda sample: sample.write_bytes_per_second, _rate),
    _Figure("Reads", lambda sample: sample.read_bytes_per_second, _rate),
    _Figure("Acknowledged after", lambda sample: sample.ack_seconds, latency),
    _Figure("Not yet at the DR site", lambda sample: sample.dirty_bytes, amount),
)


class _Chart:
    def __init__(self, figure: _Figure) -> None:
        self._figure = figure
        with box("figure", "chart"):
            text("figcaption", figure.title)
            self._now = text("p", "", "value")
            self._picture = Markup()
            self._range = text("p", "", "hint")

    def update(self, samples: list[Sample | None]) -> None:
        values = [None if sample is None else self._figure.value(sample) for sample in samples]
        known = [value for value in values if value is not None]
        written = self._figure.written
        self._now.text = written(values[-1]) if any(samples) else "No samples yet"
        self._range.text = f"Greatest {written(max(known))}" if known else ""
        label = f"{self._figure.title}: now {self._now.text}. {self._range.text}"
        self._picture.update(sparkline(values, label))


def in_slots(samples: list[Sample], interval_seconds: int) -> list[Sample | None]:
    """Return the samples at their places in time, oldest first; None where there is none, so that a gap is seen."""
    if not samples:
        return []
    end = samples[-1].at
    places = {round((end - sample.at).total_seconds() / interval_seconds): sample for sample in samples}
    count = min(max(max(places) + 1, SLOTS_MIN), HISTORY_SECONDS // interval_seconds)
    return [places.get(place) for place in reversed(range(count))]


class Charts:
    """All of them, for one group."""

    def __init__(self) -> None:
        """Make them."""
        with box("div", "charts"):
            self._charts = [_Chart(figure) for figure in _FIGURES]
        self._read_at = -REFRESH_SECONDS

    async def refresh(self, client: AsyncClient, group_id: str) -> None:
        """Show the hour that ends now, unless that was done a moment ago. Raises as the client."""
        if time.monotonic() - self._read_at < REFRESH_SECONDS:
            return
        self._read_at = time.monotonic()
        history = await client.group_history(group_id, HISTORY_SECONDS)
        slots = in_slots(history.samples, history.interval_seconds)
        for chart in self._charts:
            chart.update(slots)
