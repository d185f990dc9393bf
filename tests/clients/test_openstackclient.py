"""The `openstack` command against a real server."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.support.controller import Site, make_settings, serve

COMMAND_SECONDS_MAX = 60.0


async def openstack(environment: dict[str, str], *arguments: str) -> Any:
    """Run the command; return its JSON output, or None when it has none."""
    command = Path(sys.executable).parent / "openstack"
    process = await asyncio.create_subprocess_exec(
        str(command),
        *arguments,
        env={"PATH": os.environ["PATH"], "HOME": environment["HOME"], **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(COMMAND_SECONDS_MAX):
        output, errors = await process.communicate()
    assert process.returncode == 0, (arguments, errors.decode())
    return json.loads(output) if output.strip() else None


async def test_the_volume_commands(tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "data")
    async with serve(settings) as (server, url), httpx.AsyncClient(base_url=url) as http:
        site = Site(server.app, http, settings)
        await site.log_in()
        environment = {
            "HOME": str(tmp_path),
            "OS_AUTH_URL": f"{url}/identity/v3",
            "OS_USERNAME": "admin",
            "OS_PASSWORD": site.password,
            "OS_PROJECT_NAME": "admin",
            "OS_USER_DOMAIN_NAME": "Default",
            "OS_PROJECT_DOMAIN_NAME": "Default",
            "OS_IDENTITY_API_VERSION": "3",
        }
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
