"""The NBD server over real sockets, on both event loops: batches, backpressure, goodbyes, listeners."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from tests.support.nbd import DISCONNECT, FIXED, GREETING_BYTES, KIB, MIB, request
from tests.support.nbd_client import WAIT_SECONDS_MAX, RawClient, Reply
from twinsite.core import limits
from twinsite.core.nbd.constants import Command
from twinsite.errors import ConfigurationError
from twinsite.worker.device import ExportInfo, ReplySink, Request
from twinsite.worker.nbd_connection import NbdConnection
from twinsite.worker.nbd_server import SOCKET_PATH_BYTES_MAX, NbdServer

SIZE_BYTES = 64 * MIB


class HeldDevice:
    """A device that keeps every request until the test completes it."""

    def __init__(self, name: str = "vol") -> None:
        self.info = ExportInfo(name, "", SIZE_BYTES)
        self.batches: list[list[Request]] = []
        self.taken: list[tuple[Request, ReplySink]] = []
        self.lost: list[ReplySink] = []
        self.payloads = bytearray()

    def submit(self, batch: Sequence[Request], sink: ReplySink) -> None:
        """Keep the batch."""
        self.batches.append([request_._replace(payload=None) for request_ in batch])
        for request_ in batch:
            self.payloads += request_.payload or b""
            if request_.is_last:
                self.taken.append((request_._replace(payload=None), sink))

    def connection_lost(self, sink: ReplySink) -> None:
        """Note it."""
        self.lost.append(sink)

    def complete(self, count: int) -> None:
        """Complete the oldest requests."""
        done, self.taken = self.taken[:count], self.taken[count:]
        for request_, sink in done:
            if request_.command == Command.READ:
                sink.complete_read(request_.cookie, request_.offset, bytes(request_.length))
            else:
                sink.complete(request_.cookie)
        for sink in {sink for _, sink in done}:
            sink.flush()


async def until(condition: Callable[[], object]) -> None:
    """Wait for what the event loop will bring about, a bounded time."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while not condition():  # noqa: ASYNC110  # Of the server's own state there is no event.
            await asyncio.sleep(0.001)


async def settle(client: RawClient) -> None:
    """Wait until the server has looked at all that `client` has sent, as far as it wants to."""
    await client.drain()
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.fixture
def device() -> HeldDevice:
    """The volume that is served."""
    return HeldDevice()


@pytest.fixture
async def server(device: HeldDevice, directory: Path) -> AsyncIterator[NbdServer]:
    """A server with one volume on a Unix socket."""
    running = NbdServer()
    running.add_export(device)
    await running.listen_unix(str(directory / "n.sock"))
    yield running
    await running.close()


@pytest.fixture
async def client(server: NbdServer, directory: Path) -> AsyncIterator[RawClient]:
    """A client in the transmission phase, without structured replies."""
    async with await RawClient.unix(str(directory / "n.sock")) as connected:
        await connected.negotiate()
        yield connected


async def test_one_receive_is_one_batch_and_one_answer(client: RawClient, device: HeldDevice) -> None:
    client.send(*(request(Command.WRITE, cookie, cookie * 512, payload=bytes([cookie]) * 512) for cookie in range(10)))
    await until(lambda: len(device.taken) == 10)
    assert len(device.batches) == 1
    assert device.payloads == b"".join(bytes([cookie]) * 512 for cookie in range(10))
    device.complete(10)
    assert [await client.reply() for _ in range(10)] == [Reply(cookie, 0, b"") for cookie in range(10)]


async def test_a_connection_that_is_aborted_before_it_is_made(server: NbdServer) -> None:
    lost: list[NbdConnection] = []
    connection = NbdConnection(server, lost.append)
    connection.abort()
    ours, theirs = socket.socketpair()
    with theirs:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, ours)
        await until(lambda: lost)
        assert theirs.recv(100) == b""
    assert lost == [connection]


async def test_tcp(server: NbdServer, device: HeldDevice) -> None:
    port = await server.listen_tcp("127.0.0.1", 0)
    async with await RawClient.tcp(port) as client:
        await client.negotiate("vol", structured=True)
        client.send(request(Command.READ, 9, 0, 4 * KIB))
        await until(lambda: device.taken)
        device.complete(1)
        assert await client.reply() == Reply(9, 0, bytes(4 * KIB))


