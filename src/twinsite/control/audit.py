"""The audit: who asked for what change of which object, with which result; refused requests too.

A record is durable before the request is answered. A change of a group takes the record of a success along in its own
transaction (`audit_entry`); all else is recorded here, and requests that end at the same time share a transaction. A
request that is about a group has an event in the group's own log as well: where the change wrote none, because it was
refused or there was nothing to do, it is written here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.actor import Actor
from twinsite.control.audit_entry import Entry, Expected, record_of
from twinsite.control.context import Context
from twinsite.control.lifecycle import chronicle
from twinsite.control.lifecycle.event_kinds import action_of
from twinsite.control.models import AuditRecord
from twinsite.control.repository import audit

BATCH_MAX = 100
"""Most records of one transaction."""
FORGET_EVERY = 50
"""After how many records of a project its oldest ones are counted and forgotten."""
_log = structlog.get_logger(__name__)


class AuditLog:
    """Writes records, and gives them out."""

    def __init__(self, context: Context) -> None:
        """Work on the controller's database."""
        self._context = context
        self._pending: list[tuple[Entry, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._written: Counter[str] = Counter()

    async def record(self, entry: Entry, expected: Expected | None = None) -> None:
        """Write a record, and return when it is durable. What was `expected` may have been recorded with the change.

        What was asked has been done or refused already, so a database that cannot be written to changes nothing about
        the answer: then the controller's log has the record.
        """
        left = entry if expected is None else expected.ended(entry)
        if left is None:
            self._written[entry.project_id] += 1
            if self._written[entry.project_id] >= FORGET_EVERY:
                await self._forget()
            return
        written = asyncio.get_running_loop().create_future()
        self._pending.append((left, written))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_pending(), name="audit")
        await written

    async def _write_pending(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending[:BATCH_MAX], self._pending[BATCH_MAX:]
                try:
                    await self._write([entry for entry, _ in batch])
                except Exception as error:
                    for entry, _ in batch:
                        _log.error("an audit record cannot be stored", record=str(entry), error=str(error))
                finally:
                    for _, written in batch:
                        if not written.done():  # Who waited for it may have hung up.
                            written.set_result(None)
        finally:
            self._writing = None

    async def _write(self, entries: list[Entry]) -> None:
        async with self._context.database.write() as session:
            for entry in entries:
                if entry.is_correction:
                    await audit.correct(session, entry)
                else:
                    session.add(record_of(entry))
                if entry.group_id is not None:
                    await self._write_event(session, entry, entry.group_id)
            await session.flush()
            self._written.update(entry.project_id for entry in entries)
            await self._forget_in(session)

    async def _forget(self) -> None:
        """Forget the oldest records of a project whose requests all take theirs along."""
        try:
            async with self._context.database.write() as session:
                await self._forget_in(session)
        except Exception as error:
            _log.error("old audit records cannot be deleted; the next attempt comes later", error=str(error))

    async def _forget_in(self, session: AsyncSession) -> None:
        for project_id in [name for name, count in self._written.items() if count >= FORGET_EVERY]:
            self._written.pop(project_id, None)
            await audit.forget_beyond(session, project_id, self._context.settings.audit_records_max)

    async def _write_event(self, session: AsyncSession, entry: Entry, group_id: str) -> None:
        actor = Actor(entry.user_name, entry.user_id, entry.request_id)
        message = entry.message if entry.status >= 400 else chronicle.NOTHING_TO_DO
        result = chronicle.DONE if entry.status < 400 else chronicle.REFUSED
        await chronicle.record_without_change(
            self._context,
            session,
            entry.project_id,
            group_id,
            actor,
            action_of(entry.operation),
            result,
            message,
        )

    async def page(
        self, project_id: str | None, equal: Mapping[str, str], marker: str | None, limit: int, offset: int
    ) -> list[AuditRecord]:
        """Return a project's records, or those of all projects, newest first."""
        async with self._context.database.read() as session:
            return await audit.page(session, project_id, equal, marker, limit, offset)
