"""Replication consistency groups: create, change their pairs, synchronize, stop."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.actor import current_actor
from twinsite.control.arbiter_store import swap
from twinsite.control.clock import utc_now
from twinsite.control.context import observed_workers
from twinsite.control.lifecycle import chronicle
from twinsite.control.lifecycle.admission import (
    LEFT_BY_SYNC,
    is_running,
    keeps_pause,
    require_both,
    require_stoppable,
    stop_is_due,
    sync_is_due,
    why_pause_waits,
)
from twinsite.control.lifecycle.group_calls import GroupCalls, ShownGroup, find_group, lost, refuse_while_extending
from twinsite.control.lifecycle.health import GroupHealth
from twinsite.control.lifecycle.moves import running_again
from twinsite.control.lifecycle.outlook import restored
from twinsite.control.lifecycle.pairs import check_model
from twinsite.control.lifecycle.quotas import Demand, check_quota
from twinsite.control.lifecycle.reports import living_status
from twinsite.control.lifecycle.restored import give_up_hearing
from twinsite.control.lifecycle.settling import settle_group
from twinsite.control.lifecycle.states import (
    GroupCall,
    GroupStatus,
    ReplicationStatus,
    admit_available_pair,
    admit_group,
)
from twinsite.control.models import Group, GroupEvent, Pair
from twinsite.control.refusals import StateRefused, bad_request, not_found, not_in_time, wrong_state
from twinsite.control.repository import arbiter_rows, events, objects, sites, tombstones
from twinsite.control.repository import shown as shown_objects
from twinsite.control.repository.listing import Page, PageQuery
from twinsite.control.texts import check_description, check_name
from twinsite.core.arbiter import Reason, Refusal, Row, Secondary, first_row, suspend_secondary
from twinsite.core.limits import GROUP_MEMBERS_MAX
from twinsite.messages import Mode, Replication, Role

_log = structlog.get_logger(__name__)

STREAM_KEY_BYTES = 32
MEMBER_INDEXES = 2**16
"""An index travels in 16 bits. None is given out twice in a group's life: workers know by it whether a volume has been
a member all the time, and so whether what they remember of it is still true."""


@dataclass(frozen=True, slots=True)
class NewGroup:
    """What a client wants."""

    pair_ids: Sequence[str]
    priority_station: str
    replication_model: str
    name: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class GroupChange:
    """New values; None leaves a field as it is."""

    name: str | None = None
    description: str | None = None
    replication_model: str | None = None
    add_pair_ids: Sequence[str] = ()
    remove_pair_ids: Sequence[str] = ()


class GroupService(GroupCalls):
    """The calls on groups. Each raises `RequestRefused` and changes nothing when it cannot be done."""

    async def create(self, project_id: str, wanted: NewGroup) -> Group:
        """Record a group in `creating`; it is available once both sites' workers have taken it up."""
        check_model(wanted.replication_model)
        if not wanted.pair_ids:
            raise bad_request("replication_ids is empty; a group starts with at least one pair.")
        async with self._context.database.write() as session:
            pairs = await _free_pairs(session, project_id, wanted.pair_ids, wanted.priority_station)
            stations = {pair.dr_volume.site for pair in pairs}
            if len(stations) != 1:
                raise bad_request(
                    f"The DR disks are in {' and '.join(sorted(stations))}; all pairs of a group share one DR zone."
                )
            (secondary,) = stations
            both = [wanted.priority_station, secondary]
            await self._context.require_connected(session, both, "The group cannot be set up there; try again later.")
            await check_quota(session, self._context.settings, project_id, Demand(groups=1))
            group = Group(
                id=str(uuid.uuid4()),
                project_id=project_id,
                name=check_name(wanted.name),
                description=check_description(wanted.description),
                priority_station=wanted.priority_station,
                secondary_station=secondary,
                replication_model=wanted.replication_model,
                status=GroupStatus.CREATING.value,
                replication=Replication.PAUSED.value,
                replication_status=ReplicationStatus.INACTIVE.value,
                stream_key=secrets.token_hex(STREAM_KEY_BYTES),
                request_id=current_actor.get().request_id,
                next_member_index=len(pairs),
                version=1,
                spec_version=1,
                wish_version=1,
                created_at=utc_now(),
                updated_at=None,
                pairs=pairs,
                arbiter=arbiter_rows.stored(first_row(wanted.priority_station, time.time())),
            )
            session.add(group)
            for index, pair in enumerate(pairs):
                pair.member_index, pair.updated_at = index, utc_now()
            await sites.raise_generation(session, both)
            await session.flush()
            await chronicle.record(self._context, session, group.id, "create")
        await self._context.wakeups.notify()
        return group

    async def page(self, project_id: str, query: PageQuery) -> tuple[Page[Group], Mapping[str, GroupHealth]]:
        """Return one page of groups, and their health by id."""
        async with self._context.database.read() as session:
            page = await shown_objects.page_of_groups(session, project_id, query)
            return page, await self._context.health_of(session, page.rows)

    async def events(
        self, project_id: str, group_id: str, marker: str | None, limit: int, offset: int
    ) -> list[GroupEvent]:
        """Return the events of a group, also of one that was deleted, the newest first."""
        async with self._context.database.read() as session:
            if not await events.has_any(session, project_id, group_id):
                await find_group(session, project_id, group_id)
            return await events.page(session, group_id, marker, limit, offset)

    async def change(self, project_id: str, group_id: str, wanted: GroupChange) -> ShownGroup:
        """Rename a group, or add and remove pairs while it is paused; then it is `updating` until that is in force."""
        shown = await self.show(project_id, group_id)
        group = shown.group
        admit_group(group_id, group.status, GroupCall.UPDATE)
        if wanted.replication_model is not None:
            check_model(wanted.replication_model)
        values: dict[str, Any] = {"updated_at": utc_now()}
        if wanted.name is not None:
            values["name"] = check_name(wanted.name)
        if wanted.description is not None:
            values["description"] = check_description(wanted.description)
        moves = bool(wanted.add_pair_ids or wanted.remove_pair_ids)
        if moves:
            _check_paused(shown)
        async with self._context.database.write() as session:
            current = await objects.find(session, Group, project_id, group_id, locked=True)
            if current is None or current.version != group.version:
                raise lost(group_id, "change")
            if moves:
                values.update(await self._move_pairs(session, shown, wanted))
            if not await objects.change_group(session, group_id, group.version, values):
                raise lost(group_id, "change")
            session.expire_all()
            changed = await find_group(session, project_id, group_id)
            if moves:
                await self._settle(session, changed)
            await chronicle.record(self._context, session, group_id, "update")
            shown = await self._shown(session, changed)
        await self._context.wakeups.notify()
        return shown

    async def _move_pairs(self, session: AsyncSession, shown: ShownGroup, wanted: GroupChange) -> dict[str, Any]:
        group = shown.group
        refuse_while_extending(group, "change its pairs")
        both = [group.priority_station, group.secondary_station]
        only_removes = not wanted.add_pair_ids
        await self._context.require_connected(
            session, both, "Pairs cannot be moved; try again later.", or_lost=only_removes
        )
        members = {pair.id for pair in group.pairs}
        removed = list(dict.fromkeys(wanted.remove_pair_ids))
        for pair_id in removed:
            if pair_id not in members:
                raise StateRefused(f"The replication pair {pair_id!r} is not in the group {group.id}; leave it out.")
        added: list[Pair] = []
        if wanted.add_pair_ids:
            added = await _free_pairs(session, group.project_id, wanted.add_pair_ids, group.priority_station)
        for pair in added:
            if pair.dr_volume.site != group.secondary_station:
                raise bad_request(
                    f"The DR disk of the replication pair {pair.id} is in {pair.dr_volume.site}, "
                    f"the group's DR zone is {group.secondary_station}."
                )
        left = len(members) - len(removed)
        if left + len(added) > GROUP_MEMBERS_MAX:
            raise bad_request(f"A group holds at most {GROUP_MEMBERS_MAX} pairs; put the others into another group.")
        for pair in (await objects.find_many(session, Pair, group.project_id, removed, locked=True)).values():
            pair.group_id, pair.member_index, pair.updated_at = None, None, utc_now()
        first = group.next_member_index
        if first + len(added) > MEMBER_INDEXES:
            raise bad_request(
                f"The group {group.id} has used up its {MEMBER_INDEXES} member indexes. "
                "Remove all its pairs and add them to a new group."
            )
        for index, pair in enumerate(added, start=first):
            pair.group_id, pair.member_index, pair.updated_at = group.id, index, utc_now()
        await session.flush()
        if added and left:
            await _require_that_nothing_is_lacking(session, shown)
        answer = await swap(session, group.id, _without_promise)
        if isinstance(answer, Refusal) and answer.reason is Reason.UNHEARD:
            raise bad_request(
                f"The pairs of the group {group.id} cannot be changed now: {restored(answer.row.unheard)}. Wait until "
                "it is, or give that up by a stop with force."
            )
        await sites.raise_generation(session, both)
        values: dict[str, Any] = {
            "status": GroupStatus.UPDATING.value,
            "failure_code": None,
            "failure_message": None,
            "spec_version": Group.spec_version + 1,
            "next_member_index": first + len(added),
        }
        if left == 0:
            values.update(peer_endpoint=None, replication_status=ReplicationStatus.INACTIVE.value)
        return values

    async def _settle(self, session: AsyncSession, group: Group) -> None:
        reports = await observed_workers(session, [group.id])
        settle_group(group, reports, await sites.lost_names(session))

    async def delete(self, project_id: str, group_id: str) -> None:
        """Delete an empty group."""
        shown = await self.show(project_id, group_id)
        group = shown.group
        admit_group(group_id, group.status, GroupCall.DELETE)
        if group.pairs:
            raise StateRefused(
                f"The group {group_id} is {group.status!r} and still has {len(group.pairs)} pairs. Pause it "
                "(os-stop-replication-consistency-group) and remove them first (PUT with remove_replication_ids)."
            )
        async with self._context.database.write() as session:
            current = await objects.find(session, Group, project_id, group_id, locked=True)
            if current is None or current.version != group.version:
                raise lost(group_id, "deletion")
            await chronicle.record_deletion(self._context, session, project_id, group_id)
            if not await objects.delete_group(session, group_id, group.version):
                raise lost(group_id, "deletion")
            both = [group.priority_station, group.secondary_station]
            for site in both:
                await tombstones.add(session, site, tombstones.Kind.WORKER, group_id)
            await sites.raise_generation(session, both)
        actor = current_actor.get()
        _log.info("group is deleted", group=group_id, project=project_id, actor=actor.name, user=actor.user_id)
        await self._context.wakeups.notify()

    async def sync(self, project_id: str, group_id: str) -> None:
        """Record that the group's data is to be synchronized and kept so; does not wait for it.

        No-op while it is copying or active, and for a group without pairs. After a failover it is what reprotect is,
        and it is a way out of a reversal that failed.
        """
        shown = await self.show(project_id, group_id)
        group = shown.group
        if not sync_is_due(shown):
            return
        async with self._context.database.write() as session:
            await require_both(self._context, session, group)
            values = running_again()
            if group.status not in LEFT_BY_SYNC:
                del values["status"]
            if is_running(shown):
                values["replication_status"] = shown.health.replication_status.value
            won = await self._record_wish(session, group, values)
            if won:
                await chronicle.record(self._context, session, group_id, "sync")
        await self._context.wakeups.notify()
        if not won:
            await self._accept_same_wish(project_id, group_id, Replication.RUNNING)

    async def stop(self, project_id: str, group_id: str, *, force: bool = False) -> None:
        """Pause replication, and return when nothing more is sent to the DR side. No-op when that is so.

        With `force` the primary goes on although acknowledged writes may be missing there, which the DR side has.
        """
        shown = await self.show(project_id, group_id)
        group = shown.group
        if stop_is_due(group, force=force):
            wish: dict[str, Any] = {"replication": Replication.PAUSED.value}
            if force:
                wish["loss_acceptances"] = group.loss_acceptances + 1
            async with self._context.database.write() as session:
                await require_stoppable(self._context, session, group)
                won = await self._record_wish(session, group, wish)
                if won:
                    if force:
                        await give_up_hearing(session, group_id)
                    message = "forced: what may be missing at the primary was given up" if force else None
                    await chronicle.record(self._context, session, group_id, "stop", message=message)
            await self._context.wakeups.notify()
            if not won:
                await self._accept_same_wish(project_id, group_id, Replication.PAUSED)
        seconds = self._context.settings.stop_wait_seconds
        if await self._context.wakeups.until(lambda: self._look_paused(project_id, group_id), seconds) is None:
            why = why_pause_waits(await self.show(project_id, group_id))
            way_out = f"{why[:1].upper()}{why[1:]}; a stop with force gives that up." if why else "Repeat the stop."
            raise not_in_time(
                f"the pause of the group {group_id} is recorded, but the primary worker in {group.priority_station} "
                f"did not confirm it within {seconds:g} s. {way_out}"
            )

    async def _accept_same_wish(self, project_id: str, group_id: str, wish: Replication) -> None:
        """After a lost race: fine if the winner wanted the same, else a 409."""
        shown = await self.show(project_id, group_id)
        if shown.group.replication != wish:
            raise lost(group_id, "action")

    async def _look_paused(self, project_id: str, group_id: str) -> bool | None:
        async with self._context.database.read() as session:
            group = await find_group(session, project_id, group_id)
            reports = await observed_workers(session, [group_id])
            current = await sites.node_is_current(session, group.priority_station)
            is_lost = group.priority_station in await sites.lost_names(session)
        if group.replication != Replication.PAUSED:
            raise lost(group_id, "stop")
        if not group.pairs or is_lost:
            return True
        worker = reports.get((group.priority_station, group_id))
        if current and (worker is None or not worker.alive):
            return True  # Nothing runs that could send, and what the node starts next it starts paused.
        status = living_status(worker, Role.PRIMARY)
        if status is None or status.spec_version < group.wish_version:
            return None
        return True if status.mode in (Mode.PAUSED, Mode.ERROR) else None


