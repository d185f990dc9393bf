"""Who may do what: all routes under each role, and other tenants' objects, which look like none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.accounts import make_project, make_token
from tests.support.controller import GROUPS, PAIRS, Json, Site

OPEN = {
    ("GET", "/"),
    ("GET", "/v2"),
    ("GET", "/v3"),
    ("GET", "/identity"),
    ("GET", "/identity/v3"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("POST", "/identity/v3/auth/tokens"),
}
"""Calls without a token."""
ADMIN_ONLY = re.compile(
    r"(GET|POST) /v2/{project_id}/os-vendor-sites"
    r"|(PUT|DELETE) /v[23]/{project_id}/os-quota-sets/"
    r"|\w+ /identity/v3/(users|roles|role_assignments|domains|projects/{target_id})"
    r"|(POST|PATCH|DELETE) /identity/v3/projects"
)
OWN = re.compile(r"(GET|HEAD|DELETE) /identity/v3/auth/|GET /identity/v3/projects(/{project_id})?$")
"""What everybody may do with what is their own, whatever their role."""

Call = tuple[str, str, Any]


def may(role: str, method: str, path: str) -> bool:
    """Say whether a role may make a call, as the documentation has it."""
    if role == "admin" or OWN.match(f"{method} {path}"):
        return True
    if ADMIN_ONLY.match(f"{method} {path}") or role == "observer":
        return False
    return role == "member" or method == "GET"


def calls_of(document: Json) -> Iterator[Call]:
    """Give every call of the OpenAPI document: method, path, body; an action for each of its examples."""
    for path, operations in document["paths"].items():
        for name, operation in operations.items():
            method = name.upper()
            if (method, path) in OPEN:
                continue
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            examples = [example["value"] for example in content.get("examples", {}).values()]
            if path.endswith("/action"):
                assert examples, f"{path} shows no action"
                yield from ((method, path, body) for body in examples)
            else:
                yield method, path, {} if method in ("POST", "PUT", "PATCH") else None


@pytest.mark.parametrize("role", ["admin", "member", "reader", "observer"])
async def test_all_routes(site: Site, role: str) -> None:
    headers = {"X-Auth-Token": await make_token(site, role)}
    document = (await site.http.get("/openapi.json")).json()
    calls = list(calls_of(document))
    assert len(calls) > 50
    wrong = []
    for method, path, body in calls:
        url = path.replace("{project_id}", site.project_id) if path.startswith("/v") else path
        url = re.sub(r"{\w+}", "00000000-0000-4000-8000-000000000000", url)
        answer = await site.http.request(method, url, json=body, headers=headers)
        assert answer.status_code != 401, (method, path)
        assert answer.status_code < 500 or answer.status_code == 501, (method, path, answer.text)
        if (answer.status_code != 403) != may(role, method, path):
            wrong.append((method, path, body, answer.text))
    assert wrong == []


async def test_without_a_token_there_is_nothing(site: Site) -> None:
    document = (await site.http.get("/openapi.json")).json()
    for method, path, body in calls_of(document):
        answer = await site.http.request(method, path, json=body, headers={"X-Auth-Token": ""})
        assert answer.status_code == 401, (method, path)


async def test_the_refusal_names_the_rule_and_the_roles(site: Site) -> None:
    headers = {"X-Auth-Token": await make_token(site, "reader")}
    body = {"volume": {"size": 1}}
    answer = await site.http.post(f"/v3/{site.project_id}/volumes", json=body, headers=headers)
    assert answer.status_code == 403
    assert answer.headers["x-twinsite-error-code"] == "EVS.5403"
    assert "'volumes:create'" in answer.json()["forbidden"]["message"]
    assert "(reader)" in answer.json()["forbidden"]["message"]


async def test_an_action_that_does_not_exist(site: Site) -> None:
    path = f"/v2/{site.project_id}{GROUPS}/x/action"
    for role, status in (("member", 400), ("reader", 403)):
        headers = {"X-Auth-Token": await make_token(site, role)}
        nothing: list[Any] = [{"os-paint": None}, {}, [], None]
        for body in nothing:
            answer = await site.http.post(path, json=body, headers=headers)
            assert answer.status_code == (400 if body is None else status), answer.text


async def test_an_action_is_not_hidden_behind_another(site: Site) -> None:
    """Two keys in one body: whichever comes first, the rule of each is asked for before anything happens."""
    rules = site.settings.data_dir / "policy.yaml"
    rules.write_text('"replication_consistency_groups:failover": "rule:admin_required"')
    headers = {"X-Auth-Token": await make_token(site, "member")}
    failover, sync = (f"os-{name}-replication-consistency-group" for name in ("failover", "sync"))
    for body in ({sync: None, failover: None}, {failover: None, sync: None}):
        answer = await site.http.post(f"/v2/{site.project_id}{GROUPS}/x/action", json=body, headers=headers)
        assert answer.status_code == 403


async def test_operators_may_keep_force_to_themselves(site: Site) -> None:
    group = await site.make_group()
    headers = {"X-Auth-Token": await make_token(site, "member")}
    path = f"/v2/{site.project_id}{GROUPS}/{group['id']}/action"
    body = {"os-failover-replication-consistency-group": {"force": True}}
    (site.settings.data_dir / "policy.yaml").write_text('"replication_consistency_groups:force": "role:admin"')
    assert (await site.http.post(path, json=body, headers=headers)).status_code == 403
    assert (await site.show_group(group["id"]))["status"] == "available"
    (site.settings.data_dir / "policy.yaml").unlink()
    assert (await site.http.post(path, json=body, headers=headers)).status_code == 200


async def test_other_tenants_objects_look_like_none(site: Site) -> None:
    """Every call that names an object answers the same for another tenant's as for one that never was."""
    other = await make_project(site, "other")
    headers = {"X-Auth-Token": await make_token(site, "admin", other)}
    group = await site.make_group()
    pair_id = group["replication_ids"][0]
    volume_id = (await site.show_pair(pair_id))["volume_ids"].split(",")[0]
    nobody = "00000000-0000-4000-8000-000000000000"
    document = (await site.http.get("/openapi.json")).json()
    ids = {"volume_id": volume_id, "replication_id": pair_id, "replication_consistency_group_id": group["id"]}
    bodies: dict[tuple[str, str], Json] = {
        ("PUT", "volume_id"): {"volume": {"name": "mine"}},
        ("PUT", "replication_consistency_group_id"): {"replication_consistency_group": {"name": "mine"}},
    }
    tried = 0
    for method, path, body in calls_of(document):
        name = next((name for name in ids if f"{{{name}}}" in path), None)
        if name is None:
            continue
        answers = []
        for object_id in (ids[name], nobody):
            url = path.replace("{project_id}", other).replace(f"{{{name}}}", object_id)
            url = re.sub(r"{\w+}", "key", url)
            answer = await site.http.request(method, url, json=bodies.get((method, name), body), headers=headers)
            answers.append((answer.status_code, answer.text.replace(object_id, "ID")))
        assert answers[0] == answers[1], (method, path)
        assert answers[0][0] in (404, 400, 501), (method, path, answers)
        tried += 1
    assert tried > 20
    creating = {"volume_ids": [volume_id, nobody], "priority_station": "az1", "replication_model": "hypermetro"}
    answer = await site.http.post(f"/v2/{other}{PAIRS}", json={"replication": creating}, headers=headers)
    assert answer.status_code == 404
    for kind in ("volumes", "os-vendor-replications", GROUPS.strip("/")):
        answer = await site.http.get(f"/v2/{other}/{kind}", headers=headers)
        assert next(iter(answer.json().values())) == []
    assert (await site.show_group(group["id"]))["status"] == "available"
