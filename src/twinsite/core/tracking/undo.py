"""Undo records: the old content of blocks that are about to be overwritten, as bytes that a crash may cut short.

A log is a header and then records, appended and made durable before the blocks that they name are touched. So a log
that ends in the middle of a record has lost nothing: those blocks still hold what the record would have said. Written
for any point in time that one may want to return to, not only for resyncs.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

from twinsite.core.limits import BLOCK_BYTES
from twinsite.errors import PeerViolation

MAGIC: Final = b"TWUNDO01"
_HEADER = struct.Struct(">8sIQ")  # Magic, length of the JSON that follows, its checksum.
_RECORD = struct.Struct(">HHIQQ")  # Volume, flags, length of data, block, checksum.
_IS_ZERO: Final = 1

HEADER_JSON_BYTES_MAX: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class UndoHeader:
    """The point that the log leads back to."""

    generation: str  # The lineage of the image at that point; empty for that of a former primary.
    point_at: float  # When it was left, in seconds since the epoch.
    sizes_bytes: dict[str, int]  # Member index to the size of its volume.
    volume_ids: dict[str, str] = field(default_factory=dict)  # Member index to the volume.

    @property
    def is_former_primary(self) -> bool:
        """Say whether it leads back to what a former primary held: to no lineage, and worth keeping at the end."""
        return not self.generation


class UndoRecord(NamedTuple):
    """One block as it was: `data` is None for a block of zeros. The last block of a volume may be shorter."""

    volume: int
    block: int
    data: memoryview | None


def encode_header(header: UndoHeader) -> bytes:
    """Return the start of a log."""
    body = json.dumps(asdict(header), separators=(",", ":")).encode()
    assert len(body) <= HEADER_JSON_BYTES_MAX
    return _HEADER.pack(MAGIC, len(body), xxh3_64_intdigest(body)) + body


def encode_record(volume: int, block: int, data: bytes | memoryview | None) -> list[bytes | memoryview]:
    """Return the parts of a record."""
    flags = _IS_ZERO if data is None else 0
    content: bytes | memoryview = b"" if data is None else data
    prefix = _RECORD.pack(volume, flags, len(content), block, 0)
    checksum = xxh3_64_intdigest(content, xxh3_64_intdigest(prefix))
    head = _RECORD.pack(volume, flags, len(content), block, checksum)
    return [head, content] if data is not None else [head]


def decode_header(log: memoryview) -> tuple[UndoHeader, int]:
    """Return the header and where the records start; raise `PeerViolation` for what is not a log."""
    if len(log) < _HEADER.size:
        raise PeerViolation("the undo log is shorter than its header")
    magic, length, checksum = _HEADER.unpack_from(log)
    body = bytes(log[_HEADER.size : _HEADER.size + length])
    if magic != MAGIC or length > HEADER_JSON_BYTES_MAX or len(body) != length or xxh3_64_intdigest(body) != checksum:
        raise PeerViolation("the undo log has no valid header")
    value = json.loads(body)
    header = UndoHeader(value["generation"], value["point_at"], value["sizes_bytes"], value.get("volume_ids", {}))
    return header, _HEADER.size + length


def decode_records(log: memoryview, start: int) -> Iterator[tuple[UndoRecord, int]]:
    """Yield each whole record and where it ends, up to the first that is cut short or damaged."""
    while len(log) - start >= _RECORD.size:
        volume, flags, length, block, checksum = _RECORD.unpack_from(log, start)
        content = log[start + _RECORD.size : start + _RECORD.size + length]
        prefix = _RECORD.pack(volume, flags, length, block, 0)
        if length > BLOCK_BYTES or len(content) != length:
            return
        if xxh3_64_intdigest(content, xxh3_64_intdigest(prefix)) != checksum:
            return
        start += _RECORD.size + length
        yield UndoRecord(volume, block, None if flags & _IS_ZERO else content), start
