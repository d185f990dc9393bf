"""Query parameters of lists: what they may be, and which EVS code a wrong one gets."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Query, Request
from pydantic import TypeAdapter, WithJsonSchema

from twinsite.api.filters import STATUSES, check_filters
from twinsite.api.literals import parse_literal
from twinsite.api.routes import controller_of
from twinsite.control.models import Group, Pair, Volume
from twinsite.control.refusals import bad_request
from twinsite.control.repository.listing import FILTERS, SORT_KEYS, PageQuery

LIMIT_MAX = 1000
"""Most objects in one answer; also the default, because the Go SDK never asks for a second page."""
OFFSET_MAX = 2**31
Kind = type[Volume] | type[Pair] | type[Group]
_METADATA = TypeAdapter(dict[str, str])


def _documented(schema: dict[str, object]) -> WithJsonSchema:
    """Return what the OpenAPI page says of a parameter that is read as text, so that its error gets its EVS code."""
    return WithJsonSchema(schema)


def _sorted_by(kind: Kind) -> WithJsonSchema:
    return _documented({"type": "string", "enum": list(SORT_KEYS[kind])})


def _has_status(kind: Kind) -> WithJsonSchema:
    return _documented({"type": "string", "enum": list(STATUSES[kind])})


_TEXT = _documented({"type": "string"})
Marker = Annotated[str | None, Query(description="Id of the last object of the page before."), _TEXT]
Limit = Annotated[
    str | None,
    Query(description="Most objects in the answer; 1000 when left out."),
    _documented({"type": "integer", "minimum": 1, "maximum": LIMIT_MAX}),
]
Offset = Annotated[
    str | None,
    Query(description="How many objects to skip."),
    _documented({"type": "integer", "minimum": 0, "maximum": OFFSET_MAX}),
]
SortDir = Annotated[
    str | None,
    Query(description="Direction; desc when left out."),
    _documented({"type": "string", "enum": ["asc", "desc"]}),
]
Sort = Annotated[str | None, Query(description="Cinder's spelling of both: key:direction."), _TEXT]
ChangesSince = Annotated[
    str | None,
    Query(alias="changes-since", description="Only what was created or changed since then, UTC."),
    _documented({"type": "string", "format": "date-time"}),
]
_STATUS = Query(description="Only those in this status.")
VolumeStatusFilter = Annotated[str | None, _STATUS, _has_status(Volume)]
PairStatusFilter = Annotated[str | None, _STATUS, _has_status(Pair)]
GroupStatusFilter = Annotated[str | None, _STATUS, _has_status(Group)]
_SORT_KEY = Query(description="Field to sort by; created_at when left out.")
VolumeSortKey = Annotated[str | None, _SORT_KEY, _sorted_by(Volume)]
PairSortKey = Annotated[str | None, _SORT_KEY, _sorted_by(Pair)]
GroupSortKey = Annotated[str | None, _SORT_KEY, _sorted_by(Group)]
Filter = Annotated[str | None, Query(description="Only those that have it."), _TEXT]
_ID = _documented({"type": "string", "format": "uuid"})
GroupFilter = Annotated[str | None, Query(description="Only those of this group."), _ID]
VolumeFilter = Annotated[str | None, Query(description="Only what has to do with this volume."), _ID]
VolumesFilter = Annotated[str | None, Query(description="One volume id, or two joined by a comma."), _TEXT]
MetadataFilter = Annotated[
    str | None,
    Query(description="A dictionary of texts: only what has all its entries.", examples=["{'key': 'value'}"]),
]


def volume_page(
    request: Request,
    marker: Marker = None,
    limit: Limit = None,
    offset: Offset = None,
    sort_key: VolumeSortKey = None,
    sort_dir: SortDir = None,
    sort: Sort = None,
    changes_since: ChangesSince = None,
    name: Filter = None,
    status: VolumeStatusFilter = None,
    availability_zone: Filter = None,
    metadata: MetadataFilter = None,
) -> PageQuery:
    """Read the query parameters of a list of volumes. They are named here for the OpenAPI page."""
    return _page_query(Volume, request)


def pair_page(
    request: Request,
    marker: Marker = None,
    limit: Limit = None,
    offset: Offset = None,
    sort_key: PairSortKey = None,
    sort_dir: SortDir = None,
    changes_since: ChangesSince = None,
    name: Filter = None,
    status: PairStatusFilter = None,
    priority_station: Filter = None,
    replication_consistency_group_id: GroupFilter = None,
    volume_id: VolumeFilter = None,
    volume_ids: VolumesFilter = None,
) -> PageQuery:
    """Read the query parameters of a list of pairs (EVS API reference, Querying All EVS Replication Pairs)."""
    return _page_query(Pair, request)


def group_page(
    request: Request,
    marker: Marker = None,
    limit: Limit = None,
    offset: Offset = None,
    sort_key: GroupSortKey = None,
    sort_dir: SortDir = None,
    changes_since: ChangesSince = None,
    name: Filter = None,
    status: GroupStatusFilter = None,
    priority_station: Filter = None,
    replication_consistency_group_id: GroupFilter = None,
    volume_id: VolumeFilter = None,
    volume_ids: VolumesFilter = None,
) -> PageQuery:
    """Read the query parameters of a list of groups (EVS API reference, "Querying All Replication Consistency Groups").

    They are named here for the OpenAPI page.
    """
    return _page_query(Group, request)


def _page_query(kind: Kind, request: Request) -> PageQuery:
    parameters: Mapping[str, str] = request.query_params
    filters = {name: parameters[name] for name in FILTERS[kind] if name in parameters}
    order_key, _, order_dir = (parameters.get("sort") or "").split(",")[0].partition(":")
    return PageQuery(
        marker=parameters.get("marker") or None,
        limit=_limit(parameters.get("limit")),
        offset=_offset(parameters.get("offset")),
        sort_key=_sort_key(kind, parameters.get("sort_key", order_key or "created_at")),
        descending=_descending(parameters.get("sort_dir", order_dir or "desc")),
        changed_since=_time(parameters.get("changes-since")),
        filters=check_filters(kind, filters, controller_of(request).settings.availability_zones),
        metadata=_metadata(parameters.get("metadata")) if kind is Volume else {},
    )


@dataclass(frozen=True, slots=True)
class PlaceQuery:
    """Which part of a list that has one order only."""

    marker: str | None
    limit: int
    offset: int


def place_query(marker: Marker = None, limit: Limit = None, offset: Offset = None) -> PlaceQuery:
    """Read the query parameters of such a list."""
    return PlaceQuery(marker or None, _limit(limit), _offset(offset))


def _limit(text: str | None) -> int:
    if text is None:
        return LIMIT_MAX
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0
    if not 1 <= value <= LIMIT_MAX:
        raise bad_request(f"limit is {text[:20]!r}; give 1 to {LIMIT_MAX}.", "EVS.1023")
    return value


def _offset(text: str | None) -> int:
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= OFFSET_MAX):
        raise bad_request(f"offset is {text[:20]!r}; give 0 to {OFFSET_MAX}.")
    return int(text)


def _sort_key(kind: Kind, name: str) -> str:
    if name not in SORT_KEYS[kind]:
        raise bad_request(f"sort_key is {name[:40]!r}; give one of {', '.join(SORT_KEYS[kind])}.", "EVS.1039")
    return name


def _descending(direction: str) -> bool:
    if direction.lower() not in ("asc", "desc"):
        raise bad_request(f"sort_dir is {direction[:20]!r}; give 'asc' or 'desc'.", "EVS.1040")
    return direction.lower() == "desc"


def _time(text: str | None) -> datetime.datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text.strip().replace(" ", "+"))
        return moment if moment.tzinfo is None else moment.astimezone(datetime.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise bad_request(f"changes-since is {text[:40]!r}; give a time such as 2026-01-31T12:00:00.") from None


def _metadata(text: str | None) -> dict[str, str]:
    """Read the filter as Cinder's clients write it."""
    if text is None:
        return {}
    return parse_literal("metadata", text, _METADATA, "a dictionary of texts, such as {'key': 'value'}")
