"""What an arbiter store promises: one compare-and-swap at a time, on disk before it is answered, whoever asks."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.controller import make_settings
from twinsite.control.arbiter_store import ArbiterCall, ArbiterStore, Question, swap
from twinsite.control.clock import utc_now
from twinsite.control.context import Context
from twinsite.control.controller import Controller
from twinsite.control.models import Domain, Group, Project
from twinsite.control.refusals import RequestRefused
from twinsite.control.repository import arbiter_rows, objects
from twinsite.core.arbiter import Reason, Refusal, Row, Secondary, first_row, promote

GROUP_ID = "00000000-0000-4000-8000-000000000001"
CALLERS = 8
RANDOM_CALLS = 60

SUSPEND, IN_SYNC, READ = ArbiterCall.SUSPEND_SECONDARY, ArbiterCall.SECONDARY_IN_SYNC, ArbiterCall.READ


@contextlib.asynccontextmanager
async def controller(directory: Path) -> AsyncIterator[Context]:
    """Run a controller on a directory's database."""
    opened = await Controller.open(make_settings(directory))
    try:
        yield opened.context
    finally:
        await opened.close()


async def add_group(context: Context, group_id: str = GROUP_ID) -> None:
    """Record an empty group of az1."""
    async with context.database.write() as session:
        if await session.get(Domain, "d") is None:
            session.add(Domain(id="d", name="d"))
            session.add(Project(id="p", name="p", domain_id="d"))
            await session.flush()
        session.add(
            Group(
                id=group_id,
                project_id="p",
                priority_station="az1",
                secondary_station="az2",
                replication_model="hypermetro",
                status="available",
                replication="running",
                replication_status="copying",
                stream_key="",
                next_member_index=0,
                version=1,
                spec_version=1,
                wish_version=1,
                created_at=utc_now(),
                pairs=[],
                arbiter=arbiter_rows.stored(first_row("az1", 100.0)),
            )
        )


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    """A controller with one group."""
    async with controller(tmp_path) as opened:
        await add_group(opened)
        yield opened


def ask(call: ArbiterCall, version: int, *, site: str = "az1", term: int = 1) -> Question:
    """Return a question of the first primary."""
    return Question(call, site, term, version)


async def read(store: ArbiterStore) -> Row:
    """Return the row."""
    row = await store.answer(GROUP_ID, Question(READ))
    assert isinstance(row, Row)
    return row


async def test_a_new_group_promises_nothing(context: Context) -> None:
    assert await read(ArbiterStore(context)) == Row(1, "az1", Secondary.STALE, 100.0, 1)


async def test_grants_and_refusals(context: Context) -> None:
    store = ArbiterStore(context)
    granted = await store.answer(GROUP_ID, ask(IN_SYNC, 1))
    assert granted == Row(1, "az1", Secondary.IN_SYNC, None, 2)
    assert await store.answer(GROUP_ID, ask(SUSPEND, 1)) == Refusal(Reason.OTHER_VERSION, granted)
    assert await store.answer(GROUP_ID, ask(SUSPEND, 2, term=2)) == Refusal(Reason.OTHER_TERM, granted)
    assert await store.answer(GROUP_ID, ask(SUSPEND, 2, site="az2")) == Refusal(Reason.NOT_PRIMARY, granted)
    assert await read(store) == granted
    suspended = await store.answer(GROUP_ID, ask(SUSPEND, 2))
    assert isinstance(suspended, Row)
    assert (suspended.secondary, suspended.version) == (Secondary.STALE, 3)
    assert suspended.stale_since is not None
    assert suspended.stale_since > 100.0
    assert await read(store) == suspended


async def test_a_grant_is_there_after_a_restart(tmp_path: Path) -> None:
    async with controller(tmp_path) as first:
        await add_group(first)
        granted = await ArbiterStore(first).answer(GROUP_ID, ask(IN_SYNC, 1))
    async with controller(tmp_path) as second:
        assert await read(ArbiterStore(second)) == granted


async def test_a_grant_is_seen_by_others_before_it_is_answered(tmp_path: Path) -> None:
    async with controller(tmp_path) as first, controller(tmp_path) as second:
        await add_group(first)
        granted = await ArbiterStore(first).answer(GROUP_ID, ask(IN_SYNC, 1))
        assert await read(ArbiterStore(second)) == granted


