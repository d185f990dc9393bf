"""Is this memory zeros? Asked without Python's lock, so that other threads read and ask meanwhile."""

from __future__ import annotations

import ctypes

_LINE = bytes(64)

_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
_memcmp.restype = ctypes.c_int


def is_zero(memory: memoryview) -> bool:
    """Say whether writable, contiguous bytes are all zero. No bytes are.

    They are where the first line of the processor's cache is, and each later one is like the one before it: so only
    this memory is looked at, and no second one beside it.
    """
    if not _LINE.startswith(memory[: len(_LINE)]):
        return False
    rest_bytes = len(memory) - len(_LINE)
    if rest_bytes <= 0:
        return True
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return bool(_memcmp(address, address + len(_LINE), rest_bytes) == 0)
