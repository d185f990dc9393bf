"""Two real worker processes and an arbiter, of which some cannot be reached: what waits, what goes on, what is lost."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.support.moving import lead, wait_in_sync
from tests.support.numbered_writer import NumberedWriter
from tests.support.pairs import SIZE, MakePair, assert_equal, last_resync, pair_maker, write
from tests.support.stores import pattern
from tests.support.worker_process import WAIT_SECONDS, WorkerPair
from twinsite.core.arbiter import Secondary
from twinsite.core.limits import BLOCK_BYTES, MIB
from twinsite.errors import StorageFault
from twinsite.messages import Mode, Replication, Role, WorkerStatus
from twinsite.nbd_client import NbdClient

SLOTS = SIZE // 4096
SMALL = 4 * MIB
DATA = pattern(4096, 3)


@pytest.fixture(name="make_pair")
def fixture_make_pair() -> Iterator[MakePair]:
    with pair_maker() as make:
        yield make


@pytest.fixture(name="hosts")
def fixture_hosts() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as hosts:
        yield hosts


def in_sync(make_pair: MakePair, sizes_bytes: list[int]) -> WorkerPair:
    pair = make_pair(sizes_bytes)
    pair.start()
    pair.synchronize()
    return pair


def saved(pair: WorkerPair, site: str) -> dict[str, Any]:
    """What a site's worker has made durable."""
    state: dict[str, Any] = json.loads((pair.directory / site / "state" / "replica.json").read_text())
    return state


def is_held(pair: WorkerPair, writing: Future[None]) -> bool:
    """Say whether a write is unanswered after another host was answered a read."""
    with NbdClient(pair.uri(0)) as client:
        client.read(0, 4096)
    return not writing.done()


def lose_the_secondary(pair: WorkerPair, hosts: ThreadPoolExecutor) -> Future[None]:
    """With the arbiter out of reach, kill the secondary and begin a write; return when the primary says it holds."""
    pair.arbiter.is_reachable = False
    pair.secondary.kill()
    writing = hosts.submit(write, pair, 0, 5 * BLOCK_BYTES, DATA)
    status = pair.primary.wait(
        lambda s: s.mode is Mode.HOLDING and s.counters.writes > 0 and s.failure is not None, "holding"
    )
    assert status.holding_since is not None
    assert is_held(pair, writing)
    return writing


# The secondary is gone


def test_a_killed_secondary_is_recorded_stale_before_any_write_is_answered_alone(
    make_pair: MakePair, hosts: ThreadPoolExecutor
) -> None:
    pair = in_sync(make_pair, [SIZE])
    asked, release = threading.Event(), threading.Event()

    def wait_for_release(call: str) -> None:
        if call == "suspend_secondary":
            asked.set()
            release.wait(WAIT_SECONDS)

    pair.arbiter.before_answer = wait_for_release
    pair.secondary.kill()
    assert asked.wait(WAIT_SECONDS)
    writing = hosts.submit(write, pair, 0, 0, DATA)
    pair.primary.wait(lambda s: s.counters.writes > 0, "written to")
    assert is_held(pair, writing)
    assert pair.arbiter.has_in_sync()
    release.set()
    writing.result(WAIT_SECONDS)
    assert not pair.arbiter.has_in_sync()
    pair.primary.wait(lambda s: s.mode is Mode.CONNECTING and s.holding_since is None, "alone")


def test_a_host_under_load_feels_no_error_when_the_secondary_is_killed(make_pair: MakePair) -> None:
    pair = in_sync(make_pair, [SIZE, SIZE])
    with NumberedWriter(pair.uri(0), slots=SLOTS) as first, NumberedWriter(pair.uri(1), slots=SLOTS) as second:
        first.wait_for_more(20)
        pair.secondary.kill()
        first.wait_for_more(50)
        second.wait_for_more(50)
    assert not pair.arbiter.has_in_sync()


def test_a_held_write_goes_on_when_the_arbiter_is_back(make_pair: MakePair, hosts: ThreadPoolExecutor) -> None:
    pair = in_sync(make_pair, [SMALL])
    writing = lose_the_secondary(pair, hosts)
    pair.arbiter.is_reachable = True
    writing.result(WAIT_SECONDS)
    assert not pair.arbiter.has_in_sync()
    pair.primary.wait(lambda s: s.mode is Mode.CONNECTING and s.dirty_bytes == BLOCK_BYTES, "alone")


