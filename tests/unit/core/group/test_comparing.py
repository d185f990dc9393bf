"""Comparing by digest before copying: what is asked, what an answer settles, and what is never left out."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.unit.core.group.test_primary import DATA, KNOWN, Bench
from twinsite.core.group.comparing import FETCH_BLOCKS_MAX, BlockRun, MemberCompare, Questions
from twinsite.core.group.resync import Piece, ReadOrder
from twinsite.core.group.states import Phase
from twinsite.core.limits import (
    BLOCK_BYTES,
    COMPARE_READ_BYTES_MAX,
    COMPARES_MAX,
    COMPARES_OF_READ_MAX,
    FETCHES_MAX,
    QUESTIONS_MAX,
    RESYNC_READS_MAX,
)
from twinsite.core.stream.frames import COMPARE_PAYLOAD_BYTES_MAX, DIGEST_BYTES, SEED_BYTES, Flag, Frame, Kind
from twinsite.core.stream.hello import Doubt, Welcome
from twinsite.core.tracking.dirty_map import DirtyMap
from twinsite.errors import PeerViolation

BLOCKS = 8
READ_BLOCKS = COMPARE_READ_BYTES_MAX // BLOCK_BYTES


class Comparing(Bench):
    """A primary that has begun a resync of blocks that are only suspected."""

    def __init__(self, *suspected: int, dirty: tuple[int, ...] = (), blocks: int = BLOCKS, size_bytes: int = 0) -> None:
        super().__init__(dirty_blocks=dirty, size_bytes=size_bytes or blocks * BLOCK_BYTES)
        self.suspect = self.members[0].suspect
        for block in suspected:
            self.suspect.mark_blocks(block, 1)
        assert self.connect()
        self.sent()

    def order(self) -> ReadOrder:
        """Take the next read, which must be there."""
        order = self.primary.next_read()
        assert order is not None
        return order

    def digest(self, order: ReadOrder, count: int = 0) -> list[Frame]:
        """Do a read of a comparison, of data; return what is sent then."""
        self.primary.read_done(order, digested(order, count or order.block_count))
        return self.sent()

    def ask(self) -> Frame:
        """Do one read and send its comparison."""
        (frame,) = self.digest(self.order())
        return frame

    def answer(self, question: Frame, *differing: int) -> None:
        self.primary.received([compared(question, *differing)])

    def settle(self) -> None:
        """Do every read, and find everything equal that is asked about."""
        while (order := self.primary.next_read()) is not None:
            if order.seed is None:
                self.give(order)
                continue
            for question in self.digest(order):
                if question.kind == Kind.COMPARE:
                    self.answer(question)


def digested(order: ReadOrder, count: int) -> list[Piece]:
    """What a read of data brings for the first blocks of a comparison."""
    assert order.seed is not None
    blocks = range(order.first_block, order.first_block + count)
    return [Piece(order.first_block, count, b"".join(bytes([block % 256]) * DIGEST_BYTES for block in blocks))]


def compared(question: Frame, *differing: int, bits_bytes: int | None = None) -> Frame:
    """The answer of a secondary in which these of the blocks asked about differ."""
    if question.kind == Kind.COMPARE_ZERO:
        count = -(-question.length // BLOCK_BYTES)
    else:
        count = (question.length - SEED_BYTES) // DIGEST_BYTES
    bits = bytearray(-(-count // 8) if bits_bytes is None else bits_bytes)
    for number in differing:
        bits[number // 8] |= 0x80 >> number % 8
    return Frame(Kind.COMPARED, 0, question.volume, len(bits), question.sequence, 0, memoryview(bits))


def blocks_of(marked: DirtyMap) -> list[int]:
    return [block for first, count in marked.runs() for block in range(first, first + count)]


# What is asked


def test_a_comparison_brings_the_seed_and_the_digests_at_its_place_in_the_order() -> None:
    bench = Comparing(2, 3)
    bench.primary.write_applied(0, 0, DATA, "before")
    order = bench.order()
    bench.primary.write_applied(0, 7 * BLOCK_BYTES, DATA, "meanwhile")
    before, meanwhile, question = bench.digest(order)
    assert [before.sequence + 1, meanwhile.sequence + 1] == [meanwhile.sequence, question.sequence]
    assert (question.kind, question.volume, question.offset) == (Kind.COMPARE, 0, 2 * BLOCK_BYTES)
    payload = bytes(question.payload or b"")
    assert payload[SEED_BYTES:] == b"\x02" * DIGEST_BYTES + b"\x03" * DIGEST_BYTES
    assert int.from_bytes(payload[:SEED_BYTES], "big") == order.seed


def test_each_session_has_a_seed_of_its_own() -> None:
    seeds = set()
    bench = Comparing(1)
    for number in range(5):
        seeds.add(bench.order().seed)
        bench.primary.broken()
        bench.connect(new=f"lineage {number}")
    assert len(seeds) == 5


def test_zeros_are_asked_about_without_digests_and_to_the_last_byte() -> None:
    bench = Comparing(0, 1, 2, size_bytes=2 * BLOCK_BYTES + 1000)
    bench.primary.read_done(bench.order(), [Piece(0, 3, None)])
    (question,) = bench.sent()
    assert (question.kind, question.offset, question.length) == (Kind.COMPARE_ZERO, 0, 2 * BLOCK_BYTES + 1000)
    bench.answer(question, 2)
    assert blocks_of(bench.dirty) == [2]


def test_what_is_copied_anyway_is_not_compared() -> None:
    bench = Comparing(1, 2, 3, dirty=(2,))
    assert blocks_of(bench.suspect) == [1, 3]
    assert bench.primary.tally is not None
    assert bench.primary.tally.bytes_total == 3 * BLOCK_BYTES


# What an answer settles


def test_what_is_equal_is_not_copied_and_what_differs_is() -> None:
    bench = Comparing(0, 1, 2, 3)
    question = bench.ask()
    assert blocks_of(bench.suspect) == [0, 1, 2, 3], "it is suspected until it is answered"
    assert bench.primary.next_read() is None
    bench.answer(question, 1, 3)
    assert (blocks_of(bench.suspect), blocks_of(bench.dirty)) == ([], [1, 3])
    assert bench.primary.tally is not None
    assert bench.primary.tally.bytes_compared == 4 * BLOCK_BYTES
    bench.read_all()
    *writes, end = bench.sent()
    assert [(frame.kind, frame.offset) for frame in writes] == [
        (Kind.WRITE, BLOCK_BYTES),
        (Kind.WRITE, 3 * BLOCK_BYTES),
    ]
    assert end.kind == Kind.RESYNC_END


def test_where_all_is_equal_the_resync_ends_with_the_answer() -> None:
    bench = Comparing(4, 5)
    question = bench.ask()
    bench.acknowledge()
    assert bench.phase() is Phase.COPYING, "applied is not answered"
    bench.answer(question)
    assert [frame.kind for frame in bench.sent()] == [Kind.RESYNC_END]
    assert bench.phase() is Phase.FINISHING


def test_every_comparison_must_be_answered_before_the_resync_ends() -> None:
    bench = Comparing(0, 2, 4)
    questions = []
    while (order := bench.primary.next_read()) is not None:
        questions += bench.digest(order)
    assert len(questions) == 3
    for question in reversed(questions):
        assert bench.phase() is Phase.COPYING
        bench.answer(question)
    assert bench.phase() is Phase.FINISHING


def test_a_comparison_that_was_only_read_in_part_goes_on_where_it_ended() -> None:
    bench = Comparing(*range(6))
    (first,) = bench.digest(bench.order(), count=2)
    second = bench.order()
    assert (second.first_block, second.block_count) == (2, 4)
    bench.answer(first)
    bench.answer(bench.digest(second)[0])
    assert bench.phase() is Phase.FINISHING


def test_the_short_last_block_is_a_block() -> None:
    bench = Comparing(1, 2, size_bytes=2 * BLOCK_BYTES + 512)
    bench.answer(bench.ask(), 1)
    bench.primary.read_done(bench.order(), [Piece(2, 1, b"x" * 512)])
    write, _ = bench.sent()
    assert (write.kind, write.offset, write.length) == (Kind.WRITE, 2 * BLOCK_BYTES, 512)


# Guests and breaks


@pytest.mark.parametrize("is_zero", [False, True])
def test_a_block_that_a_guest_overtakes_is_copied_and_its_old_digest_not_sent(is_zero: bool) -> None:
    bench = Comparing(0, 1, 2)
    order = bench.order()
    bench.primary.write_applied(0, BLOCK_BYTES + 5, DATA, "w")
    assert [frame.kind for frame in bench.sent()] == [Kind.WRITE], "the secondary is current for what it is asked"
    if is_zero:
        bench.primary.read_done(order, [Piece(0, 3, None)])
        questions = bench.sent()
    else:
        questions = bench.digest(order)
    assert [frame.offset for frame in questions] == [0, 2 * BLOCK_BYTES]
    assert (blocks_of(bench.suspect), blocks_of(bench.dirty)) == ([0, 2], [1])
    for question in questions:
        bench.answer(question)
    bench.read_all()
    assert [frame.offset for frame in bench.sent() if frame.kind == Kind.WRITE] == [BLOCK_BYTES]


def test_a_long_zeroing_overtakes_a_comparison_as_a_write_does() -> None:
    bench = Comparing(0, 1, 2)
    order = bench.order()
    bench.primary.zero_applied(0, 0, 2 * BLOCK_BYTES, True, "z")
    bench.sent()
    assert [frame.offset for frame in bench.digest(order)] == [2 * BLOCK_BYTES]
    assert blocks_of(bench.dirty) == [0, 1]


def test_a_write_that_failed_during_a_comparison_is_copied_whatever_the_answer() -> None:
    bench = Comparing(0, 1)
    order = bench.order()
    bench.primary.write_failed(0, 0, 512)
    for question in bench.digest(order):
        bench.answer(question)
    assert blocks_of(bench.dirty) == [0]


def test_a_write_after_the_comparison_was_sent_travels_and_does_not_change_its_answer() -> None:
    bench = Comparing(3)
    question = bench.ask()
    bench.primary.write_applied(0, 3 * BLOCK_BYTES, DATA, "w")
    assert [frame.kind for frame in bench.sent()] == [Kind.WRITE]
    bench.answer(question)
    assert bench.phase() is Phase.FINISHING
    assert not bench.dirty.any()


@pytest.mark.parametrize("is_asked", [False, True])
@pytest.mark.parametrize("is_acknowledged", [False, True])
def test_a_break_leaves_suspected_what_was_not_answered(is_asked: bool, is_acknowledged: bool) -> None:
    bench = Comparing(1, 2, 5)
    order = bench.order()
    if is_asked:
        bench.digest(order)
    if is_acknowledged:
        bench.acknowledge()
    bench.primary.broken()
    assert set(blocks_of(bench.suspect)) | set(blocks_of(bench.dirty)) == {1, 2, 5}
    bench.connect("new lineage" if is_acknowledged else KNOWN, new="after")
    bench.sent()
    if not is_asked:
        bench.digest(order)
        assert bench.sent() == [], "a read of an ended session is void"
    bench.settle()
    assert bench.phase() is Phase.FINISHING


def test_answers_that_come_while_a_stop_drains_settle_nothing() -> None:
    bench = Comparing(1, 2)
    question = bench.ask()
    bench.primary.stop()
    assert bench.phase() is Phase.DRAINING
    bench.answer(question)
    assert (blocks_of(bench.suspect), bench.sent()) == ([1, 2], [])
    bench.acknowledge()
    bench.primary.drained()
    assert blocks_of(bench.suspect) == [1, 2]


# Bounds


def test_no_read_begins_while_as_many_comparisons_as_may_be_are_unanswered() -> None:
    bench = Comparing(*range(0, 100, 2), blocks=100)
    questions: list[Frame] = []
    while (order := bench.primary.next_read()) is not None:
        questions += bench.digest(order)
    assert len(questions) == COMPARES_MAX
    bench.acknowledge()
    assert bench.primary.next_read() is None, "applied is not answered"
    bench.answer(questions[0])
    assert bench.primary.next_read() is not None


def test_reads_of_comparisons_out_at_once_are_bounded() -> None:
    bench = Comparing(*range(8 * READ_BLOCKS), blocks=8 * READ_BLOCKS)
    first = bench.order()
    assert bench.primary.next_read() is None, "whether there is data, or a hole without end, is not known yet"
    bench.digest(first, count=READ_BLOCKS)
    orders = []
    while (order := bench.primary.next_read()) is not None:
        assert order.block_count <= READ_BLOCKS
        orders.append(order)
    assert len(orders) == RESYNC_READS_MAX


def test_a_read_is_asked_about_in_comparisons_that_a_frame_can_carry() -> None:
    bench = Comparing(*range(2 * READ_BLOCKS), blocks=2 * READ_BLOCKS)
    questions = bench.digest(bench.order(), count=READ_BLOCKS)
    lengths = [question.length for question in questions]
    assert max(lengths) <= COMPARE_PAYLOAD_BYTES_MAX
    assert sum(lengths) == READ_BLOCKS * DIGEST_BYTES + len(questions) * SEED_BYTES
    counts = [(length - SEED_BYTES) // DIGEST_BYTES for length in lengths]
    assert [question.offset // BLOCK_BYTES for question in questions] == [sum(counts[:n]) for n in range(len(counts))]


def fragments(order: ReadOrder) -> list[Piece]:
    """What a read brings where every other block is zeros."""
    blocks = range(order.first_block, order.first_block + order.block_count)
    return [Piece(block, 1, None if block % 2 else b"d" * DIGEST_BYTES) for block in blocks]


@pytest.mark.parametrize("is_contended", [False, True])
def test_comparisons_stay_within_what_a_secondary_takes_however_a_disk_is_cut_up(is_contended: bool) -> None:
    blocks = 6 * COMPARES_OF_READ_MAX
    bench = Comparing(*range(blocks), blocks=blocks)
    open_questions: list[Frame] = []
    asked: set[int] = set()
    for _ in range(2 * blocks):
        orders = []
        while (order := bench.primary.next_read()) is not None:
            orders.append(order)
        for order in orders:
            if order.seed is None:
                bench.give(order)
                continue
            pieces = fragments(order)
            if is_contended:
                for block in range(order.first_block, order.first_block + order.block_count, 2):
                    bench.primary.write_applied(0, block * BLOCK_BYTES, DATA, "w")
                pieces = [Piece(order.first_block, order.block_count, None)]
            bench.primary.read_done(order, pieces)
        questions = [frame for frame in bench.sent() if frame.kind in (Kind.COMPARE, Kind.COMPARE_ZERO)]
        assert asked.isdisjoint(question.offset for question in questions), "each block is asked about once"
        asked |= {question.offset for question in questions}
        open_questions += questions
        assert len(open_questions) <= QUESTIONS_MAX - FETCHES_MAX
        bench.acknowledge()
        if bench.phase() is Phase.FINISHING:
            break
        if open_questions:
            bench.answer(open_questions.pop(0))
    assert bench.phase() is Phase.FINISHING
    assert is_contended or len(asked) == blocks


def test_reads_that_come_back_in_another_order_are_not_made_again() -> None:
    bench = Comparing(*range(8 * READ_BLOCKS), blocks=8 * READ_BLOCKS)
    questions = bench.digest(bench.order(), count=READ_BLOCKS)
    orders = []
    while (order := bench.primary.next_read()) is not None:
        orders.append(order)
    for order in reversed(orders):
        questions += bench.digest(order)
    for question in questions:
        bench.answer(question)
    following = bench.order()
    assert following.first_block == orders[-1].first_block + orders[-1].block_count


@pytest.mark.parametrize("seed", range(10))
def test_whatever_differs_is_copied_and_hardly_anything_else(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    suspected = {block for block in range(200) if rng.random() < 0.4}
    differing = {block for block in suspected if rng.random() < 0.2}
    bench = Comparing(*suspected, blocks=200)
    overtaken: set[int] = set()
    copied: set[int] = set()
    orders: list[ReadOrder] = []
    questions: list[Frame] = []
    for _ in range(5000):
        if bench.phase() is not Phase.COPYING:
            break
        if (order := bench.primary.next_read()) is not None:
            orders.append(order)
        if rng.random() < 0.05:
            overtaken.add(block := rng.randrange(200))
            bench.primary.write_applied(0, block * BLOCK_BYTES, DATA, "w")
        if orders and rng.random() < 0.5:
            order = orders.pop(rng.randrange(len(orders)))
            if order.seed is None:
                bench.give(order)
            else:
                bench.primary.read_done(order, digested(order, rng.randint(1, order.block_count)))
        for frame in bench.sent():
            if frame.kind == Kind.COMPARE:
                questions.append(frame)
            elif frame.flags & Flag.RESYNC:
                first = frame.offset // BLOCK_BYTES
                copied.update(range(first, first + frame.length // BLOCK_BYTES))
        if questions and rng.random() < 0.5:
            question = questions.pop(rng.randrange(len(questions)))
            first, count = question.offset // BLOCK_BYTES, (question.length - SEED_BYTES) // DIGEST_BYTES
            bench.answer(question, *(block - first for block in range(first, first + count) if block in differing))
        bench.acknowledge()
    assert bench.phase() is Phase.FINISHING
    assert differing <= copied | overtaken
    assert copied <= differing | overtaken


# Answers that no secondary of ours gives


BAD_ANSWERS = {
    "of another sequence": lambda question: compared(question)._replace(sequence=question.sequence + 1),
    "of the begin": lambda question: compared(question)._replace(sequence=question.sequence - 1),
    "of nothing": lambda question: compared(question)._replace(sequence=0),
    "too short": lambda question: compared(question, bits_bytes=1),
    "too long": lambda question: compared(question, bits_bytes=3),
    "empty": lambda question: compared(question, bits_bytes=0),
    "content": lambda question: compared(question)._replace(kind=Kind.CONTENT),
}


@pytest.mark.parametrize("bad", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_an_answer_that_fits_no_question_is_a_violation(bad: Callable[[Frame], Frame]) -> None:
    bench = Comparing(*range(10), blocks=10)
    question = bench.ask()
    with pytest.raises(PeerViolation, match=r"did not ask for that|asked for none"):
        bench.primary.received([bad(question)])
    assert len(blocks_of(bench.suspect)) == 10


def test_an_answer_counts_once() -> None:
    bench = Comparing(1, 3)
    question = bench.ask()
    bench.answer(question)
    with pytest.raises(PeerViolation, match="did not ask for that"):
        bench.answer(question)


def test_an_answer_of_the_session_before_is_a_violation() -> None:
    bench = Comparing(1)
    question = bench.ask()
    bench.primary.broken()
    bench.connect(new="after")
    with pytest.raises(PeerViolation, match="did not ask for that"):
        bench.answer(question)


def test_bits_behind_the_last_block_of_a_question_mean_nothing() -> None:
    bench = Comparing(0, 1)
    bench.answer(bench.ask(), 2, 3, 7)
    assert (bench.phase(), bench.dirty.any()) == (Phase.FINISHING, False)


# The parts alone


def test_questions_cut_what_differs_into_runs() -> None:
    questions = Questions()
    run = BlockRun(3, 100, 12)
    questions.compare_sent(7, run)
    assert questions.any()
    asked, runs = questions.compared(7, memoryview(bytes([0b10110000, 0b00110000])))
    assert asked == run
    assert runs == [BlockRun(3, 100, 1), BlockRun(3, 102, 2), BlockRun(3, 110, 2)]
    assert not questions.any()


@pytest.mark.parametrize("count", [1, FETCH_BLOCKS_MAX, FETCH_BLOCKS_MAX + 1, 5 * FETCH_BLOCKS_MAX - 1, 200])
def test_what_is_wanted_is_fetched_in_pieces_of_one_frame_and_few_at_once(count: int) -> None:
    questions = Questions()
    questions.want(BlockRun(1, 10, count))
    fetched: list[int] = []
    open_fetches: list[int] = []
    sequence = 0
    while questions.any():
        while (run := questions.next_fetch()) is not None:
            sequence += 1
            assert (run.volume, run.block_count <= FETCH_BLOCKS_MAX) == (1, True)
            questions.fetch_sent(sequence, run)
            open_fetches.append(sequence)
        assert 0 < len(open_fetches) <= FETCHES_MAX
        run = questions.fetched(open_fetches.pop(0))
        fetched += range(run.first_block, run.first_block + run.block_count)
    assert fetched == list(range(10, 10 + count))


def test_a_whole_volume_is_wanted_without_a_list_of_its_pieces() -> None:
    questions = Questions()
    questions.want(BlockRun(0, 0, 100_000))
    assert len(questions.to_fetch) == 1
    assert questions.next_fetch() == BlockRun(0, 0, FETCH_BLOCKS_MAX)
    assert questions.next_fetch() == BlockRun(0, FETCH_BLOCKS_MAX, FETCH_BLOCKS_MAX)


def test_forgotten_questions_have_no_answer() -> None:
    questions = Questions()
    questions.compare_sent(1, BlockRun(0, 0, 1))
    questions.fetch_sent(2, BlockRun(0, 0, 1))
    questions.want(BlockRun(0, 1, 1))
    questions.forget()
    assert not questions.any()
    assert questions.next_fetch() is None
    with pytest.raises(PeerViolation):
        questions.compared(1, memoryview(b"\0"))
    with pytest.raises(PeerViolation):
        questions.fetched(2)


def test_a_member_is_gone_round_again_only_when_nothing_is_out() -> None:
    suspect = DirtyMap(4 * BLOCK_BYTES, all_dirty=True)
    member = MemberCompare(0, suspect)
    order = member.next_order(1, 7)
    assert order is not None
    member.take_back(order, [Piece(0, 4, b"d" * 4 * DIGEST_BYTES)])
    member.unanswered = 1
    assert member.next_order(1, 7) is None, "all of it is being answered"
    member.unanswered = 0
    again = member.next_order(1, 7)
    assert again is not None
    assert (again.first_block, again.block_count) == (0, 4)


def test_a_resync_is_a_delta_for_a_former_primary_of_a_known_lineage() -> None:
    for led, kind in ((["older", KNOWN], "delta"), (["older"], "full")):
        bench = Bench(dirty_blocks=(0,))
        assert bench.primary.connected(Welcome(1, "", consistent=False, doubt=Doubt.NONE, led=led), "fresh")
        assert bench.primary.tally is not None
        assert bench.primary.tally.kind == kind
