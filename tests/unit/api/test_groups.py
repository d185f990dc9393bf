"""Pairs and groups: their life, sync and stop, and what is told of them."""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import replace

import pytest

from tests.support.controller import GROUPS, PAIRS, Site, group_fields
from twinsite.api.answers import GroupCreatedOne, GroupList, GroupOne, PairCreatedOne, PairList, PairOne
from twinsite.control.lifecycle.states import GROUP_ADMITS, GroupCall, GroupStatus
from twinsite.control.models import Group
from twinsite.messages import Failure, MemberStatus, Mode, ResyncReport

DISK_FULL = Failure("37100178", "no space left")


async def test_a_pair_is_created_and_shown(site: Site) -> None:
    production, dr = await site.make_volume("az1"), await site.make_volume("az2")
    body = {
        "name": "pair",
        "description": "text",
        "volume_ids": [dr["id"], production["id"]],
        "priority_station": "az1",
        "replication_model": "hypermetro",
    }
    answer = await site.call("POST", PAIRS, {"replication": body})
    assert answer.status_code == 202
    PairCreatedOne.model_validate(answer.json())
    created = answer.json()["replication"]
    assert (created["status"], created["updated_at"]) == ("creating", None)
    shown = await site.call("GET", f"{PAIRS}/{created['id']}")
    PairOne.model_validate(shown.json())
    pair = shown.json()["replication"]
    assert pair["volume_ids"] == f"{dr['id']},{production['id']}"
    assert (pair["status"], pair["replication_status"], pair["progress"]) == ("available", "inactive", None)
    assert (pair["fault_level"], pair["failure_detail"]) == ("0", None)
    assert json.loads(pair["record_metadata"]) == {"volume_size": 1, "volume_type": "SSD", "multiattach": False}
    assert (await site.call("DELETE", f"{PAIRS}/{created['id']}")).status_code == 202
    assert (await site.call("GET", f"{PAIRS}/{created['id']}")).status_code == 404
    for volume in (production, dr):
        assert (await site.call("DELETE", f"/volumes/{volume['id']}")).status_code == 202


async def test_a_pair_waits_for_its_volumes(site: Site) -> None:
    ids = []
    for zone in ("az1", "az2"):
        answer = await site.call("POST", "/volumes", {"volume": {"size": 1, "availability_zone": zone}})
        ids.append(answer.json()["volume"]["id"])
    body = {"volume_ids": ids, "priority_station": "az2", "replication_model": "hypermetro"}
    pair_id = (await site.call("POST", PAIRS, {"replication": body})).json()["replication"]["id"]
    assert (await site.show_pair(pair_id))["status"] == "creating"
    refused = await site.call("POST", GROUPS, {"replication_consistency_group": group_fields([pair_id])})
    assert "creating" in refused.text
    site.az2.volume_failures[ids[1]] = DISK_FULL
    await site.settle()
    pair = await site.show_pair(pair_id)
    assert (pair["status"], pair["failure_detail"]) == ("error", "37100178: no space left")
    site.az2.volume_failures.clear()
    await site.settle()
    pair = await site.show_pair(pair_id)
    assert (pair["status"], pair["failure_detail"]) == ("available", None)


async def test_a_group_is_available_once_both_workers_took_it_up(site: Site) -> None:
    pairs = [await site.make_pair() for _ in range(2)]
    ids = [pair["id"] for pair in reversed(pairs)]
    answer = await site.call("POST", GROUPS, {"replication_consistency_group": group_fields(ids, name="g")})
    assert answer.status_code == 202
    GroupCreatedOne.model_validate(answer.json())
    created = answer.json()["replication_consistency_group"]
    assert (created["status"], created["replication_ids"]) == ("creating", ids)
    group_id = created["id"]

    primary = (await site.az1.post()).workers[0]
    secondary = (await site.az2.post()).workers[0]
    assert (primary.role, secondary.role) == ("primary", "secondary")
    assert primary.id == secondary.id == group_id
    assert primary.term == secondary.term == 1
    assert primary.replication == "paused"
    assert primary.stream_key == secondary.stream_key
    assert len(bytes.fromhex(primary.stream_key)) == 32
    assert primary.peer_endpoint is None
    volumes = [(await site.show_pair(pair_id))["volume_ids"].split(",") for pair_id in ids]
    assert [(member.index, member.volume_id) for member in primary.members] == [(0, volumes[0][0]), (1, volumes[1][0])]
    assert [(member.index, member.volume_id) for member in secondary.members] == [
        (0, volumes[0][1]),
        (1, volumes[1][1]),
    ]

    await site.az1.step()
    assert (await site.show_group(group_id))["status"] == "creating"
    await site.settle()
    answer = await site.call("GET", f"{GROUPS}/{group_id}")
    GroupOne.model_validate(answer.json())
    group = answer.json()["replication_consistency_group"]
    assert (group["status"], group["replication_status"], group["name"]) == ("available", "inactive", "g")
    assert group["replication_ids"] == ids
    GroupList.model_validate((await site.call("GET", GROUPS)).json())
    PairList.model_validate((await site.call("GET", PAIRS)).json())


