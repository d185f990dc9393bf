"""A device on a real file: what is executed, in which order, and what a faulty disk does to it."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from twinsite.core import limits
from twinsite.core.nbd.constants import Command, CommandFlag
from twinsite.errors import StorageFault
from twinsite.stores.base import Extent, Store
from twinsite.stores.file import FileStore, create_file_store
from twinsite.worker.device import ExportInfo, ReplySink, Request
from twinsite.worker.store_device import StoreDevice

KIB = 1024
MIB = 1024 * KIB
SIZE_BYTES = 64 * MIB
LONG_BYTES = limits.DEVICE_INLINE_BYTES_MAX + 64 * KIB
WAIT_SECONDS_MAX = 20.0
FUA = int(CommandFlag.FUA)


class Sink:
    """Collects replies; `answer` waits for one."""

    def __init__(self) -> None:
        self.replies: dict[int, object] = {}
        self.flushed: set[int] = set()
        self.has_hung_up = False
        self._flush = asyncio.Event()

    def complete(self, cookie: int) -> None:
        """Note a success."""
        self._note(cookie, "done")

    def fail(self, cookie: int, errno_value: int) -> None:
        """Note a failure."""
        self._note(cookie, errno_value)

    def complete_read(self, cookie: int, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Note the data."""
        self._note(cookie, (offset, bytes(data)))

    def complete_block_status(self, cookie: int, extents: Sequence[Extent]) -> None:
        """Note the extents."""
        self._note(cookie, list(extents))

    def flush(self) -> None:
        """Note that what was queued has left."""
        self.flushed |= self.replies.keys()
        self._flush.set()

    def is_gone(self) -> bool:
        """Say whether the test has hung up."""
        return self.has_hung_up

    def pause_reading(self) -> None:
        """Not used by this device."""
        raise AssertionError

    def resume_reading(self) -> None:
        """Not used by this device."""
        raise AssertionError

    async def answer(self, cookie: int) -> object:
        """Wait for a reply that is given outside `submit`."""
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while cookie not in self.flushed:
                self._flush.clear()
                await self._flush.wait()
        return self.replies[cookie]

    def _note(self, cookie: int, reply: object) -> None:
        assert cookie not in self.replies, "a request is answered once"
        self.replies[cookie] = reply


