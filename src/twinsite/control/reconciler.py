"""Nodes: takes their reports into the database, and tells them what their site should be."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.actor import CONTROLLER, current_actor
from twinsite.control.clock import utc_now
from twinsite.control.context import Context, observed_workers
from twinsite.control.desired import DesiredStates
from twinsite.control.history import History
from twinsite.control.lifecycle import chronicle
from twinsite.control.lifecycle.extending import Outcome, refusals, settle_extend
from twinsite.control.lifecycle.reports import living_status
from twinsite.control.lifecycle.restored import Memory, take_knowledge
from twinsite.control.lifecycle.settling import MOVING, Step, move_facts, next_step, settle_group, settle_move
from twinsite.control.lifecycle.states import (
    VolumeStatus,
    pair_status_after_volumes,
    volume_status_after_report,
)
from twinsite.control.lifecycle.volume_extending import settle_volume_extends
from twinsite.control.models import Volume, WorkerReport
from twinsite.control.refusals import RequestRefused
from twinsite.control.repository import arbiter_rows, objects, sites, tombstones
from twinsite.control.repository.tombstones import Kind
from twinsite.messages import (
    Failure,
    Mode,
    NodeDesired,
    NodeReport,
    ObservedVolume,
    ObservedWorker,
    Role,
    to_wire,
)

_log = structlog.get_logger(__name__)

GENERATION_MAX = 2**53
"""A node that claims to have seen more is not believed; also where JSON numbers stay exact."""
POOL_BYTES_MAX = 2**63 - 1
"""What the database can hold."""

OBJECTS_MAX = 5000
"""Most ids of one query; for more, all of a site's objects are read."""

_BEGUN = frozenset({Mode.COPYING, Mode.IN_SYNC})


@dataclass(frozen=True, slots=True)
class Heard:
    """What a site's node said last: what the next report may build on, and what it need not say again.

    `content` is what a complete report observed; None after one that only added to it.
    """

    report_id: str
    seen_generation: int
    deleted_workers: list[str]
    content: tuple[Any, Any] | None

    @classmethod
    def of(cls, report: NodeReport) -> Heard:
        """Return what is kept of a report."""
        content = (to_wire(report.volumes), to_wire(report.workers)) if report.basis is None else None
        return cls(report.report_id, report.seen_generation, sorted(report.deleted_workers), content)

    def is_news(self, report: NodeReport) -> bool:
        """Say whether a report, complete or built on this one, says anything else."""
        said = (self.seen_generation, self.deleted_workers)
        if said != (report.seen_generation, sorted(report.deleted_workers)):
            return True
        if report.basis is None:
            return self.content != Heard.of(report).content
        return bool(report.volumes or report.workers or report.gone_workers)


