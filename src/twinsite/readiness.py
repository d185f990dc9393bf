"""How a process says that it is ready: by the protocol of systemd's sd_notify, so `up` and systemd hear it alike."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

ENVIRONMENT_VARIABLE = "NOTIFY_SOCKET"
_READY = b"READY=1"


def notify_ready() -> None:
    """Say that this process is ready, if anybody asked to be told. See sd_notify(3)."""
    address = os.environ.get(ENVIRONMENT_VARIABLE, "")
    if not address:
        return
    if address.startswith("@"):  # A name in Linux's abstract namespace.
        address = "\0" + address[1:]
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    # An error means that nobody listens any more: then nobody waits either.
    with socket.socket(socket.AF_UNIX, kind) as sender, contextlib.suppress(OSError):
        sender.connect(address)
        sender.send(_READY)


class ReadinessSocket:
    """Where a child says that it is ready. Close it after use."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._socket.bind("")  # Linux chooses a free abstract name: no file to leave behind.
        name = self._socket.getsockname()
        assert isinstance(name, bytes)
        assert name.startswith(b"\0")
        self.address = "@" + os.fsdecode(name[1:])

    async def wait(self) -> None:
        """Wait until the child is ready."""
        loop = asyncio.get_running_loop()
        while _READY not in (await loop.sock_recv(self._socket, 4096)).splitlines():
            pass

    def close(self) -> None:
        """Give the socket back. Idempotent."""
        self._socket.close()
