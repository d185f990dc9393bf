"""What is left behind: by deleted groups, and at sites that are gone for good."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from tests.support.accounts import make_token
from tests.support.controller import GROUPS, PAIRS, Json, Site
from tests.support.fake_node import FakeNode, running
from tests.unit.api.test_extend import EXTEND, asked, disks, sizes
from tests.unit.api.test_moves import active_group, silenced, spec
from twinsite.api.answers import SiteList

FORGET, RESTORE = {"os-forget-site": None}, {"os-restore-site": None}
SITES = "/os-vendor-sites"


async def show(site: Site, name: str) -> Json:
    """Show a site, held to its documented shape."""
    answer = await site.call("GET", SITES)
    assert answer.status_code == 200, answer.text
    SiteList.model_validate(answer.json())
    (found,) = [item for item in answer.json()["sites"] if item["name"] == name]
    shown: Json = found
    return shown


async def act(site: Site, name: str, action: Json) -> tuple[int, str]:
    answer = await site.call("POST", f"{SITES}/{name}/action", action)
    return answer.status_code, answer.text


async def forget(site: Site, name: str) -> None:
    with capture_logs() as logs:
        assert await act(site, name, FORGET) == (200, "")
    assert [(line["site"], line["actor"]) for line in logs if line["event"] == "site is given up"] == [(name, "admin")]


async def take_apart(site: Site, group: Json, living: FakeNode) -> None:
    """Delete a group, its pairs and its volumes, with one node there."""
    pairs = [await site.show_pair(pair_id) for pair_id in group["replication_ids"]]
    async with running(living):
        answer = await site.act(group["id"], "stop")
        assert answer.status_code == 200, answer.text
    body = {"replication_consistency_group": {"remove_replication_ids": group["replication_ids"]}}
    answer = await site.call("PUT", f"{GROUPS}/{group['id']}", body)
    assert answer.status_code == 202, answer.text
    for _ in range(4):
        await living.step()
    assert (await site.show_group(group["id"]))["status"] == "available"
    assert (await site.call("DELETE", f"{GROUPS}/{group['id']}")).status_code == 202
    for pair in pairs:
        assert (await site.call("DELETE", f"{PAIRS}/{pair['id']}")).status_code == 202
        for volume_id in pair["volume_ids"].split(","):
            answer = await site.call("DELETE", f"/volumes/{volume_id}")
            assert answer.status_code == 202, answer.text
    for _ in range(4):
        await living.step()
    for pair in pairs:
        for volume_id in pair["volume_ids"].split(","):
            assert (await site.call("GET", f"/volumes/{volume_id}")).status_code == 404


async def test_a_deleted_group_is_cleared_away_at_both_sites_and_only_it(site: Site) -> None:
    group, other = await site.make_group(), await site.make_group()
    body = {"replication_consistency_group": {"remove_replication_ids": group["replication_ids"]}}
    await site.call("PUT", f"{GROUPS}/{group['id']}", body)
    await site.settle()
    for node in (site.az1, site.az2):
        assert node.desired is not None
        assert node.desired.deleted_workers == [], "a group without pairs may get some again"
    assert (await site.call("DELETE", f"{GROUPS}/{group['id']}")).status_code == 202
    for node in (site.az1, site.az2):
        assert (await node.post()).deleted_workers == [group["id"]]
        assert (await show(site, node.site))["to_remove"] == 1
        assert (await node.post()).deleted_workers == []
        assert (await show(site, node.site))["to_remove"] == 0
        assert spec(node).id == other["id"]


@pytest.mark.parametrize("gone", ["az1", "az2"])
async def test_a_site_that_is_gone_is_given_up_and_taken_apart(site: Site, gone: str) -> None:
    group = await active_group(site, 2)
    dead, living = (site.az1, site.az2) if gone == "az1" else (site.az2, site.az1)
    status, text = await act(site, gone, FORGET)
    assert (status, "is connected" in text) == (400, True)
    async with silenced(site, gone):
        answer = await site.act(group["id"], "stop") if gone == "az1" else await site.act(group["id"], "sync")
        assert answer.status_code == (503 if gone == "az1" else 200)
        await forget(site, gone)
        assert await act(site, gone, FORGET) == (200, "")
        shown = await show(site, gone)
        assert (shown["connected"], shown["lost_at"] is not None, shown["volumes"]) == (False, True, 2)
        fields = {"size": 1, "availability_zone": gone}
        assert (await site.call("POST", "/volumes", {"volume": fields})).status_code == 503
        status, text = await act(site, gone, RESTORE)
        assert (status, "2 volumes" in text) == (400, True)
        await take_apart(site, group, living)
        assert (await show(site, gone))["to_remove"] == 3
    # It comes back after all, with everything that it had.
    assert len(dead.volumes) == 2
    await dead.step()
    assert dead.desired is not None
    assert ([v.deleted for v in dead.desired.volumes], dead.desired.workers) == ([True, True], [])
    assert dead.desired.deleted_workers == [group["id"]]
    await dead.step()
    await dead.step()
    assert (dead.volumes, (await show(site, gone))["to_remove"]) == ({}, 0)
    assert (await act(site, gone, RESTORE))[0] == 200
    await site.settle()
    assert (await site.make_volume(gone))["status"] == "available"
    await active_group(site)


async def test_a_lost_site_that_comes_back_serves_nothing_and_is_not_believed(site: Site) -> None:
    group = await active_group(site)
    old = spec(site.az1)
    pair = await site.show_pair(group["replication_ids"][0])
    async with silenced(site, "az1"):
        await forget(site, "az1")
    await site.az1.step()
    assert site.az1.desired is not None
    assert (site.az1.desired.workers, site.az1.desired.volumes) == ([], [])
    await site.az1.step()
    assert (await show(site, "az1"))["connected"] is True
    assert (await site.show_volume(pair["volume_ids"].split(",")[0]))["status"] == "available"
    row = (await site.az1.ask_arbiter(old, "read"))["row"]
    assert (await site.az1.ask_arbiter(old, "suspend_secondary", row["version"]))["granted"] is False
    # The other side has everything, and may go on without being asked to lose anything.
    assert (await site.act(group["id"], "failover")).status_code == 200
    await site.az2.step()
    await site.az2.step()
    assert (await site.show_group(group["id"]))["status"] == "failovered"


async def test_what_waited_for_a_lost_site_waits_no_longer(site: Site) -> None:
    growing = await active_group(site)
    created = (await site.call("POST", "/volumes", {"volume": {"size": 1, "availability_zone": "az2"}})).json()[
        "volume"
    ]
    deleted = await site.make_volume("az2")
    site.az2.obeys_volumes = site.az2.obeys_workers = False
    assert (await site.call("DELETE", f"/volumes/{deleted['id']}")).status_code == 202
    async with asked(site, growing, 2), silenced(site, "az2"):
        await site.az1.step()
        await forget(site, "az2")
        assert (await site.call("GET", f"/volumes/{deleted['id']}")).status_code == 404
        assert (await site.show_volume(created["id"]))["status"] in ("error", "available")
        for _ in range(4):
            await site.az1.step()
        assert await disks(site, growing) == [(2, 2)]
        await take_apart(site, growing, site.az1)
    assert (await site.act(growing["id"], EXTEND, sizes(growing, 3))).status_code == 404


async def test_only_administrators_may(site: Site) -> None:
    site.http.headers["X-Auth-Token"] = await make_token(site, "member")
    for answer in (await site.call("GET", SITES), await site.call("POST", f"{SITES}/az1/action", FORGET)):
        assert (answer.status_code, answer.headers["x-twinsite-error-code"]) == (403, "EVS.5403")


@pytest.mark.parametrize(
    ("name", "action", "status", "words"),
    [
        ("az9", FORGET, 404, "There is no site"),
        ("az1", {"os-dance": None}, 400, "os-forget-site"),
        ("az1", {"os-forget-site": 1}, 400, "must be null"),
        ("az1", {}, 400, "exactly one"),
        ("az1", RESTORE, 200, ""),
    ],
)
async def test_calls_that_are_not_right(site: Site, name: str, action: Json, status: int, words: str) -> None:
    assert (await act(site, name, action))[0] == status
    assert words in (await act(site, name, action))[1]
