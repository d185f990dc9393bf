"""What existing clients stumble over: the Go SDK and Terraform provider of FlexibleEngine, and openstacksdk."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

from tests.support.controller import GROUPS, PAIRS, Json, Site, group_fields, login_body
from twinsite.messages import Mode

WAIT_STEPS_MAX = 200


async def wait_for(site: Site, path: str, key: str, pending: set[str], target: set[str]) -> Json:
    """Poll as the Terraform provider does: a status outside the expected ones is fatal."""
    for _ in range(WAIT_STEPS_MAX):
        view: Json = (await site.call("GET", path)).json()[key]
        if view["status"] in target:
            return view
        assert view["status"] in pending, view
        await asyncio.sleep(0)
        await site.settle()
    raise AssertionError(f"{path} never became {target}")


async def test_success_codes(site: Site) -> None:
    """Trap 1: they are compared exactly."""
    production, dr = await site.make_volume("az1"), await site.make_volume("az2")
    fields = {"volume_ids": [production["id"], dr["id"]], "priority_station": "az1", "replication_model": "hypermetro"}
    answer = await site.call("POST", PAIRS, {"replication": fields})
    assert answer.status_code == 202
    pair_id = answer.json()["replication"]["id"]
    answer = await site.call("POST", GROUPS, {"replication_consistency_group": group_fields([pair_id])})
    assert answer.status_code == 202
    group_id = answer.json()["replication_consistency_group"]["id"]
    await site.settle()
    for action in ("sync", "stop"):
        async with site.nodes_running():
            answer = await site.act(group_id, action)
        assert (answer.status_code, answer.content) == (200, b"")
    for path in (PAIRS, GROUPS, f"{PAIRS}/{pair_id}", f"{GROUPS}/{group_id}"):
        assert (await site.call("GET", path)).status_code == 200
    body = {"replication_consistency_group": {"remove_replication_ids": [pair_id]}}
    assert (await site.call("PUT", f"{GROUPS}/{group_id}", body)).status_code == 202
    await site.settle()
    for path in (f"{GROUPS}/{group_id}", f"{PAIRS}/{pair_id}"):
        answer = await site.call("DELETE", path)
        assert (answer.status_code, answer.content) == (202, b"")


async def test_types_of_pair_fields(site: Site) -> None:
    """Trap 2: volume_ids in submitted order; progress, fault_level and failure_detail are strings or null."""
    group = await site.make_group()
    site.az1.primary_mode = Mode.COPYING
    await site.act(group["id"], "sync")
    await site.settle()
    views = [(await site.call("GET", f"{PAIRS}/{group['replication_ids'][0]}")).json()["replication"]]
    views += (await site.call("GET", PAIRS)).json()["replications"]
    for view in views:
        for name in ("progress", "fault_level", "failure_detail"):
            assert view[name] is None or isinstance(view[name], str)
        assert isinstance(view["volume_ids"], str)
        assert isinstance(view["record_metadata"], str)
    assert views[0]["progress"] == "0"


async def test_timestamps_have_no_zone(site: Site) -> None:
    """Trap 3: a Z or an offset fails to parse in the Go SDK."""
    group = await site.make_group()
    pair = await site.show_pair(group["replication_ids"][0])
    volume = await site.show_volume(pair["volume_ids"].split(",")[0])
    for view in (group, pair, volume):
        for name in ("created_at", "updated_at"):
            if view[name] is not None:
                parsed = datetime.datetime.strptime(view[name], "%Y-%m-%dT%H:%M:%S.%f")
                assert parsed.tzinfo is None


async def test_a_put_follows_a_stop_at_once(site: Site) -> None:
    """Trap 4: stop is accepted while copying and when already paused, and is in force before its 200."""
    group = await site.make_group(2)
    site.az1.primary_mode = Mode.COPYING
    await site.act(group["id"], "sync")
    async with site.nodes_running():
        for _ in range(2):
            assert (await site.act(group["id"], "stop")).status_code == 200
        body = {"replication_consistency_group": {"remove_replication_ids": group["replication_ids"][:1]}}
        assert (await site.call("PUT", f"{GROUPS}/{group['id']}", body)).status_code == 202


async def test_get_right_after_create(site: Site) -> None:
    """Trap 5: GET works right after the 202 of a create, with an expected status."""
    answer = await site.call("POST", "/volumes", {"volume": {"size": 1}})
    assert (await site.show_volume(answer.json()["volume"]["id"]))["status"] == "creating"
    pair = await site.make_pair()
    assert pair["status"] in ("creating", "available")
    answer = await site.call("POST", GROUPS, {"replication_consistency_group": group_fields([pair["id"]])})
    group_id = answer.json()["replication_consistency_group"]["id"]
    assert (await site.show_group(group_id))["status"] == "creating"


async def test_what_was_deleted_is_gone_and_frees_the_rest(site: Site) -> None:
    """Trap 6: a real 404 after a delete; then volumes and removed pairs can be deleted."""
    group = await site.make_group(2)
    pairs = [await site.show_pair(pair_id) for pair_id in group["replication_ids"]]
    body = {"replication_consistency_group": {"remove_replication_ids": group["replication_ids"]}}
    await site.call("PUT", f"{GROUPS}/{group['id']}", body)
    await wait_for(site, f"{GROUPS}/{group['id']}", "replication_consistency_group", {"updating"}, {"available"})
    for pair in pairs:
        assert (await site.call("DELETE", f"{PAIRS}/{pair['id']}")).status_code == 202
        assert (await site.call("GET", f"{PAIRS}/{pair['id']}")).status_code == 404
        for volume_id in pair["volume_ids"].split(","):
            assert (await site.call("DELETE", f"/volumes/{volume_id}")).status_code == 202
    await site.call("DELETE", f"{GROUPS}/{group['id']}")
    assert (await site.call("GET", f"{GROUPS}/{group['id']}")).status_code == 404
    await site.settle()
    assert (await site.call("GET", "/volumes")).json() == {"volumes": []}


async def test_lists_have_one_array(site: Site) -> None:
    """Trap 7: a second top-level array is taken for data, and nobody follows pages."""
    for _ in range(3):
        await site.make_group()
    for path in (PAIRS, GROUPS):
        body: dict[str, Any] = (await site.call("GET", path)).json()
        arrays = [key for key, value in body.items() if isinstance(value, list) and not key.endswith("links")]
        assert len(arrays) == 1
        assert len(body[arrays[0]]) == 3


async def test_terraform(site: Site) -> None:
    """Trap 9: what the provider does for a group, call by call, with one token for all of it."""
    pairs = [await site.make_pair() for _ in range(2)]
    ids = [pair["id"] for pair in pairs]
    # It logs in twice: project scope, then domain scope.
    domain = await site.http.post(
        "/identity/v3/auth/tokens", json=login_body(site.password, {"domain": {"name": "Default"}})
    )
    assert domain.status_code == 201

    answer = await site.call("POST", GROUPS, {"replication_consistency_group": group_fields(ids[:1], name="tf")})
    path = f"{GROUPS}/{answer.json()['replication_consistency_group']['id']}"
    key = "replication_consistency_group"
    group = await wait_for(site, path, key, {"creating"}, {"available"})
    assert (await site.act(group["id"], "sync")).status_code == 200
    assert (await site.call("GET", path)).json()[key]["name"] == "tf"

    async with site.nodes_running():
        assert (await site.act(group["id"], "stop")).status_code == 200
    assert (await site.call("GET", path)).status_code == 200
    fields = {
        "name": "tf",
        "description": "",
        "add_replication_ids": ids[1:],
        "remove_replication_ids": [],
        "replication_model": "hypermetro",
    }
    assert (await site.call("PUT", path, {key: fields})).status_code == 202
    group = await wait_for(site, path, key, {"updating"}, {"available"})
    assert group["replication_ids"] == ids
    assert (await site.act(group["id"], "sync")).status_code == 200
    assert (await site.call("GET", path)).status_code == 200

    async with site.nodes_running():
        assert (await site.act(group["id"], "stop")).status_code == 200
    group = (await site.call("GET", path)).json()[key]
    answer = await site.call("PUT", path, {key: {"remove_replication_ids": group["replication_ids"]}})
    assert answer.status_code == 202
    await wait_for(site, path, key, {"updating"}, {"available"})
    assert (await site.call("DELETE", path)).status_code == 202
    assert (await site.call("GET", path)).status_code == 404
