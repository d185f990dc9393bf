"""The event log of groups: a chain without a gap, of what users did and what happened by itself."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.controller import GROUPS, Json, Site, make_settings, open_site
from tests.support.site_fixtures import Prepared
from tests.unit.api.test_extend import EXTEND, FULL, sizes
from tests.unit.api.test_moves import active_group, silenced, stale_group
from twinsite.api.answers import EventList
from twinsite.control.lifecycle import chronicle
from twinsite.control.repository import events as repository
from twinsite.messages import Mode


async def events(site: Site, group: Json, query: str = "") -> list[Json]:
    """Return a group's events, newest first, held to their documented shape; all of them form a chain."""
    answer = await site.call("GET", f"{GROUPS}/{group['id']}/events{query}")
    assert answer.status_code == 200, answer.text
    EventList.model_validate(answer.json())
    found: list[Json] = answer.json()["events"]
    for newer, older in itertools.pairwise(found):
        assert newer["before"] == older["after"]
        assert newer["created_at"] >= older["created_at"]
    return found


def brief(event: Json, *keys: str) -> tuple[Any, ...]:
    """Return who did what with what result, and how some things changed."""
    before = event["before"] or {}
    return (event["actor"], event["action"], event["result"], *((before.get(key), event["after"][key]) for key in keys))


async def test_the_life_of_a_group(site: Site) -> None:
    group = await active_group(site)
    found = await events(site, group)
    assert brief(found[-1], "status") == ("admin", "create", "accepted", (None, "creating"))
    assert found[-1]["user_id"]
    made = next(event for event in reversed(found) if event["after"]["status"] == "available")
    assert made["action"] == "create"
    assert made["actor"] in ("node of az1", "node of az2")
    synced = next(event for event in found if event["action"] == "sync")
    assert brief(synced, "replication") == ("admin", "sync", "accepted", ("paused", "running"))
    assert synced["proof"]["failover"]["possible"] is False
    active, recorded = found[:2]
    assert brief(recorded, "secondary") == ("worker in az1", "observed", "done", ("stale", "in_sync"))
    assert brief(active, "replication_status") == ("node of az1", "observed", "done", ("copying", "active"))
    assert (active["proof"]["secondary"], active["proof"]["failover"]["loss"]) == ("in_sync", None)
    async with site.nodes_running():
        assert (await site.act(group["id"], "stop")).status_code == 200
    await site.settle()
    stopped = next(event for event in await events(site, group) if event["action"] == "stop")
    assert brief(stopped, "replication") == ("admin", "stop", "accepted", ("running", "paused"))
    newest = (await events(site, group))[0]
    assert (newest["after"]["replication_status"], newest["after"]["secondary"]) == ("active-stopped", "stale")
    body = {"replication_consistency_group": {"remove_replication_ids": group["replication_ids"]}}
    assert (await site.call("PUT", f"{GROUPS}/{group['id']}", body)).status_code == 202
    await site.settle()
    found = await events(site, group)
    assert brief(found[0], "status", "pairs") == (
        "node of az2",
        "update",
        "done",
        ("updating", "available"),
        (0, 0),
    ) or (found[0]["actor"] == "node of az1")
    assert any(brief(event, "pairs") == ("admin", "update", "accepted", (1, 0)) for event in found)
    with capture_logs() as logs:
        assert (await site.call("DELETE", f"{GROUPS}/{group['id']}")).status_code == 202
    (deleted,) = [line for line in logs if line["event"] == "group is deleted"]
    assert (deleted["group"], deleted["actor"]) == (group["id"], "admin")
    (last, *before) = await events(site, group)
    assert before == found, "what led to the deletion outlives the group"
    assert brief(last, "status", "pairs") == ("admin", "delete", "done", ("available", "deleted"), (0, 0))
    assert (last["kinds"], last["number"], last["user_id"]) == (
        ["delete"],
        found[0]["number"] + 1,
        found[-1]["user_id"],
    )
    audited = (await site.call("GET", "/os-vendor-audit-records?limit=1")).json()["audit_records"]
    assert [record["request_id"] for record in audited] == [last["request_id"]]
    assert (await site.call("DELETE", f"{GROUPS}/{group['id']}")).status_code == 404
    assert (await events(site, group))[0] == last, "nothing comes after the end"


async def test_a_failover_carries_what_was_known_before_it(site: Site) -> None:
    group = await stale_group(site, dirty_bytes=4096)
    refused = await site.act(group["id"], "failover")
    assert refused.status_code == 400
    count = len(await events(site, group))
    assert (await site.act(group["id"], "failover", {"force": True})).status_code == 200
    found = await events(site, group)
    assert len(found) == count + 1, "a refused call changes nothing, the log neither"
    moved = found[0]
    assert brief(moved, "term", "primary_station", "status") == (
        "admin",
        "failover",
        "accepted",
        (1, 2),
        ("az1", "az2"),
        ("available", "failovering"),
    )
    assert "forced" in moved["message"]
    proof = moved["proof"]
    assert (proof["term"], proof["primary_station"], proof["secondary"]) == (1, "az1", "stale")
    loss = proof["failover"]["loss"]
    assert (loss["since"], loss["bytes_at_most"], loss["unflushed"]) == (proof["stale_since"], 4096, False)
    await site.settle()
    done = next(event for event in reversed(await events(site, group)) if event["after"]["status"] == "failovered")
    assert (done["action"], done["result"], done["actor"]) == ("failover", "done", "node of az2")


