"""When a role ends so that its stores are opened anew: after pauses that grow, since an attempt may copy much again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

RENEWAL_SECONDS_MIN = 1.0
RENEWAL_SECONDS_MAX = 60.0
"""Pause before the stores are opened anew; doubles between these while one role after another ends so."""
CALM_SECONDS = 60.0
"""A role that has lasted for so long counts as a success: the pause after it is a short one again."""


class Renewal:
    """Paces one role after another. `wake` is called when a pause is over."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._pause_seconds = RENEWAL_SECONDS_MIN
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False
        self._role_began_at = -math.inf

    def is_due(self) -> bool:
        """Say whether the pause is over, which begins when this is asked for the first time in a role."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            if loop.time() - self._role_began_at >= CALM_SECONDS:
                self._pause_seconds = RENEWAL_SECONDS_MIN
            self._timer = loop.call_later(self._pause_seconds, self._pause_over)
            self._pause_seconds = min(2 * self._pause_seconds, RENEWAL_SECONDS_MAX)
        return self._is_over

    def role_ended(self) -> None:
        """The role has ended, for this reason or another: the next one has a pause of its own."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_over = False
        self._role_began_at = asyncio.get_running_loop().time()

    def _pause_over(self) -> None:
        self._is_over = True
        self._wake()
