"""A controller that answers nodes as a test tells it to: real HTTP on a port of the kernel's choice."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable

from twinsite.messages import NodeDesired, NodeReport, from_wire, to_wire

WAIT_SECONDS_MAX = 60.0


class StandInController:
    """Holds long polls until `desire` gives a newer generation; keeps every report. Close it after use."""

    def __init__(self) -> None:
        self.desired: NodeDesired | None = None
        self.reports: list[NodeReport] = []
        self.tokens: set[str] = set()
        self.paths: set[str] = set()
        self.refusal = 0  # An HTTP status to answer with instead.
        self.url = ""
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def listen(self, port: int = 0) -> None:
        """Begin to answer."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Cut every connection and stop listening."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._connections):
                writer.transport.abort()
            await self._server.wait_closed()

    async def desire(self, desired: NodeDesired) -> None:
        """Answer with this from now on."""
        async with self._changed:
            self.desired = desired
            self._changed.notify_all()

    async def until_report(self, condition: Callable[[NodeReport], bool]) -> NodeReport:
        """Wait for a report, past or coming, that meets the condition, and return the first."""
        async with asyncio.timeout(WAIT_SECONDS_MAX), self._changed:
            while True:
                for report in self.reports:
                    if condition(report):
                        return report
                await self._changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
                headers = dict(line.split(": ", 1) for line in head[1:] if line)
                body = await reader.readexactly(int(headers["content-length"]))
                self.paths.add(head[0].split()[1])
                self.tokens.add(headers["x-twinsite-node-token"])
                writer.write(await self._answer(from_wire(NodeReport, json.loads(body))))
                await writer.drain()
        self._connections.discard(writer)
        writer.close()

    async def _answer(self, report: NodeReport) -> bytes:
        async with self._changed:
            self.reports.append(report)
            self._changed.notify_all()
            if self.refusal:
                return b"HTTP/1.1 %d Refused\r\nContent-Length: 8\r\n\r\nnot you!" % self.refusal
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(report.wait_seconds):
                    await self._changed.wait_for(lambda: self._is_newer(report))
            content = json.dumps(to_wire(self.desired)).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
            len(content),
            content,
        )

    def _is_newer(self, report: NodeReport) -> bool:
        return self.desired is not None and self.desired.generation > report.seen_generation
