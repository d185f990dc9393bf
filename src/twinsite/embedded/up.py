"""`twinsite up`: starts the parts, keeps them alive, and ends them in the order that loses nothing."""

from __future__ import annotations

import asyncio
import errno
import functools
import ipaddress
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from twinsite.control.secret_files import read_or_create_secret
from twinsite.control.settings import ControllerSettings
from twinsite.embedded.credentials import Login, write_client_files
from twinsite.embedded.part import KILL_SECONDS_MAX, Part
from twinsite.embedded.rehearsal import is_lost, until_back
from twinsite.embedded.tls import Tls
from twinsite.errors import ConfigurationError
from twinsite.node.settings import NodeSettings, check_socket_paths, host_and_port
from twinsite.pidfile import PidFile, living_process
from twinsite.readiness import notify_ready

CONTROLLER_READY_SECONDS_MAX = 60.0
NODE_READY_SECONDS_MAX = 60.0
NODE_STOP_SECONDS_MAX = 20.0
"""A node ends its workers first, which takes as long as the slowest of them."""
CONTROLLER_STOP_SECONDS_MAX = 10.0
WORKER_STOP_SECONDS_MAX = 12.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UpSettings:
    """What `up` is told. `data_dir` is absolute; port 0 lets the kernel choose."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8776
    log_json: bool = False
    tls: bool = False
    node_http_port: int | None = None
    """Where the first site's node answers /healthz, /readyz and /metrics, the next one on the next port; 0 for free
    ones, which the nodes' logs tell."""

    def log_path(self, part: str) -> Path:
        """Return the log file of a part."""
        return self.data_dir / "logs" / f"{part}.log"


def run_up(settings: UpSettings, announce: Callable[[str], None]) -> None:
    """Run everything until SIGINT, SIGTERM or SIGHUP. `announce` gets the one ready line.

    Raises `ConfigurationError` when the settings cannot work, when another `up` runs on the same directory, and when
    a part cannot be started; then nothing is left running that `up` started. Raises `pydantic.ValidationError` when
    the controller's own settings, from the environment and twinsite.toml, cannot work.
    """
    controller_settings = ControllerSettings(data_dir=settings.data_dir)
    for site in controller_settings.availability_zones:
        check_socket_paths(NodeSettings(site, controller_url="", data_dir=settings.data_dir, token=""))
    try:
        (settings.data_dir / "logs").mkdir(parents=True, exist_ok=True)
        with PidFile(settings.data_dir / "up.pid"):
            asyncio.run(_Up(settings, controller_settings, announce).run())
    except OSError as error:
        raise ConfigurationError(f"data directory {settings.data_dir} cannot be used: {error.strerror}") from error


