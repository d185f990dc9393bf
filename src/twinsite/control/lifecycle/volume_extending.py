"""Extending one volume that is in no pair (Cinder's os-extend). The disks of pairs grow together: `extending`.

The journal is the volume's own row: its status `extending`, `target_gib`, and `is_grown` once its worker is told. The
room comes first and can be undone; then the worker, if a host is attached, shows the new size to hosts that connect
from then on; then the API does. `next_step` is the table, pure. Which step is next follows from the database and the
node's reports, so any controller goes on where another one died.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.clock import utc_now
from twinsite.control.context import Context, observed_workers
from twinsite.control.lifecycle.quotas import Demand, check_quota
from twinsite.control.lifecycle.reports import living_status
from twinsite.control.lifecycle.states import VolumeCall, VolumeStatus, admit_volume
from twinsite.control.lifecycle.volumes import SIZE_GIB_MAX
from twinsite.control.models import Pair, Volume
from twinsite.control.refusals import PEER_UNREACHABLE, RequestRefused, bad_request, conflict, not_found
from twinsite.control.repository import objects, sites
from twinsite.core.limits import GIB
from twinsite.messages import Failure, ObservedVolume, Role

_log = structlog.get_logger(__name__)


class VolumeStep(StrEnum):
    """What is to be done about an extension."""

    WAIT = "wait"
    UNDO = "its pool cannot make room, or is gone"
    GROW = "its pool has the room"
    FINISH = "whoever serves it has the new size"


@dataclass(frozen=True, slots=True)
class VolumeExtendFacts:
    """What is known of an extension. `is_failing`: the pool refused the room, or does not have the volume."""

    has_room: bool
    is_failing: bool
    is_lost: bool  # The site was given up.
    is_grown: bool
    is_attached: bool
    in_force: bool  # The worker has taken up the new size.
    heard_version: int = 0  # The newest spec that the worker has in force.


def next_step(facts: VolumeExtendFacts) -> VolumeStep:
    """Return what is to be done about an extension now."""
    if not facts.is_grown:
        if facts.is_lost:
            return VolumeStep.UNDO
        if facts.has_room:
            return VolumeStep.GROW
        return VolumeStep.UNDO if facts.is_failing else VolumeStep.WAIT
    # Hosts may have seen the new size: from here on there is only forward.
    return VolumeStep.FINISH if facts.is_lost or not facts.is_attached or facts.in_force else VolumeStep.WAIT


async def settle_volume_extends(context: Context, observed: Sequence[ObservedVolume] = ()) -> None:
    """Take every step that extensions of single volumes have; `observed` are volumes that a node has just reported."""
    async with context.database.read() as session:
        extending = await objects.volumes_in(session, VolumeStatus.EXTENDING)
    reported = {item.id: item for item in observed}
    is_changed = False
    for volume_id in extending:
        async with context.database.write() as session:
            is_changed |= await _settle(session, volume_id, reported.get(volume_id))
    if is_changed:
        await context.wakeups.notify()


async def _settle(session: AsyncSession, volume_id: str, item: ObservedVolume | None) -> bool:
    """Take the steps of one extension; say whether there were any."""
    volume = await objects.volume_by_id(session, volume_id, locked=True)
    is_changed = False
    while volume is not None and volume.status == VolumeStatus.EXTENDING:
        facts = await _facts(session, volume, item)
        step = next_step(facts)
        if step is VolumeStep.WAIT:
            break
        is_changed = True
        if step is VolumeStep.GROW:
            volume.is_grown = True
            # A database that was restored from a backup counts less than the worker has heard.
            volume.spec_version = max(volume.spec_version, facts.heard_version) + 1
        else:
            _end(volume, item, is_done=step is VolumeStep.FINISH, is_lost=facts.is_lost)
    if volume is not None and is_changed:
        await session.flush()
        await sites.raise_generation(session, [volume.site])
    return is_changed


async def _facts(session: AsyncSession, volume: Volume, item: ObservedVolume | None) -> VolumeExtendFacts:
    target_bytes = (volume.target_gib or 0) * GIB
    worker = (await observed_workers(session, [volume.id])).get((volume.site, volume.id))
    status = living_status(worker, Role.SOLO)
    sizes_bytes = {member.volume_id: member.size_bytes for member in status.members} if status is not None else {}
    is_told = status is not None and status.spec_version >= volume.spec_version
    is_refused = item is not None and item.failure is not None and item.refused_bytes == target_bytes
    return VolumeExtendFacts(
        has_room=volume.node_state == "ready" and (volume.store_bytes or 0) >= target_bytes,
        # A refusal counts once the node knows the newest wish: it may be that of an earlier attempt.
        is_failing=(is_refused and await sites.node_is_current(session, volume.site))
        or volume.node_state not in (None, "ready"),
        is_lost=volume.site in await sites.lost_names(session),
        is_grown=volume.is_grown,
        is_attached=bool(volume.attachments),
        heard_version=status.spec_version if status is not None else 0,
        in_force=is_told and sizes_bytes.get(volume.id, 0) >= target_bytes,
    )


def _end(volume: Volume, item: ObservedVolume | None, *, is_done: bool, is_lost: bool) -> None:
    if is_done:
        volume.size_gib = volume.target_gib or volume.size_gib
        _log.info("volume is extended", volume=volume.id, size_gib=volume.size_gib)
    is_broken = volume.node_state not in (None, "ready")
    if is_broken:
        volume.status = VolumeStatus.ERROR.value  # Its failure is told already.
    elif is_done:
        volume.status = settled_status(volume).value
    else:
        failure = item.failure if item is not None else None
        if failure is None:
            failure = Failure(PEER_UNREACHABLE, f"the site {volume.site} {'was given up' if is_lost else 'failed'}")
        message = f"the extension to {volume.target_gib} GiB was undone, nothing has grown: {failure.message}"
        volume.status = VolumeStatus.ERROR_EXTENDING.value
        volume.failure_code, volume.failure_message = failure.code, message
        _log.error("volume is not extended", volume=volume.id, target_gib=volume.target_gib, reason=failure.message)
    volume.target_gib, volume.is_grown, volume.updated_at = None, False, utc_now()


def settled_status(volume: Volume) -> VolumeStatus:
    """Return the status of a volume of which nothing else is to be said."""
    return VolumeStatus.IN_USE if volume.attachments else VolumeStatus.AVAILABLE


class VolumeExtendService:
    """The call that extends a volume. It raises `RequestRefused` and changes nothing when it cannot be done."""

    def __init__(self, context: Context) -> None:
        """Work on the controller's database."""
        self._context = context

    async def extend(self, project_id: str, volume_id: str, new_size_gib: int) -> None:
        """Record an extension; the volume is `extending` until it has the size, or `error_extending`.

        The same extension while it is under way is a no-op. The present size of a volume in `error_extending` gives the
        extension up.
        """
        if not 1 <= new_size_gib <= SIZE_GIB_MAX:
            raise bad_request(f"new_size is {new_size_gib}; give 1 to {SIZE_GIB_MAX} (GiB).", "EVS.1010")
        async with self._context.database.write() as session:
            volume = await objects.find(session, Volume, project_id, volume_id, locked=True)
            if volume is None:
                raise not_found("volume", volume_id)
            _refuse_paired(volume, await objects.pair_of_volume(session, volume_id))
            if volume.status == VolumeStatus.EXTENDING and volume.target_gib == new_size_gib:
                return
            if volume.status == VolumeStatus.EXTENDING:
                raise conflict(f"The volume {volume_id} is being extended to {volume.target_gib} GiB. Wait for that.")
            admit_volume(volume_id, volume.status, VolumeCall.EXTEND)
            await self._begin(session, volume, new_size_gib)
        await self._context.wakeups.notify()

    async def _begin(self, session: AsyncSession, volume: Volume, new_size_gib: int) -> None:
        if volume.status == VolumeStatus.ERROR_EXTENDING and new_size_gib == volume.size_gib:
            volume.status = settled_status(volume).value
        elif new_size_gib <= volume.size_gib:
            raise bad_request(
                f"new_size is {new_size_gib}, the volume {volume.id} has {volume.size_gib} GiB; volumes only grow. "
                "Give a larger size.",
                "EVS.1015",
            )
        else:
            await self._check_space(session, volume, new_size_gib - volume.size_gib)
            volume.status = VolumeStatus.EXTENDING.value
            volume.target_gib, volume.is_grown = new_size_gib, False
            objects.note_request(volume)
        volume.failure_code = volume.failure_message = None
        volume.updated_at = utc_now()
        await session.flush()
        await sites.raise_generation(session, [volume.site])

    async def _check_space(self, session: AsyncSession, volume: Volume, growth_gib: int) -> None:
        await self._context.require_connected(session, [volume.site], "Nothing was changed; try again later.")
        demand = Demand(gigabytes=growth_gib, largest_gib=volume.size_gib + growth_gib)
        await check_quota(session, self._context.settings, volume.project_id, demand)
        site = await sites.site(session, volume.site)
        # A pool of no bytes has not been read yet.
        if site is not None and site.pool_total_bytes and site.pool_free_bytes < growth_gib * GIB:
            raise bad_request(
                f"37100177: the pool of {site.name} has {site.pool_free_bytes} bytes free, and the volume {volume.id} "
                f"would grow by {growth_gib * GIB}. Give the pool more space, or choose a smaller size.",
                "EVS.1010",
            )


def _refuse_paired(volume: Volume, pair: Pair | None) -> None:
    if pair is None:
        return
    where = f"its group {pair.group_id}" if pair.group_id is not None else "a group that you put the pair into"
    raise RequestRefused(
        400,
        "EVS.1048",
        f"The volume {volume.id} is a disk of the replication pair {pair.id}, whose two disks grow together. "
        f"Extend them with os-extend-replication-volumes of {where}.",
    )
