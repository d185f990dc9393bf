"""The undo log of a secondary: before a resync overwrites a consistent image, what it overwrites is kept.

One log covers all disks of the group from one common point. A block is saved once, before its first change. Everything
here blocks and belongs in a thread; one call at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

import structlog
from bitarray import bitarray

from twinsite.core.limits import BLOCK_BYTES, RESYNC_READ_BYTES_MAX, VOLUME_BYTES_MAX
from twinsite.core.stream.frames import Frame, Kind
from twinsite.core.tracking.kept import is_kept_name, kept_name
from twinsite.core.tracking.undo import (
    UndoHeader,
    decode_header,
    decode_records,
    encode_header,
    encode_record,
)
from twinsite.durable_file import Files, LogFile
from twinsite.errors import PeerViolation, StorageFault
from twinsite.stores.base import Store

log = structlog.get_logger(__name__)

_ZERO_BLOCK = bytes(BLOCK_BYTES)
KEPT_LOGS_MAX = 8
"""Logs of former primaries that are kept for one group. Past them no other one begins: only a person discards any."""
BLOCKS_MAX = VOLUME_BYTES_MAX // BLOCK_BYTES
"""Most blocks of one volume."""


def is_kept(path: Path) -> bool:
    """Say whether a file is the kept log of a former primary."""
    return is_kept_name(path.name)


class UndoLog:
    """An open log. Made by `begin` or `resume`."""

    def __init__(
        self, files: Files, path: Path, log: LogFile, header: UndoHeader, end: int, saved: dict[int, bitarray]
    ) -> None:
        self.header = header
        self._files = files
        self._path = path
        self._log = log
        self._end = end
        self._saved = saved
        self._is_synced = True

    @classmethod
    def begin(cls, files: Files, path: Path, header: UndoHeader) -> UndoLog:
        """Start a log at the point that `header` names, durable before this returns.

        Raises `StorageFault`, also where as many logs of former primaries are kept as may be.
        """
        start = encode_header(header)
        try:
            if header.is_former_primary:
                _refuse_too_many(_kept_logs(files, path.parent), path.parent)
            log = files.create_log(path)
            try:
                log.write([start], 0)
                log.sync()
            except BaseException:
                log.close()
                raise
        except OSError as error:
            raise StorageFault("begin the undo log", str(path), error) from error
        return cls(files, path, log, header, len(start), _empty(header))

    @classmethod
    def resume(cls, files: Files, path: Path) -> UndoLog | None:
        """Open the log that a crash or a stop has left, or return None when there is none to be used."""
        try:
            log = files.open_log(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageFault("open the undo log", str(path), error) from error
        try:
            with log.view() as view:
                header, end = decode_header(view)
                saved = _empty(header)
                for record, after in decode_records(view, end):
                    _cover(saved[record.volume], record.block + 1)
                    saved[record.volume][record.block] = 1
                    end = after
                    if record.data is not None:
                        record.data.release()
            # Records after a damaged one name blocks that were not touched either; they must not follow new ones.
            log.truncate(end)
        except (PeerViolation, ValueError, LookupError):
            log.close()
            return None
        except OSError as error:
            log.close()
            raise StorageFault("read the undo log", str(path), error) from error
        return cls(files, path, log, header, end, saved)

    def grow(self, sizes_bytes: Mapping[int, int]) -> None:
        """Cover members that have grown, by index. At the log's point their new range was zeros, which are kept too."""
        for index, size_bytes in sizes_bytes.items():
            _cover(self._saved[index], -(-size_bytes // BLOCK_BYTES))

    def save(self, stores: Mapping[int, Store], operations: Sequence[Frame]) -> None:
        """Keep the old content of every block that `operations` will change for the first time, durable on return.

        Raises `StorageFault`: the operations must not be applied then, and the log must be resumed anew.
        """
        parts: list[bytes | memoryview] = []
        for operation in operations:
            if operation.kind == Kind.WRITE:
                self._keep(stores[operation.volume], operation, operation.offset, operation.length, parts)
            elif operation.kind == Kind.ZERO:
                # What is a hole already does not change.
                for extent in stores[operation.volume].extents(operation.offset, operation.length):
                    if not extent.is_hole:
                        self._keep(stores[operation.volume], operation, extent.offset, extent.length, parts)
        self._append(parts)
        if not self._is_synced:
            self._sync()

    def roll_back(self, stores: Mapping[int, Store]) -> None:
        """Put every saved block back and make that durable. Safe to repeat after a crash."""
        with self._log.view() as view:
            _, start = decode_header(view)
            for record, _ in decode_records(view[: self._end], start):
                store = stores[record.volume]
                offset = record.block * BLOCK_BYTES
                if record.data is None:
                    store.zero(offset, min(BLOCK_BYTES, store.size_bytes - offset), punch=True)
                else:
                    end = offset + len(record.data)
                    store.write(record.data, offset)
                    record.data.release()
                    rest = min(offset + BLOCK_BYTES, store.size_bytes) - end
                    if rest > 0:  # It was kept before its disk grew, when nothing followed it.
                        store.zero(end, rest, punch=True)
        for store in stores.values():
            store.flush()

    def size_bytes(self) -> int:
        """Return how much space the log takes."""
        return self._end

    def close(self) -> None:
        """Leave the log where it is. Idempotent."""
        self._log.close()

    def discard(self) -> None:
        """The image is consistent again without it. On return it cannot come back. Raises `StorageFault`."""
        self.close()
        try:
            self._files.remove(self._path)
        except OSError as error:
            raise StorageFault("remove the undo log", str(self._path), error) from error

    def finish(self) -> None:
        """The image is consistent again without it. What a former primary alone had is kept readable all the same.

        Raises `StorageFault`.
        """
        if not self.header.is_former_primary or self._end == len(encode_header(self.header)):
            self.discard()
            return
        self.close()
        directory = self._path.parent
        try:
            kept = {path.name for path in _kept_logs(self._files, directory)}
            names = (kept_name(self.header.point_at, number) for number in count(1))  # A clock may go back.
            new_path = directory / next(name for name in names if name not in kept)
            self._files.rename(self._path, new_path)
        except OSError as error:
            raise StorageFault("keep the undo log", str(self._path), error) from error
        log.info("undo.kept", path=str(new_path), count=len(kept) + 1, count_max=KEPT_LOGS_MAX)

    # Inside

    def _keep(self, store: Store, operation: Frame, offset: int, length: int, parts: list[bytes | memoryview]) -> None:
        """Append records for the blocks of a range that are not saved and will not hold the same afterwards."""
        saved = self._saved[operation.volume]
        first, end = offset // BLOCK_BYTES, -(-(offset + length) // BLOCK_BYTES)
        pending_bytes = 0
        for block in range(first, end):
            if saved[block]:
                continue
            start = block * BLOCK_BYTES
            old = bytearray(min(BLOCK_BYTES, store.size_bytes - start))
            store.read_into(old, start)
            if _stays(old, start, operation):
                continue
            is_zero = old == _ZERO_BLOCK[: len(old)]
            parts.extend(encode_record(operation.volume, block, None if is_zero else memoryview(old)))
            saved[block] = 1
            pending_bytes += len(old)
            if pending_bytes >= RESYNC_READ_BYTES_MAX:
                self._append(parts)
                pending_bytes = 0

    def _append(self, parts: list[bytes | memoryview]) -> None:
        """Write the parts; what is not synced may be lost in a crash, and the blocks are not touched before that."""
        if not parts:
            return
        try:
            self._end += self._log.write(parts, self._end)
        except OSError as error:
            raise StorageFault("append to the undo log", str(self._path), error) from error
        parts.clear()
        self._is_synced = False

    def _sync(self) -> None:
        try:
            self._log.sync()
        except OSError as error:
            raise StorageFault("flush the undo log", str(self._path), error) from error
        self._is_synced = True


def _kept_logs(files: Files, directory: Path) -> list[Path]:
    return [path for path in files.list(directory) if is_kept(path)]


def _refuse_too_many(kept: list[Path], directory: Path) -> None:
    """Raise `StorageFault` rather than lose what nobody has but the oldest of these logs."""
    if len(kept) >= KEPT_LOGS_MAX:
        raise StorageFault(
            "keep what this former primary alone has",
            str(directory),
            f"{len(kept)} such logs are kept of this group, which is the most; on that machine, look at them with "
            f"'twinsite kept list {directory}', and discard what nobody needs: 'twinsite kept discard {kept[0]}'",
        )


def _stays(old: bytearray, start: int, operation: Frame) -> bool:
    """Say whether a block will hold the same after the operation."""
    begin = max(operation.offset, start)
    end = min(operation.offset + operation.length, start + len(old))
    before = memoryview(old)[begin - start : end - start]
    if operation.kind == Kind.ZERO:
        return bytes(before) == _ZERO_BLOCK[: len(before)]
    assert operation.payload is not None
    return bytes(before) == bytes(operation.payload[begin - operation.offset : end - operation.offset])


def _empty(header: UndoHeader) -> dict[int, bitarray]:
    saved = {}
    for index, size_bytes in header.sizes_bytes.items():
        saved[int(index)] = bitarray(-(-size_bytes // BLOCK_BYTES))
        saved[int(index)].setall(False)
    return saved


def _cover(saved: bitarray, block_count: int) -> None:
    """Make a map of saved blocks at least this long."""
    if len(saved) < block_count <= BLOCKS_MAX:
        saved.extend(bitarray(block_count - len(saved)))
