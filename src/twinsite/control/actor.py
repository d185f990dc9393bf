"""Who makes the change that is under way: set where a request comes in, read where a change is recorded.

A context variable, because everything between the two does the same whoever asks.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """A user by name and id, or a part of the installation by name alone, and the request that it makes."""

    name: str
    user_id: str | None = None
    request_id: str | None = None


REQUEST_ID = re.compile(r"req-[0-9a-f-]{36}")
"""What the API calls a request; see `api.envelope`."""


def known_request(text: str) -> str | None:
    """Return the id of a request that a worker or a node names; None when it names none, or what cannot be one."""
    return text if REQUEST_ID.fullmatch(text) else None


CONTROLLER = Actor("controller")
"""What nobody asked for: deadlines, and sites that fell silent."""

current_actor: ContextVar[Actor] = ContextVar("current_actor", default=CONTROLLER)
