"""The time as the database keeps it."""

from __future__ import annotations

import datetime


def utc_now() -> datetime.datetime:
    """Return the current time in UTC, without a zone."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
