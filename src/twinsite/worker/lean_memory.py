"""The allocator of the C library: memory at hand while a worker works, and little while it rests."""

from __future__ import annotations

import ctypes

from twinsite.core.limits import MIB, NBD_REQUEST_BYTES_MAX

# mallopt(3), <malloc.h> of glibc.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

HEAP_BYTES_MAX = NBD_REQUEST_BYTES_MAX
"""What is larger than this is mapped alone and given back with its last byte; the most that glibc lets be said."""
SPARE_BYTES_MAX = 64 * MIB
"""Unused memory at the end of the heap, past which it is given back at once."""

assert HEAP_BYTES_MAX <= 32 * MIB
assert SPARE_BYTES_MAX >= 2 * HEAP_BYTES_MAX


def keep_memory_at_hand() -> bool:
    """Let this process use the memory of one buffer for the next one. Call it before there are threads.

    Returns success, which another C library than glibc does not give.

    - All threads allocate from one arena. Each has one of its own otherwise, and keeps the largest buffer it has ever
      read into: 6 MiB of an idle worker. Threads that hold Python's lock do not meet in the allocator, so nothing is
      slower for it.
    - The heap keeps what is freed. It would give back a buffer of a resync with every frame otherwise, and to get the
      next one, page by page, costs more than reading, hashing and sending what it is for.

    `give_memory_back` is for the time when nothing goes on.
    """
    mallopt = _function("mallopt")
    if mallopt is None:
        return False
    wishes = ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, HEAP_BYTES_MAX), (_M_TRIM_THRESHOLD, SPARE_BYTES_MAX))
    return all(bool(mallopt(name, value)) for name, value in wishes)


def give_memory_back() -> None:
    """Give the kernel every page of the heap that holds nothing. It takes up to some milliseconds."""
    malloc_trim = _function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _function(name: str) -> ctypes._NamedFuncPointer | None:
    try:
        function = ctypes.CDLL(None)[name]
    except AttributeError:
        return None
    function.restype = ctypes.c_int
    return function
