"""Hostile and broken primaries at a secondary's port: only their own connection ends."""

from __future__ import annotations

import random
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from xxhash import xxh3_64_intdigest

from tests.support.follower import SIZE, Follower
from twinsite.core.limits import FRAME_PAYLOAD_BYTES_MAX, MIB
from twinsite.core.stream.frames import Kind, encode_header, encode_json
from twinsite.worker.secondary_group import PENDING_CONNECTIONS_MAX


@pytest.fixture(name="follower")
async def fixture_follower(tmp_path: Path) -> AsyncIterator[Follower]:
    follower = Follower(tmp_path, {0: SIZE, 1: SIZE})
    await follower.start()
    yield follower
    await follower.stop()
    follower.executor.shutdown()


async def honest_primary_works(follower: Follower) -> None:
    """A proper primary gets in and is served."""
    primary = await follower.connect()
    await primary.enter(follower.hello())
    await primary.write(1, 8192, b"honest")
    await primary.until(Kind.ACK, 1)
    assert follower.content()[8192:8198] == b"honest"
    await primary.close()


def lying_header(kind: int, length: int, sequence: int = 1, offset: int = 0, volume: int = 0) -> bytes:
    """A header with a good checksum of its own and none of its payload."""
    prefix = struct.pack(">HBBHHIQQ", 0x5457, kind, 0, volume, 0, length, sequence, offset)
    return prefix + struct.pack(">Q", xxh3_64_intdigest(prefix))


DATA = b"d" * 512
LIES: dict[str, bytes] = {
    "gap": encode_header(Kind.WRITE, 0, 0, 512, 2, 0, DATA) + DATA,
    "past the end": encode_header(Kind.WRITE, 0, 0, 512, 1, SIZE - 511, DATA) + DATA,
    "far past the end": encode_header(Kind.WRITE, 0, 0, 512, 1, 2**64 - 512, DATA) + DATA,
    "zero past the end": encode_header(Kind.ZERO, 0, 0, 2**30, 1, 0),
    "unknown volume": encode_header(Kind.WRITE, 0, 7, 512, 1, 0, DATA) + DATA,
    "no bytes": encode_header(Kind.WRITE, 0, 0, 0, 1, 0, b""),
    "huge length": lying_header(Kind.WRITE, 2**32 - 1),
    "bad checksum": encode_header(Kind.WRITE, 0, 0, 512, 1, 0, DATA) + b"e" * 512,
    "unknown kind": lying_header(99, 0),
    "a second hello": encode_json(Kind.HELLO, {}),
    "an acknowledgement": encode_header(Kind.ACK, 0, 0, 0, 1, 0),
    "a resync without a name": encode_json(Kind.RESYNC_BEGIN, {}, 1),
    "a resync with a number for a name": encode_json(Kind.RESYNC_BEGIN, {"generation": 5}, 1),
    "a resync with no JSON": encode_header(Kind.RESYNC_BEGIN, 0, 0, 3, 1, 0, b"abc") + b"abc",
    "noise": random.Random(1).randbytes(4096),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_a_lying_frame_ends_its_connection_and_changes_nothing(follower: Follower, lie: bytes) -> None:
    primary = await follower.connect()
    await primary.enter(follower.hello())
    await primary.send(lie)
    said = await primary.farewell()
    assert said is not None
    assert said["code"] == "37000212"
    assert not any(follower.content())
    assert follower.saved().generation == ""
    await primary.close()
    await honest_primary_works(follower)


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_nothing_is_taken_before_the_handshake(follower: Follower, lie: bytes) -> None:
    primary = await follower.connect()
    await primary.expect(Kind.CHALLENGE)
    await primary.send(lie)
    said = await primary.farewell()
    assert said is not None
    assert said["code"] == "37000212"
    assert not any(follower.content())
    await primary.close()
    await honest_primary_works(follower)


async def test_a_wrong_key_and_a_recorded_hello_are_refused(follower: Follower) -> None:
    thief = await follower.connect()
    await thief.greet(follower.hello(), key="cd" * 32)
    said = await thief.farewell()
    assert said is not None
    assert "stream key" in said["message"]
    await thief.close()
    recorder = await follower.connect()
    challenge = await recorder.expect(Kind.CHALLENGE)
    assert challenge.payload is not None
    await recorder.close()
    await honest_primary_works(follower)


@pytest.mark.parametrize("seed", range(5))
async def test_noise_of_many_connections_disturbs_nobody(follower: Follower, seed: int) -> None:
    print(f"seed {seed}")
    source = random.Random(seed)
    primary = await follower.connect()
    await primary.enter(follower.hello())
    for sequence in range(1, 11):
        rival = await follower.connect()
        await rival.send(source.randbytes(source.choice([1, 47, 48, 3000, 100_000])))
        await primary.write(sequence, sequence * 512, DATA)
        await primary.until(Kind.ACK, sequence)
        rival.abort()
    await primary.close()


async def test_many_half_handshakes_do_not_lock_a_proper_primary_out(follower: Follower) -> None:
    idle = [await follower.connect() for _ in range(4 * PENDING_CONNECTIONS_MAX)]
    await honest_primary_works(follower)
    for connection in idle:
        connection.abort()
    await honest_primary_works(follower)


async def test_half_a_frame_holds_no_more_than_its_buffer(follower: Follower) -> None:
    primary = await follower.connect()
    await primary.enter(follower.hello())
    data = bytes(FRAME_PAYLOAD_BYTES_MAX)
    sequence = 1
    for _ in range(20):
        await primary.write(sequence, 0, data[: MIB // 2])
        sequence += 1
    header = encode_header(Kind.WRITE, 0, 0, len(data), sequence, 0, data)
    await primary.send(header, data[:-1])
    await primary.until(Kind.ACK, sequence - 1)
    await primary.send(data[-1:])
    await primary.until(Kind.ACK, sequence)
    await primary.close()