@pytest.mark.parametrize("structured", [False, True])
async def test_failures(server: NbdServer, device: HeldDevice, directory: Path, structured: bool) -> None:
    async with await RawClient.unix(str(directory / "n.sock")) as client:
        await client.negotiate(structured=structured)
        client.send(request(Command.READ, 1, 0, 512), request(Command.READ, 2, SIZE_BYTES, 512))
        assert await client.reply(data_bytes=512) == Reply(2, 22, b"")  # Refused without asking the device.
        await until(lambda: device.taken)
        _, sink = device.taken.pop()
        sink.fail(1, 61)
        sink.flush()
        assert await client.reply(data_bytes=512) == Reply(1, 5, b"")


async def test_a_long_write_comes_through_in_pieces(client: RawClient, device: HeldDevice) -> None:
    payload = os.urandom(3 * MIB)
    client.send(request(Command.WRITE, 1, 4096, payload=payload))
    await until(lambda: device.taken)
    assert device.payloads == payload
    device.complete(1)
    assert await client.reply() == Reply(1, 0, b"")


async def test_requests_in_progress_finish_after_disconnect(client: RawClient, device: HeldDevice) -> None:
    client.send(request(Command.FLUSH, 1), request(Command.READ, 2, 0, MIB), DISCONNECT)
    await until(lambda: len(device.taken) == 2)
    device.complete(1)
    assert await client.reply() == Reply(1, 0, b"")
    assert not device.lost
    device.complete(1)
    assert await client.reply(data_bytes=MIB) == Reply(2, 0, bytes(MIB))
    assert await client.rest() == b""
    await until(lambda: device.lost)


async def test_who_says_goodbye_and_sends_no_more_still_gets_all_answers(client: RawClient, device: HeldDevice) -> None:
    """So libnbd does it."""
    cookies = [2, 3, 4]
    client.send(*(request(Command.FLUSH, cookie) for cookie in cookies), DISCONNECT)
    client.writer.write_eof()
    await until(lambda: len(device.taken) == len(cookies))
    sink = device.taken[0][1]
    for cookie in cookies:
        assert not sink.is_gone()
        device.complete(1)
        assert await client.reply() == Reply(cookie, 0, b"")
    assert await client.rest() == b""
    await until(lambda: device.lost)


async def test_who_says_goodbye_and_reads_slowly_still_gets_all_data(client: RawClient, device: HeldDevice) -> None:
    client.send(request(Command.READ, 1, 0, limits.NBD_REQUEST_BYTES_MAX), DISCONNECT)
    await until(lambda: device.taken)
    device.complete(1)
    assert await client.reply(data_bytes=limits.NBD_REQUEST_BYTES_MAX) == Reply(
        1, 0, bytes(limits.NBD_REQUEST_BYTES_MAX)
    )
    assert await client.rest() == b""


async def test_what_lay_in_the_kernel_during_a_pause_is_not_begun_either_once_its_client_has_hung_up(
    client: RawClient, device: HeldDevice
) -> None:
    client.send(request(Command.FLUSH, 1))
    await until(lambda: device.taken)
    sink = device.taken[0][1]
    sink.pause_reading()
    client.send(request(Command.WRITE, 2, payload=b"o" * 4096))
    await settle(client)
    sink.resume_reading()
    await asyncio.sleep(0)  # It is looked at, and found to be there.
    with socket.socket(fileno=os.dup(client.writer.get_extra_info("socket").fileno())) as same:
        same.shutdown(socket.SHUT_RDWR)
    await until(lambda: device.lost)
    assert len(device.taken) == 1


async def test_replies_to_a_lost_connection_go_nowhere(client: RawClient, device: HeldDevice) -> None:
    client.send(request(Command.FLUSH, 1), request(Command.READ, 2, 0, MIB), request(Command.FLUSH, 3))
    await until(lambda: len(device.taken) == 3)
    await client.close()
    await until(lambda: device.lost)
    sink = device.taken[0][1]
    assert device.lost == [sink]
    sink.pause_reading()
    sink.fail(device.taken.pop()[0].cookie, 5)
    device.complete(2)
    sink.resume_reading()


