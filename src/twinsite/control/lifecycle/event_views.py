"""An event as everybody gets it: in lists, in streams and by webhooks. Plain JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twinsite.control.lifecycle.event_kinds import kinds_of
from twinsite.control.lifecycle.proof import timestamp
from twinsite.control.models import GroupEvent


@dataclass(frozen=True, slots=True)
class ShownEvent:
    """An event with its position in the feed, None until it is published."""

    event: GroupEvent
    position: int | None

    @property
    def kinds(self) -> list[str]:
        """The kinds of the event."""
        return kinds_of(self.event.action, self.event.result, self.event.before, self.event.after)


def event_view(event: GroupEvent) -> dict[str, Any]:
    """Return an event of a group."""
    return {
        "id": event.id,
        "group_id": event.group_id,
        "number": event.number,
        "created_at": timestamp(event.created_at),
        "kinds": kinds_of(event.action, event.result, event.before, event.after),
        "actor": event.actor,
        "user_id": event.user_id,
        "request_id": event.request_id,
        "action": event.action,
        "result": event.result,
        "message": event.message,
        "before": event.before,
        "after": event.after,
        "proof": event.proof,
    }


def feed_event_view(shown: ShownEvent) -> dict[str, Any]:
    """Return an event of one of several groups."""
    return {**event_view(shown.event), "group_name": shown.event.group_name, "position": shown.position}
