"""Volumes: create, list, rename, delete, connect a host."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from twinsite.control.actor import current_actor
from twinsite.control.clock import utc_now
from twinsite.control.context import Context, observed_workers
from twinsite.control.lifecycle.quotas import Demand, check_quota
from twinsite.control.lifecycle.reports import fatal_failure, member_failure
from twinsite.control.lifecycle.states import VolumeCall, VolumeStatus, admit_volume, way_to_delete_pair
from twinsite.control.models import NAME_BYTES_MAX, Attachment, Pair, Volume
from twinsite.control.refusals import bad_request, not_found, not_in_time
from twinsite.control.repository import objects, sites, tombstones
from twinsite.control.repository.listing import Page, PageQuery, fetch_page
from twinsite.control.texts import check_description, check_name
from twinsite.core.limits import GIB, VOLUME_BYTES_MAX

SIZE_GIB_MAX = VOLUME_BYTES_MAX // GIB
METADATA_ENTRIES_MAX = 128


@dataclass(frozen=True, slots=True)
class NewVolume:
    """What a client wants. None takes the default."""

    size_gib: int
    availability_zone: str | None = None
    name: str | None = None
    description: str | None = None
    volume_type: str | None = None
    multiattach: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VolumeChange:
    """New values; None leaves a field as it is."""

    name: str | None = None
    description: str | None = None
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """How a host reaches a volume: one URI for each transport, the same for the volume's whole life."""

    volume_id: str
    uris: list[str]


