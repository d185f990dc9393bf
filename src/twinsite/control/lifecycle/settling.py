"""Moves groups on that wait for their workers: new ones, changed ones, and those that move between sites.

`next_step` is the table of moves, pure. A step is taken in the transaction of the report that allowed it, or of the
clock that ended the wait.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.arbiter_store import swap
from twinsite.control.clock import utc_now
from twinsite.control.lifecycle.health import group_status_after_reports
from twinsite.control.lifecycle.moves import deadline_after, other_way_round, swap_pairs
from twinsite.control.lifecycle.reports import living_status, needs_person
from twinsite.control.lifecycle.states import GroupStatus
from twinsite.control.models import Group
from twinsite.control.refusals import INTERNAL_FAULT, PEER_UNREACHABLE
from twinsite.control.repository import arbiter_rows
from twinsite.core.arbiter import Refusal, Row, Secondary, switch
from twinsite.messages import Failure, Mode, ObservedWorker, Replication, Role

MOVING = frozenset(
    {
        GroupStatus.FAILING_OVER,
        GroupStatus.ERROR_FAILING_OVER,
        GroupStatus.REVERSING,
        GroupStatus.ERROR_REVERSING,
    }
)
"""Statuses in which a move may have a step to take."""

Reports = Mapping[tuple[str, str], ObservedWorker]


class Step(StrEnum):
    """What is to be done about a move."""

    WAIT = "wait"
    FAILED_OVER = "the new primary serves"
    FAILOVER_FAILED = "the new primary cannot serve, or does not in time"
    SWITCH = "the old primary has handed over"
    ROLL_BACK = "the old primary cannot hand over"
    REVERSED = "the new primary mirrors"
    REVERSE_LATE = "the new primary does not mirror in time"


@dataclass(frozen=True, slots=True)
class MoveFacts:
    """What is known of a group that moves; `primary` is the report from the site that is primary now."""

    status: str
    replication: str
    wish_version: int
    row: Row
    is_moving: bool
    """There is a deadline: a move that was rolled back has none."""
    is_late: bool
    primary: ObservedWorker | None
    primary_connected: bool


def next_step(facts: MoveFacts) -> Step:
    """Return what is to be done about a move now."""
    if not facts.is_moving:
        return Step.WAIT
    match facts.status:
        case GroupStatus.FAILING_OVER | GroupStatus.ERROR_FAILING_OVER:
            return _step_of_failover(facts)
        case GroupStatus.REVERSING if facts.replication == Replication.HANDOVER:
            return _step_before_switch(facts)
        case GroupStatus.REVERSING | GroupStatus.ERROR_REVERSING:
            return _step_after_switch(facts)
        case _:
            return Step.WAIT


def _mode_in_force(facts: MoveFacts) -> Mode | None:
    """Return what the primary does under the newest wish and the arbiter's term; None before it has taken them up."""
    status = living_status(facts.primary, Role.PRIMARY)
    if status is None or status.spec_version < facts.wish_version or status.term != facts.row.term:
        return None
    return status.mode


def _step_of_failover(facts: MoveFacts) -> Step:
    broken = needs_person(facts.primary) is not None
    if not broken and _mode_in_force(facts) in _SERVING:
        return Step.FAILED_OVER
    failed = broken or facts.is_late
    return Step.FAILOVER_FAILED if failed and facts.status == GroupStatus.FAILING_OVER else Step.WAIT


_SERVING = frozenset({Mode.PAUSED, Mode.CONNECTING, Mode.COPYING, Mode.IN_SYNC})


def _step_before_switch(facts: MoveFacts) -> Step:
    if facts.row.secondary is Secondary.STALE:
        return Step.ROLL_BACK
    if _mode_in_force(facts) is Mode.HANDED_OVER:
        return Step.SWITCH
    is_out_of_reach = not facts.primary_connected or facts.primary is None or not facts.primary.alive
    if is_out_of_reach or needs_person(facts.primary) is not None or facts.is_late:
        return Step.ROLL_BACK
    return Step.WAIT


def _step_after_switch(facts: MoveFacts) -> Step:
    if _mode_in_force(facts) is Mode.IN_SYNC and facts.row.secondary is Secondary.IN_SYNC:
        return Step.REVERSED
    return Step.REVERSE_LATE if facts.is_late and facts.status == GroupStatus.REVERSING else Step.WAIT


