"""The node's HTTP listener, over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from twinsite.errors import ConfigurationError
from twinsite.node import http as http_module
from twinsite.node.http import CONNECTIONS_MAX, HEAD_BYTES_MAX, Answer, NodeHttp, json_answer
from twinsite.node.settings import NodeSettings, parse_listen

WAIT_SECONDS_MAX = 20.0


async def say_hello() -> Answer:
    return json_answer(200, {"hello": "node"})


async def fail() -> Answer:
    raise RuntimeError("this page cannot be made")


@pytest.fixture
async def server() -> AsyncIterator[NodeHttp]:
    """A listener with two pages, on a port of the kernel's choice."""
    made = NodeHttp({"/hello": say_hello, "/broken": fail})
    await made.start("127.0.0.1", 0)
    yield made
    await made.close()


async def exchange(server: NodeHttp, sent: bytes) -> bytes:
    """Send bytes and return all that comes until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        writer.write(sent)
        answer = await reader.read()
    writer.close()
    return answer


async def test_pages_are_served_by_their_paths(server: NodeHttp) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client:
        answer = await client.get("/hello?verbose=1")
        assert (answer.status_code, answer.json()) == (200, {"hello": "node"})
        assert answer.headers["content-type"] == "application/json"
        head = await client.head("/hello")
        assert (head.status_code, head.content, head.headers["content-length"]) == (
            200,
            b"",
            answer.headers["content-length"],
        )
        assert (await client.get("/nothing")).status_code == 404
        refused = await client.post("/hello", content=b"x")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
        assert (await client.get("/broken")).status_code == 500
        assert (await client.get("/hello")).status_code == 200, "a page that fails ends nothing else"


@pytest.mark.parametrize(
    "sent", [b"\r\n\r\n", b"GET /hello\r\n\r\n", b"\x16\x03\x01 x y\r\n\r\n", b"GET  /a HTTP/1.1\r\n\r\n"]
)
async def test_what_is_no_http_is_refused(server: NodeHttp, sent: bytes) -> None:
    assert (await exchange(server, sent)).startswith(b"HTTP/1.1 400 ")


async def test_a_head_without_end_is_refused(server: NodeHttp) -> None:
    sent = b"GET /hello HTTP/1.1\r\nX: " + b"x" * (2 * HEAD_BYTES_MAX)
    assert (await exchange(server, sent)).startswith(b"HTTP/1.1 431 ")


async def test_a_slow_client_is_let_go(server: NodeHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "REQUEST_SECONDS_MAX", 0.05)
    assert await exchange(server, b"GET /hello HT") == b""


async def test_one_connection_too_many_is_closed_at_once(server: NodeHttp) -> None:
    idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(CONNECTIONS_MAX)]
    assert await exchange(server, b"") == b""
    for _, writer in idle:
        writer.close()
        await writer.wait_closed()


async def test_the_end_does_not_wait_for_clients() -> None:
    server = NodeHttp({"/hello": say_hello})
    await server.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET ")
    await asyncio.sleep(0)
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        await server.close()
        await reader.read()
    writer.close()
    await server.close()


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}.*--http-listen"):
            await NodeHttp({}).start("127.0.0.1", port)


def test_addresses() -> None:
    assert parse_listen("127.0.0.1:0") == ("127.0.0.1", 0)
    assert parse_listen("[::1]:9776") == ("::1", 9776)
    for wrong in ("9776", ":9776", "host:", "host:x", "host:70000"):
        with pytest.raises(ConfigurationError, match="HOST:PORT"):
            parse_listen(wrong)
        with pytest.raises(ConfigurationError, match="HOST:PORT"):
            NodeSettings("az1", "http://127.0.0.1:1", Path("/tmp"), "token", http_listen=wrong).check()
