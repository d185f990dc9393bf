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

    def update(self, samples: list[Sample]) -> None:
        values = [self._figure.value(sample) for sample in samples]
        known = [value for value in values if value is not None]
        written = self._figure.written
        self._now.text = written(values[-1]) if values else "No samples yet"
        self._range.text = f"Greatest {written(max(known))}" if known else ""
        label = f"{self._figure.title}: now {self._now.text}. {self._range.text}"
        self._picture.update(sparkline(values, label))


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
        for chart in self._charts:
            chart.update(history.samples)
