"""Wakes those who wait for the database to say something else: long polls of nodes, and requests that wait for a site.

A wake-up is only a hint to look again: each waiter re-reads the database, and looks by itself once in a while, because
another controller may have written.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

Result = TypeVar("Result")


class Wakeups:
    """One condition for the whole process. The number of waiters is small: nodes, and requests in flight."""

    def __init__(self, poll_seconds: float) -> None:
        """Waiters look by themselves every `poll_seconds`."""
        self._condition = asyncio.Condition()
        self._poll_seconds = poll_seconds
        self._changes = 0
        self.closed = False

    async def notify(self) -> None:
        """Make every waiter look again. Call it after the commit."""
        async with self._condition:
            self._changes += 1
            self._condition.notify_all()

    async def close(self) -> None:
        """Let every waiter go: the process is about to end."""
        self.closed = True
        await self.notify()

    async def until(self, look: Callable[[], Awaitable[Result | None]], seconds: float) -> Result | None:
        """Call `look` until it returns something, at most for `seconds`; return that, or None."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            seen = self._changes
            result = await look()
            if result is not None:
                return result
            left = deadline - loop.time()
            if left <= 0 or self.closed:
                return None
            await self._wait_for_change(seen, min(left, self._poll_seconds))

    async def _wait_for_change(self, seen: int, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._condition:
                await self._condition.wait_for(lambda: self._changes != seen)
