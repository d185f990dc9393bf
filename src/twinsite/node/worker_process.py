"""One worker as its node sees it: keeps the process alive, hands it its spec, remembers its last word.

The process outlives the node: it has a session of its own, and a node that starts finds it again by its pid file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence

import structlog

from twinsite.errors import PeerViolation, RetryableError
from twinsite.messages import Failure, ObservedWorker, WorkerSpec, WorkerStatus
from twinsite.node.control_socket import converse
from twinsite.node.kept import KeptLogs
from twinsite.node.settings import NodeSettings
from twinsite.pidfile import LivingProcess, living_process
from twinsite.readiness import ENVIRONMENT_VARIABLE

RESTART_SECONDS_MIN = 0.2
RESTART_SECONDS_MAX = 10.0
"""Pause before a worker that died is started again; doubles between these after each early death."""
HEALTHY_SECONDS = 30.0
"""A worker that lived this long died of something new: the pause begins anew."""
DEATHS_REPORTED_MIN = 3
"""Early deaths in a row after which the controller is told that the worker keeps dying."""
STOP_SECONDS_MAX = 12.0
"""A worker that has not ended this long after SIGTERM is killed; it promises 10 seconds."""
KILL_SECONDS_MAX = 5.0
"""A process that has not ended this long after SIGKILL hangs in the kernel and is given up."""
RECONNECT_SECONDS_MIN = 0.02
RECONNECT_SECONDS_MAX = 1.0
"""Pause before the control socket is tried again."""

INTERNAL_FAILURE_CODE = "37000212"
"""EVS: internal error."""
WORKER_COMMAND = (sys.executable, "-m", "twinsite.worker")

log = structlog.get_logger(__name__)


class WorkerProcess:
    """Supervises one worker. `run` keeps it alive until it is cancelled, which leaves the process; `stop` ends it."""

    def __init__(
        self,
        worker_id: str,
        settings: NodeSettings,
        command: Sequence[str],
        on_status: Callable[[], None],
        on_lifecycle: Callable[[], None],
        *,
        is_adopted: bool = False,
    ) -> None:
        """`on_status` is called after each word of the worker, `on_lifecycle` when it may have released a volume.

        `is_adopted`: the process runs already, with volumes that are not known here.
        """
        self.id = worker_id
        self.spec: WorkerSpec | None = None
        self.status: WorkerStatus | None = None
        self._settings = settings
        self._kept = KeptLogs(settings.worker_state_dir(worker_id))
        self._command = command
        self._on_status = on_status
        self._on_lifecycle = on_lifecycle
        self._spec_given = asyncio.Event()
        self._is_unheard = is_adopted
        self._pid: int | None = None
        self._is_child = False
        self._held: frozenset[str] = frozenset()
        self._early_deaths = 0
        self._last_end = ""

    @property
    def pid_path(self) -> str:
        """The worker's pid file."""
        return str(self._settings.worker_run_dir / f"{self.id}.pid")

    @property
    def control_path(self) -> str:
        """The worker's control socket."""
        return str(self._settings.worker_run_dir / f"{self.id}.ctl")

    @property
    def log_path(self) -> str:
        """The worker's log file."""
        return str(self._settings.log_dir / f"{self.id}.log")

    @property
    def is_alive(self) -> bool:
        """Whether the process runs, as far as is known: one that was found at the start does until the contrary is."""
        return self._pid is not None or self._is_unheard

    @property
    def held_volume_ids(self) -> frozenset[str]:
        """The volumes that the worker has open, or may open at any moment."""
        return self._held

    @property
    def is_unheard(self) -> bool:
        """Whether it is an adopted process that has said nothing yet, so that its volumes are not known."""
        return self._is_unheard

    @property
    def has_answered(self) -> bool:
        """Whether the worker has the newest spec in force, or is known not to be able to."""
        if self._early_deaths >= DEATHS_REPORTED_MIN:
            return True
        if self.status is None or self.spec is None:
            return False
        return self.status.failure is not None or self.status.spec_version >= self.spec.version

    def give(self, spec: WorkerSpec) -> None:
        """Let the worker have this spec from now on."""
        assert spec.id == self.id
        if spec != self.spec:
            self.spec = spec
            self._held |= {member.volume_id for member in spec.members}
            self._spec_given.set()

    def observed(self) -> ObservedWorker:
        """Return the worker as it is."""
        failure = None
        if self._early_deaths >= DEATHS_REPORTED_MIN:
            message = f"worker {self.id} keeps dying, {self._last_end}; its log is {self.log_path}"
            failure = Failure(INTERNAL_FAILURE_CODE, message)
        status = self.status if self.is_alive else None
        return ObservedWorker(self.id, self.is_alive, self._pid, status, failure, self._kept.now())

    async def run(self) -> None:
        """Keep the worker alive and in conversation, for ever."""
        while True:
            started_at = time.monotonic()
            try:
                process = await self._find_or_start()
                await self._attend(process)
                self._last_end = "it ended"
            except (OSError, RetryableError) as error:
                self._last_end = f"it cannot be started: {error}"
            self._note_end(time.monotonic() - started_at)
            log.warning("worker ended", worker=self.id, reason=self._last_end, early_deaths=self._early_deaths)
            await asyncio.sleep(min(RESTART_SECONDS_MIN * 2 ** min(self._early_deaths - 1, 16), RESTART_SECONDS_MAX))

    async def stop(self) -> None:
        """End the process, cleanly if it can, and remove its pid file and socket. `run` must not be running."""
        process = await asyncio.to_thread(self._process_to_stop)
        if process is not None:
            with process:
                log.info("stopping worker", worker=self.id, pid=process.pid)
                ended = await asyncio.to_thread(process.terminate, STOP_SECONDS_MAX, KILL_SECONDS_MAX)
            if not ended:
                log.error("worker does not end even when killed", worker=self.id, pid=process.pid)
                return
        self._reap()
        self._pid = None
        self._held = frozenset()
        # Nobody else starts a worker of this id at this site: the node holds the site's lock.
        for path in (self.pid_path, self.control_path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _process_to_stop(self) -> LivingProcess | None:
        # A child that was just started has not taken its pid file yet. Until it is reaped its pid is its own.
        if self._is_child and self._pid is not None:
            return LivingProcess(self._pid)
        return living_process(self.pid_path)

    async def _find_or_start(self) -> LivingProcess:
        process = await asyncio.to_thread(living_process, self.pid_path)
        if process is not None:
            log.info("found worker", worker=self.id, pid=process.pid)
            return process
        state_dir = self._settings.worker_state_dir(self.id)
        state_dir.mkdir(parents=True, exist_ok=True)
        arguments = [
            *self._command,
            *("--id", self.id),
            *("--run-dir", str(self._settings.worker_run_dir)),
            *("--state-dir", str(state_dir)),
        ]
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        # Not subprocess: its objects tie the child to the parent, and this child is meant to stay.
        pid = os.posix_spawn(
            arguments[0],
            arguments,
            {name: value for name, value in os.environ.items() if name != ENVIRONMENT_VARIABLE},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, self.log_path, append, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        self._pid = pid
        self._is_child = True
        log.info("started worker", worker=self.id, pid=pid)
        return LivingProcess(pid)

    async def _attend(self, process: LivingProcess) -> None:
        self._pid = process.pid
        self._on_status()
        conversation = asyncio.create_task(self._converse())
        healthy = asyncio.get_running_loop().call_later(HEALTHY_SECONDS, self._note_healthy)
        try:
            await process.wait_ended()
        finally:
            healthy.cancel()
            conversation.cancel()
            await asyncio.gather(conversation, return_exceptions=True)
            process.close()

    async def _converse(self) -> None:
        pause = RECONNECT_SECONDS_MIN
        while True:
            try:
                talk = converse(self.control_path, self._spec_given, lambda: self.spec)
                async with contextlib.aclosing(talk) as statuses:
                    async for status in statuses:
                        pause = RECONNECT_SECONDS_MIN
                        self._take_status(status)
            except OSError:
                pass  # The worker does not listen yet, or has just ended.
            except PeerViolation as violation:
                log.error("worker does not keep to the control protocol", worker=self.id, reason=str(violation))
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, RECONNECT_SECONDS_MAX)

    def _take_status(self, status: WorkerStatus) -> None:
        if status.id != self.id:
            raise PeerViolation(f"worker {self.id} answers as {status.id}")
        held = {member.volume_id for member in status.members}
        if self.spec is not None:
            held |= {member.volume_id for member in self.spec.members}
            if status.spec_version < self.spec.version:
                held |= self._held  # Until the newest spec is in force, the worker may still have what it had.
        was_unheard, self._is_unheard = self._is_unheard, False
        released = not self._held <= held
        self._held = frozenset(held)
        if self.status is None or self.status.mode is not status.mode:
            self._kept.look_again()  # A resync that ended may have left one.
        self.status = status
        self._on_status()
        if released or was_unheard:
            self._on_lifecycle()

    def _note_healthy(self) -> None:
        """It lives on: whatever it died of has passed."""
        self._early_deaths = 0
        self._on_status()

    def _note_end(self, lived_seconds: float) -> None:
        status = self._reap()
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            self._last_end = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
        self._early_deaths = 1 if lived_seconds >= HEALTHY_SECONDS else self._early_deaths + 1
        self._is_unheard = False
        self._pid = None
        self.status = None
        self._held = frozenset(member.volume_id for member in self.spec.members) if self.spec else frozenset()
        self._on_status()
        self._on_lifecycle()

    def _reap(self) -> int | None:
        """Take the exit status of our own ended child; an adopted worker has another parent."""
        if not self._is_child or self._pid is None:
            return None
        try:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:
            return None
        self._is_child = pid == 0
        return status if pid else None
