"""What sites have to remove of which nothing else is known: workers of deleted groups, volumes of lost sites."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Any

from sqlalchemy import CursorResult, delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.journal import CHANGED_GROUPS, changes_of
from twinsite.control.models import Tombstone


class Kind(StrEnum):
    """What was there."""

    WORKER = "worker"
    VOLUME = "volume"


async def add(session: AsyncSession, site: str, kind: Kind, object_id: str) -> None:
    """Let a site remove something, until its node has said that it is gone."""
    await session.merge(Tombstone(site=site, kind=kind.value, object_id=object_id))


async def of_site(session: AsyncSession, site: str, kind: Kind) -> list[str]:
    """Return the ids of what a site has to remove, in order."""
    statement = select(Tombstone.object_id).where(Tombstone.site == site, Tombstone.kind == kind)
    return list((await session.scalars(statement.order_by(Tombstone.object_id))).all())


async def forget(session: AsyncSession, site: str, kind: Kind, object_ids: Collection[str]) -> bool:
    """Take it that these are gone; say whether any of them was to be removed."""
    if not object_ids:
        return False
    statement = (
        delete(Tombstone)
        .where(Tombstone.site == site, Tombstone.kind == kind, Tombstone.object_id.in_(object_ids))
        .execution_options(**{CHANGED_GROUPS: ()})
    )
    result: CursorResult[Any] = await session.execute(statement)  # type: ignore[assignment]
    if result.rowcount > 0 and kind is Kind.VOLUME:
        changes_of(session).everything = True
    return result.rowcount > 0
