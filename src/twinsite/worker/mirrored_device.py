"""A volume of a group at the primary: what was applied to the store is told to the group's machine.

The machine decides who is told and when; this class only translates, once per write, on the hot path.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Protocol

from twinsite.core.group.flight import FlushWaiter
from twinsite.core.group.primary import Primary
from twinsite.core.limits import EXTENT_BYTES, ZERO_FRAME_BYTES_MAX
from twinsite.core.nbd.constants import Command, CommandFlag
from twinsite.core.tracking.intents import HOT, IntentRecord
from twinsite.errors import StorageFault
from twinsite.latency import LatencyRecorder
from twinsite.messages import Failure, MemberSpec
from twinsite.stores.base import Store
from twinsite.worker.device import ReplySink, Request
from twinsite.worker.intent_log import IntentLog
from twinsite.worker.store_device import StoreDevice, export_info

_FUA = int(CommandFlag.FUA)
_READ = int(Command.READ)
_NO_HOLE = int(CommandFlag.NO_HOLE)
_TRIM = int(Command.TRIM)
_WRITE = int(Command.WRITE)
_WRITE_ZEROES = int(Command.WRITE_ZEROES)
_CHANGES = frozenset({_WRITE, _TRIM, _WRITE_ZEROES})
_EXTENT_SHIFT = EXTENT_BYTES.bit_length() - 1


FAILURE_SECONDS = 60.0
"""How long a change that the disk refused is told, unless the disk refuses another one."""


class Mirror(Protocol):
    """The group behind a device."""

    machine: Primary
    intents: IntentLog
    write_latency: LatencyRecorder
    flush_latency: LatencyRecorder

    def flush_failed(self, fault: StorageFault) -> bool:
        """A store's flush failed: what is read from it may not be on the disk. Return whether hosts are cut off."""

    def drain(self) -> None:
        """Act on what the machine wants."""

    def sink_joined(self, sink: ReplySink) -> None:
        """A connection has sent its first request."""

    def sink_left(self, sink: ReplySink) -> None:
        """A connection is gone."""

    def after_answers(self, call: Callable[[], None]) -> None:
        """Make the call soon after the secondary, or the arbiter, has answered for something that is in flight."""


Told = tuple[ReplySink, int, float, LatencyRecorder | None]
"""A token of the machine: whom to tell, of which request, when that came, and where its latency counts."""


