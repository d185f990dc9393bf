"""How often and for how long the hosts of a primary waited for its stream or for the arbiter."""

from __future__ import annotations

import time


class Holds:
    """The running hold and the sum of those before. `since` is in seconds since the epoch."""

    def __init__(self) -> None:
        self.since: float | None = None
        self.count = 0
        self._seconds = 0.0
        self._counted_from: float | None = None  # On the monotonic clock.

    def begin(self, has_hosts: bool) -> None:
        """The primary holds, perhaps since long. What no host may see yet holds nobody up, and does not count."""
        if self.since is None:
            self.since = time.time()
        if has_hosts and self._counted_from is None:
            self._counted_from = time.monotonic()
            self.count += 1

    def end(self) -> None:
        """It does not hold, perhaps since long."""
        self._seconds, self.since, self._counted_from = self.seconds(), None, None

    def seconds(self) -> float:
        """Return how long hosts have waited in all, in this hold too."""
        if self._counted_from is None:
            return self._seconds
        return self._seconds + time.monotonic() - self._counted_from
