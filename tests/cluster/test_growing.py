"""Two real worker processes whose disks grow under a host that writes: nothing stops, nothing is copied."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.numbered_writer import NumberedWriter
from tests.support.pairs import SIZE, MakePair, assert_equal, last_resync, pair_maker
from tests.support.stores import pattern
from tests.support.worker_process import WorkerPair
from twinsite.core.limits import MIB
from twinsite.messages import Mode, Replication, Role, WorkerStatus
from twinsite.nbd_client import NbdClient

LARGE = 2 * SIZE
DATA = pattern(4096, 5)


@pytest.fixture(name="make_pair")
def fixture_make_pair() -> Iterator[MakePair]:
    with pair_maker() as make:
        yield make


def make_room(pair: WorkerPair, size_bytes: int = LARGE) -> None:
    """Do what the nodes do: the files grow at both sites, and nobody is told."""
    for site in ("az1", "az2"):
        os.truncate(pair.path(site, 0), size_bytes)
    pair.sizes_bytes[0] = size_bytes


def grow_primary(pair: WorkerPair, endpoint: str) -> WorkerStatus:
    spec = pair.spec(Role.PRIMARY, Replication.RUNNING, endpoint)
    pair.primary.send(spec)
    return pair.primary.wait(lambda s: s.spec_version == spec.version, "grown")


def write_at_the_end(pair: WorkerPair, data: bytes = DATA) -> None:
    with NbdClient(pair.uri(0)) as client:
        assert client.size_bytes == pair.sizes_bytes[0]
        client.write(client.size_bytes - len(data), data)


def in_sync(make_pair: MakePair) -> WorkerPair:
    pair = make_pair([SIZE])
    pair.start()
    pair.synchronize()
    return pair


def test_the_disks_of_a_group_in_sync_grow_without_a_break_and_without_a_copy(make_pair: MakePair) -> None:
    pair = in_sync(make_pair)
    before = last_resync(pair.primary.status)
    with NumberedWriter(pair.uri(0), slots=SIZE // 4096) as writer:
        writer.wait_for_more(50)
        make_room(pair)
        endpoint = pair.follow()
        writer.wait_for_more(50)
        status = grow_primary(pair, endpoint)
        writer.wait_for_more(50)
        write_at_the_end(pair)
    assert (status.mode, status.counters.stream_connects, status.holding_since) == (Mode.IN_SYNC, 1, None)
    repeated = pair.repeat("az1")
    status = pair.primary.wait(lambda s: s.spec_version == repeated.version, "settled")
    assert (last_resync(status).started_at, status.counters.stream_connects) == (before.started_at, 1)
    assert_equal(pair)


@pytest.mark.parametrize("site", ["az1", "az2"])
def test_a_worker_that_dies_half_way_comes_back_at_the_new_size(make_pair: MakePair, site: str) -> None:
    pair = in_sync(make_pair)
    with NbdClient(pair.uri(0)) as client:
        client.write(0, DATA)
    make_room(pair)
    endpoint = pair.follow()
    pair.worker(site).kill()
    pair.worker(site).start()
    if site == "az2":
        endpoint = pair.follow()
    grow_primary(pair, endpoint)
    pair.primary.wait(lambda s: s.mode is Mode.IN_SYNC, "in sync")
    write_at_the_end(pair)
    assert_equal(pair)


def test_a_primary_that_was_stopped_cleanly_comes_back_larger_without_a_copy(make_pair: MakePair) -> None:
    pair = in_sync(make_pair)
    with NbdClient(pair.uri(0)) as client:
        client.write(0, DATA)
    pair.primary.stop()
    make_room(pair)
    endpoint = pair.follow()
    pair.primary.start()
    grow_primary(pair, endpoint)
    status = pair.primary.wait(lambda s: s.mode is Mode.IN_SYNC, "in sync")
    assert status.resync is None, "the stream was resumed"
    write_at_the_end(pair)
    assert_equal(pair)


def test_disks_grow_while_they_are_copied_and_while_the_primary_is_alone(make_pair: MakePair) -> None:
    pair = make_pair([SIZE])
    with pair.path("az1", 0).open("r+b") as disk:
        disk.write(pattern(SIZE))
    pair.start()
    pair.synchronize(wait=False)
    make_room(pair)
    endpoint = pair.follow()
    grow_primary(pair, endpoint)
    write_at_the_end(pair)
    pair.primary.wait(lambda s: s.mode is Mode.IN_SYNC, "in sync")
    pair.pause()
    assert_equal(pair)
    make_room(pair, LARGE + MIB)
    endpoint = pair.follow()
    spec = pair.spec(Role.PRIMARY, Replication.PAUSED)
    pair.primary.send(spec)
    pair.primary.wait(lambda s: s.spec_version == spec.version, "grown")
    write_at_the_end(pair)
    grow_primary(pair, endpoint)
    status = pair.primary.wait(lambda s: s.mode is Mode.IN_SYNC, "in sync")
    assert last_resync(status).bytes_total < MIB
    assert_equal(pair)
