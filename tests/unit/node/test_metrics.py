"""What a node tells Prometheus of itself and of its workers."""

from __future__ import annotations

import math

from prometheus_client.parser import text_string_to_metric_families

from twinsite.latency import LatencyRecorder
from twinsite.messages import (
    Activity,
    Counters,
    Latency,
    Mode,
    ObservedWorker,
    PoolReport,
    ResyncReport,
    Role,
    WorkerStatus,
)
from twinsite.node.metrics import NodeFacts, metrics_page

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def worker(worker_id: str, role: Role, activity: Activity | None = None) -> ObservedWorker:
    """Return a worker that has done something."""
    status = WorkerStatus(
        id=worker_id,
        spec_version=1,
        role=role,
        mode=Mode.COPYING if role is Role.PRIMARY else Mode.FOLLOWING,
        term=1,
        members=[],
        dirty_bytes=5,
        resync=ResyncReport("full", 1.0, None, 100, 40, 0, 0, 1.0, None),
        counters=Counters(1, 2, 3, 4, 5, 6, 7, 8),
        activity=activity,
    )
    return ObservedWorker(worker_id, alive=True, pid=1, status=status)


async def scrape(*workers: ObservedWorker) -> Samples:
    """Return all samples of a scrape, by name and labels; each family has a text, and counters are named so."""
    facts = NodeFacts("az1", PoolReport(1000, 300), True, False, workers)
    answer = await metrics_page(lambda: facts)()
    assert (answer.status, answer.content_type.partition(";")[0]) == (200, "text/plain")
    found: Samples = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        assert family.documentation.endswith("."), family.name
        for sample in family.samples:
            assert sample.labels["site"] == "az1"
            rest = {key: value for key, value in sample.labels.items() if key != "site"}
            assert (sample.name, frozenset(rest.items())) not in found
            found[sample.name, frozenset(rest.items())] = sample.value
    return found


def of(found: Samples, name: str, **labels: str) -> float:
    """Return one sample."""
    return found[name, frozenset(labels.items())]


async def test_a_primary_tells_everything() -> None:
    recorder = LatencyRecorder()
    recorder.add(0.0001)
    recorder.add(0.002, 3)
    recorder.add(100.0)
    activity = Activity(recorder.latency(), Latency([1] * 18, 2.0), Latency([2] * 18, 3.0), 9, 10, 11.5, 12, 13)
    found = await scrape(worker("g", Role.PRIMARY, activity))
    write = "twinsite_group_write_duration_seconds"
    assert of(found, f"{write}_count", group="g") == 5
    assert of(found, f"{write}_sum", group="g") == 0.0001 + 0.006 + 100
    buckets = [of(found, f"{write}_bucket", group="g", le=end) for end in ("0.0001", "0.001", "0.0025", "30.0", "+Inf")]
    assert buckets == [1, 1, 4, 4, 5]
    told = {name: value for (name, labels), value in found.items() if labels == {("group", "g")}}
    assert {name.removeprefix("twinsite_group_"): value for name, value in told.items() if "duration" not in name} == {
        "writes_total": 1,
        "written_bytes_total": 2,
        "reads_total": 3,
        "read_bytes_total": 4,
        "flushes_total": 5,
        "stream_sent_bytes_total": 6,
        "stream_received_bytes_total": 7,
        "stream_connects_total": 8,
        "dirty_bytes": 5,
        "resync_left_bytes": 60,
        "holding": 0,
        "in_sync_since_timestamp_seconds": 0,
        "arbiter_call_failures_total": 9,
        "holds_total": 10,
        "hold_seconds_total": 11.5,
        "in_flight_frames": 12,
        "in_flight_bytes": 13,
    }
    assert told["twinsite_group_flush_duration_seconds_count"] == 18
    assert told["twinsite_group_arbiter_call_duration_seconds_count"] == 36
    modes = {dict(labels)["mode"] for (name, labels), value in found.items() if name.endswith("_mode") and value}
    assert modes == {"copying"}


async def test_the_node_itself() -> None:
    found = await scrape()
    assert of(found, "twinsite_node_pool_size_bytes") == 1000
    assert of(found, "twinsite_node_pool_free_bytes") == 300
    assert of(found, "twinsite_node_pool_readable") == 1
    assert of(found, "twinsite_node_controller_up") == 0


async def test_a_secondary_a_volume_and_what_does_not_run() -> None:
    found = await scrape(
        worker("g", Role.SECONDARY),
        worker("v", Role.SOLO),
        ObservedWorker("dead", alive=False),
        worker("p", Role.PRIMARY),
    )
    assert of(found, "twinsite_group_stream_received_bytes_total", group="g") == 7
    assert of(found, "twinsite_worker_up", worker="v", role="solo") == 1
    told = {name: value for (name, labels), value in found.items() if labels == {("volume", "v")}}
    assert told == {
        "twinsite_volume_writes_total": 1,
        "twinsite_volume_written_bytes_total": 2,
        "twinsite_volume_reads_total": 3,
        "twinsite_volume_read_bytes_total": 4,
        "twinsite_volume_flushes_total": 5,
    }
    assert of(found, "twinsite_worker_up", worker="dead", role="") == 0
    groups = {dict(labels).get("group") for _, labels in found}
    assert groups == {None, "g", "p"}, "a volume outside of any group is no group"
    assert ("twinsite_group_dirty_bytes", frozenset({("group", "g")})) not in found


async def test_the_latency_of_a_volume() -> None:
    recorder = LatencyRecorder()
    recorder.add(0.002, 3)
    found = await scrape(worker("v", Role.SOLO, Activity(recorder.latency(), Latency([1] * 18, 2.0))))
    assert of(found, "twinsite_volume_write_duration_seconds_count", volume="v") == 3
    assert of(found, "twinsite_volume_write_duration_seconds_bucket", volume="v", le="0.001") == 0
    assert of(found, "twinsite_volume_flush_duration_seconds_sum", volume="v") == 2.0
    assert not [labels for name, labels in found if name.startswith("twinsite_group_")]


async def test_the_buckets_of_another_release_are_left_out() -> None:
    found = await scrape(worker("g", Role.PRIMARY, Activity(write_latency=Latency([1, 2], 3.0))))
    assert not [name for name, _ in found if name.startswith("twinsite_group_write_duration")]
    assert all(math.isfinite(value) for value in found.values())
