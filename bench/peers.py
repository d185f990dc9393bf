"""How the peers are run: nbdkit's file plugin, and QEMU's storage daemon mirroring to a server over TCP."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench.processes import Server, free_port
from bench.qmp import Qmp

EXPORT = "volume"


def nbdkit_unix(stack: ExitStack, path: Path, directory: Path, name: str) -> tuple[Server, str]:
    """Serve a file with nbdkit on a Unix socket until the stack ends; return the server and its URI."""
    socket_path = directory / f"{name}.sock"
    command = ["nbdkit", "--foreground", "--pidfile", "{pidfile}", "--unix", str(socket_path), "file", str(path)]
    server = stack.enter_context(Server(command, directory, name))
    return server, f"nbd+unix:///?socket={socket_path}"


def nbdkit_tcp(
    stack: ExitStack,
    path: Path,
    directory: Path,
    name: str,
    inside: Callable[[list[str]], list[str]] = lambda command: command,
) -> tuple[Server, int]:
    """Serve a file with nbdkit on the loopback until the stack ends; return the server and its port.

    `inside` turns the command into one that runs in another network.
    """
    port = free_port()
    command = ["nbdkit", "--foreground", "--pidfile", "{pidfile}", "--ipaddr", "127.0.0.1", "--port", str(port)]
    server = stack.enter_context(Server(inside([*command, "file", str(path)]), directory, name))
    return server, port


def qemu_unix(stack: ExitStack, path: Path, directory: Path, name: str) -> tuple[Server, str]:
    """Serve a file with QEMU's storage daemon on a Unix socket until the stack ends; return the server and its URI."""
    socket_path = directory / f"{name}.sock"
    command = [
        *("qemu-storage-daemon", "--pidfile", "{pidfile}"),
        *("--blockdev", _raw_file("volume", path)),
        *("--nbd-server", f"addr.type=unix,addr.path={socket_path}"),
        *("--export", f"type=nbd,id=e,node-name=volume,name={EXPORT},writable=on"),
    ]
    server = stack.enter_context(Server(command, directory, name))
    return server, f"nbd+unix:///{EXPORT}?socket={socket_path}"


def qemu_tcp(stack: ExitStack, path: Path, directory: Path, name: str) -> tuple[Server, int]:
    """Serve a file with QEMU's storage daemon on the loopback until the stack ends; return the server and its port."""
    port = free_port()
    command = [
        *("qemu-storage-daemon", "--pidfile", "{pidfile}"),
        *("--blockdev", _raw_file("volume", path)),
        *("--nbd-server", f"addr.type=inet,addr.host=127.0.0.1,addr.port={port}"),
        # The default export has no name, as nbdkit's.
        *("--export", "type=nbd,id=e,node-name=volume,name=,writable=on"),
    ]
    return stack.enter_context(Server(command, directory, name)), port


def qemu_mirror(
    stack: ExitStack, source: Path, target_port: int, directory: Path, seconds_max: float
) -> tuple[Server, str]:
    """Serve `source` with QEMU's active mirror to an NBD server on the loopback.

    Returns the daemon and its URI once the target is a copy and the job only mirrors. Everything that does not make it
    an active mirror is QEMU's default. Source: `blockdev-mirror` in docs/interop/qemu-qmp-ref of QEMU.
    """
    remote = {
        "driver": "nbd",
        "node-name": "target",
        "server": {"type": "inet", "host": "127.0.0.1", "port": str(target_port)},
        "export": "",
    }
    socket_path, monitor_path = directory / "qemu.sock", directory / "qmp.sock"
    command = [
        *("qemu-storage-daemon", "--pidfile", "{pidfile}"),
        *("--blockdev", _raw_file("source", source)),
        *("--blockdev", json.dumps(remote)),
        *("--nbd-server", f"addr.type=unix,addr.path={socket_path}"),
        *("--export", f"type=nbd,id=e,node-name=source,name={EXPORT},writable=on"),
        *("--chardev", f"socket,id=monitor,path={monitor_path},server=on,wait=off"),
        *("--monitor", "chardev=monitor"),
    ]
    server = stack.enter_context(Server(command, directory, "qemu-source"))
    qmp = stack.enter_context(Qmp(monitor_path))
    mirror = {"job-id": "mirror", "device": "source", "target": "target", "sync": "full", "copy-mode": "write-blocking"}
    qmp.execute("blockdev-mirror", **mirror)
    qmp.wait_job_ready(seconds_max)
    return server, f"nbd+unix:///{EXPORT}?socket={socket_path}"


def _raw_file(node_name: str, path: Path) -> str:
    return json.dumps({"driver": "raw", "node-name": node_name, "file": {"driver": "file", "filename": str(path)}})
