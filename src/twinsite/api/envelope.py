"""What happens around every request: an id, one spelling of paths, and no stack trace, whatever goes wrong."""

from __future__ import annotations

import logging
import uuid

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twinsite.api.errors import fault_response

REQUEST_ID_HEADER = "x-openstack-request-id"

_log = logging.getLogger(__name__)


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
        scope = {**scope, "state": {**scope.get("state", {}), "request_id": request_id}}
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        path = scope["path"]
        if len(path) > 1 and path.endswith("/"):
            # Clients write version roots with and without the slash; a redirect would drop the body of a POST.
            scope = {**scope, "path": path.rstrip("/") or "/", "raw_path": None}
        if "\0" in path or b"%00" in scope.get("query_string", b""):
            answer = fault_response(400, "EVS.5400", "The URL holds a NUL character; leave it out.")
            await answer(scope, receive, send_with_id)
            return
        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            _log.info("request %s: the client hung up: %s %s", request_id, scope["method"], path)
        except Exception:
            _log.exception("request %s failed: %s %s", request_id, scope["method"], path)
            if started:
                raise
            message = f"An internal error happened; the controller's log has it under {request_id}."
            await fault_response(500, "EVS.5500", message)(scope, receive, send_with_id)
