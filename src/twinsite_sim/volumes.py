"""The group's volumes as the controller's database has them, and a site's pool of disks.

Sizes in "gib" are in the product's unit, which is `UNIT_BYTES` here: simulated disks are small.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

from twinsite.control.lifecycle.extending import Outcome
from twinsite.core.limits import SECTOR_BYTES
from twinsite.errors import StorageFault
from twinsite.messages import PoolReport, StorePlace
from twinsite.node.record import NodeRecord
from twinsite_sim.machine import Machine

UNIT_BYTES = SECTOR_BYTES
"""What stands for a GiB in sizes of volumes."""


@dataclass
class SimVolume:
    """One disk of a pair, as `control.models.Volume`."""

    id: str
    site: str
    size_gib: int
    store_bytes: int | None = None
    target_gib: int | None = None
    is_grown: bool = False

    @property
    def worker_gib(self) -> int:
        """Return the size that its worker is told."""
        return self.target_gib if self.is_grown and self.target_gib is not None else self.size_gib


@dataclass
class SimPair:
    """A production disk and a DR disk, as `control.models.Pair`."""

    member_index: int
    production_volume: SimVolume
    dr_volume: SimVolume

    def turn(self, priority_station: str) -> None:
        """Let the disk of that site be the production disk."""
        if self.production_volume.site != priority_station:
            self.production_volume, self.dr_volume = self.dr_volume, self.production_volume

    @property
    def volumes(self) -> tuple[SimVolume, SimVolume]:
        """Return both disks."""
        return self.production_volume, self.dr_volume


@dataclass
class Extension:
    """The last extension of the group's disks, as `control.models.Extend`; `targets` is by member index."""

    targets: dict[int, int]
    spec_version: int
    room_ends_at: float
    outcome: Outcome = Outcome.RUNNING


@dataclass(slots=True)
class SimRecord(NodeRecord):
    """What a node remembers across restarts of its machine; each change is durable at once, as a file is replaced."""

    saves: int = field(default=0)

    def _save(self, changed: NodeRecord) -> None:
        del changed
        self.saves += 1


class SimPool:
    """A `Pool` of the disks of a simulated machine."""

    def __init__(self, machine: Machine, site: str) -> None:
        self._machine = machine
        self._site = site

    def place(self, volume_id: str) -> StorePlace:
        """Return where the volume's disk is plugged in."""
        return place_of(volume_id)

    def create(self, volume_id: str, size_bytes: int) -> None:
        """Make sure that the volume is there with this size, durably. Raises `StorageFault`."""
        path = self.place(volume_id).path
        disk = self._machine.disks.get(path)
        if disk is not None and disk.size_bytes > size_bytes:
            raise StorageFault("create", path, f"a file of {disk.size_bytes} bytes is there, larger than {size_bytes}")
        if disk is not None and disk.size_bytes == size_bytes:
            return
        if self._machine.is_pool_full:
            raise StorageFault("create", path, OSError(errno.ENOSPC, "the pool is full"))
        if disk is None:
            self._machine.add_disk(path, size_bytes)
        else:
            disk.grow(size_bytes)
        self._machine.trace.add(self._machine.name, f"{path} has {size_bytes} bytes")

    def delete(self, volume_id: str) -> None:
        """Make sure that the volume is gone: nobody asks for that here."""
        raise AssertionError(f"{volume_id} is to be deleted")

    def size_bytes(self, volume_id: str) -> int | None:
        """Return the volume's size, or None when it is not there."""
        disk = self._machine.disks.get(self.place(volume_id).path)
        return disk.size_bytes if disk is not None else None

    def volume_ids(self) -> list[str]:
        """Return the ids of the volumes that are there."""
        return [f"{self._site}-{path.rpartition('/')[2]}" for path in self._machine.disks]

    def report(self) -> PoolReport:
        """Return that nobody knows how much there is: what a pool has room for shows when it is asked for that."""
        return PoolReport(total_bytes=0, free_bytes=0)


def volume_id_of(site: str, number: int) -> str:
    """Return the id of one of the two disks of a pair of this number."""
    return f"{site}-{number}"


def number_of(volume_id: str) -> int:
    """Return the number of the pair that a disk is one of, by its id or its path."""
    return int(volume_id.replace("/", "-").rpartition("-")[2])


def place_of(volume_id: str) -> StorePlace:
    """Return where a disk is plugged in at its machine."""
    return StorePlace("sim", disk_path(number_of(volume_id)))


def disk_path(number: int) -> str:
    """Return where the disks of the pair of this number are plugged in, at whatever site."""
    return f"/disk/{number}"


def new_pair(number: int, member_index: int, size_bytes: int, sites: tuple[str, str]) -> SimPair:
    """Return a pair whose production disk is at the first of the sites."""
    size_gib = size_bytes // UNIT_BYTES
    production, dr = (SimVolume(volume_id_of(site, number), site, size_gib, size_bytes) for site in sites)
    return SimPair(member_index, production, dr)
