"""When a role ends so that its stores are opened anew: after pauses that grow, since an attempt may copy much again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

RENEWAL_SECONDS_MIN = 1.0
RENEWAL_SECONDS_MAX = 60.0
"""Pause before the stores are opened anew; doubles between these until the role has served hosts."""


class Renewal:
    """Paces one role after another. `wake` is called when a pause is over."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._pause_seconds = RENEWAL_SECONDS_MIN
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False

    def is_due(self) -> bool:
        """Say whether the pause is over, which begins when this is asked for the first time in a role."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._pause_seconds, self._pause_over)
            self._pause_seconds = min(2 * self._pause_seconds, RENEWAL_SECONDS_MAX)
        return self._is_over

    def role_ended(self) -> None:
        """The role has ended, for this reason or another: the next one has a pause of its own."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_over = False

    def succeeded(self) -> None:
        """Hosts are served: the next pause is a short one again."""
        self._pause_seconds = RENEWAL_SECONDS_MIN

    def _pause_over(self) -> None:
        self._is_over = True
        self._wake()
