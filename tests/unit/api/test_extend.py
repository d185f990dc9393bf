"""Extending the disks of pairs, from the call to both sites and back, with a death after every step."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.controller import GROUPS, Json, Site, make_settings, open_site
from tests.support.fake_node import FakeNode
from tests.support.site_fixtures import Prepared
from tests.unit.api.test_moves import active_group, silenced, spec
from twinsite.core.limits import GIB
from twinsite.messages import Failure, Mode, Role, WorkerStatus

EXTEND = "os-extend-replication-volumes"
FULL = Failure("37100177", "the pool has no room")
STEPS = 8
"""More steps than an extension takes of each node."""


def sizes(group: Json, *sizes_gib: int) -> Json:
    """Return the value of the action that gives the group's pairs, in order, these sizes."""
    pairs = zip(group["replication_ids"], sizes_gib, strict=True)
    return {"replications": [{"id": pair_id, "new_size": size_gib} for pair_id, size_gib in pairs]}


async def disks(site: Site, group: Json) -> list[tuple[int, int]]:
    """Return the shown sizes of both disks of each pair, in GiB, holding the pair's record to them."""
    shown = []
    for pair_id in group["replication_ids"]:
        pair = await site.show_pair(pair_id)
        both = [(await site.show_volume(volume_id))["size"] for volume_id in pair["volume_ids"].split(",")]
        assert json.loads(pair["record_metadata"])["volume_size"] == both[0] == both[1]
        shown.append((both[0], both[1]))
    return shown


def told(node: FakeNode) -> tuple[int, int]:
    """Return what a node was last told of its one disk, in GiB: what its worker uses, and the room behind it."""
    assert node.desired is not None
    (volume,) = node.desired.volumes
    (member,) = spec(node).members
    assert member.size_bytes == volume.size_bytes
    return volume.size_bytes // GIB, volume.room_bytes // GIB


@contextlib.asynccontextmanager
async def asked(site: Site, group: Json, *sizes_gib: int) -> AsyncIterator[asyncio.Task[httpx.Response]]:
    """Ask for an extension without waiting for its answer; it is recorded when this begins."""
    asking = asyncio.create_task(site.act(group["id"], EXTEND, sizes(group, *sizes_gib)))
    generation = site.az1.generation
    while site.az1.generation == generation and not asking.done():
        await asyncio.sleep(0.01)
        await site.az1.post()
    try:
        yield asking
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def refused(site: Site, group_id: str, value: object, status: int, *words: str) -> None:
    """Check that an extension is refused with these words, and that no disk has grown."""
    group = await site.show_group(group_id)
    before = await disks(site, group)
    answer = await site.act(group_id, EXTEND, value)
    assert answer.status_code == status, answer.text
    for word in words:
        assert word in answer.text
    assert await disks(site, group) == before


async def test_all_disks_of_the_listed_pairs_grow_and_nothing_else_changes(site: Site) -> None:
    group = await active_group(site, 3)
    before = await site.show_group(group["id"])
    async with site.nodes_running():
        answer = await site.act(group["id"], EXTEND, sizes({"replication_ids": group["replication_ids"][:2]}, 3, 2))
        assert (answer.status_code, answer.content) == (200, b"")
        assert await disks(site, group) == [(3, 3), (2, 2), (1, 1)]
        bare = {"id": group["replication_ids"][2], "new_size": 5}
        assert (await site.act(group["id"], EXTEND, bare)).status_code == 200
    assert await disks(site, group) == [(3, 3), (2, 2), (5, 5)]
    after = await site.show_group(group["id"])
    for key in ("status", "replication_status", "fault_level", "priority_station", "replication_ids"):
        assert after[key] == before[key]
    usage = (await site.call("GET", f"/os-quota-sets/{site.project_id}?usage=True")).json()["quota_set"]
    assert usage["gigabytes"]["in_use"] == 2 * (3 + 2 + 5)


async def test_room_first_then_the_dr_disk_then_the_production_disk_then_the_new_size(site: Site) -> None:
    group = await active_group(site)
    async with asked(site, group, 4) as asking:
        await site.az2.post()
        assert (told(site.az1), told(site.az2)) == ((1, 4), (1, 4))
        await site.az1.step()
        await site.az1.post()
        await site.az2.post()
        assert (told(site.az1), told(site.az2)) == ((1, 4), (1, 4)), "the DR side has no room yet"
        await site.az2.step()
        await site.az2.post()
        await site.az1.post()
        assert (told(site.az1), told(site.az2)) == ((1, 4), (4, 4)), "the DR worker has not taken it up yet"
        assert await disks(site, group) == [(1, 1)]
        await site.az2.step()
        await site.az2.post()
        await site.az1.post()
        assert (told(site.az1), told(site.az2)) == ((4, 4), (4, 4))
        assert await disks(site, group) == [(1, 1)], "the production worker has not taken it up yet"
        assert not asking.done()
        await site.settle()
        assert (await asking).status_code == 200
    assert await disks(site, group) == [(4, 4)]
    await site.settle()
    assert (told(site.az1), told(site.az2)) == ((4, 0), (4, 0))


