"""May an action on a group be done now? Asked by the action itself and by its plan, so that they cannot disagree.

Each check raises `RequestRefused` with what the action is to answer, and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.context import Context, observed_workers
from twinsite.control.lifecycle.group_calls import ShownGroup, refuse_while_extending
from twinsite.control.lifecycle.outlook import (
    FailoverFacts,
    goes_back,
    inconsistent,
    is_known_inconsistent,
    is_silent,
    loss_of,
    silent,
    would_lose,
)
from twinsite.control.lifecycle.reports import living_status
from twinsite.control.lifecycle.states import GroupCall, GroupStatus, ReplicationStatus, admit_group, way_to_active
from twinsite.control.models import Group
from twinsite.control.refusals import StateRefused, bad_request, wrong_state
from twinsite.core.arbiter import Secondary
from twinsite.messages import Mode, Replication, Role, WorkerStatus

NOTHING_CHANGED = "Nothing was changed; try again later."
_WAY_BACK = (
    'Nothing was changed; try again later. If it does not come back, a failover with {{"force": true}} goes back to '
    "{}; twinsite.failover of the group states what that loses."
)
_FAILED_OVER = frozenset({GroupStatus.AVAILABLE, GroupStatus.FAILING_OVER, GroupStatus.FAILED_OVER})
_SWITCHED = frozenset({GroupStatus.AVAILABLE, GroupStatus.REVERSING, GroupStatus.ERROR_REVERSING})
LEFT_BY_SYNC = frozenset({GroupStatus.FAILED_OVER, GroupStatus.ERROR_REVERSING})
"""Statuses that a sync makes `available`."""
_SENDING = frozenset({Mode.CONNECTING, Mode.COPYING, Mode.IN_SYNC, Mode.HOLDING, Mode.HANDED_OVER})


class Failover(StrEnum):
    """What an admitted failover does."""

    PROMOTE = "the other site becomes primary"
    GO_BACK = "the former primary becomes primary again"
    WAIT_AGAIN = "the site that was promoted is waited for anew"


@dataclass(frozen=True, slots=True)
class FailoverDecision:
    """What a failover is going to do, and what it was decided on."""

    kind: Failover
    facts: FailoverFacts
    connected: frozenset[str]


def failover_is_due(group: Group, to: str | None) -> bool:
    """Say whether a failover has anything to do; refuse what the group's status or its lack of pairs forbids."""
    if _is_at(group, to, _FAILED_OVER):
        return False
    admit_group(group.id, group.status, GroupCall.FAIL_OVER)
    _check_pairs(group, "fail over")
    return True


async def decide_failover(
    context: Context, session: AsyncSession, group: Group, *, force: bool, to: str | None
) -> FailoverDecision:
    """Return what a failover that is due does; refuse one that would end elsewhere, or needs a site that is silent.

    Whether a promotion would lose anything is asked afterwards, by `refuse_promotion` on the newest row.
    """
    connected = await context.connected_sites(session)
    facts = context.failover_facts(group, await observed_workers(session, [group.id]), connected)
    kind = Failover.PROMOTE
    if group.status == GroupStatus.ERROR_FAILING_OVER:
        kind = Failover.GO_BACK if force and goes_back(facts) else Failover.WAIT_AGAIN
    target = group.priority_station if kind is Failover.WAIT_AGAIN else group.secondary_station
    _refuse_other_target(group, to, target)
    way_back = _WAY_BACK.format(group.secondary_station)
    consequence = way_back if kind is Failover.WAIT_AGAIN and goes_back(facts) else NOTHING_CHANGED
    await context.require_connected(session, [target], consequence)
    return FailoverDecision(kind, facts, connected)


def refuse_promotion(group_id: str, facts: FailoverFacts, *, force: bool) -> None:
    """Refuse (400) a promotion that would lose writes, unless by `force`; and one that nobody may make."""
    loss = loss_of(facts)
    hindrance = _hindrance_to_force(facts)
    if force and hindrance is not None:
        raise StateRefused(f"The group {group_id} cannot be failed over now, not even by force: {hindrance}")
    if not force and loss is not None:
        primary = living_status(facts.primary, Role.PRIMARY)
        way_out = "Synchronize it first (os-sync-replication-consistency-group)"
        if loss.unheard:
            way_out = f"Start the node of {' and '.join(loss.unheard)} first, so that it can say what it knows"
        elif loss.unflushed and primary is not None and primary.doubtful:
            way_out = f"Let {facts.row.primary_site} go on by a forced stop (os-stop-replication-consistency-group)"
        if hindrance is None:
            way_out += ', or accept the loss with {"force": true}'
        raise StateRefused(f"The group {group_id} cannot be failed over: {would_lose(facts.target, loss)}. {way_out}.")


