"""Real worker processes without a node: start one, give it specs, wait for a status."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from tests.support.arbiter_server import TOKEN, ArbiterServer
from tests.support.link import Link, Way
from twinsite.core.limits import MIB
from twinsite.messages import (
    MemberSpec,
    Mode,
    Replication,
    Role,
    StorePlace,
    WorkerSpec,
    WorkerStatus,
    from_wire,
    to_wire,
)
from twinsite.stores.opening import create_file_store

WAIT_SECONDS = 90.0
"""Longest wait for any one thing; a test that needs it has failed."""

COPIED_BYTES = 32 * MIB
"""What `copy_some` lets through."""


class WorkerProcess:
    """One worker process and a connection to its control socket."""

    module: tuple[str, ...] = ("twinsite.worker",)
    """What Python runs, and arguments of its own that come first."""

    def __init__(self, worker_id: str, directory: Path) -> None:
        self.id = worker_id
        self.directory = directory
        self.run_dir = directory / "w"
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.status: WorkerStatus | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._received = b""

    @property
    def pid(self) -> int:
        """The process's pid."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the process and connect to it."""
        log = (self.directory / "worker.log").open("ab")
        command = [sys.executable, "-W", "error", "-m", *self.module, "--id", self.id]
        command += ["--run-dir", str(self.run_dir), "--state-dir", str(self.directory / "state")]
        self._process = subprocess.Popen(command, stderr=log, stdout=log, start_new_session=True)
        log.close()
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(str(self.run_dir / f"{self.id}.ctl"))
            except OSError:
                sock.close()
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(self.log()) from None
                time.sleep(0.005)
                continue
            self._socket, self._received, self.status = sock, b"", None
            return

    def send(self, spec: WorkerSpec) -> None:
        """Give the worker a spec."""
        assert self._socket is not None
        self._socket.sendall(json.dumps(to_wire(spec)).encode() + b"\n")

    def wait(
        self, wanted: Callable[[WorkerStatus], bool], what: str, seconds_max: float = WAIT_SECONDS
    ) -> WorkerStatus:
        """Read statuses until one is as wanted."""
        assert self._socket is not None
        deadline = time.monotonic() + seconds_max
        while self.status is None or not wanted(self.status):
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                chunk = self._socket.recv(65536)
            except TimeoutError:
                chunk = b""
            if not chunk:
                raise AssertionError(f"{self.id} did not become {what}: {self.status}\n{self.log()}")
            *lines, self._received = (self._received + chunk).split(b"\n")
            for line in lines:
                self.status = from_wire(WorkerStatus, json.loads(line))
                if wanted(self.status):
                    break
        return self.status

    def kill(self) -> None:
        """End the process at once, as a crash does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the process cleanly and check that it was."""
        code = self._end(signal.SIGTERM)
        assert code == 0, f"exit code {code}\n{self.log()}"

    def log(self) -> str:
        """The end of what it has logged."""
        with contextlib.suppress(FileNotFoundError):
            return (self.directory / "worker.log").read_text()[-4000:]
        return ""

    def signal(self, number: int) -> None:
        """Send the process a signal (SIGSTOP makes a silent peer)."""
        os.kill(self.pid, number)

    def _end(self, number: int) -> int:
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(number)
            if number == signal.SIGKILL:
                self._process.send_signal(signal.SIGCONT)
        code = self._process.wait(WAIT_SECONDS)
        if self._socket is not None:
            self._socket.close()
        self._process, self._socket, self.status = None, None, None
        return code

    def __enter__(self) -> WorkerProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


