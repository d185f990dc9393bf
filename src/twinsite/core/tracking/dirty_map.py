"""The dirty map of one volume: which blocks the secondary may lack. One bit for each block of `BLOCK_BYTES`."""

from __future__ import annotations

from bitarray import bitarray

from twinsite.core.limits import BLOCK_BYTES, VOLUME_BYTES_MAX
from twinsite.errors import PeerViolation


class DirtyMap:
    """A set of blocks of a volume of `size_bytes`. Offsets and lengths are in bytes and inside the volume."""

    def __init__(self, size_bytes: int, *, all_dirty: bool = False) -> None:
        assert 0 < size_bytes <= VOLUME_BYTES_MAX
        self.size_bytes = size_bytes
        self.block_count = -(-size_bytes // BLOCK_BYTES)
        self._bits = bitarray(self.block_count)
        self._bits.setall(all_dirty)

    def mark(self, offset: int, length: int) -> None:
        """Add every block that the range touches."""
        first = offset // BLOCK_BYTES
        last = (offset + length - 1) // BLOCK_BYTES
        if first == last:
            self._bits[first] = 1
        else:
            self._bits[first : last + 1] = True

    def mark_all(self) -> None:
        """Add every block."""
        self._bits.setall(True)

    def mark_blocks(self, first: int, count: int) -> None:
        """Add `count` blocks from block number `first` on; what would lie behind the end is left out."""
        end = min(first + count, self.block_count)
        if first < end:
            self._bits[first:end] = True

    def add(self, other: DirtyMap) -> None:
        """Add every block of another map of the same volume."""
        self._bits |= other._bits

    def remove(self, other: DirtyMap) -> None:
        """Remove every block of another map of the same volume."""
        self._bits &= ~other._bits

    def clear(self) -> None:
        """Remove every block."""
        self._bits.setall(False)

    def clear_blocks(self, first: int, count: int) -> None:
        """Remove `count` blocks from block number `first` on."""
        self._bits[first : first + count] = False

    def covers(self, offset: int, length: int) -> bool:
        """Say whether every block that the range touches is in the map."""
        first = offset // BLOCK_BYTES
        last = (offset + length - 1) // BLOCK_BYTES
        if first == last:
            return bool(self._bits[first])
        return self._bits.find(0, first, last + 1) < 0

    def touches(self, first: int, count: int) -> bool:
        """Say whether any of `count` blocks from `first` on is in the map."""
        return self._bits.find(1, first, first + count) >= 0

    def grow(self, size_bytes: int) -> None:
        """Cover a volume that has grown to `size_bytes`. What is new is clean: it reads as zeros on both sides."""
        assert self.size_bytes <= size_bytes <= VOLUME_BYTES_MAX
        self.size_bytes = size_bytes
        self.block_count = -(-size_bytes // BLOCK_BYTES)
        self._bits.extend(bitarray(self.block_count - len(self._bits)))

    def any(self) -> bool:
        """Say whether the map holds any block."""
        return self._bits.any()

    def next_run(self, start_block: int, count_max: int) -> tuple[int, int] | None:
        """Return (first, count) of the next run of blocks at or after `start_block`, cut to `count_max`, or None."""
        first = self._bits.find(1, start_block)
        if first < 0:
            return None
        end = self._bits.find(0, first + 1, min(first + count_max, self.block_count))
        if end < 0:
            end = min(first + count_max, self.block_count)
        return first, end - first

    def runs(self) -> list[tuple[int, int]]:
        """Return (first, count) of every run of blocks."""
        runs = []
        start = 0
        while start < self.block_count and (run := self.next_run(start, self.block_count)) is not None:
            runs.append(run)
            start = run[0] + run[1]
        return runs

    def dirty_bytes(self) -> int:
        """Return the bytes of volume that the map's blocks cover."""
        count = self._bits.count()
        missing = self.block_count * BLOCK_BYTES - self.size_bytes
        if missing and self._bits[-1]:
            return count * BLOCK_BYTES - missing
        return count * BLOCK_BYTES

    def to_bytes(self) -> bytes:
        """Return the map for storing; block 0 is the highest bit of the first byte."""
        return self._bits.tobytes()

    @classmethod
    def from_bytes(cls, size_bytes: int, data: bytes) -> DirtyMap:
        """Rebuild a stored map; raise `PeerViolation` when it is one of a larger volume.

        A shorter map was stored before the volume grew: what it does not speak of is clean.
        """
        dirty = cls(size_bytes)
        if len(data) > -(-dirty.block_count // 8):
            raise PeerViolation(f"a dirty map of {len(data)} bytes does not fit a volume of {size_bytes} bytes")
        bits = bitarray(buffer=data)[: dirty.block_count]
        dirty._bits[: len(bits)] = bits
        return dirty
