"""Failover, reverse and reprotect, from the call to the workers and back."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.controller import GROUPS, Json, Site, make_settings, open_site
from tests.support.fake_node import FakeNode
from twinsite.api.answers import GroupOne, PairOne
from twinsite.control.arbiter_store import swap
from twinsite.control.repository import arbiter_rows
from twinsite.core.arbiter import Secondary, suspend_secondary
from twinsite.messages import Failure, Mode, Replication, Role, WorkerSpec

DISK_FAILS = Failure("37100177", "production storage is abnormal")
LOOKS_MAX = 400
LOOK_SECONDS = 0.02


async def active_group(site: Site, pairs: int = 1) -> Json:
    """Make a group and synchronize it."""
    group = await site.make_group(pairs)
    assert (await site.act(group["id"], "sync")).status_code == 200
    await site.settle()
    shown = await show(site, group["id"])
    assert (shown["replication_status"], shown["twinsite"]["secondary"]) == ("active", "in_sync")
    return shown


async def stale_group(site: Site, dirty_bytes: int = 4096) -> Json:
    """Make a group whose production goes on alone after it was in sync."""
    group = await active_group(site)
    site.settings.sync_grace_seconds = 1e-9
    site.az1.primary_mode = Mode.CONNECTING
    await site.settle()
    site.az1.alter(group["id"], dirty_bytes=dirty_bytes)
    await site.az1.post()
    return await show(site, group["id"])


async def show(site: Site, group_id: str) -> Json:
    """Show a group, holding the answer to its documented shape; its pairs are held to it too."""
    answer = await site.call("GET", f"{GROUPS}/{group_id}")
    GroupOne.model_validate(answer.json())
    group: Json = answer.json()["replication_consistency_group"]
    for pair_id in group["replication_ids"]:
        pair = await site.call("GET", f"/os-vendor-replications/{pair_id}")
        PairOne.model_validate(pair.json())
        assert pair.json()["replication"]["priority_station"] == group["priority_station"]
        assert pair.json()["replication"]["fault_level"] == group["fault_level"]
    assert group["twinsite"]["primary_station"] == group["priority_station"]
    return group


@contextlib.asynccontextmanager
async def silenced(site: Site, name: str) -> AsyncIterator[None]:
    """Make the controller believe that a site's node was never heard; it may report again afterwards."""
    presence = site.controller.context.presence
    original = presence.is_fresh

    def is_fresh(site: str, last_seen_at: datetime.datetime | None, now: datetime.datetime) -> bool:
        return site != name and original(site, last_seen_at, now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presence, "is_fresh", is_fresh)
        yield


def spec(node: FakeNode) -> WorkerSpec:
    """Return the one worker that a node is asked for."""
    assert node.desired is not None
    (worker,) = node.desired.workers
    return worker


def state(group: Json) -> tuple[Any, ...]:
    """Return what tells where a group is on its way."""
    return (
        group["status"],
        group["replication_status"],
        group["priority_station"],
        group["twinsite"]["term"],
        group["twinsite"]["secondary"],
    )


async def connect(site: Site, volume_id: str) -> tuple[int, str]:
    """Ask for the way to a volume."""
    body = {"os-initialize_connection": {"connector": {"host": "host-1"}}}
    answer = await site.call("POST", f"/volumes/{volume_id}/action", body)
    return answer.status_code, answer.text


