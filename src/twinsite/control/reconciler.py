"""Nodes: takes their reports into the database, and tells them what their site should be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.actor import CONTROLLER, current_actor
from twinsite.control.clock import utc_now
from twinsite.control.context import Context, observed_workers
from twinsite.control.lifecycle import chronicle
from twinsite.control.lifecycle.extending import refusals, settle_extend
from twinsite.control.lifecycle.reports import living_status
from twinsite.control.lifecycle.restored import Memory, take_knowledge
from twinsite.control.lifecycle.settling import MOVING, Step, move_facts, next_step, settle_group, settle_move
from twinsite.control.lifecycle.states import (
    VolumeStatus,
    pair_status_after_volumes,
    volume_status_after_report,
)
from twinsite.control.lifecycle.volume_extending import settle_volume_extends
from twinsite.control.models import Group, Volume, WorkerReport
from twinsite.control.refusals import RequestRefused
from twinsite.control.repository import arbiter_rows, objects, sites, tombstones
from twinsite.control.repository.tombstones import Kind
from twinsite.core.limits import GIB
from twinsite.messages import (
    DesiredVolume,
    Failure,
    MemberSpec,
    Mode,
    NodeDesired,
    NodeReport,
    ObservedVolume,
    ObservedWorker,
    Replication,
    Role,
    WorkerSpec,
    to_wire,
)

_log = structlog.get_logger(__name__)

GENERATION_MAX = 2**53
"""A node that claims to have seen more is not believed; also where JSON numbers stay exact."""
POOL_BYTES_MAX = 2**63 - 1
"""What the database can hold."""

_BEGUN = frozenset({Mode.COPYING, Mode.IN_SYNC})


class Reconciler:
    """The controller's half of the conversation with nodes. Both halves are level-triggered."""

    def __init__(
        self, context: Context, memory: Memory, installation_id: str, worker_token: Callable[[str], str]
    ) -> None:
        """Serve the nodes of this installation. `worker_token` gives what a group's workers show the arbiter."""
        self._context = context
        self._memory = memory
        self._installation_id = installation_id
        self._worker_token = worker_token
        self._taken: dict[str, tuple[Any, ...]] = {}
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
        return await self.desired(report.site)

    async def _keep_presence(self, site: str) -> None:
        """Record that a node is there: always in memory, in the database now and then for other controllers."""
        self._context.presence.record(site)
        now = asyncio.get_running_loop().time()
        if now - self._recorded.get(site, float("-inf")) >= self._context.settings.presence_seconds:
            self._recorded[site] = now
            async with self._context.database.write() as session:
                await sites.record_presence(session, site, {}, utc_now())

    async def observe(self, report: NodeReport) -> None:
        """Take a report in. One that says nothing new costs no write."""
        self._context.presence.record(report.site)
        content = (
            report.seen_generation,
            to_wire(report.volumes),
            to_wire(report.workers),
            sorted(report.deleted_workers),
        )
        unseen = self._taken.get(report.site) != content
        ahead = await self._generation_lags(report)
        if not unseen and not ahead:
            if any(volume.refused_bytes for volume in report.volumes):
                # What a pool still refuses may be an extension that was asked for since.
                await settle_volume_extends(self._context, report.volumes)
            return
        if ahead and await self._memory.distrust():
            self._taken.clear()  # What was reported is to be heard once more.
        async with self._context.database.write() as session:
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
                stale |= await self._take_workers(session, report.site, report.workers)
            await session.flush()
            await sites.raise_generation(session, stale)
            if ahead:
                await sites.set_generation(session, report.site, report.seen_generation + 1)
        await self.settle_extends(report.volumes)
        await settle_volume_extends(self._context, report.volumes)
        self._taken[report.site] = content
        await self._context.wakeups.notify()

    async def _generation_lags(self, report: NodeReport) -> bool:
        """Say whether the node has seen a generation of the future: the database was restored from a backup."""
        async with self._context.database.read() as session:
            current = await sites.generation(session, report.site)
        return current < report.seen_generation < GENERATION_MAX

    async def _take_removals(self, session: AsyncSession, report: NodeReport) -> set[str]:
        """Forget what a node has removed of which nothing else is known; return the site if that changed anything."""
        gone = [volume.id for volume in report.volumes if volume.state == "deleted"]
        changed = await tombstones.forget(session, report.site, Kind.VOLUME, gone)
        changed |= await tombstones.forget(session, report.site, Kind.WORKER, report.deleted_workers)
        return {report.site} if changed else set()

    async def _take_volumes(self, session: AsyncSession, site: str, observed: Sequence[ObservedVolume]) -> set[str]:
        """Move volumes, and the pairs that wait for them, on; return the sites whose desired state changed."""
        known = {volume.id: volume for volume in await objects.volumes_of_site(session, site)}
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

    async def _take_workers(self, session: AsyncSession, site: str, observed: Sequence[ObservedWorker]) -> set[str]:
        """Store reports on workers and move their groups on; return the sites whose desired state changed."""
        stored = await sites.reports_of_site(session, site)
        touched: set[str] = set()
        for worker in {worker.id: worker for worker in observed}.values():
            row = stored.pop(worker.id, None)
            wire = to_wire(worker)
            if row is None:
                session.add(WorkerReport(site=site, worker_id=worker.id, report=wire))
            elif row.report != wire and not _is_older(worker, row.report):
                row.report = wire
            else:
                continue
            touched.add(worker.id)
        await sites.forget_reports(session, site, list(stored))
        touched |= set(stored) | await arbiter_rows.unheard_groups(session, site)
        await session.flush()
        stale: set[str] = set()
        reports = await observed_workers(session, touched)
        connected = await self._context.connected_sites(session)
        lost = await sites.lost_names(session)
        for group in await objects.groups_by_ids(session, touched, locked=True):
            stale |= await take_knowledge(self._context, session, group, site, reports.get((site, group.id)))
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
            growing = [group.id for group in await objects.growing_groups(session)]
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
            except SQLAlchemyError:
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

    async def desired(self, site: str) -> NodeDesired:
        """Return everything that a site should be, from one snapshot of the database."""
        async with self._context.database.read() as session:
            generation = await sites.generation(session, site)
            volumes = await objects.volumes_of_site(session, site)
            groups = await objects.groups_of_site(session, site)
            grouped = await objects.grouped_volume_ids(session, site)
            deleted_workers = await tombstones.of_site(session, site, Kind.WORKER)
            deleted_volumes = await tombstones.of_site(session, site, Kind.VOLUME)
            if site in await sites.lost_names(session):
                volumes, groups = [], []
        workers = [group_worker(group, site, self._worker_token(group.id)) for group in groups]
        workers += [solo_worker(volume) for volume in volumes if volume.attachments and volume.id not in grouped]
        return NodeDesired(
            installation_id=self._installation_id,
            generation=generation,
            volumes=[_desired_volume(volume) for volume in volumes]
            + [DesiredVolume(volume_id, 0, "", deleted=True) for volume_id in deleted_volumes],
            workers=workers,
            deleted_workers=deleted_workers,
        )


