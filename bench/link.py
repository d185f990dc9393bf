"""A link with delay and rate between two ends on this machine, and what a plain TCP sender gets out of it."""

from __future__ import annotations

import select
import socket
import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass

from bench.errors import BenchError
from bench.processes import START_SECONDS_MAX, STOP_SECONDS_MAX

SEND_BYTES = 256 * 1024
PROBES = 20
PLAIN_SECONDS_MAX = 10.0
"""Longest wait for any one send or receive."""


@dataclass(frozen=True, slots=True)
class LaidLink:
    """A link that carries connections from its near end, `endpoint` (host:port)."""

    endpoint: str
    process: subprocess.Popen[str]

    def cut(self) -> None:
        """Break every connection, and let no new one through. Raises `BenchError`."""
        self._order("cut")

    def restore(self) -> None:
        """Let connections through again. Raises `BenchError`."""
        self._order("restore")

    def _order(self, order: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{order}\n")
            self.process.stdin.flush()
        except OSError as error:
            raise BenchError(f"the delaying proxy has ended: {error}") from error
        answer = _said(self.process)
        if answer != order:
            raise BenchError(f"the delaying proxy did not {order}: {answer!r}")


@dataclass(frozen=True, slots=True)
class Link:
    """A link's properties. `round_trip_seconds` is what it adds to the loopback's, half of it each way."""

    round_trip_seconds: float
    bytes_per_second: float

    def start(self, stack: ExitStack, endpoint: str) -> LaidLink:
        """Lay the link to `endpoint` (host:port) until the stack ends. Raises `BenchError`."""
        host, _, port = endpoint.rpartition(":")
        command = [sys.executable, "-m", "bench.delaying_proxy", host, port]
        command += [str(self.round_trip_seconds * 1000 / 2), str(self.bytes_per_second)]
        # In a session of its own, so that an interrupt at the terminal lets it carry what must still end.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        stack.callback(_end, process)
        line = _said(process)
        if not line.isdecimal():
            raise BenchError(f"the delaying proxy did not start: {line!r}")
        return LaidLink(f"127.0.0.1:{int(line)}", process)

    def writes_per_second_max(self, block_bytes: int, queue_depth: int) -> float:
        """Return what the link allows: its rate, or as many writes a round trip as may be in flight."""
        return min(self.bytes_per_second / block_bytes, queue_depth / self.round_trip_seconds)


def plain_tcp(link: Link, seconds: float) -> tuple[float, float]:
    """Return a byte's median round trip in seconds, and a plain TCP sender's bytes a second. Raises `BenchError`."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(PLAIN_SECONDS_MAX)
        laid = link.start(stack, f"127.0.0.1:{listener.getsockname()[1]}")
        host, _, port = laid.endpoint.rpartition(":")
        try:
            sender = stack.enter_context(socket.create_connection((host, int(port)), PLAIN_SECONDS_MAX))
            receiver = stack.enter_context(listener.accept()[0])
            for sock in (sender, receiver):
                sock.settimeout(PLAIN_SECONDS_MAX)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return _round_trip(sender, receiver), _rate(sender, receiver, seconds)
        except OSError as error:
            raise BenchError(f"plain TCP through the link: {error}") from error


def _round_trip(sender: socket.socket, receiver: socket.socket) -> float:
    times = []
    for _ in range(PROBES):
        begun = time.perf_counter()
        sender.sendall(b"?")
        receiver.sendall(receiver.recv(1))
        sender.recv(1)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def _rate(sender: socket.socket, receiver: socket.socket, seconds: float) -> float:
    """Return received bytes a second, from the first that arrive to the last."""
    received = 0
    first = last = 0.0

    def receive() -> None:
        nonlocal received, first, last
        buffer = bytearray(SEND_BYTES)
        first = last = time.perf_counter() if receiver.recv_into(buffer) else 0.0
        while count := receiver.recv_into(buffer):
            received += count
            last = time.perf_counter()

    thread = threading.Thread(target=receive)
    thread.start()
    try:
        chunk = bytes(SEND_BYTES)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            sender.sendall(chunk)
    finally:
        sender.shutdown(socket.SHUT_WR)
        thread.join(PLAIN_SECONDS_MAX)
    if thread.is_alive() or last <= first:
        raise BenchError("plain TCP through the link: nothing arrived, or too late")
    return received / (last - first)


def _said(process: subprocess.Popen[str]) -> str:
    """Return the next line that the proxy says, or nothing when it ended or takes too long."""
    assert process.stdout is not None
    is_ready, _, _ = select.select([process.stdout], [], [], START_SECONDS_MAX)
    return process.stdout.readline().strip() if is_ready else ""


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(STOP_SECONDS_MAX)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
