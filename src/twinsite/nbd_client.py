"""A small NBD client on a blocking socket: fixed newstyle, `NBDOption.GO`, simple and structured replies.

One request is in flight at a time, and one thread at a time uses a client; open several for more. It serves the demo,
the tests and the benchmarks; a host uses its own NBD driver. Source: doc/proto.md of the NBD project.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import parse_qs, unquote, urlsplit

from twinsite.core.nbd.constants import (
    GREETING_MAGIC,
    OPTION_MAGIC,
    OPTION_REPLY_MAGIC,
    REQUEST_MAGIC,
    SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY_MAGIC,
    Command,
    CommandFlag,
    HandshakeFlag,
    Info,
    Option,
    OptionReply,
    ReplyFlag,
    ReplyType,
    TransmissionFlag,
)
from twinsite.errors import ConfigurationError, PeerViolation, StorageFault

TIMEOUT_SECONDS = 60.0
"""Longest wait for the server in one send or receive, unless the caller says otherwise."""
TCP_PORT_DEFAULT = 10809
"""Port of a TCP URI that names none."""
TRANSFER_BYTES_MAX = 32 * 1024 * 1024
"""Largest read or write when the server states no maximum (proto.md, "Block size constraints")."""
ZERO_BYTES_MAX = 1024 * 1024 * 1024
"""Longest range of one trim or write-zeroes request; these carry no data, so the server's maximum is not meant."""
OPTION_REPLY_BYTES_MAX = 64 * 1024
"""Longest option reply that is believed."""
OPTION_REPLIES_MAX = 64
"""Most replies to one option."""
JOIN_BYTES_MAX = 64 * 1024
"""A write up to this long leaves in one send with its header."""

_GREETING = struct.Struct("!QQH")
_OPTION = struct.Struct("!QII")
_OPTION_REPLY = struct.Struct("!QIII")
_INFO_EXPORT = struct.Struct("!HQH")
_INFO_BLOCK_SIZE = struct.Struct("!HIII")
_REQUEST = struct.Struct("!IHHQQI")
_SIMPLE_REPLY = struct.Struct("!IIQ")
_CHUNK_REST = struct.Struct("!HHQI")

_REPLY_IS_ERROR = 1 << 31
_CHUNK_IS_ERROR = 1 << 15


class ConnectionLost(StorageFault):
    """The server cannot be reached or the connection ended: whether the last request took effect is unknown."""


class NbdAddress(NamedTuple):
    """Where an export is: a Unix socket, or a host and a port."""

    export: str
    socket_path: str | None
    host: str
    port: int


def parse_uri(uri: str) -> NbdAddress:
    """Take an NBD URI apart: `nbd+unix:///name?socket=/path` or `nbd://host:port/name` (doc/uri.md of the NBD project).

    Raises `ConfigurationError` when it is neither.
    """
    parts = urlsplit(uri)
    export = unquote(parts.path.removeprefix("/"))
    if parts.scheme == "nbd+unix":
        paths = parse_qs(parts.query).get("socket", [])
        if len(paths) != 1:
            raise ConfigurationError(f"the NBD URI {uri!r} must name one socket, as in nbd+unix:///name?socket=/path")
        return NbdAddress(export, paths[0], "", 0)
    if parts.scheme == "nbd" and parts.hostname:
        try:
            port = parts.port or TCP_PORT_DEFAULT
        except ValueError:
            raise ConfigurationError(f"the NBD URI {uri!r} has a port that is not a number up to 65535") from None
        return NbdAddress(export, None, parts.hostname, port)
    raise ConfigurationError(f"{uri!r} is not an NBD URI; use nbd+unix:///name?socket=/path or nbd://host:port/name")


