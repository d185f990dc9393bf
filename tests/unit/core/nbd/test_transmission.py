"""The request parser: what is handed on, what is refused with which error, how long writes come in pieces."""

from __future__ import annotations

import pytest

from tests.support.nbd import (
    KIB,
    MIB,
    SIZE_BYTES,
    Conversation,
    Executed,
    Peer,
    agreed,
    request,
)
from twinsite.core import limits
from twinsite.core.nbd.constants import Command, CommandFlag, NbdError
from twinsite.core.nbd.handshake import Negotiated
from twinsite.core.nbd.receive_buffer import ReceiveBuffer
from twinsite.core.nbd.transmission import Refusal, Request, Transmission
from twinsite.errors import PeerViolation

FUA, NO_HOLE, DF = CommandFlag.FUA, CommandFlag.NO_HOLE, CommandFlag.DF
REQ_ONE, FAST_ZERO, PAYLOAD_LEN = CommandFlag.REQ_ONE, CommandFlag.FAST_ZERO, CommandFlag.PAYLOAD_LEN
U32_MAX = 2**32 - 1
HUGE = agreed(size_bytes=64 * 1024**4)
READ_ONLY = agreed(read_only=True)


def hear(outcome: Negotiated, *data: bytes) -> Conversation:
    """Return what a connection makes of the received chunks."""
    peer = Peer({})
    peer.agree(outcome)
    for chunk in data:
        peer.receive(chunk)
    return peer.said


def fill(buffer: ReceiveBuffer, data: bytes) -> None:
    """Put received bytes into the buffer."""
    buffer.space()[: len(data)] = data
    buffer.filled(len(data))


@pytest.mark.parametrize(
    ("command", "flags", "offset", "length"),
    [
        (Command.READ, 0, 0, 1),
        (Command.READ, DF, SIZE_BYTES - 4096, 4096),
        (Command.READ, FUA, 513, limits.NBD_REQUEST_BYTES_MAX),
        (Command.FLUSH, 0, 0, 0),
        (Command.FLUSH, FUA, 0, 0),
        (Command.TRIM, FUA, 0, SIZE_BYTES),
        (Command.CACHE, 0, 0, SIZE_BYTES),
        (Command.WRITE_ZEROES, FUA | NO_HOLE, 1, SIZE_BYTES - 1),
        (Command.WRITE_ZEROES, FAST_ZERO, 0, 4096),
        (Command.BLOCK_STATUS, 0, 0, SIZE_BYTES),
        (Command.BLOCK_STATUS, REQ_ONE, 0, 1),
    ],
)
def test_requests_without_payload_are_handed_on(command: Command, flags: int, offset: int, length: int) -> None:
    said = hear(agreed(), request(command, 2**64 - 1, offset, length, flags=flags))
    assert said == Conversation(outcome=agreed(), executed=[Executed(command, flags, 2**64 - 1, offset, length, b"")])


@pytest.mark.parametrize("length", [64 * 1024 * KIB, U32_MAX])
@pytest.mark.parametrize("command", [Command.TRIM, Command.WRITE_ZEROES, Command.CACHE, Command.BLOCK_STATUS])
def test_commands_without_transfer_may_exceed_the_largest_request(command: Command, length: int) -> None:
    said = hear(HUGE, request(command, 1, 63 * 1024**4, length))
    assert [(e.command, e.length) for e in said.executed] == [(command, length)]


EINVAL, ENOSPC, EPERM = NbdError.EINVAL, NbdError.ENOSPC, NbdError.EPERM
EOVERFLOW, ENOTSUP = NbdError.EOVERFLOW, NbdError.ENOTSUP
WRITABLE, PLAIN = agreed(), agreed(structured_replies=False, block_status=False)
SLOW_ZERO = agreed(can_fast_zero=False)


