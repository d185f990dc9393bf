"""Extending the disks of a group's pairs: all of the listed ones at both sites, or none.

The journal is `models.Extend` and the two columns `target_gib` and `is_grown` of each disk. The order of the steps lets
no host write beyond the end of a twin:

1. both sites' pools make room behind the disks, which no worker is told of: up to here everything can be undone;
2. the DR disks grow: the secondary worker takes writes to the new range;
3. the production disks grow: hosts that connect from now on see the new size;
4. the API shows the new sizes.

`next_step` is the table, pure. Which step is next follows from the database and the workers' reports, so any controller
goes on where another one died. A failover half-way changes which disk is which, and the rest goes by the new roles.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.clock import utc_now
from twinsite.control.context import Context
from twinsite.control.lifecycle import chronicle
from twinsite.control.lifecycle.group_calls import GroupCalls, find_group, growing_pairs, lost
from twinsite.control.lifecycle.moves import deadline_after
from twinsite.control.lifecycle.quotas import Demand, check_quota
from twinsite.control.lifecycle.reports import living_status
from twinsite.control.lifecycle.states import GroupCall, ReplicationStatus, admit_available_pair, admit_group
from twinsite.control.lifecycle.volumes import SIZE_GIB_MAX
from twinsite.control.models import Extend, Group, Pair
from twinsite.control.refusals import (
    PEER_UNREACHABLE,
    RequestRefused,
    StateRefused,
    bad_request,
    conflict,
    not_in_time,
    wrong_state,
)
from twinsite.control.repository import objects, sites
from twinsite.core.limits import GIB
from twinsite.messages import Failure, ObservedVolume, ObservedWorker, Role

NOTHING_CHANGED = "Nothing was changed; try again later."


class Outcome(StrEnum):
    """How an extension is, or how it ended."""

    RUNNING = "running"
    DONE = "done"
    UNDONE = "undone"


class ExtendStep(StrEnum):
    """What is to be done about an extension."""

    WAIT = "wait"
    UNDO = "a pool cannot make room, or does not in time"
    GROW_DR = "both pools have room"
    GROW_PRODUCTION = "the secondary takes writes to the new range"
    FINISH = "both workers have the new sizes"


@dataclass(frozen=True, slots=True)
class ExtendFacts:
    """What is known of an extension; "grown" is what a side's worker is told, "in force" what it has taken up."""

    has_room: bool
    is_refused: bool
    is_late: bool
    dr_grown: bool
    production_grown: bool
    secondary_in_force: bool
    primary_in_force: bool


def next_step(facts: ExtendFacts) -> ExtendStep:
    """Return what is to be done about an extension now."""
    if not facts.dr_grown:
        if facts.has_room:
            return ExtendStep.GROW_DR
        # Once a worker has been told, there is only forward: hosts may have seen the new size.
        may_undo = not facts.production_grown
        return ExtendStep.UNDO if may_undo and (facts.is_refused or facts.is_late) else ExtendStep.WAIT
    if not facts.production_grown:
        return ExtendStep.GROW_PRODUCTION if facts.secondary_in_force else ExtendStep.WAIT
    return ExtendStep.FINISH if facts.secondary_in_force and facts.primary_in_force else ExtendStep.WAIT


def extend_facts(
    group: Group,
    journal: Extend,
    reports: Mapping[tuple[str, str], ObservedWorker],
    refused: Mapping[str, Failure],
    lost: frozenset[str],
    is_late: bool,
) -> ExtendFacts:
    """Return what is known of a group's extension. `refused` says by volume id why a pool could not make room.

    What is to be done at a `lost` site counts as done: nothing of it comes back.
    """
    pairs = growing_pairs(group)
    disks = [disk for pair in pairs for disk in (pair.production_volume, pair.dr_volume)]

    def in_force(site: str, role: Role) -> bool:
        """Say whether a side's worker has taken up what it was told, and has its disks open at their new sizes."""
        status = living_status(reports.get((site, group.id)), role)
        if status is None or status.spec_version < journal.spec_version:
            return site in lost
        sizes_bytes = {member.volume_id: member.size_bytes for member in status.members}
        own = [disk for disk in disks if disk.site == site]
        return all(sizes_bytes.get(disk.id, 0) >= disk.worker_gib * GIB for disk in own)

    return ExtendFacts(
        has_room=all(disk.site in lost or (disk.store_bytes or 0) >= (disk.target_gib or 0) * GIB for disk in disks),
        is_refused=any(disk.id in refused for disk in disks),
        is_late=is_late,
        dr_grown=all(pair.dr_volume.is_grown for pair in pairs),
        production_grown=all(pair.production_volume.is_grown for pair in pairs),
        secondary_in_force=in_force(group.secondary_station, Role.SECONDARY),
        primary_in_force=in_force(group.priority_station, Role.PRIMARY),
    )


