"""Writes with FUA, a number of them in flight: `/usr/bin/python3 fua_load.py URI SIZE BLOCK DEPTH SECONDS SEED`.

Run by the system's Python, to which libnbd's binding belongs; so it imports nothing of ours. Sizes are in bytes. Prints
one JSON object; when a write fails or is not answered, it says so and ends with another status than 0.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time

import nbd

ANSWER_MS_MAX = 20_000
"""Longest wait for anything from the server."""


class Load:
    """Random places, each written once a block is answered, until the time is over."""

    def __init__(self, uri: str, size_bytes: int, block_bytes: int, seed: int) -> None:
        self._choose = random.Random(seed)
        self._block_bytes = block_bytes
        self._block_count = size_bytes // block_bytes
        self._data = nbd.Buffer.from_bytearray(bytearray(self._choose.randbytes(block_bytes)))
        self._answered = 0
        self._errors: list[int] = []
        self.latencies_ns: list[int] = []
        self._handle = nbd.NBD()
        self._handle.connect_uri(uri)
        if not self._handle.can_fua():
            raise SystemExit("the server does not know FUA")

    def run(self, depth: int, seconds: float) -> float:
        """Keep `depth` writes in flight; return the seconds until the last one was answered."""
        begun = time.perf_counter_ns()
        until = begun + int(seconds * 1e9)
        sent = 0
        while True:
            # Not from the callback: there the handle is locked.
            while sent - self._answered < depth and time.perf_counter_ns() < until:
                self._write()
                sent += 1
            if self._answered == sent:
                break
            if self._handle.poll(ANSWER_MS_MAX) == 0:
                raise SystemExit(f"{sent - self._answered} writes were not answered")
            if self._errors:
                raise SystemExit(f"a write failed with error {self._errors[0]}")
        ended = time.perf_counter_ns()
        self._handle.shutdown()
        return (ended - begun) / 1e9

    def _write(self) -> None:
        begun = time.perf_counter_ns()

        def answered(error: nbd.Error | int) -> int:
            self.latencies_ns.append(time.perf_counter_ns() - begun)
            self._answered += 1
            code = int(getattr(error, "value", error))
            if code:
                self._errors.append(code)
            return 1  # The command needs no further attention.

        offset = self._choose.randrange(self._block_count) * self._block_bytes
        self._handle.aio_pwrite(self._data, offset, answered, nbd.CMD_FLAG_FUA)


def main() -> None:
    """Write as the command line says, and print what that gave; latencies are in microseconds."""
    uri = sys.argv[1]
    size_bytes, block_bytes, depth = (int(text) for text in sys.argv[2:5])
    load = Load(uri, size_bytes, block_bytes, int(sys.argv[6]))
    seconds = load.run(depth, float(sys.argv[5]))
    ordered = sorted(load.latencies_ns)
    found = {
        "requests": len(ordered),
        "seconds": seconds,
        "mean_us": statistics.fmean(ordered) / 1000,
        "p50_us": ordered[len(ordered) // 2] / 1000,
        "p99_us": ordered[len(ordered) * 99 // 100] / 1000,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
