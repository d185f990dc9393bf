"""Every backing store keeps the contract of `twinsite.stores.base.Store`."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twinsite.errors import ConfigurationError, StorageFault
from twinsite.messages import StorePlace
from twinsite.stores.base import Extent, Store
from twinsite.stores.file import FileStore, sync_directory
from twinsite.stores.opening import create_file_store, delete_file_store, open_store

KIB = 1024
MIB = 1024 * KIB
SIZE_BYTES = 4 * MIB
COMMAND_SECONDS_MAX = 30
_PATTERN = bytes((index * 7 + index // 251) % 255 + 1 for index in range(10_007))

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting and loop devices need root")


def run(*command: str) -> str:
    """Run a system command and return what it printed."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX).stdout


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A short temporary directory of this module's own."""
    path = Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def attach_loop(backing: Path) -> str:
    """Return the path of a loop device on `backing`, or skip the test when the machine has none to give."""
    try:
        return run("losetup", "--find", "--show", str(backing)).strip()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no loop device: {error}")


@pytest.fixture(scope="module", params=["file", pytest.param("block", marks=needs_root)])
def place(request: pytest.FixtureRequest, directory: Path) -> Iterator[StorePlace]:
    """A place of each kind, `SIZE_BYTES` large."""
    path = directory / f"{request.param}.raw"
    create_file_store(str(path), SIZE_BYTES)
    if request.param == "file":
        yield StorePlace("file", str(path))
        return
    device = attach_loop(path)
    yield StorePlace("block", device)
    run("losetup", "--detach", device)


@pytest.fixture
def store(place: StorePlace) -> Iterator[Store]:
    """An open store that reads as zeros throughout."""
    opened = open_store(place, SIZE_BYTES)
    opened.zero(0, SIZE_BYTES, punch=True)
    yield opened
    opened.close()


def read(store: Store, offset: int, length: int) -> bytes:
    """Return a range of the store."""
    buffer = bytearray(length)
    store.read_into(buffer, offset)
    return bytes(buffer)


