"""A database that was restored from a backup: how that is noticed, and how workers teach it what it has forgotten.

The controller keeps beside the database how many changes of arbiter rows there were. A database that counts fewer is
older than its controller; one whose controller has kept nothing is not known to be current. A node that has seen a
later generation than the database has says the same. Then every group's row is marked: no grant, no unforced failover
before both of its sites have said what they know. `core.arbiter` has the rules, ADR 13 the reasons.

It also keeps the highest term and version that any row has had: what is decided in a restored database goes beyond
those, so that no database which was left is ever taken for a later one (ADR 17).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.arbiter_store import Rule, swap
from twinsite.control.context import Context
from twinsite.control.database import ArbiterChanges, Database, note_arbiter_changes
from twinsite.control.lifecycle import chronicle
from twinsite.control.lifecycle.moves import other_way_round, swap_pairs
from twinsite.control.lifecycle.states import GroupStatus
from twinsite.control.models import Group
from twinsite.control.refusals import not_found
from twinsite.control.repository import arbiter_rows, objects, sites
from twinsite.core.arbiter import VERSION_MAX, Known, Reached, Row, Secondary, forget, give_up, hear, learn
from twinsite.durable_file import replace_file
from twinsite.messages import Knowledge, ObservedWorker, Replication, WorkerStatus

_log = structlog.get_logger(__name__)

FILE_NAME = "arbiter-changes"
KEEP_AGAIN_SECONDS = 5.0
"""A count that could not be kept is not tried again sooner."""


class Memory:
    """What the controller itself remembers of its arbiter's rows, in a file of its own: `ArbiterChanges`."""

    def __init__(self, directory: Path, database: Database) -> None:
        """Keep the file in this directory."""
        self._path = directory / FILE_NAME
        self._database = database
        self._lock = asyncio.Lock()
        self._kept = ArbiterChanges()
        self._owed = ArbiterChanges()  # What is to be kept.
        self._try_again_at: float | None = None  # None: it has not failed.
        self._distrusting = asyncio.Lock()
        self._has_distrusted = False
        self.is_refuted = False
        """A worker knew more than a row that was believed."""

    async def open(self) -> None:
        """Distrust the database if it may have forgotten changes; from now on it is the measure."""
        async with self._database.read() as session:
            counted = await arbiter_rows.changes(session)
        kept: ArbiterChanges | None = None
        with contextlib.suppress(FileNotFoundError, ValueError):
            kept = _parsed(await asyncio.to_thread(self._path.read_text))
        self._kept = self._owed = kept or ArbiterChanges()
        self._database.on_arbiter_changes = self.keep
        if counted.count > 0 if kept is None else counted.count < kept.count:
            _log.warning(
                "the database is older than this controller",
                counted=counted.count,
                kept=None if kept is None else kept.count,
            )
            await self.distrust()
        else:
            await self.keep(counted)

    async def keep(self, changes: ArbiterChanges) -> None:
        """Remember these changes.

        A failure is logged, and tried again by `keep_owed`: the changes themselves are durable.
        """
        self._owed = self._owed.joined(changes)  # Before it waits: one file is written for all who do.
        async with self._lock:
            if self._owed == self._kept:
                return
            owed = self._owed
            text = f"{owed.count} {owed.reached.term} {owed.reached.version}\n"
            try:
                await asyncio.to_thread(replace_file, self._path, text, 0o600)
            except OSError as error:
                _log.error("the count of arbiter changes cannot be kept", path=str(self._path), error=str(error))
                self._try_again_at = time.monotonic() + KEEP_AGAIN_SECONDS
            else:
                self._kept, self._try_again_at = owed, None

    async def keep_owed(self) -> None:
        """Keep what could not be kept when it came, with a full disk for instance, if it is time to try again.

        Until it is kept, a backup made meanwhile would pass for current.
        """
        if self._try_again_at is not None and time.monotonic() >= self._try_again_at:
            await self.keep(self._owed)

    async def distrust(self) -> bool:
        """Mark every group's row as one that may have forgotten calls, once; say whether that was done just now.

        The database counts no fewer changes from then on than are remembered here, so that no backup that lies between
        it and what is distrusted passes for current later. Nobody changes the database under a controller that runs.
        """
        async with self._distrusting:
            if self._has_distrusted:
                return False
            question = str(uuid.uuid4())
            count_before, reached = self._owed.count, self._owed.reached
            async with self._database.write() as session:
                # All groups first, as whoever changes a group and its row locks them.
                group_ids = [group.id for group in await objects.every_group(session)]
                lost = await sites.lost_names(session)
                for group in await objects.groups_by_ids(session, group_ids, locked=True):
                    names = {group.priority_station, group.secondary_station} - lost
                    await _change(session, group.id, lambda row, names=names: forget(row, names, question, reached))  # type: ignore[misc]
                count = await arbiter_rows.count_change(session, above=count_before)
                note_arbiter_changes(session, ArbiterChanges(count))
                await sites.forget_all_reports(session)  # They are of the time of the backup.
                await sites.raise_generation(session, {site.name for site in await sites.all_sites(session)})
            self._has_distrusted = True
        return True


