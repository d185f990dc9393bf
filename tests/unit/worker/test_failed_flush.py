"""A flush fails at a site that is in use: nobody is shown what its disks may have lost, and it recovers by itself."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.support.failing_disk import CONTENT, FailingDisk, bring, bring_all
from tests.support.leader import SIZE, Leader, image, in_sync, take_resync
from tests.support.stream import WAIT_SECONDS, FramePipe, RawPrimary, RawSecondary, acknowledge, flushed
from twinsite.core.stream.frames import PROTOCOL_VERSION, Kind, encode_json
from twinsite.core.stream.hello import Doubt, Hello
from twinsite.errors import StorageFault
from twinsite.messages import Mode, Role
from twinsite.nbd_client import ConnectionLost
from twinsite.worker import primary_group, renewal
from twinsite.worker.state import ReplicaState, StateDirectory


@pytest.fixture(autouse=True)
def fixture_short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "RENEWAL_SECONDS_MIN", 0.01)
    monkeypatch.setattr(primary_group, "START_PATIENCE_SECONDS", 0.05)


@pytest.fixture(name="disk")
def fixture_disk(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> FailingDisk:
    return FailingDisk(leader.directory / "0.raw", monkeypatch)


def saved(leader: Leader) -> ReplicaState:
    return StateDirectory(leader.directory / "state").load()


async def fail_a_flush(leader: Leader, pipe: FramePipe, disk: FailingDisk) -> BaseException | None:
    """Write with FUA as a host does, to a disk that fails the flush; return what the host gets."""
    disk.failures_left = 1
    writing = asyncio.create_task(leader.write(0, CONTENT[:512], fua=True))
    await pipe.expect(Kind.WRITE)
    flush = await pipe.expect(Kind.FLUSH)
    await pipe.send(acknowledge(flush.sequence), flushed(flush.sequence))
    done, _ = await asyncio.wait({writing}, timeout=WAIT_SECONDS)
    assert done, "the host waits"
    return writing.exception()


async def test_a_primary_whose_flush_fails_shows_its_disks_only_after_it_has_healed(
    leader: Leader, secondary: RawSecondary, disk: FailingDisk
) -> None:
    pipe, name = await in_sync(leader, secondary)
    calls = len(leader.arbiter.calls)
    assert isinstance(await fail_a_flush(leader, pipe, disk), ConnectionLost), "it was cut off and not failed"
    bye = await pipe.farewell()
    assert bye is not None
    assert "cannot make its disks durable" in bye["message"]
    pipe, _ = await secondary.admit(image(name))
    fetch = await pipe.expect(Kind.FETCH)
    status = leader.worker.status()
    assert status is not None
    assert (status.mode, status.members[0].serving, status.doubtful) == (Mode.HOLDING, False, True)
    assert saved(leader).doubt is Doubt.FLUSH_FAILED
    await bring(pipe, fetch)
    await bring_all(pipe, SIZE - fetch.length)
    await leader.wait(lambda s: s.mode is Mode.IN_SYNC and s.members[0].serving, "serving again")
    assert await leader.read(0, SIZE) == CONTENT
    assert (saved(leader).doubt, saved(leader).may_lack_writes) == (Doubt.NONE, False)
    assert "suspend_secondary" not in leader.arbiter.calls[calls:], "nothing was acknowledged without the secondary"
    writing = asyncio.create_task(leader.write(0, b"n" * 512, fua=True))
    await pipe.expect(Kind.WRITE)
    flush = await pipe.expect(Kind.FLUSH)
    await pipe.send(acknowledge(flush.sequence), flushed(flush.sequence))
    await asyncio.wait_for(writing, WAIT_SECONDS)


async def test_a_primary_whose_flush_fails_waits_for_its_secondary_and_goes_on_without_it_only_on_an_operators_word(
    leader: Leader, secondary: RawSecondary, disk: FailingDisk
) -> None:
    pipe, _ = await in_sync(leader, secondary)
    await fail_a_flush(leader, pipe, disk)
    assert await pipe.farewell() is not None
    pipe, _ = await secondary.admit(image("of somebody else"))
    assert await pipe.farewell() is not None
    status = await leader.wait(
        lambda s: s.mode is Mode.HOLDING and s.failure is not None and "fail over" in s.failure.message, "saying so"
    )
    assert not status.members[0].serving
    assert leader.arbiter.has_in_sync()
    leader.give(replace(leader.spec(), loss_acceptances=1))
    await leader.wait(lambda s: s.mode is Mode.PAUSED and s.members[0].serving, "going on with what it has")


async def test_when_a_flush_failed_at_both_sites_a_person_decides(
    leader: Leader, secondary: RawSecondary, disk: FailingDisk
) -> None:
    pipe, name = await in_sync(leader, secondary)
    await fail_a_flush(leader, pipe, disk)
    assert await pipe.farewell() is not None
    pipe, _ = await secondary.admit(image(name, doubt=Doubt.FLUSH_FAILED))
    assert await pipe.farewell() is not None
    status = await leader.wait(lambda s: s.failure is not None and "at both sites" in s.failure.message, "saying so")
    assert (status.members[0].serving, status.doubtful) == (False, True)
    assert leader.arbiter.has_in_sync()


@pytest.mark.parametrize("restarts", [False, True], ids=["", "after a restart of the worker"])
async def test_a_flush_that_fails_while_production_is_alone_is_told_and_healed_once_the_secondary_has_all(
    leader: Leader, secondary: RawSecondary, disk: FailingDisk, restarts: bool
) -> None:
    disk.failures_left = 1
    with pytest.raises(StorageFault) as caught:
        await leader.write(0, b"w" * 512, fua=True)
    assert not isinstance(caught.value, ConnectionLost)
    await leader.wait(lambda s: saved(leader).doubt is Doubt.FLUSH_FAILED, "in doubt about its disk")
    if restarts:
        await leader.stop()
        leader.start()
        await leader.put(leader.spec())
    leader.give(leader.spec(endpoint=secondary.endpoint))
    pipe, _ = await secondary.admit(image(""))
    _, name = await take_resync(pipe)
    assert await pipe.farewell() is not None
    pipe, _ = await secondary.admit(image(name))
    await bring_all(pipe)
    await leader.wait(lambda s: s.mode is Mode.IN_SYNC and s.members[0].serving, "serving again")
    assert await leader.read(0, SIZE) == CONTENT


async def test_a_secondary_whose_flush_fails_opens_its_disk_anew_and_says_that_it_is_in_doubt(
    leader: Leader, disk: FailingDisk
) -> None:
    await leader.put(leader.spec(Role.SECONDARY))
    primary = await meet(leader)
    await primary.write(2, 0, CONTENT[:512])
    await primary.send(encode_json(Kind.RESYNC_END, {}, 3))
    disk.failures_left = 1
    bye = await primary.farewell()
    assert bye is not None
    assert bye["code"] == "37100178"
    await primary.close()
    primary = await meet(leader, doubt=Doubt.FLUSH_FAILED)
    await primary.send(encode_json(Kind.RESYNC_END, {}, 2))
    await primary.until(Kind.FLUSHED, 2)
    assert saved(leader).doubt is Doubt.NONE
    assert len(set(disk.descriptors)) == 1
    await primary.close()


async def meet(leader: Leader, doubt: Doubt = Doubt.NONE) -> RawPrimary:
    """Connect as the primary, over and over until that is welcome, and begin a resync."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            status = await leader.wait(lambda s: s.stream_endpoint is not None, "listening")
            assert status.stream_endpoint is not None
            try:
                primary = await RawPrimary.connect(status.stream_endpoint)
            except OSError:
                continue  # It has just been closed.
            try:
                welcome = await primary.enter(Hello(PROTOCOL_VERSION, "group", 1, 1, [[0, SIZE]], "nonce"))
                break
            except AssertionError:  # It says goodbye instead.
                await primary.close()
                await asyncio.sleep(0.01)
    assert welcome.doubt is doubt
    await primary.send(encode_json(Kind.RESYNC_BEGIN, {"generation": "new"}, 1))
    await primary.until(Kind.ACK, 1)
    return primary
