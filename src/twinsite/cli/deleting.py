"""Delete several objects at once."""

from __future__ import annotations

from collections.abc import Callable, Collection


def delete_all(
    item_ids: Collection[str],
    order: Callable[[str], None],
    wait_until_gone: Callable[[str, float], None],
    wait_seconds: float | None,
) -> None:
    """Order the deletion of all objects first; then wait for each, if a time is given."""
    for item_id in item_ids:
        order(item_id)
    if wait_seconds is not None:
        for item_id in item_ids:
            wait_until_gone(item_id, wait_seconds)
