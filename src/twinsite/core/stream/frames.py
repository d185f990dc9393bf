"""The codec of the stream: frames to bytes and back, with no I/O. docs/wire-protocol.md has the byte layout.

Encoding gives the header only: the caller puts header and payload side by side into one send, so that a payload is
copied at most once, by that send.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from typing import Any, Final, NamedTuple

from xxhash import xxh3_64_intdigest

from twinsite.core.limits import (
    BLOCK_BYTES,
    COMPARE_READ_BYTES_MAX,
    FETCH_BYTES_MAX,
    FRAME_PAYLOAD_BYTES_MAX,
    STREAM_CONTROL_BYTES_MAX,
    ZERO_FRAME_BYTES_MAX,
)
from twinsite.errors import PeerViolation

MAGIC: Final = 0x5457
"""'TW'."""

PROTOCOL_VERSION: Final = 3
"""Said in the challenge; both ends must speak the same."""

_PREFIX = struct.Struct(">HBBHHIQQ")
_CHECKSUM = struct.Struct(">Q")
_HEADER = struct.Struct(">HBBHHIQQQ")

HEADER_BYTES: Final = _HEADER.size


class Kind(IntEnum):
    """What a frame is."""

    CHALLENGE = 1  # Secondary to primary: JSON, the first frame of a connection.
    HELLO = 2  # Primary to secondary: JSON.
    WELCOME = 3  # Secondary to primary: JSON.
    BYE = 4  # Either way: JSON with the reason; the sender closes after it.
    HEARTBEAT = 5  # Either way.
    WRITE = 6  # Sequenced; carries `length` bytes.
    ZERO = 7  # Sequenced; `length` bytes of zeros, nothing carried.
    FLUSH = 8  # Sequenced; everything before it on this volume becomes durable.
    RESYNC_BEGIN = 9  # Sequenced; JSON: from here on the secondary's image is not consistent.
    RESYNC_END = 10  # Sequenced; JSON: from here on it is; everything before it becomes durable.
    ACK = 11  # Secondary to primary: applied up to `sequence`.
    FLUSHED = 12  # Secondary to primary: the FLUSH or RESYNC_END at `sequence` is durable.
    COMPARE = 13  # Sequenced; a seed and the digest of each block from `offset` on: which of them differ there?
    COMPARE_ZERO = 14  # Sequenced; which blocks of the `length` bytes from `offset` on hold anything but zeros?
    COMPARED = 15  # Secondary to primary: one bit a block of the comparison at `sequence`, set where it differs.
    FETCH = 16  # Sequenced; what does the secondary hold in `length` bytes from `offset` on?
    CONTENT = 17  # Secondary to primary: what the FETCH at `sequence` asked for.
    PACKED = 18  # Sequenced; a WRITE that a resync brings, its data compressed.


class Flag(IntFlag):
    """Modifiers of a frame."""

    NONE = 0
    PUNCH = 1  # ZERO: give the space back.
    RESYNC = 2  # WRITE, ZERO: content that the resync brings, not a host.


SEQUENCED: Final = frozenset(
    {
        Kind.WRITE,
        Kind.ZERO,
        Kind.FLUSH,
        Kind.RESYNC_BEGIN,
        Kind.RESYNC_END,
        Kind.COMPARE,
        Kind.COMPARE_ZERO,
        Kind.FETCH,
        Kind.PACKED,
    }
)
"""Kinds that take a place in the order of the stream; their sequences have no gaps."""
ASKING: Final = frozenset({Kind.COMPARE, Kind.COMPARE_ZERO, Kind.FETCH})
"""Kinds that only look at what the disks hold."""

DIGEST_BYTES: Final = 16
SEED_BYTES: Final = 8
COMPARE_PAYLOAD_BYTES_MAX: Final = SEED_BYTES + DIGEST_BYTES * (COMPARE_READ_BYTES_MAX // BLOCK_BYTES)
COMPARED_PAYLOAD_BYTES_MAX: Final = ZERO_FRAME_BYTES_MAX // BLOCK_BYTES // 8

_JSON_KINDS: Final = frozenset({Kind.CHALLENGE, Kind.HELLO, Kind.WELCOME, Kind.BYE, Kind.RESYNC_BEGIN, Kind.RESYNC_END})

_PAYLOAD_BYTES_MAX: Final[dict[int, int]] = {
    Kind.WRITE: FRAME_PAYLOAD_BYTES_MAX,
    Kind.PACKED: FRAME_PAYLOAD_BYTES_MAX,
    Kind.COMPARE: COMPARE_PAYLOAD_BYTES_MAX,
    Kind.COMPARED: COMPARED_PAYLOAD_BYTES_MAX,
    Kind.CONTENT: FETCH_BYTES_MAX,
    **dict.fromkeys(_JSON_KINDS, STREAM_CONTROL_BYTES_MAX),
}
_KINDS: Final = frozenset(int(kind) for kind in Kind)
_PREFIX_BYTES: Final = _PREFIX.size
_new = tuple.__new__  # Half the time of `Frame(…)`, which is a function in Python.


class Frame(NamedTuple):
    """One decoded frame. `payload` is a view of the receive buffer, valid until that is filled again."""

    kind: int
    flags: int
    volume: int
    length: int
    sequence: int
    offset: int
    payload: memoryview | None


def encode_header(
    kind: int,
    flags: int,
    volume: int,
    length: int,
    sequence: int,
    offset: int,
    payload: bytes | bytearray | memoryview | None = None,
) -> bytes:
    """Return the header of a frame; `payload` goes into its checksum and is to follow the header on the wire."""
    prefix = _PREFIX.pack(MAGIC, kind, flags, volume, 0, length, sequence, offset)
    checksum = xxh3_64_intdigest(prefix)
    if payload is not None:
        checksum = xxh3_64_intdigest(payload, checksum)
    return prefix + _CHECKSUM.pack(checksum)


def encode_json(kind: Kind, body: dict[str, Any], sequence: int = 0) -> bytes:
    """Return a whole frame that carries a JSON object."""
    payload = json.dumps(body, separators=(",", ":")).encode()
    assert len(payload) <= STREAM_CONTROL_BYTES_MAX
    return encode_header(kind, 0, 0, len(payload), sequence, 0, payload) + payload


def decode_json(frame: Frame) -> dict[str, Any]:
    """Return the JSON object that a control frame carries; raise `PeerViolation` if it is none."""
    assert frame.payload is not None
    try:
        body = json.loads(bytes(frame.payload))
    except (ValueError, RecursionError) as error:
        raise PeerViolation(f"{Kind(frame.kind).name} carries no JSON: {error}") from None
    if not isinstance(body, dict):
        raise PeerViolation(f"{Kind(frame.kind).name} carries no JSON object")
    return body


def frame_starts(batch: bytes) -> Iterator[tuple[int, int]]:
    """Yield (start, sequence) of each frame of a batch that this side has encoded."""
    start = 0
    while start < len(batch):
        _, kind, _, _, _, length, sequence, _, _ = _HEADER.unpack_from(batch, start)
        yield start, sequence
        start += HEADER_BYTES + (length if kind in _PAYLOAD_BYTES_MAX else 0)


def decode(buffer: memoryview, start: int, end: int, frames: list[Frame]) -> int:
    """Append the complete frames in `buffer[start:end]` to `frames`; return where the first incomplete one starts.

    Raises `PeerViolation` for a frame that cannot be right: magic, kind, length or checksum.
    """
    unpack = _HEADER.unpack_from
    while end - start >= HEADER_BYTES:
        magic, kind, flags, volume, reserved, length, sequence, offset, checksum = unpack(buffer, start)
        if magic != MAGIC or reserved != 0 or kind not in _KINDS:
            raise PeerViolation(f"not a frame: magic {magic:#06x}, kind {kind}, reserved {reserved}")
        payload_bytes_max = _PAYLOAD_BYTES_MAX.get(kind, 0)
        if length > (payload_bytes_max or ZERO_FRAME_BYTES_MAX):
            raise PeerViolation(f"frame of kind {kind} is too long: {length} bytes")
        payload = None
        next_start = start + HEADER_BYTES
        expected = xxh3_64_intdigest(buffer[start : start + _PREFIX_BYTES])
        if payload_bytes_max:
            if end - next_start < length:
                break
            payload = buffer[next_start : next_start + length]
            expected = xxh3_64_intdigest(payload, expected)
            next_start += length
        if expected != checksum:
            raise PeerViolation(f"checksum of the frame with sequence {sequence} is wrong")
        frames.append(_new(Frame, (kind, flags, volume, length, sequence, offset, payload)))
        start = next_start
    return start
