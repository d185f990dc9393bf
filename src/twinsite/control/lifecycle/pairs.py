"""Replication pairs: a production disk and a DR disk."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.clock import utc_now
from twinsite.control.context import Context
from twinsite.control.lifecycle.health import GroupHealth
from twinsite.control.lifecycle.quotas import Demand, check_quota
from twinsite.control.lifecycle.states import (
    PairStatus,
    VolumeCall,
    admit_pair_delete,
    admit_volume,
    pair_status_after_volumes,
    way_to_delete_pair,
)
from twinsite.control.models import Pair, Volume
from twinsite.control.refusals import bad_request, not_found
from twinsite.control.repository import objects, shown
from twinsite.control.repository.listing import Page, PageQuery
from twinsite.control.texts import check_description, check_name

REPLICATION_MODEL = "hypermetro"
"""The only replication model there is."""


@dataclass(frozen=True, slots=True)
class NewPair:
    """What a client wants. The two volumes may come in either order."""

    volume_ids: Sequence[str]
    priority_station: str
    replication_model: str
    name: str | None = None
    description: str | None = None


class PairService:
    """The calls on pairs. Each raises `RequestRefused` and changes nothing when it cannot be done."""

    def __init__(self, context: Context) -> None:
        """Work on the controller's database."""
        self._context = context

    async def create(self, project_id: str, wanted: NewPair) -> Pair:
        """Record a pair; it is available once both volumes are."""
        check_model(wanted.replication_model)
        if len(wanted.volume_ids) != 2 or len(set(wanted.volume_ids)) != 2:
            raise bad_request("volume_ids must hold two different ids: a production disk and a DR disk.")
        async with self._context.database.write() as session:
            volumes = await objects.find_many(session, Volume, project_id, wanted.volume_ids, locked=True)
            for volume_id in wanted.volume_ids:
                if volume_id not in volumes:
                    raise not_found("volume", volume_id)
            first, second = (volumes[volume_id] for volume_id in wanted.volume_ids)
            production, dr = self._tell_apart(first, second, wanted.priority_station)
            _check_alike(first, second)
            await _check_free(session, production, dr)
            await check_quota(session, self._context.settings, project_id, Demand(pairs=1))
            pair = Pair(
                id=str(uuid.uuid4()),
                project_id=project_id,
                name=check_name(wanted.name),
                description=check_description(wanted.description),
                production_volume=production,
                dr_volume=dr,
                production_first=production is first,
                priority_station=wanted.priority_station,
                replication_model=wanted.replication_model,
                status=pair_status_after_volumes(PairStatus.CREATING, production.status, dr.status).value,
                group_id=None,
                member_index=None,
                created_at=utc_now(),
                updated_at=None,
            )
            session.add(pair)
        await self._context.wakeups.notify()
        return pair

    def _tell_apart(self, first: Volume, second: Volume, priority_station: str) -> tuple[Volume, Volume]:
        zones = self._context.settings.availability_zones
        if priority_station not in zones:
            raise bad_request(
                f"The availability zone {priority_station!r} does not exist; there are {', '.join(zones)}.", "EVS.1036"
            )
        if first.site == second.site:
            raise bad_request(
                f"The volumes {first.id} and {second.id} are both in {first.site}; "
                "a pair needs one in each of two availability zones.",
                "EVS.1036",
            )
        if first.site == priority_station:
            return first, second
        if second.site == priority_station:
            return second, first
        raise bad_request(
            f"priority_station is {priority_station!r}, but the volumes are in {first.site} and {second.site}; "
            "name the zone of the production disk.",
            "EVS.1036",
        )

    async def show(self, project_id: str, pair_id: str) -> tuple[Pair, GroupHealth | None]:
        """Return a pair, and the health of its group if it is in one."""
        async with self._context.database.read() as session:
            pair = await shown.pair(session, project_id, pair_id)
            if pair is None:
                raise not_found("replication pair", pair_id)
            health = await self._context.health_of_pairs(session, [pair])
        return pair, health.get(pair.group_id or "")

    async def page(self, project_id: str, query: PageQuery) -> tuple[Page[Pair], Mapping[str, GroupHealth]]:
        """Return one page of pairs, and the health of their groups by group id."""
        async with self._context.database.read() as session:
            page = await shown.page_of_pairs(session, project_id, query)
            return page, await self._context.health_of_pairs(session, page.rows)

    async def delete(self, project_id: str, pair_id: str) -> None:
        """Take a pair apart; its volumes stay."""
        async with self._context.database.write() as session:
            pair = await self._find_to_change(session, project_id, pair_id)
            admit_pair_delete(pair_id, pair.status)
            if pair.group_id is not None:
                raise bad_request(
                    f"The replication pair {pair_id} is {pair.status!r} and in a group. "
                    f"{way_to_delete_pair(pair.group_id)}"
                )
            await session.delete(pair)
        await self._context.wakeups.notify()

    async def _find_to_change(self, session: AsyncSession, project_id: str, pair_id: str) -> Pair:
        pair = await objects.find(session, Pair, project_id, pair_id, locked=True)
        if pair is None:
            raise not_found("replication pair", pair_id)
        return pair


def check_model(replication_model: str) -> None:
    """Refuse (400) every replication model but the one there is."""
    if replication_model != REPLICATION_MODEL:
        raise bad_request(f"replication_model is {replication_model!r}; the only one is {REPLICATION_MODEL!r}.")


def _check_alike(first: Volume, second: Volume) -> None:
    if first.size_gib != second.size_gib:
        raise bad_request(
            f"37100041: the volume {first.id} has {first.size_gib} GiB and {second.id} has {second.size_gib} GiB; "
            "the two disks of a pair must have the same size. Extend the smaller one first (os-extend).",
            "EVS.1010",
        )
    if first.volume_type != second.volume_type:
        raise bad_request(
            f"The volume {first.id} is of type {first.volume_type} and {second.id} of type {second.volume_type}; "
            "the two disks of a pair must be of the same type. Make one of them anew.",
            "EVS.1020",
        )
    if first.multiattach != second.multiattach:
        raise bad_request(
            f"Of the volumes {first.id} and {second.id} only one is multiattach; both or neither must be. Make "
            "one of them anew."
        )


async def _check_free(session: AsyncSession, production: Volume, dr: Volume) -> None:
    for volume in (production, dr):
        admit_volume(volume.id, volume.status, VolumeCall.PAIR)
    for pair in await objects.pairs_of_volumes(session, [production.id, dr.id]):
        is_production = production.id in (pair.production_volume_id, pair.dr_volume_id)
        code, volume = ("37100053", production) if is_production else ("37100054", dr)
        raise bad_request(
            f"{code}: the volume {volume.id} is already part of the replication pair {pair.id}. "
            f"{way_to_delete_pair(pair.group_id)}"
        )
    if dr.attachments:
        raise bad_request(
            f"37100058: the DR disk {dr.id} is in use by host {dr.attachments[0].host!r}. "
            "Disconnect it first (os-terminate_connection)."
        )
