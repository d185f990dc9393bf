"""How reads of a resync are cut: by what the last one found."""

from __future__ import annotations

import pytest

from twinsite.core.group.flight import Flight
from twinsite.core.group.resync import (
    READ_BLOCKS_MAX,
    READ_ZEROS_BLOCKS_MAX,
    RUN_BLOCKS_MAX,
    MemberResync,
    Piece,
)
from twinsite.core.limits import (
    BLOCK_BYTES,
    RESYNC_IN_FLIGHT_BYTES_MAX,
    RESYNC_READ_ZEROS_BYTES_MAX,
    RESYNC_READS_MAX,
    ZERO_BYTES_A_BYTE,
    ZERO_FRAME_BYTES_MAX,
)
from twinsite.core.tracking.dirty_map import DirtyMap

BLOCKS = 4 * RUN_BLOCKS_MAX


@pytest.fixture(name="resync")
def fixture_resync() -> MemberResync:
    dirty = DirtyMap(BLOCKS * BLOCK_BYTES)
    dirty.mark(0, BLOCKS * BLOCK_BYTES)
    return MemberResync(0, dirty)


def found(first_block: int, count: int, kind: str) -> Piece:
    """What a read found."""
    data = b"d" * (count * BLOCK_BYTES) if kind == "data" else None
    return Piece(first_block, count, data, is_hole=kind == "hole")


@pytest.mark.parametrize(
    ("kind", "count", "out_at_once"),
    [("data", READ_BLOCKS_MAX, RESYNC_READS_MAX), ("zeros", READ_ZEROS_BLOCKS_MAX, RESYNC_READS_MAX)],
)
def test_after_what_was_read_several_reads_are_out(
    resync: MemberResync, kind: str, count: int, out_at_once: int
) -> None:
    first = resync.next_order(1)
    assert first is not None
    assert first.block_count == RUN_BLOCKS_MAX
    assert resync.next_order(1) is None, "whether there is a hole without end is not known yet"
    resync.take_back(first, [found(0, count, kind)])
    orders = [resync.next_order(1) for _ in range(out_at_once)]
    expected = [(count * number, count) for number in range(1, out_at_once + 1)]
    assert [(order.first_block, order.block_count) for order in orders if order is not None] == expected


def test_after_a_hole_one_long_read_is_out(resync: MemberResync) -> None:
    first = resync.next_order(1)
    assert first is not None
    resync.take_back(first, [found(0, RUN_BLOCKS_MAX, "hole")])
    second = resync.next_order(1)
    assert second is not None
    assert (second.first_block, second.block_count) == (RUN_BLOCKS_MAX, RUN_BLOCKS_MAX)
    assert resync.next_order(1) is None


def test_after_data_and_zeros_reads_are_short(resync: MemberResync) -> None:
    first = resync.next_order(1)
    assert first is not None
    resync.take_back(first, [found(0, READ_BLOCKS_MAX - 1, "data"), found(READ_BLOCKS_MAX - 1, 1, "zeros")])
    second = resync.next_order(1)
    assert second is not None
    assert second.block_count == READ_BLOCKS_MAX


def test_what_the_secondary_has_to_zero_at_once_is_bounded() -> None:
    flight = Flight()
    sequence = 0
    while flight.resync_bytes < RESYNC_IN_FLIGHT_BYTES_MAX:
        sequence += 1
        flight.add(sequence, 0, 0, RESYNC_READ_ZEROS_BYTES_MAX, 0, True, None)
    assert sequence * RESYNC_READ_ZEROS_BYTES_MAX == ZERO_BYTES_A_BYTE * RESYNC_IN_FLIGHT_BYTES_MAX
    flight.add(sequence + 1, 0, 0, BLOCK_BYTES, 0, True, None)
    flight.add(sequence + 2, 0, 0, ZERO_FRAME_BYTES_MAX, 0, True, None)
    flight.acknowledge(sequence + 2, [])
    assert flight.resync_bytes == 0


def test_what_reads_of_zeros_leave_out_is_read_in_the_next_round(resync: MemberResync) -> None:
    first = resync.next_order(1)
    assert first is not None
    resync.take_back(first, [found(0, READ_ZEROS_BLOCKS_MAX, "zeros")])
    total = READ_ZEROS_BLOCKS_MAX
    for _ in range(10 * BLOCKS // READ_ZEROS_BLOCKS_MAX):
        orders = [order for order in (resync.next_order(1) for _ in range(2)) if order is not None]
        if not orders:
            break
        for number, order in enumerate(orders):
            # One finds data and stops early, the other finds nothing but zeros.
            kind = "data" if number == 0 and order.first_block < 20 * READ_ZEROS_BLOCKS_MAX else "zeros"
            count = min(order.block_count, READ_BLOCKS_MAX if kind == "data" else READ_ZEROS_BLOCKS_MAX)
            sent = resync.take_back(order, [found(order.first_block, count, kind)])
            total += sum(piece.block_count for piece in sent)
    assert total == BLOCKS
    assert not resync.dirty.dirty_bytes()
