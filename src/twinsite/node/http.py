"""The node's own small HTTP listener: /healthz, /readyz, and whatever else is read there by machines that watch.

It answers GET and HEAD, one request a connection, and everything has a bound: it must never cost the node anything that
its workers need. There is no log-in, so what it says is no secret, and it listens only where it is told to.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import structlog

from twinsite.errors import ConfigurationError

REQUEST_SECONDS_MAX = 5.0
"""Longest time for a whole request: its head, the answer, and the sending of it."""
HEAD_BYTES_MAX = 8 * 1024
"""Longest head of a request."""
CONNECTIONS_MAX = 32
"""Connections at once; one more is closed at once."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a page says."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Page = Callable[[], Awaitable[Answer]]
"""Makes the answer of one path. It must not block, and may raise: that is a 500."""


def json_answer(status: int, content: object) -> Answer:
    """Return an answer of JSON."""
    return Answer(status, json.dumps(content).encode() + b"\n", "application/json")


class NodeHttp:
    """Serves pages by their paths. `start`, and `close` at the end."""

    def __init__(self, pages: Mapping[str, Page]) -> None:
        """`pages` gives each path, such as "/healthz", what makes its answer."""
        self.port = 0
        self._pages = pages
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> None:
        """Listen; `port` 0 lets the kernel choose, and the attribute `port` tells. Raises `ConfigurationError`."""
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=HEAD_BYTES_MAX)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {host}:{port}: {error.strerror or error}; choose another address with --http-listen"
            ) from error
        self.port = int(self._server.sockets[0].getsockname()[1])
        log.info("node answers http", host=host, port=self.port, paths=sorted(self._pages))

    async def close(self) -> None:
        """End, and every connection with it."""
        if self._server is None:
            return
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            if len(self._open) <= CONNECTIONS_MAX:
                with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
                    async with asyncio.timeout(REQUEST_SECONDS_MAX):
                        await self._answer(reader, writer)
        except asyncio.CancelledError:
            pass  # The node ends; the streams of asyncio take a task that was cancelled for one that failed.
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            answer, is_head = _fault(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), False
        else:
            method, target = _request_line(head)
            answer, is_head = await self._page(method, target), method == "HEAD"
        phrase = HTTPStatus(answer.status).phrase
        lines = [
            f"HTTP/1.1 {answer.status} {phrase}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(answer.body)}",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            *(["Allow: GET, HEAD"] if answer.status == HTTPStatus.METHOD_NOT_ALLOWED else []),
            "Connection: close",
        ]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if is_head else answer.body))
        await writer.drain()

    async def _page(self, method: str, target: str) -> Answer:
        if not method:
            return _fault(HTTPStatus.BAD_REQUEST)
        page = self._pages.get(target.partition("?")[0])
        if page is None:
            return _fault(HTTPStatus.NOT_FOUND)
        if method not in ("GET", "HEAD"):
            return _fault(HTTPStatus.METHOD_NOT_ALLOWED)
        try:
            return await page()
        except Exception:  # Whatever a page cannot say, the listener and the node go on.
            log.exception("a page cannot be made", path=target)
            return _fault(HTTPStatus.INTERNAL_SERVER_ERROR)


def _request_line(head: bytes) -> tuple[str, str]:
    """Return method and target of a request; two empty texts for what is no HTTP."""
    parts = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        return "", ""
    return parts[0], parts[1]


def _fault(status: HTTPStatus) -> Answer:
    return Answer(status, f"{status.phrase}\n".encode())
