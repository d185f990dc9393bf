"""A volume on an existing block device: a partition, an LVM volume, a loop device."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from twinsite.errors import StorageFault
from twinsite.stores import linux
from twinsite.stores.base import Extent
from twinsite.stores.descriptor import NOT_SUPPORTED, DescriptorStore


class BlockStore(DescriptorStore):
    """A store on the first `size_bytes` of a block device. The kernel keeps no map of it, so all of it is data.

    The lock is O_EXCL, the kernel's own claim on block devices: it also keeps a mounted device from being opened, and
    an open one from being mounted, which an flock would not.
    """

    def __init__(self, path: str, size_bytes: int) -> None:
        """Open and claim the device. Raises `StorageFault`: EBUSY when it is in use, EIO when it is too small."""
        try:
            if not stat.S_ISBLK(os.stat(path).st_mode):
                raise StorageFault("open", path, OSError(errno.ENOTBLK, "it is not a block device"))
            fd = os.open(path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
        except OSError as error:
            raise StorageFault("open", path, error) from error
        super().__init__(fd, path, size_bytes)
        try:
            device_bytes = linux.block_device_bytes(fd)
            if device_bytes < size_bytes:
                raise StorageFault("open", path, f"the device has {device_bytes} bytes, the volume {size_bytes}")
            # Whole pages, so that zeroing past the page cache and writing through it never share a page.
            self._align_bytes = max(linux.logical_block_bytes(fd), mmap.PAGESIZE)
            self.can_punch = _discards_to_zeros(os.fstat(fd).st_rdev)
        except OSError as error:
            self.close()
            raise StorageFault("open", path, error) from error
        except StorageFault:
            self.close()
            raise

    def zero(self, offset: int, length: int, *, punch: bool) -> None:
        """Make the range read as zeros, by the device where it can, else by writing. Raises `StorageFault`."""
        self._check_range(offset, length)
        end = offset + length
        first = -(-offset // self._align_bytes) * self._align_bytes
        last = end // self._align_bytes * self._align_bytes
        if first >= last:
            self._write_zeros(offset, length)
            return
        self._write_zeros(offset, first - offset)
        try:
            # On a block device both modes promise zeros, unlike the BLKDISCARD ioctl.
            if punch:
                linux.punch_hole(self._fd, first, last - first)
            else:
                linux.zero_range(self._fd, first, last - first)
        except OSError as error:
            if error.errno not in NOT_SUPPORTED:
                raise StorageFault("zero", self.path, error) from error
            self._write_zeros(first, last - first)
        self._write_zeros(last, end - last)

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Yield the range as one extent of data."""
        self._check_range(offset, length)
        if length > 0:
            yield Extent(offset, length, is_hole=False)

    def _present_bytes(self) -> int:
        return linux.block_device_bytes(self._fd)

    def allocated_bytes(self) -> int:
        """Return the store's size: a device gives no other answer."""
        return self.size_bytes


def _discards_to_zeros(device_number: int) -> bool:
    """Tell whether the device zeroes a range without data being sent to it."""
    device = Path(f"/sys/dev/block/{os.major(device_number)}:{os.minor(device_number)}").resolve()
    # A partition's queue is that of the disk it lies on.
    for queue in (device / "queue", device.parent / "queue"):
        try:
            return all(int((queue / name).read_text()) > 0 for name in ("discard_max_bytes", "write_zeroes_max_bytes"))
        except (OSError, ValueError):
            continue
    return False
