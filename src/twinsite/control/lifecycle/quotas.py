"""Quotas: what a project may use, checked in the transaction that takes it.

Each check first takes the project's lock, so that of requests at the same time none counts what another one is about
to add: no quota is ever passed. What is in use may be more than a quota that was lowered; then nothing is added.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.context import Context
from twinsite.control.models import Group, Pair
from twinsite.control.refusals import quota_exceeded
from twinsite.control.repository import accounts, quotas
from twinsite.control.settings import ControllerSettings

UNLIMITED = -1
LIMIT_MAX = 2**40
"""Largest limit that is not unlimited."""

PROJECT_ID = re.compile(r"[0-9a-f-]{1,64}")
"""What Keystone's ids look like."""


class Resource(StrEnum):
    """What is limited, by the names of the interface."""

    VOLUMES = "volumes"
    GIGABYTES = "gigabytes"  # Of all volumes together, those of both sites.
    PER_VOLUME_GIGABYTES = "per_volume_gigabytes"
    PAIRS = "replications"
    GROUPS = "replication_consistency_groups"


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit, -1 for none, and what is in use of it."""

    limit: int
    in_use: int


@dataclass(frozen=True, slots=True)
class Demand:
    """What a request would add, and the size in GiB of the largest volume that it makes or extends."""

    volumes: int = 0
    gigabytes: int = 0
    pairs: int = 0
    groups: int = 0
    largest_gib: int = 0


def defaults(settings: ControllerSettings) -> dict[Resource, int]:
    """Return the limits of a project that has none of its own."""
    return {
        Resource.VOLUMES: settings.quota_volumes,
        Resource.GIGABYTES: settings.quota_gigabytes,
        Resource.PER_VOLUME_GIGABYTES: settings.quota_per_volume_gigabytes,
        Resource.PAIRS: settings.quota_pairs,
        Resource.GROUPS: settings.quota_groups,
    }


async def limits_of(session: AsyncSession, settings: ControllerSettings, project_id: str) -> dict[Resource, int]:
    """Return a project's limits."""
    own = await quotas.limits(session, project_id)
    return {resource: own.get(resource.value, limit) for resource, limit in defaults(settings).items()}


async def check_quota(session: AsyncSession, settings: ControllerSettings, project_id: str, demand: Demand) -> None:
    """Refuse (413, EVS.1034) what would pass one of a project's quotas; else it is safe to add it in this session."""
    await quotas.lock_project(session, project_id)
    limits = await limits_of(session, settings, project_id)
    largest_max = limits[Resource.PER_VOLUME_GIGABYTES]
    if UNLIMITED < largest_max < demand.largest_gib:
        raise quota_exceeded(
            f"A volume of {demand.largest_gib} GiB would pass the quota of {largest_max} GiB for one volume. Choose a "
            "smaller size, or have an administrator raise per_volume_gigabytes."
        )
    if demand.volumes or demand.gigabytes:
        volumes, gigabytes = await quotas.volume_usage(session, project_id)
        _refuse_beyond(Resource.VOLUMES, limits, volumes, demand.volumes)
        _refuse_beyond(Resource.GIGABYTES, limits, gigabytes, demand.gigabytes)
    if demand.pairs:
        _refuse_beyond(Resource.PAIRS, limits, await quotas.count(session, Pair, project_id), demand.pairs)
    if demand.groups:
        _refuse_beyond(Resource.GROUPS, limits, await quotas.count(session, Group, project_id), demand.groups)


def _refuse_beyond(resource: Resource, limits: Mapping[Resource, int], in_use: int, more: int) -> None:
    limit = limits[resource]
    if more > 0 and UNLIMITED < limit < in_use + more:
        raise quota_exceeded(
            f"The project uses {in_use} of its quota of {limit} {resource.value}, and this takes {more} more. Delete "
            f"what is not needed, or have an administrator raise {resource.value}."
        )


class QuotaService:
    """The calls on quotas."""

    def __init__(self, context: Context) -> None:
        """Work on the controller's database."""
        self._context = context

    def defaults(self) -> dict[Resource, int]:
        """Return the limits of a project that has none of its own."""
        return defaults(self._context.settings)

    async def knows_project(self, project_id: str) -> bool:
        """Say whether there is such a project; a real Keystone's may get its quota before it is first seen."""
        if self._context.settings.keystone_auth_url is not None:
            return PROJECT_ID.fullmatch(project_id) is not None
        async with self._context.database.read() as session:
            return await accounts.find_project(session, project_id=project_id) is not None

    async def show(self, project_id: str) -> dict[Resource, Quota]:
        """Return a project's limits and what it uses."""
        async with self._context.database.read() as session:
            limits = await limits_of(session, self._context.settings, project_id)
            volumes, gigabytes = await quotas.volume_usage(session, project_id)
            in_use = {
                Resource.VOLUMES: volumes,
                Resource.GIGABYTES: gigabytes,
                Resource.PER_VOLUME_GIGABYTES: 0,
                Resource.PAIRS: await quotas.count(session, Pair, project_id),
                Resource.GROUPS: await quotas.count(session, Group, project_id),
            }
        return {resource: Quota(limit, in_use[resource]) for resource, limit in limits.items()}

    async def change(self, project_id: str, limits: Mapping[Resource, int]) -> None:
        """Give a project limits of its own; those that are not named stay. What is in use may be more."""
        async with self._context.database.write() as session:
            await quotas.lock_project(session, project_id)
            await quotas.set_limits(session, project_id, {resource.value: limit for resource, limit in limits.items()})

    async def reset(self, project_id: str) -> None:
        """Give a project the defaults again."""
        async with self._context.database.write() as session:
            await quotas.lock_project(session, project_id)
            await quotas.forget_limits(session, project_id)
