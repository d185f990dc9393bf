"""The primary's end of the stream: connect, prove who we are, carry frames, and try again when it breaks.

The link knows when to connect and how to greet; what travels is the group's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Sequence
from typing import Protocol

import structlog

from twinsite.core.limits import RECONNECT_SECONDS_MAX, RECONNECT_SECONDS_MIN, STREAM_HANDSHAKE_SECONDS
from twinsite.core.stream.frames import PROTOCOL_VERSION, Frame, Kind, decode_json, encode_json
from twinsite.core.stream.hello import Hello, Welcome, open_challenge, open_welcome, seal
from twinsite.errors import PeerViolation
from twinsite.messages import Failure
from twinsite.worker.adaptive_packing import AdaptivePacking
from twinsite.worker.backoff import Backoff
from twinsite.worker.stream_connection import SMALL_RECEIVE_BUFFER_BYTES, StreamConnection

log = structlog.get_logger(__name__)


class PrimaryLinkOwner(Protocol):
    """The group behind a link."""

    def make_hello(self, nonce: str) -> Hello:
        """Return the hello of a new session."""

    def link_up(self, welcome: Welcome) -> None:
        """The secondary has welcomed us: frames may travel."""

    def link_frames(self, frames: Sequence[Frame]) -> None:
        """Frames came from the secondary."""

    def link_oldest_unacknowledged(self) -> int | None:
        """Return the sequence that the secondary should answer next, or None."""

    def link_oldest_question(self) -> int | None:
        """Return the sequence of the oldest comparison or fetch that is unanswered, or None."""

    def link_down(self, failure: Failure | None) -> None:
        """The session, or the attempt at one, is over; whether it ever was up or not."""

    def link_is_waited_for(self) -> bool:
        """Say whether hosts are held until a session is there."""


class PrimaryLink:
    """Keeps one session with the secondary while `want` says where it is."""

    def __init__(self, owner: PrimaryLinkOwner, key: bytes) -> None:
        self._owner = owner
        self._key = key
        self._endpoint: tuple[str, int] | None = None
        self._changed = asyncio.Event()
        self._over = asyncio.Event()
        self._connection: StreamConnection | None = None
        self._nonce = ""
        self.packing = AdaptivePacking()
        """Whether what a resync of this session reads is compressed."""
        self._awaited: Kind | None = None
        self._handshake_timer: asyncio.TimerHandle | None = None
        self._backoff = Backoff(RECONNECT_SECONDS_MIN, RECONNECT_SECONDS_MAX)
        self._task = asyncio.create_task(self._run(), name="primary-link")
        self._bytes_of_past_sessions = (0, 0)

    # What the group says

    def want(self, endpoint: tuple[str, int] | None) -> None:
        """Say where the secondary listens, or None for no link. A session with another endpoint is cut."""
        if endpoint == self._endpoint:
            return
        self._endpoint = endpoint
        self._backoff.reset()
        self._changed.set()
        if self._connection is not None and endpoint is not None:
            self._connection.close(Failure("37100043", "the other site's worker moved"), say=False)

    def is_up(self) -> bool:
        """Say whether frames can travel."""
        return self._connection is not None and self._awaited is None and not self._connection.is_closing

    def send(self, parts: list[bytes | bytearray | memoryview]) -> None:
        """Send frames to the secondary in one go, if it has welcomed us."""
        if self._connection is not None and self._awaited is None:
            self._connection.send(parts)

    def say_goodbye(self) -> None:
        """End the session on purpose; `link_down` comes when it is over."""
        if self._connection is not None:
            self._connection.close(None)

    def cut(self, failure: Failure) -> None:
        """End the session because of a fault."""
        if self._connection is not None:
            self._connection.close(failure)

    def settled(self) -> None:
        """The session has proved good: the next break is answered without delay."""
        self._backoff.reset()

    def bytes_moved(self) -> tuple[int, int]:
        """Return (sent, received) over all sessions."""
        sent, received = self._bytes_of_past_sessions
        if self._connection is not None:
            sent, received = sent + self._connection.bytes_sent, received + self._connection.bytes_received
        return sent, received

    async def close(self) -> None:
        """Stop trying and wait for the end of the session."""
        self._endpoint = None
        if self._connection is not None:
            self.say_goodbye()
            await self._over.wait()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    # StreamHandler

    def connection_made(self, connection: StreamConnection) -> None:
        """The TCP connection is there; the secondary speaks first."""
        self._connection = connection
        self._awaited = Kind.CHALLENGE
        self._handshake_timer = asyncio.get_running_loop().call_later(
            STREAM_HANDSHAKE_SECONDS,
            connection.close,
            Failure("37100043", "the other site did not finish the handshake in time"),
        )

    def frames_received(self, connection: StreamConnection, frames: Sequence[Frame]) -> None:
        """Take the handshake, then hand frames to the group."""
        if self._awaited is None:
            self._owner.link_frames(frames)
            return
        frames = [frame for frame in frames if frame.kind != Kind.HEARTBEAT]
        if not frames:
            return
        frame = frames[0]
        if frame.kind != self._awaited or len(frames) > 1:
            raise PeerViolation(f"frame of kind {frame.kind} came where {self._awaited.name} was due")
        if frame.kind == Kind.CHALLENGE:
            challenge = open_challenge(decode_json(frame))
            self.packing.begin(is_possible=challenge.unpacks)
            self._nonce = secrets.token_hex(16)
            hello = self._owner.make_hello(self._nonce)
            assert hello.version == PROTOCOL_VERSION
            connection.send([encode_json(Kind.HELLO, seal(hello, self._key, challenge.nonce))])
            self._awaited = Kind.WELCOME
            return
        welcome = open_welcome(decode_json(frame), self._key, self._nonce)
        self._awaited = None
        self._stop_handshake_timer()
        log.info("stream.up", generation=welcome.generation, doubt=welcome.doubt.value)
        self._owner.link_up(welcome)

    def oldest_unacknowledged(self) -> int | None:
        """Ask the group."""
        return self._owner.link_oldest_unacknowledged()

    def oldest_question(self) -> int | None:
        """Ask the group."""
        return self._owner.link_oldest_question()

    def connection_lost(self, connection: StreamConnection, failure: Failure | None) -> None:
        """The session is over."""
        self._stop_handshake_timer()
        sent, received = self._bytes_of_past_sessions
        self._bytes_of_past_sessions = sent + connection.bytes_sent, received + connection.bytes_received
        self._connection = None
        self._awaited = None
        log.info("stream.down", reason=failure.message if failure else "closed")
        self._owner.link_down(failure)
        self._over.set()

    # Inside

    async def _run(self) -> None:
        while True:
            endpoint = self._endpoint
            self._changed.clear()
            if endpoint is None:
                await self._changed.wait()
                continue
            await self._one_session(endpoint)
            if self._endpoint is not None:
                await self._pause()

    async def _one_session(self, endpoint: tuple[str, int]) -> None:
        self._over.clear()
        try:
            sock = await self._dial_unless_changed(endpoint)
            if sock is None:
                return
            await asyncio.get_running_loop().create_connection(
                lambda: StreamConnection(self, SMALL_RECEIVE_BUFFER_BYTES), sock=sock
            )
        except (OSError, ValueError, OverflowError) as error:
            host, port = endpoint
            # A time-out of our own has no text.
            cause = str(error) or f"no answer within {STREAM_HANDSHAKE_SECONDS:.0f} seconds"
            self._owner.link_down(
                Failure("37100043", f"the other site's worker at {host}:{port} cannot be reached: {cause}")
            )
            return
        if self._endpoint != endpoint and self._connection is not None:
            self._connection.close(None, say=False)
        await self._over.wait()

    async def _dial_unless_changed(self, endpoint: tuple[str, int]) -> socket.socket | None:
        """Return a connected socket, or None as soon as another endpoint is wanted. Raises what `_dial` does."""
        dialling = asyncio.create_task(_dial(endpoint))
        changing = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait(
                {dialling, changing}, timeout=STREAM_HANDSHAKE_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if dialling.done():
                return dialling.result()
            if not changing.done():
                raise TimeoutError
            return None
        finally:
            changing.cancel()
            dialling.cancel()
            await asyncio.gather(changing, dialling, return_exceptions=True)

    async def _pause(self) -> None:
        seconds = self._backoff.next_seconds(hosts_are_held=self._owner.link_is_waited_for())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def _stop_handshake_timer(self) -> None:
        if self._handshake_timer is not None:
            self._handshake_timer.cancel()
            self._handshake_timer = None


async def _dial(endpoint: tuple[str, int]) -> socket.socket:
    """Connect a socket. May be cancelled at any time, which a connection that asyncio makes as a whole may not.

    Raises `OSError`, and `ValueError` or `OverflowError` for an endpoint that cannot be one.
    """
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(*endpoint, type=socket.SOCK_STREAM)
    family, kind, protocol, _, address = infos[0]
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
    try:
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock
