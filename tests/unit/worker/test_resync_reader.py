"""The resync reader on real sparse files: what it calls zeros are zeros, and it finds holes without reading them."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stores import pattern
from twinsite.core.group.resync import Piece, ReadOrder
from twinsite.core.limits import BLOCK_BYTES, RESYNC_READ_BYTES_MAX, RESYNC_READ_ZEROS_BYTES_MAX
from twinsite.errors import StorageFault
from twinsite.stores.base import Extent
from twinsite.stores.file import FileStore, create_file_store
from twinsite.worker.resync_reader import PIECES_MAX, read_order

READ_BLOCKS = RESYNC_READ_BYTES_MAX // BLOCK_BYTES
READ_ZEROS_BLOCKS = RESYNC_READ_ZEROS_BYTES_MAX // BLOCK_BYTES
PAGE = 4096


class CountingStore(FileStore):
    """A store that counts what is read from it, and the questions where its holes are."""

    read_bytes = 0
    questions = 0

    def read_into(self, buffer: memoryview | bytearray, offset: int) -> None:
        self.read_bytes += len(buffer)
        super().read_into(buffer, offset)

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        self.questions += 1
        return super().extents(offset, length)


@pytest.fixture(name="make")
def fixture_make(tmp_path: Path) -> Iterator[Maker]:
    maker = Maker(tmp_path)
    yield maker
    maker.close()


class Maker:
    """Makes stores on new sparse files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stores: list[CountingStore] = []

    def __call__(self, size_bytes: int, writes: dict[int, bytes] | None = None) -> CountingStore:
        path = str(self._directory / f"{len(self._stores)}.raw")
        create_file_store(path, size_bytes)
        store = CountingStore(path, size_bytes)
        self._stores.append(store)
        for offset, data in (writes or {}).items():
            store.write(data, offset)
        return store

    def close(self) -> None:
        for store in self._stores:
            store.close()


def read(store: CountingStore, first: int, count: int) -> list[Piece]:
    """Do one order and check what must hold of every result."""
    pieces = read_order(store, ReadOrder(0, first, count, 1))
    assert pieces, "an order always makes progress"
    position = first
    data_bytes = 0
    for piece in pieces:
        assert piece.first_block == position
        assert piece.block_count > 0
        offset = position * BLOCK_BYTES
        length = min(piece.block_count * BLOCK_BYTES, store.size_bytes - offset)
        content = bytearray(length)
        FileStore.read_into(store, content, offset)
        if piece.data is None:
            assert content.count(0) == length, "what is called zeros is zeros"
        else:
            assert bytes(piece.data) == bytes(content)
            data_bytes += length
        position += piece.block_count
    assert position <= first + count
    assert data_bytes <= RESYNC_READ_BYTES_MAX
    return pieces


def shape(pieces: list[Piece]) -> list[tuple[int, int, bool]]:
    """Pieces as (first block, blocks, has data)."""
    return [(piece.first_block, piece.block_count, piece.data is not None) for piece in pieces]


def test_an_empty_disk_is_one_piece_and_costs_no_read(make: Maker) -> None:
    blocks = 4096
    store = make(blocks * BLOCK_BYTES)
    assert shape(read(store, 0, blocks)) == [(0, blocks, False)]
    assert store.read_bytes == 0


def test_data_is_read_up_to_the_bound(make: Maker) -> None:
    store = make(40 * BLOCK_BYTES, {0: pattern(40 * BLOCK_BYTES)})
    assert shape(read(store, 0, 40)) == [(0, READ_BLOCKS, True)]
    assert shape(read(store, 38, 2)) == [(38, 2, True)]


@pytest.mark.parametrize("content", [pattern(BLOCK_BYTES), bytes(BLOCK_BYTES)])
def test_where_no_hole_is_each_read_asks_for_holes_once(make: Maker, content: bytes) -> None:
    store = make(3 * READ_BLOCKS * BLOCK_BYTES, {0: content * 3 * READ_BLOCKS})
    covered = sum(piece.block_count for piece in read(store, 0, 3 * READ_BLOCKS))
    assert store.questions == covered // READ_BLOCKS


