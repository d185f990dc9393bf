"""Read dirty blocks for a resync, telling holes and zeros from data. Runs in a thread; touches only the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from twinsite.core.group.resync import READ_BLOCKS_MAX, Piece, ReadOrder
from twinsite.core.limits import BLOCK_BYTES
from twinsite.stores.base import Store

_ZERO_BLOCK = memoryview(bytes(BLOCK_BYTES))

PIECES_MAX = 64
"""An order that finds more changes between holes and data is given back part done."""


def read_order(store: Store, order: ReadOrder) -> list[Piece]:
    """Return consecutive pieces from the order's first block on: to its end, or to the end of one read's worth of data.

    Blocks that lie in a hole are not read, however many there are; blocks of zeros are read and found to be so. Raises
    `StorageFault`.
    """
    return cover_order(store, order, READ_BLOCKS_MAX, _read_data)


def cover_order(
    store: Store, order: ReadOrder, data_blocks_max: int, read_data: Callable[[Store, int, int], list[Piece]]
) -> list[Piece]:
    """Return consecutive pieces from the order's first block on, as `read_order` does, with another way to read.

    `read_data` is given what is no hole, as its first block and the block behind it; `data_blocks_max` blocks at most
    in one order. Raises `StorageFault`.
    """
    block = order.first_block
    end_block = block + order.block_count
    pieces: list[Piece] = []
    budget_blocks = data_blocks_max
    while block < end_block and budget_blocks > 0 and len(pieces) < PIECES_MAX:
        hole_end = _end_of_leading_hole(store, block, end_block)
        if hole_end > block:
            pieces.append(Piece(block, hole_end - block, None))
            block = hole_end
            continue
        # Looking for the next hole ends with the read: a disk of many small holes must not be searched each time.
        data_end = _next_hole(store, block, min(end_block, block + budget_blocks))
        pieces += read_data(store, block, data_end)
        budget_blocks -= data_end - block
        block = data_end
    return pieces


def _end_of_leading_hole(store: Store, block: int, end_block: int) -> int:
    """Return where the hole at `block` ends, in whole blocks; `block` itself if there is none."""
    offset = block * BLOCK_BYTES
    end = min(end_block * BLOCK_BYTES, store.size_bytes)
    first = next(iter(store.extents(offset, end - offset)))
    if not first.is_hole:
        return block
    return end_block if first.offset + first.length == end else (first.offset + first.length) // BLOCK_BYTES


def _next_hole(store: Store, block: int, end_block: int) -> int:
    """Return the first block of the next hole of at least one whole block, or `end_block` for none."""
    offset = block * BLOCK_BYTES
    end = min(end_block * BLOCK_BYTES, store.size_bytes)
    for extent in store.extents(offset, end - offset):
        extent_end = extent.offset + extent.length
        hole_first = -(-extent.offset // BLOCK_BYTES)
        hole_end = end_block if extent_end == end else extent_end // BLOCK_BYTES
        if extent.is_hole and block < hole_first < hole_end:
            return hole_first
    return end_block


def _read_data(store: Store, first_block: int, end_block: int) -> list[Piece]:
    """Read blocks and cut them into runs of zeros and of data."""
    offset = first_block * BLOCK_BYTES
    buffer = bytearray(min(end_block * BLOCK_BYTES, store.size_bytes) - offset)
    store.read_into(buffer, offset)
    view = memoryview(buffer)
    return [
        Piece(first_block + start, end - start, None if is_zero else view[start * BLOCK_BYTES : end * BLOCK_BYTES])
        for start, end, is_zero in zero_runs(buffer, len(buffer))
    ]


def zero_runs(buffer: bytearray, length: int) -> Iterator[tuple[int, int, bool]]:
    """Cut the first `length` bytes, at least one, into runs: (first block, block behind it, whether it is zeros)."""
    run_start = 0
    run_is_zero = _is_zero(buffer, 0, length)
    count = -(-length // BLOCK_BYTES)
    for number in range(1, count):
        if _is_zero(buffer, number * BLOCK_BYTES, length) != run_is_zero:
            yield run_start, number, run_is_zero
            run_start, run_is_zero = number, not run_is_zero
    yield run_start, count, run_is_zero


def _is_zero(buffer: bytearray, start: int, length: int) -> bool:
    return buffer.startswith(_ZERO_BLOCK[: length - start], start)
