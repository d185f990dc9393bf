"""One connection of a primary at the secondary: challenge, hello, frames, flushes, and an end with a reason."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Coroutine, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import structlog

from twinsite.core.group.secondary import Secondary
from twinsite.core.limits import STREAM_HANDSHAKE_SECONDS
from twinsite.core.stream.frames import PROTOCOL_VERSION, Frame, Kind, decode_json, encode_header, encode_json
from twinsite.core.stream.hello import Challenge, open_hello
from twinsite.errors import PeerViolation, StorageFault
from twinsite.messages import Failure
from twinsite.worker.answers import Answers
from twinsite.worker.stream_connection import StreamConnection

if TYPE_CHECKING:
    from twinsite.worker.secondary_group import SecondaryGroup

log = structlog.get_logger(__name__)

RESYNC_FLUSH_BYTES = 128 * 1024 * 1024
"""Resync data after which a flush is started."""


class SecondarySession:
    """One connection of a primary, from its challenge to its end: a `StreamHandler`."""

    def __init__(self, group: SecondaryGroup) -> None:
        self._group = group
        self._nonce = secrets.token_hex(16)
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting_flushes: dict[int, list[int]] = {}  # Member index to the sequences that the next flush answers.
        self._running_flushes: set[int] = set()
        self._answers = Answers(group.executor, self._send)
        self._resync_bytes = 0  # Since the last flush that they started.
        self.connection: StreamConnection | None = None
        self.machine: Secondary | None = None
        self.is_refused = False
        self.is_known = False  # It has proved the key.
        self.over = asyncio.Event()

    # StreamHandler

    def connection_made(self, connection: StreamConnection) -> None:
        """Open with a challenge."""
        self.connection = connection
        if self.is_refused:
            connection.close(Failure("37000216", "too many connections are in their handshake"))
            return
        challenge = Challenge(PROTOCOL_VERSION, self._nonce, unpacks=True)
        connection.send([encode_json(Kind.CHALLENGE, asdict(challenge))])
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(STREAM_HANDSHAKE_SECONDS, self._give_up_handshake)

    def frames_received(self, connection: StreamConnection, frames: Sequence[Frame]) -> None:
        """Take the hello; then apply frames and acknowledge them all at once."""
        machine = self.machine
        if machine is None:
            self._take_hello(frames)
            return
        operations = machine.accept(frames)
        if not operations:
            return
        if self._group.must_save_first(operations):
            # The receive buffer is filled again before the thread has looked at it.
            copies = [_owned(operation) for operation in operations]
            connection.pause_reading()
            self._start(self._apply_carefully(connection, copies, machine.applied_sequence))
            return
        self._group.apply_frames(self, operations)
        connection.send([encode_header(Kind.ACK, 0, 0, 0, machine.applied_sequence, 0)])

    def oldest_unacknowledged(self) -> int | None:
        """A primary owes no acknowledgement."""
        return None

    def oldest_question(self) -> int | None:
        """A secondary asks nothing."""
        return None

    def connection_lost(self, connection: StreamConnection, failure: Failure | None) -> None:
        """The primary is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._group.session_over(self, failure)
        self.over.set()

    # What the group says

    def end(self, failure: Failure | None) -> None:
        """Close the connection."""
        if self.connection is not None:
            self.connection.close(failure)
        else:
            self.over.set()

    async def quiet(self) -> None:
        """Wait until nothing of this session is being applied, flushed or read any more."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def flush(self, volume: int, sequence: int) -> None:
        """Make a member durable up to here and say so; flushes that wait for the same disk share one."""
        self._waiting_flushes.setdefault(volume, []).append(sequence)
        if volume not in self._running_flushes:
            self._running_flushes.add(volume)
            self._start(self._flush_volume(volume))

    def count_resync(self, volume: int, length: int) -> None:
        """Let the disk work while a resync runs, so that its end does not wait for all of it at once."""
        self._resync_bytes += length
        if self._resync_bytes >= RESYNC_FLUSH_BYTES and volume not in self._running_flushes:
            self._resync_bytes = 0
            self._waiting_flushes.setdefault(volume, [])
            self._running_flushes.add(volume)
            self._start(self._flush_volume(volume))

    @property
    def answers(self) -> Answers:
        """Return the questions that are being answered."""
        return self._answers

    def answer(self, question: Frame) -> None:
        """Answer what the primary asks about the blocks as they are now."""
        self._start(self._answers.answer(question, self._group.store(question.volume)))

    def end_resync(self, sequence: int) -> None:
        """Make everything durable, record that the image is consistent, and say so."""
        self._start(self._end_resync(sequence))

    # Inside

    def _take_hello(self, frames: Sequence[Frame]) -> None:
        frames = [frame for frame in frames if frame.kind != Kind.HEARTBEAT]
        if not frames:
            return
        if self.is_known or len(frames) != 1 or frames[0].kind != Kind.HELLO:
            raise PeerViolation(f"frame of kind {frames[0].kind} came where one HELLO was due")
        hello = open_hello(decode_json(frames[0]), self._group.stream_key(), self._nonce)
        if hello.version != PROTOCOL_VERSION:
            raise PeerViolation(f"the primary speaks stream protocol {hello.version}, this side {PROTOCOL_VERSION}")
        self.is_known = True
        if self._timer is not None:
            self._timer.cancel()
        self._start(self._group.admit(self, hello))

    def _give_up_handshake(self) -> None:
        self.end(Failure("37000212", "the primary did not finish the handshake in time"))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._run(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _apply_carefully(self, connection: StreamConnection, operations: list[Frame], sequence: int) -> None:
        """Apply the frames of one receive, keeping first what they overwrite. The peer is not read from meanwhile."""
        begin = next((n for n, operation in enumerate(operations) if operation.kind == Kind.RESYNC_BEGIN), None)
        cuts = [0, len(operations)] if begin is None else [0, begin, begin + 1, len(operations)]
        for start, end in itertools.pairwise(cuts):
            part = operations[start:end]
            if part:
                await self._group.save_first(part)
                if self.over.is_set():
                    return
                self._group.apply_frames(self, part)
        connection.send([encode_header(Kind.ACK, 0, 0, 0, sequence, 0)])
        connection.resume_reading()

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a step of this session; what it raises ends the session."""
        try:
            await work
        except PeerViolation as error:
            log.warning("stream.refused", error=str(error))
            self.end(Failure("37000212", str(error)))
        except StorageFault as error:
            log.error("stream.storage_fault", error=str(error))
            self.end(Failure("37100178", f"the other site cannot store the data: {error}"))

    async def _flush_volume(self, volume: int) -> None:
        loop = asyncio.get_running_loop()
        store = self._group.store(volume)
        try:
            while (sequences := self._waiting_flushes.pop(volume, None)) is not None:
                try:
                    await loop.run_in_executor(self._group.executor, store.flush)
                except StorageFault as fault:
                    await self._group.flush_failed(fault)
                    raise
                self._say_flushed(sequences)
        finally:
            self._running_flushes.discard(volume)

    async def _end_resync(self, sequence: int) -> None:
        await self._group.flush_all()
        if self.over.is_set():
            # The next session may have begun to overwrite the image.
            return
        await self._group.resync_ended()
        self._say_flushed([sequence])

    def _send(self, parts: list[bytes | bytearray | memoryview]) -> None:
        if self.connection is not None:
            self.connection.send(parts)

    def _say_flushed(self, sequences: Sequence[int]) -> None:
        if self.connection is not None and sequences:
            self.connection.send([encode_header(Kind.FLUSHED, 0, 0, 0, sequence, 0) for sequence in sequences])


def _owned(operation: Frame) -> Frame:
    """Return the frame with a payload of its own, which what was unpacked has already."""
    payload = operation.payload
    if payload is None or isinstance(payload.obj, bytes):
        return operation
    return operation._replace(payload=memoryview(bytes(payload)))