async def test_a_switchover_is_an_event_and_so_is_one_that_fails(site: Site) -> None:
    group = await active_group(site)
    assert (await site.act(group["id"], "reverse")).status_code == 200
    await site.settle()
    found = await events(site, group)
    switched = next(event for event in found if event["before"] and event["before"]["term"] < event["after"]["term"])
    assert brief(switched, "primary_station") == ("node of az1", "reverse", "done", ("az1", "az2"))
    site.az2.hands_over = False
    assert (await site.act(group["id"], "reverse")).status_code == 200
    site.settings.reverse_wait_seconds = 1e-6
    async with silenced(site, "az2"):
        await site.controller.reconciler.settle_moves()
    failed = (await events(site, group))[0]
    assert brief(failed, "status") == ("controller", "reverse", "failed", ("reversing", "error_reversing"))
    assert "37100043" in failed["message"]


async def test_a_site_that_falls_silent_is_noticed_without_a_report(site: Site) -> None:
    group = await active_group(site)
    await site.controller.reconciler.observe_groups()
    before = await events(site, group)
    async with silenced(site, "az1"):
        await site.controller.reconciler.observe_groups()
        assert await events(site, group) == before, "a controller that has just started has heard of nobody"
        site.controller.context.presence.started_at = float("-inf")
        await site.controller.reconciler.observe_groups()
        await site.controller.reconciler.observe_groups()
        (new, *old) = await events(site, group)
        assert old == before
        assert brief(new, "fault_level") == ("controller", "observed", "done", ("0", "2"))
        assert new["proof"]["failover"]["possible"] is True
    await site.controller.reconciler.observe_groups()
    assert brief((await events(site, group))[0], "fault_level")[-1] == ("2", "0")


async def test_hosts_that_wait_are_noticed(site: Site) -> None:
    group = await active_group(site)
    site.az1.alter(group["id"], mode=Mode.HOLDING, holding_since=1.0)
    await site.az1.post()
    new = (await events(site, group))[0]
    assert brief(new, "holding", "fault_level") == (
        "node of az1",
        "observed",
        "done",
        (False, True),
        ("0", "2"),
    )
    assert new["proof"]["holding_since"] == "1970-01-01T00:00:01.000000"


async def test_an_extension_that_ends_and_one_that_is_undone(site: Site) -> None:
    group = await active_group(site)
    async with site.nodes_running():
        assert (await site.act(group["id"], EXTEND, sizes(group, 2))).status_code == 200
        pair = await site.show_pair(group["replication_ids"][0])
        site.az2.room_failures[pair["volume_ids"].split(",")[1]] = FULL
        assert (await site.act(group["id"], EXTEND, sizes(group, 3))).status_code == 503
    found = [event for event in await events(site, group) if event["action"] == "extend"]
    assert [
        (event["result"], event["before"]["size_gib"], event["after"]["size_gib"]) for event in reversed(found)
    ] == [
        ("accepted", 1, 1),
        ("done", 1, 2),
        ("accepted", 2, 2),
        ("failed", 2, 2),
    ]
    assert FULL.message in found[0]["message"]


