"""What an action on a group would do, in plain sentences: pure, so that a test can walk over every case."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from twinsite.amounts import format_bytes
from twinsite.control.lifecycle.admission import Failover
from twinsite.control.lifecycle.health import GroupHealth
from twinsite.control.lifecycle.outlook import Loss
from twinsite.control.lifecycle.proof import epoch_timestamp
from twinsite.control.lifecycle.states import GROUP_ADMITS, GroupCall, GroupStatus, ReplicationStatus
from twinsite.core.arbiter import Row, Secondary
from twinsite.core.limits import GIB
from twinsite.messages import Mode

NAMED_MAX = 8
"""Most disks or hosts that one sentence names."""


class Action(StrEnum):
    """What can be planned."""

    FAIL_OVER = "failover"
    REVERSE = "reverse"
    REPROTECT = "reprotect"
    STOP = "stop"
    SYNC = "sync"


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of a group: how people call it, and the hosts that were given the way to it."""

    name: str
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """What is known of a group before an action. `primary` and `secondary` are its sites as they are now."""

    group_id: str
    name: str | None
    status: str
    row: Row
    primary: str
    secondary: str
    health: GroupHealth
    primary_disks: tuple[Disk, ...]
    secondary_disks: tuple[Disk, ...]
    size_gib: int
    """Of all production disks together."""
    connected: frozenset[str]
    is_due: bool = True
    """There is something to do."""
    force: bool = False
    failover: Failover | None = None
    rollback_point: float | None = None
    """The time of the common point that the secondary would go back to, in seconds since the epoch."""
    why_pause_waits: str | None = None
    failover_seconds: float = 60.0
    reverse_seconds: float = 15.0


@dataclass(frozen=True, slots=True)
class PlanWords:
    """What would happen in order, what to do before, where hosts connect afterwards, and what would be lost."""

    steps: list[str] = field(default_factory=list)
    first: list[str] = field(default_factory=list)
    hosts: str | None = None
    loss: Loss | None = None
    loss_text: str | None = None
    from_site: str | None = None
    to_site: str | None = None


def called(group_id: str, name: str | None) -> str:
    """Return what a shell takes for the name of a group: its name where that is plain, else its id."""
    plain = name is not None and name.isprintable() and name.strip() == name and not name.startswith("-")
    return shlex.quote(name) if name and plain else group_id


def command(facts: PlanFacts, words: str) -> str:
    """Return a command on the group as one types it."""
    return f"twinsite group {words} {called(facts.group_id, facts.name)}"


def _quoted(facts: PlanFacts, words: str) -> str:
    """Return a command as it stands in a sentence."""
    return f"'{command(facts, words)}'"


def _named(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:NAMED_MAX])
    more = len(names) - NAMED_MAX
    return f"{shown} and {more} more" if more > 0 else shown


def _disks(disks: tuple[Disk, ...]) -> str:
    names = _named(tuple(disk.name for disk in disks))
    return f"the disk {names}" if len(disks) == 1 else f"the {len(disks)} disks {names}"


def _hosts(disks: tuple[Disk, ...]) -> tuple[str, ...]:
    return tuple(sorted({host for disk in disks for host in disk.hosts}))


def _hosts_of(disks: tuple[Disk, ...], site: str) -> str:
    hosts = _hosts(disks)
    return f"the hosts that use disks in {site} ({_named(hosts)})" if hosts else f"all hosts that use disks in {site}"


def _connect(site: str, disks: tuple[Disk, ...]) -> str:
    first = shlex.quote(disks[0].name) if disks else "VOLUME"
    return f"Hosts connect to {_disks(disks)} in {site}; 'twinsite volume connect {first}' prints the address."


def _to_copy(facts: PlanFacts) -> str:
    """Return how much a synchronization would have to bring over."""
    status = facts.health.status
    whole = f"{format_bytes(facts.size_gib * GIB)} of disks"
    if status is None:
        return f"what differs of {whole}, nobody knows now how much that is"
    if not status.consistent and status.dirty_bytes == 0:
        return f"what the disks hold, of {whole}"
    return f"{format_bytes(status.dirty_bytes)} of {whole}, as last reported"


def words_of(action: Action, facts: PlanFacts) -> PlanWords:
    """Return the plan of an action that is admitted, in words."""
    if not facts.is_due:
        return PlanWords(steps=[f"Nothing: {_why_nothing(action, facts)}."], from_site=facts.primary)
    return _WORDS[action](facts)


