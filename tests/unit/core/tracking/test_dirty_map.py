"""The dirty map against a plain set of block numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from twinsite.core.limits import BLOCK_BYTES
from twinsite.core.tracking.dirty_map import DirtyMap
from twinsite.errors import PeerViolation


def touched(offset: int, length: int) -> set[int]:
    """The blocks of a range, counted byte range by byte range."""
    return {block for block in range((offset + length) // BLOCK_BYTES + 1) if overlaps(block, offset, length)}


def overlaps(block: int, offset: int, length: int) -> bool:
    """Say whether a block and a range share a byte."""
    return max(block * BLOCK_BYTES, offset) < min((block + 1) * BLOCK_BYTES, offset + length)


class DirtyMapAgainstSet(RuleBasedStateMachine):
    """Random operations on both; whatever the map answers, the set must say too."""

    @initialize(blocks=st.integers(0, 20), tail=st.integers(0, BLOCK_BYTES - 1), all_dirty=st.booleans())
    def begin(self, blocks: int, tail: int, all_dirty: bool) -> None:
        self.size_bytes = max(1, blocks * BLOCK_BYTES + tail)
        self.map = DirtyMap(self.size_bytes, all_dirty=all_dirty)
        self.count = -(-self.size_bytes // BLOCK_BYTES)
        self.expected = set(range(self.count)) if all_dirty else set()

    def range_of(self, data: st.DataObject) -> tuple[int, int]:
        offset = data.draw(st.integers(0, self.size_bytes - 1))
        return offset, data.draw(st.integers(1, self.size_bytes - offset))

    @rule(data=st.data())
    def mark(self, data: st.DataObject) -> None:
        offset, length = self.range_of(data)
        self.map.mark(offset, length)
        self.expected |= touched(offset, length)

    @rule()
    def mark_all(self) -> None:
        self.map.mark_all()
        self.expected = set(range(self.count))

    @rule(data=st.data())
    def clear(self, data: st.DataObject) -> None:
        first = data.draw(st.integers(0, self.count - 1))
        count = data.draw(st.integers(1, self.count - first))
        self.map.clear_blocks(first, count)
        self.expected -= set(range(first, first + count))

    @rule()
    def store_and_load(self) -> None:
        self.map = DirtyMap.from_bytes(self.size_bytes, self.map.to_bytes())

    @rule(data=st.data())
    def covers(self, data: st.DataObject) -> None:
        offset, length = self.range_of(data)
        assert self.map.covers(offset, length) == (touched(offset, length) <= self.expected)

    @rule(data=st.data())
    def next_run(self, data: st.DataObject) -> None:
        start = data.draw(st.integers(0, self.count - 1))
        count_max = data.draw(st.integers(1, self.count + 2))
        following = sorted(block for block in self.expected if block >= start)
        found = self.map.next_run(start, count_max)
        if not following:
            assert found is None
            return
        assert found is not None
        first, count = found
        assert first == following[0]
        assert following[:count] == list(range(first, first + count))
        assert 1 <= count <= count_max
        assert count == count_max or first + count not in self.expected

    @invariant()
    def counts(self) -> None:
        assert self.map.any() == bool(self.expected)
        covered = sum(min(BLOCK_BYTES, self.size_bytes - block * BLOCK_BYTES) for block in self.expected)
        assert self.map.dirty_bytes() == covered


TestDirtyMapAgainstSet = DirtyMapAgainstSet.TestCase
TestDirtyMapAgainstSet.settings = settings(max_examples=40, stateful_step_count=20, deadline=None, print_blob=True)


@settings(deadline=None, print_blob=True)
@given(st.integers(1, 40 * BLOCK_BYTES))
def test_a_full_map_covers_exactly_the_volume(size_bytes: int) -> None:
    full = DirtyMap(size_bytes, all_dirty=True)
    assert full.dirty_bytes() == size_bytes
    assert full.covers(0, size_bytes)
    full.clear_blocks(0, full.block_count)
    assert not full.any()


def test_block_zero_is_the_highest_bit_of_the_first_byte() -> None:
    dirty = DirtyMap(9 * BLOCK_BYTES)
    dirty.mark(0, 1)
    dirty.mark(8 * BLOCK_BYTES, 1)
    assert dirty.to_bytes() == b"\x80\x80"


def test_stray_bits_behind_the_last_block_are_not_blocks() -> None:
    assert not DirtyMap.from_bytes(BLOCK_BYTES, b"\x7f").any()


def test_bytes_of_a_larger_volume_are_refused() -> None:
    with pytest.raises(PeerViolation, match="does not fit"):
        DirtyMap.from_bytes(9 * BLOCK_BYTES, b"\0\0\0")


def test_bytes_from_before_the_volume_grew_say_nothing_of_what_is_new() -> None:
    dirty = DirtyMap.from_bytes(20 * BLOCK_BYTES, b"\x81")
    assert (dirty.next_run(0, 99), dirty.next_run(1, 99), dirty.next_run(8, 99)) == ((0, 1), (7, 1), None)
    dirty.mark(19 * BLOCK_BYTES, 1)
    assert dirty.dirty_bytes() == 3 * BLOCK_BYTES


@settings(deadline=None, print_blob=True)
@given(st.integers(1, 20 * BLOCK_BYTES), st.integers(0, 20 * BLOCK_BYTES), st.booleans())
def test_a_volume_that_grows_is_clean_where_it_is_new(size_bytes: int, more_bytes: int, all_dirty: bool) -> None:
    dirty = DirtyMap(size_bytes, all_dirty=all_dirty)
    blocks = dirty.block_count
    dirty.grow(size_bytes + more_bytes)
    assert dirty.dirty_bytes() == (min(blocks * BLOCK_BYTES, size_bytes + more_bytes) if all_dirty else 0)
    assert dirty.next_run(blocks, 99) is None
    dirty.mark_all()
    assert dirty.dirty_bytes() == size_bytes + more_bytes


def test_a_loaded_map_is_its_own() -> None:
    stored = DirtyMap(BLOCK_BYTES).to_bytes()
    DirtyMap.from_bytes(BLOCK_BYTES, stored).mark_all()
    assert stored == b"\0"
