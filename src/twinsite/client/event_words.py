"""What an event of a group says, in words for people: the command line and the web page share them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twinsite.client.models import GroupEvent

OBSERVED = "observed"
"""The action of what nobody asked for."""
NOTHING = "none"
UNKNOWN = "unknown"

LABELS: Mapping[str, str] = MappingProxyType(
    {
        "primary_station": "primary site",
        "term": "term",
        "secondary": "DR side",
        "holding": "hosts wait",
        "failover_possible": "failover possible",
        "connected": "connected sites",
        "failing_disks": "failing disks",
        "status": "status",
        "replication": "wish",
        "replication_status": "replication",
        "fault_level": "fault",
        "pairs": "pairs",
        "size_gib": "GiB",
    }
)
"""What changes, the weightiest first."""

_VALUES: Mapping[str, Mapping[object, str]] = MappingProxyType(
    {
        "secondary": {"in_sync": "in sync"},
        "fault_level": {"0": NOTHING, "2": "2, production", "5": "5, the link"},
    }
)
"""What is said in other words than the API's."""

HAPPENINGS: Mapping[str, str] = MappingProxyType(
    {
        "copying": "copying began",
        "in_sync": "in sync",
        "interrupted": "replication was interrupted",
        "paused": "paused",
        "hold_began": "hosts wait",
        "hold_ended": "hosts go on",
        "failover_possible": "a failover loses nothing from here on",
        "failover_impossible": "no failover without loss any more",
        "production_fault": "production is lost or fails",
        "link_fault": "the link is down",
        "fault_cleared": "the fault is over",
        "site_lost": "a site fell silent",
        "site_back": "a site is back",
        "disk_failed": "a disk fails",
        "disk_recovered": "a disk is in order again",
        "moved": "the other site is primary",
        "group_error": "the group is in error",
    }
)
"""What is said of something that happened, by its kind."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that an event changed, in words."""

    label: str
    before: str
    after: str


def heading(event: GroupEvent) -> str:
    """Return what was asked for, or what happened by itself."""
    if event.action != OBSERVED:
        return event.action
    # A kind that a newer API has is its own word.
    kinds = [kind for kind in event.kinds if kind != event.result]
    return ", ".join(HAPPENINGS.get(kind, kind.replace("_", " ")) for kind in kinds) or "a change"


def told_by(event: GroupEvent) -> str:
    """Return who did it, or who saw it."""
    return f"seen by {event.actor}" if event.action == OBSERVED else f"by {event.actor}"


def outcome(event: GroupEvent) -> str | None:
    """Return what came of it; None where that says nothing: what is seen is done."""
    return None if event.action == OBSERVED and event.result == "done" else event.result


def changes(event: GroupEvent) -> list[Change]:
    """Return what the event changed, the weightiest first. A group's first event has no before, and changed nothing."""
    before = event.before or {}
    labels = {**LABELS, **{key: key.replace("_", " ") for key in event.after if key not in LABELS}}
    return [
        Change(label, _word(key, before.get(key)), _word(key, event.after.get(key)))
        for key, label in labels.items()
        if before and before.get(key) != event.after.get(key)
    ]


def _word(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return UNKNOWN
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or NOTHING
    return _VALUES.get(key, {}).get(value, str(value))


def _number(sequence: int | None) -> str:
    return UNKNOWN if sequence is None else str(sequence)


def known(event: GroupEvent) -> str:
    """Return what a failover would have cost at that time, and how far both sides were."""
    proof = event.proof
    acknowledged, applied = _number(proof.last_acknowledged_sequence), _number(proof.last_applied_sequence)
    return f"{proof.failover.in_retrospect} (term {proof.term}, acknowledged {acknowledged}, applied {applied})"
