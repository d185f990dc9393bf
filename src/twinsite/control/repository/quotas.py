"""What projects may use where that is not the default, and what they use."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.models import Group, Pair, Project, QuotaLimit, Volume


async def lock_project(session: AsyncSession, project_id: str) -> None:
    """Let nobody else count what the project uses until this transaction ends.

    SQLite has one writer at a time anyway. The lock is the one that lets foreign keys on the project be checked.
    """
    await session.execute(select(Project.id).where(Project.id == project_id).with_for_update(key_share=True))


async def limits(session: AsyncSession, project_id: str) -> dict[str, int]:
    """Return a project's limits that are not the defaults, by resource."""
    statement = select(QuotaLimit.resource, QuotaLimit.value).where(QuotaLimit.project_id == project_id)
    return {row.resource: row.value for row in await session.execute(statement)}


async def set_limits(session: AsyncSession, project_id: str, values: Mapping[str, int]) -> None:
    """Give a project limits of its own."""
    for resource, value in values.items():
        await session.merge(QuotaLimit(project_id=project_id, resource=resource, value=value))


async def forget_limits(session: AsyncSession, project_id: str) -> None:
    """Give a project the defaults again."""
    await session.execute(delete(QuotaLimit).where(QuotaLimit.project_id == project_id))


async def volume_usage(session: AsyncSession, project_id: str) -> tuple[int, int]:
    """Return how many volumes a project has and their GiB together."""
    gib = func.coalesce(Volume.target_gib, Volume.size_gib)  # What an extension takes is taken from its beginning.
    statement = select(func.count(), func.coalesce(func.sum(gib), 0)).where(Volume.project_id == project_id)
    count, gigabytes = (await session.execute(statement)).one()
    return int(count), int(gigabytes)


async def count(session: AsyncSession, model: type[Pair] | type[Group], project_id: str) -> int:
    """Return how many pairs or groups a project has."""
    return (await session.scalars(select(func.count()).where(model.project_id == project_id))).one()
