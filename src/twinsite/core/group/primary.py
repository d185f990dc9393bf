"""The primary's side of a group: for each write that was applied locally, does it travel, is it tracked, who is told?

No I/O: the shell applies a write to its store first and then calls in here. What is to be sent piles up in `outbox`
(header and payload side by side) and what is to be acknowledged in `completed`; the shell drains both after each batch.
A payload in the outbox is a view of a receive buffer, so the shell must send or copy it before that is filled again.

Calls are per write on purpose and take positional arguments: this is the hot path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twinsite.core.group.flight import Entry, Flight, FlushWaiter, Token
from twinsite.core.group.resync import MemberResync, Piece, ReadOrder
from twinsite.core.group.states import MIRRORING, Event, Phase, next_phase
from twinsite.core.limits import BLOCK_BYTES, RESYNC_IN_FLIGHT_BYTES_MAX, RESYNC_READS_MAX
from twinsite.core.stream.frames import Flag, Frame, Kind, encode_header, encode_json
from twinsite.core.stream.hello import Welcome
from twinsite.core.tracking.dirty_map import DirtyMap
from twinsite.errors import InternalError, PeerViolation


@dataclass(slots=True)
class ResyncTally:
    """What a resync had to cover and has covered, in bytes of volume."""

    kind: str  # "full" or "delta"
    bytes_total: int
    bytes_shipped: int = 0
    bytes_zero: int = 0


class Member:
    """One volume of the group at the primary."""

    def __init__(self, index: int, volume_id: str, dirty: DirtyMap) -> None:
        self.index = index
        self.volume_id = volume_id
        self.dirty = dirty
        self.resync = MemberResync(index, dirty)
        self.resync_bytes_total = dirty.dirty_bytes()


class Primary:
    """The replication machine of a primary. See `states` for its phases and the invariant they keep."""

    def __init__(
        self, members: Sequence[Member], *, generations: frozenset[str], sequence: int, peer_consistent: bool
    ) -> None:
        """Start holding: nobody has confirmed that this side is primary and may acknowledge.

        `generations` are the lineages of the secondary's image that the members' dirty maps are good for; `sequence`
        is the last one used; `peer_consistent` says whether the secondary's image was at a common point when last
        heard of.
        """
        self.members = {member.index: member for member in members}
        self.generations = generations
        self.sequence = sequence
        self.acknowledged_sequence = sequence
        self.peer_consistent = peer_consistent
        self.phase = Phase.HOLDING
        self.session = 0
        self.outbox: list[bytes | bytearray | memoryview] = []
        self.completed: list[Token] = []
        self.flight = Flight()
        self.tally: ResyncTally | None = None
        self.may_be_recorded = True  # The arbiter may have the secondary as in sync.
        self.is_confirmed = False  # It has, and has said so.
        self._can_resume = not self.is_dirty
        self._mirrors = True
        self._reads_out = 0
        self._begin_sequence = 0
        self._begin_generation = ""
        self._end_sequence = 0

    # What hosts do

    def write_applied(self, index: int, offset: int, data: bytes | bytearray | memoryview, token: Token | None) -> None:
        """A host's write is in the local store. `token` is None for a piece of a long write that is not its last."""
        length = len(data)
        if self._mirrors:
            if self._reads_out:
                self._overtake(index, offset, length)
            self._send(Kind.WRITE, 0, index, offset, length, data, token)
            return
        self._applied_while_stale(Kind.WRITE, 0, index, offset, length, data, token)

    def zero_applied(self, index: int, offset: int, length: int, punch: bool, token: Token | None) -> None:
        """A host's trim or write-zeroes is in the local store; `length` is at most `ZERO_FRAME_BYTES_MAX`."""
        flags = Flag.PUNCH if punch else 0
        if self._mirrors:
            if self._reads_out:
                self._overtake(index, offset, length)
            self._send(Kind.ZERO, flags, index, offset, length, None, token)
            return
        self._applied_while_stale(Kind.ZERO, flags, index, offset, length, None, token)

    def flush_begun(self, index: int, token: Token) -> FlushWaiter:
        """A host flushes: the shell starts the local flush and tells `flush_local_done` when that is over.

        A FUA write is a write without a token followed by this.
        """
        is_alone = not self._mirrors and self.phase is not Phase.REPLACED
        waiter = FlushWaiter(index, token, is_remote_done=is_alone)
        if self._mirrors:
            self._send(Kind.FLUSH, 0, index, 0, 0, None, None)
            self.flight.waiters[self.sequence] = waiter
        return waiter

    def flush_local_done(self, waiter: FlushWaiter) -> None:
        """The local store is flushed."""
        waiter.is_local_done = True
        self._settle(waiter)

    def flush_local_failed(self, waiter: FlushWaiter) -> None:
        """The local flush failed and the shell has told the host so: nobody waits any more."""
        waiter.token = None

    def write_failed(self, index: int, offset: int, length: int) -> None:
        """A host's write failed locally and may have changed part of the range: the two sides may differ there."""
        if self._reads_out:
            self._overtake(index, offset, length)
        self.members[index].dirty.mark(offset, length)

    def grow(self, index: int, size_bytes: int) -> None:
        """A member's store has grown here and at the secondary; the new range reads as zeros on both sides."""
        member = self.members[index]
        old_bytes = member.dirty.size_bytes
        if old_bytes % BLOCK_BYTES:
            # A read that is out brings the last block as short as it was: read it again.
            self._overtake(index, old_bytes - 1, 1)
        member.dirty.grow(size_bytes)

    # What the stream does

    @property
    def first_sequence(self) -> int:
        """Return the sequence that a new session starts with: of the oldest frame that has to be sent again, or new."""
        return self.flight.entries[0].sequence if self.flight.entries else self.sequence + 1

    def connected(self, welcome: Welcome, new_generation: str) -> bool:
        """The secondary is there: resume, or start a resync of what it lacks. `new_generation` is a fresh random name.

        Returns False when neither may be: the primary holds, and only the arbiter's grant lets a resync begin.
        """
        assert not self.outbox
        known = welcome.generation in self.generations and not welcome.suspect
        if self.phase is Phase.HOLDING:
            if not (self._can_resume and known and welcome.consistent):
                return False
            self._resume()
            return True
        self._enter(Event.CONNECTED)
        self.session += 1
        self._begin_resync("delta" if known else "full", new_generation)
        return True

    def _begin_resync(self, kind: str, new_generation: str) -> None:
        for member in self.members.values():
            if kind == "full":
                member.dirty.mark_all()
            member.resync_bytes_total = member.dirty.dirty_bytes()
        total = sum(member.resync_bytes_total for member in self.members.values())
        self.tally = ResyncTally(kind, total)
        if total:
            self.peer_consistent = False
            self.generations |= {new_generation}
            self._begin_generation = new_generation
            self._send_json(Kind.RESYNC_BEGIN, {"generation": new_generation})
            self._begin_sequence = self.sequence
        self._finish_if_shipped()

    def _resume(self) -> None:
        self._enter(Event.RESUMED)
        self.session += 1
        self.peer_consistent = True
        if self.tally is None:
            self.tally = ResyncTally("delta", 0)
        flight = self.flight
        self.outbox.extend(flight.take_frames_to_resend(self.first_sequence - 1))
        # A FLUSH that was applied, but whose answer was lost, is asked anew.
        unanswered = [sequence for sequence in flight.waiters if sequence < self.first_sequence]
        for sequence in unanswered:
            waiter = flight.waiters.pop(sequence)
            self._send(Kind.FLUSH, 0, waiter.index, 0, 0, None, None)
            flight.waiters[self.sequence] = waiter

    def received(self, frames: Sequence[Frame]) -> None:
        """Take acknowledgements; raises `PeerViolation` for one of what was never sent."""
        for frame in frames:
            if frame.kind == Kind.ACK:
                self._acknowledged(frame.sequence)
            elif frame.kind == Kind.FLUSHED:
                self._flushed(frame.sequence)
            elif frame.kind != Kind.HEARTBEAT:
                raise PeerViolation(f"a secondary does not send frames of kind {frame.kind} here")

    def stop(self) -> None:
        """The user wants no replication: end what is on its way; `is_drained` says when that is over."""
        self._enter(Event.STOPPED)
        # A grant that is asked for may be recorded although its answer is lost, so nothing is confirmed any more.
        self.is_confirmed = False

    def want(self) -> None:
        """The user wants replication, perhaps after a stop that has not got its grant."""
        self._enter(Event.WANTED)

    @property
    def is_drained(self) -> bool:
        """Say whether a stopped stream has nothing in flight any more."""
        return self.phase is Phase.DRAINING and not self.flight.entries and not self.flight.waiters

    def drained(self) -> None:
        """The shell has said goodbye after `is_drained`."""
        if not self.is_drained:
            raise InternalError("goodbye was said with frames in flight")
        self._enter(Event.DRAINED)
        self._end_session()

    def broken(self) -> None:
        """The connection is gone, or could not be made.

        While the secondary may be recorded as in sync, everything in flight is held; otherwise it becomes dirty, and
        production goes on alone.
        """
        self._enter(Event.BROKEN)
        if self.phase is Phase.HOLDING:
            self.is_confirmed = False
            self._forget_reads()
            if not self.may_be_recorded:
                self.granted()
        elif self.phase is not Phase.REPLACED:
            self._end_session()

    # What the arbiter says

    @property
    def wants_grant(self) -> bool:
        """Say whether the arbiter is to be asked to record the secondary as stale."""
        return self.phase in (Phase.HOLDING, Phase.STOPPING)

    @property
    def wants_report(self) -> bool:
        """Say whether the arbiter is to be told that the secondary is in sync."""
        return self.phase is Phase.MIRRORED and not self.is_confirmed

    def report_sent(self) -> None:
        """The report that the secondary is in sync is on its way: from now on it may be recorded."""
        self.may_be_recorded = True

    def reported(self) -> None:
        """The arbiter has recorded that the secondary is in sync."""
        if self.phase is Phase.MIRRORED:
            self.is_confirmed = True

    def granted(self) -> None:
        """The arbiter has recorded that the secondary is stale: this side may acknowledge alone."""
        self._enter(Event.GRANTED)
        self.may_be_recorded = self.is_confirmed = False
        if self.phase is Phase.ALONE:
            self._end_session()

    def close(self) -> None:
        """The process ends: nobody is answered, and what is in flight counts as dirty in what is saved."""
        entries, _ = self.flight.clear()
        self._mark_dirty(entries)
        self.outbox.clear()

    def replaced(self) -> None:
        """Another site is primary: nobody is answered any more, and what was in flight may differ."""
        self._enter(Event.REPLACED)
        self.close()
        self._forget_reads()
        self.completed.clear()

    @property
    def oldest_unacknowledged(self) -> int | None:
        """Return the sequence that a host waits for the secondary to answer next, or None.

        The end of a resync is not among them: no host waits for it, and its flush may take long on a slow disk.
        """
        if self.flight.entries:
            return self.flight.entries[0].sequence
        return next(iter(self.flight.waiters), None)

    def take_batch(self) -> bytes | None:
        """Return what is to be sent now as one piece of bytes, or None. What may have to be sent again is kept."""
        if not self.outbox:
            return None
        batch = b"".join(self.outbox)
        self.outbox.clear()
        if self._mirrors:
            self.flight.keep(self.sequence, batch)
        return batch

    # What the resync does

    def next_read(self) -> ReadOrder | None:
        """Return a resync read for the shell to do, or None when there is nothing to read or no room to send it."""
        if self.phase is not Phase.COPYING and self.phase is not Phase.MIRRORED:
            return None
        if self.flight.resync_bytes >= RESYNC_IN_FLIGHT_BYTES_MAX or self._reads_out >= RESYNC_READS_MAX:
            return None
        for member in self.members.values():
            order = member.resync.next_order(self.session)
            if order is not None:
                self._reads_out += 1
                return order
        return None

    def read_done(self, order: ReadOrder, pieces: list[Piece]) -> None:
        """A resync read is done: send what no guest has overtaken. Of an ended session nothing is taken."""
        if order.session != self.session or self.phase not in (Phase.COPYING, Phase.MIRRORED, Phase.STOPPING):
            return
        self._reads_out -= 1
        member = self.members[order.index]
        tally = self.tally
        assert tally is not None
        for piece in member.resync.take_back(order, pieces):
            offset = piece.first_block * BLOCK_BYTES
            length = min(piece.block_count * BLOCK_BYTES, member.dirty.size_bytes - offset)
            if piece.data is None:
                tally.bytes_zero += length
                self._send(Kind.ZERO, Flag.RESYNC | Flag.PUNCH, order.index, offset, length, None, None, True)
            else:
                assert len(piece.data) == length
                tally.bytes_shipped += length
                self._send(Kind.WRITE, Flag.RESYNC, order.index, offset, length, piece.data, None, True)
        self._finish_if_shipped()

    @property
    def is_dirty(self) -> bool:
        """Say whether the secondary may lack anything that is not on its way."""
        return any(member.dirty.any() for member in self.members.values())

    def resync_bytes_left(self, member: Member) -> int:
        """Return how many bytes of a member the secondary has not yet got and acknowledged."""
        return member.dirty.dirty_bytes() + self.flight.resync_bytes_of.get(member.index, 0)

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

    def _send_json(self, kind: Kind, body: dict[str, str]) -> None:
        self.sequence += 1
        self.outbox.append(encode_json(kind, body, self.sequence))
        self.flight.add(self.sequence, 0, 0, 0, 0, False, None)

    def _applied_while_stale(
        self,
        kind: int,
        flags: int,
        index: int,
        offset: int,
        length: int,
        data: bytes | bytearray | memoryview | None,
        token: Token | None,
    ) -> None:
        dirty = self.members[index].dirty
        if self.phase is not Phase.COPYING:
            dirty.mark(offset, length)
            if self.phase is Phase.REPLACED:
                return
        else:
            if self._reads_out:
                self._overtake(index, offset, length)
            if not dirty.covers(offset, length):
                self._send(kind, flags, index, offset, length, data, None)
        if token is not None:
            self.completed.append(token)

    def _overtake(self, index: int, offset: int, length: int) -> None:
        self.members[index].resync.touch(offset, length)

    def _acknowledged(self, sequence: int) -> None:
        if not self.acknowledged_sequence <= sequence <= self.sequence:
            raise PeerViolation(
                f"the secondary acknowledged {sequence}; {self.acknowledged_sequence} to {self.sequence} are possible"
            )
        self.acknowledged_sequence = sequence
        self.flight.acknowledge(sequence, self.completed)
        if self._begin_sequence and sequence >= self._begin_sequence:
            # The secondary carries the new name durably, so the old ones can never come back.
            self._begin_sequence = 0
            self.generations = frozenset({self._begin_generation})

    def _flushed(self, sequence: int) -> None:
        if sequence and sequence == self._end_sequence:
            self._end_sequence = 0
            self.peer_consistent = self._can_resume = True
            self._enter(Event.RECORDED)
            return
        waiter = self.flight.waiters.pop(sequence, None)
        if waiter is None:
            raise PeerViolation(f"the secondary flushed {sequence}, which asked for no flush")
        waiter.is_remote_done = True
        self._settle(waiter)

    def _settle(self, waiter: FlushWaiter) -> None:
        if self.phase is Phase.REPLACED:
            return
        if waiter.is_local_done and waiter.is_remote_done and waiter.token is not None:
            self.completed.append(waiter.token)
            waiter.token = None

    def _finish_if_shipped(self) -> None:
        if self.phase is not Phase.COPYING or self._reads_out:
            return
        if self.is_dirty:
            return
        self._enter(Event.SHIPPED)
        self._send_json(Kind.RESYNC_END, {})
        self._end_sequence = self.sequence

    def _end_session(self) -> None:
        """The session is over and the secondary stale: what was in flight is dirty, and whoever waited is answered."""
        entries, waiters = self.flight.clear()
        self._mark_dirty(entries)
        self.completed.extend(entry.token for entry in entries if entry.token is not None)
        for waiter in waiters:
            waiter.is_remote_done = True
            self._settle(waiter)
        self._forget_reads()
        self.outbox.clear()
        self.session += 1
        self._can_resume = False
        self._begin_sequence = self._end_sequence = 0

    def _mark_dirty(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.length:
                self.members[entry.volume].dirty.mark(entry.offset, entry.length)

    def _forget_reads(self) -> None:
        for member in self.members.values():
            member.resync.forget_orders()
        self._reads_out = 0
