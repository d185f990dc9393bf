"""A real Keystone in the place of the embedded identity: from the log-in with the `openstack` command to a group."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy import select

from tests.support.controller import GROUPS, PAIRS, Json, Site, group_fields, make_settings, serve
from tests.support.keystone import PASSWORD, SERVICE_PASSWORD, Keystone, serve_keystone
from tests.support.openstack_batch import auth_environment, openstack
from twinsite.control.caller import Caller
from twinsite.control.controller import Controller
from twinsite.control.keystone import KeystoneAuthenticator
from twinsite.control.models import Project
from twinsite.control.refusals import RequestRefused

JSON = ("-f", "json")


@pytest.fixture(scope="module")
def keystone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystone]:
    """Run a Keystone for all tests of this file."""
    with serve_keystone(tmp_path_factory.mktemp("keystone")) as served:
        yield served


@dataclass
class Cloud:
    """A controller that believes a Keystone, and that Keystone."""

    site: Site
    keystone: Keystone
    url: str
    ids: dict[str, str]

    def token(self, user: str) -> str:
        """Return a token of a user for the project shop."""
        return self.keystone.log_in(user, f"secret of {user}", "shop")

    async def call(self, token: str, method: str, path: str, body: object = None) -> httpx.Response:
        """Make a call on the project shop."""
        url = f"{self.url}/v2/{self.ids['shop']}{path}"
        return await self.site.http.request(method, url, json=body, headers={"X-Auth-Token": token})


def settings_of(keystone: Keystone, directory: Path, **values: Any) -> Any:
    """Return the settings of a controller that believes this Keystone."""
    given = {"keystone_auth_url": keystone.auth_url, "keystone_password": SecretStr(SERVICE_PASSWORD)}
    return make_settings(directory, **{**given, **values})


@contextlib.asynccontextmanager
async def open_cloud(keystone: Keystone, directory: Path, ids: dict[str, str], **values: Any) -> AsyncIterator[Cloud]:
    """Run a controller on a port, with its two nodes. Fills `ids` at the first time: Keystone keeps what it has."""
    settings = settings_of(keystone, directory, **values)
    async with serve(settings) as (server, url), httpx.AsyncClient(base_url=url) as http:
        if not ids:
            ids.update(await asyncio.to_thread(keystone.set_up, url))
        site = Site(server.app, http, settings)
        async with site.nodes_running():
            yield Cloud(site, keystone, url, ids)


@pytest.fixture(scope="module")
def ids() -> dict[str, str]:
    """Keep what was made in the Keystone of this file."""
    return {}


@pytest.fixture
async def cloud(keystone: Keystone, tmp_path: Path, ids: dict[str, str]) -> AsyncIterator[Cloud]:
    """Run a controller that believes the Keystone."""
    async with open_cloud(keystone, tmp_path / "data", ids) as opened:
        yield opened


def asked(controller: Controller) -> list[str]:
    """Return a list that grows by each question that the controller asks its Keystone."""
    authenticator = controller.authenticator
    assert isinstance(authenticator, KeystoneAuthenticator)
    questions: list[str] = []
    real = authenticator._validator.ask

    def counted(token_text: str) -> dict[str, Any] | None:
        questions.append(token_text)
        return real(token_text)

    authenticator._validator.ask = counted  # type: ignore[method-assign]
    return questions


async def test_the_openstack_command_and_a_group(keystone: Keystone, tmp_path: Path, ids: dict[str, str]) -> None:
    async with open_cloud(keystone, tmp_path / "data", ids) as cloud:
        # The catalogue was made for the first controller of this file; this one says where it is.
        environment = auth_environment(keystone.auth_url, "alice", "secret of alice", "shop")
        endpoint = {
            "OS_VOLUME_API_VERSION": "3",
            "OS_BLOCK_STORAGE_ENDPOINT_OVERRIDE": f"{cloud.url}/v3/{ids['shop']}",
        }
        create = ("volume", "create", "--size", "1", "--availability-zone")
        results = await openstack(
            {**environment, **endpoint},
            tmp_path,
            (*create, "az1", "db", *JSON),
            (*create, "az2", "db-dr", *JSON),
            ("volume", "list", *JSON),
            ("quota", "show", "--volume", *JSON),
        )
        made = [result.shown for result in results]
        assert {volume["Name"] for volume in made[2]} == {"db", "db-dr"}
        token = cloud.token("alice")
        pair: Json = {"volume_ids": [made[0]["id"], made[1]["id"]], "priority_station": "az1"}
        pair["replication_model"] = "hypermetro"
        answer = await cloud.call(token, "POST", PAIRS, {"replication": pair})
        assert answer.status_code == 202, answer.text
        fields = group_fields([answer.json()["replication"]["id"]])
        answer = await cloud.call(token, "POST", GROUPS, {"replication_consistency_group": fields})
        assert answer.status_code == 202, answer.text
        group = answer.json()["replication_consistency_group"]
        (event, *_) = (await cloud.call(token, "GET", f"{GROUPS}/{group['id']}/events?offset=0")).json()["events"]
        created = (await cloud.call(token, "GET", f"{GROUPS}/{group['id']}/events")).json()["events"][-1]
        assert (created["actor"], created["user_id"]) == ("alice", ids["alice"])
        assert event["before"] is None or event["after"]


async def test_roles_come_from_keystone(cloud: Cloud) -> None:
    volume = {"volume": {"size": 1, "availability_zone": "az1"}}
    for user, may_look, may_change in (("alice", 200, 202), ("bob", 200, 403), ("carol", 403, 403)):
        token = cloud.token(user)
        assert (await cloud.call(token, "GET", "/volumes")).status_code == may_look
        assert (await cloud.call(token, "POST", "/volumes", volume)).status_code == may_change
    admin = cloud.keystone.log_in("admin", PASSWORD, "admin")
    headers = {"X-Auth-Token": admin}
    with cloud.keystone.admin() as http:
        (project,) = http.get("/projects?name=admin").json()["projects"]
    # The administrator's project gets a row like any other, and may give quotas to projects that were never seen.
    path = f"/v2/{project['id']}"
    assert (await cloud.site.http.get(f"{path}/os-vendor-sites", headers=headers)).status_code == 200
    quota = f"{path}/os-quota-sets/{'f' * 32}"
    body = {"quota_set": {"volumes": 1}}
    assert (await cloud.site.http.put(quota, json=body, headers=headers)).status_code == 200
    assert (await cloud.call(cloud.token("alice"), "GET", "/os-quota-sets/x")).status_code == 404
    # A token of one project is none for another's path.
    answer = await cloud.call(admin, "GET", "/volumes")
    assert (answer.status_code, answer.headers["x-twinsite-error-code"]) == (400, "Common.0018")


async def test_where_to_log_in(cloud: Cloud) -> None:
    http = cloud.site.http
    challenge = f'Keystone uri="{cloud.keystone.auth_url}"'
    for answer in (await http.get("/"), await http.get("/v3/x/volumes"), await cloud.call("gAAAAA", "GET", "/volumes")):
        assert answer.headers["www-authenticate"] == challenge
    for path in ("/identity", "/identity/v3", "/identity/v3/auth/tokens", "/identity/v3/users"):
        for method in ("GET", "POST"):
            answer = await http.request(method, path, json={})
            assert answer.status_code in (404, 405), path
            if answer.status_code == 404:
                assert cloud.keystone.auth_url.removesuffix("/v3") in answer.text
    document = (await http.get("/openapi.json")).json()
    assert not any(path.startswith("/identity/v3/") for path in document["paths"])
    assert not (cloud.site.settings.secrets_dir / "admin-password").exists()


async def test_tokens_are_remembered_for_a_short_time(keystone: Keystone, tmp_path: Path, ids: dict[str, str]) -> None:
    async with open_cloud(keystone, tmp_path / "data", ids, keystone_cache_seconds=300) as cloud:
        questions = asked(cloud.site.controller)
        token = cloud.token("alice")
        answers = await asyncio.gather(*(cloud.call(token, "GET", "/volumes") for _ in range(10)))
        assert {answer.status_code for answer in answers} == {200}
        assert questions == [token], "requests at the same time ask once"
        wrong = [await cloud.call("gAAAAA-nonsense", "GET", "/volumes") for _ in range(3)]
        assert {answer.status_code for answer in wrong} == {401}
        assert len(questions) == 2
        for nonsense in ("x" * 9000, "a b\x7f"):
            assert (await cloud.call(nonsense, "GET", "/volumes")).status_code == 401
        assert len(questions) == 2, "what cannot be a token is not asked about"


async def test_a_revoked_token(keystone: Keystone, tmp_path: Path, ids: dict[str, str]) -> None:
    async with open_cloud(keystone, tmp_path / "data", ids, keystone_cache_seconds=0) as cloud:
        token = cloud.token("alice")
        assert (await cloud.call(token, "GET", "/volumes")).status_code == 200
        headers = {"X-Auth-Token": token, "X-Subject-Token": token}
        revoked = await asyncio.to_thread(
            httpx.delete, f"{keystone.auth_url}/auth/tokens", headers=headers, trust_env=False
        )
        assert revoked.status_code == 204
        answer = await cloud.call(token, "GET", "/volumes")
        assert (answer.status_code, answer.headers["x-twinsite-error-code"]) == (401, "Common.0013")


async def test_a_keystone_that_cannot_be_asked(keystone: Keystone, tmp_path: Path, ids: dict[str, str]) -> None:
    nobody: list[dict[str, Any]] = [
        {"keystone_auth_url": "http://127.0.0.1:9/v3"},
        {"keystone_password": SecretStr("wrong")},
        {"keystone_username": "alice", "keystone_password": SecretStr("secret of alice"), "keystone_project": "shop"},
    ]
    async with open_cloud(keystone, tmp_path / "first", ids) as cloud:
        token = cloud.token("bob")
    for number, values in enumerate(nobody):
        async with open_cloud(keystone, tmp_path / str(number), ids, **values) as cloud:
            answer = await cloud.call(token, "GET", "/volumes")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5"), values
            assert "Keystone" in answer.json()["serviceUnavailable"]["message"]
            assert "secret" not in answer.text


async def test_names_that_move_from_project_to_project(cloud: Cloud) -> None:
    authenticator = cloud.site.controller.authenticator
    assert isinstance(authenticator, KeystoneAuthenticator)

    def answer(project_id: str, name: str) -> Json:
        return {"project": {"id": project_id, "name": name, "domain": {"id": "d1", "name": "Somewhere"}}}

    for project_id, name in (("p1", "old"), ("p2", "new"), ("p1", "new"), ("p2", "old"), ("p3", "old")):
        await authenticator._know_project(answer(project_id, name))
    async with cloud.site.controller.context.database.read() as session:
        rows = (await session.scalars(select(Project).where(Project.domain_id == "d1"))).all()
    assert {row.id: row.name for row in rows} == {"p1": "new", "p2": "p2", "p3": "old"}


async def test_who_hangs_up_does_not_end_the_question_of_another(cloud: Cloud) -> None:
    authenticator = cloud.site.controller.authenticator
    token = cloud.token("alice")
    first = asyncio.create_task(authenticator.authenticate(token))
    second = asyncio.create_task(authenticator.authenticate(token))
    await asyncio.sleep(0)
    first.cancel()
    caller = await second
    assert isinstance(caller, Caller)
    assert caller.user_name == "alice"
    with pytest.raises(asyncio.CancelledError):
        await first
    with pytest.raises(RequestRefused):
        await authenticator.authenticate(None)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"keystone_auth_url": "https://k/v3"}, "keystone_password"),
        ({"keystone_auth_url": "k/v3", "keystone_password": SecretStr("x")}, "http://"),
    ],
)
def test_settings_that_cannot_work(tmp_path: Path, values: Json, what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        make_settings(tmp_path, **values)
