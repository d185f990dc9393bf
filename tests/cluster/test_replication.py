"""Two real worker processes and real hosts: copying, mirroring, stopping and going on. `test_faults` breaks things."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.link import Link, Way
from tests.support.numbered_writer import NumberedWriter
from tests.support.pairs import SIZE, MakePair, assert_equal, fill, last_resync, pair_maker, write
from tests.support.stores import pattern
from tests.support.worker_process import WAIT_SECONDS, WorkerPair
from twinsite.core.limits import BLOCK_BYTES, GIB, MIB
from twinsite.messages import Mode, Replication, Role
from twinsite.nbd_client import NbdClient

SLOTS = SIZE // 4096


@pytest.fixture(name="make_pair")
def fixture_make_pair() -> Iterator[MakePair]:
    with pair_maker() as make:
        yield make


def test_a_full_synchronization_ships_data_and_skips_holes(make_pair: MakePair) -> None:
    pair = make_pair([SIZE, SIZE + 512, 4096])
    fill(pair, 0, range(0, 1024, 3))
    fill(pair, 1, range(100, 200))
    fill(pair, 1, [1024 - 1])
    with pair.path("az2", 1).open("r+b") as stale:
        stale.write(pattern(8 * MIB))  # What lies at the secondary must go, even where the primary has a hole.
    pair.start()
    pair.synchronize()
    resync = last_resync(pair.primary.status)
    assert resync.kind == "full"
    assert resync.bytes_shipped == (342 + 100 + 1) * BLOCK_BYTES
    assert resync.bytes_shipped + resync.bytes_zero == resync.bytes_total == sum(pair.sizes_bytes)
    assert_equal(pair)
    assert pair.path("az2", 0).stat().st_blocks * 512 <= pair.path("az1", 0).stat().st_blocks * 512 + MIB


def test_over_a_slow_link_the_copy_is_compressed(make_pair: MakePair, link: Link) -> None:
    pair = make_pair([SIZE])
    with pair.path("az1", 0).open("r+b") as disk:
        disk.write(pattern(SIZE))
    pair.start()
    link.delay_seconds[Way.OUT] = 0.004  # For every 64 KiB: 16 MiB a second.
    pair.synchronize(link=link)
    assert last_resync(pair.primary.status).bytes_shipped == SIZE
    write(pair, 0, MIB, b"after" * 1000)
    status = pair.pause()
    assert status.counters.stream_bytes_sent < SIZE * 3 // 4
    assert_equal(pair)


def test_hosts_write_on_all_disks_during_a_synchronization_and_after(make_pair: MakePair) -> None:
    pair = make_pair([SIZE] * 3)
    for index in range(3):
        fill(pair, index, range(1024), seed=index)
    pair.start()
    writers = [NumberedWriter(pair.uri(index), slots=SLOTS, seed=index) for index in range(3)]
    with writers[0], writers[1], writers[2]:
        writers[0].wait_for_more(10)
        pair.synchronize()
        for writer in writers:
            writer.wait_for_more(50)
    status = pair.pause()
    assert (status.consistent, status.dirty_bytes) == (True, 0)
    assert_equal(pair)
    for index, writer in enumerate(writers):
        writer.check_disk(pair.path("az2", index))


def test_every_answered_write_is_at_the_secondary_at_once_when_in_sync(make_pair: MakePair) -> None:
    pair = make_pair([SIZE])
    pair.start()
    pair.synchronize()
    with NbdClient(pair.uri(0)) as client, pair.path("az2", 0).open("rb") as twin:
        for number in range(100):
            data = pattern(4096, number)
            client.write(number * 5000, data)
            twin.seek(number * 5000)
            assert twin.read(4096) == data
        client.trim(0, 200_000)
        client.zero(250_000, 100_000, may_punch=False)
        twin.seek(0)
        assert twin.read(200_000) == bytes(200_000)
        twin.seek(250_000)
        assert twin.read(100_000) == bytes(100_000)
        client.write(0, pattern(32 * MIB))  # Travels in pieces and is answered once.
    assert_equal(pair)


def test_what_was_written_while_paused_is_all_that_travels(make_pair: MakePair) -> None:
    pair = make_pair([SIZE, SIZE])
    fill(pair, 0, range(1024))
    pair.start()
    pair.synchronize()
    assert pair.pause().consistent
    before = pair.path("az2", 0).read_bytes()
    with NumberedWriter(pair.uri(0), slots=SLOTS) as writer:
        writer.wait_for_more(200)
    write(pair, 1, 5 * BLOCK_BYTES - 100, pattern(200))
    assert pair.path("az2", 0).read_bytes() == before, "a paused secondary does not change"
    dirtied = len({slot * 4096 // BLOCK_BYTES for slot in writer.written}) + 2
    status = pair.primary.wait(lambda s: s.dirty_bytes == dirtied * BLOCK_BYTES, "aware of what is dirty")
    assert [member.dirty_bytes for member in status.members] == [(dirtied - 2) * BLOCK_BYTES, 2 * BLOCK_BYTES]
    pair.synchronize()
    resync = last_resync(pair.primary.status)
    assert (resync.kind, resync.bytes_total) == ("delta", dirtied * BLOCK_BYTES)
    assert resync.bytes_shipped <= 1.05 * dirtied * BLOCK_BYTES
    assert_equal(pair)


def test_a_stop_in_the_middle_of_copying_is_in_force_at_once(make_pair: MakePair, link: Link) -> None:
    pair = make_pair([4 * SIZE])
    fill(pair, 0, range(0, 4096, 2))
    pair.start()
    with NumberedWriter(pair.uri(0), slots=4 * SLOTS) as writer:
        link.delay_seconds[Way.OUT] = 0.002  # Some five seconds for all of it.
        pair.synchronize(wait=False, link=link)
        pair.primary.wait(lambda s: s.resync is not None and s.resync.bytes_done > 0, "copying")
        status = pair.pause()
        link.delay_seconds[Way.OUT] = 0.0
        frozen = pair.path("az2", 0).read_bytes()
        writer.wait_for_more(200)
        assert pair.path("az2", 0).read_bytes() == frozen
    resync = last_resync(status)
    assert not status.consistent
    assert 0 < resync.bytes_done < resync.bytes_total, "it was the middle"
    pair.synchronize()
    assert last_resync(pair.primary.status).kind == "delta"
    assert_equal(pair)
    writer.check_disk(pair.path("az2", 0))


def test_stops_and_starts_in_quick_succession_end_equal(make_pair: MakePair) -> None:
    pair = make_pair([SIZE, SIZE])
    fill(pair, 0, range(1024))
    pair.start()
    with NumberedWriter(pair.uri(0), slots=SLOTS) as first, NumberedWriter(pair.uri(1), slots=SLOTS) as second:
        for number in range(12):
            pair.synchronize(wait=number % 4 == 3)
            if number % 3 == 0:
                pair.pause()
            else:
                pair.primary.send(pair.spec(Role.PRIMARY, Replication.PAUSED))
            first.wait_for_more(5)
        pair.synchronize()
        second.wait_for_more(50)
    pair.pause()
    assert_equal(pair)
    first.check_disk(pair.path("az2", 0))
    second.check_disk(pair.path("az2", 1))


def test_members_join_and_leave_a_paused_group(make_pair: MakePair) -> None:
    pair = make_pair([SIZE, SIZE])
    fill(pair, 0, range(64))
    fill(pair, 1, range(64))
    pair.start()
    pair.synchronize()
    pair.pause()
    added = pair.add(SIZE)
    fill(pair, added, range(32))
    pair.removed.add(1)
    with NumberedWriter(pair.uri(0), slots=SLOTS) as writer:
        status = pair.pause()
        assert not status.consistent, "the new disk is not yet at the secondary"
        writer.wait_for_more(20)
        pair.synchronize()
        writer.wait_for_more(20)
    resync = last_resync(pair.primary.status)
    assert resync.bytes_shipped <= (32 + len({slot // 16 for slot in writer.written})) * BLOCK_BYTES
    write(pair, added, 0, pattern(MIB))
    pair.pause()
    assert_equal(pair)
    pair.removed.remove(1)
    pair.pause()
    pair.synchronize()
    assert_equal(pair)
    assert last_resync(pair.primary.status).bytes_total == SIZE, "who comes back is copied anew, the others are not"


def test_fio_verifies_its_data_during_a_synchronization(make_pair: MakePair) -> None:
    pair = make_pair([SIZE])
    fill(pair, 0, range(1024))
    pair.start()
    command = ["fio", "--name=v", "--ioengine=nbd", f"--uri={pair.uri(0)}", "--rw=randwrite", "--bsrange=4k-128k"]
    command += ["--iodepth=16", "--size=64m", "--io_size=48m", "--verify=crc32c", "--verify_fatal=1"]
    command += ["--randseed=7", "--fsync=64", f"--aux-path={pair.directory}"]
    fio = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=pair.directory)
    pair.synchronize()
    output, _ = fio.communicate(timeout=WAIT_SECONDS)
    assert fio.returncode == 0, output.decode()
    pair.pause()
    assert_equal(pair)


def peak_memory_bytes(pid: int) -> int:
    """The most memory that a process has held."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel does not say")


