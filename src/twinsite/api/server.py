"""Runs the controller as a process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI

from twinsite.api.app import create_app
from twinsite.api.certificate import ServerCertificate
from twinsite.api.patience import patient_protocol
from twinsite.control.controller import Controller
from twinsite.control.policy.enforcer import Policy
from twinsite.control.secret_files import read_or_create_secret
from twinsite.control.settings import ControllerSettings
from twinsite.dashboard.access import Door
from twinsite.dashboard.gate import Gate, GateSettings, gate_for
from twinsite.pidfile import PidFile
from twinsite.readiness import keep_watchdog, notify_ready

SHUTDOWN_SECONDS_MAX = 3
"""How long requests in flight may go on after SIGTERM; held polls end at once."""

COLLECTOR_THRESHOLDS = (50_000, 20, 50)
"""Objects made before the young generation is collected, then how often that happens before the older ones are. With
Python's own thresholds a page of a thousand objects is looked through many times while it is being built."""

_log = structlog.get_logger(__name__)


class ControllerServer(uvicorn.Server):
    """Says when it is ready, and lets those go who wait for news as soon as it is told to end."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, certificate: ServerCertificate | None = None) -> None:
        """Serve `app` as `config` says."""
        super().__init__(config)
        self.app = app
        self._certificate = certificate
        self._watching: list[asyncio.Task[None]] = []
        self._closing: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Start to listen, then say so."""
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started and self._certificate is not None:
            self._watching.append(asyncio.create_task(self._certificate.watch(), name="certificate"))
        if self.started:
            self._watching.append(asyncio.create_task(keep_watchdog(), name="watchdog"))
            _log.info("controller is ready", host=self.config.host, port=self.bound_port())
            notify_ready()

    def bound_port(self) -> int:
        """Return the TCP port that the server listens on."""
        return int(self.servers[0].sockets[0].getsockname()[1])

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """End."""
        await super().shutdown(sockets)  # type: ignore[arg-type]
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; called on a signal."""
        super().handle_exit(sig, frame)
        with contextlib.suppress(RuntimeError):  # No loop runs: it came before the start, or after the end.
            asyncio.get_running_loop().call_soon_threadsafe(self._let_waiters_go_soon)

    def _let_waiters_go_soon(self) -> None:
        self._closing = asyncio.get_running_loop().create_task(self.let_waiters_go())

    async def let_waiters_go(self) -> None:
        """Answer held polls now: the server cannot end while they are open."""
        controller: Controller | None = getattr(self.app.state, "controller", None)
        if controller is not None:
            await controller.context.wakeups.close()


def make_server(settings: ControllerSettings, host: str, port: int) -> ControllerServer:
    """Return a server for this controller that is not started yet.

    Raises `ConfigurationError` for a certificate or a policy file that cannot be used.
    """
    # The controller reads it anew when it opens; but what fails there ends in a trace, and this in a sentence.
    Policy(settings.policy_path())
    app = create_app(settings)
    certificate = ServerCertificate.of(settings)
    config = uvicorn.Config(
        with_page(app, settings) if settings.page else app,
        host=host,
        port=port,
        http=patient_protocol(settings.head_seconds_max, settings.body_seconds_max),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=SHUTDOWN_SECONDS_MAX,
        ssl_context_factory=None if certificate is None else lambda _config, _default: certificate.context,
    )
    return ControllerServer(config, app, certificate)


def with_page(app: FastAPI, settings: ControllerSettings) -> Gate:
    """Return the application with the web page in front of it, below /ui."""
    ca_file = settings.keystone_ca_file
    door = Door(app, settings.keystone_auth_url, None if ca_file is None else str(ca_file))
    return gate_for(
        door, GateSettings(lambda: read_or_create_secret(settings.secrets_dir / "page-secret"), settings.public_url)
    )


def run_controller(
    data_dir: Path,
    host: str,
    port: int,
    config_file: Path | None = None,
    tls_certificate: Path | None = None,
    tls_key: Path | None = None,
) -> None:
    """Run the controller until SIGINT or SIGTERM.

    A certificate that is given takes the place of the settings'. Raises `pydantic.ValidationError` for wrong settings,
    `ConfigurationError` for files that they name, `AlreadyRunningError` when a controller of this directory lives, and
    `SystemExit` when it cannot start, for instance because the port is taken; the log says why.
    """
    given: dict[str, Any] = {}
    if tls_certificate is not None:
        given = {"tls_certificate": tls_certificate, "tls_key": tls_key}
    settings = ControllerSettings(data_dir=data_dir.absolute(), config_file=config_file, **given)
    run_dir = settings.controller_dir / "run"
    # The database holds the groups' stream keys, so the directory is nobody else's to read.
    settings.controller_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    run_dir.mkdir(exist_ok=True, mode=0o700)
    with PidFile(run_dir / "controller.pid"):
        server = make_server(settings, host, port)
        gc.freeze()  # What was imported stays.
        gc.set_threshold(*COLLECTOR_THRESHOLDS)
        # uvicorn raises the signals that it handled once more when it is done; these handlers make that harmless.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, server.handle_exit)
        server.run()
