"""What a primary says of its resync while hosts write.

All that it reports is noted, since the load's begin and end are known only by the writes that it counts.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from bench import ours
from bench.errors import BenchError
from bench.running import FAILURES
from twinsite.core.limits import MIB
from twinsite.messages import Mode, WorkerStatus

REPORT_SECONDS_MAX = 10.0
"""Longest wait for one report: a primary that copies makes five a second."""
REPORTS_MIN = 2
"""So many reports during the writes give a speed."""


class ResyncWatch:
    """Reads what the primary of a pair reports from the watch's begin to its end. Nobody else may read it meanwhile."""

    def __init__(self, pair: ours.Pair) -> None:
        self._pair = pair
        self._looks: list[tuple[float, WorkerStatus]] = []
        self._failure: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def mib_per_second(self) -> float:
        """Return how fast the resync went while writes were counted, once the watch has ended.

        Raises `BenchError` when the resync did not run all the time.
        """
        if self._failure is not None:
            raise BenchError(f"the primary does not say how its resync goes: {self._failure}")
        if any(status.mode is not Mode.COPYING for _, status in self._looks):
            raise BenchError("the resync was over before the writes were; a larger --size or shorter --seconds helps")
        counts = [status.counters.writes for _, status in self._looks]
        writing = [look for look, count in zip(self._looks, counts, strict=True) if counts[0] < count < counts[-1]]
        if len(writing) < REPORTS_MIN:
            # A machine so loaded that the primary hardly reports. All of the watch is a little more than the writes.
            writing = self._looks
        (begun, first), (ended, last) = writing[0], writing[-1]
        assert first.resync is not None
        assert last.resync is not None
        return (last.resync.bytes_done - first.resync.bytes_done) / MIB / (ended - begun)

    def done_share(self) -> float:
        """Return how much of the resync was done at the watch's end, from 0 to 1."""
        resync = self._looks[-1][1].resync
        return resync.bytes_done / resync.bytes_total if resync is not None and resync.bytes_total else 1.0

    def __enter__(self) -> Self:
        """Begin, with an answer of this moment."""
        self._note(ours.ask(self._pair))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, with an answer of this moment."""
        self._stop.set()
        self._thread.join(2 * REPORT_SECONDS_MAX)
        if kind is None and self._failure is None:
            self._note(ours.ask(self._pair))

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._note(self._pair.primary.wait(self._is_new, "reporting", REPORT_SECONDS_MAX))
        except FAILURES as error:
            self._failure = error

    def _is_new(self, status: WorkerStatus) -> bool:
        return status is not self._looks[-1][1]

    def _note(self, status: WorkerStatus) -> None:
        self._looks.append((time.perf_counter(), status))