def test_a_held_write_goes_on_when_the_secondary_is_back_and_nothing_is_copied(
    make_pair: MakePair, hosts: ThreadPoolExecutor
) -> None:
    pair = in_sync(make_pair, [SMALL])
    lineage = saved(pair, "az2")["generation"]
    before = last_resync(pair.primary.status)
    writing = lose_the_secondary(pair, hosts)
    pair.secondary.start()
    lead(pair, "az1", pair.follow())
    writing.result(WAIT_SECONDS)
    with pair.path("az2", 0).open("rb") as twin:
        twin.seek(5 * BLOCK_BYTES)
        assert twin.read(len(DATA)) == DATA
    assert pair.arbiter.has_in_sync(), "nobody was asked"
    assert saved(pair, "az2")["generation"] == lineage, "a resync was begun"
    pair.arbiter.is_reachable = True
    status = wait_in_sync(pair, "az1")
    assert (status.dirty_bytes, last_resync(status).bytes_shipped) == (0, before.bytes_shipped)
    assert_equal(pair)


def test_a_held_write_is_never_answered_once_the_other_site_was_promoted(
    make_pair: MakePair, hosts: ThreadPoolExecutor
) -> None:
    pair = in_sync(make_pair, [SMALL])
    writing = lose_the_secondary(pair, hosts)
    pair.arbiter.promote("az2")
    pair.arbiter.is_reachable = True
    pair.primary.wait(lambda s: s.mode is Mode.REPLACED and not s.members[0].serving, "replaced")
    assert writing.exception(WAIT_SECONDS) is not None, "it was answered"
    assert not (pair.directory / "az1" / "0.sock").exists()
    # A spec of the same term changes nothing for who was replaced.
    lead(pair, "az1", replication=Replication.PAUSED)
    pair.primary.stop()
    pair.primary.start()
    lead(pair, "az1", replication=Replication.PAUSED)
    pair.primary.wait(lambda s: s.mode is Mode.REPLACED, "replaced after a restart too")
    assert not (pair.directory / "az1" / "0.sock").exists()


# Pausing


def test_a_pause_without_the_arbiter_is_in_force_when_it_is_back(make_pair: MakePair) -> None:
    pair = in_sync(make_pair, [SMALL])
    pair.arbiter.is_reachable = False
    spec = lead(pair, "az1", replication=Replication.PAUSED)
    status = pair.primary.wait(lambda s: s.failure is not None, "told why it waits")
    assert status.spec_version < spec.version
    write(pair, 0, 0, DATA)  # The secondary is there: it is waited for, and answers.
    with pair.path("az2", 0).open("rb") as twin:
        assert twin.read(len(DATA)) == DATA
    pair.arbiter.is_reachable = True
    pair.primary.wait(lambda s: s.spec_version == spec.version and s.mode is Mode.PAUSED, "paused")
    assert not pair.arbiter.has_in_sync()


# Starting


def start_leading(pair: WorkerPair, endpoint: str | None = None) -> None:
    """Start the primary, replicating."""
    pair.primary.start()
    lead(pair, "az1", endpoint)


def test_a_primary_that_starts_serves_nobody_before_it_is_confirmed(make_pair: MakePair) -> None:
    pair = make_pair([SMALL])
    pair.arbiter.is_reachable = False
    start_leading(pair)
    status = pair.primary.wait(lambda s: s.mode is Mode.HOLDING, "holding")
    assert not status.members[0].serving
    assert not (pair.directory / "az1" / "0.sock").exists()
    pair.arbiter.is_reachable = True
    pair.primary.wait(lambda s: s.members[0].serving, "serving")
    write(pair, 0, 0, DATA)


def test_after_a_clean_restart_in_sync_the_stream_is_resumed_without_the_arbiter(make_pair: MakePair) -> None:
    pair = in_sync(make_pair, [SMALL])
    write(pair, 0, 0, DATA)
    pair.primary.stop()
    pair.arbiter.is_reachable = False
    calls = len(pair.arbiter.calls)
    start_leading(pair, pair.follow())
    pair.primary.wait(lambda s: s.members[0].serving, "serving")
    write(pair, 0, BLOCK_BYTES, DATA)
    assert "suspend_secondary" not in pair.arbiter.calls[calls:]
    pair.arbiter.is_reachable = True
    status = wait_in_sync(pair, "az1")
    assert status.dirty_bytes == 0
    assert status.resync is None
    assert_equal(pair)


