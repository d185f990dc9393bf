"""An administrator makes a tenant with the `openstack` command, and the tenant works."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.support.controller import Site, make_settings, serve
from tests.support.openstack_batch import auth_environment, openstack

JSON = ("-f", "json")


async def test_users_projects_roles_and_quotas(tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "data")
    async with serve(settings) as (server, url), httpx.AsyncClient(base_url=url) as http:
        site = Site(server.app, http, settings)
        await site.log_in()
        async with site.nodes_running():
            environment = auth_environment(f"{url}/identity/v3", "admin", site.password, "admin")
            made = await openstack(
                environment,
                tmp_path,
                ("project", "create", "shop", "--description", "of Alice", *JSON),
                ("user", "create", "alice", "--password", "first", "--project", "shop", "--email", "a@b.c", *JSON),
                ("role", "create", "night-shift", "--description", "may fail over", *JSON),
                ("role", "add", "--project", "shop", "--user", "alice", "member"),
                ("role", "add", "--domain", "default", "--user", "alice", "night-shift"),
                ("role", "remove", "--domain", "default", "--user", "alice", "night-shift"),
                ("role", "assignment", "list", "--names", "--project", "shop", *JSON),
                ("domain", "list", *JSON),
                ("role", "list", *JSON),
                ("project", "list", *JSON),
                ("user", "list", *JSON),
                ("role", "set", "--name", "day-shift", "night-shift"),
                ("role", "show", "day-shift", *JSON),
                ("role", "delete", "day-shift"),
                ("quota", "set", "--volumes", "1", "shop"),
                ("quota", "show", "--volume", "shop", *JSON),
                ("user", "show", "alice", *JSON),
                ("project", "show", "shop", *JSON),
                ("user", "set", "--password", "second", "alice"),
                ("user", "create", "alice"),
            )
            assert [result.errors for result in made[:-1] if result.status] == []
            assert made[-1].status, "the name is taken"
            shop, alice = made[0].shown, made[1].shown
            assert (alice["default_project_id"], alice["enabled"], alice["email"]) == (shop["id"], True, "a@b.c")
            (assignment,) = made[6].shown
            assert (assignment["Role"], assignment["User"], assignment["Project"]) == (
                "member",
                "alice@Default",
                "shop@Default",
            )
            assert [domain["ID"] for domain in made[7].shown] == ["default"]
            names = ("admin", "member", "night-shift", "reader")
            assert tuple(sorted(role["Name"] for role in made[8].shown)) == names
            assert {item["Name"] for item in made[9].shown} == {"admin", "shop"}
            assert {item["Name"] for item in made[10].shown} == {"admin", "alice"}
            quota = {item["Resource"]: item["Limit"] for item in made[15].shown}
            assert (quota["volumes"], quota["replications"]) == (1, 10_000)
            assert made[17].shown["description"] == "of Alice"

            environment = auth_environment(f"{url}/identity/v3", "alice", "second", "shop")
            worked = await openstack(
                environment,
                tmp_path,
                ("token", "issue", *JSON),
                ("volume", "create", "--size", "1", "--availability-zone", "az1", "disk", *JSON),
                ("volume", "create", "--size", "1", "--availability-zone", "az1", "another"),
                ("volume", "list", *JSON),
                ("project", "list", *JSON),
                ("user", "create", "eve"),
                ("--os-password", "first", "volume", "list"),
                ("user", "password", "set", "--original-password", "second", "--password", "third"),
                ("--os-password", "third", "token", "issue", *JSON),
            )
            assert worked[0].shown["project_id"] == shop["id"]
            assert worked[1].shown["size"] == 1
            assert "EVS.1034" in worked[2].errors
            assert [volume["Name"] for volume in worked[3].shown] == ["disk"]
            assert [project["Name"] for project in worked[4].shown] == ["shop"]
            assert "identity:create_user" in worked[5].errors
            assert "The user or the password is wrong." in worked[6].errors
            assert worked[7].status == 0, worked[7].errors
            assert worked[8].shown["user_id"] == alice["id"]

            environment = auth_environment(f"{url}/identity/v3", "admin", site.password, "admin")
            ended = await openstack(
                environment,
                tmp_path,
                ("user", "set", "--disable", "alice"),
                ("--os-username", "alice", "--os-password", "third", "--os-project-name", "shop", "volume", "list"),
                ("project", "delete", "shop"),
                ("user", "delete", "alice"),
                ("user", "list", *JSON),
            )
            assert ended[0].status == 0, ended[0].errors
            assert "401" in ended[1].errors
            assert "Delete those first" in ended[2].errors
            assert ended[3].status == 0, ended[3].errors
            assert [user["Name"] for user in ended[4].shown] == ["admin"]
