"""Pages of volumes, pairs and groups: filter, sort, marker, limit."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, and_, false, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.base import ExecutableOption
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from twinsite.control.models import Group, Pair, Volume

Row = TypeVar("Row", Volume, Pair, Group)

PAIR_VOLUMES = 2


class UnknownMarker(LookupError):
    """The marker names no object of the project."""


@dataclass(frozen=True, slots=True)
class PageQuery:
    """What a list asks for; the API has checked it against `SORT_KEYS` and `FILTERS`."""

    marker: str | None = None
    limit: int = 1000
    offset: int = 0
    sort_key: str = "created_at"
    descending: bool = True
    changed_since: datetime.datetime | None = None
    filters: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """The rows of one page, and whether more follow."""

    rows: list[Row]
    more: bool


class _JsonEntries(GenericFunction[Any]):
    """The keys and texts of a JSON object, as a table: SQLite's paths find no key that JSON writes with a backslash."""

    name = "twinsite_json_entries"
    inherit_cache = True


@compiles(_JsonEntries, "sqlite")
def _json_entries_of_sqlite(element: _JsonEntries, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **options)})"


@compiles(_JsonEntries, "postgresql")
def _json_entries_of_postgresql(element: _JsonEntries, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_each_text({compiler.process(element.clauses, **options)})"


def has_metadata(key: str, value: str) -> ColumnElement[bool]:
    """Return the condition that a volume's metadata has this entry."""
    entry = _JsonEntries(Volume.user_metadata).table_valued("key", "value")
    return select(1).select_from(entry).where(entry.c.key == key, entry.c.value == value).exists()


def _has_volume(volume_id: str) -> ColumnElement[bool]:
    return or_(Pair.production_volume_id == volume_id, Pair.dr_volume_id == volume_id)


def _has_volumes(volume_ids: str) -> ColumnElement[bool]:
    wanted = {volume_id.strip() for volume_id in volume_ids.split(",")}
    # No pair has three, and a database has a limit on the depth of conditions.
    return and_(*map(_has_volume, sorted(wanted))) if len(wanted) <= PAIR_VOLUMES else false()


FILTERS: Mapping[type, Mapping[str, Callable[[str], ColumnElement[bool]]]] = {
    Volume: {
        "name": lambda value: Volume.name == value,
        "status": lambda value: Volume.status == value,
        "availability_zone": lambda value: Volume.site == value,
    },
    Pair: {
        "name": lambda value: Pair.name == value,
        "status": lambda value: Pair.status == value,
        "priority_station": lambda value: Pair.priority_station == value,
        "replication_consistency_group_id": lambda value: Pair.group_id == value,
        "volume_id": _has_volume,
        "volume_ids": _has_volumes,
    },
    Group: {
        "name": lambda value: Group.name == value,
        "status": lambda value: Group.status == value,
        "priority_station": lambda value: Group.priority_station == value,
        "replication_consistency_group_id": lambda value: Group.id == value,
        "volume_id": lambda value: Group.pairs.any(_has_volume(value)),
        "volume_ids": lambda value: Group.pairs.any(_has_volumes(value)),
    },
}
"""Query parameters that narrow each list."""


def _common_sort_keys(model: type[Volume] | type[Pair] | type[Group]) -> dict[str, ColumnElement[Any]]:
    return {
        "id": func.coalesce(model.id, ""),
        "name": func.coalesce(model.name, ""),
        "status": func.coalesce(model.status, ""),
        "created_at": func.coalesce(model.created_at, model.updated_at),
        "updated_at": func.coalesce(model.updated_at, model.created_at),
    }


SORT_KEYS: Mapping[type, Mapping[str, ColumnElement[Any]]] = {
    Volume: {
        **_common_sort_keys(Volume),
        "size": func.coalesce(Volume.size_gib, 0),
        "availability_zone": func.coalesce(Volume.site, ""),
        "volume_type": func.coalesce(Volume.volume_type, ""),
    },
    Pair: {**_common_sort_keys(Pair), "priority_station": func.coalesce(Pair.priority_station, "")},
    Group: {**_common_sort_keys(Group), "priority_station": func.coalesce(Group.priority_station, "")},
}
"""What each list can be sorted by; none of them is ever null, so that a marker always has a place."""


async def fetch_page(
    session: AsyncSession,
    model: type[Row],
    project_id: str,
    query: PageQuery,
    options: Sequence[ExecutableOption] = (),
) -> Page[Row]:
    """Return one page of a project's objects; `UnknownMarker` when the marker is not one of them.

    `options` say what is loaded with them.
    """
    sort = SORT_KEYS[model][query.sort_key]
    statement = select(model).where(model.project_id == project_id)
    for name, value in query.filters.items():
        statement = statement.where(FILTERS[model][name](value))
    if model is Volume:
        for key, value in query.metadata.items():
            statement = statement.where(has_metadata(key, value))
    if query.changed_since is not None:
        statement = statement.where(func.coalesce(model.updated_at, model.created_at) >= query.changed_since)
    if query.marker is not None:
        place = select(sort, model.id).where(model.id == query.marker, model.project_id == project_id)
        found = (await session.execute(place)).one_or_none()
        if found is None:
            raise UnknownMarker(query.marker)
        value, marker_id = found
        if query.descending:
            statement = statement.where(or_(sort < value, and_(sort == value, model.id < marker_id)))
        else:
            statement = statement.where(or_(sort > value, and_(sort == value, model.id > marker_id)))
    order = (sort.desc(), model.id.desc()) if query.descending else (sort.asc(), model.id.asc())
    statement = statement.order_by(*order).offset(query.offset).limit(query.limit + 1).options(*options)
    rows = list((await session.scalars(statement)).unique())
    return Page(rows=rows[: query.limit], more=len(rows) > query.limit)
