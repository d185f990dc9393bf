"""Volumes, attachments, pairs and groups by id. `locked` asks for the row lock that a change needs on PostgreSQL."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from typing import Any, TypeVar

from sqlalchemy import CursorResult, Select, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from twinsite.control.actor import current_actor
from twinsite.control.journal import CHANGED_GROUPS
from twinsite.control.models import Extend, Group, Pair, Volume

Owned = TypeVar("Owned", Volume, Pair, Group)


def whole(model: type[Owned]) -> Select[Owned]:
    """Return the query for objects with all that belongs to them."""
    statement = select(model)
    return statement.options(selectinload(Volume.attachments)) if model is Volume else statement


async def find(
    session: AsyncSession, model: type[Owned], project_id: str, object_id: str, *, locked: bool = False
) -> Owned | None:
    """Return a project's object, or None."""
    statement = whole(model).where(model.id == object_id, model.project_id == project_id)
    if locked:
        statement = statement.with_for_update(of=model)
    return (await session.scalars(statement)).unique().one_or_none()


async def find_many(
    session: AsyncSession, model: type[Owned], project_id: str, ids: Collection[str], *, locked: bool = False
) -> dict[str, Owned]:
    """Return those of a project's objects that exist, by id."""
    statement = whole(model).where(model.id.in_(ids), model.project_id == project_id).order_by(model.id)
    if locked:
        statement = statement.with_for_update(of=model)
    return {row.id: row for row in (await session.scalars(statement)).unique()}


async def tags_of_project(session: AsyncSession, project_id: str) -> list[tuple[str, dict[str, str]]]:
    """Return the id and the tags of each volume of a project, the newest first."""
    statement = select(Volume.id, Volume.tags).where(Volume.project_id == project_id)
    rows = (await session.execute(statement.order_by(Volume.created_at.desc(), Volume.id.desc()))).all()
    return [(volume_id, tags) for volume_id, tags in rows]


async def pairs_of_volumes(session: AsyncSession, volume_ids: Collection[str]) -> Sequence[Pair]:
    """Return the pairs that any of the volumes is part of."""
    statement = select(Pair).where(or_(Pair.production_volume_id.in_(volume_ids), Pair.dr_volume_id.in_(volume_ids)))
    return (await session.scalars(statement)).unique().all()


async def pair_of_volume(session: AsyncSession, volume_id: str) -> Pair | None:
    """Return the pair that a volume is part of, or None."""
    pairs = await pairs_of_volumes(session, [volume_id])
    return pairs[0] if pairs else None


async def volumes_in(session: AsyncSession, status: str) -> Sequence[str]:
    """Return the ids of the volumes of whatever project that have a status, in their order."""
    return (await session.scalars(select(Volume.id).where(Volume.status == status).order_by(Volume.id))).all()


async def volume_by_id(session: AsyncSession, volume_id: str, *, locked: bool = False) -> Volume | None:
    """Return a volume of whatever project, or None."""
    statement = whole(Volume).where(Volume.id == volume_id)
    if locked:
        statement = statement.with_for_update(of=Volume)
    return (await session.scalars(statement)).one_or_none()


async def volumes_of_site(session: AsyncSession, site: str) -> Sequence[Volume]:
    """Return all volumes that a site has or should lose, in the order of their ids."""
    return (await session.scalars(whole(Volume).where(Volume.site == site).order_by(Volume.id))).all()


async def volumes_by_ids(session: AsyncSession, volume_ids: Collection[str]) -> Sequence[Volume]:
    """Return the volumes with these ids, of whatever project, in the order of their ids."""
    statement = whole(Volume).where(Volume.id.in_(volume_ids)).order_by(Volume.id)
    return (await session.scalars(statement)).all() if volume_ids else []


async def groups_of_site(session: AsyncSession, site: str) -> Sequence[Group]:
    """Return the groups that have a worker at a site, in the order of their ids."""
    statement = (
        select(Group)
        .where(or_(Group.priority_station == site, Group.secondary_station == site), Group.pairs.any())
        .order_by(Group.id)
    )
    return (await session.scalars(statement)).all()


async def groups_touching_site(session: AsyncSession, site: str) -> Sequence[Group]:
    """Return the groups that have a side at a site, those without pairs too, locked, in the order of their ids."""
    statement = select(Group).where(or_(Group.priority_station == site, Group.secondary_station == site))
    return (await session.scalars(statement.order_by(Group.id).with_for_update(of=Group))).all()


