"""What every store on a file descriptor has in common: reads, writes, zeroing by hand, and flushes that do not lie."""

from __future__ import annotations

import errno
import os
import threading

from twinsite.core.limits import MIB
from twinsite.errors import StorageFault
from twinsite.stores.base import Store

ZERO_WRITE_BYTES = 1 * MIB
"""Zeros written by one call where the device cannot zero by itself."""
_ZEROS = memoryview(bytes(ZERO_WRITE_BYTES))

NOT_SUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOSYS})
"""What the kernel answers when a file system or device lacks an operation."""


class DescriptorStore(Store):
    """A store on one open, locked descriptor, which it owns. Only positional I/O, so any thread may call.

    `close` is for when no call is under way any more: the kernel hands the descriptor's number to the next opener.
    """

    def __init__(self, fd: int, path: str, size_bytes: int) -> None:
        self._fd = fd
        self.path = path
        self.size_bytes = size_bytes
        self.can_punch = False
        self._can_read_nowait = hasattr(os, "RWF_NOWAIT")
        self._flush_lock = threading.Lock()
        self._flush_failure: OSError | None = None

    def grow(self, size_bytes: int) -> None:
        """Offer the bytes up to `size_bytes`. Raises `StorageFault` when they are not there."""
        assert size_bytes >= self.size_bytes
        try:
            present_bytes = self._present_bytes()
        except OSError as error:
            raise StorageFault("grow", self.path, error) from error
        if present_bytes < size_bytes:
            raise StorageFault(
                "grow", self.path, f"there are {present_bytes} bytes, the volume is to have {size_bytes}"
            )
        self.size_bytes = size_bytes

    def _present_bytes(self) -> int:
        """Return the size of what is open. Raises `OSError`."""
        return os.fstat(self._fd).st_size

    def read_into(self, buffer: memoryview | bytearray, offset: int) -> None:
        """Fill the whole buffer from `offset`. Raises `StorageFault`."""
        rest = memoryview(buffer)
        self._check_range(offset, len(rest))
        try:
            while len(rest) > 0:
                count = os.preadv(self._fd, [rest], offset)
                if count == 0:
                    raise StorageFault("read", self.path, f"it ends at byte {offset}, before byte {self.size_bytes}")
                rest = rest[count:]
                offset += count
        except OSError as error:
            raise StorageFault("read", self.path, error) from error

    def try_read(self, length: int, offset: int) -> bytearray | None:
        """Return `length` bytes at `offset` if all are in the page cache, else None. Raises `StorageFault`."""
        self._check_range(offset, length)
        if not self._can_read_nowait:
            return None
        data = bytearray(length)
        try:
            count = os.preadv(self._fd, [data], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in NOT_SUPPORTED:
                raise StorageFault("read", self.path, error) from error
            self._can_read_nowait = False
            return None
        return data if count == length else None

    def write(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Write all of `data` at `offset`. Raises `StorageFault`."""
        length = len(data)
        self._check_range(offset, length)
        try:
            done = os.pwrite(self._fd, data, offset)
            while done < length:
                # The kernel wrote up to the fault; the next call names it (a full disk, say).
                count = os.pwrite(self._fd, memoryview(data)[done:], offset + done)
                if count == 0:
                    raise StorageFault("write", self.path, "the kernel took no bytes and named no reason")
                done += count
        except OSError as error:
            raise StorageFault("write", self.path, error) from error

    def flush(self) -> None:
        """Make everything written so far durable. Raises `StorageFault`, and from then on at every call.

        The kernel reports a failed write-back once and then forgets the pages, so a later fdatasync that succeeds
        would promise what was lost. One flush at a time, so that none slips through beside the one that fails.
        """
        with self._flush_lock:
            if self._flush_failure is not None:
                raise StorageFault("flush", self.path, self._flush_failure)
            try:
                self._sync_descriptor()
            except OSError as error:
                self._flush_failure = error
                raise StorageFault("flush", self.path, error) from error

    def close(self) -> None:
        """Release the store and its lock. Idempotent; does not flush."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _sync_descriptor(self) -> None:
        os.fdatasync(self._fd)

    def _write_zeros(self, offset: int, length: int) -> None:
        end = offset + length
        while offset < end:
            count = min(ZERO_WRITE_BYTES, end - offset)
            self.write(_ZEROS[:count], offset)
            offset += count

    def _check_range(self, offset: int, length: int) -> None:
        assert offset >= 0, f"offset {offset} is negative"
        assert length >= 0, f"length {length} is negative"
        assert offset + length <= self.size_bytes, f"{offset}+{length} is past the end at {self.size_bytes}"
