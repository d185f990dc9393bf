"""Extending one volume, from the call to its node and back, with a death after every step."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.support.controller import PAIRS, Json, Site, make_settings, open_site
from tests.support.site_fixtures import Prepared
from tests.unit.api.test_moves import silenced
from tests.unit.api.test_volumes import connect_body
from twinsite.core.limits import GIB
from twinsite.messages import Failure

FULL = Failure("37100177", "the pool has no room")
STEPS = 5
"""More steps than an extension takes of its node."""


async def extend(site: Site, volume_id: str, new_size: int, status: int = 202, *words: str) -> None:
    """Ask for an extension; check the answer."""
    answer = await site.call("POST", f"/volumes/{volume_id}/action", {"os-extend": {"new_size": new_size}})
    assert answer.status_code == status, answer.text
    if status == 202:
        assert answer.content == b""
    for word in words:
        assert word in answer.text


async def state(site: Site, volume_id: str) -> tuple[str, int]:
    """Return a volume's status and size in GiB."""
    volume = await site.show_volume(volume_id)
    return volume["status"], volume["size"]


def told(site: Site) -> tuple[int, int]:
    """Return what the node of az1 was last told of its one volume, in GiB: its size, and the room behind it."""
    assert site.az1.desired is not None
    (volume,) = site.az1.desired.volumes
    return volume.size_bytes // GIB, volume.room_bytes // GIB


async def attached_volume(site: Site) -> Json:
    """Make a volume with a host."""
    volume = await site.make_volume()
    async with site.nodes_running():
        assert (await site.call("POST", f"/volumes/{volume['id']}/action", connect_body())).status_code == 200
    await site.settle()
    return volume


async def test_a_volume_grows_once_its_pool_has_the_room(site: Site) -> None:
    volume = await site.make_volume()
    await extend(site, volume["id"], 3)
    assert await state(site, volume["id"]) == ("extending", 1)
    await site.az1.post()
    assert told(site) == (1, 3)
    usage = (await site.call("GET", f"/os-quota-sets/{site.project_id}?usage=True")).json()["quota_set"]
    assert usage["gigabytes"]["in_use"] == 3
    await site.settle()
    assert await state(site, volume["id"]) == ("available", 3)
    await site.az1.post()
    assert told(site) == (3, 0)


async def test_a_host_that_connects_after_it_sees_the_new_size(site: Site) -> None:
    volume = await attached_volume(site)
    await extend(site, volume["id"], 2)
    await site.az1.step()
    assert told(site) == (1, 2), "the node has the wish, and has not said that there is room"
    version = site.az1.spec(volume["id"]).version
    assert site.az1.spec(volume["id"]).members[0].size_bytes == GIB
    await site.az1.post()
    assert told(site) == (2, 2)
    spec = site.az1.spec(volume["id"])
    assert (spec.version > version, spec.members[0].size_bytes) == (True, 2 * GIB)
    assert await state(site, volume["id"]) == ("extending", 1), "the worker has not taken it up yet"
    await site.settle()
    assert await state(site, volume["id"]) == ("in-use", 2)
    assert [host["host_name"] for host in (await site.show_volume(volume["id"]))["attachments"]] == ["host-1"]


async def test_a_repeated_call_is_harmless(site: Site) -> None:
    volume = await site.make_volume()
    for _ in range(2):
        await extend(site, volume["id"], 2)
    await extend(site, volume["id"], 3, 409, "being extended to 2 GiB")
    await site.settle()
    generation = site.az1.generation
    await extend(site, volume["id"], 2, 400, "EVS.1015")
    assert (await site.az1.post()).generation == generation
    assert await state(site, volume["id"]) == ("available", 2)


async def test_of_two_extensions_at_once_one_wins(site: Site) -> None:
    volume = await site.make_volume()
    path, sizes = f"/volumes/{volume['id']}/action", (2, 3, 4)
    answers = await asyncio.gather(*(site.call("POST", path, {"os-extend": {"new_size": size}}) for size in sizes))
    assert sorted(answer.status_code for answer in answers) == [202, 409, 409]
    winner = next(size for size, answer in zip(sizes, answers, strict=True) if answer.status_code == 202)
    await site.settle()
    assert await state(site, volume["id"]) == ("available", winner)