async def test_pauses_of_the_device_are_counted(client: RawClient, device: HeldDevice) -> None:
    client.send(request(Command.FLUSH, 1))
    await until(lambda: device.taken)
    sink = device.taken[0][1]
    sink.pause_reading()
    sink.pause_reading()
    client.send(request(Command.FLUSH, 2))
    await settle(client)
    sink.resume_reading()
    await settle(client)
    device.complete(1)
    assert (await client.reply()).cookie == 1  # Replies leave all the same.
    assert not device.taken
    sink.resume_reading()
    await until(lambda: device.taken)


async def test_a_pause_stops_requests_that_have_been_received(client: RawClient, device: HeldDevice) -> None:
    # Enough for the server to receive in one go, more than it takes at a time.
    count = limits.NBD_CONNECTION_REQUESTS_MAX + 100
    client.send(*(request(Command.FLUSH, cookie) for cookie in range(count)))
    await until(lambda: len(device.taken) == limits.NBD_CONNECTION_REQUESTS_MAX)
    sink = device.taken[0][1]
    sink.pause_reading()
    device.complete(200)
    await settle(client)
    assert len(device.taken) == limits.NBD_CONNECTION_REQUESTS_MAX - 200
    sink.resume_reading()
    await until(lambda: len(device.taken) == count - 200)


@pytest.mark.parametrize("waits_for", ["the device", "its requests in progress"])
async def test_what_was_received_before_a_client_hung_up_is_not_begun_once_it_may_be(
    client: RawClient, device: HeldDevice, waits_for: str
) -> None:
    """The loop does not look at a socket that it does not read, and its client may have been told of newer writes."""
    count = limits.NBD_CONNECTION_REQUESTS_MAX + 100
    client.send(*(request(Command.FLUSH, cookie) for cookie in range(count)))
    await until(lambda: len(device.taken) == limits.NBD_CONNECTION_REQUESTS_MAX)
    sink = device.taken[0][1]
    if waits_for == "the device":
        sink.pause_reading()
        device.complete(200)
    assert not sink.is_gone()
    await client.close()
    assert sink.is_gone()
    assert not device.lost
    if waits_for == "the device":
        sink.resume_reading()
    else:
        device.complete(200)
    await until(lambda: device.lost)
    assert len(device.taken) == limits.NBD_CONNECTION_REQUESTS_MAX - 200
    assert sink.is_gone()


async def test_no_more_requests_in_progress_than_allowed(
    client: RawClient, device: HeldDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "NBD_CONNECTION_REQUESTS_MAX", 4)
    client.send(*(request(Command.FLUSH, cookie) for cookie in range(10)))
    await settle(client)
    await until(lambda: len(device.taken) == 4)
    device.complete(3)
    await until(lambda: len(device.taken) == 4)
    device.complete(4)
    await until(lambda: len(device.taken) == 3)
    device.complete(3)
    assert [(await client.reply()).cookie for _ in range(10)] == list(range(10))


class EagerDevice(HeldDevice):
    """A device that completes everything at once."""

    def submit(self, batch: Sequence[Request], sink: ReplySink) -> None:
        """Complete the batch; the server sends."""
        super().submit(batch, sink)
        done, self.taken = self.taken, []
        for request_, _ in done:
            sink.complete_read(request_.cookie, request_.offset, bytes(request_.length))


async def test_a_client_that_does_not_read_gets_no_more_than_the_bound(directory: Path) -> None:
    device = EagerDevice()
    server = NbdServer()
    server.add_export(device)
    await server.listen_unix(str(directory / "n.sock"))
    count, length = 1000, 64 * KIB
    async with await RawClient.unix(str(directory / "n.sock")) as client:
        await client.negotiate()
        client.send(*(request(Command.READ, cookie, 0, length) for cookie in range(count)))
        await until(lambda: device.batches)
        await settle(client)
        submitted = sum(len(batch) for batch in device.batches)
        assert submitted * length <= 3 * limits.NBD_REPLY_BACKLOG_BYTES
        for cookie in range(count):
            assert await client.reply(data_bytes=length) == Reply(cookie, 0, bytes(length))
    await server.close()


async def test_a_handshake_that_takes_too_long(device: HeldDevice, directory: Path) -> None:
    server = NbdServer(handshake_seconds=0.01)
    server.add_export(device)
    await server.listen_unix(str(directory / "n.sock"))
    async with await RawClient.unix(str(directory / "n.sock")) as idle:
        assert len(await idle.rest()) == GREETING_BYTES
    await server.close()


