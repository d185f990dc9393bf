"""The two clients over real sockets: log-in, paging, refusals, and answers that are not the API's."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.running_api import Api
from twinsite.cli.errors import exit_status
from twinsite.client import (
    ApiRefused,
    ApiUnreachable,
    AsyncClient,
    BadRequest,
    Client,
    Cloud,
    NotFound,
    Unauthorized,
    WaitFailed,
    find_cloud,
)
from twinsite.client.models import Group
from twinsite.client.session import exchange
from twinsite.client.steps import Access
from twinsite.errors import ConfigurationError, PeerViolation, TwinsiteError

Answer = tuple[int, dict[str, str], bytes]
PROJECT = "0123456789abcdef0123456789abcdef"


def json_answer(body: object, status: int = 200, **headers: str) -> Answer:
    return status, headers, json.dumps(body).encode()


def volume(volume_id: str) -> dict[str, Any]:
    return {
        "id": volume_id,
        "name": None,
        "status": "available",
        "size": 1,
        "availability_zone": "az1",
        "volume_type": "SSD",
    }


class Script(http.server.ThreadingHTTPServer):
    """A server that logs anybody in and then gives its answers one after the other."""

    def __init__(self, answers: list[Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Scripted)
        self.answers = answers
        self.requests: list[str] = []
        self.bodies: list[Any] = []
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
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append(f"{self.command} {self.path}")
        self.server.bodies.append(json.loads(body) if body else None)
        is_login = self.path.endswith("/auth/tokens")
        status, headers, content = self.server.log_in() if is_login else self.server.answers.pop(0)
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 (the base class looks for these)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class names it)
        """Stay silent."""


@contextlib.contextmanager
def scripted(*answers: Answer) -> Iterator[Script]:
    server = Script(list(answers))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def cloud_of(server: Script, **fields: Any) -> Cloud:
    credentials = {"username": "admin", "password": "secret", "project_name": "admin", **fields}
    return Cloud(f"{server.url}/identity/v3", source="a test", region="east", **credentials)


Ask = Callable[..., Any]


@pytest.fixture(params=["blocking", "asynchronous"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """A function that does some work with a client of either kind: `ask(cloud, "volumes", "volume", …)`.

    Each further argument names a method without arguments, or is a tuple of one and its arguments. Returns the last
    result.
    """

    def parts(call: Any) -> tuple[str, tuple[Any, ...]]:
        return (call, ()) if isinstance(call, str) else (call[0], call[1:])

    def blocking(cloud: Cloud, *calls: Any) -> Any:
        with Client(cloud) as client:
            return [getattr(client, name)(*arguments) for name, arguments in map(parts, calls)][-1]

    async def asynchronous(cloud: Cloud, *calls: Any) -> Any:
        async with AsyncClient(cloud) as client:
            return [await getattr(client, name)(*arguments) for name, arguments in map(parts, calls)][-1]

    if request.param == "blocking":
        return blocking
    return lambda cloud, *calls: asyncio.run(asynchronous(cloud, *calls))


def test_logs_in_once_and_uses_the_public_endpoint_of_its_region(ask: Ask) -> None:
    with scripted(json_answer({"volumes": []}), json_answer({"volumes": []})) as server:
        assert ask(cloud_of(server), "volumes", "volumes") == []
        path = f"GET /v2/{PROJECT}/volumes/detail?limit=1000"
        assert server.requests == ["POST /identity/v3/auth/tokens", path, path]


def test_logs_in_with_a_token_into_a_project_by_id(ask: Ask) -> None:
    with scripted() as server:
        access = ask(cloud_of(server, token="given", password="", project_name=None, project_id="p"), "access")
        assert access == Access(f"{server.url}/v2/{PROJECT}", "token")
        identity = {"methods": ["token"], "token": {"id": "given"}}
        assert server.bodies == [{"auth": {"identity": identity, "scope": {"project": {"id": "p"}}}}]


def test_a_list_is_read_to_its_last_page(ask: Ask) -> None:
    first = [volume(str(number)) for number in range(1000)]
    with scripted(json_answer({"volumes": first}), json_answer({"volumes": [volume("last")]})) as server:
        listed = [item.id for item in ask(cloud_of(server), "volumes")]
        assert listed == [*(item["id"] for item in first), "last"]
        assert server.requests[-1].endswith("?limit=1000&marker=999")


def test_a_refusal_carries_message_code_and_request_id(ask: Ask) -> None:
    body = {"badRequest": {"code": 400, "message": "volume a is paired"}}
    headers = {"X_Twinsite_Error_Code": "EVS.1046", "x_openstack_request_id": "req-1"}
    with scripted(json_answer(body, 400, **headers)) as server:
        with pytest.raises(BadRequest) as refusal:
            ask(cloud_of(server), ("delete_volume", "a"))
        assert str(refusal.value) == "volume a is paired (HTTP 400, EVS.1046, req-1)"
        assert (refusal.value.status, refusal.value.code, refusal.value.request_id) == (400, "EVS.1046", "req-1")
        assert refusal.value.message == "volume a is paired"


@pytest.mark.parametrize("body", [b"", b"<html>Gone</html>", b"[]", b'{"a": {"message": 3}}', b'"x"'])
def test_an_error_that_is_not_the_apis_still_makes_a_sentence(ask: Ask, body: bytes) -> None:
    with scripted((410, {}, body)) as server, pytest.raises(ApiRefused, match=r"^GET http.* failed: Gone"):
        ask(cloud_of(server), "volumes")


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b"", b"[]", b'{"volumes": 3}', b"{}", b'{"volumes": [{}]}'])
def test_an_answer_that_is_not_the_apis_is_a_violation(ask: Ask, body: bytes) -> None:
    with scripted((200, {}, body)) as server, pytest.raises(PeerViolation, match=r"did not answer|cannot be read"):
        ask(cloud_of(server), "volumes")


def test_an_object_that_is_missing_in_the_answer_is_a_violation(ask: Ask) -> None:
    with scripted(json_answer({"volume": []})) as server, pytest.raises(PeerViolation, match="'volume'"):
        ask(cloud_of(server), ("volume", "a"))


def test_a_catalogue_without_the_endpoint_is_a_violation(ask: Ask) -> None:
    with scripted() as server:
        server.endpoint_type = "compute"
        with pytest.raises(PeerViolation, match="no public endpoint 'volumev2' in region east"):
            ask(cloud_of(server), "volumes")


def test_what_cannot_be_reached_is_told_apart(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinsite.client.session.RETRY_SECONDS", ())
    cloud = Cloud("http://127.0.0.1:1/identity/v3", "admin", "secret", "admin", "a test")
    with pytest.raises(ApiUnreachable, match="a test") as error:
        ask(cloud, "volumes")
    assert not error.value.was_sent


def test_a_wrong_password_is_a_refusal_that_does_not_show_it(ask: Ask, api: Api) -> None:
    cloud = Cloud(f"{api.url}/identity/v3", "admin", "wrong-secret", "admin", "a test")
    with pytest.raises(Unauthorized, match="login of user 'admin' was refused") as refusal:
        ask(cloud, "volumes")
    assert "wrong-secret" not in f"{refusal.value}{cloud!r}"


def test_a_token_of_the_real_api_is_good_for_a_log_in(ask: Ask, api: Api) -> None:
    access = api.client.access()
    cloud = find_cloud(api.data_dir, None, {}, api.data_dir)
    by_token = Cloud(cloud.auth_url, project_name="admin", token=access.token)
    assert ask(by_token, "zones")[0].name == "az1"


def test_an_expired_token_is_replaced_once_for_all_that_found_it_expired(api: Api) -> None:
    async def work() -> None:
        async with AsyncClient(find_cloud(api.data_dir, None, {}, api.data_dir)) as client:
            first = await client.access()
            client.session.access = expired = Access(first.endpoint, "expired")
            await asyncio.gather(*(client.zones() for _ in range(5)))
            assert client.session.access is not expired
            renewed = client.session.access
            await client.zones()
            assert client.session.access is renewed

    asyncio.run(work())
    with Client(find_cloud(api.data_dir, None, {}, api.data_dir)) as client:
        client.session.access = Access(client.access().endpoint, "expired")
        assert client.volume_types()


def test_what_the_real_api_answers_comes_back_as_it_was(api: Api) -> None:
    """Nothing is lost or changed on the way through the models."""
    client, raw = api.client, Raw(api)
    volumes = [client.create_volume(size_gib=1, zone=zone, name="raw", metadata={"a": "b"}) for zone in ("az1", "az2")]
    for item in volumes:
        client.wait_for_volume(item.id, 20)
    pair = client.create_pair(volume_ids=[item.id for item in volumes], priority_station="az1", description="ü")
    group = client.create_group(pair_ids=[pair.id], priority_station="az1", name="raw")
    client.wait_for_group(group.id, 20)
    client.sync_group(group.id)
    active = client.wait_for_sync(group.id, 20)
    assert active.twinsite is not None
    assert active.twinsite.secondary == "in_sync"
    assert client.pair(pair.id).volume_ids == [item.id for item in volumes]
    assert client.pair(pair.id).progress == 100
    groups = "os-vendor-replication-consistency-groups"
    assert client.volume(volumes[0].id).as_json() == raw.get(f"volumes/{volumes[0].id}", "volume")
    assert client.pair(pair.id).as_json() == raw.get(f"os-vendor-replications/{pair.id}", "replication")
    assert client.group(group.id).as_json() == raw.get(f"{groups}/{group.id}", "replication_consistency_group")
    events = [event.as_json() for event in client.group_events(group.id)]
    assert events == raw.get(f"{groups}/{group.id}/events", "events")
    published = [event.as_json() for event in client.events(2)]
    assert [event.keys() for event in published] == [
        event.keys() for event in raw.get("os-vendor-events", "events")[:2]
    ]
    hook = client.create_webhook(url="https://example.com/", secret="s" * 16, name="raw", kinds=["sync", "stop"])
    assert client.find_webhook("raw") == client.find_webhook(hook.id[:8]) == client.webhook(hook.id) == hook
    assert [item.as_json() for item in client.webhooks()] == raw.get("os-vendor-webhooks", "webhooks")
    assert client.webhook_deliveries(hook.id, state="given_up") == []
    client.delete_webhook(hook.id)
    assert client.group_history(group.id, 600).as_json() == raw.get(
        f"{groups}/{group.id}/history?seconds=600", "history"
    )
    assert [item.as_json().keys() for item in client.traffic()] == [
        item.keys() for item in raw.get("os-vendor-traffic", "traffic")
    ]
    told = raw.get(f"{groups}/{group.id}/plan", "plan", action="failover", force="true", priority_station="az2")
    assert client.plan_group(group.id, "failover", force=True, to="az2").as_json() == told
    shown = raw.get("os-vendor-overview", "overview")
    assert client.overview().model_dump(mode="json")["groups"] == shown["groups"]
    assert client.add_tags(volumes[0].id, {"owner": "sales"}) == client.tags(volumes[0].id) == {"owner": "sales"}
    client.delete_tags(volumes[0].id, ["owner", "nothing"])
    assert client.tags(volumes[0].id) == {}
    assert client.quota().volumes.in_use >= 2
    assert [site.as_json() for site in client.sites()] == raw.get("os-vendor-sites", "sites")
    assert [item.id for item in client.groups(name="raw")] == [group.id]
    assert [item.id for item in client.pairs(group_id=group.id)] == [pair.id]
    assert {item.id for item in client.volumes(name="raw", availability_zone="az1")} == {volumes[0].id}
    assert client.update_volume(volumes[0].id, name="renamed").name == "renamed"


class Raw:
    """Asks the API without the models."""

    def __init__(self, api: Api) -> None:
        self._client = api.client

    def get(self, path: str, key: str, **parameters: str) -> Any:
        return self._client.run(exchange(self._client.session, "GET", path, parameters=parameters))[key]


def test_plans_and_the_overview_are_there_for_programs_in_an_event_loop(api: Api) -> None:
    async def ask() -> tuple[bool, list[str]]:
        async with AsyncClient(find_cloud(api.data_dir, None, {}, api.data_dir)) as client:
            overview = await client.overview()
            plans = [await client.plan_group(group.id, "stop") for group in overview.groups[:1]]
            return all(plan.action == "stop" for plan in plans), [site.name for site in overview.sites]

    assert asyncio.run(ask()) == (True, ["az1", "az2"])


def test_a_long_overview_is_read_to_its_last_page(ask: Ask) -> None:
    def page(group_id: str, truncated: bool) -> Answer:
        outlook = {"possible": True, "reason": None, "loss": None}
        progress = dict.fromkeys(("percent", "bytes_per_second", "seconds_left")) | {"bytes_total": 0, "bytes_done": 0}
        texts = dict.fromkeys(("status", "replication_status", "fault_level", "primary_site", "secondary_site"), "x")
        nothing = dict.fromkeys(
            ("name", "mode", "in_sync_since", "stale_since", "holding_since", "dirty_bytes", "failure_detail")
        )
        group: dict[str, Any] = {
            "id": group_id,
            **texts,
            **nothing,
            "progress": progress,
            "failover": outlook,
            "advice": [],
        }
        return json_answer({"overview": {"sites": [], "groups": [group], "truncated": truncated}})

    with scripted(page("g-1", True), page("g-2", False)) as server:
        found = ask(cloud_of(server), "overview")
        assert ([group.id for group in found.groups], found.truncated) == (["g-1", "g-2"], False)
        assert server.requests[-1].endswith("?marker=g-1")


def test_progress_is_told_while_one_waits(api: Api) -> None:
    told: list[str] = []
    made = api.client.create_volume(size_gib=1, zone="az1")
    ready = api.client.wait_for_volume(made.id, 20, progress=lambda item: told.append(item.status))
    assert told[-1] == ready.status == "available"
    api.client.delete_volume(made.id)
    api.client.wait_until_volume_gone(made.id, 20)


def test_fields_that_a_newer_api_adds_are_kept() -> None:
    item = {"id": "g", "name": None, "status": "available", "priority_station": "az1", "novel": {"a": 1}}
    assert Group.model_validate(item).as_json() == item


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
def test_exit_statuses_of_the_command_line(error: TwinsiteError, status: int) -> None:
    assert exit_status(error) == status
