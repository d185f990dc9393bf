"""The checkers of a world: they look at what hosts were told, at the disks and at the arbiter's row.

1. Whenever a site shows its disks to hosts, they show every change that a host was told is done.
2. A site that was promoted by force shows the disks of one moment, no change without those that it depended on, and has
   lost no more than was stated. So would, at any moment, a stale secondary that says that it can be promoted.
3. While the arbiter has the secondary as in sync, its disks have every answered change, at the moment of each answer
   and at any other: it could be promoted then.
4. What was seen to be lost is not told done afterwards, and does not come back: there is one history.
5. In the end, after the faults, the twins are equal, and equally large.
6. A primary that has heard that it was replaced does nothing more for hosts.
7. A disk that hosts have seen never shrinks, both sites' disks are as large, and behind their ends is nothing.

All of that is said of the members that the group has at that moment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from twinsite.core.arbiter import Row, Secondary
from twinsite.core.limits import BLOCK_BYTES, SECTOR_BYTES
from twinsite.core.tracking.undo import decode_header, decode_records
from twinsite.messages import Role, WorkerStatus
from twinsite_sim.controller import Controller, Promotion
from twinsite_sim.hosts import Attachment
from twinsite_sim.ledger import Change, Image, Ledger, VolumeLedger, word_at
from twinsite_sim.loop import SimLoop, WorldFailure
from twinsite_sim.machine import STATE_ROOT, Machine, Process
from twinsite_sim.nbd_client import NbdClient
from twinsite_sim.trace import Trace
from twinsite_sim.volumes import disk_path, number_of

LEAVING_SECONDS = 2.0
"""What a host asks later than that of a primary that has heard that it was replaced is not done any more.

