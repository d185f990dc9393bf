"""What the tests of the NBD server share: building a client's bytes, reading the server's, and a whole conversation."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from twinsite.core import limits
from twinsite.core.nbd import constants
from twinsite.core.nbd.constants import Command, HandshakeFlag, Option
from twinsite.core.nbd.export import ExportInfo
from twinsite.core.nbd.handshake import Aborted, Handshake, Negotiated
from twinsite.core.nbd.receive_buffer import ReceiveBuffer
from twinsite.core.nbd.transmission import Refusal, Transmission
from twinsite.errors import PeerViolation

KIB = 1024
MIB = 1024 * KIB
SIZE_BYTES = 64 * MIB
ROUNDS_MAX = 100_000

FIXED = struct.pack("!I", HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES)
FIXED_WITH_ZEROES = struct.pack("!I", HandshakeFlag.FIXED_NEWSTYLE)
GREETING_BYTES = 18
DISCONNECT = struct.pack("!IHHQQI", constants.REQUEST_MAGIC, 0, Command.DISC, 0, 0, 0)


class OptionAnswer(NamedTuple):
    """One reply of the handshake."""

    option: int
    reply: int
    data: bytes


def text(value: str) -> bytes:
    """Return a string as options carry it: its length, then its bytes."""
    return struct.pack("!I", len(value.encode())) + value.encode()


def option(number: int, data: bytes = b"") -> bytes:
    """Return an option as a client sends it."""
    return struct.pack("!QII", constants.OPTION_MAGIC, number, len(data)) + data


def go(name: str = "", *infos: int, number: int = Option.GO) -> bytes:
    """Return a GO (or INFO) that asks for some kinds of information."""
    return option(number, text(name) + struct.pack(f"!H{len(infos)}H", len(infos), *infos))


def meta(number: int, name: str, *queries: str) -> bytes:
    """Return a LIST_META_CONTEXT or SET_META_CONTEXT."""
    return option(number, text(name) + struct.pack("!I", len(queries)) + b"".join(map(text, queries)))


def request(
    command: int, cookie: int = 1, offset: int = 0, length: int = 0, *, flags: int = 0, payload: bytes = b""
) -> bytes:
    """Return a request as a client sends it; a payload sets the length."""
    header = struct.pack("!IHHQQI", constants.REQUEST_MAGIC, flags, command, cookie, offset, length or len(payload))
    return header + payload


def option_answers(data: bytes) -> list[OptionAnswer]:
    """Take apart the replies to options."""
    answers = []
    position = 0
    while position < len(data):
        magic, number, reply, length = struct.unpack_from("!QIII", data, position)
        assert magic == constants.OPTION_REPLY_MAGIC
        position += 20
        answers.append(OptionAnswer(number, reply, data[position : position + length]))
        assert len(answers[-1].data) == length
        position += length
    return answers


def agreed(
    *,
    size_bytes: int = SIZE_BYTES,
    read_only: bool = False,
    can_fast_zero: bool = True,
    structured_replies: bool = True,
    block_status: bool = True,
) -> Negotiated:
    """Return the outcome of a handshake."""
    info = ExportInfo("vol", "a volume", size_bytes, read_only=read_only, can_fast_zero=can_fast_zero)
    return Negotiated(info, structured_replies, block_status)


class Executed(NamedTuple):
    """A complete request as the device would see it, a long write's pieces put together."""

    command: int
    flags: int
    cookie: int
    offset: int
    length: int
    payload: bytes


@dataclass
class Conversation:
    """What a server made of all that a client sent. Equal for equal bytes, however they were cut."""

    output: bytes = b""
    outcome: Negotiated | Aborted | None = None
    executed: list[Executed] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    is_disconnected: bool = False
    violation: str | None = None


class Peer:
    """The server's side of one connection without sockets: what `worker.nbd_connection` does, in its plainest form."""

    def __init__(self, exports: Mapping[str, ExportInfo], capacity: int = limits.NBD_RECEIVE_BUFFER_BYTES) -> None:
        """Start with the greeting said."""
        self.said = Conversation()
        self.buffer = ReceiveBuffer(capacity)
        self.handshake = Handshake(lambda: exports)
        self.transmission: Transmission | None = None
        self._arriving: list[Executed] = []
        self.said.output += self.handshake.take_output()

    def agree(self, outcome: Negotiated) -> None:
        """Skip the handshake, the greeting included."""
        self.said = Conversation(outcome=outcome)
        self.transmission = Transmission(outcome, self.buffer)

    def receive(self, data: bytes) -> None:
        """Take bytes in, as many at a time as the buffer has room for."""
        position = 0
        while position < len(data) and not self._is_over():
            space = self.buffer.space()
            assert len(space) > 0
            chunk = data[position : position + len(space)]
            space[: len(chunk)] = chunk
            self.buffer.filled(len(chunk))
            position += len(chunk)
            try:
                self._step()
            except PeerViolation as violation:
                self.said.violation = str(violation)
            self.buffer.compact()

    def _is_over(self) -> bool:
        said = self.said
        return said.violation is not None or said.is_disconnected or isinstance(said.outcome, Aborted)

    def _step(self) -> None:
        if self.transmission is None:
            try:
                self.handshake.advance(self.buffer)
            finally:
                self.said.output += self.handshake.take_output()
            self.said.outcome = self.handshake.outcome
            if not isinstance(self.said.outcome, Negotiated):
                return
            self.transmission = Transmission(self.said.outcome, self.buffer)
        for _ in range(ROUNDS_MAX):
            if not self._parse(self.transmission):
                return
        raise AssertionError("the parser does not come to an end")

    def _parse(self, transmission: Transmission) -> bool:
        try:
            batch = transmission.parse()
        finally:
            self.said.refusals += transmission.refusals
            transmission.refusals.clear()
        for piece in batch:
            self._arriving.append(
                Executed(
                    piece.command, piece.flags, piece.cookie, piece.offset, piece.length, bytes(piece.payload or b"")
                )
            )
            if piece.is_last:
                transmission.finish(piece.cookie)
                self.said.executed.append(_join(self._arriving))
                self._arriving.clear()
        self.said.is_disconnected = transmission.is_disconnected
        return bool(batch) and transmission.is_limited


def _join(pieces: list[Executed]) -> Executed:
    first = pieces[0]
    for before, after in itertools.pairwise(pieces):
        assert after[:3] == first[:3]
        assert after.offset == before.offset + before.length
    payload = b"".join(piece.payload for piece in pieces)
    return first._replace(length=sum(piece.length for piece in pieces), payload=payload)


def converse(
    data: bytes,
    cuts: Iterable[int] = (),
    *,
    exports: Mapping[str, ExportInfo] | None = None,
    capacity: int = limits.NBD_RECEIVE_BUFFER_BYTES,
) -> Conversation:
    """Let a server hear `data` from its first byte on, cut at the given positions."""
    peer = Peer(exports if exports is not None else {"vol": agreed().export}, capacity)
    for start, end in itertools.pairwise([0, *sorted(cuts), len(data)]):
        peer.receive(data[start:end])
    return peer.said
