"""A seeded world whose group moves: both sites play both roles, the arbiter promotes, old primaries live on and return.

What a site remembers when its role changes, and what it starts from, is the worker's own code. The check is one
history: whenever a site is promoted without force, its volumes show every write that any primary before it answered.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.memory_files import MemoryFiles
from tests.unit.core.group.replication_world import SIZES_BYTES, SecondarySide, World
from twinsite.core.arbiter import Refusal, promote, switch
from twinsite.core.arbiter import Secondary as Recorded
from twinsite.core.group.primary import Primary
from twinsite.core.group.recovery import Difference
from twinsite.core.group.states import Phase
from twinsite.core.limits import BLOCK_BYTES
from twinsite.core.stream.hello import Doubt, Welcome
from twinsite.core.tracking.intents import IntentRecord, encode_header, encode_records
from twinsite.messages import MemberSpec
from twinsite.worker.starting import recorded_runs, remember_clean_stop, remember_primary, starting_point
from twinsite.worker.state import MapKind, ReplicaState, StateDirectory
from twinsite.worker.taking_over import ImageChanges, remember_secondary

MEMBERS = [MemberSpec(index, f"volume-{index}", size_bytes) for index, size_bytes in enumerate(SIZES_BYTES)]
SAME_DISKS = ImageChanges(frozenset(), frozenset())
BOOT = "the only boot"
Range = tuple[int, int, int]  # Member index, offset, length.


class Ledger:
    """What hosts know of the volumes: what was answered must show; what was not may show, until it is looked at."""

    def __init__(self, volumes: list[bytearray]) -> None:
        self.expected = [bytearray(volume) for volume in volumes]
        self.waiting: dict[int, list[tuple[int, int, bytes]]] = {}  # Token to (index, offset, data).
        self.doubtful: list[Range] = []

    def is_free(self, index: int, offset: int, length: int) -> bool:
        """Say whether no unanswered change overlaps a range."""
        for changes in self.waiting.values():
            for other_index, start, data in changes:
                if other_index == index and start < offset + length and offset < start + len(data):
                    return False
        return True

    def told(self, token: int) -> None:
        """A change was answered."""
        for index, offset, data in self.waiting.pop(token, []):
            self.expected[index][offset : offset + len(data)] = data

    def doubt_what_waits(self) -> None:
        """The hosts were cut off: what they waited for may be there or not."""
        for changes in self.waiting.values():
            self.doubtful += [(index, offset, len(data)) for index, offset, data in changes]
        self.waiting.clear()

    def check(self, volumes: list[bytearray], what: str) -> None:
        """Check a new primary's volumes; from here on what was doubtful is what they show."""
        for index, offset, length in self.doubtful:
            self.expected[index][offset : offset + length] = volumes[index][offset : offset + length]
        self.doubtful.clear()
        for index, (expected, shown) in enumerate(zip(self.expected, volumes, strict=True)):
            if expected != shown:
                places = range(len(expected))
                first = next(place for place in places if expected[place] != shown[place])
                raise AssertionError(f"{what}: an answered write is lost at {first} of volume {index}")


