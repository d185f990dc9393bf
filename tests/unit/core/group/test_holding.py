"""A primary's machine without its secondary: what it holds, sends again, asks the arbiter, and never does again."""

from __future__ import annotations

import pytest

from tests.unit.core.group.test_primary import DATA, KNOWN, Bench
from twinsite.core.group.states import Phase
from twinsite.core.limits import BLOCK_BYTES
from twinsite.core.stream.frames import Frame, Kind


def kinds(frames: list[Frame]) -> list[int]:
    return [frame.kind for frame in frames]


# Asking


def test_a_primary_starts_holding_and_wants_a_grant() -> None:
    bench = Bench(held=True)
    assert (bench.phase(), bench.primary.wants_grant, bench.primary.wants_report) == (Phase.HOLDING, True, False)
    bench.primary.write_applied(0, 0, DATA, "w")
    assert bench.done() == []
    bench.primary.granted()
    assert (bench.phase(), bench.done(), bench.dirty.dirty_bytes()) == (Phase.ALONE, ["w"], BLOCK_BYTES)


def test_before_the_report_is_sent_a_break_needs_no_grant() -> None:
    bench = Bench()
    bench.mirror()
    assert bench.primary.wants_report
    bench.primary.write_applied(0, 0, DATA, "w")
    bench.primary.broken()
    assert (bench.phase(), bench.done()) == (Phase.ALONE, ["w"])


def test_from_the_moment_the_report_is_sent_a_break_holds() -> None:
    bench = Bench()
    bench.mirror()
    bench.primary.report_sent()
    bench.primary.write_applied(0, 0, DATA, "w")
    bench.primary.broken()
    assert (bench.phase(), bench.done(), bench.primary.wants_grant) == (Phase.HOLDING, [], True)
    bench.primary.reported()
    assert not bench.primary.is_confirmed, "what the arbiter answers now is no news of the stream"


def test_a_grant_that_comes_after_the_stream_was_resumed_changes_nothing_but_the_record() -> None:
    bench = Bench()
    bench.hold()
    assert bench.connect()
    bench.confirm()
    bench.primary.granted()
    bench.primary.write_applied(0, 0, DATA, "w")
    assert (bench.phase(), bench.done(), bench.primary.wants_report) == (Phase.MIRRORED, [], True)
    bench.acknowledge()
    assert bench.done() == ["w"]
    bench.primary.broken()
    assert bench.phase() is Phase.ALONE, "the secondary is recorded as stale"


@pytest.mark.parametrize("phase", ["copying", "finishing"])
def test_a_grant_while_stale_already_changes_nothing(phase: str) -> None:
    bench = Bench(dirty_blocks=(0,) if phase == "copying" else ())
    bench.connect()
    before = bench.phase()
    bench.primary.granted()
    assert bench.phase() is before


# Resuming


