"""The events of groups: numbered from 1 within each group."""

from __future__ import annotations

from sqlalchemy import delete, func, select
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
