"""What node and controller share of writing metrics for Prometheus: histograms from reports, and the text itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from twinsite.latency import BUCKETS_SECONDS
from twinsite.messages import Latency

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""What every Prometheus reads."""


class _Once:
    """Gives the registry families that are made already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Return them."""
        yield from self._families


def exposition(families: Iterable[Metric], registry: CollectorRegistry | None = None) -> bytes:
    """Return the text of these families, after that of a registry if there is one."""
    once = CollectorRegistry(auto_describe=False)
    once.register(_Once(list(families)))
    return (generate_latest(registry) if registry is not None else b"") + generate_latest(once)


def add_latency(family: HistogramMetricFamily, labels: list[str], latency: Latency) -> None:
    """Add a histogram that a worker reported. One with other buckets, of another release, is left out."""
    if len(latency.counts) != len(BUCKETS_SECONDS) + 1:
        return
    ends = [*(str(seconds) for seconds in BUCKETS_SECONDS), "+Inf"]
    family.add_metric(labels, list(zip(ends, accumulate(latency.counts), strict=True)), latency.seconds)
