"""What the API shows of pairs and groups, read with few queries and without what it does not show.

Whatever is left out raises when it is touched, so these objects are for the eyes only: who changes one reads it anew.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload, raiseload, selectinload
from sqlalchemy.sql.base import ExecutableOption

from twinsite.control.models import Group, Pair, Volume
from twinsite.control.repository.listing import Page, PageQuery, fetch_page

_NO_VOLUMES = (raiseload(Pair.production_volume), raiseload(Pair.dr_volume))

PAIR_OPTIONS: tuple[ExecutableOption, ...] = (
    joinedload(Pair.production_volume, innerjoin=True).load_only(
        Volume.id, Volume.size_gib, Volume.volume_type, Volume.multiattach, raiseload=True
    ),
    raiseload(Pair.dr_volume),
    raiseload(Pair.group),
)
GROUP_OPTIONS: tuple[ExecutableOption, ...] = (
    selectinload(Group.pairs)
    .load_only(Pair.id, Pair.group_id, Pair.member_index, Pair.production_volume_id, Pair.dr_volume_id, raiseload=True)
    .options(*_NO_VOLUMES),
)


async def pair(session: AsyncSession, project_id: str, pair_id: str) -> Pair | None:
    """Return a project's pair, or None."""
    statement = select(Pair).where(Pair.id == pair_id, Pair.project_id == project_id).options(*PAIR_OPTIONS)
    return (await session.scalars(statement)).one_or_none()


async def group(session: AsyncSession, project_id: str, group_id: str) -> Group | None:
    """Return a project's group, or None."""
    statement = select(Group).where(Group.id == group_id, Group.project_id == project_id).options(*GROUP_OPTIONS)
    return (await session.scalars(statement)).one_or_none()


async def page_of_pairs(session: AsyncSession, project_id: str, query: PageQuery) -> Page[Pair]:
    """Return one page of a project's pairs; `UnknownMarker` when the marker is not one of them."""
    return await fetch_page(session, Pair, project_id, query, PAIR_OPTIONS)


async def page_of_groups(session: AsyncSession, project_id: str, query: PageQuery) -> Page[Group]:
    """Return one page of a project's groups; `UnknownMarker` when the marker is not one of them."""
    return await fetch_page(session, Group, project_id, query, GROUP_OPTIONS)


async def groups_without_pairs(session: AsyncSession, group_ids: Collection[str]) -> Sequence[Group]:
    """Return the groups with these ids, without their pairs."""
    statement = select(Group).where(Group.id.in_(group_ids)).options(raiseload(Group.pairs))
    return (await session.scalars(statement)).all()
