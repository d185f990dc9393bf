"""What a site should be, from one snapshot of the database: all of it, or what its node has not seen of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.context import Context
from twinsite.control.journal import Changes
from twinsite.control.lifecycle.states import VolumeStatus
from twinsite.control.models import Group, Volume
from twinsite.control.repository import objects, sites, tombstones
from twinsite.control.repository.tombstones import Kind
from twinsite.core.arbiter import restoration_of
from twinsite.core.limits import GIB
from twinsite.messages import (
    DesiredVolume,
    MemberSpec,
    NodeDesired,
    NodeReport,
    Replication,
    Role,
    WorkerSpec,
)

COMPLETE_SECONDS = 900.0
"""A node is told everything at least this often, whatever the journal says: a change that the journal missed would be a
bug, and must not last."""


class DesiredStates:
    """Answers what sites should be."""

    def __init__(self, context: Context, installation_id: str, worker_token: Callable[[str], str]) -> None:
        """Answer for an installation. `worker_token` gives what a group's workers show the arbiter."""
        self._context = context
        self._journal = context.database.journal
        self._installation_id = installation_id
        self._worker_token = worker_token
        self._complete_at: dict[str, float] = {}

    async def answer(self, report: NodeReport) -> NodeDesired:
        """Return what the node that sent this report needs to hear."""
        async with self._context.database.read() as session:
            generation, is_lost = await sites.generation_and_loss(session, report.site)
            changes = None
            if report.journal == self._journal.id and not is_lost and not self._is_complete_due(report.site):
                changes = self._journal.since(report.site, report.seen_generation, generation)
            if changes is None:
                self._complete_at[report.site] = asyncio.get_running_loop().time()
                return await self._everything(session, report.site, generation, is_lost)
            return await self._difference(session, report, generation, changes)

    def _is_complete_due(self, site: str) -> bool:
        last = self._complete_at.get(site)
        return last is None or asyncio.get_running_loop().time() - last >= COMPLETE_SECONDS

    async def _everything(self, session: AsyncSession, site: str, generation: int, is_lost: bool) -> NodeDesired:
        volumes = [] if is_lost else await objects.volumes_of_site(session, site)
        groups = [] if is_lost else await objects.groups_of_site(session, site)
        grouped = await objects.grouped_volume_ids(session, site)
        deleted_workers = await tombstones.of_site(session, site, Kind.WORKER)
        deleted_volumes = await tombstones.of_site(session, site, Kind.VOLUME)
        return NodeDesired(
            installation_id=self._installation_id,
            generation=generation,
            volumes=[desired_volume(volume) for volume in volumes]
            + [DesiredVolume(volume_id, 0, "", deleted=True) for volume_id in deleted_volumes],
            workers=self._workers(site, groups, [volume for volume in volumes if volume.id not in grouped]),
            deleted_workers=deleted_workers,
            journal=self._journal.id,
        )

    async def _difference(
        self, session: AsyncSession, report: NodeReport, generation: int, changes: Changes
    ) -> NodeDesired:
        """Return the state of everything that changed, and what is no longer wanted of it."""
        site = report.site
        found = await objects.volumes_by_ids(session, changes.volumes)
        volumes = [volume for volume in found if volume.site == site]
        grouped: set[str] = set()
        group_ids = set(changes.groups)
        for pair in await objects.pairs_of_volumes(session, changes.volumes) if changes.volumes else ():
            if pair.group_id is not None:
                grouped |= {pair.production_volume_id, pair.dr_volume_id}
                group_ids.add(pair.group_id)
        groups = [
            group
            for group in (await objects.groups_by_ids(session, group_ids) if group_ids else ())
            if group.pairs and site in (group.priority_station, group.secondary_station)
        ]
        workers = self._workers(site, groups, [volume for volume in volumes if volume.id not in grouped])
        return NodeDesired(
            installation_id=self._installation_id,
            generation=generation,
            volumes=[desired_volume(volume) for volume in volumes],
            workers=workers,
            deleted_workers=await tombstones.of_site(session, site, Kind.WORKER),
            journal=self._journal.id,
            basis=report.seen_generation,
            gone_volumes=sorted(changes.volumes - {volume.id for volume in volumes}),
            gone_workers=sorted((changes.volumes | group_ids) - {worker.id for worker in workers}),
        )

    def _workers(self, site: str, groups: Sequence[Group], ungrouped: Sequence[Volume]) -> list[WorkerSpec]:
        workers = [group_worker(group, site, self._worker_token(group.id)) for group in groups]
        return workers + [solo_worker(volume) for volume in ungrouped if volume.attachments]


def desired_volume(volume: Volume) -> DesiredVolume:
    """Return what a node should make of a volume."""
    return DesiredVolume(
        id=volume.id,
        size_bytes=volume.worker_gib * GIB,
        volume_type=volume.volume_type,
        deleted=volume.status == VolumeStatus.DELETING,
        room_bytes=(volume.target_gib or 0) * GIB,
        request_id=volume.request_id or "",
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
        question=group.arbiter.question,
        row_version=restoration_of(group.arbiter.version),
        request_id=group.request_id or "",
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
        request_id=volume.request_id or "",
    )
