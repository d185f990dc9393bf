"""What is the matter with a group, and what to do about it: pure.

`SITUATIONS` is the table: its first row that fits says what the group's state is. `REMARKS` may add to any of them. A
test has a case for each row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from twinsite.amounts import format_bytes, format_seconds
from twinsite.control.lifecycle.health import FAULT_PRODUCTION, GroupHealth
from twinsite.control.lifecycle.outlook import restored
from twinsite.control.lifecycle.plan_words import called
from twinsite.control.lifecycle.proof import epoch_timestamp
from twinsite.control.lifecycle.states import GroupStatus, ReplicationStatus
from twinsite.control.refusals import PEER_UNREACHABLE
from twinsite.core.arbiter import Row, Secondary
from twinsite.messages import Mode, Replication

POOL_FREE_SHARE_MIN = 0.10
"""A pool with less of it free is filling."""
POOL_FREE_SHARE_CRITICAL = 0.03
"""A pool with less of it free is about to refuse writes."""


class Severity(StrEnum):
    """How bad it is; the worst last."""

    OK = "ok"  # Nothing to do.
    NOTICE = "notice"  # Passes by itself, or is as somebody wished.
    WARNING = "warning"  # Hosts go on, but a disaster now would cost something.
    CRITICAL = "critical"  # Hosts wait or are cut off, or nobody knows what they may trust.


@dataclass(frozen=True, slots=True)
class Advice:
    """What is the matter, and the command for what to do about it, if there is one."""

    severity: Severity
    text: str
    command: str | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """The storage of a site."""

    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class AdviceFacts:
    """What is known of a group. `connected` are the sites whose nodes are there, as far as is known."""

    group_id: str
    name: str | None
    status: str
    replication: str
    has_members: bool
    row: Row
    primary: str
    secondary: str
    health: GroupHealth
    connected: frozenset[str]
    failure: str | None = None
    """Why the status is an error."""
    lost: frozenset[str] = frozenset()
    pools: Mapping[str, Pool] = field(default_factory=dict)
    """Of the sites that the reader may see."""
    is_extension_stuck: bool = False
    was_in_sync: bool = False
    """The DR side had every write at some time, as far as the arbiter's row still tells."""

    @property
    def mode(self) -> Mode | None:
        """Return what the living primary does."""
        return self.health.status.mode if self.health.status is not None else None

    @property
    def trouble(self) -> str:
        """Return why something is wrong, as a clause."""
        told = self.failure or (self.health.failure.message if self.health.failure is not None else None)
        return (told or "nobody says why; see the node's log").rstrip(".")


Situation = Callable[[AdviceFacts], Advice | None]


def advice_on(facts: AdviceFacts) -> list[Advice]:
    """Return what is to be said of a group, the worst first. There is always something."""
    found = [next(advice for rule in SITUATIONS if (advice := rule(facts)) is not None)]
    found += [advice for rule in REMARKS if (advice := rule(facts)) is not None]
    order = list(Severity)
    return sorted(found, key=lambda advice: order.index(advice.severity), reverse=True)


def _command(facts: AdviceFacts, words: str) -> str:
    return f"twinsite group {words} {called(facts.group_id, facts.name)}"


def _since(seconds: float | None) -> str:
    shown = epoch_timestamp(seconds)
    return "" if shown is None else f" since {shown.partition('.')[0].replace('T', ' ')} UTC"


def _behind(facts: AdviceFacts) -> str:
    """Return what the DR side lacks, as a clause."""
    status = facts.health.status or facts.health.last_primary
    if status is None or status.term != facts.row.term:
        return f"nobody knows how much {facts.secondary} lacks"
    reported = "" if facts.health.status is not None else " as last reported"
    return f"{facts.secondary} lacks {format_bytes(status.dirty_bytes)}{reported}"


def _failover(facts: AdviceFacts) -> tuple[str, str | None]:
    """Return what a failover would do as a sentence, and its command where that loses nothing."""
    outlook = facts.health.failover
    if outlook.possible:
        return f"{facts.secondary} has every acknowledged write: a failover loses nothing.", _command(facts, "failover")
    return f"Before a failover: {outlook.reason}.", _command(facts, "plan failover") if outlook.loss else None


def _empty(facts: AdviceFacts) -> Advice | None:
    if facts.has_members:
        return None
    return Advice(Severity.NOTICE, "The group has no pairs: nothing is replicated.")


