"""An unmirrored volume: NBD requests executed on a backing store.

Rules of ordering:
- Writes and short zeroings happen at once, on the event loop, in the order of the requests: they end in the page cache.
- A long zeroing runs in a thread. A write that overlaps it waits for it, so that the order in which changes take effect
  is the order in which the hooks see them; a mirror depends on that.
- Reads come from the page cache at once, or else from a thread. NBD leaves the order of overlapping requests in flight
  to the server, so a read need not wait for writes.
- A flush runs in a thread, one at a time; those that arrive meanwhile share the next one. It begins after their
  arrival, so it covers everything that was completed before they were sent, on whatever connection.

A subclass overrides the hooks (`write_applied`, `zero_applied`, `flush_applied`, `change_failed`, `flush_failed`,
`batch_done`) to do
more than complete the request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar

from twinsite.core import limits
from twinsite.core.nbd.constants import Command, CommandFlag
from twinsite.errors import InternalError, StorageFault
from twinsite.messages import MemberSpec
from twinsite.stores.base import Extent, Store
from twinsite.worker.device import ExportInfo, ReplySink, Request

# Plain numbers: an enumeration's members cost more to compare, and this runs for every request.
_READ = int(Command.READ)
_WRITE = int(Command.WRITE)
_FLUSH = int(Command.FLUSH)
_TRIM = int(Command.TRIM)
_CACHE = int(Command.CACHE)
_WRITE_ZEROES = int(Command.WRITE_ZEROES)
_BLOCK_STATUS = int(Command.BLOCK_STATUS)
_FUA = int(CommandFlag.FUA)
_NO_HOLE = int(CommandFlag.NO_HOLE)
_REQ_ONE = int(CommandFlag.REQ_ONE)

Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True, eq=False)
class _LongZero:
    """A zeroing that runs in a thread."""

    request: Request
    sink: ReplySink
    future: Future[StorageFault | None]


def export_info(member: MemberSpec, store: Store) -> ExportInfo:
    """Return what a client is told about a member that lies in `store`."""
    return ExportInfo(
        name=member.volume_id,
        description=f"Twinsite volume {member.volume_id}",
        size_bytes=member.size_bytes,
        can_fast_zero=store.can_punch,
    )


class StoreDevice:
    """A `worker.device.Device` on one store. Lives on one event loop; only the store is called from threads."""

    def __init__(self, info: ExportInfo, store: Store, executor: Executor) -> None:
        """Serve `store` as `info`, with `executor` for calls that may wait for the disk. Takes over neither."""
        assert info.size_bytes <= store.size_bytes
        self.info = info
        self.store = store
        self.reads = 0
        self.read_bytes = 0
        self.writes = 0
        self.write_bytes = 0
        self.flushes = 0
        self._executor = executor
        self._broken_writes: dict[tuple[ReplySink, int], int] = {}  # Sink and cookie to errno, until the last piece.
        self._zeroing: list[_LongZero] = []
        self._flush_running: list[tuple[Request, ReplySink]] = []
        self._flush_waiting: list[tuple[Request, ReplySink]] = []
        self._finished: deque[tuple[Callable[[Any], None], Future[Any]]] = deque()
        self._touched: dict[ReplySink, None] = {}  # Sinks with replies queued outside `submit`.
        self._is_wakeup_due = False
        self._is_halted = False
        self._jobs = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def grow(self, size_bytes: int) -> None:
        """Show hosts that connect from now on a larger volume; the store has grown. Others keep what they were told."""
        assert self.info.size_bytes <= size_bytes <= self.store.size_bytes
        self.info = replace(self.info, size_bytes=size_bytes)

    def halt(self) -> None:
        """Execute nothing any more, and answer no read: what the store shows is not to be believed.

        Hosts wait until they are cut off.
        """
        self._is_halted = True

    # The contract of `worker.device.Device`.

    def submit(self, batch: Sequence[Request], sink: ReplySink) -> None:
        """Execute the batch in order; complete what needs no waiting before returning."""
        if self._is_halted:
            return
        for request in batch:
            command = request[0]
            if command == _WRITE:
                self._write(request, sink)
            elif command == _READ:
                self._read(request, sink)
            elif command in {_WRITE_ZEROES, _TRIM}:
                self._zero(request, sink)
            elif command == _FLUSH:
                self.flushes += 1
                self.flush_local(request, sink)
            elif command == _BLOCK_STATUS:
                self._block_status(request, sink)
            else:
                assert command == _CACHE
                sink.complete(request.cookie)  # Advice only, and the page cache follows its own.
        self.start_flush_if_due()
        self.batch_done()
        if self._touched:
            self._flush_touched()

    def connection_lost(self, sink: ReplySink) -> None:
        """Forget a connection; what it asked for goes on."""
        for key in [key for key in self._broken_writes if key[0] is sink]:
            del self._broken_writes[key]

    async def drain(self) -> None:
        """Wait until no thread works on the store, so that it can be closed. Submit nothing meanwhile."""
        await self._idle.wait()

    # Hooks.

    def write_applied(self, request: Request, sink: ReplySink) -> None:
        """A write, or a piece of one, is in the page cache; its payload is still valid.

        Here: complete the request after its last piece, with FUA after a flush.
        """
        if request.is_last:
            if request.flags & _FUA:
                self.flush_local(request, sink)
            else:
                sink.complete(request.cookie)

    def zero_applied(self, request: Request, sink: ReplySink) -> None:
        """A write-zeroes or trim is in effect; may be called outside `submit`. Here: as for a write."""
        self.write_applied(request, sink)

    def flush_applied(self, request: Request, sink: ReplySink) -> None:
        """Everything completed before `request`, and its own change if it has FUA, is durable here; outside `submit`.

        Here: complete the request.
        """
        sink.complete(request.cookie)

    def change_failed(self, request: Request, sink: ReplySink, fault: StorageFault) -> None:
        """The store failed a write (or a piece of one) or a zeroing; the range's content is undefined now.

        The request is failed to the host anyway, a write after its last piece. Here: nothing more.
        """

    def flush_failed(self, request: Request, sink: ReplySink, fault: StorageFault) -> None:
        """The store failed the flush that the request waits for; it will fail all others.

        Here: fail the request to the host.
        """
        sink.fail(request.cookie, fault.errno_value)

    def batch_done(self) -> None:
        """The batch has been worked through, or requests were taken up again outside `submit`. Here: nothing."""

    def flush_local(self, request: Request, sink: ReplySink) -> None:
        """Call `flush_applied` for the request once a flush that begins after this call has succeeded.

        The flush starts at the end of the batch, so that all that a batch asks for is one. Outside `submit`, call
        `start_flush_if_due` afterwards.
        """
        self._flush_waiting.append((request._replace(payload=None), sink))

    def start_flush_if_due(self) -> None:
        """Start the flush that was asked for, unless one is running: then the next starts when it is over."""
        if self._flush_waiting and not self._flush_running:
            self._flush_running, self._flush_waiting = self._flush_waiting, []
            self._run(self._flush_store, self._flush_done)

    # Writes and zeroing.

    def _write(self, request: Request, sink: ReplySink) -> None:
        _, _, _, offset, length, payload, is_last = request
        assert payload is not None
        if self._zeroing:
            self._await_overlapping(offset, offset + length)
        if self._broken_writes and self._is_broken(request, sink):
            return
        try:
            self.store.write(payload, offset)
        except StorageFault as fault:
            self.change_failed(request, sink, fault)
            if is_last:
                sink.fail(request.cookie, fault.errno_value)
            else:
                self._broken_writes[sink, request.cookie] = fault.errno_value
            return
        if is_last:
            self.writes += 1
        self.write_bytes += length
        self.write_applied(request, sink)

    def _is_broken(self, request: Request, sink: ReplySink) -> bool:
        """Skip the rest of a write of which a piece has failed; tell the host at its end."""
        key = (sink, request.cookie)
        errno_value = self._broken_writes.get(key)
        if errno_value is None:
            return False
        if request.is_last:
            del self._broken_writes[key]
            sink.fail(request.cookie, errno_value)
        return True

    def _zero(self, request: Request, sink: ReplySink) -> None:
        start, end = request.offset, request.offset + request.length
        if self._zeroing:
            self._await_overlapping(start, end)
        must_punch = request.command == _TRIM or not request.flags & _NO_HOLE
        if request.length <= limits.DEVICE_INLINE_BYTES_MAX:
            self._zero_done(request, sink, self._zero_store(request, must_punch=must_punch))
            return
        future = self._run(lambda: self._zero_store(request, must_punch=must_punch), lambda _: self._tell_zeroed())
        self._zeroing.append(_LongZero(request, sink, future))

    def _await_overlapping(self, start: int, end: int) -> None:
        """Block until no long zeroing overlaps the range. Hosts do not overlap changes, so this hardly ever waits."""
        for zero in self._zeroing:
            if start < zero.request.offset + zero.request.length and zero.request.offset < end:
                zero.future.result()
        self._tell_zeroed()

    def _tell_zeroed(self) -> None:
        """Call the hooks of the long zeroings that are over."""
        over = [zero for zero in self._zeroing if zero.future.done()]
        self._zeroing = [zero for zero in self._zeroing if zero not in over]
        for zero in over:
            self._touched[zero.sink] = None
            self._zero_done(zero.request, zero.sink, zero.future.result())

    def _zero_store(self, request: Request, *, must_punch: bool) -> StorageFault | None:
        try:
            self.store.zero(request.offset, request.length, punch=must_punch)
        except StorageFault as fault:
            return fault
        return None

    def _zero_done(self, request: Request, sink: ReplySink, fault: StorageFault | None) -> None:
        if fault is None:
            self.writes += 1
            self.zero_applied(request, sink)
        else:
            self.change_failed(request, sink, fault)
            sink.fail(request.cookie, fault.errno_value)

    # Flushes.

    def _flush_store(self) -> StorageFault | None:
        try:
            self.store.flush()
        except StorageFault as fault:
            return fault
        return None

    def _flush_done(self, fault: StorageFault | None) -> None:
        covered, self._flush_running = self._flush_running, []
        for request, sink in covered:
            self._touched[sink] = None
            if fault is None:
                self.flush_applied(request, sink)
            else:
                self.flush_failed(request, sink, fault)

    # Reads and block status.

    def _read(self, request: Request, sink: ReplySink) -> None:
        _, _, cookie, offset, length, _, _ = request
        self.reads += 1
        self.read_bytes += length
        if length <= limits.DEVICE_INLINE_BYTES_MAX:
            try:
                data = self.store.try_read(length, offset)
            except StorageFault as fault:
                sink.fail(cookie, fault.errno_value)
                return
            if data is not None:
                sink.complete_read(cookie, offset, data)
                return
        self._run(lambda: self._read_store(offset, length), lambda data: self._read_done(cookie, offset, sink, data))

    def _read_store(self, offset: int, length: int) -> bytearray | StorageFault:
        data = bytearray(length)
        try:
            self.store.read_into(data, offset)
        except StorageFault as fault:
            return fault
        return data

    def _read_done(self, cookie: int, offset: int, sink: ReplySink, data: bytearray | StorageFault) -> None:
        if self._is_halted:
            return
        self._touched[sink] = None
        if isinstance(data, StorageFault):
            sink.fail(cookie, data.errno_value)
        else:
            sink.complete_read(cookie, offset, data)

    def _block_status(self, request: Request, sink: ReplySink) -> None:
        self._run(lambda: self._map_store(request), lambda extents: self._mapped(request, sink, extents))

    def _map_store(self, request: Request) -> list[Extent] | StorageFault:
        count_max = 1 if request.flags & _REQ_ONE else limits.NBD_EXTENTS_MAX
        try:
            return list(islice(self.store.extents(request.offset, request.length), count_max))
        except StorageFault as fault:
            return fault

    def _mapped(self, request: Request, sink: ReplySink, extents: list[Extent] | StorageFault) -> None:
        if self._is_halted:
            return
        self._touched[sink] = None
        if isinstance(extents, StorageFault):
            sink.fail(request.cookie, extents.errno_value)
        else:
            sink.complete_block_status(request.cookie, extents)

    # Threads.

    def _run(self, job: Callable[[], Outcome], done: Callable[[Outcome], None]) -> Future[Outcome]:
        """Run `job` in a thread, then `done` with its result on the loop. A job returns its fault, it raises none."""
        loop = asyncio.get_running_loop()
        self._jobs += 1
        self._idle.clear()
        future = self._executor.submit(job)
        future.add_done_callback(lambda finished: self._post(loop, done, finished))
        return future

    def _post(self, loop: asyncio.AbstractEventLoop, done: Callable[[Outcome], None], future: Future[Outcome]) -> None:
        # In the thread. Append first and look at the flag then: the loop clears the flag before it looks at the queue,
        # so one of the two sees the other, and a burst of results costs one wake-up.
        self._finished.append((done, future))
        if not self._is_wakeup_due:
            self._is_wakeup_due = True
            loop.call_soon_threadsafe(self._finish_jobs)

    def _finish_jobs(self) -> None:
        self._is_wakeup_due = False
        for _ in range(len(self._finished)):
            done, future = self._finished.popleft()
            self._jobs -= 1
            bug = future.exception()
            if bug is not None:
                raise InternalError(f"a job on {self.store.path} raised {bug!r}") from bug
            done(future.result())
        self.start_flush_if_due()
        self.batch_done()
        self._flush_touched()
        if self._jobs == 0:
            self._idle.set()

    def _flush_touched(self) -> None:
        touched, self._touched = self._touched, {}
        for sink in touched:
            sink.flush()