def words_of_refused(action: Action, facts: PlanFacts) -> PlanWords:
    """Return what would have to be done before an action can be admitted, and what a failover would lose."""
    needed = {facts.primary, facts.secondary}
    if action is Action.FAIL_OVER:
        needed = {facts.primary if facts.failover is Failover.WAIT_AGAIN else facts.secondary}
    elif action is Action.STOP:
        needed = {facts.primary}
    first = [f"Bring the node of {site} back: it is not connected." for site in sorted(needed - facts.connected)]
    loss = facts.health.failover.loss if action is Action.FAIL_OVER else None
    if loss is not None and loss.unheard:
        first += _let_speak(loss)
    can_sync = {facts.primary, facts.secondary} <= facts.connected and facts.status in GROUP_ADMITS[GroupCall.SYNC]
    is_current = facts.health.replication_status is ReplicationStatus.ACTIVE
    if action in (Action.FAIL_OVER, Action.REVERSE) and can_sync and not is_current:
        first.append(f"Synchronize it, and wait until that is done: {command(facts, 'sync --wait')}")
    return PlanWords(first=first, loss=loss, loss_text=_lost(loss))


def _why_nothing(action: Action, facts: PlanFacts) -> str:
    if action in (Action.FAIL_OVER, Action.REVERSE):
        return f"{facts.primary} is the primary site already"
    if action is Action.STOP:
        is_heard = facts.health.status is not None and facts.health.status.mode is Mode.PAUSED
        waits = "" if is_heard else f"; the call waits until the worker in {facts.primary} says so"
        return f"replication is paused already{waits}"
    if not facts.primary_disks:
        return "the group has no pairs"
    mode = facts.health.status.mode if facts.health.status is not None else None
    return "it is being synchronized already" if mode is Mode.COPYING else "it is synchronized already"


def _lost(loss: Loss | None) -> str | None:
    return None if loss is None else f"Lost will be {loss}."


def _let_speak(loss: Loss) -> list[str]:
    return [f"Start the node of {site}, so that it can say what it knows." for site in loss.unheard]


def _failover(facts: PlanFacts) -> PlanWords:
    if facts.failover is Failover.WAIT_AGAIN:
        return _failover_again(facts)
    old, new, new_disks = facts.primary, facts.secondary, facts.secondary_disks
    end = f"{old} can acknowledge no write, wherever it is"
    if facts.row.secondary is Secondary.STALE:
        # A primary that had its grant to go on alone answers its hosts until it hears that it was replaced.
        end = f"{old} gets no new permission to go on alone, but may answer hosts until it hears of this"
    steps = [f"{new} becomes the primary site for good, under a new term. From then on {end}."]
    if facts.rollback_point is not None:
        at = epoch_timestamp(facts.rollback_point)
        steps.append(
            f"The disks in {new} go back to their last common point ({at}), since a copy to them was not completed."
        )
    steps.append(
        f"{new} serves {_disks(new_disks)}. That usually takes seconds; after {facts.failover_seconds:g} s without it "
        "the group is error_failovering, and the failover can be repeated."
    )
    if old in facts.connected:
        steps.append(f"Connections of hosts to {old} end; what they had not been answered may be there or not.")
    else:
        steps.append(f"{old} is out of reach. When it is back it hears that it was replaced, and serves nobody.")
    steps.append(
        f"The group is failovered and not protected: nothing is copied before {_quoted(facts, 'reprotect')}, "
        f"which overwrites what only {old} has."
    )
    loss = facts.health.failover.loss
    return PlanWords(
        steps=steps,
        first=_first_of_failover(facts, loss),
        hosts=_connect(new, new_disks),
        loss=loss,
        loss_text=_lost(loss),
        from_site=old,
        to_site=new,
    )


_COPY_BOTH = (
    "Copy the disks of both sites if you may want to look for more later: each may have writes that the other lacks."
)


def _first_of_failover(facts: PlanFacts, loss: Loss | None) -> list[str]:
    old = facts.primary
    first: list[str] = []
    if facts.failover is Failover.GO_BACK:
        first.append(f"Try to bring the node of {old} back, and repeat the failover without force: that loses nothing.")
    elif loss is not None and loss.unheard:
        first += _let_speak(loss)
    elif loss is not None and facts.health.is_neither_sure:
        first.append(_COPY_BOTH)
    elif loss is not None and old in facts.connected:
        first.append(f"{old} is there: synchronize first, and nothing is lost: {command(facts, 'sync --wait')}")
    elif loss is not None:
        first.append(f"Try to bring {old} back before you accept the loss: only there is what was written since.")
    elif old in facts.connected and facts.health.replication_status is ReplicationStatus.ACTIVE:
        first.append(
            f"{old} is there and in sync. To move as planned and keep the group protected: {command(facts, 'reverse')}"
        )
    if facts.force or loss is not None:
        first.append(f"Cut {_hosts_of(facts.primary_disks, old)} off from it: nobody may go on writing there.")
    else:
        first.append(f"Stop {_hosts_of(facts.primary_disks, old)}, if they run.")
    return first


