"""Wait for what was ordered, by asking the API again and again within a bound.

A controller that is away for a while, because it is started anew for example, ends no wait: only silence of
`SILENCE_SECONDS_MAX` does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Protocol, TypeVar

from twinsite.client.errors import ApiUnreachable, ObjectMissing, Unavailable, WaitedTooLong, WaitFailed
from twinsite.client.groups import extend_group, show_group
from twinsite.client.models import Group, Pair, Volume
from twinsite.client.pairs import show_pair
from twinsite.client.session import Session
from twinsite.client.steps import Pause, Plan
from twinsite.client.volumes import show_volume

WAIT_SECONDS_DEFAULT = 300.0
POLL_SECONDS = 0.25
"""Pause between two questions to the API."""
SILENCE_SECONDS_MAX = 30.0
"""Longest time for which nobody may answer."""


class Shown(Protocol):
    """What has an id and a status."""

    @property
    def id(self) -> str:
        """Return the id."""

    @property
    def status(self) -> str:
        """Return the status."""


Item = TypeVar("Item", bound=Shown)
Show = Callable[[Session, str], Plan[Item]]
Told = Callable[[Item], object]
"""Is handed every answer."""


class _Poll:
    """The bounds of one wait: when it is over, and since when nobody answers."""

    def __init__(self, timeout_seconds: float | None) -> None:
        self._give_up_at = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self._silent_since: float | None = None

    def ask(self, session: Session, show: Show[Item], item_id: str) -> Plan[Item | None]:
        """Return the object; None when nobody answers for now. Raises `ApiUnreachable` when that lasts."""
        try:
            item = yield from show(session, item_id)
        except ApiUnreachable:
            now = time.monotonic()
            self._silent_since = self._silent_since or now
            if now - self._silent_since >= SILENCE_SECONDS_MAX or self.is_over():
                raise
            return None
        self._silent_since = None
        return item

    def is_over(self) -> bool:
        """Say whether the time is over."""
        return self._give_up_at is not None and time.monotonic() >= self._give_up_at

    def pause(self, state: str) -> Plan[None]:
        """Let some time pass. Raises `WaitedTooLong` when it is over."""
        if self.is_over():
            raise WaitedTooLong(f"{state}, and the time to wait is over")
        yield Pause(POLL_SECONDS)


def wait_for_status(
    session: Session,
    kind: str,
    item_id: str,
    show: Show[Item],
    wanted: Collection[str],
    timeout_seconds: float | None,
    progress: Told[Item] | None,
) -> Plan[Item]:
    """Return the object once its status is one of `wanted`.

    Raises `WaitFailed` when the status becomes an error or when the time is over.
    """
    poll = _Poll(timeout_seconds)
    state = f"nobody says how {kind} {item_id} is"
    while True:
        item = yield from poll.ask(session, show, item_id)
        if item is not None:
            if progress is not None:
                progress(item)
            if item.status in wanted:
                return item
            if item.status.startswith("error"):
                raise WaitFailed(f"{kind} {item_id} is in status {item.status}{_detail(item)}")
            state = f"{kind} {item_id} is still {item.status}"
        yield from poll.pause(state)


def _wait_until_gone(
    session: Session,
    kind: str,
    item_id: str,
    show: Show[Item],
    timeout_seconds: float | None,
    progress: Told[Item] | None,
) -> Plan[None]:
    poll = _Poll(timeout_seconds)
    state = f"nobody says how {kind} {item_id} is"
    while True:
        try:
            item = yield from poll.ask(session, show, item_id)
        except ObjectMissing:
            return
        if item is not None:
            if progress is not None:
                progress(item)
            if item.status == "error_deleting":
                raise WaitFailed(f"{kind} {item_id} is in status {item.status}{_detail(item)}")
            state = f"{kind} {item_id} is still {item.status}"
        yield from poll.pause(state)


def wait_for_volume(
    session: Session,
    volume_id: str,
    timeout_seconds: float | None = WAIT_SECONDS_DEFAULT,
    *,
    progress: Told[Volume] | None = None,
) -> Plan[Volume]:
    """Return a volume once it is `available` or `in-use`.

    Raises `WaitFailed` when it fails, or is not after `timeout_seconds` (None: no limit). `progress` gets each answer.
    """
    wanted = {"available", "in-use"}
    return (yield from wait_for_status(session, "volume", volume_id, show_volume, wanted, timeout_seconds, progress))


def wait_for_pair(
    session: Session,
    pair_id: str,
    timeout_seconds: float | None = WAIT_SECONDS_DEFAULT,
    *,
    progress: Told[Pair] | None = None,
) -> Plan[Pair]:
    """Return a pair once it is `available`. Raises as `wait_for_volume`."""
    wanted = {"available"}
    return (yield from wait_for_status(session, "pair", pair_id, show_pair, wanted, timeout_seconds, progress))


def wait_for_group(
    session: Session,
    group_id: str,
    timeout_seconds: float | None = WAIT_SECONDS_DEFAULT,
    *,
    wanted: Collection[str] = ("available",),
    progress: Told[Group] | None = None,
) -> Plan[Group]:
    """Return a group once its status is one of `wanted`. Raises as `wait_for_volume`."""
    return (yield from wait_for_status(session, "group", group_id, show_group, wanted, timeout_seconds, progress))


def wait_until_volume_gone(
    session: Session,
    volume_id: str,
    timeout_seconds: float | None = WAIT_SECONDS_DEFAULT,
    *,
    progress: Told[Volume] | None = None,
) -> Plan[None]:
    """Return once the API no longer knows a volume that is being deleted. Raises as `wait_for_volume`."""
    yield from _wait_until_gone(session, "volume", volume_id, show_volume, timeout_seconds, progress)


def wait_until_pair_gone(
    session: Session,
    pair_id: str,
    timeout_seconds: float | None = WAIT_SECONDS_DEFAULT,
    *,
    progress: Told[Pair] | None = None,
) -> Plan[None]:
    """Return once the API no longer knows a pair. Raises as `wait_for_volume`."""
    yield from _wait_until_gone(session, "pair", pair_id, show_pair, timeout_seconds, progress)


def wait_until_group_gone(
    session: Session,
    group_id: str,
    timeout_seconds: float | None = WAIT_SECONDS_DEFAULT,
    *,
    progress: Told[Group] | None = None,
) -> Plan[None]:
    """Return once the API no longer knows a group. Raises as `wait_for_volume`."""
    yield from _wait_until_gone(session, "group", group_id, show_group, timeout_seconds, progress)


class SyncWatch:
    """Decides from one answer after the other whether a synchronization is over."""

    def __init__(self) -> None:
        """Start before the first answer."""
        self._has_run = False

    def is_done(self, group: Group) -> bool:
        """Take in an answer; return whether the group is active. Raises `WaitFailed` when it cannot become so."""
        replication = group.replication_status
        if replication == "active":
            return True
        if replication == "error" or group.status.startswith("error"):
            raise WaitFailed(f"group {group.id} is in replication status {replication}{_detail(group)}")
        # Until the workers have heard of the order, the group still shows the pause that it is about to leave.
        if self._has_run and group.mode == "paused":
            raise WaitFailed(f"the replication of group {group.id} was stopped before it was in sync")
        self._has_run = self._has_run or group.mode in {"connecting", "copying", "holding"}
        return False


def wait_for_sync(
    session: Session,
    group_id: str,
    timeout_seconds: float | None = None,
    *,
    progress: Told[Group] | None = None,
) -> Plan[Group]:
    """Return a group once it is active: each write is at both sites before its host hears "done".

    Raises `WaitFailed` when it cannot become active, or is not after `timeout_seconds` (None: no limit). `progress`
    gets each answer, whose `twinsite.progress` says how far it is.
    """
    poll, watch = _Poll(timeout_seconds), SyncWatch()
    state = f"nobody says how group {group_id} is"
    while True:
        group = yield from poll.ask(session, show_group, group_id)
        if group is not None:
            if progress is not None:
                progress(group)
            if watch.is_done(group):
                return group
            state = f"group {group_id} is still {group.replication_status}"
        yield from poll.pause(state)


def complete_extend(
    session: Session, group_id: str, sizes_gib: Mapping[str, int], timeout_seconds: float = WAIT_SECONDS_DEFAULT
) -> Plan[None]:
    """Extend as `extend_group` does, again and again for what passes by itself, at most for `timeout_seconds`."""
    give_up_at = time.monotonic() + timeout_seconds
    while True:
        try:
            return (yield from extend_group(session, group_id, sizes_gib))
        except (Unavailable, ApiUnreachable):
            if time.monotonic() >= give_up_at:
                raise
        yield Pause(POLL_SECONDS)


def _detail(item: Shown) -> str:
    detail = getattr(item, "failure_detail", None)
    return f": {detail}" if detail else ""
