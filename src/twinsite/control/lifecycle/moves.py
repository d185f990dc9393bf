"""Moving a group between its sites: failover, reverse, reprotect. What workers must do for it follows in `settling`.

Every step is one transaction, and the next step follows from the database and the workers' reports alone: a controller
that dies between two steps, or another one beside it, goes on from there.
"""

from __future__ import annotations

import datetime
import time
from dataclasses import replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.arbiter_store import swap
from twinsite.control.clock import utc_now
from twinsite.control.lifecycle import chronicle
from twinsite.control.lifecycle.admission import (
    Failover,
    decide_failover,
    failover_is_due,
    refuse_promotion,
    require_both,
    reverse_is_due,
)
from twinsite.control.lifecycle.group_calls import GroupCalls, lost
from twinsite.control.lifecycle.outlook import FailoverFacts, is_known_doubtful
from twinsite.control.lifecycle.states import GroupCall, GroupStatus, ReplicationStatus, admit_group
from twinsite.control.models import Group, Pair
from twinsite.control.repository import objects
from twinsite.core.arbiter import Refusal, Row, promote
from twinsite.messages import Replication


class MoveService(GroupCalls):
    """The calls that move a group. Each raises `RequestRefused` and changes nothing when it cannot be done."""

    async def failover(self, project_id: str, group_id: str, *, force: bool = False, to: str | None = None) -> None:
        """Make the DR site primary; on return the promotion is durable, and the old primary can acknowledge nothing.

        Without `force` only while the arbiter has the DR side as in sync, and that side has lost nothing of it. Where a
        failover failed after its promotion this waits for the new primary anew; with `force` that one may go on
        although it may lack acknowledged writes; or the former primary is promoted again, if the new one has failed for
        good, its node is not connected, or its site was given up.
        No-op for a group whose primary site is `to` already; refused where another site would become it.
        """
        group = (await self.show(project_id, group_id)).group
        if not failover_is_due(group, to):
            return
        wish = self._failing_over()
        async with self._context.database.write() as session:
            decision = await decide_failover(self._context, session, group, force=force, to=to)
            waits_again = decision.kind is Failover.WAIT_AGAIN
            if force and (is_known_doubtful(decision.facts.secondary) or waits_again):
                # Only what was stated is accepted: a doubt that the new primary finds later needs another word.
                wish["loss_acceptances"] = group.loss_acceptances + 1
            if not waits_again:
                wish.update(other_way_round(group))
            proof = await chronicle.proof_now(self._context, session, group_id)
            if not await self._record_wish(session, group, wish):
                raise lost(group_id, "failover")
            if not waits_again:
                await self._promote(session, group, force, decision.facts)
                await swap_pairs(session, group)
            await chronicle.record(self._context, session, group_id, "failover", proof=proof, message=_forced(force))
        await self._context.wakeups.notify()

    def _failing_over(self) -> dict[str, Any]:
        return {
            "status": GroupStatus.FAILING_OVER.value,
            "replication": Replication.PAUSED.value,
            "replication_status": ReplicationStatus.ACTIVE_STOPPED.value,
            "move_deadline": deadline_after(self._context.settings.failover_wait_seconds),
        }

    async def _promote(self, session: AsyncSession, group: Group, force: bool, facts: FailoverFacts) -> None:
        """Record the new primary at the arbiter, or refuse with what that would lose."""
        target = group.secondary_station

        def rule(row: Row) -> Row | Refusal:
            if row.primary_site != target:
                refuse_promotion(group.id, replace(facts, row=row), force=force)
            return promote(row, site=target, version=row.version, force=force, now=time.time())

        if isinstance(await swap(session, group.id, rule), Refusal):
            raise lost(group.id, "failover")

    async def reverse(self, project_id: str, group_id: str, *, to: str | None = None) -> None:
        """Begin a planned switchover: the primary is told to hand over, and the rest follows by itself.

        No-op for a group whose primary site is `to`, so that who lost the answer does not turn it back.
        """
        shown = await self.show(project_id, group_id)
        group = shown.group
        if not reverse_is_due(shown, to):
            return
        async with self._context.database.write() as session:
            await require_both(self._context, session, group)
            values = {
                "status": GroupStatus.REVERSING.value,
                "replication": Replication.HANDOVER.value,
                "move_deadline": deadline_after(self._context.settings.reverse_wait_seconds),
            }
            if not await self._record_wish(session, group, values):
                raise lost(group_id, "reversal")
            await chronicle.record(self._context, session, group_id, "reverse")
        await self._context.wakeups.notify()

    async def reprotect(self, project_id: str, group_id: str) -> None:
        """After a failover: follow the new primary from now on. What the other side wrote meanwhile is overwritten."""
        group = (await self.show(project_id, group_id)).group
        admit_group(group_id, group.status, GroupCall.REPROTECT)
        async with self._context.database.write() as session:
            await require_both(self._context, session, group)
            if not await self._record_wish(session, group, running_again()):
                raise lost(group_id, "reprotection")
            await chronicle.record(self._context, session, group_id, "reprotect")
        await self._context.wakeups.notify()


def _forced(force: bool) -> str | None:
    return "forced: the loss that the proof states was accepted" if force else None


def running_again() -> dict[str, Any]:
    """Return the wish of a group that is to be synchronized and kept so."""
    return {
        "status": GroupStatus.AVAILABLE.value,
        "replication": Replication.RUNNING.value,
        "replication_status": ReplicationStatus.COPYING.value,
        "synced_at": utc_now(),
    }


def other_way_round(group: Group) -> dict[str, Any]:
    """Return the columns of a group whose sites change roles. The new secondary says anew where it listens."""
    return {
        "priority_station": group.secondary_station,
        "secondary_station": group.priority_station,
        "peer_endpoint": None,
    }


async def swap_pairs(session: AsyncSession, group: Group) -> None:
    """Make the DR disks of a group production disks, and the other way round. `volume_ids` keep their order."""
    ids = [pair.id for pair in group.pairs]
    for pair in (await objects.find_many(session, Pair, group.project_id, ids, locked=True)).values():
        pair.production_volume, pair.dr_volume = pair.dr_volume, pair.production_volume
        pair.production_first = not pair.production_first
        pair.priority_station = pair.production_volume.site
        pair.updated_at = utc_now()
    await session.flush()


def deadline_after(seconds: float) -> datetime.datetime:
    """Return the time after `seconds`, as the database keeps times."""
    return utc_now() + datetime.timedelta(seconds=seconds)