async def test_pages_and_a_bound(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    group = await site.make_group()
    for number in range(5):
        body = {"replication_consistency_group": {"name": f"name {number}"}}
        assert (await site.call("PUT", f"{GROUPS}/{group['id']}", body)).status_code == 202
    everything = await events(site, group)
    pages = [everything[:2]]
    while pages[-1]:
        pages.append(await events(site, group, f"?limit=2&marker={pages[-1][-1]['id']}"))
    assert list(itertools.chain(*pages)) == everything
    assert await events(site, group, "?offset=3&limit=1") == everything[3:4]
    for query, code in (("limit=0", "EVS.1023"), ("marker=x", "EVS.1024"), ("offset=-1", "EVS.5400")):
        answer = await site.call("GET", f"{GROUPS}/{group['id']}/events?{query}")
        assert (answer.status_code, answer.headers["x-twinsite-error-code"]) == (400, code)
    monkeypatch.setattr(chronicle, "EVENTS_MAX", 3)
    body = {"replication_consistency_group": {"description": "the last"}}
    assert (await site.call("PUT", f"{GROUPS}/{group['id']}", body)).status_code == 202
    left = await events(site, group)
    assert (len(left), left[1:]) == (3, everything[:2])


async def test_what_follows_from_a_request_names_it(site: Site) -> None:
    group = await active_group(site)
    (active, recorded, *_) = await events(site, group)
    assert (active["request_id"], recorded["request_id"]) == (None, None), "no worker said what it follows from"
    found = await events(site, group)
    asked = next(event for event in found if event["action"] == "create" and event["user_id"])
    done = next(event for event in found if event["action"] == "create" and not event["user_id"])
    assert (done["result"], done["request_id"]) == ("done", asked["request_id"])
    cause = "req-0f9f4c1e-6b0d-4f0e-9a55-6ac8a9f6d5f1"
    site.az1.alter(group["id"], mode=Mode.CONNECTING, request_id=cause)
    site.settings.sync_grace_seconds = 1e-9
    await site.az1.post()
    event = (await events(site, group))[0]
    assert brief(event, "replication_status")[-1] == ("active", "inactive")
    assert event["request_id"] == cause
    # That hosts wait follows from nothing that anybody asked for, whatever the worker did last.
    site.az1.alter(group["id"], holding_since=1.0)
    await site.az1.post()
    event = (await events(site, group))[0]
    assert brief(event, "holding", "replication_status")[-2:] == ((False, True), ("inactive", "inactive"))
    assert event["request_id"] is None
    site.az1.alter(group["id"], mode=Mode.IN_SYNC, holding_since=None, request_id="x" * 1000)
    await site.az1.post()
    assert (await events(site, group))[0]["request_id"] is None


async def test_a_deletion_that_is_refused_is_none(site: Site) -> None:
    group = await site.make_group()
    assert (await site.call("DELETE", f"{GROUPS}/{group['id']}")).status_code == 400
    last = (await events(site, group))[0]
    assert (last["kinds"], last["after"]["status"]) == (["delete", "refused"], "available")


async def gone_group(site: Site) -> Json:
    """Make a group and delete it."""
    group = await site.make_group()
    removal = {"replication_consistency_group": {"remove_replication_ids": group["replication_ids"]}}
    assert (await site.call("PUT", f"{GROUPS}/{group['id']}", removal)).status_code == 202
    await site.settle()
    assert (await site.call("DELETE", f"{GROUPS}/{group['id']}")).status_code == 202
    return group


async def test_the_events_of_deleted_groups_have_a_bound(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    alive = await site.make_group()
    groups = [await gone_group(site) for _ in range(3)]
    kept = [await events(site, group) for group in groups]
    assert [found[0]["action"] for found in kept] == ["delete"] * 3
    before = await events(site, alive)
    lengths = [len(found) for found in kept]
    # One more deletion leaves room for itself and for the youngest of the others: whole, or not at all.
    monkeypatch.setattr(chronicle, "DELETED_EVENTS_MAX", 2 * max(lengths))
    last = await gone_group(site)
    for group in groups[:2]:
        assert (await site.call("GET", f"{GROUPS}/{group['id']}/events")).status_code == 404
    assert await events(site, groups[2]) == kept[2]
    assert (await events(site, last))[0]["action"] == "delete"
    assert await events(site, alive) == before
    await site.controller.feed.publish()
    listed = (await site.call("GET", "/os-vendor-events")).json()["events"]
    assert {event["group_id"] for event in listed} == {alive["id"], groups[2]["id"], last["id"]}


async def test_the_bound_of_one_project_is_not_that_of_another(site: Site) -> None:
    group = await gone_group(site)
    async with site.controller.context.database.write() as session:
        await repository.forget_deleted(session, "another", 0, chronicle.EVENTS_MAX)
    assert len(await events(site, group)) > 1
    async with site.controller.context.database.write() as session:
        await repository.forget_deleted(session, site.project_id, 0, chronicle.EVENTS_MAX)
    assert (await site.call("GET", f"{GROUPS}/{group['id']}/events")).status_code == 404


async def test_an_event_keeps_the_name_that_its_group_had(site: Site) -> None:
    group = await site.make_group()
    for name in ("shop", "store"):
        body = {"replication_consistency_group": {"name": name}}
        assert (await site.call("PUT", f"{GROUPS}/{group['id']}", body)).status_code == 202
    await site.controller.feed.publish()
    listed = (await site.call("GET", "/os-vendor-events")).json()["events"]
    assert [event["group_name"] for event in listed if event["action"] == "update"] == ["store", "shop"]


async def test_other_projects_see_nothing(site: Site) -> None:
    group, other = await site.make_group(), await site.make_group()
    (newest, *_) = await events(site, other)
    answer = await site.call("GET", f"{GROUPS}/{group['id']}/events?marker={newest['id']}")
    assert answer.status_code == 400, "a marker is one of the same group's events"
    answer = await site.call("GET", f"{GROUPS}/00000000-0000-4000-8000-000000000000/events")
    assert answer.status_code == 404
    project_id, site.project_id = site.project_id, "another"
    assert (await site.call("GET", f"{GROUPS}/{group['id']}/events")).status_code == 400
    site.project_id = project_id


async def test_a_new_controller_goes_on_with_the_chain(prepared: Prepared, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    shutil.copytree(prepared.directory, directory)
    async with open_site(make_settings(directory), prepared.token) as site:
        group = await active_group(site)
        before = await events(site, group)
    async with open_site(make_settings(directory), prepared.token, nodes_of=site) as again:
        await again.settle()
        assert await events(again, group) == before