What a host is shown within that time after the word of a failed flush may have been on its way."""
UNDO_LOG = STATE_ROOT / "undo.log"


class Judge:
    """Judges one world."""

    def __init__(
        self, loop: SimLoop, trace: Trace, machines: dict[str, Machine], controller: Controller, ledger: Ledger
    ) -> None:
        self._loop = loop
        self._trace = trace
        self._machines = machines
        self._ledger = ledger
        self._shown: set[tuple[int, int]] = set()
        self._unchecked: Promotion | None = None
        self._lacking = {"az1": False, "az2": False}
        self._lost_at = dict.fromkeys(self._lacking, 0.0)
        self._has_crashed: set[str] = set()  # Machines, since the group was in sync.
        self._unhealed: set[str] = set()
        """Sites whose flush has failed while nobody else had what they have."""
        self._was_in_sync = False
        self._is_beyond = False
        self._was_forced_unseen = False  # A forced failover was followed by another one before its disks were shown.
        self._is_forked = False
        self._heard_replaced: dict[Process, float] = {}
        self._version_in_sync = 0
        self._lives_in_sync = dict.fromkeys(self._lacking, (1, 0))
        self.status_of: Callable[[str], WorkerStatus | None] = lambda site: None
        """Returns how a site's living worker is just now."""
        self._row = controller.row  # What was granted, whatever a database that went back to a backup says.
        controller.on_promoted = self._promoted
        controller.on_row = self._row_changed
        controller.on_loss_accepted = self._loss_accepted
        for site in ("az1", "az2"):
            machines[site].on_lost_writes = self._lost_writes
            machines[site].on_crash = self._crashed

    def images(self, site: str) -> dict[int, Image]:
        """Return what a site's disks of the group show, as far as hosts have ever seen them."""
        return {index: self._image(site, volume) for index, volume in self._ledger.volumes.items()}

    def _image(self, site: str, volume: VolumeLedger) -> Image:
        disk = self._machines[site].disks[disk_path(volume.index)]
        size_bytes = volume.sector_count * SECTOR_BYTES
        if disk.size_bytes < size_bytes:
            raise WorldFailure(f"{site}: volume {volume.index} has {disk.size_bytes} bytes, hosts have {size_bytes}")
        return disk.content if disk.size_bytes == size_bytes else memoryview(disk.content)[:size_bytes]

    # What hosts see

    def attached(self, client: NbdClient, attachment: Attachment) -> None:
        """A site shows its disks to a host: they must show everything, or what a forced failover has left."""
        process: Process = client.server_process
        site = process.machine.name
        row = self._row
        volume = self._ledger.volumes[attachment.index]
        self._grow(volume, client.size_bytes)
        if site != row.primary_site or not process.is_alive:
            return  # It was replaced and does not know yet, or it is gone and its host does not know yet.
        if client.size_bytes < attachment.least_bytes:
            raise WorldFailure(f"{process.name} shows volume {volume.index} with {client.size_bytes} bytes; it shrinks")
        promotion = self._unchecked
        self._unchecked = None
        is_forced = promotion is not None and promotion.is_forced
        if promotion is not None and row.secondary is Secondary.STALE:
            self._ledger.fork(self._machines[other_site(site)], self._loop.time(), may_answer=is_forced)
        if self._is_beyond:
            self._start_over(process, must_have_flushed=not is_forced and not self._was_forced_unseen)
            return
        key = (id(process), row.term)
        is_new = key not in self._shown
        self._shown.add(key)
        what = f"{process.name} shows its disks under term {row.term}"
        if promotion is not None and is_forced:
            # A switchover may have moved it since.
            self._check_forced(promotion, process, what)
        elif is_new:
            self._ledger.settle(self.images(site), process, self._loop.time(), what)
        elif not self._has_just_failed(process.machine):
            self._ledger.check(self.images(site), what)

    def _has_just_failed(self, machine: Machine) -> bool:
        """Say whether nobody may have heard yet that a flush has failed: what is shown meanwhile is not guaranteed."""
        told_at = max(disk.told_at for disk in machine.disks.values())
        return told_at > 0 and told_at > self._loop.time() - LEAVING_SECONDS

    def _grow(self, volume: VolumeLedger, size_bytes: int) -> None:
        """A host is shown a volume of this size: from now on both sites must have that."""
        if size_bytes > volume.sector_count * SECTOR_BYTES:
            self._trace.add("checker", f"hosts see {size_bytes} bytes of volume {volume.index}")
            self._ledger.grow(volume.index, size_bytes)
            for site in self._lacking:
                self._image(site, volume)

    def answered(self, change: Change) -> None:
        """A host was told: two of three must stand behind that."""
        row = self._row
        process: Process = change.place
        other = other_site(process.machine.name)
        is_held_to = row.secondary is Secondary.IN_SYNC and process.machine.name == row.primary_site
        if not is_held_to or self._lacking[other] or self._is_unsettled():
            return
        content = self._image(other, self._ledger.volumes[change.volume])
        for sector in change.sectors:
            if not self._ledger.may_show(change.volume, sector, word_at(content, sector)):
                raise WorldFailure(f"{change} was told done, and {other}, which counts as in sync, lacks it")

    def replaced(self, process: Process) -> None:
        """A worker has heard that another site is primary."""
        self._heard_replaced.setdefault(process, self._loop.time())

    def served(self, process: Process, asked_at: float) -> None:
        """A worker has done what a host asked of it at that time."""
        heard_at = self._heard_replaced.get(process)
        if heard_at is not None and asked_at > heard_at + LEAVING_SECONDS:
            raise WorldFailure(
                f"{process.name} has heard at {heard_at:.4f} that it was replaced, and serves what a host asked at "
                f"{asked_at:.4f}"
            )

    def can_check_reads(self, site: str) -> bool:
        """Say whether what hosts read at a site is to be believed just now.

        A primary that has been replaced may answer reads until it hears of that.
        """
        return site == self._row.primary_site and not self._is_unsettled() and not self._lacking[site]

    def may_both_have_lost(self) -> bool:
        """Say whether, since the group was in sync, both sites' machines have crashed or failed to flush."""
        return all(
            self._lives(site) != lives or not self._machines[site].is_up for site, lives in self._lives_in_sync.items()
        )

    def _lives(self, site: str) -> tuple[int, int]:
        machine = self._machines[site]
        return machine.boot_number, sum(disk.failed_flushes for disk in machine.disks.values())

    # What lies on the disks

    def look(self) -> None:
        """Whoever is primary has everything, and so has a secondary that counts as in sync."""
        for site in self._lacking:
            self._check_room(site)
        if self._is_unsettled():
            return
        row = self._row
        if self._lacking[row.primary_site]:
            self._look_whether_whole(row.primary_site)
        else:
            self._ledger.check(self.images(row.primary_site), f"the primary {row.primary_site}")
        other = other_site(row.primary_site)
        if row.secondary is Secondary.IN_SYNC and not self._lacking[other]:
            self._ledger.check(self.images(other), f"{other}, which counts as in sync")
        if row.secondary is Secondary.STALE and not self._lacking[other] and not self._is_forked:
            self._check_promotable(other)

    def _look_whether_whole(self, site: str) -> None:
        """What a site had lost came back, or was written anew, if it shows everything.

        That proves nothing while an answer to what it has lost may be on its way.
        """
        machine, lost_at = self._machines[site], self._lost_at[site]
        for change in self._ledger.pending:
            if change.place is not None and change.place.machine is machine and change.issued_at <= lost_at:
                return
        with contextlib.suppress(WorldFailure):
            self._ledger.check(self.images(site), site)
            self._lacking[site] = False

    def _check_room(self, site: str) -> None:
        """Behind what hosts have ever seen of a disk it must read as zeros."""
        for volume in self._ledger.volumes.values():
            disk = self._machines[site].disks[disk_path(volume.index)]
            room = memoryview(disk.content)[volume.sector_count * SECTOR_BYTES :]
            if room.nbytes and any(room):
                raise WorldFailure(f"{site}: something lies behind the end of volume {volume.index}")

    def _check_promotable(self, site: str) -> None:
        """A secondary that says that it can be promoted by force must show one moment then, whatever else it lacks."""
        status = self.status_of(site)
        if status is None or status.role is not Role.SECONDARY or status.doubtful:
            return
        machine = self._machines[site]
        # It may not have heard yet of members that have come.
        known = {number_of(member.volume_id) for member in status.members}
        images = {index: image for index, image in self.images(site).items() if index in known}
        if status.consistent:
            self._ledger.check_promotable(images, f"{site}, which says that it is consistent", machine)
        elif status.rollback_point is not None:
            copies = rolled_back(images, machine.files.peek(UNDO_LOG))
            self._ledger.check_promotable(copies, f"{site}, if its undo log were rolled back", machine)

    def twins_are_equal(self) -> bool:
        """Say whether both sites' disks show the same."""
        return all(
            bytes(self._image("az1", volume)) == bytes(self._image("az2", volume))
            for volume in self._ledger.volumes.values()
        )

    def check_end(self) -> None:
        """All is at rest: the disks show everything, unless no host has seen what a forced failover left."""
        if self._is_unsettled():
            return
        self._ledger.check(self.images(self._row.primary_site), "in the end")

    # Inside

    def _is_unsettled(self) -> bool:
        """Say whether a forced failover has made history open, until its disks are shown."""
        return self._unchecked is not None or self._is_beyond

    def _promoted(self, promotion: Promotion) -> None:
        # Whoever gives force accepts that unflushed changes are missing, also where that was not known and not said.
        # What both have lost nobody can bring, whatever had been reported by then.
        lacks_unflushed = self._lacking[promotion.site] and (promotion.accepts_loss or self.may_both_have_lost())
        # A second forced failover before the group was in sync again may go back to a history that the first one left.
        is_second = promotion.is_forced and self._is_forked
        self._is_beyond = self._is_beyond or lacks_unflushed or is_second or self._unchecked is not None
        self._is_forked = self._is_forked or promotion.is_forced
        if self._unchecked is not None and self._unchecked.is_forced:
            self._was_forced_unseen = True
        self._unchecked = promotion
        self._ledger.join(self._machines[promotion.site])

    def _check_forced(self, promotion: Promotion, process: Process, what: str) -> None:
        lost = self._ledger.start_anew(self.images(process.machine.name), self._loop.time(), what, place=process)
        self._trace.add("checker", f"the forced failover has lost {len(lost)} changes of sectors")
        loss = promotion.loss
        assert loss is not None
        if loss.bytes_at_most is not None and not loss.unflushed:
            sectors = {
                (change.volume, sector)
                for change, sector, _ in lost
                if change.done_at is not None and change.done_at <= promotion.said_at
            }
            if len(sectors) * SECTOR_BYTES > loss.bytes_at_most:
                raise WorldFailure(
                    f"{what}: it stated the loss of {loss}, which was at {promotion.said_at:.4f}, and "
                    f"{len(sectors) * SECTOR_BYTES} bytes that were done by then are lost"
                )
        if loss.since is not None:
            since = min(self._machines[promotion.stater].true_times(loss.since))
            for change, _, shown in lost:
                if change.done_at is not None and change.done_at < since:
                    raise WorldFailure(
                        f"{what}: it stated the loss of {loss}, which is {since:.4f}, but {change}, done at "
                        f"{change.done_at:.4f}, is lost too; {shown} is shown"
                    )

    def _loss_accepted(self) -> None:
        self._is_beyond = True

    def _start_over(self, process: Process, *, must_have_flushed: bool) -> None:
        """Unflushed changes may be lost, as was said: take what is shown, if it has what was flushed."""
        self._is_beyond = self._was_forced_unseen = False
        self._shown.add((id(process), self._row.term))
        self._trace.add("checker", "unflushed changes may be lost: what is shown now is the history")
        images = self.images(process.machine.name)
        what = f"{process.name} after both sites have lost writes"
        if must_have_flushed:
            self._ledger.check_flushed(images, what)
        self._ledger.start_anew(images, self._loop.time(), what, is_of_one_moment=False, place=process)
        for index in images:
            disk = process.machine.disks[disk_path(index)]
            # Flushed it was at the other site, perhaps; here it is shown and nothing more.
            self._ledger.void_flushes(index, disk.unflushed | disk.forgotten)

    def _row_changed(self, row: Row, is_old: bool) -> None:
        if row.unheard:
            return
        before, self._row = self._row, row
        # It may be primary anew, under a later term, and not have heard of that yet.
        self._heard_replaced = {
            process: at for process, at in self._heard_replaced.items() if process.machine.name != row.primary_site
        }
        is_in_sync = row.secondary is Secondary.IN_SYNC
        if is_old and (row.primary_site != before.primary_site or (is_in_sync and not self._was_in_sync)):
            # Where a promotion was forgotten, the crashes that followed it count as those of a group in sync.
            self._is_beyond |= self.may_both_have_lost()
        if is_in_sync and not self._was_in_sync:
            if is_old:
                # Who crashed while this was on its way counts as one of a group in sync.
                self._has_crashed |= {site for site, is_lacking in self._lacking.items() if is_lacking}
            self._ledger.join()
            self._is_forked = False
            for site, is_lacking in self._lacking.items():
                # Of a machine that is down, or after a late report, the primary may not know yet.
                knows = self._machines[site].is_up and not is_old
                if is_lacking and knows and not self._is_unsettled():
                    self._look_whether_whole(site)
        if is_in_sync and not is_old and row.version > self._version_in_sync:
            # A database that hears of an old version again makes nobody whole.
            self._version_in_sync = row.version
            # A primary whose flush has failed is in sync first, and heals then.
            whole = self._lacking.keys() - self._unhealed
            self._lives_in_sync |= {site: self._lives(site) for site in whole}
            self._unhealed.clear()
            # What was reported just before a machine crashed does not make that one whole.
            down = {site for site, machine in self._machines.items() if site in self._lacking and not machine.is_up}
            self._has_crashed = down | {site for site in self._has_crashed if self._lacking[site]}
        self._was_in_sync = is_in_sync

    def _crashed(self, machine: Machine) -> None:
        """A second machine crashes before the group has recovered from the first: only what was flushed is promised."""
        other = other_site(machine.name)
        if other in self._has_crashed or (self._was_in_sync and self._lacking[other]):
            self._is_beyond = True
        if self._was_in_sync:
            self._has_crashed.add(machine.name)

    def _lost_writes(self, machine: Machine, path: str, sectors: list[int], was_told: bool) -> None:
        """A disk has lost what was not flushed: hosts may miss it, if it was the group's only copy.

        `was_told`: a host's flush has failed there, so what it was to cover is undefined by the host's own rules; but
        while the other site has everything, hosts are not told and nothing is lost.
        """
        index = number_of(path)
        if index not in self._ledger.volumes:
            return
        row = self._row
        site = machine.name
        is_in_sync = row.secondary is Secondary.IN_SYNC
        self._lacking[site] = True
        self._lost_at[site] = self._loop.time()
        promoted = self._unchecked.site if self._unchecked is not None else None
        if promoted is not None and (promoted == site or self._lacking[promoted]):
            # It was promoted by force and has not shown its disks yet: what it could show then, or could take from the
            # other site before, is not known any more.
            self._is_beyond = True
            return
        if site != row.primary_site and not is_in_sync:
            return
        if is_in_sync:
            # A disk that fails a flush is as good as a machine that crashes: of what both lost, only flushes count.
            self._is_beyond |= other_site(site) in self._has_crashed
            self._has_crashed.add(site)
        told = was_told and site == row.primary_site and not is_in_sync
        if site == row.primary_site and not is_in_sync:
            self._unhealed.add(site)
        is_held = is_in_sync and not self._is_beyond and not told
        other: Any = self.images(other_site(site))[index] if is_held else None
        content = machine.disks[path].content
        excused = self._ledger.crashed(index, sectors, content, other, was_told=told)
        if excused:
            self._trace.add("checker", f"{len(excused)} sectors of volume {index} are excused")


def rolled_back(images: Mapping[int, Image], log: bytes) -> dict[int, bytearray]:
    """Return copies of disks as the records of an undo log would leave them."""
    copies = {index: bytearray(image) for index, image in images.items()}
    header, start = decode_header(memoryview(log))
    numbers = {int(index): number_of(volume_id) for index, volume_id in header.volume_ids.items()}
    for record, _ in decode_records(memoryview(log), start):
        image = copies.get(numbers[record.volume])
        if image is None:
            continue
        offset = record.block * BLOCK_BYTES
        length = min(BLOCK_BYTES, len(image) - offset)
        # What was kept before its disk grew was followed by nothing; hosts may not have seen yet what it has grown by.
        image[offset : offset + length] = bytes(record.data or b"")[:length].ljust(length, b"\0")
    return copies


def other_site(site: str) -> str:
    """Return the other one of the two sites."""
    return "az2" if site == "az1" else "az1"
