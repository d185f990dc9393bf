"""The workers of a site: which run, in what order they take volumes from each other, and how they end.

The invariant: a spec reaches a worker only when no other worker holds a volume of it, so one store is open in one
process. Everything is decided anew from the whole wish at each `apply`, so it does not matter how often or when that
is called; the stores' locks guard what a node cannot know, such as a worker that it has not heard yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from twinsite.messages import ObservedWorker, WorkerSpec
from twinsite.node.settings import NodeSettings
from twinsite.node.worker_process import WORKER_COMMAND, WorkerProcess
from twinsite.pidfile import living_pid

ADOPTION_SECONDS_MAX = 5.0
"""How long workers that were found at the start may keep others from starting before they have said what they hold."""

log = structlog.get_logger(__name__)


class Supervisor:
    """Runs the workers that are wanted and ends the others."""

    def __init__(
        self,
        settings: NodeSettings,
        on_status: Callable[[], None],
        on_lifecycle: Callable[[], None],
        command: Sequence[str] = WORKER_COMMAND,
    ) -> None:
        """`on_status`: a report would read differently now. `on_lifecycle`: `apply` may get further now."""
        self._settings = settings
        self._on_status = on_status
        self._on_lifecycle = on_lifecycle
        self._command = command
        self._workers: dict[str, WorkerProcess] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._stopping: dict[str, asyncio.Task[None]] = {}
        self._adoption_ends_at = 0.0

    def adopt(self) -> None:
        """Take over the workers that are alive from an earlier run of the node. Blocks for a moment."""
        loop = asyncio.get_running_loop()
        for path in sorted(self._settings.worker_run_dir.glob("*.pid")):
            if living_pid(path) is not None:
                self._start(path.stem, is_adopted=True)
        if self._workers:
            self._adoption_ends_at = loop.time() + ADOPTION_SECONDS_MAX
            loop.call_later(ADOPTION_SECONDS_MAX, self._on_lifecycle)

    def apply(self, wanted_ids: set[str], specs: Sequence[WorkerSpec]) -> None:
        """Bring the workers closer to the wish: stop all but `wanted_ids`, start or feed those that have a spec."""
        for worker_id in list(self._workers):
            if worker_id not in wanted_ids:
                self._begin_stop(worker_id)
        for spec in specs:
            if spec.id in self._stopping:
                continue  # Its end leads to the next `apply`.
            worker = self._workers.get(spec.id)
            if worker is not None and worker.spec == spec:
                continue
            if self._is_free(spec):
                self._give(worker or self._start(spec.id), spec)
            elif worker is not None and self._must_release(worker, spec):
                # It waits for volumes and holds some that others may wait for. Ending it frees both.
                self._begin_stop(spec.id)

    @staticmethod
    def _give(worker: WorkerProcess, spec: WorkerSpec) -> None:
        log.info(
            "worker gets a spec",
            worker=spec.id,
            version=spec.version,
            role=spec.role.value,
            term=spec.term,
            replication=spec.replication.value,
            request_id=spec.request_id or None,
        )
        worker.give(spec)

    def observed(self) -> list[ObservedWorker]:
        """Return every worker as it is, in the order of the ids."""
        return [worker.observed() for _, worker in sorted(self._workers.items())]

    def has(self, worker_id: str) -> bool:
        """Tell whether there is such a worker, or still is one."""
        return worker_id in self._workers

    def is_held(self, volume_id: str) -> bool:
        """Tell whether a worker has the volume open, or may have."""
        return self._waits_for_adopted() or any(volume_id in w.held_volume_ids for w in self._workers.values())

    def has_settled(self, wanted_ids: set[str]) -> bool:
        """Tell whether every wanted worker has its newest spec in force, or is known not to be able to."""
        return all(id_ in self._workers and self._workers[id_].has_answered for id_ in wanted_ids)

    async def detach(self) -> None:
        """Stop supervising and leave the workers alone, to be adopted by the next node."""
        tasks = [*self._running.values(), *self._stopping.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def stop_all(self) -> None:
        """Stop every worker, all at the same time. Takes as long as the slowest, which is bounded."""
        for worker_id in list(self._workers):
            self._begin_stop(worker_id)
        await asyncio.gather(*self._stopping.values(), return_exceptions=True)

    def _start(self, worker_id: str, *, is_adopted: bool = False) -> WorkerProcess:
        worker = WorkerProcess(
            worker_id, self._settings, self._command, self._on_status, self._on_lifecycle, is_adopted=is_adopted
        )
        self._workers[worker_id] = worker
        self._running[worker_id] = asyncio.create_task(worker.run(), name=f"worker {worker_id}")
        return worker

    def _begin_stop(self, worker_id: str) -> None:
        if worker_id not in self._stopping:
            self._stopping[worker_id] = asyncio.create_task(self._stop(worker_id), name=f"stop worker {worker_id}")

    async def _stop(self, worker_id: str) -> None:
        running = self._running.pop(worker_id, None)
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        try:
            await self._workers[worker_id].stop()
        finally:
            # Also one that hangs in the kernel is forgotten: it cannot be ended better, and its locks still guard it.
            del self._workers[worker_id]
            del self._stopping[worker_id]
        self._on_status()
        self._on_lifecycle()

    def _is_free(self, spec: WorkerSpec) -> bool:
        """Tell whether no other worker holds a volume of the spec."""
        if spec.id not in self._workers and self._waits_for_adopted():
            return False
        wanted = {member.volume_id for member in spec.members}
        return not any(wanted & worker.held_volume_ids for id_, worker in self._workers.items() if id_ != spec.id)

    def _waits_for_adopted(self) -> bool:
        if asyncio.get_running_loop().time() >= self._adoption_ends_at:
            return False
        return any(worker.is_unheard for worker in self._workers.values())

    @staticmethod
    def _must_release(worker: WorkerProcess, spec: WorkerSpec) -> bool:
        return not worker.held_volume_ids <= {member.volume_id for member in spec.members}
