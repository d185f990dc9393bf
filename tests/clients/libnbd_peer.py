"""Checks of the server with libnbd's Python binding, run by the system's Python: `libnbd_peer.py CHECK URI`.

Strict mode is off where a check wants the server, not the library, to refuse.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

import nbd

MIB = 1024 * 1024
SIZE_BYTES = 64 * MIB
CONTEXT = "base:allocation"


def connect(uri: str, *, structured: bool = True, strict: bool = True) -> nbd.NBD:
    """Open a connection."""
    handle = nbd.NBD()
    handle.set_request_structured_replies(structured)
    if structured:
        handle.add_meta_context(CONTEXT)
    if not strict:
        handle.set_strict_mode(0)
    handle.connect_uri(uri)
    return handle


@contextlib.contextmanager
def refused(errno_name: str) -> Iterator[None]:
    """Expect the server to refuse a request with this error."""
    try:
        yield
    except nbd.Error as error:
        assert error.errno == errno_name, (error.errno, errno_name)
        return
    raise AssertionError(f"not refused with {errno_name}")


def simple_replies(uri: str) -> None:
    """Without structured replies, everything but block status works."""
    handle = connect(uri, structured=False)
    assert not handle.get_structured_replies_negotiated()
    assert not handle.can_df()
    handle.pwrite(b"simple", 10)
    handle.flush()
    assert handle.pread(8, 9) == b"\0simple\0"
    handle.shutdown()


def structured_replies(uri: str) -> None:
    """A read is one chunk, with and without DF."""
    handle = connect(uri)
    assert handle.get_structured_replies_negotiated()
    handle.pwrite(b"\5" * MIB, 4096)
    for flags in (0, nbd.CMD_FLAG_DF):
        chunks: list[tuple[int, int, int]] = []

        def note(data: bytes, offset: int, status: int, error: object, to: list[tuple[int, int, int]] = chunks) -> None:
            del error
            to.append((len(data), offset, status))

        assert handle.pread_structured(MIB, 4096, note, flags) == b"\5" * MIB
        assert chunks == [(MIB, 4096, nbd.READ_DATA)]
    handle.shutdown()


def out_of_range(uri: str) -> None:
    """Each command past the end gets its error, and the connection goes on."""
    handle = connect(uri, strict=False)
    with refused("EINVAL"):
        handle.pread(2, SIZE_BYTES - 1)
    with refused("ENOSPC"):
        handle.pwrite(b"xy", SIZE_BYTES - 1)
    with refused("ENOSPC"):
        handle.zero(2, SIZE_BYTES - 1)
    with refused("EINVAL"):
        handle.trim(2, SIZE_BYTES - 1)
    with refused("EINVAL"):
        handle.block_status(2, SIZE_BYTES - 1, lambda *_: None)
    with refused("EINVAL"):
        handle.pread(0, 0)
    assert handle.pread(1, SIZE_BYTES - 1) == b"\0"
    handle.shutdown()


def flags(uri: str) -> None:
    """FUA, NO_HOLE, FAST_ZERO, REQ_ONE, and flags that do not belong."""
    handle = connect(uri, strict=False)
    handle.pwrite(b"\7" * MIB, 0, nbd.CMD_FLAG_FUA)
    handle.zero(4096, 0, nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_NO_HOLE)
    handle.zero(4096, 8192, nbd.CMD_FLAG_FAST_ZERO)
    handle.trim(4096, 16384, nbd.CMD_FLAG_FUA)
    with refused("ENOTSUP"):
        handle.zero(4096, 0, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_NO_HOLE)
    with refused("EINVAL"):
        handle.pread(512, 0, nbd.CMD_FLAG_REQ_ONE)
    with refused("EINVAL"):
        handle.flush(nbd.CMD_FLAG_DF)
    zero, seven = bytes(4096), b"\7" * 4096
    assert handle.pread(20480, 0) == zero + seven + zero + seven + zero
    handle.shutdown()


def block_status(uri: str) -> None:
    """Extents tell data from holes; REQ_ONE gets one."""
    handle = connect(uri)
    assert handle.can_meta_context(CONTEXT)
    handle.pwrite(b"\7" * MIB, MIB)
    for flag, expected in (
        (0, [MIB, 3, MIB, 0, SIZE_BYTES - 2 * MIB, 3]),
        (nbd.CMD_FLAG_REQ_ONE, [MIB, 3]),
    ):
        told: list[tuple[str, int, list[int]]] = []

        def note(
            context: str, offset: int, entries: list[int], error: object, to: list[tuple[str, int, list[int]]] = told
        ) -> None:
            del error
            to.append((context, offset, list(entries)))

        handle.block_status(SIZE_BYTES, 0, note, flag)
        assert told == [(CONTEXT, 0, expected)], told
    handle.shutdown()


def block_status_that_was_not_agreed(uri: str) -> None:
    """Without a context there is no block status."""
    handle = nbd.NBD()
    handle.set_strict_mode(0)
    handle.connect_uri(uri)
    with refused("EINVAL"):
        handle.block_status(512, 0, lambda *_: None)
    assert handle.pread(1, 0) == b"\0"
    handle.shutdown()


def many_connections(uri: str) -> None:
    """What one connection wrote and another flushed is there for a third."""
    first, second, third = (connect(uri) for _ in range(3))
    assert first.can_multi_conn()
    first.pwrite(b"shared", 1000)
    second.flush()
    assert third.pread(6, 1000) == b"shared"
    for handle in (first, second, third):
        handle.shutdown()


def in_flight(uri: str) -> None:
    """Hundreds of requests in flight, answered in any order; a flush and a goodbye behind them."""
    handle = connect(uri)
    count, size = 500, 64 * 1024
    cookies = {}
    for index in range(count):
        data = nbd.Buffer.from_bytearray(bytearray(index.to_bytes(4, "big") * (size // 4)))
        cookies[handle.aio_pwrite(data, index * size)] = data
    cookies[handle.aio_flush()] = None
    while cookies:
        handle.poll(10_000)
        for cookie in [cookie for cookie in cookies if handle.aio_command_completed(cookie)]:
            del cookies[cookie]
    for index in range(count):
        assert handle.pread(4, index * size + 8) == index.to_bytes(4, "big")
    handle.shutdown()


def read_only(uri: str) -> None:
    """A read-only volume refuses every change."""
    handle = connect(uri, strict=False)
    assert handle.is_read_only()
    changes: list[Callable[[], object]] = [
        lambda: handle.pwrite(b"x" * MIB, 0),
        lambda: handle.zero(512, 0),
        lambda: handle.trim(512, 0),
    ]
    for change in changes:
        with refused("EPERM"):
            change()
    assert handle.pread(512, 0) == bytes(512)
    handle.flush()
    handle.shutdown()


def largest_requests(uri: str) -> None:
    """32 MiB go through; one byte more is refused and does no harm."""
    handle = connect(uri, strict=False)
    most = 32 * MIB
    assert handle.get_block_size(nbd.SIZE_MAXIMUM) == most
    handle.pwrite(b"\3" * most, 7)
    assert handle.pread(most, 7) == b"\3" * most
    with refused("EOVERFLOW"):
        handle.pread(most + 1, 0)
    assert handle.pread(1, 6) == b"\0"
    handle.shutdown()


CHECKS: dict[str, Callable[[str], None]] = {
    check.__name__: check
    for check in (
        simple_replies,
        structured_replies,
        out_of_range,
        flags,
        block_status,
        block_status_that_was_not_agreed,
        many_connections,
        in_flight,
        largest_requests,
        read_only,
    )
}

if __name__ == "__main__":
    CHECKS[sys.argv[1]](sys.argv[2])
