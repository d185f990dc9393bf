"""What is kept at this site of what a former primary alone had, for the controller to tell."""

from __future__ import annotations

import asyncio
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
    """The logs of one worker, looked for again, in a thread, when the last look is too old."""

    def __init__(self, state_dir: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._state_dir = state_dir
        self._clock = clock
        self._found: list[KeptLog] = []
        self._look_again_at = float("-inf")
        self._looking: asyncio.Future[list[KeptLog]] | None = None

    def now(self) -> list[KeptLog]:
        """Return what the last look found. Looks again at most once in `LOOK_SECONDS`, and one look at a time."""
        if self._clock() >= self._look_again_at and self._looking is None:
            self._look_again_at = self._clock() + LOOK_SECONDS
            self._looking = asyncio.get_running_loop().run_in_executor(None, find_kept, self._state_dir)
            self._looking.add_done_callback(self._seen)
        return self._found

    def look_again(self) -> None:
        """Do not trust the last look any more."""
        self._look_again_at = float("-inf")

    async def looked(self) -> None:
        """Wait for the end of the look that is under way, if one is."""
        if self._looking is not None:
            await asyncio.wait({self._looking})

    def _seen(self, looking: asyncio.Future[list[KeptLog]]) -> None:
        self._looking = None
        if not looking.cancelled():
            self._found = looking.result()
