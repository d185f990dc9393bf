"""The overview: everything at one look, and what each reader may see of it."""

from __future__ import annotations

import pytest

from tests.support.controller import GROUPS, Json, Site
from tests.unit.api.test_accounts import give, tenant, token
from tests.unit.api.test_moves import active_group, show, silenced, stale_group
from twinsite.api.overview import OverviewOne

FORGET = "os-forget-site"


async def overview(site: Site, query: str = "") -> Json:
    """Ask for the overview, holding the answer to its documented shape."""
    answer = await site.call("GET", f"/os-vendor-overview{query}")
    assert answer.status_code == 200, answer.text
    OverviewOne.model_validate(answer.json())
    found: Json = answer.json()["overview"]
    return found


async def test_everything_at_one_look(site: Site) -> None:
    group = await active_group(site)
    idle = await site.make_group()
    found = await overview(site)
    assert [(item["name"], item["state"], item["groups_primary"]) for item in found["sites"]] == [
        ("az1", "connected", 2),
        ("az2", "connected", 0),
    ]
    assert found["sites"][0]["pool_free_bytes"] == 10**11
    assert found["sites"][0]["node_name"] == "fake-az1"
    assert [item["id"] for item in found["groups"]] == [idle["id"], group["id"]]
    by_id = {item["id"]: item for item in found["groups"]}
    for group_id, severity in ((group["id"], "ok"), (idle["id"], "warning")):
        shown = await show(site, group_id)
        listed = by_id[group_id]
        extras = shown["twinsite"]
        assert (listed["primary_site"], listed["secondary_site"]) == ("az1", "az2")
        assert {key: listed[key] for key in ("failover", "progress", "stale_since", "mode", "dirty_bytes")} == {
            key: extras[key] for key in ("failover", "progress", "stale_since", "mode", "dirty_bytes")
        }
        assert listed["advice"] == extras["advice"]
        assert listed["advice"][0]["severity"] == severity
    assert by_id[idle["id"]]["advice"][0]["command"] == f"twinsite group sync {idle['id']}"


async def test_what_is_the_matter_changes_with_the_sites(site: Site) -> None:
    site.controller.context.presence.started_at -= 1_000
    group = await active_group(site)
    async with silenced(site, "az1"):
        found = await overview(site)
        assert [item["state"] for item in found["sites"]] == ["silent", "connected"]
        (advice,) = found["groups"][0]["advice"]
        assert (advice["severity"], advice["command"]) == ("critical", f"twinsite group failover {group['id']}")
        assert "az1 is not connected" in advice["text"]
        answer = await site.call("POST", "/os-vendor-sites/az1/action", {FORGET: None})
        assert answer.status_code == 200
        found = await overview(site)
        assert [item["state"] for item in found["sites"]] == ["lost", "connected"]
        assert "was given up" in found["groups"][0]["advice"][0]["text"]


async def test_a_stale_group_says_how_much_it_lacks(site: Site) -> None:
    await stale_group(site, dirty_bytes=3 * 2**20)
    (group,) = (await overview(site))["groups"]
    assert group["dirty_bytes"] == 3 * 2**20
    assert "az2 lacks 3.0 MiB" in group["advice"][0]["text"]


async def test_tenants_see_their_own_groups_and_no_pools(site: Site) -> None:
    await active_group(site)
    user, project = await tenant(site, "reader")
    headers = {"X-Auth-Token": await token(site, user, project)}
    async with site.controller.context.database.write() as session:
        await (await session.connection()).exec_driver_sql("UPDATE sites SET pool_free_bytes = 1")
    answer = await site.http.get(f"/v2/{project['id']}/os-vendor-overview", headers=headers)
    found = answer.json()["overview"]
    assert found["groups"] == []
    for listed in found["sites"]:
        hidden = ("pool_total_bytes", "pool_free_bytes", "node_name")
        assert [listed[key] for key in hidden] == [None, None, None]
        assert listed["groups_primary"] == 0
    # Advice on pools goes with them.
    user_of_all = {"id": site.project_id}
    await give(site, user, user_of_all, "reader")
    headers = {"X-Auth-Token": await token(site, user, user_of_all)}
    answer = await site.http.get(f"/v2/{site.project_id}/os-vendor-overview", headers=headers)
    (group,) = answer.json()["overview"]["groups"]
    assert [advice["severity"] for advice in group["advice"]] == ["ok"]
    (group,) = (await overview(site))["groups"]
    assert [advice["severity"] for advice in group["advice"]] == ["critical", "ok"]
    foreign = await site.http.get(f"/v2/{project['id']}{GROUPS}/{group['id']}/plan?action=stop", headers=headers)
    assert foreign.status_code == 400  # The token is of the other project.


async def test_the_plan_of_another_projects_group_is_not_there(site: Site) -> None:
    group = await site.make_group()
    user, project = await tenant(site, "reader")
    headers = {"X-Auth-Token": await token(site, user, project)}
    answer = await site.http.get(f"/v2/{project['id']}{GROUPS}/{group['id']}/plan?action=stop", headers=headers)
    assert answer.status_code == 404


async def test_pages(site: Site) -> None:
    ids = [(await site.make_group())["id"] for _ in range(3)]
    first = await overview(site, "?limit=2")
    assert ([item["id"] for item in first["groups"]], first["truncated"]) == ([ids[2], ids[1]], True)
    second = await overview(site, f"?limit=2&marker={ids[1]}")
    assert ([item["id"] for item in second["groups"]], second["truncated"]) == ([ids[0]], False)


@pytest.mark.parametrize("query", ["?limit=0", "?marker=nothing", "?offset=-1"])
async def test_places_that_are_none(site: Site, query: str) -> None:
    assert (await site.call("GET", f"/os-vendor-overview{query}")).status_code == 400


async def test_an_extension_that_does_not_end_is_told(site: Site) -> None:
    group = await active_group(site)
    site.settings.extend_wait_seconds = 0.01
    value = {"replications": [{"id": group["replication_ids"][0], "new_size": 2}]}
    assert (await site.act(group["id"], "os-extend-replication-volumes", value)).status_code == 503
    assert [item["severity"] for item in (await show(site, group["id"]))["twinsite"]["advice"]] == ["ok"]
    async with site.controller.context.database.write() as session:
        await (await session.connection()).exec_driver_sql(
            "UPDATE group_extends SET room_deadline = '2026-01-01 00:00:00.000000'"
        )
    first, second = (await show(site, group["id"]))["twinsite"]["advice"]
    assert ("extension" in first["text"], first["severity"], second["severity"]) == (True, "warning", "ok")
