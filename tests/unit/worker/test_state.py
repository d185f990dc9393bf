"""The durable state of a replica: all or nothing, and never believed when it cannot be understood."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import threading
from pathlib import Path

import pytest

from tests.support.crash_files import CrashFiles
from twinsite.core.limits import BLOCK_BYTES
from twinsite.core.stream.hello import Doubt
from twinsite.core.tracking.dirty_map import DirtyMap
from twinsite.errors import StorageFault
from twinsite.worker.state import MapKind, ReplicaState, StateDirectory, read_boot_id

SIZE = 20 * BLOCK_BYTES + 512
FULL = ReplicaState(
    term=7,
    is_primary=True,
    knows_nothing=True,
    row_version=9,
    believed_version=8,
    row_stale_since=3.5,
    is_clean=True,
    generations=["a", "b"],
    sequence=2**63,
    primary_boot_id="another boot",
    peer_consistent=True,
    may_lack_writes=True,
    generation="c",
    is_consistent=True,
    consistent_at=2.5,
    peer_has_all=True,
    led=["d"],
    doubt=Doubt.RESTARTED,
    loss_acceptances=3,
    unstable_boot_id="boot",
    images=["volume 12:3.4"],
)


def some_map() -> DirtyMap:
    """A map with a few blocks in it."""
    dirty = DirtyMap(SIZE)
    dirty.mark(3 * BLOCK_BYTES, 2 * BLOCK_BYTES)
    dirty.mark(SIZE - 1, 1)
    return dirty


def test_a_new_directory_is_made_and_holds_the_state_of_a_beginner(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path / "a" / "b")
    assert directory.load() == ReplicaState()
    assert not list(directory.path.iterdir()), "looking leaves nothing behind"


def test_every_field_survives(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path)
    beginner = ReplicaState()
    for field in dataclasses.fields(ReplicaState):
        if field.name != "format":
            assert getattr(FULL, field.name) != getattr(beginner, field.name), f"{field.name} is not tried"
    directory.save(FULL)
    assert StateDirectory(tmp_path).load() == FULL
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["flushes", "replica.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b'{"term": "1"}',
        b'{"term": true}',
        b'{"generations": "ab"}',
        b'{"generations": [1]}',
        b'{"unstable_boot_id": 5}',
        b'{"is_clean": 1}',
        b'{"format": 2}',
        b"[" * 100_000,
    ],
)
def test_a_state_that_cannot_be_understood_is_a_fault_and_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "replica.json").write_bytes(content)
    with pytest.raises(StorageFault, match=r"replica\.json"):
        StateDirectory(tmp_path).load()
    assert (tmp_path / "replica.json").read_bytes() == content


def test_keys_of_a_newer_release_do_not_disturb(tmp_path: Path) -> None:
    (tmp_path / "replica.json").write_text(json.dumps({"term": 4, "undo_log": {"a": 1}}))
    assert StateDirectory(tmp_path).load().term == 4


def test_a_crash_before_the_rename_leaves_the_old_state(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path)
    directory.save(FULL)
    (tmp_path / "replica.json.new").write_bytes(b'{"term": 9')
    assert directory.load() == FULL
    directory.save(ReplicaState(term=8))
    assert directory.load().term == 8


def test_a_state_that_cannot_be_saved_is_a_fault_and_the_old_one_stays(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path)
    directory.save(FULL)
    (tmp_path / "replica.json.new").mkdir()
    with pytest.raises(StorageFault, match="save failed") as caught:
        directory.save(ReplicaState())
    assert caught.value.errno_value == errno.EISDIR
    assert directory.load() == FULL


def test_savers_at_the_same_time_leave_a_whole_and_newest_state(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path)
    state = ReplicaState()
    faults: list[BaseException] = []

    def save_often(name: str) -> None:
        try:
            for number in range(25):
                state.generations = [name * (1 + 50 * (number % 7))]
                directory.save(state)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=save_often, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not faults
    assert directory.load() == state


def test_a_map_survives_with_its_blocks(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path)
    directory.save_map(MapKind.DIRTY, 3, "volume", some_map())
    loaded = directory.load_map(MapKind.DIRTY, 3, "volume", SIZE)
    assert loaded is not None
    assert loaded.to_bytes() == some_map().to_bytes()
    assert loaded.size_bytes == SIZE


def test_no_map_is_no_map(tmp_path: Path) -> None:
    assert StateDirectory(tmp_path).load_map(MapKind.DIRTY, 3, "volume", SIZE) is None


def test_every_damaged_byte_makes_a_map_worthless(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path)
    directory.save_map(MapKind.DIRTY, 3, "volume", some_map())
    path = tmp_path / "volume.3.dirty"
    good = path.read_bytes()
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 0x10]) + good[position + 1 :])
        assert directory.load_map(MapKind.DIRTY, 3, "volume", SIZE) is None
    for length in range(len(good)):
        path.write_bytes(good[:length])
        assert directory.load_map(MapKind.DIRTY, 3, "volume", SIZE) is None
    path.write_bytes(good + b"\0")
    assert directory.load_map(MapKind.DIRTY, 3, "volume", SIZE) is None


def test_a_map_of_a_larger_volume_is_worthless_and_one_of_a_volume_that_has_grown_is_not(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path)
    directory.save_map(MapKind.DIRTY, 3, "volume", some_map())
    assert directory.load_map(MapKind.DIRTY, 3, "volume", SIZE - 8 * BLOCK_BYTES) is None
    grown = directory.load_map(MapKind.DIRTY, 3, "volume", SIZE + 8 * BLOCK_BYTES)
    assert grown is not None
    assert grown.dirty_bytes() >= some_map().dirty_bytes()
    assert grown.next_run(some_map().block_count, 99) is None


def test_a_map_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "volume.3.dirty").mkdir()
    with pytest.raises(StorageFault, match=r"volume\.3\.dirty"):
        StateDirectory(tmp_path).load_map(MapKind.DIRTY, 3, "volume", SIZE)


def test_a_forgotten_map_is_gone_and_forgetting_is_idempotent(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path)
    directory.save_map(MapKind.DIRTY, 3, "volume", some_map())
    for _ in range(2):
        directory.forget_maps(3, "volume")
        assert directory.load_map(MapKind.DIRTY, 3, "volume", SIZE) is None


def test_only_the_owner_reads_the_state(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path)
    directory.save(FULL)
    assert os.stat(tmp_path / "replica.json").st_mode & 0o777 == 0o600


def test_the_boot_has_one_name() -> None:
    assert read_boot_id() == read_boot_id() != ""


# A flush that failed, on a file system that is full


FAILED = dataclasses.replace(FULL, doubt=Doubt.FLUSH_FAILED)


def test_a_failed_flush_is_remembered_where_nothing_else_can_be_saved() -> None:
    files = CrashFiles()
    directory = StateDirectory("/state", files)
    directory.save(FULL)
    files.failing = {"replace"}
    with pytest.raises(StorageFault):
        directory.save(FAILED)
    assert StateDirectory("/state", CrashFiles(files.durable)).load() == FAILED


def test_a_failed_flush_is_remembered_where_its_mark_cannot_be_written() -> None:
    files = CrashFiles()
    directory = StateDirectory("/state", files)
    directory.save(FULL)
    files.failing = {"write"}
    directory.save(FAILED)
    assert StateDirectory("/state", CrashFiles(files.durable)).load() == FAILED


@pytest.mark.parametrize("failing", ["open", "write", "sync"])
def test_the_mark_of_a_failed_flush_goes_only_when_it_is_durable_that_the_disks_are_in_order(failing: str) -> None:
    files = CrashFiles()
    directory = StateDirectory("/state", files)
    directory.save(FAILED)
    files.failing = {failing}
    with pytest.raises(StorageFault):
        directory.save(FULL)
    assert StateDirectory("/state", CrashFiles(files.durable)).load() == FAILED
    files.failing = set()
    directory.save(FULL)
    assert StateDirectory("/state", CrashFiles(files.durable)).load() == FULL


def test_nothing_is_saved_before_there_is_space_for_the_mark_of_a_failed_flush() -> None:
    files = CrashFiles()
    files.failing = {"replace"}
    with pytest.raises(StorageFault, match="flushes"):
        StateDirectory("/state", files).save(FULL)
    files.failing = set()
    StateDirectory("/state", files).save(FULL)
    assert files.durable[Path("/state/flushes")] == b"flushes: fine  \n"


def test_half_a_mark_counts_as_one(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path)
    directory.save(FULL)
    (tmp_path / "flushes").write_bytes(b"flushes: fai")
    assert StateDirectory(tmp_path).load() == FAILED


def test_a_state_of_an_earlier_release_has_no_mark_and_gets_one(tmp_path: Path) -> None:
    StateDirectory(tmp_path).save(FULL)
    (tmp_path / "flushes").unlink()
    directory = StateDirectory(tmp_path)
    assert directory.load() == FULL
    directory.save(FULL)
    assert (tmp_path / "flushes").exists()
