"""HTTP over a bare socket: what no well-behaved client would send, and the answer to it, read as it came."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WAIT_SECONDS_MAX = 60.0
READ_BYTES = 65536


@dataclass(frozen=True)
class Answer:
    """What came back. `status` is 0 when the connection ended without an answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def fault(self) -> tuple[str, dict[str, Any]]:
        """Return the key and the content of an error answer."""
        ((name, content),) = json.loads(self.body).items()
        return name, content


def request(
    method: str, path: str, headers: Mapping[str, str], body: bytes = b"", *, length: int | None = None
) -> bytes:
    """Return a request as bytes. `length` is what it says of its body, when that is not the truth."""
    lines = {"Host": "twinsite.test", **headers, "Content-Length": str(len(body) if length is None else length)}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


async def send(port: int, data: bytes) -> Answer:
    """Send bytes to a local server and return its first answer; whoever waits for more bytes gets none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            writer.write(data)
            return await _read_answer(reader)
    finally:
        writer.close()


async def _read_answer(reader: asyncio.StreamReader) -> Answer:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return Answer(0, {}, b"")
    status_line, *lines = head.splitlines()
    if status_line.split()[1] == "100":
        return await _read_answer(reader)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(int(status_line.split()[1]), headers, body)