async def test_of_callers_that_saw_the_same_one_wins(tmp_path: Path) -> None:
    async with controller(tmp_path) as first, controller(tmp_path) as second:
        await add_group(first)
        stores = [ArbiterStore(first), ArbiterStore(second)]
        calls = [stores[n % 2].answer(GROUP_ID, ask(SUSPEND if n % 3 else IN_SYNC, 1)) for n in range(CALLERS)]
        answers = await asyncio.gather(*calls)
        (granted,) = [answer for answer in answers if isinstance(answer, Row)]
        refusals = [answer for answer in answers if isinstance(answer, Refusal)]
        assert refusals == [Refusal(Reason.OTHER_VERSION, granted)] * (CALLERS - 1)
        assert await read(stores[0]) == granted


async def test_a_promotion_and_a_report_at_once(tmp_path: Path) -> None:
    """Whichever comes first, the other is refused: nobody is primary by a row that was replaced."""
    async with controller(tmp_path) as first, controller(tmp_path) as second:
        await add_group(first)

        async def fail_over() -> Row | Refusal:
            async with second.database.write() as session:
                return await swap(
                    session, GROUP_ID, lambda row: promote(row, site="az2", version=1, force=True, now=200.0)
                )

        promoted, reported = await asyncio.gather(fail_over(), ArbiterStore(first).answer(GROUP_ID, ask(IN_SYNC, 1)))
        assert isinstance(promoted, Row) != isinstance(reported, Row)
        row = await read(ArbiterStore(first))
        assert row == (promoted if isinstance(promoted, Row) else reported)
        if isinstance(promoted, Row):
            assert (row.term, row.primary_site) == (2, "az2")
            assert reported == Refusal(Reason.OTHER_TERM, row)


async def test_a_call_whose_answer_was_lost(context: Context) -> None:
    """Repeating it as it was is refused with the row that it made, so the caller learns that it took effect."""
    store = ArbiterStore(context)
    for call, secondary in ((IN_SYNC, Secondary.IN_SYNC), (SUSPEND, Secondary.STALE), (SUSPEND, Secondary.STALE)):
        version = (await read(store)).version
        made = await store.answer(GROUP_ID, ask(call, version))
        again = await store.answer(GROUP_ID, ask(call, version))
        assert isinstance(made, Row)
        assert made.secondary is secondary
        assert again == Refusal(Reason.OTHER_VERSION, made)
        # Asked anew with what the refusal said it is granted, and means the same.
        granted = await store.answer(GROUP_ID, ask(call, made.version))
        assert granted == replace(made, version=made.version + 1)


async def test_calls_in_any_order_never_undo_what_came_after_them(context: Context) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    store = ArbiterStore(context)
    row = await read(store)
    for _ in range(RANDOM_CALLS):
        question = ask(rng.choice([SUSPEND, IN_SYNC]), max(1, row.version - rng.choice([0, 0, 1, 3])))
        answer = await store.answer(GROUP_ID, question)
        assert isinstance(answer, Row) == (question.version == row.version)
        if isinstance(answer, Row):
            assert answer.version == row.version + 1
            assert answer.secondary is (Secondary.STALE if question.call is SUSPEND else Secondary.IN_SYNC)
            row = answer
        else:
            assert answer.row == row
        assert await read(store) == row


@pytest.mark.parametrize("call", ArbiterCall)
async def test_a_group_without_a_row(context: Context, call: ArbiterCall) -> None:
    with pytest.raises(RequestRefused) as refusal:
        await ArbiterStore(context).answer("nobody", ask(call, 1))
    assert refusal.value.status == 404


async def test_groups_have_nothing_to_do_with_each_other(context: Context) -> None:
    other = GROUP_ID.replace("1", "2")
    await add_group(context, other)
    store = ArbiterStore(context)
    await store.answer(other, ask(IN_SYNC, 1))
    assert (await read(store)).version == 1


async def test_the_row_goes_with_its_group(context: Context) -> None:
    async with context.database.write() as session:
        assert await objects.delete_group(session, GROUP_ID, 1)
    with pytest.raises(RequestRefused):
        await ArbiterStore(context).answer(GROUP_ID, Question(READ))
