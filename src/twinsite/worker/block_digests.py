"""Digests of blocks, and the comparison of a store with digests that came from its twin. Runs in threads.

Each thread reads into one buffer of its own, again and again: memory that was used just now is in the processor's
cache, and taking new memory for each read costs as much as the digests do.
"""

from __future__ import annotations

import threading
from functools import partial

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
    """What the current thread reads into: as much as one comparison names."""

    def __init__(self) -> None:
        self.data = bytearray(RESYNC_READ_BYTES_MAX)


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
        start = offset + first * BLOCK_BYTES
        length = min((end - first) * BLOCK_BYTES, store.size_bytes - start)
        try:
            store.read_into(memoryview(_buffer.data)[:length], start)
        except StorageFault:
            continue  # Writing may mend it.
        expected = digests[first * DIGEST_BYTES : end * DIGEST_BYTES]
        found = _digests(0, end - first, length, seed)
        if found == expected:
            differs[first:end] = False
            continue
        for number in range(end - first):
            digest = slice(number * DIGEST_BYTES, (number + 1) * DIGEST_BYTES)
            differs[first + number] = found[digest] != expected[digest]
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
    """Read blocks, a buffer at a time, and cut them into runs of zeros and of digests."""
    pieces: list[Piece] = []
    for block in range(first_block, end_block, READ_BLOCKS_MAX):
        offset = block * BLOCK_BYTES
        length = min(min(end_block, block + READ_BLOCKS_MAX) * BLOCK_BYTES, store.size_bytes) - offset
        store.read_into(memoryview(_buffer.data)[:length], offset)
        for start, end, is_zero in zero_runs(_buffer.data, length):
            digests = None if is_zero else _digests(start, end, length, seed)
            pieces.append(Piece(block + start, end - start, digests))
    return pieces


def _digests(first: int, end: int, length: int, seed: int) -> bytes:
    """Return the digests of blocks in this thread's buffer, of which `length` bytes count."""
    view = memoryview(_buffer.data)[:length]
    starts = range(first * BLOCK_BYTES, end * BLOCK_BYTES, BLOCK_BYTES)
    return b"".join([xxh3_128_digest(view[start : start + BLOCK_BYTES], seed) for start in starts])