class MirroredDevice(StoreDevice):
    """One member's device."""

    def __init__(self, member: MemberSpec, store: Store, executor: Executor, mirror: Mirror) -> None:
        super().__init__(export_info(member, store), store, executor)
        self._failure: Failure | None = None
        self._failure_ends_at = 0.0
        self._index = member.index
        self._mirror = mirror
        self._machine = mirror.machine
        self._write_latency = mirror.write_latency
        self._flush_latency = mirror.flush_latency
        self._received_at = 0.0  # When the batch came that is being executed.
        self._sinks: set[ReplySink] = set()
        self._waiters: dict[tuple[ReplySink, int], FlushWaiter] = {}
        self._failed_range = (0, 0)
        self._kept_reads: dict[ReplySink, list[Request]] = {}
        self._orphans_end = 0
        """Sequence of the last change that was in flight when its connection was lost; 0 when there is none."""

    @property
    def is_zeroing(self) -> bool:
        """Say whether a long zeroing runs in a thread, or has not been told to the machine."""
        return bool(self._zeroing)

    @property
    def failure(self) -> Failure | None:
        """Return the last fault of the store that hosts still feel, or may feel again at once."""
        if self._failure is not None and asyncio.get_running_loop().time() >= self._failure_ends_at:
            self._failure = None
        return self._failure

    def submit(self, batch: Sequence[Request], sink: ReplySink) -> None:
        """Execute the batch, after what it intends to write is recorded.

        Makes the connection known to the group's backpressure first.
        """
        self._received_at = time.perf_counter()
        if sink not in self._sinks:
            self._sinks.add(sink)
            self._mirror.sink_joined(sink)
        if self._orphans_end:
            batch = self._without_reads_of_orphans(batch, sink)
        if batch:  # An empty one would make the group look at what waits again, and again.
            self._execute(batch, sink)

    def _without_reads_of_orphans(self, batch: Sequence[Request], sink: ReplySink) -> Sequence[Request]:
        """Keep what reads a lost connection's write that nobody has answered for yet; return the rest of the batch.

        A host that was cut off and comes back takes what it reads for the truth, and acts on it; a failover would take
        that truth back. A host that reads what it is just writing gets what it gets. Only reads are kept, since they
        change nothing whenever they are executed, or never: the host may be gone by then. A connection has a bound on
        its requests in progress.
        """
        entries = self._machine.flight.entries
        if not entries or entries[0].sequence > self._orphans_end:
            self._orphans_end = 0
            return batch
        ranges = [
            (entry.offset, entry.offset + entry.length)
            for entry in entries
            if entry.sequence <= self._orphans_end and entry.volume == self._index and not entry.is_resync
        ]
        rest: list[Request] = []
        kept: list[Request] = []
        for request in batch:
            end = request.offset + request.length
            is_kept = request.command == _READ and any(request.offset < stop and start < end for start, stop in ranges)
            (kept if is_kept else rest).append(request)
        if kept:
            if sink not in self._kept_reads:
                self._mirror.after_answers(lambda: self._read_again(sink))
            self._kept_reads.setdefault(sink, []).extend(kept)
        return rest

    def _read_again(self, sink: ReplySink) -> None:
        """Something was answered: look at the reads of a connection, if that is still there."""
        reads = self._kept_reads.pop(sink, None)
        if reads:
            self.submit(reads, sink)
            sink.flush()

    def _note_orphans(self) -> None:
        if self._machine.flight.entries:
            self._orphans_end = self._machine.sequence

    def _execute(self, batch: Sequence[Request], sink: ReplySink) -> None:
        records = self._cold(batch)
        if records:
            self._submit_later(batch, sink, records)
        else:
            super().submit(batch, sink)

    def _cold(self, batch: Sequence[Request]) -> list[IntentRecord]:
        """Return the extents that the batch changes and that are not recorded; touch those that are."""
        records: list[IntentRecord] = []
        intents = self._mirror.intents
        extents = intents.maps[self._index]
        states = extents.states
        for request in batch:
            command = request[0]
            if command not in _CHANGES:
                continue
            offset, length = request[3], request[4]
            first = offset >> _EXTENT_SHIFT
            if states[first] == HOT and (offset + length - 1) >> _EXTENT_SHIFT == first:
                continue
            if not extents.touch(offset, length):
                records += intents.cold_runs(self._index, offset, length)
        return records

    def _submit_later(self, batch: Sequence[Request], sink: ReplySink, records: list[IntentRecord]) -> None:
        """Keep the batch, and read no further from the connection, until its intents are durable.

        If the connection is gone by then, it is not executed any more: nobody was told of any of it, and its host may
        have written the same place anew over another connection, and have been told of that.
        """
        kept = [
            request if request.payload is None else request._replace(payload=memoryview(bytes(request.payload)))
            for request in batch
        ]
        received_at = self._received_at
        sink.pause_reading()
        self._jobs += 1
        self._idle.clear()

        def done(fault: StorageFault | None) -> None:
            self._jobs -= 1
            is_gone = sink not in self._sinks or sink.is_gone()
            if fault is not None and not is_gone:
                self._refuse(kept, sink, fault)
            elif not is_gone:
                # Extents that went cold meanwhile are recorded again.
                self._received_at = received_at
                self._execute(kept, sink)
            sink.flush()
            sink.resume_reading()
            if self._jobs == 0:
                self._idle.set()

        self._mirror.intents.record(records, done)

    def _refuse(self, batch: Sequence[Request], sink: ReplySink, fault: StorageFault) -> None:
        """Fail what would change the disk: nothing of it was done. Everything else is executed."""
        rest = []
        for request in batch:
            if request.command == _WRITE and not request.is_last:
                self._broken_writes[sink, request.cookie] = fault.errno_value
            elif request.command in _CHANGES:
                self._broken_writes.pop((sink, request.cookie), None)
                sink.fail(request.cookie, fault.errno_value)
            else:
                rest.append(request)
        self._failure = Failure("37100177", f"production disk {self.info.name}: {fault}")
        self._failure_ends_at = asyncio.get_running_loop().time() + FAILURE_SECONDS
        super().submit(rest, sink)

    def connection_lost(self, sink: ReplySink) -> None:
        """Forget the connection; its writes go on to the secondary."""
        self._sinks.discard(sink)
        self._kept_reads.pop(sink, None)
        self._mirror.sink_left(sink)
        self._note_orphans()
        super().connection_lost(sink)

    def write_applied(self, request: Request, sink: ReplySink) -> None:
        """Hand a write, or a piece of one, to the machine."""
        _, flags, cookie, offset, _, payload, is_last = request
        assert payload is not None
        if flags & _FUA:
            self._machine.write_applied(self._index, offset, payload, None)
            if is_last:
                self.flush_local(request, sink)
        else:
            told: Told | None = (sink, cookie, self._received_at, self._write_latency) if is_last else None
            self._machine.write_applied(self._index, offset, payload, told)
        if self._failure is not None:
            self._recover(request)

    def zero_applied(self, request: Request, sink: ReplySink) -> None:
        """Hand a zeroing to the machine, in ranges that one frame can carry."""
        is_fua = bool(request.flags & _FUA)
        punch = request.command == _TRIM or not request.flags & _NO_HOLE
        end = request.offset + request.length
        for start in range(request.offset, end, ZERO_FRAME_BYTES_MAX):
            length = min(ZERO_FRAME_BYTES_MAX, end - start)
            is_last = start + length == end
            told: Told | None = (sink, request.cookie, 0.0, None) if is_last and not is_fua else None
            self._machine.zero_applied(self._index, start, length, punch, told)
        if is_fua:
            self.flush_local(request, sink)
        if sink not in self._sinks:
            self._note_orphans()  # It took so long that its connection is gone.
        if self._failure is not None:
            self._recover(request)

    def flush_local(self, request: Request, sink: ReplySink) -> None:
        """Ask the secondary and the local store for a flush at the same time."""
        told: Told = (sink, request.cookie, self._received_at, self._flush_latency)
        self._waiters[sink, request.cookie] = self._machine.flush_begun(self._index, told)
        super().flush_local(request, sink)

    def flush_applied(self, request: Request, sink: ReplySink) -> None:
        """The local half of a flush is over."""
        self._machine.flush_local_done(self._waiters.pop((sink, request.cookie)))

    def change_failed(self, request: Request, sink: ReplySink, fault: StorageFault) -> None:
        """Remember that the two sides may differ where a write failed, and what hosts are told."""
        self._failure_ends_at = max(self._failure_ends_at, asyncio.get_running_loop().time() + FAILURE_SECONDS)
        self._machine.write_failed(self._index, request.offset, request.length)
        self._failed_range = (request.offset, request.offset + request.length)
        self._failure = Failure("37100177", f"production disk {self.info.name}: {fault}")

    def flush_failed(self, request: Request, sink: ReplySink, fault: StorageFault) -> None:
        """Fail the request, unless hosts are cut off, since the secondary has what they were told."""
        self._machine.flush_local_failed(self._waiters.pop((sink, request.cookie)))
        self._failure_ends_at = math.inf  # The store will flush no more.
        self._failure = Failure("37100177", f"production disk {self.info.name}: {fault}")
        if not self._mirror.flush_failed(fault):
            super().flush_failed(request, sink, fault)

    def batch_done(self) -> None:
        """Send what the batch brought, and answer what it completed."""
        self._mirror.drain()

    def _recover(self, request: Request) -> None:
        """The disk takes writes again where it refused one: the fault is over."""
        start, end = self._failed_range
        is_for_good = self._failure_ends_at == math.inf
        if request.offset < end and start < request.offset + request.length and not is_for_good:
            self._failure = None