async def test_the_time_out_of_the_handshake_ends_with_it(device: HeldDevice, directory: Path) -> None:
    seconds = 1.0  # Enough for a handshake on a busy machine.
    server = NbdServer(handshake_seconds=seconds)
    server.add_export(device)
    await server.listen_unix(str(directory / "n.sock"))
    async with await RawClient.unix(str(directory / "n.sock")) as client:
        await client.negotiate()
        await asyncio.sleep(seconds * 1.05)
        client.send(request(Command.FLUSH, 1))
        await until(lambda: device.taken)
    await server.close()


async def test_one_connection_too_many(
    server: NbdServer, client: RawClient, directory: Path, device: HeldDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "NBD_CONNECTIONS_MAX", 2)
    async with await RawClient.unix(str(directory / "n.sock")) as second:
        await second.negotiate()
        async with await RawClient.unix(str(directory / "n.sock")) as third:
            assert await third.rest() == b""
    await until(lambda: server.connection_count == 1)
    async with await RawClient.unix(str(directory / "n.sock")) as fourth:
        await fourth.negotiate()
    client.send(request(Command.FLUSH, 1))
    await until(lambda: device.taken)


async def test_removing_an_export_ends_its_connections_only(
    server: NbdServer, client: RawClient, device: HeldDevice, directory: Path
) -> None:
    other = HeldDevice("other")
    server.add_export(other)
    async with await RawClient.unix(str(directory / "n.sock")) as guest:
        await guest.negotiate("other")
        server.remove_export("vol")
        server.remove_export("vol")
        assert await client.rest() == b""
        guest.send(request(Command.FLUSH, 1))
        await until(lambda: other.taken)
    async with await RawClient.unix(str(directory / "n.sock")) as late:
        await late.negotiate()  # There is one left, and it is the default.
    await until(lambda: len(other.lost) == 2)
    assert len(device.lost) == 1


async def test_closing(server: NbdServer, client: RawClient, device: HeldDevice, directory: Path) -> None:
    async with await RawClient.unix(str(directory / "n.sock")) as waiting:
        await waiting.exactly(GREETING_BYTES)
        waiting.send(FIXED)
        await settle(waiting)
        await server.close()
        assert await client.rest() == b""
        assert await waiting.rest() == b""
    assert len(device.lost) == 1
    assert server.connection_count == 0
    assert os.listdir(directory) == []
    await server.close()


async def test_closing_leaves_a_socket_that_is_not_ours(server: NbdServer, directory: Path) -> None:
    path = directory / "n.sock"
    path.rename(directory / "old.sock")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        await server.close()
        assert path.exists()


async def test_a_stale_socket_is_replaced(device: HeldDevice, directory: Path) -> None:
    path = str(directory / "n.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        dead.listen()
    server = NbdServer()
    server.add_export(device)
    await server.listen_unix(path)
    async with await RawClient.unix(path) as client:
        await client.negotiate()
    await server.close()


async def test_a_live_socket_is_not_replaced(server: NbdServer, client: RawClient, directory: Path) -> None:
    second = NbdServer()
    with pytest.raises(ConfigurationError, match="another process serves"):
        await second.listen_unix(str(directory / "n.sock"))
    await second.close()
    async with await RawClient.unix(str(directory / "n.sock")) as late:
        await late.negotiate()


async def test_a_file_in_the_way_is_not_replaced(directory: Path) -> None:
    path = directory / "n.sock"
    path.write_text("precious")
    with pytest.raises(ConfigurationError, match="not a socket"):
        await NbdServer().listen_unix(str(path))
    assert path.read_text() == "precious"


async def test_a_socket_path_that_is_too_long(directory: Path) -> None:
    longest = str(directory / "x").ljust(SOCKET_PATH_BYTES_MAX, "x")
    with pytest.raises(ConfigurationError, match="107 bytes"):
        await NbdServer().listen_unix(longest + "x")
    server = NbdServer()
    await server.listen_unix(longest)
    await server.close()
    assert os.listdir(directory) == []


async def test_a_port_that_is_taken(server: NbdServer) -> None:
    port = await server.listen_tcp("127.0.0.1", 0)
    with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}"):
        await NbdServer().listen_tcp("127.0.0.1", port)
