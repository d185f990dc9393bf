"""The resync planner: what to read next, and which of what was read may still be sent.

Guest writes go on while a resync reads, so a read can be overtaken: the old content must not follow the new one down
the stream. A `ReadOrder` therefore collects the blocks that guests wrote while it was out; those are not sent from it
but stay dirty and are read again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from twinsite.core.limits import (
    BLOCK_BYTES,
    COMPARE_READ_BYTES_MAX,
    RESYNC_READ_BYTES_MAX,
    RESYNC_READ_ZEROS_BYTES_MAX,
    ZERO_FRAME_BYTES_MAX,
)
from twinsite.core.tracking.dirty_map import DirtyMap

READ_BLOCKS_MAX = RESYNC_READ_BYTES_MAX // BLOCK_BYTES
"""Most blocks of data that one order brings, and most that are read at a time to be digested."""
COMPARE_READ_BLOCKS_MAX = COMPARE_READ_BYTES_MAX // BLOCK_BYTES
"""Most blocks of data that one order digests, and that one comparison names."""
READ_ZEROS_BLOCKS_MAX = RESYNC_READ_ZEROS_BYTES_MAX // BLOCK_BYTES
"""About the most blocks that one order goes through as long as they hold nothing but zeros."""
RUN_BLOCKS_MAX = ZERO_FRAME_BYTES_MAX // BLOCK_BYTES
"""Longest run of one order. Only a hole can make it that long; what has to be read ends it earlier."""


class Piece(NamedTuple):
    """Consecutive blocks that were read: `data` is their content, or None when they hold only zeros.

    Of a comparison, `data` is the digest of each block instead. What lies in a hole was not even read. `packed` is the
    compressed form of all of `data`, where that is wanted and smaller.
    """

    first_block: int
    block_count: int
    data: bytes | bytearray | memoryview | None
    is_hole: bool = False
    packed: bytes | None = None


@dataclass(slots=True, eq=False)
class ReadOrder:
    """A read for the shell to do: `block_count` dirty blocks of member `index` at most, from `first_block` on.

    The shell may stop after `RESYNC_READ_BYTES_MAX` bytes of data, or, of a comparison, `COMPARE_READ_BYTES_MAX`, and
    after about `RESYNC_READ_ZEROS_BYTES_MAX` that were read as zeros; it must say how many blocks it covered.
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


class MemberReads:
    """The reads of one member that are out: a cursor over a map of blocks, front to back and round again.

    Where there is data, several short reads are out at once, side by side, and several longer ones where data is zeros;
    where there is a hole, one very long read finds its end. What the last read found decides how the next one is cut.
    """

    def __init__(self, index: int, blocks: DirtyMap, data_blocks_max: int = READ_BLOCKS_MAX) -> None:
        """`data_blocks_max` is how many blocks of data one of the reads may cover."""
        self.index = index
        self._data_blocks_max = data_blocks_max
        self.orders: list[ReadOrder] = []
        self._blocks = blocks
        self._cursor = 0
        self._run_blocks_max = RUN_BLOCKS_MAX

    def touch(self, offset: int, length: int) -> None:
        """A guest wrote this range while reads were out."""
        for order in self.orders:
            order.touch(offset, length)

    def forget(self) -> None:
        """The session of the reads is over; their results will not be taken."""
        self.orders.clear()
        self._cursor = 0
        self._run_blocks_max = RUN_BLOCKS_MAX

    def _next_run(self, *, count_max: int | None = None, may_start_over: bool) -> tuple[int, int] | None:
        """Return (first, count) of the blocks to read next and move behind them, or None for now."""
        if self.orders and self._run_blocks_max == RUN_BLOCKS_MAX:
            return None
        if count_max is None:
            count_max = self._run_blocks_max
        is_past_end = self._cursor >= self._blocks.block_count
        run = None if is_past_end else self._blocks.next_run(self._cursor, count_max)
        if run is None and may_start_over:
            run = self._blocks.next_run(0, count_max)
        if run is not None:
            self._cursor = run[0] + run[1]
        return run

    def _take_back(self, order: ReadOrder, pieces: list[Piece], bytes_a_block: int) -> tuple[list[Piece], int]:
        """Return the pieces without what was overtaken, and the block behind them. They begin where the order does."""
        self.orders.remove(order)
        end = order.first_block
        sendable: list[Piece] = []
        for piece in pieces:
            assert piece.first_block == end
            end += piece.block_count
            sendable.extend(_without(piece, order.overtaken, bytes_a_block))
        assert order.first_block < end <= order.first_block + order.block_count
        if pieces[-1].is_hole:
            self._run_blocks_max = RUN_BLOCKS_MAX
        elif any(piece.data is not None for piece in pieces):
            self._run_blocks_max = self._data_blocks_max
        else:
            self._run_blocks_max = READ_ZEROS_BLOCKS_MAX
        return sendable, end


class MemberResync(MemberReads):
    """The resync of one member: reads over its dirty map.

    A read that guests have overtaken completely is followed by one of a single block that the shell does at once: a
    block that a guest never leaves alone would otherwise keep the resync from ending.
    """

    def __init__(self, index: int, dirty: DirtyMap) -> None:
        super().__init__(index, dirty)
        self.dirty = dirty
        self._is_contended = False

    def next_order(self, session: int) -> ReadOrder | None:
        """Return a read to do next, or None while those that are out must come back first, or nothing is dirty."""
        run = self._next_run(count_max=1 if self._is_contended else None, may_start_over=not self.orders)
        if run is None:
            return None
        order = ReadOrder(self.index, run[0], run[1], session, self._is_contended)
        self._is_contended = False
        self.orders.append(order)
        return order

    def take_back(self, order: ReadOrder, pieces: list[Piece]) -> list[Piece]:
        """The read is done: return what may be sent of it, and count that as no longer dirty.

        Pieces are consecutive from `order.first_block` on. Overtaken blocks stay dirty.
        """
        sendable, end = self._take_back(order, pieces, BLOCK_BYTES)
        if not self.orders:
            self._cursor = end
        self._is_contended = not sendable
        for piece in sendable:
            self.dirty.clear_blocks(piece.first_block, piece.block_count)
        return sendable

    def forget(self) -> None:
        """The session of the reads is over; their results will not be taken."""
        super().forget()
        self._is_contended = False


def _without(piece: Piece, overtaken: set[int], bytes_a_block: int) -> list[Piece]:
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