async def test_failover_while_production_is_out_of_reach(site: Site) -> None:
    group = await active_group(site, 2)
    before = [await site.show_pair(pair_id) for pair_id in group["replication_ids"]]
    async with silenced(site, "az1"):
        shown = await show(site, group["id"])
        assert (shown["replication_status"], shown["fault_level"]) == ("active", "2")
        assert shown["twinsite"]["failover"] == {"possible": True, "reason": None, "loss": None}
        answer = await site.act(group["id"], "failover")
        assert (answer.status_code, answer.content) == (200, b"")
        # The promotion is durable with the answer; the new primary is not there yet.
        assert state(await show(site, group["id"])) == ("failovering", "active-stopped", "az2", 2, "stale")
        await site.az2.step()
        await site.az2.step()
        shown = await show(site, group["id"])
    assert state(shown) == ("failovered", "active-stopped", "az2", 2, "stale")
    assert (shown["fault_level"], shown["failure_detail"]) == ("0", None)
    assert shown["twinsite"]["failover"]["possible"] is False

    new = spec(site.az2)
    assert (new.role, new.term, new.replication, new.site) == (Role.PRIMARY, 2, Replication.PAUSED, "az2")
    after = [await site.show_pair(pair_id) for pair_id in group["replication_ids"]]
    assert [pair["volume_ids"] for pair in after] == [pair["volume_ids"] for pair in before]
    production = [pair["volume_ids"].split(",")[1] for pair in before]
    assert [(member.index, member.volume_id) for member in new.members] == list(enumerate(production))

    # The old site comes back: it follows the new one, and its primary can have no grant any more.
    old = spec(site.az1)
    refused = await site.az1.ask_arbiter(old, "suspend_secondary", 2)
    assert (refused["granted"], refused["reason"]) == (False, "other_term")
    await site.settle()
    returned = spec(site.az1)
    assert (returned.role, returned.term) == (Role.SECONDARY, 2)
    assert returned.arbiter_token == new.arbiter_token
    assert (await site.act(group["id"], "stop")).status_code == 200  # Paused it is already.


async def test_hosts_find_the_new_production_disks_and_no_others(site: Site) -> None:
    group = await active_group(site)
    pair = await site.show_pair(group["replication_ids"][0])
    old, new = pair["volume_ids"].split(",")
    async with site.nodes_running():
        assert (await connect(site, old))[0] == 200
        status, text = await connect(site, new)
        assert (status, "DR disk" in text) == (400, True)
        assert (await site.act(group["id"], "failover")).status_code == 200
        status, text = await connect(site, new)
        assert (status, f"socket=/run/{new}.sock" in text) == (200, True)
        status, text = await connect(site, old)
        assert (status, "DR disk" in text, new in text) == (400, True, True)
        # Whoever used the old disk can still let go of it.
        body = {"os-terminate_connection": {"connector": {"host": "host-1"}}}
        assert (await site.call("POST", f"/volumes/{old}/action", body)).status_code == 202


async def test_a_connection_that_waits_is_refused_when_the_group_moves(site: Site) -> None:
    group = await active_group(site)
    old, _ = (await site.show_pair(group["replication_ids"][0]))["volume_ids"].split(",")
    site.az1.workers = {}
    await site.az1.post()
    waiting = asyncio.create_task(connect(site, old))
    await site.az1.post(wait_seconds=10)
    assert not waiting.done()
    await site.act(group["id"], "failover")
    status, text = await waiting
    assert (status, "DR disk" in text) == (400, True)


@pytest.mark.parametrize("action", ["reprotect", "sync"])
async def test_protecting_again_follows_the_new_primary(site: Site, action: str) -> None:
    group = await active_group(site)
    await site.act(group["id"], "failover")
    await site.settle()
    async with silenced(site, "az1"):
        answer = await site.act(group["id"], action)
        assert (answer.status_code, "37100043" in answer.text) == (503, True)
    assert (await show(site, group["id"]))["status"] == "failovered"
    site.az2.primary_mode = Mode.COPYING
    answer = await site.act(group["id"], action)
    assert (answer.status_code, answer.content) == (200, b"")
    assert state(await show(site, group["id"])) == ("available", "copying", "az2", 2, "stale")
    await site.settle()
    assert (spec(site.az2).role, spec(site.az2).replication) == (Role.PRIMARY, Replication.RUNNING)
    assert spec(site.az2).peer_endpoint == "127.0.0.1:7001"
    assert spec(site.az1).role is Role.SECONDARY
    site.az2.primary_mode = Mode.IN_SYNC
    await site.settle()
    assert state(await show(site, group["id"])) == ("available", "active", "az2", 2, "in_sync")


