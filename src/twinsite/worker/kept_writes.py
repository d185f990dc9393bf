"""What a former primary held and nobody else acknowledged: read from the log that was kept when it was overwritten."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from twinsite.core.limits import BLOCK_BYTES
from twinsite.core.tracking.undo import UndoHeader, UndoRecord, decode_header, decode_records
from twinsite.durable_file import SystemFiles
from twinsite.errors import ConfigurationError, PeerViolation
from twinsite.worker.undo_log import is_kept


@dataclass(frozen=True, slots=True)
class KeptWrites:
    """One kept log. `blocks` counts the blocks of each volume, by volume id."""

    path: Path
    header: UndoHeader
    blocks: dict[str, int]


def find_kept(directory: Path) -> list[KeptWrites]:
    """Return the logs that are kept anywhere below a site's directory, the oldest first."""
    paths = sorted(path for path in directory.rglob("*.log") if is_kept(path))
    return sorted((_describe(path) for path in paths), key=lambda kept: kept.header.point_at)


def put_back(path: Path, volume_id: str, copy: Path) -> int:
    """Write what a log keeps of a volume into `copy`, a copy of the volume's disk; return how many bytes that was.

    The copy then holds what the former primary's disk held, if it was taken after the log was kept and the disk was not
    written to since. Raises `ConfigurationError`.
    """
    count = 0
    header = _describe(path).header
    indexes = {int(index) for index, name in header.volume_ids.items() if name == volume_id}
    if not indexes:
        known = ", ".join(sorted(header.volume_ids.values()))
        raise ConfigurationError(f"{path} keeps nothing of volume {volume_id}; it knows {known}")
    try:
        fd = os.open(copy, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"{copy} cannot be written to: {error.strerror}") from None
    try:
        for record in _records(path):
            if record.volume in indexes:
                data = bytes(BLOCK_BYTES) if record.data is None else record.data
                end = header.sizes_bytes[str(record.volume)]
                count += os.pwrite(fd, data[: end - record.block * BLOCK_BYTES], record.block * BLOCK_BYTES)
        os.fsync(fd)
    finally:
        os.close(fd)
    return count


def _describe(path: Path) -> KeptWrites:
    try:
        log = SystemFiles().open_log(path)
        try:
            with log.view() as view:
                header, _ = decode_header(view)
        finally:
            log.close()
    except (OSError, PeerViolation, ValueError, KeyError) as error:
        raise ConfigurationError(f"{path} is not a kept log: {error}") from None
    blocks: dict[str, int] = {}
    for record in _records(path):
        volume_id = header.volume_ids.get(str(record.volume), str(record.volume))
        blocks[volume_id] = blocks.get(volume_id, 0) + 1
    return KeptWrites(path, header, blocks)


def _records(path: Path) -> Iterator[UndoRecord]:
    log = SystemFiles().open_log(path)
    try:
        with log.view() as view:
            _, start = decode_header(view)
            for record, _ in decode_records(view, start):
                yield record._replace(data=None if record.data is None else memoryview(bytes(record.data)))
                if record.data is not None:
                    record.data.release()
    finally:
        log.close()