class VolumeService:
    """The calls on volumes. Each raises `RequestRefused` and changes nothing when it cannot be done."""

    def __init__(self, context: Context) -> None:
        """Work on the controller's database."""
        self._context = context

    async def create(self, project_id: str, user_id: str, wanted: NewVolume) -> Volume:
        """Record a volume in `creating`; its site's node makes it."""
        zone, volume_type = self._check_new(wanted)
        async with self._context.database.write() as session:
            await self._context.require_connected(session, [zone], "No volume can be created there; try again later.")
            demand = Demand(volumes=1, gigabytes=wanted.size_gib, largest_gib=wanted.size_gib)
            await check_quota(session, self._context.settings, project_id, demand)
            volume = Volume(
                id=str(uuid.uuid4()),
                project_id=project_id,
                user_id=user_id,
                name=check_name(wanted.name),
                description=check_description(wanted.description),
                size_gib=wanted.size_gib,
                site=zone,
                volume_type=volume_type,
                multiattach=wanted.multiattach,
                user_metadata=check_metadata(wanted.metadata),
                status=VolumeStatus.CREATING.value,
                node_state=None,
                nbd_uris=[],
                spec_version=1,
                request_id=current_actor.get().request_id,
                created_at=utc_now(),
                updated_at=None,
                attachments=[],
            )
            session.add(volume)
            await sites.raise_generation(session, [zone])
        await self._context.wakeups.notify()
        return volume

    def _check_new(self, wanted: NewVolume) -> tuple[str, str]:
        settings = self._context.settings
        if not 1 <= wanted.size_gib <= SIZE_GIB_MAX:
            raise bad_request(f"size is {wanted.size_gib}; give 1 to {SIZE_GIB_MAX} (GiB).", "EVS.1010")
        zone = wanted.availability_zone if wanted.availability_zone is not None else settings.availability_zones[0]
        if zone not in settings.availability_zones:
            known = ", ".join(settings.availability_zones)
            raise bad_request(f"The availability zone {zone!r} does not exist; there are {known}.", "EVS.1036")
        return zone, self.resolve_type(wanted.volume_type)

    def resolve_type(self, name_or_id: str | None) -> str:
        """Return the name of a volume type given by name, id or not at all."""
        settings = self._context.settings
        if name_or_id is None:
            return settings.default_volume_type
        for name in settings.volume_types:
            if name_or_id in (name, settings.volume_type_id(name)):
                return name
        known = ", ".join(settings.volume_types)
        raise bad_request(f"The volume type {name_or_id!r} does not exist; there are {known}.", "EVS.1020")

    async def show(self, project_id: str, volume_id: str) -> tuple[Volume, Pair | None]:
        """Return a volume and the pair that it is part of."""
        async with self._context.database.read() as session:
            volume = await self._find(session, project_id, volume_id)
            return volume, await objects.pair_of_volume(session, volume_id)

    async def page(self, project_id: str, query: PageQuery) -> tuple[Page[Volume], dict[str, Pair]]:
        """Return one page of volumes, and the pairs of those that are paired by volume id."""
        async with self._context.database.read() as session:
            page = await fetch_page(session, Volume, project_id, query, (selectinload(Volume.attachments),))
            pairs = await objects.pairs_of_volumes(session, [volume.id for volume in page.rows])
        by_volume = {pair.production_volume_id: pair for pair in pairs}
        by_volume.update({pair.dr_volume_id: pair for pair in pairs})
        return page, by_volume

    async def change(self, project_id: str, volume_id: str, wanted: VolumeChange) -> tuple[Volume, Pair | None]:
        """Change name, description or metadata."""
        async with self._context.database.write() as session:
            volume = await self._find(session, project_id, volume_id, locked=True)
            if wanted.name is not None:
                volume.name = check_name(wanted.name)
            if wanted.description is not None:
                volume.description = check_description(wanted.description)
            if wanted.metadata is not None:
                volume.user_metadata = check_metadata(wanted.metadata)
            volume.updated_at = utc_now()
            return volume, await objects.pair_of_volume(session, volume_id)

    async def delete(self, project_id: str, volume_id: str) -> None:
        """Put a volume into `deleting`; it is gone once its site's node has removed it."""
        async with self._context.database.write() as session:
            volume = await self._find(session, project_id, volume_id, locked=True)
            admit_volume(volume_id, volume.status, VolumeCall.DELETE)
            if volume.attachments:
                raise bad_request(
                    f"The volume {volume_id} is in use by host {volume.attachments[0].host!r}. "
                    "Disconnect that host first (os-terminate_connection).",
                    "EVS.1046",
                )
            pair = await objects.pair_of_volume(session, volume_id)
            if pair is not None:
                raise bad_request(
                    f"The volume {volume_id} is part of the replication pair {pair.id}. "
                    f"{way_to_delete_pair(pair.group_id)}",
                    "EVS.1046",
                )
            await self._context.require_connected(
                session, [volume.site], "The volume cannot be removed there; try again later.", or_lost=True
            )
            objects.note_request(volume)
            if volume.site in await sites.lost_names(session):
                await tombstones.add(session, volume.site, tombstones.Kind.VOLUME, volume_id)
                await session.delete(volume)
            else:
                volume.status = VolumeStatus.DELETING.value
                volume.updated_at = utc_now()
            await sites.raise_generation(session, [volume.site])
        await self._context.wakeups.notify()

    async def connect(self, project_id: str, volume_id: str, host: str) -> Connection:
        """Record that `host` uses a volume, wait until a worker serves it, and return how to reach it."""
        _check_host(host)
        added = await self._attach(project_id, volume_id, host)
        await self._context.wakeups.notify()
        try:
            seconds = self._context.settings.connect_wait_seconds
            connection = await self._context.wakeups.until(lambda: self._look(project_id, volume_id), seconds)
            if connection is None:
                raise not_in_time(f"no worker served the volume {volume_id} within {seconds:g} s. Try again.")
        except BaseException:
            # An attachment whose host never got the address would keep the volume in use for ever.
            if added:
                await self.disconnect(project_id, volume_id, host)
            raise
        return connection

    async def _attach(self, project_id: str, volume_id: str, host: str) -> bool:
        async with self._context.database.write() as session:
            volume = await self._find(session, project_id, volume_id, locked=True)
            admit_volume(volume_id, volume.status, VolumeCall.CONNECT)
            _check_production(volume_id, await objects.pair_of_volume(session, volume_id))
            others = [attachment.host for attachment in volume.attachments if attachment.host != host]
            if others and not volume.multiattach:
                raise bad_request(
                    f"The volume {volume_id} is in use by host {others[0]!r} and is not multiattach. "
                    "Disconnect that host first (os-terminate_connection)."
                )
            await self._context.require_connected(session, [volume.site], "The volume cannot be served; try again.")
            if len(others) < len(volume.attachments):
                return False
            if not volume.attachments:
                objects.note_request(volume)
            volume.attachments.append(Attachment(id=str(uuid.uuid4()), host=host, attached_at=utc_now()))
            volume.status = VolumeStatus.IN_USE.value
            volume.failure_code = volume.failure_message = None
            volume.updated_at = utc_now()
            await sites.raise_generation(session, [volume.site])
            return True

    async def _look(self, project_id: str, volume_id: str) -> Connection | None:
        async with self._context.database.read() as session:
            volume = await self._find(session, project_id, volume_id)
            pair = await objects.pair_of_volume(session, volume_id)
            _check_production(volume_id, pair)  # Its group may have moved to the other site meanwhile.
            worker_id = volume_id if pair is None or pair.group_id is None else pair.group_id
            report = (await observed_workers(session, [worker_id])).get((volume.site, worker_id))
        if report is None:
            return None
        members = report.status.members if report.alive and report.status is not None else []
        if volume.nbd_uris and any(member.volume_id == volume_id and member.serving for member in members):
            return Connection(volume_id, list(volume.nbd_uris))
        failure = fatal_failure(report) or member_failure(report)
        if failure is not None:
            raise not_in_time(f"the volume {volume_id} cannot be served: {failure.message}")
        return None

    async def disconnect(self, project_id: str, volume_id: str, host: str | None) -> None:
        """Forget that `host`, or any host, uses a volume. Harmless when none does."""
        async with self._context.database.write() as session:
            volume = await self._find(session, project_id, volume_id, locked=True)
            admit_volume(volume_id, volume.status, VolumeCall.DISCONNECT)
            left = [attachment for attachment in volume.attachments if host is not None and attachment.host != host]
            if len(left) == len(volume.attachments):
                return
            volume.attachments = left
            if not left and volume.status == VolumeStatus.IN_USE:
                volume.status = VolumeStatus.AVAILABLE.value
            volume.updated_at = utc_now()
            await sites.raise_generation(session, [volume.site])
        await self._context.wakeups.notify()

    async def _find(self, session: AsyncSession, project_id: str, volume_id: str, *, locked: bool = False) -> Volume:
        volume = await objects.find(session, Volume, project_id, volume_id, locked=locked)
        if volume is None:
            raise not_found("volume", volume_id)
        return volume