def test_holes_between_data_are_skipped_and_not_read(make: Maker) -> None:
    store = make(40 * BLOCK_BYTES, {0: pattern(2 * BLOCK_BYTES), 30 * BLOCK_BYTES: pattern(BLOCK_BYTES)})
    assert shape(read(store, 0, 40)) == [(0, 2, True), (2, 28, False), (30, 1, True), (31, 9, False)]
    assert store.read_bytes == 3 * BLOCK_BYTES


def test_the_bound_counts_data_and_not_the_holes_between(make: Maker) -> None:
    store = make(80 * BLOCK_BYTES, {0: pattern(10 * BLOCK_BYTES), 40 * BLOCK_BYTES: pattern(40 * BLOCK_BYTES)})
    assert shape(read(store, 0, 80)) == [(0, 10, True), (10, 30, False), (40, READ_BLOCKS - 10, True)]


def test_many_changes_between_holes_and_data_end_an_order(make: Maker) -> None:
    store = make(400 * BLOCK_BYTES)
    for block in range(0, 400, 40):
        store.write(pattern(PAGE), block * BLOCK_BYTES)
    assert len(read(store, 0, 400)) <= PIECES_MAX + 2


@pytest.mark.parametrize("position", [0, PAGE, BLOCK_BYTES - PAGE])
def test_a_page_of_data_keeps_its_block_from_being_zeros(make: Maker, position: int) -> None:
    store = make(3 * BLOCK_BYTES, {BLOCK_BYTES + position: pattern(PAGE)})
    assert shape(read(store, 0, 3))[:2] == [(0, 1, False), (1, 1, True)]


def test_a_hole_smaller_than_a_block_is_read_as_data(make: Maker) -> None:
    store = make(2 * BLOCK_BYTES, {0: pattern(2 * BLOCK_BYTES)})
    store.zero(PAGE, BLOCK_BYTES - 2 * PAGE, punch=True)
    assert shape(read(store, 0, 2)) == [(0, 2, True)]


