"""A worker and its specs: what it refuses, what it keeps meanwhile, and how it gets out of trouble by itself."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.leader import SIZE, Leader
from twinsite.errors import InternalError, StorageFault
from twinsite.messages import MemberSpec, Mode, Role, WorkerSpec
from twinsite.nbd_client import NbdClient
from twinsite.worker import worker
from twinsite.worker.spec_check import check_endpoint
from twinsite.worker.state import ReplicaState, StateDirectory
from twinsite.worker.store_device import StoreDevice

DATA = b"kept" * 1024


@pytest.fixture(name="leader")
async def fixture_leader(directory: Path) -> AsyncIterator[Leader]:
    leader = Leader(directory, members=2)
    leader.start()
    yield leader
    await leader.close()


def with_member(spec: WorkerSpec, **changes: Any) -> WorkerSpec:
    """The spec with its first member changed."""
    return replace(spec, members=[replace(spec.members[0], **changes), *spec.members[1:]])


BAD_SPECS: dict[str, Any] = {
    "no such endpoint": lambda spec: replace(spec, peer_endpoint="nonsense"),
    "port too high": lambda spec: replace(spec, peer_endpoint="127.0.0.1:65536"),
    "key not hexadecimal": lambda spec: replace(spec, stream_key="xyz"),
    "no key": lambda spec: replace(spec, stream_key=""),
    "one index twice": lambda spec: with_member(spec, index=1),
    "one volume twice": lambda spec: with_member(spec, volume_id="volume1"),
    "index out of range": lambda spec: with_member(spec, index=65536),
    "no bytes": lambda spec: with_member(spec, size_bytes=0),
    "negative size": lambda spec: with_member(spec, size_bytes=-512),
    "a bad address to serve on": lambda spec: with_member(spec, nbd_tcp="10809"),
    "past term": lambda spec: replace(spec, term=0),
    "too many volumes": lambda spec: replace(spec, members=[MemberSpec(n, f"v{n}", 512) for n in range(257)]),
    "no place": lambda spec: replace(spec, members=[*spec.members, MemberSpec(5, "new", SIZE)]),
}


@pytest.mark.parametrize("spoil", BAD_SPECS.values(), ids=BAD_SPECS)
async def test_a_spec_that_cannot_be_right_is_told_and_hosts_keep_what_they_have(leader: Leader, spoil: Any) -> None:
    good = await leader.put(leader.spec())
    await leader.write(0, DATA)
    leader.give(spoil(leader.spec()))
    status = await leader.mode(Mode.ERROR)
    assert status.failure is not None
    assert status.spec_version == good.spec_version
    assert await leader.read(0, len(DATA)) == DATA
    status = await leader.put(leader.spec())
    assert (status.mode, status.failure) == (Mode.PAUSED, None)


async def test_an_older_version_and_another_workers_spec_are_ignored(leader: Leader) -> None:
    await leader.put(leader.spec())
    newest = await leader.put(leader.spec())
    leader.worker.take(replace(leader.spec(), version=1, role=Role.SECONDARY))
    leader.worker.take(replace(leader.spec(), version=99, id="another"))
    await leader.write(0, DATA)
    status = leader.worker.status()
    assert status is not None
    assert (status.spec_version, status.role) == (newest.spec_version, Role.PRIMARY)


async def test_members_come_and_go_while_others_are_served(leader: Leader) -> None:
    await leader.put(leader.spec())
    await leader.write(0, DATA, number=0)
    leader.members = [leader.members[0], leader.member(7, 2)]
    status = await leader.put(leader.spec())
    assert [member.volume_id for member in status.members] == ["volume0", "volume2"]
    assert await leader.read(0, len(DATA), number=0) == DATA
    await leader.write(0, DATA, number=2)
    with pytest.raises(StorageFault):
        await leader.read(0, 1, number=1)


@pytest.mark.parametrize("role", [Role.PRIMARY, Role.SECONDARY])
async def test_an_index_that_means_another_volume_now(leader: Leader, role: Role) -> None:
    await leader.put(leader.spec(role))
    leader.members = [leader.member(0, 3), leader.members[1]]
    status = await leader.put(leader.spec(role))
    assert [member.volume_id for member in status.members] == ["volume3", "volume1"]
    if role is Role.PRIMARY:
        assert status.members[0].dirty_bytes == SIZE
        await leader.write(0, DATA, number=3)
        assert (leader.directory / "3.raw").read_bytes()[: len(DATA)] == DATA
        with pytest.raises(StorageFault):
            await leader.read(0, 1, number=0)


async def test_a_group_may_lose_all_its_members_and_get_others(leader: Leader) -> None:
    await leader.put(leader.spec())
    everyone, leader.members = leader.members, []
    status = await leader.put(leader.spec())
    assert status.members == []
    leader.members = everyone
    await leader.put(leader.spec())
    await leader.write(0, DATA)


async def test_a_missing_disk_is_waited_for(leader: Leader) -> None:
    path = leader.directory / "0.raw"
    aside = leader.directory / "aside"
    path.rename(aside)
    spec = leader.give(leader.spec())
    status = await leader.mode(Mode.ERROR)
    assert status.failure is not None
    assert status.failure.code == "37100048"
    assert str(path) in status.failure.message
    aside.rename(path)
    await leader.wait(lambda s: s.spec_version == spec.version and s.members[0].serving, "served")
    await leader.write(0, DATA)


@pytest.mark.parametrize("role", [Role.PRIMARY, Role.SECONDARY])
async def test_a_state_that_cannot_be_saved_is_tried_again_and_not_believed(leader: Leader, role: Role) -> None:
    leader.lead(0)
    await leader.put(leader.spec(term=0))
    leader.lead(1)
    obstacle = leader.directory / "state" / "replica.json.new"
    obstacle.mkdir()
    spec = leader.give(leader.spec(role, term=1))
    status = await leader.wait(lambda s: s.failure is not None, "told why")
    assert status.failure is not None
    assert "replica.json" in status.failure.message
    obstacle.rmdir()
    status = await leader.wait(lambda s: s.spec_version == spec.version, "in force")
    if role is Role.PRIMARY:
        assert status.dirty_bytes == 2 * SIZE
        await leader.wait(lambda s: s.members[0].serving, "served")
        await leader.write(0, DATA)


async def test_a_port_that_is_taken_is_tried_again(leader: Leader) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
        spec = leader.give(replace(leader.spec(Role.SECONDARY), stream_listen=endpoint))
        status = await leader.mode(Mode.ERROR)
        assert status.failure is not None
    status = await leader.wait(lambda s: s.spec_version == spec.version, "in force")
    assert status.stream_endpoint == endpoint


async def test_a_socket_path_that_is_taken_is_tried_again(leader: Leader) -> None:
    obstacle = leader.directory / "0.sock"
    obstacle.mkdir()
    spec = leader.give(leader.spec())
    await leader.mode(Mode.ERROR)
    obstacle.rmdir()
    await leader.wait(lambda s: s.spec_version == spec.version and s.members[0].serving, "served")
    await leader.write(0, DATA)


async def test_a_store_that_another_process_has_is_waited_for_without_an_error(leader: Leader) -> None:
    holder = leader.worker._open_all(leader.members)
    spec = leader.give(leader.spec())
    status = await leader.wait(lambda s: s.failure is not None, "told why")
    assert status.failure is not None
    assert (status.mode, status.failure.code) == (Mode.STARTING, "37000216")
    for store in holder.values():
        store.close()
    await leader.wait(lambda s: s.spec_version == spec.version, "in force")


async def test_a_bug_ends_the_worker_rather_than_leave_it_deaf(directory: Path) -> None:
    leader = Leader(directory)
    leader.start()
    await leader.put(leader.spec())

    def broken(*_: object) -> None:
        raise RuntimeError("planted")

    group: Any = leader.worker._group
    group.apply = broken
    leader.give(leader.spec())
    with pytest.raises(InternalError, match="planted"):
        await leader.ended()
    await leader.close()


async def test_it_comes_to_rest_once_after_each_time_that_something_moved(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "IDLE_STATUS_SECONDS", 0.01)
    await leader.put(replace(leader.spec(), members=leader.members[:1], role=Role.SOLO, stream_key=""))
    async with asyncio.timeout(10):
        for _ in range(2):
            await leader.rested.wait()
            leader.rested.clear()
            await leader.write(0, DATA)
        await leader.rested.wait()
    leader.rested.clear()
    await asyncio.sleep(0.05)
    assert not leader.rested.is_set()


async def test_a_solo_worker_serves_its_volume(leader: Leader) -> None:
    leader.members = leader.members[:1]
    spec = replace(leader.spec(), role=Role.SOLO, stream_key="")
    status = await leader.put(spec)
    assert status.mode is Mode.SOLO
    await leader.write(0, DATA)
    await leader.stop()
    assert (leader.directory / "0.raw").read_bytes()[: len(DATA)] == DATA
    leader.start()
    await leader.put(spec)
    assert await leader.read(0, len(DATA)) == DATA


@pytest.mark.parametrize("endpoint", ["127.0.0.1:0", "[::1]:7000", "host.example:65535"])
def test_endpoints(endpoint: str) -> None:
    check_endpoint(endpoint)


async def test_specs_in_quick_succession_end_with_the_last(leader: Leader) -> None:
    first, second = leader.members
    for number in range(30):
        leader.members = [[first], [first, second], [second], []][number % 4]
        leader.give(leader.spec())
        await asyncio.sleep(0.001 * (number % 3))
    leader.members = [first, second]
    status = await leader.put(leader.spec())
    assert [member.serving for member in status.members] == [True, True]
    await leader.write(0, DATA, number=0)
    await leader.write(0, DATA, number=1)


@pytest.mark.parametrize("role", [Role.PRIMARY, Role.SOLO])
async def test_a_volume_grows_for_hosts_that_connect_anew_and_for_nobody_else(leader: Leader, role: Role) -> None:
    leader.members = leader.members[:1]
    await leader.put(leader.spec(role))
    with await asyncio.to_thread(NbdClient, leader.uri()) as before:
        os.truncate(leader.directory / "0.raw", 2 * SIZE)
        await leader.put(with_member(leader.spec(role), size_bytes=2 * SIZE))
        await asyncio.to_thread(before.write, 0, DATA)
        assert before.size_bytes == SIZE
    with await asyncio.to_thread(NbdClient, leader.uri()) as after:
        assert after.size_bytes == 2 * SIZE
        await asyncio.to_thread(after.write, 2 * SIZE - 4, b"last")
    assert await leader.read(2 * SIZE - 8, 8) == bytes(4) + b"last"
    assert await leader.read(0, len(DATA)) == DATA


async def test_a_volume_whose_file_has_not_grown_stays_as_it_is_until_it_has(leader: Leader) -> None:
    await leader.put(leader.spec())
    larger = leader.give(with_member(leader.spec(), size_bytes=2 * SIZE))
    status = await leader.mode(Mode.ERROR)
    assert status.failure is not None
    assert "the volume is to have" in status.failure.message
    assert not leader.has_applied(larger)
    await leader.write(0, DATA)
    os.truncate(leader.directory / "0.raw", 2 * SIZE)
    await leader.wait(lambda s: s.spec_version == larger.version, "grown")


async def test_a_primary_that_waits_for_what_the_secondary_has_lets_volumes_go(directory: Path) -> None:
    leader = Leader(directory, members=2)
    state = StateDirectory(directory / "state")
    state.load()
    state.save(
        ReplicaState(term=1, is_primary=True, generations=["known"], primary_boot_id="before", peer_has_all=True)
    )
    leader.start()
    leader.give(leader.spec())
    await leader.wait(lambda status: status.doubtful and len(status.members) == 2, "waiting with two volumes")
    del leader.members[1]
    given = leader.give(leader.spec())
    await leader.wait(lambda _: leader.has_applied(given), "without the second volume")
    status = leader.worker.status()
    assert status is not None
    assert (status.doubtful, [member.volume_id for member in status.members]) == (True, ["volume0"])
    hello = leader.group().make_hello("nonce")
    assert [index for index, _ in hello.members] == [0], "what the secondary lists too"
    await leader.close()


async def test_a_volume_does_not_shrink(leader: Leader) -> None:
    await leader.put(leader.spec())
    leader.give(with_member(leader.spec(), size_bytes=SIZE // 2))
    status = await leader.mode(Mode.ERROR)
    assert status.failure is not None
    assert "would shrink" in status.failure.message
    await leader.write(SIZE - len(DATA), DATA)


async def test_no_host_is_served_while_a_disk_of_another_volume_is_waited_for(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await leader.put(leader.spec())
    drains, answers = asyncio.Event(), asyncio.Event()

    async def drain(device: StoreDevice) -> None:
        del device
        drains.set()
        await answers.wait()

    monkeypatch.setattr(StoreDevice, "drain", drain)
    with await asyncio.to_thread(NbdClient, leader.uri(1)) as other:
        leader.give(replace(leader.spec(Role.SECONDARY), term=2))
        await drains.wait()
        with pytest.raises(StorageFault):
            await asyncio.to_thread(other.read, 0, 512)
    answers.set()
