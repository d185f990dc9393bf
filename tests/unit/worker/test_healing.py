"""A primary whose machine restarted: it heals from its secondary although streams break and flushes fail."""

from __future__ import annotations

import threading

import pytest

from tests.support.leader import SIZE, Leader, image, in_sync
from tests.support.stream import WAIT_SECONDS, FramePipe, RawSecondary, acknowledge
from twinsite.core.limits import BLOCK_BYTES
from twinsite.core.stream.frames import Kind, encode_header
from twinsite.core.stream.hello import Doubt
from twinsite.errors import StorageFault
from twinsite.messages import Mode
from twinsite.stores.file import FileStore
from twinsite.worker.state import StateDirectory


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
    state = StateDirectory(leader.directory / "state").load()
    assert (state.doubt, state.may_lack_writes) == (Doubt.FLUSH_FAILED, is_reboot)
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
