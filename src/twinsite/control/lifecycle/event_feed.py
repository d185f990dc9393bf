"""Gives events out: publishes each in the order of the feed, for webhooks too, and lets streams read on from a place.

Whoever publishes holds the feed's lock, so of several controllers on one database one does it, and each event becomes
exactly one delivery for each webhook that wants it, in the transaction that publishes it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from twinsite.control.context import Context
from twinsite.control.lifecycle.event_views import ShownEvent
from twinsite.control.lifecycle.group_calls import find_group
from twinsite.control.lifecycle.webhooks import queue_events
from twinsite.control.refusals import RequestRefused
from twinsite.control.repository import events, feed

PUBLISH_MAX = 200
"""Most events that are published in one transaction."""
STREAM_BATCH_MAX = 100
"""Most events that a stream reads at once."""
STREAMS_MAX = 128
"""Most streams of one controller; each looks at the database once a second."""
STREAMS_PER_PROJECT_MAX = 16
"""Most streams of one project at one controller."""
LOOK_SECONDS = 3600.0
"""Longest sleep of the publisher; it looks by itself far more often."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that a stream sends next, and where the next batch begins."""

    events: list[ShownEvent]
    position: int


class EventFeed:
    """Publishes events, and gives them to lists and streams."""

    def __init__(self, context: Context) -> None:
        """Work on the controller's database."""
        self._context = context
        self._streams: Counter[str] = Counter()

    async def run(self) -> None:
        """Publish for ever."""
        wakeups = self._context.wakeups
        while not wakeups.closed:
            try:
                await wakeups.until(self._look, LOOK_SECONDS)
                await self.publish()
            except Exception:
                # A database that restarts refuses connections with an error of the system's or of its driver's own.
                _log.exception("events cannot be published; the next attempt comes soon")
                await asyncio.sleep(self._context.settings.poll_seconds)

    async def _look(self) -> bool | None:
        async with self._context.database.read() as session:
            return True if await feed.has_unpublished(session) else None

    async def publish(self) -> int:
        """Give every event that has none its position, and queue it for the webhooks that want it. Return how many."""
        count = 0
        while True:
            async with self._context.database.write() as session:
                position = await feed.lock(session)
                found = await feed.unpublished(session, PUBLISH_MAX)
                shown = []
                for number, event in enumerate(found, position + 1):
                    await feed.place(session, event.id, number)
                    shown.append((event.project_id, ShownEvent(event, number)))
                await queue_events(session, shown)
                await feed.set_position(session, position + len(found))
            count += len(found)
            if found:
                await self._context.wakeups.notify()
            if len(found) < PUBLISH_MAX:
                return count

    async def page(self, project_id: str, marker: str | None, limit: int, offset: int) -> list[ShownEvent]:
        """Return the events of all of a project's groups, the newest first."""
        async with self._context.database.read() as session:
            found = await feed.page(session, project_id, marker, limit, offset)
        return [ShownEvent(event, event.position) for event in found]

    async def start(self, project_id: str, group_id: str | None, after: int | None) -> int:
        """Return where a stream begins: after what it has, or now.

        `RequestRefused` (404) for a group that is none, and for one that was deleted and of which nothing is to come.
        """
        async with self._context.database.read() as session:
            newest = await feed.newest_position(session)
            # A place of the future is that of a database that was restored from a backup: then everything is new.
            position = newest if after is None or after > newest else after
            if group_id is not None and not await events.has_any(session, project_id, group_id, position):
                await find_group(session, project_id, group_id)
        return position

    async def wait(self, project_id: str, group_id: str | None, position: int, seconds: float) -> Batch | None:
        """Return the next events after a position, waiting for them; None when none came in time.

        `RequestRefused` (404) when the group is gone, and its last event was given out.
        """

        async def look() -> Batch | None:
            async with self._context.database.read() as session:
                found = await feed.after(session, project_id, group_id, position, STREAM_BATCH_MAX)
                if not found and group_id is not None and not await feed.has_unpublished(session, group_id):
                    await find_group(session, project_id, group_id)
            if not found:
                return None
            return Batch([ShownEvent(event, event.position) for event in found], found[-1].position or position)

        return await self._context.wakeups.until(look, seconds)

    def is_closed(self) -> bool:
        """Say whether the process is about to end, so that streams must."""
        return self._context.wakeups.closed

    @contextmanager
    def stream(self, project_id: str) -> Iterator[None]:
        """Count a stream of a project while it lasts. `RequestRefused` (413) for one too many."""
        if self._streams.total() >= STREAMS_MAX or self._streams[project_id] >= STREAMS_PER_PROJECT_MAX:
            raise RequestRefused(
                413,
                "EVS.5413",
                f"Too many event streams are open: at most {STREAMS_PER_PROJECT_MAX} of one project and {STREAMS_MAX} "
                "of one controller. Close one, or ask for the list now and then.",
                retry_after_seconds=60,
            )
        self._streams[project_id] += 1
        try:
            yield
        finally:
            self._streams[project_id] -= 1
            if not self._streams[project_id]:
                del self._streams[project_id]
