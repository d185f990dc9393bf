"""Hosts that go on while a secondary is being let in, and members that change under them."""

from __future__ import annotations

import asyncio

from tests.support.leader import Leader, image, in_sync
from tests.support.stream import RawSecondary, acknowledge
from twinsite.core.limits import BLOCK_BYTES
from twinsite.core.stream.frames import Kind

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
