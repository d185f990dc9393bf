"""A primary that dies in the middle of a resync: the other site can go back to the last common point of all disks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.support.link import Link, Way
from tests.support.pairs import MakePair, fill, pair_maker
from tests.support.stores import noise, pattern
from tests.support.worker_process import WorkerPair
from twinsite.core.limits import MIB
from twinsite.messages import Replication, Role, StorePlace
from twinsite.nbd_client import NbdClient

SIZE = 512 * MIB


@pytest.fixture(name="make_pair")
def fixture_make_pair() -> Iterator[MakePair]:
    with pair_maker() as make:
        yield make


def digests(pair: WorkerPair, site: str) -> list[str]:
    return [hashlib.blake2b(pair.path(site, index).read_bytes()).hexdigest() for index in range(2)]


@pytest.mark.parametrize("secondary_dies_too", [False, True])
def test_a_forced_promotion_serves_the_last_common_point(
    make_pair: MakePair, link: Link, secondary_dies_too: bool
) -> None:
    pair = make_pair([SIZE, SIZE])
    for index in range(2):
        fill(pair, index, range(0, 2000, 3))
    pair.start()
    pair.synchronize()
    pair.pause()
    point = digests(pair, "az2")
    for index in range(2):
        with NbdClient(pair.uri(index)) as client:
            for offset in range(0, SIZE // 2, MIB):
                client.write(offset, noise(MIB, seed=offset // MIB))
            client.zero(SIZE // 2, 8 * MIB)
    link.stall_after(Way.OUT, 16 * MIB)
    pair.synchronize(wait=False, link=link)
    pair.primary.wait(
        lambda s: s.resync is not None and s.resync.kind == "delta" and s.resync.bytes_done > MIB,
        "in the middle of a resync",
    )
    pair.primary.kill()
    pair.secondary.wait(lambda s: s.rollback_point is not None and not s.consistent, "overwritten in part")
    assert digests(pair, "az2") != point
    if secondary_dies_too:
        pair.secondary.kill()
        pair.secondary.start()
    pair.arbiter.promote("az2", force=True)
    spec = pair.spec(Role.PRIMARY, Replication.PAUSED)
    members = [replace(m, store=StorePlace("file", str(pair.path("az2", m.index)))) for m in spec.members]
    pair.secondary.send(replace(spec, site="az2", members=members))
    status = pair.secondary.wait(lambda s: s.role is Role.PRIMARY and s.spec_version == spec.version, "primary")
    assert status.dirty_bytes == 0
    assert digests(pair, "az2") == point
    assert not (pair.directory / "az2" / "state" / "undo.log").exists()
    with NbdClient(pair.uri(0)) as client:
        client.write(0, b"life goes on")
        assert client.read(0, 12) == b"life goes on"


def test_the_log_goes_when_the_resync_has_ended(make_pair: MakePair) -> None:
    pair = make_pair([64 * MIB])
    fill(pair, 0, range(100))
    pair.start()
    pair.synchronize()
    pair.pause()
    with NbdClient(pair.uri(0)) as client:
        client.write(0, pattern(MIB, seed=3))
    pair.synchronize()
    status = pair.secondary.wait(lambda s: s.consistent, "consistent")
    assert status.rollback_point is None
    assert not (pair.directory / "az2" / "state" / "undo.log").exists()
    assert pair.path("az1", 0).read_bytes() == pair.path("az2", 0).read_bytes()
