"""A seeded world: a primary and a secondary machine, volumes in memory, a wire of bytes, and an arbiter far away.

The checks know nothing of the machines' insides: they look at the two sides' bytes, at who was told "done", at what had
been applied by then, and at what the arbiter has recorded.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field

from bitarray import bitarray
from xxhash import xxh3_128_digest

from twinsite.core.arbiter import Refusal, Row, first_row, secondary_in_sync, suspend_secondary
from twinsite.core.arbiter import Secondary as Recorded
from twinsite.core.group.doubts import add_doubts
from twinsite.core.group.flight import FlushWaiter
from twinsite.core.group.member import Member
from twinsite.core.group.primary import Primary
from twinsite.core.group.recovery import AFTER_GRANT, Action, Difference, judge
from twinsite.core.group.resync import Piece, ReadOrder
from twinsite.core.group.secondary import Secondary
from twinsite.core.group.states import MIRRORING, Phase
from twinsite.core.limits import BLOCK_BYTES
from twinsite.core.stream.frames import DIGEST_BYTES, SEED_BYTES, Frame, Kind, decode, decode_json, encode_header
from twinsite.core.stream.hello import Doubt, Welcome
from twinsite.core.tracking.dirty_map import DirtyMap
from twinsite.core.tracking.intents import IntentMap

SIZES_BYTES = [3 * BLOCK_BYTES + 1536, 2 * BLOCK_BYTES]


@dataclass
class PendingRead:
    """A resync read whose content was taken and whose result has not been given back."""

    order: ReadOrder
    pieces: list[Piece]


@dataclass
class SecondarySide:
    """The secondary's volumes, its record of them, and the session it has."""

    volumes: list[bytearray]
    generation: str = ""
    consistent: bool = False
    suspect: bool = False
    led: list[str] = field(default_factory=list)
    runs: list[list[int]] = field(default_factory=list)
    machine: Secondary | None = None
    received: bytearray = field(default_factory=bytearray)
    flushes: list[int] = field(default_factory=list)
    ends: set[int] = field(default_factory=set)
    applied: int = 0  # The highest sequence ever applied.


@dataclass(frozen=True)
class ArbiterCall:
    """A call on its way to the arbiter; it may arrive late, twice or never."""

    number: int
    is_suspension: bool
    site: str
    term: int
    version: int