def pattern(length: int, seed: int = 1) -> bytes:
    """Return bytes without zeros that differ from block to block."""
    return (_PATTERN * (length // len(_PATTERN) + 2))[seed : seed + length]


def test_new_store_reads_as_zeros(store: Store) -> None:
    assert read(store, 0, SIZE_BYTES) == bytes(SIZE_BYTES)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize(("offset", "length"), [(0, 1), (511, 2), (4096, 4096), (SIZE_BYTES - 3, 3), (0, SIZE_BYTES)])
def test_write_is_read_back_and_touches_nothing_else(
    store: Store, kind: Callable[[bytes], bytes], offset: int, length: int
) -> None:
    data = pattern(length)
    store.write(kind(data), offset)
    expected = bytearray(SIZE_BYTES)
    expected[offset : offset + length] = data
    assert read(store, 0, SIZE_BYTES) == expected


def test_empty_calls_do_nothing(store: Store) -> None:
    store.write(b"", SIZE_BYTES)
    store.zero(SIZE_BYTES, 0, punch=True)
    store.zero(0, 0, punch=False)
    assert read(store, SIZE_BYTES, 0) == b""
    assert list(store.extents(SIZE_BYTES, 0)) == []


def test_content_survives_close_and_open(store: Store, place: StorePlace) -> None:
    store.write(pattern(10_000), 12_345)
    store.flush()
    store.close()
    again = open_store(place, SIZE_BYTES)
    try:
        assert read(again, 12_345, 10_000) == pattern(10_000)
    finally:
        again.close()


@pytest.mark.parametrize("punch", [True, False])
@pytest.mark.parametrize(("offset", "length"), [(0, SIZE_BYTES), (100, 50), (4000, 9000), (4096, 8192), (513, 511)])
def test_zero_clears_exactly_the_range(store: Store, punch: bool, offset: int, length: int) -> None:
    expected = bytearray(pattern(SIZE_BYTES))
    store.write(expected, 0)
    store.zero(offset, length, punch=punch)
    expected[offset : offset + length] = bytes(length)
    assert read(store, 0, SIZE_BYTES) == expected


def test_zero_is_seen_after_reopening(store: Store, place: StorePlace) -> None:
    store.write(pattern(SIZE_BYTES), 0)
    store.flush()
    store.zero(64 * KIB, MIB, punch=True)
    store.flush()
    store.close()
    again = open_store(place, SIZE_BYTES)
    try:
        assert read(again, 64 * KIB, MIB) == bytes(MIB)
        assert read(again, 64 * KIB + MIB, KIB) == pattern(SIZE_BYTES)[64 * KIB + MIB :][:KIB]
    finally:
        again.close()


def test_try_read_answers_rightly_or_not_at_all(store: Store) -> None:
    store.write(pattern(64 * KIB), 4096)
    for offset, length in [(4096, 64 * KIB), (5000, 1), (0, SIZE_BYTES)]:
        data = store.try_read(length, offset)
        assert data is None or bytes(data) == read(store, offset, length)


def test_try_read_finds_what_was_just_written(store: Store, place: StorePlace) -> None:
    store.write(pattern(64 * KIB), 4096)
    if not kernel_reads_nowait(place.path):
        assert store.try_read(64 * KIB, 4096) is None
        assert store.try_read(64 * KIB, 4096) is None, "the answer stays the same once the kernel has refused"
        return
    data = store.try_read(64 * KIB, 4096)
    assert data is not None
    assert bytes(data) == pattern(64 * KIB)


def kernel_reads_nowait(path: str) -> bool:
    """Tell whether the file system under `path` knows RWF_NOWAIT."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.preadv(fd, [bytearray(1)], 4096, os.RWF_NOWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def test_one_store_is_open_once(store: Store, place: StorePlace) -> None:
    with pytest.raises(StorageFault) as caught:
        open_store(place, SIZE_BYTES)
    assert caught.value.errno_value == errno.EBUSY
    assert place.path in str(caught.value)
    store.close()
    open_store(place, SIZE_BYTES).close()


def test_another_process_is_kept_out(store: Store, place: StorePlace) -> None:
    program = (
        "import sys; from twinsite.stores.opening import open_store; from twinsite.messages import StorePlace\n"
        f"try: open_store(StorePlace({place.kind!r}, {place.path!r}), {store.size_bytes})\n"
        "except Exception as error: sys.exit(error.errno_value)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=COMMAND_SECONDS_MAX)
    assert done.returncode == errno.EBUSY


def test_close_is_idempotent_and_ends_the_store(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(StorageFault):
        store.write(b"x", 0)


def test_extents_cover_a_range_exactly(store: Store) -> None:
    store.write(pattern(64 * KIB), 128 * KIB)
    store.write(pattern(64 * KIB), MIB)
    for offset, length in [(0, SIZE_BYTES), (130 * KIB, 100), (1, SIZE_BYTES - 2), (MIB - 1, 2)]:
        check_extents(store, offset, length)


def check_extents(store: Store, offset: int, length: int) -> list[Extent]:
    """Check that extents are in order, merged and complete, and that holes read as zeros."""
    extents = list(store.extents(offset, length))
    position = offset
    for extent, following in zip(extents, [*extents[1:], None], strict=True):
        assert extent.offset == position
        assert extent.length > 0
        assert following is None or following.is_hole != extent.is_hole, "neighbours of one kind are merged"
        if extent.is_hole:
            assert read(store, extent.offset, extent.length) == bytes(extent.length)
        position += extent.length
    assert position == offset + length
    return extents


OPERATION = st.tuples(
    st.sampled_from(["write", "punch", "zero", "flush", "extents", "try_read"]),
    st.integers(0, SIZE_BYTES - 1),
    st.one_of(st.integers(1, 9000), st.sampled_from([4096, 64 * KIB, MIB])),
)


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(operations=st.lists(OPERATION, max_size=25), aligned=st.booleans())
def test_store_behaves_as_an_array_of_bytes(
    store: Store, operations: list[tuple[str, int, int]], aligned: bool
) -> None:
    store.zero(0, SIZE_BYTES, punch=True)
    model = bytearray(SIZE_BYTES)
    for seed, (name, raw_offset, raw_length) in enumerate(operations):
        offset = raw_offset // 4096 * 4096 if aligned else raw_offset
        length = min(raw_length, SIZE_BYTES - offset)
        if name == "write":
            model[offset : offset + length] = pattern(length, seed)
            store.write(pattern(length, seed), offset)
        elif name in ("punch", "zero"):
            model[offset : offset + length] = bytes(length)
            store.zero(offset, length, punch=name == "punch")
        elif name == "flush":
            store.flush()
        elif name == "extents":
            check_extents(store, offset, length)
        else:
            data = store.try_read(length, offset)
            assert data is None or data == model[offset : offset + length]
    assert read(store, 0, SIZE_BYTES) == model
    check_extents(store, 0, SIZE_BYTES)


def test_threads_write_beside_each_other(store: Store) -> None:
    def fill(index: int) -> None:
        for step in range(16):
            offset = (step * 8 + index) * 4096
            store.write(bytes([index + 1]) * 4096, offset)
            assert read(store, offset, 4096) == bytes([index + 1]) * 4096

    run_threads([lambda index=index: fill(index) for index in range(8)])  # type: ignore[misc]
    for block in range(128):
        assert read(store, block * 4096, 4096) == bytes([block % 8 + 1]) * 4096


def run_threads(jobs: list[Callable[[], None]]) -> None:
    """Run all jobs at once and re-raise the first failure."""
    failures: list[BaseException] = []

    def guard(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guard, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(COMMAND_SECONDS_MAX)
        assert not thread.is_alive(), "a thread hangs"
    if failures:
        raise failures[0]


# What only files can show.


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


# What needs a device or a file system of its own.


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
    device = attach_loop(backing)
    try:
        store = open_store(StorePlace("block", device), SIZE_BYTES)
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
        store.close()
    finally:
        run("losetup", "--detach", device)


@needs_root
def test_mounted_device_is_refused(directory: Path) -> None:
    backing = directory / "mounted.raw"
    create_file_store(str(backing), 16 * MIB)
    run("mkfs.ext4", "-q", "-F", str(backing))
    device = attach_loop(backing)
    mount = directory / "mounted"
    mount.mkdir()
    try:
        run("mount", device, str(mount))
        with pytest.raises(StorageFault) as caught:
            open_store(StorePlace("block", device), 16 * MIB)
        assert caught.value.errno_value == errno.EBUSY
        run("umount", str(mount))
    finally:
        run("losetup", "--detach", device)


@needs_root
def test_loop_device_punches_through_to_its_file(directory: Path) -> None:
    backing = directory / "punched.raw"
    create_file_store(str(backing), SIZE_BYTES)
    device = attach_loop(backing)
    try:
        store = open_store(StorePlace("block", device), SIZE_BYTES)
        assert store.can_punch
        assert store.allocated_bytes() == SIZE_BYTES
        store.write(pattern(SIZE_BYTES), 0)
        store.flush()
        store.zero(0, SIZE_BYTES, punch=True)
        store.flush()
        store.close()
        assert os.stat(backing).st_blocks * 512 < SIZE_BYTES
    finally:
        run("losetup", "--detach", device)
