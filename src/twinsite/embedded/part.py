"""One part of the installation: a child process that is started again when it dies."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import structlog

from twinsite.errors import ConfigurationError
from twinsite.pidfile import LivingProcess
from twinsite.readiness import ENVIRONMENT_VARIABLE, ReadinessSocket

RESTART_SECONDS_MIN = 0.2
RESTART_SECONDS_MAX = 10.0
"""Pause before a part that died is started again; doubles between these after each early death."""
HEALTHY_SECONDS = 30.0
"""A part that lived this long died of something new: the pause begins anew."""
KILL_SECONDS_MAX = 5.0
"""A process that has not ended this long after SIGKILL hangs in the kernel and is given up."""
LOG_TAIL_BYTES = 2000
"""How much of the log is quoted when a part ends at its start."""

COMMAND = (sys.executable, "-m", "twinsite.cli.services")

log = structlog.get_logger(__name__)


class Part:
    """A part's process. `run` keeps it alive until cancelled, `stop` ends it.

    It is started only once `may_start` returns.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        log_path: Path,
        may_start: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self.ended = asyncio.Event()
        """Set when the process has ended for the first time."""
        self._arguments = [*COMMAND, *arguments]
        self._may_start = may_start
        self._process: subprocess.Popen[bytes] | None = None
        self._readiness = ReadinessSocket()

    async def run(self) -> None:
        """Keep the process alive, for ever."""
        early_deaths = 0
        while True:
            if self._may_start is not None:
                await self._may_start()
            started_at = time.monotonic()
            code = await self._run_once()
            self.ended.set()
            early_deaths = 1 if time.monotonic() - started_at >= HEALTHY_SECONDS else early_deaths + 1
            pause = min(RESTART_SECONDS_MIN * 2 ** min(early_deaths - 1, 16), RESTART_SECONDS_MAX)
            log.warning("a part ended and is started again", part=self.name, exit=code, pause=pause, log=self.log_path)
            await asyncio.sleep(pause)

    async def _run_once(self) -> int | str:
        """Run the process to its end; return its exit status, or why it cannot be started."""
        try:
            self._process = self._spawn()
        except OSError as error:
            return str(error)
        with LivingProcess(self._process.pid) as living:
            await living.wait_ended()
        code = self._process.wait()
        self._process = None
        return code

    async def wait_ready(self, seconds_max: float) -> None:
        """Wait until the process says that it is ready. Raises `ConfigurationError` when it ends or takes too long."""
        ready = asyncio.create_task(self._readiness.wait())
        ended = asyncio.create_task(self.ended.wait())
        try:
            await asyncio.wait((ready, ended), timeout=seconds_max, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                return
            problem = "ended at its start" if ended.done() else f"was not ready after {seconds_max:.0f} seconds"
        finally:
            ready.cancel()
            ended.cancel()
            await asyncio.gather(ready, ended, return_exceptions=True)
            # From now on nobody listens, and a restarted process need not be heard.
            self._readiness.close()
        raise ConfigurationError(f"{self.name} {problem}; its log {self.log_path} ends with:\n{self._log_tail()}")

    async def stop(self, seconds_max: float) -> None:
        """End the process: SIGTERM, and SIGKILL after `seconds_max`. `run` must not be running any more."""
        self._readiness.close()
        process, self._process = self._process, None
        if process is None:
            return
        with LivingProcess(process.pid) as living:
            ended = await asyncio.to_thread(living.terminate, seconds_max, KILL_SECONDS_MAX)
        if ended:
            process.wait()
        else:
            log.error("a part does not end even when killed", part=self.name, pid=process.pid)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log_file:
            return subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                env={**os.environ, ENVIRONMENT_VARIABLE: self._readiness.address},
                # A Ctrl-C at the terminal is for `up`, which ends its parts in order.
                start_new_session=True,
            )

    def _log_tail(self) -> str:
        content = self.log_path.read_bytes()[-LOG_TAIL_BYTES:]
        return content.decode(errors="replace").strip()