async def test_the_secondarys_endpoint_reaches_the_primary(site: Site) -> None:
    group = await site.make_group()
    spec = site.az1.desired.workers[0] if site.az1.desired is not None else None
    assert spec is not None
    assert spec.peer_endpoint == "127.0.0.1:7001"
    site.az2.stream_port = 7002
    await site.settle()
    moved = (await site.az1.post()).workers[0]
    assert moved.peer_endpoint == "127.0.0.1:7002"
    assert moved.version > spec.version
    assert (await site.show_group(group["id"]))["status"] == "available"


async def test_a_worker_that_fails_puts_a_new_group_into_error(site: Site) -> None:
    pair = await site.make_pair()
    answer = await site.call("POST", GROUPS, {"replication_consistency_group": group_fields([pair["id"]])})
    group_id = answer.json()["replication_consistency_group"]["id"]
    site.az2.worker_failures[group_id] = DISK_FULL
    await site.settle()
    group = await site.show_group(group_id)
    assert (group["status"], group["failure_detail"]) == ("error", "37100178: no space left")
    # The way out of error: take the pairs out, delete the group.
    body = {"replication_consistency_group": {"remove_replication_ids": [pair["id"]]}}
    assert (await site.call("PUT", f"{GROUPS}/{group_id}", body)).status_code == 202
    await site.settle()
    assert (await site.call("DELETE", f"{GROUPS}/{group_id}")).status_code == 202
    assert (await site.call("GET", f"{GROUPS}/{group_id}")).status_code == 404
    assert (await site.call("DELETE", f"{PAIRS}/{pair['id']}")).status_code == 202


async def test_sync_copies_and_then_is_active(site: Site) -> None:
    group = await site.make_group(2)
    site.az1.primary_mode = Mode.COPYING
    answer = await site.act(group["id"], "sync")
    assert (answer.status_code, answer.content) == (200, b"")
    # A client that looks before the worker began must not see an interruption.
    assert (await site.show_group(group["id"]))["replication_status"] == "copying"
    await site.settle()
    volumes = [member["production_volume_id"] for member in (await site.show_group(group["id"]))["twinsite"]["members"]]
    site.az1.alter(
        group["id"],
        members=[
            MemberStatus(volumes[0], True, resync_bytes_total=1000, resync_bytes_done=1000),
            MemberStatus(volumes[1], True, resync_bytes_total=1000, resync_bytes_done=429, dirty_bytes=571),
        ],
        resync=ResyncReport("full", 1_767_225_600.5, None, 2000, 1429, 1400, 29, 12.5, 45.0),
        dirty_bytes=571,
    )
    await site.az1.post()
    shown = await site.show_group(group["id"])
    assert shown["replication_status"] == "copying"
    extras = shown["twinsite"]
    assert (extras["mode"], extras["replication"]) == ("copying", "running")
    progress = {"bytes_total": 2000, "bytes_done": 1429, "percent": 71, "bytes_per_second": 12.5, "seconds_left": 45.0}
    assert extras["progress"] == progress
    assert extras["last_resync"]["started_at"] == "2026-01-01T00:00:00.500000"
    assert extras["last_resync"]["kind"] == "full"
    pairs = [await site.show_pair(pair_id) for pair_id in group["replication_ids"]]
    assert [pair["progress"] for pair in pairs] == ["100", "42"]
    assert {pair["replication_status"] for pair in pairs} == {"copying"}

    site.az1.primary_mode = Mode.IN_SYNC
    await site.settle()
    assert (await site.show_group(group["id"]))["replication_status"] == "active"
    pairs = [await site.show_pair(pair_id) for pair_id in group["replication_ids"]]
    assert [(pair["progress"], pair["replication_status"]) for pair in pairs] == [("100", "active")] * 2


