"""Compressed content: what is packed comes out as it was, and what claims to be packed is not believed."""

from __future__ import annotations

import random

import pytest
import zstandard

from tests.support.stores import noise, pattern
from twinsite.core.limits import BLOCK_BYTES, FRAME_PAYLOAD_BYTES_MAX
from twinsite.core.stream.frames import Flag, Frame, Kind
from twinsite.core.stream.packing import WORTH_PARTS, pack, unpack
from twinsite.errors import PeerViolation


def packed_frame(payload: bytes) -> Frame:
    return Frame(Kind.PACKED, Flag.RESYNC, 3, len(payload), 42, 4096, memoryview(payload))


@pytest.mark.parametrize("length", [1000, BLOCK_BYTES, BLOCK_BYTES + 512, FRAME_PAYLOAD_BYTES_MAX])
def test_what_is_unpacked_is_the_write_that_was_packed(length: int) -> None:
    data = pattern(length)
    packed = pack(memoryview(data))
    assert packed is not None
    assert len(packed) < length
    frame = unpack(packed_frame(packed))
    assert frame == Frame(Kind.WRITE, Flag.RESYNC, 3, length, 42, 4096, memoryview(data))


def test_what_hardly_gets_smaller_is_not_packed() -> None:
    data = noise(BLOCK_BYTES)
    assert pack(data) is None
    share = BLOCK_BYTES // WORTH_PARTS
    assert pack(data[: BLOCK_BYTES - share // 2] + bytes(share // 2)) is None
    assert pack(data[: BLOCK_BYTES - 2 * share] + bytes(2 * share)) is not None


def test_a_claim_of_too_much_is_refused_before_anything_is_made_of_it() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(FRAME_PAYLOAD_BYTES_MAX + 1))
    with pytest.raises(PeerViolation, match="frame 42 claims to hold 1048577 bytes"):
        unpack(packed_frame(bomb))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"no frame of Zstandard",
        zstandard.ZstdCompressor().compress(b""),
        zstandard.ZstdCompressor(write_content_size=False).compress(pattern(1000)),
        zstandard.ZstdCompressor().compress(pattern(1000))[:-1],
        zstandard.ZstdCompressor().compress(pattern(1000)) + b"more",
        zstandard.ZstdCompressor().compress(pattern(1000)) * 2,
        b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip",
    ],
    ids=["nothing", "garbage", "empty", "no size", "cut short", "rest", "two", "skippable"],
)
def test_what_is_not_one_piece_of_known_size_is_refused(payload: bytes) -> None:
    with pytest.raises(PeerViolation, match="frame 42"):
        unpack(packed_frame(payload))


def test_damage_is_refused_or_changes_nothing_but_the_data() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    whole = zstandard.ZstdCompressor(level=1).compress(pattern(20_000))
    for _ in range(2000):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            frame = unpack(packed_frame(bytes(damaged)))
        except PeerViolation:
            continue
        assert frame.payload is not None
        assert 0 < frame.length == len(frame.payload) <= FRAME_PAYLOAD_BYTES_MAX
        assert (frame.kind, frame.volume, frame.sequence, frame.offset) == (Kind.WRITE, 3, 42, 4096)
