"""What a node and its workers count, for Prometheus. docs/metrics.md explains every name; keep the two together.

A worker has no listener of its own: it tells the node, and the node tells the world.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

import twinsite
from twinsite.exposition import CONTENT_TYPE, add_latency, exposition
from twinsite.messages import Activity, Mode, ObservedWorker, PoolReport, Role, WorkerStatus
from twinsite.node.http import Answer, Page

GROUP_LABELS = ["site", "group"]
VOLUME_LABELS = ["site", "volume"]


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node knows when it is asked."""

    site: str
    pool: PoolReport
    is_pool_readable: bool
    is_controller_answering: bool
    workers: Sequence[ObservedWorker]


def metrics_page(facts: Callable[[], NodeFacts]) -> Page:
    """Return the page /metrics of a node."""

    async def metrics() -> Answer:
        """Everything as it is now."""
        return Answer(HTTPStatus.OK, exposition(node_families(facts())), CONTENT_TYPE)

    return metrics


def node_families(facts: NodeFacts) -> list[Metric]:
    """Return the families of a node."""
    families = [*_of_the_node(facts), *_of_workers(facts)]
    statuses = [
        ([facts.site, worker.id], worker.status)
        for worker in facts.workers
        if worker.alive and worker.status is not None
    ]
    groups = [(labels, status) for labels, status in statuses if status.role is not Role.SOLO]
    families += _counters("twinsite_group", GROUP_LABELS, (*_OF_HOSTS, *_OF_STREAMS), groups)
    volumes = [(labels, status) for labels, status in statuses if status.role is Role.SOLO]
    families += _counters("twinsite_volume", VOLUME_LABELS, _OF_HOSTS, volumes)
    families += _latencies("twinsite_volume", VOLUME_LABELS, _with_activity(volumes))
    primaries = [(labels, status) for labels, status in groups if status.role is Role.PRIMARY]
    families += _states(primaries)
    activities = _with_activity(primaries)
    families += _latencies("twinsite_group", GROUP_LABELS, activities)
    families += _activities(activities)
    return families


def _of_the_node(facts: NodeFacts) -> list[Metric]:
    build = InfoMetricFamily("twinsite_node_build", "The release that the node runs.", labels=["site"])
    build.add_metric([facts.site], {"version": twinsite.__version__})
    families: list[Metric] = [build]
    gauges = (
        ("twinsite_node_pool_size_bytes", "Size of the file system of the site's pool.", facts.pool.total_bytes),
        ("twinsite_node_pool_free_bytes", "What is free of it.", facts.pool.free_bytes),
        (
            "twinsite_node_pool_readable",
            "1 if the pool could be read when it was last looked at.",
            facts.is_pool_readable,
        ),
        (
            "twinsite_node_controller_up",
            "1 if the controller answered the node's last report.",
            facts.is_controller_answering,
        ),
    )
    for name, text, value in gauges:
        gauge = GaugeMetricFamily(name, text, labels=["site"])
        gauge.add_metric([facts.site], float(value))
        families.append(gauge)
    return families


def _of_workers(facts: NodeFacts) -> list[Metric]:
    up = GaugeMetricFamily(
        "twinsite_worker_up",
        "1 if the worker's process runs. The worker is a group's, or a volume's outside of any group (role solo).",
        labels=["site", "worker", "role"],
    )
    for worker in facts.workers:
        role = worker.status.role.value if worker.status is not None else ""
        up.add_metric([facts.site, worker.id, role], float(worker.alive))
    return [up]


Statuses = list[tuple[list[str], WorkerStatus]]
Activities = list[tuple[list[str], Activity]]
Counter = tuple[str, str, Callable[[WorkerStatus], int]]

_OF_HOSTS: tuple[Counter, ...] = (
    ("writes", "Writes of hosts.", lambda s: s.counters.writes),
    ("written_bytes", "Bytes that hosts wrote.", lambda s: s.counters.write_bytes),
    ("reads", "Reads of hosts.", lambda s: s.counters.reads),
    ("read_bytes", "Bytes that hosts read.", lambda s: s.counters.read_bytes),
    ("flushes", "Flushes of hosts.", lambda s: s.counters.flushes),
)
_OF_STREAMS: tuple[Counter, ...] = (
    (
        "stream_sent_bytes",
        "Bytes sent to the other site, without heartbeats.",
        lambda s: s.counters.stream_bytes_sent,
    ),
    (
        "stream_received_bytes",
        "Bytes received from the other site, without heartbeats.",
        lambda s: s.counters.stream_bytes_received,
    ),
    ("stream_connects", "How often the stream came up.", lambda s: s.counters.stream_connects),
)


