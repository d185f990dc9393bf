"""A primary's conversation with the arbiter: one call at a time, made when the machine wants it.

Nothing here decides about data: an answer is told to the machine, and the machine knows what it may do then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import structlog

from twinsite.core.arbiter import Refusal, Row
from twinsite.core.group.primary import Primary
from twinsite.errors import RetryableError, StorageFault
from twinsite.latency import LatencyRecorder
from twinsite.messages import Failure
from twinsite.worker.backoff import Backoff
from twinsite.worker.standing import Standing

log = structlog.get_logger(__name__)

RETRY_SECONDS_MIN = 0.1
RETRY_SECONDS_MAX = 2.0
"""Pause before the arbiter is asked again after it could not be reached; doubles between these."""

MAY_LACK_WRITES = (
    "acknowledged writes may be missing at this site: its machine restarted, or a flush failed, before they were "
    "durable; the other site has them: bring it back, or fail over to it, or accept the loss by a forced stop or "
    "failover"
)

BOTH_MAY_LACK_WRITES = (
    "acknowledged writes may be missing at both sites: here the machine restarted, or a flush failed, and a "
    "flush failed at the other one; what hosts had flushed is at both; nobody can say which of them has more of the "
    "rest; go on with what is here by a forced stop, or with what is there by a forced failover"
)

UNHEARD = (
    "the controller's database was restored from a backup, and grants nothing before both sites have said what they "
    "know (a forced stop or failover does without that); it has not heard of"
)


class Arbiter(Protocol):
    """What `arbiter_client.ArbiterClient` offers. Calls block; `RetryableError` when there is no answer."""

    def read(self) -> Row | Refusal:
        """Return the group's row."""

    def suspend_secondary(self, version: int) -> Row | Refusal:
        """Ask to go on alone."""

    def secondary_in_sync(self, version: int) -> Row | Refusal:
        """Report that the secondary has everything and is waited for."""


@dataclass(slots=True)
class Calls:
    """Counts calls, one at a time, each with what is done about its answer."""

    begun: int = 0
    ended: int = 0


class Arbitration:
    """Asks for grants and reports, as the machine wants them.

    `on_answer` is called after each change of the machine. `row` is the arbiter's last word.
    """

    def __init__(
        self,
        machine: Primary,
        standing: Standing,
        arbiter: Arbiter | None,
        site: str,
        term: int,
        on_answer: Callable[[], None],
    ) -> None:
        self._machine = machine
        self._standing = standing
        self._arbiter = arbiter
        self._site = site
        self._term = term
        self._on_answer = on_answer
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="arbiter")
        self._wake = asyncio.Event()
        self._may_ask = False
        self.row: Row | None = None
        self.newest: Row | None = None  # Of all that were believed: a database that is restored goes back.
        self.failure: Failure | None = None
        self.latency = LatencyRecorder()  # Of every call, answered or not.
        self.failures = 0  # Calls without an answer.
        self.calls = Calls()
        self._task = asyncio.create_task(self._run(), name="arbitration")

    def use(self, arbiter: Arbiter | None) -> None:
        """Talk to this arbiter from now on."""
        self._arbiter = arbiter
        self._wake.set()

    def allow_asking(self) -> None:
        """The stream cannot be relied on: from now on ask for a grant whenever the machine wants one."""
        self._may_ask = True
        self._wake.set()

    def look(self) -> None:
        """The machine may want something."""
        if self._machine.wants_report or (self._machine.wants_grant and self._may_ask):
            self._wake.set()

    async def close(self) -> None:
        """Ask nothing more. A call that is on its way may still take effect, which only makes the record older."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        backoff = Backoff(RETRY_SECONDS_MIN, RETRY_SECONDS_MAX)
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not (self._machine.wants_report or (self._machine.wants_grant and self._may_ask)):
                continue
            self.calls.begun += 1
            try:
                await self._ask()
            except RetryableError as error:
                self.failure = Failure("37100043", f"the arbiter cannot be asked: {error}")
                log.warning("arbiter.unreachable", error=str(error))
            except StorageFault as error:
                self.failure = Failure("37100177", f"what the arbiter said cannot be kept: {error}")
                log.error("arbiter.not_kept", error=str(error))
            else:
                backoff.reset()
            self.calls.ended += 1
            self._on_answer()
            if self._machine.wants_report or (self._machine.wants_grant and self._may_ask):
                if self.failure is not None:
                    await asyncio.sleep(backoff.next_seconds(hosts_are_held=self._machine.wants_grant))
                self._wake.set()

    async def _ask(self) -> None:
        arbiter = self._arbiter
        if arbiter is None:
            raise RetryableError("the node has not said where it is")
        machine = self._machine
        if self.row is None or machine.must_wait:
            self._learn(await self._call(arbiter.read))
            if self.failure is not None or self.row is None:
                return
        version = self.row.version
        if machine.wants_grant:
            if machine.must_wait:
                text = BOTH_MAY_LACK_WRITES if self._standing.is_peer_in_doubt else MAY_LACK_WRITES
                self.failure = Failure("37100177", text)
                return
            result = await self._call(arbiter.suspend_secondary, version)
            if self._learn(result):
                log.info("arbiter.granted", term=self._term, version=self.row.version)
                await self._standing.go_alone(self.row.version, self.row.stale_since)
        elif machine.wants_report:
            await self._standing.promise_all()
            result = await self._call(arbiter.secondary_in_sync, version)
            if self._learn(result):
                machine.reported()

    async def _call(self, ask: Callable[..., Row | Refusal], *arguments: int) -> Row | Refusal:
        """Make one call in the thread. Raises `RetryableError` when there is no answer."""
        begun_at = time.perf_counter()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, ask, *arguments)
        except RetryableError:
            self.failures += 1
            raise
        finally:
            self.latency.add(time.perf_counter() - begun_at)

    def _learn(self, result: Row | Refusal) -> bool:
        """Take an answer; return whether the call was granted."""
        self.failure = None
        row = result.row if isinstance(result, Refusal) else result
        self.row = row
        if row.unheard:
            # Whatever it says may be of a history that the sites have left: nobody is to hear of it from here.
            self.failure = Failure("37100043", f"{UNHEARD}: {', '.join(row.unheard)}")
            return False
        if row.term >= self._term and (self.newest is None or row.version > self.newest.version):
            self.newest = row
        if row.term < self._term:
            problem = (
                f"the arbiter is at term {row.term}, this worker at {self._term}: the arbiter's database is too old"
            )
            self.failure = Failure("37000212", problem)
            return False
        if row.term > self._term or row.primary_site != self._site:
            log.warning("arbiter.replaced", primary_site=row.primary_site, term=row.term)
            self._machine.replaced()
            return False
        return isinstance(result, Row)
