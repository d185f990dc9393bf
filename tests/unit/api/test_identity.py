"""Logging in, in the shape of Keystone v3."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from tests.support.controller import Site, login_body
from twinsite.control.models import Domain, Project, Volume
from twinsite.control.repository import accounts

TOKENS = "/identity/v3/auth/tokens"
ADMIN_PROJECT = {"name": "admin", "domain": {"name": "Default"}}


def token_body(token: str, scope: object) -> dict[str, Any]:
    """Return the body of a login with a token."""
    return {"auth": {"identity": {"methods": ["token"], "token": {"id": token}}, "scope": scope}}


async def log_in(site: Site, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Log in; return the token's text and what is told of it."""
    answer = await site.http.post(TOKENS, json=body)
    assert answer.status_code == 201, answer.text
    token: dict[str, Any] = answer.json()["token"]
    return answer.headers["x-subject-token"], token


@pytest.mark.parametrize(
    "scope",
    [{"project": ADMIN_PROJECT}, {"project": {"name": "admin", "domain": {"id": "default"}}}, {"project": {"id": "$"}}],
    ids=["names", "domain id", "id"],
)
async def test_project_scope(site: Site, scope: dict[str, Any]) -> None:
    if scope["project"].get("id") == "$":
        scope = {"project": {"id": site.project_id}}
    text, token = await log_in(site, login_body(site.password, scope))
    assert len(text) >= 43  # 256 bits in base64
    assert token["methods"] == ["password"]
    assert token["project"] == {"id": site.project_id, "name": "admin", "domain": {"id": "default", "name": "Default"}}
    assert [role["name"] for role in token["roles"]] == ["admin", "member", "reader"]
    issued, expires = (datetime.datetime.fromisoformat(token[name]) for name in ("issued_at", "expires_at"))
    assert token["issued_at"].endswith("Z")
    assert expires - issued == datetime.timedelta(seconds=site.settings.token_lifetime_seconds)
    endpoints = {service["type"]: service["endpoints"] for service in token["catalog"]}
    assert set(endpoints) == {"identity", "volumev2", "volumev3", "block-storage"}
    for kind, version in (("volumev2", "v2"), ("volumev3", "v3"), ("block-storage", "v3")):
        (endpoint,) = endpoints[kind]
        assert (endpoint["interface"], endpoint["region"]) == ("public", "RegionOne")
        assert endpoint["url"] == f"http://twinsite.test/{version}/{site.project_id}"


async def test_domain_scope_and_no_scope(site: Site) -> None:
    _, token = await log_in(site, login_body(site.password, {"domain": {"name": "Default"}}))
    assert token["domain"] == {"id": "default", "name": "Default"}
    assert "project" not in token
    assert [service["type"] for service in token["catalog"]] == ["identity"]
    nothing: list[Any] = [{}, "unscoped", {"system": None}]
    for unscoped in nothing:
        text, token = await log_in(site, login_body(site.password, unscoped))
        assert not {"project", "domain", "roles", "catalog"} & set(token)
    answer = await site.http.get(f"/v2/{site.project_id}/volumes", headers={"X-Auth-Token": text})
    assert answer.headers["x-twinsite-error-code"] == "Common.0018"


async def test_a_token_buys_another_that_lives_no_longer(site: Site) -> None:
    text, first = await log_in(site, login_body(site.password, "unscoped"))
    _, second = await log_in(site, token_body(text, {"project": ADMIN_PROJECT}))
    assert second["expires_at"] == first["expires_at"]
    assert second["methods"] == ["password", "token"]
    assert second["project"]["id"] == site.project_id


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"auth": {}}, 400),
        ({"auth": {"identity": {"methods": []}}}, 400),
        ({"auth": {"identity": {"methods": ["password"]}}}, 400),
        ({"auth": {"identity": {"methods": ["totp"]}}}, 501),
        ({"auth": {"identity": {"methods": "password"}}}, 400),
        (login_body("wrong"), 401),
        (login_body("x" * 100_000), 401),
        (login_body("wrong", {"project": {"name": "admin"}}), 400),
        (login_body("wrong", {"project": ADMIN_PROJECT, "domain": {"id": "default"}}), 400),
        (login_body("wrong", {"domain": {}}), 400),
        (login_body("wrong", "everything"), 400),
        # A scope that is not offered never becomes a token of another one.
        (login_body("wrong", {"system": {"all": True}}), 501),
        (login_body("wrong", {"system": {"all": True}, "project": ADMIN_PROJECT}), 501),
        (login_body("wrong", {"OS-TRUST:trust": {"id": "x"}}), 501),
        (login_body("wrong", {"projekt": ADMIN_PROJECT}), 400),
        (token_body("nonsense", None), 401),
    ],
)
async def test_refused_logins(site: Site, body: dict[str, Any], status: int) -> None:
    answer = await site.http.post(TOKENS, json=body)
    assert answer.status_code == status, answer.text
    assert "x-subject-token" not in answer.headers
    assert site.password not in answer.text


