"""The names of the logs that keep what a former primary alone had: they say when it began to be overwritten. Pure."""

from __future__ import annotations

import datetime

PREFIX = "kept-"
SUFFIX = ".log"
_FORMAT = "%Y%m%dT%H%M%SZ"


def kept_name(point_at: float, number: int = 1) -> str:
    """Return the name of the `number`-th log whose point is at `point_at`, in seconds since the epoch."""
    at = datetime.datetime.fromtimestamp(point_at, datetime.UTC).strftime(_FORMAT)
    return f"{PREFIX}{at}{'' if number == 1 else f'-{number}'}{SUFFIX}"


def is_kept_name(name: str) -> bool:
    """Say whether a file is a kept log."""
    return name.startswith(PREFIX) and name.endswith(SUFFIX)


def kept_at(name: str) -> float | None:
    """Return when a kept log's point was, in seconds since the epoch; None for a name that does not say it."""
    if not is_kept_name(name):
        return None
    try:
        at = datetime.datetime.strptime(name.removeprefix(PREFIX).removesuffix(SUFFIX).partition("-")[0], _FORMAT)
    except ValueError:
        return None
    return at.replace(tzinfo=datetime.UTC).timestamp()
