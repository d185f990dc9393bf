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
from twinsite.control.context import observed_workers
from twinsite.control.lifecycle import chronicle
from twinsite.control.lifecycle.group_calls import GroupCalls, lost, refuse_while_extending
from twinsite.control.lifecycle.outlook import (
    goes_back,
    inconsistent,
    is_known_doubtful,
    is_known_inconsistent,
    is_silent,
    loss_of,
    silent,
    would_lose,
)
from twinsite.control.lifecycle.states import GroupCall, GroupStatus, ReplicationStatus, admit_group
from twinsite.control.models import Group, Pair
from twinsite.control.refusals import bad_request, wrong_state
from twinsite.control.repository import objects
from twinsite.core.arbiter import Reason, Refusal, Row, Secondary, promote
from twinsite.messages import Replication

NOTHING_CHANGED = "Nothing was changed; try again later."
_WAY_BACK = (
    'Nothing was changed; try again later. If it does not come back, a failover with {{"force": true}} goes back to '
    "{}; twinsite.failover of the group states what that loses."
)


_FAILED_OVER = frozenset({GroupStatus.AVAILABLE, GroupStatus.FAILING_OVER, GroupStatus.FAILED_OVER})
_SWITCHED = frozenset({GroupStatus.AVAILABLE, GroupStatus.REVERSING, GroupStatus.ERROR_REVERSING})


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
        if _is_at(group, to, _FAILED_OVER):
            return
        admit_group(group_id, group.status, GroupCall.FAIL_OVER)
        _check_pairs(group, "fail over")
        wish = self._failing_over()
        async with self._context.database.write() as session:
            connected = await self._context.connected_sites(session)
            reports = await observed_workers(session, [group_id])
            facts = self._context.failover_facts(group, reports, connected)
            waits_again = group.status == GroupStatus.ERROR_FAILING_OVER and not (force and goes_back(facts))
            if force and (is_known_doubtful(facts.secondary) or waits_again):
                # Only what was stated is accepted: a doubt that the new primary finds later needs another word.
                wish["loss_acceptances"] = group.loss_acceptances + 1
            _refuse_other_target(group, to, group.priority_station if waits_again else group.secondary_station)
            proof = await chronicle.proof_now(self._context, session, group_id)
            if waits_again:
                way_back = _WAY_BACK.format(group.secondary_station) if goes_back(facts) else NOTHING_CHANGED
                await self._context.require_connected(session, [group.priority_station], way_back)
                won = await self._record_wish(session, group, wish)
            else:
                await self._context.require_connected(session, [group.secondary_station], NOTHING_CHANGED)
                won = await self._record_wish(session, group, {**wish, **other_way_round(group)})
            if not won:
                raise lost(group_id, "failover")
            if not waits_again:
                await self._promote(session, group, force, connected)
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

    async def _promote(self, session: AsyncSession, group: Group, force: bool, connected: frozenset[str]) -> None:
        """Record the new primary at the arbiter, or refuse with what that would lose."""
        target = group.secondary_station
        reports = await observed_workers(session, [group.id])
        facts = self._context.failover_facts(group, reports, connected)

        def rule(row: Row) -> Row | Refusal:
            is_stale = row.secondary is Secondary.STALE or bool(row.unheard)
            if force and is_stale and is_known_inconsistent(facts.secondary):
                raise bad_request(
                    f"The group {group.id} cannot be failed over, not even by force: {inconsistent(target)}. "
                    "Bring its primary site back and synchronize it (os-sync-replication-consistency-group)."
                )
            if force and is_stale and is_silent(facts.secondary):
                raise bad_request(
                    f"The group {group.id} cannot be failed over now, not even by force: {silent(target)}. Wait until "
                    "it runs; if it does not, its node says why (twinsite group status)."
                )
            if not force and is_known_doubtful(facts.secondary):
                return Refusal(Reason.STALE, row)
            return promote(row, site=target, version=row.version, force=force, now=time.time())

        answer = await swap(session, group.id, rule)
        if isinstance(answer, Refusal):
            if answer.reason not in (Reason.STALE, Reason.UNHEARD):
                raise lost(group.id, "failover")
            loss = loss_of(replace(facts, row=answer.row))
            assert loss is not None
            raise bad_request(
                f"The group {group.id} cannot be failed over: {would_lose(target, loss)}. Synchronize "
                'it first (os-sync-replication-consistency-group), or accept the loss with {"force": true}.'
            )

    async def reverse(self, project_id: str, group_id: str, *, to: str | None = None) -> None:
        """Begin a planned switchover: the primary is told to hand over, and the rest follows by itself.

        No-op for a group whose primary site is `to`, so that who lost the answer does not turn it back.
        """
        shown = await self.show(project_id, group_id)
        group = shown.group
        if _is_at(group, to, _SWITCHED):
            return
        admit_group(group_id, group.status, GroupCall.REVERSE)
        _check_pairs(group, "reverse")
        refuse_while_extending(group, "reverse it")
        if shown.health.replication_status is not ReplicationStatus.ACTIVE:
            raise wrong_state(
                "replication of the group",
                group_id,
                shown.health.replication_status.value,
                {ReplicationStatus.ACTIVE.value},
                "Synchronize it first (os-sync-replication-consistency-group).",
            )
        async with self._context.database.write() as session:
            await self._context.require_connected(
                session, [group.priority_station, group.secondary_station], NOTHING_CHANGED
            )
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
            await self._context.require_connected(
                session, [group.priority_station, group.secondary_station], NOTHING_CHANGED
            )
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


def _is_at(group: Group, to: str | None, statuses: frozenset[GroupStatus]) -> bool:
    """Say whether a group is where it is to be moved, by a move that these statuses tell of."""
    if to is None:
        return False
    both = sorted((group.priority_station, group.secondary_station))
    if to not in both:
        raise bad_request(
            f"The group {group.id} is in {' and '.join(both)}, not in {to!r}. Name one of these.", "EVS.1036"
        )
    is_leaving = group.replication == Replication.HANDOVER
    return to == group.priority_station and group.status in statuses and not is_leaving


def _refuse_other_target(group: Group, to: str | None, target: str) -> None:
    """Refuse (400) a move that would not end where the client wants it to."""
    if to is not None and to != target:
        raise bad_request(
            f"The group {group.id} is {group.status!r}, from where this makes {target} primary, not {to}. "
            f"Name {target}, or read the group first."
        )


def _check_pairs(group: Group, what: str) -> None:
    if not group.pairs:
        raise bad_request(f"The group {group.id} has no pairs, so there is nothing to {what}. Add pairs to it first.")
