"""A plan says what its action would do: the two are compared in every state that a group can be brought to."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from tests.support.controller import GROUPS, Json, Site
from tests.unit.api.test_moves import (
    DISK_FAILS,
    active_group,
    failed_over_to_nobody,
    show,
    silenced,
    stale_group,
    start_reverse,
    start_reverse_late,
    state,
)
from twinsite.api.plans import PlanOne
from twinsite.control.refusals import RequestRefused
from twinsite.messages import Mode

ACTIONS = ("failover", "reverse", "reprotect", "stop", "sync")
TARGETS = (None, "az1", "az2", "az9")
Enter = Callable[[contextlib.AbstractAsyncContextManager[None]], Awaitable[None]]


class NotDone(Exception):
    """What a call was about to commit is undone."""


async def plan(site: Site, group_id: str, action: str, *, force: bool = False, to: str | None = None) -> Json:
    """Ask for a plan, holding the answer to its documented shape."""
    query = f"?action={action}&force={str(force).lower()}" + (f"&priority_station={to}" if to else "")
    answer = await site.call("GET", f"{GROUPS}/{group_id}/plan{query}")
    assert answer.status_code == 200, answer.text
    PlanOne.model_validate(answer.json())
    found: Json = answer.json()["plan"]
    assert (found["action"], found["group_id"]) == (action, group_id)
    assert bool(found["reason"]) != found["allowed"]
    if found["allowed"] or found["needs_force"]:
        assert found["steps"], found
    return found


async def outcome(site: Site, group_id: str, action: str, *, force: bool, to: str | None) -> str | None:
    """Make the call up to its commit, and undo it; return why it is refused, None when it is not."""
    database = site.controller.context.database
    write = database.write

    @contextlib.asynccontextmanager
    async def write_and_undo() -> AsyncIterator[AsyncSession]:
        async with write() as session:
            yield session
            raise NotDone

    moves, groups = site.controller.moves, site.controller.groups
    calls: dict[str, Callable[[], Awaitable[None]]] = {
        "failover": lambda: moves.failover(site.project_id, group_id, force=force, to=to),
        "reverse": lambda: moves.reverse(site.project_id, group_id, to=to),
        "reprotect": lambda: moves.reprotect(site.project_id, group_id),
        "stop": lambda: groups.stop(site.project_id, group_id, force=force),
        "sync": lambda: groups.sync(site.project_id, group_id),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "write", write_and_undo)
        try:
            await calls[action]()
        except NotDone:
            return None
        except RequestRefused as refusal:
            # Whether a worker confirms in time nobody knows before.
            return None if "Repeat the stop" in refusal.message else refusal.message
    return None


async def never_synchronized(site: Site, _enter: Enter) -> Json:
    return await site.make_group()


async def active(site: Site, _enter: Enter) -> Json:
    return await active_group(site)


async def copying(site: Site, _enter: Enter) -> Json:
    site.az1.primary_mode = Mode.COPYING
    group = await site.make_group()
    await site.act(group["id"], "sync")
    await site.settle()
    return group


async def stale(site: Site, _enter: Enter) -> Json:
    return await stale_group(site)


async def paused(site: Site, _enter: Enter) -> Json:
    group = await active_group(site)
    async with site.nodes_running():
        assert (await site.act(group["id"], "stop")).status_code == 200
    return group


async def empty(site: Site, _enter: Enter) -> Json:
    group = await site.make_group()
    body = {"replication_consistency_group": {"remove_replication_ids": group["replication_ids"]}}
    assert (await site.call("PUT", f"{GROUPS}/{group['id']}", body)).status_code == 202
    await site.settle()
    return group


async def updating(site: Site, _enter: Enter) -> Json:
    group = await site.make_group(2)
    body = {"replication_consistency_group": {"remove_replication_ids": group["replication_ids"][:1]}}
    assert (await site.call("PUT", f"{GROUPS}/{group['id']}", body)).status_code == 202
    return group


async def production_silent(site: Site, enter: Enter) -> Json:
    group = await active_group(site)
    await enter(silenced(site, "az1"))
    return group


async def dr_silent(site: Site, enter: Enter) -> Json:
    group = await active_group(site)
    await enter(silenced(site, "az2"))
    return group


async def stale_and_production_silent(site: Site, enter: Enter) -> Json:
    group = await stale_group(site)
    await enter(silenced(site, "az1"))
    return group


async def dr_doubtful(site: Site, _enter: Enter) -> Json:
    group = await active_group(site)
    site.az2.alter(group["id"], doubtful=True)
    await site.az2.post()
    return group


async def dr_inconsistent(site: Site, _enter: Enter) -> Json:
    site.az2.secondaries_consistent = False
    return await stale_group(site)


async def dr_rolls_back(site: Site, _enter: Enter) -> Json:
    group = await stale_group(site)
    site.az2.alter(group["id"], consistent=False, rollback_point=1_767_225_600.0)
    await site.az2.post()
    return group


async def dr_says_nothing(site: Site, _enter: Enter) -> Json:
    group = await stale_group(site)
    del site.az2.workers[group["id"]]
    await site.az2.post()
    return group


async def restored(site: Site, _enter: Enter) -> Json:
    group = await active_group(site)
    assert await site.controller.reconciler._memory.distrust()
    return group


async def failing_over(site: Site, _enter: Enter) -> Json:
    group = await active_group(site)
    assert (await site.act(group["id"], "failover")).status_code == 200
    return group


async def failed_over(site: Site, _enter: Enter) -> Json:
    group = await failing_over(site, _enter)
    await site.settle()
    return group


async def failed_over_and_old_site_silent(site: Site, enter: Enter) -> Json:
    group = await failed_over(site, enter)
    await enter(silenced(site, "az1"))
    return group


async def failover_failed(site: Site, _enter: Enter) -> Json:
    return await failed_over_to_nobody(site)


async def failover_failed_for_good(site: Site, _enter: Enter) -> Json:
    group = await active_group(site)
    site.az2.worker_failures[group["id"]] = DISK_FAILS
    await site.act(group["id"], "failover")
    await site.settle()
    return group


async def failover_failed_and_gone(site: Site, enter: Enter) -> Json:
    group = await failed_over_to_nobody(site)
    await enter(silenced(site, "az2"))
    return group


async def reversing(site: Site, _enter: Enter) -> Json:
    return await start_reverse(site)


async def reversal_failed(site: Site, _enter: Enter) -> Json:
    site.settings.reverse_wait_seconds = 1e-6
    group = await start_reverse_late(site)
    await site.settle()
    return group


async def reversed_group(site: Site, _enter: Enter) -> Json:
    group = await active_group(site)
    await site.act(group["id"], "reverse")
    await site.settle()
    return group


async def extending(site: Site, _enter: Enter) -> Json:
    group = await active_group(site)
    site.settings.extend_wait_seconds = 0.01
    value = {"replications": [{"id": group["replication_ids"][0], "new_size": 2}]}
    answer = await site.act(group["id"], "os-extend-replication-volumes", value)
    assert answer.status_code == 503, answer.text
    return group


STATES = (
    never_synchronized,
    active,
    copying,
    stale,
    paused,
    empty,
    updating,
    production_silent,
    dr_silent,
    stale_and_production_silent,
    dr_doubtful,
    dr_inconsistent,
    dr_rolls_back,
    dr_says_nothing,
    restored,
    failing_over,
    failed_over,
    failed_over_and_old_site_silent,
    failover_failed,
    failover_failed_for_good,
    failover_failed_and_gone,
    reversing,
    reversal_failed,
    reversed_group,
    extending,
)


@pytest.mark.parametrize("prepare", STATES, ids=lambda prepare: prepare.__name__)
async def test_a_plan_says_what_its_action_would_answer(
    site: Site, prepare: Callable[[Site, Enter], Awaitable[Json]]
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        group = await prepare(site, stack.enter_async_context)
        site.settings.stop_wait_seconds = 0.01
        before = await show(site, group["id"])
        for action in ACTIONS:
            answers: dict[bool, Any] = {}
            for force in (False, True):
                for to in TARGETS if action in ("failover", "reverse") else TARGETS[:1]:
                    told = await plan(site, group["id"], action, force=force, to=to)
                    if force and action not in ("failover", "stop"):
                        assert told["reason"] == answers[False] or to is not None
                        continue
                    refusal = await outcome(site, group["id"], action, force=force, to=to)
                    assert told["reason"] == refusal, (action, force, to)
                    if to is None:
                        answers[force] = told["reason"]
                        needs_force = told["needs_force"]
            is_so = action in ("failover", "stop") and bool(answers[False]) and not answers.get(True)
            assert needs_force == is_so, action
        assert await show(site, group["id"]) == before, "a plan, or a call that was undone, has changed something"


async def test_the_plan_of_a_failover_comes_true(site: Site) -> None:
    group = await active_group(site, 2)
    disk = (await site.show_pair(group["replication_ids"][0]))["volume_ids"].split(",")[0]
    body = {"os-initialize_connection": {"connector": {"host": "db-server"}}}
    async with site.nodes_running():
        assert (await site.call("POST", f"/volumes/{disk}/action", body)).status_code == 200
    told = await plan(site, group["id"], "failover")
    assert (told["allowed"], told["needs_force"], told["loss"]) == (True, False, None)
    assert (told["from_site"], told["to_site"]) == ("az1", "az2")
    assert "db-server" in " ".join(told["first"])
    assert "reverse" in " ".join(told["first"])
    assert "az2" in told["hosts"]
    assert (await site.act(group["id"], "failover")).status_code == 200
    await site.settle()
    shown = await show(site, group["id"])
    assert (shown["status"], shown["priority_station"]) == ("failovered", told["to_site"])
    again = await plan(site, group["id"], "failover", to="az2")
    assert (again["allowed"], again["steps"]) == (True, ["Nothing: az2 is the primary site already."])


async def test_the_loss_of_a_forced_failover_is_told_before(site: Site) -> None:
    group = await stale_group(site, dirty_bytes=65536)
    told = await plan(site, group["id"], "failover")
    assert (told["allowed"], told["needs_force"]) == (False, True)
    assert told["loss"] == group["twinsite"]["failover"]["loss"]
    assert (told["loss"]["bytes_at_most"], "65536 bytes" in told["loss_text"]) == (65536, True)
    assert f"twinsite group sync --wait {group['id']}" in " ".join(told["first"])
    forced = await plan(site, group["id"], "failover", force=True)
    assert (forced["allowed"], forced["steps"]) == (True, told["steps"])


async def test_a_pause_that_would_wait_for_ever_is_told_before(site: Site) -> None:
    site.settings.stop_wait_seconds = 0.05
    group = await active_group(site)
    site.az1.obeys_workers = False
    site.az1.alter(group["id"], mode=Mode.HOLDING, doubtful=True)
    await site.az1.post()
    told = await plan(site, group["id"], "stop")
    assert (told["allowed"], told["needs_force"]) == (False, True)
    assert "az2, which has them" in told["reason"]
    assert "only az2 may have" in told["loss_text"]
    answer = await site.act(group["id"], "stop")
    assert (answer.status_code, "az2, which has them" in answer.text, "with force" in answer.text) == (503, True, True)


async def test_when_neither_site_is_sure_no_plan_sends_anybody_to_the_other(site: Site) -> None:
    site.settings.stop_wait_seconds = 0.05
    group = await active_group(site)
    site.az1.obeys_workers = False
    site.az1.alter(group["id"], mode=Mode.HOLDING, doubtful=True)
    site.az2.alter(group["id"], doubtful=True)
    await site.az1.post()
    await site.az2.post()
    told = await plan(site, group["id"], "stop")
    assert (told["allowed"], told["needs_force"]) == (False, True)
    assert "missing in both az1 and az2" in told["reason"]
    failing_over = await plan(site, group["id"], "failover")
    for one in (told, failing_over):
        assert "Copy the disks of both sites" in one["first"][0]
    assert not any("nothing is lost" in text for text in failing_over["first"])
    assert ("Let az1 go on" in failing_over["reason"], "Synchronize it" in failing_over["reason"]) == (True, False)
    answer = await site.act(group["id"], "stop")
    assert (answer.status_code, "a person says which one" in answer.text) == (503, True)


async def test_the_plan_of_a_reversal_comes_true(site: Site) -> None:
    group = await active_group(site)
    told = await plan(site, group["id"], "reverse", to="az2")
    assert (told["allowed"], told["from_site"], told["to_site"]) == (True, "az1", "az2")
    await site.act(group["id"], "reverse", {"priority_station": "az2"})
    await site.settle()
    assert state(await show(site, group["id"]))[2] == "az2"


@pytest.mark.parametrize(
    "query",
    ["", "?action=explode", "?action=failover&force=maybe", f"?action=sync&priority_station={'z' * 256}"],
)
async def test_what_makes_no_sense_is_refused(site: Site, query: str) -> None:
    group = await site.make_group()
    answer = await site.call("GET", f"{GROUPS}/{group['id']}/plan{query}")
    assert answer.status_code == 400, answer.text


async def test_no_plan_for_what_is_not_there(site: Site) -> None:
    answer = await site.call("GET", f"{GROUPS}/00000000-0000-4000-8000-000000000000/plan?action=stop")
    assert answer.status_code == 404
