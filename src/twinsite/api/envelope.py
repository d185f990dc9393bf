"""What happens around every request: an id, one spelling of paths, and no stack trace, whatever goes wrong."""

from __future__ import annotations

import logging
import re
import time
import uuid

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twinsite.api.errors import fault_response

REQUEST_ID_HEADER = "x-openstack-request-id"

READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_NOT_LOGGED = "/internal/"
"""Nodes and workers say so much that each line about it would hide what people do."""

_log = logging.getLogger(__name__)

_HOST = re.compile(rb"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_CODED_SLASH = re.compile(rb"%2f", re.IGNORECASE)


class Envelope:
    """ASGI middleware, the outermost of ours."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req-{uuid.uuid4()}"
        structlog.contextvars.bind_contextvars(request_id=request_id)
        scope = {**scope, "state": {**scope.get("state", {}), "request_id": request_id}}
        started = False
        began_at = time.monotonic()

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _log_change(scope, message["status"], time.monotonic() - began_at)
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        path = scope["path"]
        trouble = _trouble(scope)
        if trouble is not None:
            await fault_response(400, "EVS.5400", trouble)(scope, receive, send_with_id)
            return
        if len(path) > 1 and path.endswith("/"):
            # Clients write version roots with and without the slash; a redirect would drop the body of a POST.
            scope = {**scope, "path": path.rstrip("/") or "/", "raw_path": None}
        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            _log.info("request %s: the client hung up: %s %r", request_id, scope["method"], path)
        except Exception:
            _log.exception("request %s failed: %s %r", request_id, scope["method"], path)
            if started:
                raise
            message = f"An internal error happened; the controller's log has it under {request_id}."
            await fault_response(500, "EVS.5500", message)(scope, receive, send_with_id)


def _log_change(scope: Scope, status: int, seconds: float) -> None:
    """Log the answer of a request that was to change something."""
    path = scope["path"]
    if scope["method"] not in READING_METHODS and not path.startswith(_NOT_LOGGED):
        said = {"method": scope["method"], "path": path, "status": status, "seconds": round(seconds, 3)}
        _log.info("request", extra=said)


def _trouble(scope: Scope) -> str | None:
    """Say what is wrong with a request's address, before anything makes links of it or looks it up."""
    if "\0" in scope["path"] or b"%00" in scope.get("query_string", b""):
        return "The URL holds a NUL character, which is no text; leave it out."
    if _CODED_SLASH.search(scope.get("raw_path") or b""):
        return "The path holds an encoded slash (%2F); no name in a path has one."
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if any(_HOST.fullmatch(host) is None for host in hosts):
        return "The Host header is no host name or address with a port."
    return None
