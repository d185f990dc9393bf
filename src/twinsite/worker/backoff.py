"""Pauses between attempts to reach somebody."""

from __future__ import annotations

from twinsite.core.limits import HELD_RETRY_SECONDS_MAX


class Backoff:
    """Pauses in seconds that double from `shortest` to `longest`; shorter ones while hosts are held for it."""

    def __init__(self, shortest: float, longest: float) -> None:
        self._shortest = shortest
        self._longest = longest
        self._next = shortest

    def reset(self) -> None:
        """Begin again with the shortest pause."""
        self._next = self._shortest

    def next_seconds(self, *, hosts_are_held: bool) -> float:
        """Return the pause before the next attempt, and double the one after it."""
        seconds = self._next
        self._next = min(2 * seconds, self._longest)
        return min(seconds, HELD_RETRY_SECONDS_MAX) if hosts_are_held else seconds
