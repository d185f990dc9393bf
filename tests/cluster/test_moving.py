"""Two real worker processes whose group moves between the sites: failover, return, switchover."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.link import Link, Way
from tests.support.moving import fail_over, follow, hand_over, lead, reprotect, switch, wait_in_sync, wait_serving
from tests.support.numbered_writer import NumberedWriter
from tests.support.pairs import SIZE, MakePair, assert_equal, fill, last_resync, pair_maker
from tests.support.stores import pattern
from tests.support.worker_process import WAIT_SECONDS, WorkerPair
from twinsite.core.limits import BLOCK_BYTES, MIB
from twinsite.errors import StorageFault
from twinsite.messages import Mode
from twinsite.nbd_client import NbdClient
from twinsite.worker.kept_writes import find_kept, put_back

SLOTS = SIZE // 4096
SMALL = 4 * MIB
DATA = pattern(4096, 3)


@pytest.fixture(name="make_pair")
def fixture_make_pair() -> Iterator[MakePair]:
    with pair_maker() as make:
        yield make


def in_sync(make_pair: MakePair, sizes_bytes: list[int]) -> WorkerPair:
    pair = make_pair(sizes_bytes)
    pair.start()
    pair.synchronize()
    return pair


def write(pair: WorkerPair, site: str, offset: int, data: bytes) -> None:
    with NbdClient(pair.uri(0, site)) as client:
        client.write(offset, data)


def read(pair: WorkerPair, site: str, offset: int, length: int) -> bytes:
    with NbdClient(pair.uri(0, site)) as client:
        return client.read(offset, length)


# Failover


def test_after_a_failover_everything_that_was_answered_is_there_and_the_return_makes_the_twins_equal(
    make_pair: MakePair,
) -> None:
    pair = in_sync(make_pair, [SIZE])
    writer = NumberedWriter(pair.uri(0), slots=SLOTS)
    with pytest.raises(AssertionError, match="told an error"), writer:
        writer.wait_for_more(100)
        pair.primary.kill()
        writer.wait_for_more(10**9)
    fail_over(pair, "az2")
    # The write that was under way may be there or not; it went to a slot whose answered record it replaced.
    assert len(writer.missing(pair.path("az2", 0))) <= 1
    write(pair, "az2", SIZE - 4096, DATA)
    pair.primary.start()
    status = reprotect(pair, "az2")
    assert status.term == 2
    assert_equal(pair)
    write(pair, "az2", 0, DATA)
    assert_equal(pair)


def test_a_primary_that_lives_on_is_replaced_at_the_first_break_and_can_follow(make_pair: MakePair) -> None:
    pair = in_sync(make_pair, [SIZE])
    with ThreadPoolExecutor(1) as hosts, NbdClient(pair.uri(0)) as client:
        client.write(0, DATA)
        pair.primary.signal(signal.SIGSTOP)
        writing = hosts.submit(client.write, BLOCK_BYTES, DATA)
        fail_over(pair, "az2")
        write(pair, "az2", 2 * BLOCK_BYTES, DATA)
        pair.primary.signal(signal.SIGCONT)
        pair.primary.wait(lambda s: s.mode is Mode.REPLACED and not s.members[0].serving, "replaced")
        assert writing.exception(WAIT_SECONDS) is not None, "a write was answered by who was replaced"
    assert read(pair, "az2", 0, 4096) == DATA
    assert read(pair, "az2", BLOCK_BYTES, 4096) == bytes(4096)
    reprotect(pair, "az2")
    assert_equal(pair)


def test_the_old_primary_returns_with_its_old_wish_and_serves_nobody(make_pair: MakePair) -> None:
    pair = in_sync(make_pair, [SMALL])
    spec = lead(pair, "az1", follow(pair, "az2"))
    wait_in_sync(pair, "az1", spec)
    pair.primary.kill()
    fail_over(pair, "az2")
    pair.primary.start()
    pair.primary.send(spec)
    status = pair.primary.wait(lambda s: s.mode is Mode.REPLACED, "replaced")
    assert not status.members[0].serving
    with pytest.raises(StorageFault):
        read(pair, "az1", 0, 1)


def test_a_group_fails_over_and_back_again_and_again(make_pair: MakePair) -> None:
    pair = in_sync(make_pair, [SMALL, SMALL])
    site, spare = "az1", "az2"
    for number in range(4):
        write(pair, site, number * 4096, pattern(4096, number))
        pair.worker(site).kill()
        fail_over(pair, spare)
        pair.worker(site).start()
        status = reprotect(pair, spare)
        assert status.term == number + 2
        site, spare = spare, site
    assert_equal(pair)
    for number in range(4):
        assert read(pair, site, number * 4096, 4096) == pattern(4096, number)


def test_what_only_the_old_primary_had_is_overwritten_after_a_forced_failover_and_kept_readable(
    make_pair: MakePair,
) -> None:
    pair = in_sync(make_pair, [SMALL])
    write(pair, "az1", 0, DATA)
    pair.secondary.kill()
    write(pair, "az1", BLOCK_BYTES, DATA)
    pair.primary.stop()
    pair.secondary.start()
    with pytest.raises(AssertionError, match="stale"):
        pair.arbiter.promote("az2")
    fail_over(pair, "az2", force=True)
    assert read(pair, "az2", 0, 4096) == DATA
    assert read(pair, "az2", BLOCK_BYTES, 4096) == bytes(4096)
    pair.primary.start()
    reprotect(pair, "az2")
    assert_equal(pair)
    (kept,) = find_kept(pair.directory / "az1")
    assert kept.blocks == {pair.volume_id(0): 1}
    copy = pair.directory / "copy"
    shutil.copyfile(pair.path("az1", 0), copy)
    assert put_back(kept.path, pair.volume_id(0), copy) == BLOCK_BYTES
    with copy.open("rb") as disk:
        assert disk.read(4096) == DATA
        disk.seek(BLOCK_BYTES)
        assert disk.read(4096) == DATA, "what the old primary alone had"


# Switchover


def test_a_switchover_copies_nothing_and_loses_nothing(make_pair: MakePair) -> None:
    pair = in_sync(make_pair, [SIZE, SIZE])
    fill_by_host(pair)
    endpoint = follow(pair, "az2")
    lead(pair, "az1", endpoint)
    with pytest.raises(AssertionError, match="told an error"), NumberedWriter(pair.uri(1), slots=SLOTS) as writer:
        writer.wait_for_more(100)
        status = switch(pair, "az2", endpoint)
        writer.wait_for_more(10**9)
    assert status.term == 2
    assert (status.dirty_bytes, status.resync) == (0, None), "something was copied"
    assert pair.arbiter.has_in_sync()
    assert_equal(pair)
    assert len(writer.missing(pair.path("az2", 1))) <= 1
    write(pair, "az2", 0, DATA)
    assert_equal(pair)
    # And back.
    status = switch(pair, "az1", follow(pair, "az1"))
    assert (status.term, status.dirty_bytes, status.resync) == (3, 0, None)
    assert read(pair, "az1", 0, 4096) == DATA
    assert_equal(pair)


def fill_by_host(pair: WorkerPair) -> None:
    with NbdClient(pair.uri(0)) as client:
        for number in range(64):
            client.write(number * 8192, pattern(8192, number))


def test_a_handover_that_is_taken_back_serves_again_and_copies_nothing(make_pair: MakePair) -> None:
    pair = in_sync(make_pair, [SMALL])
    shipped = last_resync(pair.primary.status).bytes_shipped
    endpoint = follow(pair, "az2")
    hand_over(pair, "az1", endpoint)
    with pytest.raises(StorageFault):
        write(pair, "az1", 0, DATA)
    spec = lead(pair, "az1", endpoint)
    status = wait_in_sync(pair, "az1", spec)
    wait_serving(pair, "az1")
    write(pair, "az1", 0, DATA)
    assert last_resync(status).bytes_shipped == shipped
    assert_equal(pair)


def test_a_primary_that_dies_after_the_switch_loses_nothing(make_pair: MakePair) -> None:
    pair = in_sync(make_pair, [SMALL])
    write(pair, "az1", 0, DATA)
    hand_over(pair, "az1", follow(pair, "az2"))
    pair.arbiter.switch("az2")
    pair.primary.kill()
    lead(pair, "az2")
    wait_serving(pair, "az2")
    assert read(pair, "az2", 0, 4096) == DATA
    pair.primary.start()
    reprotect(pair, "az2")
    assert_equal(pair)


# Links that break under load


def through(pair: WorkerPair, link: Link) -> None:
    """Let the primary reach its secondary by the link, and wait until they are in sync."""
    link.target = follow(pair, "az2")
    wait_in_sync(pair, "az1", lead(pair, "az1", link.endpoint))


def wait_for_writes(pair: WorkerPair, count: int) -> None:
    """Wait until the primary has applied this many further writes."""
    status = pair.primary.status
    assert status is not None
    target = status.counters.writes + count
    pair.primary.wait(lambda s: s.counters.writes >= target, "written to")


def test_fio_verifies_its_data_over_a_link_that_breaks_with_and_without_the_arbiter(
    make_pair: MakePair, link: Link
) -> None:
    pair = make_pair([SIZE])
    pair.start()
    through(pair, link)
    command = ["fio", "--name=v", "--ioengine=nbd", f"--uri={pair.uri(0)}", "--rw=randwrite", "--bsrange=4k-64k"]
    command += ["--iodepth=16", "--size=64m", "--verify=crc32c", "--verify_fatal=1", "--fsync=64"]
    command += [f"--aux-path={pair.directory}"]
    for number in range(4):
        pair.arbiter.is_reachable = number % 2 == 0
        load = [*command, f"--randseed={number}"]
        fio = subprocess.Popen(load, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=pair.directory)
        wait_for_writes(pair, 10)
        link.cut()
        output, _ = fio.communicate(timeout=WAIT_SECONDS)
        assert fio.returncode == 0, output.decode()
    pair.arbiter.is_reachable = True
    wait_in_sync(pair, "az1")
    assert_equal(pair)


def test_held_writes_go_on_over_a_link_that_was_cut_and_nothing_is_copied(make_pair: MakePair, link: Link) -> None:
    pair = make_pair([SMALL])
    fill(pair, 0, range(8))
    pair.start()
    through(pair, link)
    shipped = last_resync(pair.primary.status).bytes_shipped
    pair.arbiter.is_reachable = False
    with NumberedWriter(pair.uri(0), slots=SMALL // 4096) as writer:
        for _ in range(5):
            writer.wait_for_more(20)
            link.cut()
        writer.wait_for_more(20)
    pair.arbiter.is_reachable = True
    status = wait_in_sync(pair, "az1")
    assert (status.dirty_bytes, last_resync(status).bytes_shipped) == (0, shipped)
    assert_equal(pair)
    writer.check_disk(pair.path("az2", 0))


@pytest.mark.parametrize("way", Way)
def test_what_was_lost_on_one_way_of_the_link_is_sent_again_and_nothing_is_copied(
    make_pair: MakePair, link: Link, way: Way
) -> None:
    pair = make_pair([SMALL])
    pair.start()
    through(pair, link)
    shipped = last_resync(pair.primary.status).bytes_shipped
    pair.arbiter.is_reachable = False
    with NumberedWriter(pair.uri(0), slots=SMALL // 4096) as writer:
        writer.wait_for_more(20)
        link.stall(way)
        status = pair.primary.wait(lambda s: s.mode is Mode.HOLDING, "holding")
        assert status.acknowledged_sequence < status.sent_sequence, "a write waits"
        link.cut()
        link.flow()
        writer.wait_for_more(20)
    pair.arbiter.is_reachable = True
    status = wait_in_sync(pair, "az1")
    assert (status.dirty_bytes, last_resync(status).bytes_shipped) == (0, shipped)
    assert_equal(pair)
    writer.check_disk(pair.path("az2", 0))


def test_a_stalled_secondary_holds_writes_while_the_arbiter_is_gone_and_resumes(make_pair: MakePair) -> None:
    pair = in_sync(make_pair, [SMALL])
    pair.arbiter.is_reachable = False
    with NumberedWriter(pair.uri(0), slots=SMALL // 4096) as writer:
        writer.wait_for_more(20)
        pair.secondary.signal(signal.SIGSTOP)
        pair.primary.wait(lambda s: s.mode is Mode.HOLDING, "holding")
        pair.secondary.signal(signal.SIGCONT)
        writer.wait_for_more(20)
    pair.arbiter.is_reachable = True
    status = wait_in_sync(pair, "az1")
    assert status.dirty_bytes == 0
    assert_equal(pair)
    writer.check_disk(pair.path("az2", 0))