def test_what_was_in_flight_is_sent_again_from_the_oldest_and_no_resync_begins() -> None:
    bench = Bench()
    bench.mirror()
    bench.confirm()
    for number in range(4):
        bench.primary.write_applied(0, number * BLOCK_BYTES, DATA, number)
    before = bench.sent()
    bench.acknowledge(before[1].sequence)
    assert bench.done() == [0, 1]
    bench.primary.broken()
    bench.primary.write_applied(0, 6 * BLOCK_BYTES, DATA, "while holding")
    bench.primary.take_batch()  # Sent into the void.
    assert bench.primary.first_sequence == before[2].sequence
    assert bench.connect()
    again = bench.sent()
    assert [frame.offset // BLOCK_BYTES for frame in again] == [2, 3, 6]
    assert [frame.sequence for frame in again] == [before[2].sequence + number for number in range(3)]
    assert [bytes(frame.payload or b"") for frame in again] == [DATA] * 3
    assert (bench.phase(), bench.done(), bench.dirty.any()) == (Phase.MIRRORED, [], False)
    bench.acknowledge()
    assert bench.done() == [2, 3, "while holding"]


def test_a_stream_may_break_again_and_again() -> None:
    bench = Bench()
    bench.hold()
    for number in range(3):
        bench.primary.write_applied(0, number * 512, DATA, number)
        bench.primary.take_batch()
        assert bench.connect()
        assert [frame.offset for frame in bench.sent()] == [512 * offset for offset in range(number + 1)]
        bench.primary.broken()
    assert bench.connect()
    bench.sent()
    bench.acknowledge()
    assert bench.done() == [0, 1, 2]


def test_a_batch_that_was_acknowledged_in_part_is_cut_in_the_right_place() -> None:
    bench = Bench()
    bench.mirror()
    bench.confirm()
    bench.primary.write_applied(0, 0, DATA, "first")
    bench.primary.zero_applied(0, BLOCK_BYTES, BLOCK_BYTES, True, "second")
    bench.primary.flush_begun(0, "third")
    bench.primary.write_applied(0, 512, b"e" * 4096, "fourth")
    sequences = [frame.sequence for frame in bench.sent()]
    bench.acknowledge(sequences[1])
    bench.primary.broken()
    assert bench.connect()
    again = bench.sent()
    assert kinds(again) == [Kind.FLUSH, Kind.WRITE]
    assert [frame.sequence for frame in again] == sequences[2:]


def test_a_flush_that_was_applied_and_not_answered_is_asked_anew_after_what_is_sent_again() -> None:
    bench = Bench()
    bench.mirror()
    bench.confirm()
    waiter = bench.primary.flush_begun(0, "f")
    bench.primary.flush_local_done(waiter)
    bench.acknowledge()
    bench.primary.write_applied(0, 0, DATA, "w")
    bench.sent()
    bench.primary.broken()
    assert bench.connect()
    again = bench.sent()
    assert kinds(again) == [Kind.WRITE, Kind.FLUSH]
    bench.acknowledge()
    assert bench.done() == ["w"]
    bench.flushed(again[1].sequence)
    assert bench.done() == ["f"]


def test_a_resumed_stream_is_to_be_reported() -> None:
    bench = Bench()
    bench.hold()
    assert bench.connect()
    assert (bench.primary.wants_report, bench.primary.is_confirmed) == (True, False)


IMAGES = {
    "of another lineage": ("another", True, False),
    "not consistent": (KNOWN, False, False),
    "restarted": (KNOWN, True, True),
}


@pytest.mark.parametrize("generation, consistent, suspect", IMAGES.values(), ids=IMAGES)
def test_an_image_that_may_lack_something_is_not_resumed(generation: str, consistent: bool, suspect: bool) -> None:
    bench = Bench(held=True)
    bench.primary.write_applied(0, 0, DATA, "w")
    bench.primary.take_batch()
    assert not bench.connect(generation, consistent=consistent, suspect=suspect)
    assert (bench.phase(), bench.done(), bench.sent()) == (Phase.HOLDING, [], [])
    bench.primary.granted()
    assert bench.connect(generation, consistent=consistent, suspect=suspect)
    assert bench.phase() is Phase.COPYING
    assert kinds(bench.sent()) == [Kind.RESYNC_BEGIN]


def test_a_primary_that_starts_with_something_dirty_does_not_resume() -> None:
    bench = Bench(held=True, dirty_blocks=(1,))
    assert not bench.connect()
    assert bench.phase() is Phase.HOLDING


def test_after_going_on_alone_nothing_is_resumed_even_if_the_arbiter_is_asked_again() -> None:
    bench = Bench()
    bench.hold()
    bench.primary.write_applied(0, 0, DATA, "w")
    bench.primary.granted()
    assert bench.connect()
    assert bench.phase() is Phase.COPYING
    assert kinds(bench.sent()) == [Kind.RESYNC_BEGIN]


def test_a_repair_goes_on_after_a_resumption() -> None:
    bench = Bench()
    bench.mirror()
    bench.confirm()
    bench.primary.write_failed(0, 5 * BLOCK_BYTES, 512)
    order = bench.primary.next_read()
    assert order is not None
    bench.primary.broken()
    bench.give(order)
    assert bench.connect()
    assert bench.sent() == []
    bench.read_all()
    assert [frame.offset for frame in bench.sent()] == [5 * BLOCK_BYTES]


# Replaced


def test_who_was_replaced_answers_nobody_whatever_comes() -> None:
    bench = Bench()
    bench.mirror()
    bench.confirm()
    bench.primary.write_applied(0, 0, DATA, "in flight")
    flush = bench.primary.flush_begun(0, "flush in flight")
    bench.primary.broken()
    bench.primary.replaced()
    bench.primary.write_applied(0, BLOCK_BYTES, DATA, "write")
    bench.primary.zero_applied(0, 2 * BLOCK_BYTES, BLOCK_BYTES, True, "zero")
    late = bench.primary.flush_begun(0, "flush")
    bench.primary.flush_local_done(flush)
    bench.primary.flush_local_done(late)
    bench.primary.granted()
    bench.primary.broken()
    bench.primary.want()
    bench.primary.stop()
    assert (bench.phase(), bench.done(), bench.sent()) == (Phase.REPLACED, [], [])
    assert [bench.dirty.covers(block * BLOCK_BYTES, 1) for block in range(4)] == [True, True, True, False]
    assert not (bench.primary.wants_grant or bench.primary.wants_report)


@pytest.mark.parametrize("phase", ["alone", "mirrored"])
def test_a_forced_write_whose_local_flush_ends_after_the_replacement_is_not_answered(phase: str) -> None:
    bench = Bench()
    if phase == "mirrored":
        bench.mirror()
    bench.primary.write_applied(0, 0, DATA, None)
    waiter = bench.primary.flush_begun(0, "forced")
    if phase == "mirrored":
        bench.acknowledge()
    bench.primary.replaced()
    bench.primary.flush_local_done(waiter)
    assert bench.done() == []


def test_a_process_that_ends_counts_what_is_in_flight_as_dirty_and_tells_nobody() -> None:
    bench = Bench()
    bench.mirror()
    bench.primary.write_applied(0, 0, DATA, "w")
    bench.primary.close()
    assert (bench.done(), bench.dirty.dirty_bytes()) == ([], BLOCK_BYTES)