class World:
    """One seed's world. `step` does one random thing; `heal` lets everything recover."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.primary_volumes = [bytearray(self.random.randbytes(size)) for size in SIZES_BYTES]
        self.secondary = SecondarySide([bytearray(size) for size in SIZES_BYTES])
        members = [
            Member(index, f"volume-{index}", DirtyMap(size, all_dirty=True)) for index, size in enumerate(SIZES_BYTES)
        ]
        self.machine = Primary(members, generations=frozenset(), sequence=0, peer_consistent=False)
        self.intents = {index: IntentMap(size) for index, size in enumerate(SIZES_BYTES)}
        for intents in self.intents.values():
            intents.set(0, intents.extent_count)
        self.site = "az1"
        self.term = 1
        self.row = first_row(self.site, 0.0)
        self.generation_count = 0
        self.known_version = 0
        self.calls: list[ArbiterCall] = []
        self.answers: list[tuple[int, bool, Row | Refusal]] = []
        self.awaited_call = 0
        self.call_count = 0
        self.wish_running = True
        self.to_secondary = bytearray()
        self.to_primary = bytearray()
        self.primary_received = bytearray()
        self.connected = False
        self.is_served = False  # Hosts see a primary that starts only when it was confirmed.
        self.reads: list[PendingRead] = []
        self.flush_waiters: list[FlushWaiter] = []
        self.promised: dict[int, int] = {}  # Token to the sequence that must be applied when it is told "done".
        self.outstanding: set[int] = set()
        self.told: set[int] = set()
        self.images: dict[int, bytes] = {}  # Sequence to the digest of the primary's volumes right after it.
        self.next_token = 1
        self.lost_unflushed = False
        self.trace: list[str] = []
        self.fault_rate = self.random.choice([0.01, 0.03, 0.15])
        self.arbiter_rate = self.random.choice([0.1, 0.5, 1.0])
        self.calm = self.random.choice([0, 1, 4])

    # Random steps

    def step(self) -> None:
        """Do one thing that can happen."""
        self.is_served |= self.machine.phase not in (Phase.HOLDING, Phase.HEALING)
        actions = [self.finish_local_flush]
        if self.is_served:
            actions += [self.host_write] * 6 + [self.host_zero] * 2 + [self.host_flush]
        actions += [self.deliver_to_secondary] * 4 + [self.deliver_to_primary] * 4
        actions += [self.start_read, self.finish_read] * 2
        actions += [self.finish_secondary_flush] * 2 + [self.quiet_moment] * self.calm + [self.cool]
        actions += (
            [self.connect] * 2
            + [self.start_again]
            + [self.call_arbiter, self.arbiter_takes_call, self.primary_takes_answer] * 2
        )
        if self.random.random() < self.fault_rate:
            actions = [
                self.break_connection,
                self.blip,
                self.blip,
                self.blip,
                self.stop,
                self.secondary_machine_crash,
            ]
            actions += [self.give_up_call, self.repeat_call, self.restart_primary]
            actions += [self.failed_write] if self.is_served else []
        action = self.random.choice(actions)
        self.trace.append(action.__name__)
        action()
        self.settle()

    def host_write(self) -> None:
        """A host writes a random range; long ones come in pieces."""
        index, offset, length = self.random_range()
        data = self.random.randbytes(length)
        token = self.new_token()
        cut = self.random.choice([0, length // 2]) if length > 1 else 0
        self.intend(index, offset, length)
        for start, end in [(0, cut), (cut, length)]:
            if end > start:
                self.primary_volumes[index][offset + start : offset + end] = data[start:end]
                last = end == length
                self.note_change(token, index, offset + start, data[start:end])
                self.machine.write_applied(index, offset + start, data[start:end], token if last else None)
                self.note_image()
        self.promise(token)

    def host_zero(self) -> None:
        """A host trims or zeroes a random range."""
        index, offset, length = self.random_range()
        token = self.new_token()
        self.intend(index, offset, length)
        self.primary_volumes[index][offset : offset + length] = bytes(length)
        self.note_change(token, index, offset, bytes(length))
        self.machine.zero_applied(index, offset, length, self.random.random() < 0.5, token)
        self.note_image()
        self.promise(token)

    def host_flush(self) -> None:
        """A host flushes a volume."""
        token = self.new_token()
        self.flush_waiters.append(self.machine.flush_begun(self.random.randrange(len(SIZES_BYTES)), token))
        self.promise(token)
        self.note_image()

    def finish_local_flush(self) -> None:
        """The oldest local flush is over, well or badly."""
        if self.flush_waiters:
            waiter = self.flush_waiters.pop(0)
            if self.random.random() < 0.1:
                token = waiter.token
                self.machine.flush_local_failed(waiter)
                if token is not None:
                    assert isinstance(token, int)
                    self.outstanding.discard(token)
            else:
                self.machine.flush_local_done(waiter)

    def failed_write(self) -> None:
        """A host's write fails after changing part of its range: the host is told so by the shell."""
        index, offset, length = self.random_range()
        changed = self.random.randint(0, length)
        self.intend(index, offset, length)
        self.primary_volumes[index][offset : offset + changed] = self.random.randbytes(changed)
        self.note_doubt(index, offset, length)
        self.machine.write_failed(index, offset, length)

    def connect(self) -> None:
        """The link comes up, if it is down and wanted."""
        if self.connected or not self.wish_running or self.machine.phase not in (Phase.ALONE, Phase.HOLDING):
            return
        side = self.secondary
        doubt = Doubt.RESTARTED if side.suspect else Doubt.NONE
        welcome = Welcome(self.term, side.generation, side.consistent, doubt, side.led, side.runs)
        first_sequence = self.machine.first_sequence
        self.generation_count += 1
        if self.machine.phase is Phase.ALONE:
            difference = self.judge_difference(welcome)
            for index, first, count in add_doubts(difference, self.machine.members.values(), self.intents, welcome):
                self.intents[index].set(first, count)
        elif self.machine.consider(welcome) in (Action.RESUME, Action.HEAL):
            self.record_standing(peer_has_all=True)
            self.machine.peer_has_all = True
        if not self.machine.connected(welcome, self.new_generation()):
            return
        self.connected = True
        side.machine = Secondary(dict(enumerate(SIZES_BYTES)), first_sequence)
        self.note_image()

    def judge_difference(self, welcome: Welcome) -> Difference:
        """Say what the welcome brings into doubt."""
        return AFTER_GRANT[judge(welcome, self.machine.generations)]

    def new_generation(self) -> str:
        """Name the lineage that the next resync gives the secondary's image."""
        return f"generation-{self.generation_count}"

    def intend(self, index: int, offset: int, length: int) -> None:
        """Record that a range is about to be written."""
        if not self.intents[index].touch(offset, length):
            self.intents[index].set(0, self.intents[index].extent_count)

    def cool(self) -> None:
        """Both sides are durable and equal for a moment: every extent goes cold."""
        side, machine = self.secondary, self.machine
        busy = machine.flight.entries or machine.flight.waiters or side.flushes or self.to_secondary or side.received
        if self.connected and machine.phase is Phase.MIRRORED and not busy and not machine.is_dirty:
            for intents in self.intents.values():
                intents.clear(0, intents.extent_count)

    # The arbiter

    def call_arbiter(self) -> None:
        """The primary asks or reports, one call at a time."""
        if self.awaited_call or not (self.machine.wants_grant or self.machine.wants_report):
            return
        is_suspension = self.machine.wants_grant
        if is_suspension and self.machine.must_wait:
            return
        if not is_suspension:
            self.machine.report_sent()
            self.machine.peer_has_all = True
            self.record_standing(peer_has_all=True)
        self.call_count += 1
        self.awaited_call = self.call_count
        self.calls.append(ArbiterCall(self.call_count, is_suspension, self.site, self.term, self.known_version))

    def arbiter_takes_call(self) -> None:
        """One of the calls on their way arrives."""
        if not self.calls:
            return
        call = self.calls.pop(self.random.randrange(len(self.calls)))
        result: Row | Refusal
        if call.is_suspension:
            result = suspend_secondary(self.row, site=call.site, term=call.term, version=call.version, now=0.0)
        else:
            result = secondary_in_sync(self.row, site=call.site, term=call.term, version=call.version)
        if isinstance(result, Row):
            self.row = result
        self.answers.append((call.number, call.is_suspension, result))

    def primary_takes_answer(self) -> None:
        """An answer arrives; one that is not awaited any more is dropped."""
        if not self.answers:
            return
        number, is_suspension, result = self.answers.pop(0)
        if number != self.awaited_call:
            return
        self.awaited_call = 0
        if isinstance(result, Refusal):
            self.known_version = result.row.version
            return
        self.known_version = result.version
        if is_suspension:
            was_healing = self.machine.phase is Phase.HEALING
            self.record_standing(peer_has_all=False)
            self.machine.granted()
            if was_healing:
                self.drop_session()
        else:
            self.machine.reported()

    def give_up_call(self) -> None:
        """The primary waits no longer for an answer; the call may still arrive."""
        self.awaited_call = 0

    def repeat_call(self) -> None:
        """The network delivers a call twice."""
        if self.calls:
            self.calls.append(self.random.choice(self.calls))

    # Faults

    def restart_primary(self) -> None:
        """The primary's process stops cleanly and starts again: hosts that waited hear nothing."""
        self.drop_session()
        old = self.machine
        old.close()
        members = [Member(m.index, m.volume_id, m.dirty, m.suspect) for m in old.members.values()]
        self.machine = Primary(
            members,
            generations=old.generations,
            sequence=old.sequence,
            peer_consistent=old.peer_consistent,
            peer_has_all=old.peer_has_all,
        )
        self.is_served = False
        self.outstanding.clear()
        self.promised.clear()
        self.reads.clear()
        self.flush_waiters.clear()
        self.awaited_call = 0
        self.known_version = 0

    def break_connection(self) -> None:
        """The link breaks, or an attempt fails; an unknown part of what is on the wire is lost."""
        if not self.connected:
            self.machine.broken()
            return
        self.deliver_to_secondary()
        self.drop_session()
        self.machine.broken()

    def blip(self) -> None:
        """The link breaks and is back before the arbiter answers."""
        self.break_connection()
        self.connect()

    def secondary_machine_crash(self) -> None:
        """The secondary's machine restarts and loses some of what it had not flushed; it knows that it may have."""
        if not self.connected:
            return
        self.drop_session()
        self.machine.broken()
        for index, volume in enumerate(self.secondary.volumes):
            if self.random.random() < 0.7 and self.intents[index].any():
                start = self.random.randrange(len(volume))
                end = min(len(volume), start + 9000)
                volume[start:end] = self.random.randbytes(end - start)
        self.secondary.suspect = True
        self.lost_unflushed = True

    def stop(self) -> None:
        """The user stops the replication."""
        self.wish_running = False
        self.machine.stop()

    def start_again(self) -> None:
        """The user wants replication."""
        self.wish_running = True
        self.machine.want()

    def start_read(self) -> None:
        """A resync read takes the content that the volume has now."""
        order = self.machine.next_read()
        if order is None:
            return
        volume = self.primary_volumes[order.index]
        count = self.random.randint(1, order.block_count)
        pieces = []
        for block in range(order.first_block, order.first_block + count):
            data = bytes(volume[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES])
            if not any(data):
                pieces.append(Piece(block, 1, None))
            else:
                pieces.append(Piece(block, 1, data if order.seed is None else xxh3_128_digest(data, order.seed)))
        self.reads.append(PendingRead(order, pieces))

    def finish_read(self) -> None:
        """A resync read's result arrives, perhaps long after its session."""
        if self.reads:
            read = self.reads.pop(self.random.randrange(len(self.reads)))
            self.machine.read_done(read.order, read.pieces)
            self.note_image()

    # The wire

    def deliver_to_secondary(self) -> None:
        """Some bytes reach the secondary, which applies the frames that are whole."""
        if not self.connected or self.secondary.machine is None:
            return
        side = self.secondary
        machine = self.secondary.machine
        count = self.random.randint(0, len(self.to_secondary))
        side.received += self.to_secondary[:count]
        del self.to_secondary[:count]
        frames: list[Frame] = []
        with memoryview(bytes(side.received)) as view:
            rest = decode(view, 0, len(view), frames)
            for frame in machine.accept(frames):
                self.apply(frame)
                if frame.sequence > side.applied:
                    side.applied = frame.sequence
                    self.check_image(frame.sequence)
        del side.received[:rest]
        self.to_primary += encode_header(Kind.ACK, 0, 0, 0, machine.applied_sequence, 0)

    def apply(self, frame: Frame) -> None:
        """Do to the secondary's volumes what a frame says."""
        side = self.secondary
        if frame.kind == Kind.WRITE:
            assert frame.payload is not None
            side.volumes[frame.volume][frame.offset : frame.offset + frame.length] = frame.payload
        elif frame.kind == Kind.ZERO:
            side.volumes[frame.volume][frame.offset : frame.offset + frame.length] = bytes(frame.length)
        elif frame.kind == Kind.RESYNC_BEGIN:
            side.generation = decode_json(frame)["generation"]
            side.consistent = False
            side.led, side.runs = [], []
        elif frame.kind == Kind.RESYNC_END:
            side.ends.add(frame.sequence)
            side.flushes.append(frame.sequence)
        elif frame.kind == Kind.FLUSH:
            side.flushes.append(frame.sequence)
        else:
            self.answer(frame)

    def answer(self, frame: Frame) -> None:
        """Answer what the primary asks, at once."""
        volume = self.secondary.volumes[frame.volume]
        if frame.kind == Kind.FETCH:
            body, kind = bytes(volume[frame.offset : frame.offset + frame.length]), Kind.CONTENT
        elif frame.kind == Kind.COMPARE_ZERO:
            blocks = range(frame.offset, frame.offset + frame.length, BLOCK_BYTES)
            body, kind = bitarray(any(volume[at : at + BLOCK_BYTES]) for at in blocks).tobytes(), Kind.COMPARED
        else:
            assert frame.payload is not None
            seed, digests = int.from_bytes(frame.payload[:SEED_BYTES], "big"), bytes(frame.payload[SEED_BYTES:])
            differs = bitarray()
            for number, start in enumerate(range(0, len(digests), DIGEST_BYTES)):
                at = frame.offset + number * BLOCK_BYTES
                mine = xxh3_128_digest(bytes(volume[at : at + BLOCK_BYTES]), seed)
                differs.append(mine != digests[start : start + DIGEST_BYTES])
            body, kind = differs.tobytes(), Kind.COMPARED
        self.to_primary += encode_header(kind, 0, frame.volume, len(body), frame.sequence, frame.offset, body) + body

    def finish_secondary_flush(self) -> None:
        """One of the secondary's flushes is over."""
        side = self.secondary
        if side.flushes:
            sequence = side.flushes.pop(self.random.randrange(len(side.flushes)))
            if sequence in side.ends:
                side.consistent, side.suspect = True, False
            self.to_primary += encode_header(Kind.FLUSHED, 0, 0, 0, sequence, 0)

    def deliver_to_primary(self) -> None:
        """Some bytes reach the primary."""
        if not self.connected:
            return
        count = self.random.randint(0, len(self.to_primary))
        self.primary_received += self.to_primary[:count]
        del self.to_primary[:count]
        frames: list[Frame] = []
        with memoryview(bytes(self.primary_received)) as view:
            rest = decode(view, 0, len(view), frames)
        del self.primary_received[:rest]
        self.machine.received(frames)
        for index, offset, data in self.machine.take_contents():
            self.primary_volumes[index][offset : offset + len(data)] = data
            self.machine.content_applied(index, offset, len(data))
        if self.machine.is_healed:
            self.machine.healed()
        self.note_image()

    # What must hold

    def settle(self) -> None:
        """Send what the machine wants sent, check whom it tells, and end a drained stream."""
        batch = self.machine.take_batch()
        if self.connected and batch is not None:
            self.to_secondary += batch
        for token in self.machine.completed:
            assert isinstance(token, int)
            assert token in self.outstanding, f"token {token} was told twice, or after its failure"
            self.outstanding.discard(token)
            self.told.add(token)
            self.note_told(token)
            sequence = self.promised.get(token)
            if sequence is not None and self.secondary.applied < sequence:
                assert self.row.secondary is Recorded.STALE, f"{token} was told done; the secondary lacks it"
                self.promised.pop(token)
        self.machine.completed.clear()
        self.check_promotable()
        if self.machine.is_drained:
            self.machine.drained()
            self.drop_session()

    def check_promotable(self) -> None:
        """Whenever the arbiter has the secondary as in sync, a failover to it would lose nothing."""
        if self.row.secondary is Recorded.STALE:
            return
        assert self.secondary.consistent
        assert not self.secondary.suspect or self.lost_unflushed
        for token, sequence in self.promised.items():
            if token in self.told:
                assert self.secondary.applied >= sequence, f"a failover would lose {token}"

    def promise(self, token: int) -> None:
        """While every write is mirrored, a request may only be told done when the secondary has it."""
        if self.machine.phase in MIRRORING:
            self.promised[token] = self.machine.sequence

    def note_image(self) -> None:
        """Remember what the secondary must look like once it has applied the newest frame, if nothing else differs."""
        mirrors = self.machine.phase in MIRRORING
        if mirrors and self.machine.phase is not Phase.HEALING and not self.machine.is_dirty:
            self.images[self.machine.sequence] = digest(self.primary_volumes)

    def check_image(self, sequence: int) -> None:
        """The secondary holds exactly the primary's volumes as of this frame: a prefix of the history."""
        expected = self.images.get(sequence)
        if expected is not None:
            assert digest(self.secondary.volumes) == expected, f"the image after frame {sequence} is not a prefix"

    def heal(self) -> None:
        """No more faults: within a bound the group is in sync, every host is answered and the twins are equal."""
        for _ in range(2000):
            if not self.wish_running:
                self.start_again()
            self.connect()
            self.settle()
            self.pump()
            quiet = not (self.to_secondary or self.to_primary or self.outstanding or self.secondary.flushes)
            clean = not self.machine.is_dirty
            if (
                quiet
                and clean
                and self.machine.phase is Phase.MIRRORED
                and self.machine.is_confirmed
                and (self.machine.oldest_unacknowledged is None)
            ):
                break
        else:
            raise AssertionError(f"the group did not heal: {self.machine.phase}, {len(self.outstanding)} unanswered")
        assert self.secondary.consistent
        assert self.primary_volumes == self.secondary.volumes, "the twins differ after sync"

    def quiet_moment(self) -> None:
        """For a while nothing disturbs the two sides."""
        for _ in range(12):
            self.pump()

    def pump(self) -> None:
        """Each side does a little of what it has to do."""
        self.start_read()
        self.finish_read()
        self.settle()
        self.deliver_to_secondary()
        self.finish_secondary_flush()
        self.finish_local_flush()
        self.deliver_to_primary()
        self.settle()
        self.call_arbiter()
        self.arbiter_takes_call()
        self.primary_takes_answer()
        self.settle()

    # What a world that watches the content, or lets a site forget, wants to know

    def record_standing(self, peer_has_all: bool) -> None:
        """The primary records whether the secondary has everything, before it acts on that."""

    def note_change(self, token: int, index: int, offset: int, data: bytes) -> None:
        """A host's change is in the primary's volume and not answered."""

    def note_told(self, token: int) -> None:
        """A host was answered."""

    def note_doubt(self, index: int, offset: int, length: int) -> None:
        """A host was told that a change failed: the range may show it, or a part of it."""

    # Small things

    def drop_session(self) -> None:
        self.connected = False
        self.to_secondary.clear()
        self.to_primary.clear()
        self.primary_received.clear()
        self.secondary.received.clear()
        self.secondary.flushes.clear()
        self.secondary.ends.clear()
        self.secondary.machine = None

    def new_token(self) -> int:
        token = self.next_token
        self.next_token += 1
        self.outstanding.add(token)
        return token

    def random_range(self) -> tuple[int, int, int]:
        index = self.random.randrange(len(SIZES_BYTES))
        size = SIZES_BYTES[index]
        length = self.random.choice([512, 4096, 20000, BLOCK_BYTES, BLOCK_BYTES + 512])
        offset = self.random.randrange(0, size - length + 1)
        return index, offset, length


def digest(volumes: list[bytearray]) -> bytes:
    """A fingerprint of a site's volumes."""
    return hashlib.blake2b(b"".join(volumes), digest_size=16).digest()