def _hindrance_to_force(facts: FailoverFacts) -> str | None:
    """Return why nobody may promote the target now, and what to do; None if a forced failover would be admitted."""
    row, target = facts.row, facts.target
    if row.secondary is not Secondary.STALE and not row.unheard:
        return None
    if is_known_inconsistent(facts.secondary):
        way_out = (
            f"Bring {row.primary_site} back and repeat the failover without force"
            if facts.status == GroupStatus.ERROR_FAILING_OVER
            else f"Bring {row.primary_site} back and synchronize it (os-sync-replication-consistency-group)"
        )
        return f"{inconsistent(target)}. {way_out}."
    if is_silent(facts.secondary):
        return f"{silent(target)}. Wait until it runs; if it does not, its node says why (twinsite group status)."
    return None


def reverse_is_due(shown: ShownGroup, to: str | None) -> bool:
    """Say whether a switchover has anything to do; refuse what the group's state forbids."""
    group = shown.group
    if _is_at(group, to, _SWITCHED):
        return False
    admit_group(group.id, group.status, GroupCall.REVERSE)
    _check_pairs(group, "reverse")
    refuse_while_extending(group, "reverse it")
    if shown.health.replication_status is not ReplicationStatus.ACTIVE:
        raise wrong_state(
            "replication of the group",
            group.id,
            shown.health.replication_status.value,
            {ReplicationStatus.ACTIVE.value},
            way_to_active(shown.health.replication_status),
        )
    return True


def sync_is_due(shown: ShownGroup) -> bool:
    """Say whether a sync has anything to do; refuse what the group's status forbids."""
    group = shown.group
    admit_group(group.id, group.status, GroupCall.SYNC)
    return bool(group.pairs) and not (is_running(shown) and group.status not in LEFT_BY_SYNC)


def is_running(shown: ShownGroup) -> bool:
    """Say whether a group is synchronized, or being so, by the user's wish."""
    running = {ReplicationStatus.ACTIVE, ReplicationStatus.COPYING}
    return shown.group.replication == Replication.RUNNING and shown.health.replication_status in running


async def require_both(context: Context, session: AsyncSession, group: Group) -> None:
    """Refuse (503) what needs both sites of a group while the node of one is silent."""
    await context.require_connected(session, [group.priority_station, group.secondary_station], NOTHING_CHANGED)


def stop_is_due(group: Group, *, force: bool) -> bool:
    """Say whether a stop has anything to record; refuse what the group's status forbids.

    A group that is being made or changed may wait for workers that know nothing, after its database was restored, or
    for a primary that may lack writes which nobody brings: force ends that.
    """
    if not (force and group.status in (GroupStatus.CREATING, GroupStatus.UPDATING)):
        admit_group(group.id, group.status, GroupCall.STOP)
    return group.replication != Replication.PAUSED or force


def keeps_pause(primary: WorkerStatus | None, wish_version: int) -> bool:
    """Say whether a primary worker, if it lives, has taken up a pause that is wished for since `wish_version`."""
    return primary is None or (primary.spec_version >= wish_version and primary.mode not in _SENDING)


async def require_stoppable(context: Context, session: AsyncSession, group: Group) -> None:
    """Refuse (503) to pause a group whose primary cannot hear of it, unless that site was given up."""
    await context.require_connected(session, [group.priority_station], NOTHING_CHANGED, or_lost=True)


def why_pause_waits(shown: ShownGroup) -> str | None:
    """Return why a primary keeps its hosts waiting rather than go on alone, however often it is told; None if not."""
    status, site, other = shown.health.status, shown.group.priority_station, shown.group.secondary_station
    if status is None or status.mode is not Mode.HOLDING:
        return None
    if shown.health.is_neither_sure:
        return (
            f"acknowledged writes may be missing in both {site} and {other}, so neither goes on before a person says "
            "which one"
        )
    if status.doubtful:
        return (
            f"acknowledged writes may be missing in {site}, so it does not go on alone: it waits for {other}, which "
            "has them"
        )
    if shown.group.arbiter.unheard:
        return "the database was restored from a backup, and lets nobody go on alone before both sites were heard"
    return None


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
        raise StateRefused(
            f"The group {group.id} is {group.status!r}, from where this makes {target} primary, not {to}. "
            f"Name {target}, or read the group first."
        )


def _check_pairs(group: Group, what: str) -> None:
    if not group.pairs:
        raise StateRefused(f"The group {group.id} has no pairs, so there is nothing to {what}. Add pairs to it first.")
