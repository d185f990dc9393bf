"""The event log of groups: who changed what, when, from what to what, and what a failover would have cost then.

Every event is written in the transaction of its change. The state that the last event ended in is kept with the group,
so what happens by itself is noticed by comparing, and the events of a group form a chain without a gap. It ends with
the group's deletion, and outlives the group.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.actor import Actor, current_actor, known_request
from twinsite.control.audit_entry import current_request, record_of
from twinsite.control.clock import utc_now
from twinsite.control.context import Context, observed_workers
from twinsite.control.database import after_commit
from twinsite.control.lifecycle.event_kinds import OBSERVED, Action, Observed
from twinsite.control.lifecycle.health import GroupHealth
from twinsite.control.lifecycle.proof import proof_of
from twinsite.control.lifecycle.states import GroupStatus
from twinsite.control.models import Group, GroupEvent
from twinsite.control.overlap import note_change
from twinsite.control.repository import events, objects
from twinsite.messages import Failure, ObservedWorker

EVENTS_MAX = 1000
"""Most events of one group; the oldest go first."""
DELETED_EVENTS_MAX = 10_000
"""Most events of deleted groups of one project. Those of a group go together; of the group that was deleted first,
first. It is more than one group has, so a deletion is always told of."""
DELETED = "deleted"
"""The status after a group's last event."""

ACCEPTED, DONE, FAILED, REFUSED = "accepted", "done", "failed", "refused"
"""Results: recorded and to be finished by itself; finished; given up; never begun."""
REFUSED_MAX = 200
"""Most events of refused requests of one group, so that a client that tries for ever drives nothing else out."""
NOTHING_TO_DO = "there was nothing to do"

_FOLLOWING = ("replication_status", "secondary")
"""What changes because the primary does what was asked; all else that is noticed happens by itself."""

Reports = Mapping[tuple[str, str], ObservedWorker]

_ACTION_OF_STATUS: Mapping[str, Action] = {
    GroupStatus.CREATING: "create",
    GroupStatus.UPDATING: "update",
    GroupStatus.FAILING_OVER: "failover",
    GroupStatus.ERROR_FAILING_OVER: "failover",
    GroupStatus.REVERSING: "reverse",
    GroupStatus.ERROR_REVERSING: "reverse",
}
"""What a group does that goes from one of these statuses to another one by itself."""


def state_of(group: Group, health: GroupHealth, connected: frozenset[str]) -> dict[str, Any]:
    """Return what the events of a group tell of it before and after. Plain JSON.

    `connected` are the sites whose nodes are there, as far as is known.
    """
    return {
        "status": group.status,
        "replication": group.replication,
        "replication_status": health.replication_status.value,
        "fault_level": health.fault_level,
        "holding": health.status is not None and health.status.holding_since is not None,
        "primary_station": group.arbiter.primary_site,
        "term": group.arbiter.term,
        "secondary": group.arbiter.secondary,
        "pairs": len(group.pairs),
        "size_gib": sum(pair.production_volume.size_gib for pair in group.pairs),
        "failover_possible": health.failover.possible,
        "connected": sorted(connected & {group.priority_station, group.secondary_station}),
        "failing_disks": sorted(health.member_failures),
    }


