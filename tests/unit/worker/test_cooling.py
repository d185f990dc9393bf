"""Extents go cold only when nothing of them can be lost, and a write to a cold one is recorded before it is made."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.leader import Leader, image, in_sync
from tests.support.stream import WAIT_SECONDS, FramePipe, RawSecondary, acknowledge, flushed
from twinsite.core.limits import DEVICE_INLINE_BYTES_MAX, EXTENT_BYTES
from twinsite.core.stream.frames import Frame, Kind
from twinsite.core.tracking.intents import EXTENT_BLOCKS
from twinsite.durable_file import SystemFiles, SystemLogFile
from twinsite.errors import StorageFault
from twinsite.messages import Mode
from twinsite.nbd_client import NbdClient
from twinsite.stores.file import FileStore
from twinsite.worker.cooling import Cooling
from twinsite.worker.intent_log import load_intents

EXTENTS = 4
ALL = set(range(EXTENTS))
DATA = b"d" * 4096


@dataclass
class Bench:
    """A group in sync with a secondary that the test plays, and with all extents recorded."""

    leader: Leader
    secondary: RawSecondary
    pipe: FramePipe
    name: str
    acknowledged: int = 0

    @property
    def cooling(self) -> Cooling:
        return self.leader.group()._cooling

    def recorded(self) -> set[int]:
        runs = self.leader.group().intents.maps[0].runs()
        return {extent for first, count in runs for extent in range(first, first + count)}

    def logged(self) -> set[int]:
        """What a restart would find."""
        found = load_intents(SystemFiles(), self.leader.directory / "state" / "intents.log", self.leader.members)
        return {extent for first, count in found[0].runs() for extent in range(first, first + count)}

    async def begin(self) -> Frame:
        """Begin a round; return the flush that the secondary is asked for."""
        assert self.cooling.start()
        return await self.pipe.expect(Kind.FLUSH)

    async def acknowledge(self, frame: Frame) -> None:
        if frame.sequence > self.acknowledged:
            self.acknowledged = frame.sequence
            await self.pipe.send(acknowledge(frame.sequence))

    async def answer(self, flush: Frame) -> None:
        await self.acknowledge(flush)
        await self.pipe.send(flushed(flush.sequence))

    async def go_round(self) -> None:
        """Do a whole round, and wait until its end is in the log."""
        await self.answer(await self.begin())
        await self.leader.wait(lambda _: self.is_over(), "done with the round")

    def is_over(self) -> bool:
        log = self.leader.group().intents
        return self.cooling._flushing is None and log._committing is None

    async def write(self, extent: int) -> None:
        """Write as a host, with the secondary's acknowledgement."""
        writing = asyncio.create_task(self.leader.write(extent * EXTENT_BYTES, DATA))
        frame = await self.pipe.expect(Kind.WRITE)
        await self.acknowledge(frame)
        await writing

    async def settle(self) -> None:
        """Let everything happen that is due: the secondary's answers so far are taken, and what follows from them."""
        mark = asyncio.create_task(self.leader.write(0, DATA))
        frame = await self.pipe.expect(Kind.WRITE)
        await self.acknowledge(frame)
        await mark


@pytest.fixture(name="bench")
async def fixture_bench(directory: Path) -> AsyncIterator[Bench]:
    leader = Leader(directory, size_bytes=EXTENTS * EXTENT_BYTES)
    leader.start()
    await leader.put(leader.spec())
    async with RawSecondary() as secondary:
        pipe, name = await in_sync(leader, secondary)
        bench = Bench(leader, secondary, pipe, name)
        assert bench.recorded() == bench.logged() == ALL
        yield bench
        bench.pipe.abort()
        await leader.close()


# What goes cold


async def test_what_nothing_has_touched_for_a_round_goes_cold_in_the_map_and_in_the_log(bench: Bench) -> None:
    await bench.go_round()
    assert bench.recorded() == ALL, "all was recorded just now"
    await bench.go_round()
    assert bench.recorded() == bench.logged() == set()
    assert not bench.cooling.start(), "there is nothing to do"


async def test_what_was_touched_since_stays(bench: Bench) -> None:
    await bench.go_round()
    await bench.write(1)
    flush = await bench.begin()
    await bench.write(3)
    await bench.answer(flush)
    await bench.leader.wait(lambda _: bench.is_over(), "done with the round")
    assert bench.recorded() == bench.logged() == {1, 3}
    await bench.go_round()
    assert bench.recorded() == set()


async def test_nothing_goes_cold_before_the_secondary_has_flushed(bench: Bench) -> None:
    await bench.go_round()
    flush = await bench.begin()
    await bench.acknowledge(flush)
    await bench.settle()
    waiter = bench.leader.group().machine.flight.waiters[flush.sequence]
    await bench.leader.wait(lambda _: waiter.is_local_done, "flushed here")
    assert bench.recorded() == ALL
    await bench.answer(flush)
    await bench.leader.wait(lambda _: bench.is_over(), "done with the round")
    assert bench.recorded() == {0}


async def test_nothing_goes_cold_before_this_side_has_flushed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.go_round()
    may_flush = threading.Event()
    flush_store = FileStore.flush

    def flush_late(store: FileStore) -> None:
        assert may_flush.wait(WAIT_SECONDS)
        flush_store(store)

    monkeypatch.setattr(FileStore, "flush", flush_late)
    await bench.answer(await bench.begin())
    await bench.settle()
    assert bench.recorded() == ALL
    may_flush.set()
    await bench.leader.wait(lambda _: bench.is_over(), "done with the round")
    assert bench.recorded() == {0}


