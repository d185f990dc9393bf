"""Nodes that are told only what changed know the same as nodes that are told everything, whatever users do."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.controller import GROUPS, PAIRS, Site, group_fields, make_settings, open_site
from tests.support.fake_node import FakeNode
from twinsite.control import desired as desired_module
from twinsite.control.journal import Journal
from twinsite.control.repository import sites
from twinsite.messages import NodeDesired, to_wire

STEPS = 40


class User:
    """Does at random what the API offers, whether it is allowed then or not."""

    def __init__(self, site: Site, choose: random.Random) -> None:
        self._site = site
        self._choose = choose

    async def act(self) -> str:
        """Do one thing; return what."""
        deeds: list[Callable[[], Awaitable[Any]]] = [
            self._make_pair,
            self._make_group,
            self._connect,
            self._disconnect,
            self._delete_something,
            self._change_pairs,
            self._extend,
            *[self._move] * 4,
        ]
        deed = self._choose.choice(deeds)
        await deed()
        return deed.__name__

    async def _ids(self, path: str, key: str) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = (await self._site.call("GET", path)).json()[key]
        return listed

    async def _make_pair(self) -> None:
        await self._site.make_pair()

    async def _make_group(self) -> None:
        pairs = [p for p in await self._ids(PAIRS, "replications") if not p["replication_consistency_group_id"]]
        zone = self._choose.choice(["az1", "az2"])
        wanted = [p["id"] for p in pairs if p["priority_station"] == zone][:2]
        body = {"replication_consistency_group": group_fields(wanted) | {"priority_station": zone}}
        await self._site.call("POST", GROUPS, body)

    async def _volume(self) -> str:
        volumes = await self._ids("/volumes", "volumes")
        return str(self._choose.choice(volumes)["id"]) if volumes else "none"

    async def _connect(self) -> None:
        volume_id = await self._volume()
        # What the call waits for comes only with the nodes' next step, so it is as good as left by its client.
        volumes = self._site.controller.volumes
        try:
            await volumes._attach(self._site.project_id, volume_id, "host")
        except Exception as error:
            assert type(error).__name__ == "RequestRefused", error

    async def _disconnect(self) -> None:
        body = {"os-terminate_connection": {"connector": {"host": "host"}}}
        await self._site.call("POST", f"/volumes/{await self._volume()}/action", body)

    async def _delete_something(self) -> None:
        await self._site.call("DELETE", f"/volumes/{await self._volume()}")
        for path, key in ((PAIRS, "replications"), (GROUPS, "replication_consistency_groups")):
            items = await self._ids(path, key)
            if items:
                await self._site.call("DELETE", f"{path}/{self._choose.choice(items)['id']}")

    async def _group(self) -> dict[str, Any] | None:
        groups = await self._ids(GROUPS, "replication_consistency_groups")
        return self._choose.choice(groups) if groups else None

    async def _change_pairs(self) -> None:
        group = await self._group()
        if group is None:
            return
        free = [p["id"] for p in await self._ids(PAIRS, "replications") if not p["replication_consistency_group_id"]]
        fields = {"add_replication_ids": free[:1], "remove_replication_ids": group["replication_ids"][:1]}
        body = {"replication_consistency_group": {key: value for key, value in fields.items() if value}}
        await self._site.call("PUT", f"{GROUPS}/{group['id']}", body)

    async def _extend(self) -> None:
        group = await self._group()
        if group is None or not group["replication_ids"]:
            return
        async with self._site.nodes_running():
            sizes = {"replications": [{"id": group["replication_ids"][0], "new_size": self._choose.randint(1, 4)}]}
            await self._site.act(group["id"], "os-extend-replication-volumes", sizes)

    async def _move(self) -> None:
        group = await self._group()
        if group is None:
            return
        action = self._choose.choice(["sync", "stop", "failover", "reverse", "reprotect"])
        async with self._site.nodes_running():
            await self._site.act(group["id"], action)


def comparable(desired: NodeDesired) -> Any:
    """Return what a desired state says, without its order and who counts."""
    volumes = {volume.id: to_wire(volume) for volume in desired.volumes}
    workers = {worker.id: to_wire(worker) for worker in desired.workers}
    return desired.generation, volumes, workers, sorted(desired.deleted_workers)


async def check(*nodes: FakeNode) -> None:
    for node in nodes:
        told = await node.post()
        assert comparable(told) == comparable(await node.ask_for_everything())


@pytest.mark.parametrize("seed", [1, 2])
async def test_what_changed_and_everything_are_the_same(site: Site, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    print(f"seed {seed}")
    monkeypatch.setattr(desired_module, "COMPLETE_SECONDS", float("inf"))
    choose = random.Random(seed)
    user = User(site, choose)
    differences = 0
    await site.make_group(2)
    for _ in range(STEPS):
        await user.act()
        for node in (site.az1, site.az2):
            await check(node)
            assert node.answer is not None
            differences += node.answer.basis is not None
        if choose.random() < 0.7:
            await site.settle()
            await check(site.az1, site.az2)
    assert differences > STEPS


async def test_only_what_changed_is_told(site: Site) -> None:
    group = await site.make_group(2)
    other = await site.make_group(2)
    await site.settle()
    await site.act(group["id"], "sync")
    for node in (site.az1, site.az2):
        await node.post()
        answer = node.answer
        assert answer is not None
        assert ([worker.id for worker in answer.workers], answer.volumes) == ([group["id"]], [])
        assert other["id"] not in answer.gone_workers


async def test_a_report_is_complete_when_the_controller_does_not_know_its_basis(site: Site) -> None:
    group = await site.make_group()
    await site.settle()
    async with open_site(make_settings(site.settings.data_dir), site.http.headers["X-Auth-Token"]) as second:
        second.az1.go_on_from(site.az1)
        second.az2.go_on_from(site.az2)
        await second.act(group["id"], "sync")
        await second.settle()
        assert (await second.show_group(group["id"]))["replication_status"] == "active"
        await check(second.az1, second.az2)
    # The first controller has not seen how those generations were made.
    await site.settle()
    await check(site.az1, site.az2)


async def test_a_commit_that_fails_leaves_nothing_in_the_journal(site: Site) -> None:
    journal = site.controller.context.database.journal
    generation = site.az1.generation
    with pytest.raises(RuntimeError, match="lost"):
        async with site.controller.context.database.write() as session:
            await sites.raise_generation(session, ["az1"])
            raise RuntimeError("lost")
    assert journal.since("az1", generation, generation + 1) is None


def test_generations_that_nobody_saw_are_unknown() -> None:
    journal = Journal()
    assert journal.since("az1", 5, 4) is None
    assert journal.since("az1", 4, 5) is None
    same = journal.since("az1", 5, 5)
    assert same is not None
    assert not same.volumes
