"""The NBD client against URIs and against servers that lie, each a fixed script of bytes on a real socket."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from twinsite.errors import ConfigurationError, PeerViolation, StorageFault
from twinsite.nbd_client import ConnectionLost, NbdAddress, NbdClient, parse_uri

SIZE_BYTES = 1024 * 1024
GREETING = b"NBDMAGICIHAVEOPT" + struct.pack("!H", 3)
EVERY_FLAG = 0x7F
BOUND_SECONDS = 5.0


def option_reply(option: int, kind: int, body: bytes = b"") -> bytes:
    return struct.pack("!QIII", 0x3E889045565A9, option, kind, len(body)) + body


STRUCTURED = GREETING + option_reply(8, 1)
EXPORT = option_reply(7, 3, struct.pack("!HQH", 0, SIZE_BYTES, EVERY_FLAG)) + option_reply(7, 1)
SIMPLE_SESSION = GREETING + option_reply(8, (1 << 31) + 1) + EXPORT
SESSION = STRUCTURED + EXPORT


def simple_reply(cookie: int = 1, error: int = 0) -> bytes:
    return struct.pack("!IIQ", 0x67446698, error, cookie)


def chunk(kind: int, body: bytes, *, done: bool = True, cookie: int = 1, magic: int = 0x668E33EF) -> bytes:
    return struct.pack("!IHHQI", magic, int(done), kind, cookie, len(body)) + body


def data_chunk(offset: int, data: bytes, *, done: bool = True) -> bytes:
    return chunk(1, struct.pack("!Q", offset) + data, done=done)


def hole_chunk(offset: int, length: int, *, done: bool = True) -> bytes:
    return chunk(2, struct.pack("!QI", offset, length), done=done)


@contextlib.contextmanager
def scripted_server(script: bytes) -> Iterator[str]:
    """Serve one client `script`, whatever it asks, and then nothing; give the URI."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(BOUND_SECONDS)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(BOUND_SECONDS)
            with contextlib.suppress(OSError):
                connection.sendall(script)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65_536):
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with listener:
            yield f"nbd://127.0.0.1:{listener.getsockname()[1]}/disk"
            thread.join(BOUND_SECONDS)
    finally:
        thread.join(BOUND_SECONDS)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("nbd+unix:///disk?socket=/run/a.sock", NbdAddress("disk", "/run/a.sock", "", 0)),
        ("nbd+unix:///?socket=/run/a%20b.sock", NbdAddress("", "/run/a b.sock", "", 0)),
        ("nbd://host.example:1234/a%2Fb", NbdAddress("a/b", None, "host.example", 1234)),
        ("nbd://[::1]/disk", NbdAddress("disk", None, "::1", 10809)),
        ("nbd://host", NbdAddress("", None, "host", 10809)),
    ],
)
def test_takes_uris_apart(uri: str, address: NbdAddress) -> None:
    assert parse_uri(uri) == address


@pytest.mark.parametrize(
    "uri",
    ["http://host/disk", "nbd+unix:///disk", "nbd+unix:///d?socket=/a&socket=/b", "nbd://", "nbd://host:99999/d", ""],
)
def test_refuses_what_is_not_an_nbd_uri(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="NBD URI"):
        parse_uri(uri)


@pytest.mark.parametrize(
    "script",
    [
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u1\r\n",
        b"NBDMAGIC" + struct.pack("!Q", 0x420281861253) + bytes(200),
        b"NBDMAGICIHAVEOPT" + struct.pack("!H", 0),
        GREETING + struct.pack("!QIII", 1, 8, 1, 0),
        GREETING + option_reply(7, 1),
        GREETING + struct.pack("!QIII", 0x3E889045565A9, 8, 1, 0xFFFFFFFF),
        STRUCTURED + option_reply(7, 3, b"\x00\x09") * 100,
    ],
    ids=["ssh", "oldstyle", "not-fixed", "reply-magic", "wrong-option", "huge-reply", "endless-replies"],
)
def test_a_handshake_that_breaks_the_protocol(script: bytes) -> None:
    with scripted_server(script) as uri, pytest.raises(PeerViolation, match="broke the protocol"):
        NbdClient(uri)


