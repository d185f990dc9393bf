"""A group at its secondary site: a listener, one connection at a time, frames applied in order, acknowledgements."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace

import structlog

from twinsite.core.group.secondary import Secondary, check_hello
from twinsite.core.limits import STREAM_RECEIVE_BUFFER_BYTES
from twinsite.core.stream.frames import ASKING, Flag, Frame, Kind, decode_json, encode_json
from twinsite.core.stream.hello import Doubt, Hello, Welcome, seal
from twinsite.core.tracking.undo import UndoHeader
from twinsite.errors import PeerViolation, StorageFault
from twinsite.messages import Failure, MemberStatus, Mode, WorkerSpec, split_endpoint
from twinsite.stores.base import Store
from twinsite.worker.secondary_session import SecondarySession
from twinsite.worker.starting import recorded_runs
from twinsite.worker.state import ReplicaState, StateDirectory, doubt_of, read_boot_id
from twinsite.worker.stream_connection import StreamConnection
from twinsite.worker.taking_over import compare_images, remember_secondary
from twinsite.worker.undo_log import UndoLog

log = structlog.get_logger(__name__)

PENDING_CONNECTIONS_MAX = 16
"""Connections in their handshake; one more ends the oldest that has not yet said who it is."""


_CHANGING = frozenset({Kind.WRITE, Kind.ZERO})
"""Frames that change what the disks hold."""
# Numbers, because to look up a member of an enumeration takes as long as the rest of a line of the hot path, and to use
# one with "&" longer than all of it.
_WRITE = int(Kind.WRITE)
_ZERO = int(Kind.ZERO)
_FLUSH = int(Kind.FLUSH)
_RESYNC_BEGIN = int(Kind.RESYNC_BEGIN)
_RESYNC_END = int(Kind.RESYNC_END)
_RESYNC = int(Flag.RESYNC)
_PUNCH = int(Flag.PUNCH)


class SecondaryGroup:
    """Follows the stream. Serves no host."""

    def __init__(
        self,
        spec: WorkerSpec,
        stores: Mapping[int, Store],
        directory: StateDirectory,
        state: ReplicaState,
        executor: Executor,
        on_change: Callable[[], None],
    ) -> None:
        """Take over the stores (by member index) with what `state` remembers of them."""
        self._spec = spec
        self._stores = dict(stores)
        self._directory = directory
        self._state = state
        images = compare_images(state, spec.members, stores)
        self._boot_id = read_boot_id()
        remember_secondary(state, images, self._boot_id)
        state.loss_acceptances = max(state.loss_acceptances, spec.loss_acceptances)
        self._runs = recorded_runs(directory, spec.members) if state.led else []
        self.executor = executor
        self._on_change = on_change
        self._server: asyncio.Server | None = None
        self._pending: dict[SecondarySession, None] = {}  # In the order of their coming.
        self._admitting = asyncio.Lock()  # One session is let in at a time, and none while members change.
        self._active: SecondarySession | None = None
        self._settling: asyncio.Task[None] | None = None
        self._bytes_of_past_sessions = (0, 0)
        self._applied_in_past_sessions = 0
        self.session_count = 0
        self._undo_lock = asyncio.Lock()
        self._undo = UndoLog.resume(directory.files, directory.undo_path)
        if self._undo is not None and images.differ:
            self._undo.finish()
            self._undo = None
        elif self._undo is not None and state.is_consistent:
            # The resync that it stood for has ended, and only this was missed.
            self._undo.finish()
            self._undo = None
        elif self._undo is not None:
            self._undo.grow({member.index: member.size_bytes for member in spec.members})
        self.failure: Failure | None = None
        self.failed_flush: StorageFault | None = None
        """These stores will flush no more: the role must start with new ones, for the worker to see at `on_change`."""

    # What the worker says

    async def listen(self) -> None:
        """Open the stream listener where the spec says."""
        host, port = split_endpoint(self._spec.stream_listen or "127.0.0.1:0")
        self._server = await asyncio.get_running_loop().create_server(self._new_connection, host, port)

    @property
    def endpoint(self) -> str | None:
        """Return "host:port" of the listener."""
        if self._server is None:
            return None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def apply(self, spec: WorkerSpec) -> None:
        """Take a newer spec of the same members."""
        self._spec = spec
        self._state.loss_acceptances = max(self._state.loss_acceptances, spec.loss_acceptances)

    async def close(self) -> None:
        """End the session, flush, and remember that nothing is unstable."""
        if self._server is not None:
            self._server.close()
        async with self._admitting:
            await self._end_sessions()
        if self._undo is not None:
            self._undo.close()

    async def change_members(self, spec: WorkerSpec, added: Mapping[int, Store], removed: Sequence[int]) -> None:
        """Let volumes in and out; a session ends first, since its hello named the old ones."""
        async with self._admitting:
            await self._end_sessions()
            if self._undo is not None:
                # Other disks, another image: there is no common point of all of them to return to. What this side alone
                # had as a primary is kept readable all the same.
                self._undo.finish()
                self._undo = None
            stores = {**self._stores, **added}
            self._state.replace_images({(m.volume_id, m.index): stores[m.index].identity for m in spec.members})
            if added:
                # The new volumes' content belongs to no lineage yet.
                self._state.is_consistent, self._state.led = False, []
            await self._save()
            for index in removed:
                del self._stores[index]
            self._stores.update(added)
            self._spec = spec

    async def grow_members(self, sizes_bytes: Mapping[int, int]) -> None:
        """Let members, by index, be larger from now on; their stores are. A session goes on and may use it at once."""
        async with self._admitting, self._undo_lock:
            if self._undo is not None:
                self._undo.grow(sizes_bytes)
            members = [replace(m, size_bytes=sizes_bytes.get(m.index, m.size_bytes)) for m in self._spec.members]
            self._spec = replace(self._spec, members=members)
            if self._active is not None and self._active.machine is not None:
                self._active.machine.grow(sizes_bytes)

    # Status

    def mode(self) -> Mode:
        """Return what the group is doing, in the words of the status."""
        return Mode.FOLLOWING

    @property
    def is_consistent(self) -> bool:
        """Say whether this image is at one point of the group's history, if nothing was lost that was applied to it.

        That of a former primary is, though it is of another history than the group's by now.
        """
        return self._state.is_consistent or bool(self._state.led)

    @property
    def is_doubtful(self) -> bool:
        """Say whether what was applied here may be lost: the machine restarted, or a flush failed, before that."""
        return doubt_of(self._state, self._boot_id) is not Doubt.NONE

    @property
    def rollback_point(self) -> float | None:
        """Return the time of the common point that an image which is not consistent can be rolled back to, or None."""
        return self._undo.header.point_at if self._undo is not None and not self._state.is_consistent else None

    @property
    def acknowledged_sequence(self) -> int:
        """Return the last sequence that this side applied since it started, or 0."""
        machine = self._active.machine if self._active is not None else None
        return machine.applied_sequence if machine is not None else self._applied_in_past_sessions

    @property
    def has_primary(self) -> bool:
        """Say whether a primary is let in."""
        return self._active is not None

    sent_sequence = acknowledged_sequence

    def member_statuses(self) -> list[MemberStatus]:
        """Return the members' status, in the order of the spec."""
        return [MemberStatus(volume_id=member.volume_id, serving=False) for member in self._spec.members]

    def bytes_moved(self) -> tuple[int, int]:
        """Return (sent, received) on the stream since the start."""
        sent, received = self._bytes_of_past_sessions
        if self._active is not None and self._active.connection is not None:
            connection = self._active.connection
            sent, received = sent + connection.bytes_sent, received + connection.bytes_received
        return sent, received

    # What sessions say

    def stream_key(self) -> bytes:
        """Return the group's shared secret."""
        return bytes.fromhex(self._spec.stream_key)

    async def admit(self, session: SecondarySession, hello: Hello) -> None:
        """A primary has proved the key: let it replace the session before it, once that one's writes are flushed."""
        async with self._admitting:
            await self._admit(session, hello)

    async def _admit(self, session: SecondarySession, hello: Hello) -> None:
        sizes_bytes = {member.index: member.size_bytes for member in self._spec.members}
        check_hello(hello, self._spec.id, self._state.term, sizes_bytes)
        if self._active is not None:
            self._active.end(Failure("37000216", "a newer connection of the primary took over"))
            await self._active.over.wait()
        if self._settling is not None:
            await self._settling
        if self._state.doubt is Doubt.FLUSH_FAILED:
            # Where a flush fails for good, a full copy would only end in the same fault.
            await self.flush_all()
        state = self._state
        state.doubt = doubt_of(state, self._boot_id)
        welcome = Welcome(
            term=hello.term,
            generation=state.generation,
            consistent=state.is_consistent,
            doubt=state.doubt,
            led=state.led,
            runs=self._runs if state.led else [],
        )
        self._state.term = hello.term
        # Maps that this side saved as a primary do not know what the stream brings from now on.
        self._state.is_clean, self._state.generations = False, []
        await self._save()
        if session.connection is None or session.connection.is_closing:
            return
        self._pending.pop(session, None)
        self._active = session
        self.session_count += 1
        session.machine = Secondary(sizes_bytes, hello.first_sequence)
        session.connection.send([encode_json(Kind.WELCOME, seal(welcome, self.stream_key(), hello.nonce))])
        log.info("stream.up", term=hello.term, first_sequence=hello.first_sequence)
        self._on_change()

    def must_save_first(self, operations: Sequence[Frame]) -> bool:
        """Say whether old content has to be kept before these operations: a consistent image is being overwritten.

        Questions overwrite nothing: a batch of them waits for no thread.
        """
        kinds = {operation.kind for operation in operations}
        return _RESYNC_BEGIN in kinds or (self._undo is not None and not kinds <= ASKING)

    async def save_first(self, operations: Sequence[Frame]) -> None:
        """Keep what the operations will overwrite. Raises `StorageFault`; nothing is applied then."""
        async with self._undo_lock:
            undo = self._undo
            if undo is None:
                return
            try:
                await asyncio.get_running_loop().run_in_executor(self.executor, undo.save, self._stores, operations)
            except StorageFault:
                # What it has in memory may be ahead of what it has on disk.
                undo.close()
                self._undo = UndoLog.resume(self._directory.files, self._directory.undo_path)
                if self._undo is not None:
                    self._undo.grow({member.index: member.size_bytes for member in self._spec.members})
                raise

    def apply_frames(self, session: SecondarySession, operations: Sequence[Frame]) -> None:
        """Do the operations of one receive, in order. Raises `StorageFault`."""
        if self._state.unstable_boot_id != self._boot_id and any(frame.kind in _CHANGING for frame in operations):
            self._record_unstable()
        stores = self._stores
        answers = session.answers
        is_comparing = answers.is_comparing
        for operation in operations:
            kind, flags, volume, length, sequence, offset, payload = operation
            if is_comparing and kind in _CHANGING:
                answers.touch(volume, offset, length)
            if kind == _WRITE:
                assert payload is not None
                stores[volume].write(payload, offset)
                if flags & _RESYNC:
                    session.count_resync(volume, length)
            elif kind == _ZERO:
                stores[volume].zero(offset, length, punch=bool(flags & _PUNCH))
            elif kind == _FLUSH:
                session.flush(volume, sequence)
            elif kind == _RESYNC_BEGIN:
                self._begin_resync(payload)
            elif kind == _RESYNC_END:
                session.end_resync(sequence)
            else:
                session.answer(operation)

    def store(self, volume: int) -> Store:
        """Return a member's store."""
        return self._stores[volume]

    async def flush_all(self) -> None:
        """Flush every store. Raises `StorageFault`; what was applied is then suspect until a full resync has ended.

        A fault is told at once, and raised when no store is being flushed any more: whoever sees it may close them.
        """
        loop = asyncio.get_running_loop()
        flushes = [loop.run_in_executor(self.executor, store.flush) for store in self._stores.values()]
        try:
            await asyncio.gather(*flushes)
        except StorageFault as fault:
            await self.flush_failed(fault)
            raise
        finally:
            await asyncio.gather(*flushes, return_exceptions=True)

    async def flush_failed(self, fault: StorageFault) -> None:
        """A flush failed: the kernel may have dropped what was applied. Raises `StorageFault` if that is not recorded.

        The worker is to open the stores anew; until then every session ends at its beginning.
        """
        self.failed_flush = fault
        self._on_change()
        await self.distrust()

    async def distrust(self) -> None:
        """Make durable that a flush failed here. Raises `StorageFault`."""
        self._state.doubt = Doubt.FLUSH_FAILED
        await self._save()

    async def resync_ended(self) -> None:
        """Everything up to the end of a resync is durable. Raises `StorageFault` when a disk has failed since."""
        if self.failed_flush is not None:
            raise self.failed_flush
        self._state.is_consistent = True
        self._state.doubt = Doubt.NONE
        if self._state.unstable_boot_id != self._boot_id:
            # Nothing was applied since the restart that was doubted, and everything is flushed.
            self._state.unstable_boot_id = None
        await self._save()
        # Frames that follow the end may be saved in a thread just now: the log must not be closed under it.
        async with self._undo_lock:
            undo, self._undo = self._undo, None
            if undo is not None:
                try:
                    undo.finish()
                except StorageFault as error:
                    log.error("secondary.undo_log_not_kept", error=str(error), consequence="the next start tries again")
        self.failure = None
        self._on_change()

    def session_over(self, session: SecondarySession, failure: Failure | None) -> None:
        """A connection is gone: flush what it brought, so that a later restart of the machine loses nothing."""
        self._pending.pop(session, None)
        if self._active is not session:
            return
        self._active = None
        if session.machine is not None:
            self._applied_in_past_sessions = session.machine.applied_sequence
        if session.connection is not None:
            sent, received = self._bytes_of_past_sessions
            connection = session.connection
            self._bytes_of_past_sessions = sent + connection.bytes_sent, received + connection.bytes_received
        self.failure = failure
        log.info("stream.down", reason=failure.message if failure else "closed")
        self._settling = asyncio.create_task(self._settle(session), name="settle")
        self._on_change()

    # Inside

    def _new_connection(self) -> asyncio.BaseProtocol:
        session = SecondarySession(self)
        if len(self._pending) >= PENDING_CONNECTIONS_MAX:
            silent = next((pending for pending in self._pending if not pending.is_known), None)
            if silent is None:
                session.is_refused = True
            else:
                # Whoever holds connections open without a word must not keep the primary out.
                del self._pending[silent]
                silent.end(Failure("37000216", "too many connections are in their handshake"))
        self._pending[session] = None
        return StreamConnection(session, STREAM_RECEIVE_BUFFER_BYTES)

    def _record_unstable(self) -> None:
        """Make durable that from now on a restart of the machine may lose something; before it, it loses nothing."""
        before, self._state.unstable_boot_id = self._state.unstable_boot_id, self._boot_id
        try:
            # In the loop on purpose: nothing may be applied before, and it is once a session at most.
            self._directory.save(self._state)
        except StorageFault:
            self._state.unstable_boot_id = before
            raise

    def _begin_resync(self, payload: memoryview | None) -> None:
        assert payload is not None
        frame = Frame(Kind.RESYNC_BEGIN, 0, 0, len(payload), 0, 0, payload)
        generation = decode_json(frame).get("generation")
        if not isinstance(generation, str) or not generation:
            raise PeerViolation("a resync begins without a generation")
        state = self._state
        is_worth_keeping = bool(state.led) or (state.is_consistent and state.doubt is Doubt.NONE)
        if is_worth_keeping and self._undo is None:
            sizes_bytes = {str(member.index): member.size_bytes for member in self._spec.members}
            volume_ids = {str(member.index): member.volume_id for member in self._spec.members}
            point_at = time.time() if state.led else state.consistent_at or time.time()
            header = UndoHeader("" if state.led else state.generation, point_at, sizes_bytes, volume_ids)
            self._undo = UndoLog.begin(self._directory.files, self._directory.undo_path, header)
        state.generation = generation
        state.is_consistent, state.led = False, []
        # In the loop on purpose: no frame after this one may be applied before the record is durable.
        self._directory.save(self._state)
        self._on_change()

    async def _settle(self, session: SecondarySession) -> None:
        """Never raises: who comes next waits for the end of it and finds out for itself what is wrong."""
        await session.quiet()
        try:
            await self.flush_all()
            self._state.unstable_boot_id = None
            if self._state.is_consistent:
                self._state.consistent_at = time.time()
            await self._save()
        except StorageFault as error:
            log.error("secondary.not_settled", error=str(error), doubt=self._state.doubt.value)

    async def _end_sessions(self) -> None:
        for session in [*self._pending, *([self._active] if self._active else [])]:
            session.end(None)
            await session.over.wait()
        if self._settling is not None:
            await asyncio.shield(self._settling)

    async def _save(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self.executor, self._directory.save, self._state)
