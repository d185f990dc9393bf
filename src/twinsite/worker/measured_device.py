"""A volume outside any group, which also counts how long hosts wait for their writes and flushes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Executor

from twinsite.core.nbd.constants import CommandFlag
from twinsite.errors import StorageFault
from twinsite.latency import LatencyRecorder
from twinsite.messages import Activity, MemberSpec
from twinsite.stores.base import Store
from twinsite.worker.device import ReplySink, Request
from twinsite.worker.store_device import StoreDevice, export_info

_FUA = int(CommandFlag.FUA)


class MeasuredDevice(StoreDevice):
    """One volume's device. A batch is timed as one, since its replies leave together."""

    def __init__(self, member: MemberSpec, store: Store, executor: Executor) -> None:
        super().__init__(export_info(member, store), store, executor)
        self.write_latency = LatencyRecorder()
        self.flush_latency = LatencyRecorder()
        self._received_at = 0.0  # When the batch came that is being executed.
        self._writes_done = 0  # Of that batch.
        self._flushes_at: dict[tuple[ReplySink, int], float] = {}

    def activity(self) -> Activity:
        """Return how hosts are served, since the device was first served."""
        return Activity(write_latency=self.write_latency.latency(), flush_latency=self.flush_latency.latency())

    def submit(self, batch: Sequence[Request], sink: ReplySink) -> None:
        """Execute the batch, and remember when it came."""
        self._received_at = time.perf_counter()
        super().submit(batch, sink)

    def write_applied(self, request: Request, sink: ReplySink) -> None:
        """Complete the request as always, and count it unless it has to wait for a flush."""
        if request.is_last and not request.flags & _FUA:
            self._writes_done += 1
        super().write_applied(request, sink)

    def zero_applied(self, request: Request, sink: ReplySink) -> None:
        """Complete the request as always; a trim or a zeroing is no write that a host waits for."""
        super().write_applied(request, sink)

    def flush_local(self, request: Request, sink: ReplySink) -> None:
        """Ask for a flush, and remember since when it is waited for."""
        self._flushes_at[sink, request.cookie] = self._received_at
        super().flush_local(request, sink)

    def flush_applied(self, request: Request, sink: ReplySink) -> None:
        """Complete the request, and count it."""
        received_at = self._flushes_at.pop((sink, request.cookie), None)
        if received_at is not None:  # A host may give one cookie to two requests, or be gone.
            self.flush_latency.add(time.perf_counter() - received_at)
        super().flush_applied(request, sink)

    def change_failed(self, request: Request, sink: ReplySink, fault: StorageFault) -> None:
        """Nothing is counted of what failed."""
        self._flushes_at.pop((sink, request.cookie), None)

    def flush_failed(self, request: Request, sink: ReplySink, fault: StorageFault) -> None:
        """Fail the request, which is not counted."""
        self._flushes_at.pop((sink, request.cookie), None)
        super().flush_failed(request, sink, fault)

    def connection_lost(self, sink: ReplySink) -> None:
        """Forget what the host waited for."""
        for waiting in [key for key in self._flushes_at if key[0] is sink]:
            del self._flushes_at[waiting]
        super().connection_lost(sink)

    def batch_done(self) -> None:
        """The replies leave now."""
        if self._writes_done:
            self.write_latency.add(time.perf_counter() - self._received_at, self._writes_done)
            self._writes_done = 0
