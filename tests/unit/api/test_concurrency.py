"""Clients that race, and clients that lose answers, over HTTP against a real server: all happens exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import httpx
import pytest

from tests.support.controller import GROUPS, PAIRS, Json, Site, group_fields, make_settings, serve
from tests.support.fake_node import running
from tests.support.raw_http import request
from tests.support.site_fixtures import Prepared
from twinsite.control.lifecycle.states import GroupStatus

RACERS = 6
ROUNDS = 4
WAIT_SECONDS_MAX = 20.0
POLL_SECONDS = 0.02
EXTEND = "os-extend-replication-volumes"
SETTLED = {"available", "failovered", "error", "error_reversing", "error_failovering"}

Call = Callable[[], Awaitable[httpx.Response]]


@pytest.fixture
async def live(prepared: Prepared, tmp_path: Path) -> AsyncIterator[Site]:
    """Give a real server with two running nodes, and a client that opens a connection for each request in flight."""
    directory = tmp_path / "data"
    shutil.copytree(prepared.directory, directory)
    settings = make_settings(directory)
    async with serve(settings) as (server, url), httpx.AsyncClient(base_url=url, timeout=WAIT_SECONDS_MAX) as http:
        site = Site(server.app, http, settings)
        await site.log_in(prepared.token)
        async with running(site.az1, site.az2):
            yield site


async def until_shown(site: Site, path: str, key: str, **fields: object) -> Json:
    """Wait until the API shows an object with these values; return it."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while True:
            shown: Json = (await site.call("GET", path)).json()[key]
            if all(shown[name] == value for name, value in fields.items()):
                return shown
            await asyncio.sleep(POLL_SECONDS)


async def until_group(site: Site, group_id: str, **fields: object) -> Json:
    """Wait until a group shows these values; return it."""
    return await until_shown(site, f"{GROUPS}/{group_id}", "replication_consistency_group", **fields)


async def volume(site: Site, zone: str) -> str:
    """Make a volume, and return its id once it is available."""
    answer = await site.call("POST", "/volumes", {"volume": {"size": 1, "availability_zone": zone}})
    volume_id = str(answer.json()["volume"]["id"])
    await until_shown(site, f"/volumes/{volume_id}", "volume", status="available")
    return volume_id


def pair_fields(production: str, dr: str) -> Json:
    """Return the body of a new pair."""
    fields = {"volume_ids": [production, dr], "priority_station": "az1", "replication_model": "hypermetro"}
    return {"replication": fields}


async def pair(site: Site) -> str:
    """Make a pair, and return its id once it is available."""
    body = pair_fields(await volume(site, "az1"), await volume(site, "az2"))
    pair_id = str((await site.call("POST", PAIRS, body)).json()["replication"]["id"])
    await until_shown(site, f"{PAIRS}/{pair_id}", "replication", status="available")
    return pair_id


async def group(site: Site, *, is_active: bool = True) -> Json:
    """Make a group of one pair, and synchronize it."""
    body = {"replication_consistency_group": group_fields([await pair(site)])}
    group_id = (await site.call("POST", GROUPS, body)).json()["replication_consistency_group"]["id"]
    await until_group(site, group_id, status="available")
    if not is_active:
        return await site.show_group(group_id)
    assert (await site.act(group_id, "sync")).status_code == 200
    return await until_group(site, group_id, replication_status="active")


async def events(site: Site, group_id: str, action: str) -> list[Json]:
    """Return a group's events of an action that was asked for, the newest first."""
    answer = await site.call("GET", f"{GROUPS}/{group_id}/events")
    return [event for event in answer.json()["events"] if event["action"] == action and event["result"] == "accepted"]


async def race(*calls: Call) -> list[int]:
    """Make calls at once; return their statuses. Who loses is told so: by what was first, or the state that made."""
    answers = await asyncio.gather(*(call() for call in calls))
    for answer in answers:
        if answer.status_code >= 400:
            ((_, fault),) = answer.json().items()
            assert answer.status_code in (400, 404, 409), answer.text
            assert fault["message"].startswith(("EVS.", "Common."))
    return sorted(answer.status_code for answer in answers)


def losers(statuses: Sequence[int], won: int) -> list[int]:
    """Return the statuses of those who lost, after checking that exactly one won."""
    assert Counter(statuses)[won] == 1, statuses
    return [status for status in statuses if status != won]


@pytest.mark.parametrize("action", ["failover", "reverse"])
async def test_a_group_is_moved_once(live: Site, action: str) -> None:
    made = await group(live)
    statuses = await race(*[lambda: live.act(made["id"], action)] * RACERS)
    assert set(losers(statuses, 200)) == {409}
    shown = await until_group(live, made["id"], status="failovered" if action == "failover" else "available")
    assert (shown["priority_station"], shown["twinsite"]["term"]) == ("az2", 2)
    assert len(await events(live, made["id"], action)) == 1


