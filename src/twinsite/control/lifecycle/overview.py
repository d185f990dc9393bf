"""How everything is at one moment: sites, and a project's groups with what is the matter and what to do about it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.clock import utc_now
from twinsite.control.context import Context
from twinsite.control.lifecycle.advice import Advice, AdviceFacts, Pool, advice_on
from twinsite.control.lifecycle.extending import Outcome
from twinsite.control.lifecycle.group_calls import ShownGroup
from twinsite.control.lifecycle.health import GroupHealth
from twinsite.control.models import Group, Site
from twinsite.control.refusals import not_found
from twinsite.control.repository import arbiter_rows, objects, shown, sites
from twinsite.control.repository.listing import PageQuery

OVERVIEW_GROUPS_MAX = 1000
"""Most groups in one overview."""
NEW_GROUP_SECONDS_MAX = 1.0
"""Between the time of a new group and that of its row, which are taken one after the other."""


@dataclass(frozen=True, slots=True)
class AdvisedGroup(ShownGroup):
    """A group with what is the matter with it, the worst first."""

    advice: Sequence[Advice]


@dataclass(frozen=True, slots=True)
class SiteOverview:
    """A site: "connected", "silent", "lost", or "new" before its node was first heard."""

    name: str
    state: str
    node_name: str | None
    last_seen_at: datetime.datetime | None
    pool: Pool
    groups_primary: int


@dataclass(frozen=True, slots=True)
class Overview:
    """One snapshot. `is_truncated`: there are more groups."""

    sites: Sequence[SiteOverview]
    groups: Sequence[AdvisedGroup]
    is_truncated: bool


class OverviewService:
    """What an operator looks at first."""

    def __init__(self, context: Context) -> None:
        """Work on the controller's database."""
        self._context = context

    async def overview(self, project_id: str, query: PageQuery, *, with_pools: bool) -> Overview:
        """Return all sites and one page of a project's groups. Advice on pools is for who may see them."""
        async with self._context.database.read() as session:
            page = await shown.page_of_groups(session, project_id, query)
            known = await self._known_sites(session)
            groups = await self._advised(session, page.rows, known, with_pools=with_pools)
            heard = await self._context.heard_sites(session)
        counts: dict[str, int] = {}
        for group in page.rows:
            counts[group.priority_station] = counts.get(group.priority_station, 0) + 1
        return Overview(
            sites=[_site(site, heard, counts.get(site.name, 0)) for site in known],
            groups=groups,
            is_truncated=page.more,
        )

    async def view(self, project_id: str, group_id: str, *, with_pools: bool) -> AdvisedGroup:
        """Return a group with its advice, for the eyes only. `RequestRefused` (404) when there is none."""
        async with self._context.database.read() as session:
            group = await shown.group(session, project_id, group_id)
            if group is None:
                raise not_found("replication consistency group", group_id)
            known = await self._known_sites(session)
            (advised,) = await self._advised(session, [group], known, with_pools=with_pools)
            return advised

    async def _known_sites(self, session: AsyncSession) -> list[Site]:
        names = self._context.settings.availability_zones
        return [site for site in await sites.all_sites(session) if site.name in names]

    async def _advised(
        self, session: AsyncSession, groups: Sequence[Group], known: Sequence[Site], *, with_pools: bool
    ) -> list[AdvisedGroup]:
        health = await self._context.health_of(session, groups)
        connected = self._context.sites_to_believe_in(await self._context.connected_sites(session))
        patience = datetime.timedelta(seconds=self._context.settings.extend_wait_seconds)
        stuck = set(await objects.overdue_extensions(session, Outcome.RUNNING, utc_now() - patience))
        lost = frozenset(site.name for site in known if site.lost_at is not None)
        pools = {site.name: Pool(site.pool_total_bytes, site.pool_free_bytes) for site in known} if with_pools else {}

        def facts(group: Group, its_health: GroupHealth) -> AdviceFacts:
            return _facts(group, its_health, connected, lost, pools, group.id in stuck)

        return [AdvisedGroup(row, health[row.id], advice_on(facts(row, health[row.id]))) for row in groups]


def _facts(
    group: Group,
    health: GroupHealth,
    connected: frozenset[str],
    lost: frozenset[str],
    pools: Mapping[str, Pool],
    is_extension_stuck: bool,
) -> AdviceFacts:
    return AdviceFacts(
        group_id=group.id,
        name=group.name,
        status=group.status,
        replication=group.replication,
        has_members=bool(group.pairs),
        row=arbiter_rows.as_row(group.arbiter),
        primary=group.priority_station,
        secondary=group.secondary_station,
        health=health,
        connected=connected,
        failure=group.failure_message if group.failure_code is not None else None,
        lost=lost,
        pools=pools,
        is_extension_stuck=is_extension_stuck,
        was_in_sync=_was_in_sync(group),
    )


def _was_in_sync(group: Group) -> bool:
    """Return whether the DR side is not stale since the group was made."""
    created = group.created_at.replace(tzinfo=datetime.UTC).timestamp()
    stale_since = group.arbiter.stale_since
    return stale_since is None or stale_since > created + NEW_GROUP_SECONDS_MAX


def _site(site: Site, heard: frozenset[str], groups_primary: int) -> SiteOverview:
    state = "connected" if site.name in heard else "silent" if site.last_seen_at is not None else "new"
    return SiteOverview(
        name=site.name,
        state="lost" if site.lost_at is not None else state,
        node_name=site.node_name,
        last_seen_at=site.last_seen_at,
        pool=Pool(site.pool_total_bytes, site.pool_free_bytes),
        groups_primary=groups_primary,
    )