async def test_a_role_is_needed(site: Site) -> None:
    async with site.controller.context.database.write() as session:
        domain = await accounts.find_domain(session, domain_id="default")
        assert domain is not None
        session.add(Project(id="f" * 32, name="other", domain=domain))
        session.add(Domain(id="another", name="Another"))
    for scope in (
        {"project": {"id": "f" * 32}},
        {"project": {"name": "other", "domain": {"id": "default"}}},
        {"project": {"name": "nothing", "domain": {"id": "default"}}},
        {"domain": {"id": "another"}},
        {"domain": {"name": "nothing"}},
    ):
        assert (await site.http.post(TOKENS, json=login_body(site.password, scope))).status_code == 401
    listed = (await site.http.get("/identity/v3/auth/projects")).json()["projects"]
    assert [project["name"] for project in listed] == ["admin"]
    # Of a project without a role its objects cannot be told from objects that are not there.
    volume = await site.make_volume()
    async with site.controller.context.database.write() as session:
        stored = await session.get_one(Volume, volume["id"])
        stored.project_id = "f" * 32
    assert (await site.call("GET", f"/volumes/{volume['id']}")).status_code == 404
    assert (await site.call("GET", "/volumes")).json() == {"volumes": []}


async def test_showing_checking_and_revoking_a_token(site: Site) -> None:
    text, token = await log_in(site, login_body(site.password))
    headers = {"X-Subject-Token": text}
    answer = await site.http.get(TOKENS, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["x-subject-token"] == text
    assert answer.json()["token"] == token
    assert "catalog" not in (await site.http.get(f"{TOKENS}?nocatalog", headers=headers)).json()["token"]
    head = await site.http.head(TOKENS, headers=headers)
    assert (head.status_code, head.content) == (200, b"")
    assert (await site.http.get(TOKENS)).status_code == 400
    assert (await site.http.get(TOKENS, headers={"X-Subject-Token": "x"})).status_code == 404
    assert (await site.http.delete(TOKENS, headers=headers)).status_code == 204
    assert (await site.http.head(TOKENS, headers=headers)).status_code == 404
    answer = await site.http.get(f"/v2/{site.project_id}/volumes", headers={"X-Auth-Token": text})
    assert answer.status_code == 401


async def test_projects_and_domains(site: Site) -> None:
    for path in ("/identity/v3/auth/projects", "/identity/v3/projects", "/identity/v3/projects?name=admin"):
        (project,) = (await site.http.get(path)).json()["projects"]
        assert (project["id"], project["domain_id"], project["enabled"]) == (site.project_id, "default", True)
    assert (await site.http.get("/identity/v3/projects?name=x")).json()["projects"] == []
    assert (await site.http.get(f"/identity/v3/projects/{site.project_id}")).json()["project"]["name"] == "admin"
    assert (await site.http.get("/identity/v3/projects/x")).status_code == 404
    (domain,) = (await site.http.get("/identity/v3/auth/domains")).json()["domains"]
    assert (domain["id"], domain["name"]) == ("default", "Default")
    catalog = (await site.http.get("/identity/v3/auth/catalog")).json()["catalog"]
    assert {service["type"] for service in catalog} == {"identity", "volumev2", "volumev3", "block-storage"}


@pytest.mark.parametrize("path", ["/", "/v2", "/v2/", "/v3", "/v3/", "/identity", "/identity/v3", "/identity/v3/"])
async def test_discovery_needs_no_token(site: Site, path: str) -> None:
    answer = await site.http.get(path, headers={"X-Auth-Token": "nonsense"})
    assert answer.status_code == (300 if path in ("/", "/identity") else 200)
    assert answer.headers["x-openstack-request-id"]
    body = answer.json()
    if path.startswith("/identity"):
        versions = body["versions"]["values"] if path == "/identity" else [body["version"]]
        assert [(version["id"], version["status"]) for version in versions] == [("v3.14", "stable")]
    else:
        versions = body["versions"]
        expected = {"/": ["v2.0", "v3.0"], "/v2": ["v2.0"], "/v3": ["v3.0"]}
        assert [version["id"] for version in versions] == expected[path.rstrip("/") or "/"]
    for version in versions:
        link = version["links"][0]["href"]
        assert (await site.http.get(link)).status_code == 200
