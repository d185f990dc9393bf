"""Write intents: which extents may differ between the two sides after a crash, as a map and as records of a log.

An extent is *cold* until a record that names it is durable; only then may a write touch it. It goes cold again when
both sides have flushed after its last write, and nothing of it is known to differ. So after any crash, whatever
differs, or was acknowledged and may not be durable, lies in the extents that the log names.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

from twinsite.core.limits import BLOCK_BYTES, EXTENT_BYTES
from twinsite.errors import PeerViolation

COLD: Final = 0
"""No write may touch the extent before it is recorded."""
IDLE: Final = 1
"""Recorded, and not touched since the map was last aged."""
HOT: Final = 2
"""Recorded, and touched since."""

EXTENT_BLOCKS: Final = EXTENT_BYTES // BLOCK_BYTES

MAGIC: Final = b"TWINTT01"
_HEADER = struct.Struct(">8sIQ")  # Magic, length of the JSON that follows, its checksum.
_RECORD = struct.Struct(">BBHIIQ")  # A mark, operation, member, first extent, count of extents, checksum.
_MARK: Final = 0x54
HEADER_JSON_BYTES_MAX: Final = 256 * 1024

RECORD_BYTES: Final = _RECORD.size


class IntentRecord(NamedTuple):
    """Extents of a member from `first` on are intended to be written, or are so no more."""

    volume: int  # The member's index.
    first: int
    extent_count: int
    is_set: bool


class IntentMap:
    """The extents of one member. `states` has one byte an extent: COLD, IDLE or HOT; the hot path reads it directly."""

    def __init__(self, size_bytes: int, *, all_set: bool = False) -> None:
        self.extent_count = -(-size_bytes // EXTENT_BYTES)
        self.states = bytearray(bytes([HOT if all_set else COLD]) * self.extent_count)

    def touch(self, offset: int, length: int) -> bool:
        """Note that a write to the range is about to happen; False when an extent of it is cold."""
        first, end = extents_of(offset, length)
        if self.states.find(COLD, first, end) >= 0:
            return False
        self.states[first:end] = bytes([HOT]) * (end - first)
        return True

    def set(self, first: int, count: int) -> None:
        """These extents are recorded now."""
        end = min(first + count, self.extent_count)
        self.states[first:end] = bytes([HOT]) * (end - first)

    def clear(self, first: int, count: int) -> None:
        """These extents are cold from now on."""
        end = min(first + count, self.extent_count)
        self.states[first:end] = bytes(end - first)

    def grow(self, size_bytes: int) -> None:
        """Cover a volume that has grown to `size_bytes`; what is new is cold."""
        extent_count = -(-size_bytes // EXTENT_BYTES)
        assert extent_count >= self.extent_count
        self.states.extend(bytes(extent_count - self.extent_count))
        self.extent_count = extent_count

    def age(self) -> None:
        """From now on, an extent is HOT only if it is touched again."""
        self.states[:] = self.states.replace(bytes([HOT]), bytes([IDLE]))

    def runs(self) -> list[tuple[int, int]]:
        """Return (first, count) of each run of extents that are recorded."""
        return _runs(self.states, rb"[\x01\x02]+")

    def idle_runs(self) -> list[tuple[int, int]]:
        """Return (first, count) of each run of recorded extents that nothing has touched since `age`."""
        return _runs(self.states, rb"\x01+")

    def cold_runs(self, first: int, end: int) -> list[tuple[int, int]]:
        """Return (first, count) of each run of cold extents among those from `first` to before `end`."""
        return [(first + start, count) for start, count in _runs(self.states[first:end], rb"\x00+")]

    def any(self) -> bool:
        """Say whether any extent is recorded."""
        return self.states.count(COLD) < self.extent_count


def extents_of(offset: int, length: int) -> tuple[int, int]:
    """Return (first, end) of the extents that a range in bytes touches."""
    return offset // EXTENT_BYTES, (offset + length - 1) // EXTENT_BYTES + 1


def encode_header(members: Mapping[int, str]) -> bytes:
    """Return the start of a log: the volume id behind each member index that its records use."""
    body = json.dumps({str(index): volume_id for index, volume_id in members.items()}).encode()
    assert len(body) <= HEADER_JSON_BYTES_MAX
    return _HEADER.pack(MAGIC, len(body), xxh3_64_intdigest(body)) + body


def decode_header(log: memoryview) -> tuple[dict[int, str], int]:
    """Return the members and where the records start; raise `PeerViolation` for what is not a log."""
    if len(log) < _HEADER.size:
        raise PeerViolation("the intent log is shorter than its header")
    magic, length, checksum = _HEADER.unpack_from(log)
    body = bytes(log[_HEADER.size : _HEADER.size + length])
    if magic != MAGIC or length > HEADER_JSON_BYTES_MAX or len(body) != length or xxh3_64_intdigest(body) != checksum:
        raise PeerViolation("the intent log has no valid header")
    return {int(index): volume_id for index, volume_id in json.loads(body).items()}, _HEADER.size + length


def encode_records(records: Iterable[IntentRecord]) -> bytes:
    """Return records as they stand in the log."""
    parts = []
    for volume, first, extent_count, is_set in records:
        body = _RECORD.pack(_MARK, is_set, volume, first, extent_count, 0)
        parts.append(_RECORD.pack(_MARK, is_set, volume, first, extent_count, xxh3_64_intdigest(body)))
    return b"".join(parts)


def decode_records(log: memoryview, start: int) -> Iterator[IntentRecord]:
    """Yield the records up to the first that is damaged: what follows was never durable, so no write relied on it."""
    while len(log) - start >= _RECORD.size:
        mark, is_set, volume, first, extent_count, checksum = _RECORD.unpack_from(log, start)
        body = _RECORD.pack(mark, is_set, volume, first, extent_count, 0)
        if mark != _MARK or xxh3_64_intdigest(body) != checksum:
            return
        yield IntentRecord(volume, first, extent_count, bool(is_set))
        start += _RECORD.size


def _runs(states: bytes | bytearray, pattern: bytes) -> list[tuple[int, int]]:
    return [(match.start(), match.end() - match.start()) for match in re.finditer(pattern, states)]