async def test_there_and_back_again(site: Site) -> None:
    group = await active_group(site, 2)
    pairs = [await site.show_pair(pair_id) for pair_id in group["replication_ids"]]
    for term, (action, primary) in enumerate([("failover", "az2"), ("reverse", "az1"), ("failover", "az2")], start=2):
        assert (await site.act(group["id"], action)).status_code == 200
        await site.settle()
        if action == "failover":
            assert (await site.act(group["id"], "reprotect")).status_code == 200
            await site.settle()
        assert state(await show(site, group["id"])) == ("available", "active", primary, term, "in_sync")
        now = [await site.show_pair(pair_id) for pair_id in group["replication_ids"]]
        assert [pair["volume_ids"] for pair in now] == [pair["volume_ids"] for pair in pairs]
    # All of it can be taken apart afterwards.
    async with site.nodes_running():
        assert (await site.act(group["id"], "stop")).status_code == 200
    body = {"replication_consistency_group": {"remove_replication_ids": group["replication_ids"]}}
    assert (await site.call("PUT", f"{GROUPS}/{group['id']}", body)).status_code == 202
    await site.settle()
    assert (await site.call("DELETE", f"{GROUPS}/{group['id']}")).status_code == 202
    for pair in pairs:
        assert (await site.call("DELETE", f"/os-vendor-replications/{pair['id']}")).status_code == 202


async def test_a_stale_dr_side_is_not_failed_over_to(site: Site) -> None:
    group = await stale_group(site, dirty_bytes=65536)
    assert (group["replication_status"], group["fault_level"]) == ("inactive", "5")
    stale_since = group["twinsite"]["stale_since"]
    assert stale_since is not None
    assert group["twinsite"]["failover"]["possible"] is False
    loss = group["twinsite"]["failover"]["loss"]
    assert (loss["since"], loss["bytes_at_most"], loss["unflushed"]) == (stale_since, 65536, False)
    answer = await site.act(group["id"], "failover")
    message = answer.json()["badRequest"]["message"]
    assert answer.status_code == 400
    for part in (group["id"], "az2", stale_since[:19], "at most 65536 bytes", "os-sync", '{"force": true}'):
        assert part in message
    assert await show(site, group["id"]) == group

    assert (await site.act(group["id"], "failover", {"force": True})).status_code == 200
    await site.settle()
    assert state(await show(site, group["id"])) == ("failovered", "active-stopped", "az2", 2, "stale")
    assert site.az2.spec(group["id"]).loss_acceptances == 0, "a loss that was not stated was accepted"


async def test_an_inconsistent_dr_side_is_not_failed_over_to_by_force(site: Site) -> None:
    site.az2.secondaries_consistent = False
    group = await stale_group(site)
    answer = await site.act(group["id"], "failover", {"force": True})
    assert (answer.status_code, "not at one common point in time" in answer.text) == (400, True)
    assert await show(site, group["id"]) == group
    # While the arbiter has it as in sync, that record decides, and a report may be behind it.
    site.az1.primary_mode = Mode.IN_SYNC
    await site.settle()
    assert (await site.act(group["id"], "failover")).status_code == 200


async def test_a_dr_side_that_says_nothing_is_not_failed_over_to_by_force(site: Site) -> None:
    group = await stale_group(site)
    del site.az2.workers[group["id"]]
    await site.az2.post()
    answer = await site.act(group["id"], "failover", {"force": True})
    assert (answer.status_code, "does not say yet" in answer.text) == (400, True)
    assert (await show(site, group["id"]))["status"] == "available"


async def test_a_dr_side_that_may_have_lost_writes_is_failed_over_to_by_force_only(site: Site) -> None:
    group = await active_group(site)
    site.az2.alter(group["id"], doubtful=True)
    await site.az2.post()
    shown = await show(site, group["id"])
    assert (shown["twinsite"]["secondary"], shown["twinsite"]["failover"]["possible"]) == ("in_sync", False)
    assert shown["twinsite"]["failover"]["loss"]["unflushed"] is True
    answer = await site.act(group["id"], "failover")
    assert (answer.status_code, "not flushed by any host" in answer.text) == (400, True)
    assert await show(site, group["id"]) == shown
    assert site.az2.spec(group["id"]).loss_acceptances == 0
    assert (await site.act(group["id"], "failover", {"force": True})).status_code == 200
    await site.az2.post()
    assert site.az2.spec(group["id"]).loss_acceptances == 1


async def test_a_primary_that_lacks_writes_goes_on_when_it_is_stopped_by_force(site: Site) -> None:
    group = await active_group(site)
    async with site.nodes_running():
        assert (await site.act(group["id"], "stop")).status_code == 200
        assert site.az1.spec(group["id"]).loss_acceptances == 0
        assert (await site.act(group["id"], "stop", {"force": 1})).status_code == 400
        assert (await site.act(group["id"], "stop", {"force": True})).status_code == 200
        assert site.az1.spec(group["id"]).loss_acceptances == 1


