"""One volume of a group at the primary: how it may differ from its twin, and the resync of it."""

from __future__ import annotations

from dataclasses import dataclass

from twinsite.core.group.comparing import MemberCompare
from twinsite.core.group.resync import MemberResync
from twinsite.core.limits import BLOCK_BYTES
from twinsite.core.tracking.dirty_map import DirtyMap


@dataclass(slots=True)
class ResyncTally:
    """What a resync had to cover and has covered, in bytes of volume."""

    kind: str  # "full" or "delta"
    bytes_total: int
    bytes_shipped: int = 0
    bytes_zero: int = 0
    bytes_compared: int = 0  # Answered comparisons, whatever the answer.


class Member:
    """One volume. `dirty` differs and will be copied; `suspect` may differ and will be compared first."""

    def __init__(self, index: int, volume_id: str, dirty: DirtyMap, suspect: DirtyMap | None = None) -> None:
        self.index = index
        self.volume_id = volume_id
        self.dirty = dirty
        self.suspect = suspect if suspect is not None else DirtyMap(dirty.size_bytes)
        self.resync = MemberResync(index, dirty)
        self.compare = MemberCompare(index, self.suspect)
        self.resync_bytes_total = self.differing_bytes()

    def bytes_of(self, first_block: int, block_count: int) -> int:
        """Return how many bytes of the volume these blocks cover; its last block may be short."""
        return min(block_count * BLOCK_BYTES, self.dirty.size_bytes - first_block * BLOCK_BYTES)

    def differs(self) -> bool:
        """Say whether anything is dirty or suspected."""
        return self.dirty.any() or self.suspect.any()

    def differing_bytes(self) -> int:
        """Return how many bytes are dirty or suspected."""
        return self.dirty.dirty_bytes() + self.suspect.dirty_bytes()
