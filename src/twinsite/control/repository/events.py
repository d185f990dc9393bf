"""The events of groups, of those that were deleted too: numbered from 1 within each group."""

from __future__ import annotations

from sqlalchemy import delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.models import GroupEvent
from twinsite.control.repository.listing import UnknownMarker


async def next_number(session: AsyncSession, group_id: str) -> int:
    """Return the number of a group's next event. Its writer holds the group's lock."""
    statement = select(func.coalesce(func.max(GroupEvent.number), 0)).where(GroupEvent.group_id == group_id)
    return int((await session.scalars(statement)).one()) + 1


async def forget_before(session: AsyncSession, group_id: str, number: int) -> None:
    """Delete a group's events before this number."""
    if number > 1:
        await session.execute(delete(GroupEvent).where(GroupEvent.group_id == group_id, GroupEvent.number < number))


async def forget_project(session: AsyncSession, project_id: str) -> None:
    """Delete the events of a project that is deleted: nobody could read them any more."""
    await session.execute(delete(GroupEvent).where(GroupEvent.project_id == project_id))


async def has_request(session: AsyncSession, group_id: str, request_id: str | None) -> bool:
    """Say whether one of a group's events was recorded with this request."""
    statement = select(GroupEvent.id).where(GroupEvent.group_id == group_id, GroupEvent.request_id == request_id)
    return (await session.scalars(statement.limit(1))).one_or_none() is not None


async def forget_refused(session: AsyncSession, group_id: str, keep: int) -> None:
    """Delete all but the newest events of refused requests; the others of a group form a chain without them."""
    refused = (GroupEvent.group_id == group_id, GroupEvent.result == "refused")
    place = select(GroupEvent.number).where(*refused).order_by(GroupEvent.number.desc()).offset(keep).limit(1)
    number = (await session.scalars(place)).one_or_none()
    if number is not None:
        await session.execute(delete(GroupEvent).where(*refused, GroupEvent.number <= number))


async def has_any(session: AsyncSession, project_id: str, group_id: str, after: int | None = None) -> bool:
    """Say whether there are events of a project's group, whether it still is or not; after a position, if one is given.

    An event that has no position yet is after all of them.
    """
    statement = select(GroupEvent.id).where(GroupEvent.project_id == project_id, GroupEvent.group_id == group_id)
    if after is not None:
        statement = statement.where(or_(GroupEvent.position.is_(None), GroupEvent.position > after))
    return (await session.scalars(statement.limit(1))).one_or_none() is not None


async def forget_deleted(session: AsyncSession, project_id: str, keep: int, each_max: int) -> None:
    """Delete the events of a project's deleted groups beyond the newest `keep`: all of a group, those deleted first.

    No group has more than `each_max`.
    """
    deletions = (
        select(GroupEvent.group_id, GroupEvent.number)
        .where(GroupEvent.project_id == project_id, GroupEvent.action == "delete", GroupEvent.result == "done")
        .order_by(GroupEvent.created_at.desc(), GroupEvent.id.desc())
    )
    too_old, total = [], 0
    for group_id, number in await session.execute(deletions):
        total += min(number, each_max)  # The last number of a group is at least as much as it has events.
        if total > keep:
            too_old.append(group_id)
    for group_id in too_old:
        await session.execute(delete(GroupEvent).where(GroupEvent.group_id == group_id))


async def page(session: AsyncSession, group_id: str, marker: str | None, limit: int, offset: int) -> list[GroupEvent]:
    """Return a group's events, the newest first, those after `marker`; `UnknownMarker` when it is none of them."""
    statement = select(GroupEvent).where(GroupEvent.group_id == group_id)
    if marker is not None:
        place = select(GroupEvent.number).where(GroupEvent.group_id == group_id, GroupEvent.id == marker)
        number = (await session.scalars(place)).one_or_none()
        if number is None:
            raise UnknownMarker(marker)
        statement = statement.where(GroupEvent.number < number)
    statement = statement.order_by(GroupEvent.number.desc()).offset(offset).limit(limit)
    return list((await session.scalars(statement)).all())