async def test_a_group_that_holds_is_failed_over(site: Site) -> None:
    group = await active_group(site)
    site.az1.alter(group["id"], mode=Mode.HOLDING, holding_since=1_767_225_600.0, acknowledged_sequence=41)
    site.az2.alter(group["id"], acknowledged_sequence=42)
    await site.az1.post()
    await site.az2.post()
    shown = await show(site, group["id"])
    assert (shown["replication_status"], shown["fault_level"]) == ("inactive", "2")
    assert "writes wait" in shown["failure_detail"]
    extras = shown["twinsite"]
    assert (extras["mode"], extras["holding_since"]) == ("holding", "2026-01-01T00:00:00.000000")
    assert (extras["last_acknowledged_sequence"], extras["last_applied_sequence"]) == (41, 42)
    assert extras["failure"]["code"] == "37100043"
    assert extras["failover"]["possible"] is True
    assert (await site.act(group["id"], "failover")).status_code == 200
    await site.settle()
    assert (await show(site, group["id"]))["status"] == "failovered"


async def test_failover_needs_the_dr_site(site: Site) -> None:
    group = await active_group(site)
    async with silenced(site, "az2"):
        for value in (None, {"force": True}):
            answer = await site.act(group["id"], "failover", value)
            assert (answer.status_code, "37100043" in answer.text) == (503, True)
        assert (await show(site, group["id"]))["twinsite"]["failover"]["possible"] is False
    assert state(await show(site, group["id"])) == ("available", "active", "az1", 1, "in_sync")


async def test_a_new_primary_that_cannot_serve(site: Site) -> None:
    group = await active_group(site)
    site.az2.worker_failures[group["id"]] = DISK_FAILS
    await site.act(group["id"], "failover")
    await site.settle()
    shown = await show(site, group["id"])
    assert (shown["status"], shown["failure_detail"]) == (
        "error_failovering",
        "37100177: production storage is abnormal",
    )
    assert (shown["priority_station"], shown["twinsite"]["term"]) == ("az2", 2)
    # A repeated failover waits for the same new primary: it moves nothing back.
    assert (await site.act(group["id"], "failover")).status_code == 200
    shown = await show(site, group["id"])
    assert (shown["status"], shown["priority_station"], shown["twinsite"]["term"]) == ("failovering", "az2", 2)
    site.az2.worker_failures.clear()
    await site.settle()
    assert state(await show(site, group["id"])) == ("failovered", "active-stopped", "az2", 2, "stale")


async def test_a_new_primary_that_fails_for_good_is_left_again_by_force(site: Site) -> None:
    group = await active_group(site)
    site.az2.worker_failures[group["id"]] = DISK_FAILS
    await site.act(group["id"], "failover")
    await site.settle()
    outlook = (await show(site, group["id"]))["twinsite"]["failover"]
    assert outlook["possible"] is False
    assert "goes back to az1" in outlook["reason"]
    assert outlook["loss"] is not None
    async with silenced(site, "az1"):
        assert (await site.act(group["id"], "failover", {"force": True})).status_code == 503
    assert (await show(site, group["id"]))["status"] == "error_failovering"
    assert (await site.act(group["id"], "failover", {"force": True})).status_code == 200
    await site.settle()
    assert state(await show(site, group["id"])) == ("failovered", "active-stopped", "az1", 3, "stale")
    assert (await site.act(group["id"], "sync")).status_code == 200


async def failed_over_to_nobody(site: Site) -> Json:
    """Fail a group over to a site that dies before it serves; the controller is old enough to tell who is silent."""
    site.controller.context.presence.started_at -= 1_000
    group = await active_group(site)
    site.settings.failover_wait_seconds = 1e-6
    assert (await site.act(group["id"], "failover")).status_code == 200
    site.settings.failover_wait_seconds = 60.0
    await site.controller.reconciler.settle_moves()
    for _ in range(3):
        await site.az1.step()
    shown = await show(site, group["id"])
    assert (shown["status"], spec(site.az1).role) == ("error_failovering", Role.SECONDARY)
    return shown


