"""Quotas: their calls, what passes them, and requests at the same time, none of which may."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.support.accounts import make_project, make_token
from tests.support.controller import GROUPS, PAIRS, Json, Site, group_fields
from tests.unit.api.test_extend import EXTEND, sizes
from tests.unit.api.test_moves import active_group


async def quota(site: Site, query: str = "?usage=True", **headers: str) -> Json:
    """Return the project's quota."""
    answer = await site.call("GET", f"/os-quota-sets/{site.project_id}{query}")
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()["quota_set"]
    return found


async def put(site: Site, **limits: Any) -> httpx.Response:
    """Change the project's quota."""
    return await site.call("PUT", f"/os-quota-sets/{site.project_id}", {"quota_set": limits})


async def test_the_life_of_a_quota(site: Site) -> None:
    defaults = await quota(site, "")
    assert (defaults["volumes"], defaults["replications"], defaults["replication_consistency_groups"]) == (
        10_000,
        10_000,
        1_000,
    )
    assert (defaults["id"], defaults["per_volume_gigabytes"], defaults["snapshots"]) == (site.project_id, -1, 0)
    changed = await put(site, volumes=3, gigabytes=-1, tenant_id=site.project_id, force=True, snapshots=0)
    assert (changed.status_code, changed.json()["quota_set"]["volumes"]) == (200, 3)
    assert await put(site, replications=7)
    now = await quota(site, "")
    assert (now["volumes"], now["gigabytes"], now["replications"]) == (3, -1, 7)
    limits = (await site.call("GET", "/limits")).json()["limits"]["absolute"]
    assert (limits["maxTotalVolumes"], limits["maxTotalVolumeGigabytes"]) == (3, -1)
    answer = await site.call("GET", f"/os-quota-sets/{site.project_id}/defaults")
    assert answer.json()["quota_set"] == defaults
    answer = await site.call("DELETE", f"/os-quota-sets/{site.project_id}")
    assert (answer.status_code, answer.content) == (200, b"")
    assert await quota(site, "") == defaults


@pytest.mark.parametrize(
    "limits",
    [
        {"volumes": -2},
        {"volumes": 2**40 + 1},
        {"volumes": "3"},
        {"volumes": True},
        {"volumes_SSD": 3},
        {"snapshots": 3},
        {"groups": False},
        {"backups": "0"},
        {"paintings": 1},
    ],
)
async def test_what_is_no_quota(site: Site, limits: Json) -> None:
    before = await quota(site)
    assert (await put(site, **limits)).status_code == 400
    assert await quota(site) == before


async def test_each_quota_is_kept(site: Site) -> None:
    group = await active_group(site)
    production, dr = await site.make_volume("az1"), await site.make_volume("az2")
    assert {name: item["in_use"] for name, item in (await quota(site)).items() if name != "id"} == {
        "volumes": 4,
        "gigabytes": 4,
        "per_volume_gigabytes": 0,
        "replications": 1,
        "replication_consistency_groups": 1,
        "snapshots": 0,
        "backups": 0,
        "backup_gigabytes": 0,
        "groups": 0,
    }
    volume = {"volume": {"size": 2, "availability_zone": "az1"}}
    pair = {
        "replication": {
            "volume_ids": [production["id"], dr["id"]],
            "priority_station": "az1",
            "replication_model": "hypermetro",
        }
    }
    too_much: list[tuple[Json, str, Json]] = [
        ({"volumes": 4}, "/volumes", volume),
        ({"gigabytes": 5}, "/volumes", volume),
        ({"per_volume_gigabytes": 1}, "/volumes", volume),
        ({"replications": 1}, PAIRS, pair),
        ({"gigabytes": 5}, f"{GROUPS}/{group['id']}/action", {EXTEND: sizes(group, 2)}),
        ({"per_volume_gigabytes": 1}, f"{GROUPS}/{group['id']}/action", {EXTEND: sizes(group, 2)}),
    ]
    for limits, path, body in too_much:
        await put(site, **limits)
        answer = await site.call("POST", path, body)
        assert (answer.status_code, answer.headers["x-twinsite-error-code"]) == (413, "EVS.1034"), answer.text
        assert next(iter(limits)) in answer.json()["overLimit"]["message"]
        await site.call("DELETE", f"/os-quota-sets/{site.project_id}")
    made = await site.call("POST", PAIRS, pair)
    await put(site, replication_consistency_groups=1)
    another = {"replication_consistency_group": group_fields([made.json()["replication"]["id"]])}
    answer = await site.call("POST", GROUPS, another)
    assert (answer.status_code, answer.headers["x-twinsite-error-code"]) == (413, "EVS.1034")
    # Exactly as much as the quota is allowed.
    await put(site, replication_consistency_groups=2, volumes=5, gigabytes=6, per_volume_gigabytes=2)
    assert (await site.call("POST", GROUPS, another)).status_code == 202
    assert (await site.call("POST", "/volumes", volume)).status_code == 202


async def test_requests_at_the_same_time_do_not_pass_a_quota(site: Site) -> None:
    await put(site, volumes=5, gigabytes=5)
    body = {"volume": {"size": 1, "availability_zone": "az1"}}
    answers = await asyncio.gather(*(site.call("POST", "/volumes", body) for _ in range(20)))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(202), statuses.count(413)) == (5, 15)
    assert (await quota(site))["volumes"]["in_use"] == 5


async def test_a_lowered_quota_takes_nothing_away(site: Site) -> None:
    volume = await site.make_volume()
    assert (await put(site, volumes=0)).status_code == 200
    assert (await site.show_volume(volume["id"]))["status"] == "available"
    assert (await quota(site))["volumes"] == {"limit": 0, "in_use": 1, "reserved": 0}
    assert (await site.call("POST", "/volumes", {"volume": {"size": 1}})).status_code == 413


async def test_whose_quota_is_whose(site: Site) -> None:
    other = await make_project(site, "other")
    headers = {"X-Auth-Token": await make_token(site, "reader", other)}

    async def see(target: str) -> tuple[int, str]:
        answer = await site.http.get(f"/v3/{other}/os-quota-sets/{target}", headers=headers)
        return answer.status_code, answer.text.replace(target, "ID")

    assert (await see(other))[0] == 200
    # Another project's looks like one that is not there.
    assert await see(site.project_id) == await see("0" * 32)
    assert (await see(site.project_id))[0] == 404
    body = {"quota_set": {"volumes": 1}}
    answer = await site.http.put(f"/v3/{other}/os-quota-sets/{other}", json=body, headers=headers)
    assert answer.status_code == 403
    # An administrator gives each project its own.
    assert (await site.call("PUT", f"/os-quota-sets/{other}", body)).status_code == 200
    assert (await site.call("GET", f"/os-quota-sets/{other}")).json()["quota_set"]["volumes"] == 1
    assert (await quota(site, ""))["volumes"] == 10_000
    assert (await site.call("PUT", f"/os-quota-sets/{'0' * 32}", body)).status_code == 404
