"""What every service of the controller shares: settings, database, wake-ups, and who is there."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.clock import utc_now
from twinsite.control.database import Database
from twinsite.control.lifecycle.health import GroupFacts, GroupHealth, derive_health, within_grace
from twinsite.control.lifecycle.outlook import FailoverFacts, failover_outlook
from twinsite.control.models import Group, Pair, Site
from twinsite.control.refusals import site_unreachable
from twinsite.control.repository import arbiter_rows, shown, sites
from twinsite.control.settings import ControllerSettings
from twinsite.control.wakeups import Wakeups
from twinsite.core.arbiter import Secondary
from twinsite.errors import PeerViolation
from twinsite.messages import ObservedWorker, from_wire

_log = structlog.get_logger(__name__)


@dataclass
class Presence:
    """When each site's node was last heard by this process, on the loop's clock in seconds."""

    silence_seconds: float
    heard: dict[str, float] = field(default_factory=dict)
    started_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    def record(self, site: str) -> None:
        """Record that a site's node was just heard."""
        self.heard[site] = asyncio.get_running_loop().time()

    def is_settled(self) -> bool:
        """Say whether this process is old enough that a site it has not heard of is silent, and not only late."""
        return asyncio.get_running_loop().time() - self.started_at >= self.silence_seconds

    def is_fresh(self, site: str, last_seen_at: datetime.datetime | None, now: datetime.datetime) -> bool:
        """Say whether a site's node was heard lately, by this process or by another controller."""
        heard = self.heard.get(site)
        if heard is not None and asyncio.get_running_loop().time() - heard < self.silence_seconds:
            return True
        return last_seen_at is not None and abs((now - last_seen_at).total_seconds()) < self.silence_seconds


@dataclass
class Context:
    """Shared by the services; one for each controller process."""

    settings: ControllerSettings
    database: Database
    wakeups: Wakeups
    presence: Presence

    async def heard_sites(self, session: AsyncSession) -> frozenset[str]:
        """Return the sites whose nodes are there, lost ones too."""
        return frozenset(site.name for site in await self._sites_heard(session))

    async def connected_sites(self, session: AsyncSession) -> frozenset[str]:
        """Return the sites whose nodes are there and can be counted on."""
        return frozenset(site.name for site in await self._sites_heard(session) if site.lost_at is None)

    async def _sites_heard(self, session: AsyncSession) -> list[Site]:
        now = utc_now()
        known = await sites.all_sites(session)
        return [site for site in known if self.presence.is_fresh(site.name, site.last_seen_at, now)]

    def sites_to_believe_in(self, connected: frozenset[str]) -> frozenset[str]:
        """Return the sites that are connected as far as is known: a controller that starts has heard of none yet."""
        return connected if self.presence.is_settled() else frozenset(self.settings.availability_zones)

    async def require_connected(
        self, session: AsyncSession, names: Iterable[str], consequence: str, *, or_lost: bool = False
    ) -> None:
        """Refuse (503) when one of these sites' nodes is silent, or lost unless that is as good (`or_lost`)."""
        connected = await self.connected_sites(session)
        if or_lost:
            connected |= await sites.lost_names(session)
        for name in sorted(set(names)):
            if name not in connected:
                raise site_unreachable(name, consequence)

    async def health_of(self, session: AsyncSession, groups: Iterable[Group]) -> dict[str, GroupHealth]:
        """Return the health of groups by their ids."""
        listed = list(groups)
        reports = await observed_workers(session, [group.id for group in listed])
        connected = await self.connected_sites(session)
        return {group.id: self.health(group, reports, connected) for group in listed}

    async def health_of_pairs(self, session: AsyncSession, pairs: Iterable[Pair]) -> dict[str, GroupHealth]:
        """Return the health of the groups that these pairs belong to, by group id."""
        group_ids = {pair.group_id for pair in pairs if pair.group_id is not None}
        if not group_ids:
            return {}
        groups = await shown.groups_without_pairs(session, group_ids)
        reports = await observed_workers(session, group_ids)
        connected = await self.connected_sites(session)
        return {group.id: self.health(group, reports, connected, has_members=True) for group in groups}

    def health(
        self,
        group: Group,
        reports: Mapping[tuple[str, str], ObservedWorker],
        connected: frozenset[str],
        *,
        has_members: bool | None = None,
    ) -> GroupHealth:
        """Return the health of one group, given the reports on it by (site, worker id).

        Whether it `has_members` is looked up when it is left out.
        """
        has_members = bool(group.pairs) if has_members is None else has_members
        health = derive_health(
            GroupFacts(
                status=group.status,
                recorded_in_sync=group.arbiter.secondary == Secondary.IN_SYNC,
                replication=group.replication,
                replication_status=group.replication_status,
                wish_version=group.wish_version,
                has_members=has_members,
                primary=reports.get((group.priority_station, group.id)),
                secondary=reports.get((group.secondary_station, group.id)),
                primary_connected=group.priority_station in connected,
                in_sync_grace=within_grace(group.synced_at, utc_now(), self.settings.sync_grace_seconds),
            )
        )
        return replace(
            health, failover=failover_outlook(self.failover_facts(group, reports, connected, has_members=has_members))
        )

    def failover_facts(
        self,
        group: Group,
        reports: Mapping[tuple[str, str], ObservedWorker],
        connected: frozenset[str],
        *,
        has_members: bool | None = None,
    ) -> FailoverFacts:
        """Return what is known of a group before a failover to its secondary site.

        A primary whose node was not heard since this process started counts as connected until that is a silence: to
        go back from it loses what it has.
        """
        return FailoverFacts(
            status=group.status,
            has_members=bool(group.pairs) if has_members is None else has_members,
            target=group.secondary_station,
            target_connected=group.secondary_station in connected,
            row=arbiter_rows.as_row(group.arbiter),
            primary=reports.get((group.priority_station, group.id)),
            secondary=reports.get((group.secondary_station, group.id)),
            primary_connected=group.priority_station in self.sites_to_believe_in(connected),
            primary_heard=group.priority_station in connected,
        )


async def observed_workers(session: AsyncSession, worker_ids: Iterable[str]) -> dict[tuple[str, str], ObservedWorker]:
    """Return the last reports on these workers by (site, worker id).

    One that was stored by another release and cannot be read counts as none; the node's next report replaces it.
    """
    observed: dict[tuple[str, str], ObservedWorker] = {}
    for key, row in (await sites.reports_of_workers(session, list(worker_ids))).items():
        try:
            observed[key] = from_wire(ObservedWorker, row.report, "stored report")
        except PeerViolation as error:
            _log.warning("stored report cannot be read", site=row.site, worker=row.worker_id, error=str(error))
    return observed
