"""The primary's machine, one rule at a time. The random histories of `test_replication` try them together."""

from __future__ import annotations

import pytest

from tests.support.stores import pattern
from twinsite.core.group.doubts import add_doubts
from twinsite.core.group.member import Member
from twinsite.core.group.primary import Primary
from twinsite.core.group.recovery import AFTER_GRANT, judge
from twinsite.core.group.resync import Piece, ReadOrder
from twinsite.core.group.states import Phase
from twinsite.core.limits import (
    BLOCK_BYTES,
    PACKED_BYTES_A_BYTE,
    RESYNC_IN_FLIGHT_BYTES_MAX,
    RESYNC_READ_BYTES_MAX,
    RESYNC_READS_MAX,
)
from twinsite.core.stream.frames import Flag, Frame, Kind, decode, decode_json
from twinsite.core.stream.hello import Doubt, Welcome
from twinsite.core.stream.packing import pack, unpack
from twinsite.core.tracking.dirty_map import DirtyMap
from twinsite.core.tracking.intents import IntentMap
from twinsite.errors import InternalError, PeerViolation

SIZE = 8 * BLOCK_BYTES
KNOWN = "known lineage"
DATA = b"d" * 512
ANSWERS = (Kind.ACK, Kind.FLUSHED, Kind.COMPARED, Kind.CONTENT, Kind.HEARTBEAT)


class Bench:
    """A primary with `members` clean volumes whose secondary's lineage it knows, and hands to play the peer.

    It has its grant to go on alone, unless it is `held`.
    """

    def __init__(
        self, members: int = 1, *, dirty_blocks: tuple[int, ...] = (), size_bytes: int = SIZE, held: bool = False
    ) -> None:
        self.members = [Member(index, f"volume {index}", DirtyMap(size_bytes)) for index in range(members)]
        for block in dirty_blocks:
            self.members[0].dirty.mark(block * BLOCK_BYTES, 1)
        self.recorded = {member.index: IntentMap(size_bytes) for member in self.members}
        self.primary = Primary(self.members, generations=frozenset({KNOWN}), sequence=100, peer_consistent=True)
        if not held:
            self.primary.granted()

    @property
    def dirty(self) -> DirtyMap:
        return self.members[0].dirty

    def phase(self) -> Phase:
        return self.primary.phase

    def is_drained(self) -> bool:
        return self.primary.is_drained

    def connect(
        self, generation: str = KNOWN, new: str = "new lineage", *, suspect: bool = False, consistent: bool = True
    ) -> bool:
        welcome = Welcome(1, generation, consistent=consistent, doubt=Doubt.RESTARTED if suspect else Doubt.NONE)
        if self.phase() is Phase.ALONE:
            difference = AFTER_GRANT[judge(welcome, self.primary.generations)]
            add_doubts(difference, self.members, self.recorded, welcome)
        return self.primary.connected(welcome, new)

    def begin_copy(self) -> ReadOrder:
        """Connect, and return the first read of the copy; what begins it counts as sent."""
        self.connect()
        self.sent()
        order = self.primary.next_read()
        assert order is not None
        return order

    def mirror(self) -> None:
        """Bring the group in sync."""
        self.connect()
        self.read_all()
        self.acknowledge()
        self.flushed(self.primary.sequence)
        assert self.phase() is Phase.MIRRORED
        self.sent()

    def confirm(self) -> None:
        """Let the arbiter hear and record that the secondary is in sync."""
        assert self.primary.wants_report
        self.primary.report_sent()
        self.primary.reported()

    def hold(self) -> None:
        """Bring the group in sync, have that recorded, and break the stream."""
        self.mirror()
        self.confirm()
        self.primary.broken()
        assert self.phase() is Phase.HOLDING

    def read_all(self) -> None:
        """Do every resync read that is asked for."""
        while (order := self.primary.next_read()) is not None:
            self.give(order)

    def give(self, order: ReadOrder, data: bytes = b"r") -> None:
        count = order.block_count
        self.primary.read_done(order, [Piece(order.first_block, count, data * (count * BLOCK_BYTES))])

    def acknowledge(self, sequence: int | None = None) -> None:
        self.primary.received([answer(Kind.ACK, self.primary.sequence if sequence is None else sequence)])

    def flushed(self, sequence: int) -> None:
        self.primary.received([answer(Kind.FLUSHED, sequence)])

    def sent(self) -> list[Frame]:
        """Take what is to be sent."""
        data = self.primary.take_batch() or b""
        frames: list[Frame] = []
        assert decode(memoryview(data), 0, len(data), frames) == len(data)
        return frames

    def done(self) -> list[object]:
        """Take who is to be told."""
        completed, self.primary.completed = self.primary.completed, []
        return list(completed)


