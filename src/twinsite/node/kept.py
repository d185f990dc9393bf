"""What is kept at this site of what a former primary alone had, for the controller to tell."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from twinsite.core.tracking.kept import kept_at
from twinsite.messages import KeptLog

LOOK_SECONDS = 10.0
"""How long an answer is good: a log appears at the end of a resync, and goes when an operator discards it."""


def find_kept(state_dir: Path) -> list[KeptLog]:
    """Return the logs that one worker's durable state keeps, the oldest first; none when it cannot be read. Blocks."""
    found = []
    try:
        with os.scandir(state_dir) as entries:
            for entry in entries:
                at = kept_at(entry.name)
                if at is not None:
                    found.append(KeptLog(entry.path, at, entry.stat().st_size))
    except OSError:
        return []
    return sorted(found, key=lambda log: (log.point_at, log.path))


class KeptLogs:
    """The logs of one worker, looked for again when the last look is too old."""

    def __init__(self, state_dir: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._state_dir = state_dir
        self._clock = clock
        self._found: list[KeptLog] = []
        self._look_again_at = float("-inf")

    def now(self) -> list[KeptLog]:
        """Return them. Reads a small directory at most once in `LOOK_SECONDS`."""
        if self._clock() >= self._look_again_at:
            self._found = find_kept(self._state_dir)
            self._look_again_at = self._clock() + LOOK_SECONDS
        return self._found

    def look_again(self) -> None:
        """Do not trust the last look any more."""
        self._look_again_at = float("-inf")
