"""Histograms of how long things take: one list of buckets for all, and a recorder that a hot path can afford."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise

from twinsite.messages import Latency

BUCKETS_SECONDS = (
    *(0.0001, 0.00025, 0.0005),
    *(0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0),
    *(10.0, 30.0),
)
"""Upper ends of the buckets, each included: from a page cache beside the host to a hold."""

assert all(shorter < longer for shorter, longer in pairwise(BUCKETS_SECONDS))


class LatencyRecorder:
    """Counts durations. The cost is that of one search among the buckets, however many things took as long."""

    __slots__ = ("_counts", "_seconds")

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS_SECONDS) + 1)
        self._seconds = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Record that `count` things took `seconds` each."""
        self._counts[bisect_left(BUCKETS_SECONDS, seconds)] += count
        self._seconds += seconds * count

    def latency(self) -> Latency:
        """Return what was recorded."""
        return Latency(list(self._counts), self._seconds)
