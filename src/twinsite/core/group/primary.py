"""The primary's side of a group: for each write that was applied locally, does it travel, is it tracked, who is told?

No I/O: the shell applies a write to its store first and then calls in here. What is to be sent piles up in `outbox`
(header and payload side by side) and what is to be acknowledged in `completed`; the shell drains both after each batch.
A payload in the outbox is a view of a receive buffer, so the shell must send or copy it before that is filled again.

Calls are per write on purpose and take positional arguments: this is the hot path.
"""

from __future__ import annotations

from collections.abc import Sequence

from xxhash import xxh3_64_intdigest

from twinsite.core.group.comparing import BlockRun
from twinsite.core.group.convergence import Convergence
from twinsite.core.group.flight import Entry, FlushWaiter, Token
from twinsite.core.group.member import Member, ResyncTally
from twinsite.core.group.recovery import FLUSH_FAILED, Action, Consequence, decide, judge, may_ask_alone
from twinsite.core.group.states import Event, Phase
from twinsite.core.limits import LINEAGES_MAX
from twinsite.core.stream.frames import Flag, Frame, Kind
from twinsite.core.stream.hello import Welcome
from twinsite.errors import InternalError, PeerViolation

_ACK = int(Kind.ACK)
_WANT_GRANT = (Phase.HOLDING, Phase.STOPPING)  # No set: the hash of a member is a function in Python.