def _restored(facts: AdviceFacts) -> Advice | None:
    if not facts.row.unheard:
        return None
    names = " and ".join(facts.row.unheard)
    text = f"{restored(facts.row.unheard).capitalize()}. Start the node of {names}; give it up only if it is gone."
    return Advice(Severity.CRITICAL, text)


def _on_its_way(facts: AdviceFacts) -> Advice | None:
    texts = {
        GroupStatus.CREATING: "The group is being set up at both sites.",
        GroupStatus.UPDATING: "A change of the group's pairs is being put into force at both sites.",
        GroupStatus.DELETING: "The group is being deleted.",
        GroupStatus.FAILING_OVER: f"{facts.primary} was made primary, and is about to serve its disks.",
        GroupStatus.REVERSING: "The sites are changing roles; hosts wait for a moment.",
    }
    text = texts.get(GroupStatus(facts.status))
    missing = ({facts.primary, facts.secondary} - facts.connected) if facts.status != GroupStatus.FAILING_OVER else ()
    if text is None:
        return None
    if missing:
        return Advice(Severity.WARNING, f"{text} It waits for the node of {' and '.join(sorted(missing))}.")
    return Advice(Severity.NOTICE, text)


def _failover_failed(facts: AdviceFacts) -> Advice | None:
    if facts.status != GroupStatus.ERROR_FAILING_OVER:
        return None
    reason = facts.health.failover.reason
    if reason is not None:
        text = f"{facts.primary} was made primary and does not serve: {reason}."
        return Advice(Severity.CRITICAL, text, _command(facts, "plan failover --force"))
    text = f"{facts.primary} was made primary and does not serve its disks yet: {facts.trouble}. Repeat the failover."
    return Advice(Severity.CRITICAL, text, _command(facts, "failover"))


def _failed_over(facts: AdviceFacts) -> Advice | None:
    if facts.status != GroupStatus.FAILED_OVER:
        return None
    serves = f"{facts.primary} serves the group{_since(facts.row.stale_since)}, and nothing is copied"
    if facts.mode is None:
        return Advice(Severity.CRITICAL, f"{facts.primary} is primary after a failover, but {_silence(facts)}.")
    if facts.secondary in facts.lost:
        text = f"{serves}: {facts.secondary} was given up. Pair the disks with new ones at a site that is there."
        return Advice(Severity.WARNING, text)
    if facts.secondary not in facts.connected:
        text = f"{serves}. Bring the node of {facts.secondary} back, then protect the group again."
        return Advice(Severity.WARNING, text, _command(facts, "reprotect"))
    text = f"{serves}. {facts.secondary} is there: protect the group again."
    return Advice(Severity.WARNING, text, _command(facts, "reprotect"))


def _reversal_failed(facts: AdviceFacts) -> Advice | None:
    if facts.status != GroupStatus.ERROR_REVERSING:
        return None
    text = f"The switchover did not come to its end, {facts.primary} is primary: {facts.trouble}."
    return Advice(Severity.WARNING, text, _command(facts, "sync"))


def _replaced(facts: AdviceFacts) -> Advice | None:
    if facts.mode is not Mode.REPLACED:
        return None
    return Advice(Severity.CRITICAL, f"{facts.primary} serves nobody: {facts.trouble}.")


def _primary_lost(facts: AdviceFacts) -> Advice | None:
    if facts.primary not in facts.lost:
        return None
    text, command = _failover(facts)
    return Advice(Severity.CRITICAL, f"{facts.primary} was given up, and nobody serves hosts. {text}", command)


def _silence(facts: AdviceFacts) -> str:
    if facts.primary not in facts.connected:
        return f"the node of {facts.primary} is not connected"
    return f"its worker in {facts.primary} is not there"


def _primary_gone(facts: AdviceFacts) -> Advice | None:
    if facts.primary in facts.connected and facts.mode is not None:
        return None
    text, command = _failover(facts)
    failure = facts.health.failure
    why = f" ({facts.trouble})" if failure is not None and failure.code != PEER_UNREACHABLE else ""
    begin = f"Production is out of sight: {_silence(facts)}{why}; its hosts may be cut off."
    return Advice(Severity.CRITICAL, f"{begin} {text}", command)


