"""A record of the audit before it is one: what is asked, by whom, and how it ended.

A change of a group takes its record along: the transaction that makes the change also writes that it was done, so one
commit makes both durable. The record is written anew when the request then ends in another way.
"""

from __future__ import annotations

import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

from twinsite.control.clock import utc_now
from twinsite.control.models import AuditRecord

MESSAGE_CHARACTERS_MAX = 1000
OBJECT_ID_CHARACTERS_MAX = 255

DONE, REFUSED, FAILED = "done", "refused", "failed"
"""Results: answered with success; refused (4xx); could not be done, or not in time (5xx)."""


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
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    is_correction: bool = False
    """A record with this id is there already and says something else."""

    @property
    def result(self) -> str:
        """Return how it ended, in a word."""
        return DONE if self.status < 400 else REFUSED if self.status < 500 else FAILED

    @property
    def kept_message(self) -> str | None:
        """Return the message, as much of it as is kept."""
        return self.message[:MESSAGE_CHARACTERS_MAX] if self.message is not None else None


@dataclass(slots=True)
class Expected:
    """A request about a group that is under way: its record if it succeeds, and whether that is durable already."""

    entry: Entry
    is_recorded: bool = False

    def note_recorded(self) -> None:
        """Remember that the record is durable."""
        self.is_recorded = True

    def ended(self, entry: Entry) -> Entry | None:
        """Return what is still to be recorded of a request that ended as in `entry`, or None."""
        if not self.is_recorded:
            return entry
        if (entry.status, entry.message) == (self.entry.status, self.entry.message):
            return None
        return replace(entry, id=self.entry.id, is_correction=True)


current_request: ContextVar[Expected | None] = ContextVar("current_request", default=None)
"""The request about a group that is under way in this task."""


def record_of(entry: Entry) -> AuditRecord:
    """Return the row of a record."""
    return AuditRecord(
        id=entry.id,
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
        message=entry.kept_message,
    )
