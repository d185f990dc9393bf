"""The feed of events: all events of all groups in one order, by positions that are given after the commit.

Numbers that are drawn within a transaction can be committed out of order, and who reads in between would miss one. So
an event gets its position when everybody can see it, by one publisher at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.models import EventFeed, GroupEvent
from twinsite.control.repository.listing import UnknownMarker


async def has_unpublished(session: AsyncSession, group_id: str | None = None) -> bool:
    """Say whether an event, of a group if one is given, has no position yet."""
    statement = select(GroupEvent.id).where(GroupEvent.position.is_(None)).limit(1)
    if group_id is not None:
        statement = statement.where(GroupEvent.group_id == group_id)
    return (await session.scalars(statement)).one_or_none() is not None


async def lock(session: AsyncSession) -> int:
    """Take the publisher's lock for the rest of the transaction; return the last position."""
    # A write that changes nothing, because SQLite has no locks of rows and PostgreSQL's reads do not wait.
    statement = update(EventFeed).where(EventFeed.id == 1).values(position=EventFeed.position)
    return int((await session.scalars(statement.returning(EventFeed.position))).one())


async def unpublished(session: AsyncSession, limit: int) -> Sequence[GroupEvent]:
    """Return events without a position, those of one group in their order."""
    statement = (
        select(GroupEvent)
        .where(GroupEvent.position.is_(None))
        .order_by(GroupEvent.created_at, GroupEvent.group_id, GroupEvent.number)
        .limit(limit)
    )
    return (await session.scalars(statement)).all()


async def place(session: AsyncSession, event_id: str, position: int) -> None:
    """Give an event its position, unless it was forgotten meanwhile."""
    await session.execute(update(GroupEvent).where(GroupEvent.id == event_id).values(position=position))


async def set_position(session: AsyncSession, position: int) -> None:
    """Record the last position that was given."""
    await session.execute(update(EventFeed).where(EventFeed.id == 1).values(position=position))


async def newest_position(session: AsyncSession) -> int:
    """Return the last position that was given."""
    return int((await session.scalars(select(EventFeed.position))).one())


async def after(
    session: AsyncSession, project_id: str, group_id: str | None, position: int, limit: int
) -> Sequence[GroupEvent]:
    """Return a project's, or one of its groups', events after a position, the oldest first."""
    statement = (
        select(GroupEvent)
        .where(GroupEvent.project_id == project_id, GroupEvent.position > position)
        .order_by(GroupEvent.position)
        .limit(limit)
    )
    if group_id is not None:
        statement = statement.where(GroupEvent.group_id == group_id)
    return (await session.scalars(statement)).all()


async def page(
    session: AsyncSession, project_id: str, marker: str | None, limit: int, offset: int
) -> Sequence[GroupEvent]:
    """Return a project's published events, the newest first, those after `marker`.

    `UnknownMarker` when it is none of them.
    """
    of_project = select(GroupEvent).where(GroupEvent.project_id == project_id, GroupEvent.position.is_not(None))
    if marker is not None:
        found = (await session.scalars(of_project.where(GroupEvent.id == marker))).one_or_none()
        if found is None:
            raise UnknownMarker(marker)
        of_project = of_project.where(GroupEvent.position < found.position)
    return (await session.scalars(of_project.order_by(GroupEvent.position.desc()).offset(offset).limit(limit))).all()
