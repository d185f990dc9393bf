"""Query parameters of lists: what they may be, and which EVS code a wrong one gets."""

from __future__ import annotations

import ast
import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Query, Request

from twinsite.control.models import Group, Pair, Volume
from twinsite.control.refusals import bad_request
from twinsite.control.repository.listing import FILTERS, SORT_KEYS, PageQuery

LIMIT_MAX = 1000
"""Most objects in one answer; also the default, because the Go SDK never asks for a second page."""
OFFSET_MAX = 2**31
METADATA_FILTER_CHARACTERS_MAX = 4096


def page_query(kind: type[Volume] | type[Pair] | type[Group]) -> Callable[..., PageQuery]:
    """Return the dependency that reads the query parameters of one kind of list."""

    def read(
        request: Request,
        marker: Annotated[str | None, Query(description="Id of the last object of the page before.")] = None,
        limit: Annotated[str | None, Query(description="1 to 1000; 1000 when left out.")] = None,
        offset: Annotated[str | None, Query(description="How many objects to skip.")] = None,
        sort_key: Annotated[str | None, Query(description="Field to sort by; created_at when left out.")] = None,
        sort_dir: Annotated[str | None, Query(description="asc or desc.")] = None,
        changes_since: Annotated[str | None, Query(alias="changes-since", description="UTC time.")] = None,
    ) -> PageQuery:
        parameters = request.query_params
        order_key, _, order_dir = (parameters.get("sort") or "").split(",")[0].partition(":")
        return PageQuery(
            marker=marker or None,
            limit=_limit(limit),
            offset=_offset(offset),
            sort_key=_sort_key(kind, sort_key or order_key or "created_at"),
            descending=_descending(sort_dir or order_dir or "desc"),
            changed_since=_time(changes_since),
            filters={name: parameters[name] for name in FILTERS[kind] if name in parameters},
            metadata=_metadata(parameters.get("metadata")) if kind is Volume else {},
        )

    return read


@dataclass(frozen=True, slots=True)
class PlaceQuery:
    """Which part of a list that has one order only."""

    marker: str | None
    limit: int
    offset: int


def place_query(
    marker: Annotated[str | None, Query(description="Id of the last object of the page before.")] = None,
    limit: Annotated[str | None, Query(description="1 to 1000; 1000 when left out.")] = None,
    offset: Annotated[str | None, Query(description="How many objects to skip.")] = None,
) -> PlaceQuery:
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


def _sort_key(kind: type[Volume] | type[Pair] | type[Group], name: str) -> str:
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
    """Read the filter as Cinder's clients write it: a dictionary in Python's or JSON's spelling."""
    if text is None:
        return {}
    try:
        value = ast.literal_eval(text) if len(text) <= METADATA_FILTER_CHARACTERS_MAX else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, dict) or not all(isinstance(part, str) for pair in value.items() for part in pair):
        raise bad_request('metadata must be a dictionary of texts, such as {"key": "value"}.')
    return value