def answer(kind: Kind, sequence: int) -> Frame:
    """A frame of the secondary."""
    return Frame(kind, 0, 0, 0, sequence, 0, None)


# Acknowledgements


def test_alone_a_write_is_tracked_and_done_at_once() -> None:
    bench = Bench()
    bench.primary.write_applied(0, BLOCK_BYTES, DATA, "w")
    assert bench.done() == ["w"]
    assert bench.dirty.dirty_bytes() == BLOCK_BYTES
    assert bench.sent() == []


def test_while_copying_a_write_travels_only_where_the_secondary_is_current() -> None:
    bench = Bench(dirty_blocks=(0,))
    bench.connect()
    bench.sent()
    bench.primary.write_applied(0, 512, DATA, "still dirty")
    assert bench.sent() == []
    bench.primary.write_applied(0, BLOCK_BYTES, DATA, "current")
    bench.primary.write_applied(0, BLOCK_BYTES - 256, DATA, "both")
    assert [(f.offset, f.length, f.flags) for f in bench.sent()] == [(BLOCK_BYTES, 512, 0), (BLOCK_BYTES - 256, 512, 0)]
    assert bench.done() == ["still dirty", "current", "both"]


def test_mirrored_a_write_is_done_when_the_secondary_has_it_and_not_before() -> None:
    bench = Bench()
    bench.mirror()
    first = bench.primary.sequence
    for number in range(3):
        bench.primary.write_applied(0, 0, DATA, number)
    assert bench.done() == []
    assert bench.primary.oldest_unacknowledged == first + 1
    bench.acknowledge(first)
    assert bench.done() == []
    bench.acknowledge(first + 2)
    assert bench.done() == [0, 1]
    bench.acknowledge(first + 3)
    assert bench.done() == [2]
    assert (len(bench.primary.flight.entries), bench.primary.flight.payload_bytes) == (0, 0)


def test_finishing_already_waits_for_the_secondary() -> None:
    bench = Bench()
    bench.connect()
    assert bench.phase() is Phase.FINISHING
    bench.primary.write_applied(0, 0, DATA, "w")
    assert bench.done() == []


def test_the_pieces_of_a_long_write_are_done_with_the_last() -> None:
    bench = Bench()
    bench.mirror()
    bench.primary.write_applied(0, 0, DATA, None)
    bench.primary.write_applied(0, 512, DATA, "whole")
    bench.acknowledge(bench.primary.sequence - 1)
    assert bench.done() == []
    bench.acknowledge()
    assert bench.done() == ["whole"]


@pytest.mark.parametrize("phase", ["copying", "mirrored"])
@pytest.mark.parametrize("ahead", [1, 1000])
def test_an_acknowledgement_of_what_was_never_sent_is_a_violation(phase: str, ahead: int) -> None:
    bench = Bench(dirty_blocks=(0,))
    if phase == "copying":
        bench.connect()
    else:
        bench.mirror()
    with pytest.raises(PeerViolation, match="acknowledged"):
        bench.acknowledge(bench.primary.sequence + ahead)


def test_an_acknowledgement_never_goes_back() -> None:
    bench = Bench()
    bench.mirror()
    bench.primary.write_applied(0, 0, DATA, "w")
    bench.acknowledge()
    with pytest.raises(PeerViolation, match="are possible"):
        bench.acknowledge(bench.primary.sequence - 1)


@pytest.mark.parametrize("kind", [k for k in Kind if k not in ANSWERS])
def test_a_secondary_sends_nothing_but_answers(kind: Kind) -> None:
    bench = Bench()
    bench.mirror()
    with pytest.raises(PeerViolation, match="does not send"):
        bench.primary.received([answer(kind, bench.primary.sequence)])


