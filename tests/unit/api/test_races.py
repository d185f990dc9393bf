"""Two calls at once: one wins, the other is told so or wanted the same."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.controller import GROUPS, PAIRS, Site, until
from twinsite.control.caller import Caller
from twinsite.control.lifecycle import groups
from twinsite.control.lifecycle.group_calls import ShownGroup
from twinsite.control.lifecycle.groups import GroupChange, GroupService
from twinsite.control.lifecycle.moves import MoveService
from twinsite.control.refusals import RequestRefused


class Barrier(GroupService, MoveService):
    """A service whose calls have all read before any of them writes: the worst of all interleavings."""

    def __init__(self, site: Site, parties: int) -> None:
        super().__init__(site.controller.context)
        self._barrier = asyncio.Barrier(parties)
        self._waiting = parties

    async def show(self, project_id: str, group_id: str) -> ShownGroup:
        shown = await super().show(project_id, group_id)
        if self._waiting:
            self._waiting -= 1
            await self._barrier.wait()
        return shown


async def outcomes(*calls: object) -> list[str]:
    """Return "done" or the status of the refusal of each call."""
    results = await asyncio.gather(*calls, return_exceptions=True)  # type: ignore[call-overload]
    for result in results:
        assert result is None or isinstance(result, (RequestRefused, ShownGroup)), result
    return [str(result.status) if isinstance(result, RequestRefused) else "done" for result in results]


async def test_sync_and_rename_at_once(site: Site) -> None:
    group = await site.make_group()
    service = Barrier(site, 2)
    results = await outcomes(
        service.sync(site.project_id, group["id"]),
        service.change(site.project_id, group["id"], GroupChange(name="renamed")),
    )
    assert sorted(results) == ["409", "done"]
    shown = await site.show_group(group["id"])
    if results[0] == "done":
        assert (shown["name"], shown["twinsite"]["replication"]) == (None, "running")
    else:
        assert (shown["name"], shown["twinsite"]["replication"]) == ("renamed", "paused")


async def test_two_updates_at_once(site: Site) -> None:
    group = await site.make_group(2)
    service = Barrier(site, 2)
    first, second = group["replication_ids"]
    results = await outcomes(
        service.change(site.project_id, group["id"], GroupChange(remove_pair_ids=[first])),
        service.change(site.project_id, group["id"], GroupChange(remove_pair_ids=[second])),
    )
    assert sorted(results) == ["409", "done"]
    left = (await site.show_group(group["id"]))["replication_ids"]
    assert left == ([second] if results[0] == "done" else [first])


async def test_deletion_and_update_at_once(site: Site) -> None:
    group = await site.make_group()
    body = {"replication_consistency_group": {"remove_replication_ids": group["replication_ids"]}}
    await site.call("PUT", f"{GROUPS}/{group['id']}", body)
    await site.settle()
    service = Barrier(site, 2)
    results = await outcomes(
        service.delete(site.project_id, group["id"]),
        service.change(site.project_id, group["id"], GroupChange(add_pair_ids=group["replication_ids"])),
    )
    assert sorted(results) == ["409", "done"]
    exists = (await site.call("GET", f"{GROUPS}/{group['id']}")).status_code == 200
    assert exists == (results[1] == "done")
    pair = await site.show_pair(group["replication_ids"][0])
    assert pair["replication_consistency_group_id"] == (group["id"] if exists else None)


async def test_two_syncs_at_once_want_the_same(site: Site) -> None:
    group = await site.make_group()
    service = Barrier(site, 2)
    calls = [service.sync(site.project_id, group["id"]) for _ in range(2)]
    assert await outcomes(*calls) == ["done", "done"]


async def test_two_stops_at_once_want_the_same(site: Site) -> None:
    group = await site.make_group()
    await site.act(group["id"], "sync")
    await site.settle()
    service = Barrier(site, 2)
    async with site.nodes_running():
        calls = [service.stop(site.project_id, group["id"]) for _ in range(2)]
        assert await outcomes(*calls) == ["done", "done"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("failover", "failover"),
        ("failover", "reverse"),
        ("reverse", "reverse"),
        ("stop", "reverse"),
    ],
)
async def test_of_two_moves_at_once_one_wins(site: Site, first: str, second: str) -> None:
    group = await site.make_group()
    await site.act(group["id"], "sync")
    await site.settle()
    service = Barrier(site, 2)
    async with site.nodes_running():
        calls = [getattr(service, name)(site.project_id, group["id"]) for name in (first, second)]
        assert sorted(await outcomes(*calls)) == ["409", "done"]
    await site.settle()
    shown = await site.show_group(group["id"])
    moved = shown["priority_station"] == "az2"
    assert shown["twinsite"]["term"] == (2 if moved else 1)
    assert shown["status"] in ("failovered", "available")


async def test_a_stop_that_a_failover_overtakes_finds_its_pause(site: Site) -> None:
    group = await site.make_group()
    await site.act(group["id"], "sync")
    await site.settle()
    service = Barrier(site, 2)
    async with site.nodes_running():
        calls = [service.failover(site.project_id, group["id"]), service.stop(site.project_id, group["id"])]
        assert await outcomes(*calls) in (["done", "done"], ["409", "done"])
    await site.settle()
    shown = await site.show_group(group["id"])
    assert (shown["twinsite"]["replication"], shown["twinsite"]["mode"]) == ("paused", "paused")


async def test_two_reprotections_at_once(site: Site) -> None:
    group = await site.make_group()
    await site.act(group["id"], "sync")
    await site.settle()
    await site.act(group["id"], "failover")
    await site.settle()
    service = Barrier(site, 2)
    calls = [service.reprotect(site.project_id, group["id"]), service.sync(site.project_id, group["id"])]
    # The sync that lost wanted the same; the reprotection that lost is told.
    assert "done" in await outcomes(*calls)
    await site.settle()
    shown = await site.show_group(group["id"])
    assert (shown["status"], shown["replication_status"]) == ("available", "active")


async def test_a_sync_during_a_stop_wins(site: Site) -> None:
    group = await site.make_group()
    await site.act(group["id"], "sync")
    await site.settle()
    stop = asyncio.create_task(site.act(group["id"], "stop"))
    await site.az1.post(wait_seconds=10)
    assert (await site.act(group["id"], "sync")).status_code == 200
    answer = await stop
    assert answer.status_code == 409
    assert group["id"] in answer.json()["conflictingRequest"]["message"]
    await site.settle()
    assert (await site.show_group(group["id"]))["replication_status"] == "active"


async def test_many_actions_at_once_leave_the_last_wish_that_was_granted(site: Site) -> None:
    group = await site.make_group()
    async with site.nodes_running():
        calls = [site.act(group["id"], "sync" if number % 2 else "stop") for number in range(10)]
        answers = await asyncio.gather(*calls)
        assert {answer.status_code for answer in answers} <= {200, 409}
        assert (await site.act(group["id"], "stop")).status_code == 200
    shown = await site.show_group(group["id"])
    assert (shown["status"], shown["twinsite"]["mode"]) == ("available", "paused")


@pytest.mark.parametrize(
    ("first", "second"), [("failover", "failover"), ("reverse", "failover"), ("failover", "reverse")]
)
async def test_who_looks_after_the_winner_is_told_so_and_who_comes_later_is_not(
    site: Site, monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    group = await site.make_group()
    await site.act(group["id"], "sync")
    await site.settle()
    committed, answered, authenticate = asyncio.Event(), asyncio.Event(), site.controller.authenticator.authenticate

    async def held(_text: str | None) -> Caller:
        await answered.wait()
        return await authenticate(_text)

    async def notify() -> None:
        committed.set()
        await may_answer.wait()

    may_answer = asyncio.Event()
    monkeypatch.setattr(site.controller.authenticator, "authenticate", held)
    early = asyncio.create_task(site.act(group["id"], second))
    await until(lambda: len(site.controller.overlaps) == 1)
    monkeypatch.setattr(site.controller.authenticator, "authenticate", authenticate)
    with monkeypatch.context() as patch:
        patch.setattr(site.controller.context.wakeups, "notify", notify)
        winner = asyncio.create_task(site.act(group["id"], first))
        await committed.wait()
        # The winner's change is in the database, and its answer is not sent.
        during = await site.act(group["id"], second)
        may_answer.set()
        assert (await winner).status_code == 200
    answered.set()
    for loser in (during, await early):
        assert loser.status_code == 409, loser.text
        assert group["id"] in loser.json()["conflictingRequest"]["message"]
    assert len(site.controller.overlaps) == 0
    assert (await site.act(group["id"], second)).status_code == 400


async def test_a_reversal_that_is_repeated_while_it_is_under_way_turns_once(site: Site) -> None:
    group = await site.make_group()
    await site.act(group["id"], "sync")
    await site.settle()
    assert (await site.act(group["id"], "reverse")).status_code == 200
    for _ in range(2):
        repeated = await site.act(group["id"], "reverse")
        assert repeated.status_code == 400
        assert "see which site is primary" in repeated.json()["badRequest"]["message"]
    await site.settle()
    shown = await site.show_group(group["id"])
    assert (shown["status"], shown["priority_station"], shown["twinsite"]["term"]) == ("available", "az2", 2)


async def test_a_change_that_is_undone_overtakes_nobody(site: Site) -> None:
    group = await site.make_group()
    async with site.nodes_running():
        # Each fails in its transaction, after it has written its wish: the DR side is stale.
        answers = await asyncio.gather(*(site.act(group["id"], "failover") for _ in range(6)))
    assert {answer.status_code for answer in answers} == {400}


@pytest.mark.parametrize("swapped", [False, True])
async def test_a_volume_is_paired_once(site: Site, swapped: bool) -> None:
    production = await site.make_volume("az1")
    others = [await site.make_volume("az2") for _ in range(2)]
    bodies = []
    for other in others:
        ids = [production["id"], other["id"]]
        fields = {"volume_ids": ids[::-1] if swapped else ids, "priority_station": "az1"}
        bodies.append({"replication": {**fields, "replication_model": "hypermetro"}})
    answers = await asyncio.gather(*(site.call("POST", PAIRS, body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [202, 400]
    assert len((await site.call("GET", PAIRS)).json()["replications"]) == 1


async def test_a_member_index_is_never_given_twice_while_others_live(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = await site.make_group(2)
    kept, moved = group["replication_ids"]
    for expected in (2, 3):
        for fields in ({"remove_replication_ids": [moved]}, {"add_replication_ids": [moved]}):
            body = {"replication_consistency_group": fields}
            assert (await site.call("PUT", f"{GROUPS}/{group['id']}", body)).status_code == 202
            await site.settle()
        members = (await site.show_group(group["id"]))["twinsite"]["members"]
        assert [(member["replication_id"], member["index"]) for member in members] == [(kept, 0), (moved, expected)]
    monkeypatch.setattr(groups, "MEMBER_INDEXES", 4)
    for fields, status in (({"remove_replication_ids": [moved]}, 202), ({"add_replication_ids": [moved]}, 400)):
        answer = await site.call("PUT", f"{GROUPS}/{group['id']}", {"replication_consistency_group": fields})
        assert answer.status_code == status
        await site.settle()
