"""A site's node: it asks the controller what its worker should be, starts the worker, and tells how it is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twinsite.errors import InternalError, TwinsiteError
from twinsite.messages import DesiredVolume, ObservedWorker, WorkerSpec, WorkerStatus
from twinsite.node.settings import NodeSettings
from twinsite.node.volumes import Volumes
from twinsite.worker.worker import Worker
from twinsite_sim.controller import GROUP_ID, Controller, seen_by_node
from twinsite_sim.loop import OWNER
from twinsite_sim.machine import STATE_ROOT, Machine, Process, current_process
from twinsite_sim.network import Network
from twinsite_sim.volumes import SimPool, SimRecord

POLL_SECONDS = 0.5
"""Longest pause between two talks with the controller."""
STOP_SECONDS_MAX = 10.0
"""A worker that does not stop in that time is killed."""


class SimControl:
    """Stands for the worker's control socket: statuses go to the node that started the process."""

    def __init__(
        self, path: Path, on_spec: Callable[[WorkerSpec], None], status: Callable[[], WorkerStatus | None]
    ) -> None:
        del path, on_spec
        self._status = status
        self._last: WorkerStatus | None = None
        self._run = RUNS[current_process()]

    async def listen(self) -> None:
        """Nothing to open."""

    def publish(self) -> None:
        """Tell the node, if there is anything new."""
        status = self._status()
        self._run.said_at = self._run.process.loop.time()
        if status is not None and status != self._last:
            self._last = status
            self._run.publish(status)

    async def close(self) -> None:
        """Say a last word."""
        self.publish()


class WorkerRun:
    """One life of a worker."""

    def __init__(self, node: SimNode, number: int) -> None:
        self.node = node
        self.number = number
        self.process = Process(node.machine, f"worker-{node.site}#{number}")
        self.status: WorkerStatus | None = None
        self.said_at = 0.0
        """When the worker last looked at how it is."""
        self.worker: Worker | None = None
        self.given: WorkerSpec | None = None
        self._stop: asyncio.Event | None = None
        self.process.on_end = lambda: node.process.call(node.worker_ended, self)
        RUNS[self.process] = self
        self.process.spawn(self._main)

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        self.worker = Worker(GROUP_ID, Path("/run/control"), STATE_ROOT, self.node.machine.files)
        if self.given is not None:
            self.worker.take(self.given)
        try:
            await self.worker.run(self._stop)
        except InternalError:
            raise
        except (TwinsiteError, OSError) as error:
            self.node.machine.trace.add(self.process.name, f"exits: {error}")
        self.process.end()

    def give(self, spec: WorkerSpec) -> None:
        """Hand over a spec, if it is another one."""
        if spec != self.given:
            self.given = spec
            self.process.call(self._take, spec)

    def _take(self, spec: WorkerSpec) -> None:
        if self.worker is not None:
            self.worker.take(spec)

    def publish(self, status: WorkerStatus) -> None:
        """The worker says how it is."""
        self.node.process.call(self.node.took_status, self, status)

    def stop(self) -> None:
        """Ask the worker to stop cleanly; it has to within the bound."""

        def begin() -> None:
            if self._stop is not None:
                self._stop.set()

        self.node.machine.trace.add(self.process.name, "is asked to stop")
        self.process.call(begin)
        self.process.loop.call_later(STOP_SECONDS_MAX, self.process.end, context=self.node.process.context)


RUNS: dict[Process, WorkerRun] = {}
"""The run that a process is, for what the worker makes inside it."""


