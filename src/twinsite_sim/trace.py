"""What happened in a world, in the order in which it happened: virtual time, actor, event."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

LINES_SHOWN = 250
"""Lines that a failure shows: those before it."""


class Trace:
    """The story of one world."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._clock: Callable[[], float] = float

    def use_clock(self, clock: Callable[[], float]) -> None:
        """Take times from this clock."""
        self._clock = clock

    def end(self) -> None:
        """The world is over: keep only the lines."""
        self._clock = float

    def add(self, actor: str, event: str) -> None:
        """Note an event."""
        self.lines.append(f"{self._clock():10.4f}  {actor:<12} {event}")

    def digest(self) -> str:
        """Return a fingerprint of the whole story: two runs of one seed have the same."""
        return hashlib.blake2b("\n".join(self.lines).encode(), digest_size=12).hexdigest()

    def tail(self, count: int = LINES_SHOWN) -> str:
        """Return the last lines as text."""
        return "\n".join(self.lines[-count:])
