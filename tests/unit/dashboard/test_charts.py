"""Samples of a group's history at their places in time."""

from __future__ import annotations

import datetime

from twinsite.client.models import Sample
from twinsite.dashboard.charts import HISTORY_SECONDS, SLOTS_MIN, in_slots

NOON = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
INTERVAL = 10


def sample(seconds_ago: float) -> Sample:
    """A sample; its rate tells which one it is."""
    rates = dict.fromkeys(
        ("write_bytes_per_second", "reads_per_second", "read_bytes_per_second", "sent_bytes_per_second"), 0.0
    )
    return Sample(
        at=NOON - datetime.timedelta(seconds=seconds_ago),
        writes_per_second=seconds_ago,
        ack_seconds=None,
        dirty_bytes=0,
        resync_bytes_left=0,
        holding=False,
        **rates,
    )


def test_a_time_without_samples_is_a_gap() -> None:
    samples = [sample(400), sample(390.4), sample(20), sample(9.7), sample(0)]
    slots = in_slots(samples, INTERVAL)
    assert len(slots) == 41
    assert slots[:2] == samples[:2]
    assert slots[2:38] == [None] * 36
    assert slots[38:] == samples[2:]


def test_the_first_minutes_are_not_stretched_and_an_hour_is_the_most() -> None:
    assert in_slots([], INTERVAL) == []
    few = in_slots([sample(0)], INTERVAL)
    assert few == [None] * (SLOTS_MIN - 1) + [sample(0)]
    many = in_slots([sample(7200), *(sample(10 * place) for place in reversed(range(300)))], INTERVAL)
    assert len(many) == HISTORY_SECONDS // INTERVAL
