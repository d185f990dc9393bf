"""What is on its way to the secondary: frames not acknowledged, flushes not answered, and the bytes to send again."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import NamedTuple

from twinsite.core.limits import BLOCK_BYTES, PACKED_BYTES_A_BYTE, ZERO_BYTES_A_BYTE
from twinsite.core.stream.frames import frame_starts

Token = Hashable
"""Whom to tell when a request is done; opaque here."""
_new = tuple.__new__  # Half the time of `Entry(…)`, which is a function in Python.


class Entry(NamedTuple):
    """A sequenced frame that the secondary has not acknowledged."""

    sequence: int
    volume: int
    offset: int
    length: int  # Bytes of volume that it changes; 0 for frames without content.
    payload_bytes: int
    is_resync: bool
    token: Token | None


class FlushWaiter:
    """A flush or FUA write: done when both sides have made it durable."""

    __slots__ = ("index", "is_local_done", "is_remote_done", "token")

    def __init__(self, index: int, token: Token, *, is_remote_done: bool) -> None:
        self.index = index
        self.token: Token | None = token
        self.is_local_done = False
        self.is_remote_done = is_remote_done


class Flight:
    """The frames between a primary and what its secondary has acknowledged, oldest first."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque()
        self.waiters: dict[int, FlushWaiter] = {}  # By the sequence of their FLUSH.
        self.payload_bytes = 0
        self.resync_bytes = 0
        self.arrived_bytes = 0
        """Of volumes, that resyncs have brought to the secondary as data."""
        self.resync_bytes_of: dict[int, int] = {}  # By volume, bytes of volume and not of payload.
        self._kept: deque[tuple[int, bytes]] = deque()  # (last sequence, joined frames)

    def add(
        self,
        sequence: int,
        volume: int,
        offset: int,
        length: int,
        payload_bytes: int,
        is_resync: bool,
        token: Token | None,
    ) -> None:
        """Count a frame as sent."""
        self.payload_bytes += payload_bytes
        if is_resync:
            self.resync_bytes += _price(payload_bytes, length)
            self.resync_bytes_of[volume] = self.resync_bytes_of.get(volume, 0) + length
        self.entries.append(_new(Entry, (sequence, volume, offset, length, payload_bytes, is_resync, token)))

    def acknowledge(self, sequence: int, completed: list[Token]) -> None:
        """Everything up to `sequence` is applied: append whom to tell to `completed`."""
        entries = self.entries
        while entries and entries[0].sequence <= sequence:
            entry = entries.popleft()
            self.payload_bytes -= entry.payload_bytes
            if entry.token is not None:
                completed.append(entry.token)
            if entry.is_resync:
                self.resync_bytes -= _price(entry.payload_bytes, entry.length)
                self.resync_bytes_of[entry.volume] -= entry.length
                if entry.payload_bytes:
                    self.arrived_bytes += entry.length
        kept = self._kept
        while kept and kept[0][0] <= sequence:
            kept.popleft()

    def keep(self, last_sequence: int, batch: bytes) -> None:
        """Hold on to a batch that was sent, for the case that it must be sent again."""
        self._kept.append((last_sequence, batch))

    def take_frames_to_resend(self, acknowledged: int) -> list[bytes]:
        """Return the kept bytes from the first frame after `acknowledged` on; they are kept again when they are sent.

        Frames that were acknowledged must not be sent again: a newer acknowledged one may follow them, and the
        secondary would lack it until that one came round.
        """
        parts: list[bytes] = []
        for last_sequence, batch in self._kept:
            if last_sequence <= acknowledged:
                continue
            parts.append(batch if parts else _after(batch, acknowledged))
        self._kept.clear()
        return parts

    def clear(self) -> tuple[list[Entry], list[FlushWaiter]]:
        """Forget everything; return what it was."""
        entries, waiters = list(self.entries), list(self.waiters.values())
        self.entries.clear()
        self.waiters.clear()
        self._kept.clear()
        self.payload_bytes = self.resync_bytes = 0
        self.resync_bytes_of.clear()
        return entries, waiters


def _price(payload_bytes: int, length: int) -> int:
    """Return what a resync frame counts for in what may be in flight.

    Zeroing costs the secondary time, and is cheaper than writing: it counts for a sixteenth. A small one counts for no
    less than a block, and a disk of many holes need not wait for each of them. What is packed has to be written like
    any other: it counts for a quarter of that at least.
    """
    if payload_bytes:
        return max(payload_bytes, length // PACKED_BYTES_A_BYTE)
    return max(BLOCK_BYTES, length // ZERO_BYTES_A_BYTE)


def _after(batch: bytes, acknowledged: int) -> bytes:
    """Cut the frames up to `acknowledged` off a batch."""
    for start, sequence in frame_starts(batch):
        if sequence > acknowledged:
            return batch[start:]
    return b""
