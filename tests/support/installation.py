"""A whole installation for tests: `twinsite up` on a short temporary directory, and its API."""

from __future__ import annotations

import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from twinsite.nbd_client import ConnectionLost, NbdClient
from twinsite.pidfile import LivingProcess, living_pid

READY_SECONDS_MAX = 120.0
WAIT_SECONDS_MAX = 120.0
POLL_SECONDS_MIN = 0.02
POLL_SECONDS_MAX = 0.2
"""Pause before a condition is looked at again; grows between these, since to look takes time from who is waited for."""

QUICK_NOTICE = {"TWINSITE_NODE_SILENCE_SECONDS": "6", "TWINSITE_PRESENCE_SECONDS": "2"}
"""The shipped settings of a controller notice a silent node after 12 seconds; a test need not wait that long."""

READY_LINE = re.compile(
    r"twinsite is ready: (https?://127\.0\.0\.1:\d+)  \(az1, az2; data in (\S+); credentials in (\S+)/clouds\.yaml\)\n"
)
COMMAND = [sys.executable, "-m", "twinsite.cli.services"]


def wait_for(condition: Callable[[], bool], what: str | Callable[[], str]) -> None:
    """Poll until the condition holds, or fail the test after `WAIT_SECONDS_MAX`; `what` may be told at the end only."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    pause = POLL_SECONDS_MIN
    while not condition():
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {WAIT_SECONDS_MAX} seconds for {what if isinstance(what, str) else what()}")
        time.sleep(pause)
        pause = min(1.5 * pause, POLL_SECONDS_MAX)


class Installation:
    """Runs `up`, over and over on one directory. `close` ends and removes everything."""

    def __init__(self, transport: httpx.BaseTransport | None = None, directory: Path | None = None) -> None:
        """`transport` carries the calls of the API where the plain one cannot reach it.

        `directory` is used, and removed at the end, instead of a new one.
        """
        self.directory = directory or Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp"))
        self.process: subprocess.Popen[str] | None = None
        self.url = ""
        self._http = httpx.Client(transport=transport, trust_env=False, timeout=WAIT_SECONDS_MAX)
        self._project = ""

    @property
    def token(self) -> str:
        """Return the token of the last log-in."""
        return str(self._http.headers["X-Auth-Token"])

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of an `up` on this directory."""
        return [*COMMAND, "up", "--data", str(self.directory), "--port", "0", *arguments]

    def launch(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `up` without waiting for it."""
        self.process = subprocess.Popen(
            self.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        return self.process

    def start(self, *arguments: str) -> None:
        """Start `up`, wait for its ready line and log in."""
        process = self.launch(*arguments)
        assert process.stdout is not None
        # A reader that waits too long is ended by ending the process it reads from.
        watchdog = threading.Timer(READY_SECONDS_MAX, process.kill)
        watchdog.start()
        line = process.stdout.readline()
        watchdog.cancel()
        match = READY_LINE.fullmatch(line)
        if match is None:
            _, errors = process.communicate(timeout=WAIT_SECONDS_MAX)
            raise AssertionError(f"no ready line but {line!r}; standard error: {errors}")
        assert match[2] == match[3] == str(self.directory)
        self.log_in(match[1])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """End `up` with a signal; return its exit status and what it had printed since the ready line."""
        process, self.process = self.process, None
        assert process is not None
        process.send_signal(number)
        output, errors = process.communicate(timeout=WAIT_SECONDS_MAX)
        return process.returncode, output, errors

    def close(self) -> None:
        """End everything that has the directory in its command line, and remove the directory."""
        if self.process is not None:
            self.stop(signal.SIGKILL)
        while pids := self.living_pids():  # Again, for what one of them started meanwhile.
            for pid in pids:
                try:
                    with LivingProcess(pid) as process:
                        process.send_signal(signal.SIGKILL)
                        process.wait(WAIT_SECONDS_MAX)
                except ProcessLookupError:
                    continue
        self._http.close()
        shutil.rmtree(self.directory)

    def living_pids(self) -> list[int]:
        """Return the processes, except this one, whose command line names a path in the directory."""
        mark = os.fsencode(self.directory)
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if any(part.startswith(mark) for part in (entry / "cmdline").read_bytes().split(b"\0")):
                        found.append(int(entry.name))
                except (FileNotFoundError, ProcessLookupError):
                    continue
        return found

    def pid(self, part: str) -> int:
        """Return the pid of a living part by the path of its pid file, waiting for it."""
        path = self.directory / part
        wait_for(lambda: living_pid(path) is not None, f"a process that holds {path}")
        pid = living_pid(path)
        assert pid is not None
        return pid

    def worker_pid(self, site: str, worker_id: str) -> int:
        """Return the pid of a living worker, waiting for it."""
        return self.pid(f"{site}/run/w/{worker_id}.pid")

    def call(self, method: str, path: str, body: object = None, *, version: str = "v3") -> Any:
        """Call the API below the project; return the decoded answer."""
        answer = self.raw(method, path, body, version=version)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def raw(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        version: str = "v3",
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Call the API below the project, with other headers if given; return the answer, whatever it is."""
        url = f"{self.url}/{version}/{self._project}{path}"
        return self._http.request(method, url, json=body, headers=headers)

    def create_volume(self, site: str, size_gib: int = 1) -> str:
        """Create a volume, wait until it is available, and return its id."""
        body = {"volume": {"size": size_gib, "availability_zone": site}}
        volume_id = str(self.call("POST", "/volumes", body)["volume"]["id"])
        wait_for(lambda: self.volume(volume_id)["status"] == "available", f"volume {volume_id}")
        return volume_id

    def volume(self, volume_id: str) -> Any:
        """Return a volume as the API shows it."""
        return self.call("GET", f"/volumes/{volume_id}")["volume"]

    def connect(self, volume_id: str) -> str:
        """Attach a host to a volume and return the NBD URI."""
        body = {"os-initialize_connection": {"connector": {"host": "test-host"}}}
        answer = self.call("POST", f"/volumes/{volume_id}/action", body)
        return str(answer["connection_info"]["data"]["uri"])

    def disconnect(self, volume_id: str) -> None:
        """Detach the host from a volume."""
        body = {"os-terminate_connection": {"connector": {"host": "test-host"}}}
        self.call("POST", f"/volumes/{volume_id}/action", body)

    def wait_connected(self) -> None:
        """Wait until the controller hears the nodes of all sites."""
        wait_for(lambda: all(self._http.get(f"{self.url}/healthz").json()["sites"].values()), "all nodes")

    def is_answering(self) -> bool:
        """Tell whether the API answers at all."""
        try:
            self._http.get(self.url)
        except httpx.TransportError:
            return False
        return True

    def log_in(self, url: str) -> None:
        """Use the API at this address as the administrator."""
        self.url = url
        if url.startswith("https://"):
            authority = ssl.create_default_context(cafile=self.directory / "tls/ca.pem")
            self._http.close()
            self._http = httpx.Client(verify=authority, trust_env=False, timeout=WAIT_SECONDS_MAX)
        password = (self.directory / "secrets/admin-password").read_text().strip()
        user = {"name": "admin", "domain": {"name": "Default"}, "password": password}
        scope = {"project": {"name": "admin", "domain": {"name": "Default"}}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
        answer = self._http.post(f"{url}/identity/v3/auth/tokens", json=body)
        assert answer.status_code == 201, answer.text
        self._http.headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]
        self._project = answer.json()["token"]["project"]["id"]


def open_client(uri: str) -> NbdClient:
    """Connect to an export, waiting for its worker to listen."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while True:
        try:
            return NbdClient(uri)
        except ConnectionLost:
            if time.monotonic() >= deadline:
                raise
            time.sleep(POLL_SECONDS_MIN)
