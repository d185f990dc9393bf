"""What travels, counted by the kernel: by an end of a TCP connection, or by a network of a program's own."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from bench.errors import BenchError
from bench.processes import Server

SS_SECONDS_MAX = 10.0
NETWORK_TOOLS = ("unshare", "nsenter", "ip")
"""What a network of one's own takes."""


class Carried(NamedTuple):
    """What a connection has carried, both ways, in bytes without TCP's headers."""

    all_bytes: int
    """What was sent again counts again."""
    again_bytes: int


def connection_bytes(port: int) -> Carried:
    """Return what the one open connection to a local port has carried.

    Raises `BenchError` unless there is exactly one such connection. Source: `tcpi_bytes_sent`, `tcpi_bytes_received`
    and `tcpi_bytes_retrans` of TCP_INFO, as `ss -i` shows them, the last one only when it is not 0.
    """
    command = ["ss", "--no-header", "--tcp", "--info", "--numeric", "state", "established", "dport", "=", f":{port}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SS_SECONDS_MAX, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise BenchError(f"ss cannot tell what a connection has carried: {error}") from error
    found = {name: re.findall(rf"\b{name}:(\d+)", done.stdout) for name in ("bytes_sent", "bytes_received")}
    if any(len(values) != 1 for values in found.values()):
        raise BenchError(f"there is not one connection to port {port}: {done.stdout.strip() or 'none'}")
    again_bytes = sum(map(int, re.findall(r"\bbytes_retrans:(\d+)", done.stdout)))
    return Carried(sum(int(values[0]) for values in found.values()), again_bytes)


class Network:
    """A network namespace with nothing but a loopback, which counts what the programs in it say to each other."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        """Make it, until the stack ends. Raises `BenchError` where that is not allowed."""
        is_root = os.geteuid() == 0
        script = 'ip link set lo up && echo $$ > "$0" && exec sleep infinity'
        command = ["unshare", *([] if is_root else ["--map-root-user"]), "--net", "sh", "-c", script, "{pidfile}"]
        self._holder = stack.enter_context(Server(command, directory, "network"))
        self._enter = ["nsenter", f"--target={self._holder.pid}", "--net"]
        if not is_root:
            self._enter += ["--user", "--preserve-credentials"]

    def inside(self, command: list[str]) -> list[str]:
        """Return the command that runs `command` in this network, as the same process."""
        return [*self._enter, "--", *command]

    def carried_bytes(self) -> int:
        """Return the bytes that the loopback has carried, both ways, with all headers."""
        for line in Path(f"/proc/{self._holder.pid}/net/dev").read_text().splitlines():
            name, _, counters = line.partition(":")
            if name.strip() == "lo":
                return int(counters.split()[0])
        raise BenchError("the network has no loopback")
