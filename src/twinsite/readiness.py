"""How a process says that it is ready: by the protocol of systemd's sd_notify, so `up` and systemd hear it alike."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

ENVIRONMENT_VARIABLE = "NOTIFY_SOCKET"
WATCHDOG_SIGNS = 3
"""Signs of life within the time after which a watchdog would act."""
WATCHDOG_VARIABLE = "WATCHDOG_USEC"
WATCHDOG_PID_VARIABLE = "WATCHDOG_PID"
_READY = b"READY=1"
_ALIVE = b"WATCHDOG=1"


def notify_ready() -> None:
    """Say that this process is ready, if anybody asked to be told. See sd_notify(3)."""
    _notify(_READY)


async def keep_watchdog() -> None:
    """Say that this process is alive as often as it was asked to, for ever; return at once when nobody asked.

    The event loop says so: a process whose loop hangs falls silent, and is started again. See sd_watchdog_enabled(3).
    """
    microseconds = os.environ.get(WATCHDOG_VARIABLE, "")
    for_whom = os.environ.get(WATCHDOG_PID_VARIABLE, str(os.getpid()))
    if not microseconds.isdigit() or for_whom != str(os.getpid()):
        return
    while True:
        _notify(_ALIVE)
        await asyncio.sleep(int(microseconds) / 1_000_000 / WATCHDOG_SIGNS)


def _notify(state: bytes) -> None:
    address = os.environ.get(ENVIRONMENT_VARIABLE, "")
    if not address:
        return
    if address.startswith("@"):  # A name in Linux's abstract namespace.
        address = "\0" + address[1:]
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    # An error means that nobody listens any more: then nobody waits either.
    with socket.socket(socket.AF_UNIX, kind) as sender, contextlib.suppress(OSError):
        sender.connect(address)
        sender.send(state)


class ReadinessSocket:
    """Where a child says that it is ready. Close it after use."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._socket.bind("")  # Linux chooses a free abstract name: no file to leave behind.
        name = self._socket.getsockname()
        assert isinstance(name, bytes)
        assert name.startswith(b"\0")
        self.address = "@" + os.fsdecode(name[1:])

    async def wait(self, sign: bytes = _READY) -> None:
        """Wait until the child is ready, or gives another sign."""
        loop = asyncio.get_running_loop()
        while sign not in (await loop.sock_recv(self._socket, 4096)).splitlines():
            pass

    def close(self) -> None:
        """Give the socket back. Idempotent."""
        self._socket.close()