def _check_production(volume_id: str, pair: Pair | None) -> None:
    if pair is not None and pair.dr_volume_id == volume_id:
        raise bad_request(
            f"The volume {volume_id} is the DR disk of the replication pair {pair.id} and follows its "
            f"production disk {pair.production_volume_id}. Connect that one. Or: "
            f"{way_to_delete_pair(pair.group_id)}"
        )


def check_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return metadata that may be stored, or refuse it (400)."""
    if len(metadata) > METADATA_ENTRIES_MAX:
        raise bad_request(
            f"metadata has {len(metadata)} entries; at most {METADATA_ENTRIES_MAX} are allowed. Delete some.",
            "EVS.1005",
        )
    for key, value in metadata.items():
        if not key:
            raise bad_request("metadata has an empty key; name each entry.")
        for text in (key, value):
            size_bytes = len(text.encode())
            if size_bytes > NAME_BYTES_MAX:
                raise bad_request(
                    f"The entry {key[:40]!r} of metadata has a text of {size_bytes} bytes of UTF-8; at most "
                    f"{NAME_BYTES_MAX} are allowed. Shorten it.",
                    "EVS.1005",
                )
    return dict(metadata)


def _check_host(host: str) -> None:
    if not host or check_name(host) is None:
        raise bad_request("connector.host is empty; name the host that will use the volume.")
