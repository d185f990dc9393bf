"""The volumes of a node: what exists, under which addresses, and what went wrong with it."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import replace
from urllib.parse import quote

import structlog

from twinsite.errors import StorageFault
from twinsite.messages import DesiredVolume, Failure, MemberSpec, ObservedVolume
from twinsite.node.pool import Pool
from twinsite.node.record import NodeRecord, VolumeRecord
from twinsite.node.settings import NodeSettings, host_and_port

POOL_FAILURE_CODE = "37100177"
"""EVS: the storage pool is abnormal."""

log = structlog.get_logger(__name__)


class Volumes:
    """Creates, addresses and deletes volumes. Calls block, and come from one thread at a time."""

    def __init__(self, settings: NodeSettings, pool: Pool, record: NodeRecord) -> None:
        self._settings = settings
        self._pool = pool
        self._record = record
        self._observed: dict[str, ObservedVolume] = {}
        self._settled: dict[str, tuple[int, int]] = {}  # What volumes were made as: size and room in bytes.

    def find(self) -> None:
        """Take in the volumes that are there from an earlier run, so that the first report knows them."""
        for volume_id in self._pool.volume_ids():
            store_bytes = self._pool.size_bytes(volume_id) or 0
            uris = self._uris(volume_id)
            self._observed[volume_id] = ObservedVolume(volume_id, "ready", uris, store_bytes=store_bytes)

    def observed(self) -> list[ObservedVolume]:
        """Return every volume as it is, in the order of the ids."""
        return sorted(self._observed.copy().values(), key=lambda volume: volume.id)

    def failure(self, volume_id: str) -> Failure | None:
        """Return what is wrong with a volume, or None."""
        observed = self._observed.get(volume_id)
        return observed.failure if observed is not None else None

    def unsettled(self, volumes: Sequence[DesiredVolume]) -> list[DesiredVolume]:
        """Return those of the volumes that are not yet, or not known to be, as they should be."""
        return [volume for volume in volumes if self._settled.get(volume.id) != (volume.size_bytes, volume.room_bytes)]

    def ensure_all(self, volumes: Sequence[DesiredVolume]) -> set[str]:
        """Make the volumes be there; return the ids of those that are not. A failure may be tried again.

        Failures are observed. So is room for an extension that cannot be made, which keeps nobody from using the volume
        as it is. All are remembered with one write: the record names every volume of the site.
        """
        made: list[DesiredVolume] = []
        try:
            with self._record.batched():
                for volume in self.unsettled(volumes):
                    self._settled.pop(volume.id, None)
                    try:
                        self._check_still_there(volume.id)
                        self._make(volume)
                    except StorageFault as fault:
                        self._fail(volume.id, fault)
                    else:
                        made.append(volume)
        except StorageFault as fault:
            for volume in made:
                self._fail(volume.id, fault)
            made = []
        for volume in made:
            self._finish(volume)
        return {volume.id for volume in volumes if self._observed[volume.id].state != "ready"}

    def _finish(self, volume: DesiredVolume) -> None:
        """Make room for an extension behind a volume that is there, and observe it."""
        wanted = (volume.size_bytes, volume.room_bytes)
        refused: Failure | None = None
        try:
            self._make_room(volume)
        except StorageFault as fault:
            log.error("volume cannot be extended", volume=volume.id, room_bytes=volume.room_bytes, reason=str(fault))
            refused = self._failure_of(fault)
        else:
            self._settled[volume.id] = wanted
            log.info(
                "volume is ready",
                volume=volume.id,
                size_bytes=volume.size_bytes,
                room_bytes=volume.room_bytes,
                request_id=volume.request_id or None,
            )
        self._observed[volume.id] = ObservedVolume(
            volume.id,
            "ready",
            self._uris(volume.id),
            refused,
            store_bytes=self._pool.size_bytes(volume.id) or 0,
            refused_bytes=volume.room_bytes if refused is not None else 0,
        )

    def _make(self, volume: DesiredVolume) -> None:
        """Make the volume with its size, or find that it has it. One that is larger must be so by our own doing."""
        recorded = self._record.volumes.get(volume.id)
        room_bytes = recorded.room_bytes if recorded is not None else 0
        size_bytes = self._pool.size_bytes(volume.id)
        is_roomy = (
            recorded is not None
            and size_bytes is not None
            and recorded.size_bytes <= volume.size_bytes <= size_bytes <= room_bytes
        )
        if not is_roomy:
            self._pool.create(volume.id, volume.size_bytes)
        port = recorded.nbd_port if recorded is not None else None
        port = port or self._free_port(volume.id)
        self._record.set_volume(volume.id, VolumeRecord(volume.size_bytes, port, room_bytes))

    def _make_room(self, volume: DesiredVolume) -> None:
        size_bytes = self._pool.size_bytes(volume.id)
        if size_bytes is None or volume.room_bytes <= size_bytes:
            return
        recorded = self._record.volumes[volume.id]
        # Remembered first: a larger store that nobody knows the reason of is refused.
        self._record.set_volume(volume.id, replace(recorded, room_bytes=max(recorded.room_bytes, volume.room_bytes)))
        self._pool.create(volume.id, volume.room_bytes)

    def delete_all(self, volume_ids: Collection[str]) -> bool:
        """Remove the volumes and all that belongs to them alone; return whether they are gone."""
        deleted: list[str] = []
        try:
            with self._record.batched():
                for volume_id in volume_ids:
                    if self._is_deleted(volume_id):
                        continue
                    self._settled.pop(volume_id, None)
                    try:
                        self._pool.delete(volume_id)
                    except StorageFault as fault:
                        self._fail(volume_id, fault)
                    else:
                        self._record.set_volume(volume_id, None)
                        deleted.append(volume_id)
        except StorageFault as fault:
            for volume_id in deleted:
                self._fail(volume_id, fault)
            deleted = []
        for volume_id in deleted:
            self._remove_the_rest(volume_id)
        return all(self._is_deleted(volume_id) for volume_id in volume_ids)

    def _is_deleted(self, volume_id: str) -> bool:
        observed = self._observed.get(volume_id)
        return observed is not None and observed.state == "deleted"

    def _remove_the_rest(self, volume_id: str) -> None:
        self._settings.nbd_socket_path(volume_id).unlink(missing_ok=True)
        shutil.rmtree(self._settings.worker_state_dir(volume_id), ignore_errors=True)
        (self._settings.log_dir / f"{volume_id}.log").unlink(missing_ok=True)
        self._observed[volume_id] = ObservedVolume(volume_id, "deleted")
        log.info("volume is deleted", volume=volume_id)

    def forget_deleted(self, listed_ids: set[str]) -> None:
        """Drop the deleted volumes that the controller no longer lists: it knows."""
        for volume in self.observed():
            if volume.state == "deleted" and volume.id not in listed_ids:
                del self._observed[volume.id]

    def fill(self, member: MemberSpec) -> MemberSpec:
        """Return the member with what only the node knows: its store and its addresses."""
        port = self._port(member.volume_id)
        return replace(
            member,
            store=self._pool.place(member.volume_id),
            nbd_socket=str(self._settings.nbd_socket_path(member.volume_id)),
            nbd_tcp=None if port is None else host_and_port(self._settings.nbd_host, port),
        )

    def _uris(self, volume_id: str) -> list[str]:
        uris = [f"nbd+unix:///{volume_id}?socket={quote(str(self._settings.nbd_socket_path(volume_id)))}"]
        port = self._port(volume_id)
        if port is not None:
            uris.append(f"nbd://{host_and_port(self._settings.nbd_host, port)}/{volume_id}")
        return uris

    def _check_still_there(self, volume_id: str) -> None:
        """Raise `StorageFault` when a volume that was made is gone or shorter: an empty one must not take its place.

        This is how a pool looks whose file system is not mounted.
        """
        recorded = self._record.volumes.get(volume_id)
        if recorded is None:
            return
        place = self._pool.place(volume_id).path
        size_bytes = self._pool.size_bytes(volume_id)
        if size_bytes is None:
            raise StorageFault("open", place, "the volume's bytes are gone; mount the pool or restore them")
        if size_bytes < recorded.size_bytes:
            raise StorageFault(
                "open", place, f"only {size_bytes} of {recorded.size_bytes} bytes are left; restore them"
            )

    def _port(self, volume_id: str) -> int | None:
        recorded = self._record.volumes.get(volume_id)
        return recorded.nbd_port if recorded is not None and self._settings.nbd_ports is not None else None

    def _free_port(self, volume_id: str) -> int | None:
        if self._settings.nbd_ports is None:
            return None
        taken = {volume.nbd_port for volume in self._record.volumes.values()}
        port = next((port for port in self._settings.nbd_ports if port not in taken), None)
        if port is None:
            cause = f"all {len(self._settings.nbd_ports)} ports of --nbd-ports are taken; widen the range"
            raise StorageFault("assign a TCP port", volume_id, cause)
        return port

    def _fail(self, volume_id: str, fault: StorageFault) -> None:
        failure = self._failure_of(fault)
        before = self._observed.get(volume_id)
        if before is None or before.failure != failure:
            log.error("volume fails", volume=volume_id, reason=str(fault))
        uris = before.nbd_uris if before is not None else []
        self._observed[volume_id] = ObservedVolume(volume_id, "error", uris, failure)

    def _failure_of(self, fault: StorageFault) -> Failure:
        return Failure(POOL_FAILURE_CODE, f"{fault} (site {self._settings.site})")
