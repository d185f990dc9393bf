"""A host's end of an NBD connection on a simulated network: newstyle handshake, simple replies, nothing else."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any, cast

from twinsite.core.nbd import constants
from twinsite.core.nbd.constants import Command, CommandFlag, Info, Option, OptionReply
from twinsite_sim.transport import SimTransport

_OPTION = struct.Struct("!QII")
_OPTION_REPLY = struct.Struct("!QIII")
_INFO = struct.Struct("!H")
_INFO_EXPORT = struct.Struct("!HQH")
_REQUEST = struct.Struct("!IHHQQI")
_REPLY = struct.Struct("!IIQ")
_GREETING_BYTES = 18

Answer = Callable[[int, bytes], None]
"""Called with the errno (0 for success) and the data of a read."""


class NbdClient(asyncio.Protocol):
    """One connection to one export."""

    def __init__(
        self, export: str, on_ready: Callable[[NbdClient], None], on_lost: Callable[[NbdClient], None]
    ) -> None:
        self.is_ready = False
        self.is_lost = False
        self.size_bytes = 0
        """What the server has said when the connection was made."""
        self._export = export
        self._on_ready = on_ready
        self._on_lost = on_lost
        self._received = bytearray()
        self._is_greeted = False
        self._transport: SimTransport | None = None
        self._cookie = 0
        self._asked: dict[int, tuple[int, Answer]] = {}  # Cookie to (bytes of data in the reply, whom to tell).

    @property
    def server_process(self) -> Any:
        """The process at the other end."""
        assert self._transport is not None
        return self._transport.connection.acceptor

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the greeting."""
        self._transport = cast(SimTransport, transport)

    def data_received(self, data: bytes) -> None:
        """Take the handshake, then replies."""
        self._received += data
        if not self.is_ready:
            self._negotiate()
        if self.is_ready:
            self._take_replies()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: nothing that was asked will be answered, or take effect from now on."""
        del exc
        if not self.is_lost:
            self.is_lost = True
            self.close()
            self._asked.clear()
            self._on_lost(self)

    def eof_received(self) -> bool:
        """The server is gone."""
        return False

    def close(self) -> None:
        """Give the connection up so that nothing that was sent takes effect any more."""
        if self._transport is not None:
            self._transport.fence()

    def ask(
        self, command: Command, offset: int, length: int, answer: Answer, *, data: bytes = b"", flags: int = 0
    ) -> None:
        """Send a request."""
        assert self._transport is not None
        self._cookie += 1
        self._asked[self._cookie] = (length if command is Command.READ else 0, answer)
        header = _REQUEST.pack(constants.REQUEST_MAGIC, flags, command, self._cookie, offset, length)
        self._transport.write(header + data)

    def _negotiate(self) -> None:
        assert self._transport is not None
        received = self._received
        if not self._is_greeted:
            if len(received) < _GREETING_BYTES:
                return
            del received[:_GREETING_BYTES]
            self._is_greeted = True
            name = self._export.encode()
            body = struct.pack("!I", len(name)) + name + struct.pack("!H", 0)
            header = _OPTION.pack(constants.OPTION_MAGIC, Option.GO, len(body))
            self._transport.write(struct.pack("!I", 3) + header + body)
        while len(received) >= _OPTION_REPLY.size:
            _, _, kind, length = _OPTION_REPLY.unpack_from(received)
            if len(received) < _OPTION_REPLY.size + length:
                return
            if kind == OptionReply.INFO and _INFO.unpack_from(received, _OPTION_REPLY.size)[0] == Info.EXPORT:
                _, self.size_bytes, _ = _INFO_EXPORT.unpack_from(received, _OPTION_REPLY.size)
            del received[: _OPTION_REPLY.size + length]
            if kind == OptionReply.ACK:
                self.is_ready = True
                self._on_ready(self)
                return
            if kind & 0x80000000:
                self._transport.abort()
                return

    def _take_replies(self) -> None:
        received = self._received
        while len(received) >= _REPLY.size:
            magic, error, cookie = _REPLY.unpack_from(received)
            assert magic == constants.SIMPLE_REPLY_MAGIC
            data_bytes, answer = self._asked[cookie]
            size = _REPLY.size + (0 if error else data_bytes)
            if len(received) < size:
                return
            data = bytes(received[_REPLY.size : size])
            del received[:size]
            del self._asked[cookie]
            answer(error, data)


FUA = int(CommandFlag.FUA)
NO_HOLE = int(CommandFlag.NO_HOLE)
