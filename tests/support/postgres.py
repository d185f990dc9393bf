"""A real PostgreSQL on two disks, its clients, and what they were told."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.support.attached_disk import AttachedDisk
from tests.support.installation import wait_for
from twinsite.pidfile import LivingProcess

SECONDS_MAX = 120.0
USER = "postgres"
SETTINGS = {
    "listen_addresses": "",
    # Checkpoints under load, so that at any moment both disks change and recovery needs what each of them holds.
    "max_wal_size": "32MB",
    "checkpoint_timeout": "30s",
    "log_min_messages": "warning",
    "restart_after_crash": "off",
}
COMMITTED = "INSERT 0 1"


class Postgres:
    """A database cluster whose data lie on one disk and whose WAL lies on another. Both are mounted before."""

    def __init__(self, data: AttachedDisk, wal: AttachedDisk) -> None:
        self._programs = programs()
        self._data_dir = data.path / "data"
        self._wal_dir = wal.path / "wal"
        self._disks = (data, wal)
        self.socket_dir = Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp"))
        shutil.chown(self.socket_dir, USER)
        self._server: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """Make the cluster, with checksums on every page of data."""
        for disk in self._disks:
            shutil.chown(disk.path, USER)
        where = ["-D", str(self._data_dir), "--waldir", str(self._wal_dir)]
        self.run("initdb", *where, "--auth=trust", "--data-checksums", "--no-instructions", "--locale=C")

    def start(self) -> None:
        """Start the server and wait until it answers; it recovers first if it has to."""
        # The disks may be mounted elsewhere than when the cluster was made.
        link = self._data_dir / "pg_wal"
        link.unlink()
        link.symlink_to(self._wal_dir)
        options = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        command = [str(self._programs / "postgres"), "-D", str(self._data_dir), "-k", str(self.socket_dir), *options]
        with (self.socket_dir / "log").open("ab") as log:
            self._server = subprocess.Popen(command, user=USER, group=USER, extra_groups=[], stdout=log, stderr=log)
        wait_for(self._is_answering, lambda: f"an answering PostgreSQL: {self.log()}")

    def stop(self) -> None:
        """End the server in order."""
        assert self._server is not None
        self._server.send_signal(signal.SIGINT)
        assert self._server.wait(SECONDS_MAX) == 0, self.log()
        self._server = None

    def kill(self) -> None:
        """End the server and all of its processes, as the loss of its machine does."""
        if self._server is None:
            return
        # Each process leads a group of its own, and only a server that stands still starts no further ones.
        self._server.send_signal(signal.SIGSTOP)
        found = ["pgrep", "--parent", str(self._server.pid)]
        children = subprocess.run(found, capture_output=True, text=True, timeout=SECONDS_MAX, check=False).stdout
        for pid in map(int, children.split()):
            with contextlib.suppress(ProcessLookupError), LivingProcess(pid) as process:
                process.send_signal(signal.SIGKILL)
                assert process.wait(SECONDS_MAX), f"process {pid} of PostgreSQL does not end"
        self._server.kill()
        self._server.wait(SECONDS_MAX)
        self._server = None

    def check_pages(self) -> None:
        """Check the checksum of every page of the data, with the server stopped."""
        self.run("pg_checksums", "--check", "-D", str(self._data_dir))

    def _is_answering(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, f"PostgreSQL ended: {self.log()}"
        command = self.command("pg_isready", "-q", *self.where())
        return subprocess.run(command, timeout=SECONDS_MAX, check=False).returncode == 0

    def query(self, text: str) -> str:
        """Run a statement and return what it printed, without decoration."""
        return self.run("psql", *self.where(), "-v", "ON_ERROR_STOP=1", "-At", "-c", text).strip()

    def where(self) -> list[str]:
        """The options by which clients find the server."""
        return ["-h", str(self.socket_dir), "-U", USER]

    def command(self, program: str, *arguments: str) -> list[str]:
        """The command line of one of PostgreSQL's programs."""
        return [str(self._programs / program), *arguments]

    def run(self, program: str, *arguments: str) -> str:
        """Run one of PostgreSQL's programs as its user; return what it printed."""
        done = subprocess.run(
            self.command(program, *arguments),
            user=USER,
            group=USER,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}\n{self.log()}"
        return done.stdout

    def log(self) -> str:
        """The end of what the server has logged."""
        path = self.socket_dir / "log"
        return path.read_text()[-4000:] if path.exists() else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.socket_dir)


class CommittingClient:
    """Commits one number after the other, each after the answer for the one before, until its server is gone."""

    def __init__(self, server: Postgres, name: int) -> None:
        """The table is `committed (client int, number int)`."""
        self.name = name
        self.committed = 0
        """The last number whose commit was answered."""
        self._progress = threading.Condition()
        command = server.command("psql", *server.where(), "-X", "-q", "-v", "QUIET=off")
        self._psql = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait_for(self, number: int) -> None:
        """Wait until the commit of this number was answered."""
        with self._progress:
            enough = self._progress.wait_for(lambda: self.committed >= number, SECONDS_MAX)
        assert enough, f"client {self.name}: nothing was committed after {self.committed}"

    def end(self) -> None:
        """End the client's process and wait until what it was told is known."""
        self._psql.kill()
        self._thread.join(SECONDS_MAX)
        assert not self._thread.is_alive()
        self._psql.wait(SECONDS_MAX)

    def _run(self) -> None:
        assert self._psql.stdin is not None
        assert self._psql.stdout is not None
        with self._psql.stdin as statements, self._psql.stdout as answers:
            try:
                while True:
                    statements.write(f"INSERT INTO committed VALUES ({self.name}, {self.committed + 1});\n")
                    if answers.readline().strip() != COMMITTED:
                        return
                    with self._progress:
                        self.committed += 1
                        self._progress.notify_all()
            except BrokenPipeError:
                return


def programs() -> Path:
    """Return the directory of the newest PostgreSQL's programs, or skip the test."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.skip("PostgreSQL is not installed; scripts/setup-test-packages installs it")
    return found[-1].parent
