"""Server-sent events (HTML standard, section 9.2): an answer that goes on until somebody ends it.

A stream resumes after the position in Last-Event-ID, so a client that comes back misses nothing. It says something at
least every `HEARTBEAT_SECONDS`, and asks as often whether its token is still good for it. It ends with the process,
with the group, with the token, and when the client does not read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from twinsite.api.acceptable import EVENT_STREAM
from twinsite.api.routes import controller_of
from twinsite.control.lifecycle.event_feed import EventFeed
from twinsite.control.lifecycle.event_views import ShownEvent, feed_event_view
from twinsite.control.refusals import RequestRefused, bad_request

HEARTBEAT_SECONDS = 15.0
"""Longest silence of a stream; also how long a token that was revoked is still good for it."""
SEND_SECONDS_MAX = 30.0
"""A client that does not take what is sent for so long loses its stream."""
RETRY_MILLISECONDS = 2000
"""When a client may come back, as the stream tells it."""
POSITION_MAX = 2**63 - 1
RESUME_HEADER = "last-event-id"


def resume_position(request: Request) -> int | None:
    """Return the position in Last-Event-ID, None without one. Refuses (400) what is none."""
    text = request.headers.get(RESUME_HEADER)
    if text is None or not text.strip():
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= POSITION_MAX):
        raise bad_request(
            f"Last-Event-ID is {text[:40]!r}; give the id of an event of a stream, or 0 for all there are."
        )
    return int(text)


def wants_stream(text: str | None) -> bool:
    """Return the meaning of the query parameter `follow`. Refuses (400) what is neither true nor false."""
    value = (text or "false").lower()
    if value not in ("true", "false"):
        raise bad_request(f"follow is {value[:20]!r}; give true or false.")
    return value == "true"


async def open_stream(request: Request, project_id: str, group_id: str | None) -> Response:
    """Return a stream of a project's events, or of one of its groups'."""
    controller = controller_of(request)
    position = await controller.feed.start(project_id, group_id, resume_position(request))
    token = request.headers.get("x-auth-token")

    async def is_welcome() -> bool:
        try:
            caller = await controller.authenticator.authenticate(token)
        except RequestRefused:
            return False
        if caller.project_id != project_id:
            return False
        about = {"user_id": None, **request.path_params}
        return controller.policy.allows(request.state.operation, caller.credentials(), about)

    slot = contextlib.ExitStack()
    slot.enter_context(controller.feed.stream(project_id))
    return EventStream(controller.feed, project_id, group_id, position, is_welcome, slot)


class EventStream(Response):
    """An answer of server-sent events."""

    media_type = EVENT_STREAM

    def __init__(
        self,
        feed: EventFeed,
        project_id: str,
        group_id: str | None,
        position: int,
        is_welcome: Callable[[], Awaitable[bool]],
        slot: contextlib.ExitStack,
    ) -> None:
        """Stream what comes after `position`. `slot` is given back at the end; `is_welcome` is asked now and then."""
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._feed = feed
        self._project_id = project_id
        self._group_id = group_id
        self._position = position
        self._is_welcome = is_welcome
        self._slot = slot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the client hangs up, or the stream has to end."""
        with self._slot:
            streaming = asyncio.create_task(self._stream(send), name="event stream")
            hanging_up = asyncio.create_task(_until_gone(receive), name="event stream's client")
            try:
                await asyncio.wait((streaming, hanging_up), return_when=asyncio.FIRST_COMPLETED)
            finally:
                streaming.cancel()
                hanging_up.cancel()
                outcome, _ = await asyncio.gather(streaming, hanging_up, return_exceptions=True)
            if isinstance(outcome, Exception) and not isinstance(outcome, (TimeoutError, OSError)):
                raise outcome

    async def _stream(self, send: Send) -> None:
        async def say(text: str, *, more: bool = True) -> None:
            async with asyncio.timeout(SEND_SECONDS_MAX):
                await send({"type": "http.response.body", "body": text.encode(), "more_body": more})

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        clock = asyncio.get_running_loop().time
        asked_at = clock()
        await say(f"retry: {RETRY_MILLISECONDS}\n: after {self._position}\n\n")
        while not self._feed.is_closed():
            # Also of a stream that is never silent: who may no longer read must not depend on what there is to read.
            if clock() - asked_at >= HEARTBEAT_SECONDS:
                if not await self._is_welcome():
                    break
                asked_at = clock()
            try:
                batch = await self._feed.wait(self._project_id, self._group_id, self._position, HEARTBEAT_SECONDS)
            except RequestRefused:
                break  # The group is gone: the client's next attempt is told so.
            if self._feed.is_closed():
                break
            if batch is None:
                if not await self._is_welcome():
                    break
                asked_at = clock()
                await say(": still here\n\n")
                continue
            await say("".join(map(frame, batch.events)))
            self._position = batch.position
        await say("", more=False)


def frame(shown: ShownEvent) -> str:
    """Return an event as a stream carries it."""
    return f"id: {shown.position}\ndata: {json.dumps(feed_event_view(shown), separators=(',', ':'))}\n\n"


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
