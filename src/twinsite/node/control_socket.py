"""The node's end of a worker's control socket: one JSON object a line, specs down and statuses up."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable

from twinsite.core.limits import MIB
from twinsite.errors import PeerViolation
from twinsite.messages import WorkerSpec, WorkerStatus, from_wire, to_wire

LINE_BYTES_MAX = 1 * MIB
"""Longest line: a status of 256 members has about 50 KB."""


async def converse(
    path: str, spec_given: asyncio.Event, current_spec: Callable[[], WorkerSpec | None]
) -> AsyncGenerator[WorkerStatus, None]:
    """Connect to a worker, send it the current spec and each newer one, and yield every status that it sends.

    `spec_given` is set by the caller after each change of `current_spec()`. Ends when the worker closes the
    connection. Raises `OSError` when it cannot be reached, `PeerViolation` for what is not a status.
    """
    reader, writer = await asyncio.open_unix_connection(path, limit=LINE_BYTES_MAX)
    sender = asyncio.create_task(_send_specs(writer, spec_given, current_spec))
    try:
        while line := await _read_line(reader):
            yield _parse_status(line)
    finally:
        writer.close()  # Before the first await: a cancellation there must not leave the connection open.
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _send_specs(
    writer: asyncio.StreamWriter, spec_given: asyncio.Event, current_spec: Callable[[], WorkerSpec | None]
) -> None:
    sent: WorkerSpec | None = None
    while True:
        spec_given.clear()
        spec = current_spec()
        if spec is not None and spec != sent:
            writer.write(json.dumps(to_wire(spec)).encode() + b"\n")
            await writer.drain()
            sent = spec
        await spec_given.wait()


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError:
        raise PeerViolation(f"a status line is longer than {LINE_BYTES_MAX} bytes") from None


def _parse_status(line: bytes) -> WorkerStatus:
    try:
        decoded = json.loads(line)
    except ValueError:
        raise PeerViolation(f"a status line is not JSON: {line[:80]!r}") from None
    return from_wire(WorkerStatus, decoded, "status")
