"""Streams of events: what both clients do with an answer that goes on, and when they come back to it.

A stream ends now and then (a controller restarts, a token runs out). It is resumed after the last event that came, so
the caller sees neither a gap nor an event twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import httpx

from twinsite.client.groups import GROUPS
from twinsite.client.models import FeedEvent
from twinsite.client.session import HTTP_UNAUTHORIZED, decoded, parsed
from twinsite.client.steps import Access, Reply
from twinsite.errors import PeerViolation

SILENCE_SECONDS_MAX = 60.0
"""A stream that says nothing for longer is taken to be cut; the API says something every 15 seconds."""
RESUME_SECONDS = 2.0
"""Pause before a stream that ended is resumed."""
ATTEMPTS_MAX = 15
"""Attempts in a row that nobody answers, after which the caller is told: about half a minute."""


class Following:
    """What is known of one stream: where it resumes, and how often nobody answered."""

    def __init__(self, group_id: str | None, after: int | None) -> None:
        """Follow a group, or the whole project for None; from now on for no `after`, or after that position."""
        self._path = "os-vendor-events" if group_id is None else f"{GROUPS}/{group_id}/events"
        self._position = after
        self._failures = 0
        self._renewed = False

    def url(self, access: Access) -> str:
        """Return where the stream is."""
        return f"{access.endpoint}/{self._path}"

    def headers(self, access: Access) -> Mapping[str, str]:
        """Return the headers of the next attempt."""
        place = {} if self._position is None else {"Last-Event-ID": str(self._position)}
        return {"X-Auth-Token": access.token, "Accept": "text/event-stream", **place}

    def needs_renewal(self, status: int) -> bool:
        """Say whether to log in anew and try again: once, until an attempt succeeds."""
        if status != HTTP_UNAUTHORIZED or self._renewed:
            return False
        self._renewed = True
        return True

    def refuse(self, response: httpx.Response) -> None:
        """Raise what an answer that is no stream means; its body has been read."""
        headers = {name.lower(): value for name, value in response.headers.items()}
        request = f"GET {response.request.url}"
        decoded(Reply(response.status_code, response.reason_phrase, headers, response.content), request)
        raise PeerViolation(f"{request} did not answer a stream")

    def take(self, line: str) -> FeedEvent | None:
        """Take a line in; return the event that it carries, if any."""
        self._failures, self._renewed = 0, False
        name, _, value = line.partition(": ")
        if name == "data":
            try:
                content = json.loads(value)
            except ValueError:
                raise PeerViolation(f"the stream has an event that is not JSON: {value[:80]!r}") from None
            event = parsed(FeedEvent, content, "the stream has an event that cannot be read")
            self._position = event.position
            return event
        if name == "" and value.startswith("after ") and value[6:].isdigit() and self._position is None:
            self._position = int(value[6:])  # So that nothing is missed if it ends before the first event.
        return None

    def note_failure(self) -> bool:
        """Note that nobody answered; say whether to give up."""
        self._failures += 1
        return self._failures >= ATTEMPTS_MAX
