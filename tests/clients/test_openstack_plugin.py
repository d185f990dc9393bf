"""`openstack evs replication …`: the plug-in in the real command, against a real server."""

from __future__ import annotations

import importlib.metadata
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.controller import Site, make_settings, serve
from tests.support.openstack_command import Done, environment_for, openstack, run_openstack
from twinsite.messages import Mode

PAIR = ("evs", "replication")
GROUP = ("evs", "replication", "group")
AS_JSON = ("-f", "json")
WAIT = ("--wait", "--timeout", "20")


class Cloud:
    """A running controller with two nodes that oblige, and the command that talks to it."""

    def __init__(self, site: Site, environment: dict[str, str]) -> None:
        """Work on `site`."""
        self.site = site
        self._environment = environment

    async def json(self, *arguments: str) -> Any:
        """Return what a command prints as JSON."""
        return await openstack(self._environment, *arguments, *AS_JSON)

    async def do(self, *arguments: str) -> Done:
        """Run a command that succeeds and prints no result."""
        done = await self.run(*arguments)
        assert done.status == 0, (arguments, done.errors)
        assert done.output == ""
        return done

    async def run(self, *arguments: str) -> Done:
        """Run a command."""
        return await run_openstack(self._environment, *arguments)


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    settings = make_settings(tmp_path / "data")
    async with serve(settings) as (server, url), httpx.AsyncClient(base_url=url, trust_env=False) as http:
        site = Site(server.app, http, settings)
        await site.log_in()
        async with site.nodes_running():
            yield Cloud(site, environment_for(url, site.password, tmp_path))


@pytest.mark.filterwarnings("ignore:The osc_lib.version module is deprecated")
def test_every_command_is_there() -> None:
    """The environment has the entry points of this release; where not, it must be installed anew."""
    found = {entry.name for entry in importlib.metadata.entry_points(group="openstack.evs.v2")}
    pairs = {f"evs_replication_{verb}" for verb in ("create", "list", "show", "delete")}
    verbs = ["create", "list", "show", "set", "delete", "sync", "stop", "reverse", "failover", "reprotect", "extend"]
    assert found == pairs | {f"evs_replication_group_{verb}" for verb in verbs}
    for entry in importlib.metadata.entry_points(group="openstack.evs.v2"):
        assert entry.load().__doc__


async def test_a_group_from_its_creation_to_its_end(cloud: Cloud) -> None:
    for name, zone in (("db", "az1"), ("db-dr", "az2")):
        await cloud.site.make_volume(zone, name=name)
    pair = await cloud.json(*PAIR, "create", "db", "--production", "db", "--dr", "db-dr", *WAIT)
    assert (pair["name"], pair["status"], pair["priority_station"]) == ("db", "available", "az1")
    made = await cloud.json(*GROUP, "create", "shop", "--replication", "db", "--description", "a b", *WAIT)
    assert (made["status"], made["replication_ids"], made["description"]) == ("available", [pair["id"]], "a b")
    (listed,) = await cloud.json(*PAIR, "list", "--group", "shop")
    assert (listed["ID"], listed["Group ID"]) == (pair["id"], made["id"])
    assert await cloud.json(*PAIR, "list", "--name", "other") == []
    assert len((await cloud.json(*PAIR, "show", pair["id"]))["volume_ids"]) == 2
    assert "in sync" in (await cloud.do(*GROUP, "sync", "shop", *WAIT)).errors
    (listed,) = await cloud.json(*GROUP, "list", "--long")
    assert (listed["ID"], listed["Replication Status"], listed["Fault Level"]) == (made["id"], "active", "0")
    await cloud.do(*GROUP, "extend", "shop", "--size", "db=3")
    assert {v["size"] for v in (await cloud.site.call("GET", "/volumes/detail")).json()["volumes"]} == {3}
    await cloud.do(*GROUP, "stop", "shop")
    await cloud.do(*GROUP, "set", "shop", "--name", "empty", "--remove-replication", "db", *WAIT)
    await cloud.do(*GROUP, "delete", "empty", *WAIT)
    await cloud.do(*PAIR, "delete", pair["id"], *WAIT)
    assert await cloud.json(*GROUP, "list") == await cloud.json(*PAIR, "list") == []


async def test_a_group_moves_and_says_what_a_failover_would_lose(cloud: Cloud) -> None:
    group = await cloud.site.make_group()
    refused = await cloud.run(*GROUP, "failover", group["id"])
    assert (refused.status, "is stale" in refused.errors, "req-" in refused.errors) == (1, True, True)
    assert "would lose all writes since" in (await cloud.run(*GROUP, "show", group["id"])).output
    await cloud.do(*GROUP, "sync", group["id"], *WAIT)
    shown = await cloud.json(*GROUP, "show", group["id"])
    assert (shown["failover"]["possible"], shown["secondary"], shown["term"]) == (True, "in_sync", 1)
    assert "failovered" in (await cloud.do(*GROUP, "failover", group["id"], *WAIT)).errors
    await cloud.do(*GROUP, "reprotect", group["id"], *WAIT)
    await cloud.do(*GROUP, "reverse", group["id"], *WAIT)
    shown = await cloud.json(*GROUP, "show", group["id"])
    assert (shown["priority_station"], shown["term"], shown["replication_status"]) == ("az1", 3, "active")


async def test_what_goes_wrong_is_a_sentence(cloud: Cloud) -> None:
    group = await cloud.site.make_group()
    unknown = await cloud.run(*GROUP, "sync", "nowhere")
    assert (unknown.status, unknown.errors.strip()) == (1, "no group has the name or id 'nowhere'")
    nothing = await cloud.run(*GROUP, "set", group["id"])
    assert (nothing.status, "Nothing to change" in nothing.errors) == (1, True)
    assert "write <replication>=<GiB>" in (await cloud.run(*GROUP, "extend", group["id"], "--size", "db")).errors
    cloud.site.az1.primary_mode = Mode.COPYING
    late = await cloud.run(*GROUP, "sync", group["id"], "--wait", "--timeout", "0.5")
    assert (late.status, f"group {group['id']} is still" in late.errors) == (1, True)
