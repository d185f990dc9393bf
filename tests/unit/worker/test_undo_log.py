"""The undo log on real files: whatever a resync does, the point before it can be had back."""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinsite.core.limits import BLOCK_BYTES
from twinsite.core.stream.frames import Frame, Kind
from twinsite.core.tracking.undo import UndoHeader
from twinsite.durable_file import SystemFiles, SystemLogFile
from twinsite.errors import StorageFault
from twinsite.messages import StorePlace
from twinsite.stores.base import Store
from twinsite.stores.opening import create_file_store, open_store
from twinsite.worker.kept_writes import find_kept
from twinsite.worker.undo_log import KEPT_LOGS_MAX, UndoLog

FILES = SystemFiles()
SIZES = {0: 12 * BLOCK_BYTES + 4096, 3: 5 * BLOCK_BYTES}
HEADER = UndoHeader("lineage", 1.0, {str(index): size for index, size in SIZES.items()})


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[dict[int, Store]]:
    opened: dict[int, Store] = {}
    for index, size in SIZES.items():
        path = str(tmp_path / f"{index}.raw")
        create_file_store(path, size)
        opened[index] = open_store(StorePlace("file", path), size)
    opened[0].write(os.urandom(4 * BLOCK_BYTES), BLOCK_BYTES)
    opened[3].write(b"x" * BLOCK_BYTES, 0)
    yield opened
    for store in opened.values():
        store.close()


def content(stores: dict[int, Store]) -> dict[int, bytes]:
    images = {}
    for index, store in stores.items():
        data = bytearray(store.size_bytes)
        store.read_into(data, 0)
        images[index] = bytes(data)
    return images


def random_operation(rng: random.Random) -> Frame:
    index = rng.choice(list(SIZES))
    length = rng.choice([512, 4096, BLOCK_BYTES, 3 * BLOCK_BYTES])
    offset = rng.randrange(0, SIZES[index] - length + 1)
    if rng.random() < 0.3:
        return Frame(Kind.ZERO, 0, index, length, 0, offset, None)
    data = bytes(length) if rng.random() < 0.2 else rng.randbytes(length)
    return Frame(Kind.WRITE, 0, index, length, 0, offset, memoryview(data))


def apply(stores: dict[int, Store], operation: Frame) -> None:
    if operation.kind == Kind.ZERO:
        stores[operation.volume].zero(operation.offset, operation.length, punch=True)
    else:
        assert operation.payload is not None
        stores[operation.volume].write(operation.payload, operation.offset)


