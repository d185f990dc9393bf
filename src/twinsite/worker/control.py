"""The control socket: specs in, statuses out, one JSON object a line (docs/architecture.md)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import structlog

from twinsite.errors import PeerViolation
from twinsite.messages import WorkerSpec, WorkerStatus, from_wire, to_wire

log = structlog.get_logger(__name__)

LINE_BYTES_MAX = 1024 * 1024
"""Longest line: a spec of the most members fits many times."""
CONNECTIONS_MAX = 16
STATUS_SECONDS_MIN = 0.2
"""Statuses in which only numbers changed are sent no more often than this."""


class ControlServer:
    """Listens on the control socket. `on_spec` gets each spec that can be read, `status` gives the current status."""

    def __init__(
        self, path: Path, on_spec: Callable[[WorkerSpec], None], status: Callable[[], WorkerStatus | None]
    ) -> None:
        self._path = path
        self._on_spec = on_spec
        self._status = status
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._last_line = b""

    async def listen(self) -> None:
        """Open the socket. The caller holds the worker's pid file, so a socket that lies there is a dead one's."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        self._server = await asyncio.start_unix_server(self._serve, str(self._path), limit=LINE_BYTES_MAX)
        os.chmod(self._path, 0o600)

    def publish(self) -> bool:
        """Send the status to everyone if it differs from the last one sent. Returns whether it does."""
        status = self._status()
        if status is None:
            return False
        line = _line(status)
        if line == self._last_line:
            return False
        self._last_line = line
        for writer in list(self._writers):
            self._send(writer, line)
        return True

    async def close(self) -> None:
        """Send a last status, close everything and remove the socket."""
        self.publish()
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._writers) >= CONNECTIONS_MAX:
            writer.close()
            return
        self._writers.add(writer)
        try:
            status = self._status()
            if status is not None:
                self._send(writer, _line(status))
            while line := await reader.readline():
                self._take(line)
                status = self._status()
                if status is not None:
                    self._send(writer, _line(status))
        except (OSError, ValueError) as error:
            log.warning("control.connection_ended", error=str(error))
        finally:
            self._writers.discard(writer)
            writer.close()

    def _take(self, line: bytes) -> None:
        try:
            spec = from_wire(WorkerSpec, json.loads(line), "spec")
        except (ValueError, RecursionError, PeerViolation) as error:
            log.error("control.bad_spec", error=str(error))
            return
        self._on_spec(spec)

    def _send(self, writer: asyncio.StreamWriter, line: bytes) -> None:
        if writer.transport.is_closing():
            # Its `_serve` has not heard of it yet. To write now is an error with uvloop, and would end the worker.
            return
        if writer.transport.get_write_buffer_size() > LINE_BYTES_MAX:
            # A reader that does not read: it gets the whole truth when it comes back.
            writer.transport.abort()
            return
        writer.write(line)


def _line(status: WorkerStatus) -> bytes:
    return json.dumps(to_wire(status), separators=(",", ":")).encode() + b"\n"