def _without_promise(row: Row) -> Row | Refusal:
    """Record the secondary as stale on the primary's behalf: a pair that comes in has never been synchronized.

    A primary that lives and is paused has done so itself; this is for one that died before it could.
    """
    if row.secondary is Secondary.STALE and not row.unheard:
        return row
    return suspend_secondary(row, site=row.primary_site, term=row.term, version=row.version, now=time.time())


async def _require_that_nothing_is_lacking(session: AsyncSession, shown: ShownGroup) -> None:
    """Refuse to add a pair to others while their primary may lack writes that only the DR side has.

    With a new disk among the others, it does not heal those from there any more.
    """
    group = shown.group
    row = await arbiter_rows.find(session, group.id)
    if row is not None and row.secondary is Secondary.IN_SYNC:
        raise StateRefused(
            f"Pairs cannot be added to the group {group.id} now: its primary in {group.priority_station} has not "
            f"taken up the stop, and may lack writes that only {group.secondary_station} has. Wait until its "
            "worker runs and has them, or give them up by a stop with force."
        )
    if shown.health.status is None:
        raise not_in_time(  # It may have died before it took up what is recorded.
            f"the primary worker of the group {group.id} in {group.priority_station} is not heard of, and may lack "
            f"writes that only {group.secondary_station} has. Nothing was changed; try again."
        )


