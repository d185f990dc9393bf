"""A host that writes without a pause and notes when each write was acknowledged."""

from __future__ import annotations

import bisect
import itertools
import random
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from bench.errors import BenchError
from twinsite.core.limits import KIB, MIB
from twinsite.errors import StorageFault
from twinsite.nbd_client import NbdClient

WRITE_BYTES = 4 * KIB
RANGE_BYTES = 16 * MIB
ANSWER_SECONDS_MAX = 30.0
"""Longest wait for one answer, and for the writer to come to its end."""
RETRY_SECONDS = 0.002
"""Pause of a host whose disk is served nowhere, before it looks again."""


class SteadyWriter:
    """Writes 4 KiB at a time into random places, one after the other, wherever one of `uris` is served.

    When a connection ends or a write is refused, it tries the places in turn until one answers. Times are those of
    `time.perf_counter`.
    """

    def __init__(self, uris: Sequence[str], seed: int) -> None:
        self.acknowledged: list[float] = []
        self._uris = list(uris)
        self._source = random.Random(seed)
        self._stop = threading.Event()
        self._progress = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(2 * ANSWER_SECONDS_MAX)

    def wait_for_more(self, count: int) -> None:
        """Wait until so many further writes were acknowledged. Raises `BenchError`."""
        with self._progress:
            target = len(self.acknowledged) + count
            if not self._progress.wait_for(lambda: len(self.acknowledged) >= target, ANSWER_SECONDS_MAX):
                raise BenchError(f"after {len(self.acknowledged)} writes none was acknowledged any more")

    def first_after(self, moment: float) -> float:
        """Return when the first write after a moment was acknowledged. Raises `BenchError` when none was."""
        times = list(self.acknowledged)
        place = bisect.bisect_left(times, moment)
        if place == len(times):
            raise BenchError("no write was acknowledged any more")
        return times[place]

    def rate(self, begin: float, end: float) -> float:
        """Return the acknowledged writes a second in a span."""
        times = list(self.acknowledged)
        return (bisect.bisect_left(times, end) - bisect.bisect_left(times, begin)) / (end - begin)

    def longest_gap(self, begin: float, end: float) -> float:
        """Return the longest time in seconds between two acknowledgements in a row, of which a part lies in the span.

        Writing must have gone on before and after it. Raises `BenchError` when it did not.
        """
        times = list(self.acknowledged)
        gaps = [after - before for before, after in itertools.pairwise(times) if after >= begin and before <= end]
        if not gaps or times[0] > begin or times[-1] < end:
            raise BenchError("the host did not write all the time")
        return max(gaps)

    def _run(self) -> None:
        client: NbdClient | None = None
        data = self._source.randbytes(WRITE_BYTES)
        while not self._stop.is_set():
            try:
                if client is None:
                    client = NbdClient(self._uris[0], timeout_seconds=ANSWER_SECONDS_MAX)
                client.write(self._source.randrange(RANGE_BYTES // WRITE_BYTES) * WRITE_BYTES, data)
            except StorageFault:
                if client is not None:
                    client.close()
                client = None
                self._uris.append(self._uris.pop(0))
                self._stop.wait(RETRY_SECONDS)
                continue
            with self._progress:
                self.acknowledged.append(time.perf_counter())
                self._progress.notify_all()
        if client is not None:
            client.disconnect()
