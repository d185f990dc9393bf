"""What a worker believes of its disks when a role begins, on real files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.leader import Leader
from twinsite.core.limits import BLOCK_BYTES
from twinsite.core.stream.frames import Frame, Kind
from twinsite.core.stream.hello import Doubt
from twinsite.core.tracking.undo import UndoHeader
from twinsite.durable_file import SystemFiles
from twinsite.errors import StorageFault
from twinsite.messages import MemberSpec, Mode, Role, StorePlace
from twinsite.stores.base import Store
from twinsite.stores.file import FileStore
from twinsite.stores.opening import create_file_store, open_store
from twinsite.worker import worker
from twinsite.worker.state import ReplicaState, StateDirectory, read_boot_id
from twinsite.worker.taking_over import return_to_common_point
from twinsite.worker.undo_log import UndoLog

SIZE = 4 * BLOCK_BYTES
MEMBERS = [MemberSpec(0, "volume", SIZE)]
OLD, NEW = b"o" * BLOCK_BYTES, b"n" * BLOCK_BYTES


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[dict[int, Store]]:
    path = str(tmp_path / "0.raw")
    create_file_store(path, SIZE)
    store = open_store(StorePlace("file", path), SIZE)
    store.write(OLD, 0)
    yield {0: store}
    store.close()


def overwrite_with_log(directory: StateDirectory, stores: dict[int, Store]) -> None:
    """Do what a resync does to a consistent image: keep the old block, then write the new one."""
    log = UndoLog.begin(directory.files, directory.undo_path, UndoHeader("before", 1.0, {"0": SIZE}))
    log.save(stores, [Frame(Kind.WRITE, 0, 0, BLOCK_BYTES, 0, 0, memoryview(NEW))])
    stores[0].write(NEW, 0)
    log.close()


def first_block(stores: dict[int, Store]) -> bytes:
    data = bytearray(BLOCK_BYTES)
    stores[0].read_into(data, 0)
    return bytes(data)


def test_a_resync_that_never_ended_is_undone(tmp_path: Path, stores: dict[int, Store]) -> None:
    directory = StateDirectory(tmp_path)
    overwrite_with_log(directory, stores)
    state = ReplicaState(generation="after", is_consistent=False)
    return_to_common_point(directory, state, MEMBERS, stores)
    assert first_block(stores) == OLD
    assert (state.generation, state.is_consistent) == ("before", True)
    assert not directory.undo_path.exists()


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(ReplicaState(generation="after", is_consistent=True), id="its resync has ended"),
        pytest.param(ReplicaState(generation="", primary_boot_id="boot"), id="a primary has written since"),
    ],
)
def test_a_log_that_was_left_over_is_removed_and_not_followed(
    tmp_path: Path, stores: dict[int, Store], state: ReplicaState
) -> None:
    directory = StateDirectory(tmp_path)
    overwrite_with_log(directory, stores)
    return_to_common_point(directory, state, MEMBERS, stores)
    assert first_block(stores) == NEW
    assert not directory.undo_path.exists()


class FullOnce(SystemFiles):
    """Files that refuse one replacement, the `number`th."""

    def __init__(self, number: int) -> None:
        self._left = number

    def replace(self, path: Path, content: bytes) -> None:
        self._left -= 1
        if self._left == 0:
            raise OSError(28, "No space left on device")
        super().replace(path, content)


@pytest.mark.parametrize("number", [1, 2])
async def test_a_start_that_failed_leaves_no_trace_in_what_is_believed(
    leader: Leader, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(worker, "RETRY_SECONDS", 0.01)
    await leader.stop()
    directory = StateDirectory(leader.directory / "state")
    directory.save(ReplicaState(term=1, generation="lineage", is_consistent=True))
    leader.start()
    leader.worker._directory.files = FullOnce(number)
    leader.lead(2)
    await leader.put(leader.spec(term=2))
    status = await leader.mode(Mode.PAUSED)
    assert status.dirty_bytes == 0, "a secondary's image that was consistent is known to be the other side's"
    assert directory.load().term == 2


async def test_who_could_not_start_says_what_it_knows_also_to_a_controller_that_has_forgotten_it(
    leader: Leader,
) -> None:
    await leader.stop()
    StateDirectory(leader.directory / "state").save(ReplicaState(term=2, is_primary=True, generation="lineage"))
    leader.start()
    leader.worker._directory.files = FullOnce(1)
    leader.give(leader.spec(term=2))
    await leader.mode(Mode.ERROR)
    leader.give(leader.spec(term=1))
    status = await leader.wait(lambda s: s.knowledge is not None, "what it knows")
    assert status.knowledge is not None
    assert (status.knowledge.term, status.knowledge.is_primary) == (2, True)
    assert status.failure is not None
    assert "has seen term 2" in status.failure.message


@pytest.mark.parametrize(
    ("known", "index", "is_consistent"),
    [("volume0#0", 0, True), ("volume0#0", 1, False), ("volume0", 1, True), ("volume1#0", 0, False)],
    ids=["it stayed", "it came back", "of an earlier release", "another volume"],
)
async def test_a_volume_that_left_and_came_back_while_no_worker_ran_belongs_to_no_lineage(
    leader: Leader, known: str, index: int, is_consistent: bool
) -> None:
    await leader.stop()
    member = leader.members[0]
    assert member.store is not None
    store = open_store(member.store, member.size_bytes)
    identity = store.identity
    store.close()
    directory = StateDirectory(leader.directory / "state")
    directory.save(ReplicaState(term=1, generation="lineage", is_consistent=True, images=[f"{known} {identity}"]))
    leader.members[0] = replace(member, index=index)
    leader.start()
    leader.lead(2)
    status = await leader.put(leader.spec(Role.SECONDARY, term=2))
    assert status.consistent == is_consistent


# What a process left unflushed


def unflushed(leader: Leader, boot_id: str) -> None:
    """Leave the state of a secondary that was killed while it followed, under some boot."""
    state = ReplicaState(term=1, generation="lineage", is_consistent=True, unstable_boot_id=boot_id)
    StateDirectory(leader.directory / "state").save(state)


@pytest.mark.parametrize("role", [Role.PRIMARY, Role.SECONDARY])
async def test_what_a_killed_secondary_had_applied_is_durable_before_anybody_relies_on_it(
    leader: Leader, monkeypatch: pytest.MonkeyPatch, role: Role
) -> None:
    await leader.stop()
    unflushed(leader, read_boot_id())
    said_at_flush = []

    def flush(store: FileStore) -> None:
        said_at_flush.append(StateDirectory(leader.directory / "state").load())

    monkeypatch.setattr(FileStore, "flush", flush)
    leader.start()
    leader.lead(2)
    await leader.put(leader.spec(role, term=2))
    assert said_at_flush, "nothing was flushed"
    assert (said_at_flush[0].unstable_boot_id, said_at_flush[0].generation) == (read_boot_id(), "lineage")
    saved = StateDirectory(leader.directory / "state").load()
    assert (saved.unstable_boot_id, saved.doubt) == (None, Doubt.NONE)


@pytest.mark.parametrize("is_clean", [False, True])
async def test_what_a_killed_primary_had_written_is_durable_before_it_is_a_secondary_that_can_be_promoted(
    leader: Leader, monkeypatch: pytest.MonkeyPatch, is_clean: bool
) -> None:
    await leader.stop()
    directory = StateDirectory(leader.directory / "state")
    directory.save(ReplicaState(term=1, generations=["known"], primary_boot_id=read_boot_id(), is_clean=is_clean))
    said_at_flush = []

    def flush(store: FileStore) -> None:
        said_at_flush.append(directory.load())

    monkeypatch.setattr(FileStore, "flush", flush)
    leader.start()
    leader.lead(2)
    await leader.put(leader.spec(Role.SECONDARY, term=2))
    assert [state.primary_boot_id for state in said_at_flush] == ([] if is_clean else [read_boot_id()])


async def test_a_primary_whose_disk_lost_what_was_left_unflushed_does_not_serve_it(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await leader.stop()
    unflushed(leader, read_boot_id())

    def flush(store: FileStore) -> None:
        raise StorageFault("flush", store.path, OSError(5, "Input/output error"))

    monkeypatch.setattr(FileStore, "flush", flush)
    leader.start()
    leader.lead(2)
    leader.give(leader.spec(term=2))
    status = await leader.wait(lambda s: s.doubtful, "doubtful")
    assert not any(member.serving for member in status.members)
    assert StateDirectory(leader.directory / "state").load().doubt is Doubt.FLUSH_FAILED


async def test_disks_in_the_middle_of_a_copy_that_nothing_can_undo_are_shown_to_nobody(leader: Leader) -> None:
    await leader.stop()
    directory = StateDirectory(leader.directory / "state")
    directory.save(ReplicaState(term=1, generation="half", is_consistent=False))
    leader.start()
    leader.give(leader.spec())
    status = await leader.wait(lambda s: s.mode is Mode.ERROR, "refusing")
    assert status.failure is not None
    assert "not at one common point" in status.failure.message
    assert not (leader.directory / "0.sock").exists()
    assert directory.load().generation == "half"
