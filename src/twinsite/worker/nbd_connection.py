"""One host's connection: the asyncio shell around `core.nbd`, and the sink of its replies.

Everything that one receive brought is one batch: parsed in place, submitted to the device in one call, and answered by
one send. This is the hottest path of the product, so there is no awaiting, no scheduling and no object for each request
but its tuple.

Reading pauses while any of these holds: the device asked for it, the transport's send buffer is over its bound, the
parser waits for requests in progress, or the client has said goodbye.

A host that hangs up meanwhile is not noticed by the loop, which does not look at the socket. Before what it had sent is
executed, that is looked at: its writes may be old by then, since it may have written the same place anew over another
connection, and have been told of that. So it is after a pause until the kernel has nothing more that came meanwhile.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

import structlog

from twinsite.core import limits
from twinsite.core.nbd import replies
from twinsite.core.nbd.handshake import Aborted, Handshake, Negotiated
from twinsite.core.nbd.receive_buffer import ReceiveBuffer
from twinsite.core.nbd.transmission import Transmission
from twinsite.errors import InternalError, PeerViolation
from twinsite.stores.base import Extent
from twinsite.worker.device import Device, ExportInfo
from twinsite.worker.polling import POLL_RECEIVE_BYTES_MAX, AdaptivePolling

_SEND_ALONE_BYTES = 128 * limits.KIB
"""Data of a read from this size on is sent by itself, because joining it with other replies would copy it."""

_log = structlog.get_logger(__name__)
_simple_reply = replies.simple_reply


class Exports(Protocol):
    """What a connection needs of its server."""

    def infos(self) -> Mapping[str, ExportInfo]:
        """Return what there is to connect to, by name."""

    def device(self, name: str) -> Device | None:
        """Return the device of an export, or None when it has been removed."""


def _keep_alive(transport_socket: socket.socket) -> None:
    """Let the kernel find out that a TCP client's machine is gone; nobody else would, while no reply is due."""
    if transport_socket.family == socket.AF_UNIX:
        return
    seconds = limits.NBD_KEEPALIVE_SECONDS
    transport_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    transport_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
    transport_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, seconds // 4))
    transport_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def has_hung_up(transport: asyncio.Transport, *, has_said_goodbye: bool) -> bool:
    """Say whether the other end of a connection is gone, as far as the kernel has heard, also while nothing is read.

    Who `has_said_goodbye` may send no more and still wait for answers.
    """
    descriptor = transport.get_extra_info("socket").fileno()
    if descriptor < 0:
        return True
    poll = select.poll()
    # A hang-up in both directions is told in any case.
    poll.register(descriptor, 0 if has_said_goodbye else select.POLLRDHUP)
    return bool(poll.poll(0))


def _finish_nothing(cookie: int) -> None:
    raise InternalError(f"request {cookie} was completed before there were requests")


