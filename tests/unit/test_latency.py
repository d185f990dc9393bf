"""Histograms of latencies."""

from __future__ import annotations

from twinsite.latency import BUCKETS_SECONDS, LatencyRecorder


def test_each_duration_lands_in_the_bucket_that_ends_at_or_after_it() -> None:
    recorder = LatencyRecorder()
    for seconds in BUCKETS_SECONDS:
        recorder.add(seconds)
        recorder.add(seconds * 1.01, 2)
    latency = recorder.latency()
    assert latency.counts == [1, *[3] * (len(BUCKETS_SECONDS) - 1), 2]
    assert abs(latency.seconds - sum(BUCKETS_SECONDS) * 3.02) < 1e-9


def test_what_was_told_does_not_change_later() -> None:
    recorder = LatencyRecorder()
    before = recorder.latency()
    recorder.add(1.0)
    assert sum(before.counts) == 0
    assert sum(recorder.latency().counts) == 1