def _has_changed(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> bool:
    """Say whether a group is not as its last event left it, in what that event's release recorded."""
    return before is None or any(before.get(key, value) != value for key, value in after.items())


async def record(
    context: Context,
    session: AsyncSession,
    group_id: str,
    action: Action,
    result: str = ACCEPTED,
    *,
    message: str | None = None,
    proof: Mapping[str, Any] | None = None,
    status: str | None = None,
) -> None:
    """Write an event of what was just done to a group in this session.

    `proof` is that of now when left out, and so is the `status` that the group has afterwards. The audit's record of
    the request that did it is written along.
    """
    if result == ACCEPTED:
        note_change(group_id)
    group = await objects.fresh_group(session, group_id)
    if group is None:
        return
    reports = await observed_workers(session, [group_id])
    connected = context.sites_to_believe_in(await context.connected_sites(session))
    health = context.health(group, reports, connected)
    after = state_of(group, health, connected)
    if status is not None:
        after["status"] = status
    await _add(session, group, health, action, result, message, proof, after=after)
    expected = current_request.get()
    if expected is not None and expected.entry.group_id == group_id and not expected.is_recorded:
        session.add(record_of(expected.entry))
        after_commit(session, expected.note_recorded)


async def record_deletion(context: Context, session: AsyncSession, project_id: str, group_id: str) -> None:
    """Write the last event of a group that is about to be deleted in this session."""
    await record(context, session, group_id, "delete", DONE, status=DELETED)
    await session.flush()
    await events.forget_deleted(session, project_id, DELETED_EVENTS_MAX, EVENTS_MAX)


async def observe(
    context: Context, session: AsyncSession, group: Group, reports: Reports, connected: frozenset[str]
) -> None:
    """Write an event if the group is not as its last event left it. It was read with its lock in this session."""
    believed = context.sites_to_believe_in(connected)
    health = context.health(group, reports, believed)
    before, after = group.recorded_state, state_of(group, health, believed)
    if not _has_changed(before, after):
        return
    action: Action | Observed = OBSERVED
    result = DONE
    if before is not None and (before["status"], before["term"]) != (after["status"], after["term"]):
        action = _ACTION_OF_STATUS.get(before["status"], OBSERVED)
    failure = health.failure
    if group.status.startswith("error") and group.failure_code is not None:
        result, failure = FAILED, Failure(group.failure_code, group.failure_message or "")
    message = f"{failure.code}: {failure.message}" if failure is not None else None
    actor = current_actor.get()
    if actor.request_id is None:
        actor = replace(actor, request_id=_cause(group, health, action, before, after))
    await _add(session, group, health, action, result, message, None, after=after, actor=actor)


def _cause(
    group: Group,
    health: GroupHealth,
    action: Action | Observed,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any],
) -> str | None:
    """Return the request that a change which was noticed follows from, as far as is known."""
    if action != OBSERVED:
        return group.request_id  # It has come to its end.
    if health.status is None or before is None or all(before.get(key) == after[key] for key in _FOLLOWING):
        return None
    return known_request(health.status.request_id)


async def record_without_change(
    context: Context,
    session: AsyncSession,
    project_id: str,
    group_id: str,
    actor: Actor,
    action: Action,
    result: str,
    message: str | None,
) -> None:
    """Write an event of a request that changed nothing, unless the request has an event already.

    The group is as its last event left it. A group that is not the project's gets none.
    """
    if await events.has_request(session, group_id, actor.request_id):
        return
    group = await objects.find(session, Group, project_id, group_id, locked=True)
    if group is not None:
        health = (await context.health_of(session, [group]))[group_id]
        after = group.recorded_state
        if after is None:
            after = state_of(group, health, context.sites_to_believe_in(await context.connected_sites(session)))
        await _add(session, group, health, action, result, message, None, after=after, actor=actor)
        if result == REFUSED:
            await events.forget_refused(session, group_id, REFUSED_MAX)


async def proof_now(context: Context, session: AsyncSession, group_id: str) -> dict[str, Any] | None:
    """Return what is known of a group before it is changed in this session."""
    group = await objects.fresh_group(session, group_id)
    if group is None:
        return None
    return proof_of(group, (await context.health_of(session, [group]))[group_id])


def differs(context: Context, group: Group, reports: Reports, connected: frozenset[str]) -> bool:
    """Say whether `observe` would write an event."""
    believed = context.sites_to_believe_in(connected)
    health = context.health(group, reports, believed)
    return _has_changed(group.recorded_state, state_of(group, health, believed))


async def _add(
    session: AsyncSession,
    group: Group,
    health: GroupHealth,
    action: Action | Observed,
    result: str,
    message: str | None,
    proof: Mapping[str, Any] | None,
    *,
    after: dict[str, Any],
    actor: Actor | None = None,
) -> None:
    """Add an event of what the current actor did, or another `actor`."""
    actor = actor or current_actor.get()
    number = await events.next_number(session, group.id)
    session.add(
        GroupEvent(
            id=str(uuid.uuid4()),
            group_id=group.id,
            project_id=group.project_id,
            group_name=group.name,
            number=number,
            created_at=utc_now(),
            actor=actor.name,
            user_id=actor.user_id,
            request_id=actor.request_id,
            action=action,
            result=result,
            message=message,
            before=group.recorded_state,
            after=after,
            proof=dict(proof) if proof is not None else proof_of(group, health),
        )
    )
    group.recorded_state = after
    await events.forget_before(session, group.id, number - EVENTS_MAX + 1)
