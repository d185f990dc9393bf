"""What the API shows of a group, derived from its row and its workers' last reports. Pure.

The table is in docs/architecture.md, section Status.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from twinsite.control.lifecycle.outlook import FailoverOutlook
from twinsite.control.lifecycle.reports import fatal_failure, living_status, member_failure, needs_person
from twinsite.control.lifecycle.states import REPLICATION_STATUS_WORST_FIRST, GroupStatus, ReplicationStatus
from twinsite.control.refusals import INTERNAL_FAULT, PEER_UNREACHABLE
from twinsite.messages import Failure, KeptLog, MemberStatus, Mode, ObservedWorker, Replication, Role, WorkerStatus

FAULT_NONE = "0"
FAULT_PRODUCTION = "2"
"""The production side is unreachable, fails or makes its hosts wait, and the DR side is in sync: fail over."""
FAULT_LINK = "5"
"""The link is down and the DR side is stale: only a forced failover is possible."""


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """What is known of a group. `replication_status` is the last one that was settled."""

    status: str
    recorded_in_sync: bool
    """The arbiter has it that the secondary has every acknowledged write."""
    replication: str
    replication_status: str
    wish_version: int
    has_members: bool
    primary: ObservedWorker | None
    secondary: ObservedWorker | None
    primary_connected: bool
    in_sync_grace: bool
    """The user asked for sync so recently that connecting is part of it."""


@dataclass(frozen=True, slots=True)
class GroupHealth:
    """What is shown of a group. `members` holds the primary's members by the production volume's id.

    `failure` says why the replication status is `error`, or why it is `inactive` against the user's wish, or what is
    wrong with a production disk although it is replicated.
    `status` is that of a living primary; `last_primary` and `last_secondary` are last words, of the dead too.
    """

    replication_status: ReplicationStatus
    fault_level: str = FAULT_NONE
    failure: Failure | None = None
    status: WorkerStatus | None = None
    members: Mapping[str, MemberStatus] = field(default_factory=dict)
    member_failures: Mapping[str, Failure] = field(default_factory=dict)
    """Failures by volume id, of either side."""
    last_primary: WorkerStatus | None = None
    last_secondary: WorkerStatus | None = None
    failover: FailoverOutlook = field(default_factory=lambda: FailoverOutlook(possible=False))
    kept_at_primary: Sequence[KeptLog] = ()
    kept_at_secondary: Sequence[KeptLog] = ()
    """What each site alone had as a former primary, and keeps since it was overwritten."""

    @property
    def is_neither_sure(self) -> bool:
        """Return whether both sites may lack acknowledged writes, so that neither can heal the other."""
        other = self.last_secondary
        return self.status is not None and self.status.doubtful and other is not None and other.doubtful


def _member_failures(*workers: ObservedWorker | None) -> dict[str, Failure]:
    failures: dict[str, Failure] = {}
    for worker in workers:
        for member in worker.status.members if worker is not None and worker.status is not None else ():
            if member.failure is not None:
                failures[member.volume_id] = member.failure
    return failures


def derive_health(facts: GroupFacts) -> GroupHealth:
    """Return what the API shows of a group."""
    settled = ReplicationStatus(facts.replication_status)
    if not facts.has_members:
        return GroupHealth(settled)
    status = living_status(facts.primary, Role.PRIMARY)
    replication_status = settled
    if status is not None and status.spec_version >= facts.wish_version:
        replication_status = _status_of_mode(status, settled, facts)
    elif status is None and settled is ReplicationStatus.COPYING and not facts.in_sync_grace:
        replication_status = ReplicationStatus.INACTIVE  # The worker that copied is gone.
    if replication_status is ReplicationStatus.ACTIVE and not facts.recorded_in_sync:
        replication_status = ReplicationStatus.INACTIVE
    failure = needs_person(facts.primary)
    if failure is None and status is not None and status.mode is Mode.REPLACED:
        failure = Failure(
            INTERNAL_FAULT,
            "the primary worker has seen a newer term: the controller's database is older than the group",
        )
    if failure is not None:
        replication_status = ReplicationStatus.ERROR
    elif replication_status is ReplicationStatus.INACTIVE or (status is not None and status.mode in _WITHOUT_STREAM):
        failure = fatal_failure(facts.secondary)
        if failure is not None:
            replication_status = ReplicationStatus.ERROR
    fault_level = _fault_level(facts, status)
    failure = failure or _passing_failure(status) or member_failure(facts.primary)
    if failure is None and (fault_level == FAULT_PRODUCTION or _is_lost(facts)):
        failure = _silence(facts)
    return GroupHealth(
        replication_status=replication_status,
        fault_level=fault_level,
        failure=failure,
        status=status,
        members={member.volume_id: member for member in status.members} if status is not None else {},
        member_failures=_member_failures(facts.primary, facts.secondary),
        last_primary=_last_word(facts.primary, Role.PRIMARY),
        last_secondary=_last_word(facts.secondary, Role.SECONDARY),
        kept_at_primary=facts.primary.kept if facts.primary is not None else (),
        kept_at_secondary=facts.secondary.kept if facts.secondary is not None else (),
    )


_WITHOUT_STREAM = frozenset({Mode.CONNECTING, Mode.HOLDING})
_MOVING = frozenset({GroupStatus.FAILING_OVER, GroupStatus.REVERSING})
_AFTER_FAILOVER = frozenset({GroupStatus.FAILING_OVER, GroupStatus.FAILED_OVER, GroupStatus.ERROR_FAILING_OVER})


def _last_word(worker: ObservedWorker | None, role: Role) -> WorkerStatus | None:
    status = worker.status if worker is not None else None
    return status if status is not None and status.role is role else None


def _passing_failure(status: WorkerStatus | None) -> Failure | None:
    """Return what keeps a primary from its secondary, in words, when it is nothing that needs a person."""
    if status is None:
        return None
    if status.failure is None and status.mode is Mode.HOLDING:
        return Failure(
            PEER_UNREACHABLE,
            "writes wait: the stream to the DR side is down, and the arbiter has not yet let production go on alone",
        )
    return status.failure


def _is_lost(facts: GroupFacts) -> bool:
    """Say whether the production side was there and is not heard of any more, whatever that is worth."""
    return facts.primary is not None and not (facts.primary_connected and facts.primary.alive)


def _silence(facts: GroupFacts) -> Failure:
    """Return why nothing is known of production, in words; its worker may still serve hosts."""
    if not facts.primary_connected:
        return Failure(PEER_UNREACHABLE, "the node of the primary site is not connected to the controller")
    if facts.primary is not None and facts.primary.alive:
        return Failure(PEER_UNREACHABLE, "the worker of the primary site has not taken up its role as primary")
    return Failure(PEER_UNREACHABLE, "the worker of the primary site is not running")


def _status_of_mode(status: WorkerStatus, settled: ReplicationStatus, facts: GroupFacts) -> ReplicationStatus:
    match status.mode:
        case Mode.PAUSED:
            # The API has it that a failover leaves a consistent pause, whatever the other side holds.
            paused_well = status.consistent or facts.status in _AFTER_FAILOVER
            return ReplicationStatus.ACTIVE_STOPPED if paused_well else ReplicationStatus.INACTIVE
        case Mode.CONNECTING:
            return ReplicationStatus.COPYING if facts.in_sync_grace else ReplicationStatus.INACTIVE
        case Mode.COPYING:
            return ReplicationStatus.COPYING
        case Mode.IN_SYNC if facts.recorded_in_sync:
            return ReplicationStatus.ACTIVE
        case Mode.IN_SYNC:
            return ReplicationStatus.COPYING if settled is ReplicationStatus.COPYING else ReplicationStatus.INACTIVE
        case Mode.HOLDING:
            if facts.status in _MOVING:
                return settled
            starts = facts.in_sync_grace and not facts.recorded_in_sync
            return ReplicationStatus.COPYING if starts else ReplicationStatus.INACTIVE
        case Mode.ERROR:
            return ReplicationStatus.ERROR
        case _:
            return settled


def _fault_level(facts: GroupFacts, status: WorkerStatus | None) -> str:
    if facts.status in _MOVING:
        return FAULT_NONE  # Whoever serves next is on its way; a move that fails ends in a status of its own.
    production_fails = (
        not facts.primary_connected
        or status is None
        or needs_person(facts.primary) is not None
        or status.mode in (Mode.ERROR, Mode.HOLDING)
    )
    if production_fails and facts.recorded_in_sync:
        return FAULT_PRODUCTION
    goes_on_alone = (
        facts.replication != Replication.PAUSED
        and status is not None
        and status.mode in _WITHOUT_STREAM
        and status.spec_version >= facts.wish_version
    )
    return FAULT_LINK if goes_on_alone and not facts.in_sync_grace else FAULT_NONE


def pair_replication_status(health: GroupHealth, production_id: str, dr_id: str) -> ReplicationStatus:
    """Return a pair's replication status within its group.

    When a member fails the stream stops for all, and the others are interrupted rather than broken.
    """
    if health.replication_status is not ReplicationStatus.ERROR or not health.member_failures:
        return health.replication_status
    if production_id in health.member_failures or dr_id in health.member_failures:
        return ReplicationStatus.ERROR
    return ReplicationStatus.INACTIVE


def worst(statuses: list[ReplicationStatus]) -> ReplicationStatus:
    """Return the worst of several replication statuses, of at least one."""
    return min(statuses, key=REPLICATION_STATUS_WORST_FIRST.index)


def progress_percent(replication_status: ReplicationStatus, bytes_done: int, bytes_total: int) -> int | None:
    """Return how much of the last resync is done, 0 to 100; None when there is nothing to say.

    100 only when all is done, however close it is.
    """
    if replication_status is ReplicationStatus.ACTIVE:
        return 100
    if bytes_total <= 0:
        return 0 if replication_status is ReplicationStatus.COPYING else None
    return max(0, min(100, bytes_done * 100 // bytes_total))


def group_status_after_reports(
    status: str,
    spec_version: int,
    has_members: bool,
    primary: ObservedWorker | None,
    secondary: ObservedWorker | None,
    awaited: Collection[Role] = (Role.PRIMARY, Role.SECONDARY),
) -> tuple[GroupStatus, Failure | None]:
    """Return a group's status once its workers reported, with the failure when that is `error`.

    `awaited` are the roles whose sites are not lost. Only `creating`, `updating` and `error` depend on workers; every
    other status is returned as it is.
    """
    current = GroupStatus(status)
    if current not in {GroupStatus.CREATING, GroupStatus.UPDATING, GroupStatus.ERROR}:
        return current, None
    if not has_members:
        # The group's last volumes are free once no worker holds them any more.
        busy = any(worker is not None and worker.alive for worker in (primary, secondary))
        return (current if busy else GroupStatus.AVAILABLE), None
    # What a single disk refuses its hosts (a full one, say) keeps no spec from being in force.
    failure = fatal_failure(primary) or fatal_failure(secondary)
    if failure is not None:
        return GroupStatus.ERROR, failure
    workers = {Role.PRIMARY: primary, Role.SECONDARY: secondary}
    statuses = [living_status(workers[role], role) for role in awaited]
    in_force = all(
        worker is not None and worker.spec_version >= spec_version and worker.mode is not Mode.STARTING
        for worker in statuses
    )
    return (GroupStatus.AVAILABLE if in_force else current), None


def within_grace(synced_at: datetime.datetime | None, now: datetime.datetime, grace_seconds: float) -> bool:
    """Say whether the user's last sync is younger than the grace. A clock that was set back does not prolong it."""
    return synced_at is not None and abs((now - synced_at).total_seconds()) < grace_seconds
