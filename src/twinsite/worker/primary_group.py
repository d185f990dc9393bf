"""A group at its primary site: the machine of `core.group.primary` with stores, a link and threads around it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import cast

import structlog

from twinsite.core.group.primary import FlushWaiter, Member, Primary
from twinsite.core.group.resync import Piece, ReadOrder
from twinsite.core.group.states import Phase
from twinsite.core.limits import STREAM_IN_FLIGHT_BYTES_MAX, STREAM_IN_FLIGHT_FRAMES_MAX
from twinsite.core.stream.frames import PROTOCOL_VERSION, Frame
from twinsite.core.stream.hello import Hello, Welcome
from twinsite.core.tracking.dirty_map import DirtyMap
from twinsite.errors import StorageFault
from twinsite.messages import Failure, MemberSpec, MemberStatus, Mode, Replication, ResyncReport, WorkerSpec
from twinsite.stores.base import Store
from twinsite.worker.device import ReplySink
from twinsite.worker.mirrored_device import MirroredDevice
from twinsite.worker.primary_link import PrimaryLink
from twinsite.worker.resync_reader import read_order
from twinsite.worker.state import ReplicaState, StateDirectory

log = structlog.get_logger(__name__)

DRAIN_SECONDS_MAX = 8.0
"""How long a clean stop waits for what is in flight; a worker has 10 seconds to stop in all."""


class PrimaryGroup:
    """Serves the members' devices, feeds the secondary, and answers for the group's status.

    `on_change` is called when the status changed in a way that somebody may wait for.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        stores: Mapping[int, Store],
        directory: StateDirectory,
        state: ReplicaState,
        executor: Executor,
        on_change: Callable[[], None],
    ) -> None:
        """Take over the stores (by member index) with what `state` remembers of them. Blocks for small files."""
        self._spec = spec
        self._stores = dict(stores)
        self._directory = directory
        self._state = state
        self._executor = executor
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._wish = Replication.PAUSED
        self._failure: Failure | None = None
        self._sinks: set[ReplySink] = set()
        self._is_throttled = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._resync_started_at = 0.0
        self._resync_finished_at: float | None = None
        self._in_sync_since: float | None = None
        self._replaced = state.replace_images({m.volume_id: stores[m.index].identity for m in spec.members})
        if self._replaced:
            log.warning("primary.disks_replaced", volumes=sorted(self._replaced), consequence="they are copied whole")
        members = [Member(m.index, m.volume_id, self._load_map(m)) for m in spec.members]
        generations = frozenset(state.generations) if state.is_clean else frozenset[str]()
        self.machine = Primary(
            members, generations=generations, sequence=state.sequence, peer_consistent=state.peer_consistent
        )
        # Whatever happens from here on, these maps are only as good as the memory they live in.
        state.is_clean = False
        state.peer_consistent = False
        # And what hosts write here is in no lineage that this side followed as a secondary.
        state.generation, state.is_consistent = "", False
        directory.save(state)
        self.devices = {m.volume_id: MirroredDevice(m, self._stores[m.index], executor, self) for m in spec.members}
        self._link = PrimaryLink(self, bytes.fromhex(spec.stream_key))

    # What the worker says

    def apply(self, spec: WorkerSpec) -> None:
        """Take a newer spec of the same members: follow the wish and the endpoint."""
        self._spec = spec
        self._wish = spec.replication
        if self._wish is Replication.RUNNING:
            self._follow_endpoint()
            return
        if self.machine.phase is Phase.ALONE:
            self._link.want(None)
            self._link.say_goodbye()
        elif self.machine.phase is not Phase.DRAINING:
            self.machine.stop()
        self.drain()

    def in_force(self) -> bool:
        """Say whether the newest spec's wish is reality: nothing more travels once it is a pause."""
        return self._wish is Replication.RUNNING or (self.machine.phase is Phase.ALONE and not self._link.is_up())

    async def close(self) -> None:
        """Stop cleanly: end what is in flight, flush, and save the maps. The devices serve nobody any more."""
        self._wish = Replication.PAUSED
        if self.machine.phase not in (Phase.ALONE, Phase.DRAINING):
            self.machine.stop()
        self.drain()
        try:
            async with asyncio.timeout(DRAIN_SECONDS_MAX):
                await self._idle.wait()
        except TimeoutError:
            log.warning("primary.not_drained", in_flight=self.machine.in_flight_frames)
        await self._link.close()
        await self._loop.run_in_executor(self._executor, self._save)

    async def change_members(self, spec: WorkerSpec, added: Mapping[int, Store], removed: Sequence[int]) -> None:
        """Let volumes in and out. The stream is ended first; it starts again, if wished, with the next `apply`."""
        if self.machine.phase not in (Phase.ALONE, Phase.DRAINING):
            self.machine.stop()
        self.drain()
        await self._idle.wait()
        self._link.want(None)
        for index in removed:
            member = self.machine.members.pop(index)
            del self.devices[member.volume_id], self._stores[index]
            self._directory.forget_dirty_map(index, member.volume_id)
        for member_spec in spec.members:
            if member_spec.index in added:
                store = self._stores[member_spec.index] = added[member_spec.index]
                dirty = DirtyMap(member_spec.size_bytes, all_dirty=True)
                self.machine.members[member_spec.index] = Member(member_spec.index, member_spec.volume_id, dirty)
                self.devices[member_spec.volume_id] = MirroredDevice(member_spec, store, self._executor, self)
        if added:
            self.machine.peer_consistent = False
        self._state.replace_images({m.volume_id: self._stores[m.index].identity for m in spec.members})
        self._spec = spec

    # What the devices say

    def sink_joined(self, sink: ReplySink) -> None:
        """A host connection has sent its first request."""
        self._sinks.add(sink)
        if self._is_throttled:
            sink.pause_reading()

    def sink_left(self, sink: ReplySink) -> None:
        """A host connection is gone."""
        self._sinks.discard(sink)

    def drain(self) -> None:
        """Send what the machine wants sent, tell hosts what is done, read on for the resync."""
        machine = self.machine
        self._start_reads()
        if machine.outbox:
            parts, machine.outbox = machine.outbox, []
            self._link.send(parts)
        if machine.completed:
            self._tell_hosts()
        if machine.in_flight_bytes > STREAM_IN_FLIGHT_BYTES_MAX or (
            machine.in_flight_frames > STREAM_IN_FLIGHT_FRAMES_MAX
        ):
            self._throttle()
        elif self._is_throttled and machine.in_flight_bytes < STREAM_IN_FLIGHT_BYTES_MAX // 2:
            self._unthrottle()
        if machine.phase is Phase.DRAINING and machine.is_drained:
            machine.drained()
            if self._wish is Replication.PAUSED:
                self._link.want(None)
            self._link.say_goodbye()
        self._set_idle()

    def flush_waiter_done(self, waiter: FlushWaiter) -> None:
        """A device's local flush is over."""
        self.machine.flush_local_done(waiter)
        self.drain()

    # PrimaryLinkOwner

    def make_hello(self, nonce: str) -> Hello:
        """Introduce the group."""
        return Hello(
            version=PROTOCOL_VERSION,
            group_id=self._spec.id,
            term=self._spec.term,
            first_sequence=self.machine.sequence + 1,
            members=[[member.index, member.size_bytes] for member in self._spec.members],
            nonce=nonce,
        )

    def link_up(self, welcome: Welcome) -> None:
        """Start the resync of what the secondary lacks."""
        if self._wish is not Replication.RUNNING:
            self._link.say_goodbye()
            return
        self._resync_started_at, self._resync_finished_at = time.time(), None
        self.machine.connected(welcome, secrets.token_hex(16))
        self.drain()
        self._on_change()

    def link_frames(self, frames: Sequence[Frame]) -> None:
        """Take acknowledgements."""
        phase = self.machine.phase
        self.machine.received(frames)
        if self.machine.phase is not phase and self.machine.phase is Phase.MIRRORED:
            self._in_sync_since = self._resync_finished_at = time.time()
            self._failure = None
            self._link.settled()
            log.info("primary.in_sync", sequence=self.machine.sequence)
        self.drain()
        if self.machine.phase is not phase:
            self._on_change()

    def link_oldest_unacknowledged(self) -> int | None:
        """Ask the machine."""
        return self.machine.oldest_unacknowledged

    def link_down(self, failure: Failure | None) -> None:
        """Go on alone; what was in flight is dirty now."""
        self.machine.broken()
        self._in_sync_since = None
        if self._wish is Replication.PAUSED:
            self._link.want(None)
        elif failure is not None:
            self._failure = failure
        self.drain()
        self._on_change()

    # Status

    def mode(self) -> Mode:
        """Return what the group is doing, in the words of the status."""
        if self.machine.phase in (Phase.COPYING, Phase.FINISHING):
            return Mode.COPYING
        if self.machine.phase is Phase.MIRRORED:
            return Mode.IN_SYNC
        if self._wish is Replication.PAUSED:
            return Mode.PAUSED
        return Mode.CONNECTING

    @property
    def failure(self) -> Failure | None:
        """Return why the stream is not up, if it should be."""
        return self._failure if self._wish is Replication.RUNNING else None

    @property
    def is_consistent(self) -> bool:
        """Say whether the secondary's image is at one point of the group's history, as far as this side knows."""
        return self.machine.peer_consistent

    @property
    def acknowledged_sequence(self) -> int:
        """Return the last sequence that the secondary acknowledged."""
        return self.machine.acknowledged_sequence

    @property
    def sent_sequence(self) -> int:
        """Return the last sequence that was sent."""
        return self.machine.sequence

    @property
    def session_count(self) -> int:
        """Return how often the stream has come up since the start."""
        return self.machine.session

    @property
    def in_sync_since(self) -> float | None:
        """Return since when every acknowledgement has waited for the secondary, in seconds since the epoch."""
        return self._in_sync_since

    def bytes_moved(self) -> tuple[int, int]:
        """Return (sent, received) on the stream since the start."""
        return self._link.bytes_moved()

    def member_statuses(self) -> list[MemberStatus]:
        """Return the members' status, in the order of the spec."""
        statuses = []
        for spec in self._spec.members:
            member = self.machine.members[spec.index]
            left = self.machine.resync_bytes_left(member)
            statuses.append(
                MemberStatus(
                    volume_id=spec.volume_id,
                    serving=True,
                    resync_bytes_total=member.resync_bytes_total,
                    resync_bytes_done=max(0, member.resync_bytes_total - left),
                    dirty_bytes=member.dirty.dirty_bytes(),
                    failure=self.devices[spec.volume_id].failure,
                )
            )
        return statuses

    def resync_report(self) -> ResyncReport | None:
        """Return the running or the last resync, or None before the first."""
        tally = self.machine.tally
        if tally is None:
            return None
        left = sum(self.machine.resync_bytes_left(member) for member in self.machine.members.values())
        if self._resync_finished_at is not None:
            left = 0
        done = max(0, tally.bytes_total - left)
        seconds = max((self._resync_finished_at or time.time()) - self._resync_started_at, 1e-3)
        rate = done / seconds
        return ResyncReport(
            kind=tally.kind,
            started_at=self._resync_started_at,
            finished_at=self._resync_finished_at,
            bytes_total=tally.bytes_total,
            bytes_done=done,
            bytes_shipped=tally.bytes_shipped,
            bytes_zero=tally.bytes_zero,
            bytes_per_second=rate,
            seconds_left=left / rate if rate and self.mode() is Mode.COPYING else None,
        )

    # Inside

    def _load_map(self, member: MemberSpec) -> DirtyMap:
        saved = None
        if self._state.is_clean and member.volume_id not in self._replaced:
            saved = self._directory.load_dirty_map(member.index, member.volume_id, member.size_bytes)
        if saved is None:
            # A volume that joined while no worker ran: the secondary has nothing of it yet.
            self._state.peer_consistent = False
        return saved or DirtyMap(member.size_bytes, all_dirty=True)

    def _save(self) -> None:
        state = self._state
        try:
            for store in self._stores.values():
                store.flush()
            for member in self.machine.members.values():
                self._directory.save_dirty_map(member.index, member.volume_id, member.dirty)
            state.sequence = self.machine.sequence
            state.generations = sorted(self.machine.generations)
            state.peer_consistent = self.machine.peer_consistent
            state.is_clean = True
            self._directory.save(state)
        except StorageFault as error:
            state.is_clean = state.peer_consistent = False
            log.error("primary.not_saved", error=str(error), consequence="the next synchronization is a full one")

    def _follow_endpoint(self) -> None:
        endpoint = self._spec.peer_endpoint
        if endpoint is None:
            self._failure = self._failure or Failure("37100043", "the other site has not reported its worker yet")
            self._link.want(None)
            return
        host, _, port = endpoint.rpartition(":")
        self._link.want((host.strip("[]"), int(port)))

    def _tell_hosts(self) -> None:
        machine = self.machine
        completed, machine.completed = machine.completed, []
        touched: set[ReplySink] = set()
        for token in completed:
            sink, cookie = cast(tuple[ReplySink, int], token)
            sink.complete(cookie)
            touched.add(sink)
        for sink in touched:
            sink.flush()

    def _throttle(self) -> None:
        if not self._is_throttled:
            self._is_throttled = True
            for sink in self._sinks:
                sink.pause_reading()

    def _unthrottle(self) -> None:
        self._is_throttled = False
        for sink in self._sinks:
            sink.resume_reading()

    def _start_reads(self) -> None:
        while (order := self.machine.next_read()) is not None:
            store = self._stores[order.index]
            if not order.is_contended:
                future = self._loop.run_in_executor(self._executor, read_order, store, order)
                future.add_done_callback(partial(self._read_done, order))
                continue
            # One block, and the read before it has brought it into the page cache: the hosts hardly wait.
            try:
                self.machine.read_done(order, read_order(store, order))
            except StorageFault as fault:
                self._read_failed(order, fault)
                return

    def _read_done(self, order: ReadOrder, future: asyncio.Future[list[Piece]]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self.machine.read_done(order, future.result())
            self.drain()
        else:
            self._read_failed(order, error)

    def _read_failed(self, order: ReadOrder, error: BaseException) -> None:
        log.error("primary.resync_read_failed", error=str(error), member=order.index)
        if order.session == self.machine.session and self._link.is_up():
            self._link.cut(Failure("37100177", f"production disk cannot be read: {error}"))

    def _set_idle(self) -> None:
        if self.machine.phase is Phase.ALONE:
            self._idle.set()
        else:
            self._idle.clear()
