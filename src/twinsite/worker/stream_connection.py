"""One end of a stream on asyncio: bytes to frames, parts to one send, heartbeats, and an end with a reason.

What the frames mean is the handler's business (`primary_link`, `secondary_group`).
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import socket
from collections.abc import Sequence
from typing import Any, Protocol, cast

import structlog

from twinsite.core.limits import STREAM_CONTROL_BYTES_MAX
from twinsite.core.stream.frames import HEADER_BYTES, Frame, Kind, decode, decode_json, encode_header, encode_json
from twinsite.core.stream.liveness import Liveness, Verdict
from twinsite.errors import PeerViolation, StorageFault
from twinsite.messages import Failure
from twinsite.worker.polling import POLL_RECEIVE_BYTES_MAX, AdaptivePolling

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.5
"""How often a connection asks itself whether its peer lives."""

GOODBYE_SECONDS = 1.0
"""How long the peer may take to hear a bye and hang up before the connection is cut."""

SMALL_RECEIVE_BUFFER_BYTES = 2 * (STREAM_CONTROL_BYTES_MAX + HEADER_BYTES)
"""Enough for an end that receives no data frames."""


class StreamHandler(Protocol):
    """Who gives a connection's frames their meaning. All calls come from the event loop."""

    def connection_made(self, connection: StreamConnection) -> None:
        """The connection is open."""

    def frames_received(self, connection: StreamConnection, frames: Sequence[Frame]) -> None:
        """Frames of one receive; payloads are valid during the call. `PeerViolation` or `StorageFault` ends it."""

    def oldest_unacknowledged(self) -> int | None:
        """Return the sequence that the peer should answer next, or None when it owes nothing."""

    def oldest_question(self) -> int | None:
        """Return the sequence of the comparison or fetch that is unanswered for the longest time, or None."""

    def connection_lost(self, connection: StreamConnection, failure: Failure | None) -> None:
        """The connection is gone; `failure` says why unless it was said goodbye on purpose."""


