"""A group at its primary site: the machine of `core.group.primary` with stores, a link and threads around it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import cast

import structlog

from twinsite.core.arbiter import Row
from twinsite.core.group.member import Member
from twinsite.core.group.primary import Primary
from twinsite.core.group.resync import Piece, ReadOrder
from twinsite.core.group.states import Phase
from twinsite.core.limits import FETCH_BYTES_MAX, STREAM_IN_FLIGHT_BYTES_MAX, STREAM_IN_FLIGHT_FRAMES_MAX
from twinsite.core.stream.frames import PROTOCOL_VERSION, Frame
from twinsite.core.stream.hello import Doubt, Hello, Welcome
from twinsite.core.tracking.dirty_map import DirtyMap
from twinsite.errors import RetryableError, StorageFault
from twinsite.latency import LatencyRecorder
from twinsite.messages import (
    Activity,
    Failure,
    MemberStatus,
    Mode,
    Replication,
    ResyncReport,
    WorkerSpec,
    split_endpoint,
)
from twinsite.stores.base import Store
from twinsite.worker.arbitration import Arbiter, Arbitration, Calls
from twinsite.worker.block_digests import digest_order
from twinsite.worker.cause import Cause
from twinsite.worker.cooling import Cooling
from twinsite.worker.device import ReplySink
from twinsite.worker.flush_both import FlushBoth
from twinsite.worker.holds import Holds
from twinsite.worker.intent_log import IntentLog
from twinsite.worker.mirrored_device import MirroredDevice, Told
from twinsite.worker.primary_link import PrimaryLink
from twinsite.worker.reports import ResyncTimes, member_statuses, resync_report
from twinsite.worker.resync_reader import read_order, read_packed
from twinsite.worker.standing import Joined, Standing
from twinsite.worker.starting import remember_clean_stop, remember_primary, starting_point
from twinsite.worker.state import MapKind, ReplicaState, StateDirectory, read_boot_id
from twinsite.worker.taking_over import compare_images

log = structlog.get_logger(__name__)

OPENS_ANEW = "it opens them anew and takes from the other site what they may lack"
"""What a primary says that waits for a pause to end after which it heals."""

MEMBERS_SECONDS_MAX = 2.0
"""How long a change of members waits for the stream to end before a newer spec gets its turn."""
DRAIN_SECONDS_MAX = 8.0
"""How long a clean stop waits for what is in flight; a worker has 10 seconds to stop in all."""
START_PATIENCE_SECONDS = 3.0
"""How long a primary that starts waits for its secondary before it asks the arbiter whether it may go on alone."""


class PrimaryGroup:
    """Serves the members' devices, feeds the secondary, and answers for the group's status.

    `on_change` is called when the status changed in a way that somebody may wait for. `failed_flush` and `bug` are for
    the worker to look at then.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        stores: Mapping[int, Store],
        directory: StateDirectory,
        state: ReplicaState,
        executor: Executor,
        arbiter: Arbiter | None,
        on_change: Callable[[], None],
    ) -> None:
        """Take over the stores (by member index) with what `state` remembers of them. Blocks for small files."""
        self._spec = spec
        self._stores = dict(stores)
        self._directory = directory
        self._state = state
        self._executor = executor
        self._on_change = on_change
        self.failed_flush: StorageFault | None = None
        """These stores could not be flushed, and the secondary has everything: they serve nobody any more, and the role
        must start with new ones."""
        self._flush_fault: StorageFault | None = None  # Of these stores, whoever has everything.
        self.bug: Exception | None = None
        """What ended a task of this group that nothing but a bug of ours ends."""
        self._loop = asyncio.get_running_loop()
        self._wish = Replication.PAUSED
        self._cause = Cause(spec.request_id)
        self._failure: Failure | None = None
        self._sinks: set[ReplySink] = set()
        self._is_throttled = False
        self._after_answers: list[Callable[[], None]] = []
        self._session_count = 0
        self._hello_sequence = 0
        self._attempt = 0  # Counts the ends of sessions and of attempts at one.
        self._jobs: set[asyncio.Future[None]] = set()
        self._nothing_in_flight = asyncio.Event()
        self._stream_ended = asyncio.Event()
        self._resync_times = ResyncTimes()
        self._in_sync_since: float | None = None
        self.write_latency = LatencyRecorder()
        self.flush_latency = LatencyRecorder()
        self._holds = Holds()
        self._may_serve = False
        self._started_at = self._loop.time()
        self._handover: FlushBoth | None = None
        self._is_alone = False
        self._was_healing = False  # The session began so.
        boot_id = read_boot_id()
        start = starting_point(spec.members, directory, state, boot_id, compare_images(state, spec.members, stores))
        self.machine = Primary(
            start.members,
            generations=start.generations,
            sequence=state.sequence,
            peer_consistent=start.peer_consistent,
            peer_has_all=start.peer_has_all,
            lacks_writes=start.lacks_writes and spec.loss_acceptances <= state.loss_acceptances,
            reads_prove_nothing=state.doubt is Doubt.FLUSH_FAILED,
        )
        volume_ids = {member.index: member.volume_id for member in spec.members}
        self.intents = IntentLog(directory.files, directory.intent_path, start.intents, volume_ids)
        remember_primary(state, start, boot_id)
        state.may_lack_writes = self.machine.lacks_writes
        state.loss_acceptances = max(state.loss_acceptances, spec.loss_acceptances)
        directory.save(state)
        self._standing = Standing(self.machine, self.intents, state, directory, executor)
        self._arbitration = Arbitration(
            self.machine, self._standing, arbiter, spec.site, spec.term, self._arbiter_answered
        )
        self._patience = self._loop.call_later(START_PATIENCE_SECONDS, self._arbitration.allow_asking)
        self.devices = {m.volume_id: MirroredDevice(m, self._stores[m.index], executor, self) for m in spec.members}
        self._link = PrimaryLink(self, bytes.fromhex(spec.stream_key))
        self._cooling = Cooling(
            self.machine, self.intents, self._stores, self._flush, self.drain, self._is_quiet, self.flush_failed
        )

    # What the worker says

    def apply(self, spec: WorkerSpec, arbiter: Arbiter | None) -> None:
        """Take a newer spec of the same members: follow the wish, the endpoint and the arbiter's place."""
        self._spec = spec
        self._wish = spec.replication
        self._cause.hear(spec.request_id, self._session_count)
        if spec.loss_acceptances > self._state.loss_acceptances and self.failed_flush is None:
            # What is accepted after a flush failed counts for the role that starts with new stores.
            self._run(self._accept_loss(spec.loss_acceptances))
        self._arbitration.use(arbiter)
        if self._wish is not Replication.HANDOVER:
            self._handover = None
        if not self._wants_stream:
            self.machine.stop()
            self._arbitration.allow_asking()
            if self.machine.phase in (Phase.ALONE, Phase.HOLDING):
                # Also where a secondary is about to join.
                self._link.want(None)
                self._link.say_goodbye()
        else:
            self.machine.want()
            self._follow_endpoint()
        self.drain()

    @property
    def _wants_stream(self) -> bool:
        """Say whether the other side is to be connected to: in a pause too, while only that one has all writes."""
        if self.failed_flush is not None:
            return False
        return self._wish is not Replication.PAUSED or self.machine.must_wait

    def in_force(self) -> bool:
        """Say whether the newest spec's wish is reality: nothing more travels once it is a pause."""
        return self._wish is not Replication.PAUSED or (self.machine.phase is Phase.ALONE and not self._link.is_up())

    @property
    def may_serve(self) -> bool:
        """Say whether hosts may see the volumes: this side was confirmed as primary, and was not replaced since."""
        if self.failed_flush is not None or self.machine.phase is Phase.REPLACED:
            return False
        return self._may_serve and self._wish is not Replication.HANDOVER

    async def close(self) -> None:
        """Stop cleanly: let what is in flight arrive, flush, and save the maps. The devices serve nobody any more."""
        self.drain()
        if self._link.is_up():
            try:
                async with asyncio.timeout(DRAIN_SECONDS_MAX):
                    await self._nothing_in_flight.wait()
            except TimeoutError:
                log.warning("primary.not_drained", in_flight=len(self.machine.flight.entries))
        self._patience.cancel()
        self._cooling.close()
        await self._arbitration.close()
        self.machine.close()
        await self._link.close()
        while self._jobs:
            await asyncio.wait(self._jobs)  # What one of them finds may be the beginning of another.
        await self.intents.close()
        await self._loop.run_in_executor(self._executor, self._save)

    def grow_member(self, index: int, size_bytes: int) -> None:
        """A member's store has grown here and at the secondary."""
        self.machine.grow(index, size_bytes)
        self.intents.maps[index].grow(size_bytes)

    async def change_members(self, spec: WorkerSpec, added: Mapping[int, Store], removed: Sequence[int]) -> None:
        """Let volumes in and out. The stream is ended first; it starts again, if wished, with the next `apply`.

        Raises `RetryableError` when the stream does not end soon: a newer spec may make that needless.
        """
        await self._end_stream()
        self._link.want(None)
        self._link.say_goodbye()
        for index in removed:
            self._directory.forget_maps(index, self.machine.members[index].volume_id)
        await self.intents.change_members(spec.members)
        # From here on nothing fails and nothing comes between: a newer attempt would find half of it done.
        for index in removed:
            member = self.machine.members.pop(index)
            del self.devices[member.volume_id], self._stores[index]
        for member_spec in spec.members:
            if member_spec.index in added:
                store = self._stores[member_spec.index] = added[member_spec.index]
                dirty = DirtyMap(member_spec.size_bytes, all_dirty=True)
                self.machine.members[member_spec.index] = Member(member_spec.index, member_spec.volume_id, dirty)
                self.devices[member_spec.volume_id] = MirroredDevice(member_spec, store, self._executor, self)
        if added:
            self.machine.peer_consistent = False
        self._state.replace_images({(m.volume_id, m.index): self._stores[m.index].identity for m in spec.members})
        self._spec = spec

    async def _end_stream(self) -> None:
        self.machine.stop()
        self._arbitration.allow_asking()
        self.drain()
        try:
            async with asyncio.timeout(MEMBERS_SECONDS_MAX):
                while self.machine.phase not in (Phase.ALONE, Phase.REPLACED):
                    self._stream_ended.clear()
                    await self._stream_ended.wait()
        except TimeoutError:
            reason = self.failure.message if self.failure is not None else "the other site has not answered all of it"
            raise RetryableError(f"volumes come and go when the stream has ended, and it has not: {reason}") from None
        if self.machine.phase is Phase.REPLACED:
            raise RetryableError("volumes come and go at the primary, and another site is that now")

    # What the devices say

    def sink_joined(self, sink: ReplySink) -> None:
        """A host connection has sent its first request."""
        self._sinks.add(sink)
        if self._is_throttled:
            sink.pause_reading()

    def sink_left(self, sink: ReplySink) -> None:
        """A host connection is gone."""
        self._sinks.discard(sink)

    def after_answers(self, call: Callable[[], None]) -> None:
        """Make the call after the next look at what is in flight."""
        self._after_answers.append(call)

    def _take_up(self) -> None:
        """Let what waited for answers look again."""
        calls, self._after_answers = self._after_answers, []
        for call in calls:
            call()

    def flush_failed(self, fault: StorageFault) -> bool:
        """A flush failed here: what is read proves nothing any more. Return whether hosts are cut off for that."""
        self._flush_fault = fault
        if self._state.doubt is not Doubt.FLUSH_FAILED:
            self._run(self.distrust())
        self._withdraw_if_due()
        return self.failed_flush is not None

    async def distrust(self) -> None:
        """Make durable that a flush failed here. Raises `StorageFault`."""
        await self._standing.distrust()

    def drain(self) -> None:
        """Send what the machine wants sent, tell hosts what is done, read on for the resync."""
        machine = self.machine
        self._start_reads()
        batch = machine.take_batch()
        if batch is not None and machine.phase is not _HOLDING:
            # What is held travels when the stream is resumed. Before that a secondary that has welcomed this side
            # would get it out of order, and nobody knows whether what it acknowledges counts.
            self._link.send([batch])
        if machine.completed:
            self._tell_hosts()
        flight = machine.flight
        if flight.payload_bytes > STREAM_IN_FLIGHT_BYTES_MAX or len(flight.entries) > STREAM_IN_FLIGHT_FRAMES_MAX:
            self._throttle()
        elif self._is_throttled and flight.payload_bytes < STREAM_IN_FLIGHT_BYTES_MAX // 2:
            self._unthrottle()
        if self._after_answers and machine.phase not in (_HOLDING, _REPLACED):
            self._loop.call_soon(self._take_up)
        if machine.is_drained:
            machine.drained()
            if self._wish is Replication.PAUSED:
                self._link.want(None)
            self._link.say_goodbye()
        self._note_state()

    # PrimaryLinkOwner

    def make_hello(self, nonce: str) -> Hello:
        """Introduce the group."""
        self._hello_sequence = self.machine.first_sequence
        return Hello(
            version=PROTOCOL_VERSION,
            group_id=self._spec.id,
            term=self._spec.term,
            first_sequence=self._hello_sequence,
            members=[[member.index, member.size_bytes] for member in self._spec.members],
            nonce=nonce,
        )

    def link_up(self, welcome: Welcome) -> None:
        """Resume, or start the resync of what the secondary lacks."""
        if not self._wants_stream or self.machine.phase not in (Phase.ALONE, Phase.HOLDING):
            self._link.say_goodbye()
            return
        self._run(self._join(welcome))

    async def _join(self, welcome: Welcome) -> None:
        """Let a secondary in: resume, heal or resync, as the tables say, after what must be durable before."""
        attempt = self._attempt

        def is_still_there() -> bool:
            is_up = attempt == self._attempt and self._link.is_up() and self._wants_stream
            # After a grant, what the hello announced will not be sent any more.
            return is_up and self.machine.first_sequence == self._hello_sequence

        joined = await self._standing.join(welcome, is_still_there)
        if joined in (Joined.MUST_ASK, Joined.MUST_WAIT):
            # What the other side has cannot be resumed, so only a grant lets a resync begin.
            self._arbitration.allow_asking()
        if joined not in (Joined.RESUMED, Joined.HEALING, Joined.RESYNC):
            if attempt == self._attempt:
                self._link.say_goodbye()
            return
        self._session_count += 1
        if joined is Joined.RESUMED:
            self._came_in_sync()
        else:
            self._resync_times.start()
        self._was_healing = joined is Joined.HEALING
        self.drain()
        self._heal_if_due()
        self._on_change()

    def link_frames(self, frames: Sequence[Frame]) -> None:
        """Take acknowledgements."""
        phase = self.machine.phase
        self.machine.received(frames)
        if phase is _HEALING:
            self._take_contents()
        elif phase is _COPYING:
            machine, flight = self.machine, self.machine.flight
            self._link.packing.look(
                self._loop.time(),
                flight.arrived_bytes,
                flight.resync_bytes,
                machine.acknowledged_sequence,
                machine.sequence,
            )
        if self.machine.phase is not phase and self.machine.phase is _MIRRORED:
            self._resync_times.finish()
            self._came_in_sync()
        self.drain()
        if self.machine.phase is not phase:
            self._on_change()

    def link_oldest_unacknowledged(self) -> int | None:
        """Ask the machine."""
        return self.machine.oldest_unacknowledged

    def link_oldest_question(self) -> int | None:
        """Ask the machine."""
        return self.machine.oldest_question

    def link_is_waited_for(self) -> bool:
        """Say whether hosts are held."""
        return self.machine.wants_grant

    def link_down(self, failure: Failure | None) -> None:
        """Hold, or go on alone if the secondary is known to be recorded as stale."""
        self._attempt += 1
        self._cause.stream_broke(self._session_count, is_wanted=self._wants_stream)
        self.machine.broken()
        self._in_sync_since = None
        self._handover = None
        self._arbitration.allow_asking()
        if not self._wants_stream:
            self._link.want(None)
        elif failure is not None:
            self._failure = failure
        self.drain()
        self._on_change()

    # Status

    def mode(self) -> Mode:
        """Return what the group is doing, in the words of the status."""
        phase = self.machine.phase
        if self._handover is not None and self._handover.is_done and self.machine.is_confirmed:
            return Mode.HANDED_OVER
        if phase is Phase.ALONE:
            return Mode.PAUSED if self._wish is Replication.PAUSED else Mode.CONNECTING
        if (
            phase is Phase.HOLDING
            and not self._may_serve
            and self._loop.time() - self._started_at < START_PATIENCE_SECONDS
        ):
            return Mode.STARTING
        if phase is Phase.MIRRORED:
            return Mode.IN_SYNC if self.machine.is_confirmed else Mode.COPYING
        return _MODES[phase]

    @property
    def failure(self) -> Failure | None:
        """Return why the stream is not up, or the arbiter not to be reached, if it should be."""
        if self.failed_flush is not None:
            return _not_durable(self.failed_flush)
        if self._arbitration.failure is not None and self.machine.wants_grant:
            return self._arbitration.failure
        return self._failure if self._wish is not Replication.PAUSED else None

    @property
    def cause(self) -> str:
        """Return the request of the API that this group's present doing follows from; empty for nobody's."""
        return self._cause.request_id

    @property
    def arbiter_calls(self) -> Calls:
        """Return how often the arbiter was asked, and how often that is over."""
        return self._arbitration.calls

    @property
    def newest_row(self) -> Row | None:
        """Return the newest row of this term or a later one that the arbiter has shown and believes, or None."""
        return self._arbitration.newest

    @property
    def holding_since(self) -> float | None:
        """Return since when hosts wait, in seconds since the epoch, or None."""
        return self._holds.since

    @property
    def is_doubtful(self) -> bool:
        """Say whether acknowledged writes may be missing at this side, and nobody has accepted that."""
        return self.machine.must_wait

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
        return self._session_count

    @property
    def in_sync_since(self) -> float | None:
        """Return since when every acknowledgement has waited for the secondary, in seconds since the epoch."""
        return self._in_sync_since

    def bytes_moved(self) -> tuple[int, int]:
        """Return (sent, received) on the stream since the start."""
        return self._link.bytes_moved()

    def activity(self) -> Activity:
        """Return how hosts are served, since the start."""
        flight, arbitration = self.machine.flight, self._arbitration
        return Activity(
            write_latency=self.write_latency.latency(),
            flush_latency=self.flush_latency.latency(),
            arbiter_latency=arbitration.latency.latency(),
            arbiter_failures=arbitration.failures,
            holds=self._holds.count,
            hold_seconds=self._holds.seconds(),
            frames_in_flight=len(flight.entries),
            bytes_in_flight=flight.payload_bytes,
        )

    def member_statuses(self) -> list[MemberStatus]:
        """Return the members' status, in the order of the spec."""
        return member_statuses(self._spec, self.machine, self.devices)

    def resync_report(self) -> ResyncReport | None:
        """Return the running or the last resync, or None before the first."""
        return resync_report(self.machine, self._resync_times, is_running=self.mode() is Mode.COPYING)

    # Inside

    def _save(self) -> None:
        state = self._state
        try:
            try:
                if self.failed_flush is not None:
                    raise self.failed_flush
                for store in self._stores.values():
                    store.flush()
            except StorageFault:
                state.doubt = Doubt.FLUSH_FAILED
                raise
            for member in self.machine.members.values():
                self._directory.save_map(MapKind.DIRTY, member.index, member.volume_id, member.dirty)
                self._directory.save_map(MapKind.SUSPECT, member.index, member.volume_id, member.suspect)
            remember_clean_stop(state, self.machine)
            self._directory.save(state)
        except StorageFault as error:
            state.is_clean = state.peer_consistent = False
            with contextlib.suppress(StorageFault):
                self._directory.save(state)
            consequence = "the next start compares what the intent log names"
            log.error("primary.not_saved", error=str(error), consequence=consequence)

    def _follow_endpoint(self) -> None:
        endpoint = self._spec.peer_endpoint
        if endpoint is None:
            self._failure = self._failure or Failure("37100043", "the other site has not reported its worker yet")
            self._link.want(None)
            return
        self._link.want(split_endpoint(endpoint))

    def _tell_hosts(self) -> None:
        machine = self.machine
        completed, machine.completed = cast(list[Told], machine.completed), []
        touched: dict[ReplySink, None] = {}  # In order, so that a world that is simulated again is the same.
        now = time.perf_counter()
        # Requests that came together were mostly answered together: they are counted together.
        came_at, recorder, count = 0.0, None, 0
        for sink, cookie, received_at, latency in completed:
            sink.complete(cookie)
            touched[sink] = None
            if received_at != came_at or latency is not recorder:
                if recorder is not None:
                    recorder.add(now - came_at, count)
                came_at, recorder, count = received_at, latency, 0
            count += 1
        if recorder is not None:
            recorder.add(now - came_at, count)
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
                read = self._reader_of(order)
                future = self._loop.run_in_executor(self._executor, read, store, order)
                future.add_done_callback(partial(self._read_done, order))
                continue
            # One block, and the read before it has brought it into the page cache: the hosts hardly wait.
            try:
                self.machine.read_done(order, read_order(store, order))
            except StorageFault as fault:
                self._read_failed(order, fault)
                return

    def _reader_of(self, order: ReadOrder) -> Callable[[Store, ReadOrder], list[Piece]]:
        if order.seed is not None:
            return digest_order
        return read_packed if self._link.packing.is_on and self.machine.phase is _COPYING else read_order

    def _read_done(self, order: ReadOrder, future: asyncio.Future[list[Piece]]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self.machine.read_done(order, future.result())
            self.drain()
            self._heal_if_due()
        else:
            self._read_failed(order, error)

    def _read_failed(self, order: ReadOrder, error: BaseException) -> None:
        log.error("primary.resync_read_failed", error=str(error), member=order.index)
        if order.session == self.machine.session and self._link.is_up():
            self._link.cut(Failure("37100177", f"production disk cannot be read: {error}"))

    def _came_in_sync(self) -> None:
        self._in_sync_since = time.time()
        self._failure = None
        self._link.settled()
        log.info("primary.mirrored", sequence=self.machine.sequence)

    def _flush(self, store: Store) -> asyncio.Future[None]:
        """Start the flush of a store. The group is not closed before its end: a store that is closed cannot flush."""
        flushing = self._loop.run_in_executor(self._executor, store.flush)
        self._jobs.add(flushing)
        flushing.add_done_callback(self._jobs.discard)
        return flushing

    async def _flush_here(self) -> None:
        """Make every store of this side durable. Raises `StorageFault`, when none is being flushed any more."""
        flushes = [self._flush(store) for store in self._stores.values()]
        for result in await asyncio.gather(*flushes, return_exceptions=True):
            if result is not None:
                raise result

    async def _flush_what_is_only_here(self) -> None:
        """From now on this side alone answers for everything: what was acknowledged before may not be durable here."""
        try:
            await self._flush_here()
        except StorageFault as fault:
            log.error("primary.flush_failed", error=str(fault))
            self.flush_failed(fault)

    def _arbiter_answered(self) -> None:
        if self.machine.phase is Phase.REPLACED:
            self._link.want(None)
            self._link.say_goodbye()
        elif self.machine.phase is Phase.ALONE and self._was_healing:
            # The grant came in the middle: what is left is compared in a resync.
            self._link.say_goodbye()
        self.drain()
        self._on_change()

    # Disks whose flush has failed

    def _withdraw_if_due(self) -> None:
        """Show disks that may lack what was acknowledged to nobody, once the secondary has all of that.

        Hosts are cut off, and wait for the role that starts with new stores and heals from the secondary.
        """
        if self._flush_fault is None or self.failed_flush is not None or not self.machine.disk_failed():
            return
        log.error("primary.withdrawn", error=str(self._flush_fault), consequence="the disks are opened anew and healed")
        self.failed_flush = self._flush_fault
        for device in self.devices.values():
            device.halt()
        self._on_change()
        self._run(self._end_role(self._flush_fault))

    async def _end_role(self, fault: StorageFault) -> None:
        """Let the worker start the role anew, when what the next one must know is durable."""
        self.failed_flush = fault
        try:
            await self.distrust()
        finally:
            self._link.want(None)
            self._link.cut(_not_durable(fault))
            self._on_change()

    # Healing

    def _take_contents(self) -> None:
        """Write what the secondary sent into the stores."""
        try:
            for index, offset, data in self.machine.take_contents():
                store = self._stores[index]
                if _ZEROS.startswith(data):
                    store.zero(offset, len(data), punch=True)
                else:
                    store.write(data, offset)
                self.machine.content_applied(index, offset, len(data))
        except StorageFault as fault:
            self._link.cut(Failure("37100177", f"production disk cannot be healed: {fault}"))
            return
        self._heal_if_due()

    def _heal_if_due(self) -> None:
        if self.machine.is_healed and not self.machine.is_flushing_healed:
            self.machine.is_flushing_healed = True
            self._run(self._finish_healing())

    async def _finish_healing(self) -> None:
        """Make durable what was healed; then mirror, and be shown to hosts."""
        attempt = self._attempt
        try:
            await self._flush_here()
        except StorageFault as fault:
            await self._healing_failed(fault)
            return
        try:
            is_healed = attempt == self._attempt and self.machine.is_healed
            if is_healed and not await self._standing.healed():
                self._arbitration.allow_asking()
                self._link.say_goodbye()
        finally:
            self.machine.is_flushing_healed = False
        if attempt != self._attempt:
            # The next session may have found nothing left to take, and waits for its own end of the healing.
            self._heal_if_due()
            return
        if self.machine.phase is Phase.MIRRORED:
            self._resync_times.finish()
            self._came_in_sync()
        if not self._wants_stream:
            self.machine.stop()
            self._arbitration.allow_asking()
        self.drain()
        self._on_change()

    async def _healing_failed(self, fault: StorageFault) -> None:
        """The disk may show what was there before the healing, and these stores will never flush again.

        The machine goes on counting as flushing: there is no grant, and no stream, until the worker has started the
        role anew. What this records lets that one take everything again that the intent log names, without comparing.
        """
        log.error("primary.healed_not_flushed", error=str(fault), consequence="the disks are opened anew")
        if not self.machine.is_unsettled:
            # The arbiter's grant came first: this side answers for its disk alone, as after any flush that fails.
            self.machine.is_flushing_healed = False
            await self.distrust()
            return
        await self._end_role(fault)

    async def _accept_loss(self, acceptances: int) -> None:
        """An operator lets this side go on with what it has."""
        await self._standing.accept_loss(acceptances)
        self._arbitration.look()

    # Tasks

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(self._guard(work))
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def _guard(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except StorageFault as fault:
            log.error("primary.not_recorded", error=str(fault))
            self._link.cut(Failure("37100177", f"production site cannot record what it does: {fault}"))
        except Exception as error:
            # Whatever the task was to do is not done, and nobody would do it again.
            log.exception("primary.bug")
            self.bug = self.bug or error
            self._on_change()

    def _is_quiet(self) -> bool:
        """Say whether the intent log may forget: no change is under way in a thread, and no handover runs."""
        return self._handover is None and not any(device.is_zeroing for device in self.devices.values())

    def _note_state(self) -> None:
        """Keep up what others wait for, and let the arbiter be asked if the machine wants it."""
        machine = self.machine
        if self._flush_fault is None and machine.phase is Phase.MIRRORED and self._state.doubt is Doubt.FLUSH_FAILED:
            # The secondary has everything, and what is read here proves no more than when that role ended.
            self._flush_fault = StorageFault("flush", "the disks", "a flush failed here before this worker was started")
        if machine.flight.entries or machine.flight.waiters:
            self._nothing_in_flight.clear()
        else:
            self._nothing_in_flight.set()
            is_equal = machine.is_confirmed and not machine.is_dirty
            if self._wish is Replication.HANDOVER and is_equal and self._handover is None:
                self._handover = FlushBoth(
                    machine, self._stores, self._flush, self.drain, self._on_change, self.flush_failed
                )
                self.drain()
                return
        is_alone = machine.phase is _ALONE
        if is_alone and not self._is_alone:
            self._run(self._flush_what_is_only_here())
        self._is_alone = is_alone
        if machine.phase in (_ALONE, _REPLACED):
            self._stream_ended.set()
        if machine.phase not in (_HOLDING, _HEALING):
            self._may_serve |= machine.phase is not _REPLACED
            self._holds.end()
        else:
            self._holds.begin(self._may_serve)
        if self._flush_fault is not None:
            self._withdraw_if_due()
        self._arbitration.look()


def _not_durable(fault: StorageFault) -> Failure:
    return Failure(
        "37100177",
        f"the production site cannot make its disks durable, and shows them to nobody: {fault}; {OPENS_ANEW}; "
        "if that does not end, fail over",
    )


# Names of their own, because a member of an enumeration takes 0.1 µs to look up, and the hot path asks for ten of them.
_COPYING, _MIRRORED, _HOLDING, _HEALING = Phase.COPYING, Phase.MIRRORED, Phase.HOLDING, Phase.HEALING
_ALONE, _REPLACED = Phase.ALONE, Phase.REPLACED
_ZEROS = bytes(FETCH_BYTES_MAX)

_MODES = {
    Phase.COPYING: Mode.COPYING,
    Phase.FINISHING: Mode.COPYING,
    Phase.STOPPING: Mode.IN_SYNC,
    Phase.DRAINING: Mode.PAUSED,
    Phase.HOLDING: Mode.HOLDING,
    Phase.HEALING: Mode.HOLDING,
    Phase.REPLACED: Mode.REPLACED,
}