@pytest.mark.parametrize(
    ("outcome", "command", "flags", "offset", "length", "error"),
    [
        # Past the end.
        (WRITABLE, Command.READ, 0, SIZE_BYTES, 1, EINVAL),
        (WRITABLE, Command.READ, 0, SIZE_BYTES - 1, 2, EINVAL),
        (WRITABLE, Command.READ, 0, 2**64 - 1, U32_MAX, EINVAL),
        (WRITABLE, Command.TRIM, 0, SIZE_BYTES, 1, EINVAL),
        (WRITABLE, Command.CACHE, 0, SIZE_BYTES, 1, EINVAL),
        (WRITABLE, Command.BLOCK_STATUS, 0, SIZE_BYTES, 1, EINVAL),
        (WRITABLE, Command.WRITE_ZEROES, 0, SIZE_BYTES, 1, ENOSPC),
        (WRITABLE, Command.WRITE_ZEROES, 0, 2**64 - 1, 1, ENOSPC),
        # Too long.
        (HUGE, Command.READ, 0, 0, limits.NBD_REQUEST_BYTES_MAX + 1, EOVERFLOW),
        (HUGE, Command.READ, DF, 0, U32_MAX, EOVERFLOW),
        # Nothing to do.
        (WRITABLE, Command.READ, 0, 0, 0, EINVAL),
        (WRITABLE, Command.TRIM, 0, 0, 0, EINVAL),
        (WRITABLE, Command.CACHE, 0, 0, 0, EINVAL),
        (WRITABLE, Command.WRITE_ZEROES, 0, 0, 0, EINVAL),
        (WRITABLE, Command.BLOCK_STATUS, 0, 0, 0, EINVAL),
        # Reserved fields.
        (WRITABLE, Command.FLUSH, 0, 512, 0, EINVAL),
        (WRITABLE, Command.FLUSH, 0, 0, 512, EINVAL),
        # Flags.
        (WRITABLE, Command.READ, NO_HOLE, 0, 1, EINVAL),
        (WRITABLE, Command.READ, PAYLOAD_LEN, 0, 1, EINVAL),
        (WRITABLE, Command.READ, 1 << 15, 0, 1, EINVAL),
        (PLAIN, Command.READ, DF, 0, 1, EINVAL),
        (WRITABLE, Command.FLUSH, DF, 0, 0, EINVAL),
        (WRITABLE, Command.TRIM, NO_HOLE, 0, 1, EINVAL),
        (WRITABLE, Command.TRIM, FAST_ZERO, 0, 1, EINVAL),
        (WRITABLE, Command.WRITE_ZEROES, REQ_ONE, 0, 1, EINVAL),
        (WRITABLE, Command.BLOCK_STATUS, DF, 0, 1, EINVAL),
        (SLOW_ZERO, Command.WRITE_ZEROES, FAST_ZERO, 0, 1, EINVAL),
        (WRITABLE, Command.WRITE_ZEROES, FAST_ZERO | NO_HOLE, 0, 1, ENOTSUP),
        (READ_ONLY, Command.READ, FUA, 0, 1, EINVAL),
        # Not agreed, or unknown.
        (PLAIN, Command.BLOCK_STATUS, 0, 0, 1, EINVAL),
        (WRITABLE, 8, 0, 0, 0, EINVAL),
        (WRITABLE, 0xFFFF, 0, 0, 0, EINVAL),
        # Read-only; the range does not matter any more.
        (READ_ONLY, Command.TRIM, 0, 0, 1, EPERM),
        (READ_ONLY, Command.WRITE_ZEROES, 0, SIZE_BYTES, 1, EPERM),
    ],
)
def test_refused_requests(
    outcome: Negotiated, command: int, flags: int, offset: int, length: int, error: NbdError
) -> None:
    said = hear(outcome, request(command, 5, offset, length, flags=flags) + request(Command.READ, 6, 0, 1))
    assert said.refusals == [Refusal(5, error)]
    assert [e.cookie for e in said.executed] == [6]
    assert said.violation is None


