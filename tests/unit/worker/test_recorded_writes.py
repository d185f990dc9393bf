"""What a host feels of the intent log: changes to cold extents wait for their record, and nothing else does."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.leader import Leader
from tests.support.nbd import request
from tests.support.nbd_client import RawClient
from tests.support.stream import WAIT_SECONDS
from tests.unit.worker.test_store_device import Sink
from twinsite.core.limits import EXTENT_BYTES
from twinsite.core.nbd.constants import Command
from twinsite.durable_file import SystemFiles, SystemLogFile
from twinsite.nbd_client import NbdClient
from twinsite.worker.device import Request
from twinsite.worker.intent_log import load_intents
from twinsite.worker.mirrored_device import MirroredDevice

COLD_EXTENT = 2
COLD = COLD_EXTENT * EXTENT_BYTES
HOT = 0
DATA = b"d" * 4096
EXTENTS = 4


class PausedSink(Sink):
    """A connection that can be told to read no further."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[int] = []
        self.pauses = 0

    def pause_reading(self) -> None:
        self.pauses += 1

    def resume_reading(self) -> None:
        self.pauses -= 1

    def _note(self, cookie: int, reply: object) -> None:
        super()._note(cookie, reply)
        self.order.append(cookie)


class HeldLog:
    """Lets the test hold the syncs of every log, or fail them and whatever would replace the log."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_sync = threading.Event()
        self.is_syncing = threading.Event()
        self.fails = False
        sync_log, replace = SystemLogFile.sync, SystemFiles.replace

        def sync(log: SystemLogFile) -> None:
            self.is_syncing.set()
            assert self.may_sync.wait(WAIT_SECONDS)
            self._check()
            sync_log(log)

        def replace_log(files: SystemFiles, path: Path, content: bytes) -> None:
            if path.name == "intents.log":
                self._check()
            replace(files, path, content)

        monkeypatch.setattr(SystemLogFile, "sync", sync)
        monkeypatch.setattr(SystemFiles, "replace", replace_log)

    def _check(self) -> None:
        if self.fails:
            raise OSError(errno.ENOSPC, "as the test wants")

    async def until_syncing(self) -> None:
        assert await asyncio.to_thread(self.is_syncing.wait, WAIT_SECONDS), "nothing is recorded"


@pytest.fixture(name="held")
def fixture_held(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldLog]:
    held = HeldLog(monkeypatch)
    yield held
    held.may_sync.set()


@pytest.fixture(name="leader")
async def fixture_leader(directory: Path, held: HeldLog) -> AsyncIterator[Leader]:
    held.may_sync.set()
    leader = Leader(directory, size_bytes=EXTENTS * EXTENT_BYTES)
    leader.start()
    await leader.put(leader.spec())
    intents = leader.group().intents
    intents.clear(0, COLD_EXTENT, EXTENTS - COLD_EXTENT)
    held.may_sync.clear()
    held.is_syncing.clear()
    yield leader
    held.fails = False
    held.may_sync.set()
    await leader.close()


def device(leader: Leader) -> MirroredDevice:
    return leader.group().devices["volume0"]


def write(cookie: int, offset: int, data: bytes = DATA, *, is_last: bool = True) -> Request:
    return Request(int(Command.WRITE), 0, cookie, offset, len(data), memoryview(data), is_last)


def other(command: Command, cookie: int, offset: int = 0, length: int = 0) -> Request:
    return Request(int(command), 0, cookie, offset, length, None, True)


def content(leader: Leader, offset: int, length: int = len(DATA)) -> bytes:
    with (leader.directory / "0.raw").open("rb") as file:
        file.seek(offset)
        return file.read(length)


async def answers(sink: Sink, cookies: Sequence[int]) -> list[object]:
    return [await sink.answer(cookie) for cookie in cookies]


async def test_a_batch_waits_for_its_record_and_keeps_its_order(leader: Leader, held: HeldLog) -> None:
    sink = PausedSink()
    batch = [
        write(1, HOT),
        write(2, COLD),
        other(Command.READ, 3, COLD, 4096),
        write(4, HOT, b"e" * 4096),
        other(Command.TRIM, 5, COLD, 512),
    ]
    device(leader).submit(batch, sink)
    await held.until_syncing()
    assert (sink.replies, sink.pauses) == ({}, 1)
    assert content(leader, COLD) == content(leader, HOT) == bytes(4096), "the batch is not torn apart"
    held.may_sync.set()
    replies = await answers(sink, [1, 2, 3, 4, 5])
    assert replies == ["done", "done", (COLD, DATA), "done", "done"]
    assert (sink.pauses, sorted(sink.order)) == (0, [1, 2, 3, 4, 5])
    assert content(leader, HOT) == b"e" * 4096
    assert content(leader, COLD) == bytes(512) + DATA[512:]


@pytest.mark.parametrize("command", [Command.WRITE, Command.TRIM, Command.WRITE_ZEROES])
async def test_whatever_changes_a_cold_extent_is_recorded_first(
    leader: Leader, held: HeldLog, command: Command
) -> None:
    sink = PausedSink()
    request = write(1, COLD) if command is Command.WRITE else other(command, 1, COLD, 4096)
    device(leader).submit([request], sink)
    await held.until_syncing()
    assert sink.replies == {}
    held.may_sync.set()
    assert await sink.answer(1) == "done"
    found = load_intents(SystemFiles(), leader.directory / "state" / "intents.log", leader.members)
    assert found[0].states[COLD_EXTENT]


@pytest.mark.parametrize("offset, length", [(COLD - 512, 1024), (COLD - 512, 512), (HOT, 512)])
async def test_a_change_waits_if_any_of_its_extents_is_cold(
    leader: Leader, held: HeldLog, offset: int, length: int
) -> None:
    sink = PausedSink()
    device(leader).submit([write(1, offset, b"x" * length)], sink)
    is_cold = offset + length > COLD
    assert (sink.replies == {}) == is_cold
    held.may_sync.set()
    assert is_cold is False or await sink.answer(1) == "done"


@pytest.mark.parametrize("command", [Command.READ, Command.FLUSH, Command.BLOCK_STATUS, Command.CACHE])
async def test_what_changes_nothing_never_waits(leader: Leader, held: HeldLog, command: Command) -> None:
    sink = PausedSink()
    length = 0 if command is Command.FLUSH else 4096
    offset = 0 if command is Command.FLUSH else COLD
    device(leader).submit([other(command, 1, offset, length)], sink)
    sink.flush()
    assert isinstance(await sink.answer(1), str | tuple | list)
    assert (sink.pauses, held.is_syncing.is_set()) == (0, False)


async def test_the_payload_is_kept_while_the_receive_buffer_is_filled_again(leader: Leader, held: HeldLog) -> None:
    buffer = bytearray(DATA)
    sink = PausedSink()
    with memoryview(buffer) as view:
        device(leader).submit([write(1, COLD)._replace(payload=view)], sink)
    buffer[:] = bytes(len(buffer))
    held.may_sync.set()
    assert await sink.answer(1) == "done"
    assert content(leader, COLD) == DATA


async def test_other_connections_go_on(leader: Leader, held: HeldLog) -> None:
    waiting, going_on, waiting_too = PausedSink(), PausedSink(), PausedSink()
    device(leader).submit([write(1, COLD)], waiting)
    await held.until_syncing()
    device(leader).submit([write(1, HOT), other(Command.READ, 2, HOT, 4096)], going_on)
    assert going_on.replies == {1: "done", 2: (HOT, DATA)}
    device(leader).submit([write(1, COLD + 4096)], waiting_too)
    assert (waiting.replies, waiting_too.replies) == ({}, {})
    held.may_sync.set()
    assert await waiting.answer(1) == await waiting_too.answer(1) == "done"


# A log that cannot be written


async def test_while_the_log_cannot_be_written_only_what_changes_the_disk_is_failed(
    leader: Leader, held: HeldLog
) -> None:
    held.fails = True
    held.may_sync.set()
    sink = PausedSink()
    device(leader).submit(
        [
            write(1, COLD),
            other(Command.READ, 2, COLD, 4096),
            other(Command.TRIM, 3, COLD, 4096),
            other(Command.FLUSH, 4),
            other(Command.WRITE_ZEROES, 5, COLD, 4096),
        ],
        sink,
    )
    assert await answers(sink, [1, 2, 3, 4, 5]) == [
        errno.ENOSPC,
        (COLD, bytes(4096)),
        errno.ENOSPC,
        "done",
        errno.ENOSPC,
    ]
    assert (content(leader, COLD), sink.pauses) == (bytes(4096), 0)
    failure = device(leader).failure
    assert failure is not None
    assert (failure.code, "intent log" in failure.message) == ("37100177", True)
    device(leader).submit([write(6, HOT)], sink)
    assert sink.replies[6] == "done", "what is recorded can be written"
    held.fails = False
    device(leader).submit([write(7, COLD)], sink)
    assert await sink.answer(7) == "done"
    assert content(leader, COLD) == DATA


async def test_a_long_write_that_cannot_be_recorded_fails_once_and_after_its_last_piece(
    leader: Leader, held: HeldLog
) -> None:
    held.fails = True
    held.may_sync.set()
    sink = PausedSink()
    device(leader).submit([write(1, COLD, is_last=False), other(Command.READ, 2, HOT, 512)], sink)
    await sink.answer(2)
    assert 1 not in sink.replies
    held.fails = False
    device(leader).submit([write(1, HOT)], sink)
    assert sink.replies.pop(1) == errno.ENOSPC
    assert content(leader, HOT) == content(leader, COLD) == bytes(4096)
    device(leader).submit([write(1, HOT)], sink)
    assert sink.replies[1] == "done", "the cookie is free again"


# Ends meanwhile


@pytest.mark.parametrize("is_noticed", [True, False])
async def test_of_a_connection_that_is_gone_meanwhile_nothing_is_executed_any_more(
    leader: Leader, held: HeldLog, is_noticed: bool
) -> None:
    """Its host may have written the same anew over another connection. Nobody was told of anything of the batch."""
    sink = PausedSink()
    batch = [write(1, HOT), write(2, COLD), write(3, COLD, is_last=False), other(Command.TRIM, 4, COLD, 512)]
    device(leader).submit(batch, sink)
    await held.until_syncing()
    if is_noticed:
        device(leader).connection_lost(sink)
    sink.has_hung_up = True
    newer = PausedSink()
    device(leader).submit([write(1, HOT, b"n" * 4096)], newer)
    assert content(leader, HOT) == b"n" * 4096
    held.may_sync.set()
    await device(leader).drain()
    assert content(leader, HOT) == b"n" * 4096
    assert (content(leader, COLD), sink.replies) == (bytes(4096), {})
    assert (sink in leader.group()._sinks) != is_noticed
    assert not device(leader)._broken_writes


async def test_of_a_refused_write_of_a_connection_that_is_gone_nothing_is_kept(leader: Leader, held: HeldLog) -> None:
    sink = PausedSink()
    held.fails = True
    device(leader).submit([write(1, COLD, is_last=False), other(Command.READ, 2, HOT, 512)], sink)
    await held.until_syncing()
    device(leader).connection_lost(sink)
    held.may_sync.set()
    await device(leader).drain()
    assert (device(leader)._broken_writes, sink.replies) == ({}, {})


async def test_what_a_host_had_sent_before_it_hung_up_does_not_undo_what_it_wrote_anew(
    leader: Leader, held: HeldLog
) -> None:
    """Nothing is read from its first connection just then, so that nobody has noticed that it is gone."""
    old = b"o" * len(DATA)
    async with await RawClient.unix(f"{leader.directory}/0.sock") as client:
        await client.negotiate()
        client.send(request(Command.WRITE, 1, COLD, payload=old))
        await held.until_syncing()
        client.send(request(Command.WRITE, 2, HOT, payload=old))
        await client.drain()
        client.writer.write_eof()
        await leader.write(HOT, DATA)
        held.may_sync.set()
        assert await client.rest() == b""
    await leader.write(COLD, DATA)
    assert (content(leader, COLD), content(leader, HOT)) == (DATA, DATA)


async def test_a_host_that_hangs_up_meanwhile_disturbs_nobody(leader: Leader, held: HeldLog) -> None:
    client = await asyncio.to_thread(NbdClient, leader.uri(), timeout_seconds=WAIT_SECONDS)
    writing = asyncio.create_task(asyncio.to_thread(client.write, COLD, DATA))
    await held.until_syncing()
    client._socket.shutdown(socket.SHUT_RDWR)
    async with asyncio.timeout(WAIT_SECONDS):
        (outcome,) = await asyncio.gather(writing, return_exceptions=True)
    assert isinstance(outcome, Exception)
    client.close()
    reading = await leader.read(COLD, len(DATA))
    assert reading == bytes(4096)
    held.may_sync.set()
    await device(leader).drain()
    await leader.write(COLD + 4096, DATA)
    assert await leader.read(COLD + 4096, len(DATA)) == DATA


async def test_a_worker_that_stops_meanwhile_ends_cleanly_and_names_the_extent(leader: Leader, held: HeldLog) -> None:
    writing = asyncio.create_task(leader.write(COLD, DATA))
    await held.until_syncing()
    stopping = asyncio.create_task(leader.stop())
    await asyncio.sleep(0)
    held.may_sync.set()
    async with asyncio.timeout(WAIT_SECONDS):
        await stopping
        (outcome,) = await asyncio.gather(writing, return_exceptions=True)
    found = load_intents(SystemFiles(), leader.directory / "state" / "intents.log", leader.members)
    assert found[0].states[COLD_EXTENT] or content(leader, COLD) == bytes(4096)
    assert outcome is not None or content(leader, COLD) == DATA, "what was answered is there"


async def test_volumes_come_while_a_write_waits_for_its_record(leader: Leader, held: HeldLog) -> None:
    writing = asyncio.create_task(leader.write(COLD, DATA))
    await held.until_syncing()
    leader.members.append(leader.member(1, 1))
    given = leader.give(leader.spec())
    for _ in range(20):
        await asyncio.sleep(0)
    held.may_sync.set()
    async with asyncio.timeout(WAIT_SECONDS):
        await writing
    await leader.wait(lambda status: status.spec_version == given.version, "of two volumes")
    assert content(leader, COLD) == DATA
    await leader.write(0, DATA, number=1)