async def settle_extend(
    context: Context,
    session: AsyncSession,
    group: Group,
    reports: Mapping[tuple[str, str], ObservedWorker],
    refused: Mapping[str, Failure],
    lost: frozenset[str] = frozenset(),
) -> frozenset[str]:
    """Take the next step of a group's extension; return the sites whose desired state that changed.

    The group was read with its lock in this session.
    """
    journal = await objects.extend_of_group(session, group.id)
    if journal is None or journal.outcome != Outcome.RUNNING:
        return frozenset()
    step = next_step(extend_facts(group, journal, reports, refused, lost, utc_now() >= journal.room_deadline))
    pairs = growing_pairs(group)
    match step:
        case ExtendStep.WAIT:
            return frozenset()
        case ExtendStep.GROW_DR | ExtendStep.GROW_PRODUCTION:
            for pair in pairs:
                disk = pair.dr_volume if step is ExtendStep.GROW_DR else pair.production_volume
                disk.is_grown = True
            group.spec_version += 1
            journal.spec_version = group.spec_version
        case ExtendStep.UNDO:
            failure = _why_undone(group, pairs, refused)
            journal.outcome, journal.failure_code, journal.failure_message = (
                Outcome.UNDONE.value,
                failure.code,
                failure.message,
            )
            _end(pairs, is_done=False)
            message = f"{failure.code}: {failure.message}"
            await chronicle.record(context, session, group.id, "extend", chronicle.FAILED, message=message)
        case ExtendStep.FINISH:
            journal.outcome = Outcome.DONE.value
            _end(pairs, is_done=True)
            message = _in_words(journal.targets)
            await chronicle.record(context, session, group.id, "extend", chronicle.DONE, message=message)
    return frozenset({group.priority_station, group.secondary_station})


