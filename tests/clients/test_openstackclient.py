"""The `openstack` command against a real server."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.support.controller import Site, make_settings, serve
from tests.support.openstack_command import environment_for, openstack


async def test_the_volume_commands(tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "data")
    async with serve(settings) as (server, url), httpx.AsyncClient(base_url=url) as http:
        site = Site(server.app, http, settings)
        await site.log_in()
        environment = environment_for(url, site.password, tmp_path)
        async with site.nodes_running():
            as_json = ("-f", "json")
            create = ("volume", "create", "--size", "2", "--availability-zone", "az2", "--type", "SAS")
            made = await openstack(environment, *create, "--property", "key=value", "disk", *as_json)
            assert (made["size"], made["type"], made["availability_zone"]) == (2, "SAS", "az2")
            await openstack(environment, "volume", "set", "--name", "renamed", made["id"])
            (listed,) = await openstack(environment, "volume", "list", *as_json)
            assert (listed["ID"], listed["Name"], listed["Size"]) == (made["id"], "renamed", 2)
            assert listed["Status"] == "available"
            await openstack(environment, "volume", "delete", "renamed")
        await site.settle()
        assert (await site.call("GET", "/volumes")).json() == {"volumes": []}
