"""What the controller knows of sites and groups, for Prometheus. docs/metrics.md explains every name."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Sequence

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric

import twinsite
from twinsite.control.clock import utc_now
from twinsite.control.context import Context
from twinsite.control.lifecycle.health import GroupHealth
from twinsite.control.lifecycle.states import ReplicationStatus
from twinsite.control.models import Group, Site
from twinsite.control.repository import objects, sites
from twinsite.core.arbiter import Secondary

KEPT_SECONDS = 5.0
"""How long what was gathered is good: several that scrape cost no more than one."""


class Measuring:
    """Gathers the families, at most once in `KEPT_SECONDS`."""

    def __init__(self, context: Context) -> None:
        """Read this controller's database."""
        self._context = context
        self._gathering = asyncio.Lock()
        self._gathered: list[Metric] = []
        self._gathered_at = float("-inf")

    async def families(self) -> list[Metric]:
        """Return the families of all sites and groups, of whatever project."""
        async with self._gathering:
            now = asyncio.get_running_loop().time()
            if now - self._gathered_at >= KEPT_SECONDS:
                self._gathered = await self._gather()
                self._gathered_at = now
            return self._gathered

    async def _gather(self) -> list[Metric]:
        async with self._context.database.read() as session:
            known = await sites.all_sites(session)
            groups = list(await objects.every_group(session))
            health = await self._context.health_of(session, groups)
            heard = await self._context.heard_sites(session)
        build = InfoMetricFamily("twinsite_controller_build", "The release that the controller runs.")
        build.add_metric([], {"version": twinsite.__version__})
        listed = [(group, health[group.id]) for group in groups]
        return [build, *_of_sites(known, heard), *_of_groups(listed)]


def _of_sites(known: Sequence[Site], heard: frozenset[str]) -> list[Metric]:
    connected = GaugeMetricFamily(
        "twinsite_site_connected", "1 if the controller hears of the site's node.", labels=["site"]
    )
    seen = GaugeMetricFamily(
        "twinsite_site_last_seen_timestamp_seconds",
        "When the site's node was last heard; 0 for never.",
        labels=["site"],
    )
    lost = GaugeMetricFamily("twinsite_site_lost", "1 if the site was given up for good.", labels=["site"])
    size = GaugeMetricFamily("twinsite_site_pool_size_bytes", "Size of the pool, as last reported.", labels=["site"])
    free = GaugeMetricFamily("twinsite_site_pool_free_bytes", "What is free of it.", labels=["site"])
    for site in known:
        connected.add_metric([site.name], float(site.name in heard))
        seen.add_metric([site.name], _epoch(utc_now() if site.name in heard else site.last_seen_at))
        lost.add_metric([site.name], float(site.lost_at is not None))
        size.add_metric([site.name], site.pool_total_bytes)
        free.add_metric([site.name], site.pool_free_bytes)
    return [connected, seen, lost, size, free]


def _of_groups(listed: list[tuple[Group, GroupHealth]]) -> list[Metric]:
    info = GaugeMetricFamily(
        "twinsite_group_info",
        "1, to join a group's name, project, status and sites to what else is told of it.",
        labels=["group", "name", "project", "status", "primary_site", "secondary_site"],
    )
    status = GaugeMetricFamily(
        "twinsite_group_replication_status",
        "1 for the group's replication status, 0 for every other one.",
        labels=["group", "replication_status"],
    )
    fault = GaugeMetricFamily(
        "twinsite_group_fault_level", "0: none. 2: fail over. 5: the DR side is stale.", labels=["group"]
    )
    possible = GaugeMetricFamily(
        "twinsite_group_failover_possible",
        "1 if the group can be failed over now without losing an acknowledged write.",
        labels=["group"],
    )
    recorded = GaugeMetricFamily(
        "twinsite_group_secondary_in_sync", "1 if the arbiter has the DR side as in sync.", labels=["group"]
    )
    stale = GaugeMetricFamily(
        "twinsite_group_stale_since_timestamp_seconds",
        "Since when the DR side is stale; 0 if it is not.",
        labels=["group"],
    )
    wanted = GaugeMetricFamily(
        "twinsite_group_replication_wanted",
        "1 if the group was told to replicate, 0 while it is paused or was failed over.",
        labels=["group"],
    )
    for group, health in listed:
        sides = [group.priority_station, group.secondary_station]
        info.add_metric([group.id, group.name or "", group.project_id, group.status, *sides], 1.0)
        for word in ReplicationStatus:
            status.add_metric([group.id, word.value], float(health.replication_status is word))
        fault.add_metric([group.id], float(health.fault_level))
        possible.add_metric([group.id], float(health.failover.possible))
        recorded.add_metric([group.id], float(group.arbiter.secondary == Secondary.IN_SYNC))
        stale.add_metric([group.id], group.arbiter.stale_since or 0.0)
        wanted.add_metric([group.id], float(group.replication != "paused"))
    return [info, status, fault, possible, recorded, stale, wanted]


def _epoch(moment: datetime.datetime | None) -> float:
    return 0.0 if moment is None else moment.replace(tzinfo=datetime.UTC).timestamp()
