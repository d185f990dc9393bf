"""What a primary tells of how its hosts are served."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.support.leader import Leader, in_sync
from tests.support.stream import RawSecondary, acknowledge, flushed
from twinsite.core.stream.frames import Kind, encode_header
from twinsite.messages import Activity, Mode, WorkerStatus
from twinsite.worker.holds import Holds

DATA = b"d" * 4096


def activity(leader: Leader) -> Activity:
    """Return what the worker tells now."""
    status = leader.worker.status()
    assert status is not None
    assert status.activity is not None
    return status.activity


async def test_a_write_counts_when_it_is_answered_and_the_arbiters_calls_too(
    leader: Leader, secondary: RawSecondary
) -> None:
    await leader.write(0, DATA)
    alone = activity(leader)
    assert sum(alone.write_latency.counts) == 1
    assert alone.write_latency.seconds > 0
    pipe, _ = await in_sync(leader, secondary)
    calls = sum(activity(leader).arbiter_latency.counts)
    assert calls > sum(alone.arbiter_latency.counts) > 0
    writing = asyncio.create_task(leader.write(0, DATA))
    frame = await pipe.expect(Kind.WRITE)
    now = activity(leader)
    assert (sum(now.write_latency.counts), now.frames_in_flight, now.bytes_in_flight) == (1, 1, len(DATA))
    await pipe.send(acknowledge(frame.sequence))
    await writing
    now = activity(leader)
    assert (sum(now.write_latency.counts), now.frames_in_flight, now.bytes_in_flight) == (2, 0, 0)
    assert (now.arbiter_failures, now.holds, now.hold_seconds) == (0, alone.holds, alone.hold_seconds)


async def test_a_write_that_is_to_be_durable_counts_with_the_flushes(leader: Leader, secondary: RawSecondary) -> None:
    pipe, _ = await in_sync(leader, secondary)
    before = sum(activity(leader).flush_latency.counts)
    writing = asyncio.create_task(leader.write(0, DATA, fua=True))
    await pipe.expect(Kind.WRITE)
    frame = await pipe.expect(Kind.FLUSH)
    await pipe.send(acknowledge(frame.sequence), flushed(frame.sequence))
    await writing
    assert sum(activity(leader).flush_latency.counts) == before + 1
    assert sum(activity(leader).write_latency.counts) == 0


async def test_a_hold_is_counted_once_with_its_time_and_the_calls_that_fail(
    leader: Leader, secondary: RawSecondary
) -> None:
    pipe, _ = await in_sync(leader, secondary)
    before = activity(leader)
    leader.arbiter.is_reachable = False
    writing = asyncio.create_task(leader.write(0, DATA))
    await pipe.expect(Kind.WRITE)
    pipe.abort()
    await leader.wait(lambda s: failures(s) >= before.arbiter_failures + 2, "refused twice")
    during = activity(leader)
    assert during.holds == before.holds + 1
    assert before.hold_seconds < during.hold_seconds < activity(leader).hold_seconds
    leader.arbiter.is_reachable = True
    await writing
    await leader.mode(Mode.CONNECTING)
    after = activity(leader)
    assert after.holds == during.holds
    assert after.hold_seconds == activity(leader).hold_seconds > during.hold_seconds
    assert after.write_latency.seconds >= during.hold_seconds - before.hold_seconds, "the host waited for as long"


def failures(status: WorkerStatus) -> int:
    """Return how many calls the arbiter has not answered."""
    assert status.activity is not None
    return status.activity.arbiter_failures


async def test_a_stream_that_rests_counts_nothing(leader: Leader, secondary: RawSecondary) -> None:
    pipe, _ = await in_sync(leader, secondary)
    await leader.wait(lambda s: s.knowledge is not None and s.knowledge.row_in_sync, "known to be in sync")
    before = leader.worker.status()
    await pipe.send(encode_header(Kind.HEARTBEAT, 0, 0, 0, 0, 0))
    frame = await pipe.next(heartbeats=True)
    assert frame is not None
    assert frame.kind == Kind.HEARTBEAT
    assert leader.worker.status() == before


async def test_what_hosts_did_with_a_volume_counts_after_it_has_left(leader: Leader) -> None:
    added = leader.member(1, 1)
    await leader.put(replace(leader.spec(), members=[*leader.members, added]))
    await leader.write(0, DATA, 1)
    await leader.write(0, DATA)
    status = await leader.put(leader.spec())
    assert [member.volume_id for member in status.members] == ["volume0"]
    assert (status.counters.writes, status.counters.write_bytes) == (2, 2 * len(DATA))


def test_what_no_host_may_see_yet_holds_nobody_up() -> None:
    holds = Holds()
    holds.begin(has_hosts=False)
    assert (holds.since is not None, holds.count, holds.seconds()) == (True, 0, 0.0)
    holds.begin(has_hosts=True)
    assert holds.count == 1
    holds.end()
    holds.end()
    assert holds.count == 1
    assert holds.since is None
    assert holds.seconds() == holds.seconds() > 0
