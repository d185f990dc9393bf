"""Who asked for what change of which object, with which result."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from tests.support.accounts import make_project, make_token
from tests.support.controller import GROUPS, Json, Site, login_body
from tests.unit.api.test_events import events
from tests.unit.api.test_moves import active_group, silenced
from twinsite.api.audit import AuditRecordList
from twinsite.control import audit as audit_module
from twinsite.control.actor import CONTROLLER, current_actor
from twinsite.control.audit_entry import Entry, current_request
from twinsite.control.lifecycle import chronicle

RECORDS = "/os-vendor-audit-records"
NOBODY = "00000000-0000-4000-8000-000000000000"


async def records(site: Site, query: str = "", headers: Mapping[str, str] | None = None) -> list[Json]:
    """Return the project's records, held to their documented shape."""
    answer = await site.http.get(f"/v2/{site.project_id}{RECORDS}{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    AuditRecordList.model_validate(answer.json())
    found: list[Json] = answer.json()["audit_records"]
    return found


def brief(record: Json) -> tuple[Any, ...]:
    """Return what was asked of what, and how it ended."""
    return record["operation"], record["object_id"], record["result"], record["status"]


async def test_every_change_that_was_asked_for(site: Site) -> None:
    before = len(await records(site))
    assert before == 0, "nobody has asked for anything but to look"
    group = await site.make_group()
    pair_id = group["replication_ids"][0]
    production, dr = (await site.show_pair(pair_id))["volume_ids"].split(",")
    made = [brief(record) for record in reversed(await records(site))]
    assert made == [
        ("volumes:create", production, "done", 202),
        ("volumes:create", dr, "done", 202),
        ("replications:create", pair_id, "done", 202),
        ("replication_consistency_groups:create", group["id"], "done", 202),
    ]
    calls: list[tuple[str, str, object, tuple[Any, ...]]] = [
        ("DELETE", f"/volumes/{production}", None, ("volumes:delete", production, "refused", 400)),
        ("DELETE", f"/volumes/{NOBODY}", None, ("volumes:delete", NOBODY, "refused", 404)),
        ("POST", "/volumes", {"volume": {"size": "x"}}, ("volumes:create", None, "refused", 400)),
        ("POST", "/volumes", ["x"], ("volumes:create", None, "refused", 400)),
        ("PUT", f"/volumes/{dr}", {"volume": {"name": "n"}}, ("volumes:update", dr, "done", 200)),
        (
            "POST",
            f"{GROUPS}/{group['id']}/action",
            {"os-paint": None},
            ("replication_consistency_groups:action", group["id"], "refused", 400),
        ),
        ("PUT", "/os-quota-sets/x", {"quota_set": {}}, ("quotas:update", "x", "refused", 404)),
    ]
    for method, path, body, expected in calls:
        answer = await site.call(method, path, body)
        newest = (await records(site, "?limit=1"))[0]
        assert brief(newest) == expected
        assert newest["request_id"] == answer.headers["x-openstack-request-id"]
        assert (newest["user_name"], newest["address"]) == ("admin", "127.0.0.1")
        assert (newest["message"] is None) == answer.is_success
    assert (await site.call("GET", f"/volumes/{NOBODY}")).status_code == 404
    assert len(await records(site)) == 4 + len(calls), "looking is no change"


async def test_refused_by_a_rule_or_for_another_project(site: Site) -> None:
    reader = {"X-Auth-Token": await make_token(site, "reader")}
    group = await site.make_group()
    path = f"/v2/{site.project_id}{GROUPS}/{group['id']}/action"
    body = {"os-stop-replication-consistency-group": None}
    assert (await site.http.post(path, json=body, headers=reader)).status_code == 403
    newest = (await records(site))[0]
    assert brief(newest) == ("replication_consistency_groups:stop", group["id"], "refused", 403)
    assert newest["user_name"].startswith("reader-")
    (event, *_) = await events(site, group)
    assert (event["action"], event["result"]) == ("stop", "refused")
    # Another tenant asks in vain: that is in that tenant's records, and not in the group's log.
    other = await make_project(site, "other")
    stranger = {"X-Auth-Token": await make_token(site, "member", other)}
    assert (await site.http.post(path, json=body, headers=stranger)).status_code == 400
    theirs = path.replace(site.project_id, other)
    assert (await site.http.post(theirs, json=body, headers=stranger)).status_code == 404
    assert (await events(site, group))[0] == event
    assert (await records(site))[0] == newest
    answer = await site.http.get(f"/v2/{other}{RECORDS}", headers=stranger)
    assert [brief(record)[1:] for record in answer.json()["audit_records"]] == [
        (group["id"], "refused", 404),
        (group["id"], "refused", 400),
    ]
    # Nobody at all is in the log of the server only.
    assert (await site.http.post(path, json=body, headers={"X-Auth-Token": "x"})).status_code == 401
    assert (await records(site))[0] == newest


async def test_a_group_tells_what_was_refused_and_what_was_nothing(site: Site) -> None:
    group = await active_group(site)
    count = len(await events(site, group))
    again = await site.act(group["id"], "sync")
    assert again.status_code == 200
    refused = await site.act(group["id"], "reprotect")
    assert refused.status_code == 400
    wrong = await site.call("PUT", f"{GROUPS}/{group['id']}", {"replication_consistency_group": {"name": 3}})
    assert wrong.status_code == 400
    async with silenced(site, "az2"):
        unreachable = await site.act(group["id"], "reverse")
        assert unreachable.status_code == 503
    newest = (await events(site, group))[:4]
    assert len(await events(site, group)) == count + 4
    assert [(event["action"], event["result"]) for event in newest] == [
        ("reverse", "refused"),
        ("update", "refused"),
        ("reprotect", "refused"),
        ("sync", "done"),
    ]
    answers: list[httpx.Response] = [unreachable, wrong, refused, again]
    for event, answer in zip(newest, answers, strict=True):
        assert event["request_id"] == answer.headers["x-openstack-request-id"]
        assert event["before"] == event["after"]
        assert event["actor"] == "admin"
        assert event["message"]
    assert "37100043" in newest[0]["message"]
    assert newest[3]["message"] == chronicle.NOTHING_TO_DO
    # What was done has one event of the asking, and what followed from it names its request too.
    moved = await site.act(group["id"], "reverse")
    assert moved.status_code == 200
    await site.settle()
    request_id = moved.headers["x-openstack-request-id"]
    of_it = [event for event in await events(site, group) if event["request_id"] == request_id]
    assert (of_it[-1]["action"], of_it[-1]["result"]) == ("reverse", "accepted")
    assert [event["result"] for event in of_it].count("accepted") == 1
    assert {event["action"] for event in of_it} <= {"reverse", "observed"}


async def test_refusals_drive_nothing_else_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chronicle, "REFUSED_MAX", 3)
    group = await site.make_group()
    done = await events(site, group)
    for _ in range(5):
        assert (await site.act(group["id"], "reprotect")).status_code == 400
    found = await events(site, group)
    assert [event["result"] for event in found[:4]] == ["refused"] * 3 + [done[0]["result"]]
    assert found[3:] == done


