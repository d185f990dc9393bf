"""The arbiter's client against the real endpoint, and against servers that answer nonsense or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.controller import GROUPS, Site, make_settings, serve
from twinsite.control.arbiter_store import worker_token
from twinsite.core.arbiter import Reason, Refusal, Row, Secondary
from twinsite.errors import RetryableError
from twinsite.worker.arbiter_client import ANSWER_BYTES_MAX, ArbiterClient

SHORT_SECONDS = 0.05
PATH = "/internal/v1/groups/g/arbiter"
STALE_ROW = {"term": 3, "primary_site": "az1", "secondary": "stale", "stale_since": 1.5, "version": 8}


@dataclass(frozen=True)
class Real:
    """A running controller with one group."""

    url: str
    token: str
    group_id: str
    http: httpx.AsyncClient
    project_id: str

    def client(self, **values: Any) -> ArbiterClient:
        """Return a client of the group's first primary."""
        made = {"url": self.url, "token": self.token, "site": "az1", "term": 1, **values}
        return ArbiterClient(**made)

    async def post(self, body: object, token: str | None = None) -> httpx.Response:
        """Ask by hand."""
        headers = {"X-Twinsite-Worker-Token": self.token if token is None else token}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.http.post(self.url, content=content, headers=headers)


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[Real]:
    """A controller behind a real socket."""
    settings = make_settings(tmp_path)
    async with serve(settings) as (server, url), httpx.AsyncClient(base_url=url, trust_env=False) as http:
        site = Site(server.config.loaded_app, http, settings)
        await site.log_in()
        await site.settle()
        group = await site.make_group()
        node_token = (settings.secrets_dir / "node-token").read_text().strip()
        address = f"{url}/internal/v1/groups/{group['id']}/arbiter"
        yield Real(address, worker_token(node_token, group["id"]), group["id"], http, site.project_id)


async def test_a_primary_and_its_arbiter(real: Real) -> None:
    client = real.client()
    row = await asyncio.to_thread(client.read)
    assert (row.term, row.primary_site, row.secondary, row.version) == (1, "az1", Secondary.STALE, 1)
    assert row.stale_since is not None
    granted = await asyncio.to_thread(client.secondary_in_sync, 1)
    assert granted == Row(1, "az1", Secondary.IN_SYNC, None, 2)
    refused = await asyncio.to_thread(client.secondary_in_sync, 1)
    assert refused == Refusal(Reason.OTHER_VERSION, granted)
    suspended = await asyncio.to_thread(client.suspend_secondary, 2)
    assert isinstance(suspended, Row)
    assert (suspended.secondary, suspended.version) == (Secondary.STALE, 3)
    assert await asyncio.to_thread(client.read) == suspended


@pytest.mark.parametrize(
    ("cause", "recorded"),
    [
        ("req-0f9f4c1e-6b0d-4f0e-9a55-6ac8a9f6d5f1", "req-0f9f4c1e-6b0d-4f0e-9a55-6ac8a9f6d5f1"),
        ("", None),
        ("req-" + "0" * 100, None),
        ("<b>", None),
    ],
)
async def test_an_event_names_the_request_that_the_call_follows_from(
    real: Real, cause: str, recorded: str | None
) -> None:
    await asyncio.to_thread(real.client(cause=lambda: cause).secondary_in_sync, 1)
    events = await real.http.get(f"/v2/{real.project_id}{GROUPS}/{real.group_id}/events?limit=1")
    (event,) = events.json()["events"]
    assert (event["actor"], event["after"]["secondary"]) == ("worker in az1", "in_sync")
    assert event["request_id"] == recorded


async def test_who_was_replaced_is_told_so(real: Real) -> None:
    row = await asyncio.to_thread(real.client().read)
    other_term = await asyncio.to_thread(real.client(term=2).suspend_secondary, 1)
    assert other_term == Refusal(Reason.OTHER_TERM, row)
    other_site = await asyncio.to_thread(real.client(site="az2").suspend_secondary, 1)
    assert other_site == Refusal(Reason.NOT_PRIMARY, row)


async def test_each_group_has_a_token_of_its_own(real: Real) -> None:
    for token in ("", "0" * 64, worker_token("another", real.group_id)):
        with pytest.raises(RetryableError, match="answers 401"):
            await asyncio.to_thread(real.client(token=token).read)
    # A stranger cannot tell by the answer whether there is such a group.
    with pytest.raises(RetryableError, match="answers 401"):
        await asyncio.to_thread(real.client(url=real.url.replace(real.group_id, "nobody")).read)


async def test_a_group_that_is_gone(real: Real, tmp_path: Path) -> None:
    node_token = (tmp_path / "secrets" / "node-token").read_text().strip()
    gone = real.client(url=real.url.replace(real.group_id, "gone"), token=worker_token(node_token, "gone"))
    with pytest.raises(RetryableError, match="answers 404"):
        await asyncio.to_thread(gone.read)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        [],
        {},
        {"call": "promote"},
        {"call": "suspend_secondary", "site": "az1", "term": "1", "version": 1},
        {"call": "suspend_secondary", "site": "az1", "term": True, "version": 1},
        {"call": "suspend_secondary", "site": None, "term": 1, "version": 1},
        {"call": "suspend_secondary", "site": "\x00", "term": 1, "version": 1},
    ],
)
async def test_the_endpoint_refuses_what_is_no_question(real: Real, body: object) -> None:
    before = (await real.post({"call": "read"})).json()
    assert (await real.post(body)).status_code == 400
    assert (await real.post({"call": "read"})).json() == before