@pytest.mark.parametrize("seed", range(8))
def test_the_point_comes_back_whatever_was_done(stores: dict[int, Store], tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    point = content(stores)
    log = UndoLog.begin(FILES, tmp_path / "undo.log", HEADER)
    for _ in range(rng.randrange(1, 12)):
        batch = [random_operation(rng) for _ in range(rng.randrange(1, 6))]
        log.save(stores, batch)
        # A crash may come after any of them; what was saved and never applied does no harm.
        for operation in batch[: rng.randrange(len(batch) + 1)]:
            apply(stores, operation)
        if rng.random() < 0.3:
            log.close()
            resumed = UndoLog.resume(FILES, tmp_path / "undo.log")
            assert resumed is not None
            log = resumed
    log.roll_back(stores)
    assert content(stores) == point
    log.roll_back(stores)
    assert content(stores) == point, "a roll-back that was interrupted is done again"
    assert log.header == HEADER
    log.discard()
    assert UndoLog.resume(FILES, tmp_path / "undo.log") is None


def test_a_block_is_saved_once_and_only_if_it_changes(stores: dict[int, Store], tmp_path: Path) -> None:
    log = UndoLog.begin(FILES, tmp_path / "undo.log", HEADER)
    empty = log.size_bytes()
    same = Frame(Kind.WRITE, 0, 3, BLOCK_BYTES, 0, 0, memoryview(b"x" * BLOCK_BYTES))
    hole = Frame(Kind.ZERO, 0, 0, BLOCK_BYTES, 0, 8 * BLOCK_BYTES, None)
    log.save(stores, [same, hole])
    assert log.size_bytes() == empty
    other = Frame(Kind.WRITE, 0, 3, 512, 0, 512, memoryview(b"y" * 512))
    log.save(stores, [other])
    once = log.size_bytes()
    assert once > empty + BLOCK_BYTES
    log.save(stores, [other, other])
    assert log.size_bytes() == once


def test_a_tail_that_a_crash_has_torn_is_not_believed_and_overwritten(stores: dict[int, Store], tmp_path: Path) -> None:
    path = tmp_path / "undo.log"
    point = content(stores)
    log = UndoLog.begin(FILES, path, HEADER)
    first = Frame(Kind.WRITE, 0, 0, BLOCK_BYTES, 0, BLOCK_BYTES, memoryview(b"1" * BLOCK_BYTES))
    second = Frame(Kind.WRITE, 0, 0, BLOCK_BYTES, 0, 2 * BLOCK_BYTES, memoryview(b"2" * BLOCK_BYTES))
    log.save(stores, [first])
    apply(stores, first)
    whole = log.size_bytes()
    log.save(stores, [second])  # Saved, but torn before it was durable, so never applied.
    log.close()
    os.truncate(path, whole + 100)
    resumed = UndoLog.resume(FILES, path)
    assert resumed is not None
    assert resumed.size_bytes() == whole
    resumed.save(stores, [second])
    apply(stores, second)
    resumed.roll_back(stores)
    assert content(stores) == point


@pytest.mark.parametrize("is_resumed", [False, True])
def test_what_a_disk_has_grown_by_is_zeros_again_after_a_roll_back(
    stores: dict[int, Store], tmp_path: Path, is_resumed: bool
) -> None:
    path = tmp_path / "undo.log"
    log = UndoLog.begin(FILES, path, HEADER)
    os.truncate(stores[3].path, 9 * BLOCK_BYTES)
    stores[3].grow(9 * BLOCK_BYTES)
    log.grow({3: 9 * BLOCK_BYTES})
    point = content(stores)
    new = Frame(Kind.WRITE, 0, 3, BLOCK_BYTES, 0, 8 * BLOCK_BYTES, memoryview(b"n" * BLOCK_BYTES))
    log.save(stores, [new])
    apply(stores, new)
    if is_resumed:
        log.close()
        resumed = UndoLog.resume(FILES, path)
        assert resumed is not None
        log = resumed
    log.save(stores, [new])
    log.roll_back(stores)
    assert content(stores) == point
    log.discard()


def test_a_block_that_was_kept_while_its_disk_was_shorter_is_followed_by_zeros_again(
    stores: dict[int, Store], tmp_path: Path
) -> None:
    size_bytes = 14 * BLOCK_BYTES
    log = UndoLog.begin(FILES, tmp_path / "undo.log", HEADER)
    stores[0].write(b"o" * 4096, 12 * BLOCK_BYTES)
    old = Frame(Kind.WRITE, 0, 0, 4096, 0, 12 * BLOCK_BYTES, memoryview(b"n" * 4096))
    log.save(stores, [old])
    apply(stores, old)
    os.truncate(stores[0].path, size_bytes)
    stores[0].grow(size_bytes)
    log.grow({0: size_bytes})
    new = Frame(Kind.WRITE, 0, 0, 8192, 0, 12 * BLOCK_BYTES, memoryview(b"m" * 8192))
    log.save(stores, [new])
    apply(stores, new)
    log.roll_back(stores)
    assert content(stores)[0][12 * BLOCK_BYTES :] == b"o" * 4096 + bytes(2 * BLOCK_BYTES - 4096)
    log.discard()


@pytest.mark.parametrize("damage", [b"", b"short", b"\0" * 4096])
def test_what_is_no_log_is_not_used(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "undo.log"
    path.write_bytes(damage)
    assert UndoLog.resume(FILES, path) is None


def test_a_log_that_cannot_be_kept_says_so(stores: dict[int, Store], tmp_path: Path) -> None:
    with pytest.raises(StorageFault, match="begin the undo log"):
        UndoLog.begin(FILES, tmp_path / "missing" / "undo.log", HEADER)
    log = UndoLog.begin(FILES, tmp_path / "undo.log", HEADER)
    log._log.close()
    log._log = SystemLogFile(os.open("/dev/full", os.O_WRONLY))
    operation = Frame(Kind.WRITE, 0, 0, 512, 0, BLOCK_BYTES, memoryview(b"z" * 512))
    with pytest.raises(StorageFault, match="append to the undo log"):
        log.save(stores, [operation])
    log.close()


def test_as_many_logs_of_former_primaries_are_kept_as_may_be_and_then_no_other_begins(
    stores: dict[int, Store], tmp_path: Path
) -> None:
    header = dataclasses.replace(HEADER, generation="")
    operation = Frame(Kind.WRITE, 0, 0, 512, 0, 0, memoryview(b"z" * 512))
    for number in range(KEPT_LOGS_MAX):
        log = UndoLog.begin(FILES, tmp_path / "undo.log", header)
        log.save(stores, [operation])
        log.finish()
        assert len(find_kept(tmp_path)) == number + 1, "all of the same second"
    kept = [log.path for log in find_kept(tmp_path)]
    with pytest.raises(StorageFault, match=f"twinsite kept discard {tmp_path}/kept-"):
        UndoLog.begin(FILES, tmp_path / "undo.log", header)
    assert [log.path for log in find_kept(tmp_path)] == kept
    UndoLog.begin(FILES, tmp_path / "undo.log", HEADER).discard()
    kept[0].unlink()
    UndoLog.begin(FILES, tmp_path / "undo.log", header).discard()