def _counters(prefix: str, names: list[str], counters: Sequence[Counter], statuses: Statuses) -> list[Metric]:
    families: list[Metric] = []
    for name, text, count in counters:
        explained = f"{text} Counted since the worker took its role."
        family = CounterMetricFamily(f"{prefix}_{name}", explained, labels=names)
        for labels, status in statuses:
            family.add_metric(labels, count(status))
        families.append(family)
    return families


def _with_activity(statuses: Statuses) -> Activities:
    return [(labels, status.activity) for labels, status in statuses if status.activity is not None]


def _latencies(prefix: str, names: list[str], activities: Activities) -> list[Metric]:
    writes = HistogramMetricFamily(
        f"{prefix}_write_duration_seconds",
        "From the arrival of a host's write to its acknowledgement. Those with FUA are among the flushes.",
        labels=names,
    )
    flushes = HistogramMetricFamily(
        f"{prefix}_flush_duration_seconds",
        "From the arrival of a host's flush, or write with FUA, to its acknowledgement.",
        labels=names,
    )
    for labels, activity in activities:
        add_latency(writes, labels, activity.write_latency)
        add_latency(flushes, labels, activity.flush_latency)
    return [writes, flushes]


def _resync_left(status: WorkerStatus) -> int:
    resync = status.resync
    if resync is None or resync.finished_at is not None:
        return 0
    return max(0, resync.bytes_total - resync.bytes_done)


def _is_holding(status: WorkerStatus) -> bool:
    return status.mode is Mode.HOLDING


_GAUGES: tuple[tuple[str, str, Callable[[WorkerStatus], float]], ...] = (
    ("twinsite_group_dirty_bytes", "What the other site lacks.", lambda s: s.dirty_bytes),
    ("twinsite_group_resync_left_bytes", "What the running resync has still to cover.", _resync_left),
    ("twinsite_group_holding", "1 while hosts wait for the stream or for the arbiter.", _is_holding),
    (
        "twinsite_group_in_sync_since_timestamp_seconds",
        "Since when every acknowledgement waits for the other site; 0 while none does.",
        lambda s: s.in_sync_since or 0.0,
    ),
)


def _states(primaries: Statuses) -> list[Metric]:
    mode = GaugeMetricFamily(
        "twinsite_group_mode", "1 for what the primary does, 0 for everything else.", labels=[*GROUP_LABELS, "mode"]
    )
    for labels, status in primaries:
        for possible in Mode:
            mode.add_metric([*labels, possible.value], float(status.mode is possible))
    families: list[Metric] = [mode]
    for name, text, value in _GAUGES:
        family = GaugeMetricFamily(name, text, labels=GROUP_LABELS)
        for labels, status in primaries:
            family.add_metric(labels, float(value(status)))
        families.append(family)
    return families


def _activities(activities: Activities) -> list[Metric]:
    arbiter = HistogramMetricFamily(
        "twinsite_group_arbiter_call_duration_seconds",
        "Calls of the arbiter, those without an answer too.",
        labels=GROUP_LABELS,
    )
    failures = CounterMetricFamily(
        "twinsite_group_arbiter_call_failures", "Calls that the arbiter did not answer.", labels=GROUP_LABELS
    )
    holds = CounterMetricFamily(
        "twinsite_group_holds", "How often hosts had to wait for the stream or for the arbiter.", labels=GROUP_LABELS
    )
    hold_seconds = CounterMetricFamily(
        "twinsite_group_hold_seconds", "How long they waited in all, the running hold included.", labels=GROUP_LABELS
    )
    frames = GaugeMetricFamily(
        "twinsite_group_in_flight_frames", "Sent or held, and not acknowledged by the other site.", labels=GROUP_LABELS
    )
    payload = GaugeMetricFamily(
        "twinsite_group_in_flight_bytes", "The same in bytes; hosts are slowed at 64 MiB.", labels=GROUP_LABELS
    )
    for labels, activity in activities:
        add_latency(arbiter, labels, activity.arbiter_latency)
        failures.add_metric(labels, activity.arbiter_failures)
        holds.add_metric(labels, activity.holds)
        hold_seconds.add_metric(labels, activity.hold_seconds)
        frames.add_metric(labels, activity.frames_in_flight)
        payload.add_metric(labels, activity.bytes_in_flight)
    return [arbiter, failures, holds, hold_seconds, frames, payload]
