"""Sites, their nodes' presence, their generations, and what the nodes said about workers."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.journal import note_generation
from twinsite.control.models import Installation, Site, WorkerReport


async def installation_id(session: AsyncSession) -> str | None:
    """Return the id of the installation, or None before the first start is over."""
    return (await session.scalars(select(Installation.id))).one_or_none()


async def all_sites(session: AsyncSession) -> Sequence[Site]:
    """Return every site, by name."""
    return (await session.scalars(select(Site).order_by(Site.name))).all()


async def lost_names(session: AsyncSession) -> frozenset[str]:
    """Return the sites that were given up."""
    return frozenset((await session.scalars(select(Site.name).where(Site.lost_at.is_not(None)))).all())


async def site(session: AsyncSession, name: str) -> Site | None:
    """Return one site."""
    return await session.get(Site, name)


async def generation(session: AsyncSession, name: str) -> int:
    """Return the generation of a site's desired state."""
    return (await session.scalars(select(Site.generation).where(Site.name == name))).one()


async def generation_and_loss(session: AsyncSession, name: str) -> tuple[int, bool]:
    """Return the generation of a site's desired state, and whether the site was given up."""
    found, lost_at = (await session.execute(select(Site.generation, Site.lost_at).where(Site.name == name))).one()
    return found, lost_at is not None


async def node_is_current(session: AsyncSession, name: str) -> bool:
    """Say whether a site's node has seen the newest desired state."""
    statement = select(Site.seen_generation >= Site.generation).where(Site.name == name)
    return bool((await session.scalars(statement)).one())


async def raise_generation(session: AsyncSession, names: Collection[str]) -> None:
    """Say that the desired state of these sites changed. Rows in order, so that two writers cannot deadlock."""
    for name in sorted(names):
        statement = update(Site).where(Site.name == name).values(generation=Site.generation + 1)
        note_generation(session, name, (await session.scalars(statement.returning(Site.generation))).one())


async def set_generation(session: AsyncSession, name: str, value: int) -> None:
    """Put a site's generation past one that its node has seen already."""
    await session.execute(update(Site).where(Site.name == name).values(generation=value))


async def record_presence(session: AsyncSession, name: str, values: Mapping[str, Any], now: datetime.datetime) -> None:
    """Record that a site's node was heard, and what it said of itself."""
    await session.execute(update(Site).where(Site.name == name).values(**values, last_seen_at=now))


async def reports_of_site(session: AsyncSession, name: str) -> dict[str, WorkerReport]:
    """Return a site's worker reports by worker id."""
    rows = (await session.scalars(select(WorkerReport).where(WorkerReport.site == name))).all()
    return {row.worker_id: row for row in rows}


async def reports_of_site_on(session: AsyncSession, name: str, worker_ids: Collection[str]) -> dict[str, WorkerReport]:
    """Return those of a site's worker reports that are on these workers, by worker id."""
    statement = select(WorkerReport).where(WorkerReport.site == name, WorkerReport.worker_id.in_(worker_ids))
    return {row.worker_id: row for row in (await session.scalars(statement)).all()}


async def reports_of_workers(session: AsyncSession, worker_ids: Collection[str]) -> dict[tuple[str, str], WorkerReport]:
    """Return the reports on these workers from every site, by (site, worker id)."""
    if not worker_ids:
        return {}
    # The sites are named so that the key is used: its first column is the site, and reports are large.
    everywhere = WorkerReport.site.in_(select(Site.name))
    rows = (await session.scalars(select(WorkerReport).where(everywhere, WorkerReport.worker_id.in_(worker_ids)))).all()
    return {(row.site, row.worker_id): row for row in rows}


async def forget_all_reports(session: AsyncSession) -> None:
    """Delete every site's reports on workers."""
    await session.execute(delete(WorkerReport))


async def forget_reports(session: AsyncSession, name: str, worker_ids: Collection[str]) -> None:
    """Delete a site's reports on these workers."""
    await session.execute(delete(WorkerReport).where(WorkerReport.site == name, WorkerReport.worker_id.in_(worker_ids)))