class StreamConnection(asyncio.BufferedProtocol):
    """One TCP connection of a stream."""

    def __init__(self, handler: StreamHandler, receive_buffer_bytes: int) -> None:
        self._handler = handler
        # Pages of a mapping take no memory before they are first used; a bytearray writes all of its own at once.
        self._view = memoryview(mmap.mmap(-1, receive_buffer_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self._start = self._filled = 0  # What lies between has come and is not complete.
        self._loop = asyncio.get_running_loop()
        self._polling = AdaptivePolling(self._loop)
        self._liveness = Liveness(self._loop.time())
        self._transport: asyncio.Transport | None = None
        self._tick_handle: asyncio.TimerHandle | None = None
        self._goodbye_handle: asyncio.TimerHandle | None = None
        self._failure: Failure | None = None
        self._is_closing = False
        self.bytes_sent = 0
        self.bytes_received = 0
        """Without heartbeats that came or went alone: a connection that rests counts nothing."""

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, disable Nagle, start the ticks."""
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tick_handle = self._loop.call_later(TICK_SECONDS, self._tick)
        self._guard(lambda: self._handler.connection_made(self))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Give the free rest of the receive buffer."""
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Decode everything that came and hand it over as one batch; move an incomplete frame to the front."""
        self.bytes_received += nbytes
        if self._is_closing:
            return
        self._liveness.received(self._loop.time())
        self._filled += nbytes
        self._guard(self._take)
        if nbytes < POLL_RECEIVE_BYTES_MAX:
            self._polling.received()

    def eof_received(self) -> bool:
        """A peer that ends its sending is gone."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the handler once, with the best reason known."""
        self._is_closing = True
        for handle in (self._tick_handle, self._goodbye_handle):
            if handle is not None:
                handle.cancel()
        failure = self._failure
        if failure is None and exc is not None:
            failure = Failure("37100043", f"the connection to the other site broke: {exc}")
        self._handler.connection_lost(self, failure)

    # The handler's side

    @property
    def is_closing(self) -> bool:
        """Say whether this connection sends and receives no more."""
        return self._is_closing

    def send(self, parts: list[bytes | bytearray | memoryview]) -> None:
        """Send the parts in one go; they are copied or sent before this returns. A no-op once closing."""
        if self._is_closing or self._transport is None:
            return
        data = parts[0] if len(parts) == 1 and isinstance(parts[0], bytes) else b"".join(parts)
        self.bytes_sent += len(data)
        self._liveness.sent(self._loop.time())
        self._transport.write(data)

    def pause_reading(self) -> None:
        """Take nothing from the peer until `resume_reading`; what it sends stays in the socket."""
        if self._transport is not None and not self._is_closing:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        if self._transport is not None and not self._is_closing:
            self._liveness.received(self._loop.time())
            self._transport.resume_reading()

    def close(self, failure: Failure | None, *, say: bool = True) -> None:
        """End the connection, after a bye that gives the reason unless there is nobody to hear it.

        After the bye the connection only reads, and forgets, until the peer hangs up: closing with something unread
        would reset it, and the peer might lose the bye.
        """
        if self._is_closing:
            return
        self._failure = failure
        assert self._transport is not None
        if say:
            body: dict[str, Any] = {"reason": "stopped"}
            if failure is not None:
                body = {"reason": "failure", "code": failure.code, "message": failure.message}
            self.send([encode_json(Kind.BYE, body)])
            self._is_closing = True
            self._start = self._filled = 0
            with contextlib.suppress(OSError):  # The peer has hung up, and it has not been told to us yet.
                self._transport.write_eof()
            self._goodbye_handle = self._loop.call_later(GOODBYE_SECONDS, self._transport.abort)
        else:
            self._is_closing = True
            self._transport.abort()

    # Inside

    def _take(self) -> None:
        frames: list[Frame] = []
        rest = decode(self._view, self._start, self._filled, frames)
        kinds = [frame.kind for frame in frames]
        bye = kinds.index(_BYE) if _BYE in kinds else None
        before = frames if bye is None else frames[:bye]
        if kinds == _HEARTBEAT_ALONE:
            self.bytes_received -= len(_HEARTBEAT)
        if before and not self._is_closing:
            self._handler.frames_received(self, before)
        if bye is not None and not self._is_closing:
            self._take_bye(frames[bye])
        if self._is_closing:
            return
        if rest == self._start:
            if self._filled == len(self._view):
                raise PeerViolation(f"a frame is longer than the {self._filled} bytes that this end takes")
            return
        left = self._filled - rest
        # What comes next is put at the begin of a cache line, to where the kernel copies almost twice as fast.
        self._start = -left % _LINE_BYTES
        self._view[self._start : self._start + left] = self._view[rest : self._filled]
        self._filled = self._start + left

    def _take_bye(self, frame: Frame) -> None:
        body = decode_json(frame)
        if body.get("reason") == "failure":
            self._failure = Failure(str(body.get("code", "37000212"))[:16], str(body.get("message", ""))[:1024])
        self._is_closing = True
        assert self._transport is not None
        self._transport.close()

    def _guard(self, work: Any) -> None:
        """Run a step; what it raises for the peer or a disk ends this connection and nothing else."""
        try:
            work()
        except PeerViolation as error:
            log.warning("stream.violation", error=str(error))
            self.close(Failure("37000212", str(error)))
        except StorageFault as error:
            log.error("stream.storage_fault", error=str(error))
            self.close(Failure("37100178", f"the other site cannot store the data: {error}"))

    def _tick(self) -> None:
        if self._is_closing:
            return
        self._tick_handle = self._loop.call_later(TICK_SECONDS, self._tick)
        verdict = self._liveness.tick(
            self._loop.time(), self._handler.oldest_unacknowledged(), self._handler.oldest_question()
        )
        if verdict is Verdict.SEND_HEARTBEAT:
            self.send([_HEARTBEAT])
            self.bytes_sent -= len(_HEARTBEAT)
        elif verdict is not Verdict.NOTHING:
            log.warning("stream.given_up", reason=verdict.value)
            failure = Failure("37100043", f"the connection to the other site was given up: {verdict.value}")
            self.close(failure, say=False)


_LINE_BYTES = 64
_BYE = int(Kind.BYE)
_HEARTBEAT_ALONE = [int(Kind.HEARTBEAT)]
_HEARTBEAT = encode_header(Kind.HEARTBEAT, 0, 0, 0, 0, 0)