class Reconciler:
    """The controller's half of the conversation with nodes. Both halves are level-triggered."""

    def __init__(
        self,
        context: Context,
        memory: Memory,
        installation_id: str,
        worker_token: Callable[[str], str],
        history: History | None = None,
    ) -> None:
        """Serve the nodes of this installation. `worker_token` gives what a group's workers show the arbiter.

        `history` is told everything that is new.
        """
        self._context = context
        self._memory = memory
        self._history = history or History()
        self._desired = DesiredStates(context, installation_id, worker_token)
        self._heard: dict[str, Heard] = {}  # By site: the last report that this process has taken in.
        self._hearing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._recorded: dict[str, float] = {}
        self._connected: frozenset[str] | None = None  # When the groups were last looked at.

    async def sync(self, report: NodeReport, gone: Callable[[], Awaitable[bool]]) -> NodeDesired:
        """Take a report in; answer what the site should be, once that is newer than what the node has seen.

        `gone` says whether the node hung up; a node that did gets an answer that nobody reads. `RequestRefused` (404)
        for a site that is not in the settings.
        """
        if report.site not in self._context.settings.availability_zones:
            zones = ", ".join(self._context.settings.availability_zones)
            raise RequestRefused(404, "EVS.1036", f"There is no site {report.site!r}; the settings have {zones}.")
        await self.observe(report)

        async def look() -> bool | None:
            await self._keep_presence(report.site)
            async with self._context.database.read() as session:
                if await sites.generation(session, report.site) > report.seen_generation:
                    return True
            return True if await gone() else None

        seconds = min(report.wait_seconds, self._context.settings.node_wait_seconds_max)
        await self._context.wakeups.until(look, max(0.0, seconds))
        answer = await self._desired.answer(report)
        heard = self._heard.get(report.site)
        return replace(answer, report_id=heard.report_id if heard is not None else "")

    async def _keep_presence(self, site: str) -> None:
        """Record that a node is there: always in memory, in the database now and then for other controllers."""
        self._context.presence.record(site)
        now = asyncio.get_running_loop().time()
        if now - self._recorded.get(site, float("-inf")) >= self._context.settings.presence_seconds:
            self._recorded[site] = now
            async with self._context.database.write() as session:
                await sites.record_presence(session, site, {}, utc_now())

    async def observe(self, report: NodeReport) -> None:
        """Take a report in. One that says nothing new costs no write, and neither does one whose basis is not known."""
        self._context.presence.record(report.site)
        await self._memory.keep_owed()
        # One after the other: what is in the database is what the last one that was heard says.
        async with self._hearing[report.site]:
            await self._hear(report)

    async def _hear(self, report: NodeReport) -> None:
        ahead, is_awaited = await self._look_at(report)
        if ahead and await self._memory.distrust():
            self._heard.clear()
            is_awaited = True
        if is_awaited:
            # What a group's row waits for is in a complete report, whether that says anything new or not.
            self._heard.pop(report.site, None)
        heard = self._heard.get(report.site)
        counts = report.basis is None or (heard is not None and heard.report_id == report.basis)
        is_new = counts and (heard is None or heard.is_news(report))
        if is_new or ahead:
            await self._store(report, is_new, ahead)
        if is_new:
            await self.settle_extends(report.volumes)
        if is_new or any(volume.refused_bytes for volume in report.volumes):
            # What a pool still refuses may be an extension that was asked for since.
            await settle_volume_extends(self._context, report.volumes)
        if counts:
            self._heard[report.site] = Heard.of(report)
            self._history.hear(asyncio.get_running_loop().time(), report)
        if self._memory.is_refuted and await self._memory.distrust():
            self._heard.clear()
        if is_new or ahead:
            await self._context.wakeups.notify()

    async def _store(self, report: NodeReport, is_new: bool, ahead: bool) -> None:
        async with self._context.database.write() as session:
            if is_new:
                values = {
                    "node_name": report.node_name[:255],
                    "seen_generation": min(report.seen_generation, GENERATION_MAX),
                    "pool_total_bytes": min(report.pool.total_bytes, POOL_BYTES_MAX),
                    "pool_free_bytes": min(report.pool.free_bytes, POOL_BYTES_MAX),
                }
                await sites.record_presence(session, report.site, values, utc_now())
                stale = await self._take_removals(session, report)
                if report.site not in await sites.lost_names(session):
                    stale |= await self._take_volumes(session, report.site, report.volumes)
                    stale |= await self._take_workers(session, report)
                await session.flush()
                await sites.raise_generation(session, stale)
            if ahead:
                await sites.set_generation(session, report.site, report.seen_generation + 1)

    async def _look_at(self, report: NodeReport) -> tuple[bool, bool]:
        """Say whether the node has seen a generation of the future, and whether a group's row waits for its word.

        The first is so only when the database was restored from a backup.
        """
        async with self._context.database.read() as session:
            current = await sites.generation(session, report.site)
            is_awaited = bool(await arbiter_rows.unheard_groups(session, report.site))
        return current < report.seen_generation < GENERATION_MAX, is_awaited

    async def _take_removals(self, session: AsyncSession, report: NodeReport) -> set[str]:
        """Forget what a node has removed of which nothing else is known; return the site if that changed anything."""
        gone = [volume.id for volume in report.volumes if volume.state == "deleted"]
        changed = await tombstones.forget(session, report.site, Kind.VOLUME, gone)
        changed |= await tombstones.forget(session, report.site, Kind.WORKER, report.deleted_workers)
        return {report.site} if changed else set()

    async def _take_volumes(self, session: AsyncSession, site: str, observed: Sequence[ObservedVolume]) -> set[str]:
        """Move volumes, and the pairs that wait for them, on; return the sites whose desired state changed."""
        ids = {item.id for item in observed}
        few = len(ids) <= OBJECTS_MAX
        found = await (objects.volumes_by_ids(session, ids) if few else objects.volumes_of_site(session, site))
        known = {volume.id: volume for volume in found if volume.site == site}
        changed: list[str] = []
        stale: set[str] = set()
        for item in observed:
            volume = known.get(item.id)
            if volume is None or not _take_volume(volume, item):
                continue
            changed.append(volume.id)
            if volume.status == VolumeStatus.DELETING and item.state == "deleted":
                await session.delete(volume)
                stale.add(site)
        for pair in await objects.pairs_of_volumes(session, changed):
            status = pair_status_after_volumes(pair.status, pair.production_volume.status, pair.dr_volume.status)
            if status != pair.status:
                pair.status, pair.updated_at = status.value, utc_now()
                failing = pair.production_volume if pair.production_volume.failure_code else pair.dr_volume
                pair.failure_code, pair.failure_message = failing.failure_code, failing.failure_message
        return stale

    async def _take_workers(self, session: AsyncSession, report: NodeReport) -> set[str]:
        """Store reports on workers and move their groups on; return the sites whose desired state changed."""
        site, observed = report.site, {worker.id: worker for worker in report.workers}
        if report.basis is None or len(observed) + len(report.gone_workers) > OBJECTS_MAX:
            stored = await sites.reports_of_site(session, site)
        else:
            stored = await sites.reports_of_site_on(session, site, {*observed, *report.gone_workers})
        gone = set(stored) - set(observed) if report.basis is None else set(stored) & set(report.gone_workers)
        touched: set[str] = set(gone)
        for worker in observed.values():
            row = stored.pop(worker.id, None)
            wire = to_wire(worker)
            if row is None:
                session.add(WorkerReport(site=site, worker_id=worker.id, report=wire))
            elif row.report != wire and not _is_older(worker, row.report):
                row.report = wire
            else:
                continue
            touched.add(worker.id)
        await sites.forget_reports(session, site, list(gone))
        touched |= await arbiter_rows.unheard_groups(session, site)
        await session.flush()
        stale: set[str] = set()
        reports = await observed_workers(session, touched)
        connected = await self._context.connected_sites(session)
        lost = await sites.lost_names(session)
        for group in await objects.groups_by_ids(session, touched, locked=True):
            # What is stored may be of the time of a backup; only this very report is the site's word.
            said = observed.get(group.id)
            stale |= await take_knowledge(self._context, session, self._memory, group, site, said)
            secondary = living_status(reports.get((group.secondary_station, group.id)), Role.SECONDARY)
            endpoint = secondary.stream_endpoint if secondary is not None else None
            if secondary is not None and secondary.term != group.arbiter.term:
                endpoint = None  # It has not yet heard that the sites changed roles.
            if endpoint is not None and endpoint != group.peer_endpoint:
                group.peer_endpoint = endpoint
                group.spec_version += 1
                stale |= {group.priority_station, group.secondary_station}
            primary = living_status(reports.get((group.priority_station, group.id)), Role.PRIMARY)
            if primary is not None and primary.spec_version >= group.wish_version and primary.mode in _BEGUN:
                group.synced_at = None  # From here on, connecting is an interruption.
            group.replication_status = self._context.health(group, reports, connected).replication_status.value
            settle_group(group, reports, lost)
            stale |= await settle_move(session, group, reports, connected, self._context.settings.reverse_wait_seconds)
            await session.flush()
            await chronicle.observe(self._context, session, group, reports, connected)
        return stale

    async def settle_extends(self, observed: Sequence[ObservedVolume] = ()) -> None:
        """Take the next step of every extension that has one; `observed` are volumes that a node has just reported."""
        async with self._context.database.read() as session:
            growing = await objects.extending_group_ids(session, Outcome.RUNNING)
        stale: set[str] = set()
        for group_id in growing:
            # One group in one transaction: nobody waits for a second lock with a first one in hand.
            async with self._context.database.write() as session:
                steps: set[str] = set()
                lost = await sites.lost_names(session)
                for group in await objects.groups_by_ids(session, [group_id], locked=True):
                    reports = await observed_workers(session, [group_id])
                    refused = refusals(group, observed)
                    steps |= await settle_extend(self._context, session, group, reports, refused, lost)
                await session.flush()
                await sites.raise_generation(session, steps)
            stale |= steps
        if stale:
            await self._context.wakeups.notify()

    async def watch_moves(self) -> None:
        """Take the steps of moves that no report brings about: deadlines, and sites that fell silent. Runs for ever."""
        while True:
            await asyncio.sleep(self._context.settings.poll_seconds)
            try:
                await self.settle_moves()
                await self.settle_extends()
                await settle_volume_extends(self._context)
                await self.observe_groups()
            except Exception:
                # A database that restarts refuses connections with an error of the system's or of its driver's own.
                _log.exception("moves cannot be looked at; the next look comes soon")

    async def observe_groups(self) -> None:
        """Record what changed without a report: sites that fell silent or came back, and graces that are over."""
        current_actor.set(CONTROLLER)
        async with self._context.database.read() as session:
            connected = self._context.sites_to_believe_in(await self._context.connected_sites(session))
            groups = await objects.every_group(session) if connected != self._connected else ()
            groups = groups or await objects.groups_awaiting_sync(session)
            reports = await observed_workers(session, [group.id for group in groups])
        changed = [g.id for g in groups if chronicle.differs(self._context, g, reports, connected)]
        for group_id in changed:
            async with self._context.database.write() as session:
                for group in await objects.groups_by_ids(session, [group_id], locked=True):
                    reports = await observed_workers(session, [group_id])
                    await chronicle.observe(self._context, session, group, reports, connected)
        self._connected = connected

    async def settle_moves(self) -> None:
        """Take the next step of every move that has one."""
        current_actor.set(CONTROLLER)
        async with self._context.database.read() as session:
            connected = await self._context.connected_sites(session)
            groups = await objects.groups_in(session, MOVING)
            reports = await observed_workers(session, [group.id for group in groups])
        now = utc_now()
        due = [group.id for group in groups if next_step(move_facts(group, reports, connected, now)) is not Step.WAIT]
        for group_id in due:
            async with self._context.database.write() as session:
                stale: set[str] = set()
                for group in await objects.groups_by_ids(session, [group_id], locked=True):
                    reports = await observed_workers(session, [group_id])
                    stale |= await settle_move(
                        session, group, reports, connected, self._context.settings.reverse_wait_seconds
                    )
                    await session.flush()
                    await chronicle.observe(self._context, session, group, reports, connected)
                await session.flush()
                await sites.raise_generation(session, stale)
        if due:
            await self._context.wakeups.notify()


