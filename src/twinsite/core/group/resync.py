"""The resync planner: what to read next, and which of what was read may still be sent.

Guest writes go on while a resync reads, so a read can be overtaken: the old content must not follow the new one down
the stream. A `ReadOrder` therefore collects the blocks that guests wrote while it was out; those are not sent from it
but stay dirty and are read again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from twinsite.core.limits import BLOCK_BYTES, RESYNC_READ_BYTES_MAX, ZERO_FRAME_BYTES_MAX
from twinsite.core.tracking.dirty_map import DirtyMap

READ_BLOCKS_MAX = RESYNC_READ_BYTES_MAX // BLOCK_BYTES
"""Most blocks of data that one order brings."""
RUN_BLOCKS_MAX = ZERO_FRAME_BYTES_MAX // BLOCK_BYTES
"""Longest run of one order. Only zeros can make it that long; data ends it after `RESYNC_READ_BYTES_MAX`."""


class Piece(NamedTuple):
    """Consecutive blocks that were read: `data` is their content, or None when they hold only zeros.

    Of a comparison, `data` is the digest of each block instead.
    """

    first_block: int
    block_count: int
    data: bytes | bytearray | memoryview | None


@dataclass(slots=True, eq=False)
class ReadOrder:
    """A read for the shell to do: `block_count` dirty blocks of member `index` at most, from `first_block` on.

    The shell may stop after `RESYNC_READ_BYTES_MAX` bytes of data; it must say how many blocks it covered.
    """

    index: int
    first_block: int
    block_count: int
    session: int
    is_contended: bool = False  # Guests overtook it before: read it where no guest can come between.
    seed: int | None = None  # Of a comparison: give the digests of the blocks instead of their content.
    overtaken: set[int] = field(default_factory=set)  # Block numbers.

    def touch(self, offset: int, length: int) -> None:
        """A guest wrote this range of the member while the read was out."""
        first = max(offset // BLOCK_BYTES, self.first_block)
        last = min((offset + length - 1) // BLOCK_BYTES, self.first_block + self.block_count - 1)
        if first <= last:
            self.overtaken.update(range(first, last + 1))


class MemberResync:
    """The resync of one member: a cursor over its dirty map, front to back and round again.

    Where there is data, several short reads are out at once, side by side; where there is a hole, one long read finds
    its end. What the last read found decides how the next one is cut. A read that guests have overtaken completely is
    followed by one of a single block that the shell does at once: a block that a guest never leaves alone would
    otherwise keep the resync from ending.
    """

    def __init__(self, index: int, dirty: DirtyMap) -> None:
        self.index = index
        self.dirty = dirty
        self.orders: list[ReadOrder] = []
        self._cursor = 0
        self._is_in_data = False
        self._is_contended = False

    def next_order(self, session: int) -> ReadOrder | None:
        """Return a read to do next, or None while those that are out must come back first, or nothing is dirty."""
        if self.orders and not self._is_in_data:
            return None
        count_max = READ_BLOCKS_MAX if self._is_in_data else RUN_BLOCKS_MAX
        if self._is_contended:
            count_max = 1
        run = self.dirty.next_run(self._cursor, count_max) if self._cursor < self.dirty.block_count else None
        if run is None and not self.orders:
            run = self.dirty.next_run(0, count_max)
        if run is None:
            return None
        order = ReadOrder(self.index, run[0], run[1], session, self._is_contended)
        self._is_contended = False
        self.orders.append(order)
        self._cursor = run[0] + run[1]
        return order

    def take_back(self, order: ReadOrder, pieces: list[Piece]) -> list[Piece]:
        """The read is done: return what may be sent of it, and count that as no longer dirty.

        Pieces are consecutive from `order.first_block` on. Overtaken blocks stay dirty.
        """
        self.orders.remove(order)
        expected = order.first_block
        sendable: list[Piece] = []
        for piece in pieces:
            assert piece.first_block == expected
            expected += piece.block_count
            sendable.extend(without(piece, order.overtaken, BLOCK_BYTES))
        assert order.first_block < expected <= order.first_block + order.block_count
        if not self.orders:
            self._cursor = expected
        self._is_in_data = pieces[-1].data is not None
        self._is_contended = not sendable
        for piece in sendable:
            self.dirty.clear_blocks(piece.first_block, piece.block_count)
        return sendable

    def touch(self, offset: int, length: int) -> None:
        """A guest wrote this range while reads were out."""
        for order in self.orders:
            order.touch(offset, length)

    def forget_orders(self) -> None:
        """The session of the reads is over; their results will not be taken."""
        self.orders.clear()
        self._cursor = 0
        self._is_in_data = False
        self._is_contended = False


def without(piece: Piece, overtaken: set[int], bytes_a_block: int) -> list[Piece]:
    """Cut the overtaken blocks out of a piece, whose data has so many bytes for each block."""
    end_block = piece.first_block + piece.block_count
    holes = sorted(block for block in overtaken if piece.first_block <= block < end_block) if overtaken else []
    if not holes:
        return [piece]
    rest: list[Piece] = []
    start = piece.first_block
    for hole in [*holes, end_block]:
        if hole > start:
            data = piece.data
            if data is not None:
                begin_bytes = (start - piece.first_block) * bytes_a_block
                data = memoryview(data)[begin_bytes : begin_bytes + (hole - start) * bytes_a_block]
            rest.append(Piece(start, hole - start, data))
        start = hole + 1
    return rest


assert RESYNC_READ_BYTES_MAX >= BLOCK_BYTES
