"""Processes that the bench starts: each is ended by whoever started it, and counted by the CPU time it took."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bench.errors import BenchError
from twinsite.core.limits import KIB

START_SECONDS_MAX = 20.0
"""Longest wait for a server to say that it is ready."""
STOP_SECONDS_MAX = 20.0
"""Longest wait for a killed process to be gone: it may be in the middle of a disk write."""
POLL_SECONDS = 0.01

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """A peer's server process. It is ready when it has written its pid file."""

    def __init__(self, command: Sequence[str], directory: Path, name: str) -> None:
        """Prepare to run `command`, which must contain `{pidfile}`; its output goes to `<name>.log` in `directory`."""
        self._pid_path = directory / f"{name}.pid"
        self._log_path = directory / f"{name}.log"
        self._command = [part.replace("{pidfile}", str(self._pid_path)) for part in command]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Return the process's pid."""
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """Return the end of what it has said."""
        with contextlib.suppress(FileNotFoundError):
            return self._log_path.read_text(errors="replace")[-2000:]
        return ""

    def __enter__(self) -> Server:
        """Start it and wait until it is ready. Raises `BenchError`."""
        self._pid_path.unlink(missing_ok=True)
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS_MAX
        try:
            while not (self._pid_path.exists() and self._pid_path.stat().st_size):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise BenchError(f"{self._command[0]} did not start: {self.log().strip() or 'no output'}")
                time.sleep(POLL_SECONDS)
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_SECONDS_MAX)


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has run: its output, and the time it took."""

    output: str
    seconds: float
    cpu_seconds: float


def run(command: Sequence[str], output_path: Path, seconds_max: float) -> Finished:
    """Run a command to its end. Raises `BenchError` when it fails or takes longer than `seconds_max`.

    Its standard output goes to `output_path` and comes back in the result; so does what it says in an error.
    """
    with output_path.open("wb") as output, output_path.with_suffix(".err").open("w+b") as errors:
        begun = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True
        )
        try:
            # wait4 rather than wait: it is what tells the CPU time of one child.
            code, cpu_seconds = _wait(process, begun + seconds_max)
        except BaseException:
            _kill_session(process)
            process.wait(STOP_SECONDS_MAX)
            raise
        seconds = time.perf_counter() - begun
        errors.seek(0)
        complaint = errors.read().decode(errors="replace").strip()
    if code != 0:
        _kill_session(process)
        raise BenchError(f"{command[0]} ended with {code}: {complaint[-1000:] or output_path.read_text()[-1000:]}")
    return Finished(output_path.read_text(errors="replace"), seconds, cpu_seconds)


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill a command and what it has started: of a pipeline that fails, the other end may wait for ever."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _wait(process: subprocess.Popen[bytes], deadline: float) -> tuple[int, float]:
    descriptor = os.pidfd_open(process.pid)
    try:
        is_over, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.perf_counter()))
        if not is_over:
            raise BenchError(f"{process.args!r} takes too long")
    finally:
        os.close(descriptor)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time, user and system, that the processes have taken so far, all their threads included."""
    ticks = 0
    for pid in pids:
        # The name in parentheses may contain anything; the numbers follow the last one (proc(5), /proc/[pid]/stat).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _CLOCK_TICKS


def memory_bytes(pid: int) -> dict[str, int]:
    """Return a process's resident memory: `Rss`, and `Pss`, where a shared page counts in parts (proc(5))."""
    sizes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, amount, *_ = line.split()
        sizes[name.rstrip(":")] = int(amount) * 1024
    return sizes


def wait_listening(server: Server, port: int) -> None:
    """Wait until somebody in the server's network listens on a TCP port over IPv4. Raises `BenchError`."""
    deadline = time.monotonic() + START_SECONDS_MAX
    wanted = f":{port:04X} 00000000:0000 0A "  # Local port, no peer, LISTEN (proc(5), /proc/net/tcp).
    while wanted not in Path(f"/proc/{server.pid}/net/tcp").read_text():
        if time.monotonic() > deadline:
            raise BenchError(f"nobody came to listen on port {port}: {server.log().strip() or 'no output'}")
        time.sleep(POLL_SECONDS)


def forget_memory_peaks(pids: Iterable[int]) -> None:
    """Make the kernel count each process's peak of resident memory anew (proc(5), /proc/[pid]/clear_refs)."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def memory_peak_bytes(pids: Iterable[int]) -> int:
    """Return the sum of the processes' peaks of resident memory (VmHWM). Raises `BenchError` when one has ended."""
    total_kib = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
        if not peaks:
            raise BenchError(f"the process {pid} has ended")
        total_kib += peaks[0]
    return total_kib * KIB


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on at this moment, for servers that must be told one."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class LeftoverSweep:
    """Kills, at its end, every child of this process that was not there at its start.

    Each process has an owner that ends it. This is for the interrupt that arrives between a fork and the moment when
    the owner knows the pid.
    """

    def __enter__(self) -> LeftoverSweep:
        self._before = _children()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in _children() - self._before:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _children() -> set[int]:
    own = os.getpid()
    children = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == own:
                    children.add(int(entry.name))
    return children
