"""Digests of blocks, and the comparison of a store with digests that came from its twin. Runs in threads.

Each thread reads into one buffer of its own, again and again: memory that was used just now is in the processor's
cache, and taking new memory for each read costs as much as the digests do. The buffer begins at a page, since the
kernel copies almost twice as fast to there as to 16 bytes behind, where the memory of a bytearray begins.
"""

from __future__ import annotations

import mmap
import threading
from functools import lru_cache, partial

from bitarray import bitarray
from xxhash import xxh3_128_digest

from twinsite.core.group.resync import COMPARE_READ_BLOCKS_MAX, READ_BLOCKS_MAX, Piece, ReadOrder
from twinsite.core.limits import BLOCK_BYTES, RESYNC_READ_BYTES_MAX
from twinsite.core.stream.frames import DIGEST_BYTES
from twinsite.errors import StorageFault
from twinsite.stores.base import Store
from twinsite.worker.resync_reader import cover_order, zero_runs

_ZEROS = bytes(RESYNC_READ_BYTES_MAX)


class _Buffer(threading.local):
    """What the current thread reads into."""

    def __init__(self) -> None:
        self.view = memoryview(mmap.mmap(-1, RESYNC_READ_BYTES_MAX, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


_buffer = _Buffer()


def digest_order(store: Store, order: ReadOrder) -> list[Piece]:
    """Read what comparisons are to be made of; return pieces with the digest of each block. Raises `StorageFault`."""
    assert order.seed is not None
    return cover_order(store, order, COMPARE_READ_BLOCKS_MAX, partial(_digest_data, order.seed))


def compare_digests(store: Store, offset: int, digests: memoryview, seed: int) -> bitarray:
    """Return one bit for each block from `offset` on: set where the store holds something else, or cannot be read."""
    count = len(digests) // DIGEST_BYTES
    differs = bitarray(count)
    differs.setall(True)
    for first in range(0, count, READ_BLOCKS_MAX):
        end = min(first + READ_BLOCKS_MAX, count)
        try:
            found = _read_digests(store, offset + first * BLOCK_BYTES, end - first, seed)
        except StorageFault:
            continue  # Writing may mend it.
        for number, digest in enumerate(found, first):
            differs[number] = digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES] != digest
    return differs


def compare_zero(store: Store, offset: int, length: int) -> bitarray:
    """Return one bit for each block of the range: set where the store holds anything but zeros, or cannot be read."""
    differs = bitarray(-(-length // BLOCK_BYTES))
    differs.setall(False)
    for extent in store.extents(offset, length):
        if extent.is_hole:
            continue
        first = (extent.offset - offset) // BLOCK_BYTES
        end = -(-(extent.offset + extent.length - offset) // BLOCK_BYTES)
        for number in range(first, end):
            start = offset + number * BLOCK_BYTES
            data = bytearray(min(BLOCK_BYTES, offset + length - start))
            try:
                store.read_into(data, start)
            except StorageFault:
                differs[number] = True
                continue
            differs[number] = not _ZEROS.startswith(data)
    return differs


def _digest_data(seed: int, store: Store, first_block: int, end_block: int) -> list[Piece]:
    """Read and digest blocks, and cut them into runs of zeros and of digests.

    A block is taken for zeros when its digest is that of zeros: so much is trusted to digests anyway.
    """
    digests: list[bytes] = []
    for block in range(first_block, end_block, READ_BLOCKS_MAX):
        digests += _read_digests(store, block * BLOCK_BYTES, min(READ_BLOCKS_MAX, end_block - block), seed)
    last_bytes = min(end_block * BLOCK_BYTES, store.size_bytes) - (end_block - 1) * BLOCK_BYTES
    zeros = _zero_digest(BLOCK_BYTES, seed)
    is_zero = [digest == zeros for digest in digests[:-1]]
    is_zero.append(digests[-1] == _zero_digest(last_bytes, seed))
    return [
        Piece(first_block + start, end - start, None if run_is_zero else b"".join(digests[start:end]))
        for start, end, run_is_zero in zero_runs(is_zero)
    ]


def _read_digests(store: Store, offset: int, block_count: int, seed: int) -> list[bytes]:
    """Return the digest of each of at most `READ_BLOCKS_MAX` blocks from `offset` on. Raises `StorageFault`."""
    length = min(block_count * BLOCK_BYTES, store.size_bytes - offset)
    view = _buffer.view[:length]
    store.read_into(view, offset)
    return [xxh3_128_digest(view[start : start + BLOCK_BYTES], seed) for start in range(0, length, BLOCK_BYTES)]


@lru_cache(maxsize=4)
def _zero_digest(length: int, seed: int) -> bytes:
    return xxh3_128_digest(_ZEROS[:length], seed)