def _holding(facts: AdviceFacts) -> Advice | None:
    status = facts.health.status
    if status is None or status.mode is not Mode.HOLDING:
        return None
    begin = f"Writes of hosts wait{_since(status.holding_since)}"
    if status.doubtful:
        text, command = _failover(facts)
        if facts.health.is_neither_sure:
            begin += (
                f": {facts.primary} and {facts.secondary} may both lack acknowledged writes that no host had flushed."
            )
            begin += " If that does not pass by itself, a person must say which of them goes on."
            return Advice(Severity.CRITICAL, f"{begin} {text}", command)
        begin += f": {facts.primary} may lack acknowledged writes, and waits for {facts.secondary} to bring them."
        return Advice(Severity.CRITICAL, f"{begin} Bring {facts.secondary} back. {text}", command)
    text, command = _failover(facts)
    begin += f": {facts.primary} does not reach {facts.secondary}, nor the controller that could let it go on alone."
    return Advice(Severity.CRITICAL, f"{begin} Mend the network of {facts.primary}. {text}", command)


def _production_fails(facts: AdviceFacts) -> Advice | None:
    if facts.health.fault_level != FAULT_PRODUCTION:
        return None
    text, command = _failover(facts)
    return Advice(Severity.CRITICAL, f"Production in {facts.primary} fails: {facts.trouble}. {text}", command)


def _secondary_lost(facts: AdviceFacts) -> Advice | None:
    if facts.secondary not in facts.lost:
        return None
    text = (
        f"{facts.secondary} was given up: nothing protects the group. Pause it, take its pairs out, and pair its disks "
        "with new ones."
    )
    return Advice(Severity.WARNING, text, _command(facts, "stop"))


def _broken(facts: AdviceFacts) -> Advice | None:
    if facts.status != GroupStatus.ERROR and facts.health.replication_status is not ReplicationStatus.ERROR:
        return None
    failing = {failure.code for failure in facts.health.member_failures.values()}
    code = facts.health.failure.code if facts.health.failure is not None else None
    if code in _DR_DISK or failing & _DR_DISK:
        text = f"A DR disk in {facts.secondary} fails, and replication stopped: {facts.trouble}. Repair the storage"
        return Advice(Severity.WARNING, f"{text}, then synchronize.", _command(facts, "sync"))
    if code in _PRODUCTION_DISK or failing & _PRODUCTION_DISK:
        text, command = _failover(facts)
        begin = f"A production disk in {facts.primary} fails: {facts.trouble}. Repair the storage there."
        return Advice(Severity.CRITICAL, f"{begin} {text}", command)
    return Advice(Severity.CRITICAL, f"Replication stopped by an error: {facts.trouble}.", _command(facts, "sync"))


_PRODUCTION_DISK = frozenset({"37100177", "37100048"})
_DR_DISK = frozenset({"37100178", "37100050"})


def _never_synchronized(facts: AdviceFacts) -> Advice | None:
    if facts.mode is not Mode.PAUSED or facts.health.status is None or facts.health.status.consistent:
        return None
    if facts.health.status.resync is not None or facts.row.term > 1 or facts.was_in_sync:
        return None  # A primary does not know any more, after a crash, whether the other side's copy was whole.
    text = f"The group was never synchronized: {facts.secondary} holds no copy of {facts.primary}."
    return Advice(Severity.WARNING, text, _command(facts, "sync"))


def _paused(facts: AdviceFacts) -> Advice | None:
    if facts.replication != Replication.PAUSED or facts.mode not in (Mode.PAUSED, Mode.CONNECTING):
        return None
    text = f"Paused by a user{_since(facts.row.stale_since)}; {_behind(facts)}."
    return Advice(Severity.WARNING, text, _command(facts, "sync"))


def _copying(facts: AdviceFacts) -> Advice | None:
    status = facts.health.status
    if status is None or facts.health.replication_status is not ReplicationStatus.COPYING:
        return None
    if status.mode is not Mode.COPYING or status.resync is None:
        return Advice(Severity.NOTICE, f"{facts.primary} is connecting to {facts.secondary} to synchronize.")
    resync = status.resync
    left = max(0, resync.bytes_total - resync.bytes_done)
    when = "" if resync.seconds_left is None else f", about {format_seconds(resync.seconds_left)} left"
    text = f"Copying to {facts.secondary}: {format_bytes(left)} of {format_bytes(resync.bytes_total)} to go{when}."
    if not facts.health.failover.possible and facts.health.failover.loss is None:
        text += " No failover is possible before that is done."
    return Advice(Severity.NOTICE, text)


def _secondary_gone(facts: AdviceFacts) -> Advice | None:
    if facts.secondary in facts.connected or facts.health.replication_status is ReplicationStatus.ACTIVE:
        return None
    since = _since(facts.row.stale_since)
    text = f"Not protected{since}: the node of {facts.secondary} is not connected; {_behind(facts)}."
    return Advice(Severity.WARNING, f"{text} Bring it back: copying starts by itself then.")


