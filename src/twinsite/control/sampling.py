"""Takes the samples of `history` in time, also of groups whose nodes talk to another controller of the database."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog

from twinsite.control.clock import utc_now
from twinsite.control.context import Context
from twinsite.control.history import INTERVAL_SECONDS, History, Sample
from twinsite.control.lifecycle.group_calls import find_group
from twinsite.control.repository import sites
from twinsite.errors import PeerViolation
from twinsite.messages import ObservedWorker, from_wire

_log = structlog.get_logger(__name__)


class Sampler:
    """Samples the groups of this installation until it is cancelled."""

    def __init__(self, context: Context, history: History) -> None:
        """Take samples into `history`, which the reconciler tells what nodes report to this process."""
        self._context = context
        self._history = history
        self._read: dict[str, dict[str, Any]] = {}
        """By site that talks to another controller: the reports on its workers, as they were last read."""

    async def run(self) -> None:
        """Take a sample at each multiple of the interval, for ever."""
        while True:
            await asyncio.sleep(INTERVAL_SECONDS - time.time() % INTERVAL_SECONDS)
            try:
                await self.sample(time.time())
            except Exception:
                # A database that restarts refuses connections with an error of the system's or of its driver's own.
                _log.exception("groups cannot be sampled; the next sample is due soon")

    async def sample(self, wall_seconds: float) -> None:
        """Take a sample now, which is `wall_seconds` since the epoch."""
        presence = self._context.presence
        heard = {name for name in self._context.settings.availability_zones if presence.is_fresh(name, None, utc_now())}
        heard |= await self._hear_elsewhere(heard)
        self._history.sample(
            round(wall_seconds / INTERVAL_SECONDS), asyncio.get_running_loop().time(), frozenset(heard)
        )

    async def _hear_elsewhere(self, heard: set[str]) -> set[str]:
        """Read what another controller was told; return the sites that talk to one."""
        for name in heard:
            self._read.pop(name, None)
        if len(heard) == len(self._context.settings.availability_zones):
            return set()
        elsewhere: set[str] = set()
        async with self._context.database.read() as session:
            for site in await sites.all_sites(session):
                is_there = self._context.presence.is_fresh(site.name, site.last_seen_at, utc_now())
                if site.name in heard or not is_there:
                    continue
                elsewhere.add(site.name)
                stored = await sites.reports_of_site(session, site.name)
                self._take(site.name, {worker_id: row.report for worker_id, row in stored.items()})
        return elsewhere

    def _take(self, site: str, reports: dict[str, Any]) -> None:
        now = asyncio.get_running_loop().time()
        known = self._read.get(site, {})
        for worker_id, report in reports.items():
            if report != known.get(worker_id):
                try:
                    self._history.hear_worker(now, site, from_wire(ObservedWorker, report, "stored report"))
                except PeerViolation as error:
                    _log.warning("stored report cannot be read", site=site, worker=worker_id, error=str(error))
        for group_id in self._history.groups_at(site):
            if group_id not in reports:
                self._history.hear_worker(now, site, ObservedWorker(group_id, alive=False))
        self._read[site] = reports

    async def samples(self, project_id: str, group_id: str, seconds: int) -> list[Sample]:
        """Return a group's samples of the last `seconds`, the oldest first. `RequestRefused` (404) when it is none."""
        async with self._context.database.read() as session:
            await find_group(session, project_id, group_id)
        return self._history.samples(group_id, seconds)