def _desired_volume(volume: Volume) -> DesiredVolume:
    return DesiredVolume(
        id=volume.id,
        size_bytes=volume.worker_gib * GIB,
        volume_type=volume.volume_type,
        deleted=volume.status == VolumeStatus.DELETING,
        room_bytes=(volume.target_gib or 0) * GIB,
    )


def group_worker(group: Group, site: str, arbiter_token: str) -> WorkerSpec:
    """Return the spec of a group's worker at one of its two sites; the node fills in where the arbiter is."""
    primary = site == group.priority_station
    members = []
    for pair in group.pairs:
        assert pair.member_index is not None, "a pair in a group has an index"
        volume = pair.production_volume if primary else pair.dr_volume
        members.append(MemberSpec(pair.member_index, volume.id, volume.worker_gib * GIB))
    return WorkerSpec(
        id=group.id,
        version=group.spec_version,
        role=Role.PRIMARY if primary else Role.SECONDARY,
        term=group.arbiter.term,
        replication=Replication(group.replication),
        members=members,
        site=site,
        arbiter_token=arbiter_token,
        stream_key=group.stream_key,
        peer_endpoint=group.peer_endpoint if primary else None,
        loss_acceptances=group.loss_acceptances,
    )


def solo_worker(volume: Volume) -> WorkerSpec:
    """Return the spec of the worker that serves a volume outside any group."""
    return WorkerSpec(
        id=volume.id,
        version=volume.spec_version,
        role=Role.SOLO,
        term=0,
        replication=Replication.PAUSED,
        members=[MemberSpec(0, volume.id, volume.worker_gib * GIB)],
    )


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
