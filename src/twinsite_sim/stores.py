"""A simulated disk and the store on it: a page cache, flushes, losses at a crash, faults, holes."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator
from typing import Any

from twinsite.core.limits import SECTOR_BYTES
from twinsite.errors import StorageFault
from twinsite.stores.base import Extent, Store

PAGE_BYTES = 4096
"""Unit of allocation."""

Operation = Callable[[str], None]


class SimDisk:
    """What a store's bytes lie on. It outlives processes and machines.

    `content` is what reads show; `durable` is what a crash of the machine leaves, together with any part of the
    sectors that were written and not flushed.
    """

    def __init__(
        self,
        path: str,
        size_bytes: int,
        rng: random.Random,
        operation: Operation = lambda what: None,
        on_lost: Callable[[list[int]], None] = lambda sectors: None,
    ) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self.content = bytearray(size_bytes)
        self.durable = bytearray(size_bytes)
        self.unflushed: set[int] = set()
        """Sectors that a flush makes durable."""
        self.forgotten: set[int] = set()
        """Sectors that a failed flush has dropped: still shown, never made durable."""
        self.allocated = bytearray(-(-size_bytes // PAGE_BYTES))
        self.random = rng
        self.operation = operation
        self.opened_by: Any = None
        self.failed_flushes = 0
        self.told_at = 0.0
        """When whoever had it open last heard that a flush had failed; infinity while that is on its way."""
        self.is_full = False
        self.fails_reads = self.fails_writes = self.fails_flushes = False
        self.uncached_rate = 0.0
        """How often a read that must not wait is told to wait."""
        self._on_lost = on_lost

    def grow(self, size_bytes: int) -> None:
        """Be larger, durably; what is new is a hole."""
        assert size_bytes >= self.size_bytes
        more = bytes(size_bytes - self.size_bytes)
        self.content, self.durable = self.content + more, self.durable + more
        self.allocated += bytes(-(-size_bytes // PAGE_BYTES) - len(self.allocated))
        self.size_bytes = size_bytes

    def release(self, process: Any) -> None:
        """The process that had it open has ended."""
        if self.opened_by is process:
            self.opened_by = None
            self.told_at = 0.0

    def hear(self, now: float) -> None:
        """Whoever has it open hears just now that a flush has failed."""
        self.told_at = now

    def crash(self) -> list[int]:
        """Lose any part of what was not flushed; return the sectors that show something else now."""
        keep_rate = self.random.choice([0.0, 0.0, 0.3, 0.7, 1.0])
        lost = []
        for sector in sorted(self.unflushed | self.forgotten):
            start, end = sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES
            if sector not in self.forgotten and self.random.random() < keep_rate:
                self.durable[start:end] = self.content[start:end]
            elif self.content[start:end] != self.durable[start:end]:
                lost.append(sector)
        self.content = bytearray(self.durable)
        self.unflushed.clear()
        self.forgotten.clear()
        self._reallocate()
        return lost

    def drop_dirty(self) -> None:
        """A flush has failed: the kernel takes dirty pages for clean, and evicts some of them."""
        evicted = []
        for sector in sorted(self.unflushed):
            start, end = sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES
            if self.content[start:end] == self.durable[start:end]:
                continue
            if self.random.random() < 0.5:
                self.content[start:end] = self.durable[start:end]
                self.allocated[start // PAGE_BYTES] = 1
                evicted.append(sector)
            else:
                self.forgotten.add(sector)
        dropped = sorted({*evicted, *self.forgotten})
        self.unflushed.clear()
        if dropped:
            self._on_lost(dropped)
        self.failed_flushes += 1

    def evict(self) -> None:
        """The kernel drops the pages that a failed flush has left: from now on the disk shows what it has."""
        for sector in self.forgotten:
            start, end = sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES
            self.content[start:end] = self.durable[start:end]
        self.forgotten.clear()
        self._reallocate()

    def flush(self) -> None:
        """Make everything durable that can still be."""
        for sector in self.unflushed:
            start, end = sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES
            self.durable[start:end] = self.content[start:end]
        self.unflushed.clear()

    def put(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Change the content."""
        end = offset + len(data)
        self.content[offset:end] = data
        sectors = range(offset // SECTOR_BYTES, -(-end // SECTOR_BYTES))
        self.unflushed.update(sectors)
        self.forgotten.difference_update(sectors)
        for page in range(offset // PAGE_BYTES, -(-end // PAGE_BYTES)):
            self.allocated[page] = 1

    def _reallocate(self) -> None:
        zero = bytes(PAGE_BYTES)
        for page in range(len(self.allocated)):
            start = page * PAGE_BYTES
            part = self.content[start : start + PAGE_BYTES]
            self.allocated[page] = part != zero[: len(part)]


class SimStore(Store):
    """A `Store` on a simulated disk."""

    identity = "1"

    def __init__(self, disk: SimDisk, size_bytes: int, owner: Any) -> None:
        """Open the disk for one process. Raises `StorageFault`: EBUSY when it is open elsewhere."""
        if disk.opened_by is not None:
            raise StorageFault("open", disk.path, OSError(errno.EBUSY, "it is open elsewhere"))
        if disk.size_bytes < size_bytes:
            raise StorageFault("open", disk.path, f"it has {disk.size_bytes} bytes, the volume {size_bytes}")
        disk.opened_by = owner
        self.path = disk.path
        self.size_bytes = size_bytes
        self.can_punch = True
        self._owner = owner
        self._disk: SimDisk | None = disk
        self._flush_failure: OSError | None = None

    def read_into(self, buffer: memoryview | bytearray, offset: int) -> None:
        """Fill the buffer. Raises `StorageFault`."""
        disk = self._enter("read", offset, len(buffer))
        if disk.fails_reads and len(buffer):
            raise StorageFault("read", self.path, OSError(errno.EIO, "the disk fails"))
        memoryview(buffer)[:] = memoryview(disk.content)[offset : offset + len(buffer)]

    def try_read(self, length: int, offset: int) -> bytearray | None:
        """Return the bytes unless that has to wait. Raises `StorageFault`."""
        disk = self._enter("read", offset, length)
        if disk.uncached_rate and disk.random.random() < disk.uncached_rate:
            return None
        data = bytearray(length)
        self.read_into(data, offset)
        return data

    def write(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Write the bytes; a fault leaves a part of them. Raises `StorageFault`."""
        disk = self._enter("write", offset, len(data))
        if len(data) == 0:
            return
        fault = errno.EIO if disk.fails_writes else 0
        if not fault and disk.is_full and self._lacks_space(offset, len(data)):
            fault = errno.ENOSPC
        if fault:
            written = disk.random.randrange(len(data) // SECTOR_BYTES + 1) * SECTOR_BYTES
            if fault == errno.ENOSPC:
                written = 0
            if written:
                disk.put(memoryview(data)[:written], offset)
            raise StorageFault("write", self.path, OSError(fault, "the disk fails" if fault == errno.EIO else "full"))
        disk.put(data, offset)

    def zero(self, offset: int, length: int, *, punch: bool) -> None:
        """Make the range read as zeros. Raises `StorageFault`."""
        disk = self._enter("zero", offset, length)
        if length == 0:
            return
        if disk.fails_writes:
            raise StorageFault("zero", self.path, OSError(errno.EIO, "the disk fails"))
        if not punch and disk.is_full and self._lacks_space(offset, length):
            raise StorageFault("zero", self.path, OSError(errno.ENOSPC, "full"))
        disk.put(bytes(length), offset)
        if punch:
            end = offset + length
            last = len(disk.allocated) if end == disk.size_bytes else end // PAGE_BYTES
            for page in range(-(-offset // PAGE_BYTES), last):
                disk.allocated[page] = 0

    def flush(self) -> None:
        """Make everything durable. Raises `StorageFault`, and then always."""
        disk = self._enter("flush", 0, 0)
        if self._flush_failure is None and disk.fails_flushes:
            disk.drop_dirty()
            self._flush_failure = OSError(errno.EIO, "the disk fails")
        if self._flush_failure is not None:
            raise StorageFault("flush", self.path, self._flush_failure)
        disk.flush()

    def grow(self, size_bytes: int) -> None:
        """Offer more of the disk. Raises `StorageFault` when it is smaller."""
        disk = self._enter("grow", 0, 0)
        if disk.size_bytes < size_bytes:
            raise StorageFault("grow", self.path, f"it has {disk.size_bytes} bytes, the volume is to have {size_bytes}")
        self.size_bytes = size_bytes

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Yield what is data and what is a hole."""
        disk = self._enter("map", offset, length)
        end = offset + length
        while offset < end:
            is_hole = not disk.allocated[offset // PAGE_BYTES]
            stop = offset
            while stop < end and (not disk.allocated[stop // PAGE_BYTES]) == is_hole:
                stop = min(end, (stop // PAGE_BYTES + 1) * PAGE_BYTES)
            yield Extent(offset, stop - offset, is_hole)
            offset = stop

    def allocated_bytes(self) -> int:
        """Return the space taken."""
        return sum(self._enter("stat", 0, 0).allocated) * PAGE_BYTES

    def close(self) -> None:
        """Give the disk up. Idempotent."""
        disk, self._disk = self._disk, None
        if disk is not None and disk.opened_by is self._owner:
            disk.opened_by = None

    def _enter(self, what: str, offset: int, length: int) -> SimDisk:
        assert 0 <= offset <= offset + length <= self.size_bytes, f"{offset}+{length} of {self.size_bytes}"
        if self._disk is None:
            raise StorageFault(what, self.path, OSError(errno.EBADF, "it is closed"))
        self._disk.operation(f"{what} {length} bytes at {offset} of {self.path}")
        return self._disk

    def _lacks_space(self, offset: int, length: int) -> bool:
        assert self._disk is not None
        pages = range(offset // PAGE_BYTES, -(-(offset + length) // PAGE_BYTES))
        return not all(self._disk.allocated[page] for page in pages)
