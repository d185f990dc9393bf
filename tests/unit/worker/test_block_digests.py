"""Digests of blocks and the comparison with them, on real sparse files."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from xxhash import xxh3_128_digest

from tests.support.stores import pattern, read
from twinsite.core.group.resync import COMPARE_READ_BLOCKS_MAX, ReadOrder
from twinsite.core.limits import BLOCK_BYTES
from twinsite.core.stream.frames import DIGEST_BYTES
from twinsite.errors import StorageFault
from twinsite.stores.file import FileStore, create_file_store
from twinsite.worker.block_digests import compare_digests, compare_zero, digest_order

BLOCKS = 12
SIZE = (BLOCKS - 1) * BLOCK_BYTES + 1000
SEED = 2**63 + 5


class BadSectorStore(FileStore):
    """A store of which some blocks cannot be read."""

    bad: frozenset[int] = frozenset()

    def read_into(self, buffer: memoryview | bytearray, offset: int) -> None:
        if self.bad & set(range(offset // BLOCK_BYTES, -(-(offset + len(buffer)) // BLOCK_BYTES))):
            raise StorageFault("read", self.path, OSError(5, "as the test wants"))
        super().read_into(buffer, offset)


@pytest.fixture(name="stores")
def fixture_stores(tmp_path: Path) -> Iterator[tuple[BadSectorStore, BadSectorStore]]:
    """Two empty twins."""
    twins = []
    for name in ("here", "there"):
        create_file_store(str(tmp_path / name), SIZE)
        twins.append(BadSectorStore(str(tmp_path / name), SIZE))
    yield twins[0], twins[1]
    for store in twins:
        store.close()


def digests_of(store: FileStore, first: int, count: int, seed: int = SEED) -> bytes:
    """The digests, block by block, read one at a time."""
    starts = range(first * BLOCK_BYTES, (first + count) * BLOCK_BYTES, BLOCK_BYTES)
    blocks = [read(store, start, min(BLOCK_BYTES, SIZE - start)) for start in starts]
    return b"".join(xxh3_128_digest(block, seed) for block in blocks)


def differing(here: FileStore, there: FileStore, first: int, count: int) -> list[int]:
    bits = compare_digests(there, first * BLOCK_BYTES, memoryview(digests_of(here, first, count)), SEED)
    assert len(bits) == count
    return [first + number for number in range(count) if bits[number]]


# Digests of what is here


def test_pieces_cover_the_order_with_a_digest_for_each_block(stores: tuple[BadSectorStore, BadSectorStore]) -> None:
    store, _ = stores
    store.write(pattern(3 * BLOCK_BYTES), 2 * BLOCK_BYTES)
    store.write(b"tail", SIZE - 4)
    pieces = digest_order(store, ReadOrder(0, 0, BLOCKS, 1, seed=SEED))
    assert [(piece.first_block, piece.block_count, piece.data is None) for piece in pieces] == [
        (0, 2, True),
        (2, 3, False),
        (5, 6, True),
        (11, 1, False),
    ]
    for piece in pieces:
        if piece.data is not None:
            assert bytes(piece.data) == digests_of(store, piece.first_block, piece.block_count)
            assert len(piece.data) == piece.block_count * DIGEST_BYTES


def test_the_seed_changes_every_digest(stores: tuple[BadSectorStore, BadSectorStore]) -> None:
    store, _ = stores
    store.write(pattern(BLOCKS * BLOCK_BYTES)[:SIZE], 0)
    first, second = (digest_order(store, ReadOrder(0, 0, BLOCKS, 1, seed=seed))[0].data for seed in (0, 1))
    assert first is not None
    assert second is not None
    for start in range(0, BLOCKS * DIGEST_BYTES, DIGEST_BYTES):
        assert first[start : start + DIGEST_BYTES] != second[start : start + DIGEST_BYTES]


def test_one_order_digests_as_much_as_a_read_may(tmp_path: Path) -> None:
    blocks = 2 * COMPARE_READ_BLOCKS_MAX
    size_bytes = blocks * BLOCK_BYTES
    create_file_store(str(tmp_path / "big"), size_bytes)
    store = FileStore(str(tmp_path / "big"), size_bytes)
    content = pattern(size_bytes)
    store.write(content, 0)
    pieces = digest_order(store, ReadOrder(0, 3, blocks - 3, 1, seed=SEED))
    assert sum(piece.block_count for piece in pieces) == COMPARE_READ_BLOCKS_MAX
    starts = range(3 * BLOCK_BYTES, (3 + COMPARE_READ_BLOCKS_MAX) * BLOCK_BYTES, BLOCK_BYTES)
    expected = [xxh3_128_digest(content[start : start + BLOCK_BYTES], SEED) for start in starts]
    assert b"".join(bytes(piece.data or b"") for piece in pieces) == b"".join(expected)
    store.close()


def test_more_digests_than_one_buffer_holds_are_compared(tmp_path: Path) -> None:
    blocks = COMPARE_READ_BLOCKS_MAX + 3
    create_file_store(str(tmp_path / "big"), blocks * BLOCK_BYTES)
    store = FileStore(str(tmp_path / "big"), blocks * BLOCK_BYTES)
    digests = digests_of(store, 0, 1) * blocks
    store.write(b"x", (blocks - 2) * BLOCK_BYTES)
    differs = compare_digests(store, 0, memoryview(digests), SEED)
    assert [number for number in range(blocks) if differs[number]] == [blocks - 2]
    store.close()


def test_what_cannot_be_read_here_is_a_fault(stores: tuple[BadSectorStore, BadSectorStore]) -> None:
    store, _ = stores
    store.write(pattern(BLOCK_BYTES), 0)
    store.bad = frozenset({0})
    with pytest.raises(StorageFault):
        digest_order(store, ReadOrder(0, 0, 1, 1, seed=SEED))


# Comparing with digests


@pytest.mark.parametrize("seed", range(6))
def test_exactly_the_blocks_that_differ_are_found(stores: tuple[BadSectorStore, BadSectorStore], seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    here, there = stores
    content = rng.randbytes(SIZE)
    for store in stores:
        store.write(content, 0)
    changed = sorted(rng.sample(range(BLOCKS), rng.randrange(BLOCKS + 1)))
    for block in changed:
        start = block * BLOCK_BYTES
        at = rng.randrange(start, min(start + BLOCK_BYTES, SIZE))
        there.write(bytes([content[at] ^ (1 << rng.randrange(8))]), at)
    assert differing(here, there, 0, BLOCKS) == changed
    first = rng.randrange(BLOCKS)
    count = rng.randint(1, BLOCKS - first)
    assert differing(here, there, first, count) == [block for block in changed if first <= block < first + count]


def test_the_last_byte_of_a_short_block_counts(stores: tuple[BadSectorStore, BadSectorStore]) -> None:
    here, there = stores
    there.write(b"x", SIZE - 1)
    assert differing(here, there, BLOCKS - 1, 1) == [BLOCKS - 1]


def test_another_seed_finds_everything_different(stores: tuple[BadSectorStore, BadSectorStore]) -> None:
    here, there = stores
    bits = compare_digests(there, 0, memoryview(digests_of(here, 0, BLOCKS, seed=1)), 2)
    assert bits.all()


def test_what_cannot_be_read_there_is_said_to_differ(stores: tuple[BadSectorStore, BadSectorStore]) -> None:
    here, there = stores
    there.bad = frozenset({3})
    assert 3 in differing(here, there, 0, 6)
    assert differing(here, there, 6, 6) == []


# Comparing with zeros


def test_blocks_with_anything_but_zeros_are_found(stores: tuple[BadSectorStore, BadSectorStore]) -> None:
    _, store = stores
    store.write(b"x", 2 * BLOCK_BYTES - 1)
    store.write(b"x", 4 * BLOCK_BYTES)
    store.write(bytes(3 * BLOCK_BYTES), 6 * BLOCK_BYTES)  # Zeros that take space.
    store.write(b"x", SIZE - 1)
    bits = compare_zero(store, 0, SIZE)
    assert [block for block in range(len(bits)) if bits[block]] == [1, 4, BLOCKS - 1]
    assert len(bits) == BLOCKS
    bits = compare_zero(store, 3 * BLOCK_BYTES, 2 * BLOCK_BYTES)
    assert bits.tolist() == [0, 1]


def test_only_the_range_that_is_asked_about_counts(stores: tuple[BadSectorStore, BadSectorStore]) -> None:
    _, store = stores
    store.write(b"x", BLOCK_BYTES + 600)
    assert compare_zero(store, BLOCK_BYTES, 600).tolist() == [0]
    assert compare_zero(store, BLOCK_BYTES, 601).tolist() == [1]


def test_what_cannot_be_read_is_said_to_be_no_zeros(stores: tuple[BadSectorStore, BadSectorStore]) -> None:
    _, store = stores
    store.write(bytes(3 * BLOCK_BYTES), 4 * BLOCK_BYTES)
    store.bad = frozenset({5})
    bits = compare_zero(store, 0, SIZE)
    assert [block for block in range(BLOCKS) if bits[block]] == [5]
