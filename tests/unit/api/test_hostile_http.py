"""What no client should send, over bare sockets to a real server: a documented answer each, and the server lives."""

from __future__ import annotations

import asyncio
import logging
import tracemalloc
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import httpx
import pytest
import pytest_asyncio

from tests.support.controller import GROUPS, PAIRS, login_body, make_settings, serve, until
from tests.support.raw_http import Answer, request, send
from twinsite.api.errors import FAULT_KEYS
from twinsite.api.server import ControllerServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024 * 1024
PATIENCE_SECONDS = 0.3
MEMORY_BYTES_MAX = 32 * MIB
"""How much eight of the largest bodies may take, in sender and receiver together; one alone would, as lists."""


@dataclass
class Server:
    """A running server and a login in it."""

    process: ControllerServer
    port: int
    token: str
    project_id: str

    @property
    def volumes(self) -> str:
        """Return the path of the volumes."""
        return f"/v2/{self.project_id}/volumes"

    async def send(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request with the token, unless `headers` have another one."""
        return await send(self.port, request(method, path, {"X-Auth-Token": self.token, **(headers or {})}, body))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """Run a server that has little patience."""
    patience = {"head_seconds_max": PATIENCE_SECONDS, "body_seconds_max": PATIENCE_SECONDS}
    settings = make_settings(tmp_path_factory.mktemp("data"), **patience)
    async with serve(settings) as (process, url), httpx.AsyncClient(base_url=url) as http:
        password = (settings.secrets_dir / "admin-password").read_text().strip()
        answer = await http.post("/identity/v3/auth/tokens", json=login_body(password))
        project_id = answer.json()["token"]["project"]["id"]
        yield Server(process, process.bound_port(), answer.headers["X-Subject-Token"], project_id)


def check(answer: Answer, status: int, code: str, part: str) -> None:
    """Hold an error answer to the one shape, and to a code and words."""
    assert answer.status == status, answer
    name, content = answer.fault()
    assert name == FAULT_KEYS[status]
    assert content["code"] == status
    assert content["message"].startswith(f"{code}: ")
    assert part in content["message"]
    assert answer.headers["x-twinsite-error-code"] == code
    assert answer.headers["x-openstack-request-id"].startswith("req-")
    assert answer.headers["content-type"].startswith("application/json")


PATHS = [
    ("{volumes}/%2e%2e", 404, "EVS.5404", "'..'"),
    ("{volumes}/%2e%2e/%2e%2e/healthz", 404, "EVS.5404", "no resource"),
    ("{volumes}/../../../healthz", 404, "EVS.5404", "no resource"),
    ("{volumes}/a%2Fb", 400, "EVS.5400", "%2F"),
    ("{volumes}/a%2fmetadata", 400, "EVS.5400", "%2F"),
    ("{volumes}/a%00b", 400, "EVS.5400", "NUL"),
    ("{volumes}/a%0d%0aX-Evil:%20yes", 404, "EVS.5404", "volume"),
    ("{volumes}?name=%00", 400, "EVS.5400", "NUL"),
    ("{volumes};x=1", 404, "EVS.5404", "no resource"),
    ("{volumes}/%ff%fe", 404, "EVS.5404", "volume"),
    ("{volumes}/%ed%a0%80", 404, "EVS.5404", "volume"),
    ("/{volumes}", 404, "EVS.5404", "no resource"),
    ("/v2//volumes", 404, "EVS.5404", "no resource"),
    ("http://example.org/v2", 404, "EVS.5404", "no resource"),
    ("http://[/v2", 404, "EVS.5404", "no resource"),
    ("/v2/{pid}x/volumes", 400, "Common.0018", "scoped"),
    ("/v2/%20/volumes", 400, "Common.0018", "scoped"),
    ("/v4/{pid}/volumes", 404, "EVS.5404", "no resource"),
    ("{volumes}/" + "x" * 30_000, 404, "EVS.5404", "volume"),
]


@pytest.mark.parametrize("row", PATHS, ids=[row[0][:40] for row in PATHS])
async def test_paths_are_taken_literally(server: Server, row: tuple[str, int, str, str]) -> None:
    path, status, code, part = row
    path = path.replace("{volumes}", server.volumes).replace("{pid}", server.project_id)
    check(await server.send("GET", path), status, code, part)


@pytest.mark.parametrize(
    "query",
    [
        "a=b&" * 8000,
        "limit=1&" * 8000,
        "name=%ff%ed%a0%80",
        "name=%0d%0aX-Evil:%20yes",
        "&&&=&=;;",
        "metadata={'a\"b':'c'}",
    ],
)
async def test_odd_queries_are_harmless(server: Server, query: str) -> None:
    assert (await server.send("GET", f"{server.volumes}?{query}")).status == 200


async def test_no_pair_has_a_thousand_volumes(server: Server) -> None:
    path = f"/v2/{server.project_id}{PAIRS}?volume_ids={','.join(map(str, range(5000)))}"
    check(await server.send("GET", path), 400, "EVS.5400", "one or two")


@pytest.mark.parametrize("host", ["[", "a b", "evil/path", "x:99999999", "<script>", "ü", "a@b"])
async def test_a_host_that_is_none_makes_no_links(server: Server, host: str) -> None:
    check(await server.send("GET", "/", headers={"Host": host}), 400, "EVS.5400", "Host")


@pytest.mark.parametrize("host", ["twinsite.test", "10.0.0.1:8776", "[::1]:8776", "under_score"])
async def test_a_good_host_is_that_of_the_links(server: Server, host: str) -> None:
    assert f"http://{host}/v3/".encode() in (await server.send("GET", "/", headers={"Host": host})).body


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"\r\n" * 1000,
    ],
    ids=lambda data: repr(data[:24]),
)
async def test_what_is_no_http_is_told_so(server: Server, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL):
        answer = await send(server.port, data)
    if answer.status != 0:
        assert answer.status in (400, 405, 501, 408)
        check(answer, answer.status, answer.headers["x-twinsite-error-code"], "")


async def test_a_thousand_headers_are_read(server: Server) -> None:
    assert (
        await server.send("GET", server.volumes, headers={f"X-Header-{n}": "value" for n in range(1000)})
    ).status == 200


async def test_a_head_that_never_ends_is_cut_off(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL):
        answer = await send(server.port, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-Header: value\r\n" * 100_000)
    check(answer, 400, "EVS.5400", "64 KiB")


LONG_TOKEN = "a" * 60_000


@pytest.mark.parametrize("token", ["", "x", "ü", "..", "' OR 1=1 --", LONG_TOKEN, "gAAAAABmforgedforgedforged=="])
@pytest.mark.parametrize("path", ["/volumes", PAIRS, GROUPS, "/limits"])
async def test_forged_tokens(server: Server, token: str, path: str) -> None:
    answer = await server.send("GET", f"/v2/{server.project_id}{path}", headers={"X-Auth-Token": token})
    check(answer, 401, "Common.0013", "Log in")


BODIES: list[tuple[bytes, dict[str, str], int, str, str]] = [
    (b'\xef\xbb\xbf{"volume": {"size": 1}}', {}, 400, "EVS.5400", "BOM"),
    ('{"volume": {"size": 1}}'.encode("utf-16"), {}, 400, "EVS.5400", "UTF-8"),
    ('{"volume": {"size": 1}}'.encode("utf-16-le"), {}, 400, "EVS.5400", "JSON"),
    ('{"volume": {"size": 1}}'.encode("utf-32"), {}, 400, "EVS.5400", "UTF-8"),
    ('{"volume": {"size": 1, "name": "ü"}}'.encode("latin-1"), {}, 400, "EVS.5400", "UTF-8"),
    (b'{"volume": {"size": 1, "name": "\xed\xa0\x80"}}', {}, 400, "EVS.5400", "UTF-8"),
    (b'{"volume": {"size": 1, "name": "\\udc00\\ud800"}}', {}, 400, "EVS.5400", "surrogate"),
    (b'{"volume": {"size": 1, "size": 2}}', {}, 400, "EVS.5400", "'size' twice"),
    (b'{"volume": {"size": 1}, "volume": {"size": 1}}', {}, 400, "EVS.5400", "'volume' twice"),
    (b'{"volume": {"size": 1e999}}', {}, 400, "EVS.5400", "too large"),
    (b'{"volume": {"size": 1, "x": NaN}}', {}, 400, "EVS.5400", "NaN"),
    (b'{"volume": {"size": 1, "x": -Infinity}}', {}, 400, "EVS.5400", "Infinity"),
    (b'{"volume": {"size": ' + b"9" * 100_000 + b"}}", {}, 400, "EVS.5400", "digits"),
    (b'{"a":' * 100_000, {}, 400, "EVS.5400", "values"),
    (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, {}, 400, "EVS.5400", ""),
    (b"[" + b"[]," * 300_000 + b"[]]", {}, 400, "EVS.5400", "values"),
    (b"{" + b",".join(b'"%d":0' % n for n in range(60_000)) + b"}", {}, 400, "EVS.5400", "values"),
    (b'{"volume": {"size": 1}}', {"Content-Type": "text/xml"}, 415, "EVS.5415", "text/xml"),
    (b"{}", {"Content-Type": "application/json; charset=utf-16"}, 415, "EVS.5415", "utf-16"),
    (b"{}", {"Content-Type": "application/json; charset=latin-1"}, 415, "EVS.5415", "latin-1"),
    (b"{}", {"Content-Type": ""}, 415, "EVS.5415", "content type"),
    (b"\x1f\x8b\x08\0", {"Content-Encoding": "gzip"}, 415, "EVS.5415", "gzip"),
    (b"x" * (10 * MIB), {}, 413, "EVS.5413", "1048576"),
    (b"", {"Expect": "100-continue"}, 400, "EVS.5400", "empty"),
    (b"{}", {"Accept": "text/xml"}, 406, "EVS.5406", "text/xml"),
    (b"{}", {"Accept": "application/json;q=0, */*"}, 406, "EVS.5406", "application/json"),
    (b"{}", {"Accept": ";;,,"}, 406, "EVS.5406", "Accept"),
]


@pytest.mark.parametrize("row", BODIES, ids=[f"{number}-{row[4]}" for number, row in enumerate(BODIES)])
async def test_hostile_bodies(server: Server, row: tuple[bytes, dict[str, str], int, str, str]) -> None:
    body, headers, status, code, part = row
    check(await server.send("POST", server.volumes, body, headers), status, code, part)
    assert (await server.send("GET", server.volumes)).body == b'{"volumes":[]}'


@pytest.mark.parametrize("accept", ["*/*", "application/*", "text/html, application/json;q=0.1", "a/b, */*;q=x", ""])
async def test_whoever_takes_json_gets_it(server: Server, accept: str) -> None:
    assert (await server.send("GET", server.volumes, headers={"Accept": accept})).status == 200


async def test_the_body_that_a_call_does_not_read_is_thrown_away(server: Server) -> None:
    assert (await server.send("GET", server.volumes, b"x" * 100_000)).status == 200


async def send_slowly(writer: asyncio.StreamWriter, piece: bytes) -> None:
    """Send a little now and then, for ever."""
    while True:
        await asyncio.sleep(PATIENCE_SECONDS / 10)
        writer.write(piece)
        await writer.drain()


async def answer_to_trickle(server: Server, first: bytes, piece: bytes) -> bytes:
    """Send slowly for ever; return all that comes back until the server has closed the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(first)
    sending = asyncio.create_task(send_slowly(writer, piece))
    try:
        return await asyncio.wait_for(read_all(reader), 20)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the other side ends, politely or not."""
    received = b""
    try:
        while chunk := await reader.read(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


async def test_a_slow_head_is_a_408(server: Server) -> None:
    answer = await answer_to_trickle(server, b"GET / HTTP/1.1\r\nHost: x\r\n", b"X-Slow: 1\r\n")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"requestTimeout" in answer
    assert b"EVS.5408" in answer


async def test_a_slow_body_is_a_408_and_ends_the_connection(server: Server) -> None:
    first = request("POST", server.volumes, {"X-Auth-Token": server.token}, b'{"volume"', length=10_000)
    answer = await answer_to_trickle(server, first, b" ")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"EVS.5408" in answer
    assert b"connection: close" in answer.lower()


async def test_a_strangers_slow_body_is_not_waited_for(server: Server) -> None:
    first = request("POST", server.volumes, {"X-Auth-Token": "x"}, b"{", length=10_000)
    assert (await answer_to_trickle(server, first, b" ")).startswith(b"HTTP/1.1 401 ")


async def test_whoever_goes_on_after_the_answer_is_let_go(server: Server) -> None:
    chunked = {"X-Auth-Token": server.token, "Transfer-Encoding": "chunked"}
    head = "".join(f"{name}: {value}\r\n" for name, value in chunked.items())
    first = f"DELETE {server.volumes}/x HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode()
    assert (await answer_to_trickle(server, first, b"1\r\nx\r\n")).startswith(b"HTTP/1.1 404 ")


async def test_whoever_says_nothing_is_let_go(server: Server) -> None:
    connections = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(50)]
    for reader, writer in connections:
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
    await until(lambda: not server.process.server_state.connections)


async def test_many_large_bodies_at_once_take_bounded_memory(server: Server) -> None:
    wide = b"[" + b"[]," * 349_000 + b"[]]"
    deep = b"[" * (MIB - 1)
    tracemalloc.start()
    try:
        answers = await asyncio.gather(*(server.send("POST", server.volumes, body) for body in [wide, deep] * 4))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert {answer.status for answer in answers} <= {400, 408}
    assert peak_bytes < MEMORY_BYTES_MAX


async def test_after_all_that_the_server_lives(server: Server) -> None:
    assert (await server.send("GET", "/healthz")).status == 200
