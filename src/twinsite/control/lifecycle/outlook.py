"""What a failover would do now: may it be, and what would a forced one lose? Pure.

The arbiter's row decides. While it has the secondary as in sync, that side has every acknowledged write, unless it says
itself that it may have lost some: its machine restarted, or a flush failed, before they were durable. Otherwise what
was written since `stale_since` may be missing there, and the dirty bytes that the primary last reported say how much
that is, as long as the primary is heard: one that is silent may have gone on serving hosts.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from twinsite.control.lifecycle.reports import fatal_failure
from twinsite.control.lifecycle.states import GROUP_ADMITS, GroupCall, GroupStatus
from twinsite.core.arbiter import Row, Secondary
from twinsite.messages import Mode, ObservedWorker, Role, WorkerStatus

UNFLUSHED = (
    "writes that were acknowledged but not flushed by any host when the machine there restarted, or a flush failed "
    "there; the disks may not be at one common point in time"
)


@dataclass(frozen=True, slots=True)
class Loss:
    """What a forced failover gives up. `since` is in seconds since the epoch; None is for what nobody knows.

    `bytes_at_most` is what the primary reports; `bytes_last_reported` also the last word of one that is silent, and so
    no bound. `unflushed`: writes that were acknowledged, and that no host has flushed, may be missing besides. Unless
    `is_stale`, nothing else is.
    """

    since: float | None
    bytes_at_most: int | None
    unflushed: bool = False
    is_stale: bool = True
    bytes_last_reported: int | None = None
    unheard: tuple[str, ...] = ()
    """Sites that have not said since the database was restored from a backup what they know."""

    def __str__(self) -> str:
        """Return the loss in words."""
        if self.unheard:
            return f"nobody knows what: {restored(self.unheard)}"
        if not self.unflushed:
            return self._since_stale()
        return f"{self._since_stale()}, and {UNFLUSHED}" if self.is_stale else UNFLUSHED

    def _since_stale(self) -> str:
        since = "its creation" if self.since is None else f"{_utc(self.since)} UTC"
        if self.bytes_at_most is not None:
            return f"all writes since {since}, at most {self.bytes_at_most} bytes as last reported"
        if self.bytes_last_reported is not None:
            return (
                f"all writes since {since}: {self.bytes_last_reported} bytes when the primary was last heard of, and "
                "what was written there since, nobody knows how much"
            )
        return f"all writes since {since}, nobody knows how many bytes"


@dataclass(frozen=True, slots=True)
class FailoverOutlook:
    """Whether an unforced failover is possible now. `reason` says why not; `loss` is what a forced one would cost."""

    possible: bool
    reason: str | None = None
    loss: Loss | None = None


@dataclass(frozen=True, slots=True)
class FailoverFacts:
    """What is known of a group before a failover to `target`."""

    status: str
    has_members: bool
    target: str
    target_connected: bool
    row: Row
    primary: ObservedWorker | None
    secondary: ObservedWorker | None
    primary_connected: bool
    """The primary site's node is there as far as is known, and the site was not given up."""
    primary_heard: bool
    """The primary site's node was heard of lately."""


def loss_of(facts: FailoverFacts) -> Loss | None:
    """Return what a failover would lose, or None when the DR side has everything."""
    unflushed = is_known_doubtful(facts.secondary)
    if facts.row.unheard:
        return Loss(None, None, unflushed, unheard=tuple(facts.row.unheard))
    if facts.row.secondary is Secondary.IN_SYNC:
        return Loss(None, None, unflushed=True, is_stale=False) if unflushed else None
    if rollback_point(facts.secondary) is not None:
        # What a broken resync had brought is undone, so the primary's last count of dirty bytes is too small. The point
        # has all that was acknowledged before the arbiter had the secondary as stale; its own time is of another clock.
        return Loss(facts.row.stale_since, None, unflushed)
    if _is_out_of_reach(facts):
        # It may have begun to serve after its last report, by a grant.
        return Loss(facts.row.stale_since, None, unflushed)
    status = facts.primary.status if facts.primary is not None else None
    if status is None or status.role is not Role.PRIMARY or status.term != facts.row.term:
        return Loss(facts.row.stale_since, None, unflushed)
    if not status.consistent:
        # A copy has begun, or its end is not known: the secondary may go back to the point before it.
        return Loss(facts.row.stale_since, None, unflushed)
    is_current = facts.primary_heard and facts.primary is not None and facts.primary.alive
    at_most = status.dirty_bytes if is_current else None
    return Loss(facts.row.stale_since, at_most, unflushed, bytes_last_reported=status.dirty_bytes)


def is_known_inconsistent(secondary: ObservedWorker | None) -> bool:
    """Say whether the secondary itself reports that its disks are at no common point and cannot go back to one."""
    status = _following(secondary)
    return status is not None and not status.consistent and status.rollback_point is None


