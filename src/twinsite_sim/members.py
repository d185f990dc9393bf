"""Pairs that come into the group and leave it, as `control.lifecycle.groups` has it, and their disks."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from twinsite.control.lifecycle.admission import keeps_pause
from twinsite.control.lifecycle.health import group_status_after_reports
from twinsite.control.lifecycle.states import GroupCall, GroupStatus
from twinsite.core.arbiter import Refusal, Secondary, suspend_secondary
from twinsite.core.limits import BLOCK_BYTES, SECTOR_BYTES
from twinsite.messages import Replication
from twinsite_sim.extending import Refused, refuse_while_extending
from twinsite_sim.ledger import content_of
from twinsite_sim.stores import SimDisk
from twinsite_sim.volumes import UNIT_BYTES, SimPair, disk_path, new_pair, number_of

if TYPE_CHECKING:
    from twinsite_sim.controller import Controller
    from twinsite_sim.world import World

PAIRS_MAX = 4
"""More pairs the group has at no time: worlds are to stay fast."""


def change_pairs(controller: Controller, added: Sequence[SimPair], removed: Sequence[int]) -> None:
    """Let pairs in, and out by their member indexes, while the group is paused. Raises `Refused`."""
    if controller.is_down():
        raise Refused("the controller is down")
    controller.admit(GroupCall.UPDATE)
    group, row = controller.group, controller.row
    worker = controller.health().status
    if group.replication is not Replication.PAUSED or not keeps_pause(worker, group.wish_version):
        raise Refused("replication is not paused")
    refuse_while_extending(group.pairs)
    controller.require_connected("az1", "az2")
    left = [pair for pair in group.pairs if pair.member_index not in removed]
    if added and left and (worker is None or row.secondary is Secondary.IN_SYNC):
        raise Refused("the primary has not taken up the stop, as far as is known")
    if row.secondary is Secondary.IN_SYNC or row.unheard:
        now = controller.machine.wall_clock()
        stale = suspend_secondary(row, site=row.primary_site, term=row.term, version=row.version, now=now)
        if isinstance(stale, Refusal):
            raise Refused(stale.reason.value)
        controller.set_row(stale, "changes the pairs")
    first = group.next_member_index
    group.pairs = [*left, *(replace(pair, member_index=index) for index, pair in enumerate(added, start=first))]
    group.next_member_index = first + len(added)
    group.status = GroupStatus.UPDATING
    group.spec_version += 1
    numbers = [number_of(pair.production_volume.id) for pair in group.pairs]
    controller.note(f"changes the pairs: {numbers} from version {group.spec_version} on")
    settle_change(controller)


def settle_change(controller: Controller) -> None:
    """Move a group on whose pairs have changed."""
    group = controller.group
    before = group.status
    group.status, _ = group_status_after_reports(
        group.status,
        group.spec_version,
        bool(group.pairs),
        controller.reports.get(group.priority_station),
        controller.reports.get(group.secondary_station),
    )
    if group.status is not before:
        controller.note(f"the group is {group.status}")


class Changing:
    """What becomes of disks and hosts when pairs come and go."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._random = rng
        self._spare: list[SimPair] = []  # Pairs that have left the group; they may come back.
        self._count = 0

    def change(self) -> bool:
        """Add a pair, or remove one; return whether that was admitted."""
        pairs = self._world.controller.group.pairs
        may_remove = len(pairs) > 1
        if len(pairs) >= PAIRS_MAX or (may_remove and self._random.random() < 0.5):
            return self._remove(self._random.choice(pairs))
        return self._add()

    def _remove(self, pair: SimPair) -> bool:
        """Let a pair out; its hosts have stopped before."""
        world = self._world
        try:
            world.controller.change_pairs([], [pair.member_index])
        except Refused:
            return False
        number = number_of(pair.production_volume.id)
        world.hosts.detach(number)
        world.ledger.remove(number)
        self._spare.append(pair)
        return True

    def _add(self) -> bool:
        """Let a new pair in, or one that was a member before and has been used alone since."""
        world, rng = self._world, self._random
        primary = world.controller.group.priority_station
        if self._spare and rng.random() < 0.6:
            pair = rng.choice(self._spare)
            pair.turn(primary)
        else:
            pair = self._new_pair(primary)
            self._spare.append(pair)
        path = disk_path(number_of(pair.production_volume.id))
        disk = world.machines[primary].disks[path]
        other = world.machines[pair.dr_volume.site].disks[path]
        if disk.opened_by is not None or other.opened_by is not None:
            return False  # One store is open in one process.
        self._use_alone(pair, disk)
        try:
            world.controller.change_pairs([pair], [])
        except Refused:
            return False
        self._spare.remove(pair)
        number = number_of(pair.production_volume.id)
        world.ledger.add(number, memoryview(disk.content)[: pair.production_volume.size_gib * UNIT_BYTES])
        world.hosts.attach(number)
        return True

    def _new_pair(self, primary: str) -> SimPair:
        world, rng = self._world, self._random
        number = max(number_of(path) for path in world.machines[primary].disks) + 1
        size_bytes = rng.choice([2, 3, 5]) * BLOCK_BYTES + rng.choice([0, 0, 1536])
        sites = (primary, "az2" if primary == "az1" else "az1")
        pair = new_pair(number, 0, size_bytes, sites)
        for volume in pair.volumes:
            disk = world.machines[volume.site].add_disk(disk_path(number), size_bytes)
            disk.uncached_rate = rng.choice([0.0, 0.3])
            self._use_alone(pair, disk)  # What was on the DR disk before is of no use to anybody.
        return pair

    def _use_alone(self, pair: SimPair, disk: SimDisk) -> None:
        """Write to a disk outside the group, and flush."""
        rng, ledger = self._random, self._world.ledger
        disk.evict()
        count = pair.production_volume.size_gib * UNIT_BYTES // SECTOR_BYTES
        for _ in range(rng.choice([0, 1, 4])):
            start = rng.randrange(count)
            sectors = range(start, min(start + rng.choice([1, 8, 200]), count))
            change = ledger.imprint(number_of(pair.production_volume.id), sectors, self._world.loop.time())
            disk.put(content_of(change), start * SECTOR_BYTES)
        disk.flush()
