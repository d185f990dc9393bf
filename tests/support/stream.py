"""One end of a stream played by a test, byte for byte, against the real other end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from twinsite.core.stream.frames import PROTOCOL_VERSION, Frame, Kind, decode, decode_json, encode_header, encode_json
from twinsite.core.stream.hello import Hello, Welcome, open_challenge, open_hello, open_welcome, seal

KEY = "ab" * 32
WAIT_SECONDS = 60.0
"""Longest wait for any one thing; a test that needs it has failed."""


class FramePipe:
    """Frames over one TCP connection. Heartbeats are answered by nobody, and handed to who asks for them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._received = b""
        self._frames: list[Frame] = []

    async def send(self, *data: bytes) -> None:
        """Send bytes; that the other end has hung up is for `next` to find."""
        self._writer.write(b"".join(data))
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._writer.drain()
        except ConnectionError:
            return

    async def next(self, *, heartbeats: bool = False) -> Frame | None:
        """Return the next frame, its payload copied, or None when the connection is over."""
        while True:
            while self._frames:
                frame = self._frames.pop(0)
                if heartbeats or frame.kind != Kind.HEARTBEAT:
                    return frame
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    chunk = await self._reader.read(65536)
            except ConnectionError:
                chunk = b""
            if not chunk:
                return None
            self._received += chunk
            rest = decode(memoryview(self._received), 0, len(self._received), self._frames)
            self._received = self._received[rest:]

    async def expect(self, kind: Kind) -> Frame:
        """Return the next frame, which must be of this kind."""
        frame = await self.next()
        assert frame is not None, f"the connection ended where {kind.name} was due"
        assert frame.kind == kind, f"{Kind(frame.kind).name} came where {kind.name} was due"
        return frame

    async def until(self, kind: Kind, sequence: int) -> None:
        """Read on until a frame of this kind speaks of this sequence."""
        while True:
            frame = await self.next()
            assert frame is not None, f"the connection ended where {kind.name} {sequence} was due"
            if frame.kind == kind and frame.sequence == sequence:
                return

    async def farewell(self) -> dict[str, Any] | None:
        """Read to the end of the connection and hang up; return what the bye said, or None when there was none."""
        said: dict[str, Any] | None = None
        while (frame := await self.next()) is not None:
            if frame.kind == Kind.BYE:
                said = decode_json(frame)
        await self.close()
        return said

    def abort(self) -> None:
        """End the connection at once."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """End the connection and wait until it is."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return


class RawPrimary(FramePipe):
    """A primary played by the test."""

    @classmethod
    async def connect(cls, endpoint: str) -> Self:
        """Connect to a secondary's listener."""
        host, _, port = endpoint.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def greet(self, hello: Hello, key: str = KEY) -> None:
        """Answer the challenge."""
        challenge = open_challenge(decode_json(await self.expect(Kind.CHALLENGE)))
        await self.send(encode_json(Kind.HELLO, seal(hello, bytes.fromhex(key), challenge.nonce)))

    async def enter(self, hello: Hello) -> Welcome:
        """Do the whole handshake."""
        await self.greet(hello)
        return open_welcome(decode_json(await self.expect(Kind.WELCOME)), bytes.fromhex(KEY), hello.nonce)

    async def write(self, sequence: int, offset: int, data: bytes, volume: int = 0) -> None:
        """Send a write."""
        await self.send(encode_header(Kind.WRITE, 0, volume, len(data), sequence, offset, data), data)


ACCEPT_TURNS = 5


class RawSecondary:
    """A secondary played by the test: a listener, and a pipe for each connection of the primary."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._connections: asyncio.Queue[FramePipe] = asyncio.Queue()
        self._pipes: list[FramePipe] = []
        self.endpoint = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.endpoint = f"{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for _ in range(ACCEPT_TURNS):
            # A connection that was accepted just now gets its pipe in one of the loop's next turns.
            await asyncio.sleep(0)
        for pipe in self._pipes:
            await pipe.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pipe = FramePipe(reader, writer)
        self._pipes.append(pipe)
        self._connections.put_nowait(pipe)

    async def accept(self) -> FramePipe:
        """Wait for the primary's next connection."""
        async with asyncio.timeout(WAIT_SECONDS):
            return await self._connections.get()

    async def challenge(self, pipe: FramePipe, nonce: str = "n") -> Hello:
        """Challenge the primary and return its hello."""
        await pipe.send(encode_json(Kind.CHALLENGE, {"version": PROTOCOL_VERSION, "nonce": nonce}))
        return open_hello(decode_json(await pipe.expect(Kind.HELLO)), bytes.fromhex(KEY), nonce)

    async def welcome(self, pipe: FramePipe, hello: Hello, welcome: Welcome) -> None:
        """Let the primary in."""
        await pipe.send(encode_json(Kind.WELCOME, seal(welcome, bytes.fromhex(KEY), hello.nonce)))

    async def admit(self, welcome: Welcome) -> tuple[FramePipe, Hello]:
        """Accept a connection and do the whole handshake."""
        pipe = await self.accept()
        hello = await self.challenge(pipe)
        await self.welcome(pipe, hello, replace(welcome, term=hello.term))
        return pipe, hello


def acknowledge(sequence: int) -> bytes:
    """A secondary's acknowledgement."""
    return encode_header(Kind.ACK, 0, 0, 0, sequence, 0)


def flushed(sequence: int) -> bytes:
    """A secondary's word that a flush is durable."""
    return encode_header(Kind.FLUSHED, 0, 0, 0, sequence, 0)