# Flushes


def test_a_flush_needs_both_sides_in_either_order() -> None:
    bench = Bench()
    bench.mirror()
    local_first = bench.primary.flush_begun(0, "local first")
    remote_first = bench.primary.flush_begun(0, "remote first")
    one, two = (f.sequence for f in bench.sent() if f.kind == Kind.FLUSH)
    bench.acknowledge()
    assert bench.done() == []
    bench.primary.flush_local_done(local_first)
    bench.flushed(two)
    assert bench.done() == []
    bench.flushed(one)
    assert bench.done() == ["local first"]
    bench.primary.flush_local_done(remote_first)
    assert bench.done() == ["remote first"]


def test_a_flush_that_is_acknowledged_but_not_durable_still_counts_as_unanswered() -> None:
    bench = Bench()
    bench.mirror()
    bench.primary.flush_begun(0, "f")
    bench.acknowledge()
    assert bench.primary.oldest_unacknowledged == bench.primary.sequence


def test_a_flush_whose_local_half_failed_is_told_to_nobody_twice() -> None:
    bench = Bench()
    bench.mirror()
    waiter = bench.primary.flush_begun(0, "f")
    bench.primary.flush_local_failed(waiter)
    bench.acknowledge()
    bench.flushed(bench.primary.sequence)
    assert bench.done() == []


def test_alone_a_flush_needs_the_local_side_only() -> None:
    bench = Bench()
    waiter = bench.primary.flush_begun(0, "f")
    assert bench.done() == []
    bench.primary.flush_local_done(waiter)
    assert bench.done() == ["f"]
    assert bench.sent() == []


def test_a_grant_releases_flushes_and_keeps_those_that_wait_for_the_local_disk() -> None:
    bench = Bench()
    bench.mirror()
    done_here = bench.primary.flush_begun(0, "done here")
    bench.primary.flush_local_done(done_here)
    pending = bench.primary.flush_begun(0, "pending here")
    bench.confirm()
    bench.primary.broken()
    assert bench.done() == []
    bench.primary.granted()
    assert bench.done() == ["done here"]
    bench.primary.flush_local_done(pending)
    assert bench.done() == ["pending here"]


@pytest.mark.parametrize("phase", ["copying", "finishing", "mirrored", "draining"])
@pytest.mark.parametrize("sequence", [0, 1, 100, 101, 5000])
def test_a_flush_that_nobody_asked_for_is_a_violation(phase: str, sequence: int) -> None:
    bench = Bench(dirty_blocks=(0,) if phase in ("copying", "draining") else ())
    if phase == "mirrored":
        bench.mirror()
    else:
        bench.connect()
    if phase == "draining":
        bench.primary.stop()
    if phase == "finishing" and sequence == bench.primary.sequence:
        return  # The end of the resync: that one was asked for.
    with pytest.raises(PeerViolation, match="asked for no flush"):
        bench.flushed(sequence)
    assert bench.primary.peer_consistent is (phase not in ("copying", "draining"))


# The resync, its order and its name


def test_the_first_connection_ships_everything_and_names_the_image_first() -> None:
    bench = Bench()
    bench.connect("never heard of", new="fresh")
    (begin,) = bench.sent()
    assert (begin.kind, begin.sequence, decode_json(begin)) == (Kind.RESYNC_BEGIN, 101, {"generation": "fresh"})
    assert bench.primary.tally is not None
    assert (bench.primary.tally.kind, bench.primary.tally.bytes_total) == ("full", SIZE)
    assert bench.primary.peer_consistent is False


def test_a_known_lineage_gets_the_difference_only() -> None:
    bench = Bench(dirty_blocks=(2, 3))
    bench.connect()
    assert bench.primary.tally is not None
    assert (bench.primary.tally.kind, bench.primary.tally.bytes_total) == ("delta", 2 * BLOCK_BYTES)
    bench.read_all()
    begin, write, end = bench.sent()
    assert (begin.kind, end.kind) == (Kind.RESYNC_BEGIN, Kind.RESYNC_END)
    assert (write.kind, write.flags, write.offset) == (Kind.WRITE, Flag.RESYNC, 2 * BLOCK_BYTES)
    assert write.length == 2 * BLOCK_BYTES