def is_silent(secondary: ObservedWorker | None) -> bool:
    """Say whether the secondary does not say what its disks hold: while it is stale they may be of no one moment."""
    return _following(secondary) is None


def is_known_doubtful(secondary: ObservedWorker | None) -> bool:
    """Say whether the secondary itself reports that it may have lost what it had acknowledged."""
    status = _following(secondary)
    return status is not None and status.doubtful


def rollback_point(secondary: ObservedWorker | None) -> float | None:
    """Return the time of the common point that a promotion would take an overwritten secondary back to, or None."""
    status = _following(secondary)
    return None if status is None or status.consistent else status.rollback_point


def _following(secondary: ObservedWorker | None) -> WorkerStatus | None:
    if secondary is None or not secondary.alive or secondary.status is None:
        return None
    status = secondary.status
    return status if status.role is Role.SECONDARY and status.mode is Mode.FOLLOWING else None


def failover_outlook(facts: FailoverFacts) -> FailoverOutlook:
    """Return what a failover would do now."""
    if facts.status not in GROUP_ADMITS[GroupCall.FAIL_OVER]:
        return FailoverOutlook(False, f"the group is {facts.status}")
    if not facts.has_members:
        return FailoverOutlook(False, "the group has no pairs")
    why_back = _why_it_goes_back(facts)
    if facts.status == GroupStatus.ERROR_FAILING_OVER and why_back is None:
        return FailoverOutlook(True)  # It was promoted already; a repeated failover waits for it again.
    loss = loss_of(facts)
    hindrance = _hindrance_to_force(facts, loss)
    if why_back is not None:
        back = f"a forced failover goes back to {facts.target}, and loses {loss or 'nothing'}"
        return FailoverOutlook(False, f"{why_back}; {hindrance or back}", loss)
    if hindrance is not None:
        unheard = f"{would_lose(facts.target, loss)}; " if loss is not None and loss.unheard else ""
        return FailoverOutlook(False, f"{unheard}{hindrance}", loss)
    if loss is None:
        return FailoverOutlook(True)
    return FailoverOutlook(False, would_lose(facts.target, loss), loss)


def _hindrance_to_force(facts: FailoverFacts, loss: Loss | None) -> str | None:
    """Return why not even a forced failover to the target is possible now, or None."""
    if not facts.target_connected:
        return f"the node of {facts.target} is not connected"
    if loss is not None and loss.is_stale and is_silent(facts.secondary):
        return f"{silent(facts.target)}; until then not even a forced one is possible"
    if loss is not None and is_known_inconsistent(facts.secondary):
        return f"{inconsistent(facts.target)}; not even a forced failover is possible"
    return None


def goes_back(facts: FailoverFacts) -> bool:
    """Say whether a forced failover goes back to the former primary.

    The new one fails and will go on failing, or is out of reach, so that nothing can be waited for.
    """
    return _why_it_goes_back(facts) is not None


def _why_it_goes_back(facts: FailoverFacts) -> str | None:
    if facts.status != GroupStatus.ERROR_FAILING_OVER:
        return None
    if _is_out_of_reach(facts):
        gone = f"the node of {facts.row.primary_site} is not connected, or the site was given up"
        return f"{gone}: the new primary there is not heard of, and may yet serve its hosts"
    failure = fatal_failure(facts.primary)
    return f"the new primary cannot serve ({failure.message})" if failure is not None else None


def _is_out_of_reach(facts: FailoverFacts) -> bool:
    """Say whether a primary that was promoted, and has not been seen to serve, cannot be heard of."""
    return facts.status == GroupStatus.ERROR_FAILING_OVER and not facts.primary_connected


def would_lose(target: str, loss: Loss) -> str:
    """Return the sentence for a failover that is refused unless the loss is accepted."""
    if loss.unheard:
        return f"{restored(loss.unheard)}: a failover to {target} would lose what nobody knows of"
    state = "is stale" if loss.is_stale else "may lack writes"
    return f"the DR side in {target} {state}: a failover would lose {loss}"


def restored(unheard: Sequence[str]) -> str:
    """Return the sentence for a database that may have forgotten what was granted."""
    names, have = " and ".join(unheard), "has" if len(unheard) == 1 else "have"
    return f"the database was restored from a backup, and {names} {have} not been heard since of what it knows"


def silent(target: str) -> str:
    """Return the sentence for a DR side that may be promoted only when it has said what its disks hold."""
    return f"the worker in {target} does not say yet whether its disks are at one common point in time"


def inconsistent(target: str) -> str:
    """Return the sentence for a DR side that cannot be promoted."""
    return f"the disks in {target} are not at one common point in time: a copy to them was not completed"


def _utc(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
