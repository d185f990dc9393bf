"""Hosts that go on while a secondary is being let in, and members that change under them."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from tests.support.leader import SIZE, Leader, image, in_sync
from tests.support.stream import WAIT_SECONDS, RawSecondary, acknowledge
from twinsite.core.limits import BLOCK_BYTES
from twinsite.core.stream.frames import Kind
from twinsite.core.tracking.intents import IntentRecord
from twinsite.durable_file import SystemFiles, SystemLogFile
from twinsite.errors import StorageFault
from twinsite.worker.intent_log import load_intents

DATA = b"d" * 4096


async def test_nothing_is_sent_to_a_secondary_that_is_not_let_in_yet(leader: Leader, secondary: RawSecondary) -> None:
    pipe, name = await in_sync(leader, secondary)
    leader.arbiter.is_reachable = False
    pipe.abort()
    pipe = await secondary.accept()
    hello = await secondary.challenge(pipe)
    async with leader.group()._standing._lock:
        # What must be durable before the stream is resumed takes its time.
        sessions = leader.group().session_count
        await secondary.welcome(pipe, hello, image(name))
        await leader.wait(lambda s: leader.group()._link.is_up(), "welcomed")
        writing = asyncio.create_task(leader.write(0, DATA))
        await leader.wait(lambda s: s.counters.writes == 1, "written")
        assert leader.group().session_count == sessions
    first = await pipe.expect(Kind.WRITE)
    assert first.sequence == hello.first_sequence
    await pipe.send(acknowledge(first.sequence))
    await writing
    again = asyncio.create_task(leader.write(BLOCK_BYTES, DATA))
    second = await pipe.expect(Kind.WRITE)
    assert (second.sequence, second.offset) == (first.sequence + 1, BLOCK_BYTES)
    await pipe.send(acknowledge(second.sequence))
    await again
    leader.arbiter.is_reachable = True


async def test_a_volume_joins_while_a_write_to_another_waits_for_its_intent(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    intents = leader.group().intents
    intents.clear(0, 0, 1)
    log, is_syncing, may_sync = intents._log, threading.Event(), threading.Event()
    assert isinstance(log, SystemLogFile)
    sync = log.sync

    def slow_sync() -> None:
        is_syncing.set()
        assert may_sync.wait(WAIT_SECONDS), "the sync was held for too long"
        sync()

    monkeypatch.setattr(log, "sync", slow_sync)
    writing = asyncio.create_task(leader.write(0, DATA))
    assert await asyncio.to_thread(is_syncing.wait, WAIT_SECONDS)
    leader.members.append(leader.member(1, 1))
    joining = asyncio.create_task(leader.pause())
    await leader.wait(lambda s: intents._is_changing, "letting the volume in")
    late = asyncio.create_task(leader.write(SIZE - BLOCK_BYTES, DATA))
    may_sync.set()
    await asyncio.gather(writing, late, joining)
    await leader.write(0, DATA, number=1)
    recorded = load_intents(SystemFiles(), leader.directory / "state" / "intents.log", leader.members)
    assert [recorded[index].runs() for index in (0, 1)] == [[(0, 1)], [(0, 1)]]


async def test_a_change_of_members_that_the_disk_refuses_is_done_at_the_next_attempt(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = Leader(directory, members=2)
    leader.start()
    try:
        await leader.pause()
        intents = leader.group().intents
        attempts = []

        def rewrite(records: list[IntentRecord]) -> None:
            attempts.append(records)
            if len(attempts) == 1:
                raise StorageFault("write the intent log", "intents.log", OSError(28, "No space left on device"))
            rewrite_for_real(records)

        rewrite_for_real = intents._rewrite
        monkeypatch.setattr(intents, "_rewrite", rewrite)
        leader.members = [leader.members[0], leader.member(2, 2)]
        await leader.pause()
        assert len(attempts) == 2
        await leader.write(0, DATA)
        await leader.write(0, DATA, number=2)
        assert intents.maps.keys() == {0, 2}
    finally:
        await leader.close()


async def test_a_grant_that_comes_after_the_welcome_ends_a_session_that_was_announced_otherwise(
    leader: Leader, secondary: RawSecondary
) -> None:
    pipe, name = await in_sync(leader, secondary)
    writing = [asyncio.create_task(leader.write(number * BLOCK_BYTES, DATA)) for number in range(2)]
    for _ in writing:
        await pipe.expect(Kind.WRITE)
    async with leader.group()._standing._lock:
        pipe.abort()
        pipe, hello = await secondary.admit(image(name))
        await leader.wait(lambda s: leader.group()._link.is_up(), "welcomed")
        await leader.wait(lambda s: not leader.arbiter.has_in_sync(), "granted")
        assert leader.group().machine.first_sequence == hello.first_sequence
    await asyncio.gather(*writing)
    frame = await pipe.next()
    while frame is None or frame.kind == Kind.BYE:
        await pipe.close()
        pipe, hello = await secondary.admit(image(name))
        frame = await pipe.next()
    assert (frame.kind, frame.sequence) == (Kind.RESYNC_BEGIN, hello.first_sequence)
