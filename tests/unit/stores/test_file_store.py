"""What only one kind of store or a special file system can show."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stores import (
    KIB,
    MIB,
    SIZE_BYTES,
    check_extents,
    loop_device,
    needs_root,
    pattern,
    read,
    run,
    run_threads,
)
from twinsite.durable_file import sync_directory
from twinsite.errors import ConfigurationError, StorageFault
from twinsite.messages import StorePlace
from twinsite.stores.base import Extent, Store
from twinsite.stores.file import FileStore
from twinsite.stores.opening import create_file_store, delete_file_store, open_store


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A short temporary directory of this module's own."""
    path = Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def file_store(directory: Path) -> Iterator[FileStore]:
    """A fresh sparse file store."""
    path = directory / "sparse.raw"
    create_file_store(str(path), SIZE_BYTES)
    opened = FileStore(str(path), SIZE_BYTES)
    yield opened
    opened.close()
    delete_file_store(str(path))


def test_holes_are_found_and_space_is_given_back(file_store: FileStore) -> None:
    assert file_store.allocated_bytes() == 0
    assert list(file_store.extents(0, SIZE_BYTES)) == [Extent(0, SIZE_BYTES, True)]
    file_store.write(pattern(64 * KIB), MIB)
    assert check_extents(file_store, 0, SIZE_BYTES) == [
        Extent(0, MIB, True),
        Extent(MIB, 64 * KIB, False),
        Extent(MIB + 64 * KIB, SIZE_BYTES - MIB - 64 * KIB, True),
    ]
    assert check_extents(file_store, MIB + 5, 10) == [Extent(MIB + 5, 10, False)]
    file_store.flush()
    assert file_store.allocated_bytes() >= 64 * KIB
    if file_store.can_punch:
        file_store.zero(MIB, 64 * KIB, punch=True)
        assert file_store.allocated_bytes() < 64 * KIB
        assert check_extents(file_store, 0, SIZE_BYTES) == [Extent(0, SIZE_BYTES, True)]


def test_zero_without_punch_keeps_the_space(file_store: FileStore) -> None:
    file_store.write(pattern(MIB), 0)
    file_store.flush()
    before = file_store.allocated_bytes()
    file_store.zero(0, MIB, punch=False)
    file_store.flush()
    assert file_store.allocated_bytes() >= before
    assert read(file_store, 0, MIB) == bytes(MIB)


def test_extents_stay_exact_while_the_file_changes(file_store: FileStore) -> None:
    ended = threading.Event()

    def change() -> None:
        step = 0
        while not ended.is_set():
            offset = step * 36 * KIB % (SIZE_BYTES - 64 * KIB)
            file_store.write(pattern(16 * KIB), offset)
            file_store.zero(offset, 64 * KIB, punch=True)
            step += 1

    def look() -> None:
        try:
            for _ in range(200):
                extents = list(file_store.extents(0, SIZE_BYTES))
                assert sum(extent.length for extent in extents) == SIZE_BYTES
                assert all(extent.length > 0 for extent in extents)
        finally:
            ended.set()

    run_threads([change, look])