def test_nothing_to_ship_leaves_the_image_its_name_and_its_consistency() -> None:
    bench = Bench()
    bench.connect()
    assert [frame.kind for frame in bench.sent()] == [Kind.RESYNC_END]
    assert bench.primary.peer_consistent
    assert bench.primary.generations == {KNOWN}


def test_of_an_image_that_may_have_lost_writes_what_is_recorded_is_compared() -> None:
    bench = Bench(2)
    bench.recorded[1].set(0, 1)
    bench.connect(suspect=True)
    assert [member.suspect.dirty_bytes() for member in bench.members] == [0, SIZE]
    assert not any(member.dirty.any() for member in bench.members)


def test_the_old_name_is_good_until_the_new_one_is_acknowledged() -> None:
    bench = Bench(dirty_blocks=(0,))
    bench.connect(new="second")
    assert bench.primary.generations == {KNOWN, "second"}
    bench.primary.broken()
    bench.connect(KNOWN, new="third")
    assert bench.primary.tally is not None
    assert bench.primary.tally.kind == "delta"
    assert bench.primary.generations == {KNOWN, "second", "third"}
    bench.acknowledge()
    assert bench.primary.generations == {"third"}
    bench.primary.broken()
    bench.connect(KNOWN, new="fourth")
    assert bench.primary.tally.kind == "full"


def test_a_name_of_a_broken_session_is_not_believed_from_the_next_one() -> None:
    bench = Bench(dirty_blocks=(0,))
    bench.connect(new="lost")
    bench.primary.broken()
    bench.connect("lost", new="third")
    assert bench.primary.tally is not None
    assert bench.primary.tally.kind == "delta"


def test_zeros_travel_without_bytes_and_punch() -> None:
    bench = Bench(dirty_blocks=(0, 1))
    order = bench.begin_copy()
    bench.primary.read_done(order, [Piece(0, 2, None)])
    zero = bench.sent()[0]
    assert (zero.kind, zero.flags, zero.length) == (Kind.ZERO, Flag.RESYNC | Flag.PUNCH, 2 * BLOCK_BYTES)
    assert bench.primary.flight.payload_bytes == 0


def test_the_tail_of_a_volume_is_shipped_to_its_last_byte() -> None:
    size_bytes = 2 * BLOCK_BYTES + 1000
    bench = Bench(size_bytes=size_bytes)
    bench.connect("")
    order = bench.primary.next_read()
    assert order is not None
    bench.primary.read_done(order, [Piece(0, 1, None), Piece(1, 2, b"x" * (BLOCK_BYTES + 1000))])
    assert [f.length for f in bench.sent() if f.kind in (Kind.ZERO, Kind.WRITE)] == [BLOCK_BYTES, BLOCK_BYTES + 1000]


def test_what_is_packed_travels_so_and_is_counted_as_it_travels() -> None:
    bench = Bench(dirty_blocks=(0, 1, 2))
    order = bench.begin_copy()
    data = pattern(3 * BLOCK_BYTES)
    packed = pack(data)
    assert packed is not None
    bench.primary.read_done(order, [Piece(0, 3, data, packed=packed)])
    frame = bench.sent()[0]
    assert (frame.kind, frame.flags, frame.length, frame.offset) == (Kind.PACKED, Flag.RESYNC, len(packed), 0)
    assert bytes(unpack(frame).payload or b"") == data
    flight, member = bench.primary.flight, bench.members[0]
    assert (flight.payload_bytes, bench.primary.resync_bytes_left(member)) == (len(packed), 3 * BLOCK_BYTES)
    assert flight.resync_bytes == 3 * BLOCK_BYTES // PACKED_BYTES_A_BYTE, "next to nothing has its price"
    assert flight.arrived_bytes == 0
    bench.acknowledge()
    assert (flight.resync_bytes, flight.arrived_bytes) == (0, 3 * BLOCK_BYTES)


