"""What an action on a group would do now, and what to do before it. Nothing is changed.

Whether it would be admitted is asked of the checks that the action itself makes (`admission`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.context import observed_workers
from twinsite.control.lifecycle.admission import (
    Failover,
    FailoverDecision,
    decide_failover,
    failover_is_due,
    refuse_promotion,
    require_both,
    require_stoppable,
    reverse_is_due,
    stop_is_due,
    sync_is_due,
    why_pause_waits,
)
from twinsite.control.lifecycle.group_calls import GroupCalls, ShownGroup, find_group
from twinsite.control.lifecycle.outlook import rollback_point
from twinsite.control.lifecycle.plan_words import Action, Disk, PlanFacts, PlanWords, words_of, words_of_refused
from twinsite.control.lifecycle.states import GroupCall, admit_group
from twinsite.control.models import Group, Volume
from twinsite.control.refusals import RequestRefused
from twinsite.control.repository import arbiter_rows, objects

TAKE_FORCE = frozenset({Action.FAIL_OVER, Action.STOP})


@dataclass(frozen=True, slots=True)
class Wanted:
    """An action as a client would ask for it. `to` is the site that a move is to make primary."""

    action: Action
    force: bool = False
    to: str | None = None


@dataclass(frozen=True, slots=True)
class ActionPlan:
    """What an action would do. `reason` says why it is refused; `needs_force`: with force it would not be."""

    action: Action
    group: Group
    reason: str | None
    needs_force: bool
    words: PlanWords
    is_due: bool = True
    """There is something to do."""

    @property
    def is_allowed(self) -> bool:
        """Say whether the action would be admitted."""
        return self.reason is None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checks say: the refusal, or whether there is something to do, and what a failover does."""

    reason: str | None = None
    is_due: bool = True
    failover: FailoverDecision | None = None


class PlanService(GroupCalls):
    """The plans of actions. Raises `RequestRefused` (404) for groups that are not the project's."""

    async def plan(self, project_id: str, group_id: str, wanted: Wanted) -> ActionPlan:
        """Return what an action would do if it came now, and why it would be refused."""
        async with self._context.database.read() as session:
            group = await find_group(session, project_id, group_id)
            shown = await self._shown(session, group)
            plain = await self._verdict(session, shown, Wanted(wanted.action, False, wanted.to))
            forced = plain
            if wanted.action in TAKE_FORCE:
                forced = await self._verdict(session, shown, Wanted(wanted.action, True, wanted.to))
            needs_force = plain.reason is not None and forced.reason is None
            told = forced if wanted.force or needs_force else plain
            uses_force = wanted.action in TAKE_FORCE and told is forced
            facts = await self._facts(session, shown, told, uses_force)
        words = words_of(wanted.action, facts) if told.reason is None else words_of_refused(wanted.action, facts)
        reason = forced.reason if wanted.force else plain.reason
        return ActionPlan(wanted.action, group, reason, needs_force, words, told.is_due)

    async def _verdict(self, session: AsyncSession, shown: ShownGroup, wanted: Wanted) -> Verdict:
        try:
            return await self._checks()[wanted.action](session, shown, wanted)
        except RequestRefused as refusal:
            return Verdict(refusal.message)

    def _checks(self) -> dict[Action, Callable[[AsyncSession, ShownGroup, Wanted], Awaitable[Verdict]]]:
        return {
            Action.FAIL_OVER: self._failover,
            Action.REVERSE: self._reverse,
            Action.REPROTECT: self._reprotect,
            Action.STOP: self._stop,
            Action.SYNC: self._sync,
        }

    async def _failover(self, session: AsyncSession, shown: ShownGroup, wanted: Wanted) -> Verdict:
        if not failover_is_due(shown.group, wanted.to):
            return Verdict(is_due=False)
        decision = await decide_failover(self._context, session, shown.group, force=wanted.force, to=wanted.to)
        if decision.kind is not Failover.WAIT_AGAIN:
            refuse_promotion(shown.group.id, decision.facts, force=wanted.force)
        return Verdict(failover=decision)

    async def _reverse(self, session: AsyncSession, shown: ShownGroup, wanted: Wanted) -> Verdict:
        if not reverse_is_due(shown, wanted.to):
            return Verdict(is_due=False)
        await require_both(self._context, session, shown.group)
        return Verdict()

    async def _reprotect(self, session: AsyncSession, shown: ShownGroup, _wanted: Wanted) -> Verdict:
        admit_group(shown.group.id, shown.group.status, GroupCall.REPROTECT)
        await require_both(self._context, session, shown.group)
        return Verdict()

    async def _stop(self, session: AsyncSession, shown: ShownGroup, wanted: Wanted) -> Verdict:
        is_due = stop_is_due(shown.group, force=wanted.force)
        if is_due:
            await require_stoppable(self._context, session, shown.group)
        why = why_pause_waits(shown)
        if why is not None and not wanted.force:
            # The call records the wish, and ends with this when the primary has not confirmed it in time.
            return Verdict(f"It would be recorded, and not come into force: {why}.")
        return Verdict(is_due=is_due)

    async def _sync(self, session: AsyncSession, shown: ShownGroup, _wanted: Wanted) -> Verdict:
        if not sync_is_due(shown):
            return Verdict(is_due=False)
        await require_both(self._context, session, shown.group)
        return Verdict()

    async def _facts(self, session: AsyncSession, shown: ShownGroup, verdict: Verdict, force: bool) -> PlanFacts:
        group, decision = shown.group, verdict.failover
        ids = {volume_id for pair in group.pairs for volume_id in (pair.production_volume_id, pair.dr_volume_id)}
        volumes = {volume.id: _disk(volume) for volume in await objects.volumes_by_ids(session, ids)}
        reports = await observed_workers(session, [group.id])
        settings = self._context.settings
        return PlanFacts(
            group_id=group.id,
            name=group.name,
            status=group.status,
            row=arbiter_rows.as_row(group.arbiter),
            primary=group.priority_station,
            secondary=group.secondary_station,
            health=shown.health,
            primary_disks=tuple(volumes[pair.production_volume_id] for pair in group.pairs),
            secondary_disks=tuple(volumes[pair.dr_volume_id] for pair in group.pairs),
            size_gib=sum(pair.production_volume.size_gib for pair in group.pairs),
            connected=await self._context.connected_sites(session),
            is_due=verdict.is_due,
            force=force,
            failover=decision.kind if decision is not None else None,
            rollback_point=rollback_point(reports.get((group.secondary_station, group.id))),
            why_pause_waits=why_pause_waits(shown),
            failover_seconds=settings.failover_wait_seconds,
            reverse_seconds=settings.reverse_wait_seconds,
        )


def _disk(volume: Volume) -> Disk:
    return Disk(volume.name or volume.id, tuple(attachment.host for attachment in volume.attachments))