async def test_sync_is_a_no_op_while_copying_or_active(site: Site) -> None:
    group = await site.make_group()
    site.az1.primary_mode = Mode.COPYING
    for expected in ("copying", "active"):
        assert (await site.act(group["id"], "sync")).status_code == 200
        await site.settle()
        generation = site.az1.generation
        assert (await site.show_group(group["id"]))["replication_status"] == expected
        assert (await site.act(group["id"], "sync")).status_code == 200
        assert (await site.az1.post()).generation == generation
        site.az1.primary_mode = Mode.IN_SYNC
        await site.settle()


async def test_sync_after_an_interruption_asks_again(site: Site) -> None:
    group = await site.make_group()
    site.settings.sync_grace_seconds = 1e-9
    site.az1.primary_mode = Mode.CONNECTING
    await site.act(group["id"], "sync")
    await site.settle()
    shown = await site.show_group(group["id"])
    assert (shown["replication_status"], shown["fault_level"]) == ("inactive", "5")
    assert (await site.show_pair(group["replication_ids"][0]))["fault_level"] == "5"
    generation = site.az1.generation
    assert (await site.act(group["id"], "sync")).status_code == 200
    assert (await site.az1.post()).generation > generation


async def test_an_interruption_is_told_at_once_however_young_the_sync_is(site: Site) -> None:
    group = await site.make_group()
    await site.act(group["id"], "sync")
    await site.settle()
    unreachable = Failure("37100043", "the other site's worker cannot be reached")
    site.az1.alter(group["id"], mode=Mode.CONNECTING, failure=unreachable)
    await site.az1.post()
    shown = await site.show_group(group["id"])
    assert (shown["replication_status"], shown["fault_level"]) == ("inactive", "5")
    assert shown["failure_detail"] == "37100043: the other site's worker cannot be reached"
    pair = await site.show_pair(group["replication_ids"][0])
    assert (pair["replication_status"], pair["fault_level"]) == ("inactive", "5")
    assert pair["failure_detail"] == shown["failure_detail"]


async def test_a_full_disk_is_told_in_group_and_pair(site: Site) -> None:
    group = await site.make_group(2)
    await site.act(group["id"], "sync")
    await site.settle()
    status = site.az1.workers[group["id"]].status
    assert status is not None
    broken = replace(status.members[1], failure=DISK_FULL)
    site.az1.alter(group["id"], mode=Mode.ERROR, members=[status.members[0], broken], failure=DISK_FULL)
    await site.az1.post()
    shown = await site.show_group(group["id"])
    assert (shown["replication_status"], shown["failure_detail"]) == ("error", "37100178: no space left")
    pairs = [await site.show_pair(pair_id) for pair_id in group["replication_ids"]]
    assert [pair["replication_status"] for pair in pairs] == ["inactive", "error"]
    assert [pair["failure_detail"] for pair in pairs] == [None, "37100178: no space left"]
    # Sync is allowed in error too, and hands the worker a new spec.
    generation = site.az1.generation
    assert (await site.act(group["id"], "sync")).status_code == 200
    assert (await site.az1.post()).generation > generation
    await site.settle()
    assert (await site.show_group(group["id"]))["replication_status"] == "active"


async def test_stop_is_in_force_before_its_answer(site: Site) -> None:
    group = await site.make_group()
    await site.act(group["id"], "sync")
    await site.settle()
    call = asyncio.create_task(site.act(group["id"], "stop"))
    desired = await site.az1.post(wait_seconds=10)
    assert desired.workers[0].replication == "paused"
    # The node has the wish, the worker has not confirmed it: too early for a 200.
    await site.az1.post()
    assert not call.done()
    assert (await site.show_group(group["id"]))["replication_status"] == "active"
    site.az1.obey(desired)
    await site.az1.post()
    answer = await call
    assert (answer.status_code, answer.content) == (200, b"")
    assert (await site.show_group(group["id"]))["replication_status"] == "active-stopped"


async def test_stop_while_copying_makes_the_group_inactive(site: Site) -> None:
    group = await site.make_group()
    site.az1.primary_mode = Mode.COPYING
    await site.act(group["id"], "sync")
    async with site.nodes_running():
        assert (await site.act(group["id"], "stop")).status_code == 200
        assert (await site.show_group(group["id"]))["replication_status"] == "inactive"
        generation = site.az1.generation
        assert (await site.act(group["id"], "stop")).status_code == 200
    assert site.az1.generation == generation