def _link_down(facts: AdviceFacts) -> Advice | None:
    if facts.mode is not Mode.CONNECTING:
        return None
    text = f"Not protected{_since(facts.row.stale_since)}: {facts.primary} does not reach {facts.secondary}"
    why = f" ({facts.trouble})" if facts.health.failure is not None else ""
    text += f"{why}; {_behind(facts)}. Mend the link: copying starts by itself then."
    return Advice(Severity.WARNING, text)


def _one_disk_refuses(facts: AdviceFacts) -> Advice | None:
    if facts.health.replication_status is not ReplicationStatus.ACTIVE or facts.health.failure is None:
        return None
    return Advice(Severity.WARNING, f"In sync, but hosts get errors from a disk in {facts.primary}: {facts.trouble}.")


def _healthy(facts: AdviceFacts) -> Advice | None:
    if facts.health.replication_status is not ReplicationStatus.ACTIVE:
        return None
    status = facts.health.status
    since = _since(status.in_sync_since if status is not None else None)
    if facts.secondary not in facts.connected:
        text = f"In sync{since}, but the node of {facts.secondary} does not report; no failover is possible without it."
        return Advice(Severity.WARNING, text)
    if not facts.health.failover.possible:
        return Advice(Severity.WARNING, f"In sync{since}, but {facts.health.failover.reason}.")
    return Advice(Severity.OK, f"In sync{since}: a failover to {facts.secondary} loses nothing.")


def _starting(facts: AdviceFacts) -> Advice | None:
    if facts.health.failure is None and facts.row.secondary is Secondary.IN_SYNC:
        return Advice(Severity.NOTICE, f"{facts.primary} is starting.")
    why = f": {facts.trouble}" if facts.health.failure is not None else ""
    return Advice(Severity.WARNING, f"Not protected{_since(facts.row.stale_since)}{why}.", _command(facts, "sync"))


SITUATIONS: tuple[Situation, ...] = (
    _empty,
    _restored,
    _on_its_way,
    _failover_failed,
    _failed_over,
    _replaced,
    _primary_lost,
    _primary_gone,
    _holding,
    _reversal_failed,
    _production_fails,
    _secondary_lost,
    _broken,
    _never_synchronized,
    _paused,
    _copying,
    _secondary_gone,
    _link_down,
    _one_disk_refuses,
    _healthy,
    _starting,
)
"""The first that fits says how the group is. The last one always fits."""


def _rollback(facts: AdviceFacts) -> Advice | None:
    status = facts.health.last_secondary
    if status is None or status.consistent or status.rollback_point is None or facts.secondary not in facts.connected:
        return None
    at = _since(status.rollback_point).removeprefix(" since ")
    return Advice(
        Severity.NOTICE,
        f"A copy to {facts.secondary} is not complete: a failover now goes back to the common point of {at}.",
    )


def _doubtful(facts: AdviceFacts) -> Advice | None:
    status = facts.health.last_secondary
    if status is None or not status.doubtful or facts.health.replication_status is ReplicationStatus.ACTIVE:
        return None
    text = f"{facts.secondary} may have lost writes that it had acknowledged: its machine restarted, or a flush failed."
    return Advice(Severity.WARNING, text)


def _filling(facts: AdviceFacts) -> Advice | None:
    shares = {
        site: facts.pools[site].free_bytes / facts.pools[site].total_bytes
        for site in (facts.primary, facts.secondary)
        if site in facts.pools and facts.pools[site].total_bytes > 0
    }
    full = {site: share for site, share in shares.items() if share < POOL_FREE_SHARE_MIN}
    if not full:
        return None
    worst = min(full.values())
    named = " and ".join(f"{site} ({format_bytes(facts.pools[site].free_bytes)} free)" for site in sorted(full))
    text = f"Storage is filling up in {named}: a full pool stops writes there. Give it more space, or delete volumes."
    severity = Severity.CRITICAL if worst < POOL_FREE_SHARE_CRITICAL else Severity.WARNING
    return Advice(severity, text, "twinsite site list")


def _extension_stuck(facts: AdviceFacts) -> Advice | None:
    if not facts.is_extension_stuck:
        return None
    text = "An extension of the group's disks is not complete: a site has not taken it up. It ends by itself when both "
    return Advice(Severity.WARNING, f"{text}sites are there; see their nodes' logs if they are.")


REMARKS: tuple[Situation, ...] = (_rollback, _doubtful, _filling, _extension_stuck)
"""What may be said besides."""
