"""The server's side of the transmission phase: requests are parsed in place, validated, and handed on in batches.

The theory: `parse` walks over the receive buffer. A request is either handed on as a `Request`, or refused with an
errno; a refused write is answered after its payload has been skipped, so that a client that sends before it reads is
not cut off. A write whose payload has not fully arrived is handed on in pieces, so one buffer is all that a connection
needs for requests of any size. Only a wrong magic raises `PeerViolation`: all else has an answer within the protocol.

Source: doc/proto.md of the NBD project, "Transmission phase", "Request types" and "Error values".
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from twinsite.core import limits
from twinsite.core.nbd import constants
from twinsite.core.nbd.constants import Command, CommandFlag, NbdError
from twinsite.core.nbd.handshake import Negotiated
from twinsite.core.nbd.receive_buffer import ReceiveBuffer
from twinsite.errors import PeerViolation

_unpack_request = struct.Struct("!IHHQQI").unpack_from

# Plain numbers: an enumeration's members cost more to compare, and this runs for every request.
_MAGIC = constants.REQUEST_MAGIC
_HEADER_BYTES = constants.REQUEST_BYTES
_READ = int(Command.READ)
_WRITE = int(Command.WRITE)
_DISC = int(Command.DISC)
_FLUSH = int(Command.FLUSH)
_BLOCK_STATUS = int(Command.BLOCK_STATUS)
_FAST_NO_HOLE = int(CommandFlag.FAST_ZERO | CommandFlag.NO_HOLE)

_CHANGING = frozenset({int(Command.WRITE), int(Command.TRIM), int(Command.WRITE_ZEROES)})
_TRANSFERRING = frozenset({_READ, _WRITE})
_NO_SPACE_PAST_END = frozenset({_WRITE, int(Command.WRITE_ZEROES)})
_new = tuple.__new__  # Half the time of `Request(…)`, which is a function in Python.


class Request(NamedTuple):
    """One validated NBD request, or one piece of a long write.

    `payload` is a view of the connection's receive buffer: it is valid only during the call of `Device.submit`.
    A long write comes in pieces, in order, the last one with `is_last`; it gets one completion, after its last piece.
    """

    command: int  # twinsite.core.nbd.constants.Command
    flags: int  # twinsite.core.nbd.constants.CommandFlag
    cookie: int
    offset: int
    length: int
    payload: memoryview | None
    is_last: bool


class Refusal(NamedTuple):
    """A request that is answered with an error and not executed."""

    cookie: int
    error: int  # twinsite.core.nbd.constants.NbdError


class Transmission:
    """The request parser of one connection.

    It also keeps the account of requests in progress, and stops (`is_limited`) at a request
    - that would be one more than `limits.NBD_CONNECTION_REQUESTS_MAX`;
    - whose cookie is that of a request in progress, so that for devices a cookie names one request of a connection;
    - that reads, if that took the promised bytes over `limits.NBD_REPLY_BACKLOG_BYTES`, unless no other read is in
      progress: a small request can ask for a large reply.
    """

    def __init__(self, agreed: Negotiated, buffer: ReceiveBuffer) -> None:
        """Parse requests for the negotiated export from `buffer`."""
        self.is_disconnected = False
        """The client has said that nothing more will come."""
        self.is_limited = False
        """The last `parse` stopped at a request that has to wait for others, not for bytes."""
        self.refusals: list[Refusal] = []
        """What `parse` refused; the shell answers and clears it."""
        self.read_bytes_in_progress = 0
        self._buffer = buffer
        self._size_bytes = agreed.export.size_bytes
        self._is_read_only = agreed.export.read_only
        self._block_status = agreed.block_status
        self._flags_allowed = _flags_allowed(agreed)
        self._in_progress: dict[int, int] = {}  # Cookie to the bytes of a read, or 0 for other requests.
        self._write_flags = 0  # The write whose payload is arriving, while `_write_left` > 0.
        self._write_cookie = 0
        self._write_offset = 0
        self._write_left = 0
        self._skip_left = 0  # Payload of a refused write that has not arrived.
        self._skip_refusal: Refusal | None = None

    @property
    def requests_in_progress(self) -> int:
        """Requests handed on, or being received, and not finished."""
        return len(self._in_progress)

    def parse(self) -> list[Request]:
        """Return the requests that are complete, and long writes as far as they have come, in order.

        Look at `refusals`, `is_limited` and `is_disconnected` afterwards. Payloads are views of the buffer; compact it
        only when they have been consumed. Raises `PeerViolation`.
        """
        batch: list[Request] = []
        self.is_limited = False
        if (self._write_left or self._skip_left) and not self._continue_payload(batch):
            return batch
        buffer = self._buffer
        view = buffer.view
        position, end = buffer.start, buffer.end
        size_bytes, flags_allowed, length_max = self._size_bytes, self._flags_allowed, limits.NBD_REQUEST_BYTES_MAX
        in_progress, requests_max = self._in_progress, limits.NBD_CONNECTION_REQUESTS_MAX
        is_writable = not self._is_read_only
        while position + _HEADER_BYTES <= end and not self.is_disconnected:
            magic, flags, command, cookie, offset, length = _unpack_request(view, position)
            if magic != _MAGIC:
                if batch:
                    self.is_limited = True  # What came before is still to be executed.
                    break
                raise PeerViolation(f"a request starts with {magic:#x}")
            if cookie in in_progress or len(in_progress) >= requests_max:
                self.is_limited = True
                break
            body = position + _HEADER_BYTES
            if (
                command == _WRITE
                and body + length <= end
                and is_writable
                and 0 < length <= length_max
                and offset + length <= size_bytes
                and not flags & ~flags_allowed[_WRITE]
            ):
                # The whole of the common case; everything below is for the others.
                position = body + length
                in_progress[cookie] = 0
                batch.append(_new(Request, (_WRITE, flags, cookie, offset, length, view[body:position], True)))
                continue
            if command == _READ and self._must_wait(length):
                self.is_limited = True
                break
            buffer.start = body
            if not self._take(batch, Request(command, flags, cookie, offset, length, None, True)):
                return batch
            position = buffer.start
        buffer.start = position
        return batch

    def finish(self, cookie: int) -> None:
        """Note that a request that was handed on has been answered. Once for each; anything else is a bug of ours."""
        self.read_bytes_in_progress -= self._in_progress.pop(cookie)

    def _must_wait(self, length: int) -> bool:
        promised = self.read_bytes_in_progress
        return promised > 0 and promised + length > limits.NBD_REPLY_BACKLOG_BYTES

    def _take(self, batch: list[Request], request: Request) -> bool:
        """Judge one request whose header has been consumed; return whether the next one can follow in the buffer."""
        command, flags, cookie, offset, length = request[:5]
        error = self._judge(command, flags, offset, length)
        if command == _WRITE:
            if error is None:
                self._write_flags, self._write_cookie, self._write_offset = flags, cookie, offset
                self._write_left = length
                self._in_progress[cookie] = 0
            else:
                self._skip_left, self._skip_refusal = length, Refusal(cookie, error)
            return self._continue_payload(batch)
        if error is not None:
            self.refusals.append(Refusal(cookie, error))
        elif command == _DISC:
            self.is_disconnected = True
        else:
            read_bytes = length if command == _READ else 0
            self._in_progress[cookie] = read_bytes
            self.read_bytes_in_progress += read_bytes
            batch.append(request)
        return True

    def _judge(self, command: int, flags: int, offset: int, length: int) -> NbdError | None:
        """Return why a request is refused, or None. The order is that of proto.md's "Error values"."""
        if command == _DISC:
            return None
        if command not in self._flags_allowed or flags & ~self._flags_allowed[command]:
            return NbdError.EINVAL
        if self._is_read_only and command in _CHANGING:
            return NbdError.EPERM
        if command == _FLUSH:
            return NbdError.EINVAL if offset or length else None
        if length == 0:
            return NbdError.EINVAL
        if offset + length > self._size_bytes:
            return NbdError.ENOSPC if command in _NO_SPACE_PAST_END else NbdError.EINVAL
        if command in _TRANSFERRING and length > limits.NBD_REQUEST_BYTES_MAX:
            return NbdError.EOVERFLOW
        if command == _BLOCK_STATUS and not self._block_status:
            return NbdError.EINVAL
        if flags & _FAST_NO_HOLE == _FAST_NO_HOLE:
            return NbdError.ENOTSUP  # Fast means punching here, and NO_HOLE forbids just that.
        return None

    def _continue_payload(self, batch: list[Request]) -> bool:
        """Hand on, or skip, what has arrived of a write's payload; return whether that was the last of it."""
        buffer = self._buffer
        available = buffer.end - buffer.start
        if self._skip_refusal is not None:
            count = min(available, self._skip_left)
            buffer.start += count
            self._skip_left -= count
            if self._skip_left > 0:
                return False
            self.refusals.append(self._skip_refusal)
            self._skip_refusal = None
            return True
        piece_bytes = limits.NBD_PIECE_BYTES_MIN + limits.NBD_PIECE_ALIGN_BYTES
        if available < self._write_left and available < piece_bytes:
            return False
        count = min(available, self._write_left)
        if count < self._write_left:
            count -= (self._write_offset + count) % limits.NBD_PIECE_ALIGN_BYTES
        start = buffer.start
        buffer.start = start + count
        is_last = count == self._write_left
        payload = buffer.view[start : buffer.start]
        batch.append(
            Request(_WRITE, self._write_flags, self._write_cookie, self._write_offset, count, payload, is_last)
        )
        self._write_offset += count
        self._write_left -= count
        return is_last


def _flags_allowed(agreed: Negotiated) -> dict[int, int]:
    """Return the flags that each command may carry on this connection (proto.md, "Command flags")."""
    flag = CommandFlag
    fua = flag(0) if agreed.export.read_only else flag.FUA
    fast_zero = flag.FAST_ZERO if agreed.export.can_fast_zero and not agreed.export.read_only else flag(0)
    allowed = {
        Command.READ: fua | (flag.DF if agreed.structured_replies else flag(0)),
        Command.WRITE: fua,
        Command.FLUSH: fua,
        Command.TRIM: fua,
        Command.CACHE: fua,
        Command.WRITE_ZEROES: fua | flag.NO_HOLE | fast_zero,
        Command.BLOCK_STATUS: fua | flag.REQ_ONE,
    }
    return {int(command): int(flags) for command, flags in allowed.items()}