class GatedStore(Store):
    """A store around a real one whose slow calls wait for the test, and fail where it says so."""

    def __init__(self, inner: FileStore) -> None:
        self.inner = inner
        self.path, self.size_bytes, self.can_punch = inner.path, inner.size_bytes, inner.can_punch
        self.gate = threading.Semaphore(0)
        self.is_gated = False
        self.entered = threading.Semaphore(0)
        self.flushes = 0
        self.faults: dict[str, int] = {}  # Operation to errno.
        self.is_cached = True

    def _check(self, operation: str) -> None:
        if operation in self.faults:
            raise StorageFault(operation, self.path, OSError(self.faults[operation], "as the test wants"))

    def _wait(self) -> None:
        self.entered.release()
        if self.is_gated:
            assert self.gate.acquire(timeout=WAIT_SECONDS_MAX)

    def read_into(self, buffer: memoryview | bytearray, offset: int) -> None:
        self._wait()
        self._check("read")
        self.inner.read_into(buffer, offset)

    def try_read(self, length: int, offset: int) -> bytearray | None:
        self._check("read")
        return self.inner.try_read(length, offset) if self.is_cached else None

    def write(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        self._check("write")
        self.inner.write(data, offset)

    def zero(self, offset: int, length: int, *, punch: bool) -> None:
        if length > limits.DEVICE_INLINE_BYTES_MAX:
            self._wait()
        self._check("zero")
        self.inner.zero(offset, length, punch=punch)

    def flush(self) -> None:
        self.flushes += 1
        self._wait()
        self._check("flush")
        self.inner.flush()

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        self._check("map")
        return self.inner.extents(offset, length)

    def allocated_bytes(self) -> int:
        return self.inner.allocated_bytes()

    def close(self) -> None:
        self.inner.close()

    def let_through(self) -> None:
        """Let one waiting call go on."""
        self.gate.release()

    async def until_entered(self) -> None:
        """Wait until a slow call has begun."""
        assert await asyncio.to_thread(self.entered.acquire, timeout=WAIT_SECONDS_MAX)


class WatchedDevice(StoreDevice):
    """A device that notes what its hooks see, as a mirror would."""

    def __init__(self, store: Store, executor: ThreadPoolExecutor) -> None:
        super().__init__(ExportInfo("vol", "", SIZE_BYTES), store, executor)
        self.seen: list[tuple[str, int]] = []
        self.batches = 0

    def write_applied(self, request: Request, sink: ReplySink) -> None:
        assert request.command != Command.WRITE or request.payload is not None
        self.seen.append(("changed", request.cookie))
        super().write_applied(request, sink)

    def flush_applied(self, request: Request, sink: ReplySink) -> None:
        self.seen.append(("durable", request.cookie))
        super().flush_applied(request, sink)

    def change_failed(self, request: Request, sink: ReplySink, fault: StorageFault) -> None:
        self.seen.append((f"{fault.operation} failed", request.cookie))

    def flush_failed(self, request: Request, sink: ReplySink, fault: StorageFault) -> None:
        self.seen.append(("flush failed", request.cookie))
        super().flush_failed(request, sink, fault)

    def batch_done(self) -> None:
        self.batches += 1


@pytest.fixture
def store(tmp_path: Path) -> Iterator[GatedStore]:
    """A file that lets everything through until told otherwise."""
    path = str(tmp_path / "vol.raw")
    create_file_store(path, SIZE_BYTES)
    gated = GatedStore(FileStore(path, SIZE_BYTES))
    yield gated
    gated.close()


@pytest.fixture
async def device(store: GatedStore) -> AsyncIterator[WatchedDevice]:
    """The device under test; at the end no thread may be at work."""
    with ThreadPoolExecutor(4) as executor:
        made = WatchedDevice(store, executor)
        yield made
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await made.drain()


@pytest.fixture
async def sink() -> Sink:
    """The connection."""
    return Sink()


def write(cookie: int, offset: int, data: bytes, *, flags: int = 0, is_last: bool = True) -> Request:
    """Return a write, or a piece of one."""
    return Request(Command.WRITE, flags, cookie, offset, len(data), memoryview(data), is_last)


def plain(command: Command, cookie: int, offset: int = 0, length: int = 0, *, flags: int = 0) -> Request:
    """Return a request without payload."""
    return Request(command, flags, cookie, offset, length, None, True)


def content(store: GatedStore, offset: int, length: int) -> bytes:
    """Return what the file holds."""
    found = bytearray(length)
    store.inner.read_into(found, offset)
    return bytes(found)


async def test_writes_and_cached_reads_are_done_within_submit(device: WatchedDevice, sink: Sink) -> None:
    batch = [write(1, 100, b"abc"), plain(Command.READ, 2, 99, 5), write(3, 101, b"B"), plain(Command.READ, 4, 99, 5)]
    device.submit(batch, sink)
    assert sink.replies == {1: "done", 2: (99, b"\0abc\0"), 3: "done", 4: (99, b"\0aBc\0")}
    assert device.batches == 1
    assert (device.writes, device.write_bytes, device.reads, device.read_bytes, device.flushes) == (2, 4, 2, 10, 0)


async def test_a_read_that_is_not_cached(device: WatchedDevice, store: GatedStore, sink: Sink) -> None:
    store.is_cached = False
    device.submit([write(1, 0, b"abc"), plain(Command.READ, 2, 0, 4), plain(Command.READ, 3, 1, 1)], sink)
    assert await sink.answer(2) == (0, b"abc\0")
    assert await sink.answer(3) == (1, b"b")


async def test_a_long_read_goes_to_a_thread(device: WatchedDevice, store: GatedStore, sink: Sink) -> None:
    device.submit([write(1, LONG_BYTES - 1, b"z"), plain(Command.READ, 2, 0, LONG_BYTES)], sink)
    assert 2 not in sink.replies
    assert await sink.answer(2) == (0, bytes(LONG_BYTES - 1) + b"z")


async def test_cache_is_advice(device: WatchedDevice, sink: Sink) -> None:
    device.submit([plain(Command.CACHE, 1, 0, SIZE_BYTES)], sink)
    assert sink.replies == {1: "done"}


@pytest.mark.parametrize("length", [64 * KIB, LONG_BYTES])
@pytest.mark.parametrize(
    ("command", "flags", "is_hole"),
    [
        (Command.TRIM, 0, True),
        (Command.WRITE_ZEROES, 0, True),
        (Command.WRITE_ZEROES, int(CommandFlag.FAST_ZERO), True),
        (Command.WRITE_ZEROES, int(CommandFlag.NO_HOLE), False),
    ],
)
async def test_zeroing(
    device: WatchedDevice, store: GatedStore, sink: Sink, command: Command, flags: int, is_hole: bool, length: int
) -> None:
    device.submit([write(1, 0, b"\xff" * length), plain(command, 2, 0, length, flags=flags)], sink)
    assert await sink.answer(2) == "done" if length == LONG_BYTES else sink.replies[2] == "done"
    assert content(store, 0, length) == bytes(length)
    assert (store.allocated_bytes() < length) == is_hole


async def test_a_write_does_not_overtake_a_long_zeroing_that_it_overlaps(
    device: WatchedDevice, store: GatedStore, sink: Sink
) -> None:
    store.is_gated = True
    device.submit([plain(Command.WRITE_ZEROES, 1, 0, LONG_BYTES), write(2, LONG_BYTES, b"beside")], sink)
    await store.until_entered()
    assert device.seen == [("changed", 2)]
    opener = threading.Timer(0.05, store.gate.release)
    opener.start()
    device.submit([write(3, LONG_BYTES - 1, b"x")], sink)  # Waits for the zeroing, on this thread.
    opener.join()
    assert device.seen == [("changed", 2), ("changed", 1), ("changed", 3)]
    assert sink.replies == {1: "done", 2: "done", 3: "done"}
    assert content(store, LONG_BYTES - 1, 1) == b"x"
    assert 1 in sink.flushed
    await device.drain()
    assert len(device.seen) == 3


async def test_long_zeroings_that_overlap_take_effect_in_order(
    device: WatchedDevice, store: GatedStore, sink: Sink
) -> None:
    device.submit([plain(Command.WRITE_ZEROES, cookie, 0, LONG_BYTES) for cookie in range(5)], sink)
    await sink.answer(4)
    assert [cookie for _, cookie in device.seen] == [0, 1, 2, 3, 4]


async def test_flushes_share(device: WatchedDevice, store: GatedStore, sink: Sink) -> None:
    store.is_gated = True
    device.submit([plain(Command.FLUSH, 1), plain(Command.FLUSH, 2)], sink)
    await store.until_entered()
    other = Sink()
    device.submit([plain(Command.FLUSH, 3)], sink)
    device.submit([write(4, 0, b"x", flags=FUA), plain(Command.FLUSH, 5)], other)
    assert sink.replies == {}
    store.let_through()
    assert [await sink.answer(cookie) for cookie in (1, 2)] == ["done", "done"]
    await store.until_entered()
    assert 3 not in sink.replies  # It came after the first flush had begun.
    store.let_through()
    assert [await sink.answer(3), await other.answer(4), await other.answer(5)] == ["done"] * 3
    assert store.flushes == 2
    assert device.flushes == 4
    durable = [("durable", cookie) for cookie in (1, 2, 3, 4, 5)]
    assert device.seen == [("changed", 4), *durable]


async def test_fua_is_answered_after_a_flush(device: WatchedDevice, store: GatedStore, sink: Sink) -> None:
    store.is_gated = True
    requests = [
        write(1, 0, b"a", flags=FUA, is_last=False),
        write(1, 1, b"b", flags=FUA),
        plain(Command.TRIM, 2, 0, 512, flags=FUA),
        write(3, 0, b"c"),
    ]
    device.submit(requests, sink)
    assert sink.replies == {3: "done"}
    store.let_through()
    assert [await sink.answer(cookie) for cookie in (1, 2)] == ["done", "done"]
    assert store.flushes == 1


async def test_fua_on_a_long_zeroing(device: WatchedDevice, store: GatedStore, sink: Sink) -> None:
    device.submit([plain(Command.WRITE_ZEROES, 1, 0, LONG_BYTES, flags=FUA)], sink)
    assert await sink.answer(1) == "done"
    assert device.seen == [("changed", 1), ("durable", 1)]


@pytest.mark.parametrize(("flags", "expected"), [(0, 3), (int(CommandFlag.REQ_ONE), 1)])
async def test_block_status(device: WatchedDevice, sink: Sink, flags: int, expected: int) -> None:
    device.submit([write(1, MIB, b"\1" * MIB), plain(Command.BLOCK_STATUS, 2, 0, SIZE_BYTES, flags=flags)], sink)
    extents = [Extent(0, MIB, True), Extent(MIB, MIB, False), Extent(2 * MIB, SIZE_BYTES - 2 * MIB, True)]
    assert await sink.answer(2) == extents[:expected]


async def test_block_status_is_bounded(device: WatchedDevice, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "NBD_EXTENTS_MAX", 4)
    device.submit([write(cookie, cookie * MIB, b"\1" * 4 * KIB) for cookie in range(10)], sink)
    device.submit([plain(Command.BLOCK_STATUS, 99, 0, SIZE_BYTES)], sink)
    extents = await sink.answer(99)
    assert isinstance(extents, list)
    assert len(extents) == 4


@pytest.mark.parametrize(
    ("operation", "request_"),
    [
        ("write", write(1, 0, b"x")),
        ("write", write(1, 0, b"x", flags=FUA)),
        ("zero", plain(Command.TRIM, 1, 0, 512)),
        ("zero", plain(Command.WRITE_ZEROES, 1, 0, LONG_BYTES, flags=FUA)),
        ("flush", plain(Command.FLUSH, 1)),
        ("read", plain(Command.READ, 1, 0, 512)),
        ("read", plain(Command.READ, 1, 0, LONG_BYTES)),
        ("map", plain(Command.BLOCK_STATUS, 1, 0, 512)),
    ],
)
async def test_faults_reach_the_host_with_their_errno(
    device: WatchedDevice, store: GatedStore, sink: Sink, operation: str, request_: Request
) -> None:
    store.faults[operation] = errno.ENOSPC
    device.submit([request_], sink)
    await device.drain()
    assert sink.replies == {1: errno.ENOSPC}
    is_change = operation in {"write", "zero", "flush"}
    assert device.seen == ([(f"{operation} failed", 1)] if is_change else [])
    store.faults.clear()
    device.submit([write(2, 0, b"y")], sink)
    assert sink.replies[2] == "done"


async def test_a_failed_flush_fails_every_write_that_waits_for_it(
    device: WatchedDevice, store: GatedStore, sink: Sink
) -> None:
    store.faults["flush"] = errno.EIO
    device.submit([write(1, 0, b"x", flags=FUA), plain(Command.FLUSH, 2)], sink)
    assert [await sink.answer(1), await sink.answer(2)] == [errno.EIO, errno.EIO]
    assert device.seen == [("changed", 1), ("flush failed", 1), ("flush failed", 2)]


async def test_the_rest_of_a_write_is_skipped_after_a_failed_piece(
    device: WatchedDevice, store: GatedStore, sink: Sink
) -> None:
    store.faults["write"] = errno.ENOSPC
    device.submit([write(1, 0, b"a", is_last=False)], sink)
    assert sink.replies == {}
    store.faults.clear()
    other = Sink()
    device.submit([write(1, 1, b"other connection")], other)
    device.submit([write(1, 1, b"b", is_last=False)], sink)
    device.submit([write(1, 2, b"c"), write(2, 3, b"d")], sink)
    assert sink.replies == {1: errno.ENOSPC, 2: "done"}
    assert other.replies == {1: "done"}
    assert content(store, 0, 17) == b"\0otder connection"
    device.submit([write(1, 0, b"again")], sink2 := Sink())
    assert sink2.replies == {1: "done"}


async def test_a_lost_connection_is_forgotten(device: WatchedDevice, store: GatedStore, sink: Sink) -> None:
    store.faults["write"] = errno.EIO
    device.submit([write(1, 0, b"a", is_last=False)], sink)
    store.faults.clear()
    device.connection_lost(sink)
    device.submit([write(1, 0, b"b")], sink)
    assert sink.replies == {1: "done"}


async def test_drain_waits_for_threads(device: WatchedDevice, store: GatedStore, sink: Sink) -> None:
    store.is_gated = True
    device.submit([plain(Command.FLUSH, 1)], sink)
    await store.until_entered()
    device.submit([plain(Command.FLUSH, 2)], sink)
    drained = asyncio.ensure_future(device.drain())
    store.let_through()
    await sink.answer(1)
    assert not drained.done()
    store.let_through()
    await asyncio.wait_for(drained, WAIT_SECONDS_MAX)
    assert sink.replies == {1: "done", 2: "done"}


async def test_a_device_that_is_halted_does_nothing_and_answers_no_read(
    device: WatchedDevice, store: GatedStore, sink: Sink
) -> None:
    store.is_gated = True
    device.submit([plain(Command.READ, 1, 0, LONG_BYTES)], sink)
    device.halt()
    device.submit([write(2, 0, b"x"), plain(Command.READ, 3, 0, 512), plain(Command.FLUSH, 4)], sink)
    store.gate.release()
    await device.drain()
    assert sink.replies == {}
    assert content(store, 0, 1) == b"\0"
