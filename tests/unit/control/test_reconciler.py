"""The conversation with nodes: generations, held answers, reports out of order, restarts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from tests.support.controller import PAIRS, Site, make_settings, open_site
from twinsite.messages import Mode


async def test_an_answer_is_held_until_there_is_news(site: Site) -> None:
    poll = asyncio.create_task(site.az1.post(wait_seconds=30))
    other = asyncio.create_task(site.az2.post(wait_seconds=30))
    answer = await site.call("POST", "/volumes", {"volume": {"size": 1, "availability_zone": "az1"}})
    desired = await poll
    assert [volume.id for volume in desired.volumes] == [answer.json()["volume"]["id"]]
    assert not other.done()  # What concerns one site is no news at the other.
    await site.controller.context.wakeups.close()
    assert (await other).volumes == []


async def test_an_answer_is_held_for_as_long_as_the_node_asks(site: Site) -> None:
    generation = site.az1.generation
    assert (await site.az1.post(wait_seconds=0.02)).generation == generation
    assert (await site.az1.post(wait_seconds=0)).generation == generation


async def test_news_of_another_controller_is_found_by_looking(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, poll_seconds=0.02)
    async with open_site(settings) as first, open_site(settings) as second:
        poll = asyncio.create_task(first.az1.post(wait_seconds=30))
        answer = await second.call("POST", "/volumes", {"volume": {"size": 1, "availability_zone": "az1"}})
        assert [volume.id for volume in (await poll).volumes] == [answer.json()["volume"]["id"]]


async def test_a_report_without_news_is_not_written(site: Site) -> None:
    await site.make_volume()
    await site.settle()
    context = site.controller.context
    async with context.database.read() as session:
        before = (await session.connection()).exec_driver_sql("SELECT last_seen_at FROM sites ORDER BY name")
        seen = (await before).fetchall()
    for _ in range(3):
        await site.az1.post()
    async with context.database.read() as session:
        after = (await session.connection()).exec_driver_sql("SELECT last_seen_at FROM sites ORDER BY name")
        assert (await after).fetchall() == seen


async def test_everything_is_found_again_after_a_restart(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    async with open_site(settings) as first:
        group = await first.make_group(2)
        await first.act(group["id"], "sync")
        await first.settle()
        before = await first.show_group(group["id"])
        token = first.http.headers["X-Auth-Token"]
        nodes = first.az1.volumes, first.az1.workers, first.az2.volumes, first.az2.workers
        generations = first.az1.generation, first.az2.generation
        installation = first.az1.desired.installation_id if first.az1.desired else ""
    async with open_site(settings) as second:
        second.http.headers["X-Auth-Token"] = token  # Tokens survive.
        assert second.az1.desired is not None
        assert second.az1.desired.installation_id == installation
        # The fake nodes are new and have nothing: the desired state makes them what the old ones were.
        await second.settle()
        assert (second.az1.volumes, second.az1.workers, second.az2.volumes, second.az2.workers) == nodes
        assert (second.az1.generation, second.az2.generation) == generations
        assert await second.show_group(group["id"]) == before


async def test_a_node_that_has_seen_the_future_is_caught_up_with(site: Site) -> None:
    await site.make_volume()
    ahead = site.az1.generation + 1000
    site.az1.pretend_to_have_seen(ahead)
    desired = await site.az1.post(wait_seconds=30)
    assert desired.generation > ahead
    assert len(desired.volumes) == 1
    site.az1.pretend_to_have_seen(2**60)  # Nobody has seen that; the database keeps its own counting.
    await site.az1.post()
    assert site.az1.answer is not None
    assert site.az1.answer.generation == desired.generation


async def test_a_report_that_was_overtaken_is_ignored(site: Site) -> None:
    group = await site.make_group()
    old = dict(site.az1.workers)
    await site.act(group["id"], "sync")
    await site.settle()
    new = dict(site.az1.workers)
    assert (await site.show_group(group["id"]))["twinsite"]["mode"] == "in_sync"
    site.az1.workers = old
    await site.az1.post()
    assert (await site.show_group(group["id"]))["twinsite"]["mode"] == "in_sync"
    # A worker that was started anew may lag behind: that is no old report.
    site.az1.workers = {key: replace(worker, pid=2000) for key, worker in old.items()}
    await site.az1.post()
    assert (await site.show_group(group["id"]))["twinsite"]["mode"] == "paused"
    site.az1.workers = new


async def test_a_worker_that_starts_leaves_the_status_alone(site: Site) -> None:
    group = await site.make_group()
    await site.act(group["id"], "sync")
    await site.settle()
    for mode, expected in ((Mode.STARTING, "active"), (Mode.COPYING, "copying"), (Mode.STARTING, "copying")):
        site.az1.alter(group["id"], mode=mode)
        await site.az1.post()
        assert (await site.show_group(group["id"]))["replication_status"] == expected


async def test_a_volume_that_nobody_mentions_stays(site: Site) -> None:
    volume = await site.make_volume()
    site.az1.volumes = {}
    await site.az1.post()
    assert (await site.show_volume(volume["id"]))["status"] == "available"
    await site.call("DELETE", f"/volumes/{volume['id']}")
    site.az1.volumes = {}
    desired = await site.az1.post()
    assert [(item.id, item.deleted) for item in desired.volumes] == [(volume["id"], True)]


async def test_volumes_of_a_removed_pair_get_workers_of_their_own_while_in_use(site: Site) -> None:
    group = await site.make_group()
    pair = await site.show_pair(group["replication_ids"][0])
    production, _ = pair["volume_ids"].split(",")
    async with site.nodes_running():
        connector = {"os-initialize_connection": {"connector": {"host": "host-1"}}}
        assert (await site.call("POST", f"/volumes/{production}/action", connector)).status_code == 200
    assert set(site.az1.workers) == {group["id"]}
    body = {"replication_consistency_group": {"remove_replication_ids": [pair["id"]]}}
    path = f"/os-vendor-replication-consistency-groups/{group['id']}"
    assert (await site.call("PUT", path, body)).status_code == 202
    await site.settle()
    assert set(site.az1.workers) == {production}
    assert (await site.call("DELETE", f"{PAIRS}/{pair['id']}")).status_code == 202


async def test_a_stored_report_of_another_release_counts_as_none(site: Site) -> None:
    group = await site.make_group()
    async with site.controller.context.database.write() as session:
        await (await session.connection()).exec_driver_sql("UPDATE worker_reports SET report = '{\"id\": 1}'")
    shown = await site.show_group(group["id"])
    assert (shown["status"], shown["twinsite"]["mode"]) == ("available", None)
