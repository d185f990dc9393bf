"""Hostile and broken secondaries: the session ends, and hosts notice nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.support.leader import NEW, Leader, in_sync, take_resync
from tests.support.stream import RawSecondary, acknowledge, flushed
from twinsite.core.stream.frames import Kind, encode_header, encode_json
from twinsite.core.stream.hello import seal
from twinsite.messages import Mode

DATA = b"d" * 4096

LIES = {
    "an acknowledgement of the future": acknowledge(2**40),
    "an acknowledgement of the past": acknowledge(0),
    "a flush of nothing": flushed(0),
    "a flush of the future": flushed(2**63),
    "a write": encode_header(Kind.WRITE, 0, 0, 3, 1, 0, b"abc") + b"abc",
    "a challenge": encode_json(Kind.CHALLENGE, {}),
    "another welcome": encode_json(Kind.WELCOME, {}),
    "half of a long frame": encode_header(Kind.WRITE, 0, 0, 2**20, 1, 0, bytes(2**20)) + bytes(2**20 - 1),
    "noise": b"\x57\x54" * 500,
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_a_lying_secondary_loses_the_session_and_hosts_nothing(
    leader: Leader, secondary: RawSecondary, lie: bytes
) -> None:
    pipe, name = await in_sync(leader, secondary)
    writing = asyncio.create_task(leader.write(0, DATA))
    await pipe.expect(Kind.WRITE)
    await pipe.send(lie)
    assert await pipe.farewell() is not None
    await writing
    status = await leader.mode(Mode.CONNECTING)
    assert status.failure is not None
    assert status.failure.code == "37000212"
    pipe, _ = await secondary.admit(replace(NEW, generation=name))
    await take_resync(pipe)
    await leader.mode(Mode.IN_SYNC)


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_a_lie_before_the_handshake_ends_only_that_attempt(
    leader: Leader, secondary: RawSecondary, lie: bytes
) -> None:
    leader.give(leader.spec(endpoint=secondary.endpoint))
    pipe = await secondary.accept()
    await pipe.send(lie)
    await pipe.farewell()
    await leader.write(0, DATA)
    await secondary.admit(NEW)


async def test_a_secondary_without_the_key_gets_nothing(leader: Leader, secondary: RawSecondary) -> None:
    leader.give(leader.spec(endpoint=secondary.endpoint))
    pipe = await secondary.accept()
    hello = await secondary.challenge(pipe)
    await pipe.send(encode_json(Kind.WELCOME, seal(NEW, bytes(32), hello.nonce)))
    said = await pipe.farewell()
    assert said is not None
    assert "stream key" in said["message"]
    status = await leader.mode(Mode.CONNECTING)
    assert status.counters.stream_connects == 0