def test_what_was_packed_and_is_lost_on_the_way_is_dirty_as_a_whole() -> None:
    bench = Bench(dirty_blocks=(0, 1, 2))
    order = bench.begin_copy()
    bench.primary.read_done(order, [Piece(0, 3, bytes(3 * BLOCK_BYTES), packed=pack(bytes(3 * BLOCK_BYTES)))])
    assert bench.dirty.dirty_bytes() == 0
    bench.primary.broken()
    assert bench.dirty.dirty_bytes() == 3 * BLOCK_BYTES


def test_a_packed_read_that_a_guest_has_overtaken_in_part_is_cut_and_travels_plain() -> None:
    bench = Bench(dirty_blocks=(0, 1, 2))
    order = bench.begin_copy()
    bench.primary.write_applied(0, BLOCK_BYTES + 5, DATA, "w")
    data = pattern(3 * BLOCK_BYTES)
    bench.primary.read_done(order, [Piece(0, 3, data, packed=pack(data))])
    assert [(frame.kind, frame.offset, bytes(frame.payload or b"")) for frame in bench.sent()] == [
        (Kind.WRITE, 0, data[:BLOCK_BYTES]),
        (Kind.WRITE, 2 * BLOCK_BYTES, data[2 * BLOCK_BYTES :]),
    ]


def test_what_a_mirroring_side_may_have_to_send_again_is_not_packed() -> None:
    bench = Bench()
    bench.mirror()
    bench.primary.write_failed(0, 0, 512)
    order = bench.primary.next_read()
    assert order is not None
    data = pattern(BLOCK_BYTES)
    bench.primary.read_done(order, [Piece(0, 1, data, packed=pack(data))])
    assert [(frame.kind, bytes(frame.payload or b"")) for frame in bench.sent()] == [(Kind.WRITE, data)]


def test_a_read_that_a_guest_has_overtaken_is_not_sent_but_read_again() -> None:
    bench = Bench(dirty_blocks=(0, 1, 2))
    order = bench.begin_copy()
    bench.primary.write_applied(0, BLOCK_BYTES + 5, DATA, "w")
    bench.give(order)
    assert [frame.offset for frame in bench.sent()] == [0, 2 * BLOCK_BYTES]
    assert bench.dirty.dirty_bytes() == BLOCK_BYTES
    again = bench.primary.next_read()
    assert again is not None
    assert (again.first_block, again.block_count) == (1, 1)


def test_a_block_that_guests_never_leave_alone_is_read_where_none_can_come_between() -> None:
    bench = Bench(dirty_blocks=(2, 5))
    bench.connect()
    for _ in range(10):
        order = bench.primary.next_read()
        if order is None:
            break
        if not order.is_contended:
            for block in (2, 5):
                bench.primary.write_applied(0, block * BLOCK_BYTES, DATA, "w")
        assert order.block_count == 1
        bench.give(order)
    assert bench.phase() is Phase.FINISHING


def test_a_read_of_an_ended_session_is_void() -> None:
    bench = Bench(dirty_blocks=(0,))
    bench.connect()
    order = bench.primary.next_read()
    assert order is not None
    bench.primary.broken()
    bench.connect()
    bench.sent()
    bench.give(order)
    assert bench.sent() == []
    assert bench.dirty.dirty_bytes() == BLOCK_BYTES


def test_what_was_not_acknowledged_is_dirty_after_a_break_and_a_grant() -> None:
    bench = Bench()
    bench.mirror()
    bench.primary.write_applied(0, 0, DATA, "acknowledged")
    bench.acknowledge()
    bench.done()
    bench.primary.write_applied(0, BLOCK_BYTES, DATA, "first")
    bench.primary.zero_applied(0, 3 * BLOCK_BYTES, 2 * BLOCK_BYTES, True, "second")
    bench.confirm()
    bench.primary.broken()
    assert (bench.done(), bench.dirty.any()) == ([], False)
    bench.primary.granted()
    assert bench.done() == ["first", "second"]
    assert bench.primary.peer_consistent
    assert [bench.dirty.covers(block * BLOCK_BYTES, 1) for block in range(8)] == [
        block in (1, 3, 4) for block in range(8)
    ]