def _parsed(text: str) -> ArbiterChanges:
    """Return what a file says; that of an earlier release has the count alone. Raises `ValueError`."""
    count, *reached = (int(word) for word in text.split())
    if len(reached) not in (0, 2) or not all(0 <= number <= VERSION_MAX for number in (count, *reached)):
        raise ValueError(text)
    return ArbiterChanges(count, Reached(*reached))


async def give_up_hearing(session: AsyncSession, group_id: str, names: Collection[str] | None = None) -> bool:
    """Wait no more for what these sites know of a group, or for what any does; say whether any was waited for.

    The row has another term then, so the group's specs must get another version.
    """
    row = await arbiter_rows.find(session, group_id)
    if row is None:
        return False
    given_up = row.unheard if names is None else names
    if give_up(row, given_up) == row:
        return False
    await _change(session, group_id, lambda row: give_up(row, given_up))
    return True


async def take_knowledge(
    context: Context,
    session: AsyncSession,
    memory: Memory,
    group: Group,
    site: str,
    worker: ObservedWorker | None,
) -> set[str]:
    """Take in what a site's worker knows of a group; return the sites whose desired state that changed.

    The group was read with its lock in this session.
    """
    status = worker.status if worker is not None and worker.alive else None
    if status is None:
        return set()
    both = {group.priority_station, group.secondary_station}
    stale = both if catch_up(group, status) else set()
    if status.knowledge is None:
        return stale
    known = known_of(status.knowledge, site, next(iter(both - {site})))
    if not (0 <= known.term <= VERSION_MAX and 0 <= known.version <= VERSION_MAX):
        _log.error("what a worker knows cannot be", group=group.id, site=site, term=known.term, version=known.version)
        return stale
    before = arbiter_rows.as_row(group.arbiter)
    if hear(before, known) == before:
        return stale
    after = await _change(session, group.id, lambda row: hear(row, known))
    if learn(before, known) == before:
        # Its workers are told when the row is to be trusted again.
        group.spec_version += 1
        return both
    memory.is_refuted = True
    _log.warning("the database had forgotten what was granted", group=group.id, site=site, before=before, after=after)
    if after.primary_site != group.priority_station:
        for name, value in other_way_round(group).items():
            setattr(group, name, value)
        group.status = GroupStatus.FAILED_OVER.value
        group.replication = Replication.PAUSED.value
        group.move_deadline = None
        await session.flush()
        await swap_pairs(session, group)
    if after.secondary is Secondary.IN_SYNC and group.status == GroupStatus.FAILED_OVER:
        # It was moved by a switchover, or protected again since: a group that is only failed over is not in sync.
        group.status = GroupStatus.AVAILABLE.value
        group.replication = Replication.RUNNING.value
    group.version += 1
    group.spec_version += 1
    group.wish_version = group.spec_version
    await session.flush()
    await arbiter_rows.find(session, group.id)  # What the session holds of it is that from now on.
    message = f"the database was restored from a backup; {site} knows of term {known.term}, version {known.version}"
    await chronicle.record(context, session, group.id, "restored", chronicle.DONE, message=message)
    return stale | both


def known_of(knowledge: Knowledge, site: str, other_site: str) -> Known:
    """Return what a site's worker says in the words of the arbiter's rules."""
    return Known(
        site=site,
        other_site=other_site,
        is_primary=knowledge.is_primary,
        term=knowledge.term,
        version=knowledge.row_version,
        in_sync=knowledge.row_in_sync,
        stale_since=knowledge.row_stale_since,
        answers=knowledge.answers,
    )


class Counting(Protocol):
    """What of a group counts up, so that workers know which of two wishes is newer."""

    spec_version: int
    wish_version: int
    loss_acceptances: int


def catch_up(group: Counting, status: WorkerStatus) -> bool:
    """Let a group's wishes be newer than those that its workers have heard; say whether they were not."""
    known_version = status.spec_version
    if status.knowledge is not None:
        known_version = max(known_version, status.knowledge.spec_version)
        group.loss_acceptances = max(group.loss_acceptances, status.knowledge.loss_acceptances)
    if known_version <= group.spec_version:
        return False
    group.spec_version = known_version + 1
    group.wish_version = group.spec_version
    return True


async def _change(session: AsyncSession, group_id: str, rule: Rule) -> Row:
    answer = await swap(session, group_id, rule)
    if not isinstance(answer, Row):
        raise not_found("arbiter's record of the group", group_id)
    return answer