@pytest.mark.parametrize(
    ("outcome", "flags", "offset", "payload_bytes", "error"),
    [
        (WRITABLE, 0, SIZE_BYTES, 4096, ENOSPC),
        (WRITABLE, 0, SIZE_BYTES - 1, 4096, ENOSPC),
        (WRITABLE, 0, 2**64 - 1, 1, ENOSPC),
        (WRITABLE, DF, 0, 4096, EINVAL),
        (WRITABLE, NO_HOLE, 0, 4096, EINVAL),
        (WRITABLE, 0, 0, 0, EINVAL),
        (READ_ONLY, 0, 0, 4096, EPERM),
        (READ_ONLY, 0, 0, 2 * MIB, EPERM),
        (HUGE, 0, 0, limits.NBD_REQUEST_BYTES_MAX + 1, EOVERFLOW),
    ],
)
def test_the_payload_of_a_refused_write_is_skipped(
    outcome: Negotiated, flags: int, offset: int, payload_bytes: int, error: NbdError
) -> None:
    # Requests in the payload must not be mistaken for requests.
    payload = (request(Command.READ, 99, 0, 1) * (payload_bytes // 28 + 1))[:payload_bytes]
    write = request(Command.WRITE, 5, offset, flags=flags, payload=payload)
    said = hear(outcome, write + request(Command.READ, 6, 0, 1))
    assert said.refusals == [Refusal(5, error)]
    assert [e.cookie for e in said.executed] == [6]


def test_a_refused_write_is_answered_only_when_its_payload_has_arrived() -> None:
    peer = Peer({})
    peer.agree(READ_ONLY)
    write = request(Command.WRITE, 5, 0, payload=bytes(4096))
    peer.receive(write[:-1])
    assert peer.said.refusals == []
    peer.receive(write[-1:])
    assert peer.said.refusals == [Refusal(5, EPERM)]


def test_writes_in_one_batch() -> None:
    buffer = ReceiveBuffer(limits.NBD_RECEIVE_BUFFER_BYTES)
    fill(
        buffer,
        request(Command.WRITE, 1, 0, payload=b"a" * 512)
        + request(Command.WRITE, 2, 512, flags=FUA, payload=b"b")
        + request(Command.FLUSH, 3)
        + request(Command.WRITE, 4, SIZE_BYTES - 1, payload=b"c"),
    )
    transmission = Transmission(agreed(), buffer)
    batch = transmission.parse()
    assert [(r.command, r.flags, r.cookie, r.offset, r.length, bytes(r.payload or b"")) for r in batch] == [
        (Command.WRITE, 0, 1, 0, 512, b"a" * 512),
        (Command.WRITE, FUA, 2, 512, 1, b"b"),
        (Command.FLUSH, 0, 3, 0, 0, b""),
        (Command.WRITE, 0, 4, SIZE_BYTES - 1, 1, b"c"),
    ]
    assert all(r.is_last for r in batch)
    assert not transmission.is_limited
    assert buffer.start == buffer.end


@pytest.mark.parametrize("start", [0, 4096, 5120, 4097])
def test_a_long_write_comes_in_pieces_through_a_buffer_that_is_shorter(start: int) -> None:
    piece_bytes = limits.NBD_PIECE_BYTES_MIN
    payload = bytes(range(256)) * (3 * piece_bytes // 256) + b"tail"
    write = request(Command.WRITE, 5, start, flags=FUA, payload=payload)
    buffer = ReceiveBuffer(limits.NBD_RECEIVE_BUFFER_BYTES)
    transmission = Transmission(agreed(), buffer)
    pieces: list[Request] = []
    received = bytearray()
    for cut in range(0, len(write), 50_000):
        fill(buffer, write[cut : cut + 50_000])
        for piece in transmission.parse():
            pieces.append(piece)
            received += piece.payload or b""
        buffer.compact()
    assert received == payload
    assert [piece.is_last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert len(pieces) > 1
    assert all(piece.length >= piece_bytes for piece in pieces[:-1])
    assert {(p.command, p.flags, p.cookie) for p in pieces} == {(Command.WRITE, FUA, 5)}
    offset = start
    for piece in pieces:
        assert piece.offset == offset
        offset += piece.length
        assert piece.is_last or offset % 4096 == 0, "a process that ends between two pieces would tear a sector"
    assert not transmission.parse()


def test_the_largest_write() -> None:
    payload = b"\x5a" * limits.NBD_REQUEST_BYTES_MAX
    said = hear(agreed(), request(Command.WRITE, 5, 0, payload=payload) + request(Command.FLUSH, 6))
    assert [(e.cookie, e.length) for e in said.executed] == [(5, len(payload)), (6, 0)]
    assert said.executed[0].payload == payload


@pytest.mark.parametrize("flags", [0, FUA, DF, 0xFFFF])
def test_disconnect_ends_parsing(flags: int) -> None:
    said = hear(
        agreed(), request(Command.FLUSH, 1) + request(Command.DISC, 2, flags=flags) + b"anything at all, and more"
    )
    assert said.is_disconnected
    assert said.violation is None
    assert [e.cookie for e in said.executed] == [1]


def test_a_wrong_magic_is_a_violation_after_what_came_before_was_handed_on() -> None:
    said = hear(agreed(), request(Command.FLUSH, 1) + request(9, 2) + bytes(28) + request(Command.FLUSH, 3))
    assert said.violation is not None
    assert [e.cookie for e in said.executed] == [1]
    assert said.refusals == [Refusal(2, EINVAL)]


def test_a_wrong_magic_alone() -> None:
    buffer = ReceiveBuffer(4096)
    transmission = Transmission(agreed(), buffer)
    fill(buffer, bytes(27))
    assert transmission.parse() == []
    fill(buffer, bytes(1))
    with pytest.raises(PeerViolation):
        transmission.parse()


def test_no_more_requests_in_progress_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "NBD_CONNECTION_REQUESTS_MAX", 4)
    buffer = ReceiveBuffer(limits.NBD_RECEIVE_BUFFER_BYTES)
    transmission = Transmission(agreed(), buffer)
    fill(buffer, b"".join(request(Command.FLUSH, cookie) for cookie in range(6)))
    assert [r.cookie for r in transmission.parse()] == [0, 1, 2, 3]
    assert transmission.is_limited
    assert transmission.requests_in_progress == 4
    assert transmission.parse() == []
    assert transmission.is_limited
    transmission.finish(2)
    assert [r.cookie for r in transmission.parse()] == [4]
    assert transmission.is_limited
    transmission.finish(0)
    assert [r.cookie for r in transmission.parse()] == [5]
    assert not transmission.is_limited


def test_reads_wait_when_too_much_is_promised() -> None:
    backlog = limits.NBD_REPLY_BACKLOG_BYTES
    buffer = ReceiveBuffer(limits.NBD_RECEIVE_BUFFER_BYTES)
    transmission = Transmission(agreed(), buffer)
    lengths = [backlog // 2, backlog // 2, 1, 2 * backlog, 1]
    fill(buffer, b"".join(request(Command.READ, cookie, 0, length) for cookie, length in enumerate(lengths)))
    assert [r.cookie for r in transmission.parse()] == [0, 1]
    assert transmission.is_limited
    assert transmission.read_bytes_in_progress == backlog
    transmission.finish(0)
    assert transmission.read_bytes_in_progress == backlog // 2
    assert [r.cookie for r in transmission.parse()] == [2]
    transmission.finish(1)
    transmission.finish(2)
    assert [r.cookie for r in transmission.parse()] == [3]  # Alone, one may be larger than the bound.
    assert transmission.is_limited
    transmission.finish(3)
    assert [r.cookie for r in transmission.parse()] == [4]
    assert not transmission.is_limited


@pytest.mark.parametrize("first", [Command.READ, Command.WRITE, Command.FLUSH])
@pytest.mark.parametrize("second", [Command.READ, Command.WRITE, Command.FLUSH])
def test_a_request_waits_for_one_with_the_same_cookie(first: Command, second: Command) -> None:
    requests = {
        Command.READ: request(Command.READ, 1, 0, 512),
        Command.WRITE: request(Command.WRITE, 1, 0, payload=bytes(512)),
        Command.FLUSH: request(Command.FLUSH, 1),
    }
    buffer = ReceiveBuffer(4096)
    transmission = Transmission(agreed(), buffer)
    fill(buffer, requests[first] + requests[second] + request(Command.FLUSH, 2))
    assert [r.command for r in transmission.parse()] == [first]
    assert transmission.is_limited
    assert transmission.parse() == []
    transmission.finish(1)
    assert [(r.command, r.cookie) for r in transmission.parse()] == [(second, 1), (Command.FLUSH, 2)]
    assert transmission.requests_in_progress == 2


def test_compacting_moves_only_when_room_is_short() -> None:
    buffer = ReceiveBuffer(64)
    fill(buffer, bytes(range(30)))
    buffer.start = 20
    buffer.compact()
    assert (buffer.start, buffer.end) == (20, 30)
    fill(buffer, bytes(range(30, 40)))
    buffer.compact()
    assert bytes(buffer.view[buffer.start : buffer.end]) == bytes(range(20, 40))
    assert buffer.start == 0
    buffer.start = buffer.end
    buffer.compact()
    assert (buffer.start, buffer.end, len(buffer.space())) == (0, 0, 64)