async def test_records_outlive_what_they_are_about_and_are_bounded(site: Site) -> None:
    volume = await site.make_volume()
    assert (await site.call("DELETE", f"/volumes/{volume['id']}")).status_code == 202
    await site.settle()
    assert (await site.call("GET", f"/volumes/{volume['id']}")).status_code == 404
    found = await records(site, f"?object_id={volume['id']}")
    assert [record["operation"] for record in found] == ["volumes:delete", "volumes:create"]
    site.settings.audit_records_max = 100
    for _ in range(3 * audit_module.FORGET_EVERY):
        assert (await site.call("DELETE", f"/volumes/{NOBODY}")).status_code == 404
    assert 100 <= len(await records(site)) <= 100 + audit_module.FORGET_EVERY
    assert (await records(site, f"?object_id={volume['id']}")) == []


async def test_records_that_changes_take_along_are_bounded_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    group = await site.make_group()
    monkeypatch.setattr("twinsite.control.audit.FORGET_EVERY", 5)
    site.settings.audit_records_max = 4
    for number in range(15):
        named = {"replication_consistency_group": {"name": f"name {number}"}}
        assert (await site.call("PUT", f"{GROUPS}/{group['id']}", named)).status_code == 202
        await site.settle()
    assert len(await records(site)) <= 4 + 5


async def test_who_asked_is_forgotten_with_the_answer(site: Site) -> None:
    group = await site.make_group()
    assert (await site.act(group["id"], "sync")).status_code == 200
    assert (await site.act(group["id"], "stop", {"force": "what?"})).status_code == 400
    assert current_request.get() is None
    assert current_actor.get() is CONTROLLER


async def test_pages_and_filters(site: Site) -> None:
    for number in range(5):
        await site.call("DELETE", f"/volumes/{number}")
    everything = await records(site)
    assert [record["object_id"] for record in everything] == ["4", "3", "2", "1", "0"]
    pages = [everything[:2]]
    while pages[-1]:
        pages.append(await records(site, f"?limit=2&marker={pages[-1][-1]['id']}"))
    assert [record for page in pages for record in page] == everything
    assert await records(site, "?offset=3&limit=1") == everything[3:4]
    for column in ("object_id", "request_id"):
        assert await records(site, f"?{column}={everything[2][column]}") == everything[2:3]
    assert await records(site, f"?user_id={everything[0]['user_id']}&result=refused") == everything
    assert await records(site, "?result=done") == []
    for query, code in (("limit=0", "EVS.1023"), ("marker=x", "EVS.1024")):
        answer = await site.call("GET", f"{RECORDS}?{query}")
        assert (answer.status_code, answer.headers["x-twinsite-error-code"]) == (400, code)