def test_a_large_synchronization_takes_bounded_memory(make_pair: MakePair) -> None:
    pair = make_pair([GIB])
    data = pattern(4 * MIB)
    with pair.path("az1", 0).open("r+b") as disk:
        for _ in range(GIB // len(data)):
            disk.write(data)
    pair.start()
    before = [peak_memory_bytes(worker.pid) for worker in (pair.primary, pair.secondary)]
    pair.synchronize()
    after = [peak_memory_bytes(worker.pid) for worker in (pair.primary, pair.secondary)]
    assert last_resync(pair.primary.status).bytes_shipped == GIB
    grown = [then - now for now, then in zip(before, after, strict=True)]
    assert max(grown) <= 80 * MIB, f"primary and secondary grew by {grown}"
    assert_equal(pair)


def test_a_past_term_is_refused_by_both_sides(make_pair: MakePair) -> None:
    pair = make_pair([SIZE])
    pair.start()
    pair.synchronize()
    newer = replace(pair.spec(Role.SECONDARY, Replication.RUNNING), term=2)
    pair.secondary.send(newer)
    endpoint = pair.secondary.wait(lambda s: s.spec_version == newer.version, "of term 2").stream_endpoint
    spec = replace(pair.spec(Role.PRIMARY, Replication.RUNNING), peer_endpoint=endpoint)
    pair.primary.send(spec)
    status = pair.primary.wait(lambda s: s.failure is not None and "replaced" in s.failure.message, "refused")
    assert status.mode is Mode.CONNECTING
    write(pair, 0, 0, pattern(4096))
    pair.arbiter.promote("az2", force=True)
    pair.arbiter.row = replace(pair.arbiter.row, primary_site="az1")
    pair.primary.send(replace(pair.spec(Role.PRIMARY, Replication.RUNNING), term=2, peer_endpoint=endpoint))
    pair.primary.wait(lambda s: s.term == 2 and s.mode is Mode.IN_SYNC, "in sync at term 2")
    assert_equal(pair)


def test_workers_of_another_key_do_not_meet(make_pair: MakePair) -> None:
    pair: WorkerPair = make_pair([SIZE])
    pair.start()
    endpoint = pair.follow()
    stranger = replace(pair.spec(Role.PRIMARY, Replication.RUNNING), peer_endpoint=endpoint, stream_key="cd" * 32)
    pair.primary.kill()
    pair.primary.start()
    pair.primary.send(stranger)
    status = pair.primary.wait(lambda s: s.failure is not None, "refused")
    assert status.failure is not None
    assert "stream key" in status.failure.message
    assert status.counters.stream_connects == 0