def test_after_a_kill_the_primary_is_healed_by_the_secondary_without_the_arbiter(
    make_pair: MakePair, hosts: ThreadPoolExecutor
) -> None:
    pair = in_sync(make_pair, [SMALL])
    write(pair, 0, 0, DATA)
    pair.arbiter.is_reachable = False
    pair.secondary.signal(signal.SIGSTOP)
    writing = hosts.submit(write, pair, 0, 5 * BLOCK_BYTES, DATA)
    wait_for_content(pair, "az1", 5 * BLOCK_BYTES)
    pair.primary.kill()
    assert writing.exception(WAIT_SECONDS) is not None, "it was answered"
    pair.secondary.kill()
    pair.secondary.start()
    start_leading(pair, pair.follow())
    status = pair.primary.wait(lambda s: s.members[0].serving, "serving")
    resync = last_resync(status)
    assert resync.bytes_compared == SMALL
    # The write that nobody was answered for is gone, unless it was on its way already.
    assert resync.bytes_shipped in (0, BLOCK_BYTES)
    assert_equal(pair)
    write(pair, 0, BLOCK_BYTES, DATA)
    assert "suspend_secondary" not in pair.arbiter.calls[-1:]
    pair.arbiter.is_reachable = True
    wait_in_sync(pair, "az1")
    assert_equal(pair)


def wait_for_content(pair: WorkerPair, site: str, offset: int) -> None:
    """Wait until a site's disk shows the data that was written at an offset."""
    with pair.path(site, 0).open("rb") as disk:
        for _ in range(int(WAIT_SECONDS / 0.01)):
            if os.pread(disk.fileno(), len(DATA), offset) == DATA:
                return
            time.sleep(0.01)
    pytest.fail("the write did not reach the disk")


def test_after_a_kill_without_a_secondary_the_primary_goes_on_with_a_grant_and_compares_later(
    make_pair: MakePair,
) -> None:
    pair = in_sync(make_pair, [SMALL])
    write(pair, 0, 0, DATA)
    pair.primary.kill()
    pair.secondary.kill()
    pair.arbiter.is_reachable = False
    start_leading(pair, "127.0.0.1:9")
    status = pair.primary.wait(lambda s: s.failure is not None and "arbiter" in s.failure.message, "asking")
    assert not status.members[0].serving
    pair.arbiter.is_reachable = True
    pair.primary.wait(lambda s: s.members[0].serving, "serving")
    write(pair, 0, 5 * BLOCK_BYTES, DATA)
    pair.secondary.start()
    lead(pair, "az1", pair.follow())
    resync = last_resync(wait_in_sync(pair, "az1"))
    assert (resync.kind, resync.bytes_shipped) == ("delta", BLOCK_BYTES)
    assert resync.bytes_compared == SMALL - BLOCK_BYTES
    assert_equal(pair)


def reboot(pair: WorkerPair, site: str) -> None:
    """Let a killed worker believe that its machine restarted."""
    path = pair.directory / site / "state" / "replica.json"
    state = json.loads(path.read_text())
    for key in ("primary_boot_id", "unstable_boot_id"):
        if state[key] is not None:
            state[key] = "an earlier boot"
    path.write_text(json.dumps(state))


def refuses(status: WorkerStatus) -> bool:
    """Say whether a primary says that it may lack writes."""
    return status.doubtful and status.failure is not None and "fail over to it" in status.failure.message


def lose_unflushed(pair: WorkerPair, site: str, offset: int) -> None:
    """Take from a disk what its machine had not written back when it ended: a block of zeros is there again."""
    with pair.path(site, 0).open("r+b") as disk:
        os.pwrite(disk.fileno(), bytes(len(DATA)), offset)
    reboot(pair, site)


