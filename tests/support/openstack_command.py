"""The command `openstack` of the environment that runs the tests: a process loads it once and runs it from then on."""

from __future__ import annotations

import asyncio
import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

SERVER = Path(__file__).with_name("openstack_server.py")
COMMAND_SECONDS_MAX = 120.0


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    output: str
    errors: str


def environment_for(url: str, password: str, home: Path) -> dict[str, str]:
    """Return the variables of a user of the API at `url`."""
    passed = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return {
        **passed,
        "HOME": str(home),
        "OS_AUTH_URL": f"{url}/identity/v3",
        "OS_USERNAME": "admin",
        "OS_PASSWORD": password,
        "OS_PROJECT_NAME": "admin",
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_DOMAIN_NAME": "Default",
        "OS_IDENTITY_API_VERSION": "3",
    }


async def run_openstack(environment: dict[str, str], *arguments: str) -> Done:
    """Run the command to its end."""
    return await asyncio.to_thread(_server().run, environment, arguments)


class _Server:
    """The process that runs the commands, one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._home = tempfile.TemporaryDirectory(prefix="ts-")
        environment = {**os.environ, "HOME": self._home.name}
        self._process = subprocess.Popen(
            [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        atexit.register(self._end)

    def run(self, environment: dict[str, str], arguments: Sequence[str]) -> Done:
        """Have a command run; one that takes too long ends the process, and fails the test."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            watchdog = threading.Timer(COMMAND_SECONDS_MAX, self._process.kill)
            watchdog.start()
            try:
                self._process.stdin.write(json.dumps({"environment": environment, "arguments": arguments}) + "\n")
                self._process.stdin.flush()
                line = self._process.stdout.readline()
            finally:
                watchdog.cancel()
        assert line, f"{arguments} did not end in {COMMAND_SECONDS_MAX} s, or the process that runs it has ended"
        return Done(*json.loads(line))

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._home.cleanup()


@functools.cache
def _server() -> _Server:
    """Return the one server of this process."""
    return _Server()


async def openstack(environment: dict[str, str], *arguments: str) -> Any:
    """Run a command that is expected to succeed; return its JSON output, or None when it has none."""
    done = await run_openstack(environment, *arguments)
    assert done.status == 0, (arguments, done.errors)
    return json.loads(done.output) if done.output.strip() else None
