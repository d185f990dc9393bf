"""Read dirty blocks for a resync, telling holes and zeros from data. Runs in threads; touches only the store.

Memory that turned out to hold zeros is read into again by the same thread: it is in the processor's cache, and taking
new memory costs as much as reading.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

from twinsite.core.group.resync import READ_BLOCKS_MAX, READ_ZEROS_BLOCKS_MAX, Piece, ReadOrder
from twinsite.core.limits import BLOCK_BYTES
from twinsite.core.stream.packing import pack
from twinsite.stores.base import Store
from twinsite.worker.zero_test import is_zero

_ALIGN_BYTES = 64
"""The kernel copies almost twice as fast to memory that begins at a line of the processor's cache."""

PIECES_MAX = 64
"""An order that finds more changes between holes and data is given back part done."""


def read_order(store: Store, order: ReadOrder) -> list[Piece]:
    """Return consecutive pieces from the order's first block on: to its end, or to the end of one read's worth of data.

    Blocks that lie in a hole are not read, however many there are; blocks of zeros are read and found to be so, which
    goes on for about `READ_ZEROS_BLOCKS_MAX` at most. Raises `StorageFault`.
    """
    return cover_order(store, order, READ_BLOCKS_MAX, _read_data)


def read_packed(store: Store, order: ReadOrder) -> list[Piece]:
    """Return what `read_order` does, with the data compressed as well where that makes it smaller."""
    pieces = read_order(store, order)
    return [piece if piece.data is None else piece._replace(packed=pack(piece.data)) for piece in pieces]


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
    data_blocks = zero_blocks = 0
    while block < end_block and data_blocks < data_blocks_max and len(pieces) < PIECES_MAX:
        # Looking for the next hole ends with the read: a disk of many small holes must not be searched each time.
        read_end = min(end_block, block + data_blocks_max - data_blocks)
        hole_end, data_end = _leading_hole_and_data(store, block, read_end, end_block)
        if hole_end > block:
            pieces.append(Piece(block, hole_end - block, None, is_hole=True))
            block = hole_end
            continue
        if zero_blocks >= READ_ZEROS_BLOCKS_MAX:
            break
        read = read_data(store, block, data_end)
        if len(read) == 1 and read[0].data is None:
            zero_blocks += data_end - block
            if pieces and pieces[-1].data is None and not pieces[-1].is_hole:
                read = [Piece(pieces[-1].first_block, data_end - pieces.pop().first_block, None)]
        else:
            data_blocks += data_end - block
        pieces += read
        block = data_end
    return pieces


def _leading_hole_and_data(store: Store, block: int, read_end: int, end_block: int) -> tuple[int, int]:
    """Return where the hole at `block` ends, in whole blocks, and where the data behind it does, looked for together.

    The first is `block` itself if there is no hole, and only then the second is true: at `read_end` at the latest.
    """
    offset = block * BLOCK_BYTES
    end = min(end_block * BLOCK_BYTES, store.size_bytes)
    first = next(iter(store.extents(offset, end - offset)))
    first_end = first.offset + first.length
    if first.is_hole:
        hole_end = end_block if first_end == end else first_end // BLOCK_BYTES
        return hole_end, read_end if hole_end > block else _next_hole(store, block, read_end)
    is_data_to_end = first_end >= min(read_end * BLOCK_BYTES, end)
    return block, read_end if is_data_to_end else _next_hole(store, block, read_end)


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


class _Spare(threading.local):
    """Memory that the current thread has read zeros into, if any."""

    view: memoryview | None = None


_spare = _Spare()


def _read_data(store: Store, first_block: int, end_block: int) -> list[Piece]:
    """Read blocks and cut them into runs of zeros and of data."""
    offset = first_block * BLOCK_BYTES
    length = min(end_block * BLOCK_BYTES, store.size_bytes) - offset
    view, _spare.view = _spare.view, None
    if view is None or len(view) < length:
        view = _aligned_memory(length)
    whole, view = view, view[:length]
    store.read_into(view, offset)
    if is_zero(view):
        _spare.view = whole
        return [Piece(first_block, end_block - first_block, None)]
    return [
        Piece(first_block + start, end - start, None if run_is_zero else view[start * BLOCK_BYTES : end * BLOCK_BYTES])
        for start, end, run_is_zero in zero_runs(_are_zeros(view))
    ]


def _aligned_memory(length: int) -> memoryview:
    memory = array("B", (0,)) * (length + _ALIGN_BYTES - 1)
    start = -memory.buffer_info()[0] % _ALIGN_BYTES
    return memoryview(memory)[start : start + length]


def zero_runs(is_zero: Iterable[bool]) -> Iterator[tuple[int, int, bool]]:
    """Cut blocks, of which each is zeros or not, into runs: (first block, block behind it, whether it is zeros)."""
    start = 0
    for run_is_zero, run in groupby(is_zero):
        end = start + sum(1 for _ in run)
        yield start, end, run_is_zero
        start = end


def _are_zeros(view: memoryview) -> Iterator[bool]:
    """Say of each block, the last of which may be shorter, whether it is zeros."""
    return (is_zero(view[start : start + BLOCK_BYTES]) for start in range(0, len(view), BLOCK_BYTES))
