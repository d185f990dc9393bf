"""A primary whose machine restarted: it heals from its secondary although streams break and flushes fail."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support.failing_disk import CONTENT, FailingDisk, bring_all
from tests.support.leader import SIZE, Leader, differs, image, in_sync
from tests.support.stream import WAIT_SECONDS, FramePipe, RawSecondary, acknowledge
from twinsite.core.limits import BLOCK_BYTES
from twinsite.core.stream.frames import Kind, encode_header
from twinsite.core.stream.hello import Doubt
from twinsite.errors import InternalError, StorageFault
from twinsite.messages import Mode
from twinsite.stores.file import FileStore
from twinsite.worker import renewal
from twinsite.worker.standing import Standing
from twinsite.worker.state import ReplicaState, StateDirectory


@pytest.fixture(autouse=True)
def fixture_short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "RENEWAL_SECONDS_MIN", 0.01)


async def restart_in_sync(leader: Leader, secondary: RawSecondary, *, is_reboot: bool = True) -> str:
    """Let the machine, or only the process of a primary end without a word; return the lineage of its secondary."""
    _, name = await in_sync(leader, secondary)
    await leader.stop()
    directory = StateDirectory(leader.directory / "state")
    state = directory.load()
    state.peer_has_all, state.is_clean, state.generation = True, False, ""
    if is_reboot:
        state.primary_boot_id = "an earlier boot"
    directory.save(state)
    leader.start()
    leader.give(leader.spec(endpoint=secondary.endpoint))
    return name


async def find_equal(pipe: FramePipe) -> None:
    """Answer the one comparison of an empty disk: nothing differs."""
    frame = await pipe.expect(Kind.COMPARE_ZERO)
    bits = bytes(-(-frame.length // BLOCK_BYTES) // 8)
    answer = encode_header(Kind.COMPARED, 0, 0, len(bits), frame.sequence, 0, bits) + bits
    await pipe.send(acknowledge(frame.sequence), answer)


async def find_different(pipe: FramePipe) -> None:
    """Answer the one comparison of an empty disk: everything differs; then bring what is asked for."""
    frame = await pipe.expect(Kind.COMPARE_ZERO)
    await pipe.send(acknowledge(frame.sequence), differs(frame))
    await bring_all(pipe)


async def test_healing_ends_on_the_next_stream_when_one_breaks_during_the_last_flush(
    leader: Leader, secondary: RawSecondary, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await restart_in_sync(leader, secondary)
    is_flushing, may_flush = threading.Event(), threading.Event()

    def flush(store: FileStore) -> None:
        is_flushing.set()
        assert may_flush.wait(WAIT_SECONDS), "the flush was held for too long"

    pipe, _ = await secondary.admit(image(name))
    monkeypatch.setattr(FileStore, "flush", flush)
    await find_equal(pipe)
    await leader.wait(lambda s: is_flushing.is_set(), "flushing what was healed")
    pipe.abort()
    await secondary.admit(image(name))
    await leader.wait(lambda s: s.counters.stream_connects == 2, "healing again")
    may_flush.set()
    await leader.mode(Mode.IN_SYNC)
    assert await leader.read(0, SIZE) == bytes(SIZE)


@pytest.mark.parametrize("is_reboot", [True, False])
async def test_a_flush_of_what_was_healed_that_fails_is_remembered(
    leader: Leader, secondary: RawSecondary, monkeypatch: pytest.MonkeyPatch, is_reboot: bool
) -> None:
    name = await restart_in_sync(leader, secondary, is_reboot=is_reboot)

    def flush(store: FileStore) -> None:
        raise StorageFault("flush", store.path, OSError(5, "Input/output error"))

    pipe, _ = await secondary.admit(image(name))
    monkeypatch.setattr(FileStore, "flush", flush)
    await find_equal(pipe)
    assert await pipe.farewell() is not None
    assert StateDirectory(leader.directory / "state").load().doubt is Doubt.FLUSH_FAILED
    # The disk may show now what was there before the healing: all of it is taken again, and nobody is served meanwhile.
    pipe, _ = await secondary.admit(image(name))
    fetch = await pipe.expect(Kind.FETCH)
    assert fetch.offset == 0
    status = leader.worker.status()
    assert status is not None
    assert (status.mode, status.members[0].serving, status.doubtful) == (Mode.HOLDING, False, True)


async def test_a_flush_that_fails_while_extents_are_to_go_cold_is_remembered(
    leader: Leader, secondary: RawSecondary, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, _ = await in_sync(leader, secondary)

    def flush(store: FileStore) -> None:
        raise StorageFault("flush", store.path, OSError(5, "Input/output error"))

    monkeypatch.setattr(FileStore, "flush", flush)
    assert leader.group()._cooling.start()
    await pipe.expect(Kind.FLUSH)
    directory = StateDirectory(leader.directory / "state")
    await leader.wait(lambda s: directory.load().doubt is Doubt.FLUSH_FAILED, "in doubt about its disk")


@pytest.mark.parametrize("is_reboot", [True, False])
@pytest.mark.parametrize("failures", [1, 3])
async def test_when_flushes_of_what_was_healed_work_again_hosts_are_served_with_what_the_secondary_has(
    leader: Leader, secondary: RawSecondary, monkeypatch: pytest.MonkeyPatch, failures: int, is_reboot: bool
) -> None:
    name = await restart_in_sync(leader, secondary, is_reboot=is_reboot)
    disk = FailingDisk(leader.directory / "0.raw", monkeypatch)
    disk.failures_left = failures
    pipe, _ = await secondary.admit(image(name))
    await find_different(pipe)
    for _ in range(failures):
        bye = await pipe.farewell()
        assert bye is not None
        assert "cannot make its disks durable" in bye["message"]
        pipe, _ = await secondary.admit(image(name))
        await bring_all(pipe)
    await leader.mode(Mode.IN_SYNC)
    assert await leader.read(0, SIZE) == CONTENT
    assert (disk.failures_left, len(disk.descriptors)) == (0, failures)
    state = StateDirectory(leader.directory / "state").load()
    assert (state.doubt, state.may_lack_writes) == (Doubt.NONE, False)


async def test_a_role_is_not_started_anew_before_it_is_recorded_why(
    leader: Leader, secondary: RawSecondary, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await restart_in_sync(leader, secondary, is_reboot=False)
    FailingDisk(leader.directory / "0.raw", monkeypatch).failures_left = 1
    save, refused, is_full = StateDirectory.save, [0], [True]

    def save_if_there_is_room(directory: StateDirectory, state: ReplicaState) -> None:
        if is_full[0] and state.doubt is Doubt.FLUSH_FAILED:
            refused[0] += 1
            raise StorageFault("save", "replica.json", OSError(28, "No space left on device"))
        save(directory, state)

    monkeypatch.setattr(StateDirectory, "save", save_if_there_is_room)
    pipe, _ = await secondary.admit(image(name))
    await find_different(pipe)
    group = leader.group()
    status = await leader.wait(lambda s: refused[0] > 1, "refused by the state directory again")
    assert (leader.group(), status.members[0].serving, status.doubtful) == (group, False, True)
    is_full[0] = False
    assert await pipe.farewell() is not None
    pipe, _ = await secondary.admit(image(name))
    await bring_all(pipe)
    await leader.mode(Mode.IN_SYNC)
    assert await leader.read(0, SIZE) == CONTENT


async def test_a_loss_that_is_accepted_after_the_flush_failed_counts_for_the_role_that_follows(
    leader: Leader, secondary: RawSecondary, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await restart_in_sync(leader, secondary)
    monkeypatch.setattr(renewal, "RENEWAL_SECONDS_MIN", 2 * WAIT_SECONDS)
    FailingDisk(leader.directory / "0.raw", monkeypatch).failures_left = 1
    pipe, _ = await secondary.admit(image(name))
    await find_different(pipe)
    await leader.wait(lambda s: leader.group().failed_flush is not None, "told that the flush failed")
    spec = replace(leader.spec(), loss_acceptances=1)
    given = leader.give(spec)
    await leader.wait(lambda s: leader.has_applied(given), "told that the loss is accepted")
    assert leader.group().machine.must_wait
    leader.worker._renewal._pause_over()
    await leader.wait(lambda s: s.mode is Mode.PAUSED and s.members[0].serving, "going on with what it has")
    assert StateDirectory(leader.directory / "state").load().loss_acceptances == 1


async def test_a_bug_in_a_task_of_the_group_ends_the_worker(
    leader: Leader, secondary: RawSecondary, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def join(standing: Standing, *arguments: object) -> None:
        raise ValueError("equal length expected")

    name = await restart_in_sync(leader, secondary)
    monkeypatch.setattr(Standing, "join", join)
    await secondary.admit(image(name))
    with pytest.raises(InternalError, match="equal length expected"):
        await leader.ended()


async def test_pauses_grow_up_to_a_bound_and_are_short_again_after_a_calm_role(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    pauses: list[float] = []
    ends: list[Callable[[], None]] = []

    def call_later(seconds: float, call: Callable[[], None]) -> asyncio.Handle:
        pauses.append(seconds)
        ends.append(call)
        return asyncio.Handle(call, (), loop)

    monkeypatch.setattr(loop, "call_later", call_later)
    monkeypatch.setattr(renewal, "RENEWAL_SECONDS_MIN", 1.0)
    woken: list[None] = []
    pacing = renewal.Renewal(lambda: woken.append(None))
    for attempt in range(8):
        assert len(woken) == attempt
        assert not pacing.is_due()
        assert not pacing.is_due(), "the pause does not begin again"
        ends[-1]()
        assert pacing.is_due()
        pacing.role_ended()
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    monkeypatch.setattr(renewal, "CALM_SECONDS", 0.0)
    assert not pacing.is_due()
    assert pauses[-1] == 1
