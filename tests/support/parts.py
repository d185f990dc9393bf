"""Controller and nodes run by hand, as on machines of their own; in network namespaces of their own if a test wants."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from contextlib import AbstractContextManager, ExitStack

import httpx

from tests.support.installation import COMMAND, WAIT_SECONDS_MAX, Installation
from tests.support.namespaces import Network
from twinsite.embedded.up import choose_port
from twinsite.pidfile import living_process
from twinsite.readiness import ENVIRONMENT_VARIABLE, ReadinessSocket

CONTROLLER = "ctl"
"""The controller's place in a network; a site's is named as the site."""
PLACES = ("az1", "az2", CONTROLLER)


class Parts:
    """An installation whose parts a test starts and ends one by one."""

    def __init__(self, stack: ExitStack, network: Network | None = None) -> None:
        """Close `stack` to end everything. With a `network` each part runs at its place."""
        self.network = network
        self.installation = Installation(None if network is None else _TransportAt(network, CONTROLLER))
        stack.callback(self.installation.close)
        self._stack = stack
        host = self._host(CONTROLLER)
        with self._at(CONTROLLER):
            self.url = f"http://{host}:{choose_port(host, 0)}"

    def start(self, place: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a part and wait until it says that it is ready; its log goes to the test's standard error."""
        command = [*COMMAND, *arguments, "--data", str(self.installation.directory)]
        with self._at(place):
            readiness = ReadinessSocket()
            try:
                variables = {**os.environ, ENVIRONMENT_VARIABLE: readiness.address, **environment}
                process = subprocess.Popen(command, env=variables)
                self._stack.callback(self.end, process, signal.SIGKILL)
                asyncio.run(asyncio.wait_for(readiness.wait(), WAIT_SECONDS_MAX))
            finally:
                readiness.close()
        return process

    def start_node(self, site: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the node of a site."""
        token = str(self.installation.directory / "secrets/node-token")
        where = ["--controller", self.url, "--token-file", token, "--stream-host", self._host(site)]
        return self.start(site, "node", "--site", site, *where, *arguments)

    def start_controller(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start the controller and log in."""
        host, port = self.url.removeprefix("http://").split(":")
        process = self.start(CONTROLLER, "controller", "--host", host, "--port", port, **environment)
        self.installation.log_in(self.url)
        return process

    @staticmethod
    def end(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> int:
        """End a part with a signal and return its exit status."""
        process.send_signal(number)
        return process.wait(WAIT_SECONDS_MAX)

    def kill_site(self, site: str) -> None:
        """End every process of a site at once, as a power cut does; what they wrote stays in the page cache."""
        run_dir = self.installation.directory / site / "run"
        # The node goes first: it would start its workers again.
        for path in [run_dir / "node.pid", *(run_dir / "w").glob("*.pid")]:
            process = living_process(path)
            if process is not None:
                with process:
                    process.send_signal(signal.SIGKILL)
                    assert process.wait(WAIT_SECONDS_MAX), f"the process of {path} does not end"

    def _host(self, place: str) -> str:
        return "127.0.0.1" if self.network is None else self.network.address(place)

    def _at(self, place: str) -> AbstractContextManager[None]:
        return contextlib.nullcontext() if self.network is None else self.network.inside(place)


class _TransportAt(httpx.BaseTransport):
    """Makes its connections from a place in a network."""

    def __init__(self, network: Network, place: str) -> None:
        self._network = network
        self._place = place
        self._inner = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with self._network.inside(self._place):
            return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()