@pytest.mark.parametrize("action", ["failover", "reverse"])
async def test_all_who_name_the_same_site_are_content(live: Site, action: str) -> None:
    made = await group(live)
    value = {"priority_station": "az2"}
    statuses = await race(*[lambda: live.act(made["id"], action, value)] * RACERS)
    assert set(statuses) <= {200, 409}
    assert 200 in statuses
    await until_group(
        live, made["id"], status="failovered" if action == "failover" else "available", priority_station="az2"
    )
    for _ in range(2):
        assert (await live.act(made["id"], action, value)).status_code == 200
    shown = await live.show_group(made["id"])
    assert (shown["priority_station"], shown["twinsite"]["term"]) == ("az2", 2)
    if action == "failover":
        # Whoever repeats it long after does not move the group once more.
        assert (await live.act(made["id"], "reprotect")).status_code == 200
        await until_group(live, made["id"], status="available", replication_status="active")
        assert (await live.act(made["id"], action, value)).status_code == 200
        assert (await live.show_group(made["id"]))["priority_station"] == "az2"
    refused = await live.act(made["id"], action, {"priority_station": "az9"})
    assert (refused.status_code, refused.headers["x-twinsite-error-code"]) == (400, "EVS.1036")


@pytest.mark.parametrize("action", ["sync", "stop"])
async def test_all_who_want_the_same_get_it_once(live: Site, action: str) -> None:
    made = await group(live, is_active=action == "stop")
    assert await race(*[lambda: live.act(made["id"], action)] * RACERS) == [200] * RACERS
    assert len(await events(live, made["id"], action)) == 1
    await until_group(live, made["id"], replication_status="active" if action == "sync" else "active-stopped")


async def test_a_pair_comes_into_one_group(live: Site) -> None:
    body = {"replication_consistency_group": group_fields([await pair(live)])}
    statuses = await race(*[lambda: live.call("POST", GROUPS, body)] * RACERS)
    assert set(losers(statuses, 202)) == {400}
    assert len((await live.call("GET", GROUPS)).json()["replication_consistency_groups"]) == 1


async def test_a_volume_comes_into_one_pair(live: Site) -> None:
    body = pair_fields(await volume(live, "az1"), await volume(live, "az2"))
    statuses = await race(*[lambda: live.call("POST", PAIRS, body)] * RACERS)
    assert set(losers(statuses, 202)) == {400}


async def test_everything_is_deleted_once(live: Site) -> None:
    made = await group(live, is_active=False)
    (pair_id,) = made["replication_ids"]
    removal = {"replication_consistency_group": {"remove_replication_ids": [pair_id]}}
    statuses = await race(*[lambda: live.call("PUT", f"{GROUPS}/{made['id']}", removal)] * RACERS)
    assert set(losers(statuses, 202)) <= {400, 409}
    await until_group(live, made["id"], status="available", replication_ids=[])
    volume_id = (await live.show_pair(pair_id))["volume_ids"].split(",")[0]
    for path in (f"{GROUPS}/{made['id']}", f"{PAIRS}/{pair_id}", f"/volumes/{volume_id}"):
        statuses = await race(*[lambda path=path: live.call("DELETE", path)] * RACERS)
        assert set(losers(statuses, 202)) <= {400, 404, 409}