async def test_the_endpoint_bounds_what_it_reads_and_asks_for_the_token_first(real: Real) -> None:
    assert (await real.post(b" " * (1024 * 1024 + 1))).status_code == 413
    assert (await real.post(b"{", token="wrong")).status_code == 401


async def test_huge_numbers_are_only_other_numbers(real: Real) -> None:
    body = {"call": "suspend_secondary", "site": "az1", "term": 1, "version": 10**30}
    answer = await real.post(body)
    assert (answer.status_code, answer.json()["reason"]) == (200, "other_version")


@contextlib.contextmanager
def answering(*answers: bytes | None) -> Iterator[str]:
    """Answer one connection after the other with these bytes; None holds one open and says nothing. Gives the URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def serve_all() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                if answer is None:
                    done.wait(20)
                else:
                    connection.sendall(answer)

    thread = threading.Thread(target=serve_all)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}{PATH}"
    finally:
        done.set()
        thread.join(20)
        listener.close()
        assert not thread.is_alive()


def http_answer(body: object, status: str = "200 OK", *, headers: str = "") -> bytes:
    """Return a whole answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n{headers}\r\n".encode() + content


def grant(**row: object) -> bytes:
    """Return an answer that grants, with changes of the row that would be right."""
    return http_answer({"granted": True, "reason": None, "row": {**STALE_ROW, **row}})


NONSENSE = [
    b"",
    b"garbage\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
    http_answer(b"not json"),
    http_answer(b"\xff\xfe"),
    http_answer([]),
    http_answer({}),
    http_answer({"granted": 1, "reason": None, "row": STALE_ROW}),
    http_answer({"granted": True, "reason": None, "row": None}),
    http_answer({"granted": False, "reason": None, "row": STALE_ROW}),
    http_answer({"granted": False, "reason": "no reason", "row": STALE_ROW}),
    http_answer(b" " * (ANSWER_BYTES_MAX + 1) + b"{}"),
    http_answer(b"", "307 Temporary Redirect", headers="Location: http://127.0.0.1:1/\r\n"),
    http_answer({"granted": True, "reason": None, "row": STALE_ROW}, "500 Internal Server Error"),
    grant(secondary="fresh"),
    grant(term="3"),
]
WRONG_GRANTS = [
    grant(secondary="in_sync"),
    grant(term=4),
    grant(primary_site="az2"),
    grant(version=7),
    grant(version=9),
]


@pytest.mark.parametrize("answer", NONSENSE + WRONG_GRANTS)
def test_nonsense_is_no_grant(answer: bytes) -> None:
    with answering(answer) as url, pytest.raises(RetryableError, match="the arbiter at"):
        ArbiterClient(url, "t", "az1", 3).suspend_secondary(7)


@pytest.mark.parametrize("answer", NONSENSE)
def test_nonsense_is_no_row(answer: bytes) -> None:
    with answering(answer) as url, pytest.raises(RetryableError, match="the arbiter at"):
        ArbiterClient(url, "t", "az1", 3).read()


def test_the_right_answer_of_the_same_server_is_believed() -> None:
    row = Row(3, "az1", Secondary.STALE, 1.5, 8)
    refusal = http_answer({"granted": False, "reason": "other_term", "row": STALE_ROW})
    in_sync = grant(secondary="in_sync", stale_since=None, later_field=1)
    with answering(grant(), refusal, in_sync, refusal) as url:
        client = ArbiterClient(url, "t", "az1", 3)
        assert client.suspend_secondary(7) == row
        assert client.suspend_secondary(7) == Refusal(Reason.OTHER_TERM, row)
        assert client.secondary_in_sync(7) == replace(row, secondary=Secondary.IN_SYNC, stale_since=None)
        with pytest.raises(RetryableError, match="refuses to be read"):
            client.read()


def test_an_arbiter_that_says_nothing() -> None:
    with answering(None) as url, pytest.raises(RetryableError, match="did not answer in time"):
        ArbiterClient(url, "t", "az1", 3, timeout_seconds=SHORT_SECONDS).read()


def test_an_arbiter_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(RetryableError, match="cannot be reached"):
        ArbiterClient(f"http://127.0.0.1:{port}{PATH}", "t", "az1", 3).read()


@pytest.mark.parametrize("url", ["", "ftp://h/", "http://", "http://h:port/", "http://[::1/", "/path", "http://a b/"])
def test_an_address_that_cannot_be_one(url: str) -> None:
    with pytest.raises(RetryableError, match="cannot be reached"):
        ArbiterClient(url, "t", "az1", 3, timeout_seconds=SHORT_SECONDS).read()


def test_https_checks_who_answers(tmp_path: Path) -> None:
    """A certificate that nobody vouches for is as good as no answer, and the token is not shown to its holder."""
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    shown: list[bytes] = []
    listener = socket.create_server(("localhost", 0))

    def serve_once() -> None:
        connection, _ = listener.accept()
        with contextlib.suppress(OSError), tls.wrap_socket(connection, server_side=True) as secure:
            shown.append(secure.recv(65536))

    thread = threading.Thread(target=serve_once)
    thread.start()
    try:
        with pytest.raises(RetryableError, match="certificate"):
            ArbiterClient(f"https://localhost:{listener.getsockname()[1]}{PATH}", "secret", "az1", 3).read()
    finally:
        thread.join(20)
        listener.close()
    assert b"secret" not in b"".join(shown)


def test_a_worker_that_asks_nothing_loads_no_http() -> None:
    code = "import sys, twinsite.worker.arbiter_client as m; print('http.client' in sys.modules, 'ssl' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]
