"""The frame codec: what goes in comes out however it is cut, and damaged bytes are never taken for a frame."""

from __future__ import annotations

import contextlib
import itertools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from twinsite.core.limits import FRAME_PAYLOAD_BYTES_MAX, STREAM_CONTROL_BYTES_MAX, ZERO_FRAME_BYTES_MAX
from twinsite.core.stream.frames import (
    HEADER_BYTES,
    MAGIC,
    Frame,
    Kind,
    decode,
    decode_json,
    encode_header,
    encode_json,
)
from twinsite.errors import PeerViolation

PAYLOAD_KINDS = [Kind.WRITE, Kind.HELLO, Kind.RESYNC_BEGIN]
BARE_KINDS = [Kind.ZERO, Kind.FLUSH, Kind.ACK, Kind.FLUSHED, Kind.HEARTBEAT]

Plain = tuple[int, int, int, int, int, int, bytes | None]
"""A frame with its payload copied."""


@st.composite
def plain_frames(draw: st.DrawFn) -> Plain:
    """One frame of any kind."""
    flags = draw(st.integers(0, 255))
    volume = draw(st.integers(0, 65535))
    sequence, offset = draw(st.integers(0, 2**64 - 1)), draw(st.integers(0, 2**64 - 1))
    if draw(st.booleans()):
        payload = draw(st.binary(max_size=200))
        return draw(st.sampled_from(PAYLOAD_KINDS)), flags, volume, len(payload), sequence, offset, payload
    kind = draw(st.sampled_from(BARE_KINDS))
    return kind, flags, volume, draw(st.integers(0, ZERO_FRAME_BYTES_MAX)), sequence, offset, None


def wire(frames: list[Plain]) -> bytes:
    """The bytes of frames."""
    return b"".join(encode_header(*frame) + (frame[6] or b"") for frame in frames)


def plain(frame: Frame) -> Plain:
    """A decoded frame with its payload copied out of the buffer."""
    return (*frame[:6], None if frame.payload is None else bytes(frame.payload))


def receive(chunks: list[bytes]) -> list[Plain]:
    """Decode what comes in chunks, as a connection does."""
    buffer = b""
    taken: list[Plain] = []
    for chunk in chunks:
        buffer += chunk
        frames: list[Frame] = []
        rest = decode(memoryview(buffer), 0, len(buffer), frames)
        taken += [plain(frame) for frame in frames]
        buffer = buffer[rest:]
    return taken


@settings(deadline=None, print_blob=True)
@given(st.lists(plain_frames(), max_size=6), st.lists(st.integers(0, 2000), max_size=8))
def test_frames_survive_any_split(frames: list[Plain], cuts: list[int]) -> None:
    data = wire(frames)
    bounds = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[start:end] for start, end in itertools.pairwise(bounds)]
    assert receive(chunks) == frames


@settings(deadline=None, print_blob=True)
@given(st.lists(plain_frames(), min_size=1, max_size=4), st.data())
def test_a_damaged_byte_is_found_or_waited_for(frames: list[Plain], data: st.DataObject) -> None:
    good = wire(frames)
    damaged = bytearray(good)
    position = data.draw(st.integers(0, len(good) - 1))
    damaged[position] ^= data.draw(st.integers(1, 255))
    taken: list[Frame] = []
    with contextlib.suppress(PeerViolation):
        decode(memoryview(bytes(damaged)), 0, len(damaged), taken)
    whole = [plain(frame) for frame in taken]
    assert whole == frames[: len(whole)], "what was taken before the damage is what was sent"
    assert len(whole) < len(frames), "the damaged frame was taken"


@settings(deadline=None, print_blob=True)
@given(st.binary(max_size=300))
def test_noise_raises_nothing_but_a_violation(noise: bytes) -> None:
    try:
        decode(memoryview(noise), 0, len(noise), [])
    except PeerViolation:
        return


def header(kind: int, length: int, *, magic: int = MAGIC, reserved: int = 0) -> bytes:
    """A header whose checksum is right, whatever else is wrong with it."""
    prefix = struct.pack(">HBBHHIQQ", magic, kind, 0, 0, reserved, length, 1, 0)
    return prefix + struct.pack(">Q", xxh3_64_intdigest(prefix))


@pytest.mark.parametrize(
    "bad",
    [
        header(Kind.FLUSH, 0, magic=MAGIC + 1),
        header(Kind.FLUSH, 0, reserved=1),
        header(0, 0),
        header(max(Kind) + 1, 0),
        header(Kind.WRITE, FRAME_PAYLOAD_BYTES_MAX + 1),
        header(Kind.HELLO, STREAM_CONTROL_BYTES_MAX + 1),
        header(Kind.ZERO, ZERO_FRAME_BYTES_MAX + 1),
        header(Kind.WRITE, 2**32 - 1),
    ],
    ids=["magic", "reserved", "kind 0", "kind unknown", "long write", "long hello", "long zero", "huge write"],
)
def test_a_header_that_cannot_be_right_is_refused_before_its_payload(bad: bytes) -> None:
    with pytest.raises(PeerViolation):
        decode(memoryview(bad), 0, len(bad), [])


@pytest.mark.parametrize(
    "kind, length", [(Kind.WRITE, FRAME_PAYLOAD_BYTES_MAX), (Kind.HELLO, STREAM_CONTROL_BYTES_MAX)]
)
def test_the_longest_payload_is_waited_for_and_taken(kind: Kind, length: int) -> None:
    payload = bytes(length)
    data = encode_header(kind, 0, 0, length, 1, 0, payload) + payload
    frames: list[Frame] = []
    assert decode(memoryview(data), 0, len(data) - 1, frames) == 0
    assert frames == []
    assert decode(memoryview(data), 0, len(data), frames) == len(data)
    assert frames[0].length == length


def test_decoding_starts_and_ends_where_it_is_told() -> None:
    one = encode_header(Kind.HEARTBEAT, 0, 0, 0, 0, 0)
    frames: list[Frame] = []
    assert decode(memoryview(b"xx" + one + one), 2, 2 + HEADER_BYTES, frames) == 2 + HEADER_BYTES
    assert len(frames) == 1


def test_json_frames_round_trip() -> None:
    body = {"generation": "g1", "äöü": [1, None, True]}
    data = encode_json(Kind.RESYNC_BEGIN, body, sequence=7)
    frames: list[Frame] = []
    assert decode(memoryview(data), 0, len(data), frames) == len(data)
    assert (frames[0].kind, frames[0].sequence) == (Kind.RESYNC_BEGIN, 7)
    assert decode_json(frames[0]) == body


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"[1]", b"7", b"null", b"\xff\xfe", b"[" * 200_000, b"1" * 10_000, b'{"a":' * 50_000],
    ids=["empty", "cut", "list", "number", "null", "not utf-8", "deep", "long number", "deep object"],
)
def test_a_control_frame_without_a_json_object_is_a_violation(payload: bytes) -> None:
    frame = Frame(Kind.HELLO, 0, 0, len(payload), 0, 0, memoryview(payload))
    with pytest.raises(PeerViolation):
        decode_json(frame)
