"""The node's agent: reports what it observes, takes what the controller desires, and makes it so.

Three tasks: one keeps a long poll open, one reports changes as they happen, one reconciles. They share the newest
desired state and three events; each message is the whole truth, so none of them needs to know what the others missed.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

import structlog

from twinsite.errors import ConfigurationError, PeerViolation, RetryableError, StorageFault, TwinsiteError
from twinsite.messages import (
    DesiredVolume,
    Failure,
    NodeDesired,
    ObservedWorker,
    PoolReport,
    Role,
    WorkerSpec,
)
from twinsite.node.controller_client import ControllerClient
from twinsite.node.conversation import Conversation, Observed, Statement
from twinsite.node.metrics import NodeFacts
from twinsite.node.pool import Pool
from twinsite.node.record import NodeRecord
from twinsite.node.remains import Remains
from twinsite.node.settings import NodeSettings, host_and_port
from twinsite.node.supervisor import Supervisor
from twinsite.node.volumes import POOL_FAILURE_CODE, Volumes

POLL_WAIT_SECONDS = 10.0
"""How long the controller may hold the long poll; bounds how long a silently cut connection goes unnoticed."""
REPORT_PAUSE_SECONDS = 0.2
"""Shortest time between two reports of changes: five a second."""
RECONNECT_SECONDS_MIN = 0.2
RECONNECT_SECONDS_MAX = 5.0
"""Pause before the controller is tried again; doubles between these after each failure."""
RETRY_SECONDS = 5.0
"""Pause before a volume that could not be made or deleted is tried again."""
BATCH_VOLUMES = 64
"""Volumes that are made before the controller hears of them."""
SETTLE_SECONDS_MAX = 10.0
"""How long workers may keep a starting node from calling itself ready."""

log = structlog.get_logger(__name__)


class Agent:
    """Runs one node until it is cancelled. `ready` is set when the first desired state is in force."""

    def __init__(
        self,
        settings: NodeSettings,
        pool: Pool,
        record: NodeRecord,
        client: ControllerClient,
        make_supervisor: Callable[[Callable[[], None], Callable[[], None]], Supervisor],
    ) -> None:
        """`make_supervisor` gets the callbacks for a changed status and a changed lifecycle."""
        self.ready = asyncio.Event()
        self.supervisor = make_supervisor(self._note_change, self._note_lifecycle)
        self._settings = settings
        self._pool = pool
        self._record = record
        self._client = client
        self._volumes = Volumes(settings, pool, record)
        self._remains = Remains(settings)
        self._talk = Conversation(settings.site, settings.node_name)
        self._unready: dict[str, Failure] = {}  # By worker: why it cannot be given its spec.
        self._changed = asyncio.Event()
        self._work = asyncio.Event()
        self._is_reconciled = False  # Once, for the start.
        self._last_refusal = ""
        self._pool_report = PoolReport(0, 0)
        self.is_pool_readable = False
        self.is_controller_answering = False

    async def run(self) -> None:
        """Adopt what is there, then report and reconcile for ever. Cancel it to end; workers are left as they are."""
        await asyncio.to_thread(self._volumes.find)
        self.supervisor.adopt()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._poll(), name="poll")
            tasks.create_task(self._report_changes(), name="report")
            tasks.create_task(self._reconcile(), name="reconcile")

    def facts(self) -> NodeFacts:
        """Return what is known now, for /metrics."""
        return NodeFacts(
            site=self._settings.site,
            pool=self._pool_report,
            is_pool_readable=self.is_pool_readable,
            is_controller_answering=self.is_controller_answering,
            workers=self._observed_workers(),
        )

    async def _poll(self) -> None:
        pause = RECONNECT_SECONDS_MIN
        while True:
            before = self._talk.desired
            statement = self._talk.poll(await self._observe(), POLL_WAIT_SECONDS if before is not None else 0.0)
            if not await self._exchange(statement):
                await asyncio.sleep(pause)
                pause = min(pause * 2, RECONNECT_SECONDS_MAX)
                continue
            pause = RECONNECT_SECONDS_MIN
            if not self._talk.is_understood:
                self._changed.set()
            if self._talk.desired is before:
                # The wait was over, or the other task was faster, or the controller does not hold: never a busy loop.
                await asyncio.sleep(REPORT_PAUSE_SECONDS)

    async def _report_changes(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            statement = self._talk.report(await self._observe())
            if statement is not None and not await self._exchange(statement):
                self._changed.set()
                await asyncio.sleep(RECONNECT_SECONDS_MAX)
            await asyncio.sleep(REPORT_PAUSE_SECONDS)

    async def _exchange(self, statement: Statement) -> bool:
        """Post a report and take the answer; return whether that worked. A failure is logged when it is a new one."""
        try:
            desired = await self._client.sync(statement.report)
            await self._take(statement, desired)
        except (RetryableError, ConfigurationError, PeerViolation, StorageFault) as error:
            if str(error) != self._last_refusal:
                log.error("no desired state from the controller", reason=str(error))
            self._last_refusal = str(error)
            self.is_controller_answering = False
            return False
        self.is_controller_answering = True
        if self._last_refusal:
            log.info("the controller answers again")
            self._last_refusal = ""
        return True

    async def _take(self, statement: Statement, desired: NodeDesired) -> None:
        """Accept a desired state unless it is another installation's."""
        known = self._record.installation_id
        if known is None:
            await asyncio.to_thread(self._record.set_installation, desired.installation_id)
            log.info("joined installation", installation=desired.installation_id)
        elif known != desired.installation_id:
            raise ConfigurationError(
                f"this node belongs to installation {known}, and the controller at {self._settings.controller_url} to "
                f"{desired.installation_id}; give it its own controller, or start it with an empty data directory"
            )
        if self._talk.take(statement, desired):
            self._work.set()
            self._changed.set()  # The controller learns that this generation was seen.

    async def _reconcile(self) -> None:
        loop = asyncio.get_running_loop()
        retry: asyncio.TimerHandle | None = None
        settle: asyncio.TimerHandle | None = None
        while True:
            await self._work.wait()
            self._work.clear()
            desired = self._talk.desired
            if desired is None:
                continue
            try:
                complete = await self._reconcile_once(desired)
            except (TwinsiteError, OSError):
                log.exception("reconciling failed")
                complete = False
            if retry is not None:
                retry.cancel()
            retry = None if complete else loop.call_later(RETRY_SECONDS, self._work.set)
            if settle is None:
                settle = loop.call_later(SETTLE_SECONDS_MAX, self.ready.set)
            self._is_reconciled = True
            self._note_change()

    async def _reconcile_once(self, desired: NodeDesired) -> bool:
        """Go one step towards the desired state; return whether nothing failed."""
        wanted_ids = {worker.id for worker in desired.workers}
        self.supervisor.apply(wanted_ids, [])  # First let go of what others wait for.
        failed = await self._ensure([volume for volume in desired.volumes if not volume.deleted])
        specs = self._specs(desired, failed)
        self.supervisor.apply(wanted_ids, specs)
        complete = not failed
        deleted = [volume.id for volume in desired.volumes if volume.deleted]
        free = [volume_id for volume_id in deleted if not self.supervisor.is_held(volume_id)]
        gone = await asyncio.to_thread(self._volumes.delete_all, free)
        complete = complete and gone and len(free) == len(deleted)
        self._volumes.forget_deleted({volume.id for volume in desired.volumes})
        for worker_id in set(desired.deleted_workers) - wanted_ids:
            gone = not self.supervisor.has(worker_id) and await asyncio.to_thread(self._remains.remove, worker_id)
            complete = complete and gone
        self._remains.forget_removed(set(desired.deleted_workers))
        return complete

    async def _ensure(self, volumes: list[DesiredVolume]) -> set[str]:
        """Make the volumes be there, a few at a time, so that others do not wait for all; return which are not."""
        failed: set[str] = set()
        unsettled = self._volumes.unsettled(volumes)
        for start in range(0, len(unsettled), BATCH_VOLUMES):
            failed |= await asyncio.to_thread(self._volumes.ensure_all, unsettled[start : start + BATCH_VOLUMES])
            self._changed.set()
        return failed

    def _specs(self, desired: NodeDesired, failed_volume_ids: set[str]) -> list[WorkerSpec]:
        """Return the specs that can be given out, filled in; note for the others why not."""
        usable = {volume.id for volume in desired.volumes if not volume.deleted} - failed_volume_ids
        self._unready = {}
        specs = []
        for spec in desired.workers:
            missing = [member.volume_id for member in spec.members if member.volume_id not in usable]
            if missing:
                message = f"volume {missing[0]} at {self._settings.site} is not ready, so its worker waits for it"
                cause = self._volumes.failure(missing[0])
                if cause is not None:
                    message += f": {cause.message}"
                self._unready[spec.id] = Failure(POOL_FAILURE_CODE, message)
                continue
            listen = host_and_port(self._settings.stream_host, 0) if spec.role is Role.SECONDARY else None
            members = [self._volumes.fill(member) for member in spec.members]
            arbiter_url = None if spec.role is Role.SOLO else self._settings.arbiter_url(spec.id)
            ca_file = None if self._settings.ca_file is None else str(self._settings.ca_file)
            specs.append(
                dataclasses.replace(
                    spec, members=members, stream_listen=listen, arbiter_url=arbiter_url, arbiter_ca_file=ca_file
                )
            )
        return specs

    async def _observe(self) -> Observed:
        try:
            self._pool_report = await asyncio.to_thread(self._pool.report)
            self.is_pool_readable = True
        except StorageFault as fault:
            log.error("the pool cannot be read", reason=str(fault))
            self._pool_report = PoolReport(0, 0)
            self.is_pool_readable = False
        return Observed(self._pool_report, self._volumes.observed(), self._observed_workers(), self._remains.removed())

    def _observed_workers(self) -> list[ObservedWorker]:
        observed = {worker.id: worker for worker in self.supervisor.observed()}
        for worker_id, failure in self._unready.items():
            worker = observed.get(worker_id, ObservedWorker(worker_id, alive=False))
            observed[worker_id] = dataclasses.replace(worker, failure=worker.failure or failure)
        return list(observed.values())

    def _note_change(self) -> None:
        """A report would read differently now."""
        self._changed.set()
        if self.ready.is_set() or not self._is_reconciled or self._talk.desired is None:
            return
        # A worker that waits for a volume is told to the controller, and need not be waited for here.
        if self.supervisor.has_settled({spec.id for spec in self._talk.desired.workers} - self._unready.keys()):
            self.ready.set()

    def _note_lifecycle(self) -> None:
        """A worker started, ended or released a volume."""
        self._work.set()
        self._changed.set()