def _failover_again(facts: PlanFacts) -> PlanWords:
    new, old = facts.primary, facts.secondary
    steps = [
        (
            f"{new} was made the primary site already; it is waited for once more, "
            f"for {facts.failover_seconds:g} s at most, until it serves {_disks(facts.primary_disks)}."
        )
    ]
    loss_text = None
    if facts.force:
        steps.append(f"{new} may go on although acknowledged writes may be missing there, which {old} has.")
        loss_text = f"Lost will be what {new} says that it lacks: acknowledged writes that only {old} has."
    return PlanWords(
        steps=steps,
        first=[f"Bring {old} back if you can: {new} takes what it lacks from there."],
        hosts=_connect(new, facts.primary_disks),
        loss_text=loss_text,
        from_site=old,
        to_site=new,
    )


def _reverse(facts: PlanFacts) -> PlanWords:
    old, new = facts.primary, facts.secondary
    return PlanWords(
        steps=[
            (
                f"{old} takes no new write, lets its hosts go, and ends what is in flight; both sites flush. "
                f"Hosts wait, usually for less than a second. If {old} has not handed over after "
                f"{facts.reverse_seconds:g} s, everything is as before and the group is error_reversing."
            ),
            f"{new} becomes the primary site, under a new term, and serves {_disks(facts.secondary_disks)}.",
            f"{old} follows {new} from there: nothing is copied, no write is lost, and the group stays protected.",
        ],
        first=[f"Stop {_hosts_of(facts.primary_disks, old)}, so that they end cleanly; their connections end once."],
        hosts=_connect(new, facts.secondary_disks),
        from_site=old,
        to_site=new,
    )


def _reprotect(facts: PlanFacts) -> PlanWords:
    new, old = facts.primary, facts.secondary
    return PlanWords(
        steps=[
            (
                f"{new} replicates to {old}. What may differ in {old} is compared, and overwritten where it does; "
                f"hosts in {new} go on meanwhile. To copy: {_to_copy(facts)}."
            ),
            f"When {old} has everything the group is active: every write is acknowledged only when both sites have it.",
        ],
        first=[
            f"Make sure that no host still uses disks in {old}.",
            (
                f"If you need something that only {old} has, save it before: after this it is only in what "
                f"'twinsite kept list' shows on the machine of {old}."
            ),
        ],
        hosts=f"Hosts stay in {new}. Once the group is active, {_quoted(facts, 'reverse')} moves it back.",
        loss_text=f"What was written in {old}, and nobody else acknowledged, is overwritten.",
        from_site=new,
        to_site=old,
    )


def _stop(facts: PlanFacts) -> PlanWords:
    old, dr = facts.primary, facts.secondary
    steps = [f"{old} stops sending to {dr} after the writes that are in flight. Hosts do not wait, and notice nothing."]
    if facts.force:
        steps = [f"{old} goes on alone, although acknowledged writes may be missing there, which {dr} may have."]
    if facts.row.secondary is Secondary.IN_SYNC:
        steps.append(f"The disks in {dr} stay as they are then, at one common point in time.")
    steps.append(
        f"What is written from then on is in {old} alone and is tracked; a failover is refused, or loses it, until "
        f"{_quoted(facts, 'sync')} has brought it over."
    )
    return PlanWords(
        steps=steps,
        first=_first_of_stop(facts),
        hosts=f"Hosts stay connected to {old}.",
        loss_text=f"Lost will be acknowledged writes that only {dr} may have." if facts.force else None,
        from_site=old,
    )


def _first_of_stop(facts: PlanFacts) -> list[str]:
    if facts.health.is_neither_sure:
        return [_COPY_BOTH]
    return [] if facts.why_pause_waits is None else [f"Bring {facts.secondary} back: {facts.why_pause_waits}."]


def _sync(facts: PlanFacts) -> PlanWords:
    if facts.status == GroupStatus.FAILED_OVER:
        return _reprotect(facts)
    old, dr = facts.primary, facts.secondary
    never = facts.row.stale_since is not None and facts.row.term == 1 and not _has_been_in_sync(facts.health)
    steps = [
        f"{old} connects to {dr} and copies what differs; hosts go on meanwhile. To copy: {_to_copy(facts)}.",
        "Then the group is active: every write is acknowledged only when both sites have it.",
    ]
    if _is_consistent(facts.health):
        steps.insert(1, f"Until that is complete a failover goes back to the last common point that {dr} has now.")
    return PlanWords(
        steps=steps,
        first=[f"What is on the disks in {dr} is overwritten: make sure that nobody needs it."] if never else [],
        hosts=f"Hosts stay connected to {old}.",
        from_site=old,
        to_site=dr,
    )


def _has_been_in_sync(health: GroupHealth) -> bool:
    return _is_consistent(health) or (health.status is not None and health.status.resync is not None)


def _is_consistent(health: GroupHealth) -> bool:
    return health.last_secondary is not None and health.last_secondary.consistent


_WORDS: Mapping[Action, Callable[[PlanFacts], PlanWords]] = {
    Action.FAIL_OVER: _failover,
    Action.REVERSE: _reverse,
    Action.REPROTECT: _reprotect,
    Action.STOP: _stop,
    Action.SYNC: _sync,
}
