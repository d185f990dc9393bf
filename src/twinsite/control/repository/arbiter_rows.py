"""The arbiter's rows: one for each group, changed by compare-and-swap."""

from __future__ import annotations

from typing import Any

from sqlalchemy import CursorResult, case, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.database import ArbiterChanges
from twinsite.control.journal import CHANGED_GROUPS
from twinsite.control.models import ArbiterRow, Installation
from twinsite.core.arbiter import Reached, Row, Secondary


def as_row(stored: ArbiterRow) -> Row:
    """Return the record in the words of the rules."""
    return Row(
        term=stored.term,
        primary_site=stored.primary_site,
        secondary=Secondary(stored.secondary),
        stale_since=stored.stale_since,
        version=stored.version,
        unheard=_names(stored.unheard),
        question=stored.question,
        reached=Reached(stored.reached_term, stored.reached_version),
    )


def _names(unheard: str) -> list[str]:
    return [site for site in unheard.split(",") if site]


def stored(row: Row) -> ArbiterRow:
    """Return a record that can be added together with its group."""
    return ArbiterRow(**_columns(row))


def _columns(row: Row) -> dict[str, Any]:
    return {
        "term": row.term,
        "primary_site": row.primary_site,
        "secondary": row.secondary.value,
        "stale_since": row.stale_since,
        "version": row.version,
        "unheard": ",".join(row.unheard),
        "question": row.question,
        "reached_term": row.reached.term,
        "reached_version": row.reached.version,
    }


async def find(session: AsyncSession, group_id: str) -> Row | None:
    """Return the record of a group as it is now, whatever the session has seen of it before."""
    statement = select(ArbiterRow).where(ArbiterRow.group_id == group_id).execution_options(populate_existing=True)
    found = (await session.scalars(statement)).one_or_none()
    return None if found is None else as_row(found)


async def replace(session: AsyncSession, group_id: str, expected_version: int, row: Row) -> bool:
    """Write `row` if nobody changed the record since `expected_version`; say whether that was so."""
    statement = (
        update(ArbiterRow)
        .where(ArbiterRow.group_id == group_id, ArbiterRow.version == expected_version)
        .values(**_columns(row))
        .execution_options(**{CHANGED_GROUPS: [group_id]})
    )
    result: CursorResult[Any] = await session.execute(statement)  # type: ignore[assignment]
    return result.rowcount == 1


async def unheard_groups(session: AsyncSession, site: str) -> set[str]:
    """Return the groups whose record waits for what this site knows."""
    marked = await session.execute(select(ArbiterRow.group_id, ArbiterRow.unheard).where(ArbiterRow.unheard != ""))
    return {group_id for group_id, unheard in marked if site in _names(unheard)}


async def count_change(session: AsyncSession, above: int = 0) -> int:
    """Count a change of a record; return how many there were in this installation: more than `above`."""
    before = case((Installation.arbiter_changes < above, above), else_=Installation.arbiter_changes)
    counted = update(Installation).values(arbiter_changes=before + 1)
    return (await session.scalars(counted.returning(Installation.arbiter_changes))).one()


async def changes(session: AsyncSession) -> ArbiterChanges:
    """Return how many changes of records there were in this installation, and the highest of what they say now."""
    count = (await session.scalars(select(Installation.arbiter_changes))).one()
    term, version = (await session.execute(select(func.max(ArbiterRow.term), func.max(ArbiterRow.version)))).one()
    return ArbiterChanges(count, Reached(term or 0, version or 0))