def test_resync_data_that_was_not_acknowledged_is_dirty_after_a_break() -> None:
    bench = Bench(dirty_blocks=(4, 5))
    bench.connect()
    bench.read_all()
    assert not bench.dirty.any()
    assert bench.primary.resync_bytes_left(bench.members[0]) == 2 * BLOCK_BYTES
    bench.primary.broken()
    assert bench.dirty.dirty_bytes() == 2 * BLOCK_BYTES
    assert bench.primary.resync_bytes_left(bench.members[0]) == 2 * BLOCK_BYTES


def test_a_failed_write_is_repaired_in_sync() -> None:
    bench = Bench()
    bench.mirror()
    bench.primary.write_failed(0, 5 * BLOCK_BYTES, 512)
    order = bench.primary.next_read()
    assert order is not None
    bench.give(order)
    assert [(f.kind, f.offset) for f in bench.sent()] == [(Kind.WRITE, 5 * BLOCK_BYTES)]
    assert bench.phase() is Phase.MIRRORED


def test_reads_out_and_in_flight_stay_within_the_bounds_of_a_resync() -> None:
    bench = Bench(64, size_bytes=64 * BLOCK_BYTES)
    bench.connect("")
    blocks = RESYNC_READ_BYTES_MAX // BLOCK_BYTES
    orders: list[ReadOrder] = []
    for _ in range(64):
        while (order := bench.primary.next_read()) is not None:
            orders.append(order)
        assert len(orders) <= RESYNC_READS_MAX
        if not orders:
            break
        order = orders.pop(0)
        bench.primary.read_done(order, [Piece(order.first_block, blocks, bytes(RESYNC_READ_BYTES_MAX))])
    assert not orders, "there is no room until the secondary acknowledges"
    in_flight_max = RESYNC_IN_FLIGHT_BYTES_MAX + RESYNC_READS_MAX * RESYNC_READ_BYTES_MAX
    assert RESYNC_IN_FLIGHT_BYTES_MAX <= bench.primary.flight.payload_bytes <= in_flight_max
    bench.acknowledge()
    assert bench.primary.next_read() is not None


# Stopping


def test_a_stop_lets_what_travels_arrive_and_tracks_what_comes_after_the_grant() -> None:
    bench = Bench()
    bench.mirror()
    bench.primary.write_applied(0, 0, DATA, "before")
    bench.primary.stop()
    assert (bench.phase(), bench.primary.wants_grant) == (Phase.STOPPING, True)
    bench.primary.write_applied(0, 3 * BLOCK_BYTES, DATA, "asking")
    assert [frame.offset for frame in bench.sent()] == [0, 3 * BLOCK_BYTES]
    assert bench.done() == []
    bench.primary.granted()
    assert bench.phase() is Phase.DRAINING
    bench.primary.write_applied(0, BLOCK_BYTES, DATA, "after")
    assert bench.sent() == []
    assert bench.done() == ["after"]
    assert not bench.is_drained()
    bench.acknowledge()
    assert bench.done() == ["before", "asking"]
    assert bench.is_drained()
    bench.primary.drained()
    assert bench.phase() is Phase.ALONE
    assert bench.dirty.dirty_bytes() == BLOCK_BYTES
    assert bench.primary.peer_consistent


def test_a_stop_without_its_grant_ends_nothing() -> None:
    bench = Bench()
    bench.mirror()
    bench.primary.stop()
    assert not bench.is_drained()
    bench.primary.write_applied(0, 0, DATA, "w")
    bench.acknowledge()
    assert bench.done() == ["w"], "the secondary is still waited for"
    with pytest.raises(InternalError):
        bench.primary.drained()


def test_a_stop_waits_for_flushes_on_their_way() -> None:
    bench = Bench()
    bench.mirror()
    waiter = bench.primary.flush_begun(0, "f")
    bench.primary.flush_local_done(waiter)
    bench.primary.stop()
    bench.primary.granted()
    bench.acknowledge()
    assert not bench.is_drained()
    bench.flushed(bench.primary.sequence)
    assert bench.is_drained()
    assert bench.done() == ["f"]


