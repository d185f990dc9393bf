"""A Twinsite of its own for the demo: `twinsite up` on a temporary directory, and nothing left of it afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from twinsite.core.limits import GIB
from twinsite.demo.errors import DemoFailed
from twinsite.errors import RetryableError
from twinsite.pidfile import living_process

DIRECTORY_LENGTH_MAX = 24
"""Longest temporary directory that leaves room for the paths of Unix sockets below it."""
FREE_BYTES_MIN = 1 * GIB
"""What the disks, their twins and the images need, with room."""
READY_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 40.0
"""Longer than `up` takes at worst to end all its parts."""
LEFTOVER_SECONDS_MAX = 10.0
LOG_LINES = 12
"""Lines that the tail of each log shows after a failure."""

_READY_LINE = re.compile(rb"^twinsite is ready: (http://\S+)")


@contextlib.contextmanager
def temporary_directory() -> Iterator[Path]:
    """Yield a new directory with a short path and enough room, and remove it afterwards. Raises `DemoFailed`."""
    parent = tempfile.gettempdir()
    if len(os.fsencode(parent)) > DIRECTORY_LENGTH_MAX:
        parent = "/tmp"
    free_bytes = shutil.disk_usage(parent).free
    if free_bytes < FREE_BYTES_MIN:
        raise DemoFailed(
            f"{parent} has {free_bytes // 2**20} MiB free and the demo needs {FREE_BYTES_MIN // 2**20} MiB; "
            "free some, or set TMPDIR to a directory with a short path elsewhere"
        )
    directory = Path(tempfile.mkdtemp(prefix="twinsite-demo-", dir=parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class Installation:
    """`twinsite up` as a process, from `start` to `stop`. Its data lie in `data_dir`."""

    def __init__(self, directory: Path) -> None:
        """Use `directory`, which exists and is empty."""
        self.data_dir = directory / "data"
        self.url = ""
        self._log_path = directory / "up.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Return the installation itself; `start` is called apart."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything."""
        self.stop()

    def start(self) -> None:
        """Start everything and wait for the ready line. Raises `DemoFailed` when it does not come."""
        command = [sys.executable, "-m", "twinsite.cli.main", "up", "--data", str(self.data_dir), "--port", "0"]
        with self._log_path.open("wb") as log:
            # A session of its own: Ctrl-C reaches the demo alone, which then stops the parts in good order.
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, start_new_session=True)
        self.url = self._read_ready_line(self._process)

    def pool_file(self, site: str, volume_id: str) -> Path:
        """Return the file that holds a volume's bytes at a site."""
        return self.data_dir / site / "pool" / f"{volume_id}.raw"

    def stop(self) -> int:
        """End everything that is still running; return how many processes had to be ended one by one. Idempotent."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None
        return self._end_leftovers()

    def running_parts(self) -> list[str]:
        """Return the names of the parts that run, as their pid files tell."""
        names = []
        for path in sorted(self.data_dir.rglob("*.pid")):
            with contextlib.suppress(RetryableError):
                process = living_process(path)
                if process is not None:
                    process.close()
                    names.append(str(path.relative_to(self.data_dir).with_suffix("")))
        return names

    def log_tails(self) -> str:
        """Return the ends of all logs that have something in them."""
        tails = []
        for path in [self._log_path, *sorted(self.data_dir.rglob("*.log"))]:
            with contextlib.suppress(OSError):
                lines = path.read_text(errors="replace").splitlines()[-LOG_LINES:]
                if lines:
                    tails.append("\n".join([f"── {path} ──", *lines]))
        return "\n".join(tails)

    def _read_ready_line(self, process: subprocess.Popen[bytes]) -> str:
        assert process.stdout is not None
        fd = process.stdout.fileno()
        give_up_at = time.monotonic() + READY_SECONDS_MAX
        received = b""
        while (left := give_up_at - time.monotonic()) > 0:
            readable, _, _ = select.select([fd], [], [], left)
            chunk = os.read(fd, 4096) if readable else b""
            received += chunk
            for line in received.splitlines(keepends=True):
                found = _READY_LINE.match(line)
                if found and line.endswith(b"\n"):
                    return found.group(1).decode()
            if readable and not chunk:
                raise DemoFailed("'twinsite up' ended before it was ready")
        raise DemoFailed(f"'twinsite up' was not ready after {READY_SECONDS_MAX:.0f} seconds")

    def _end_leftovers(self) -> int:
        """End what `up` itself could not; a process that runs is known by the lock on its pid file."""
        ended = 0
        for path in self.data_dir.rglob("*.pid"):
            with contextlib.suppress(RetryableError):
                process = living_process(path)
                if process is not None:
                    with process:
                        process.terminate(LEFTOVER_SECONDS_MAX)
                    ended += 1
        return ended
