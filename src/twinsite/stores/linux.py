"""The Linux calls that Python does not wrap: fallocate with a mode, and the size ioctls of block devices."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct

FALLOC_FL_KEEP_SIZE = 0x01
FALLOC_FL_PUNCH_HOLE = 0x02
FALLOC_FL_ZERO_RANGE = 0x10

_AT_EMPTY_PATH = 0x1000
_STATX_BTIME = 0x800
_STATX_BYTES = 256
_STATX_MASK = struct.Struct("=I")
_STATX_BIRTH = struct.Struct("=80xqI")

_BLKSSZGET = 0x1268
_BLKGETSIZE64 = 0x80081272

# A CDLL call releases the interpreter lock, so a long fallocate in a thread does not stall the event loop.
_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_libc, "fallocate64", None) or _libc.fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_fallocate.restype = ctypes.c_int


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Make the range read as zeros and give its space back. Raises `OSError`, EOPNOTSUPP when it cannot be done."""
    _call_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length)


def zero_range(fd: int, offset: int, length: int) -> None:
    """Make the range read as zeros and keep its space. Raises `OSError`, EOPNOTSUPP when it cannot be done."""
    _call_fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length)


def _call_fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    while _fallocate(fd, mode, offset, length) != 0:
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def file_identity(fd: int) -> str:
    """Return a name that a copy in the same place does not have: the file's number and, if known, its time of birth.

    The number alone would not do, because file systems give it out again. Raises `OSError`.
    """
    number = os.fstat(fd).st_ino
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    if _libc.statx(fd, b"", _AT_EMPTY_PATH, _STATX_BTIME, buffer) != 0:
        return str(number)
    (mask,) = _STATX_MASK.unpack_from(buffer)
    seconds, nanoseconds = _STATX_BIRTH.unpack_from(buffer)
    return f"{number}:{seconds}.{nanoseconds:09}" if mask & _STATX_BTIME else str(number)


def block_device_bytes(fd: int) -> int:
    """Return the size of an open block device in bytes. Raises `OSError`."""
    (size_bytes,) = struct.unpack("@Q", fcntl.ioctl(fd, _BLKGETSIZE64, bytes(8)))
    return int(size_bytes)


def logical_block_bytes(fd: int) -> int:
    """Return the logical block size of an open block device in bytes. Raises `OSError`."""
    (size_bytes,) = struct.unpack("@i", fcntl.ioctl(fd, _BLKSSZGET, bytes(4)))
    return int(size_bytes)
