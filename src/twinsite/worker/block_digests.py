"""Digests of blocks, and the comparison of a store with digests that came from its twin. Runs in threads."""

from __future__ import annotations

from bitarray import bitarray
from xxhash import xxh3_128_digest

from twinsite.core.group.resync import Piece, ReadOrder
from twinsite.core.limits import BLOCK_BYTES, RESYNC_READ_BYTES_MAX
from twinsite.core.stream.frames import DIGEST_BYTES
from twinsite.errors import StorageFault
from twinsite.stores.base import Store
from twinsite.worker.resync_reader import read_order

_ZEROS = bytes(RESYNC_READ_BYTES_MAX)


def digest_order(store: Store, order: ReadOrder) -> list[Piece]:
    """Read what a comparison is to be made of; return pieces with the digest of each block. Raises `StorageFault`."""
    assert order.seed is not None
    pieces = []
    for piece in read_order(store, order):
        if piece.data is None:
            pieces.append(piece)
            continue
        view = memoryview(piece.data)
        starts = range(0, len(view), BLOCK_BYTES)
        digests = b"".join(xxh3_128_digest(view[start : start + BLOCK_BYTES], order.seed) for start in starts)
        pieces.append(Piece(piece.first_block, piece.block_count, digests))
    return pieces


def compare_digests(store: Store, offset: int, digests: memoryview, seed: int) -> bitarray:
    """Return one bit for each block from `offset` on: set where the store holds something else, or cannot be read."""
    count = len(digests) // DIGEST_BYTES
    differs = bitarray(count)
    differs.setall(True)
    data = bytearray(min(count * BLOCK_BYTES, store.size_bytes - offset))
    try:
        store.read_into(data, offset)
    except StorageFault:
        return differs  # Writing may mend it.
    view = memoryview(data)
    for number in range(count):
        digest = xxh3_128_digest(view[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES], seed)
        differs[number] = digest != digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]
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
