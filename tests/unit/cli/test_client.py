"""The API client: paging, expired tokens, and answers that are not the API's."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.cli.conftest import Api
from twinsite.cli.client import ApiClient
from twinsite.cli.cloud import Cloud, find_cloud
from twinsite.cli.errors import ApiRefused, ApiUnreachable, NotFound, WaitFailed, exit_status
from twinsite.errors import ConfigurationError, PeerViolation, TwinsiteError

Answer = tuple[int, dict[str, str], bytes]
PROJECT = "0123456789abcdef0123456789abcdef"


def json_answer(body: object, status: int = 200, **headers: str) -> Answer:
    return status, headers, json.dumps(body).encode()


class Script(http.server.ThreadingHTTPServer):
    """A server that logs anybody in and then gives its answers one after the other."""

    def __init__(self, answers: list[Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Scripted)
        self.answers = answers
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.endpoint_type = "volumev2"

    def log_in(self) -> Answer:
        endpoints = [
            {"interface": "admin", "region_id": "east", "url": "http://127.0.0.1:1/admin"},
            {"interface": "public", "region_id": "west", "url": "http://127.0.0.1:1/west"},
            {"interface": "public", "region_id": "east", "url": f"{self.url}/v2/{PROJECT}"},
        ]
        catalog = [{"type": "identity", "endpoints": []}, {"type": self.endpoint_type, "endpoints": endpoints}]
        return 201, {"X-Subject-Token": "token"}, json.dumps({"token": {"catalog": catalog}}).encode()


class Scripted(http.server.BaseHTTPRequestHandler):
    """Answers as the script says."""

    server: Script

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append(f"{self.command} {self.path}")
        is_login = self.path.endswith("/auth/tokens")
        status, headers, body = self.server.log_in() if is_login else self.server.answers.pop(0)
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 (the base class looks for these)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class names it)
        """Stay silent."""


@contextlib.contextmanager
def scripted(*answers: Answer) -> Iterator[tuple[Script, ApiClient]]:
    server = Script(list(answers))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    cloud = Cloud(f"{server.url}/identity/v3", "admin", "secret", "admin", "a test", region="east")
    try:
        with ApiClient(cloud) as client:
            yield server, client
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_logs_in_once_and_uses_the_public_endpoint_of_its_region() -> None:
    with scripted(json_answer({"volumes": []}), json_answer({"volumes": []})) as (server, client):
        assert client.volumes() == []
        assert client.volumes() == []
        path = f"GET /v2/{PROJECT}/volumes/detail?limit=1000"
        assert server.requests == ["POST /identity/v3/auth/tokens", path, path]


def test_a_list_is_read_to_its_last_page() -> None:
    first = [{"id": str(number)} for number in range(1000)]
    with scripted(json_answer({"volumes": first}), json_answer({"volumes": [{"id": "last"}]})) as (server, client):
        assert [volume["id"] for volume in client.volumes()] == [*(item["id"] for item in first), "last"]
        assert server.requests[-1].endswith("?limit=1000&marker=999")


def test_an_expired_token_is_replaced(api: Api) -> None:
    with ApiClient(find_cloud(api.data_dir, None, {}, api.data_dir)) as client:
        client.volumes()
        client._http.headers["X-Auth-Token"] = "expired"
        client.volumes()


def test_a_token_that_is_refused_again_is_an_error() -> None:
    refusal = json_answer({"unauthorized": {"code": 401, "message": "no"}}, 401)
    with scripted(refusal, refusal) as (server, client):
        with pytest.raises(ApiRefused, match=r"^no \(HTTP 401\)$"):
            client.volumes()
        assert len(server.requests) == 4


def test_a_refusal_carries_message_code_and_request_id() -> None:
    body = {"badRequest": {"code": 400, "message": "volume a is paired"}}
    headers = {"X_Twinsite_Error_Code": "EVS.1046", "x_openstack_request_id": "req-1"}
    with scripted(json_answer(body, 400, **headers)) as (_, client):
        with pytest.raises(ApiRefused) as refusal:
            client.delete_volume("a")
        assert str(refusal.value) == "volume a is paired (HTTP 400, EVS.1046, req-1)"
        assert (refusal.value.status, refusal.value.code, refusal.value.request_id) == (400, "EVS.1046", "req-1")


@pytest.mark.parametrize("body", [b"", b"<html>Bad Gateway</html>", b"[]", b'{"a": {"message": 3}}', b'"x"'])
def test_an_error_that_is_not_the_apis_still_makes_a_sentence(body: bytes) -> None:
    with scripted((502, {}, body)) as (_, client), pytest.raises(ApiRefused, match=r"^GET http.* failed: Bad Gateway"):
        client.volumes()


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b"", b"[]", b'{"volumes": 3}', b"{}"])
def test_an_answer_that_is_not_the_apis_is_a_violation(body: bytes) -> None:
    with scripted((200, {}, body)) as (_, client), pytest.raises(PeerViolation, match="did not answer"):
        client.volumes()


def test_an_object_that_is_missing_in_the_answer_is_a_violation() -> None:
    with scripted(json_answer({"volume": []})) as (_, client), pytest.raises(PeerViolation, match="'volume'"):
        client.volume("a")


def test_a_catalogue_without_the_endpoint_is_a_violation() -> None:
    with scripted() as (server, client):
        server.endpoint_type = "compute"
        with pytest.raises(PeerViolation, match="no public endpoint 'volumev2' in region east"):
            client.volumes()


def test_what_cannot_be_reached_is_told_apart() -> None:
    cloud = Cloud("http://127.0.0.1:1/identity/v3", "admin", "secret", "admin", "a test")
    with ApiClient(cloud) as client, pytest.raises(ApiUnreachable, match="a test"):
        client.volumes()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ApiRefused(400, "no"), 1),
        (NotFound("none"), 1),
        (WaitFailed("late"), 1),
        (PeerViolation("odd"), 1),
        (ConfigurationError("bad"), 2),
        (ApiUnreachable("gone"), 3),
    ],
)
def test_exit_statuses(error: TwinsiteError, status: int) -> None:
    assert exit_status(error) == status
