"""Sites that are gone for good: an operator gives one up, takes apart what had a disk there, and may use it again.

While a site is lost nothing waits for its node: replication can be paused, pairs can be removed, and its volumes are
deleted at once. A node that comes back after all is told to remove those, runs no worker, and is believed in nothing
else: what lies there has missed what happened meanwhile.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.actor import current_actor
from twinsite.control.clock import utc_now
from twinsite.control.context import Context, observed_workers
from twinsite.control.lifecycle import chronicle
from twinsite.control.lifecycle.extending import settle_extend
from twinsite.control.lifecycle.restored import give_up_hearing
from twinsite.control.lifecycle.settling import settle_group
from twinsite.control.lifecycle.states import VolumeStatus, pair_status_after_volumes
from twinsite.control.models import Site
from twinsite.control.refusals import PEER_UNREACHABLE, RequestRefused, bad_request
from twinsite.control.repository import objects, sites, tombstones

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ShownSite:
    """A site as operators see it. `to_remove` counts what its node still has to remove."""

    name: str
    is_connected: bool
    node_name: str | None
    last_seen_at: datetime.datetime | None
    lost_at: datetime.datetime | None
    pool_total_bytes: int
    pool_free_bytes: int
    volumes: int
    to_remove: int


class SiteService:
    """The calls on sites. Each raises `RequestRefused` and changes nothing when it cannot be done."""

    def __init__(self, context: Context) -> None:
        """Work on the controller's database."""
        self._context = context

    async def list_all(self) -> list[ShownSite]:
        """Return all sites of the settings, by name."""
        async with self._context.database.read() as session:
            heard = await self._context.heard_sites(session)
            return [
                await self._shown(session, site, heard)
                for site in await sites.all_sites(session)
                if site.name in self._context.settings.availability_zones
            ]

    async def _shown(self, session: AsyncSession, site: Site, heard: frozenset[str]) -> ShownSite:
        to_remove = [await tombstones.of_site(session, site.name, kind) for kind in tombstones.Kind]
        return ShownSite(
            name=site.name,
            is_connected=site.name in heard,
            node_name=site.node_name,
            last_seen_at=site.last_seen_at,
            lost_at=site.lost_at,
            pool_total_bytes=site.pool_total_bytes,
            pool_free_bytes=site.pool_free_bytes,
            volumes=len(await objects.volumes_of_site(session, site.name)),
            to_remove=sum(len(ids) for ids in to_remove),
        )

    async def forget(self, name: str) -> None:
        """Give a site up. No-op for one that is lost already; refused (400) while its node is there."""
        async with self._context.database.write() as session:
            site = await self._find(session, name)
            if site.lost_at is not None:
                return
            if name in await self._context.heard_sites(session):
                raise bad_request(
                    f"The node of {name} is connected, so the site is not lost. Stop that node for good first, "
                    f"and wait {self._context.settings.node_silence_seconds:g} s."
                )
            site.lost_at = utc_now()
            await session.flush()
            await self._let_volumes_go(session, name)
            await sites.forget_reports(session, name, list(await sites.reports_of_site(session, name)))
            stale = await self._let_groups_go_on(session, name)
            await sites.raise_generation(session, stale | {name})
        actor = current_actor.get()
        _log.warning("site is given up", site=name, actor=actor.name, user=actor.user_id)
        await self._context.wakeups.notify()

    async def _let_volumes_go(self, session: AsyncSession, name: str) -> None:
        """End what waits for the node: volumes that were to be made or removed there."""
        volumes = await objects.volumes_of_site(session, name)
        for volume in volumes:
            if volume.status == VolumeStatus.DELETING:
                await tombstones.add(session, name, tombstones.Kind.VOLUME, volume.id)
                await session.delete(volume)
            elif volume.status == VolumeStatus.CREATING:
                volume.status = VolumeStatus.ERROR.value
                volume.failure_code = PEER_UNREACHABLE
                volume.failure_message = f"the site {name} was given up before it made the disk"
        for pair in await objects.pairs_of_volumes(session, [volume.id for volume in volumes]):
            status = pair_status_after_volumes(pair.status, pair.production_volume.status, pair.dr_volume.status)
            pair.status = status.value

    async def _let_groups_go_on(self, session: AsyncSession, name: str) -> set[str]:
        """Move groups on that waited for the site; return the sites whose desired state that changed."""
        stale: set[str] = set()
        lost = await sites.lost_names(session)
        connected = await self._context.connected_sites(session)
        for group in await objects.groups_touching_site(session, name):
            reports = await observed_workers(session, [group.id])
            settle_group(group, reports, lost)
            if await give_up_hearing(session, group.id, [name]):
                group.spec_version += 1
                stale |= {group.priority_station, group.secondary_station}
            # An extension takes several steps, each of which may have waited for this site.
            while steps := await settle_extend(self._context, session, group, reports, {}, lost):
                stale |= steps
            await session.flush()
            await chronicle.observe(self._context, session, group, reports, connected)
        return stale

    async def restore(self, name: str) -> None:
        """Let a lost site be used again. Refused (400) while it has volumes: nobody knows what became of those."""
        async with self._context.database.write() as session:
            site = await self._find(session, name)
            if site.lost_at is None:
                return
            volumes = await objects.volumes_of_site(session, name)
            if volumes:
                raise bad_request(
                    f"The lost site {name} still has {len(volumes)} volumes, {volumes[0].id} among them, whose content "
                    "is given up. Delete them and their pairs first."
                )
            site.lost_at = None
            await sites.raise_generation(session, [name])
        actor = current_actor.get()
        _log.warning("site may be used again", site=name, actor=actor.name, user=actor.user_id)
        await self._context.wakeups.notify()

    async def _find(self, session: AsyncSession, name: str) -> Site:
        site = await sites.site(session, name) if name in self._context.settings.availability_zones else None
        if site is None:
            known = ", ".join(self._context.settings.availability_zones)
            raise RequestRefused(404, "EVS.1036", f"There is no site {name[:80]!r}; the settings have {known}.")
        return site