class Primary(Convergence):
    """The replication machine of a primary. See `states` for its phases and the invariant they keep."""

    def __init__(
        self,
        members: Sequence[Member],
        *,
        generations: frozenset[str],
        sequence: int,
        peer_consistent: bool,
        peer_has_all: bool = False,
        lacks_writes: bool = False,
        reads_prove_nothing: bool = False,
    ) -> None:
        """Start holding: nobody has confirmed that this side is primary and may acknowledge.

        `generations` are the lineages of the secondary's image that the members' maps are good for; `sequence` is the
        last one used; `peer_consistent` says whether the secondary's image was at a common point when last heard of.
        `recovery` explains `peer_has_all` and `lacks_writes`. `reads_prove_nothing`: a flush failed here, so what is to
        be healed is taken without a comparison.
        """
        super().__init__(members, sequence)
        self.generations = generations
        self.acknowledged_sequence = sequence
        self.peer_consistent = peer_consistent
        self.peer_has_all = peer_has_all
        self.lacks_writes = lacks_writes
        self.completed: list[Token] = []
        self.may_be_recorded = True  # The arbiter may have the secondary as in sync.
        self.is_confirmed = False  # It has, and has said so.
        self._is_starting = True  # No host has seen what this side holds.
        self._reads_prove_nothing = reads_prove_nothing
        self._heals_from_led = False
        self.is_unsettled = False
        """What is taken from the secondary is not known to be flushed: the stream is healed anew, and not resumed."""
        self.is_flushing_healed = False
        """The shell flushes what was healed, or has failed to: until it is done nobody knows what this side has."""
        self.needs_new_stores = False
        """A flush failed here, and the secondary has everything: this side only waits for the end of its role."""
        self._begin_sequence = 0
        self._begin_generation = ""

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
        """The local flush failed: nobody is told that it is done. The shell tells the host, or cuts it off."""
        waiter.token = None

    def disk_failed(self) -> bool:
        """A flush has failed here. Return whether the stores must be opened anew, and their content be healed.

        From then on there is no grant, so what hosts were told stays with the secondary. To be asked again when the
        secondary may have got everything meanwhile.
        """
        self.needs_new_stores |= FLUSH_FAILED[self.phase, self.peer_has_all] is Consequence.RENEW
        return self.needs_new_stores

    def write_failed(self, index: int, offset: int, length: int) -> None:
        """A host's write failed locally and may have changed part of the range: the two sides may differ there."""
        if self._reads_out:
            self._overtake(index, offset, length)
        self.members[index].dirty.mark(offset, length)

    # What the stream does

    @property
    def first_sequence(self) -> int:
        """Return the sequence that a new session starts with: of the oldest frame that has to be sent again, or new."""
        return self.flight.entries[0].sequence if self.flight.entries else self.sequence + 1

    def nobody_has_more(self) -> None:
        """What may be missing here is nowhere else either, or somebody has accepted the loss."""
        self.lacks_writes = False

    def consider(self, welcome: Welcome) -> Action:
        """Return what is to be done with a secondary while this side holds."""
        return decide(
            judge(welcome, self.generations),
            peer_has_all=self.peer_has_all,
            lacks_writes=self.lacks_writes,
            # Later, this side holds with everything in flight, and hosts have seen what it has.
            differs=self._is_starting and (self.is_dirty or self.is_unsettled),
        )

    def lineages_with(self, welcome: Welcome, new_generation: str) -> frozenset[str]:
        """Return the lineages that the secondary may be of once it is told that it is of a new one.

        A secondary that cannot take that, as on a full disk, is told again and again: the names must not pile up.
        """
        known = self.generations
        if len(known) >= LINEAGES_MAX:
            known = known & {welcome.generation, *welcome.led}
        return known | {new_generation}

    def connected(self, welcome: Welcome, new_generation: str) -> bool:
        """The secondary is there: resume, heal, or start a resync. `new_generation` is a fresh random name.

        A resync covers what the maps say; the caller has added what the welcome brings into doubt. Returns False when
        nothing may be done: the primary holds, and only the arbiter's grant lets a resync begin.
        """
        assert not self.outbox
        self._seed = xxh3_64_intdigest(new_generation.encode())
        if self.phase is Phase.HOLDING:
            action = self.consider(welcome)
            if action not in (Action.RESUME, Action.HEAL):
                return False
            self._heals_from_led = welcome.generation not in self.generations
            if not self._heals_from_led:
                self.generations = frozenset({welcome.generation})
            if action is Action.RESUME:
                self._resume()
            else:
                self._heal()
            return True
        self._enter(Event.CONNECTED)
        self.session += 1
        known = welcome.generation in self.generations or any(name in self.generations for name in welcome.led)
        self._begin_resync("delta" if known else "full", welcome, new_generation)
        return True

    def _begin_resync(self, kind: str, welcome: Welcome, new_generation: str) -> None:
        total = self._count_differences()
        self.tally = ResyncTally(kind, total)
        if not total and welcome.generation in self.generations:
            self.generations = frozenset({welcome.generation})
        else:
            self.peer_consistent = False
            self.generations = self.lineages_with(welcome, new_generation)
            self._begin_generation = new_generation
            self._send_json(Kind.RESYNC_BEGIN, {"generation": new_generation})
            self._begin_sequence = self.sequence
        self._finish_if_shipped()

    def _heal(self) -> None:
        """Take the secondary's word for everything that may differ: it has every write that was acknowledged.

        What is suspected is compared; what differs is dirty until it is fetched.
        """
        self._enter(Event.HEALS)
        self.session += 1
        self.is_unsettled = True
        for member in self.members.values():
            member.suspect.add(member.dirty)
            member.dirty.clear()
        self.tally = ResyncTally("delta", self._count_differences())
        if self._reads_prove_nothing:
            for member in self.members.values():
                for first, count in member.suspect.runs():
                    self._differ(BlockRun(member.index, first, count))
                    self._questions.want(BlockRun(member.index, first, count))
            self._ask()

    def _resume(self) -> None:
        self._enter(Event.RESUMED)
        self._is_starting = False
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
            if frame.kind == _ACK:
                self._acknowledged(frame.sequence)
            elif frame.kind == Kind.FLUSHED:
                self._flushed(frame.sequence)
            elif frame.kind == Kind.COMPARED:
                self._compared(frame)
            elif frame.kind == Kind.CONTENT:
                self._fetched(frame)
            elif frame.kind != Kind.HEARTBEAT:
                raise PeerViolation(f"a secondary does not send frames of kind {frame.kind} here")

    def stop(self) -> None:
        """The user wants no replication: end what is on its way; `is_drained` says when that is over."""
        if self.phase is Phase.HEALING:
            self._end_healing()
        self._enter(Event.STOPPED)
        # A grant that is asked for may be recorded although its answer is lost, so nothing is confirmed any more.
        self.is_confirmed = False

    def want(self) -> None:
        """The user wants replication, perhaps after a stop that has not got its grant."""
        self._enter(Event.WANTED)

    @property
    def is_drained(self) -> bool:
        """Say whether a stopped stream has nothing in flight any more."""
        return not self.flight.entries and not self.flight.waiters and self.phase is Phase.DRAINING

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
        if self.phase is Phase.HEALING:
            self._end_healing()
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
        return self.phase in _WANT_GRANT

    @property
    def must_wait(self) -> bool:
        """Say whether this side may lack writes that the secondary has: it may not go on alone."""
        if self.is_flushing_healed or self.needs_new_stores:
            return True
        return not may_ask_alone(peer_has_all=self.peer_has_all, lacks_writes=self.lacks_writes)

    @property
    def wants_report(self) -> bool:
        """Say whether the arbiter is to be told that the secondary is in sync."""
        return not self.is_confirmed and self.phase is Phase.MIRRORED

    def report_sent(self) -> None:
        """The report that the secondary is in sync is on its way: from now on it may be recorded."""
        self.may_be_recorded = True

    def reported(self) -> None:
        """The arbiter has recorded that the secondary is in sync."""
        if self.phase is Phase.MIRRORED:
            self.is_confirmed = True

    def granted(self) -> None:
        """The arbiter has recorded that the secondary is stale: this side may acknowledge alone.

        The caller has made durable before that the secondary does not have everything any more.
        """
        self._enter(Event.GRANTED)
        self.peer_has_all = self.lacks_writes = self._is_starting = self.is_unsettled = False
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

    def healed(self) -> bool:
        """The healed stores are flushed: from here on this side has everything, and mirrors.

        Returns False after healing from a former primary, whose image has no name: the session must end, and a resync,
        which finds nothing to copy, must give it one.
        """
        assert self.is_healed
        self.lacks_writes = self._reads_prove_nothing = self.is_unsettled = False
        if self._heals_from_led:
            return False
        self._enter(Event.HEALED)
        self._is_starting = False
        self.peer_consistent = True
        return True

    # Inside

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

    def _end_healing(self) -> None:
        """What was asked will not be answered; what is suspected stays so."""
        entries, _ = self.flight.clear()
        self._mark_dirty(entries)
        self.outbox.clear()
        self._forget_reads()
        self.session += 1

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
            self.peer_consistent = True
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
        self._begin_sequence = self._end_sequence = 0

    def _mark_dirty(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.length:
                self.members[entry.volume].dirty.mark(entry.offset, entry.length)
