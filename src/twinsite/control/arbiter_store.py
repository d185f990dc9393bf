"""The arbiter as workers meet it: the rules of `core.arbiter` on rows that are durable before anything is answered."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.context import Context, observed_workers
from twinsite.control.database import ArbiterChanges, note_arbiter_changes
from twinsite.control.lifecycle import chronicle
from twinsite.control.models import Group
from twinsite.control.refusals import not_found
from twinsite.control.repository import arbiter_rows, objects, sites
from twinsite.core.arbiter import Reached, Reason, Refusal, Row, secondary_in_sync, suspend_secondary
from twinsite.errors import InternalError

SWAPS_MAX = 8
"""Most attempts at one compare-and-swap. A caller that names a version is refused at the second."""


class ArbiterCall(StrEnum):
    """What a worker may ask."""

    READ = "read"
    SUSPEND_SECONDARY = "suspend_secondary"
    SECONDARY_IN_SYNC = "secondary_in_sync"


@dataclass(frozen=True, slots=True)
class Question:
    """A worker's call. `site`, `term` and `version` are what the worker believes; `read` needs none of them.

    `request_id` is the request of the API that the call follows from, as far as the worker knows.
    """

    call: ArbiterCall
    site: str = ""
    term: int = 0
    version: int = 0
    request_id: str = ""


Rule = Callable[[Row], Row | Refusal]


def worker_token(node_token: str, group_id: str) -> str:
    """Return what the workers of a group show the arbiter: it opens the record of that group and nothing else."""
    return hmac.new(node_token.encode(), f"arbiter:{group_id}".encode(), hashlib.sha256).hexdigest()


class ArbiterStore:
    """The arbiter of every group. Several controllers may answer on one database."""

    def __init__(self, context: Context) -> None:
        """Work on the controller's database."""
        self._context = context

    async def answer(self, group_id: str, question: Question) -> Row | Refusal:
        """Answer a worker. A grant is on disk when this returns; `RequestRefused` (404) for a group that is not there.

        Every change raises the row's version, so a call that is repeated because its answer was lost is refused with
        `other_version` and the row that the first one made: the caller sees that, and asks anew or is content.
        """
        if question.call is ArbiterCall.READ:
            async with self._context.database.read() as session:
                row = await arbiter_rows.find(session, group_id)
            if row is None:
                raise not_found("arbiter's record of the group", group_id)
            return row
        async with self._context.database.write() as session:
            # Whoever changes both locks the group first, so that two writers cannot deadlock.
            groups = await objects.groups_by_ids(session, [group_id], locked=True)
            is_lost = question.site in await sites.lost_names(session)
            answer = await swap(session, group_id, lambda row: _decide(row, question, is_lost))
            if isinstance(answer, Row):
                await self._settle(session, groups)
                # Nodes remember generations: one that was there when this was granted knows a backup from before it.
                await sites.raise_generation(
                    session, {s for g in groups for s in (g.priority_station, g.secondary_station)}
                )
        if isinstance(answer, Row):
            await self._context.wakeups.notify()
        return answer

    async def _settle(self, session: AsyncSession, groups: Sequence[Group]) -> None:
        """Derive the group's replication status anew: whether it is `active` depends on the row."""
        for group in groups:
            reports = await observed_workers(session, [group.id])
            connected = await self._context.connected_sites(session)
            group.replication_status = self._context.health(group, reports, connected).replication_status.value
            await chronicle.observe(self._context, session, group, reports, connected)


async def swap(session: AsyncSession, group_id: str, rule: Rule) -> Row | Refusal:
    """Apply a rule to a group's row by compare-and-swap, within the caller's transaction.

    Returns what the rule says. `RequestRefused` (404) when there is no row.
    """
    for _ in range(SWAPS_MAX):
        row = await arbiter_rows.find(session, group_id)
        if row is None:
            raise not_found("arbiter's record of the group", group_id)
        answer = rule(row)
        if isinstance(answer, Refusal):
            return answer
        if await arbiter_rows.replace(session, group_id, row.version, answer):
            count = await arbiter_rows.count_change(session)
            note_arbiter_changes(session, ArbiterChanges(count, Reached(answer.term, answer.version)))
            return answer
    raise InternalError(f"the arbiter's row of the group {group_id} changed {SWAPS_MAX} times under one transaction")


def _decide(row: Row, question: Question, is_lost: bool) -> Row | Refusal:
    site, term, version = question.site, question.term, question.version
    if is_lost:
        return Refusal(Reason.NOT_PRIMARY, row)  # Whoever still runs there must not go on alone.
    if question.call is ArbiterCall.SUSPEND_SECONDARY:
        return suspend_secondary(row, site=site, term=term, version=version, now=time.time())
    return secondary_in_sync(row, site=site, term=term, version=version)
