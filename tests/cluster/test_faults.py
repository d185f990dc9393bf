"""Two real worker processes of which one dies, stalls or runs out of space: hosts go on, and the twins end equal."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.link import Link
from tests.support.numbered_writer import NumberedWriter
from tests.support.pairs import SIZE, MakePair, assert_equal, fill, last_resync, pair_maker, write
from tests.support.stores import needs_root, pattern, run
from tests.support.worker_process import WorkerPair
from twinsite.core.limits import BLOCK_BYTES, MIB
from twinsite.errors import StorageFault
from twinsite.messages import Failure, Mode, WorkerStatus
from twinsite.nbd_client import NbdClient
from twinsite.stores.opening import create_file_store

SLOTS = SIZE // 4096


@pytest.fixture(name="make_pair")
def fixture_make_pair() -> Iterator[MakePair]:
    with pair_maker() as make:
        yield make


def blocks_of(writer: NumberedWriter) -> int:
    """How many blocks the writer has touched."""
    return len({slot * 4096 // BLOCK_BYTES for slot in writer.written})


# The secondary dies


def test_hosts_write_on_when_the_secondary_is_killed_and_only_the_difference_travels_later(make_pair: MakePair) -> None:
    pair = make_pair([SIZE, SIZE])
    fill(pair, 0, range(1024))
    pair.start()
    pair.synchronize()
    with NumberedWriter(pair.uri(0), slots=SLOTS) as writer:
        writer.wait_for_more(20)
        pair.secondary.kill()
        status = pair.primary.wait(lambda s: s.mode is Mode.CONNECTING and s.failure is not None, "alone")
        assert status.failure is not None
        assert status.failure.code == "37100043"
        assert status.consistent, "what the secondary has is a prefix of the group's writes"
        writer.wait_for_more(50)
    pair.secondary.start()
    pair.synchronize()
    resync = last_resync(pair.primary.status)
    assert resync.kind == "delta"
    assert 0 < resync.bytes_shipped <= blocks_of(writer) * BLOCK_BYTES
    assert_equal(pair)
    writer.check_disk(pair.path("az2", 0))


def test_the_secondary_is_killed_in_the_middle_of_a_full_synchronization(make_pair: MakePair, link: Link) -> None:
    pair = make_pair([4 * SIZE])
    fill(pair, 0, range(0, 4096, 2))
    pair.start()
    # One writes fewer blocks than are copied, and the other some that are not by then.
    with (
        NumberedWriter(pair.uri(0), slots=SLOTS // 4) as writer,
        NumberedWriter(pair.uri(0), slots=64, first_slot=4 * SLOTS - 64, seed=2) as late,
    ):
        pair.copy_some(link)
        pair.secondary.kill()
        status = pair.primary.wait(lambda s: s.mode is Mode.CONNECTING, "alone")
        assert 0 < status.dirty_bytes < 4 * SIZE, "it was the middle"
        assert not status.consistent
        writer.wait_for_more(20)
        pair.secondary.start()
        pair.synchronize()
        writer.wait_for_more(20)
    assert last_resync(pair.primary.status).kind == "delta", "what the killed process had applied is still there"
    pair.pause()
    assert_equal(pair)
    writer.check_disk(pair.path("az2", 0))
    late.check_disk(pair.path("az2", 0))


def test_a_secondary_that_stops_cleanly_and_comes_back_lacks_only_what_came_meanwhile(make_pair: MakePair) -> None:
    pair = make_pair([SIZE])
    fill(pair, 0, range(1024))
    pair.start()
    pair.synchronize()
    pair.secondary.stop()
    pair.primary.wait(lambda s: s.mode is Mode.CONNECTING, "alone")
    write(pair, 0, 7 * BLOCK_BYTES, b"meanwhile")
    pair.secondary.start()
    pair.synchronize()
    resync = last_resync(pair.primary.status)
    assert (resync.kind, resync.bytes_shipped) == ("delta", BLOCK_BYTES)
    assert_equal(pair)


def test_a_stalled_secondary_is_given_up_and_caught_up_with_later(make_pair: MakePair) -> None:
    pair = make_pair([SIZE])
    fill(pair, 0, range(256))
    pair.start()
    pair.synchronize()
    with NumberedWriter(pair.uri(0), slots=SLOTS) as writer:
        writer.wait_for_more(20)
        pair.secondary.signal(signal.SIGSTOP)
        status = pair.primary.wait(lambda s: s.mode is Mode.CONNECTING, "alone")
        assert status.failure is not None
        assert "silent" in status.failure.message
        writer.wait_for_more(50)
        pair.secondary.signal(signal.SIGCONT)
        pair.primary.wait(lambda s: s.mode is Mode.IN_SYNC, "in sync by itself")
        writer.wait_for_more(20)
    assert last_resync(pair.primary.status).kind == "delta"
    pair.pause()
    assert_equal(pair)
    writer.check_disk(pair.path("az2", 0))


# The primary dies


def test_after_a_killed_primary_what_is_in_doubt_is_compared_and_nothing_copied(make_pair: MakePair) -> None:
    pair = make_pair([SIZE, SIZE])
    fill(pair, 0, range(512))
    pair.start()
    pair.synchronize()
    with NbdClient(pair.uri(0)) as client:
        for number in range(50):
            client.write(number * 8192, pattern(8192, number))
    pair.primary.kill()
    pair.start_primary()
    pair.synchronize()
    resync = last_resync(pair.primary.status)
    assert (resync.kind, resync.bytes_shipped) == ("delta", 0)
    assert resync.bytes_compared == resync.bytes_total == 2 * SIZE  # All of it was written a moment ago.
    assert_equal(pair)


def test_answered_writes_survive_a_killed_primary_at_both_sides(make_pair: MakePair) -> None:
    pair = make_pair([SIZE])
    pair.start()
    pair.synchronize()
    writer = NumberedWriter(pair.uri(0), slots=SLOTS)
    with pytest.raises(AssertionError, match="told an error"), writer:
        writer.wait_for_more(100)
        pair.primary.kill()
        writer.wait_for_more(10**9)
    secondary = pair.path("az2", 0)
    # The write that was under way may be there or not; it went to a slot whose answered record it replaced.
    lacking = [slot for slot, number in writer.written.items() if not shows(secondary, slot, number)]
    assert len(lacking) <= 1


def shows(disk: Path, slot: int, number: int) -> bool:
    """Say whether a slot shows the record of a number."""
    with disk.open("rb") as file:
        file.seek(slot * 4096)
        return int.from_bytes(file.read(8), "big") == number


@pytest.mark.parametrize("changes", [False, True])
def test_a_primary_that_stopped_cleanly_ships_only_what_came_since(make_pair: MakePair, changes: bool) -> None:
    pair = make_pair([SIZE, SIZE])
    fill(pair, 0, range(1024))
    pair.start()
    pair.synchronize()
    write(pair, 0, 3 * BLOCK_BYTES, b"mirrored")
    if changes:
        pair.pause()
        write(pair, 1, 9 * BLOCK_BYTES, b"while paused")
    pair.primary.stop()
    pair.start_primary()
    expected = BLOCK_BYTES if changes else 0
    status = pair.primary.wait(lambda s: s.mode is Mode.PAUSED, "back")
    assert (status.dirty_bytes, status.consistent) == (expected, True)
    pair.synchronize()
    resync = last_resync(pair.primary.status)
    assert (resync.kind, resync.bytes_total, resync.bytes_shipped) == ("delta", expected, expected)
    assert_equal(pair)


def test_a_primary_that_is_stopped_while_copying_goes_on_where_it_was(make_pair: MakePair, link: Link) -> None:
    pair = make_pair([4 * SIZE])
    fill(pair, 0, range(0, 4 * SIZE // BLOCK_BYTES, 2))
    pair.start()
    pair.copy_some(link)
    pair.primary.signal(signal.SIGTERM)
    link.cut()  # Else it would wait for answers as long as it may.
    pair.primary.stop()
    link.flow()
    pair.start_primary()
    status = pair.primary.wait(lambda s: s.mode is Mode.PAUSED, "back")
    assert 0 < status.dirty_bytes < 4 * SIZE
    assert not status.consistent
    pair.synchronize()
    assert last_resync(pair.primary.status).kind == "delta"
    assert_equal(pair)


def test_a_secondary_that_is_not_the_one_that_was_left_gets_everything(make_pair: MakePair) -> None:
    pair = make_pair([SIZE])
    fill(pair, 0, range(256))
    pair.start()
    pair.synchronize()
    pair.pause()
    pair.secondary.stop()
    (pair.directory / "az2" / "state" / "replica.json").unlink()
    with pair.path("az2", 0).open("r+b") as twin:
        twin.write(pattern(MIB, 9))
    pair.secondary.start()
    pair.synchronize()
    assert last_resync(pair.primary.status).kind == "full"
    assert_equal(pair)


def test_both_are_killed_and_come_back(make_pair: MakePair) -> None:
    pair = make_pair([SIZE])
    pair.start()
    pair.synchronize()
    write(pair, 0, 0, pattern(MIB))
    pair.primary.kill()
    pair.secondary.kill()
    pair.secondary.start()
    pair.start_primary()
    pair.synchronize()
    assert_equal(pair)


# Full disks


class SmallFilesystem:
    """A tmpfs at a site of a pair, in place of its directory, with the site's disks on it."""

    def __init__(self, pair: WorkerPair, site: str, size_bytes: int) -> None:
        self._path = pair.directory / site
        run("mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(self._path))
        for index, disk_bytes in enumerate(pair.sizes_bytes):
            with pair.path(site, index).open("wb") as disk:
                disk.truncate(disk_bytes)
        worker = pair.primary if site == "az1" else pair.secondary
        worker.run_dir.mkdir()

    def grow(self, size_bytes: int) -> None:
        """Give it more space."""
        run("mount", "-o", f"remount,size={size_bytes}", str(self._path))

    def close(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", "--lazy", str(self._path)], check=True)


@pytest.fixture(name="small")
def fixture_small(make_pair: MakePair) -> Iterator[type[SmallFilesystem]]:
    made: list[SmallFilesystem] = []

    class Noted(SmallFilesystem):
        def __init__(self, pair: WorkerPair, site: str, size_bytes: int) -> None:
            super().__init__(pair, site, size_bytes)
            made.append(self)

    yield Noted
    for filesystem in made:
        filesystem.close()


@needs_root
def test_a_full_disk_at_the_secondary_stops_no_host_and_heals_when_it_has_space(
    make_pair: MakePair, small: type[SmallFilesystem]
) -> None:
    pair = make_pair([SIZE])
    filesystem = small(pair, "az2", 16 * MIB)
    pair.start()
    pair.synchronize()
    with NumberedWriter(pair.uri(0), slots=SLOTS // 2, first_slot=SLOTS // 2) as writer:
        write(pair, 0, 0, pattern(32 * MIB))
        status = pair.primary.wait(lambda s: s.mode is not Mode.IN_SYNC and s.failure is not None, "alone")
        assert_names_disk(status, pair)
        writer.wait_for_more(50)
        filesystem.grow(256 * MIB)
        pair.primary.wait(lambda s: s.mode is Mode.IN_SYNC, "in sync by itself")
        writer.wait_for_more(20)
    pair.pause()
    assert pair.primary.status is not None
    assert pair.primary.status.failure is None
    assert_equal(pair)
    writer.check_disk(pair.path("az2", 0))


def assert_names_disk(status: WorkerStatus, pair: WorkerPair) -> None:
    """The failure is the secondary's full disk, by name."""
    failure = status.failure
    assert isinstance(failure, Failure)
    assert failure.code == "37100178"
    assert str(pair.path("az2", 0)) in failure.message
    assert os.strerror(errno.ENOSPC) in failure.message


@needs_root
def test_a_full_disk_at_the_primary_is_told_to_the_host_and_loses_nothing(
    make_pair: MakePair, small: type[SmallFilesystem]
) -> None:
    pair = make_pair([SIZE])
    filesystem = small(pair, "az1", 16 * MIB)
    pair.start()
    pair.synchronize()
    answered = 0
    with NbdClient(pair.uri(0)) as client:
        with pytest.raises(StorageFault) as caught:
            for number in range(64):
                client.write(number * MIB, pattern(MIB, number))
                answered += 1
        assert caught.value.errno_value == errno.ENOSPC
        status = pair.primary.wait(lambda s: s.members[0].failure is not None, "aware of the full disk")
        failure = status.members[0].failure
        assert failure is not None
        assert failure.code == "37100177"
        for number in range(answered):
            assert client.read(number * MIB, MIB) == pattern(MIB, number)
        pair.primary.wait(lambda s: s.dirty_bytes == 0 and s.mode is Mode.IN_SYNC, "repaired")
        assert_equal(pair)
        filesystem.grow(256 * MIB)
        client.write(answered * MIB, pattern(MIB, answered))
    pair.primary.wait(lambda s: s.members[0].failure is None, "over it")
    assert_equal(pair)


# Files that vanish under a worker


def test_a_dr_disk_that_is_removed_is_noticed_and_copied_whole_when_another_is_there(make_pair: MakePair) -> None:
    pair = make_pair([SIZE])
    fill(pair, 0, range(64))
    pair.start()
    pair.synchronize()
    twin = pair.path("az2", 0)
    twin.unlink()
    status = pair.secondary.wait(lambda s: s.mode is Mode.ERROR, "in trouble")
    assert status.failure is not None
    assert status.failure.code == "37100050"
    assert str(twin) in status.failure.message
    pair.primary.wait(lambda s: s.mode is Mode.CONNECTING, "alone")
    write(pair, 0, 0, b"goes on")
    create_file_store(str(twin), SIZE)
    pair.synchronize()
    assert last_resync(pair.primary.status).kind == "full"
    assert_equal(pair)


def test_a_production_disk_that_is_removed_is_told(make_pair: MakePair) -> None:
    pair = make_pair([SIZE])
    pair.start()
    pair.synchronize()
    pair.path("az1", 0).unlink()
    status = pair.primary.wait(lambda s: s.members[0].failure is not None, "worried")
    failure = status.members[0].failure
    assert failure is not None
    assert failure.code == "37100048"
    assert f"process {pair.primary.pid}" in failure.message
    write(pair, 0, 0, b"served on")
