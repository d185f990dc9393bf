"""A volume's disk whose flushes fail, and a secondary that brings what is to be healed then."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.leader import SIZE
from tests.support.stream import FramePipe, acknowledge
from twinsite.core.stream.frames import Frame, Kind, encode_header

CONTENT = b"c" * SIZE
"""What the secondary holds."""


class FailingDisk:
    """Lets the next flushes of the volume fail, as the kernel does: what was not written back may be gone at once."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failures_left = 0
        self.descriptors: list[int] = []
        self._path = path
        self._fdatasync = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self._sync)

    def _sync(self, fd: int) -> None:
        if self.failures_left and os.path.samestat(os.fstat(fd), self._path.stat()):
            self.failures_left -= 1
            self.descriptors.append(fd)
            self._path.write_bytes(bytes(SIZE))
            raise OSError(5, "Input/output error")
        self._fdatasync(fd)


async def bring_all(pipe: FramePipe, size_bytes: int = SIZE) -> None:
    """Answer the fetches of the whole disk, or of what is left of it."""
    while size_bytes > 0:
        frame = await pipe.expect(Kind.FETCH)
        await bring(pipe, frame)
        size_bytes -= frame.length


async def bring(pipe: FramePipe, fetch: Frame) -> None:
    """Answer one fetch."""
    data = CONTENT[fetch.offset : fetch.offset + fetch.length]
    header = encode_header(Kind.CONTENT, 0, fetch.volume, len(data), fetch.sequence, fetch.offset, data)
    await pipe.send(acknowledge(fetch.sequence), header + data)
