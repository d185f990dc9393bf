"""A volume as a block device with a file system on it, as a host without an NBD driver in its kernel attaches it.

`qemu-storage-daemon` offers the NBD export as a file through FUSE, a loop device makes a block device of the file. Each
flush of the file system becomes one of the loop device, an fsync of the FUSE file, and a flush of the export. Reads and
writes go through the page cache of the FUSE file, so a disk that moved to the other site must be attached anew.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.installation import wait_for

COMMAND_SECONDS_MAX = 120.0
DIRECTORY_MODE = 0o755
"""Others than root work in the mounted file system."""


class AttachedDisk:
    """Attaches at once; `format` it the first time, then `mount` and `unmount`. Use as a context manager."""

    def __init__(self, uri: str) -> None:
        """`uri` is one for a Unix socket."""
        require_tools()
        self.directory = Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp"))
        self.directory.chmod(DIRECTORY_MODE)
        self.path = self.directory / "mounted"
        self.path.mkdir()
        self.device = ""
        self._daemon: subprocess.Popen[bytes] | None = None
        try:
            self._attach(uri)
        except BaseException:
            self.close()
            raise

    def format(self) -> None:
        """Make an ext4 file system."""
        run("mkfs.ext4", "-q", self.device)

    def mount(self, options: str = "defaults") -> None:
        """Mount the file system; ext4 replays its journal."""
        run("mount", "-t", "ext4", "-o", options, self.device, str(self.path))

    def unmount(self) -> None:
        """Unmount the file system."""
        run("umount", str(self.path))

    def check(self) -> None:
        """Check the unmounted file system without repairing anything; fails when there is anything to repair."""
        run("fsck.ext4", "-f", "-n", self.device)

    def close(self) -> None:
        """Detach everything, whatever state it is in, a dead export included."""
        _try("umount", "--lazy", str(self.path))
        if self.device:
            _try("losetup", "--detach", self.device)
        self._end_daemon()
        _try("umount", "--lazy", str(self.directory / "disk"))
        shutil.rmtree(self.directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _attach(self, uri: str) -> None:
        parts = urlsplit(uri)
        file = self.directory / "disk"
        file.touch()
        server = {"type": "unix", "path": parse_qs(parts.query)["socket"][0]}
        disk = {"driver": "nbd", "node-name": "disk", "export": parts.path[1:], "server": server}
        export = {"type": "fuse", "id": "file", "node-name": "disk", "mountpoint": str(file), "writable": True}
        daemon = ["qemu-storage-daemon", "--blockdev", json.dumps(disk), "--export", json.dumps(export)]
        ready = self.directory / "ready"  # It writes its pid there once it offers the file.
        self._daemon = subprocess.Popen([*daemon, "--pidfile", str(ready)])
        wait_for(lambda: self._is_ready(ready), "qemu-storage-daemon")
        self.device = run("losetup", "--find", "--show", str(file)).strip()

    def _is_ready(self, path: Path) -> bool:
        assert self._daemon is not None
        assert self._daemon.poll() is None, "qemu-storage-daemon ended at its start"
        return path.exists()

    def _end_daemon(self) -> None:
        if self._daemon is not None:
            self._daemon.terminate()
            self._daemon.wait(COMMAND_SECONDS_MAX)


def require_tools() -> None:
    """Skip the test where disks cannot be attached in this way."""
    if os.geteuid() != 0:
        pytest.skip("loop devices and mounting need root")
    if not Path("/dev/fuse").exists():
        pytest.skip("this machine has no /dev/fuse")
    for tool in ("qemu-storage-daemon", "losetup", "mkfs.ext4", "fsck.ext4"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed; scripts/setup-test-packages installs it")


def run(*command: str) -> str:
    """Run a system command and return what it printed; its words are in the error of one that fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX)
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def _try(*command: str) -> None:
    subprocess.run(command, check=False, capture_output=True, timeout=COMMAND_SECONDS_MAX)
