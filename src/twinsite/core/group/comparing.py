"""Comparing what is only suspected to differ: digests travel instead of content.

A comparison has a place in the order of the stream, and each side looks at its blocks as they are at that place. So the
answer holds although guests write on: what they write later travels, and reaches both sides.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from bitarray import bitarray

from twinsite.core.group.resync import COMPARE_READ_BLOCKS_MAX, MemberReads, Piece, ReadOrder
from twinsite.core.limits import BLOCK_BYTES, COMPARES_MAX, COMPARES_OF_READ_MAX, FETCH_BYTES_MAX, FETCHES_MAX
from twinsite.core.stream.frames import DIGEST_BYTES
from twinsite.core.tracking.dirty_map import DirtyMap
from twinsite.errors import PeerViolation

FETCH_BLOCKS_MAX = FETCH_BYTES_MAX // BLOCK_BYTES


class BlockRun(NamedTuple):
    """Consecutive blocks of a member."""

    volume: int  # The member's index.
    first_block: int
    block_count: int


class MemberCompare(MemberReads):
    """The comparison of one member: reads over the blocks that are suspected, and how many answers are due.

    A suspected block stays in the map until its comparison is answered, so that a lost session loses nothing.
    """

    def __init__(self, index: int, suspect: DirtyMap) -> None:
        super().__init__(index, suspect, COMPARE_READ_BLOCKS_MAX)
        self.suspect = suspect
        self.unanswered = 0

    def next_order(self, session: int, seed: int) -> ReadOrder | None:
        """Return blocks to read and digest next, or None while answers must come first, or nothing is suspected."""
        run = self._next_run(may_start_over=not self.orders and not self.unanswered)
        if run is None:
            return None
        order = ReadOrder(self.index, run[0], run[1], session, seed=seed)
        self.orders.append(order)
        return order

    def take_back(self, order: ReadOrder, pieces: list[Piece]) -> list[Piece]:
        """The read is done: return the comparisons to send. The digests of overtaken blocks are of the past: left out.

        Pieces are consecutive from `order.first_block` on. What would be one comparison too many stays suspected.
        """
        sendable, end = self._take_back(order, pieces, DIGEST_BYTES)
        if len(sendable) > COMPARES_OF_READ_MAX:
            end = sendable[COMPARES_OF_READ_MAX].first_block
            del sendable[COMPARES_OF_READ_MAX:]
        if self._cursor == order.first_block + order.block_count:
            # What the newest read has left over is next. Of an older one it waits for the next round, since what lies
            # behind it has been asked about.
            self._cursor = end
        return sendable

    def forget(self) -> None:
        """The session is over: no answer will come."""
        super().forget()
        self.unanswered = 0


class Questions:
    """The comparisons and fetches that the secondary has not answered, by the sequence of their frames."""

    def __init__(self) -> None:
        self.to_fetch: deque[BlockRun] = deque()
        self._comparing: dict[int, BlockRun] = {}
        self._fetching: dict[int, BlockRun] = {}

    def may_compare(self) -> bool:
        """Say whether another comparison may be sent."""
        return len(self._comparing) < COMPARES_MAX

    def any(self) -> bool:
        """Say whether anything is unanswered or still to be asked."""
        return bool(self._comparing or self._fetching or self.to_fetch)

    def oldest(self) -> int | None:
        """Return the sequence of the question that was sent first of those that are unanswered, or None."""
        firsts = [next(iter(asked)) for asked in (self._comparing, self._fetching) if asked]
        return min(firsts, default=None)

    def compare_sent(self, sequence: int, run: BlockRun) -> None:
        """A comparison is on its way."""
        self._comparing[sequence] = run

    def compared(self, sequence: int, bits: memoryview) -> tuple[BlockRun, list[BlockRun]]:
        """Return what was compared and the runs in it that differ; raise `PeerViolation` for no answer of ours."""
        run = self._comparing.pop(sequence, None)
        if run is None or len(bits) != -(-run.block_count // 8):
            raise PeerViolation(f"the secondary answered comparison {sequence}, which did not ask for that")
        differs = bitarray(buffer=bits)[: run.block_count]
        runs = []
        start = differs.find(1)
        while start >= 0:
            end = differs.find(0, start)
            end = run.block_count if end < 0 else end
            runs.append(BlockRun(run.volume, run.first_block + start, end - start))
            start = differs.find(1, end)
        return run, runs

    def want(self, run: BlockRun) -> None:
        """Let a run be fetched, in pieces that one frame can bring."""
        self.to_fetch.append(run)

    def next_fetch(self) -> BlockRun | None:
        """Return a run to ask for now, or None."""
        if not self.to_fetch or len(self._fetching) >= FETCHES_MAX:
            return None
        volume, first, count = self.to_fetch.popleft()
        if count > FETCH_BLOCKS_MAX:
            # Cut when it is due: a whole volume is millions of pieces.
            self.to_fetch.appendleft(BlockRun(volume, first + FETCH_BLOCKS_MAX, count - FETCH_BLOCKS_MAX))
        return BlockRun(volume, first, min(count, FETCH_BLOCKS_MAX))

    def fetch_sent(self, sequence: int, run: BlockRun) -> None:
        """A FETCH is on its way."""
        self._fetching[sequence] = run

    def fetched(self, sequence: int) -> BlockRun:
        """Return what was asked for; raise `PeerViolation` when nothing was."""
        run = self._fetching.pop(sequence, None)
        if run is None:
            raise PeerViolation(f"the secondary sent content for {sequence}, which asked for none")
        return run

    def forget(self) -> None:
        """The session is over: no answer will come."""
        self.to_fetch.clear()
        self._comparing.clear()
        self._fetching.clear()