@pytest.mark.parametrize("is_given_up", [False, True], ids=["silent", "given up"])
async def test_a_new_primary_that_is_gone_is_left_again_by_force(site: Site, is_given_up: bool) -> None:
    group = await failed_over_to_nobody(site)
    assert group["twinsite"]["failover"]["possible"] is True  # Its node is there, so it is waited for.
    async with silenced(site, "az2"):
        if is_given_up:
            answer = await site.call("POST", "/os-vendor-sites/az2/action", {"os-forget-site": None})
            assert answer.status_code == 200
        outlook = (await show(site, group["id"]))["twinsite"]["failover"]
        assert outlook["possible"] is False
        assert "goes back to az1" in outlook["reason"]
        assert (outlook["loss"]["since"], outlook["loss"]["bytes_at_most"]) == (group["twinsite"]["stale_since"], None)
        answer = await site.act(group["id"], "failover")
        assert (answer.status_code, "goes back to az1" in answer.text) == (503, True)
        answer = await site.act(group["id"], "failover", {"force": True, "priority_station": "az2"})
        assert (answer.status_code, "makes az1 primary" in answer.text) == (400, True)
        assert state(await show(site, group["id"])) == state(group)

        assert (await site.act(group["id"], "failover", {"force": True})).status_code == 200
        for _ in range(3):
            await site.az1.step()
        assert state(await show(site, group["id"])) == ("failovered", "active-stopped", "az1", 3, "stale")
        assert (spec(site.az1).role, spec(site.az1).term) == (Role.PRIMARY, 3)
    # The site that was promoted in vain can get neither kind of acknowledgement when it comes back.
    late = dataclasses.replace(spec(site.az1), site="az2", term=2)
    for call in ("suspend_secondary", "secondary_in_sync"):
        assert (await site.az2.ask_arbiter(late, call, 3))["granted"] is False
    if not is_given_up:
        await site.settle()
        assert (await site.act(group["id"], "reprotect")).status_code == 200
        await site.settle()
        assert state(await show(site, group["id"])) == ("available", "active", "az1", 3, "in_sync")


async def test_no_way_back_is_promised_to_a_former_primary_that_is_not_promoted(site: Site) -> None:
    group = await failed_over_to_nobody(site)
    async with silenced(site, "az2"):
        del site.az1.workers[group["id"]]
        await site.az1.post()
        outlook = (await show(site, group["id"]))["twinsite"]["failover"]
        assert ("does not say yet" in outlook["reason"], "goes back" in outlook["reason"]) == (True, False)
        answer = await site.act(group["id"], "failover", {"force": True})
        assert (answer.status_code, "does not say yet" in answer.text) == (400, True)
        site.az1.secondaries_consistent = False
        await site.az1.step()
        await site.az1.post()
        outlook = (await show(site, group["id"]))["twinsite"]["failover"]
        assert ("one common point" in outlook["reason"], "goes back" in outlook["reason"]) == (True, False)
        answer = await site.act(group["id"], "failover", {"force": True})
        assert (answer.status_code, "one common point" in answer.text) == (400, True)
    assert state(await show(site, group["id"])) == state(group)


async def test_a_controller_that_starts_does_not_leave_a_new_primary_before_it_can_be_heard(site: Site) -> None:
    group = await failed_over_to_nobody(site)
    presence = site.controller.context.presence
    presence.started_at = asyncio.get_running_loop().time()
    async with silenced(site, "az2"):
        assert (await site.act(group["id"], "failover", {"force": True})).status_code == 503
    assert state(await show(site, group["id"])) == state(group)


async def test_a_new_primary_that_is_late_and_comes_all_the_same(site: Site) -> None:
    site.settings.failover_wait_seconds = 1e-6
    group = await active_group(site)
    await site.act(group["id"], "failover")
    await site.controller.reconciler.settle_moves()
    shown = await show(site, group["id"])
    assert (shown["status"], "did not serve in time" in shown["failure_detail"]) == ("error_failovering", True)
    await site.settle()
    assert state(await show(site, group["id"])) == ("failovered", "active-stopped", "az2", 2, "stale")