def test_an_unknown_export_is_named() -> None:
    script = STRUCTURED + option_reply(7, (1 << 31) + 6, b"no such disk")
    with scripted_server(script) as uri, pytest.raises(StorageFault) as failure:
        NbdClient(uri)
    assert failure.value.errno_value == errno.ENOENT


@pytest.mark.parametrize("script", [b"", GREETING[:10], STRUCTURED, SESSION[:-3]])
def test_a_server_that_goes_away_in_the_handshake(script: bytes) -> None:
    with scripted_server(script) as uri, pytest.raises(ConnectionLost):
        NbdClient(uri)


@pytest.mark.parametrize(
    ("session", "reply"),
    [
        (SESSION, b"\x00" * 16),
        (SESSION, simple_reply() + b"abcd"),
        (SESSION, data_chunk(100, b"abc")),
        (SESSION, data_chunk(100, b"abcde")),
        (SESSION, data_chunk(99, b"abcd")),
        (SESSION, hole_chunk(102, 4)),
        (SESSION, hole_chunk(100, 0xFFFFFFFF)),
        (SESSION, chunk(1, b"\x00" * 8)),
        (SESSION, chunk(5, b"\x00" * 12)),
        (SESSION, chunk(0, b"", cookie=2)),
        (SESSION, chunk(0, b"", done=False) + chunk(0, b"", magic=1)),
        (SESSION, chunk(1 << 15 | 1, b"\x00" * 6)),
        (SESSION, chunk(1 << 15 | 1, b"\x00\x00\x00\x05")),
        (SIMPLE_SESSION, simple_reply(cookie=7)),
        (SIMPLE_SESSION, data_chunk(100, b"abcd")),
    ],
    ids=lambda value: f"{len(value)}-bytes",
)
def test_a_reply_that_breaks_the_protocol_closes_the_connection(session: bytes, reply: bytes) -> None:
    with scripted_server(session + reply) as uri:
        client = NbdClient(uri)
        with pytest.raises(PeerViolation):
            client.read(100, 4)
        assert not client.is_connected


def test_a_reply_in_chunks_out_of_order() -> None:
    reply = data_chunk(102, b"cd", done=False) + hole_chunk(100, 2, done=False) + chunk(0, b"")
    with scripted_server(SESSION + reply) as uri, NbdClient(uri) as client:
        assert client.read(100, 4) == b"\0\0cd"


def test_an_error_chunk_carries_the_servers_words() -> None:
    reply = chunk((1 << 15) + 1, struct.pack("!IH", errno.EIO, 8) + b"bad disk")
    with scripted_server(SESSION + reply) as uri, NbdClient(uri) as client:
        with pytest.raises(StorageFault, match="bad disk") as failure:
            client.read(100, 4)
        assert failure.value.errno_value == errno.EIO
        assert client.is_connected


def test_a_connection_lost_in_the_middle_of_a_reply() -> None:
    with scripted_server(SESSION + data_chunk(100, b"abcd")[:-2]) as uri:
        client = NbdClient(uri)
        with pytest.raises(ConnectionLost) as failure:
            client.read(100, 4)
        assert failure.value.errno_value == errno.ECONNRESET
        assert not client.is_connected


def test_nobody_listens() -> None:
    with pytest.raises(ConnectionLost) as failure:
        NbdClient("nbd+unix:///disk?socket=/tmp/no-such-directory/nbd.sock")
    assert failure.value.errno_value == errno.ENOENT


def test_a_server_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(ConnectionLost) as failure:
        NbdClient(f"nbd://127.0.0.1:{listener.getsockname()[1]}/disk", timeout_seconds=0.05)
    assert failure.value.errno_value == errno.ETIMEDOUT
