"""Records of who asked for what, numbered from 1 over all projects."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.audit_entry import Entry
from twinsite.control.models import AuditRecord
from twinsite.control.repository.listing import UnknownMarker


async def correct(session: AsyncSession, entry: Entry) -> None:
    """Say of a request whose record is there already how it ended."""
    ending = {"result": entry.result, "status": entry.status, "message": entry.kept_message}
    await session.execute(update(AuditRecord).where(AuditRecord.id == entry.id).values(ending))


async def page(
    session: AsyncSession, project_id: str | None, equal: Mapping[str, str], marker: str | None, limit: int, offset: int
) -> list[AuditRecord]:
    """Return records with these values, newest first: a project's, or those of all without one.

    `UnknownMarker` for a marker that is none of them.
    """
    owned = [] if project_id is None else [AuditRecord.project_id == project_id]
    statement = select(AuditRecord).where(*owned)
    for column, value in equal.items():
        statement = statement.where(getattr(AuditRecord, column) == value)
    if marker is not None:
        place = select(AuditRecord.number).where(*owned, AuditRecord.id == marker)
        number = (await session.scalars(place)).one_or_none()
        if number is None:
            raise UnknownMarker(marker)
        statement = statement.where(AuditRecord.number < number)
    statement = statement.order_by(AuditRecord.number.desc()).offset(offset).limit(limit)
    return list((await session.scalars(statement)).all())


async def forget_beyond(session: AsyncSession, project_id: str, keep: int) -> None:
    """Delete all but a project's newest records."""
    of_project = AuditRecord.project_id == project_id
    place = select(AuditRecord.number).where(of_project).order_by(AuditRecord.number.desc()).offset(keep).limit(1)
    number = (await session.scalars(place)).one_or_none()
    if number is not None:
        await session.execute(delete(AuditRecord).where(of_project, AuditRecord.number <= number))
