"""Wait for what was ordered, by asking the API again and again within a bound."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from twinsite.cli.errors import ApiRefused, WaitFailed
from twinsite.cli.models import Group, group_mode

if TYPE_CHECKING:
    from twinsite.cli.client import ApiClient

POLL_SECONDS = 0.25
"""Pause between two questions to the API."""
HTTP_NOT_FOUND = 404

Item = TypeVar("Item", bound=Mapping[str, Any])


def wait_until_available(kind: str, item_id: str, show: Callable[[str], Item], timeout_seconds: float) -> Item:
    """Return the object once its status is `available` (or `in-use`). Raises as `wait_until_status`."""
    return wait_until_status(kind, item_id, show, {"available", "in-use"}, timeout_seconds)


def wait_until_status(
    kind: str, item_id: str, show: Callable[[str], Item], wanted: Collection[str], timeout_seconds: float
) -> Item:
    """Return the object once its status is one of `wanted`.

    Raises `WaitFailed` when the status becomes an error or when the time is over.
    """
    give_up_at = time.monotonic() + timeout_seconds
    while True:
        item = show(item_id)
        status = str(item["status"])
        if status in wanted:
            return item
        if status.startswith("error"):
            raise WaitFailed(f"{kind} {item_id} is in status {status}{_detail(item)}")
        _pause(give_up_at, f"{kind} {item_id} is still {status}")


def delete_all(
    kind: str,
    item_ids: Collection[str],
    order: Callable[[str], None],
    show: Callable[[str], Item],
    wait_seconds: float | None,
) -> None:
    """Order the deletion of all objects first; then wait for each, if a time is given. Raises as `wait_until_gone`."""
    for item_id in item_ids:
        order(item_id)
    if wait_seconds is not None:
        for item_id in item_ids:
            wait_until_gone(kind, item_id, show, wait_seconds)


def wait_until_gone(kind: str, item_id: str, show: Callable[[str], Item], timeout_seconds: float) -> None:
    """Return once the API no longer knows the object.

    Raises `WaitFailed` when the deletion fails or when the time is over.
    """
    give_up_at = time.monotonic() + timeout_seconds
    while True:
        try:
            item = show(item_id)
        except ApiRefused as error:
            if error.status == HTTP_NOT_FOUND:
                return
            raise
        status = str(item["status"])
        if status == "error_deleting":
            raise WaitFailed(f"{kind} {item_id} is in status {status}{_detail(item)}")
        _pause(give_up_at, f"{kind} {item_id} is still {status}")


class SyncWatch:
    """Decides from one answer after the other whether a synchronization is over."""

    def __init__(self) -> None:
        """Start before the first answer."""
        self._has_run = False

    def is_done(self, group: Group) -> bool:
        """Take in an answer; return whether the group is active. Raises `WaitFailed` when it cannot become so."""
        replication = group.get("replication_status")
        if replication == "active":
            return True
        if replication == "error" or group["status"].startswith("error"):
            raise WaitFailed(f"group {group['id']} is in replication status {replication}{_detail(group)}")
        mode = group_mode(group)
        # Until the workers have heard of the order, the group still shows the pause that it is about to leave.
        if self._has_run and mode == "paused":
            raise WaitFailed(f"the replication of group {group['id']} was stopped before it was in sync")
        self._has_run = self._has_run or mode in {"connecting", "copying", "holding"}
        return False


def follow_sync(api: ApiClient, group_id: str, update: Callable[[Group], None], timeout_seconds: float | None) -> Group:
    """Return the group once it is active; hand every answer to `update` meanwhile.

    Raises `WaitFailed` when it cannot become active, or is not after `timeout_seconds` (None: no limit).
    """
    watch = SyncWatch()
    give_up_at = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while True:
        group = api.group(group_id)
        update(group)
        if watch.is_done(group):
            return group
        _pause(give_up_at, f"group {group_id} is still {group.get('replication_status')}")


def _pause(give_up_at: float | None, state: str) -> None:
    if give_up_at is not None and time.monotonic() >= give_up_at:
        raise WaitFailed(f"{state}, and the time to wait is over; --timeout sets it")
    time.sleep(POLL_SECONDS)


def _detail(item: Mapping[str, Any]) -> str:
    detail = item.get("failure_detail")
    return f": {detail}" if detail else ""