def test_a_hole_across_two_blocks_that_fills_neither_is_read_as_data(make: Maker) -> None:
    store = make(2 * BLOCK_BYTES, {0: pattern(2 * BLOCK_BYTES)})
    store.zero(BLOCK_BYTES // 2, BLOCK_BYTES, punch=True)
    assert shape(read(store, 0, 2)) == [(0, 2, True)]


def test_written_zeros_are_found_by_reading_and_travel_as_zeros(make: Maker) -> None:
    store = make(
        6 * BLOCK_BYTES,
        {0: pattern(BLOCK_BYTES), BLOCK_BYTES: bytes(3 * BLOCK_BYTES), 4 * BLOCK_BYTES: pattern(2 * BLOCK_BYTES)},
    )
    assert shape(read(store, 0, 6)) == [(0, 1, True), (1, 3, False), (4, 2, True)]


def test_zeros_are_read_on_through_up_to_a_bound(make: Maker) -> None:
    count = READ_ZEROS_BLOCKS + 3 * READ_BLOCKS
    store = make(count * BLOCK_BYTES, {0: bytes(count * BLOCK_BYTES)})
    assert shape(read(store, 0, count)) == [(0, READ_ZEROS_BLOCKS, False)]
    assert store.read_bytes == RESYNC_READ_ZEROS_BYTES_MAX
    assert not any(piece.is_hole for piece in read(store, 0, count))
    store.write(pattern(BLOCK_BYTES), 40 * BLOCK_BYTES)
    assert shape(read(store, 0, 45))[-2:] == [(40, 1, True), (41, 4, False)]


def test_what_is_no_hole_is_told_from_one(make: Maker) -> None:
    store = make(80 * BLOCK_BYTES, {0: bytes(40 * BLOCK_BYTES)})
    pieces = read(store, 0, 80)
    assert [(piece.block_count, piece.is_hole) for piece in pieces] == [(40, False), (40, True)]


def test_what_was_read_stays_as_it_is_when_more_is_read(make: Maker) -> None:
    data = pattern(READ_BLOCKS * BLOCK_BYTES)
    store = make(4 * READ_BLOCKS * BLOCK_BYTES, {0: bytes(len(data)), len(data): data, 2 * len(data): bytes(len(data))})
    read(store, 0, READ_BLOCKS)
    (kept,) = read(store, READ_BLOCKS, READ_BLOCKS)
    read(store, 2 * READ_BLOCKS, READ_BLOCKS)
    read(store, 0, READ_BLOCKS)
    assert kept.data is not None
    assert bytes(kept.data) == data


@pytest.mark.parametrize("tail", [1, 512, PAGE, BLOCK_BYTES - 1])
@pytest.mark.parametrize("kind", ["data", "zeros", "hole"])
def test_the_tail_of_a_volume(make: Maker, tail: int, kind: str) -> None:
    size_bytes = 2 * BLOCK_BYTES + tail
    content = {"data": pattern(size_bytes), "zeros": pattern(2 * BLOCK_BYTES) + bytes(tail), "hole": b""}[kind]
    store = make(size_bytes, {0: content})
    expected = {"data": [(0, 3, True)], "zeros": [(0, 2, True), (2, 1, False)], "hole": [(0, 3, False)]}[kind]
    assert shape(read(store, 0, 3)) == expected
    assert shape(read(store, 2, 1)) == [(2, 1, kind == "data")]


def test_one_byte_at_the_end_of_the_tail_is_seen(make: Maker) -> None:
    size_bytes = BLOCK_BYTES + 700
    store = make(size_bytes, {0: bytes(size_bytes), size_bytes - 1: b"x"})
    assert shape(read(store, 0, 2)) == [(0, 1, False), (1, 1, True)]


def test_an_order_is_not_left_by_what_lies_around_it(make: Maker) -> None:
    store = make(12 * BLOCK_BYTES, {0: pattern(12 * BLOCK_BYTES)})
    store.zero(4 * BLOCK_BYTES, 4 * BLOCK_BYTES, punch=True)
    assert shape(read(store, 5, 1)) == [(5, 1, False)]
    assert shape(read(store, 5, 2)) == [(5, 2, False)]
    assert shape(read(store, 3, 1)) == [(3, 1, True)]
    assert shape(read(store, 6, 4)) == [(6, 2, False), (8, 2, True)]


@pytest.mark.parametrize("seed", range(8))
def test_a_fragmented_disk_is_covered_completely(make: Maker, seed: int) -> None:
    print(f"seed {seed}")
    source = random.Random(seed)
    blocks = 64
    size_bytes = blocks * BLOCK_BYTES - source.choice([0, 512, PAGE, 40_000])
    store = make(size_bytes, {0: pattern(size_bytes, seed)})
    for _ in range(source.randint(5, 60)):
        offset = source.randrange(0, size_bytes, PAGE)
        length = min(source.choice([PAGE, 3 * PAGE, BLOCK_BYTES, 5 * BLOCK_BYTES]), size_bytes - offset)
        if source.random() < 0.8:
            store.zero(offset, length, punch=source.random() < 0.7)
        else:
            store.write(bytes(length), offset)
    position = 0
    while position < blocks:
        pieces = read(store, position, source.randint(1, blocks - position))
        position = pieces[-1].first_block + pieces[-1].block_count
    assert position == blocks


def test_a_disk_of_small_holes_is_not_searched_beyond_one_read(make: Maker) -> None:
    blocks = 512
    store = make(blocks * BLOCK_BYTES, {0: pattern(blocks * BLOCK_BYTES)})
    for block in range(0, blocks, 2):
        store.zero(block * BLOCK_BYTES, PAGE, punch=True)
    questions = 0
    honest = os.lseek

    def counting(fd: int, position: int, how: int) -> int:
        nonlocal questions
        questions += 1
        return honest(fd, position, how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "lseek", counting)
        pieces = read_order(store, ReadOrder(0, 0, blocks, 1))
    assert shape(pieces) == [(0, READ_BLOCKS, True)]
    assert questions <= 6 * READ_BLOCKS


def test_a_disk_that_cannot_be_read_is_a_fault(make: Maker) -> None:
    store = make(BLOCK_BYTES, {0: pattern(BLOCK_BYTES)})
    os.truncate(store.path, PAGE)
    with pytest.raises(StorageFault):
        read_order(store, ReadOrder(0, 0, 1, 1))