async def groups_by_ids(session: AsyncSession, group_ids: Collection[str], *, locked: bool = False) -> Sequence[Group]:
    """Return the groups with these ids, of whatever project."""
    statement = select(Group).where(Group.id.in_(group_ids)).order_by(Group.id)
    if locked:
        statement = statement.with_for_update(of=Group)
    return (await session.scalars(statement)).all()


async def fresh_group(session: AsyncSession, group_id: str) -> Group | None:
    """Return a group as this session has left it, whatever it had read of it before."""
    statement = select(Group).where(Group.id == group_id).execution_options(populate_existing=True)
    return (await session.scalars(statement)).one_or_none()


async def every_group(session: AsyncSession) -> Sequence[Group]:
    """Return all groups of all projects, in the order of their ids."""
    return (await session.scalars(select(Group).order_by(Group.id))).all()


async def groups_awaiting_sync(session: AsyncSession) -> Sequence[Group]:
    """Return the groups of whatever project that were told to synchronize and have not begun."""
    return (await session.scalars(select(Group).where(Group.synced_at.is_not(None)).order_by(Group.id))).all()


async def groups_in(session: AsyncSession, statuses: Collection[str]) -> Sequence[Group]:
    """Return the groups that are in one of these statuses, of whatever project, in the order of their ids."""
    return (await session.scalars(select(Group).where(Group.status.in_(statuses)).order_by(Group.id))).all()


async def extend_of_group(session: AsyncSession, group_id: str) -> Extend | None:
    """Return the last extension of a group's disks, or None before the first."""
    return await session.get(Extend, group_id)


async def extending_group_ids(session: AsyncSession, outcome: str) -> Sequence[str]:
    """Return the ids of the groups of whatever project whose last extension has this outcome, in their order."""
    statement = select(Extend.group_id).where(Extend.outcome == outcome).order_by(Extend.group_id)
    return (await session.scalars(statement)).all()


async def overdue_extensions(session: AsyncSession, outcome: str, before: datetime.datetime) -> Sequence[str]:
    """Return the groups, by id, whose last extension has this outcome and was to have its room before then."""
    statement = select(Extend.group_id).where(Extend.outcome == outcome, Extend.room_deadline < before)
    return (await session.scalars(statement)).all()


async def grouped_volume_ids(session: AsyncSession, site: str) -> set[str]:
    """Return the ids of a site's volumes that a group's worker holds."""
    statement = select(Volume.id).where(
        Volume.site == site,
        or_(
            Volume.id.in_(select(Pair.production_volume_id).where(Pair.group_id.is_not(None))),
            Volume.id.in_(select(Pair.dr_volume_id).where(Pair.group_id.is_not(None))),
        ),
    )
    return set((await session.scalars(statement)).all())


def note_request(volume: Volume) -> None:
    """Let what a volume's node, and the worker outside any group, are told from now on carry the request under way."""
    volume.request_id = current_actor.get().request_id or volume.request_id
    volume.spec_version += 1


async def change_group(session: AsyncSession, group_id: str, expected_version: int, values: dict[str, Any]) -> bool:
    """Write `values` to a group if nobody changed it since `expected_version`; say whether that was so.

    What its workers are told anew carries the request that is under way.
    """
    request_id = current_actor.get().request_id
    if request_id is not None and "spec_version" in values:
        values = {**values, "request_id": request_id}
    statement = (
        update(Group)
        .where(Group.id == group_id, Group.version == expected_version)
        .values(**values, version=Group.version + 1)
        .execution_options(**{CHANGED_GROUPS: [group_id]})
    )
    result: CursorResult[Any] = await session.execute(statement)  # type: ignore[assignment]
    return result.rowcount == 1


async def delete_group(session: AsyncSession, group_id: str, expected_version: int) -> bool:
    """Delete a group if nobody changed it since `expected_version`; say whether that was so."""
    statement = (
        delete(Group)
        .where(Group.id == group_id, Group.version == expected_version)
        .execution_options(**{CHANGED_GROUPS: [group_id]})
    )
    result: CursorResult[Any] = await session.execute(statement)  # type: ignore[assignment]
    return result.rowcount == 1