async def test_a_repeated_call_changes_nothing_and_waits_for_what_is_under_way(site: Site) -> None:
    group = await active_group(site)
    async with asked(site, group, 2) as first, site.nodes_running():
        second = await site.act(group["id"], EXTEND, sizes(group, 2))
        assert (second.status_code, (await first).status_code) == (200, 200)
    await site.settle()
    generations = (site.az1.generation, site.az2.generation)
    shown = await site.show_group(group["id"])
    assert (await site.act(group["id"], EXTEND, sizes(group, 2))).status_code == 200
    await site.settle()
    assert (site.az1.generation, site.az2.generation) == generations
    assert (await site.show_group(group["id"]))["updated_at"] == shown["updated_at"]


async def test_while_disks_grow_nothing_else_may_be_done_with_them(site: Site) -> None:
    group = await active_group(site)
    async with asked(site, group, 2):
        for value in (sizes(group, 3), sizes(group, 3)):
            answer = await site.act(group["id"], EXTEND, value)
            assert (answer.status_code, "under way" in answer.text) == (409, True)
        answer = await site.act(group["id"], "reverse")
        assert (answer.status_code, "being extended" in answer.text) == (409, True)
        site.az1.obeys_volumes = site.az2.obeys_volumes = False
        async with site.nodes_running():
            assert (await site.act(group["id"], "stop")).status_code == 200
        body = {"replication_consistency_group": {"remove_replication_ids": group["replication_ids"]}}
        answer = await site.call("PUT", f"{GROUPS}/{group['id']}", body)
        assert (answer.status_code, "being extended" in answer.text) == (409, True)
        site.az1.obeys_volumes = site.az2.obeys_volumes = True
        await site.settle()
    assert await disks(site, group) == [(2, 2)]


async def test_what_is_refused(site: Site) -> None:
    group, other = await active_group(site, 2), await site.make_group()
    first, second = group["replication_ids"]
    one = sizes(other, 2)["replications"][0]

    async def refuse(value: object, status: int, *words: str) -> None:
        await refused(site, group["id"], value, status, *words)

    async with site.nodes_running():
        assert (await site.act(group["id"], EXTEND, sizes(group, 3, 2))).status_code == 200
    await refuse({"id": first, "new_size": 2}, 400, "EVS.1015", first)
    await refuse(
        {"replications": [{"id": second, "new_size": 9}, {"id": first, "new_size": 1}]}, 400, "EVS.1015", first
    )
    await refuse({"replications": [{"id": second, "new_size": 9}, one]}, 400, "EVS.5400", one["id"], "not in the group")
    nobodys = "00000000-0000-4000-8000-000000000000"
    await refuse({"id": nobodys, "new_size": 9}, 400, "EVS.5400", nobodys, "not in the group")
    site.settings.quota_gigabytes = 2 * (3 + 2 + 1) + 3
    await refuse({"id": first, "new_size": 5}, 413, "EVS.1034")
    site.settings.quota_gigabytes = 10**6
    await refuse({"id": first, "new_size": 60_000}, 400, "EVS.1010", "37100177", "bytes free")
    async with silenced(site, "az2"):
        await refuse({"id": first, "new_size": 4}, 503, "37100043", "az2")
    site.az1.changes[group["id"]] = lambda status: status
    site.az1.worker_failures[group["id"]] = FULL
    await site.settle()
    await refuse({"id": first, "new_size": 4}, 400, "EVS.1048", "error")


@pytest.mark.parametrize("failing", ["az1", "az2"])
async def test_what_a_pool_refuses_is_undone_and_can_be_asked_for_again(site: Site, failing: str) -> None:
    group = await active_group(site, 2)
    pair = await site.show_pair(group["replication_ids"][1])
    node = site.az1 if failing == "az1" else site.az2
    volume_id = pair["volume_ids"].split(",")[0 if failing == "az1" else 1]
    node.room_failures[volume_id] = FULL
    async with site.nodes_running():
        answer = await site.act(group["id"], EXTEND, sizes(group, 2, 2))
        assert (answer.status_code, FULL.message in answer.text, "undone" in answer.text) == (503, True, True)
    assert await disks(site, group) == [(1, 1), (1, 1)]
    await site.settle()
    assert {volume.room_bytes for n in (site.az1, site.az2) for volume in (n.desired.volumes if n.desired else [])} == {
        0
    }
    shown = await site.show_group(group["id"])
    assert (shown["status"], shown["replication_status"], shown["failure_detail"]) == ("available", "active", None)
    node.room_failures.clear()
    async with site.nodes_running():
        assert (await site.act(group["id"], EXTEND, sizes(group, 2, 2))).status_code == 200
    assert await disks(site, group) == [(2, 2), (2, 2)]


