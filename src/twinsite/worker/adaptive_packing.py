"""Adaptive packing: whether what a resync copies is compressed before it travels.

Over a link that is slower than a processor compresses, that copies several times as much in the same time; over a
faster one, or of data that does not get smaller, it only costs. Nothing tells beforehand. So where the copy is
slower than any compression and the link never runs dry, packing is tried, and kept if more of the volume arrives in
the same time. Where it does not pay it is tried ever more rarely.
"""

from __future__ import annotations

from typing import Final

from twinsite.core.limits import MIB, RESYNC_IN_FLIGHT_BYTES_MAX

TRIED_BELOW_BYTES_A_SECOND: Final = 300 * MIB
"""A faster copy than this would be slowed down by the compression itself."""
WINDOW_SECONDS: Final = 0.5
"""The least time over which the speed is measured."""
WINDOW_BYTES: Final = RESYNC_IN_FLIGHT_BYTES_MAX
"""The least that has to arrive in it."""
GAIN: Final = 1.1
"""Packing is kept if it is faster than plain by this factor."""
KEPT_WINDOWS: Final = 32
"""After so many windows of packing, the speed without is measured anew: the link or the data may be others now."""
MISSES_MAX: Final = 3
"""After so many trials in a row that did not pay, it is tried after one of 2**MISSES_MAX windows.

Often enough for a disk that holds both, since a trial of what does not get smaller costs next to nothing."""


class AdaptivePacking:
    """Says whether to pack what is read next, by what the acknowledgements say of the speed. One for each link."""

    def __init__(self) -> None:
        self.begin(is_possible=False)

    def begin(self, *, is_possible: bool) -> None:
        """A session begins, without packing; `is_possible` says whether the secondary can unpack."""
        self._is_possible = is_possible
        self._is_on = False
        self._plain_rate = 0.0
        self._misses = self._skips = 0
        self._kept_windows = 0
        # What is acknowledged from here on was sent in the present way, but for what was being read at the change.
        self._fresh_from = 0
        self._since: float | None = None
        self._before_bytes = 0
        self._ran_dry = False

    @property
    def is_on(self) -> bool:
        """Say whether what is read next is to be packed."""
        return self._is_on

    def look(self, now: float, arrived_bytes: int, in_flight_bytes: int, acknowledged: int, sent: int) -> None:
        """Something was acknowledged, up to the sequence `acknowledged` of all that were `sent`.

        `now` in seconds of the event loop; `arrived_bytes` of volumes have arrived in all, zeros not counted, and
        `in_flight_bytes` are on their way.
        """
        if not self._is_possible or acknowledged < self._fresh_from:
            return
        if self._since is None:
            self._since, self._before_bytes, self._ran_dry = now, arrived_bytes, False
            return
        self._ran_dry |= in_flight_bytes < RESYNC_IN_FLIGHT_BYTES_MAX // 4
        seconds, arrived = now - self._since, arrived_bytes - self._before_bytes
        if seconds < WINDOW_SECONDS or arrived < WINDOW_BYTES:
            return
        self._since = None
        if self._judge(arrived / seconds):
            self._is_on = not self._is_on
            self._fresh_from = sent

    def _judge(self, rate: float) -> bool:
        """Say whether to go over from plain to packed, or back, after a window of so many bytes a second."""
        if not self._is_on:
            if self._ran_dry or rate >= TRIED_BELOW_BYTES_A_SECOND:
                return False
            if self._skips:
                self._skips -= 1
                return False
            self._plain_rate, self._kept_windows = rate, 0
            return True
        if rate < GAIN * self._plain_rate:
            self._misses = min(self._misses + 1, MISSES_MAX)
            self._skips = 2**self._misses - 1
            return True
        self._misses = 0
        self._kept_windows += 1
        return self._kept_windows >= KEPT_WINDOWS
