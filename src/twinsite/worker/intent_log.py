"""The intent log of a primary: before a write touches a cold extent, a record that names it is durable.

Writes to extents that are recorded already cost a look into a byte array. The log is a file that was written as a whole
with room for records to come, so that recording takes no space that might be lacking, and a sync writes no metadata.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from twinsite.core.limits import INTENT_AHEAD_EXTENTS, INTENT_LOG_RECORDS_MAX
from twinsite.core.tracking.intents import (
    RECORD_BYTES,
    IntentMap,
    IntentRecord,
    decode_header,
    decode_records,
    encode_header,
    encode_records,
    extents_of,
)
from twinsite.durable_file import Files, LogFile
from twinsite.errors import PeerViolation, StorageFault
from twinsite.messages import MemberSpec

log = structlog.get_logger(__name__)

Done = Callable[[StorageFault | None], None]


def load_intents(files: Files, path: Path, members: Sequence[MemberSpec]) -> dict[int, IntentMap]:
    """Return what a log says, by member index; a member that it does not know is missing. Raises `StorageFault`."""
    try:
        content = files.read(path)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StorageFault("read the intent log", str(path), error) from error
    with memoryview(content) as view:
        try:
            volume_ids, start = decode_header(view)
        except (PeerViolation, ValueError):
            log.warning("intents.unreadable", path=str(path), consequence="everything is compared")
            return {}
        maps = {m.index: IntentMap(m.size_bytes) for m in members if volume_ids.get(m.index) == m.volume_id}
        for volume, first, count, is_set in decode_records(view, start):
            if (intents := maps.get(volume)) is not None:
                (intents.set if is_set else intents.clear)(first, count)
    return maps


class IntentLog:
    """An open log and the maps that it stands for. Lives on one event loop; only the file is touched by a thread."""

    def __init__(self, files: Files, path: Path, maps: dict[int, IntentMap], volume_ids: Mapping[int, str]) -> None:
        """Write the log anew with what `maps` say. Blocks; raises `StorageFault`."""
        self.maps = maps
        self._files = files
        self._path = path
        self._volume_ids = dict(volume_ids)
        self._log: LogFile | None = None
        self._end = 0
        self._record_count = 0
        self._pending: list[IntentRecord] = []
        self._waiting: list[Done] = []
        self._committing: asyncio.Future[None] | None = None
        self._is_changing = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="intents")
        self._rewrite(self._snapshot())

    def cold_runs(self, volume: int, offset: int, length: int) -> list[IntentRecord]:
        """Return what must be recorded before the range is written. A write that goes on into new extents takes more.

        `IntentMap.touch` has said that some of it is cold.
        """
        intents = self.maps[volume]
        first, end = extents_of(offset, length)
        if first > 0 and intents.states[first - 1]:
            end = min(max(end, first + INTENT_AHEAD_EXTENTS), intents.extent_count)
        return [IntentRecord(volume, start, count, True) for start, count in intents.cold_runs(first, end)]

    def record(self, records: Sequence[IntentRecord], done: Done) -> None:
        """Make the records durable, set them in the maps, and call `done`, with the fault if there was one.

        Records that come while others are being written share the next sync.
        """
        self._pending.extend(records)
        self._waiting.append(done)
        self._start()

    def clear(self, volume: int, first: int, count: int) -> None:
        """Both sides are durable and equal there: let the extents go cold. The record of that need not be durable.

        Nothing goes cold while records are on their way, since they may name the same extents.
        """
        if self._committing is not None:
            return
        self.maps[volume].clear(first, count)
        self._pending.append(IntentRecord(volume, first, count, False))

    def cover(self, volume: int, first: int, count: int) -> None:
        """Note extents that the next `commit` must record; what lies behind the end is left out."""
        for start, number in self.maps[volume].cold_runs(first, min(first + count, self.maps[volume].extent_count)):
            self._pending.append(IntentRecord(volume, start, number, True))

    async def commit(self) -> None:
        """Make durable what was covered. Raises `StorageFault`."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(fault: StorageFault | None) -> None:
            if over.done():
                return
            if fault is None:
                over.set_result(None)
            else:
                over.set_exception(fault)

        self.record([], done)
        await over

    async def change_members(self, members: Sequence[MemberSpec]) -> None:
        """Let volumes in, with all of them recorded, and out. Nobody may wait for a record of one that goes.

        Hosts of the others write on meanwhile: what is being recorded is waited for, and what comes then has its turn
        afterwards. Raises `StorageFault`; nothing has changed then.
        """
        self._is_changing = True
        try:
            while self._committing is not None:
                await asyncio.wait([self._committing])
            self._change_members(members)
        finally:
            self._is_changing = False
            self._start()

    async def close(self) -> None:
        """Finish what is being written, and leave the log where it is."""
        while self._committing is not None:
            await asyncio.wait([self._committing])
        if self._log is not None:
            self._log.close()
            self._log = None
        self._executor.shutdown()

    # Inside

    def _change_members(self, members: Sequence[MemberSpec]) -> None:
        maps, before = {}, (self.maps, self._volume_ids)
        for member in members:
            known = self._volume_ids.get(member.index) == member.volume_id
            intents = self.maps.get(member.index) if known else None
            if intents is None:
                intents = IntentMap(member.size_bytes, all_set=True)
            maps[member.index] = intents
        self.maps, self._volume_ids = maps, {member.index: member.volume_id for member in members}
        try:
            self._rewrite(self._snapshot())
        except StorageFault:
            self.maps, self._volume_ids = before
            raise
        self._pending = [record for record in self._pending if record.volume in maps]

    def _start(self) -> None:
        if self._committing is not None or not self._waiting or self._is_changing:
            return
        records, self._pending = self._pending, []
        waiting, self._waiting = self._waiting, []
        snapshot = None
        if self._record_count + len(records) > INTENT_LOG_RECORDS_MAX or self._log is None:
            snapshot = self._snapshot()
        work = asyncio.get_running_loop().run_in_executor(self._executor, self._commit, records, snapshot)
        self._committing = work
        work.add_done_callback(lambda future: self._committed(future, records, waiting))

    def _committed(self, future: asyncio.Future[None], records: list[IntentRecord], waiting: list[Done]) -> None:
        self._committing = None
        fault: StorageFault | None = None
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            for volume, first, count, is_set in records:
                # What was cleared meanwhile is not among these: only what is recorded can be cleared.
                if is_set and volume in self.maps:
                    self.maps[volume].set(first, count)
        elif isinstance(error, StorageFault):
            fault = error
            log.error("intents.not_recorded", error=str(error))
        else:
            raise error
        for done in waiting:
            done(fault)
        self._start()

    def _snapshot(self) -> list[IntentRecord]:
        return [
            IntentRecord(volume, first, count, True)
            for volume, intents in self.maps.items()
            for first, count in intents.runs()
        ]

    def _commit(self, records: list[IntentRecord], snapshot: list[IntentRecord] | None) -> None:
        """In the thread: append, or write the log anew, as after an append that failed."""
        if snapshot is not None:
            self._rewrite([*snapshot, *records])
            return
        data = encode_records(records)
        assert self._log is not None
        try:
            self._log.write([data], self._end)
            self._log.sync()
        except OSError as error:
            self._log.close()
            self._log = None
            raise StorageFault("append to the intent log", str(self._path), error) from error
        self._end += len(data)
        self._record_count += len(records)

    def _rewrite(self, records: list[IntentRecord]) -> None:
        start = encode_header(self._volume_ids) + encode_records(records)
        room = INTENT_LOG_RECORDS_MAX * RECORD_BYTES
        if self._log is not None:
            self._log.close()
            self._log = None
        try:
            self._files.replace(self._path, start + bytes(room))
            self._log = self._files.open_log(self._path)
        except OSError as error:
            raise StorageFault("write the intent log", str(self._path), error) from error
        self._end = len(start)
        self._record_count = 0
