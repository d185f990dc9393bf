"""The server's side of one HTTP connection, with bounds: a client that sends nothing, or slowly, is let go.

uvicorn answers what is no HTTP in plain text and waits for ever for the rest of a request's head, and for the rest of
a body that was answered already. Here both have a deadline, and every answer has the one shape of an error. The body
of a request that is not answered yet is the business of `bodies`.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from twinsite.api.errors import CODE_HEADER, fault_body


class PatientProtocol(H11Protocol):
    """Waits at most `head_seconds_max` for the head of a request, and `rest_seconds_max` for what nobody reads."""

    head_seconds_max: float = 20.0
    rest_seconds_max: float = 30.0
    _deadline: asyncio.TimerHandle | None = None
    _is_over: bool = False  # Everything was said; what still comes is thrown away.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take bytes in."""
        if self._is_over:
            return
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request, or for the rest of this one."""
        self._rest()
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._rest()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over."""
        self._rest()
        super().handle_websocket_upgrade(event)

    def _rest(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _watch(self) -> None:
        """Let a deadline run exactly while the client owes what no call waits for."""
        if self._is_over:
            self._run_for(self.rest_seconds_max)
        elif self.transport.is_closing() or self.transport.get_protocol() is not self:
            self._rest()
        elif self.conn.their_state is h11.IDLE:
            self._run_for(self.head_seconds_max)
        elif self.conn.their_state is h11.SEND_BODY and self.conn.our_state is h11.DONE:
            self._run_for(self.rest_seconds_max)
        else:
            self._rest()

    def _run_for(self, seconds: float) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        self._deadline = None
        if not self._is_over and self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            message = f"The head of the request did not come within {self.head_seconds_max:g} s. Send it all at once."
            self._refuse(408, "EVS.5408", message)
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        message = "This is no HTTP request, or its head has more than 64 KiB. Send HTTP/1.1 with a smaller head."
        self._refuse(400, "EVS.5400", message)

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer a request that never became one, and end the connection."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # An answer is on its way already.
            return
        body = json.dumps(fault_body(status, code, message)).encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
            ("x-openstack-request-id", f"req-{uuid.uuid4()}"),
            (CODE_HEADER, code),
        ]
        events: list[Any] = [
            h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode()),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ]
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        # A client that is still sending would lose the answer to a connection that is reset.
        self.transport.write_eof()
        self._is_over = True
        self._rest()
        self._watch()


def patient_protocol(head_seconds_max: float, rest_seconds_max: float) -> type[PatientProtocol]:
    """Return the protocol with these bounds, in seconds; the server makes one of it for each connection."""
    bounds = {"head_seconds_max": head_seconds_max, "rest_seconds_max": rest_seconds_max}
    return type("PatientProtocol", (PatientProtocol,), bounds)
