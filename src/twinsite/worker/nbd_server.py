"""The NBD server: listeners, exports and the set of connections."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import socket
import stat
from collections.abc import Mapping
from contextlib import suppress
from typing import cast

import structlog

from twinsite.core import limits
from twinsite.errors import ConfigurationError
from twinsite.worker.device import Device, ExportInfo
from twinsite.worker.nbd_connection import NbdConnection

SOCKET_PATH_BYTES_MAX = 107
"""Longest path of a Unix socket that Linux takes."""
_BACKLOG = 128

_log = structlog.get_logger(__name__)


class NbdServer:
    """Serves devices to hosts over Unix sockets and TCP. One event loop; nothing here is safe from other threads."""

    def __init__(self, *, handshake_seconds: float = limits.NBD_HANDSHAKE_SECONDS) -> None:
        """Serve nothing yet. A client that has not chosen an export after `handshake_seconds` is cut off."""
        self._handshake_seconds = handshake_seconds
        self._devices: dict[str, Device] = {}
        self._connections: set[NbdConnection] = set()
        self._listeners: list[asyncio.Server] = []
        self._socket_files: dict[str, tuple[int, int]] = {}  # Path to device and inode of each socket that is ours.
        self._all_lost = asyncio.Event()
        self._all_lost.set()
        self._is_closed = False

    @property
    def connection_count(self) -> int:
        """Open connections, those in their handshake included."""
        return len(self._connections)

    def add_export(self, device: Device) -> None:
        """Offer a volume under its name; there must be none of that name yet."""
        assert device.info.name not in self._devices
        self._devices[device.info.name] = device

    def remove_export(self, name: str) -> None:
        """Offer the volume no longer and end its connections at once. Idempotent."""
        self._devices.pop(name, None)
        for connection in [c for c in self._connections if c.export_name == name]:
            connection.abort()

    def infos(self) -> Mapping[str, ExportInfo]:
        """Return what a client may choose, by name."""
        return {name: device.info for name, device in self._devices.items()}

    def device(self, name: str) -> Device | None:
        """Return the device of an export."""
        return self._devices.get(name)

    async def listen_unix(self, path: str) -> None:
        """Listen on a Unix socket at `path`; one that a dead process left there is replaced.

        Raises `ConfigurationError` when the path is too long, is something else than a socket, or somebody listens.
        """
        _refuse_unless_free(path)
        # Under its own name the socket appears only when it accepts, and replaces a stale one without a gap.
        unfinished = os.path.join(os.path.dirname(path), f".{secrets.token_hex(4)}")
        if max(len(os.fsencode(path)), len(os.fsencode(unfinished))) > SOCKET_PATH_BYTES_MAX:
            raise ConfigurationError(
                f"the socket path {path} is longer than {SOCKET_PATH_BYTES_MAX} bytes; use a shorter directory"
            )
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(unfinished)
            listener.listen(_BACKLOG)
            os.rename(unfinished, path)
        except BaseException:
            listener.close()
            with suppress(FileNotFoundError):
                os.unlink(unfinished)
            raise
        found = os.stat(path)
        self._socket_files[path] = (found.st_dev, found.st_ino)
        loop = asyncio.get_running_loop()
        self._listeners.append(await loop.create_unix_server(self._connect, sock=listener, backlog=_BACKLOG))

    async def listen_tcp(self, host: str, port: int) -> int:
        """Listen on `host` (an address) and `port`, 0 for one of the kernel's choice; return the port.

        Raises `ConfigurationError` when that cannot be had.
        """
        try:
            listener = await asyncio.get_running_loop().create_server(self._connect, host, port, backlog=_BACKLOG)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {host}:{port}: {error.strerror}; free the port or choose another"
            ) from error
        self._listeners.append(listener)
        return int(listener.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, end all connections, remove the socket files. Idempotent."""
        self._is_closed = True
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()
        for path, identity in self._socket_files.items():
            _unlink_if_same(path, identity)
        self._socket_files.clear()
        for connection in list(self._connections):
            connection.abort()
        await self._all_lost.wait()
        for listener in listeners:
            await listener.wait_closed()

    def _connect(self) -> asyncio.BufferedProtocol:
        connections_max = limits.NBD_CONNECTIONS_MAX * max(1, len(self._devices))
        if self._is_closed or len(self._connections) >= connections_max:
            _log.warning("nbd connection refused", connections=len(self._connections))
            return _RefusedConnection()
        connection = NbdConnection(self, self._lost, self._handshake_seconds)
        self._connections.add(connection)
        self._all_lost.clear()
        return connection

    def _lost(self, connection: NbdConnection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._all_lost.set()


class _RefusedConnection(asyncio.BufferedProtocol):
    """A connection too many: it ends before a byte is said."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()  # uvloop's transports are not of that class.

    def get_buffer(self, sizehint: int) -> bytearray:
        return bytearray(max(1, sizehint))


def _refuse_unless_free(path: str) -> None:
    """Raise `ConfigurationError` unless there is nothing at `path`, or a socket that nobody listens on."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigurationError(f"{path} is in the way and is not a socket; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        number = probe.connect_ex(path)
    if number not in {errno.ECONNREFUSED, errno.ENOENT}:
        raise ConfigurationError(f"another process serves {path} ({os.strerror(number)}); stop it first")


def _unlink_if_same(path: str, identity: tuple[int, int]) -> None:
    with suppress(FileNotFoundError):
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) == identity:
            os.unlink(path)