def test_a_hole_punched_between_two_questions_does_not_stop_the_walk(
    file_store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_store.write(pattern(64 * KIB), MIB)
    ask = os.lseek

    def ask_then_punch(fd: int, offset: int, whence: int) -> int:
        answer = ask(fd, offset, whence)
        if whence == os.SEEK_DATA and answer == MIB:
            file_store.zero(MIB, 64 * KIB, punch=True)
        return answer

    monkeypatch.setattr(os, "lseek", ask_then_punch)
    extents = []
    for extent in file_store.extents(MIB, MIB):
        extents.append(extent)
        assert extent.length > 0, "the walk makes no progress"
    assert sum(extent.length for extent in extents) == MIB


def test_larger_file_is_opened_and_clipped(directory: Path) -> None:
    path = directory / "larger.raw"
    create_file_store(str(path), 2 * MIB)
    store = FileStore(str(path), MIB)
    try:
        assert list(store.extents(0, MIB)) == [Extent(0, MIB, True)]
        store.write(b"end", MIB - 3)
        assert os.stat(path).st_size == 2 * MIB
    finally:
        store.close()


def test_smaller_file_is_refused(directory: Path) -> None:
    path = directory / "smaller.raw"
    create_file_store(str(path), MIB)
    with pytest.raises(StorageFault, match="the volume"):
        FileStore(str(path), 2 * MIB)
    FileStore(str(path), MIB).close()  # The refused open left no lock behind.


def test_file_cut_short_fails_the_read(file_store: FileStore) -> None:
    os.truncate(file_store.path, MIB)
    with pytest.raises(StorageFault) as caught:
        file_store.read_into(bytearray(MIB), MIB - 4096)
    assert caught.value.errno_value == errno.EIO


def test_create_is_idempotent_grows_and_never_shrinks(directory: Path) -> None:
    path = directory / "create.raw"
    create_file_store(str(path), MIB)
    store = FileStore(str(path), MIB)
    store.write(b"precious", 0)
    create_file_store(str(path), MIB)  # Also while it is open.
    create_file_store(str(path), 2 * MIB)
    assert read(store, 0, 8) == b"precious"
    store.close()
    with pytest.raises(StorageFault, match="larger"):
        create_file_store(str(path), MIB)
    assert os.stat(path).st_size == 2 * MIB
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert not path.with_name("create.raw.new").exists()


def test_create_takes_over_an_unfinished_creation(directory: Path) -> None:
    path = directory / "unfinished.raw"
    path.with_name("unfinished.raw.new").write_bytes(b"left over by a crash" * 1000)
    create_file_store(str(path), MIB)
    assert path.read_bytes() == bytes(MIB)


def test_delete_is_idempotent_and_spares_an_open_store(directory: Path) -> None:
    path = directory / "delete.raw"
    create_file_store(str(path), MIB)
    store = FileStore(str(path), MIB)
    with pytest.raises(StorageFault) as caught:
        delete_file_store(str(path))
    assert caught.value.errno_value == errno.EBUSY
    assert path.exists()
    store.close()
    delete_file_store(str(path))
    delete_file_store(str(path))
    assert not path.exists()


def test_missing_places_and_unknown_kinds_are_named(directory: Path) -> None:
    missing = str(directory / "missing.raw")
    for kind in ("file", "block"):
        with pytest.raises(StorageFault, match=r"missing\.raw") as caught:
            open_store(StorePlace(kind, missing), MIB)
        assert caught.value.errno_value == errno.ENOENT
    with pytest.raises(ConfigurationError, match="tape"):
        open_store(StorePlace("tape", missing), MIB)
    create_file_store(missing, MIB)
    with pytest.raises(StorageFault) as refused:
        open_store(StorePlace("block", missing), MIB)
    assert refused.value.errno_value == errno.ENOTBLK
    sync_directory(str(directory))


def open_block(device: str) -> contextlib.closing[Store]:
    """Open the store on a device; a context manager that closes it."""
    return contextlib.closing(open_store(StorePlace("block", device), SIZE_BYTES))


@pytest.fixture
def small_tmpfs(directory: Path) -> Iterator[Path]:
    """A mounted file system with room for one MiB."""
    mount = directory / "small"
    mount.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=1m", "twinsite-test", str(mount))
    yield mount
    run("umount", str(mount))
    mount.rmdir()


@needs_root
def test_full_file_system_is_told_and_loses_nothing_written(small_tmpfs: Path) -> None:
    path = str(small_tmpfs / "volume.raw")
    create_file_store(path, SIZE_BYTES)
    store = FileStore(path, SIZE_BYTES)
    try:
        store.write(pattern(256 * KIB), 0)
        with pytest.raises(StorageFault) as caught:
            store.write(pattern(3 * MIB), MIB)
        assert caught.value.errno_value == errno.ENOSPC
        assert read(store, 0, 256 * KIB) == pattern(256 * KIB)
        store.zero(MIB, 3 * MIB, punch=True)
        store.write(pattern(256 * KIB, 2), 3 * MIB)
        assert read(store, 3 * MIB, 256 * KIB) == pattern(256 * KIB, 2)
    finally:
        store.close()


@needs_root
def test_zero_is_written_where_the_file_system_cannot_zero(small_tmpfs: Path) -> None:
    # tmpfs knows holes and no ZERO_RANGE, so this goes through written zeros, past the size of one such write.
    run("mount", "-o", "remount,size=8m", str(small_tmpfs))
    path = str(small_tmpfs / "volume.raw")
    create_file_store(path, SIZE_BYTES)
    store = FileStore(path, SIZE_BYTES)
    try:
        expected = bytearray(pattern(SIZE_BYTES))
        store.write(expected, 0)
        store.zero(1000, 3 * MIB, punch=False)
        expected[1000 : 1000 + 3 * MIB] = bytes(3 * MIB)
        assert read(store, 0, SIZE_BYTES) == expected
        assert store.allocated_bytes() == SIZE_BYTES
    finally:
        store.close()


@needs_root
def test_after_a_failed_flush_no_flush_succeeds(small_tmpfs: Path) -> None:
    # A loop device on a file that cannot grow takes writes into the page cache and fails to write them back.
    backing = small_tmpfs / "backing.raw"
    create_file_store(str(backing), SIZE_BYTES)
    with (
        loop_device(backing) as device,
        contextlib.closing(open_store(StorePlace("block", device), SIZE_BYTES)) as store,
    ):
        store.write(b"first", 0)
        store.flush()
        store.write(pattern(SIZE_BYTES), 0)
        with pytest.raises(StorageFault) as caught:
            store.flush()
        assert caught.value.errno_value in (errno.EIO, errno.ENOSPC)
        run("mount", "-o", "remount,size=16m", str(small_tmpfs))
        store.write(b"later", 0)
        with pytest.raises(StorageFault, match="flush"):
            store.flush()


@needs_root
def test_mounted_device_is_refused(directory: Path) -> None:
    backing = directory / "mounted.raw"
    create_file_store(str(backing), 16 * MIB)
    run("mkfs.ext4", "-q", "-F", str(backing))
    mount = directory / "mounted"
    mount.mkdir()
    with loop_device(backing) as device:
        run("mount", device, str(mount))
        try:
            with pytest.raises(StorageFault) as caught:
                open_store(StorePlace("block", device), 16 * MIB)
        finally:
            run("umount", str(mount))
    assert caught.value.errno_value == errno.EBUSY


@needs_root
def test_loop_device_punches_through_to_its_file(directory: Path) -> None:
    backing = directory / "punched.raw"
    create_file_store(str(backing), SIZE_BYTES)
    with (
        loop_device(backing) as device,
        contextlib.closing(open_store(StorePlace("block", device), SIZE_BYTES)) as store,
    ):
        assert store.can_punch
        assert store.allocated_bytes() == SIZE_BYTES
        store.write(pattern(SIZE_BYTES), 0)
        store.flush()
        store.zero(0, SIZE_BYTES, punch=True)
        store.flush()
        assert os.stat(backing).st_blocks * 512 < SIZE_BYTES
