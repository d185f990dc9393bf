"""An NBD client on asyncio streams that can send anything, for tests of the server over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from types import TracebackType
from typing import NamedTuple, Self

from tests.support.nbd import FIXED, GREETING_BYTES, OptionAnswer, go, option
from twinsite.core.nbd import constants
from twinsite.core.nbd.constants import Option, OptionReply, ReplyType

WAIT_SECONDS_MAX = 60.0
_SIMPLE_REST = struct.Struct("!IQ")
_CHUNK_REST = struct.Struct("!HHQI")


class Reply(NamedTuple):
    """One reply: error 0 for success, and the data of a read or the body of a block status."""

    cookie: int
    error: int
    data: bytes


class RawClient:
    """One connection. Every wait has a bound."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def unix(cls, path: str) -> Self:
        """Connect to a Unix socket."""
        return cls(*await asyncio.wait_for(asyncio.open_unix_connection(path), WAIT_SECONDS_MAX))

    @classmethod
    async def tcp(cls, port: int) -> Self:
        """Connect to a port of this machine."""
        return cls(*await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), WAIT_SECONDS_MAX))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up."""
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError):  # The server may have been first.
            await asyncio.wait_for(self.writer.wait_closed(), WAIT_SECONDS_MAX)

    def send(self, *data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(b"".join(data))

    async def drain(self) -> None:
        """Wait until most of what was sent has left."""
        await asyncio.wait_for(self.writer.drain(), WAIT_SECONDS_MAX)

    async def exactly(self, count: int) -> bytes:
        """Receive `count` bytes. Raises `asyncio.IncompleteReadError` when the server hangs up before."""
        return await asyncio.wait_for(self.reader.readexactly(count), WAIT_SECONDS_MAX)

    async def rest(self) -> bytes:
        """Receive everything until the server hangs up."""
        try:
            return await asyncio.wait_for(self.reader.read(-1), WAIT_SECONDS_MAX)
        except ConnectionError:
            return b""

    async def option_answer(self) -> OptionAnswer:
        """Receive one reply of the handshake."""
        magic, number, reply, length = struct.unpack("!QIII", await self.exactly(20))
        assert magic == constants.OPTION_REPLY_MAGIC
        return OptionAnswer(number, reply, await self.exactly(length))

    async def negotiate(self, name: str = "", *, structured: bool = False, options: bytes = b"") -> None:
        """Take the handshake to the transmission phase."""
        self.send(FIXED, option(Option.STRUCTURED_REPLY) if structured else b"", options, go(name))
        await self.exactly(GREETING_BYTES)
        while (answer := await self.option_answer()).option != Option.GO or answer.reply != OptionReply.ACK:
            assert answer.reply < OptionReply.ERR_UNSUP, answer

    async def reply(self, *, data_bytes: int = 0) -> Reply:
        """Receive one reply; `data_bytes` is what a successful simple reply brings."""
        (magic,) = struct.unpack("!I", await self.exactly(4))
        if magic == constants.SIMPLE_REPLY_MAGIC:
            error, cookie = _SIMPLE_REST.unpack(await self.exactly(_SIMPLE_REST.size))
            return Reply(cookie, error, await self.exactly(0 if error else data_bytes))
        assert magic == constants.STRUCTURED_REPLY_MAGIC
        flags, kind, cookie, length = _CHUNK_REST.unpack(await self.exactly(_CHUNK_REST.size))
        body = await self.exactly(length)
        assert flags == 1
        if kind == ReplyType.ERROR:
            error, text_bytes = struct.unpack_from("!IH", body)
            assert len(body) == 6 + text_bytes
            return Reply(cookie, error, b"")
        return Reply(cookie, 0, body[8:] if kind == ReplyType.OFFSET_DATA else body)