def test_a_stop_that_is_taken_back_reports_again_since_its_grant_may_have_been_recorded() -> None:
    bench = Bench()
    bench.mirror()
    bench.confirm()
    bench.primary.stop()
    bench.primary.want()
    assert bench.phase() is Phase.MIRRORED
    assert bench.primary.wants_report


def test_a_stop_while_copying_takes_no_further_reads_and_keeps_them_dirty() -> None:
    bench = Bench(dirty_blocks=(0, 5))
    bench.connect()
    order = bench.primary.next_read()
    assert order is not None
    bench.primary.stop()
    bench.sent()
    bench.give(order)
    assert bench.sent() == []
    assert bench.primary.next_read() is None
    assert bench.dirty.dirty_bytes() == 2 * BLOCK_BYTES
    bench.acknowledge()
    bench.primary.drained()
    assert bench.primary.peer_consistent is False


def test_a_stop_while_finishing_believes_the_end_only_when_it_was_recorded() -> None:
    bench = Bench(dirty_blocks=(0,))
    bench.connect()
    bench.read_all()
    assert bench.phase() is Phase.FINISHING
    bench.primary.stop()
    bench.acknowledge()
    believed = [bench.primary.peer_consistent]
    bench.flushed(bench.primary.sequence)
    believed.append(bench.primary.peer_consistent)
    assert believed == [False, True]
    assert bench.is_drained()


def test_goodbye_with_frames_in_flight_is_a_bug() -> None:
    bench = Bench()
    bench.mirror()
    bench.primary.write_applied(0, 0, DATA, "w")
    bench.primary.stop()
    bench.primary.granted()
    with pytest.raises(InternalError):
        bench.primary.drained()


def test_a_break_while_draining_makes_the_rest_dirty() -> None:
    bench = Bench()
    bench.mirror()
    bench.primary.write_applied(0, 0, DATA, "w")
    bench.primary.stop()
    bench.primary.granted()
    bench.primary.broken()
    assert bench.done() == ["w"]
    assert bench.dirty.dirty_bytes() == BLOCK_BYTES
    assert bench.phase() is Phase.ALONE


def test_a_break_while_a_stop_asks_holds() -> None:
    bench = Bench()
    bench.mirror()
    bench.confirm()
    bench.primary.write_applied(0, 0, DATA, "w")
    bench.primary.stop()
    bench.primary.broken()
    assert (bench.phase(), bench.done()) == (Phase.HOLDING, [])
    bench.primary.granted()
    assert (bench.phase(), bench.done(), bench.dirty.dirty_bytes()) == (Phase.ALONE, ["w"], BLOCK_BYTES)


# A member that grows


def test_a_member_grows_in_sync_and_nothing_is_copied() -> None:
    bench = Bench()
    bench.mirror()
    bench.primary.grow(0, 2 * SIZE)
    assert (bench.primary.is_dirty, bench.primary.next_read(), bench.phase()) == (False, None, Phase.MIRRORED)
    bench.primary.write_applied(0, 2 * SIZE - 512, DATA, "host")
    (sent,) = bench.sent()
    assert (sent.offset, sent.length) == (2 * SIZE - 512, 512)
    bench.acknowledge()
    assert bench.primary.completed == ["host"]


def test_a_read_that_is_out_while_a_member_grows_is_taken_but_for_a_block_that_was_cut_short() -> None:
    size_bytes = 2 * BLOCK_BYTES + 4096
    bench = Bench(dirty_blocks=(1, 2), size_bytes=size_bytes)
    bench.connect()
    order = bench.primary.next_read()
    assert order is not None
    bench.sent()
    bench.primary.grow(0, 4 * BLOCK_BYTES)
    bench.primary.read_done(order, [Piece(1, 2, bytes([7]) * (BLOCK_BYTES + 4096))])
    assert [(sent.offset, sent.length) for sent in bench.sent()] == [(BLOCK_BYTES, BLOCK_BYTES)]
    again = bench.primary.next_read()
    assert again is not None
    assert (again.first_block, again.block_count) == (2, 1)
    bench.primary.read_done(again, [Piece(2, 1, bytes([7]) * BLOCK_BYTES)])
    assert (bench.sent()[0].length, bench.phase()) == (BLOCK_BYTES, Phase.FINISHING)
