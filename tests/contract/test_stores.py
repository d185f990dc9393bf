"""Every backing store keeps the contract of `twinsite.stores.base.Store`."""

from __future__ import annotations

import contextlib
import errno
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.stores import (
    COMMAND_SECONDS_MAX,
    KIB,
    MIB,
    SIZE_BYTES,
    check_extents,
    kernel_reads_nowait,
    loop_device,
    needs_root,
    pattern,
    read,
    run,
    run_threads,
)
from twinsite.errors import StorageFault
from twinsite.messages import StorePlace
from twinsite.stores.base import Store
from twinsite.stores.opening import create_file_store, open_store
from twinsite_sim.stores import SimDisk, SimStore

_SIMULATED: dict[str, SimDisk] = {}
"""Simulated disks by their paths."""


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A short temporary directory of this module's own."""
    path = Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def open_at(place: StorePlace) -> Store:
    """Open a store of any kind."""
    if place.kind == "sim":
        return SimStore(_SIMULATED[place.path], SIZE_BYTES, object())
    return open_store(place, SIZE_BYTES)


@pytest.fixture(scope="module", params=["file", pytest.param("block", marks=needs_root), "sim"])
def place(request: pytest.FixtureRequest, directory: Path) -> Iterator[StorePlace]:
    """A place of each kind, `SIZE_BYTES` large."""
    path = directory / f"{request.param}.raw"
    if request.param == "sim":
        _SIMULATED[str(path)] = SimDisk(str(path), SIZE_BYTES, random.Random(1))
        yield StorePlace("sim", str(path))
        return
    create_file_store(str(path), SIZE_BYTES)
    if request.param == "file":
        yield StorePlace("file", str(path))
        return
    with loop_device(path) as device:
        yield StorePlace("block", device)


@pytest.fixture
def store(place: StorePlace) -> Iterator[Store]:
    """An open store that reads as zeros throughout."""
    opened = open_at(place)
    opened.zero(0, SIZE_BYTES, punch=True)
    yield opened
    opened.close()


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
    again = open_at(place)
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
    again = open_at(place)
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
    if place.kind != "sim" and not kernel_reads_nowait(place.path):
        assert store.try_read(64 * KIB, 4096) is None
        assert store.try_read(64 * KIB, 4096) is None, "the answer stays the same once the kernel has refused"
        return
    data = store.try_read(64 * KIB, 4096)
    assert data is not None
    assert bytes(data) == pattern(64 * KIB)


def test_one_store_is_open_once(store: Store, place: StorePlace) -> None:
    with pytest.raises(StorageFault) as caught:
        open_at(place)
    assert caught.value.errno_value == errno.EBUSY
    assert place.path in str(caught.value)
    store.close()
    open_at(place).close()


def test_another_process_is_kept_out(store: Store, place: StorePlace) -> None:
    if place.kind == "sim":
        pytest.skip("a simulated disk lies in this process")
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


@pytest.mark.parametrize("kind", ["file", pytest.param("block", marks=needs_root)])
def test_a_store_grows_while_it_is_open(kind: str, directory: Path) -> None:
    path = directory / f"grown-{kind}.raw"
    create_file_store(str(path), SIZE_BYTES)
    with contextlib.ExitStack() as stack:
        place = StorePlace(kind, stack.enter_context(loop_device(path)) if kind == "block" else str(path))
        store = open_at(place)
        stack.callback(store.close)
        store.write(pattern(4096), SIZE_BYTES - 4096)
        with pytest.raises(StorageFault, match="the volume is to have"):
            store.grow(2 * SIZE_BYTES)
        assert store.size_bytes == SIZE_BYTES
        create_file_store(str(path), 2 * SIZE_BYTES)
        if kind == "block":
            run("losetup", "--set-capacity", place.path)
        store.grow(2 * SIZE_BYTES)
        assert read(store, SIZE_BYTES - 4096, 4096 + SIZE_BYTES) == pattern(4096) + bytes(SIZE_BYTES)
        store.write(pattern(4096), 2 * SIZE_BYTES - 4096)
        assert read(store, 2 * SIZE_BYTES - 4096, 4096) == pattern(4096)
        check_extents(store, 0, 2 * SIZE_BYTES)