async def test_reverse_swaps_the_sites_without_a_loss(site: Site) -> None:
    group = await active_group(site, 2)
    answer = await site.act(group["id"], "reverse")
    assert (answer.status_code, answer.content) == (200, b"")
    assert state(await show(site, group["id"])) == ("reversing", "active", "az1", 1, "in_sync")
    desired = await site.az1.post()
    assert (desired.workers[0].replication, desired.workers[0].role) == (Replication.HANDOVER, Role.PRIMARY)
    # Nothing is switched before the primary says that it has handed over, under this very wish.
    await site.az2.post()
    assert (await show(site, group["id"]))["twinsite"]["term"] == 1
    site.az1.obey(desired)
    await site.az1.post()
    shown = await show(site, group["id"])
    assert state(shown) == ("reversing", "active", "az2", 2, "in_sync")
    assert shown["fault_level"] == "0"
    new = (await site.az2.post()).workers[0]
    assert (new.role, new.term, new.replication) == (Role.PRIMARY, 2, Replication.RUNNING)
    assert new.peer_endpoint is None  # The new secondary has yet to say where it listens.
    await site.settle()
    assert state(await show(site, group["id"])) == ("available", "active", "az2", 2, "in_sync")
    assert spec(site.az1).role is Role.SECONDARY


async def test_reverse_needs_an_active_group_and_both_sites(site: Site) -> None:
    group = await site.make_group()
    answer = await site.act(group["id"], "reverse")
    assert (answer.status_code, "needs 'active'" in answer.text) == (400, True)
    await site.act(group["id"], "sync")
    await site.settle()
    for name in ("az1", "az2"):
        async with silenced(site, name):
            answer = await site.act(group["id"], "reverse")
            assert (answer.status_code, name in answer.text) == (503, True)
    assert (await show(site, group["id"]))["status"] == "available"


async def start_reverse(site: Site) -> Json:
    """Bring a group to the point where its primary has the wish and does not hand over."""
    group = await active_group(site)
    site.az1.hands_over = False
    await site.act(group["id"], "reverse")
    await site.settle()
    assert (await show(site, group["id"]))["status"] == "reversing"
    return group


async def assert_rolled_back(site: Site, group: Json) -> Json:
    """Check that a reversal has failed before the switch."""
    shown = await show(site, group["id"])
    assert (shown["status"], shown["priority_station"], shown["twinsite"]["term"]) == ("error_reversing", "az1", 1)
    assert shown["twinsite"]["replication"] == "running"
    assert shown["failure_detail"] is not None
    return shown


async def test_a_reverse_that_is_too_slow_is_rolled_back(site: Site) -> None:
    site.settings.reverse_wait_seconds = 1e-6
    group = await start_reverse_late(site)
    shown = await assert_rolled_back(site, group)
    assert "did not hand over in time" in shown["failure_detail"]
    await site.settle()
    assert spec(site.az1).replication is Replication.RUNNING
    # It stays in error until somebody decides, and a word from before the roll-back changes nothing.
    assert (await show(site, group["id"]))["status"] == "error_reversing"
    site.az1.alter(group["id"], mode=Mode.HANDED_OVER, spec_version=spec(site.az1).version - 1)
    site.az1.pid += 1
    await site.az1.post()
    assert state(await show(site, group["id"]))[2:] == ("az1", 1, "in_sync")


async def start_reverse_late(site: Site) -> Json:
    """Start a reversal whose time is over as soon as the controller looks."""
    group = await active_group(site)
    site.az1.hands_over = False
    await site.act(group["id"], "reverse")
    await site.controller.reconciler.settle_moves()
    return group


@pytest.mark.parametrize("way_out", ["sync", "reverse", "failover"])
async def test_the_ways_out_of_a_reverse_that_failed(site: Site, way_out: str) -> None:
    site.settings.reverse_wait_seconds = 1e-6
    group = await start_reverse_late(site)
    await assert_rolled_back(site, group)
    await site.settle()
    site.settings.reverse_wait_seconds = 60.0
    site.az1.hands_over = True
    assert (await site.act(group["id"], way_out)).status_code == 200
    await site.settle()
    shown = await show(site, group["id"])
    expected = {
        "sync": ("available", "active", "az1", 1, "in_sync"),
        "reverse": ("available", "active", "az2", 2, "in_sync"),
        "failover": ("failovered", "active-stopped", "az2", 2, "stale"),
    }
    assert state(shown) == expected[way_out]
    assert shown["failure_detail"] is None