class MovingWorld(World):
    """A world that promotes and switches now and then."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.ledger = Ledger(self.primary_volumes)
        self.states = {"az1": ReplicaState(), "az2": ReplicaState()}
        self.directories = {site: StateDirectory(Path(site), MemoryFiles()) for site in self.states}
        self.promotions = self.switches = 0
        self.move_rate = self.random.choice([0.02, 0.1])

    @property
    def other_site(self) -> str:
        """The site of the secondary."""
        return "az2" if self.site == "az1" else "az1"

    def step(self) -> None:
        if self.random.random() < self.move_rate:
            action = self.random.choice([self.promote, self.promote, self.switch, self.switch, self.kill_primary])
            self.trace.append(action.__name__)
            action()
            self.settle()
        else:
            super().step()

    # What hosts do and hear

    def random_range(self) -> Range:
        for _ in range(20):
            chosen = super().random_range()
            if self.ledger.is_free(*chosen):
                return chosen
        self.ledger.doubt_what_waits()
        return chosen

    def note_change(self, token: int, index: int, offset: int, data: bytes) -> None:
        self.ledger.waiting.setdefault(token, []).append((index, offset, data))

    def note_told(self, token: int) -> None:
        self.ledger.told(token)

    def note_doubt(self, index: int, offset: int, length: int) -> None:
        self.ledger.doubtful.append((index, offset, length))

    # Moving

    def promote(self) -> None:
        """Fail over without force, whatever the old primary does; it may live on for a while."""
        if self.secondary.suspect:
            return  # Two failures at once: the secondary's machine lost what it had applied, and the primary is gone.
        row = promote(self.row, site=self.other_site, version=self.row.version, force=False, now=0.0)
        if isinstance(row, Refusal):
            return
        self.row = row
        self.promotions += 1
        if self.connected:
            self.deliver_to_primary()  # What the secondary said before it was told to lead.
            self.take_last_answers()
            self.drop_session()
            self.machine.broken()
        self.live_on()
        self.exchange(is_clean=self.random.random() < 0.7)

    def take_last_answers(self) -> None:
        """The old primary may still tell hosts what the secondary had acknowledged."""
        for token in self.machine.completed:
            assert isinstance(token, int)
            self.outstanding.discard(token)
            self.ledger.told(token)
        self.machine.completed.clear()

    def live_on(self) -> None:
        """The old primary works on, cut off, and hears some time that it was replaced. It must answer nobody."""
        assert self.machine.phase is Phase.HOLDING, "an unforced promotion under a primary that is alone"
        for _ in range(self.random.randrange(4)):
            index, offset, length = super().random_range()
            self.intend(index, offset, length)
            self.primary_volumes[index][offset : offset + length] = self.random.randbytes(length)
            self.machine.write_applied(index, offset, bytes(self.primary_volumes[index][offset : offset + length]), -1)
            self.machine.flush_local_done(self.machine.flush_begun(index, -2))
        if self.random.random() < 0.5:
            self.machine.replaced()
        for waiter in self.flush_waiters:
            # Who only waits for this side may be answered: the secondary has made durable all that it flushed.
            if not waiter.is_remote_done:
                self.machine.flush_local_done(waiter)
        assert not self.machine.completed, "who was replaced answered a host"

    def switch(self) -> None:
        """A planned switchover, if both sides are equal, flushed and recorded after a moment without hosts."""
        self.quiet_moment()
        machine = self.machine
        is_quiet = not (self.outstanding or machine.flight.entries or machine.flight.waiters or machine.is_dirty)
        if not (self.connected and machine.phase is Phase.MIRRORED and machine.is_confirmed and is_quiet):
            return
        row = switch(self.row, site=self.other_site, term=self.term, version=self.row.version)
        if isinstance(row, Refusal):
            return
        self.row = row
        self.switches += 1
        self.drop_session()
        machine.broken()
        self.exchange(is_clean=True)
        self.wish_running = True
        self.machine.want()
        self.connect()
        assert self.connected, "the twins were equal, and yet the stream cannot be resumed"
        assert self.machine.phase is Phase.MIRRORED
        assert not self.machine.is_dirty

    def exchange(self, *, is_clean: bool) -> None:
        """The sites take each other's role. The old primary's worker saved its maps, or not."""
        self.ledger.doubt_what_waits()
        self.outstanding.clear()
        self.promised.clear()
        self.images.clear()
        self.reads.clear()
        self.flush_waiters.clear()
        if is_clean:
            self.stop_cleanly()
        old, new = self.states[self.site], self.states[self.other_site]
        new.generation, new.is_consistent = self.secondary.generation, self.secondary.consistent
        new.led = self.secondary.led
        new.doubt = Doubt.RESTARTED if self.secondary.suspect else Doubt.NONE
        self.write_intents()
        remember_secondary(old, SAME_DISKS, BOOT)
        volumes, self.primary_volumes = self.primary_volumes, self.secondary.volumes
        self.secondary = SecondarySide(
            volumes,
            generation=old.generation,
            consistent=old.is_consistent,
            led=old.led,
            runs=recorded_runs(self.directories[self.site], MEMBERS),
        )
        self.site, self.term = self.other_site, self.row.term
        self.lost_unflushed = False
        self.ledger.check(self.primary_volumes, f"after the promotion of {self.site}")
        self.start_leading()

    def stop_cleanly(self) -> None:
        """The primary's process ends and saves what it knows."""
        self.machine.close()
        for member in self.machine.members.values():
            directory = self.directories[self.site]
            directory.save_map(MapKind.DIRTY, member.index, member.volume_id, member.dirty)
            directory.save_map(MapKind.SUSPECT, member.index, member.volume_id, member.suspect)
        remember_clean_stop(self.states[self.site], self.machine)

    def start_leading(self) -> None:
        """A primary's process starts on what its site remembers."""
        state = self.states[self.site]
        start = starting_point(MEMBERS, self.directories[self.site], state, BOOT, SAME_DISKS)
        remember_primary(state, start, BOOT)
        sequence = max(state.sequence, self.secondary.applied)
        self.machine = Primary(
            start.members,
            generations=start.generations,
            sequence=sequence,
            peer_consistent=start.peer_consistent,
            peer_has_all=start.peer_has_all,
            lacks_writes=start.lacks_writes,
        )
        self.intents = start.intents
        self.is_served = False
        self.secondary.applied = sequence
        if not self.wish_running:
            self.machine.stop()
        self.awaited_call = 0
        self.known_version = 0

    def restart_primary(self) -> None:
        self.drop_session()
        self.cut_hosts_off()
        self.stop_cleanly()
        self.start_leading()

    def kill_primary(self) -> None:
        """The primary's process dies; its machine lives, and so does what it had written."""
        self.drop_session()
        self.cut_hosts_off()
        self.write_intents()
        self.start_leading()

    def write_intents(self) -> None:
        """Let the primary's intent log say what its maps say: a record was durable before each write."""
        records = [
            IntentRecord(index, first, count, True)
            for index, intents in self.intents.items()
            for first, count in intents.runs()
        ]
        directory = self.directories[self.site]
        names = {member.index: member.volume_id for member in MEMBERS}
        directory.files.replace(directory.intent_path, encode_header(names) + encode_records(records))

    # What is durable before the machine acts

    def judge_difference(self, welcome: Welcome) -> Difference:
        difference = super().judge_difference(welcome)
        self.states[self.site].generations = sorted(self.machine.generations | {self.new_generation()})
        return difference

    def record_standing(self, peer_has_all: bool) -> None:
        state = self.states[self.site]
        state.peer_has_all = peer_has_all
        if peer_has_all:
            state.generations = sorted(self.machine.generations)

    def cut_hosts_off(self) -> None:
        """Who waits for an answer never gets one."""
        self.ledger.doubt_what_waits()
        self.outstanding.clear()
        self.promised.clear()
        self.images.clear()
        self.reads.clear()
        self.flush_waiters.clear()

    def heal(self) -> None:
        super().heal()
        self.ledger.check(self.primary_volumes, "in the end")
        assert self.row.secondary is Recorded.IN_SYNC


assert all(size_bytes > BLOCK_BYTES for size_bytes in SIZES_BYTES)