async def test_a_site_that_makes_no_room_in_time_gets_the_extension_undone(site: Site) -> None:
    group = await active_group(site)
    site.settings.extend_room_seconds = 1e-6
    site.az2.obeys_volumes = False
    async with asked(site, group, 2) as asking:
        await site.az1.step()
        await site.controller.reconciler.settle_extends()
        answer = await asking
    assert (answer.status_code, "did not make room" in answer.text, "undone" in answer.text) == (503, True, True)
    assert await disks(site, group) == [(1, 1)]


async def test_a_worker_that_is_down_is_waited_for_and_the_rest_goes_by_itself(site: Site) -> None:
    group = await active_group(site)
    site.settings.extend_wait_seconds = 0.05
    site.az2.obeys_workers = False
    async with site.nodes_running():
        answer = await site.act(group["id"], EXTEND, sizes(group, 2))
        assert (answer.status_code, "goes on by itself" in answer.text) == (503, True)
    assert await disks(site, group) == [(1, 1)]
    await site.settle()
    assert (told(site.az1), told(site.az2)) == ((1, 2), (2, 2))
    site.az2.obeys_workers = True
    await site.settle()
    assert await disks(site, group) == [(2, 2)]


@pytest.mark.parametrize("steps", range(STEPS))
async def test_a_controller_that_dies_after_any_step_is_followed_by_one_that_finishes(
    prepared: Prepared, tmp_path: Path, steps: int
) -> None:
    directory = tmp_path / "data"
    shutil.copytree(prepared.directory, directory)
    async with open_site(make_settings(directory), prepared.token) as site:
        group = await active_group(site)
        async with asked(site, group, 2):
            for node, _ in zip(itertools.cycle((site.az2, site.az1)), range(steps), strict=False):
                await node.step()
    async with open_site(make_settings(directory), prepared.token, nodes_of=site) as again:
        await again.settle()
        assert await disks(again, group) == [(2, 2)]
        async with again.nodes_running():
            assert (await again.act(group["id"], EXTEND, sizes(group, 2))).status_code == 200
        shown = await again.show_group(group["id"])
        assert (shown["status"], shown["replication_status"]) == ("available", "active")


@pytest.mark.parametrize("steps", range(STEPS))
async def test_a_failover_after_any_step_leaves_an_extension_that_ends_in_the_new_direction(
    site: Site, steps: int
) -> None:
    group = await active_group(site)
    async with asked(site, group, 2):
        for node, _ in zip(itertools.cycle((site.az2, site.az1)), range(steps), strict=False):
            await node.step()
        assert (await site.act(group["id"], "failover")).status_code == 200
        # The old primary's site is gone for a while.
        for _ in range(STEPS):
            await site.az2.step()
            primary, secondary = told(site.az2), told(site.az1)
            assert (await disks(site, group))[0] in ((1, 1), (2, 2))
        assert spec(site.az2).role is Role.PRIMARY
        assert (await site.show_group(group["id"]))["status"] == "failovered"
        await site.settle()
        assert (await site.act(group["id"], "reprotect")).status_code == 200
        await site.settle()
        primary, secondary = told(site.az2), told(site.az1)
        assert (primary, secondary) == ((2, 0), (2, 0))
    assert await disks(site, group) == [(2, 2)]
    assert (await site.show_group(group["id"]))["replication_status"] == "active"


async def test_an_extension_is_taken_while_the_group_is_paused_copying_or_alone(site: Site) -> None:
    group = await site.make_group()
    async with site.nodes_running():
        assert (await site.act(group["id"], EXTEND, sizes(group, 2))).status_code == 200
    for size_gib, mode in ((3, Mode.COPYING), (4, Mode.CONNECTING)):
        site.az1.primary_mode = mode
        assert (await site.act(group["id"], "sync")).status_code == 200
        await site.settle()
        async with site.nodes_running():
            assert (await site.act(group["id"], EXTEND, sizes(group, size_gib))).status_code == 200
        assert await disks(site, group) == [(size_gib, size_gib)]


async def test_another_projects_group_is_not_there(site: Site) -> None:
    answer: Any = await site.act("00000000-0000-4000-8000-000000000000", EXTEND, {"id": "x", "new_size": 2})
    assert answer.status_code == 404


async def test_a_worker_that_has_the_spec_and_not_the_size_is_not_believed(site: Site) -> None:
    group = await active_group(site)

    def of_an_older_release(status: WorkerStatus) -> WorkerStatus:
        return replace(status, members=[replace(member, size_bytes=0) for member in status.members])

    site.settings.extend_wait_seconds = 0.05
    for node in (site.az2, site.az1):
        node.changes[group["id"]] = of_an_older_release
    async with site.nodes_running():
        assert (await site.act(group["id"], EXTEND, sizes(group, 2))).status_code == 503
    await site.settle()
    assert (told(site.az1), told(site.az2)) == ((1, 2), (2, 2)), "production waits for the DR disk"
    site.az2.changes.clear()
    await site.settle()
    assert (told(site.az1), await disks(site, group)) == ((2, 2), [(1, 1)])
    site.az1.changes.clear()
    await site.settle()
    assert await disks(site, group) == [(2, 2)]
