"""What filters of lists may be. A value that nothing can have is refused: an empty list would hide that it is misspelt.

Names, and what else is free text, match exactly or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from typing import Annotated

from fastapi import Query
from pydantic import WithJsonSchema

from twinsite.control.lifecycle.states import GroupStatus, PairStatus, VolumeStatus
from twinsite.control.models import Group, Pair, Volume
from twinsite.control.refusals import bad_request
from twinsite.control.repository.listing import PAIR_VOLUMES

SHOWN_CHARACTERS_MAX = 80
"""As much of a wrong value is repeated in the refusal."""

_CINDER_STATUSES = (
    "attaching",
    "awaiting-transfer",
    "backing-up",
    "detaching",
    "downloading",
    "error_backing-up",
    "error_deleting",
    "error_restoring",
    "error_rollbacking",
    "maintenance",
    "reserved",
    "restoring-backup",
    "retyping",
    "rollbacking",
    "uploading",
)
"""Documented for volumes, and those of no volume here: a list of them is empty."""


def _values(statuses: type[StrEnum]) -> tuple[str, ...]:
    return tuple(status.value for status in statuses)


STATUSES: Mapping[type, tuple[str, ...]] = {
    Volume: (*_values(VolumeStatus), *_CINDER_STATUSES),
    Pair: _values(PairStatus),
    Group: _values(GroupStatus),
}
"""What the status of each kind of object may be, by the API reference."""

Flag = Annotated[str | None, Query(), WithJsonSchema({"type": "boolean"})]
"""A query that is true or false, for `flag_of`."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_TRUE = frozenset({"true", "t", "1", "yes", "y", "on"})
_FALSE = frozenset({"false", "f", "0", "no", "n", "off"})


def check_filters(kind: type, filters: Mapping[str, str], zones: Collection[str]) -> Mapping[str, str]:
    """Return the filters of a list, or refuse them (400)."""
    checks: Mapping[str, Callable[[str, str], None]] = {
        "status": lambda name, value: check_choice(name, value, STATUSES[kind]),
        "availability_zone": lambda name, value: check_choice(name, value, zones, "EVS.1036"),
        "priority_station": lambda name, value: check_choice(name, value, zones, "EVS.1036"),
        "replication_consistency_group_id": _check_id,
        "volume_id": _check_id,
        "volume_ids": _check_ids,
    }
    for name, value in filters.items():
        if name in checks:
            checks[name](name, value)
    return filters


def check_choice(name: str, value: str, known: Collection[str], code: str = "EVS.5400") -> None:
    """Refuse (400) a value that is none of the known ones."""
    if value not in known:
        raise bad_request(f"{name} is {value[:SHOWN_CHARACTERS_MAX]!r}; give one of {', '.join(known)}.", code)


def _check_id(name: str, value: str) -> None:
    if _UUID.fullmatch(value) is None:
        raise bad_request(f"{name} is {value[:SHOWN_CHARACTERS_MAX]!r}, which is no id; ids are UUIDs with dashes.")


def _check_ids(name: str, value: str) -> None:
    ids = value.split(",", PAIR_VOLUMES)
    if len(ids) > PAIR_VOLUMES:
        raise bad_request(f"{name} names more than {PAIR_VOLUMES} volumes, and no pair has more; name one or two.")
    for volume_id in ids:
        _check_id(name, volume_id.strip())


def flag_of(name: str, text: str | None, *, default: bool = False) -> bool:
    """Return what a query's true or false means, in the spellings that Cinder takes; refuse (400) what is neither."""
    if text is None:
        return default
    if text.lower() in _TRUE:
        return True
    if text.lower() not in _FALSE:
        raise bad_request(f"{name} is {text[:SHOWN_CHARACTERS_MAX]!r}; give true or false.")
    return False