async def test_a_stop_that_is_not_confirmed_says_so(site: Site) -> None:
    group = await site.make_group()
    await site.act(group["id"], "sync")
    await site.settle()
    site.settings.stop_wait_seconds = 0.05
    answer = await site.act(group["id"], "stop")
    assert answer.status_code == 503
    assert "37100043" in answer.text
    assert "Repeat the stop" in answer.text


async def test_a_dead_worker_does_not_hold_up_a_stop(site: Site) -> None:
    group = await site.make_group()
    await site.act(group["id"], "sync")
    await site.settle()
    site.az1.worker_failures[group["id"]] = DISK_FULL
    await site.settle()
    call = asyncio.create_task(site.act(group["id"], "stop"))
    desired = await site.az1.post(wait_seconds=10)
    # The node has not said that it knows of the pause: it might start the worker with the old wish.
    assert not call.done()
    site.az1.obey(desired)
    await site.az1.post()
    assert (await call).status_code == 200


ACTION_NAMES = {
    GroupCall.SYNC: "sync",
    GroupCall.STOP: "stop",
    GroupCall.FAIL_OVER: "failover",
    GroupCall.REVERSE: "reverse",
    GroupCall.REPROTECT: "reprotect",
}
OTHER_REASONS = {
    GroupCall.DELETE: (400, "remove_replication_ids"),
    GroupCall.FAIL_OVER: (400, "is stale"),
    GroupCall.REVERSE: (400, "needs 'active'"),
    GroupCall.EXTEND: (400, "bytes free"),
}
LEADS_TO = {
    (GroupCall.SYNC, GroupStatus.FAILED_OVER): "available",
    (GroupCall.SYNC, GroupStatus.ERROR_REVERSING): "available",
    (GroupCall.REPROTECT, GroupStatus.FAILED_OVER): "available",
    (GroupCall.FAIL_OVER, GroupStatus.ERROR_FAILING_OVER): "failovering",
}


