"""A volume in a sparse file: zeroing punches holes, and holes are found again with SEEK_DATA and SEEK_HOLE."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator

from twinsite.durable_file import sync_directory
from twinsite.errors import StorageFault
from twinsite.stores import linux
from twinsite.stores.base import Extent
from twinsite.stores.descriptor import NOT_SUPPORTED, DescriptorStore

_UNMAPPABLE = NOT_SUPPORTED | {errno.EINVAL}
"""What lseek answers on a file system that does not know SEEK_DATA."""
_DATA_STEP_BYTES = 4096
"""How far to go on when a hole was punched between two questions to the kernel."""


class FileStore(DescriptorStore):
    """A store in a regular file of at least `size_bytes`."""

    def __init__(self, path: str, size_bytes: int) -> None:
        """Open and lock the file. Raises `StorageFault`: EBUSY when it is open elsewhere, EIO when it is too small."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise StorageFault("open", path, error) from error
        super().__init__(fd, path, size_bytes)
        try:
            self._lock()
            file_bytes = os.fstat(fd).st_size
            if file_bytes < size_bytes:
                raise StorageFault("open", path, f"the file has {file_bytes} bytes, the volume {size_bytes}")
            self.can_punch = self._probe_punch(file_bytes)
            self.identity = linux.file_identity(fd)
        except OSError as error:
            self.close()
            raise StorageFault("open", path, error) from error
        except StorageFault:
            self.close()
            raise

    def is_in_place(self) -> bool:
        """Say whether the file is still found under its path, and is the same."""
        try:
            found, opened = os.stat(self.path), os.fstat(self._fd)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)

    def zero(self, offset: int, length: int, *, punch: bool) -> None:
        """Make the range read as zeros, by the file system if it can, else by writing. Raises `StorageFault`."""
        self._check_range(offset, length)
        if length == 0:
            return
        try:
            if punch:
                linux.punch_hole(self._fd, offset, length)
            else:
                linux.zero_range(self._fd, offset, length)
        except OSError as error:
            if error.errno not in NOT_SUPPORTED:
                raise StorageFault("zero", self.path, error) from error
            self._write_zeros(offset, length)

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Yield the extents of the range, merged and clipped. Raises `StorageFault`.

        Whatever changes meanwhile, the extents cover the range exactly, and a range called a hole was one when the
        kernel was asked. To call a hole data is always safe.
        """
        self._check_range(offset, length)
        end = offset + length
        pending: Extent | None = None
        while offset < end:
            found = self._next_extent(offset, end)
            offset = found.offset + found.length
            if pending is not None and pending.is_hole == found.is_hole:
                pending = Extent(pending.offset, pending.length + found.length, found.is_hole)
                continue
            if pending is not None:
                yield pending
            pending = found
        if pending is not None:
            yield pending

    def allocated_bytes(self) -> int:
        """Return the bytes of space that the file takes. Raises `StorageFault`."""
        try:
            return os.fstat(self._fd).st_blocks * 512  # st_blocks counts 512 bytes whatever the file system's blocks.
        except OSError as error:
            raise StorageFault("stat", self.path, error) from error

    def _next_extent(self, offset: int, end: int) -> Extent:
        try:
            data = os.lseek(self._fd, offset, os.SEEK_DATA)
            if data > offset:
                return Extent(offset, min(data, end) - offset, is_hole=True)
            hole = os.lseek(self._fd, offset, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                # No data up to the file's end; SEEK_HOLE says this only of a file that was cut short from outside.
                return Extent(offset, end - offset, is_hole=True)
            if error.errno in _UNMAPPABLE:
                return Extent(offset, end - offset, is_hole=False)
            raise StorageFault("map", self.path, error) from error
        # A hole punched between the two questions puts `hole` at `offset`: go on by a step, or this would never end.
        return Extent(offset, min(max(hole, offset + _DATA_STEP_BYTES), end) - offset, is_hole=False)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(errno.EBUSY, "it is open in another process") from None

    def _probe_punch(self, file_bytes: int) -> bool:
        # Behind the file's end there is nothing to lose, and the kernel still says whether it can.
        try:
            linux.punch_hole(self._fd, file_bytes, _DATA_STEP_BYTES)
        except OSError as error:
            if error.errno not in NOT_SUPPORTED:
                raise
            return False
        return True


def create_file_store(path: str, size_bytes: int) -> None:
    """Make sure that a durable sparse file of `size_bytes` is at `path`. Idempotent.

    A smaller file grows, its content unchanged; a larger one is refused, because it may hold data. Raises
    `StorageFault`. Under its own name the file appears only complete and durable, so one of the right size needs no
    second fsync, which would wait for all that hosts have written to it.
    """
    assert size_bytes > 0
    try:
        present_bytes = _size_or_none(path)
        if present_bytes is None:
            _create_complete(path, size_bytes)
        elif present_bytes > size_bytes:
            raise StorageFault(
                "create", path, f"a file of {present_bytes} bytes is there, larger than {size_bytes}; move it away"
            )
        elif present_bytes < size_bytes:
            _truncate_durably(path, size_bytes, os.O_RDWR)
        sync_directory(os.path.dirname(path))
    except OSError as error:
        raise StorageFault("create", path, error) from error


def delete_file_store(path: str) -> None:
    """Remove the file at `path` for good. Idempotent.

    Raises `StorageFault`, with EBUSY when a process has it open as a store.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageFault("delete", path, error) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
        sync_directory(os.path.dirname(path))
    except BlockingIOError:
        raise StorageFault("delete", path, OSError(errno.EBUSY, "it is open in another process")) from None
    except OSError as error:
        raise StorageFault("delete", path, error) from error
    finally:
        os.close(fd)


def _size_or_none(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return None


def _create_complete(path: str, size_bytes: int) -> None:
    unfinished = f"{path}.new"
    _truncate_durably(unfinished, size_bytes, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.rename(unfinished, path)


def _truncate_durably(path: str, size_bytes: int, open_flags: int) -> None:
    fd = os.open(path, open_flags | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, size_bytes)
        os.fsync(fd)
    finally:
        os.close(fd)