def _take_volume(volume: Volume, item: ObservedVolume) -> bool:
    """Take a node's word on a volume in; say whether anything changed."""
    status = volume_status_after_report(volume.status, item.state, bool(volume.attachments))
    failure = item.failure or (
        Failure("37100048", f"the disk {volume.id} is missing") if item.state != "ready" else None
    )
    code, message = (failure.code, failure.message) if failure is not None and item.state == "error" else (None, None)
    if status is VolumeStatus.ERROR_EXTENDING:
        code, message = volume.failure_code, volume.failure_message
    new_status = status.value if status is not None else VolumeStatus.DELETING.value
    store_bytes = min(item.store_bytes, POOL_BYTES_MAX)
    is_new = (volume.status, volume.node_state, volume.nbd_uris) != (new_status, item.state, list(item.nbd_uris))
    is_new |= (volume.failure_code, volume.failure_message, volume.store_bytes) != (code, message, store_bytes)
    if is_new:
        volume.status, volume.node_state, volume.nbd_uris = new_status, item.state, list(item.nbd_uris)
        volume.failure_code, volume.failure_message, volume.store_bytes = code, message, store_bytes
    return is_new


def _is_older(worker: ObservedWorker, stored: dict[str, Any]) -> bool:
    """Say whether a report left the node before the stored one: two requests of a node may overtake each other."""
    status = stored.get("status")
    if worker.status is None or not isinstance(status, dict) or worker.pid != stored.get("pid"):
        return False
    return worker.status.spec_version < int(status["spec_version"])