def _check_paused(shown: ShownGroup) -> None:
    """Refuse (400) unless the pause is the user's wish and the primary worker, if it lives, keeps it.

    A worker that has just started has not heard of it yet, and is waited for by who asks again (503).
    """
    group, worker = shown.group, shown.health.status
    if group.replication != Replication.PAUSED or not keeps_pause(worker, group.wish_version):
        allowed = {ReplicationStatus.ACTIVE_STOPPED, ReplicationStatus.INACTIVE}
        status = shown.health.replication_status
        if group.replication == Replication.PAUSED and status in allowed:
            raise not_in_time(
                f"the pause of the group {group.id} is not yet confirmed by the primary worker in "
                f"{group.priority_station}. Nothing was changed; try again."
            )
        raise wrong_state(
            "replication of the group",
            group.id,
            status.value,
            {each.value for each in allowed},
            "Pause it first (os-stop-replication-consistency-group), and synchronize it afterwards.",
        )


async def _free_pairs(
    session: AsyncSession, project_id: str, pair_ids: Sequence[str], priority_station: str
) -> list[Pair]:
    """Return the pairs in the order given, after checking that a group with this primary zone may take them."""
    if len(set(pair_ids)) != len(pair_ids):
        raise bad_request("A replication pair is named twice; name each once.")
    if len(pair_ids) > GROUP_MEMBERS_MAX:
        raise bad_request(f"A group holds at most {GROUP_MEMBERS_MAX} pairs; put the others into another group.")
    found = await objects.find_many(session, Pair, project_id, pair_ids, locked=True)
    for pair_id in pair_ids:
        pair = found.get(pair_id)
        if pair is None:
            raise not_found("replication pair", pair_id)
        admit_available_pair(pair_id, pair.status)
        if pair.group_id is not None:
            raise StateRefused(
                f"The replication pair {pair_id} is already in the group {pair.group_id}. Remove it there first."
            )
        if pair.priority_station != priority_station:
            raise bad_request(
                f"The production disk of the replication pair {pair_id} is in {pair.priority_station}, "
                f"not in the group's priority_station {priority_station!r}.",
                "EVS.1036",
            )
    return [found[pair_id] for pair_id in pair_ids]