async def test_disks_grow_once(live: Site) -> None:
    made = await group(live)
    (pair_id,) = made["replication_ids"]
    calls: list[Call] = [
        lambda size=size: live.act(made["id"], EXTEND, {"id": pair_id, "new_size": size})  # type: ignore[misc]
        for size in (2, 3)
        for _ in range(RACERS // 2)
    ]
    statuses = await race(*calls)
    assert set(statuses) <= {200, 400, 409}
    assert 200 in statuses
    record = (await live.show_pair(pair_id))["record_metadata"]
    assert '"volume_size": 2' in record or '"volume_size": 3' in record


async def until_settled(site: Site, group_id: str) -> None:
    """Wait until a group is not on its way anywhere."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while True:
            if (await site.show_group(group_id))["status"] in SETTLED:
                return
            await asyncio.sleep(POLL_SECONDS)


async def test_whatever_races_leaves_one_history(live: Site) -> None:
    seed = int(os.environ.get("TWINSITE_TEST_SEED", random.randrange(2**32)))
    print(f"TWINSITE_TEST_SEED={seed}")
    chooser = random.Random(seed)
    made = await group(live)
    (pair_id,) = made["replication_ids"]
    rename = {"replication_consistency_group": {"name": "renamed"}}
    known: list[Call] = [
        lambda: live.act(made["id"], "sync"),
        lambda: live.act(made["id"], "stop"),
        lambda: live.act(made["id"], "failover"),
        lambda: live.act(made["id"], "reverse"),
        lambda: live.act(made["id"], "reprotect"),
        lambda: live.act(made["id"], EXTEND, {"id": pair_id, "new_size": 2}),
        lambda: live.call("PUT", f"{GROUPS}/{made['id']}", rename),
        lambda: live.call("DELETE", f"{GROUPS}/{made['id']}"),
    ]
    for _ in range(ROUNDS):
        await race(*chooser.choices(known, k=RACERS))
        await until_settled(live, made["id"])
    shown = await live.show_group(made["id"])
    GroupStatus(shown["status"])
    told = (await live.call("GET", f"{GROUPS}/{made['id']}/events")).json()["events"][::-1]
    # The events are a chain, and the primary site changes with the term and with nothing else.
    for before, after in itertools.pairwise(told):
        assert after["before"] == before["after"]
        moved = after["before"]["primary_station"] != after["after"]["primary_station"]
        assert after["after"]["term"] - after["before"]["term"] == moved
    assert told[-1]["after"]["term"] == shown["twinsite"]["term"]
    assert (await live.show_pair(pair_id))["priority_station"] == shown["priority_station"]


@contextlib.asynccontextmanager
async def lost_answer(live: Site, path: str, body: str, method: str = "POST") -> AsyncIterator[None]:
    """Send a request, and hang up afterwards without having read its answer."""
    assert live.http.base_url.port is not None
    _, writer = await asyncio.open_connection("127.0.0.1", live.http.base_url.port)
    headers = {"X-Auth-Token": live.http.headers["X-Auth-Token"], "Content-Type": "application/json"}
    writer.write(request(method, f"/v2/{live.project_id}{path}", headers, body.encode()))
    try:
        yield
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("action", "value", "after", "repeated"),
    [
        ("sync", "null", {"replication_status": "active"}, 200),
        ("stop", "null", {"replication_status": "active-stopped"}, 200),
        ("failover", "null", {"status": "failovered"}, 400),
        ("failover", '{"priority_station": "az2"}', {"status": "failovered"}, 200),
        ("reverse", '{"priority_station": "az2"}', {"status": "available", "priority_station": "az2"}, 200),
    ],
)
async def test_an_action_whose_answer_was_lost_is_repeated_without_harm(
    live: Site, action: str, value: str, after: Json, repeated: int
) -> None:
    made = await group(live, is_active=action != "sync")
    key = f"os-{action}-replication-consistency-group"
    async with lost_answer(live, f"{GROUPS}/{made['id']}/action", f'{{"{key}": {value}}}'):
        shown = await until_group(live, made["id"], **after)
    answer = await live.act(made["id"], action, json.loads(value))
    assert answer.status_code == repeated, answer.text
    again = await until_group(live, made["id"], **after)
    assert again["twinsite"]["term"] == shown["twinsite"]["term"]
    assert again["priority_station"] == shown["priority_station"]
    assert len(await events(live, made["id"], action)) == 1


async def until_gone(site: Site, path: str) -> None:
    """Wait until an object is a 404."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while True:
            if (await site.call("GET", path)).status_code == 404:
                return
            await asyncio.sleep(POLL_SECONDS)


async def grouped(site: Site, pair_id: str) -> str:
    """Wait until a pair is in a group; return the group's id."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while True:
            group_id = (await site.show_pair(pair_id))["replication_consistency_group_id"]
            if group_id is not None:
                return str(group_id)
            await asyncio.sleep(POLL_SECONDS)


async def test_what_was_created_or_deleted_is_not_so_twice(live: Site) -> None:
    pair_id = await pair(live)
    body = {"replication_consistency_group": group_fields([pair_id])}
    async with lost_answer(live, GROUPS, json.dumps(body)):
        group_id = await grouped(live, pair_id)
    answer = await live.call("POST", GROUPS, body)
    # The refusal names the group that there is, so that a client finds what its first request made.
    assert (answer.status_code, group_id in answer.text) == (400, True)
    await until_group(live, group_id, status="available")
    removal = {"replication_consistency_group": {"remove_replication_ids": [pair_id]}}
    async with lost_answer(live, f"{GROUPS}/{group_id}", json.dumps(removal), "PUT"):
        await until_group(live, group_id, status="available", replication_ids=[])
    assert (await live.call("PUT", f"{GROUPS}/{group_id}", removal)).status_code == 400
    async with lost_answer(live, f"{GROUPS}/{group_id}", "", "DELETE"):
        await until_gone(live, f"{GROUPS}/{group_id}")
    assert (await live.call("DELETE", f"{GROUPS}/{group_id}")).status_code == 404