async def test_administrators_see_what_was_asked_for_everywhere(site: Site) -> None:
    other = await make_project(site, "other")
    member = {"X-Auth-Token": await make_token(site, "member", other)}
    assert (await site.http.delete(f"/v2/{other}/volumes/x", headers=member)).status_code == 404
    scope = {"domain": {"id": "default"}}
    answer = await site.http.post("/identity/v3/auth/tokens", json=login_body(site.password, scope))
    on_domain = {"X-Auth-Token": answer.headers["x-subject-token"]}
    made = await site.http.post("/identity/v3/users", json={"user": {"name": "alice"}}, headers=on_domain)
    assert made.status_code == 201
    assert (await site.call("DELETE", "/volumes/y")).status_code == 404
    everything = await records(site, "?all_projects=True")
    assert [(record["project_id"], record["operation"]) for record in everything] == [
        (site.project_id, "volumes:delete"),
        ("default", "identity:create_user"),
        (other, "volumes:delete"),
    ]
    assert await records(site, f"?all_projects=True&marker={everything[0]['id']}&limit=1") == everything[1:2]
    assert await records(site) == everything[:1]
    answer = await site.http.get(f"/v2/{other}{RECORDS}?all_projects=True", headers=member)
    assert answer.status_code == 403


async def test_identity_is_audited_and_secrets_are_not(site: Site) -> None:
    body = {"user": {"name": "alice", "password": "a secret of alice"}}
    answer = await site.http.post("/identity/v3/users", json=body)
    user_id = answer.json()["user"]["id"]
    await site.http.patch(f"/identity/v3/users/{user_id}", json={"user": {"password": "another secret"}})
    assert (await site.http.post("/identity/v3/users", json=body)).status_code == 409
    await site.http.put(f"/identity/v3/projects/{site.project_id}/users/{user_id}/roles/x")
    found = await records(site)
    assert [brief(record) for record in reversed(found)] == [
        ("identity:create_user", user_id, "done", 201),
        ("identity:update_user", user_id, "done", 200),
        ("identity:create_user", None, "refused", 409),
        ("identity:create_grant", f"{site.project_id}/{user_id}/x", "refused", 404),
    ]
    assert "secret" not in str(found)


async def test_requests_at_the_same_time_share_a_transaction(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    real = site.controller.audit._write

    async def counted(entries: list[Entry]) -> None:
        written.append(len(entries))
        await real(entries)

    monkeypatch.setattr(site.controller.audit, "_write", counted)
    await asyncio.gather(*(site.call("DELETE", f"/volumes/{number}") for number in range(20)))
    assert sum(written) == 20
    assert len(written) < 20
    assert len({record["request_id"] for record in await records(site)}) == 20


async def test_a_record_that_cannot_be_stored_is_in_the_log(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(_: list[Entry]) -> None:
        raise OperationalError("INSERT", {}, Exception("database or disk is full"))

    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(site.controller.audit, "_write", full)
        assert (await site.call("DELETE", f"/volumes/{NOBODY}")).status_code == 404
    (line,) = [line for line in logs if line["event"] == "an audit record cannot be stored"]
    assert NOBODY in line["record"]
    assert (await site.call("DELETE", f"/volumes/{NOBODY}")).status_code == 404
    assert len(await records(site)) == 1


async def test_the_change_of_a_group_takes_its_record_along(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Entry] = []
    real = site.controller.audit._write

    async def seen(entries: list[Entry]) -> None:
        written.extend(entries)
        await real(entries)

    monkeypatch.setattr(site.controller.audit, "_write", seen)
    group_id = (await site.make_group())["id"]
    assert (await site.act(group_id, "os-sync-replication-consistency-group")).status_code == 200
    newest = (await records(site))[0]
    assert brief(newest) == ("replication_consistency_groups:sync", group_id, "done", 200)
    assert not [entry for entry in written if entry.group_id == group_id]


async def test_a_record_is_corrected_when_the_request_ends_in_another_way(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    group_id = (await active_group(site))["id"]
    monkeypatch.setattr(site.settings, "stop_wait_seconds", 0.01)
    before = len(await records(site))
    answer = await site.act(group_id, "os-stop-replication-consistency-group")
    assert answer.status_code == 503, answer.text
    found = await records(site)
    assert len(found) == before + 1, "the change and its late confirmation are one request"
    assert brief(found[0]) == ("replication_consistency_groups:stop", group_id, "failed", 503)
    assert "Repeat the stop" in found[0]["message"]