async def test_every_call_in_every_status(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def rest() -> None:
        """Take no step: the controller looks once a second whether a group is due for one."""

    monkeypatch.setattr(site.controller.reconciler, "settle_moves", rest)
    site.controller.context.presence.silence_seconds = 3600.0  # However long this takes, the sites count as there.
    group = await site.make_group()
    path = f"{GROUPS}/{group['id']}"
    for status, action in itertools.product(GroupStatus, GroupCall):
        async with site.controller.context.database.write() as session:
            stored = await session.get_one(Group, group["id"])
            stored.status, stored.replication, stored.wish_version = status.value, "paused", 1
        if action in ACTION_NAMES:
            answer = await site.act(group["id"], ACTION_NAMES[action])
        elif action is GroupCall.EXTEND:
            value = {"id": group["replication_ids"][0], "new_size": 60_000}
            answer = await site.act(group["id"], "os-extend-replication-volumes", value)
        elif action is GroupCall.UPDATE:
            answer = await site.call("PUT", path, {"replication_consistency_group": {}})
        else:
            answer = await site.call("DELETE", path)
        shown = await site.show_group(group["id"])
        if status in GROUP_ADMITS[action]:
            # Some are refused all the same, each for a reason of its own.
            expected, reason = OTHER_REASONS.get(action, (202 if action is GroupCall.UPDATE else 200, ""))
            if (action, status) == (GroupCall.FAIL_OVER, GroupStatus.ERROR_FAILING_OVER):
                expected, reason = 200, ""
            assert (answer.status_code, reason in answer.text) == (expected, True), (action, status)
            assert shown["status"] == LEADS_TO.get((action, status), status.value)
        else:
            assert (answer.status_code, status.value in answer.text) == (400, True)
            assert (shown["status"], shown["twinsite"]["replication"]) == (status.value, "paused")


async def test_actions_on_a_silent_site_change_nothing(site: Site) -> None:
    group = await site.make_group()
    before = await site.show_group(group["id"])
    presence = site.controller.context.presence
    for action, value in (("sync", None), ("failover", None), ("failover", {"force": True})):
        silence, presence.silence_seconds = presence.silence_seconds, 0.0
        answer = await site.act(group["id"], action, value)
        presence.silence_seconds = silence
        assert answer.status_code == 503
        assert "37100043" in answer.text
        assert await site.show_group(group["id"]) == before


async def test_an_update_moves_pairs_and_keeps_the_others_indexes(site: Site) -> None:
    group = await site.make_group(3)
    extra = await site.make_pair()
    first, second, third = group["replication_ids"]
    fields = {"remove_replication_ids": [second], "add_replication_ids": [extra["id"]], "name": "new"}
    answer = await site.call("PUT", f"{GROUPS}/{group['id']}", {"replication_consistency_group": fields})
    assert answer.status_code == 202
    GroupCreatedOne.model_validate(answer.json())
    changed = answer.json()["replication_consistency_group"]
    assert (changed["status"], changed["name"]) == ("updating", "new")
    assert changed["replication_ids"] == [first, third, extra["id"]]
    # While it is updating it admits only reads.
    for action in ("sync", "stop"):
        refused = await site.act(group["id"], action)
        assert (refused.status_code, "updating" in refused.text) == (400, True)
    assert (await site.call("PUT", f"{GROUPS}/{group['id']}", {"replication_consistency_group": {}})).status_code == 400
    assert (await site.call("DELETE", f"{GROUPS}/{group['id']}")).status_code == 400
    await site.settle()
    shown = await site.show_group(group["id"])
    assert shown["status"] == "available"
    assert [member["index"] for member in shown["twinsite"]["members"]] == [0, 2, 3]
    assert (await site.show_pair(second))["replication_consistency_group_id"] is None
    assert (await site.call("DELETE", f"{PAIRS}/{second}")).status_code == 202


async def test_an_update_that_moves_pairs_waits_for_a_worker_that_has_just_started(site: Site) -> None:
    group = await site.make_group(pairs=2)
    body = {"replication_consistency_group": {"remove_replication_ids": group["replication_ids"][:1]}}
    worker = site.az1.workers[group["id"]]
    assert worker.status is not None
    started = replace(worker.status, spec_version=0, mode=Mode.STARTING)
    site.az1.workers[group["id"]] = replace(worker, pid=(worker.pid or 0) + 1, status=started)
    await site.az1.post()
    answer = await site.call("PUT", f"{GROUPS}/{group['id']}", body)
    assert answer.status_code == 503, answer.text
    assert "not yet confirmed by the primary worker in az1" in answer.text
    await site.settle()
    assert (await site.call("PUT", f"{GROUPS}/{group['id']}", body)).status_code == 202


async def test_an_update_that_moves_pairs_needs_a_pause(site: Site) -> None:
    group = await site.make_group(2)
    await site.act(group["id"], "sync")
    await site.settle()
    body = {"replication_consistency_group": {"remove_replication_ids": group["replication_ids"][:1]}}
    answer = await site.call("PUT", f"{GROUPS}/{group['id']}", body)
    assert answer.status_code == 400
    assert "os-stop-replication-consistency-group" in answer.text
    renamed = await site.call("PUT", f"{GROUPS}/{group['id']}", {"replication_consistency_group": {"name": "x"}})
    assert renamed.status_code == 202
    shown = await site.show_group(group["id"])
    assert (shown["name"], shown["status"], shown["replication_status"]) == ("x", "available", "active")


async def test_an_emptied_group_frees_its_volumes_before_it_is_available(site: Site) -> None:
    group = await site.make_group(2)
    body = {"replication_consistency_group": {"remove_replication_ids": group["replication_ids"]}}
    assert (await site.call("PUT", f"{GROUPS}/{group['id']}", body)).status_code == 202
    assert (await site.show_group(group["id"]))["status"] == "updating"
    await site.settle()
    assert site.az1.workers == site.az2.workers == {}
    shown = await site.show_group(group["id"])
    assert (shown["status"], shown["replication_ids"]) == ("available", [])
    for action in ("sync", "stop"):
        assert (await site.act(group["id"], action)).status_code == 200
    # Pairs may come back, as other members: what workers remember of the first ones is no longer true.
    body = {"replication_consistency_group": {"add_replication_ids": group["replication_ids"][1:]}}
    assert (await site.call("PUT", f"{GROUPS}/{group['id']}", body)).status_code == 202
    await site.settle()
    shown = await site.show_group(group["id"])
    assert [member["index"] for member in shown["twinsite"]["members"]] == [2]
    assert shown["status"] == "available"


async def test_production_side_unreachable(site: Site) -> None:
    group = await site.make_group()
    await site.act(group["id"], "sync")
    await site.settle()
    site.controller.context.presence.silence_seconds = 0.0
    shown = await site.show_group(group["id"])
    assert (shown["replication_status"], shown["fault_level"]) == ("active", "2")
