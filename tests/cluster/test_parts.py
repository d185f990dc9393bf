"""Controller and nodes run by hand, as on machines of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.installation import COMMAND, WAIT_SECONDS_MAX, Installation, open_client
from twinsite.embedded.up import choose_port
from twinsite.nbd_client import NbdClient
from twinsite.readiness import ENVIRONMENT_VARIABLE, ReadinessSocket

DATA = b"twinsite" * 512


class Parts:
    """An installation whose parts a test starts and ends one by one."""

    def __init__(self, stack: ExitStack) -> None:
        self.installation = Installation()
        stack.callback(self.installation.close)
        self._stack = stack
        self.url = f"http://127.0.0.1:{choose_port('127.0.0.1', 0)}"

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a part and wait until it says that it is ready; its log goes to the test's standard error."""
        command = [*COMMAND, *arguments, "--data", str(self.installation.directory)]
        readiness = ReadinessSocket()
        try:
            process = subprocess.Popen(command, env={**os.environ, ENVIRONMENT_VARIABLE: readiness.address})
            self._stack.callback(self.end, process, signal.SIGKILL)
            asyncio.run(asyncio.wait_for(readiness.wait(), WAIT_SECONDS_MAX))
        finally:
            readiness.close()
        return process

    def start_node(self, site: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the node of a site."""
        token = str(self.installation.directory / "secrets/node-token")
        return self.start("node", "--site", site, "--controller", self.url, "--token-file", token, *arguments)

    def start_controller(self) -> subprocess.Popen[bytes]:
        """Start the controller and log in."""
        process = self.start("controller", "--port", self.url.rsplit(":", 1)[1])
        self.installation.log_in(self.url)
        return process

    @staticmethod
    def end(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> int:
        """End a part with a signal and return its exit status."""
        process.send_signal(number)
        return process.wait(WAIT_SECONDS_MAX)


@pytest.fixture
def parts() -> Iterator[Parts]:
    """An installation of which nothing runs yet."""
    with ExitStack() as stack:
        yield Parts(stack)


def test_a_node_leaves_its_workers_and_serves_volumes_over_tcp(parts: Parts) -> None:
    installation = parts.installation
    controller = parts.start_controller()
    nbd_port = choose_port("127.0.0.1", 0)
    node = parts.start_node("az1", "--nbd-ports", f"{nbd_port}-{nbd_port}")
    volume_id = installation.create_volume("az1")
    unix_uri = installation.connect(volume_id)
    tcp_uri = f"nbd://127.0.0.1:{nbd_port}/{volume_id}"
    with open_client(tcp_uri) as client:
        client.write(0, DATA)
        worker_pid = installation.worker_pid("az1", volume_id)
        assert parts.end(node) == 0
        assert parts.end(controller) == 0
        # Nothing but the worker is left, and the host does not notice.
        assert installation.living_pids() == [worker_pid]
        assert client.read(0, len(DATA)) == DATA

    parts.start_controller()
    node = parts.start_node("az1", "--stop-workers", "--nbd-ports", f"{nbd_port}-{nbd_port}")
    assert installation.connect(volume_id) == unix_uri
    for uri in (unix_uri, tcp_uri):
        with NbdClient(uri) as client:
            assert client.read(0, len(DATA)) == DATA
    assert installation.worker_pid("az1", volume_id) == worker_pid
    assert parts.end(node) == 0
    assert worker_pid not in installation.living_pids()
