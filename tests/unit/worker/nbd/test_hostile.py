"""Hostile clients against the real server: only their own connection ends, and a bystander notices nothing."""

from __future__ import annotations

import asyncio
import struct
import tracemalloc
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.nbd import DISCONNECT, FIXED, GREETING_BYTES, KIB, MIB, go, option, request
from tests.support.nbd_client import WAIT_SECONDS_MAX, RawClient, Reply
from twinsite.core import limits
from twinsite.core.nbd.constants import OPTION_MAGIC, Command, Option
from twinsite.stores.file import FileStore, create_file_store
from twinsite.worker.device import ExportInfo
from twinsite.worker.nbd_server import NbdServer
from twinsite.worker.store_device import StoreDevice

SIZE_BYTES = 64 * MIB
CORPUS = sorted((Path(__file__).parents[2] / "core" / "nbd" / "corpus").glob("*.bin"))
START = FIXED + go("vol")


class Service:
    """A server with one real volume, and a client of good manners."""

    def __init__(self, server: NbdServer, socket_path: str, bystander: RawClient) -> None:
        self.server = server
        self.socket_path = socket_path
        self._bystander = bystander
        self._cookie = 0

    async def check_bystander(self) -> None:
        """Assert that the other client's connection works and that its data is right."""
        pattern = (self._cookie % 251).to_bytes(1, "big") * 4 * KIB
        self._bystander.send(request(Command.WRITE, self._cookie, SIZE_BYTES - 4 * KIB, payload=pattern))
        assert await self._bystander.reply() == Reply(self._cookie, 0, b"")
        self._bystander.send(request(Command.READ, self._cookie + 1, SIZE_BYTES - 4 * KIB, 4 * KIB))
        assert await self._bystander.reply() == Reply(self._cookie + 1, 0, pattern)
        self._cookie += 2

    async def only_bystander_left(self) -> None:
        """Wait until the hostile connection is gone, and check the other."""
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while self.server.connection_count > 1:  # noqa: ASYNC110  # Of the server's own state there is no event.
                await asyncio.sleep(0.001)
        await self.check_bystander()


@pytest.fixture
async def service(directory: Path) -> AsyncIterator[Service]:
    """The server under attack."""
    path = str(directory / "vol.raw")
    create_file_store(path, SIZE_BYTES)
    store = FileStore(path, SIZE_BYTES)
    server = NbdServer()
    with ThreadPoolExecutor(2) as executor:
        device = StoreDevice(ExportInfo("vol", "", SIZE_BYTES, can_fast_zero=store.can_punch), store, executor)
        server.add_export(device)
        await server.listen_unix(str(directory / "n.sock"))
        async with await RawClient.unix(str(directory / "n.sock")) as bystander:
            await bystander.negotiate(structured=True)
            yield Service(server, str(directory / "n.sock"), bystander)
        await server.close()
        await device.drain()
    store.close()


def huge_option(number: int) -> bytes:
    """Return the beginning of an option of 4 GiB."""
    return struct.pack("!QII", OPTION_MAGIC, number, 2**32 - 1) + bytes(64 * KIB)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\xff" * 64 * KIB,
        FIXED + bytes(64),
        FIXED + option(Option.LIST) * 10_000,
        FIXED + option(77, bytes(limits.NBD_OPTION_BYTES_MAX + 1)) * (limits.NBD_OPTIONS_MAX + 1),
        FIXED + huge_option(Option.EXPORT_NAME),
        FIXED + option(Option.EXPORT_NAME, b"nowhere"),
        START + request(Command.FLUSH, 1)[:4] + bytes(2 * MIB),
        START + bytes(28),
        START + request(Command.WRITE, 1, 0, payload=bytes(8 * KIB))[:-1] + b"\0" + b"\x25\x60\x95\x14" * 100,
        START + request(Command.WRITE, 1, 2**63, payload=b"\0" * 300 * KIB) + bytes(28),
    ],
)
async def test_the_server_ends_the_connection(service: Service, data: bytes) -> None:
    async with await RawClient.unix(service.socket_path) as hostile:
        hostile.send(data)
        await hostile.rest()
        await service.only_bystander_left()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        FIXED[:3],
        FIXED,
        FIXED + option(Option.GO)[:15],
        FIXED + option(Option.LIST) * (limits.NBD_OPTIONS_MAX - 1),
        FIXED + huge_option(Option.GO),
        FIXED + struct.pack("!QII", OPTION_MAGIC, Option.GO, 60_000) + bytes(100),
        START,
        START + request(Command.READ, 1)[:27],
        START + request(Command.WRITE, 1, 0, 32 * MIB) + bytes(100),
        START + request(Command.WRITE, 1, 0, 32 * MIB) + bytes(5 * MIB),
        START + request(Command.WRITE, 1, 0, 2**32 - 1) + bytes(5 * MIB),
        START + b"".join(request(Command.READ, cookie, 0, 32 * MIB) for cookie in range(2_000)),
        START + b"".join(request(Command.READ, 7, 0, 4 * KIB) for _ in range(2_000)),
        START + b"".join(request(Command.FLUSH, cookie) for cookie in range(20_000)),
        START + b"".join(request(99, cookie) for cookie in range(20_000)),
        START + request(Command.WRITE_ZEROES, 1, 0, SIZE_BYTES) * 50,
    ],
)
async def test_the_client_falls_silent_and_hangs_up(service: Service, data: bytes) -> None:
    async with await RawClient.unix(service.socket_path) as hostile:
        hostile.send(data)
        await hostile.exactly(GREETING_BYTES)
        await service.check_bystander()
    await service.only_bystander_left()


async def test_many_large_reads_take_bounded_memory(service: Service) -> None:
    tracemalloc.start()
    try:
        async with await RawClient.unix(service.socket_path) as hostile:
            await hostile.negotiate()
            before = tracemalloc.get_traced_memory()[0]
            hostile.send(*(request(Command.READ, cookie, 0, 32 * MIB) for cookie in range(500)))
            for cookie in range(5):  # Proof that the server is at it, with hundreds more to come.
                assert await hostile.reply(data_bytes=32 * MIB) == Reply(cookie, 0, bytes(32 * MIB))
            peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A read, its copy in the transport, and the client's own: a handful of copies, not hundreds.
    assert peak - before < 8 * 32 * MIB


async def test_a_crowd_of_half_handshakes(service: Service) -> None:
    crowd = [await RawClient.unix(service.socket_path) for _ in range(limits.NBD_CONNECTIONS_MAX + 10)]
    for hostile in crowd:
        hostile.send(FIXED[:2])
    await service.check_bystander()
    assert service.server.connection_count <= limits.NBD_CONNECTIONS_MAX
    for hostile in crowd:
        await hostile.close()
    await service.only_bystander_left()


async def test_requests_after_a_goodbye_are_not_executed(service: Service) -> None:
    async with await RawClient.unix(service.socket_path) as hostile:
        await hostile.negotiate()
        hostile.send(DISCONNECT, request(Command.WRITE, 1, 0, payload=b"x" * 512))
        assert await hostile.rest() == b""
    async with await RawClient.unix(service.socket_path) as client:
        await client.negotiate()
        client.send(request(Command.READ, 1, 0, 512))
        assert await client.reply(data_bytes=512) == Reply(1, 0, bytes(512))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
async def test_corpus(service: Service, path: Path) -> None:
    async with await RawClient.unix(service.socket_path) as hostile:
        hostile.send(path.read_bytes())
        await hostile.exactly(GREETING_BYTES)
        await service.check_bystander()
    await service.only_bystander_left()