async def test_while_it_grows_nothing_else_is_done_with_it(site: Site) -> None:
    volume, dr = await attached_volume(site), await site.make_volume("az2")
    path = f"/volumes/{volume['id']}"
    await extend(site, volume["id"], 2)
    body = {"volume_ids": [volume["id"], dr["id"]], "priority_station": "az1", "replication_model": "hypermetro"}
    for method, rest, wanted in (
        ("DELETE", path, None),
        ("POST", f"{path}/action", connect_body("host-2")),
        ("POST", PAIRS, {"replication": body}),
    ):
        answer = await site.call(method, rest, wanted)
        assert (answer.status_code, "'extending'" in answer.text) == (400, True), answer.text
    answer = await site.call("POST", f"{path}/action", {"os-terminate_connection": None})
    assert answer.status_code == 202
    await site.settle()
    assert await state(site, volume["id"]) == ("available", 2)


async def test_what_the_pool_refuses_is_undone_and_can_be_left_in_three_ways(site: Site) -> None:
    volume = await attached_volume(site)
    path = f"/volumes/{volume['id']}"
    for leave in ("extend again", "leave as it is", "delete"):
        site.az1.room_failures[volume["id"]] = FULL
        size = (await site.show_volume(volume["id"]))["size"]
        await extend(site, volume["id"], size + 1)
        await site.settle()
        shown = await site.show_volume(volume["id"])
        assert (shown["status"], shown["size"]) == ("error_extending", size)
        assert shown["twinsite"]["failure"]["code"] == FULL.code
        assert FULL.message in shown["twinsite"]["failure"]["message"]
        await site.settle()
        assert told(site) == (size, 0)
        assert (await site.show_volume(volume["id"]))["twinsite"]["failure"] is not None
        await extend(site, volume["id"], size - 1, 400, "EVS.10")
        site.az1.room_failures.clear()
        if leave == "extend again":
            await extend(site, volume["id"], size + 1)
            await site.settle()
            assert await state(site, volume["id"]) == ("in-use", size + 1)
        elif leave == "leave as it is":
            await extend(site, volume["id"], size)
            shown = await site.show_volume(volume["id"])
            assert (shown["status"], shown["twinsite"]["failure"]) == ("in-use", None)
        else:
            await site.call("POST", f"{path}/action", {"os-terminate_connection": None})
            assert (await site.call("DELETE", path)).status_code == 202
            await site.settle()
            assert (await site.call("GET", path)).status_code == 404


async def test_a_refusal_is_taken_again_when_the_same_is_asked_again(site: Site) -> None:
    volume = await site.make_volume()
    site.az1.room_failures[volume["id"]] = FULL
    for _ in range(2):
        await extend(site, volume["id"], 2)
        await site.settle()
        assert await state(site, volume["id"]) == ("error_extending", 1)


async def test_a_volume_that_fails_meanwhile_is_in_error(site: Site) -> None:
    volume = await site.make_volume()
    site.az1.volume_failures[volume["id"]] = FULL
    await extend(site, volume["id"], 2)
    await site.settle()
    shown = await site.show_volume(volume["id"])
    assert (shown["status"], shown["size"], shown["twinsite"]["failure"]["code"]) == ("error", 1, FULL.code)
    site.az1.volume_failures.clear()
    await site.settle()
    assert await state(site, volume["id"]) == ("available", 1)


async def test_a_silent_site_is_named_and_one_that_is_given_up_undoes_it(site: Site) -> None:
    volume = await site.make_volume()
    async with silenced(site, "az1"):
        await extend(site, volume["id"], 2, 503, "37100043", "az1")
        assert await state(site, volume["id"]) == ("available", 1)
    await extend(site, volume["id"], 2)
    async with silenced(site, "az1"):
        answer = await site.call("POST", "/os-vendor-sites/az1/action", {"os-forget-site": None})
        assert answer.status_code == 200, answer.text
        for _ in range(200):
            if (await site.show_volume(volume["id"]))["status"] == "error_extending":
                break
            await asyncio.sleep(0.05)
        assert await state(site, volume["id"]) == ("error_extending", 1)
        assert (await site.call("DELETE", f"/volumes/{volume['id']}")).status_code == 202


@pytest.mark.parametrize("steps", range(STEPS))
@pytest.mark.parametrize("is_attached", [False, True])
async def test_a_controller_that_dies_after_any_step_is_followed_by_one_that_finishes(
    prepared: Prepared, tmp_path: Path, steps: int, is_attached: bool
) -> None:
    directory = tmp_path / "data"
    shutil.copytree(prepared.directory, directory)
    async with open_site(make_settings(directory), prepared.token) as site:
        volume = await attached_volume(site) if is_attached else await site.make_volume()
        await extend(site, volume["id"], 2)
        for _ in range(steps):
            await site.az1.step()
    async with open_site(make_settings(directory), prepared.token, nodes_of=site) as again:
        await again.settle()
        assert await state(again, volume["id"]) == ("in-use" if is_attached else "available", 2)
        await again.settle()
        assert told(again) == (2, 0)