class _Up:
    """One run of `up`."""

    def __init__(
        self, settings: UpSettings, controller_settings: ControllerSettings, announce: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._controller_settings = controller_settings
        self._sites = controller_settings.availability_zones
        self._announce = announce
        self._controller: Part | None = None
        self._nodes: list[Part] = []
        self._keeping: list[asyncio.Task[None]] = []
        self._tls = Tls(settings.data_dir, settings.host, controller_settings) if settings.tls else None

    async def run(self) -> None:
        """Start everything, wait for a signal, end everything."""
        stop_asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in _ending_signals():
            loop.add_signal_handler(number, stop_asked.set)
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(stop_asked.wait())
        try:
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await stopping
        finally:
            for task in (starting, stopping):
                task.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)
            await self._stop()

    async def _start(self) -> None:
        settings = self._settings
        await self._end_leftovers()
        port = choose_port(settings.host, settings.port)
        certificate, ca_file = self._controller_settings.tls_certificate, self._controller_settings.tls_ca_file
        if self._tls is not None:
            self._tls.ensure()
            certificate, ca_file = self._tls.files.server, self._tls.files.authority
            self._keeping.append(asyncio.create_task(self._tls.keep(), name="certificates"))
        scheme = "http" if certificate is None else "https"
        url = f"{scheme}://{host_and_port(_reachable(settings.host), port)}"
        self._write_client_files(url, ca_file)
        token_path = self._controller_settings.secrets_dir / "node-token"
        read_or_create_secret(token_path)
        shared = ["--data", str(settings.data_dir), *(["--log-json"] if settings.log_json else [])]
        self._controller = Part(
            "controller",
            ["controller", "--host", settings.host, "--port", str(port), *self._tls_arguments(), *shared],
            settings.log_path("controller"),
        )
        self._keep(self._controller)
        await self._controller.wait_ready(CONTROLLER_READY_SECONDS_MAX)
        for number, site in enumerate(self._sites):
            arguments = ["node", "--site", site, "--controller", url, "--token-file", str(token_path), "--stop-workers"]
            trusting = [] if ca_file is None else ["--ca-file", str(ca_file)]
            may_start = functools.partial(until_back, settings.data_dir / site)
            node = Part(
                f"node {site}",
                [*arguments, *trusting, *self._http_arguments(number), *shared],
                settings.log_path(f"node-{site}"),
                may_start,
            )
            self._nodes.append(node)
            self._keep(node)
        for site, node in zip(self._sites, self._nodes, strict=True):
            if not is_lost(settings.data_dir / site):
                await node.wait_ready(NODE_READY_SECONDS_MAX)
        directory = settings.data_dir
        sites = ", ".join(self._sites)
        keystone = self._controller_settings.keystone_auth_url
        login = f"credentials in {directory}/clouds.yaml" if keystone is None else f"log in at {keystone}"
        self._announce(f"twinsite is ready: {url}  ({sites}; data in {directory}; {login})")
        notify_ready()

    def _http_arguments(self, number: int) -> list[str]:
        first = self._settings.node_http_port
        if first is None:
            return []
        return ["--http-listen", host_and_port(self._settings.host, first + number if first else 0)]

    def _tls_arguments(self) -> list[str]:
        return [] if self._tls is None else ["--tls-certificate", str(self._tls.files.server)]

    def _write_client_files(self, url: str, ca_file: Path | None) -> None:
        settings = self._controller_settings
        if settings.keystone_auth_url is not None:
            return  # Who may log in there, and how, is not known here.
        login = Login(
            api_url=(settings.public_url or url).rstrip("/"),
            user=settings.admin_user,
            password=read_or_create_secret(settings.secrets_dir / "admin-password"),
            project=settings.admin_project,
            region=settings.region,
            ca_file=ca_file,
        )
        write_client_files(self._settings.data_dir, login)

    def _keep(self, part: Part) -> None:
        self._keeping.append(asyncio.create_task(part.run(), name=part.name))

    async def _stop(self) -> None:
        """End nodes, which end their workers; then the controller, which hears of it; then workers left by a crash."""
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        await asyncio.gather(*(node.stop(NODE_STOP_SECONDS_MAX) for node in self._nodes))
        if self._controller is not None:
            await self._controller.stop(CONTROLLER_STOP_SECONDS_MAX)
        workers = [
            path for site in self._sites for path in (self._settings.data_dir / site / "run" / "w").glob("*.pid")
        ]
        await asyncio.gather(*(_end(path, WORKER_STOP_SECONDS_MAX) for path in workers))

    async def _end_leftovers(self) -> None:
        """End what an `up` that was killed left behind, except workers: the new nodes take those over.

        A node would end its workers at SIGTERM; SIGKILL does it no harm, because it only writes whole files.
        """
        for site in self._sites:
            await _end(self._settings.data_dir / site / "run" / "node.pid", 0.0)
        pid_path = self._settings.data_dir / "controller" / "run" / "controller.pid"
        await _end(pid_path, CONTROLLER_STOP_SECONDS_MAX)


def _ending_signals() -> list[signal.Signals]:
    """Return the signals that end `up`: also a closed terminal's, unless nohup has had it ignored."""
    hangup = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGTERM, signal.SIGINT, *hangup]


async def _end(pid_path: Path, term_seconds_max: float) -> None:
    """End the process that holds a pid file, if any: SIGTERM, and SIGKILL after a while or, for 0, at once."""
    process = await asyncio.to_thread(living_process, pid_path)
    if process is None:
        return
    with process:
        log.warning("ending a leftover process", pid=process.pid, pid_file=str(pid_path))
        if term_seconds_max > 0:
            wait = functools.partial(process.terminate, term_seconds_max, KILL_SECONDS_MAX)
        else:
            process.send_signal(signal.SIGKILL)
            wait = functools.partial(process.wait, KILL_SECONDS_MAX)
        if not await asyncio.to_thread(wait):
            raise ConfigurationError(f"process {process.pid} of {pid_path} does not end; end it and start again")


def choose_port(host: str, port: int) -> int:
    """Return `port`, or for 0 a free one. Raises `ConfigurationError` when it is taken or the host is not ours."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)  # Two may bind one port with SO_REUSEADDR; only one may listen.
            return int(probe.getsockname()[1])
    except socket.gaierror as error:
        raise ConfigurationError(f"host {host!r} cannot be resolved: {error.strerror}; use an address") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationError(f"port {port} on {host} is in use; choose another one with --port") from error
        raise ConfigurationError(f"cannot listen on {host_and_port(host, port)}: {error.strerror}") from error


def _reachable(host: str) -> str:
    """Return an address of this machine at which a server that listens on `host` is reached."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"
