"""Pid files: who is alive, told by a lock and not by a number.

A process holds an exclusive `flock` on its pid file for life; the kernel drops the lock with the process, however it
ends. So a held lock means alive, and a pid that was handed to a stranger after a crash cannot mislead anyone. Signals
go through a pidfd, which keeps meaning the same process after its pid was handed on.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import select
import signal
import time
from pathlib import Path
from types import TracebackType

from twinsite.errors import ConfigurationError, RetryableError

ACQUIRE_SECONDS_MAX = 0.5
"""A lock that is held for longer belongs to a living process and not to someone who was asking."""
PID_WRITE_SECONDS_MAX = 1.0
"""Between taking the lock and writing its pid a process needs two system calls; longer is an error."""
POLL_SECONDS = 0.005


class AlreadyRunningError(ConfigurationError):
    """Another living process holds the pid file; `pid` is its number, if it has written it."""

    def __init__(self, path: Path, pid: int | None) -> None:
        self.pid = pid
        super().__init__(f"process {pid or 'unknown'} is already running: it holds {path}; stop it first")


class PidFile:
    """The pid file of this process. Use as a context manager, or `acquire` and `release`."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._fd = -1

    def acquire(self) -> None:
        """Take the lock and write this process's pid. Raises `AlreadyRunningError` when another process holds it.

        A disk without space for the number raises `ConfigurationError`.
        """
        assert self._fd < 0, "the pid file is already held"
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + ACQUIRE_SECONDS_MAX
        while not _try_lock(fd, fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                pid = _read_pid(fd)
                os.close(fd)
                raise AlreadyRunningError(self.path, pid)
            time.sleep(POLL_SECONDS)
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(fd)
            text = f"{self.path} cannot be written: {error.strerror}; mend that, and start again"
            raise ConfigurationError(text) from error
        self._fd = fd

    def release(self) -> None:
        """Empty the file and drop the lock. Idempotent.

        The file stays: removing it would let one process lock the removed file and another a new one of its name.
        """
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> PidFile:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class LivingProcess:
    """A handle on the process that holds a pid file, or on any process by its pid. Close it after use."""

    def __init__(self, pid: int) -> None:
        """Open the handle. Raises `ProcessLookupError` when there is no such process."""
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; a process that has ended meanwhile is not an error."""
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return

    def wait(self, seconds_max: float) -> bool:
        """Block until the process has ended or the time is over; return whether it has ended."""
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        return bool(poller.poll(seconds_max * 1000))

    async def wait_ended(self) -> None:
        """Wait until the process has ended, without blocking the event loop. Only one waiter a handle."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._pidfd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._pidfd)

    def terminate(self, seconds_max: float, kill_seconds_max: float = 5.0) -> bool:
        """Send SIGTERM, after `seconds_max` SIGKILL, and wait for the end; return whether it has ended."""
        self.send_signal(signal.SIGTERM)
        if self.wait(seconds_max):
            return True
        self.send_signal(signal.SIGKILL)
        return self.wait(kill_seconds_max)

    def close(self) -> None:
        """Give the handle back. Idempotent; does nothing to the process."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def __enter__(self) -> LivingProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def living_pid(path: Path | str) -> int | None:
    """Return the pid of the process that holds the pid file at `path`, or None when nobody is alive.

    Raises `RetryableError` when the lock is held and no pid appears in the file within `PID_WRITE_SECONDS_MAX`.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        deadline = time.monotonic() + PID_WRITE_SECONDS_MAX
        # A shared lock, so that two who ask at the same time do not take each other for the living process.
        while not _try_lock(fd, fcntl.LOCK_SH):
            pid = _read_pid(fd)
            if pid is not None:
                return pid
            if time.monotonic() >= deadline:
                raise RetryableError(f"a process holds {path} but has not written its pid; ask again")
            time.sleep(POLL_SECONDS)
        return None
    finally:
        os.close(fd)


def living_process(path: Path | str) -> LivingProcess | None:
    """Return a handle on the process that holds the pid file at `path`, or None when nobody is alive."""
    pid = living_pid(path)
    if pid is None:
        return None
    try:
        process = LivingProcess(pid)
    except ProcessLookupError:
        return None
    # The pid may have been handed to a stranger between reading it and opening the handle.
    if living_pid(path) != pid:
        process.close()
        return None
    return process


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _read_pid(fd: int) -> int | None:
    text = os.pread(fd, 32, 0)
    return int(text) if text.endswith(b"\n") and text.strip().isdigit() else None