async def test_a_flush_that_fails_here_leaves_everything_recorded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.go_round()
    failed = threading.Event()

    def fail(store: FileStore) -> None:
        failed.set()
        raise StorageFault("flush", store.path, OSError(5, "as the test wants"))

    monkeypatch.setattr(FileStore, "flush", fail)
    await bench.answer(await bench.begin())
    await asyncio.to_thread(failed.wait, WAIT_SECONDS)
    await bench.leader.wait(lambda _: bench.leader.group().failed_flush is not None, "told that its disk failed")
    assert bench.recorded() == bench.logged() == ALL
    monkeypatch.undo()


@pytest.mark.parametrize("map_name", ["dirty", "suspect"])
async def test_what_is_known_to_differ_stays_recorded(
    bench: Bench, map_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.go_round()
    group = bench.leader.group()
    monkeypatch.setattr(group, "_start_reads", lambda: None)  # Otherwise it is repaired at once.
    getattr(group.machine.members[0], map_name).mark_blocks(3 * EXTENT_BLOCKS - 1, 1)
    await bench.go_round()
    assert bench.recorded() == bench.logged() == {2}


# Rounds that do not count


@pytest.mark.parametrize("is_resumed", [False, True])
async def test_nothing_goes_cold_when_the_stream_did_not_last(bench: Bench, is_resumed: bool) -> None:
    leader = bench.leader
    await bench.go_round()
    leader.arbiter.is_reachable = not is_resumed
    flush = await bench.begin()
    bench.pipe.abort()
    if is_resumed:
        bench.pipe, _ = await bench.secondary.admit(image(bench.name))
        again = await bench.pipe.expect(Kind.FLUSH)
        assert again.sequence == flush.sequence
        await bench.answer(again)
        await bench.settle()
        await leader.wait(lambda _: leader.group().machine.phase.name == "MIRRORED", "mirrored")
    else:
        await leader.mode(Mode.CONNECTING)
        assert not bench.cooling.start(), "there is no secondary to flush"
    assert bench.recorded() == bench.logged() == ALL
    leader.arbiter.is_reachable = True
    if is_resumed:
        await leader.mode(Mode.IN_SYNC)
        await bench.go_round()
        assert bench.recorded() == {0}, "a round of the new stream counts"


async def test_rounds_do_not_overlap(bench: Bench) -> None:
    await bench.go_round()
    flush = await bench.begin()
    assert not bench.cooling.start()
    await bench.write(2)
    await bench.answer(flush)
    await bench.leader.wait(lambda _: bench.is_over(), "done with the round")
    assert bench.recorded() == {2}
    await bench.go_round()
    assert bench.recorded() == set()


async def test_a_round_waits_for_a_long_zeroing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    zero_store = FileStore.zero
    is_zeroing, may_zero = threading.Event(), threading.Event()

    def zero_late(store: FileStore, offset: int, length: int, *, punch: bool) -> None:
        is_zeroing.set()
        assert may_zero.wait(WAIT_SECONDS)
        zero_store(store, offset, length, punch=punch)

    def zero() -> None:
        with NbdClient(bench.leader.uri(), timeout_seconds=WAIT_SECONDS) as client:
            client.zero(0, 2 * DEVICE_INLINE_BYTES_MAX)

    monkeypatch.setattr(FileStore, "zero", zero_late)
    zeroing = asyncio.create_task(asyncio.to_thread(zero))
    assert await asyncio.to_thread(is_zeroing.wait, WAIT_SECONDS)
    assert not bench.cooling.start()
    may_zero.set()
    frame = await bench.pipe.expect(Kind.ZERO)
    await bench.acknowledge(frame)
    await zeroing
    assert bench.cooling.start()


async def test_a_round_comes_by_itself_and_no_more_after_the_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[bool] = []
    monkeypatch.setattr(bench.cooling, "start", lambda: begun.append(True))
    bench.cooling._timer.cancel()
    bench.cooling._tick()
    assert begun == [True]
    timer = bench.cooling._timer
    assert not timer.cancelled()
    bench.cooling.close()
    assert timer.cancelled()


# Writing to what is cold


async def test_a_write_to_a_cold_extent_is_durable_in_the_log_before_it_is_in_the_store(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.go_round()
    await bench.go_round()
    sync_log = SystemLogFile.sync
    is_syncing, may_sync = threading.Event(), threading.Event()
    logged: list[set[int]] = []

    def sync_late(log: SystemLogFile) -> None:
        is_syncing.set()
        assert may_sync.wait(WAIT_SECONDS)
        sync_log(log)

    monkeypatch.setattr(SystemLogFile, "sync", sync_late)
    write_store = FileStore.write

    def write_noted(store: FileStore, data: bytes | bytearray | memoryview, offset: int) -> None:
        logged.append(bench.logged())
        write_store(store, data, offset)

    monkeypatch.setattr(FileStore, "write", write_noted)
    writing = asyncio.create_task(bench.leader.write(2 * EXTENT_BYTES, DATA))
    assert await asyncio.to_thread(is_syncing.wait, WAIT_SECONDS)
    assert (logged, bench.recorded()) == ([], set())
    may_sync.set()
    frame = await bench.pipe.expect(Kind.WRITE)
    assert logged == [{2}]
    assert bench.recorded() == {2}
    await bench.acknowledge(frame)
    await writing