async def test_a_primary_that_falls_silent_before_the_switch(site: Site) -> None:
    group = await start_reverse(site)
    await site.controller.reconciler.settle_moves()
    assert (await show(site, group["id"]))["status"] == "reversing"
    async with silenced(site, "az1"):
        await site.controller.reconciler.settle_moves()
    shown = await assert_rolled_back(site, group)
    assert "the node of az1 is not connected" in shown["failure_detail"]


async def test_a_primary_that_dies_before_the_switch(site: Site) -> None:
    group = await start_reverse(site)
    site.az1.worker_failures[group["id"]] = DISK_FAILS
    await site.settle()
    shown = await assert_rolled_back(site, group)
    assert shown["failure_detail"] == "37100177: production storage is abnormal"
    assert shown["fault_level"] == "2"
    assert (await site.act(group["id"], "failover")).status_code == 200
    await site.settle()
    assert (await show(site, group["id"]))["status"] == "failovered"


async def test_a_primary_that_goes_on_alone_before_the_switch(site: Site) -> None:
    group = await start_reverse(site)
    async with site.controller.context.database.read() as session:
        row = await arbiter_rows.find(session, group["id"])
    assert row is not None
    granted = await site.az1.ask_arbiter(spec(site.az1), "suspend_secondary", row.version)
    assert granted["granted"]
    await site.controller.reconciler.settle_moves()
    shown = await assert_rolled_back(site, group)
    assert "lost the other side" in shown["failure_detail"]


async def test_after_the_switch_there_is_only_forward(site: Site) -> None:
    group = await active_group(site)
    site.az2.primary_mode = Mode.COPYING
    await site.act(group["id"], "reverse")
    await site.settle()
    assert (await show(site, group["id"]))["status"] == "reversing"
    async with site.controller.context.database.write() as session:
        await (await session.connection()).exec_driver_sql(
            "UPDATE replication_groups SET move_deadline = '2026-01-01 00:00:00.000000'"
        )
    await site.controller.reconciler.settle_moves()
    shown = await show(site, group["id"])
    assert (shown["status"], shown["priority_station"], shown["twinsite"]["term"]) == ("error_reversing", "az2", 2)
    assert "did not mirror in time" in shown["failure_detail"]
    # The new primary is not given up: once it mirrors, all is well.
    site.az2.primary_mode = Mode.IN_SYNC
    await site.settle()
    shown = await show(site, group["id"])
    assert state(shown) == ("available", "active", "az2", 2, "in_sync")
    assert shown["failure_detail"] is None


async def test_deadlines_need_nobody_who_looks(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, poll_seconds=0.02, reverse_wait_seconds=0.01)
    async with open_site(settings) as site:
        group = await active_group(site)
        site.az1.hands_over = False
        await site.act(group["id"], "reverse")
        for _ in range(LOOKS_MAX):
            shown = await show(site, group["id"])
            if shown["status"] != "reversing":
                break
            await asyncio.sleep(LOOK_SECONDS)
        await assert_rolled_back(site, group)


@pytest.mark.parametrize("steps", range(6))
@pytest.mark.parametrize("action", ["failover", "reverse"])
async def test_a_controller_that_dies_half_way(tmp_path: Path, action: str, steps: int) -> None:
    """After every number of steps another controller goes on to the same end."""
    settings = make_settings(tmp_path)
    async with open_site(settings) as first:
        group = await active_group(first)
        await first.act(group["id"], action)
        for number in range(steps):
            await (first.az1, first.az2)[number % 2].step()
        token = first.http.headers["X-Auth-Token"]
    async with open_site(settings, token, nodes_of=first) as second:
        await second.settle()
        expected = {
            "failover": ("failovered", "active-stopped", "az2", 2, "stale"),
            "reverse": ("available", "active", "az2", 2, "in_sync"),
        }
        assert state(await show(second, group["id"])) == expected[action]


@pytest.mark.parametrize(("first", "second"), [("failover", "reverse"), ("reverse", "failover"), ("reverse", "stop")])
async def test_a_move_admits_no_other(site: Site, first: str, second: str) -> None:
    group = await active_group(site)
    await site.act(group["id"], first)
    for action in (second, "sync", "reprotect"):
        answer = await site.act(group["id"], action)
        assert (answer.status_code, "needs" in answer.text) == (400, True)
    await site.settle()
    assert (await show(site, group["id"]))["status"] in ("failovered", "available")