class SimNode:
    """The node of one site."""

    def __init__(self, site: str, machine: Machine, network: Network, controller: Controller, seed: str) -> None:
        self.site = site
        self.machine = machine
        self.run: WorkerRun | None = None
        self._network = network
        self._controller = controller
        self._random = random.Random(f"{seed} node {site}")
        self._spec: WorkerSpec | None = None
        self._settings = NodeSettings(site, "http://controller", Path("/data"), token="token")
        self._pool = SimPool(machine, site)
        self._record = SimRecord(self._settings.record_path)
        self._wake = asyncio.Event()
        self._count = 0
        self.is_waiting_to_start = False
        self.process: Process
        self.start()

    def start(self) -> None:
        """The machine is up: start the node."""
        self.run = None
        self._spec = None
        self.is_waiting_to_start = False
        self._volumes = Volumes(self._settings, self._pool, self._record)
        self._volumes.find()
        self._desired: list[DesiredVolume] = []
        self._failed: set[str] = set()
        self._wake = asyncio.Event()
        self.process = Process(self.machine, f"node-{self.site}")
        self.process.spawn(self._main)

    def observed(self) -> ObservedWorker | None:
        """Return the worker as it is."""
        if self._spec is None:
            return None
        run = self.run
        is_alive = run is not None and run.process.is_alive
        status = run.status if run is not None and is_alive else None
        return ObservedWorker(GROUP_ID, is_alive, run.number if run is not None else None, status)

    def took_status(self, run: WorkerRun, status: WorkerStatus) -> None:
        """A worker has said how it is."""
        if run is self.run:
            run.status = status
            self._wake.set()

    def worker_ended(self, run: WorkerRun) -> None:
        """A worker has ended: start another one after a while."""
        if run is self.run:
            self._start_soon(0.1 + self._random.random())
            self._wake.set()

    async def _main(self) -> None:
        while True:
            self._wake.clear()
            await self._exchange()
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()
                await asyncio.sleep(0.05)
            except TimeoutError:
                pass

    async def _exchange(self) -> None:
        network, controller = self._network, self._controller
        if network.is_blocked(self.machine, controller.machine) or controller.is_down():
            await asyncio.sleep(self._random.random())
            return
        await asyncio.sleep(network.latency())
        if controller.is_down():
            return
        said_at = self.run.said_at if self.run is not None else 0.0
        spec, volumes = controller.sync(self.site, self.observed(), said_at, self._volumes.observed())
        await asyncio.sleep(network.latency())
        if network.is_blocked(controller.machine, self.machine):
            await asyncio.sleep(self._random.random())
            return
        if self._spec is not None and spec.version < self._spec.version:
            return
        await self._make(volumes)
        if not self._failed.isdisjoint(member.volume_id for member in spec.members):
            return
        self._spec = seen_by_node(spec, self.machine)
        if self.run is None or not self.run.process.is_alive:
            self._start_soon(0.0)
        else:
            self.run.give(self._spec)

    async def _make(self, volumes: list[DesiredVolume]) -> None:
        """Make the volumes be as they should; what cannot be is told with the next report."""
        if volumes == self._desired:
            return
        sizes_bytes = [(max(v.size_bytes, v.room_bytes), self._pool.size_bytes(v.id) or 0) for v in volumes]
        if any(wanted > present for wanted, present in sizes_bytes):
            await asyncio.sleep(self.machine.thread_delay())
            self._wake.set()
        self._desired = volumes
        self._failed = self._volumes.ensure_all(volumes)

    def _start_soon(self, seconds: float) -> None:
        if not self.is_waiting_to_start:
            self.is_waiting_to_start = True
            self.process.loop.call_later(seconds, self._start_worker, context=self.process.context)

    def _start_worker(self) -> None:
        self.is_waiting_to_start = False
        if self._spec is None or (self.run is not None and self.run.process.is_alive):
            return
        self._count += 1
        self.run = WorkerRun(self, self._count)
        self.run.give(self._spec)


def forget_runs() -> None:
    """The world is over."""
    RUNS.clear()


def worker_of(node: SimNode) -> Any:
    """Return the process of a node's worker, or None."""
    return node.run.process if node.run is not None and node.run.process.is_alive else None


def status_now(node: SimNode) -> WorkerStatus | None:
    """Return how a node's living worker is at this moment, whatever it has said."""
    run = node.run
    if run is None or not run.process.is_alive or run.worker is None:
        return None
    token = OWNER.set(run.process)  # A status tells times, by the clock of its machine.
    try:
        return run.worker.status()
    finally:
        OWNER.reset(token)
