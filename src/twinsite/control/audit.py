"""The audit: who asked for what change of which object, with which result; refused requests too.

A record is durable before the request is answered. Requests that end at the same time share a transaction. One that is
about a group has an event in the group's own log as well: where the change wrote none, because it was refused or there
was nothing to do, it is written here.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.actor import Actor
from twinsite.control.clock import utc_now
from twinsite.control.context import Context
from twinsite.control.lifecycle import chronicle
from twinsite.control.models import AuditRecord
from twinsite.control.repository import audit

BATCH_MAX = 100
"""Most records of one transaction."""
FORGET_EVERY = 50
"""After how many records of a project its oldest ones are counted and forgotten."""
MESSAGE_CHARACTERS_MAX = 1000
OBJECT_ID_CHARACTERS_MAX = 255

DONE, REFUSED, FAILED = "done", "refused", "failed"
"""Results: answered with success; refused (4xx); could not be done, or not in time (5xx)."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One request. `operation` is the name of its rule; `group_id` is set when it is about a group's state."""

    request_id: str
    project_id: str
    user_id: str
    user_name: str
    address: str
    operation: str
    object_id: str | None
    status: int
    message: str | None
    group_id: str | None = None

    @property
    def result(self) -> str:
        """Return how it ended, in a word."""
        return DONE if self.status < 400 else REFUSED if self.status < 500 else FAILED


class AuditLog:
    """Writes records, and gives them out."""

    def __init__(self, context: Context) -> None:
        """Work on the controller's database."""
        self._context = context
        self._pending: list[tuple[Entry, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._written: Counter[str] = Counter()

    async def record(self, entry: Entry) -> None:
        """Write a record, and return when it is durable.

        What was asked has been done or refused already, so a database that cannot be written to changes nothing about
        the answer: then the controller's log has the record.
        """
        written = asyncio.get_running_loop().create_future()
        self._pending.append((entry, written))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_pending(), name="audit")
        await written

    async def _write_pending(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending[:BATCH_MAX], self._pending[BATCH_MAX:]
                try:
                    await self._write([entry for entry, _ in batch])
                except SQLAlchemyError as error:
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
                session.add(_row(entry))
                if entry.group_id is not None:
                    await self._write_event(session, entry, entry.group_id)
            await session.flush()
            for project_id, count in Counter(entry.project_id for entry in entries).items():
                self._written[project_id] += count
                if self._written[project_id] >= FORGET_EVERY:
                    del self._written[project_id]
                    await audit.forget_beyond(session, project_id, self._context.settings.audit_records_max)

    async def _write_event(self, session: AsyncSession, entry: Entry, group_id: str) -> None:
        action = entry.operation.partition(":")[2]
        actor = Actor(entry.user_name, entry.user_id, entry.request_id)
        message = entry.message if entry.status >= 400 else chronicle.NOTHING_TO_DO
        result = chronicle.DONE if entry.status < 400 else chronicle.REFUSED
        await chronicle.record_without_change(
            self._context, session, entry.project_id, group_id, actor, action, result, message
        )

    async def page(
        self, project_id: str | None, equal: Mapping[str, str], marker: str | None, limit: int, offset: int
    ) -> list[AuditRecord]:
        """Return a project's records, or those of all projects, newest first."""
        async with self._context.database.read() as session:
            return await audit.page(session, project_id, equal, marker, limit, offset)


def _row(entry: Entry) -> AuditRecord:
    return AuditRecord(
        id=str(uuid.uuid4()),
        created_at=utc_now(),
        request_id=entry.request_id,
        project_id=entry.project_id,
        user_id=entry.user_id,
        user_name=entry.user_name[:255],
        address=entry.address[:64],
        operation=entry.operation,
        object_id=entry.object_id[:OBJECT_ID_CHARACTERS_MAX] if entry.object_id is not None else None,
        result=entry.result,
        status=entry.status,
        message=entry.message[:MESSAGE_CHARACTERS_MAX] if entry.message is not None else None,
    )