async def test_a_pair_joins_only_when_the_primary_has_said_that_it_goes_on_alone(site: Site) -> None:
    """A dead worker cannot say so: it may lack what only the DR side has, and must heal before it has a new disk."""
    group = await active_group(site)
    extra = await site.make_pair()
    site.az1.worker_failures[group["id"]] = DISK_FAILS
    async with site.nodes_running():
        assert (await site.act(group["id"], "stop")).status_code == 200
    assert (await show(site, group["id"]))["twinsite"]["secondary"] == "in_sync"
    body = {"replication_consistency_group": {"add_replication_ids": [extra["id"]]}}
    refused = await site.call("PUT", f"{GROUPS}/{group['id']}", body)
    assert (refused.status_code, "may lack writes that only az2 has" in refused.text) == (400, True)
    assert (await show(site, group["id"]))["replication_ids"] == group["replication_ids"]
    # A group that has no disk left lacks nothing.
    both = {"remove_replication_ids": group["replication_ids"], **body["replication_consistency_group"]}
    moved = await site.call("PUT", f"{GROUPS}/{group['id']}", {"replication_consistency_group": both})
    assert moved.status_code == 202, moved.text
    async with site.controller.context.database.read() as session:
        row = await arbiter_rows.find(session, group["id"])
    assert row is not None
    assert row.secondary is Secondary.STALE


async def test_a_stop_with_force_leads_out_of_a_change_whose_primary_waits(site: Site) -> None:
    """Where both sides may lack writes the pause is in force at no primary, and the change would never end."""
    group = await active_group(site)
    async with site.nodes_running():
        assert (await site.act(group["id"], "stop")).status_code == 200
    body = {"replication_consistency_group": {"add_replication_ids": [(await site.make_pair())["id"]]}}
    assert (await site.call("PUT", f"{GROUPS}/{group['id']}", body)).status_code == 202
    assert (await show(site, group["id"]))["status"] == "updating"
    assert (await site.act(group["id"], "stop")).status_code == 400
    before = spec(site.az1).loss_acceptances
    async with site.nodes_running():
        forced = await site.act(group["id"], "stop", {"force": True})
    assert forced.status_code == 200, forced.text
    assert spec(site.az1).loss_acceptances == before + 1


async def test_a_pair_joins_only_a_primary_that_is_heard_of(site: Site) -> None:
    """One that died between the record at the arbiter and its own may lack writes too."""
    group = await active_group(site)
    extra = await site.make_pair()
    async with site.nodes_running():
        assert (await site.act(group["id"], "stop")).status_code == 200
    async with site.controller.context.database.write() as session:
        await swap(
            session,
            group["id"],
            lambda row: suspend_secondary(row, site="az1", term=row.term, version=row.version, now=1.0),
        )
    site.az1.worker_failures[group["id"]] = DISK_FAILS
    await site.settle()
    body = {"replication_consistency_group": {"add_replication_ids": [extra["id"]]}}
    refused = await site.call("PUT", f"{GROUPS}/{group['id']}", body)
    assert (refused.status_code, "is not heard of" in refused.text) == (503, True), refused.text
    assert (await show(site, group["id"]))["replication_ids"] == group["replication_ids"]


async def test_a_stop_waits_for_the_arbiters_grant(site: Site) -> None:
    group = await active_group(site)
    site.settings.stop_wait_seconds = 0.05
    call = asyncio.create_task(site.act(group["id"], "stop"))
    desired = await site.az1.post(wait_seconds=10)
    site.az1.obey(desired)
    site.az1.alter(group["id"], mode=Mode.HOLDING)  # The stream broke and the arbiter has not answered.
    await site.az1.post()
    assert (await call).status_code == 503
    site.settings.stop_wait_seconds = 30.0
    async with site.nodes_running():
        assert (await site.act(group["id"], "stop")).status_code == 200
    assert (await show(site, group["id"]))["twinsite"]["secondary"] == "stale"


async def test_a_group_without_pairs_has_nothing_to_move(site: Site) -> None:
    group = await site.make_group()
    body = {"replication_consistency_group": {"remove_replication_ids": group["replication_ids"]}}
    await site.call("PUT", f"{GROUPS}/{group['id']}", body)
    await site.settle()
    for action in ("failover", "reverse"):
        answer = await site.act(group["id"], action)
        assert (answer.status_code, "no pairs" in answer.text) == (400, True)