def _targets(group: Group, sizes_gib: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Return the new sizes of the pairs that do not have theirs yet, after checking that each may have it."""
    members = {pair.id: pair for pair in group.pairs}
    targets: dict[str, int] = {}
    for pair_id, size_gib in sizes_gib:
        if pair_id not in members:
            raise StateRefused(f"The replication pair {pair_id} is not in the group {group.id}; leave it out.")
        present_gib = members[pair_id].production_volume.size_gib
        if size_gib < present_gib:
            raise bad_request(
                f"new_size of the replication pair {pair_id} is {size_gib}, its disks have {present_gib} GiB; "
                "disks only grow.",
                "EVS.1015",
            )
        if size_gib > present_gib:
            targets[pair_id] = size_gib
    return targets


def _end(pairs: Sequence[Pair], *, is_done: bool) -> None:
    for pair in pairs:
        for disk in (pair.production_volume, pair.dr_volume):
            if is_done and disk.target_gib is not None:
                disk.size_gib, disk.updated_at = disk.target_gib, utc_now()
            disk.target_gib, disk.is_grown = None, False
        if is_done:
            pair.updated_at = utc_now()


def _why_undone(group: Group, pairs: Sequence[Pair], refused: Mapping[str, Failure]) -> Failure:
    for pair in pairs:
        for disk in (pair.production_volume, pair.dr_volume):
            if disk.id in refused:
                return refused[disk.id]
    for pair in pairs:
        for disk in (pair.production_volume, pair.dr_volume):
            if (disk.store_bytes or 0) < (disk.target_gib or 0) * GIB:
                return Failure(PEER_UNREACHABLE, f"the node of {disk.site} did not make room for {disk.id} in time")
    return Failure(PEER_UNREACHABLE, f"the sites of the group {group.id} did not make room in time")


class ExtendService(GroupCalls):
    """The call that extends disks. When it raises `RequestRefused`, what it recorded is undone or goes on by itself."""

    async def extend(self, project_id: str, group_id: str, sizes_gib: Sequence[tuple[str, int]]) -> None:
        """Give each listed pair (id, new size in GiB) that size, and return when both its disks have it and serve it.

        Safe to repeat: a pair that has its size already is left alone, and an extension to the same sizes that is
        under way is waited for.
        """
        _check_list(sizes_gib)
        shown = await self.show(project_id, group_id)
        async with self._context.database.write() as session:
            group = await find_group(session, project_id, group_id, locked=True)
            targets = _targets(group, sizes_gib)
            journal = await objects.extend_of_group(session, group_id)
            if not targets:
                return
            if journal is not None and journal.outcome == Outcome.RUNNING:
                if {pair_id: journal.targets.get(pair_id) for pair_id in targets} != targets:
                    raise conflict(
                        f"Another extension of the group {group_id} is under way. Wait for it and try again."
                    )
            else:
                if group.version != shown.group.version:
                    raise lost(group_id, "extension")
                await self._admit(session, group, shown.health.replication_status, targets)
                journal = await self._begin(session, group, journal, targets)
                await chronicle.record(self._context, session, group_id, "extend", message=_in_words(targets))
            extend_id = journal.id
        await self._context.wakeups.notify()
        await self._wait(group_id, extend_id)

    async def _admit(
        self, session: AsyncSession, group: Group, status: ReplicationStatus, targets: Mapping[str, int]
    ) -> None:
        """Refuse what cannot be done now."""
        admit_group(group.id, group.status, GroupCall.EXTEND)
        if status is ReplicationStatus.ERROR:
            allowed = {item.value for item in ReplicationStatus if item is not ReplicationStatus.ERROR}
            way_out = "Repair what failure_detail names first."
            raise wrong_state("replication of the group", group.id, status.value, allowed, way_out, "EVS.1048")
        pairs = [pair for pair in group.pairs if pair.id in targets]
        for pair in pairs:
            admit_available_pair(pair.id, pair.status, "EVS.1048")
        await self._context.require_connected(
            session, [group.priority_station, group.secondary_station], NOTHING_CHANGED
        )
        growth_gib = {pair.id: targets[pair.id] - pair.production_volume.size_gib for pair in pairs}
        demand = Demand(gigabytes=2 * sum(growth_gib.values()), largest_gib=max(targets.values()))
        await check_quota(session, self._context.settings, group.project_id, demand)
        for name, code in ((group.priority_station, "37100177"), (group.secondary_station, "37100178")):
            site = await sites.site(session, name)
            needed = sum(growth_gib.values()) * GIB
            # A pool of no bytes has not been read yet.
            if site is not None and site.pool_total_bytes and site.pool_free_bytes < needed:
                raise bad_request(
                    f"{code}: the pool of {name} has {site.pool_free_bytes} bytes free, and the disks of the group "
                    f"{group.id} would grow by {needed}. Give the pool more space, or choose smaller sizes.",
                    "EVS.1010",
                )

    async def _begin(
        self, session: AsyncSession, group: Group, journal: Extend | None, targets: dict[str, int]
    ) -> Extend:
        """Record an extension: from here on it is finished, or undone, by whoever looks next."""
        if journal is None:
            journal = Extend(group_id=group.id)
            session.add(journal)
        journal.id = str(uuid.uuid4())
        journal.targets = targets
        journal.outcome = Outcome.RUNNING.value
        journal.spec_version = group.spec_version
        journal.room_deadline = deadline_after(self._context.settings.extend_room_seconds)
        journal.failure_code = journal.failure_message = None
        for pair in group.pairs:
            if pair.id in targets:
                pair.production_volume.target_gib = pair.dr_volume.target_gib = targets[pair.id]
        group.version += 1
        group.updated_at = utc_now()
        await session.flush()
        await sites.raise_generation(session, {group.priority_station, group.secondary_station})
        return journal

    async def _wait(self, group_id: str, extend_id: str) -> None:
        seconds = self._context.settings.extend_wait_seconds
        ended = await self._context.wakeups.until(lambda: self._look(group_id, extend_id), seconds)
        if ended is None:
            raise not_in_time(
                f"the extension of the group {group_id} is recorded and goes on by itself, but it did not end within "
                f"{seconds:g} s. Repeat the call to wait for it."
            )

    async def _look(self, group_id: str, extend_id: str) -> bool | None:
        async with self._context.database.read() as session:
            journal = await objects.extend_of_group(session, group_id)
        if journal is None or journal.id != extend_id:
            raise lost(group_id, "extension")
        if journal.outcome == Outcome.UNDONE:
            message = f"{journal.failure_code}: {journal.failure_message}. The extension was undone: no disk has grown."
            raise RequestRefused(503, "EVS.5503", message)
        return True if journal.outcome == Outcome.DONE else None


def _in_words(targets: Mapping[str, int]) -> str:
    return "to " + ", ".join(f"{size_gib} GiB: {pair_id}" for pair_id, size_gib in targets.items())


def refusals(group: Group, observed: Sequence[ObservedVolume]) -> dict[str, Failure]:
    """Return why a pool could not make the room that a group's extension asks for, by volume id."""
    wanted = {
        disk.id: (disk.target_gib or 0) * GIB
        for pair in growing_pairs(group)
        for disk in (pair.production_volume, pair.dr_volume)
    }
    return {
        item.id: item.failure
        for item in observed
        if item.failure is not None and item.refused_bytes and wanted.get(item.id) == item.refused_bytes
    }


def _check_list(sizes_gib: Sequence[tuple[str, int]]) -> None:
    if not sizes_gib:
        raise bad_request("replications is empty; list at least one pair with its new_size.")
    ids = [pair_id for pair_id, _ in sizes_gib]
    for pair_id, size_gib in sizes_gib:
        if ids.count(pair_id) > 1:
            raise bad_request(f"The replication pair {pair_id} is named twice; name each once.")
        if not 1 <= size_gib <= SIZE_GIB_MAX:
            raise bad_request(
                f"new_size of the replication pair {pair_id} is {size_gib}; give 1 to {SIZE_GIB_MAX} (GiB).", "EVS.1010"
            )
