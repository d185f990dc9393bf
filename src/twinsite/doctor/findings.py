"""What a check found: how bad it is, what is so, and how to mend it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"  # It works, and some day it may not, or not well.
    ERROR = "error"  # It cannot work, or loses data.


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `mend` says what to do about it, where that is anything."""

    check: str
    level: Level
    text: str
    mend: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """Return the finding for programs."""
        return {**asdict(self), "level": self.level.value}


def ok(check: str, text: str) -> Finding:
    """Return that all is well."""
    return Finding(check, Level.OK, text)


def warning(check: str, text: str, mend: str) -> Finding:
    """Return what may go wrong."""
    return Finding(check, Level.WARNING, text, mend)


def error(check: str, text: str, mend: str) -> Finding:
    """Return what cannot work."""
    return Finding(check, Level.ERROR, text, mend)