class WorkerPair:
    """A primary and a secondary worker of one group with file volumes, and the specs that drive them."""

    def __init__(self, directory: Path, sizes_bytes: Sequence[int]) -> None:
        self.group_id = "11111111-2222-4333-8444-555555555555"
        self.sizes_bytes = list(sizes_bytes)
        self.removed: set[int] = set()  # Members that left the group.
        self.places: dict[tuple[str, int], StorePlace] = {}  # By site and member, where it is no file of its site.
        self.directory = directory
        self.primary = WorkerProcess(self.group_id, directory / "az1")
        self.secondary = WorkerProcess(self.group_id, directory / "az2")
        self.arbiter = ArbiterServer()
        self._version = 0
        self._newest: dict[str, WorkerSpec] = {}  # By site.
        for index in range(len(self.sizes_bytes)):
            self._create(index)

    def add(self, size_bytes: int) -> int:
        """Make one more member, which the next specs name; return its index."""
        self.sizes_bytes.append(size_bytes)
        self._create(len(self.sizes_bytes) - 1)
        return len(self.sizes_bytes) - 1

    def _create(self, index: int) -> None:
        for site in ("az1", "az2"):
            (self.directory / site).mkdir(parents=True, exist_ok=True)
            create_file_store(str(self.path(site, index)), self.sizes_bytes[index])

    @property
    def version(self) -> int:
        """The version of the newest spec."""
        return self._version

    def path(self, site: str, index: int) -> Path:
        """The backing file of a member at a site."""
        return self.directory / site / f"{index}.raw"

    def worker(self, site: str) -> WorkerProcess:
        """The worker at a site, whatever its role."""
        return self.primary if site == "az1" else self.secondary

    def uri(self, index: int, site: str = "az1") -> str:
        """The NBD URI of a volume where its site is primary."""
        return f"nbd+unix:///{self.volume_id(index)}?socket={self.directory}/{site}/{index}.sock"

    def volume_id(self, index: int) -> str:
        """The id of a production volume."""
        return f"00000000-0000-4000-8000-{index:012d}"

    def spec(
        self, role: Role, replication: Replication, endpoint: str | None = None, site: str | None = None
    ) -> WorkerSpec:
        """A spec of the pair, newer than every one before it; az1 is primary unless a site is named."""
        self._version += 1
        site = site or ("az1" if role is not Role.SECONDARY else "az2")
        members = [
            MemberSpec(
                index=index,
                volume_id=self.volume_id(index),
                size_bytes=size_bytes,
                store=self.places.get((site, index)) or StorePlace("file", str(self.path(site, index))),
                nbd_socket=None if role is Role.SECONDARY else f"{self.directory}/{site}/{index}.sock",
            )
            for index, size_bytes in enumerate(self.sizes_bytes)
            if index not in self.removed
        ]
        spec = self._newest[site] = WorkerSpec(
            id=self.group_id,
            version=self._version,
            role=role,
            term=self.arbiter.row.term,
            replication=replication,
            members=members,
            site=site,
            arbiter_url=self.arbiter.url,
            arbiter_token=TOKEN,
            stream_key="ab" * 32,
            stream_listen="127.0.0.1:0",
            peer_endpoint=endpoint,
        )
        return spec

    def repeat(self, site: str) -> WorkerSpec:
        """Tell a site's worker once more what it was told last: a status by this spec is no old one."""
        self._version += 1
        spec = self._newest[site] = replace(self._newest[site], version=self._version)
        self.worker(site).send(spec)
        return spec

    def start(self) -> None:
        """Start both, paused, and wait until the volumes are served."""
        self.secondary.start()
        self.start_primary()
        self.follow()

    def start_primary(self) -> None:
        """Start the primary, paused."""
        self.primary.start()
        spec = self.spec(Role.PRIMARY, Replication.PAUSED)
        self.primary.send(spec)
        self.primary.wait(
            lambda s: s.spec_version == spec.version and all(member.serving for member in s.members), "ready"
        )

    def follow(self) -> str:
        """Tell the secondary what it is; return its endpoint."""
        spec = self.spec(Role.SECONDARY, Replication.RUNNING)
        self.secondary.send(spec)
        status = self.secondary.wait(lambda s: s.spec_version == spec.version, "listening")
        assert status.stream_endpoint is not None
        return status.stream_endpoint

    def synchronize(self, *, wait: bool = True, seconds_max: float = WAIT_SECONDS, link: Link | None = None) -> None:
        """What the founding action does: replicate, by a link if one is named, and wait until the group is in sync."""
        endpoint = self.follow()
        if link is not None:
            link.target = endpoint
            endpoint = link.endpoint
        if wait:
            self.replicate(endpoint, seconds_max)
        else:
            self.primary.send(self.spec(Role.PRIMARY, Replication.RUNNING, endpoint))

    def replicate(self, endpoint: str, seconds_max: float = WAIT_SECONDS) -> None:
        """Replicate to a secondary that follows, and wait until the group is in sync."""
        spec = self.spec(Role.PRIMARY, Replication.RUNNING, endpoint)
        self.primary.send(spec)
        self.primary.wait(lambda s: s.spec_version == spec.version and s.mode is Mode.IN_SYNC, "in sync", seconds_max)

    def copy_some(self, link: Link) -> None:
        """Begin a full synchronization by a link that lets only its first part through, and wait for some of that."""
        link.stall_after(Way.OUT, COPIED_BYTES)
        self.synchronize(wait=False, link=link)
        self.primary.wait(lambda s: s.resync is not None and s.resync.bytes_done > 0, "copying")

    def pause(self) -> WorkerStatus:
        """Stop the replication and wait until that is in force."""
        spec = self.spec(Role.PRIMARY, Replication.PAUSED)
        self.primary.send(spec)
        return self.primary.wait(lambda s: s.spec_version == spec.version and s.mode is Mode.PAUSED, "paused")

    def close(self) -> None:
        """End both processes, however they are."""
        self.primary.kill()
        self.secondary.kill()
        self.arbiter.close()
