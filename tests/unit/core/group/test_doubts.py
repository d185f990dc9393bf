"""What a welcome brings into doubt: which blocks are marked, in which map, and that the log is told of each."""

from __future__ import annotations

import pytest

from tests.unit.core.group.test_comparing import blocks_of
from twinsite.core.group.doubts import add_doubts
from twinsite.core.group.member import Member
from twinsite.core.group.recovery import Difference
from twinsite.core.limits import BLOCK_BYTES, EXTENT_BYTES
from twinsite.core.stream.hello import Doubt, Welcome
from twinsite.core.tracking.dirty_map import DirtyMap
from twinsite.core.tracking.intents import EXTENT_BLOCKS, IntentMap

EXTENTS = 4
TAIL_BLOCKS = 3
SIZE = (EXTENTS - 1) * EXTENT_BYTES + (TAIL_BLOCKS - 1) * BLOCK_BYTES + 512
"""The last extent is short, and so is its last block."""
INDEXES = (2, 5)

RECORDED = {(2, 1), (2, 3), (5, 0)}
NAMED = {(2, 0), (5, 2), (5, 3)}
NAMING = Welcome(1, "", consistent=False, doubt=Doubt.NONE, led=["l"], runs=[[2, 0, 1], [5, 2, 2], [9, 0, 4]])

EXPECTED: dict[Difference, tuple[str, set[tuple[int, int]]]] = {
    Difference.NOTHING: ("suspect", set()),
    Difference.COMPARE_RECORDED: ("suspect", RECORDED),
    Difference.COPY_RECORDED: ("dirty", RECORDED),
    Difference.COMPARE_NAMED: ("suspect", NAMED),
    Difference.COPY_NAMED: ("dirty", NAMED),
    Difference.COMPARE_ALL: ("suspect", {(index, extent) for index in INDEXES for extent in range(EXTENTS)}),
    Difference.COPY_ALL: ("dirty", {(index, extent) for index in INDEXES for extent in range(EXTENTS)}),
}


def blocks_in(extents: set[int]) -> list[int]:
    count = (EXTENTS - 1) * EXTENT_BLOCKS + TAIL_BLOCKS
    return [block for block in range(count) if block // EXTENT_BLOCKS in extents]


def make_members() -> tuple[list[Member], dict[int, IntentMap]]:
    """Two clean volumes, and what the log names of them."""
    members = [Member(index, f"volume {index}", DirtyMap(SIZE)) for index in INDEXES]
    recorded = {index: IntentMap(SIZE) for index in INDEXES}
    for index, extent in RECORDED:
        recorded[index].set(extent, 1)
    return members, recorded


def test_every_difference_is_tried() -> None:
    assert set(EXPECTED) == set(Difference)


@pytest.mark.parametrize("difference", Difference)
def test_what_is_named_is_marked_and_nothing_else(difference: Difference) -> None:
    members, recorded = make_members()
    doubted = add_doubts(difference, members, recorded, NAMING)
    map_name, extents = EXPECTED[difference]
    for member in members:
        marked = blocks_in({extent for index, extent in extents if index == member.index})
        assert blocks_of(member.dirty) == (marked if map_name == "dirty" else [])
        assert blocks_of(member.suspect) == (marked if map_name == "suspect" else [])
    named = {(index, extent) for index, first, count in doubted for extent in range(first, first + count)}
    assert named == extents, "the log is to cover what is marked"


def test_marks_are_added_to_what_is_known() -> None:
    members, recorded = make_members()
    members[0].suspect.mark_blocks(0, 1)
    members[0].dirty.mark_blocks(7, 1)
    add_doubts(Difference.COMPARE_RECORDED, members, recorded, NAMING)
    assert blocks_of(members[0].suspect) == [0, *blocks_in({1, 3})]
    assert blocks_of(members[0].dirty) == [7]


@pytest.mark.parametrize(
    "first, count, extents", [(0, 2**32, {0, 1, 2, 3}), (3, 100, {3}), (4, 1, set()), (2**31, 1, set())]
)
def test_runs_that_go_on_behind_the_end_are_cut(first: int, count: int, extents: set[int]) -> None:
    members, recorded = make_members()
    welcome = Welcome(1, "", consistent=False, doubt=Doubt.NONE, led=["l"], runs=[[2, first, count]])
    add_doubts(Difference.COMPARE_NAMED, members, recorded, welcome)
    assert blocks_of(members[0].suspect) == blocks_in(extents)
