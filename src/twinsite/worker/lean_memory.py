"""One arena for the allocator of the C library."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8
"""mallopt(3), <malloc.h> of glibc."""


def use_one_arena() -> bool:
    """Let all threads of this process allocate from one arena. Call it before there are threads. Returns success.

    Each thread has one of its own otherwise, and keeps the largest buffer it has ever read into: 6 MiB of an idle
    worker. Threads that hold Python's lock do not meet in the allocator, so nothing is slower for it.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1))
    except AttributeError:  # Another C library than glibc.
        return False
