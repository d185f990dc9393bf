"""What the page says of a group, in words, a sign and a tone; and how it writes times and amounts. Pure."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from enum import StrEnum

from twinsite.amounts import format_bytes

NOTHING = "-"


class Tone(StrEnum):
    """How good or bad something is; it colours what the words say already."""

    OK = "ok"
    NOTICE = "notice"
    WARNING = "warning"
    CRITICAL = "critical"


SIGNS = {Tone.OK: "✔", Tone.NOTICE: "●", Tone.WARNING: "▲", Tone.CRITICAL: "✖"}
"""One for each tone, of different shapes: who sees no colours sees these."""


class Flow(StrEnum):
    """How the arrow between two sites is drawn."""

    RUNNING = "running"
    COPYING = "copying"
    PAUSED = "paused"
    BROKEN = "broken"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Condition:
    """How a group is, for people."""

    tone: Tone
    words: str
    flow: Flow


_MOVING = {
    "creating": "Being created",
    "updating": "Being changed",
    "deleting": "Being deleted",
    "reversing": "Switching over",
    "failing over": "Failing over",
    "failovering": "Failing over",
    "extending": "Growing",
}
_FAILED = {
    "error": "Error",
    "error_deleting": "Deleting failed",
    "error_reversing": "Switch-over failed",
    "error_failovering": "Failover failed",
}
_REPLICATION = {
    "active": Condition(Tone.OK, "In sync", Flow.RUNNING),
    "copying": Condition(Tone.NOTICE, "Copying", Flow.COPYING),
    "active-stopped": Condition(Tone.WARNING, "Paused", Flow.PAUSED),
    "inactive": Condition(Tone.WARNING, "Not in sync", Flow.BROKEN),
    "error": Condition(Tone.CRITICAL, "Error", Flow.BROKEN),
}


def condition(
    status: str, replication_status: str | None, fault_level: str | None, percent: int | None, *, is_held: bool
) -> Condition:
    """Return how a group is. What stops its hosts comes before what endangers it, and that before what is normal."""
    if status in _FAILED:
        return Condition(Tone.CRITICAL, _FAILED[status], Flow.BROKEN)
    if status in _MOVING:
        return Condition(Tone.NOTICE, _MOVING[status], Flow.COPYING)
    if is_held:
        return Condition(Tone.CRITICAL, "Writes are held", Flow.HELD)
    if status == "failovered":
        return Condition(Tone.WARNING, "Failed over, not protected", Flow.BROKEN)
    if fault_level == "2":
        return Condition(Tone.CRITICAL, "Production is lost or fails", Flow.BROKEN)
    if replication_status == "copying" and percent is not None:
        return Condition(Tone.NOTICE, f"Copying, {percent} %", Flow.COPYING)
    if fault_level == "5" and replication_status == "inactive":
        return Condition(Tone.WARNING, "Interrupted, not protected", Flow.BROKEN)
    return _REPLICATION.get(
        replication_status or "", Condition(Tone.NOTICE, replication_status or "Unknown", Flow.BROKEN)
    )


def amount(count: float | None) -> str:
    """Return a number of bytes with a binary unit."""
    return NOTHING if count is None else format_bytes(count)


def duration(seconds: float) -> str:
    """Return a duration in the two units that matter."""
    whole = max(0, round(seconds))
    for size, unit, smaller, small_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit} {rest} {small_unit}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def latency(seconds: float | None) -> str:
    """Return a short time, in milliseconds below a second."""
    if seconds is None:
        return NOTHING
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def moment(when: datetime.datetime | None) -> str:
    """Return a time in UTC."""
    return NOTHING if when is None else when.strftime("%Y-%m-%d %H:%M:%S UTC")


def since(when: datetime.datetime | None, now: datetime.datetime) -> str:
    """Return a time, and how long ago that is."""
    return NOTHING if when is None else f"{moment(when)} ({duration((now - when).total_seconds())})"


def count(number: int, one: str, many: str) -> str:
    """Return a number with its noun."""
    return f"{number} {one if number == 1 else many}"