def move_facts(group: Group, reports: Reports, connected: frozenset[str], now: datetime.datetime) -> MoveFacts:
    """Return what is known of a group's move."""
    return MoveFacts(
        status=group.status,
        replication=group.replication,
        wish_version=group.wish_version,
        row=arbiter_rows.as_row(group.arbiter),
        is_moving=group.move_deadline is not None,
        is_late=group.move_deadline is not None and now >= group.move_deadline,
        primary=reports.get((group.priority_station, group.id)),
        primary_connected=group.priority_station in connected,
    )


async def settle_move(
    session: AsyncSession, group: Group, reports: Reports, connected: frozenset[str], reverse_wait_seconds: float
) -> frozenset[str]:
    """Take the next step of a group's move, if there is one; return the sites whose desired state that changed.

    The group was read with its lock in this session. A step is a change like a user's, so it raises `version`.
    """
    facts = move_facts(group, reports, connected, utc_now())
    step = next_step(facts)
    if step is Step.SWITCH and not await _switch(session, group, reverse_wait_seconds):
        step = Step.ROLL_BACK
    match step:
        case Step.WAIT:
            return frozenset()
        case Step.FAILED_OVER:
            _set_status(group, GroupStatus.FAILED_OVER)
        case Step.REVERSED:
            _set_status(group, GroupStatus.AVAILABLE)
        case Step.FAILOVER_FAILED:
            _set_status(group, GroupStatus.ERROR_FAILING_OVER, _why(facts, "serve"), keep_deadline=True)
        case Step.REVERSE_LATE:
            _set_status(group, GroupStatus.ERROR_REVERSING, _why(facts, "mirror"), keep_deadline=True)
        case Step.ROLL_BACK:
            _set_status(group, GroupStatus.ERROR_REVERSING, _why(facts, "hand over"))
            _wish_running(group)
    group.version += 1
    group.updated_at = utc_now()
    changes_specs = step in (Step.SWITCH, Step.ROLL_BACK)
    return frozenset({group.priority_station, group.secondary_station}) if changes_specs else frozenset()


async def _switch(session: AsyncSession, group: Group, reverse_wait_seconds: float) -> bool:
    """Change the sites' roles for good; say whether the arbiter agreed."""
    term, version, target = group.arbiter.term, group.arbiter.version, group.secondary_station
    answer = await swap(session, group.id, lambda row: switch(row, site=target, term=term, version=version))
    if isinstance(answer, Refusal):
        return False
    await swap_pairs(session, group)
    for name, value in other_way_round(group).items():
        setattr(group, name, value)
    group.move_deadline = deadline_after(reverse_wait_seconds)
    _wish_running(group)
    return True


def _wish_running(group: Group) -> None:
    group.replication = Replication.RUNNING.value
    group.spec_version += 1
    group.wish_version = group.spec_version


def _set_status(
    group: Group, status: GroupStatus, failure: Failure | None = None, *, keep_deadline: bool = False
) -> None:
    group.status = status.value
    group.failure_code, group.failure_message = (failure.code, failure.message) if failure else (None, None)
    if not keep_deadline:
        group.move_deadline = None


def _why(facts: MoveFacts, what: str) -> Failure:
    """Return why the primary did not do what a move needs of it."""
    failure = needs_person(facts.primary)
    if failure is not None:
        return failure
    site = facts.row.primary_site
    if not facts.primary_connected:
        return Failure(PEER_UNREACHABLE, f"the node of {site} is not connected, so its worker could not {what}")
    if facts.primary is None or not facts.primary.alive:
        return Failure(INTERNAL_FAULT, f"the worker in {site} is not running, so it could not {what}; see its log")
    if what == "hand over" and facts.row.secondary is Secondary.STALE:
        return Failure(PEER_UNREACHABLE, f"the worker in {site} lost the other side before it could {what}")
    return Failure(PEER_UNREACHABLE, f"the worker in {site} did not {what} in time")


def settle_group(group: Group, reports: Reports, lost: frozenset[str] = frozenset()) -> bool:
    """Move a group on that is new, changed or in error, and say whether its status changed. Nobody at `lost` counts.

    It is a change like a user's, so it raises `version`: a call that was decided before it must decide again.
    """
    status, failure = group_status_after_reports(
        group.status,
        group.spec_version,
        bool(group.pairs),
        reports.get((group.priority_station, group.id)),
        reports.get((group.secondary_station, group.id)),
        [
            role
            for role, site in ((Role.PRIMARY, group.priority_station), (Role.SECONDARY, group.secondary_station))
            if site not in lost
        ],
    )
    code, message = (failure.code, failure.message) if failure is not None else (None, None)
    if status == group.status and (status is not GroupStatus.ERROR or message == group.failure_message):
        return False
    group.status, group.failure_code, group.failure_message = status.value, code, message
    group.version += 1
    return True
