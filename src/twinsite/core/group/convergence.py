"""How a primary and its secondary come together: what differs is copied, what may differ is compared, or healed.

The half of the machine of `primary` that reads blocks, asks the secondary about them, and takes what it answers. It
knows the stream, and nothing of hosts or of the arbiter.
"""

from __future__ import annotations

from collections.abc import Sequence

from twinsite.core.group.comparing import BlockRun, Questions
from twinsite.core.group.flight import Flight, Token
from twinsite.core.group.member import Member, ResyncTally
from twinsite.core.group.resync import Piece, ReadOrder
from twinsite.core.group.states import MIRRORING, Event, Phase, next_phase
from twinsite.core.limits import BLOCK_BYTES, RESYNC_IN_FLIGHT_BYTES_MAX, RESYNC_READS_MAX
from twinsite.core.stream.frames import SEED_BYTES, Flag, Frame, Kind, encode_header, encode_json
from twinsite.errors import PeerViolation


class Convergence:
    """The stream of a primary, and the blocks that differ or may differ. `Primary` is the whole machine."""

    def __init__(self, members: Sequence[Member], sequence: int) -> None:
        """Start with what the members' maps say; `sequence` is the last one used."""
        self.members = {member.index: member for member in members}
        self.sequence = sequence
        self.phase = Phase.HOLDING
        self.session = 0
        self.outbox: list[bytes | bytearray | memoryview] = []
        self.flight = Flight()
        self.tally: ResyncTally | None = None
        self._mirrors = True
        self._questions = Questions()
        self._contents: list[tuple[int, int, memoryview]] = []
        self._seed = 0
        self._reads_out = 0
        self._end_sequence = 0

    def grow(self, index: int, size_bytes: int) -> None:
        """A member's store has grown here and at the secondary; the new range reads as zeros on both sides."""
        member = self.members[index]
        old_bytes = member.dirty.size_bytes
        if old_bytes % BLOCK_BYTES:
            # A read that is out brings the last block as short as it was: read it again.
            self._overtake(index, old_bytes - 1, 1)
        member.dirty.grow(size_bytes)
        member.suspect.grow(size_bytes)

    def next_read(self) -> ReadOrder | None:
        """Return a resync read for the shell to do, or None when there is nothing to read or no room to send it."""
        if self.phase not in _READING:
            return None
        if self.flight.resync_bytes >= RESYNC_IN_FLIGHT_BYTES_MAX or self._reads_out >= RESYNC_READS_MAX:
            return None
        may_copy = self.phase is not Phase.HEALING
        may_compare = self.phase is not Phase.MIRRORED and self._questions.may_compare()
        for member in self.members.values():
            order = member.resync.next_order(self.session) if may_copy else None
            if order is None and may_compare:
                order = member.compare.next_order(self.session, self._seed)
            if order is not None:
                self._reads_out += 1
                return order
        return None

    def read_done(self, order: ReadOrder, pieces: list[Piece]) -> None:
        """A read is done: send what no guest has overtaken. Of an ended session nothing is taken."""
        if order.session != self.session or (self.phase not in _READING and self.phase is not Phase.STOPPING):
            return
        self._reads_out -= 1
        member = self.members[order.index]
        if order.seed is not None:
            self._compare(member, order, pieces)
            self._finish_if_shipped()
            return
        tally = self.tally
        assert tally is not None
        for piece in member.resync.take_back(order, pieces):
            offset = piece.first_block * BLOCK_BYTES
            length = member.bytes_of(piece.first_block, piece.block_count)
            if piece.data is None:
                tally.bytes_zero += length
                self._send(Kind.ZERO, Flag.RESYNC | Flag.PUNCH, order.index, offset, length, None, None, True)
            else:
                assert len(piece.data) == length
                tally.bytes_shipped += length
                # What is sent while this side mirrors may have to be sent again, to who knows which release.
                if piece.packed is not None and not self._mirrors:
                    self._send_packed(order.index, offset, length, piece.packed)
                else:
                    self._send(Kind.WRITE, Flag.RESYNC, order.index, offset, length, piece.data, None, True)
        self._finish_if_shipped()

    def take_contents(self) -> list[tuple[int, int, memoryview]]:
        """Return what the secondary sent to heal this side: (member index, offset, data) for the shell to write.

        To be called, and `content_applied` for each, before the receive buffer is filled again.
        """
        contents, self._contents = self._contents, []
        return contents

    def content_applied(self, index: int, offset: int, length: int) -> None:
        """What the secondary holds there is in the local store."""
        tally = self.tally
        assert tally is not None
        tally.bytes_shipped += length
        self.members[index].dirty.clear_blocks(offset // BLOCK_BYTES, -(-length // BLOCK_BYTES))
        self._ask()

    @property
    def is_healed(self) -> bool:
        """Say whether everything that may have differed is the secondary's; the shell then flushes the stores."""
        return self.phase is Phase.HEALING and not self._reads_out and not self._questions.any() and not self.is_dirty

    @property
    def oldest_question(self) -> int | None:
        """Return the sequence of the oldest comparison or fetch that the secondary has not answered, or None."""
        return self._questions.oldest()

    @property
    def is_dirty(self) -> bool:
        """Say whether the secondary may lack anything that is not on its way."""
        return any(member.differs() for member in self.members.values())

    def resync_bytes_left(self, member: Member) -> int:
        """Return how many bytes of a member the secondary has not yet got and acknowledged."""
        return member.differing_bytes() + self.flight.resync_bytes_of.get(member.index, 0)

    # Inside

    def _enter(self, event: Event) -> None:
        self.phase = next_phase(self.phase, event)
        self._mirrors = self.phase in MIRRORING

    def _send(
        self,
        kind: int,
        flags: int,
        index: int,
        offset: int,
        length: int,
        data: bytes | bytearray | memoryview | None,
        token: Token | None,
        is_resync: bool = False,
    ) -> None:
        self.sequence = sequence = self.sequence + 1
        self.outbox.append(encode_header(kind, flags, index, length, sequence, offset, data))
        payload_bytes = 0
        if data is not None:
            self.outbox.append(data)
            payload_bytes = length
        self.flight.add(sequence, index, offset, length, payload_bytes, is_resync, token)

    def _send_packed(self, index: int, offset: int, length: int, packed: bytes) -> None:
        self.sequence += 1
        self.outbox.append(encode_header(Kind.PACKED, Flag.RESYNC, index, len(packed), self.sequence, offset, packed))
        self.outbox.append(packed)
        self.flight.add(self.sequence, index, offset, length, len(packed), True, None)

    def _send_json(self, kind: Kind, body: dict[str, str]) -> None:
        self.sequence += 1
        self.outbox.append(encode_json(kind, body, self.sequence))
        self.flight.add(self.sequence, 0, 0, 0, 0, False, None)

    def _count_differences(self) -> int:
        for member in self.members.values():
            # What is copied anyway need not be compared.
            member.suspect.remove(member.dirty)
            member.resync_bytes_total = member.differing_bytes()
        return sum(member.resync_bytes_total for member in self.members.values())

    def _overtake(self, index: int, offset: int, length: int) -> None:
        member = self.members[index]
        member.resync.touch(offset, length)
        member.compare.touch(offset, length)

    def _compare(self, member: Member, order: ReadOrder, pieces: list[Piece]) -> None:
        """Ask the secondary about what was read; what a guest has overtaken is copied instead.

        While this side heals no guest does: a block that was read short, before its volume grew, is fetched.
        """
        for block in order.overtaken:
            run = BlockRun(member.index, block, 1)
            self._differ(run)
            if self.phase is Phase.HEALING:
                self._questions.want(run)
        for piece in member.compare.take_back(order, pieces):
            run = BlockRun(member.index, piece.first_block, piece.block_count)
            offset = run.first_block * BLOCK_BYTES
            if piece.data is None:
                length = member.bytes_of(run.first_block, run.block_count)
                self._send(Kind.COMPARE_ZERO, 0, member.index, offset, length, None, None)
            else:
                payload = self._seed.to_bytes(SEED_BYTES, "big") + bytes(piece.data)
                self._send(Kind.COMPARE, 0, member.index, offset, len(payload), payload, None)
            self._questions.compare_sent(self.sequence, run)
            member.compare.unanswered += 1
        self._ask()

    def _compared(self, frame: Frame) -> None:
        """Drop the suspicion of what is equal; copy, or fetch, what is not."""
        assert frame.payload is not None
        run, differing = self._questions.compared(frame.sequence, frame.payload)
        member, tally = self.members[run.volume], self.tally
        assert tally is not None
        member.compare.unanswered -= 1
        tally.bytes_compared += run.block_count * BLOCK_BYTES
        if self.phase not in (Phase.HEALING, Phase.COPYING):
            return
        member.suspect.clear_blocks(run.first_block, run.block_count)
        for part in differing:
            self._differ(part)
            if self.phase is Phase.HEALING:
                self._questions.want(part)
        self._ask()
        self._finish_if_shipped()

    def _differ(self, run: BlockRun) -> None:
        member = self.members[run.volume]
        member.suspect.clear_blocks(run.first_block, run.block_count)
        member.dirty.mark_blocks(run.first_block, run.block_count)

    def _ask(self) -> None:
        """Fetch what is wanted, as far as may be out at once."""
        while (run := self._questions.next_fetch()) is not None:
            offset = run.first_block * BLOCK_BYTES
            length = self.members[run.volume].bytes_of(run.first_block, run.block_count)
            self._send(Kind.FETCH, 0, run.volume, offset, length, None, None)
            self._questions.fetch_sent(self.sequence, run)

    def _fetched(self, frame: Frame) -> None:
        assert frame.payload is not None
        run = self._questions.fetched(frame.sequence)
        offset = run.first_block * BLOCK_BYTES
        if len(frame.payload) != self.members[run.volume].bytes_of(run.first_block, run.block_count):
            raise PeerViolation(
                f"the secondary sent {len(frame.payload)} bytes where {frame.sequence} asked for others"
            )
        if self.phase is Phase.HEALING:
            self._contents.append((run.volume, offset, frame.payload))

    def _finish_if_shipped(self) -> None:
        if self.phase is not Phase.COPYING or self._reads_out or self._questions.any():
            return
        if self.is_dirty:
            return
        self._enter(Event.SHIPPED)
        self._send_json(Kind.RESYNC_END, {})
        self._end_sequence = self.sequence

    def _forget_reads(self) -> None:
        for member in self.members.values():
            member.resync.forget()
            member.compare.forget()
        self._questions.forget()
        self._contents.clear()
        self._reads_out = 0


_READING = (Phase.COPYING, Phase.MIRRORED, Phase.HEALING)
"""Phases in which blocks are read to be copied or compared."""
