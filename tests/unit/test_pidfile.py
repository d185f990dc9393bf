"""Pid files with real processes."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinsite import pidfile
from twinsite.errors import ConfigurationError, RetryableError
from twinsite.pidfile import AlreadyRunningError, LivingProcess, PidFile, living_pid, living_process

WAIT_SECONDS_MAX = 20.0

HOLDER = """
import signal, sys
from twinsite.pidfile import PidFile
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with PidFile(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


class Holder:
    """A process that holds a pid file until its standard input ends or it is killed."""

    def __init__(self, path: Path, manner: str = "plain") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path), manner], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"held\n"

    def end(self) -> int:
        """Let it end, and return its exit status."""
        self.process.communicate(timeout=WAIT_SECONDS_MAX)
        return self.process.returncode


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    """A process that holds `tmp_path/pid`."""
    made = Holder(tmp_path / "pid")
    yield made
    made.process.kill()
    made.end()


def test_nobody_lives_where_nothing_is(tmp_path: Path) -> None:
    assert living_pid(tmp_path / "pid") is None
    assert living_process(tmp_path / "pid") is None


def test_a_held_file_tells_who_lives(tmp_path: Path, holder: Holder) -> None:
    path = tmp_path / "pid"
    assert living_pid(path) == holder.process.pid
    assert path.read_text() == f"{holder.process.pid}\n"
    with pytest.raises(AlreadyRunningError, match=str(holder.process.pid)) as caught:
        PidFile(path).acquire()
    assert caught.value.pid == holder.process.pid
    assert holder.end() == 0
    assert living_pid(path) is None
    assert path.read_text() == "", "a clean end leaves no number behind"


def test_a_killed_holder_is_dead_whatever_the_file_says(tmp_path: Path, holder: Holder) -> None:
    path = tmp_path / "pid"
    holder.process.kill()
    holder.end()
    assert path.read_text() == f"{holder.process.pid}\n"
    assert living_pid(path) is None
    with PidFile(path):
        assert living_pid(path) == os.getpid()
    assert living_pid(path) is None


def test_acquire_is_not_misled_by_those_who_ask(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    asker = subprocess.Popen(
        [sys.executable, "-c", "import sys; from twinsite.pidfile import *\nwhile True: living_pid(sys.argv[1])", path]
    )
    try:
        for _ in range(200):
            with PidFile(path):
                pass
    finally:
        asker.kill()
        asker.wait(WAIT_SECONDS_MAX)


def test_a_lock_without_a_number_is_told_apart_from_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pidfile, "PID_WRITE_SECONDS_MAX", 0.02)
    path = tmp_path / "pid"
    with PidFile(path):
        os.truncate(path, 0)
        with pytest.raises(RetryableError):
            living_pid(path)


def test_terminate_is_polite_first(tmp_path: Path, holder: Holder) -> None:
    process = living_process(tmp_path / "pid")
    assert process is not None
    with process:
        assert process.terminate(WAIT_SECONDS_MAX)
        process.send_signal(signal.SIGTERM)  # To a process that has ended: harmless.
    holder.process.wait(WAIT_SECONDS_MAX)
    assert holder.process.returncode == -signal.SIGTERM


def test_terminate_kills_what_does_not_listen(tmp_path: Path) -> None:
    holder = Holder(tmp_path / "pid", "stubborn")
    with LivingProcess(holder.process.pid) as process:
        assert process.terminate(0.05)
    assert holder.end() == -signal.SIGKILL


async def test_the_end_is_awaited_without_polling(tmp_path: Path, holder: Holder) -> None:
    with LivingProcess(holder.process.pid) as process:
        assert not process.wait(0)
        holder.process.kill()
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await process.wait_ended()


def test_a_disk_without_space_is_told_and_the_lock_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_fd: int, _data: bytes, _offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", refuse)
        with pytest.raises(ConfigurationError, match=r"a\.pid cannot be written: No space left on device; mend that"):
            PidFile(tmp_path / "a.pid").acquire()
    with PidFile(tmp_path / "a.pid"):
        assert living_pid(tmp_path / "a.pid") == os.getpid()


def test_release_is_idempotent(tmp_path: Path) -> None:
    held = PidFile(tmp_path / "pid")
    held.acquire()
    held.release()
    held.release()
    held.acquire()
    held.release()