class NbdConnection(asyncio.BufferedProtocol):
    """The protocol object of one connection; a `worker.device.ReplySink` for its device."""

    def __init__(
        self,
        exports: Exports,
        on_lost: Callable[[NbdConnection], None],
        handshake_seconds: float = limits.NBD_HANDSHAKE_SECONDS,
    ) -> None:
        """Serve one of `exports`; call `on_lost` once, when the connection is gone."""
        self.export_name: str | None = None
        """The export in use, once the handshake is over."""
        self._exports = exports
        self._on_lost = on_lost
        self._handshake_seconds = handshake_seconds
        self._handshake_timer: asyncio.TimerHandle | None = None
        self._handshake: Handshake | None = Handshake(exports.infos)
        self._transmission: Transmission | None = None
        self._device: Device | None = None
        self._transport: asyncio.Transport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._polling: AdaptivePolling | None = None
        self._buffer = ReceiveBuffer(limits.NBD_RECEIVE_BUFFER_BYTES)
        self._structured = False
        self._finish: Callable[[int], None] = _finish_nothing
        self._output: list[bytes | bytearray | memoryview] = []
        self._device_pauses = 0
        self._is_write_paused = False
        self._is_reading = True
        self._is_behind = False
        """The kernel may have more that came long ago: reading is resumed, or the last receive filled the buffer."""
        self._is_scheduled = False
        self._is_aborted = False

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the client."""
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()
        self._polling = AdaptivePolling(self._loop)
        if self._is_aborted:
            self._transport.abort()
            return
        _keep_alive(transport.get_extra_info("socket"))
        self._transport.set_write_buffer_limits(high=limits.NBD_REPLY_BACKLOG_BYTES)
        self._handshake_timer = self._loop.call_later(self._handshake_seconds, self._handshake_timed_out)
        assert self._handshake is not None
        self._transport.write(self._handshake.take_output())

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go."""
        del sizehint
        return self._buffer.space()

    def buffer_updated(self, nbytes: int) -> None:
        """Handle what one receive brought."""
        buffer = self._buffer
        buffer.filled(nbytes)
        if self._transmission is None:
            self._negotiate()
        else:
            is_full = buffer.end == buffer.capacity
            self._process()
            self._is_behind = is_full
            if nbytes < POLL_RECEIVE_BYTES_MAX and self._polling is not None:
                self._polling.received()

    def eof_received(self) -> bool:
        """Close: without a goodbye there is nobody left to answer."""
        return False

    def pause_writing(self) -> None:
        """Stop taking requests: the client does not read its replies."""
        self._is_write_paused = True

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        self._is_write_paused = False
        self._schedule()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget everything; requests in progress go on in the device and their replies go nowhere."""
        del exc
        self._transport = None
        self._stop_handshake()
        self._output.clear()
        if self._device is not None:
            self._device.connection_lost(self)
        self._on_lost(self)

    # What the server calls.

    def abort(self) -> None:
        """End the connection at once, or as soon as it is made."""
        self._is_aborted = True
        if self._transport is not None:
            self._transport.abort()

    # What the device calls: the sink.

    def is_gone(self) -> bool:
        """Say whether the host has hung up."""
        transport, transmission = self._transport, self._transmission
        if transport is None or transport.is_closing():
            return True
        return has_hung_up(transport, has_said_goodbye=transmission is not None and transmission.is_disconnected)

    def complete(self, cookie: int) -> None:
        """Queue a success without data."""
        self._finish(cookie)
        self._output.append(_simple_reply(cookie))

    def fail(self, cookie: int, errno_value: int) -> None:
        """Queue a failure with a kernel errno."""
        self._finish(cookie)
        self._queue_error(cookie, errno_value)

    def complete_read(self, cookie: int, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Queue the data of a read."""
        self._finish(cookie)
        header = replies.data_header(cookie, offset, len(data)) if self._structured else _simple_reply(cookie)
        self._output.append(header)
        if len(data) < _SEND_ALONE_BYTES:
            self._output.append(data)
            return
        self._send()
        if self._transport is not None:
            self._transport.write(memoryview(data))

    def complete_block_status(self, cookie: int, extents: Sequence[Extent]) -> None:
        """Queue a block status."""
        self._finish(cookie)
        self._output.append(replies.block_status(cookie, extents))

    def flush(self) -> None:
        """Send the queued replies; go on with requests that waited for them."""
        self._send()
        if self._transmission is not None and (self._transmission.is_limited or self._transmission.is_disconnected):
            self._schedule()

    def pause_reading(self) -> None:
        """Take no further requests until as many calls of `resume_reading`."""
        self._device_pauses += 1
        self._update_reading()

    def resume_reading(self) -> None:
        """Undo one `pause_reading`."""
        assert self._device_pauses > 0
        self._device_pauses -= 1
        if self._device_pauses == 0:
            self._schedule()

    # Handshake.

    def _negotiate(self) -> None:
        handshake, transport = self._handshake, self._transport
        if handshake is None or transport is None:
            return
        try:
            handshake.advance(self._buffer)
        except PeerViolation as violation:
            transport.write(handshake.take_output())
            self._end(violation)
            return
        transport.write(handshake.take_output())
        self._buffer.compact()
        outcome = handshake.outcome
        if isinstance(outcome, Negotiated):
            self._stop_handshake()
            self._start_transmission(outcome)
        elif isinstance(outcome, Aborted):
            self._stop_handshake()
            transport.close()

    def _start_transmission(self, agreed: Negotiated) -> None:
        self._device = self._exports.device(agreed.export.name)
        assert self._device is not None  # Nothing can have removed it since the handshake looked it up, a moment ago.
        self.export_name = agreed.export.name
        self._structured = agreed.structured_replies
        self._transmission = Transmission(agreed, self._buffer)
        self._finish = self._transmission.finish
        self._process()

    def _stop_handshake(self) -> None:
        self._handshake = None
        if self._handshake_timer is not None:
            self._handshake_timer.cancel()
            self._handshake_timer = None

    def _handshake_timed_out(self) -> None:
        self._end(PeerViolation(f"no export was chosen within {self._handshake_seconds:g} seconds"))

    def _end(self, violation: PeerViolation) -> None:
        _log.info("nbd connection ended", export=self.export_name, reason=str(violation))
        if self._transport is not None:
            self._transport.abort()

    # Transmission.

    def _process(self) -> None:
        """Parse, submit and answer until bytes are lacking or something says to wait."""
        self._is_scheduled = False
        transport, transmission, device = self._transport, self._transmission, self._device
        if transport is None or transmission is None or device is None:
            return
        if self._is_behind or not self._is_reading:
            if transport.is_closing():
                return  # It sends what is left to be sent.
            if not transmission.is_disconnected and self.is_gone():
                transport.abort()
                return
        try:
            while self._device_pauses == 0 and not self._is_write_paused:
                batch = transmission.parse()
                for refusal in transmission.refusals:
                    self._queue_error(refusal.cookie, refusal.error)
                transmission.refusals.clear()
                if batch:
                    device.submit(batch, self)
                self._send()
                if not (batch and transmission.is_limited):
                    break
        except PeerViolation as violation:
            self._end(violation)
            return
        self._buffer.compact()
        self._update_reading()
        if transmission.is_disconnected and transmission.requests_in_progress == 0 and self._transport is not None:
            self._transport.close()

    def _schedule(self) -> None:
        """Call `_process` from the loop: a device that completes requests must not be entered again at once."""
        if self._is_scheduled or self._transport is None or self._loop is None:
            return
        self._is_scheduled = True
        self._loop.call_soon(self._process)

    def _queue_error(self, cookie: int, errno_value: int) -> None:
        error = replies.structured_error if self._structured else replies.simple_error
        self._output.append(error(cookie, errno_value))

    def _send(self) -> None:
        output = self._output
        if not output:
            return
        if self._transport is not None:
            self._transport.write(b"".join(output) if len(output) > 1 else output[0])
        output.clear()

    def _update_reading(self) -> None:
        transmission = self._transmission
        must_read = (
            self._device_pauses == 0
            and not self._is_write_paused
            and not (transmission is not None and (transmission.is_limited or transmission.is_disconnected))
        )
        if must_read == self._is_reading or self._transport is None:
            return
        self._is_reading = must_read
        if must_read:
            self._is_behind = True
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()
