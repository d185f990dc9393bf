"""A primary worker with real files, sockets and hosts, against a secondary that is played by the test."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.leader import NEW, SIZE, Leader, image, in_sync, take_resync
from tests.support.stream import KEY, FramePipe, RawPrimary, RawSecondary, acknowledge, flushed
from twinsite.core.limits import BLOCK_BYTES, STREAM_IN_FLIGHT_BYTES_MAX
from twinsite.core.stream.frames import PROTOCOL_VERSION, Flag, Kind, encode_header, encode_json
from twinsite.core.stream.hello import Doubt, Hello, seal
from twinsite.errors import StorageFault
from twinsite.messages import Mode, Role
from twinsite.nbd_client import NbdClient
from twinsite.stores.file import FileStore
from twinsite.worker import mirrored_device
from twinsite.worker.polling import AdaptivePolling
from twinsite.worker.primary_group import PrimaryGroup

DATA = b"d" * 4096


# The session


async def test_a_first_session_says_who_it_is_and_copies_everything(leader: Leader, secondary: RawSecondary) -> None:
    await leader.write(BLOCK_BYTES, DATA)
    leader.give(leader.spec(endpoint=secondary.endpoint))
    pipe, hello = await secondary.admit(NEW)
    assert (hello.group_id, hello.term, hello.first_sequence, hello.members) == ("group", 1, 1, [[0, SIZE]])
    frames, _ = await take_resync(pipe)
    assert [frame.sequence for frame in frames] == list(range(1, len(frames) + 1))
    content = [(f.kind, f.flags, f.offset, f.length) for f in frames[1:-1]]
    resync_zero = Flag.RESYNC | Flag.PUNCH
    assert sorted(content, key=lambda item: item[2]) == [
        (Kind.ZERO, resync_zero, 0, BLOCK_BYTES),
        (Kind.WRITE, Flag.RESYNC, BLOCK_BYTES, BLOCK_BYTES),
        (Kind.ZERO, resync_zero, 2 * BLOCK_BYTES, SIZE - 2 * BLOCK_BYTES),
    ]
    status = await leader.mode(Mode.IN_SYNC)
    assert status.consistent
    assert status.resync is not None
    assert (status.resync.kind, status.resync.bytes_shipped) == ("full", BLOCK_BYTES)


async def test_in_sync_a_write_is_answered_after_the_secondary(leader: Leader, secondary: RawSecondary) -> None:
    pipe, _ = await in_sync(leader, secondary)
    writing = asyncio.create_task(leader.write(512, DATA))
    frame = await pipe.expect(Kind.WRITE)
    assert (frame.offset, bytes(frame.payload or b"")) == (512, DATA)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not writing.done()
    await pipe.send(acknowledge(frame.sequence))
    await writing


async def test_the_event_loop_polls_after_small_receives_of_hosts_and_of_the_stream(
    leader: Leader, secondary: RawSecondary, monkeypatch: pytest.MonkeyPatch
) -> None:
    polled: set[AdaptivePolling] = set()
    monkeypatch.setattr(AdaptivePolling, "received", lambda polling: polled.add(polling))  # noqa: PLW0108  # A method of a set is not bound.
    pipe, _ = await in_sync(leader, secondary)
    polled.clear()
    writing = asyncio.create_task(leader.write(512, b"x" * 512))
    frame = await pipe.expect(Kind.WRITE)
    await pipe.send(acknowledge(frame.sequence))
    await writing
    assert len(polled) == 2, "the host's and the stream's"


async def test_a_forced_write_waits_for_the_flush_of_the_secondary(leader: Leader, secondary: RawSecondary) -> None:
    pipe, _ = await in_sync(leader, secondary)
    writing = asyncio.create_task(leader.write(0, DATA, fua=True))
    write, flush = await pipe.expect(Kind.WRITE), await pipe.expect(Kind.FLUSH)
    await pipe.send(acknowledge(flush.sequence))
    await leader.wait(lambda s: s.acknowledged_sequence == flush.sequence, "acknowledged")
    for _ in range(20):
        await asyncio.sleep(0)
    assert not writing.done()
    assert write.sequence + 1 == flush.sequence
    await pipe.send(flushed(flush.sequence))
    await writing


async def test_a_break_lets_waiting_hosts_go_on_with_a_grant_and_the_difference_is_shipped_later(
    leader: Leader, secondary: RawSecondary
) -> None:
    pipe, name = await in_sync(leader, secondary)
    writing = asyncio.create_task(leader.write(3 * BLOCK_BYTES, DATA))
    await pipe.expect(Kind.WRITE)
    pipe.abort()
    await writing
    await leader.write(5 * BLOCK_BYTES, DATA)
    pipe, _ = await secondary.admit(replace(NEW, generation=name, consistent=True))
    frames, _ = await take_resync(pipe)
    assert [frame.offset for frame in frames if frame.kind == Kind.WRITE] == [3 * BLOCK_BYTES, 5 * BLOCK_BYTES]
    status = await leader.mode(Mode.IN_SYNC)
    assert status.resync is not None
    assert status.resync.kind == "delta"


async def test_heartbeats_do_not_disturb_the_handshake(leader: Leader, secondary: RawSecondary) -> None:
    heartbeat = encode_header(Kind.HEARTBEAT, 0, 0, 0, 0, 0)
    leader.give(leader.spec(endpoint=secondary.endpoint))
    pipe = await secondary.accept()
    await pipe.send(heartbeat)
    hello = await secondary.challenge(pipe)
    welcome = encode_json(Kind.WELCOME, seal(NEW, bytes.fromhex(KEY), hello.nonce))
    await pipe.send(heartbeat, welcome, heartbeat)
    await pipe.expect(Kind.RESYNC_BEGIN)


# Reasons and bounds


async def test_the_reason_of_the_secondary_becomes_the_failure(leader: Leader, secondary: RawSecondary) -> None:
    pipe, _ = await in_sync(leader, secondary)
    await pipe.send(encode_json(Kind.BYE, {"reason": "failure", "code": "37100178", "message": "no space on disk x"}))
    status = await leader.wait(lambda s: s.failure is not None and s.mode is Mode.CONNECTING, "told why, and alone")
    assert status.failure is not None
    assert (status.failure.code, status.failure.message) == ("37100178", "no space on disk x")


async def test_hosts_are_slowed_and_memory_is_bounded_when_nothing_is_acknowledged(
    directory: Path, secondary: RawSecondary
) -> None:
    leader = Leader(directory, size_bytes=256 * 2**20)
    leader.start()
    await leader.put(leader.spec())
    pipe, _ = await in_sync(leader, secondary)
    group = leader.worker._group
    assert isinstance(group, PrimaryGroup)
    alive = asyncio.create_task(show_life(pipe))
    chunk = bytes(20 * 2**20)
    writings = [asyncio.create_task(leader.write(number * len(chunk), chunk)) for number in range(6)]
    await leader.wait(lambda _: group.machine.flight.payload_bytes > STREAM_IN_FLIGHT_BYTES_MAX, "full")
    for _ in range(50):
        await asyncio.sleep(0.002)
    # Each connection may have had one receive buffer of half a MiB under way.
    assert group.machine.flight.payload_bytes <= STREAM_IN_FLIGHT_BYTES_MAX + len(writings) * 2**19
    acknowledging = asyncio.create_task(acknowledge_all(pipe))
    await asyncio.gather(*writings)
    for task in (acknowledging, alive):
        task.cancel()
    await asyncio.gather(acknowledging, alive, return_exceptions=True)
    assert group.machine.flight.payload_bytes == 0
    await leader.close()


async def show_life(pipe: FramePipe) -> None:
    while True:
        await pipe.send(encode_header(Kind.HEARTBEAT, 0, 0, 0, 0, 0))
        await asyncio.sleep(0.2)


async def acknowledge_all(pipe: FramePipe) -> None:
    while (frame := await pipe.next()) is not None:
        await pipe.send(acknowledge(frame.sequence))


# Wishes in quick succession


async def test_a_pause_is_in_force_only_when_nothing_travels_any_more(leader: Leader, secondary: RawSecondary) -> None:
    pipe, _ = await in_sync(leader, secondary)
    writing = asyncio.create_task(leader.write(0, DATA))
    frame = await pipe.expect(Kind.WRITE)
    spec = leader.give(leader.spec())
    status = await leader.wait(lambda s: leader.has_applied(spec) and s.mode is Mode.PAUSED, "draining")
    assert status.spec_version != spec.version
    await leader.write(BLOCK_BYTES, DATA)  # After the stop: told at once, and it does not travel.
    await pipe.send(acknowledge(frame.sequence))
    await writing
    assert await pipe.farewell() == {"reason": "stopped"}
    status = await leader.wait(lambda s: s.spec_version == spec.version, "paused")
    assert (status.mode, status.consistent, status.dirty_bytes) == (Mode.PAUSED, True, BLOCK_BYTES)


async def test_a_pause_during_the_handshake_lets_no_frame_travel(leader: Leader, secondary: RawSecondary) -> None:
    leader.give(leader.spec(endpoint=secondary.endpoint))
    pipe = await secondary.accept()
    hello = await secondary.challenge(pipe)
    status = await leader.pause()
    assert status.mode is Mode.PAUSED
    await secondary.welcome(pipe, hello, NEW)
    frame = await pipe.next()
    assert frame is None or frame.kind == Kind.BYE


async def test_a_stop_that_a_break_overtakes_does_not_connect_again(leader: Leader, secondary: RawSecondary) -> None:
    pipe, name = await in_sync(leader, secondary)
    writing = asyncio.create_task(leader.write(0, DATA))
    await pipe.expect(Kind.WRITE)
    spec = leader.give(leader.spec())
    await leader.wait(lambda _: leader.has_applied(spec), "draining")
    pipe.abort()
    await writing
    await leader.wait(lambda s: s.spec_version == spec.version, "paused")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await secondary.accept()
    leader.give(leader.spec(endpoint=secondary.endpoint))
    await secondary.admit(replace(NEW, generation=name))


async def test_the_last_of_many_wishes_counts(leader: Leader, secondary: RawSecondary) -> None:
    serving = asyncio.create_task(serve_for_ever(secondary))
    for _ in range(10):
        leader.give(leader.spec(endpoint=secondary.endpoint))
        await asyncio.sleep(0.005)
        leader.give(leader.spec())
        await asyncio.sleep(0.005)
    await leader.put(leader.spec(endpoint=secondary.endpoint))
    await leader.mode(Mode.IN_SYNC)
    status = await leader.pause()
    assert status.mode is Mode.PAUSED
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def serve_session(pipe: FramePipe) -> None:
    """Acknowledge everything until the primary says goodbye."""
    while (frame := await pipe.next()) is not None:
        if frame.kind == Kind.BYE:
            await pipe.close()
            return
        await pipe.send(acknowledge(frame.sequence))
        if frame.kind == Kind.RESYNC_END:
            await pipe.send(flushed(frame.sequence))


async def serve_for_ever(secondary: RawSecondary) -> None:
    """Play a secondary whose content nobody looks at: whoever comes is welcomed and acknowledged."""

    async def serve(pipe: FramePipe) -> None:
        hello: Hello = await secondary.challenge(pipe)
        await secondary.welcome(pipe, hello, NEW)
        await serve_session(pipe)

    async with asyncio.TaskGroup() as group:
        while True:
            pipe = await secondary.accept()
            group.create_task(guarded(serve(pipe)))


async def guarded(work: Coroutine[Any, Any, None]) -> None:
    """A connection that the primary ended early is no failure here."""
    try:
        await work
    except (AssertionError, ConnectionError):
        return


async def test_a_moved_secondary_is_followed_while_connected(leader: Leader, secondary: RawSecondary) -> None:
    pipe, name = await in_sync(leader, secondary)
    async with RawSecondary() as moved:
        leader.give(leader.spec(endpoint=moved.endpoint))
        assert await pipe.farewell() is None
        await moved.admit(replace(NEW, generation=name))


async def test_a_moved_secondary_is_followed_while_the_old_place_does_not_answer(
    leader: Leader, secondary: RawSecondary
) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        leader.give(leader.spec(endpoint=f"127.0.0.1:{port}"))
        await leader.mode(Mode.CONNECTING)
        leader.give(leader.spec(endpoint=secondary.endpoint))
        await secondary.admit(NEW)
        await leader.mode(Mode.COPYING)
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize("endpoint", ["127.0.0.1:1", "no.such.host.invalid:7", "a..b:7", "127.0.0.1:0"])
async def test_an_endpoint_that_cannot_be_reached_is_given_up_for_the_next(
    leader: Leader, secondary: RawSecondary, endpoint: str
) -> None:
    leader.give(leader.spec(endpoint=endpoint))
    status = await leader.wait(lambda s: s.failure is not None, "told why")
    assert status.failure is not None
    assert status.failure.code == "37100043"
    leader.give(leader.spec(endpoint=secondary.endpoint))
    await secondary.admit(NEW)


async def test_a_disk_that_cannot_be_read_is_named(leader: Leader, secondary: RawSecondary) -> None:
    await leader.write(0, b"x" * SIZE)
    os.truncate(leader.directory / "0.raw", BLOCK_BYTES // 2)
    leader.give(leader.spec(endpoint=secondary.endpoint))
    pipe, _ = await secondary.admit(NEW)
    said = await pipe.farewell()
    assert said is not None
    assert said["code"] == "37100177"
    status = await leader.wait(lambda s: s.failure is not None, "told why")
    assert status.failure is not None
    assert "0.raw" in status.failure.message


@pytest.mark.parametrize("is_taken_later", [True, False])
async def test_a_refused_write_is_told_until_the_disk_takes_it_or_for_a_while(
    leader: Leader, monkeypatch: pytest.MonkeyPatch, is_taken_later: bool
) -> None:
    await leader.pause()
    store = leader.worker._stores[0]

    def refuse(_data: object, _offset: int) -> None:
        raise StorageFault("write", store.path, OSError(errno.ENOSPC, "the disk is full"))

    monkeypatch.setattr(mirrored_device, "FAILURE_SECONDS", 60.0 if is_taken_later else 0.1)
    with monkeypatch.context() as patched:
        patched.setattr(store, "write", refuse)
        with pytest.raises(StorageFault, match="No space"):
            await leader.write(0, DATA)
        status = leader.worker.status()
        assert status is not None
        failure = status.members[0].failure
        assert failure is not None
        assert "the disk is full" in failure.message
    if is_taken_later:
        await leader.write(0, DATA)
    await leader.wait(lambda s: s.members[0].failure is None, "whole again")


class HotStore(FileStore):
    """A store that is written between every two reads, except where reader and writer are the same thread."""

    def __init__(self, path: str, size_bytes: int) -> None:
        super().__init__(path, size_bytes)
        self._writer = threading.get_ident()
        self._written = threading.Semaphore(0)

    def write(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        super().write(data, offset)
        self._written.release()

    def read_into(self, buffer: memoryview | bytearray, offset: int) -> None:
        super().read_into(buffer, offset)
        if threading.get_ident() != self._writer:
            while self._written.acquire(blocking=False):
                pass
            self._written.acquire(timeout=1.0)


async def test_a_block_that_a_host_never_leaves_alone_does_not_keep_a_resync_from_ending(
    leader: Leader, secondary: RawSecondary
) -> None:
    group = leader.worker._group
    assert isinstance(group, PrimaryGroup)
    group._stores[0].close()
    store = HotStore(str(leader.directory / "0.raw"), SIZE)
    group._stores[0] = group.devices["volume0"].store = leader.worker._stores[0] = store
    stop = threading.Event()

    def hammer() -> None:
        with NbdClient(leader.uri()) as client:
            while not stop.is_set():
                client.write(0, DATA)

    hammering = asyncio.create_task(asyncio.to_thread(hammer))
    leader.give(leader.spec(endpoint=secondary.endpoint))
    pipe, _ = await secondary.admit(NEW)
    acknowledging = asyncio.create_task(serve_session(pipe))
    await leader.mode(Mode.IN_SYNC)
    stop.set()
    await hammering
    acknowledging.cancel()
    await asyncio.gather(acknowledging, return_exceptions=True)


# Clean stops and what may be believed after them


async def test_after_a_clean_stop_the_stream_is_resumed_with_nothing_shipped_and_nobody_asked(
    leader: Leader, secondary: RawSecondary
) -> None:
    pipe, name = await in_sync(leader, secondary)
    await leader.stop()
    assert await pipe.farewell() == {"reason": "stopped"}
    leader.arbiter.is_reachable = False
    leader.start()
    leader.give(leader.spec(endpoint=secondary.endpoint))
    pipe, _ = await secondary.admit(image(name))
    await leader.wait(lambda s: s.members[0].serving, "served")
    writing = asyncio.create_task(leader.write(0, DATA))
    frame = await pipe.expect(Kind.WRITE)  # No resync was begun.
    await pipe.send(acknowledge(frame.sequence))
    await writing
    leader.arbiter.is_reachable = True
    await leader.mode(Mode.IN_SYNC)


async def test_a_volume_that_left_and_came_back_while_no_worker_ran_is_copied_whole(
    leader: Leader, secondary: RawSecondary
) -> None:
    _, name = await in_sync(leader, secondary)
    await leader.stop()
    # Whatever was written to either disk meanwhile, the map that was saved does not know it.
    leader.members = [leader.member(1, 0)]
    leader.start()
    status = await leader.pause()
    assert not status.consistent
    leader.give(leader.spec(endpoint=secondary.endpoint))
    pipe, _ = await secondary.admit(replace(NEW, generation=name, consistent=True))
    frames, _ = await take_resync(pipe)
    assert sum(f.length for f in frames if f.kind in (Kind.WRITE, Kind.ZERO)) == SIZE


async def test_who_wrote_alone_claims_no_lineage_when_it_follows_and_gets_everything_when_it_leads_again(
    leader: Leader, secondary: RawSecondary
) -> None:
    _, name = await in_sync(leader, secondary)
    await leader.pause()
    await leader.write(5 * BLOCK_BYTES, DATA)
    status = await leader.put(leader.spec(role=Role.SECONDARY, term=2))
    assert status.stream_endpoint is not None
    other = await RawPrimary.connect(status.stream_endpoint)
    welcome = await other.enter(Hello(PROTOCOL_VERSION, "group", 2, 1, [[0, SIZE]], "n"))
    assert (welcome.generation, welcome.consistent, welcome.led) == ("", False, [name])
    assert welcome.runs == [[0, 0, 1]]
    await other.send(encode_json(Kind.RESYNC_BEGIN, {"generation": "theirs"}, 1))
    await other.write(2, 0, b"written by the other side")
    await other.until(Kind.ACK, 2)
    await other.close()
    leader.lead(3)
    await leader.put(leader.spec(term=3))
    leader.give(leader.spec(endpoint=secondary.endpoint, term=3))
    pipe, _ = await secondary.admit(image(name))
    frames, _ = await take_resync(pipe)
    assert sum(f.length for f in frames if f.kind in (Kind.WRITE, Kind.ZERO)) == SIZE


async def test_a_volume_that_joins_ends_the_common_point(leader: Leader, secondary: RawSecondary) -> None:
    await in_sync(leader, secondary)
    assert (await leader.pause()).consistent
    leader.members.append(leader.member(1, 1))
    status = await leader.pause()
    assert not status.consistent
    assert [member.dirty_bytes for member in status.members] == [0, SIZE]


async def test_a_production_disk_that_was_restored_from_a_backup_is_copied_whole(
    leader: Leader, secondary: RawSecondary
) -> None:
    _, name = await in_sync(leader, secondary)
    await leader.stop()
    path = leader.directory / "0.raw"
    backup = path.read_bytes()
    path.unlink()
    path.write_bytes(backup)
    leader.start()
    await leader.pause()
    leader.give(leader.spec(endpoint=secondary.endpoint))
    pipe, _ = await secondary.admit(replace(NEW, generation=name, consistent=True))
    frames, _ = await take_resync(pipe)
    assert sum(f.length for f in frames if f.kind in (Kind.WRITE, Kind.ZERO)) == SIZE


async def test_who_was_equal_follows_in_the_same_lineage_and_leads_again_in_it(
    leader: Leader, secondary: RawSecondary
) -> None:
    _, name = await in_sync(leader, secondary)
    await leader.pause()
    status = await leader.put(leader.spec(role=Role.SECONDARY, term=2))
    assert status.stream_endpoint is not None
    other = await RawPrimary.connect(status.stream_endpoint)
    welcome = await other.enter(Hello(PROTOCOL_VERSION, "group", 2, 1, [[0, SIZE]], "n"))
    assert (welcome.generation, welcome.consistent, welcome.doubt) == (name, True, Doubt.NONE)
    await other.write(1, 0, b"written by the other side")
    await other.until(Kind.ACK, 1)
    await other.close()
    leader.lead(3)
    leader.give(leader.spec(endpoint=secondary.endpoint, term=3))
    await secondary.admit(image(name))
    status = await leader.mode(Mode.IN_SYNC)
    assert (status.dirty_bytes, status.acknowledged_sequence) == (0, status.sent_sequence)