def test_after_a_reboot_while_in_sync_the_primary_waits_and_is_healed_by_the_secondary(make_pair: MakePair) -> None:
    pair = in_sync(make_pair, [SMALL])
    write(pair, 0, 7 * BLOCK_BYTES, DATA)
    pair.primary.kill()
    lose_unflushed(pair, "az1", 7 * BLOCK_BYTES)
    for end in (pair.primary.kill, pair.primary.stop):
        start_leading(pair, "127.0.0.1:9")
        status = pair.primary.wait(refuses, "told why it waits")
        assert pair.arbiter.has_in_sync()
        assert not status.members[0].serving
        with pytest.raises(StorageFault):
            write(pair, 0, 0, DATA)
        end()
    start_leading(pair, pair.follow())
    status = wait_in_sync(pair, "az1")
    assert (last_resync(status).bytes_shipped, status.doubtful) == (BLOCK_BYTES, False)
    with NbdClient(pair.uri(0)) as client:
        assert client.read(7 * BLOCK_BYTES, len(DATA)) == DATA
    assert_equal(pair)


def test_after_a_reboot_while_stale_the_primary_goes_on(make_pair: MakePair) -> None:
    pair = in_sync(make_pair, [SMALL])
    pair.pause()
    write(pair, 0, 3 * BLOCK_BYTES, DATA)
    pair.primary.kill()
    reboot(pair, "az1")
    start_leading(pair, pair.follow())
    resync = last_resync(wait_in_sync(pair, "az1"))
    assert (resync.kind, resync.bytes_shipped, resync.bytes_compared) == ("delta", BLOCK_BYTES, SMALL)
    assert_equal(pair)


def test_after_both_machines_restarted_the_primary_goes_on_with_what_it_has(make_pair: MakePair) -> None:
    pair = in_sync(make_pair, [SMALL])
    write(pair, 0, 0, DATA)
    write(pair, 0, 7 * BLOCK_BYTES, DATA)
    pair.primary.kill()
    pair.secondary.kill()
    lose_unflushed(pair, "az1", 0)
    lose_unflushed(pair, "az2", 7 * BLOCK_BYTES)
    pair.secondary.start()
    start_leading(pair, pair.follow())
    wait_in_sync(pair, "az1")
    assert_equal(pair)


def test_a_secondary_whose_machine_restarted_is_not_resumed_but_compared(
    make_pair: MakePair, hosts: ThreadPoolExecutor
) -> None:
    pair = in_sync(make_pair, [SMALL])
    write(pair, 0, 7 * BLOCK_BYTES, DATA)
    writing = lose_the_secondary(pair, hosts)
    lose_unflushed(pair, "az2", 7 * BLOCK_BYTES)
    pair.secondary.start()
    lead(pair, "az1", pair.follow())
    status = pair.secondary.wait(lambda s: s.counters.stream_connects > 1, "in touch more than once")
    assert (status.doubtful, status.consistent) == (True, True)
    assert is_held(pair, writing)
    pair.arbiter.is_reachable = True
    writing.result(WAIT_SECONDS)
    resync = last_resync(wait_in_sync(pair, "az1"))
    assert (resync.kind, resync.bytes_shipped) == ("delta", 2 * BLOCK_BYTES)
    assert_equal(pair)


def test_an_arbiter_from_an_old_backup_lets_nobody_go_on(make_pair: MakePair, hosts: ThreadPoolExecutor) -> None:
    pair = make_pair([SMALL])
    pair.arbiter.row = replace(pair.arbiter.row, term=3)
    pair.start()
    pair.synchronize()
    pair.arbiter.row = replace(pair.arbiter.row, term=2, secondary=Secondary.STALE)
    pair.secondary.kill()
    writing = hosts.submit(write, pair, 0, 0, DATA)
    pair.primary.wait(lambda s: s.failure is not None and "too old" in s.failure.message, "told why it waits")
    assert is_held(pair, writing)
    pair.secondary.start()
    spec = replace(pair.spec(Role.SECONDARY, Replication.RUNNING), term=3)
    pair.secondary.send(spec)
    endpoint = pair.secondary.wait(lambda s: s.spec_version == spec.version, "listening").stream_endpoint
    pair.primary.send(replace(pair.spec(Role.PRIMARY, Replication.RUNNING, endpoint), term=3))
    writing.result(WAIT_SECONDS)
    assert_equal(pair)
