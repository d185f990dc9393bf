"""What changed from one generation of a site's desired state to the next, so that a node is told only that.

Nobody who changes something has to say so: the write session sees each object that its unit of work writes, and takes
a statement that writes past the unit of work for a change of everything unless it says what it changes. A generation
that this process has not seen being made counts as a change of everything too. So what the journal does not know costs
time, never correctness.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import event, inspect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import ORMExecuteState, Session, UOWTransaction

from twinsite.control.models import ArbiterRow, Attachment, Group, Pair, Site, Tombstone, Volume

GENERATIONS_MAX = 4096
"""Generations of one site that are remembered; a node that is further behind is told everything."""
OBJECTS_MAX = 5000
"""Objects that are told one by one; where more have changed, everything is told."""
CHANGES_KEY = "twinsite_changes"
CHANGED_GROUPS = "twinsite_changed_groups"
"""Execution option: ids of the groups that a statement past the unit of work changes at most."""

_WATCHED = (Volume, Attachment, Pair, Group, ArbiterRow, Tombstone)


@dataclass(slots=True)
class Changes:
    """What a transaction changes, by ids; a superset is as good. `generations` are those that it makes, by site."""

    volumes: set[str] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    everything: bool = False
    generations: dict[str, list[int]] = field(default_factory=dict)

    def add(self, other: Changes) -> None:
        """Take in another transaction's changes."""
        self.volumes |= other.volumes
        self.groups |= other.groups
        self.everything |= other.everything


def changes_of(session: AsyncSession | Session) -> Changes:
    """Return what a session has changed so far."""
    changes: Changes = session.info.setdefault(CHANGES_KEY, Changes())
    return changes


def note_generation(session: AsyncSession, site: str, generation: int) -> None:
    """Note that a session made a generation of a site's desired state."""
    changes_of(session).generations.setdefault(site, []).append(generation)


class JournaledSession(Session):
    """A session that notes what it changes."""


@event.listens_for(JournaledSession, "after_flush")
def _note_objects(session: Session, _context: UOWTransaction) -> None:
    changes = changes_of(session)
    for item in (*session.new, *session.dirty, *session.deleted):
        _note_object(changes, item)


def _note_object(changes: Changes, item: Any) -> None:
    if isinstance(item, Volume):
        changes.volumes.add(item.id)
    elif isinstance(item, Attachment):
        changes.volumes |= _values(item, "volume_id")
    elif isinstance(item, Pair):
        changes.volumes |= _values(item, "production_volume_id") | _values(item, "dr_volume_id")
        changes.groups |= _values(item, "group_id")
    elif isinstance(item, Group):
        changes.groups.add(item.id)
    elif isinstance(item, ArbiterRow):
        changes.groups.add(item.group_id)
    elif isinstance(item, Tombstone):
        changes.everything |= item.kind == "volume"  # Those of workers are told complete each time.
    elif isinstance(item, Site):
        changes.everything |= inspect(item).attrs.lost_at.history.has_changes()


def _values(item: Any, name: str) -> set[str]:
    """Return what a column is and was."""
    history = inspect(item).attrs[name].history
    return {value for value in (*history.added, *history.unchanged, *history.deleted) if value is not None}


@event.listens_for(JournaledSession, "do_orm_execute")
def _note_statement(state: ORMExecuteState) -> None:
    if not (state.is_insert or state.is_update or state.is_delete):
        return
    mapper = state.bind_mapper
    if mapper is None or not issubclass(mapper.class_, _WATCHED):
        return
    groups: Collection[str] | None = state.execution_options.get(CHANGED_GROUPS)
    changes = changes_of(state.session)
    if groups is None:
        changes.everything = True
    else:
        changes.groups |= set(groups)


class Journal:
    """The changes of the last generations of every site, as far as this process made them. `id` is this process's."""

    def __init__(self) -> None:
        """Begin empty."""
        self.id = str(uuid.uuid4())
        self._sites: dict[str, OrderedDict[int, Changes]] = {}

    def record(self, changes: Changes) -> None:
        """Take in what a transaction is about to commit."""
        for site, generations in changes.generations.items():
            entries = self._sites.setdefault(site, OrderedDict())
            for generation in generations:
                entries.setdefault(generation, Changes()).add(changes)
            while len(entries) > GENERATIONS_MAX:
                entries.popitem(last=False)

    def forget(self, changes: Changes) -> None:
        """Know nothing of the generations that a transaction was about to make: its commit failed, or may have."""
        for site, generations in changes.generations.items():
            for generation in generations:
                self._sites.get(site, OrderedDict()).pop(generation, None)

    def since(self, site: str, seen: int, current: int) -> Changes | None:
        """Return what changed after the generation `seen` up to `current`; None when that is not known."""
        if seen > current or current - seen > GENERATIONS_MAX:
            return None
        return _joined(self._sites.get(site, OrderedDict()), range(seen + 1, current + 1))


def _joined(entries: OrderedDict[int, Changes], generations: Iterable[int]) -> Changes | None:
    joined = Changes()
    for generation in generations:
        changes = entries.get(generation)
        if changes is None or changes.everything:
            return None
        joined.add(changes)
        if len(joined.volumes) + len(joined.groups) > OBJECTS_MAX:
            return None
    return joined
