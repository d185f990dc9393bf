"""The node as a process: its lock, its signals, its end."""

from __future__ import annotations

import asyncio
import functools
import signal

import structlog

from twinsite.errors import ConfigurationError, StorageFault
from twinsite.node.agent import Agent
from twinsite.node.controller_client import ControllerClient
from twinsite.node.http import NodeHttp
from twinsite.node.metrics import metrics_page
from twinsite.node.pool import DirectoryPool
from twinsite.node.probes import probe_pages
from twinsite.node.record import NodeRecord
from twinsite.node.settings import NodeSettings, parse_listen
from twinsite.node.supervisor import Supervisor
from twinsite.pidfile import PidFile
from twinsite.readiness import keep_watchdog, notify_ready

log = structlog.get_logger(__name__)


def run_node(settings: NodeSettings) -> None:
    """Run a node until SIGTERM or SIGINT.

    Raises `ConfigurationError` when the settings cannot work or another node runs on the same directory.
    """
    settings.check()
    try:
        settings.create_directories()
    except OSError as error:
        raise ConfigurationError(f"data directory {settings.data_dir} cannot be used: {error.strerror}") from error
    with PidFile(settings.pid_path):
        asyncio.run(serve(settings))


async def serve(settings: NodeSettings) -> None:
    """Run the agent until SIGTERM or SIGINT, then end the workers if the settings say so, else leave them alone."""
    stop_asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_asked.set)
    client = ControllerClient(settings.controller_url, settings.site, settings.token, settings.ca_file)
    agent = Agent(
        settings,
        DirectoryPool(settings.pool_dir),
        NodeRecord.load(settings.record_path),
        client,
        functools.partial(Supervisor, settings),
    )
    log.info("node starts", site=settings.site, controller=settings.controller_url, data=str(settings.site_dir))
    pages = {**probe_pages(agent, settings.site), "/metrics": metrics_page(agent.facts)}
    http = NodeHttp(pages)
    if settings.http_listen is not None:
        try:
            await http.start(*parse_listen(settings.http_listen))
        except ConfigurationError:
            await client.close()
            raise
    running = asyncio.create_task(agent.run())
    announcing = asyncio.create_task(_announce(agent))
    stopping = asyncio.create_task(stop_asked.wait())
    watchdog = asyncio.create_task(keep_watchdog())
    try:
        await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (running, announcing, stopping):
            task.cancel()
        outcome, *_ = await asyncio.gather(running, announcing, stopping, return_exceptions=True)
        log.info("node ends", site=settings.site, workers="end too" if settings.stop_workers else "go on")
        if stop_asked.is_set() and settings.stop_workers:
            await agent.supervisor.stop_all()
        await agent.supervisor.detach()
        await client.close()
        await http.close()
        watchdog.cancel()
        await asyncio.gather(watchdog, return_exceptions=True)
    if isinstance(outcome, StorageFault):
        raise ConfigurationError(f"the node cannot use its pool: {outcome}") from outcome
    if isinstance(outcome, Exception):
        raise outcome


async def _announce(agent: Agent) -> None:
    await agent.ready.wait()
    log.info("node is ready")
    notify_ready()