class NbdClient:
    """One connection to one export. Offsets and lengths are in bytes; see `connect` for the errors of opening.

    A request that the server refuses raises `StorageFault` with the server's errno and leaves the connection usable;
    a lost connection raises `ConnectionLost`, a broken protocol `PeerViolation`, and both close it.
    """

    def __init__(
        self, uri: str, *, timeout_seconds: float | None = TIMEOUT_SECONDS, structured_replies: bool = True
    ) -> None:
        """Connect to the export that `uri` names and negotiate.

        Raises `ConfigurationError` for a bad URI, `ConnectionLost` when the server cannot be reached, `StorageFault`
        with ENOENT for an unknown export, and `PeerViolation` when the server breaks the protocol.
        """
        self.uri = uri
        self.address = parse_uri(uri)
        self.size_bytes = 0
        self.is_read_only = False
        self.can_flush = self.can_fua = self.can_trim = self.can_zero = False
        self.transfer_bytes_max = TRANSFER_BYTES_MAX
        self.structured_replies = False
        self._cookie = 0
        self._socket = self._connect(timeout_seconds)
        try:
            self._negotiate(structured_replies)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect, politely unless an error is on its way."""
        if kind is None:
            self.disconnect()
        else:
            self.close()

    @property
    def is_connected(self) -> bool:
        """Whether requests can be sent: false after `close`, `disconnect`, a lost connection or a broken protocol."""
        return self._socket.fileno() >= 0

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`."""
        data = bytearray(length)
        self.read_into(data, offset)
        return bytes(data)

    def read_into(self, buffer: bytearray | memoryview, offset: int) -> None:
        """Fill the whole buffer from `offset`."""
        view = memoryview(buffer)
        for start, length in self._pieces(0, len(view), self.transfer_bytes_max):
            self._request("read", Command.READ, 0, offset + start, length, target=view[start : start + length])

    def write(self, offset: int, data: bytes | bytearray | memoryview, fua: bool = False) -> None:
        """Write all of `data` at `offset`; with `fua` it is durable when this returns."""
        view = memoryview(data)
        flags = self._fua_flags(fua)
        for start, length in self._pieces(0, len(view), self.transfer_bytes_max):
            self._request("write", Command.WRITE, flags, offset + start, length, payload=view[start : start + length])
        self._flush_instead_of_fua(fua)

    def flush(self) -> None:
        """Make every completed write durable; nothing is sent to a server that has no use for it."""
        if self.can_flush:
            self._request("flush", Command.FLUSH, 0, 0, 0)

    def trim(self, offset: int, length: int, fua: bool = False) -> None:
        """Tell the server that the content of the range is not needed. Raises ENOTSUP when it does not offer trim."""
        self._require(self.can_trim, "trim")
        for start, piece in self._pieces(offset, length, ZERO_BYTES_MAX):
            self._request("trim", Command.TRIM, self._fua_flags(fua), start, piece)
        self._flush_instead_of_fua(fua)

    def zero(self, offset: int, length: int, *, fua: bool = False, may_punch: bool = True) -> None:
        """Make the range read as zeros, keeping its space unless `may_punch`. Raises ENOTSUP when not offered."""
        self._require(self.can_zero, "write zeroes")
        flags = self._fua_flags(fua) | (0 if may_punch else CommandFlag.NO_HOLE)
        for start, piece in self._pieces(offset, length, ZERO_BYTES_MAX):
            self._request("write zeroes", Command.WRITE_ZEROES, flags, start, piece)
        self._flush_instead_of_fua(fua)

    def disconnect(self) -> None:
        """End the session as the protocol wants it, then close. Never fails; idempotent."""
        if self.is_connected:
            with contextlib.suppress(OSError):
                self._socket.sendall(_REQUEST.pack(REQUEST_MAGIC, 0, Command.DISC, 0, 0, 0))
        self.close()

    def close(self) -> None:
        """Close the socket without a word. Idempotent."""
        self._socket.close()

    # Connection and negotiation

    def _connect(self, timeout_seconds: float | None) -> socket.socket:
        address = self.address
        try:
            if address.socket_path is None:
                connection = socket.create_connection((address.host, address.port), timeout_seconds)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return connection
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(timeout_seconds)
                connection.connect(address.socket_path)
            except BaseException:
                connection.close()
                raise
            return connection
        except OSError as error:
            raise ConnectionLost("connect", self.uri, _with_errno(error)) from error

    def _negotiate(self, structured_replies: bool) -> None:
        magic, option_magic, flags = _GREETING.unpack(self._receive(_GREETING.size))
        if magic != GREETING_MAGIC or option_magic != OPTION_MAGIC or not flags & HandshakeFlag.FIXED_NEWSTYLE:
            raise self._violation("it does not greet as a fixed newstyle NBD server")
        self._send(struct.pack("!I", flags & (HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES)))
        if structured_replies:
            # A server without structured replies answers an error, and simple replies follow.
            self.structured_replies = self._option(Option.STRUCTURED_REPLY, b"") == OptionReply.ACK
        name = self.address.export.encode()
        result = self._option(Option.GO, struct.pack("!I", len(name)) + name + struct.pack("!HH", 1, Info.BLOCK_SIZE))
        if result == OptionReply.ERR_UNKNOWN:
            raise StorageFault("open", self.uri, OSError(errno.ENOENT, "the server has no export of this name"))
        if result != OptionReply.ACK:
            raise StorageFault(
                "open", self.uri, f"the server refused the export with NBD error {result - _REPLY_IS_ERROR}"
            )

    def _option(self, option: int, data: bytes) -> int:
        """Send an option, take in what its replies say, and return the type of the last one: ACK or an error."""
        self._send(_OPTION.pack(OPTION_MAGIC, option, len(data)) + data)
        for _ in range(OPTION_REPLIES_MAX):
            magic, echoed, kind, length = _OPTION_REPLY.unpack(self._receive(_OPTION_REPLY.size))
            if magic != OPTION_REPLY_MAGIC or echoed != option or length > OPTION_REPLY_BYTES_MAX:
                raise self._violation(f"its reply to option {option} is malformed")
            body = self._receive(length)
            if kind == OptionReply.ACK or kind & _REPLY_IS_ERROR:
                return int(kind)
            if kind == OptionReply.INFO:
                self._take_info(body)
        raise self._violation(f"it sends more than {OPTION_REPLIES_MAX} replies to option {option}")

    def _take_info(self, body: bytes) -> None:
        kind = int.from_bytes(body[:2], "big")
        if kind == Info.EXPORT and len(body) == _INFO_EXPORT.size:
            _, self.size_bytes, flags = _INFO_EXPORT.unpack(body)
            self.is_read_only = bool(flags & TransmissionFlag.READ_ONLY)
            self.can_flush, self.can_fua = (
                bool(flags & TransmissionFlag.SEND_FLUSH),
                bool(flags & TransmissionFlag.SEND_FUA),
            )
            self.can_trim, self.can_zero = (
                bool(flags & TransmissionFlag.SEND_TRIM),
                bool(flags & TransmissionFlag.SEND_WRITE_ZEROES),
            )
        elif kind == Info.BLOCK_SIZE and len(body) == _INFO_BLOCK_SIZE.size:
            maximum = _INFO_BLOCK_SIZE.unpack(body)[3]
            self.transfer_bytes_max = max(1, min(maximum, TRANSFER_BYTES_MAX))

    # Requests

    @staticmethod
    def _pieces(offset: int, length: int, piece_max: int) -> list[tuple[int, int]]:
        end = offset + length
        return [(start, min(piece_max, end - start)) for start in range(offset, end, piece_max)]

    def _require(self, offered: bool, operation: str) -> None:
        if not offered:
            raise StorageFault(operation, self.uri, OSError(errno.ENOTSUP, "the server does not offer this"))

    def _fua_flags(self, fua: bool) -> int:
        return CommandFlag.FUA if fua and self.can_fua else 0

    def _flush_instead_of_fua(self, fua: bool) -> None:
        if fua and not self.can_fua:
            self.flush()

    def _request(
        self,
        operation: str,
        command: int,
        flags: int,
        offset: int,
        length: int,
        *,
        payload: memoryview | None = None,
        target: memoryview | None = None,
    ) -> None:
        self._cookie += 1
        header = _REQUEST.pack(REQUEST_MAGIC, flags, command, self._cookie, offset, length)
        if payload is None:
            self._send(header)
        elif len(payload) <= JOIN_BYTES_MAX:
            self._send(b"".join((header, payload)))
        else:
            self._send(header)
            self._send(payload)
        error, text = self._reply(offset, target)
        if error:
            raise StorageFault(operation, self.uri, OSError(error, text or os.strerror(error)))

    def _reply(self, offset: int, target: memoryview | None) -> tuple[int, str]:
        """Receive the whole reply to the request in flight; return its errno, 0 for success, and the server's words."""
        magic = int.from_bytes(self._receive(4), "big")
        if magic == SIMPLE_REPLY_MAGIC:
            _, error, cookie = _SIMPLE_REPLY.unpack(magic.to_bytes(4, "big") + self._receive(_SIMPLE_REPLY.size - 4))
            self._check_cookie(cookie)
            if self.structured_replies and target is not None:
                raise self._violation("it answers a read by a simple reply after agreeing to structured ones")
            if not error and target is not None:
                self._receive_into(target)
            return error, ""
        if magic != STRUCTURED_REPLY_MAGIC or not self.structured_replies:
            raise self._violation(f"its reply starts with {magic:#x}")
        error, text, filled = 0, "", 0
        is_done = False
        while not is_done:
            flags, kind, cookie, length = _CHUNK_REST.unpack(self._receive(_CHUNK_REST.size))
            self._check_cookie(cookie)
            is_done = bool(flags & ReplyFlag.DONE)
            if kind & _CHUNK_IS_ERROR:
                error, text = self._error_chunk(length)
            else:
                filled += self._content_chunk(kind, length, offset, target)
            if not is_done and int.from_bytes(self._receive(4), "big") != STRUCTURED_REPLY_MAGIC:
                raise self._violation("a chunk of a structured reply has a wrong magic")
        if not error and target is not None and filled != len(target):
            raise self._violation(f"a structured reply brought {filled} of {len(target)} bytes")
        return error, text

    def _error_chunk(self, length: int) -> tuple[int, str]:
        if not 6 <= length <= OPTION_REPLY_BYTES_MAX:
            raise self._violation(f"an error chunk of {length} bytes")
        body = self._receive(length)
        error, text_length = struct.unpack_from("!IH", body)
        if error == 0:
            raise self._violation("an error chunk without an error")
        return error, body[6 : 6 + text_length].decode(errors="replace")

    def _content_chunk(self, kind: int, length: int, offset: int, target: memoryview | None) -> int:
        """Take one chunk of a read's reply into `target` and return the bytes that it covers."""
        if kind == ReplyType.NONE and length == 0:
            return 0
        minimum = 9 if kind == ReplyType.OFFSET_DATA else 12
        if target is None or kind not in (ReplyType.OFFSET_DATA, ReplyType.OFFSET_HOLE) or length < minimum:
            raise self._violation(f"a reply chunk of type {kind} and {length} bytes was not asked for")
        start = int.from_bytes(self._receive(8), "big") - offset
        covered = length - 8 if kind == ReplyType.OFFSET_DATA else int.from_bytes(self._receive(4), "big")
        if start < 0 or start + covered > len(target):
            raise self._violation("a reply chunk lies outside the range that was read")
        if kind == ReplyType.OFFSET_DATA:
            self._receive_into(target[start : start + covered])
        else:
            target[start : start + covered] = bytes(covered)
        return covered

    def _check_cookie(self, cookie: int) -> None:
        if cookie != self._cookie:
            raise self._violation(f"a reply carries cookie {cookie}, and only {self._cookie} is in flight")

    # Bytes

    def _send(self, data: bytes | memoryview) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._lost("send", error) from error

    def _receive(self, length: int) -> bytes:
        buffer = bytearray(length)
        self._receive_into(memoryview(buffer))
        return bytes(buffer)

    def _receive_into(self, target: memoryview) -> None:
        received = 0
        while received < len(target):
            try:
                count = self._socket.recv_into(target[received:])
            except OSError as error:
                raise self._lost("receive", error) from error
            if count == 0:
                raise self._lost("receive", OSError(errno.ECONNRESET, "the server closed the connection"))
            received += count

    def _lost(self, operation: str, error: OSError) -> ConnectionLost:
        self.close()
        return ConnectionLost(operation, self.uri, _with_errno(error))

    def _violation(self, what: str) -> PeerViolation:
        self.close()
        return PeerViolation(f"the NBD server at {self.uri} broke the protocol: {what}")


def _with_errno(error: OSError) -> OSError:
    """Give time-outs and name-resolution errors the errno and text that they lack."""
    if isinstance(error, TimeoutError) and not error.errno:
        return OSError(errno.ETIMEDOUT, "the server did not answer in time")
    if isinstance(error, socket.gaierror):
        return OSError(errno.EHOSTUNREACH, error.strerror or "the host name is unknown")
    return error
