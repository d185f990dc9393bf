"""Adaptive polling: after little came, look for more before going to sleep.

A host that writes one request after the other makes every process of the chain sleep between any two of them, and
waking costs more than the work: the processor has gone idle and the caches are cold. So after a small receive, the
event loop keeps turning for a moment. Between the turns it offers the processor to whoever can use it, and where that
does not pay (the next bytes come too late, or the others kept the processor), it is tried ever more rarely.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

POLL_SECONDS = 200e-6
"""How long polling goes on after the last receive: longer than a write takes at both sites."""
POLL_RECEIVE_BYTES_MAX = 9 * 1024
"""A longer receive is not followed by polling: who sends that much at once does not wait for single answers."""
POLL_MISSES_MAX = 6
"""After so many misses in a row, polling is tried after one of 2**POLL_MISSES_MAX receives."""


class AdaptivePolling:
    """Keeps an event loop awake after receives, while that pays. One for each connection."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float] = time.perf_counter,
        give_way: Callable[[], None] = os.sched_yield,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._give_way = give_way
        self._is_on = False
        self._ends_at = 0.0
        self._misses = 0  # In a row.
        self._skips = 0  # Receives that are not followed by polling.

    def received(self) -> None:
        """Something small came: poll for what follows."""
        if self._is_on:
            now = self._clock()
            if now < self._ends_at:
                self._misses = 0
                self._ends_at = now + POLL_SECONDS
        elif self._skips:
            self._skips -= 1
        else:
            self._is_on = True
            self._ends_at = self._clock() + POLL_SECONDS
            self._loop.call_soon(self._poll)

    def _poll(self) -> None:
        if self._clock() < self._ends_at:
            self._give_way()
            self._loop.call_soon(self._poll)
            return
        self._is_on = False
        self._misses = min(self._misses + 1, POLL_MISSES_MAX)
        self._skips = 2**self._misses - 1
