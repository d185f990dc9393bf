"""A primary that takes from its secondary what may be missing here, before any host sees it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.core.group.test_comparing import blocks_of, compared, digested
from tests.unit.core.group.test_primary import DATA, KNOWN, Bench, answer
from twinsite.core.group.comparing import FETCH_BLOCKS_MAX
from twinsite.core.group.primary import Primary
from twinsite.core.group.recovery import Action
from twinsite.core.group.resync import Piece
from twinsite.core.group.states import Phase
from twinsite.core.limits import BLOCK_BYTES, COMPARES_MAX, FETCH_BYTES_MAX, FETCHES_MAX
from twinsite.core.stream.frames import Frame, Kind
from twinsite.core.stream.hello import Doubt, Welcome
from twinsite.core.tracking.dirty_map import DirtyMap
from twinsite.errors import InternalError, PeerViolation

SAME = Welcome(1, KNOWN, consistent=True, doubt=Doubt.NONE)


class Healing(Bench):
    """A primary that starts, whose secondary has every acknowledged write, and which suspects some blocks."""

    def __init__(
        self,
        *suspected: int,
        dirty: tuple[int, ...] = (),
        blocks: int = 8,
        size_bytes: int = 0,
        lacks_writes: bool = True,
        reads_prove_nothing: bool = False,
        connect: bool = True,
    ) -> None:
        super().__init__(dirty_blocks=dirty, size_bytes=size_bytes or blocks * BLOCK_BYTES, held=True)
        self.suspect = self.members[0].suspect
        for block in suspected:
            self.suspect.mark_blocks(block, 1)
        self.primary = Primary(
            self.members,
            generations=frozenset({KNOWN, "an older lineage"}),
            sequence=100,
            peer_consistent=False,
            peer_has_all=True,
            lacks_writes=lacks_writes,
            reads_prove_nothing=reads_prove_nothing,
        )
        if connect:
            assert self.connect()
            assert self.phase() is Phase.HEALING

    def is_healed(self) -> bool:
        return self.primary.is_healed

    def compare(self, *differing: int) -> list[Frame]:
        """Compare all that is suspected, of which these blocks differ; return what is sent besides."""
        others = []
        while (order := self.primary.next_read()) is not None:
            self.primary.read_done(order, digested(order, order.block_count))
            for frame in self.sent():
                if frame.kind != Kind.COMPARE:
                    others.append(frame)
                    continue
                first = frame.offset // BLOCK_BYTES
                self.primary.received([compared(frame, *(block - first for block in differing if block >= first))])
        return others + self.sent()

    def bring(self, fetch: Frame) -> None:
        """Answer a fetch, and write what came."""
        self.primary.received([content(fetch)])
        self.apply()

    def apply(self) -> list[tuple[int, int, bytes]]:
        """Write what came, as the shell does."""
        written = []
        for index, offset, data in self.primary.take_contents():
            written.append((index, offset, bytes(data)))
            self.primary.content_applied(index, offset, len(data))
        return written


def content(fetch: Frame, length: int | None = None) -> Frame:
    """What a secondary answers that holds a `c` everywhere."""
    data = memoryview(b"c" * (fetch.length if length is None else length))
    return Frame(Kind.CONTENT, 0, fetch.volume, len(data), fetch.sequence, fetch.offset, data)


def kinds(frames: list[Frame]) -> list[int]:
    return [frame.kind for frame in frames]


# What is taken


def test_only_what_differs_is_taken_and_the_image_keeps_its_name() -> None:
    bench = Healing(1, 2, 3, 5)
    assert bench.primary.generations == {KNOWN}
    fetches = bench.compare(2, 5)
    assert [(frame.kind, frame.offset, frame.length) for frame in fetches] == [
        (Kind.FETCH, 2 * BLOCK_BYTES, BLOCK_BYTES),
        (Kind.FETCH, 5 * BLOCK_BYTES, BLOCK_BYTES),
    ]
    bench.primary.received([content(fetch) for fetch in fetches])
    assert not bench.is_healed(), "what has come is not yet in the store"
    assert bench.apply() == [(0, block * BLOCK_BYTES, b"c" * BLOCK_BYTES) for block in (2, 5)]
    assert bench.is_healed()
    assert bench.phase() is Phase.HEALING, "the stores are not flushed yet"
    bench.primary.healed()
    assert (bench.phase(), bench.primary.lacks_writes, bench.primary.peer_consistent) == (Phase.MIRRORED, False, True)
    assert bench.primary.wants_report
    assert bench.sent() == [], "nothing is copied to the secondary"


def test_what_is_known_to_differ_is_compared_too_since_the_other_side_counts() -> None:
    bench = Healing(1, dirty=(4,), lacks_writes=False)
    assert (blocks_of(bench.suspect), blocks_of(bench.dirty)) == ([1, 4], [])
    (fetch,) = bench.compare(4)
    bench.bring(fetch)
    assert bench.is_healed()


def test_nothing_suspected_is_healed_at_once() -> None:
    bench = Healing()
    assert bench.is_healed()


def test_whoever_is_not_healed_cannot_say_so() -> None:
    bench = Healing(1)
    with pytest.raises((AssertionError, InternalError)):
        bench.primary.healed()
    assert bench.phase() is Phase.HEALING


def test_healing_is_not_over_before_reads_answers_and_contents_are() -> None:
    bench = Healing(1)
    order = bench.primary.next_read()
    assert order is not None
    assert not bench.is_healed()
    bench.primary.read_done(order, digested(order, 1))
    (question,) = bench.sent()
    bench.acknowledge()
    assert not bench.is_healed()
    assert bench.primary.oldest_question == question.sequence
    bench.primary.received([compared(question, 0)])
    (fetch,) = bench.sent()
    bench.acknowledge()
    assert not bench.is_healed()
    assert bench.primary.oldest_question == fetch.sequence
    bench.bring(fetch)
    assert bench.is_healed()
    assert bench.primary.oldest_question is None


def test_zeros_here_are_compared_without_digests() -> None:
    bench = Healing(1, 2, 3)
    order = bench.primary.next_read()
    assert order is not None
    bench.primary.read_done(order, [Piece(1, 3, None)])
    (question,) = bench.sent()
    assert (question.kind, question.length) == (Kind.COMPARE_ZERO, 3 * BLOCK_BYTES)
    bench.primary.received([compared(question, 1)])
    (fetch,) = bench.sent()
    assert (fetch.offset, fetch.length) == (2 * BLOCK_BYTES, BLOCK_BYTES)


def test_the_short_last_block_is_taken_to_its_last_byte() -> None:
    bench = Healing(1, 2, size_bytes=2 * BLOCK_BYTES + 1000)
    (fetch,) = bench.compare(1, 2)
    assert (fetch.offset, fetch.length) == (BLOCK_BYTES, BLOCK_BYTES + 1000)
    bench.bring(fetch)
    assert bench.is_healed()
    assert not bench.primary.is_dirty


def test_hosts_are_not_told_done_while_it_heals() -> None:
    bench = Healing(1)
    bench.primary.write_applied(0, 6 * BLOCK_BYTES, DATA, "w")
    waiter = bench.primary.flush_begun(0, "f")
    bench.primary.flush_local_done(waiter)
    assert bench.done() == []


# Where reading proves nothing


def test_where_reads_prove_nothing_all_that_is_suspected_is_taken_without_a_look() -> None:
    bench = Healing(1, 2, 6, dirty=(4,), reads_prove_nothing=True)
    fetches = bench.sent()
    assert [(frame.kind, frame.offset // BLOCK_BYTES, frame.length // BLOCK_BYTES) for frame in fetches] == [
        (Kind.FETCH, 1, 2),
        (Kind.FETCH, 4, 1),
        (Kind.FETCH, 6, 1),
    ]
    assert bench.primary.next_read() is None
    for fetch in fetches:
        assert not bench.is_healed()
        bench.bring(fetch)
    assert bench.is_healed()


def test_where_reads_prove_nothing_a_second_attempt_does_not_read_either() -> None:
    bench = Healing(1, 2, reads_prove_nothing=True)
    bench.primary.broken()
    bench.sent()
    assert bench.connect()
    assert kinds(bench.sent()) == [Kind.FETCH]
    assert bench.primary.next_read() is None


# Bounds


def test_fetches_are_cut_to_one_frame_and_few_are_out() -> None:
    blocks = FETCH_BLOCKS_MAX * FETCHES_MAX * 3 + 1
    bench = Healing(*range(blocks), blocks=blocks, reads_prove_nothing=True)
    fetches = bench.sent()
    taken = 0
    while fetches:
        assert len(fetches) <= FETCHES_MAX
        assert all(fetch.length <= FETCH_BYTES_MAX for fetch in fetches)
        fetch = fetches.pop(0)
        taken += fetch.length
        bench.bring(fetch)
        fetches += bench.sent()
    assert taken == blocks * BLOCK_BYTES
    assert bench.is_healed()


def test_comparisons_out_are_bounded_while_healing() -> None:
    bench = Healing(*range(0, 100, 2), blocks=100)
    questions = []
    while (order := bench.primary.next_read()) is not None:
        bench.primary.read_done(order, digested(order, order.block_count))
        questions += bench.sent()
    assert len(questions) == COMPARES_MAX


# Hostile answers


BAD_CONTENTS: dict[str, Callable[[Frame], Frame]] = {
    "not asked for": lambda fetch: content(fetch)._replace(sequence=fetch.sequence + 1),
    "of the comparison": lambda fetch: content(fetch)._replace(sequence=fetch.sequence - 1),
    "of nothing": lambda fetch: content(fetch)._replace(sequence=0),
    "too short": lambda fetch: content(fetch, fetch.length - 1),
    "too long": lambda fetch: content(fetch, fetch.length + 1),
    "empty": lambda fetch: content(fetch, 0),
    "bits": lambda fetch: content(fetch)._replace(kind=Kind.COMPARED),
}


@pytest.mark.parametrize("bad", BAD_CONTENTS.values(), ids=BAD_CONTENTS)
def test_content_that_was_not_asked_for_is_a_violation_and_not_written(bad: Callable[[Frame], Frame]) -> None:
    bench = Healing(1, 2)
    (fetch,) = bench.compare(1)
    with pytest.raises(PeerViolation, match=r"asked for none|asked for others|did not ask for that"):
        bench.primary.received([bad(fetch)])
    assert bench.apply() == []
    assert not bench.is_healed()
    bench.primary.broken()
    assert 1 in blocks_of(bench.suspect) + blocks_of(bench.dirty)


def test_content_comes_once() -> None:
    bench = Healing(1, 2)
    (fetch,) = bench.compare(1)
    bench.bring(fetch)
    with pytest.raises(PeerViolation, match="asked for none"):
        bench.primary.received([content(fetch)])


def test_content_goes_where_it_was_asked_for_whatever_the_answer_says() -> None:
    bench = Healing(1, 2)
    (fetch,) = bench.compare(1)
    bench.primary.received([content(fetch)._replace(volume=7, offset=0)])
    assert [(index, offset) for index, offset, _ in bench.apply()] == [(0, BLOCK_BYTES)]


@pytest.mark.parametrize("kind", [Kind.COMPARED, Kind.CONTENT])
def test_answers_to_whoever_asks_nothing_are_violations(kind: Kind) -> None:
    bench = Bench()
    bench.mirror()
    with pytest.raises(PeerViolation):
        bench.primary.received([answer(kind, bench.primary.sequence)._replace(payload=memoryview(b"\0"), length=1)])


# Ends in the middle


ENDS: dict[str, tuple[Callable[[Primary], None], Phase]] = {
    "a break": (Primary.broken, Phase.HOLDING),
    "a stop": (Primary.stop, Phase.HOLDING),
    "a grant": (Primary.granted, Phase.ALONE),
    "a replacement": (Primary.replaced, Phase.REPLACED),
}
MOMENTS = ("reading", "asked", "fetching", "brought")


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("end, phase", ENDS.values(), ids=ENDS)
def test_healing_that_ends_in_the_middle_forgets_nothing(
    end: Callable[[Primary], None], phase: Phase, moment: str
) -> None:
    bench = Healing(1, 2, 5, lacks_writes=False)
    order = bench.primary.next_read()
    assert order is not None
    if moment != "reading":
        bench.primary.read_done(order, digested(order, 2))
        (question,) = bench.sent()
    if moment in ("fetching", "brought"):
        bench.primary.received([compared(question, 0, 1)])
        (fetch,) = bench.sent()
    if moment == "brought":
        bench.primary.received([content(fetch)])
    bench.acknowledge()
    end(bench.primary)
    assert bench.phase() is phase
    assert set(blocks_of(bench.suspect)) | set(blocks_of(bench.dirty)) == {1, 2, 5}
    assert (bench.sent(), bench.apply(), bench.done()) == ([], [], [])
    bench.primary.read_done(order, digested(order, 2))
    assert (bench.sent(), bench.is_healed()) == ([], False)


@pytest.mark.parametrize("end", [Primary.broken, Primary.stop])
def test_healing_begins_again_with_what_is_left(end: Callable[[Primary], None]) -> None:
    bench = Healing(1, 2, 5)
    order = bench.primary.next_read()
    assert order is not None
    bench.primary.read_done(order, digested(order, 2))
    (question,) = bench.sent()
    bench.acknowledge()
    bench.primary.received([compared(question)])
    end(bench.primary)
    assert bench.primary.must_wait, "nothing has been brought yet"
    assert bench.primary.consider(SAME) is Action.HEAL
    bench.primary.want()
    assert bench.connect()
    assert blocks_of(bench.suspect) == [5]
    (fetch,) = bench.compare(5)
    bench.bring(fetch)
    bench.primary.healed()
    assert not bench.primary.must_wait


def test_after_a_grant_in_the_middle_the_rest_is_copied_from_here() -> None:
    bench = Healing(1, 2, 5, lacks_writes=False)
    (fetch,) = bench.compare(1)
    bench.primary.granted()
    assert not bench.primary.peer_has_all
    assert bench.connect(new="fresh")
    assert (bench.phase(), bench.dirty.covers(fetch.offset, fetch.length)) == (Phase.COPYING, True)
    assert kinds(bench.sent())[0] == Kind.RESYNC_BEGIN


def test_a_stop_while_healing_goes_on_when_it_is_wanted_again() -> None:
    bench = Healing(3)
    bench.primary.stop()
    bench.primary.broken()
    assert not bench.primary.wants_report
    bench.primary.want()
    assert bench.connect()
    assert bench.phase() is Phase.HEALING


# Until what was taken is flushed


def test_what_was_taken_and_is_not_flushed_is_healed_again_and_never_resumed() -> None:
    bench = Healing(1, 2, lacks_writes=False)
    (fetch,) = bench.compare(1, 2)
    bench.bring(fetch)
    bench.acknowledge()
    assert bench.is_healed()
    bench.primary.broken()
    assert not bench.primary.is_dirty
    assert bench.primary.consider(SAME) is Action.HEAL
    assert bench.connect()
    assert bench.is_healed()
    bench.primary.healed()
    bench.primary.broken()
    assert bench.primary.consider(SAME) is Action.RESUME


def test_while_what_was_taken_is_being_flushed_nobody_is_asked_to_go_on_alone() -> None:
    bench = Healing(1, lacks_writes=False)
    bench.primary.is_flushing_healed = True
    bench.primary.broken()
    assert (bench.phase(), bench.primary.must_wait) == (Phase.HOLDING, True)
    bench.primary.is_flushing_healed = False
    assert not bench.primary.must_wait


@pytest.mark.parametrize("is_connected", [True, False])
def test_a_volume_may_grow_while_it_is_healed_and_before_it_is_healed_again(is_connected: bool) -> None:
    bench = Healing(1, 2, lacks_writes=False)
    if not is_connected:
        bench.primary.broken()
    bench.primary.grow(0, 16 * BLOCK_BYTES)
    if is_connected:
        bench.primary.broken()
    assert bench.connect()
    (fetch,) = bench.compare(1, 2)
    bench.bring(fetch)
    assert bench.is_healed()
    bench.primary.healed()
    assert bench.phase() is Phase.MIRRORED


def test_a_volume_that_grows_while_its_short_last_block_is_read_to_be_healed_is_healed() -> None:
    bench = Healing(1, 2, size_bytes=2 * BLOCK_BYTES + 1024)
    order = bench.primary.next_read()
    assert order is not None
    assert (order.first_block, order.block_count) == (1, 2)
    bench.primary.grow(0, 4 * BLOCK_BYTES)
    bench.primary.read_done(order, digested(order, order.block_count))
    sent = {Kind(frame.kind): frame for frame in bench.sent()}
    fetch = sent[Kind.FETCH]
    assert (fetch.offset, fetch.length) == (2 * BLOCK_BYTES, BLOCK_BYTES), "its digest is that of a shorter block"
    bench.primary.received([compared(sent[Kind.COMPARE])])
    bench.bring(fetch)
    assert bench.is_healed()


# Whom it heals from


@pytest.mark.parametrize(
    "welcome",
    [
        Welcome(1, KNOWN, consistent=False, doubt=Doubt.NONE),
        Welcome(1, KNOWN, consistent=True, doubt=Doubt.FLUSH_FAILED),
        Welcome(1, "another", consistent=True, doubt=Doubt.NONE),
        Welcome(1, "", consistent=False, doubt=Doubt.RESTARTED, led=[KNOWN]),
        Welcome(1, "", consistent=False, doubt=Doubt.FLUSH_FAILED, led=[KNOWN]),
        Welcome(1, "", consistent=False, doubt=Doubt.NONE),
    ],
    ids=str,
)
def test_nothing_is_taken_from_a_secondary_that_may_lack_something(welcome: Welcome) -> None:
    bench = Healing(1, connect=False)
    assert not bench.primary.connected(welcome, "fresh")
    assert (bench.phase(), bench.sent(), bench.primary.must_wait) == (Phase.HOLDING, [], True)


def test_healing_from_a_former_primary_ends_the_session_and_leaves_its_image_to_be_named() -> None:
    former = Welcome(1, "", consistent=False, doubt=Doubt.NONE, led=["older", KNOWN])
    bench = Healing(1, 4, connect=False)
    assert bench.primary.connected(former, "fresh")
    assert KNOWN in bench.primary.generations, "it is still known by that when it comes again"
    (fetch,) = bench.compare(4)
    bench.bring(fetch)
    bench.acknowledge()
    assert not bench.primary.healed()
    assert not (bench.phase() is Phase.MIRRORED or bench.primary.must_wait)
    bench.primary.broken()
    assert bench.primary.consider(former) is Action.ASK
    bench.primary.granted()
    assert bench.primary.connected(former, "fresh")
    assert kinds(bench.sent()) == [Kind.RESYNC_BEGIN, Kind.RESYNC_END]


def test_once_hosts_have_been_served_a_held_stream_is_resumed_and_not_healed() -> None:
    bench = Healing()
    bench.primary.healed()
    bench.confirm()
    bench.primary.write_failed(0, 0, 512)
    bench.primary.write_applied(0, BLOCK_BYTES, DATA, "w")
    bench.sent()
    bench.primary.broken()
    assert bench.primary.consider(SAME) is Action.RESUME
    assert bench.connect()
    assert kinds(bench.sent()) == [Kind.WRITE]


def test_two_volumes_are_healed_side_by_side() -> None:
    bench = Bench(2, held=True)
    for member in bench.members:
        member.suspect.mark_blocks(3, 1)
    primary = Primary(
        bench.members, generations=frozenset({KNOWN}), sequence=0, peer_consistent=True, peer_has_all=True
    )
    bench.primary = primary
    assert bench.connect()
    fetched = []
    while (order := primary.next_read()) is not None:
        primary.read_done(order, digested(order, 1))
        (question,) = bench.sent()
        primary.received([compared(question, 0)])
        (fetch,) = bench.sent()
        fetched.append(fetch.volume)
        assert not primary.is_healed
        primary.received([content(fetch)])
        for index, offset, data in primary.take_contents():
            primary.content_applied(index, offset, len(data))
    assert fetched == [0, 1]
    assert primary.is_healed


def test_a_map_of_everything_is_healed_whole() -> None:
    size_bytes = 3 * BLOCK_BYTES + 7
    bench = Healing(*range(4), size_bytes=size_bytes)
    assert bench.suspect.dirty_bytes() == DirtyMap(size_bytes, all_dirty=True).dirty_bytes()
    for fetch in bench.compare(0, 1, 2, 3):
        bench.bring(fetch)
    assert bench.is_healed()
